//! `cargo xtask fuzz`: any bytes at what reads others' bytes, guided by what they reach.
//!
//! libFuzzer with the stable toolchain: the compiler's own pass for coverage is asked for by its name, and a
//! panic or an abort is what counts as found. Each target ends with a line that `./test` counts.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::bench;

const TARGETS: [&str; 6] = ["decode", "signature", "registry", "frames", "unpack", "fill"];
const AT_ONCE: usize = 2;
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Runs `targets`, or all there are, for `seconds` each.
pub(crate) fn run(root: &Path, targets: &[String], seconds: u32) -> Result<(), String> {
    if let Some(stray) = targets.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        return Err(format!("there is no target {stray}; there are {}", TARGETS.join(", ")));
    }
    let wanted: Vec<&str> = TARGETS
        .into_iter()
        .filter(|name| targets.is_empty() || targets.iter().any(|each| each == name))
        .collect();
    let built = build(root, &wanted)?;
    let mut failed = Vec::new();
    for pair in wanted.chunks(AT_ONCE) {
        let running: Vec<(&str, Result<Child, String>)> =
            pair.iter().map(|name| (*name, start(&built, name, seconds))).collect();
        for (name, child) in running {
            let ended = child.and_then(|mut child| child.wait().map_err(|error| error.to_string()));
            let is_fine = ended.is_ok_and(|status| status.success());
            println!("fuzz {name} {}", if is_fine { "ok" } else { "FAILED" });
            if !is_fine {
                failed.push(name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("{} failed", failed.join(", "))) }
}

/// The directory of the built targets.
fn build(root: &Path, targets: &[&str]) -> Result<PathBuf, String> {
    let host = bench::host().map_err(|error| error.to_string())?;
    let folder = bench::target(root).join("fuzz");
    // A target of its own keeps build scripts and macros free of the instruments.
    let status = Command::new("cargo")
        .current_dir(root.join("fuzz"))
        .env("RUSTFLAGS", COVERAGE)
        .args(["build", "--release", "--target", &host, "--target-dir"])
        .arg(&folder)
        .args(targets.iter().flat_map(|name| ["--bin", *name]))
        .status()
        .map_err(|error| format!("failed to run cargo: {error}"))?;
    if status.success() {
        Ok(folder.join(host).join("release"))
    } else {
        Err("cargo build failed".to_owned())
    }
}

/// Inputs that reached something new are kept beside the build, and are where the next run begins.
fn start(built: &Path, name: &str, seconds: u32) -> Result<Child, String> {
    let kept = built.join("corpus").join(name);
    std::fs::create_dir_all(&kept)
        .map_err(|error| format!("failed to make {}: {error}", kept.display()))?;
    Command::new(built.join(name))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"])
        .arg(format!("-artifact_prefix={}", built.join(format!("found-{name}-")).display()))
        .arg(kept)
        .spawn()
        .map_err(|error| format!("failed to run {name}: {error}"))
}
