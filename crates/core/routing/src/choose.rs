//! Which group, and which of its targets.

use longshore_types::Timestamp;

use crate::group::{Algorithm, TargetGroup};
use crate::rule::WeightedGroup;

/// What is known of a target at the moment of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub readiness: Readiness,
    /// Requests that this balancer has open with it.
    pub in_flight: u32,
    /// When it became healthy last: slow start counts from here.
    pub healthy_since: Timestamp,
    /// Its share in thousandths: below 1,000 while failures of it are being mitigated.
    pub share: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Draining or unused: never asked.
    Out,
    /// No check has been decisive: not asked either, since nothing says that it listens.
    Initial,
    Healthy,
    Unhealthy,
}

/// The group that a weighted forward leads to; `None` if no group has weight. Whether its targets are healthy
/// does not count: weights do not fail over.
pub fn group(groups: &[WeightedGroup], seed: u64) -> Option<&WeightedGroup> {
    let sum: u64 = groups.iter().map(|group| u64::from(group.weight)).sum();
    let mut rest = spread(seed).checked_rem(sum)?;
    groups.iter().find(|group| {
        let weight = u64::from(group.weight);
        let is_here = rest < weight;
        rest = rest.saturating_sub(weight);
        is_here
    })
}

/// Which candidates may be asked, by index; empty: answer 503.
///
/// The healthy ones, unless they are fewer than the group wants: then all that have been checked (fail open).
pub fn eligible(group: &TargetGroup, candidates: &[Candidate]) -> Vec<usize> {
    let with = |wanted: &[Readiness]| -> Vec<usize> {
        let is_wanted = |at: &usize| wanted.contains(&candidates[*at].readiness);
        (0..candidates.len()).filter(is_wanted).collect()
    };
    let healthy = with(&[Readiness::Healthy]);
    let registered = with(&[Readiness::Healthy, Readiness::Unhealthy, Readiness::Initial]).len();
    let has_percent = group
        .healthy_percent_min
        .is_none_or(|percent| healthy.len() * 100 >= registered * percent as usize);
    if healthy.len() >= group.healthy_count_min.max(1) as usize && has_percent {
        return healthy;
    }
    with(&[Readiness::Healthy, Readiness::Unhealthy])
}

/// The target to ask: an index into `candidates`, one of `eligible`.
///
/// `turn` goes up by one with each choice of the group; `seed` is any number, another each time.
pub fn target(
    group: &TargetGroup,
    candidates: &[Candidate],
    eligible: &[usize],
    turn: u64,
    seed: u64,
    now: Timestamp,
) -> Option<usize> {
    let count = u64::try_from(eligible.len()).ok()?;
    let first = usize::try_from(turn.checked_rem(count)?).ok()?;
    let in_turn = || eligible[first..].iter().chain(&eligible[..first]).copied();
    match group.algorithm {
        Algorithm::RoundRobin => {
            let has_warm = eligible.iter().any(|at| warmth(group, candidates[*at], now) == FULL);
            let mut seed = seed;
            let mut is_its_turn = |at: &usize| {
                seed = spread(seed);
                !has_warm || seed % FULL < warmth(group, candidates[*at], now)
            };
            in_turn()
                .find(|at| is_its_turn(at))
                .or_else(|| in_turn().max_by_key(|at| warmth(group, candidates[*at], now)))
        }
        Algorithm::LeastOutstandingRequests => in_turn().min_by_key(|at| candidates[*at].in_flight),
        Algorithm::WeightedRandom { .. } => {
            let share = |at: &usize| u64::from(candidates[*at].share.max(1));
            let sum: u64 = eligible.iter().map(share).sum();
            let mut rest = spread(seed).checked_rem(sum)?;
            eligible.iter().copied().find(|at| {
                let is_here = rest < share(at);
                rest = rest.saturating_sub(share(at));
                is_here
            })
        }
    }
}

const FULL: u64 = 1000;

/// How much of its full share a target is given while it starts slowly, in thousandths: from a hundredth up in a line.
fn warmth(group: &TargetGroup, candidate: Candidate, now: Timestamp) -> u64 {
    let whole_ms = u64::from(group.slow_start_s) * 1000;
    let age_ms = now.since_ms(candidate.healthy_since);
    match (age_ms * FULL).checked_div(whole_ms) {
        None => FULL,
        Some(part) => part.clamp(FULL / 100, FULL),
    }
}

/// A number spread over all of `u64` (SplitMix64), so that seeds in a row may be given.
pub fn spread(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What a target did within the last period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub results: u32,
    pub failures: u32,
    /// Its share in thousandths so far.
    pub share: u16,
    /// Whether it was found to fail too often before.
    pub is_odd: bool,
}

/// What follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its next share, where it is to be given less for failing.
    pub share: u16,
    pub is_odd: bool,
}

/// Targets below which nothing is compared.
const COMPARED_MIN: usize = 3;

/// How each does beside the others, in the order of `seen`: a target that fails in more than a fifth of its requests, and three
/// times as often as the group as a whole without it, is given half as much; one that does not is given a tenth more. One that
/// was asked nothing is found as it was.
pub fn judge(seen: &[Seen]) -> Vec<Judged> {
    let sum = |of: fn(&Seen) -> u32| seen.iter().map(|one| u64::from(of(one))).sum::<u64>();
    let (results, failures) = (sum(|one| one.results), sum(|one| one.failures));
    let next = |one: &Seen| {
        let (own, own_failures) = (u64::from(one.results), u64::from(one.failures));
        let (others, others_failures) = (results - own, failures - own_failures);
        // Fractions compared crosswise, without dividing.
        let is_often = own_failures * 5 > own;
        let is_more = own_failures * others > 3 * others_failures * own;
        let is_compared = seen.len() >= COMPARED_MIN;
        if is_compared && is_often && is_more && others > 0 {
            return Judged { share: (one.share / 2).max(10), is_odd: true };
        }
        Judged {
            share: one.share.saturating_add(100).min(1000),
            is_odd: is_compared && one.is_odd && own == 0,
        }
    };
    seen.iter().map(next).collect()
}
