//! The work socket: hears what the region wants, and acknowledges what it took in.

mod layers;
mod session;
#[cfg(test)]
mod tests;
mod work_socket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use image::LayerSharing;
use longshore_types::{Clock, IdSource};
use sandbox::uptime_ms;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::client::{Api, Backoff, RegionLink, random_below};
use crate::engine::Engine;
use crate::limits::{
    HEALTHY_SESSION_MS, IMMEDIATE_RECONNECTS_MAX, INACTIVE_WAIT_MS, RECONNECT_JITTER_MS, SESSION_MS,
};
use crate::poll::PollEndpoint;
use crate::register::Registered;
use crate::sequence::Sequence;
use crate::socket::Ended;

pub use work_socket::WorkSocket;

/// What a session needs.
#[derive(Clone, Debug)]
pub(crate) struct Acs {
    pub(crate) api: Api,
    pub(crate) engine: Engine,
    pub(crate) link: Arc<RegionLink>,
    pub(crate) instance: Registered,
    pub(crate) poll: Arc<PollEndpoint>,
    pub(crate) sequence: Arc<Sequence>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    /// Rung at each heartbeat: the telemetry socket then says how we are.
    pub(crate) heartbeat: Arc<Notify>,
    /// Whether the region has said that this instance is no more.
    pub(crate) is_inactive: Arc<AtomicBool>,
    /// The host's part in giving layers to others, if it has one.
    pub(crate) sharing: Option<Arc<LayerSharing>>,
}

/// Keeps a session for ever.
pub(crate) async fn run(acs: Acs) {
    let mut backoff = Backoff::acs();
    let mut immediate = 0;
    let mut wants_credentials = true;
    loop {
        let (began, asked_ms) = (acs.clock.now(), uptime_ms());
        let ended = match connect(&acs, wants_credentials).await {
            Ok(socket) => {
                wants_credentials = false;
                acs.is_inactive.store(false, Ordering::Relaxed);
                acs.link.heard();
                info!(instance = acs.instance.arn, "connected");
                session::serve(&acs, socket, asked_ms).await
            }
            Err(ended) => ended,
        };
        if HEALTHY_SESSION_MS <= acs.clock.now().since_ms(began) {
            backoff.reset();
            immediate = 0;
        }
        let wait_ms = match ended {
            Ended::Orderly | Ended::Starved if immediate < IMMEDIATE_RECONNECTS_MAX => {
                immediate += 1;
                info!(?ended, "work session over");
                backoff.reset();
                // One whose time was up is alone, others may be a crowd.
                let is_expired = SESSION_MS <= acs.clock.now().since_ms(began);
                if is_expired { 0 } else { random_below(&*acs.ids, RECONNECT_JITTER_MS) }
            }
            Ended::Inactive => {
                warn!(instance = acs.instance.arn, "this instance was deregistered");
                acs.is_inactive.store(true, Ordering::Relaxed);
                INACTIVE_WAIT_MS
            }
            Ended::Orderly | Ended::Starved | Ended::Failed(_) => {
                acs.poll.forget();
                let wait_ms = backoff.next_ms(&*acs.ids);
                info!(?ended, wait_ms, "no work session");
                wait_ms
            }
        };
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

async fn connect(acs: &Acs, wants_credentials: bool) -> Result<WorkSocket, Ended> {
    let endpoints = acs.poll.get().await.map_err(|error| Ended::Failed(error.to_string()))?;
    let endpoint = endpoints.endpoint.ok_or(Ended::Failed("no endpoint".to_owned()))?;
    let Registered { arn, cluster } = &acs.instance;
    WorkSocket::open(&acs.api, &endpoint, cluster, arn, wants_credentials).await
}
