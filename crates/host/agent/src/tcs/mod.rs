//! The telemetry socket: what containers use, how healthy they are, and how we are.

mod sampler;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acs::telemetry::{
    ContainerHealth, InstanceStatus, Metadata, PublishHealth, PublishInstanceStatus,
    PublishMetrics, StatusMetadata, TaskHealth,
};
use acs::{Envelope, frame};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Uri, header};
use longshore_types::{Clock, IdSource, Timestamp, Uuid};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_tungstenite::tungstenite::Message;
use tracing::{debug, info, warn};

use self::sampler::Sampler;
use crate::client::{Api, Backoff, random_below};
use crate::engine::state::Phase;
use crate::engine::{Engine, TaskView};
use crate::limits::{
    HEALTHY_SESSION_MS, METRIC_TASKS_MAX, METRICS_INTERVAL_MS, SAMPLE_INTERVAL_MS,
    SESSION_JITTER_MS, SESSION_MS, STARVATION_JITTER_MS, STARVATION_MS,
};
use crate::poll::PollEndpoint;
use crate::register::Registered;
use crate::socket::{self, Ended, Socket, classify};

/// What counts as a sign of life here.
const HEARD: [&str; 4] =
    ["HeartbeatMessage", "AckPublishMetric", "AckPublishHealth", "AckPublishInstanceStatus"];
const INACTIVE_LOOK_MS: u64 = 10_000;

#[derive(Clone, Debug)]
pub(crate) struct Tcs {
    pub(crate) api: Api,
    pub(crate) engine: Engine,
    pub(crate) instance: Registered,
    pub(crate) poll: Arc<PollEndpoint>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) heartbeat: Arc<Notify>,
    pub(crate) is_inactive: Arc<AtomicBool>,
}

/// Keeps a session for ever.
pub(crate) async fn run(tcs: Tcs) {
    let mut backoff = Backoff::tcs();
    loop {
        if tcs.is_inactive.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(INACTIVE_LOOK_MS)).await;
            continue;
        }
        let began = tcs.clock.now();
        let ended = match connect(&tcs).await {
            Ok((socket, uri)) => Session::new(&tcs, uri).serve(socket).await,
            Err(ended) => ended,
        };
        let was_healthy = HEALTHY_SESSION_MS <= tcs.clock.now().since_ms(began);
        if was_healthy {
            backoff.reset();
        }
        let is_orderly = matches!(ended, Ended::Orderly | Ended::Starved);
        if is_orderly && was_healthy {
            continue;
        }
        info!(?ended, "no telemetry session");
        let wait_ms = backoff.next_ms(&*tcs.ids);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

async fn connect(tcs: &Tcs) -> Result<(Socket, Uri), Ended> {
    let endpoints = tcs.poll.get().await.map_err(|error| Ended::Failed(error.to_string()))?;
    let endpoint = endpoints.telemetry_endpoint.ok_or(Ended::Failed("no endpoint".to_owned()))?;
    let query = [
        ("agentHash", crate::AGENT_HASH),
        ("agentVersion", crate::AGENT_VERSION),
        ("cluster", &*tcs.instance.cluster),
        ("containerInstance", &*tcs.instance.arn),
        ("dockerVersion", tcs.api.runtime()),
    ];
    let uri = socket::socket_uri(&endpoint, &query)?;
    Ok((socket::connect(&tcs.api, &uri).await?, uri))
}

struct Session<'a> {
    tcs: &'a Tcs,
    uri: Uri,
    sampler: Sampler,
    /// What was said last, so that only news is said out of turn.
    health: Vec<TaskHealth>,
    began: Timestamp,
}

impl<'a> Session<'a> {
    fn new(tcs: &'a Tcs, uri: Uri) -> Self {
        let began = tcs.clock.now();
        Self { tcs, uri, sampler: Sampler::default(), health: Vec::new(), began }
    }

    async fn serve(mut self, mut socket: Socket) -> Ended {
        let jitter = |max: u32| random_below(&*self.tcs.ids, u64::from(max));
        let heartbeat_timeout = Duration::from_millis(STARVATION_MS + jitter(STARVATION_JITTER_MS));
        let mut starved_at = Instant::now() + heartbeat_timeout;
        let life = Duration::from_millis(SESSION_MS + jitter(SESSION_JITTER_MS));
        let expires_at = Instant::now() + life;
        let mut samples = interval(Duration::from_millis(SAMPLE_INTERVAL_MS));
        let mut reports = interval(Duration::from_millis(METRICS_INTERVAL_MS));
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tcs = self.tcs;
        let mut said = vec![self.instance_status()];
        loop {
            for text in said.drain(..) {
                if let Err(error) = socket.send(Message::text(text)).await {
                    return Ended::Failed(error.to_string());
                }
            }
            tokio::select! {
                frame = socket.next() => match classify(frame) {
                    Err(ended) => return ended,
                    Ok(None) => {}
                    Ok(Some(text)) => {
                        if is_sign_of_life(&text) {
                            starved_at = Instant::now() + heartbeat_timeout;
                        }
                    }
                },
                _ = samples.tick() => {
                    let views = tcs.engine.views();
                    self.sampler.sample(&tcs.engine, &views).await;
                }
                _ = reports.tick() => {
                    said = self.metrics();
                    said.extend(self.health(true));
                }
                () = tcs.engine.changed() => said = self.health(false),
                () = tcs.heartbeat.notified() => said = vec![self.instance_status()],
                () = sleep_until(starved_at) => return Ended::Starved,
                () = sleep_until(expires_at) => {
                    let _ = socket.close(None).await;
                    return Ended::Orderly;
                }
            }
        }
    }

    fn metadata(&self, idle: Option<bool>, fin: bool) -> Metadata {
        Metadata {
            cluster: self.tcs.instance.cluster.clone(),
            container_instance: self.tcs.instance.arn.clone(),
            message_id: Uuid::mint(&*self.tcs.ids).to_string(),
            idle,
            fin,
        }
    }

    fn metrics(&mut self) -> Vec<String> {
        let views = self.tcs.engine.views();
        let timestamp = seconds(self.tcs.clock.now());
        let tasks = self.sampler.report(&views);
        if tasks.is_empty() {
            let is_idle = views.iter().all(|view| view.state.is_all_stopped());
            let metadata = self.metadata(Some(is_idle), true);
            let message = PublishMetrics { metadata, task_metrics: Vec::new(), timestamp };
            return vec![self.frame("PublishMetricsRequest", &message)];
        }
        let batches: Vec<_> = tasks.chunks(METRIC_TASKS_MAX).collect();
        let count = batches.len();
        let frames = batches.into_iter().enumerate().map(|(position, batch)| {
            let metadata = self.metadata(Some(false), position + 1 == count);
            let message = PublishMetrics { metadata, task_metrics: batch.to_vec(), timestamp };
            self.frame("PublishMetricsRequest", &message)
        });
        frames.collect()
    }

    /// The health of all that have a check; out of turn only if it is news.
    fn health(&mut self, is_due: bool) -> Vec<String> {
        let health: Vec<TaskHealth> =
            self.tcs.engine.views().iter().filter_map(task_health).collect();
        if health.is_empty() || (!is_due && health == self.health) {
            self.health = health;
            return Vec::new();
        }
        self.health = health;
        let timestamp = seconds(self.tcs.clock.now());
        let count = self.health.len().div_ceil(METRIC_TASKS_MAX);
        let batches = self.health.chunks(METRIC_TASKS_MAX).enumerate();
        let frames = batches.map(|(position, batch)| {
            let metadata = self.metadata(None, position + 1 == count);
            let message = PublishHealth { metadata, tasks: batch.to_vec(), timestamp };
            self.frame("PublishHealthRequest", &message)
        });
        frames.collect()
    }

    fn instance_status(&self) -> String {
        let now = seconds(self.tcs.clock.now());
        let message = PublishInstanceStatus {
            metadata: StatusMetadata {
                cluster: self.tcs.instance.cluster.clone(),
                container_instance: self.tcs.instance.arn.clone(),
                request_id: Uuid::mint(&*self.tcs.ids).to_string(),
            },
            statuses: vec![InstanceStatus {
                kind: "ContainerRuntime".to_owned(),
                status: "OK".to_owned(),
                last_updated: now,
                last_status_change: seconds(self.began),
            }],
            timestamp: now,
        };
        self.frame("PublishInstanceStatusRequest", &message)
    }

    /// A signed block of headers, an empty line, and the message.
    fn frame<T: Serialize>(&self, kind: &'static str, message: &T) -> String {
        let body = frame(kind, message);
        let mut headers = HeaderMap::new();
        match self.tcs.api.credentials() {
            Ok(credentials) => {
                let body = body.as_bytes();
                self.tcs.api.sign("GET", &self.uri, &mut headers, body, &credentials, "ecs");
            }
            Err(error) => warn!(error = %error, "telemetry not signed"),
        }
        let mut text = String::with_capacity(body.len() + 512);
        let names = [
            ("Authorization", header::AUTHORIZATION.as_str()),
            ("Host", header::HOST.as_str()),
            ("X-Amz-Date", "x-amz-date"),
            ("X-Amz-Security-Token", "x-amz-security-token"),
        ];
        for (shown, name) in names {
            if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
                text.push_str(&format!("{shown}: {value}\r\n"));
            }
        }
        text.push_str("\r\n");
        text.push_str(&body);
        text
    }
}

fn task_health(view: &TaskView) -> Option<TaskHealth> {
    let checked = view.spec.containers.iter().zip(&view.state.containers);
    let containers: Vec<ContainerHealth> = checked
        .filter(|(spec, state)| spec.health.is_some() && state.phase == Phase::Running)
        .map(|(spec, state)| ContainerHealth {
            container_name: spec.name.clone(),
            health_status: state.health.as_str().to_owned(),
            status_since: seconds(state.health_since.unwrap_or_default()),
        })
        .collect();
    (!containers.is_empty()).then(|| TaskHealth {
        task_arn: view.spec.arn.to_string(),
        task_definition_family: view.spec.family.clone(),
        task_definition_version: view.spec.version.clone(),
        containers,
    })
}

fn is_sign_of_life(text: &str) -> bool {
    let envelope: Option<Envelope<'_>> = serde_json::from_str(text).ok();
    let Some(kind) = envelope.and_then(|envelope| envelope.kind) else {
        debug!("telemetry frame unreadable");
        return false;
    };
    HEARD.contains(&&*kind)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit a double exactly")]
fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}
