//! CloudWatch's alarms: what they watch, how they stand, and what happened to them.
//!
//! **Invariant:** `state` and what says why are written by the evaluation and by SetAlarmState; everything else by whoever
//! puts the alarm.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use longshore_types::{AccountId, Scope, StatisticSet, Timestamp};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::tags::Tags;
use crate::view::Index;

/// What happened last to an alarm: so many things are kept.
pub const HISTORY_ITEMS_MAX: usize = 100;
/// Of so many bytes together, the last one aside.
pub const HISTORY_BYTES_MAX: usize = 256 << 10;
/// For so long.
pub const HISTORY_KEPT_MS: u64 = 30 * 86_400_000;

/// Why an alarm stands as it does that nobody has looked at.
pub const UNCHECKED: &str = "Unchecked: Initial alarm creation";

/// Names and values of dimensions.
pub type Dimensions = BTreeMap<String, String>;

/// Dimensions of a metric.
pub const DIMENSIONS_MAX: usize = 30;

/// Why dimensions are none of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDimensions {
    TooMany,
    Twice(String),
}

impl fmt::Display for NotDimensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(
                f,
                "the collection Dimensions must not have a size greater than {DIMENSIONS_MAX}"
            ),
            Self::Twice(name) => write!(f, "the dimension {name} is given twice"),
        }
    }
}

/// Dimensions as they are given, by name.
pub fn dimensions_of(
    given: impl ExactSizeIterator<Item = (String, String)>,
) -> Result<Dimensions, NotDimensions> {
    if DIMENSIONS_MAX < given.len() {
        return Err(NotDimensions::TooMany);
    }
    let mut all = Dimensions::new();
    for (name, value) in given {
        if all.insert(name.clone(), value).is_some() {
            return Err(NotDimensions::Twice(name));
        }
    }
    Ok(all)
}

/// How an alarm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlarmState {
    InsufficientData,
    Ok,
    Alarm,
}

impl AlarmState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InsufficientData => "INSUFFICIENT_DATA",
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::InsufficientData, Self::Ok, Self::Alarm].into_iter().find(|it| it.as_str() == text)
    }
}

impl fmt::Display for AlarmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is made of the samples of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Statistic {
    SampleCount,
    Average,
    Sum,
    Minimum,
    Maximum,
}

impl Statistic {
    pub const ALL: [Self; 5] =
        [Self::SampleCount, Self::Average, Self::Sum, Self::Minimum, Self::Maximum];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SampleCount => "SampleCount",
            Self::Average => "Average",
            Self::Sum => "Sum",
            Self::Minimum => "Minimum",
            Self::Maximum => "Maximum",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }

    /// What it makes of samples.
    pub fn of(self, set: &StatisticSet) -> f64 {
        match self {
            Self::SampleCount => set.count,
            Self::Average => set.average(),
            Self::Sum => set.sum,
            Self::Minimum => set.min,
            Self::Maximum => set.max,
        }
    }
}

/// How values are compared with the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Comparison {
    GreaterThanOrEqualToThreshold,
    GreaterThanThreshold,
    LessThanThreshold,
    LessThanOrEqualToThreshold,
}

impl Comparison {
    pub const ALL: [Self; 4] = [
        Self::GreaterThanOrEqualToThreshold,
        Self::GreaterThanThreshold,
        Self::LessThanThreshold,
        Self::LessThanOrEqualToThreshold,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GreaterThanOrEqualToThreshold => "GreaterThanOrEqualToThreshold",
            Self::GreaterThanThreshold => "GreaterThanThreshold",
            Self::LessThanThreshold => "LessThanThreshold",
            Self::LessThanOrEqualToThreshold => "LessThanOrEqualToThreshold",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }

    /// Whether a value is one that alarms.
    pub fn breaches(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::GreaterThanOrEqualToThreshold => value >= threshold,
            Self::GreaterThanThreshold => value > threshold,
            Self::LessThanThreshold => value < threshold,
            Self::LessThanOrEqualToThreshold => value <= threshold,
        }
    }
}

/// What is made of periods without a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MissingData {
    #[default]
    Missing,
    Ignore,
    Breaching,
    NotBreaching,
}

impl MissingData {
    pub const ALL: [Self; 4] = [Self::Missing, Self::Ignore, Self::Breaching, Self::NotBreaching];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ignore => "ignore",
            Self::Breaching => "breaching",
            Self::NotBreaching => "notBreaching",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

/// A metric, and what is made of its samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedMetric {
    pub namespace: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: Dimensions,
    pub statistic: Statistic,
    pub period_s: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// One of the queries that a watched value is computed by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedQuery {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub is_returned: bool,
    pub what: Watched,
}

/// A metric, or what is computed from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Watched {
    Metric(WatchedMetric),
    Expression(String),
}

/// What an alarm watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AlarmSource {
    Metric(WatchedMetric),
    Queries(Vec<WatchedQuery>),
}

impl AlarmSource {
    /// The length of what is compared with the threshold.
    pub fn period_s(&self) -> u32 {
        match self {
            Self::Metric(metric) => metric.period_s,
            Self::Queries(queries) => {
                let periods = queries.iter().filter_map(|query| match &query.what {
                    Watched::Metric(metric) => Some(metric.period_s),
                    Watched::Expression(_) => None,
                });
                periods.max().unwrap_or(60)
            }
        }
    }
}

/// A period's value, and of how many samples it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub value: f64,
    pub count: f64,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricAlarm {
    pub scope: Scope,
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub actions_enabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ok_actions: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarm_actions: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub insufficient_data_actions: Vec<String>,
    pub source: AlarmSource,
    pub evaluation_periods: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapoints_to_alarm: Option<u32>,
    pub comparison: Comparison,
    pub threshold: f64,
    /// As it was said; none is `missing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_data: Option<MissingData>,
    pub configured_at: Timestamp,
    pub state: AlarmState,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_data: Option<String>,
    pub updated_at: Timestamp,
    pub transitioned_at: Timestamp,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
}

/// `arn:aws:cloudwatch:<region>:<account>:alarm:<name>`
pub fn arn(scope: &Scope, name: &str) -> String {
    format!("arn:aws:cloudwatch:{}:{}:alarm:{name}", scope.region, scope.account)
}

impl MetricAlarm {
    pub fn arn(&self) -> String {
        arn(&self.scope, &self.name)
    }

    /// What is done in a state.
    pub fn actions(&self, state: AlarmState) -> &[String] {
        match state {
            AlarmState::Alarm => &self.alarm_actions,
            AlarmState::Ok => &self.ok_actions,
            AlarmState::InsufficientData => &self.insufficient_data_actions,
        }
    }

    /// How many of the last periods must breach.
    pub fn datapoints_to_alarm(&self) -> u32 {
        self.datapoints_to_alarm.unwrap_or(self.evaluation_periods)
    }
}

/// The scaling policy that an action names, by its ARN without who made the alarm.
pub fn policy_of(action: &str) -> Option<&str> {
    let is_policy =
        action.starts_with("arn:aws:autoscaling:") && action.contains(":scalingPolicy:");
    let arn = action.split_once(":createdBy/").map_or(action, |(arn, _)| arn);
    is_policy.then_some(arn)
}

impl Record for MetricAlarm {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn indexes(&self) -> Vec<Index> {
        let account = self.scope.account;
        let mut indexes = vec![Index::MetricAlarms(account)];
        let actions = [&self.ok_actions, &self.alarm_actions, &self.insufficient_data_actions];
        for policy in actions.into_iter().flatten().filter_map(|action| policy_of(action)) {
            let index = Index::PolicyAlarms(account, policy.into());
            if !indexes.contains(&index) {
                indexes.push(index);
            }
        }
        indexes
    }
}

/// What sort of thing happened to an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HistoryKind {
    ConfigurationUpdate,
    StateUpdate,
    Action,
}

impl HistoryKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigurationUpdate => "ConfigurationUpdate",
            Self::StateUpdate => "StateUpdate",
            Self::Action => "Action",
        }
    }
}

/// One thing that happened to an alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryItem {
    pub at: Timestamp,
    pub kind: HistoryKind,
    pub summary: String,
    pub data: String,
}

/// What happened to an alarm, the oldest first; of one that was deleted too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlarmHistory {
    pub account: AccountId,
    pub alarm: Arc<str>,
    pub items: Vec<HistoryItem>,
}

impl AlarmHistory {
    /// Adds what happened, and forgets what is too old to be shown.
    pub fn add(&mut self, item: HistoryItem) {
        let now = item.at;
        self.items.retain(|old| now.since_ms(old.at) < HISTORY_KEPT_MS);
        self.items.push(item);
        let newest = self.items.iter().rev().take(HISTORY_ITEMS_MAX);
        let bytes = newest.scan(0, |bytes: &mut usize, item| {
            *bytes += item.summary.len() + item.data.len();
            Some(*bytes)
        });
        let kept = bytes.take_while(|bytes| *bytes <= HISTORY_BYTES_MAX).count().max(1);
        self.items.drain(..self.items.len().saturating_sub(kept));
    }
}

impl Record for AlarmHistory {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.alarm)
    }
}
