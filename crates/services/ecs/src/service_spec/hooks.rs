//! `lifecycleHooks`: where a deployment that shifts traffic pauses, or asks whether it goes on.
//!
//! Amazon's hooks ask functions. There are none here, so that `hookTargetArn` names a task definition or a URL.

use aws_wire::{ApiError, Caller, Document};
use control::ports::{TaskAsk, TaskRunner as _};
use ecs_api as api;
use longshore_types::{Arn, ClusterName};
use model::View;
use model::service::{DeploymentSettings, Hook, HookAction, HookCall, Lifecycle};

use super::shifting::read_minutes;
use crate::Ecs;
use crate::errors::Refusal;

const MINUTES: u32 = 1_440;
const CALL_MINUTES_MAX: i32 = 1_440;
const PAUSE_MINUTES_MAX: i32 = 20_160;
/// Bytes of `hookDetails`, which tasks have in their environment.
pub(crate) const DETAILS_BYTES_MAX: usize = 4_096;

/// Stages that hooks may be at, and whether pauses may.
const STAGES: [(Lifecycle, bool); 8] = [
    (Lifecycle::ReconcileService, true),
    (Lifecycle::PreScaleUp, true),
    (Lifecycle::PostScaleUp, true),
    (Lifecycle::TestTrafficShift, false),
    (Lifecycle::PostTestTrafficShift, true),
    (Lifecycle::PreProductionTrafficShift, true),
    (Lifecycle::ProductionTrafficShift, false),
    (Lifecycle::PostProductionTrafficShift, true),
];

fn refuse<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(Refusal::invalid(message).into())
}

/// Who is asked at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A task definition, of which a task is run.
    Task,
    /// A server.
    Url(http::Uri),
}

impl Target {
    pub(crate) fn parse(given: &str) -> Result<Self, ApiError> {
        if hooks::is_url(given) {
            return hooks::parse(given).map(Self::Url).ok_or_else(|| {
                let message = format!(
                    "hookTargetArn {given} is not the URL of a hook, such as https://checks.example.com/web."
                );
                Refusal::invalid(message).into()
            });
        }
        let arn = Arn::parse(given).ok();
        match arn.map(|arn| (arn.service, arn.resource)) {
            Some(("ecs", resource)) if resource.starts_with("task-definition/") => Ok(Self::Task),
            Some(("lambda", _)) => Err(Refusal::unsupported(format!(
                "There are no Lambda functions in this region, so {given} can't be asked: hookTargetArn may be the ARN of \
                 a task definition, of which a task is run, or the URL of an HTTP hook; or use PAUSE."
            ))
            .into()),
            _ => refuse(format!(
                "hookTargetArn must be the ARN of a task definition or the URL of an HTTP hook, and {given} is neither."
            )),
        }
    }
}

pub(super) fn read(given: &api::DeploymentLifecycleHook) -> Result<Hook, ApiError> {
    let call = match &given.target_type {
        Some(api::DeploymentLifecycleHookTargetType::Pause) => {
            check_pause(given)?;
            None
        }
        None | Some(api::DeploymentLifecycleHookTargetType::AwsLambda) => {
            Some(Box::new(read_call(given)?))
        }
        Some(_) => return refuse("Invalid targetType. Valid values are: AWS_LAMBDA, PAUSE"),
    };
    let stages = given.lifecycle_stages.as_deref().unwrap_or_default();
    if stages.is_empty() {
        return refuse("lifecycleStages can not be empty.");
    }
    let timeout = given.timeout_configuration.as_ref();
    let minutes = timeout.and_then(|timeout| timeout.timeout_in_minutes);
    let most = if call.is_some() { CALL_MINUTES_MAX } else { PAUSE_MINUTES_MAX };
    Ok(Hook {
        stages: stages
            .iter()
            .map(|stage| read_stage(stage, call.is_none()))
            .collect::<Result<_, _>>()?,
        timeout_minutes: match minutes {
            None => MINUTES,
            Some(minutes) => read_minutes("timeoutInMinutes", minutes, 1, most)?,
        },
        on_timeout: match timeout.and_then(|timeout| timeout.action.as_ref()) {
            None | Some(api::DeploymentLifecycleHookAction::Rollback) => HookAction::Rollback,
            Some(api::DeploymentLifecycleHookAction::Continue) => HookAction::Continue,
            Some(other) => {
                return refuse(format!("{other} should be one of [CONTINUE,ROLLBACK]"));
            }
        },
        call,
    })
}

fn check_pause(given: &api::DeploymentLifecycleHook) -> Result<(), ApiError> {
    for (is_given, what) in [
        (given.hook_target_arn.is_some(), "hookTargetArn"),
        (given.role_arn.is_some(), "roleArn"),
        (given.hook_details.is_some(), "hookDetails"),
    ] {
        if is_given {
            return refuse(format!("{what} is not allowed for lifecycle hooks of type PAUSE."));
        }
    }
    Ok(())
}

fn read_call(given: &api::DeploymentLifecycleHook) -> Result<HookCall, ApiError> {
    let target = given.hook_target_arn.as_deref().unwrap_or_default();
    if target.is_empty() {
        return refuse("hookTargetArn can not be empty for lifecycle hooks of type AWS_LAMBDA.");
    }
    let role = given.role_arn.clone().filter(|role| !role.is_empty());
    match (Target::parse(target)?, &role) {
        (Target::Task, None) => {
            return refuse(format!(
                "roleArn can not be empty for the lifecycle hook target {target}: it is the role in whose name its tasks \
                 are run."
            ));
        }
        (Target::Url(_), Some(role)) => {
            return refuse(format!(
                "The lifecycle hook target {target} is asked in nobody's name: leave out the roleArn {role}."
            ));
        }
        (Target::Task, Some(_)) | (Target::Url(_), None) => {}
    }
    let details = match &given.hook_details {
        None => None,
        Some(Document(value)) if value.is_object() => Some(value.to_string()),
        Some(_) => return refuse("hookDetails must be a JSON object."),
    };
    if details.as_ref().is_some_and(|details| DETAILS_BYTES_MAX < details.len()) {
        return refuse(format!("hookDetails can have at most {DETAILS_BYTES_MAX} characters."));
    }
    Ok(HookCall { target: target.to_owned(), role, details })
}

fn read_stage(
    given: &api::DeploymentLifecycleHookStage,
    is_pause: bool,
) -> Result<Lifecycle, ApiError> {
    let mut known = STAGES.into_iter().filter(|(_, may_pause)| *may_pause || !is_pause);
    match known.find(|(stage, _)| stage.as_str() == given.as_str()) {
        Some((stage, _)) => Ok(stage),
        None if is_pause => refuse("Invalid lifecycle stage provided for Pause Hook"),
        None => {
            let names: Vec<&str> = STAGES.iter().map(|(stage, _)| stage.as_str()).collect();
            refuse(format!("{given} should be one of [{}]", names.join(",")))
        }
    }
}

/// That whoever is to be asked can be.
pub(crate) fn check_hooks(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    cluster: &ClusterName,
    settings: &DeploymentSettings,
) -> Result<(), ApiError> {
    for call in settings.hooks.iter().filter_map(|hook| hook.call.as_ref()) {
        let target = &call.target;
        match Target::parse(target)? {
            Target::Url(url) => ecs.hooks.check(&url).map_err(|why| {
                Refusal::invalid(format!("The lifecycle hook target can't be asked: {why}."))
            })?,
            Target::Task => {
                let ask = TaskAsk {
                    definition: target.clone(),
                    cluster: Some(cluster.to_string()),
                    ..TaskAsk::default()
                };
                ecs.check(view, caller, &ask).map_err(|why| match why.is_fault() {
                    true => why,
                    false => Refusal::invalid(format!(
                        "The lifecycle hook target {target} can't be run: {}",
                        why.message
                    ))
                    .into(),
                })?;
            }
        }
    }
    Ok(())
}

pub(super) fn render(settings: &DeploymentSettings) -> Option<Vec<api::DeploymentLifecycleHook>> {
    let render = |hook: &Hook| {
        let call = hook.call.as_deref();
        let details = call.and_then(|call| call.details.as_deref());
        api::DeploymentLifecycleHook {
            target_type: Some(target_type(hook.call.is_some())),
            hook_target_arn: call.map(|call| call.target.clone()),
            role_arn: call.and_then(|call| call.role.clone()),
            hook_details: details.and_then(|it| serde_json::from_str(it).ok()).map(Document),
            lifecycle_stages: Some(hook.stages.iter().map(|stage| stage.as_str().into()).collect()),
            timeout_configuration: Some(api::DeploymentLifecycleHookTimeoutConfiguration {
                timeout_in_minutes: i32::try_from(hook.timeout_minutes).ok(),
                action: Some(hook.on_timeout.as_str().into()),
            }),
        }
    };
    (!settings.hooks.is_empty()).then(|| settings.hooks.iter().map(render).collect())
}

/// The type of a hook that asks somebody, and of one that pauses.
pub(crate) const fn target_type(asks: bool) -> api::DeploymentLifecycleHookTargetType {
    match asks {
        true => api::DeploymentLifecycleHookTargetType::AwsLambda,
        false => api::DeploymentLifecycleHookTargetType::Pause,
    }
}
