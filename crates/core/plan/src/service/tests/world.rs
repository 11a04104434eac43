//! A world with one service: it carries out plans, and its tasks behave as their revision says.
//!
//! Every pass is decided twice and must come out the same, must hold floor and ceiling, and must leave
//! nothing to do once it is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_types::{
    Clock, DeploymentId, InstanceArn, InstanceId, RevisionId, Scope, SeededEnv,
    ServiceDeploymentId, TaskId, Timestamp, Uuid,
};
use model::elb::WeightedGroup;
use model::instance::InstanceStatus;
use model::service::{
    Breaker, Controller, Deployment, DeploymentSettings, Propagate, Rank, RevisionCapacity,
    Scheduling, Service, ServiceBalancer, ServiceEventKind, ServiceNotes, ServiceStatus, Shortage,
    Strategy, TaskSet, TaskSetStatus, TrafficRule,
};
use model::task::{
    Asked, AskedContainer, Container, Desired, Health, Input, LaunchType, Need, Overrides, Phase,
    SeenContainer, StopCause, Task, TaskService, Times, step,
};

use super::reports::{health, running, stopped};
use crate::service::{Place, ServiceHost, ServicePlan, Sizes, Snapshot, reconcile};

/// What becomes of a task of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lasts,
    NeverStarts,
    /// Exits by itself so long after its start.
    EndsAfter(u64),
    /// Has health checks, which pass so long after its start.
    HealthyAfter(u64),
    /// Has health checks, which fail so long after its start.
    SickAfter(u64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub(super) starts_in_ms: u64,
    pub(super) stops_in_ms: u64,
    pub(super) fate: Fate,
}

impl Behaviour {
    pub(super) fn new(fate: Fate) -> Self {
        Self { starts_in_ms: 100, stops_in_ms: 50, fate }
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) env: SeededEnv,
    pub(super) service: Service,
    pub(super) deployments: Vec<Deployment>,
    pub(super) task_sets: Vec<TaskSet>,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) hosts: Vec<(ServiceHost, String)>,
    pub(super) notes: ServiceNotes,
    pub(super) events: Vec<ServiceEventKind>,
    pub(super) behaviours: BTreeMap<DeploymentId, Behaviour>,
    /// Tasks that the instances have capacity for.
    pub(super) room: usize,
    pub(super) look_again_at: Option<Timestamp>,
    /// Of every deployment's revision.
    pub(super) behind: Vec<ServiceBalancer>,
    pub(super) forwards: BTreeMap<TrafficRule, Vec<WeightedGroup>>,
    pub(super) powerless_roles: Vec<String>,
    /// Whether something found no capacity in the last pass: then it is asked for again.
    is_short: bool,
}

pub(super) fn settings(healthy_percent_min: u32, percent_max: u32) -> DeploymentSettings {
    DeploymentSettings {
        healthy_percent_min,
        percent_max,
        breaker: None,
        bake_minutes: None,
        strategy: Strategy::Rolling,
        hooks: Vec::new(),
    }
}

pub(super) fn breaker(rolls_back: bool) -> Breaker {
    Breaker { is_enabled: true, rolls_back, resets_on_healthy_task: None, threshold: None }
}

impl World {
    pub(super) fn new(seed: u64, desired: u32, settings: DeploymentSettings) -> Self {
        let env = SeededEnv::from_seed(seed);
        let scope = Scope {
            region: "eu-north-1".parse().unwrap(),
            account: "000000000000".parse().unwrap(),
        };
        let service = Service {
            scope,
            cluster: "demo".parse().unwrap(),
            name: "web".parse().unwrap(),
            status: ServiceStatus::Active,
            scheduling: Scheduling::Replica,
            controller: Controller::Ecs,
            desired_count: desired,
            revision: None,
            deployment: settings,
            constraints: Vec::new(),
            strategies: Vec::new(),
            health_check_grace_s: None,
            is_zone_rebalanced: false,
            enable_managed_tags: false,
            propagate: Propagate::None,
            enable_execute_command: false,
            role: None,
            tags: model::Tags::default(),
            created_at: env.now(),
            created_by: String::new(),
            deleted_at: None,
            version: 1,
        };
        let mut world = Self {
            env,
            service,
            deployments: Vec::new(),
            task_sets: Vec::new(),
            tasks: BTreeMap::new(),
            hosts: Vec::new(),
            notes: ServiceNotes::default(),
            events: Vec::new(),
            behaviours: BTreeMap::new(),
            room: 100_000,
            look_again_at: None,
            behind: Vec::new(),
            forwards: BTreeMap::new(),
            powerless_roles: Vec::new(),
            is_short: false,
        };
        for zone in ["a", "b", "c"] {
            world.add_host(zone);
        }
        world
    }

    pub(super) fn add_host(&mut self, zone: &str) -> InstanceId {
        let id = InstanceId::mint(&self.env);
        let (scope, cluster) = (self.service.scope.clone(), self.service.cluster.clone());
        let host = ServiceHost {
            id,
            arn: InstanceArn { scope, cluster, id },
            status: InstanceStatus::Active,
            is_connected: true,
            accepts: true,
            other_tasks: 0,
        };
        self.hosts.push((host, zone.to_owned()));
        id
    }

    pub(super) fn now(&self) -> Timestamp {
        self.env.now()
    }

    /// As UpdateService does it.
    pub(super) fn deploy(&mut self, behaviour: Behaviour) -> DeploymentId {
        let (id, revision) = (DeploymentId::mint(&self.env), RevisionId::mint(&self.env));
        // No two deployments are made in one moment.
        self.env.advance_ms(1);
        let now = self.now();
        for old in &mut self.deployments {
            old.rank = old.rank.max(Rank::Active);
        }
        let record = ServiceDeploymentId::mint(&self.env);
        self.deployments.push(Deployment::new(&self.service, id, Some(record), revision, now));
        self.service.revision = Some(revision);
        self.behaviours.insert(id, behaviour);
        id
    }

    pub(super) fn add_task_set(&mut self, scale: u32, behaviour: Behaviour) -> DeploymentId {
        let id = DeploymentId::mint(&self.env);
        self.service.controller = Controller::External;
        self.task_sets.push(TaskSet {
            scope: self.service.scope.clone(),
            cluster: self.service.cluster.clone(),
            service: self.service.name.clone(),
            id,
            external_id: None,
            status: TaskSetStatus::Active,
            definition: "web:1".parse().unwrap(),
            capacity: RevisionCapacity::Launch(LaunchType::Ec2),
            platform_version: None,
            platform_family: None,
            network: None,
            scale_basis_points: scale,
            tags: model::Tags::default(),
            failures: 0,
            last_failure_at: None,
            last_failure: None,
            is_steady: false,
            steadiness_changed_at: None,
            shortage: None,
            created_at: self.now(),
            updated_at: self.now(),
            version: 1,
        });
        self.behaviours.insert(id, behaviour);
        id
    }

    pub(super) fn deployment(&self, id: DeploymentId) -> &Deployment {
        self.deployments.iter().find(|row| row.id == id).unwrap()
    }

    pub(super) fn primary(&self) -> &Deployment {
        let is_primary = |row: &&Deployment| row.rank == Rank::Primary;
        self.deployments.iter().rev().find(is_primary).unwrap()
    }

    fn balancers(&self) -> BTreeMap<DeploymentId, &[ServiceBalancer]> {
        self.deployments.iter().map(|row| (row.id, self.behind.as_slice())).collect()
    }

    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        let is_up = |(host, _): &&(ServiceHost, String)| {
            host.status == InstanceStatus::Active && host.is_connected
        };
        Snapshot {
            service: &self.service,
            deployments: self.deployments.iter().filter(|row| row.rank < Rank::Gone).collect(),
            task_sets: self.task_sets.iter().collect(),
            tasks: self.tasks.values().collect(),
            hosts: self.hosts.iter().map(|(host, _)| host.clone()).collect(),
            balance: BTreeMap::new(),
            balancers: self.balancers(),
            forwards: self.forwards.clone(),
            powerless_roles: self.powerless_roles.iter().map(String::as_str).collect(),
            offered: BTreeSet::new(),
            zones: self.hosts.iter().filter(is_up).map(|(_, zone)| zone.clone()).collect(),
            notes: self.notes.clone(),
            rollback_id: DeploymentId(1_000 + self.deployments.len() as u64),
            now: self.now(),
        }
    }

    /// Decides a pass, proves its promises, and carries it out.
    pub(super) fn pass(&mut self) -> ServicePlan {
        let plan = reconcile(&self.snapshot());
        assert_eq!(plan, reconcile(&self.snapshot()), "the same snapshot, the same plan");
        self.prove(&plan);
        self.apply(&plan);
        self.look_again_at = plan.look_again_at;
        // What is shifted is made durable before it goes on.
        if !self.is_short && plan.forwards.is_empty() {
            let again = reconcile(&self.snapshot());
            assert!(again.is_idle(), "once carried out nothing is left: {again:#?} {plan:#?}");
        }
        plan
    }

    /// Floor, ceiling and protection, by other words than the reconciler's own.
    fn prove(&self, plan: &ServicePlan) {
        let is_well = |task: &&Task| {
            task.desired == Desired::Running
                && task.phase == Phase::Running
                && task.health() != Health::Unhealthy
        };
        // Daemons of instances that shall have none do not count.
        let shall_have_none: Vec<InstanceId> = self
            .hosts
            .iter()
            .filter(|(host, _)| host.status != InstanceStatus::Active || !host.accepts)
            .filter(|_| self.service.scheduling == Scheduling::Daemon)
            .map(|(host, _)| host.id)
            .collect();
        let is_well = |task: &&Task| {
            is_well(task) && task.instance.is_none_or(|id| !shall_have_none.contains(&id))
        };
        let is_stopped = |task: &Task| plan.stops.iter().any(|(id, _)| *id == task.id);
        let well = self.tasks.values().filter(is_well).count();
        let stopped_well = self.tasks.values().filter(is_well).filter(|task| is_stopped(task));
        let stopped_well = stopped_well.count();
        let unstopped = self.tasks.values().filter(|task| task.phase < Phase::Stopped).count();
        let started: u32 = plan.starts.iter().map(|start| start.tasks).sum();
        let is_active = self.service.status == ServiceStatus::Active;
        if is_active && self.service.controller == Controller::Ecs {
            let desired = crate::service::desired_count(&self.snapshot());
            let sizes = Sizes::of(&self.service.deployment, desired);
            if self.service.scheduling == Scheduling::Replica && started > 0 {
                let after = unstopped + started as usize;
                // Two revisions stand beside each other where traffic is shifted.
                let of_two = match self.service.deployment.strategy.is_rolling() {
                    true => 0,
                    false => sizes.desired.saturating_mul(2),
                };
                let most = sizes.ceiling.max(of_two);
                assert!(after <= most as usize, "{after} over {most}, {sizes:?}");
            }
            if stopped_well > 0 {
                let left = well - stopped_well;
                assert!(left >= sizes.floor as usize, "{left} left, under {sizes:?}");
            }
        }
        for (id, cause) in &plan.stops {
            let task = &self.tasks[id];
            assert_eq!(task.desired, Desired::Running, "nothing is stopped twice");
            let may = !task.is_protected(self.now())
                || matches!(cause, StopCause::Unhealthy { .. })
                || !is_active
                || self.service.controller == Controller::External;
            assert!(may, "a protected task is stopped for {cause:?}");
        }
    }

    fn apply(&mut self, plan: &ServicePlan) {
        let now = self.now();
        for changed in plan.deployments.iter().chain(&plan.new_deployment) {
            match self.deployments.iter_mut().find(|row| row.id == changed.id) {
                Some(row) => *row = changed.clone(),
                None => {
                    let fate = self.notes.completed.map(|done| self.behaviours[&done.deployment]);
                    self.behaviours.insert(changed.id, fate.unwrap());
                    self.deployments.push(changed.clone());
                }
            }
        }
        for changed in &plan.task_sets {
            let row = self.task_sets.iter_mut().find(|row| row.id == changed.id).unwrap();
            *row = changed.clone();
        }
        self.task_sets.retain(|row| !plan.gone_task_sets.contains(&row.key()));
        self.forwards.extend(plan.forwards.clone());
        if let Some(service) = &plan.service {
            self.service = service.clone();
        }
        if let Some(notes) = &plan.notes {
            self.notes = notes.clone();
        }
        self.events.extend(plan.events.iter().cloned());
        for id in &plan.ready {
            let task = self.tasks.get_mut(id).unwrap();
            task.service.as_mut().unwrap().is_ready = true;
        }
        for id in &plan.accounted {
            self.tasks.remove(id).unwrap();
        }
        for (id, cause) in &plan.stops {
            self.feed(*id, &Input::Unwanted(cause.clone()));
        }
        self.is_short = false;
        for start in &plan.starts {
            self.start(start.deployment, start.tasks, &start.place, now);
        }
    }

    /// As the shell does it: what finds no capacity is written down as missing.
    fn start(&mut self, deployment: DeploymentId, tasks: u32, place: &Place, now: Timestamp) {
        let mut missing = 0;
        for _ in 0..tasks {
            let live = |task: &&Task| task.phase < Phase::Stopped;
            let capacity_available = self.tasks.values().filter(live).count() < self.room;
            let host = self
                .hosts
                .iter()
                .filter(|(host, _)| host.status == InstanceStatus::Active && host.is_connected)
                .filter(|(host, zone)| match place {
                    Place::Anywhere => true,
                    Place::Zone(wanted) => wanted == zone,
                    Place::On(id) => *id == host.id,
                })
                .min_by_key(|(host, _)| {
                    let here = |task: &&Task| task.instance == Some(host.id);
                    self.tasks.values().filter(live).filter(here).count()
                })
                .cloned();
            match host.filter(|_| capacity_available) {
                Some((host, zone)) => {
                    let task = self.task(deployment, &host, &zone, now);
                    self.tasks.insert(task.id, task);
                }
                None => missing += 1,
            }
        }
        self.is_short |= missing > 0;
        let shortage = (missing > 0 && !matches!(place, Place::Zone(_))).then(|| Shortage {
            tasks: missing,
            tally: "3 instances: 3 full".to_owned(),
            since: now,
        });
        for row in self.deployments.iter_mut().filter(|row| row.id == deployment) {
            row.shortage.clone_from(&shortage);
        }
        for row in self.task_sets.iter_mut().filter(|row| row.id == deployment) {
            row.shortage.clone_from(&shortage);
        }
    }

    fn task(&self, id: DeploymentId, host: &ServiceHost, zone: &str, now: Timestamp) -> Task {
        let fate = self.behaviours[&id].fate;
        let is_checked = matches!(fate, Fate::HealthyAfter(_) | Fate::SickAfter(_));
        Task {
            id: TaskId::mint_at(&self.env, now),
            asked: Arc::new(Asked {
                scope: self.service.scope.clone(),
                cluster: self.service.cluster.clone(),
                definition: "web:1".parse().unwrap(),
                launch: LaunchType::Ec2,
                platform_version: None,
                platform_family: None,
                group: self.service.group(),
                started_by: Some(id.to_string()),
                tags: model::Tags::default(),
                cpu: None,
                memory: None,
                ephemeral_storage_gib: None,
                enable_execute_command: false,
                overrides: Overrides::default(),
                need: Need::default(),
            }),
            capacity_provider: None,
            service: Some(TaskService {
                name: self.service.name.clone(),
                deployment: id,
                is_ready: false,
                is_accounted: false,
                is_registered: false,
                is_connected: false,
            }),
            protected_until: None,
            zone: Some(zone.into()),
            instance: Some(host.id),
            waiting: None,
            desired: Desired::Running,
            stop_cause: None,
            phase: Phase::Pending,
            interface: None,
            containers: vec![Container {
                id: Uuid::mint(&self.env),
                asked: Arc::new(AskedContainer {
                    name: "app".parse().unwrap(),
                    image: "app".to_owned(),
                    essential: true,
                    cpu: None,
                    memory: None,
                    memory_reservation: None,
                    pinned_digest: None,
                    is_health_checked: is_checked,
                }),
                seen: SeenContainer::default(),
                gpus: Vec::new(),
            }],
            times: Times { created: now, ..Times::default() },
            version: 1,
        }
    }

    pub(super) fn feed(&mut self, id: TaskId, input: &Input) {
        let now = self.now();
        let task = self.tasks.get_mut(&id).unwrap();
        if let Some(next) = step(task, input, now) {
            *task = next;
        }
    }

    /// What the task does next by itself, and when.
    fn next_of(&self, task: &Task) -> Option<(Timestamp, Input)> {
        let behaviour = self.behaviours[&task.service.as_ref()?.deployment];
        let host = self.hosts.iter().find(|(host, _)| Some(host.id) == task.instance)?;
        if !host.0.is_connected || task.phase == Phase::Stopped {
            return None;
        }
        if task.desired == Desired::Stopped {
            let at = task.times.stopping?.plus_ms(behaviour.stops_in_ms);
            return Some((at, stopped(None, Some(0))));
        }
        if task.phase < Phase::Running {
            let at = task.times.created.plus_ms(behaviour.starts_in_ms);
            let input = match behaviour.fate {
                Fate::NeverStarts => stopped(Some("CannotPullContainerError: no such image"), None),
                Fate::Lasts | Fate::EndsAfter(_) | Fate::HealthyAfter(_) | Fate::SickAfter(_) => {
                    running()
                }
            };
            return Some((at, input));
        }
        let started = task.times.started?;
        match (behaviour.fate, task.health()) {
            (Fate::EndsAfter(ms), _) => Some((started.plus_ms(ms), stopped(None, Some(1)))),
            (Fate::HealthyAfter(ms), Health::Unknown) => {
                Some((started.plus_ms(ms), health(Health::Healthy)))
            }
            (Fate::SickAfter(ms), Health::Unknown) => {
                Some((started.plus_ms(ms), health(Health::Unhealthy)))
            }
            _ => None,
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.tasks.values().filter_map(|task| self.next_of(task)).map(|(at, _)| at).min()
    }

    /// Lets every task do what is due by now.
    pub(super) fn tick(&mut self) {
        let now = self.now();
        let due: Vec<(TaskId, Input)> = self
            .tasks
            .values()
            .filter_map(|task| self.next_of(task).map(|(at, input)| (task.id, at, input)))
            .filter(|(_, at, _)| *at <= now)
            .map(|(id, _, input)| (id, input))
            .collect();
        for (id, input) in due {
            self.feed(id, &input);
        }
    }

    /// Lets time pass, with a pass whenever something happens, until it is so; fails if it never is.
    pub(super) fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..5_000 {
            self.tick();
            self.pass();
            if is_so(self) {
                return;
            }
            self.step_on();
        }
        panic!("never: {what}; {:#?} {:#?}", self.deployments, self.events.last());
    }

    /// Lets so much time pass, with a pass whenever something happens.
    pub(super) fn run_ms(&mut self, ms: u64) {
        let until = self.now().plus_ms(ms);
        loop {
            self.tick();
            self.pass();
            let next = [self.next_due(), self.look_again_at].into_iter().flatten().min();
            match next.filter(|next| *next <= until) {
                Some(next) => self.env.advance_ms(next.since_ms(self.now()).max(1)),
                None => break,
            }
        }
        self.env.advance_ms(until.since_ms(self.now()));
    }

    fn step_on(&mut self) {
        let next = [self.next_due(), self.look_again_at].into_iter().flatten().min();
        let next = next.unwrap_or(self.now().plus_ms(1_000));
        self.env.advance_ms(next.since_ms(self.now()).max(1));
    }

    pub(super) fn run_until_steady(&mut self) {
        self.run_until("steady", |world| world.notes.steady_said_at.is_some());
    }

    pub(super) fn running(&self, of: DeploymentId) -> usize {
        let is_of = |task: &&Task| {
            task.phase == Phase::Running
                && task.desired == Desired::Running
                && task.service.as_ref().unwrap().deployment == of
        };
        self.tasks.values().filter(is_of).count()
    }

    pub(super) fn live(&self) -> usize {
        self.tasks.values().filter(|task| task.phase < Phase::Stopped).count()
    }

    pub(super) fn wanted(&self) -> Vec<TaskId> {
        let is_wanted = |task: &&Task| task.desired == Desired::Running;
        self.tasks.values().filter(is_wanted).map(|task| task.id).collect()
    }

    /// The messages of all events so far.
    pub(super) fn messages(&self) -> Vec<String> {
        self.events.iter().map(|event| event.message(&self.service.name)).collect()
    }

    pub(super) fn said(&self, part: &str) -> usize {
        self.messages().iter().filter(|message| message.contains(part)).count()
    }

    pub(super) fn random(&self, bound: u32) -> u32 {
        self.env.below(bound)
    }

    pub(super) fn crash(&mut self, id: TaskId) {
        self.feed(id, &stopped(None, Some(137)));
    }

    pub(super) fn set_health(&mut self, id: TaskId, plan: Health) {
        self.feed(id, &health(plan));
    }

    pub(super) fn host_mut(&mut self, id: InstanceId) -> &mut ServiceHost {
        &mut self.hosts.iter_mut().find(|(host, _)| host.id == id).unwrap().0
    }
}
