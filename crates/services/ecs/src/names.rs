//! What callers write to name something, read into types: a name, an id or an ARN, ours or not.

use std::sync::Arc;

use aws_wire::Caller;
use longshore_types::{
    Arn, ClusterArn, ClusterName, Family, Scope, ServiceArn, ServiceName, TaskDefinitionArn,
    TaskDefinitionId,
};
use model::{Cluster, Service, ServiceId, TaskDefinition, TaskDefinitionStatus, View};

use crate::Ecs;
use crate::errors::Refusal;

/// A task definition as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskDefinitionRef {
    /// The latest active revision.
    Latest(Family),
    Revision(TaskDefinitionId),
}

impl Ecs {
    /// The cluster that a request names, by name or ARN; `default` if it names none.
    pub fn cluster_name(
        &self,
        caller: &Caller,
        given: Option<&str>,
    ) -> Result<ClusterName, Refusal> {
        let Some(given) = given.filter(|given| !given.is_empty()) else {
            return Ok(ClusterName::default_cluster());
        };
        if !given.starts_with("arn:") {
            return given.parse().map_err(|_| Refusal::BadIdentifier { given: given.to_owned() });
        }
        let arn: ClusterArn =
            given.parse().map_err(|_| Refusal::BadIdentifier { given: given.to_owned() })?;
        self.check_scope(caller, &arn.scope)?;
        Ok(arn.name)
    }

    /// The cluster that a request names, if it is there and active.
    pub fn cluster<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        given: Option<&str>,
    ) -> Result<&'v Arc<Cluster>, Refusal> {
        let name = self.cluster_name(caller, given)?;
        view.active_cluster(caller.account, &name).ok_or(Refusal::ClusterNotFound)
    }

    /// The service of a cluster that a request names: by name, or by ARN with or without the cluster.
    pub fn service_id(
        &self,
        caller: &Caller,
        cluster: &ClusterName,
        given: &str,
    ) -> Result<ServiceId, Refusal> {
        let bad = || Refusal::BadIdentifier { given: given.to_owned() };
        let id = |name: ServiceName| ServiceId { cluster: cluster.clone(), name };
        if given.is_empty() {
            return Err(Refusal::invalid("Service can not be blank."));
        }
        if !given.starts_with("arn:") {
            return given.parse().map(id).map_err(|_| bad());
        }
        if let Ok(arn) = given.parse::<ServiceArn>() {
            self.check_scope(caller, &arn.scope)?;
            if arn.cluster != *cluster {
                return Err(Refusal::ForeignIdentifier {
                    what: "cluster",
                    theirs: arn.cluster.to_string(),
                    ours: cluster.to_string(),
                });
            }
            return Ok(id(arn.service));
        }
        // The short format says nothing of the cluster.
        let arn = Arn::parse(given).map_err(|_| bad())?;
        let name = arn.resource.strip_prefix("service/").filter(|_| arn.service == "ecs");
        let region = arn.region.parse().map_err(|_| bad())?;
        let account = arn.account.parse().map_err(|_| bad())?;
        self.check_scope(caller, &Scope { region, account })?;
        name.and_then(|name| name.parse().ok()).map(id).ok_or_else(bad)
    }

    /// The service that a request names, in whatever state it is.
    pub fn service<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        cluster: &Cluster,
        given: &str,
    ) -> Result<&'v Arc<Service>, Refusal> {
        let id = self.service_id(caller, &cluster.name, given)?;
        view.services.get(caller.account, &id).ok_or(Refusal::ServiceNotFound)
    }

    /// Refuses what lies in another account or region.
    pub fn check_scope(&self, caller: &Caller, scope: &Scope) -> Result<(), Refusal> {
        let ours = self.control.scope(caller);
        if scope.account != ours.account {
            return Err(Refusal::ForeignIdentifier {
                what: "account",
                theirs: scope.account.to_string(),
                ours: ours.account.to_string(),
            });
        }
        if scope.region != ours.region {
            return Err(Refusal::ForeignIdentifier {
                what: "region",
                theirs: scope.region.to_string(),
                ours: ours.region.to_string(),
            });
        }
        Ok(())
    }

    /// What `taskDefinition` names: a family, a revision, or the ARN of either.
    pub fn task_definition_ref(
        &self,
        caller: &Caller,
        given: &str,
    ) -> Result<TaskDefinitionRef, Refusal> {
        let mut path = given;
        if given.starts_with("arn:") {
            if let Ok(arn) = given.parse::<TaskDefinitionArn>() {
                self.check_scope(caller, &arn.scope)?;
                return Ok(TaskDefinitionRef::Revision(arn.id));
            }
            // An ARN without a revision means the latest one.
            let arn = Arn::parse(given)
                .map_err(|_| Refusal::BadIdentifier { given: given.to_owned() })?;
            path = arn
                .resource
                .strip_prefix("task-definition/")
                .filter(|_| arn.service == "ecs")
                .ok_or_else(|| Refusal::BadIdentifier { given: given.to_owned() })?;
            let parse = |_| Refusal::BadIdentifier { given: given.to_owned() };
            let region = arn.region.parse().map_err(parse)?;
            let account = arn.account.parse().map_err(parse)?;
            self.check_scope(caller, &Scope { region, account })?;
        }
        parse_definition(path).ok_or_else(|| bad_definition(path))
    }

    /// The task definition that a request names. A family means its latest active revision; a
    /// revision is found in any state.
    pub fn task_definition<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        given: &str,
    ) -> Result<&'v Arc<TaskDefinition>, Refusal> {
        let found = match self.task_definition_ref(caller, given)? {
            TaskDefinitionRef::Revision(id) => view.task_definitions.get(caller.account, &id),
            TaskDefinitionRef::Latest(family) => view
                .revisions(caller.account, &family)
                .rfind(|row| row.status == TaskDefinitionStatus::Active),
        };
        found.ok_or(Refusal::NoSuchTaskDefinition)
    }
}

fn parse_definition(text: &str) -> Option<TaskDefinitionRef> {
    if let Ok(id) = text.parse() {
        return Some(TaskDefinitionRef::Revision(id));
    }
    text.parse().ok().map(TaskDefinitionRef::Latest)
}

fn bad_definition(path: &str) -> Refusal {
    match path.rsplit_once(':') {
        Some((_, revision)) => {
            Refusal::invalid(format!("Invalid revision number. Number: {revision}"))
        }
        None => Refusal::NoSuchTaskDefinition,
    }
}

#[cfg(test)]
mod tests {
    use aws_wire::ApiError;

    use super::*;
    use crate::testing::TestEcs;

    #[test]
    fn a_cluster_is_named_by_name_by_arn_or_not_at_all() {
        let world = TestEcs::new();
        let name = |given| world.ecs.cluster_name(&world.root(), given);
        assert_eq!(name(None).unwrap().as_str(), "default");
        assert_eq!(name(Some("")).unwrap().as_str(), "default");
        assert_eq!(name(Some("web")).unwrap().as_str(), "web");
        let arn = "arn:aws:ecs:us-east-1:000000000000:cluster/web";
        assert_eq!(name(Some(arn)).unwrap().as_str(), "web");
    }

    #[test]
    fn what_lies_elsewhere_is_refused_by_name() {
        let world = TestEcs::new();
        let message = |given| {
            let refusal = world.ecs.cluster_name(&world.root(), Some(given)).unwrap_err();
            let error = ApiError::from(refusal);
            assert_eq!(error.code, "InvalidParameterException");
            error.message
        };
        assert_eq!(
            message("arn:aws:ecs:us-east-1:111111111111:cluster/web"),
            "Invalid identifier: Identifier is for account 111111111111. \
             Your account is 000000000000"
        );
        assert_eq!(
            message("arn:aws:ecs:eu-north-1:000000000000:cluster/web"),
            "Invalid identifier: Identifier is for region eu-north-1. Your region is us-east-1"
        );
        for bad in ["a b", "arn:aws:ecs", "arn:aws:s3:::x", "é"] {
            assert!(message(bad).starts_with("Invalid identifier"), "{bad}");
        }
    }

    #[test]
    fn a_task_definition_is_named_by_family_revision_or_arn() {
        let world = TestEcs::new();
        let parse = |given: &str| {
            world.ecs.task_definition_ref(&world.root(), given).map_err(ApiError::from)
        };
        let revision = TaskDefinitionRef::Revision("web:3".parse().unwrap());
        let latest = TaskDefinitionRef::Latest("web".parse().unwrap());
        assert_eq!(parse("web:3").unwrap(), revision);
        assert_eq!(parse("web").unwrap(), latest);
        let arn = "arn:aws:ecs:us-east-1:000000000000:task-definition/web";
        assert_eq!(parse(arn).unwrap(), latest);
        assert_eq!(parse(&format!("{arn}:3")).unwrap(), revision);
        assert_eq!(parse("web:x").unwrap_err().message, "Invalid revision number. Number: x");
        assert_eq!(parse("web:0").unwrap_err().code, "InvalidParameterException");
        assert_eq!(parse("a b").unwrap_err().message, "Unable to describe task definition.");
    }
}
