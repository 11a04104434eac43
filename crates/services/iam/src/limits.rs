//! IAM's default quotas.

pub(crate) const USERS_MAX: usize = 5_000;
pub(crate) const GROUPS_MAX: usize = 300;
pub(crate) const ROLES_MAX: usize = 1_000;
pub(crate) const POLICIES_MAX: usize = 1_500;
pub(crate) const PROFILES_MAX: usize = 1_000;
pub(crate) const PROVIDERS_MAX: usize = 100;
pub(crate) const CLIENT_IDS_MAX: usize = 100;
pub(crate) const THUMBPRINTS_MAX: usize = 5;
pub(crate) const GROUPS_OF_USER_MAX: usize = 10;
pub(crate) const KEYS_OF_USER_MAX: usize = 2;
pub(crate) const ATTACHED_MAX: usize = 10;
pub(crate) const VERSIONS_MAX: usize = 5;
/// Items of a page that says nothing of its size.
pub(crate) const PAGE_DEFAULT: usize = 100;
