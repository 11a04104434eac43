//! Keys of KMS as every service uses them: found, asked for permission, made when a service first needs one, and
//! used to seal what rows keep.
//!
//! What is sealed names the key and the version of its material that opens it, so that it needs nothing beside it.
//!
//! **Invariant:** a key that is not enabled neither seals nor opens.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use longshore_types::{AccountId, Timestamp, Uuid};
use model::kms::{KeyManager, KeyMaterial, KeyState, MaterialCause};
use model::{Key, KmsAlias, KmsKey, ResourceText, View};
use policy::{Policies, Request, ResourceKind, evaluate};
use sha2::{Digest as _, Sha256};
use store::Batch;
use vault::{DataKey, Zeroizing};

use crate::{Control, Permission};

/// The format of what is sealed; the first byte of it.
const FORMAT: u8 = 1;
/// Format, account, key and version.
const HEADER_LEN: usize = 1 + 8 + 16 + 4;
/// The names that Amazon's own keys have.
pub const MANAGED_PREFIX: &str = "alias/aws/";

/// Why a key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    #[error("Key '{0}' does not exist")]
    NoKey(String),
    #[error("Alias {0} is not found.")]
    NoAlias(String),
    #[error("Invalid keyId '{0}'")]
    NotAKeyId(String),
    #[error("Invalid arn {0}")]
    OtherRegion(String),
    #[error("{0} is disabled.")]
    Disabled(String),
    #[error("{0} is pending deletion.")]
    PendingDeletion(String),
}

impl KeyRefusal {
    /// As KMS answers it.
    pub fn to_api(&self) -> ApiError {
        let code = match self {
            Self::NoKey(_) | Self::NoAlias(_) | Self::NotAKeyId(_) => "NotFoundException",
            Self::OtherRegion(_) => "InvalidArnException",
            Self::Disabled(_) => "DisabledException",
            Self::PendingDeletion(_) => "KMSInvalidStateException",
        };
        ApiError::client(code, self.to_string())
    }
}

/// Why what was sealed does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It is nothing that a key of this region sealed.
    NotSealed,
    Refused(KeyRefusal),
    /// It was changed, or it belongs to something else.
    Damaged,
    /// Its key can't be unwrapped: ours.
    Unwrap(String),
}

impl Unopened {
    /// As a fault of ours: what rows keep must open.
    pub fn fault(&self, what: &'static str) -> ApiError {
        ApiError::fault(what, format!("{self:?}"))
    }
}

/// A key by which something is to be done, as a request named it.
#[derive(Clone, Debug)]
pub struct NamedKey {
    pub key: Arc<KmsKey>,
    /// `alias/…`, if it was named by one.
    pub alias: Option<String>,
}

/// What one asks a key's policy: `action` on the key.
#[derive(Clone, Copy, Debug)]
pub struct KeyUse<'a> {
    pub action: &'static str,
    /// The service that asks in the caller's name: `secretsmanager`.
    pub via: Option<&'static str>,
    pub context: &'a BTreeMap<String, String>,
}

/// What the material of a key is bound to, by its place.
pub(crate) fn material_bound_to(account: AccountId, key: Uuid, version: usize) -> Vec<u8> {
    format!("kms-key|{account}|{key}|{version}").into_bytes()
}

/// The key that a sealed text names.
pub fn key_of_sealed<'a>(view: &'a View, sealed: &[u8]) -> Option<&'a Arc<KmsKey>> {
    let (account, id, _, _) = split(sealed)?;
    view.kms_keys.get(account, &id)
}

/// What a version of a key's material is called: 64 hexadecimal digits, which say nothing of it.
pub fn material_id(key: &KmsKey, version: usize) -> String {
    let digest = Sha256::digest(material_bound_to(key.account, key.id, version));
    digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The version of the material that seals now.
pub fn current_version(key: &KmsKey) -> usize {
    key.materials.len().saturating_sub(1)
}

/// The version of its key's material that sealed a text.
pub fn version_of_sealed(sealed: &[u8]) -> Option<usize> {
    split(sealed).map(|(_, _, version, _)| version)
}

/// What a sealed text names its key by, and the version of its material.
pub fn name_in_sealed(sealed: &[u8]) -> Option<&[u8]> {
    sealed.split_at_checked(HEADER_LEN).map(|(header, _)| header)
}

/// A version of a key that was found to be enabled, to open all by that it sealed.
#[derive(Debug)]
pub struct OpeningKey {
    name: Vec<u8>,
    data_key: DataKey,
}

impl OpeningKey {
    pub fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let body = sealed.strip_prefix(self.name.as_slice()).ok_or(Unopened::NotSealed)?;
        let bound_to = [self.name.as_slice(), bound_to].concat();
        self.data_key.open(&bound_to, body).ok_or(Unopened::Damaged)
    }
}

fn split(sealed: &[u8]) -> Option<(AccountId, Uuid, usize, &[u8])> {
    let (header, body) = sealed.split_at_checked(HEADER_LEN)?;
    let (format, rest) = header.split_first()?;
    let (account, rest) = rest.split_at_checked(8)?;
    let (id, version) = rest.split_at_checked(16)?;
    let account = u64::from_be_bytes(account.try_into().ok()?);
    let version = u32::from_be_bytes(version.try_into().ok()?);
    let account = format!("{account:012}").parse().ok().filter(|_| *format == FORMAT)?;
    let id = Uuid::from_random(id.try_into().ok()?);
    Some((account, id, usize::try_from(version).ok()?, body))
}

impl Control {
    pub fn key_arn(&self, key: &KmsKey) -> String {
        self.kms_arn(key.account, &format!("key/{}", key.id))
    }

    /// `arn:aws:kms:…:key/…` or `…:alias/…`
    pub fn kms_arn(&self, account: AccountId, resource: &str) -> String {
        format!("arn:aws:kms:{}:{account}:{resource}", self.config.region)
    }

    /// The key that an id, an ARN, an alias or an alias's ARN names.
    pub fn find_key(
        &self,
        view: &View,
        account: AccountId,
        given: &str,
    ) -> Result<NamedKey, KeyRefusal> {
        let (owner, name) = match given.strip_prefix("arn:") {
            None => (account, given),
            Some(rest) => {
                let fields: Vec<&str> = rest.splitn(5, ':').collect();
                let [_, "kms", region, owner, name] = fields.as_slice() else {
                    return Err(KeyRefusal::NotAKeyId(given.to_owned()));
                };
                if *region != self.config.region.as_str() {
                    return Err(KeyRefusal::OtherRegion(given.to_owned()));
                }
                let owner = owner.parse().map_err(|_| KeyRefusal::NotAKeyId(given.to_owned()))?;
                (owner, *name)
            }
        };
        if name.starts_with("alias/") {
            let alias = view.kms_aliases.get(owner, &name.into());
            let key = alias.and_then(|alias| view.kms_keys.get(owner, &alias.key));
            let missing = || KeyRefusal::NoAlias(self.kms_arn(owner, name));
            let key = Arc::clone(key.ok_or_else(missing)?);
            return Ok(NamedKey { key, alias: Some(name.to_owned()) });
        }
        let id = match name.strip_prefix("key/") {
            Some(id) => id,
            None if given.starts_with("arn:") => {
                return Err(KeyRefusal::NotAKeyId(given.to_owned()));
            }
            None => name,
        };
        let id: Uuid = id.parse().map_err(|_| KeyRefusal::NotAKeyId(given.to_owned()))?;
        let missing = || KeyRefusal::NoKey(self.kms_arn(owner, &format!("key/{id}")));
        let key = view.kms_keys.get(owner, &id).ok_or_else(missing)?;
        Ok(NamedKey { key: Arc::clone(key), alias: None })
    }

    /// That a key is ready to seal and open.
    pub fn check_key(&self, key: &KmsKey) -> Result<(), KeyRefusal> {
        match key.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(KeyRefusal::Disabled(self.key_arn(key))),
            KeyState::PendingDeletion(_) => Err(KeyRefusal::PendingDeletion(self.key_arn(key))),
        }
    }

    /// To do something with a key: its policy or one of its grants must say yes, or pass the question on to the account's.
    pub fn key_permission(
        &self,
        caller: &Caller,
        view: &View,
        named: &NamedKey,
        asked: &KeyUse<'_>,
    ) -> Permission {
        let key = &named.key;
        let policy = Arc::clone(key.policy.policy());
        let operation = asked.action.strip_prefix("kms:").unwrap_or(asked.action);
        let grants = key.grants.values().filter(|grant| {
            // What a grant may be made by is for whoever makes one to say.
            operation != "CreateGrant" && grant.permits(operation, asked.context)
        });
        let policies = grants.map(|grant| Arc::clone(grant.grantee.policy.policy()));
        let aliases = view.kms_aliases.of(key.account).filter(|alias| alias.key == key.id);
        let mut permission = Permission::to(asked.action)
            .on(self.key_arn(key))
            .under(std::iter::once(policy).chain(policies), ResourceKind::Key)
            .with("kms:CallerAccount", caller.account.to_string())
            .with("kms:KeySpec", "SYMMETRIC_DEFAULT")
            .with("kms:KeyUsage", "ENCRYPT_DECRYPT")
            .with("kms:KeyOrigin", "AWS_KMS")
            .with("kms:MultiRegion", false)
            .with_list("kms:ResourceAliases", aliases.map(|alias| alias.name.to_string()));
        if let Some(alias) = &named.alias {
            permission = permission.with("kms:RequestAlias", alias.clone());
        }
        if matches!(operation, "CreateGrant" | "ListGrants" | "RevokeGrant") {
            permission = permission.with("kms:GrantIsForAWSResource", asked.via.is_some());
        }
        if let Some(service) = asked.via {
            let via = format!("{service}.{}.amazonaws.com", self.config.region);
            permission = permission.with("kms:ViaService", via).with("aws:ViaAWSService", true);
        }
        for (name, value) in asked.context {
            permission = permission.with(format!("kms:EncryptionContext:{name}"), value.clone());
        }
        if !asked.context.is_empty() {
            permission =
                permission.with_list("kms:EncryptionContextKeys", asked.context.keys().cloned());
        }
        permission
    }

    /// Whether a key's policy lets a service of the region, such as `logs.eu-north-1.amazonaws.com`, do `action` with
    /// it by itself, for `source`, an ARN of the key's user.
    pub fn service_may(
        &self,
        key: &KmsKey,
        service: &str,
        action: &'static str,
        (source, account): (&str, AccountId),
        sealed_for: &BTreeMap<String, String>,
    ) -> bool {
        let Ok(action) = action.parse() else { return false };
        let mut context = self.service_context(service, (source, account), self.clock.now());
        context.set("kms:CallerAccount", account.to_string());
        for (name, value) in sealed_for {
            context.set(format!("kms:EncryptionContext:{name}"), value.clone());
        }
        context.set_list("kms:EncryptionContextKeys", sealed_for.keys().cloned());
        let policy = [Arc::clone(key.policy.policy())];
        let policies =
            Policies { resource: &policy, resource_kind: ResourceKind::Key, ..Policies::default() };
        let request = Request {
            caller: &policy::Caller::Service(service.into()),
            action: &action,
            resource: &self.key_arn(key),
            resource_account: Some(key.account),
            context: (&context).into(),
        };
        evaluate(&request, &policies).is_allowed()
    }

    /// New material for a version of a key.
    pub fn mint_material(
        &self,
        account: AccountId,
        key: Uuid,
        version: usize,
        cause: MaterialCause,
        now: Timestamp,
    ) -> KeyMaterial {
        let (ids, bound_to) = (self.ids.as_ref(), material_bound_to(account, key, version));
        let wrapped = self.root_keys.wrap(ids, &bound_to, &DataKey::mint(ids));
        KeyMaterial { wrapped, made_at: now, cause }
    }

    /// Amazon's own key of an account for a service, which is made when it is first needed.
    pub fn managed_key(
        &self,
        view: &View,
        batch: &mut Batch,
        account: AccountId,
        service: &'static str,
        now: Timestamp,
    ) -> NamedKey {
        let name: Arc<str> = format!("{MANAGED_PREFIX}{service}").into();
        let alias = view.kms_aliases.get(account, &name);
        let found = alias.and_then(|alias| view.kms_keys.get(account, &alias.key));
        if let Some(key) = found {
            return NamedKey { key: Arc::clone(key), alias: Some(name.to_string()) };
        }
        let id = Uuid::mint(self.ids.as_ref());
        let key = Arc::new(KmsKey {
            account,
            id,
            manager: KeyManager::Aws(service.to_owned()),
            description: managed_description(service),
            state: KeyState::Enabled,
            created_at: now,
            policy: ResourceText::new(
                &managed_policy(account, service, self.config.region.as_str()),
                BTreeMap::new(),
            ),
            tags: BTreeMap::new(),
            materials: vec![self.mint_material(account, id, 0, MaterialCause::Creation, now)],
            rotation: None,
            grants: BTreeMap::new(),
        });
        let row = KmsAlias {
            account,
            name: Arc::clone(&name),
            key: id,
            created_at: now,
            updated_at: now,
        };
        batch.rely(Key::KmsAlias(account, Arc::clone(&name))).put(Arc::clone(&key)).put(row);
        NamedKey { key, alias: Some(name.to_string()) }
    }

    /// Seals by a key's latest material. The key was found to be enabled ([`Control::check_key`]).
    pub fn seal_by(
        &self,
        key: &KmsKey,
        bound_to: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        let fault = |why| ApiError::fault(format!("failed to unwrap the key {}", key.id), why);
        let version = key.materials.len().saturating_sub(1);
        let data_key = self.data_key(key, version).map_err(fault)?;
        let account: u64 = key.account.as_str().parse().unwrap_or_default();
        let mut sealed = vec![FORMAT];
        sealed.extend(account.to_be_bytes());
        sealed.extend(key.id.to_bytes());
        sealed.extend(u32::try_from(version).unwrap_or_default().to_be_bytes());
        let bound_to = [sealed.as_slice(), bound_to].concat();
        sealed.extend(data_key.seal(self.ids.as_ref(), &bound_to, plain));
        Ok(sealed)
    }

    /// Opens what [`Control::seal_by`] sealed, if its key is enabled.
    pub fn open_sealed(
        &self,
        view: &View,
        bound_to: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        self.opening_key(view, sealed)?.open(bound_to, sealed)
    }

    /// The key by which [`Control::seal_by`] sealed something, if it is enabled.
    pub fn opening_key(&self, view: &View, sealed: &[u8]) -> Result<OpeningKey, Unopened> {
        let (account, id, version, _) = split(sealed).ok_or(Unopened::NotSealed)?;
        let missing = || KeyRefusal::NoKey(self.kms_arn(account, &format!("key/{id}")));
        let key = view.kms_keys.get(account, &id);
        let key = key.ok_or_else(|| Unopened::Refused(missing()))?;
        self.check_key(key).map_err(Unopened::Refused)?;
        let data_key = self.data_key(key, version).map_err(Unopened::Unwrap)?;
        Ok(OpeningKey { name: sealed[..HEADER_LEN].to_vec(), data_key })
    }

    fn data_key(&self, key: &KmsKey, version: usize) -> Result<DataKey, String> {
        let material = key.materials.get(version).ok_or("there is no such version")?;
        let bound_to = material_bound_to(key.account, key.id, version);
        self.root_keys.unwrap(&bound_to, &material.wrapped).map_err(|why| why.to_string())
    }
}

fn managed_description(service: &str) -> String {
    match service {
        "secretsmanager" => {
            "Default key that protects my Secrets Manager data when no other key is defined"
                .to_owned()
        }
        "ssm" => {
            "Default key that protects my SSM parameters when no other key is defined".to_owned()
        }
        other => format!("Default key that protects my {other} data when no other key is defined"),
    }
}

/// Everybody of the account uses it through the service; the account may look at it.
fn managed_policy(account: AccountId, service: &str, region: &str) -> String {
    let through = serde_json::json!({
        "Sid": format!("ThroughService{service}"),
        "Effect": "Allow",
        "Principal": { "AWS": "*" },
        "Action": [
            "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"
        ],
        "Resource": "*",
        "Condition": { "StringEquals": {
            "kms:CallerAccount": account.to_string(),
            "kms:ViaService": format!("{service}.{region}.amazonaws.com"),
        } },
    });
    let looking = serde_json::json!({
        "Sid": "MetadataForTheAccount",
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
        "Action": ["kms:Describe*", "kms:Get*", "kms:List*"],
        "Resource": "*",
    });
    let id = format!("auto-{service}-1");
    serde_json::json!({ "Version": "2012-10-17", "Id": id, "Statement": [through, looking] })
        .to_string()
}

#[cfg(test)]
mod tests;
