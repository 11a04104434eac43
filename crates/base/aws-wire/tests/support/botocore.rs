//! The pinned release of botocore: its tests' data, and the library itself for Python.
//!
//! Both come from PyPI at first use and are kept in `.cache/`, which is never committed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().unwrap()
}

/// The release that `xtask/services.toml` pins.
fn version() -> String {
    let text = std::fs::read_to_string(root().join("xtask/services.toml")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("botocore = \"")).unwrap();
    line.trim_end_matches('"').to_owned()
}

pub fn has_python() -> bool {
    Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The folder `tests/unit` of the source archive; `None` (and a word about it) without Python.
pub fn test_data() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(fetch_data).clone()
}

fn fetch_data() -> Option<PathBuf> {
    let name = format!("botocore-{}", version());
    let folder = root().join(".cache").join(&name).join("tests/unit");
    if folder.join("protocols").exists() && folder.join("auth").exists() {
        return Some(folder);
    }
    if !has_python() {
        println!("skipped: there is no python3 to fetch botocore's test data with");
        return None;
    }
    let cache = root().join(".cache");
    std::fs::create_dir_all(&cache).unwrap();
    let archive = format!("{name}.tar.gz");
    if !cache.join(&archive).exists() {
        let package = format!("botocore=={}", version());
        let arguments =
            ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", &package];
        run(Command::new("python3").args(arguments).current_dir(&cache));
    }
    let parts = ["protocols", "auth"].map(|part| format!("{name}/tests/unit/{part}"));
    run(Command::new("tar").arg("-xzf").arg(&archive).args(parts).current_dir(&cache));
    Some(folder)
}

/// A folder from which Python can import the pinned botocore.
pub fn library() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(install).clone()
}

#[expect(clippy::disallowed_methods, reason = "a directory of this test's own")]
fn install() -> Option<PathBuf> {
    if !has_python() {
        println!("skipped: there is no python3 to run botocore with");
        return None;
    }
    let folder = root().join(format!(".cache/botocore-{}-library", version()));
    if !folder.join("botocore").exists() {
        let package = format!("botocore=={}", version());
        let part = folder.with_extension(format!("part{}", std::process::id()));
        let install = ["-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--target"];
        run(Command::new("python3").args(install).arg(&part).arg(&package));
        if std::fs::rename(&part, &folder).is_err() {
            std::fs::remove_dir_all(&part).unwrap(); // Another test was quicker.
        }
    }
    Some(folder)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
