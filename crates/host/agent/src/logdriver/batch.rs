//! Batches within the limits of PutLogEvents.

use std::collections::VecDeque;

use super::lines::{EVENT_OVERHEAD, LogEvent};

pub(crate) const BATCH_BYTES_MAX: usize = 1_048_576;
pub(crate) const BATCH_EVENTS_MAX: usize = 10_000;
pub(crate) const BATCH_SPAN_MS_MAX: u64 = 24 * 3_600_000;

/// Events on their way, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: VecDeque<LogEvent>,
    bytes: usize,
    cost: usize,
}

/// What an event takes in memory, with what the allocator keeps beside it.
pub(crate) fn cost(event: &LogEvent) -> usize {
    const BESIDE: usize = 16;
    size_of::<LogEvent>() + event.text.capacity() + BESIDE
}

impl Queue {
    pub(crate) fn push(&mut self, event: LogEvent) {
        self.bytes += size(&event);
        self.cost += cost(&event);
        self.events.push_back(event);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What all of it takes in memory.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Whether there is more than one batch can hold.
    pub(crate) fn is_full(&self) -> bool {
        BATCH_BYTES_MAX <= self.bytes || BATCH_EVENTS_MAX <= self.events.len()
    }

    /// Takes out the next batch; its events are in order of time.
    pub(crate) fn batch(&mut self) -> Vec<LogEvent> {
        let mut batch: Vec<LogEvent> = Vec::new();
        let mut bytes = 0;
        let (mut earliest, mut latest) = (u64::MAX, 0);
        while let Some(event) = self.events.front() {
            let size = size(event);
            earliest = earliest.min(event.at.0);
            latest = latest.max(event.at.0);
            let fits = bytes + size <= BATCH_BYTES_MAX
                && batch.len() < BATCH_EVENTS_MAX
                && latest - earliest < BATCH_SPAN_MS_MAX;
            if !fits {
                break;
            }
            bytes += size;
            self.bytes -= size;
            self.cost -= cost(event);
            batch.extend(self.events.pop_front());
        }
        if self.events.is_empty() {
            // A burst must not leave its room behind.
            self.events = VecDeque::new();
        }
        batch.sort_by_key(|event| event.at);
        batch
    }
}

fn size(event: &LogEvent) -> usize {
    event.text.len() + EVENT_OVERHEAD
}

#[cfg(test)]
mod tests {
    use longshore_types::{SeededEnv, Timestamp};

    use super::*;
    use crate::logdriver::Reach;

    #[test]
    fn batches_keep_all_limits_and_lose_nothing() {
        for seed in 0..200 {
            let env = SeededEnv::from_seed(seed);
            let mut queue = Queue::default();
            let count = 1 + env.below(15_000);
            let large = env.below(3) == 0;
            let mut total = 0;
            for n in 0..count {
                let length = if large { env.below(200_000) / 100 } else { env.below(40) };
                let text = "x".repeat(length as usize + 1);
                total += 1;
                let at = Timestamp(u64::from(env.below(3)) * 13 * 3_600_000 + u64::from(n));
                queue.push(LogEvent {
                    at,
                    text,
                    reach: Reach::default(),
                    stream: crate::ports::StdStream::Stdout,
                });
            }
            while !queue.is_empty() {
                let batch = queue.batch();
                assert!(!batch.is_empty(), "seed {seed}: no progress");
                assert!(batch.len() <= BATCH_EVENTS_MAX, "seed {seed}");
                let bytes: usize = batch.iter().map(size).sum();
                assert!(bytes <= BATCH_BYTES_MAX, "seed {seed}: {bytes}");
                assert!(batch.is_sorted_by_key(|event| event.at), "seed {seed}");
                let span = batch[batch.len() - 1].at.since_ms(batch[0].at);
                assert!(span < BATCH_SPAN_MS_MAX, "seed {seed}");
                total -= batch.len();
            }
            assert_eq!((total, queue.bytes, queue.cost()), (0, 0, 0), "seed {seed}");
        }
    }
}
