//! The fluentd driver: each line a message of fluentd's forward protocol. FireLens is this, to a socket of the task's own.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connect::{self, Address, Open, Reach, Stream};
use super::msgpack::{Packed, member};
use super::tag::{self, RunAbout};
use super::{RemoteRun, Sink, SinkError};
use crate::logdriver::options::{boolean, mode, refuse_unknown};
use crate::logdriver::{LogEvent, OptionError};
use crate::ports::StdStream;

const PORT: u16 = 24_224;
const KNOWN: [&str; 18] = [
    "env",
    "env-regex",
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-connect",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-read-timeout",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
    "labels",
    "labels-regex",
    "max-buffer-size",
    "mode",
    "tag",
];
/// How long an acknowledgement may take.
const ACK: Duration = Duration::from_secs(30);

/// Where messages go and how.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) address: Address,
    tag: String,
    has_milliseconds: bool,
    wants_ack: bool,
    /// The container starts also while nobody listens.
    pub(super) is_async: bool,
}

impl Options {
    pub(super) fn read(run: &RemoteRun) -> Result<Self, OptionError> {
        let options = &run.options;
        refuse_unknown(options, &KNOWN, "fluentd")?;
        mode(options)?;
        let text = options.get("fluentd-address").map_or("127.0.0.1", String::as_str);
        let address = Address::parse(text, "tcp", PORT);
        let invalid = || OptionError::Address { key: "fluentd-address", value: text.to_owned() };
        let address =
            address.filter(|it| !matches!(it, Address::Udp { .. })).ok_or_else(invalid)?;
        Ok(Self {
            address,
            tag: tag::expand(options, &run.id, &run.about)?,
            has_milliseconds: boolean(options, "fluentd-sub-second-precision", false)?,
            wants_ack: boolean(options, "fluentd-request-ack", false)?,
            is_async: boolean(options, "fluentd-async", false)?
                || boolean(options, "fluentd-async-connect", false)?,
        })
    }

    /// To a task's own router, whatever its outputs are.
    pub(super) fn of_firelens(socket: PathBuf, tag: String) -> Self {
        Self {
            address: Address::Unix(socket),
            tag,
            has_milliseconds: true,
            wants_ack: false,
            is_async: true,
        }
    }
}

pub(super) struct Fluentd {
    options: Options,
    run: RemoteRun,
    reach: Reach,
    stream: Option<Box<dyn Stream>>,
}

impl Fluentd {
    pub(super) fn new(options: Options, run: RemoteRun, reach: Reach) -> Self {
        Self { options, run, reach, stream: None }
    }

    async fn write(&mut self, events: &[LogEvent]) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => match connect::open(&self.options.address, &self.reach, None).await? {
                Open::Stream(stream) => stream,
                Open::Udp(_) | Open::Unixgram(_) => {
                    return Err(io::Error::other("fluentd is spoken to over a stream"));
                }
            },
        };
        let (bytes, chunks) = self.encode(events);
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        for chunk in chunks {
            acknowledged(&mut stream, &chunk).await?;
        }
        // Kept only if all went well: after a failure nobody knows where the other side is.
        self.stream = Some(stream);
        Ok(())
    }

    fn encode(&self, events: &[LogEvent]) -> (Vec<u8>, Vec<String>) {
        let mut packed = Packed::default();
        let mut chunks = Vec::new();
        for event in events {
            packed.array(if self.options.wants_ack { 4 } else { 3 });
            packed.text(&self.options.tag);
            if self.options.has_milliseconds {
                packed.moment(event.at.0);
            } else {
                packed.number(event.at.0 / 1000);
            }
            self.record(&mut packed, event);
            if self.options.wants_ack {
                let chunk = self.chunk(event);
                packed.map(1);
                packed.text("chunk");
                packed.text(&chunk);
                chunks.push(chunk);
            }
        }
        (packed.0, chunks)
    }

    fn record(&self, packed: &mut Packed, event: &LogEvent) {
        let RunAbout { name, extra, .. } = &self.run.about;
        let source = match event.stream {
            StdStream::Stdout => "stdout",
            StdStream::Stderr => "stderr",
        };
        let own = [
            ("container_id", self.run.id.as_str()),
            ("container_name", name.as_str()),
            ("source", source),
            ("log", event.text.as_str()),
        ];
        packed.map(own.len() + extra.len());
        for (key, value) in own {
            packed.text(key);
            packed.text(value);
        }
        for (key, value) in extra {
            packed.text(key);
            packed.text(value);
        }
    }

    /// A name for a message that is the same when it is sent again.
    fn chunk(&self, event: &LogEvent) -> String {
        let mut hash = Sha256::new();
        hash.update(self.run.id.as_bytes());
        hash.update(serde_json::to_vec(&event.reach).unwrap_or_default());
        base64::engine::general_purpose::STANDARD.encode(&hash.finalize()[..16])
    }
}

async fn acknowledged(stream: &mut Box<dyn Stream>, chunk: &str) -> io::Result<()> {
    let mut answer = Vec::new();
    let reading = async {
        loop {
            let mut bytes = [0; 64];
            let count = stream.read(&mut bytes).await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            answer.extend_from_slice(&bytes[..count]);
            if member(&answer, "ack").as_deref() == Some(chunk) {
                return Ok(());
            }
            if 4_096 < answer.len() {
                return Err(io::Error::other("the acknowledgement is of something else"));
            }
        }
    };
    match tokio::time::timeout(ACK, reading).await {
        Ok(read) => read,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no acknowledgement")),
    }
}

impl Sink for Fluentd {
    fn send<'a>(&'a mut self, events: &'a [LogEvent]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.write(events).await.map_err(|why| SinkError::Unreachable {
                address: self.options.address.to_string(),
                why,
            })
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            if self.options.is_async {
                return Ok(());
            }
            self.write(&[]).await.map_err(|why| SinkError::Unreachable {
                address: self.options.address.to_string(),
                why,
            })
        })
    }
}
