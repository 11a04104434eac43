//! What the load balancers' process is told.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;

#[derive(Args, Clone, Debug)]
pub(crate) struct BalancerArgs {
    #[command(flatten)]
    pub(crate) places: BalancerPlaces,
    #[command(flatten)]
    pub(crate) tenure: TenureArgs,
    /// End when the process that started this one does
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// The file that standard output and error go to, which is rotated
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

/// What the process of Service Connect is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) tenure: TenureArgs,
    /// The file that standard output and error go to, which is rotated
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

/// What becomes of the process that is there already.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TenureArgs {
    /// Take over from the process that serves here, which finishes what is open
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// Where load balancers are reached on this machine, and where they write.
#[derive(Args, Clone, Debug)]
pub(crate) struct BalancerPlaces {
    /// This machine's address at which internet-facing load balancers are reached
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) balancer_address: IpAddr,
    /// The directory in place of S3: a load balancer's access logs go below the name of their bucket [default: in the
    /// data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) access_logs: Option<PathBuf>,
}

impl BalancerPlaces {
    /// The same again, for another process, whose directory may be another.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> =
            vec!["--balancer-address".into(), self.balancer_address.to_string().into()];
        if let Some(dir) = &self.access_logs {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            args.extend(["--access-logs".into(), dir.into_os_string()]);
        }
        args
    }
}
