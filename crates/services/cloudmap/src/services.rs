//! Services of namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use model::discovery::{self, MapDns, MapOperationKind, MapRecord};
use model::{Index, Key, MapNamespace, MapService, View};
use servicediscovery_api as api;
use store::Batch;

use crate::errors::{in_use, invalid, limit, named};
use crate::limits::SERVICES_MAX;
use crate::namespaces::{is_left_behind, is_value};
use crate::pages::page;
use crate::{CloudMap, tags};

pub(crate) async fn create_service(
    it: &CloudMap,
    caller: &Caller,
    input: api::CreateServiceRequest,
) -> Result<api::CreateServiceResponse, ApiError> {
    let tags = tags::read(input.tags.as_deref())?;
    let dns = input.dns_config.as_ref();
    let given = input.namespace_id.clone().or_else(|| dns.and_then(|dns| dns.namespace_id.clone()));
    let given = given.unwrap_or_default();
    let scope = it.control.scope(caller);
    let any = discovery::arn(&scope, "service", "*");
    let permission = it
        .permission(caller, "servicediscovery:CreateService", "namespace", &given)
        .tagging_new(caller, "servicediscovery:TagResource", any, &tags);
    let id = it.mint("srv-");
    let name = input.name.clone().unwrap_or_default();
    let decided = it.control.change(caller, &permission, |view, now| {
        let namespace = it.namespace(view, caller, &given)?;
        let dns = read_dns(namespace, &input)?;
        check_name(&name, dns.is_some())?;
        check_health(&input)?;
        let account = caller.account;
        let is_same = |row: &&Arc<MapService>| row.name.eq_ignore_ascii_case(&name);
        let mut services = view.map_services_in(account, &namespace.id);
        if let Some(row) = services.find(is_same) {
            let is_again = input.creator_request_id.is_some()
                && row.request == input.creator_request_id
                && row.dns == dns;
            if is_again {
                return Ok((Batch::on(view), Arc::clone(row)));
            }
            let message = format!("A service with the name {name} exists already: {}.", row.id);
            return Err(named("ServiceAlreadyExists", message));
        }
        if SERVICES_MAX <= view.map_services.of(account).count() {
            return Err(limit(format!("An account can have up to {SERVICES_MAX} services.")));
        }
        let row = Arc::new(MapService {
            scope: scope.clone(),
            id: Arc::clone(&id),
            namespace: Arc::clone(&namespace.id),
            name: name.clone(),
            description: input.description.clone(),
            dns,
            has_custom_health: input.health_check_custom_config.is_some(),
            created_at: now,
            request: input.creator_request_id.clone(),
            revision: 1,
            attributes: BTreeMap::new(),
            tags: tags.clone(),
            connect: None,
        });
        let mut batch = Batch::on(view);
        batch.rely(Key::MapNamespace(account, Arc::clone(&namespace.id)));
        batch.rely(Index::MapServices(account, Arc::clone(&namespace.id)));
        batch.put(Arc::clone(&row));
        Ok((batch, row))
    });
    let row = decided.await?;
    let view = it.control.view();
    Ok(api::CreateServiceResponse { service: Some(render(&view, &row)) })
}

fn read_dns(
    namespace: &MapNamespace,
    input: &api::CreateServiceRequest,
) -> Result<Option<MapDns>, ApiError> {
    let is_http = input.r#type == Some(api::ServiceTypeOption::Http);
    let Some(given) = &input.dns_config else {
        return match namespace.is_dns() && !is_http {
            true => Err(invalid("A service in a DNS namespace has a DnsConfig, or the type HTTP.")),
            false => Ok(None),
        };
    };
    if !namespace.is_dns() || is_http {
        return Err(invalid(
            "A DnsConfig is for services of DNS namespaces that have not the type HTTP.",
        ));
    }
    let records = read_records(given.dns_records.as_deref().unwrap_or_default())?;
    let is_weighted = given.routing_policy == Some(api::RoutingPolicy::Weighted);
    if !is_weighted && records.iter().any(|(kind, _)| *kind == MapRecord::Cname) {
        return Err(invalid("A service with a CNAME record has the RoutingPolicy WEIGHTED."));
    }
    Ok(Some(MapDns { is_weighted, records }))
}

/// A, AAAA and SRV, each once, or CNAME alone.
pub(crate) fn read_records(given: &[api::DnsRecord]) -> Result<Vec<(MapRecord, u32)>, ApiError> {
    let mut records: Vec<(MapRecord, u32)> = Vec::new();
    for each in given {
        let kind = match each.r#type.as_ref() {
            Some(api::RecordType::A) => MapRecord::A,
            Some(api::RecordType::Aaaa) => MapRecord::Aaaa,
            Some(api::RecordType::Srv) => MapRecord::Srv,
            Some(api::RecordType::Cname) => MapRecord::Cname,
            Some(other) => return Err(invalid(format!("There are no records of type {other}."))),
            None => return Err(invalid("A DNS record has a type.")),
        };
        let ttl = each.ttl.and_then(|ttl| u32::try_from(ttl).ok());
        let ttl = ttl.ok_or_else(|| invalid("A TTL is between 0 and 2147483647 seconds."))?;
        if records.iter().any(|(known, _)| *known == kind) {
            return Err(invalid(format!("The type {} is given twice.", kind.as_str())));
        }
        records.push((kind, ttl));
    }
    if records.is_empty() {
        return Err(invalid("A DnsConfig has at least one DNS record."));
    }
    if 1 < records.len() && records.iter().any(|(kind, _)| *kind == MapRecord::Cname) {
        return Err(invalid("A CNAME record stands alone: take the records of other types away."));
    }
    Ok(records)
}

fn check_name(name: &str, has_names: bool) -> Result<(), ApiError> {
    let is_label = |label: &str| {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_fit)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_host = name.len() <= 127 && name.split('.').all(is_label);
    let is_printed =
        (1..=127).contains(&name.len()) && name.bytes().all(|it| it.is_ascii_graphic());
    match if has_names { is_host } else { is_printed } {
        true => Ok(()),
        false => Err(invalid(format!("{name} is not a name that a service can have."))),
    }
}

fn check_health(input: &api::CreateServiceRequest) -> Result<(), ApiError> {
    if input.health_check_config.is_some() {
        return Err(invalid(
            "HealthCheckConfig is for public DNS namespaces, which this region does not have: use \
             HealthCheckCustomConfig.",
        ));
    }
    Ok(())
}

fn kind(row: &MapService) -> api::ServiceType {
    match row.dns {
        Some(_) => api::ServiceType::DnsHttp,
        None => api::ServiceType::Http,
    }
}

fn dns_config(row: &MapService) -> Option<api::DnsConfig> {
    let dns = row.dns.as_ref()?;
    let record = |(kind, ttl): &(MapRecord, u32)| api::DnsRecord {
        r#type: Some(kind.as_str().into()),
        ttl: Some(i64::from(*ttl)),
    };
    Some(api::DnsConfig {
        namespace_id: Some(row.namespace.to_string()),
        routing_policy: Some(match dns.is_weighted {
            true => api::RoutingPolicy::Weighted,
            false => api::RoutingPolicy::Multivalue,
        }),
        dns_records: Some(dns.records.iter().map(record).collect()),
    })
}

fn custom_health(row: &MapService) -> Option<api::HealthCheckCustomConfig> {
    row.has_custom_health.then_some(api::HealthCheckCustomConfig { failure_threshold: Some(1) })
}

fn count(view: &View, row: &MapService) -> i32 {
    let instances = Index::MapInstances(row.scope.account, Arc::clone(&row.id));
    i32::try_from(view.member_count(&instances)).unwrap_or(i32::MAX)
}

fn render(view: &View, row: &MapService) -> api::Service {
    api::Service {
        id: Some(row.id.to_string()),
        arn: Some(row.arn()),
        resource_owner: Some(row.scope.account.to_string()),
        name: Some(row.name.clone()),
        namespace_id: Some(row.namespace.to_string()),
        description: row.description.clone(),
        instance_count: Some(count(view, row)),
        dns_config: dns_config(row),
        r#type: Some(kind(row)),
        health_check_custom_config: custom_health(row),
        create_date: Some(row.created_at),
        creator_request_id: row.request.clone(),
        ..api::Service::default()
    }
}

pub(crate) async fn get_service(
    it: &CloudMap,
    caller: &Caller,
    input: api::GetServiceRequest,
) -> Result<api::GetServiceResponse, ApiError> {
    let given = input.id.unwrap_or_default();
    let permission = it.permission(caller, "servicediscovery:GetService", "service", &given);
    let view = it.control.read(caller, &permission)?;
    let row = it.service_row(&view, caller, &given)?;
    Ok(api::GetServiceResponse { service: Some(render(&view, row)) })
}

pub(crate) async fn list_services(
    it: &CloudMap,
    caller: &Caller,
    input: api::ListServicesRequest,
) -> Result<api::ListServicesResponse, ApiError> {
    let permission = Permission::to("servicediscovery:ListServices").on("*");
    let view = it.control.read(caller, &permission)?;
    let filters = input.filters.unwrap_or_default();
    let is_asked = |row: &MapService| {
        filters.iter().all(|filter| {
            let values = filter.values.as_deref().unwrap_or_default();
            match filter.name.as_ref() {
                Some(api::ServiceFilterName::NamespaceId) => {
                    is_value(filter.condition.as_ref(), values, &row.namespace)
                }
                Some(api::ServiceFilterName::ResourceOwner) => values.iter().any(|it| it == "SELF"),
                Some(_) | None => false,
            }
        })
    };
    let rows = view.map_services.of(caller.account).filter(|row| is_asked(row)).map(|row| {
        let summary = api::ServiceSummary {
            id: Some(row.id.to_string()),
            arn: Some(row.arn()),
            resource_owner: Some(caller.account.to_string()),
            name: Some(row.name.clone()),
            r#type: Some(kind(row)),
            description: row.description.clone(),
            instance_count: Some(count(&view, row)),
            dns_config: dns_config(row),
            health_check_custom_config: custom_health(row),
            create_date: Some(row.created_at),
            ..api::ServiceSummary::default()
        };
        (row.id.to_string(), summary)
    });
    let page = page(input.next_token, input.max_results, rows)?;
    Ok(api::ListServicesResponse { services: Some(page.items), next_token: page.token })
}

pub(crate) async fn update_service(
    it: &CloudMap,
    caller: &Caller,
    input: api::UpdateServiceRequest,
) -> Result<api::UpdateServiceResponse, ApiError> {
    let given = input.id.unwrap_or_default();
    let change = input.service.unwrap_or_default();
    let permission = it.permission(caller, "servicediscovery:UpdateService", "service", &given);
    let operation = it.mint_operation();
    let decided = it.control.change(caller, &permission, |view, now| {
        let mut row = MapService::clone(it.service_row(view, caller, &given)?);
        if change.health_check_config.is_some() {
            return Err(invalid("HealthCheckConfig is for public DNS namespaces."));
        }
        if change.description.is_some() {
            row.description.clone_from(&change.description);
        }
        let records = change.dns_config.as_ref().map(|it| it.dns_records.as_deref());
        if let Some(given) = records {
            let given = read_records(given.unwrap_or_default())?;
            let Some(dns) = &mut row.dns else {
                return Err(invalid("The service has no DNS records."));
            };
            let kinds = |all: &[(MapRecord, u32)]| {
                let mut kinds: Vec<MapRecord> = all.iter().map(|(kind, _)| *kind).collect();
                kinds.sort_unstable();
                kinds
            };
            if kinds(&dns.records) != kinds(&given) {
                return Err(invalid("The types of a service's DNS records stay as they were."));
            }
            dns.records = given;
        }
        let mut batch = Batch::on(view);
        let kind = MapOperationKind::UpdateService;
        it.done(view, caller, &mut batch, (kind, &operation), &[("SERVICE", &row.id)], now);
        batch.put(row);
        Ok((batch, operation.to_string()))
    });
    Ok(api::UpdateServiceResponse { operation_id: Some(decided.await?) })
}

pub(crate) async fn delete_service(
    it: &CloudMap,
    caller: &Caller,
    input: api::DeleteServiceRequest,
) -> Result<api::DeleteServiceResponse, ApiError> {
    let given = input.id.unwrap_or_default();
    let permission = it.permission(caller, "servicediscovery:DeleteService", "service", &given);
    let decided = it.control.change(caller, &permission, |view, _| {
        let row = it.service_row(view, caller, &given)?;
        let instances = Index::MapInstances(caller.account, Arc::clone(&row.id));
        if view.members(&instances).next().is_some() {
            return Err(in_use("The service has instances: deregister them first."));
        }
        let mut batch = Batch::on(view);
        if let Some(made) = &row.connect {
            // Nobody would make it again: the ECS service's revision names it by its id.
            if !is_left_behind(view, row) {
                let message = format!("The ECS service {} offers it.", made.owner.name);
                return Err(in_use(message));
            }
            batch.rely(Key::Service(caller.account, made.owner.clone()));
        }
        batch.rely(instances);
        batch.delete(Key::MapService(caller.account, Arc::clone(&row.id)));
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::DeleteServiceResponse {})
}
