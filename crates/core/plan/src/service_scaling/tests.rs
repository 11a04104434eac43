use longshore_types::Scope;
use model::scaling::{Suspended, TrackedMetric};
use model::service::ServiceId;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn target(min: u32, max: u32) -> ScalableTarget {
    ScalableTarget {
        scope: Scope {
            region: "us-east-1".parse().unwrap(),
            account: "000000000000".parse().unwrap(),
        },
        service: ServiceId { cluster: "demo".parse().unwrap(), name: "web".parse().unwrap() },
        id: "0".to_owned(),
        min,
        max,
        suspended: Suspended::default(),
        created_at: NOW,
        policies: [].into(),
        actions: [].into(),
        last: LastMoves::default(),
        tags: [].into(),
    }
}

fn has(desired: u32, running: u32) -> ServiceNow {
    ServiceNow { desired, running, is_deploying: false }
}

fn tracking(target: f64) -> PolicyKind {
    PolicyKind::Tracking(Tracking {
        target,
        metric: TrackedMetric::CpuUtilization,
        out_cooldown_s: None,
        in_cooldown_s: Some(60),
        disable_scale_in: None,
        high: "high".into(),
        low: Some("low".into()),
    })
}

fn signal(alarm: &str, is_alarm: bool, threshold: f64, values: &[f64]) -> Signal {
    let state = if is_alarm { AlarmState::Alarm } else { AlarmState::Ok };
    Signal { alarm: alarm.to_owned(), state, threshold, values: values.to_vec() }
}

/// A tracking policy whose metric is at a value.
fn tracked<'a>(name: &'a str, kind: &'a PolicyKind, value: f64) -> Acting<'a> {
    let PolicyKind::Tracking(tracking) = kind else { panic!("it tracks") };
    let (high, low) = (tracking.target, tracking.target * LOW_SHARE);
    let signals = vec![
        signal("high", high < value, high, &[value]),
        signal("low", value < low, low, &[value]),
    ];
    Acting { name, kind, signals }
}

fn to(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Move(it) => Some(it.to),
        Outcome::Nothing | Outcome::AtBound { .. } => None,
    }
}

fn decided(target: &ScalableTarget, has: ServiceNow, policies: &[Acting<'_>]) -> Option<u32> {
    let outcome = decide(target, has, policies, NOW);
    assert_eq!(outcome, decide(target, has, policies, NOW));
    to(&outcome)
}

#[test]
fn a_count_follows_its_metric_in_proportion_within_its_bounds() {
    let (kind, bounds) = (tracking(50.0), target(1, 10));
    for (desired, value, expected) in [
        (2, 100.0, Some(4)),
        (2, 51.0, Some(3)),
        (2, 50.0, None),
        (2, 46.0, None),
        (4, 20.0, Some(2)),
        (4, 44.0, None),
        (4, 1.0, Some(1)),
        (4, 0.0, Some(1)),
        (8, 90.0, Some(10)),
        (10, 90.0, None),
        (1, 1.0, None),
    ] {
        let policy = [tracked("cpu", &kind, value)];
        assert_eq!(decided(&bounds, has(desired, desired), &policy), expected, "{desired} {value}");
    }
    let at_most = decide(&bounds, has(10, 10), &[tracked("cpu", &kind, 90.0)], NOW);
    assert!(matches!(at_most, Outcome::AtBound { why: NotScaled::AlreadyAtMaxCapacity, .. }));
    let at_least = decide(&bounds, has(1, 1), &[tracked("cpu", &kind, 0.0)], NOW);
    assert!(matches!(at_least, Outcome::AtBound { why: NotScaled::AlreadyAtMinCapacity, .. }));
}

#[test]
fn tasks_that_are_starting_are_not_asked_for_twice() {
    let kind = tracking(50.0);
    let mut bounds = target(1, 20);
    let policy = [tracked("cpu", &kind, 100.0)];
    let Outcome::Move(first) = decide(&bounds, has(2, 2), &policy, NOW) else { panic!() };
    assert_eq!(first.to, 4);
    bounds.last = first.last;
    let later = NOW.plus_ms(60_000);
    assert_eq!(to(&decide(&bounds, has(4, 2), &policy, later)), None, "two are starting");
    let larger = [tracked("cpu", &kind, 200.0)];
    assert_eq!(
        to(&decide(&bounds, has(4, 2), &larger, later)),
        Some(8),
        "four more, and two of them are there"
    );
    let after = NOW.plus_ms(301_000);
    assert_eq!(to(&decide(&bounds, has(4, 4), &policy, after)), Some(8));
}

#[test]
fn lowering_waits_for_its_cooldown_and_raising_does_not() {
    let kind = tracking(50.0);
    let mut bounds = target(1, 20);
    let Outcome::Move(first) = decide(&bounds, has(8, 8), &[tracked("cpu", &kind, 25.0)], NOW)
    else {
        panic!()
    };
    assert_eq!((first.to, first.alarm.as_str()), (4, "low"));
    bounds.last = first.last;
    let later = NOW.plus_ms(30_000);
    assert_eq!(to(&decide(&bounds, has(4, 4), &[tracked("cpu", &kind, 25.0)], later)), None);
    assert_eq!(to(&decide(&bounds, has(4, 4), &[tracked("cpu", &kind, 100.0)], later)), Some(8));
    let after = NOW.plus_ms(60_000);
    assert_eq!(to(&decide(&bounds, has(4, 4), &[tracked("cpu", &kind, 25.0)], after)), Some(2));
}

#[test]
fn a_clock_that_was_ahead_holds_nothing_up() {
    let policy = tracking(50.0);
    let mut it = target(1, 10);
    it.last.in_until = Some(NOW.plus_ms(300_000));
    let low = [tracked("cpu", &policy, 10.0)];
    assert_eq!(decided(&it, has(4, 4), &low), None, "it may be so late");
    it.last.in_until = Some(NOW.plus_ms(360_001));
    assert_eq!(decided(&it, has(4, 4), &low), Some(1));
    (it.last.out_until, it.last.added) = (Some(NOW.plus_ms(300_000)), 4);
    let high = [tracked("cpu", &policy, 100.0)];
    assert_eq!(decided(&it, has(4, 4), &high), None);
    it.last.out_until = Some(NOW.plus_ms(360_001));
    assert_eq!(decided(&it, has(4, 4), &high), Some(8));
}

#[test]
fn a_count_is_raised_if_one_policy_asks_and_lowered_if_all_do() {
    let (cpu, memory) = (tracking(50.0), tracking(80.0));
    let bounds = target(1, 20);
    let both = |one, other| [tracked("cpu", &cpu, one), tracked("memory", &memory, other)];
    assert_eq!(decided(&bounds, has(4, 4), &both(100.0, 10.0)), Some(8));
    assert_eq!(decided(&bounds, has(4, 4), &both(100.0, 240.0)), Some(12), "the largest");
    assert_eq!(decided(&bounds, has(4, 4), &both(10.0, 75.0)), None, "one does not agree");
    assert_eq!(decided(&bounds, has(4, 4), &both(10.0, 40.0)), Some(2), "the largest of both");
    let mut only_out = memory.clone();
    let PolicyKind::Tracking(tracking) = &mut only_out else { panic!() };
    tracking.disable_scale_in = Some(true);
    let policies = [tracked("cpu", &cpu, 10.0), tracked("memory", &only_out, 75.0)];
    assert_eq!(decided(&bounds, has(4, 4), &policies), Some(1), "it has no say in this");
}

#[test]
fn nothing_is_taken_away_during_a_deployment_or_while_it_is_suspended() {
    let kind = tracking(50.0);
    let mut bounds = target(1, 20);
    let (low, high) = ([tracked("cpu", &kind, 10.0)], [tracked("cpu", &kind, 100.0)]);
    let deploying = ServiceNow { is_deploying: true, ..has(4, 4) };
    assert_eq!(decided(&bounds, deploying, &low), None);
    assert_eq!(decided(&bounds, deploying, &high), Some(8));
    bounds.suspended.scaling_in = true;
    assert_eq!(decided(&bounds, has(4, 4), &low), None);
    bounds.suspended = Suspended { scaling_out: true, ..Suspended::default() };
    assert_eq!(decided(&bounds, has(4, 4), &high), None);
    assert_eq!(decided(&bounds, has(4, 4), &low), Some(1));
}

#[test]
fn who_is_at_zero_or_below_the_least_comes_to_something_first() {
    let kind = tracking(10.0);
    let high = [tracked("queue", &kind, 35.0)];
    assert_eq!(decided(&target(0, 20), has(0, 0), &high), Some(4));
    assert_eq!(decided(&target(5, 20), has(2, 2), &high), Some(5));
}

fn stepping(kind: AdjustmentKind, steps: &[(Option<f64>, Option<f64>, i32)]) -> Stepping {
    let step = |(lower, upper, adjustment): &(Option<f64>, Option<f64>, i32)| Step {
        lower: *lower,
        upper: *upper,
        adjustment: *adjustment,
    };
    let steps = steps.iter().map(step).collect();
    Stepping { kind, steps, least: None, cooldown_s: Some(60), aggregation: None }
}

#[test]
fn a_step_is_found_by_how_far_the_metric_is_from_the_threshold() {
    let by = stepping(
        AdjustmentKind::ChangeInCapacity,
        &[
            (Some(0.0), Some(10.0), 1),
            (Some(10.0), None, 3),
            (Some(-10.0), Some(0.0), -1),
            (None, Some(-10.0), -2),
        ],
    );
    for (value, expected) in
        [(60.0, 6), (69.9, 6), (70.0, 8), (99.0, 8), (59.9, 4), (50.1, 4), (50.0, 3), (10.0, 3)]
    {
        let signal = signal("mine", true, 60.0, &[value]);
        assert_eq!(stepped(&by, &signal, 5), Some(expected), "{value}");
    }
    assert_eq!(stepped(&by, &signal("mine", true, 60.0, &[]), 5), None, "no value");
}

#[test]
fn percentages_are_rounded_as_the_documents_say() {
    for (desired, change, least, expected) in [
        (10, 25, 0, 2),
        (2, 25, 0, 1),
        (2, -25, 0, -1),
        (10, -67, 0, -6),
        (10, 10, 3, 3),
        (10, -10, 3, -3),
        (0, 50, 0, 0),
    ] {
        assert_eq!(percent(desired, change, least), expected, "{desired} {change} {least}");
    }
}

#[test]
fn steps_are_repeated_after_their_cooldown_and_within_it_only_as_far_as_they_are_larger() {
    let kind = PolicyKind::Stepping(stepping(
        AdjustmentKind::ChangeInCapacity,
        &[(Some(0.0), Some(20.0), 2), (Some(20.0), None, 3)],
    ));
    let mut bounds = target(1, 20);
    let acting = |value| {
        [Acting { name: "steps", kind: &kind, signals: vec![signal("mine", true, 60.0, &[value])] }]
    };
    let Outcome::Move(first) = decide(&bounds, has(5, 5), &acting(65.0), NOW) else { panic!() };
    assert_eq!((first.to, first.policy.as_str()), (7, "steps"));
    bounds.last = first.last;
    let later = NOW.plus_ms(10_000);
    assert_eq!(to(&decide(&bounds, has(7, 5), &acting(65.0), later)), None);
    assert_eq!(to(&decide(&bounds, has(7, 7), &acting(65.0), later)), None);
    assert_eq!(to(&decide(&bounds, has(7, 7), &acting(85.0), later)), Some(8), "one more");
    let after = NOW.plus_ms(60_000);
    assert_eq!(to(&decide(&bounds, has(7, 7), &acting(65.0), after)), Some(9));
}
