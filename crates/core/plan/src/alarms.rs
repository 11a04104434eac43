//! How an alarm stands: a function from what it watches and its last periods to a state and a sentence.
//!
//! More periods are looked at than it is evaluated by ([`RANGE_BEYOND`]): holes are passed over as long as there are as many
//! values as it takes, and only where there are fewer it counts how the alarm treats missing data.

use std::fmt::Write as _;

use longshore_types::Timestamp;
use model::alarm::{AlarmSource, AlarmState, Comparison, MetricAlarm, MissingData, Sample};

/// So many periods are looked at besides those that an alarm is evaluated by.
pub const RANGE_BEYOND: u32 = 2;
/// Values that a sentence names.
const NAMED_MAX: usize = 5;
/// Values whose details are kept with a state.
const KEPT_MAX: usize = 15;
const MINUTE_MS: u64 = 60_000;
/// Alarms of shorter periods than a minute are looked at so often.
const SHORT_MS: u64 = 10_000;
/// What hosts say of a minute arrives within this time after it.
const SETTLED_MS: u64 = 5_000;
const SHORT_SETTLED_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_S: u64 = 86_400;

/// Which periods are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: Timestamp,
    pub period_s: u32,
    pub count: u32,
}

impl Window {
    /// When a period begins.
    pub fn at(&self, position: usize) -> Timestamp {
        let position = u64::try_from(position).unwrap_or(u64::MAX);
        let period_ms = u64::from(self.period_s) * 1_000;
        self.start.plus_ms(period_ms.saturating_mul(position))
    }
}

/// How often an alarm is looked at, and how long after the end of a period.
fn rhythm(alarm: &MetricAlarm) -> (u64, u64) {
    let period_s = u64::from(alarm.source.period_s());
    if period_s < 60 {
        (SHORT_MS, SHORT_SETTLED_MS)
    } else if DAY_S < period_s.saturating_mul(u64::from(alarm.evaluation_periods)) {
        (HOUR_MS, SETTLED_MS)
    } else {
        (MINUTE_MS, SETTLED_MS)
    }
}

/// When an alarm is looked at next.
pub fn next_look(alarm: &MetricAlarm, now: Timestamp) -> Timestamp {
    let (every_ms, settled_ms) = rhythm(alarm);
    let turn = now.0.saturating_sub(settled_ms) / every_ms + 1;
    Timestamp(turn.saturating_mul(every_ms).saturating_add(settled_ms))
}

/// When it was time to look at an alarm for the last time.
pub fn last_look(alarm: &MetricAlarm, now: Timestamp) -> Timestamp {
    Timestamp(next_look(alarm, now).0.saturating_sub(rhythm(alarm).0))
}

/// The periods that an alarm is judged by now.
pub fn window(alarm: &MetricAlarm, now: Timestamp) -> Window {
    let (every_ms, settled_ms) = rhythm(alarm);
    let end = now.0.saturating_sub(settled_ms) / every_ms * every_ms;
    let period_s = alarm.source.period_s().max(1);
    let count = alarm.evaluation_periods.saturating_add(RANGE_BEYOND);
    let length = u64::from(count).saturating_mul(u64::from(period_s) * 1_000);
    Window { start: Timestamp(end.saturating_sub(length)), period_s, count }
}

/// A state, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub state: AlarmState,
    pub reason: String,
    /// In JSON.
    pub data: String,
}

/// How the periods stand, without words. `None`: as before.
pub fn judge(
    range: &[Option<f64>],
    (needed, breaching_needed): (usize, usize),
    missing: MissingData,
    is_breach: impl Fn(f64) -> bool,
) -> Option<AlarmState> {
    let real: Vec<(usize, f64)> =
        range.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?))).collect();
    let state = |is_alarm: bool| Some(if is_alarm { AlarmState::Alarm } else { AlarmState::Ok });
    if needed <= real.len() {
        let last = &real[real.len() - needed..];
        let breaching = last.iter().filter(|(_, value)| is_breach(*value)).count();
        return state(breaching_needed <= breaching);
    }
    let breaching = real.iter().filter(|(_, value)| is_breach(*value)).count();
    let filled = needed - real.len();
    match missing {
        MissingData::Breaching => state(breaching_needed <= breaching + filled),
        MissingData::NotBreaching => state(breaching_needed <= breaching),
        MissingData::Missing if real.is_empty() => Some(AlarmState::InsufficientData),
        MissingData::Ignore if real.is_empty() => None,
        MissingData::Missing | MissingData::Ignore if breaching_needed <= breaching => state(true),
        MissingData::Missing | MissingData::Ignore if breaching < real.len() => state(false),
        MissingData::Ignore => None,
        // All that there is breaches: enough, once the oldest of it is old enough.
        MissingData::Missing => {
            let oldest = real.first().map_or(0, |(at, _)| range.len() - at);
            (breaching_needed <= oldest).then_some(AlarmState::Alarm)
        }
    }
}

/// How an alarm stands by its last periods, the newest last; `None`: as before.
pub fn evaluate(
    alarm: &MetricAlarm,
    window: &Window,
    samples: &[Option<Sample>],
    now: Timestamp,
) -> Option<Verdict> {
    let needed = usize::try_from(alarm.evaluation_periods).unwrap_or(usize::MAX).max(1);
    let to_alarm = usize::try_from(alarm.datapoints_to_alarm()).unwrap_or(usize::MAX).max(1);
    let missing = alarm.missing_data.unwrap_or_default();
    let values: Vec<Option<f64>> = samples.iter().map(|it| it.map(|it| it.value)).collect();
    let is_breach = |value| alarm.comparison.breaches(value, alarm.threshold);
    let state = judge(&values, (needed, to_alarm), missing, is_breach)?;
    let mut real: Vec<(Timestamp, Sample)> = samples
        .iter()
        .enumerate()
        .filter_map(|(at, sample)| Some((window.at(at), (*sample)?)))
        .collect();
    let over = real.len().saturating_sub(needed);
    real.drain(..over);
    let words = Words { alarm, state, needed, to_alarm, missing };
    Some(Verdict { state, reason: words.reason(&real), data: words.data(&real, window, now) })
}

/// Makes the sentence of a state.
struct Words<'a> {
    alarm: &'a MetricAlarm,
    state: AlarmState,
    needed: usize,
    to_alarm: usize,
    missing: MissingData,
}

impl Words<'_> {
    fn reason(&self, real: &[(Timestamp, Sample)]) -> String {
        let filled = self.needed - real.len();
        if self.state == AlarmState::InsufficientData {
            return match self.needed {
                1 => "Insufficient Data: 1 datapoint was unknown.".to_owned(),
                count => format!("Insufficient Data: {count} datapoints were unknown."),
            };
        }
        let is_filled = matches!(self.missing, MissingData::Breaching | MissingData::NotBreaching);
        if 0 < filled && is_filled {
            return self.of_filled(real, filled);
        }
        let is_alarm = self.state == AlarmState::Alarm;
        let threshold = self.alarm.threshold;
        let hits: Vec<&(Timestamp, Sample)> = real
            .iter()
            .filter(|(_, it)| self.alarm.comparison.breaches(it.value, threshold) == is_alarm)
            .collect();
        let (hit, of) = (hits.len(), real.len());
        let verb = match (hit, is_alarm) {
            (1, true) => "was",
            (_, true) => "were",
            (1, false) => "was not",
            (_, false) => "were not",
        };
        let comparison = comparison(self.alarm.comparison);
        let (least, change) = match is_alarm {
            true => (self.to_alarm, "OK -> ALARM"),
            false => (self.needed - self.to_alarm.min(self.needed) + 1, "ALARM -> OK"),
        };
        let plural = if least == 1 { "datapoint" } else { "datapoints" };
        let end = format!("(minimum {least} {plural} for {change} transition).");
        let named = hits.iter().rev().take(NAMED_MAX).map(|(at, it)| point(*at, it.value));
        let named: Vec<String> = named.collect();
        let named = named.join(", ");
        if NAMED_MAX < hit || matches!(self.alarm.source, AlarmSource::Queries(_)) {
            return format!(
                "Threshold Crossed: {hit} out of the last {of} datapoints {verb} {comparison} the threshold \
                 ({threshold:?}). The most recent datapoints which crossed the threshold: [{named}] {end}"
            );
        }
        format!(
            "Threshold Crossed: {hit} out of the last {of} datapoints [{named}] {verb} {comparison} the threshold \
             ({threshold:?}) {end}"
        )
    }

    fn of_filled(&self, real: &[(Timestamp, Sample)], filled: usize) -> String {
        let word = match self.missing {
            MissingData::Breaching => "Breaching",
            MissingData::NotBreaching | MissingData::Missing | MissingData::Ignore => {
                "NonBreaching"
            }
        };
        let missing = match filled {
            1 => "1 missing datapoint was treated as".to_owned(),
            count => format!("{count} missing datapoints were treated as"),
        };
        let periods = match self.needed {
            1 => "1 period".to_owned(),
            count => format!("{count} periods"),
        };
        let received = match real.len() {
            0 => "no datapoints were received".to_owned(),
            1 => "1 datapoint was received".to_owned(),
            count => format!("{count} datapoints were received"),
        };
        format!("Threshold Crossed: {received} for {periods} and {missing} [{word}].")
    }

    fn data(&self, real: &[(Timestamp, Sample)], window: &Window, now: Timestamp) -> String {
        let kept = &real[real.len().saturating_sub(KEPT_MAX)..];
        let mut out = format!("{{\"version\":\"1.0\",\"queryDate\":\"{}\"", stamp(now));
        if let Some((at, _)) = kept.first() {
            let _ = write!(out, ",\"startDate\":\"{}\"", stamp(*at));
        }
        if let AlarmSource::Metric(metric) = &self.alarm.source {
            if let Some(unit) = &metric.unit {
                let _ = write!(out, ",\"unit\":\"{unit}\"");
            }
            let _ = write!(out, ",\"statistic\":\"{}\"", metric.statistic.as_str());
        }
        let recent: Vec<String> = kept.iter().map(|(_, it)| number(it.value)).collect();
        let _ = write!(
            out,
            ",\"period\":{},\"recentDatapoints\":[{}],\"threshold\":{}",
            window.period_s,
            recent.join(","),
            number(self.alarm.threshold)
        );
        let evaluated: Vec<String> = kept
            .iter()
            .rev()
            .map(|(at, it)| {
                format!(
                    "{{\"timestamp\":\"{}\",\"sampleCount\":{},\"value\":{}}}",
                    stamp(*at),
                    number(it.count),
                    number(it.value)
                )
            })
            .collect();
        let _ = write!(out, ",\"evaluatedDatapoints\":[{}]}}", evaluated.join(","));
        out
    }
}

/// `8.89 (14/07/21 23:18:00)`
fn point(at: Timestamp, value: f64) -> String {
    let civil = at.civil();
    let (day, month, year) = (civil.day(), civil.month(), civil.year().rem_euclid(100));
    let (hour, minute, second) = (civil.hour(), civil.minute(), civil.second());
    format!("{value:?} ({day:02}/{month:02}/{year:02} {hour:02}:{minute:02}:{second:02})")
}

/// `2019-10-02T17:04:40.985+0000`
pub fn stamp(at: Timestamp) -> String {
    let mut text = at.iso8601();
    text.truncate(text.len() - 1);
    text + "+0000"
}

/// A number as JSON has it.
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:?}") } else { "null".to_owned() }
}

fn comparison(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::GreaterThanOrEqualToThreshold => "greater than or equal to",
        Comparison::GreaterThanThreshold => "greater than",
        Comparison::LessThanThreshold => "less than",
        Comparison::LessThanOrEqualToThreshold => "less than or equal to",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longshore_types::Scope;
    use model::alarm::{Statistic, WatchedMetric};

    use super::*;

    /// `0 - X`: below, nothing, above.
    fn range(text: &str) -> Vec<Option<f64>> {
        let value = |word| match word {
            "X" => Some(2.0),
            "0" => Some(0.0),
            _ => None,
        };
        text.split(' ').map(value).collect()
    }

    #[test]
    fn missing_data_is_treated_as_the_documents_tables_say() {
        use AlarmState::{Alarm, InsufficientData, Ok};
        let keep = None;
        for (text, to_alarm, missing, ignore, breaching, not_breaching) in [
            ("0 - X - X", 3, Some(Ok), Some(Ok), Ok, Ok),
            ("0 - - - -", 3, Some(Ok), Some(Ok), Ok, Ok),
            ("- - - - -", 3, Some(InsufficientData), keep, Alarm, Ok),
            ("0 X X - X", 3, Some(Alarm), Some(Alarm), Alarm, Alarm),
            ("- - X - -", 3, Some(Alarm), keep, Alarm, Ok),
            ("- - - - X", 3, keep, keep, Alarm, Ok),
            ("- - - X -", 3, keep, keep, Alarm, Ok),
            ("0 - X - X", 2, Some(Alarm), Some(Alarm), Alarm, Alarm),
            ("0 0 X 0 X", 2, Some(Alarm), Some(Alarm), Alarm, Alarm),
            ("0 - X - -", 2, Some(Ok), Some(Ok), Alarm, Ok),
            ("- - - - 0", 2, Some(Ok), Some(Ok), Alarm, Ok),
            ("- - - X -", 2, Some(Alarm), keep, Alarm, Ok),
        ] {
            let range = range(text);
            for (how, expected) in [
                (MissingData::Missing, missing),
                (MissingData::Ignore, ignore),
                (MissingData::Breaching, Some(breaching)),
                (MissingData::NotBreaching, Some(not_breaching)),
            ] {
                let judged = judge(&range, (3, to_alarm), how, |value| value > 1.0);
                assert_eq!(judged, expected, "{text} {to_alarm} {how:?}");
            }
        }
    }

    fn alarm(periods: u32, to_alarm: Option<u32>, missing: MissingData) -> MetricAlarm {
        let account = "000000000000".parse().unwrap();
        MetricAlarm {
            scope: Scope { region: "us-east-1".parse().unwrap(), account },
            name: Arc::from("high"),
            description: None,
            actions_enabled: true,
            ok_actions: vec![],
            alarm_actions: vec![],
            insufficient_data_actions: vec![],
            source: AlarmSource::Metric(WatchedMetric {
                namespace: "AWS/ECS".to_owned(),
                name: "CPUUtilization".to_owned(),
                dimensions: [].into(),
                statistic: Statistic::Average,
                period_s: 60,
                unit: Some("Percent".to_owned()),
            }),
            evaluation_periods: periods,
            datapoints_to_alarm: to_alarm,
            comparison: Comparison::GreaterThanOrEqualToThreshold,
            threshold: 7.0,
            missing_data: Some(missing),
            configured_at: Timestamp(0),
            state: AlarmState::InsufficientData,
            reason: String::new(),
            reason_data: None,
            updated_at: Timestamp(0),
            transitioned_at: Timestamp(0),
            tags: [].into(),
        }
    }

    fn verdict(alarm: &MetricAlarm, values: &[Option<f64>]) -> Verdict {
        // 2021-07-14T23:19:30Z
        let now = Timestamp(1_626_304_770_000);
        let window = window(alarm, now);
        assert_eq!(usize::try_from(window.count).unwrap(), values.len());
        let samples: Vec<_> =
            values.iter().map(|it| it.map(|value| Sample { value, count: 3.0 })).collect();
        evaluate(alarm, &window, &samples, now).expect("a verdict")
    }

    #[test]
    fn a_state_is_told_in_amazons_sentences() {
        let three = alarm(3, None, MissingData::Missing);
        let high = verdict(&three, &[None, Some(1.0), Some(9.71), Some(9.72), Some(8.5)]);
        assert_eq!(high.state, AlarmState::Alarm);
        assert_eq!(
            high.reason,
            "Threshold Crossed: 3 out of the last 3 datapoints [8.5 (14/07/21 23:18:00), 9.72 (14/07/21 23:17:00), \
             9.71 (14/07/21 23:16:00)] were greater than or equal to the threshold (7.0) (minimum 3 datapoints for OK \
             -> ALARM transition)."
        );
        let data = r#"{"version":"1.0","queryDate":"2021-07-14T23:19:30.000+0000","startDate":"2021-07-14T23:16:00.000+0000","unit":"Percent","statistic":"Average","period":60,"recentDatapoints":[9.71,9.72,8.5],"threshold":7.0,"evaluatedDatapoints":[{"timestamp":"2021-07-14T23:18:00.000+0000","sampleCount":3.0,"value":8.5}"#;
        assert!(high.data.starts_with(data), "{}", high.data);
        let low = verdict(&alarm(1, None, MissingData::Missing), &[None, None, Some(2.0)]);
        assert_eq!(
            low.reason,
            "Threshold Crossed: 1 out of the last 1 datapoints [2.0 (14/07/21 23:18:00)] was not greater than or equal \
             to the threshold (7.0) (minimum 1 datapoint for ALARM -> OK transition)."
        );
        let none = verdict(&alarm(1, None, MissingData::Missing), &[None; 3]);
        assert_eq!(none.reason, "Insufficient Data: 1 datapoint was unknown.");
        let filled = verdict(&alarm(3, None, MissingData::Breaching), &[None; 5]);
        assert_eq!(
            filled.reason,
            "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as \
             [Breaching]."
        );
    }

    #[test]
    fn alarms_are_looked_at_each_minute_and_those_of_short_periods_each_ten_seconds() {
        let minute = alarm(3, None, MissingData::Missing);
        let at = |ms| next_look(&minute, Timestamp(ms));
        assert_eq!((at(0), at(64_999)), (Timestamp(65_000), Timestamp(65_000)));
        assert_eq!(at(65_000), Timestamp(125_000));
        let mut short = minute.clone();
        let AlarmSource::Metric(metric) = &mut short.source else { unreachable!() };
        metric.period_s = 10;
        assert_eq!(next_look(&short, Timestamp(11_000)), Timestamp(21_000));
        let window = window(&short, Timestamp(101_500));
        assert_eq!((window.start, window.at(4)), (Timestamp(50_000), Timestamp(90_000)));
    }
}
