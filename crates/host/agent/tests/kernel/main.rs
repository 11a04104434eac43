//! The agent is killed at every step of a task's life, on the real kernel, and the next one while it takes
//! up what is left: each time another one goes on, and the task runs once, wholly, and is told of as if
//! nothing had happened.
//!
//! This program is all three: the test, the agents that die (`agent`), and their shims (`shim`). Needs
//! root; each thread has a network namespace of its own and plays the host there.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
#![allow(clippy::disallowed_methods, reason = "tests write files as they like")]

mod child;
mod docker;
mod region;
mod world;

use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, unshare};

use self::world::{Kind, World};

const NAME: &str = "a_task_runs_once_and_wholly_whatever_step_its_agent_is_killed_at";
/// Threads for each kind of task; each takes every second step.
const LANES: u64 = 2;
/// With Docker, where a task takes longer, a lane takes every so many steps.
const DOCKER_STRIDE: u64 = 4;
const STEPS_MAX: u64 = 1_000;
/// The second agent dies within so many steps.
const SECOND_STEPS: u64 = 11;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["shim", ..] => sandbox::shim_main(std::env::args_os().skip(2)),
        ["agent", dir, dies_at] => child::run(Path::new(dir), dies_at.parse().unwrap()),
        _ if words.iter().any(|word| word == "--list") => println!("{NAME}: test"),
        _ if is_filtered_out(&words) => println!("test result: ok. 0 passed; 0 failed"),
        _ => test(),
    }
}

/// As cargo's own tests are asked for: names in part, and options of which some have a value.
fn is_filtered_out(words: &[String]) -> bool {
    let mut names = Vec::new();
    let mut is_skipped = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--skip" => is_skipped |= words.next().is_some_and(|name| NAME.contains(&**name)),
            "--test-threads" | "--color" | "--format" => {
                words.next();
            }
            _ if word.starts_with('-') => {}
            name => names.push(name),
        }
    }
    is_skipped || !(names.is_empty() || names.iter().any(|name| NAME.contains(name)))
}

fn test() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: containers need root");
        return;
    }
    let Some(busybox) = busybox() else {
        println!("skipped: there is no busybox (Debian: busybox-static)");
        return;
    };
    let layer = world::layer(&busybox);
    let layer_dir = layer.path();
    let mut deaths = 0;
    thread::scope(|scope| {
        let native = [Kind::EndsByItself, Kind::IsStopped]
            .into_iter()
            .flat_map(|kind| (0..LANES).map(move |lane| (kind, lane)));
        let by_docker = [(Kind::EndsByItselfInDocker, 0), (Kind::IsStoppedInDocker, 1)];
        let lanes: Vec<_> = native
            .chain(by_docker)
            .map(|(kind, lane)| scope.spawn(move || kill_at_every_step(kind, lane, layer_dir)))
            .collect();
        for lane in lanes {
            deaths += lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    assert!(100 < deaths, "{deaths} deaths are not every step");
    println!("test {NAME} ... ok after {deaths} deaths");
    println!("test result: ok. 1 passed; 0 failed");
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.exists())
}

/// The number of agents that died.
fn kill_at_every_step(kind: Kind, lane: u64, layer: &Path) -> u64 {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    world::run("ip link set lo up");
    let (mut engine, mut stride) = (None, LANES);
    if kind.is_docker() {
        engine = docker::Engine::start(layer);
        stride = DOCKER_STRIDE;
        if engine.is_none() {
            println!("skipped: {kind:?}: there is no dockerd (Debian: docker.io)");
            return 0;
        }
    }
    let socket = engine.as_ref().map(docker::Engine::socket);
    let mut deaths = 0;
    for dies_at in (lane..STEPS_MAX).step_by(usize::try_from(stride).unwrap()) {
        let world = World::new(kind, lane, layer, socket.as_deref());
        let died = world.live(dies_at);
        if died {
            deaths += 1;
            // Another dies while it takes up what the first one left, each time at another step.
            deaths += u64::from(world.live(dies_at / stride % SECOND_STEPS));
            assert!(!world.live(u64::MAX), "the last agent dies of nothing");
        }
        world.check(dies_at);
        world.close(dies_at);
        if !died {
            return deaths;
        }
    }
    panic!("{kind:?}: no end of steps");
}
