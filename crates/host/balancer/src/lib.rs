//! The data plane of load balancing: takes clients' connections and passes their requests to targets. It takes those to
//! VPC endpoints too, and passes them on to the region ([`relay`]).
//!
//! It serves by a [`routing::Table`] that it reads from the region, checks targets, and reports what it sees
//! ([`Feed`]). The region may be away: the last table is kept on disk and served on. A new table changes what new requests
//! meet; no connection ends because of it.
//!
//! **Invariant:** once the process reports a version, no request that begins goes to a target that this version has
//! taken out of routing ([`target`]).

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for what they start"))]

mod checks;
pub mod connect;
mod feed;
mod http;
mod impatient;
pub mod limits;
mod listen;
mod live;
mod log;
mod pool;
mod relay;
mod retries;
mod shared;
mod sockets;
mod target;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use files::whole::{self, Durability};
use longshore_types::{Clock, IdSource};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::info;

pub use feed::{Feed, FeedError};
pub use listen::{Listening, listening};
pub use relay::{Doors, RegionDoor};
pub use sockets::Interfaces;

use crate::feed::Saved;
use crate::http::CookieKey;
use crate::limits::GRACE_MAX;
use crate::listen::Listeners;
use crate::shared::Shared;
use crate::sockets::Sockets;

/// In the state directory: the table that was last given, to serve by while the region is away. Keys of certificates are in it.
pub const TABLE_FILE: &str = "table.json";

/// How a balancer's process is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it keeps: the last table, chosen ports, the key of its cookies.
    pub state_dir: PathBuf,
    /// In place of buckets: below it access logs are written.
    pub logs_dir: PathBuf,
    /// The region's name, as logs name it.
    pub region: String,
    /// Which process it is, among those of the region.
    pub node: String,
    /// The machine's own address, at which internet-facing balancers are reached; none: at their interfaces alone.
    pub local: Option<IpAddr>,
    /// Where the interfaces of balancers are on this machine.
    pub interfaces: Arc<dyn Interfaces>,
    /// Where what comes to VPC endpoints goes on.
    pub doors: Arc<dyn Doors>,
    /// How soon an interface or address is looked for again that is not there.
    pub missing_wait: Duration,
}

/// Serves until `ended`, then finishes what is open.
pub async fn run(
    config: Config,
    feed: Arc<dyn Feed>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    files::private::make_dirs(&config.state_dir)?;
    let key = cookie_key(&config, ids.as_ref())?;
    let (logs, writer) =
        log::channel(config.logs_dir.clone(), config.region.clone(), Arc::clone(&clock));
    let sockets = Sockets::start(Arc::clone(&config.interfaces))?;
    let shared = Arc::new(Shared::new(clock, ids, key, logs, (sockets, Arc::clone(&config.doors))));
    let state_dir = config.state_dir.clone();
    let listeners = Arc::new(Listeners::new(Arc::clone(&shared), config.local, state_dir));
    let saved = Saved(config.state_dir.join(TABLE_FILE));
    let (table, missing_wait) = (saved.load(), config.missing_wait);
    if !table.balancers.is_empty() || !table.egress.is_empty() {
        info!(version = table.version, "serving by the saved table");
    }
    feed::apply(&shared, &listeners, &table).await;

    let mut tasks = JoinSet::new();
    let line = || (Arc::clone(&shared), Arc::clone(&feed), Arc::clone(&listeners));
    let (a, b, c) = line();
    tasks.spawn(feed::follow((a, missing_wait), b, c, saved, table));
    let (a, b, c) = line();
    tasks.spawn(feed::tell(a, b, c, config.node.clone()));
    tasks.spawn(checks::run(Arc::clone(&shared)));
    tasks.spawn(checks::mitigate(Arc::clone(&shared)));
    let mut logging = JoinSet::new();
    let (end_log, log_ended) = tokio::sync::oneshot::channel::<()>();
    logging.spawn(writer.run(async move { drop(log_ended.await) }));

    ended.await;
    info!("ending: no new connections, what is open is finished");
    listeners.close().await;
    shared.closing.send_replace(true);
    let deadline = Instant::now() + GRACE_MAX;
    while shared.connections.count() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
    tasks.shutdown().await;
    drop(end_log);
    while logging.join_next().await.is_some() {}
    Ok(())
}

/// The key that stickiness cookies are sealed with; made once, so that clients stay where they are over restarts.
fn cookie_key(config: &Config, ids: &dyn IdSource) -> io::Result<CookieKey> {
    let path = config.state_dir.join("cookie.key");
    if let Ok(bytes) = std::fs::read(&path)
        && let Ok(key) = <[u8; CookieKey::BYTES]>::try_from(bytes.as_slice())
    {
        return Ok(CookieKey::new(&key));
    }
    let mut key = [0; CookieKey::BYTES];
    ids.fill(&mut key);
    whole::write(&path, &key, Durability::Synced)?;
    Ok(CookieKey::new(&key))
}
