//! What a peer is told that does not keep to the rules of websockets, before its socket ends.

use std::time::Duration;

use futures_util::SinkExt as _;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::handshake::Socket;

/// How long a peer may take to hear why its socket ends.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Ends a socket by a close frame, as far as its peer takes one.
pub(super) async fn close(socket: &mut Socket, code: CloseCode, reason: &str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let _ = timeout(GOODBYE_MAX, socket.close(Some(frame))).await;
}

/// Sends the answer to a peer's close frame: it leaves with the next that is sent, and nothing else will be.
pub(super) async fn answer_close(socket: &mut Socket) {
    let _ = timeout(GOODBYE_MAX, socket.flush()).await;
}

/// Ends a socket by which nothing can be read any more; one that is torn hears nothing.
pub(super) async fn after(socket: &mut Socket, error: &SocketError) {
    if let Some((code, reason)) = fault(error) {
        close(socket, code, reason).await;
    }
}

/// What the peer did wrong, if it was the peer.
fn fault(error: &SocketError) -> Option<(CloseCode, &'static str)> {
    match error {
        SocketError::Capacity(_) => Some((CloseCode::Size, "a frame is too large")),
        SocketError::Utf8(_) => Some((CloseCode::Invalid, "a text is no UTF-8")),
        SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        SocketError::Protocol(_) => Some((CloseCode::Protocol, "a frame breaks the protocol")),
        SocketError::ConnectionClosed
        | SocketError::AlreadyClosed
        | SocketError::Io(_)
        | SocketError::Tls(_)
        | SocketError::WriteBufferFull(_)
        | SocketError::AttackAttempt
        | SocketError::Url(_)
        | SocketError::Http(_)
        | SocketError::HttpFormat(_) => None,
    }
}
