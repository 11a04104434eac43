//! The json-file driver: a file a run, in Docker's own format, rotated by size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tracing::{error, warn};

use super::Pipeline;
use super::options::JsonOptions;
use crate::seams::{OutputItem, Piece, StdStream};

/// The position is written down when nothing came for this long, or so much came.
const SETTLE_MS: u64 = 200;
const SETTLE_BYTES: usize = 256 << 10;

/// A line of the file.
#[derive(Serialize)]
struct Entry<'a> {
    log: &'a str,
    stream: &'static str,
    time: String,
}

struct Writer {
    path: PathBuf,
    options: JsonOptions,
    file: File,
    bytes: u64,
}

pub(super) async fn ship(mut pipeline: Pipeline, path: PathBuf) {
    let options = JsonOptions::read(&pipeline.log.spec.options)
        .unwrap_or(JsonOptions { bytes_max: u64::MAX, files_max: 1 });
    let mut writer = match Writer::open(path, options).await {
        Ok(writer) => Some(writer),
        Err(error) => {
            error!(run = pipeline.log.id, error = %error, "log file not opened");
            None
        }
    };
    let mut unsettled = None;
    let mut bytes = 0;
    loop {
        let pause = Duration::from_millis(SETTLE_MS);
        let item = match (unsettled, tokio::time::timeout(pause, pipeline.output.next()).await) {
            (_, Ok(item)) => item,
            (Some(position), Err(_)) => {
                pipeline.settled(position);
                unsettled = None;
                continue;
            }
            (None, Err(_)) => pipeline.output.next().await,
        };
        match item {
            Ok(OutputItem::Piece(piece)) => {
                pipeline.saw(&String::from_utf8_lossy(&piece.bytes));
                if let Some(open) = &mut writer
                    && let Err(error) = open.write(&piece).await
                {
                    error!(run = pipeline.log.id, error = %error, "log file not written");
                    writer = None;
                }
                unsettled = Some(piece.next);
                bytes += piece.bytes.len();
                if SETTLE_BYTES <= bytes {
                    bytes = 0;
                    pipeline.settled(piece.next);
                }
            }
            Ok(OutputItem::Lost { bytes }) => {
                warn!(run = pipeline.log.id, bytes, "output lost: it came faster than it went");
            }
            Ok(OutputItem::End) => break,
            Err(error) => {
                warn!(run = pipeline.log.id, error = %error, "output unreadable");
                break;
            }
        }
    }
    pipeline.finish();
}

impl Writer {
    async fn open(path: PathBuf, options: JsonOptions) -> std::io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).await?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).await?;
        let bytes = file.metadata().await?.len();
        Ok(Self { path, options, file, bytes })
    }

    async fn write(&mut self, piece: &Piece) -> std::io::Result<()> {
        let mut text = String::from_utf8_lossy(&piece.bytes).into_owned();
        if !piece.is_partial {
            text.push('\n');
        }
        let stream = match piece.stream {
            StdStream::Stdout => "stdout",
            StdStream::Stderr => "stderr",
        };
        let entry = Entry { log: &text, stream, time: piece.at.iso8601() };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.options.bytes_max < self.bytes.saturating_add(length) {
            self.rotate().await?;
        }
        self.file.write_all(&line).await?;
        self.file.flush().await?;
        self.bytes += length;
        Ok(())
    }

    /// `x` becomes `x.1`, `x.1` becomes `x.2`; the oldest goes.
    async fn rotate(&mut self) -> std::io::Result<()> {
        for n in (1..self.options.files_max).rev() {
            let from = if n == 1 { self.path.clone() } else { numbered(&self.path, n - 1) };
            match fs::rename(from, numbered(&self.path, n)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let mut fresh = OpenOptions::new();
        self.file = fresh.create(true).write(true).truncate(true).open(&self.path).await?;
        self.bytes = 0;
        Ok(())
    }
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}
