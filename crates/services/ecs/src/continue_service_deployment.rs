//! ContinueServiceDeployment: somebody's word to a deployment that pauses. What follows is the reconciler's to do.

use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ecs_api as api;
use longshore_types::Timestamp;
use model::service::{Pause, PauseState};
use model::{Deployment, Record as _};
use sha2::{Digest, Sha256};
use store::Batch;

use super::service_deployments::{find, read_arn};
use crate::Ecs;
use crate::errors::Refusal;
use crate::service_spec::target_type;

const PREFIX: &str = "ecs-pause-";
/// Of hooks that ask somebody, to which nobody else says a word.
const CALL_PREFIX: &str = "ecs-lambda-";
/// Characters of what follows it.
const ID_CHARS: usize = 43;

/// What a hook is called: the same whenever it is asked for, and no other's.
pub(crate) fn hook_id(row: &Deployment, pause: &Pause) -> String {
    let name = format!("{} {} {} {}", row.id(), pause.stage, pause.step, pause.hook);
    let prefix = if pause.run.is_some() { CALL_PREFIX } else { PREFIX };
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(Sha256::digest(name)))
}

/// `lifecycleHookDetails`: the hooks that a deployment came to.
pub(super) fn render_hooks(row: &Deployment) -> Option<Vec<api::DeploymentLifecycleHookDetail>> {
    let shift = row.shift.as_ref().filter(|shift| !shift.pauses.is_empty())?;
    let target = |pause: &Pause| {
        let hook = row.settings.hooks.get(usize::try_from(pause.hook).ok()?)?;
        hook.call.as_ref().map(|call| call.target.clone())
    };
    let render = |pause: &Pause| api::DeploymentLifecycleHookDetail {
        hook_id: Some(hook_id(row, pause)),
        target_type: Some(target_type(pause.run.is_some())),
        target_arn: target(pause),
        status: Some(pause.state.as_str().into()),
        expires_at: Some(pause.expires_at),
        timeout_action: Some(pause.on_timeout.as_str().into()),
    };
    Some(shift.pauses.iter().map(render).collect())
}

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ContinueServiceDeploymentRequest,
) -> Result<api::ContinueServiceDeploymentResponse, ApiError> {
    let permission = ecs.on(
        caller,
        "ecs:ContinueServiceDeployment",
        "service-deployment",
        &input.service_deployment_arn,
    );
    let given = input.service_deployment_arn.unwrap_or_default();
    let arn = read_arn(ecs, caller, &given)?;
    let state = match &input.action {
        None | Some(api::DeploymentLifecycleHookAction::Continue) => PauseState::Succeeded,
        Some(api::DeploymentLifecycleHookAction::Rollback) => PauseState::Failed,
        Some(other) => {
            let message = format!("{other} should be one of [CONTINUE,ROLLBACK]");
            return Err(Refusal::invalid(message).into());
        }
    };
    let hook = input.hook_id.unwrap_or_default();
    ecs.control
        .change(caller, &permission, |view, now| {
            let mut ids = [PREFIX, CALL_PREFIX].into_iter().filter_map(|it| hook.strip_prefix(it));
            if ids.all(|id| id.len() != ID_CHARS) {
                let message = "Invalid hookId: hookId must follow the format: ecs-{hookType}-{id}";
                return Err(Refusal::invalid(message).into());
            }
            let (_, row) = find(view, caller, &arn).ok_or(Refusal::ServiceDeploymentNotFound)?;
            let mut batch = Batch::on(view);
            batch.put(answered(row, &hook, state, now)?);
            Ok((batch, ()))
        })
        .await?;
    Ok(api::ContinueServiceDeploymentResponse { service_deployment_arn: Some(given) })
}

/// The deployment with the word that was said to one of its pauses.
fn answered(
    row: &Deployment,
    hook: &str,
    state: PauseState,
    now: Timestamp,
) -> Result<Deployment, ApiError> {
    if row.stage.is_final() {
        let message = "Continuing a service deployment is not allowed for service deployment in terminal states.";
        return Err(Refusal::invalid(message).into());
    }
    let mut next = row.clone();
    let pauses = next.shift.iter_mut().flat_map(|shift| &mut shift.pauses);
    let mut open = pauses.filter(|pause| pause.state == PauseState::AwaitingAction);
    let Some(pause) = open.find(|pause| hook_id(row, pause) == hook) else {
        let message = "Provided hookId is either completed, unavailable, or not associated with the given Resource ARN";
        return Err(Refusal::invalid(message).into());
    };
    pause.state = state;
    next.updated_at = now;
    next.version += 1;
    Ok(next)
}
