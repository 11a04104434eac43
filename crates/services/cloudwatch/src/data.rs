//! GetMetricData, and the queries that alarms are made of as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::Permission;
use longshore_types::{AccountId, Timestamp};
use metrics::{MetricId, Metrics};
use model::alarm::{Statistic, Watched, WatchedMetric, WatchedQuery};
use plan::metric_math::{self, NotComputed, POINTS_MAX, Series, common_period};

use crate::CloudWatch;
use crate::errors::{invalid, missing, token as bad_token, unavailable, validation};
use crate::limits::{DATAPOINTS_MAX, PERIODS_MAX, QUERIES_MAX};
use crate::pages;
use crate::put_metric_data::dimensions;

/// A period in seconds: 1, 5, 10, 20, 30, or minutes.
pub(crate) fn check_period(given: Option<i32>, name: &str) -> Result<u32, ApiError> {
    let given = given.unwrap_or_default();
    let is_fit = |period: &u32| {
        matches!(*period, 1 | 5 | 10 | 20 | 30) || (0 < *period && period.is_multiple_of(60))
    };
    u32::try_from(given).ok().filter(is_fit).ok_or_else(|| {
        invalid(format!(
            "The parameter {name} must be 1, 5, 10, 20, 30, or a multiple of 60; it is {given}."
        ))
    })
}

/// The first of the periods that a time is made of, and how many these are.
pub(crate) fn periods(start: Timestamp, end: Timestamp, period_s: u32) -> (Timestamp, u64) {
    let period_ms = u64::from(period_s.max(1)) * 1_000;
    let first = start.0 / period_ms * period_ms;
    (Timestamp(first), end.0.saturating_sub(first).div_ceil(period_ms))
}

/// What cannot be computed is refused.
pub(crate) fn not_computed(why: NotComputed) -> ApiError {
    validation(format!("{why}."))
}

/// Reads queries and checks what can be checked of them by themselves.
pub(crate) fn read_queries(
    given: Vec<api::MetricDataQuery>,
    at: &str,
) -> Result<Vec<WatchedQuery>, ApiError> {
    let given = given.into_iter().enumerate();
    let queries =
        given.map(|(position, query)| read_query(query, &format!("{at}.member.{}", position + 1)));
    let queries: Vec<WatchedQuery> = queries.collect::<Result<_, _>>()?;
    metric_math::check_ids(&queries).map_err(not_computed)?;
    for query in &queries {
        if let Watched::Expression(text) = &query.what {
            let parsed = metric_math::parse(text);
            let of_query = |why| NotComputed::Query { id: query.id.clone(), why: Box::new(why) };
            parsed.map_err(|why| not_computed(of_query(why)))?;
        }
    }
    Ok(queries)
}

fn read_query(query: api::MetricDataQuery, at: &str) -> Result<WatchedQuery, ApiError> {
    let id = query.id.unwrap_or_default();
    if query.account_id.is_some() {
        return Err(unavailable("AccountId: a query of another account's metrics"));
    }
    let what = match (query.metric_stat, query.expression) {
        (Some(stat), None) => Watched::Metric(read_stat(stat, at)?),
        (None, Some(text)) => Watched::Expression(text),
        (Some(_), Some(_)) => {
            return Err(validation(format!(
                "The parameters {at}.Expression and {at}.MetricStat are mutually exclusive and you have specified both."
            )));
        }
        (None, None) => {
            return Err(validation(format!(
                "One of the parameters {at}.Expression and {at}.MetricStat must be specified."
            )));
        }
    };
    Ok(WatchedQuery {
        id,
        label: query.label,
        is_returned: query.return_data.unwrap_or(true),
        what,
    })
}

fn read_stat(stat: api::MetricStat, at: &str) -> Result<WatchedMetric, ApiError> {
    let metric = stat.metric.unwrap_or_default();
    let name = stat.stat.unwrap_or_default();
    let statistic = Statistic::parse(&name).ok_or_else(|| {
        unavailable(&format!(
            "The statistic {name} of {at}.MetricStat.Stat, which is none of SampleCount, Average, Sum, Minimum and Maximum,"
        ))
    })?;
    let required = |value: Option<String>, name: &str| {
        value.ok_or_else(|| {
            missing(format!("The parameter {at}.MetricStat.Metric.{name} is required."))
        })
    };
    Ok(WatchedMetric {
        namespace: required(metric.namespace, "Namespace")?,
        name: required(metric.metric_name, "MetricName")?,
        dimensions: dimensions(metric.dimensions, &format!("{at}.MetricStat.Metric"))?,
        statistic,
        period_s: check_period(stat.period, &format!("{at}.MetricStat.Period"))?,
        unit: stat.unit.map(|unit| unit.as_str().to_owned()),
    })
}

/// The values of a metric in periods from one on.
pub(crate) fn series_of(
    metrics: &Metrics,
    account: AccountId,
    watched: &WatchedMetric,
    first: Timestamp,
    count: usize,
) -> Vec<Option<longshore_types::StatisticSet>> {
    let id = MetricId {
        account,
        namespace: watched.namespace.clone(),
        name: watched.name.clone(),
        dimensions: watched.dimensions.clone(),
    };
    metrics.read(&id, watched.unit.as_deref(), (first, watched.period_s), count)
}

/// One series of an answer, in the order of time.
struct Answered {
    id: String,
    label: String,
    points: Vec<(Timestamp, f64)>,
}

pub(crate) async fn get_metric_data(
    it: &CloudWatch,
    caller: &Caller,
    input: api::GetMetricDataInput,
) -> Result<api::GetMetricDataOutput, ApiError> {
    it.control.read(caller, &Permission::to("cloudwatch:GetMetricData").on("*"))?;
    let given = input.metric_data_queries.unwrap_or_default();
    if given.is_empty() || QUERIES_MAX < given.len() {
        return Err(validation(format!(
            "The collection MetricDataQueries must have a size between 1 and {QUERIES_MAX}."
        )));
    }
    let timezone = input.label_options.and_then(|options| options.timezone);
    if timezone.is_some_and(|zone| zone != "+0000") {
        return Err(unavailable("LabelOptions.Timezone other than +0000"));
    }
    let queries = read_queries(given, "MetricDataQueries")?;
    let (start, end) = (input.start_time.unwrap_or_default(), input.end_time.unwrap_or_default());
    if end <= start {
        return Err(validation("The parameter StartTime must be less than the parameter EndTime."));
    }
    let most = match input.max_datapoints {
        None => DATAPOINTS_MAX,
        Some(most) => usize::try_from(most)
            .ok()
            .filter(|most| (1..=DATAPOINTS_MAX).contains(most))
            .ok_or_else(|| {
                validation(format!(
                    "The parameter MaxDatapoints is between 1 and {DATAPOINTS_MAX}."
                ))
            })?,
    };
    let skipped: usize = match input.next_token.as_deref() {
        None => 0,
        Some(text) => pages::read(text)?.parse().map_err(|_| bad_token())?,
    };
    let metrics = Arc::clone(&it.metrics);
    let asked = Asked { metrics, account: caller.account, queries, start, end };
    // What is computed takes its time, which those who only wait for others do not spend.
    let turn = Arc::clone(&it.turns).acquire_owned().await;
    let turn = turn.map_err(|why| ApiError::fault("failed to get metric data", why))?;
    let compute = move || {
        // It goes on where the caller is gone, and so does its turn.
        let _turn = turn;
        asked.all()
    };
    let done = tokio::task::spawn_blocking(compute).await;
    let mut answered = done.map_err(|why| ApiError::fault("failed to get metric data", why))??;
    if input.scan_by != Some(api::ScanBy::TimestampAscending) {
        answered.iter_mut().for_each(|each| each.points.reverse());
    }
    Ok(cut(answered, skipped, most))
}

/// The part of an answer that comes after `skipped` points.
fn cut(answered: Vec<Answered>, mut skipped: usize, most: usize) -> api::GetMetricDataOutput {
    let total: usize = answered.iter().map(|each| each.points.len()).sum();
    let begun = skipped;
    let mut left = most;
    let mut results = Vec::new();
    for each in answered {
        let passed = skipped.min(each.points.len());
        skipped -= passed;
        let taken = left.min(each.points.len() - passed);
        left -= taken;
        let is_over = 0 < passed && passed == each.points.len();
        let is_begun = taken == 0 && passed < each.points.len();
        if is_over || is_begun {
            continue;
        }
        let is_whole = passed + taken == each.points.len();
        let shown = &each.points[passed..passed + taken];
        let status = if is_whole { "Complete" } else { "PartialData" };
        results.push(api::MetricDataResult {
            id: Some(each.id),
            label: Some(each.label),
            timestamps: Some(shown.iter().map(|(at, _)| *at).collect()),
            values: Some(shown.iter().map(|(_, value)| *value).collect()),
            status_code: Some(status.into()),
            messages: None,
        });
    }
    let end = begun + (most - left);
    api::GetMetricDataOutput {
        metric_data_results: Some(results),
        next_token: (end < total).then(|| pages::write(&end.to_string())),
        messages: Some(Vec::new()),
    }
}

/// What expressions come to, by their ids, and of which periods.
struct Computed {
    first: Timestamp,
    period_s: u32,
    values: BTreeMap<String, Vec<Series>>,
}

/// Queries over a time.
struct Asked {
    metrics: Arc<Metrics>,
    account: AccountId,
    queries: Vec<WatchedQuery>,
    start: Timestamp,
    end: Timestamp,
}

impl Asked {
    fn all(&self) -> Result<Vec<Answered>, ApiError> {
        self.check_length()?;
        let mut answered = Vec::new();
        let mut computed = None;
        for query in self.queries.iter().filter(|query| query.is_returned) {
            match &query.what {
                Watched::Metric(metric) => answered.push(self.metric(query, metric)),
                Watched::Expression(_) => {
                    if computed.is_none() {
                        computed = Some(self.computed()?);
                    }
                    let Some(Computed { first, period_s, values }) = &computed else { continue };
                    for series in values.get(&query.id).into_iter().flatten() {
                        let label = query.label.clone().unwrap_or_else(|| query.id.clone());
                        let points = points(series.iter().copied(), *first, *period_s);
                        answered.push(Answered { id: query.id.clone(), label, points });
                    }
                }
            }
        }
        Ok(answered)
    }

    /// That no more periods are looked at than a region may at once.
    fn check_length(&self) -> Result<(), ApiError> {
        // What is computed has as many periods as what it is computed from, and some where that is nothing. Of periods that
        // differ nothing is computed: that is refused by itself.
        let common_s = common_period(&self.queries).unwrap_or(60);
        let length = |query: &WatchedQuery| match &query.what {
            Watched::Metric(metric) => periods(self.start, self.end, metric.period_s).1,
            Watched::Expression(_) => periods(self.start, self.end, common_s).1,
        };
        let total: u64 = self.queries.iter().map(length).fold(0, u64::saturating_add);
        if total <= PERIODS_MAX {
            return Ok(());
        }
        Err(validation(format!(
            "The queries ask for {total} periods together, of which this region looks at up to {PERIODS_MAX} at once: ask \
             for a shorter time or longer periods."
        )))
    }

    fn metric(&self, query: &WatchedQuery, metric: &WatchedMetric) -> Answered {
        let (first, count) = periods(self.start, self.end, metric.period_s);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let read = series_of(&self.metrics, self.account, metric, first, count);
        let values = read.iter().map(|set| set.map(|set| metric.statistic.of(&set)));
        Answered {
            id: query.id.clone(),
            label: query.label.clone().unwrap_or_else(|| metric.name.clone()),
            points: points(values, first, metric.period_s),
        }
    }

    /// What each expression comes to, and the periods of it.
    fn computed(&self) -> Result<Computed, ApiError> {
        let period_s = common_period(&self.queries).map_err(not_computed)?;
        let (first, count) = periods(self.start, self.end, period_s);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let read = |metric: &WatchedMetric| {
            let sets = series_of(&self.metrics, self.account, metric, first, count);
            sets.iter().map(|set| set.map(|set| metric.statistic.of(&set))).collect()
        };
        let values =
            metric_math::compute(&self.queries, count, POINTS_MAX, read).map_err(not_computed)?;
        Ok(Computed { first, period_s, values })
    }
}

fn points(
    values: impl Iterator<Item = Option<f64>>,
    first: Timestamp,
    period_s: u32,
) -> Vec<(Timestamp, f64)> {
    let at = |position: u64| first.plus_ms(position * u64::from(period_s) * 1_000);
    (0..).zip(values).filter_map(|(position, value)| Some((at(position), value?))).collect()
}
