//! The key that secrets are kept under.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use longshore_types::Token;

/// Where the key is that secrets are kept under: a file `root.key` in the data directory, which is made at the first
/// start, unless one of these says otherwise.
#[derive(Args, Clone, Default)]
pub(crate) struct RootKeyArgs {
    /// The file of the key that secrets are kept under, which nobody else may read [default: root.key in the data
    /// directory, made at the first start]
    #[arg(long, value_name = "FILE")]
    pub(crate) root_key_file: Option<PathBuf>,
    /// A shell command that prints that key, such as a password manager's or a TPM's
    #[arg(long, value_name = "COMMAND", conflicts_with = "root_key_file")]
    pub(crate) root_key_command: Option<String>,
    /// The key itself, from the environment
    #[arg(long, hide = true, env = "LONGSHORE_ROOT_KEY", hide_env_values = true)]
    root_key: Option<String>,
}

impl RootKeyArgs {
    /// As the environment gave it.
    pub(crate) fn given(&self) -> Option<Token> {
        self.root_key.clone().filter(|key| !key.is_empty()).map(Token::from_text)
    }
}

impl std::fmt::Debug for RootKeyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = self.given();
        f.debug_struct("RootKeyArgs")
            .field("root_key_file", &self.root_key_file)
            .field("root_key_command", &self.root_key_command)
            .field("root_key", &given)
            .finish()
    }
}

/// What is done with the key that secrets are kept under.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Keep secrets under another root key from now on. A region that runs does it itself if its key is in a file and
    /// the new one is to be drawn; else it must be stopped meanwhile, its tasks need not
    RotateRoot(RotateRoot),
}

#[derive(Args, Clone)]
pub(crate) struct RotateRoot {
    #[command(flatten)]
    pub(crate) root_key: RootKeyArgs,
    /// The file that has the new key [default: one is drawn and takes the old one's place in its file]
    #[arg(long, value_name = "FILE")]
    pub(crate) new_root_key_file: Option<PathBuf>,
    /// A shell command that prints the new key
    #[arg(long, value_name = "COMMAND", conflicts_with = "new_root_key_file")]
    pub(crate) new_root_key_command: Option<String>,
    /// The new key itself, from the environment
    #[arg(long, hide = true, env = "LONGSHORE_NEW_ROOT_KEY", hide_env_values = true)]
    new_root_key: Option<String>,
}

impl RotateRoot {
    /// Nothing is said of where the keys are: the new one is drawn, and takes the old one's place.
    pub(crate) fn is_plain(&self) -> bool {
        let is_new_elsewhere =
            self.new_root_key_file.is_some() || self.new_root_key_command.is_some();
        let old = &self.root_key;
        let is_old_elsewhere = old.root_key_command.is_some() || old.given().is_some();
        !is_new_elsewhere && !is_old_elsewhere && self.given().is_none()
    }

    /// As the environment gave it.
    pub(crate) fn given(&self) -> Option<Token> {
        self.new_root_key.clone().filter(|key| !key.is_empty()).map(Token::from_text)
    }
}

impl std::fmt::Debug for RotateRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotateRoot").field("root_key", &self.root_key).finish_non_exhaustive()
    }
}
