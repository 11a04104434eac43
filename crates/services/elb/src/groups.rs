//! Target groups.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::linked;
use control::targets::remove_targets;
use elb_api as api;
use longshore_types::VpcId;
use model::elb::{
    self, Attributes, BalancerKind, ElbProtocol, GroupTargets, GroupVersion, TargetId,
    balancer_path,
};
use model::{ElbGroup, Index, Key, Tags, View};
use store::Batch;

use crate::balancers::check_name;
use crate::check::{self, Asked};
use crate::errors::{Refusal, invalid};
use crate::limits::{GROUPS_MAX, NAMED_MAX, TARGETS_AT_ONCE_MAX};
use crate::listeners::{read_port, read_protocol};
use crate::pages::page;
use crate::targets::of_group;
use crate::{Elb, actions, tags};

pub(crate) async fn create_target_group(
    it: &Elb,
    caller: &Caller,
    input: api::CreateTargetGroupInput,
) -> Result<api::CreateTargetGroupOutput, ApiError> {
    let tags = tags::read(input.tags.as_deref())?;
    let name = input.name.clone().unwrap_or_default();
    let digits = it.digits();
    let arn = elb::arn(&it.control.scope(caller), "targetgroup", &format!("{name}/*"));
    let permission = Permission::to("elasticloadbalancing:CreateTargetGroup")
        .on(arn.clone())
        .tagging_new(caller, "elasticloadbalancing:AddTags", arn, &tags);
    let decided = it.control.change(caller, &permission, |view, now| {
        check_name("Target group", &name)?;
        let mut row = read(it, view, caller, &input, &name, &tags)?;
        let account = caller.account;
        let mut batch = Batch::on(view);
        if let Some(known) = view.elb_groups.of(account).find(|known| known.name == name) {
            // Its attributes are no part of what it was created with.
            row.digits.clone_from(&known.digits);
            row.attributes.clone_from(&known.attributes);
            row.created_at = known.created_at;
            return match row == **known {
                true => Ok((batch, render(view, known))),
                false => Err(Refusal::GroupDiffers(name.clone()).into()),
            };
        }
        if GROUPS_MAX <= view.elb_groups.of(account).count() {
            return Err(Refusal::TooMany("TargetGroups", GROUPS_MAX).into());
        }
        (row.digits, row.created_at) = (digits.clone(), now);
        let rendered = render(view, &row);
        it.control.make_linked(view, caller, linked::BALANCERS, now, &mut batch);
        batch.rely(Key::Vpc(account, row.vpc.clone()));
        batch.put(row);
        Ok((batch, rendered))
    });
    Ok(api::CreateTargetGroupOutput { target_groups: Some(vec![decided.await?]) })
}

/// The group that is asked for, without digits.
fn read(
    it: &Elb,
    view: &View,
    caller: &Caller,
    input: &api::CreateTargetGroupInput,
    name: &str,
    tags: &Tags,
) -> Result<ElbGroup, ApiError> {
    let targets = match input.target_type.as_ref() {
        None | Some(api::TargetTypeEnum::Instance) => GroupTargets::Instance,
        Some(api::TargetTypeEnum::Ip) => GroupTargets::Ip,
        Some(api::TargetTypeEnum::Alb) => GroupTargets::Alb,
        Some(api::TargetTypeEnum::Lambda) => {
            let message = "The target type 'lambda' is not available in this region; choose 'instance', 'ip' or 'alb'";
            return Err(Refusal::Unsupported(message.to_owned()).into());
        }
        Some(other) => {
            return invalid(format!(
                "1 validation error detected: Value '{other}' at 'targetType' failed to satisfy constraint: Member \
                 must satisfy enum value set: [instance, ip, lambda, alb]"
            ));
        }
    };
    if input
        .ip_address_type
        .as_ref()
        .is_some_and(|it| *it != api::TargetGroupIpAddressTypeEnum::Ipv4)
    {
        let message =
            "The IP address type must be 'ipv4': the subnets of this region have no IPv6 addresses";
        return Err(Refusal::Unsupported(message.to_owned()).into());
    }
    if input.target_control_port.is_some() {
        let message = "TargetControlPort is not available in this region";
        return Err(Refusal::Unsupported(message.to_owned()).into());
    }
    let Some(protocol) = read_protocol(input.protocol.as_ref())? else {
        return invalid("A protocol must be specified");
    };
    if targets == GroupTargets::Alb && protocol != ElbProtocol::Tcp {
        let name = protocol.as_str();
        return Err(Refusal::Configuration(format!(
            "Target groups with the target type 'alb' must have the protocol TCP; '{name}' is not supported"
        ))
        .into());
    }
    let port = read_port(input.port, "port")?;
    let vpc = read_vpc(it, view, caller, input.vpc_id.as_deref())?;
    let version = read_version(protocol, input.protocol_version.as_deref())?;
    let asked = Asked {
        protocol: input.health_check_protocol.as_ref(),
        port: input.health_check_port.as_deref(),
        path: input.health_check_path.as_deref(),
        is_enabled: input.health_check_enabled,
        interval_s: input.health_check_interval_seconds,
        timeout_s: input.health_check_timeout_seconds,
        healthy: input.healthy_threshold_count,
        unhealthy: input.unhealthy_threshold_count,
        matcher: input.matcher.as_ref(),
    };
    Ok(ElbGroup {
        scope: it.control.scope(caller),
        name: name.to_owned(),
        digits: String::new(),
        protocol,
        port,
        version,
        targets,
        vpc,
        check: check::read(&asked, (protocol, targets), version, None)?,
        attributes: Attributes::new(),
        tags: tags.clone(),
        created_at: longshore_types::Timestamp(0),
    })
}

fn read_vpc(
    it: &Elb,
    view: &View,
    caller: &Caller,
    given: Option<&str>,
) -> Result<VpcId, ApiError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return invalid("A VPC ID must be specified");
    };
    let network = it.control.network(view, caller.account);
    match given.parse().ok().and_then(|id| network.vpc(&id)) {
        Some(vpc) => Ok(vpc.id.clone()),
        None => invalid(format!("The VPC ID '{given}' is not found")),
    }
}

fn read_version(
    protocol: ElbProtocol,
    given: Option<&str>,
) -> Result<Option<GroupVersion>, ApiError> {
    let given = given.filter(|given| !given.is_empty());
    if protocol.kind() == BalancerKind::Network {
        return match given {
            None => Ok(None),
            Some(_) => {
                let name = protocol.as_str();
                invalid(format!(
                    "The protocol version is not supported for target groups with the protocol {name}"
                ))
            }
        };
    }
    match given {
        None | Some("HTTP1") => Ok(Some(GroupVersion::Http1)),
        Some("HTTP2") => Ok(Some(GroupVersion::Http2)),
        Some("GRPC") => Ok(Some(GroupVersion::Grpc)),
        Some(other) => {
            invalid(format!("The protocol version '{other}' must be one of [GRPC, HTTP1, HTTP2]"))
        }
    }
}

pub(crate) fn render(view: &View, row: &ElbGroup) -> api::TargetGroup {
    let account = row.scope.account;
    let users = view.members(&Index::ElbUsers(account, row.path()));
    let balancers = users.filter_map(|key| match key {
        Key::ElbListener(_, path) | Key::ElbRule(_, path) => Some(balancer_path(path)),
        _ => None,
    });
    let mut balancers: Vec<String> =
        balancers.map(|path| elb::arn(&row.scope, "loadbalancer", path)).collect();
    balancers.sort();
    balancers.dedup();
    let number = |number: u32| i32::try_from(number).ok();
    let check = &row.check;
    let is_grpc = row.version == Some(GroupVersion::Grpc);
    let codes = check.matcher.clone();
    api::TargetGroup {
        target_group_arn: Some(row.arn()),
        target_group_name: Some(row.name.clone()),
        protocol: Some(row.protocol.as_str().into()),
        port: Some(i32::from(row.port)),
        vpc_id: Some(row.vpc.to_string()),
        health_check_protocol: Some(check.protocol.as_str().into()),
        health_check_port: Some(
            check.port.map_or_else(|| "traffic-port".to_owned(), |port| port.to_string()),
        ),
        health_check_enabled: Some(true),
        health_check_interval_seconds: number(check.interval_s),
        health_check_timeout_seconds: number(check.timeout_s),
        healthy_threshold_count: number(check.healthy_count),
        unhealthy_threshold_count: number(check.unhealthy_count),
        health_check_path: check.path.clone(),
        // There is none of checks by TCP.
        matcher: codes.map(|codes| match is_grpc {
            true => api::Matcher { http_code: None, grpc_code: Some(codes) },
            false => api::Matcher { http_code: Some(codes), grpc_code: None },
        }),
        load_balancer_arns: Some(balancers),
        target_type: Some(match row.targets {
            GroupTargets::Instance => api::TargetTypeEnum::Instance,
            GroupTargets::Ip => api::TargetTypeEnum::Ip,
            GroupTargets::Alb => api::TargetTypeEnum::Alb,
        }),
        protocol_version: row.version.map(|version| version.as_str().to_owned()),
        ip_address_type: Some(api::TargetGroupIpAddressTypeEnum::Ipv4),
        target_control_port: None,
    }
}

pub(crate) async fn describe_target_groups(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeTargetGroupsInput,
) -> Result<api::DescribeTargetGroupsOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeTargetGroups")?;
    let arns = input.target_group_arns.unwrap_or_default();
    let names = input.names.unwrap_or_default();
    let given = [input.load_balancer_arn.is_some(), !arns.is_empty(), !names.is_empty()];
    if 1 < given.iter().filter(|is_given| **is_given).count() {
        return invalid(
            "Only one of a load balancer ARN, target group ARNs and names can be specified",
        );
    }
    if NAMED_MAX < arns.len().max(names.len()) {
        return invalid(format!("Up to {NAMED_MAX} target groups can be described at once"));
    }
    let mut rows: Vec<&Arc<ElbGroup>> = Vec::new();
    for arn in &arns {
        rows.push(it.group(&view, caller, arn).map_err(|_| Refusal::NoGroups)?);
    }
    for name in &names {
        let found = view.elb_groups.of(caller.account).find(|row| row.name == *name);
        rows.push(found.ok_or(Refusal::NoGroups)?);
    }
    if let Some(arn) = &input.load_balancer_arn {
        let own = it.balancer(&view, caller, arn)?.path();
        rows.extend(view.elb_groups.of(caller.account).filter(|row| {
            actions::users(&view, caller, &row.path()).any(|user| balancer_path(&user) == &*own)
        }));
    } else if arns.is_empty() && names.is_empty() {
        rows.extend(view.elb_groups.of(caller.account));
    }
    rows.sort_by_key(|row| row.path());
    rows.dedup_by_key(|row| row.path());
    let rows = rows.into_iter().map(|row| (row.path(), render(&view, row)));
    let page = page(input.marker, input.page_size, rows)?;
    Ok(api::DescribeTargetGroupsOutput {
        target_groups: Some(page.items),
        next_marker: page.marker,
    })
}

pub(crate) async fn modify_target_group(
    it: &Elb,
    caller: &Caller,
    input: api::ModifyTargetGroupInput,
) -> Result<api::ModifyTargetGroupOutput, ApiError> {
    let arn = input.target_group_arn.clone().unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:ModifyTargetGroup").on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        let known = it.group(view, caller, &arn)?;
        let asked = Asked {
            protocol: input.health_check_protocol.as_ref(),
            port: input.health_check_port.as_deref(),
            path: input.health_check_path.as_deref(),
            is_enabled: input.health_check_enabled,
            interval_s: input.health_check_interval_seconds,
            timeout_s: input.health_check_timeout_seconds,
            healthy: input.healthy_threshold_count,
            unhealthy: input.unhealthy_threshold_count,
            matcher: input.matcher.as_ref(),
        };
        let kind = (known.protocol, known.targets);
        let check = check::read(&asked, kind, known.version, Some(&known.check))?;
        let row = ElbGroup { check, ..ElbGroup::clone(known) };
        let rendered = render(view, &row);
        let mut batch = Batch::on(view);
        if row != **known {
            batch.put(row);
        }
        Ok((batch, rendered))
    });
    Ok(api::ModifyTargetGroupOutput { target_groups: Some(vec![decided.await?]) })
}

pub(crate) async fn delete_target_group(
    it: &Elb,
    caller: &Caller,
    input: api::DeleteTargetGroupInput,
) -> Result<api::DeleteTargetGroupOutput, ApiError> {
    let arn = input.target_group_arn.unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:DeleteTargetGroup").on(arn.clone());
    let account = caller.account;
    // Each target may have a task that goes on to stop: a group of many goes in several steps, the last of which is that it
    // is gone.
    loop {
        let decided = it.control.change(caller, &permission, |view, now| {
            let mut batch = Batch::on(view);
            // One that is not there counts as deleted.
            let Ok(row) = it.group(view, caller, &arn) else { return Ok((batch, true)) };
            let users = Index::ElbUsers(account, row.path());
            if view.members(&users).next().is_some() {
                return Err(Refusal::GroupInUse(arn.clone()).into());
            }
            batch.rely(users);
            let targets = of_group(view, account, &row.path());
            let ids: Vec<TargetId> =
                targets.map(|row| row.id.clone()).take(TARGETS_AT_ONCE_MAX).collect();
            batch.rely(Index::ElbTargets(account, row.path()));
            remove_targets(view, &mut batch, account, &ids, now);
            let is_last = ids.len() < TARGETS_AT_ONCE_MAX;
            if is_last {
                batch.delete(Key::ElbGroup(account, row.path()));
            }
            Ok((batch, is_last))
        });
        if decided.await? {
            return Ok(api::DeleteTargetGroupOutput {});
        }
    }
}
