//! Reads a tar archive: old, ustar, GNU and PAX headers, with bounds on everything that is held.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::LayerError;

const BLOCK: usize = 512;
/// The largest long name or PAX header that is read. Attributes are at most 64 KiB each.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
const COPY_BYTES: usize = 256 << 10;

/// Seconds since the epoch and the nanoseconds that follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharDevice,
    BlockDevice,
}

/// One file of the archive, without its content.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    /// Major and minor number.
    pub(super) device: (u32, u32),
    /// Name and value.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the headers before a file's own header say about it.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    is_sparse: bool,
}

/// The files of an archive, one after another.
pub(super) struct Entries<R> {
    reader: R,
    /// What is left of the current file's content, and the padding behind it.
    body: u64,
    padding: u64,
    buffer: Vec<u8>,
}

fn corrupt(what: &str) -> LayerError {
    LayerError::Corrupt(what.to_owned())
}

fn as_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

impl<R: Read> Entries<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, body: 0, padding: 0, buffer: vec![0; COPY_BYTES] }
    }

    /// The next file, or nothing at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_body()?;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|_| corrupt("a size is no number"))?;
            if kind.is_gnu_longname() {
                extensions.path = Some(self.read_name(size)?);
            } else if kind.is_gnu_longlink() {
                extensions.link = Some(self.read_name(size)?);
            } else if kind.is_pax_local_extensions() {
                let records = self.read_extension(size)?;
                read_pax(&records, &mut extensions)?;
            } else if kind.is_pax_global_extensions() {
                self.read_extension(size)?;
            } else {
                return self.entry(&header, extensions).map(Some);
            }
        }
    }

    fn entry(&mut self, header: &tar::Header, more: Extensions) -> Result<Entry, LayerError> {
        let path = more.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = kind_of(header, &path, more.is_sparse)?;
        let number = |read: std::io::Result<u64>, what| read.map_err(|_| corrupt(what));
        let size = match more.size {
            Some(size) => size,
            None => number(header.entry_size(), "a size is no number")?,
        };
        // Only files have content; some writers give links the size of what they point to.
        if kind == Kind::File {
            self.body = size;
            self.padding = padding(size);
        }
        let id = |wide: u64| u32::try_from(wide).map_err(|_| corrupt("an owner is out of range"));
        // Some writers leave out what is zero.
        let old = header.as_old();
        let number_or_none = |field: &[u8], read, what| {
            if field.iter().all(|b| matches!(b, 0 | b' ')) { Ok(0) } else { number(read, what) }
        };
        let uid = || number_or_none(&old.uid, header.uid(), "an owner is no number");
        let gid = || number_or_none(&old.gid, header.gid(), "a group is no number");
        let uid = more.uid.map_or_else(uid, Ok)?;
        let gid = more.gid.map_or_else(gid, Ok)?;
        let mtime = more.mtime.unwrap_or_else(|| Time {
            seconds: header.mtime().ok().and_then(|s| i64::try_from(s).ok()).unwrap_or(0),
            nanos: 0,
        });
        let device = |read: std::io::Result<Option<u32>>| read.ok().flatten().unwrap_or(0);
        Ok(Entry {
            kind,
            mode: header.mode().map_err(|_| corrupt("a mode is no number"))? & 0o7777,
            uid: id(uid)?,
            gid: id(gid)?,
            mtime,
            device: (device(header.device_major()), device(header.device_minor())),
            link: more
                .link
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default(),
            xattrs: more.xattrs,
            path,
        })
    }

    /// Writes the current file's content.
    pub(super) fn copy_body(&mut self, file: &mut File, path: &Path) -> Result<(), LayerError> {
        while self.body > 0 {
            let want = usize::try_from(self.body).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = self.reader.read(&mut self.buffer[..want]).map_err(LayerError::reading)?;
            if count == 0 {
                return Err(LayerError::Truncated);
            }
            self.body -= count as u64;
            file.write_all(&self.buffer[..count]).map_err(LayerError::io("write", path))?;
        }
        Ok(())
    }

    fn skip_body(&mut self) -> Result<(), LayerError> {
        let mut left =
            self.body.checked_add(self.padding).ok_or_else(|| corrupt("a size is out of range"))?;
        (self.body, self.padding) = (0, 0);
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = self.reader.read(&mut self.buffer[..want]).map_err(LayerError::reading)?;
            if count == 0 {
                return Err(LayerError::Truncated);
            }
            left -= count as u64;
        }
        Ok(())
    }

    /// The next header; nothing at a block of zeros or where the archive ends between two files.
    fn read_header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]).map_err(LayerError::reading)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(LayerError::Truncated),
                count => filled += count,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
        // The checksum counts its own eight bytes as spaces.
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            return Err(corrupt("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > EXTENSION_BYTES_MAX {
            return Err(corrupt("an extended header is too long"));
        }
        let mut bytes = Vec::new();
        (&mut self.reader).take(size).read_to_end(&mut bytes).map_err(LayerError::reading)?;
        if bytes.len() as u64 != size {
            return Err(LayerError::Truncated);
        }
        self.padding = padding(size);
        Ok(bytes)
    }

    fn read_name(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        let mut name = self.read_extension(size)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }
}

/// From a size to the next whole block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn kind_of(header: &tar::Header, path: &[u8], is_sparse: bool) -> Result<Kind, LayerError> {
    let kind = header.entry_type();
    let refuse = |what| Err(LayerError::Unsupported { path: as_path(path), what });
    Ok(match kind {
        _ if is_sparse || kind.is_gnu_sparse() => return refuse("a sparse file"),
        // An old archive marks a directory by the slash at its end only.
        tar::EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File,
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Symlink => Kind::Symlink,
        tar::EntryType::Link => Kind::HardLink,
        tar::EntryType::Fifo => Kind::Fifo,
        tar::EntryType::Char => Kind::CharDevice,
        tar::EntryType::Block => Kind::BlockDevice,
        _ => return refuse("of an unknown type"),
    })
}

/// Reads `length key=value\n` records; a value may hold anything.
fn read_pax(mut records: &[u8], into: &mut Extensions) -> Result<(), LayerError> {
    let broken = || corrupt("an extended header is no list of records");
    while !records.is_empty() && records[0] != 0 {
        let space = records.iter().position(|b| *b == b' ').ok_or_else(broken)?;
        let length = std::str::from_utf8(&records[..space]).ok();
        let length: usize = length.and_then(|text| text.parse().ok()).ok_or_else(broken)?;
        let record = records.get(space + 1..length).ok_or_else(broken)?;
        let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(broken)?;
        read_pax_record(&record[..equals], &record[equals + 1..], into)?;
        records = &records[length..];
    }
    Ok(())
}

fn read_pax_record(key: &[u8], value: &[u8], into: &mut Extensions) -> Result<(), LayerError> {
    let number = || {
        let text = std::str::from_utf8(value).ok();
        let number = text.and_then(|text| text.parse::<u64>().ok());
        number.ok_or_else(|| corrupt("an extended header's number is none"))
    };
    match key {
        b"path" => into.path = Some(value.to_vec()),
        b"linkpath" => into.link = Some(value.to_vec()),
        b"size" => into.size = Some(number()?),
        b"uid" => into.uid = Some(number()?),
        b"gid" => into.gid = Some(number()?),
        b"mtime" => into.mtime = Some(read_time(value)?),
        _ if key.starts_with(b"GNU.sparse.") => into.is_sparse = true,
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                into.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

/// `1700000000.123456789`, possibly negative.
fn read_time(value: &[u8]) -> Result<Time, LayerError> {
    let broken = || corrupt("a time is no number");
    let text = std::str::from_utf8(value).map_err(|_| broken())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| broken())?;
    if fraction.bytes().any(|b| !b.is_ascii_digit()) {
        return Err(broken());
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().map_err(|_| broken())?;
    if text.starts_with('-') && nanos > 0 {
        // The parts count forward from the second before.
        return Ok(Time { seconds: seconds.saturating_sub(1), nanos: 1_000_000_000 - nanos });
    }
    Ok(Time { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pax_value_may_hold_newlines_and_equals_signs() {
        let mut records = Vec::new();
        for body in [&b"SCHILY.xattr.user.a=b=c\nd\n"[..], b"path=long/name\n", b"mtime=12.5\n"] {
            let length = body.len() + 3;
            records.extend_from_slice(format!("{length} ").as_bytes());
            records.extend_from_slice(body);
        }
        let mut read = Extensions::default();
        read_pax(&records, &mut read).unwrap();
        assert_eq!(read.xattrs, [(b"user.a".to_vec(), b"b=c\nd".to_vec())]);
        assert_eq!(read.path.unwrap(), b"long/name");
        assert_eq!(read.mtime, Some(Time { seconds: 12, nanos: 500_000_000 }));
        assert_eq!(read_time(b"-1.25").unwrap(), Time { seconds: -2, nanos: 750_000_000 });
    }

    #[test]
    fn a_broken_pax_header_is_refused() {
        for wrong in [&b"x"[..], b"9 a=b", b"99 a=b\n", b"6 ab\n\n", b" a=b\n", b"0 a=b\n"] {
            assert!(read_pax(wrong, &mut Extensions::default()).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let mut entries = Entries::new(&bytes[..]);
            while let Ok(Some(_)) = entries.next() {}
            let _ = read_pax(&bytes, &mut Extensions::default());
        }
    }
}
