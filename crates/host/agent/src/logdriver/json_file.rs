//! The json-file driver: a file a run, in Docker's own format, rotated by size.
//!
//! **Invariant:** what is written down of a run says how long its file is at the position that is written
//! down; whoever goes on cuts off what is beyond, and writes it again. So each line is there once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tracing::{error, warn};

use super::options::JsonOptions;
use super::{Pipeline, Reach};
use crate::ports::{OutputItem, Piece, Position, StdStream};

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
    let options = JsonOptions::read(&pipeline.log.options())
        .unwrap_or(JsonOptions { bytes_max: u64::MAX, files_max: 1 });
    let mut writer = match Writer::open(path, options, pipeline.shipped.file_bytes).await {
        Ok(writer) => Some(writer),
        Err(error) => {
            error!(run = pipeline.log.id, error = %error, "log file not opened");
            None
        }
    };
    if let Some(open) = &writer {
        pipeline.settled_in_file(pipeline.reach(), open.bytes);
    }
    let mut unsettled = None;
    let mut bytes = 0;
    loop {
        let pause = Duration::from_millis(SETTLE_MS);
        let item = match (unsettled, tokio::time::timeout(pause, pipeline.output.next()).await) {
            (_, Ok(item)) => item,
            (Some(position), Err(_)) => {
                settle(&mut pipeline, writer.as_ref(), Reach::at(position));
                unsettled = None;
                continue;
            }
            (None, Err(_)) => pipeline.output.next().await,
        };
        match item {
            Ok(OutputItem::Piece(piece)) => {
                pipeline.saw(&String::from_utf8_lossy(&piece.bytes));
                if let Some(open) = &mut writer
                    && let Err(error) = write(&mut pipeline, open, &piece, unsettled).await
                {
                    error!(run = pipeline.log.id, error = %error, "log file not written");
                    writer = None;
                }
                unsettled = Some(piece.next);
                bytes += piece.bytes.len();
                if SETTLE_BYTES <= bytes {
                    bytes = 0;
                    settle(&mut pipeline, writer.as_ref(), Reach::at(piece.next));
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

fn settle(pipeline: &mut Pipeline, writer: Option<&Writer>, reach: Reach) {
    match writer {
        Some(open) => pipeline.settled_in_file(reach, open.bytes),
        None => pipeline.settled(reach),
    }
}

/// Writes a piece; `unsettled` is the position before it, if that is not written down.
async fn write(
    pipeline: &mut Pipeline,
    writer: &mut Writer,
    piece: &Piece,
    unsettled: Option<Position>,
) -> std::io::Result<()> {
    let line = encode(piece)?;
    if writer.is_full_with(&line) {
        let reach = unsettled.map_or(pipeline.reach(), Reach::at);
        pipeline.settled_in_file(reach, writer.bytes);
        writer.rotate().await?;
        pipeline.settled_in_file(reach, writer.bytes);
    }
    writer.write(&line).await
}

fn encode(piece: &Piece) -> std::io::Result<Vec<u8>> {
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
    Ok(line)
}

impl Writer {
    /// Opens the file as it was when it had `known` bytes. It is shorter only if it was rotated just then,
    /// and nothing of the new one is known.
    async fn open(
        path: PathBuf,
        options: JsonOptions,
        known: Option<u64>,
    ) -> std::io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).await?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).await?;
        let mut bytes = file.metadata().await?.len();
        if let Some(known) = known {
            bytes = if known <= bytes { known } else { 0 };
            file.set_len(bytes).await?;
        }
        Ok(Self { path, options, file, bytes })
    }

    fn is_full_with(&self, line: &[u8]) -> bool {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.bytes > 0 && self.options.bytes_max < self.bytes.saturating_add(length)
    }

    async fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.file.write_all(line).await?;
        self.file.flush().await?;
        self.bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
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
