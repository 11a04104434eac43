//! How much there may be of what comes from outside.

/// The longest document that is read at all: a key policy's limit, the largest of the services'.
pub const DOCUMENT_BYTES_MAX: usize = 131_072;

/// A managed policy, in characters that count.
pub const MANAGED_POLICY_MAX: usize = 6_144;
/// All inline policies of a user, a role and a group, in characters that count.
pub const USER_INLINE_MAX: usize = 2_048;
pub const ROLE_INLINE_MAX: usize = 10_240;
pub const GROUP_INLINE_MAX: usize = 5_120;
/// A role's trust policy, and the most that a quota may be raised to.
pub const TRUST_POLICY_MAX: usize = 2_048;
pub const TRUST_POLICY_RAISED_MAX: usize = 4_096;
/// A session policy, and how many managed policies may be passed beside it.
pub const SESSION_POLICY_MAX: usize = 2_048;
pub const SESSION_POLICY_ARNS_MAX: usize = 10;
/// Resource policies of secrets, of repositories and of keys.
pub const SECRET_POLICY_MAX: usize = 20_480;
pub const REPOSITORY_POLICY_MAX: usize = 10_240;
pub const KEY_POLICY_MAX: usize = 131_072;

/// Actions of which a set of policies keeps what speaks of them.
pub const ACTIONS_KEPT_MAX: usize = 512;
/// Statements that it keeps for them, each counted for every action that it speaks of. A user's groups may bring ten
/// thousand that speak of all actions.
pub const CANDIDATES_KEPT_MAX: usize = 4_096;
/// Comparisons of a set's statements on an action with one another, to leave out what was said: as many as 180 that all
/// differ take.
pub const COMPARISONS_MAX: usize = 16_384;

/// What counts of a document against IAM's quotas: its characters without white space.
pub fn counted_size(document: &str) -> usize {
    document.chars().filter(|c| !c.is_whitespace()).count()
}
