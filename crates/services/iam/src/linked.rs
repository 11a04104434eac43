//! Service-linked roles: made by name of a service, which alone may change them.

use aws_wire::{ApiError, Caller};
use control::iam::linked;
use iam_api as api;
use longshore_types::Uuid;
use model::service::ServiceStatus;
use model::{IamRole, Key, NameKey, View};

use crate::Iam;
use crate::errors::Refusal;
use crate::holder::Holder;
use crate::limits::USES_SHOWN_MAX;
use crate::render;

pub(crate) async fn create_service_linked_role(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateServiceLinkedRoleRequest,
) -> Result<api::CreateServiceLinkedRoleResponse, ApiError> {
    let (account, service) = (caller.account, input.aws_service_name.unwrap_or_default());
    let known = linked::find(&service);
    let name = known.map_or("*", |known| known.role);
    let permission = linked::permission(account, &service, name);
    let row = iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            let known = known.ok_or_else(|| Refusal::NoServiceRole(service.to_string()).wire())?;
            if input.custom_suffix.is_some() {
                return Err(Refusal::CustomSuffix(service.to_string()).wire());
            }
            let id = NameKey::of(known.role);
            if view.iam_roles.get(account, &id).is_some() {
                return Err(Refusal::ServiceRoleExists(known.role).wire());
            }
            let description = input.description.clone();
            let row = IamRole { description, ..known.role_of(account, iam.ids(), now) };
            batch.rely(Key::IamRole(account, id)).put(row.clone());
            Ok(row)
        },
    );
    let role = render::role(&iam.control.view(), &row.await?);
    Ok(api::CreateServiceLinkedRoleResponse { role: Some(role) })
}

/// What is there of a service that its role is for: ARNs, or names of what has none.
fn uses<'v>(view: &'v View, row: &IamRole) -> Box<dyn Iterator<Item = String> + 'v> {
    let account = row.account;
    match row.service.as_deref() {
        Some(linked::ECS) => {
            let there =
                view.services.of(account).filter(|row| row.status < ServiceStatus::Inactive);
            Box::new(there.map(|row| row.arn().to_string()))
        }
        Some(linked::PULL_THROUGH) => {
            let rules = view.ecr_pull_through_rules.of(account);
            let with_secrets = rules.filter(|rule| rule.credential.is_some());
            Box::new(with_secrets.map(|rule| rule.prefix.to_string()))
        }
        Some(linked::SCALING) => Box::new(view.scalable_targets.of(account).map(|row| row.arn())),
        Some(linked::BALANCERS) => Box::new(view.elb_balancers.of(account).map(|row| row.arn())),
        Some(_) | None => Box::new(std::iter::empty()),
    }
}

/// The id of a role's deletion. It says which role it is about: one that is made anew under the name was not to be deleted.
fn task_id(row: &IamRole, drawn: [u8; 16]) -> Uuid {
    let mut bytes = drawn;
    for (byte, letter) in bytes.iter_mut().zip(row.unique_id.bytes().skip(UNIQUE_KIND).take(6)) {
        *byte = letter;
    }
    Uuid::from_random(bytes)
}

/// Whether a deletion's id is about this role.
fn is_about(id: &str, row: &IamRole) -> bool {
    let of_role = task_id(row, [0; 16]).to_string();
    id.get(..ABOUT_ROLE).is_some_and(|of_task| of_role.starts_with(of_task))
}

/// Letters of a unique id that say its kind.
const UNIQUE_KIND: usize = 4;
/// Digits of a deletion's id that say which role it is about, and the hyphen between them.
const ABOUT_ROLE: usize = 13;

/// The role is gone at once, or stays because it is used: which of the two the status says.
pub(crate) async fn delete_service_linked_role(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteServiceLinkedRoleRequest,
) -> Result<api::DeleteServiceLinkedRoleResponse, ApiError> {
    let (account, name) = (caller.account, input.role_name.unwrap_or_default());
    let permission =
        |view: &View| IamRole::permission(view, caller, "iam:DeleteServiceLinkedRole", &name);
    let drawn = iam.ids().id16();
    let task = iam.change(caller, permission, |view, _, batch| {
        let row = IamRole::need(view, account, &name)?;
        let Some(service) = &row.service else {
            return Err(Refusal::Missing("role".to_owned(), name.clone()).wire());
        };
        if uses(view, row).next().is_none() {
            batch.delete(Key::IamRole(account, NameKey::of(&name)));
        }
        Ok(format!("task/aws-service-role/{service}/{}/{}", row.name, task_id(row, drawn)))
    });
    Ok(api::DeleteServiceLinkedRoleResponse { deletion_task_id: Some(task.await?) })
}

pub(crate) async fn get_service_linked_role_deletion_status(
    iam: &Iam,
    caller: &Caller,
    input: api::GetServiceLinkedRoleDeletionStatusRequest,
) -> Result<api::GetServiceLinkedRoleDeletionStatusResponse, ApiError> {
    let id = input.deletion_task_id.unwrap_or_default();
    let parts: Vec<&str> = id.split('/').collect();
    let ["task", "aws-service-role", _, name, task] = parts.as_slice() else {
        return Err(Refusal::DeletionTask(id).wire());
    };
    let view = iam.read(caller, |view| {
        IamRole::permission(view, caller, "iam:GetServiceLinkedRoleDeletionStatus", name)
    })?;
    let row = IamRole::find(&view, caller.account, name).filter(|row| is_about(task, row));
    let reason = row.map(|row| api::DeletionTaskFailureReasonType {
        reason: Some("The role is used by resources of the account.".to_owned()),
        role_usage_list: Some(vec![api::RoleUsageType {
            region: Some(iam.control.config.region.to_string()),
            resources: Some(uses(&view, row).take(USES_SHOWN_MAX).collect()),
        }]),
    });
    let status = match reason {
        Some(_) => api::DeletionTaskStatusType::Failed,
        None => api::DeletionTaskStatusType::Succeeded,
    };
    Ok(api::GetServiceLinkedRoleDeletionStatusResponse { status: Some(status), reason })
}
