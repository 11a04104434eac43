//! The host's lease: for how long fenced tasks may run on without a word from the region.
//!
//! It is counted from when the agent sent what the region has answered, so that it is over before the region, which
//! counts from when it heard that, gives the tasks to another host. The shims hold their containers to it.

use std::path::PathBuf;
use std::sync::Arc;

use longshore_types::{Chain, IdSource};
use sandbox::{FencedBy, Lease, uptime_ms};
use tracing::warn;

/// What is kept for ending containers before the limit: a tenth of it, and never less than this.
const MARGIN_MS_MIN: u64 = 1_000;

/// Whether a lease goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    GoesOn,
    /// The one before was over, so that what depended on it is too.
    Anew,
    /// What was answered is too old to grant anything.
    TooLate,
}

/// Reads and renews the host's lease.
#[derive(Clone, Debug)]
pub(crate) struct HostLease {
    file: Option<PathBuf>,
    ids: Arc<dyn IdSource>,
}

impl HostLease {
    /// Without a file the host takes no fenced tasks.
    pub(crate) fn new(file: Option<PathBuf>, ids: Arc<dyn IdSource>) -> Self {
        Self { file, ids }
    }

    /// The epoch that a task belongs to which is accepted now; `None` if none may run here now.
    pub(crate) fn epoch(&self) -> Option<u64> {
        let lease = Lease::read(self.file.as_deref()?)?;
        lease.left().map(|_| lease.epoch)
    }

    /// What a container of such a task depends on.
    pub(crate) fn fence(&self, epoch: u64) -> Option<FencedBy> {
        self.file.clone().map(|file| FencedBy { file, epoch })
    }

    /// The region has answered what was sent at `sent_ms`: it does not count the host as lost before that and
    /// `lost_after_ms`.
    pub(crate) fn renew(&self, sent_ms: u64, lost_after_ms: u64) -> Renewed {
        let Some(file) = &self.file else { return Renewed::TooLate };
        let until_ms = sent_ms.saturating_add(granted_ms(lost_after_ms));
        if until_ms <= uptime_ms() {
            return Renewed::TooLate;
        }
        let running = Lease::read(file).filter(|lease| lease.left().is_some());
        let (epoch, renewed) = match running {
            Some(lease) => (lease.epoch, Renewed::GoesOn),
            None => (self.next_epoch(), Renewed::Anew),
        };
        if let Err(error) = (Lease { epoch, until_ms }).write(file) {
            warn!(file = %file.display(), error = %Chain(&error), "the host's lease was not renewed");
        }
        renewed
    }

    /// What was granted by a longer limit is kept no longer than this one grants from now on. Whether that is so: only
    /// then may the region hear that the host goes by it.
    pub(crate) fn goes_by(&self, lost_after_ms: u64) -> bool {
        let Some(file) = &self.file else { return true };
        let until_ms = uptime_ms().saturating_add(granted_ms(lost_after_ms));
        let longer = Lease::read(file).filter(|lease| until_ms < lease.until_ms);
        let Some(lease) = longer else { return true };
        let written = Lease { until_ms, ..lease }.write(file);
        if let Err(error) = &written {
            warn!(file = %file.display(), error = %Chain(error), "the host's lease was not made shorter");
        }
        written.is_ok()
    }

    fn next_epoch(&self) -> u64 {
        let mut bytes = [0; 8];
        self.ids.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

/// For how long a host's fenced tasks may run on.
fn granted_ms(lost_after_ms: u64) -> u64 {
    lost_after_ms.saturating_sub((lost_after_ms / 10).max(MARGIN_MS_MIN))
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn a_lease_goes_on_while_it_lasts_and_begins_anew_once_it_was_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lease");
        let lease = HostLease::new(Some(file.clone()), Arc::new(SeededEnv::from_seed(1)));
        assert_eq!(lease.epoch(), None, "nothing is granted yet");
        let now = uptime_ms();
        assert_eq!(lease.renew(now, 10_000), Renewed::Anew);
        let first = lease.epoch().unwrap();
        assert!(Lease::read(&file).unwrap().until_ms <= now + 9_000, "over before the limit");
        assert_eq!(lease.renew(now, 60_000), Renewed::GoesOn);
        assert_eq!(lease.renew(now, 30_000), Renewed::GoesOn, "a shorter limit shortens it");
        assert!(Lease::read(&file).unwrap().until_ms <= now + 27_000);
        assert_eq!(lease.epoch(), Some(first));
        Lease { epoch: first, until_ms: now }.write(&file).unwrap();
        assert_eq!(lease.epoch(), None);
        let old = uptime_ms().saturating_sub(20_000);
        assert_eq!(lease.renew(old, 10_000), Renewed::TooLate, "an answer to something old");
        assert_eq!(lease.renew(uptime_ms(), 10_000), Renewed::Anew);
        assert_ne!(lease.epoch(), Some(first));
    }

    #[test]
    fn a_shorter_limit_holds_at_once_whenever_the_session_that_tells_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lease");
        let lease = HostLease::new(Some(file.clone()), Arc::new(SeededEnv::from_seed(1)));
        let until_ms = || Lease::read(&file).unwrap().until_ms;
        assert!(lease.goes_by(10_000), "nothing is granted yet");
        lease.renew(uptime_ms(), 600_000);
        let (epoch, long) = (lease.epoch(), until_ms());
        let began = uptime_ms().saturating_sub(60_000);
        assert_eq!(lease.renew(began, 10_000), Renewed::TooLate);
        assert_eq!(until_ms(), long, "which by itself leaves what was granted");
        assert!(lease.goes_by(10_000));
        assert!(until_ms() <= uptime_ms() + 9_000);
        assert_eq!(lease.epoch(), epoch, "it goes on meanwhile");
        let short = until_ms();
        assert!(lease.goes_by(600_000));
        assert_eq!(until_ms(), short, "only an answer makes it longer");
    }

    #[test]
    fn a_host_without_a_lease_takes_no_fenced_task() {
        let lease = HostLease::new(None, Arc::new(SeededEnv::from_seed(1)));
        assert_eq!(lease.renew(uptime_ms(), 10_000), Renewed::TooLate);
        assert_eq!((lease.epoch(), lease.fence(1)), (None, None));
    }
}
