//! The file's table of versions: it keeps what counts, whatever was tidied away, and does not grow with time.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;

use longshore_types::SeededEnv;
use model::{AccountSetting, Key, SettingId, SettingPrincipal};
use store::{Batch, SqliteOptions, SqliteStore, Store};

/// Rows of a batch.
const TOGETHER: u32 = 50;
/// More than what is left alone, several times over.
const BATCHES: u32 = 400;
const NAMES: u32 = 300;
/// As in `sqlite/log.rs`, and what one commit may leave for the next.
const GARBAGE_MAX: i64 = 4_096 + 2 * 50 + 64;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &SqliteOptions::default()).unwrap()
}

fn setting(name: u32, value: String) -> AccountSetting {
    let setting = SettingId { principal: SettingPrincipal::Default, name: format!("s{name}") };
    AccountSetting { account: "000000000000".parse().unwrap(), setting, value }
}

fn key(name: u32) -> Key {
    let row = setting(name, String::new());
    Key::AccountSetting(row.account, row.setting)
}

fn values(store: &SqliteStore) -> BTreeMap<String, String> {
    let view = store.durable();
    view.account_settings.iter().map(|row| (row.setting.name.clone(), row.value.clone())).collect()
}

fn entries(path: &Path) -> (i64, i64) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    (count("SELECT count(*) FROM log"), count("SELECT count(*) FROM rows"))
}

#[tokio::test]
async fn what_is_tidied_away_is_garbage_and_nothing_else() {
    let random = SeededEnv::from_seed(11);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.sqlite");
    let mut store = open(&path);
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    // Written once, so that it is the oldest again and again.
    let mut batch = Batch::on(&store.latest());
    batch.put(setting(NAMES, "old".to_owned()));
    known.insert(format!("s{NAMES}"), "old".to_owned());
    store.commit(batch).await.unwrap();
    for number in 0..BATCHES {
        let mut batch = Batch::on(&store.latest());
        for row in 0..TOGETHER {
            let name = random.below(NAMES);
            if random.below(4) == 0 {
                batch.deletes.push(key(name));
                batch.writes.retain(|row| row.key() != key(name));
                known.remove(&format!("s{name}"));
            } else {
                let value = format!("{number}.{row}");
                batch.deletes.retain(|deleted| *deleted != key(name));
                batch.put(setting(name, value.clone()));
                known.insert(format!("s{name}"), value);
            }
        }
        store.commit(batch).await.unwrap();
        if number % 40 == 0 {
            drop(store);
            store = open(&path);
            assert_eq!(values(&store), known, "after batch {number}");
        }
    }
    assert_eq!(values(&store), known);
    drop(store);
    let (entries, rows) = entries(&path);
    assert_eq!(usize::try_from(rows).unwrap(), known.len(), "people read what counts");
    assert!(entries <= 3 * rows + GARBAGE_MAX, "{entries} entries for {rows} rows");
    assert_eq!(values(&open(&path)), known);
}
