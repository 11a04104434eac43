//! Drivers that send lines to somebody else: syslog, fluentd (and FireLens, which is fluentd to a router of the task's
//! own), gelf and splunk.
//!
//! What waits is on disk, in the run's spool, whose size its options bound: the container never waits, and what comes
//! faster than it goes is lost from its oldest end and counted. Only one batch is in memory.
//!
//! **Invariant:** a position is written down after everything before it was handed over; after a failure a batch is
//! sent again, so a line may come twice but is not left out.

pub(super) mod connect;
mod fluentd;
mod gelf;
mod msgpack;
mod splunk;
mod syslog;
pub(super) mod tag;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longshore_types::Chain;
use tokio::time::Instant;
use tracing::{debug, warn};

pub use connect::Reach as RemoteReach;
pub use tag::RunAbout;

use super::lines::{Assembler, LogEvent};
use super::{LogError, OptionError, Pipeline, RunLog};
use crate::limits::{
    REMOTE_BATCH_BYTES, REMOTE_BATCH_EVENTS, REMOTE_CHECK_TRIES, REMOTE_LINGER_MS,
    REMOTE_RETRY_MS_MAX, REMOTE_RETRY_MS_MIN, REMOTE_SEND_MS_MAX,
};
use crate::ports::OutputItem;
use crate::spec::LogDriver;

/// What a sink knows of the run whose lines it sends.
#[derive(Clone, Debug)]
pub(super) struct RemoteRun {
    /// The container's id, as it is reported.
    id: String,
    about: RunAbout,
    options: BTreeMap<String, String>,
}

/// Why lines were not taken.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("failed to reach {address}")]
    Unreachable {
        address: String,
        #[source]
        why: io::Error,
    },
    /// The very same would be refused again.
    #[error("{address} answered {status}: {text}")]
    Refused { address: String, status: u16, text: String },
    /// It may read on some day, but nobody waits for that with a connection open.
    #[error("a batch was not taken within {} s", REMOTE_SEND_MS_MAX / 1000)]
    Silent,
}

/// Whom lines are sent to.
trait Sink: Send {
    /// Hands over all of them, in order.
    fn send<'a>(&'a mut self, events: &'a [LogEvent]) -> BoxFuture<'a, Result<(), SinkError>>;
    /// Whether a container may start: with some drivers only if somebody is there.
    fn check(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// The sink of a run, by its driver; `None` for drivers that are no such.
fn sink(
    log: &RunLog,
    reach: &RemoteReach,
    sockets: &Path,
) -> Result<Option<Box<dyn Sink>>, OptionError> {
    let run = RemoteRun {
        id: log.runtime_id.clone(),
        about: log.about.clone().unwrap_or_default(),
        options: log.options(),
    };
    let reach = reach.clone();
    Ok(Some(match log.spec.driver {
        LogDriver::JsonFile | LogDriver::Awslogs | LogDriver::None => return Ok(None),
        LogDriver::Syslog => {
            Box::new(syslog::Syslog::new(syslog::Options::read(&run)?, run, reach))
        }
        LogDriver::Fluentd => {
            Box::new(fluentd::Fluentd::new(fluentd::Options::read(&run)?, run, reach))
        }
        LogDriver::Gelf => Box::new(gelf::Gelf::new(gelf::Options::read(&run)?, run, reach)),
        LogDriver::Splunk => {
            Box::new(splunk::Splunk::new(splunk::Options::read(&run)?, run, reach))
        }
        LogDriver::Firelens => {
            let socket = firelens_socket(sockets, log);
            let reach = reach.with_socket(&socket);
            let tag = format!("{}-firelens-{}", log.container, log.task.id);
            Box::new(fluentd::Fluentd::new(fluentd::Options::of_firelens(socket, tag), run, reach))
        }
    }))
}

/// Where the router of the run's task listens, as this host sees it.
fn firelens_socket(sockets: &Path, log: &RunLog) -> PathBuf {
    sockets.join(log.task.id.to_string()).join(".firelens/fluent.sock")
}

/// Checks a run's options, and that somebody is there where the driver wants it.
pub(super) async fn check(
    log: &RunLog,
    reach: &RemoteReach,
    sockets: &Path,
) -> Result<(), LogError> {
    let Some(mut sink) = sink(log, reach, sockets)? else { return Ok(()) };
    let mut wait_ms = REMOTE_RETRY_MS_MIN;
    for attempt in 1.. {
        match sink.check().await {
            Ok(()) => break,
            Err(SinkError::Unreachable { why, .. })
                if attempt < REMOTE_CHECK_TRIES
                    && why.kind() != io::ErrorKind::PermissionDenied =>
            {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                wait_ms *= 2;
            }
            Err(error) => return Err(LogError::Remote(error)),
        }
    }
    Ok(())
}

/// Sends a run's lines until its end.
pub(super) async fn ship(pipeline: Pipeline, reach: RemoteReach, sockets: PathBuf) {
    let sink = match sink(&pipeline.log, &reach, &sockets) {
        Ok(Some(sink)) => sink,
        Ok(None) => return pipeline.finish(),
        Err(why) => {
            let error = pipeline.log.without_secrets(why.into());
            warn!(run = pipeline.log.id, %error, "log options unusable");
            return pipeline.finish();
        }
    };
    let assembler = Assembler::new(None, pipeline.reach());
    let shipper = Shipper {
        pipeline,
        sink,
        assembler,
        batch: Vec::new(),
        is_at_end: false,
        over_at: None,
        dropped: 0,
    };
    shipper.run().await;
}

struct Shipper {
    pipeline: Pipeline,
    sink: Box<dyn Sink>,
    assembler: Assembler,
    batch: Vec<LogEvent>,
    /// All of the run's output was read.
    is_at_end: bool,
    /// When it was seen that the run had ended, while somebody did not take its lines.
    over_at: Option<Instant>,
    dropped: u64,
}

impl Shipper {
    async fn run(mut self) {
        while !self.is_at_end {
            let item = self.pipeline.output.next().await;
            self.read(item);
            // Whatever else is there goes along.
            while !self.is_at_end && !self.is_full() {
                let Some(item) = self.pipeline.output.next().now_or_never() else { break };
                self.read(item);
            }
            if !self.send().await {
                break;
            }
        }
        if self.dropped > 0 {
            warn!(run = self.pipeline.log.id, events = self.dropped, "log lines dropped");
        }
        self.pipeline.finish();
    }

    fn is_full(&self) -> bool {
        let bytes: usize = self.batch.iter().map(|event| event.text.len()).sum();
        REMOTE_BATCH_BYTES <= bytes || REMOTE_BATCH_EVENTS <= self.batch.len()
    }

    fn read(&mut self, item: io::Result<OutputItem>) {
        match item {
            Ok(OutputItem::Piece(piece)) => self.assembler.take(piece),
            Ok(OutputItem::Lost { bytes }) => {
                let run = &self.pipeline.log.id;
                warn!(run, bytes, "output lost: it came faster than it went");
            }
            Ok(OutputItem::End) => {
                self.assembler.close();
                self.is_at_end = true;
            }
            Err(error) => {
                warn!(run = self.pipeline.log.id, %error, "output unreadable");
                self.is_at_end = true;
            }
        }
        while let Some(event) = self.assembler.next() {
            self.pipeline.saw(event.text.lines().last().unwrap_or_default());
            self.batch.push(event);
        }
    }

    /// Sends the batch for as long as it takes; false if nobody took it in the time after the run's end.
    async fn send(&mut self) -> bool {
        let batch = std::mem::take(&mut self.batch);
        let Some(last) = batch.last() else { return true };
        let reach = batch.iter().fold(last.reach, |reach, event| reach.max(event.reach));
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let mut wait_ms = REMOTE_RETRY_MS_MIN;
        loop {
            let limit = Duration::from_millis(REMOTE_SEND_MS_MAX);
            let sent = tokio::time::timeout(limit, self.sink.send(&batch)).await;
            match sent.unwrap_or(Err(SinkError::Silent)) {
                Ok(()) => break,
                Err(error @ SinkError::Refused { .. }) => {
                    warn!(run = self.pipeline.log.id, error = %Chain(&error), "log lines refused");
                    self.dropped += count;
                    break;
                }
                Err(error) if self.pipeline.is_sink_gone() => {
                    if self.dropped == 0 {
                        let run = &self.pipeline.log.id;
                        warn!(run, error = %Chain(&error), "log lines given up: the task's router has ended");
                    }
                    self.dropped += count;
                    break;
                }
                Err(error) => {
                    let linger = Duration::from_millis(REMOTE_LINGER_MS);
                    if self.is_at_end || self.pipeline.is_over() {
                        self.over_at.get_or_insert_with(Instant::now);
                    }
                    if self.over_at.is_some_and(|at| linger <= at.elapsed()) {
                        warn!(run = self.pipeline.log.id, error = %Chain(&error), "log lines given up");
                        self.dropped += count;
                        return false;
                    }
                    debug!(run = self.pipeline.log.id, error = %Chain(&error), "log lines not taken yet");
                    self.pipeline.sleep(Duration::from_millis(wait_ms)).await;
                    wait_ms = (wait_ms * 2).min(REMOTE_RETRY_MS_MAX);
                }
            }
        }
        self.pipeline.settled(reach);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::super::tests::{Endless, World, pipeline};
    use super::*;

    /// Takes nothing of what it is first given, and later all.
    struct Stuck {
        world: Arc<World>,
        was_asked: bool,
    }

    impl Sink for Stuck {
        fn send<'a>(&'a mut self, _: &'a [LogEvent]) -> BoxFuture<'a, Result<(), SinkError>> {
            if !std::mem::replace(&mut self.was_asked, true) {
                return Box::pin(std::future::pending());
            }
            self.world.is_over.store(true, Ordering::SeqCst);
            Box::pin(async { Ok(()) })
        }

        fn check(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_connections_and_reads_nothing_is_left_and_tried_again() {
        let (dir, world) = (tempfile::tempdir().unwrap(), Arc::new(World::default()));
        let output = Endless { world: Arc::clone(&world), bytes: 9, is_partial: false, number: 0 };
        let pipeline = pipeline(dir.path(), 0, Box::new(output));
        let assembler = Assembler::new(None, pipeline.reach());
        let shipper = Shipper {
            pipeline,
            sink: Box::new(Stuck { world, was_asked: false }),
            assembler,
            batch: Vec::new(),
            is_at_end: false,
            over_at: None,
            dropped: 0,
        };
        let limit = Duration::from_millis(REMOTE_LINGER_MS);
        tokio::time::timeout(limit, shipper.run()).await.unwrap();
        assert!(!dir.path().join("0").exists(), "nothing is left behind");
    }

    /// Has ended, and says so after it was asked for the first time.
    struct Ended {
        world: Arc<World>,
        said: tokio::sync::watch::Sender<bool>,
    }

    impl Sink for Ended {
        fn send<'a>(&'a mut self, _: &'a [LogEvent]) -> BoxFuture<'a, Result<(), SinkError>> {
            self.world.is_over.store(true, Ordering::SeqCst);
            self.said.send_replace(true);
            let why = io::Error::from(io::ErrorKind::ConnectionRefused);
            Box::pin(async { Err(SinkError::Unreachable { address: "router".into(), why }) })
        }

        fn check(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_router_that_has_ended() {
        let (dir, world) = (tempfile::tempdir().unwrap(), Arc::new(World::default()));
        let output = Endless { world: Arc::clone(&world), bytes: 9, is_partial: false, number: 0 };
        let mut pipeline = pipeline(dir.path(), 0, Box::new(output));
        let said = tokio::sync::watch::Sender::new(false);
        pipeline.sink_gone = said.subscribe();
        let assembler = Assembler::new(None, pipeline.reach());
        let shipper = Shipper {
            pipeline,
            sink: Box::new(Ended { world, said }),
            assembler,
            batch: Vec::new(),
            is_at_end: false,
            over_at: None,
            dropped: 0,
        };
        // The clock stands still for as long as anybody has something to do.
        let limit = Duration::from_millis(REMOTE_RETRY_MS_MIN / 2);
        tokio::time::timeout(limit, shipper.run()).await.unwrap();
        assert!(!dir.path().join("0").exists(), "nothing is left behind");
    }
}
