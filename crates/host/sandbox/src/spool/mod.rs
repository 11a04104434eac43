//! What a container printed, on disk between the shim that reads its pipes and the agent that
//! ships its logs.
//!
//! A spool is a directory of numbered segments, each a sequence of frames. The shim appends
//! ([`Writer`]) and never waits for anybody; the agent follows ([`LogReader`]) and deletes the
//! segments that it has shipped. When the segments exceed their bound the oldest goes, and a frame
//! in the next one says how many bytes were lost.
//!
//! **Invariant:** a frame is whole or not there. A torn one at the end of the last segment is what
//! a shim left that was killed while writing; [`seal`] cuts it off.

mod frame;
mod reader;
mod watch;
mod writer;

pub use reader::{LogItem, LogReader, LogRecord, Position, Stream};
pub(crate) use watch::Watcher;
pub(crate) use writer::{Writer, seal};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const EXTENSION: &str = "spool";

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.{EXTENSION}"))
}

/// The numbers of the segments there are, ascending.
fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let number = name.strip_suffix(EXTENSION).and_then(|name| name.strip_suffix('.'));
        numbers.extend(number.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
