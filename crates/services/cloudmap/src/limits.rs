//! Cloud Map's quotas.

pub(crate) const SERVICES_MAX: usize = 10_000;
pub(crate) const INSTANCES_OF_SERVICE_MAX: usize = 1_000;
pub(crate) const INSTANCES_OF_NAMESPACE_MAX: usize = 2_000;
/// Of an instance, with their letters in all.
pub(crate) const ATTRIBUTES_MAX: usize = 30;
pub(crate) const ATTRIBUTES_LEN_MAX: usize = 5_000;
pub(crate) const INSTANCE_ID_MAX: usize = 64;
pub(crate) const TAGS_MAX: usize = 50;
pub(crate) const PAGE_MAX: usize = 100;
pub(crate) const DISCOVERED_DEFAULT: usize = 100;
/// Negative answers are kept for so long unless it was said.
pub(crate) const SOA_TTL_S: u32 = 15;
/// How long an operation that is over can be asked for.
pub(crate) const OPERATION_MS: u64 = 24 * 3_600_000;
/// Operations of an account that can be asked for: of more, those that were done last.
pub(crate) const OPERATIONS_MAX: usize = 10_000;
