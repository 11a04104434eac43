//! How often something secret and short may be guessed: a password, a one-time code.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_types::{AccountId, Timestamp};

/// Wrong guesses of a name within this time, after which it is not asked any more until the time is over.
pub const GUESSES_MAX: u32 = 10;
pub const GUESSES_MS: u64 = 15 * 60_000;
/// Names whose wrong guesses are counted.
pub const GUESSED_MAX: usize = 10_000;

/// What is guessed of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    Password,
    Code,
}

type Name = (AccountId, Secret, String);

/// The wrong guesses of late. They are forgotten when the region ends.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<BTreeMap<Name, Wrong>>);

/// Those of a name since the first of them.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    since: Timestamp,
}

/// A guess that is looked at. It counts as a wrong one meanwhile, so that many at once are no more than one after the
/// other; one that is dropped was not looked at, and does not count.
#[derive(Debug)]
#[must_use]
pub struct Guess<'a> {
    all: &'a Guesses,
    name: Option<Name>,
}

impl Guesses {
    /// Another guess, if it is taken.
    pub fn guess(
        &self,
        account: AccountId,
        secret: Secret,
        name: &str,
        now: Timestamp,
    ) -> Option<Guess<'_>> {
        let mut wrong = self.lock();
        wrong.retain(|_, wrong| now.since_ms(wrong.since) < GUESSES_MS);
        let name = (account, secret, name.to_ascii_lowercase());
        if !wrong.contains_key(&name) && GUESSED_MAX <= wrong.len() {
            make_room(&mut wrong);
        }
        let known = wrong.entry(name.clone()).or_insert(Wrong { count: 0, since: now });
        if GUESSES_MAX <= known.count {
            return None;
        }
        known.count += 1;
        drop(wrong);
        Some(Guess { all: self, name: Some(name) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Wrong>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a name of which least was guessed, the oldest of those: whoever guesses at many a little has none forgotten
/// that is shut.
fn make_room(wrong: &mut BTreeMap<Name, Wrong>) {
    let least = wrong.iter().min_by_key(|(_, wrong)| (wrong.count, wrong.since));
    let least = least.map(|(name, _)| name.clone());
    least.and_then(|name| wrong.remove(&name));
}

impl Guess<'_> {
    /// All wrong ones before it are forgotten.
    pub fn was_right(mut self) {
        if let Some(name) = self.name.take() {
            self.all.lock().remove(&name);
        }
    }

    pub fn was_wrong(mut self) {
        self.name = None;
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let mut wrong = self.all.lock();
        if let Some(known) = wrong.get_mut(&name) {
            known.count = known.count.saturating_sub(1);
            if known.count == 0 {
                wrong.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountId {
        "111122223333".parse().unwrap()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp(1_000_000 + ms)
    }

    fn guess<'a>(guesses: &'a Guesses, name: &str, ms: u64) -> Option<Guess<'a>> {
        guesses.guess(account(), Secret::Password, name, at(ms))
    }

    #[test]
    fn a_name_that_was_guessed_at_too_often_is_shut_for_a_while_and_others_are_not() {
        let guesses = Guesses::default();
        for _ in 1..GUESSES_MAX {
            guess(&guesses, "Ann", 0).unwrap().was_wrong();
        }
        drop(guess(&guesses, "ann", 1).expect("one that was not looked at"));
        guess(&guesses, "ann", 1).unwrap().was_wrong();
        assert!(guess(&guesses, "ANN", 2).is_none());
        assert!(guess(&guesses, "bob", 2).is_some());
        assert!(guesses.guess(account(), Secret::Code, "ann", at(2)).is_some());
        assert!(guess(&guesses, "ann", GUESSES_MS).is_some());
    }

    #[test]
    fn a_right_guess_has_the_wrong_ones_before_it_forgotten() {
        let guesses = Guesses::default();
        for _ in 1..GUESSES_MAX {
            guess(&guesses, "ann", 0).unwrap().was_wrong();
        }
        guess(&guesses, "ann", 0).unwrap().was_right();
        let many: Vec<_> = (0..GUESSES_MAX).map(|_| guess(&guesses, "ann", 1)).collect();
        assert!(many.iter().all(Option::is_some));
    }

    #[test]
    fn many_guesses_at_once_are_no_more_than_one_after_the_other() {
        let guesses = Guesses::default();
        let many: Vec<_> = (0..2 * GUESSES_MAX).filter_map(|_| guess(&guesses, "ann", 0)).collect();
        assert_eq!(u32::try_from(many.len()), Ok(GUESSES_MAX));
        many.into_iter().for_each(Guess::was_wrong);
        assert!(guess(&guesses, "ann", 1).is_none());
    }

    #[test]
    fn whoever_guesses_at_many_names_has_none_forgotten_that_is_shut() {
        let guesses = Guesses::default();
        for _ in 0..GUESSES_MAX {
            guess(&guesses, "ann", 0).unwrap().was_wrong();
        }
        for number in 0..GUESSED_MAX + 20 {
            guess(&guesses, &format!("n{number}"), 1).unwrap().was_wrong();
        }
        assert_eq!(guesses.lock().len(), GUESSED_MAX);
        assert!(guess(&guesses, "ann", 2).is_none());
    }
}
