//! Which system calls a container may make, grouped by what they are for.
//!
//! The strength is that of Docker's default profile: what acts on the whole host (mounting, modules,
//! clocks, keyrings, tracing of the kernel, new namespaces, `io_uring`, …) is absent unless the
//! container was given the capability that goes with it. What is absent fails with `EPERM`.

use libc::c_long;

use crate::caps::Cap;

/// A system call, by its number here and by its name, which is the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) number: c_long,
    /// With the `SYS_` of headers.
    constant: &'static str,
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        self.constant.trim_start_matches("SYS_")
    }
}

/// Calls by the names of their numbers.
macro_rules! calls {
    ($($constant:ident),* $(,)?) => {
        &[$(Call { number: numbers::$constant, constant: stringify!($constant) }),*]
    };
}

/// Those of our libc's headers, and newer ones, which have one number on every architecture we build for.
#[allow(non_upper_case_globals, reason = "named as libc names them")]
mod numbers {
    use libc::c_long;
    pub(super) use libc::*;

    #[cfg(target_arch = "x86_64")]
    pub(super) const SYS_io_pgetevents: c_long = 333;
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) const SYS_io_pgetevents: c_long = 292;
    pub(super) const SYS_cachestat: c_long = 451;
    pub(super) const SYS_fchmodat2: c_long = 452;
    pub(super) const SYS_map_shadow_stack: c_long = 453;
    pub(super) const SYS_futex_wake: c_long = 454;
    pub(super) const SYS_futex_wait: c_long = 455;
    pub(super) const SYS_futex_requeue: c_long = 456;
    pub(super) const SYS_statmount: c_long = 457;
    pub(super) const SYS_listmount: c_long = 458;
    pub(super) const SYS_lsm_get_self_attr: c_long = 459;
    pub(super) const SYS_lsm_set_self_attr: c_long = 460;
    pub(super) const SYS_lsm_list_modules: c_long = 461;
    pub(super) const SYS_mseal: c_long = 462;
    pub(super) const SYS_setxattrat: c_long = 463;
    pub(super) const SYS_getxattrat: c_long = 464;
    pub(super) const SYS_listxattrat: c_long = 465;
    pub(super) const SYS_removexattrat: c_long = 466;
    pub(super) const SYS_open_tree_attr: c_long = 467;
}

/// Calls above this one did not exist when the table was made: they answer `ENOSYS`, so that a C
/// library falls back to what it did before.
pub(super) const LAST_KNOWN: c_long = numbers::SYS_open_tree_attr;

/// A condition on a call's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Equals {
        argument: u8,
        value: u64,
    },
    /// All of `mask`'s bits are clear.
    Clear {
        argument: u8,
        mask: u64,
    },
    /// None of them fits.
    NoneOf(&'static [Pattern]),
}

/// A value of an argument that the kernel takes as 32 bits, whatever the other half says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) argument: u8,
    pub(super) mask: u32,
    pub(super) value: u32,
}

impl Pattern {
    const fn family(value: u32) -> Self {
        Self { argument: 0, mask: u32::MAX, value }
    }
}

/// Which sockets a container may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sockets {
    /// All but those that lead to the machine around this one.
    Usual,
    /// Those whose packets the host's table judges, too.
    Judged,
}

impl Sockets {
    const VSOCK: Pattern = Pattern::family(40);
    const PACKET: Pattern = Pattern::family(17);
    const XDP: Pattern = Pattern::family(44);
    /// The kernel makes a packet socket of it, of any family; flags lie above the low four bits.
    const OLD_PACKET: Pattern = Pattern { argument: 1, mask: 0xf, value: 10 };

    const fn refused(self) -> &'static [Pattern] {
        match self {
            Self::Usual => &[Self::VSOCK],
            Self::Judged => &[Self::VSOCK, Self::PACKET, Self::XDP, Self::OLD_PACKET],
        }
    }
}

/// Allowed to every container.
pub(super) fn always() -> Vec<Call> {
    let groups: [&[Call]; 9] =
        [FILES, PATHS, MEMORY, PROCESSES, SIGNALS, TIME, SOCKETS, IPC, EVENTS];
    let mut calls: Vec<Call> = groups.concat();
    calls.extend_from_slice(arch::ALWAYS);
    calls
}

/// Allowed where the container has the capability.
pub(super) const WITH_CAPABILITY: &[(Cap, &[Call])] = &[
    (Cap::DacReadSearch, calls![SYS_open_by_handle_at]),
    (
        Cap::SysAdmin,
        calls![
            SYS_bpf,
            SYS_clone,
            SYS_clone3,
            SYS_fanotify_init,
            SYS_fsconfig,
            SYS_fsmount,
            SYS_fsopen,
            SYS_fspick,
            SYS_lookup_dcookie,
            SYS_mount,
            SYS_mount_setattr,
            SYS_move_mount,
            SYS_open_tree,
            SYS_open_tree_attr,
            SYS_perf_event_open,
            SYS_quotactl,
            SYS_quotactl_fd,
            SYS_setdomainname,
            SYS_sethostname,
            SYS_setns,
            SYS_syslog,
            SYS_umount2,
            SYS_unshare,
        ],
    ),
    (Cap::SysBoot, calls![SYS_reboot]),
    (Cap::SysChroot, calls![SYS_chroot]),
    (Cap::SysModule, calls![SYS_delete_module, SYS_init_module, SYS_finit_module]),
    (Cap::SysPacct, calls![SYS_acct]),
    (Cap::SysPtrace, calls![SYS_kcmp, SYS_pidfd_getfd, SYS_process_madvise]),
    (Cap::SysTime, calls![SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime]),
    (Cap::SysTtyConfig, calls![SYS_vhangup]),
    (
        Cap::SysNice,
        calls![SYS_get_mempolicy, SYS_mbind, SYS_set_mempolicy, SYS_set_mempolicy_home_node,],
    ),
    (Cap::Syslog, calls![SYS_syslog]),
    (Cap::Bpf, calls![SYS_bpf]),
    (Cap::Perfmon, calls![SYS_perf_event_open]),
    #[cfg(target_arch = "x86_64")]
    (Cap::SysRawio, calls![SYS_iopl, SYS_ioperm]),
];

const PERSONALITY: Call = calls![SYS_personality][0];
const SOCKET: Call = calls![SYS_socket][0];
const CLONE: Call = calls![SYS_clone][0];

/// Allowed if any of the conditions holds.
pub(super) fn conditional(is_admin: bool, sockets: Sockets) -> Vec<(Call, Vec<Condition>)> {
    /// Every `CLONE_NEW…` flag.
    const NEW_NAMESPACES: u64 = 0x7e02_0000;
    /// The execution domains of Linux itself, with and without `UNAME26`, and the query.
    const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

    let personality = PERSONALITIES.map(|value| Condition::Equals { argument: 0, value });
    let mut rules = vec![
        (PERSONALITY, personality.to_vec()),
        (SOCKET, vec![Condition::NoneOf(sockets.refused())]),
    ];
    if !is_admin {
        let no_namespaces = Condition::Clear { argument: 0, mask: NEW_NAMESPACES };
        rules.push((CLONE, vec![no_namespaces]));
    }
    rules
}

/// Their arguments are behind a pointer, where a filter cannot look: as if they did not exist,
/// which makes C libraries use the older call.
pub(super) fn missing(is_admin: bool) -> &'static [Call] {
    if is_admin { &[] } else { calls![SYS_clone3] }
}

/// On open descriptors.
const FILES: &[Call] = calls![
    SYS_close,
    SYS_close_range,
    SYS_copy_file_range,
    SYS_dup,
    SYS_dup3,
    SYS_fadvise64,
    SYS_fallocate,
    SYS_fchdir,
    SYS_fchmod,
    SYS_fchown,
    SYS_fcntl,
    SYS_fdatasync,
    SYS_fgetxattr,
    SYS_flistxattr,
    SYS_flock,
    SYS_fremovexattr,
    SYS_fsetxattr,
    SYS_fstat,
    SYS_fstatfs,
    SYS_fsync,
    SYS_ftruncate,
    SYS_getdents64,
    SYS_ioctl,
    SYS_lseek,
    SYS_memfd_create,
    SYS_pipe2,
    SYS_pread64,
    SYS_preadv,
    SYS_preadv2,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_pwritev2,
    SYS_read,
    SYS_readahead,
    SYS_readv,
    SYS_sendfile,
    SYS_splice,
    SYS_sync,
    SYS_sync_file_range,
    SYS_syncfs,
    SYS_tee,
    SYS_vmsplice,
    SYS_write,
    SYS_writev,
    SYS_cachestat,
];

/// By name.
const PATHS: &[Call] = calls![
    SYS_chdir,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_fchmodat,
    SYS_fchownat,
    SYS_getcwd,
    SYS_getxattr,
    SYS_inotify_add_watch,
    SYS_inotify_init1,
    SYS_inotify_rm_watch,
    SYS_landlock_add_rule,
    SYS_landlock_create_ruleset,
    SYS_landlock_restrict_self,
    SYS_lgetxattr,
    SYS_linkat,
    SYS_listxattr,
    SYS_llistxattr,
    SYS_lremovexattr,
    SYS_lsetxattr,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_name_to_handle_at,
    SYS_newfstatat,
    SYS_openat,
    SYS_openat2,
    SYS_fanotify_mark,
    SYS_readlinkat,
    SYS_removexattr,
    SYS_renameat,
    SYS_renameat2,
    SYS_setxattr,
    SYS_statfs,
    SYS_statx,
    SYS_symlinkat,
    SYS_truncate,
    SYS_umask,
    SYS_unlinkat,
    SYS_utimensat,
    SYS_fchmodat2,
    SYS_getxattrat,
    SYS_listmount,
    SYS_listxattrat,
    SYS_removexattrat,
    SYS_setxattrat,
    SYS_statmount,
];

const MEMORY: &[Call] = calls![
    SYS_brk,
    SYS_madvise,
    SYS_membarrier,
    SYS_memfd_secret,
    SYS_mincore,
    SYS_mlock,
    SYS_mlock2,
    SYS_mlockall,
    SYS_mmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_msync,
    SYS_munlock,
    SYS_munlockall,
    SYS_munmap,
    SYS_pkey_alloc,
    SYS_pkey_free,
    SYS_pkey_mprotect,
    SYS_process_mrelease,
    SYS_remap_file_pages,
    SYS_map_shadow_stack,
    SYS_mseal,
];

const PROCESSES: &[Call] = calls![
    SYS_capget,
    SYS_capset,
    SYS_execve,
    SYS_execveat,
    SYS_exit,
    SYS_exit_group,
    SYS_getcpu,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getgroups,
    SYS_getpgid,
    SYS_getpid,
    SYS_getppid,
    SYS_getpriority,
    SYS_getrandom,
    SYS_getresgid,
    SYS_getresuid,
    SYS_getrusage,
    SYS_getsid,
    SYS_gettid,
    SYS_getuid,
    SYS_ioprio_get,
    SYS_ioprio_set,
    SYS_pidfd_open,
    SYS_prctl,
    SYS_prlimit64,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_ptrace,
    SYS_getrlimit,
    SYS_rseq,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_sched_getaffinity,
    SYS_sched_getattr,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_rr_get_interval,
    SYS_sched_setaffinity,
    SYS_sched_setattr,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_sched_yield,
    SYS_seccomp,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_set_tid_address,
    SYS_setfsgid,
    SYS_setfsuid,
    SYS_setgid,
    SYS_setgroups,
    SYS_setpgid,
    SYS_setpriority,
    SYS_setregid,
    SYS_setresgid,
    SYS_setresuid,
    SYS_setreuid,
    SYS_setrlimit,
    SYS_setsid,
    SYS_setuid,
    SYS_sysinfo,
    SYS_uname,
    SYS_wait4,
    SYS_waitid,
    SYS_lsm_get_self_attr,
    SYS_lsm_list_modules,
    SYS_lsm_set_self_attr,
];

const SIGNALS: &[Call] = calls![
    SYS_kill,
    SYS_pidfd_send_signal,
    SYS_restart_syscall,
    SYS_rt_sigaction,
    SYS_rt_sigpending,
    SYS_rt_sigprocmask,
    SYS_rt_sigqueueinfo,
    SYS_rt_sigreturn,
    SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait,
    SYS_rt_tgsigqueueinfo,
    SYS_sigaltstack,
    SYS_signalfd4,
    SYS_tgkill,
    SYS_tkill,
];

const TIME: &[Call] = calls![
    SYS_adjtimex,
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_getitimer,
    SYS_gettimeofday,
    SYS_nanosleep,
    SYS_setitimer,
    SYS_timer_create,
    SYS_timer_delete,
    SYS_timer_getoverrun,
    SYS_timer_gettime,
    SYS_timer_settime,
    SYS_timerfd_create,
    SYS_timerfd_gettime,
    SYS_timerfd_settime,
    SYS_times,
];

const SOCKETS: &[Call] = calls![
    SYS_accept,
    SYS_accept4,
    SYS_bind,
    SYS_connect,
    SYS_getpeername,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_listen,
    SYS_recvfrom,
    SYS_recvmmsg,
    SYS_recvmsg,
    SYS_sendmmsg,
    SYS_sendmsg,
    SYS_sendto,
    SYS_setsockopt,
    SYS_shutdown,
    SYS_socketpair,
];

const IPC: &[Call] = calls![
    SYS_futex,
    SYS_futex_waitv,
    SYS_mq_getsetattr,
    SYS_mq_notify,
    SYS_mq_open,
    SYS_mq_timedreceive,
    SYS_mq_timedsend,
    SYS_mq_unlink,
    SYS_msgctl,
    SYS_msgget,
    SYS_msgrcv,
    SYS_msgsnd,
    SYS_semctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_shmat,
    SYS_shmctl,
    SYS_shmdt,
    SYS_shmget,
    SYS_futex_requeue,
    SYS_futex_wait,
    SYS_futex_wake,
];

/// Waiting for many things, and the older asynchronous file operations.
const EVENTS: &[Call] = calls![
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_io_cancel,
    SYS_io_destroy,
    SYS_io_getevents,
    SYS_io_setup,
    SYS_io_submit,
    SYS_ppoll,
    SYS_pselect6,
];

/// What newer architectures left out, because an `…at` form does it.
#[cfg(target_arch = "x86_64")]
mod arch {
    use super::{Call, numbers};

    pub(super) const ALWAYS: &[Call] = calls![
        SYS_io_pgetevents,
        SYS_access,
        SYS_alarm,
        SYS_arch_prctl,
        SYS_chmod,
        SYS_chown,
        SYS_creat,
        SYS_dup2,
        SYS_epoll_create,
        SYS_epoll_ctl_old,
        SYS_epoll_wait,
        SYS_epoll_wait_old,
        SYS_eventfd,
        SYS_fork,
        SYS_futimesat,
        SYS_get_thread_area,
        SYS_getdents,
        SYS_getpgrp,
        SYS_inotify_init,
        SYS_lchown,
        SYS_link,
        SYS_lstat,
        SYS_mkdir,
        SYS_mknod,
        SYS_modify_ldt,
        SYS_open,
        SYS_pause,
        SYS_pipe,
        SYS_poll,
        SYS_readlink,
        SYS_rename,
        SYS_rmdir,
        SYS_select,
        SYS_set_thread_area,
        SYS_signalfd,
        SYS_stat,
        SYS_symlink,
        SYS_time,
        SYS_unlink,
        SYS_utime,
        SYS_utimes,
        SYS_vfork,
    ];
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    use super::{Call, numbers};

    pub(super) const ALWAYS: &[Call] = calls![SYS_io_pgetevents];
}
