//! A whole region in memory, for tests of what more than one service has a part in.

use std::sync::Arc;

use aws_wire::service::{Call, Inbound, Protocol};
use aws_wire::{ApiError, Caller};
use control::ports::RegionService;
use control::testing::TestControl;
use http::HeaderMap;
use longshore_types::{SeededEnv, Uuid};
use serde_json::Value;
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

    pub(crate) fn root_of(&self, account: &str) -> Caller {
        self.core.root_of(account)
    }

    pub(crate) fn env(&self) -> &SeededEnv {
        &self.core.env
    }

    /// One of ECS's operations, in JSON.
    pub(crate) async fn ecs(
        &self,
        caller: &Caller,
        operation: &str,
        body: Value,
    ) -> Result<Value, ApiError> {
        self.ask("ecs", caller, operation, body).await
    }

    /// One of a service's operations, in JSON.
    pub(crate) async fn ask(
        &self,
        service: &str,
        caller: &Caller,
        operation: &str,
        body: Value,
    ) -> Result<Value, ApiError> {
        let (body, headers) = (body.to_string(), HeaderMap::new());
        let asked = self.region.services().iter().find(|each| each.service().name == service);
        let asked: &dyn RegionService = asked.unwrap().as_ref();
        let service = asked.service();
        let call = Call {
            service,
            operation: service.operation(operation).unwrap(),
            protocol: Protocol::AwsJson11,
            inbound: Inbound { path: "/", query: "", headers: &headers, body: body.as_bytes() },
            form: None,
            request_id: Uuid::from_random([0; 16]),
        };
        let answer = asked.dispatch(caller, &call).await?;
        Ok(serde_json::from_slice(&answer.body).unwrap())
    }
}
