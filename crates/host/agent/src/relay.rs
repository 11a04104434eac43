//! The way from containers to the region: what they send to the agent's address, at a port of its own, goes on to the
//! region as it is.
//!
//! Nothing is read here: who asks is found out by the region, from signatures. Each address has so many connections,
//! so that one task does not take the region's from everybody.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::endpoint::{Places, TaskEndpoint};
use crate::limits::{
    RELAY_BUFFER_BYTES, RELAY_CONNECT_MS, RELAY_CONNECTIONS_MAX, RELAY_CONNECTIONS_OF_HOST_MAX,
    RELAY_CONNECTIONS_OF_TASK_MAX,
};

/// How the SDKs of containers find the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionForTasks {
    /// What they are told as `AWS_ENDPOINT_URL`.
    pub url: String,
    /// A file of certificates that they are to trust beside their own.
    pub ca_file: Option<std::path::PathBuf>,
}

/// Where a container finds the certificates of [`RegionForTasks::ca_file`].
pub(crate) const CA_PATH: &str = "/etc/longshore-ca.pem";

impl RegionForTasks {
    /// What a container's environment says of it, unless its definition says otherwise.
    pub(crate) fn variables(&self) -> BTreeMap<&'static str, String> {
        let mut all = BTreeMap::from([("AWS_ENDPOINT_URL", self.url.clone())]);
        if self.ca_file.is_some() {
            all.insert("AWS_CA_BUNDLE", CA_PATH.to_owned());
        }
        all
    }
}

/// Takes connections on to `region`, which is a host and a port; never ends.
pub(crate) async fn serve(endpoint: Arc<TaskEndpoint>, region: String) {
    let listener = endpoint.relay.as_ref().map(std::net::TcpListener::try_clone);
    let listener = listener.and_then(Result::ok).and_then(|listener| {
        listener.set_nonblocking(true).ok()?;
        TcpListener::from_std(listener).ok()
    });
    let Some(listener) = listener else { return std::future::pending().await };
    let (mut connections, places) = (JoinSet::new(), Arc::new(Places::default()));
    loop {
        while RELAY_CONNECTIONS_MAX <= connections.len() {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((_, from)) if !endpoint.hears(from.ip()) => {
                debug!(from = %from.ip(), "neither a container nor the host asks for the region");
            }
            Ok((stream, from)) => {
                let Some(place) = places.take(from.ip(), connections_max(&endpoint, from.ip()))
                else {
                    debug!(from = %from.ip(), "a container has too many connections to the region");
                    continue;
                };
                let region = region.clone();
                connections.spawn(async move {
                    let _place = place;
                    pass_on(stream, &region).await;
                });
            }
            Err(error) => {
                warn!(%error, "failed to accept a container's connection to the region");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn connections_max(endpoint: &TaskEndpoint, from: IpAddr) -> usize {
    if endpoint.may_be_of_host(from) {
        RELAY_CONNECTIONS_OF_HOST_MAX
    } else {
        RELAY_CONNECTIONS_OF_TASK_MAX
    }
}

async fn pass_on(mut container: TcpStream, region: &str) {
    let limit = Duration::from_millis(RELAY_CONNECT_MS);
    let Ok(Ok(mut region)) = tokio::time::timeout(limit, TcpStream::connect(region)).await else {
        debug!("region not reached for a container");
        return;
    };
    let _ = (container.set_nodelay(true), region.set_nodelay(true));
    let bytes = RELAY_BUFFER_BYTES;
    let passed = copy_bidirectional_with_sizes(&mut container, &mut region, bytes, bytes).await;
    if let Err(error) = passed {
        debug!(%error, "a container's connection to the region ended");
    }
}
