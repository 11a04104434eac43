//! Every limit of this crate, by name. The first group is Amazon's, the second our own.

/// Events in one put.
pub const PUT_EVENTS_MAX: usize = 10_000;
/// Bytes in one put, with [`EVENT_OVERHEAD_BYTES`] for each event.
pub const PUT_BYTES_MAX: usize = 1 << 20;
/// What each event is billed on top of its message.
pub const EVENT_OVERHEAD_BYTES: usize = 26;
/// The time that one put may span.
pub const PUT_SPAN_MS_MAX: u64 = 24 * 3_600_000;
/// How far in the future an event may lie.
pub const FUTURE_MS_MAX: u64 = 2 * 3_600_000;
/// How old an event may be when it is put.
pub const PAST_MS_MAX: u64 = 14 * 24 * 3_600_000;
/// Events in one page of a get or a filter.
pub const PAGE_EVENTS_MAX: usize = 10_000;
/// Bytes of messages in one page of a get or a filter.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// Tags on one group.
pub const TAGS_MAX: usize = 50;
/// The retentions that may be asked for, in days.
pub const RETENTION_DAYS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];
/// Groups of one account.
pub const GROUPS_MAX: usize = 1_000_000;

/// Commands that may wait for the writer; a further caller waits before it is queued.
pub(crate) const QUEUE_MAX: usize = 1024;
/// Journal bytes that share one flush.
pub(crate) const COMMIT_BYTES_MAX: usize = 8 << 20;
/// Journal size at which stream files are flushed and a new journal begins.
pub(crate) const JOURNAL_BYTES_MAX: u64 = 32 << 20;
/// The largest record that a journal or a stream file may hold; a longer length is damage.
pub(crate) const RECORD_BYTES_MAX: usize = 4 << 20;
/// Writers of one stream whose last put is remembered.
pub(crate) const WRITERS_MAX: usize = 16;
/// Adjacent frames are read together up to this size.
pub(crate) const CHUNK_BYTES_MAX: u64 = 64 << 10;
/// Index entries kept in memory over all streams (32 bytes each).
pub(crate) const INDEX_ENTRIES_MAX: usize = 1 << 20;
/// Bytes of event files that one filter page may read before it answers with a token.
pub(crate) const FILTER_SCAN_BYTES_MAX: u64 = 64 << 20;
/// Bytes of decoded events that one filter may hold at once.
pub(crate) const FILTER_OPEN_BYTES_MAX: usize = 16 << 20;

/// How often a disk on which a flush failed is asked whether it is well again.
pub(crate) const RECOVER_PAUSE_MS: u64 = 1000;
