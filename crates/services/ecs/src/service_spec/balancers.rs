//! `loadBalancers` of a service: target groups, and which container's port is registered in each.

use aws_wire::ApiError;
use ecs_api as api;
use longshore_types::Scope;
use model::elb::{ElbPath, GroupTargets, arn, path_of};
use model::service::ServiceBalancer;
use model::{Index, NetworkMode, TaskDefinition, View};

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
        if all.contains(&read) {
            let group = arn(scope, "targetgroup", &read.group);
            return refuse(format!("Duplicate targetGroupArn found: {group}"));
        }
        all.push(read);
    }
    Ok(all)
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
    if given.advanced_configuration.is_some() {
        return Err(Refusal::unsupported(
            "advancedConfiguration of loadBalancers is not supported by this region: its deployments are rolling ones.",
        )
        .into());
    }
    let Some(group_arn) = text(&given.target_group_arn) else {
        return refuse("targetGroupArn can not be blank.");
    };
    let path: Option<ElbPath> = path_of(scope, &group_arn)
        .filter(|(kind, _)| *kind == "targetgroup")
        .map(|(_, it)| it.into());
    let group = path.and_then(|path| view.elb_groups.get(scope.account, &path));
    let Some(group) = group else {
        return refuse(format!("The specified target group does not exist. ({group_arn})"));
    };
    let users = Index::ElbUsers(scope.account, group.path());
    if view.members(&users).next().is_none() {
        return refuse(format!(
            "The target group with targetGroupArn {group_arn} does not have an associated load balancer."
        ));
    }
    let is_awsvpc = definition.network_mode == NetworkMode::Awsvpc;
    match (group.targets, is_awsvpc) {
        (GroupTargets::Ip, true) | (GroupTargets::Instance, false) => {}
        (GroupTargets::Instance, true) | (GroupTargets::Ip, false) => {
            let kind = if group.targets == GroupTargets::Ip { "ip" } else { "instance" };
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
    Ok(ServiceBalancer { group: group.path(), container: name, port })
}

/// As answers show them.
pub(crate) fn render_balancers(scope: &Scope, all: &[ServiceBalancer]) -> Vec<api::LoadBalancer> {
    let render = |each: &ServiceBalancer| api::LoadBalancer {
        target_group_arn: Some(arn(scope, "targetgroup", &each.group)),
        container_name: Some(each.container.clone()),
        container_port: Some(i32::from(each.port)),
        ..api::LoadBalancer::default()
    };
    all.iter().map(render).collect()
}
