//! The fleet: agents that join, some at once, and leave again.

use std::sync::Arc;
use std::time::Duration;

use agent::client::{Api, ApiConfig, CallError};
use agent::{Ended, FixedCredentials};
use futures_util::StreamExt as _;
use futures_util::stream::{self, FuturesUnordered};
use http::Uri;
use longshore_types::{Clock, RegionName, SystemClock};
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use trust::Trust;

use super::agent::{FleetProfile, SimulatedAgent};
use super::recorder::Recorder;
use crate::error::Error;

/// Agents that join or leave at a time.
const AT_ONCE: usize = 32;
/// How many zones hosts are spread over.
const ZONES: [&str; 3] = ["a", "b", "c"];

/// Where the region is, and who asks.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) endpoint: Uri,
    pub(super) region: RegionName,
    pub(super) credentials: FixedCredentials,
    pub(super) trust: Trust,
}

impl Target {
    /// A client with connections of its own.
    pub(super) fn api(&self) -> Api {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let credentials = Arc::new(self.credentials.clone());
        let config = ApiConfig {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            trust: self.trust.clone(),
            log_endpoints: Vec::new(),
            runtime: agent::OWN_RUNTIME.to_owned(),
        };
        Api::new(config, credentials, clock)
    }
}

/// Agents that have joined. Dropping it ends them without a word, as a power cut would.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    arns: Vec<String>,
    agents: Vec<AbortHandle>,
}

impl Fleet {
    /// Adds agents until there are `count`, and says so to `progress` at each.
    pub(super) async fn join(
        &mut self,
        target: &Target,
        recorder: &Arc<Recorder>,
        profile: &Arc<FleetProfile>,
        count: usize,
        progress: impl Fn(usize),
    ) -> Result<(), Error> {
        let zones = ZONES.iter().cycle().map(|zone| format!("{}{zone}", target.region));
        let joining = zones.take(count).map(|zone| {
            let (api, recorder, profile) =
                (target.api(), Arc::clone(recorder), Arc::clone(profile));
            async move { SimulatedAgent::register(api, recorder, profile, &zone).await }
        });
        let mut registered = stream::iter(joining).buffer_unordered(AT_ONCE);
        let mut connecting = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(agent) = registered.next(), if connecting.len() < AT_ONCE => {
                    let agent = agent.map_err(Error::other("register a container instance"))?;
                    self.arns.push(agent.arn().to_owned());
                    connecting.push(async move { (agent.connect(true).await, agent) });
                }
                Some((socket, agent)) = connecting.next() => {
                    let socket = socket.map_err(|ended| Error::message(not_connected(&ended)))?;
                    #[expect(clippy::disallowed_methods, reason = "aborted when the fleet is dropped")]
                    self.agents.push(tokio::spawn(agent.run(socket)).abort_handle());
                    progress(self.agents.len());
                }
                else => return Ok(()),
            }
        }
    }

    /// Deregisters every agent, and ends those that did not end by themselves.
    pub(super) async fn leave(&mut self, api: &Api, cluster: &str) -> Result<(), CallError> {
        let arns = std::mem::take(&mut self.arns);
        let leaving = arns.into_iter().map(|arn| async move {
            let input = json!({ "cluster": cluster, "containerInstance": arn, "force": true });
            api.ecs::<_, Value>("DeregisterContainerInstance", &input).await
        });
        let mut leaving = stream::iter(leaving).buffer_unordered(AT_ONCE);
        let mut first_failure = Ok(());
        while let Some(left) = leaving.next().await {
            if let Err(error) = left {
                first_failure = first_failure.and(Err(error));
            }
        }
        self.end();
        first_failure
    }

    fn end(&mut self) {
        self.agents.drain(..).for_each(|agent| agent.abort());
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

fn not_connected(ended: &Ended) -> String {
    let why = match ended {
        Ended::Failed(why) => why.as_str(),
        Ended::Orderly => "the region closed it at once",
        Ended::Starved => "the region was silent",
        Ended::Inactive => "the region does not know the instance any more",
    };
    format!("an agent could not open its work socket: {why}")
}

/// Files that a process needs for its agents: a socket and some connections each.
pub(super) fn files_needed(agents: usize) -> u64 {
    const OTHERS: u64 = 200;
    u64::try_from(agents).unwrap_or(u64::MAX).saturating_mul(3).saturating_add(OTHERS)
}

/// How long is waited for what agents and region do by themselves, before it is called stuck.
pub(super) const BLOCKED_AFTER: Duration = Duration::from_secs(60);
