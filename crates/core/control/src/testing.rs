//! A core in memory, for tests of services.

use std::sync::Arc;

use aws_wire::{Caller, Origin, Principal};
use longshore_types::{Clock, SeededEnv, Uuid};
use store::{Batch, MemoryStore, Store};
use vault::RootKey;

use crate::keyring::RootKeys;
use crate::{Config, Control, Keys, Parts};

pub mod people;
pub mod rows;

/// A core on a memory store and a seeded clock. Its directory goes when it goes.
#[derive(Debug)]
pub struct TestControl {
    pub control: Arc<Control>,
    pub env: Arc<SeededEnv>,
    _dir: tempfile::TempDir,
}

impl Default for TestControl {
    fn default() -> Self {
        Self::new()
    }
}

impl TestControl {
    pub fn new() -> Self {
        Self::with_config(|_| {})
    }

    pub fn with_config(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Arc::new(MemoryStore::new()), change)
    }

    /// The same on a store of the test's own.
    pub fn on(store: Arc<dyn Store>, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory for a test");
        let env = Arc::new(SeededEnv::from_seed(1));
        let listen = ([127, 0, 0, 1], 4566).into();
        let name = "us-east-1".parse().expect("a region's name");
        let mut config = Config::new(name, listen, dir.path().to_owned());
        change(&mut config);
        let keys = Keys::mint(env.as_ref());
        let root_keys = RootKeys::of(RootKey::mint(env.as_ref()));
        let (clock, ids) = (Arc::clone(&env) as _, Arc::clone(&env) as _);
        let control = Control::new(config, Parts { store, clock, ids, keys, root_keys });
        Self { control: Arc::new(control), env, _dir: dir }
    }

    /// The root user of the first account.
    pub fn root(&self) -> Caller {
        self.root_of("000000000000")
    }

    /// Has a rule of the first account want what a pattern says.
    pub async fn want(&self, pattern: &str) {
        let account = self.root().account;
        let rule = self.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.put(rows::event_rule(account, "all", pattern));
            Ok((batch, ()))
        });
        rule.await.expect("a rule");
    }

    /// The events that wait, in their order.
    pub fn told(&self) -> Vec<serde_json::Value> {
        let view = self.control.view();
        let events = view.pending_events.iter();
        events.map(|row| serde_json::from_str(row.event.as_str()).expect("an event")).collect()
    }

    pub fn root_of(&self, account: &str) -> Caller {
        Caller {
            account: account.parse().expect("an account's id"),
            region: self.control.config.region.clone(),
            access_key: self.control.access.keys.root.access_key_id.clone(),
            principal: Principal::Root,
            session: None,
            origin: Origin::default(),
            request_id: Uuid::mint(self.env.as_ref()),
            now: self.env.now(),
        }
    }
}
