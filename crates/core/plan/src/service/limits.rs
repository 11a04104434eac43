//! The numbers of a service: floor and ceiling, the breaker's threshold, pauses.

use model::service::{Breaker, BreakerThreshold, DeploymentSettings};

/// How long a task without health checks runs before it is counted on. ECS waits for 40 s; here that
/// is only so once tasks have failed.
pub const READY_AFTER_MS: u64 = 3_000;
/// How long such a task must run while tasks of its deployment keep failing.
pub const READY_AFTER_FAILURE_MS: u64 = 40_000;
/// A task that ends by itself earlier than this after its start has failed to start.
pub const EARLY_END_MS: u64 = 40_000;
/// Tries without pause, so that a mistake shows at once and the breaker is quick.
pub const FAST_TRIES: u32 = 3;
/// The longest pause between tries.
pub const BACKOFF_MS_MAX: u64 = 15 * 60 * 1000;
/// How long a deployment that was rolled back is shown at least: the clients' waiters look every 15 s.
pub const FAILED_SHOWN_MS: u64 = 30_000;
/// How often a service that stays steady says so.
pub const STEADY_AGAIN_MS: u64 = 6 * 60 * 60 * 1000;
/// What a bounded threshold is bounded by.
pub const BREAKER_FAILURES_MIN: u32 = 3;
pub const BREAKER_FAILURES_MAX: u32 = 200;
/// The threshold in percent of the desired count, if none is set.
pub const BREAKER_PERCENT: u32 = 50;

/// How many tasks there shall be, and how few healthy and how many in all there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub desired: u32,
    /// The fewest healthy tasks that our own actions may leave.
    pub floor: u32,
    /// The most tasks, those that are being stopped included, that our own actions may make.
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

/// How many failures trip the breaker of a service that desires so many tasks.
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

/// The pause after so many tries that all failed: none for the first, then 1 s, 2 s, 4 s, …
pub fn backoff_ms(streak: u32) -> u64 {
    match streak.checked_sub(FAST_TRIES + 1) {
        None => 0,
        Some(doublings) => 1_000_u64.checked_shl(doublings).unwrap_or(u64::MAX).min(BACKOFF_MS_MAX),
    }
}
