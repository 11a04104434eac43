use std::sync::Arc;

use control::reconcile::Driver;
use ecs_api::{self as api, Ecs as _};
use longshore_types::{DeploymentId, Timestamp};
use model::instance::Instance;
use model::service::{CompletedDeployment, Deployment, Rank, Stage};
use model::{Key, Row, Seq, ServiceEvents, ServiceId, View};
use store::Change;

use super::*;
use crate::testing::TestEcs;
use crate::waiting::WaitingPool;

mod balancing;
mod connecting;
mod registering;

struct World {
    test: TestEcs,
    driver: Driver,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

impl World {
    /// A cluster without instances, and tasks of 256 CPU units.
    async fn new() -> Self {
        let test = TestEcs::new();
        crate::testing::prepare(&test.ecs).await.unwrap();
        let driver = test.driver();
        let (ecs, root) = (Arc::clone(&test.ecs), test.root());
        Ecs::create_cluster(ecs.as_ref(), &root, Default::default()).await.unwrap();
        let container = api::ContainerDefinition {
            name: text("app"),
            image: text("127.0.0.1:4566/hello:1"),
            ..Default::default()
        };
        let input = api::RegisterTaskDefinitionRequest {
            family: text("bridge"),
            cpu: text("256"),
            memory: text("512"),
            container_definitions: Some(vec![container]),
            ..Default::default()
        };
        Ecs::register_task_definition(ecs.as_ref(), &root, input).await.unwrap();
        Self { test, driver }
    }

    fn ecs(&self) -> &Ecs {
        &self.test.ecs
    }

    /// Providers of groups without instances, whose size nobody manages.
    async fn with_providers(&self, names: &[&str]) {
        for name in names {
            let input = api::CreateCapacityProviderRequest {
                name: text(name),
                auto_scaling_group_provider: Some(api::AutoScalingGroupProvider {
                    auto_scaling_group_arn: text(name),
                    ..Default::default()
                }),
                ..Default::default()
            };
            Ecs::create_capacity_provider(self.ecs(), &self.test.root(), input).await.unwrap();
        }
        let input = api::PutClusterCapacityProvidersRequest {
            cluster: text("default"),
            capacity_providers: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            default_capacity_provider_strategy: Some(vec![]),
        };
        let (ecs, root) = (self.ecs(), self.test.root());
        Ecs::put_cluster_capacity_providers(ecs, &root, input).await.unwrap();
    }

    async fn create(&self, tasks: i32, change: impl FnOnce(&mut api::CreateServiceRequest)) {
        let mut input = api::CreateServiceRequest {
            service_name: text("web"),
            task_definition: text("bridge"),
            desired_count: Some(tasks),
            ..Default::default()
        };
        change(&mut input);
        Ecs::create_service(self.ecs(), &self.test.root(), input).await.unwrap();
    }

    /// Everything that is due now.
    async fn settle(&mut self) {
        while self.driver.step().await {}
    }

    fn view(&self) -> Arc<View> {
        self.test.ecs.control.view()
    }

    fn id(&self) -> ServiceId {
        ServiceId { cluster: "default".parse().unwrap(), name: "web".parse().unwrap() }
    }

    /// Deployments that still matter, the primary one first.
    fn deployments(&self) -> Vec<Deployment> {
        let view = self.view();
        let rows = view.deployments_of(self.test.root().account, &self.id());
        let mut rows: Vec<_> = rows.map(|row| Deployment::clone(row)).collect();
        rows.retain(|row| row.rank < Rank::Gone);
        rows.sort_by_key(|row| row.rank != Rank::Primary);
        rows
    }

    async fn put(&self, rows: Vec<Row>) {
        let put = |view: &View, _| {
            let mut batch = store::Batch::on(view);
            batch.writes.clone_from(&rows);
            Ok((batch, ()))
        };
        self.ecs().control.decide(put).await.unwrap();
    }
}

fn item(name: &str) -> api::CapacityProviderStrategyItem {
    let capacity_provider = text(name);
    api::CapacityProviderStrategyItem { capacity_provider, weight: Some(1), base: None }
}

#[tokio::test]
async fn what_each_provider_of_a_strategy_lacks_is_counted() {
    let mut world = World::new().await;
    world.with_providers(&["one", "two"]).await;
    let strategy = vec![item("one"), item("two")];
    world.create(4, |input| input.capacity_provider_strategy = Some(strategy)).await;
    world.settle().await;
    let shortage = world.deployments().remove(0).shortage;
    assert_eq!(shortage.map(|shortage| shortage.tasks), Some(4));
}

#[tokio::test]
async fn a_service_looks_again_when_its_provider_changes() {
    let mut world = World::new().await;
    world.with_providers(&["one"]).await;
    world.create(2, |input| input.capacity_provider_strategy = Some(vec![item("one")])).await;
    world.settle().await;
    assert_eq!(world.view().live_tasks().count(), 0);
    let input = api::UpdateCapacityProviderRequest {
        name: text("one"),
        auto_scaling_group_provider: Some(api::AutoScalingGroupProviderUpdate {
            managed_scaling: Some(api::ManagedScaling {
                status: Some(api::ManagedScalingStatus::Enabled),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    Ecs::update_capacity_provider(world.ecs(), &world.test.root(), input).await.unwrap();
    world.settle().await;
    assert_eq!(world.view().live_tasks().count(), 2, "they wait for the group to grow");
}

#[tokio::test]
async fn more_deployments_than_a_batch_has_rows_end_one_after_the_other() {
    let mut world = World::new().await;
    world.create(1, |_| {}).await;
    for _ in 0..store::BATCH_ROWS_MAX + 50 {
        let input = api::UpdateServiceRequest {
            service: text("web"),
            force_new_deployment: Some(true),
            ..Default::default()
        };
        Ecs::update_service(world.ecs(), &world.test.root(), input).await.unwrap();
    }
    world.settle().await;
    let deployments = world.deployments();
    assert_eq!(deployments.len(), 1);
    assert!(deployments[0].shortage.is_some(), "it was its pass");
}

#[tokio::test]
async fn a_rollback_that_finds_no_room_says_so_at_once() {
    let mut world = World::new().await;
    world.create(2, |_| {}).await;
    world.settle().await;
    let mut bad = world.deployments().remove(0);
    bad.stage = Stage::RollbackRequested;
    let view = world.view();
    let events = view.service_events.get(world.test.root().account, &world.id()).unwrap();
    let mut events = ServiceEvents::clone(events);
    let deployment = DeploymentId::mint(world.test.env.as_ref());
    events.notes.completed = Some(CompletedDeployment { deployment, revision: bad.revision });
    world.put(vec![bad.clone().into(), events.into()]).await;
    world.settle().await;
    let next = world.deployments().remove(0);
    assert_eq!(next.undoes, Some(bad.id));
    assert_eq!(next.shortage.map(|shortage| shortage.tasks), Some(2));
}

#[tokio::test]
async fn what_an_instance_became_while_an_earlier_change_of_it_was_told_wakes_too() {
    let world = World::new().await;
    let input = api::RegisterContainerInstanceRequest::default();
    let (ecs, root) = (world.ecs(), world.test.root());
    Ecs::register_container_instance(ecs, &root, input).await.unwrap();
    let mut view = View::clone(&world.view());
    let mut instance = Instance::clone(view.instances.iter().next().unwrap());
    let who = Who { account: root.account, service: world.id() };
    let (mut services, mut queue) = (Services::new(&world.test.ecs), Queue::default());
    assert!(services.keys(&view).is_empty());
    let interest = Interest { is_daemon: true, ..Interest::default() };
    services.finished(&who, Some(interest), &mut queue);
    // The daemon is told of the instance's first change when the row says what it became next.
    let first = view.seq.next();
    instance.agent.connected = true;
    let second = Seq(first.0 + 1);
    view.put(second, &Row::from(instance.clone()));
    view.seq = second;
    let key = Key::ContainerInstance(root.account, instance.id);
    services.wake(&view, &Change { seq: first, key: key.clone() }, &mut queue);
    services.wake(&view, &Change { seq: second, key }, &mut queue);
    assert_eq!(queue.ready(), 1);
    // It was queued for all that the view has, not for the change that was told.
    queue.changed(&who, first);
    assert_eq!(queue.newest_change(&who), Some(second));
}

#[tokio::test]
async fn waiting_tasks_are_looked_at_again_when_their_service_changes() {
    let world = World::new().await;
    world.create(1, |_| {}).await;
    let view = world.view();
    let mut waiting = crate::waiting::WaitingTasks::new(&world.test.ecs);
    let mut queue = Queue::default();
    let cluster = world.id().cluster;
    queue.at(&WaitingPool::Cluster(world.test.root().account, cluster), Timestamp(1));
    let key = Key::Service(world.test.root().account, world.id());
    waiting.wake(&view, &Change { seq: view.seq, key }, &mut queue);
    assert_eq!(queue.ready(), 1);
}
