//! What a decision is based on: positions in the commit order, indexes, and what it relied on.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdSet;
use longshore_types::{
    AccountId, ClusterName, EniId, InstanceId, SecurityGroupId, SubnetId, TaskDefinitionId, TaskId,
    Uuid, VpcId,
};
use serde::{Deserialize, Serialize};

use crate::rows::Key;
use crate::service::ServiceId;
use crate::task::{LaunchType, Reserved};

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
    /// The container instance of an id, whosever it is.
    Instance(InstanceId),
    /// Tasks placed on an instance and not yet stopped, whosever account they run in.
    InstanceTasks(InstanceId),
    /// Tasks on an instance of which its agent may have something to hear.
    InstanceOrders(InstanceId),
    /// An account's Fargate tasks that are not yet stopped.
    FargateTasks(AccountId),
    /// Tasks that wait for capacity.
    UnplacedTasks,
    /// Tasks that stopped in one second since the epoch and are still described.
    StoppedTasks(u64),
    /// Tasks that have stopped on an instance and are still described.
    EndedTasks(InstanceId),
    /// Client tokens that expire in one second since the epoch.
    ExpiringTokens(u64),
    /// Task definitions that are to be deleted once nothing names them.
    EndingDefinitions,
    /// Active instances that take Fargate tasks, whosever cluster they are in.
    FargateInstances,
    /// Instances that are not inactive whose hosts' addresses among the hosts have these last 28 bits, whosever they are.
    HostNumber(u32),
    /// Every service of a cluster, deleted ones too.
    ClusterServices(AccountId, ClusterName),
    /// Every service of the region that is not inactive.
    LiveServices,
    /// Tasks of a service that its reconciler looks at: those that are not stopped, and those that
    /// have stopped and were not taken in by it yet.
    ServiceTasks(AccountId, ServiceId),
    /// Every network interface of a subnet.
    SubnetInterfaces(AccountId, SubnetId),
    /// The network interface of an id, but for those of tasks in the default VPC.
    Eni(AccountId, EniId),
    /// Every row that names something of EC2's by this id and cannot be without it.
    Ec2Uses(AccountId, Arc<str>),
    /// Default VPCs that are rows, since somebody changed or made them, whosever they are.
    DefaultVpcs,
    /// What has a public address in a VPC: Elastic IP addresses of interfaces, and interfaces with one of their own.
    VpcAddresses(AccountId, VpcId),
    /// The VPC, or the connection between two, of a number in packets between hosts, whosever it is.
    VpcNumber(u32),
    /// The Elastic IP address, or the interface, that has this public address, whosever it is.
    PublicAddress(std::net::Ipv4Addr),
    /// Every network interface that has a security group.
    GroupInterfaces(AccountId, SecurityGroupId),
    /// Every rule of a security group.
    GroupRules(AccountId, SecurityGroupId),
    /// Every rule that names a security group as its peer, the group's own too.
    GroupReferences(AccountId, SecurityGroupId),
    /// Every listener of a balancer, by the balancer's path.
    ElbListeners(AccountId, Arc<str>),
    /// Every rule of a listener but its default, by the listener's path.
    ElbRules(AccountId, Arc<str>),
    /// Every target of a group, by the group's path.
    ElbTargets(AccountId, Arc<str>),
    /// Every target that is a balancer, by the balancer's ARN.
    ElbTargetsOf(AccountId, Arc<str>),
    /// Every target that a task is registered as.
    TaskTargets(AccountId, TaskId),
    /// Listeners and rules that forward to a group, by the group's path.
    ElbUsers(AccountId, Arc<str>),
    /// Listeners that show a certificate, by its id.
    CertificateListeners(AccountId, Uuid),
    /// Namespaces of Cloud Map of an account.
    MapNamespaces(AccountId),
    /// Services of a namespace of Cloud Map, by its id.
    MapServices(AccountId, Arc<str>),
    /// Instances of a service of Cloud Map, by its id.
    MapInstances(AccountId, Arc<str>),
    /// The instances that a task is.
    TaskMapInstances(AccountId, TaskId),
    /// Operations of Cloud Map of an account.
    MapOperations(AccountId),
    /// What the names are made of that an account's tasks may ask for: private namespaces, their services and instances,
    /// and load balancers.
    MapNames(AccountId),
    /// What Service Connect tells of a namespace: the services behind its endpoints, and their instances.
    MapConnect(AccountId, Arc<str>),
    /// Services of Cloud Map that Service Connect made for a service.
    MapConnectsOf(AccountId, ServiceId),
    /// Flow logs of a VPC, a subnet or an interface, by its id.
    FlowLogs(AccountId, Arc<str>),
    /// Connections of an account's VPCs with others, whoever requested them.
    VpcPeerings(AccountId),
    /// Targets that drain, whosever they are.
    ElbDraining,
    /// Users, groups and roles that a managed policy is attached to, by its ARN.
    IamAttachments(AccountId, Arc<str>),
    /// Users and roles whose boundary a managed policy is, by its ARN.
    IamBoundaries(AccountId, Arc<str>),
    /// Users in a group, by its name in lower case.
    IamMembers(AccountId, Arc<str>),
    /// Access keys of a user, by its unique id.
    IamUserKeys(AccountId, Arc<str>),
    /// Instance profiles with a role, by its name in lower case.
    IamProfiles(AccountId, Arc<str>),
    /// The user or role of a unique id, whosever it is.
    IamUniqueId(Arc<str>),
    /// The account of an alias.
    IamAlias(Arc<str>),
    /// Alarms of CloudWatch of an account.
    MetricAlarms(AccountId),
    /// Alarms that act by a scaling policy, by the policy's ARN.
    PolicyAlarms(AccountId, Arc<str>),
    /// Rules of EventBridge of an account.
    EventRules(AccountId),
    /// Those of them that are enabled and have a pattern.
    PatternRules(AccountId),
}

/// The rows of an index, and the commit that last touched one of them.
#[derive(Clone, Debug, Default)]
pub struct Members {
    pub seq: Seq,
    tasks: Keys<(AccountId, TaskId)>,
    /// Of every other kind. Apart, since keys are as large as the largest kind's and tasks are the many: what
    /// lies here is copied with each index beside one that is written.
    others: Option<Box<Keys<Key>>>,
}

/// A set that is often one row's, for which a node would be wasted.
#[derive(Clone, Debug, Default)]
enum Keys<K: Ord> {
    #[default]
    None,
    One(K),
    Many(OrdSet<K>),
}

impl<K: Ord + Clone + fmt::Debug> Keys<K> {
    fn insert(&mut self, key: K) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(key),
            Self::One(only) => Self::Many([only, key].into_iter().collect()),
            Self::Many(mut keys) => {
                keys.insert(key);
                Self::Many(keys)
            }
        }
    }

    fn remove(&mut self, key: &K) {
        match self {
            Self::None => {}
            Self::One(only) if only == key => *self = Self::None,
            Self::One(_) => {}
            Self::Many(keys) => {
                keys.remove(key);
                if keys.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(keys) => keys.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &K> {
        self.from(None)
    }

    /// Those from a key on.
    fn from(&self, first: Option<K>) -> impl Iterator<Item = &K> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(only) => (Some(only), None),
            Self::Many(keys) => (None, Some(keys)),
        };
        let one = one.filter(|only| first.as_ref().is_none_or(|first| first <= *only));
        let first = first.map_or(Bound::Unbounded, Bound::Included);
        let many =
            many.into_iter().flat_map(move |keys| keys.range((first.clone(), Bound::Unbounded)));
        one.into_iter().chain(many)
    }
}

impl Members {
    pub(crate) fn insert(&mut self, key: &Key) {
        if let Key::Task(account, id) = key {
            self.tasks.insert((*account, *id))
        } else {
            self.others.get_or_insert_default().insert(key.clone())
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Key::Task(account, id) = key {
            self.tasks.remove(&(*account, *id));
        } else if let Some(others) = &mut self.others {
            others.remove(key);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len() + self.others.as_ref().map_or(0, |others| others.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = &(AccountId, TaskId)> {
        self.tasks.iter()
    }

    /// The tasks of one account that come after `after`.
    pub(crate) fn tasks_after(
        &self,
        account: AccountId,
        after: Option<TaskId>,
    ) -> impl Iterator<Item = TaskId> + use<'_> {
        let first = (account, after.unwrap_or(TaskId::MIN));
        let rest = self.tasks.from(Some(first));
        let rest = rest.take_while(move |(owner, _)| *owner == account).map(|(_, id)| *id);
        rest.skip_while(move |id| after == Some(*id))
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = &Key> {
        self.others.iter().flat_map(|others| others.iter())
    }
}

/// Rows that are counted: an index of which nothing but its length is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tally {
    /// Tasks of a cluster that are on their way to running, by what they run on.
    PendingTasks(AccountId, ClusterName, LaunchType),
    /// Tasks of a cluster that run.
    RunningTasks(AccountId, ClusterName, LaunchType),
    /// Tasks of a cluster that run on container instances, by what is reserved for them.
    RunningNeeds(AccountId, ClusterName, Reserved),
    /// Tasks of a cluster that have run and are not yet stopped.
    StoppingTasks(AccountId, ClusterName, LaunchType),
    /// Tasks of a cluster that are not yet stopped, by their capacity provider.
    ProviderTasks(AccountId, ClusterName, Arc<str>),
    /// Every task of a task definition, stopped ones too.
    DefinitionTasks(AccountId, TaskDefinitionId),
    /// The room that events take which wait for their targets, in blocks.
    PendingEvents(AccountId),
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
