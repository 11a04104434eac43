//! The awslogs driver: output as events in CloudWatch Logs, live, in order and complete.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use longshore_types::{Chain, PutToken};
use tokio::time::Instant;
use tracing::{error, warn};

use super::batch::{self, Queue};
use super::budget::{Budget, Share};
use super::lines::{Assembler, Reach};
use super::options::AwslogsOptions;
use super::{LogService, LogServiceError, Pipeline};
use crate::engine::Held;
use crate::ports::OutputItem;

/// A first event waits this long for company.
const FLUSH_MS: u64 = 100;
/// Credentials that ended are replaced once the region is heard again.
const EXPIRED: &str = "ExpiredTokenException";
const RETRY_MS_MIN: u64 = 100;
const RETRY_MS_MAX: u64 = 5_000;

type Sending = BoxFuture<'static, Sent>;

#[derive(Debug)]
struct Sent {
    events: u64,
    reach: Reach,
    result: Result<u64, LogServiceError>,
}

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
    /// Up to here an earlier agent put, and did not live to hear whether it was taken: the very same is
    /// put together again before anything else is.
    in_doubt: Option<Reach>,
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
            error!(run = pipeline.log.id, error = %Chain(&why), "log options unusable");
            pipeline.finish();
            return;
        }
    };
    let assembler = Assembler::new(options.event_start.clone(), pipeline.reach());
    let in_doubt = pipeline.shipped.sending;
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
        in_doubt,
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
            let is_due = is_due && self.in_doubt.is_none();
            if sending.is_none() && is_due && !self.queue.is_empty() {
                sending = Some(self.send());
            }
            if is_over && sending.is_none() && self.queue.is_empty() {
                break;
            }
            let may_read = !is_over && self.share.has_room();
            // A line that is longer than what everybody has, or a put that is to be put together again:
            // nothing can be sent before it goes on.
            let needs_seat = self.share.is_crowded()
                && sending.is_none()
                && (self.queue.is_empty() || self.in_doubt.is_some());
            let wake_at = self.wake_at(sending.is_some());
            tokio::select! {
                item = self.pipeline.output.next(), if may_read => match item {
                    Ok(item) => is_over = self.read(item),
                    Err(error) => {
                        warn!(run = self.pipeline.log.id, error = %error, "output unreadable");
                        self.in_doubt = None;
                        is_over = true;
                    }
                },
                sent = async { sending.as_mut().expect("guarded").await }, if sending.is_some() => {
                    sending = None;
                    self.sent(&sent);
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
                // What was put cannot be put together any more.
                self.in_doubt = None;
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
        if let Some(reach) =
            self.in_doubt.filter(|reach| is_over || reach.last() <= self.assembler.position())
        {
            self.in_doubt = None;
            self.assembler.close_before(reach);
            self.collect();
            self.flush_at = (!self.queue.is_empty()).then(Instant::now);
        }
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
        let waiting = self.assembler.waiting_since().filter(|_| self.in_doubt.is_none());
        let event = waiting.map(|since| {
            let left = self.options.force_flush_ms.saturating_sub(now.since_ms(since));
            Instant::now() + Duration::from_millis(left)
        });
        let flush = self.flush_at.filter(|_| !is_sending && self.in_doubt.is_none());
        [event, flush].into_iter().flatten().min()
    }

    fn close_waiting_event(&mut self) {
        let now = self.pipeline.clock.now();
        let is_old = |since| self.options.force_flush_ms <= now.since_ms(since);
        if self.in_doubt.is_none() && self.assembler.waiting_since().is_some_and(is_old) {
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
        let reach = batch.iter().fold(self.pipeline.reach(), |reach, event| reach.max(event.reach));
        // Before it goes out: whoever comes after us knows what may have been taken.
        let number = self.pipeline.sends(reach);
        let token = PutToken::of(&self.pipeline.log.id, number);
        let events = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        Box::pin(async move {
            let mut wait_ms = RETRY_MS_MIN;
            loop {
                // Asked anew each time: the region replaces them while we run.
                let role = match &writer {
                    Some(writer) => Some(writer.execution().await),
                    None => None,
                };
                let is_lent = role.is_some();
                match service.put(target.clone(), role, token, Arc::clone(&batch)).await {
                    Err(error) if error.is_transient || is_lent && error.code == EXPIRED => {
                        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                        wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
                    }
                    result => return Sent { events, reach, result },
                }
            }
        })
    }

    fn sent(&mut self, sent: &Sent) {
        self.sending_cost = 0;
        match &sent.result {
            Ok(refused) => self.dropped += refused,
            Err(error) => {
                warn!(run = self.pipeline.log.id, error = %Chain(error), "log events refused");
                self.dropped += sent.events;
            }
        }
        self.pipeline.settled(sent.reach);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
