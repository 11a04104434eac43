//! What policies would say: SimulatePrincipalPolicy, SimulateCustomPolicy, and the condition keys that policies
//! ask for. The same engine answers as for real requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::iam::{PolicyName, Subject, role_of, user_of};
use control::{Context, Permission};
use iam_api as api;
use longshore_types::{AccountId, Timestamp};
use model::{IamUser, View};
use policy::{
    Action, Explanation, Layer, Outcome, Policies, Policy, PolicyKind, Request, ResourceKind,
    StatementRef, Value, explain,
};

use crate::Iam;
use crate::errors::{Refusal, malformed};
use crate::holder::Holder as _;
use crate::pages::{page, paged};

/// Actions times resources of one simulation.
const QUESTIONS_MAX: usize = 10_000;

fn parse(text: &str, kind: PolicyKind) -> Result<Arc<Policy>, ApiError> {
    Policy::parse(text, kind).map(Arc::new).map_err(|why| malformed(&why))
}

/// The user, group or role of an ARN, as one who asks.
fn subject_of(view: &View, account: AccountId, arn: &str) -> Result<Subject, ApiError> {
    if let Some(row) = user_of(view, arn).filter(|row| row.account == account) {
        return Ok(Subject::user(view, row));
    }
    if let Some(row) = role_of(view, arn).filter(|row| row.account == account) {
        return Ok(Subject::session(view, row, "simulation"));
    }
    let name = arn.rsplit('/').next().unwrap_or_default();
    let group = model::IamGroup::find(view, account, name).filter(|row| row.arn() == arn);
    let group = group.ok_or_else(|| Refusal::MissingSource(arn.to_owned()).wire())?;
    // Somebody who has what the group has.
    let member = IamUser {
        account,
        name: "simulation".into(),
        path: "/".into(),
        unique_id: "AIDASIMULATION".into(),
        created_at: Timestamp(0),
        tags: BTreeMap::new(),
        boundary: None,
        grants: group.grants.clone(),
        groups: BTreeSet::new(),
        devices: BTreeSet::new(),
        login: None,
    };
    Ok(Subject::user(view, &member))
}

/// Somebody with no policies of its own.
fn nobody(account: AccountId) -> Subject {
    let row = IamUser {
        account,
        name: "simulation".into(),
        path: "/".into(),
        unique_id: "AIDASIMULATION".into(),
        created_at: Timestamp(0),
        tags: BTreeMap::new(),
        boundary: None,
        grants: model::Grants::default(),
        groups: BTreeSet::new(),
        devices: BTreeSet::new(),
        login: None,
    };
    Subject::user(&View::default(), &row)
}

/// What is simulated, however it was asked for.
struct Simulation {
    subject: Subject,
    resource: Vec<Arc<Policy>>,
    owner: Option<AccountId>,
    context: Context,
    actions: Vec<String>,
    resources: Vec<String>,
}

pub(crate) async fn simulate_principal_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::SimulatePrincipalPolicyRequest,
) -> Result<api::SimulatePolicyResponse, ApiError> {
    let arn = input.policy_source_arn.unwrap_or_default();
    let permission = Permission::to("iam:SimulatePrincipalPolicy").on(arn.as_str());
    let view = iam.read(caller, |_| permission)?;
    if input.policy_exclusion_list.is_some_and(|list| !list.is_empty()) {
        return Err(Refusal::ExclusionList.wire());
    }
    let mut subject = subject_of(&view, caller.account, &arn)?;
    add_inputs(&mut subject, input.policy_input_list)?;
    limit(&mut subject, input.permissions_boundary_policy_input_list)?;
    let simulation = Simulation {
        context: context(&subject, input.context_entries)?,
        subject,
        resource: resource_policy(input.resource_policy)?,
        owner: owner(input.resource_owner)?,
        actions: input.action_names.unwrap_or_default(),
        resources: resources(input.resource_arns),
    };
    let results = simulation.results()?;
    Ok(paged!(
        SimulatePolicyResponse,
        evaluation_results,
        page(input.marker, input.max_items, results)?
    ))
}

pub(crate) async fn simulate_custom_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::SimulateCustomPolicyRequest,
) -> Result<api::SimulatePolicyResponse, ApiError> {
    let view = iam.read(caller, |_| Permission::to("iam:SimulateCustomPolicy").on("*"))?;
    let mut subject = match input.caller_arn.as_deref().map(|arn| user_of(&view, arn)) {
        Some(Some(row)) if row.account == caller.account => {
            let mut subject = Subject::user(&view, row);
            subject.standing = Arc::default();
            subject
        }
        _ => nobody(caller.account),
    };
    add_inputs(&mut subject, input.policy_input_list)?;
    limit(&mut subject, input.permissions_boundary_policy_input_list)?;
    let simulation = Simulation {
        context: context(&subject, input.context_entries)?,
        subject,
        resource: resource_policy(input.resource_policy)?,
        owner: owner(input.resource_owner)?,
        actions: input.action_names.unwrap_or_default(),
        resources: resources(input.resource_arns),
    };
    let results = simulation.results()?;
    Ok(paged!(
        SimulatePolicyResponse,
        evaluation_results,
        page(input.marker, input.max_items, results)?
    ))
}

fn add_inputs(subject: &mut Subject, texts: Option<Vec<String>>) -> Result<(), ApiError> {
    for (place, text) in texts.unwrap_or_default().iter().enumerate() {
        let name = format!("PolicyInputList.{}", place + 1);
        let name = PolicyName::Inline { owner: String::new(), name };
        subject.add(name, parse(text, PolicyKind::Identity)?);
    }
    Ok(())
}

/// The boundary that is given takes the place of the one that there is.
fn limit(subject: &mut Subject, texts: Option<Vec<String>>) -> Result<(), ApiError> {
    let Some(text) = texts.unwrap_or_default().into_iter().next() else { return Ok(()) };
    let name = "PermissionsBoundaryPolicyInputList.1".into();
    subject.limit(name, parse(&text, PolicyKind::Boundary)?);
    Ok(())
}

fn resource_policy(text: Option<String>) -> Result<Vec<Arc<Policy>>, ApiError> {
    let text = text.as_deref();
    text.map(|text| parse(text, PolicyKind::Resource))
        .transpose()
        .map(|it| it.into_iter().collect())
}

fn owner(given: Option<String>) -> Result<Option<AccountId>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    let account = given.split(':').nth(4).unwrap_or(given.as_str());
    let account = account.parse();
    account.map(Some).map_err(|_| Refusal::ResourceOwner(given.clone()).wire())
}

fn resources(given: Option<Vec<String>>) -> Vec<String> {
    given.filter(|list| !list.is_empty()).unwrap_or_else(|| vec!["*".to_owned()])
}

fn context(
    subject: &Subject,
    entries: Option<Vec<api::ContextEntry>>,
) -> Result<Context, ApiError> {
    let mut context = subject.context.clone();
    for entry in entries.unwrap_or_default() {
        let key = entry.context_key_name.unwrap_or_default();
        let kind = entry.context_key_type.unwrap_or(api::ContextKeyTypeEnum::String);
        let values = entry.context_key_values.unwrap_or_default();
        let values: Vec<Value> =
            values.iter().map(|text| value(&key, &kind, text)).collect::<Result<_, _>>()?;
        match values.as_slice() {
            [one] if !kind.as_str().ends_with("List") => context.set(key, one.clone()),
            _ => context.set_list(key, values),
        }
    }
    Ok(context)
}

fn value(key: &str, kind: &api::ContextKeyTypeEnum, text: &str) -> Result<Value, ApiError> {
    use api::ContextKeyTypeEnum as Kind;
    let bad = || {
        let (key, kind, text) = (key.to_owned(), kind.to_string(), text.to_owned());
        Refusal::ContextValue { key, kind, text }.wire()
    };
    match kind {
        Kind::Boolean | Kind::BooleanList => Ok(Value::Bool(text.parse().map_err(|_| bad())?)),
        Kind::Ip | Kind::IpList => Ok(Value::Address(text.parse().map_err(|_| bad())?)),
        // Operators on numbers and dates read texts as well.
        _ => Ok(Value::from(text.to_owned())),
    }
}

impl Simulation {
    fn results(&self) -> Result<Vec<(String, api::EvaluationResult)>, ApiError> {
        if QUESTIONS_MAX < self.actions.len().saturating_mul(self.resources.len()) {
            return Err(Refusal::Questions.wire());
        }
        let mut results = Vec::new();
        for name in &self.actions {
            let action: Action = name.parse().map_err(|_| Refusal::Action(name.clone()).wire())?;
            for resource in &self.resources {
                let key = format!("{:06}", results.len());
                results.push((key, self.result(&action, resource)));
            }
        }
        Ok(results)
    }

    fn result(&self, action: &Action, resource: &str) -> api::EvaluationResult {
        let request = Request {
            caller: &self.subject.caller,
            action,
            resource,
            resource_account: self.owner,
            context: (&self.context).into(),
        };
        let policies = self.subject.policies(&self.resource, ResourceKind::Plain);
        let explained = explain(&request, &policies);
        let boundary = explained.layers.get(&Layer::Boundary);
        let matched = explained.matched.iter();
        let across = self.owner.is_some();
        api::EvaluationResult {
            eval_action_name: Some(action.as_str().to_owned()),
            eval_resource_name: Some(resource.to_owned()),
            eval_decision: Some(decision(&explained)),
            matched_statements: Some(matched.map(|at| self.statement(*at, &policies)).collect()),
            missing_context_values: Some(explained.missing.iter().cloned().collect()),
            permissions_boundary_decision_detail: boundary.map(|outcome| {
                api::PermissionsBoundaryDecisionDetail {
                    allowed_by_permissions_boundary: Some(*outcome == Outcome::Allowed),
                }
            }),
            eval_decision_details: across.then(|| details(&explained)),
            ..api::EvaluationResult::default()
        }
    }

    fn statement(&self, at: StatementRef, policies: &Policies<'_>) -> api::Statement {
        let policy = policies.layer(at.layer).get(at.policy);
        let span = policy.and_then(|policy| policy.position(at.statement));
        let position = |(line, column): (usize, usize)| api::Position {
            line: i32::try_from(line).ok(),
            column: i32::try_from(column).ok(),
        };
        let (id, kind) = match at.layer {
            Layer::Identity => match self.subject.standing.names().get(at.policy) {
                Some(PolicyName::Managed(arn)) => {
                    let name = arn.rsplit('/').next().unwrap_or_default().to_owned();
                    let kind = match arn.starts_with("arn:aws:iam::aws:") {
                        true => api::PolicySourceType::AwsManaged,
                        false => api::PolicySourceType::UserManaged,
                    };
                    (name, kind)
                }
                Some(PolicyName::Inline { owner, name }) => {
                    let kind = owner.split(':').nth(5).and_then(|it| it.split('/').next());
                    (name.clone(), kind.map_or(api::PolicySourceType::None_, Into::into))
                }
                None => (String::new(), api::PolicySourceType::None_),
            },
            Layer::Boundary => {
                let name = self.subject.standing.boundary().map(ToString::to_string);
                (name.unwrap_or_default(), api::PolicySourceType::UserManaged)
            }
            Layer::Session => (String::new(), api::PolicySourceType::None_),
            Layer::Resource | Layer::Trust => {
                ("ResourcePolicy".to_owned(), api::PolicySourceType::Resource)
            }
        };
        api::Statement {
            source_policy_id: Some(id),
            source_policy_type: Some(kind),
            start_position: span.map(|(start, _)| position(start)),
            end_position: span.map(|(_, end)| position(end)),
        }
    }
}

fn decision(explained: &Explanation) -> api::PolicyEvaluationDecisionType {
    match explained.decision {
        policy::Decision::Allow(_) => api::PolicyEvaluationDecisionType::Allowed,
        policy::Decision::ImplicitDeny(_) => api::PolicyEvaluationDecisionType::ImplicitDeny,
        policy::Decision::ExplicitDeny(_) => api::PolicyEvaluationDecisionType::ExplicitDeny,
    }
}

/// Between accounts: what each side says.
fn details(explained: &Explanation) -> BTreeMap<String, api::PolicyEvaluationDecisionType> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Allowed => api::PolicyEvaluationDecisionType::Allowed,
        Outcome::ImplicitlyDenied => api::PolicyEvaluationDecisionType::ImplicitDeny,
        Outcome::ExplicitlyDenied => api::PolicyEvaluationDecisionType::ExplicitDeny,
    };
    let name = |layer: &Layer| match layer {
        Layer::Identity => Some("IAM Policy"),
        Layer::Resource => Some("Resource Policy"),
        Layer::Boundary | Layer::Session | Layer::Trust => None,
    };
    let layers = explained.layers.iter();
    layers.filter_map(|(layer, it)| Some((name(layer)?.to_owned(), word(it)))).collect()
}

pub(crate) async fn get_context_keys_for_custom_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::GetContextKeysForCustomPolicyRequest,
) -> Result<api::GetContextKeysForPolicyResponse, ApiError> {
    iam.read(caller, |_| Permission::to("iam:GetContextKeysForCustomPolicy").on("*"))?;
    let mut keys = BTreeSet::new();
    for text in input.policy_input_list.unwrap_or_default() {
        keys.extend(parse(&text, PolicyKind::Identity)?.context_keys());
    }
    Ok(api::GetContextKeysForPolicyResponse { context_key_names: Some(keys.into_iter().collect()) })
}

pub(crate) async fn get_context_keys_for_principal_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::GetContextKeysForPrincipalPolicyRequest,
) -> Result<api::GetContextKeysForPolicyResponse, ApiError> {
    let arn = input.policy_source_arn.unwrap_or_default();
    let permission = Permission::to("iam:GetContextKeysForPrincipalPolicy").on(arn.as_str());
    let view = iam.read(caller, |_| permission)?;
    let subject = subject_of(&view, caller.account, &arn)?;
    let mut keys: BTreeSet<String> =
        subject.standing.identity().iter().flat_map(|policy| policy.context_keys()).collect();
    for text in input.policy_input_list.unwrap_or_default() {
        keys.extend(parse(&text, PolicyKind::Identity)?.context_keys());
    }
    Ok(api::GetContextKeysForPolicyResponse { context_key_names: Some(keys.into_iter().collect()) })
}
