//! `cargo xtask bench`: every figure of the design's budget table, from one command.
//!
//! Criterion measures the pure parts (placement, decoding, signatures, policies); the bench program of the `tests`
//! package measures the whole system beside its peers; an example of `network` measures a host's, as root, beside the kernel alone.

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

/// What criterion measures: the name of the figure, the package, and its bench.
const PURE: [(&str, &str, &str); 4] = [
    ("placement", "plan", "placement"),
    ("decoding", "ecs", "register"),
    ("authorization", "ecs", "authorize"),
    ("policy", "policy", "policy"),
];

/// Measured by name only, as root: the figure, the package, and its example.
const BY_ROOT: [(&str, &str, &str); 1] = [("network", "network", "network_figures")];

/// Measures `figures`, or all there are if none is named.
pub(crate) fn run(root: &Path, figures: &[String]) -> Result<(), BenchError> {
    let cargo = || {
        let mut command = Command::new("cargo");
        command.current_dir(root);
        command
    };
    let is_wanted = |name: &str| figures.is_empty() || figures.iter().any(|each| each == name);
    for (_, package, bench) in PURE.iter().filter(|(name, ..)| is_wanted(name)) {
        finish(cargo().args(["bench", "-p", package, "--bench", bench]))?;
    }
    for (name, package, example) in BY_ROOT {
        if figures.iter().any(|each| each == name) {
            finish(cargo().args(["run", "--release", "-p", package, "--example", example]))?;
        }
    }
    let is_pure = |figure: &str| PURE.iter().chain(&BY_ROOT).any(|(name, ..)| *name == figure);
    let whole: Vec<&String> = figures.iter().filter(|figure| !is_pure(figure)).collect();
    if whole.is_empty() && !figures.is_empty() {
        return Ok(());
    }
    finish(cargo().args(["build", "--release", "-p", "longshore", "-p", "longshore-tests"]))?;
    let hello = hello(root, &mut cargo())?;
    let built = target(root).join("release");
    finish(Command::new(built.join("bench")).arg(built.join("longshore")).arg(hello).args(whole))
}

/// The sample as `./run` builds it: statically linked, since its image holds nothing else, and in a
/// directory of its own, since other flags would make cargo build everything anew.
fn hello(root: &Path, cargo: &mut Command) -> Result<PathBuf, BenchError> {
    let host = host()?;
    let folder = target(root).join("static");
    let build =
        ["build", "--release", "--locked", "-p", "hello", "--target", &host, "--target-dir"];
    finish(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").args(build).arg(&folder))?;
    Ok(folder.join(host).join("release/hello"))
}

/// The machine's own target, such as `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> Result<String, BenchError> {
    let told = Command::new("rustc").arg("-vV").output();
    let told = told.map_err(|source| BenchError::Spawn { what: "rustc -vV".to_owned(), source })?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| BenchError::Failed { what: "rustc -vV".to_owned() })
}

pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

pub(crate) fn finish(command: &mut Command) -> Result<(), BenchError> {
    let what = format!("{command:?}");
    let status =
        command.status().map_err(|source| BenchError::Spawn { what: what.clone(), source })?;
    if status.success() { Ok(()) } else { Err(BenchError::Failed { what }) }
}
