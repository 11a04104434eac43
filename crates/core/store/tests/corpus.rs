//! The rows of every release, as they lay on its disk: each later release must read them.
//!
//! `corpus/RELEASE.jsonl` holds rows that a region of that release wrote while clients used it, chosen
//! so that every member and every word of an enum that was seen occurs. A file is never edited; a new
//! one is made before a release (docs/runbooks/add-a-schema-step.md).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use model::{Kind, Row};
use serde_json::Value;
use store::{SqliteOptions, SqliteStore, Store};

struct StoredRow {
    kind: Kind,
    account: String,
    id: String,
    value: Value,
}

fn corpora() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|name| name == "jsonl")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn rows_of(corpus: &Path) -> Vec<StoredRow> {
    let text = fs::read_to_string(corpus).unwrap();
    let text_of = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| StoredRow {
            kind: Kind::from_name(line["kind"].as_str().unwrap()).expect("a kind is never dropped"),
            account: text_of(&line, "account"),
            id: text_of(&line, "id"),
            value: line["value"].clone(),
        })
        .collect()
}

/// What may be left out of a row: it is read as this.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.values().all(is_nothing),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

/// What of `before` is missing from `after`, or is another there; members that came later are fine.
fn losses(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                let path = format!("{path}.{name}");
                match after.get(name) {
                    Some(now) => losses(&path, value, now, found),
                    None if is_nothing(value) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (position, (before, after)) in before.iter().zip(after).enumerate() {
                losses(&format!("{path}[{position}]"), before, after, found);
            }
        }
        _ if before == after => {}
        _ => found.push(format!("{path}: {before} became {after}")),
    }
}

/// A file as release 0.1.0 left it: schema version 1.
fn write_version_1(path: &Path, rows: &[StoredRow]) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE rows (kind TEXT NOT NULL, account TEXT NOT NULL, id TEXT NOT NULL,
                seq INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, account, id)) STRICT;
             PRAGMA application_id = 0x4c535247; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;",
        )
        .unwrap();
    for (seq, row) in (1..).zip(rows) {
        let StoredRow { kind, account, id, value } = row;
        connection
            .execute(
                "INSERT OR REPLACE INTO rows VALUES (?1, ?2, ?3, ?4, ?5)",
                (kind.name(), account, id, seq, value.to_string()),
            )
            .unwrap();
    }
}

#[test]
fn every_row_of_every_release_is_read_and_loses_nothing_when_it_is_written_again() {
    for corpus in corpora() {
        for row in rows_of(&corpus) {
            let name = format!("{}: {} {}", corpus.display(), row.kind.name(), row.id);
            let read = Row::from_json(row.kind, &row.value.to_string());
            let read = read.unwrap_or_else(|error| panic!("{name} can't be read: {error}"));
            let again: Value = serde_json::from_str(&read.to_json().unwrap()).unwrap();
            let mut lost = Vec::new();
            losses("", &row.value, &again, &mut lost);
            assert!(lost.is_empty(), "{name} loses {lost:?}");
            let twice = Row::from_json(row.kind, &again.to_string()).unwrap().to_json().unwrap();
            let twice: Value = serde_json::from_str(&twice).unwrap();
            assert_eq!(twice, again, "{name}: what is left out is read as what it was");
            let key = read.key();
            assert_eq!((key.account().to_string(), key.id_text()), (row.account, row.id), "{name}");
        }
    }
}

/// Kinds that came after the newest corpus's release. Before the next one its corpus has rows of them, and
/// this is empty.
const SINCE_THEN: &[Kind] = &[
    Kind::IamUser,
    Kind::IamGroup,
    Kind::IamRole,
    Kind::IamPolicy,
    Kind::IamInstanceProfile,
    Kind::IamAccessKey,
    Kind::IamKeyUse,
    Kind::IamOidcProvider,
    Kind::IamMfaDevice,
    Kind::IamAccount,
    Kind::AcmCertificate,
    Kind::MapNamespace,
    Kind::MapService,
    Kind::MapInstance,
    Kind::MapOperation,
    Kind::KmsKey,
    Kind::KmsAlias,
    Kind::LogPolicy,
    Kind::Secret,
    Kind::SecretVersion,
    Kind::Parameter,
    Kind::ParameterVersion,
    Kind::ElbBalancer,
    Kind::ElbGroup,
    Kind::ElbListener,
    Kind::ElbRule,
    Kind::ElbTarget,
    Kind::EcrRegistry,
    Kind::EcrScanning,
    Kind::EcrPullThroughRule,
    Kind::EcrTemplate,
    Kind::JoinToken,
    Kind::Node,
    Kind::Activation,
    Kind::SecurityGroup,
    Kind::SecurityGroupRule,
    Kind::Ec2Tags,
    Kind::Vpc,
    Kind::Subnet,
    Kind::RouteTable,
    Kind::InternetGateway,
    Kind::NatGateway,
    Kind::ElasticAddress,
    Kind::NetworkAcl,
    Kind::DhcpOptions,
    Kind::PrefixList,
    Kind::VpcEndpoint,
    Kind::FlowLog,
    Kind::TunnelSecret,
    Kind::VpcPeering,
    Kind::DefaultVpcGone,
    Kind::MetricAlarm,
    Kind::AlarmHistory,
    Kind::ScalableTarget,
    Kind::ScalingActivities,
    Kind::EventRule,
    Kind::PendingEvent,
];

#[test]
fn the_newest_corpus_has_rows_of_every_kind() {
    let newest = corpora().pop().unwrap();
    let stored: BTreeSet<&str> = rows_of(&newest).iter().map(|row| row.kind.name()).collect();
    let released = Kind::ALL.iter().filter(|kind| !SINCE_THEN.contains(kind));
    let missing: Vec<&str> =
        released.map(|kind| kind.name()).filter(|name| !stored.contains(name)).collect();
    assert!(missing.is_empty(), "{} has no rows of {missing:?}", newest.display());
}

#[tokio::test]
async fn an_older_store_is_raised_with_all_its_rows_and_stays_raised() {
    for corpus in corpora() {
        let rows = rows_of(&corpus);
        let ids: BTreeSet<_> =
            rows.iter().map(|row| (row.kind.name(), row.account.clone(), row.id.clone())).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region.sqlite");
        write_version_1(&path, &rows);
        for opening in 0..2 {
            let store = SqliteStore::open(&path, &SqliteOptions::default()).unwrap();
            let found: BTreeSet<_> = store
                .durable()
                .rows()
                .map(|(_, row)| row.key())
                .map(|key| (key.kind().name(), key.account().to_string(), key.id_text()))
                .collect();
            assert_eq!(found, ids, "opening {opening}");
        }
        let connection = rusqlite::Connection::open(&path).unwrap();
        let read =
            |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        assert_ne!(read("SELECT user_version || '' FROM pragma_user_version"), "1");
        assert_eq!(
            read("SELECT value FROM about WHERE name = 'release'"),
            env!("CARGO_PKG_VERSION")
        );
    }
}
