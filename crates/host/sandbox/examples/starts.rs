//! Measures container starts on this machine: one at a time after a pause, and many at once.
//!
//! `cargo run --release -p sandbox --example starts -- [burst] [at once]`; needs root, and busybox
//! in `/bin`. The example is its own shim.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandbox::{
    ContainerId, ContainerSpec, GroupId, GroupLimits, LogSink, Rootfs, SandboxConfig, Sandboxes,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

const LONE: usize = 40;
const PAUSE: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "shim") {
        sandbox::shim_main([]);
    }
    let number = |at: usize, default| {
        arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(measure(number(1, 200), number(2, 8)));
}

async fn measure(burst: usize, at_once: usize) {
    let dir = tempfile::tempdir().expect("a directory is made");
    let layer = dir.path().join("layer");
    for name in ["bin", "proc", "sys", "dev", "etc"] {
        std::fs::create_dir_all(layer.join(name)).expect("a directory is made");
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox is in /bin");
    let sandboxes = Sandboxes::open(SandboxConfig {
        run_dir: dir.path().join("run"),
        state_dir: dir.path().join("state"),
        cgroup_parent: PathBuf::from(format!("/longshore/starts-{}", std::process::id())),
        shim_command: vec!["/proc/self/exe".into(), "shim".into()],
        pool_size: 4,
        boot_id: String::new(),
        runtime: None,
        steps: longshore_types::Steps::default(),
    })
    .expect("sandboxes open");
    let group: GroupId = "group".parse().expect("a name");
    let limits = GroupLimits { cpu_quota: None, memory: Some(4 << 30), pids: Some(4096) };
    sandboxes.create_group(&group, limits).await.expect("a group is made");

    let mut times: [Vec<f64>; 4] = Default::default();
    for number in 0..LONE {
        tokio::time::sleep(PAUSE).await;
        let spec = spec(dir.path(), &layer, &group, number);
        let laps = one(&sandboxes, spec).await;
        for (list, lap) in times.iter_mut().zip(laps) {
            list.push(lap);
        }
    }
    for (what, list) in ["create", "start", "end seen", "delete"].iter().zip(&mut times) {
        list.sort_by(f64::total_cmp);
        let at = |share: usize| list[(list.len() - 1) * share / 100];
        println!("{what:>8}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms", at(50), at(90), at(99));
    }

    let permits = Arc::new(Semaphore::new(at_once));
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for number in LONE..LONE + burst {
        let spec = spec(dir.path(), &layer, &group, number);
        let (sandboxes, permits) = (sandboxes.clone(), Arc::clone(&permits));
        running.spawn(async move {
            let _permit = permits.acquire().await;
            one(&sandboxes, spec).await
        });
    }
    while running.join_next().await.is_some() {}
    let seconds = began.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(burst).unwrap_or(u32::MAX)) / seconds;
    println!("{burst} containers, {at_once} at once: {rate:.0}/s from create to delete");
    sandboxes.remove_group(&group).await.expect("the group is removed");
}

async fn one(sandboxes: &Sandboxes, spec: ContainerSpec) -> [f64; 4] {
    let id = spec.id.clone();
    let mut laps = [0.0; 4];
    let mut last = Instant::now();
    let mut lap = |at: usize| {
        laps[at] = last.elapsed().as_secs_f64() * 1000.0;
        last = Instant::now();
    };
    sandboxes.create(spec).await.expect("a container is created");
    lap(0);
    sandboxes.start(&id).await.expect("a container is started");
    lap(1);
    sandboxes.wait(&id).await.expect("a container ends");
    lap(2);
    sandboxes.delete(&id).await.expect("a container is deleted");
    lap(3);
    laps
}

fn spec(dir: &Path, layer: &Path, group: &GroupId, number: usize) -> ContainerSpec {
    let id: ContainerId = format!("c{number}").parse().expect("a name");
    let scratch = dir.join("scratch").join(id.as_str());
    let rootfs = Rootfs { lower: vec![layer.to_owned()], scratch, readonly: false };
    let args = vec!["/bin/busybox".into(), "true".into()];
    let mut spec = ContainerSpec::new(id.clone(), group.clone(), rootfs, args);
    spec.limits.memory = Some(64 << 20);
    spec.limits.cpu_shares = Some(256);
    spec.log = LogSink::Spool {
        dir: dir.join("spool").join(id.as_str()),
        segment_bytes_max: 1 << 20,
        total_bytes_max: 8 << 20,
    };
    spec
}
