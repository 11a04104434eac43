//! The host that has a layer.
//!
//! **Invariant:** who asks names a digest, and never a file; and gets nothing but what a ticket of the region's grants to
//! the very certificate that it shows. So many are served at once, so much a second, and nobody for ever.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::net::{IpAddr, SocketAddrV4};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use longshore_types::Digest;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use trust::{LayerTicket, shown};

use super::{LINE_BYTES_MAX, LayerSharing, held};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 16;
/// Of those, from one address: as many as a pull has.
const CONNECTIONS_OF_HOST_MAX: usize = 8;
/// For the handshake, and again for the question.
const QUESTION: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// For each piece to leave.
const PIECE: Duration = Duration::from_secs(10);
/// For all of a layer.
const LAYER: Duration = Duration::from_secs(3_600);
const PIECE_BYTES: u64 = 256 << 10;
/// Packets of lower effort (class selector 1): on a line that is full, tasks' go first where anybody looks at it.
const TYPE_OF_SERVICE: u32 = 0x20;
/// How soon it is tried again to listen.
const BIND_AGAIN: Duration = Duration::from_secs(15);

/// Why somebody was given nothing, or not all.
#[derive(Debug, thiserror::Error)]
enum NotGiven {
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("too slow to {0}")]
    Slow(&'static str),
    #[error("refused: {0}")]
    Refused(String),
    #[error("the connection broke")]
    Broke(#[from] io::Error),
}

pub(super) async fn serve(sharing: &Arc<LayerSharing>, address: SocketAddrV4) -> Infallible {
    let config = match sharing.identity.server_config() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "layers are not given to other hosts");
            std::future::pending().await
        }
    };
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut is_told = false;
    let listener = loop {
        match listen(address) {
            Ok(listener) => break listener,
            Err(error) if !is_told => {
                is_told = true;
                tracing::warn!(%address, %error, "layers are neither given to other hosts nor taken from them yet: cannot listen");
            }
            Err(_) => {}
        }
        sleep(BIND_AGAIN).await;
    };
    let port = listener.local_addr().map_or(address.port(), |it| it.port());
    sharing.port.store(port, Ordering::Relaxed);
    tracing::info!(address = %address.ip(), port, "layers are given to other hosts of the region");
    accept(sharing, &listener, &acceptor).await
}

fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // Connections have it from the socket that accepts them.
    socket.set_tos_v4(TYPE_OF_SERVICE)?;
    socket.bind(address.into())?;
    socket.listen(64)
}

async fn accept(
    sharing: &Arc<LayerSharing>,
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
) -> Infallible {
    let (places, pace) = (Arc::<Places>::default(), Arc::new(Pace::of(sharing)));
    let mut served = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = served.join_next() => continue,
        };
        let Ok((stream, from)) = accepted else {
            // There are no descriptors; others will be let go.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(place) = Place::take(&places, from.ip()) else {
            tracing::debug!(%from, "there are too many who ask for layers");
            continue;
        };
        let (sharing, acceptor) = (Arc::clone(sharing), acceptor.clone());
        let pace = Arc::clone(&pace);
        served.spawn(async move {
            let _place = place;
            let given = timeout(LAYER, give(&sharing, &acceptor, &pace, stream));
            match given.await.unwrap_or(Err(NotGiven::Slow("take a layer"))) {
                Ok((layer, bytes)) => {
                    tracing::info!(%layer, bytes, to = %from.ip(), "layer given to another host");
                }
                Err(why) => {
                    tracing::debug!(%from, why = %longshore_types::Chain(&why), "layer not given");
                }
            }
        });
    }
}

/// Who is served at the moment.
#[derive(Default)]
struct Places(Mutex<BTreeMap<IpAddr, usize>>);

struct Place {
    places: Arc<Places>,
    of: IpAddr,
}

impl Place {
    fn take(places: &Arc<Places>, of: IpAddr) -> Option<Self> {
        let mut taken = held(&places.0);
        let all: usize = taken.values().sum();
        let its = taken.get(&of).copied().unwrap_or_default();
        if all >= CONNECTIONS_MAX || its >= CONNECTIONS_OF_HOST_MAX {
            return None;
        }
        taken.insert(of, its + 1);
        Some(Self { places: Arc::clone(places), of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = held(&self.places.0);
        if let Some(its) = taken.get_mut(&self.of) {
            *its -= 1;
            if *its == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

/// So many bytes a second over all connections.
struct Pace {
    bytes_per_second: u64,
    free_at: Mutex<Instant>,
}

impl Pace {
    fn of(sharing: &LayerSharing) -> Self {
        let bytes_per_second = sharing.config.bytes_per_second_max.max(1);
        Self { bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits for its turn.
    async fn take(&self, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let at = {
            let mut free_at = held(&self.free_at);
            let at = (*free_at).max(Instant::now());
            *free_at = at + takes;
            at
        };
        sleep_until(at).await;
    }
}

async fn give(
    sharing: &LayerSharing,
    acceptor: &TlsAcceptor,
    pace: &Pace,
    stream: TcpStream,
) -> Result<(Digest, u64), NotGiven> {
    stream.set_nodelay(true)?;
    let accepted = timeout(QUESTION, acceptor.accept(stream)).await;
    let stream = accepted.map_err(|_| NotGiven::Slow("agree on keys"))?.map_err(NotGiven::Tls)?;
    let asker = shown(stream.get_ref().1.peer_certificates());
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let question = (&mut stream).take(LINE_BYTES_MAX);
    let mut question = BufReader::with_capacity(1, question);
    let read = timeout(QUESTION, question.read_line(&mut line)).await;
    read.map_err(|_| NotGiven::Slow("ask"))??;
    let granted = asker.ok_or("no certificate".to_owned()).and_then(|asker| {
        let asked = Asked::parse(&line).ok_or("not a question that is understood")?;
        let checked = sharing.check(&asked.ticket, &asked.layer, &asker);
        checked.map(|()| asked).map_err(|why| why.to_string())
    });
    let opened = granted.and_then(|asked| match sharing.offered.open_layer(&asked.layer) {
        Ok(Some((file, bytes))) if asked.offset < bytes => Ok((asked, file, bytes)),
        Ok(Some(_)) => Err("there is nothing beyond its end".to_owned()),
        Ok(None) => Err("it is not here any more".to_owned()),
        Err(_) => Err("it cannot be read".to_owned()),
    });
    let (asked, file, bytes) = match opened {
        Ok(opened) => opened,
        Err(why) => {
            send(&mut stream, format!("no {why}\n").as_bytes()).await?;
            timeout(PIECE, stream.shutdown()).await.ok();
            return Err(NotGiven::Refused(why));
        }
    };
    let left = bytes - asked.offset;
    send(&mut stream, format!("ok {left}\n").as_bytes()).await?;
    pour(sharing, pace, (file, asked.offset, left), &mut stream).await?;
    timeout(PIECE, stream.shutdown()).await.map_err(|_| NotGiven::Slow("hear the end"))??;
    Ok((asked.layer, left))
}

type Stream = BufReader<tokio_rustls::server::TlsStream<TcpStream>>;

async fn send(stream: &mut Stream, bytes: &[u8]) -> Result<(), NotGiven> {
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    Ok(timeout(PIECE, sent).await.map_err(|_| NotGiven::Slow("take a piece"))??)
}

async fn pour(
    sharing: &LayerSharing,
    pace: &Pace,
    (mut file, offset, mut left): (File, u64, u64),
    stream: &mut Stream,
) -> Result<(), NotGiven> {
    file.seek(io::SeekFrom::Start(offset))?;
    while left > 0 {
        let length = left.min(PIECE_BYTES);
        let (back, piece) = read_piece(file, length).await?;
        file = back;
        pace.take(length).await;
        send(stream, &piece).await?;
        sharing.given.fetch_add(length, Ordering::Relaxed);
        left -= length;
    }
    Ok(())
}

async fn read_piece(mut file: File, length: u64) -> io::Result<(File, Bytes)> {
    let read = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; usize::try_from(length).expect("a piece fits in memory")];
        file.read_exact(&mut piece)?;
        Ok((file, Bytes::from(piece)))
    });
    read.await.unwrap_or_else(|_| Err(io::Error::other("a worker died")))
}

/// What somebody wants.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    layer: Digest,
    offset: u64,
    ticket: LayerTicket,
}

impl Asked {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_suffix('\n')?.split(' ');
        let is_known = words.next() == Some("layer1");
        let layer = words.next()?.parse().ok()?;
        let offset = words.next().filter(|it| it.bytes().all(|it| it.is_ascii_digit()))?;
        let offset = offset.parse().ok()?;
        let ticket = words.next()?.parse().ok()?;
        (is_known && words.next().is_none()).then_some(Self { layer, offset, ticket })
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::{SeededEnv, Timestamp};
    use trust::{Fingerprint, TicketKey};

    use super::*;

    #[test]
    fn a_question_names_a_digest_and_nothing_else() {
        let layer = Digest::Sha256([7; 32]);
        let key = TicketKey::mint(&SeededEnv::from_seed(1));
        let ticket = key.grant(&layer, &Fingerprint::of(b"a"), Timestamp(5));
        let line = format!("layer1 {layer} 12 {ticket}\n");
        assert_eq!(Asked::parse(&line), Some(Asked { layer, offset: 12, ticket: ticket.clone() }));
        let hex = layer.hex();
        for bad in [
            String::new(),
            line.trim_end().to_owned(),
            line.replace("layer1", "layer2"),
            line.replace(&layer.to_string(), "../../../etc/shadow"),
            line.replace(&layer.to_string(), &format!("sha256:../{}", &hex[3..])),
            line.replace(
                &layer.to_string(),
                &format!("sha256:{}", hex.to_uppercase().replace('0', "g")),
            ),
            line.replace(&layer.to_string(), &format!("sha256-{hex}")),
            line.replace(" 12 ", " -1 "),
            line.replace(" 12 ", " +1 "),
            line.replace(" 12 ", "  "),
            line.replace(" 12 ", " 99999999999999999999 "),
            line.replace(&ticket.to_string(), "0.00"),
            line.replace('\n', " more\n"),
        ] {
            assert_eq!(Asked::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn one_host_takes_no_more_than_its_places_and_all_no_more_than_there_are() {
        let places = Arc::<Places>::default();
        let host = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut taken: Vec<_> =
            (0..CONNECTIONS_OF_HOST_MAX).map(|_| Place::take(&places, host(1)).unwrap()).collect();
        assert!(Place::take(&places, host(1)).is_none());
        let rest = CONNECTIONS_MAX - CONNECTIONS_OF_HOST_MAX;
        taken.extend((0..rest).map(|_| Place::take(&places, host(2)).unwrap()));
        assert!(Place::take(&places, host(3)).is_none());
        drop(taken);
        assert!(Place::take(&places, host(3)).is_some());
        assert!(held(&places.0).is_empty(), "what nobody has is forgotten");
    }
}
