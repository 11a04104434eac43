//! A metric's samples: by seconds, minutes, five minutes and hours, each for its own time.
//!
//! **Invariant:** each ring is in order of time and has one point a slot; a sample is in all rings that still hold its time.
//! What came before a ring's `from_s` was dropped there, and is in coarser ones alone.

use std::collections::VecDeque;

use longshore_types::StatisticSet;

use crate::limits::{FIVES_KEPT_S, HOURS_KEPT_S, MINUTES_KEPT_S, SECONDS_KEPT_S};

/// Samples of one slot: its first second since the epoch, and what they come to.
pub(crate) type Point = (u64, StatisticSet);

/// Points of one length of slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ring {
    pub(crate) points: VecDeque<Point>,
    /// What is older is not held any more.
    pub(crate) from_s: u64,
}

/// The lengths of slots in seconds, and for how long points of them are kept.
pub(crate) const GRAINS: [(u64, u64); 4] =
    [(1, SECONDS_KEPT_S), (60, MINUTES_KEPT_S), (300, FIVES_KEPT_S), (3_600, HOURS_KEPT_S)];

/// See the module's words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) rings: [Ring; 4],
}

impl Ring {
    fn add(&mut self, slot: u64, set: &StatisticSet) -> bool {
        match self.points.back_mut() {
            Some((last, known)) if *last == slot => known.add(set),
            Some((last, _)) if slot < *last => {
                let at = self.points.partition_point(|(each, _)| *each < slot);
                match self.points.get_mut(at) {
                    Some((each, known)) if *each == slot => known.add(set),
                    Some(_) | None => {
                        self.points.insert(at, (slot, *set));
                        return true;
                    }
                }
            }
            Some(_) | None => {
                self.points.push_back((slot, *set));
                return true;
            }
        }
        false
    }

    /// `from_s`, but for what a clock wrote that was ahead.
    fn held_from_s(&self, now_s: u64) -> u64 {
        if self.from_s <= now_s { self.from_s } else { 0 }
    }

    /// Drops so many of the oldest points, and says how many.
    fn drop_first(&mut self, count: usize) -> usize {
        self.points.drain(..count);
        if self.points.capacity() > 64 && self.points.len() < self.points.capacity() / 4 {
            self.points.shrink_to_fit();
        }
        count
    }

    /// The points from one time up to another.
    fn between(&self, from_s: u64, to_s: u64) -> impl Iterator<Item = &Point> {
        let first = self.points.partition_point(|(slot, _)| *slot < from_s);
        self.points.range(first..).take_while(move |(slot, _)| *slot < to_s)
    }
}

impl Series {
    /// Takes samples in; says how many points came to be. `is_fine`: by seconds too.
    pub(crate) fn add(
        &mut self,
        at_s: u64,
        set: &StatisticSet,
        is_fine: bool,
        now_s: u64,
    ) -> usize {
        let mut new = 0;
        for (position, (grain, kept)) in GRAINS.into_iter().enumerate() {
            if (position == 0 && !is_fine) || at_s.saturating_add(kept) < now_s {
                continue;
            }
            let (ring, slot) = (&mut self.rings[position], at_s / grain * grain);
            if ring.held_from_s(now_s) <= slot {
                new += usize::from(ring.add(slot, set));
            }
        }
        new
    }

    /// Forgets what is older than it is kept; says how many points went.
    pub(crate) fn forget(&mut self, now_s: u64) -> usize {
        let drop = |(ring, (_, kept)): (&mut Ring, (u64, u64))| {
            let oldest = now_s.saturating_sub(kept);
            ring.drop_first(ring.points.partition_point(|(slot, _)| *slot < oldest))
        };
        self.rings.iter_mut().zip(GRAINS).map(drop).sum()
    }

    /// Keeps of each ring the newest points alone, half of all that it may have, of which half, and so on by so many `steps`;
    /// says how many points went.
    pub(crate) fn cut(&mut self, steps: u32, now_s: u64) -> usize {
        let drop = |(ring, (grain, kept)): (&mut Ring, (u64, u64))| {
            let most = usize::try_from((kept / grain) >> steps).unwrap_or(usize::MAX).max(1);
            let over = ring.points.len().saturating_sub(most);
            if let Some((slot, _)) = over.checked_sub(1).and_then(|last| ring.points.get(last)) {
                ring.from_s = (slot + grain).min(now_s / grain * grain);
            }
            ring.drop_first(over)
        };
        self.rings.iter_mut().zip(GRAINS).map(drop).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.rings.iter().map(|ring| ring.points.len()).sum()
    }

    /// When the last sample was taken, by the minute.
    pub(crate) fn last_s(&self) -> Option<u64> {
        let last = |ring: &Ring| ring.points.back().map(|(slot, _)| *slot);
        self.rings.iter().filter_map(last).max()
    }

    /// Puts to `out` the samples of `out.len()` periods from `start_s` on: of each time those of the finest ring that has it
    /// and whose slots do not span two periods.
    pub(crate) fn read(
        &self,
        start_s: u64,
        period_s: u64,
        now_s: u64,
        out: &mut [Option<StatisticSet>],
    ) {
        let length = u64::try_from(out.len()).unwrap_or(u64::MAX).saturating_mul(period_s);
        let end_s = start_s.saturating_add(length);
        let mut upper = end_s;
        let first = if period_s < 60 { 0 } else { 1 };
        let rings = self.rings.iter().zip(GRAINS).enumerate().skip(first);
        for (position, (ring, (grain, kept))) in rings {
            if !period_s.is_multiple_of(grain) && grain != 1 {
                break;
            }
            // Coarser slots, where the period is one of them, begin where finer ones are held no more.
            let coarser = GRAINS.get(position + 1).map(|(grain, _)| *grain);
            let coarser = coarser.filter(|coarser| period_s.is_multiple_of(*coarser));
            let step_s = coarser.unwrap_or(grain);
            let held_s = now_s.saturating_sub(kept).max(ring.held_from_s(now_s));
            let oldest = held_s.div_ceil(step_s).saturating_mul(step_s);
            let from = oldest.max(start_s).min(upper);
            for (slot, set) in ring.between(from, upper) {
                let position = usize::try_from((slot - start_s) / period_s).unwrap_or(usize::MAX);
                match out.get_mut(position) {
                    Some(Some(known)) => known.add(set),
                    Some(empty) => *empty = Some(*set),
                    None => {}
                }
            }
            upper = from;
            if period_s < 60 {
                break;
            }
        }
    }
}
