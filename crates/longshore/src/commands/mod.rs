//! One file a command. A command takes what it needs and prints to standard output; what goes wrong
//! is an [`Error`] that `main` prints.

pub(crate) mod agent;
pub(crate) mod audit;
pub(crate) mod balancer;
pub(crate) mod configure;
pub(crate) mod connect_figures;
pub(crate) mod down;
pub(crate) mod env;
pub(crate) mod image;
mod kept;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod net;
pub(crate) mod node;
pub(crate) mod pack;
pub(crate) mod proxy;
pub(crate) mod ps;
pub(crate) mod region;
pub(crate) mod secrets;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod upgrade;

use std::ffi::OsString;
use std::path::PathBuf;

use aws_wire::sigv4::Credentials;

use crate::client::Client;
use crate::data_dir::DataDir;
use crate::error::Error;

/// What `main` found around the process.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) is_root: bool,
    pub(crate) home: Option<PathBuf>,
    pub(crate) xdg_data_home: Option<PathBuf>,
    pub(crate) aws_config_file: Option<PathBuf>,
    pub(crate) aws_credentials_file: Option<PathBuf>,
    /// From `AWS_ACCESS_KEY_ID` and its companions.
    pub(crate) aws_credentials: Option<Credentials>,
    pub(crate) aws_region: Option<String>,
    /// Where programs are looked for: `PATH`.
    pub(crate) search_path: Option<OsString>,
    /// This program, for starting it again in another role.
    pub(crate) program: PathBuf,
}

/// The root user's keys of a data directory.
pub(crate) fn root_credentials(data: &DataDir) -> Result<Credentials, Error> {
    let keys = region::load_keys(data)?;
    Ok(Credentials {
        access_key: keys.root.access_key_id,
        secret: keys.root.secret_access_key,
        session_token: None,
    })
}

/// A client of the region that runs in the data directory.
pub(crate) fn connect(data: &DataDir) -> Result<Client, Error> {
    let running = data.running_region()?;
    Ok(Client::new(running.endpoint(), running.region.clone(), root_credentials(data)?))
}
