//! A process that commits is killed at random points, fifty times over the same file.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use longshore_types::SeededEnv;
use store::{SqliteOptions, SqliteStore, Store};
use testkit::rows;

const ROUNDS: u32 = 50;

#[test]
fn every_acknowledged_write_survives_sigkill_and_none_is_there_by_half() {
    let seed = 20_261_120;
    let env = SeededEnv::from_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("region.sqlite");
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let alive_for = Duration::from_micros(u64::from(env.below(40_000)));
        let before = acknowledged.len();
        acknowledged.extend(run_until_killed(&file, round, alive_for));
        check(&file, &acknowledged, &format!("seed {seed}, round {round}"));
        if round == ROUNDS - 1 {
            assert!(ROUNDS < u32::try_from(acknowledged.len()).unwrap(), "it was under load");
            assert!(before <= acknowledged.len());
        }
    }
}

/// What the process said was acknowledged before it was killed.
fn run_until_killed(file: &Path, round: u32, alive_for: Duration) -> Vec<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_committer"))
        .arg(file)
        .arg(round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "open", "a killed store opens again");
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(alive_for);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn check(file: &Path, acknowledged: &BTreeSet<String>, when: &str) {
    let store = SqliteStore::open(file, &SqliteOptions::default()).unwrap();
    let view = store.latest();
    let clusters: BTreeSet<String> =
        view.clusters.of(rows::account()).map(|row| row.name.to_string()).collect();
    let settings: BTreeSet<String> = view
        .account_settings
        .of(rows::account())
        .map(|row| row.setting.name.clone())
        .filter(|name| name != "count")
        .collect();
    let lost: Vec<_> = acknowledged.difference(&clusters).collect();
    assert!(lost.is_empty(), "{when}: acknowledged and lost: {lost:?}");
    assert_eq!(clusters, settings, "{when}: a commit is there by half");
    let id = rows::setting("count", "").setting;
    let counted = view.account_settings.get(rows::account(), &id).map(|row| row.value.clone());
    let commits = clusters.len().to_string();
    assert_eq!(counted.unwrap_or("0".to_owned()), commits, "{when}: the count is of all commits");
}
