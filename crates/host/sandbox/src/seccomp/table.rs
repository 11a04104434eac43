//! Which system calls a container may make, grouped by what they are for.
//!
//! The strength is that of Docker's default profile: what acts on the whole host (mounting, modules,
//! clocks, keyrings, tracing of the kernel, new namespaces, `io_uring`, …) is absent unless the
//! container was given the capability that goes with it. What is absent fails with `EPERM`.

use libc::c_long;

use crate::caps::Cap;

/// Newer than our libc's headers; one number on every architecture we build for.
mod new {
    use libc::c_long;

    pub(super) const CACHESTAT: c_long = 451;
    pub(super) const FCHMODAT2: c_long = 452;
    pub(super) const MAP_SHADOW_STACK: c_long = 453;
    pub(super) const FUTEX_WAKE: c_long = 454;
    pub(super) const FUTEX_WAIT: c_long = 455;
    pub(super) const FUTEX_REQUEUE: c_long = 456;
    pub(super) const STATMOUNT: c_long = 457;
    pub(super) const LISTMOUNT: c_long = 458;
    pub(super) const LSM_GET_SELF_ATTR: c_long = 459;
    pub(super) const LSM_SET_SELF_ATTR: c_long = 460;
    pub(super) const LSM_LIST_MODULES: c_long = 461;
    pub(super) const MSEAL: c_long = 462;
    pub(super) const SETXATTRAT: c_long = 463;
    pub(super) const GETXATTRAT: c_long = 464;
    pub(super) const LISTXATTRAT: c_long = 465;
    pub(super) const REMOVEXATTRAT: c_long = 466;
    pub(super) const OPEN_TREE_ATTR: c_long = 467;
}

/// Calls above this one did not exist when the table was made: they answer `ENOSYS`, so that a C
/// library falls back to what it did before.
pub(super) const LAST_KNOWN: c_long = new::OPEN_TREE_ATTR;

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
pub(super) fn always() -> Vec<c_long> {
    let groups: [&[c_long]; 9] =
        [FILES, PATHS, MEMORY, PROCESSES, SIGNALS, TIME, SOCKETS, IPC, EVENTS];
    let mut calls: Vec<c_long> = groups.concat();
    calls.extend_from_slice(arch::ALWAYS);
    calls
}

/// Allowed where the container has the capability.
pub(super) const WITH_CAPABILITY: &[(Cap, &[c_long])] = &[
    (Cap::DacReadSearch, &[libc::SYS_open_by_handle_at]),
    (
        Cap::SysAdmin,
        &[
            libc::SYS_bpf,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fanotify_init,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_lookup_dcookie,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            new::OPEN_TREE_ATTR,
            libc::SYS_perf_event_open,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_syslog,
            libc::SYS_umount2,
            libc::SYS_unshare,
        ],
    ),
    (Cap::SysBoot, &[libc::SYS_reboot]),
    (Cap::SysChroot, &[libc::SYS_chroot]),
    (Cap::SysModule, &[libc::SYS_delete_module, libc::SYS_init_module, libc::SYS_finit_module]),
    (Cap::SysPacct, &[libc::SYS_acct]),
    (Cap::SysPtrace, &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise]),
    (Cap::SysTime, &[libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime]),
    (Cap::SysTtyConfig, &[libc::SYS_vhangup]),
    (
        Cap::SysNice,
        &[
            libc::SYS_get_mempolicy,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            libc::SYS_set_mempolicy_home_node,
        ],
    ),
    (Cap::Syslog, &[libc::SYS_syslog]),
    (Cap::Bpf, &[libc::SYS_bpf]),
    (Cap::Perfmon, &[libc::SYS_perf_event_open]),
    #[cfg(target_arch = "x86_64")]
    (Cap::SysRawio, &[libc::SYS_iopl, libc::SYS_ioperm]),
];

/// Allowed if any of the conditions holds.
pub(super) fn conditional(is_admin: bool, sockets: Sockets) -> Vec<(c_long, Vec<Condition>)> {
    /// Every `CLONE_NEW…` flag.
    const NEW_NAMESPACES: u64 = 0x7e02_0000;
    /// The execution domains of Linux itself, with and without `UNAME26`, and the query.
    const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

    let personality = PERSONALITIES.map(|value| Condition::Equals { argument: 0, value });
    let mut rules = vec![
        (libc::SYS_personality, personality.to_vec()),
        (libc::SYS_socket, vec![Condition::NoneOf(sockets.refused())]),
    ];
    if !is_admin {
        let no_namespaces = Condition::Clear { argument: 0, mask: NEW_NAMESPACES };
        rules.push((libc::SYS_clone, vec![no_namespaces]));
    }
    rules
}

/// Their arguments are behind a pointer, where a filter cannot look: as if they did not exist,
/// which makes C libraries use the older call.
pub(super) fn missing(is_admin: bool) -> &'static [c_long] {
    if is_admin { &[] } else { &[libc::SYS_clone3] }
}

/// On open descriptors.
const FILES: &[c_long] = &[
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_memfd_create,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readv,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_sync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_tee,
    libc::SYS_vmsplice,
    libc::SYS_write,
    libc::SYS_writev,
    new::CACHESTAT,
];

/// By name.
const PATHS: &[c_long] = &[
    libc::SYS_chdir,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_getcwd,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fanotify_mark,
    libc::SYS_readlinkat,
    libc::SYS_removexattr,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_setxattr,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    new::FCHMODAT2,
    new::GETXATTRAT,
    new::LISTMOUNT,
    new::LISTXATTRAT,
    new::REMOVEXATTRAT,
    new::SETXATTRAT,
    new::STATMOUNT,
];

const MEMORY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_secret,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_process_mrelease,
    libc::SYS_remap_file_pages,
    new::MAP_SHADOW_STACK,
    new::MSEAL,
];

const PROCESSES: &[c_long] = &[
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_pidfd_open,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_getrlimit,
    libc::SYS_rseq,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_setuid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_waitid,
    new::LSM_GET_SELF_ATTR,
    new::LSM_LIST_MODULES,
    new::LSM_SET_SELF_ATTR,
];

const SIGNALS: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_tgkill,
    libc::SYS_tkill,
];

const TIME: &[c_long] = &[
    libc::SYS_adjtimex,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
];

const SOCKETS: &[c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
];

const IPC: &[c_long] = &[
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
    new::FUTEX_REQUEUE,
    new::FUTEX_WAIT,
    new::FUTEX_WAKE,
];

/// Waiting for many things, and the older asynchronous file operations.
const EVENTS: &[c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_io_cancel,
    libc::SYS_io_destroy,
    libc::SYS_io_getevents,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
];

/// What newer architectures left out, because an `…at` form does it.
#[cfg(target_arch = "x86_64")]
mod arch {
    use libc::c_long;

    /// Not in our libc's headers.
    const IO_PGETEVENTS: c_long = 333;

    pub(super) const ALWAYS: &[c_long] = &[
        IO_PGETEVENTS,
        libc::SYS_access,
        libc::SYS_alarm,
        libc::SYS_arch_prctl,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_creat,
        libc::SYS_dup2,
        libc::SYS_epoll_create,
        libc::SYS_epoll_ctl_old,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_wait_old,
        libc::SYS_eventfd,
        libc::SYS_fork,
        libc::SYS_futimesat,
        libc::SYS_get_thread_area,
        libc::SYS_getdents,
        libc::SYS_getpgrp,
        libc::SYS_inotify_init,
        libc::SYS_lchown,
        libc::SYS_link,
        libc::SYS_lstat,
        libc::SYS_mkdir,
        libc::SYS_mknod,
        libc::SYS_modify_ldt,
        libc::SYS_open,
        libc::SYS_pause,
        libc::SYS_pipe,
        libc::SYS_poll,
        libc::SYS_readlink,
        libc::SYS_rename,
        libc::SYS_rmdir,
        libc::SYS_select,
        libc::SYS_set_thread_area,
        libc::SYS_signalfd,
        libc::SYS_stat,
        libc::SYS_symlink,
        libc::SYS_time,
        libc::SYS_unlink,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_vfork,
    ];
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    /// `io_pgetevents`, not in our libc's headers.
    pub(super) const ALWAYS: &[libc::c_long] = &[292];
}
