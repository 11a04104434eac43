//! An open work socket: text frames in and out, and how it ends.

use std::time::Duration;

use acs::frame;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::Api;
use crate::limits::FRAME_LEAVES_MS_MAX;
use crate::socket::{self, Ended, Socket, classify};

const EXPIRED: &str = "ConnectionExpired: Reconnect to continue";

/// What comes over a work socket.
#[derive(Debug)]
pub(super) enum Frame {
    Text(String),
    /// The region has had what was sent then.
    Pong {
        sent_ms: u64,
    },
    /// Nothing but a sign of life.
    Other,
}

/// One session's socket.
#[derive(Debug)]
pub struct WorkSocket {
    socket: Socket,
}

impl WorkSocket {
    /// Opens the socket of an instance, at the endpoint that DiscoverPollEndpoint named.
    pub async fn open(
        api: &Api,
        endpoint: &str,
        cluster: &str,
        instance: &str,
        wants_credentials: bool,
    ) -> Result<Self, Ended> {
        let runtime = format!("DockerVersion: {}", api.runtime());
        let query = [
            ("agentHash", crate::AGENT_HASH),
            ("agentVersion", crate::AGENT_VERSION),
            ("clusterArn", cluster),
            ("containerInstanceArn", instance),
            ("dockerVersion", &*runtime),
            ("protocolVersion", "2"),
            ("sendCredentials", if wants_credentials { "true" } else { "false" }),
            ("seqNum", "1"),
        ];
        let uri = socket::socket_uri(endpoint, &query)?;
        Ok(Self { socket: socket::connect(api, &uri).await? })
    }

    /// The next text; may be dropped while it waits, and nothing is lost.
    pub async fn next(&mut self) -> Result<String, Ended> {
        loop {
            if let Some(text) = classify(self.socket.next().await)? {
                return Ok(text);
            }
        }
    }

    /// The next frame. May be dropped as [`WorkSocket::next`] may.
    pub(super) async fn next_frame(&mut self) -> Result<Frame, Ended> {
        match self.socket.next().await {
            Some(Ok(Message::Pong(payload))) => Ok(match <[u8; 8]>::try_from(payload.as_ref()) {
                Ok(sent_ms) => Frame::Pong { sent_ms: u64::from_be_bytes(sent_ms) },
                Err(_) => Frame::Other,
            }),
            frame => Ok(classify(frame)?.map_or(Frame::Other, Frame::Text)),
        }
    }

    /// Asks whether the region is there: it answers with a pong that says when it was asked.
    pub(super) async fn ping(&mut self, now_ms: u64) -> Result<(), Ended> {
        self.leave(Message::Ping(Bytes::copy_from_slice(&now_ms.to_be_bytes()))).await
    }

    async fn leave(&mut self, message: Message) -> Result<(), Ended> {
        match timeout(Duration::from_millis(FRAME_LEAVES_MS_MAX), self.socket.send(message)).await {
            Ok(sent) => sent.map_err(|error| Ended::Failed(error.to_string())),
            Err(_) => Err(Ended::Starved),
        }
    }

    /// Sends one message.
    pub async fn send<T: Serialize>(
        &mut self,
        kind: &'static str,
        message: &T,
    ) -> Result<(), Ended> {
        self.send_text(frame(kind, message)).await
    }

    pub(super) async fn send_text(&mut self, text: String) -> Result<(), Ended> {
        self.leave(Message::text(text)).await
    }

    /// Ends the session as agents do whose session has lasted long enough.
    pub async fn expire(&mut self) -> Ended {
        let frame = CloseFrame { code: CloseCode::Normal, reason: EXPIRED.into() };
        let _ = self.socket.close(Some(frame)).await;
        Ended::Orderly
    }
}
