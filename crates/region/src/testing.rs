//! A region in memory, for tests of handlers.

use std::sync::Arc;

use aws_wire::{Caller, Principal};
use longshore_types::{Clock, SeededEnv, Uuid};
use store::MemoryStore;

use crate::access::Keys;
use crate::config::Config;
use crate::region::{Parts, Region};
use crate::registry_catalog;

/// A region on a memory store and a seeded clock. Its directory goes when it goes.
#[derive(Debug)]
pub(crate) struct TestRegion {
    pub(crate) region: Arc<Region>,
    pub(crate) env: Arc<SeededEnv>,
    _dir: tempfile::TempDir,
}

impl TestRegion {
    pub(crate) fn new() -> Self {
        Self::with_config(|_| {})
    }

    pub(crate) fn with_config(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = Arc::new(SeededEnv::from_seed(1));
        let listen = ([127, 0, 0, 1], 4566).into();
        let mut config = Config::new("us-east-1".parse().unwrap(), listen, dir.path().to_owned());
        change(&mut config);
        let logs = logs::Logs::open(&dir.path().join("logs"), Arc::clone(&env) as _).unwrap();
        let store = Arc::new(MemoryStore::new());
        let keys = Keys::mint(env.as_ref());
        let registry = registry_catalog::open(
            dir.path(),
            Arc::clone(&store) as _,
            &keys.registry_secret,
            Arc::clone(&env) as _,
            Arc::clone(&env) as _,
        )
        .unwrap();
        let parts = Parts {
            store,
            logs: Arc::new(logs),
            registry,
            clock: Arc::clone(&env) as _,
            ids: Arc::clone(&env) as _,
            keys,
        };
        Self { region: Arc::new(Region::new(config, parts)), env, _dir: dir }
    }

    /// The root user of the first account.
    pub(crate) fn root(&self) -> Caller {
        self.root_of("000000000000")
    }

    pub(crate) fn root_of(&self, account: &str) -> Caller {
        Caller {
            account: account.parse().unwrap(),
            region: self.region.config.region.clone(),
            access_key: self.region.access.keys.root.access_key_id.clone(),
            principal: Principal::Root,
            request_id: Uuid::mint(self.env.as_ref()),
            now: self.env.now(),
        }
    }
}
