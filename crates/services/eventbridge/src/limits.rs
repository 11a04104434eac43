//! Every limit of the service.

/// Rules of an account on its bus.
pub(crate) const RULES_MAX: usize = 300;
/// Targets of a rule.
pub(crate) const TARGETS_MAX: usize = 5;
/// Of a target, all that it says.
pub(crate) const TARGET_BYTES_MAX: usize = 128 << 10;
pub(crate) const TAGS_MAX: usize = 50;
/// Tasks that a target may run at once: as many as RunTask does.
pub(crate) const TASKS_MAX: i32 = 10;
/// Entries of one PutEvents together.
pub(crate) const PUT_BYTES_MAX: usize = 1 << 20;

/// A source's name.
pub(crate) const SOURCE_CHARS_MAX: usize = 256;
/// What may be spent on patterns for one event that somebody sends.
pub(crate) const EFFORT: usize = 1_000_000;
/// Tasks that an account's rules may have run at once, and how long each takes of that.
pub(crate) const TASKS_BURST: u64 = 100;
pub(crate) const TASK_MS: u64 = 100;

/// How often a target is tried again, and for how long, where it says nothing.
pub(crate) const RETRIES: u32 = 185;
pub(crate) const AGE_MS: u64 = 86_400_000;
/// How long after a failure a target is tried again at first, and at the most.
pub(crate) const RETRY_MS: u64 = 1_000;
pub(crate) const RETRY_MS_MAX: u64 = 480_000;

/// Events that are brought to their targets at the same time, and schedules that are looked at.
pub(crate) const DELIVERIES_AT_ONCE: usize = 64;
/// And of one account: those of one with many wait for each other.
pub(crate) const DELIVERIES_OF_ONE: usize = 4;
/// How long a role is assumed for.
pub(crate) const ROLE_MS: u64 = 900_000;
/// Times of a schedule that are looked through for the last one that was missed: a minute's of a day.
pub(crate) const MISSED_MAX: usize = 1_440;
/// A schedule that was looked at later than this from now was so by a clock that was ahead.
pub(crate) const CLOCK_MS: u64 = 60_000;
