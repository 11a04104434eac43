//! The region behind its listener.

use std::future::Future;
use std::sync::Arc;

use aws_api::{ec2, ecr, ecs, logs, sts};
use aws_wire::service::{Answer, Call, Protocol, Service};
use aws_wire::{ApiError, Caller};
use http::{Request, Response};
use hyper::body::Incoming;
use longshore_types::{Chain, RegionName, Timestamp, Uuid};
use tokio::net::TcpListener;
use tracing::error;

use super::{Body, BoxFuture, Site, serve};
use crate::access::AccessKey;
use crate::ecs::describe_tasks;
use crate::region::Region;
use crate::{reapers, sessions};

/// Readies the region, starts what works in its background, and serves it until `shutdown` is done.
pub async fn serve_region(
    region: Arc<Region>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    if let Err(failed) = reapers::prepare(&region).await {
        error!(error = %Chain(&failed), "failed to ready the region");
        return;
    }
    reapers::start(&region);
    serve(region, listener, shutdown).await;
}

/// The services of a region.
static SERVICES: [&Service; 5] =
    [&ecs::SERVICE, &ecr::SERVICE, &logs::SERVICE, &sts::SERVICE, &ec2::SERVICE];

impl Site for Region {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn request_id(&self) -> Uuid {
        Uuid::mint(self.ids.as_ref())
    }

    fn region_name(&self) -> &RegionName {
        &self.config.region
    }

    fn services(&self) -> &'static [&'static Service] {
        &SERVICES
    }

    fn key(&self, access_key_id: &str) -> Option<AccessKey> {
        self.access.find(access_key_id)
    }

    fn authorize(&self, caller: &Caller, service: &str, operation: &str) -> Result<(), ApiError> {
        self.access.authorize(caller, service, operation)
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        match call.service.name {
            "ecs" if is_in_json(call, "DescribeTasks") => {
                let answer = describe_tasks::handle_json(self, caller, call);
                Box::pin(std::future::ready(answer))
            }
            "ecs" => Box::pin(ecs::dispatch(self, caller, call)),
            "ecr" => Box::pin(ecr::dispatch(self, caller, call)),
            "logs" => Box::pin(logs::dispatch(self, caller, call)),
            "sts" => Box::pin(sts::dispatch(self, caller, call)),
            "ec2" => Box::pin(ec2::dispatch(self, caller, call)),
            _ => Box::pin(async { Err(call.not_available()) }),
        }
    }

    fn session(self: Arc<Self>, caller: &Caller, request: Request<Incoming>) -> Response<String> {
        sessions::accept(&self, caller, request)
    }

    fn closing(&self) {
        self.sessions.close();
    }

    fn registry(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move { self.registry.handle(request).await })
    }
}

fn is_in_json(call: &Call<'_>, operation: &str) -> bool {
    let is_json = matches!(call.protocol, Protocol::AwsJson10 | Protocol::AwsJson11);
    is_json && call.operation.name == operation
}
