//! Unpacks a layer into a directory that overlayfs can mount as it is.
//!
//! A layer is somebody else's data. **Invariant:** nothing outside the given directory is read,
//! written or linked to, whatever the archive says: every path is resolved by the kernel with that
//! directory as its root ([`root`]). What cannot be done stops the unpacking; the caller throws the
//! directory away.

mod decode;
mod entries;
mod root;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use longshore_types::Digest;

use crate::blobs::{BlobError, Mismatch};
use entries::{Entries, Entry, Kind};
use root::{LayerRoot, Place};

/// What a whiteout's name begins with.
const WHITEOUT: &[u8] = b".wh.";
/// What the names of AUFS's own files begin with.
const META: &[u8] = b".wh..wh.";
/// Hides everything that lower layers have in the same directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Bounds on what one layer may unpack to.
#[derive(Clone, Copy, Debug)]
pub struct LayerLimits {
    /// Bytes of the unpacked archive, its padding included.
    pub bytes_max: u64,
    pub entries_max: u64,
}

impl Default for LayerLimits {
    fn default() -> Self {
        Self { bytes_max: 64 << 30, entries_max: 4_000_000 }
    }
}

/// Whether files get the owners, devices and privileged attributes that the layer asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// As the layer says. Needs root.
    #[default]
    Keep,
    /// Everything belongs to whoever unpacks it, and overlayfs has to be mounted with `userxattr`.
    Ignore,
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("no space left on device")]
    NoSpace,
    #[error("the layer ends in the middle")]
    Truncated,
    #[error("the layer's archive is damaged: {0}")]
    Corrupt(String),
    #[error("the layer is compressed with {0}, which is not supported")]
    Compression(&'static str),
    #[error("the layer's path {path:?} is refused: {why}")]
    UnsafePath { path: PathBuf, why: &'static str },
    #[error("the layer's device {path:?} ({major}:{minor}) is refused")]
    Device { path: PathBuf, major: u32, minor: u32 },
    #[error("the layer's hard link {path:?} points to {target:?}, which the layer does not have")]
    LinkTarget { path: PathBuf, target: PathBuf },
    #[error("the layer's entry {path:?} is {what}, which is not supported")]
    Unsupported { path: PathBuf, what: &'static str },
    #[error("the layer unpacks to more than {max} bytes")]
    TooLarge { max: u64 },
    #[error("the layer has more than {max} entries")]
    TooManyEntries { max: u64 },
    #[error("the layer does not unpack to what the image says: {0}")]
    DiffMismatch(Box<Mismatch>),
    #[error("failed to {doing} {path:?}")]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
}

impl LayerError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    /// An error of the stream that the archive is read from.
    fn reading(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => match error.downcast::<decode::OverLimit>() {
                Ok(over) => Self::TooLarge { max: over.max },
                Err(error) => Self::Corrupt(error.to_string()),
            },
        }
    }
}

impl From<BlobError> for LayerError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NoSpace(_) => Self::NoSpace,
            BlobError::Io { doing, path, source } => Self::Io { doing, path, source },
            BlobError::DigestMismatch(mismatch) => Self::DiffMismatch(mismatch),
            BlobError::TooLarge { max } => Self::TooLarge { max },
        }
    }
}

/// Unpacks the archive that `compressed` holds into the empty directory `dir`, checks that its
/// unpacked bytes are `diff_id`, and syncs it. Blocks.
pub(crate) fn unpack(
    compressed: File,
    dir: &Path,
    diff_id: &Digest,
    ownership: Ownership,
    limits: LayerLimits,
) -> Result<(), LayerError> {
    let stream = decode::open(compressed).map_err(LayerError::reading)??;
    let mut stream = decode::Counted::new(stream, diff_id, limits.bytes_max);
    let layer = lay_out(&mut stream, dir, ownership, limits.entries_max)?;
    stream.drain().map_err(LayerError::reading)?;
    same_digest(diff_id, stream.digest())?;
    layer.finish()
}

/// Checks that what `compressed` unpacks to is `diff_id`, and keeps nothing of it. Blocks.
pub(crate) fn verify(
    compressed: File,
    diff_id: &Digest,
    limits: LayerLimits,
) -> Result<(), LayerError> {
    let stream = decode::open(compressed).map_err(LayerError::reading)??;
    let mut stream = decode::Counted::new(stream, diff_id, limits.bytes_max);
    stream.drain().map_err(LayerError::reading)?;
    same_digest(diff_id, stream.digest())
}

fn same_digest(expected: &Digest, actual: Digest) -> Result<(), LayerError> {
    if actual == *expected {
        return Ok(());
    }
    let mismatch = Mismatch { expected: *expected, actual };
    Err(LayerError::DiffMismatch(Box::new(mismatch)))
}

fn lay_out(
    archive: impl Read,
    dir: &Path,
    ownership: Ownership,
    entries_max: u64,
) -> Result<Layer, LayerError> {
    let root = LayerRoot::open(dir, ownership)?;
    let mut layer = Layer { root, ownership, directories: Vec::new() };
    let mut entries = Entries::new(archive);
    let mut count = 0;
    while let Some(entry) = entries.next()? {
        count += 1;
        if count > entries_max {
            return Err(LayerError::TooManyEntries { max: entries_max });
        }
        layer.apply(&entry, &mut entries)?;
    }
    Ok(layer)
}

/// Lays an archive of any bytes, not compressed, out in `dir` as a layer's, without its digest and
/// without syncing: for who tries to get out of `dir` with it.
#[doc(hidden)]
pub fn unpack_untrusted(archive: &[u8], dir: &Path) -> Result<(), LayerError> {
    const ENTRIES_MAX: u64 = 10_000;
    lay_out(archive, dir, Ownership::Keep, ENTRIES_MAX).map(drop)
}

/// A layer on its way to the disk.
struct Layer {
    root: LayerRoot,
    ownership: Ownership,
    /// Directories, whose times are set last: whatever is put into them changes them.
    directories: Vec<(Place, entries::Time)>,
}

impl Layer {
    fn apply<R: Read>(&mut self, entry: &Entry, body: &mut Entries<R>) -> Result<(), LayerError> {
        let Some(place) = Place::parse(&entry.path)? else {
            // The layer's own root.
            self.root.decorate_root(entry)?;
            self.directories.push((Place::root(), entry.mtime));
            return Ok(());
        };
        if place.parents().any(|parent| parent.starts_with(META)) {
            return Ok(());
        }
        if place.name() == OPAQUE {
            return self.root.make_parent_opaque(&place);
        }
        if place.name().starts_with(META) {
            return Ok(());
        }
        if let Some(hidden) = place.name().strip_prefix(WHITEOUT) {
            return self.root.white_out(&place.sibling(hidden)?);
        }
        match entry.kind {
            Kind::File => {
                let mut file = self.root.create_file(&place)?;
                body.copy_body(&mut file, &place.to_path())?;
                self.root.decorate_file(file.as_fd(), entry, &place)
            }
            Kind::Directory => {
                self.root.create_directory(&place, entry)?;
                self.directories.push((place, entry.mtime));
                Ok(())
            }
            Kind::Symlink => self.root.create_symlink(&place, entry),
            Kind::HardLink => self.root.create_hard_link(&place, &entry.link),
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
                check_device(entry, &place)?;
                if entry.kind != Kind::Fifo && self.ownership == Ownership::Ignore {
                    return Ok(());
                }
                self.root.create_node(&place, entry)
            }
        }
    }

    fn finish(mut self) -> Result<(), LayerError> {
        while let Some((place, mtime)) = self.directories.pop() {
            self.root.set_directory_time(&place, mtime)?;
        }
        self.root.sync()
    }
}

/// Only the devices that every container has anyway; a layer with any other is refused.
fn check_device(entry: &Entry, place: &Place) -> Result<(), LayerError> {
    const HARMLESS: [(u32, u32); 8] =
        [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    let is_harmless = match entry.kind {
        Kind::CharDevice => HARMLESS.contains(&entry.device),
        Kind::BlockDevice => false,
        Kind::Fifo | Kind::File | Kind::Directory | Kind::Symlink | Kind::HardLink => true,
    };
    if is_harmless {
        return Ok(());
    }
    let (major, minor) = entry.device;
    Err(LayerError::Device { path: place.to_path(), major, minor })
}

#[cfg(test)]
mod tests;
