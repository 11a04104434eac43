//! A container's specification in the words of the OCI runtime specification.
//!
//! Written as the JSON document that the runtime reads. What the application is to be (its user,
//! capabilities, filter, environment) is not in it: [`crate::launch`] does that, so that secrets in
//! the environment never reach the disk.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::cgroup::{DeviceKind, DeviceRule, View};
use crate::error::{Doing, SandboxError};
use crate::launch::Launch;
use crate::spec::{ContainerSpec, DeviceBind, Hook, HookPoint, IpcMode, NetMode, PidMode};

/// Docker's default size of `/dev/shm`.
const SHM_BYTES: u64 = 64 << 20;
/// A host's device tree is walked no deeper and no further.
const HOST_DEVICES_MAX: usize = 1024;

/// Covered, because they tell of or act on the host.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where what the specification only names was found on this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) rootfs: PathBuf,
    pub(crate) cgroup: PathBuf,
    pub(crate) cgroup_views: Vec<View>,
    /// Of a network that is joined, as long as its descriptor is open.
    pub(crate) network_namespace: Option<PathBuf>,
    /// The namespaces of the containers that are joined.
    pub(crate) pid_namespace: Option<PathBuf>,
    pub(crate) ipc_namespace: Option<PathBuf>,
    /// Their `/dev/shm`.
    pub(crate) shm: Option<PathBuf>,
    pub(crate) devices: Vec<Device>,
}

/// A device of the host, as it shall be in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    path: PathBuf,
    kind: DeviceKind,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    pub(crate) rule: DeviceRule,
}

/// The whole document.
pub(crate) fn document(spec: &ContainerSpec, found: &Found) -> Result<Value, SandboxError> {
    check_sysctls(spec)?;
    check_destinations(spec)?;
    let hostname = spec.hostname.clone().unwrap_or_else(|| short(spec.id.as_str()));
    let (masked, readonly): (&[&str], &[&str]) =
        if spec.privileged { (&[], &[]) } else { (&MASKED, &READONLY) };
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process(spec)?,
        "root": { "path": found.rootfs, "readonly": spec.rootfs.readonly },
        "hostname": hostname,
        "mounts": mounts(spec, found),
        "hooks": hooks(spec),
        "linux": {
            "namespaces": namespaces(spec, found),
            "cgroupsPath": found.cgroup,
            "sysctl": spec.sysctls,
            "devices": found.devices.iter().map(device).collect::<Vec<_>>(),
            "maskedPaths": masked,
            "readonlyPaths": readonly,
        },
    }))
}

fn hooks(spec: &ContainerSpec) -> Value {
    let at = |point: HookPoint| {
        let its = spec.hooks.iter().filter(|hook| hook.at == point);
        let value = |hook: &Hook| json!({ "path": hook.path, "args": hook.args, "env": hook.env, "timeout": hook.timeout_seconds });
        its.map(value).collect::<Vec<_>>()
    };
    if spec.hooks.is_empty() {
        // The runtime would stop twice on its way for those that are none.
        return Value::Null;
    }
    json!({
        "prestart": at(HookPoint::Prestart),
        "createRuntime": at(HookPoint::CreateRuntime),
        "createContainer": at(HookPoint::CreateContainer),
    })
}

/// A process as the runtime needs to know it; it starts as root and [`crate::launch`] goes on.
pub(crate) fn process(spec: &ContainerSpec) -> Result<Value, SandboxError> {
    Ok(json!({
        "terminal": spec.tty,
        "user": { "uid": 0, "gid": 0 },
        "args": spec.args,
        "cwd": spec.cwd,
        "rlimits": rlimits(spec)?,
    }))
}

/// A process as another runtime needs to know it, which makes of it all that [`crate::launch`] does natively.
pub(crate) fn whole_process(spec: &ContainerSpec, launch: &Launch) -> Result<Value, SandboxError> {
    /// As every container's, whatever the caller's is.
    const MASK: u32 = 0o22;
    let mut limits = rlimits(spec)?;
    if !spec.ulimits.iter().any(|ulimit| ulimit.name == "nofile") {
        // A runtime may have raised its own.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing("read a limit")?;
        limits.push(json!({ "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard }));
    }
    let identity = &launch.identity;
    let env: Vec<_> = launch.env.iter().map(|entry| entry.to_string_lossy()).collect();
    let bounding = launch.capabilities.names();
    // None but root's processes begin with any.
    let held = if identity.uid == 0 { bounding.clone() } else { Vec::new() };
    Ok(json!({
        "terminal": spec.tty,
        "user": {
            "uid": identity.uid,
            "gid": identity.gid,
            "umask": MASK,
            "additionalGids": identity.groups,
        },
        "args": spec.args,
        "env": env,
        "cwd": spec.cwd,
        "capabilities": {
            "bounding": bounding,
            "effective": held,
            "permitted": held,
            "inheritable": [],
            "ambient": [],
        },
        "rlimits": limits,
        "noNewPrivileges": launch.no_new_privileges,
    }))
}

/// Makes a document whole for another runtime. Limits are in the control group already, and are not named here so
/// that no runtime sets others; devices are, since runtimes allow none that is not.
pub(crate) fn complete(
    document: &mut Value,
    process: Value,
    seccomp: Option<Value>,
    devices: Option<&[DeviceRule]>,
) {
    let rule = |it: &DeviceRule| {
        let kind = match it.kind {
            DeviceKind::Char => "c",
            DeviceKind::Block => "b",
        };
        let access = [(it.read, "r"), (it.write, "w"), (it.mknod, "m")];
        let access: String =
            access.iter().filter(|(is, _)| *is).map(|(_, letter)| *letter).collect();
        // No number stands for every number.
        let mut rule = json!({ "allow": true, "type": kind, "access": access });
        for (name, number) in [("major", it.major), ("minor", it.minor)] {
            if let Some(number) = number {
                rule[name] = number.into();
            }
        }
        rule
    };
    let rules: Vec<Value> = match devices {
        Some(rules) => {
            let none = json!({ "allow": false, "access": "rwm" });
            std::iter::once(none).chain(rules.iter().map(rule)).collect()
        }
        None => vec![json!({ "allow": true, "access": "rwm" })],
    };
    document["process"] = process;
    document["linux"]["resources"] = json!({ "devices": rules });
    if let Some(seccomp) = seccomp {
        document["linux"]["seccomp"] = seccomp;
    }
}

fn short(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(12).collect()
}

fn rlimits(spec: &ContainerSpec) -> Result<Vec<Value>, SandboxError> {
    const KNOWN: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let mut limits = Vec::new();
    for ulimit in &spec.ulimits {
        if !KNOWN.contains(&ulimit.name.as_str()) || ulimit.soft > ulimit.hard {
            return Err(SandboxError::Limit {
                what: format!("ulimit {}", ulimit.name),
                value: format!("{}:{}", ulimit.soft, ulimit.hard),
                why: "it is unknown, or soft is above hard".into(),
            });
        }
        // Without the capability to raise them, our own limits are the most that can be had: a
        // container with a little less is worth more than none.
        let most = if may_raise_limits() { u64::MAX } else { own_hard_limit(&ulimit.name) };
        if most < ulimit.hard {
            tracing::warn!(limit = %ulimit.name, asked = ulimit.hard, most, "limit lowered to ours");
        }
        limits.push(json!({
            "type": format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
            "soft": ulimit.soft.min(most),
            "hard": ulimit.hard.min(most),
        }));
    }
    Ok(limits)
}

/// Whether this process has `CAP_SYS_RESOURCE`, which root lacks inside some containers.
fn may_raise_limits() -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_none_or(|capabilities| capabilities & SYS_RESOURCE != 0)
}

fn own_hard_limit(name: &str) -> u64 {
    let resource = match name {
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return u64::MAX,
    };
    getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard)
}

fn namespaces(spec: &ContainerSpec, found: &Found) -> Vec<Value> {
    let fresh = |kind: &str| json!({ "type": kind });
    let at = |kind: &str, path: &Path| json!({ "type": kind, "path": path });
    let mut list = vec![fresh("mount"), fresh("uts"), fresh("cgroup")];
    match (&spec.pid, &found.pid_namespace) {
        (PidMode::Private, _) => list.push(fresh("pid")),
        (PidMode::Join(_), Some(path)) => list.push(at("pid", path)),
        (PidMode::Join(_), None) | (PidMode::Host, _) => {}
    }
    match (&spec.ipc, &found.ipc_namespace) {
        (IpcMode::Private | IpcMode::None, _) => list.push(fresh("ipc")),
        (IpcMode::Join(_), Some(path)) => list.push(at("ipc", path)),
        (IpcMode::Join(_), None) | (IpcMode::Host, _) => {}
    }
    match &spec.netns {
        NetMode::Private => list.push(fresh("network")),
        NetMode::Path(path) => {
            list.push(at("network", found.network_namespace.as_ref().unwrap_or(path)));
        }
        NetMode::Host => {}
    }
    list
}

/// First the container's own, parents before what is mounted into them; then those of every container,
/// but for what it has itself at the same place; then its own below these.
///
/// The order is a wall. The runtime finds each place within the root by descriptors, but what it makes
/// in `/dev` after that it makes by path, on the host's side. A link in one of the container's
/// volumes, which another container may write, can lead a mount below it to `/dev`: so `/dev` is
/// mounted after them, over whatever came there, and is the kernel's and ours alone.
fn mounts(spec: &ContainerSpec, found: &Found) -> Vec<Value> {
    let mut own: Vec<(PathBuf, Value)> = Vec::new();
    for mount in &spec.mounts {
        let access = if mount.readonly { "ro" } else { "rw" };
        let options = ["rbind", "rprivate", access];
        own.push(entry(&mount.destination, "bind", &mount.source, &options));
    }
    for tmpfs in &spec.tmpfs {
        let mut options: Vec<String> =
            ["nosuid", "nodev", "noexec"].iter().map(|option| (*option).to_owned()).collect();
        options.extend(tmpfs.size.map(|bytes| format!("size={bytes}")));
        options.extend(tmpfs.options.iter().cloned());
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        own.push(entry(&tmpfs.destination, "tmpfs", Path::new("tmpfs"), &options));
    }
    for file in &spec.files {
        let access = if file.readonly { "ro" } else { "rw" };
        own.push(entry(&file.destination, "bind", &file.source, &["bind", "rprivate", access]));
    }
    own.sort_by_key(|(destination, _)| destination.components().count());
    let is_taken = |path: &Path| own.iter().any(|(destination, _)| destination == path);
    let mut defaults = defaults(spec, found);
    defaults.retain(|(destination, _)| !is_taken(destination));
    let (below, first): (Vec<_>, Vec<_>) =
        own.into_iter().partition(|(destination, _)| is_of_system(destination));
    first.into_iter().chain(defaults).chain(below).map(|(_, mount)| mount).collect()
}

fn is_of_system(path: &Path) -> bool {
    ["/dev", "/proc", "/sys"].iter().any(|dir| path.starts_with(dir))
}

/// Refuses the places where the order of the mounts is no wall.
fn check_destinations(spec: &ContainerSpec) -> Result<(), SandboxError> {
    let binds = || spec.mounts.iter().map(|mount| &mount.destination);
    let tmpfs = spec.tmpfs.iter().map(|tmpfs| &tmpfs.destination);
    let files = spec.files.iter().map(|file| &file.destination);
    let devices = spec.devices.iter().map(|device| &device.container);
    for path in binds().chain(tmpfs).chain(files).chain(devices) {
        let is_plain = path.is_absolute()
            && path.components().count() > 1
            && !path.components().any(|part| part == Component::ParentDir);
        let is_within = |outer: &PathBuf| path != outer && path.starts_with(outer);
        let why = if !is_plain {
            "it must be an absolute path below the root, without `..`"
        } else if binds().any(|outer| is_of_system(outer) && is_within(outer)) {
            "nothing can be put into what is mounted below /dev, /proc or /sys"
        } else {
            continue;
        };
        let what = format!("place in the container {}", path.display());
        return Err(SandboxError::Invalid { what, why: why.into() });
    }
    if binds().any(|path| path == Path::new("/dev")) {
        let why = "it holds the container's devices, which are its own".into();
        return Err(SandboxError::Invalid { what: "mount at /dev".into(), why });
    }
    Ok(())
}

fn defaults(spec: &ContainerSpec, found: &Found) -> Vec<(PathBuf, Value)> {
    let access = if spec.privileged { "rw" } else { "ro" };
    let size = format!("size={}", spec.shm_size.unwrap_or(SHM_BYTES));
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", &size];
    if spec.pause {
        // Nobody looks at anything there but at what is shared.
        return vec![
            entry("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            entry("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "mode=755", "size=64k"]),
            entry("/dev/shm", "tmpfs", "shm", &shm),
        ];
    }
    let mut list = vec![
        entry("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        entry("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        entry(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        entry("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        entry("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    list.extend(cgroup_mounts(&found.cgroup_views, access));
    match (&spec.ipc, &found.shm) {
        (IpcMode::Private, _) => list.push(entry("/dev/shm", "tmpfs", "shm", &shm)),
        (IpcMode::Host | IpcMode::Join(_), Some(path)) => {
            list.push(entry("/dev/shm", "bind", path, &["bind", "rw"]));
        }
        (IpcMode::Host | IpcMode::Join(_), None) | (IpcMode::None, _) => {}
    }
    list
}

/// The container's own control group where programs look for it. The runtime could mount it too,
/// but under version 1 always writable, and a container must not lift its own limits.
fn cgroup_mounts(views: &[View], access: &str) -> Vec<(PathBuf, Value)> {
    const AT: &str = "/sys/fs/cgroup";
    let bind = |at: &Path, view: &View| {
        entry(at, "bind", &view.dir, &["bind", "nosuid", "noexec", "nodev", "relatime", access])
    };
    match views {
        [unified] if unified.controller.is_empty() => vec![bind(Path::new(AT), unified)],
        views => {
            let options = ["nosuid", "noexec", "nodev", "mode=755", "size=64k"];
            let mut list = vec![entry(AT, "tmpfs", "tmpfs", &options)];
            list.extend(views.iter().map(|view| bind(&Path::new(AT).join(view.controller), view)));
            list
        }
    }
}

fn entry(
    destination: impl AsRef<Path>,
    kind: &str,
    source: impl AsRef<Path>,
    options: &[&str],
) -> (PathBuf, Value) {
    let (destination, source) = (destination.as_ref(), source.as_ref());
    let mount =
        json!({ "destination": destination, "type": kind, "source": source, "options": options });
    (destination.to_owned(), mount)
}

fn device(device: &Device) -> Value {
    let kind = match device.kind {
        DeviceKind::Char => "c",
        DeviceKind::Block => "b",
    };
    json!({
        "path": device.path,
        "type": kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    })
}

/// Only what belongs to a namespace of the container may be set.
fn check_sysctls(spec: &ContainerSpec) -> Result<(), SandboxError> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    for name in spec.sysctls.keys() {
        let why = if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            match spec.ipc {
                IpcMode::Private | IpcMode::None => continue,
                IpcMode::Host | IpcMode::Join(_) => "the container has no IPC namespace of its own",
            }
        } else if name.starts_with("net.") && !name.contains("..") && !name.contains('/') {
            match spec.netns {
                NetMode::Private | NetMode::Path(_) => continue,
                NetMode::Host => "the container is in the network of the host",
            }
        } else {
            "it would act on the whole host"
        };
        let what = format!("sysctl {name}");
        return Err(SandboxError::Invalid { what, why: why.to_owned() });
    }
    Ok(())
}

/// What a container is given: those that are asked for, or all of a privileged one.
pub(crate) fn find_devices(spec: &ContainerSpec) -> Result<Vec<Device>, SandboxError> {
    let mut devices = Vec::new();
    if spec.privileged {
        walk(Path::new("/dev"), &mut devices);
    }
    for bind in &spec.devices {
        devices.push(look_up(bind)?);
    }
    Ok(devices)
}

fn look_up(bind: &DeviceBind) -> Result<Device, SandboxError> {
    let refused = |why: &str| SandboxError::Device { path: bind.host.clone(), why: why.to_owned() };
    let path = std::fs::canonicalize(&bind.host).map_err(|error| refused(&error.to_string()))?;
    let metadata = std::fs::metadata(&path).map_err(|error| refused(&error.to_string()))?;
    let mut device =
        describe(&bind.container, &metadata).ok_or_else(|| refused("it is not a device"))?;
    device.rule.read = bind.read;
    device.rule.write = bind.write;
    device.rule.mknod = bind.mknod;
    Ok(device)
}

fn describe(path: &Path, metadata: &std::fs::Metadata) -> Option<Device> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    let number = |n: u64| u32::try_from(n).ok();
    let (major, minor) = (
        number(nix::sys::stat::major(metadata.rdev()))?,
        number(nix::sys::stat::minor(metadata.rdev()))?,
    );
    let rule = DeviceRule {
        kind,
        major: Some(major),
        minor: Some(minor),
        read: true,
        write: true,
        mknod: true,
    };
    Some(Device {
        path: path.to_owned(),
        kind,
        major,
        minor,
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rule,
    })
}

/// Every device below `dir`, but for those that the container has its own of.
fn walk(dir: &Path, found: &mut Vec<Device>) {
    const OWN: [&str; 12] = [
        "pts", "shm", "mqueue", "fd", "console", "ptmx", "null", "zero", "full", "random",
        "urandom", "tty",
    ];
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_own = dir == Path::new("/dev") && OWN.iter().any(|own| entry.file_name() == *own);
        let Ok(metadata) = entry.metadata() else { continue };
        if is_own || found.len() >= HOST_DEVICES_MAX {
            continue;
        }
        if metadata.is_dir() {
            walk(&path, found);
        } else if let Some(device) = describe(&path, &metadata) {
            found.push(device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Mount, Rootfs};

    fn spec() -> ContainerSpec {
        let rootfs = Rootfs { lower: vec!["/l".into()], scratch: "/s".into(), readonly: true };
        let (id, group) = ("c-1".parse().unwrap(), "g".parse().unwrap());
        ContainerSpec::new(id, group, rootfs, vec!["true".into()])
    }

    fn destinations(spec: &ContainerSpec) -> Vec<String> {
        let list = mounts(spec, &Found::default());
        list.iter().map(|mount| mount["destination"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_mount_of_the_container_replaces_the_default_at_its_place() {
        let mut spec = spec();
        let bind = |destination: &str| Mount {
            source: "/host".into(),
            destination: destination.into(),
            readonly: true,
        };
        spec.mounts = vec![bind("/data/inner"), bind("/data"), bind("/dev/shm")];
        let list = destinations(&spec);
        assert_eq!(list.iter().filter(|path| *path == "/dev/shm").count(), 1, "{list:?}");
        let place = |path: &str| list.iter().position(|other| other == path).unwrap();
        assert!(place("/data") < place("/data/inner"), "parents first: {list:?}");
        assert!(place("/dev") < place("/dev/shm"), "{list:?}");
        assert!(place("/data/inner") < place("/dev"), "nothing covers /dev: {list:?}");
    }

    #[test]
    fn places_where_a_mount_could_lead_our_own_work_astray_are_refused() {
        let bind = |destination: &str| Mount {
            source: "/host".into(),
            destination: destination.into(),
            readonly: false,
        };
        for (destinations, is_fine) in [
            (vec!["/data", "/data/inner", "/dev/shm", "/dev/x"], true),
            (vec!["/dev"], false),
            (vec!["/"], false),
            (vec!["/data/../dev"], false),
            (vec!["data"], false),
            (vec!["/dev/x", "/dev/x/y"], false),
            (vec!["/proc/x", "/proc/x/y"], false),
        ] {
            let mut spec = spec();
            spec.mounts = destinations.iter().map(|path| bind(path)).collect();
            assert_eq!(document(&spec, &Found::default()).is_ok(), is_fine, "{destinations:?}");
        }
        let mut spec = spec();
        spec.mounts = vec![bind("/dev/x")];
        let device = |path: &str| DeviceBind {
            host: "/dev/null".into(),
            container: path.into(),
            read: true,
            write: false,
            mknod: false,
        };
        spec.devices = vec![device("/dev/y/z")];
        assert!(document(&spec, &Found::default()).is_ok());
        spec.devices = vec![device("/dev/x/z")];
        assert!(document(&spec, &Found::default()).is_err());
    }

    #[test]
    fn the_environment_is_not_in_the_document() {
        let mut spec = spec();
        spec.env = vec![("PASSWORD".into(), "geheim".into())];
        let text = document(&spec, &Found::default()).unwrap().to_string();
        assert!(!text.contains("geheim"), "{text}");
    }

    #[test]
    fn only_sysctls_of_the_containers_own_namespaces_are_taken() {
        for (name, is_fine) in [
            ("net.core.somaxconn", true),
            ("kernel.shmmax", true),
            ("fs.mqueue.msg_max", true),
            ("kernel.panic", false),
            ("vm.overcommit_memory", false),
            ("net.../../kernel.panic", false),
        ] {
            let mut spec = spec();
            spec.sysctls.insert(name.into(), "1".into());
            assert_eq!(check_sysctls(&spec).is_ok(), is_fine, "{name}");
        }
        let mut spec = spec();
        spec.netns = NetMode::Host;
        spec.sysctls.insert("net.core.somaxconn".into(), "1".into());
        assert!(check_sysctls(&spec).is_err());
    }
}
