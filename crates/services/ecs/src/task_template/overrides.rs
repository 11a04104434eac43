//! `overrides`: what one request changes of its task definition.

use aws_wire::ApiError;
use ecs_api as api;
use longshore_types::{CpuUnits, MemoryMib};
use model::TaskDefinition;
use model::task::{ContainerOverride, LaunchType, Overrides};

use crate::Ecs;
use crate::errors::Refusal;
use crate::task_definition::{check_files, is_role, parse_cpu, parse_memory, role_arn};

/// The longest overrides, as JSON.
const OVERRIDES_CHARS_MAX: usize = 8_192;

pub(super) fn read(
    ecs: &Ecs,
    given: Option<&api::TaskOverride>,
    definition: &TaskDefinition,
    kind: LaunchType,
) -> Result<Overrides, ApiError> {
    let Some(given) = given else { return Ok(Overrides::default()) };
    let length = String::from_utf8_lossy(&aws_wire::json::to_vec(given)).chars().count();
    if length > OVERRIDES_CHARS_MAX {
        let message = format!("Container Overrides length must be at most {OVERRIDES_CHARS_MAX}");
        return Err(Refusal::invalid(message).into());
    }
    if given.inference_accelerator_overrides.as_ref().is_some_and(|list| !list.is_empty()) {
        let message = "inferenceAcceleratorOverrides are not supported by this region.";
        return Err(Refusal::client(message).into());
    }
    let role = |given: &Option<String>| Some(role_arn(definition.account, given.clone()?));
    let roles = [
        ("taskRoleArn", role(&given.task_role_arn)),
        ("executionRoleArn", role(&given.execution_role_arn)),
    ];
    for (what, role) in &roles {
        if role.as_ref().is_some_and(|role| !role.is_empty() && !is_role(role)) {
            let message = format!("{what}: Invalid ARN syntax.");
            return Err(Refusal::invalid(message).into());
        }
    }
    let [(_, task_role_arn), (_, execution_role_arn)] = roles;
    let storage = given.ephemeral_storage.as_ref().and_then(|storage| storage.size_in_gib);
    if storage.is_some_and(|gib| !(21..=200).contains(&gib)) {
        let message = "Ephemeral storage size must be between 21 GiB and 200 GiB.";
        return Err(Refusal::invalid(message).into());
    }
    let containers = given.container_overrides.iter().flatten();
    let overrides = Overrides {
        containers: containers
            .map(|each| container(ecs, each, definition, kind))
            .collect::<Result<_, _>>()?,
        cpu: given.cpu.clone(),
        memory: given.memory.clone(),
        task_role_arn,
        execution_role_arn,
        ephemeral_storage_gib: storage.and_then(|gib| u32::try_from(gib).ok()),
    };
    check_size(&overrides, definition, kind)?;
    Ok(overrides)
}

/// Task-level CPU, in whichever unit it was written.
pub(super) fn cpu(overrides: &Overrides) -> Option<CpuUnits> {
    parse_cpu(overrides.cpu.as_deref()?).ok()
}

/// Task-level memory, in whichever unit it was written.
pub(super) fn memory(overrides: &Overrides) -> Option<MemoryMib> {
    parse_memory(overrides.memory.as_deref()?).ok()
}

fn check_size(
    overrides: &Overrides,
    definition: &TaskDefinition,
    kind: LaunchType,
) -> Result<(), ApiError> {
    overrides.cpu.as_deref().map(parse_cpu).transpose()?;
    overrides.memory.as_deref().map(parse_memory).transpose()?;
    if kind != LaunchType::Fargate || (overrides.cpu.is_none() && overrides.memory.is_none()) {
        return Ok(());
    }
    let pair = (cpu(overrides).or(definition.cpu), memory(overrides).or(definition.memory));
    if let (Some(cpu), Some(memory)) = pair
        && is_fargate_size(cpu.0, memory.0)
    {
        return Ok(());
    }
    Err(Refusal::client("No Fargate configuration exists for given values.").into())
}

/// The sizes that Fargate offers.
fn is_fargate_size(cpu: u32, memory: u32) -> bool {
    let gib = |from: u32, to: u32, step: u32| {
        (from * 1024..=to * 1024).contains(&memory) && memory.is_multiple_of(step * 1024)
    };
    match cpu {
        256 => matches!(memory, 512 | 1024 | 2048),
        512 => gib(1, 4, 1),
        1024 => gib(2, 8, 1),
        2048 => gib(4, 16, 1),
        4096 => gib(8, 30, 1),
        8192 => gib(16, 60, 4),
        16384 => gib(32, 120, 8),
        _ => false,
    }
}

fn container(
    ecs: &Ecs,
    given: &api::ContainerOverride,
    definition: &TaskDefinition,
    launch: LaunchType,
) -> Result<ContainerOverride, ApiError> {
    let name = given.name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(Refusal::invalid("Container override names can not be blank.").into());
    }
    if !definition.containers.iter().any(|each| each.name.as_str() == name) {
        let message = format!(
            "Override for container named {name} is not a container in the TaskDefinition."
        );
        return Err(Refusal::invalid(message).into());
    }
    let amount = |what: &str, value: Option<i32>| match value.map(u32::try_from) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => {
            let message = format!("Invalid '{what}' override for container '{name}'.");
            Err(ApiError::from(Refusal::invalid(message)))
        }
    };
    let requirements = given.resource_requirements.as_ref().map(|list| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let kind = |kind: &Option<api::ResourceType>| {
            kind.as_ref().map_or_else(String::new, ToString::to_string)
        };
        list.iter().map(|each| (kind(&each.r#type), text(&each.value))).collect::<Vec<_>>()
    });
    let given_requirements = given.resource_requirements.as_deref().unwrap_or_default();
    if !given_requirements.is_empty() && launch == LaunchType::Fargate {
        let message = "resourceRequirements (GPUs) are not supported by Fargate.";
        return Err(Refusal::client(message).into());
    }
    let is_gpu = |each: &api::ResourceRequirement| {
        let count = each.value.as_deref().and_then(|value| value.parse::<u32>().ok());
        each.r#type == Some(api::ResourceType::Gpu)
            && each.sharing_strategy.is_none()
            && count.is_some_and(|count| 0 < count)
    };
    if !given_requirements.iter().all(is_gpu) {
        let message = format!(
            "Invalid 'resourceRequirements' override for container '{name}': this region has whole GPUs, by their number."
        );
        return Err(Refusal::invalid(message).into());
    }
    let files = given.environment_files.as_deref().unwrap_or_default();
    if !files.is_empty() && ecs.control.config.object_store.is_none() {
        let message = "environmentFiles are not supported by this region: its operator named no S3-compatible store \
                       (--s3-endpoint).";
        return Err(Refusal::client(message).into());
    }
    check_files(files, || {
        Refusal::invalid(format!("Invalid 'environmentFiles' override for container '{name}'."))
    })?;
    Ok(ContainerOverride {
        command: given.command.clone(),
        environment: given.environment.as_ref().map(|pairs| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            pairs.iter().map(|pair| (text(&pair.name), text(&pair.value))).collect()
        }),
        environment_files: given.environment_files.as_ref().map(|files| {
            let file = |file: &api::EnvironmentFile| {
                let kind = file.r#type.as_ref().map_or_else(String::new, ToString::to_string);
                (kind, file.value.clone().unwrap_or_default())
            };
            files.iter().map(file).collect()
        }),
        cpu: amount("cpu", given.cpu)?,
        memory: amount("memory", given.memory)?,
        memory_reservation: amount("memoryReservation", given.memory_reservation)?,
        resource_requirements: requirements,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fargate_offers_certain_sizes() {
        assert!(is_fargate_size(256, 512));
        assert!(!is_fargate_size(256, 4096));
        assert!(is_fargate_size(4096, 30 * 1024));
        assert!(!is_fargate_size(8192, 17 * 1024));
    }
}
