//! The shim's only loop: waits for output, children and agents, until the container has ended and
//! all it printed is on disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use longshore_types::{Clock, SystemClock, Timestamp};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::connection::Connection;
use super::container::Container;
use super::exec::Exec;
use crate::error::{Doing, SandboxError};
use crate::launch::EXIT_NOT_STARTED;
use crate::lease::FENCED_OFF;
use crate::proto::{Reply, Request};
use crate::spec::{Exit, LogSink, Phase};
use crate::spool::{self, Stream};

/// Whoever keeps the container's output open beyond its end is not waited for longer than this.
const DRAIN_MS_MAX: u64 = 2_000;
const AGENTS_MAX: usize = 64;
/// How often the lease of a fenced container is read while it lasts: it may have become shorter.
const LEASE_LOOK: Duration = Duration::from_secs(1);
/// How soon a container that could not be ended is ended again.
const FENCE_AGAIN: Duration = Duration::from_millis(100);
/// What a pipe holds.
const READ_BYTES: usize = 64 << 10;

/// Serves `container` until nothing is left to do.
pub(super) fn run(
    container: Container,
    signals: &SignalFd,
    creator: Connection,
) -> Result<(), SandboxError> {
    let mut shim = Shim {
        container,
        agents: vec![Some(creator)],
        waiting: Vec::new(),
        execs: Vec::new(),
        exit: None,
        drain_until: None,
        look_at_lease: None,
        is_fenced_off: false,
        buffer: vec![0; READ_BYTES],
    };
    if shim.container.is_stillborn() {
        shim.ended(EXIT_NOT_STARTED)?;
    }
    while !shim.is_done() {
        shim.turn(signals)?;
    }
    shim.finish();
    Ok(())
}

struct Shim {
    container: Container,
    /// A slot is freed when its agent leaves; its number is what `waiting` and `execs` keep.
    agents: Vec<Option<Connection>>,
    /// Agents to be told of the end.
    waiting: Vec<usize>,
    execs: Vec<Exec>,
    exit: Option<Exit>,
    /// When to stop waiting for the output to end.
    drain_until: Option<Timestamp>,
    /// When the lease of a fenced container must be looked at.
    look_at_lease: Option<Duration>,
    /// Whether the container was ended because its lease was over.
    is_fenced_off: bool,
    buffer: Vec<u8>,
}

/// What a descriptor that became ready belongs to.
#[derive(Clone, Copy, Debug)]
enum Source {
    Children,
    Listener,
    Agent(usize),
    Output(Stream),
    Exec(usize),
}

impl Shim {
    fn is_done(&self) -> bool {
        let Some(until) = self.drain_until else { return false };
        self.execs.is_empty() && (self.container.output.is_closed() || SystemClock.now() >= until)
    }

    fn turn(&mut self, signals: &SignalFd) -> Result<(), SandboxError> {
        self.hold_to_lease();
        let ready = self.wait(signals)?;
        for source in ready {
            match source {
                Source::Children => {
                    while matches!(signals.read_signal(), Ok(Some(_))) {}
                    self.reap()?;
                }
                Source::Listener => self.accept(),
                Source::Agent(index) => self.hear(index),
                Source::Output(stream) => self.container.output.copy(stream, &mut self.buffer),
                Source::Exec(index) => self.execs[index].copy(&mut self.buffer),
            }
        }
        self.end_execs();
        Ok(())
    }

    /// Sleeps until something is ready or the next deadline.
    fn wait(&self, signals: &SignalFd) -> Result<Vec<Source>, SandboxError> {
        let mut sources = vec![Source::Children, Source::Listener];
        let mut fds: Vec<BorrowedFd<'_>> = vec![signals.as_fd(), self.container.listener.as_fd()];
        for (index, agent) in self.agents.iter().enumerate() {
            if let Some(agent) = agent {
                sources.push(Source::Agent(index));
                fds.push(agent.as_fd());
            }
        }
        for (stream, file) in self.container.output.open() {
            sources.push(Source::Output(stream));
            fds.push(file.as_fd());
        }
        for (index, exec) in self.execs.iter().enumerate() {
            if let Some(output) = exec.output() {
                sources.push(Source::Exec(index));
                fds.push(output.as_fd());
            }
        }
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).doing("wait for events"),
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let ready = polled.iter().zip(&sources).filter(|(fd, _)| is_ready(fd));
        Ok(ready.map(|(_, source)| *source).collect())
    }

    fn timeout(&self) -> PollTimeout {
        let deadlines = self.execs.iter().map(Exec::deadline).chain(self.drain_until);
        let left_ms = deadlines.min().map(|deadline| deadline.since_ms(SystemClock.now()));
        let look_ms = self.look_at_lease.map(|left| u64::try_from(left.as_millis()).unwrap_or(0));
        match left_ms.into_iter().chain(look_ms).min() {
            Some(left_ms) => {
                PollTimeout::try_from(left_ms.saturating_add(1)).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        }
    }

    /// Ends a fenced container whose lease is over: nobody else may be there to do it.
    fn hold_to_lease(&mut self) {
        self.look_at_lease = None;
        let Some(fence) = self.container.spec.fence.as_ref().filter(|_| self.exit.is_none()) else {
            return;
        };
        self.look_at_lease = Some(match fence.left() {
            Some(left) => left.min(LEASE_LOOK),
            None => {
                self.is_fenced_off = true;
                if let Err(error) = self.container.cgroup().kill() {
                    eprintln!("shim {}: {}", std::process::id(), longshore_types::Chain(&error));
                }
                FENCE_AGAIN
            }
        });
    }

    fn reap(&mut self) -> Result<(), SandboxError> {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, 128_i32.saturating_add(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).doing("wait for children"),
            };
            if pid.as_raw() == self.container.pid() {
                self.ended(code)?;
            } else if let Some(exec) = self.execs.iter_mut().find(|exec| exec.pid() == pid) {
                exec.ended(code);
            }
        }
    }

    /// First to disk, then to whoever waits, then the rest.
    fn ended(&mut self, code: i32) -> Result<(), SandboxError> {
        let oom_killed = code != 0 && self.container.cgroup().oom_kills() > 0;
        let pids_limit_hit = self.container.cgroup().pids_limit_hit();
        let now = SystemClock.now();
        let reason = self.is_fenced_off.then(|| FENCED_OFF.to_owned());
        let exit = Exit { code, oom_killed, pids_limit_hit, finished_at: now, reason };
        self.container.files.write_exit(&exit)?;
        for index in std::mem::take(&mut self.waiting) {
            self.answer(index, &Reply::Exited(exit.clone()));
        }
        self.exit = Some(exit);
        self.drain_until = Some(now.plus_ms(DRAIN_MS_MAX));
        if self.container.may_leave_processes() {
            // The agent removes the group later, and tries again then.
            let _ = self.container.cgroup().kill();
        }
        Ok(())
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.container.listener.accept() else { return };
        let connection = Connection::new(stream);
        match self.agents.iter().position(Option::is_none) {
            Some(free) => self.agents[free] = Some(connection),
            None if self.agents.len() < AGENTS_MAX => self.agents.push(Some(connection)),
            None => drop(connection),
        }
    }

    fn hear(&mut self, index: usize) {
        let Some(agent) = self.agents[index].as_mut() else { return };
        if !agent.read_some().unwrap_or(false) {
            self.forget(index);
            return;
        }
        loop {
            let Some(agent) = self.agents[index].as_mut() else { return };
            match agent.next() {
                Ok(Some(request)) => self.serve(index, request),
                Ok(None) => return,
                Err(_) => self.forget(index),
            }
        }
    }

    fn serve(&mut self, index: usize, request: Request) {
        let id = self.container.spec.id.clone();
        let not_running = || SandboxError::NotRunning { id };
        let reply = match request {
            Request::Start if self.is_fenced_off => {
                Err(SandboxError::Invalid { what: "start".into(), why: FENCED_OFF.into() })
            }
            Request::Start => self.container.start().map(Reply::Started),
            Request::Signal { .. } if self.exit.is_some() => Err(not_running()),
            Request::Signal { number } => self.container.signal(number).map(|()| Reply::Done),
            Request::Wait => match &self.exit {
                Some(exit) => Ok(Reply::Exited(exit.clone())),
                None => {
                    self.waiting.push(index);
                    return;
                }
            },
            Request::Status => Ok(Reply::Status(self.container.status())),
            Request::Exec(_)
                if self.exit.is_some() || self.container.status().phase != Phase::Running =>
            {
                Err(not_running())
            }
            Request::Exec(spec) => match Exec::start(&mut self.container, &spec, index) {
                Ok(exec) => {
                    self.execs.push(exec);
                    return;
                }
                Err(error) => Err(error),
            },
            Request::Nurse { .. } | Request::Ready | Request::Create(_) => {
                Err(SandboxError::Invalid {
                    what: "request".into(),
                    why: "this shim has its container".into(),
                })
            }
        };
        self.answer(index, &reply.unwrap_or_else(Reply::Failed));
    }

    /// Kills what is over its time, and answers for what is over.
    fn end_execs(&mut self) {
        let now = SystemClock.now();
        let mut over = Vec::new();
        for (index, exec) in self.execs.iter_mut().enumerate() {
            if let Some(reply) = exec.turn(now, &self.container) {
                over.push((index, exec.agent(), reply));
            }
        }
        for (index, agent, reply) in over.into_iter().rev() {
            self.execs.remove(index);
            self.answer(agent, &reply);
        }
    }

    fn answer(&mut self, index: usize, reply: &Reply) {
        if let Some(Some(agent)) = self.agents.get_mut(index)
            && agent.send(reply).is_err()
        {
            self.forget(index);
        }
    }

    fn forget(&mut self, index: usize) {
        self.agents[index] = None;
        self.waiting.retain(|other| *other != index);
        self.execs.iter_mut().for_each(|exec| exec.agent_left(index));
    }

    fn finish(&mut self) {
        self.container.output.end(SystemClock.now());
        // A stale one would only be found to be stale.
        let _ = std::fs::remove_file(&self.container.socket);
    }
}

/// The container's output, and where it goes.
#[derive(Debug)]
pub(super) struct Output {
    stdout: Option<File>,
    stderr: Option<File>,
    spool: Option<spool::Writer>,
}

impl Output {
    pub(super) fn new(
        log: &LogSink,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> Result<Self, SandboxError> {
        let spool = match log {
            LogSink::Spool { dir, segment_bytes_max, total_bytes_max } => Some(
                spool::Writer::open(dir, *segment_bytes_max, *total_bytes_max)
                    .doing_at("open the spool", dir)?,
            ),
            LogSink::Discard => None,
        };
        Ok(Self { stdout: stdout.map(File::from), stderr: stderr.map(File::from), spool })
    }

    fn open(&self) -> impl Iterator<Item = (Stream, &File)> {
        let streams = [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)];
        streams.into_iter().filter_map(|(stream, file)| Some((stream, file.as_ref()?)))
    }

    fn is_closed(&self) -> bool {
        self.open().next().is_none()
    }

    /// Moves what is there, once: a talkative stream must not starve the others.
    fn copy(&mut self, stream: Stream, buffer: &mut [u8]) {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(file) = slot else { return };
        match file.read(buffer) {
            Ok(count) if count > 0 => {
                if let Some(spool) = &mut self.spool {
                    spool.append(stream, SystemClock.now(), &buffer[..count]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The end; a terminal says it with an error.
            Ok(_) | Err(_) => *slot = None,
        }
    }

    fn end(&mut self, at: Timestamp) {
        if let Some(spool) = &mut self.spool {
            spool.end(at);
        }
    }
}
