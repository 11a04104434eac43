//! The awslogs driver: output as events in CloudWatch Logs, live, in order and complete.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use longshore_types::Chain;
use tokio::time::Instant;
use tracing::{error, warn};

use super::batch::{self, Queue};
use super::budget::{Budget, Share};
use super::lines::{Assembler, LogEvent};
use super::options::AwslogsOptions;
use super::{LogService, LogServiceError, Pipeline};
use crate::engine::Held;
use crate::seams::OutputItem;

/// A first event waits this long for company.
const FLUSH_MS: u64 = 100;
/// Credentials that ended are replaced once the region is heard again.
const EXPIRED: &str = "ExpiredTokenException";
const RETRY_MS_MIN: u64 = 100;
const RETRY_MS_MAX: u64 = 5_000;

type Sent = (Arc<Vec<LogEvent>>, Result<u64, LogServiceError>);
type Sending = BoxFuture<'static, Sent>;

struct Shipper {
    pipeline: Pipeline,
    service: Arc<dyn LogService>,
    /// Whose credentials are used; the host's own if nobody's.
    writer: Option<Arc<Held>>,
    options: AwslogsOptions,
    assembler: Assembler,
    queue: Queue,
    share: Share,
    /// What the batch takes that is being sent.
    sending_cost: usize,
    /// When what is in the queue is to go.
    flush_at: Option<Instant>,
    dropped: u64,
}

pub(super) async fn ship(
    pipeline: Pipeline,
    service: Arc<dyn LogService>,
    writer: Option<Held>,
    budget: Budget,
) {
    let options = match AwslogsOptions::read(&pipeline.log) {
        Ok(options) => options,
        Err(why) => {
            error!(run = pipeline.log.id, why, "log options unusable");
            pipeline.finish();
            return;
        }
    };
    let assembler = Assembler::new(options.event_start.clone(), pipeline.position);
    Shipper {
        pipeline,
        service,
        writer: writer.map(Arc::new),
        options,
        assembler,
        queue: Queue::default(),
        share: budget.join(),
        sending_cost: 0,
        flush_at: None,
        dropped: 0,
    }
    .run()
    .await;
}

impl Shipper {
    async fn run(mut self) {
        let mut sending: Option<Sending> = None;
        let mut is_over = false;
        loop {
            self.share.hold(self.held());
            let is_due = is_over
                || self.share.is_crowded()
                || self.queue.is_full()
                || self.flush_at.is_some_and(|at| at <= Instant::now());
            if sending.is_none() && is_due && !self.queue.is_empty() {
                sending = Some(self.send());
            }
            if is_over && sending.is_none() && self.queue.is_empty() {
                break;
            }
            let may_read = !is_over && self.share.has_room();
            // A line that is longer than what everybody has: nothing can be sent before it goes on.
            let needs_seat = self.share.is_crowded() && sending.is_none() && self.queue.is_empty();
            let wake_at = self.wake_at(sending.is_some());
            tokio::select! {
                item = self.pipeline.output.next(), if may_read => match item {
                    Ok(item) => is_over = self.read(item),
                    Err(error) => {
                        warn!(run = self.pipeline.log.id, error = %error, "output unreadable");
                        is_over = true;
                    }
                },
                sent = async { sending.as_mut().expect("guarded").await }, if sending.is_some() => {
                    sending = None;
                    self.sent(sent);
                }
                () = self.share.take_seat(), if needs_seat => {}
                () = sleep_until(wake_at) => self.close_waiting_event(),
            }
        }
        if self.dropped > 0 {
            warn!(run = self.pipeline.log.id, events = self.dropped, "log events dropped");
        }
        self.pipeline.finish();
    }

    fn held(&self) -> usize {
        self.queue.cost() + self.sending_cost + self.assembler.pending_bytes()
    }

    /// Takes in one item; true at the end.
    fn read(&mut self, item: OutputItem) -> bool {
        let is_over = match item {
            OutputItem::Piece(piece) => {
                self.assembler.take(piece);
                false
            }
            OutputItem::Lost { bytes } => {
                warn!(
                    run = self.pipeline.log.id,
                    bytes, "output lost: it came faster than it went"
                );
                false
            }
            OutputItem::End => {
                self.assembler.close();
                true
            }
        };
        self.collect();
        is_over
    }

    fn collect(&mut self) {
        while let Some(event) = self.assembler.next() {
            self.pipeline.saw(event.text.lines().last().unwrap_or_default());
            if self.queue.is_empty() {
                self.flush_at = Some(Instant::now() + Duration::from_millis(FLUSH_MS));
            }
            self.queue.push(event);
        }
    }

    fn wake_at(&self, is_sending: bool) -> Option<Instant> {
        let now = self.pipeline.clock.now();
        let event = self.assembler.waiting_since().map(|since| {
            let left = self.options.force_flush_ms.saturating_sub(now.since_ms(since));
            Instant::now() + Duration::from_millis(left)
        });
        let flush = self.flush_at.filter(|_| !is_sending);
        [event, flush].into_iter().flatten().min()
    }

    fn close_waiting_event(&mut self) {
        let now = self.pipeline.clock.now();
        let is_old = |since| self.options.force_flush_ms <= now.since_ms(since);
        if self.assembler.waiting_since().is_some_and(is_old) {
            self.assembler.close_event();
            self.collect();
        }
    }

    /// Sends the next batch for as long as it takes, unless the service will never have it.
    fn send(&mut self) -> Sending {
        let batch = Arc::new(self.queue.batch());
        self.sending_cost = batch.iter().map(batch::cost).sum();
        self.flush_at = (!self.queue.is_empty()).then(Instant::now);
        let (service, writer) = (Arc::clone(&self.service), self.writer.clone());
        let target = self.options.target.clone();
        Box::pin(async move {
            let mut wait_ms = RETRY_MS_MIN;
            loop {
                // Asked anew each time: the region replaces them while we run.
                let role = match &writer {
                    Some(writer) => Some(writer.execution().await),
                    None => None,
                };
                let is_lent = role.is_some();
                match service.put(target.clone(), role, Arc::clone(&batch)).await {
                    Err(error) if error.is_transient || is_lent && error.code == EXPIRED => {
                        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                        wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
                    }
                    result => return (batch, result),
                }
            }
        })
    }

    fn sent(&mut self, (batch, result): Sent) {
        self.sending_cost = 0;
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        match result {
            Ok(refused) => self.dropped += refused,
            Err(error) => {
                warn!(run = self.pipeline.log.id, error = %Chain(&error), "log events refused");
                self.dropped += count;
            }
        }
        if let Some(position) = batch.iter().map(|event| event.position).max() {
            self.pipeline.settled(position);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
