//! What must be so in the end, once callers and agents behave.

use std::sync::Arc;

use ecs_api::{self as api, Ecs as _};
use model::instance::{Instance, InstanceStatus};
use model::service::{Controller, Rank, Scheduling, Service, ServiceStatus, Stage};
use model::task::{Desired, LaunchType, Phase, Task};
use model::{Index, View};
use plan::service::Sizes;

use super::agents::digest_of;
use super::checks::{check_instances, check_interfaces};
use super::world::{CLUSTER, FARGATE_TASKS_MAX, HEARTBEAT_TIMEOUT_MS, World};
use crate::Ecs;

/// Long enough for every pause between tries, protection and silence.
const CALM_MS: u64 = 40 * 60_000;

impl World {
    /// Ends the disturbances: agents come back for good, hosts are active, and there is capacity.
    pub(super) async fn calm_down(&mut self) {
        self.is_calm = true;
        for host in 0..self.hosts.len() {
            if self.hosts[host].is_retired {
                continue;
            }
            // Some never come back.
            if !self.hosts[host].is_up && self.below(2) == 0 {
                let remembers = self.below(2) == 0;
                self.come_back(host, remembers);
            }
            self.set_status(host, Some(api::ContainerInstanceStatus::Active)).await;
        }
        // One after another in both kinds of pool.
        for _ in 0..8 {
            self.new_host(false).await;
        }
        self.join(true, 64 * 256, 64 * 512).await;
        // Half of those whose tasks can't run are mended.
        for name in self.services.clone() {
            if self.below(2) == 0 {
                let good = if self.is_net(&name) { "netgood:3" } else { "good:3" };
                self.update_one(&name, |input| input.task_definition = Some(good.to_owned())).await;
            }
        }
        self.pass(CALM_MS).await;
        self.look_twice().await;
    }

    pub(super) async fn check_promises(&self) {
        let (view, at) = (self.view(), format!("seed {} in the end", self.seed));
        for service in view.services.iter() {
            match service.status {
                ServiceStatus::Active => self.check_active(&at, &view, service).await,
                ServiceStatus::Draining => panic!("{at}: {} never ended", service.name),
                ServiceStatus::Inactive => {
                    let tasks = view.tasks_of_service(service.scope.account, &service.key());
                    assert_eq!(tasks.count(), 0, "{at}: {} left tasks", service.name);
                }
            }
        }
        check_instances(&at, &view);
        check_interfaces(&at, &view);
        for task in view.live_tasks() {
            let is_ending = task.desired == Desired::Stopped;
            assert!(!is_ending, "{at}: task {} never stopped: {task:?}", task.id);
            if !task.is_unplaced() {
                self.check_home(&at, task);
            }
        }
        let waiting = view.live_tasks().filter(|task| task.is_unplaced() && !wants_port(task));
        let at_limit = self.is_at_fargate_limit();
        assert!(waiting.count() == 0 || at_limit, "{at}: tasks wait");
    }

    /// What runs there according to the region, runs there; and nothing else does.
    fn check_home(&self, at: &str, task: &Task) {
        let host = self.hosts.iter().find(|host| Some(host.id) == task.instance);
        let host = host.unwrap_or_else(|| panic!("{at}: task {} is nowhere", task.id));
        if task.phase == Phase::Running {
            let local = host.tasks.get(&task.id);
            let phase = local.map(|local| local.phase);
            assert_eq!(phase, Some(Phase::Running), "{at}: task {} does not run", task.id);
        }
        for (id, local) in &host.tasks {
            if local.phase == Phase::Running && host.session.is_some() {
                let view = self.view();
                let row = view.tasks.get(task.scope.account, id);
                let is_known = row.is_some_and(|row| row.phase < Phase::Stopped);
                assert!(is_known, "{at}: {id} runs, and the region does not know");
            }
        }
    }

    async fn check_active(&self, at: &str, view: &View, service: &Service) {
        let (account, id) = (service.scope.account, service.key());
        let name = &service.name;
        if service.controller == Controller::External {
            for set in view.task_sets_of(account, &id) {
                let desired = set.desired(service.desired_count);
                let running = running(view, service, |task| {
                    task.service.as_ref().is_some_and(|of| of.deployment == set.id)
                });
                assert_eq!(running, desired, "{at}: task set {} of {name}", set.id);
            }
            return;
        }
        let mut deployments = view.deployments_of(account, &id);
        let primary = deployments.find(|row| row.rank == Rank::Primary).unwrap();
        let revision = view.revision_of(account, &id, primary.revision).unwrap();
        let family = revision.definition.family.to_string();
        let behaves = !matches!(family.trim_start_matches("net"), "bad" | "crashy");
        let sizes = Sizes::of(&service.deployment, service.desired_count);
        let may_not_move = sizes.floor == sizes.ceiling && sizes.desired > 0;
        if may_not_move && service.scheduling == Scheduling::Replica {
            return;
        }
        if !behaves {
            // It goes on trying, or was given up for good.
            let is_watched = service.deployment.breaker.is_some_and(|breaker| breaker.is_enabled);
            let is_due = is_watched && service.desired_count > 0 && !self.is_at_fargate_limit();
            let is_open = primary.stage.is_rolling();
            assert!(!is_due || !is_open, "{at}: {name} ({family}) goes on: {primary:?}");
            return;
        }
        if primary.stage.has_failed() {
            return;
        }
        if revision.capacity.launch() == LaunchType::Fargate && self.is_at_fargate_limit() {
            return;
        }
        let mut tasks = view.tasks_of_service(account, &id);
        if family == "port" && (primary.shortage.is_some() || tasks.any(|task| wants_port(task))) {
            // Another service has the port on every instance.
            return;
        }
        let is_daemon = service.scheduling == Scheduling::Daemon;
        if is_daemon && self.shifts && primary.shortage.is_some() {
            // Deployments that were stopped on their way hold twice their room: an instance may be full.
            return;
        }
        let shown = self.describe(name.as_str()).await;
        let events = || {
            let said = shown.events.iter().flatten().rev().filter_map(|each| each.message.clone());
            said.collect::<Vec<_>>().join("\n")
        };
        let desired = match service.scheduling {
            Scheduling::Replica => i32::try_from(service.desired_count).unwrap(),
            Scheduling::Daemon => self.daemons_due(),
        };
        assert_eq!(
            (shown.running_count, shown.pending_count),
            (Some(desired), Some(0)),
            "{at}: {name} ({family}): {primary:?}\n{}\n{:#?}",
            events(),
            view.tasks_of_service(account, &id).collect::<Vec<_>>()
        );
        // What its first tasks ran, all others run.
        let digest = format!("sha256:{}", digest_of(&family));
        let is_pinned = revision.images.iter().all(|image| image.digest.as_ref() == Some(&digest));
        assert!(is_pinned || desired == 0, "{at}: {name} has {:?}", revision.images);
        assert_eq!(primary.stage, Stage::Completed, "{at}: {name}: {}", events());
        assert_eq!(primary.shortage, None, "{at}: {name}");
        let others = view.deployments_of(account, &id).filter(|row| row.rank == Rank::Active);
        assert_eq!(others.count(), 0, "{at}: {name} has deployments of before");
        let all = running(view, service, |_| true);
        assert_eq!(i32::try_from(all), Ok(desired), "{at}: {name} has others' tasks");
        if service.scheduling == Scheduling::Daemon {
            let mut hosts: Vec<_> =
                view.tasks_of_service(account, &id).filter_map(|task| task.instance).collect();
            hosts.sort_unstable();
            let count = hosts.len();
            hosts.dedup();
            assert_eq!(hosts.len(), count, "{at}: {name} has two on one instance");
        }
    }

    /// Whether the account has as many Fargate tasks as it may have.
    fn is_at_fargate_limit(&self) -> bool {
        let view = self.view();
        let live = view.live_tasks().filter(|task| task.launch == LaunchType::Fargate);
        FARGATE_TASKS_MAX <= live.count()
    }

    /// On how many instances daemons can run.
    fn daemons_due(&self) -> i32 {
        let view = self.view();
        let is_fit =
            |row: &&Arc<Instance>| row.status == InstanceStatus::Active && row.agent.connected;
        i32::try_from(view.instances.iter().filter(is_fit).count()).unwrap()
    }

    pub(super) async fn describe(&self, name: &str) -> api::Service {
        let input = api::DescribeServicesRequest {
            cluster: Some(CLUSTER.to_owned()),
            services: Some(vec![name.to_owned()]),
            ..api::DescribeServicesRequest::default()
        };
        let answer = Ecs::describe_services(self.ecs.as_ref(), &self.root(), input).await;
        answer.unwrap().services.unwrap().remove(0)
    }

    /// Deletes everything: nothing is left behind.
    pub(super) async fn wind_up(&mut self) {
        let root = self.root();
        for name in self.services.clone() {
            let input = api::DeleteServiceRequest {
                cluster: Some(CLUSTER.to_owned()),
                service: Some(name),
                force: Some(true),
            };
            let answer = Ecs::delete_service(self.ecs.as_ref(), &root, input).await;
            self.answered("DeleteService", answer);
        }
        for task in self.view().live_tasks().filter(|task| task.service.is_none()) {
            let input = api::StopTaskRequest {
                cluster: Some(CLUSTER.to_owned()),
                task: Some(task.arn().to_string()),
                ..api::StopTaskRequest::default()
            };
            let answer = Ecs::stop_task(self.ecs.as_ref(), &root, input).await;
            self.answered("StopTask", answer);
        }
        self.pass(3 * HEARTBEAT_TIMEOUT_MS).await;
        let (view, seed) = (self.view(), self.seed);
        let left: Vec<_> = view.live_tasks().collect();
        assert!(left.is_empty(), "seed {seed}: {left:#?}");
        assert_eq!(view.interfaces.len(), 0, "seed {seed}");
        assert_eq!(view.member_count(&Index::LiveServices), 0, "seed {seed}");
        for host in self.hosts.iter().filter(|host| host.session.is_some()) {
            let running = host.tasks.values().filter(|local| local.phase == Phase::Running);
            assert_eq!(running.count(), 0, "seed {seed}: containers were left on {}", host.id);
        }
        self.pass(2 * 3_600_000).await;
        let mut seq = None;
        while seq != Some(self.view().seq) {
            seq = Some(self.view().seq);
            crate::background::sweep(&self.ecs).await.unwrap();
        }
        assert_eq!(self.view().tasks.len(), 0, "seed {seed}: tasks are kept for ever");
    }
}

/// Whether the task waits for an instance whose port is free: there may be none.
fn wants_port(task: &Task) -> bool {
    task.is_unplaced() && !task.need.ports.is_empty()
}

fn running(view: &View, service: &Service, is_it: impl Fn(&Task) -> bool) -> u32 {
    let tasks = view.tasks_of_service(service.scope.account, &service.key());
    let count = tasks.filter(|task| task.phase == Phase::Running && is_it(task)).count();
    u32::try_from(count).unwrap()
}
