//! ECS on a core in memory, with agents' sessions beside it, for tests of handlers.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::ports::RegionService as _;
use control::reconcile::{Driver, Environment};
use control::testing::{TestControl, people};
use control::{Config, Documents};
use longshore_types::SeededEnv;
use sessions::Sessions;

use crate::{Ecs, background};

#[derive(Debug)]
pub(crate) struct TestEcs {
    pub(crate) ecs: Arc<Ecs>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) env: Arc<SeededEnv>,
    core: TestControl,
}

impl TestEcs {
    pub(crate) fn new() -> Self {
        Self::with_config(|_| {})
    }

    pub(crate) fn with_config(change: impl FnOnce(&mut Config)) -> Self {
        let core = TestControl::with_config(change);
        let documents = Arc::new(Documents::default());
        let ecs = Arc::new(Ecs::new(Arc::clone(&core.control), Arc::clone(&documents)));
        let sessions = Arc::new(Sessions::new(Arc::clone(&core.control), documents));
        Self { ecs, sessions, env: Arc::clone(&core.env), core }
    }

    /// The root user of the first account.
    pub(crate) fn root(&self) -> Caller {
        self.core.root()
    }

    pub(crate) fn root_of(&self, account: &str) -> Caller {
        self.core.root_of(account)
    }

    /// A user of the first account with this policy.
    pub(crate) async fn user(&self, name: &str, policy: &str) -> Caller {
        people::user(&self.core, "000000000000", name, policy).await
    }

    /// A driver with every reconciler that rows wake.
    pub(crate) fn driver(&self) -> Driver {
        let control = &self.core.control;
        let mut driver = Driver::new(Environment::of(&control.store, &control.clock));
        self.sessions.register(&mut driver);
        background::register_woken(&self.ecs, &mut driver);
        driver
    }
}

/// Readies a region for ECS: its addresses, and what a crash may have left behind.
pub(crate) async fn prepare(ecs: &Ecs) -> Result<(), ApiError> {
    if ecs.control.view().address_plans.iter().next().is_none() {
        ec2::prepare_network(&ecs.control, &[]).await?;
    }
    sessions::prepare(&ecs.control).await?;
    ecs.prepare().await
}
