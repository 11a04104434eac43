//! Content by its digest, as files: `blobs/<algorithm>/<hex>`.
//!
//! Content is written under another name while it is hashed and gets its final name only when it
//! was verified and synced. A long write is synced in the background as it grows, so that the sync
//! at its end has little left to wait for.

mod behind;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use files::whole::{self, Durability};
use longshore_types::Digest;

use crate::hash::Hasher;

pub(crate) use self::behind::WriteBehind;

/// How much is written before the background sync is started again.
const SYNC_BYTES: u64 = 8 << 20;
/// How much is read at once when content is hashed again.
const READ_BYTES: usize = 1 << 20;

/// Content that is not what it was said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the digest is {actual} and not {expected}")]
pub struct Mismatch {
    pub expected: Digest,
    pub actual: Digest,
}

/// Why content could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("no space left on device while storing {0}")]
    NoSpace(PathBuf),
    #[error(transparent)]
    DigestMismatch(Box<Mismatch>),
    #[error("the content is larger than the {max} bytes that were announced or are allowed")]
    TooLarge { max: u64 },
    #[error("failed to {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl BlobError {
    /// Tells a full disk from everything else that can go wrong with a file.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace(path.to_owned())
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }
}

/// A directory of content. Cheap to clone; one process writes to it.
#[derive(Clone, Debug)]
pub struct BlobStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blobs: PathBuf,
    tmp: PathBuf,
    next: AtomicU64,
}

impl BlobStore {
    /// Opens the store in `dir`, makes its directories, and removes what a crash left half done.
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        let (blobs, tmp) = (dir.join("blobs"), dir.join("tmp"));
        files::dir::remove_tree(&tmp).map_err(BlobError::io("sweep", &tmp))?;
        for path in [&blobs.join("sha256"), &blobs.join("sha512"), &tmp] {
            files::private::make_dirs(path).map_err(BlobError::io("create", path))?;
        }
        Ok(Self { inner: Arc::new(Inner { blobs, tmp, next: AtomicU64::new(0) }) })
    }

    /// Where the content is, if it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.blobs.join(digest.algorithm()).join(digest.hex())
    }

    /// A name for something that is swept when the store is opened again.
    pub(crate) fn temp_path(&self) -> PathBuf {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.tmp.join(number.to_string())
    }

    /// The content's length, or nothing if it is not there.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BlobError::io("look at", &path)(error)),
        }
    }

    /// The content and its length, or nothing if it is not there.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, BlobError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BlobError::io("open", &path)(error)),
        };
        let size = file.metadata().map_err(BlobError::io("look at", &path))?.len();
        Ok(Some((file, size)))
    }

    /// Content that is small enough to be held, such as a manifest.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        let Some((mut file, _)) = self.open_blob(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(BlobError::io("read", &self.path(digest)))?;
        Ok(Some(bytes))
    }

    /// Stores content that is in memory.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Hasher::digest(bytes);
        if self.size(&digest)? != Some(bytes.len() as u64) {
            let mut writer = self.writer(&digest)?;
            writer.write(bytes)?;
            writer.finish(self, &digest)?;
        }
        Ok(digest)
    }

    /// Starts content that is to have `digest`; it vanishes unless it is finished.
    pub fn writer(&self, digest: &Digest) -> Result<BlobWriter, BlobError> {
        BlobWriter::create(self.temp_path(), Hasher::like(digest), OnDrop::Remove)
    }

    /// Removes content; it is no error if it is not there.
    pub fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(BlobError::io("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Every digest that is there, in no particular order.
    pub fn list(&self) -> Result<Vec<Digest>, BlobError> {
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.inner.blobs.join(algorithm);
            for entry in fs::read_dir(&dir).map_err(BlobError::io("list", &dir))? {
                let entry = entry.map_err(BlobError::io("list", &dir))?;
                let name = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
                found.extend(name.parse::<Digest>());
            }
        }
        Ok(found)
    }
}

/// What becomes of a file that was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDrop {
    Remove,
    /// It can be gone on with later.
    Keep,
}

/// Content on its way into a store: hashed as it is written.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    written: u64,
    on_drop: OnDrop,
    synced: u64,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl BlobWriter {
    fn create(path: PathBuf, hasher: Hasher, on_drop: OnDrop) -> Result<Self, BlobError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(BlobError::io("create", &path))?;
        Ok(Self { file, path, hasher, written: 0, on_drop, synced: 0, syncing: None })
    }

    /// Goes on with the file at `path`, or starts it. What is there already is hashed again. The
    /// file stays when the writer is dropped.
    pub fn append(path: &Path, hasher: Hasher) -> Result<Self, BlobError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(BlobError::io("open", path))?;
        // Whoever wrote here before may not have noticed yet that it was told to stop.
        file.lock().map_err(BlobError::io("lock", path))?;
        let mut writer = Self {
            file,
            path: path.to_owned(),
            hasher,
            written: 0,
            on_drop: OnDrop::Keep,
            synced: 0,
            syncing: None,
        };
        writer.written = hash_rest(&mut writer.file, &mut writer.hasher)
            .map_err(BlobError::io("read", &writer.path))?;
        Ok(writer)
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The digest of what was written so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        // Written first: a failed write must not leave the hash ahead of the file.
        if let Err(error) = self.file.write_all(bytes) {
            self.rewind();
            return Err(BlobError::io("write", &self.path)(error));
        }
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        if self.written - self.synced >= SYNC_BYTES {
            self.start_sync()?;
        }
        Ok(())
    }

    /// Cuts off what a failed write may have left behind what was hashed.
    fn rewind(&mut self) {
        use std::io::Seek as _;
        let cut = self.file.set_len(self.written);
        let sought = self.file.seek(io::SeekFrom::Start(self.written));
        if let Some(error) = cut.err().or(sought.err()) {
            tracing::warn!(path = %self.path.display(), %error, "could not cut a failed write off");
        }
    }

    /// Starts over, because the sender cannot go on where it stopped.
    pub fn restart(&mut self, hasher: Hasher) -> Result<(), BlobError> {
        self.written = 0;
        self.synced = 0;
        self.hasher = hasher;
        self.rewind();
        Ok(())
    }

    /// Lets the disk begin while more is coming; at most one such sync runs at a time.
    fn start_sync(&mut self) -> Result<(), BlobError> {
        if self.syncing.as_ref().is_some_and(|running| !running.is_finished()) {
            return Ok(());
        }
        self.join_sync()?;
        let file = self.file.try_clone().map_err(BlobError::io("sync", &self.path))?;
        self.synced = self.written;
        let spawned = std::thread::Builder::new()
            .name("blob-sync".to_owned())
            .spawn(move || file.sync_data());
        self.syncing = spawned.ok();
        Ok(())
    }

    /// An error of a sync is told once, so that of the background must not be lost.
    fn join_sync(&mut self) -> Result<(), BlobError> {
        let Some(running) = self.syncing.take() else { return Ok(()) };
        let result = running.join().unwrap_or_else(|_| Err(io::Error::other("the sync panicked")));
        result.map_err(BlobError::io("sync", &self.path))
    }

    /// Checks that what was written is `expected`, without storing it.
    pub fn verify(&mut self, expected: &Digest) -> Result<(), BlobError> {
        let mut actual = self.digest();
        if actual.algorithm() != expected.algorithm() {
            // The digest's algorithm was not known when the writing began.
            let mut hasher = Hasher::like(expected);
            let mut file = File::open(&self.path).map_err(BlobError::io("open", &self.path))?;
            hash_rest(&mut file, &mut hasher).map_err(BlobError::io("read", &self.path))?;
            actual = hasher.finish();
        }
        if actual == *expected {
            Ok(())
        } else {
            Err(BlobError::DigestMismatch(Box::new(Mismatch { expected: *expected, actual })))
        }
    }

    /// Verifies the content, syncs it and gives it its name in `store`.
    pub fn finish(mut self, store: &BlobStore, expected: &Digest) -> Result<u64, BlobError> {
        self.verify(expected)?;
        self.join_sync()?;
        self.file.sync_data().map_err(BlobError::io("sync", &self.path))?;
        let path = store.path(expected);
        fs::rename(&self.path, &path).map_err(BlobError::io("name", &path))?;
        self.on_drop = OnDrop::Keep;
        sync_parent(&path)?;
        Ok(self.written)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Remove {
            // It is swept at the next start if this fails.
            fs::remove_file(&self.path).ok();
        }
    }
}

fn hash_rest(file: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        total += count as u64;
    }
}

/// Makes a new name durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), BlobError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let dir = File::open(parent).map_err(BlobError::io("open", parent))?;
    dir.sync_all().map_err(BlobError::io("sync", parent))
}

/// Replaces a small file as a whole.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), BlobError> {
    whole::write(path, bytes, Durability::Synced).map_err(BlobError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_found_by_its_digest_only_once_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let digest = Hasher::digest(b"hello");
        let mut writer = store.writer(&digest).unwrap();
        writer.write(b"hel").unwrap();
        assert_eq!(store.size(&digest).unwrap(), None);
        writer.write(b"lo").unwrap();
        assert_eq!(writer.finish(&store, &digest).unwrap(), 5);
        assert_eq!(store.read(&digest).unwrap().unwrap(), b"hello");
        assert_eq!(store.list().unwrap(), [digest]);
        store.remove(&digest).unwrap();
        store.remove(&digest).unwrap();
        assert_eq!(store.size(&digest).unwrap(), None);
    }

    #[test]
    fn content_that_is_not_what_it_is_called_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let digest = Hasher::digest(b"hello");
        let mut writer = store.writer(&digest).unwrap();
        writer.write(b"hullo").unwrap();
        let error = writer.finish(&store, &digest).unwrap_err();
        assert!(matches!(error, BlobError::DigestMismatch(_)), "{error}");
        assert_eq!(store.list().unwrap(), []);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_write_is_gone_on_with_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let path = dir.path().join("partial");
        let mut writer = BlobWriter::append(&path, Hasher::sha256()).unwrap();
        writer.write(b"hel").unwrap();
        drop(writer);
        let mut writer = BlobWriter::append(&path, Hasher::sha256()).unwrap();
        assert_eq!(writer.written(), 3);
        writer.write(b"lo").unwrap();
        let digest = Hasher::digest(b"hello");
        writer.finish(&store, &digest).unwrap();
        assert_eq!(store.size(&digest).unwrap(), Some(5));
    }

    #[test]
    fn a_digest_of_the_other_algorithm_is_verified_too() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let mut hasher = Hasher::like(&Digest::Sha512([0; 64]));
        hasher.update(b"hello");
        let digest = hasher.finish();
        let mut writer = store.writer(&Hasher::digest(b"")).unwrap();
        writer.write(b"hello").unwrap();
        writer.finish(&store, &digest).unwrap();
        assert_eq!(store.read(&digest).unwrap().unwrap(), b"hello");
    }

    #[test]
    fn what_a_crash_left_is_swept_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        fs::write(store.temp_path(), b"half").unwrap();
        BlobStore::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }
}
