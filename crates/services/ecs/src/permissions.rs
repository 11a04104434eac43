//! What a request asks to do, and to what, as policies name it.
//!
//! Names become ARNs as text: whether there is such a thing, and whether its name is well formed, is for
//! the decision to say.

use aws_wire::Caller;
use control::{Permission, is_root};

use crate::Ecs;

/// The condition key of an action within a cluster.
const CLUSTER: &str = "ecs:cluster";

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
        if is_root(caller) {
            return Permission::to(action);
        }
        let names = names.into_iter();
        Permission::to(action).on_each(names.map(|name| self.arn_text(caller, kind, name)))
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
        if is_root(caller) {
            return Permission::to(action);
        }
        let text = self.cluster_text(caller, cluster);
        let name = text.rsplit('/').next().unwrap_or_default();
        let kind = format!("{kind}/{name}");
        let names = names.into_iter().map(|each| self.arn_text(caller, &kind, each));
        Permission::to(action).on_each(names).with(CLUSTER, text.clone())
    }

    fn cluster_text(&self, caller: &Caller, given: Option<&str>) -> String {
        let given = given.filter(|given| !given.is_empty()).unwrap_or("default");
        self.arn_text(caller, "cluster", given)
    }

    /// An ARN stays what it is.
    fn arn_text(&self, caller: &Caller, kind: &str, given: &str) -> String {
        if given.starts_with("arn:") {
            return given.to_owned();
        }
        let region = &self.control.config.region;
        format!("arn:aws:ecs:{region}:{}:{kind}/{given}", caller.account)
    }
}

#[cfg(test)]
mod tests {
    use aws_wire::Principal;

    use super::*;
    use crate::testing::TestEcs;

    #[test]
    fn what_is_named_is_an_arn_to_policies() {
        let world = TestEcs::new();
        let caller = Caller { principal: Principal::Node { instance: None }, ..world.root() };
        let on = |cluster| world.ecs.on_cluster(&caller, "ecs:DeleteCluster", cluster).resources;
        let default = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
        assert_eq!(on(None), [default]);
        assert_eq!(on(Some("")), [default]);
        assert_eq!(on(Some(default)), [default]);
        let web = "web".to_owned();
        let service = world.ecs.within(&caller, "ecs:UpdateService", "service", None, [&web]);
        assert_eq!(service.resources, ["arn:aws:ecs:us-east-1:000000000000:service/default/web"]);
        let cluster = service.context.get("ecs:cluster").unwrap().as_slice();
        assert_eq!(cluster, [control::Value::from(default)]);
        let root =
            world.ecs.on(&world.root(), "ecs:DescribeTaskDefinition", "task-definition", [&web]);
        assert_eq!(root.resources, Vec::<String>::new());
    }
}
