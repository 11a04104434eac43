//! A signed token of an identity provider, read and checked: RS256 and ES256, nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

/// A token whose parts were read; nothing of it is believed before [`Token::is_signed_by`] says so.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    pub(crate) header: Header,
    pub(crate) claims: Claims,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    alg: String,
    pub(crate) kid: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    aud: Value,
    pub(crate) exp: f64,
    pub(crate) nbf: Option<f64>,
}

impl Claims {
    /// Whom the token is for.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match &self.aud {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        }
    }
}

/// A provider's keys, as it publishes them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct KeySet {
    pub(crate) keys: Vec<Key>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Key {
    kty: String,
    pub(crate) kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl<'a> Token<'a> {
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Self {
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            header: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?,
            claims: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?,
        })
    }

    pub(crate) fn is_signed_by(&self, key: &Key) -> bool {
        self.check(key).is_some()
    }

    /// The algorithm must be the key's: the token does not choose.
    fn check(&self, key: &Key) -> Option<()> {
        let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let signed = self.signed.as_bytes();
        match (key.kty.as_str(), self.header.alg.as_str()) {
            ("RSA", "RS256") => {
                let key = RsaPublicKeyComponents { n: part(&key.n)?, e: part(&key.e)? };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, &self.signature).ok()
            }
            ("EC", "ES256") if key.crv.as_deref() == Some("P-256") => {
                let point = [vec![4], part(&key.x)?, part(&key.y)?].concat();
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(signed, &self.signature).ok()
            }
            _ => None,
        }
    }
}
