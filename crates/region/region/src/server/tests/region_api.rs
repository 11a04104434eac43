//! A site with a few operations, and requests that are signed for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::sigv4::{Credentials, presign};
use aws_wire::{ApiError, Caller, Origin, Principal, Trail};
use bytes::Bytes;
use control::access::AccessKey;
use ec2_api as ec2;
use ecr_api as ecr;
use ecs_api as ecs;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use longshore_types::{AccountId, RegionName, Timestamp, Token, Uuid};
use sts_api as sts;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};

use super::wire::{self, Got, Sent};
use crate::audit::Outcome;
use crate::server::{Body, BoxFuture, Doors, Plain, RegionApi, RequestBody, serve};
use crate::tls::Tls;

pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);
pub(super) const SECRET: &str = "wJalrXUtnFEMI";
/// Of the keys that end.
const SESSION: &str = "AQoDYXdzEJr";

static SERVICES: [&Service; 4] = [&ecs::SERVICE, &ecr::SERVICE, &sts::SERVICE, &ec2::SERVICE];

pub(super) struct Small {
    region: RegionName,
    slow: Notify,
    noted: mpsc::UnboundedSender<(String, u16)>,
}

impl RegionApi for Small {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn request_id(&self) -> Uuid {
        Uuid::from_random([7; 16])
    }

    fn region_name(&self) -> &RegionName {
        &self.region
    }

    fn services(&self) -> &[&'static Service] {
        &SERVICES
    }

    fn key(&self, access_key_id: &str, _: Option<&str>) -> Option<AccessKey> {
        let principal = match access_key_id {
            "AKIDROOT" => Principal::Root,
            "AKIDNODE" => Principal::Node { instance: None },
            "ASIAOVER" | "ASIALIVE" => Principal::Root,
            _ => return None,
        };
        let expires = match access_key_id {
            "ASIAOVER" => Some(NOW),
            "ASIALIVE" => Some(NOW.plus_ms(1)),
            _ => None,
        };
        let session_token = expires.map(|_| Token::from_text(SESSION.to_owned()));
        let account = "000000000000".parse().unwrap();
        let secret = Token::from_text(SECRET.to_owned());
        Some(AccessKey { account, principal, secret, session_token, expires, session: None })
    }

    fn authorize(&self, caller: &Caller, _: &'static str, _: &str) -> Result<(), ApiError> {
        if let Principal::Root = caller.principal {
            return Ok(());
        }
        Err(ApiError::client("AccessDeniedException", "No."))
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(async move {
            match call.operation.name {
                "ListClusters" => {
                    let _: ecs::ListClustersRequest = call.input()?;
                    let cluster_arns = Some(vec!["arn:one".to_owned()]);
                    let output = ecs::ListClustersResponse { cluster_arns, next_token: None };
                    Ok(call.answer(&output))
                }
                "ListTasks" => {
                    self.slow.notify_one();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok(call.answer(&ecs::ListTasksResponse::default()))
                }
                "StopTask" => {
                    self.slow.notify_one();
                    std::future::pending().await
                }
                "GetCallerIdentity" => {
                    let account = Some(caller.account.to_string());
                    let output = sts::GetCallerIdentityResponse { account, ..Default::default() };
                    Ok(call.answer(&output))
                }
                _ => panic!("the secret of the panic"),
            }
        })
    }

    fn trail(&self) -> Trail {
        Trail::on()
    }

    fn answered(&self, outcome: Outcome, _: &Trail) {
        let _ = self.noted.send((outcome.operation, outcome.status));
    }

    fn session(self: Arc<Self>, _: &Caller, _: Request<Incoming>) -> Response<String> {
        Response::new(String::new())
    }

    fn registry_account(&self, _: &Uri, _: &HeaderMap) -> Option<AccountId> {
        None
    }

    fn registry(
        self: Arc<Self>,
        _: Request<RequestBody>,
        _: Origin,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async {
            let body = http_body_util::Full::new(Bytes::from_static(b"registry"));
            let mut response = Response::new(body.map_err(|never| match never {}).boxed());
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response
        })
    }
}

/// A listener that serves a [`Small`] site.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    region: Arc<Small>,
    noted: mpsc::UnboundedReceiver<(String, u16)>,
    shutdown: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same with a certificate.
    pub(super) async fn start_with(tls: Option<Arc<Tls>>) -> Self {
        let (noting, noted) = mpsc::unbounded_channel();
        let name = "us-east-1".parse().unwrap();
        let region = Arc::new(Small { region: name, slow: Notify::new(), noted: noting });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, told) = oneshot::channel::<()>();
        let served = Arc::clone(&region);
        let doors = Doors { listener, tls, plain: Plain::ThisMachine };
        let serving = tokio::spawn(serve(served, doors, async {
            let _ = told.await;
        }));
        Self { address, region, noted, shutdown, serving }
    }

    pub(super) async fn send(&self, request: &Sent) -> Got {
        wire::send(self.address, request).await
    }

    pub(super) async fn wait_for_slow(&self) {
        self.region.slow.notified().await;
    }

    /// The operation and the status of the next request that is noted.
    pub(super) async fn next_noted(&mut self) -> (String, u16) {
        let next = tokio::time::timeout(Duration::from_secs(10), self.noted.recv()).await;
        next.expect("a request is noted within ten seconds").expect("the region goes on")
    }

    pub(super) async fn stop(self) {
        self.shutdown.send(()).unwrap();
        self.serving.await.unwrap();
    }

    /// The path of a GET that is signed in its query.
    pub(super) fn presigned(&self, service: &str, query: &str) -> String {
        let uri = format!("http://{}/?{query}", self.address).parse().unwrap();
        let region = "us-east-1".parse().unwrap();
        format!("/?{}", presign(&uri, &credentials("AKIDROOT", SECRET), &region, service, NOW, 60))
    }
}

pub(super) fn credentials(access_key: &str, secret: &str) -> Credentials {
    Credentials {
        access_key: access_key.to_owned(),
        secret: Token::from_text(secret.to_owned()),
        session_token: access_key.starts_with("ASIA").then(|| Token::from_text(SESSION.to_owned())),
    }
}

/// A POST that will be signed by the root user.
pub(super) fn signed(service: &str) -> Sent {
    Sent::post("/").signed_for(service)
}
