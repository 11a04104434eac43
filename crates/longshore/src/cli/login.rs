//! What `longshore login` is told.

use std::path::PathBuf;

use clap::Args;
use control::Advertised;

#[derive(Args, Clone, Debug)]
pub(crate) struct Login {
    /// Who signs in
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// The user's account, by its number or its alias [default: the region's first one]
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
    /// Where the region is [default: the one of the data directory]
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL")]
    pub(crate) endpoint: Option<Advertised>,
    /// The file of the authority that its certificate is of, if the system does not know it
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    pub(crate) ca: Option<PathBuf>,
    /// The profile that is written [default: the user's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// What the user's MFA device shows [default: it is asked for, if there is one]
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// Set a new password
    #[arg(long)]
    pub(crate) change_password: bool,
    /// Read the password from standard input, and from the next line a new one if that is needed
    #[arg(long)]
    pub(crate) password_stdin: bool,
}
