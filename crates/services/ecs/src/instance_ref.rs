//! What names a container instance: its id or its ARN.

use aws_wire::{ApiError, Caller};
use longshore_types::{InstanceArn, InstanceId};
use model::instance::{Instance, InstanceStatus};
use model::{Cluster, View};

use crate::Ecs;
use crate::errors::Refusal;

pub(super) enum InstanceRef<'v> {
    Found(&'v Instance),
    /// Not in this cluster; the ARN that it would have.
    Missing {
        arn: String,
    },
}

/// Reads and looks up; deregistered instances are gone.
pub(super) fn instance_ref<'v>(
    ecs: &Ecs,
    caller: &Caller,
    view: &'v View,
    cluster: &Cluster,
    given: &str,
) -> Result<InstanceRef<'v>, ApiError> {
    let found = instance_ref_of_any(ecs, caller, view, cluster, given)?;
    Ok(match found {
        InstanceRef::Found(instance) if instance.status == InstanceStatus::Inactive => {
            InstanceRef::Missing { arn: instance.arn().to_string() }
        }
        found => found,
    })
}

/// Reads and looks up, also those that were deregistered a while ago.
pub(super) fn instance_ref_of_any<'v>(
    ecs: &Ecs,
    caller: &Caller,
    view: &'v View,
    cluster: &Cluster,
    given: &str,
) -> Result<InstanceRef<'v>, ApiError> {
    let id = instance_id(ecs, caller, given)?;
    let found = id.and_then(|id| view.instances.get(caller.account, &id));
    Ok(match found.filter(|instance| instance.cluster == cluster.name) {
        Some(instance) => InstanceRef::Found(instance),
        None if given.starts_with("arn:") => InstanceRef::Missing { arn: given.to_owned() },
        None => {
            let scope = ecs.control.scope(caller);
            let (region, account) = (scope.region, scope.account);
            let cluster = &cluster.name;
            let arn =
                format!("arn:aws:ecs:{region}:{account}:container-instance/{cluster}/{given}");
            InstanceRef::Missing { arn }
        }
    })
}

/// The id in a name or ARN; `None` if it is well formed and can be of no instance.
fn instance_id(ecs: &Ecs, caller: &Caller, given: &str) -> Result<Option<InstanceId>, ApiError> {
    if !given.starts_with("arn:") {
        return Ok(given.parse().ok());
    }
    let arn: InstanceArn =
        given.parse().map_err(|_| Refusal::BadIdentifier { given: given.to_owned() })?;
    ecs.check_scope(caller, &arn.scope)?;
    Ok(Some(arn.id))
}
