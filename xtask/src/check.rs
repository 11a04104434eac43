//! Everything that must hold of the source before its tests are worth running, in one command.
//!
//! All checks run even if one fails, so that one round of repairs is enough. Each ends with a line that
//! `./test` counts: `check NAME ok` or `check NAME FAILED`.

use std::path::Path;
use std::process::Command;

use crate::{codegen, deny, fuzz, layers};

const CLIPPY: &[&str] =
    &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
const CARGO_DENY: &[&str] = &["deny", "check", "licenses", "bans", "sources"];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut failed = Vec::new();
    let mut note = |name: &'static str, outcome: Result<(), String>| match outcome {
        Ok(()) => println!("check {name} ok"),
        Err(error) => {
            println!("{error}\ncheck {name} FAILED");
            failed.push(name);
        }
    };
    note("format", cargo(root, &["fmt", "--all", "--check"]));
    note("layers", layers::run(root, false));
    note("licences", deny::run(root));
    note("fuzz-lock", fuzz::check(root));
    note("generated", codegen::run(root, true).map_err(|error| error.to_string()));
    note("lints", cargo(root, CLIPPY));
    // Only where the program is installed; `licences` is what runs everywhere.
    if is_cargo_deny_installed() {
        note("cargo-deny", cargo(root, CARGO_DENY));
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("{} failed", failed.join(", "))) }
}

fn is_cargo_deny_installed() -> bool {
    let asked = Command::new("cargo").args(["deny", "--version"]).output();
    asked.is_ok_and(|output| output.status.success())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .status()
        .map_err(|error| format!("failed to run cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", arguments.join(" "))) }
}
