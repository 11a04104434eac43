//! Where the sockets are: DiscoverPollEndpoint, asked once for both.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_types::{Clock, Timestamp};
use tokio::time::timeout;

use crate::client::{Api, CallError, PollEndpoints};
use crate::limits::{HANDSHAKE_TIMEOUT_MS, POLL_ENDPOINT_CACHE_MS};
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
        let asking = self.api.discover_poll_endpoint(cluster, arn);
        let endpoints = match known {
            // A request of a link that was cut is not waited for longer than a handshake.
            Some((old, _)) => {
                match timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), asking).await {
                    Ok(Ok(endpoints)) => endpoints,
                    Ok(Err(_)) | Err(_) => return Ok(old),
                }
            }
            None => asking.await?,
        };
        let expires_at = now.plus_ms(POLL_ENDPOINT_CACHE_MS);
        if let Ok(mut known) = self.known.lock() {
            *known = Some((endpoints.clone(), expires_at));
        }
        Ok(endpoints)
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

#[cfg(test)]
mod tests {
    use longshore_types::Token;
    use tokio::net::TcpListener;
    use tokio::time::Instant;
    use trust::Trust;

    use super::*;
    use crate::client::{ApiConfig, FixedCredentials};
    use crate::fakes::TestClock;
    use crate::limits::API_TIMEOUT_MS;

    #[tokio::test(start_paused = true)]
    async fn the_old_address_is_tried_when_a_new_one_is_long_in_coming() {
        // Nobody answers there, as behind a link that is cut.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let config = ApiConfig {
            endpoint: endpoint.parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            trust: Trust::system(),
            log_endpoints: Vec::new(),
            runtime: crate::OWN_RUNTIME.to_owned(),
        };
        let credentials = aws_wire::sigv4::Credentials {
            access_key: "AKID".into(),
            secret: Token::from_text("secret".into()),
            session_token: None,
        };
        let clock: Arc<dyn Clock> = Arc::new(TestClock);
        let api = Api::new(config, Arc::new(FixedCredentials(credentials)), Arc::clone(&clock));
        let instance = Registered { arn: "arn".to_owned(), cluster: "demo".to_owned() };
        let poll = PollEndpoint::new(api, instance, clock);
        poll.learn(&endpoint);
        poll.forget();
        let began = Instant::now();
        assert_eq!(poll.get().await.unwrap().endpoint, Some(endpoint));
        assert!(began.elapsed() < Duration::from_millis(API_TIMEOUT_MS), "the test's own time");
    }
}
