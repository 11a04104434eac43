//! Runs that print without end, and a region that does not take it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use longshore_types::{PutToken, Steps, SystemClock, Timestamp};
use tokio::sync::{Semaphore, watch};

use super::budget::{Budget, OWN_BYTES_MAX, SEAT_BYTES_MAX, SEATS_MAX};
use super::options::tests::log;
use super::{
    LogEvent, LogService, LogServiceError, LogTarget, NoteFile, Pipeline, Progress, Shipped,
    awslogs,
};
use crate::fakes::position;
use crate::ports::{Output, OutputItem, Piece, Position, StdStream};
use acs::RoleCredentials;

const PIECE_BYTES: usize = 60 << 10;

/// What went through, and what stands.
#[derive(Debug, Default)]
pub(super) struct World {
    read: AtomicUsize,
    put: AtomicUsize,
    pub(super) is_over: AtomicBool,
    lines: std::sync::Mutex<Vec<String>>,
}

/// Prints the same piece until the world is over.
pub(super) struct Endless {
    pub(super) world: Arc<World>,
    pub(super) bytes: usize,
    pub(super) is_partial: bool,
    pub(super) number: u64,
}

impl Output for Endless {
    fn next(&mut self) -> BoxFuture<'_, io::Result<OutputItem>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.world.is_over.load(Ordering::SeqCst) {
                return Ok(OutputItem::End);
            }
            self.number += 1;
            self.world.read.fetch_add(self.bytes, Ordering::SeqCst);
            Ok(OutputItem::Piece(Piece {
                at: Timestamp(1),
                stream: StdStream::Stdout,
                is_partial: self.is_partial,
                bytes: vec![b'x'; self.bytes],
                next: position(self.number),
            }))
        })
    }

    fn acknowledge(&mut self, _position: Position) {}
}

/// Takes what it is given while its gate is open.
#[derive(Debug)]
struct Gated {
    world: Arc<World>,
    gate: Semaphore,
}

impl LogService for Gated {
    fn create_group(
        &self,
        _: LogTarget,
        _: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>> {
        Box::pin(async { Ok(()) })
    }

    fn create_stream(
        &self,
        _: LogTarget,
        _: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>> {
        Box::pin(async { Ok(()) })
    }

    fn put(
        &self,
        _: LogTarget,
        _: Option<RoleCredentials>,
        _: PutToken,
        events: Arc<Vec<LogEvent>>,
    ) -> BoxFuture<'_, Result<u64, LogServiceError>> {
        Box::pin(async move {
            let _open = self.gate.acquire().await;
            let bytes: usize = events.iter().map(|event| event.text.len()).sum();
            self.world.put.fetch_add(bytes, Ordering::SeqCst);
            let long = events.iter().filter(|event| event.text.len() > PIECE_BYTES);
            self.world.lines.lock().unwrap().extend(long.map(|event| event.text.clone()));
            Ok(0)
        })
    }
}

pub(super) fn pipeline(dir: &std::path::Path, number: usize, output: Box<dyn Output>) -> Pipeline {
    let spool = dir.join(number.to_string());
    std::fs::create_dir_all(&spool).unwrap();
    Pipeline {
        log: log(&[("awslogs-group", "g")]),
        output,
        shipped: Shipped::default(),
        note: NoteFile { path: spool.with_extension("json"), spool, steps: Steps::default() },
        progress: watch::channel(Progress::default()).0,
        is_over: Arc::default(),
        sink_gone: watch::channel(false).1,
        clock: Arc::new(SystemClock),
    }
}

/// Once everybody waits, on the region or for room.
async fn until_nobody_reads(world: &World) {
    let mut before = 0;
    for _ in 0..150 {
        let now = world.read.load(Ordering::SeqCst);
        if now == before && 0 < now {
            return;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("they read on and on: {before} bytes");
}

#[tokio::test]
async fn loud_runs_hold_a_bounded_amount_together_and_give_it_back() {
    const RUNS: usize = 60;
    for (bytes, is_partial) in [(3, false), (400, false), (PIECE_BYTES, false), (PIECE_BYTES, true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let world = Arc::new(World::default());
        let service = Arc::new(Gated { world: Arc::clone(&world), gate: Semaphore::new(0) });
        let budget = Budget::default();
        let runs: Vec<_> = (0..RUNS)
            .map(|number| {
                let output = Endless { world: Arc::clone(&world), bytes, is_partial, number: 0 };
                let pipeline = pipeline(dir.path(), number, Box::new(output));
                let service = Arc::clone(&service) as Arc<dyn LogService>;
                tokio::spawn(awslogs::ship(pipeline, service, None, budget.clone()))
            })
            .collect();
        until_nobody_reads(&world).await;
        let out = world.read.load(Ordering::SeqCst) - world.put.load(Ordering::SeqCst);
        let piece = 2 * PIECE_BYTES;
        let max = RUNS * (OWN_BYTES_MAX + piece) + SEATS_MAX * (SEAT_BYTES_MAX + piece);
        assert!(out <= max, "{bytes} bytes: {out} of {max} are in memory");
        assert!(budget.held() <= max, "{bytes} bytes: {} of {max} are held", budget.held());
        assert!(out <= budget.held() && 0 < out, "{bytes} bytes: {out} {}", budget.held());
        world.is_over.store(true, Ordering::SeqCst);
        service.gate.add_permits(RUNS);
        for run in runs {
            run.await.unwrap();
        }
        assert_eq!(budget.held(), 0);
        assert_eq!(world.read.load(Ordering::SeqCst), world.put.load(Ordering::SeqCst));
    }
}

/// A line in pieces, and the end.
struct Line {
    left: usize,
    number: u64,
}

impl Output for Line {
    fn next(&mut self) -> BoxFuture<'_, io::Result<OutputItem>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.left == 0 {
                return Ok(OutputItem::End);
            }
            self.left -= 1;
            self.number += 1;
            Ok(OutputItem::Piece(Piece {
                at: Timestamp(1),
                stream: StdStream::Stdout,
                is_partial: self.left > 0,
                bytes: vec![b'x'; PIECE_BYTES],
                next: position(self.number),
            }))
        })
    }

    fn acknowledge(&mut self, _position: Position) {}
}

#[tokio::test]
async fn long_lines_take_turns_and_all_arrive_whole() {
    const RUNS: usize = 5 * SEATS_MAX;
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let service = Arc::new(Gated { world: Arc::clone(&world), gate: Semaphore::new(1) });
    let budget = Budget::default();
    let runs: Vec<_> = (0..RUNS)
        .map(|number| {
            let pipeline = pipeline(dir.path(), number, Box::new(Line { left: 4, number: 0 }));
            let service = Arc::clone(&service) as Arc<dyn LogService>;
            tokio::spawn(awslogs::ship(pipeline, service, None, budget.clone()))
        })
        .collect();
    for run in runs {
        run.await.unwrap();
    }
    let lines = world.lines.lock().unwrap();
    assert_eq!(lines.len(), RUNS);
    assert!(lines.iter().all(|line| line.len() == 4 * PIECE_BYTES));
    assert_eq!(budget.held(), 0);
}
