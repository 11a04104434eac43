//! PutMetricData.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::Permission;
use longshore_types::{StatisticSet, Timestamp};
use metrics::{Datum, MetricId, PutError};
use model::alarm::dimensions_of;

use crate::CloudWatch;
use crate::errors::{combination, invalid, limit, missing, unavailable};
use crate::limits::{AHEAD_MS, PAST_MS, PUT_METRICS_MAX, VALUES_MAX};

/// The largest number, of either sign: 2^360.
fn number_max() -> f64 {
    2f64.powi(360)
}

pub(crate) async fn put_metric_data(
    it: &CloudWatch,
    caller: &Caller,
    input: api::PutMetricDataInput,
) -> Result<(), ApiError> {
    let namespace = input.namespace.unwrap_or_default();
    let permission = Permission::to("cloudwatch:PutMetricData")
        .on("*")
        .with("cloudwatch:namespace", namespace.clone());
    it.control.read(caller, &permission)?;
    if input.entity_metric_data.is_some_and(|entities| !entities.is_empty()) {
        return Err(unavailable("EntityMetricData"));
    }
    if namespace.starts_with("AWS/") {
        return Err(invalid("The value AWS/ for parameter Namespace is invalid."));
    }
    let given = input.metric_data.unwrap_or_default();
    if given.is_empty() {
        return Err(missing("The parameter MetricData is required."));
    }
    if PUT_METRICS_MAX < given.len() {
        let message = format!(
            "The collection MetricData must not have a size greater than {PUT_METRICS_MAX}."
        );
        return Err(invalid(message));
    }
    let now = it.control.clock.now();
    let data = given.into_iter().enumerate().map(|(position, datum)| {
        let at = format!("MetricData.member.{}", position + 1);
        Reader { caller, namespace: &namespace, at, now }.datum(datum)
    });
    let data: Vec<Datum> = data.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    put(it, data).await
}

/// Puts samples for good, on a thread that may wait for the disk.
async fn put(it: &CloudWatch, data: Vec<Datum>) -> Result<(), ApiError> {
    let metrics = Arc::clone(&it.metrics);
    let done = tokio::task::spawn_blocking(move || metrics.put(data)).await;
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why @ (PutError::TooMany | PutError::TooLongNames))) => {
            Err(limit(format!("{why}.")))
        }
        Ok(Err(why @ (PutError::TooLong | PutError::NotANumber))) => {
            Err(invalid(format!("The parameter MetricData is invalid: {why}.")))
        }
        Ok(Err(why @ PutError::Disk(_))) => Err(ApiError::fault("failed to put metrics", why)),
        Err(why) => Err(ApiError::fault("failed to put metrics", why)),
    }
}

/// Reads one metric of a request.
struct Reader<'a> {
    caller: &'a Caller,
    namespace: &'a str,
    /// What it is called in sentences.
    at: String,
    now: Timestamp,
}

impl Reader<'_> {
    fn datum(&self, given: api::MetricDatum) -> Result<Vec<Datum>, ApiError> {
        let at = &self.at;
        let set = self.samples(&given)?;
        let dimensions = dimensions(given.dimensions, at)?;
        let stamp = given.timestamp.unwrap_or(self.now);
        if PAST_MS < self.now.since_ms(stamp) || AHEAD_MS < stamp.since_ms(self.now) {
            return Err(invalid(format!(
                "The parameter {at}.Timestamp must specify a time within the past two weeks and no more than two hours in \
                 the future."
            )));
        }
        let is_fine = match given.storage_resolution {
            None | Some(60) => false,
            Some(1) => true,
            Some(other) => {
                return Err(invalid(format!(
                    "The value {other} for parameter {at}.StorageResolution is invalid: it is 1 or 60."
                )));
            }
        };
        let unit = given.unit.map_or_else(|| "None".to_owned(), |unit| unit.as_str().to_owned());
        let metric = MetricId {
            account: self.caller.account,
            namespace: self.namespace.to_owned(),
            name: given.metric_name.unwrap_or_default(),
            dimensions,
        };
        let datum = |set| Datum { metric, unit, at: stamp, set, is_fine };
        Ok(set.map(datum).into_iter().collect())
    }

    /// What all its samples come to; none where there are none.
    fn samples(&self, given: &api::MetricDatum) -> Result<Option<StatisticSet>, ApiError> {
        let at = &self.at;
        let ways = [
            ("Value", given.value.is_some()),
            ("StatisticValues", given.statistic_values.is_some()),
            ("Values", given.values.as_ref().is_some_and(|values| !values.is_empty())),
        ];
        let mut used = ways.iter().filter(|(_, is_used)| *is_used).map(|(name, _)| *name);
        match (used.next(), used.next()) {
            (Some(one), Some(other)) => {
                return Err(combination(format!(
                    "The parameters {at}.{one} and {at}.{other} are mutually exclusive and you have specified both."
                )));
            }
            (None, _) => {
                return Err(missing(format!(
                    "At least one of the parameters {at}.Value, {at}.Values and {at}.StatisticValues must be specified."
                )));
            }
            (Some(_), None) => {}
        }
        if let Some(value) = given.value {
            return Ok(Some(StatisticSet::one(self.number("Value", value)?)));
        }
        if let Some(set) = &given.statistic_values {
            return self.set(set).map(Some);
        }
        let values = given.values.as_deref().unwrap_or_default();
        let counts = given.counts.as_deref().unwrap_or_default();
        if VALUES_MAX < values.len() {
            return Err(invalid(format!(
                "The collection {at}.Values must not have a size greater than {VALUES_MAX}."
            )));
        }
        if !counts.is_empty() && counts.len() != values.len() {
            return Err(invalid(format!(
                "The parameters {at}.Values and {at}.Counts must be of the same size."
            )));
        }
        let mut all: Option<StatisticSet> = None;
        for (position, value) in values.iter().enumerate() {
            let value = self.number("Values", *value)?;
            let count = counts.get(position).copied().unwrap_or(1.0);
            if self.number("Counts", count)? <= 0.0 {
                return Err(invalid(format!("The parameter {at}.Counts must be greater than 0.")));
            }
            let set = StatisticSet::of(value, count);
            match &mut all {
                Some(all) => all.add(&set),
                None => all = Some(set),
            }
        }
        Ok(all)
    }

    fn set(&self, given: &api::StatisticSet) -> Result<StatisticSet, ApiError> {
        let at = &self.at;
        let number = |name: &str, value: Option<f64>| {
            self.number(&format!("StatisticValues.{name}"), value.unwrap_or_default())
        };
        let set = StatisticSet {
            count: number("SampleCount", given.sample_count)?,
            sum: number("Sum", given.sum)?,
            min: number("Minimum", given.minimum)?,
            max: number("Maximum", given.maximum)?,
        };
        if set.count <= 0.0 {
            return Err(invalid(format!(
                "The parameter {at}.StatisticValues.SampleCount must be greater than 0."
            )));
        }
        if set.max < set.min {
            return Err(invalid(format!(
                "The parameter {at}.StatisticValues.Maximum must be greater than or equal to \
                 {at}.StatisticValues.Minimum."
            )));
        }
        Ok(set)
    }

    fn number(&self, name: &str, value: f64) -> Result<f64, ApiError> {
        if value.is_finite() && value.abs() <= number_max() {
            return Ok(value);
        }
        Err(invalid(format!("The value {value} for parameter {}.{name} is invalid.", self.at)))
    }
}

/// Dimensions as they are given, by name.
pub(crate) fn dimensions(
    given: Option<Vec<api::Dimension>>,
    at: &str,
) -> Result<BTreeMap<String, String>, ApiError> {
    let given = given.unwrap_or_default().into_iter();
    let pairs = given.map(|it| (it.name.unwrap_or_default(), it.value.unwrap_or_default()));
    dimensions_of(pairs).map_err(|why| invalid(format!("The parameter {at} is invalid: {why}.")))
}
