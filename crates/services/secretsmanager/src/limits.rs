//! Secrets Manager's quotas.

pub(crate) const SECRETS_MAX: usize = 500_000;
pub(crate) const VALUE_BYTES_MAX: usize = 65_536;
/// Versions of a secret, those without a stage among them.
pub(crate) const VERSIONS_MAX: usize = 100;
/// No version is removed that is younger.
pub(crate) const VERSION_AGE_MS_MIN: u64 = 24 * 3_600_000;
pub(crate) const STAGES_OF_VERSION_MAX: usize = 20;
pub(crate) const POLICY_BYTES_MAX: usize = 20_480;
pub(crate) const RECOVERY_DAYS: std::ops::RangeInclusive<i64> = 7..=30;
pub(crate) const RECOVERY_DAYS_DEFAULT: i64 = 30;
pub(crate) const PAGE_DEFAULT: usize = 100;
pub(crate) const BATCH_DEFAULT: usize = 20;
pub(crate) const PASSWORD_LEN_DEFAULT: i64 = 32;
pub(crate) const PASSWORD_LEN_MAX: i64 = 4_096;
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;
pub(crate) const HOUR_MS: u64 = 3_600_000;
/// How long a task of a rotation may take for a step.
pub(crate) const STEP_TASK_MS_MAX: u64 = 15 * 60_000;
/// How long the attempts of a rotation wait for each other; after the last the schedule says when there is another.
pub(crate) const ATTEMPT_PAUSES_MS: &[u64] = &[60_000, 5 * 60_000, 15 * 60_000, 3_600_000];
/// Rotations whose next step is looked at at once.
pub(crate) const ROTATIONS_AT_ONCE: usize = 64;
/// And of one account: a hook that does not answer holds up its own account's alone.
pub(crate) const ROTATIONS_OF_ACCOUNT: usize = 4;
pub(crate) const ROTATION_DAYS_MAX: u32 = 1_000;
pub(crate) const ROTATION_HOURS_MIN: u32 = 4;
