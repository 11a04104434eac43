//! What zonal shifts are kept to.

/// Shifts of a balancer that are still listed, the active one among them.
pub(crate) const SHIFTS_OF_BALANCER_MAX: usize = 20;
/// How long one may last: three days.
pub(crate) const MINUTES_MAX: u64 = 72 * 60;
pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const PAGE_MAX: usize = 100;
