//! The journal: every change of the store, in order, before it counts.
//!
//! Records are `length u32 · crc32 u32 · payload`. Only whole records whose checksum is right are
//! replayed; what follows the last of them is the tail of a batch that nobody was answered about,
//! and is cut off.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use crate::catalog::{Change, StreamUid};
use crate::error::LogsError;
use crate::limits::RECORD_BYTES_MAX;
use crate::put::PutKey;

/// One record.
#[derive(Debug)]
pub(crate) enum Record {
    Change(Change),
    /// Bytes of a frame and where they lie in the stream's file.
    Frame {
        stream: StreamUid,
        offset: u64,
        frame: Bytes,
        /// Whose put it is, where a writer said so.
        key: Option<PutKey>,
    },
}

const KIND_CHANGE: u8 = 1;
const KIND_FRAME: u8 = 2;
const KIND_KEYED_FRAME: u8 = 3;

impl Record {
    /// Appends the record, framed, to `out`.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        match self {
            Self::Change(change) => {
                out.extend_from_slice(&[KIND_CHANGE]);
                let json = serde_json::to_vec(change).expect("a change has only string keys");
                out.extend_from_slice(&json);
            }
            Self::Frame { stream, offset, frame, key } => {
                out.extend_from_slice(&[key.map_or(KIND_FRAME, |_| KIND_KEYED_FRAME)]);
                out.extend_from_slice(&stream.0.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                if let Some(PutKey { writer, put }) = key {
                    out.extend_from_slice(&writer.to_le_bytes());
                    out.extend_from_slice(&put.to_le_bytes());
                }
                out.extend_from_slice(frame);
            }
        }
        let payload = &out[start + 8..];
        let len = u32::try_from(payload.len()).expect("a put is at most 1 MiB");
        let crc = crc32fast::hash(payload);
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode(payload: &Bytes) -> Option<Self> {
        match *payload.first()? {
            KIND_CHANGE => serde_json::from_slice(&payload[1..]).ok().map(Self::Change),
            kind @ (KIND_FRAME | KIND_KEYED_FRAME) => {
                let number = |from: usize| {
                    let bytes = payload.get(from..from + 8)?.try_into().ok()?;
                    Some(u64::from_le_bytes(bytes))
                };
                let (stream, offset) = (StreamUid(number(1)?), number(9)?);
                let (key, from) = match kind {
                    KIND_FRAME => (None, 17),
                    _ => (Some(PutKey { writer: number(17)?, put: number(25)? }), 33),
                };
                Some(Self::Frame { stream, offset, frame: payload.slice(from..), key })
            }
            _ => None,
        }
    }
}

/// The journal that is written to.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    len: u64,
    pub(crate) number: u64,
}

pub(crate) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("journal-{number:012}"))
}

impl Journal {
    /// Begins journal `number`, in which nothing may have been written, and makes its name durable.
    ///
    /// The file may be there: of an attempt whose last step failed, which is repeated now.
    pub(crate) fn create(dir: &Path, number: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path_of(dir, number))?;
        if file.metadata()?.len() > 0 {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        sync_dir(dir)?;
        Ok(Self { file, len: 0, number })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Writes `bytes` and waits until the disk has them.
    ///
    /// `Unwritten`: nothing counts, the journal is as it was. `Unknown`: the flush failed, and
    /// what a later flush says of this file can no longer be believed.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        if let Err(error) = self.file.write_all_at(bytes, self.len) {
            // The tail is overwritten by the next append, or cut off at the next start.
            return match self.file.set_len(self.len) {
                Ok(()) => Err(AppendError::Unwritten(error)),
                Err(_) => Err(AppendError::Unknown(error)),
            };
        }
        self.file.sync_data().map_err(AppendError::Unknown)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Cuts off what an append of unknown outcome may have left, and makes that durable. Then all
    /// there is of this journal is what was acknowledged, and a new one can go on from there.
    pub(crate) fn cut_unknown(&self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.sync_all()
    }
}

#[derive(Debug)]
pub(crate) enum AppendError {
    Unwritten(io::Error),
    Unknown(io::Error),
}

/// The numbers of the journals in `dir`, in order.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("journal-"));
        numbers.extend(number.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Hands each whole record of journal `number` to `each`, and says how many bytes follow the last.
pub(crate) fn replay(
    dir: &Path,
    number: u64,
    mut each: impl FnMut(Record) -> Result<(), LogsError>,
) -> Result<u64, LogsError> {
    let path = path_of(dir, number);
    let bytes = Bytes::from(std::fs::read(&path).map_err(LogsError::fault("read a journal"))?);
    let mut at = 0;
    while let Some(payload) = record_at(&bytes, at) {
        let next = at + 8 + payload.len();
        let Some(record) = Record::decode(&payload) else {
            // Its checksum is right, so this is no torn write: a newer release wrote it.
            let what = "a record of an unknown kind";
            return Err(LogsError::Damaged { path, offset: at as u64, what });
        };
        each(record)?;
        at = next;
    }
    Ok((bytes.len() - at) as u64)
}

fn record_at(bytes: &Bytes, at: usize) -> Option<Bytes> {
    let head = bytes.get(at..at + 8)?;
    let len = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(head[4..].try_into().ok()?);
    if len == 0 || len > RECORD_BYTES_MAX {
        return None;
    }
    bytes.get(at + 8..at + 8 + len)?;
    let payload = bytes.slice(at + 8..at + 8 + len);
    (crc32fast::hash(&payload) == crc).then_some(payload)
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: u8) -> Record {
        let frame = Bytes::from(vec![n; 10 + usize::from(n)]);
        let key = (n % 2 == 1).then_some(PutKey { writer: 7, put: u64::from(n) });
        Record::Frame { stream: StreamUid(u64::from(n)), offset: 5, frame, key }
    }

    #[test]
    fn whatever_the_tail_is_torn_to_the_records_before_it_are_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = BytesMut::new();
        let mut ends = vec![0];
        for n in 0..5 {
            frame(n).encode(&mut bytes);
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            std::fs::write(path_of(dir.path(), 1), &bytes[..cut]).unwrap();
            let mut seen = 0;
            let torn = replay(dir.path(), 1, |_| {
                seen += 1;
                Ok(())
            });
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            assert_eq!(seen, whole, "cut at {cut}");
            assert_eq!(torn.unwrap(), (cut - ends[whole]) as u64);
        }
    }

    #[test]
    fn what_an_append_of_unknown_outcome_left_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), 1).unwrap();
        let (mut first, mut second) = (BytesMut::new(), BytesMut::new());
        frame(1).encode(&mut first);
        frame(2).encode(&mut second);
        journal.append(&first).unwrap();
        // Neither written nor cut off: what it came to is not known.
        let whole = std::mem::replace(&mut journal.file, File::open("/dev/full").unwrap());
        let failed = journal.append(&second).unwrap_err();
        assert!(matches!(failed, AppendError::Unknown(_)), "{failed:?}");
        assert!(journal.cut_unknown().is_err(), "the disk is still not there");
        journal.file = whole;
        journal.file.write_all_at(&second, journal.len).unwrap();
        journal.cut_unknown().unwrap();
        let mut seen = 0;
        let torn = replay(dir.path(), 1, |_| {
            seen += 1;
            Ok(())
        });
        assert_eq!((seen, torn.unwrap()), (1, 0));
    }

    #[test]
    fn a_journal_that_was_begun_and_not_made_durable_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        File::create(path_of(dir.path(), 2)).unwrap();
        let mut journal = Journal::create(dir.path(), 2).unwrap();
        let mut bytes = BytesMut::new();
        frame(1).encode(&mut bytes);
        journal.append(&bytes).unwrap();
        let taken = Journal::create(dir.path(), 2).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists, "something was written to it");
    }

    #[test]
    fn an_append_that_failed_half_way_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), 3).unwrap();
        let mut bytes = BytesMut::new();
        frame(1).encode(&mut bytes);
        journal.append(&bytes).unwrap();
        assert_eq!(journal.len(), bytes.len() as u64);
        assert_eq!(list(dir.path()).unwrap(), [3]);
        assert!(Journal::create(dir.path(), 3).is_err());
    }
}
