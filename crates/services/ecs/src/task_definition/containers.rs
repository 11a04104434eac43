//! What every container must have: a name, an image, and one of them must be essential.

use std::collections::BTreeSet;

use ecs_api::{ContainerDefinition, ResourceType};
use longshore_types::ContainerName;

use super::{CONTAINERS_MAX, Check, Draft, bad, list, name, one_of, text};
use crate::errors::Refusal;

const IMAGE_CHARS_MAX: usize = 1024;
const IGNORED_EXIT_CODES_MAX: usize = 50;

pub(super) fn check(draft: &Draft) -> Check {
    let containers = draft.containers();
    if containers.is_empty() {
        return Err(Refusal::client("Container list cannot be empty."));
    }
    if CONTAINERS_MAX < containers.len() {
        return Err(Refusal::client(format!(
            "Too many containers. A task definition can have at most {CONTAINERS_MAX}."
        )));
    }
    let mut names = BTreeSet::new();
    for container in containers {
        check_names(container)?;
        if !names.insert(name(container)) {
            return Err(Refusal::client(format!(
                "Container names must be unique, but '{}' is used more than once.",
                name(container)
            )));
        }
        check_process(container)?;
        check_resources(container)?;
    }
    // A container is essential unless it says that it is not.
    if containers.iter().all(|container| container.essential == Some(false)) {
        return Err(Refusal::client("Task definition doesn't have any essential container."));
    }
    Ok(())
}

fn check_names(container: &ContainerDefinition) -> Check {
    if name(container).is_empty() {
        return Err(Refusal::client("Container.name should not be null or empty."));
    }
    if let Err(why) = name(container).parse::<ContainerName>() {
        let message = format!("Invalid container name '{}': it must be {why}.", name(container));
        return Err(Refusal::client(message));
    }
    let image = text(&container.image);
    if image.is_empty() {
        return Err(Refusal::client("Container.image should not be null or empty."));
    }
    let is_plain = image.chars().all(|c| c.is_ascii_graphic());
    if !is_plain || IMAGE_CHARS_MAX < image.len() {
        return Err(bad("image", container));
    }
    Ok(())
}

fn check_process(container: &ContainerDefinition) -> Check {
    if list(&container.environment).iter().any(|pair| text(&pair.name).is_empty()) {
        return Err(Refusal::client(format!(
            "Environment variable names of container '{}' should not be null or empty.",
            name(container)
        )));
    }
    let is_timeout = |given: Option<i32>| given.is_none_or(|seconds| 0 <= seconds);
    if !is_timeout(container.start_timeout) {
        return Err(bad("startTimeout", container));
    }
    if !is_timeout(container.stop_timeout) {
        return Err(bad("stopTimeout", container));
    }
    if let Some(consistency) = container.version_consistency.as_ref().filter(|c| !c.is_known()) {
        return Err(one_of(consistency.as_str(), &["enabled", "disabled"]));
    }
    check_restart_policy(container)
}

fn check_restart_policy(container: &ContainerDefinition) -> Check {
    let Some(policy) = &container.restart_policy else { return Ok(()) };
    if policy.enabled.is_none() {
        return Err(bad("restartPolicy.enabled", container));
    }
    if IGNORED_EXIT_CODES_MAX < list(&policy.ignored_exit_codes).len() {
        return Err(bad("restartPolicy.ignoredExitCodes", container));
    }
    match policy.restart_attempt_period {
        Some(seconds) if !(60..=1800).contains(&seconds) => {
            Err(bad("restartPolicy.restartAttemptPeriod", container))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_resources(container: &ContainerDefinition) -> Check {
    for requirement in list(&container.resource_requirements) {
        match &requirement.r#type {
            Some(ResourceType::Gpu) => {
                if text(&requirement.value).parse::<u32>().is_ok_and(|count| 0 < count) {
                    continue;
                }
            }
            Some(ResourceType::InferenceAccelerator) => {
                if !text(&requirement.value).is_empty() {
                    continue;
                }
            }
            other => {
                let given = other.as_ref().map_or("", |kind| kind.as_str());
                return Err(one_of(given, ResourceType::VALUES));
            }
        }
        return Err(bad("resourceRequirements", container));
    }
    Ok(())
}
