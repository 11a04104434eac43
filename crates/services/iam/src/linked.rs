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

/// Whether something of a service is there that its role is for.
fn is_used(view: &View, row: &IamRole) -> bool {
    match row.service.as_deref() {
        Some("ecs.amazonaws.com") => {
            view.services.of(row.account).any(|row| row.status < ServiceStatus::Inactive)
        }
        Some(linked::PULL_THROUGH) => {
            view.ecr_pull_through_rules.of(row.account).any(|rule| rule.credential.is_some())
        }
        Some(linked::SCALING) => view.scalable_targets.of(row.account).next().is_some(),
        Some(linked::BALANCERS) => view.elb_balancers.of(row.account).next().is_some(),
        _ => false,
    }
}

/// The role is gone at once, or stays because it is used: which of the two the status says.
pub(crate) async fn delete_service_linked_role(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteServiceLinkedRoleRequest,
) -> Result<api::DeleteServiceLinkedRoleResponse, ApiError> {
    let (account, name) = (caller.account, input.role_name.unwrap_or_default());
    let permission =
        |view: &View| IamRole::permission(view, caller, "iam:DeleteServiceLinkedRole", &name);
    let path = iam.change(caller, permission, |view, _, batch| {
        let row = IamRole::need(view, account, &name)?;
        let Some(service) = &row.service else {
            return Err(Refusal::Missing("role".to_owned(), name.clone()).wire());
        };
        if !is_used(view, row) {
            batch.delete(Key::IamRole(account, NameKey::of(&name)));
        }
        Ok(format!("aws-service-role/{service}/{name}"))
    });
    let (path, id) = (path.await?, Uuid::mint(iam.ids()));
    Ok(api::DeleteServiceLinkedRoleResponse { deletion_task_id: Some(format!("task/{path}/{id}")) })
}

pub(crate) async fn get_service_linked_role_deletion_status(
    iam: &Iam,
    caller: &Caller,
    input: api::GetServiceLinkedRoleDeletionStatusRequest,
) -> Result<api::GetServiceLinkedRoleDeletionStatusResponse, ApiError> {
    let id = input.deletion_task_id.unwrap_or_default();
    let parts: Vec<&str> = id.split('/').collect();
    let ["task", "aws-service-role", _, name, _] = parts.as_slice() else {
        return Err(Refusal::DeletionTask(id).wire());
    };
    let view = iam.read(caller, |view| {
        IamRole::permission(view, caller, "iam:GetServiceLinkedRoleDeletionStatus", name)
    })?;
    let is_there = IamRole::find(&view, caller.account, name).is_some();
    let reason = is_there.then(|| api::DeletionTaskFailureReasonType {
        reason: Some("The role is used by services of the account.".to_owned()),
        role_usage_list: None,
    });
    let status = match is_there {
        true => api::DeletionTaskStatusType::Failed,
        false => api::DeletionTaskStatusType::Succeeded,
    };
    Ok(api::GetServiceLinkedRoleDeletionStatusResponse { status: Some(status), reason })
}
