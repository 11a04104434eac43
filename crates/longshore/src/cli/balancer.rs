//! What the load balancers' process is told.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

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
    /// This machine's address at which internet-facing load balancers are reached, or `off` [default: 127.0.0.1]
    #[arg(long, value_name = "IP|off")]
    pub(crate) balancer_address: Option<BalancerAddress>,
    /// The directory in place of S3: a load balancer's access logs go below the name of their bucket [default: in the
    /// data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) access_logs: Option<PathBuf>,
}

/// At which of a machine's addresses internet-facing load balancers are reached, besides those of their interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BalancerAddress {
    Nowhere,
    At(IpAddr),
}

impl BalancerAddress {
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Nowhere => None,
            Self::At(address) => Some(address),
        }
    }

    /// The same again, for another process.
    pub(crate) fn to_args(self) -> [String; 2] {
        ["--balancer-address".to_owned(), self.to_string()]
    }
}

impl FromStr for BalancerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Nowhere),
            text => {
                let address = text.parse().map_err(|_| "write an address of this machine, or off");
                Ok(Self::At(address?))
            }
        }
    }
}

impl fmt::Display for BalancerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl BalancerPlaces {
    /// The same again, for another process, whose directory may be another.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        if let Some(address) = self.balancer_address {
            args.extend(address.to_args().map(OsString::from));
        }
        if let Some(dir) = &self.access_logs {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            args.extend(["--access-logs".into(), dir.into_os_string()]);
        }
        args
    }
}
