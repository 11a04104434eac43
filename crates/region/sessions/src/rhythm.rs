//! How often both ends of a work socket ping, and how much silence means that the link is cut.
//!
//! All of it follows from the limit past which an instance is lost: the session must be over and written down as
//! such well before, or the loss would be noticed late.

use std::time::Duration;

/// An agent is pinged so often during the time that it may be silent at most, and never more often or more rarely
/// than this.
const PINGS: u64 = 5;
const PING_MS_MIN: u64 = 2_000;
const PING_MS_MAX: u64 = 15_000;
/// However long the limit is, a link without a sign of life is let go of after this.
const SILENCE_MS_MAX: u64 = 45_000;
/// How long one frame may take to leave.
const SEND_MS_MAX: u64 = 10_000;

/// What follows from a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rhythm {
    pub(crate) lost_after_ms: u64,
    pub(crate) ping_ms: u64,
    pub(crate) silence_ms_max: u64,
}

impl Rhythm {
    pub(crate) fn of(lost_after_ms: u64) -> Self {
        let ping_ms = (lost_after_ms / PINGS).clamp(PING_MS_MIN, PING_MS_MAX);
        let silence_ms_max = (lost_after_ms / 2).clamp(1, SILENCE_MS_MAX);
        Self { lost_after_ms, ping_ms, silence_ms_max }
    }

    pub(crate) fn ping(self) -> Duration {
        Duration::from_millis(self.ping_ms)
    }

    pub(crate) fn silence_max(self) -> Duration {
        Duration::from_millis(self.silence_ms_max)
    }

    /// No frame holds a session up for longer than its agent may be silent.
    pub(crate) fn send_max(self) -> Duration {
        Duration::from_millis(self.silence_ms_max.min(SEND_MS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_link_is_noticed_before_the_limit_and_after_more_than_one_ping() {
        for seconds in [10, 11, 15, 30, 60, 90, 600, 86_400] {
            let rhythm = Rhythm::of(seconds * 1_000);
            let noticed = rhythm.silence_ms_max + SEND_MS_MAX.min(rhythm.silence_ms_max);
            assert!(noticed <= seconds * 1_000, "{rhythm:?}");
            assert!(2 * rhythm.ping_ms < rhythm.silence_ms_max, "{rhythm:?}");
        }
        assert_eq!(Rhythm::of(600_000).ping_ms, PING_MS_MAX, "a long limit costs few pings");
    }
}
