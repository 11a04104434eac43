//! Secrets, and the day's signing keys derived from them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use longshore_types::Token;

use super::TERMINATOR;

/// Derived keys held at most; the cache starts anew beyond it.
const CACHED_MAX: usize = 1024;

/// What a client signs with.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub access_key: String,
    pub secret: Token,
    pub session_token: Option<Token>,
}

/// A cache of derived signing keys: four HMACs are saved on each request.
#[derive(Default)]
pub struct SigningKeys {
    derived: RwLock<HashMap<String, [u8; 32]>>,
}

impl SigningKeys {
    /// The key for a day (`20261120`), a region and a service.
    pub(super) fn get(&self, secret: &Token, date: &str, region: &str, service: &str) -> [u8; 32] {
        let secret = secret.reveal();
        // Lengths make the name unambiguous: the parts come from the request.
        let name = format!("{}:{secret}{date}/{}:{region}{service}", secret.len(), region.len());
        let cached = self.derived.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = cached.get(&name) {
            return *key;
        }
        drop(cached);
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        for part in [region, service, TERMINATOR] {
            key = hmac(&key, part.as_bytes());
        }
        let mut derived = self.derived.write().unwrap_or_else(PoisonError::into_inner);
        if derived.len() >= CACHED_MAX {
            derived.clear();
        }
        derived.insert(name, key);
        key
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

pub(super) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
