//! The table that a run prints: one row a figure, ours beside the peer's.

use std::fmt;

/// One figure: what, the target, ours, and the peers' seen in the same run.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) target: &'static str,
    pub(crate) ours: String,
    pub(crate) peers: String,
}

/// All figures of one run and the conditions they were seen under.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) conditions: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        target: &'static str,
        ours: String,
        peers: String,
    ) {
        let row = Row { what: what.into(), target, ours, peers };
        println!("{:<58} {:<28} {} | {}", row.what, row.ours, row.target, row.peers);
        self.rows.push(row);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.conditions.join("; "))?;
        writeln!(f, "| what | ours | target | beside it in the same run |\n|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(f, "| {} | {} | {} | {} |", row.what, row.ours, row.target, row.peers)?;
        }
        Ok(())
    }
}

/// The value below which `share` (0 to 1) of the sorted samples lie.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "sample counts are small"
)]
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    samples.sort_by(f64::total_cmp);
    let index = ((samples.len() as f64 - 1.0) * share).round() as usize;
    samples[index]
}

/// `p50 12.3 ms, p99 45.6 ms` of samples in seconds.
pub(crate) fn spread(samples: &mut [f64]) -> String {
    let (p50, p99) = (percentile(samples, 0.5), percentile(samples, 0.99));
    format!("p50 {:.1} ms, p99 {:.1} ms (n={})", p50 * 1e3, p99 * 1e3, samples.len())
}
