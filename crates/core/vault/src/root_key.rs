//! The root key: the one secret that is not in the data.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use longshore_types::IdSource;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cipher::Cipher;
use crate::data_key::DataKey;

/// How a wrapped key begins: the format that this code writes.
const FORMAT: &str = "v1";

/// Tells root keys apart without telling anything of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = NotARootKey;

    fn from_str(text: &str) -> Result<Self, NotARootKey> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotARootKey)?;
        Ok(Self(bytes))
    }
}

/// A text that is no root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a root key is 32 bytes, written in base64 or as 64 hexadecimal digits")]
pub struct NotARootKey;

/// Why a wrapped key can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwrap {
    #[error("it was wrapped by the root key {0}")]
    OtherRoot(Fingerprint),
    #[error("it is damaged, or belongs to something else")]
    Damaged,
}

/// What wraps data keys.
#[derive(Clone)]
pub struct RootKey {
    bytes: Zeroizing<[u8; 32]>,
    cipher: Cipher,
    fingerprint: Fingerprint,
}

impl RootKey {
    pub fn mint(ids: &dyn IdSource) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        ids.fill(bytes.as_mut());
        Self::new(bytes)
    }

    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let derived = |of: &str| -> [u8; 32] {
            let mut mac: Hmac<Sha256> =
                Hmac::new_from_slice(bytes.as_slice()).expect("a key of any length will do");
            mac.update(b"longshore|root|");
            mac.update(of.as_bytes());
            mac.finalize().into_bytes().into()
        };
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&derived("fingerprint")[..8]);
        let cipher = Cipher::new(&Zeroizing::new(derived("wrap")));
        Self { cipher, fingerprint: Fingerprint(fingerprint), bytes }
    }

    /// Reads what [`RootKey::text`] wrote, or an operator's own: `openssl rand -base64 32` makes one.
    pub fn parse(text: &str) -> Result<Self, NotARootKey> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; 32]);
        if text.len() == 64 && hex::decode_to_slice(text, bytes.as_mut()).is_ok() {
            return Ok(Self::new(bytes));
        }
        let decoded = STANDARD.decode(text).map(Zeroizing::new).map_err(|_| NotARootKey)?;
        if decoded.len() != bytes.len() {
            return Err(NotARootKey);
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self::new(bytes))
    }

    /// As it is kept in a file.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.bytes.as_slice()))
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// `v1`, the root key's fingerprint and the data key, sealed, for a row to keep.
    pub fn wrap(&self, ids: &dyn IdSource, bound_to: &[u8], key: &DataKey) -> String {
        let sealed = self.cipher.seal(ids, bound_to, key.bytes());
        format!("{FORMAT}.{}.{}", self.fingerprint, URL_SAFE_NO_PAD.encode(sealed))
    }

    pub fn unwrap(&self, bound_to: &[u8], wrapped: &str) -> Result<DataKey, Unwrap> {
        let (root, sealed) = parts(wrapped).ok_or(Unwrap::Damaged)?;
        if root != self.fingerprint {
            return Err(Unwrap::OtherRoot(root));
        }
        let opened = self.cipher.open(bound_to, &sealed).ok_or(Unwrap::Damaged)?;
        DataKey::from_bytes(&opened).ok_or(Unwrap::Damaged)
    }

    /// Which root key wrapped a data key.
    pub fn wrapped_by(wrapped: &str) -> Option<Fingerprint> {
        parts(wrapped).map(|(root, _)| root)
    }
}

fn parts(wrapped: &str) -> Option<(Fingerprint, Vec<u8>)> {
    let (format, rest) = wrapped.split_once('.')?;
    let (root, sealed) = rest.split_once('.').filter(|_| format == FORMAT)?;
    Some((root.parse().ok()?, URL_SAFE_NO_PAD.decode(sealed).ok()?))
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn a_wrapped_key_opens_for_its_root_and_its_owner_alone() {
        let env = SeededEnv::from_seed(1);
        let [root, other] = [0; 2].map(|_| RootKey::mint(&env));
        let key = DataKey::mint(&env);
        let wrapped = root.wrap(&env, b"key 1", &key);
        assert_eq!(root.unwrap(b"key 1", &wrapped).unwrap().bytes(), key.bytes());
        assert_eq!(RootKey::wrapped_by(&wrapped), Some(root.fingerprint()));
        let refused = |root: &RootKey, bound: &[u8], text: &str| root.unwrap(bound, text).err();
        assert_eq!(refused(&root, b"key 2", &wrapped), Some(Unwrap::Damaged));
        let by_other = Unwrap::OtherRoot(root.fingerprint());
        assert_eq!(refused(&other, b"key 1", &wrapped), Some(by_other));
        for broken in ["", "v1", "v1..", "v2.0011223344556677.AAAA", &wrapped[..30]] {
            assert_eq!(refused(&root, b"key 1", broken), Some(Unwrap::Damaged), "{broken}");
        }
    }

    #[test]
    fn a_root_key_is_read_as_it_was_written_and_printed_by_its_fingerprint() {
        let root = RootKey::mint(&SeededEnv::from_seed(1));
        let text = root.text();
        let in_hex = hex::encode(root.bytes.as_slice());
        for written in [text.as_str(), &format!("{}\n", *text), &in_hex, &in_hex.to_uppercase()] {
            assert_eq!(RootKey::parse(written).unwrap().fingerprint(), root.fingerprint());
        }
        for wrong in ["", "secret", "AAAA", &text[1..], &in_hex[1..]] {
            assert_eq!(RootKey::parse(wrong).err(), Some(NotARootKey), "{wrong}");
        }
        assert_eq!(format!("{root:?}"), format!("RootKey({})", root.fingerprint()));
    }
}
