//! Layers as they came, kept for other hosts: `offered/<algorithm>-<hex>`.
//!
//! A cache that begins empty with each process, so that its files need not survive a power cut.
//!
//! **Invariant:** a file has its name only after its bytes were verified, and there are no more bytes than the limit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use longshore_types::{Clock, Digest, Timestamp};

use super::{SHARED_BYTES_MIN, held};
use crate::blobs::BlobError;

/// Of the disk, in hundredths.
pub(crate) const FREE_PERCENT_MIN: u64 = 15;
/// Layers that are kept; the region is told of each.
const LAYERS_MAX: usize = 1_024;
/// What nobody fetched for so long goes.
const UNUSED_MS_MAX: u64 = 24 * 3_600_000;

/// What may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedLimits {
    /// 0: nothing.
    pub bytes_max: u64,
    /// Nothing is kept where less of the disk is free than this and less than [`FREE_PERCENT_MIN`] of it.
    pub free_bytes_min: u64,
}

impl Default for OfferedLimits {
    fn default() -> Self {
        Self { bytes_max: 0, free_bytes_min: 8 << 30 }
    }
}

/// The layers that a host can give. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OfferedLayers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    limits: OfferedLimits,
    clock: Arc<dyn Clock>,
    kept: Mutex<BTreeMap<Digest, Kept>>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    bytes: u64,
    used_at: Timestamp,
}

impl OfferedLayers {
    /// Begins anew, without what another process kept.
    pub(crate) fn open(
        dir: PathBuf,
        limits: OfferedLimits,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BlobError> {
        files::dir::remove_tree(&dir).map_err(BlobError::io("sweep", &dir))?;
        files::private::make_dirs(&dir).map_err(BlobError::io("create", &dir))?;
        let kept = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { dir, limits, clock, kept }) })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.dir.join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Takes the verified bytes of a layer from `path`. What is too much goes, the least recently used first; what is
    /// not kept is removed.
    pub(crate) fn put(&self, path: &Path, digest: &Digest) -> Result<(), BlobError> {
        let bytes = fs::metadata(path).map_err(BlobError::io("look at", path))?.len();
        if bytes < SHARED_BYTES_MIN || bytes > self.inner.limits.bytes_max {
            return fs::remove_file(path).map_err(BlobError::io("remove", path));
        }
        let mut kept = held(&self.inner.kept);
        let others = kept.iter().filter(|(other, _)| *other != digest);
        let others: u64 = others.map(|(_, it)| it.bytes).sum();
        if others.saturating_add(bytes) > self.inner.limits.bytes_max || kept.len() >= LAYERS_MAX {
            let room = self.inner.limits.bytes_max - bytes;
            self.shrink(&mut kept, room, LAYERS_MAX - 1);
        }
        let name = self.path(digest);
        fs::rename(path, &name).map_err(BlobError::io("name", &name))?;
        kept.insert(*digest, Kept { bytes, used_at: self.inner.clock.now() });
        Ok(())
    }

    /// The bytes of a layer and how many they are, if they are here.
    pub(crate) fn open_layer(&self, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        let mut kept = held(&self.inner.kept);
        let Some(it) = kept.get_mut(digest) else { return Ok(None) };
        it.used_at = self.inner.clock.now();
        let file = File::open(self.path(digest))?;
        Ok(Some((file, it.bytes)))
    }

    pub(crate) fn limits(&self) -> OfferedLimits {
        self.inner.limits
    }

    /// What is here.
    pub fn list(&self) -> BTreeSet<Digest> {
        held(&self.inner.kept).keys().copied().collect()
    }

    /// The disk that they take.
    pub fn bytes(&self) -> u64 {
        held(&self.inner.kept).values().map(|it| it.bytes).sum()
    }

    /// Removes what is beyond `bytes_max`, the least recently used first.
    pub fn shrink_to(&self, bytes_max: u64) {
        self.shrink(&mut held(&self.inner.kept), bytes_max, LAYERS_MAX);
    }

    /// Removes what nobody fetched for long.
    pub(crate) fn drop_unused(&self) {
        let now = self.inner.clock.now();
        let mut kept = held(&self.inner.kept);
        let is_old = |it: &Kept| now.since_ms(it.used_at) > UNUSED_MS_MAX;
        let old: Vec<Digest> =
            kept.iter().filter(|(_, it)| is_old(it)).map(|(digest, _)| *digest).collect();
        old.iter().for_each(|digest| self.remove(&mut kept, digest));
    }

    fn shrink(&self, kept: &mut BTreeMap<Digest, Kept>, bytes_max: u64, layers_max: usize) {
        let mut by_use: Vec<(Timestamp, Digest, u64)> =
            kept.iter().map(|(digest, it)| (it.used_at, *digest, it.bytes)).collect();
        by_use.sort_unstable();
        let mut bytes: u64 = by_use.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, digest, its) in by_use {
            if bytes <= bytes_max && kept.len() <= layers_max {
                break;
            }
            self.remove(kept, &digest);
            bytes -= its;
        }
    }

    fn remove(&self, kept: &mut BTreeMap<Digest, Kept>, digest: &Digest) {
        kept.remove(digest);
        let path = self.path(digest);
        if let Err(error) = fs::remove_file(&path) {
            // It goes with the next start.
            tracing::warn!(path = %path.display(), %error, "could not remove a layer that was offered");
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SystemClock;

    use super::*;
    use crate::hash::Hasher;

    const MIB: u64 = 1 << 20;

    fn layer(dir: &Path, seed: u8, bytes: u64) -> (PathBuf, Digest) {
        let content = vec![seed; usize::try_from(bytes).unwrap()];
        let path = dir.join(seed.to_string());
        fs::write(&path, &content).unwrap();
        (path, Hasher::digest(&content))
    }

    #[test]
    fn no_more_is_kept_than_may_be_and_the_least_recently_used_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let (place, clock) = (dir.path().join("offered"), Arc::new(SystemClock));
        let limits = OfferedLimits { bytes_max: 3 * MIB, free_bytes_min: 0 };
        let offered = OfferedLayers::open(place.clone(), limits, clock.clone()).unwrap();
        let made: Vec<_> = (1..=4).map(|seed| layer(dir.path(), seed, MIB)).collect();
        for (path, digest) in &made[..3] {
            offered.put(path, digest).unwrap();
        }
        assert_eq!((offered.list().len(), offered.bytes()), (3, 3 * MIB));
        // The clock has milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert!(offered.open_layer(&made[0].1).unwrap().is_some());
        offered.put(&made[3].0, &made[3].1).unwrap();
        assert_eq!((offered.list().len(), offered.bytes()), (3, 3 * MIB));
        assert!(offered.list().contains(&made[0].1), "it was used last");
        let (small, digest) = layer(dir.path(), 5, MIB - 1);
        offered.put(&small, &digest).unwrap();
        let (large, digest) = layer(dir.path(), 6, 3 * MIB + 1);
        offered.put(&large, &digest).unwrap();
        assert!(!small.exists() && !large.exists(), "what is not kept is removed");
        assert_eq!(offered.bytes(), 3 * MIB);
        offered.shrink_to(0);
        assert_eq!((offered.list().len(), fs::read_dir(&place).unwrap().count()), (0, 0));
        let (path, digest) = layer(dir.path(), 7, MIB);
        offered.put(&path, &digest).unwrap();
        let again = OfferedLayers::open(place, limits, clock).unwrap();
        assert!(again.list().is_empty() && again.open_layer(&digest).unwrap().is_none());
    }
}
