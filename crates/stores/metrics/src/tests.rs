use longshore_types::SeededEnv;
use tempfile::TempDir;

use super::*;

/// A full hour.
const NOW: u64 = 1_700_002_800;

struct World {
    dir: TempDir,
    env: Arc<SeededEnv>,
    metrics: Metrics,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = Arc::new(SeededEnv::from_seed(3));
        env.advance_ms(NOW * 1_000 - env.now().0);
        let metrics = Metrics::open(dir.path(), env.clone()).unwrap();
        Self { dir, env, metrics }
    }

    fn reopen(&mut self) {
        // The old one is let go of as if it had been killed: nothing is written as it goes.
        self.metrics = Metrics::open(self.dir.path(), self.env.clone()).unwrap();
    }

    fn checkpoint(&self) -> io::Result<()> {
        self.metrics.checkpoint(&mut self.metrics.disk())
    }

    /// The one journal.
    fn journal(&self) -> std::path::PathBuf {
        let paths = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> =
            paths.filter(|path| path.to_string_lossy().contains("journal-")).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn put(&self, name: &str, at_s: u64, value: f64) {
        self.metrics.put(vec![datum(name, at_s, value)]).unwrap();
    }

    fn sums(&self, name: &str, start_s: u64, period_s: u32, count: usize) -> Vec<Option<f64>> {
        let start = Timestamp(start_s * 1_000);
        let read = self.metrics.read(&metric(name), None, (start, period_s), count);
        read.into_iter().map(|it| it.map(|it| it.sum)).collect()
    }
}

fn metric(name: &str) -> MetricId {
    MetricId {
        account: "000000000000".parse().unwrap(),
        namespace: "App".to_owned(),
        name: name.to_owned(),
        dimensions: BTreeMap::new(),
    }
}

fn datum(name: &str, at_s: u64, value: f64) -> Datum {
    Datum {
        metric: metric(name),
        unit: "None".to_owned(),
        at: Timestamp(at_s * 1_000),
        set: StatisticSet::one(value),
        is_fine: false,
    }
}

#[test]
fn samples_of_a_period_are_put_together_and_holes_stay() {
    let world = World::new();
    for (at, value) in [(NOW - 300, 1.0), (NOW - 290, 2.0), (NOW - 120, 4.0), (NOW - 300, 8.0)] {
        world.put("a", at, value);
    }
    assert_eq!(
        world.sums("a", NOW - 300, 60, 5),
        [Some(11.0), None, None, Some(4.0), None],
        "by the minute"
    );
    assert_eq!(world.sums("a", NOW - 300, 300, 1), [Some(15.0)]);
    assert_eq!(world.sums("a", NOW - 240, 60, 2), [None, None]);
    assert_eq!(world.sums("b", NOW - 300, 60, 1), [None], "another metric");
    assert_eq!(world.sums("a", NOW - 300, 10, 2), [None, None], "not by the second");
}

#[test]
fn what_is_put_by_the_second_is_read_by_the_second() {
    let world = World::new();
    let fine = Datum { is_fine: true, ..datum("a", NOW - 15, 3.0) };
    world
        .metrics
        .put(vec![fine.clone(), Datum { at: Timestamp((NOW - 4) * 1_000), ..fine }])
        .unwrap();
    assert_eq!(world.sums("a", NOW - 20, 10, 2), [Some(3.0), Some(3.0)]);
    assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(6.0)]);
}

#[test]
fn units_are_kept_apart_and_read_together_unless_one_is_named() {
    let world = World::new();
    world.put("a", NOW - 60, 1.0);
    world
        .metrics
        .put(vec![Datum { unit: "Count".to_owned(), ..datum("a", NOW - 60, 2.0) }])
        .unwrap();
    assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(3.0)]);
    let start = (Timestamp((NOW - 60) * 1_000), 60);
    let read = world.metrics.read(&metric("a"), Some("Count"), start, 1);
    assert_eq!(read[0].unwrap().sum, 2.0);
    assert_eq!(world.metrics.units(&metric("a")), ["Count", "None"]);
}

#[test]
fn a_killed_store_has_what_was_put_once_from_journal_and_snapshot_alike() {
    let mut world = World::new();
    world.put("a", NOW - 120, 1.0);
    world.reopen();
    world.put("a", NOW - 120, 2.0);
    world.checkpoint().unwrap();
    world.put("a", NOW - 60, 4.0);
    world.reopen();
    world.reopen();
    assert_eq!(world.sums("a", NOW - 120, 60, 2), [Some(3.0), Some(4.0)]);
    // A record that was being written as the machine went down.
    let journal = world.journal();
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend_from_slice(&[200, 0, 0, 0, 1, 2, 3]);
    files::whole::write(&journal, &bytes, files::whole::Durability::Synced).unwrap();
    world.reopen();
    world.put("a", NOW - 60, 8.0);
    world.reopen();
    assert_eq!(world.sums("a", NOW - 120, 60, 2), [Some(3.0), Some(12.0)]);
}

#[test]
fn what_could_not_be_read_again_is_not_written_and_cuts_nothing_off() {
    let mut world = World::new();
    world.put("a", NOW - 60, 1.0);
    let endless = |name: &str| {
        let mut datum = datum(name, NOW - 60, 1.0);
        datum.set.sum = f64::INFINITY;
        datum
    };
    assert!(matches!(world.metrics.put(vec![endless("b")]), Err(PutError::NotANumber)));
    // Of what comes by itself the rest is taken.
    world.metrics.note(vec![endless("b"), datum("c", NOW - 60, 4.0)]).unwrap();
    // Each byte of it is six in the journal.
    let mut long = datum("d", NOW - 60, 1.0);
    long.metric.dimensions.insert("d".to_owned(), "\u{1}".repeat(2 << 20));
    assert!(matches!(world.metrics.put(vec![long]), Err(PutError::TooLong)));
    world.put("a", NOW - 60, 8.0);
    world.reopen();
    assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(9.0)]);
    assert_eq!(world.sums("b", NOW - 60, 60, 1), [None]);
    assert_eq!(world.sums("c", NOW - 60, 60, 1), [Some(4.0)]);
}

#[test]
fn a_whole_record_that_cannot_be_read_is_passed_over() {
    let mut world = World::new();
    world.put("a", NOW - 60, 1.0);
    let path = world.journal();
    let mut bytes = std::fs::read(&path).unwrap();
    let body = br#"[{"set":null}]"#;
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(body);
    let before = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(&before);
    files::whole::write(&path, &bytes, files::whole::Durability::Synced).unwrap();
    world.reopen();
    world.put("a", NOW - 60, 4.0);
    world.reopen();
    assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(6.0)], "what came after it is there");
}

#[test]
fn a_checkpoint_whose_journal_cannot_be_begun_loses_nothing() {
    let mut world = World::new();
    world.put("a", NOW - 60, 1.0);
    let in_its_way = world.dir.path().join("journal-000000000001");
    std::fs::create_dir(&in_its_way).unwrap();
    world.checkpoint().unwrap_err();
    world.put("a", NOW - 60, 2.0);
    std::fs::remove_dir(&in_its_way).unwrap();
    world.reopen();
    assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(3.0)]);
    world.checkpoint().unwrap();
    world.reopen();
    assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(3.0)]);
}

#[test]
fn nothing_is_put_while_it_is_not_known_which_snapshot_is_there() {
    let mut world = World::new();
    world.put("a", NOW - 60, 1.0);
    let in_its_way = world.dir.path().join("snapshot");
    std::fs::create_dir(&in_its_way).unwrap();
    world.checkpoint().unwrap_err();
    let refused = world.metrics.put(vec![datum("a", NOW - 60, 2.0)]);
    assert!(matches!(refused, Err(PutError::Disk(_))), "{refused:?}");
    std::fs::remove_dir(&in_its_way).unwrap();
    // It is repeated however short the journal is.
    world.metrics.tidy().unwrap();
    world.put("a", NOW - 60, 4.0);
    world.reopen();
    assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(5.0)]);
}

#[test]
fn who_reads_does_not_wait_for_who_waits_for_the_disk() {
    let world = World::new();
    world.put("a", NOW - 60, 1.0);
    let disk = world.metrics.disk();
    assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(1.0)]);
    assert_eq!(world.metrics.units(&metric("a")), ["None"]);
    assert_eq!(world.metrics.list(metric("a").account, None, 9, |_| true, None).len(), 1);
    drop(disk);
}

#[test]
fn a_checkpoint_has_every_series_however_many_it_takes_at_once() {
    let mut world = World::new();
    let count = limits::ENCODED_AT_ONCE * 2 + 1;
    let data = (0..count).map(|number| datum(&format!("m{number}"), NOW, 1.0));
    world.metrics.put(data.collect()).unwrap();
    world.checkpoint().unwrap();
    world.reopen();
    let account = metric("a").account;
    assert_eq!(world.metrics.list(account, None, usize::MAX, |_| true, None).len(), count);
    assert_eq!(std::fs::metadata(world.journal()).unwrap().len(), 0);
}

#[test]
fn a_snapshot_that_is_not_whole_is_set_aside_and_what_came_after_it_is_there() {
    let mut world = World::new();
    world.put("a", NOW - 120, 1.0);
    world.checkpoint().unwrap();
    world.put("a", NOW - 60, 2.0);
    let path = world.dir.path().join("snapshot");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    files::whole::write(&path, &bytes, files::whole::Durability::Synced).unwrap();
    world.reopen();
    assert_eq!(world.sums("a", NOW - 120, 60, 2), [None, Some(2.0)]);
    assert!(world.dir.path().join("snapshot.bad").exists());
    // It goes on as any other.
    world.put("a", NOW - 60, 4.0);
    world.reopen();
    assert_eq!(world.sums("a", NOW - 120, 60, 2), [None, Some(6.0)]);
    world.checkpoint().unwrap();
    world.put("a", NOW - 60, 8.0);
    world.reopen();
    assert_eq!(world.sums("a", NOW - 120, 60, 2), [None, Some(14.0)]);
    // A journal that was begun and whose snapshot was not written is nobody's.
    let next = world.dir.path().join("journal-000000000003");
    files::whole::write(&next, b"", files::whole::Durability::Synced).unwrap();
    world.reopen();
    assert_eq!(world.sums("a", NOW - 120, 60, 2), [None, Some(14.0)]);
    world.journal();
}

#[test]
fn older_samples_are_kept_by_longer_slots_and_forgotten_at_last() {
    let world = World::new();
    world.put("a", NOW - 60, 1.0);
    world.put("a", NOW, 2.0);
    world.env.advance_ms(5 * 86_400_000);
    world.metrics.tidy().unwrap();
    let hour = NOW / 3_600 * 3_600;
    assert_eq!(world.sums("a", NOW - 60, 60, 2), [None, None], "no minutes of before two days");
    assert_eq!(world.sums("a", hour - 300, 300, 2), [Some(1.0), Some(2.0)]);
    world.env.advance_ms(20 * 86_400_000);
    world.metrics.tidy().unwrap();
    assert_eq!(world.sums("a", hour - 300, 300, 2), [None, None]);
    assert_eq!(world.sums("a", hour - 3_600, 3_600, 2), [Some(1.0), Some(2.0)]);
    let any = |_: &MetricId| true;
    let account = metric("a").account;
    assert!(world.metrics.list(account, None, 10, any, None).is_empty(), "not of late");
    world.env.advance_ms(60 * 86_400_000);
    world.metrics.tidy().unwrap();
    assert!(world.metrics.units(&metric("a")).is_empty());
}

#[test]
fn metrics_are_listed_in_order_page_by_page() {
    let world = World::new();
    for name in ["c", "a", "b"] {
        world.put(name, NOW - 10, 1.0);
    }
    let account = metric("a").account;
    let names = |after: Option<&MetricId>, count| -> Vec<String> {
        let found = world.metrics.list(account, after, count, |it| it.name != "b", None);
        found.into_iter().map(|it| it.name).collect()
    };
    assert_eq!(names(None, 10), ["a", "c"]);
    assert_eq!(names(None, 1), ["a"]);
    assert_eq!(names(Some(&metric("a")), 10), ["c"]);
    let others = "111111111111".parse().unwrap();
    assert!(world.metrics.list(others, None, 10, |_| true, None).is_empty());
}

#[test]
fn an_account_with_all_metrics_that_it_may_have_is_refused_more_and_may_go_on_with_those() {
    let world = World::new();
    let names: Vec<String> = (0..SERIES_MAX).map(|number| format!("m{number}")).collect();
    for part in names.chunks(1_000) {
        world.metrics.note(part.iter().map(|name| datum(name, NOW, 1.0)).collect()).unwrap();
    }
    assert!(matches!(world.metrics.put(vec![datum("more", NOW, 1.0)]), Err(PutError::TooMany)));
    world.put("m7", NOW, 1.0);
    assert_eq!(world.sums("m7", NOW, 60, 1), [Some(2.0)]);
}

#[test]
fn what_comes_by_itself_is_noted_whatever_an_account_has_put() {
    let world = World::new();
    let names: Vec<String> = (0..SERIES_MAX).map(|number| format!("m{number}")).collect();
    for part in names.chunks(1_000) {
        world.metrics.put(part.iter().map(|name| datum(name, NOW, 1.0)).collect()).unwrap();
    }
    let usage = |account: &str| {
        let mut datum = datum("CPUUtilization", NOW, 7.0);
        datum.metric.namespace = "AWS/ECS".to_owned();
        datum.metric.account = account.parse().unwrap();
        datum
    };
    let (full, other) = (usage("000000000000"), usage("111111111111"));
    world.metrics.note(vec![full.clone(), other.clone()]).unwrap();
    for each in [full, other] {
        let read = world.metrics.read(&each.metric, None, (Timestamp(NOW * 1_000), 60), 1);
        assert_eq!(read[0].map(|set| set.sum), Some(7.0), "{:?}", each.metric.account);
    }
    // Nor does it take anything from what may be put.
    assert!(matches!(world.metrics.put(vec![datum("more", NOW, 1.0)]), Err(PutError::TooMany)));
}

#[test]
fn what_comes_by_itself_at_once_may_be_more_than_a_record_holds() {
    let mut world = World::new();
    let count = 40_000;
    let noted = |number: usize| {
        let mut datum = datum(&format!("m{number}"), NOW, 1.0);
        let value = "v".repeat(200);
        datum.metric.dimensions.insert("TargetGroup".to_owned(), value);
        datum
    };
    world.metrics.note((0..count).map(noted).collect()).unwrap();
    world.reopen();
    let all = world.metrics.all();
    assert_eq!(all.series.len(), count);
}

#[test]
fn more_metrics_than_points_are_not_gone_through_at_each_sample() {
    let mut all = All::default();
    (0..1_000).for_each(|number| all.take(datum(&format!("m{number}"), NOW, 1.0), NOW));
    all.shorten(160, NOW);
    let left = all.points;
    assert!(160 < left, "each metric keeps its last point");
    assert_eq!(all.points_spared, left + 10);
    (0..20).for_each(|number| all.take(datum("more", NOW - number * 60, 1.0), NOW));
    all.shorten(160, NOW);
    assert!(all.points_spared < left + 30, "looked at again once there were more");
    all.forget(NOW + limits::HOURS_KEPT_S + 3_601);
    all.take(datum("a", NOW, 1.0), NOW);
    all.shorten(160, NOW);
    assert_eq!(all.points, all.series.values().map(Series::len).sum::<usize>());
}

#[test]
fn an_account_with_more_points_than_its_share_keeps_fewer_and_others_keep_theirs() {
    let of = |account: &str, name: &str, at_s: u64| {
        let mut datum = Datum { is_fine: true, ..datum(name, at_s, 1.0) };
        datum.metric.account = account.parse().unwrap();
        datum
    };
    let (greedy, modest) = ("000000000000", "111111111111");
    let mut all = All::default();
    // What lies ahead is no older tomorrow, and yet goes.
    for at_s in (0..3_600).map(|second| NOW + 3_600 + second) {
        all.take(of(greedy, "a", at_s), NOW);
        all.take(of(greedy, "b", at_s), NOW);
    }
    for at_s in (0..200).map(|minute| NOW - minute * 60) {
        all.take(of(modest, "a", at_s), NOW);
    }
    let count = |all: &All, account: &str| all.counts[&account.parse().unwrap()].points;
    let its = count(&all, modest);
    assert!(400 < its && its < 500, "{its}");
    all.shorten(2_000, NOW);
    assert_eq!(count(&all, modest), its);
    assert!(count(&all, greedy) + its <= 1_500, "{}", count(&all, greedy));
    assert_eq!(all.points, count(&all, greedy) + its);
    let held: usize = all.series.values().map(Series::len).sum();
    assert_eq!(all.points, held);
    // Nor does it come back to more by what is older.
    all.take(of(greedy, "a", NOW + 3_600), NOW);
    assert!(all.points <= held + 1);
    // As little as there is, the newest stay.
    all.shorten(8, NOW);
    let last = all.of(&of(greedy, "a", 0).metric, None).next().and_then(|(_, it)| it.last_s());
    assert_eq!(last, Some(NOW + 7_199));
}

#[test]
fn what_is_dropped_by_the_minute_is_read_by_longer_slots_also_after_a_restart() {
    let mut world = World::new();
    let start = NOW - 86_400;
    let data = (0..1_440).map(|minute| datum("a", start + minute * 60, 1.0));
    let data: Vec<Datum> = data.collect();
    for part in data.chunks(500) {
        world.metrics.put(part.to_vec()).unwrap();
    }
    {
        let mut all = world.metrics.all();
        let points = all.points;
        all.shorten(points / 2, NOW);
    }
    for is_again in [false, true] {
        assert_eq!(world.sums("a", start, 60, 1), [None], "{is_again}");
        assert_eq!(world.sums("a", NOW - 60, 60, 1), [Some(1.0)]);
        assert_eq!(world.sums("a", start, 86_400, 1), [Some(1_440.0)], "{is_again}");
        let hours = world.sums("a", start, 3_600, 24);
        assert_eq!(hours, vec![Some(60.0); 24], "{is_again}");
        world.checkpoint().unwrap();
        world.reopen();
    }
}

#[test]
fn what_a_clock_dropped_that_was_ahead_does_not_keep_samples_out() {
    let mut series = Series::default();
    let years = 4 * 365 * 86_400;
    for minute in 0..10 {
        series.add(NOW + years + minute * 60, &StatisticSet::one(1.0), false, NOW + years);
    }
    series.cut(limits::SHARE_STEPS, NOW + years + 600);
    series.add(NOW, &StatisticSet::one(2.0), false, NOW);
    let mut out = [None; 1];
    series.read(NOW, 60, NOW, &mut out);
    assert_eq!(out[0].map(|set| set.sum), Some(2.0));
}

#[test]
fn names_of_an_account_have_so_many_bytes_together() {
    let long = |number: usize| {
        let mut datum = datum(&format!("m{number}"), NOW, 1.0);
        datum.metric.dimensions.insert("d".to_owned(), "v".repeat(1 << 20));
        datum
    };
    let mut all = All::default();
    (0..31).for_each(|number| all.take(long(number), NOW));
    all.check(&[long(0), long(0), long(3)]).unwrap();
    assert!(matches!(all.check(&[long(31)]), Err(PutError::TooLongNames)));
    let mut other = long(31);
    other.metric.account = "111111111111".parse().unwrap();
    all.check(&[other]).unwrap();
    // What goes makes room.
    all.forget(NOW + limits::HOURS_KEPT_S + 3_601);
    assert_eq!((all.points, all.counts.len()), (0, 0));
    all.check(&[long(31)]).unwrap();
}
