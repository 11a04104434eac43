//! Bounds of what a scanner may take and say.

use std::time::Duration;

/// Scans that run at the same time.
pub(crate) const SCANS_AT_ONCE: usize = 2;
/// A scanner that takes longer is ended.
pub(crate) const SCAN_TIME_MAX: Duration = Duration::from_secs(600);
/// Bytes that a scanner may print.
pub(crate) const SCAN_OUTPUT_BYTES_MAX: u64 = 32 << 20;
/// Findings of one image.
pub(crate) const FINDINGS_MAX: usize = 10_000;
/// Characters of each text of a finding.
pub(crate) const FINDING_CHARS_MAX: usize = 2_000;
/// An image is scanned by request once in this time, as at ECR.
pub(crate) const SCAN_AGAIN_MS_MIN: u64 = 24 * 3600 * 1000;
