//! `loadBalancers` of a service: target groups, and which container's port is registered in each.

use aws_wire::ApiError;
use control::traffic::forward_of;
use ecs_api as api;
use longshore_types::Scope;
use model::elb::{ElbPath, GroupTargets, arn, balancer_path, path_of};
use model::service::{AlternateGroup, ServiceBalancer, TrafficRule};
use model::{ElbGroup, Index, NetworkMode, TaskDefinition, View};

use crate::errors::Refusal;

const BALANCERS_MAX: usize = 5;

fn refuse<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(Refusal::invalid(message).into())
}

pub(super) fn read(
    view: &View,
    scope: &Scope,
    definition: &TaskDefinition,
    given: &[api::LoadBalancer],
) -> Result<Vec<ServiceBalancer>, ApiError> {
    if BALANCERS_MAX < given.len() {
        return refuse(format!("load balancers can have at most {BALANCERS_MAX} items"));
    }
    let mut all: Vec<ServiceBalancer> = Vec::new();
    for each in given {
        let read = read_one(view, scope, definition, each)?;
        check_distinct(scope, &all, &read)?;
        all.push(read);
    }
    let pairs = all.iter().filter(|each| each.alternate.is_some()).count();
    if pairs != 0 && pairs != all.len() {
        return refuse(
            "Either all or none of the provided loadBalancers must have advancedConfiguration defined",
        );
    }
    Ok(all)
}

/// That no group is meant twice: the same one may offer two ports, but not to two ways of shifting traffic.
fn check_distinct(
    scope: &Scope,
    all: &[ServiceBalancer],
    read: &ServiceBalancer,
) -> Result<(), ApiError> {
    let pair = read.alternate.as_ref();
    let own = |each: &ServiceBalancer| {
        let alternate = each.alternate.as_ref().map(|pair| pair.group.clone());
        std::iter::once(each.group.clone()).chain(alternate).collect::<Vec<_>>()
    };
    let known: Vec<ElbPath> = all.iter().flat_map(own).collect();
    let is_pair = pair.is_some() || all.iter().any(|each| each.alternate.is_some());
    let twice = own(read).into_iter().find(|group| is_pair && known.contains(group));
    let itself = pair.filter(|pair| pair.group == read.group).map(|pair| pair.group.clone());
    let same = all.contains(read).then(|| read.group.clone());
    if let Some(group) = same.or(itself).or(twice) {
        let group = arn(scope, "targetgroup", &group);
        return refuse(format!("Duplicate targetGroupArn found: {group}"));
    }
    let rules = |each: &ServiceBalancer| {
        let pair = each.alternate.iter();
        let rules = pair.flat_map(|pair| std::iter::once(&pair.production).chain(&pair.test));
        rules.cloned().collect::<Vec<_>>()
    };
    let known: Vec<TrafficRule> = all.iter().flat_map(rules).collect();
    match rules(read).iter().find(|rule| known.contains(rule)) {
        Some(rule) => refuse(format!("Duplicate listener rule found: {}", rule.arn(scope))),
        None => Ok(()),
    }
}

fn read_one(
    view: &View,
    scope: &Scope,
    definition: &TaskDefinition,
    given: &api::LoadBalancer,
) -> Result<ServiceBalancer, ApiError> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if text(&given.load_balancer_name).is_some() {
        return Err(Refusal::unsupported(
            "loadBalancerName is not supported by this region: it has no Classic Load Balancers. Use targetGroupArn.",
        )
        .into());
    }
    let Some(group_arn) = text(&given.target_group_arn) else {
        return refuse("targetGroupArn can not be blank.");
    };
    let group = find_group(view, scope, &group_arn)?;
    let users = Index::ElbUsers(scope.account, group.path());
    if view.members(&users).next().is_none() {
        return refuse(format!(
            "The target group with targetGroupArn {group_arn} does not have an associated load balancer."
        ));
    }
    let is_awsvpc = definition.network_mode == NetworkMode::Awsvpc;
    match (group.targets, is_awsvpc) {
        (GroupTargets::Ip, true) | (GroupTargets::Instance, false) => {}
        (GroupTargets::Instance | GroupTargets::Alb, true)
        | (GroupTargets::Ip | GroupTargets::Alb, false) => {
            let kind = match group.targets {
                GroupTargets::Ip => "ip",
                GroupTargets::Instance => "instance",
                GroupTargets::Alb => "alb",
            };
            return refuse(format!(
                "The provided target group {group_arn} has target type {kind}, which is incompatible with the {} \
                 network mode specified in the task definition.",
                definition.network_mode.as_str()
            ));
        }
    }
    let name = text(&given.container_name).unwrap_or_default();
    let container = definition.containers.iter().find(|each| each.name.as_str() == name);
    let Some(container) = container else {
        return refuse(format!("The container {name} does not exist in the task definition."));
    };
    let port = given.container_port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    if !container.ports.iter().any(|each| each.container_port == port) {
        return refuse(format!(
            "The container {name} did not have a container port {} defined.",
            given.container_port.unwrap_or(0)
        ));
    }
    let alternate = given.advanced_configuration.as_ref();
    let alternate = alternate.map(|given| read_pair(view, scope, group, given)).transpose()?;
    Ok(ServiceBalancer { group: group.path(), container: name, port, alternate })
}

fn find_group<'v>(view: &'v View, scope: &Scope, given: &str) -> Result<&'v ElbGroup, ApiError> {
    let path = path_of(scope, given).filter(|(kind, _)| *kind == "targetgroup");
    let group = path.and_then(|(_, path)| view.elb_groups.get(scope.account, &path.into()));
    match group {
        Some(group) => Ok(group),
        None => refuse(format!("The specified target group does not exist. ({given})")),
    }
}

/// `advancedConfiguration` of a balancer with this group.
fn read_pair(
    view: &View,
    scope: &Scope,
    group: &ElbGroup,
    given: &api::AdvancedConfiguration,
) -> Result<AlternateGroup, ApiError> {
    let named = |text: &Option<String>, what: &str| match text.clone() {
        Some(text) if !text.is_empty() => Ok(text),
        _ => refuse(format!("{what} can not be blank.")),
    };
    let alternate = named(&given.alternate_target_group_arn, "alternateTargetGroupArn")?;
    let alternate = find_group(view, scope, &alternate)?;
    for (is_same, what) in [
        (alternate.targets == group.targets, "target type"),
        (alternate.vpc == group.vpc, "VPC"),
        (alternate.protocol == group.protocol, "protocol"),
        (alternate.version == group.version, "protocol version"),
    ] {
        if !is_same {
            return refuse(format!(
                "The target groups {} and {} must have the same {what}.",
                group.arn(),
                alternate.arn()
            ));
        }
    }
    let production = named(&given.production_listener_rule, "productionListenerRule")?;
    let production = read_rule(view, scope, "productionListenerRule", &production)?;
    let test = given.test_listener_rule.as_ref().filter(|text| !text.is_empty());
    let test = test.map(|text| read_rule(view, scope, "testListenerRule", text)).transpose()?;
    if test.as_ref() == Some(&production) {
        return refuse(format!(
            "The following rules cannot be used as both production and test listener rules: {}",
            production.arn(scope)
        ));
    }
    if let Some(test) =
        test.as_ref().filter(|test| balancer_path(test.path()) != balancer_path(production.path()))
    {
        return refuse(format!(
            "productionListenerRule {} and testListenerRule {} must be of the same load balancer.",
            production.arn(scope),
            test.arn(scope)
        ));
    }
    let forward = forward_of(view, scope.account, &production).unwrap_or_default();
    let is_both = [group.path(), alternate.path()]
        .iter()
        .all(|path| forward.iter().any(|each| each.group == *path));
    if test.is_none() && !is_both && matches!(production, TrafficRule::Rule(_)) {
        return refuse(
            "For Application LoadBalancer, testListenerRule is required when productionListenerRule is not associated \
             with both targetGroup and alternateTargetGroup",
        );
    }
    let role = named(&given.role_arn, "roleArn")?;
    if !role.starts_with("arn:aws:iam::") || !role.contains(":role/") {
        return refuse(format!("Invalid roleArn: {role}"));
    }
    Ok(AlternateGroup { group: alternate.path(), production, test, role })
}

fn read_rule(view: &View, scope: &Scope, what: &str, given: &str) -> Result<TrafficRule, ApiError> {
    let rule = match path_of(scope, given) {
        Some(("listener-rule", path)) if path.starts_with("app/") => TrafficRule::Rule(path.into()),
        Some(("listener", path)) if path.starts_with("net/") => TrafficRule::Listener(path.into()),
        _ => {
            return refuse(format!(
                "{what} has an invalid ARN format. Must be RuleArn for ALB or ListenerArn for NLB. Got: {given}"
            ));
        }
    };
    match forward_of(view, scope.account, &rule) {
        Some(_) => Ok(rule),
        None => {
            refuse(format!("{what} {given} does not exist, or does not forward to target groups."))
        }
    }
}

/// That traffic is not left behind in the other group of a pair that a service no longer names.
pub(crate) fn check_left(
    scope: &Scope,
    before: &[ServiceBalancer],
    chosen: &[ElbPath],
    next: &[ServiceBalancer],
) -> Result<(), ApiError> {
    let serving = before.iter().zip(chosen).filter(|(each, _)| each.alternate.is_some());
    for (each, group) in serving {
        let is_named = next.iter().any(|it| it.has(group));
        let other = next.iter().find(|it| it.has(&each.group) || each.has(&it.group));
        if let Some(other) = other.filter(|_| !is_named) {
            return refuse(format!(
                "The tasks of the service are in the target group {} now, and the update would move them to {} without \
                 shifting traffic. Name the one that serves, or keep advancedConfiguration.",
                arn(scope, "targetgroup", group),
                arn(scope, "targetgroup", &other.group)
            ));
        }
    }
    Ok(())
}

/// As answers show them.
pub(crate) fn render_balancers(scope: &Scope, all: &[ServiceBalancer]) -> Vec<api::LoadBalancer> {
    let render = |each: &ServiceBalancer| api::LoadBalancer {
        target_group_arn: Some(arn(scope, "targetgroup", &each.group)),
        container_name: Some(each.container.clone()),
        container_port: Some(i32::from(each.port)),
        advanced_configuration: each.alternate.as_ref().map(|pair| api::AdvancedConfiguration {
            alternate_target_group_arn: Some(arn(scope, "targetgroup", &pair.group)),
            production_listener_rule: Some(pair.production.arn(scope)),
            test_listener_rule: pair.test.as_ref().map(|rule| rule.arn(scope)),
            role_arn: Some(pair.role.clone()),
        }),
        ..api::LoadBalancer::default()
    };
    all.iter().map(render).collect()
}
