//! CPU and memory: how they are written, and how containers and the task go together.

use ecs_api::ContainerDefinition;
use longshore_types::{CpuUnits, MemoryMib};

use super::{Check, Draft, bad, name};
use crate::errors::Refusal;

/// The least memory that a container can be given.
const CONTAINER_MEMORY_MIN: i32 = 4;
/// 192 vCPU.
const CPU_UNITS_MAX: u32 = 196_608;

/// `256`, `.25 vCPU`, `0.5 vcpu`, `1vCPU`
pub(crate) fn parse_cpu(text: &str) -> Result<CpuUnits, Refusal> {
    parse_scaled(text, "vcpu", 1024)
        .filter(|units| (1..=CPU_UNITS_MAX).contains(units))
        .map(CpuUnits)
        .ok_or_else(|| Refusal::client("Invalid 'cpu' setting for task."))
}

/// `512`, `1GB`, `0.5 gb`
pub(crate) fn parse_memory(text: &str) -> Result<MemoryMib, Refusal> {
    parse_scaled(text, "gb", 1024)
        .filter(|mib| 0 < *mib)
        .map(MemoryMib)
        .ok_or_else(|| Refusal::client("Invalid 'memory' setting for task."))
}

/// A whole number, or a decimal one of a larger `unit`.
fn parse_scaled(text: &str, unit: &str, scale: u32) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    match text.strip_suffix(unit) {
        None => digits(&text)?.parse().ok(),
        Some(number) => {
            let (whole, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
            if whole.is_empty() && fraction.is_empty() {
                return None;
            }
            let whole: u64 = if whole.is_empty() { 0 } else { digits(whole)?.parse().ok()? };
            // Three places are more than any size has.
            let (fraction, places) =
                if fraction.is_empty() { ("0", 1) } else { (digits(fraction)?, fraction.len()) };
            let divisor = 10u64.checked_pow(u32::try_from(places).ok()?)?;
            let fraction = fraction.parse::<u64>().ok()?.checked_mul(u64::from(scale))? / divisor;
            u32::try_from(whole.checked_mul(u64::from(scale))?.checked_add(fraction)?).ok()
        }
    }
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit()))
        .then_some(text)
}

pub(super) fn check(draft: &Draft) -> Check {
    for container in draft.containers() {
        check_container(draft, container)?;
    }
    let sum = |of: fn(&ContainerDefinition) -> Option<i32>| -> i64 {
        draft.containers().iter().filter_map(of).map(i64::from).sum()
    };
    if draft.cpu.is_some_and(|task| i64::from(task.0) < sum(|container| container.cpu)) {
        return Err(Refusal::client(
            "The sum of all container 'cpu' values cannot be greater than the value of the task \
             'cpu'.",
        ));
    }
    // Hard limits may come to more than the task has; what is reserved may not.
    let reserved = sum(|container| container.memory_reservation);
    if draft.memory.is_some_and(|task| i64::from(task.0) < reserved) {
        return Err(Refusal::client(
            "The sum of all container 'memoryReservation' values cannot be greater than the value \
             of the task 'memory'.",
        ));
    }
    let storage = draft.request.ephemeral_storage.as_ref().and_then(|s| s.size_in_gib);
    if draft.request.ephemeral_storage.is_some()
        && !storage.is_some_and(|gib| (21..=200).contains(&gib))
    {
        return Err(Refusal::client(
            "Invalid 'ephemeralStorage.sizeInGiB' setting for task. The value must be between 21 \
             and 200.",
        ));
    }
    Ok(())
}

fn check_container(draft: &Draft, container: &ContainerDefinition) -> Check {
    let is_cpu = |units: i32| u32::try_from(units).is_ok_and(|units| units <= CPU_UNITS_MAX);
    if !container.cpu.is_none_or(is_cpu) {
        return Err(bad("cpu", container));
    }
    let is_memory = |mib: i32| CONTAINER_MEMORY_MIN <= mib;
    if !container.memory.is_none_or(is_memory) {
        return Err(bad("memory", container));
    }
    if !container.memory_reservation.is_none_or(is_memory) {
        return Err(bad("memoryReservation", container));
    }
    if let (Some(hard), Some(soft)) = (container.memory, container.memory_reservation)
        && hard < soft
    {
        return Err(Refusal::client(format!(
            "Invalid setting for container '{}'. The 'memory' must be greater than the \
             'memoryReservation'.",
            name(container)
        )));
    }
    let Some(task) = draft.memory else {
        if container.memory.is_none() && container.memory_reservation.is_none() {
            return Err(Refusal::client(format!(
                "Invalid setting for container '{}'. At least one of 'memory' or \
                 'memoryReservation' must be specified.",
                name(container)
            )));
        }
        return Ok(());
    };
    if container.memory.is_some_and(|hard| i64::from(task.0) < i64::from(hard)) {
        return Err(Refusal::client(format!(
            "The 'memory' setting for container '{}' is greater than for the task.",
            name(container)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_in_every_spelling() {
        for (text, units) in [
            ("256", 256),
            (".25 vCPU", 256),
            ("0.25vcpu", 256),
            ("0.5 vcpu", 512),
            ("1 vCPU", 1024),
            ("1VCPU", 1024),
            ("4 vCPU", 4096),
            (" 512 ", 512),
        ] {
            assert_eq!(parse_cpu(text), Ok(CpuUnits(units)), "{text}");
        }
        for text in ["", "0", "-1", "vCPU", ". vCPU", "1.5", "1e3", "a", "99999999999", "1 GB"] {
            assert!(parse_cpu(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_is_read_in_every_spelling() {
        for (text, mib) in [("512", 512), ("0.5GB", 512), ("1 GB", 1024), ("30gb", 30 * 1024)] {
            assert_eq!(parse_memory(text), Ok(MemoryMib(mib)), "{text}");
        }
        for text in ["", "0", "GB", "1TB", "-5", "1 vCPU", "1.2.3 GB", "5000000 GB"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }
}
