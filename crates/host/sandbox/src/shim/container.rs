//! Making and starting the shim's container.
//!
//! The root's overlay is mounted in a mount namespace that only exists while the container is being
//! created: the container takes its own copy, and then the shim goes back to the host's. So the
//! overlay, and every volume under it, lives exactly as long as the container's processes, whatever
//! happens to anyone else, and no shim keeps other mounts of the host busy.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
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
use nix::unistd::{Pid, pipe2};

use crate::caps::CapSet;
use crate::cgroup::{Cgroup, Cgroups, default_rules};
use crate::error::{Doing, SandboxError};
use crate::files::{self, Files};
use crate::launch::{First, Launch};
use crate::oci::{self, Found};
use crate::proto::{Create, Failure, Record, Status};
use crate::rootfs;
use crate::seccomp::Sockets;
use crate::spec::{ContainerSpec, IpcMode, LogSink, NetMode, Phase, PidMode, Seccomp, Started};
use crate::sys;
use crate::users;

use super::run::Output;
use super::template::Heirloom;

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
    oci: OciContainer,
    pid: Pid,
    phase: Phase,
    is_starting: bool,
    started_at: Option<Timestamp>,
    failed: Option<Failure>,
    /// Closes when the application runs; says why, if it does not.
    report: Option<OwnedFd>,
    execs: u32,
    /// Held so that the application's standard input stays open.
    _stdin: Option<OwnedFd>,
}

impl Container {
    pub(super) fn create(create: Create, heirloom: &Heirloom) -> Result<Self, SandboxError> {
        let Create { spec, state_dir, run_dir, socket, pid_of, ipc_of } = create;
        let files = Files::of(&state_dir, &run_dir, &spec.id);
        let cgroups = heirloom.cgroups.clone();
        // Its mount is not there where the runtime works: see `forget_namespaces`.
        let network = match &spec.netns {
            NetMode::Path(path) => Some(File::open(path).doing_at("open", path)?),
            NetMode::Private | NetMode::Host => None,
        };
        let devices = oci::find_devices(&spec)?;
        make_cgroup(&cgroups, &spec, &devices)?;
        for dir in [files.rootfs(), files.runtime()] {
            fs::create_dir_all(&dir).doing_at("create", &dir)?;
        }
        let found = Found {
            rootfs: files.rootfs(),
            cgroup: cgroups.oci_path(&spec.group, &spec.id),
            cgroup_views: cgroups.container(&spec.group, &spec.id).views(),
            network_namespace: network
                .as_ref()
                .map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))),
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
        let document = oci::document(&spec, &found)?;
        files::write(&files.document(), &document)?;

        let host = File::open("/proc/self/ns/mnt").doing("open the mount namespace")?;
        let made = in_private_namespace(&spec, &files, ipc_of).and_then(|identity| {
            let streams = Streams::open(&spec, &files)?;
            let launch = |report: &OwnedFd| launch(&spec, identity, heirloom, report);
            Self::run_runtime(&spec, &files, launch, streams)
        });
        setns(&host, CloneFlags::CLONE_NEWNS).doing("return to the host's mount namespace")?;
        let (oci, launch, report, streams) = made?;
        let pid = oci.pid().ok_or_else(|| runtime_failed("say its pid", "there is none"))?;
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
            oci,
            pid: Pid::from_raw(pid.as_raw()),
            phase: Phase::Created,
            is_starting: false,
            started_at: None,
            failed: None,
            report: Some(report),
            execs: 0,
            _stdin: streams.stdin,
        };
        container.write_record()?;
        Ok(container)
    }

    /// Lets the runtime make the container's first process, which then waits to be started.
    fn run_runtime(
        spec: &ContainerSpec,
        files: &Files,
        launch: impl FnOnce(&OwnedFd) -> Result<Launch, SandboxError>,
        streams: Streams,
    ) -> Result<(OciContainer, Launch, OwnedFd, Streams), SandboxError> {
        let (report, report_in) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
        let launch = launch(&report_in)?;
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
        Ok((oci, launch, report, streams))
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
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
        let Some(report) = self.report.take() else {
            let why = "the container was started before".into();
            return Err(SandboxError::Invalid { what: "start".into(), why });
        };
        self.oci.start().map_err(|error| runtime_failed("start the container", &chain(&error)))?;
        read_report(report)?;
        Ok(Started { pid: self.pid(), at: SystemClock.now() })
    }

    pub(super) fn signal(&self, number: i32) -> Result<(), SandboxError> {
        let signal = Signal::try_from(number).doing("understand a signal")?;
        // The process is our child and not yet reaped, so that the pid is still its own.
        kill(self.pid, signal).doing("signal the container")
    }

    pub(super) fn write_record(&self) -> Result<(), SandboxError> {
        self.files.write_record(&Record {
            group: self.spec.group.clone(),
            scratch: self.spec.rootfs.scratch.clone(),
            spool: spool_dir(&self.spec.log),
            shim_pid: i32::try_from(std::process::id()).ok(),
            pid: Some(self.pid()),
            is_starting: self.is_starting,
            started_at: self.started_at,
            failed: self.failed.clone(),
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

fn make_cgroup(
    cgroups: &Cgroups,
    spec: &ContainerSpec,
    devices: &[oci::Device],
) -> Result<(), SandboxError> {
    let cgroup = cgroups.container(&spec.group, &spec.id);
    cgroup.make()?;
    let rules = (!spec.privileged).then(|| {
        let mut rules = default_rules();
        rules.extend(devices.iter().map(|device| device.rule));
        rules
    });
    cgroup.limit_container(&spec.limits, rules.as_deref())
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
    report: &OwnedFd,
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
        report: report.as_raw_fd(),
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

/// The container's standard streams, from both ends.
struct Streams {
    /// Input, output and error as the container gets them.
    child: Vec<OwnedFd>,
    console: Option<UnixListener>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Streams {
    fn open(spec: &ContainerSpec, files: &Files) -> Result<Self, SandboxError> {
        let mut streams =
            Self { child: Vec::new(), console: None, stdin: None, stdout: None, stderr: None };
        if spec.tty {
            let path = files.console();
            streams.console = Some(bind_beside(&path).doing_at("listen on", &path)?);
            return Ok(streams);
        }
        if spec.open_stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
            streams.child.push(read);
            streams.stdin = Some(write);
        } else {
            streams.child.push(null()?);
        }
        for ours in [&mut streams.stdout, &mut streams.stderr] {
            // Also where nobody wants the output: libcontainer would reopen `/dev/null` read-only.
            let (read, write) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
            streams.child.push(write);
            *ours = Some(read);
        }
        Ok(streams)
    }

    /// Lets go of the container's ends and takes the terminal, if there is one.
    fn after_create(mut self) -> Result<Self, SandboxError> {
        self.child.clear();
        if let Some(listener) = self.console.take() {
            let (connection, _) = listener.accept().doing("receive the terminal")?;
            self.stdout = Some(sys::receive_fd(&connection).doing("receive the terminal")?);
        }
        Ok(self)
    }
}

/// Binds by a relative name: the directory's path may be longer than a socket's may be.
fn bind_beside(path: &Path) -> io::Result<UnixListener> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let before = std::env::current_dir()?;
    std::env::set_current_dir(dir)?;
    let listener = UnixListener::bind(name);
    std::env::set_current_dir(before)?;
    listener
}

fn null() -> Result<OwnedFd, SandboxError> {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).doing("open /dev/null")
}
