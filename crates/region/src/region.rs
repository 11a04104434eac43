//! The region: what handlers, sessions and reconcilers share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use aws_wire::Caller;
use logs::{Logs, LogsError};
use longshore_types::{AccountId, Clock, IdSource, Scope};
use model::View;
use store::{OpenError, SqliteOptions, SqliteStore, Store};

use crate::access::{Access, Keys, KeysError};
use crate::config::Config;
use crate::ecs::shown_tasks::ShownTasks;
use crate::fleet::Fleets;
use crate::registry_catalog::{self, RegionRegistry};
use crate::sessions::Sessions;

/// The store's file within the data directory.
pub const STORE_FILE: &str = "region.sqlite";
/// The directory of CloudWatch Logs within the data directory.
pub const LOGS_DIR: &str = "logs";

/// Why a region can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to create {path}")]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("failed to open the log store")]
    Logs { source: LogsError },
    #[error("failed to open the registry")]
    Registry { source: image::BlobError },
}

/// The doors that a region opens and a test replaces.
#[derive(Debug)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub logs: Arc<Logs>,
    pub registry: RegionRegistry,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
    pub keys: Keys,
}

/// A whole region. Handlers take it by reference; it is shared as an `Arc`.
#[derive(Debug)]
pub struct Region {
    pub config: Config,
    pub store: Arc<dyn Store>,
    pub logs: Arc<Logs>,
    pub registry: Arc<RegionRegistry>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
    pub access: Access,
    /// The agents that are connected.
    pub sessions: Sessions,
    pub(crate) shown_tasks: ShownTasks,
    /// Held while a decision is made and submitted, so that deciders don't overtake each other.
    pub(crate) deciding: Mutex<()>,
    /// Where tasks go, kept from decision to decision.
    pub(crate) fleets: Fleets,
    /// Set once the driver is started.
    reconcilers: OnceLock<control::reconcile::Status>,
}

impl Region {
    pub fn new(config: Config, parts: Parts) -> Self {
        let Parts { store, logs, registry, clock, ids, keys } = parts;
        let access = Access::new(keys, &config);
        Self {
            config,
            store,
            logs,
            registry: Arc::new(registry),
            clock,
            ids,
            access,
            sessions: Sessions::default(),
            shown_tasks: ShownTasks::default(),
            deciding: Mutex::new(()),
            fleets: Fleets::default(),
            reconcilers: OnceLock::new(),
        }
    }

    /// Opens everything under the data directory, and creates what is not there yet.
    pub fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, StartError> {
        let dir = &config.data_dir;
        files::private::make_dirs(dir)
            .map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
        // The store first: its lock is what tells a second region that it is one.
        let store = SqliteStore::open(&dir.join(STORE_FILE), &SqliteOptions::default())?;
        files::whole::sweep(dir)
            .map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
        let keys = Keys::load_or_create(dir, ids.as_ref())?;
        let logs = Logs::open(&dir.join(LOGS_DIR), Arc::clone(&clock))
            .map_err(|source| StartError::Logs { source })?;
        let (store, logs) = (Arc::new(store), Arc::new(logs));
        let registry = registry_catalog::open(
            dir,
            Arc::clone(&store) as _,
            &keys.registry_secret,
            Arc::clone(&clock),
            Arc::clone(&ids),
        )
        .map_err(|source| StartError::Registry { source })?;
        let parts = Parts { store, logs, registry, clock, ids, keys };
        Ok(Self::new(config, parts))
    }

    /// What each reconciler is doing; nothing before the driver is started.
    pub fn reconcilers(&self) -> Vec<control::reconcile::ReconcilerStatus> {
        self.reconcilers.get().map(control::reconcile::Status::read).unwrap_or_default()
    }

    pub(crate) fn set_reconcilers(&self, status: control::reconcile::Status) {
        // A second driver would be a defect; the first one's status is kept.
        let _ = self.reconcilers.set(status);
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
}
