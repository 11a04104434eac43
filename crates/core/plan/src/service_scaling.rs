//! How many tasks a scaled service should have: a function from its target, its policies' alarms and what it has to a count,
//! and why.
//!
//! A count is raised if any policy asks for it, and lowered only if all that may lower it do; the largest answer wins. What
//! is computed from a metric goes by the tasks that run, so that those which are still starting are not asked for twice.

use longshore_types::Timestamp;
use model::alarm::AlarmState;
use model::scaling::{
    AdjustmentKind, LastMoves, NotScaled, PolicyKind, ScalableTarget, Step, Stepping, Tracking,
};

/// How far clocks are set back in everyday life: what was written that much ahead still counts, without that anything is done twice.
pub const CLOCK_MS: u64 = 60_000;
/// How long a change is waited for unless the policy says it.
pub const COOLDOWN_S: u32 = 300;
/// A count is lowered once the metric is below so much of the target.
pub const LOW_SHARE: f64 = 0.9;

/// What a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceNow {
    pub desired: u32,
    pub running: u32,
    /// Whether the region replaces its tasks just now, during which none are taken away.
    pub is_deploying: bool,
}

/// An alarm of a policy as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    pub alarm: String,
    pub state: AlarmState,
    pub threshold: f64,
    /// The values that it was judged by, the newest last.
    pub values: Vec<f64>,
}

/// A policy, and what asks it to act.
#[derive(Clone, Debug)]
pub struct Acting<'a> {
    pub name: &'a str,
    pub kind: &'a PolicyKind,
    /// Of a tracking policy: its own alarms, the one above first. Of steps: all that act by it, in a state in which they do.
    pub signals: Vec<Signal>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    pub to: u32,
    pub alarm: String,
    pub state: AlarmState,
    pub policy: String,
    pub last: LastMoves,
}

/// What policies come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Nothing,
    Move(Move),
    /// It would go beyond the bound that the count is at.
    AtBound {
        why: NotScaled,
        alarm: String,
        policy: String,
    },
}

/// What a policy asks for.
#[derive(Clone, Debug)]
struct Proposal<'a> {
    to: u32,
    /// The count that it was computed from.
    base: u32,
    policy: &'a str,
    signal: &'a Signal,
    cooldown_s: u32,
}

/// What the policies of a target come to.
pub fn decide(
    target: &ScalableTarget,
    now_has: ServiceNow,
    policies: &[Acting<'_>],
    now: Timestamp,
) -> Outcome {
    let (mut out, mut into) = (Vec::new(), Vec::new());
    let mut may_lower = true;
    for policy in policies {
        match policy.kind {
            PolicyKind::Tracking(tracking) => match track(tracking, now_has, policy) {
                Tracked::Out(proposal) => out.push(proposal),
                Tracked::In(proposal) => into.push(proposal),
                Tracked::Against => may_lower = false,
                Tracked::Nothing => {}
            },
            PolicyKind::Stepping(stepping) => {
                for signal in &policy.signals {
                    let Some(to) = stepped(stepping, signal, now_has.desired) else { continue };
                    let cooldown_s = stepping.cooldown_s.unwrap_or(COOLDOWN_S);
                    let base = now_has.desired;
                    let proposal = Proposal { to, base, policy: policy.name, signal, cooldown_s };
                    if now_has.desired < to {
                        out.push(proposal);
                    } else if to < now_has.desired {
                        into.push(proposal);
                    }
                }
            }
        }
    }
    // What ends later than any of them lasts was written by a clock that was ahead, and is over.
    let longest_s = policies.iter().map(|policy| longest_cooldown_s(policy.kind)).max();
    let latest = now.plus_ms(u64::from(longest_s.unwrap_or_default()) * 1_000 + CLOCK_MS);
    let is_over = |until: &Timestamp| *until <= now || latest < *until;
    let is_cooling = |until: Option<Timestamp>| until.is_some_and(|until| !is_over(&until));
    if let Some(proposal) = largest(out) {
        return match target.suspended.scaling_out {
            true => Outcome::Nothing,
            false => {
                let is_cooling = is_cooling(target.last.out_until);
                raise(target, now_has, &proposal, is_cooling, now)
            }
        };
    }
    if is_cooling(target.last.in_until) {
        return Outcome::Nothing;
    }
    match largest(into) {
        Some(proposal) if may_lower && !target.suspended.scaling_in && !now_has.is_deploying => {
            lower(target, now_has, &proposal, now)
        }
        Some(_) | None => Outcome::Nothing,
    }
}

/// The one that asks for most; of several the one whose policy's name comes first.
fn largest(mut all: Vec<Proposal<'_>>) -> Option<Proposal<'_>> {
    all.sort_by(|one, other| (one.to, other.policy).cmp(&(other.to, one.policy)));
    all.pop()
}

/// What a tracking policy says.
enum Tracked<'a> {
    Out(Proposal<'a>),
    In(Proposal<'a>),
    /// It lowers counts, and does not now.
    Against,
    Nothing,
}

/// So many as would have the metric at its target, if it falls as they become more.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is whole and within bounds by then"
)]
fn proportional(running: u32, value: f64, target: f64) -> u32 {
    let wanted = (f64::from(running) * value / target).ceil();
    if wanted.is_nan() || wanted <= 0.0 {
        return 0;
    }
    if f64::from(u32::MAX) <= wanted {
        return u32::MAX;
    }
    wanted as u32
}

fn track<'a>(tracking: &Tracking, has: ServiceNow, policy: &'a Acting<'_>) -> Tracked<'a> {
    let (high, low) = (policy.signals.first(), policy.signals.get(1));
    let newest = |signal: &Signal| signal.values.last().copied();
    if let Some(signal) = high.filter(|it| it.state == AlarmState::Alarm)
        && let Some(value) = newest(signal).filter(|value| tracking.target < *value)
    {
        let base = if has.desired == 0 { 1 } else { has.running };
        let to = proportional(base, value, tracking.target).max(u32::from(has.desired == 0));
        let cooldown_s = tracking.out_cooldown_s.unwrap_or(COOLDOWN_S);
        let base = has.running.min(has.desired);
        return Tracked::Out(Proposal { to, base, policy: policy.name, signal, cooldown_s });
    }
    if tracking.disable_scale_in == Some(true) {
        return Tracked::Nothing;
    }
    // The largest of the values that it was judged by: what is taken away is not to be missed.
    let largest = |signal: &Signal| signal.values.iter().copied().reduce(f64::max);
    let Some(signal) = low.filter(|it| it.state == AlarmState::Alarm) else {
        return Tracked::Against;
    };
    let below = |value: &f64| *value < LOW_SHARE * tracking.target;
    match largest(signal).filter(below) {
        Some(value) if has.running == has.desired && 0 < has.desired => {
            let to = proportional(has.running, value, tracking.target);
            let cooldown_s = tracking.in_cooldown_s.unwrap_or(COOLDOWN_S);
            let base = has.running;
            let proposal = Proposal { to, base, policy: policy.name, signal, cooldown_s };
            if to < has.desired { Tracked::In(proposal) } else { Tracked::Against }
        }
        // Before tasks are taken away, those that were asked for are there.
        Some(_) | None => Tracked::Against,
    }
}

/// The count that steps lead to; none where there is no value, or no step for it.
pub fn stepped(stepping: &Stepping, signal: &Signal, desired: u32) -> Option<u32> {
    let value = *signal.values.last()?;
    let difference = value - signal.threshold;
    let step = stepping.steps.iter().find(|step| is_within(step, difference))?;
    let change = match stepping.kind {
        AdjustmentKind::ExactCapacity => return u32::try_from(step.adjustment).ok(),
        AdjustmentKind::ChangeInCapacity => i64::from(step.adjustment),
        AdjustmentKind::PercentChangeInCapacity => {
            percent(desired, step.adjustment, stepping.least.unwrap_or(0))
        }
    };
    let to = i64::from(desired).saturating_add(change).clamp(0, i64::from(u32::MAX));
    u32::try_from(to).ok()
}

/// Above the threshold the lower bound belongs to a step and the upper one does not; below it is the other way about.
fn is_within(step: &Step, difference: f64) -> bool {
    if 0.0 <= difference {
        step.lower.is_none_or(|lower| lower <= difference)
            && step.upper.is_none_or(|upper| difference < upper)
    } else {
        step.lower.is_none_or(|lower| lower < difference)
            && step.upper.is_none_or(|upper| difference <= upper)
    }
}

/// Rounded towards zero, but for what is less than one.
fn percent(desired: u32, percent: i32, least: u32) -> i64 {
    let exact = i64::from(desired).saturating_mul(i64::from(percent));
    let whole = match exact / 100 {
        0 => exact.signum(),
        whole => whole,
    };
    let least = i64::from(least);
    match percent.signum() {
        1 => whole.max(least),
        -1 => whole.min(-least),
        _ => 0,
    }
}

/// How long a policy lets others wait at most.
fn longest_cooldown_s(kind: &PolicyKind) -> u32 {
    match kind {
        PolicyKind::Tracking(tracking) => {
            let (out, into) = (tracking.out_cooldown_s, tracking.in_cooldown_s);
            out.unwrap_or(COOLDOWN_S).max(into.unwrap_or(COOLDOWN_S))
        }
        PolicyKind::Stepping(stepping) => stepping.cooldown_s.unwrap_or(COOLDOWN_S),
    }
}

fn raise(
    target: &ScalableTarget,
    has: ServiceNow,
    proposal: &Proposal<'_>,
    is_cooling: bool,
    now: Timestamp,
) -> Outcome {
    let Proposal { to, base, policy, signal, cooldown_s } = *proposal;
    let at_bound = || Outcome::AtBound {
        why: NotScaled::AlreadyAtMaxCapacity,
        alarm: signal.alarm.clone(),
        policy: policy.to_owned(),
    };
    // Whoever is below the least is brought there first.
    if has.desired < target.min {
        return moved(
            target.min,
            proposal,
            raised(target.last, target.min - has.desired, cooldown_s, now),
        );
    }
    if target.max <= has.desired {
        return if has.desired < to { at_bound() } else { Outcome::Nothing };
    }
    // What was added lately may not have come to serve: only more than that is added.
    let base = if is_cooling { base } else { has.desired };
    let asked = to.saturating_sub(base);
    let step = match is_cooling {
        true => asked.saturating_sub(target.last.added),
        false => asked,
    };
    let to = has.desired.saturating_add(step).min(target.max);
    if to <= has.desired {
        return Outcome::Nothing;
    }
    let last = match is_cooling {
        true => raised(target.last, to - has.desired, cooldown_s, now),
        false => raised(LastMoves { added: 0, ..target.last }, to - has.desired, cooldown_s, now),
    };
    moved(to, proposal, last)
}

/// What is remembered of a raise, which ends the time after a lowering.
fn raised(last: LastMoves, added: u32, cooldown_s: u32, now: Timestamp) -> LastMoves {
    LastMoves {
        out_until: Some(now.plus_ms(u64::from(cooldown_s) * 1_000)),
        added: last.added.saturating_add(added),
        in_until: None,
    }
}

fn lower(
    target: &ScalableTarget,
    has: ServiceNow,
    proposal: &Proposal<'_>,
    now: Timestamp,
) -> Outcome {
    let Proposal { to, policy, signal, cooldown_s, base: _ } = *proposal;
    if has.desired <= target.min {
        return Outcome::AtBound {
            why: NotScaled::AlreadyAtMinCapacity,
            alarm: signal.alarm.clone(),
            policy: policy.to_owned(),
        };
    }
    let until = Some(now.plus_ms(u64::from(cooldown_s) * 1_000));
    moved(to.max(target.min), proposal, LastMoves { in_until: until, ..target.last })
}

fn moved(to: u32, proposal: &Proposal<'_>, last: LastMoves) -> Outcome {
    Outcome::Move(Move {
        to,
        alarm: proposal.signal.alarm.clone(),
        state: proposal.signal.state,
        policy: proposal.policy.to_owned(),
        last,
    })
}

#[cfg(test)]
mod tests;
