//! Fetches images that the region wants to be here before a task asks for them.
//!
//! One at a time, so that tasks have the network to themselves but for one, and each account in turn. What fails is tried a few
//! times and then left to the first task that needs it, which says why.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use acs::message::{PrePull, PrePullImage};
use longshore_types::{AccountId, Chain, Timestamp};
use sandbox::DiskRoom;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

use super::context::Context;
use super::pull::pull_ahead;
use crate::client::Backoff;
use crate::limits::{
    PRE_PULL_DISK_BYTES_FREE_MIN, PRE_PULL_DISK_PERCENT_FREE_MIN, PRE_PULL_MS_MAX,
    PRE_PULL_STALE_MS, PRE_PULLS_OF_ACCOUNT_MAX,
};

const TRIES_MAX: usize = 3;

/// Where wishes go.
#[derive(Clone, Debug, Default)]
pub(super) struct PrePulls(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    added: Notify,
}

/// Messages with when they came, by account.
#[derive(Debug, Default)]
struct Waiting {
    of_accounts: BTreeMap<AccountId, VecDeque<(PrePull, Timestamp)>>,
    last: Option<AccountId>,
}

impl Waiting {
    /// False: as many of the account wait as may.
    fn add(&mut self, account: AccountId, wanted: PrePull, now: Timestamp) -> bool {
        let own = self.of_accounts.entry(account).or_default();
        let has_room = own.len() < PRE_PULLS_OF_ACCOUNT_MAX;
        if has_room {
            own.push_back((wanted, now));
        }
        has_room
    }

    /// The next of the account that comes after the one that had its turn. What came by keys that are over by now goes.
    fn next(&mut self, now: Timestamp) -> Option<(AccountId, PrePull)> {
        for own in self.of_accounts.values_mut() {
            own.retain(|(_, came)| now.since_ms(*came) < PRE_PULL_STALE_MS);
        }
        self.of_accounts.retain(|_, own| !own.is_empty());
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut later = self.of_accounts.range_mut((after, Bound::Unbounded));
        let account = later.next().map(|(account, _)| *account);
        let account = account.or_else(|| self.of_accounts.keys().next().copied())?;
        self.last = Some(account);
        let (wanted, _) = self.of_accounts.get_mut(&account)?.pop_front()?;
        Some((account, wanted))
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PrePulls {
    pub(super) fn begin(context: &Arc<Context>) -> Self {
        let pulls = Self::default();
        let (context, queue) = (Arc::clone(context), Arc::downgrade(&pulls.0));
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the engine that wishes come from"
        )]
        tokio::spawn(async move {
            while let Some(queue) = queue.upgrade() {
                let next = queue.waiting().next(context.clock.now());
                match next {
                    Some((account, wanted)) => fetch_all(&context, account, &wanted).await,
                    // Now and then it is looked whether the engine is still there.
                    None => drop(timeout(Duration::from_secs(5), queue.added.notified()).await),
                }
            }
        });
        pulls
    }

    pub(super) fn add(&self, wanted: PrePull, now: Timestamp) {
        let Ok(account) = wanted.account.parse::<AccountId>() else {
            warn!(account = wanted.account, "images of no account are to be fetched ahead");
            return;
        };
        if self.0.waiting().add(account, wanted, now) {
            self.0.added.notify_one();
        } else {
            warn!(%account, "too much is to be fetched ahead: this is left to its tasks");
        }
    }
}

async fn fetch_all(context: &Context, account: AccountId, wanted: &PrePull) {
    for named in &wanted.images {
        if !has_room(context).await {
            warn!(image = named.image, "image not fetched ahead: the disk is nearly full");
            return;
        }
        fetch(context, account, wanted, named).await;
    }
}

/// Whether the disk takes what nobody has asked for yet.
async fn has_room(context: &Context) -> bool {
    let room = context.runtime.disk_room(context.dirs.root().to_owned()).await;
    room.is_ok_and(|room| takes_more(&room))
}

fn takes_more(room: &DiskRoom) -> bool {
    let share = room.bytes / 100 * PRE_PULL_DISK_PERCENT_FREE_MIN;
    share.min(PRE_PULL_DISK_BYTES_FREE_MIN) <= room.bytes_free
}

async fn fetch(context: &Context, account: AccountId, wanted: &PrePull, named: &PrePullImage) {
    let mut backoff = Backoff::call();
    for left in (0..TRIES_MAX).rev() {
        let role = wanted.execution_role_credentials.clone();
        let limit = Duration::from_millis(PRE_PULL_MS_MAX);
        match timeout(limit, pull_ahead(context, account, named, role)).await {
            Ok(Ok(image)) => {
                info!(image = named.image, digest = image.digest, "image fetched ahead");
                return;
            }
            Ok(Err(why)) if left == 0 => {
                warn!(image = named.image, error = %Chain(&why), "image not fetched ahead");
            }
            Ok(Err(_)) => {
                let pause = backoff.next_ms(&*context.ids);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            // Others wait: it would be as slow again.
            Err(_) => {
                warn!(image = named.image, ?limit, "image not fetched ahead: too slow");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(number: u8) -> AccountId {
        format!("{number:012}").parse().unwrap()
    }

    fn of(image: &str) -> PrePull {
        let image = PrePullImage { image: image.to_owned(), registry_authentication: None };
        PrePull { images: vec![image], ..PrePull::default() }
    }

    #[test]
    fn a_small_disk_keeps_a_share_and_a_large_one_some_gigabytes() {
        const GIB: u64 = 1 << 30;
        let takes = |bytes, bytes_free| {
            takes_more(&DiskRoom { bytes, bytes_free, files: 0, files_free: 0 })
        };
        assert!(takes(10 * GIB, 2 * GIB) && !takes(10 * GIB, GIB));
        assert!(takes(1_000 * GIB, 9 * GIB) && !takes(1_000 * GIB, 7 * GIB));
    }

    #[test]
    fn each_account_has_its_turn_and_what_is_stale_goes() {
        let (mut waiting, now) = (Waiting::default(), Timestamp(1_000));
        for number in 0..100 {
            let is_taken = waiting.add(account(1), of(&format!("a{number}")), now);
            assert_eq!(is_taken, number < PRE_PULLS_OF_ACCOUNT_MAX, "{number}");
        }
        assert!(waiting.add(account(2), of("b0"), now) && waiting.add(account(3), of("c0"), now));
        let mut next = |now| Some(waiting.next(now)?.1.images.remove(0).image);
        let order: Vec<_> = (0..5).filter_map(|_| next(now)).collect();
        assert_eq!(order, ["a0", "b0", "c0", "a1", "a2"]);
        assert_eq!(next(now.plus_ms(PRE_PULL_STALE_MS)), None);
    }
}
