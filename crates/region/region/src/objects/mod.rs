//! Objects of the S3-compatible store that the operator named, read through the region: what is asked in S3's own
//! words is judged by the caller's policies here, and only then fetched with the operator's keys, which leave the
//! region to nobody.
//!
//! Only what tasks need is answered: GetObject and GetBucketLocation.

mod keys;
mod upstream;

use std::sync::Arc;

use aws_wire::query::escape;
use aws_wire::service::Answer;
use aws_wire::sigv4::decoded_key;
use aws_wire::{ApiError, Caller};
use control::object_store::is_bucket;
use control::{Control, ObjectStore, Permission};
use http::Method;

use upstream::Upstream;

/// The longest key of an object, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// The region that S3 gives no name as a location.
const UNNAMED_LOCATION: &str = "us-east-1";

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Object { bucket: String, key: String },
    Location { bucket: String },
}

impl Asked {
    /// Reads a request that names its bucket in the path.
    pub(crate) fn read(method: &Method, path: &str, query: &str) -> Result<Self, ApiError> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if method != Method::GET || bucket.is_empty() {
            return Err(not_implemented());
        }
        if !is_bucket(bucket) {
            let message = "The specified bucket is not valid.";
            return Err(ApiError::client("InvalidBucketName", message));
        }
        let bucket = bucket.to_owned();
        // SDKs say by `x-id` which operation they mean.
        let asks = query.split('&').filter(|it| !it.is_empty() && !it.starts_with("x-id="));
        match (key, asks.collect::<Vec<_>>().as_slice()) {
            ("", ["location" | "location="]) => Ok(Self::Location { bucket }),
            ("", _) => Err(not_implemented()),
            (key, []) => Ok(Self::Object { bucket, key: readable(key)? }),
            (_, [_, ..]) => Err(not_implemented()),
        }
    }

    /// As it is called in the audit log.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Object { .. } => "GetObject",
            Self::Location { .. } => "GetBucketLocation",
        }
    }

    fn bucket(&self) -> &str {
        match self {
            Self::Object { bucket, .. } | Self::Location { bucket } => bucket,
        }
    }

    fn permission(&self) -> Permission {
        match self {
            Self::Object { bucket, key } => {
                Permission::to("s3:GetObject").on(format!("arn:aws:s3:::{bucket}/{key}"))
            }
            Self::Location { bucket } => {
                Permission::to("s3:GetBucketLocation").on(format!("arn:aws:s3:::{bucket}"))
            }
        }
    }
}

/// A key as a policy is asked about it. One that a server might read as another's is refused: what was judged must
/// be what is fetched.
fn readable(raw: &str) -> Result<String, ApiError> {
    let bad = || {
        ApiError::client(
            "InvalidURI",
            "This region reads objects whose keys are UTF-8 of at most 1024 bytes, without control characters and without \
             empty parts, . and .. between slashes.",
        )
    };
    let key = String::from_utf8(decoded_key(raw)).map_err(|_| bad())?;
    let is_odd = |part: &str| matches!(part, "" | "." | "..");
    if KEY_BYTES_MAX < key.len() || key.contains(char::is_control) || key.split('/').any(is_odd) {
        return Err(bad());
    }
    Ok(key)
}

pub(crate) fn not_implemented() -> ApiError {
    let message = "Of S3, Longshore answers GetObject and GetBucketLocation only, for buckets that are named in the path.";
    ApiError::client("NotImplemented", message).with_status(501)
}

/// What answers requests for objects.
#[derive(Debug)]
pub(crate) struct Objects {
    control: Arc<Control>,
    upstream: Upstream,
}

impl Objects {
    /// `None` where the operator named no store.
    pub(crate) fn new(control: &Arc<Control>) -> Option<Self> {
        let store = control.config.object_store.clone()?;
        Some(Self { control: Arc::clone(control), upstream: Upstream::new(store) })
    }

    fn store(&self) -> &ObjectStore {
        self.upstream.store()
    }

    /// Answers whoever may.
    pub(crate) async fn answer(&self, caller: &Caller, asked: &Asked) -> Result<Answer, ApiError> {
        self.judge(caller, asked)?;
        match asked {
            Asked::Location { .. } => Ok(self.location()),
            Asked::Object { bucket, key } => {
                let now = self.control.clock.now();
                self.upstream.fetch(bucket, key, now).await.map_err(|why| why.to_api_error())
            }
        }
    }

    fn judge(&self, caller: &Caller, asked: &Asked) -> Result<(), ApiError> {
        let bucket = asked.bucket();
        if !self.store().is_of(bucket, caller.account) {
            let message = format!(
                "Access Denied: the bucket {bucket} is of another account (the region's operator says whose buckets are \
                 by --s3-bucket BUCKET=ACCOUNT)."
            );
            return Err(ApiError::client("AccessDenied", message).with_status(403));
        }
        let judged = self.control.read(caller, &asked.permission()).map(drop);
        judged.map_err(|mut error| {
            if error.denial.is_some() || error.code == "AccessDeniedException" {
                error.code = "AccessDenied".into();
                error.status = 403;
            }
            error
        })
    }

    /// Whoever asks signs for this region what they ask next: so that is where every bucket is.
    fn location(&self) -> Answer {
        let mut name = String::new();
        match self.control.config.region.as_str() {
            UNNAMED_LOCATION => {}
            region => escape(&mut name, region),
        }
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{name}</LocationConstraint>"
        );
        Answer {
            status: 200,
            content_type: "application/xml".into(),
            headers: Vec::new(),
            body: text.into(),
        }
    }
}

#[cfg(test)]
mod tests;
