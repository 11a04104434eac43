//! The store itself: asked for one object at a time, within bounds of time and size. A redirect is not followed, and
//! nothing of an error's text is passed on but the two codes that callers can act on.

use std::sync::OnceLock;
use std::time::Duration;

use aws_wire::ApiError;
use aws_wire::service::Answer;
use aws_wire::sigv4::{self, SigningKeys};
use bytes::Bytes;
use control::ObjectStore;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use longshore_types::{Chain, Timestamp};
use tokio::sync::Semaphore;
use tracing::warn;
use trust::Trust;

use super::keys::{self, NoKeys};

/// The largest object: a process's environment has less room in Linux.
const OBJECT_BYTES_MAX: usize = 4 << 20;
/// How much of an error is read for its code.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Objects that are fetched at a time.
const FETCHES_MAX: usize = 16;
/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a fetch may take, its wait for a turn included.
const FETCH_MAX: Duration = Duration::from_secs(20);

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Why an object could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFetched {
    #[error("NoSuchBucket")]
    NoBucket,
    #[error("NoSuchKey")]
    NoKey,
    #[error("the store answered {0}")]
    Refused(StatusCode),
    #[error("the store led elsewhere by {0}")]
    LedElsewhere(StatusCode),
    #[error("the object is larger than {OBJECT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the store failed: {0}")]
    Away(String),
    #[error(transparent)]
    Keys(#[from] NoKeys),
}

impl NotFetched {
    pub(super) fn to_api_error(&self) -> ApiError {
        let of = |code, status, message: &str| ApiError::client(code, message).with_status(status);
        match self {
            Self::NoBucket => of("NoSuchBucket", 404, "The specified bucket does not exist"),
            Self::NoKey => of("NoSuchKey", 404, "The specified key does not exist."),
            Self::Refused(_) => of(
                "AccessDenied",
                403,
                "Access Denied by the store itself: the keys that the region's operator gave it (--s3-credentials) do not \
                 open this object.",
            ),
            Self::LedElsewhere(_) => of(
                "InvalidRequest",
                400,
                "The store led to another address, which is not followed: its operator looks at --s3-endpoint, \
                 --s3-region and --s3-addressing.",
            ),
            Self::TooLarge => of(
                "InvalidRequest",
                400,
                "The object is larger than 4 MiB, and so than this region reads.",
            ),
            Self::Away(_) => of(
                "ServiceUnavailable",
                503,
                "The store did not answer as it should; the region's log says how.",
            ),
            Self::Keys(_) => of(
                "ServiceUnavailable",
                503,
                "The region can't read its keys for the store; its log says why.",
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct Upstream {
    store: ObjectStore,
    signing_keys: SigningKeys,
    turns: Semaphore,
    /// Made when first wanted: reading the system's certificates takes a while.
    client: OnceLock<Https>,
}

impl Upstream {
    pub(super) fn new(store: ObjectStore) -> Self {
        let turns = Semaphore::new(FETCHES_MAX);
        Self { store, signing_keys: SigningKeys::default(), turns, client: OnceLock::new() }
    }

    pub(super) fn store(&self) -> &ObjectStore {
        &self.store
    }

    /// The object as it is now.
    pub(super) async fn fetch(
        &self,
        bucket: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Answer, NotFetched> {
        let late = || NotFetched::Away(format!("no whole answer within {} s", FETCH_MAX.as_secs()));
        let fetched = tokio::time::timeout(FETCH_MAX, self.fetch_patiently(bucket, key, now)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(late()));
        if let Err(why) = &fetched {
            // Names are not secret; what the object holds never comes so far.
            warn!(bucket, key, error = %Chain(why), "object not fetched");
        }
        fetched
    }

    async fn fetch_patiently(
        &self,
        bucket: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Answer, NotFetched> {
        let away = |why: String| NotFetched::Away(why);
        let _turn = self.turns.acquire().await.map_err(|why| away(why.to_string()))?;
        let request = self.request(bucket, key, now).await?;
        let answer = self.client().request(request).await;
        let answer = answer.map_err(|why| away(Chain(&why).to_string()))?;
        match answer.status() {
            StatusCode::OK => whole(answer).await,
            status if status.is_redirection() => Err(NotFetched::LedElsewhere(status)),
            StatusCode::NOT_FOUND => Err(missing(answer).await),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Err(NotFetched::Refused(status))
            }
            status => Err(away(format!("it answered {status}"))),
        }
    }

    async fn request(
        &self,
        bucket: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Request<Empty<Bytes>>, NotFetched> {
        let ObjectStore { endpoint, region, addressing, keys, .. } = &self.store;
        let uri = endpoint.locate(*addressing, bucket, &sigv4::encoded_key(key));
        let uri = uri.map_err(|why| NotFetched::Away(why.to_string()))?;
        let mut headers = HeaderMap::new();
        if let Some(credentials) = keys::current(keys).await? {
            let name = HeaderName::from_static("x-amz-content-sha256");
            headers.insert(name, HeaderValue::from_static(sigv4::EMPTY_HASH));
            let keys = &self.signing_keys;
            sigv4::sign("GET", &uri, &mut headers, b"", &credentials, region, "s3", now, keys);
        }
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn client(&self) -> &Https {
        self.client.get_or_init(|| {
            let mut connector = HttpConnector::new();
            connector.enforce_http(false);
            connector.set_connect_timeout(Some(CONNECT_MAX));
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(Trust::system().client_config())
                .https_or_http()
                .enable_http1()
                .wrap_connector(connector);
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(10))
                .build(connector)
        })
    }
}

/// The object with what a client wants to know of it.
async fn whole(answer: Response<Incoming>) -> Result<Answer, NotFetched> {
    let (parts, body) = answer.into_parts();
    let stated = parts.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    if stated.is_some_and(|stated: usize| OBJECT_BYTES_MAX < stated) {
        return Err(NotFetched::TooLarge);
    }
    let body = Limited::new(body, OBJECT_BYTES_MAX).collect().await.map_err(|why| {
        if why.is::<http_body_util::LengthLimitError>() {
            NotFetched::TooLarge
        } else {
            NotFetched::Away(format!("its answer broke off: {}", Chain(why.as_ref())))
        }
    })?;
    let text = parts.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let content_type = text.unwrap_or("binary/octet-stream").to_owned();
    let passed = [ETAG, LAST_MODIFIED];
    let headers = passed.into_iter().filter_map(|name| {
        let value = parts.headers.get(&name)?.clone();
        Some((name, value))
    });
    Ok(Answer {
        status: 200,
        content_type: content_type.into(),
        headers: headers.collect(),
        body: body.to_bytes(),
    })
}

/// Whether it is the bucket that is not there.
async fn missing(answer: Response<Incoming>) -> NotFetched {
    let body = Limited::new(answer.into_body(), ERROR_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    if text.contains("<Code>NoSuchBucket</Code>") {
        NotFetched::NoBucket
    } else {
        NotFetched::NoKey
    }
}
