//! GetMetricStatistics.

use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::Permission;
use longshore_types::Timestamp;
use metrics::MetricId;
use model::alarm::Statistic;

use crate::CloudWatch;
use crate::data::{check_period, periods};
use crate::errors::{combination, invalid, missing, unavailable};
use crate::limits::STATISTICS_MAX;
use crate::put_metric_data::dimensions;

pub(crate) async fn get_metric_statistics(
    it: &CloudWatch,
    caller: &Caller,
    input: api::GetMetricStatisticsInput,
) -> Result<api::GetMetricStatisticsOutput, ApiError> {
    it.control.read(caller, &Permission::to("cloudwatch:GetMetricStatistics").on("*"))?;
    if input.extended_statistics.is_some_and(|extended| !extended.is_empty()) {
        return Err(unavailable("ExtendedStatistics: percentiles and what is trimmed"));
    }
    let asked = input.statistics.unwrap_or_default();
    if asked.is_empty() {
        return Err(missing("The parameter Statistics must contain at least one statistic."));
    }
    let asked: Vec<Statistic> = asked
        .iter()
        .map(|name| Statistic::parse(name.as_str()))
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("A value of the parameter Statistics is invalid."))?;
    let name = input.metric_name.unwrap_or_default();
    let metric = MetricId {
        account: caller.account,
        namespace: input.namespace.unwrap_or_default(),
        name: name.clone(),
        dimensions: dimensions(input.dimensions, "Dimensions")?,
    };
    let (start, end) = (input.start_time.unwrap_or_default(), input.end_time.unwrap_or_default());
    let period_s = check_period(input.period, "Period")?;
    if end <= start {
        return Err(invalid("The parameter StartTime must be less than the parameter EndTime."));
    }
    let (first, count) = periods(start, end, period_s);
    if STATISTICS_MAX < count {
        return Err(combination(format!(
            "You have requested up to {count} datapoints, which exceeds the limit of {STATISTICS_MAX}. You may reduce the \
             datapoints requested by increasing Period, or decreasing the time range."
        )));
    }
    let units = match input.unit {
        Some(unit) => vec![unit.as_str().to_owned()],
        None => it.metrics.units(&metric),
    };
    let mut points = Vec::new();
    for unit in &units {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let read = it.metrics.read(&metric, Some(unit), (first, period_s), count);
        for (position, set) in (0u64..).zip(read) {
            let Some(set) = set else { continue };
            let of = |which: Statistic| asked.contains(&which).then(|| which.of(&set));
            points.push(api::Datapoint {
                timestamp: Some(Timestamp(first.0 + position * u64::from(period_s) * 1_000)),
                sample_count: of(Statistic::SampleCount),
                average: of(Statistic::Average),
                sum: of(Statistic::Sum),
                minimum: of(Statistic::Minimum),
                maximum: of(Statistic::Maximum),
                unit: Some(unit.as_str().into()),
                extended_statistics: None,
            });
        }
    }
    Ok(api::GetMetricStatisticsOutput { label: Some(name), datapoints: Some(points) })
}
