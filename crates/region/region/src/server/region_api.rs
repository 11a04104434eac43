//! The region behind its listener.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, ByEndpoint, Caller, Origin, Principal, Trail};
use control::iam::{KeyUse, node_keys};
use control::ports::RegionService;
use control::{AccessKey, Config, RootKeyError};
use elb::outside::NameOutside;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use longshore_types::{AccountId, InstanceId, RegionName, Timestamp, Uuid};
use model::instance::InstanceStatus;
use model::network::EndpointService;
use routing::introduction::{self, IntroductionToken};
use routing::{EndpointId, wire};
use serde_json::Value;
use traffic::flows::REPORT_FLOWS;

use super::answer::REQUEST_ID;
use super::watched::Watched;
use super::{
    Body, BoxFuture, DESCRIBE_STATUS, Doors, EXPLAIN_REACH, LIST_BETWEEN_HOSTS,
    LIST_CONNECT_FIGURES, LIST_LISTENING, LIST_TASK_FIGURES, OWN_SERVICE, ROTATE_ROOT_KEY,
    RegionApi, RequestBody, SIGN_IN, limits, serve,
};
use crate::audit::{Entry, Outcome};
use crate::nodes;
use crate::objects::{Asked, not_implemented};
use crate::region::Region;

/// Why a region never served.
#[derive(Debug, thiserror::Error)]
#[error("failed to ready the region for requests")]
pub struct NotReady(#[source] ApiError);

/// Readies the region, starts what works in its background, and serves it until `shutdown` is done.
pub async fn serve_region(
    region: Arc<Region>,
    doors: impl Into<Doors>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NotReady> {
    let doors = doors.into();
    region.prepare().await.map_err(NotReady)?;
    region.start(doors.tls.as_ref());
    serve(region, doors, shutdown).await;
    Ok(())
}

impl Region {
    /// The instance of a host that joined whose process asks, if interfaces of balancers may be put there. By TLS alone:
    /// what it is told are private keys too.
    fn balancers_host(&self, caller: &Caller) -> Option<InstanceId> {
        if !matches!(caller.principal, Principal::Node { .. }) || !caller.origin.is_secure {
            return None;
        }
        let (view, key) = (self.control.view(), node_keys::holder(&caller.access_key));
        let its = view.instances.iter().filter(|row| {
            row.access_key.as_deref() == Some(key)
                && row.status < InstanceStatus::Inactive
                && row.serves_balancers()
        });
        its.max_by_key(|row| (row.registered_at, row.id)).map(|row| row.id)
    }

    /// Puts another root key in the place of the one there is, for whom the region belongs to.
    fn rotate_root_key<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Option<BoxFuture<'a, Result<serde_json::Value, ApiError>>> {
        let is_owner = control::is_root(caller) && caller.account == Config::root_account();
        is_owner.then(|| -> BoxFuture<'a, _> {
            Box::pin(async {
                let changed = self.control.change_root_key().await;
                let (key, rewrapped) = changed.map_err(|why| {
                    if matches!(why, RootKeyError::Elsewhere { .. }) {
                        ApiError::client("InvalidRequestException", why.to_string())
                    } else {
                        ApiError::fault("failed to change the root key", why)
                    }
                })?;
                Ok(serde_json::json!({ "rootKey": key.to_string(), "rewrapped": rewrapped }))
            })
        })
    }
}

impl Region {
    /// How packets go between the hosts of the caller's instances, for whom the region belongs to.
    fn list_between_hosts<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Option<BoxFuture<'a, Result<Value, ApiError>>> {
        let is_owner = control::is_root(caller) && caller.account == Config::root_account();
        let view = self.control.view();
        let items = view.instances.of(caller.account).filter_map(|row| {
            let says = self.sessions.between_hosts(&view, row)?;
            let (instance, layers) = (row.arn().to_string(), self.sessions.layers_given(row));
            Some(nodes::BetweenHostsOf { instance, says, layers })
        });
        let listed = is_owner.then(|| nodes::Listed { items: items.collect() })?;
        Some(Box::pin(std::future::ready(nodes::answer(&listed))))
    }

    /// What the name of a load balancer means to whoever asks from outside all VPCs.
    pub fn name_outside(&self, name: &str, asker: IpAddr) -> NameOutside {
        self.elb.name_outside(name, asker)
    }

    /// Where load balancers are reached at hosts' own addresses, for whom the region belongs to.
    fn list_listening<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Option<BoxFuture<'a, Result<Value, ApiError>>> {
        let is_owner = control::is_root(caller) && caller.account == Config::root_account();
        let view = self.control.view();
        let items = self.elb.listening().into_iter().map(|it| nodes::ListeningOn {
            instance: it.host.and_then(|id| Some(view.instance_of_any(id)?.arn().to_string())),
            balancer: it.balancer,
            protocol: it.protocol.to_owned(),
            port: it.port,
            address: it.address,
        });
        let listed = is_owner.then(|| nodes::Listed { items: items.collect() })?;
        Some(Box::pin(std::future::ready(nodes::answer(&listed))))
    }
}

impl RegionApi for Region {
    fn now(&self) -> Timestamp {
        self.control.clock.now()
    }

    fn request_id(&self) -> Uuid {
        Uuid::mint(self.control.ids.as_ref())
    }

    fn region_name(&self) -> &RegionName {
        &self.control.config.region
    }

    fn services(&self) -> &[&'static Service] {
        self.models()
    }

    fn key(&self, access_key_id: &str, session_token: Option<&str>) -> Option<AccessKey> {
        self.control.access.find(&self.control.view(), access_key_id, session_token)
    }

    fn introduction_token(&self) -> Option<IntroductionToken> {
        introduction::token(self.control.config.introduction_token.as_ref()?)
    }

    fn endpoint(&self, id: &EndpointId) -> Option<(ByEndpoint, &'static EndpointService)> {
        let view = self.control.view();
        let row = view.vpc_endpoints.iter().find(|row| row.id.as_str() == id.0)?;
        row.interface()?;
        let by = ByEndpoint { endpoint: row.id.clone(), vpc: row.vpc.clone() };
        Some((by, EndpointService::of(&row.service)?))
    }

    fn is_open(&self, service: &str, operation: &str) -> bool {
        matches!(
            (service, operation),
            ("sts", "AssumeRoleWithSAML" | "AssumeRoleWithWebIdentity")
                | (OWN_SERVICE, nodes::JOIN | nodes::JOIN_BY_ACTIVATION | SIGN_IN)
        )
    }

    fn authorize(
        &self,
        caller: &Caller,
        service: &'static str,
        operation: &str,
    ) -> Result<(), ApiError> {
        let access = &self.control.access;
        if caller.principal == Principal::Anonymous {
            return Ok(()); // It is an open operation: nobody else comes so far.
        }
        let used = match &caller.principal {
            Principal::User { .. } if caller.session.is_none() => Some(caller.access_key.as_str()),
            // A role by its unique id, whichever of its sessions it is.
            Principal::Role { id, .. } => Some(&**id),
            Principal::User { .. }
            | Principal::Root
            | Principal::Federated { .. }
            | Principal::Node { .. }
            | Principal::Anonymous => None,
        };
        if let Some(used) = used {
            let (account, at, region) = (caller.account, caller.now, caller.region.to_string());
            access.uses.note(used, KeyUse { account, at, service, region });
        }
        access.authorize(caller, service, operation)
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        let is_its =
            |service: &&Arc<dyn RegionService>| service.service().name == call.service.name;
        match Region::services(self).iter().find(is_its) {
            Some(service) => Box::pin(async move {
                // An account is there once somebody calls in its name.
                self.iam.begin(caller.account).await?;
                service.dispatch(caller, call).await
            }),
            None => Box::pin(async { Err(call.not_available()) }),
        }
    }

    fn trail(&self) -> Trail {
        if self.audit.get().is_some() { Trail::on() } else { Trail::default() }
    }

    fn answered(&self, outcome: Outcome, trail: &Trail) {
        if let Some(audit) = self.audit.get()
            && let Some(entry) = Entry::of(outcome, trail)
        {
            audit.note(entry);
        }
    }

    fn own<'a>(
        &'a self,
        caller: &'a Caller,
        operation: &str,
        body: &'a [u8],
    ) -> Option<BoxFuture<'a, Result<Value, ApiError>>> {
        match operation {
            DESCRIBE_STATUS => {}
            ROTATE_ROOT_KEY => return self.rotate_root_key(caller),
            EXPLAIN_REACH => {
                let explained = ec2::explain(&self.control, caller, body);
                return Some(Box::pin(std::future::ready(explained)));
            }
            LIST_TASK_FIGURES => {
                let listed = self.list_task_figures(caller, body);
                let listed = listed.and_then(|listed| nodes::answer(&listed));
                return Some(Box::pin(std::future::ready(listed)));
            }
            LIST_CONNECT_FIGURES => {
                let listed = self.list_connect_figures(caller);
                let listed = listed.and_then(|listed| nodes::answer(&listed));
                return Some(Box::pin(std::future::ready(listed)));
            }
            LIST_BETWEEN_HOSTS => return self.list_between_hosts(caller),
            LIST_LISTENING => return self.list_listening(caller),
            SIGN_IN if caller.principal == Principal::Anonymous => {
                return Some(Box::pin(async {
                    nodes::answer(&self.iam.sign_in(caller, nodes::read(body)?).await?)
                }));
            }
            REPORT_FLOWS => return Some(Box::pin(self.flows.take_in(caller, body))),
            _ => return self.nodes.dispatch(caller, operation, body),
        }
        let is_owner = control::is_root(caller) && caller.account == Config::root_account();
        let status = is_owner.then(|| serde_json::json!({ "reconcilers": self.reconcilers() }))?;
        Some(Box::pin(std::future::ready(Ok(status))))
    }

    fn has_objects(&self) -> bool {
        self.objects.is_some()
    }

    fn object<'a>(
        &'a self,
        caller: &'a Caller,
        asked: &'a Asked,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(async move {
            let objects = self.objects.as_ref().ok_or_else(not_implemented)?;
            self.iam.begin(caller.account).await?;
            objects.answer(caller, asked).await
        })
    }

    fn balancers<'a>(
        &'a self,
        caller: &'a Caller,
        call: wire::Call,
    ) -> Option<BoxFuture<'a, Result<wire::Answer, ApiError>>> {
        // A table has private keys, which the process that shows their certificates alone is given. A host that joined is
        // trusted with the balancers whose interfaces are on it, and with no others.
        let is_own = self.control.access.is_own_machine(caller);
        let is_owner = control::is_root(caller) && caller.account == Config::root_account();
        let is_told = is_owner && matches!(call, wire::Call::Report(_));
        let host = match is_own || is_told {
            true => None,
            false => Some(self.balancers_host(caller)?),
        };
        Some(match call {
            wire::Call::Read(asked) => Box::pin(async move {
                let wait = Duration::from_millis(asked.wait_ms).min(limits::BALANCER_WAIT_MAX);
                Ok(wire::Answer::Read(self.elb.feed.read(host, asked.version, wait).await))
            }),
            wire::Call::Report(report) => Box::pin(async move {
                self.elb.take_in(host, report).await?;
                Ok(wire::Answer::Reported)
            }),
        })
    }

    fn session(self: Arc<Self>, caller: &Caller, request: Request<Incoming>) -> Response<String> {
        sessions::accept(&self.sessions, caller, request)
    }

    fn closing(&self) {
        self.sessions.close();
        self.elb.feed.close();
    }

    fn registry_account(&self, uri: &Uri, headers: &HeaderMap) -> Option<AccountId> {
        self.ecr.registry.account(uri, headers)
    }

    fn registry(
        self: Arc<Self>,
        request: Request<RequestBody>,
        origin: Origin,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let request_id = self.request_id();
            let mut watched = Watched::new(&*self, request_id, origin.trail.clone());
            watched.trace.service = "ecr";
            let mut answer = self.ecr.registry.handle(request, &origin).await;
            if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
                answer.headers_mut().insert(REQUEST_ID, value);
            }
            let status = answer.status();
            let is_denied = status == StatusCode::FORBIDDEN;
            watched.trace.error_code = is_denied.then(|| "DENIED".to_owned());
            watched.answered(status.as_u16());
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::Chain;
    use store::{Batch, Changes, CommitError, MemoryStore, Pending, Store};
    use tokio::net::TcpListener;
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
        let test = TestRegion::on(Arc::new(ReadOnly::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = serve_region(test.region, listener, std::future::pending()).await;
        let error = served.unwrap_err();
        let text = Chain(&error).to_string();
        assert!(text.starts_with("failed to ready the region for requests: "), "{text}");
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
    }
}
