//! Making and starting the shim's container.
//!
//! The root's overlay is mounted in a mount namespace that only exists while the container is being
//! created: the container takes its own copy, and then the shim goes back to the host's. So the
//! overlay, and every volume under it, lives exactly as long as the container's processes, whatever
//! happens to anyone else, and no shim keeps other mounts of the host busy.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use ::files::Dir;
use libcontainer::container::Container as OciContainer;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use longshore_types::{Chain, Clock, SystemClock, Timestamp};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, pipe2};

use crate::caps::CapSet;
use crate::cgroup::{Cgroup, Cgroups, DeviceRule, default_rules};
use crate::error::{Doing, SandboxError};
use crate::files::{self, Files};
use crate::launch::{First, Launch};
use crate::oci::{self, Found};
use crate::proto::{Create, Failure, Record, Status};
use crate::rootfs;
use crate::runtime::{self, NamedRuntime};
use crate::seccomp::{self, Sockets};
use crate::spec::{
    ContainerSpec, FileBind, IpcMode, Limits, LogSink, NetMode, Phase, PidMode, Seccomp, Started,
};
use crate::sys;
use crate::users;

use super::run::Output;
use super::streams::Streams;
use super::template::Heirloom;

/// Of a launch that another runtime carries out, which reports in its own way.
pub(super) const NO_REPORT: RawFd = -1;

#[derive(Debug)]
pub(super) struct Container {
    pub(super) spec: ContainerSpec,
    pub(super) files: Files,
    cgroups: Cgroups,
    pub(super) listener: UnixListener,
    pub(super) socket: PathBuf,
    pub(super) output: Output,
    /// What every process of the container is launched as.
    pub(super) launch: Launch,
    maker: Maker,
    /// None of a container that never had a process.
    pid: Option<Pid>,
    phase: Phase,
    is_starting: bool,
    started_at: Option<Timestamp>,
    failed: Option<Failure>,
    execs: u32,
    /// Held so that the application's standard input stays open.
    _stdin: Option<OwnedFd>,
}

/// Who makes the container's processes.
#[derive(Debug)]
enum Maker {
    Native {
        oci: Box<OciContainer>,
        /// Closes when the application runs; says why, if it does not.
        report: Option<OwnedFd>,
    },
    Named(NamedRuntime),
}

/// What a maker made.
struct Made {
    maker: Maker,
    launch: Launch,
    streams: Streams,
    /// The first process, or why there is none: the runtime has looked for the command, and it is not there.
    pid: Result<Pid, SandboxError>,
}

impl Container {
    pub(super) fn create(create: Create, heirloom: &Heirloom) -> Result<Self, SandboxError> {
        let Create { mut spec, state_dir, run_dir, socket, pid_of, ipc_of, runtime } = create;
        if runtime.is_some() && spec.init {
            run_by_init(&mut spec)?;
        }
        let files = Files::of(&state_dir, &run_dir, &spec.id);
        let cgroups = heirloom.cgroups.clone();
        // Its mount is not there where the runtime works: see `forget_namespaces`.
        let network = match &spec.netns {
            NetMode::Path(path) => Some(File::open(path).doing_at("open", path)?),
            NetMode::Private | NetMode::Host => None,
        };
        let devices = oci::find_devices(&spec)?;
        let rules = device_rules(&spec, &devices);
        let cgroup = cgroups.container(&spec.group, &spec.id);
        cgroup.make()?;
        match &runtime {
            None => cgroup.limit_container(&spec.limits, rules.as_deref())?,
            // Until it has become the application, a runtime may have more threads than that.
            Some(_) => {
                let limits = Limits { pids: None, ..spec.limits };
                cgroup.limit_container(&limits, rules.as_deref())?;
            }
        }
        for dir in [files.rootfs(), files.runtime()] {
            fs::create_dir_all(&dir).doing_at("create", &dir)?;
        }
        let found = Found {
            rootfs: files.rootfs(),
            cgroup: cgroups.oci_path(&spec.group, &spec.id),
            cgroup_views: cgroups.container(&spec.group, &spec.id).views(),
            network_namespace: network.as_ref().map(descriptor),
            pid_namespace: pid_of.map(|pid| namespace(pid, "pid")),
            ipc_namespace: ipc_of.map(|pid| namespace(pid, "ipc")),
            shm: match spec.ipc {
                IpcMode::Host => Some(PathBuf::from("/dev/shm")),
                IpcMode::Join(_) => Some(files.shm()),
                IpcMode::Private | IpcMode::None => None,
            },
            devices,
        };
        for source in spec.mounts.iter().map(|mount| (&mount.source, &mount.destination)) {
            check_source(source.0, source.1)?;
        }
        let mut document = oci::document(&spec, &found)?;
        files::write(&files.document(), &document)?;

        let host = File::open("/proc/self/ns/mnt").doing("open the mount namespace")?;
        let made = in_private_namespace(&spec, &files, ipc_of).and_then(|identity| {
            let streams = Streams::open(&spec, &files)?;
            let launch = |report: RawFd| launch(&spec, identity, heirloom, report);
            match runtime {
                None => run_native(&spec, &files, launch, streams),
                Some(runtime) => {
                    let launch = launch(NO_REPORT)?;
                    let process = oci::whole_process(&spec, &launch)?;
                    let filter = launch.filter.is_some();
                    let filter =
                        filter.then(|| seccomp::document(launch.capabilities, sockets(&spec)));
                    let mut whole = document.clone();
                    oci::complete(&mut whole, process, filter, rules.as_deref());
                    files::write(&files.document(), &whole)?;
                    let made = run_named(runtime, &spec, &files, launch, streams);
                    // What the application is told is nobody else's to read from now on.
                    document["linux"]["resources"] = whole["linux"]["resources"].take();
                    files::write(&files.document(), &document)?;
                    made
                }
            }
        });
        setns(&host, CloneFlags::CLONE_NEWNS).doing("return to the host's mount namespace")?;
        let Made { maker, launch, streams, pid } = made?;
        if let (Maker::Named(_), Ok(_)) = (&maker, &pid) {
            // Whatever the runtime made of them.
            cgroups
                .container(&spec.group, &spec.id)
                .limit_container(&spec.limits, rules.as_deref())?;
        }
        let listener = UnixListener::bind(&socket).doing_at("listen on", &socket)?;
        let output = Output::new(&spec.log, streams.stdout, streams.stderr)?;
        let container = Self {
            spec,
            files,
            cgroups,
            listener,
            socket,
            output,
            launch,
            maker,
            failed: pid.as_ref().err().map(Failure::of),
            pid: pid.ok(),
            phase: Phase::Created,
            is_starting: false,
            started_at: None,
            execs: 0,
            _stdin: streams.stdin,
        };
        container.write_record()?;
        Ok(container)
    }

    /// Zero, which no process of ours has, for none.
    pub(super) fn pid(&self) -> i32 {
        self.pid.map_or(0, Pid::as_raw)
    }

    /// Whether it has ended before it began: there is no process to wait for.
    pub(super) fn is_stillborn(&self) -> bool {
        self.pid.is_none()
    }

    /// What makes processes of it, if not libcontainer.
    pub(super) fn runtime(&self) -> Option<&NamedRuntime> {
        match &self.maker {
            Maker::Native { .. } => None,
            Maker::Named(runtime) => Some(runtime),
        }
    }

    pub(super) fn cgroup(&self) -> Cgroup<'_> {
        self.cgroups.container(&self.spec.group, &self.spec.id)
    }

    pub(super) fn status(&self) -> Status {
        Status { phase: self.phase, pid: self.pid(), started_at: self.started_at }
    }

    /// Lets the application run; returns once it does, or says why it does not. Asked again, it says
    /// the same: an agent may not have lived to hear the answer.
    pub(super) fn start(&mut self) -> Result<Started, SandboxError> {
        if let Some(failed) = self.failed.clone().and_then(Failure::error) {
            return Err(failed);
        }
        if let Some(at) = self.started_at {
            return Ok(Started { pid: self.pid(), at });
        }
        // Before anything of it can run: whoever finds the container must not make it anew.
        self.is_starting = true;
        self.write_record()?;
        let started = self.let_run();
        match &started {
            Ok(started) => {
                self.phase = Phase::Running;
                self.started_at = Some(started.at);
            }
            Err(error) => self.failed = Some(Failure::of(error)),
        }
        // It is what it is, written down or not; and while this process lives, it knows.
        if let Err(error) = self.write_record() {
            eprintln!("shim {}: {}", std::process::id(), Chain(&error));
        }
        started
    }

    fn let_run(&mut self) -> Result<Started, SandboxError> {
        match &mut self.maker {
            Maker::Native { oci, report } => {
                let Some(report) = report.take() else {
                    let why = "the container was started before".into();
                    return Err(SandboxError::Invalid { what: "start".into(), why });
                };
                oci.start()
                    .map_err(|error| runtime_failed("start the container", &chain(&error)))?;
                read_report(report)?;
            }
            Maker::Named(runtime) => runtime.start(&self.spec.id, &self.files)?,
        }
        Ok(Started { pid: self.pid(), at: SystemClock.now() })
    }

    pub(super) fn signal(&self, number: i32) -> Result<(), SandboxError> {
        let signal = Signal::try_from(number).doing("understand a signal")?;
        let Some(pid) = self.pid else {
            return Err(SandboxError::NotRunning { id: self.spec.id.clone() });
        };
        match &self.maker {
            // The process is our child and not yet reaped, so that the pid is still its own.
            Maker::Native { .. } => kill(pid, signal).doing("signal the container"),
            Maker::Named(runtime) => {
                let sent = runtime.signal(&self.spec.id, &self.files, number);
                // To one that has just ended it is as good as sent.
                if has_ended(pid) { Ok(()) } else { sent }
            }
        }
    }

    pub(super) fn write_record(&self) -> Result<(), SandboxError> {
        self.files.write_record(&Record {
            group: self.spec.group.clone(),
            scratch: self.spec.rootfs.scratch.clone(),
            spool: spool_dir(&self.spec.log),
            shim_pid: i32::try_from(std::process::id()).ok(),
            pid: self.pid.map(Pid::as_raw),
            is_starting: self.is_starting,
            started_at: self.started_at,
            failed: self.failed.clone(),
            runtime: self.runtime().cloned(),
        })
    }

    /// A number that no other command of this container has.
    pub(super) fn next_exec(&mut self) -> u32 {
        self.execs = self.execs.wrapping_add(1);
        self.execs
    }

    /// Whether the container's processes may outlive its first one.
    pub(super) fn may_leave_processes(&self) -> bool {
        match self.spec.pid {
            PidMode::Private => false,
            PidMode::Host | PidMode::Join(_) => true,
        }
    }
}

/// Lets libcontainer make the container's first process, which then waits to be started.
fn run_native(
    spec: &ContainerSpec,
    files: &Files,
    launch: impl FnOnce(RawFd) -> Result<Launch, SandboxError>,
    streams: Streams,
) -> Result<Made, SandboxError> {
    let (report, report_in) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
    let launch = launch(report_in.as_raw_fd())?;
    let Streams { child, console, .. } = &streams;
    let copy = |fd: &OwnedFd| fd.try_clone().doing("copy a descriptor");
    let mut builder = ContainerBuilder::new(spec.id.to_string(), SyscallType::default())
        .with_root_path(files.runtime())
        .map_err(|error| runtime_failed("prepare", &chain(&error)))?
        .with_executor(launch.clone());
    match console {
        Some(_) => builder = builder.with_console_socket(Some(files.console())),
        None => {
            builder = builder
                .with_stdin(copy(&child[0])?)
                .with_stdout(copy(&child[1])?)
                .with_stderr(copy(&child[2])?);
        }
    }
    let oci = builder
        .as_init(files.bundle())
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|error| runtime_failed("create the container", &chain(&error)))?;
    let streams = streams.after_create()?;
    let pid = oci.pid().ok_or_else(|| runtime_failed("say its pid", "there is none"))?;
    let maker = Maker::Native { oci: Box::new(oci), report: Some(report) };
    Ok(Made { maker, launch, streams, pid: Ok(Pid::from_raw(pid.as_raw())) })
}

/// Lets another runtime do the same, by the whole document.
fn run_named(
    runtime: NamedRuntime,
    spec: &ContainerSpec,
    files: &Files,
    launch: Launch,
    mut streams: Streams,
) -> Result<Made, SandboxError> {
    // By a descriptor: the path may be longer than a socket's may be.
    let run = File::open(files.run()).doing_at("open", files.run())?;
    let console = streams.console.is_some().then(|| descriptor(&run).join(Files::CONSOLE));
    let made = runtime.create(&spec.id, files, streams.to_stdio()?, console.as_deref());
    let made = made.map_err(|error| runtime::understood(error, &spec.args, &launch.search_path()));
    let pid = match made {
        Ok(pid) => {
            streams = streams.after_create()?;
            Ok(Pid::from_raw(pid))
        }
        // Natively a container is made all the same, and its start tells that.
        Err(error @ (SandboxError::NoSuchCommand { .. } | SandboxError::NotExecutable { .. })) => {
            // All that they hold is that sentence.
            streams = Streams::none();
            Err(error)
        }
        Err(error) => return Err(error),
    };
    Ok(Made { maker: Maker::Named(runtime), launch, streams, pid })
}

/// A file of ours as other processes find it.
fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}

/// Puts the host's init before the command: another runtime makes no process of our program.
fn run_by_init(spec: &mut ContainerSpec) -> Result<(), SandboxError> {
    const AT: &str = "/dev/init";
    let Some(source) = runtime::init_program() else {
        let why = "a runtime of the host (--runtime) runs a program of the host's as init, and there is none: \
                   install tini-static or docker-init (Debian: tini)";
        return Err(SandboxError::Invalid { what: "init process".into(), why: why.into() });
    };
    spec.files.push(FileBind { source, destination: AT.into(), readonly: true });
    // It reaps also where it is not the first process of its namespace.
    let command = std::mem::take(&mut spec.args);
    spec.args = [AT, "-s", "--"].map(str::to_owned).into_iter().chain(command).collect();
    Ok(())
}

/// Whether a child has ended, reaped or not.
fn has_ended(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
}

pub(crate) fn spool_dir(log: &LogSink) -> Option<PathBuf> {
    match log {
        LogSink::Spool { dir, .. } => Some(dir.clone()),
        LogSink::Discard => None,
    }
}

/// Reads why the application did not start; nothing if it did.
pub(super) fn read_report(report: OwnedFd) -> Result<(), SandboxError> {
    let mut text = Vec::new();
    File::from(report).read_to_end(&mut text).doing("wait for the application to start")?;
    if text.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_slice(&text)
        .unwrap_or_else(|error| runtime_failed("start the application", &error.to_string())))
}

pub(super) fn runtime_failed(doing: &str, why: &str) -> SandboxError {
    SandboxError::Runtime { doing: doing.to_owned(), why: why.to_owned() }
}

pub(super) fn chain(error: &LibcontainerError) -> String {
    Chain(error).to_string()
}

fn namespace(pid: i32, kind: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/{kind}"))
}

fn check_source(source: &Path, destination: &Path) -> Result<(), SandboxError> {
    let failed = |why: String| SandboxError::Mount {
        source_path: source.to_owned(),
        destination: destination.to_owned(),
        why,
    };
    fs::metadata(source).map(|_| ()).map_err(|error| failed(error.to_string()))
}

/// What a container may open or make; none for whatever there is.
fn device_rules(spec: &ContainerSpec, devices: &[oci::Device]) -> Option<Vec<DeviceRule>> {
    (!spec.privileged).then(|| {
        let mut rules = default_rules();
        rules.extend(devices.iter().map(|device| device.rule));
        rules
    })
}

/// Leaves the calling process in a fresh mount namespace with the root mounted, and finds the user
/// in it.
fn in_private_namespace(
    spec: &ContainerSpec,
    files: &Files,
    ipc_of: Option<i32>,
) -> Result<users::Identity, SandboxError> {
    unshare(CloneFlags::CLONE_NEWNS).doing("make a mount namespace")?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .doing("detach from the host's mounts")?;
    forget_namespaces(spec, files);
    if spec.pause {
        rootfs::mount_empty(&files.rootfs())?;
    } else {
        rootfs::mount_overlay(&spec.rootfs, &files.rootfs())?;
    }
    if let Some(pid) = ipc_of {
        borrow_shm(pid, &files.shm())?;
    }
    let root = Dir::open(&files.rootfs()).doing_at("open", &files.rootfs())?;
    rootfs::check_system_dirs(&root)?;
    root.make_dirs(&spec.cwd, 0o755).map_err(|error| SandboxError::WorkingDirectory {
        path: spec.cwd.clone(),
        why: error.to_string(),
    })?;
    users::resolve(&root, &spec.user, &spec.additional_gids)
}

/// Takes the mounts of all other tasks' namespaces out of this one, where they lie in one place:
/// they would be copied, listed and torn down again with every container, the more of them there
/// are the longer.
fn forget_namespaces(spec: &ContainerSpec, files: &Files) {
    let NetMode::Path(path) = &spec.netns else { return };
    let Some(dir) = path.parent() else { return };
    let is_needed = |path: &Path| path.starts_with(dir);
    if is_needed(&files.rootfs()) || is_needed(&spec.rootfs.scratch) || dir == Path::new("/") {
        return;
    }
    // A directory that is not a mount of its own hides nothing else, and stays.
    let _ = umount2(dir, MntFlags::MNT_DETACH);
}

/// Mounts the `/dev/shm` of process `pid` at `target`: taken in its namespace, put down in ours.
fn borrow_shm(pid: i32, target: &Path) -> Result<(), SandboxError> {
    fs::create_dir_all(target).doing_at("create", target)?;
    let ours = File::open("/proc/self/ns/mnt").doing("open the mount namespace")?;
    let theirs = namespace(pid, "mnt");
    let theirs = File::open(&theirs).doing_at("open", &theirs)?;
    setns(&theirs, CloneFlags::CLONE_NEWNS).doing("join a mount namespace")?;
    let shm = sys::clone_mount(c"/dev/shm");
    setns(&ours, CloneFlags::CLONE_NEWNS).doing("return from a mount namespace")?;
    let target = CString::new(target.as_os_str().as_encoded_bytes()).map_err(io::Error::other);
    sys::attach_mount(&shm.doing("share /dev/shm")?, &target.doing("name /dev/shm")?)
        .doing("mount the shared /dev/shm")
}

fn launch(
    spec: &ContainerSpec,
    identity: users::Identity,
    heirloom: &Heirloom,
    report: RawFd,
) -> Result<Launch, SandboxError> {
    let capabilities = if spec.privileged {
        CapSet::all()
    } else {
        CapSet::resolve(&spec.cap_add, &spec.cap_drop)?
    };
    let filter = match (spec.privileged, spec.seccomp) {
        (false, Seccomp::Default) => Some(heirloom.filter(capabilities, sockets(spec))),
        (true, _) | (false, Seccomp::Unconfined) => None,
    };
    Ok(Launch {
        argv: strings("argument", spec.args.iter().cloned())?,
        env: environment(&spec.env, &identity.home, spec.tty)?,
        identity,
        capabilities,
        filter,
        no_new_privileges: spec.no_new_privileges,
        first: match (spec.pause, spec.init) {
            (true, _) => First::Pause,
            (false, true) => First::Init,
            (false, false) => First::Command,
        },
        report,
    })
}

/// In the host's network packets of one's own making would pass by the table that judges all others.
/// Whoever asks for the capability by its name gets what goes with it.
fn sockets(spec: &ContainerSpec) -> Sockets {
    let is_named = |name: &String| {
        let upper = name.to_ascii_uppercase();
        matches!(upper.strip_prefix("CAP_").unwrap_or(&upper), "ALL" | "NET_RAW")
    };
    match spec.netns {
        NetMode::Host if !spec.cap_add.iter().any(is_named) => Sockets::Judged,
        NetMode::Host | NetMode::Private | NetMode::Path(_) => Sockets::Usual,
    }
}

/// The container's own variables, and those that every process expects where they are missing.
pub(super) fn environment(
    own: &[(String, String)],
    home: &str,
    tty: bool,
) -> Result<Vec<CString>, SandboxError> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut entries: Vec<String> =
        own.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let term = tty.then_some(("TERM", "xterm"));
    for (name, value) in [("PATH", PATH), ("HOME", home)].into_iter().chain(term) {
        if !own.iter().any(|(other, _)| other == name) {
            entries.push(format!("{name}={value}"));
        }
    }
    strings("environment variable", entries.into_iter())
}

pub(super) fn strings(
    what: &str,
    texts: impl Iterator<Item = String>,
) -> Result<Vec<CString>, SandboxError> {
    let checked = texts.map(|text| {
        let why = "it contains a NUL byte";
        CString::new(text)
            .map_err(|_| SandboxError::Invalid { what: what.to_owned(), why: why.to_owned() })
    });
    checked.collect()
}
