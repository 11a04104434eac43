//! What a region is told at its start: one typed tree, checked once.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;
use longshore_types::{AccountId, RegionName, Token};

use crate::keyring::RootKeySource;
use crate::object_store::ObjectStore;

/// The account that a first start creates, and whose root key `longshore env` prints.
pub const ROOT_ACCOUNT: &str = "000000000000";

/// An address that a region is reached at: `https://region.example.com`, `http://10.0.0.1:4566`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    is_secure: bool,
    authority: Authority,
}

/// A text that can't be advertised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as https://HOST[:PORT]: nothing may follow, since whole requests are signed")]
pub struct NotAnAddress;

impl Advertised {
    /// By TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Without its port, and without brackets.
    pub fn host(&self) -> &str {
        self.authority.host().trim_matches(['[', ']'])
    }

    /// Whether only whoever is on the same machine reaches it.
    pub fn is_on_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    /// The one that its scheme has, unless it names one.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.is_secure { 443 } else { 80 })
    }

    /// With its port, if it has one.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }
}

impl FromStr for Advertised {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let uri: Uri = text.parse().map_err(|_| NotAnAddress)?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(NotAnAddress),
        };
        let authority = uri.authority().filter(|it| !it.as_str().contains('@'));
        let authority = authority.filter(|it| !it.host().is_empty()).ok_or(NotAnAddress)?;
        let is_bare = uri.query().is_none() && matches!(uri.path(), "" | "/");
        let authority = authority.as_str().to_ascii_lowercase().parse();
        authority
            .ok()
            .filter(|_| is_bare)
            .map(|it| Self { is_secure, authority: it })
            .ok_or(NotAnAddress)
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}", if self.is_secure { "s" } else { "" }, self.authority)
    }
}

/// Whether what goes between hosts is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BetweenHosts {
    /// Between hosts that can; with others in the clear.
    #[default]
    Auto,
    /// A host that cannot is refused, and nothing goes to one that is there all the same.
    Encrypted,
    Clear,
}

/// The settings of one region.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name that ARNs and credential scopes carry. Since 0.1.
    pub region: RegionName,
    /// Where everything listens; answers that name an endpoint name this one. Since 0.1.
    pub listen: SocketAddr,
    /// The address that clients on other machines, agents and images are told instead. Since 0.2.
    pub advertise: Option<Advertised>,
    /// Hosts' names that the region itself goes by, in any case: its authority signs no certificate for them that
    /// somebody asks for. Since 0.2.
    pub own_names: Vec<String>,
    /// Where the store, the registry, logs and keys are kept. Since 0.1.
    pub data_dir: PathBuf,
    /// Makes every 12-digit access key id the root of that account, with this secret. Since 0.1.
    pub account_keys: Option<Token>,
    /// What the process that serves VPC endpoints shows, so that it is believed whose connections it brings: drawn anew
    /// at each start. Nobody is believed without. Since 0.2.
    pub introduction_token: Option<Token>,
    /// A JSON file with the keys of OpenID Connect providers: an object from issuers to their key sets. An issuer
    /// that is not in it is asked by https. Since 0.2.
    pub oidc_keys: Option<PathBuf>,
    /// Where the key is that secrets are kept under. Since 0.2.
    pub root_key: RootKeySource,
    /// Hosts, with a port where it is not the scheme's own, that may be asked to rotate secrets and whether deployments go on. Since 0.2.
    pub hooks: Vec<String>,
    /// Registries that images may be fetched from although they are on this machine or its link, as `host` or
    /// `host:port`. Since 0.2.
    pub allowed_registries: Vec<String>,
    /// A shell command that looks for vulnerabilities in the image that lies where `LONGSHORE_IMAGE` says. Since 0.2.
    pub image_scanner: Option<String>,
    /// Ranges of addresses that no image is fetched from, such as `10.0.0.0/8`. Since 0.2.
    pub denied_egress: Vec<String>,
    /// Where objects are that tasks name by S3's ARNs: environment files, configurations of FireLens. Since 0.2.
    pub object_store: Option<ObjectStore>,
    /// How long nothing may be heard of an instance's agent before its tasks count as stopped and services
    /// replace them: 10 minutes, and at least 10 seconds. Shorter moves work sooner off hosts that died; longer
    /// spares it when the network does. A restart of the region begins the wait anew. A capacity provider may have
    /// another for its instances. Since 0.2.
    pub heartbeat_timeout_ms: u64,
    /// Whether hosts encrypt what they send to each other. Since 0.2.
    pub between_hosts: BetweenHosts,
    pub limits: Limits,
    pub retention: Retention,
}

impl Config {
    pub fn new(region: RegionName, listen: SocketAddr, data_dir: PathBuf) -> Self {
        Self {
            region,
            listen,
            advertise: None,
            own_names: Vec::new(),
            data_dir,
            account_keys: None,
            introduction_token: None,
            oidc_keys: None,
            root_key: RootKeySource::DataDir,
            hooks: Vec::new(),
            allowed_registries: Vec::new(),
            image_scanner: None,
            denied_egress: Vec::new(),
            object_store: None,
            heartbeat_timeout_ms: 600_000,
            between_hosts: BetweenHosts::default(),
            limits: Limits::default(),
            retention: Retention::default(),
        }
    }

    pub fn root_account() -> AccountId {
        ROOT_ACCOUNT.parse().expect("twelve digits are an account id")
    }
}

/// Capacity-like quotas, with Amazon's defaults. Since 0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub clusters_per_account_max: usize,
    pub instances_per_cluster_max: usize,
    /// Deregistered revisions count.
    pub revisions_per_family_max: u32,
    /// Fargate tasks of one account that are not stopped.
    pub fargate_tasks_per_account_max: usize,
    /// Capacity providers of one's own.
    pub capacity_providers_per_account_max: usize,
    /// Capacity providers that one cluster is associated with, Fargate's among them.
    pub capacity_providers_per_cluster_max: usize,
    /// Tasks of a cluster that wait for capacity among the instances of a capacity provider.
    pub waiting_tasks_per_cluster_max: usize,
    /// How long such a task waits if no service made it.
    pub task_waits_ms_max: u64,
    /// Services of a cluster that are not inactive.
    pub services_per_cluster_max: usize,
    /// What a service may desire.
    pub tasks_per_service_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clusters_per_account_max: 10_000,
            instances_per_cluster_max: 5_000,
            revisions_per_family_max: 1_000_000,
            fargate_tasks_per_account_max: 10_000,
            capacity_providers_per_account_max: 1_000,
            capacity_providers_per_cluster_max: 20,
            waiting_tasks_per_cluster_max: 300,
            task_waits_ms_max: 30 * 60_000,
            services_per_cluster_max: 5_000,
            tasks_per_service_max: 5_000,
        }
    }
}

/// How long what is over stays visible. Since 0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub stopped_tasks_ms: u64,
    pub inactive_clusters_ms: u64,
    pub inactive_services_ms: u64,
    /// Deployments of a service that are over, and the revisions that only they name.
    pub past_deployments_ms: u64,
    pub inactive_capacity_providers_ms: u64,
    pub client_tokens_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        const HOUR_MS: u64 = 3_600_000;
        Self {
            stopped_tasks_ms: HOUR_MS,
            inactive_clusters_ms: HOUR_MS,
            inactive_services_ms: HOUR_MS,
            past_deployments_ms: 90 * 24 * HOUR_MS,
            inactive_capacity_providers_ms: HOUR_MS,
            client_tokens_ms: 24 * HOUR_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_address_is_a_scheme_and_a_host() {
        for (text, host, authority) in [
            ("https://region.lan", "region.lan", "region.lan"),
            ("https://Region.lan:8443/", "region.lan", "region.lan:8443"),
            ("http://10.0.0.1:4566", "10.0.0.1", "10.0.0.1:4566"),
            ("https://[fd00::1]:4566", "fd00::1", "[fd00::1]:4566"),
        ] {
            let read: Advertised = text.parse().unwrap();
            assert_eq!((read.host(), read.authority()), (host, authority));
            assert_eq!(read.to_string(), text.trim_end_matches('/').to_lowercase());
        }
        for bad in ["", "region.lan", "ftp://x", "https://x/path", "https://u@x", "https://x?y"] {
            assert_eq!(bad.parse::<Advertised>(), Err(NotAnAddress), "{bad}");
        }
    }
}
