//! Passwords of people, of which hashes are kept alone: PBKDF2 with HMAC-SHA-256.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_types::{IdSource, Token};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use subtle::ConstantTimeEq as _;

/// A password's hash. It takes a good part of a second to come by, so it is made on a thread that may be held up.
#[derive(Clone)]
pub struct PasswordHash([u8; 32]);

impl PasswordHash {
    /// As many as OWASP asks for.
    pub const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("it is not zero");

    /// What a user's passwords are hashed with.
    pub fn salt(ids: &dyn IdSource) -> Token {
        Token::from_text(URL_SAFE_NO_PAD.encode(ids.id16()))
    }

    pub fn of(password: &Token, salt: &Token, rounds: NonZeroU32) -> Self {
        let mut hash = [0; 32];
        let (salt, password) = (salt.reveal().as_bytes(), password.reveal().as_bytes());
        pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, salt, password, &mut hash);
        Self(hash)
    }

    /// As rows keep it.
    pub fn text(&self) -> Token {
        Token::from_text(URL_SAFE_NO_PAD.encode(self.0))
    }

    /// Whether a kept hash is this one. How long that takes tells nothing of it.
    pub fn is(&self, kept: &Token) -> bool {
        let kept = URL_SAFE_NO_PAD.decode(kept.reveal()).unwrap_or_default();
        self.0.ct_eq(&kept).into()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    const FEW: NonZeroU32 = NonZeroU32::new(2).unwrap();

    fn token(text: &str) -> Token {
        Token::from_text(text.to_owned())
    }

    #[test]
    fn a_hash_is_that_of_its_password_salt_and_rounds_alone() {
        let salt = PasswordHash::salt(&SeededEnv::from_seed(1));
        let kept = PasswordHash::of(&token("correct horse"), &salt, FEW).text();
        assert!(PasswordHash::of(&token("correct horse"), &salt, FEW).is(&kept));
        let other_salt = PasswordHash::salt(&SeededEnv::from_seed(2));
        let other_rounds = NonZeroU32::new(3).unwrap();
        for other in [
            PasswordHash::of(&token("correct horsf"), &salt, FEW),
            PasswordHash::of(&token("correct horse"), &other_salt, FEW),
            PasswordHash::of(&token("correct horse"), &salt, other_rounds),
        ] {
            assert!(!other.is(&kept));
            assert!(!other.is(&token("")));
        }
    }

    /// RFC 7914, section 11, gives this one of PBKDF2 with HMAC-SHA-256.
    #[test]
    fn the_hash_is_the_standards() {
        let rounds = NonZeroU32::new(80_000).unwrap();
        let hash = PasswordHash::of(&token("Password"), &token("NaCl"), rounds);
        let expected = "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56";
        assert_eq!(hex::encode(hash.0), expected);
    }
}
