//! DiscoverInstances: what a service has, by the names of it and its namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use model::{MapInstance, MapNamespace, MapService, View};
use servicediscovery_api as api;

use crate::CloudMap;
use crate::errors::{invalid, no_namespace, no_service};
use crate::instances::health;
use crate::limits::DISCOVERED_DEFAULT;

fn find<'v>(
    view: &'v View,
    caller: &Caller,
    namespace: &str,
    service: &str,
) -> Result<(&'v Arc<MapNamespace>, &'v Arc<MapService>), ApiError> {
    let mut namespaces = view.map_namespaces.of(caller.account);
    let found = namespaces.find(|row| row.name == namespace || row.arn() == namespace);
    let row = found.ok_or_else(|| no_namespace(namespace))?;
    let mut services = view.map_services_in(caller.account, &row.id);
    let found = services.find(|each| each.name == service || each.arn() == service);
    Ok((row, found.ok_or_else(|| no_service(service))?))
}

fn permission(action: &'static str, namespace: &str, service: &str) -> Permission {
    Permission::to(action)
        .on("*")
        .with("servicediscovery:NamespaceName", namespace.to_owned())
        .with("servicediscovery:ServiceName", service.to_owned())
}

fn check_owner(caller: &Caller, owner: Option<&String>) -> Result<(), ApiError> {
    match owner.filter(|owner| owner.as_str() != caller.account.as_str()) {
        None => Ok(()),
        Some(_) => Err(invalid("Namespaces of other accounts are not shared in this region.")),
    }
}

/// Those that the filter lets through.
fn filtered<'v>(
    rows: Vec<&'v Arc<MapInstance>>,
    service: &MapService,
    filter: Option<&api::HealthStatusFilter>,
) -> Vec<&'v Arc<MapInstance>> {
    if !service.has_custom_health {
        return rows;
    }
    let of = |is_healthy: bool| -> Vec<&'v Arc<MapInstance>> {
        rows.iter().copied().filter(|row| row.is_healthy() == is_healthy).collect()
    };
    match filter {
        Some(api::HealthStatusFilter::All) => rows,
        Some(api::HealthStatusFilter::Healthy) => of(true),
        Some(api::HealthStatusFilter::Unhealthy) => of(false),
        Some(_) | None => match of(true) {
            healthy if healthy.is_empty() => rows,
            healthy => healthy,
        },
    }
}

fn has(row: &MapInstance, asked: &BTreeMap<String, String>) -> bool {
    asked.iter().all(|(key, value)| row.attributes.get(key) == Some(value))
}

pub(crate) async fn discover_instances(
    it: &CloudMap,
    caller: &Caller,
    input: api::DiscoverInstancesRequest,
) -> Result<api::DiscoverInstancesResponse, ApiError> {
    let namespace = input.namespace_name.unwrap_or_default();
    let name = input.service_name.unwrap_or_default();
    let action = "servicediscovery:DiscoverInstances";
    let view = it.control.read(caller, &permission(action, &namespace, &name))?;
    check_owner(caller, input.owner_account.as_ref())?;
    let (namespace, service) = find(&view, caller, &namespace, &name)?;
    let query = input.query_parameters.unwrap_or_default();
    let rows = view.map_instances_of(caller.account, &service.id);
    // One that is to stop is led nothing new to.
    let drains =
        |row: &MapInstance| row.connect.as_ref().is_some_and(|it| it.drains_until.is_some());
    let rows: Vec<_> = rows.filter(|row| has(row, &query) && !drains(row)).collect();
    let mut rows = filtered(rows, service, input.health_status.as_ref());
    // They narrow the choice only if something is left.
    let optional = input.optional_parameters.unwrap_or_default();
    if rows.iter().any(|row| has(row, &optional)) {
        rows.retain(|row| has(row, &optional));
    }
    let most = input.max_results.and_then(|it| usize::try_from(it).ok());
    let most = most.unwrap_or(DISCOVERED_DEFAULT).max(1);
    shuffle(&mut rows, it);
    let instances = rows.into_iter().take(most).map(|row| api::HttpInstanceSummary {
        instance_id: Some(row.instance.to_string()),
        namespace_name: Some(namespace.name.clone()),
        service_name: Some(service.name.clone()),
        health_status: Some(health(row)),
        attributes: Some(row.attributes.clone()),
    });
    Ok(api::DiscoverInstancesResponse {
        instances: Some(instances.collect()),
        instances_revision: i64::try_from(service.revision).ok(),
    })
}

/// In an order of its own each time, so that clients that take the first ones share the load.
fn shuffle<T>(rows: &mut [T], it: &CloudMap) {
    let mut drawn = [0_u8; 8];
    drawn.copy_from_slice(&it.control.ids.id16()[..8]);
    let mut state = u64::from_be_bytes(drawn) | 1;
    for place in (1..rows.len()).rev() {
        // Xorshift: orders need to differ, not to be secret.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bound = u64::try_from(place + 1).unwrap_or(u64::MAX);
        rows.swap(place, usize::try_from(state % bound).unwrap_or(place));
    }
}

pub(crate) async fn discover_instances_revision(
    it: &CloudMap,
    caller: &Caller,
    input: api::DiscoverInstancesRevisionRequest,
) -> Result<api::DiscoverInstancesRevisionResponse, ApiError> {
    let namespace = input.namespace_name.unwrap_or_default();
    let name = input.service_name.unwrap_or_default();
    let action = "servicediscovery:DiscoverInstancesRevision";
    let view = it.control.read(caller, &permission(action, &namespace, &name))?;
    check_owner(caller, input.owner_account.as_ref())?;
    let (_, service) = find(&view, caller, &namespace, &name)?;
    let instances_revision = i64::try_from(service.revision).ok();
    Ok(api::DiscoverInstancesRevisionResponse { instances_revision })
}
