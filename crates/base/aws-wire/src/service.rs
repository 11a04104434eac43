//! A service as the router sees it, and one call of an operation.

mod envelope;

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use longshore_types::Uuid;

use crate::codec::{DecodeError, Record};
use crate::error::ApiError;
use crate::query::{Dialect, Form};
use crate::shape::{Shape, Structure};
use crate::validate::{self, Wording};
use crate::{cbor, json, query, rest};

pub use envelope::error_answer;

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
    /// How violations of the model's constraints are worded.
    pub wording: Wording,
    /// Of a service whose clients still go by the codes that errors have in the query protocol: these, by the names of
    /// the errors' shapes.
    pub query_errors: &'static [(&'static str, &'static str)],
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

impl Protocol {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::AwsJson10 => "application/x-amz-json-1.0",
            Self::AwsJson11 => "application/x-amz-json-1.1",
            Self::Query | Self::Ec2Query => "text/xml;charset=UTF-8",
            Self::RestJson1 => "application/json",
            Self::RpcV2Cbor => "application/cbor",
        }
    }

    fn is_xml(self) -> bool {
        matches!(self, Self::Query | Self::Ec2Query)
    }
}

impl Service {
    pub fn operation(&self, name: &str) -> Option<&'static Operation> {
        let found = self.operations.binary_search_by(|operation| operation.name.cmp(name)).ok()?;
        Some(&self.operations[found])
    }

    /// The code of an error in the query protocol; none where that is nobody's business.
    pub fn query_code<'a>(&self, code: &'a str) -> Option<&'a str> {
        if self.query_errors.is_empty() {
            return None;
        }
        let known = self.query_errors.iter().find(|(name, _)| *name == code);
        Some(match (known, code) {
            (Some((_, its)), _) => *its,
            (None, "AccessDeniedException") => "AccessDenied",
            (None, _) => code,
        })
    }

    /// The error for an operation that is not there: whether AWS has it makes the difference.
    pub fn unknown_operation(&self, name: &str) -> ApiError {
        let is_xml = self.protocol.is_xml();
        let is_absent = self.absent.binary_search(&name).is_ok();
        let code = match self.protocol {
            // EC2 has a code for what it knows and does not do.
            Protocol::Ec2Query if is_absent => "UnsupportedOperation",
            _ if is_xml => "InvalidAction",
            _ => "UnknownOperationException",
        };
        let title = self.title;
        let message = if is_absent {
            format!("The operation {name} of {title} is not available in Longshore yet.")
        } else if is_xml {
            let shown: String = name.chars().take(NAME_SHOWN_MAX).collect();
            format!("The action {shown} is not valid for this web service.")
        } else {
            String::new() // AWS says nothing here.
        };
        ApiError::client(code, message)
    }
}

/// How much of an unknown operation's name is repeated to the caller.
const NAME_SHOWN_MAX: usize = 128;

/// A request as it came, its body read.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// One request for one operation.
#[derive(Debug)]
pub struct Call<'a> {
    pub service: &'static Service,
    pub operation: &'static Operation,
    pub protocol: Protocol,
    pub inbound: Inbound<'a>,
    /// The parameters of a query, where the router had to read them already.
    pub form: Option<&'a Form>,
    pub request_id: Uuid,
}

/// An answer's status, headers and body.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Empty for an answer without a body.
    pub content_type: Cow<'static, str>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Call<'_> {
    /// The request's input: decoded, and checked against the model's constraints.
    pub fn input<T: Record>(&self) -> Result<T, ApiError> {
        let input: T = self.decoded().map_err(|error| malformed(self.protocol, error))?;
        validate::check(&input, T::table(), self.service.wording)?;
        Ok(input)
    }

    fn decoded<T: Record>(&self) -> Result<T, DecodeError> {
        let shape = Shape::Structure(T::table());
        let body = self.inbound.body;
        match self.protocol {
            Protocol::AwsJson10 | Protocol::AwsJson11 => json::from_slice(body),
            Protocol::RpcV2Cbor => cbor::read(body, shape),
            Protocol::RestJson1 => rest::read(self.operation, &self.inbound, shape),
            Protocol::Query => self.read_form(Dialect::Query),
            Protocol::Ec2Query => self.read_form(Dialect::Ec2),
        }
    }

    fn read_form<T: Record>(&self, dialect: Dialect) -> Result<T, DecodeError> {
        let shape = Shape::Structure(T::table());
        match self.form {
            Some(form) => query::read(form, shape, dialect),
            None => {
                let mut form = Form::parse(self.inbound.query.as_bytes())?;
                form.add(self.inbound.body)?;
                query::read(&form, shape, dialect)
            }
        }
    }

    /// The answer that carries `output`.
    pub fn answer<T: Record>(&self, output: &T) -> Answer {
        if self.protocol == Protocol::RestJson1 {
            return rest::answer(output, T::table(), self.operation.status);
        }
        let body = match self.protocol {
            Protocol::AwsJson10 | Protocol::AwsJson11 | Protocol::RestJson1 => json::to_vec(output),
            Protocol::RpcV2Cbor => cbor::to_vec(output),
            Protocol::Query | Protocol::Ec2Query => {
                let members = query::write_members(output, T::table());
                envelope::wrapped(self, &members).into_bytes()
            }
        };
        self.with_body(body)
    }

    /// The answer with a body that is written already, in the call's protocol.
    pub fn written_answer(&self, body: Vec<u8>) -> Answer {
        self.with_body(body)
    }

    /// The answer of an operation that has nothing to say.
    pub fn empty_answer(&self) -> Answer {
        match self.protocol {
            Protocol::Query | Protocol::Ec2Query => {
                self.with_body(envelope::wrapped(self, "").into_bytes())
            }
            Protocol::RpcV2Cbor => self.with_body(vec![0xa0]),
            Protocol::AwsJson10 | Protocol::AwsJson11 => self.with_body(Vec::new()),
            Protocol::RestJson1 => Answer { status: self.operation.status, ..Answer::default() },
        }
    }

    fn with_body(&self, body: Vec<u8>) -> Answer {
        let mut headers = vec![];
        if self.protocol == Protocol::RpcV2Cbor {
            headers.push(SMITHY_PROTOCOL);
        }
        Answer {
            status: 200,
            content_type: Cow::Borrowed(self.protocol.content_type()),
            headers,
            body: Bytes::from(body),
        }
    }

    /// The refusal of an operation that the dispatcher does not know.
    pub fn not_available(&self) -> ApiError {
        self.service.unknown_operation(self.operation.name)
    }
}

const SMITHY_PROTOCOL: (HeaderName, HeaderValue) =
    (HeaderName::from_static("smithy-protocol"), HeaderValue::from_static("rpc-v2-cbor"));

/// The error for an input that could not be read.
pub fn malformed(protocol: Protocol, error: DecodeError) -> ApiError {
    let code = match protocol {
        Protocol::Query => "MalformedInput",
        Protocol::Ec2Query => "InvalidParameterValue",
        Protocol::AwsJson10 | Protocol::AwsJson11 | Protocol::RestJson1 | Protocol::RpcV2Cbor => {
            "SerializationException"
        }
    };
    ApiError::client(code, error.message)
}
