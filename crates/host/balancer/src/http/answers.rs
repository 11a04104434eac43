//! Answers that the balancer makes itself.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SERVER};
use http::{HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::body::AnswerBody;

/// Why the balancer answers by itself; what it says of it in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Malformed, ambiguous, or beyond a limit.
    BadRequest,
    /// In the clear, where TLS is spoken.
    Plain,
    UriTooLong,
    MethodNotAllowed,
    /// A transfer encoding that is not `chunked`.
    NotImplemented,
    /// The client stopped sending its body.
    ClientSilent,
    /// `X-Forwarded-For` holds too many addresses.
    TooManyForwarded,
    /// The group's protocol version does not fit the request's.
    WrongProtocol,
    RedirectTooLong,
    /// A version of HTTP that the connection does not speak.
    WrongVersion,
    /// The target refused, cut off, or sent what is no HTTP.
    BadGateway,
    /// There is no target.
    Unavailable,
    /// The target did not answer in time.
    GatewayTimeout,
}

impl Failure {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::BadRequest | Self::Plain => 400,
            Self::MethodNotAllowed => 405,
            Self::ClientSilent => 408,
            Self::UriTooLong => 414,
            Self::TooManyForwarded => 463,
            Self::WrongProtocol => 464,
            Self::NotImplemented => 501,
            Self::BadGateway => 502,
            Self::Unavailable => 503,
            Self::GatewayTimeout => 504,
            Self::WrongVersion => 505,
            Self::RedirectTooLong => 507,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::BadRequest | Self::Plain => "400 Bad Request",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::ClientSilent => "408 Request Time-out",
            Self::UriTooLong => "414 Request-URI Too Large",
            // They have no page, and no words.
            Self::TooManyForwarded | Self::WrongProtocol => "",
            Self::NotImplemented => "501 Not Implemented",
            Self::BadGateway => "502 Bad Gateway",
            Self::Unavailable => "503 Service Temporarily Unavailable",
            Self::GatewayTimeout => "504 Gateway Time-out",
            Self::WrongVersion => "505 HTTP Version Not Supported",
            Self::RedirectTooLong => "507 Insufficient Storage",
        }
    }

    /// Whether what else is on the connection can still be told apart.
    fn ends_connection(self) -> bool {
        match self {
            Self::BadRequest
            | Self::Plain
            | Self::ClientSilent
            | Self::NotImplemented
            | Self::UriTooLong
            | Self::WrongVersion => true,
            Self::MethodNotAllowed
            | Self::TooManyForwarded
            | Self::WrongProtocol
            | Self::BadGateway
            | Self::Unavailable
            | Self::GatewayTimeout
            | Self::RedirectTooLong => false,
        }
    }
}

const NAME: HeaderValue = HeaderValue::from_static("awselb/2.0");

const PLAIN: &str = "400 The plain HTTP request was sent to HTTPS port";

/// The page of a failure.
pub(crate) fn failure(why: Failure, is_h2: bool) -> Response<AnswerBody> {
    let text = why.text();
    let (title, more) = match why {
        Failure::Plain => (PLAIN, format!("<center>{}</center>\r\n", &PLAIN[4..])),
        _ => (text, String::new()),
    };
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{text}</h1></center>\r\n{more}</body>\r\n</html>\r\n"
    );
    let page = if text.is_empty() { String::new() } else { page };
    let mut answer = plain(why.code(), Some("text/html"), page.into());
    if why.ends_connection() && !is_h2 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// A `fixed-response`.
pub(crate) fn plain(code: u16, content_type: Option<&str>, body: Bytes) -> Response<AnswerBody> {
    let length = body.len();
    let mut answer = Response::new(AnswerBody::full(body));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set_reason(&mut answer);
    let headers = answer.headers_mut();
    headers.insert(SERVER, NAME);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(kind) = content_type.and_then(|kind| HeaderValue::from_str(kind).ok()) {
        headers.insert(CONTENT_TYPE, kind);
    }
    answer
}

/// A status of which no words are known is sent without any.
pub(super) fn set_reason<B>(answer: &mut Response<B>) {
    if answer.status().canonical_reason().is_none()
        && answer.extensions().get::<ReasonPhrase>().is_none()
    {
        answer.extensions_mut().insert(ReasonPhrase::from_static(b""));
    }
}

/// A redirect; one whose address is no header's value is a fault of the rule.
pub(crate) fn redirect(code: u16, location: &str) -> Result<Response<AnswerBody>, Failure> {
    let location = HeaderValue::from_str(location).map_err(|_| Failure::BadRequest)?;
    let text = if code == 301 { "301 Moved Permanently" } else { "302 Found" };
    let page = format!(
        "<html>\r\n<head><title>{text}</title></head>\r\n<body>\r\n<center><h1>{text}</h1></center>\r\n</body>\r\n</html>\r\n"
    );
    let mut answer = plain(code, Some("text/html"), page.into());
    answer.headers_mut().insert(http::header::LOCATION, location);
    Ok(answer)
}
