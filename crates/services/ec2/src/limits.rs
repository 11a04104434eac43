//! Every limit of this crate.

/// Rules of a security group in one direction and of one family of addresses. Amazon's default is 60, and this
/// the most that it can be raised to.
pub(crate) const RULES_PER_DIRECTION_MAX: usize = 1_000;
/// Rules that one call adds, or changes: with their tags they are rows of one commit.
pub(crate) const RULES_PER_CALL_MAX: usize = 240;
/// Security groups of an account in one region.
pub(crate) const GROUPS_MAX: usize = 2_500;
/// Rows that one step of a deletion takes with it.
pub(crate) const DELETED_ROWS_MAX: usize = 400;
/// Resources that one call tags.
pub(crate) const TAGGED_RESOURCES_MAX: usize = 400;
pub(crate) const FILTERS_MAX: usize = 50;
pub(crate) const FILTER_VALUES_MAX: usize = 200;
