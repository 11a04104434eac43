//! The numbers that bound a service's reconciler: counts of tasks in tasks, times in milliseconds.

use model::service::{Breaker, BreakerThreshold, DeploymentSettings};

/// A task without health checks counts as healthy after it has run for this long. ECS waits 40 s each time;
/// here only after failures ([`READY_AFTER_FAILURE_MS`]), so a good rollout is not slowed down.
pub const READY_AFTER_MS: u64 = 3_000;
/// The same while the last tries of its deployment failed: until one has run for this long, the failures go on
/// counting towards the breaker.
pub const READY_AFTER_FAILURE_MS: u64 = 40_000;
/// A task that ends by itself sooner than this after its start counts as a failure of its deployment.
pub const EARLY_END_MS: u64 = 40_000;
/// So many tries follow one another without a pause; from the next on [`backoff_ms`] grows. A broken revision
/// trips the breaker (3 failures at least) without waiting.
pub const FAST_TRIES: u32 = 3;
/// The longest pause between tries.
pub const BACKOFF_MS_MAX: u64 = 15 * 60 * 1000;
/// A deployment that was rolled back stays in the service's list for this long, since waiters of the clients ask
/// every 15 s and would miss its failure otherwise.
pub const FAILED_SHOWN_MS: u64 = 30_000;
/// A service that stays steady writes its event again after this long, as ECS does.
pub const STEADY_AGAIN_MS: u64 = 6 * 60 * 60 * 1000;
/// A stage of a deployment that shifts traffic fails after this long, as with ECS.
pub const STAGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// The fewest and the most failures, in tasks, that a threshold in percent comes to.
pub const BREAKER_FAILURES_MIN: u32 = 3;
pub const BREAKER_FAILURES_MAX: u32 = 200;
/// The breaker's threshold in percent of the desired count, where a service sets none.
pub const BREAKER_PERCENT: u32 = 50;

/// The desired count and the bounds that a rollout keeps between, in tasks: `floor <= desired <= ceiling`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub desired: u32,
    /// No stop of ours leaves fewer healthy tasks: `minimumHealthyPercent` of the desired count, rounded up.
    pub floor: u32,
    /// No start of ours makes more tasks, those that are being stopped included: `maximumPercent` of the desired
    /// count, rounded down, and never less than desired.
    pub ceiling: u32,
}

impl Sizes {
    pub fn of(settings: &DeploymentSettings, desired: u32) -> Self {
        let share = |percent: u32| u64::from(desired) * u64::from(percent);
        let narrow = |many: u64| u32::try_from(many).unwrap_or(u32::MAX);
        Self {
            desired,
            floor: narrow(share(settings.healthy_percent_min).div_ceil(100)).min(desired),
            ceiling: narrow(share(settings.percent_max) / 100).max(desired),
        }
    }
}

/// At how many failed tasks the breaker ends a deployment of a service that desires `desired` tasks.
pub fn breaker_threshold(breaker: &Breaker, desired: u32) -> u32 {
    let percent = |percent: u32| {
        let many = (u64::from(desired) * u64::from(percent)).div_ceil(100);
        u32::try_from(many).unwrap_or(u32::MAX)
    };
    match breaker.threshold.unwrap_or(BreakerThreshold::BoundedPercent(BREAKER_PERCENT)) {
        BreakerThreshold::Count(count) => count.max(1),
        BreakerThreshold::BoundedPercent(share) => {
            percent(share).clamp(BREAKER_FAILURES_MIN, BREAKER_FAILURES_MAX)
        }
        BreakerThreshold::Percent(share) => percent(share).max(1),
    }
}

/// The pause before the next try after `streak` failed ones: none up to [`FAST_TRIES`], then 1 s, 2 s, 4 s, …
/// up to [`BACKOFF_MS_MAX`].
pub fn backoff_ms(streak: u32) -> u64 {
    match streak.checked_sub(FAST_TRIES + 1) {
        None => 0,
        Some(doublings) => 1_000_u64.checked_shl(doublings).unwrap_or(u64::MAX).min(BACKOFF_MS_MAX),
    }
}
