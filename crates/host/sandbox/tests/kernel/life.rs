//! From create to delete, through the deaths of everybody in between.

use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use sandbox::{ContainerId, ExecSpec, GroupLimits, Phase, SandboxError, Sandboxes, Signal};
use tokio::time::Instant;

use crate::world::{SOON, World, config, runtime};

/// Announces itself and then sits there.
const SIT: &str = "echo ready; while :; do sleep 1; done";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_runs_and_its_exit_code_is_kept() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let spec = world.shell("echo hello; echo trouble >&2; exit 7");
    let id = spec.id.clone();
    world.sandboxes.create(spec).await.unwrap();
    let started = world.sandboxes.start(&id).await.unwrap();
    assert!(started.pid > 0 && started.at.0 > 0);
    let exit = world.wait(&id).await;
    assert_eq!((exit.code, exit.oom_killed), (7, false));
    assert_eq!(world.wait(&id).await, exit, "as often as one likes");
    let mut printed = world.printed(&id).await.lines().map(str::to_owned).collect::<Vec<_>>();
    printed.sort();
    assert_eq!(printed, ["hello", "trouble"]);
    world.sandboxes.delete(&id).await.unwrap();
    world.sandboxes.delete(&id).await.unwrap();
    assert!(matches!(world.sandboxes.wait(&id).await, Err(SandboxError::NotFound { .. })));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_arrive_and_show_in_the_exit_code() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let handler = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let id = world.start(world.shell(handler)).await;
    until_ready(&world, &id).await;
    world.sandboxes.signal(&id, Signal::SIGTERM).await.unwrap();
    assert_eq!(world.wait(&id).await.code, 5);
    let refused = world.sandboxes.signal(&id, Signal::SIGTERM).await;
    assert!(matches!(refused, Err(SandboxError::NotRunning { .. })), "{refused:?}");
    world.sandboxes.delete(&id).await.unwrap();

    let id = world.start(world.shell(SIT)).await;
    world.sandboxes.signal(&id, Signal::SIGKILL).await.unwrap();
    assert_eq!(world.wait(&id).await.code, 128 + 9);
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_forwards_signals_and_leaves_no_zombies() {
    let has_init = ["/usr/bin/docker-init", "/usr/bin/tini-static"].map(std::path::Path::new);
    if runtime().is_some() && !has_init.iter().any(|path| path.exists()) {
        eprintln!("skipped: there is no init for containers of other runtimes (Debian: tini)");
        return;
    }
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell(
        "trap 'exit 6' TERM; (sh -c 'sleep 0.1' &); (sh -c 'true' &); echo ready; \
         while :; do sleep 0.05; done",
    );
    spec.init = true;
    let id = world.start(spec).await;
    until_ready(&world, &id).await;
    let deadline = Instant::now() + SOON;
    let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    while world.exec(&id, zombies).await.1 != "0"
        || world.exec(&id, "pgrep sleep").await.1.lines().count() > 1
    {
        assert!(Instant::now() < deadline, "zombies stay");
    }
    let (_, first) = world.exec(&id, "cat /proc/1/comm; ls /proc/1/fd | wc -l").await;
    assert_eq!(first, "init\n3", "init holds nothing of its shim");
    world.sandboxes.signal(&id, Signal::SIGTERM).await.unwrap();
    assert_eq!(world.wait(&id).await.code, 6);
    world.sandboxes.delete(&id).await.unwrap();

    let mut spec = world.shell("kill -9 $$");
    spec.init = true;
    assert_eq!(world.run(spec).await.0.code, 128 + 9);
    let mut spec = world.spec(&["no-such-thing"]);
    spec.init = true;
    let id = spec.id.clone();
    world.sandboxes.create(spec).await.unwrap();
    let refused = world.sandboxes.start(&id).await;
    match runtime() {
        None => {
            assert!(matches!(refused, Err(SandboxError::NoSuchCommand { .. })), "{refused:?}");
        }
        // The host's init looks for the command, and says in a code what became of it.
        Some(_) => assert_eq!(world.wait(&id).await.code, 127),
    }
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_inside_as_the_container_does() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell(SIT);
    spec.user = "web".into();
    spec.hostname = Some("inside".into());
    spec.env = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
    let id = world.start(spec).await;
    let (code, printed) = world.exec(&id, "id -u; hostname; echo $A$B; echo bad >&2; exit 4").await;
    assert_eq!((code, printed.as_str()), (4, "101\ninside\n12\nbad"));
    let status = "grep -E 'Seccomp:|CapBnd' /proc/self/status | cut -f2; cut -d: -f3 /proc/self/cgroup | sort -u";
    assert_eq!(world.exec(&id, status).await.1, "00000000a80425fb\n2\n/");

    let mut command =
        ExecSpec::new(["/bin/sh", "-c", "id -u; pwd; echo $B"].map(String::from).into(), 9000);
    command.user = Some("0".into());
    command.cwd = Some("/etc".into());
    command.env = vec![("B".into(), "3".into())];
    let result = world.sandboxes.exec(&id, command).await.unwrap();
    assert_eq!(String::from_utf8(result.output).unwrap(), "0\n/etc\n3\n");

    let missing = world.sandboxes.exec(&id, ExecSpec::new(vec!["nope".into()], 1000)).await;
    assert!(matches!(missing, Err(SandboxError::NoSuchCommand { .. })), "{missing:?}");
    world.sandboxes.delete(&id).await.unwrap();
    let gone = world.sandboxes.exec(&id, ExecSpec::new(vec!["true".into()], 1000)).await;
    assert!(matches!(gone, Err(SandboxError::NotFound { .. })), "{gone:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_beyond_its_time_is_killed_with_all_it_started() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let id = world.start(world.shell(SIT)).await;
    let script = "sleep 777 & (sleep 778 &) ; sleep 779";
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let late = world.sandboxes.exec(&id, ExecSpec::new(argv, 200)).await;
    assert!(matches!(late, Err(SandboxError::TimedOut { timeout_ms: 200 })), "{late:?}");
    let deadline = Instant::now() + SOON;
    while world.exec(&id, "pgrep -f 'sleep 77[789]'").await.1.lines().count() > 1 {
        assert!(Instant::now() < deadline, "what the command started runs on");
    }
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_agent_finds_every_container_and_its_end() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let created = world.shell(SIT);
    let created_id = created.id.clone();
    world.sandboxes.create(created).await.unwrap();
    let ended = world.start(world.shell("exit 9")).await;
    world.wait(&ended).await;
    let runs = world
        .start(world.shell("trap 'exit 11' TERM; echo ready; while :; do sleep 0.05; done"))
        .await;
    until_ready(&world, &runs).await;

    world.reopen();
    let found = world.sandboxes.recover().await.unwrap();
    let phases: Vec<_> = found.iter().map(|one| (one.id.clone(), one.phase)).collect();
    let expected = [
        (created_id.clone(), Phase::Created),
        (ended.clone(), Phase::Exited),
        (runs.clone(), Phase::Running),
    ];
    assert_eq!(phases, expected);
    assert_eq!(found[1].exit.as_ref().map(|exit| exit.code), Some(9));
    assert!(found[2].started_at.is_some() && found[2].pid.is_some());
    world.sandboxes.signal(&runs, Signal::SIGTERM).await.unwrap();
    assert_eq!(world.wait(&runs).await.code, 11);
    world.sandboxes.start(&created_id).await.unwrap();
    for id in [created_id, ended, runs] {
        world.sandboxes.delete(&id).await.unwrap();
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_whose_shim_is_killed_is_killed_and_reported() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let id = world.start(world.shell(SIT)).await;
    until_ready(&world, &id).await;
    let pid = world.sandboxes.recover().await.unwrap()[0].pid.unwrap();
    let groups = world.sandboxes.groups().await.unwrap();
    assert_eq!(
        groups,
        std::slice::from_ref(&world.group),
        "the shims' own group is nobody's to remove"
    );
    let waiting = {
        let (sandboxes, id) = (world.sandboxes.clone(), id.clone());
        tokio::spawn(async move { sandboxes.wait(&id).await })
    };
    kill(parent_of(pid), Signal::SIGKILL).unwrap();
    let exit = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(exit.code, 137);
    assert!(exit.reason.is_some_and(|reason| reason.contains("killed")));
    assert_eq!(world.printed(&id).await, "ready", "the output ends properly");
    assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_before_a_restart_of_the_machine_has_ended_and_says_why() {
    let Some(mut world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let ended = world.start(world.shell("exit 3")).await;
    world.wait(&ended).await;
    let running = world.start(world.shell(SIT)).await;
    until_ready(&world, &running).await;
    let found = world.sandboxes.recover().await.unwrap();
    let pid = found.iter().find(|each| each.id == running).unwrap().pid.unwrap();
    // As far as a process can tell, this is what a power cut does.
    kill(parent_of(pid), Signal::SIGKILL).unwrap();
    world.reopen_after_reboot();
    let found = world.sandboxes.recover().await.unwrap();
    let exit = |id| found.iter().find(|each| each.id == id).unwrap().exit.clone().unwrap();
    assert_eq!((exit(ended.clone()).code, exit(ended.clone()).reason), (3, None), "known before");
    assert!(found.iter().all(|each| each.phase == Phase::Exited));
    let reason = exit(running.clone()).reason.unwrap();
    assert!(reason.contains("the host was restarted"), "{reason}");
    // What comes after it is not of before.
    let next = world.start(world.shell(SIT)).await;
    let found = world.sandboxes.recover().await.unwrap();
    assert_eq!(found.iter().find(|each| each.id == next).unwrap().phase, Phase::Running);
    for id in [ended, running, next] {
        world.sandboxes.delete(&id).await.unwrap();
    }
    world.close().await;
}

/// The agent is this test's own second process: started anew with a file to write to, it starts a
/// container and is then killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_code_survives_the_sigkill_of_the_agent() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let spec = world.shell("while [ ! -e /tmp/go ]; do sleep 0.02; done; echo bye; exit 23");
    let id = spec.id.clone();
    let upper = spec.rootfs.scratch.join("upper/tmp");
    let given = world.dir.path().join("given.json");
    let json = serde_json::to_vec(&(&world.tag, world.dir.path(), &spec)).unwrap();
    std::fs::write(&given, json).unwrap();
    let mut agent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::agent_to_be_killed", "--ignored", "--nocapture"])
        .env("LONGSHORE_TEST_AGENT", &given)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until_running(&world.sandboxes, &id).await;
    agent.start_kill().unwrap();
    agent.wait().await.unwrap();
    // Only now it ends, with nobody there.
    std::fs::create_dir_all(&upper).unwrap();
    world
        .sandboxes
        .exec(&id, ExecSpec::new(vec!["touch".into(), "/tmp/go".into()], 5000))
        .await
        .unwrap();
    assert_eq!(world.wait(&id).await.code, 23);
    assert_eq!(world.printed(&id).await, "bye");
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of the test above"]
#[expect(clippy::disallowed_methods, reason = "told apart from an ordinary run by a variable")]
async fn agent_to_be_killed() {
    let Ok(given) = std::env::var("LONGSHORE_TEST_AGENT") else { return };
    let json = std::fs::read(given).unwrap();
    let (tag, dir, spec): (String, std::path::PathBuf, sandbox::ContainerSpec) =
        serde_json::from_slice(&json).unwrap();
    let sandboxes = Sandboxes::open(config(&dir, &tag)).unwrap();
    let id = spec.id.clone();
    sandboxes.create(spec).await.unwrap();
    sandboxes.start(&id).await.unwrap();
    sandboxes.wait(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_leave_nothing() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..24 {
        let (sandboxes, spec) = (world.sandboxes.clone(), world.shell(&format!("exit {number}")));
        running.spawn(async move {
            let id = spec.id.clone();
            sandboxes.create(spec).await.unwrap();
            sandboxes.start(&id).await.unwrap();
            let exit = sandboxes.wait(&id).await.unwrap();
            sandboxes.delete(&id).await.unwrap();
            (number, exit.code)
        });
    }
    while let Some(done) = running.join_next().await {
        let (number, code) = done.unwrap();
        assert_eq!(number, code);
    }
    world.close().await;
}

async fn until_ready(world: &World, id: &ContainerId) {
    let mut reader = world.sandboxes.logs(&world.spool(id), Default::default()).unwrap();
    tokio::time::timeout(SOON, reader.next()).await.expect("it says that it is ready").unwrap();
}

async fn until_running(sandboxes: &Sandboxes, id: &ContainerId) {
    let deadline = Instant::now() + SOON;
    loop {
        let probe = ExecSpec::new(vec!["true".into()], 5000);
        if sandboxes.exec(id, probe).await.is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "{id} does not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn parent_of(pid: i32) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    Pid::from_raw(line.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_container_finds_the_files_that_the_one_before_wrote() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let first = world.shell("echo kept > /note");
    let mut second = world.shell("cat /note");
    second.rootfs.scratch = world.dir.path().join("scratch").join("inherited");
    let from = first.rootfs.scratch.clone();
    let id = world.start(first).await;
    assert_eq!(world.wait(&id).await.code, 0);
    std::fs::rename(from, &second.rootfs.scratch).unwrap();
    let (exit, printed) = world.run(second).await;
    assert_eq!((exit.code, printed.as_str()), (0, "kept"));
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}
