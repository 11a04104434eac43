//! The files of every release, as they lay on its disk: each later release must read them.
//!
//! `corpus/RELEASE` is the directory of a store that a release left: a catalog, the journal that goes on from
//! it, and the streams' files. A directory is never edited; a new one is made before a release
//! (docs/runbooks/add-a-schema-step.md).
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logs::{
    GetQuery, GroupClass, GroupName, GroupSettings, InputEvent, Logs, LogsError, PutKey,
    StreamsPage,
};
use longshore_types::{AccountId, Clock, SeededEnv};

fn account() -> AccountId {
    "000000000000".parse().unwrap()
}

fn group(name: &str) -> GroupName {
    name.parse().unwrap()
}

fn clock() -> Arc<SeededEnv> {
    Arc::new(SeededEnv::from_seed(1))
}

/// Opens, waiting until the writer of the store before has let go of it.
async fn open(dir: &Path) -> Result<Logs, LogsError> {
    for _ in 0..2000 {
        match Logs::open(dir, clock() as Arc<dyn Clock>) {
            Err(LogsError::InUse(_)) => {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await
            }
            other => return other,
        }
    }
    panic!("the store is still in use");
}

fn corpora() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut corpora: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    corpora.sort();
    assert!(!corpora.is_empty());
    corpora
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

async fn put(logs: &Logs, stream: &str, at: u64, text: &str, key: Option<PutKey>) {
    let event = InputEvent { timestamp_ms: at, message: text.to_owned().into() };
    let stream = stream.parse().unwrap();
    logs.put(account(), group("/app"), stream, vec![event], key).await.unwrap();
}

async fn lines(logs: &Logs, stream: &str) -> Vec<String> {
    let query = GetQuery { from_head: true, ..GetQuery::default() };
    let page = logs.get(account(), &group("/app"), &stream.parse().unwrap(), query).await.unwrap();
    page.events.iter().map(logs::Event::text).collect()
}

/// What a corpus holds. Called by hand, with the directory to be made in `LONGSHORE_CORPUS`.
#[tokio::test]
#[ignore = "makes a new corpus"]
async fn keep() {
    let dir = PathBuf::from(std::env::var_os("LONGSHORE_CORPUS").unwrap());
    let now = clock().now().0;
    let logs = open(&dir).await.unwrap();
    let settings = GroupSettings {
        retention_days: Some(3653),
        tags: [("team".to_owned(), "blue".to_owned())].into(),
        deletion_protected: true,
        key: None,
        policy: None,
    };
    logs.create_group(account(), group("/app"), GroupClass::InfrequentAccess, settings)
        .await
        .unwrap();
    logs.create_group(account(), group("gone"), GroupClass::Standard, GroupSettings::default())
        .await
        .unwrap();
    for name in ["web/1", "web/2", "gone"] {
        logs.create_stream(account(), group("/app"), name.parse().unwrap()).await.unwrap();
    }
    put(&logs, "web/1", now, "in the catalog", Some(PutKey { writer: 7, put: 1 })).await;
    drop(logs);
    // Opening makes a catalog of what was journaled; the rest is in the next journal.
    let logs = open(&dir).await.unwrap();
    let has_catalog = || fs::read_to_string(dir.join("catalog.json")).unwrap().contains("web/1");
    for _ in 0..2000 {
        if has_catalog() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(has_catalog());
    put(&logs, "web/1", now + 1, "in the journal", Some(PutKey { writer: 7, put: 2 })).await;
    put(&logs, "web/2", now + 2, "without a key", None).await;
    logs.set_retention(account(), group("/app"), None).await.unwrap();
    logs.delete_stream(account(), group("/app"), "gone".parse().unwrap()).await.unwrap();
    logs.delete_group(account(), group("gone")).await.unwrap();
}

#[tokio::test]
async fn what_every_release_kept_is_read_and_gone_on_with() {
    for corpus in corpora() {
        let dir = tempfile::tempdir().unwrap();
        copy(&corpus, dir.path());
        for opening in 0..2 {
            let name = format!("{}, opening {opening}", corpus.display());
            let logs = open(dir.path()).await.unwrap();
            let app = logs.group(account(), &group("/app")).unwrap();
            assert_eq!(app.class, GroupClass::InfrequentAccess, "{name}");
            assert_eq!(app.settings.retention_days, None, "{name}");
            assert_eq!(app.settings.tags["team"], "blue", "{name}");
            assert!(app.settings.deletion_protected, "{name}");
            let gone = logs.group(account(), &group("gone"));
            assert!(matches!(gone, Err(LogsError::GroupNotFound)), "{name}");
            let page = StreamsPage { limit: 10, ..StreamsPage::default() };
            let (streams, _) = logs.streams(account(), &group("/app"), &page).unwrap();
            let names: Vec<_> = streams.iter().map(|stream| stream.name.as_str()).collect();
            assert_eq!(names, ["web/1", "web/2"], "{name}");
            // What was put under a name is known by it still.
            put(&logs, "web/1", clock().now().0 + 1, "again", Some(PutKey { writer: 7, put: 2 }))
                .await;
            assert_eq!(lines(&logs, "web/1").await, ["in the catalog", "in the journal"], "{name}");
            assert_eq!(lines(&logs, "web/2").await, ["without a key"], "{name}");
        }
        assert!(dir.path().join(files::format::FILE).exists(), "it says its version from now on");
    }
}

#[tokio::test]
async fn a_newer_store_is_refused_by_the_release_that_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await.unwrap());
    let newer = r#"{"version":1000,"release":"9.9.9"}"#;
    fs::write(dir.path().join(files::format::FILE), newer).unwrap();
    let text = open(dir.path()).await.unwrap_err().to_string();
    assert!(text.contains("release 9.9.9"), "{text}");
}
