//! Who asks, and for what. Passwords are tokens that say themselves whose they are: nothing is stored for them.

use std::fmt::Debug;

use aws_wire::Origin;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use image::{Digest, RepositoryName};
use longshore_types::{AccountId, IdSource, Timestamp};
use sha2::Sha256;

use crate::catalog::Repository;
use crate::error::RegistryError;

/// The user that goes with every token, as at ECR.
pub const USER: &str = "AWS";

/// What a request does, as far as somebody may or may not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    ListRepositories,
    ListTags,
    ListReferrers,
    GetManifest,
    PutManifest,
    DeleteManifest,
    /// Whether a blob is there.
    CheckBlob,
    GetBlob,
    DeleteBlob,
    StartUpload,
    /// Sending a part of an upload, asking how far it is, and ending it early.
    UploadPart,
    CompleteUpload,
}

/// Somebody whose credentials are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted<C> {
    /// Whose repositories the names of the request mean.
    pub registry: AccountId,
    /// The caller's own account.
    pub account: AccountId,
    pub caller: C,
}

/// Tells whose request it is, and what they may do.
pub trait Authorizer: Send + Sync + Debug + 'static {
    /// Who a caller is.
    type Caller: Send + Sync + Debug + 'static;

    /// Whose credentials these are, if they are right.
    fn admit(&self, user: &str, password: &str, origin: &Origin) -> Option<Admitted<Self::Caller>>;

    /// The account whose layer may be downloaded with `grant` and no credentials.
    fn grant(&self, grant: &str, name: &RepositoryName, digest: &Digest) -> Option<AccountId>;

    /// Refuses what the caller may not do to a repository; [`Operation::ListRepositories`] is on all of a registry.
    fn authorize(
        &self,
        caller: &Self::Caller,
        operation: Operation,
        on: Target<'_>,
    ) -> Result<(), RegistryError>;
}

/// What an operation is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    Registry(AccountId),
    Repository(&'a Repository),
}

/// What a password says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Whose repositories it opens.
    pub registry: AccountId,
    /// The access key that it was asked for with, and that it acts as.
    pub access_key: String,
    /// Of temporary keys. Without the key's secret it proves nothing.
    pub session_token: Option<String>,
}

/// Signs the tokens of a region. Kept with the region's other secrets.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

impl TokenKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key made of a secret of any length.
    pub fn from_secret(secret: &[u8]) -> Self {
        let mut mac = Self([0; 32]).mac();
        mac.update(secret);
        Self(mac.finalize().into_bytes().into())
    }

    pub fn mint(ids: &dyn IdSource) -> Self {
        let mut bytes = [0; 32];
        ids.fill(&mut bytes);
        Self(bytes)
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("a key of any length will do")
    }

    fn sign(&self, said: &str) -> String {
        let mut mac = self.mac();
        mac.update(said.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(format!("{said}|{signature}"))
    }

    /// What a token says, if we signed it. Compared in constant time.
    fn read(&self, token: &str) -> Option<String> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (said, signature) = text.rsplit_once('|')?;
        let mut mac = self.mac();
        mac.update(said.as_bytes());
        mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        Some(said.to_owned())
    }

    /// A password for `docker login`, good until `expires`.
    pub fn password(&self, login: &Login, expires: Timestamp) -> String {
        let Login { registry, access_key, session_token } = login;
        let token = session_token.as_deref().unwrap_or_default();
        self.sign(&format!("login|{registry}|{}|{access_key}|{token}", expires.0))
    }

    pub fn check_password(&self, user: &str, password: &str, now: Timestamp) -> Option<Login> {
        let said = self.read(password).filter(|_| user == USER)?;
        let mut fields = said.strip_prefix("login|")?.splitn(4, '|');
        let registry = fields.next()?.parse().ok()?;
        let expires: u64 = fields.next()?.parse().ok()?;
        let access_key = fields.next()?.to_owned();
        let session_token = fields.next().filter(|token| !token.is_empty()).map(str::to_owned);
        (now.0 < expires).then_some(Login { registry, access_key, session_token })
    }

    /// What lets anybody download one layer until `expires`.
    pub fn grant(
        &self,
        account: AccountId,
        name: &RepositoryName,
        digest: &Digest,
        expires: Timestamp,
    ) -> String {
        self.sign(&format!("layer|{account}|{}|{name}|{digest}", expires.0))
    }

    pub fn check_grant(
        &self,
        grant: &str,
        name: &RepositoryName,
        digest: &Digest,
        now: Timestamp,
    ) -> Option<AccountId> {
        let said = self.read(grant)?;
        let mut fields = said.strip_prefix("layer|")?.split('|');
        let account = fields.next()?.parse().ok()?;
        let is_valid = now.0 < fields.next()?.parse().ok()?;
        let is_same = fields.next()? == name.as_str() && fields.next()? == digest.to_string();
        (is_valid && is_same).then_some(account)
    }
}

/// User and password of an `Authorization` header.
pub(crate) fn read_basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_names_whose_it_is_until_it_expires() {
        let key = TokenKey::from_secret(b"a");
        let mut login = Login {
            registry: "123456789012".parse().unwrap(),
            access_key: "ASIA1".to_owned(),
            session_token: Some("t|1".to_owned()),
        };
        let password = key.password(&login, Timestamp(1000));
        assert_eq!(key.check_password(USER, &password, Timestamp(999)), Some(login.clone()));
        assert_eq!(key.check_password(USER, &password, Timestamp(1000)), None);
        assert_eq!(key.check_password("root", &password, Timestamp(0)), None);
        login.session_token = None;
        let lasting = key.password(&login, Timestamp(1000));
        assert_eq!(key.check_password(USER, &lasting, Timestamp(0)), Some(login));
        let other = TokenKey::from_secret(b"b");
        assert_eq!(other.check_password(USER, &password, Timestamp(0)), None);
        for at in 0..password.len() {
            let mut altered = password.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            // The last digit of base64 may carry bits that mean nothing.
            if key.read(&altered) != key.read(&password) {
                assert_eq!(key.check_password(USER, &altered, Timestamp(0)), None, "{at}");
            }
        }
    }

    #[test]
    fn a_grant_is_for_one_layer_and_no_login() {
        let key = TokenKey::from_secret(b"a");
        let account: AccountId = "123456789012".parse().unwrap();
        let (web, api) = ("web".parse().unwrap(), "api".parse().unwrap());
        let (one, two) = (Digest::Sha256([1; 32]), Digest::Sha256([2; 32]));
        let grant = key.grant(account, &web, &one, Timestamp(1000));
        assert_eq!(key.check_grant(&grant, &web, &one, Timestamp(1)), Some(account));
        assert_eq!(key.check_grant(&grant, &web, &two, Timestamp(1)), None);
        assert_eq!(key.check_grant(&grant, &api, &one, Timestamp(1)), None);
        assert_eq!(key.check_grant(&grant, &web, &one, Timestamp(1000)), None);
        assert_eq!(key.check_password(USER, &grant, Timestamp(1)), None);
    }
}
