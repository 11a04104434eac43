//! Numbers for links' names: none is given twice, whichever process of the region asks.
//!
//! A name may be looked for long after it was given, by the next process as by the kernel's own
//! tidying, and must not mean another link by then. So the numbers go on where the last process ended.
//!
//! **Invariant:** the file says a number that is above all that were ever given.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::error::NetworkError;
use crate::limits::LINK_NUMBERS_AHEAD;
use crate::names::{LinkName, LinkNumber};
use crate::records::Records;

/// Gives numbers out. A file is written once for many of them, ahead of need.
#[derive(Debug)]
pub(crate) struct LinkNumbers {
    records: Records,
    free: Mutex<Free>,
}

/// The numbers that may be given before the file is written again.
#[derive(Clone, Copy, Debug)]
struct Free {
    next: LinkNumber,
    end: LinkNumber,
}

impl LinkNumbers {
    /// Goes on where the file says or, without one, above those of `links`.
    pub(crate) fn open(records: Records, links: &BTreeSet<LinkName>) -> Self {
        let above =
            || links.iter().filter_map(LinkName::number).map(after).max_by_key(|it| it.value());
        let first = records.first_link_number().or_else(above).unwrap_or(LinkNumber::new(0));
        Self { records, free: Mutex::new(Free { next: first, end: first }) }
    }

    pub(crate) fn next(&self) -> Result<LinkNumber, NetworkError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.next == free.end {
            let end = LinkNumber::new(free.end.value() + LINK_NUMBERS_AHEAD);
            self.records.save_first_link_number(end)?;
            free.end = end;
        }
        let number = free.next;
        free.next = after(number);
        Ok(number)
    }
}

fn after(number: LinkNumber) -> LinkNumber {
    LinkNumber::new(number.value() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_goes_on_where_this_one_may_have_been() {
        let dir = tempfile::tempdir().unwrap();
        let tag: crate::NetTag = "0a0b0c0d".parse().unwrap();
        let open = |links: &[u32]| {
            let names = links.iter().map(|number| tag.link(LinkNumber::new(*number)));
            LinkNumbers::open(Records::at(dir.path()), &names.collect())
        };
        let mut seen = BTreeSet::new();
        let numbers = open(&[7, 3]);
        assert_eq!(numbers.next().unwrap(), LinkNumber::new(8), "links of before there was a file");
        drop(numbers);
        for asked in [1, LINK_NUMBERS_AHEAD - 1, LINK_NUMBERS_AHEAD, LINK_NUMBERS_AHEAD + 1, 5] {
            let numbers = open(&[]);
            for _ in 0..asked {
                assert!(seen.insert(numbers.next().unwrap().value()));
            }
        }
        assert!(!seen.contains(&8));
        Records::at(dir.path())
            .save_first_link_number(LinkNumber::new(LinkNumber::END - 2))
            .unwrap();
        let numbers = open(&[]);
        let last: Vec<u32> = (0..4).map(|_| numbers.next().unwrap().value()).collect();
        assert_eq!(last, [LinkNumber::END - 2, LinkNumber::END - 1, 0, 1]);
    }
}
