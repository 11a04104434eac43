//! Layers that the hosts of one region give to each other, with the region as directory.
//!
//! A host keeps the bytes of layers as they came from the region's registry ([`OfferedLayers`]), says which those are, and gives
//! them to who brings a ticket of the region's ([`serve`]). One that pulls asks the registry, with the login of the
//! pull, who has a layer; the registry answers with tickets where it would give the layer itself.
//!
//! What two hosts say to each other, over TLS in which both show a certificate: `layer1 DIGEST OFFSET TICKET`, and
//! `ok BYTES` with the bytes from there on, or `no` and why; a line each.
//!
//! **Invariant:** nothing that a host sends is used before its digest was verified, and no pull fails by what it sends.

mod fetch;
mod offered;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_types::{Digest, Timestamp};
use tokio::time::Instant;
use trust::{
    Fingerprint, LayerHolder, LayerTicket, NotGranted, PeerError, PeerIdentity, TicketKey,
};

use crate::client::Egress;
use crate::manifest::Descriptor;

pub(crate) use fetch::{FromHost, fetch_rest};
pub(crate) use offered::FREE_PERCENT_MIN;
pub use offered::{OfferedLayers, OfferedLimits};

/// Where hosts give layers, unless told otherwise.
pub const LAYER_PORT: u16 = 14_790;
/// Smaller layers come from the registry: asking where they are takes as long.
pub(crate) const SHARED_BYTES_MIN: u64 = 1 << 20;
/// A host that sent what is not the layer is not asked again for so long.
const DISTRUST: Duration = Duration::from_secs(3_600);
/// Hosts that are remembered for it, and as many for not being reached.
const PASSED_OVER_MAX: usize = 1_024;
/// So many hosts that are not reached, with none between them that is, are enough: what is between may let nobody pass.
const UNREACHED_MAX: usize = 3;
/// Then nobody is asked for so long, nor one that is not reached.
const PAUSE: Duration = Duration::from_secs(600);
/// The longest line that two hosts say to each other.
const LINE_BYTES_MAX: u64 = 512;

/// How a host shares layers.
#[derive(Clone, Debug)]
pub struct SharingConfig {
    /// The region's registry, as `host:port`: layers of others are not shared.
    pub registry: String,
    /// What is given to all other hosts together.
    pub bytes_per_second_max: u64,
    /// Where other hosts may be.
    pub egress: Egress,
}

/// How long a host is waited for. One that is slower than the registry would be is no help.
#[derive(Clone, Copy, Debug)]
struct Patience {
    connect: Duration,
    /// For the TLS handshake, and again for the answer's first line.
    answer: Duration,
    idle: Duration,
    /// In so long,
    window: Duration,
    /// so much has to come.
    window_bytes_min: u64,
    /// For all that hosts give of a layer, whoever they are: what is wrong is found out at its end alone.
    layer_min: Duration,
    /// Of a larger layer, as long as it takes at so much a second.
    layer_bytes_per_second: u64,
}

impl Patience {
    fn of_layer(&self, bytes: u64) -> Duration {
        Duration::from_secs(bytes / self.layer_bytes_per_second).max(self.layer_min)
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            answer: Duration::from_secs(5),
            idle: Duration::from_secs(5),
            window: Duration::from_secs(10),
            window_bytes_min: 10 << 20,
            layer_min: Duration::from_secs(60),
            layer_bytes_per_second: 8 << 20,
        }
    }
}

/// What the region is told of a host's layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub port: u16,
    pub layers: BTreeSet<Digest>,
    /// Bytes given to other hosts, and taken from them, since the process began.
    pub given: u64,
    pub taken: u64,
}

/// What tickets are checked by: the region's time counts, as the host's clock may be another.
struct Grants {
    key: TicketKey,
    told_at: Timestamp,
    heard_at: Instant,
}

/// A host's part in it.
pub struct LayerSharing {
    config: SharingConfig,
    patience: Patience,
    identity: PeerIdentity,
    offered: OfferedLayers,
    grants: Mutex<Option<Grants>>,
    /// Where it is listened; 0 while it is not.
    port: AtomicU16,
    given: AtomicU64,
    taken: AtomicU64,
    /// By address, which a host does not change as easily as its certificate.
    distrusted: Mutex<BTreeMap<Ipv4Addr, Instant>>,
    reach: Mutex<Reach>,
}

/// Whether other hosts are reached at all.
#[derive(Debug, Default)]
struct Reach {
    /// Since the last that was: layers of one pull ask the same host at the same time.
    unreached: BTreeSet<Ipv4Addr>,
    /// Those that were not reached, each for a while: one whose agent is started anew has another certificate.
    away: BTreeMap<(SocketAddrV4, Fingerprint), Instant>,
    paused_until: Option<Instant>,
}

/// Remembers for a while, but not too many.
fn pass_over<K: Ord>(hosts: &mut BTreeMap<K, Instant>, host: K, pause: Duration) {
    let now = Instant::now();
    hosts.retain(|_, until| now < *until);
    if hosts.len() < PASSED_OVER_MAX {
        hosts.insert(host, now + pause);
    }
}

fn is_passed_over<K: Ord>(hosts: &BTreeMap<K, Instant>, host: &K) -> bool {
    hosts.get(host).is_some_and(|until| Instant::now() < *until)
}

impl std::fmt::Debug for LayerSharing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerSharing").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LayerSharing {
    pub fn new(config: SharingConfig, offered: OfferedLayers) -> Result<Self, PeerError> {
        Ok(Self {
            config,
            patience: Patience::default(),
            identity: PeerIdentity::make()?,
            offered,
            grants: Mutex::default(),
            port: AtomicU16::new(0),
            given: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            distrusted: Mutex::default(),
            reach: Mutex::default(),
        })
    }

    /// For how long hosts may give a layer.
    pub(crate) fn time_for(&self, layer: &Descriptor) -> Duration {
        self.patience.of_layer(layer.size)
    }

    /// By which other hosts know this one.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    /// What the region is to be told; nothing while nobody is listened to.
    pub fn told(&self) -> Option<Told> {
        let port = self.port.load(Ordering::Relaxed);
        (port != 0).then(|| Told {
            port,
            layers: self.offered.list(),
            given: self.given.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
        })
    }

    /// From now on the region grants by this key; it was `told_at` by its clock.
    pub fn granted_by(&self, key: TicketKey, told_at: Timestamp) {
        *held(&self.grants) = Some(Grants { key, told_at, heard_at: Instant::now() });
    }

    /// Gives layers at `address`, for ever.
    pub async fn serve(self: &Arc<Self>, address: SocketAddrV4) -> Infallible {
        serve::serve(self, address).await
    }

    /// Whether layers of this registry are shared.
    pub(crate) fn is_of(&self, registry: &str) -> bool {
        self.config.registry == registry
    }

    /// Whether the region granted a layer to who asks for it, and still does.
    fn check(
        &self,
        ticket: &LayerTicket,
        layer: &Digest,
        asker: &Fingerprint,
    ) -> Result<(), NotGranted> {
        let grants = held(&self.grants);
        let Some(grants) = &*grants else { return Err(NotGranted::Forged) };
        let since = u64::try_from(grants.heard_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        grants.key.check(ticket, layer, asker, grants.told_at.plus_ms(since))
    }

    pub(crate) fn count_taken(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Asks none of these hosts for a while: what they sent was not the layer.
    pub(crate) fn distrust(&self, hosts: &[Ipv4Addr]) {
        let mut distrusted = held(&self.distrusted);
        hosts.iter().for_each(|host| pass_over(&mut distrusted, *host, DISTRUST));
    }

    pub(crate) fn is_distrusted(&self, host: &Ipv4Addr) -> bool {
        is_passed_over(&held(&self.distrusted), host)
    }

    /// Whether other hosts are worth asking.
    pub(crate) fn reaches_hosts(&self) -> bool {
        held(&self.reach).paused_until.is_none_or(|until| until <= Instant::now())
    }

    /// Whether it is not long that a host was not reached.
    pub(crate) fn is_away(&self, host: &LayerHolder) -> bool {
        is_passed_over(&held(&self.reach).away, &(host.address, host.certificate))
    }

    /// Whether a host that was asked has answered.
    fn reached(&self, host: &LayerHolder, is_reached: bool) {
        let mut reach = held(&self.reach);
        let key = (host.address, host.certificate);
        if is_reached {
            reach.unreached.clear();
            reach.away.remove(&key);
            return;
        }
        pass_over(&mut reach.away, key, PAUSE);
        reach.unreached.insert(*host.address.ip());
        if reach.unreached.len() >= UNREACHED_MAX {
            tracing::warn!(
                pause_s = PAUSE.as_secs(),
                "other hosts are not reached (TCP, --layer-port), layers come from the registry"
            );
            reach.unreached.clear();
            reach.paused_until = Some(Instant::now() + PAUSE);
        }
    }
}
