//! From a layer's file to the bytes of its archive: decompressed, counted, hashed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};

use longshore_types::Digest;

use super::LayerError;
use crate::hash::Hasher;

const READ_BYTES: usize = 256 << 10;

/// The layer unpacked to more than it may. Travels inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("more than {max} bytes")]
pub(super) struct OverLimit {
    pub(super) max: u64,
}

/// Looks at the first bytes: media types are wrong too often to be believed.
pub(super) fn open(mut compressed: File) -> io::Result<Result<Box<dyn Read + Send>, LayerError>> {
    let mut magic = Vec::with_capacity(6);
    (&mut compressed).take(6).read_to_end(&mut magic)?;
    compressed.rewind()?;
    let input = BufReader::with_capacity(READ_BYTES, compressed);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Ok(Box::new(zstd::stream::read::Decoder::with_buffer(input)?))
        }
        [b'B', b'Z', b'h', ..] => Err(LayerError::Compression("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(LayerError::Compression("xz")),
        _ => Ok(Box::new(input)),
    })
}

/// Hashes and counts what goes through, and stops at a limit.
pub(super) struct Counted {
    inner: Box<dyn Read + Send>,
    hasher: Hasher,
    left: u64,
    max: u64,
}

impl Counted {
    pub(super) fn new(inner: Box<dyn Read + Send>, like: &Digest, max: u64) -> Self {
        Self { inner, hasher: Hasher::like(like), left: max, max }
    }

    /// Reads what follows the archive's end: it belongs to the digest.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other(OverLimit { max: self.max }))?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
