//! What is kept or handed out sealed: encrypted and authenticated under a key that is derived from the
//! region's secret for one purpose, and bound to what it belongs to.
//!
//! **Invariant:** what was sealed for one purpose, or bound to one thing, opens for no other.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use longshore_types::{IdSource, Token};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::Sha256;

/// The key of one purpose.
#[derive(Clone)]
pub struct Seal(Arc<LessSafeKey>);

impl Seal {
    pub fn new(secret: &Token, purpose: &str) -> Self {
        let key = derive(secret, "seal", purpose);
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("a key of AES-256 has 32 bytes");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    pub fn seal(&self, ids: &dyn IdSource, bound_to: &str, plain: &[u8]) -> String {
        let mut nonce = [0; NONCE_LEN];
        ids.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        let (once, bound) = (Nonce::assume_unique_for_key(nonce), Aad::from(bound_to.as_bytes()));
        let done = self.0.seal_in_place_append_tag(once, bound, &mut sealed);
        done.expect("what is sealed is far shorter than what AES-GCM takes");
        URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())
    }

    pub fn open(&self, bound_to: &str, sealed: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let plain = self.0.open_in_place(nonce, Aad::from(bound_to.as_bytes()), &mut body).ok()?;
        Some(plain.to_vec())
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

/// A secret of a purpose, and of one thing within it.
pub(crate) fn derive(secret: &Token, purpose: &str, of: &str) -> [u8; 32] {
    let mut mac: Hmac<Sha256> =
        Hmac::new_from_slice(secret.reveal().as_bytes()).expect("a key of any length will do");
    mac.update(format!("longshore|{purpose}|{of}").as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_its_thing_alone() {
        let env = SeededEnv::from_seed(1);
        let secret = Token::from_text("secret".to_owned());
        let seal = Seal::new(&secret, "keys");
        let sealed = seal.seal(&env, "AKIA1", b"plain");
        assert_eq!(seal.open("AKIA1", &sealed).as_deref(), Some(b"plain".as_slice()));
        assert_eq!(seal.open("AKIA2", &sealed), None);
        assert_eq!(Seal::new(&secret, "sessions").open("AKIA1", &sealed), None);
        assert_ne!(seal.seal(&env, "AKIA1", b"plain"), sealed);
        let cut = &sealed[..sealed.len() - 2];
        for broken in ["", "a", "AAAA", cut] {
            assert_eq!(seal.open("AKIA1", broken), None, "{broken}");
        }
    }
}
