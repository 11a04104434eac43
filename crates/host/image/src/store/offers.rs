//! The disk's room, and the layers that are kept as they came, for other hosts: they go before anything else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use longshore_types::{Chain, Digest};

use super::ImageStore;
use crate::blobs::BlobError;
use crate::share::{FREE_PERCENT_MIN, OfferedLayers};

impl ImageStore {
    /// How much of the disk is free for us; nothing if the kernel does not say.
    pub fn free_percent(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.inner.config.dir).ok()?;
        disk.f_bavail.saturating_mul(100).checked_div(disk.f_blocks)
    }

    /// The bytes of the disk that are free for us; none if the kernel does not say.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.inner.config.dir).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The layers that are kept for other hosts.
    pub fn offered(&self) -> &OfferedLayers {
        &self.inner.offered
    }

    /// Keeps the verified bytes of a layer for other hosts where there is room, or removes them. Blocks.
    pub(crate) fn offer(&self, path: &Path, digest: &Digest) {
        self.make_room();
        let kept = match self.is_short() {
            true => fs::remove_file(path).map_err(BlobError::io("remove", path)),
            false => self.inner.offered.put(path, digest),
        };
        if let Err(error) = kept {
            tracing::warn!(layer = %digest, error = %Chain(&error), "layer not offered to other hosts");
        }
    }

    fn is_short(&self) -> bool {
        let least = self.inner.offered.limits().free_bytes_min;
        self.free_percent().is_some_and(|free| free < FREE_PERCENT_MIN)
            && self.free_bytes().is_some_and(|free| free < least)
    }

    /// What is kept for others goes first where the disk is nearly full. Blocks.
    pub fn make_room(&self) {
        if self.is_short() {
            self.inner.offered.shrink_to(0);
        }
    }

    /// Makes room where it is short, and where images may take `bytes_max`.
    pub(super) fn collect_offered(&self, sizes: &BTreeMap<Digest, u64>, bytes_max: Option<u64>) {
        self.make_room();
        self.inner.offered.drop_unused();
        if let Some(bytes_max) = bytes_max {
            let bytes = sizes.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
            self.inner.offered.shrink_to(bytes_max.saturating_sub(bytes));
        }
    }

    /// The same of what other hosts send of a layer of `host`.
    pub(crate) fn partial_path_of_hosts(&self, host: &str, digest: &Digest) -> PathBuf {
        self.partial_path(&format!("hosts for {host}"), digest)
    }
}
