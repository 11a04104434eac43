//! The memory of requests' bodies, charged as their bytes arrive.
//!
//! There are three shares: of strangers, of those whose head names a key, and of the verified. In
//! the first two a newcomer's bytes take the room of the body that has been arriving longest; what
//! the verified share holds is bounded for each account, and whoever is over it is told to come
//! again. **Invariant:** bytes that are promised cost nothing, and no one's bytes are in another's share.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_types::AccountId;
use tokio::sync::Notify;

use super::limits;

/// In whose share a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Share {
    Stranger(IpAddr),
    Claimed(IpAddr),
    Account(AccountId),
}

/// The share has no room, or its room went to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// How much a kind of share may hold in all, and each of its owners.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    all: usize,
    each: usize,
}

#[derive(Debug, Default)]
pub(super) struct Budget {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    leases: BTreeMap<u64, Holder>,
    /// By kind: strangers', claimed, accounts'.
    all: [usize; 3],
    each: HashMap<Share, usize>,
}

#[derive(Debug)]
struct Holder {
    share: Share,
    bytes: usize,
    cut: Arc<Notify>,
}

/// What one body holds; given back when this goes.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    number: u64,
    share: Share,
    cut: Arc<Notify>,
}

impl Share {
    fn kind(self) -> usize {
        match self {
            Self::Stranger(_) => 0,
            Self::Claimed(_) => 1,
            Self::Account(_) => 2,
        }
    }

    fn bounds(self) -> Bounds {
        match self {
            Self::Stranger(_) => Bounds {
                all: limits::STRANGERS_BYTES_MAX,
                each: limits::STRANGERS_BYTES_OF_ADDRESS_MAX,
            },
            Self::Claimed(_) => Bounds {
                all: limits::CLAIMED_BYTES_MAX,
                each: limits::CLAIMED_BYTES_OF_ADDRESS_MAX,
            },
            Self::Account(_) => Bounds {
                all: limits::VERIFIED_BYTES_MAX,
                each: limits::VERIFIED_BYTES_OF_ACCOUNT_MAX,
            },
        }
    }
}

impl Budget {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease of nothing yet.
    pub(super) fn lease(self: &Arc<Self>, share: Share) -> Lease {
        let mut held = self.held();
        let number = held.next;
        held.next += 1;
        let cut = Arc::new(Notify::new());
        held.leases.insert(number, Holder { share, bytes: 0, cut: Arc::clone(&cut) });
        drop(held);
        Lease { budget: Arc::clone(self), number, share, cut }
    }

    #[cfg(test)]
    fn bytes(&self, share: Share) -> usize {
        self.held().each.get(&share).copied().unwrap_or_default()
    }
}

impl Held {
    fn add(&mut self, share: Share, bytes: usize) {
        if bytes > 0 {
            self.all[share.kind()] += bytes;
            *self.each.entry(share).or_default() += bytes;
        }
    }

    fn take(&mut self, share: Share, bytes: usize) {
        self.all[share.kind()] -= bytes;
        if let Some(each) = self.each.get_mut(&share) {
            *each -= bytes;
            if *each == 0 {
                self.each.remove(&share);
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Holder> {
        let holder = self.leases.remove(&number)?;
        self.take(holder.share, holder.bytes);
        Some(holder)
    }

    /// The body that has been arriving longest, among those of `share` alone or of all of its kind.
    fn oldest(&self, share: Share, is_own: bool, but: u64) -> Option<u64> {
        let fits = |holder: &Holder| {
            let is_kind = holder.share.kind() == share.kind();
            holder.bytes > 0 && is_kind && (!is_own || holder.share == share)
        };
        self.leases.iter().find(|(number, holder)| **number != but && fits(holder)).map(|(n, _)| *n)
    }
}

impl Lease {
    /// Takes room for bytes that have arrived.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), NoRoom> {
        let mut held = self.budget.held();
        if !held.leases.contains_key(&self.number) {
            return Err(NoRoom);
        }
        let bounds = self.share.bounds();
        loop {
            let each = held.each.get(&self.share).copied().unwrap_or_default();
            let is_own = each + bytes > bounds.each;
            if !is_own && held.all[self.share.kind()] + bytes <= bounds.all {
                break;
            }
            if matches!(self.share, Share::Account(_)) {
                return Err(NoRoom);
            }
            let oldest = held.oldest(self.share, is_own, self.number).ok_or(NoRoom)?;
            if let Some(holder) = held.remove(oldest) {
                holder.cut.notify_one();
            }
        }
        if let Some(holder) = held.leases.get_mut(&self.number) {
            holder.bytes += bytes;
        }
        held.add(self.share, bytes);
        Ok(())
    }

    /// Whether nothing is known of who sends it.
    pub(super) fn is_strangers(&self) -> bool {
        matches!(self.share, Share::Stranger(_))
    }

    /// Completes when the room went to another.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }

    /// The body is whole and its signature good: no one takes its room any more.
    pub(super) fn verified(&mut self, account: AccountId) {
        let share = Share::Account(account);
        let mut held = self.budget.held();
        let Some(holder) = held.leases.get_mut(&self.number) else { return };
        holder.share = share;
        let bytes = holder.bytes;
        held.take(self.share, bytes);
        held.add(share, bytes);
        drop(held);
        self.share = share;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.held().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn at(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_cut(lease: &Lease) -> bool {
        lease.cut().now_or_never().is_some()
    }

    #[test]
    fn a_newcomers_bytes_take_the_room_of_the_oldest_body_of_its_address() {
        let budget = Arc::new(Budget::default());
        let part = limits::CLAIMED_BYTES_OF_ADDRESS_MAX / 2;
        let elsewhere = budget.lease(Share::Claimed(at(2)));
        elsewhere.charge(10).unwrap();
        let first = budget.lease(Share::Claimed(at(1)));
        let second = budget.lease(Share::Claimed(at(1)));
        let third = budget.lease(Share::Claimed(at(1)));
        for lease in [&first, &second, &third] {
            lease.charge(part).unwrap();
        }
        assert_eq!([&elsewhere, &first, &second, &third].map(is_cut), [false, true, false, false]);
        assert_eq!(first.charge(1), Err(NoRoom));
        assert_eq!(budget.bytes(Share::Claimed(at(1))), 2 * part);
        assert_eq!(third.charge(2 * part), Err(NoRoom), "more than one address may have");
        drop((first, second, third));
        assert_eq!(budget.bytes(Share::Claimed(at(1))), 0);
    }

    #[test]
    fn an_account_has_its_bound_and_takes_nothing_from_another() {
        let budget = Arc::new(Budget::default());
        let accounts: [AccountId; 2] =
            ["000000000001", "000000000002"].map(|id| id.parse().unwrap());
        let [mine, other] = accounts.map(Share::Account);
        let full = budget.lease(mine);
        full.charge(limits::VERIFIED_BYTES_OF_ACCOUNT_MAX).unwrap();
        assert_eq!(budget.lease(mine).charge(1), Err(NoRoom));
        assert_eq!(budget.lease(other).charge(1), Ok(()));
        assert!(!is_cut(&full));
        let mut claimed = budget.lease(Share::Claimed(at(1)));
        claimed.charge(7).unwrap();
        claimed.verified(accounts[1]);
        assert_eq!((budget.bytes(Share::Claimed(at(1))), budget.bytes(other)), (0, 7));
        drop(claimed);
        assert_eq!(budget.bytes(other), 0);
    }
}
