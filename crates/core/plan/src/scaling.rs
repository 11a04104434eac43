//! How many instances a capacity provider should have: cluster auto scaling as a function.
//!
//! As ECS computes it: tasks that wait are grouped by what they need, each group is packed onto as many
//! new instances as it takes, and the largest of these numbers is how many are missing at least. Without
//! waiting tasks only instances that have tasks are needed. What comes out is divided by the target
//! capacity, and a step out is as large as the provider's steps allow.

use longshore_types::Resources;
use model::ManagedScaling;
use model::task::Need;

/// A capacity provider's instances and the tasks that wait for more.
#[derive(Clone, Copy, Debug)]
pub struct Reservation<'a> {
    /// The instances there are.
    pub instances: u32,
    /// Those of them that have tasks.
    pub busy: u32,
    /// What one instance offers, if any is known.
    pub size: Option<Resources>,
    /// What tasks that wait need, and how many need the same.
    pub waiting: &'a [(Need, u32)],
}

/// How many instances there should be.
pub fn wanted_instances(reservation: &Reservation<'_>, scaling: &ManagedScaling) -> u32 {
    let Reservation { instances, busy, size, waiting } = *reservation;
    let needed = match waiting.iter().filter_map(|(need, count)| pack(need, *count, size)).max() {
        Some(missing) => instances.saturating_add(missing),
        None => busy,
    };
    let target = u64::from(scaling.target_capacity_percent.clamp(1, 100));
    let wanted = (u64::from(needed) * 100).div_ceil(target);
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    match wanted.checked_sub(instances) {
        None | Some(0) => wanted,
        Some(step) => {
            let step_max = scaling.step_max.max(1);
            instances.saturating_add(step.max(scaling.step_min.min(step_max)).min(step_max))
        }
    }
}

/// How many instances so many tasks fill; `None` if not one of them fits. Of a size that nobody knows,
/// one instance is tried first.
fn pack(need: &Need, count: u32, size: Option<Resources>) -> Option<u32> {
    let Some(size) = size else { return (count > 0).then_some(1) };
    let each = |offered: u32, needed: u32| offered.checked_div(needed).unwrap_or(u32::MAX);
    let mut together =
        each(size.cpu.0, need.resources.cpu.0).min(each(size.memory.0, need.resources.memory.0));
    if !need.ports.is_empty() {
        together = together.min(1);
    }
    (count > 0 && together > 0).then(|| count.div_ceil(together))
}

#[cfg(test)]
mod tests {
    use longshore_types::{CpuUnits, MemoryMib};
    use model::task::{HostPort, Protocol};

    use super::*;

    fn scaling(target: u32, step_min: u32, step_max: u32) -> ManagedScaling {
        ManagedScaling {
            is_enabled: true,
            target_capacity_percent: target,
            step_min,
            step_max,
            instance_warmup_s: 300,
        }
    }

    fn resources(cpu: u32, memory: u32) -> Resources {
        Resources { cpu: CpuUnits(cpu), memory: MemoryMib(memory) }
    }

    fn need(cpu: u32, memory: u32) -> Need {
        Need { resources: resources(cpu, memory), ports: vec![], gpus: 0 }
    }

    fn wanted(instances: u32, busy: u32, waiting: &[(Need, u32)], by: &ManagedScaling) -> u32 {
        let size = (instances > 0).then(|| resources(1024, 2048));
        wanted_instances(&Reservation { instances, busy, size, waiting }, by)
    }

    #[test]
    fn tasks_that_wait_are_packed_onto_new_instances_and_the_largest_group_counts() {
        let by = scaling(100, 1, 10_000);
        let groups = [(need(256, 256), 9), (need(128, 1024), 3)];
        assert_eq!(wanted(2, 2, &groups, &by), 2 + 3);
        assert_eq!(wanted(0, 0, &groups, &by), 1, "of an unknown size one is tried");
        let port = HostPort { protocol: Protocol::Tcp, port: 80 };
        let with_port = Need { ports: vec![port], ..need(1, 1) };
        assert_eq!(wanted(2, 2, &[(with_port, 4)], &by), 2 + 4, "a port is there once");
        assert_eq!(wanted(2, 1, &[(need(4096, 1), 5)], &by), 1, "more of these would not help");
    }

    #[test]
    fn without_waiting_tasks_the_empty_instances_are_too_many() {
        assert_eq!(wanted(5, 3, &[], &scaling(100, 1, 10_000)), 3);
        assert_eq!(wanted(5, 3, &[], &scaling(50, 1, 10_000)), 6, "half of them are spare");
        assert_eq!(wanted(0, 0, &[], &scaling(50, 1, 10_000)), 0);
    }

    #[test]
    fn a_step_out_has_a_least_and_a_most() {
        let groups = [(need(1024, 1), 7)];
        assert_eq!(wanted(1, 1, &groups, &scaling(100, 1, 3)), 1 + 3);
        assert_eq!(wanted(1, 1, &groups[..], &scaling(100, 9, 100)), 1 + 9);
    }
}
