//! Services with Service Connect: what becomes of their tasks as instances of endpoints, and of the endpoints.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::InstanceId;
use model::task::Input;
use model::{MapInstance, MapService, NetworkMode, Task};

use super::balancing::with_fargate;
use super::*;

impl World {
    /// Whether a task is, another may be there in its place.
    fn is_held(&self, task: &Task) -> bool {
        self.tasks().iter().any(|it| it.id == task.id && it.is_held())
    }

    async fn with_namespace(&self) {
        let namespace = Some("mesh".to_owned());
        let input = api::UpdateClusterRequest {
            cluster: text("default"),
            service_connect_defaults: Some(api::ClusterServiceConnectDefaultsRequest { namespace }),
            ..Default::default()
        };
        Ecs::update_cluster(self.ecs(), &self.test.root(), input).await.unwrap();
        self.define_offered(api::ApplicationProtocol::Http).await;
        with_fargate(self).await;
    }

    async fn define_offered(&self, protocol: api::ApplicationProtocol) {
        let mapping = api::PortMapping {
            name: text("http"),
            container_port: Some(80),
            app_protocol: Some(protocol),
            ..Default::default()
        };
        let container = api::ContainerDefinition {
            name: text("app"),
            image: text("127.0.0.1:4566/hello:1"),
            port_mappings: Some(vec![mapping]),
            ..Default::default()
        };
        let input = api::RegisterTaskDefinitionRequest {
            family: text("offered"),
            network_mode: Some(NetworkMode::Awsvpc.as_str().into()),
            cpu: text("256"),
            memory: text("512"),
            container_definitions: Some(vec![container]),
            ..Default::default()
        };
        Ecs::register_task_definition(self.ecs(), &self.test.root(), input).await.unwrap();
    }

    fn connected(&self, dns: &str) -> impl FnOnce(&mut api::CreateServiceRequest) + use<> {
        let subnets = Some(vec![self.vpc().subnets[0].id.to_string()]);
        let awsvpc = api::AwsVpcConfiguration { subnets, ..Default::default() };
        let connect = offering(dns);
        move |input| {
            input.task_definition = text("offered");
            input.launch_type = Some(api::LaunchType::Fargate);
            input.network_configuration =
                Some(api::NetworkConfiguration { awsvpc_configuration: Some(awsvpc) });
            input.service_connect_configuration = Some(connect);
        }
    }

    async fn update_connect(&self, connect: api::ServiceConnectConfiguration) {
        let input = api::UpdateServiceRequest {
            service: text("web"),
            service_connect_configuration: Some(connect),
            ..Default::default()
        };
        Ecs::update_service(self.ecs(), &self.test.root(), input).await.unwrap();
    }

    fn endpoints(&self) -> Vec<MapService> {
        self.view().map_services.iter().map(|row| MapService::clone(row)).collect()
    }

    fn reached(&self) -> Vec<MapInstance> {
        self.view().map_instances.iter().map(|row| MapInstance::clone(row)).collect()
    }

    fn hosts(&self) -> BTreeSet<InstanceId> {
        self.tasks().iter().filter_map(|task| task.instance).collect()
    }
}

fn offering(dns: &str) -> api::ServiceConnectConfiguration {
    let alias = api::ServiceConnectClientAlias {
        port: Some(8080),
        dns_name: text(dns),
        ..Default::default()
    };
    let offer = api::ServiceConnectService {
        port_name: text("http"),
        client_aliases: Some(vec![alias]),
        ..Default::default()
    };
    api::ServiceConnectConfiguration {
        enabled: Some(true),
        services: Some(vec![offer]),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_task_is_told_to_stop_once_every_host_said_that_nothing_is_led_to_it() {
    let mut world = World::new().await;
    world.with_namespace().await;
    world.create(1, world.connected("backend")).await;
    world.settle().await;
    assert!(world.reached().is_empty(), "it does not run yet");
    world.report_running().await;
    world.settle().await;
    let [task] = world.tasks().try_into().unwrap();
    let [row] = world.reached().try_into().unwrap();
    assert!(task.is_connected());
    assert_eq!(
        (row.port(), row.ipv4()),
        (Some(80), Some(task.interface.as_ref().unwrap().address))
    );
    let namespace = (task.scope.account, row.connect.as_ref().unwrap().namespace.clone());
    for host in world.hosts() {
        world.ecs().control.connect_hosts.told(host, [namespace.clone()].into());
    }
    world.feed(&task, &Input::StopRequested { reason: None }).await;
    world.settle().await;
    let [draining] = world.reached().try_into().unwrap();
    assert!(draining.connect.unwrap().drains_until.is_some());
    assert!(world.is_held(&task), "it is told nothing yet");
    let now = world.view().seq;
    for host in world.hosts() {
        world.ecs().control.connect_hosts.heard(host, now, [(task.id, 1)].into());
    }
    world.test.env.advance_ms(1_000);
    world.settle().await;
    assert!(world.is_held(&task), "a request is still open");
    for host in world.hosts() {
        world.ecs().control.connect_hosts.heard(host, now, BTreeMap::new());
    }
    world.test.env.advance_ms(1_000);
    world.settle().await;
    assert!(world.reached().is_empty());
    let held = world.tasks().into_iter().find(|it| it.id == task.id).unwrap();
    assert!(!held.is_held() && !held.is_connected(), "{held:?}");
}

#[tokio::test]
async fn a_host_that_says_nothing_holds_a_task_up_for_its_time_alone() {
    let mut world = World::new().await;
    world.with_namespace().await;
    world.create(1, world.connected("backend")).await;
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    let task = world.tasks().remove(0);
    world.feed(&task, &Input::StopRequested { reason: None }).await;
    world.settle().await;
    world.test.env.advance_ms(14_000);
    world.settle().await;
    assert!(world.is_held(&task));
    world.test.env.advance_ms(2_000);
    world.settle().await;
    assert!(world.reached().is_empty(), "as long as its requests may take");
}

#[tokio::test]
async fn an_endpoint_follows_its_service_and_goes_with_its_last_task() {
    let mut world = World::new().await;
    world.with_namespace().await;
    world.create(1, world.connected("backend")).await;
    let [made] = world.endpoints().try_into().unwrap();
    let endpoint = made.connect.clone().unwrap().endpoint;
    assert_eq!((endpoint.name.as_str(), endpoint.port, endpoint.request_s), ("backend", 8080, 15));
    assert_eq!(endpoint.address().to_string(), "127.255.0.1");
    world.update_connect(offering("another")).await;
    let [renamed] = world.endpoints().try_into().unwrap();
    let endpoint = renamed.connect.unwrap().endpoint;
    assert_eq!((renamed.id, endpoint.name.as_str()), (made.id, "another"));
    assert_ne!(endpoint.number, 1, "the other is kept for whoever goes back to it");
    let mut off = offering("another");
    off.enabled = Some(false);
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    world.update_connect(off).await;
    world.settle().await;
    world.report_running().await;
    world.test.env.advance_ms(120_000);
    world.settle().await;
    world.report_stopped().await;
    world.settle().await;
    world.test.env.advance_ms(120_000);
    world.settle().await;
    assert!(world.endpoints().is_empty(), "{:?}", world.endpoints());
}

fn with_tls(dns: &str, arn: &str) -> api::ServiceConnectConfiguration {
    let mut connect = offering(dns);
    let authority = api::ServiceConnectTlsCertificateAuthority { aws_pca_authority_arn: text(arn) };
    let tls = api::ServiceConnectTlsConfiguration {
        issuer_certificate_authority: Some(authority),
        ..Default::default()
    };
    connect.services.as_mut().unwrap()[0].tls = Some(tls);
    connect
}

#[tokio::test]
async fn an_endpoint_with_tls_has_a_certificate_that_is_renewed_before_it_ends() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let mut world = World::new().await;
    world.with_namespace().await;
    let own = control::authority::authority_arn(&world.ecs().control.scope(&world.test.root()));
    let connected = world.connected("backend");
    let create = |input: &mut api::CreateServiceRequest| {
        connected(input);
        input.service_connect_configuration = Some(with_tls("backend", &own));
    };
    world.create(1, create).await;
    world.settle().await;
    let certificate = |world: &World| {
        let [made] = world.endpoints().try_into().unwrap();
        made.connect.clone().unwrap().certificate.map(|shown| (made, shown))
    };
    let (row, first) = certificate(&world).unwrap();
    let view = world.view();
    let key = world.ecs().control.endpoint_key(&view, &row, &first).unwrap();
    assert!(key.contains("PRIVATE KEY") && !first.sealed_key.contains("PRIVATE"));
    let lasts_ms = first.not_after.since_ms(first.issued_at);
    assert_eq!(lasts_ms, 7 * DAY_MS);
    for (days, is_renewed) in [(4, false), (2, true), (1, false)] {
        let before = certificate(&world).unwrap().1;
        world.test.env.advance_ms(days * DAY_MS);
        world.settle().await;
        let after = certificate(&world).unwrap().1;
        assert_eq!(after.certificate != before.certificate, is_renewed, "{days}");
        assert_eq!(after.authority, first.authority);
    }
}

#[tokio::test]
async fn a_certificate_goes_with_the_last_revision_that_asks_for_one() {
    let mut world = World::new().await;
    world.with_namespace().await;
    world.create(1, world.connected("backend")).await;
    world.settle().await;
    let has_one = |world: &World| {
        let [made] = world.endpoints().try_into().unwrap();
        made.connect.unwrap().certificate.is_some()
    };
    assert!(!has_one(&world));
    let own = control::authority::authority_arn(&world.ecs().control.scope(&world.test.root()));
    world.update_connect(with_tls("backend", &own)).await;
    world.settle().await;
    assert!(has_one(&world));
    world.report_running().await;
    world.settle().await;
    world.update_connect(offering("backend")).await;
    world.settle().await;
    assert!(has_one(&world), "tasks with it are still there");
    for _ in 0..3 {
        world.report_running().await;
        world.settle().await;
        world.report_stopped().await;
        world.test.env.advance_ms(120_000);
        world.settle().await;
    }
    assert!(!has_one(&world), "{:?}", world.endpoints());
}

#[tokio::test]
async fn an_endpoint_that_a_rollback_goes_back_to_outlives_its_tasks() {
    let mut world = World::new().await;
    world.with_namespace().await;
    let connected = world.connected("backend");
    // The tasks of before go first.
    let one_by_one = api::DeploymentConfiguration {
        minimum_healthy_percent: Some(0),
        maximum_percent: Some(100),
        ..Default::default()
    };
    let create = |input: &mut api::CreateServiceRequest| {
        connected(input);
        input.deployment_configuration = Some(one_by_one);
    };
    world.create(1, create).await;
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    // It has lasted, and is completed.
    world.test.env.advance_ms(120_000);
    world.settle().await;
    let [made] = world.endpoints().try_into().unwrap();
    let mut off = offering("backend");
    off.enabled = Some(false);
    world.update_connect(off).await;
    world.settle().await;
    world.test.env.advance_ms(20_000);
    world.settle().await;
    world.report_stopped().await;
    world.settle().await;
    assert!(world.reached().is_empty());
    assert_eq!(world.deployments().len(), 1, "nothing is left of the first");
    let [kept] = world.endpoints().try_into().unwrap();
    assert_eq!(kept.id, made.id, "it may be gone back to");
    world.report_running().await;
    world.settle().await;
    world.test.env.advance_ms(120_000);
    world.settle().await;
    assert!(world.endpoints().is_empty(), "nobody goes back any more: {:?}", world.endpoints());
}

#[tokio::test]
async fn a_task_that_is_no_instance_any_more_is_let_go_by_the_next_region_too() {
    let mut world = World::new().await;
    world.with_namespace().await;
    world.create(1, world.connected("backend")).await;
    world.settle().await;
    world.report_running().await;
    world.settle().await;
    let task = world.tasks().remove(0);
    assert!(task.is_connected());
    let mut off = offering("backend");
    off.enabled = Some(false);
    world.update_connect(off).await;
    // Somebody deregisters it, and the region ends right after the task was asked to stop.
    let deregister = |view: &View, _| {
        let mut batch = store::Batch::on(view);
        for row in view.map_instances.iter() {
            batch.delete(Key::MapInstance(row.scope.account, row.key()));
        }
        Ok((batch, ()))
    };
    world.ecs().control.decide(deregister).await.unwrap();
    world.feed(&task, &Input::StopRequested { reason: None }).await;
    assert!(world.is_held(&task));
    world.driver = world.test.driver();
    world.settle().await;
    let held = world.tasks().into_iter().find(|it| it.id == task.id).unwrap();
    assert!(!held.is_held() && !held.is_connected(), "{held:?}");
}

#[tokio::test]
async fn the_protocol_of_what_is_offered_stays_as_it_is() {
    let world = World::new().await;
    world.with_namespace().await;
    world.create(1, world.connected("backend")).await;
    let update = async || {
        let input = api::UpdateServiceRequest {
            service: text("web"),
            task_definition: text("offered"),
            ..Default::default()
        };
        Ecs::update_service(world.ecs(), &world.test.root(), input).await
    };
    world.define_offered(api::ApplicationProtocol::Grpc).await;
    let error = update().await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException", "{error}");
    assert!(error.message.contains("appProtocol"), "{error}");
    world.define_offered(api::ApplicationProtocol::Http).await;
    update().await.unwrap();
}

#[tokio::test]
async fn services_are_listed_by_the_namespace_that_they_are_in_now() {
    let mut world = World::new().await;
    world.with_namespace().await;
    world.create(1, world.connected("backend")).await;
    let list = async |world: &World, namespace: &str| {
        let input = api::ListServicesByNamespaceRequest {
            namespace: text(namespace),
            ..Default::default()
        };
        let listed = Ecs::list_services_by_namespace(world.ecs(), &world.test.root(), input).await;
        listed.map(|listed| listed.service_arns.unwrap())
    };
    let arn = world.view().map_namespaces.iter().next().unwrap().arn();
    for namespace in ["mesh", arn.as_str()] {
        let [service] = list(&world, namespace).await.unwrap().try_into().unwrap();
        assert!(service.ends_with(":service/default/web"), "{service}");
    }
    let absent = list(&world, "other").await.unwrap_err();
    assert_eq!(absent.code, "NamespaceNotFoundException");
    world.update_connect(api::ServiceConnectConfiguration::default()).await;
    world.settle().await;
    assert!(list(&world, "mesh").await.unwrap().is_empty());
}
