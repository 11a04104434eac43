//! The two doors to the outside world that a decision may need. Only shells hold real ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::units::Timestamp;

/// Tells the time. Read once at the top of a shell's turn and passed down as a [`Timestamp`].
pub trait Clock: Send + Sync + std::fmt::Debug {
    fn now(&self) -> Timestamp;
}

/// The only source of randomness: what mints ids, keys and passwords.
pub trait IdSource: Send + Sync + std::fmt::Debug {
    /// Fills `bytes`; cryptographically strong in the real one.
    fn fill(&self, bytes: &mut [u8]);

    /// Sixteen fresh bytes, the size of a task's id and of a UUID.
    fn id16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one real clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The operating system's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsIds;

impl IdSource for OsIds {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("Linux's getrandom does not fail once the pool is seeded");
    }
}

/// A seeded world for tests: same seed, same run, byte for byte.
#[derive(Debug)]
pub struct SeededEnv {
    now_ms: AtomicU64,
    state: AtomicU64,
}

impl SeededEnv {
    pub fn from_seed(seed: u64) -> Self {
        Self {
            now_ms: AtomicU64::new(1_700_000_000_000),
            state: AtomicU64::new(seed ^ 0x9e37_79b9_7f4a_7c15),
        }
    }

    pub fn advance_ms(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// `SplitMix64`: small, good enough to explore with, and stable across releases.
    pub fn next_u64(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let mut z = self.state.fetch_add(step, Ordering::SeqCst).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, for drawing disturbances.
    pub fn below(&self, bound: u32) -> u32 {
        assert!(0 < bound, "an empty range has no number");
        u32::try_from(self.next_u64() % u64::from(bound)).unwrap_or(0)
    }
}

impl Clock for SeededEnv {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_ms.load(Ordering::SeqCst))
    }
}

impl IdSource for SeededEnv {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.next_u64().to_be_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}
