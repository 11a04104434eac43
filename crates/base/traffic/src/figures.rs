//! What is counted of requests and connections, as numbers that only grow: whoever takes them over looks at what they have
//! grown by since it looked last.

use serde::{Deserialize, Serialize};

/// Buckets of times, in steps of the square root of two from 100 microseconds on: up to some 100 seconds, and all above.
pub const TIME_BUCKETS: usize = 42;
const FIRST_US: u64 = 100;

/// The longest time, in microseconds, that a bucket has.
pub fn end_of(bucket: usize) -> u64 {
    let doubled = FIRST_US << (bucket / 2).min(32);
    // 181/128 is the root of two.
    if bucket.is_multiple_of(2) { doubled } else { doubled * 181 / 128 }
}

/// The bucket of a time in microseconds.
pub fn bucket_of(us: u64) -> usize {
    (0..TIME_BUCKETS - 1).find(|bucket| us <= end_of(*bucket)).unwrap_or(TIME_BUCKETS - 1)
}

/// What was counted since the process that counts began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counted {
    pub requests: u64,
    pub grpc_requests: u64,
    /// Of clients, opened.
    pub connections: u64,
    /// Of them, those that are open at the moment.
    pub open: u64,
    /// From clients.
    pub bytes_in: u64,
    /// To clients.
    pub bytes_out: u64,
    /// Handshakes that clients ended, or did not end.
    pub client_tls_errors: u64,
    /// The same with targets, among them those that did not show who they are.
    pub target_tls_errors: u64,
    /// Of targets: 2xx, 3xx, 4xx, 5xx.
    pub answers: [u64; 4],
    /// How many answers took how long until they began, by [`bucket_of`].
    pub times: Vec<u64>,
    /// All of these times together, in microseconds.
    pub times_us: u64,
    /// Answers that are no target's, by [`OWN_ANSWERS`].
    pub own_answers: [u64; OWN_ANSWERS.len()],
    /// Connections to targets that were not come by.
    pub target_connect_errors: u64,
}

/// What is told apart of answers that are no target's: classes of statuses, and some statuses by themselves.
pub const OWN_ANSWERS: [&str; 7] = ["3XX", "4XX", "5XX", "500", "502", "503", "504"];

impl Counted {
    /// Takes in what others counted.
    pub fn add(&mut self, other: &Self) {
        for (own, others) in [
            (&mut self.requests, other.requests),
            (&mut self.grpc_requests, other.grpc_requests),
            (&mut self.connections, other.connections),
            (&mut self.open, other.open),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.client_tls_errors, other.client_tls_errors),
            (&mut self.target_tls_errors, other.target_tls_errors),
            (&mut self.times_us, other.times_us),
            (&mut self.target_connect_errors, other.target_connect_errors),
        ] {
            *own = own.saturating_add(others);
        }
        let own = self.answers.iter_mut().chain(&mut self.own_answers);
        for (own, others) in own.zip(other.answers.into_iter().chain(other.own_answers)) {
            *own = own.saturating_add(others);
        }
        let buckets = other.times.len().min(TIME_BUCKETS).max(self.times.len());
        self.times.resize(buckets, 0);
        for (own, others) in self.times.iter_mut().zip(&other.times) {
            *own = own.saturating_add(*others);
        }
    }

    /// What was counted since the same process had counted `before`; all of it where anything is less than that had: then it is
    /// another that counts. What is open is what is open.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        self.grown(before).unwrap_or_else(|| self.clone())
    }

    fn grown(&self, before: &Self) -> Option<Self> {
        let less = u64::checked_sub;
        let mut grown = Self {
            requests: less(self.requests, before.requests)?,
            grpc_requests: less(self.grpc_requests, before.grpc_requests)?,
            connections: less(self.connections, before.connections)?,
            open: self.open,
            bytes_in: less(self.bytes_in, before.bytes_in)?,
            bytes_out: less(self.bytes_out, before.bytes_out)?,
            client_tls_errors: less(self.client_tls_errors, before.client_tls_errors)?,
            target_tls_errors: less(self.target_tls_errors, before.target_tls_errors)?,
            times_us: less(self.times_us, before.times_us)?,
            target_connect_errors: less(self.target_connect_errors, before.target_connect_errors)?,
            ..self.clone()
        };
        let own = grown.answers.iter_mut().chain(&mut grown.own_answers).chain(&mut grown.times);
        let others = before.answers.iter().chain(&before.own_answers).chain(&before.times);
        for (own, others) in own.zip(others) {
            *own = own.checked_sub(*others)?;
        }
        Some(grown)
    }

    pub fn answered(&self) -> u64 {
        self.times.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// In microseconds: a time that no more than so many hundredths of the answers took longer than the rest; none of no
    /// answers.
    pub fn percentile_us(&self, hundredths: u64) -> Option<u64> {
        let all = self.answered();
        let wanted = all.saturating_mul(hundredths).div_ceil(100).max(1);
        let mut seen = 0_u64;
        let at = self.times.iter().position(|count| {
            seen = seen.saturating_add(*count);
            wanted <= seen
        });
        at.filter(|_| all > 0).map(end_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_ends_after_it() {
        for bucket in 0..TIME_BUCKETS - 1 {
            assert_eq!(bucket_of(end_of(bucket)), bucket);
            assert_eq!(bucket_of(end_of(bucket) + 1), bucket + 1);
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, TIME_BUCKETS - 1));
        assert_eq!((end_of(0), end_of(2), end_of(20)), (100, 200, 102_400));
    }

    #[test]
    fn what_has_grown_is_told_and_all_of_who_begins_anew() {
        let of = |requests, open| Counted {
            requests,
            open,
            answers: [requests, 0, 0, 0],
            own_answers: [0, 0, 1, 0, 0, 1, 0],
            times: vec![requests],
            times_us: requests * 7,
            ..Counted::default()
        };
        let grown = of(5, 1).since(&of(3, 2));
        assert_eq!((grown.requests, grown.open, grown.answers), (2, 1, [2, 0, 0, 0]));
        assert_eq!((grown.times, grown.times_us, grown.own_answers), (vec![2], 14, [0; 7]));
        assert_eq!(of(2, 0).since(&of(3, 2)), of(2, 0));
        assert_eq!(of(2, 0).since(&Counted::default()), of(2, 0));
    }

    #[test]
    fn what_several_counted_is_one_and_its_percentiles_are_of_all() {
        let of = |us: u64, count: u64| {
            let mut times = vec![0; TIME_BUCKETS];
            times[bucket_of(us)] = count;
            Counted { requests: count, answers: [count, 0, 0, 1], times, ..Counted::default() }
        };
        let mut all = Counted::default();
        assert_eq!(all.percentile_us(50), None);
        all.add(&of(100, 98));
        all.add(&of(6_400, 2));
        assert_eq!((all.requests, all.answered(), all.answers), (100, 100, [100, 0, 0, 2]));
        assert_eq!(
            [50, 98, 99].map(|it| all.percentile_us(it)),
            [Some(100), Some(100), Some(6_400)]
        );
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Counted>(&text).unwrap(), all);
    }
}
