//! CreateCapacityProvider, UpdateCapacityProvider and DeleteCapacityProvider: pools of instances that
//! are named by an Auto Scaling group.
//!
//! **Invariant:** of the active providers of an account no two name one group, so an instance is of one
//! provider at most.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use ecs_api::{
    CapacityProviderStatus, CapacityProviderType, CapacityProviderUpdateStatus, ManagedDraining,
    ManagedScalingStatus, ManagedTerminationProtection,
};
use longshore_types::{AccountId, Arn, Scope, Timestamp};
use model::capacity_provider::{
    HEARTBEAT_TIMEOUT_S, HEARTBEAT_TIMEOUT_TAG, read_heartbeat_timeout_s,
};
use model::{CapacityProvider, ManagedScaling, ProviderStatus, Tags, View};
use store::Batch;

use super::capacity::{is_fargate, own_provider, provider_name};
use crate::Ecs;
use crate::errors::Refusal;
use crate::tags;

const NAME_CHARS_MAX: usize = 255;
const RESERVED_PREFIXES: [&str; 3] = ["aws", "ecs", "fargate"];
const GROUP_NAME_CHARS_MAX: usize = 255;
const TARGET_PERCENT_MAX: u32 = 100;
const STEP_MAX: u32 = 10_000;
const WARMUP_S_MAX: u32 = 10_000;

/// What a provider that names no scaling has: its owner scales the group.
const UNMANAGED: ManagedScaling = ManagedScaling {
    is_enabled: false,
    target_capacity_percent: 100,
    step_min: 1,
    step_max: STEP_MAX,
    instance_warmup_s: 300,
};

pub(crate) async fn handle_create(
    ecs: &Ecs,
    caller: &Caller,
    input: api::CreateCapacityProviderRequest,
) -> Result<api::CreateCapacityProviderResponse, ApiError> {
    let permission = ecs.on(caller, "ecs:CreateCapacityProvider", "capacity-provider", &input.name);
    refuse_managed_instances(input.managed_instances_provider.is_some(), input.cluster.as_deref())?;
    let name = new_name(input.name)?;
    let Some(group) = input.auto_scaling_group_provider else {
        let message = "The autoScalingGroupProvider of a capacity provider can not be blank.";
        return Err(Refusal::invalid(message).into());
    };
    let group_arn = group_arn(ecs, caller, group.auto_scaling_group_arn)?;
    let settings = Settings::UNMANAGED.with(
        group.managed_scaling.as_ref(),
        group.managed_termination_protection.as_ref(),
        group.managed_draining.as_ref(),
    )?;
    let tags = tags::read(input.tags)?;
    check_tags(&tags)?;
    let arn = permission.resources.first().cloned().unwrap_or_default();
    let permission = ecs.tagging(caller, permission, arn, &tags);
    let provider = ecs
        .control
        .change(caller, &permission, |view, now| {
            let provider = CapacityProvider {
                scope: ecs.control.scope(caller),
                name: name.clone(),
                status: ProviderStatus::Active,
                group_arn: group_arn.clone(),
                scaling: settings.scaling,
                protects_instances: settings.protects,
                drains_instances: settings.drains,
                update_status: None,
                update_status_reason: None,
                tags: tags.clone(),
                created_at: now,
                deleted_at: None,
            };
            check_new(ecs, view, &provider)?;
            let mut batch = Batch::on(view);
            batch.put(provider.clone());
            Ok((batch, provider))
        })
        .await?;
    Ok(api::CreateCapacityProviderResponse { capacity_provider: Some(render(&provider, true)) })
}

pub(crate) async fn handle_update(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateCapacityProviderRequest,
) -> Result<api::UpdateCapacityProviderResponse, ApiError> {
    let permission = ecs.on(caller, "ecs:UpdateCapacityProvider", "capacity-provider", &input.name);
    refuse_managed_instances(input.managed_instances_provider.is_some(), input.cluster.as_deref())?;
    let name = own_name(ecs, caller, input.name, "updated")?;
    let Some(update) = input.auto_scaling_group_provider else {
        let message = "The autoScalingGroupProvider of an update can not be blank.";
        return Err(Refusal::invalid(message).into());
    };
    let provider = ecs
        .control
        .change(caller, &permission, |view, _| {
            let mut provider = CapacityProvider::clone(find(view, caller.account, &name)?);
            let settings = Settings::of(&provider).with(
                update.managed_scaling.as_ref(),
                update.managed_termination_protection.as_ref(),
                update.managed_draining.as_ref(),
            )?;
            provider.scaling = settings.scaling;
            provider.protects_instances = settings.protects;
            provider.drains_instances = settings.drains;
            provider.update_status = Some("UPDATE_COMPLETE".to_owned());
            provider.update_status_reason = None;
            let mut batch = Batch::on(view);
            batch.put(provider.clone());
            Ok((batch, provider))
        })
        .await?;
    Ok(api::UpdateCapacityProviderResponse { capacity_provider: Some(render(&provider, true)) })
}

/// One that a cluster has stays; ECS answers that with the provider, and why it was not deleted.
pub(crate) async fn handle_delete(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeleteCapacityProviderRequest,
) -> Result<api::DeleteCapacityProviderResponse, ApiError> {
    let permission =
        ecs.on(caller, "ecs:DeleteCapacityProvider", "capacity-provider", &input.capacity_provider);
    refuse_managed_instances(false, input.cluster.as_deref())?;
    let name = own_name(ecs, caller, input.capacity_provider, "deleted")?;
    let provider = ecs
        .control
        .change(caller, &permission, |view, now| {
            let mut provider = CapacityProvider::clone(find(view, caller.account, &name)?);
            match cluster_with(view, caller.account, &name) {
                Some(cluster) => {
                    provider.update_status = Some("DELETE_FAILED".to_owned());
                    provider.update_status_reason = Some(format!(
                        "The capacity provider cannot be deleted because it is associated with \
                         cluster: {cluster}. Remove the capacity provider from the cluster and \
                         try again."
                    ));
                }
                None => end(&mut provider, now),
            }
            let mut batch = Batch::on(view);
            batch.put(provider.clone());
            Ok((batch, provider))
        })
        .await?;
    Ok(api::DeleteCapacityProviderResponse { capacity_provider: Some(render(&provider, true)) })
}

fn end(provider: &mut CapacityProvider, now: Timestamp) {
    provider.status = ProviderStatus::Inactive;
    provider.update_status = Some("DELETE_COMPLETE".to_owned());
    provider.update_status_reason = None;
    provider.deleted_at = Some(now);
}

/// The tags of a provider that mean something here must be what they can be.
pub(super) fn check_tags(tags: &Tags) -> Result<(), ApiError> {
    let Some(value) = tags.get(HEARTBEAT_TIMEOUT_TAG) else { return Ok(()) };
    if read_heartbeat_timeout_s(value).is_some() {
        return Ok(());
    }
    let (least, most) = (HEARTBEAT_TIMEOUT_S.start(), HEARTBEAT_TIMEOUT_S.end());
    let message = format!(
        "The tag {HEARTBEAT_TIMEOUT_TAG} of a capacity provider must be a number of seconds \
         between {least} and {most}, not '{value}'."
    );
    Err(Refusal::invalid(message).into())
}

/// A cluster that is associated with the provider. Whoever associates one relies on the provider's
/// row, which a deletion writes.
fn cluster_with(view: &View, account: AccountId, name: &str) -> Option<String> {
    let has_it = |cluster: &&std::sync::Arc<model::Cluster>| {
        cluster.is_active() && cluster.capacity_providers.iter().any(|each| each == name)
    };
    view.clusters.of(account).find(has_it).map(|cluster| cluster.name.to_string())
}

/// A provider as answers show it.
pub(super) fn render(provider: &CapacityProvider, with_tags: bool) -> api::CapacityProvider {
    let scaling = &provider.scaling;
    let number = |number: u32| i32::try_from(number).ok();
    let managed_scaling = api::ManagedScaling {
        status: Some(match scaling.is_enabled {
            true => ManagedScalingStatus::Enabled,
            false => ManagedScalingStatus::Disabled,
        }),
        target_capacity: number(scaling.target_capacity_percent),
        minimum_scaling_step_size: number(scaling.step_min),
        maximum_scaling_step_size: number(scaling.step_max),
        instance_warmup_period: number(scaling.instance_warmup_s),
    };
    let group = api::AutoScalingGroupProvider {
        auto_scaling_group_arn: Some(provider.group_arn.clone()),
        managed_scaling: Some(managed_scaling),
        managed_termination_protection: Some(match provider.protects_instances {
            true => ManagedTerminationProtection::Enabled,
            false => ManagedTerminationProtection::Disabled,
        }),
        managed_draining: Some(match provider.drains_instances {
            true => ManagedDraining::Enabled,
            false => ManagedDraining::Disabled,
        }),
    };
    api::CapacityProvider {
        capacity_provider_arn: Some(provider.arn().to_string()),
        name: Some(provider.name.clone()),
        status: Some(match provider.status {
            ProviderStatus::Active => CapacityProviderStatus::Active,
            ProviderStatus::Inactive => CapacityProviderStatus::Inactive,
        }),
        auto_scaling_group_provider: Some(group),
        update_status: provider.update_status.as_deref().map(CapacityProviderUpdateStatus::from),
        update_status_reason: provider.update_status_reason.clone(),
        tags: Some(if with_tags { tags::render(&provider.tags) } else { Vec::new() }),
        r#type: Some(CapacityProviderType::Ec2Autoscaling),
        ..Default::default()
    }
}

/// What can be set of a provider.
#[derive(Clone, Copy)]
struct Settings {
    scaling: ManagedScaling,
    protects: bool,
    drains: bool,
}

impl Settings {
    const UNMANAGED: Self = Self { scaling: UNMANAGED, protects: false, drains: true };

    fn of(provider: &CapacityProvider) -> Self {
        Self {
            scaling: provider.scaling,
            protects: provider.protects_instances,
            drains: provider.drains_instances,
        }
    }

    /// What a request names is changed, the rest stays.
    fn with(
        mut self,
        scaling: Option<&api::ManagedScaling>,
        protection: Option<&ManagedTerminationProtection>,
        draining: Option<&ManagedDraining>,
    ) -> Result<Self, ApiError> {
        if let Some(given) = scaling {
            self.scaling = scaling_with(self.scaling, given)?;
        }
        match protection {
            None => {}
            Some(ManagedTerminationProtection::Enabled) => self.protects = true,
            Some(ManagedTerminationProtection::Disabled) => self.protects = false,
            Some(other) => return Err(no_switch("managedTerminationProtection", other.as_str())),
        }
        match draining {
            None => {}
            Some(ManagedDraining::Enabled) => self.drains = true,
            Some(ManagedDraining::Disabled) => self.drains = false,
            Some(other) => return Err(no_switch("managedDraining", other.as_str())),
        }
        if self.protects && !self.scaling.is_enabled {
            let message = "The managed termination protection setting for the capacity provider \
                           is invalid. To enable managed termination protection for a capacity \
                           provider, managed scaling must be enabled.";
            return Err(Refusal::invalid(message).into());
        }
        Ok(self)
    }
}

fn no_switch(what: &str, given: &str) -> ApiError {
    Refusal::invalid(format!("{what} should be one of [ENABLED,DISABLED], not {given}")).into()
}

fn scaling_with(
    mut scaling: ManagedScaling,
    given: &api::ManagedScaling,
) -> Result<ManagedScaling, ApiError> {
    match &given.status {
        None => {}
        Some(ManagedScalingStatus::Enabled) => scaling.is_enabled = true,
        Some(ManagedScalingStatus::Disabled) => scaling.is_enabled = false,
        Some(other) => return Err(no_switch("managedScaling.status", other.as_str())),
    }
    let set = |slot: &mut u32, what: &str, value: Option<i32>, min: u32, max: u32| {
        let Some(value) = value else { return Ok(()) };
        match u32::try_from(value) {
            Ok(value) if (min..=max).contains(&value) => {
                *slot = value;
                Ok(())
            }
            _ => {
                let message = format!("managedScaling.{what} must be between {min} and {max}.");
                Err(ApiError::from(Refusal::invalid(message)))
            }
        }
    };
    let slot = &mut scaling.target_capacity_percent;
    set(slot, "targetCapacity", given.target_capacity, 1, TARGET_PERCENT_MAX)?;
    let slot = &mut scaling.step_min;
    set(slot, "minimumScalingStepSize", given.minimum_scaling_step_size, 1, STEP_MAX)?;
    let slot = &mut scaling.step_max;
    set(slot, "maximumScalingStepSize", given.maximum_scaling_step_size, 1, STEP_MAX)?;
    let slot = &mut scaling.instance_warmup_s;
    set(slot, "instanceWarmupPeriod", given.instance_warmup_period, 0, WARMUP_S_MAX)?;
    if scaling.step_max < scaling.step_min {
        let message = "managedScaling.minimumScalingStepSize must not be greater than \
                       managedScaling.maximumScalingStepSize.";
        return Err(Refusal::invalid(message).into());
    }
    Ok(scaling)
}

/// ECS's own machines belong to clusters; there are none here.
fn refuse_managed_instances(is_given: bool, cluster: Option<&str>) -> Result<(), ApiError> {
    let what = match cluster {
        _ if is_given => "managedInstancesProvider",
        Some(cluster) if !cluster.is_empty() => "cluster",
        _ => return Ok(()),
    };
    let message = format!(
        "{what} is for Amazon ECS Managed Instances, which are not available in this region. Use \
         autoScalingGroupProvider."
    );
    Err(ApiError::client("UnsupportedFeatureException", message))
}

fn new_name(given: Option<String>) -> Result<String, ApiError> {
    let name = given.unwrap_or_default();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let lower = name.to_ascii_lowercase();
    let is_reserved = RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    let is_sized = (1..=NAME_CHARS_MAX).contains(&name.len());
    if is_sized && name.bytes().all(is_allowed) && !is_reserved {
        return Ok(name);
    }
    let message = "The specified capacity provider name is invalid. Up to 255 characters are \
                   allowed, including letters (upper and lowercase), numbers, underscores, and \
                   hyphens. The name cannot be prefixed with \"aws\", \"ecs\", or \"fargate\". \
                   Specify a valid name and try again.";
    Err(Refusal::client(message).into())
}

/// The group's ARN, or its name alone, as it was sent.
fn group_arn(ecs: &Ecs, caller: &Caller, given: Option<String>) -> Result<String, ApiError> {
    let given = given.unwrap_or_default();
    let invalid = || {
        let message = format!(
            "The specified Auto Scaling group ARN '{given}' is invalid. Specify a valid Auto \
             Scaling group ARN and try again."
        );
        ApiError::from(Refusal::client(message))
    };
    let name = if given.starts_with("arn:") {
        let arn = Arn::parse(&given).map_err(|_| invalid())?;
        let group =
            arn.resource.strip_prefix("autoScalingGroup:").filter(|_| arn.service == "autoscaling");
        let (_, name) = group
            .and_then(|group| group.split_once(":autoScalingGroupName/"))
            .ok_or_else(invalid)?;
        let account = arn.account.parse().map_err(|_| invalid())?;
        let scope = Scope { region: arn.region.parse().map_err(|_| invalid())?, account };
        ecs.check_scope(caller, &scope)?;
        name
    } else {
        given.as_str()
    };
    let is_allowed = |c: char| !c.is_control() && c != ':' && c != '/';
    let is_sized = (1..=GROUP_NAME_CHARS_MAX).contains(&name.chars().count());
    if is_sized && name.chars().all(is_allowed) { Ok(given) } else { Err(invalid()) }
}

fn check_new(ecs: &Ecs, view: &View, new: &CapacityProvider) -> Result<(), ApiError> {
    let account = new.scope.account;
    if own_provider(view, account, &new.name).is_some() {
        let message = "The specified capacity provider already exists. To change the \
                       configuration of an existing capacity provider, update the capacity \
                       provider.";
        return Err(Refusal::client(message).into());
    }
    let others = || view.capacity_providers.of(account).filter(|other| other.is_active());
    if others().any(|other| other.group_name() == new.group_name()) {
        let message = "The specified Auto Scaling group ARN is already being used by another \
                       capacity provider. Specify a unique Auto Scaling group ARN and try again.";
        return Err(Refusal::client(message).into());
    }
    let max = ecs.control.config.limits.capacity_providers_per_account_max;
    if max <= others().count() {
        let message =
            format!("The limit of {max} capacity providers for this account has been reached.");
        return Err(ApiError::client("LimitExceededException", message));
    }
    Ok(())
}

/// The name of one's own provider that is to be changed.
fn own_name(
    ecs: &Ecs,
    caller: &Caller,
    given: Option<String>,
    done: &str,
) -> Result<String, ApiError> {
    let name = provider_name(ecs, caller, &given.unwrap_or_default())?;
    if is_fargate(&name) {
        let message = format!("The capacity provider {name} is reserved and cannot be {done}.");
        return Err(Refusal::client(message).into());
    }
    Ok(name)
}

fn find<'v>(
    view: &'v View,
    account: AccountId,
    name: &str,
) -> Result<&'v std::sync::Arc<CapacityProvider>, ApiError> {
    own_provider(view, account, name).ok_or_else(|| {
        let message = "The specified capacity provider does not exist. Specify a valid name or \
                       ARN and try again.";
        Refusal::client(message).into()
    })
}

#[cfg(test)]
mod tests;
