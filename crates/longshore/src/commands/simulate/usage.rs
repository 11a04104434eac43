//! What the kernel says that a process used.

use std::time::Duration;

/// The unit of CPU times in `/proc`, the same on every machine that we run on.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time and bytes written so far, and memory now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
    pub(super) resident_bytes_max: u64,
    /// What the kernel took to be sent to disks.
    pub(super) written_bytes: u64,
}

impl Usage {
    /// Of a process that is alive; nothing if it is not.
    pub(super) fn of(pid: u32) -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let (stat, status) = (read("stat").unwrap_or_default(), read("status").unwrap_or_default());
        let kib = |name: &str| number(&status, name).unwrap_or(0) << 10;
        Self {
            cpu: cpu(&stat).unwrap_or_default(),
            resident_bytes: kib("VmRSS:"),
            resident_bytes_max: kib("VmHWM:"),
            written_bytes: number(&read("io").unwrap_or_default(), "write_bytes:").unwrap_or(0),
        }
    }
}

/// Time in the program and in the kernel on its behalf: fields 14 and 15, counted behind the name.
fn cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let ticks = next()? + next()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The number behind a name: the unit, if there is one, is the caller's to know.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1 2";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(number("VmHWM:\t  9 kB\nVmRSS:\t  8 kB\n", "VmRSS:"), Some(8));
        assert_eq!(number("wchar: 7\nwrite_bytes: 4096\n", "write_bytes:"), Some(4096));
        let own = Usage::of(std::process::id());
        assert!(own.resident_bytes > 0 && own.resident_bytes <= own.resident_bytes_max, "{own:?}");
    }
}
