//! What containers print, and who keeps their pipes open.

use sandbox::{GroupLimits, LogItem, LogSink, PidMode, Position, Stream};

use crate::world::{SOON, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_comes_whole_in_order_and_by_stream() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let id = world
        .start(
            world.shell("for i in $(seq 1 3000); do echo line $i; done; printf half; echo e >&2"),
        )
        .await;
    let lines = world.lines(&id).await;
    let out: Vec<&str> = lines
        .iter()
        .filter(|(stream, line)| *stream == Stream::Stdout && line.starts_with("line"))
        .map(|(_, line)| line.as_str())
        .collect();
    assert_eq!(out.len(), 3000);
    assert_eq!((out[0], out[2999]), ("line 1", "line 3000"));
    assert!(lines.iter().any(|(_, line)| line.contains("half")), "the last line has no end");
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_where_another_stopped_and_frees_what_it_shipped() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell("for i in $(seq 1 20000); do echo line number $i; done");
    let spool = world.spool(&spec.id);
    spec.log = LogSink::Spool {
        dir: spool.clone(),
        segment_bytes_max: 64 << 10,
        total_bytes_max: 64 << 20,
    };
    let id = world.start(spec).await;
    let mut position = Position::default();
    let mut seen = 0_u32;
    let mut half = String::new();
    'all: loop {
        let mut reader = world.sandboxes.logs(&spool, position).unwrap();
        for _ in 0..997 {
            match tokio::time::timeout(SOON, reader.next()).await.unwrap().unwrap() {
                LogItem::Record(record) => {
                    half.push_str(std::str::from_utf8(&record.bytes).unwrap());
                    if !record.partial {
                        seen += 1;
                        assert_eq!(std::mem::take(&mut half), format!("line number {seen}"));
                    }
                }
                LogItem::Dropped { bytes } => panic!("{bytes} dropped"),
                LogItem::End => break 'all,
            }
        }
        position = reader.position();
        reader.acknowledge(position).unwrap();
    }
    assert_eq!(seen, 20_000);
    let left = std::fs::read_dir(&spool).unwrap().count();
    assert!(left <= 3, "{left} segments are left after all were shipped");
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_whose_output_nobody_reads_is_not_held_up() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell("yes | head -c 3000000; echo; echo last");
    let spool = world.spool(&spec.id);
    spec.log = LogSink::Spool {
        dir: spool.clone(),
        segment_bytes_max: 64 << 10,
        total_bytes_max: 256 << 10,
    };
    let id = world.start(spec).await;
    assert_eq!(world.wait(&id).await.code, 0);
    let mut reader = world.sandboxes.logs(&spool, Position::default()).unwrap();
    let (mut dropped, mut kept, mut last) = (0, 0, Vec::new());
    loop {
        match tokio::time::timeout(SOON, reader.next()).await.unwrap().unwrap() {
            LogItem::Record(record) => {
                kept += record.bytes.len() as u64 + 1;
                last = record.bytes;
            }
            LogItem::Dropped { bytes } => dropped += bytes,
            LogItem::End => break,
        }
    }
    assert_eq!(last, b"last", "the newest is what is kept");
    assert!(kept <= 256 << 10, "{kept} bytes kept");
    assert!(dropped + kept >= 3_000_000, "{dropped} and {kept} are not all");
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_whose_output_nobody_wants_can_still_write() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell("echo to nobody && echo to nobody >&2");
    spec.log = LogSink::Discard;
    let id = world.start(spec).await;
    assert_eq!(world.wait(&id).await.code, 0);
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_the_output_open_holds_up_nobody() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    // In the host's pid namespace a grandchild survives its parents.
    let mut spec = world.shell("sh -c 'setsid sleep 1000' & sleep 0.1; echo done; exit 3");
    spec.pid = PidMode::Host;
    let id = world.start(spec).await;
    assert_eq!(world.wait(&id).await.code, 3);
    assert_eq!(world.printed(&id).await, "done");
    world.sandboxes.delete(&id).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_a_terminal() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell("test -t 0 && test -t 1 && tty && echo $TERM");
    spec.tty = true;
    let (exit, printed) = world.run(spec).await;
    assert_eq!(exit.code, 0, "{printed}");
    let lines: Vec<&str> = printed.lines().map(|line| line.trim_end_matches('\r')).collect();
    assert_eq!(lines[1], "xterm", "{printed:?}");
    world.close().await;
}
