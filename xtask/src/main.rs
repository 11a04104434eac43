//! The workspace's own chores.

#![allow(
    clippy::disallowed_methods,
    reason = "chores write into the work tree, which has its own history"
)]

mod bench;
mod check;
mod codegen;
mod deny;
mod layers;
mod metadata;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The workspace's own chores.
#[derive(Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Writes crates/aws-api/src/generated and docs/parity.md from botocore's service models.
    Codegen {
        /// Write nothing; fail if what is there differs from what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Checks who uses whom against the table of layers.
    Layers,
    /// Checks licences, banned crates and sources against deny.toml.
    Deny,
    /// Everything that must hold of the source: format, lints, layers, generated code, licences.
    Check,
    /// Measures the design's budgets on this machine, beside the peers that are installed.
    Bench {
        /// Only these figures: `placement` and `decoding` of the pure parts, or figures of the whole
        /// system; see `tests/src/bench/main.rs`.
        figures: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let done = match Arguments::parse().chore {
        Chore::Codegen { check } => codegen::run(root, check).map_err(|error| error.to_string()),
        Chore::Layers => layers::run(root),
        Chore::Deny => deny::run(root),
        Chore::Check => check::run(root),
        Chore::Bench { figures } => bench::run(root, &figures).map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
