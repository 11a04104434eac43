//! Callers that make, change, scale, deploy, stop and delete, and hosts that come and go.

use ecs_api::{self as api, Ecs as _};
use model::service::{Controller, Deployment, Rank, ServiceStatus};
use model::task::{Phase, Task};

use super::agents::Event;
use super::world::{CLUSTER, HEARTBEAT_TIMEOUT_MS, World};
use crate::Ecs;

/// Families of task definitions and how many revisions each has. The name says how its tasks behave;
/// those that begin with `net` have interfaces and may run on Fargate.
pub(super) const FAMILIES: &[(&str, u32)] = &[
    ("good", 3),
    ("slow", 1),
    ("bad", 1),
    ("crashy", 1),
    ("sick", 2),
    ("port", 1),
    ("fenced", 1),
    ("netgood", 3),
    ("netbad", 1),
    ("netsick", 1),
];
const SERVICES_MAX: usize = 6;
const HOSTS_MAX: usize = 9;

pub(super) fn definition(family: &str) -> api::RegisterTaskDefinitionRequest {
    let is_net = family.starts_with("net");
    let check = family.ends_with("sick").then(|| api::HealthCheck {
        command: Some(vec!["CMD-SHELL".to_owned(), "true".to_owned()]),
        ..api::HealthCheck::default()
    });
    let port = (family == "port").then(|| {
        vec![api::PortMapping {
            container_port: Some(80),
            host_port: Some(80),
            ..api::PortMapping::default()
        }]
    });
    let container = api::ContainerDefinition {
        name: Some("web".to_owned()),
        image: Some("example.com/web:latest".to_owned()),
        essential: Some(true),
        health_check: check,
        port_mappings: port,
        ..api::ContainerDefinition::default()
    };
    let mode = if is_net { api::NetworkMode::Awsvpc } else { api::NetworkMode::Bridge };
    let compatible = [api::Compatibility::Ec2, api::Compatibility::Fargate];
    api::RegisterTaskDefinitionRequest {
        family: Some(family.to_owned()),
        network_mode: Some(mode),
        requires_compatibilities: is_net.then(|| compatible.to_vec()),
        cpu: Some("256".to_owned()),
        memory: Some("512".to_owned()),
        container_definitions: Some(vec![container]),
        tags: (family == "fenced").then(|| {
            let (key, value) = ("longshore.fence".to_owned(), "true".to_owned());
            vec![api::Tag { key: Some(key), value: Some(value) }]
        }),
        ..api::RegisterTaskDefinitionRequest::default()
    }
}

/// What a caller may name: a family, or one revision of it.
fn definitions(is_net: bool) -> &'static [&'static str] {
    if is_net {
        &["netgood:1", "netgood:2", "netgood:3", "netgood", "netbad", "netsick"]
    } else {
        &[
            "good:1", "good:2", "good:3", "good", "slow", "bad", "crashy", "sick:1", "sick:2",
            "port", "fenced",
        ]
    }
}

impl World {
    /// Something happens.
    pub(super) async fn disturb(&mut self) {
        match self.below(46) {
            0..=4 => self.create_service().await,
            5..=8 => self.scale().await,
            9..=13 => self.deploy().await,
            14 => self.change_settings().await,
            15 => self.stop_deployment().await,
            16 => self.delete_service().await,
            17..=19 => self.stop_task().await,
            20 => self.protect().await,
            21 => self.run_tasks().await,
            22 => self.change_task_sets().await,
            23..=25 if self.hosts.len() < HOSTS_MAX => {
                let is_fargate = self.below(4) == 0;
                self.new_host(is_fargate).await;
            }
            26 | 27 => self.drop_agent().await,
            28 => self.lose_host().await,
            29 | 30 => self.bring_back().await,
            31 | 32 => self.drain().await,
            33 => self.deregister().await,
            34 => self.restart().await,
            35 | 36 => self.look_twice().await,
            // Much later.
            37 => self.pass(HEARTBEAT_TIMEOUT_MS / 2).await,
            38 => self.deregister_definition().await,
            39..=41 => self.look_at_services().await,
            42 => self.rebalance().await,
            _ => {}
        }
    }

    fn any_service(&self) -> Option<String> {
        self.pick(&self.services).cloned()
    }

    /// The network configuration of tasks with interfaces.
    pub(super) fn network(&self) -> api::NetworkConfiguration {
        let account = control::config::Config::root_account();
        let vpc = self.ecs.control.vpc(&self.view(), account).unwrap();
        let subnets = vpc.subnets.iter().take(3).map(|subnet| subnet.id.to_string()).collect();
        api::NetworkConfiguration {
            awsvpc_configuration: Some(api::AwsVpcConfiguration {
                subnets: Some(subnets),
                ..api::AwsVpcConfiguration::default()
            }),
        }
    }

    fn any_deployment_configuration(&self) -> api::DeploymentConfiguration {
        let breaker = (self.below(2) == 0).then(|| api::DeploymentCircuitBreaker {
            enable: Some(true),
            rollback: Some(self.below(2) == 0),
            ..api::DeploymentCircuitBreaker::default()
        });
        let (least, most) = [(0, 100), (50, 100), (50, 200), (100, 200), (100, 150), (75, 125)]
            [self.below(6) as usize];
        api::DeploymentConfiguration {
            deployment_circuit_breaker: breaker,
            minimum_healthy_percent: Some(least),
            maximum_percent: Some(most),
            ..self.any_way()
        }
    }

    /// By and by; where deployments shift traffic, also so.
    fn any_way(&self) -> api::DeploymentConfiguration {
        let mut way = api::DeploymentConfiguration {
            strategy: Some(api::DeploymentStrategy::Rolling),
            ..api::DeploymentConfiguration::default()
        };
        match self.shifts.then(|| self.below(8)) {
            Some(0 | 1) => {
                way.strategy = Some(api::DeploymentStrategy::BlueGreen);
                way.bake_time_in_minutes = Some(i32::try_from(self.below(3)).unwrap());
            }
            Some(2) => {
                way.strategy = Some(api::DeploymentStrategy::Linear);
                way.linear_configuration = Some(api::LinearConfiguration {
                    step_percent: Some(40.0),
                    step_bake_time_in_minutes: Some(1),
                });
            }
            Some(3) => {
                way.strategy = Some(api::DeploymentStrategy::Canary);
                way.canary_configuration = Some(api::CanaryConfiguration {
                    canary_percent: Some(5.0),
                    canary_bake_time_in_minutes: Some(1),
                });
            }
            Some(_) | None => {}
        }
        way
    }

    async fn create_service(&mut self) {
        let name = format!("s{}", self.below(8));
        let is_known = self.services.contains(&name);
        if !is_known && self.services.len() >= SERVICES_MAX {
            return;
        }
        let kind = self.below(8);
        let is_net = kind >= 5;
        let definition = *self.pick(definitions(is_net)).unwrap();
        let is_daemon = kind == 0;
        let mut input = api::CreateServiceRequest {
            cluster: Some(CLUSTER.to_owned()),
            service_name: Some(name.clone()),
            task_definition: Some(definition.to_owned()),
            desired_count: (!is_daemon).then(|| i32::try_from(self.below(6)).unwrap()),
            deployment_configuration: (self.below(3) > 0)
                .then(|| self.any_deployment_configuration()),
            network_configuration: is_net.then(|| self.network()),
            ..api::CreateServiceRequest::default()
        };
        let provider = |name: &str, weight, base| api::CapacityProviderStrategyItem {
            capacity_provider: Some(name.to_owned()),
            weight: Some(weight),
            base: Some(base),
        };
        match kind {
            0 => {
                input.scheduling_strategy = Some(api::SchedulingStrategy::Daemon);
                // Daemons go from full to none to full.
                input.deployment_configuration = None;
            }
            1 => {
                input.capacity_provider_strategy = Some(vec![provider("pool", 1, 0)]);
            }
            2 => {
                let controller = api::DeploymentControllerType::External;
                input.deployment_controller =
                    Some(api::DeploymentController { r#type: Some(controller) });
                input.task_definition = None;
                input.deployment_configuration = None;
            }
            5 | 6 => input.launch_type = Some(api::LaunchType::Fargate),
            7 => {
                input.capacity_provider_strategy =
                    Some(vec![provider("FARGATE", 1, 1), provider("FARGATE_SPOT", 2, 0)]);
            }
            3 => input.placement_constraints = self.any_constraint(),
            _ => {
                input.placement_strategy = self.any_strategy();
            }
        }
        let root = self.root();
        let answer = Ecs::create_service(self.ecs.as_ref(), &root, input).await;
        if self.answered("CreateService", answer).is_some() && !is_known {
            self.services.push(name);
        }
    }

    fn any_constraint(&self) -> Option<Vec<api::PlacementConstraint>> {
        let constraint = match self.below(2) {
            0 => api::PlacementConstraint {
                r#type: Some(api::PlacementConstraintType::DistinctInstance),
                expression: None,
            },
            _ => api::PlacementConstraint {
                r#type: Some(api::PlacementConstraintType::MemberOf),
                expression: Some("attribute:ecs.availability-zone != us-east-1c".to_owned()),
            },
        };
        Some(vec![constraint])
    }

    fn any_strategy(&self) -> Option<Vec<api::PlacementStrategy>> {
        let strategy = |kind, field: &str| api::PlacementStrategy {
            r#type: Some(kind),
            field: (!field.is_empty()).then(|| field.to_owned()),
        };
        match self.below(5) {
            0 => Some(vec![strategy(api::PlacementStrategyType::Binpack, "memory")]),
            1 => Some(vec![strategy(api::PlacementStrategyType::Random, "")]),
            2 => Some(vec![strategy(api::PlacementStrategyType::Spread, "instanceId")]),
            _ => None,
        }
    }

    async fn scale(&mut self) {
        let desired_count = i32::try_from(self.below(7)).unwrap();
        self.update(|input| input.desired_count = Some(desired_count)).await;
    }

    async fn deploy(&mut self) {
        let Some(name) = self.any_service() else { return };
        let is_net = self.is_net(&name);
        let definition = *self.pick(definitions(is_net)).unwrap();
        let is_forced = self.below(4) == 0;
        self.update_one(&name, |input| {
            if is_forced {
                input.force_new_deployment = Some(true);
            } else {
                input.task_definition = Some(definition.to_owned());
            }
        })
        .await;
    }

    async fn change_settings(&mut self) {
        let configuration = self.any_deployment_configuration();
        self.update(|input| input.deployment_configuration = Some(configuration)).await;
    }

    async fn update(&mut self, change: impl FnOnce(&mut api::UpdateServiceRequest)) {
        if let Some(name) = self.any_service() {
            self.update_one(&name, change).await;
        }
    }

    pub(super) async fn update_one(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut api::UpdateServiceRequest),
    ) {
        let mut input = api::UpdateServiceRequest {
            cluster: Some(CLUSTER.to_owned()),
            service: Some(name.to_owned()),
            ..api::UpdateServiceRequest::default()
        };
        change(&mut input);
        let root = self.root();
        let answer = Ecs::update_service(self.ecs.as_ref(), &root, input).await;
        self.answered("UpdateService", answer);
    }

    async fn rebalance(&mut self) {
        let kinds =
            [api::AvailabilityZoneRebalancing::Enabled, api::AvailabilityZoneRebalancing::Disabled];
        let wish = self.pick(&kinds).cloned();
        self.update(|input| input.availability_zone_rebalancing = wish).await;
    }

    /// A service whose revision has it goes on with it.
    async fn deregister_definition(&mut self) {
        let name = *self.pick(&["good:1", "netgood:1", "sick:1"]).unwrap();
        let input = api::DeregisterTaskDefinitionRequest { task_definition: Some(name.to_owned()) };
        let root = self.root();
        let answer = Ecs::deregister_task_definition(self.ecs.as_ref(), &root, input).await;
        self.answered("DeregisterTaskDefinition", answer);
    }

    /// Whatever the state, it can be told of.
    async fn look_at_services(&mut self) {
        let Some(name) = self.any_service() else { return };
        let (root, ecs) = (self.root(), self.ecs.as_ref());
        let input = api::DescribeServicesRequest {
            cluster: Some(CLUSTER.to_owned()),
            services: Some(vec![name.clone()]),
            ..api::DescribeServicesRequest::default()
        };
        let answer = Ecs::describe_services(ecs, &root, input).await;
        let answer = self.answered("DescribeServices", answer).unwrap();
        for shown in answer.services.iter().flatten() {
            let rank = |it: &&api::Deployment| it.status.as_deref() == Some("PRIMARY");
            let primaries = shown.deployments.iter().flatten().filter(rank).count();
            assert!(primaries <= 1, "seed {}: {name} shows {primaries} primaries", self.seed);
            let (running, pending) = (shown.running_count, shown.pending_count);
            assert!(running.is_some() && pending.is_some(), "seed {}: {name}", self.seed);
        }
        let input = api::ListServiceDeploymentsRequest {
            cluster: Some(CLUSTER.to_owned()),
            service: Some(name.clone()),
            ..api::ListServiceDeploymentsRequest::default()
        };
        let answer = Ecs::list_service_deployments(ecs, &root, input).await;
        self.answered("ListServiceDeployments", answer);
        let input = api::ListTasksRequest {
            cluster: Some(CLUSTER.to_owned()),
            service_name: Some(name),
            ..api::ListTasksRequest::default()
        };
        self.answered("ListTasks", Ecs::list_tasks(ecs, &root, input).await);
    }

    async fn stop_deployment(&mut self) {
        let view = self.view();
        let records: Vec<String> = view
            .deployments
            .iter()
            .filter(|row| row.rank == Rank::Primary)
            .filter_map(|row| Some(Deployment::arn(row)?.to_string()))
            .collect();
        let Some(arn) = self.pick(&records).cloned() else { return };
        let kinds = [
            api::StopServiceDeploymentStopType::Abort,
            api::StopServiceDeploymentStopType::Rollback,
        ];
        let input = api::StopServiceDeploymentRequest {
            service_deployment_arn: Some(arn),
            stop_type: self.pick(&kinds).cloned(),
        };
        let root = self.root();
        let answer = Ecs::stop_service_deployment(self.ecs.as_ref(), &root, input).await;
        self.answered("StopServiceDeployment", answer);
    }

    async fn delete_service(&mut self) {
        let Some(name) = self.any_service() else { return };
        let input = api::DeleteServiceRequest {
            cluster: Some(CLUSTER.to_owned()),
            service: Some(name),
            force: Some(self.below(2) == 0),
        };
        let root = self.root();
        let answer = Ecs::delete_service(self.ecs.as_ref(), &root, input).await;
        self.answered("DeleteService", answer);
    }

    fn live_tasks(&self, is_it: impl Fn(&Task) -> bool) -> Vec<String> {
        let view = self.view();
        view.live_tasks().filter(|task| is_it(task)).map(|task| task.arn().to_string()).collect()
    }

    async fn stop_task(&mut self) {
        let Some(task) = self.pick(&self.live_tasks(|_| true)).cloned() else { return };
        let input = api::StopTaskRequest {
            cluster: Some(CLUSTER.to_owned()),
            task: Some(task),
            ..api::StopTaskRequest::default()
        };
        let root = self.root();
        let answer = Ecs::stop_task(self.ecs.as_ref(), &root, input).await;
        self.answered("StopTask", answer);
    }

    async fn protect(&mut self) {
        let running =
            self.live_tasks(|task| task.service.is_some() && task.phase == Phase::Running);
        let Some(task) = self.pick(&running).cloned() else { return };
        let input = api::UpdateTaskProtectionRequest {
            cluster: Some(CLUSTER.to_owned()),
            tasks: Some(vec![task]),
            protection_enabled: Some(true),
            expires_in_minutes: Some(i32::try_from(1 + self.below(3)).unwrap()),
        };
        let root = self.root();
        let answer = Ecs::update_task_protection(self.ecs.as_ref(), &root, input).await;
        self.answered("UpdateTaskProtection", answer);
    }

    async fn run_tasks(&mut self) {
        let is_net = self.below(2) == 0;
        let input = api::RunTaskRequest {
            cluster: Some(CLUSTER.to_owned()),
            count: Some(i32::try_from(1 + self.below(3)).unwrap()),
            task_definition: Some(if is_net { "netgood" } else { "good" }.to_owned()),
            launch_type: is_net.then_some(api::LaunchType::Fargate),
            network_configuration: is_net.then(|| self.network()),
            ..api::RunTaskRequest::default()
        };
        let root = self.root();
        let answer = Ecs::run_task(self.ecs.as_ref(), &root, input).await;
        self.answered("RunTask", answer);
    }

    /// Makes, scales, promotes or deletes task sets of services that are driven from outside.
    async fn change_task_sets(&mut self) {
        let view = self.view();
        let external: Vec<String> = view
            .services
            .iter()
            .filter(|row| row.controller == Controller::External)
            .filter(|row| row.status == ServiceStatus::Active)
            .map(|row| row.name.to_string())
            .collect();
        let Some(service) = self.pick(&external).cloned() else { return };
        let sets: Vec<String> = view
            .task_sets
            .iter()
            .filter(|row| row.service.as_str() == service)
            .map(|row| row.id.to_string())
            .collect();
        let (cluster, root) = (Some(CLUSTER.to_owned()), self.root());
        let percent = f64::from(self.below(5)) * 25.0;
        let scale = Some(api::Scale { value: Some(percent), unit: Some(api::ScaleUnit::Percent) });
        let ecs = self.ecs.as_ref();
        match (self.below(4), self.pick(&sets).cloned()) {
            (0, Some(set)) => {
                let input = api::UpdateTaskSetRequest {
                    cluster,
                    service: Some(service),
                    task_set: Some(set),
                    scale,
                };
                self.answered("UpdateTaskSet", Ecs::update_task_set(ecs, &root, input).await);
            }
            (1, Some(set)) => {
                let input = api::UpdateServicePrimaryTaskSetRequest {
                    cluster,
                    service: Some(service),
                    primary_task_set: Some(set),
                };
                let answer = Ecs::update_service_primary_task_set(ecs, &root, input).await;
                self.answered("UpdateServicePrimaryTaskSet", answer);
            }
            (2, Some(set)) => {
                let input = api::DeleteTaskSetRequest {
                    cluster,
                    service: Some(service),
                    task_set: Some(set),
                    force: Some(true),
                };
                self.answered("DeleteTaskSet", Ecs::delete_task_set(ecs, &root, input).await);
            }
            _ => {
                let input = api::CreateTaskSetRequest {
                    cluster,
                    service: Some(service),
                    task_definition: Some("good".to_owned()),
                    launch_type: Some(api::LaunchType::Ec2),
                    scale,
                    ..api::CreateTaskSetRequest::default()
                };
                self.answered("CreateTaskSet", Ecs::create_task_set(ecs, &root, input).await);
            }
        }
    }

    async fn drop_agent(&mut self) {
        let up = self.hosts_that(|host| host.is_up && host.session.is_some());
        let Some(host) = self.pick(&up).copied() else { return };
        self.disconnect(host).await;
        let ms = u64::from(self.below(40_000));
        self.later(ms, Event::Connect { host });
    }

    async fn lose_host(&mut self) {
        let up = self.hosts_that(|host| host.is_up && !host.is_retired);
        let Some(host) = self.pick(&up).copied() else { return };
        self.vanish(host).await;
    }

    async fn bring_back(&mut self) {
        let gone = self.hosts_that(|host| !host.is_up && !host.is_retired);
        let Some(host) = self.pick(&gone).copied() else { return };
        let remembers = self.below(2) == 0;
        self.come_back(host, remembers);
    }

    async fn drain(&mut self) {
        let there = self.hosts_that(|host| !host.is_retired);
        let Some(host) = self.pick(&there).copied() else { return };
        let statuses =
            [api::ContainerInstanceStatus::Draining, api::ContainerInstanceStatus::Active];
        let status = self.pick(&statuses).cloned();
        self.set_status(host, status).await;
    }

    pub(super) async fn set_status(
        &mut self,
        host: usize,
        status: Option<api::ContainerInstanceStatus>,
    ) {
        let input = api::UpdateContainerInstancesStateRequest {
            cluster: Some(CLUSTER.to_owned()),
            container_instances: Some(vec![self.hosts[host].arn.to_string()]),
            status,
        };
        let root = self.root();
        let answer = Ecs::update_container_instances_state(self.ecs.as_ref(), &root, input).await;
        self.answered("UpdateContainerInstancesState", answer);
    }

    async fn deregister(&mut self) {
        let there = self.hosts_that(|host| !host.is_retired);
        let Some(host) = self.pick(&there).copied() else { return };
        if there.len() < 3 || self.is_fargate(host) {
            return;
        }
        let input = api::DeregisterContainerInstanceRequest {
            cluster: Some(CLUSTER.to_owned()),
            container_instance: Some(self.hosts[host].arn.to_string()),
            force: Some(self.below(2) == 0),
        };
        let root = self.root();
        let answer = Ecs::deregister_container_instance(self.ecs.as_ref(), &root, input).await;
        if self.answered("DeregisterContainerInstance", answer).is_some() {
            // Its agent is told so, and stops what it has.
            self.hosts[host].session = None;
            self.hosts[host].is_retired = true;
            self.hosts[host].tasks.clear();
        }
    }

    /// Whether a service's tasks have interfaces.
    pub(super) fn is_net(&self, name: &str) -> bool {
        let view = self.view();
        let row = view.services.iter().find(|row| row.name.as_str() == name);
        let revision =
            row.and_then(|row| view.revision_of(row.scope.account, &row.key(), row.revision?));
        revision.is_some_and(|revision| revision.network.is_some())
    }
}
