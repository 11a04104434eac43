//! Hosts and what their agents do: run what they are told, and say so late, twice, or out of order.
//!
//! An agent repeats what it was not heard saying, and keeps its tasks when it is away, as real ones do.

use std::collections::{BTreeMap, BTreeSet};

use aws_wire::{Caller, Principal};
use ecs_api::{self as api, Ecs as _};
use longshore_types::{InstanceArn, InstanceId, TaskArn, TaskId, Timestamp};
use model::instance::{Instance, InstanceStatus};
use model::task::{Desired, Health, HealthReport, Input, Phase, Task};
use sessions::{self, Order, Outbox, RESEND_AFTER_MS};

use super::world::{CLUSTER, HEARTBEAT_TIMEOUT_MS, World};
use crate::Ecs;

/// For how long an agent may hold on to fenced tasks.
const LEASE_MS: u64 = HEARTBEAT_TIMEOUT_MS / 10 * 9;

/// A host as it really is, whatever the region thinks of it.
#[derive(Debug)]
pub(super) struct Host {
    key: String,
    pub(super) arn: InstanceArn,
    pub(super) id: InstanceId,
    is_fargate: bool,
    /// Whether its agent could be reached.
    pub(super) is_up: bool,
    /// Whether it was told that it is not registered any more.
    pub(super) is_retired: bool,
    pub(super) session: Option<Session>,
    pub(super) tasks: BTreeMap<TaskId, Local>,
    /// Grows each time that it is out of touch.
    silences: u32,
    /// Grows when the host starts afresh: what was under way before is not any more.
    life: u32,
}

/// An open work socket.
#[derive(Debug)]
pub(super) struct Session {
    outbox: Outbox,
    number: u32,
}

/// A task as its agent has it.
#[derive(Clone, Debug)]
pub(super) struct Local {
    arn: TaskArn,
    /// The family of its definition, which says how it behaves.
    family: String,
    pub(super) phase: Phase,
    exit_code: Option<i32>,
    reason: Option<String>,
    is_stopping: bool,
    /// The first phase that the region has not acknowledged.
    is_reported: bool,
}

/// What will happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Connect {
        host: usize,
    },
    /// An order arrives.
    Order {
        host: usize,
        session: u32,
        message: String,
        task: TaskId,
        order: Order,
        family: String,
    },
    /// An acknowledgement arrives.
    Ack {
        host: usize,
        session: u32,
        message: String,
    },
    /// The region looks whether it must repeat itself.
    Review,
    /// A container of a task goes on with its life.
    Step {
        host: usize,
        life: u32,
        task: TaskId,
        step: Step,
    },
    /// A report arrives, if the agent is up.
    Report {
        host: usize,
        life: u32,
        task: TaskId,
        phase: Phase,
    },
    /// What the region last answered grants no more.
    LeaseOver {
        host: usize,
        silences: u32,
    },
    Health {
        host: usize,
        life: u32,
        task: TaskId,
        health: Health,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Run,
    Exit {
        code: i32,
    },
    /// What never starts.
    Fail,
    Stop,
}

impl World {
    /// A machine joins the cluster and connects.
    pub(super) async fn new_host(&mut self, is_fargate: bool) {
        self.join(is_fargate, 2048, 4096).await;
    }

    /// As [`World::new_host`], with so much CPU and memory.
    pub(super) async fn join(&mut self, is_fargate: bool, cpu: i32, memory: i32) {
        let key = format!("NODE{}", self.hosts.len());
        let caller = self.node(&key);
        let zone = ["us-east-1a", "us-east-1b", "us-east-1c"][self.hosts.len() % 3];
        let attribute = |name: &str, value: &str| api::Attribute {
            name: Some(name.to_owned()),
            value: (!value.is_empty()).then(|| value.to_owned()),
            ..api::Attribute::default()
        };
        let mut attributes =
            vec![attribute("longshore.eni", "true"), attribute("ecs.availability-zone", zone)];
        if is_fargate {
            attributes.push(attribute("longshore.fargate", "true"));
        } else if self.hosts.len().is_multiple_of(2) {
            attributes.push(attribute("longshore.auto-scaling-group", "pool"));
        }
        // Its agent can do whatever a task may ask for.
        let view = self.view();
        let required = view.task_definitions.iter().flat_map(|row| &row.requires_attributes);
        let names: BTreeSet<&str> = required.map(|required| required.name.as_str()).collect();
        attributes.extend(names.into_iter().map(|name| attribute(name, "")));
        let amount = |name: &str, amount| api::Resource {
            name: Some(name.to_owned()),
            r#type: Some("INTEGER".to_owned()),
            integer_value: Some(amount),
            ..api::Resource::default()
        };
        let input = api::RegisterContainerInstanceRequest {
            cluster: Some(CLUSTER.to_owned()),
            attributes: Some(attributes),
            total_resources: Some(vec![amount("CPU", cpu), amount("MEMORY", memory)]),
            ..api::RegisterContainerInstanceRequest::default()
        };
        let answer = Ecs::register_container_instance(self.ecs.as_ref(), &caller, input).await;
        let shown = answer.unwrap().container_instance.unwrap();
        let arn: InstanceArn = shown.container_instance_arn.unwrap().parse().unwrap();
        self.hosts.push(Host {
            key,
            id: arn.id,
            arn,
            is_fargate,
            is_up: true,
            is_retired: false,
            session: None,
            tasks: BTreeMap::new(),
            silences: 0,
            life: 0,
        });
        let host = self.hosts.len() - 1;
        let ms = u64::from(self.below(500));
        self.later(ms, Event::Connect { host });
    }

    fn node(&self, key: &str) -> Caller {
        self.caller(key, Principal::Node { instance: None })
    }

    pub(super) async fn happen(&mut self, event: Event) {
        match event {
            Event::Connect { host } => self.connect(host).await,
            Event::Order { host, session, message, task, order, family } => {
                self.hear_order(host, session, message, task, order, family);
            }
            Event::Ack { host, session, message } => {
                self.hear_ack(host, session, &message).await;
            }
            Event::Review => {}
            Event::LeaseOver { host, silences } => self.lease_over(host, silences),
            Event::Step { host, life, task, step } if self.hosts[host].life == life => {
                self.step_task(host, task, step);
            }
            Event::Report { host, life, task, phase } if self.hosts[host].life == life => {
                self.report(host, task, phase).await;
            }
            Event::Health { host, life, task, health } if self.hosts[host].life == life => {
                self.tell_health(host, task, health).await;
            }
            Event::Step { .. } | Event::Report { .. } | Event::Health { .. } => {}
        }
    }

    /// The agent opens its work socket: the manifest first, then whatever it has to say.
    async fn connect(&mut self, host: usize) {
        if !self.hosts[host].is_up || self.hosts[host].session.is_some() {
            return;
        }
        let view = self.view();
        let (account, id) = (self.hosts[host].arn.scope.account, self.hosts[host].id);
        let row = view.instances.get(account, &id).cloned();
        let Some(row) = row.filter(|row| row.status < InstanceStatus::Inactive) else {
            self.hosts[host].is_retired = true;
            return;
        };
        let agent = sessions::Agent::default();
        let opened = sessions::connected(&self.ecs.control, &row, &agent).await.unwrap();
        let number = opened.number;
        let outbox = Outbox::new(number, row.makes_interfaces());
        self.hosts[host].session = Some(Session { outbox, number });
        self.compare_with_manifest(host);
        let unsaid: Vec<(TaskId, Phase)> = self.hosts[host]
            .tasks
            .iter()
            .filter(|(_, local)| !local.is_reported)
            .map(|(id, local)| (*id, local.phase))
            .collect();
        for (task, phase) in unsaid {
            self.say(host, task, phase);
        }
    }

    /// Tasks that the region does not want here are stopped, as after a stop verification.
    fn compare_with_manifest(&mut self, host: usize) {
        let view = self.view();
        let id = self.hosts[host].id;
        let is_wanted = |local: &Local| {
            let task = view.tasks.get(local.arn.scope.account, &local.arn.id);
            task.is_some_and(|task| task.desired == Desired::Running && task.instance == Some(id))
        };
        let doubted: Vec<TaskId> = self.hosts[host]
            .tasks
            .iter()
            .filter(|(_, local)| local.phase < Phase::Stopped && !is_wanted(local))
            .map(|(task, _)| *task)
            .collect();
        for task in doubted {
            self.begin_stop(host, task);
        }
    }

    pub(super) async fn disconnect(&mut self, host: usize) {
        // The region notices sooner or later that nothing comes any more.
        let silent_ms = if self.mishap(2) { u64::from(self.below(30_000)) } else { 0 };
        self.disconnect_after(host, silent_ms).await;
    }

    /// The region notices that it has heard nothing of an agent for so long.
    pub(super) async fn disconnect_after(&mut self, host: usize, silent_ms: u64) {
        let Some(session) = self.hosts[host].session.take() else { return };
        let (account, id) = (self.hosts[host].arn.scope.account, self.hosts[host].id);
        let row = self.view().instances.get(account, &id).cloned();
        if let Some(row) = row {
            let row: &Instance = &row;
            self.lease_runs(host, silent_ms);
            let heard_at = Timestamp(self.now().0.saturating_sub(silent_ms));
            let control = &self.ecs.control;
            sessions::disconnected(control, row, session.number, heard_at).await.unwrap();
        }
    }

    /// The host was last answered so long ago: its lease runs out, unless it is in touch by then.
    pub(super) fn lease_runs(&mut self, host: usize, silent_ms: u64) {
        self.hosts[host].silences += 1;
        let silences = self.hosts[host].silences;
        self.later(LEASE_MS.saturating_sub(silent_ms), Event::LeaseOver { host, silences });
    }

    /// The shims of the host end what is fenced, if the host is still out of touch.
    fn lease_over(&mut self, host: usize, silences: u32) {
        let host = &mut self.hosts[host];
        if host.session.is_some() || host.silences != silences {
            return;
        }
        let is_fenced = |local: &&mut Local| local.family == "fenced";
        for local in host.tasks.values_mut().filter(is_fenced) {
            if local.phase < Phase::Stopped {
                local.phase = Phase::Stopped;
                local.exit_code = Some(137);
                local.is_reported = false;
            }
        }
    }

    /// The machine is gone, with all that ran on it.
    pub(super) async fn vanish(&mut self, host: usize) {
        self.hosts[host].is_up = false;
        self.hosts[host].life += 1;
        self.disconnect(host).await;
    }

    /// It is there again: its containers are dead, and it knows of them or it does not.
    pub(super) fn come_back(&mut self, host: usize, remembers: bool) {
        let back = &mut self.hosts[host];
        back.is_up = true;
        if remembers {
            for local in back.tasks.values_mut().filter(|local| local.phase < Phase::Stopped) {
                local.phase = Phase::Stopped;
                local.exit_code = Some(137);
                local.is_reported = false;
            }
        } else {
            back.tasks.clear();
        }
        let ms = u64::from(self.below(1_000));
        self.later(ms, Event::Connect { host });
    }

    /// What each session has to say now leaves for its agent.
    pub(super) fn send_orders(&mut self) {
        let (view, now) = (self.view(), self.now());
        for host in 0..self.hosts.len() {
            let id = self.hosts[host].id;
            let tasks: Vec<&Task> = view.tasks_on_instance(id).map(AsRef::as_ref).collect();
            let Some(session) = &mut self.hosts[host].session else { continue };
            let mut orders = Vec::new();
            for (task, order) in session.outbox.due(tasks, now) {
                let message = session.outbox.next_message_id();
                session.outbox.sent(task, order, &message, now);
                let family = task.definition.family.to_string();
                let task = task.id;
                let session = session.number;
                orders.push(Event::Order { host, session, message, task, order, family });
            }
            for order in orders {
                if self.mishap(20) {
                    // Lost: the region repeats it.
                    self.later(RESEND_AFTER_MS, Event::Review);
                    continue;
                }
                if self.mishap(20) {
                    let ms = u64::from(1 + self.below(3_000));
                    self.later(ms, order.clone());
                }
                let ms = u64::from(1 + self.below(40));
                self.later(ms, order);
            }
        }
    }

    fn hear_order(
        &mut self,
        host: usize,
        session: u32,
        message: String,
        task: TaskId,
        order: Order,
        family: String,
    ) {
        let is_heard = self.hosts[host].is_up
            && self.hosts[host].session.as_ref().is_some_and(|open| open.number == session);
        if !is_heard {
            return;
        }
        if self.mishap(20) {
            self.later(RESEND_AFTER_MS, Event::Review);
        } else {
            let ms = u64::from(1 + self.below(20));
            self.later(ms, Event::Ack { host, session, message });
        }
        let known = self.hosts[host].tasks.contains_key(&task);
        match order {
            Order::Run if known => {}
            Order::Run => {
                let arn = TaskArn { id: task, ..self.task_arn(task) };
                let local = Local {
                    arn,
                    family: family.clone(),
                    phase: Phase::Pending,
                    exit_code: None,
                    reason: None,
                    is_stopping: false,
                    is_reported: true,
                };
                self.hosts[host].tasks.insert(task, local);
                let (ms, step) = match family.trim_start_matches("net") {
                    "slow" => (5_000 + self.below(15_000), Step::Run),
                    "bad" => (100 + self.below(1_000), Step::Fail),
                    _ => (50 + self.below(800), Step::Run),
                };
                self.go_on(host, task, u64::from(ms), step);
            }
            Order::Stop if known => self.begin_stop(host, task),
            Order::Stop => {
                // Never heard of it: it does not run here.
                let local = Local {
                    arn: self.task_arn(task),
                    family,
                    phase: Phase::Stopped,
                    exit_code: None,
                    reason: None,
                    is_stopping: true,
                    is_reported: false,
                };
                self.hosts[host].tasks.insert(task, local);
                self.say(host, task, Phase::Stopped);
            }
            Order::Attach => panic!("agents of the region's own make interfaces themselves"),
        }
    }

    fn task_arn(&self, id: TaskId) -> TaskArn {
        let account = control::config::Config::root_account();
        let cluster = CLUSTER.parse().unwrap();
        TaskArn { scope: self.ecs.control.scope_of(account), cluster, id }
    }

    async fn hear_ack(&mut self, host: usize, session: u32, message: &str) {
        let Some(open) = &mut self.hosts[host].session else { return };
        if open.number != session {
            return;
        }
        if let Some((account, task, Order::Run)) = open.outbox.acknowledged(message) {
            let arn = self.view().tasks.get(account, &task).map(|task| task.arn());
            if let Some(arn) = arn {
                self.ecs.control.feed(&arn, &Input::Delivered).await.unwrap();
            }
        }
    }

    fn begin_stop(&mut self, host: usize, task: TaskId) {
        let Some(local) = self.hosts[host].tasks.get_mut(&task) else { return };
        if local.phase == Phase::Stopped {
            self.say(host, task, Phase::Stopped);
        } else if !local.is_stopping {
            local.is_stopping = true;
            let ms = u64::from(20 + self.below(3_000));
            self.go_on(host, task, ms, Step::Stop);
        }
    }

    fn go_on(&mut self, host: usize, task: TaskId, ms: u64, step: Step) {
        let life = self.hosts[host].life;
        self.later(ms, Event::Step { host, life, task, step });
    }

    fn step_task(&mut self, host: usize, task: TaskId, step: Step) {
        let is_sound = self.is_calm;
        let Some(local) = self.hosts[host].tasks.get_mut(&task) else { return };
        if local.phase == Phase::Stopped || (step == Step::Run && local.is_stopping) {
            return;
        }
        match step {
            Step::Run => local.phase = Phase::Running,
            Step::Exit { code } => {
                local.phase = Phase::Stopped;
                local.exit_code = Some(code);
            }
            Step::Fail => {
                local.phase = Phase::Stopped;
                local.reason = Some("CannotPullContainerError: not found".to_owned());
            }
            Step::Stop => {
                local.phase = Phase::Stopped;
                // What never ran has no exit code.
                local.exit_code = Some(143);
            }
        }
        local.is_reported = false;
        let (phase, family) = (local.phase, local.family.clone());
        self.say(host, task, phase);
        if step != Step::Run {
            return;
        }
        match family.trim_start_matches("net") {
            "crashy" => {
                let ms = u64::from(100 + self.below(30_000));
                self.go_on(host, task, ms, Step::Exit { code: 1 });
            }
            "sick" => {
                let life = self.hosts[host].life;
                let ms = u64::from(200 + self.below(2_000));
                self.later(ms, Event::Health { host, life, task, health: Health::Healthy });
                if !is_sound && self.below(3) == 0 {
                    let ms = ms + u64::from(self.below(20_000));
                    self.later(ms, Event::Health { host, life, task, health: Health::Unhealthy });
                }
            }
            _ if self.mishap(12) => {
                let ms = u64::from(self.below(60_000));
                self.go_on(host, task, ms, Step::Exit { code: 137 });
            }
            _ => {}
        }
    }

    /// A report leaves, maybe twice, and arrives whenever it does.
    fn say(&mut self, host: usize, task: TaskId, phase: Phase) {
        let life = self.hosts[host].life;
        let report = Event::Report { host, life, task, phase };
        let ms = if self.mishap(8) { self.below(6_000) } else { 1 + self.below(40) };
        self.later(u64::from(ms), report.clone());
        if self.mishap(8) {
            let ms = u64::from(self.below(9_000));
            self.later(ms, report);
        }
    }

    async fn report(&mut self, host: usize, task: TaskId, phase: Phase) {
        let sender = &self.hosts[host];
        if !sender.is_up || sender.session.is_none() {
            return; // It says so again once it is connected.
        }
        let Some(local) = sender.tasks.get(&task).cloned() else { return };
        let container = api::ContainerStateChange {
            container_name: Some("web".to_owned()),
            status: Some(phase.as_str().to_owned()),
            runtime_id: Some(format!("r-{task}")),
            image_digest: Some(format!("sha256:{}", digest_of(&local.family))),
            exit_code: local.exit_code.filter(|_| phase == Phase::Stopped),
            reason: local.reason.clone().filter(|_| phase == Phase::Stopped),
            ..api::ContainerStateChange::default()
        };
        let input = api::SubmitTaskStateChangeRequest {
            cluster: Some(CLUSTER.to_owned()),
            task: Some(local.arn.to_string()),
            status: Some(phase.as_str().to_owned()),
            containers: Some(vec![container]),
            ..api::SubmitTaskStateChangeRequest::default()
        };
        let caller = self.node(&self.hosts[host].key.clone());
        let answer = Ecs::submit_task_state_change(self.ecs.as_ref(), &caller, input).await;
        self.answered("a report", answer);
        if let Some(local) = self.hosts[host].tasks.get_mut(&task)
            && local.phase == phase
        {
            local.is_reported = true;
        }
    }

    async fn tell_health(&mut self, host: usize, task: TaskId, health: Health) {
        let teller = &self.hosts[host];
        let Some(local) = teller.tasks.get(&task) else { return };
        if teller.session.is_none() {
            // The telemetry socket says it again and again.
            let life = teller.life;
            self.later(1_000, Event::Health { host, life, task, health });
            return;
        }
        let arn = local.arn.clone();
        let verdict = HealthReport { container: "web".to_owned(), health };
        self.ecs.control.feed(&arn, &Input::HealthReported(vec![verdict])).await.unwrap();
    }

    pub(super) fn hosts_that(&self, is_it: impl Fn(&Host) -> bool) -> Vec<usize> {
        let found = self.hosts.iter().enumerate().filter(|(_, host)| is_it(host));
        found.map(|(at, _)| at).collect()
    }

    pub(super) fn is_fargate(&self, host: usize) -> bool {
        self.hosts[host].is_fargate
    }
}

/// What an image's tag means, always the same here.
pub(super) fn digest_of(family: &str) -> String {
    format!("{:0>64}", family.bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
}
