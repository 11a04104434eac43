//! What is kept or handed out sealed: encrypted and authenticated under a key that is derived from the
//! region's secret for one purpose, and bound to what it belongs to.
//!
//! **Invariant:** what was sealed for one purpose, or bound to one thing, opens for no other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use longshore_types::{IdSource, Token};
use sha2::Sha256;
use vault::Cipher;

/// The key of one purpose.
#[derive(Clone, Debug)]
pub struct Seal(Cipher);

impl Seal {
    pub fn new(secret: &Token, purpose: &str) -> Self {
        Self(Cipher::new(&derive(secret, "seal", purpose)))
    }

    pub fn seal(&self, ids: &dyn IdSource, bound_to: &str, plain: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.0.seal(ids, bound_to.as_bytes(), plain))
    }

    pub fn open(&self, bound_to: &str, sealed: &str) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        self.0.open(bound_to.as_bytes(), &sealed).map(|plain| plain.to_vec())
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
