//! What a target is given of an event: pure functions of the two.

use aws_wire::ApiError;
use events::{InputPath, InputTransformer, Json, RuleInfo};
use events_api as api;
use longshore_types::{AccountId, Arn, RegionName, Timestamp};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::errors::{invalid, parameter, unavailable};
use crate::limits::TASKS_MAX;
use crate::rules::json as parse_json;

/// Members of a target by which it would be of a kind that is not here.
const OTHERS: &str = "This region's rules have ECS clusters (with EcsParameters) and CloudWatch log groups as targets.";
/// As many characters as RunTask takes.
const STARTED_BY_MAX: usize = 36;

/// Of an input that makes no sense so much is shown.
const SHOWN_MAX: usize = 200;

/// What a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cluster,
    /// A log group, by its name.
    Group(String),
}

/// What the ARN of a target names.
pub(crate) fn kind_of(
    arn: &str,
    region: &RegionName,
    account: AccountId,
) -> Result<Kind, ApiError> {
    let wrong = |why: &str| parameter(arn, why);
    let read = Arn::parse(arn).map_err(|_| wrong("Provided Arn is not in correct format."))?;
    let kind = match (read.service, read.resource) {
        ("ecs", resource) if resource.starts_with("cluster/") => Kind::Cluster,
        ("logs", resource) => match resource.strip_prefix("log-group:") {
            Some(name) => Kind::Group(name.strip_suffix(":*").unwrap_or(name).to_owned()),
            None => return Err(wrong(OTHERS)),
        },
        _ => return Err(wrong(OTHERS)),
    };
    if read.region != region.as_str() || read.account != account.as_str() {
        return Err(wrong("A target must be of the rule's account and region."));
    }
    Ok(kind)
}

/// Why a target can't be put, if that is so.
pub(crate) fn check(
    target: &api::Target,
    region: &RegionName,
    account: AccountId,
) -> Result<(), ApiError> {
    let arn = target.arn.as_deref().unwrap_or_default();
    let kind = kind_of(arn, region, account)?;
    for (is_there, name) in [
        (target.kinesis_parameters.is_some(), "KinesisParameters"),
        (target.run_command_parameters.is_some(), "RunCommandParameters"),
        (target.batch_parameters.is_some(), "BatchParameters"),
        (target.sqs_parameters.is_some(), "SqsParameters"),
        (target.http_parameters.is_some(), "HttpParameters"),
        (target.redshift_data_parameters.is_some(), "RedshiftDataParameters"),
        (target.sage_maker_pipeline_parameters.is_some(), "SageMakerPipelineParameters"),
        (target.app_sync_parameters.is_some(), "AppSyncParameters"),
    ] {
        if is_there {
            return Err(parameter(name, format!("{arn} is no target that has it. {OTHERS}")));
        }
    }
    if target.dead_letter_config.as_ref().is_some_and(|config| config.arn.is_some()) {
        return Err(unavailable("DeadLetterConfig names a queue of Amazon SQS, which"));
    }
    check_input(target)?;
    match (&kind, &target.ecs_parameters) {
        (Kind::Cluster, None) => {
            Err(invalid(format!("EcsParameters are required for target {arn}.")))
        }
        (Kind::Cluster, Some(_)) if target.role_arn.is_none() => {
            Err(invalid(format!("RoleArn is required for target {arn}.")))
        }
        (Kind::Cluster, Some(parameters)) => check_tasks(parameters),
        (Kind::Group(_), Some(_)) => {
            Err(invalid(format!("EcsParameters are not supported for target {arn}.")))
        }
        (Kind::Group(_), None) if target.role_arn.is_some() => Err(invalid(format!(
            "RoleArn is not supported for target {arn}: resource policies of log groups say who writes to them."
        ))),
        (Kind::Group(_), None) => Ok(()),
    }
}

fn check_tasks(parameters: &api::EcsParameters) -> Result<(), ApiError> {
    if parameters.task_count.is_some_and(|count| !(1..=TASKS_MAX).contains(&count)) {
        return Err(parameter("TaskCount", format!("it must be between 1 and {TASKS_MAX}.")));
    }
    let has_strategy =
        parameters.capacity_provider_strategy.as_ref().is_some_and(|it| !it.is_empty());
    if has_strategy && parameters.launch_type.is_some() {
        return Err(invalid("LaunchType and CapacityProviderStrategy can't both be specified."));
    }
    Ok(())
}

fn check_input(target: &api::Target) -> Result<(), ApiError> {
    let id = target.id.as_deref().unwrap_or_default();
    let given =
        [target.input.is_some(), target.input_path.is_some(), target.input_transformer.is_some()];
    if 1 < given.into_iter().filter(|is_given| *is_given).count() {
        return Err(invalid(format!(
            "Only one of Input, InputPath, or InputTransformer must be provided for target {id}."
        )));
    }
    if let Some(text) = &target.input {
        let whole = parse_json("Input", text)?;
        if target.ecs_parameters.is_some() && !whole.is_object() {
            return Err(parameter("Input", "of a task it is an object: RunTask's overrides."));
        }
    }
    if let Some(path) = &target.input_path {
        InputPath::parse(path).map_err(|why| parameter("InputPath", why))?;
    }
    match &target.input_transformer {
        Some(given) => transformer(given).map(drop),
        None => Ok(()),
    }
}

fn transformer(given: &api::InputTransformer) -> Result<InputTransformer, ApiError> {
    let paths = given.input_paths_map.clone().unwrap_or_default();
    let template = given.input_template.as_deref().unwrap_or_default();
    InputTransformer::parse(&paths, template)
        .map_err(|why| parameter("InputTransformer", format!("{why}.")))
}

/// What a target says to be given in the event's place, if it says anything.
fn said(
    target: &api::Target,
    event: &Json,
    rule: RuleInfo<'_>,
) -> Result<Option<String>, ApiError> {
    if let Some(text) = &target.input {
        return Ok(Some(text.clone()));
    }
    if let Some(path) = &target.input_path {
        let path = InputPath::parse(path).map_err(|why| parameter("InputPath", why))?;
        return Ok(Some(path.of(event).unwrap_or(Json::Null).to_string()));
    }
    match &target.input_transformer {
        Some(given) => {
            let made = transformer(given)?.apply(event, rule);
            made.map(Some).map_err(|why| parameter("InputTransformer", format!("{why}.")))
        }
        None => Ok(None),
    }
}

/// `events-rule/<name>`, as far as a task has room for it.
pub(crate) fn started_by(rule: &str) -> String {
    format!("events-rule/{rule}").chars().take(STARTED_BY_MAX).collect()
}

/// What makes a task that is asked for again the same task.
pub(crate) fn token(pending: &str, target: &str) -> String {
    hex::encode(Sha256::digest(format!("{pending} {target}")))
}

/// What RunTask is asked.
pub(crate) fn run_task(
    target: &api::Target,
    event: &Json,
    rule: RuleInfo<'_>,
    token: &str,
) -> Result<String, ApiError> {
    let overrides = match said(target, event, rule)? {
        Some(text) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(object)) => Some(Value::Object(object)),
            Ok(_) | Err(_) => {
                let text: String = text.chars().take(SHOWN_MAX).collect();
                return Err(parameter("Input", format!("{text} are no overrides of a task.")));
            }
        },
        None => None,
    };
    let none = api::EcsParameters::default();
    let given = target.ecs_parameters.as_ref().unwrap_or(&none);
    let mut request = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            request.insert(name.to_owned(), value);
        }
    };
    put("cluster", json!(target.arn));
    put("taskDefinition", json!(given.task_definition_arn));
    put("count", json!(given.task_count));
    put("launchType", json!(given.launch_type.as_ref().map(|it| it.as_str())));
    put("platformVersion", json!(given.platform_version.as_ref().filter(|it| !it.is_empty())));
    put("group", json!(given.group.as_ref().filter(|it| !it.is_empty())));
    put("enableECSManagedTags", json!(given.enable_ecs_managed_tags));
    put("enableExecuteCommand", json!(given.enable_execute_command));
    put("propagateTags", json!(given.propagate_tags.as_ref().map(|it| it.as_str())));
    put("referenceId", json!(given.reference_id));
    let network = given.network_configuration.as_ref();
    let network = network.and_then(|it| it.awsvpc_configuration.as_ref()).map(|it| {
        let mut vpc = Map::new();
        vpc.insert("subnets".to_owned(), json!(it.subnets.clone().unwrap_or_default()));
        if let Some(groups) = it.security_groups.as_ref().filter(|groups| !groups.is_empty()) {
            vpc.insert("securityGroups".to_owned(), json!(groups));
        }
        if let Some(assign) = &it.assign_public_ip {
            vpc.insert("assignPublicIp".to_owned(), json!(assign.as_str()));
        }
        json!({ "awsvpcConfiguration": vpc })
    });
    put("networkConfiguration", network.unwrap_or_default());
    let strategy = given.capacity_provider_strategy.iter().flatten().map(|item| {
        json!({
            "capacityProvider": item.capacity_provider, "weight": item.weight.unwrap_or(0),
            "base": item.base.unwrap_or(0),
        })
    });
    put("capacityProviderStrategy", listed(strategy));
    let constraints = given.placement_constraints.iter().flatten().map(|it| {
        let kind = it.r#type.as_ref().map(|kind| kind.as_str());
        some([("type", kind), ("expression", it.expression.as_deref())])
    });
    put("placementConstraints", listed(constraints));
    let strategies = given.placement_strategy.iter().flatten().map(|it| {
        let kind = it.r#type.as_ref().map(|kind| kind.as_str());
        some([("type", kind), ("field", it.field.as_deref())])
    });
    put("placementStrategy", listed(strategies));
    let tags = given.tags.iter().flatten();
    put("tags", listed(tags.map(|tag| json!({ "key": tag.key, "value": tag.value }))));
    put("overrides", overrides.unwrap_or_default());
    put("startedBy", json!(started_by(rule.name)));
    put("clientToken", json!(token));
    Ok(Value::Object(request).to_string())
}

fn some<const N: usize>(members: [(&str, Option<&str>); N]) -> Value {
    let members = members.into_iter();
    members.filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect()
}

/// An empty list is none.
fn listed(items: impl Iterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.collect();
    if items.is_empty() { Value::Null } else { Value::Array(items) }
}

/// The line of a log group, and its time: the whole event, or what the target says, which may be an object with both.
pub(crate) fn line(
    target: &api::Target,
    event: &Json,
    rule: RuleInfo<'_>,
    at: Timestamp,
) -> Result<(String, Timestamp), ApiError> {
    let Some(text) = said(target, event, rule)? else { return Ok((event.to_string(), at)) };
    let read = serde_json::from_str::<Value>(&text).unwrap_or_default();
    let Some(message) = read["message"].as_str() else { return Ok((text, at)) };
    let given = &read["timestamp"];
    let ms = given.as_u64().or_else(|| given.as_str().and_then(|text| text.parse().ok()));
    Ok((message.to_owned(), ms.map_or(at, Timestamp)))
}
