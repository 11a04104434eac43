//! AWS Cloud Map: namespaces, the services in them, and the instances that those have.
//!
//! **Invariant:** `revision` of a service is raised in the commit that registers, changes or deregisters an instance of
//! it, and by nothing else.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use longshore_types::{AccountId, DeploymentId, IdSource, Scope, TaskId, Timestamp, Uuid, VpcId};
use serde::{Deserialize, Serialize};
use traffic::connect::{ConnectPart, TestHeader};

use crate::rows::{Key, View};
use crate::service::{ConnectEndpoint, ServiceId, Share};
use crate::table::Record;
use crate::tags::Tags;
use crate::view::Index;

/// Namespaces of an account, as at Amazon, whoever makes them.
pub const NAMESPACES_MAX: usize = 50;

/// `ns-…` or `srv-…`, of sixteen letters and digits.
pub type MapId = Arc<str>;

/// `arn:aws:servicediscovery:<region>:<account>:<kind>/<id>`
pub fn arn(scope: &Scope, kind: &str, id: &str) -> String {
    format!("arn:aws:servicediscovery:{}:{}:{kind}/{id}", scope.region, scope.account)
}

/// The id that is given as it is or as the end of an ARN of the scope; none of another's ARN.
pub fn id_of<'a>(scope: &Scope, kind: &str, given: &'a str) -> Option<&'a str> {
    if !given.starts_with("arn:") {
        return Some(given);
    }
    let (_, id) = given.rsplit_once('/')?;
    (arn(scope, kind, id) == given).then_some(id)
}

/// Whether an ARN is of the scope.
pub fn is_of(scope: &Scope, text: &str) -> bool {
    let start = format!("arn:aws:servicediscovery:{}:{}:", scope.region, scope.account);
    text.starts_with(&start)
}

/// A new id: `prefix` and sixteen letters and digits.
pub fn new_id(prefix: &str, ids: &dyn IdSource) -> MapId {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let letters = ids.id16().map(|byte| char::from(ALPHABET[usize::from(byte) % 32]));
    prefix.chars().chain(letters).collect::<String>().into()
}

/// How what is in a namespace is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NamespaceKind {
    /// By DiscoverInstances alone.
    Http,
    /// By names in the VPC too.
    PrivateDns { vpc: VpcId, zone: String, soa_ttl_s: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapNamespace {
    pub scope: Scope,
    pub id: MapId,
    pub name: String,
    pub kind: NamespaceKind,
    #[serde(default)]
    pub description: Option<String>,
    pub created_at: Timestamp,
    /// Whoever asks for the same with it again means this one.
    pub request: String,
    #[serde(default)]
    pub tags: Tags,
}

impl MapNamespace {
    pub fn arn(&self) -> String {
        arn(&self.scope, "namespace", &self.id)
    }

    pub fn is_dns(&self) -> bool {
        matches!(self.kind, NamespaceKind::PrivateDns { .. })
    }
}

impl Record for MapNamespace {
    type Id = MapId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> MapId {
        Arc::clone(&self.id)
    }

    fn indexes(&self) -> Vec<Index> {
        let account = self.scope.account;
        let mut indexes = vec![Index::MapNamespaces(account)];
        if self.is_dns() {
            indexes.push(Index::MapNames(account));
        }
        indexes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MapRecord {
    A,
    Aaaa,
    Srv,
    Cname,
}

impl MapRecord {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
            Self::Cname => "CNAME",
        }
    }
}

/// The names of a service's instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapDns {
    /// One instance is answered at a time rather than up to eight.
    pub is_weighted: bool,
    /// Each kind once, with its time to live in seconds.
    pub records: Vec<(MapRecord, u32)>,
}

impl MapDns {
    pub fn has(&self, kind: MapRecord) -> bool {
        self.records.iter().any(|(each, _)| *each == kind)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapService {
    pub scope: Scope,
    pub id: MapId,
    pub namespace: MapId,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    /// None: its instances have no names.
    #[serde(default)]
    pub dns: Option<MapDns>,
    /// Somebody says how its instances are.
    #[serde(default)]
    pub has_custom_health: bool,
    pub created_at: Timestamp,
    #[serde(default)]
    pub request: Option<String>,
    pub revision: u64,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    #[serde(default)]
    pub tags: Tags,
    /// What Service Connect made it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<MapConnect>,
}

/// The endpoint that a service of Cloud Map is behind, and whose that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapConnect {
    pub owner: ServiceId,
    pub endpoint: ConnectEndpoint,
    /// Where those who serve there are met with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<EndpointCertificate>,
    /// How what comes there is parted while a deployment of the owner's shifts traffic; it is written in the batch that moves
    /// the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<EndpointSplit>,
}

/// Of those that serve at an endpoint, tasks of green have their share, those of deployments that are off have nothing, and
/// all others have the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSplit {
    #[serde(default)]
    pub green: Option<EndpointGreen>,
    #[serde(default)]
    pub off: Vec<DeploymentId>,
}

/// A deployment that comes beside another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointGreen {
    pub deployment: DeploymentId,
    /// Of production's traffic.
    pub production: Share,
    /// The requests that are tests, while they go to it.
    #[serde(default)]
    pub test: Option<TestHeader>,
}

impl EndpointSplit {
    /// The part to which tasks of a deployment belong.
    pub fn part(&self, deployment: DeploymentId) -> ConnectPart {
        if self.green.as_ref().is_some_and(|green| green.deployment == deployment) {
            return ConnectPart::Green;
        }
        if self.off.contains(&deployment) { ConnectPart::Off } else { ConnectPart::Production }
    }
}

/// What those who serve at an endpoint show, signed by the region's authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCertificate {
    /// In PEM.
    pub certificate: String,
    /// Of who signed it, in PEM.
    pub authority: String,
    /// Sealed by a key of KMS, in base 64.
    pub sealed_key: String,
    /// The key that was asked for; none: the account's own of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_by: Option<(AccountId, Uuid)>,
    pub issued_at: Timestamp,
    pub not_after: Timestamp,
}

impl std::fmt::Debug for EndpointCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("EndpointCertificate");
        shown.field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl MapService {
    pub fn arn(&self) -> String {
        arn(&self.scope, "service", &self.id)
    }
}

impl Record for MapService {
    type Id = MapId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> MapId {
        Arc::clone(&self.id)
    }

    fn indexes(&self) -> Vec<Index> {
        let account = self.scope.account;
        let mut indexes = vec![Index::MapServices(account, Arc::clone(&self.namespace))];
        if self.dns.is_some() {
            indexes.push(Index::MapNames(account));
        }
        if let Some(made) = &self.connect {
            indexes.push(Index::MapConnect(account, Arc::clone(&self.namespace)));
            indexes.push(Index::MapConnectsOf(account, made.owner.clone()));
        }
        indexes
    }
}

/// Names an instance among an account's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapInstanceId {
    pub service: MapId,
    pub instance: Arc<str>,
}

impl std::fmt::Display for MapInstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.instance)
    }
}

/// What somebody said of an instance's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MapHealth {
    Healthy,
    Unhealthy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapInstance {
    pub scope: Scope,
    pub service: MapId,
    pub instance: Arc<str>,
    pub attributes: BTreeMap<String, String>,
    /// Of services with custom health.
    #[serde(default)]
    pub health: Option<MapHealth>,
    /// The task that a service of ECS registered.
    #[serde(default)]
    pub task: Option<TaskId>,
    /// Whether its service has names for it; so it is found among an account's names.
    #[serde(default)]
    pub has_names: bool,
    #[serde(default)]
    pub request: Option<String>,
    /// Of an instance behind an endpoint of Service Connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectInstance>,
}

/// How an instance is reached by Service Connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectInstance {
    pub namespace: MapId,
    pub since: Timestamp,
    /// It is to stop: nothing new is led to it, and until then at the latest it may finish what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drains_until: Option<Timestamp>,
}

impl MapInstance {
    pub fn key(&self) -> MapInstanceId {
        MapInstanceId { service: Arc::clone(&self.service), instance: Arc::clone(&self.instance) }
    }

    /// Whether nobody said that it is unhealthy.
    pub fn is_healthy(&self) -> bool {
        self.health != Some(MapHealth::Unhealthy)
    }

    fn attribute<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.attributes.get(name).and_then(|text| text.parse().ok())
    }

    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.attribute("AWS_INSTANCE_IPV4")
    }

    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.attribute("AWS_INSTANCE_IPV6")
    }

    pub fn port(&self) -> Option<u16> {
        self.attribute("AWS_INSTANCE_PORT")
    }

    /// Without the last dot.
    pub fn cname(&self) -> Option<String> {
        let name = self.attributes.get("AWS_INSTANCE_CNAME")?;
        Some(name.strip_suffix('.').unwrap_or(name).to_owned())
    }
}

impl Record for MapInstance {
    type Id = MapInstanceId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> MapInstanceId {
        self.key()
    }

    fn indexes(&self) -> Vec<Index> {
        let account = self.scope.account;
        let mut indexes = vec![Index::MapInstances(account, Arc::clone(&self.service))];
        indexes.extend(self.task.map(|task| Index::TaskMapInstances(account, task)));
        if self.has_names {
            indexes.push(Index::MapNames(account));
        }
        if let Some(connect) = &self.connect {
            indexes.push(Index::MapConnect(account, Arc::clone(&connect.namespace)));
        }
        indexes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MapOperationKind {
    CreateNamespace,
    DeleteNamespace,
    UpdateNamespace,
    UpdateService,
    RegisterInstance,
    DeregisterInstance,
}

impl MapOperationKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateNamespace => "CREATE_NAMESPACE",
            Self::DeleteNamespace => "DELETE_NAMESPACE",
            Self::UpdateNamespace => "UPDATE_NAMESPACE",
            Self::UpdateService => "UPDATE_SERVICE",
            Self::RegisterInstance => "REGISTER_INSTANCE",
            Self::DeregisterInstance => "DEREGISTER_INSTANCE",
        }
    }
}

/// Something that was done, for whoever asks whether it is. It was done in the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapOperation {
    pub scope: Scope,
    pub id: Arc<str>,
    pub kind: MapOperationKind,
    /// Ids by what they are of: `NAMESPACE`, `SERVICE`, `INSTANCE`.
    pub targets: BTreeMap<String, String>,
    pub done_at: Timestamp,
}

impl Record for MapOperation {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    fn indexes(&self) -> Vec<Index> {
        vec![Index::MapOperations(self.scope.account)]
    }
}

impl View {
    /// The services of a namespace.
    pub fn map_services_in<'v>(
        &'v self,
        account: AccountId,
        namespace: &MapId,
    ) -> impl Iterator<Item = &'v Arc<MapService>> + use<'v> {
        let index = Index::MapServices(account, Arc::clone(namespace));
        self.members(&index).filter_map(|key| {
            let Key::MapService(account, id) = key else { return None };
            self.map_services.get(*account, id)
        })
    }

    /// The instances of a service of Cloud Map.
    pub fn map_instances_of<'v>(
        &'v self,
        account: AccountId,
        service: &MapId,
    ) -> impl Iterator<Item = &'v Arc<MapInstance>> + use<'v> {
        let index = Index::MapInstances(account, Arc::clone(service));
        self.members(&index).filter_map(|key| {
            let Key::MapInstance(account, id) = key else { return None };
            self.map_instances.get(*account, id)
        })
    }

    /// The services behind the endpoints of a namespace.
    pub fn connect_services_in<'v>(
        &'v self,
        account: AccountId,
        namespace: &MapId,
    ) -> impl Iterator<Item = (&'v Arc<MapService>, &'v MapConnect)> + use<'v> {
        let index = Index::MapConnect(account, Arc::clone(namespace));
        self.members(&index).filter_map(|key| {
            let Key::MapService(account, id) = key else { return None };
            let service = self.map_services.get(*account, id)?;
            Some((service, service.connect.as_ref()?))
        })
    }

    /// The instances that a task is.
    pub fn map_instances_of_task<'v>(
        &'v self,
        account: AccountId,
        task: TaskId,
    ) -> impl Iterator<Item = &'v Arc<MapInstance>> + use<'v> {
        let index = Index::TaskMapInstances(account, task);
        self.members(&index).filter_map(|key| {
            let Key::MapInstance(account, id) = key else { return None };
            self.map_instances.get(*account, id)
        })
    }
}
