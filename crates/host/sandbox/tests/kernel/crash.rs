//! An agent that dies at a bad moment, and spare shims that do.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use sandbox::{ContainerId, GroupLimits, NetMode, Phase, SandboxConfig, SandboxError, Sandboxes};
use tokio::time::Instant;

use crate::world::{SOON, World, cgroup_dirs, config};

const SIT: &str = "while :; do sleep 0.05; done";

/// Everything in the shims' own control group.
fn shims(tag: &str) -> Vec<Pid> {
    let dirs = cgroup_dirs(tag);
    let read = |dir: &std::path::PathBuf| fs::read_to_string(dir.join(".shims/cgroup.procs")).ok();
    let text = dirs.iter().find_map(read).unwrap_or_default();
    text.lines().map(|line| Pid::from_raw(line.parse().unwrap())).collect()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn state(world: &World, id: &ContainerId) -> std::path::PathBuf {
    world.dir.path().join("state").join(id.as_str())
}

/// Whether a process is neither gone nor a zombie, whose files are closed.
fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spare_shims_that_were_killed_fail_no_start() {
    let Some(mut world) = World::open() else { return };
    let many = SandboxConfig { pool_size: 6, ..config(world.dir.path(), &world.tag) };
    world.sandboxes = Sandboxes::open(many).unwrap();
    world.limit(GroupLimits::default()).await;
    for is_template_too in [false, true] {
        // The template and its spares, and another one that the pool is never without for long.
        until("all spares", || 7 <= shims(&world.tag).len()).await;
        let all = shims(&world.tag);
        let template = all.iter().copied().min().unwrap();
        let killed: Vec<_> =
            all.into_iter().filter(|pid| is_template_too || *pid != template).collect();
        for pid in &killed {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        // Until then their sockets are open, and one of them may be taken for alive.
        until("their end", || !killed.iter().any(|pid| is_alive(*pid))).await;
        for code in 1..8 {
            let (exit, _) = world.run(world.shell(&format!("exit {code}"))).await;
            assert_eq!((exit.code, exit.reason), (code, None));
        }
    }
    world.close().await;
}

/// The shim waits for somebody to write to the fifo, which it takes for a network namespace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_was_making_when_it_died_never_ran_and_is_made_anew() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let fifo = world.dir.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let mut half = world.shell("exit 7");
    half.netns = NetMode::Path(fifo);
    let id = half.id.clone();
    let making = {
        let (sandboxes, half) = (world.sandboxes.clone(), half.clone());
        tokio::spawn(async move { sandboxes.create(half).await })
    };
    let record = state(&world, &id).join("container.json");
    until("the record", || fs::read_to_string(&record).is_ok_and(|text| text.ends_with('\n')))
        .await;
    until("two more shims than the template", || 3 <= shims(&world.tag).len()).await;
    making.abort();

    world.reopen();
    assert_eq!(world.sandboxes.recover().await.unwrap(), [], "it is none yet, and has no exit");
    let whole = sandbox::ContainerSpec { netns: NetMode::Private, ..half };
    let (exit, _) = world.run(whole).await;
    assert_eq!((exit.code, exit.reason), (7, None));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_lost_its_shim_before_it_was_started_never_ran() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let spec = world.shell("exit 7");
    let id = spec.id.clone();
    world.sandboxes.create(spec.clone()).await.unwrap();
    let record = fs::read_to_string(state(&world, &id).join("container.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(record.lines().last().unwrap()).unwrap();
    let shim = i32::try_from(record["shim_pid"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    until("its end", || !shims(&world.tag).contains(&Pid::from_raw(shim))).await;

    world.reopen();
    assert_eq!(world.sandboxes.recover().await.unwrap(), []);
    let (exit, _) = world.run(spec).await;
    assert_eq!((exit.code, exit.reason), (7, None));
    world.close().await;
}

/// As an agent leaves it that removes what it will not start, and is killed after its first act.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_was_killed_before_it_was_started_never_ran() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let spec = world.shell("exit 7");
    let id = spec.id.clone();
    world.sandboxes.create(spec.clone()).await.unwrap();
    world.sandboxes.signal(&id, Signal::SIGKILL).await.unwrap();
    let exit = state(&world, &id).join("exit.json");
    until("its end", || exit.exists()).await;

    world.reopen();
    assert_eq!(world.sandboxes.recover().await.unwrap(), []);
    let (exit, _) = world.run(spec).await;
    assert_eq!((exit.code, exit.reason), (7, None));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_id_that_was_being_written_is_no_restart_of_the_machine() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let id = world.start(world.shell(SIT)).await;
    let boot = world.dir.path().join("state/boot-id");
    for torn in [Some(""), Some("this"), None] {
        match torn {
            Some(torn) => fs::write(&boot, torn).unwrap(),
            None => fs::remove_file(&boot).unwrap(),
        }
        world.reopen();
        let found = world.sandboxes.recover().await.unwrap();
        assert_eq!((found.len(), found[0].phase), (1, Phase::Running), "{torn:?}");
        assert_eq!(fs::read_to_string(&boot).unwrap(), "this one");
    }
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_containers_broken_file_hides_no_other_container() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let runs = world.start(world.shell(SIT)).await;
    let torn = world.start(world.shell(SIT)).await;
    let other = world.start(world.shell(SIT)).await;
    fs::write(state(&world, &torn).join("exit.json"), "{\"code\":").unwrap();
    let path = state(&world, &other).join("container.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\0\0\0\0\n{{\"group\"")).unwrap();
    // A directory that an agent has just begun, and one that cannot be anything.
    fs::create_dir(world.dir.path().join("state/begun")).unwrap();
    fs::create_dir(world.dir.path().join("state/garbage")).unwrap();
    fs::write(world.dir.path().join("state/garbage/container.json"), "\0\0\0\n").unwrap();

    world.reopen();
    let found = world.sandboxes.recover().await.unwrap();
    let phases: Vec<_> = found.iter().map(|one| (one.id.clone(), one.phase)).collect();
    let all = [runs, torn, other];
    assert_eq!(phases, all.clone().map(|id| (id, Phase::Running)));
    for name in ["begun", "garbage"] {
        assert!(!world.dir.path().join("state").join(name).exists(), "{name} is none");
    }
    for id in all {
        world.sandboxes.delete(&id).await.unwrap();
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_start_failed_is_told_to_the_next_agent_too() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let spec = world.spec(&["no-such-command"]);
    let id = spec.id.clone();
    world.sandboxes.create(spec).await.unwrap();
    for is_new in [false, true, true] {
        if is_new {
            world.reopen();
            let found = world.sandboxes.recover().await.unwrap();
            assert_eq!((found.len(), found[0].phase), (1, Phase::Created), "it never ran");
        }
        let failed = world.sandboxes.start(&id).await.unwrap_err();
        assert!(matches!(failed, SandboxError::NoSuchCommand { .. }), "{failed:?}");
    }
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_asked_for_again_is_answered_and_not_repeated() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let spec = world.shell("echo once; while :; do sleep 0.05; done");
    let id = spec.id.clone();
    world.sandboxes.create(spec).await.unwrap();
    let first = world.sandboxes.start(&id).await.unwrap();
    world.reopen();
    assert_eq!(world.sandboxes.start(&id).await.unwrap(), first);
    world.sandboxes.signal(&id, Signal::SIGKILL).await.unwrap();
    world.wait(&id).await;
    assert_eq!(world.printed(&id).await, "once");
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}
