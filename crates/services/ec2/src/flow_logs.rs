//! CreateFlowLogs, DescribeFlowLogs, DeleteFlowLogs. Records are made by hosts and written by the region (`region::flows`).

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{AccountId, EniId, FlowLogId};
use model::network::{FlowLog, FlowLogOf, LoggedTraffic, flow_fields};
use model::table::Record as _;
use model::{Index, Key, Tags, View};

use crate::Ec2;
use crate::change::{Change, Make, Once, arn, id_of};
use crate::errors::{Kind, Refusal, not_done, unless_dry};
use crate::filter::{Asked, Filters, one, select};
use crate::interfaces;
use crate::limits::{
    FLOW_LOG_FORMAT_CHARS_MAX, FLOW_LOG_RESOURCES_MAX, FLOW_LOGS_MAX, FLOW_LOGS_OF_RESOURCE_MAX,
    LOG_GROUP_CHARS_MAX, ROLE_ARN_CHARS_MAX,
};
use crate::refusal::{NetworkRefusal, unsupported};
use crate::tags;

const INTERVALS_S: [i32; 2] = [60, 600];

/// What every one of the flow logs has that a request makes.
struct Asks {
    traffic: LoggedTraffic,
    group: String,
    role: String,
    interval_s: u32,
    format: Option<String>,
}

pub(crate) async fn create_flow_logs(
    ec2: &Ec2,
    caller: &Caller,
    mut input: api::CreateFlowLogsRequest,
) -> Result<api::CreateFlowLogsResult, ApiError> {
    let client_token = input.client_token.take();
    let once = Once::new(ec2, caller, "CreateFlowLogs", client_token.as_ref(), &input);
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateFlowLogs", "vpc-flow-log", tags);
    let kind = match &input.resource_type {
        Some(api::FlowLogsResourceType::Vpc) => "vpc",
        Some(api::FlowLogsResourceType::Subnet) => "subnet",
        _ => "network-interface",
    };
    let named = input.resource_ids.iter().flatten().map(|id| arn(caller, kind, id));
    let role = input.deliver_logs_permission_arn.as_deref();
    let permission = make
        .permission(caller)
        .on_each(named)
        .passing(role.into_iter().filter(|role| !role.is_empty()), "vpc-flow-logs.amazonaws.com");
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if let Some(ids) = it.made_before(&once)? {
            return Ok((ids, vec![]));
        }
        let tags = make.tags()?;
        let asks = asks(caller, &input)?;
        let ids = input.resource_ids.as_deref().unwrap_or_default();
        if ids.is_empty() {
            return Err(Refusal::Parameter("ResourceId"));
        }
        if ids.len() > FLOW_LOG_RESOURCES_MAX
            || it.network.view().flow_logs.of(it.account).count() + ids.len() > FLOW_LOGS_MAX
        {
            let (code, what) = ("FlowLogsLimitExceeded", "flow logs");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let (mut made, mut unsuccessful) = (Vec::new(), Vec::new());
        let mut named = BTreeSet::new();
        for given in ids {
            let of = resource(it, input.resource_type.as_ref(), given)?;
            let id = of.to_string();
            if !named.insert(id.clone()) {
                unsuccessful.push(already(given));
                continue;
            }
            it.batch.rely(Index::FlowLogs(it.account, id.as_str().into()));
            let others: Vec<_> = it.network.view().flow_logs_of(it.account, &id).collect();
            if others.iter().any(|row| (row.traffic, &row.group) == (asks.traffic, &asks.group)) {
                unsuccessful.push(already(given));
                continue;
            }
            if others.len() >= FLOW_LOGS_OF_RESOURCE_MAX {
                let message = format!(
                    "{given} has {FLOW_LOGS_OF_RESOURCE_MAX} flow logs, and may have no more."
                );
                unsuccessful.push(not_done(given, "FlowLogsLimitExceeded", &message));
                continue;
            }
            let row = begin(it, of, &asks);
            it.tag(row.id.as_str(), &tags);
            made.push(row.id.to_string());
            it.put(row);
        }
        let made = made.join(",");
        if !made.is_empty() {
            it.remember(&once, &made);
        }
        Ok((made, unsuccessful))
    });
    let (made, unsuccessful) = made.await?;
    let ids = made.split(',').filter(|id| !id.is_empty()).map(str::to_owned);
    Ok(api::CreateFlowLogsResult {
        client_token,
        flow_log_ids: Some(ids.collect()),
        unsuccessful: Some(unsuccessful),
    })
}

fn begin(it: &Change<'_>, of: FlowLogOf, asks: &Asks) -> FlowLog {
    FlowLog {
        account: it.account,
        id: FlowLogId::mint(it.ids),
        of,
        traffic: asks.traffic,
        group: asks.group.clone(),
        role: asks.role.clone(),
        interval_s: asks.interval_s,
        format: asks.format.clone(),
        created_at: it.now,
        failure: None,
    }
}

fn already(id: &str) -> api::UnsuccessfulItem {
    let sentence = "There is an existing Flow Log with the same configuration and log destination.";
    not_done(id, "FlowLogAlreadyExists", sentence)
}

fn asks(caller: &Caller, input: &api::CreateFlowLogsRequest) -> Result<Asks, Refusal> {
    let to = input.log_destination_type.as_ref();
    if to.is_some_and(|to| *to != api::LogDestinationType::CloudWatchLogs) {
        return Err(unsupported(
            "LogDestinationType is cloud-watch-logs in this region: neither S3 nor Firehose is here.",
        ));
    }
    let others = [
        ("DeliverCrossAccountRole", input.deliver_cross_account_role.is_some()),
        ("DestinationOptions", input.destination_options.is_some()),
        ("TagFieldSpecifications", input.tag_field_specifications.is_some()),
    ];
    if let Some((name, _)) = others.iter().find(|(_, is_given)| *is_given) {
        return Err(unsupported(format!("{name} is not available in this region.")));
    }
    let traffic = match &input.traffic_type {
        Some(api::TrafficType::Accept) => LoggedTraffic::Accept,
        Some(api::TrafficType::Reject) => LoggedTraffic::Reject,
        Some(api::TrafficType::All) => LoggedTraffic::All,
        Some(other) => {
            let given = other.as_str();
            return Err(Refusal::Value(format!(
                "Value ({given}) for parameter TrafficType is invalid"
            )));
        }
        None => return Err(Refusal::Parameter("TrafficType")),
    };
    let role = input.deliver_logs_permission_arn.clone().filter(|role| !role.is_empty());
    let role = role.ok_or(Refusal::Parameter("DeliverLogsPermissionArn"))?;
    check_chars("DeliverLogsPermissionArn", &role, ROLE_ARN_CHARS_MAX)?;
    let interval = input.max_aggregation_interval.unwrap_or(600);
    if !INTERVALS_S.contains(&interval) {
        return Err(Refusal::Value(format!(
            "Value ({interval}) for parameter MaxAggregationInterval is invalid: it is 60 or 600"
        )));
    }
    let format = input.log_format.clone().filter(|format| !format.trim().is_empty());
    if let Some(format) = &format {
        check_format(format)?;
    }
    let group = group(caller, input)?;
    check_chars("LogGroupName", &group, LOG_GROUP_CHARS_MAX)?;
    Ok(Asks { traffic, group, role, interval_s: u32::try_from(interval).unwrap_or(600), format })
}

fn check_chars(member: &str, given: &str, max: usize) -> Result<(), Refusal> {
    if given.chars().count() <= max {
        return Ok(());
    }
    Err(Refusal::Value(format!("The parameter {member} has at most {max} characters")))
}

/// Every record is as long as its format asks for: one that named a field as often as it likes would have no end.
fn check_format(format: &str) -> Result<(), Refusal> {
    check_chars("LogFormat", format, FLOW_LOG_FORMAT_CHARS_MAX)?;
    let fields = flow_fields(format).map_err(|why| Refusal::Value(why.to_string()))?;
    if fields.is_empty() {
        return Err(Refusal::Value("A LogFormat has at least one field".to_owned()));
    }
    let mut rest = fields.as_slice();
    while let Some((field, after)) = rest.split_first() {
        if after.contains(field) {
            return Err(Refusal::Value(format!("A LogFormat has ${{{field}}} once")));
        }
        rest = after;
    }
    Ok(())
}

/// The log group's name, in whichever of both members.
fn group(caller: &Caller, input: &api::CreateFlowLogsRequest) -> Result<String, Refusal> {
    let name = input.log_group_name.as_deref().filter(|name| !name.is_empty());
    let destination = input.log_destination.as_deref().filter(|arn| !arn.is_empty());
    match (name, destination) {
        (Some(_), Some(_)) => Err(Refusal::Combination(
            "LogDestination and LogGroupName are not given together".to_owned(),
        )),
        (Some(name), None) => Ok(name.to_owned()),
        (None, Some(arn)) => {
            let own = format!("arn:aws:logs:{}:{}:log-group:", caller.region, caller.account);
            let name = arn.strip_prefix(&own).map(|name| name.trim_end_matches(":*"));
            let name = name.filter(|name| !name.is_empty() && !name.contains(':'));
            let wrong = || {
                Refusal::Value(format!(
                    "LogDestination is the ARN of a log group of this account and region, not {arn}"
                ))
            };
            name.map(str::to_owned).ok_or_else(wrong)
        }
        (None, None) => Err(Refusal::OneOf("LogGroupName", "LogDestination")),
    }
}

/// What is logged, which is there.
fn resource(
    it: &mut Change<'_>,
    kind: Option<&api::FlowLogsResourceType>,
    given: &str,
) -> Result<FlowLogOf, Refusal> {
    match kind {
        Some(api::FlowLogsResourceType::Vpc) => Ok(FlowLogOf::Vpc(it.vpc(Some(given))?.id.clone())),
        Some(api::FlowLogsResourceType::Subnet) => {
            Ok(FlowLogOf::Subnet(it.subnet(Some(given))?.id.clone()))
        }
        Some(api::FlowLogsResourceType::NetworkInterface) => {
            let id: EniId = id_of(Kind::NetworkInterface, "networkInterfaceId", Some(given))?;
            let row = interfaces::find(&it.network, &id);
            let row = row.ok_or_else(|| Kind::NetworkInterface.refused()(id.as_str()))?;
            it.batch.rely(interfaces::key(&row));
            Ok(FlowLogOf::Interface(id))
        }
        Some(other) => {
            let why = format!("Flow logs of {} are not available in this region.", other.as_str());
            Err(unsupported(why))
        }
        None => Err(Refusal::Parameter("ResourceType")),
    }
}

/// With what is logged its flow logs go, and what is tagged of them.
pub(crate) fn delete_with(it: &mut Change<'_>, resource: &str) {
    it.batch.rely(Index::FlowLogs(it.account, resource.into()));
    let rows = it.network.view().flow_logs_of(it.account, resource);
    let ids: Vec<FlowLogId> = rows.map(|row| row.id.clone()).collect();
    for id in ids {
        it.delete(Key::FlowLog(it.account, id));
    }
}

fn to_wire(caller: &Caller, row: &FlowLog, tags: Option<&Tags>) -> api::FlowLog {
    api::FlowLog {
        creation_time: Some(row.created_at),
        deliver_logs_error_message: row.failure.clone(),
        deliver_logs_permission_arn: Some(row.role.clone()),
        deliver_logs_status: Some(
            if row.failure.is_some() { "FAILED" } else { "SUCCESS" }.to_owned(),
        ),
        flow_log_id: Some(row.id.to_string()),
        flow_log_status: Some("ACTIVE".to_owned()),
        log_group_name: Some(row.group.clone()),
        log_destination: Some(format!(
            "arn:aws:logs:{}:{}:log-group:{}",
            caller.region, row.account, row.group
        )),
        resource_id: Some(row.of.to_string()),
        traffic_type: Some(match row.traffic {
            LoggedTraffic::Accept => api::TrafficType::Accept,
            LoggedTraffic::Reject => api::TrafficType::Reject,
            LoggedTraffic::All => api::TrafficType::All,
        }),
        log_destination_type: Some(api::LogDestinationType::CloudWatchLogs),
        log_format: Some(row.format().to_owned()),
        max_aggregation_interval: i32::try_from(row.interval_s).ok(),
        tags: Some(tags::to_wire(tags)),
        ..api::FlowLog::default()
    }
}

const FILTERS: Filters<api::FlowLog> = &[
    ("deliver-log-status", |it| one(it.deliver_logs_status.as_ref())),
    ("flow-log-id", |it| one(it.flow_log_id.as_ref())),
    ("log-destination-type", |_| vec!["cloud-watch-logs".to_owned()]),
    ("log-group-name", |it| one(it.log_group_name.as_ref())),
    ("resource-id", |it| one(it.resource_id.as_ref())),
    ("traffic-type", |it| crate::filter::shown(it.traffic_type.as_ref())),
];

pub(crate) async fn describe_flow_logs(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeFlowLogsRequest,
) -> Result<api::DescribeFlowLogsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeFlowLogs").on("*"))?;
    unless_dry(input.dry_run)?;
    let rows = view.flow_logs.of(caller.account);
    let wire = rows.map(|row| to_wire(caller, row, view.tags_on(row.account, row.id.as_str())));
    let asked = Asked {
        kind: Kind::FlowLog,
        ids: input.flow_log_ids.as_deref(),
        filters: input.filter.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (logs, next_token) =
        select(wire.collect(), &asked, |it| it.flow_log_id.as_deref(), FILTERS)?;
    Ok(api::DescribeFlowLogsResult { flow_logs: Some(logs), next_token })
}

pub(crate) async fn delete_flow_logs(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteFlowLogsRequest,
) -> Result<api::DeleteFlowLogsResult, ApiError> {
    let ids = input.flow_log_ids.as_deref().unwrap_or_default();
    let arns = ids.iter().map(|id| arn(caller, "vpc-flow-log", id));
    let permission = Permission::to("ec2:DeleteFlowLogs").on_each(arns);
    let permission = if ids.is_empty() { permission.on("*") } else { permission };
    let deleted = ec2.change(caller, &permission, input.dry_run, |it| {
        if ids.is_empty() {
            return Err(Refusal::Parameter("FlowLogId"));
        }
        let mut unsuccessful = Vec::new();
        for given in ids {
            let found = find(it.network.view(), it.account, given)?;
            match found {
                Some(row) => it.delete(Key::FlowLog(it.account, row.id())),
                None => unsuccessful.push(not_done(
                    given,
                    "InvalidFlowLogId.NotFound",
                    &format!("The flow log ID '{given}' does not exist"),
                )),
            }
        }
        Ok(unsuccessful)
    });
    Ok(api::DeleteFlowLogsResult { unsuccessful: Some(deleted.await?) })
}

fn find(view: &View, account: AccountId, given: &str) -> Result<Option<Arc<FlowLog>>, Refusal> {
    let id: FlowLogId = id_of(Kind::FlowLog, "flowLogId", Some(given))?;
    Ok(view.flow_logs.get(account, &id).cloned())
}

#[cfg(test)]
mod tests {
    use model::network::DEFAULT_FLOW_FORMAT;

    use super::*;

    #[test]
    fn a_format_has_each_field_once() {
        assert!(check_format(DEFAULT_FLOW_FORMAT).is_ok());
        assert!(check_format("${srcaddr}\n${ecs-task-arn}").is_ok());
        for wrong in [" ", "${srcaddr} ${end} ${srcaddr}", "${no-field}"] {
            assert!(check_format(wrong).is_err(), "{wrong}");
        }
        let wide = format!("${{srcaddr}}{}", " ".repeat(FLOW_LOG_FORMAT_CHARS_MAX));
        assert!(check_format(&wide).is_err());
    }
}
