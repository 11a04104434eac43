//! The files that hold events, one a stream, and how they are scanned, read and trimmed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::catalog::{Chunk, StreamUid};
use crate::error::LogsError;
use crate::event::Event;
use crate::frame::{self, HEADER_BYTES, Header};

/// Where stream files live: 256 directories, so that none grows too large to list.
#[derive(Clone, Debug)]
pub(crate) struct StreamFiles {
    dir: PathBuf,
}

impl StreamFiles {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let files = Self { dir: dir.join("streams") };
        std::fs::create_dir_all(&files.dir)?;
        Ok(files)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, uid: StreamUid) -> PathBuf {
        self.dir.join(format!("{:02x}", uid.0 & 0xff)).join(format!("{:x}", uid.0))
    }

    fn open_to_write(&self, uid: StreamUid) -> io::Result<File> {
        let path = self.path(uid);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
                options.open(&path)
            }
            other => other,
        }
    }

    /// Writes without waiting for the disk: the journal has the bytes.
    pub(crate) fn write(&self, uid: StreamUid, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.open_to_write(uid)?.write_all_at(bytes, offset)
    }

    /// Cuts what lies beyond `end`, which a crash may have left.
    pub(crate) fn truncate(&self, uid: StreamUid, end: u64) -> io::Result<()> {
        self.open_to_write(uid)?.set_len(end)
    }

    pub(crate) fn sync(&self, uid: StreamUid) -> io::Result<()> {
        match File::open(self.path(uid)) {
            Ok(file) => file.sync_data(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // deleted since
            Err(error) => Err(error),
        }
    }

    pub(crate) fn remove(&self, uid: StreamUid) -> io::Result<()> {
        match std::fs::remove_file(self.path(uid)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Gives the space before `head` back. Offsets stay as they are.
    pub(crate) fn punch(&self, uid: StreamUid, head: u64) -> io::Result<()> {
        let len = i64::try_from(head).map_err(io::Error::other)?;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let file = OpenOptions::new().write(true).open(self.path(uid))?;
        fallocate(file, flags, 0, len).map_err(io::Error::from)
    }

    /// Hands the header of each frame in `head..end` to `each`, with its offset, until it says no.
    pub(crate) fn scan(
        &self,
        uid: StreamUid,
        head: u64,
        end: u64,
        mut each: impl FnMut(u64, &Header) -> bool,
    ) -> Result<(), LogsError> {
        if head >= end {
            return Ok(());
        }
        let path = self.path(uid);
        let file = open_to_read(&path)?;
        // A window, since most frames are smaller than a page.
        let mut window = vec![0; 64 << 10];
        let (mut start, mut filled) = (head, 0_usize);
        let mut at = head;
        while at < end {
            let inside = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
            if inside.saturating_add(HEADER_BYTES) > filled {
                start = at;
                filled = read_up_to(&file, &mut window, at)
                    .map_err(LogsError::fault("read a log stream"))?;
            }
            let from = usize::try_from(at - start).unwrap_or(usize::MAX);
            let bytes = window.get(from..filled).unwrap_or_default();
            let header = Header::read(bytes).map_err(|why| LogsError::Damaged {
                path: path.clone(),
                offset: at,
                what: why.0,
            })?;
            if !each(at, &header) {
                return Ok(());
            }
            at += header.frame_len();
        }
        Ok(())
    }

    /// All events of a chunk, in the order of arrival.
    pub(crate) fn read(&self, uid: StreamUid, chunk: &Chunk) -> Result<Vec<Event>, LogsError> {
        let path = self.path(uid);
        let len = usize::try_from(chunk.len).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len];
        let file = open_to_read(&path)?;
        file.read_exact_at(&mut bytes, chunk.offset)
            .map_err(LogsError::fault("read a log stream"))?;
        let mut rest = Bytes::from(bytes);
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (mut more, used) = frame::decode(&rest).map_err(|why| LogsError::Damaged {
                path: path.clone(),
                offset: chunk.offset + (len - rest.len()) as u64,
                what: why.0,
            })?;
            events.append(&mut more);
            rest = rest.slice(used..);
        }
        Ok(events)
    }
}

fn open_to_read(path: &Path) -> Result<File, LogsError> {
    File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LogsError::StreamNotFound,
        _ => LogsError::Fault { doing: "open a log stream", source: error },
    })
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}
