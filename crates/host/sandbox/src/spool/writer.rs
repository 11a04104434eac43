//! The shim's side: append, rotate, forget the oldest.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use longshore_types::Timestamp;

use super::frame::{HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX};
use super::{Stream, segment_path, segments};

/// A segment below this would be mostly file names.
const SEGMENT_BYTES_MIN: u64 = 4096;

/// Appends to a spool. A full disk costs output, which is counted, and nothing else.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    file: File,
    number: u64,
    bytes: u64,
    segment_bytes_max: u64,
    total_bytes_max: u64,
    /// Bytes lost and not yet told of.
    dropped: u64,
    /// What each segment that is still there tells to be lost before it.
    told: BTreeMap<u64, u64>,
}

impl Writer {
    /// Goes on after what is there.
    pub(crate) fn open(dir: &Path, segment_bytes: u64, total_bytes: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let number = segments(dir)?.last().map_or(0, |last| last + 1);
        let segment_bytes_max = segment_bytes.max(SEGMENT_BYTES_MIN);
        Ok(Self {
            dir: dir.to_owned(),
            file: create(dir, number)?,
            number,
            bytes: 0,
            segment_bytes_max,
            total_bytes_max: total_bytes.max(2 * segment_bytes_max),
            dropped: 0,
            told: BTreeMap::new(),
        })
    }

    pub(crate) fn append(&mut self, stream: Stream, at: Timestamp, payload: &[u8]) {
        let kind = match stream {
            Stream::Stdout => Kind::Stdout,
            Stream::Stderr => Kind::Stderr,
        };
        for piece in payload.chunks(PAYLOAD_BYTES_MAX) {
            self.put(kind, at, piece);
        }
    }

    /// Says that nothing follows.
    pub(crate) fn end(&mut self, at: Timestamp) {
        self.put(Kind::End, at, &[]);
    }

    fn put(&mut self, kind: Kind, at: Timestamp, payload: &[u8]) {
        if self.bytes > 0 && self.bytes + size(payload) > self.segment_bytes_max {
            // What cannot be rotated grows; the next frame tries again.
            let _ = self.rotate();
        }
        if self.dropped > 0 {
            let lost = self.dropped.to_le_bytes();
            if self.write(Kind::Dropped, at, &lost).is_ok() {
                *self.told.entry(self.number).or_default() += self.dropped;
                self.dropped = 0;
            }
        }
        if self.write(kind, at, payload).is_err() {
            self.dropped = self.dropped.saturating_add(size(payload));
        }
    }

    fn write(&mut self, kind: Kind, at: Timestamp, payload: &[u8]) -> io::Result<()> {
        let header = Header { kind, at, length: payload.len() }.encode();
        let written = self.file.write_vectored(&[IoSlice::new(&header), IoSlice::new(payload)]);
        let whole = header.len() + payload.len();
        match written {
            Ok(count) if count == whole => {
                self.bytes += size(payload);
                Ok(())
            }
            Ok(_) => {
                // The disk is full: take the half frame back.
                self.file.set_len(self.bytes)?;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            Err(error) => Err(error),
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let present = segments(&self.dir)?;
        let sizes = present.iter().map(|number| {
            fs::metadata(segment_path(&self.dir, *number)).map_or(0, |file| file.len())
        });
        let mut sizes: Vec<(u64, u64)> = present.iter().copied().zip(sizes).collect();
        let mut total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        while total + self.segment_bytes_max > self.total_bytes_max && !sizes.is_empty() {
            let (oldest, bytes) = sizes.remove(0);
            if fs::remove_file(segment_path(&self.dir, oldest)).is_ok() {
                let told = self.told.remove(&oldest).unwrap_or(0);
                self.dropped = self.dropped.saturating_add(bytes).saturating_add(told);
            }
            total -= bytes;
        }
        self.file = create(&self.dir, self.number + 1)?;
        self.number += 1;
        self.bytes = 0;
        Ok(())
    }
}

fn size(payload: &[u8]) -> u64 {
    (HEADER_BYTES + payload.len()) as u64
}

fn create(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(segment_path(dir, number))
}

/// Ends a spool whose shim is gone: cuts a torn frame off and says that nothing follows. Safe to
/// do twice, and where there is no spool.
pub(crate) fn seal(dir: &Path, at: Timestamp) -> io::Result<()> {
    let numbers = match segments(dir) {
        Ok(numbers) => numbers,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(last) = numbers.last() else { return Ok(()) };
    let mut file = OpenOptions::new().read(true).append(true).open(segment_path(dir, *last))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut whole = 0;
    while let Some((header, rest)) = bytes[whole..].split_first_chunk::<HEADER_BYTES>() {
        match Header::decode(*header) {
            Some(Header { kind: Kind::End, .. }) => return Ok(()),
            Some(header) if header.length <= rest.len() => whole += HEADER_BYTES + header.length,
            Some(_) | None => break,
        }
    }
    file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
    file.write_all(&Header { kind: Kind::End, at, length: 0 }.encode())
}
