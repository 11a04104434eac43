//! Every limit of routing, with its name.

/// Wildcards (`*` and `?`) of one rule, over all its conditions.
pub const RULE_WILDCARDS_MAX: usize = 6;
/// Values of one rule, over all its conditions.
pub const RULE_VALUES_MAX: usize = 5;
/// Bytes of a host, path or header value in a condition, and of a regular expression.
pub const CONDITION_VALUE_BYTES_MAX: usize = 128;
/// Bytes of the regular expression and of the replacement of a transform.
pub const REWRITE_BYTES_MAX: usize = 1024;
/// Bytes that a compiled regular expression may take; a larger one is refused.
pub const REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a redirect's `Location`; a longer one answers 507.
pub const LOCATION_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a host or path after a transform; a longer one answers 400.
pub const REWRITTEN_BYTES_MAX: usize = 16 * 1024;
