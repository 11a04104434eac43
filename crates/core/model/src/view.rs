//! What a decision is based on: positions in the commit order, indexes, and what it relied on.

use std::fmt;

use imbl::OrdSet;
use longshore_types::{AccountId, ClusterName, InstanceId, SubnetId};
use serde::{Deserialize, Serialize};

use crate::rows::Key;
use crate::service::ServiceId;

/// A position in the commit order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A set of rows that belong together, kept current with every write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Index {
    /// Every task of a cluster, stopped ones too.
    ClusterTasks(AccountId, ClusterName),
    /// Every container instance of a cluster.
    ClusterInstances(AccountId, ClusterName),
    /// Every container instance of the region.
    Instances,
    /// Tasks placed on an instance and not yet stopped, whosever account they run in.
    InstanceTasks(InstanceId),
    /// Every task of the region that is not yet stopped.
    LiveTasks,
    /// Tasks that wait for room.
    UnplacedTasks,
    /// Tasks that have stopped and are still described.
    StoppedTasks,
    /// Active instances that take Fargate tasks, whosever cluster they are in.
    FargateInstances,
    /// Every service of a cluster, deleted ones too.
    ClusterServices(AccountId, ClusterName),
    /// Every service of the region that is not inactive.
    LiveServices,
    /// Tasks of a service that its reconciler looks at: those that are not stopped, and those that
    /// have stopped and were not taken in by it yet.
    ServiceTasks(AccountId, ServiceId),
    /// Every network interface of a subnet.
    SubnetInterfaces(AccountId, SubnetId),
}

/// The rows of an index, and the commit that last touched one of them.
#[derive(Clone, Debug, Default)]
pub struct Members {
    pub seq: Seq,
    pub keys: OrdSet<Key>,
}

/// What a decision was made from: had it changed, the decision might have been another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dep {
    /// The row, or that there is none.
    Row(Key),
    /// Every row of the index, and that there is no other.
    All(Index),
}

impl fmt::Display for Dep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(key) => write!(f, "{key}"),
            Self::All(index) => write!(f, "{index:?}"),
        }
    }
}

impl From<Key> for Dep {
    fn from(key: Key) -> Self {
        Self::Row(key)
    }
}

impl From<Index> for Dep {
    fn from(index: Index) -> Self {
        Self::All(index)
    }
}
