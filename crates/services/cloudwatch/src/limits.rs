//! CloudWatch's quotas.

/// Metrics of one PutMetricData.
pub(crate) const PUT_METRICS_MAX: usize = 1_000;
/// Values of one metric of a PutMetricData.
pub(crate) const VALUES_MAX: usize = 150;
/// How old samples may be, and how far ahead.
pub(crate) const PAST_MS: u64 = 14 * 86_400_000;
pub(crate) const AHEAD_MS: u64 = 2 * 3_600_000;
/// Alarms of a page.
pub(crate) const ALARMS_SHOWN_MAX: usize = 100;
pub(crate) const ALARMS_SHOWN_DEFAULT: usize = 50;
pub(crate) const METRICS_LISTED_MAX: usize = 500;
/// Queries of one GetMetricData, and of an alarm.
pub(crate) const QUERIES_MAX: usize = 500;
pub(crate) const ALARM_QUERIES_MAX: usize = 10;
/// Points of one answer of GetMetricData.
pub(crate) const DATAPOINTS_MAX: usize = 100_800;
/// Periods that one GetMetricData looks at, of all its queries together.
pub(crate) const PERIODS_MAX: u64 = 1_000_000;
/// Points of GetMetricStatistics.
pub(crate) const STATISTICS_MAX: u64 = 1_440;
/// How long an alarm's periods are together: where one is at least an hour, and where not.
pub(crate) const ALARM_S_MAX: u64 = 7 * 86_400;
pub(crate) const SHORT_ALARM_S_MAX: u64 = 86_400;
pub(crate) const TAGS_MAX: usize = 50;
pub(crate) const REASON_MAX: usize = 1_023;
pub(crate) const REASON_DATA_MAX: usize = 4_000;
