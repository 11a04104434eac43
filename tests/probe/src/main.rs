//! A hostile program for containers: each subcommand tries one class of ways out and says how far it got.
//!
//! It knows nothing of Longshore. Each attempt prints a line `NAME: did` when the kernel did what was asked
//! and `NAME: EPERM` (or whatever the error is) when not; the tests know which of the two is right. No
//! attempt harms a host that lets it through: what is asked for is the harmless form of the harm.

#![allow(clippy::disallowed_methods, reason = "a user's program, whose files are its own")]

mod flood;
mod kernel;
mod reach;
mod see;
mod swap;

use std::io::{self, Write as _};
use std::process::ExitCode;

const USAGE: &str = "probe kernel | see | others | reach TCP|UDP|RAW ADDRESS PORT… | swap DIR SECONDS [LINK] | \
                     forks MOST SECONDS | disk FILE MIB | inodes DIR MOST | memory MIB | lines COUNT BYTES | \
                     serve PORT | hold [EXIT [SECONDS]]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let code = match words.as_slice() {
        ["kernel"] => kernel::try_all(),
        ["see"] => see::try_all(),
        ["others"] => see::touch_others(),
        ["reach", pairs @ ..] => reach::try_all(pairs),
        ["serve", port] => reach::serve(number(port) as u16),
        ["swap", dir, seconds] => swap::exchange(dir, number(seconds), "/"),
        ["swap", dir, seconds, link] => swap::exchange(dir, number(seconds), link),
        ["forks", most, seconds] => flood::forks(number(most), number(seconds)),
        ["disk", file, mib] => flood::disk(file, number(mib)),
        ["inodes", dir, most] => flood::inodes(dir, number(most)),
        ["memory", mib] => flood::memory(number(mib)),
        ["lines", count, bytes] => flood::lines(number(count), number(bytes)),
        ["hold"] => flood::hold(0, u64::MAX),
        ["hold", exit] => flood::hold(number(exit), u64::MAX),
        ["hold", exit, seconds] => flood::hold(number(exit), number(seconds)),
        _ => {
            eprintln!("usage: {USAGE}");
            2
        }
    };
    ExitCode::from(code)
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or(0)
}

/// One line of what was seen. Nobody reading it is no reason to end.
fn say(name: &str, outcome: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{name}: {outcome}");
    let _ = out.flush();
}

/// Says how an attempt went.
fn attempt<T>(name: &str, outcome: io::Result<T>) -> Option<T> {
    match outcome {
        Ok(value) => {
            say(name, "did");
            Some(value)
        }
        Err(error) => {
            say(name, &word(&error));
            None
        }
    }
}

/// The name of an error as the kernel's manual has it, for those that matter here.
fn word(error: &io::Error) -> String {
    let known = [
        (libc::EPERM, "EPERM"),
        (libc::EACCES, "EACCES"),
        (libc::EROFS, "EROFS"),
        (libc::ENOENT, "ENOENT"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EDQUOT, "EDQUOT"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::ESRCH, "ESRCH"),
        (libc::ENODEV, "ENODEV"),
        (libc::EIO, "EIO"),
    ];
    let code = error.raw_os_error().unwrap_or(0);
    let found = known.iter().find(|(known, _)| *known == code);
    found.map_or_else(|| format!("{error}"), |(_, name)| (*name).to_owned())
}

/// A system call with its bare arguments, as an attacker makes it.
fn raw(number: libc::c_long, arguments: [usize; 6]) -> io::Result<i64> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every caller passes numbers, null, or pointers to values that live until the call is over
    // and are as long as the call may read or write.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// A path or name as the kernel wants it.
fn text(word: &str) -> std::ffi::CString {
    std::ffi::CString::new(word).unwrap_or_default()
}

fn at(word: &std::ffi::CString) -> usize {
    word.as_ptr() as usize
}
