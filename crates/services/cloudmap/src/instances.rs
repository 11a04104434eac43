//! Instances of services: registered by clients, shown, and how they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use model::discovery::{MapHealth, MapOperationKind, MapRecord};
use model::{Index, Key, MapInstance, MapInstanceId, MapService, View};
use servicediscovery_api as api;
use store::Batch;

use crate::CloudMap;
use crate::errors::{invalid, limit, no_custom_health, no_instance};
use crate::limits::{
    ATTRIBUTES_LEN_MAX, ATTRIBUTES_MAX, INSTANCE_ID_MAX, INSTANCES_OF_NAMESPACE_MAX,
    INSTANCES_OF_SERVICE_MAX,
};
use crate::pages::page;

/// With what health an instance begins.
const INIT_HEALTH: &str = "AWS_INIT_HEALTH_STATUS";

pub(crate) async fn register_instance(
    it: &CloudMap,
    caller: &Caller,
    input: api::RegisterInstanceRequest,
) -> Result<api::RegisterInstanceResponse, ApiError> {
    let given = input.service_id.unwrap_or_default();
    let instance = input.instance_id.unwrap_or_default();
    let permission = it.permission(caller, "servicediscovery:RegisterInstance", "service", &given);
    let operation = it.mint_operation();
    let attributes = input.attributes.unwrap_or_default();
    let decided = it.control.change(caller, &permission, |view, now| {
        let service = it.service_row(view, caller, &given)?;
        check_id(&instance)?;
        let (attributes, health) = read_attributes(service, attributes.clone())?;
        let id =
            MapInstanceId { service: Arc::clone(&service.id), instance: instance.as_str().into() };
        let known = view.map_instances.get(caller.account, &id);
        let index = Index::MapInstances(caller.account, Arc::clone(&service.id));
        if known.is_none() && INSTANCES_OF_SERVICE_MAX <= view.member_count(&index) {
            let most = INSTANCES_OF_SERVICE_MAX;
            return Err(limit(format!("A service can have up to {most} instances.")));
        }
        if known.is_none() && INSTANCES_OF_NAMESPACE_MAX <= count_in(view, service) {
            let most = INSTANCES_OF_NAMESPACE_MAX;
            return Err(limit(format!("A namespace can have up to {most} instances.")));
        }
        if known.is_some_and(|row| row.task.is_some()) {
            return Err(invalid(format!("The instance {instance} is a task of Amazon ECS.")));
        }
        let mut batch = Batch::on(view);
        batch.put(MapInstance {
            scope: service.scope.clone(),
            service: Arc::clone(&service.id),
            instance: Arc::clone(&id.instance),
            attributes,
            health: service
                .has_custom_health
                .then(|| known.and_then(|row| row.health).unwrap_or(health)),
            task: None,
            has_names: service.dns.is_some(),
            request: input.creator_request_id.clone(),
            connect: None,
        });
        batch.put(raised(service));
        let kind = MapOperationKind::RegisterInstance;
        let targets = [("INSTANCE", instance.as_str()), ("SERVICE", &*service.id)];
        it.done(view, caller, &mut batch, (kind, &operation), &targets, now);
        Ok((batch, operation.to_string()))
    });
    Ok(api::RegisterInstanceResponse { operation_id: Some(decided.await?) })
}

/// The instances of the service's whole namespace: hosts are told all of them with each change.
fn count_in(view: &View, service: &MapService) -> usize {
    let account = service.scope.account;
    let services = view.map_services_in(account, &service.namespace);
    services
        .map(|each| view.member_count(&Index::MapInstances(account, Arc::clone(&each.id))))
        .sum()
}

fn raised(service: &MapService) -> MapService {
    MapService { revision: service.revision + 1, ..service.clone() }
}

fn check_id(id: &str) -> Result<(), ApiError> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_/:.@-".contains(&byte);
    match (1..=INSTANCE_ID_MAX).contains(&id.len()) && id.bytes().all(is_fit) {
        true => Ok(()),
        false => Err(invalid(format!("{id} is not an id that an instance can have."))),
    }
}

type Attributes = BTreeMap<String, String>;

/// What is kept of the attributes, and with what health an instance begins.
fn read_attributes(
    service: &MapService,
    mut given: Attributes,
) -> Result<(Attributes, MapHealth), ApiError> {
    let letters: usize = given.iter().map(|(key, value)| key.len() + value.len()).sum();
    if ATTRIBUTES_MAX < given.len() || ATTRIBUTES_LEN_MAX < letters {
        return Err(invalid(format!(
            "An instance can have up to {ATTRIBUTES_MAX} attributes of {ATTRIBUTES_LEN_MAX} characters in all."
        )));
    }
    let health = match given.remove(INIT_HEALTH).as_deref() {
        None | Some("HEALTHY") => MapHealth::Healthy,
        Some("UNHEALTHY") => MapHealth::Unhealthy,
        Some(_) => return Err(invalid(format!("{INIT_HEALTH} is HEALTHY or UNHEALTHY."))),
    };
    if let Some(alias) = given.get("AWS_ALIAS_DNS_NAME") {
        return Err(invalid(format!(
            "AWS_ALIAS_DNS_NAME {alias} is not available in this region: register the address."
        )));
    }
    if given.contains_key("AWS_EC2_INSTANCE_ID") && service.dns.is_some() {
        return Err(invalid("AWS_EC2_INSTANCE_ID is for services of HTTP namespaces."));
    }
    let bad = |key: &str| invalid(format!("{key} is not well formed."));
    if given.get("AWS_INSTANCE_IPV4").is_some_and(|it| it.parse::<std::net::Ipv4Addr>().is_err()) {
        return Err(bad("AWS_INSTANCE_IPV4"));
    }
    if given.get("AWS_INSTANCE_IPV6").is_some_and(|it| it.parse::<std::net::Ipv6Addr>().is_err()) {
        return Err(bad("AWS_INSTANCE_IPV6"));
    }
    if given.get("AWS_INSTANCE_PORT").is_some_and(|it| it.parse::<u16>().is_err()) {
        return Err(bad("AWS_INSTANCE_PORT"));
    }
    if given.get("AWS_INSTANCE_CNAME").is_some_and(|it| !is_domain(it)) {
        return Err(bad("AWS_INSTANCE_CNAME"));
    }
    let needs = |kind: MapRecord| service.dns.as_ref().is_some_and(|dns| dns.has(kind));
    let missing = [
        (needs(MapRecord::A), "AWS_INSTANCE_IPV4"),
        (needs(MapRecord::Aaaa), "AWS_INSTANCE_IPV6"),
        (needs(MapRecord::Srv), "AWS_INSTANCE_PORT"),
        (needs(MapRecord::Cname), "AWS_INSTANCE_CNAME"),
    ];
    let addresses = ["AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6"];
    if needs(MapRecord::Srv) && !addresses.iter().any(|key| given.contains_key(*key)) {
        return Err(invalid(
            "The service's SRV record leads to the instance's address: it needs the attribute AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6, or both.",
        ));
    }
    match missing.iter().find(|(is_needed, key)| *is_needed && !given.contains_key(*key)) {
        Some((_, key)) => {
            Err(invalid(format!("The service's DNS records need the attribute {key}.")))
        }
        None => Ok((given, health)),
    }
}

/// Whether it is a name that a record can lead to.
fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_fit);
    name.len() <= 253 && name.split('.').all(is_label)
}

fn find<'v>(
    view: &'v View,
    service: &MapService,
    instance: &str,
) -> Result<&'v Arc<MapInstance>, ApiError> {
    let id = MapInstanceId { service: Arc::clone(&service.id), instance: instance.into() };
    let row = view.map_instances.get(service.scope.account, &id);
    row.ok_or_else(|| no_instance(instance))
}

pub(crate) async fn deregister_instance(
    it: &CloudMap,
    caller: &Caller,
    input: api::DeregisterInstanceRequest,
) -> Result<api::DeregisterInstanceResponse, ApiError> {
    let given = input.service_id.unwrap_or_default();
    let instance = input.instance_id.unwrap_or_default();
    let permission =
        it.permission(caller, "servicediscovery:DeregisterInstance", "service", &given);
    let operation = it.mint_operation();
    let decided = it.control.change(caller, &permission, |view, now| {
        let service = it.service_row(view, caller, &given)?;
        let row = find(view, service, &instance)?;
        let mut batch = Batch::on(view);
        batch.delete(Key::MapInstance(caller.account, row.key()));
        batch.put(raised(service));
        let kind = MapOperationKind::DeregisterInstance;
        let targets = [("INSTANCE", instance.as_str()), ("SERVICE", &*service.id)];
        it.done(view, caller, &mut batch, (kind, &operation), &targets, now);
        Ok((batch, operation.to_string()))
    });
    Ok(api::DeregisterInstanceResponse { operation_id: Some(decided.await?) })
}

pub(crate) async fn get_instance(
    it: &CloudMap,
    caller: &Caller,
    input: api::GetInstanceRequest,
) -> Result<api::GetInstanceResponse, ApiError> {
    let given = input.service_id.unwrap_or_default();
    let permission = it.permission(caller, "servicediscovery:GetInstance", "service", &given);
    let view = it.control.read(caller, &permission)?;
    let service = it.service_row(&view, caller, &given)?;
    let row = find(&view, service, &input.instance_id.unwrap_or_default())?;
    let instance = api::Instance {
        id: Some(row.instance.to_string()),
        creator_request_id: row.request.clone(),
        attributes: Some(row.attributes.clone()),
        ..api::Instance::default()
    };
    Ok(api::GetInstanceResponse {
        instance: Some(instance),
        resource_owner: Some(caller.account.to_string()),
    })
}

pub(crate) async fn list_instances(
    it: &CloudMap,
    caller: &Caller,
    input: api::ListInstancesRequest,
) -> Result<api::ListInstancesResponse, ApiError> {
    let given = input.service_id.unwrap_or_default();
    let permission = it.permission(caller, "servicediscovery:ListInstances", "service", &given);
    let view = it.control.read(caller, &permission)?;
    let service = it.service_row(&view, caller, &given)?;
    let rows = view.map_instances_of(caller.account, &service.id).map(|row| {
        let summary = api::InstanceSummary {
            id: Some(row.instance.to_string()),
            attributes: Some(row.attributes.clone()),
            ..api::InstanceSummary::default()
        };
        (row.instance.to_string(), summary)
    });
    let page = page(input.next_token, input.max_results, rows)?;
    Ok(api::ListInstancesResponse {
        instances: Some(page.items),
        next_token: page.token,
        resource_owner: Some(caller.account.to_string()),
    })
}

pub(crate) fn health(row: &MapInstance) -> api::HealthStatus {
    match row.health {
        Some(MapHealth::Healthy) => api::HealthStatus::Healthy,
        Some(MapHealth::Unhealthy) => api::HealthStatus::Unhealthy,
        None => api::HealthStatus::Unknown_,
    }
}

pub(crate) async fn get_instances_health_status(
    it: &CloudMap,
    caller: &Caller,
    input: api::GetInstancesHealthStatusRequest,
) -> Result<api::GetInstancesHealthStatusResponse, ApiError> {
    let given = input.service_id.unwrap_or_default();
    let action = "servicediscovery:GetInstancesHealthStatus";
    let view = it.control.read(caller, &it.permission(caller, action, "service", &given))?;
    let service = it.service_row(&view, caller, &given)?;
    let named = input.instances.unwrap_or_default();
    for instance in &named {
        find(&view, service, instance)?;
    }
    let rows = view.map_instances_of(caller.account, &service.id);
    let rows = rows.filter(|row| named.is_empty() || named.iter().any(|it| **it == *row.instance));
    let rows = rows.map(|row| {
        let id = row.instance.to_string();
        (id.clone(), (id, health(row)))
    });
    let page = page(input.next_token, input.max_results, rows)?;
    Ok(api::GetInstancesHealthStatusResponse {
        status: Some(page.items.into_iter().collect()),
        next_token: page.token,
    })
}

pub(crate) async fn update_instance_custom_health_status(
    it: &CloudMap,
    caller: &Caller,
    input: api::UpdateInstanceCustomHealthStatusRequest,
) -> Result<(), ApiError> {
    let given = input.service_id.unwrap_or_default();
    let instance = input.instance_id.unwrap_or_default();
    let action = "servicediscovery:UpdateInstanceCustomHealthStatus";
    let permission = it.permission(caller, action, "service", &given);
    let health = match input.status.as_ref() {
        Some(api::CustomHealthStatus::Healthy) => MapHealth::Healthy,
        Some(api::CustomHealthStatus::Unhealthy) => MapHealth::Unhealthy,
        Some(_) | None => return Err(invalid("Status is HEALTHY or UNHEALTHY.")),
    };
    let decided = it.control.change(caller, &permission, |view, _| {
        let service = it.service_row(view, caller, &given)?;
        let row = find(view, service, &instance)?;
        if !service.has_custom_health {
            return Err(no_custom_health(&instance));
        }
        let mut batch = Batch::on(view);
        if row.health != Some(health) {
            batch.put(MapInstance { health: Some(health), ..MapInstance::clone(row) });
        }
        Ok((batch, ()))
    });
    decided.await
}
