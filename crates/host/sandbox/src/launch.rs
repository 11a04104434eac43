//! The last steps of a new process inside its container: who it is, what it may do, what it runs.
//!
//! libcontainer has by then made the namespaces, the mounts and the root, and stands as root in the
//! new world. This module drops what the container must not have and becomes the application. It
//! reports why it could not through a pipe that closes when it succeeds.
//!
//! **Invariant:** capabilities, identity and filter are in place before the first byte of the image
//! is looked at, so that the command is found with the rights of its user.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, Gid, Uid, fork, setgroups, setresgid, setresuid};

use crate::caps::CapSet;
use crate::error::{Doing, SandboxError};
use crate::init;
use crate::seccomp::Filter;
use crate::users::Identity;

/// Where commands are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a shell would exit with; seen only if the reason could not be told.
pub(crate) const EXIT_NOT_STARTED: i32 = 127;

/// Who the first process of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Command,
    /// An init, with the command as its child.
    Init,
    /// Nobody else: there is no command.
    Pause,
}

/// What to become.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) identity: Identity,
    pub(crate) capabilities: CapSet,
    pub(crate) filter: Option<Rc<Filter>>,
    pub(crate) no_new_privileges: bool,
    pub(crate) first: First,
    /// Takes a [`SandboxError`] as JSON; closed on success.
    pub(crate) report: RawFd,
}

impl Executor for Launch {
    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        let Err(error) = self.run();
        self.tell(&error);
        // JUSTIFICATION: this is a forked image of the shim; no destructor of it may run here.
        // SAFETY: _exit is always safe to call.
        unsafe { libc::_exit(EXIT_NOT_STARTED) }
    }

    /// The last call before the wait for the start. What there is to check, [`Launch::run`] checks
    /// as the user.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        die_with_parent();
        Ok(())
    }

    /// The environment goes to `execve` directly.
    fn setup_envs(
        &self,
        _envs: std::collections::HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Launch {
    fn run(&self) -> Result<Infallible, SandboxError> {
        forget_signal_settings().doing("reset signals")?;
        self.become_user()?;
        match self.first {
            First::Command => {
                die_with_parent();
                self.execute()
            }
            First::Init => self.run_under_init(),
            First::Pause => pause(),
        }
    }

    /// The order matters: the filter needs a privilege unless new ones are given up, groups and
    /// bounding set need others, and changing the user would drop them all.
    fn become_user(&self) -> Result<(), SandboxError> {
        // Capabilities survive the change of user and are then set to exactly what is wanted.
        prctl(libc::PR_SET_KEEPCAPS, 1).doing("keep capabilities")?;
        if self.no_new_privileges {
            prctl(libc::PR_SET_NO_NEW_PRIVS, 1).doing("give up new privileges")?;
        }
        drop_bounding(self.capabilities).doing("limit capabilities")?;
        let (uid, gid) = (Uid::from_raw(self.identity.uid), Gid::from_raw(self.identity.gid));
        let groups: Vec<Gid> = self.identity.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).doing("set supplementary groups")?;
        setresgid(gid, gid, gid).doing("set the group")?;
        // The effective set must hold what the filter needs, until it is loaded.
        setresuid(uid, uid, uid).doing("set the user")?;
        if let Some(filter) = &self.filter {
            raise_all().doing("raise capabilities")?;
            load(filter).doing("load the system call filter")?;
        }
        let held = if self.identity.uid == 0 { self.capabilities } else { CapSet::NONE };
        set_capabilities(held).doing("set capabilities")?;
        prctl(libc::PR_SET_KEEPCAPS, 0).doing("forget capabilities")
    }

    fn run_under_init(&self) -> Result<Infallible, SandboxError> {
        // Blocked before the fork, so that none is lost before init waits for them.
        let before = init::block_signals().doing("block signals")?;
        // JUSTIFICATION: pid 1 must be a process of ours, and its child the application.
        // SAFETY: the process has a single thread.
        match unsafe { fork() }.doing("fork the command")? {
            ForkResult::Child => {
                sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)
                    .doing("unblock signals")?;
                die_with_parent();
                init::own_terminal();
                self.execute()
            }
            ForkResult::Parent { child } => {
                die_with_parent();
                close_all();
                init::run(child)
            }
        }
    }

    /// Finds the command as a shell would and becomes it.
    fn execute(&self) -> Result<Infallible, SandboxError> {
        let Some(command) = self.argv.first() else {
            let why = "there is no command".into();
            return Err(SandboxError::Invalid { what: "command".into(), why });
        };
        let name = command.to_string_lossy().into_owned();
        if name.contains('/') {
            let errno = self.attempt(command);
            return Err(not_executed(&name, &name, errno));
        }
        let path = self.search_path();
        let directories: Vec<&str> =
            path.split(':').map(|dir| if dir.is_empty() { "." } else { dir }).collect();
        let mut refused = None;
        for dir in directories.iter().filter(|_| !name.is_empty()) {
            let candidate = format!("{dir}/{name}");
            let Ok(terminated) = CString::new(candidate.as_bytes()) else { continue };
            match self.attempt(&terminated) {
                nix::Error::ENOENT | nix::Error::ENOTDIR => {
                    if std::fs::symlink_metadata(&candidate).is_ok() {
                        refused.get_or_insert((candidate, nix::Error::ENOENT));
                    }
                }
                errno => {
                    refused.get_or_insert((candidate, errno));
                }
            }
        }
        let looked_in = directories.iter().map(|dir| (*dir).to_owned()).collect();
        Err(match refused {
            Some((candidate, errno)) => not_executed(&name, &candidate, errno),
            None => SandboxError::NoSuchCommand { command: name, looked_in },
        })
    }

    pub(crate) fn search_path(&self) -> String {
        let set = self.env.iter().rev().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
        set.map_or(DEFAULT_PATH.to_owned(), |path| String::from_utf8_lossy(path).into_owned())
    }

    /// Returns only if it failed. A directory is refused here, since `execve` only says `EACCES`.
    fn attempt(&self, path: &CStr) -> nix::Error {
        match nix::unistd::execve(path, &self.argv, &self.env) {
            Err(errno) => errno,
        }
    }

    fn tell(&self, error: &SandboxError) {
        let text = serde_json::to_vec(error).unwrap_or_default();
        // JUSTIFICATION: the descriptor's number is all that survives in a forked image.
        // SAFETY: the buffer is as long as said. A short write loses a message, nothing else.
        unsafe { libc::write(self.report, text.as_ptr().cast(), text.len()) };
    }
}

/// Stays, for others to live in what this process holds.
fn pause() -> Result<Infallible, SandboxError> {
    init::block_signals().doing("block signals")?;
    die_with_parent();
    close_all();
    init::pause()
}

/// Of an image that is not replaced, so that nothing else closes what it has of the shim's: sockets,
/// pipes, and the report that the other end waits for.
fn close_all() {
    // JUSTIFICATION: the descriptors are known by nothing but their numbers.
    // SAFETY: nothing in this process uses a descriptor above standard error again.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Says what is wrong with a file that would not run.
fn not_executed(command: &str, path: &str, errno: nix::Error) -> SandboxError {
    let file = std::fs::metadata(path);
    let why = match (errno, &file) {
        (nix::Error::ENOENT, Ok(_)) => {
            "the interpreter or dynamic loader that it names is not in the image".to_owned()
        }
        (nix::Error::ENOENT | nix::Error::ENOTDIR, Err(_)) => {
            let looked_in = vec![path.to_owned()];
            return SandboxError::NoSuchCommand { command: command.to_owned(), looked_in };
        }
        (nix::Error::EACCES, Ok(file)) if file.is_dir() => "it is a directory".to_owned(),
        (nix::Error::EACCES, _) => "permission denied".to_owned(),
        (nix::Error::ENOEXEC, _) => {
            "exec format error: it is for another architecture, or a script without #!".to_owned()
        }
        (errno, _) => errno.desc().to_owned(),
    };
    SandboxError::NotExecutable { command: command.to_owned(), path: PathBuf::from(path), why }
}

/// The shim, and whoever started it, may ignore or block what an application expects at its
/// default, and that survives `execve`.
pub(crate) fn forget_signal_settings() -> nix::Result<()> {
    (1..=64).for_each(set_default);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// May be called between a fork and what follows it.
fn set_default(signal: i32) {
    /// The kernel's own structure; all zero is the default action.
    #[repr(C)]
    struct Action {
        handler: usize,
        flags: libc::c_ulong,
        restorer: usize,
        mask: u64,
    }
    let default = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    // JUSTIFICATION: the C library keeps two signals for itself and refuses to reset them.
    // SAFETY: the structure is the kernel's, the mask's size is eight bytes, and no handler
    // of this process is needed any more. SIGKILL and SIGSTOP fail, as they should.
    unsafe {
        let none = std::ptr::null_mut::<Action>();
        libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, none, 8_usize);
    }
}

/// The kernel kills the container if its shim dies: nobody would be left to tell its exit code.
fn die_with_parent() {
    // A failure only weakens what the agent's own check catches.
    let _ = prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::try_from(libc::SIGKILL).unwrap_or(9));
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // JUSTIFICATION: one door for the options with a single number.
    // SAFETY: every option that is passed here takes one number and no pointer.
    if unsafe { libc::prctl(option, value, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn drop_bounding(keep: CapSet) -> io::Result<()> {
    let known = CapSet::known();
    for number in (0..64_u32).filter(|n| known.0 >> n & 1 == 1 && keep.0 >> n & 1 == 0) {
        prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number))?;
    }
    Ok(())
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// Effective, permitted and inheritable, 32 capabilities each.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION: u32 = 0x2008_0522;

/// Makes every permitted capability effective.
fn raise_all() -> io::Result<()> {
    let mut words = [CapWord::default(); 2];
    let mut header = CapHeader { version: CAP_VERSION, pid: 0 };
    // JUSTIFICATION: libc has no wrapper for capget(2).
    // SAFETY: version 3 of the interface fills two words, which is what `words` has.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for word in &mut words {
        word.effective = word.permitted;
    }
    write_capabilities(&words)
}

/// Nothing is inheritable, so that an image's file capabilities gain nothing by it, and so nothing
/// is ambient either.
fn set_capabilities(held: CapSet) -> io::Result<()> {
    let half = |shift: u32| u32::try_from(held.0 >> shift & 0xffff_ffff).unwrap_or(0);
    let word = |bits| CapWord { effective: bits, permitted: bits, inheritable: 0 };
    write_capabilities(&[word(half(0)), word(half(32))])
}

fn write_capabilities(words: &[CapWord; 2]) -> io::Result<()> {
    let mut header = CapHeader { version: CAP_VERSION, pid: 0 };
    // JUSTIFICATION: libc has no wrapper for capset(2).
    // SAFETY: version 3 of the interface reads two words, which is what `words` has.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn load(filter: &Filter) -> io::Result<()> {
    let length = u16::try_from(filter.program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.program.as_ptr().cast_mut() };
    // JUSTIFICATION: libc has no wrapper for seccomp(2).
    // SAFETY: the program is as long as said, outlives the call, and the kernel only reads it.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
