//! Until when fenced containers of this host may run: a file that the agent renews and that each of their shims reads.
//!
//! The agent may be gone when the time is over, so the shims end their containers themselves. Time is the kernel's
//! since it started, the machine's sleep included: nobody can set it. After a lease was over the next one has another
//! epoch. **Invariant:** a container that was asked for in one epoch never runs in another.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::files::whole::{self, Durability};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Why a fenced container ended, and its task with it.
pub const FENCED_OFF: &str = "FenceError: The host was out of touch with its region for so long that the task may run elsewhere";

/// What the host's agent was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Another one after each time that a lease was over.
    pub epoch: u64,
    /// By [`uptime_ms`].
    pub until_ms: u64,
}

/// The lease that a container depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencedBy {
    pub file: PathBuf,
    pub epoch: u64,
}

impl FencedBy {
    /// For how long the container may run on; nothing if it may not, and never may again.
    pub fn left(&self) -> Option<Duration> {
        let lease = Lease::read(&self.file).filter(|lease| lease.epoch == self.epoch)?;
        lease.left()
    }
}

impl Lease {
    /// The host's; a file that cannot be read grants nothing.
    pub fn read(file: &Path) -> Option<Self> {
        whole::read_json(file).ok()?.value().ok()?
    }

    pub fn write(self, file: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(&self).map_err(io::Error::other)?;
        whole::write(file, &text, Durability::DiesWithTheMachine)
    }

    /// Nothing once it is over.
    pub fn left(self) -> Option<Duration> {
        let left_ms = self.until_ms.checked_sub(uptime_ms()).filter(|left| 0 < *left)?;
        Some(Duration::from_millis(left_ms))
    }
}

/// Milliseconds since the machine started, sleep included.
pub fn uptime_ms() -> u64 {
    // The clock is there wherever containers are; without it nothing is granted for longer than it was.
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or(Duration::MAX);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_runs_within_its_own_epoch_and_no_longer_than_it_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lease");
        let fenced = FencedBy { file: file.clone(), epoch: 7 };
        assert_eq!(fenced.left(), None, "no lease grants nothing");
        let now = uptime_ms();
        Lease { epoch: 7, until_ms: now + 60_000 }.write(&file).unwrap();
        assert!(fenced.left().is_some());
        Lease { epoch: 7, until_ms: now }.write(&file).unwrap();
        assert_eq!(fenced.left(), None);
        Lease { epoch: 8, until_ms: now + 60_000 }.write(&file).unwrap();
        assert_eq!(fenced.left(), None, "the next lease is not the same one");
        std::fs::write(&file, b"{").unwrap();
        assert_eq!(fenced.left(), None);
    }
}
