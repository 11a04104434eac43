//! PutParameter.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::Permission;
use control::access::principal_arn;
use control::kms::KeyUse;
use control::parameters::{SERVICE, encryption_context, version_bound_to};
use control::secrets::no_access_to_key;
use longshore_types::{AccountId, Timestamp, Uuid};
use model::parameter::{ParameterTier, ParameterValue};
use model::{Key, Parameter, ParameterVersion, ParameterVersionId, Tags, View};
use regex::RegexBuilder;
use ssm_api as api;
use store::Batch;

use crate::errors::{invalid, named};
use crate::limits::{
    ADVANCED_CHARS_MAX, ADVANCED_MAX, PATTERN_BYTES_MAX, STANDARD_CHARS_MAX, STANDARD_MAX,
    VERSIONS_MAX,
};
use crate::{Ssm, names, policies, render, tags};

/// The name of Amazon's own key, as requests may write it.
pub(crate) const MANAGED_KEY: &str = "alias/aws/ssm";
/// The kinds of data that a String may be checked to be.
const DATA_TYPES: &[&str] = &["text", "aws:ec2:image", "aws:ssm:integration"];

/// What is to be put.
struct Asked {
    account: AccountId,
    name: String,
    /// Whether the name was given with a slash before it.
    has_slash: bool,
    value: String,
    kind: Option<api::ParameterType>,
    key_id: Option<String>,
    is_overwriting: bool,
    description: Option<String>,
    allowed_pattern: Option<String>,
    tier: api::ParameterTier,
    data_type: Option<String>,
    policies: Option<String>,
    tags: Tags,
    uid: Uuid,
}

pub(crate) async fn put_parameter(
    it: &Ssm,
    caller: &Caller,
    input: api::PutParameterRequest,
) -> Result<api::PutParameterResult, ApiError> {
    let account = caller.account;
    let given = input.name.unwrap_or_default();
    let named = names::of_request(it, account, &given);
    let plain = named.as_ref().map_or(given.clone(), |named| named.name.clone());
    let tags = tags::read(input.tags)?;
    let is_overwriting = input.overwrite.unwrap_or(false);
    let permission =
        permission(it, account, &plain, is_overwriting, &tags, input.policies.is_some());
    // Who may not put it does not learn what would be wrong with it.
    it.control.read(caller, &permission)?;
    let arn = it.control.parameter_arn(account, &plain);
    let asked = Asked {
        account,
        name: names::to_put(&given, named, &arn)?,
        has_slash: given.starts_with('/'),
        value: input.value.unwrap_or_default(),
        kind: input.r#type,
        key_id: input.key_id,
        is_overwriting,
        description: input.description,
        allowed_pattern: input.allowed_pattern,
        tier: input.tier.unwrap_or(api::ParameterTier::Standard),
        data_type: input.data_type.filter(|kind| !kind.is_empty()),
        policies: input.policies,
        tags,
        uid: Uuid::mint(it.control.ids.as_ref()),
    };
    check(&asked)?;
    let (version, tier) = it
        .control
        .change(caller, &permission, |view, now| {
            let mut batch = Batch::on(view);
            let put = put(it, caller, view, now, &mut batch, &asked)?;
            Ok((batch, put))
        })
        .await?;
    Ok(api::PutParameterResult {
        version: Some(render::number(version)),
        tier: Some(render::tier(tier)),
    })
}

fn permission(
    it: &Ssm,
    account: AccountId,
    name: &str,
    is_overwriting: bool,
    tags: &Tags,
    has_policies: bool,
) -> Permission {
    let put = it.permission(account, "ssm:PutParameter", name).tagging(tags);
    let mut put = put.with("ssm:Overwrite", is_overwriting);
    if has_policies {
        put = put.with("ssm:Policies", true);
    }
    match tags.is_empty() {
        true => put,
        false => put.and(it.permission(account, "ssm:AddTagsToResource", name).tagging(tags)),
    }
}

/// What can be said without a look at what is there.
fn check(asked: &Asked) -> Result<(), ApiError> {
    if asked.is_overwriting && !asked.tags.is_empty() {
        return Err(invalid(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please \
             remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or \
             RemoveTagsFromResource.",
        ));
    }
    if asked.value.is_empty() {
        return Err(invalid("Parameter value can't be empty."));
    }
    if let Some(kind) = asked.data_type.as_deref().filter(|kind| !DATA_TYPES.contains(kind)) {
        return Err(invalid(format!("The following data type is not supported: {kind}")));
    }
    check_pattern(asked.allowed_pattern.as_deref(), &asked.value)
}

/// That a value is as its pattern wants it. An empty pattern is none.
fn check_pattern(pattern: Option<&str>, value: &str) -> Result<(), ApiError> {
    let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else { return Ok(()) };
    let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
    let compiled = compiled.map_err(|_| {
        let message = "The request does not meet the regular expression requirement.";
        named("InvalidAllowedPatternException", message)
    })?;
    match compiled.is_match(value) {
        true => Ok(()),
        false => Err(named(
            "ParameterPatternMismatchException",
            format!("Parameter value, cannot be validated against allowedPattern: {pattern}"),
        )),
    }
}

fn put(
    it: &Ssm,
    caller: &Caller,
    view: &View,
    now: Timestamp,
    batch: &mut Batch,
    asked: &Asked,
) -> Result<(u64, ParameterTier), ApiError> {
    let key = Key::Parameter(asked.account, asked.name.as_str().into());
    let before = view.parameters.get(asked.account, &asked.name.as_str().into());
    if before.is_some() && !asked.is_overwriting {
        return Err(named(
            "ParameterAlreadyExists",
            "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
        ));
    }
    let mut next = match before {
        Some(row) => Parameter::clone(row),
        None => Parameter {
            account: asked.account,
            name: asked.name.as_str().into(),
            has_slash: asked.has_slash && !asked.name.starts_with('/'),
            uid: asked.uid,
            oldest: 1,
            latest: 0,
            labels: BTreeMap::new(),
            tags: asked.tags.clone(),
            expires_at: None,
            notices: Vec::new(),
        },
    };
    let last = view.parameter_versions.get(asked.account, &next.version_id(next.latest));
    let last = last.map(|row| &**row);
    let kept = || policies::kept(last.map_or(&[], |row| &row.policies));
    let policies = asked.policies.as_deref().map(|text| policies::read(text, now)).transpose()?;
    let has_new_policies = policies.is_some();
    let policies = policies.unwrap_or_else(kept);
    let has_policies = !policies.is_empty();
    let tier = tier_of(asked, last.map(|row| row.tier), has_policies)?;
    if before.is_none() {
        check_count(view, asked.account, tier)?;
    }
    next.latest += 1;
    make_room(batch, &mut next)?;
    let id = next.version_id(next.latest);
    let value = value_of(it, caller, view, now, batch, asked, &next, id, last)?;
    next.expires_at = policies.expires_at();
    let told = if has_new_policies { Vec::new() } else { std::mem::take(&mut next.notices) };
    next.notices = policies.notices(now, &told);
    let given = |new: &Option<String>, old: Option<&Option<String>>| {
        new.clone().or_else(|| old.cloned().flatten()).filter(|text| !text.is_empty())
    };
    let data_type = asked.data_type.clone().or_else(|| last.map(|row| row.data_type.clone()));
    let allowed_pattern = given(&asked.allowed_pattern, last.map(|row| &row.allowed_pattern));
    if asked.allowed_pattern.is_none() {
        // What the parameter has from before still binds it.
        check_pattern(allowed_pattern.as_deref(), &asked.value)?;
    }
    batch.put(ParameterVersion {
        account: asked.account,
        id,
        value,
        description: given(&asked.description, last.map(|row| &row.description)),
        allowed_pattern,
        tier,
        data_type: data_type.unwrap_or_else(|| "text".to_owned()),
        policies: policies.into_texts(),
        modified_at: now,
        modified_by: principal_arn(caller),
    });
    let version = next.latest;
    batch.rely(key).put(next);
    Ok((version, tier))
}

/// The tier that a version is in, which its value must fit.
fn tier_of(
    asked: &Asked,
    before: Option<ParameterTier>,
    has_policies: bool,
) -> Result<ParameterTier, ApiError> {
    let chars = asked.value.chars().count();
    let needs_advanced = STANDARD_CHARS_MAX < chars || has_policies;
    let was_advanced = before == Some(ParameterTier::Advanced);
    let tier = match asked.tier {
        api::ParameterTier::Standard if was_advanced => {
            return Err(invalid(
                "This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the \
                 advanced-parameter tier to the standard-parameter tier. If necessary, you can delete the advanced \
                 parameter and recreate it as a standard parameter.",
            ));
        }
        api::ParameterTier::Advanced => ParameterTier::Advanced,
        api::ParameterTier::IntelligentTiering if was_advanced || needs_advanced => {
            ParameterTier::Advanced
        }
        // Standard, or intelligent tiering that found no reason for more.
        _ => ParameterTier::Standard,
    };
    let max = match tier {
        ParameterTier::Standard => STANDARD_CHARS_MAX,
        ParameterTier::Advanced => ADVANCED_CHARS_MAX,
    };
    if has_policies && tier == ParameterTier::Standard {
        return Err(invalid(
            "Parameter policies are only supported for parameters in the advanced-parameter tier.",
        ));
    }
    match chars <= max {
        true => Ok(tier),
        false if tier == ParameterTier::Standard => Err(invalid(format!(
            "Standard tier parameters support a maximum parameter value of {max} characters. To create a larger \
             parameter value, upgrade the parameter to use the advanced-parameter tier. For more information, see \
             https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"
        ))),
        false => Err(invalid(format!(
            "Advanced tier parameters support a maximum parameter value of {max} characters."
        ))),
    }
}

fn check_count(view: &View, account: AccountId, tier: ParameterTier) -> Result<(), ApiError> {
    let max = match tier {
        ParameterTier::Standard => STANDARD_MAX,
        ParameterTier::Advanced => ADVANCED_MAX,
    };
    let is_of = |row: &Parameter| {
        let version = view.parameter_versions.get(account, &row.version_id(row.latest));
        version.is_some_and(|version| version.tier == tier)
    };
    // Only who has as many parameters at all may have as many of a tier.
    let has_many = max <= view.parameters.of(account).count();
    match has_many && max <= view.parameters.of(account).filter(|row| is_of(row)).count() {
        true => Err(named(
            "ParameterLimitExceeded",
            format!("You have exceeded the number of parameters for this account: {max}."),
        )),
        false => Ok(()),
    }
}

/// Takes the oldest version away that is one too many, unless it has a label.
fn make_room(batch: &mut Batch, row: &mut Parameter) -> Result<(), ApiError> {
    if row.latest - row.oldest < VERSIONS_MAX {
        return Ok(());
    }
    if let Some(label) = row.labels_of(row.oldest).next() {
        return Err(named(
            "ParameterMaxVersionLimitExceeded",
            format!(
                "You attempted to create a new version of {} by calling the PutParameter API with the overwrite flag. \
                 Version {}, the oldest version, can't be deleted because it has a label associated with it: {label}. \
                 Move the label to another version of the parameter, and try again.",
                row.name, row.oldest
            ),
        ));
    }
    batch.delete(Key::ParameterVersion(row.account, row.version_id(row.oldest)));
    row.oldest += 1;
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "a version is made of what was asked, what is there, and where"
)]
fn value_of(
    it: &Ssm,
    caller: &Caller,
    view: &View,
    now: Timestamp,
    batch: &mut Batch,
    asked: &Asked,
    row: &Parameter,
    id: ParameterVersionId,
    last: Option<&ParameterVersion>,
) -> Result<ParameterValue, ApiError> {
    let kind = match (&asked.kind, last) {
        (Some(kind), _) if kind.is_known() => kind.clone(),
        (Some(kind), _) => {
            let message = format!("The parameter type {kind} is not supported.");
            return Err(named("UnsupportedParameterType", message));
        }
        (None, Some(last)) => render::kind(&last.value),
        (None, None) => {
            return Err(invalid("A parameter type is required when you create a parameter."));
        }
    };
    let text = asked.value.clone();
    match kind {
        api::ParameterType::StringList => Ok(ParameterValue::List(text)),
        api::ParameterType::SecureString => {
            let before = last.and_then(|last| render::key_id(&last.value));
            let named_as = asked.key_id.clone().filter(|key| !key.is_empty()).or(before);
            let named_as = named_as.unwrap_or_else(|| MANAGED_KEY.to_owned());
            let refuse = |why: control::kms::KeyRefusal| named("InvalidKeyId", why.to_string());
            let key = match named_as.as_str() {
                MANAGED_KEY => it.control.managed_key(view, batch, row.account, SERVICE, now),
                other => it.control.find_key(view, row.account, other).map_err(refuse)?,
            };
            let context = encryption_context(&it.control.parameter_arn(row.account, &row.name));
            let used = KeyUse { action: "kms:Encrypt", via: Some(SERVICE), context: &context };
            let permission = it.control.key_permission(caller, view, &key, &used);
            let allowed = it.control.authorize(view, caller, &permission);
            allowed.map_err(|error| no_access_to_key(error, SERVICE))?;
            it.control.check_key(&key.key).map_err(refuse)?;
            let bound_to = version_bound_to(row.account, id);
            let sealed = it.control.seal_by(&key.key, &bound_to, text.as_bytes())?;
            Ok(ParameterValue::Secure { sealed: STANDARD.encode(sealed), key: named_as })
        }
        _ => match asked.key_id.is_some() {
            true => Err(invalid("KeyId is required for SecureString type parameter only.")),
            false => Ok(ParameterValue::Text(text)),
        },
    }
}
