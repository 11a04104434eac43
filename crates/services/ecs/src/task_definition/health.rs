//! Health checks.

use ecs_api::ContainerDefinition;

use super::{Check, bad, list};

pub(super) fn check(container: &ContainerDefinition) -> Check {
    let Some(check) = &container.health_check else { return Ok(()) };
    let command = list(&check.command);
    // Without a word that says how, the words are the command.
    let is_command = match command.first().map(String::as_str) {
        Some("CMD" | "CMD-SHELL") => command.len() > 1,
        Some(first) => !first.is_empty(),
        None => false,
    };
    if !is_command {
        return Err(bad("healthCheck.command", container));
    }
    for (what, value, range) in [
        ("healthCheck.interval", check.interval, 5..=300),
        ("healthCheck.timeout", check.timeout, 2..=60),
        ("healthCheck.retries", check.retries, 1..=10),
        ("healthCheck.startPeriod", check.start_period, 0..=300),
    ] {
        if value.is_some_and(|value| !range.contains(&value)) {
            return Err(bad(what, container));
        }
    }
    Ok(())
}
