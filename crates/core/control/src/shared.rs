//! What every service holds, and the names that follow from a region's settings.

use std::sync::{Arc, Mutex, OnceLock};

use aws_wire::Caller;
use longshore_types::{AccountId, Clock, IdSource, Scope};
use model::{Instance, View};
use store::Store;
use trust::Authority;

use crate::access::{Access, Keys};
use crate::config::Config;
use crate::connect::ConnectHosts;
use crate::connect_figures::ConnectFigures;
use crate::iam::Standings;
use crate::keyring::RootKeys;
use crate::layers::LayerDirectory;
use crate::outbox::Outbox;
use crate::ports::EventSource;

/// The doors that a region opens and a test replaces.
#[derive(Debug)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
    pub keys: Keys,
    pub root_keys: RootKeys,
}

/// What all services of a region share.
#[derive(Debug)]
pub struct Control {
    pub config: Config,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
    pub access: Access,
    pub connect_hosts: ConnectHosts,
    /// What their proxies counted.
    pub connect_figures: ConnectFigures,
    /// Which hosts have which layers of images.
    pub layers: LayerDirectory,
    /// What is known besides its rows of the events that wait.
    pub outbox: Outbox,
    /// Which services tell of changes of their rows.
    pub(crate) event_sources: OnceLock<Vec<&'static dyn EventSource>>,
    /// Opened when it first signs, and by one at a time: of two that make it at once, one's key would be beside the
    /// other's certificate.
    pub(crate) own_authority: Mutex<Option<Arc<Authority>>>,
    /// What those who asked lately may.
    pub(crate) standings: Standings,
    pub(crate) root_keys: RootKeys,
    /// Held while the root key is changed.
    pub(crate) changing_root_key: tokio::sync::Mutex<()>,
    /// Held while a decision is made and submitted, so that deciders don't overtake each other.
    pub(crate) deciding: Mutex<()>,
}

impl Control {
    pub fn new(config: Config, parts: Parts) -> Self {
        let Parts { store, clock, ids, keys, root_keys } = parts;
        let access = Access::new(keys, root_keys.clone(), &config);
        let (deciding, changing_root_key) = (Mutex::new(()), tokio::sync::Mutex::new(()));
        let (connect_hosts, layers) = (ConnectHosts::default(), LayerDirectory::default());
        Self {
            config,
            store,
            clock,
            ids,
            access,
            connect_hosts,
            connect_figures: ConnectFigures::default(),
            layers,
            outbox: Outbox::default(),
            event_sources: OnceLock::new(),
            own_authority: Mutex::default(),
            standings: Standings::default(),
            root_keys,
            changing_root_key,
            deciding,
        }
    }

    /// What answers are made from: everything that is on disk.
    pub fn view(&self) -> Arc<View> {
        self.store.durable()
    }

    /// Where resources of the caller live.
    pub fn scope(&self, caller: &Caller) -> Scope {
        self.scope_of(caller.account)
    }

    pub fn scope_of(&self, account: AccountId) -> Scope {
        Scope { region: self.config.region.clone(), account }
    }

    /// After how much silence an instance is lost: what its capacity provider says, or else the region.
    pub fn heartbeat_timeout_ms(&self, view: &View, instance: &Instance) -> u64 {
        let name = instance.capacity_provider.as_ref();
        let provider =
            name.and_then(|name| view.capacity_providers.get(instance.scope.account, name));
        provider
            .filter(|provider| provider.is_active())
            .and_then(|provider| provider.heartbeat_timeout_ms())
            .unwrap_or(self.config.heartbeat_timeout_ms)
    }

    /// Where agents, and whoever follows an answer, reach the region.
    pub fn endpoint(&self) -> String {
        match &self.config.advertise {
            Some(advertised) => advertised.to_string(),
            None => self.local_endpoint(),
        }
    }

    /// The host and port in the names of the region's own images.
    pub fn registry_host(&self) -> String {
        match &self.config.advertise {
            Some(advertised) => advertised.authority().to_owned(),
            None => self.local_host(),
        }
    }

    /// Whether an image's registry is this region's, by the name that is told to others or by its own machine's.
    pub fn is_own_registry(&self, host: &str) -> bool {
        host == self.registry_host() || host == self.local_host()
    }

    /// Where the region's own machine reaches it, whatever is told to others.
    pub fn local_endpoint(&self) -> String {
        format!("http://{}", self.local_host())
    }

    /// The host and port of [`Control::local_endpoint`].
    pub fn local_host(&self) -> String {
        let mut address = self.config.listen;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        address.to_string()
    }
}
