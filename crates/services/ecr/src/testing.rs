//! ECR on a core in memory.

use std::sync::Arc;

use aws_wire::Caller;
use control::testing::TestControl;
use longshore_types::SeededEnv;

use crate::{Ecr, catalog};

#[derive(Debug)]
pub(crate) struct TestEcr {
    pub(crate) ecr: Arc<Ecr>,
    pub(crate) env: Arc<SeededEnv>,
    core: TestControl,
}

impl TestEcr {
    pub(crate) fn new() -> Self {
        let core = TestControl::new();
        let registry = catalog::open(&core.control).unwrap();
        let ecr = Arc::new(Ecr::new(Arc::clone(&core.control), Arc::new(registry)));
        Self { ecr, env: Arc::clone(&core.env), core }
    }

    pub(crate) fn root(&self) -> Caller {
        self.core.root()
    }

    pub(crate) fn root_of(&self, account: &str) -> Caller {
        self.core.root_of(account)
    }
}
