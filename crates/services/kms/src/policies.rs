//! Key policies: without one that says yes, or that passes the question on to the account, nobody uses a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller, Principal};
use control::iam::{entity_of, principals_of};
use control::kms::{KeyUse, NamedKey};
use kms_api as api;
use longshore_types::AccountId;
use model::{KmsKey, ResourceText, View};
use policy::{Policy, PolicyKind};

use crate::Kms;
use crate::errors::named;
use crate::limits::POLICY_BYTES_MAX;

/// The one name that a key's policy has.
const NAME: &str = "default";

/// The account's policies decide.
pub(crate) fn default_policy(account: AccountId) -> String {
    serde_json::json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
            "Action": "kms:*",
            "Resource": "*",
        }],
    })
    .to_string()
}

fn malformed(message: impl Into<String>) -> ApiError {
    named("MalformedPolicyDocumentException", message)
}

pub(crate) fn read(view: &View, text: &str) -> Result<ResourceText, ApiError> {
    if POLICY_BYTES_MAX < text.len() {
        return Err(malformed(format!("The policy is longer than {POLICY_BYTES_MAX} bytes.")));
    }
    let parsed = Policy::parse(text, PolicyKind::Resource);
    let parsed = parsed.map_err(|why| malformed(why.to_string()))?;
    let principals = principals_of(view, &parsed).map_err(|_| {
        malformed("Policy contains a statement with one or more invalid principals.")
    })?;
    Ok(ResourceText::new(text, principals))
}

/// That who writes a policy may write the next one too, or the account may let somebody.
pub(crate) fn check_lockout(
    it: &Kms,
    view: &View,
    caller: &Caller,
    row: &Arc<KmsKey>,
) -> Result<(), ApiError> {
    let named = NamedKey { key: Arc::clone(row), alias: None };
    let asked = KeyUse { action: "kms:PutKeyPolicy", via: None, context: &BTreeMap::new() };
    let permission = it.control.key_permission(caller, view, &named, &asked);
    let root = Caller { principal: Principal::Root, ..caller.clone() };
    let is_accounts = || it.control.authorize(view, &root, &permission);
    it.control.authorize(view, caller, &permission).or_else(|_| is_accounts()).map_err(|_| {
        malformed("The new key policy will not allow you to update the key policy in the future.")
    })
}

fn check_name(given: Option<&str>) -> Result<(), ApiError> {
    match given {
        None | Some(NAME) => Ok(()),
        Some(other) => Err(named("NotFoundException", format!("No such policy exists: {other}"))),
    }
}

pub(crate) async fn put_key_policy(
    it: &Kms,
    caller: &Caller,
    input: api::PutKeyPolicyRequest,
) -> Result<(), ApiError> {
    let (given, text) = (input.key_id.unwrap_or_default(), input.policy.unwrap_or_default());
    let bypasses = input.bypass_policy_lockout_safety_check.unwrap_or(false);
    let action = "kms:PutKeyPolicy";
    let about = |it: control::Permission| it.with("kms:BypassPolicyLockoutSafetyCheck", bypasses);
    it.change(caller, action, &given, about, |view, _, row| {
        check_name(input.policy_name.as_deref())?;
        it.check_lasting(row)?;
        row.policy = read(view, &text)?;
        match bypasses {
            true => Ok(()),
            false => check_lockout(it, view, caller, &Arc::new(row.clone())),
        }
    })
    .await
}

pub(crate) async fn get_key_policy(
    it: &Kms,
    caller: &Caller,
    input: api::GetKeyPolicyRequest,
) -> Result<api::GetKeyPolicyResponse, ApiError> {
    let (view, row) = it.read(caller, "kms:GetKeyPolicy", input.key_id)?;
    check_name(input.policy_name.as_deref())?;
    Ok(api::GetKeyPolicyResponse {
        policy: Some(row.policy.shown(|id| entity_of(&view, id).is_some())),
        policy_name: Some(NAME.to_owned()),
    })
}

pub(crate) async fn list_key_policies(
    it: &Kms,
    caller: &Caller,
    input: api::ListKeyPoliciesRequest,
) -> Result<api::ListKeyPoliciesResponse, ApiError> {
    it.read(caller, "kms:ListKeyPolicies", input.key_id)?;
    Ok(api::ListKeyPoliciesResponse {
        policy_names: Some(vec![NAME.to_owned()]),
        truncated: Some(false),
        next_marker: None,
    })
}
