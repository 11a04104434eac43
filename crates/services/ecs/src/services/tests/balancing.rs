//! Services behind load balancers: what becomes of their tasks as targets.

use longshore_types::{CpuUnits, EniId, InstanceId, MemoryMib, Resources};
use model::elb::{
    Attributes, CheckFailure, ElbAction, ElbProtocol, GroupCheck, GroupTargets, GroupVersion,
    TargetHealth, WeightedGroup,
};
use model::instance::{ENI_ATTRIBUTE, FARGATE_ATTRIBUTE};
use model::task::{Desired, Input, Phase, Report, Task};
use model::vpc::{Interface, InterfaceUser, Vpc};
use model::{ElbGroup, ElbListener, ElbTarget, Record as _};
use plan::strategy::ZONE_ATTRIBUTE;

use super::*;

impl World {
    pub(super) fn vpc(&self) -> Vpc {
        self.ecs().control.vpc(&self.view(), self.test.root().account).unwrap()
    }

    /// A group of addresses that a listener forwards to.
    async fn with_group(&self) -> String {
        let scope = self.ecs().control.scope(&self.test.root());
        let group = ElbGroup {
            scope: scope.clone(),
            name: "web".to_owned(),
            digits: "0123456789abcdef".to_owned(),
            protocol: ElbProtocol::Http,
            port: 80,
            version: Some(GroupVersion::Http1),
            targets: GroupTargets::Ip,
            vpc: self.vpc().id,
            check: GroupCheck {
                protocol: ElbProtocol::Http,
                port: None,
                path: Some("/".to_owned()),
                interval_s: 30,
                timeout_s: 5,
                healthy_count: 5,
                unhealthy_count: 2,
                matcher: Some("200".to_owned()),
            },
            attributes: Attributes::new(),
            tags: model::Tags::new(),
            created_at: Timestamp(0),
        };
        let arn = group.arn();
        let forward = ElbAction::Forward {
            groups: vec![WeightedGroup { group: group.path(), weight: 1 }],
            sticky_s: None,
        };
        let listener = ElbListener {
            scope,
            balancer: "app/web/0123456789abcdef".into(),
            digits: "1123456789abcdef".to_owned(),
            port: 80,
            protocol: ElbProtocol::Http,
            tls: None,
            default_rule: "2123456789abcdef".to_owned(),
            default_action: forward,
            order: None,
            attributes: Attributes::new(),
            tags: model::Tags::new(),
        };
        self.put(vec![group.into(), listener.into()]).await;
        arn
    }

    pub(super) async fn define(&self, family: &str, port: Option<i32>) {
        let mapping = api::PortMapping { container_port: port, ..Default::default() };
        let container = api::ContainerDefinition {
            name: text("app"),
            image: text("127.0.0.1:4566/hello:1"),
            port_mappings: port.map(|_| vec![mapping]),
            ..Default::default()
        };
        let input = api::RegisterTaskDefinitionRequest {
            family: text(family),
            network_mode: Some(api::NetworkMode::Awsvpc),
            cpu: text("256"),
            memory: text("512"),
            container_definitions: Some(vec![container]),
            ..Default::default()
        };
        Ecs::register_task_definition(self.ecs(), &self.test.root(), input).await.unwrap();
    }

    fn balanced(&self, group: &str) -> impl FnOnce(&mut api::CreateServiceRequest) + use<> {
        let subnets = Some(vec![self.vpc().subnets[0].id.to_string()]);
        let awsvpc = api::AwsVpcConfiguration { subnets, ..Default::default() };
        let balancer = api::LoadBalancer {
            target_group_arn: text(group),
            container_name: text("app"),
            container_port: Some(80),
            ..Default::default()
        };
        move |input| {
            input.task_definition = text("served");
            input.launch_type = Some(api::LaunchType::Fargate);
            input.network_configuration =
                Some(api::NetworkConfiguration { awsvpc_configuration: Some(awsvpc) });
            input.load_balancers = Some(vec![balancer]);
        }
    }

    /// Tasks as somebody who cannot place any would have them: made by the reconciler, run by nobody.
    pub(super) fn tasks(&self) -> Vec<Task> {
        let view = self.view();
        let rows = view.tasks_of_service(self.test.root().account, &self.id());
        let mut tasks: Vec<Task> = rows.map(|row| Task::clone(row)).collect();
        tasks.sort_by_key(|task| (task.times.created, task.id));
        tasks
    }

    fn targets(&self) -> Vec<ElbTarget> {
        let view = self.view();
        view.elb_targets.iter().map(|row| ElbTarget::clone(row)).collect()
    }

    pub(super) async fn feed(&self, task: &Task, input: &Input) {
        self.ecs().control.feed(&task.arn(), input).await.unwrap();
    }

    pub(super) async fn report_running(&self) {
        for task in self.tasks() {
            let report = Report { phase: Some(Phase::Running), ..Report::default() };
            self.feed(&task, &Input::Reported(report)).await;
        }
    }

    /// Those that are to stop have stopped.
    pub(super) async fn report_stopped(&self) {
        for task in self.tasks().iter().filter(|task| task.desired == Desired::Stopped) {
            let report = Report { phase: Some(Phase::Stopped), ..Report::default() };
            self.feed(task, &Input::Reported(report)).await;
        }
    }

    async fn set_health(&self, health: TargetHealth) {
        let rows = self.targets().into_iter().map(|row| ElbTarget { health, ..row }.into());
        self.put(rows.collect()).await;
    }

    /// What who watches targets writes once nothing is in flight to those that drain.
    async fn end_draining(&self) {
        let account = self.test.root().account;
        let draining: Vec<_> =
            self.targets().into_iter().filter(ElbTarget::is_draining).map(|row| row.id).collect();
        let end = |view: &View, now| {
            let mut batch = store::Batch::on(view);
            control::targets::remove_targets(view, &mut batch, account, &draining, now);
            Ok((batch, ()))
        };
        self.ecs().control.decide(end).await.unwrap();
    }

    fn said(&self) -> Vec<String> {
        let view = self.view();
        let row = view.service_events.get(self.test.root().account, &self.id());
        let name = self.id().name;
        row.into_iter().flat_map(|row| &row.events).map(|it| it.what.message(&name)).collect()
    }
}

async fn balanced(tasks: i32) -> (World, String) {
    let mut world = World::new().await;
    let group = world.with_group().await;
    world.define("served", Some(80)).await;
    with_fargate(&world).await;
    world.create(tasks, world.balanced(&group)).await;
    world.settle().await;
    (world, group)
}

/// An instance that takes Fargate tasks.
pub(super) async fn with_fargate(world: &World) {
    let input = api::RegisterContainerInstanceRequest::default();
    Ecs::register_container_instance(world.ecs(), &world.test.root(), input).await.unwrap();
    let mut row = Instance::clone(world.view().instances.iter().next().unwrap());
    row.attributes.insert(FARGATE_ATTRIBUTE.to_owned(), text("true"));
    row.attributes.insert(ENI_ATTRIBUTE.to_owned(), text("true"));
    row.total = Resources { cpu: CpuUnits(8_192), memory: MemoryMib(16_384) };
    row.agent.connected = true;
    world.put(vec![row.into()]).await;
}

#[tokio::test]
async fn a_task_is_registered_once_it_runs_and_counts_once_it_is_found_healthy() {
    let (mut world, group) = balanced(2).await;
    assert_eq!(world.tasks().len(), 2);
    assert!(world.targets().is_empty(), "they do not run yet");
    world.report_running().await;
    world.settle().await;
    let tasks = world.tasks();
    let addresses: Vec<_> = tasks.iter().map(|it| it.interface.as_ref().unwrap().address).collect();
    let targets = world.targets();
    assert!(targets.iter().all(|target| addresses.contains(&target.address)));
    assert_eq!(targets.len(), 2);
    assert!(tasks.iter().all(Task::is_registered));
    let sentence = format!("(service web) registered 2 targets in (target-group {group})");
    assert!(world.said().contains(&sentence), "{:?}", world.said());
    assert!(!tasks[0].service.as_ref().unwrap().is_ready, "no check has passed");
    let steady = "(service web) has reached a steady state.".to_owned();
    world.test.env.advance_ms(3_600_000);
    world.settle().await;
    assert!(!world.said().contains(&steady), "time alone proves nothing");
    world.set_health(TargetHealth::Healthy).await;
    world.settle().await;
    assert!(world.tasks().iter().all(|task| task.service.as_ref().unwrap().is_ready));
    assert!(world.said().contains(&steady));
}

#[tokio::test]
async fn a_service_says_so_once_where_its_target_group_is_gone() {
    let (mut world, group) = balanced(1).await;
    world.report_running().await;
    world.settle().await;
    world.set_health(TargetHealth::Healthy).await;
    world.settle().await;
    // What DeleteTargetGroup does, once no listener forwards there.
    let account = world.test.root().account;
    let delete = |view: &View, now| {
        let mut batch = store::Batch::on(view);
        let targets: Vec<_> = view.elb_targets.iter().map(|row| row.id.clone()).collect();
        control::targets::remove_targets(view, &mut batch, account, &targets, now);
        let listeners = view.elb_listeners.iter().map(|row| row.path());
        batch.deletes.extend(listeners.map(|path| Key::ElbListener(account, path)));
        let groups = view.elb_groups.iter().map(|row| row.path());
        batch.deletes.extend(groups.map(|path| Key::ElbGroup(account, path)));
        Ok((batch, ()))
    };
    world.ecs().control.decide(delete).await.unwrap();
    world.settle().await;
    let error = "with (error One or more target groups not found)";
    let health =
        format!("(service web) failed to describe target health on (target-group {group}) {error}");
    let count = |world: &World, text: &str| world.said().iter().filter(|it| *it == text).count();
    assert_eq!(count(&world, &health), 1, "{:?}", world.said());
    world.settle().await;
    world.test.env.advance_ms(3_600_000);
    world.settle().await;
    assert_eq!(count(&world, &health), 1);
    // Another task cannot be registered at all.
    let input = api::UpdateServiceRequest {
        service: text("web"),
        desired_count: Some(2),
        ..Default::default()
    };
    Ecs::update_service(world.ecs(), &world.test.root(), input).await.unwrap();
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    let register =
        format!("(service web) failed to register targets in (target-group {group}) {error}");
    assert_eq!((count(&world, &register), count(&world, &health)), (1, 1), "{:?}", world.said());
    world.test.env.advance_ms(6 * 3_600_000);
    world.settle().await;
    assert_eq!(count(&world, &health), 2, "it is still so");
}

#[tokio::test]
async fn tasks_in_a_vpc_are_registered_with_groups_of_that_vpc_alone() {
    let mut world = World::new().await;
    let group = world.with_group().await;
    world.define("served", Some(80)).await;
    with_fargate(&world).await;
    world.put(control::testing::rows::own_vpc(world.test.root().account)).await;
    let default = world.vpc().id;
    let asked = |world: &World, subnet: &str| {
        let mut input = api::CreateServiceRequest {
            service_name: text("web"),
            desired_count: Some(1),
            ..Default::default()
        };
        world.balanced(&group)(&mut input);
        let network = input.network_configuration.as_mut().unwrap();
        network.awsvpc_configuration.as_mut().unwrap().subnets = Some(vec![subnet.to_owned()]);
        input
    };
    let create = async |world: &World, input| {
        Ecs::create_service(world.ecs(), &world.test.root(), input).await.map(drop)
    };
    let (own, shared) = ("subnet-00000000000000001", world.vpc().subnets[0].id.to_string());
    let error = create(&world, asked(&world, own)).await.unwrap_err();
    let own_vpc = "vpc-0000000000000000a";
    let sentence =
        format!("The target group {group} is of {default}, but the tasks are in {own_vpc}.");
    assert_eq!((error.code.as_ref(), error.message), ("InvalidParameterException", sentence));
    let row = world.view().elb_groups.iter().next().unwrap().clone();
    world
        .put(vec![ElbGroup { vpc: own_vpc.parse().unwrap(), ..ElbGroup::clone(&row) }.into()])
        .await;
    let error = create(&world, asked(&world, &shared)).await.unwrap_err();
    let sentence =
        format!("The target group {group} is of {own_vpc}, but the tasks are in the default VPC.");
    assert_eq!((error.code.as_ref(), error.message), ("InvalidParameterException", sentence));
    create(&world, asked(&world, own)).await.unwrap();
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    let interface = world.tasks()[0].interface.clone().unwrap();
    assert_eq!(interface.own_vpc.as_ref().map(|vpc| vpc.as_str()), Some(own_vpc));
    let targets = world.targets();
    assert_eq!((targets.len(), targets[0].address), (1, interface.address));
    let elsewhere = api::UpdateServiceRequest {
        service: text("web"),
        network_configuration: asked(&world, &shared).network_configuration,
        ..Default::default()
    };
    let error = Ecs::update_service(world.ecs(), &world.test.root(), elsewhere).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
    // Where it would be another's, an address of this VPC is not registered.
    world.put(vec![ElbGroup::clone(&row).into()]).await;
    let view = world.view();
    let kept = view.elb_targets.iter().count();
    let input = api::UpdateServiceRequest {
        service: text("web"),
        desired_count: Some(2),
        ..Default::default()
    };
    Ecs::update_service(world.ecs(), &world.test.root(), input).await.unwrap();
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    assert_eq!((world.tasks().len(), world.targets().len()), (2, kept));
}

#[tokio::test]
async fn a_task_is_told_to_stop_when_nothing_is_in_flight_to_it_whoever_stops_it() {
    let (mut world, group) = balanced(1).await;
    world.report_running().await;
    world.settle().await;
    world.set_health(TargetHealth::Healthy).await;
    world.settle().await;
    let task = world.tasks().remove(0);
    world.feed(&task, &Input::StopRequested { reason: None }).await;
    let held = Task::clone(world.view().tasks.get(task.scope.account, &task.id).unwrap());
    assert_eq!((held.desired, held.phase), (Desired::Stopped, Phase::Deactivating));
    assert!(!held.has_orders() && held.desired_of_agent() == Desired::Running);
    world.settle().await;
    assert!(world.targets().iter().any(ElbTarget::is_draining));
    let said = world.said();
    let gone = format!("(service web) deregistered 1 targets in (target-group {group})");
    assert!(said.contains(&gone), "{said:?}");
    assert!(said.contains(&"(service web) has begun draining connections on 1 tasks.".to_owned()));
    // Its agent says again what it said, and it changes nothing.
    let report = Report { phase: Some(Phase::Running), ..Report::default() };
    world.feed(&task, &Input::Reported(report)).await;
    let held = Task::clone(world.view().tasks.get(task.scope.account, &task.id).unwrap());
    assert!(held.is_held());
    world.end_draining().await;
    let told = Task::clone(world.view().tasks.get(task.scope.account, &task.id).unwrap());
    assert_eq!(told.phase, Phase::Stopping);
    assert!(told.has_orders() && told.desired_of_agent() == Desired::Stopped);
}

#[tokio::test]
async fn an_update_stops_no_task_before_its_replacement_is_found_healthy() {
    let (mut world, _) = balanced(1).await;
    world.report_running().await;
    world.settle().await;
    world.set_health(TargetHealth::Healthy).await;
    world.settle().await;
    let old = world.tasks().remove(0);
    let input = api::UpdateServiceRequest {
        service: text("web"),
        force_new_deployment: Some(true),
        ..Default::default()
    };
    Ecs::update_service(world.ecs(), &world.test.root(), input).await.unwrap();
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    world.test.env.advance_ms(3_600_000);
    world.settle().await;
    let is_wanted = |world: &World| {
        let view = world.view();
        view.tasks.get(old.scope.account, &old.id).unwrap().desired == Desired::Running
    };
    assert!(is_wanted(&world), "the new one has passed no check");
    assert_eq!(world.targets().len(), 2);
    world.set_health(TargetHealth::Healthy).await;
    world.settle().await;
    assert!(!is_wanted(&world));
}

#[tokio::test]
async fn a_task_that_fails_its_balancers_checks_is_replaced_after_the_grace_period() {
    let mut world = World::new().await;
    let group = world.with_group().await;
    world.define("served", Some(80)).await;
    with_fargate(&world).await;
    let ask = world.balanced(&group);
    let graceful = |input: &mut api::CreateServiceRequest| {
        ask(input);
        input.health_check_grace_period_seconds = Some(60);
    };
    world.create(1, graceful).await;
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    world.set_health(TargetHealth::Unhealthy(CheckFailure::Code(503))).await;
    world.settle().await;
    assert_eq!(world.tasks()[0].desired, Desired::Running, "it has time");
    world.test.env.advance_ms(60_000);
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    // The one that came for it; the first stays what it is.
    let new = |row: &ElbTarget| row.health == TargetHealth::Initial;
    let rows = world.targets().into_iter().filter(new);
    let rows = rows.map(|row| ElbTarget { health: TargetHealth::Healthy, ..row }.into());
    world.put(rows.collect()).await;
    world.settle().await;
    let said = world.said();
    let is_unhealthy = |it: &String| {
        it.ends_with(&format!(
            "(port 80) is unhealthy in (target-group {group}) due to (reason Health checks failed with these codes: [503])"
        ))
    };
    assert!(said.iter().any(is_unhealthy), "{said:?}");
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_in_ecs_words() {
    let mut world = World::new().await;
    let group = world.with_group().await;
    world.define("served", Some(80)).await;
    world.define("portless", None).await;
    let refused = async |world: &World, change: &dyn Fn(&mut api::CreateServiceRequest)| {
        let mut input = api::CreateServiceRequest {
            service_name: text("web"),
            desired_count: Some(1),
            ..Default::default()
        };
        world.balanced(&group)(&mut input);
        change(&mut input);
        let made = Ecs::create_service(world.ecs(), &world.test.root(), input).await;
        made.unwrap_err().message
    };
    let portless = refused(&world, &|input| input.task_definition = text("portless")).await;
    assert_eq!(portless, "The container app did not have a container port 80 defined.");
    let other = refused(&world, &|input| {
        input.load_balancers.as_mut().unwrap()[0].container_name = text("other");
    });
    assert_eq!(other.await, "The container other does not exist in the task definition.");
    let many = refused(&world, &|input| {
        let one = input.load_balancers.as_ref().unwrap()[0].clone();
        input.load_balancers = Some(vec![one; 6]);
    });
    assert_eq!(many.await, "load balancers can have at most 5 items");
    let bridged = refused(&world, &|input| {
        input.task_definition = text("bridge");
        input.launch_type = None;
        input.network_configuration = None;
    });
    let message = format!(
        "The provided target group {group} has target type ip, which is incompatible with the bridge network mode \
         specified in the task definition."
    );
    assert_eq!(bridged.await, message);
    let listener = world.view().elb_listeners.iter().next().unwrap().id();
    let account = world.test.root().account;
    let delete = |view: &View, _| {
        let mut batch = store::Batch::on(view);
        batch.delete(Key::ElbListener(account, listener.clone()));
        Ok((batch, ()))
    };
    world.ecs().control.decide(delete).await.unwrap();
    let message = format!(
        "The target group with targetGroupArn {group} does not have an associated load balancer."
    );
    assert_eq!(refused(&world, &|_| ()).await, message);
    world.settle().await;
}

#[tokio::test]
async fn a_zone_without_a_free_address_is_none_that_tasks_are_moved_to() {
    let mut world = World::new().await;
    world.define("served", Some(80)).await;
    with_fargate(&world).await;
    let mut other = Instance::clone(world.view().instances.iter().next().unwrap());
    other.id = InstanceId::mint(world.ecs().control.ids.as_ref());
    other.attributes.insert(ZONE_ATTRIBUTE.to_owned(), text("us-east-1b"));
    world.put(vec![other.into()]).await;
    let account = world.test.root().account;
    world.put(control::testing::rows::own_vpc(account)).await;
    let subnets = ["subnet-00000000000000001", "subnet-00000000000000002"];
    world
        .create(1, |input| {
            input.task_definition = text("served");
            input.launch_type = Some(api::LaunchType::Fargate);
            let subnets = Some(subnets.map(str::to_owned).to_vec());
            let awsvpc = api::AwsVpcConfiguration { subnets, ..Default::default() };
            input.network_configuration =
                Some(api::NetworkConfiguration { awsvpc_configuration: Some(awsvpc) });
        })
        .await;
    world.settle().await;
    let zones = |world: &World| {
        let who = Who { account, service: world.id() };
        let (view, now) = (world.view(), Timestamp(1));
        let loaded = snapshot::load_snapshot(world.ecs(), &view, &who, DeploymentId(9), now);
        loaded.unwrap().snapshot.zones
    };
    assert_eq!(zones(&world), ["us-east-1a", "us-east-1b"]);
    let first = Interface::clone(world.view().interfaces.iter().next().unwrap());
    let description = String::new();
    let of_b = |last: u8| Interface {
        address: std::net::Ipv4Addr::new(172, 31, 2, last),
        eni: EniId::mint(world.ecs().control.ids.as_ref()),
        user: InterfaceUser::Person { description: description.clone(), checks_source: true },
        subnet: subnets[1].parse().unwrap(),
        ..first.clone()
    };
    world.put((4..=254).map(|last| of_b(last).into()).collect()).await;
    assert_eq!(zones(&world), ["us-east-1a"]);
}
