//! VPC endpoints: ways from a VPC to services of the region that lead through no gateway.
//!
//! **Invariant:** which services there are, under which names they are asked for and which requests they answer is
//! said here once, for the operations, the names that hosts tell, the listener and its certificate.

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use longshore_types::{
    AccountId, EniId, PrefixListId, RegionName, RouteTableId, SecurityGroupId, SubnetId, Timestamp,
    VpcEndpointId, VpcId,
};
use policy::{Policy, PolicyKind};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::view::Index;

/// A VPC endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcEndpoint {
    pub account: AccountId,
    pub id: VpcEndpointId,
    pub vpc: VpcId,
    /// By its short name: `ecr.api`.
    pub service: String,
    pub kind: EndpointKind,
    /// None: everything is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<EndpointPolicy>,
    pub created_at: Timestamp,
}

/// By what the service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointKind {
    /// By an interface in each of some subnets.
    Interface(InterfaceEndpoint),
    /// By a route in each of some route tables.
    Gateway { tables: Vec<RouteTableId> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceEndpoint {
    /// In the order of their zones, of which each has one at most.
    pub zones: Vec<EndpointZone>,
    pub groups: Vec<SecurityGroupId>,
    /// Whether the service's own names lead to it within the VPC.
    pub has_private_names: bool,
}

/// An endpoint's interface in a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointZone {
    pub zone: String,
    pub subnet: SubnetId,
    pub eni: EniId,
    pub address: Ipv4Addr,
}

/// A name of an endpoint, and the interfaces that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    pub name: String,
    /// Whether all names below it lead there too.
    pub has_all_below: bool,
    pub zones: Vec<EndpointZone>,
}

impl VpcEndpoint {
    /// What it has if it is one by interfaces.
    pub fn interface(&self) -> Option<&InterfaceEndpoint> {
        match &self.kind {
            EndpointKind::Interface(interface) => Some(interface),
            EndpointKind::Gateway { .. } => None,
        }
    }

    /// The route tables that lead to it.
    pub fn tables(&self) -> &[RouteTableId] {
        match &self.kind {
            EndpointKind::Interface(_) => &[],
            EndpointKind::Gateway { tables } => tables,
        }
    }

    /// What of its names is its own: `vpce-0123456789abcdef0-89abcdef`.
    fn label(&self) -> String {
        let id = self.id.as_str();
        let end = id.len().saturating_sub(8);
        format!("{id}-{}", id.get(end..).unwrap_or_default())
    }

    /// The endpoint's own names: of all its interfaces, and of each zone's.
    pub fn own_names(&self, region: &RegionName) -> Vec<EndpointName> {
        let Some(interface) = self.interface() else { return vec![] };
        let (label, below) = (self.label(), own_domain(&self.service, region));
        let name = |name: String, zones: Vec<EndpointZone>| EndpointName {
            name,
            has_all_below: false,
            zones,
        };
        let all = name(format!("{label}.{below}"), interface.zones.clone());
        let zonal = interface
            .zones
            .iter()
            .map(|zone| name(format!("{label}-{}.{below}", zone.zone), vec![zone.clone()]));
        std::iter::once(all).chain(zonal).collect()
    }

    /// The service's names, where they lead to the endpoint.
    pub fn private_names(&self, region: &RegionName) -> Vec<EndpointName> {
        let interface = self.interface().filter(|it| it.has_private_names);
        let service = EndpointService::of(&self.service);
        let Some((interface, service)) = interface.zip(service) else { return vec![] };
        vec![EndpointName {
            name: service.private_name(region),
            has_all_below: service.has_names_below,
            zones: interface.zones.clone(),
        }]
    }
}

impl Record for VpcEndpoint {
    type Id = VpcEndpointId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> VpcEndpointId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        let uses = |id: &str| Index::Ec2Uses(self.account, id.into());
        let tables = self.tables().iter().map(|table| uses(table.as_str()));
        let names = self.interface().map(|_| Index::MapNames(self.account));
        let groups = self.interface().into_iter().flat_map(|it| &it.groups);
        let groups = groups.map(|group| uses(group.as_str()));
        tables.chain([uses(self.vpc.as_str())]).chain(groups).chain(names).collect()
    }
}

/// The domain of the endpoints of a service: `logs.us-east-1.vpce.amazonaws.com`.
fn own_domain(service: &str, region: &RegionName) -> String {
    format!("{service}.{region}.vpce.amazonaws.com")
}

/// A service of the region that has interface endpoints.
#[derive(Debug, PartialEq, Eq)]
pub struct EndpointService {
    /// `ecr.api`: its name after `com.amazonaws.REGION.`
    pub name: &'static str,
    /// Its own name before `REGION.amazonaws.com`.
    label: &'static str,
    /// Whether all names below that are its own too.
    pub has_names_below: bool,
    /// The APIs that answer there, by the names that requests are signed for.
    pub apis: &'static [&'static str],
    /// Whether images are pulled and pushed there.
    pub is_registry: bool,
}

const fn plain(name: &'static str, apis: &'static [&'static str]) -> EndpointService {
    named(name, name, apis)
}

const fn named(
    name: &'static str,
    label: &'static str,
    apis: &'static [&'static str],
) -> EndpointService {
    EndpointService { name, label, has_names_below: false, apis, is_registry: false }
}

/// By name.
const SERVICES: &[EndpointService] = &[
    plain("acm", &["acm"]),
    plain("data-servicediscovery", &["servicediscovery"]),
    plain("ec2", &["ec2"]),
    named("ecr.api", "api.ecr", &["ecr"]),
    EndpointService {
        name: "ecr.dkr",
        label: "dkr.ecr",
        has_names_below: true,
        apis: &[],
        is_registry: true,
    },
    plain("ecs", &["ecs"]),
    named("ecs-agent", "ecs-a", &["ecs"]),
    named("ecs-telemetry", "ecs-t", &["ecs"]),
    plain("elasticloadbalancing", &["elasticloadbalancing"]),
    plain("events", &["events"]),
    plain("kms", &["kms"]),
    plain("logs", &["logs"]),
    plain("secretsmanager", &["secretsmanager"]),
    plain("servicediscovery", &["servicediscovery"]),
    plain("ssm", &["ssm"]),
    plain("sts", &["sts"]),
    plain("tagging", &["tagging"]),
];

impl EndpointService {
    /// All of them, by name.
    pub fn all() -> &'static [Self] {
        SERVICES
    }

    /// The one with a short name.
    pub fn of(name: &str) -> Option<&'static Self> {
        SERVICES.iter().find(|service| service.name == name)
    }

    /// `api.ecr.us-east-1.amazonaws.com`
    pub fn private_name(&self, region: &RegionName) -> String {
        format!("{}.{region}.amazonaws.com", self.label)
    }

    /// As certificates and DescribeVpcEndpointServices have its private name: `*.dkr.ecr.us-east-1.amazonaws.com`.
    pub fn private_pattern(&self, region: &RegionName) -> String {
        let name = self.private_name(region);
        if self.has_names_below { format!("*.{name}") } else { name }
    }

    /// `logs.us-east-1.vpce.amazonaws.com`, below which the endpoints' own names are.
    pub fn own_domain(&self, region: &RegionName) -> String {
        own_domain(self.name, region)
    }

    /// All names that a certificate for its endpoints must have.
    pub fn certificate_names(&self, region: &RegionName) -> Vec<String> {
        let mut names =
            vec![self.private_pattern(region), format!("*.{}", self.own_domain(region))];
        if self.has_names_below {
            names.push(self.private_name(region));
        }
        names
    }
}

/// Services that are reached by a gateway alone, each with the prefix list of AWS's that says where it is.
pub const GATEWAY_SERVICES: [(&str, &str); 2] =
    [("dynamodb", "pl-02cd2c6b"), ("s3", "pl-63a5400a")];

/// The prefix list by which the routes to a service's gateways lead.
pub(super) fn gateway_list(service: &str) -> Option<PrefixListId> {
    let found = GATEWAY_SERVICES.iter().find(|(name, _)| *name == service);
    found.and_then(|(_, list)| list.parse().ok())
}

/// What may be asked for by an endpoint, as it was given, with what it was compiled to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointPolicy {
    text: Arc<str>,
    #[serde(skip)]
    compiled: OnceLock<Option<Arc<Policy>>>,
}

impl EndpointPolicy {
    pub fn new(policy: Policy) -> Self {
        let text = Arc::clone(policy.text());
        Self { text, compiled: OnceLock::from(Some(Arc::new(policy))) }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// `None` for a document that was accepted once and cannot be read any more: nothing is allowed.
    pub fn policy(&self) -> Option<&Arc<Policy>> {
        let read = || Policy::parse(&self.text, PolicyKind::Resource).ok().map(Arc::new);
        self.compiled.get_or_init(read).as_ref()
    }
}

impl PartialEq for EndpointPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for EndpointPolicy {}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(service: &str) -> VpcEndpoint {
        let zone = |letter: char, last: u8| EndpointZone {
            zone: format!("us-east-1{letter}"),
            subnet: "subnet-00000001".parse().unwrap(),
            eni: "eni-00000001".parse().unwrap(),
            address: [10, 0, 1, last].into(),
        };
        VpcEndpoint {
            account: "111111111111".parse().unwrap(),
            id: "vpce-0123456789abcdef0".parse().unwrap(),
            vpc: "vpc-00000001".parse().unwrap(),
            service: service.to_owned(),
            kind: EndpointKind::Interface(InterfaceEndpoint {
                zones: vec![zone('a', 5), zone('b', 6)],
                groups: vec![],
                has_private_names: true,
            }),
            policy: None,
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn an_endpoints_names_are_within_what_certificates_are_for() {
        let region: RegionName = "us-east-1".parse().unwrap();
        for service in EndpointService::all() {
            let row = endpoint(service.name);
            let mut names = row.own_names(&region);
            assert_eq!(names.iter().map(|name| name.zones.len()).collect::<Vec<_>>(), [2, 1, 1]);
            names.extend(row.private_names(&region));
            let certified = service.certificate_names(&region);
            for EndpointName { name, has_all_below, .. } in names {
                let (_, above) = name.split_once('.').unwrap();
                let is_certified = |name: &str| certified.iter().any(|certified| certified == name);
                assert!(is_certified(&name) || is_certified(&format!("*.{above}")), "{name}");
                assert!(!has_all_below || is_certified(&format!("*.{name}")), "{name}");
            }
        }
        let all = &endpoint("logs").own_names(&region)[1].name;
        assert_eq!(
            all,
            "vpce-0123456789abcdef0-9abcdef0-us-east-1a.logs.us-east-1.vpce.amazonaws.com"
        );
    }

    #[test]
    fn services_are_found_by_name_and_in_order() {
        assert!(SERVICES.is_sorted_by_key(|service| service.name));
        assert_eq!(EndpointService::of("ecr.dkr").map(|service| service.is_registry), Some(true));
        assert_eq!(EndpointService::of("s3"), None);
    }

    #[test]
    fn a_policy_that_cannot_be_read_any_more_allows_nothing() {
        let stored: EndpointPolicy = serde_json::from_str("\"{}\"").unwrap();
        assert!(stored.policy().is_none());
        let text =
            r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}"#;
        let policy = EndpointPolicy::new(Policy::parse(text, PolicyKind::Resource).unwrap());
        let again: EndpointPolicy =
            serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
        assert_eq!(again, policy);
        assert!(again.policy().is_some());
    }
}
