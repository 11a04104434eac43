//! The gelf driver: each line a message of Graylog's extended log format, by UDP in chunks or by TCP.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::connect::{self, Address, Open, Reach};
use super::tag;
use super::{RemoteRun, Sink, SinkError};
use crate::logdriver::options::{mode, refuse_unknown};
use crate::logdriver::{LogEvent, OptionError};
use crate::ports::StdStream;

const PORT: u16 = 12_201;
const KNOWN: [&str; 12] = [
    "env",
    "env-regex",
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
    "labels",
    "labels-regex",
    "max-buffer-size",
    "mode",
    "tag",
];
/// What fits into a packet of most networks, with the chunk's head.
const CHUNK_BYTES: usize = 1_420;
const CHUNKS_MAX: usize = 128;
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip(u32),
    Zlib(u32),
    Plain,
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    address: Address,
    packing: Packing,
    tag: String,
}

impl Options {
    pub(super) fn read(run: &RemoteRun) -> Result<Self, OptionError> {
        let options = &run.options;
        refuse_unknown(options, &KNOWN, "gelf")?;
        mode(options)?;
        let get = |key: &str| options.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let text = get("gelf-address").ok_or(OptionError::Missing { key: "gelf-address" })?;
        let invalid = || OptionError::Address { key: "gelf-address", value: text.to_owned() };
        if !text.starts_with("udp://") && !text.starts_with("tcp://") {
            return Err(invalid());
        }
        let address = Address::parse(text, "", PORT).ok_or_else(invalid)?;
        let level = match get("gelf-compression-level") {
            None => 1,
            Some(text) => text.parse().ok().filter(|level| *level <= 9).ok_or_else(|| {
                OptionError::Value { key: "gelf-compression-level", value: text.to_owned() }
            })?,
        };
        let packing = match get("gelf-compression-type") {
            None | Some("gzip") => Packing::Gzip(level),
            Some("zlib") => Packing::Zlib(level),
            Some("none") => Packing::Plain,
            Some(text) => {
                let value = text.to_owned();
                return Err(OptionError::Value { key: "gelf-compression-type", value });
            }
        };
        Ok(Self { address, packing, tag: tag::expand(options, &run.id, &run.about)? })
    }
}

pub(super) struct Gelf {
    options: Options,
    run: RemoteRun,
    reach: Reach,
    open: Option<Open>,
}

impl Gelf {
    pub(super) fn new(options: Options, run: RemoteRun, reach: Reach) -> Self {
        Self { options, run, reach, open: None }
    }

    async fn write(&mut self, events: &[LogEvent]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => connect::open(&self.options.address, &self.reach, None).await?,
        };
        match &mut open {
            Open::Stream(stream) => {
                // Each message ends with a zero, and is not packed.
                let mut all = Vec::new();
                for event in events {
                    all.extend_from_slice(self.message(event).to_string().as_bytes());
                    all.push(0);
                }
                stream.write_all(&all).await?;
                stream.flush().await?;
            }
            Open::Udp(socket) => {
                for event in events {
                    let message = self.message(event).to_string();
                    for chunk in chunks(&pack(self.options.packing, message.as_bytes())?) {
                        socket.send(&chunk).await?;
                    }
                }
            }
            Open::Unixgram(_) => return Err(io::Error::other("gelf is sent by UDP or TCP")),
        }
        self.open = Some(open);
        Ok(())
    }

    fn message(&self, event: &LogEvent) -> Value {
        let RemoteRun { id, about, .. } = &self.run;
        let level = match event.stream {
            StdStream::Stdout => INFORMATION,
            StdStream::Stderr => ERROR,
        };
        let mut message = Map::new();
        let own = json!({
            "version": "1.1",
            "host": about.host,
            "short_message": event.text,
            "timestamp": seconds(event.at.0),
            "level": level,
            "_command": about.command,
            "_container_id": id,
            "_container_name": about.name,
            "_created": about.created,
            "_image_id": about.image_id,
            "_image_name": about.image,
            "_tag": self.options.tag,
        });
        for (key, value) in &about.extra {
            message.insert(format!("_{key}"), value.clone().into());
        }
        if let Value::Object(own) = own {
            message.extend(own);
        }
        Value::Object(message)
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit a double exactly")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn pack(packing: Packing, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match packing {
        Packing::Plain => Ok(bytes.to_vec()),
        Packing::Gzip(level) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Packing::Zlib(level) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(bytes)?;
            encoder.finish()
        }
    }
}

/// One packet, or chunks with a head that says which message they are of. What is longer than so many is cut off.
fn chunks(bytes: &[u8]) -> Vec<Vec<u8>> {
    if bytes.len() <= CHUNK_BYTES {
        return vec![bytes.to_vec()];
    }
    let id = Sha256::digest(bytes);
    let parts: Vec<&[u8]> = bytes.chunks(CHUNK_BYTES - 12).take(CHUNKS_MAX).collect();
    let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
    let chunk = |(number, part): (u8, &&[u8])| {
        let mut chunk = vec![0x1e, 0x0f];
        chunk.extend_from_slice(&id[..8]);
        chunk.extend_from_slice(&[number, count]);
        chunk.extend_from_slice(part);
        chunk
    };
    (0..).zip(parts.iter()).map(chunk).collect()
}

impl Sink for Gelf {
    fn send<'a>(&'a mut self, events: &'a [LogEvent]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.write(events).await.map_err(|why| SinkError::Unreachable {
                address: self.options.address.to_string(),
                why,
            })
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.send(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_long_message_goes_in_chunks_of_one_name() {
        let bytes: Vec<u8> = (0..4_000_u32).flat_map(u32::to_be_bytes).collect();
        let chunks = chunks(&bytes);
        assert!(
            chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES && chunk[..2] == [0x1e, 0x0f])
        );
        assert!(chunks.iter().all(|chunk| chunk[2..10] == chunks[0][2..10]));
        let whole: Vec<u8> = chunks.iter().flat_map(|chunk| chunk[12..].to_vec()).collect();
        assert_eq!(whole, bytes);
        let numbers: Vec<u8> = chunks.iter().map(|chunk| chunk[10]).collect();
        assert!(numbers.iter().copied().eq(0..chunks[0][11]));
        assert_eq!(super::chunks(b"short"), [b"short"]);
    }

    #[test]
    fn packed_bytes_are_read_by_whoever_knows_the_packing() {
        let packed = pack(Packing::Gzip(1), b"hello").unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(pack(Packing::Plain, b"hello").unwrap(), b"hello");
        assert_eq!(pack(Packing::Zlib(9), b"hello").unwrap()[0], 0x78);
    }
}
