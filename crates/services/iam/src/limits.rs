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
/// As long as the name of a user may be.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Hashes of passwords that are made at once, and that wait for that, strangers' and others' each: one takes a core for a
/// good part of a second.
pub(crate) const HASHES_AT_ONCE: usize = 1;
pub(crate) const HASHES_WAITING_MAX: usize = 32;
/// Second factors of a user, and devices of an account.
pub(crate) const DEVICES_OF_USER_MAX: usize = 8;
pub(crate) const DEVICES_MAX: usize = 5_000;
/// How many codes a device's clock may be off when it is made a user's, and when it is set again.
pub(crate) const OFF_ENABLED_MAX: i64 = 10;
pub(crate) const OFF_RESYNCED_MAX: i64 = 2_880;
/// Passwords of a user that are remembered, the one of now among them.
pub(crate) const PASSWORDS_MAX: usize = 24;
/// How long who signed in may go on, as at AWS's console.
pub(crate) const SIGNED_IN_MS: u64 = 12 * 60 * 60_000;
/// Of what uses a service-linked role, as many as are named.
pub(crate) const USES_SHOWN_MAX: usize = 100;
