//! `longshore status`: what the region does by itself, and how that goes.

use longshore_types::{Clock as _, SystemClock, Timestamp};
use serde::Deserialize;

use crate::commands::connect;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::table;

/// The region's answer; members that this release does not know are left aside.
#[derive(Deserialize)]
struct Status {
    reconcilers: Vec<Reconciler>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reconciler {
    name: String,
    keys: u64,
    ready: u64,
    under_way: u64,
    passes: u64,
    failures: u64,
    last_pass_at: Option<Timestamp>,
    last_pass_micros: u64,
    longest_pass_micros: u64,
    last_failure: Option<FailedPass>,
    last_full_pass_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct FailedPass {
    key: String,
    error: String,
    at: Timestamp,
}

pub(crate) async fn run(data: &DataDir) -> Result<(), Error> {
    let status: Status = connect(data)?.status().await?;
    print!("{}", page(&status, SystemClock.now()));
    Ok(())
}

fn page(status: &Status, now: Timestamp) -> String {
    let ago = |at: Option<Timestamp>| {
        at.map_or_else(|| "never".to_owned(), |at| format!("{:.1} s ago", seconds(now, at)))
    };
    let rows: Vec<Vec<String>> = status
        .reconcilers
        .iter()
        .map(|each| {
            vec![
                each.name.clone(),
                each.keys.to_string(),
                each.ready.to_string(),
                each.under_way.to_string(),
                each.passes.to_string(),
                each.failures.to_string(),
                ago(each.last_pass_at),
                milliseconds(each.last_pass_micros),
                milliseconds(each.longest_pass_micros),
                ago(each.last_full_pass_at),
            ]
        })
        .collect();
    let header = [
        "RECONCILER",
        "KEYS",
        "READY",
        "RUNNING",
        "PASSES",
        "FAILED",
        "LAST",
        "TOOK",
        "LONGEST",
        "FULL PASS",
    ];
    let mut page = table::render(&header, &rows);
    for each in &status.reconcilers {
        if let Some(failed) = &each.last_failure {
            let (name, since) = (&each.name, seconds(now, failed.at));
            page +=
                &format!("\n{name} failed {since:.1} s ago at {}: {}\n", failed.key, failed.error);
        }
    }
    page
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn seconds(now: Timestamp, at: Timestamp) -> f64 {
    now.since_ms(at) as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn milliseconds(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pass_is_told_below_the_table() {
        let answer = serde_json::json!({ "reconcilers": [{
            "name": "services", "keys": 2, "ready": 1, "underWay": 0, "passes": 9, "failures": 1,
            "lastPassAt": 9_000, "lastPassMicros": 1_500, "longestPassMicros": 20_000, "nextAlarm": null,
            "lastFullPassAt": null, "lastFailure": { "key": "web", "error": "the disk is full", "at": 8_000 },
        }] });
        let page = page(&serde_json::from_value(answer).unwrap(), Timestamp(10_000));
        let lines: Vec<&str> = page.lines().collect();
        assert!(lines[0].starts_with("RECONCILER  KEYS"), "{page}");
        assert!(lines[1].ends_with("1.0 s ago  1.5 ms  20.0 ms  never"), "{page}");
        assert_eq!(lines[3], "services failed 2.0 s ago at web: the disk is full");
    }
}
