//! `cargo xtask fuzz`: any bytes at what reads others' bytes, guided by what they reach.
//!
//! libFuzzer with the stable toolchain: the compiler's own pass for coverage is asked for by its name, and a
//! panic or an abort is what counts as found. Each target ends with a line that `./test` counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::bench;
use crate::metadata::Metadata;

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

/// That the targets are built of the very packages that are shipped: their lock is whole, and names no
/// version that the workspace's own does not.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let shipped = locked(root)?;
    let ours = locked(&root.join("fuzz"))?;
    let strays = strays(&shipped, &ours);
    if strays.is_empty() {
        return Ok(());
    }
    let remedy = "copy Cargo.lock to fuzz/, and run `cargo metadata` there";
    Err(format!(
        "fuzz/Cargo.lock has other versions than Cargo.lock ({remedy}):\n  {}",
        strays.join("\n  ")
    ))
}

/// The versions of each package in the lock of the workspace at `folder`.
fn locked(folder: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let metadata = Metadata::read(folder)
        .map_err(|error| format!("the lock in {} is not whole: {error}", folder.display()))?;
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for package in metadata.packages() {
        versions.entry(package.name.to_string()).or_default().insert(package.version.to_string());
    }
    Ok(versions)
}

/// What is in `ours` at a version that `shipped` has not, though it has the package.
fn strays(
    shipped: &BTreeMap<String, BTreeSet<String>>,
    ours: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let shared =
        ours.iter().filter_map(|(name, versions)| Some((name, versions, shipped.get(name)?)));
    shared
        .flat_map(|(name, versions, known)| {
            versions.difference(known).map(move |version| format!("{name} {version}"))
        })
        .collect()
}

/// The directory of the built targets.
fn build(root: &Path, targets: &[&str]) -> Result<PathBuf, String> {
    let host = bench::host().map_err(|error| error.to_string())?;
    let folder = bench::target(root).join("fuzz");
    // A target of its own keeps build scripts and macros free of the instruments.
    let status = Command::new("cargo")
        .current_dir(root.join("fuzz"))
        .env("RUSTFLAGS", COVERAGE)
        .args(["build", "--release", "--locked", "--target", &host, "--target-dir"])
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
        let mut lock = BTreeMap::<String, BTreeSet<String>>::new();
        for (name, version) in packages {
            lock.entry((*name).to_owned()).or_default().insert((*version).to_owned());
        }
        lock
    }

    #[test]
    fn a_version_that_is_not_shipped_is_a_stray_and_a_package_that_only_fuzzing_needs_is_not() {
        let shipped = lock(&[("bytes", "1.12.1"), ("nix", "0.29.0"), ("nix", "0.31.3")]);
        let ours = lock(&[("bytes", "1.12.2"), ("nix", "0.29.0"), ("libfuzzer-sys", "0.4.13")]);
        assert_eq!(strays(&shipped, &ours), ["bytes 1.12.2"]);
        assert!(strays(&shipped, &shipped).is_empty());
    }
}
