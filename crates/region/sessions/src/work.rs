//! The work socket (ACS): orders out, acknowledgements in.

mod layers;
mod liveness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use acs::RoleCredentials;
use acs::message::{
    AttachInterfaces, FromAgent, Header, Heartbeat, HostNetwork, Manifest, ManifestTask,
    NewCredentials, Payload, StopVerification, StopVerificationAck, ToAgent,
};
use futures_util::{SinkExt, StreamExt};
use longshore_types::{AccountId, Chain, ClusterArn, TaskArn, TaskId, Timestamp};
use model::discovery::EndpointCertificate;
use model::task::{Desired, Input, Phase, StopCause, Task};
use model::{Instance, MapService, Seq, View};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tracing::{debug, info, warn};
use traffic::connect::ConnectReport;

use super::handshake::Socket;
use super::outbox::{Order, Outbox};
use crate::Sessions;
use crate::farewell;
use crate::network::{Part, Told};
use crate::orders::known;
use crate::payload::{self, Acting, Environment, Given, Roles, Unassumable};
use crate::pre_pull::PrePullsTold;
use crate::presence::{Agent, Opened, connected, disconnected};
use crate::rhythm::Rhythm;

/// How often an agent hears from us; Amazon's gives up after 60 s of silence.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often what was not acknowledged is looked at again.
const REVIEW: Duration = Duration::from_secs(5);
/// How long an interface may take to appear on a host.
const ATTACH_WAIT_MS: i64 = 180_000;

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    AgentLeft,
    Retired,
    Deregistered,
    ShuttingDown,
    HeartbeatTimeout,
    /// The keys by which its agent came are over.
    Revoked,
    Failed(SocketError),
    Blocked,
}

/// Serves one socket until it ends.
pub(super) async fn serve(
    sessions: &Arc<Sessions>,
    instance: &Instance,
    agent: &Agent,
    mut socket: Socket,
) {
    let Opened { number, lost_after_ms } = match connected(&sessions.control, instance, agent).await
    {
        Ok(opened) => opened,
        Err(error) => {
            warn!(instance = %instance.id, error = %Chain(&error), "agent session refused");
            return;
        }
    };
    info!(instance = %instance.id, session = number, "agent connected");
    let (wake, retire) = sessions.open(instance, number);
    if !sessions.is_last(instance, number) {
        // Whoever ended it found no session yet.
        retire.notify_one();
    }
    let mut session = Session {
        sessions,
        instance,
        outbox: Outbox::new(number, instance.makes_interfaces()),
        is_ours: instance.makes_interfaces(),
        manifest: None,
        credentials_sent_at: Timestamp(0),
        awaiting: BTreeSet::new(),
        network: Told::default(),
        pre_pulls: PrePullsTold::default(),
        number,
        is_secure: agent.is_secure(),
        rhythm: Rhythm::of(lost_after_ms),
        told_limit: None,
        heard_at: Instant::now(),
    };
    let end = tokio::select! {
        end = session.run(&mut socket, &wake) => end,
        () = retire.notified() => match known(&sessions.control.view(), instance.id) {
            Some(_) => End::Retired,
            None => End::Deregistered,
        },
        () = sessions.closing() => End::ShuttingDown,
    };
    let silent_ms = u64::try_from(session.heard_at.elapsed().as_millis()).unwrap_or(u64::MAX);
    let heard_at = Timestamp(sessions.control.clock.now().0.saturating_sub(silent_ms));
    sessions.closed(instance.id, number);
    say_goodbye(&mut socket, &end).await;
    if let End::Failed(error) = &end {
        info!(instance = %instance.id, error = %Chain(error), "agent disconnected");
    } else {
        info!(instance = %instance.id, end = ?end, "agent disconnected");
    }
    if let Err(error) = disconnected(&sessions.control, instance, number, heard_at).await {
        warn!(instance = %instance.id, error = %Chain(&error), "disconnect was not recorded");
    }
}

async fn say_goodbye(socket: &mut Socket, end: &End) {
    let (code, reason) = match end {
        // By a normal end each of two agents with one identity would be back at once, and end the other's session.
        End::Retired => (CloseCode::Policy, "another session took over"),
        End::Deregistered => (CloseCode::Normal, "this container instance was deregistered"),
        End::ShuttingDown => (CloseCode::Away, "going away"),
        End::HeartbeatTimeout => (CloseCode::Away, "no answer to heartbeats"),
        End::Revoked => (CloseCode::Policy, "this host's keys are over"),
        End::AgentLeft => return farewell::answer_close(socket).await,
        End::Failed(error) => return farewell::after(socket, error).await,
        End::Blocked => return,
    };
    farewell::close(socket, code, reason).await;
}

const OLDER_AGENT: &str = "The agent of this container instance is of a release that does not act on changes of a default \
    VPC, and the default VPC of this account was changed. Update the host, or run the task in another VPC.";

/// Which tasks of the instance are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Those of which its agent may have something new to hear: when something changed.
    News,
    /// Those, and those whose last message was not acknowledged: now and then.
    Unanswered,
    /// All of them: at first.
    All,
}

pub(super) struct Session<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) instance: &'a Instance,
    pub(super) outbox: Outbox,
    /// Whether its agent makes interfaces itself.
    pub(super) is_ours: bool,
    /// The id of the last manifest, which a stop verification answers.
    manifest: Option<String>,
    /// When all tasks here last got new credentials.
    credentials_sent_at: Timestamp,
    /// The tasks here whose role is not there yet.
    awaiting: BTreeSet<(AccountId, TaskId)>,
    /// What its agent was told of security groups, if it is ours.
    network: Told,
    /// What it was told of images that it shall have.
    pub(super) pre_pulls: PrePullsTold,
    number: u32,
    /// Whether nobody else reads what is said.
    is_secure: bool,
    /// The message by which its agent was told of the limit, until it has acknowledged it.
    told_limit: Option<String>,
    /// How often its agent is pinged, and how long it may be silent.
    rhythm: Rhythm,
    /// When something last came from it, if only a pong.
    heard_at: Instant,
}

impl Session<'_> {
    async fn run(&mut self, socket: &mut Socket, wake: &tokio::sync::Notify) -> End {
        match self.converse(socket, wake).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn converse(
        &mut self,
        socket: &mut Socket,
        wake: &tokio::sync::Notify,
    ) -> Result<End, End> {
        let mut heartbeat = interval(HEARTBEAT);
        let mut review = interval(REVIEW);
        review.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.send_heartbeat(socket).await?;
        self.send_liveness(socket).await?;
        let mut ping_at = Instant::now() + self.rhythm.ping();
        heartbeat.tick().await;
        self.send_manifest(socket).await?;
        self.send_credentials(socket).await?;
        let mut look = Look::All;
        loop {
            tokio::select! {
                // Orders before all else: a task waits for them.
                biased;
                () = wake.notified() => self.send_due(socket, Look::News).await?,
                frame = socket.next() => {
                    self.heard_at = Instant::now();
                    match frame {
                        Some(Ok(Message::Text(text))) => self.hear(socket, text.as_str()).await?,
                        Some(Ok(Message::Close(_))) | None => return Ok(End::AgentLeft),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(End::Failed(error)),
                    }
                }
                _ = heartbeat.tick() => {
                    self.send_heartbeat(socket).await?;
                    self.review_limit(socket).await?;
                    // By a shorter limit the next one is late already.
                    ping_at = ping_at.min(Instant::now() + self.rhythm.ping());
                    let now = self.sessions.control.clock.now();
                    if payload::is_due(self.credentials_sent_at, now) {
                        self.send_credentials(socket).await?;
                    } else {
                        self.send_awaited(socket).await?;
                    }
                }
                _ = review.tick() => {
                    if self.sessions.control.is_host_gone(self.instance) {
                        return Err(End::Revoked);
                    }
                    self.send_due(socket, look).await?;
                    look = Look::Unanswered;
                    self.tell_of_pre_pulls(socket).await?;
                }
                () = sleep_until(ping_at) => {
                    self.sending(socket.send(Message::Ping(Bytes::new()))).await?;
                    ping_at = Instant::now() + self.rhythm.ping();
                }
                // After what has come: a region that was held up has heard nothing for that reason alone.
                () = sleep_until(self.heard_at + self.rhythm.silence_max()) => {
                    return Err(End::HeartbeatTimeout);
                }
            }
        }
    }

    pub(super) async fn send(&self, socket: &mut Socket, message: &ToAgent) -> Result<(), End> {
        self.sending(socket.send(Message::text(message.to_text()))).await
    }

    /// Waits until a frame has left, but not for ever.
    async fn sending(
        &self,
        leaving: impl Future<Output = Result<(), SocketError>>,
    ) -> Result<(), End> {
        match timeout(self.rhythm.send_max(), leaving).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Failed(error)),
            Err(_) => Err(End::Blocked),
        }
    }

    async fn send_heartbeat(&mut self, socket: &mut Socket) -> Result<(), End> {
        let message_id = self.outbox.next_message_id();
        let heartbeat = Heartbeat { healthy: Some(true), message_id: Some(message_id) };
        self.send(socket, &ToAgent::Heartbeat(heartbeat)).await
    }

    pub(super) fn header(&self, message_id: String) -> Header {
        let Instance { scope, cluster, .. } = self.instance;
        let cluster = ClusterArn { scope: scope.clone(), name: cluster.clone() };
        Header {
            cluster_arn: Some(cluster.to_string()),
            container_instance_arn: Some(self.instance.arn().to_string()),
            message_id: Some(message_id),
        }
    }

    /// Says which tasks belong on the instance; the agent asks about every other that it has.
    async fn send_manifest(&mut self, socket: &mut Socket) -> Result<(), End> {
        let view = self.sessions.control.view();
        let message_id = self.outbox.next_message_id();
        let manifest = Manifest {
            header: self.header(message_id.clone()),
            timeline: Some(signed(self.outbox.next_sequence())),
            generated_at: Some(self.sessions.control.clock.now().0),
            tasks: view.tasks_on_instance(self.instance.id).map(|task| listed(task)).collect(),
        };
        self.manifest = Some(message_id);
        self.send(socket, &ToAgent::Manifest(manifest)).await
    }

    /// Agents keep credentials in memory only, and those end: all of them get new ones. Our agent
    /// may still have output of tasks that have stopped.
    async fn send_credentials(&mut self, socket: &mut Socket) -> Result<(), End> {
        let view = self.sessions.control.view();
        self.credentials_sent_at = self.sessions.control.clock.now();
        let (id, is_ours) = (self.instance.id, self.is_ours);
        let stopped = view.tasks_ended_on(id).filter(|_| is_ours);
        self.awaiting.clear();
        for task in view.tasks_on_instance(id).chain(stopped) {
            let Some(definition) = self.definition(&view, task) else { continue };
            let execution = self.given(&view, task, &definition).execution();
            if let Some(role) = renewed(task, execution).flatten() {
                self.send_role(socket, task, "TaskExecution", role).await?;
            }
            if task.phase < Phase::Stopped {
                self.send_acting(socket, &view, task, &definition).await?;
            }
        }
        Ok(())
    }

    /// Looks whether roles are there by now that were not.
    async fn send_awaited(&mut self, socket: &mut Socket) -> Result<(), End> {
        if self.awaiting.is_empty() {
            return Ok(());
        }
        let view = self.sessions.control.view();
        for (account, id) in std::mem::take(&mut self.awaiting) {
            let task = view.tasks.get(account, &id).filter(|task| task.phase < Phase::Stopped);
            if let Some(task) = task
                && let Some(definition) = self.definition(&view, task)
            {
                self.send_acting(socket, &view, task, &definition).await?;
            }
        }
        Ok(())
    }

    /// New credentials for the containers of a task that has a role.
    async fn send_acting(
        &mut self,
        socket: &mut Socket,
        view: &View,
        task: &Task,
        definition: &ecs_api::TaskDefinition,
    ) -> Result<(), End> {
        match renewed(task, self.given(view, task, definition).acting()) {
            Some(Acting::As(role)) => self.send_role(socket, task, "TaskApplication", role).await,
            Some(Acting::Nameless(_)) => {
                self.awaiting.insert((task.scope.account, task.id));
                Ok(())
            }
            Some(Acting::Nobody) | None => Ok(()),
        }
    }

    fn given<'s>(
        &'s self,
        view: &'s View,
        task: &'s Task,
        definition: &'s ecs_api::TaskDefinition,
    ) -> Given<'s> {
        let control = &self.sessions.control;
        let (now, agent_is_ours) = (control.clock.now(), self.is_ours);
        Given { control, view, task, definition, agent_is_ours, now }
    }

    async fn send_role(
        &mut self,
        socket: &mut Socket,
        task: &Task,
        role_type: &'static str,
        role_credentials: RoleCredentials,
    ) -> Result<(), End> {
        let cluster = ClusterArn { scope: task.scope.clone(), name: task.cluster.clone() };
        let message_id = self.outbox.next_message_id();
        let message = NewCredentials {
            header: self.header(message_id),
            task_arn: Some(task.arn().to_string()),
            task_cluster_arn: Some(cluster.to_string()),
            role_type: Some(role_type.to_owned()),
            role_credentials: Some(role_credentials),
        };
        self.send(socket, &ToAgent::RoleCredentials(message)).await
    }

    async fn send_due(&mut self, socket: &mut Socket, look: Look) -> Result<(), End> {
        let view = self.sessions.control.view();
        let (now, id) = (self.sessions.control.clock.now(), self.instance.id);
        let due = match look {
            Look::News => {
                self.outbox.due_among(view.orders_of_instance(id).map(AsRef::as_ref), now)
            }
            Look::Unanswered => {
                let mut tasks = self.outbox.unanswered(|account, task| {
                    let task = view.tasks.get(account, &task).map(AsRef::as_ref);
                    task.filter(|task: &&Task| task.occupies() && task.instance == Some(id))
                });
                tasks.retain(|task| !task.has_orders());
                let news = view.orders_of_instance(id).map(AsRef::as_ref);
                self.outbox.due_among(tasks.into_iter().chain(news), now)
            }
            Look::All => {
                let tasks: Vec<&Task> = view.tasks_on_instance(id).map(AsRef::as_ref).collect();
                self.outbox.due(tasks, now)
            }
        };
        let is_told = self.tell_network(socket, &view, &due).await?;
        if due.is_empty() && !is_told {
            return Ok(());
        }
        let is_older = self.is_ours && !self.instance.judges_default_vpcs();
        for (task, order) in due {
            let network = || self.sessions.control.network(&view, task.scope.account);
            let is_start = is_older && order != Order::Stop;
            if is_start && payload::is_beyond(self.instance, task, &network()) {
                self.give_up(task, OLDER_AGENT.to_owned()).await;
                continue;
            }
            let roles = match self.roles(&view, task, order) {
                Ok(roles) => roles,
                Err(unassumable) => {
                    self.give_up(task, unassumable.sentence()).await;
                    continue;
                }
            };
            let message_id = self.outbox.next_message_id();
            let Some(message) = self.message(&view, task, order, &roles, message_id.clone()) else {
                continue;
            };
            self.sending(socket.feed(Message::text(message.to_text()))).await?;
            debug!(task = %task.id, instance = %self.instance.id, ?order, "order sent");
            self.outbox.sent(task, order, &message_id, now);
        }
        // All of them leave together.
        self.sending(socket.flush()).await
    }

    /// Says what is new of the host's network, what concerns tasks that are about to be sent among them. Whether
    /// there was anything.
    async fn tell_network(
        &mut self,
        socket: &mut Socket,
        view: &View,
        due: &[(&Task, Order)],
    ) -> Result<bool, End> {
        if !self.is_ours {
            let connect_hosts = &self.sessions.control.connect_hosts;
            connect_hosts.told(self.instance.id, BTreeSet::new());
            return Ok(false);
        }
        let running = due.iter().filter(|(_, order)| *order == Order::Run);
        let next: Vec<&Task> = running.map(|(task, _)| *task).collect();
        let region = &self.sessions.control.config.region;
        let home = self.sessions.home_of_balancers(view);
        let ids = (self.instance.id, home);
        let tunneling = self.sessions.tunneling(view, self.instance.id).await;
        let control = &self.sessions.control;
        let open = |row: &MapService, shown: &EndpointCertificate| {
            let opened = control.endpoint_key(view, row, shown);
            let opened = opened.inspect_err(|error| {
                warn!(endpoint = %row.id, error = %Chain(error), "a certificate's key cannot be opened");
            });
            opened.ok().map(|key| key.to_string())
        };
        let Some(news) = self.network.due(view, region, ids, &tunneling, &next, &open) else {
            return Ok(false);
        };
        let connect_hosts = &self.sessions.control.connect_hosts;
        connect_hosts.told(self.instance.id, self.network.connect_namespaces());
        let (version, is_whole) = (news.version.0, news.is_whole);
        let parts = news.parts();
        let last = parts.len() - 1;
        for (place, part) in parts.into_iter().enumerate() {
            let message_id = self.outbox.next_message_id();
            let is_more = place < last;
            if !is_more {
                self.network.tunnels.sent(&message_id);
            }
            let header = self.header(message_id);
            let Part { groups: security_groups, network, names, connect, tunnels } = part;
            let told_at = (!connect.is_empty()).then(|| self.sessions.control.clock.now());
            let message = HostNetwork {
                header,
                version,
                is_whole,
                is_more,
                security_groups,
                network,
                names,
                connect,
                tunnels,
                told_at,
            };
            let text = ToAgent::HostNetwork(message).to_text();
            self.sending(socket.feed(Message::text(text))).await?;
        }
        debug!(instance = %self.instance.id, version, is_whole, "host network sent");
        Ok(true)
    }

    /// What a task that is to run acts with.
    fn roles(&mut self, view: &View, task: &Task, order: Order) -> Result<Roles, Unassumable> {
        let definition = match order {
            Order::Run => self.definition(view, task),
            Order::Attach | Order::Stop => None,
        };
        let Some(definition) = definition else { return Ok(Roles::default()) };
        let roles = self.given(view, task, &definition).roles()?;
        if matches!(roles.acting, Acting::Nameless(_)) {
            self.awaiting.insert((task.scope.account, task.id));
        }
        Ok(roles)
    }

    /// A task whose role may not be assumed is not started, nor one whose agent would not do with its network as is asked.
    async fn give_up(&self, task: &Task, reason: String) {
        let cause = StopCause::FailedToStart { reason };
        let stopped = self.sessions.control.feed(&task.arn(), &Input::Unwanted(cause)).await;
        if let Err(error) = stopped {
            warn!(task = %task.id, error = %Chain(&error), "refused task was not stopped");
        }
    }

    /// One task a message, since an agent acknowledges whole messages only.
    fn message(
        &mut self,
        view: &View,
        task: &Task,
        order: Order,
        roles: &Roles,
        message_id: String,
    ) -> Option<ToAgent> {
        let generated_at = self.sessions.control.clock.now().0;
        let header = self.header(message_id);
        let tasks = match order {
            Order::Stop => vec![payload::of_stop(task)],
            Order::Run | Order::Attach => {
                let network = self.sessions.control.network(view, task.scope.account);
                let Ok(vpc) = payload::vpc_of(task, &network) else {
                    warn!(task = %task.id, "the VPC of a task's interface is gone");
                    return None;
                };
                let endpoint = self.sessions.control.endpoint();
                let environment = Environment {
                    registry: &self.sessions.control.registry_host(),
                    local_registry: &self.sessions.control.local_host(),
                    view,
                    endpoint: &endpoint,
                    vpc: vpc.as_ref(),
                    is_judged: payload::is_judged(task, &network),
                    agent_is_ours: self.is_ours,
                    roles,
                };
                if order == Order::Attach {
                    let interface = payload::interfaces(task, &environment)?;
                    let cluster =
                        ClusterArn { scope: task.scope.clone(), name: task.cluster.clone() };
                    return Some(ToAgent::AttachTaskInterfaces(AttachInterfaces {
                        header,
                        task_arn: Some(task.arn().to_string()),
                        task_cluster_arn: Some(cluster.to_string()),
                        wait_timeout_ms: Some(ATTACH_WAIT_MS),
                        generated_at: Some(generated_at),
                        elastic_network_interfaces: vec![interface],
                    }));
                }
                let definition = self.definition(view, task)?;
                vec![payload::of_task(task, &definition, &environment)]
            }
        };
        let seq_num = Some(signed(self.outbox.next_sequence()));
        let generated_at = Some(generated_at);
        Some(ToAgent::Payload(Payload { header, tasks, seq_num, generated_at }))
    }

    fn definition(&self, view: &View, task: &Task) -> Option<Arc<ecs_api::TaskDefinition>> {
        let row = view.task_definitions.get(task.scope.account, &task.definition);
        let Some(row) = row else {
            warn!(task = %task.id, definition = %task.definition, "task definition is gone");
            return None;
        };
        match self.sessions.documents.read(row) {
            Ok(definition) => Some(definition),
            Err(error) => {
                warn!(definition = %task.definition, error = %Chain(&error), "unreadable");
                None
            }
        }
    }

    async fn hear(&mut self, socket: &mut Socket, text: &str) -> Result<(), End> {
        match FromAgent::from_text(text) {
            Ok(FromAgent::Ack { message_id }) => self.acknowledged(&message_id).await,
            Ok(FromAgent::Nack { message_id, reason }) => {
                warn!(instance = %self.instance.id, %message_id, %reason, "agent refused a message");
                // Rules of before may still be in force there. Nothing else that is sent is refused.
                self.network.begin_again();
            }
            Ok(FromAgent::HeartbeatAck) => {}
            Ok(FromAgent::StopVerification(StopVerification { message_id, stop_candidates })) => {
                self.verify_stops(socket, message_id, stop_candidates).await?;
            }
            Ok(FromAgent::Connect(report)) => {
                let ConnectReport { version, in_flight, ready: _, counting_since, figures } =
                    report;
                let control = &self.sessions.control;
                control.connect_hosts.heard(self.instance.id, Seq(version), in_flight);
                let view = control.store.latest();
                // Of a host that is gone what it had counted is kept already.
                if known(&view, self.instance.id).is_some() {
                    control.connect_figures.heard(&view, self.instance, counting_since, figures);
                }
            }
            Ok(FromAgent::Layers(report)) => self.hear_of_layers(socket, report).await?,
            Ok(FromAgent::Other { kind }) => debug!(%kind, "message passed over"),
            Err(error) => {
                warn!(instance = %self.instance.id, error = %Chain(&error), "unreadable message");
            }
        }
        Ok(())
    }

    async fn acknowledged(&mut self, message_id: &str) {
        if self.is_limit_acknowledged(message_id).await {
            return;
        }
        let (id, book) = (self.instance.id, &self.sessions.tunnels);
        for other in self.network.tunnels.acknowledged(id, message_id, book) {
            self.sessions.notify(other);
        }
        let Some((account, id, Order::Run)) = self.outbox.acknowledged(message_id) else { return };
        // That it was delivered is news only of a task that waits for it; a report may have come first.
        let waiting = self.sessions.control.store.latest().tasks.get(account, &id).cloned();
        let waiting = waiting.filter(|task| task.phase < Phase::Pending);
        let Some(task) = waiting.filter(|task| task.instance == Some(self.instance.id)) else {
            return;
        };
        if let Err(error) = self.sessions.control.feed(&task.arn(), &Input::Delivered).await {
            warn!(task = %id, error = %Chain(&error), "delivery was not recorded");
        }
    }

    /// Confirms of the tasks that the agent doubts those that are not wanted on this instance.
    async fn verify_stops(
        &mut self,
        socket: &mut Socket,
        message_id: String,
        candidates: Vec<ManifestTask>,
    ) -> Result<(), End> {
        if self.manifest.as_ref() != Some(&message_id) {
            return Ok(());
        }
        let view = self.sessions.control.view();
        let is_wanted = |candidate: &ManifestTask| {
            let arn: Option<TaskArn> = candidate.task_arn.parse().ok();
            let task = arn.and_then(|arn| view.tasks.get(arn.scope.account, &arn.id).cloned());
            task.is_some_and(|task| {
                task.desired_of_agent() == Desired::Running
                    && task.instance == Some(self.instance.id)
            })
        };
        let stop_tasks: Vec<_> = candidates.into_iter().filter(|each| !is_wanted(each)).collect();
        if stop_tasks.is_empty() {
            return Ok(());
        }
        let generated_at = self.sessions.control.clock.now().0;
        let answer = StopVerificationAck {
            message_id: Some(message_id),
            generated_at: Some(generated_at),
            stop_tasks,
        };
        self.send(socket, &ToAgent::StopVerificationAck(answer)).await
    }
}

/// What a task had before and is given anew. Who may not have it any more keeps the last until they end; with a task
/// that is to end its roles often go first, which is nothing to look into.
fn renewed<T>(task: &Task, given: Result<T, Unassumable>) -> Option<T> {
    match given {
        Ok(given) => Some(given),
        Err(Unassumable { role, why }) => {
            let error = Chain(&why);
            match task.desired_of_agent() {
                Desired::Running => warn!(task = %task.id, role, %error, "credentials not renewed"),
                Desired::Stopped => {
                    debug!(task = %task.id, role, %error, "credentials not renewed")
                }
            }
            None
        }
    }
}

fn listed(task: &Task) -> ManifestTask {
    let cluster = ClusterArn { scope: task.scope.clone(), name: task.cluster.clone() };
    ManifestTask {
        task_arn: task.arn().to_string(),
        task_cluster_arn: Some(cluster.to_string()),
        desired_status: task.desired_of_agent().as_str().to_owned(),
    }
}

/// As Amazon's agent reads sequence numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
