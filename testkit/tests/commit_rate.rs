//! How many small commits a second the durable store takes: printed, and far from a stand-still.
#![allow(clippy::disallowed_methods, reason = "what runs beside it ends with the process")]
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::sync::Arc;

use store::{Batch, SqliteOptions, SqliteStore, Store};
use testkit::rows;

const COMMITTERS: usize = 32;
const COMMITS_EACH: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_committers_share_each_sync_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.sqlite");
    let store = Arc::new(SqliteStore::open(&path, &SqliteOptions::default()).unwrap());
    let started = tokio::time::Instant::now();
    let committers: Vec<_> = (0..COMMITTERS)
        .map(|committer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..COMMITS_EACH {
                    let mut batch = Batch::on(&store.latest());
                    batch.put(rows::cluster(&format!("c{committer}-{n}")));
                    store.commit(batch).await.unwrap();
                }
            })
        })
        .collect();
    for committer in committers {
        committer.await.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let commits = COMMITTERS * COMMITS_EACH;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = commits as f64 / seconds;
    println!("{commits} commits in {seconds:.2} s: {rate:.0} a second");
    assert_eq!(store.durable().clusters.len(), commits);
    // One sync each would be a few hundred; a busy machine is no reason to fail.
    assert!(rate > 300.0, "{rate:.0} commits a second");
}
