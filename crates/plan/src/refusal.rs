//! Why an instance would not do: the reason on the wire, and the sentence for people.

use std::collections::BTreeMap;
use std::fmt;

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
    Port(HostPort),
}

impl Unfit {
    /// The `reason` that the API's `failures` carry.
    pub fn wire_reason(&self) -> &'static str {
        match self {
            Self::Inactive | Self::Draining => "INACTIVE",
            Self::AgentDisconnected => "AGENT",
            Self::Attribute { .. } => "ATTRIBUTE",
            Self::MemberOf => "MemberOf placement constraint unsatisfied.",
            Self::DistinctInstance => "DistinctInstance placement constraint unsatisfied.",
            Self::Cpu { .. } => "RESOURCE:CPU",
            Self::Memory { .. } => "RESOURCE:MEMORY",
            Self::Port(HostPort { protocol: Protocol::Tcp, .. }) => "RESOURCE:PORTS",
            Self::Port(HostPort { protocol: Protocol::Udp, .. }) => "RESOURCE:PORTS_UDP",
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
            Self::MemberOf => f.write_str("outside a memberOf constraint"),
            Self::DistinctInstance => f.write_str("already with a task of the group"),
            Self::Cpu { needed, free } => {
                write!(f, "too little CPU ({needed} units needed, {free} free at most)")
            }
            Self::Memory { needed, free } => {
                write!(f, "too little memory ({needed} MiB needed, {free} free at most)")
            }
            Self::Port(HostPort { protocol, port }) => {
                write!(f, "with {} port {port} taken", protocol.as_str())
            }
        }
    }
}

/// Reasons with how many instances gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals(Vec<(Unfit, u32)>);

impl Refusals {
    /// Gathers equal reasons; shortages of one kind are one reason, with the most that was free.
    pub fn tally<'a>(unfits: impl IntoIterator<Item = &'a Unfit>) -> Self {
        let mut tally: BTreeMap<Unfit, (Unfit, u32)> = BTreeMap::new();
        for unfit in unfits {
            let alike = match unfit {
                Unfit::Cpu { needed, .. } => Unfit::Cpu { needed: *needed, free: 0 },
                Unfit::Memory { needed, .. } => Unfit::Memory { needed: *needed, free: 0 },
                Unfit::Inactive
                | Unfit::Draining
                | Unfit::AgentDisconnected
                | Unfit::Attribute { .. }
                | Unfit::MemberOf
                | Unfit::DistinctInstance
                | Unfit::Port(_) => unfit.clone(),
            };
            let (nearest, count) = tally.entry(alike).or_insert_with(|| (unfit.clone(), 0));
            *nearest = nearest.clone().max(unfit.clone());
            *count += 1;
        }
        let mut reasons: Vec<_> = tally.into_values().collect();
        reasons.sort_by(|(a, many), (b, fewer)| fewer.cmp(many).then_with(|| a.cmp(b)));
        Self(reasons)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Refusals {
    /// `3 instances: 2 too little memory (512 MiB needed, 128 free at most), 1 draining`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u32 = self.0.iter().map(|(_, count)| count).sum();
        write!(f, "{total} instance{}", if total == 1 { "" } else { "s" })?;
        for (index, (unfit, count)) in self.0.iter().enumerate() {
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
        let unfits = [memory(64), Unfit::Draining, memory(128)];
        assert_eq!(
            Refusals::tally(&unfits).to_string(),
            "3 instances: 2 too little memory (512 MiB needed, 128 free at most), 1 draining"
        );
        assert_eq!(Refusals::tally(&unfits[1..2]).to_string(), "1 instance: 1 draining");
        assert_eq!(Refusals::tally([]).to_string(), "0 instances");
    }
}
