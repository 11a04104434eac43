//! The system calls that no safe crate of ours wraps, each a thin function.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use longshore_types::{Clock, SystemClock};

use crate::usage::ClockState;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// A filesystem that is being configured, before it is mounted anywhere.
#[derive(Debug)]
pub(crate) struct FsContext(OwnedFd);

impl FsContext {
    pub(crate) fn open(kind: &CStr) -> io::Result<Self> {
        // JUSTIFICATION: libc has no wrapper for fsopen(2).
        // SAFETY: `kind` is a terminated string that outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
        owned(fd).map(Self)
    }

    pub(crate) fn flag(&self, key: &CStr) -> io::Result<()> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    pub(crate) fn string(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        self.config(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        self.config(FSCONFIG_CMD_CREATE, None, None)
    }

    /// A mount that is attached to no path.
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        // JUSTIFICATION: libc has no wrapper for fsmount(2).
        // SAFETY: the descriptor is open, and there are no pointers.
        let fd =
            unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, 0) };
        owned(fd)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> io::Result<()> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // JUSTIFICATION: libc has no wrapper for fsconfig(2).
        // SAFETY: both strings are terminated and outlive the call; null is what commands without
        // them want.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        };
        check(result)
    }
}

/// Attaches a mount of [`FsContext::mount`] at `path`.
pub(crate) fn attach_mount(mount: &OwnedFd, path: &CStr) -> io::Result<()> {
    // JUSTIFICATION: libc has no wrapper for move_mount(2).
    // SAFETY: both paths are terminated strings that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(result)
}

/// Lets no container process read this one's memory or descriptors.
pub(crate) fn set_subreaper() -> io::Result<()> {
    // JUSTIFICATION: nix has no such option for a single argument on all versions we take.
    // SAFETY: the option takes one number.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}

/// Gives memory that this process has freed back to the kernel, as far as its allocator can.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // JUSTIFICATION: glibc keeps freed memory that lies between what is in use until it is told to look.
    // SAFETY: the call takes no pointers, and may be made by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

pub(crate) fn set_name(name: &CStr) {
    // JUSTIFICATION: a name for `ps`; nothing depends on it.
    // SAFETY: `name` is a terminated string; the kernel copies at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Kills a process that is not one of ours; one that is gone is fine.
pub fn kill_process(pid: i32) {
    // Zero and less mean groups.
    if pid > 0 {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
}

/// What the kernel was told of the clock by whoever keeps it right.
pub fn clock_state() -> io::Result<ClockState> {
    const UNSYNCHRONIZED: libc::c_int = 5;
    // JUSTIFICATION: no crate that we use has a wrapper for adjtimex(2).
    // SAFETY: a timex is plain numbers, for which zero is a value; its first says that nothing is to be set.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // JUSTIFICATION: as above.
    // SAFETY: the structure is ours for the length of the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    check(result)?;
    let error_us_max = u64::try_from(state.maxerror).unwrap_or(0);
    Ok(ClockState { error_us_max, is_synchronized: result != UNSYNCHRONIZED })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    check(result)?;
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // JUSTIFICATION: the kernel's number becomes a type that closes it.
    // SAFETY: the call succeeded, so that `fd` is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: impl Into<i64>) -> io::Result<()> {
    if result.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One instruction of the kernel's extended filter language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct BpfInsn {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl BpfInsn {
    pub(crate) const EXIT: Self = Self::new(0x95, 0, 0, 0, 0);

    const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: from << 4 | to, offset, immediate }
    }

    /// A 32-bit word of the context, which register 1 points to.
    pub(crate) const fn load_context(to: u8, offset: i16) -> Self {
        Self::new(0x61, to, 1, offset, 0)
    }

    pub(crate) const fn copy(to: u8, from: u8) -> Self {
        Self::new(0xbf, to, from, 0, 0)
    }

    pub(crate) const fn set(to: u8, value: i32) -> Self {
        Self::new(0xb7, to, 0, 0, value)
    }

    pub(crate) const fn and(to: u8, mask: i32) -> Self {
        Self::new(0x57, to, 0, 0, mask)
    }

    pub(crate) const fn shift_right(to: u8, bits: i32) -> Self {
        Self::new(0x77, to, 0, 0, bits)
    }

    pub(crate) const fn jump_unless_equal(register: u8, value: i32, by: i16) -> Self {
        Self::new(0x55, register, 0, by, value)
    }
}

/// Loads a program for the device accesses of a control group and attaches it.
pub(crate) fn attach_device_program(group: &impl AsFd, program: &[BpfInsn]) -> io::Result<()> {
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const AT_CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;

    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u64; 2],
        rest: [u64; 12],
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        at: u32,
        flags: u32,
    }
    let license = c"Apache-2.0";
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log: [0; 2],
        rest: [0; 12],
    };
    // JUSTIFICATION: libc has no wrapper for bpf(2).
    // SAFETY: the attribute is larger than any kernel reads blindly, and its unused part is zero;
    // what it points to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    let loaded = owned(fd)?;
    let number = |fd: RawFd| u32::try_from(fd).map_err(io::Error::other);
    let attach = Attach {
        target: number(group.as_fd().as_raw_fd())?,
        program: number(loaded.as_raw_fd())?,
        at: AT_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // JUSTIFICATION: as above.
    // SAFETY: both descriptors are open; the attribute has no pointers.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>())
    })
}

/// A detached copy of the mount at `path`, of the calling process's namespace.
pub(crate) fn clone_mount(path: &CStr) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE | libc::c_uint::try_from(libc::O_CLOEXEC).unwrap_or(0);
    // JUSTIFICATION: libc has no wrapper for open_tree(2).
    // SAFETY: `path` is a terminated string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// Makes a mount of [`clone_mount`] refuse every write, whoever asks.
pub(crate) fn make_read_only(mount: OwnedFd) -> io::Result<OwnedFd> {
    const READ_ONLY: u64 = 1;

    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let attributes = Attributes { set: READ_ONLY, clear: 0, propagation: 0, user_namespace: 0 };
    // JUSTIFICATION: libc has no wrapper for mount_setattr(2).
    // SAFETY: the path is a terminated string, and the structure as long as said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    check(result).map(|()| mount)
}

/// Waits until a child has ended, which is then still to be reaped; false if it has not within `limit`.
pub(crate) fn wait_for_end(child: u32, limit: Duration) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let pid = libc::pid_t::try_from(child).map_err(io::Error::other)?;
    // JUSTIFICATION: libc has no wrapper for pidfd_open(2).
    // SAFETY: two numbers; the child is not reaped yet, so that the pid is its own.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let until = SystemClock.now().plus_ms(limit_ms);
    loop {
        let left_ms = until.since_ms(SystemClock.now());
        let timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => return Ok(0 < ready),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A descriptor that the other side passes over the socket.
pub(crate) fn receive_fd(socket: &impl AsFd) -> io::Result<OwnedFd> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

    let mut bytes = [0; 64];
    let mut iov = [io::IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let socket = socket.as_fd().as_raw_fd();
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket, &mut iov, Some(&mut control), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part
            && let Some(fd) = fds.first()
        {
            // JUSTIFICATION: the kernel's number becomes a type that closes it.
            // SAFETY: the kernel just installed this descriptor for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof))
}
