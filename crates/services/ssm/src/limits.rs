//! Parameter Store's quotas, and those of activations.

/// Activations of an account, those that are over included.
pub(crate) const ACTIVATIONS_MAX: usize = 1_000;
pub(crate) const ACTIVATION_DAYS_MAX: u64 = 30;

pub(crate) const STANDARD_MAX: usize = 10_000;
pub(crate) const ADVANCED_MAX: usize = 100_000;
pub(crate) const STANDARD_CHARS_MAX: usize = 4_096;
pub(crate) const ADVANCED_CHARS_MAX: usize = 8_192;
/// Of the ARN.
pub(crate) const NAME_CHARS_MAX: usize = 1_011;
pub(crate) const LEVELS_MAX: usize = 15;
pub(crate) const VERSIONS_MAX: u64 = 100;
pub(crate) const LABELS_OF_VERSION_MAX: usize = 10;
pub(crate) const POLICIES_MAX: usize = 10;
/// The memory that a compiled pattern may take.
pub(crate) const PATTERN_BYTES_MAX: usize = 1 << 20;
pub(crate) const PAGE_MAX: usize = 50;
pub(crate) const PATH_PAGE_MAX: usize = 10;
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;
