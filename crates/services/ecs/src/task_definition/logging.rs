//! Log configurations.

use std::collections::BTreeMap;

use ecs_api::{ContainerDefinition, LogDriver};

use super::{Check, Draft, bad, list, name, one_of, text};
use crate::errors::Refusal;

/// Drivers that Amazon's agent knows too, although the model does not list them.
const MORE_DRIVERS: &[&str] = &["none", "logentries", "sumologic"];

pub(super) fn check(container: &ContainerDefinition) -> Check {
    let Some(log) = &container.log_configuration else { return Ok(()) };
    let Some(driver) = &log.log_driver else {
        return Err(Refusal::client(format!(
            "Container '{}' has a logConfiguration without a logDriver.",
            name(container)
        )));
    };
    if !driver.is_known() && !MORE_DRIVERS.contains(&driver.as_str()) {
        return Err(one_of(driver.as_str(), LogDriver::VALUES));
    }
    if list(&log.secret_options)
        .iter()
        .any(|s| text(&s.name).is_empty() || text(&s.value_from).is_empty())
    {
        return Err(bad("logConfiguration.secretOptions", container));
    }
    let nothing = BTreeMap::new();
    let options = log.options.as_ref().unwrap_or(&nothing);
    if *driver == LogDriver::Awslogs {
        check_awslogs(container, options)?;
    }
    if let Some(mode) =
        options.get("mode").filter(|mode| !matches!(mode.as_str(), "blocking" | "non-blocking"))
    {
        return Err(one_of(mode, &["blocking", "non-blocking"]));
    }
    if options.get("max-buffer-size").is_some_and(|size| !is_size(size)) {
        return Err(bad("logConfiguration.options.max-buffer-size", container));
    }
    Ok(())
}

fn check_awslogs(container: &ContainerDefinition, options: &BTreeMap<String, String>) -> Check {
    let is_missing =
        |option: &&str| options.get(*option).is_none_or(|value| value.trim().is_empty());
    let missing: Vec<&str> =
        ["awslogs-region", "awslogs-group"].into_iter().filter(is_missing).collect();
    if !missing.is_empty() {
        return Err(Refusal::client(format!(
            "Log driver awslogs requires options: {}",
            missing.join(", ")
        )));
    }
    let has = |option| options.contains_key(option);
    if has("awslogs-datetime-format") && has("awslogs-multiline-pattern") {
        return Err(bad("logConfiguration.options", container));
    }
    match options.get("awslogs-create-group").map(|value| value.to_ascii_lowercase()) {
        Some(value) if !matches!(value.as_str(), "true" | "false") => {
            Err(bad("logConfiguration.options.awslogs-create-group", container))
        }
        Some(_) | None => Ok(()),
    }
}

/// A number of bytes, or of `k`, `m` or `g`.
fn is_size(text: &str) -> bool {
    let number = text.strip_suffix(['b', 'B']).unwrap_or(text);
    let number = number.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']).unwrap_or(number);
    number.parse::<u32>().is_ok_and(|number| 0 < number)
}

/// A router and who logs to it: one without the other is a mistake.
pub(super) fn check_firelens(draft: &Draft) -> Check {
    let is_user = |container: &ContainerDefinition| {
        let driver = container.log_configuration.as_ref().and_then(|log| log.log_driver.as_ref());
        driver == Some(&LogDriver::Awsfirelens)
    };
    let routers = draft.containers().iter().filter(|c| c.firelens_configuration.is_some()).count();
    let has_users = draft.containers().iter().any(is_user);
    if 1 < routers {
        return Err(Refusal::client("Only one container can have a firelensConfiguration."));
    }
    if routers == 1 && !has_users {
        return Err(Refusal::client(
            "When a firelensConfiguration object is specified, at least one container has to be \
             configured with the awsfirelens log driver.",
        ));
    }
    if has_users && routers == 0 {
        return Err(Refusal::client(
            "When a container is configured with the awsfirelens log driver, one container has to \
             have a firelensConfiguration.",
        ));
    }
    let router = draft.containers().iter().find_map(|c| c.firelens_configuration.as_ref());
    match router.map(|router| router.r#type.clone()) {
        Some(Some(kind)) if kind.is_known() => Ok(()),
        None => Ok(()),
        Some(kind) => {
            let given = kind.map(|kind| kind.to_string()).unwrap_or_default();
            Err(one_of(&given, &["fluentd", "fluentbit"]))
        }
    }
}
