//! Moves things while somebody else works on them.

use std::time::{Duration, Instant};

use crate::{at, raw, say, text};

const EXCHANGE: usize = 2;

/// Waits for somebody to make the directory `DIR/a`, then makes `DIR/b` a link to `target` and swaps the two
/// as fast as it can: who works in `DIR/a` by its path finds himself at the target.
#[expect(clippy::disallowed_methods, reason = "an attacker looks at the clock himself")]
pub(crate) fn exchange(dir: &str, seconds: u64, target: &str) -> u8 {
    let (a, b) = (text(&format!("{dir}/a")), text(&format!("{dir}/b")));
    let here = libc::AT_FDCWD as usize;
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut swaps, mut last) = (0_u64, String::new());
    say("swap", "begins");
    while Instant::now() < end {
        if std::fs::symlink_metadata(format!("{dir}/a")).is_err() {
            continue;
        }
        let _ = std::os::unix::fs::symlink(target, format!("{dir}/b"));
        match raw(libc::SYS_renameat2, [here, at(&a), here, at(&b), EXCHANGE, 0]) {
            Ok(_) => swaps += 1,
            Err(error) => last = crate::word(&error),
        }
    }
    say("swaps", &format!("{swaps} {last}"));
    0
}
