//! The region behind its listener.

use std::future::Future;
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Protocol, Service};
use aws_wire::{ApiError, Caller};
use ec2_api as ec2;
use ecr_api as ecr;
use ecs_api as ecs;
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use logs_api as logs;
use longshore_types::{AccountId, RegionName, Timestamp, Uuid};
use sts_api as sts;
use tagging_api as tagging;
use tokio::net::TcpListener;

use super::{Body, BoxFuture, RequestBody, Site, serve};
use crate::access::AccessKey;
use crate::ecs::describe_tasks;
use crate::region::Region;
use crate::{background, sessions};

/// Why a region never served.
#[derive(Debug, thiserror::Error)]
#[error("failed to ready the region for requests")]
pub struct NotReady(#[source] ApiError);

/// Readies the region, starts what works in its background, and serves it until `shutdown` is done.
pub async fn serve_region(
    region: Arc<Region>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NotReady> {
    background::prepare(&region).await.map_err(NotReady)?;
    background::start(&region);
    serve(region, listener, shutdown).await;
    Ok(())
}

/// The services of a region.
static SERVICES: [&Service; 6] =
    [&ecs::SERVICE, &ecr::SERVICE, &logs::SERVICE, &sts::SERVICE, &ec2::SERVICE, &tagging::SERVICE];

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
            "tagging" => Box::pin(tagging::dispatch(self, caller, call)),
            _ => Box::pin(async { Err(call.not_available()) }),
        }
    }

    fn session(self: Arc<Self>, caller: &Caller, request: Request<Incoming>) -> Response<String> {
        sessions::accept(&self, caller, request)
    }

    fn closing(&self) {
        self.sessions.close();
    }

    fn registry_account(&self, uri: &Uri, headers: &HeaderMap) -> Option<AccountId> {
        self.registry.account(uri, headers)
    }

    fn registry(
        self: Arc<Self>,
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move { self.registry.handle(request).await })
    }
}

fn is_in_json(call: &Call<'_>, operation: &str) -> bool {
    let is_json = matches!(call.protocol, Protocol::AwsJson10 | Protocol::AwsJson11);
    is_json && call.operation.name == operation
}

#[cfg(test)]
mod tests {
    use longshore_types::Chain;
    use store::{Batch, Changes, CommitError, MemoryStore, Pending, Store};
    use tokio::sync::watch;

    use super::*;
    use crate::testing::TestRegion;

    /// A store that can be read.
    #[derive(Debug, Default)]
    struct ReadOnly(MemoryStore);

    impl Store for ReadOnly {
        fn latest(&self) -> Arc<model::View> {
            self.0.latest()
        }

        fn durable(&self) -> Arc<model::View> {
            self.0.durable()
        }

        fn submit(&self, _batch: Batch) -> Result<Pending, CommitError> {
            Err(CommitError::Closed)
        }

        fn subscribe(&self) -> watch::Receiver<model::Seq> {
            self.0.subscribe()
        }

        fn changes(&self) -> Changes {
            self.0.changes()
        }
    }

    #[tokio::test]
    async fn a_region_that_cannot_be_readied_says_so_and_serves_nothing() {
        let mut test = TestRegion::new();
        Arc::get_mut(&mut test.region).unwrap().store = Arc::new(ReadOnly::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = serve_region(test.region, listener, std::future::pending()).await;
        let error = served.unwrap_err();
        let text = Chain(&error).to_string();
        assert!(text.starts_with("failed to ready the region for requests: "), "{text}");
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
    }
}
