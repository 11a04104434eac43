//! Limits that are really enforced, of a container and of its group.

use std::time::Duration;

use sandbox::{GroupId, GroupLimits, Stats, Tmpfs};

use crate::world::{SOON, World};

/// Fills memory until somebody stops it.
const HOG: &str = "exec dd if=/dev/zero of=/dev/null bs=200M count=1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_beyond_its_memory_is_killed_and_said_to_be() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell(HOG);
    spec.limits.memory = Some(32 << 20);
    let (exit, _) = world.run(spec).await;
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_memory_is_that_of_all_its_containers() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits { memory: Some(48 << 20), ..GroupLimits::default() }).await;
    let mut spec = world.shell(HOG);
    spec.limits.memory = Some(1 << 30);
    let (exit, _) = world.run(spec).await;
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    // A plain SIGKILL is not taken for it.
    let (exit, _) = world.run(world.shell("kill -9 $$; sleep 9")).await;
    assert_eq!((exit.code, exit.oom_killed), (0, false), "pid 1 is immune to its own signals");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cpu_time_follows_the_groups_quota_and_the_containers_shares() {
    let Some(world) = World::open() else { return };
    // A fifth of a core for both; three quarters of that for one of them.
    world.limit(GroupLimits { cpu_quota: Some(200), ..GroupLimits::default() }).await;
    let spin = "while :; do :; done";
    let mut ids = Vec::new();
    for shares in [768, 256] {
        let mut spec = world.shell(spin);
        spec.limits.cpu_shares = Some(shares);
        ids.push(world.start(spec).await);
    }
    // Enough periods are throttled; how long that takes is the machine's business.
    let began = tokio::time::Instant::now();
    let first = world.sandboxes.group_stats(&world.group).await.unwrap();
    let throttled = |stats: &Stats| stats.throttled_periods - first.throttled_periods;
    let last = loop {
        let now = world.sandboxes.group_stats(&world.group).await.unwrap();
        if throttled(&now) >= 20 {
            break now;
        }
        assert!(began.elapsed() < SOON, "the quota throttles nobody: {now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Each throttled period took all of its 20 ms and not more, but for the kernel's slices.
    let used = last.cpu_ns - first.cpu_ns;
    let periods = began.elapsed().as_millis() / 100 + 2;
    let most = u64::try_from(periods).unwrap() * 20_000_000 * 3 / 2;
    assert!(used > 0 && used <= most, "{used} ns used, at most {most} expected");
    for id in &ids {
        world.sandboxes.delete(id).await.unwrap();
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_counted_and_limited() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell(
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done 2>/dev/null; echo never; sleep 100",
    );
    spec.limits.pids = Some(5);
    let (exit, printed) = world.run(spec).await;
    assert_ne!(exit.code, 0, "{printed}");
    assert!(!printed.contains("never"), "{printed}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_told_from_the_control_group() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 100");
    spec.limits.memory = Some(64 << 20);
    let id = world.start(spec).await;
    let stats = loop {
        let stats = world.sandboxes.stats(&id).await.unwrap();
        if stats.cpu_ns > 1_000_000 && stats.pids > 0 {
            break stats;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(stats.memory_limit, 64 << 20);
    assert!(stats.memory_usage > 0 && stats.memory_usage <= stats.memory_limit, "{stats:?}");
    assert!(stats.memory_max_usage >= stats.memory_usage, "{stats:?}");
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

/// Forks for as long as it may, and prints what it was told.
const BOMB: &str = "bomb() { sleep 100 & bomb; }; (bomb) 2>&1 | head -n 1; exit 3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_processes_are_those_of_all_its_containers_and_its_end_says_so() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits { pids: Some(24), ..GroupLimits::default() }).await;
    let neighbour: GroupId = "neighbour".parse().unwrap();
    world.sandboxes.create_group(&neighbour, GroupLimits::default()).await.unwrap();
    let mut beside = world.shell("while :; do (true) || exit 9; done");
    beside.group = neighbour.clone();
    let beside = world.start(beside).await;
    let (exit, printed) = world.run(world.shell(BOMB)).await;
    assert!(printed.contains("fork"), "{printed}");
    assert_eq!((exit.code, exit.pids_limit_hit), (3, Some(24)));
    // Whoever never met the limit is not said to.
    let mut calm = world.shell("exit 4");
    calm.group = neighbour.clone();
    let (exit, _) = world.run(calm).await;
    assert_eq!((exit.code, exit.pids_limit_hit), (4, None));
    // The neighbour forks on.
    assert_eq!(world.exec(&beside, "echo here").await, (0, "here".to_owned()));
    world.sandboxes.delete(&beside).await.unwrap();
    world.sandboxes.remove_group(&neighbour).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_memory_are_charged_to_the_containers_memory() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits { memory: Some(48 << 20), ..GroupLimits::default() }).await;
    for place in ["/dev/shm", "/scratch"] {
        let fill =
            format!("dd if=/dev/zero of={place}/x bs=1M count=200; echo $?; sleep 1; exit 5");
        let mut spec = world.shell(&fill);
        spec.limits.memory = Some(32 << 20);
        spec.shm_size = Some(1 << 30);
        let destination = "/scratch".into();
        spec.tmpfs = vec![Tmpfs { destination, size: Some(1 << 30), options: Vec::new() }];
        let (exit, printed) = world.run(spec).await;
        assert!(exit.oom_killed, "{place}: {exit:?} {printed}");
    }
    world.close().await;
}
