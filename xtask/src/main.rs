//! The workspace's own chores.

#![allow(
    clippy::disallowed_methods,
    reason = "chores write into the work tree, which has its own history"
)]

mod bench;
mod check;
mod codegen;
mod deny;
mod fuzz;
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
    /// Writes the crates in crates/api and docs/parity.md from botocore's service models.
    Codegen {
        /// Write nothing; fail if what is there differs from what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Checks who uses whom against the table of layers.
    Layers {
        /// Show the layers, their crates and who uses whom.
        #[arg(long)]
        print: bool,
    },
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
    /// Any bytes at what reads others' bytes: decoding, signatures, registry, frames, images, volumes.
    Fuzz {
        /// Only these targets.
        targets: Vec<String>,
        /// For how long each runs.
        #[arg(long, default_value_t = 600)]
        seconds: u32,
    },
    /// Kills, floods and full disks at random while tasks and services come and go; says what broke.
    Break {
        #[arg(long, default_value_t = 30)]
        minutes: u32,
        /// The run to repeat; without it, one is drawn and printed.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// The cases that hold on Debian's stock kernel too, in a machine that qemu emulates.
    Vm,
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let done = match Arguments::parse().chore {
        Chore::Codegen { check } => codegen::run(root, check).map_err(|error| error.to_string()),
        Chore::Layers { print } => layers::run(root, print),
        Chore::Deny => deny::run(root),
        Chore::Check => check::run(root),
        Chore::Fuzz { targets, seconds } => fuzz::run(root, &targets, seconds),
        Chore::Break { minutes, seed } => {
            let seed = seed.map(|seed| seed.to_string()).unwrap_or_default();
            let told =
                [("LONGSHORE_BREAK_MINUTES", minutes.to_string()), ("LONGSHORE_BREAK_SEED", seed)];
            stage(root, "break", &told)
        }
        Chore::Vm => stage(root, "vm", &[]),
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

/// One stage of `./test`, which knows what it needs.
fn stage(root: &Path, name: &str, variables: &[(&str, String)]) -> Result<(), String> {
    let mut command = std::process::Command::new(root.join("test"));
    command.arg(name).envs(variables.iter().map(|(name, value)| (name, value)));
    bench::finish(&mut command).map_err(|error| error.to_string())
}
