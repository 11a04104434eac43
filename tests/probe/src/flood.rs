//! Takes all there is of one thing, up to a bound, and says how much it got.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::time::Duration;

use crate::{raw, say, word};

const MIB: u64 = 1 << 20;

/// Starts processes that wait; each is a copy of this one.
pub(crate) fn forks(most: u64, seconds: u64) -> u8 {
    let mut made = 0;
    let mut why = "no end".to_owned();
    while made < most {
        match raw(libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0, 0, 0]) {
            Ok(0) => {
                std::thread::sleep(Duration::from_secs(seconds));
                std::process::exit(0);
            }
            Ok(_) => made += 1,
            Err(error) => {
                why = word(&error);
                break;
            }
        }
    }
    say("forks", &format!("{made} {why}"));
    std::thread::sleep(Duration::from_secs(seconds));
    0
}

pub(crate) fn disk(path: &str, mib: u64) -> u8 {
    let chunk = vec![0xA5; MIB as usize];
    let mut written = 0;
    let mut fill = || -> io::Result<()> {
        let mut file = File::create(path)?;
        while written < mib {
            file.write_all(&chunk)?;
            written += 1;
            if written % 64 == 0 {
                file.sync_data()?;
            }
        }
        file.sync_data()
    };
    let why = fill().err().map_or_else(|| "no end".to_owned(), |error| word(&error));
    say("disk", &format!("{written} {why}"));
    std::thread::sleep(Duration::from_secs(3));
    0
}

pub(crate) fn inodes(dir: &str, most: u64) -> u8 {
    let mut made = 0;
    let mut why = "no end".to_owned();
    while made < most {
        if let Err(error) = fs::create_dir(format!("{dir}/{made}")) {
            why = word(&error);
            break;
        }
        made += 1;
    }
    say("inodes", &format!("{made} {why}"));
    0
}

pub(crate) fn memory(mib: u64) -> u8 {
    let mut held = Vec::new();
    for count in 1..=mib {
        held.push(vec![0xA5_u8; MIB as usize]);
        if count % 16 == 0 {
            say("memory", &count.to_string());
        }
    }
    say("memory", &format!("{} no end", held.len()));
    0
}

pub(crate) fn lines(count: u64, bytes: u64) -> u8 {
    let out = io::stdout();
    let mut out = io::BufWriter::with_capacity(1 << 16, out.lock());
    let rest = "x".repeat(bytes as usize);
    for number in 0..count {
        if writeln!(out, "{number} {rest}").is_err() {
            return 1;
        }
    }
    u8::from(out.flush().is_err())
}

/// Waits, and ends with a code of its own when it is asked to end.
pub(crate) fn hold(exit: u64, seconds: u64) -> u8 {
    say("hold", "ready");
    let mut mask = [0_u64; 1];
    mask[0] = 1 << (libc::SIGTERM - 1);
    let _ = raw(libc::SYS_rt_sigprocmask, [0, mask.as_ptr() as usize, 0, 8, 0, 0]);
    let long = [seconds.min(1 << 31), 0];
    let _ = raw(
        libc::SYS_rt_sigtimedwait,
        [mask.as_ptr() as usize, 0, long.as_ptr() as usize, 8, 0, 0],
    );
    u8::try_from(exit).unwrap_or(255)
}
