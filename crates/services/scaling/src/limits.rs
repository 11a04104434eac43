//! Application Auto Scaling's quotas.

pub(crate) const TARGETS_MAX: usize = 3_000;
/// Services of an account that activities are told of, those that are scaled no more too.
pub(crate) const ACTIVITIES_ROWS_MAX: usize = 2 * TARGETS_MAX;
/// Of a target.
pub(crate) const POLICIES_MAX: usize = 50;
pub(crate) const ACTIONS_MAX: usize = 200;
/// Of a policy.
pub(crate) const STEPS_MAX: usize = 20;
pub(crate) const QUERIES_MAX: usize = 10;
pub(crate) const TAGS_MAX: usize = 50;
pub(crate) const PAGE_MAX: usize = 50;
/// After so long without the count that was asked for, an activity is unfulfilled.
pub(crate) const FULFILLED_MS_MAX: u64 = 30 * 60_000;
