use std::collections::BTreeMap;

use control::testing::TestControl;
use model::discovery::MapConnect;
use model::service::{
    ConnectEndpoint, ConnectProtocol, Controller, DeploymentSettings, Propagate, Scheduling,
    Service as EcsService, ServiceStatus, Strategy,
};
use model::vpc::AddressPlan;
use servicediscovery_api::ServiceDiscovery as _;
use store::Batch;

use super::*;

struct World {
    test: TestControl,
    map: CloudMap,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn code<T>(answer: Result<T, ApiError>) -> (String, u16) {
    let error = answer.err().expect("a refusal");
    (error.code.into_owned(), error.status)
}

impl World {
    async fn new() -> Self {
        let test = TestControl::new();
        let plan = AddressPlan { block: "172.31.0.0/16".parse().unwrap(), bridge: None, seed: 7 };
        let put = |view: &View, _| {
            let mut batch = Batch::on(view);
            batch.put(plan.clone());
            Ok((batch, ()))
        };
        test.control.decide(put).await.unwrap();
        let map = CloudMap::new(Arc::clone(&test.control));
        Self { test, map }
    }

    fn root(&self) -> Caller {
        self.test.root()
    }

    async fn target(&self, operation: Option<String>, of: &str) -> String {
        let input = api::GetOperationRequest { operation_id: operation, ..Default::default() };
        let shown = self.map.get_operation(&self.root(), input).await.unwrap();
        let operation = shown.operation.unwrap();
        assert_eq!(operation.status, Some(api::OperationStatus::Success));
        let targets = operation.targets.unwrap();
        targets.into_iter().find(|(key, _)| key.as_str() == of).expect("a target").1
    }

    async fn http(&self, name: &str) -> Result<String, ApiError> {
        let input = api::CreateHttpNamespaceRequest { name: text(name), ..Default::default() };
        let made = self.map.create_http_namespace(&self.root(), input).await?;
        Ok(self.target(made.operation_id, "NAMESPACE").await)
    }

    async fn dns(&self, name: &str) -> String {
        let view = self.test.control.view();
        let vpc = self.test.control.vpc(&view, self.root().account).unwrap().id;
        let input = api::CreatePrivateDnsNamespaceRequest {
            name: text(name),
            vpc: text(vpc.as_str()),
            ..Default::default()
        };
        let made = self.map.create_private_dns_namespace(&self.root(), input).await.unwrap();
        self.target(made.operation_id, "NAMESPACE").await
    }

    async fn service(
        &self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut api::CreateServiceRequest),
    ) -> Result<api::Service, ApiError> {
        let mut input = api::CreateServiceRequest {
            namespace_id: text(namespace),
            name: text(name),
            ..Default::default()
        };
        change(&mut input);
        Ok(self.map.create_service(&self.root(), input).await?.service.unwrap())
    }

    async fn register(
        &self,
        service: &str,
        id: &str,
        attributes: &[(&str, &str)],
    ) -> Result<(), ApiError> {
        let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let input = api::RegisterInstanceRequest {
            service_id: text(service),
            instance_id: text(id),
            attributes: Some(attributes.collect()),
            ..Default::default()
        };
        self.map.register_instance(&self.root(), input).await.map(|_| ())
    }

    /// The ids of what is found, in their order, and the revision.
    async fn discover(
        &self,
        namespace: &str,
        service: &str,
        change: impl FnOnce(&mut api::DiscoverInstancesRequest),
    ) -> (Vec<String>, i64) {
        let mut input = api::DiscoverInstancesRequest {
            namespace_name: text(namespace),
            service_name: text(service),
            ..Default::default()
        };
        change(&mut input);
        let found = self.map.discover_instances(&self.root(), input).await.unwrap();
        let ids = found.instances.unwrap().into_iter().map(|it| it.instance_id.unwrap());
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        (ids, found.instances_revision.unwrap())
    }

    async fn say(&self, service: &str, id: &str, status: api::CustomHealthStatus) {
        let input = api::UpdateInstanceCustomHealthStatusRequest {
            service_id: text(service),
            instance_id: text(id),
            status: Some(status),
        };
        self.map.update_instance_custom_health_status(&self.root(), input).await.unwrap();
    }
}

fn records(kinds: &[api::RecordType]) -> Option<api::DnsConfig> {
    let record =
        |kind: &api::RecordType| api::DnsRecord { r#type: Some(kind.clone()), ttl: Some(10) };
    Some(api::DnsConfig {
        dns_records: Some(kinds.iter().map(record).collect()),
        ..Default::default()
    })
}

#[tokio::test]
async fn a_namespace_is_there_at_once_and_goes_after_its_services() {
    let world = World::new().await;
    let id = world.http("prod").await.unwrap();
    assert!(id.starts_with("ns-") && id.len() == 19, "{id}");
    assert_eq!(code(world.http("prod").await), ("NamespaceAlreadyExists".to_owned(), 400));
    let service = world.service(&id, "web", |_| {}).await.unwrap();
    assert_eq!(service.r#type, Some(api::ServiceType::Http));
    let get = api::GetNamespaceRequest { id: text(&id) };
    let shown = world.map.get_namespace(&world.root(), get).await.unwrap().namespace.unwrap();
    assert_eq!((shown.service_count, shown.r#type), (Some(1), Some(api::NamespaceType::Http)));
    let delete = || api::DeleteNamespaceRequest { id: text(&id) };
    let refusal = world.map.delete_namespace(&world.root(), delete()).await;
    assert_eq!(code(refusal), ("ResourceInUse".to_owned(), 409));
    let gone = api::DeleteServiceRequest { id: service.id };
    world.map.delete_service(&world.root(), gone).await.unwrap();
    world.map.delete_namespace(&world.root(), delete()).await.unwrap();
    let get = api::GetNamespaceRequest { id: text(&id) };
    let refusal = world.map.get_namespace(&world.root(), get).await;
    assert_eq!(code(refusal), ("NamespaceNotFound".to_owned(), 404));
}

/// What Service Connect would make a service of Cloud Map for.
fn owner(world: &World, status: ServiceStatus) -> EcsService {
    EcsService {
        scope: world.test.control.scope(&world.root()),
        cluster: "default".parse().unwrap(),
        name: "web".parse().unwrap(),
        status,
        scheduling: Scheduling::Replica,
        controller: Controller::Ecs,
        desired_count: 0,
        revision: None,
        deployment: DeploymentSettings {
            healthy_percent_min: 100,
            percent_max: 200,
            breaker: None,
            bake_minutes: None,
            strategy: Strategy::Rolling,
            hooks: vec![],
        },
        constraints: vec![],
        strategies: vec![],
        health_check_grace_s: None,
        is_zone_rebalanced: false,
        enable_managed_tags: false,
        propagate: Propagate::None,
        enable_execute_command: false,
        role: None,
        tags: model::Tags::default(),
        created_at: world.test.control.clock.now(),
        created_by: String::new(),
        deleted_at: None,
        version: 1,
    }
}

#[tokio::test]
async fn what_service_connect_made_stays_until_its_service_is_over() {
    let world = World::new().await;
    let namespace = world.http("mesh").await.unwrap();
    let id = world.service(&namespace, "backend", |_| {}).await.unwrap().id.unwrap();
    let delete = async || {
        let input = api::DeleteServiceRequest { id: text(&id) };
        world.map.delete_service(&world.root(), input).await
    };
    let owned = async |status| {
        let owner = owner(&world, status);
        let owned = world.test.control.decide(|view, _| {
            let mut row = MapService::clone(world.map.service_row(view, &world.root(), &id)?);
            let endpoint = ConnectEndpoint {
                name: "backend".to_owned(),
                port: 80,
                number: 1,
                protocol: ConnectProtocol::Http,
                idle_s: 300,
                request_s: 15,
            };
            row.connect =
                Some(MapConnect { owner: owner.key(), endpoint, certificate: None, split: None });
            let mut batch = Batch::on(view);
            batch.put(row);
            batch.put(owner.clone());
            Ok((batch, ()))
        });
        owned.await.unwrap();
    };
    for status in [ServiceStatus::Active, ServiceStatus::Draining] {
        owned(status).await;
        assert_eq!(code(delete().await), ("ResourceInUse".to_owned(), 409), "{status:?}");
    }
    owned(ServiceStatus::Inactive).await;
    delete().await.unwrap();
}

#[tokio::test]
async fn a_name_that_leads_to_another_has_no_other_records_and_one_answer_at_a_time() {
    let world = World::new().await;
    let dns = world.dns("names.local").await;
    let weighted = |kinds: &[api::RecordType]| {
        let config = records(kinds).unwrap();
        Some(api::DnsConfig { routing_policy: Some(api::RoutingPolicy::Weighted), ..config })
    };
    for other in [api::RecordType::A, api::RecordType::Aaaa, api::RecordType::Srv] {
        let mixed = weighted(&[other, api::RecordType::Cname]);
        let refusal = world.service(&dns, "db", |it| it.dns_config = mixed).await.unwrap_err();
        assert!(refusal.message.contains("stands alone"), "{}", refusal.message);
    }
    let many = records(&[api::RecordType::Cname]);
    let refusal = world.service(&dns, "db", |it| it.dns_config = many).await.unwrap_err();
    assert!(refusal.message.contains("WEIGHTED"), "{}", refusal.message);
    let one = weighted(&[api::RecordType::Cname]);
    let made = world.service(&dns, "db", |it| it.dns_config = one).await.unwrap();
    let (id, config) = (made.id.unwrap(), made.dns_config.unwrap());
    assert_eq!(config.routing_policy, Some(api::RoutingPolicy::Weighted));
    let kind = config.dns_records.unwrap()[0].r#type.clone();
    assert_eq!(kind, Some(api::RecordType::Cname));
    let long = format!("{}.example.com", "a".repeat(64));
    for bad in ["", ".", "db..example.com", "db example.com", "*.example.com", &long] {
        let refused = world.register(&id, "one", &[("AWS_INSTANCE_CNAME", bad)]).await;
        assert_eq!(code(refused).0, "InvalidInput", "{bad}");
    }
    let address = [("AWS_INSTANCE_IPV4", "172.31.0.9")];
    assert_eq!(code(world.register(&id, "one", &address).await).0, "InvalidInput");
    for (instance, good) in [("one", "db.example.com"), ("two", "_db.Example.com.")] {
        world.register(&id, instance, &[("AWS_INSTANCE_CNAME", good)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_service_has_the_records_that_its_namespace_can_answer() {
    let world = World::new().await;
    let (http, dns) = (world.http("calls").await.unwrap(), world.dns("names.local").await);
    let a = || records(&[api::RecordType::A]);
    let refusal = world.service(&http, "web", |it| it.dns_config = a()).await;
    assert_eq!(code(refusal).0, "InvalidInput");
    assert_eq!(code(world.service(&dns, "web", |_| {}).await).0, "InvalidInput");
    let made = world.service(&dns, "web", |it| it.dns_config = a()).await.unwrap();
    assert_eq!(made.r#type, Some(api::ServiceType::DnsHttp));
    let config = made.dns_config.unwrap();
    assert_eq!(config.routing_policy, Some(api::RoutingPolicy::Multivalue));
    let again = world.service(&dns, "WEB", |it| it.dns_config = a()).await;
    assert_eq!(code(again).0, "ServiceAlreadyExists", "names know no case");
    let by_call =
        world.service(&dns, "api", |it| it.r#type = Some(api::ServiceTypeOption::Http)).await;
    assert_eq!(by_call.unwrap().r#type, Some(api::ServiceType::Http));
    let id = made.id.unwrap();
    assert_eq!(code(world.register(&id, "one", &[]).await).0, "InvalidInput");
    world.register(&id, "one", &[("AWS_INSTANCE_IPV4", "172.31.0.9")]).await.unwrap();
    let gone = api::DeleteServiceRequest { id: Some(id) };
    let refusal = world.map.delete_service(&world.root(), gone).await;
    assert_eq!(code(refusal), ("ResourceInUse".to_owned(), 409));
}

#[tokio::test]
async fn an_srv_record_leads_to_an_address_which_each_instance_needs() {
    let world = World::new().await;
    let dns = world.dns("names.local").await;
    let srv = |it: &mut api::CreateServiceRequest| it.dns_config = records(&[api::RecordType::Srv]);
    let id = world.service(&dns, "web", srv).await.unwrap().id.unwrap();
    let port = ("AWS_INSTANCE_PORT", "80");
    let v4 = ("AWS_INSTANCE_IPV4", "172.31.0.9");
    for lacking in [&[port][..], &[v4], &[port, ("AWS_INSTANCE_CNAME", "a.b")]] {
        let refusal = world.register(&id, "one", lacking).await;
        assert_eq!(code(refusal).0, "InvalidInput", "{lacking:?}");
    }
    world.register(&id, "one", &[port, v4]).await.unwrap();
    world.register(&id, "two", &[port, ("AWS_INSTANCE_IPV6", "fd00::1")]).await.unwrap();
}

#[tokio::test]
async fn instances_are_found_by_attributes_and_health_and_only_coming_and_going_is_a_revision() {
    let world = World::new().await;
    let namespace = world.http("prod").await.unwrap();
    let custom = Some(api::HealthCheckCustomConfig::default());
    let service = world.service(&namespace, "web", |it| it.health_check_custom_config = custom);
    let id = service.await.unwrap().id.unwrap();
    for (name, stage) in [("one", "blue"), ("two", "green"), ("three", "green")] {
        world.register(&id, name, &[("stage", stage)]).await.unwrap();
    }
    let (found, revision) = world.discover("prod", "web", |_| {}).await;
    assert_eq!(found, ["one", "three", "two"]);
    world.say(&id, "two", api::CustomHealthStatus::Unhealthy).await;
    let (found, after) = world.discover("prod", "web", |_| {}).await;
    assert_eq!((found.as_slice(), after), (&["one".to_owned(), "three".to_owned()][..], revision));
    let green = || Some(BTreeMap::from([("stage".to_owned(), "green".to_owned())]));
    let found = world.discover("prod", "web", |it| it.query_parameters = green()).await.0;
    assert_eq!(found, ["three"]);
    let all = Some(api::HealthStatusFilter::All);
    let found = world.discover("prod", "web", |it| it.health_status = all).await.0;
    assert_eq!(found.len(), 3);
    for name in ["one", "three"] {
        world.say(&id, name, api::CustomHealthStatus::Unhealthy).await;
    }
    assert_eq!(world.discover("prod", "web", |_| {}).await.0.len(), 3, "none is well: all are");
    let none = Some(BTreeMap::from([("stage".to_owned(), "red".to_owned())]));
    let found = world.discover("prod", "web", |it| it.optional_parameters = none).await.0;
    assert_eq!(found.len(), 3, "what is optional narrows to nothing never");
    let input = api::DeregisterInstanceRequest { service_id: text(&id), instance_id: text("one") };
    world.map.deregister_instance(&world.root(), input).await.unwrap();
    assert_eq!(world.discover("prod", "web", |_| {}).await.1, revision + 1);
    let input = api::GetInstanceRequest { service_id: text(&id), instance_id: text("one") };
    let refusal = world.map.get_instance(&world.root(), input).await;
    assert_eq!(code(refusal), ("InstanceNotFound".to_owned(), 404));
}

#[tokio::test]
async fn who_heard_no_answer_is_told_of_the_namespace_that_was_made() {
    let world = World::new().await;
    let ask = async |name: &str, request: &str| {
        let input = api::CreateHttpNamespaceRequest {
            name: text(name),
            creator_request_id: text(request),
            ..Default::default()
        };
        Ok::<_, ApiError>(world.map.create_http_namespace(&world.root(), input).await?.operation_id)
    };
    let first = ask("prod", "one").await.unwrap();
    assert_eq!(ask("prod", "one").await.unwrap(), first);
    assert_eq!(code(ask("prod", "two").await).0, "NamespaceAlreadyExists");
    assert_eq!(world.test.control.view().map_namespaces.len(), 1);
}

#[tokio::test]
async fn an_http_namespace_has_a_name_that_can_be_printed_and_is_no_arn() {
    let world = World::new().await;
    for strange in ["", "a b", "\u{1}", "caf\u{e9}", "arn:aws:x"] {
        assert_eq!(code(world.http(strange).await).0, "InvalidInput", "{strange}");
    }
    world.http("shop.example~!").await.unwrap();
}

#[tokio::test]
async fn a_private_namespace_has_a_name_of_its_own_and_is_of_a_vpc_that_is_there() {
    let world = World::new().await;
    world.dns("names.local").await;
    let control = &world.test.control;
    let vpc = control.vpc(&control.view(), world.root().account).unwrap().id;
    let refused = async |name: &str, vpc: &str| {
        let input = api::CreatePrivateDnsNamespaceRequest {
            name: text(name),
            vpc: text(vpc),
            ..Default::default()
        };
        world.map.create_private_dns_namespace(&world.root(), input).await.unwrap_err()
    };
    for same in ["names.local", "Names.Local", "names.local."] {
        assert_eq!(refused(same, vpc.as_str()).await.code, "NamespaceAlreadyExists", "{same}");
    }
    assert_eq!(refused("names.local..", vpc.as_str()).await.code, "InvalidInput");
    let missing = refused("other.local", "vpc-0123456789abcdef0").await.message;
    assert!(missing.contains("does not exist"), "{missing}");
}

#[tokio::test]
async fn of_many_operations_the_oldest_goes_for_the_next() {
    let world = World::new().await;
    let account = world.root().account;
    let mut ids: Vec<Arc<str>> = Vec::new();
    for _ in 0..limits::OPERATIONS_MAX / 500 {
        let fresh: Vec<Arc<str>> = (0..500).map(|_| world.map.mint_operation()).collect();
        let put = |view: &View, now| {
            let mut batch = Batch::on(view);
            for id in &fresh {
                batch.put(model::MapOperation {
                    scope: world.test.control.scope(&world.root()),
                    id: Arc::clone(id),
                    kind: model::discovery::MapOperationKind::UpdateService,
                    targets: BTreeMap::new(),
                    done_at: now,
                });
            }
            Ok((batch, ()))
        };
        world.test.control.decide(put).await.unwrap();
        ids.extend(fresh);
        world.test.env.advance_ms(1);
    }
    world.http("prod").await.unwrap();
    let view = world.test.control.view();
    assert_eq!(view.map_operations.of(account).count(), limits::OPERATIONS_MAX);
    let gone: Vec<&Arc<str>> =
        ids.iter().filter(|id| view.map_operations.get(account, id).is_none()).collect();
    assert_eq!(gone.len(), 1);
    assert!(ids[..500].contains(gone[0]), "the oldest");
}

#[tokio::test]
async fn operations_are_forgotten_after_a_day() {
    use control::reconcile::{NowAndThen, Reconciler as _};
    let world = World::new().await;
    world.http("prod").await.unwrap();
    let chore = operations::forgetting(Arc::clone(&world.test.control));
    chore.pass(&NowAndThen).await.unwrap();
    assert_eq!(world.test.control.view().map_operations.len(), 1);
    world.test.env.advance_ms(24 * 3_600_000);
    chore.pass(&NowAndThen).await.unwrap();
    assert_eq!(world.test.control.view().map_operations.len(), 0);
}
