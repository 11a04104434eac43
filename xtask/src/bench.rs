//! `cargo xtask bench`: every figure of the design's budget table, from one command.
//!
//! Criterion measures the pure parts (placement, decoding, signatures); the bench program of the `tests`
//! package measures the whole system beside its peers.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What went wrong while building or measuring.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("failed to run {what}")]
    Spawn { what: String, source: std::io::Error },
    #[error("{what} failed")]
    Failed { what: String },
}

/// Builds for release, then measures `figures`, or all of them and criterion's if none is named.
pub(crate) fn run(root: &Path, figures: &[String]) -> Result<(), BenchError> {
    let cargo = || {
        let mut command = Command::new("cargo");
        command.current_dir(root);
        command
    };
    finish(cargo().args(["build", "--release", "-p", "longshore", "-p", "longshore-tests"]))?;
    if figures.is_empty() {
        finish(cargo().args(["bench", "-p", "plan", "-p", "aws-api"]))?;
    }
    let built = target(root).join("release");
    finish(Command::new(built.join("bench")).arg(built.join("longshore")).args(figures))
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn finish(command: &mut Command) -> Result<(), BenchError> {
    let what = format!("{command:?}");
    let status =
        command.status().map_err(|source| BenchError::Spawn { what: what.clone(), source })?;
    if status.success() { Ok(()) } else { Err(BenchError::Failed { what }) }
}
