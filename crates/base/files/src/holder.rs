//! Who holds a lock file: its process id is written into it. The lock is what counts, the number says whom to ask.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// More is no process id.
const BYTES_MAX: usize = 32;

/// Notes this process. Whoever was given the file by another shares its position, so nothing is written at that.
///
/// # Errors
/// The disk has no room for it, or fails.
pub fn note(file: &File) -> io::Result<()> {
    let text = std::process::id().to_string();
    file.set_len(0)?;
    file.write_all_at(text.as_bytes(), 0)
}

/// The process that was noted last.
pub fn noted(file: &File) -> Option<u32> {
    let mut bytes = [0; BYTES_MAX];
    let length = file.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(bytes.get(..length)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn whoever_shares_the_file_is_noted_in_it_whatever_was_there_before() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(noted(&file), None);
        file.write_all(b"4194304").unwrap();
        let shared = file.try_clone().unwrap();
        assert_eq!(noted(&shared), Some(4_194_304));
        note(&shared).unwrap();
        assert_eq!(noted(&file), Some(std::process::id()));
        note(&file).unwrap();
        assert_eq!(noted(&shared), Some(std::process::id()));
    }
}
