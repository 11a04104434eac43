//! What a deployment configuration says of shifting traffic: the strategy, its steps, and its hooks.

use aws_wire::ApiError;
use ecs_api as api;
use model::service::{
    Controller, DeploymentSettings, Scheduling, ServiceBalancer, Share, Strategy,
};

use super::hooks;
use crate::errors::Refusal;

const HOOKS_MAX: usize = 10;
const BAKE_MINUTES_MAX: i32 = 1_440;
/// What a linear deployment shifts at a time, and a canary one first, where nothing is said.
const LINEAR_STEP: Share = Share(100);
const LINEAR_BAKE_MINUTES: u32 = 6;
const CANARY_SHARE: Share = Share(50);
const CANARY_BAKE_MINUTES: u32 = 10;

fn refuse<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(Refusal::invalid(message).into())
}

/// Reads the strategy and its hooks over what was there before.
pub(super) fn read(
    given: &api::DeploymentConfiguration,
    settings: &mut DeploymentSettings,
) -> Result<(), ApiError> {
    let before = settings.strategy;
    let word = given.strategy.as_ref().map_or(before.as_str(), api::DeploymentStrategy::as_str);
    for (is_given, what, of) in [
        (given.linear_configuration.is_some(), "linearConfiguration", "LINEAR"),
        (given.canary_configuration.is_some(), "canaryConfiguration", "CANARY"),
    ] {
        if is_given && word != of {
            return refuse(format!("{what} is only valid with the {of} deployment strategy."));
        }
    }
    settings.strategy = match word {
        "BLUE_GREEN" => Strategy::BlueGreen,
        "LINEAR" => read_linear(given.linear_configuration.as_ref(), before)?,
        "CANARY" => read_canary(given.canary_configuration.as_ref(), before)?,
        _ => Strategy::Rolling,
    };
    if let Some(hooks) = &given.lifecycle_hooks {
        if HOOKS_MAX < hooks.len() {
            return refuse(format!("lifecycleHooks can have at most {HOOKS_MAX} items"));
        }
        settings.hooks = hooks.iter().map(hooks::read).collect::<Result<_, _>>()?;
    }
    if settings.strategy.is_rolling() {
        if given.lifecycle_hooks.as_ref().is_some_and(|hooks| !hooks.is_empty()) {
            return Err(Refusal::unsupported(
                "lifecycleHooks of ROLLING deployments are not supported by this region: only those that shift traffic \
                 have hooks.",
            )
            .into());
        }
        settings.hooks.clear();
    }
    Ok(())
}

fn read_linear(
    given: Option<&api::LinearConfiguration>,
    before: Strategy,
) -> Result<Strategy, ApiError> {
    let (mut step, mut bake_minutes) = match before {
        Strategy::Linear { step, bake_minutes } => (step, bake_minutes),
        Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary { .. } => {
            (LINEAR_STEP, LINEAR_BAKE_MINUTES)
        }
    };
    if let Some(percent) = given.and_then(|given| given.step_percent) {
        step = read_share("stepPercent", percent, Share(30))?;
    }
    if let Some(minutes) = given.and_then(|given| given.step_bake_time_in_minutes) {
        bake_minutes = read_minutes("stepBakeTimeInMinutes", minutes, 0, BAKE_MINUTES_MAX)?;
    }
    Ok(Strategy::Linear { step, bake_minutes })
}

fn read_canary(
    given: Option<&api::CanaryConfiguration>,
    before: Strategy,
) -> Result<Strategy, ApiError> {
    let (mut first, mut bake_minutes) = match before {
        Strategy::Canary { first, bake_minutes } => (first, bake_minutes),
        Strategy::Rolling | Strategy::BlueGreen | Strategy::Linear { .. } => {
            (CANARY_SHARE, CANARY_BAKE_MINUTES)
        }
    };
    if let Some(percent) = given.and_then(|given| given.canary_percent) {
        first = read_share("canaryPercent", percent, Share(1))?;
    }
    if let Some(minutes) = given.and_then(|given| given.canary_bake_time_in_minutes) {
        bake_minutes = read_minutes("canaryBakeTimeInMinutes", minutes, 0, BAKE_MINUTES_MAX)?;
    }
    Ok(Strategy::Canary { first, bake_minutes })
}

/// A percentage with one decimal.
fn read_share(what: &str, percent: f64, least: Share) -> Result<Share, ApiError> {
    let is_it = |share: &Share| (share.percent() - percent).abs() < 1e-6;
    match (least.0..=Share::ALL.0).map(Share).find(is_it) {
        Some(share) => Ok(share),
        None => refuse(format!(
            "{what} must be a multiple of 0.1 between {:.1} and 100.0.",
            least.percent()
        )),
    }
}

pub(super) fn read_minutes(
    what: &str,
    minutes: i32,
    least: i32,
    most: i32,
) -> Result<u32, ApiError> {
    match u32::try_from(minutes) {
        Ok(read) if (least..=most).contains(&minutes) => Ok(read),
        _ => refuse(format!("{what} must be between {least} and {most}.")),
    }
}

pub(super) fn check(
    settings: &DeploymentSettings,
    scheduling: Scheduling,
    controller: Controller,
) -> Result<(), ApiError> {
    let strategy = settings.strategy.as_str();
    match (settings.strategy.is_rolling(), scheduling, controller) {
        (true, _, _) | (false, Scheduling::Replica, Controller::Ecs) => Ok(()),
        (false, Scheduling::Daemon, _) => refuse(format!(
            "The daemon scheduling strategy does not support the {strategy} deployment strategy."
        )),
        (false, Scheduling::Replica, Controller::External) => refuse(format!(
            "The {strategy} deployment strategy is only supported with the ECS deployment controller."
        )),
    }
}

/// That a service's load balancers are such as its strategy needs.
pub(crate) fn check_balancers(
    settings: &DeploymentSettings,
    balancers: &[ServiceBalancer],
) -> Result<(), ApiError> {
    if settings.strategy.is_rolling() || balancers.iter().all(|each| each.alternate.is_some()) {
        return Ok(());
    }
    refuse(
        "advancedConfiguration field is required for all loadBalancers when using a non-ROLLING deployment strategy",
    )
}

pub(super) fn render_linear(strategy: Strategy) -> Option<api::LinearConfiguration> {
    match strategy {
        Strategy::Linear { step, bake_minutes } => Some(api::LinearConfiguration {
            step_percent: Some(step.percent()),
            step_bake_time_in_minutes: i32::try_from(bake_minutes).ok(),
        }),
        Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary { .. } => None,
    }
}

pub(super) fn render_canary(strategy: Strategy) -> Option<api::CanaryConfiguration> {
    match strategy {
        Strategy::Canary { first, bake_minutes } => Some(api::CanaryConfiguration {
            canary_percent: Some(first.percent()),
            canary_bake_time_in_minutes: i32::try_from(bake_minutes).ok(),
        }),
        Strategy::Rolling | Strategy::BlueGreen | Strategy::Linear { .. } => None,
    }
}
