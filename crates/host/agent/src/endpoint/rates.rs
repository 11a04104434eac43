//! How often an address may ask: as often as it is used to, and a burst beyond.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use longshore_types::Timestamp;

/// Addresses that are remembered; those that asked nothing lately are forgotten first.
const REMEMBERED_MAX: usize = 4_096;

/// What an address has left, in thousandths of a question.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u64,
    at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<BTreeMap<IpAddr, Bucket>>);

impl Rates {
    /// Whether one more question is within `max` a second; half as many again may come at once.
    pub(super) fn admit(&self, from: IpAddr, max: u32, now: Timestamp) -> bool {
        let full = u64::from(max) * 1_500;
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if REMEMBERED_MAX <= buckets.len() && !buckets.contains_key(&from) {
            buckets.retain(|_, bucket| now.since_ms(bucket.at) < 2_000);
        }
        let bucket = buckets.entry(from).or_insert(Bucket { left: full, at: now });
        let gained = now.since_ms(bucket.at).saturating_mul(u64::from(max));
        bucket.left = bucket.left.saturating_add(gained).min(full);
        bucket.at = now;
        let is_admitted = 1_000 <= bucket.left;
        if is_admitted {
            bucket.left -= 1_000;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let rates = Rates::default();
        let [own, other] = [IpAddr::from([172, 31, 0, 9]), IpAddr::from([172, 31, 0, 10])];
        let admitted = |from, at| (0..200).filter(|_| rates.admit(from, 40, Timestamp(at))).count();
        assert_eq!(admitted(own, 1_000), 60);
        assert_eq!(admitted(own, 1_500), 20);
        assert_eq!(admitted(own, 60_000), 60);
        assert_eq!(admitted(other, 60_000), 60);
    }
}
