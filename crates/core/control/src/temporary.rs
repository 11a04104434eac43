//! Temporary credentials: what an agent writes a task's logs and fetches its images with.
//!
//! A host runs tasks of any account, and must not need a key of every account for that. So each task
//! comes with a key of its own account, which ends by itself and opens little. Nothing is kept of
//! it: the id says whose it is and when it ends, and the rest is derived from the id.
//!
//! **Invariant:** who doesn't know the region's secret makes no key that [`read`] gives a secret to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use longshore_types::{AccountId, TaskArn, Timestamp, Token, Uuid};
use sha2::Sha256;

/// How long a key is good: as long as ECR's tokens. It ends on the hour.
const HOURS: u64 = 12;
const HOUR_MS: u64 = 3_600_000;
/// After so long a task is sent a new one.
const RENEW_MS: u64 = HOURS / 2 * HOUR_MS;
const PREFIX: &str = "ASIA";
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Of five bits each: 40 of the account, 20 of the hour and 20 of the task.
const LETTERS: u32 = 16;
const ACCOUNT_MAX: u128 = 999_999_999_999;
const PART_MAX: u128 = (1 << 20) - 1;

/// A key that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporaryKey {
    pub account: AccountId,
    pub access_key_id: String,
    pub secret: Token,
    pub session_token: Token,
    pub expires: Timestamp,
}

/// The key that a task may use from `now` on. The same hour gives the same key.
pub fn of_task(seed: &Token, task: &TaskArn, now: Timestamp) -> TemporaryKey {
    let account = task.scope.account;
    let digits: u128 = account.as_str().parse().unwrap_or_default();
    let hour = u128::from(now.0 / HOUR_MS + HOURS).min(PART_MAX);
    let digest = derive(seed, "task", &task.to_string());
    let bound = u128::from(u32::from_be_bytes([0, digest[0], digest[1], digest[2]])) & PART_MAX;
    let number = digits << 40 | hour << 20 | bound;
    let letter = |place: u32| {
        let five = usize::try_from(number >> (5 * place) & 31).unwrap_or_default();
        char::from(ALPHABET[five])
    };
    let letters = (0..LETTERS).rev().map(letter);
    complete(seed, account, hour, format!("{PREFIX}{}", String::from_iter(letters)))
}

/// The key with this id; `None` if it is none of ours.
pub fn read(seed: &Token, access_key_id: &str) -> Option<TemporaryKey> {
    let letters = access_key_id.strip_prefix(PREFIX)?;
    if letters.len() != usize::try_from(LETTERS).ok()? {
        return None;
    }
    let number = letters.bytes().try_fold(0_u128, |number, letter| {
        let five = ALPHABET.iter().position(|each| *each == letter)?;
        Some(number << 5 | u128::try_from(five).ok()?)
    })?;
    let digits = number >> 40;
    if ACCOUNT_MAX < digits {
        return None;
    }
    let account = format!("{digits:012}").parse().ok()?;
    Some(complete(seed, account, number >> 20 & PART_MAX, access_key_id.to_owned()))
}

/// Whether who was sent a key at `sent_at` needs the next one.
pub fn is_due(sent_at: Timestamp, now: Timestamp) -> bool {
    RENEW_MS <= now.since_ms(sent_at)
}

/// What a task's credentials are called: the same for as long as it lives.
pub fn credentials_id(seed: &Token, task: &TaskArn) -> Uuid {
    let digest = derive(seed, "credentials id", &task.to_string());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::from_random(bytes)
}

fn complete(seed: &Token, account: AccountId, hour: u128, access_key_id: String) -> TemporaryKey {
    let hour = u64::try_from(hour).unwrap_or_default();
    let secret = URL_SAFE_NO_PAD.encode(&derive(seed, "secret", &access_key_id)[..30]);
    let session_token = URL_SAFE_NO_PAD.encode(derive(seed, "session token", &access_key_id));
    TemporaryKey {
        account,
        access_key_id,
        secret: Token::from_text(secret),
        session_token: Token::from_text(session_token),
        expires: Timestamp(hour * HOUR_MS),
    }
}

fn derive(seed: &Token, label: &str, of: &str) -> [u8; 32] {
    let mut mac: Hmac<Sha256> =
        Hmac::new_from_slice(seed.reveal().as_bytes()).expect("a key of any length will do");
    mac.update(format!("temporary credentials|{label}|{of}").as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn seed(text: &str) -> Token {
        Token::from_text(text.to_owned())
    }

    fn task(account: &str, digit: char) -> TaskArn {
        let id = String::from_iter([digit; 32]);
        format!("arn:aws:ecs:us-east-1:{account}:task/demo/{id}").parse().unwrap()
    }

    #[test]
    fn an_id_says_whose_it_is_and_when_it_ends() {
        for account in ["000000000000", "111122223333", "999999999999"] {
            let key = of_task(&seed("a"), &task(account, '1'), NOW);
            assert_eq!(key.account.as_str(), account);
            assert_eq!((key.access_key_id.len(), key.secret.reveal().len()), (20, 40));
            let left_ms = key.expires.since_ms(NOW);
            assert!((11 * HOUR_MS..=12 * HOUR_MS).contains(&left_ms), "{left_ms}");
            assert_eq!(read(&seed("a"), &key.access_key_id), Some(key));
        }
    }

    #[test]
    fn tasks_hours_and_regions_have_keys_of_their_own() {
        let key = of_task(&seed("a"), &task("111122223333", '1'), NOW);
        assert_eq!(key, of_task(&seed("a"), &task("111122223333", '1'), NOW));
        let other_task = of_task(&seed("a"), &task("111122223333", '2'), NOW);
        let later = of_task(&seed("a"), &task("111122223333", '1'), NOW.plus_ms(HOUR_MS));
        for other in [other_task, later] {
            assert_ne!(key.access_key_id, other.access_key_id);
            assert_ne!(key.secret, other.secret);
        }
        let elsewhere = read(&seed("b"), &key.access_key_id).unwrap();
        assert_ne!(key.secret, elsewhere.secret);
        assert_ne!(key.secret.reveal(), &key.session_token.reveal()[..40]);
    }

    #[test]
    fn a_task_of_days_is_renewed_four_times_a_day_and_never_without_a_key() {
        let task = task("111122223333", '1');
        let key = |now| of_task(&seed("a"), &task, now);
        // A socket looks once a minute; the worst hour for a key to be made in is a full one.
        for start in [NOW.0 / HOUR_MS * HOUR_MS, NOW.0 / HOUR_MS * HOUR_MS + HOUR_MS - 1] {
            let (mut sent_at, mut held) = (Timestamp(start), key(Timestamp(start)));
            let mut keys = 1;
            for minute in 1..=3 * 24 * 60 {
                let now = Timestamp(start + minute * 60_000);
                assert!(now < held.expires, "without a key at minute {minute}");
                if is_due(sent_at, now) {
                    let next = key(now);
                    assert_ne!(next.access_key_id, held.access_key_id);
                    // The old one is good for whatever is on its way.
                    assert!(HOUR_MS < held.expires.since_ms(now));
                    (sent_at, held) = (now, next);
                    keys += 1;
                }
            }
            assert_eq!(keys, 13);
        }
    }

    #[test]
    fn other_ids_are_passed_over() {
        for id in
            ["", "ASIA", "AKIAAAAAAAAAAAAAAAAA", "ASIA0000000000000000", "ASIA7777777777777777"]
        {
            assert_eq!(read(&seed("a"), id), None, "{id}");
        }
    }
}
