//! The list of kinds, and what is made from it: [`Kind`], [`Key`], [`Row`] and [`View`].

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use longshore_types::{AccountId, InstanceId};

use crate::indexes::Indexes;
use crate::table::{Record, Table};
use crate::task::Sharing;
use crate::view::{Dep, Index, Members, Seq, Tally};

/// One line a kind: the variant, the row type, the table in a view, the name in a store.
macro_rules! rows {
    ($($variant:ident($row:ty), $table:ident, $name:literal;)*) => {
        /// What sort of thing a row describes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($variant,)*
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name under which a store keeps rows of this kind. Never changes.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        /// Names one row among all rows.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Key {
            $($variant(AccountId, <$row as Record>::Id),)*
        }

        impl Key {
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$variant(..) => Kind::$variant,)*
                }
            }

            pub const fn account(&self) -> AccountId {
                match self {
                    $(Self::$variant(account, _) => *account,)*
                }
            }

            /// The id within kind and account, as a store keeps it.
            pub fn id_text(&self) -> String {
                match self {
                    $(Self::$variant(_, id) => id.to_string(),)*
                }
            }
        }

        /// A row of any kind.
        #[derive(Clone, Debug)]
        pub enum Row {
            $($variant(Arc<$row>),)*
        }

        impl Row {
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$variant(_) => Kind::$variant,)*
                }
            }

            pub fn key(&self) -> Key {
                match self {
                    $(Self::$variant(row) => Key::$variant(row.account(), row.id()),)*
                }
            }

            pub fn indexes(&self) -> Vec<Index> {
                match self {
                    $(Self::$variant(row) => row.indexes(),)*
                }
            }

            pub fn tallies(&self) -> Vec<Tally> {
                match self {
                    $(Self::$variant(row) => row.tallies(),)*
                }
            }

            pub fn to_json(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$variant(row) => serde_json::to_string(row.as_ref()),)*
                }
            }

            pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
                match kind {
                    $(Kind::$variant => {
                        serde_json::from_str(text).map(|row| Self::$variant(Arc::new(row)))
                    })*
                }
            }
        }

        $(
            impl From<$row> for Row {
                fn from(row: $row) -> Self {
                    Self::$variant(Arc::new(row))
                }
            }

            impl From<Arc<$row>> for Row {
                fn from(row: Arc<$row>) -> Self {
                    Self::$variant(row)
                }
            }
        )*

        /// A consistent, immutable snapshot of everything at one commit.
        ///
        /// Cloning one costs a few pointers. Written only by [`View::put`] and [`View::remove`], so
        /// tables and indexes agree always.
        #[derive(Clone, Debug, Default)]
        pub struct View {
            pub seq: Seq,
            $(pub $table: Table<$row>,)*
            indexes: Indexes,
            tallies: OrdMap<Tally, usize>,
            len: usize,
        }

        impl View {
            /// Writes one row at `seq`. Says which indexes it left without a row: they are gone, and whoever
            /// judges decisions by them must remember when.
            pub fn put(&mut self, seq: Seq, row: &Row) -> Vec<Index> {
                let before = match row {
                    $(Row::$variant(row) => {
                        self.$table.insert(seq, Arc::clone(row)).map(Row::$variant)
                    })*
                };
                self.len += usize::from(before.is_none());
                self.count(before.as_ref(), Some(row));
                let (key, now) = (row.key(), row.indexes());
                let before = before.map(|row| row.indexes()).unwrap_or_default();
                let left = before.iter().filter(|index| !now.contains(index));
                let emptied =
                    left.filter(|index| self.indexes.leave(seq, index, &key)).cloned().collect();
                for index in now {
                    let is_new = !before.contains(&index);
                    self.indexes.touch(seq, index, is_new.then_some(&key));
                }
                emptied
            }

            /// Removes one row at `seq`; removing what is not there changes nothing. Says of indexes what
            /// [`View::put`] does.
            pub fn remove(&mut self, seq: Seq, key: &Key) -> Vec<Index> {
                let before = match key {
                    $(Key::$variant(account, id) => {
                        self.$table.remove(*account, id).map(Row::$variant)
                    })*
                };
                self.len -= usize::from(before.is_some());
                self.count(before.as_ref(), None);
                let indexes = before.map(|row| row.indexes()).unwrap_or_default();
                indexes.into_iter().filter(|index| self.indexes.leave(seq, index, key)).collect()
            }

            /// When the row was last written; `None` if there is none.
            pub fn seq_of(&self, key: &Key) -> Option<Seq> {
                match key {
                    $(Key::$variant(account, id) => {
                        self.$table.versioned(*account, id).map(|entry| entry.seq)
                    })*
                }
            }

            pub fn row(&self, key: &Key) -> Option<Row> {
                match key {
                    $(Key::$variant(account, id) => {
                        self.$table.get(*account, id).map(|row| Row::$variant(Arc::clone(row)))
                    })*
                }
            }

            /// Every row of every kind, for whoever writes a whole snapshot down.
            pub fn rows(&self) -> impl Iterator<Item = (Seq, Row)> {
                // Behind a pointer each: a chain of all tables is a type too deep for the compiler.
                let tables: Vec<Box<dyn Iterator<Item = (Seq, Row)> + '_>> = vec![
                    $(Box::new(self.$table.iter_versioned().map(|entry| {
                        (entry.seq, Row::$variant(Arc::clone(&entry.row)))
                    })),)*
                ];
                tables.into_iter().flatten()
            }
        }
    };
}

rows! {
    Cluster(crate::cluster::Cluster), clusters, "cluster";
    TaskFamily(crate::task_definition::TaskFamily), families, "task-family";
    TaskDefinition(crate::task_definition::TaskDefinition), task_definitions, "task-definition";
    ContainerInstance(crate::instance::Instance), instances, "container-instance";
    Task(crate::task::Task), tasks, "task";
    Service(crate::service::Service), services, "service";
    ServiceRevision(crate::service::ServiceRevision), service_revisions, "service-revision";
    Deployment(crate::service::Deployment), deployments, "deployment";
    TaskSet(crate::service::TaskSet), task_sets, "task-set";
    ServiceEvents(crate::service::ServiceEvents), service_events, "service-events";
    CapacityProvider(crate::capacity_provider::CapacityProvider), capacity_providers, "capacity-provider";
    Interface(crate::vpc::Interface), interfaces, "interface";
    AddressPlan(crate::vpc::AddressPlan), address_plans, "address-plan";
    TunnelSecret(crate::tunnel::TunnelSecret), tunnel_secrets, "tunnel-secret";
    ElbBalancer(crate::elb::ElbBalancer), elb_balancers, "elb-balancer";
    ElbGroup(crate::elb::ElbGroup), elb_groups, "elb-group";
    ElbListener(crate::elb::ElbListener), elb_listeners, "elb-listener";
    ElbRule(crate::elb::ElbRule), elb_rules, "elb-rule";
    ElbTarget(crate::elb::ElbTarget), elb_targets, "elb-target";
    AccountSetting(crate::settings::AccountSetting), account_settings, "account-setting";
    ClientToken(crate::idempotency::ClientToken), client_tokens, "client-token";
    EcrRepository(crate::ecr::EcrRepository), ecr_repositories, "ecr-repository";
    EcrRegistry(crate::ecr::EcrRegistry), ecr_registries, "ecr-registry";
    EcrScanning(crate::ecr::EcrScanning), ecr_scannings, "ecr-scanning";
    EcrManifest(crate::ecr::EcrManifest), ecr_manifests, "ecr-manifest";
    EcrTag(crate::ecr::EcrTag), ecr_tags, "ecr-tag";
    EcrLayer(crate::ecr::EcrLayer), ecr_layers, "ecr-layer";
    EcrPullThroughRule(crate::ecr_rules::EcrPullThroughRule), ecr_pull_through_rules, "ecr-pull-through-rule";
    EcrTemplate(crate::ecr_rules::EcrTemplate), ecr_templates, "ecr-template";
    IamUser(crate::iam::IamUser), iam_users, "iam-user";
    IamGroup(crate::iam::IamGroup), iam_groups, "iam-group";
    IamRole(crate::iam::IamRole), iam_roles, "iam-role";
    IamPolicy(crate::iam::IamPolicy), iam_policies, "iam-policy";
    IamInstanceProfile(crate::iam::IamInstanceProfile), iam_instance_profiles, "iam-instance-profile";
    IamAccessKey(crate::iam::IamAccessKey), iam_access_keys, "iam-access-key";
    IamKeyUse(crate::iam::IamKeyUse), iam_key_uses, "iam-key-use";
    IamOidcProvider(crate::iam::IamOidcProvider), iam_oidc_providers, "iam-oidc-provider";
    IamMfaDevice(crate::iam::IamMfaDevice), iam_mfa_devices, "iam-mfa-device";
    IamAccount(crate::iam::IamAccount), iam_accounts, "iam-account";
    AcmCertificate(crate::acm::AcmCertificate), acm_certificates, "acm-certificate";
    MapNamespace(crate::discovery::MapNamespace), map_namespaces, "map-namespace";
    MapService(crate::discovery::MapService), map_services, "map-service";
    MapInstance(crate::discovery::MapInstance), map_instances, "map-instance";
    MapOperation(crate::discovery::MapOperation), map_operations, "map-operation";
    KmsKey(crate::kms::KmsKey), kms_keys, "kms-key";
    KmsAlias(crate::kms::KmsAlias), kms_aliases, "kms-alias";
    LogPolicy(crate::log_policy::LogPolicy), log_policies, "log-policy";
    Secret(crate::secret::Secret), secrets, "secret";
    SecretVersion(crate::secret::SecretVersion), secret_versions, "secret-version";
    Parameter(crate::parameter::Parameter), parameters, "parameter";
    ParameterVersion(crate::parameter::ParameterVersion), parameter_versions, "parameter-version";
    JoinToken(crate::node::JoinToken), join_tokens, "join-token";
    Node(crate::node::Node), nodes, "node";
    Activation(crate::node::Activation), activations, "activation";
    SecurityGroup(crate::security_group::SecurityGroup), security_groups, "security-group";
    SecurityGroupRule(crate::security_group::SecurityGroupRule), security_group_rules, "security-group-rule";
    Ec2Tags(crate::security_group::Ec2Tags), ec2_tags, "ec2-tags";
    Vpc(crate::network::VpcRow), vpcs, "vpc";
    DefaultVpcGone(crate::network::DefaultVpcGone), default_vpcs_gone, "default-vpc-gone";
    Subnet(crate::network::SubnetRow), subnets, "subnet";
    RouteTable(crate::network::RouteTable), route_tables, "route-table";
    InternetGateway(crate::network::InternetGateway), internet_gateways, "internet-gateway";
    NatGateway(crate::network::NatGateway), nat_gateways, "nat-gateway";
    ElasticAddress(crate::network::ElasticAddress), elastic_addresses, "elastic-address";
    NetworkAcl(crate::network::NetworkAcl), network_acls, "network-acl";
    DhcpOptions(crate::network::DhcpOptions), dhcp_options, "dhcp-options";
    PrefixList(crate::network::PrefixList), prefix_lists, "prefix-list";
    VpcEndpoint(crate::network::VpcEndpoint), vpc_endpoints, "vpc-endpoint";
    FlowLog(crate::network::FlowLog), flow_logs, "flow-log";
    VpcPeering(crate::network::VpcPeering), vpc_peerings, "vpc-peering";
    MetricAlarm(crate::alarm::MetricAlarm), metric_alarms, "metric-alarm";
    AlarmHistory(crate::alarm::AlarmHistory), alarm_histories, "alarm-history";
    ScalableTarget(crate::scaling::ScalableTarget), scalable_targets, "scalable-target";
    ScalingActivities(crate::scaling::ScalingActivities), scaling_activities, "scaling-activities";
    EventRule(crate::event::EventRule), event_rules, "event-rule";
    PendingEvent(crate::event::PendingEvent), pending_events, "pending-event";
}

impl Row {
    /// The row with what rows before it have as well taken from those.
    #[must_use]
    pub fn shared(mut self, sharing: &mut Sharing) -> Self {
        if let Self::Task(task) = &mut self {
            sharing.share(Arc::make_mut(task));
        }
        self
    }
}

impl fmt::Display for Key {
    /// `cluster/000000000000/demo`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind().name(), self.account(), self.id_text())
    }
}

impl View {
    /// How many rows of all kinds there are.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows of an index that are no tasks, by key.
    pub fn members<'a>(&'a self, index: &Index) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.indexes.get(index).into_iter().flat_map(Members::others)
    }

    pub(crate) fn members_of(&self, index: &Index) -> Option<&Members> {
        self.indexes.get(index)
    }

    /// The indexes from one to another, both included, as far as they have rows; of no instances.
    pub(crate) fn indexes(
        &self,
        first: Index,
        last: Index,
    ) -> impl Iterator<Item = (&Index, &Members)> {
        self.indexes.range(first, last)
    }

    /// The instances on which tasks are that are not yet stopped, and these.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = (InstanceId, &Members)> {
        self.indexes.occupied()
    }

    /// How many rows an index has.
    pub fn member_count(&self, index: &Index) -> usize {
        self.indexes.get(index).map_or(0, Members::len)
    }

    /// How many indexes have rows: there is none without.
    pub fn index_count(&self) -> usize {
        self.indexes.len()
    }

    /// When what a decision relied on last changed; `None` if it is not there.
    ///
    /// A row that is gone leaves no trace here, nor does an index that lost its last row: a store keeps the
    /// recent ones itself.
    pub fn changed_at(&self, dep: &Dep) -> Option<Seq> {
        match dep {
            Dep::Row(key) => self.seq_of(key),
            Dep::All(index) => self.indexes.get(index).map(|members| members.seq),
        }
    }

    /// How many rows are counted for a tally.
    pub fn tally(&self, tally: &Tally) -> usize {
        self.tallies.get(tally).copied().unwrap_or(0)
    }

    /// The tallies from one on, as far as rows are counted for them.
    pub(crate) fn tallies_from(&self, first: Tally) -> impl Iterator<Item = &Tally> {
        self.tallies.range(first..).map(|(tally, _)| tally)
    }

    /// Counts a row as it is instead of as it was.
    fn count(&mut self, before: Option<&Row>, now: Option<&Row>) {
        let of = |row: Option<&Row>| row.map(Row::tallies).unwrap_or_default();
        let (before, now) = (of(before), of(now));
        for tally in before.iter().filter(|tally| !now.contains(tally)) {
            match self.tallies.get_mut(tally) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) => drop(self.tallies.remove(tally)),
                None => {}
            }
        }
        for tally in now.into_iter().filter(|tally| !before.contains(tally)) {
            *self.tallies.entry(tally).or_default() += 1;
        }
    }
}
