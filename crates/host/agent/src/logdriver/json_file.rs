//! The json-file driver: a file a run, in Docker's own format, rotated by size, and those that are full compressed if
//! that is asked for.
//!
//! **Invariant:** what is written down of a run says how long its file is at the position that is written
//! down; whoever goes on cuts off what is beyond, and writes it again. So each line is there once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tracing::{error, warn};

use super::lines::Joiner;
use super::options::JsonOptions;
use super::{Pipeline, Reach};
use crate::ports::{OutputItem, Piece, StdStream};

/// The position is written down when nothing came for this long, or so much came.
const SETTLE_MS: u64 = 200;
const SETTLE_BYTES: usize = 256 << 10;

/// A line of the file.
#[derive(Serialize)]
struct Entry<'a> {
    log: &'a str,
    stream: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attrs: &'a BTreeMap<String, String>,
    time: String,
}

struct Writer {
    path: PathBuf,
    options: JsonOptions,
    file: File,
    bytes: u64,
}

pub(super) async fn ship(mut pipeline: Pipeline, path: PathBuf) {
    let options = JsonOptions::read(&pipeline.log).unwrap_or(JsonOptions {
        bytes_max: u64::MAX,
        files_max: 1,
        compresses: false,
        attributes: BTreeMap::new(),
    });
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
    let mut lines = Joiner::new(pipeline.reach());
    let mut is_settled = true;
    let mut bytes = 0;
    loop {
        let pause = Duration::from_millis(SETTLE_MS);
        let item = match tokio::time::timeout(pause, pipeline.output.next()).await {
            Ok(item) => item,
            Err(_) if is_settled => pipeline.output.next().await,
            Err(_) => {
                settle(&mut pipeline, writer.as_ref(), lines.reach());
                is_settled = true;
                continue;
            }
        };
        match item {
            Ok(OutputItem::Piece(piece)) => {
                bytes += piece.bytes.len();
                let before = lines.reach();
                if let Some(line) = lines.take(piece) {
                    write(&mut pipeline, &mut writer, &line, before).await;
                }
                is_settled = false;
                if SETTLE_BYTES <= bytes {
                    bytes = 0;
                    settle(&mut pipeline, writer.as_ref(), lines.reach());
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
    let mut before = lines.reach();
    while let Some(line) = lines.close_first() {
        write(&mut pipeline, &mut writer, &line, before).await;
        before = lines.reach();
    }
    pipeline.finish();
}

fn settle(pipeline: &mut Pipeline, writer: Option<&Writer>, reach: Reach) {
    match writer {
        Some(open) => pipeline.settled_in_file(reach, open.bytes),
        None => pipeline.settled(reach),
    }
}

/// Writes a line, while a file can be written; `before` is what was written before it.
async fn write(pipeline: &mut Pipeline, writer: &mut Option<Writer>, line: &Piece, before: Reach) {
    pipeline.saw(&String::from_utf8_lossy(&line.bytes));
    if let Some(open) = writer
        && let Err(error) = try_write(pipeline, open, line, before).await
    {
        error!(run = pipeline.log.id, error = %error, "log file not written");
        *writer = None;
    }
}

async fn try_write(
    pipeline: &mut Pipeline,
    writer: &mut Writer,
    line: &Piece,
    before: Reach,
) -> io::Result<()> {
    let line = encode(line, &writer.options.attributes)?;
    if writer.is_full_with(&line) {
        pipeline.settled_in_file(before, writer.bytes);
        writer.rotate().await?;
        pipeline.settled_in_file(before, writer.bytes);
        writer.compress().await;
    }
    writer.write(&line).await
}

fn encode(piece: &Piece, attrs: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut text = String::from_utf8_lossy(&piece.bytes).into_owned();
    if !piece.is_partial {
        text.push('\n');
    }
    let stream = match piece.stream {
        StdStream::Stdout => "stdout",
        StdStream::Stderr => "stderr",
    };
    let entry = Entry { log: &text, stream, attrs, time: piece.at.iso8601() };
    let mut line = serde_json::to_vec(&entry)?;
    line.push(b'\n');
    Ok(line)
}

impl Writer {
    /// Opens the file as it was when it had `known` bytes. It is shorter only if it was rotated just then,
    /// and nothing of the new one is known.
    async fn open(path: PathBuf, options: JsonOptions, known: Option<u64>) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).await?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).await?;
        let mut bytes = file.metadata().await?.len();
        if let Some(known) = known {
            bytes = if known <= bytes { known } else { 0 };
            file.set_len(bytes).await?;
        }
        let writer = Self { path, options, file, bytes };
        // Unless whoever was here before ended between the two.
        writer.compress().await;
        Ok(writer)
    }

    fn is_full_with(&self, line: &[u8]) -> bool {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.bytes > 0 && self.options.bytes_max < self.bytes.saturating_add(length)
    }

    async fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line).await?;
        self.file.flush().await?;
        self.bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// `x` becomes `x.1`, `x.1` becomes `x.2`, and so do those that are compressed; the oldest goes.
    async fn rotate(&mut self) -> io::Result<()> {
        let path = &self.path;
        let both = |n| [numbered(path, n), compressed(&numbered(path, n))];
        if let Some(last @ 1..) = self.options.files_max.checked_sub(1) {
            for oldest in both(last) {
                unless_missing(fs::remove_file(oldest).await)?;
            }
            for n in (2..=last).rev() {
                for (from, to) in both(n - 1).into_iter().zip(both(n)) {
                    unless_missing(fs::rename(from, to).await)?;
                }
            }
            unless_missing(fs::rename(path, numbered(path, 1)).await)?;
        }
        let mut fresh = OpenOptions::new();
        self.file = fresh.create(true).write(true).truncate(true).open(&self.path).await?;
        self.bytes = 0;
        Ok(())
    }

    /// Compresses the file that was full last, if that is wanted and not done. Where it fails that stays as it is.
    async fn compress(&self) {
        if !self.options.compresses {
            return;
        }
        let full = numbered(&self.path, 1);
        let path = full.clone();
        let done = tokio::task::spawn_blocking(move || unless_missing(compress(&full))).await;
        if let Err(error) = done.map_err(io::Error::other).and_then(|done| done) {
            warn!(path = %path.display(), %error, "log file not compressed");
        }
    }
}

/// The compressed file takes its name when it is whole, and only then the other one goes.
fn compress(full: &Path) -> io::Result<()> {
    let mut from = std::fs::File::open(full)?;
    let (whole, mut part) = (compressed(full), compressed(full).into_os_string());
    part.push(".part");
    let mut fresh = std::fs::OpenOptions::new();
    let written = fresh.create(true).write(true).truncate(true).open(&part).and_then(|to| {
        let mut encoder = GzEncoder::new(to, Compression::default());
        io::copy(&mut from, &mut encoder)?;
        encoder.finish()?;
        std::fs::rename(&part, &whole)
    });
    if let Err(error) = written {
        let _ = std::fs::remove_file(&part);
        return Err(error);
    }
    std::fs::remove_file(full)
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    PathBuf::from(name)
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use longshore_types::Timestamp;

    use super::*;
    use crate::fakes::position;

    fn options(files_max: u32, compresses: bool) -> JsonOptions {
        JsonOptions { bytes_max: 8, files_max, compresses, attributes: BTreeMap::new() }
    }

    /// What is there by name, and what it says.
    fn files(dir: &Path) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        let read = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            let mut text = String::new();
            let mut file = std::fs::File::open(entry.path()).unwrap();
            match name.ends_with(".gz") {
                true => GzDecoder::new(file).read_to_string(&mut text).unwrap(),
                false => file.read_to_string(&mut text).unwrap(),
            };
            (name, text)
        };
        entries.map(read).collect()
    }

    async fn fill(writer: &mut Writer, text: &str) {
        if writer.is_full_with(text.as_bytes()) {
            writer.rotate().await.unwrap();
            writer.compress().await;
        }
        writer.write(text.as_bytes()).await.unwrap();
    }

    fn said(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_line_says_of_its_container_what_is_asked_for_where_docker_says_it() {
        let piece = Piece {
            at: Timestamp(0),
            stream: StdStream::Stderr,
            is_partial: false,
            bytes: b"hello".to_vec(),
            next: position(1),
        };
        let line = |attrs| String::from_utf8(encode(&piece, &attrs).unwrap()).unwrap();
        let plain = r#"{"log":"hello\n","stream":"stderr","time":"1970-01-01T00:00:00.000Z"}"#;
        assert_eq!(line(BTreeMap::new()), format!("{plain}\n"));
        let attrs = r#""attrs":{"tag":"web","team":"x"},"time""#;
        let full = plain.replace(r#""time""#, attrs);
        assert_eq!(line(said(&[("tag", "web"), ("team", "x")])), format!("{full}\n"));
    }

    #[tokio::test]
    async fn full_files_are_kept_as_many_as_are_wanted() {
        for compresses in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            let mut writer = Writer::open(path, options(3, compresses), None).await.unwrap();
            for text in ["first", "second", "third", "fourth"] {
                fill(&mut writer, text).await;
            }
            let expected = match compresses {
                false => said(&[("x", "fourth"), ("x.1", "third"), ("x.2", "second")]),
                true => said(&[("x", "fourth"), ("x.1.gz", "third"), ("x.2.gz", "second")]),
            };
            assert_eq!(files(dir.path()), expected);
        }
    }

    #[tokio::test]
    async fn what_was_not_compressed_any_more_is_by_whoever_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for (name, text) in [("x", "new"), ("x.1", "full"), ("x.1.gz.part", "fu")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut writer = Writer::open(path, options(2, true), Some(3)).await.unwrap();
        assert_eq!(files(dir.path()), said(&[("x", "new"), ("x.1.gz", "full")]));
        fill(&mut writer, "newest").await;
        assert_eq!(files(dir.path()), said(&[("x", "newest"), ("x.1.gz", "new")]));
    }
}
