//! Deployments that shift traffic from the tasks of one revision (blue) to those of another (green): how a service
//! wants it, and how far one has come.
//!
//! **Invariant:** a deployment only moves on through its stages; with several steps of traffic it is the pair of
//! step and stage that does.

use std::fmt;

use longshore_types::{DeploymentId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

/// A share of traffic in tenths of a percent, 0 to 1,000.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Share(pub u16);

impl Share {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(1_000);

    /// What is left of all traffic.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0.saturating_sub(self.0))
    }

    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    /// The weights of the group that has the share and of the other, which come to 100 or, with tenths, to 1,000.
    pub const fn weights(self) -> (u32, u32) {
        let unit = if self.0.is_multiple_of(10) { 10 } else { 1 };
        ((self.0 / unit) as u32, (self.rest().0 / unit) as u32)
    }
}

/// `strategy` of a deployment configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// Tasks are replaced by and by, all behind the same target groups.
    #[default]
    Rolling,
    /// All traffic at once.
    BlueGreen,
    /// By equal steps, with a pause after each but the last.
    Linear { step: Share, bake_minutes: u32 },
    /// A part first, and the rest after a pause.
    Canary { first: Share, bake_minutes: u32 },
}

impl Strategy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "ROLLING",
            Self::BlueGreen => "BLUE_GREEN",
            Self::Linear { .. } => "LINEAR",
            Self::Canary { .. } => "CANARY",
        }
    }

    pub const fn is_rolling(&self) -> bool {
        matches!(self, Self::Rolling)
    }

    /// What green has of production traffic after so many steps.
    pub fn share(self, steps: u32) -> Share {
        if steps == 0 {
            return Share::NONE;
        }
        match self {
            Self::Rolling | Self::BlueGreen => Share::ALL,
            Self::Linear { step, .. } => {
                let share = u32::from(step.0).saturating_mul(steps).min(u32::from(Share::ALL.0));
                u16::try_from(share).map_or(Share::ALL, Share)
            }
            Self::Canary { first, .. } => {
                if steps == 1 {
                    first
                } else {
                    Share::ALL
                }
            }
        }
    }

    /// For how long the next step is waited for.
    pub const fn step_bake_minutes(self) -> u32 {
        match self {
            Self::Rolling | Self::BlueGreen => 0,
            Self::Linear { bake_minutes, .. } | Self::Canary { bake_minutes, .. } => bake_minutes,
        }
    }
}

/// The stages of a deployment that shifts traffic, in life order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Lifecycle {
    /// Tasks of deployments that were not done are taken away, and blue is made whole.
    ReconcileService,
    PreScaleUp,
    /// Green's tasks start beside blue's, in target groups that production does not use.
    ScaleUp,
    PostScaleUp,
    TestTrafficShift,
    PostTestTrafficShift,
    /// Only hooks know it: it comes before each step of production traffic.
    PreProductionTrafficShift,
    ProductionTrafficShift,
    PostProductionTrafficShift,
    /// Both are there, and the way back is short.
    BakeTime,
    /// Blue's tasks are stopped.
    CleanUp,
}

impl Lifecycle {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReconcileService => "RECONCILE_SERVICE",
            Self::PreScaleUp => "PRE_SCALE_UP",
            Self::ScaleUp => "SCALE_UP",
            Self::PostScaleUp => "POST_SCALE_UP",
            Self::TestTrafficShift => "TEST_TRAFFIC_SHIFT",
            Self::PostTestTrafficShift => "POST_TEST_TRAFFIC_SHIFT",
            Self::PreProductionTrafficShift => "PRE_PRODUCTION_TRAFFIC_SHIFT",
            Self::ProductionTrafficShift => "PRODUCTION_TRAFFIC_SHIFT",
            Self::PostProductionTrafficShift => "POST_PRODUCTION_TRAFFIC_SHIFT",
            Self::BakeTime => "BAKE_TIME",
            Self::CleanUp => "CLEAN_UP",
        }
    }

    /// `lifecycleStage` of a service deployment, which has no word for what only hooks know.
    pub const fn shown(self) -> &'static str {
        let is_hidden = matches!(self, Self::PreProductionTrafficShift);
        if is_hidden { Self::ProductionTrafficShift.as_str() } else { self.as_str() }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of a deployment that waits for somebody's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HookAction {
    Continue,
    Rollback,
}

impl HookAction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "CONTINUE",
            Self::Rollback => "ROLLBACK",
        }
    }
}

/// One of `lifecycleHooks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    pub stages: Vec<Lifecycle>,
    pub timeout_minutes: u32,
    pub on_timeout: HookAction,
    /// Who is asked; none: it is one of the type `PAUSE`, where somebody's word is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Box<HookCall>>,
}

/// Who is asked at a hook whether a deployment goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookCall {
    /// `hookTargetArn`: the ARN of a task definition, or a URL.
    pub target: String,
    /// The role in whose name the target's tasks are run; URLs have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `hookDetails`: an object of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// How a hook that a deployment came to stands, in life order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PauseState {
    /// Whoever is asked is at it.
    InProgress,
    /// A pause.
    AwaitingAction,
    /// `ContinueServiceDeployment`, or whoever was asked, said to go on.
    Succeeded,
    /// It said to go back, or nobody could be asked.
    Failed,
    /// Nobody said anything for too long.
    TimedOut,
}

impl PauseState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::AwaitingAction => "AWAITING_ACTION",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

/// A hook that a deployment came to. Made by the reconciler of services; what becomes of it says a request, or the
/// reconciler of hooks, of those that ask somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Which of the hooks it is.
    pub hook: u32,
    pub stage: Lifecycle,
    pub step: u32,
    pub state: PauseState,
    pub expires_at: Timestamp,
    pub on_timeout: HookAction,
    /// How far asking has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<HookRun>>,
}

impl Pause {
    /// Whether it is still to be said what becomes of it.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, PauseState::InProgress | PauseState::AwaitingAction)
    }
}

/// How far asking somebody at a hook has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookRun {
    /// The task that is at it, or that is to be stopped once nobody waits for it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// How often was asked.
    pub calls: u32,
    /// How often in a row asking has failed.
    #[serde(default)]
    pub failures: u32,
    /// When the next call is due, if that is not at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// `hookDetails` of answers, an object of JSON, which are given back with further calls of the hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Why it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How far a deployment that shifts traffic has come. Written by the reconciler, but for what requests say to pauses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shift {
    pub stage: Lifecycle,
    /// When it came to this stage.
    pub since: Timestamp,
    /// How many steps of production traffic were taken, or are about to be.
    pub step: u32,
    /// The deployment whose tasks are blue; none of a service's first.
    pub from: Option<DeploymentId>,
    /// What green has of production traffic, and of test traffic.
    pub production: Share,
    pub test: Share,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
    /// Whether it waited at a hook when it was last looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_paused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_each_strategy_end_with_all_traffic() {
        let linear = Strategy::Linear { step: Share(300), bake_minutes: 1 };
        let shares: Vec<u16> = (0..6).map(|steps| linear.share(steps).0).collect();
        assert_eq!(shares, [0, 300, 600, 900, 1_000, 1_000]);
        let canary = Strategy::Canary { first: Share(1), bake_minutes: 1 };
        assert_eq!([canary.share(1), canary.share(2)], [Share(1), Share::ALL]);
        assert_eq!(Strategy::BlueGreen.share(1), Share::ALL);
    }

    #[test]
    fn weights_are_what_load_balancers_take() {
        assert_eq!(Share::ALL.weights(), (100, 0));
        assert_eq!(Share(250).weights(), (25, 75));
        assert_eq!(Share(1).weights(), (1, 999));
    }
}
