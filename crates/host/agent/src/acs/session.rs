//! One session on the work socket.
//!
//! **Invariant:** a payload is acknowledged only after its tasks survive a power cut; everything is
//! taken in again without harm when it comes twice.

use std::sync::Arc;
use std::time::Duration;

use acs::message::{
    Ack, AttachInterfaces, CONNECT_REPORT, ConfirmAttachment, CredentialsAck, Header, Heartbeat,
    HeartbeatAck, HostNetwork, LayerKey, Liveness, Manifest, ManifestTask, NewCredentials, Payload,
    PrePull, StopVerification, StopVerificationAck,
};
use acs::{Envelope, RoleCredentials, frame};
use longshore_types::{Chain, TaskArn};
use network::News;
use sandbox::uptime_ms;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use traffic::connect::ConnectReport;

use super::layers::LayersTold;
use super::work_socket::Frame;
use super::{Acs, WorkSocket};
use crate::client::{SubmitAttachment, random_below};
use crate::engine::{Accepted, TaskCredentials, wants_stop};
use crate::limits::{SESSION_JITTER_MS, SESSION_MS, STARVATION_JITTER_MS, STARVATION_MS};
use crate::socket::Ended;

const OUTBOX: usize = 256;
/// How often it is looked what the host's proxy says.
const PROXY_LOOK: Duration = Duration::from_millis(50);
/// The same where it has said nothing, and the region is silent too.
const NO_PROXY_LOOK: Duration = Duration::from_secs(1);
/// Handled by nobody, but signs of life.
const MERELY_HEARD: [&str; 9] = [
    "CloseMessage",
    "ErrorMessage",
    "ServerException",
    "BadRequestException",
    "InvalidClusterException",
    "InvalidInstanceException",
    "AccessDeniedException",
    "InactiveInstanceException",
    "AckRequest",
];

pub(super) struct Session<'a> {
    pub(super) acs: &'a Acs,
    /// To the socket; operations that outlive a turn hold a clone.
    out: mpsc::Sender<String>,
    /// The manifest whose verification is still to come, and what we offered to stop.
    offered: Option<(String, Vec<TaskArn>)>,
    /// The parts of a message about the host's network that is not whole yet.
    news: News,
    /// How often the region is pinged and how long it may be silent, once it has said so.
    liveness: Option<Liveness>,
    /// What the region was told of the host's proxy.
    proxy: Option<ConnectReport>,
    /// What the region was told of the layers that the host gives.
    pub(super) layers: LayersTold,
    /// When the socket was asked for, which the region has heard.
    asked_ms: u64,
}

/// Serves a socket that was asked for at `asked_ms`.
pub(super) async fn serve(acs: &Acs, mut socket: WorkSocket, asked_ms: u64) -> Ended {
    let (out, mut outbox) = mpsc::channel(OUTBOX);
    let news = News::default();
    let (proxy, layers) = (None, LayersTold::default());
    let mut session =
        Session { acs, out, offered: None, news, liveness: None, proxy, layers, asked_ms };
    let jitter = |max: u32| random_below(&*acs.ids, u64::from(max));
    let heartbeat_timeout_ms = STARVATION_MS + jitter(STARVATION_JITTER_MS);
    let mut starved_at = Instant::now() + Duration::from_millis(heartbeat_timeout_ms);
    let (mut heard_at, mut ping_at) = (Instant::now(), Instant::now());
    let expires_at = Instant::now() + Duration::from_millis(SESSION_MS + jitter(SESSION_JITTER_MS));
    let mut look_at_proxy = Instant::now();
    loop {
        let is_pinging = session.liveness.is_some();
        tokio::select! {
            frame = socket.next_frame() => {
                heard_at = Instant::now();
                match frame {
                    Err(ended) => return ended,
                    Ok(Frame::Text(text)) => {
                        if session.hear(&text).await {
                            starved_at = heard_at + Duration::from_millis(heartbeat_timeout_ms);
                        }
                        // It may have to be quicker from now on, and then the next is late already.
                        ping_at = ping_at.min(Instant::now() + session.ping_every());
                        look_at_proxy = look_at_proxy.min(Instant::now() + PROXY_LOOK);
                    }
                    Ok(Frame::Pong { sent_ms }) => session.answered(sent_ms).await,
                    Ok(Frame::Other) => {}
                }
            },
            Some(text) = outbox.recv() => {
                if let Err(ended) = socket.send_text(text).await {
                    return ended;
                }
            }
            () = sleep_until(look_at_proxy), if is_pinging => {
                session.tell_of_proxy().await;
                session.tell_of_layers().await;
                let pause = if session.proxy.is_some() { PROXY_LOOK } else { NO_PROXY_LOOK };
                look_at_proxy = Instant::now() + pause;
            }
            () = sleep_until(ping_at), if is_pinging => {
                if let Err(ended) = socket.ping(uptime_ms()).await {
                    return ended;
                }
                ping_at = Instant::now() + session.ping_every();
            }
            () = sleep_until(heard_at + session.silence_max()), if is_pinging => {
                return Ended::Starved;
            }
            () = sleep_until(starved_at) => return Ended::Starved,
            () = sleep_until(expires_at) => return socket.expire().await,
        }
    }
}

pub(super) fn read<T: DeserializeOwned>(kind: &str, body: &str) -> Option<T> {
    match serde_json::from_str(body) {
        Ok(message) => Some(message),
        Err(error) => {
            warn!(kind, error = %error, "message unreadable");
            None
        }
    }
}

impl Session<'_> {
    /// Takes in one message; false if it is none that we know, and so no sign of life.
    async fn hear(&mut self, text: &str) -> bool {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
            warn!("frame unreadable");
            return false;
        };
        let Some(kind) = envelope.kind else {
            warn!(frame = text.chars().take(300).collect::<String>(), "error from the region");
            return MERELY_HEARD.iter().any(|known| text.contains(known));
        };
        let body = envelope.message.map_or("{}", |message| message.get());
        match kind.as_str() {
            "HeartbeatMessage" => self.heartbeat(body).await,
            "PayloadMessage" => self.payload(body).await,
            "TaskManifestMessage" => self.manifest(body).await,
            "TaskStopVerificationAck" => self.verified(body).await,
            "IAMRoleCredentialsMessage" => self.credentials(body).await,
            "AttachTaskNetworkInterfacesMessage" => self.attach(body, true).await,
            "AttachInstanceNetworkInterfacesMessage" => self.attach(body, false).await,
            "ConfirmAttachmentMessage" => self.confirm(body).await,
            HostNetwork::KIND => self.host_network(body).await,
            Liveness::KIND => self.liveness(body).await,
            LayerKey::KIND => self.layer_key(body),
            PrePull::KIND => self.pre_pull(body),
            "StageUpdateMessage" | "PerformUpdateMessage" => {
                let header: Header = read(&kind, body).unwrap_or_default();
                self.answer("NackRequest", header.ack(Some("Updates are disabled"))).await;
            }
            other if MERELY_HEARD.contains(&other) => debug!(kind, "message heard"),
            _ => {
                warn!(kind, "message unknown");
                return false;
            }
        }
        true
    }

    fn ping_every(&self) -> Duration {
        Duration::from_millis(self.liveness.as_ref().map_or(STARVATION_MS, |it| it.ping_ms))
    }

    fn silence_max(&self) -> Duration {
        Duration::from_millis(self.liveness.as_ref().map_or(STARVATION_MS, |it| it.silence_ms_max))
    }

    fn pre_pull(&self, body: &str) {
        if let Some(wanted) = read::<PrePull>(PrePull::KIND, body) {
            self.acs.engine.pre_pull(wanted);
        }
    }

    /// From now on a link that is cut is noticed by pings.
    async fn liveness(&mut self, body: &str) {
        let Some(message) = read::<Liveness>(Liveness::KIND, body) else { return };
        if message.ping_ms == 0 || message.silence_ms_max <= message.ping_ms {
            warn!(kind = Liveness::KIND, "message makes no sense");
            return;
        }
        let ack = message.header.ack(None);
        // Once it has the acknowledgement, the region replaces fenced tasks by this limit.
        let is_kept = self.acs.engine.context().lease.goes_by(message.lost_after_ms);
        self.liveness = Some(message);
        self.answered(self.asked_ms).await;
        if is_kept {
            self.answer("AckRequest", ack).await;
        }
    }

    /// The region has had what was sent then: the host's lease goes on from that.
    async fn answered(&self, sent_ms: u64) {
        if let Some(liveness) = &self.liveness {
            self.acs.engine.renew_lease(sent_ms, liveness.lost_after_ms).await;
        }
    }

    /// Says how the host's proxy is, if that is news. Only a region that speaks of liveness is ours and understands it.
    async fn tell_of_proxy(&mut self) {
        let report = self.acs.engine.connect_report().await;
        if report != self.proxy
            && let Some(report) = &report
        {
            let mut news = report.clone();
            // They change less often than the rest, and are most of it.
            if self.proxy.as_ref().is_some_and(|told| told.figures == news.figures) {
                news.figures.clear();
            }
            self.send(CONNECT_REPORT, &news).await;
        }
        self.proxy = report;
    }

    pub(super) async fn send<T: Serialize>(&self, kind: &'static str, message: &T) {
        let text = frame(kind, message);
        // The socket is emptied by the same loop that calls us: waiting here would be for ever.
        if let Err(error) = self.out.try_send(text) {
            let out = self.out.clone();
            if let mpsc::error::TrySendError::Full(text) = error {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "it ends with the socket, whose receiver it waits for"
                )]
                tokio::spawn(async move { out.send(text).await });
            }
        }
    }

    async fn answer(&self, kind: &'static str, ack: Option<Ack>) {
        match ack {
            Some(ack) => self.send(kind, &ack).await,
            None => warn!(kind, "message without an id or an address, not answered"),
        }
    }

    async fn heartbeat(&self, body: &str) {
        let heartbeat: Heartbeat = read("HeartbeatMessage", body).unwrap_or_default();
        if let Some(message_id) = heartbeat.message_id {
            self.send("HeartbeatAckRequest", &HeartbeatAck { message_id }).await;
        }
        self.acs.heartbeat.notify_waiters();
    }

    async fn payload(&self, body: &str) {
        let Some(payload) = read::<Payload<serde_json::Value>>("PayloadMessage", body) else {
            return;
        };
        let Some(ack) = payload.header.ack(None) else {
            warn!("payload without an id or an address");
            return;
        };
        if let Some(number) = payload.seq_num {
            self.acs.sequence.raise(number);
        }
        let mut waits = Vec::new();
        let mut is_valid = true;
        let mut credentials = Vec::new();
        let (stops, starts): (Vec<_>, Vec<_>) = payload.tasks.into_iter().partition(wants_stop);
        for task in stops.into_iter().chain(starts) {
            let given = credentials_of(&task);
            let arn = task.get("arn").and_then(|arn| arn.as_str()).and_then(|arn| arn.parse().ok());
            match self.acs.engine.accept(task).await {
                Accepted::Taken(synced) => waits.push(synced),
                Accepted::Known => {}
                Accepted::Invalid => {
                    is_valid = false;
                    continue;
                }
            }
            for role in [&given.application, &given.execution].into_iter().flatten() {
                credentials.push(credentials_ack(&ack.message_id, role));
            }
            if let Some(arn) = arn {
                self.acs.engine.put_credentials(&arn, given);
            }
        }
        let (out, sequence) = (self.out.clone(), Arc::clone(&self.acs.sequence));
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends when the credentials are on disk or the socket is closed"
        )]
        tokio::spawn(async move {
            for synced in waits {
                if synced.await.is_err() {
                    return; // not on disk: the region shall send it again
                }
            }
            let _ = tokio::task::spawn_blocking(move || sequence.save()).await;
            if is_valid {
                let _ = out.send(frame("AckRequest", &ack)).await;
            }
            for credentials in credentials {
                let _ = out.send(frame("IAMRoleCredentialsAckRequest", &credentials)).await;
            }
        });
    }

    async fn manifest(&mut self, body: &str) {
        let Some(manifest) = read::<Manifest>("TaskManifestMessage", body) else { return };
        let Some(ack) = manifest.header.ack(None) else { return };
        let is_new = manifest.timeline.is_some_and(|number| self.acs.sequence.raise(number));
        if !is_new {
            debug!("an old manifest");
            return;
        }
        let sequence = Arc::clone(&self.acs.sequence);
        tokio::task::spawn_blocking(move || sequence.save());
        let is_listed = |arn: &TaskArn| {
            let arn = arn.to_string();
            manifest.tasks.iter().any(|t| t.task_arn == arn && t.desired_status == "RUNNING")
        };
        let surplus: Vec<TaskArn> =
            self.acs.engine.wanted().into_iter().filter(|arn| !is_listed(arn)).collect();
        let message_id = ack.message_id.clone();
        self.answer("AckRequest", Some(ack)).await;
        if !surplus.is_empty() {
            let candidate = |arn: &TaskArn| ManifestTask {
                task_arn: arn.to_string(),
                task_cluster_arn: None,
                desired_status: "STOPPED".to_owned(),
            };
            let stop_candidates = surplus.iter().map(candidate).collect();
            let message = StopVerification { message_id: message_id.clone(), stop_candidates };
            self.send("TaskStopVerificationMessage", &message).await;
        }
        self.offered = Some((message_id, surplus));
    }

    /// Stops what we offered and the region confirmed; once, and only for the latest manifest.
    async fn verified(&mut self, body: &str) {
        let Some(ack) = read::<StopVerificationAck>("TaskStopVerificationAck", body) else {
            return;
        };
        let Some((_, offered)) =
            self.offered.take_if(|(id, _)| Some(&*id) == ack.message_id.as_ref())
        else {
            return;
        };
        for arn in offered {
            let text = arn.to_string();
            if ack.stop_tasks.iter().any(|task| task.task_arn == text) {
                self.acs.engine.stop(&arn).await;
            }
        }
    }

    async fn credentials(&self, body: &str) {
        let Some(message) = read::<NewCredentials>("IAMRoleCredentialsMessage", body) else {
            return;
        };
        let (Some(id), Some(role), Some(arn)) = (
            message.header.message_id,
            message.role_credentials,
            message.task_arn.and_then(|arn| arn.parse::<TaskArn>().ok()),
        ) else {
            return;
        };
        let ack = credentials_ack(&id, &role);
        let given = match message.role_type.as_deref() {
            Some("TaskExecution") => {
                TaskCredentials { execution: Some(role), ..TaskCredentials::default() }
            }
            _ => TaskCredentials { application: Some(role), ..TaskCredentials::default() },
        };
        if self.acs.engine.put_credentials(&arn, given) {
            self.send("IAMRoleCredentialsAckRequest", &ack).await;
        }
    }

    /// Our interfaces exist from the moment they are wanted, so they are attached at once.
    async fn attach(&self, body: &str, is_for_task: bool) {
        let Some(message) = read::<AttachInterfaces>("AttachNetworkInterfaces", body) else {
            return;
        };
        let is_valid = message.wait_timeout_ms.is_some_and(|ms| ms > 0)
            && !message.elastic_network_interfaces.is_empty()
            && (!is_for_task || message.task_arn.is_some());
        let Some(ack) = message.header.ack(None).filter(|_| is_valid) else {
            warn!("attach message incomplete");
            return;
        };
        self.answer("AckRequest", Some(ack)).await;
        for interface in message.elastic_network_interfaces {
            let Some(attachment_arn) = interface.attachment_arn else { continue };
            let attachment = SubmitAttachment { attachment_arn, status: "ATTACHED" };
            let (link, task) = (Arc::clone(&self.acs.link), message.task_arn.clone());
            #[expect(
                clippy::disallowed_methods,
                reason = "one call, which the link gives up by its own timeout"
            )]
            tokio::spawn(async move { link.attached(task, attachment).await });
        }
    }

    /// Tasks that come later on the socket may have these groups and be in these subnets: all is in force before
    /// anything else is heard. An old state that could not be replaced stays in force, and the region says all
    /// again.
    async fn host_network(&mut self, body: &str) {
        let Some(message) = read::<HostNetwork>(HostNetwork::KIND, body) else {
            let header: Header = read(HostNetwork::KIND, body).unwrap_or_default();
            return self.answer("NackRequest", header.ack(Some("unreadable"))).await;
        };
        self.news.groups.extend(message.security_groups);
        self.news.network.put.extend(message.network.put);
        self.news.network.gone.extend(message.network.gone);
        self.news.names.extend(message.names);
        let connect = match message.told_at {
            Some(told_at) => message.connect.by_clock(told_at, self.acs.clock.now()),
            None => message.connect,
        };
        self.news.connect.extend(connect);
        self.news.tunnels.extend(message.tunnels);
        self.news.version = message.version;
        if !message.is_more {
            let mut news = std::mem::take(&mut self.news);
            news.is_whole = message.is_whole;
            if let Err(error) = self.acs.engine.learn(news).await {
                warn!(error = %Chain(&error), "the host's network stays as it was");
                let ack = message.header.ack(Some("the host's network stays as it was"));
                return self.answer("NackRequest", ack).await;
            }
        }
        self.answer("AckRequest", message.header.ack(None)).await;
    }

    async fn confirm(&self, body: &str) {
        let Some(message) = read::<ConfirmAttachment>("ConfirmAttachmentMessage", body) else {
            return;
        };
        let parses = |arn: &Option<String>| {
            arn.as_deref().is_some_and(|arn| longshore_types::Arn::parse(arn).is_ok())
        };
        let attachment = message.attachment.unwrap_or_default();
        if parses(&message.task_arn) && parses(&attachment.attachment_arn) {
            // What is to be attached never shows up here, so it is never reported ATTACHED.
            self.answer("AckRequest", message.header.ack(None)).await;
        } else {
            warn!("confirm message incomplete");
        }
    }
}

fn credentials_ack(message_id: &str, role: &RoleCredentials) -> CredentialsAck {
    CredentialsAck {
        message_id: message_id.to_owned(),
        credentials_id: role.credentials_id.clone(),
        expiration: role.expiration.clone(),
    }
}

fn credentials_of(task: &serde_json::Value) -> TaskCredentials {
    let read = |key: &str| {
        let role = task.get(key).filter(|role| role.is_object())?;
        serde_json::from_value(role.clone()).ok()
    };
    TaskCredentials {
        application: read("roleCredentials"),
        execution: read("executionRoleCredentials"),
    }
}
