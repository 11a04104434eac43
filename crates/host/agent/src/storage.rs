//! What tasks take of the host's disk: a task over its limit is stopped, and of the disk's last room
//! nothing is left to any of them.
//!
//! Whether the disk fills is seen twice a second by one question to the file system; files are counted
//! only when it does, and now and then besides. A task that is over its limit is killed: a kind stop
//! would leave it the time to fill the disk. While the room that is reserved for the host itself is
//! being used up, the task that takes the most goes, whether it has a limit or not. A burst may have all of
//! the disk for a moment; what the agent must write then has the room of its reserve ([`StateDir`]).
//!
//! [`StateDir`]: crate::state_dir::StateDir

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use longshore_types::{Chain, TaskArn, Timestamp};
use sandbox::{DiskRoom, StorageUse};
use tracing::warn;

use crate::config::TaskLimits;
use crate::engine::state::{ContainerState, StopCause, TaskState};
use crate::engine::{Context, Engine, TaskView, shared_volume};
use crate::limits::{
    HOST_FILES_MAX, HOST_ROOM_BYTES_MAX, HOST_ROOM_PERCENT, STORAGE_ALL_MS, STORAGE_BYTES_PER_FILE,
    STORAGE_GROWTH_BYTES, STORAGE_GROWTH_FILES, STORAGE_LOOK_MS, STORAGE_LOOK_MS_LEAST,
    STORAGE_PAUSE_TIMES, VICTIM_BYTES_MIN, VICTIM_PAUSE_MS,
};
use crate::reason;
use crate::spec::{TaskSpec, VolumeSpec};

/// When files were last counted, and what was left then.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Timestamp,
    took_ms: u64,
    room: DiskRoom,
}

/// Keeps tasks within their limits and the host within its room, for ever.
pub(crate) async fn watch(engine: &Engine) -> Infallible {
    let mut last: Option<Mark> = None;
    let mut victim_at: Option<Timestamp> = None;
    let mut seen: Option<(Timestamp, u64)> = None;
    let mut pause_ms = STORAGE_LOOK_MS;
    loop {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = STORAGE_LOOK_MS;
        engine.context().dirs.tend_reserve();
        let tasks: Vec<TaskView> =
            engine.views().into_iter().filter(|task| takes_room(&task.state)).collect();
        if tasks.is_empty() {
            (last, seen) = (None, None);
            continue;
        }
        let context = engine.context();
        let room = match context.runtime.disk_room(context.dirs.root().to_owned()).await {
            Ok(room) => room,
            Err(error) => {
                warn!(error = %Chain(&error), "room on the disk not known");
                continue;
            }
        };
        let began = context.clock.now();
        pause_ms = pause(seen, began, &room);
        seen = Some((began, room.bytes_free));
        let may_choose = victim_at.is_none_or(|at| VICTIM_PAUSE_MS <= began.since_ms(at));
        let needs_victim = is_short(&room) && may_choose;
        if !needs_victim && !is_due(last.as_ref(), &room, began) {
            continue;
        }
        if look(engine, &tasks, needs_victim).await {
            victim_at = Some(began);
        }
        let took_ms = context.clock.now().since_ms(began);
        last = Some(Mark { at: began, took_ms, room });
    }
}

/// Counts all, and stops what is over; true if that may give room again, by and by.
async fn look(engine: &Engine, tasks: &[TaskView], needs_victim: bool) -> bool {
    let context = engine.context();
    let mut others: Vec<(&TaskView, StorageUse)> = Vec::new();
    let mut is_any_over = false;
    for task in tasks {
        let limit = limit(&task.spec, context.task_limits);
        if limit.is_none() && !needs_victim {
            continue;
        }
        let used = measure(context, task, false).await;
        match limit.and_then(|limit| excess(limit, used)) {
            Some(reason) => {
                is_any_over = true;
                warn!(task = %task.spec.arn, used.bytes, used.files, "task over its storage limit");
                engine.over_limit(&task.spec.arn, reason).await;
            }
            None => others.push((task, used)),
        }
    }
    // What was just stopped may be all that was too much.
    if !needs_victim || is_any_over {
        return is_any_over;
    }
    let Ok(room) = context.runtime.disk_room(context.dirs.root().to_owned()).await else {
        return false;
    };
    if !is_short(&room) {
        return false;
    }
    let mut ranked = Vec::new();
    for (task, used) in others {
        // Stopping it does not empty a volume that outlives it, but it ends the filling.
        let shared = measure(context, task, true).await;
        ranked.push((task.spec.arn.clone(), used.bytes.saturating_add(shared.bytes)));
    }
    match victim(ranked) {
        Some((task, bytes)) => {
            let reason = reason::host_storage(room.bytes_free, bytes);
            warn!(%task, bytes, bytes.free = room.bytes_free, "task stopped to keep room on the disk");
            engine.over_limit(&task, reason).await;
            true
        }
        None => {
            warn!(bytes.free = room.bytes_free, "disk is nearly full, and not of tasks");
            true
        }
    }
}

/// Whether a task has files that may grow, and nobody has seen to that yet.
fn takes_room(state: &TaskState) -> bool {
    !state.is_all_stopped() && !matches!(state.stop_cause, Some(StopCause::OverLimit { .. }))
}

/// Bytes that a task takes of its ephemeral storage.
pub(crate) async fn used_by(context: &Context, task: &TaskView) -> u64 {
    measure(context, task, false).await.bytes
}

async fn measure(context: &Context, task: &TaskView, shared: bool) -> StorageUse {
    let Ok(group) = task.spec.arn.id.to_string().parse() else { return StorageUse::default() };
    let trees = if shared { shared_trees(context, task) } else { own_trees(context, task) };
    if trees.is_empty() {
        return StorageUse::default();
    }
    context.runtime.storage(group, trees).await.unwrap_or_else(|error| {
        warn!(task = %task.spec.arn, error = %Chain(&error), "storage of a task not measured");
        StorageUse::default()
    })
}

/// Writable layers, json-file logs, and the volumes that end with the task.
fn own_trees(context: &Context, task: &TaskView) -> Vec<PathBuf> {
    let runs = task.state.containers.iter().map(ContainerState::run_id);
    let mut trees: Vec<PathBuf> = runs.map(|run| context.dirs.containers().join(run)).collect();
    trees.push(context.dirs.volumes().join(task.spec.arn.id.to_string()));
    trees
}

fn shared_trees(context: &Context, task: &TaskView) -> Vec<PathBuf> {
    let volumes = task.spec.volumes.values();
    let named = volumes.filter_map(|volume| match volume {
        VolumeSpec::Shared { name, .. } => Some(shared_volume(&context.dirs, name)),
        VolumeSpec::Host { .. } | VolumeSpec::Task | VolumeSpec::Unsupported { .. } => None,
    });
    named.collect()
}

/// What a task may take: its own limit, or on its own instances what the host says.
pub(crate) fn limit(spec: &TaskSpec, host: TaskLimits) -> Option<u64> {
    spec.storage_bytes.or(host.storage_bytes)
}

/// Why a task must stop, if it must.
fn excess(limit: u64, used: StorageUse) -> Option<String> {
    let files_max = limit / STORAGE_BYTES_PER_FILE;
    if limit < used.bytes {
        Some(reason::storage_bytes(used.bytes, limit))
    } else if files_max < used.files {
        Some(reason::storage_files(used.files, files_max, limit))
    } else {
        None
    }
}

/// What of the disk is the host's own, in bytes and in files.
fn reserved(room: &DiskRoom) -> (u64, u64) {
    let share = |all: u64| all / 100 * HOST_ROOM_PERCENT;
    (share(room.bytes).min(HOST_ROOM_BYTES_MAX), share(room.files).min(HOST_FILES_MAX))
}

/// Whether what is left is needed by the host itself.
fn is_short(room: &DiskRoom) -> bool {
    let (bytes, files) = reserved(room);
    room.bytes_free < bytes || room.files_free < files
}

/// When to ask again: a quarter of the time that the room lasts at the rate that it shrank by lately.
fn pause(seen: Option<(Timestamp, u64)>, now: Timestamp, room: &DiskRoom) -> u64 {
    let Some((at, was_free)) = seen else { return STORAGE_LOOK_MS };
    let left = room.bytes_free.saturating_sub(reserved(room).0);
    let took_ms = now.since_ms(at).max(1);
    let lasts = u128::from(left) * u128::from(took_ms);
    let quarter = lasts.checked_div(4 * u128::from(was_free.saturating_sub(room.bytes_free)));
    let quarter = quarter.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(STORAGE_LOOK_MS);
    quarter.clamp(STORAGE_LOOK_MS_LEAST, STORAGE_LOOK_MS)
}

/// Counting takes at most a set share of the time.
fn is_due(last: Option<&Mark>, room: &DiskRoom, now: Timestamp) -> bool {
    let Some(last) = last else { return true };
    let since = now.since_ms(last.at);
    let grew = STORAGE_GROWTH_BYTES <= last.room.bytes_free.saturating_sub(room.bytes_free)
        || STORAGE_GROWTH_FILES <= last.room.files_free.saturating_sub(room.files_free);
    last.took_ms.saturating_mul(STORAGE_PAUSE_TIMES) <= since && (grew || STORAGE_ALL_MS <= since)
}

/// The one that takes the most, if that is worth anything; of equals the first by name.
fn victim(mut uses: Vec<(TaskArn, u64)>) -> Option<(TaskArn, u64)> {
    uses.retain(|(_, bytes)| VICTIM_BYTES_MIN <= *bytes);
    uses.sort_by(|(one, mine), (other, theirs)| theirs.cmp(mine).then_with(|| one.cmp(other)));
    uses.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(bytes_free: u64) -> DiskRoom {
        DiskRoom { bytes_free, bytes: 100 * GIB, files_free: 1 << 20, files: 6 << 20 }
    }

    #[test]
    fn a_task_is_over_by_bytes_or_by_files_and_is_told_which() {
        let limit = 20 * GIB;
        let used = |bytes, files| StorageUse { bytes, files };
        assert_eq!(excess(limit, used(limit, 1_310_720)), None);
        let bytes = excess(limit, used(limit + GIB / 2, 3)).unwrap();
        assert!(bytes.contains("20.5 GiB") && bytes.contains("limit is 20 GiB"), "{bytes}");
        let files = excess(limit, used(GIB, 1_310_721)).unwrap();
        assert!(files.contains("1310721 files") && files.contains("20 GiB"), "{files}");
    }

    #[test]
    fn the_hosts_share_is_a_part_of_a_small_disk_and_a_fixed_room_of_a_large_one() {
        assert!(!is_short(&room(2 * GIB)));
        assert!(is_short(&room(2 * GIB - 1)));
        assert!(is_short(&DiskRoom { files_free: 9, ..room(50 * GIB) }));
        // Nothing is known of files where they are made as they are needed.
        assert!(!is_short(&DiskRoom { files_free: 0, files: 0, ..room(50 * GIB) }));
        assert!(!is_short(&DiskRoom { bytes_free: 6 << 20, bytes: 100 << 20, ..room(0) }));
        assert!(is_short(&DiskRoom { bytes_free: 4 << 20, bytes: 100 << 20, ..room(0) }));
    }

    #[test]
    fn files_are_counted_when_the_disk_fills_and_never_without_a_pause() {
        let last = Mark { at: Timestamp(10_000), took_ms: 100, room: room(50 * GIB) };
        let due = |free, at| is_due(Some(&last), &room(free), Timestamp(at));
        assert!(is_due(None, &room(50 * GIB), Timestamp(0)));
        assert!(!due(50 * GIB, 12_000));
        assert!(due(49 * GIB, 12_000));
        assert!(!due(49 * GIB, 10_500), "it took 100 ms a moment ago");
        assert!(due(50 * GIB, 10_000 + STORAGE_ALL_MS));
    }

    #[test]
    fn a_disk_is_looked_at_the_oftener_the_sooner_it_will_be_full() {
        let after = |was, is| pause(Some((Timestamp(0), was)), Timestamp(500), &room(is));
        assert_eq!(pause(None, Timestamp(0), &room(50 * GIB)), STORAGE_LOOK_MS);
        assert_eq!(after(50 * GIB, 50 * GIB), STORAGE_LOOK_MS);
        assert_eq!(after(50 * GIB, 49 * GIB), STORAGE_LOOK_MS);
        // 2 GiB are left above the host's own, and last for a second.
        assert_eq!(after(5 * GIB, 4 * GIB), 250);
        assert_eq!(after(5 * GIB, GIB), STORAGE_LOOK_MS_LEAST);
    }

    #[test]
    fn whoever_takes_the_most_goes_unless_it_is_next_to_nothing() {
        let task = |n: u8| -> TaskArn {
            let arn =
                "arn:aws:ecs:us-east-1:000000000000:task/demo/0000000000000000000000000000000";
            format!("{arn}{n}").parse().unwrap()
        };
        assert_eq!(victim(vec![(task(1), 1 << 20)]), None);
        let uses = vec![(task(3), 5 * GIB), (task(2), 5 * GIB), (task(1), GIB)];
        assert_eq!(victim(uses), Some((task(2), 5 * GIB)));
    }
}
