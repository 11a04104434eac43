//! What nobody waits for: unused images, and logs that have had their time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use longshore_types::Timestamp;
use tracing::info;

use crate::engine::Engine;
use crate::limits::{HOUSEKEEPING_MS, JSON_LOGS_BYTES_MAX, JSON_LOGS_MS};

/// Looks around now and then, for ever.
pub(crate) async fn run(engine: &Engine) {
    loop {
        tokio::time::sleep(Duration::from_millis(HOUSEKEEPING_MS)).await;
        let context = engine.context();
        let images = context.images.collect().await;
        if images > 0 {
            info!(images, "unused images removed");
        }
        let (dir, now) = (context.dirs.containers(), context.clock.now());
        let _ = tokio::task::spawn_blocking(move || remove_old_logs(&dir, now)).await;
    }
}

/// Removes directories of runs that hold nothing but a log: those that nobody wrote to for long, and
/// the oldest while all of them take more than they may.
fn remove_old_logs(containers: &Path, now: Timestamp) {
    let Ok(entries) = fs::read_dir(containers) else { return };
    let mut kept: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for dir in entries.flatten().map(|entry| entry.path()) {
        if dir.join("layer").exists() {
            continue;
        }
        let Ok(logs) = fs::read_dir(&dir) else { continue };
        let found: Vec<fs::Metadata> =
            logs.flatten().filter_map(|file| file.metadata().ok()).collect();
        let written = found.iter().filter_map(|file| file.modified().ok()).max();
        match written.filter(|at| is_recent(*at, now)) {
            Some(written) => kept.push((written, found.iter().map(fs::Metadata::len).sum(), dir)),
            None => drop(files::dir::remove_tree(&dir)),
        }
    }
    kept.sort();
    let mut bytes: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, each, dir) in kept {
        if bytes <= JSON_LOGS_BYTES_MAX {
            break;
        }
        let _ = files::dir::remove_tree(&dir);
        bytes -= each;
    }
}

fn is_recent(modified: SystemTime, now: Timestamp) -> bool {
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    now.since_ms(at) < JSON_LOGS_MS
}

#[cfg(test)]
mod tests {
    use longshore_types::{Clock, SystemClock};

    use super::*;

    #[test]
    fn logs_of_ended_runs_are_held_to_a_total_and_the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        for (name, age_s, bytes) in [
            ("running", 9_000, 1 << 40),
            ("old", 90, 700 << 20),
            ("new", 5, 700 << 20),
            ("stale", 90_000, 1),
        ] {
            let run = dir.path().join(name);
            fs::create_dir_all(&run).unwrap();
            if name == "running" {
                fs::create_dir(run.join("layer")).unwrap();
            }
            let log = fs::File::create(run.join("x-json.log")).unwrap();
            log.set_len(bytes).unwrap();
            log.set_modified(
                SystemTime::UNIX_EPOCH + Duration::from_millis(now.0) - Duration::from_secs(age_s),
            )
            .unwrap();
        }
        remove_old_logs(dir.path(), now);
        let is_there =
            ["running", "old", "new", "stale"].map(|name| dir.path().join(name).exists());
        assert_eq!(is_there, [true, false, true, false]);
    }
}
