//! Namespaces: made, changed, shown and deleted.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::VpcId;
use model::discovery::{self, MapOperationKind, NAMESPACES_MAX, NamespaceKind};
use model::service::ServiceStatus;
use model::{Index, Key, MapNamespace, MapOperation, MapService, Tags, View};
use servicediscovery_api as api;
use store::Batch;

use crate::errors::{in_use, invalid, limit, named};
use crate::limits::SOA_TTL_S;
use crate::pages::page;
use crate::{CloudMap, tags};

/// What a namespace is made of.
struct New {
    name: String,
    kind: NamespaceKind,
    request: Option<String>,
    description: Option<String>,
    tags: Tags,
}

fn ttl(given: Option<i64>) -> Result<u32, ApiError> {
    given.map_or(Ok(SOA_TTL_S), |ttl| {
        u32::try_from(ttl).map_err(|_| invalid("A TTL is between 0 and 2147483647 seconds."))
    })
}

pub(crate) async fn create_http_namespace(
    it: &CloudMap,
    caller: &Caller,
    input: api::CreateHttpNamespaceRequest,
) -> Result<api::CreateHttpNamespaceResponse, ApiError> {
    let name = input.name.unwrap_or_default();
    let action = "servicediscovery:CreateHttpNamespace";
    it.control.read(caller, &Permission::to(action).on("*"))?;
    if !is_http_name(&name) {
        return Err(invalid(format!("{name} is not a name that an HTTP namespace can have.")));
    }
    let new = New {
        name,
        kind: NamespaceKind::Http,
        request: input.creator_request_id,
        description: input.description,
        tags: tags::read(input.tags.as_deref())?,
    };
    let id = create(it, caller, action, new).await?;
    Ok(api::CreateHttpNamespaceResponse { operation_id: Some(id) })
}

pub(crate) async fn create_private_dns_namespace(
    it: &CloudMap,
    caller: &Caller,
    input: api::CreatePrivateDnsNamespaceRequest,
) -> Result<api::CreatePrivateDnsNamespaceResponse, ApiError> {
    let name = input.name.unwrap_or_default();
    let action = "servicediscovery:CreatePrivateDnsNamespace";
    it.control.read(caller, &Permission::to(action).on("*"))?;
    if !is_zone(&name) {
        return Err(invalid(format!(
            "{name} is not a name that a private DNS namespace can have."
        )));
    }
    let given = input.vpc.unwrap_or_default();
    let soa = input.properties.and_then(|it| it.dns_properties).and_then(|it| it.soa);
    let view = it.control.view();
    let network = it.control.network(&view, caller.account);
    let vpc: Option<VpcId> = given.parse().ok();
    let is_there = |id: &VpcId| network.vpc(id).is_some();
    let Some(vpc) = vpc.filter(is_there) else {
        return Err(invalid(format!("The VPC {given} does not exist in this account.")));
    };
    let zone: String = it.mint("").to_ascii_uppercase().chars().take(14).collect();
    let new = New {
        name,
        kind: NamespaceKind::PrivateDns {
            vpc,
            zone: format!("Z{zone}"),
            soa_ttl_s: ttl(soa.and_then(|soa| soa.ttl))?,
        },
        request: input.creator_request_id,
        description: input.description,
        tags: tags::read(input.tags.as_deref())?,
    };
    let id = create(it, caller, action, new).await?;
    Ok(api::CreatePrivateDnsNamespaceResponse { operation_id: Some(id) })
}

/// What the model's pattern says; its look-ahead is not for the engine that requests are checked with.
fn is_http_name(name: &str) -> bool {
    (1..=1024).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && !name.starts_with("arn:")
}

/// Labels of letters, digits, hyphens and underscores.
fn is_zone(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_fit)
    };
    name.len() <= 253 && name.strip_suffix('.').unwrap_or(name).split('.').all(is_label)
}

async fn create(
    it: &CloudMap,
    caller: &Caller,
    action: &'static str,
    new: New,
) -> Result<String, ApiError> {
    let (id, operation) = (it.mint("ns-"), it.mint_operation());
    let scope = it.control.scope(caller);
    let any = discovery::arn(&scope, "namespace", "*");
    let permission = Permission::to(action).on("*").tagging_new(
        caller,
        "servicediscovery:TagResource",
        any,
        &new.tags,
    );
    let decided = it.control.change(caller, &permission, |view, now| {
        let same = view.map_namespaces.of(caller.account).find(|row| is_taken(row, &new));
        if let Some(row) = same {
            if let Some(made) = made_before(view, row, &new) {
                return Ok((Batch::on(view), made.id.to_string()));
            }
            return Err(named(
                "NamespaceAlreadyExists",
                format!("A namespace with the name {} exists already: {}.", new.name, row.id),
            ));
        }
        if NAMESPACES_MAX <= view.map_namespaces.of(caller.account).count() {
            return Err(limit(format!("An account can have up to {NAMESPACES_MAX} namespaces.")));
        }
        let mut batch = Batch::on(view);
        batch.rely(Index::MapNamespaces(caller.account));
        batch.put(MapNamespace {
            scope: scope.clone(),
            id: Arc::clone(&id),
            name: new.name.clone(),
            kind: new.kind.clone(),
            description: new.description.clone(),
            created_at: now,
            request: new.request.clone().unwrap_or_else(|| operation.to_string()),
            tags: new.tags.clone(),
        });
        let kind = MapOperationKind::CreateNamespace;
        it.done(view, caller, &mut batch, (kind, &operation), &[("NAMESPACE", &id)], now);
        Ok((batch, operation.to_string()))
    });
    decided.await
}

/// Whether a namespace has the name that another one is to have. Those of DNS know no case, and end with a dot or not.
fn is_taken(row: &MapNamespace, new: &New) -> bool {
    let bare = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    let are_dns = row.is_dns() && matches!(new.kind, NamespaceKind::PrivateDns { .. });
    row.name == new.name || (are_dns && bare(&row.name) == bare(&new.name))
}

/// The operation that made a namespace for the very request that asks for it again: SDKs do if they heard no answer.
fn made_before<'v>(view: &'v View, row: &MapNamespace, new: &New) -> Option<&'v MapOperation> {
    let is_same_kind = match (&row.kind, &new.kind) {
        (NamespaceKind::Http, NamespaceKind::Http) => true,
        (NamespaceKind::PrivateDns { vpc: one, .. }, NamespaceKind::PrivateDns { vpc, .. }) => {
            one == vpc
        }
        (NamespaceKind::Http | NamespaceKind::PrivateDns { .. }, _) => false,
    };
    if !is_same_kind || row.name != new.name || new.request.as_ref() != Some(&row.request) {
        return None;
    }
    let mut all = view.map_operations.of(row.scope.account);
    let made = all.find(|each| {
        let is_its = each.targets.get("NAMESPACE").is_some_and(|id| **id == *row.id);
        is_its && each.kind == MapOperationKind::CreateNamespace
    });
    made.map(AsRef::as_ref)
}

fn properties(row: &MapNamespace) -> api::NamespaceProperties {
    let dns = match &row.kind {
        NamespaceKind::Http => None,
        NamespaceKind::PrivateDns { zone, soa_ttl_s, .. } => Some(api::DnsProperties {
            hosted_zone_id: Some(zone.clone()),
            soa: Some(api::SOA { ttl: Some(i64::from(*soa_ttl_s)) }),
        }),
    };
    let http_properties = Some(api::HttpProperties { http_name: Some(row.name.clone()) });
    api::NamespaceProperties { dns_properties: dns, http_properties }
}

fn kind(row: &MapNamespace) -> api::NamespaceType {
    match row.kind {
        NamespaceKind::Http => api::NamespaceType::Http,
        NamespaceKind::PrivateDns { .. } => api::NamespaceType::DnsPrivate,
    }
}

fn count(view: &View, row: &MapNamespace) -> i32 {
    let services = Index::MapServices(row.scope.account, Arc::clone(&row.id));
    i32::try_from(view.member_count(&services)).unwrap_or(i32::MAX)
}

pub(crate) async fn get_namespace(
    it: &CloudMap,
    caller: &Caller,
    input: api::GetNamespaceRequest,
) -> Result<api::GetNamespaceResponse, ApiError> {
    let given = input.id.unwrap_or_default();
    let permission = it.permission(caller, "servicediscovery:GetNamespace", "namespace", &given);
    let view = it.control.read(caller, &permission)?;
    let row = it.namespace(&view, caller, &given)?;
    let namespace = api::Namespace {
        id: Some(row.id.to_string()),
        arn: Some(row.arn()),
        resource_owner: Some(caller.account.to_string()),
        name: Some(row.name.clone()),
        r#type: Some(kind(row)),
        description: row.description.clone(),
        service_count: Some(count(&view, row)),
        properties: Some(properties(row)),
        create_date: Some(row.created_at),
        creator_request_id: Some(row.request.clone()),
    };
    Ok(api::GetNamespaceResponse { namespace: Some(namespace) })
}

/// Whether a value is one that a filter names.
pub(crate) fn is_value(
    condition: Option<&api::FilterCondition>,
    values: &[String],
    value: &str,
) -> bool {
    match condition {
        Some(api::FilterCondition::BeginsWith) => values.iter().any(|it| value.starts_with(it)),
        Some(_) | None => values.iter().any(|it| it == value),
    }
}

pub(crate) async fn list_namespaces(
    it: &CloudMap,
    caller: &Caller,
    input: api::ListNamespacesRequest,
) -> Result<api::ListNamespacesResponse, ApiError> {
    let permission = Permission::to("servicediscovery:ListNamespaces").on("*");
    let view = it.control.read(caller, &permission)?;
    let filters = input.filters.unwrap_or_default();
    let is_asked = |row: &MapNamespace| {
        filters.iter().all(|filter| {
            let values = filter.values.as_deref().unwrap_or_default();
            let condition = filter.condition.as_ref();
            match filter.name.as_ref() {
                Some(api::NamespaceFilterName::Type) => {
                    is_value(condition, values, kind(row).as_str())
                }
                Some(api::NamespaceFilterName::Name | api::NamespaceFilterName::HttpName) => {
                    is_value(condition, values, &row.name)
                }
                Some(api::NamespaceFilterName::ResourceOwner) => {
                    values.iter().any(|it| it == "SELF")
                }
                Some(_) | None => false,
            }
        })
    };
    let rows = view.map_namespaces.of(caller.account).filter(|row| is_asked(row)).map(|row| {
        let summary = api::NamespaceSummary {
            id: Some(row.id.to_string()),
            arn: Some(row.arn()),
            resource_owner: Some(caller.account.to_string()),
            name: Some(row.name.clone()),
            r#type: Some(kind(row)),
            description: row.description.clone(),
            service_count: Some(count(&view, row)),
            properties: Some(properties(row)),
            create_date: Some(row.created_at),
        };
        (row.id.to_string(), summary)
    });
    let page = page(input.next_token, input.max_results, rows)?;
    Ok(api::ListNamespacesResponse { namespaces: Some(page.items), next_token: page.token })
}

pub(crate) async fn update_http_namespace(
    it: &CloudMap,
    caller: &Caller,
    input: api::UpdateHttpNamespaceRequest,
) -> Result<api::UpdateHttpNamespaceResponse, ApiError> {
    let given = input.id.unwrap_or_default();
    let description = input.namespace.and_then(|change| change.description);
    let action = "servicediscovery:UpdateHttpNamespace";
    let id = update(it, caller, action, &given, description, None, false).await?;
    Ok(api::UpdateHttpNamespaceResponse { operation_id: Some(id) })
}

pub(crate) async fn update_private_dns_namespace(
    it: &CloudMap,
    caller: &Caller,
    input: api::UpdatePrivateDnsNamespaceRequest,
) -> Result<api::UpdatePrivateDnsNamespaceResponse, ApiError> {
    let given = input.id.unwrap_or_default();
    let change = input.namespace.unwrap_or_default();
    let soa = change.properties.and_then(|it| it.dns_properties).and_then(|it| it.soa);
    let soa_ttl_s = soa.map(|soa| ttl(soa.ttl)).transpose()?;
    let action = "servicediscovery:UpdatePrivateDnsNamespace";
    let id = update(it, caller, action, &given, change.description, soa_ttl_s, true).await?;
    Ok(api::UpdatePrivateDnsNamespaceResponse { operation_id: Some(id) })
}

async fn update(
    it: &CloudMap,
    caller: &Caller,
    action: &'static str,
    given: &str,
    description: Option<String>,
    ttl_s: Option<u32>,
    is_dns: bool,
) -> Result<String, ApiError> {
    let permission = it.permission(caller, action, "namespace", given);
    let operation = it.mint_operation();
    let decided = it.control.change(caller, &permission, |view, now| {
        let known = it.namespace(view, caller, given)?;
        if known.is_dns() != is_dns {
            return Err(invalid(format!("The namespace {given} is of another type.")));
        }
        let mut row = MapNamespace::clone(known);
        if description.is_some() {
            row.description.clone_from(&description);
        }
        if let (NamespaceKind::PrivateDns { soa_ttl_s, .. }, Some(ttl_s)) = (&mut row.kind, ttl_s) {
            *soa_ttl_s = ttl_s;
        }
        let mut batch = Batch::on(view);
        let kind = MapOperationKind::UpdateNamespace;
        it.done(view, caller, &mut batch, (kind, &operation), &[("NAMESPACE", &row.id)], now);
        batch.put(row);
        Ok((batch, operation.to_string()))
    });
    decided.await
}

pub(crate) async fn delete_namespace(
    it: &CloudMap,
    caller: &Caller,
    input: api::DeleteNamespaceRequest,
) -> Result<api::DeleteNamespaceResponse, ApiError> {
    let given = input.id.unwrap_or_default();
    let permission = it.permission(caller, "servicediscovery:DeleteNamespace", "namespace", &given);
    let operation = it.mint_operation();
    let decided = it.control.change(caller, &permission, |view, now| {
        let row = it.namespace(view, caller, &given)?;
        let services = Index::MapServices(caller.account, Arc::clone(&row.id));
        let rows: Vec<_> = view.map_services_in(caller.account, &row.id).collect();
        if rows.iter().any(|service| !is_left_behind(view, service)) {
            return Err(in_use("The namespace has services: delete them first."));
        }
        let mut batch = Batch::on(view);
        batch.rely(services);
        for service in rows {
            batch.rely(Index::MapInstances(caller.account, Arc::clone(&service.id)));
            batch.delete(Key::MapService(caller.account, Arc::clone(&service.id)));
        }
        batch.delete(Key::MapNamespace(caller.account, Arc::clone(&row.id)));
        let kind = MapOperationKind::DeleteNamespace;
        it.done(view, caller, &mut batch, (kind, &operation), &[("NAMESPACE", &row.id)], now);
        Ok((batch, operation.to_string()))
    });
    Ok(api::DeleteNamespaceResponse { operation_id: Some(decided.await?) })
}

/// Whether ECS made it for a service that is over, and is about to take it away.
pub(crate) fn is_left_behind(view: &View, row: &MapService) -> bool {
    let Some(made) = &row.connect else { return false };
    let owner = view.services.get(row.scope.account, &made.owner);
    let is_over = owner.is_none_or(|owner| owner.status == ServiceStatus::Inactive);
    let instances = Index::MapInstances(row.scope.account, Arc::clone(&row.id));
    is_over && view.member_count(&instances) == 0
}
