//! When a secret is rotated: `RotationRules` read, shown, and the window they lead to.
//!
//! A window opens at a full hour of UTC and closes before the day is over; a rotation begins when it opens.

use aws_wire::ApiError;
use longshore_types::Timestamp;
use model::Secret;
use model::secret::{CURRENT, RotationRules};
use plan::schedule::Cron;
use secretsmanager_api as api;

use crate::errors::invalid;
use crate::limits::{DAY_MS, HOUR_MS, ROTATION_DAYS_MAX, ROTATION_HOURS_MIN};

/// Hours of a day.
const DAY_HOURS: u32 = 24;

/// When a secret is rotated next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) opens: Timestamp,
    pub(crate) closes: Timestamp,
}

/// A schedule, understood.
#[derive(Debug)]
enum When {
    Days(u32),
    Hours(u32),
    Cron(Box<Cron>),
}

/// Rules as a request gives them.
pub(crate) fn read(given: &api::RotationRulesType) -> Result<RotationRules, ApiError> {
    let after_days = match given.automatically_after_days {
        None => None,
        Some(days) => match u32::try_from(days) {
            Ok(days) if (1..=ROTATION_DAYS_MAX).contains(&days) => Some(days),
            Ok(_) | Err(_) => {
                return Err(invalid(format!(
                    "AutomaticallyAfterDays must be between 1 and {ROTATION_DAYS_MAX}."
                )));
            }
        },
    };
    let schedule = given.schedule_expression.clone();
    if after_days.is_some() && schedule.is_some() {
        return Err(invalid(
            "You can specify AutomaticallyAfterDays or ScheduleExpression in RotationRules, but not both.",
        ));
    }
    let rules = RotationRules { after_days, duration: given.duration.clone(), schedule };
    check(&rules)?;
    Ok(rules)
}

pub(crate) fn render(rules: &RotationRules) -> api::RotationRulesType {
    let when = when(rules).ok().flatten();
    let days = match when {
        Some(When::Days(days)) => Some(i64::from(days)),
        Some(When::Hours(_) | When::Cron(_)) | None => None,
    };
    api::RotationRulesType {
        automatically_after_days: days,
        duration: rules.duration.clone(),
        schedule_expression: rules.schedule.clone(),
    }
}

/// The window in which a secret is to be rotated next, if it is to be.
pub(crate) fn next_window(secret: &Secret) -> Option<Window> {
    let rotation = secret.rotation.as_deref().filter(|rotation| rotation.is_enabled)?;
    let mut from = rotation.counted_from;
    // A value that somebody put counts as a rotation where days are counted.
    let current = secret.staged(CURRENT).and_then(|version| secret.versions.get(version));
    if let Some(current) = current.filter(|_| rotation.rules.after_days.is_some()) {
        from = from.max(current.created_at);
    }
    window_after(&rotation.rules, from)
}

/// The first window after a time.
pub(crate) fn window_after(rules: &RotationRules, from: Timestamp) -> Option<Window> {
    let when = when(rules).ok().flatten()?;
    let duration = duration(rules).ok().flatten();
    let day_of = |at: Timestamp| Timestamp(at.0 / DAY_MS * DAY_MS);
    let (opens, is_of_hours) = match &when {
        When::Days(days) => (day_of(from).plus_ms(u64::from(*days) * DAY_MS), false),
        When::Hours(hours) => {
            let hour = Timestamp(from.0 / HOUR_MS * HOUR_MS);
            (hour.plus_ms(u64::from(*hours) * HOUR_MS), true)
        }
        When::Cron(cron) => (cron.next_after(from)?, 1 < cron.hours().len()),
    };
    let closes = match duration {
        Some(hours) => opens.plus_ms(u64::from(hours) * HOUR_MS),
        None if is_of_hours => opens.plus_ms(HOUR_MS),
        None => day_of(opens).plus_ms(DAY_MS),
    };
    Some(Window { opens, closes })
}

fn when(rules: &RotationRules) -> Result<Option<When>, ApiError> {
    match (&rules.schedule, rules.after_days) {
        (None, days) => Ok(days.map(When::Days)),
        (Some(text), _) if text.trim_start().starts_with("rate(") => rate(text).map(Some),
        (Some(text), _) => cron(text).map(Some),
    }
}

/// `rate(4 hours)`, `rate(10 days)`.
fn rate(text: &str) -> Result<When, ApiError> {
    let wrong = || {
        invalid(format!(
            "Invalid ScheduleExpression: {text} must be rate(N hours), with N at least {ROTATION_HOURS_MIN}, or \
             rate(N days), and at most {ROTATION_DAYS_MAX} days."
        ))
    };
    let inner = text.trim().strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')'));
    let (number, unit) = inner.and_then(|inner| inner.trim().split_once(' ')).ok_or_else(wrong)?;
    let number: u32 = number.parse().map_err(|_| wrong())?;
    match unit.trim() {
        "hour" | "hours"
            if (ROTATION_HOURS_MIN..=ROTATION_DAYS_MAX * DAY_HOURS).contains(&number) =>
        {
            Ok(When::Hours(number))
        }
        "day" | "days" if (1..=ROTATION_DAYS_MAX).contains(&number) => Ok(When::Days(number)),
        _ => Err(wrong()),
    }
}

fn cron(text: &str) -> Result<When, ApiError> {
    let wrong = |why: &str| invalid(format!("Invalid ScheduleExpression: {text}: {why}."));
    let cron = Cron::parse(text).map_err(|why| wrong(&why.to_string()))?;
    if cron.minutes() != [0] {
        return Err(wrong("its minutes must be 0, since a rotation window opens at a full hour"));
    }
    if !cron.is_of_every_year() {
        return Err(wrong("its year must be *"));
    }
    let min = ROTATION_HOURS_MIN;
    match gap(&cron) {
        Some(gap) if gap < min => {
            Err(wrong(&format!("a secret can be rotated every {min} hours at most")))
        }
        Some(_) | None => Ok(When::Cron(Box::new(cron))),
    }
}

/// Hours between two windows of a day, the least there are.
fn gap(cron: &Cron) -> Option<u32> {
    cron.hours().windows(2).map(|pair| pair[1] - pair[0]).min()
}

/// A window's length in hours, if it is said.
fn duration(rules: &RotationRules) -> Result<Option<u32>, ApiError> {
    let Some(text) = &rules.duration else { return Ok(None) };
    let hours = text.strip_suffix('h').and_then(|hours| hours.parse().ok());
    match hours {
        Some(hours) if (1..=DAY_HOURS).contains(&hours) => Ok(Some(hours)),
        Some(_) | None => Err(invalid(format!(
            "Invalid Duration: {text} must be a number of hours from 1h to 24h."
        ))),
    }
}

/// That a schedule can be kept: its window ends within its day, and before the next one opens.
fn check(rules: &RotationRules) -> Result<(), ApiError> {
    let (when, duration) = (when(rules)?, duration(rules)?);
    let Some(hours) = duration else { return Ok(()) };
    let (opens_last, gap) = match &when {
        None => {
            return Err(invalid(
                "Duration says how long a rotation window is: it needs AutomaticallyAfterDays or ScheduleExpression.",
            ));
        }
        Some(When::Days(_)) => (0, None),
        // It opens at any hour.
        Some(When::Hours(every)) => (0, Some(*every)),
        Some(When::Cron(cron)) => (cron.hours().last().copied().unwrap_or(0), gap(cron)),
    };
    if DAY_HOURS < opens_last + hours || gap.is_some_and(|gap| gap < hours) {
        return Err(invalid(
            "The rotation window that Duration makes extends into the next UTC day or into the next rotation window.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(after_days: Option<u32>, schedule: &str, duration: &str) -> RotationRules {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        RotationRules { after_days, duration: text(duration), schedule: text(schedule) }
    }

    #[test]
    fn a_window_opens_as_the_rules_say_and_closes_within_its_day() {
        let from = Timestamp::from_iso8601("2026-11-29T11:20:30Z").unwrap();
        for (rules, opens, closes) in [
            (rules(Some(1), "", ""), "11-30T00", "12-01T00"),
            (rules(Some(30), "", "3h"), "12-29T00", "12-29T03"),
            (rules(None, "rate(10 days)", ""), "12-09T00", "12-10T00"),
            (rules(None, "rate(4 hours)", ""), "11-29T15", "11-29T16"),
            (rules(None, "cron(0 12 * * ? *)", "2h"), "11-29T12", "11-29T14"),
            (rules(None, "cron(0 8,16 * * ? *)", ""), "11-29T16", "11-29T17"),
            (rules(None, "cron(0 16 ? * MON *)", ""), "11-30T16", "12-01T00"),
        ] {
            let window = window_after(&rules, from).unwrap();
            let text = |at: Timestamp| at.iso8601()[5..13].to_owned();
            assert_eq!((text(window.opens), text(window.closes)), (opens.into(), closes.into()));
            check(&rules).unwrap();
        }
        assert_eq!(window_after(&rules(None, "", ""), from), None);
    }

    #[test]
    fn rules_that_cannot_be_kept_are_refused() {
        for rules in [
            rules(None, "rate(3 hours)", ""),
            rules(None, "rate(0 days)", ""),
            rules(None, "rate(5 minutes)", ""),
            rules(None, "every day", ""),
            rules(None, "cron(30 8 * * ? *)", ""),
            rules(None, "cron(0 8 * * ? 2030)", ""),
            rules(None, "cron(0 8,10 * * ? *)", ""),
            rules(None, "cron(0 20 * * ? *)", "5h"),
            rules(None, "cron(0 8,12 * * ? *)", "5h"),
            rules(None, "rate(4 hours)", "5h"),
            rules(Some(1), "", "25h"),
            rules(None, "", "3h"),
        ] {
            assert!(check(&rules).is_err(), "{rules:?}");
        }
    }
}
