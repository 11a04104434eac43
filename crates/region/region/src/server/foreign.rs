//! Refusals of services that are not here, in the form that the clients of those services read.
//!
//! Which form that is, the credential scope or the target header says. Services that speak JSON or the
//! query protocol need none of this: their form is that of the services that are here.

use std::borrow::Cow;

use aws_wire::ApiError;
use aws_wire::query::escape;
use aws_wire::service::Answer;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use longshore_types::Uuid;

/// How a service that is not here says errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// `<Error>` alone.
    S3,
    /// `<ErrorResponse>` around it, at paths of resources.
    RestXml,
    /// JSON, with the code of the older query protocol in a header.
    Sqs,
}

impl Foreign {
    pub(super) fn of(scoped: Option<&str>, target: Option<&str>) -> Option<Self> {
        if target.is_some_and(|target| target.starts_with("AmazonSQS.")) {
            return Some(Self::Sqs);
        }
        match scoped? {
            "s3" | "s3express" | "s3-outposts" => Some(Self::S3),
            "route53" | "cloudfront" | "s3-control" => Some(Self::RestXml),
            _ => None,
        }
    }

    pub(super) fn answer(self, error: &ApiError, request_id: Uuid) -> Answer {
        let text = |text: &str| {
            let mut out = String::with_capacity(text.len());
            escape(&mut out, text);
            out
        };
        let (code, message) = (text(&error.code), text(&error.message));
        let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
        let members = format!("<Code>{code}</Code><Message>{message}</Message>");
        let (content_type, body) = match self {
            Self::S3 => (
                "application/xml",
                format!("{head}<Error>{members}<RequestId>{request_id}</RequestId></Error>"),
            ),
            Self::RestXml => (
                "text/xml",
                format!(
                    "{head}<ErrorResponse><Error><Type>Sender</Type>{members}</Error>\
                     <RequestId>{request_id}</RequestId></ErrorResponse>"
                ),
            ),
            Self::Sqs => {
                let members = serde_json::json!({
                    "__type": format!("com.amazonaws.sqs#{}", error.code),
                    "message": error.message,
                });
                ("application/x-amz-json-1.0", members.to_string())
            }
        };
        let mut headers = vec![];
        if self == Self::Sqs
            && error.code == NO_QUEUE
            && let Ok(value) = HeaderValue::from_str(&format!("{NO_QUEUE_OF_QUERY};Sender"))
        {
            headers.push((HeaderName::from_static("x-amzn-query-error"), value));
        }
        Answer {
            status: error.status,
            content_type: Cow::Borrowed(content_type),
            headers,
            body: Bytes::from(body),
        }
    }

    /// The refusal of a request that was signed well.
    pub(super) fn refusal(self, operation: Option<&str>) -> ApiError {
        match self {
            Self::S3 => {
                let message = "The service s3 is not available in Longshore yet.";
                ApiError::client("NotImplemented", message).with_status(501)
            }
            Self::RestXml => {
                let message = "This service is not available in Longshore yet.";
                ApiError::client("InvalidAction", message)
            }
            // Whoever asks whether a queue is there is told the truth.
            Self::Sqs if operation == Some("GetQueueUrl") => no_such_queue(NO_QUEUE),
            Self::Sqs => {
                let message = "The service sqs is not available in Longshore yet.";
                ApiError::client("UnsupportedOperation", message)
            }
        }
    }
}

const NO_QUEUE: &str = "QueueDoesNotExist";
/// The same in the query protocol.
pub(super) const NO_QUEUE_OF_QUERY: &str = "AWS.SimpleQueueService.NonExistentQueue";

pub(super) fn no_such_queue(code: &'static str) -> ApiError {
    ApiError::client(code, "The specified queue does not exist.")
}
