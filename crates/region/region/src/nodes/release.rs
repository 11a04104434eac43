//! The program that the region itself runs, as hosts are given it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// The kernel's link to it holds even where the file was replaced meanwhile.
const OWN: &str = "/proc/self/exe";
const BUFFER_BYTES: usize = 1 << 20;

/// SHA-256 of the program that this process runs, in hexadecimal digits: reads it whole.
pub fn own_digest() -> io::Result<String> {
    digest(&File::open(OWN)?)
}

fn digest(file: &File) -> io::Result<String> {
    let (mut hash, mut at) = (Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => {
                hash.update(&buffer[..count]);
                at += u64::try_from(count).unwrap_or(u64::MAX);
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Release {
    file: File,
    pub(super) size: u64,
    /// SHA-256, in hexadecimal digits.
    pub(super) digest: String,
}

impl Release {
    /// Opens and reads the whole program: off the threads that answer.
    pub(super) fn open() -> io::Result<Arc<Self>> {
        let file = File::open(OWN)?;
        let size = file.metadata()?.len();
        let digest = digest(&file)?;
        Ok(Arc::new(Self { file, size, digest }))
    }

    /// Up to `max` bytes from `offset` on; none at the end.
    pub(super) fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(max)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}
