//! Removes blobs that nobody has, safely against those that are just being pushed.
//!
//! A layer without a manifest looks abandoned to who decides while the manifest is being put, and
//! between a blob's appearance in the store and its entry in the catalog the blob does. Whoever
//! makes such a pair holds the gate's shared side; a removal looks and removes on the exclusive side.

use longshore_types::Timestamp;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::auth::Authorizer;
use crate::catalog::Catalog;
use crate::{ORPHAN_AGE_MS_MIN, Registry, RegistryError, UPLOAD_IDLE_MS_MAX};

#[derive(Debug, Default)]
pub(crate) struct Gate(RwLock<()>);

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub uploads: usize,
    pub layers: usize,
    pub blobs: usize,
}

impl Gate {
    pub(crate) async fn making(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().await
    }
}

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    /// Removes uploads that stood still, and layers and blobs that no image needs. To be called now
    /// and then; what is younger than an hour stays.
    pub async fn sweep(&self) -> Result<Swept, RegistryError> {
        let now = self.clock.now();
        let uploads = self.uploads.sweep(Timestamp(now.0.saturating_sub(UPLOAD_IDLE_MS_MAX)))?;
        let before = Timestamp(now.0.saturating_sub(ORPHAN_AGE_MS_MIN));
        let layers = {
            let _alone = self.gate.0.write().await;
            self.catalog.unlink_orphans(before).await?
        };
        let blobs = self.remove_unknown(before).await?;
        Ok(Swept { uploads, layers, blobs })
    }

    async fn remove_unknown(&self, before: Timestamp) -> Result<usize, RegistryError> {
        let mut removed = 0;
        let listed = self.blobs.list()?;
        let known = self.catalog.digests();
        for digest in listed.into_iter().filter(|digest| !known.contains(digest)) {
            let _alone = self.gate.0.write().await;
            let path = self.blobs.path(&digest);
            let modified = std::fs::metadata(&path).and_then(|meta| meta.modified());
            let Ok(modified) = modified else { continue };
            let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let is_young = u64::try_from(since.as_millis()).is_ok_and(|ms| ms >= before.0);
            if is_young || self.catalog.digests().contains(&digest) {
                continue;
            }
            self.blobs.remove(&digest)?;
            removed += 1;
        }
        Ok(removed)
    }
}
