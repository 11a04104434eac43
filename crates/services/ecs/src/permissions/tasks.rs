//! What starting tasks, or having them started, takes besides the action itself: passing the roles of the task
//! definition, tagging what is made, and the condition keys that say what the tasks are like.

use std::collections::BTreeSet;

use aws_wire::Caller;
use control::{Permission, is_root};
use ecs_api as api;
use model::{Tags, TaskDefinition, View};

use super::CLUSTER;
use crate::Ecs;
use crate::service_spec::connect::meant_namespace;
use crate::task_definition::{parse_cpu, parse_memory, role_arn};

/// Whom the roles of tasks are passed to.
const TASKS: &str = "ecs-tasks.amazonaws.com";
/// Whom the roles are passed to that rules of load balancers are changed with, and tasks of hooks run.
const SCHEDULER: &str = "ecs.amazonaws.com";

/// What a request says of tasks, as far as policies ask for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TaskRequest<'a> {
    pub(crate) cluster: Option<&'a str>,
    pub(crate) task_definition: Option<&'a str>,
    pub(crate) overrides: Option<&'a api::TaskOverride>,
    pub(crate) strategy: Option<&'a [api::CapacityProviderStrategyItem]>,
    pub(crate) network: Option<&'a api::NetworkConfiguration>,
    pub(crate) enable_execute_command: Option<bool>,
    pub(crate) enable_ecs_managed_tags: Option<bool>,
    pub(crate) propagate_tags: Option<&'a api::PropagateTags>,
    pub(crate) load_balancers: Option<&'a [api::LoadBalancer]>,
    pub(crate) connect: Option<&'a api::ServiceConnectConfiguration>,
    pub(crate) hooks: &'a [api::DeploymentLifecycleHook],
}

/// The lifecycle hooks that a request names.
pub(crate) fn hooks_of(
    given: Option<&api::DeploymentConfiguration>,
) -> &[api::DeploymentLifecycleHook] {
    given.and_then(|given| given.lifecycle_hooks.as_deref()).unwrap_or_default()
}

impl Ecs {
    /// RunTask and StartTask, which are on the revision of the task definition that is meant now.
    pub(crate) fn starting(
        &self,
        view: &View,
        caller: &Caller,
        action: &'static str,
        asked: &TaskRequest<'_>,
        tags: &Tags,
    ) -> Permission {
        if is_root(caller) {
            return self.on(
                caller,
                action,
                "task-definition",
                asked.task_definition.map(str::to_owned).as_ref(),
            );
        }
        let (definition, row) = self.definition_named(view, caller, asked.task_definition);
        let cluster = self.cluster_text(caller, asked.cluster);
        let tasks = format!("task/{}", cluster.rsplit('/').next().unwrap_or_default());
        let permission = self.of_tasks(Permission::to(action).on(definition), caller, asked, row);
        let permission = pass_roles(permission, caller, row, asked.overrides);
        self.tagging(caller, permission, self.arn_text(caller, &tasks, "*"), tags)
    }

    /// CreateService, UpdateService and CreateTaskSet: `permission` is on what the tasks are of. Roles are passed where a
    /// task definition is named.
    pub(crate) fn having_started(
        &self,
        view: &View,
        caller: &Caller,
        permission: Permission,
        asked: &TaskRequest<'_>,
    ) -> Permission {
        if is_root(caller) {
            return permission;
        }
        let mut permission = permission;
        let mut row = None;
        if asked.task_definition.is_some_and(|given| !given.is_empty()) {
            let (definition, found) = self.definition_named(view, caller, asked.task_definition);
            permission = permission.with("ecs:task-definition", definition);
            row = found;
        }
        let pairs = asked.load_balancers.unwrap_or_default().iter();
        let pairs = pairs.filter_map(|each| each.advanced_configuration.as_ref());
        let roles: BTreeSet<&str> = pairs.filter_map(|pair| pair.role_arn.as_deref()).collect();
        let offered = asked.connect.filter(|connect| connect.enabled == Some(true));
        let offered = offered.into_iter().flat_map(|connect| connect.services.iter().flatten());
        let tls = offered.filter_map(|each| each.tls.as_ref()?.role_arn.as_deref());
        let of_hooks = asked.hooks.iter().filter_map(|hook| hook.role_arn.as_deref());
        let roles: BTreeSet<&str> = roles.into_iter().chain(tls).chain(of_hooks).collect();
        let permission = permission.passing(roles, SCHEDULER);
        let permission = self.of_service(permission, asked);
        let permission = self.of_connect(view, caller, permission, asked);
        let permission = self.of_tasks(permission, caller, asked, row);
        pass_roles(permission, caller, row, None)
    }

    /// A new revision of a family.
    pub(crate) fn registering(
        &self,
        view: &View,
        caller: &Caller,
        row: &TaskDefinition,
        is_privileged: bool,
    ) -> Permission {
        const ACTION: &str = "ecs:RegisterTaskDefinition";
        if is_root(caller) {
            return self.on(caller, ACTION, "task-definition", [&row.id.family.to_string()]);
        }
        let family = &row.id.family;
        let last = view.families.get(caller.account, family).map_or(0, |row| row.last_revision);
        let next = format!("{family}:{}", last.saturating_add(1));
        let arn = self.arn_text(caller, "task-definition", &next);
        let mut permission = Permission::to(ACTION).on(arn.clone());
        if !row.requires_compatibilities.is_empty() {
            let kinds = row.requires_compatibilities.iter().map(|kind| kind.as_str());
            permission = permission.with_list("ecs:compute-compatibility", kinds);
        }
        let privileged = if is_privileged { "true" } else { "false" };
        let permission = of_size(permission.with("ecs:privileged", privileged), Some(row), None);
        let permission = pass_roles(permission, caller, Some(row), None);
        self.tagging(caller, permission, arn, &row.tags)
    }

    /// With tags, whoever makes something must also be allowed to tag it.
    pub(crate) fn tagging(
        &self,
        caller: &Caller,
        permission: Permission,
        arn: String,
        tags: &Tags,
    ) -> Permission {
        permission.tagging_new(caller, "ecs:TagResource", arn, tags)
    }

    fn definition_named<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        given: Option<&str>,
    ) -> (String, Option<&'v TaskDefinition>) {
        let given = given.unwrap_or_default();
        match self.task_definition(view, caller, given) {
            Ok(row) => (row.arn(&self.control.config.region).to_string(), Some(row)),
            // Whether there is such a one is for the decision to say.
            Err(_) => (self.arn_text(caller, "task-definition", given), None),
        }
    }

    fn of_tasks(
        &self,
        permission: Permission,
        caller: &Caller,
        asked: &TaskRequest<'_>,
        row: Option<&TaskDefinition>,
    ) -> Permission {
        let mut permission = permission.with(CLUSTER, self.cluster_text(caller, asked.cluster));
        let execute = asked.enable_execute_command.unwrap_or(false);
        permission = permission
            .with("ecs:enable-execute-command", if execute { "true" } else { "false" })
            .with("ecs:enable-ebs-volumes", "false");
        let names = asked.strategy.unwrap_or_default();
        let names = names.iter().filter_map(|item| item.capacity_provider.as_deref());
        let providers: Vec<String> =
            names.map(|name| self.arn_text(caller, "capacity-provider", name)).collect();
        if !providers.is_empty() {
            permission = permission.with_list("ecs:capacity-provider", providers);
        }
        of_size(permission, row, asked.overrides)
    }

    /// Whether the tasks are in a namespace, and in which; it is the cluster's if none is named.
    fn of_connect(
        &self,
        view: &View,
        caller: &Caller,
        permission: Permission,
        asked: &TaskRequest<'_>,
    ) -> Permission {
        let Some(connect) = asked.connect else { return permission };
        let is_on = connect.enabled == Some(true);
        let permission = permission.with("ecs:enable-service-connect", is_on);
        let cluster = || self.cluster(view, caller, asked.cluster).ok().map(AsRef::as_ref);
        let (scope, given) = (self.control.scope(caller), connect.namespace.as_deref());
        let namespace = meant_namespace(view, &scope, given, cluster);
        match namespace.filter(|_| is_on) {
            Some(namespace) => permission.with("ecs:namespace", namespace.arn()),
            None => permission,
        }
    }

    fn of_service(&self, permission: Permission, asked: &TaskRequest<'_>) -> Permission {
        let mut permission = permission;
        if let Some(is_on) = asked.enable_ecs_managed_tags {
            permission = permission.with("ecs:enable-ecs-managed-tags", is_on);
        }
        if let Some(from) = asked.propagate_tags {
            permission = permission.with("ecs:propagate-tags", from.as_str().to_owned());
        }
        let network = asked.network.and_then(|network| network.awsvpc_configuration.as_ref());
        let Some(network) = network else { return permission };
        let is_public = network.assign_public_ip == Some(api::AssignPublicIp::Enabled);
        let subnets = network.subnets.clone().unwrap_or_default();
        permission.with("ecs:auto-assign-public-ip", is_public).with_list("ecs:subnet", subnets)
    }
}

/// The size of tasks: the task's, where the definition or the overrides say it.
fn of_size(
    permission: Permission,
    row: Option<&TaskDefinition>,
    overrides: Option<&api::TaskOverride>,
) -> Permission {
    let cpu = overrides.and_then(|it| parse_cpu(it.cpu.as_deref()?).ok());
    let memory = overrides.and_then(|it| parse_memory(it.memory.as_deref()?).ok());
    let mut permission = permission;
    if let Some(cpu) = cpu.or(row.and_then(|row| row.cpu)) {
        permission = permission.with("ecs:task-cpu", i64::from(cpu.0));
    }
    if let Some(memory) = memory.or(row.and_then(|row| row.memory)) {
        permission = permission.with("ecs:task-memory", i64::from(memory.0));
    }
    permission
}

/// The roles of a task definition, and those that a request puts in their place, are passed to its tasks.
fn pass_roles(
    permission: Permission,
    caller: &Caller,
    row: Option<&TaskDefinition>,
    overrides: Option<&api::TaskOverride>,
) -> Permission {
    let defined = row.into_iter().flat_map(|row| [&row.task_role, &row.execution_role]);
    let given = overrides.into_iter().flat_map(|it| [&it.task_role_arn, &it.execution_role_arn]);
    let mut roles: Vec<String> = Vec::new();
    for role in defined.chain(given).flatten().filter(|role| !role.is_empty()) {
        let arn = role_arn(caller.account, role.clone());
        if !roles.contains(&arn) {
            roles.push(arn);
        }
    }
    permission.passing(roles.iter().map(String::as_str), TASKS)
}
