//! One pretended host: registers, hears what is wanted, says that it is so.
//!
//! It speaks as the real agent does and with its code, but no container is started. What the region
//! wants of a task and what it was told are kept per task, and what is left to say follows from
//! both: so a message that comes twice says nothing twice. **Invariant:** of one task, one report is
//! on its way at a time, and no more of all than the real agent sends at once.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use acs::Envelope;
use acs::message::{
    Ack, Header, Heartbeat, HeartbeatAck, Manifest, ManifestTask, StopVerification,
    StopVerificationAck,
};
use agent::Ended;
use agent::acs::WorkSocket;
use agent::client::{Api, Attribute, Backoff, CallError, RegionLink, Register, Resource};
use agent::engine::Region as _;
use agent::engine::state::{ContainerChange, Status, TaskEvent};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use longshore_types::{Clock as _, IdSource, OsIds, SystemClock, TaskArn, TaskId, Uuid};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, warn};

use super::recorder::Recorder;

/// Reports on their way at a time, as with the real agent.
const REPORTS_AT_ONCE: usize = 10;
/// How often a session looks at the clock.
const LOOK: Duration = Duration::from_secs(15);
/// A region that is silent for so long is connected to anew.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How long a session lasts.
const SESSION: Duration = Duration::from_secs(30 * 60);
/// A session that lasted this long was a healthy one.
const HEALTHY: Duration = Duration::from_secs(60);
/// What the pretended image's manifest would hash to.
const IMAGE_DIGEST: &str =
    "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// The attribute that tells pretended hosts from real ones.
pub(super) const MARK: &str = "longshore.simulated";

/// What every agent of a fleet offers, and how it behaves.
#[derive(Clone, Debug)]
pub(super) struct FleetProfile {
    pub(super) cluster: String,
    pub(super) cpu: u64,
    pub(super) memory_mib: u64,
    /// How long a task takes from the payload to RUNNING.
    pub(super) start: Duration,
    /// Whether a task is said to be PENDING once its image's digest is known.
    pub(super) pulls: bool,
}

/// An agent that the region knows.
#[derive(Debug)]
pub(super) struct SimulatedAgent {
    api: Api,
    link: Arc<RegionLink>,
    recorder: Arc<Recorder>,
    profile: Arc<FleetProfile>,
    arn: String,
    tasks: HashMap<TaskId, Held>,
    /// Tasks of which something may be left to say.
    due: VecDeque<TaskId>,
}

/// A task as the agent knows it.
#[derive(Debug)]
struct Held {
    arn: TaskArn,
    containers: Vec<String>,
    is_stop_wanted: bool,
    is_started: bool,
    reported: Option<Status>,
    is_telling: bool,
}

impl Held {
    /// What the region has still to be told.
    fn news(&self, pulls: bool) -> Option<Status> {
        let now = if self.is_stop_wanted {
            Status::Stopped
        } else if pulls && self.reported.is_none() {
            Status::Pending
        } else if self.is_started {
            Status::Running
        } else {
            return None;
        };
        (!self.is_telling && self.reported.is_none_or(|reported| reported < now)).then_some(now)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    message_id: Option<String>,
    cluster_arn: Option<String>,
    container_instance_arn: Option<String>,
    #[serde(borrow, default)]
    tasks: Vec<PayloadTask<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayloadTask<'a> {
    #[serde(borrow)]
    arn: Cow<'a, str>,
    #[serde(borrow, default)]
    desired_status: Cow<'a, str>,
    #[serde(borrow, default)]
    containers: Vec<PayloadContainer<'a>>,
}

#[derive(Deserialize)]
struct PayloadContainer<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Ends once a task may be said to run.
type Start = BoxFuture<'static, TaskId>;
/// Ends once the region has taken a report.
type Telling = BoxFuture<'static, (TaskId, Status)>;

impl SimulatedAgent {
    /// Registers a host in a zone.
    pub(super) async fn register(
        api: Api,
        recorder: Arc<Recorder>,
        profile: Arc<FleetProfile>,
        zone: &str,
    ) -> Result<Self, CallError> {
        let mut attributes = agent::capabilities();
        attributes.push(Attribute::with("ecs.availability-zone", zone));
        attributes.push(Attribute::with(MARK, "true"));
        let ports = ["22", "2375", "2376", "51678", "51679"];
        let request = Register {
            cluster: profile.cluster.clone(),
            container_instance_arn: None,
            client_token: Uuid::mint(&OsIds).to_string(),
            instance_identity_document: "",
            instance_identity_document_signature: "",
            total_resources: vec![
                Resource::integer("CPU", profile.cpu),
                Resource::integer("MEMORY", profile.memory_mib),
                Resource::strings("PORTS", ports.map(str::to_owned).to_vec()),
                Resource::strings("PORTS_UDP", Vec::new()),
            ],
            attributes,
            platform_devices: Vec::new(),
        };
        let arn = api.register_container_instance(&request).await?.container_instance_arn;
        let ids: Arc<dyn IdSource> = Arc::new(OsIds);
        let link = Arc::new(RegionLink::new(api.clone(), profile.cluster.clone(), ids));
        let (tasks, due) = (HashMap::new(), VecDeque::new());
        Ok(Self { api, link, recorder, profile, arn, tasks, due })
    }

    pub(super) fn arn(&self) -> &str {
        &self.arn
    }

    /// Opens the first session.
    pub(super) async fn connect(&self, wants_credentials: bool) -> Result<WorkSocket, Ended> {
        let FleetProfile { cluster, .. } = &*self.profile;
        let endpoints = self.api.discover_poll_endpoint(cluster, &self.arn).await;
        let endpoints = endpoints.map_err(|error| Ended::Failed(error.to_string()))?;
        let endpoint = endpoints.endpoint.ok_or(Ended::Failed("no endpoint".to_owned()))?;
        WorkSocket::open(&self.api, &endpoint, cluster, &self.arn, wants_credentials).await
    }

    /// Serves the region until it is dropped, over as many sessions as it takes.
    pub(super) async fn run(mut self, socket: WorkSocket) {
        let mut starts = FuturesUnordered::new();
        let mut tellings = FuturesUnordered::new();
        let mut backoff = Backoff::acs();
        let mut next = Ok(socket);
        let mut is_again = false;
        loop {
            let began = Instant::now();
            let ended = match next {
                Ok(mut socket) => {
                    self.recorder.joined(is_again);
                    self.link.heard();
                    let ended = self.serve(&mut socket, &mut starts, &mut tellings).await;
                    self.recorder.left();
                    ended
                }
                Err(ended) => ended,
            };
            is_again = true;
            if HEALTHY <= began.elapsed() {
                backoff.reset();
            }
            match ended {
                Ended::Inactive => return,
                Ended::Orderly | Ended::Starved | Ended::Failed(_) => {
                    debug!(instance = self.arn, ?ended, "work session over");
                    sleep(Duration::from_millis(backoff.next_ms(&OsIds))).await;
                }
            }
            next = self.connect(false).await;
        }
    }

    async fn serve(
        &mut self,
        socket: &mut WorkSocket,
        starts: &mut FuturesUnordered<Start>,
        tellings: &mut FuturesUnordered<Telling>,
    ) -> Ended {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (began, mut heard_at) = (Instant::now(), Instant::now());
        loop {
            self.tell(tellings);
            tokio::select! {
                text = socket.next() => {
                    heard_at = Instant::now();
                    let heard = match text {
                        Ok(text) => self.hear(socket, &text, starts).await,
                        Err(ended) => return ended,
                    };
                    if let Err(ended) = heard {
                        return ended;
                    }
                }
                Some((task, status)) = tellings.next() => self.reported(task, status),
                Some(task) = starts.next() => self.started(task),
                _ = look.tick() => {
                    if SILENCE_MAX <= heard_at.elapsed() {
                        return Ended::Starved;
                    }
                    if SESSION <= began.elapsed() {
                        return socket.expire().await;
                    }
                }
            }
        }
    }

    async fn hear(
        &mut self,
        socket: &mut WorkSocket,
        text: &str,
        starts: &mut FuturesUnordered<Start>,
    ) -> Result<(), Ended> {
        let Ok(Envelope { kind: Some(kind), message }) = serde_json::from_str(text) else {
            warn!(frame = text.chars().take(300).collect::<String>(), "error from the region");
            return Ok(());
        };
        let body = message.map_or("{}", |message| message.get());
        match kind.as_str() {
            "PayloadMessage" => self.payload(socket, body, starts).await,
            "HeartbeatMessage" => {
                let Some(message_id) = read::<Heartbeat>(body).message_id else { return Ok(()) };
                socket.send("HeartbeatAckRequest", &HeartbeatAck { message_id }).await
            }
            "TaskManifestMessage" => self.manifest(socket, body).await,
            "TaskStopVerificationAck" => {
                for task in read::<StopVerificationAck>(body).stop_tasks {
                    if let Some(id) = task.task_arn.parse().ok().map(|arn: TaskArn| arn.id) {
                        self.want_stop(id);
                    }
                }
                Ok(())
            }
            "AttachTaskNetworkInterfacesMessage" => {
                // Tasks of a simulation have none; another's is acknowledged and never appears.
                answer(socket, read::<Header>(body).ack(None)).await
            }
            _ => Ok(()),
        }
    }

    async fn payload(
        &mut self,
        socket: &mut WorkSocket,
        body: &str,
        starts: &mut FuturesUnordered<Start>,
    ) -> Result<(), Ended> {
        let payload: Payload<'_> = match serde_json::from_str(body) {
            Ok(payload) => payload,
            Err(error) => {
                warn!(error = %error, "payload unreadable");
                return Ok(());
            }
        };
        for task in payload.tasks {
            let Ok(arn) = task.arn.parse::<TaskArn>() else { continue };
            let id = arn.id;
            let is_stop_wanted = task.desired_status == "STOPPED";
            if !self.tasks.contains_key(&id) {
                let containers = task.containers.iter().map(|each| each.name.to_string());
                let held = Held {
                    arn,
                    containers: containers.collect(),
                    is_stop_wanted: false,
                    is_started: self.profile.start.is_zero(),
                    reported: None,
                    is_telling: false,
                };
                if !held.is_started && !is_stop_wanted {
                    let start = self.profile.start;
                    starts.push(Box::pin(async move {
                        sleep(start).await;
                        id
                    }));
                }
                self.tasks.insert(id, held);
                self.due.push_back(id);
            }
            if is_stop_wanted {
                self.want_stop(id);
            }
        }
        let header = Header {
            message_id: payload.message_id,
            cluster_arn: payload.cluster_arn,
            container_instance_arn: payload.container_instance_arn,
        };
        answer(socket, header.ack(None)).await
    }

    /// Acknowledges the list of what belongs here, and asks about whatever else is here.
    async fn manifest(&mut self, socket: &mut WorkSocket, body: &str) -> Result<(), Ended> {
        let manifest: Manifest = read(body);
        let message_id = manifest.header.message_id.clone();
        answer(socket, manifest.header.ack(None)).await?;
        let listed: Vec<TaskId> = manifest
            .tasks
            .iter()
            .filter_map(|task| Some(task.task_arn.parse::<TaskArn>().ok()?.id))
            .collect();
        let is_doubted = |held: &&Held| !held.is_stop_wanted && !listed.contains(&held.arn.id);
        let candidates = self.tasks.values().filter(is_doubted).map(|held| ManifestTask {
            task_arn: held.arn.to_string(),
            task_cluster_arn: None,
            desired_status: "STOPPED".to_owned(),
        });
        let stop_candidates: Vec<ManifestTask> = candidates.collect();
        match message_id {
            Some(message_id) if !stop_candidates.is_empty() => {
                let message = StopVerification { message_id, stop_candidates };
                socket.send("TaskStopVerificationMessage", &message).await
            }
            Some(_) | None => Ok(()),
        }
    }

    fn want_stop(&mut self, id: TaskId) {
        if let Some(held) = self.tasks.get_mut(&id) {
            held.is_stop_wanted = true;
            self.due.push_back(id);
        }
    }

    fn started(&mut self, id: TaskId) {
        if let Some(held) = self.tasks.get_mut(&id) {
            held.is_started = true;
            self.due.push_back(id);
        }
    }

    /// Sends reports, as many as may be on their way.
    fn tell(&mut self, tellings: &mut FuturesUnordered<Telling>) {
        while tellings.len() < REPORTS_AT_ONCE {
            let Some(id) = self.due.pop_front() else { return };
            let Some(held) = self.tasks.get_mut(&id) else { continue };
            let Some(status) = held.news(self.profile.pulls) else { continue };
            held.is_telling = true;
            let (arn, event) = (held.arn.clone(), event(held, status));
            let link = Arc::clone(&self.link);
            tellings.push(Box::pin(async move {
                link.tell(arn, event).await;
                (id, status)
            }));
        }
    }

    fn reported(&mut self, id: TaskId, status: Status) {
        let now = Instant::now();
        match status {
            Status::Stopped => {
                self.tasks.remove(&id);
                self.recorder.stopped(now);
            }
            Status::Pending | Status::Running => {
                if let Some(held) = self.tasks.get_mut(&id) {
                    held.reported = Some(status);
                    held.is_telling = false;
                    // It may have come further by now, or be wanted otherwise.
                    self.due.push_back(id);
                }
                if status == Status::Running {
                    self.recorder.running(id, now);
                }
            }
        }
    }
}

async fn answer(socket: &mut WorkSocket, ack: Option<Ack>) -> Result<(), Ended> {
    match ack {
        Some(ack) => socket.send("AckRequest", &ack).await,
        None => Ok(()),
    }
}

fn read<'a, T: Deserialize<'a> + Default>(body: &'a str) -> T {
    serde_json::from_str(body).unwrap_or_default()
}

/// What the real agent would say of a task without ports. Without a pull it knows no digest.
fn event(held: &Held, status: Status) -> TaskEvent {
    let has_run = status == Status::Running || held.reported == Some(Status::Running);
    let change = |name: &String| ContainerChange {
        name: name.clone(),
        status,
        runtime_id: has_run.then(|| format!("{}-{name}", held.arn.id)),
        image_digest: (status == Status::Pending).then(|| IMAGE_DIGEST.to_owned()),
        exit_code: (has_run && status == Status::Stopped).then_some(137),
        reason: None,
        bindings: Vec::new(),
    };
    TaskEvent {
        number: 0,
        status,
        reason: String::new(),
        containers: held.containers.iter().map(change).collect(),
        managed_agents: Vec::new(),
        pull_started_at: None,
        pull_stopped_at: None,
        execution_stopped_at: (status == Status::Stopped).then(|| SystemClock.now()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(reported: Option<Status>) -> Held {
        let arn = "arn:aws:ecs:us-east-1:000000000000:task/c/0123456789abcdef0123456789abcdef";
        Held {
            arn: arn.parse().unwrap(),
            containers: vec!["main".to_owned()],
            is_stop_wanted: false,
            is_started: true,
            reported,
            is_telling: false,
        }
    }

    #[test]
    fn a_task_is_told_of_step_by_step_and_each_step_once() {
        assert_eq!(held(None).news(false), Some(Status::Running));
        assert_eq!(held(None).news(true), Some(Status::Pending));
        assert_eq!(held(Some(Status::Pending)).news(true), Some(Status::Running));
        assert_eq!(held(Some(Status::Running)).news(true), None);
        let starting = Held { is_started: false, ..held(None) };
        assert_eq!(starting.news(false), None);
        let telling = Held { is_telling: true, ..held(None) };
        assert_eq!(telling.news(false), None);
        for reported in [None, Some(Status::Pending), Some(Status::Running)] {
            let unwanted = Held { is_stop_wanted: true, ..held(reported) };
            assert_eq!(unwanted.news(true), Some(Status::Stopped));
        }
    }

    #[test]
    fn a_task_that_never_ran_has_no_exit_code() {
        assert_eq!(event(&held(None), Status::Stopped).containers[0].exit_code, None);
        let ran = event(&held(Some(Status::Running)), Status::Stopped);
        assert_eq!(ran.containers[0].exit_code, Some(137));
    }
}
