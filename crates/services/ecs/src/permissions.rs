//! What a request asks to do, and to what, as policies name it.
//!
//! Names become ARNs as text: whether there is such a thing, and whether its name is well formed, is for
//! the decision to say.

mod tasks;
#[cfg(test)]
mod tests;

use aws_wire::Caller;
use control::{Permission, is_root};

use crate::Ecs;

pub(crate) use tasks::{TaskRequest, hooks_of};

/// The condition key of an action within a cluster.
const CLUSTER: &str = "ecs:cluster";

/// An action of a root user, who may do it: what it is on matters to the audit log alone.
fn for_root(
    caller: &Caller,
    action: &'static str,
    arns: impl Iterator<Item = String>,
) -> Permission {
    match caller.origin.trail.is_on() {
        true => Permission::to(action).naming(arns),
        false => Permission::to(action),
    }
}

impl Ecs {
    /// An action on a cluster.
    pub(crate) fn on_cluster(
        &self,
        caller: &Caller,
        action: &'static str,
        cluster: Option<&str>,
    ) -> Permission {
        Permission::to(action).on(self.cluster_text(caller, cluster))
    }

    /// An action on nothing by name, within a cluster.
    pub(crate) fn in_cluster(
        &self,
        caller: &Caller,
        action: &'static str,
        cluster: Option<&str>,
    ) -> Permission {
        Permission::to(action).on("*").with(CLUSTER, self.cluster_text(caller, cluster))
    }

    /// An action on what is of an account itself: `capacity-provider`, `task-definition`.
    pub(crate) fn on<'n>(
        &self,
        caller: &Caller,
        action: &'static str,
        kind: &str,
        names: impl IntoIterator<Item = &'n String>,
    ) -> Permission {
        let start = self.arn_start(caller, kind);
        let arns = names.into_iter().map(|name| arn_text(&start, name));
        match is_root(caller) {
            true => for_root(caller, action, arns),
            false => Permission::to(action).on_each(arns),
        }
    }

    /// An action on what is of a cluster: `task`, `service`, `container-instance`.
    pub(crate) fn within<'n>(
        &self,
        caller: &Caller,
        action: &'static str,
        kind: &str,
        cluster: Option<&str>,
        names: impl IntoIterator<Item = &'n String>,
    ) -> Permission {
        if is_root(caller) && !caller.origin.trail.is_on() {
            return Permission::to(action);
        }
        let text = self.cluster_text(caller, cluster);
        let name = text.rsplit('/').next().unwrap_or_default();
        let kind = format!("{kind}/{name}");
        let start = self.arn_start(caller, &kind);
        let arns = names.into_iter().map(|each| arn_text(&start, each));
        match is_root(caller) {
            true => for_root(caller, action, arns),
            false => Permission::to(action).on_each(arns).with(CLUSTER, text.clone()),
        }
    }

    /// An action on a task set, which is a service's.
    pub(crate) fn on_task_sets<'n>(
        &self,
        caller: &Caller,
        action: &'static str,
        cluster: Option<&str>,
        service: Option<&str>,
        names: impl IntoIterator<Item = &'n String>,
    ) -> Permission {
        if is_root(caller) {
            return Permission::to(action);
        }
        let (cluster, service) = (self.cluster_text(caller, cluster), service.unwrap_or_default());
        let name = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
        let kind = format!("task-set/{}/{}", name(&cluster), name(service));
        let of = self.arn_text(caller, &format!("service/{}", name(&cluster)), service);
        let names = names.into_iter().map(|each| self.arn_text(caller, &kind, each));
        Permission::to(action).on_each(names).with(CLUSTER, cluster).with("ecs:service", of)
    }

    /// A request that names the instances it is about: a condition, and not what it is on.
    pub(crate) fn on_instances(
        &self,
        caller: &Caller,
        permission: Permission,
        cluster: Option<&str>,
        named: &[String],
    ) -> Permission {
        if is_root(caller) || named.is_empty() {
            return permission;
        }
        let cluster = self.cluster_text(caller, cluster);
        let kind = format!("container-instance/{}", cluster.rsplit('/').next().unwrap_or_default());
        let arns = named.iter().map(|each| self.arn_text(caller, &kind, each));
        permission.with_list("ecs:container-instances", arns.collect::<Vec<_>>())
    }

    /// A request that names capacity providers: a condition.
    pub(crate) fn about_providers(
        &self,
        caller: &Caller,
        permission: Permission,
        names: &[String],
    ) -> Permission {
        if is_root(caller) || names.is_empty() {
            return permission;
        }
        let arns = names.iter().map(|each| self.arn_text(caller, "capacity-provider", each));
        permission.with_list("ecs:capacity-provider", arns.collect::<Vec<_>>())
    }

    /// The names and ARNs of attributes' targets.
    pub(crate) fn on_targets<'n>(
        &self,
        caller: &Caller,
        action: &'static str,
        cluster: Option<&str>,
        targets: impl IntoIterator<Item = &'n String>,
    ) -> Permission {
        self.within(caller, action, "container-instance", cluster, targets)
    }

    fn cluster_text(&self, caller: &Caller, given: Option<&str>) -> String {
        let given = given.filter(|given| !given.is_empty()).unwrap_or("default");
        self.arn_text(caller, "cluster", given)
    }

    fn arn_text(&self, caller: &Caller, kind: &str, given: &str) -> String {
        arn_text(&self.arn_start(caller, kind), given)
    }

    /// What the ARNs of a kind begin with.
    fn arn_start(&self, caller: &Caller, kind: &str) -> String {
        let region = &self.control.config.region;
        format!("arn:aws:ecs:{region}:{}:{kind}/", caller.account)
    }
}

/// The ARN of what a decision will look up for `given`. Of an ARN that a caller wrote only the name counts
/// there: were it asked about as it was written, another spelling would pass by a policy that names it.
fn arn_text(start: &str, given: &str) -> String {
    let name = match given.starts_with("arn:") {
        true => given.rsplit('/').next().unwrap_or_default(),
        false => given,
    };
    [start, name].concat()
}
