//! Who holds a lock file: its process id is written into it. The lock is what counts, the number says whom to ask.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// More is no process id.
const BYTES_MAX: usize = 32;

/// Notes this process. Whoever was given the file by another shares its position, so nothing is written at that. It is written
/// over what is there, for which a full disk has room too, and with blanks, so that nobody reads digits of two numbers.
///
/// # Errors
/// The disk has no room for it, or fails.
pub fn note(file: &File) -> io::Result<()> {
    let text = std::process::id().to_string();
    file.write_all_at(format!("{text:<BYTES_MAX$}").as_bytes(), 0)?;
    file.set_len(u64::try_from(text.len()).map_err(io::Error::other)?)
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
        assert_eq!(file.metadata().unwrap().len(), std::process::id().to_string().len() as u64);
    }

    #[test]
    fn there_is_a_number_while_another_is_noted() {
        let file = tempfile::tempfile().unwrap();
        note(&file).unwrap();
        std::thread::scope(|scope| {
            let noting = scope.spawn(|| (0..20_000).for_each(|_| note(&file).unwrap()));
            while !noting.is_finished() {
                assert_eq!(noted(&file), Some(std::process::id()));
            }
        });
    }
}
