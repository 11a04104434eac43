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
mod figures;
mod front;
mod handover;
mod http;
mod impatient;
mod introduced;
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

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use files::whole::{self, Durability};
use longshore_types::{Chain, Clock, IdSource};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

pub use feed::{Feed, FeedError};
pub use handover::Predecessor;
pub use listen::{Listening, listening};
pub use relay::{Doors, RegionDoor};
pub use sockets::Interfaces;

use crate::feed::{Saved, ServedTable, Teller};
use crate::handover::Handover;
use crate::http::CookieKey;
use crate::limits::{GRACE_MAX, HANDED_OVER_LOOK, HANDED_OVER_MAX};
use crate::listen::Listeners;
use crate::shared::{Phase, Shared};
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

/// How a process comes to its role.
#[derive(Debug)]
pub enum Tenure {
    /// Nobody has it; with the lock that says who does.
    First(File),
    /// Another process has, which goes on until this one serves.
    After(Predecessor),
}

/// Serves until `ended`, or until another process has taken this one's place, then finishes what is open.
///
/// # Errors
/// It cannot begin, or the process before it goes on.
pub async fn run(
    config: Config,
    tenure: Tenure,
    feed: Arc<dyn Feed>,
    (clock, ids): (Arc<dyn Clock>, Arc<dyn IdSource>),
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    files::private::make_dirs(&config.state_dir)?;
    let key = cookie_key(&config, ids.as_ref())?;
    let (logs, writer) =
        log::channel(config.logs_dir.clone(), config.region.clone(), Arc::clone(&clock));
    let sockets = Sockets::start(Arc::clone(&config.interfaces))?;
    let shared = Arc::new(Shared::new(clock, ids, key, logs, (sockets, Arc::clone(&config.doors))));
    let mut logging = JoinSet::new();
    let (end_log, log_ended) = tokio::sync::oneshot::channel::<()>();
    logging.spawn(writer.run(async move { drop(log_ended.await) }));
    let served = serve(&config, tenure, feed, &shared, ended).await;
    shared.phase.send_replace(Phase::Over);
    drop(end_log);
    while logging.join_next().await.is_some() {}
    served
}

async fn serve(
    config: &Config,
    tenure: Tenure,
    feed: Arc<dyn Feed>,
    shared: &Arc<Shared>,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    let saved = Saved(config.state_dir.join(TABLE_FILE));
    let (lock, table, given, link) = match tenure {
        Tenure::First(lock) => (lock, saved.load(), BTreeMap::new(), None),
        Tenure::After(before) => {
            let (lock, table, given, link) = before.parts();
            (lock, table, given, Some(link))
        }
    };
    let state_dir = config.state_dir.clone();
    let listeners = Arc::new(Listeners::new(Arc::clone(shared), config.local, state_dir, given));
    if !table.balancers.is_empty() || !table.egress.is_empty() {
        info!(version = table.version, "serving by the saved table");
    }
    feed::apply(shared, &listeners, &table).await;
    listeners.drop_given();
    let mut tasks = JoinSet::new();
    let before = match link {
        None => watch::channel(None).1,
        Some(link) => match link.serving().await {
            Ok((held, link)) => {
                info!("the place of another process is taken");
                if held.is_none() {
                    warn!("the process before says nothing that can be read of what it holds");
                }
                let (send, before) = watch::channel(held);
                tasks.spawn(handover::hear(link, send, Arc::clone(shared)));
                before
            }
            Err(error) => {
                // It goes on, and what came here meanwhile is finished.
                finish(shared, &listeners).await;
                return Err(error);
            }
        },
    };
    if let Err(error) = files::holder::note(&lock) {
        warn!(error = %Chain(&error), "could not note the process id");
    }
    let table = Arc::new(ServedTable::new(table));
    let teller = Arc::new(Teller {
        shared: Arc::clone(shared),
        feed: Arc::clone(&feed),
        listeners: Arc::clone(&listeners),
        node: config.node.clone(),
        before,
        successor: Mutex::default(),
    });
    let followed = (Arc::clone(shared), config.missing_wait);
    tasks.spawn(feed::follow(followed, feed, Arc::clone(&listeners), saved, Arc::clone(&table)));
    tasks.spawn(Arc::clone(&teller).run());
    tasks.spawn(checks::run(Arc::clone(shared)));
    tasks.spawn(checks::mitigate(Arc::clone(shared)));

    let handover = Handover::new(&config.state_dir, &teller, &table, lock);
    let ended = pin!(ended);
    let _lock = serve_until(handover, &teller, ended).await;
    info!("ending: no new connections, what is open is finished");
    finish(shared, &listeners).await;
    tasks.shutdown().await;
    Ok(())
}

/// Completes once the process is to end soon; with the lock, unless that is another's by now: nobody has the role before this
/// one has ended, which still tells the region what it holds.
async fn serve_until(
    handover: Handover,
    teller: &Teller,
    mut ended: Pin<&mut impl Future<Output = ()>>,
) -> Option<File> {
    let successor = tokio::select! {
        () = &mut ended => return Some(handover.into_lock()),
        successor = handover.done() => successor,
    };
    drop(handover);
    info!("another process has taken over, what is open is finished");
    let (link, gone) = successor.split();
    *teller.successor.lock().await = link;
    teller.shared.changed.notify_one();
    // The one before this one ends with it, and is heard of by it.
    let finished = async {
        while !teller.shared.is_empty() || teller.before.borrow().is_some() {
            sleep(HANDED_OVER_LOOK).await;
        }
    };
    tokio::select! {
        () = finished => {}
        () = &mut ended => {}
        () = gone => {}
        () = sleep(HANDED_OVER_MAX) => {}
    }
    None
}

/// Takes nothing new and finishes what is open, for as long as that may take.
async fn finish(shared: &Shared, listeners: &Listeners) {
    listeners.close().await;
    shared.phase.send_replace(Phase::Ending);
    let deadline = Instant::now() + GRACE_MAX;
    while shared.has_connections() && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
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
