//! What the work socket and the telemetry socket have in common: connecting, and how it ended.

use std::fmt::Debug;
use std::time::Duration;

use http::{HeaderMap, Request, Uri, header};
use longshore_types::Chain;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::client::Api;
use crate::limits::{FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT_MS, READ_BUFFER_BYTES};

pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// What a socket's bytes go over: TCP, with or without TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Wire for T {}

/// How a session ended, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Closed as sessions are, or its time was up: connect again at once.
    Orderly,
    /// Nothing was heard for too long.
    Starved,
    /// The region says that it knows no such instance any more.
    Inactive,
    /// Anything else, in words.
    Failed(String),
}

/// An endpoint that is no address of a socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadEndpoint {
    #[error("{endpoint} has no scheme")]
    NoScheme { endpoint: String },
    #[error("{endpoint}: {scheme} is not supported")]
    Scheme { endpoint: String, scheme: String },
    #[error("{text}: {why}")]
    Uri { text: String, why: http::uri::InvalidUri },
}

impl From<BadEndpoint> for Ended {
    fn from(why: BadEndpoint) -> Self {
        Self::Failed(why.to_string())
    }
}

/// The address of a socket: `http` becomes `ws`, and a path is kept.
pub(crate) fn socket_uri(endpoint: &str, query: &[(&str, &str)]) -> Result<Uri, BadEndpoint> {
    let (scheme, rest) = endpoint
        .split_once("://")
        .ok_or_else(|| BadEndpoint::NoScheme { endpoint: endpoint.to_owned() })?;
    let scheme = match scheme {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        other => {
            let (endpoint, scheme) = (endpoint.to_owned(), other.to_owned());
            return Err(BadEndpoint::Scheme { endpoint, scheme });
        }
    };
    let mut text = format!("{scheme}://{}/ws?", rest.trim_end_matches('/'));
    for (position, (name, value)) in query.iter().enumerate() {
        if position > 0 {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text.parse().map_err(|why| BadEndpoint::Uri { text, why })
}

/// Opens a signed socket.
pub(crate) async fn connect(api: &Api, uri: &Uri) -> Result<Socket, Ended> {
    let timeout = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);
    match tokio::time::timeout(timeout, handshake(api, uri)).await {
        Ok(result) => result,
        Err(_) => Err(Ended::Failed(format!("no handshake within {timeout:?}"))),
    }
}

async fn handshake(api: &Api, uri: &Uri) -> Result<Socket, Ended> {
    let failed = |why: &dyn std::fmt::Display| Ended::Failed(why.to_string());
    let credentials = api.credentials().map_err(|error| failed(&error))?;
    let authority = uri.authority().ok_or_else(|| failed(&"no host"))?;
    let is_secure = uri.scheme_str() == Some("wss");
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, port)).await.map_err(|error| failed(&error))?;
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Wire> = if is_secure {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let connected = TlsConnector::from(api.tls()).connect(name, stream).await;
        Box::new(connected.map_err(|error| failed(&error))?)
    } else {
        Box::new(stream)
    };
    let mut headers = HeaderMap::new();
    let offset_ms = api.offset_ms();
    api.sign("GET", uri, &mut headers, b"", &credentials, "ecs");
    let mut request = Request::builder()
        .uri(uri)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .body(())
        .map_err(|error| failed(&error))?;
    request.headers_mut().extend(headers);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let socket = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    match socket {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            // Whose time was wrong finds it right when it comes again. Nobody but the region says what time it is.
            if api.is_at(authority.as_str()) {
                api.correct(&exception(body), answer.headers(), offset_ms);
            }
            Err(refused(answer.status().as_u16(), &String::from_utf8_lossy(body)))
        }
        Err(error) => Err(failed(&Chain(&error))),
    }
}

/// The name of the exception in a refusal, `{"<name>":"text"}` or as the API says it.
fn exception(body: &[u8]) -> String {
    let said: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).unwrap_or_default();
    let named = said.get("__type").and_then(|it| it.as_str());
    let name = named.or_else(|| said.keys().next().map(String::as_str)).unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().to_owned()
}

fn refused(status: u16, body: &str) -> Ended {
    if body.contains("InactiveInstanceException") {
        return Ended::Inactive;
    }
    Ended::Failed(format!(
        "handshake answered {status}: {}",
        body.chars().take(300).collect::<String>()
    ))
}

/// What a received frame, or the lack of one, means for the session.
pub(crate) fn classify(frame: Option<Result<Message, WsError>>) -> Result<Option<String>, Ended> {
    match frame {
        None => Err(Ended::Orderly),
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        // Pings are answered below us, and are no sign of life.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Binary(_))) => {
            Ok(None)
        }
        Some(Ok(Message::Close(frame))) => Err(match frame {
            None => Ended::Orderly,
            Some(frame) => match frame.code {
                CloseCode::Normal | CloseCode::Away | CloseCode::Abnormal | CloseCode::Error => {
                    Ended::Orderly
                }
                code if frame.reason.contains("InactiveInstanceException") => {
                    let _ = code;
                    Ended::Inactive
                }
                code => Ended::Failed(format!("closed with {code}: {}", frame.reason)),
            },
        }),
        Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => Err(Ended::Orderly),
        Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
            Err(Ended::Orderly)
        }
        Some(Err(WsError::Io(error)))
            if matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::BrokenPipe
            ) =>
        {
            Err(Ended::Orderly)
        }
        Some(Err(error)) => Err(Ended::Failed(Chain(&error).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sockets_address_keeps_the_endpoints_path_and_encodes_the_query() {
        let uri = socket_uri("http://h:1/acs/", &[("a", "x y"), ("b", "arn:1/2")]).unwrap();
        assert_eq!(uri.to_string(), "ws://h:1/acs/ws?a=x%20y&b=arn%3A1%2F2");
        assert_eq!(socket_uri("https://h", &[]).unwrap().scheme_str(), Some("wss"));
        assert!(socket_uri("ftp://h", &[]).is_err());
    }

    #[test]
    fn a_refusal_names_its_exception_in_either_way() {
        assert_eq!(
            exception(br#"{"__type":"x#InvalidSignatureException","message":"no"}"#),
            "InvalidSignatureException"
        );
        assert_eq!(exception(br#"{"AccessDeniedException":"no"}"#), "AccessDeniedException");
        assert_eq!(exception(b"<html>"), "");
    }

    #[test]
    fn an_inactive_instance_is_told_apart() {
        assert_eq!(refused(400, "{\"InactiveInstanceException\":\"gone\"}"), Ended::Inactive);
        assert!(matches!(refused(403, "no"), Ended::Failed(_)));
    }
}
