//! What stands behind the region's listener: its services, sessions and registry, put together.

use std::sync::Arc;

use aws_api::{ec2, ecr, ecs, logs, sts};
use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use http::{Request, Response};
use hyper::body::Incoming;
use longshore_types::{RegionName, Timestamp, Uuid};
use region::server::{Body, BoxFuture, Site};
use region::{AccessKey, Region, sessions};

static SERVICES: [&Service; 5] =
    [&ecs::SERVICE, &ecr::SERVICE, &logs::SERVICE, &sts::SERVICE, &ec2::SERVICE];

/// A region that can be served.
#[derive(Debug)]
pub(crate) struct RegionSite(pub(crate) Arc<Region>);

impl Site for RegionSite {
    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn request_id(&self) -> Uuid {
        Uuid::mint(self.0.ids.as_ref())
    }

    fn region_name(&self) -> &RegionName {
        &self.0.config.region
    }

    fn services(&self) -> &'static [&'static Service] {
        &SERVICES
    }

    fn key(&self, access_key_id: &str) -> Option<AccessKey> {
        self.0.access.find(access_key_id)
    }

    fn authorize(&self, caller: &Caller, service: &str, operation: &str) -> Result<(), ApiError> {
        self.0.access.authorize(caller, service, operation)
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        let region = self.0.as_ref();
        match call.service.name {
            "ecs" => Box::pin(ecs::dispatch(region, caller, call)),
            "ecr" => Box::pin(ecr::dispatch(region, caller, call)),
            "logs" => Box::pin(logs::dispatch(region, caller, call)),
            "sts" => Box::pin(sts::dispatch(region, caller, call)),
            "ec2" => Box::pin(ec2::dispatch(region, caller, call)),
            other => unreachable!("the listener serves no service named {other}"),
        }
    }

    fn session(self: Arc<Self>, caller: &Caller, request: Request<Incoming>) -> Response<String> {
        sessions::accept(&self.0, caller, request)
    }

    fn registry(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move { self.0.registry.handle(request).await })
    }
}
