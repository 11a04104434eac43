//! What IAM keeps: users, groups, roles, keys, policies, instance profiles, identity providers.
//!
//! Names are unique in whatever case, so rows are found by their names in lower case. What hangs on a user,
//! group or role (inline policies, attachments, memberships) is in its row: it is read with one look, and
//! what is deleted leaves nothing behind. The other way round there are indexes.
//!
//! **Invariant:** a policy is compiled once, when it is first asked, and never stored compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use longshore_types::{AccountId, Timestamp, Token};
use policy::{Policy, PolicyKind, Principal};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::tags::Tags;
use crate::view::Index;

/// A name as rows are found by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NameKey(Arc<str>);

impl NameKey {
    pub fn of(name: &str) -> Self {
        Self(name.to_ascii_lowercase().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, to be shared.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document of the identity side, as it was given, with what it was compiled to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyText {
    text: Arc<str>,
    #[serde(skip)]
    compiled: OnceLock<Arc<Policy>>,
}

/// In place of a document that was accepted once and cannot be read any more: its Deny must not be lost.
const DENY_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

impl PolicyText {
    pub fn new(policy: Policy) -> Self {
        Self { text: Arc::clone(policy.text()), compiled: OnceLock::from(Arc::new(policy)) }
    }

    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub fn policy(&self) -> &Arc<Policy> {
        self.compiled.get_or_init(|| {
            let read = Policy::parse(&self.text, PolicyKind::Identity);
            let read = read.or_else(|_| Policy::parse(DENY_ALL, PolicyKind::Identity));
            Arc::new(read.expect("the policy that denies all is one"))
        })
    }
}

impl PartialEq for PolicyText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PolicyText {}

/// Who may assume a role. It means those users and roles that had the ARNs in it when it was written: others
/// that come to have the same ARNs later are not meant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustText {
    document: Arc<str>,
    /// The unique ids of users and roles that the document names by ARN.
    #[serde(default)]
    principals: BTreeMap<String, String>,
    #[serde(skip)]
    compiled: OnceLock<Option<Arc<Policy>>>,
}

impl TrustText {
    pub fn new(document: &str, principals: BTreeMap<String, String>) -> Self {
        Self { document: document.into(), principals, compiled: OnceLock::new() }
    }

    /// As it was written, but for those who are gone: their unique ids show in place of their ARNs.
    pub fn shown(&self, is_there: impl Fn(&str) -> bool) -> String {
        let mut text = self.document.to_string();
        for (arn, id) in self.principals.iter().filter(|(_, id)| !is_there(id)) {
            text = text.replace(&format!("\"{arn}\""), &format!("\"{id}\""));
        }
        text
    }

    /// `None` for a document that was accepted once and cannot be read any more: nobody is trusted.
    pub fn policy(&self) -> Option<&Arc<Policy>> {
        let compile = || {
            let read = Policy::parse(&self.document, PolicyKind::Trust).ok()?;
            if self.principals.is_empty() {
                return Some(Arc::new(read));
            }
            let meant = read.with_principals(|principal| {
                let Principal::Arn(arn) = principal else { return None };
                self.principals.get(&**arn).map(|id| Principal::UniqueId(id.as_str().into()))
            });
            meant.ok().map(Arc::new)
        };
        self.compiled.get_or_init(compile).as_ref()
    }
}

impl PartialEq for TrustText {
    fn eq(&self, other: &Self) -> bool {
        (&self.document, &self.principals) == (&other.document, &other.principals)
    }
}

impl Eq for TrustText {}

/// What users, groups and roles have in common: their policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grants {
    /// ARNs of managed policies, in the order in which they were attached.
    #[serde(default)]
    pub attached: Vec<Arc<str>>,
    /// By name.
    #[serde(default)]
    pub inline: BTreeMap<String, PolicyText>,
}

impl Grants {
    fn indexes(&self, account: AccountId) -> impl Iterator<Item = Index> {
        self.attached.iter().map(move |arn| Index::IamAttachments(account, Arc::clone(arn)))
    }
}

macro_rules! arn_of {
    ($row:ident, $kind:literal) => {
        impl $row {
            pub fn arn(&self) -> String {
                format!("arn:aws:iam::{}:{}{}{}", self.account, $kind, self.path, self.name)
            }
        }
    };
}

macro_rules! named {
    ($row:ident) => {
        type Id = NameKey;

        fn account(&self) -> AccountId {
            self.account
        }

        fn id(&self) -> NameKey {
            NameKey::of(&self.name)
        }
    };
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamUser {
    pub account: AccountId,
    pub name: Arc<str>,
    /// `/`, or begins and ends with one.
    pub path: Arc<str>,
    /// `AIDA…`.
    pub unique_id: Arc<str>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub tags: Tags,
    /// The ARN of a managed policy.
    #[serde(default)]
    pub boundary: Option<Arc<str>>,
    #[serde(default)]
    pub grants: Grants,
    #[serde(default)]
    pub groups: BTreeSet<NameKey>,
    /// Its second factors.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<NameKey>,
    /// How it signs in, if it has a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginProfile>,
}

/// A user's password, of which hashes are kept alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginProfile {
    pub created_at: Timestamp,
    /// When the password was set that is good now.
    pub set_at: Timestamp,
    /// Whoever signs in must set another.
    #[serde(default)]
    pub must_change: bool,
    /// How passwords of this profile are hashed: alike, so that one hash is compared with all former ones.
    pub salt: Token,
    pub rounds: u32,
    pub hash: Token,
    /// Of the passwords before it, the last one first.
    #[serde(default)]
    pub former: Vec<Token>,
}

arn_of!(IamUser, "user");

impl Record for IamUser {
    named!(IamUser);

    fn indexes(&self) -> Vec<Index> {
        let account = self.account;
        let boundary = self.boundary.iter().cloned();
        let groups = self.groups.iter().map(|group| Index::IamMembers(account, group.text()));
        self.grants
            .indexes(account)
            .chain(boundary.map(|arn| Index::IamBoundaries(account, arn)))
            .chain(groups)
            .chain([Index::IamUniqueId(Arc::clone(&self.unique_id))])
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamGroup {
    pub account: AccountId,
    pub name: Arc<str>,
    pub path: Arc<str>,
    /// `AGPA…`.
    pub unique_id: Arc<str>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub grants: Grants,
}

arn_of!(IamGroup, "group");

impl Record for IamGroup {
    named!(IamGroup);

    fn indexes(&self) -> Vec<Index> {
        self.grants.indexes(self.account).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamRole {
    pub account: AccountId,
    pub name: Arc<str>,
    pub path: Arc<str>,
    /// `AROA…`.
    pub unique_id: Arc<str>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub description: Option<String>,
    pub max_session_s: u32,
    pub trust: TrustText,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default)]
    pub boundary: Option<Arc<str>>,
    #[serde(default)]
    pub grants: Grants,
    /// The service whose role it is, such as `ecs.amazonaws.com`: only it may change the role.
    #[serde(default)]
    pub service: Option<String>,
}

arn_of!(IamRole, "role");

impl Record for IamRole {
    named!(IamRole);

    fn indexes(&self) -> Vec<Index> {
        let account = self.account;
        let boundary = self.boundary.iter().cloned();
        self.grants
            .indexes(account)
            .chain(boundary.map(|arn| Index::IamBoundaries(account, arn)))
            .chain([Index::IamUniqueId(Arc::clone(&self.unique_id))])
            .collect()
    }
}

/// One version of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyVersion {
    pub document: PolicyText,
    pub created_at: Timestamp,
}

/// A managed policy of the customer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamPolicy {
    pub account: AccountId,
    pub name: Arc<str>,
    pub path: Arc<str>,
    /// `ANPA…`.
    pub unique_id: Arc<str>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub tags: Tags,
    pub default_version: u32,
    /// The number of the version that is made next: numbers are not used twice.
    pub next_version: u32,
    pub versions: BTreeMap<u32, PolicyVersion>,
}

arn_of!(IamPolicy, "policy");

impl IamPolicy {
    /// The document that applies.
    pub fn applied(&self) -> Option<&PolicyText> {
        self.versions.get(&self.default_version).map(|version| &version.document)
    }
}

impl Record for IamPolicy {
    named!(IamPolicy);
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamInstanceProfile {
    pub account: AccountId,
    pub name: Arc<str>,
    pub path: Arc<str>,
    /// `AIPA…`.
    pub unique_id: Arc<str>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default)]
    pub role: Option<NameKey>,
}

arn_of!(IamInstanceProfile, "instance-profile");

impl Record for IamInstanceProfile {
    named!(IamInstanceProfile);

    fn indexes(&self) -> Vec<Index> {
        self.role.iter().map(|role| Index::IamProfiles(self.account, role.text())).collect()
    }
}

/// A key of a user. Its id says which account it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamAccessKey {
    pub account: AccountId,
    pub id: Arc<str>,
    /// The user, by its unique id: names change.
    pub user: Arc<str>,
    pub is_active: bool,
    pub created_at: Timestamp,
    /// Under a key that is not in the store.
    pub sealed_secret: String,
}

impl Record for IamAccessKey {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    fn indexes(&self) -> Vec<Index> {
        vec![Index::IamUserKeys(self.account, Arc::clone(&self.user))]
    }
}

/// When and for what a key, a role or a user's password was last used. Apart from its row: it is written now and then,
/// and nothing relies on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamKeyUse {
    pub account: AccountId,
    /// The key's id, or the unique id of the role or the user.
    pub key: Arc<str>,
    pub at: Timestamp,
    pub service: String,
    pub region: String,
}

impl Record for IamKeyUse {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.key)
    }
}

/// A virtual device that shows one-time codes: a second factor, once it is a user's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamMfaDevice {
    pub account: AccountId,
    pub name: Arc<str>,
    /// `/`, or begins and ends with one.
    pub path: Arc<str>,
    /// What its seed follows from, by a secret that is not in the store.
    pub unique_id: Arc<str>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<MfaAssignment>,
}

/// Whose second factor a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaAssignment {
    /// By its unique id.
    pub user: Arc<str>,
    pub at: Timestamp,
    /// How many codes the device's clock is ahead.
    pub drift: i64,
    /// The last code that was taken, by its number: none is taken twice.
    pub last_step: i64,
}

// Its serial number, as AWS has it for virtual devices.
arn_of!(IamMfaDevice, "mfa");

impl Record for IamMfaDevice {
    /// Path and name.
    type Id = NameKey;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> NameKey {
        NameKey::of(&format!("{}{}", self.path, self.name))
    }
}

/// An OpenID Connect provider whose tokens the account takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamOidcProvider {
    pub account: AccountId,
    /// Host and path, without the scheme.
    pub url: Arc<str>,
    pub client_ids: Vec<String>,
    pub thumbprints: Vec<String>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub tags: Tags,
}

impl IamOidcProvider {
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:oidc-provider/{}", self.account, self.url)
    }
}

impl Record for IamOidcProvider {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.url)
    }
}

/// The one row of an account's own: it is there once the account has what every account begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamAccount {
    pub account: AccountId,
    pub created_at: Timestamp,
    #[serde(default)]
    pub alias: Option<Arc<str>>,
    /// What users' passwords have to be like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_policy: Option<PasswordPolicy>,
}

/// Rules for users' passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordPolicy {
    pub length_min: i32,
    pub needs_symbols: bool,
    pub needs_numbers: bool,
    pub needs_uppercase: bool,
    pub needs_lowercase: bool,
    pub users_may_change: bool,
    pub age_days_max: Option<i32>,
    pub reuse_prevention: Option<i32>,
    pub hard_expiry: Option<bool>,
}

/// The id of a row of which each account has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TheAccount;

impl fmt::Display for TheAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("account")
    }
}

impl Record for IamAccount {
    type Id = TheAccount;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> TheAccount {
        TheAccount
    }

    fn indexes(&self) -> Vec<Index> {
        self.alias.iter().map(|alias| Index::IamAlias(Arc::clone(alias))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUST: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
        "Principal":{"AWS":"arn:aws:iam::111122223333:user/ann"},"Action":"sts:AssumeRole"}}"#;

    #[test]
    fn a_trust_policy_means_the_user_of_that_time_and_shows_what_was_written() {
        let arn = "arn:aws:iam::111122223333:user/ann".to_owned();
        let ids = BTreeMap::from([(arn, "AIDAJQABLZS4A3QDU576Q".to_owned())]);
        let trust = TrustText::new(TRUST, ids);
        assert_eq!(trust.shown(|_| true), TRUST);
        let gone = trust.shown(|_| false);
        assert_eq!(
            gone,
            TRUST.replace("arn:aws:iam::111122223333:user/ann", "AIDAJQABLZS4A3QDU576Q")
        );
        let statement = &trust.policy().unwrap().statements()[0];
        let [Principal::UniqueId(id)] = statement.principals() else { panic!("{statement:?}") };
        assert_eq!(&**id, "AIDAJQABLZS4A3QDU576Q");
        let text = serde_json::to_string(&trust).unwrap();
        assert_eq!(serde_json::from_str::<TrustText>(&text).unwrap(), trust);
    }

    #[test]
    fn a_document_that_cannot_be_read_any_more_denies() {
        let text: PolicyText = serde_json::from_str("\"{}\"").unwrap();
        assert_eq!(&**text.policy().text(), DENY_ALL);
    }
}
