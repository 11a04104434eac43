//! Grants: what lets somebody use a key besides its policy, made and taken back by a call.
//!
//! They hold at once and on every request, so a grant's token is but another name of it, which is looked up and gives nothing.
//! <https://docs.aws.amazon.com/kms/latest/developerguide/grants.html>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::Permission;
use control::iam::principals_of;
use control::kms::{KeyUse, NamedKey};
use kms_api as api;
use longshore_types::{AccountId, Timestamp, Uuid};
use model::kms::{GrantConstraint, GrantPrincipal, KeyGrant};
use model::{KmsKey, ResourceText, View};
use policy::{Policy, PolicyKind, Principal, ResourceKind};
use serde_json::json;
use store::Batch;

use crate::errors::{dry_run, invalid, limit, named, unsupported};
use crate::limits::{GRANTS_OF_KEY_MAX, GRANTS_PAGE_DEFAULT};
use crate::pages::page;
use crate::{EncryptionContext, Kms, check_not_alias};

/// What a key that encrypts and decrypts by itself can be asked for.
const OPERATIONS: [api::GrantOperation; 11] = [
    api::GrantOperation::Decrypt,
    api::GrantOperation::Encrypt,
    api::GrantOperation::GenerateDataKey,
    api::GrantOperation::GenerateDataKeyWithoutPlaintext,
    api::GrantOperation::ReEncryptFrom,
    api::GrantOperation::ReEncryptTo,
    api::GrantOperation::CreateGrant,
    api::GrantOperation::RetireGrant,
    api::GrantOperation::DescribeKey,
    api::GrantOperation::GenerateDataKeyPair,
    api::GrantOperation::GenerateDataKeyPairWithoutPlaintext,
];

/// What a request says that a grant shall be.
struct Asked {
    name: Option<String>,
    grantee: String,
    retiring: Option<String>,
    operations: BTreeSet<String>,
    constraint: Option<GrantConstraint>,
}

impl Asked {
    fn read(input: &api::CreateGrantRequest) -> Result<Self, ApiError> {
        if input.grantee_service_principal.is_some() || input.retiring_service_principal.is_some() {
            let why = "Services are not granted the use of keys in this region: they use them in the \
                       name of who asks them, or as the key's policy says.";
            return Err(unsupported(why));
        }
        let given = input.operations.as_deref().unwrap_or_default();
        if let Some(other) = given.iter().find(|it| !OPERATIONS.contains(it)) {
            return Err(invalid(format!(
                "{} is no operation of a key whose usage is ENCRYPT_DECRYPT and whose spec is SYMMETRIC_DEFAULT.",
                other.as_str()
            )));
        }
        if given.is_empty() {
            return Err(invalid("Operations must name one operation at least."));
        }
        Ok(Self {
            name: input.name.clone(),
            grantee: input.grantee_principal.clone().ok_or_else(|| {
                invalid("Either GranteePrincipal or GranteeServicePrincipal must be given.")
            })?,
            retiring: input.retiring_principal.clone(),
            operations: given.iter().map(|it| it.as_str().to_owned()).collect(),
            constraint: constraint(input.constraints.clone())?,
        })
    }

    /// Whether a grant is what it asks for, by its name.
    fn is(&self, grant: &KeyGrant) -> bool {
        let retiring = grant.retiring.as_ref().map(|it| &it.arn);
        self.name.is_some()
            && self.name == grant.name
            && self.grantee == grant.grantee.arn
            && self.retiring.as_ref() == retiring
            && self.operations == grant.operations
            && self.constraint == grant.constraint
    }

    fn grant(&self, view: &View, caller: &Caller, now: Timestamp) -> Result<KeyGrant, ApiError> {
        let retiring = self.retiring.as_deref().map(|arn| principal(view, arn, "kms:RetireGrant"));
        Ok(KeyGrant {
            name: self.name.clone(),
            created_at: now,
            issuer: caller.account,
            grantee: principal(view, &self.grantee, "kms:*")?,
            retiring: retiring.transpose()?,
            operations: self.operations.clone(),
            constraint: self.constraint.clone(),
        })
    }
}

fn constraint(given: Option<api::GrantConstraints>) -> Result<Option<GrantConstraint>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    if given.source_arn.is_some() {
        let why = "SourceArn is for services that are granted the use of a key, of which this region has none.";
        return Err(unsupported(why));
    }
    // Terraform's provider sends both, of which one is empty.
    let some = |pairs: Option<EncryptionContext>| pairs.filter(|pairs| !pairs.is_empty());
    match (some(given.encryption_context_equals), some(given.encryption_context_subset)) {
        (None, None) => Ok(None),
        (Some(pairs), None) => Ok(Some(GrantConstraint::Equals(pairs))),
        (None, Some(pairs)) => Ok(Some(GrantConstraint::Subset(pairs))),
        (Some(_), Some(_)) => Err(invalid(
            "A grant has one constraint: EncryptionContextEquals or EncryptionContextSubset.",
        )),
    }
}

/// Somebody who is there, and what they may do.
fn principal(view: &View, arn: &str, action: &str) -> Result<GrantPrincipal, ApiError> {
    let bad =
        || named("InvalidArnException", format!("ARN does not refer to a valid principal: {arn}"));
    if !arn.starts_with("arn:") {
        return Err(bad());
    }
    // The older version has no variables: an ARN means what it says.
    let text = json!({"Version": "2008-10-17", "Statement": [{
        "Sid": "Grant", "Effect": "Allow", "Principal": {"AWS": arn}, "Action": action, "Resource": "*"}]});
    let text = text.to_string();
    let parsed = Policy::parse(&text, PolicyKind::Resource).map_err(|_| bad())?;
    let is_somebody = |it: &Principal| {
        matches!(it, Principal::Arn(_) | Principal::Account(_) | Principal::UniqueId(_))
    };
    let mut all = parsed.statements().iter().flat_map(|statement| statement.principals());
    if !all.all(is_somebody) {
        return Err(bad());
    }
    let principals = principals_of(view, &parsed).map_err(|_| bad())?;
    Ok(GrantPrincipal { arn: arn.to_owned(), policy: ResourceText::new(&text, principals) })
}

/// A name of a grant; each that is made is another one.
fn token(it: &Kms, key: &KmsKey, id: &str) -> String {
    let mut salt = [0; 8];
    it.control.ids.fill(&mut salt);
    let salt = u64::from_be_bytes(salt);
    URL_SAFE_NO_PAD.encode(format!("{}.{}.{id}.{salt:016x}", key.account, key.id))
}

/// The grant that a token names.
fn by_token<'a>(view: &'a View, token: &str) -> Option<(&'a Arc<KmsKey>, Arc<str>)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let mut fields = text.split('.');
    let (account, key, id) = (fields.next()?, fields.next()?, fields.next()?);
    let (account, key): (AccountId, Uuid) = (account.parse().ok()?, key.parse().ok()?);
    let row = view.kms_keys.get(account, &key)?;
    let (id, _) = row.grants.get_key_value(id)?;
    Some((row, Arc::clone(id)))
}

fn bad_token() -> ApiError {
    named("InvalidGrantTokenException", "A grant token names no grant, or one that is no more.")
}

/// That tokens which come with a request name grants. Grants need no token to hold.
pub(crate) fn check_tokens(view: &View, tokens: Option<&Vec<String>>) -> Result<(), ApiError> {
    let mut all = tokens.into_iter().flatten();
    if all.all(|token| by_token(view, token).is_some()) { Ok(()) } else { Err(bad_token()) }
}

fn no_grant(id: &str) -> ApiError {
    named("NotFoundException", format!("Grant ID {id} not found"))
}

pub(crate) async fn create_grant(
    it: &Kms,
    caller: &Caller,
    mut input: api::CreateGrantRequest,
) -> Result<api::CreateGrantResponse, ApiError> {
    let given = input.key_id.take().unwrap_or_default();
    let mut bytes = [0; 32];
    it.control.ids.fill(&mut bytes);
    let fresh: Arc<str> =
        bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")).into();
    let is_dry_run = input.dry_run == Some(true);
    let tokens = input.grant_tokens.take();
    let decided = it.control.decide(|view, now| {
        let asked = Asked::read(&input);
        // What is wrong with it is for those to know who may make one.
        let row = may_grant(it, view, caller, &given, asked.as_ref().ok())?;
        let asked = asked?;
        it.control.check_key(&row).map_err(|refusal| refusal.to_api())?;
        check_tokens(view, tokens.as_ref())?;
        let mut batch = Batch::on(view);
        if let Some((id, _)) = row.grants.iter().find(|(_, grant)| asked.is(grant)) {
            return Ok((batch, (Arc::clone(&row), Arc::clone(id))));
        }
        if GRANTS_OF_KEY_MAX <= row.grants.len() {
            return Err(limit(format!("A key can have up to {GRANTS_OF_KEY_MAX} grants.")));
        }
        let grant = asked.grant(view, caller, now)?;
        if is_dry_run {
            return Err(dry_run());
        }
        let mut next = KmsKey::clone(&row);
        next.grants.insert(Arc::clone(&fresh), grant);
        batch.put(next);
        Ok((batch, (row, Arc::clone(&fresh))))
    });
    let (row, id) = decided.await?;
    if is_dry_run {
        return Err(dry_run());
    }
    Ok(api::CreateGrantResponse {
        grant_token: Some(token(it, &row, &id)),
        grant_id: Some(id.to_string()),
    })
}

/// The key, for a caller that its policy or a grant lets make such a grant.
fn may_grant(
    it: &Kms,
    view: &View,
    caller: &Caller,
    given: &str,
    asked: Option<&Asked>,
) -> Result<Arc<KmsKey>, ApiError> {
    let action = "kms:CreateGrant";
    let about = |mut permission: Permission| {
        let Some(asked) = asked else { return permission };
        permission = permission
            .with_list("kms:GrantOperations", asked.operations.iter().cloned())
            .with("kms:GranteePrincipal", asked.grantee.clone());
        if let Some(retiring) = &asked.retiring {
            permission = permission.with("kms:RetiringPrincipal", retiring.clone());
        }
        match &asked.constraint {
            None => permission,
            Some(GrantConstraint::Equals(_)) => {
                permission.with("kms:GrantConstraintType", "EncryptionContextEquals")
            }
            Some(GrantConstraint::Subset(_)) => {
                permission.with("kms:GrantConstraintType", "EncryptionContextSubset")
            }
        }
    };
    let key = match it.control.find_key(view, caller.account, given) {
        Ok(named) => named,
        Err(refusal) => {
            let permission = about(it.permission_on_nothing(caller, action, given));
            it.control.authorize(view, caller, &permission)?;
            return Err(refusal.to_api());
        }
    };
    let parents = key.key.grants.values().filter(|grant| {
        asked.is_some_and(|it| grant.permits_grant(&it.operations, it.constraint.as_ref()))
    });
    let parents = parents.map(|grant| Arc::clone(grant.grantee.policy.policy()));
    let asked = KeyUse { action, via: None, context: &BTreeMap::new() };
    let permission = it.control.key_permission(caller, view, &key, &asked);
    let permission = about(permission).under(parents, ResourceKind::Key);
    it.control.authorize(view, caller, &permission)?;
    check_not_alias(&key, given)?;
    Ok(key.key)
}

fn to_wire(it: &Kms, key: &KmsKey, id: &Arc<str>, grant: &KeyGrant) -> api::GrantListEntry {
    let constraints = grant.constraint.clone().map(|constraint| match constraint {
        GrantConstraint::Equals(pairs) => api::GrantConstraints {
            encryption_context_equals: Some(pairs),
            ..api::GrantConstraints::default()
        },
        GrantConstraint::Subset(pairs) => api::GrantConstraints {
            encryption_context_subset: Some(pairs),
            ..api::GrantConstraints::default()
        },
    });
    let operations = OPERATIONS.iter().filter(|it| grant.operations.contains(it.as_str()));
    api::GrantListEntry {
        key_id: Some(it.control.key_arn(key)),
        grant_id: Some(id.to_string()),
        name: grant.name.clone(),
        creation_date: Some(grant.created_at),
        grantee_principal: Some(grant.grantee.arn.clone()),
        retiring_principal: grant.retiring.as_ref().map(|it| it.arn.clone()),
        issuing_account: Some(format!("arn:aws:iam::{}:root", grant.issuer)),
        operations: Some(operations.cloned().collect()),
        constraints,
        ..api::GrantListEntry::default()
    }
}

fn listed(
    marker: Option<String>,
    size: Option<i32>,
    grants: impl Iterator<Item = (String, api::GrantListEntry)>,
) -> Result<api::ListGrantsResponse, ApiError> {
    let page = page(marker, Some(size.unwrap_or(GRANTS_PAGE_DEFAULT)), grants)?;
    Ok(api::ListGrantsResponse {
        grants: Some(page.items),
        truncated: Some(page.marker.is_some()),
        next_marker: page.marker,
    })
}

pub(crate) async fn list_grants(
    it: &Kms,
    caller: &Caller,
    input: api::ListGrantsRequest,
) -> Result<api::ListGrantsResponse, ApiError> {
    let (_, key) = it.read(caller, "kms:ListGrants", input.key_id)?;
    if let Some(id) = input.grant_id.as_deref().filter(|id| !key.grants.contains_key(*id)) {
        return Err(no_grant(id));
    }
    let is_asked = |(id, grant): &(&Arc<str>, &KeyGrant)| {
        input.grant_id.as_ref().is_none_or(|asked| **asked == ***id)
            && input.grantee_principal.as_ref().is_none_or(|asked| *asked == grant.grantee.arn)
            // None is granted to a service.
            && input.grantee_service_principal.is_none()
    };
    let grants = key.grants.iter().filter(is_asked);
    let grants = grants.map(|(id, grant)| (id.to_string(), to_wire(it, &key, id, grant)));
    listed(input.marker, input.limit, grants)
}

pub(crate) async fn list_retirable_grants(
    it: &Kms,
    caller: &Caller,
    input: api::ListRetirableGrantsRequest,
) -> Result<api::ListGrantsResponse, ApiError> {
    let permission = Permission::to("kms:ListRetirableGrants").on("*");
    let view = it.control.read(caller, &permission)?;
    let who = input.retiring_principal.unwrap_or_default();
    if !who.is_empty() && who.split(':').nth(4) != Some(caller.account.as_str()) {
        return Err(invalid(format!("{who} is no principal of the account {}.", caller.account)));
    }
    let is_theirs = |grant: &KeyGrant| grant.retiring.as_ref().is_some_and(|it| it.arn == who);
    let mut found = BTreeMap::new();
    for key in view.kms_keys.iter() {
        for (id, grant) in key.grants.iter().filter(|(_, grant)| is_theirs(grant)) {
            found.insert(id.to_string(), to_wire(it, key, id, grant));
        }
    }
    listed(input.marker, input.limit, found.into_iter())
}

pub(crate) async fn revoke_grant(
    it: &Kms,
    caller: &Caller,
    input: api::RevokeGrantRequest,
) -> Result<(), ApiError> {
    let (given, id) = (input.key_id.unwrap_or_default(), input.grant_id.unwrap_or_default());
    let is_dry_run = input.dry_run == Some(true);
    it.change(
        caller,
        "kms:RevokeGrant",
        &given,
        |it| it,
        |_, _, row| {
            row.grants.remove(id.as_str()).ok_or_else(|| no_grant(&id))?;
            if is_dry_run { Err(dry_run()) } else { Ok(()) }
        },
    )
    .await
}

pub(crate) async fn retire_grant(
    it: &Kms,
    caller: &Caller,
    input: api::RetireGrantRequest,
) -> Result<(), ApiError> {
    let is_dry_run = input.dry_run == Some(true);
    let decided = it.control.decide(|view, _| {
        let (key, id) = match (&input.grant_token, &input.key_id, &input.grant_id) {
            (Some(token), None, None) => match by_token(view, token) {
                Some((row, id)) => (NamedKey { key: Arc::clone(row), alias: None }, id),
                None => {
                    it.control.authorize(
                        view,
                        caller,
                        &Permission::to("kms:RetireGrant").on("*"),
                    )?;
                    return Err(bad_token());
                }
            },
            (None, Some(key), Some(id)) => {
                let id: Arc<str> = id.as_str().into();
                match it.control.find_key(view, caller.account, key) {
                    Ok(named) => (named, id),
                    Err(refusal) => {
                        let permission = it.permission_on_nothing(caller, "kms:RetireGrant", key);
                        it.control.authorize(view, caller, &permission)?;
                        return Err(refusal.to_api());
                    }
                }
            }
            _ => {
                return Err(invalid(
                    "Either GrantToken, or both KeyId and GrantId, name the grant to retire.",
                ));
            }
        };
        may_retire(it, view, caller, &key, &id)?;
        let mut next = KmsKey::clone(&key.key);
        next.grants.remove(&id).ok_or_else(|| no_grant(&id))?;
        if is_dry_run {
            return Err(dry_run());
        }
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    });
    decided.await
}

/// Its retiring principal, its grantee where the grant says so, and whom the key's policy or account lets.
fn may_retire(
    it: &Kms,
    view: &View,
    caller: &Caller,
    key: &NamedKey,
    id: &str,
) -> Result<(), ApiError> {
    // Not what other grants of the key say: each is about itself.
    let alone = NamedKey {
        key: Arc::new(KmsKey {
            grants: key
                .key
                .grants
                .get_key_value(id)
                .map(|(id, it)| (Arc::clone(id), it.clone()))
                .into_iter()
                .collect(),
            ..KmsKey::clone(&key.key)
        }),
        alias: key.alias.clone(),
    };
    let retiring = alone.key.grants.values().filter_map(|grant| grant.retiring.as_ref());
    let retiring: Vec<_> = retiring.map(|who| Arc::clone(who.policy.policy())).collect();
    let context = EncryptionContext::new();
    let asked = KeyUse { action: "kms:RetireGrant", via: None, context: &context };
    let permission = it.control.key_permission(caller, view, &alone, &asked);
    it.control.authorize(view, caller, &permission.under(retiring, ResourceKind::Key))
}
