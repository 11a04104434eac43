//! A secret's own policy: who may do what with it, also from other accounts.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::{entity_of, principals_of};
use model::{ResourceText, View};
use policy::{Policy, PolicyKind};
use secretsmanager_api as api;
use serde_json::Value;

use crate::SecretsManager;
use crate::errors::{deleted, malformed};
use crate::limits::POLICY_BYTES_MAX;

pub(crate) async fn put_resource_policy(
    it: &SecretsManager,
    caller: &Caller,
    input: api::PutResourcePolicyRequest,
) -> Result<api::PutResourcePolicyResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let text = input.resource_policy.unwrap_or_default();
    let is_blocked = input.block_public_policy.unwrap_or(false);
    let about = |it: Permission| it.with("secretsmanager:BlockPublicPolicy", is_blocked);
    let action = "secretsmanager:PutResourcePolicy";
    let done = it.change(caller, &given, action, about, |view, _, _, secret| {
        if secret.deletion.is_some() {
            return Err(deleted());
        }
        if is_blocked && is_public(&text) {
            let message =
                "You can't attach a resource policy that allows broad access to the secret.";
            return Err(ApiError::client("PublicPolicyException", message));
        }
        secret.policy = Some(read(view, &text)?);
        Ok((it.control.secret_arn(secret), secret.name.to_string()))
    });
    let (arn, name) = done.await?;
    Ok(api::PutResourcePolicyResponse { arn: Some(arn), name: Some(name), policy_name: None })
}

fn read(view: &View, text: &str) -> Result<ResourceText, ApiError> {
    if POLICY_BYTES_MAX < text.len() {
        return Err(malformed(format!("The policy is longer than {POLICY_BYTES_MAX} bytes.")));
    }
    let parsed = Policy::parse(text, PolicyKind::Resource);
    let parsed = parsed.map_err(|why| malformed(why.to_string()))?;
    let principals = principals_of(view, &parsed)
        .map_err(|_| malformed("This resource policy contains an unsupported principal."))?;
    Ok(ResourceText::new(text, principals))
}

/// Whether a statement allows everybody something, on no condition.
fn is_public(text: &str) -> bool {
    let read: Value = serde_json::from_str(text).unwrap_or_default();
    let statements = match &read["Statement"] {
        Value::Array(statements) => statements.iter().collect(),
        one => vec![one],
    };
    let is_everybody = |principal: &Value| match principal {
        Value::Array(names) => names.iter().any(|name| name == "*"),
        name => name == "*",
    };
    statements.into_iter().any(|statement| {
        let principal = &statement["Principal"];
        statement["Effect"] == "Allow"
            && statement["Condition"].is_null()
            && (is_everybody(principal) || is_everybody(&principal["AWS"]))
    })
}

pub(crate) async fn get_resource_policy(
    it: &SecretsManager,
    caller: &Caller,
    input: api::GetResourcePolicyRequest,
) -> Result<api::GetResourcePolicyResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let (view, row) = it.read(caller, "secretsmanager:GetResourcePolicy", &given)?;
    let is_there = |id: &str| entity_of(&view, id).is_some();
    Ok(api::GetResourcePolicyResponse {
        arn: Some(it.control.secret_arn(&row)),
        name: Some(row.name.to_string()),
        resource_policy: row.policy.as_ref().map(|text| text.shown(is_there)),
        policy_name: None,
    })
}

pub(crate) async fn delete_resource_policy(
    it: &SecretsManager,
    caller: &Caller,
    input: api::DeleteResourcePolicyRequest,
) -> Result<api::DeleteResourcePolicyResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let action = "secretsmanager:DeleteResourcePolicy";
    let done = it.change(
        caller,
        &given,
        action,
        |it| it,
        |_, _, _, secret| {
            if secret.deletion.is_some() {
                return Err(deleted());
            }
            secret.policy = None;
            Ok((it.control.secret_arn(secret), secret.name.to_string()))
        },
    );
    let (arn, name) = done.await?;
    Ok(api::DeleteResourcePolicyResponse { arn: Some(arn), name: Some(name), policy_name: None })
}

pub(crate) async fn validate_resource_policy(
    it: &SecretsManager,
    caller: &Caller,
    input: api::ValidateResourcePolicyRequest,
) -> Result<api::ValidateResourcePolicyResponse, ApiError> {
    let action = "secretsmanager:ValidateResourcePolicy";
    let view = match &input.secret_id {
        Some(given) => it.read(caller, action, given)?.0,
        None => it.control.read(caller, &Permission::to(action).on("*"))?,
    };
    let text = input.resource_policy.unwrap_or_default();
    let mut errors = Vec::new();
    let mut found = |name: &str, message: String| {
        errors.push(api::ValidationErrorsEntry {
            check_name: Some(name.to_owned()),
            error_message: Some(message),
        });
    };
    match read(&view, &text) {
        Ok(_) if is_public(&text) => found(
            "PublicPolicyCheck",
            "The resource policy allows broad access to the secret.".to_owned(),
        ),
        Ok(_) => {}
        Err(why) => found("PolicySyntaxCheck", why.message),
    }
    Ok(api::ValidateResourcePolicyResponse {
        policy_validation_passed: Some(errors.is_empty()),
        validation_errors: Some(errors),
    })
}
