//! The contract that every store keeps, and what only the durable one can show.
#![allow(clippy::disallowed_methods, reason = "tests write files as they like")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use longshore_types::{AccountId, ClusterName, Timestamp};
use model::{
    AccountSetting, ClientToken, ClientTokenId, Cluster, ClusterStatus, SettingId, SettingPrincipal,
};
use store::{
    Batch, CHANGES_WAITING_MAX, Change, Changed, CommitError, Index, Key, MemoryStore, OpenError,
    Row, Seq, SqliteOptions, SqliteStore, Store,
};

/// Runs `case` on a fresh store of every sort.
async fn on_every_store<F: AsyncFn(Arc<dyn Store>)>(case: F) {
    case(Arc::new(MemoryStore::new())).await;
    let dir = tempfile::tempdir().unwrap();
    case(Arc::new(open(&dir.path().join("region.sqlite")))).await;
}

#[tokio::test]
async fn what_is_committed_is_read() {
    on_every_store(async |store| {
        let seq = store.commit(put(&*store, cluster("a"))).await.unwrap();
        assert_eq!(store.durable().seq, seq);
        assert_eq!(names(&*store), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn the_second_of_two_deciders_must_look_again() {
    on_every_store(async |store| {
        let (first, second) = (put(&*store, cluster("a")), put(&*store, cluster("a")));
        store.commit(first).await.unwrap();
        let error = store.commit(second).await.unwrap_err();
        assert!(matches!(error, CommitError::Stale { .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_decision_that_relied_on_a_changed_row_must_look_again() {
    on_every_store(async |store| {
        let mut batch = put(&*store, cluster("b"));
        batch.rely(key("a"));
        store.commit(put(&*store, cluster("a"))).await.unwrap();
        assert!(store.commit(batch).await.unwrap_err().is_stale());
        assert_eq!(names(&*store), ["a"], "all or nothing");
    })
    .await;
}

#[tokio::test]
async fn a_decision_that_relied_on_a_row_that_is_gone_must_look_again() {
    on_every_store(async |store| {
        store.commit(put(&*store, cluster("a"))).await.unwrap();
        let mut batch = put(&*store, cluster("b"));
        batch.rely(key("a"));
        let mut removal = Batch::on(&store.latest());
        removal.delete(key("a"));
        store.commit(removal).await.unwrap();
        assert!(store.commit(batch).await.unwrap_err().is_stale());
    })
    .await;
}

#[tokio::test]
async fn a_decision_that_relied_on_an_index_that_lost_its_last_row_must_look_again() {
    on_every_store(async |store| {
        let mut batch = Batch::on(&store.latest());
        batch.put(token());
        store.commit(batch).await.unwrap();
        let index = Index::ExpiringTokens(token().expires_at.seconds());
        let mut batch = put(&*store, cluster("b"));
        batch.rely(index.clone());
        let mut removal = Batch::on(&store.latest());
        removal.delete(Row::from(token()).key());
        store.commit(removal).await.unwrap();
        assert_eq!(store.latest().index_count(), 0, "no index without a row");
        let error = store.commit(batch).await.unwrap_err();
        assert!(
            matches!(&error, CommitError::Stale { dep, .. } if *dep == index.clone().into()),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn decisions_about_other_things_do_not_disturb_each_other() {
    on_every_store(async |store| {
        let (a, b) = (put(&*store, cluster("a")), put(&*store, cluster("b")));
        store.commit(a).await.unwrap();
        store.commit(b).await.unwrap();
        assert_eq!(names(&*store), ["a", "b"]);
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_stays_as_it_was() {
    on_every_store(async |store| {
        let before = store.latest();
        store.commit(put(&*store, cluster("a"))).await.unwrap();
        assert_eq!(before.clusters.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_empty_batch_waits_for_what_it_saw() {
    on_every_store(async |store| {
        let pending = store.submit(put(&*store, cluster("a"))).unwrap();
        let nothing = Batch::on(&store.latest());
        let seq = store.commit(nothing).await.unwrap();
        assert!(pending.seq <= seq && seq <= store.durable().seq);
        assert_eq!(names(&*store), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn watchers_are_woken_by_what_is_durable() {
    on_every_store(async |store| {
        let mut watcher = store.subscribe();
        watcher.mark_unchanged();
        let seq = store.commit(put(&*store, cluster("a"))).await.unwrap();
        watcher.changed().await.unwrap();
        assert_eq!(*watcher.borrow(), seq);
    })
    .await;
}

#[tokio::test]
async fn a_watcher_is_told_each_row_that_was_written_or_removed() {
    on_every_store(async |store| {
        store.commit(put(&*store, cluster("before"))).await.unwrap();
        let changes = store.changes();
        assert!(changes.take().is_empty(), "it hears of what comes after it");
        let first = store.commit(put(&*store, cluster("a"))).await.unwrap();
        let mut removal = put(&*store, cluster("b"));
        removal.delete(key("a"));
        let second = store.commit(removal).await.unwrap();

        let mut told = Vec::new();
        while told.len() < 3 {
            match changes.next().await {
                Changed::Rows(rows) => told.extend(rows),
                Changed::Everything => panic!("nothing was undone, and few rows changed"),
            }
        }
        assert_eq!(told[0], Change { seq: first, key: key("a") });
        let rest: BTreeSet<Key> = told[1..].iter().map(|change| change.key.clone()).collect();
        assert_eq!(rest, [key("a"), key("b")].into());
        assert!(told[1..].iter().all(|change| change.seq == second));
        assert_eq!(names(&*store), ["b", "before"]);
        assert!(changes.take().is_empty(), "told once");
    })
    .await;
}

#[tokio::test]
async fn what_a_watcher_is_told_is_durable_already() {
    on_every_store(async |store| {
        let changes = store.changes();
        for n in 0..50 {
            let _pending = store.submit(put(&*store, cluster(&format!("c{n}")))).unwrap();
        }
        let mut told = 0;
        while told < 50 {
            let Changed::Rows(rows) = changes.next().await else { panic!("few rows changed") };
            let durable = store.durable();
            for change in &rows {
                assert!(change.seq <= durable.seq && durable.row(&change.key).is_some());
            }
            told += rows.len();
        }
    })
    .await;
}

#[tokio::test]
async fn a_watcher_that_lags_is_told_to_look_at_everything() {
    on_every_store(async |store| {
        let (lagging, other) = (store.changes(), store.changes());
        let rows = store::BATCH_ROWS_MAX;
        for _ in 0..=CHANGES_WAITING_MAX / rows {
            let mut batch = Batch::on(&store.latest());
            for n in 0..rows {
                batch.put(cluster(&format!("c{n}")));
            }
            store.commit(batch).await.unwrap();
            assert!(matches!(other.take(), Changed::Rows(_)), "others are not concerned");
        }
        assert_eq!(lagging.take(), Changed::Everything);
        store.commit(put(&*store, cluster("a"))).await.unwrap();
        let Changed::Rows(rows) = lagging.next().await else { panic!("it has caught up") };
        assert_eq!(rows.last().map(|change| &change.key), Some(&key("a")));
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_refused_whole() {
    on_every_store(async |store| {
        let mut batch = Batch::on(&store.latest());
        for n in 0..=store::BATCH_ROWS_MAX {
            batch.put(cluster(&format!("c{n}")));
        }
        let error = store.commit(batch).await.unwrap_err();
        assert!(matches!(error, CommitError::TooLarge { .. }), "{error}");
        assert_eq!(store.latest().seq, Seq(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_increments_are_all_counted() {
    on_every_store(async |store| {
        let adders = (0..8).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..50 {
                    increment(&*store).await;
                }
            })
        });
        for adder in adders.collect::<Vec<_>>() {
            adder.await.unwrap();
        }
        assert_eq!(counter(&store.durable()), 400);
    })
    .await;
}

#[tokio::test]
async fn a_reopened_file_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.sqlite");
    let seq = {
        let store = open(&path);
        store.commit(put(&store, cluster("a"))).await.unwrap();
        store.commit(put(&store, cluster("b"))).await.unwrap();
        let mut removal = Batch::on(&store.latest());
        removal.delete(key("a"));
        removal.put(Cluster { created_at: Timestamp(7), ..cluster("b") });
        store.commit(removal).await.unwrap()
    };
    let store = open(&path);
    assert_eq!(names(&store), ["b"]);
    let view = store.latest();
    assert_eq!(view.seq, seq);
    let name = "b".parse().unwrap();
    assert_eq!(view.clusters.get(account(), &name).unwrap().created_at, Timestamp(7));
}

#[tokio::test]
async fn a_second_region_on_the_same_file_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.sqlite");
    let _first = open(&path);
    let error = SqliteStore::open(&path, &SqliteOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("in use") && text.contains(&std::process::id().to_string()), "{text}");
}

#[test]
fn someone_elses_database_and_a_text_file_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.sqlite");
    let connection = rusqlite::Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(connection);
    let error = SqliteStore::open(&other, &SqliteOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");

    let text = dir.path().join("text");
    std::fs::write(&text, "this is no database, whatever its name says").unwrap();
    let error = SqliteStore::open(&text, &SqliteOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::Open { .. }), "{error}");
    let left = std::fs::read_to_string(&text).unwrap();
    assert!(left.starts_with("this is no database"));
}

#[tokio::test]
async fn a_file_of_a_later_release_is_refused_by_that_releases_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.sqlite");
    drop(open(&path));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("UPDATE about SET value = '7.8.9'; PRAGMA user_version = 99").unwrap();
    drop(connection);
    let error = SqliteStore::open(&path, &SqliteOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::TooNew { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("was written by release 7.8.9"), "{error}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_does_nothing_by_halves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.sqlite");
    let store = SqliteStore::open(
        &path,
        &SqliteOptions { pages_max: Some(24), ..SqliteOptions::default() },
    )
    .unwrap();
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for n in 0..200 {
        let mut row = cluster(&format!("c{n:03}"));
        row.tags = [("k".to_owned(), "v".repeat(900))].into();
        let mut batch = put(&store, row);
        batch.put(setting(n));
        match store.commit(batch).await {
            Ok(_) => acknowledged.push(format!("c{n:03}")),
            Err(CommitError::Failed(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(0 < refused && !acknowledged.is_empty());
    assert_eq!(names(&store), acknowledged);
    assert_eq!(store.latest().seq, store.durable().seq);
    assert_eq!(store.latest().account_settings.len(), acknowledged.len());

    // Room again: the store goes on as if nothing had been.
    drop(store);
    let store = open(&path);
    assert_eq!(names(&store), acknowledged);
    assert_eq!(store.latest().account_settings.len(), acknowledged.len());
    store.commit(put(&store, cluster("more"))).await.unwrap();
}

/// A disk of 32 MiB that goes with it; `None`, with a printed reason, without the right to mount one.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(dir.path());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        if !is_mounted {
            println!("skipped: needs root to mount a disk");
        }
        is_mounted.then_some(Self(dir))
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.path().join("filler")
    }

    fn fill(&self) {
        use std::io::Write as _;
        let filler = std::fs::File::options().append(true).create(true).open(self.filler());
        let mut filler = filler.unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        assert!(unmount.arg("-l").arg(self.0.path()).status().unwrap().success());
    }
}

#[tokio::test]
async fn on_a_full_disk_what_is_there_changes_still_and_nothing_new_is_made() {
    let Some(disk) = Disk::mount() else { return };
    let options = SqliteOptions { has_reserve: true, ..SqliteOptions::default() };
    let path = disk.0.path().join("region.sqlite");
    let store = SqliteStore::open(&path, &options).unwrap();
    store.commit(put(&store, cluster("a"))).await.unwrap();
    let changed = |n: u64| {
        let mut row = cluster("a");
        row.tags = [("k".to_owned(), "v".repeat(20_000))].into();
        Cluster { created_at: Timestamp(n), ..row }
    };
    disk.fill();
    for n in 0..20 {
        store.commit(put(&store, changed(n))).await.unwrap();
        disk.fill();
        let refused = store.commit(put(&store, cluster("new"))).await.unwrap_err();
        assert!(matches!(refused, CommitError::Failed(_)), "{refused}");
    }
    assert_eq!(names(&store), ["a"]);
    std::fs::remove_file(disk.filler()).unwrap();
    store.commit(put(&store, cluster("new"))).await.unwrap();
    drop(store);
    assert_eq!(names(&SqliteStore::open(&path, &options).unwrap()), ["a", "new"]);
}

#[tokio::test]
async fn a_decision_that_saw_what_was_undone_must_look_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.sqlite");
    let store =
        SqliteStore::open(&path, &SqliteOptions { pages_max: Some(4), ..SqliteOptions::default() })
            .unwrap();
    let changes = store.changes();
    let mut big = cluster("big");
    big.tags = [("k".to_owned(), "v".repeat(100_000))].into();
    let pending = store.submit(put(&store, big)).unwrap();
    let saw_it = store.latest();
    assert!(matches!(pending.await.unwrap_err(), CommitError::Failed(_)));
    assert_eq!(changes.next().await, Changed::Everything, "who decided on it must look again");
    if saw_it.clusters.len() == 1 {
        let mut batch = Batch::on(&saw_it);
        batch.put(setting(1));
        assert!(store.commit(batch).await.unwrap_err().is_stale());
    }
    assert_eq!(names(&store), [""; 0]);
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &SqliteOptions::default()).unwrap()
}

fn account() -> AccountId {
    "000000000000".parse().unwrap()
}

fn key(name: &str) -> Key {
    Key::Cluster(account(), name.parse().unwrap())
}

fn cluster(name: &str) -> Cluster {
    Cluster {
        account: account(),
        name: name.parse::<ClusterName>().unwrap(),
        status: ClusterStatus::Active,
        created_at: Timestamp(1),
        deleted_at: None,
        settings: [].into(),
        configuration: None,
        capacity_providers: Vec::new(),
        default_strategy: Vec::new(),
        tags: [].into(),
        connect_namespace: None,
    }
}

fn setting(n: u32) -> AccountSetting {
    let setting = SettingId { principal: SettingPrincipal::Default, name: n.to_string() };
    AccountSetting { account: account(), setting, value: "on".to_owned() }
}

fn token() -> ClientToken {
    ClientToken {
        account: account(),
        call: ClientTokenId { operation: "RunTask".to_owned(), token: "t".to_owned() },
        request_digest: String::new(),
        made: Vec::new(),
        expires_at: Timestamp(7_000),
    }
}

fn put(store: &dyn Store, row: Cluster) -> Batch {
    let mut batch = Batch::on(&store.latest());
    batch.put(row);
    batch
}

fn names(store: &dyn Store) -> Vec<String> {
    store.durable().clusters.of(account()).map(|row| row.name.to_string()).collect()
}

/// Adds one to a counter kept in a cluster's creation time, however often it has to look again.
async fn increment(store: &dyn Store) {
    loop {
        let view = store.latest();
        let mut batch = Batch::on(&view);
        batch.put(Cluster { created_at: Timestamp(counter(&view) + 1), ..cluster("counter") });
        match store.commit(batch).await {
            Ok(_) => return,
            Err(error) if error.is_stale() => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn counter(view: &model::View) -> u64 {
    let name = "counter".parse().unwrap();
    view.clusters.get(account(), &name).map_or(0, |row| row.created_at.0)
}
