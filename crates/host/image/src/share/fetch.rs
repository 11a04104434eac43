//! The host that lacks a layer: takes its bytes from another one, as far as that gives them.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trust::LayerHolder;

use super::{LINE_BYTES_MAX, LayerSharing};
use crate::blobs::{BlobError, BlobWriter, WriteBehind};
use crate::manifest::Descriptor;

/// Read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Why not all came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FromHost {
    /// The other host's doing: somebody else is asked.
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Blob(#[from] BlobError),
}

fn failed(why: impl Into<String>) -> FromHost {
    FromHost::Failed(why.into())
}

/// Takes from where the writer stands to the end, for as long as hosts have time. What was written is not verified. Gives the writer back unless a worker
/// died.
pub(crate) async fn fetch_rest(
    sharing: &LayerSharing,
    holder: &LayerHolder,
    layer: &Descriptor,
    writer: BlobWriter,
    (tell, until): (&(dyn Fn(u64) + Sync), Instant),
) -> (Option<BlobWriter>, Result<(), FromHost>) {
    match open(sharing, holder, layer, writer.written()).await {
        Ok(stream) => receive(sharing, layer, writer, stream, (tell, until)).await,
        Err(error) => (Some(writer), Err(error)),
    }
}

type Stream = BufReader<TlsStream<TcpStream>>;

/// Connects and asks; the layer's bytes come next.
async fn open(
    sharing: &LayerSharing,
    holder: &LayerHolder,
    layer: &Descriptor,
    offset: u64,
) -> Result<Stream, FromHost> {
    let LayerHolder { address, certificate, ticket } = holder;
    let (host, patience) = (address.ip().to_string(), sharing.patience);
    let refused = sharing.config.egress.denies(&host, address.port(), (*address.ip()).into());
    if let Some(why) = refused {
        return Err(failed(why));
    }
    let config = sharing.identity.client_config(*certificate);
    let config = config.map_err(|error| failed(error.to_string()))?;
    let connected = timeout(patience.connect, TcpStream::connect(*address)).await;
    sharing.reached(holder, matches!(connected, Ok(Ok(_))));
    let stream = connected
        .map_err(|_| failed("it does not accept connections"))?
        .map_err(|error| failed(error.to_string()))?;
    let name = ServerName::IpAddress((*address.ip()).into());
    let connector = TlsConnector::from(Arc::new(config));
    let stream = timeout(patience.answer, connector.connect(name, stream)).await;
    let stream = stream.map_err(|_| failed("it does not agree on keys"))?;
    let mut stream = BufReader::new(stream.map_err(|error| failed(error.to_string()))?);
    let question = format!("layer1 {} {offset} {ticket}\n", layer.digest);
    let asked = async {
        stream.write_all(question.as_bytes()).await?;
        stream.flush().await?;
        let mut line = Vec::new();
        (&mut stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        std::io::Result::Ok(line)
    };
    let answered = timeout(patience.answer, asked).await;
    let answered = answered.map_err(|_| failed("it does not answer"))?;
    let answer = answered.map_err(|error| failed(error.to_string()))?;
    let answer = String::from_utf8_lossy(&answer);
    let bytes = answer.strip_prefix("ok ").and_then(|it| it.strip_suffix('\n')?.parse().ok());
    match bytes {
        Some(bytes) if layer.size.checked_sub(offset) == Some(bytes) => Ok(stream),
        Some(bytes) => Err(failed(format!("it has {bytes} bytes from {offset} of {}", layer.size))),
        None => Err(failed(format!("it answered {:?}", answer.trim_end()))),
    }
}

/// Hands what comes to a thread that hashes and writes it.
async fn receive(
    sharing: &LayerSharing,
    layer: &Descriptor,
    writer: BlobWriter,
    mut stream: Stream,
    (tell, until): (&(dyn Fn(u64) + Sync), Instant),
) -> (Option<BlobWriter>, Result<(), FromHost>) {
    let mut total = writer.written();
    let behind = WriteBehind::start(writer);
    let patience = sharing.patience;
    let (mut ends_at, mut came) = (Instant::now() + patience.window, 0);
    let received = loop {
        let Some(lacking) = layer.size.checked_sub(total).filter(|it| *it > 0) else {
            break Ok(());
        };
        if until <= Instant::now() {
            break Err(failed("the time for layers from hosts is over"));
        }
        let room = usize::try_from(lacking).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = BytesMut::with_capacity(room).limit(room);
        let waits = ends_at.min(Instant::now() + patience.idle).min(until);
        let length = match timeout_at(waits, stream.read_buf(&mut piece)).await {
            Ok(Ok(0)) => break Err(failed(format!("it sent {total} of {} bytes", layer.size))),
            Ok(Ok(length)) => u64::try_from(length).unwrap_or(u64::MAX),
            Ok(Err(error)) => break Err(failed(error.to_string())),
            Err(_) if until <= Instant::now() => continue,
            Err(_) if Instant::now() < ends_at => break Err(failed("it does not go on")),
            Err(_) => 0,
        };
        (total, came) = (total + length, came + length);
        if Instant::now() >= ends_at {
            if came < patience.window_bytes_min {
                break Err(failed("it is too slow"));
            }
            (ends_at, came) = (Instant::now() + patience.window, 0);
        }
        if length == 0 {
            continue;
        }
        sharing.count_taken(length);
        tell(total);
        if !behind.write(piece.into_inner().freeze()).await {
            break Ok(());
        }
    };
    behind.end(received).await
}
