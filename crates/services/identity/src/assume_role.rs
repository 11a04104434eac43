//! AssumeRole.

use std::collections::BTreeSet;

use aws_wire::{ApiError, Caller, Principal, Session};
use control::Permission;
use control::iam::role_of;
use control::iam::session::{Credentials, Holder};
use model::IamRole;
use policy::ResourceKind;
use sts_api as api;

use crate::Identity;
use crate::errors::Refusal;
use crate::factor;
use crate::passed::{Passed, end};

/// How long a session lasts that says nothing, and at most one of a role that another role assumed.
const DEFAULT_S: u32 = 3_600;
const CHAINED_S_MAX: i32 = 3_600;

pub(crate) async fn handle(
    identity: &Identity,
    caller: &Caller,
    input: api::AssumeRoleRequest,
) -> Result<api::AssumeRoleResponse, ApiError> {
    if caller.principal == Principal::Root {
        return Err(Refusal::RootAssumes.wire());
    }
    if matches!(caller.principal, Principal::Federated { .. }) {
        return Err(Refusal::FederatedAssumes.wire());
    }
    let arn = input.role_arn.clone().unwrap_or_default();
    check_arn(&arn)?;
    let view = identity.control.view();
    let role = role_of(&view, &arn);
    let chained = chained(caller, &input)?;
    let account = role.map_or(caller.account, |role| role.account);
    let mut passed = Passed::read(&view, account, input.policy, input.policy_arns, input.tags)?;
    let (serial, code) = (input.serial_number.as_deref(), input.token_code.as_deref());
    let has_code = factor::taken(identity, caller, serial, code).await?;
    let session_name = input.role_session_name.unwrap_or_default();
    let transitive: BTreeSet<String> =
        input.transitive_tag_keys.unwrap_or_default().into_iter().collect();
    let asked = Asked {
        arn: &arn,
        session_name: &session_name,
        external_id: input.external_id.as_deref(),
        passed: &passed,
        transitive: &transitive,
        source_identity: input.source_identity.as_deref(),
        has_code,
    };
    identity.control.authorize(&view, caller, &asked.permission(role.map(|role| &**role)))?;
    // Who is not trusted does not learn whether there is such a role.
    let role = role.ok_or_else(|| Refusal::NoRole(arn.clone()).wire())?;
    check_duration(role, caller, input.duration_seconds)?;
    let packed_policy_size = passed.packed_size()?;
    let mut transitive_tags = transitive.clone();
    for (key, value) in chained.tags {
        transitive_tags.insert(key.clone());
        passed.tags.insert(key, value);
    }
    let source_identity = chained.source_identity.or(input.source_identity);
    let session = Session {
        issued_at: caller.now,
        expires: end(caller.now, input.duration_seconds, DEFAULT_S),
        policy: passed.policy,
        policy_arns: passed.policy_arns,
        tags: passed.tags,
        transitive_tags,
        source_identity: source_identity.clone(),
        provider: None,
        by_password: false,
        // What the code was shown for is the role: its session says nothing of it, as at STS.
        mfa_at: None,
    };
    let issued = issue(identity, role, &session_name, session);
    Ok(api::AssumeRoleResponse {
        credentials: Some(render(issued)),
        assumed_role_user: Some(render_user(role, &session_name)),
        packed_policy_size,
        source_identity,
        ..api::AssumeRoleResponse::default()
    })
}

pub(crate) fn check_arn(arn: &str) -> Result<(), ApiError> {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    match fields.as_slice() {
        ["arn", "aws", "iam", "", _, name] if name.starts_with("role/") => Ok(()),
        _ => Err(Refusal::RoleArn(arn.to_owned()).wire()),
    }
}

/// What a session inherits from the one that asks for it.
#[derive(Default)]
struct Chained {
    tags: Vec<(String, String)>,
    source_identity: Option<String>,
}

fn chained(caller: &Caller, input: &api::AssumeRoleRequest) -> Result<Chained, ApiError> {
    let Some(session) = &caller.session else { return Ok(Chained::default()) };
    let is_transitive = |key: &str| {
        session.transitive_tags.iter().any(|transitive| transitive.eq_ignore_ascii_case(key))
    };
    let given = input.tags.iter().flatten().filter_map(|tag| tag.key.as_deref());
    if given.into_iter().any(is_transitive) {
        return Err(Refusal::TransitiveTag.wire());
    }
    let wanted = &input.source_identity;
    if session.source_identity.is_some() && wanted.is_some() && *wanted != session.source_identity {
        return Err(Refusal::SourceIdentity.wire());
    }
    let tags = session.tags.iter().filter(|(key, _)| is_transitive(key));
    Ok(Chained {
        tags: tags.map(|(key, value)| (key.clone(), value.clone())).collect(),
        source_identity: session.source_identity.clone(),
    })
}

fn check_duration(role: &IamRole, caller: &Caller, asked_s: Option<i32>) -> Result<(), ApiError> {
    let Some(asked) = asked_s else { return Ok(()) };
    if matches!(caller.principal, Principal::Role { .. }) && CHAINED_S_MAX < asked {
        return Err(Refusal::ChainedDuration.wire());
    }
    within_role(role, asked)
}

pub(crate) fn within_role(role: &IamRole, asked_s: i32) -> Result<(), ApiError> {
    match u32::try_from(asked_s) {
        Ok(asked) if asked <= role.max_session_s => Ok(()),
        _ => Err(Refusal::RoleDuration.wire()),
    }
}

/// What policies are asked about.
struct Asked<'a> {
    arn: &'a str,
    session_name: &'a str,
    external_id: Option<&'a str>,
    passed: &'a Passed,
    transitive: &'a BTreeSet<String>,
    source_identity: Option<&'a str>,
    /// Whether a code of a second factor was shown.
    has_code: bool,
}

impl Asked<'_> {
    /// To assume the role, and where tags or a source identity are given, to give those.
    fn permission(&self, role: Option<&IamRole>) -> Permission {
        let mut permission = self.of("sts:AssumeRole", role);
        if !self.passed.tags.is_empty() {
            permission = permission.and(self.of("sts:TagSession", role));
        }
        if self.source_identity.is_some() {
            permission = permission.and(self.of("sts:SetSourceIdentity", role));
        }
        permission
    }

    fn of(&self, action: &'static str, role: Option<&IamRole>) -> Permission {
        let trust = role.and_then(|role| role.trust.policy()).cloned();
        let mut permission = Permission::to(action)
            .on(self.arn)
            .under(trust, ResourceKind::Trust)
            .with("sts:RoleSessionName", self.session_name.to_owned())
            .tagging(&self.passed.tags);
        if !self.transitive.is_empty() {
            permission =
                permission.with_list("sts:TransitiveTagKeys", self.transitive.iter().cloned());
        }
        if let Some(id) = self.external_id {
            permission = permission.with("sts:ExternalId", id.to_owned());
        }
        if self.has_code {
            permission = permission
                .with("aws:MultiFactorAuthPresent", true)
                .with("aws:MultiFactorAuthAge", 0_i64);
        }
        if let Some(identity) = self.source_identity {
            permission = permission.with("sts:SourceIdentity", identity.to_owned());
        }
        permission
    }
}

pub(crate) fn issue(
    identity: &Identity,
    role: &IamRole,
    session_name: &str,
    session: Session,
) -> Credentials {
    let holder = Holder::Role { id: role.unique_id.to_string(), session: session_name.to_owned() };
    let control = &identity.control;
    control.access.sessions.issue(control.ids.as_ref(), role.account, holder, session)
}

pub(crate) fn render(issued: Credentials) -> api::Credentials {
    api::Credentials {
        access_key_id: Some(issued.access_key_id),
        secret_access_key: Some(issued.secret.reveal().to_owned()),
        session_token: Some(issued.session_token.reveal().to_owned()),
        expiration: Some(issued.expires),
    }
}

pub(crate) fn render_user(role: &IamRole, session_name: &str) -> api::AssumedRoleUser {
    let (account, name) = (role.account, &role.name);
    api::AssumedRoleUser {
        assumed_role_id: Some(format!("{}:{session_name}", role.unique_id)),
        arn: Some(format!("arn:aws:sts::{account}:assumed-role/{name}/{session_name}")),
    }
}
