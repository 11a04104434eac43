//! What can be seen of the host and of other tasks, and done to them.

use std::fs;

use crate::{attempt, raw, say};

pub(crate) fn try_all() -> u8 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for name in ["CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs"] {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        say(name, line.unwrap_or("").trim());
    }
    say("pids", &pids().iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
    for (what, path) in [
        ("queues", "/proc/sysvipc/msg"),
        ("segments", "/proc/sysvipc/shm"),
        ("semaphores", "/proc/sysvipc/sem"),
    ] {
        let rows = fs::read_to_string(path).unwrap_or_default().lines().count().saturating_sub(1);
        say(what, &rows.to_string());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        say("mount", line);
    }
    for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
        say("dev", &entry.file_name().to_string_lossy());
    }
    say(
        "group",
        fs::read_to_string("/proc/self/cgroup").unwrap_or_default().lines().next().unwrap_or(""),
    );
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        say("descriptor", &format!("{} {}", entry.file_name().to_string_lossy(), target.display()));
    }
    0
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect()
}

/// Signals, traces and reads every process that is not this one, by number and not only by what is shown.
pub(crate) fn touch_others() -> u8 {
    let own = std::process::id();
    let mut touched = 0;
    for pid in (1..40_000_u32).filter(|pid| *pid != own) {
        let pid_word = pid as usize;
        let signalled = raw(libc::SYS_kill, [pid_word, 0, 0, 0, 0, 0]).is_ok();
        let memory = fs::File::open(format!("/proc/{pid}/mem")).is_ok();
        let root = fs::read_dir(format!("/proc/{pid}/root")).is_ok();
        let traced = raw(libc::SYS_ptrace, [16, pid_word, 0, 0, 0, 0]).is_ok();
        if signalled || memory || root || traced {
            touched += 1;
            say("touched", &pid.to_string());
        }
    }
    say("others", &touched.to_string());
    // Everybody whom this process may signal: in a namespace of its own, nobody.
    attempt("signal all", raw(libc::SYS_kill, [usize::MAX, 0, 0, 0, 0, 0]));
    0
}
