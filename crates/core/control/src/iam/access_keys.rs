//! Access keys whose ids say which account they are of, and when keys were last used.
//!
//! An id is four letters of its kind, eight that are the account in base 32, and eight that are drawn. So a
//! key is found in its account's rows without an index over all accounts, and GetAccessKeyInfo knows the
//! account of a key that is no more.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use longshore_types::{AccountId, IdSource, Timestamp};

/// Of a user's own keys, and of temporary ones.
pub const LONG_TERM: &str = "AKIA";
pub const TEMPORARY: &str = "ASIA";

pub(super) const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ACCOUNT_LETTERS: usize = 8;
const ID_LETTERS: usize = 20;
const ACCOUNT_MAX: u64 = 999_999_999_999;

/// A fresh id for a key of an account.
pub fn mint(kind: &str, account: AccountId, ids: &dyn IdSource) -> String {
    let digits: u64 = account.as_str().parse().unwrap_or_default();
    let letter = |five: u64| char::from(ALPHABET[usize::try_from(five & 31).unwrap_or_default()]);
    let of_account = (0..ACCOUNT_LETTERS).rev().map(|place| letter(digits >> (5 * place)));
    let drawn = ids.id16().into_iter().take(ACCOUNT_LETTERS).map(|byte| letter(u64::from(byte)));
    kind.chars().chain(of_account).chain(drawn).collect()
}

/// The account that an id says; `None` if it is no id of a key of ours.
pub fn account_of(id: &str) -> Option<AccountId> {
    let letters = id.strip_prefix(LONG_TERM).or_else(|| id.strip_prefix(TEMPORARY))?;
    if id.len() != ID_LETTERS {
        return None;
    }
    let number = letters.bytes().take(ACCOUNT_LETTERS).try_fold(0_u64, |number, letter| {
        let five = ALPHABET.iter().position(|each| *each == letter)?;
        Some(number << 5 | u64::try_from(five).ok()?)
    })?;
    (number <= ACCOUNT_MAX).then(|| format!("{number:012}").parse().ok())?
}

/// A use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    pub account: AccountId,
    pub at: Timestamp,
    pub service: &'static str,
    pub region: String,
}

/// The last uses of users' keys that are not written down yet: a request costs a look here, and what is new
/// is written for all keys together now and then.
#[derive(Debug, Default)]
pub struct KeyUses(Mutex<BTreeMap<String, KeyUse>>);

/// Keys whose use is remembered at once; others are passed over until these are written.
const USES_MAX: usize = 10_000;
/// A use that comes so soon after the last one of the same service is not remembered.
const COARSE_MS: u64 = 60_000;

impl KeyUses {
    pub fn note(&self, key: &str, used: KeyUse) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = match uses.get(key) {
            Some(last) => last.service != used.service || COARSE_MS <= used.at.since_ms(last.at),
            None => uses.len() < USES_MAX,
        };
        if is_news {
            uses.insert(key.to_owned(), used);
        }
    }

    pub fn last(&self, key: &str) -> Option<KeyUse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<(String, KeyUse)> {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.iter().map(|(key, used)| (key.clone(), used.clone())).collect()
    }

    /// Forgets those that were written down, unless there are newer ones by now.
    pub fn written(&self, written: &[(String, KeyUse)]) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, used) in written {
            if uses.get(key) == Some(used) {
                uses.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn an_id_says_its_account() {
        let env = SeededEnv::from_seed(1);
        for text in ["000000000000", "111122223333", "999999999999"] {
            let account = text.parse().unwrap();
            for kind in [LONG_TERM, TEMPORARY] {
                let id = mint(kind, account, &env);
                assert_eq!(id.len(), ID_LETTERS);
                assert_eq!(account_of(&id), Some(account), "{id}");
            }
        }
        for other in ["", "AKIA", "AKIAAAAA", "ASIA7777777777777777", "AKIA0000000000000000", "é"]
        {
            assert_eq!(account_of(other), None, "{other}");
        }
    }

    #[test]
    fn uses_are_coarse_and_newer_ones_are_not_forgotten() {
        let uses = KeyUses::default();
        let used = |at, service| KeyUse {
            account: "000000000000".parse().unwrap(),
            at: Timestamp(at),
            service,
            region: "us-east-1".to_owned(),
        };
        uses.note("a", used(1_000, "ecs"));
        uses.note("a", used(2_000, "ecs"));
        assert_eq!(uses.last("a"), Some(used(1_000, "ecs")));
        let written = uses.all();
        uses.note("a", used(3_000, "iam"));
        uses.written(&written);
        assert_eq!(uses.last("a"), Some(used(3_000, "iam")));
        uses.written(&uses.all());
        assert_eq!(uses.last("a"), None);
    }
}
