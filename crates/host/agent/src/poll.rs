//! Where the sockets are: DiscoverPollEndpoint, asked once for both.

use std::sync::{Arc, Mutex};

use longshore_types::{Clock, Timestamp};

use crate::client::{Api, CallError, PollEndpoints};
use crate::limits::POLL_ENDPOINT_CACHE_MS;
use crate::register::Registered;

/// A cached answer; an old one is better than none.
#[derive(Debug)]
pub(crate) struct PollEndpoint {
    api: Api,
    instance: Registered,
    clock: Arc<dyn Clock>,
    known: Mutex<Option<(PollEndpoints, Timestamp)>>,
}

impl PollEndpoint {
    pub(crate) fn new(api: Api, instance: Registered, clock: Arc<dyn Clock>) -> Self {
        Self { api, instance, clock, known: Mutex::default() }
    }

    pub(crate) async fn get(&self) -> Result<PollEndpoints, CallError> {
        let now = self.clock.now();
        let known = self.known.lock().ok().and_then(|known| known.clone());
        if let Some((endpoints, expires_at)) = &known
            && now < *expires_at
        {
            return Ok(endpoints.clone());
        }
        let Registered { arn, cluster } = &self.instance;
        match (self.api.discover_poll_endpoint(cluster, arn).await, known) {
            (Ok(endpoints), _) => {
                let expires_at = now.plus_ms(POLL_ENDPOINT_CACHE_MS);
                if let Ok(mut known) = self.known.lock() {
                    *known = Some((endpoints.clone(), expires_at));
                }
                Ok(endpoints)
            }
            (Err(_), Some((endpoints, _))) => Ok(endpoints),
            (Err(error), None) => Err(error),
        }
    }

    #[cfg(test)]
    pub(crate) fn learn(&self, endpoint: &str) {
        let endpoints = PollEndpoints {
            endpoint: Some(endpoint.to_owned()),
            telemetry_endpoint: Some(endpoint.to_owned()),
        };
        *self.known.lock().unwrap() = Some((endpoints, Timestamp(u64::MAX)));
    }

    /// The address did not work: ask again next time.
    pub(crate) fn forget(&self) {
        if let Ok(mut known) = self.known.lock()
            && let Some((_, expires_at)) = &mut *known
        {
            *expires_at = Timestamp(0);
        }
    }
}
