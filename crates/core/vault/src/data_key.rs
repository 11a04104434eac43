//! A data key: what seals the values of its owner, and is itself kept only wrapped.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use longshore_types::IdSource;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cipher::Cipher;

/// Bytes before a sealed value that its own key is derived from.
pub const SALT_LEN: usize = 16;

/// 256 bits of key material.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    pub fn mint(ids: &dyn IdSource) -> Self {
        let mut material = Zeroizing::new([0; 32]);
        ids.fill(material.as_mut());
        Self(material)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let material: [u8; 32] = bytes.try_into().ok()?;
        Some(Self(Zeroizing::new(material)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// A salt, and what `plain` became under the key that goes with it. With a key of its own for each value
    /// no number of values is too large for nonces that are drawn at random.
    pub fn seal(&self, ids: &dyn IdSource, bound_to: &[u8], plain: &[u8]) -> Vec<u8> {
        let salt = ids.id16();
        let sealed = self.cipher(&salt).seal(ids, bound_to, plain);
        [salt.as_slice(), &sealed].concat()
    }

    /// `None` for what another key sealed, or for something else, or that was changed since.
    pub fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, body) = sealed.split_at_checked(SALT_LEN)?;
        self.cipher(salt).open(bound_to, body)
    }

    /// Key material of its own for whatever `info` says, from which neither this key nor any other is found: the
    /// expansion of HKDF with SHA-256, one block of it.
    pub fn derive(&self, info: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut mac: Hmac<Sha256> =
            Hmac::new_from_slice(self.bytes()).expect("a key of any length will do");
        mac.update(b"longshore|derive|");
        mac.update(info);
        mac.update(&[1]);
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    fn cipher(&self, salt: &[u8]) -> Cipher {
        let mut mac: Hmac<Sha256> =
            Hmac::new_from_slice(self.bytes()).expect("a key of any length will do");
        mac.update(b"longshore|value|");
        mac.update(salt);
        let key = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
        Cipher::new(&key)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn each_value_has_a_key_of_its_own() {
        let env = SeededEnv::from_seed(1);
        let key = DataKey::mint(&env);
        let [one, two] = [0; 2].map(|_| key.seal(&env, b"row", b"plain"));
        assert_ne!(one[..SALT_LEN], two[..SALT_LEN]);
        assert_eq!(key.open(b"row", &one).unwrap().as_slice(), b"plain");
        let mixed = [&one[..SALT_LEN], &two[SALT_LEN..]].concat();
        assert_eq!(key.open(b"row", &mixed), None);
        assert_eq!(key.open(b"other row", &two), None);
        assert_eq!(DataKey::mint(&env).open(b"row", &one), None);
        assert_eq!(key.open(b"row", b"short"), None);
        assert_eq!(format!("{key:?}"), "DataKey(…)");
    }

    #[test]
    fn what_is_derived_is_the_same_for_the_same_alone() {
        let env = SeededEnv::from_seed(1);
        let (key, other) = (DataKey::mint(&env), DataKey::mint(&env));
        assert_eq!(key.derive(b"one"), key.derive(b"one"));
        assert_ne!(key.derive(b"one"), key.derive(b"two"));
        assert_ne!(key.derive(b"one"), other.derive(b"one"));
    }
}
