//! A host and a region that exist only in memory, and keep the ports' contracts.
//!
//! A fake container runs until it is told to end: by [`FakeRuntime::end`], or by a signal it obeys.
//! What is created here outlives the engine, as on a real host, so a test can start another.

mod networks;
mod region;
mod runtime;

use std::sync::{Arc, Mutex};

use longshore_types::{Clock, Steps, Timestamp};

pub(crate) use networks::{FakeImages, FakeNetworks};
pub(crate) use region::FakeRegion;
pub(crate) use runtime::{FakeRuntime, position};

/// The system's clock, moved by hand as well.
#[derive(Debug, Default)]
pub(crate) struct TestClock;

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        longshore_types::SystemClock.now()
    }
}

/// Who hears of the steps of a fake, which outlives agents, changes with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeardSteps(Arc<Mutex<Steps>>);

impl HeardSteps {
    pub(crate) fn heard_by(&self, steps: &Steps) {
        *self.0.lock().unwrap() = steps.clone();
    }

    /// Not while anything is locked: it may never return.
    fn reached(&self, name: &'static str) {
        let steps = self.0.lock().unwrap().clone();
        steps.reached(name);
    }
}
