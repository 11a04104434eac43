//! One key of AES-256-GCM: a fresh nonce before each text, and a tag after it.

use std::fmt;
use std::sync::Arc;

use longshore_types::IdSource;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize as _, Zeroizing};

/// A key that seals and opens.
#[derive(Clone)]
pub struct Cipher(Arc<LessSafeKey>);

impl Cipher {
    pub fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of AES-256 has 32 bytes");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    /// The nonce, and what `plain` became.
    pub fn seal(&self, ids: &dyn IdSource, bound_to: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        ids.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        let (once, bound) = (Nonce::assume_unique_for_key(nonce), Aad::from(bound_to));
        let done = self.0.seal_in_place_append_tag(once, bound, &mut sealed);
        done.expect("what is sealed is far shorter than what AES-GCM takes");
        [nonce.as_slice(), &sealed].concat()
    }

    /// `None` for what another key sealed, or for something else, or that was changed since.
    pub fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self.0.open_in_place(nonce, Aad::from(bound_to), &mut body).ok()?;
        let length = plain.len();
        body[length..].zeroize();
        body.truncate(length);
        Some(body)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(…)")
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_key_and_its_thing_alone() {
        let env = SeededEnv::from_seed(1);
        let cipher = Cipher::new(&[1; 32]);
        let sealed = cipher.seal(&env, b"row 1", b"plain");
        assert_eq!(cipher.open(b"row 1", &sealed).unwrap().as_slice(), b"plain");
        assert_eq!(cipher.open(b"row 2", &sealed), None);
        assert_eq!(Cipher::new(&[2; 32]).open(b"row 1", &sealed), None);
        assert_ne!(cipher.seal(&env, b"row 1", b"plain"), sealed, "no nonce is used twice");
        for cut in 0..sealed.len() {
            assert_eq!(cipher.open(b"row 1", &sealed[..cut]), None, "{cut}");
        }
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(cipher.open(b"row 1", &changed), None, "{place}");
        }
    }
}
