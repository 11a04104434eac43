//! A small init: pid 1 of a container whose definition asks for one.
//!
//! Forwards every signal to the application, reaps whatever is left to it, and ends with the
//! application's exit code. It is our own forked image, so the container's image needs no binary.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Blocks every signal and returns what was blocked before.
pub(crate) fn block_signals() -> nix::Result<SigSet> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    Ok(before)
}

/// Makes the calling child the leader of the terminal's foreground group, if there is a terminal.
pub(crate) fn own_terminal() {
    if nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).is_err() {
        return;
    }
    let mut ignored = SigSet::empty();
    ignored.add(Signal::SIGTTOU);
    let mut before = SigSet::empty();
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ignored), Some(&mut before));
    // JUSTIFICATION: nix wants a borrowed descriptor, and this is simply number 0.
    // SAFETY: two numbers; where 0 is no terminal the call fails and nothing happens.
    unsafe { libc::tcsetpgrp(0, libc::getpid()) };
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
}

/// Serves `child` until it ends, and ends with it.
pub(crate) fn run(child: Pid) -> ! {
    crate::sys::set_name(c"init");
    let signals = SigSet::all();
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(child) {
                    leave(code);
                }
            }
            Ok(signal) => {
                // It may have ended a moment ago; the SIGCHLD says so.
                let _ = kill(child, signal);
            }
            // A real-time signal, which nix does not know.
            Err(_) => {}
        }
    }
}

/// Reaps whatever is left to it, for as long as nobody kills it.
pub(crate) fn pause() -> ! {
    crate::sys::set_name(c"pause");
    let signals = SigSet::all();
    loop {
        // Any of them, and also those that nix does not know: there is nobody to pass them on to.
        let _ = signals.wait();
        reap(Pid::from_raw(0));
    }
}

/// Reaps everyone who ended; the exit code, if the child is among them.
fn reap(child: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = Some(128_i32.saturating_add(signal as i32));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(_) => {}
        }
    }
}

fn leave(code: i32) -> ! {
    // JUSTIFICATION: this is a forked image of the shim; no destructor of it may run here.
    // SAFETY: _exit is always safe to call.
    unsafe { libc::_exit(code) }
}
