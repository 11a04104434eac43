//! A command that runs beside the application, in its namespaces and control group.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::Stdio;
use std::rc::Rc;

use ::files::Dir;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use longshore_types::{Clock, SystemClock, Timestamp};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use super::container::{
    Container, NO_REPORT, chain, environment, read_report, runtime_failed, strings,
};
use crate::error::{Doing, SandboxError};
use crate::files;
use crate::launch::{First, Launch};
use crate::oci;
use crate::proto::Reply;
use crate::runtime::{NamedRuntime, understood};
use crate::spec::{ContainerSpec, ExecResult, ExecSpec};
use crate::users;

/// Whoever keeps the command's output open beyond its end is not waited for longer than this.
const DRAIN_MS_MAX: u64 = 500;
/// A killed tree that forks on is killed again this often.
const KILL_ROUNDS_MAX: usize = 20;

#[derive(Debug)]
pub(super) struct Exec {
    pid: Pid,
    /// Who asked; nobody any more, if that agent left.
    agent: Option<usize>,
    output: Option<File>,
    kept: Vec<u8>,
    output_bytes_max: usize,
    timeout_ms: u64,
    deadline: Timestamp,
    code: Option<i32>,
    timed_out: bool,
}

impl Exec {
    pub(super) fn start(
        container: &mut Container,
        wanted: &ExecSpec,
        agent: usize,
    ) -> Result<Self, SandboxError> {
        let (output, output_in) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
        let spec = command_spec(&container.spec, wanted);
        let pid = match container.runtime().cloned() {
            None => start_native(container, &spec, wanted, output_in)?,
            Some(runtime) => start_named(container, &runtime, &spec, wanted, output_in)?,
        };
        Ok(Self {
            pid,
            agent: Some(agent),
            output: Some(File::from(output)),
            kept: Vec::new(),
            output_bytes_max: wanted.output_bytes_max,
            timeout_ms: wanted.timeout_ms,
            deadline: SystemClock.now().plus_ms(wanted.timeout_ms),
            code: None,
            timed_out: false,
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn agent(&self) -> usize {
        self.agent.unwrap_or(usize::MAX)
    }

    pub(super) fn agent_left(&mut self, index: usize) {
        if self.agent == Some(index) {
            self.agent = None;
        }
    }

    pub(super) fn output(&self) -> Option<&File> {
        self.output.as_ref()
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    pub(super) fn copy(&mut self, buffer: &mut [u8]) {
        let Some(file) = &mut self.output else { return };
        match file.read(buffer) {
            Ok(count) if count > 0 => {
                let room = self.output_bytes_max.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => self.output = None,
        }
    }

    pub(super) fn ended(&mut self, code: i32) {
        self.code = Some(code);
        self.deadline = SystemClock.now().plus_ms(DRAIN_MS_MAX);
    }

    /// The answer, once there is one.
    pub(super) fn turn(&mut self, now: Timestamp, container: &Container) -> Option<Reply> {
        match self.code {
            Some(_) if self.timed_out => {
                let error = SandboxError::TimedOut { timeout_ms: self.timeout_ms };
                Some(Reply::Failed(error))
            }
            Some(exit_code) if self.output.is_none() || now >= self.deadline => {
                let output = std::mem::take(&mut self.kept);
                Some(Reply::Executed(ExecResult { exit_code, output }))
            }
            Some(_) => None,
            None => {
                if now >= self.deadline {
                    self.timed_out = true;
                    self.deadline = now.plus_ms(DRAIN_MS_MAX);
                    kill_tree(self.pid, container);
                }
                None
            }
        }
    }
}

fn start_native(
    container: &mut Container,
    spec: &ContainerSpec,
    wanted: &ExecSpec,
    output: OwnedFd,
) -> Result<Pid, SandboxError> {
    let (report, report_in) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
    let launch = launch(container, spec, wanted, report_in.as_raw_fd())?;
    let number = container.next_exec();
    let process = container.files.process(number);
    files::write(&process, &oci::process(spec)?)?;
    let copy = |fd: &OwnedFd| fd.try_clone().doing("copy a descriptor");
    let null = File::open("/dev/null").doing("open /dev/null")?;
    let built = ContainerBuilder::new(spec.id.to_string(), SyscallType::default())
        .with_root_path(container.files.runtime())
        .map_err(|error| runtime_failed("prepare", &chain(&error)))?
        .with_executor(launch)
        .with_stdin(null)
        .with_stdout(copy(&output)?)
        .with_stderr(copy(&output)?)
        .as_tenant()
        .with_process(Some(&process))
        .with_detach(true)
        .build();
    // Read once, by the call above.
    let _ = std::fs::remove_file(&process);
    let pid = built.map_err(|error| runtime_failed("run the command", &chain(&error)))?;
    drop((output, report_in));
    read_report(report)?;
    Ok(Pid::from_raw(pid.as_raw()))
}

fn start_named(
    container: &mut Container,
    runtime: &NamedRuntime,
    spec: &ContainerSpec,
    wanted: &ExecSpec,
    output: OwnedFd,
) -> Result<Pid, SandboxError> {
    let launch = launch(container, spec, wanted, NO_REPORT)?;
    let number = container.next_exec();
    let process = container.files.process(number);
    files::write(&process, &oci::whole_process(spec, &launch)?)?;
    let other = output.try_clone().doing("copy a descriptor")?;
    let streams = [Stdio::null(), output.into(), other.into()];
    let pid = runtime.exec(&spec.id, &container.files, &process, streams);
    let _ = std::fs::remove_file(&process);
    let pid = pid.map_err(|error| understood(error, &spec.args, &launch.search_path()))?;
    Ok(Pid::from_raw(pid))
}

/// The container's specification with the command's differences.
fn command_spec(of: &ContainerSpec, wanted: &ExecSpec) -> ContainerSpec {
    let mut spec = of.clone();
    spec.args.clone_from(&wanted.argv);
    spec.tty = false;
    if let Some(cwd) = &wanted.cwd {
        spec.cwd.clone_from(cwd);
    }
    for (name, value) in &wanted.env {
        spec.env.retain(|(other, _)| other != name);
        spec.env.push((name.clone(), value.clone()));
    }
    spec
}

fn launch(
    container: &Container,
    spec: &ContainerSpec,
    wanted: &ExecSpec,
    report: RawFd,
) -> Result<Launch, SandboxError> {
    let identity = match &wanted.user {
        Some(user) => {
            let root = Dir::open(format!("/proc/{}/root", container.pid()).as_ref())
                .doing("open the container's root")?;
            users::resolve(&root, user, &[])?
        }
        None => container.launch.identity.clone(),
    };
    Ok(Launch {
        argv: strings("argument", spec.args.iter().cloned())?,
        env: environment(&spec.env, &identity.home, false)?,
        identity,
        capabilities: container.launch.capabilities,
        filter: container.launch.filter.as_ref().map(Rc::clone),
        no_new_privileges: container.launch.no_new_privileges,
        first: First::Command,
        report,
    })
}

/// Kills a command and what it started: its descendants, and everything in its session, since a
/// child of a killed parent is adopted and no longer tells whose it was.
fn kill_tree(root: Pid, container: &Container) {
    let cgroup = container.cgroup();
    let mut condemned = vec![root.as_raw()];
    for _ in 0..KILL_ROUNDS_MAX {
        let known = condemned.len();
        for pid in cgroup.pids() {
            let Some((parent, session)) = parent_and_session(pid) else { continue };
            let is_of_tree = condemned.contains(&parent) || session == root.as_raw();
            if is_of_tree && !condemned.contains(&pid) {
                condemned.push(pid);
            }
        }
        for pid in &condemned {
            // Already gone is what was wanted.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if condemned.len() == known {
            return;
        }
    }
}

/// From `/proc/<pid>/stat`, whose second field may contain anything but ends at the last `)`.
fn parent_and_session(pid: i32) -> Option<(i32, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some((parent, session))
}
