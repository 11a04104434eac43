//! What the store holds at most, and for how long.

/// Metrics that an account puts and that are remembered, each unit for itself.
pub const SERIES_MAX: usize = 10_000;
/// Bytes of what an account calls those that it puts: names, dimensions and units.
pub const NAME_BYTES_MAX: usize = 32 << 20;
/// Points of all metrics together. Where there are more, accounts that have more than their share keep fewer.
pub const POINTS_MAX: usize = 2_000_000;
/// How often that which a series keeps is halved at most, until an account has no more than its share.
pub(crate) const SHARE_STEPS: u32 = 13;
/// Samples of single seconds are kept for so long.
pub const SECONDS_KEPT_S: u64 = 3 * 3_600;
/// Those of minutes.
pub const MINUTES_KEPT_S: u64 = 2 * 86_400;
/// Those of five minutes.
pub const FIVES_KEPT_S: u64 = 15 * 86_400;
/// Those of hours; a metric without any is forgotten.
pub const HOURS_KEPT_S: u64 = 63 * 86_400;
/// Metrics are listed for so long after their last sample.
pub const LISTED_S: u64 = 14 * 86_400;
/// A journal of so many bytes is put together with what was before it.
pub const JOURNAL_BYTES_MAX: u64 = 16 << 20;
/// So many series are put to a snapshot while who reads waits.
pub(crate) const ENCODED_AT_ONCE: usize = 64;
/// One record of the journal: a put of more is refused.
pub(crate) const RECORD_BYTES_MAX: usize = 8 << 20;
/// What comes by itself is written down in records of so many samples, each of some hundred bytes.
pub(crate) const NOTED_AT_ONCE: usize = 4_096;
