//! What a host is given to join a region by: whom to believe, and what to prove.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_types::{IdSource, Token};
use sha2::{Digest as _, Sha256};

use crate::Fingerprint;

/// Says what the text is, for people and for whoever scans for secrets.
const PREFIX: &str = "lsjoin_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 24;
const FINGERPRINT_BYTES: usize = 32;

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no token of `longshore node token create`: those begin with {PREFIX} and are one word"
)]
pub struct NotAToken;

/// A token as its holder has it. The region keeps the hash of its secret only.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: [u8; ID_BYTES],
    secret: [u8; SECRET_BYTES],
    /// The authority of the region's certificate; none if any system knows it.
    pub authority: Option<Fingerprint>,
}

impl JoinToken {
    pub fn mint(ids: &dyn IdSource, authority: Option<Fingerprint>) -> Self {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        ids.fill(&mut id);
        ids.fill(&mut secret);
        Self { id, secret, authority }
    }

    /// What the token is called; no secret.
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// What proves it, as a region keeps it.
    pub fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.secret))
    }

    /// The text that a host is given.
    pub fn reveal(&self) -> Token {
        let mut bytes = [&self.id[..], &self.secret[..]].concat();
        bytes.extend(self.authority.iter().flat_map(|it| it.0));
        Token::from_text(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(NotAToken)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotAToken)?;
        let (id, rest) = bytes.split_first_chunk().ok_or(NotAToken)?;
        let (secret, rest) = rest.split_first_chunk().ok_or(NotAToken)?;
        let authority = match rest.len() {
            0 => None,
            FINGERPRINT_BYTES => Some(Fingerprint(rest.try_into().map_err(|_| NotAToken)?)),
            _ => return Err(NotAToken),
        };
        Ok(Self { id: *id, secret: *secret, authority })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id())
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_shows_nothing_by_accident() {
        let env = SeededEnv::from_seed(1);
        for authority in [None, Some(Fingerprint::of(b"authority"))] {
            let token = JoinToken::mint(&env, authority);
            let text = token.reveal();
            assert_eq!(text.reveal().parse::<JoinToken>(), Ok(token.clone()));
            assert_eq!(format!(" {}\n", text.reveal()).parse::<JoinToken>(), Ok(token.clone()));
            let shown = format!("{token:?}");
            assert!(!shown.contains(&hex::encode(token.secret)) && shown.contains(&token.id()));
            let cut = &text.reveal()[..text.reveal().len() - 2];
            for bad in ["", "lsjoin_", "lsjoin_AAAA", cut, &text.reveal()[1..]] {
                assert_eq!(bad.parse::<JoinToken>(), Err(NotAToken), "{bad}");
            }
        }
    }
}
