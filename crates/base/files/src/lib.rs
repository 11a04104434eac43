//! Files as the rest of Longshore may touch them, so that the unsafe form need not be written anywhere.
//!
//! * [`whole`]: the only way to write a file of state. A reader sees all of it or none, whenever the
//!   writer, or the machine, ends.
//! * [`format`]: the version of a directory of state, and the steps that raise an older one to it.
//! * [`Dir`]: a directory held by descriptor. No name in it, whoever made it and whoever changes it
//!   meanwhile, leads out of it.
//! * [`copy`]: what is in one such directory laid into another.
//! * [`holder`]: which process holds a lock file.
//! * [`reserve`]: room on the disk that is kept for when it is full.
//! * [`private`]: what is ours is readable by its owner only, from the moment it is made.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

pub mod copy;
pub mod dir;
pub mod format;
pub mod holder;
pub mod limits;
pub mod private;
pub mod reserve;
pub mod whole;

pub use dir::{Dir, Kind, Named};
pub use reserve::Reserve;

use std::io::{self, Write as _};
use std::path::Path;

/// Sets what the kernel shows as a file (control groups, `/proc/sys`): the file is there or it is an
/// error, and nothing is ever made in its place.
pub fn set_kernel_file(path: &Path, value: &str) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
