//! Gives the memory of busy times back once they are over.
//!
//! Hundreds of loud tasks take some fifty megabytes for a moment. Freed, these lie between what goes on
//! being used, and the allocator keeps them until somebody has it look; so it is looked after now and then,
//! and the less often the less there was to find.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use tracing::debug;

use crate::limits::{MEMORY_GROWTH_BYTES, MEMORY_LOOK_MS, MEMORY_LOOK_MS_MOST, MEMORY_WORTH_BYTES};

/// Looks for ever.
pub(crate) async fn watch() -> Infallible {
    let mut least = resident();
    let mut pause_ms = MEMORY_LOOK_MS;
    loop {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let before = resident();
        if before < least.saturating_add(MEMORY_GROWTH_BYTES) {
            pause_ms = MEMORY_LOOK_MS;
            continue;
        }
        let _ = tokio::task::spawn_blocking(sandbox::trim_memory).await;
        let after = resident();
        least = least.min(after);
        pause_ms = next_pause(pause_ms, before.saturating_sub(after));
        debug!(bytes.before = before, bytes.after = after, "memory given back");
    }
}

fn next_pause(pause_ms: u64, gained: u64) -> u64 {
    if gained < MEMORY_WORTH_BYTES {
        pause_ms.saturating_mul(2).min(MEMORY_LOOK_MS_MOST)
    } else {
        MEMORY_LOOK_MS
    }
}

/// Bytes of this process that are in memory and in no file; 0 where nobody says.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    anonymous(&text).unwrap_or(0)
}

fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_in_vain_is_looked_for_less_often() {
        let mut pause = MEMORY_LOOK_MS;
        for _ in 0..20 {
            pause = next_pause(pause, 0);
        }
        assert_eq!(pause, MEMORY_LOOK_MS_MOST);
        assert_eq!(next_pause(pause, MEMORY_WORTH_BYTES), MEMORY_LOOK_MS);
    }

    #[test]
    fn a_process_knows_what_it_takes() {
        assert_eq!(anonymous("Name:\tx\nRssAnon:\t    7304 kB\nRssFile: 1 kB\n"), Some(7304 << 10));
        assert_eq!(anonymous("Name:\tx\n"), None);
        assert!(resident() > 0);
    }
}
