//! Secrets of Secrets Manager as others than its service need them too: found by name or ARN, and read as a
//! principal, with its permissions on the secret and on the key.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_types::{AccountId, Arn, Timestamp};
use model::secret::CURRENT;
use model::{Secret, SecretVersionId, View};
use policy::ResourceKind;
use vault::Zeroizing;

use crate::kms::{KeyUse, NamedKey, Unopened, key_of_sealed};
use crate::{Control, Permission};

/// The service's name to KMS.
pub const SERVICE: &str = "secretsmanager";
/// Characters that are drawn for a secret's ARN.
pub const SUFFIX_LEN: usize = 6;

/// Why a secret's value is not given.
#[derive(Debug, thiserror::Error)]
pub enum SecretRefusal {
    #[error("Secrets Manager can't find the specified secret.")]
    NoSecret,
    #[error("Secrets Manager can't find the specified secret value for {0}")]
    NoVersion(String),
    #[error("You can't perform this operation on the secret because it was marked for deletion.")]
    Deleted,
    #[error("You provided a VersionStage that is not associated to the provided VersionId.")]
    StageIsElsewhere,
    /// The key that sealed it may not or can't be used; why, is for whoever looks after the region.
    #[error("{0}")]
    Key(String),
    /// Policies say no.
    #[error("{}", .0.message)]
    Denied(ApiError),
    #[error("failed to open a secret")]
    Fault(ApiError),
}

impl SecretRefusal {
    /// As Secrets Manager answers it.
    pub fn into_api(self) -> ApiError {
        let message = self.to_string();
        match self {
            Self::NoSecret | Self::NoVersion(_) => {
                ApiError::client("ResourceNotFoundException", message)
            }
            Self::Deleted | Self::StageIsElsewhere => {
                ApiError::client("InvalidRequestException", message)
            }
            Self::Key(_) => ApiError::client("DecryptionFailure", message),
            Self::Denied(error) | Self::Fault(error) => error,
        }
    }
}

/// Which value of which secret is asked for.
#[derive(Clone, Copy, Debug)]
pub struct SecretAsk<'a> {
    /// A name, an ARN, or an ARN without the characters that were drawn for it.
    pub secret: &'a str,
    pub version: Option<&'a str>,
    pub stage: Option<&'a str>,
}

/// A secret's value. It is overwritten when it is dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretContent {
    Text(Zeroizing<String>),
    Binary(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for SecretContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretContent(…)")
    }
}

/// A value with what is said of it.
#[derive(Clone, Debug)]
pub struct SecretValue {
    pub secret: Arc<Secret>,
    pub arn: String,
    pub version: String,
    pub created_at: Timestamp,
    pub stages: Vec<String>,
    pub content: SecretContent,
}

/// What a version is bound to: sealed for one, it opens for no other.
pub fn version_bound_to(account: AccountId, id: &SecretVersionId) -> Vec<u8> {
    format!("secret|{account}|{id}").into_bytes()
}

/// What a key's policy sees of a version.
pub fn encryption_context(arn: &str, version: &str) -> BTreeMap<String, String> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    BTreeMap::from([pair("SecretARN", arn), pair("SecretVersionId", version)])
}

/// The secret that a request names, whosever it is. One of another region is not here.
pub fn find_secret<'a>(
    view: &'a View,
    region: &str,
    account: AccountId,
    given: &str,
) -> Option<&'a Arc<Secret>> {
    let Ok(arn) = Arn::parse(given) else {
        return view.secrets.get(account, &given.into());
    };
    let is_here = (arn.partition, arn.service, arn.region) == ("aws", SERVICE, region);
    let name = arn.resource.strip_prefix("secret:").filter(|_| is_here)?;
    let owner = arn.account.parse().ok()?;
    let (stem, suffix) = match name.len().checked_sub(SUFFIX_LEN + 1) {
        Some(at) if name.is_char_boundary(at) && name[at..].starts_with('-') => {
            (&name[..at], Some(&name[at + 1..]))
        }
        Some(_) | None => (name, None),
    };
    let whole = suffix.and_then(|suffix| {
        view.secrets.get(owner, &stem.into()).filter(|row| row.suffix == suffix)
    });
    whole.or_else(|| view.secrets.get(owner, &name.into()))
}

impl Control {
    pub fn secret_arn(&self, secret: &Secret) -> String {
        self.secret_arn_of(secret.account, &format!("{}-{}", secret.name, secret.suffix))
    }

    /// The ARN that ends so.
    pub fn secret_arn_of(&self, account: AccountId, name: &str) -> String {
        format!("arn:aws:{SERVICE}:{}:{account}:secret:{name}", self.config.region)
    }

    /// The secret that a request names, whosever it is.
    pub fn secret<'a>(
        &self,
        view: &'a View,
        account: AccountId,
        given: &str,
    ) -> Option<&'a Arc<Secret>> {
        find_secret(view, self.config.region.as_str(), account, given)
    }

    /// To do something with a secret, which need not be there.
    pub fn secret_permission(
        &self,
        view: &View,
        caller: &Caller,
        action: &'static str,
        given: &str,
    ) -> Permission {
        let permission = Permission::to(action)
            .shown_as(given)
            .with("secretsmanager:SecretId", given.to_owned());
        match self.secret(view, caller.account, given) {
            Some(row) => {
                let policies = row.policy.iter().map(|text| Arc::clone(text.policy()));
                permission
                    .on(self.secret_arn(row))
                    .under(policies, ResourceKind::Plain)
                    .with("secretsmanager:Name", row.name.to_string())
            }
            None if given.starts_with("arn:") => permission.on(given),
            None => permission.on(self.secret_arn_of(caller.account, given)),
        }
    }

    /// The value of a secret, for a caller that may have it and may use its key.
    pub fn secret_value(
        &self,
        view: &View,
        caller: &Caller,
        ask: &SecretAsk<'_>,
    ) -> Result<SecretValue, SecretRefusal> {
        self.secret_value_for(view, caller, ask, "secretsmanager:GetSecretValue")
    }

    /// The same for a caller that does `action`.
    pub fn secret_value_for(
        &self,
        view: &View,
        caller: &Caller,
        ask: &SecretAsk<'_>,
        action: &'static str,
    ) -> Result<SecretValue, SecretRefusal> {
        let mut permission = self.secret_permission(view, caller, action, ask.secret);
        let stage = match (ask.stage, ask.version) {
            (None, None) => Some(CURRENT),
            (stage, _) => stage,
        };
        if let Some(stage) = stage {
            permission = permission.with("secretsmanager:VersionStage", stage.to_owned());
        }
        if let Some(version) = ask.version {
            permission = permission.with("secretsmanager:VersionId", version.to_owned());
        }
        self.authorize(view, caller, &permission).map_err(SecretRefusal::Denied)?;
        let secret = self.secret(view, caller.account, ask.secret);
        let secret = secret.ok_or(SecretRefusal::NoSecret)?;
        if secret.deletion.is_some() {
            return Err(SecretRefusal::Deleted);
        }
        let version = chosen(secret, ask.version, stage)?;
        let arn = self.secret_arn(secret);
        let content = self.open_version(view, caller, secret, &arn, version)?;
        let info = &secret.versions[version];
        Ok(SecretValue {
            arn,
            version: version.to_owned(),
            created_at: info.created_at,
            stages: info.stages.iter().cloned().collect(),
            content,
            secret: Arc::clone(secret),
        })
    }

    /// What a version holds, for a caller that may use its key.
    pub fn open_version(
        &self,
        view: &View,
        caller: &Caller,
        secret: &Secret,
        arn: &str,
        version: &str,
    ) -> Result<SecretContent, SecretRefusal> {
        let id = secret.version_id(version);
        let no_version = || SecretRefusal::NoVersion(format!("VersionId: {version}"));
        let row = view.secret_versions.get(secret.account, &id).ok_or_else(no_version)?;
        let damaged = |why: String| {
            SecretRefusal::Fault(ApiError::fault("failed to open a secret's version", why))
        };
        let sealed = STANDARD.decode(&row.sealed).map_err(|why| damaged(why.to_string()))?;
        self.ask_key(view, caller, &sealed, &encryption_context(arn, version), SERVICE)
            .map_err(SecretRefusal::Denied)?;
        let bound_to = version_bound_to(secret.account, &id);
        let plain = self.open_sealed(view, &bound_to, &sealed).map_err(|why| match why {
            Unopened::Refused(why) => SecretRefusal::Key(format!(
                "Secrets Manager can't decrypt the protected secret text using the provided KMS key: {why}"
            )),
            Unopened::NotSealed | Unopened::Damaged | Unopened::Unwrap(_) => {
                damaged(format!("{why:?}"))
            }
        })?;
        if row.is_binary {
            return Ok(SecretContent::Binary(plain));
        }
        let text = String::from_utf8(plain.to_vec()).map_err(|why| damaged(why.to_string()))?;
        Ok(SecretContent::Text(Zeroizing::new(text)))
    }

    /// That the caller may decrypt by the key that sealed something, through a service.
    pub(crate) fn ask_key(
        &self,
        view: &View,
        caller: &Caller,
        sealed: &[u8],
        context: &BTreeMap<String, String>,
        via: &'static str,
    ) -> Result<(), ApiError> {
        // That a key is gone is said when it is to open something.
        let Some(key) = key_of_sealed(view, sealed) else { return Ok(()) };
        let named = NamedKey { key: Arc::clone(key), alias: None };
        let asked = KeyUse { action: "kms:Decrypt", via: Some(via), context };
        let permission = self.key_permission(caller, view, &named, &asked);
        self.authorize(view, caller, &permission).map_err(|error| no_access_to_key(error, via))
    }
}

/// What a service says of a refusal that was its key's. What the caller may not is in the log of refusals.
pub fn no_access_to_key(mut error: ApiError, via: &str) -> ApiError {
    if error.denial.is_some() {
        error.message = match via {
            SERVICE => format!("Access to KMS is not allowed. {}", error.message),
            _ => format!(
                "The ciphertext refers to a customer master key that does not exist, does not exist in this region, \
                 or you are not allowed to access. (Service: AWSKMS; Status Code: 400; Error Code: \
                 AccessDeniedException) {}",
                error.message
            ),
        };
    }
    error
}

/// The version that is meant.
fn chosen<'a>(
    secret: &'a Secret,
    version: Option<&str>,
    stage: Option<&str>,
) -> Result<&'a str, SecretRefusal> {
    let found = match version {
        Some(version) => secret.versions.get_key_value(version).map(|(id, _)| id.as_str()),
        None => secret.staged(stage.unwrap_or(CURRENT)),
    };
    let Some(found) = found else {
        let what = match version {
            Some(version) => format!("VersionId: {version}"),
            None => format!("staging label: {}", stage.unwrap_or(CURRENT)),
        };
        return Err(SecretRefusal::NoVersion(what));
    };
    let has_stage = |stage: &str| secret.versions[found].stages.contains(stage);
    match stage.filter(|_| version.is_some()) {
        Some(stage) if !has_stage(stage) => Err(SecretRefusal::StageIsElsewhere),
        Some(_) | None => Ok(found),
    }
}
