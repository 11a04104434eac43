//! Tasks behind balancers that stop, whatever balancers do meanwhile: many worlds with a seed each.
//!
//! The region's part is the real one: rows, `task::step`, the tables, reports. Balancers' processes are played, each on a host
//! of its own: each serves by some table that it read, begins requests to what that has in routing, ends them when it likes,
//! and reports late, while interfaces go from host to host.

use std::collections::BTreeMap;

use control::testing::rows;
use elb_api::Elb as _;
use longshore_types::{Clock as _, InstanceId, SeededEnv, TaskId};
use model::elb::{Stand, TargetHealth, TargetTask};
use model::service::ServiceId;
use model::task::{Desired, Input, Phase, Task, TaskService, step};
use model::{ElbBalancer, ElbGroup, ElbTarget};
use routing::{Finding, Report, Table, TargetReport, TargetState, Update};
use store::Batch;

use super::World;
use crate::feed::Host;

/// A played process.
#[derive(Default)]
struct Node {
    host: Host,
    table: Table,
    /// Requests to each target, by its address.
    in_flight: BTreeMap<String, u32>,
}

impl Node {
    fn report(&self) -> Report {
        let targets = self.table.groups.values().flat_map(|group| {
            group.targets.iter().map(|target| TargetReport {
                group: group.id.clone(),
                target: target.key.clone(),
                registered_at: target.registered_at,
                finding: Finding::Healthy,
                in_flight: self.in_flight.get(&target.key.id).copied().unwrap_or(0),
                anomaly: routing::Anomaly::default(),
            })
        });
        Report { version: self.table.version, targets: targets.collect(), ..Report::default() }
    }

    /// Targets that it may send a request to.
    fn open(&self) -> Vec<String> {
        let all = self.table.groups.values().flat_map(|group| &group.targets);
        let is_open = |state| !matches!(state, TargetState::Draining { .. } | TargetState::Unused);
        all.filter(|target| is_open(target.state)).map(|target| target.key.id.clone()).collect()
    }

    /// What it no longer has in its table is cut.
    async fn serve(&mut self, world: &World) {
        let read = world.elb.feed.read(self.host, 0, std::time::Duration::ZERO).await;
        let Update::Whole(table) = read else { panic!("all is asked for") };
        self.table = table;
        let all = self.table.groups.values().flat_map(|group| &group.targets);
        let kept: Vec<&String> = all.map(|target| &target.key.id).collect();
        self.in_flight.retain(|id, _| kept.contains(&id));
    }
}

impl World {
    /// Has a balancer's interfaces be on hosts.
    pub(super) async fn stand(&self, hosts: &[Host]) {
        self.put(|view, batch| {
            let row = view.elb_balancers.iter().next().unwrap();
            let mut row = ElbBalancer::clone(row);
            for (zone, host) in row.zones.iter_mut().zip(hosts) {
                zone.stand = Stand { host: *host, ..Stand::default() };
            }
            batch.put(row);
        })
        .await;
    }

    pub(super) async fn put(&self, change: impl Fn(&model::View, &mut Batch) + Send + Sync) {
        let put = |view: &model::View, _| {
            let mut batch = Batch::on(view);
            change(view, &mut batch);
            Ok((batch, ()))
        };
        self.elb.control.decide(put).await.unwrap();
    }

    /// A task that runs and is registered, as its service does it.
    async fn start_task(&self, number: u64, group: &ElbGroup) -> TaskId {
        let address: std::net::Ipv4Addr = format!("172.31.1.{number}").parse().unwrap();
        let id = model::elb::TargetId {
            group: group.path(),
            target: address.to_string().into(),
            port: 80,
        };
        let mut task = Task { phase: Phase::Running, ..rows::task(1_000 + number) };
        task.interface = None;
        let service = ServiceId { cluster: task.cluster.clone(), name: "web".parse().unwrap() };
        task.service = Some(TaskService {
            name: service.name.clone(),
            deployment: longshore_types::DeploymentId(1),
            is_ready: false,
            is_accounted: false,
            is_registered: false,
            is_connected: false,
        });
        let now = self.test.env.now();
        let task = step(&task, &Input::TargetsRegistered, now).unwrap();
        let target = ElbTarget {
            scope: group.scope.clone(),
            id,
            address,
            zone: None,
            registered_at: now,
            health: TargetHealth::Initial,
            unhealthy_since: None,
            task: Some(TargetTask { service, task: task.id }),
        };
        self.put(|_, batch| {
            batch.put(task.clone()).put(target.clone());
        })
        .await;
        task.id
    }

    fn task(&self, id: TaskId) -> Task {
        let view = self.elb.control.view();
        Task::clone(view.tasks.get(self.root().account, &id).unwrap())
    }

    /// Stops a task for whatever cause, and has its targets drain as its service's reconciler does.
    async fn stop_task(&self, id: TaskId, group: &ElbGroup) {
        let task = self.task(id);
        let now = self.test.env.now();
        let Some(task) = step(&task, &Input::StopRequested { reason: None }, now) else { return };
        assert!(task.is_held(), "it is not told before its targets are gone");
        let account = self.root().account;
        self.put(|view, batch| {
            batch.put(task.clone());
            for row in view.targets_of_task(account, task.id) {
                batch.put(crate::targets::drained(group, row, now));
            }
        })
        .await;
    }
}

async fn play(seed: u64) {
    let world = World::new().await;
    let random = SeededEnv::from_seed(seed);
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let arn = world.group("web").await;
    world.listener(&balancer, 80, &arn).await;
    let account = world.root().account;
    let group = ElbGroup::clone(world.elb.control.view().elb_groups.of(account).next().unwrap());
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..1 + u8::try_from(random.below(3)).unwrap() {
        // The first is on the region's own machine.
        let host = (number > 0).then(|| InstanceId::from_bytes([number; 16]));
        nodes.push(Node { host, ..Node::default() });
        if let Some(id) = host {
            let mut row = rows::instance(id);
            row.agent.connected = true;
            let put = |_: &model::View, batch: &mut Batch| {
                batch.put(row.clone());
            };
            world.put(put).await;
        }
    }
    let all: Vec<Host> = nodes.iter().map(|node| node.host).collect();
    world.stand(&[all[0], all[all.len() - 1]]).await;
    world.publish();
    for node in &mut nodes {
        node.serve(&world).await;
    }
    let mut tasks: Vec<TaskId> = Vec::new();
    for _ in 0..120 {
        let at = usize::try_from(random.below(u32::try_from(nodes.len()).unwrap())).unwrap();
        match random.below(12) {
            0 if tasks.len() < 6 => {
                tasks.push(world.start_task(tasks.len() as u64 + 1, &group).await);
            }
            1 if !tasks.is_empty() => {
                let which = random.below(u32::try_from(tasks.len()).unwrap());
                world.stop_task(tasks[usize::try_from(which).unwrap()], &group).await;
            }
            2 | 3 => nodes[at].serve(&world).await,
            4 | 5 => {
                for id in nodes[at].open() {
                    *nodes[at].in_flight.entry(id).or_default() += random.below(2);
                }
            }
            6 | 7 => {
                nodes[at].in_flight.values_mut().for_each(|many| *many = many.saturating_sub(1))
            }
            8 => {
                let other = usize::try_from(random.below(u32::try_from(all.len()).unwrap()));
                world.stand(&[all[at], all[other.unwrap()]]).await;
            }
            9 => {
                world.publish();
                crate::health::finish(&world.elb.control, &world.elb.feed).await.unwrap();
            }
            _ => world.elb.take_in(nodes[at].host, nodes[at].report()).await.unwrap(),
        }
        for id in &tasks {
            let task = world.task(*id);
            if task.desired_of_agent() == Desired::Running {
                continue;
            }
            let address = format!("172.31.1.{}", tasks.iter().position(|it| it == id).unwrap() + 1);
            for node in &nodes {
                let held = node.in_flight.get(&address).copied().unwrap_or(0);
                assert_eq!(
                    held, 0,
                    "seed {seed}: {:?} has requests to a signalled task",
                    node.host
                );
                assert!(
                    !node.open().contains(&address),
                    "seed {seed}: {:?} may begin one",
                    node.host
                );
            }
        }
    }
    // Once all processes are idle and up to date, whatever was to stop is told so.
    world.publish();
    for node in &mut nodes {
        node.serve(&world).await;
        node.in_flight.clear();
    }
    for node in &nodes {
        world.elb.take_in(node.host, node.report()).await.unwrap();
    }
    for id in &tasks {
        assert!(!world.task(*id).is_held(), "seed {seed}: it waits for nothing");
    }
}

#[tokio::test]
async fn no_request_ever_goes_to_a_task_that_was_told_to_stop() {
    for seed in 0..300 {
        play(seed).await;
    }
}

#[tokio::test]
async fn a_group_goes_with_however_many_tasks_that_are_to_stop() {
    let world = World::new().await;
    let arn = world.group("web").await;
    let account = world.root().account;
    let group = ElbGroup::clone(world.elb.control.view().elb_groups.of(account).next().unwrap());
    for number in 1..=250 {
        let task = world.start_task(number, &group).await;
        world.stop_task(task, &group).await;
    }
    let input = elb_api::DeleteTargetGroupInput { target_group_arn: Some(arn) };
    world.elb.delete_target_group(&world.root(), input).await.unwrap();
    let view = world.elb.control.view();
    assert!(view.elb_groups.is_empty() && view.elb_targets.is_empty());
    assert!(view.tasks.iter().all(|task| !task.is_held()));
}
