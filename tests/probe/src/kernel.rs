//! What root of a host may ask of the kernel and root of a container may not.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};

use crate::{at, attempt, raw, text};

pub(crate) fn try_all() -> u8 {
    mounts();
    devices();
    files();
    namespaces();
    calls();
    0
}

fn mount(source: &str, target: &str, kind: &str, flags: u64) -> io::Result<i64> {
    let (source, target, kind) = (text(source), text(target), text(kind));
    raw(libc::SYS_mount, [at(&source), at(&target), at(&kind), flags as usize, 0, 0])
}

fn mounts() {
    let _ = std::fs::create_dir_all("/tmp/probe");
    attempt("mount tmpfs", mount("none", "/tmp/probe", "tmpfs", 0));
    attempt("mount proc", mount("none", "/tmp/probe", "proc", 0));
    attempt("mount sysfs", mount("none", "/tmp/probe", "sysfs", 0));
    attempt("mount cgroup", mount("none", "/tmp/probe", "cgroup", 0));
    attempt("mount cgroup2", mount("none", "/tmp/probe", "cgroup2", 0));
    attempt("mount devtmpfs", mount("none", "/tmp/probe", "devtmpfs", 0));
    attempt("mount overlay", mount("none", "/tmp/probe", "overlay", 0));
    attempt("bind /", mount("/", "/tmp/probe", "", libc::MS_BIND));
    attempt("remount / writable", mount("none", "/", "", libc::MS_REMOUNT | libc::MS_BIND));
    attempt("remount /proc/sys", mount("none", "/proc/sys", "", libc::MS_REMOUNT | libc::MS_BIND));
    attempt("make / shared", mount("none", "/", "", libc::MS_SHARED | libc::MS_REC));
    let sys = text("/proc/sys");
    attempt("umount /proc/sys", raw(libc::SYS_umount2, [at(&sys), 0, 0, 0, 0, 0]));
    let root = text("/");
    attempt("open_tree", raw(libc::SYS_open_tree, [usize::MAX, at(&root), 1, 0, 0, 0]));
    let kind = text("tmpfs");
    attempt("fsopen", raw(libc::SYS_fsopen, [at(&kind), 0, 0, 0, 0, 0]));
    attempt("pivot_root", raw(libc::SYS_pivot_root, [at(&root), at(&root), 0, 0, 0, 0]));
}

/// A node that is made here leads to the device, unless the container's devices are kept.
fn devices() {
    let wanted =
        [("mem", 1, 1), ("port", 1, 4), ("kmsg", 1, 11), ("fuse", 10, 229), ("loop", 7, 0)];
    for (name, major, minor) in wanted {
        let kind = if name == "loop" { libc::S_IFBLK } else { libc::S_IFCHR };
        open_node(name, kind, major, minor);
    }
    for (name, major, minor) in disks() {
        open_node(&format!("disk {name}"), libc::S_IFBLK, major, minor);
    }
    for path in
        ["/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/vda"]
    {
        attempt(&format!("open {path}"), OpenOptions::new().read(true).open(path));
    }
}

fn open_node(name: &str, kind: libc::mode_t, major: u32, minor: u32) {
    let path = format!("/tmp/probe-{}", name.replace(' ', "-"));
    let node = text(&path);
    let device = libc::makedev(major, minor) as usize;
    if raw(libc::SYS_mknod, [at(&node), (kind | 0o600) as usize, device, 0, 0, 0]).is_ok() {
        let mut byte = [0];
        let opened = File::open(&path).and_then(|mut file| file.read(&mut byte));
        attempt(&format!("device {name}"), opened);
        let _ = std::fs::remove_file(path);
    } else {
        attempt(&format!("device {name}"), Err::<(), _>(io::Error::last_os_error()));
    }
}

/// The host's disks, which /proc/partitions names to everybody.
fn disks() -> Vec<(String, u32, u32)> {
    let table = std::fs::read_to_string("/proc/partitions").unwrap_or_default();
    let rows = table.lines().skip(2).filter_map(|line| {
        let mut words = line.split_whitespace();
        let major = words.next()?.parse().ok()?;
        let minor = words.next()?.parse().ok()?;
        Some((words.nth(1)?.to_owned(), major, minor))
    });
    let mut rows: Vec<_> = rows.collect();
    rows.push(("root".to_owned(), 254, 0));
    rows.truncate(4);
    rows
}

/// What is written is what is there already, or means nothing.
fn files() {
    for path in [
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/kallsyms",
        "/proc/timer_list",
        "/proc/keys",
        "/proc/sched_debug",
        "/sys/firmware/acpi/tables/DSDT",
        "/sys/kernel/debug",
    ] {
        let mut bytes = [0; 64];
        let read = File::open(path).and_then(|mut file| file.read(&mut bytes));
        let read = match read {
            // What is masked looks empty; addresses that are all zeros tell nothing.
            Ok(0) => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            Ok(length)
                if path.ends_with("kallsyms")
                    && bytes[..length].starts_with(b"0000000000000000") =>
            {
                Err(io::Error::from_raw_os_error(libc::EPERM))
            }
            other => other,
        };
        attempt(&format!("read {path}"), read);
    }
    let written = [
        ("/proc/sysrq-trigger", "h"),
        ("/proc/sys/kernel/core_pattern", "core"),
        ("/proc/sys/kernel/hostname", "probe"),
        ("/proc/sys/kernel/modprobe", "/sbin/modprobe"),
        ("/proc/sys/kernel/panic", "0"),
        ("/proc/sys/vm/overcommit_memory", "0"),
        ("/proc/sys/fs/file-max", "100000"),
        ("/proc/irq/default_smp_affinity", "3"),
        ("/proc/fs/probe", "x"),
        ("/sys/kernel/uevent_helper", "/x"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "madvise"),
        ("/sys/module/printk/parameters/time", "Y"),
        ("/sys/fs/cgroup/release_agent", "/x"),
        ("/sys/fs/cgroup/memory/release_agent", "/x"),
        ("/sys/fs/cgroup/pids/pids.max", "max"),
        ("/sys/fs/cgroup/pids.max", "max"),
        ("/sys/fs/cgroup/memory.max", "max"),
        ("/sys/fs/cgroup/cgroup.procs", "1"),
        ("/sys/fs/cgroup/memory/cgroup.procs", "1"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "-1"),
    ];
    for (path, what) in written {
        let opened = OpenOptions::new().write(true).open(path);
        attempt(&format!("write {path}"), opened.and_then(|mut file| file.write(what.as_bytes())));
    }
    for path in
        ["/sys/fs/cgroup/probe", "/sys/fs/cgroup/memory/probe", "/sys/fs/cgroup/systemd/probe"]
    {
        attempt(&format!("make {path}"), std::fs::create_dir(path));
        let _ = std::fs::remove_dir(path);
    }
}

fn namespaces() {
    for (name, flag) in [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("net", libc::CLONE_NEWNET),
        ("pid", libc::CLONE_NEWPID),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
    ] {
        attempt(&format!("unshare {name}"), raw(libc::SYS_unshare, [flag as usize, 0, 0, 0, 0, 0]));
    }
    for kind in ["mnt", "net", "pid"] {
        let entered = File::open(format!("/proc/1/ns/{kind}")).and_then(|file| {
            let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
            raw(libc::SYS_setns, [descriptor as usize, 0, 0, 0, 0, 0])
        });
        attempt(&format!("setns {kind}"), entered);
    }
}

/// Calls that are the host's alone. Their arguments ask for nothing, or for what is so already.
fn calls() {
    let name = text("probe");
    let none = [0_usize; 6];
    attempt("keyctl", raw(libc::SYS_keyctl, [0, -3_i32 as usize, 0, 0, 0, 0]));
    let kind = text("user");
    let secret = *b"x";
    let session = -3_i32 as usize;
    attempt(
        "add_key",
        raw(libc::SYS_add_key, [at(&kind), at(&name), secret.as_ptr() as usize, 1, session, 0]),
    );
    // A map of one element: what every use of bpf begins with.
    let map: [u32; 18] = [2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    attempt("bpf", raw(libc::SYS_bpf, [0, map.as_ptr() as usize, 72, 0, 0, 0]));
    let mut event = [0_u32; 32];
    event[0] = 1;
    event[1] = 128;
    let everybody = usize::MAX;
    attempt(
        "perf_event_open",
        raw(libc::SYS_perf_event_open, [event.as_ptr() as usize, everybody, 0, everybody, 0, 0]),
    );
    attempt("init_module", raw(libc::SYS_init_module, [0, 0, at(&name), 0, 0, 0]));
    attempt("delete_module", raw(libc::SYS_delete_module, [at(&name), 0, 0, 0, 0, 0]));
    attempt("kexec_load", raw(libc::SYS_kexec_load, none));
    attempt("swapon", raw(libc::SYS_swapon, [at(&name), 0, 0, 0, 0, 0]));
    attempt("acct", raw(libc::SYS_acct, none));
    attempt("userfaultfd", raw(libc::SYS_userfaultfd, none));
    attempt(
        "io_uring_setup",
        raw(libc::SYS_io_uring_setup, [1, [0_u8; 120].as_mut_ptr() as usize, 0, 0, 0, 0]),
    );
    attempt("syslog", raw(libc::SYS_syslog, [3, [0_u8; 64].as_mut_ptr() as usize, 64, 0, 0, 0]));
    attempt("sethostname", raw(libc::SYS_sethostname, [at(&name), 5, 0, 0, 0, 0]));
    attempt("set the clock", set_clock());
    attempt("open_by_handle_at", open_by_handle());
    attempt("vhangup", raw(libc::SYS_vhangup, none));
    attempt("quotactl", raw(libc::SYS_quotactl, none));
    // The magic numbers, and "do nothing at control-alt-delete", which is so in a container.
    attempt("reboot", raw(libc::SYS_reboot, [0xfee1_dead, 672_274_793, 0, 0, 0, 0]));
    attempt("a higher priority", raw(libc::SYS_setpriority, [0, 0, -20_i32 as usize, 0, 0, 0]));
    attempt(
        "real time",
        raw(libc::SYS_sched_setscheduler, [0, 1, [1_u32].as_ptr() as usize, 0, 0, 0]),
    );
    let personality = 0x0040_0000;
    attempt("personality", raw(libc::SYS_personality, [personality, 0, 0, 0, 0, 0]));
    #[cfg(target_arch = "x86_64")]
    {
        attempt("iopl", raw(libc::SYS_iopl, [3, 0, 0, 0, 0, 0]));
        attempt("ioperm", raw(libc::SYS_ioperm, [0x80, 1, 1, 0, 0, 0]));
    }
}

fn set_clock() -> io::Result<i64> {
    let mut now = [0_i64; 2];
    raw(libc::SYS_clock_gettime, [0, now.as_mut_ptr() as usize, 0, 0, 0, 0])?;
    raw(libc::SYS_clock_settime, [0, now.as_ptr() as usize, 0, 0, 0, 0])
}

/// Files of the host by their number, which needs no path: the root directory's number is 2 on ext4.
fn open_by_handle() -> io::Result<i64> {
    let file = File::open("/etc/hosts").or_else(|_| File::open("/"))?;
    let handle: [u32; 4] = [8, 1, 2, 0];
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file) as usize;
    raw(libc::SYS_open_by_handle_at, [descriptor, handle.as_ptr() as usize, 0, 0, 0, 0])
}
