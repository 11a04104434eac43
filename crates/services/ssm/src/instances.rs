//! DescribeInstanceInformation, DeregisterManagedInstance, UpdateManagedInstanceRole, and tags of managed instances: hosts that
//! joined by an activation.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::managed_instances;
use control::release::RELEASE;
use longshore_types::Timestamp;
use model::tags::TAGS_MAX;
use model::{Key, Managed, Node, Tags};
use ssm_api as api;
use store::Batch;

use crate::activations::{check_role, passing};
use crate::errors::{invalid, named};
use crate::limits::PAGE_MAX;
use crate::pages::page;
use crate::{Ssm, tags};

/// What a page has where the request says nothing.
const PAGE: i32 = 10;
/// Hosts check in every minute, and the row says so every other one.
const SILENCE_MS_MAX: u64 = 5 * 60_000;

pub(crate) async fn describe_instance_information(
    it: &Ssm,
    caller: &Caller,
    input: api::DescribeInstanceInformationRequest,
) -> Result<api::DescribeInstanceInformationResult, ApiError> {
    let permission = Permission::to("ssm:DescribeInstanceInformation").on("*");
    let view = it.control.read(caller, &permission)?;
    let filters = filters(input.instance_information_filter_list, input.filters)?;
    let mut found: Vec<(String, api::InstanceInformation)> =
        managed_instances::of(&view, caller.account)
            .filter(|(node, managed)| {
                filters.iter().all(|filter| filter.passes(node, managed, caller.now))
            })
            .map(|(node, managed)| (managed.id.to_string(), shown(node, managed, caller.now)))
            .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let size = Some(input.max_results.unwrap_or(PAGE));
    let page = page(input.next_token, size, PAGE_MAX, found.into_iter())?;
    Ok(api::DescribeInstanceInformationResult {
        instance_information_list: Some(page.items),
        next_token: page.next_token,
    })
}

/// One of its values must match.
struct Filter {
    key: String,
    values: Vec<String>,
}

const KEYS: [&str; 10] = [
    "InstanceIds",
    "AgentVersion",
    "PingStatus",
    "PlatformTypes",
    "ActivationIds",
    "IamRole",
    "ResourceType",
    "AssociationStatus",
    "SourceIds",
    "SourceTypes",
];

fn filters(
    older: Option<Vec<api::InstanceInformationFilter>>,
    given: Option<Vec<api::InstanceInformationStringFilter>>,
) -> Result<Vec<Filter>, ApiError> {
    let (older, given) = (older.unwrap_or_default(), given.unwrap_or_default());
    if !older.is_empty() && !given.is_empty() {
        return Err(invalid("InstanceInformationFilterList and Filters can't be given at once."));
    }
    let older = older.into_iter().map(|filter| Filter {
        key: filter.key.map(|key| key.to_string()).unwrap_or_default(),
        values: filter.value_set.unwrap_or_default(),
    });
    let given = given.into_iter().map(|filter| Filter {
        key: filter.key.unwrap_or_default(),
        values: filter.values.unwrap_or_default(),
    });
    let filters: Vec<Filter> = older.chain(given).collect();
    let is_known = |key: &str| KEYS.contains(&key) || key == "tag-key" || key.starts_with("tag:");
    match filters.iter().find(|filter| !is_known(&filter.key)) {
        None => Ok(filters),
        Some(filter) => {
            let message = format!("The specified filter key {} is not valid.", filter.key);
            Err(named("InvalidFilterKey", message))
        }
    }
}

impl Filter {
    fn passes(&self, node: &Node, managed: &Managed, now: Timestamp) -> bool {
        let is = |text: &str| self.values.iter().any(|value| value == text);
        match self.key.as_str() {
            "InstanceIds" => is(&managed.id),
            "AgentVersion" => node.release.as_deref().is_some_and(is),
            "PingStatus" => is(ping(managed, now).as_str()),
            "PlatformTypes" => is("Linux"),
            "ActivationIds" => is(&managed.activation),
            "IamRole" => is(&managed.role),
            "ResourceType" => is("ManagedInstance"),
            "SourceIds" => is(&managed.id),
            "SourceTypes" => is("AWS::SSM::ManagedInstance"),
            "tag-key" => managed.tags.keys().any(|key| is(key)),
            key => match key.strip_prefix("tag:") {
                Some(key) => managed.tags.get(key).is_some_and(|value| is(value)),
                // Nothing is associated with instances here.
                None => false,
            },
        }
    }
}

fn ping(managed: &Managed, now: Timestamp) -> api::PingStatus {
    match now < managed.seen_at.plus_ms(SILENCE_MS_MAX) {
        true => api::PingStatus::Online,
        false => api::PingStatus::ConnectionLost,
    }
}

fn shown(node: &Node, managed: &Managed, now: Timestamp) -> api::InstanceInformation {
    let is_latest = node.release.as_deref() == Some(RELEASE);
    let (platform, version) = managed.platform.clone().unzip();
    api::InstanceInformation {
        instance_id: Some(managed.id.to_string()),
        ping_status: Some(ping(managed, now)),
        last_ping_date_time: Some(managed.seen_at),
        agent_version: node.release.clone(),
        is_latest_version: Some(is_latest),
        platform_type: Some(api::PlatformType::Linux),
        platform_name: platform,
        platform_version: version,
        activation_id: Some(managed.activation.to_string()),
        iam_role: Some(managed.role.clone()),
        registration_date: Some(node.joined_at),
        resource_type: Some(api::ResourceType::ManagedInstance),
        name: managed.name.clone(),
        ip_address: managed.address.clone(),
        computer_name: Some(node.host_name.clone()).filter(|name| !name.is_empty()),
        source_id: Some(managed.id.to_string()),
        source_type: Some(api::SourceType::AwsSsmManagedInstance),
        ..api::InstanceInformation::default()
    }
}

/// Its keys are over at once. Its container instance is deregistered by ECS's operation, as at Amazon.
pub(crate) async fn deregister_managed_instance(
    it: &Ssm,
    caller: &Caller,
    input: api::DeregisterManagedInstanceRequest,
) -> Result<api::DeregisterManagedInstanceResult, ApiError> {
    let id = input.instance_id.unwrap_or_default();
    let permission = permission(it, caller, "ssm:DeregisterManagedInstance", &id);
    it.control
        .change(caller, &permission, |view, _| {
            let found = managed_instances::find(view, caller.account, &id);
            let (node, _) = found.ok_or_else(|| unknown(&id))?;
            let mut batch = Batch::on(view);
            batch.delete(Key::Node(node.account, Arc::clone(&node.id)));
            Ok((batch, ()))
        })
        .await?;
    Ok(api::DeregisterManagedInstanceResult {})
}

pub(crate) async fn update_managed_instance_role(
    it: &Ssm,
    caller: &Caller,
    input: api::UpdateManagedInstanceRoleRequest,
) -> Result<api::UpdateManagedInstanceRoleResult, ApiError> {
    let id = input.instance_id.unwrap_or_default();
    let role = input.iam_role.unwrap_or_default();
    let permission = permission(it, caller, "ssm:UpdateManagedInstanceRole", &id);
    let permission = passing(it, permission, caller.account, &role);
    change(
        it,
        caller,
        &id,
        &permission,
        || unknown(&id),
        |view, now, managed| {
            check_role(it, view, caller.account, &role, now)?;
            managed.role.clone_from(&role);
            Ok(())
        },
    )
    .await?;
    Ok(api::UpdateManagedInstanceRoleResult {})
}

pub(crate) async fn add_tags(
    it: &Ssm,
    caller: &Caller,
    id: &str,
    more: &Tags,
) -> Result<(), ApiError> {
    let permission = permission(it, caller, "ssm:AddTagsToResource", id).tagging(more);
    change(it, caller, id, &permission, tags::unknown, |_, _, managed| {
        managed.tags.extend(more.clone());
        match managed.tags.len() <= TAGS_MAX {
            true => Ok(()),
            false => Err(named(
                "TooManyTagsError",
                format!("A managed instance can have up to {TAGS_MAX} tags."),
            )),
        }
    })
    .await
}

pub(crate) async fn remove_tags(
    it: &Ssm,
    caller: &Caller,
    id: &str,
    keys: &[String],
) -> Result<(), ApiError> {
    let permission = permission(it, caller, "ssm:RemoveTagsFromResource", id).about_tags(keys);
    change(it, caller, id, &permission, tags::unknown, |_, _, managed| {
        managed.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}

pub(crate) fn list_tags(it: &Ssm, caller: &Caller, id: &str) -> Result<Tags, ApiError> {
    let permission = permission(it, caller, "ssm:ListTagsForResource", id);
    let view = it.control.read(caller, &permission)?;
    let found = managed_instances::find(&view, caller.account, id).ok_or_else(tags::unknown)?;
    Ok(found.1.tags.clone())
}

async fn change(
    it: &Ssm,
    caller: &Caller,
    id: &str,
    permission: &Permission,
    missing: impl Fn() -> ApiError + Send + Sync,
    change: impl Fn(&model::View, Timestamp, &mut Managed) -> Result<(), ApiError> + Send + Sync,
) -> Result<(), ApiError> {
    it.control
        .change(caller, permission, |view, now| {
            let found = managed_instances::find(view, caller.account, id);
            let (node, managed) = found.ok_or_else(&missing)?;
            let mut next = managed.clone();
            change(view, now, &mut next)?;
            let mut batch = Batch::on(view);
            batch.rely(Key::Node(node.account, Arc::clone(&node.id)));
            if next != *managed {
                batch.put(Node { managed: Some(next), ..Node::clone(node) });
            }
            Ok((batch, ()))
        })
        .await
}

fn permission(it: &Ssm, caller: &Caller, action: &'static str, id: &str) -> Permission {
    let arn = managed_instances::arn(&it.control.config.region, caller.account, id);
    Permission::to(action).on(arn)
}

fn unknown(id: &str) -> ApiError {
    let message =
        format!("The instance ID {id} isn't valid: no managed instance is registered by it.");
    named("InvalidInstanceId", message)
}
