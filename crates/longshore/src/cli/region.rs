//! What a region is told.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use control::{Advertised, BetweenHosts};
use longshore_types::RegionName;

use super::acme::AcmeArgs;
use super::egress::{ImageEgressArgs, host_and_port};
use super::objects::ObjectStoreArgs;
use super::secrets::RootKeyArgs;

/// Where a region listens unless told otherwise: the port that people's wrappers already expect.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:4566";

#[derive(Args, Clone, Debug)]
pub(crate) struct RegionArgs {
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = LISTEN_DEFAULT)]
    pub(crate) listen: SocketAddr,
    /// The region's name, as it appears in ARNs
    #[arg(long, value_name = "NAME", default_value = "us-east-1")]
    pub(crate) region: RegionName,
    /// Make every 12-digit access key id the root of that account, with this secret
    #[arg(long, value_name = "SECRET", env = "LONGSHORE_ACCOUNT_KEYS", hide_env_values = true)]
    pub(crate) account_keys: Option<String>,
    /// A JSON file with the keys of OpenID Connect providers, from issuers to key sets; others are asked by https
    #[arg(long, value_name = "FILE")]
    pub(crate) oidc_keys: Option<PathBuf>,
    /// A shell command that looks for vulnerabilities in an image: it finds it, as an OCI layout, in the directory
    /// that LONGSHORE_IMAGE names, and prints findings as JSON; that of Trivy is one of the forms
    #[arg(long, value_name = "COMMAND")]
    pub(crate) image_scanner: Option<String>,
    #[command(flatten)]
    pub(crate) root_key: RootKeyArgs,
    /// A host whose HTTP hooks may be asked to rotate secrets and whether deployments go on; may be given several times
    #[arg(long = "allow-hook", alias = "allow-rotation-hook", value_name = "HOST[:PORT]", value_parser = host_and_port)]
    pub(crate) allow_hook: Vec<String>,
    #[command(flatten)]
    pub(crate) objects: ObjectStoreArgs,
    /// Take requests without TLS from other machines too: whoever sees the traffic can read it
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
    /// Answer the names of internet-facing load balancers there, to whoever asks from outside VPCs [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) dns_listen: Option<SocketAddr>,
    /// Hours for which stopped tasks stay visible
    #[arg(long, value_name = "HOURS", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub(crate) stopped_task_hours: u64,
    /// Seconds for which nothing may be heard of a host's agent before its tasks count as stopped and services
    /// start others elsewhere. A capacity provider may have another limit, by its tag
    /// longshore.heartbeat-timeout-seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u64).range(10..=86_400))]
    pub(crate) heartbeat_timeout_seconds: u64,
    /// Whether hosts encrypt what their tasks send to each other: `auto` where both can, `on` refuses hosts that cannot,
    /// `off` nowhere
    #[arg(long, value_name = "auto|on|off", default_value = "auto", value_parser = between_hosts)]
    pub(crate) encrypt_between_hosts: BetweenHosts,
    /// The same in minutes
    #[arg(long, alias = "host-silence-minutes", value_name = "MINUTES", hide = true,
          conflicts_with = "heartbeat_timeout_seconds",
          value_parser = clap::value_parser!(u64).range(1..=1440))]
    heartbeat_timeout_minutes: Option<u64>,
    /// Take the addresses of tasks at once, for the agent that is started beside this
    #[arg(long, hide = true)]
    pub(crate) claims_addresses: bool,
    /// End when the process that started this one does
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// The file that standard output and error go to, which is rotated
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

fn between_hosts(text: &str) -> Result<BetweenHosts, String> {
    match text {
        "auto" => Ok(BetweenHosts::Auto),
        "on" => Ok(BetweenHosts::Encrypted),
        "off" => Ok(BetweenHosts::Clear),
        _ => Err("write auto, on or off".to_owned()),
    }
}

impl RegionArgs {
    /// The same again, for another process.
    pub(crate) fn encrypt_between_hosts(&self) -> &'static str {
        match self.encrypt_between_hosts {
            BetweenHosts::Auto => "auto",
            BetweenHosts::Encrypted => "on",
            BetweenHosts::Clear => "off",
        }
    }

    /// After so many seconds of silence a host is lost.
    pub(crate) fn heartbeat_timeout_s(&self) -> u64 {
        self.heartbeat_timeout_minutes
            .map_or(self.heartbeat_timeout_seconds, |minutes| minutes * 60)
    }
}

/// What the region is called from elsewhere, and how it proves that it is the one.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AddressArgs {
    /// The address that other machines reach the region at, behind a proxy too: https://HOST[:PORT]. Agents, images,
    /// `env` and `configure` are told this one [default: what it listens on]
    #[arg(long, value_name = "URL")]
    pub(crate) advertise: Option<Advertised>,
    /// A PEM file with the certificate to show, read again when it changes [default: the region's own authority
    /// signs one]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The PEM file of that certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A PEM file with the authority that signed it, if machines don't know it anyway: hosts that join and clients
    /// are told to trust it
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_ca: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) acme: AcmeArgs,
}

impl AddressArgs {
    /// The same again, for another process, whose directory may be another.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let advertised = self.advertise.as_ref().map(|it| OsString::from(it.to_string()));
        let file = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()).into_os_string())
        };
        let files = [
            ("--tls-cert", file(&self.tls_cert)),
            ("--tls-key", file(&self.tls_key)),
            ("--tls-ca", file(&self.tls_ca)),
        ];
        let all = std::iter::once(("--advertise", advertised)).chain(files);
        let all = all.filter_map(|(flag, value)| Some([flag.into(), value?])).flatten();
        all.chain(self.acme.to_args()).collect()
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RegionAlone {
    #[command(flatten)]
    pub(crate) region: RegionArgs,
    #[command(flatten)]
    pub(crate) images: ImageEgressArgs,
}
