//! The questions that are asked of a view over and over, answered by its indexes.

use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_types::{
    AccountId, ClusterName, DeploymentId, Family, InstanceId, RevisionId, TaskDefinitionId, TaskId,
    Timestamp, VpcId,
};
use traffic::tunnels::sender_number;

use crate::cluster::Cluster;
use crate::elb::ElbTarget;
use crate::idempotency::ClientToken;
use crate::instance::Instance;
use crate::rows::{Key, View};
use crate::service::{
    Deployment, DeploymentKey, RevisionKey, Service, ServiceId, ServiceRevision, TaskSet,
};
use crate::task::{LaunchType, Phase, Reserved, Task};
use crate::task_definition::TaskDefinition;
use crate::view::{Index, Members, Tally};
use crate::vpc::{AddressPlanId, Interface, InterfaceId, region_account};

impl View {
    /// A cluster that was not deleted.
    pub fn active_cluster(&self, account: AccountId, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.get(account, name).filter(|cluster| cluster.is_active())
    }

    /// Every revision of a family, by number.
    pub fn revisions<'a>(
        &'a self,
        account: AccountId,
        family: &Family,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<TaskDefinition>> + use<'a> {
        let id = |revision| TaskDefinitionId { family: family.clone(), revision };
        self.task_definitions.range(account, id(0), id(u32::MAX))
    }

    /// Every task of a cluster, stopped ones too, by id.
    pub fn tasks_of_cluster<'a>(
        &'a self,
        account: AccountId,
        cluster: &ClusterName,
    ) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        self.tasks_in(&Index::ClusterTasks(account, cluster.clone()))
    }

    /// How many tasks of a cluster are not yet stopped.
    pub fn live_tasks_of_cluster(&self, account: AccountId, cluster: &ClusterName) -> usize {
        let kinds = [Tally::PendingTasks, Tally::RunningTasks, Tally::StoppingTasks];
        let launches = [LaunchType::Ec2, LaunchType::Fargate, LaunchType::External];
        let each = launches.iter().flat_map(|launch| kinds.map(|kind| (kind, *launch)));
        each.map(|(kind, launch)| self.tally(&kind(account, cluster.clone(), launch))).sum()
    }

    /// Tasks placed on an instance and not yet stopped, by account and id.
    pub fn tasks_on_instance(&self, instance: InstanceId) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_in(&Index::InstanceTasks(instance))
    }

    /// Tasks of a cluster that come after one, stopped ones too, by id; all of them without one.
    pub fn tasks_of_cluster_after<'a>(
        &'a self,
        account: AccountId,
        cluster: &ClusterName,
        after: Option<TaskId>,
    ) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        let members = self.members_of(&Index::ClusterTasks(account, cluster.clone()));
        let ids = members.into_iter().flat_map(move |members| members.tasks_after(account, after));
        ids.filter_map(move |id| self.tasks.get(account, &id))
    }

    /// Every target that a task is registered as with load balancers.
    pub fn targets_of_task(
        &self,
        account: AccountId,
        task: TaskId,
    ) -> impl Iterator<Item = &Arc<ElbTarget>> {
        self.members(&Index::TaskTargets(account, task)).filter_map(|key| {
            let Key::ElbTarget(account, id) = key else { return None };
            self.elb_targets.get(*account, id)
        })
    }

    /// A VPC, if it has addresses of its own; none of an account's default one.
    pub fn own_vpc(&self, account: AccountId, vpc: &VpcId) -> Option<VpcId> {
        let is_default = match self.vpcs.get(account, vpc) {
            Some(row) => row.is_default,
            None => {
                let plan = self.address_plans.get(region_account(), &AddressPlanId);
                plan.is_some_and(|plan| plan.is_default_vpc(account, vpc))
            }
        };
        (!is_default).then(|| vpc.clone())
    }

    /// The interface that has an address in a VPC.
    pub fn interface_at(
        &self,
        account: AccountId,
        vpc: &VpcId,
        address: Ipv4Addr,
    ) -> Option<&Arc<Interface>> {
        let vpc = self.own_vpc(account, vpc);
        self.interfaces.get(region_account(), &InterfaceId { vpc, address })
    }

    /// Every task of the region that is not yet stopped: a walk over all tasks, for checks and tests.
    pub fn live_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.iter().filter(|task| task.phase < Phase::Stopped)
    }

    /// Tasks that have stopped on an instance and are still described, by account and id.
    pub fn tasks_ended_on(&self, instance: InstanceId) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_in(&Index::EndedTasks(instance))
    }

    /// Client tokens that expired at a time or earlier, those that expired first before others.
    pub fn tokens_expired_by(&self, at: Timestamp) -> impl Iterator<Item = &Arc<ClientToken>> {
        let last = Index::ExpiringTokens(at.seconds());
        let seconds = self.indexes(Index::ExpiringTokens(0), last);
        let keys = seconds.flat_map(|(_, members)| members.others());
        let tokens = keys.filter_map(|key| {
            let Key::ClientToken(account, id) = key else { return None };
            self.client_tokens.get(*account, id)
        });
        tokens.filter(move |token| token.expires_at <= at)
    }

    /// Task definitions that are to be deleted once nothing names them.
    pub fn ending_definitions(&self) -> impl Iterator<Item = &Arc<TaskDefinition>> {
        self.members(&Index::EndingDefinitions).filter_map(|key| {
            let Key::TaskDefinition(account, id) = key else { return None };
            self.task_definitions.get(*account, id)
        })
    }

    /// The capacity providers that tasks of a cluster are on or wait for.
    pub fn providers_of_tasks<'a>(
        &'a self,
        account: AccountId,
        cluster: &ClusterName,
    ) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let cluster = cluster.clone();
        let first = Tally::ProviderTasks(account, cluster.clone(), "".into());
        let is_its = move |tally: &&Tally| {
            let Tally::ProviderTasks(owner, its, _) = tally else { return false };
            *owner == account && *its == cluster
        };
        self.tallies_from(first).take_while(is_its).filter_map(|tally| {
            let Tally::ProviderTasks(_, _, provider) = tally else { return None };
            Some(provider)
        })
    }

    /// What tasks that run on a cluster's container instances have reserved together. Costs a step for each of their sizes.
    pub fn reserved_by_running(&self, account: AccountId, cluster: &ClusterName) -> Reserved {
        let mut all = Reserved::default();
        let first = Tally::RunningNeeds(account, cluster.clone(), all);
        for tally in self.tallies_from(first) {
            let Tally::RunningNeeds(owner, its, each) = tally else { break };
            if *owner != account || its != cluster {
                break;
            }
            let count = u64::try_from(self.tally(tally)).unwrap_or(u64::MAX);
            all = all.and(count, *each);
        }
        all
    }

    /// Tasks that wait for capacity, by account and id.
    pub fn unplaced_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_in(&Index::UnplacedTasks)
    }

    /// Tasks that stopped at a time or earlier and are still described, those that stopped first before others.
    pub fn tasks_stopped_by(&self, at: Timestamp) -> impl Iterator<Item = &Arc<Task>> {
        let seconds = self.indexes(Index::StoppedTasks(0), Index::StoppedTasks(at.seconds()));
        let ids = seconds.flat_map(|(_, members)| members.tasks());
        let tasks = ids.filter_map(|(account, id)| self.tasks.get(*account, id));
        tasks.filter(move |task| task.times.stopped.is_none_or(|stopped| stopped <= at))
    }

    /// How many tasks that are not yet stopped each instance has that has any, by its id.
    pub fn occupied_instances(&self) -> impl Iterator<Item = (InstanceId, usize)> {
        self.occupied().map(|(id, tasks)| (id, tasks.len()))
    }

    /// An instance of whichever account: Fargate tasks run on others' instances too.
    pub fn instance_of_any(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.members(&Index::Instance(id)).find_map(|key| self.instance_at(key))
    }

    /// Instances whose hosts say an address among the hosts that is this one in the bits by which encryption between
    /// hosts tells them apart, whosever they are.
    pub fn instances_like(&self, address: Ipv4Addr) -> impl Iterator<Item = &Arc<Instance>> {
        let number = Index::HostNumber(sender_number(address));
        self.members(&number).filter_map(|key| self.instance_at(key))
    }

    /// Tasks on an instance of which its agent may have something to hear, by account and id.
    pub fn orders_of_instance(&self, instance: InstanceId) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_in(&Index::InstanceOrders(instance))
    }

    /// Every container instance of a cluster, by id.
    pub fn instances_of_cluster<'a>(
        &'a self,
        account: AccountId,
        cluster: &ClusterName,
    ) -> impl Iterator<Item = &'a Arc<Instance>> + use<'a> {
        self.members(&Index::ClusterInstances(account, cluster.clone()))
            .filter_map(|key| self.instance_at(key))
    }

    /// Tasks of a service that its reconciler looks at, by id.
    pub fn tasks_of_service<'a>(
        &'a self,
        account: AccountId,
        service: &ServiceId,
    ) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        self.tasks_in(&Index::ServiceTasks(account, service.clone()))
    }

    /// A service's deployments of all ranks, by id.
    pub fn deployments_of<'a>(
        &'a self,
        account: AccountId,
        service: &ServiceId,
    ) -> impl Iterator<Item = &'a Arc<Deployment>> + use<'a> {
        let key = |id| DeploymentKey { service: service.clone(), id: DeploymentId(id) };
        self.deployments.range(account, key(0), key(u64::MAX))
    }

    /// A service's task sets, by id.
    pub fn task_sets_of<'a>(
        &'a self,
        account: AccountId,
        service: &ServiceId,
    ) -> impl Iterator<Item = &'a Arc<TaskSet>> + use<'a> {
        let key = |id| DeploymentKey { service: service.clone(), id: DeploymentId(id) };
        self.task_sets.range(account, key(0), key(u64::MAX))
    }

    /// A service's revisions, by id.
    pub fn revisions_of<'a>(
        &'a self,
        account: AccountId,
        service: &ServiceId,
    ) -> impl Iterator<Item = &'a Arc<ServiceRevision>> + use<'a> {
        let key = |id| RevisionKey { service: service.clone(), id: RevisionId(id) };
        self.service_revisions.range(account, key(0), key(u64::MAX))
    }

    /// One revision of a service.
    pub fn revision_of(
        &self,
        account: AccountId,
        service: &ServiceId,
        id: RevisionId,
    ) -> Option<&Arc<ServiceRevision>> {
        self.service_revisions.get(account, &RevisionKey { service: service.clone(), id })
    }

    /// The revision that a rollback of a service goes back to.
    pub fn completed_revision(
        &self,
        account: AccountId,
        service: &ServiceId,
    ) -> Option<RevisionId> {
        let events = self.service_events.get(account, service)?;
        events.notes.completed.map(|completed| completed.revision)
    }

    /// The revision that a task of a service was made by.
    pub fn revision_of_task(&self, task: &Task) -> Option<&Arc<ServiceRevision>> {
        let (account, made_for) = (task.scope.account, task.service.as_ref()?);
        let service = ServiceId { cluster: task.cluster.clone(), name: made_for.name.clone() };
        let key = DeploymentKey { service: service.clone(), id: made_for.deployment };
        let deployment = self.deployments.get(account, &key)?;
        self.revision_of(account, &service, deployment.revision)
    }

    /// Every service of a cluster, deleted ones too, by name.
    pub fn services_of_cluster<'a>(
        &'a self,
        account: AccountId,
        cluster: &ClusterName,
    ) -> impl Iterator<Item = &'a Arc<Service>> + use<'a> {
        self.members(&Index::ClusterServices(account, cluster.clone())).filter_map(|key| {
            let Key::Service(account, id) = key else { return None };
            self.services.get(*account, id)
        })
    }

    fn instance_at(&self, key: &Key) -> Option<&Arc<Instance>> {
        let Key::ContainerInstance(account, id) = key else { return None };
        self.instances.get(*account, id)
    }

    fn tasks_in<'a>(&'a self, index: &Index) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        let ids = self.members_of(index).into_iter().flat_map(Members::tasks);
        ids.filter_map(|(account, id)| self.tasks.get(*account, id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use longshore_types::{CpuUnits, MemoryMib, RegionName, Resources, Scope, Timestamp};

    use super::*;
    use crate::instance::{AgentState, InstanceStatus};
    use crate::rows::Row;
    use crate::view::{Dep, Seq};

    #[test]
    fn an_index_follows_its_rows_from_one_cluster_to_another() {
        let mut view = View::default();
        let account = account();
        view.put(Seq(1), &Row::from(instance("a")));
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(view.instances_of_cluster(account, &a).count(), 1);

        view.put(Seq(2), &Row::from(instance("b")));
        assert_eq!(view.instances_of_cluster(account, &a).count(), 0);
        assert_eq!(view.instances_of_cluster(account, &b).count(), 1);

        let emptied = view.remove(Seq(3), &Row::from(instance("b")).key());
        assert_eq!(view.instances_of_cluster(account, &b).count(), 0);
        let id = Index::Instance(InstanceId::from_bytes([1; 16]));
        let index = Index::ClusterInstances(account, b);
        assert_eq!(emptied, [index.clone(), id], "whoever judges by them is told");
        assert_eq!(view.changed_at(&Dep::All(index)), None);
        assert_eq!((view.len(), view.index_count()), (0, 0));
    }

    #[test]
    fn a_snapshot_does_not_see_later_writes() {
        let mut view = View::default();
        view.put(Seq(1), &Row::from(instance("a")));
        let snapshot = view.clone();
        view.remove(Seq(2), &Row::from(instance("a")).key());
        assert_eq!(snapshot.instances.len(), 1);
        assert_eq!(view.instances.len(), 0);
    }

    #[test]
    fn every_row_survives_its_json() {
        let row = Row::from(instance("a"));
        let text = row.to_json().unwrap();
        let back = Row::from_json(row.key().kind(), &text).unwrap();
        assert_eq!(back.to_json().unwrap(), text);
        assert_eq!(back.key(), row.key());
    }

    fn account() -> AccountId {
        "000000000000".parse().unwrap()
    }

    fn instance(cluster: &str) -> Instance {
        let region: RegionName = "us-east-1".parse().unwrap();
        Instance {
            id: InstanceId::from_bytes([1; 16]),
            scope: Scope { region, account: account() },
            cluster: cluster.parse().unwrap(),
            status: InstanceStatus::Active,
            total: Resources { cpu: CpuUnits(1024), memory: MemoryMib(2048) },
            reserved_ports: [].into(),
            other_resources: Vec::new(),
            attributes: BTreeMap::new(),
            tags: BTreeMap::new(),
            ec2_instance_id: None,
            capacity_provider: None,
            is_external: false,
            access_key: None,
            registered_at: Timestamp(0),
            agent: AgentState::default(),
            health: Vec::new(),
            version: 0,
        }
    }
}
