//! How a service's tasks are replaced and counted: `deploymentConfiguration`, `desiredCount`, flags.

use aws_wire::ApiError;
use ecs_api as api;
use model::service::{
    Breaker, BreakerThreshold, Controller, DeploymentSettings, Propagate, Scheduling, Strategy,
};

use super::{hooks, shifting, unsupported};
use crate::Ecs;
use crate::errors::Refusal;

const HEALTHY_PERCENT_MAX: u32 = 100;
const PERCENT_MAX: u32 = 10_000;
const BAKE_MINUTES_MAX: u32 = 1_440;
/// Of a breaker: tasks, or percent of the desired count.
const THRESHOLD_MAX: u32 = 10_000;

fn refuse<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(Refusal::invalid(message).into())
}

/// What a service has that names no deployment configuration.
pub(crate) const fn defaults(scheduling: Scheduling) -> DeploymentSettings {
    let (healthy_percent_min, percent_max) = match scheduling {
        Scheduling::Replica => (100, 200),
        Scheduling::Daemon => (0, 100),
    };
    DeploymentSettings {
        healthy_percent_min,
        percent_max,
        breaker: None,
        bake_minutes: None,
        strategy: Strategy::Rolling,
        hooks: Vec::new(),
    }
}

/// Reads a deployment configuration over what was there before: what it does not name stays.
pub(crate) fn read_settings(
    given: Option<&api::DeploymentConfiguration>,
    before: &DeploymentSettings,
    scheduling: Scheduling,
    controller: Controller,
) -> Result<DeploymentSettings, ApiError> {
    let mut settings = before.clone();
    let Some(given) = given else { return Ok(settings) };
    unsupported::check_deployment(given)?;
    if let Some(percent) = given.minimum_healthy_percent {
        settings.healthy_percent_min =
            bounded("minimumHealthyPercent", percent, HEALTHY_PERCENT_MAX)?;
    }
    if let Some(percent) = given.maximum_percent {
        settings.percent_max = bounded("maximumPercent", percent, PERCENT_MAX)?;
    }
    if let Some(minutes) = given.bake_time_in_minutes {
        let minutes = bounded("bakeTimeInMinutes", minutes, BAKE_MINUTES_MAX)?;
        settings.bake_minutes = (minutes != 0).then_some(minutes);
    }
    if let Some(breaker) = &given.deployment_circuit_breaker {
        settings.breaker = Some(read_breaker(breaker)?);
    }
    shifting::read(given, &mut settings)?;
    shifting::check(&settings, scheduling, controller)?;
    check(&settings, scheduling, controller)?;
    Ok(settings)
}

fn read_breaker(given: &api::DeploymentCircuitBreaker) -> Result<Breaker, ApiError> {
    Ok(Breaker {
        is_enabled: given.enable.unwrap_or(false),
        rolls_back: given.rollback.unwrap_or(false),
        resets_on_healthy_task: given.reset_on_healthy_task,
        threshold: given.threshold_configuration.as_ref().map(read_threshold).transpose()?,
    })
}

fn read_threshold(given: &api::ThresholdConfiguration) -> Result<BreakerThreshold, ApiError> {
    let value = match given.value.map(u32::try_from) {
        Some(Ok(value)) if (1..=THRESHOLD_MAX).contains(&value) => value,
        _ => {
            return refuse(format!(
                "The value of thresholdConfiguration must be between 1 and {THRESHOLD_MAX}."
            ));
        }
    };
    match given.r#type.as_ref().map(api::ThresholdType::as_str) {
        Some("COUNT") => Ok(BreakerThreshold::Count(value)),
        Some("BOUNDED_PERCENT") => Ok(BreakerThreshold::BoundedPercent(value)),
        Some("UNBOUNDED_PERCENT") => Ok(BreakerThreshold::Percent(value)),
        _ => refuse(
            "The type of thresholdConfiguration should be one of \
             [COUNT,BOUNDED_PERCENT,UNBOUNDED_PERCENT]",
        ),
    }
}

fn render_threshold(threshold: BreakerThreshold) -> api::ThresholdConfiguration {
    let (kind, value) = match threshold {
        BreakerThreshold::Count(value) => ("COUNT", value),
        BreakerThreshold::BoundedPercent(value) => ("BOUNDED_PERCENT", value),
        BreakerThreshold::Percent(value) => ("UNBOUNDED_PERCENT", value),
    };
    api::ThresholdConfiguration { r#type: Some(kind.into()), value: i32::try_from(value).ok() }
}

fn bounded(what: &str, value: i32, max: u32) -> Result<u32, ApiError> {
    match u32::try_from(value) {
        Ok(value) if value <= max => Ok(value),
        _ => refuse(format!("{what} must be between 0 and {max}.")),
    }
}

fn check(
    settings: &DeploymentSettings,
    scheduling: Scheduling,
    controller: Controller,
) -> Result<(), ApiError> {
    let (min, max) = (settings.healthy_percent_min, settings.percent_max);
    match scheduling {
        Scheduling::Daemon if max != 100 => {
            return refuse(
                "The daemon scheduling strategy does not support a maximumPercent other than 100. \
                 Remove the maximumPercent value and try again",
            );
        }
        Scheduling::Replica if max < 100 => {
            return refuse("maximumPercent cannot be less than 100.");
        }
        Scheduling::Daemon | Scheduling::Replica => {}
    }
    if min == 100 && max == 100 {
        return refuse(
            "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block \
             deployments.",
        );
    }
    if controller == Controller::External {
        if settings.breaker.is_some_and(|breaker| breaker.is_enabled) {
            return refuse(
                "The deployment circuit breaker is only supported with the ECS deployment \
                 controller.",
            );
        }
        if settings.bake_minutes.is_some() {
            return refuse(
                "bakeTimeInMinutes is only supported with the ECS deployment controller.",
            );
        }
    }
    Ok(())
}

/// As an answer shows them.
pub(crate) fn render_settings(
    settings: &DeploymentSettings,
    controller: Controller,
) -> api::DeploymentConfiguration {
    let amount = |amount: u32| i32::try_from(amount).ok();
    let is_own = controller == Controller::Ecs;
    let breaker = settings.breaker.as_ref();
    api::DeploymentConfiguration {
        deployment_circuit_breaker: is_own.then(|| api::DeploymentCircuitBreaker {
            enable: Some(breaker.is_some_and(|breaker| breaker.is_enabled)),
            rollback: Some(breaker.is_some_and(|breaker| breaker.rolls_back)),
            reset_on_healthy_task: breaker.and_then(|breaker| breaker.resets_on_healthy_task),
            threshold_configuration: breaker
                .and_then(|breaker| breaker.threshold)
                .map(render_threshold),
        }),
        maximum_percent: amount(settings.percent_max),
        minimum_healthy_percent: amount(settings.healthy_percent_min),
        strategy: is_own.then(|| settings.strategy.as_str().into()),
        lifecycle_hooks: hooks::render(settings),
        linear_configuration: shifting::render_linear(settings.strategy),
        canary_configuration: shifting::render_canary(settings.strategy),
        bake_time_in_minutes: amount(settings.bake_minutes.unwrap_or(0)).filter(|_| is_own),
        ..api::DeploymentConfiguration::default()
    }
}

/// How many tasks a service desires.
pub(crate) fn read_desired(ecs: &Ecs, given: i32) -> Result<u32, ApiError> {
    let max = ecs.control.config.limits.tasks_per_service_max;
    match u32::try_from(given) {
        Ok(desired) if desired <= max => Ok(desired),
        _ => refuse(format!("desiredCount must be between 0 and {max}.")),
    }
}

/// For how long bad health does not count.
pub(crate) fn read_grace(given: Option<i32>) -> Result<Option<u32>, ApiError> {
    let read = |seconds: i32| {
        u32::try_from(seconds).or_else(|_| {
            refuse(format!("healthCheckGracePeriodSeconds must be between 0 and {}.", i32::MAX))
        })
    };
    given.map(read).transpose()
}

/// Whose tags a service's tasks get.
pub(crate) fn read_propagate(given: &api::PropagateTags) -> Result<Propagate, ApiError> {
    match given {
        api::PropagateTags::None_ => Ok(Propagate::None),
        api::PropagateTags::TaskDefinition => Ok(Propagate::TaskDefinition),
        api::PropagateTags::Service => Ok(Propagate::Service),
        other => refuse(format!("Invalid value for propagateTags: {other}")),
    }
}
