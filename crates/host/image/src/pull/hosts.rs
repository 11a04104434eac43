//! Fetching a layer of the region's registry from other hosts of the region, and what they do not give from there.
//!
//! **Invariant:** bytes of other hosts lie in a file of their own until they are verified. If they are wrong, the layer comes
//! from the registry from its first byte.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_types::Digest;
use tokio::time::Instant;
use trust::LayerHolder;

use super::fetch::Fetched;
use super::{Puller, Source, blocking};
use crate::blobs::BlobWriter;
use crate::error::{ImageError, PullError};
use crate::hash::Hasher;
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::share::{self, FromHost, LayerSharing, SHARED_BYTES_MIN};

/// Hosts of which a pull expects nothing any more: by address, as anybody may name another one's certificate.
#[derive(Debug, Default)]
pub(super) struct Dropped(Mutex<BTreeSet<SocketAddrV4>>);

impl Dropped {
    fn add(&self, host: SocketAddrV4) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
    }

    fn has(&self, host: &SocketAddrV4) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }
}

/// Who gave parts of a layer.
#[derive(Debug, Default)]
struct Gave {
    /// Whether the beginning is of an earlier pull.
    is_from_before: bool,
    /// Each with whether it gave all that lacked.
    hosts: Vec<(SocketAddrV4, bool)>,
}

impl Gave {
    /// Who is passed over for a layer that is wrong. Whoever ended what others began may have been misled by them.
    fn suspects(&self) -> Vec<Ipv4Addr> {
        let is_alone = self.hosts.len() == 1 && !self.is_from_before;
        let its = self.hosts.iter().filter(|(_, is_whole)| is_alone || !is_whole);
        its.map(|(address, _)| *address.ip()).collect()
    }
}

impl Puller {
    /// How layers of a source are shared, if they are.
    pub(super) fn sharing(&self, source: &Source) -> Option<&Arc<LayerSharing>> {
        self.inner.config.sharing.as_ref().filter(|it| it.is_of(source.upstream.host()))
    }

    /// A layer that other hosts gave, or began to give; none if it is to be fetched from the registry as ever.
    pub(super) async fn fetch_from_hosts(
        &self,
        source: &Source,
        layer: &Descriptor,
        progress: &Progress,
    ) -> Result<Option<Fetched>, PullError> {
        let Some(sharing) = self.sharing(source) else { return Ok(None) };
        let is_wanted = layer.size >= SHARED_BYTES_MIN && sharing.reaches_hosts();
        if !is_wanted || self.is_begun(source, &layer.digest) {
            return Ok(None);
        }
        let holders = match source.upstream.holders(&layer.digest, sharing.fingerprint()).await {
            Ok(holders) => holders,
            Err(error) => {
                // The registry says why to who asks for the layer itself.
                tracing::debug!(layer = %layer.digest, %error, "not told which hosts have a layer");
                return Ok(None);
            }
        };
        let is_good = |it: &LayerHolder| {
            !source.dropped.has(&it.address) && !sharing.is_distrusted(it.address.ip())
        };
        let holders: Vec<LayerHolder> = holders.into_iter().filter(is_good).collect();
        if holders.is_empty() {
            return Ok(None);
        }
        self.fetch_from(source, sharing, &holders, (layer, progress)).await
    }

    /// Whether a fetch from the registry broke off, which goes on there.
    fn is_begun(&self, source: &Source, layer: &Digest) -> bool {
        let path = self.inner.store.partial_path(source.upstream.host(), layer);
        fs::metadata(path).is_ok_and(|it| it.len() > 0)
    }

    async fn fetch_from(
        &self,
        source: &Source,
        sharing: &LayerSharing,
        holders: &[LayerHolder],
        (layer, progress): (&Descriptor, &Progress),
    ) -> Result<Option<Fetched>, PullError> {
        let digest = layer.digest;
        let path = self.inner.store.partial_path_of_hosts(source.upstream.host(), &digest);
        let at = path.clone();
        let opened = blocking(move || Ok(BlobWriter::append(&at, Hasher::like(&digest))?)).await;
        let mut writer = opened.map_err(|error| source.store_failed(error))?;
        let tell = |bytes| progress.tell(Event::Fetched { layer: digest, bytes });
        let mut gave = Gave { is_from_before: writer.written() > 0, ..Gave::default() };
        let until = Instant::now() + sharing.time_for(layer);
        let may_ask = |_: &&LayerHolder| sharing.reaches_hosts() && Instant::now() < until;
        for holder in holders.iter().take_while(may_ask) {
            let before = writer.written();
            if before >= layer.size {
                break;
            }
            // Another layer of the pull may have found it so meanwhile.
            if sharing.is_away(holder) {
                continue;
            }
            let (back, fetched) =
                share::fetch_rest(sharing, holder, layer, writer, (&tell, until)).await;
            writer = back.ok_or_else(|| source.store_failed(ImageError::Worker))?;
            let bytes = writer.written() - before;
            if bytes > 0 {
                gave.hosts.push((holder.address, fetched.is_ok()));
            }
            let address = holder.address;
            match fetched {
                Ok(()) => {
                    tracing::info!(layer = %digest, bytes, of = layer.size, from = %address, "layer taken from another host");
                }
                Err(FromHost::Failed(why)) => {
                    source.dropped.add(address);
                    tracing::info!(layer = %digest, bytes, of = layer.size, from = %address, why, "another host gives no more of a layer");
                }
                Err(FromHost::Blob(error)) => {
                    fs::remove_file(&path).ok();
                    return Err(source.store_failed(error));
                }
            }
        }
        if writer.written() == 0 {
            fs::remove_file(&path).ok();
            return Ok(None);
        }
        if writer.written() < layer.size {
            let (back, fetched) = source.upstream.blob(layer, writer, &tell).await;
            writer = back.ok_or_else(|| source.store_failed(ImageError::Worker))?;
            fetched.map_err(|error| source.failed(error))?;
        }
        match self.verified(source, layer, writer).await {
            Ok(file) => Ok(Some(Fetched { file, path })),
            Err(PullError::Digest { .. }) => {
                tracing::warn!(layer = %digest, hosts = gave.hosts.len(), "what other hosts sent is not the layer, it comes from the registry");
                gave.hosts.iter().for_each(|(host, _)| source.dropped.add(*host));
                sharing.distrust(&gave.suspects());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_what_another_host_began_is_not_blamed_for_it() {
        let host = |last: u8, is_whole| {
            (SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 14_790), is_whole)
        };
        let suspects = |is_from_before, hosts: &[(SocketAddrV4, bool)]| {
            let suspects = Gave { is_from_before, hosts: hosts.to_vec() }.suspects();
            suspects.iter().map(|it| it.octets()[3]).collect::<Vec<_>>()
        };
        assert_eq!(suspects(false, &[host(1, true)]), [1]);
        assert_eq!(suspects(false, &[host(1, false)]), [1], "the registry gave the rest");
        assert_eq!(suspects(false, &[host(1, false), host(2, true)]), [1]);
        assert_eq!(suspects(true, &[host(2, true)]), [0; 0], "somebody else began");
    }
}
