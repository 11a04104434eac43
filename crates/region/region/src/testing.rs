//! A whole region in memory, for tests of what more than one service has a part in.

use std::sync::Arc;

use aws_wire::Caller;
use control::testing::TestControl;
use store::{MemoryStore, Store};

use crate::region::Region;

#[derive(Debug)]
pub(crate) struct TestRegion {
    pub(crate) region: Arc<Region>,
    core: TestControl,
}

impl TestRegion {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()))
    }

    pub(crate) fn on(store: Arc<dyn Store>) -> Self {
        let core = TestControl::on(store, |_| {});
        let region = Region::on(Arc::clone(&core.control)).unwrap();
        Self { region: Arc::new(region), core }
    }

    /// The root user of the first account.
    pub(crate) fn root(&self) -> Caller {
        self.core.root()
    }
}
