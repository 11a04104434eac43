//! The agent's side: follow, split into lines, delete what was shipped.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use longshore_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::frame::{HEADER_BYTES, Header, Kind};
use super::watch::{Watch, Watcher};
use super::{segment_path, segments};
use crate::error::{Doing, SandboxError};

/// How much is read from a segment at once.
const READ_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A line, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// When the shim read it.
    pub at: Timestamp,
    pub stream: Stream,
    /// The line goes on in the next record of the same stream.
    pub partial: bool,
    /// Without the line's end.
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    Record(LogRecord),
    /// So much was lost here, because nobody read in time or the disk was full.
    Dropped {
        bytes: u64,
    },
    /// The container is done; nothing follows, however often one asks.
    End,
}

/// A place in a spool. Everything before it has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    segment: u64,
    /// Of a frame, within the segment.
    offset: u64,
    /// Of a line, within the frame's payload.
    within: u64,
}

impl Position {
    /// A place in what is no spool: three numbers, of which the first that differs says what comes later.
    pub fn of_parts([segment, offset, within]: [u64; 3]) -> Self {
        Self { segment, offset, within }
    }

    pub fn parts(self) -> [u64; 3] {
        [self.segment, self.offset, self.within]
    }
}

/// Follows one container's output. Restarted from [`LogReader::position`], it goes on with the
/// next record, none lost and none twice.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    watch: Watch,
    position: Position,
    /// The open segment, `position.segment`, if there is one.
    file: Option<File>,
    buffer: Vec<u8>,
    /// Where in the segment `buffer` begins.
    buffer_offset: u64,
    ended: bool,
}

impl LogReader {
    pub(crate) fn open(
        watcher: &Watcher,
        dir: &Path,
        from: Position,
    ) -> Result<Self, SandboxError> {
        fs::create_dir_all(dir).doing_at("create", dir)?;
        let watch = watcher.watch(dir);
        Ok(Self {
            dir: dir.to_owned(),
            watch,
            position: from,
            file: None,
            buffer: Vec::new(),
            buffer_offset: 0,
            ended: false,
        })
    }

    /// Everything before this has been returned.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next record; waits for it.
    pub async fn next(&mut self) -> Result<LogItem, SandboxError> {
        loop {
            if let Some(item) = self.try_next()? {
                return Ok(item);
            }
            if self.unread().is_empty() {
                // There may be hundreds of readers, and most of them wait.
                self.buffer = Vec::new();
            }
            self.watch.changed().await;
        }
    }

    /// What there is, up to `items_max`; waits while there is nothing.
    pub async fn next_batch(&mut self, items_max: usize) -> Result<Vec<LogItem>, SandboxError> {
        let mut items = vec![self.next().await?];
        while items.len() < items_max && !self.ended {
            match self.try_next()? {
                Some(item) => items.push(item),
                None => break,
            }
        }
        Ok(items)
    }

    /// The next record, if it is there already.
    pub fn try_next(&mut self) -> Result<Option<LogItem>, SandboxError> {
        if self.ended {
            return Ok(Some(LogItem::End));
        }
        self.advance().doing_at("read the spool", &self.dir)
    }

    /// Deletes the segments that lie wholly before `position`: they have been shipped.
    pub fn acknowledge(&self, position: Position) -> Result<(), SandboxError> {
        let done = segments(&self.dir).doing_at("list the spool", &self.dir)?;
        for number in done.into_iter().filter(|number| *number < position.segment) {
            let path = segment_path(&self.dir, number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(SandboxError::io(format!("delete {}", path.display()), error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> io::Result<Option<LogItem>> {
        loop {
            if self.file.is_none() && !self.open_segment()? {
                return Ok(None);
            }
            if let Some(header) = self.frame()? {
                if let Some(item) = self.take(header) {
                    return Ok(Some(item));
                }
                continue;
            }
            // A newer segment is made only after the last frame of this one.
            let newer = segments(&self.dir)?.into_iter().find(|n| *n > self.position.segment);
            let Some(newer) = newer else { return Ok(None) };
            if self.frame()?.is_none() {
                self.enter(Position { segment: newer, offset: 0, within: 0 });
            }
        }
    }

    /// Opens the segment of the position, or the oldest after it where that is gone.
    fn open_segment(&mut self) -> io::Result<bool> {
        let present = segments(&self.dir)?;
        let Some(number) = present.into_iter().find(|number| *number >= self.position.segment)
        else {
            return Ok(false);
        };
        if number > self.position.segment {
            self.enter(Position { segment: number, offset: 0, within: 0 });
        }
        match File::open(segment_path(&self.dir, number)) {
            Ok(file) => {
                self.file = Some(file);
                Ok(true)
            }
            // Dropped by the writer just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn enter(&mut self, position: Position) {
        self.position = position;
        self.file = None;
        self.buffer.clear();
        self.buffer_offset = 0;
    }

    /// The header of the frame at the position, once the frame is whole in the buffer.
    fn frame(&mut self) -> io::Result<Option<Header>> {
        loop {
            let unread = self.unread();
            if let Some((header, rest)) = unread.split_first_chunk::<HEADER_BYTES>() {
                let header = Header::decode(*header)
                    .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                if header.length <= rest.len() {
                    return Ok(Some(header));
                }
            }
            // How much a frame takes is known once its header is there.
            let known = unread.len();
            self.fill()?;
            if self.unread().len() <= known {
                return Ok(None);
            }
        }
    }

    fn unread(&self) -> &[u8] {
        let skip = self.position.offset.checked_sub(self.buffer_offset);
        let skip = skip.and_then(|skip| usize::try_from(skip).ok()).unwrap_or(usize::MAX);
        self.buffer.get(skip..).unwrap_or_default()
    }

    /// Reads on from the position: what is left of the buffer, and more.
    fn fill(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let want = match self.unread().split_first_chunk::<HEADER_BYTES>() {
            Some((header, _)) => {
                let payload = Header::decode(*header).map_or(0, |header| header.length);
                READ_BYTES.max(HEADER_BYTES + payload)
            }
            None => READ_BYTES,
        };
        self.buffer_offset = self.position.offset;
        self.buffer.resize(want, 0);
        let mut filled = 0;
        while filled < want {
            let at = self.buffer_offset + filled as u64;
            match file.read_at(&mut self.buffer[filled..], at)? {
                0 => break,
                count => filled += count,
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }

    /// Takes the next line out of the frame at the position, or the whole frame.
    fn take(&mut self, header: Header) -> Option<LogItem> {
        let stream = match header.kind {
            Kind::Stdout => Stream::Stdout,
            Kind::Stderr => Stream::Stderr,
            Kind::Dropped => {
                let payload = &self.unread()[HEADER_BYTES..HEADER_BYTES + header.length];
                let bytes = payload.try_into().map_or(0, u64::from_le_bytes);
                self.skip(header);
                return Some(LogItem::Dropped { bytes });
            }
            Kind::End => {
                self.ended = true;
                return Some(LogItem::End);
            }
        };
        let within = usize::try_from(self.position.within).unwrap_or(usize::MAX);
        let payload = &self.unread()[HEADER_BYTES..HEADER_BYTES + header.length];
        let rest = payload.get(within..).unwrap_or_default();
        if rest.is_empty() {
            self.skip(header);
            return None;
        }
        let end = rest.iter().position(|byte| *byte == b'\n');
        let bytes = rest[..end.unwrap_or(rest.len())].to_vec();
        let taken = end.map_or(rest.len(), |end| end + 1);
        if taken == rest.len() {
            self.skip(header);
        } else {
            self.position.within += taken as u64;
        }
        Some(LogItem::Record(LogRecord { at: header.at, stream, partial: end.is_none(), bytes }))
    }

    fn skip(&mut self, header: Header) {
        self.position.offset += (HEADER_BYTES + header.length) as u64;
        self.position.within = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Writer;

    #[tokio::test]
    async fn a_frame_larger_than_what_is_read_at_once_is_there_as_soon_as_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::start();
        let mut reader = LogReader::open(&watcher, dir.path(), Position::default()).unwrap();
        let mut writer = Writer::open(dir.path(), 8 << 20, 16 << 20).unwrap();
        for length in [READ_BYTES, READ_BYTES - 1, 3 * READ_BYTES, 1] {
            writer.append(Stream::Stdout, Timestamp(1), &vec![b'x'; length]);
            let Some(LogItem::Record(record)) = reader.try_next().unwrap() else {
                panic!("{length} bytes are not there");
            };
            assert_eq!((record.bytes.len(), record.partial), (length, true));
            assert_eq!(reader.try_next().unwrap(), None);
        }
        writer.end(Timestamp(2));
        assert_eq!(reader.try_next().unwrap(), Some(LogItem::End));
    }
}
