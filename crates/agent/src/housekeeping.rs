//! What nobody waits for: unused images, and logs that have had their time.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use longshore_types::Timestamp;
use tracing::info;

use crate::engine::Engine;
use crate::limits::{HOUSEKEEPING_MS, JSON_LOGS_MS};

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

/// Removes directories of runs that hold nothing but a log that nobody wrote to for long.
fn remove_old_logs(containers: &Path, now: Timestamp) {
    let Ok(entries) = fs::read_dir(containers) else { return };
    for dir in entries.flatten().map(|entry| entry.path()) {
        if dir.join("layer").exists() {
            continue;
        }
        let Ok(files) = fs::read_dir(&dir) else { continue };
        let is_recent = |modified: SystemTime| {
            let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let at = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            now.since_ms(at) < JSON_LOGS_MS
        };
        let mut modified = files.flatten().filter_map(|file| file.metadata().ok()?.modified().ok());
        if !modified.any(is_recent) {
            let _ = fs::remove_dir_all(&dir);
        }
    }
}
