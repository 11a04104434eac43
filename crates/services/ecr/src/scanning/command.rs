//! Runs the operator's scanner on one image.
//!
//! The image lies in a directory as OCI lays images out, which the command finds in `LONGSHORE_IMAGE`; its standard
//! output is the report.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use files::whole::Durability;
use image::BlobStore;
use model::EcrManifest;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::limits::SCAN_OUTPUT_BYTES_MAX;

/// Where the command finds the image.
const IMAGE: &str = "LONGSHORE_IMAGE";
/// What the region is told and its scanner need not know.
const SECRETS: [&str; 3] =
    ["LONGSHORE_ROOT_KEY", "LONGSHORE_NEW_ROOT_KEY", "LONGSHORE_ACCOUNT_KEYS"];

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("failed to lay the image out for the scanner, or to keep what it found")]
    Layout(#[source] std::io::Error),
    #[error("failed to start the scanner")]
    Start(#[source] std::io::Error),
    #[error("the scanner did not end within {} seconds", .0.as_secs())]
    TooLong(Duration),
    #[error("the scanner printed more than {SCAN_OUTPUT_BYTES_MAX} bytes")]
    TooMuch,
    #[error("failed to read what the scanner printed")]
    Output(#[source] std::io::Error),
    #[error("the scanner ended with {0}")]
    Failed(ExitStatus),
    #[error(transparent)]
    Report(#[from] super::report::NoReport),
}

/// A directory that goes when it is no longer needed.
pub(crate) struct Layout(PathBuf);

impl Layout {
    /// Lays an image out in a new directory. Blobs are not copied: they are linked.
    pub(crate) fn make(
        dir: PathBuf,
        row: &EcrManifest,
        blobs: &BlobStore,
    ) -> Result<Self, ScanError> {
        let failed = ScanError::Layout;
        let write = |name: &str, value: &serde_json::Value| {
            let text = value.to_string();
            files::whole::write(&dir.join(name), text.as_bytes(), Durability::DiesWithTheMachine)
                .map_err(failed)
        };
        let layout = Self(dir.clone());
        for algorithm in ["sha256", "sha512"] {
            files::private::make_dirs(&dir.join("blobs").join(algorithm)).map_err(failed)?;
        }
        write("oci-layout", &serde_json::json!({ "imageLayoutVersion": "1.0.0" }))?;
        write(
            "index.json",
            &serde_json::json!({
                "schemaVersion": 2,
                "mediaType": image::manifest::OCI_INDEX,
                "manifests": [{
                    "mediaType": row.media_type, "digest": row.digest.to_string(), "size": row.manifest_size,
                }],
            }),
        )?;
        let digests = row.layers.iter().chain(&row.config).chain([&row.digest]);
        for digest in digests {
            let place = dir.join("blobs").join(digest.algorithm()).join(digest.hex());
            match std::fs::hard_link(blobs.path(digest), &place) {
                // One that is listed twice is there.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                linked => linked.map_err(failed)?,
            }
        }
        Ok(layout)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // What is left is removed at the next start.
        drop(files::dir::remove_tree(&self.0));
    }
}

/// The name of the file that keeps what was found in an image.
pub(crate) fn report_name(row: &EcrManifest) -> String {
    let name = format!("{}|{}|{}", row.account, row.repository, row.digest);
    format!("{}.json", image::Hasher::digest(name.as_bytes()).hex())
}

/// Runs the command and answers what it printed. Blocks.
pub(crate) fn run(command: &str, image: &Path, limit: Duration) -> Result<Vec<u8>, ScanError> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env(IMAGE, image).current_dir(image);
    for secret in SECRETS {
        shell.env_remove(secret);
    }
    // A group of its own, so that what it starts ends with it.
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
    let mut child = shell.spawn().map_err(ScanError::Start)?;
    let result = wait(&mut child, limit);
    end(&mut child);
    result
}

fn wait(child: &mut Child, limit: Duration) -> Result<Vec<u8>, ScanError> {
    let Some(stdout) = child.stdout.take() else { return Ok(Vec::new()) };
    let (sender, printed) = mpsc::channel();
    let reader = std::thread::Builder::new().name("scanner-output".to_owned()).spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(SCAN_OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
        // Nobody may be waiting any more.
        drop(sender.send(read.map(|_| bytes)));
    });
    reader.map_err(ScanError::Start)?;
    let printed = printed.recv_timeout(limit).map_err(|_| ScanError::TooLong(limit))?;
    let printed = printed.map_err(ScanError::Output)?;
    if SCAN_OUTPUT_BYTES_MAX < printed.len() as u64 {
        return Err(ScanError::TooMuch);
    }
    let status = child.wait().map_err(ScanError::Output)?;
    match status.success() {
        true => Ok(printed),
        false => Err(ScanError::Failed(status)),
    }
}

/// Ends all that the command started.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may be over already.
        kill_process_group(group, Signal::KILL).ok();
    }
    drop(child.wait());
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn run_here(command: &str, limit: Duration) -> Result<Vec<u8>, ScanError> {
        run(command, Path::new("/"), limit)
    }

    #[test]
    fn a_scanner_is_told_where_the_image_is_and_what_it_prints_is_the_report() {
        let long = Duration::from_secs(60);
        assert_eq!(run_here("echo $LONGSHORE_IMAGE", long).unwrap(), b"/\n");
        let failed = run_here("echo '{}'; exit 3", long).unwrap_err();
        assert_eq!(failed.to_string(), "the scanner ended with exit status: 3");
        let missing = run_here("/none/there", long).unwrap_err();
        assert!(matches!(missing, ScanError::Failed(_)), "{missing}");
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the time that really passes is what is proven")]
    fn a_scanner_that_hangs_is_ended_with_all_that_it_started() {
        let began = Instant::now();
        let hung = run_here("sleep 600 & sleep 600", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(hung, ScanError::TooLong(_)), "{hung}");
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_scanner_that_prints_without_end_is_ended() {
        let much = run_here("yes", Duration::from_secs(300)).unwrap_err();
        assert!(matches!(much, ScanError::TooMuch), "{much}");
    }
}
