//! How long to wait before the next try.

use longshore_types::IdSource;

/// Waits that grow by a factor up to a ceiling, each varied a little so that a crowd spreads out.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first_ms: u64,
    max_ms: u64,
    /// In hundredths.
    factor: u64,
    /// In hundredths of the wait.
    jitter: u64,
    next_ms: u64,
}

impl Backoff {
    pub const fn new(first_ms: u64, max_ms: u64, factor: u64, jitter: u64) -> Self {
        Self { first_ms, max_ms, factor, jitter, next_ms: first_ms }
    }

    /// Of the work socket: a region that comes back does not wait long for its hosts, and does not see all of them
    /// in the same moment.
    pub const fn acs() -> Self {
        Self::new(250, 3_000, 150, 60)
    }

    /// Of the telemetry socket.
    pub const fn tcs() -> Self {
        Self::new(1_000, 60_000, 200, 20)
    }

    /// Of a registration, and of everything that must succeed before it.
    pub const fn start() -> Self {
        Self::new(100, 10_000, 200, 20)
    }

    /// Of calls that failed for a while.
    pub const fn call() -> Self {
        Self::new(50, 30_000, 200, 20)
    }

    /// Of calls that were refused, which only a change elsewhere can help.
    pub const fn refused() -> Self {
        Self::new(1_000, 30_000, 130, 20)
    }

    pub fn reset(&mut self) {
        self.next_ms = self.first_ms;
    }

    pub fn next_ms(&mut self, ids: &dyn IdSource) -> u64 {
        let base = self.next_ms;
        self.next_ms = (base.saturating_mul(self.factor) / 100).min(self.max_ms);
        let spread = base.saturating_mul(self.jitter) / 100;
        base.saturating_add(random_below(ids, spread))
    }
}

/// A number in `0..=max`.
pub(crate) fn random_below(ids: &dyn IdSource, max: u64) -> u64 {
    let mut bytes = [0; 8];
    ids.fill(&mut bytes);
    u64::from_be_bytes(bytes) % max.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_start_again_after_success() {
        let env = SeededEnv::from_seed(1);
        let mut backoff = Backoff::new(250, 2_000, 150, 20);
        let waits: Vec<u64> = (0..10).map(|_| backoff.next_ms(&env)).collect();
        assert!((250..=300).contains(&waits[0]), "{waits:?}");
        assert!((2_000..=2_400).contains(&waits[9]), "{waits:?}");
        backoff.reset();
        assert!(backoff.next_ms(&env) <= 300);
    }
}
