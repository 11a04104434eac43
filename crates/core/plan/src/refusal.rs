//! Why an instance would not do: the reason on the wire, and the sentence for people.

use std::fmt;

use longshore_types::InstanceId;
use model::task::{HostPort, Protocol};

/// Why one instance cannot take one task. Ordered from least to most nearly fitting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// Of another cluster, or deregistered.
    Inactive,
    Draining,
    AgentDisconnected,
    Attribute {
        name: String,
    },
    /// The task has no subnet in its zone.
    Zone,
    MemberOf,
    DistinctInstance,
    Cpu {
        needed: u32,
        free: u32,
    },
    Memory {
        needed: u32,
        free: u32,
    },
    Gpu {
        needed: u32,
        free: u32,
    },
    Port(HostPort),
}

impl Unfit {
    /// The `reason` that the API's `failures` carry.
    pub fn wire_reason(&self) -> &'static str {
        match self {
            Self::Inactive | Self::Draining => "INACTIVE",
            Self::AgentDisconnected => "AGENT",
            Self::Attribute { .. } | Self::Zone => "ATTRIBUTE",
            Self::MemberOf => "MemberOf placement constraint unsatisfied.",
            Self::DistinctInstance => "DistinctInstance placement constraint unsatisfied.",
            Self::Cpu { .. } => "RESOURCE:CPU",
            Self::Memory { .. } => "RESOURCE:MEMORY",
            Self::Gpu { .. } => "RESOURCE:GPU",
            Self::Port(HostPort { protocol: Protocol::Tcp, .. }) => "RESOURCE:PORTS",
            Self::Port(HostPort { protocol: Protocol::Udp, .. }) => "RESOURCE:PORTS_UDP",
        }
    }
}

impl Unfit {
    /// Whether both lack the same, be it more of it or less.
    fn is_alike(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cpu { needed: a, .. }, Self::Cpu { needed: b, .. })
            | (Self::Memory { needed: a, .. }, Self::Memory { needed: b, .. })
            | (Self::Gpu { needed: a, .. }, Self::Gpu { needed: b, .. }) => a == b,
            (a, b) => a == b,
        }
    }

    /// What a service's event says of the closest matching instance.
    pub fn event_clause(&self) -> String {
        match self {
            Self::Cpu { .. } => "has insufficient CPU units available".to_owned(),
            Self::Memory { .. } => "has insufficient memory available".to_owned(),
            Self::Gpu { .. } => "has insufficient GPU resource available".to_owned(),
            Self::Port(_) => "is already using a port required by your task".to_owned(),
            Self::Attribute { .. } | Self::Zone => {
                "is missing an attribute required by your task".to_owned()
            }
            Self::Inactive
            | Self::Draining
            | Self::AgentDisconnected
            | Self::MemberOf
            | Self::DistinctInstance => format!("encountered error \"{}\"", self.wire_reason()),
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inactive => f.write_str("not active"),
            Self::Draining => f.write_str("draining"),
            Self::AgentDisconnected => f.write_str("agent not connected"),
            Self::Attribute { name } => write!(f, "without attribute {name}"),
            Self::Zone => f.write_str("in a zone without a subnet of the task"),
            Self::MemberOf => f.write_str("outside a memberOf constraint"),
            Self::DistinctInstance => f.write_str("already with a task of the group"),
            Self::Cpu { needed, free } => {
                write!(f, "too little CPU ({needed} units needed, {free} free at most)")
            }
            Self::Memory { needed, free } => {
                write!(f, "too little memory ({needed} MiB needed, {free} free at most)")
            }
            Self::Gpu { needed, free } => {
                write!(f, "too few GPUs ({needed} needed, {free} free at most)")
            }
            Self::Port(HostPort { protocol, port }) => {
                write!(f, "with {} port {port} taken", protocol.as_str())
            }
        }
    }
}

/// Why nothing took a task: what each instance said, and how many said alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    each: Vec<(InstanceId, Unfit)>,
    tally: Vec<(Unfit, u32)>,
}

impl Refusals {
    /// Gathers equal reasons; shortages of one kind are one reason, with the most that was free.
    pub fn of(mut each: Vec<(InstanceId, Unfit)>) -> Self {
        each.sort_unstable_by_key(|(id, _)| *id);
        let mut tally: Vec<(&Unfit, u32)> = Vec::new();
        for (_, unfit) in &each {
            match tally.iter_mut().find(|(other, _)| other.is_alike(unfit)) {
                Some((nearest, count)) => {
                    *nearest = (*nearest).max(unfit);
                    *count += 1;
                }
                None => tally.push((unfit, 1)),
            }
        }
        let mut tally: Vec<_> =
            tally.into_iter().map(|(unfit, count)| (unfit.clone(), count)).collect();
        tally.sort_by(|(a, many), (b, fewer)| fewer.cmp(many).then_with(|| a.cmp(b)));
        Self { each, tally }
    }

    /// The same, but for instances that say something else by now, or nothing.
    pub(crate) fn but(&self, changes: impl Iterator<Item = (InstanceId, Option<Unfit>)>) -> Self {
        let mut each = self.each.clone();
        for (id, unfit) in changes {
            match (each.binary_search_by_key(&id, |(id, _)| *id), unfit) {
                (Ok(at), Some(unfit)) => each[at].1 = unfit,
                (Err(at), Some(unfit)) => each.insert(at, (id, unfit)),
                (Ok(at), None) => drop(each.remove(at)),
                (Err(_), None) => {}
            }
        }
        Self::of(each)
    }

    /// What each instance said, by id.
    pub fn each(&self) -> &[(InstanceId, Unfit)] {
        &self.each
    }

    /// How many instances gave which reason, the most frequent first.
    pub fn tally(&self) -> &[(Unfit, u32)] {
        &self.tally
    }

    /// The instance that came nearest to taking the task, and what it lacks.
    pub fn nearest(&self) -> Option<(InstanceId, &Unfit)> {
        // Of equals the first, which has the lowest id.
        let nearest = self.each.iter().rev().max_by(|(_, a), (_, b)| a.cmp(b))?;
        Some((nearest.0, &nearest.1))
    }

    /// Whether there was no instance to look at.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }
}

impl fmt::Display for Refusals {
    /// `3 instances: 2 too little memory (512 MiB needed, 128 free at most), 1 draining`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.each.len();
        write!(f, "{total} instance{}", if total == 1 { "" } else { "s" })?;
        for (index, (unfit, count)) in self.tally.iter().enumerate() {
            let joint = if index == 0 { ":" } else { "," };
            write!(f, "{joint} {count} {unfit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_counts_alike_reasons_and_names_the_nearest_miss() {
        let memory = |free| Unfit::Memory { needed: 512, free };
        let id = |number| InstanceId::from_bytes([number; 16]);
        let each = vec![(id(3), memory(128)), (id(1), memory(64)), (id(2), Unfit::Draining)];
        let refusals = Refusals::of(each);
        assert_eq!(
            refusals.to_string(),
            "3 instances: 2 too little memory (512 MiB needed, 128 free at most), 1 draining"
        );
        assert_eq!(refusals.nearest(), Some((id(3), &memory(128))));
        assert_eq!(memory(1).event_clause(), "has insufficient memory available");
        let one = Refusals::of(vec![(id(1), Unfit::Draining)]);
        assert_eq!(one.to_string(), "1 instance: 1 draining");
        assert_eq!(Refusals::default().to_string(), "0 instances");
    }

    #[test]
    fn of_instances_that_miss_as_nearly_the_lowest_id_is_named() {
        let id = |number| InstanceId::from_bytes([number; 16]);
        let refusals = Refusals::of(vec![(id(2), Unfit::Draining), (id(1), Unfit::Draining)]);
        assert_eq!(refusals.nearest(), Some((id(1), &Unfit::Draining)));
    }
}
