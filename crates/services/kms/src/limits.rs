//! KMS's quotas.

pub(crate) const KEYS_MAX: usize = 100_000;
pub(crate) const ALIASES_OF_KEY_MAX: usize = 50;
pub(crate) const POLICY_BYTES_MAX: usize = 32_768;
/// Amazon's is 50,000.
pub(crate) const GRANTS_OF_KEY_MAX: usize = 1_000;
pub(crate) const GRANTS_PAGE_DEFAULT: i32 = 50;
pub(crate) const PAGE_DEFAULT: usize = 100;
pub(crate) const DELETION_DAYS: std::ops::RangeInclusive<i32> = 7..=30;
pub(crate) const DELETION_DAYS_DEFAULT: i32 = 30;
pub(crate) const ROTATION_DAYS: std::ops::RangeInclusive<i32> = 90..=2_560;
pub(crate) const ROTATION_DAYS_DEFAULT: i32 = 365;
/// Times that a key's material is rotated because somebody asked for it.
pub(crate) const ROTATIONS_ON_DEMAND_MAX: usize = 25;
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;
