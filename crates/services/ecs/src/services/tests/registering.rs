//! Services whose tasks are found by name: what becomes of their tasks as instances of Cloud Map.

use std::collections::BTreeMap;

use model::discovery::{MapDns, MapHealth, MapRecord};
use model::task::{Input, Phase, Report};
use model::{MapInstance, MapService, Record as _};

use super::balancing::with_fargate;
use super::*;

impl World {
    /// A service of Cloud Map with A records; its ARN.
    async fn with_registry(&self, has_custom_health: bool) -> String {
        let row = MapService {
            scope: self.ecs().control.scope(&self.test.root()),
            id: "srv-aaaaaaaaaaaaaaaa".into(),
            namespace: "ns-aaaaaaaaaaaaaaaa".into(),
            name: "web".to_owned(),
            description: None,
            dns: Some(MapDns { is_weighted: false, records: vec![(MapRecord::A, 10)] }),
            has_custom_health,
            created_at: Timestamp(0),
            request: None,
            revision: 1,
            attributes: BTreeMap::new(),
            tags: model::Tags::new(),
            connect: None,
        };
        let arn = row.arn();
        self.put(vec![row.into()]).await;
        arn
    }

    fn registered(&self, registry: &str) -> impl FnOnce(&mut api::CreateServiceRequest) + use<> {
        let subnets = Some(vec![self.vpc().subnets[0].id.to_string()]);
        let awsvpc = api::AwsVpcConfiguration { subnets, ..Default::default() };
        let registry = api::ServiceRegistry { registry_arn: text(registry), ..Default::default() };
        move |input| {
            input.task_definition = text("served");
            input.launch_type = Some(api::LaunchType::Fargate);
            input.network_configuration =
                Some(api::NetworkConfiguration { awsvpc_configuration: Some(awsvpc) });
            input.service_registries = Some(vec![registry]);
        }
    }

    fn instances(&self) -> Vec<MapInstance> {
        let view = self.view();
        view.map_instances.iter().map(|row| MapInstance::clone(row)).collect()
    }

    fn revision(&self) -> u64 {
        self.view().map_services.iter().next().unwrap().revision
    }
}

#[tokio::test]
async fn a_task_is_an_instance_from_when_it_runs_until_it_is_to_stop() {
    let mut world = World::new().await;
    let registry = world.with_registry(false).await;
    world.define("served", None).await;
    with_fargate(&world).await;
    world.create(2, world.registered(&registry)).await;
    world.settle().await;
    assert!(world.instances().is_empty(), "they do not run yet");
    world.report_running().await;
    world.settle().await;
    let (tasks, instances) = (world.tasks(), world.instances());
    assert_eq!(instances.len(), 2);
    assert_eq!(world.revision(), 3, "each raised it");
    for task in &tasks {
        let mut all = instances.iter();
        let row = all.find(|row| *row.instance == task.id.to_string()).expect("an instance");
        let address = task.interface.as_ref().unwrap().address;
        assert_eq!((row.ipv4(), row.port(), row.health), (Some(address), None, None));
        let of = |key: &str| row.attributes.get(key).map(String::as_str);
        assert_eq!(of("ECS_SERVICE_NAME"), Some("web"));
        assert_eq!(of("ECS_TASK_DEFINITION_FAMILY"), Some("served"));
        assert_eq!(of("AVAILABILITY_ZONE"), task.zone.as_deref());
        assert_eq!(of("EC2_INSTANCE_ID"), None, "Fargate shows none");
    }
    world.feed(&tasks[0], &Input::StopRequested { reason: None }).await;
    world.settle().await;
    let left = world.instances();
    assert!(left.iter().all(|row| *row.instance != tasks[0].id.to_string()), "{left:?}");
    let stopped = Report { phase: Some(Phase::Stopped), ..Report::default() };
    world.feed(&tasks[1], &Input::Reported(stopped)).await;
    world.settle().await;
    assert!(world.instances().is_empty(), "whoever ends a task");
}

#[tokio::test]
async fn with_custom_health_a_task_without_checks_is_well() {
    let mut world = World::new().await;
    let registry = world.with_registry(true).await;
    world.define("served", None).await;
    with_fargate(&world).await;
    world.create(1, world.registered(&registry)).await;
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    let rows = world.instances();
    assert_eq!(rows.iter().map(|row| row.health).collect::<Vec<_>>(), [Some(MapHealth::Healthy)]);
    let account = world.test.root().account;
    assert_eq!(rows[0].account(), account);
}

#[tokio::test]
async fn a_service_keeps_its_registry_only_with_tasks_that_have_the_port_it_tells() {
    let world = World::new().await;
    let registry = world.with_registry(false).await;
    world.define("served", Some(8080)).await;
    world.define("portless", None).await;
    let registered = world.registered(&registry);
    let with_port = |input: &mut api::CreateServiceRequest| {
        registered(input);
        let first = &mut input.service_registries.as_mut().unwrap()[0];
        (first.container_name, first.container_port) = (text("app"), Some(8080));
    };
    world.create(1, with_port).await;
    let update = async |family: &str| {
        let input = api::UpdateServiceRequest {
            service: text("web"),
            task_definition: text(family),
            ..Default::default()
        };
        Ecs::update_service(world.ecs(), &world.test.root(), input).await
    };
    let why = update("portless").await.unwrap_err().message;
    assert!(why.contains("did not have a container port 8080"), "{why}");
    world.define("served", Some(8080)).await;
    update("served").await.unwrap();
}

#[tokio::test]
async fn a_task_is_an_instance_once_there_is_room() {
    let mut world = World::new().await;
    let registry = world.with_registry(false).await;
    world.define("served", None).await;
    with_fargate(&world).await;
    let others: Vec<Row> = (0..1_000)
        .map(|number: u32| {
            let row = MapInstance {
                scope: world.ecs().control.scope(&world.test.root()),
                service: "srv-aaaaaaaaaaaaaaaa".into(),
                instance: number.to_string().into(),
                attributes: BTreeMap::new(),
                health: None,
                task: None,
                has_names: false,
                request: None,
                connect: None,
            };
            row.into()
        })
        .collect();
    for some in others.chunks(200) {
        world.put(some.to_vec()).await;
    }
    world.create(1, world.registered(&registry)).await;
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    let is_there =
        |world: &World| world.instances().iter().filter(|row| row.task.is_some()).count() == 1;
    assert!(!is_there(&world), "there is no room");
    let leave = |view: &View, _| {
        let mut batch = store::Batch::on(view);
        let row = view.map_instances.iter().next().expect("one of the others");
        batch.delete(Key::MapInstance(row.scope.account, row.key()));
        Ok((batch, ()))
    };
    world.ecs().control.decide(leave).await.unwrap();
    world.test.env.advance_ms(1_000);
    world.settle().await;
    assert!(is_there(&world));
}
