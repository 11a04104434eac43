//! A service as the router sees it, and one call of an operation.

use bytes::Bytes;
use longshore_types::Uuid;

use crate::codec::{DecodeError, Record};
use crate::error::ApiError;
use crate::json;
use crate::shape::Structure;

/// How requests and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    AwsJson10,
    AwsJson11,
    Query,
    Ec2Query,
    RestJson1,
    RpcV2Cbor,
}

/// What generated code says of a service.
#[derive(Debug)]
pub struct Service {
    /// The name in credential scopes.
    pub name: &'static str,
    /// The name for people.
    pub title: &'static str,
    pub protocol: Protocol,
    /// What stands before the dot in `X-Amz-Target`.
    pub target_prefix: &'static str,
    pub api_version: &'static str,
    /// Of XML answers.
    pub namespace: &'static str,
    /// Sorted by name.
    pub operations: &'static [Operation],
    /// Operations of the model that are not there, sorted.
    pub absent: &'static [&'static str],
}

#[derive(Debug)]
pub struct Operation {
    pub name: &'static str,
    pub input: Option<&'static Structure>,
    pub output: Option<&'static Structure>,
    /// The element around a query answer's members.
    pub result_wrapper: Option<&'static str>,
    pub method: &'static str,
    pub uri: &'static str,
    pub status: u16,
}

impl Service {
    pub fn operation(&self, name: &str) -> Option<&'static Operation> {
        let found = self.operations.binary_search_by(|operation| operation.name.cmp(name)).ok()?;
        Some(&self.operations[found])
    }

    /// The error for an operation that is not there: whether AWS has it makes the difference.
    pub fn unknown_operation(&self, name: &str) -> ApiError {
        if self.absent.binary_search(&name).is_ok() {
            return self.not_available(name);
        }
        match self.protocol {
            Protocol::Query | Protocol::Ec2Query => ApiError::client(
                "InvalidAction",
                format!("The action {name} is not valid for this web service."),
            ),
            _ => ApiError::client("UnknownOperationException", ""),
        }
    }

    fn not_available(&self, name: &str) -> ApiError {
        let code = match self.protocol {
            Protocol::Query | Protocol::Ec2Query => "InvalidAction",
            _ => "UnknownOperationException",
        };
        let title = self.title;
        let message = format!("The operation {name} of {title} is not available in Longshore yet.");
        ApiError::client(code, message)
    }
}

/// One request, as far as its operation's shapes are concerned.
#[derive(Debug)]
pub struct Call<'a> {
    pub service: &'static Service,
    pub operation: &'static Operation,
    pub protocol: Protocol,
    pub body: &'a [u8],
    pub request_id: Uuid,
}

/// An answer's status, headers and body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Call<'_> {
    /// The request's input: decoded, and checked against the model's constraints.
    pub fn input<T: Record>(&self) -> Result<T, ApiError> {
        let decoded = json::from_slice(self.body);
        decoded
            .map_err(|error: DecodeError| ApiError::client("SerializationException", error.message))
    }

    /// The answer that carries `output`.
    pub fn answer<T: Record>(&self, output: &T) -> Answer {
        Answer {
            status: 200,
            content_type: "application/x-amz-json-1.1",
            body: Bytes::from(json::to_vec(output)),
        }
    }

    /// The answer of an operation that has nothing to say.
    pub fn empty_answer(&self) -> Answer {
        Answer { status: 200, content_type: "application/x-amz-json-1.1", body: Bytes::new() }
    }

    /// The refusal of an operation that the dispatcher does not know.
    pub fn not_available(&self) -> ApiError {
        self.service.unknown_operation(self.operation.name)
    }
}
