//! Elastic Load Balancing: balancers, their listeners and rules, target groups and what is registered in them.
//!
//! A row's id is the end of its ARN, so that an ARN is found without a search: `app/web/50dc6c495c0c9188` of a
//! balancer, with the listener's and the rule's digits behind it; `web/73e2d6bc24d8a067` of a target group.
//!
//! **Invariants:** what a row says is what balancers do: settings that nothing acts on are refused before there is a
//! row. A target is there until no balancer has anything in flight to it, or its time to finish is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_types::{
    AccountId, EniId, InstanceId, Scope, SecurityGroupId, SubnetId, TaskId, Timestamp, Uuid, VpcId,
};
use serde::{Deserialize, Serialize};

use crate::service::ServiceId;
use crate::table::Record;
use crate::tags::Tags;
use crate::view::Index;

/// The end of an ARN.
pub type ElbPath = Arc<str>;

/// The attribute of balancers whose traffic may be led away from a zone.
pub const ZONAL_SHIFT: &str = "zonal_shift.config.enabled";

/// What was set of attributes, by key; those that are not here have their default.
pub type Attributes = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BalancerKind {
    Application,
    Network,
}

impl BalancerKind {
    /// As ARNs name it.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Application => "app",
            Self::Network => "net",
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Network => "network",
        }
    }
}

/// A balancer's interface in a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BalancerZone {
    pub zone: String,
    pub subnet: SubnetId,
    pub eni: EniId,
    pub address: Ipv4Addr,
    /// Written by the placement of balancers only.
    #[serde(default, skip_serializing_if = "Stand::is_usual")]
    pub stand: Stand,
    /// Hosts that it came to and was not served at, which are passed over for a while. Written by the placement too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// Whether too few targets of its zone are healthy for it to be named, as long as there are better ones. Written from
    /// what balancers report only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_unwell: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A host on which nobody took connections at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    pub host: InstanceId,
    pub until: Timestamp,
    /// How often in a row that was so.
    pub times: u32,
}

/// On which host an interface of a balancer is, and how it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stand {
    /// The instance on whose host it is; none: the region's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<InstanceId>,
    #[serde(default)]
    pub state: StandState,
}

/// How an interface of a balancer is where it is, in life order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StandState {
    /// The process there has not said yet that it takes connections at it.
    Coming { since: Timestamp },
    #[default]
    Serving,
    /// Its host is not heard of.
    Away,
    /// It goes elsewhere then. Until then it serves those who know its address.
    Leaving { at: Timestamp },
}

impl BalancerZone {
    /// Whether nobody is to come to it any more.
    pub fn is_leaving(&self) -> bool {
        matches!(self.stand.state, StandState::Leaving { .. })
    }
}

impl Stand {
    /// On a host from now on; none: on the region's own machine.
    pub fn coming(host: Option<InstanceId>, now: Timestamp) -> Self {
        Self { host, state: StandState::Coming { since: now } }
    }

    fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the balancer's name is to be answered with the interface's address.
    pub fn is_named(&self) -> bool {
        match self.state {
            StandState::Serving => true,
            StandState::Coming { .. } | StandState::Away | StandState::Leaving { .. } => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElbBalancer {
    pub scope: Scope,
    pub kind: BalancerKind,
    pub name: String,
    /// Sixteen hexadecimal digits.
    pub digits: String,
    /// The number in the DNS name of an application balancer.
    pub dns_number: u32,
    pub is_internal: bool,
    pub vpc: VpcId,
    /// By subnet.
    pub zones: Vec<BalancerZone>,
    /// Interfaces in subnets that were taken away, which serve those who have come for a while. No name leads there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<BalancerZone>,
    pub security_groups: Vec<SecurityGroupId>,
    /// Whether the groups of a network balancer are not to judge what comes by PrivateLink. Nothing does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exempts_private_links: bool,
    #[serde(default)]
    pub attributes: Attributes,
    #[serde(default)]
    pub tags: Tags,
    pub created_at: Timestamp,
    /// The last ones, the newest last: an active one is the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shifts: Vec<ZonalShift>,
}

/// What a balancer's traffic is led away from a zone by, for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ZonalShift {
    pub id: Uuid,
    /// Such as `us-east-1a`.
    pub away_from: String,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
    pub state: ShiftState,
    pub comment: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ShiftState {
    Active,
    Expired,
    Canceled,
}

impl ElbBalancer {
    /// Whether traffic may be led away from one of its zones.
    pub fn allows_shifts(&self) -> bool {
        self.attributes.get(ZONAL_SHIFT).is_some_and(|value| value == "true")
    }

    /// By what its traffic is led away from a zone now.
    pub fn active_shift(&self) -> Option<&ZonalShift> {
        self.shifts.last().filter(|shift| shift.state == ShiftState::Active)
    }

    /// Ends that, if there is one.
    pub fn end_shift(&mut self, state: ShiftState) {
        if let Some(shift) = self.shifts.last_mut().filter(|it| it.state == ShiftState::Active) {
            shift.state = state;
        }
    }

    /// `app/web/50dc6c495c0c9188`
    pub fn path(&self) -> ElbPath {
        format!("{}/{}/{}", self.kind.short(), self.name, self.digits).into()
    }

    pub fn arn(&self) -> String {
        arn(&self.scope, "loadbalancer", &self.path())
    }

    /// Its interfaces on a host; none: on the region's own machine.
    pub fn zones_on(&self, host: Option<InstanceId>) -> impl Iterator<Item = &BalancerZone> {
        self.interfaces().filter(move |zone| zone.stand.host == host)
    }

    /// All its interfaces: those that leave are the last.
    pub fn interfaces(&self) -> impl Iterator<Item = &BalancerZone> {
        self.zones.iter().chain(&self.leaving)
    }

    /// Those by whose addresses its name is answered: not those of a zone that its traffic is led away from, unless it is in
    /// no other; those that serve, or all if none does; of them those whose zones have enough healthy targets, or all if none
    /// has.
    pub fn named_zones(&self) -> impl Iterator<Item = &BalancerZone> {
        let away = self.active_shift().map(|shift| shift.away_from.as_str());
        let stays = move |zone: &BalancerZone| away.is_none_or(|away| zone.zone != away);
        let is_elsewhere = self.zones.iter().any(stays);
        let zones = move || self.zones.iter().filter(move |zone| !is_elsewhere || stays(zone));
        let serves = zones().any(|zone| zone.stand.is_named());
        let serving = move || zones().filter(move |zone| !serves || zone.stand.is_named());
        let is_one_well = serving().any(|zone| !zone.is_unwell);
        serving().filter(move |zone| !is_one_well || !zone.is_unwell)
    }

    /// Whether new clients are led to one of its interfaces by its name.
    pub fn names(&self, zone: &BalancerZone) -> bool {
        self.named_zones().any(|it| it.eni == zone.eni)
    }

    pub fn dns_name(&self) -> String {
        let (name, region) = (&self.name, &self.scope.region);
        let prefix = if self.is_internal { "internal-" } else { "" };
        match self.kind {
            BalancerKind::Application => {
                format!("{prefix}{name}-{}.{region}.elb.amazonaws.com", self.dns_number)
            }
            BalancerKind::Network => format!("{name}-{}.elb.{region}.amazonaws.com", self.digits),
        }
    }
}

/// `arn:aws:elasticloadbalancing:<region>:<account>:<kind>/<path>`
pub fn arn(scope: &Scope, kind: &str, path: &str) -> String {
    format!("arn:aws:elasticloadbalancing:{}:{}:{kind}/{path}", scope.region, scope.account)
}

/// The kind and the path of an ARN of the scope; none of another's.
pub fn path_of<'a>(scope: &Scope, arn: &'a str) -> Option<(&'a str, &'a str)> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", "aws", "elasticloadbalancing", region, account, rest] = parts.as_slice() else {
        return None;
    };
    let is_own = *region == scope.region.as_str() && *account == scope.account.as_str();
    rest.split_once('/').filter(|_| is_own)
}

/// The balancer's part of a listener's or a rule's path, which is that of the balancer.
pub fn balancer_path(path: &str) -> &str {
    nth_slash(path, 3)
}

/// The listener's part of a rule's path.
pub fn listener_path(path: &str) -> &str {
    nth_slash(path, 4)
}

/// What is before the slash of that number, or all.
fn nth_slash(path: &str, number: usize) -> &str {
    path.match_indices('/').nth(number - 1).map_or(path, |(at, _)| &path[..at])
}

impl Record for ElbBalancer {
    type Id = ElbPath;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> ElbPath {
        self.path()
    }

    fn indexes(&self) -> Vec<Index> {
        vec![Index::MapNames(self.scope.account)]
    }
}

/// A word that AWS has for a protocol of listeners, targets and checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ElbProtocol {
    Http,
    Https,
    Tcp,
    Tls,
    Udp,
    TcpUdp,
}

impl ElbProtocol {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Udp => "UDP",
            Self::TcpUdp => "TCP_UDP",
        }
    }

    /// Whose balancers speak it.
    pub const fn kind(self) -> BalancerKind {
        match self {
            Self::Http | Self::Https => BalancerKind::Application,
            Self::Tcp | Self::Tls | Self::Udp | Self::TcpUdp => BalancerKind::Network,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GroupVersion {
    Http1,
    Http2,
    Grpc,
}

impl GroupVersion {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP1",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
        }
    }
}

/// What is registered in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GroupTargets {
    /// Container instances, with a port of theirs.
    Instance,
    Ip,
    /// An application balancer, by its ARN.
    Alb,
}

/// How a group's targets are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupCheck {
    pub protocol: ElbProtocol,
    /// None: the port that is served.
    pub port: Option<u16>,
    /// None with TCP.
    pub path: Option<String>,
    pub interval_s: u32,
    pub timeout_s: u32,
    pub healthy_count: u32,
    pub unhealthy_count: u32,
    /// Codes such as `200-399`; none with TCP.
    pub matcher: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElbGroup {
    pub scope: Scope,
    pub name: String,
    /// Sixteen hexadecimal digits.
    pub digits: String,
    pub protocol: ElbProtocol,
    pub port: u16,
    /// Of groups behind application balancers.
    pub version: Option<GroupVersion>,
    pub targets: GroupTargets,
    pub vpc: VpcId,
    pub check: GroupCheck,
    #[serde(default)]
    pub attributes: Attributes,
    #[serde(default)]
    pub tags: Tags,
    pub created_at: Timestamp,
}

impl ElbGroup {
    /// `web/73e2d6bc24d8a067`
    pub fn path(&self) -> ElbPath {
        format!("{}/{}", self.name, self.digits).into()
    }

    pub fn arn(&self) -> String {
        arn(&self.scope, "targetgroup", &self.path())
    }

    /// For how long what a target has in flight when it is deregistered may go on.
    pub fn deregistration_delay_ms(&self) -> u64 {
        let given = self.attributes.get("deregistration_delay.timeout_seconds");
        given.and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or(300) * 1000
    }
}

impl Record for ElbGroup {
    type Id = ElbPath;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> ElbPath {
        self.path()
    }
}

/// A group among those that an action forwards to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedGroup {
    pub group: ElbPath,
    pub weight: u32,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ElbAction {
    Forward {
        /// In the order in which they were given, which answers keep.
        groups: Vec<WeightedGroup>,
        /// For how long a client stays with the group it came to.
        sticky_s: Option<u32>,
    },
    Redirect {
        protocol: String,
        host: String,
        port: String,
        path: String,
        query: String,
        is_permanent: bool,
    },
    Fixed {
        status: u16,
        content_type: Option<String>,
        body: Option<String>,
    },
}

impl ElbAction {
    /// The groups that it names.
    pub fn groups(&self) -> &[WeightedGroup] {
        match self {
            Self::Forward { groups, .. } => groups,
            Self::Redirect { .. } | Self::Fixed { .. } => &[],
        }
    }
}

/// What a request must be like. Values are wildcard patterns, or regular expressions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ElbCondition {
    Host { values: Vec<String>, is_regex: bool },
    Path { values: Vec<String>, is_regex: bool },
    Header { name: String, values: Vec<String>, is_regex: bool },
    Query { pairs: Vec<(Option<String>, String)> },
    Method { values: Vec<String> },
    SourceIp { values: Vec<String> },
}

/// A regular expression, and what its match becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElbRewrite {
    pub regex: String,
    pub replace: String,
}

/// What a TLS listener of a network balancer offers of protocols within the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ElbAlpn {
    #[default]
    None,
    Http1Only,
    Http2Only,
    Http2Optional,
    Http2Preferred,
}

impl ElbAlpn {
    pub const ALL: &[Self] =
        &[Self::None, Self::Http1Only, Self::Http2Only, Self::Http2Optional, Self::Http2Preferred];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Http1Only => "HTTP1Only",
            Self::Http2Only => "HTTP2Only",
            Self::Http2Optional => "HTTP2Optional",
            Self::Http2Preferred => "HTTP2Preferred",
        }
    }
}

/// How an HTTPS or TLS listener meets clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// `ELBSecurityPolicy-…`
    pub policy: String,
    /// Certificate Manager's, by its id.
    pub certificate: Uuid,
    /// Those that are shown to clients that name a host of theirs.
    #[serde(default)]
    pub others: BTreeSet<Uuid>,
    #[serde(default)]
    pub alpn: ElbAlpn,
}

impl ListenerTls {
    /// The default one first; each once.
    pub fn certificates(&self) -> impl Iterator<Item = Uuid> + use<'_> {
        let others = self.others.iter().filter(|id| **id != self.certificate);
        std::iter::once(self.certificate).chain(others.copied())
    }
}

/// A listener, with its default rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElbListener {
    pub scope: Scope,
    pub balancer: ElbPath,
    pub digits: String,
    pub port: u16,
    pub protocol: ElbProtocol,
    /// With HTTPS and TLS.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// The digits of the default rule.
    pub default_rule: String,
    pub default_action: ElbAction,
    /// `Order` of the default action, as it was sent.
    #[serde(default)]
    pub order: Option<i32>,
    #[serde(default)]
    pub attributes: Attributes,
    #[serde(default)]
    pub tags: Tags,
}

impl ElbListener {
    pub fn path(&self) -> ElbPath {
        format!("{}/{}", self.balancer, self.digits).into()
    }

    pub fn arn(&self) -> String {
        arn(&self.scope, "listener", &self.path())
    }

    pub fn default_rule_arn(&self) -> String {
        arn(&self.scope, "listener-rule", &format!("{}/{}", self.path(), self.default_rule))
    }
}

impl Record for ElbListener {
    type Id = ElbPath;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> ElbPath {
        self.path()
    }

    fn indexes(&self) -> Vec<Index> {
        let account = self.scope.account;
        let mut indexes = vec![Index::ElbListeners(account, Arc::clone(&self.balancer))];
        indexes.extend(users(account, &self.default_action));
        let certificates = self.tls.iter().flat_map(ListenerTls::certificates);
        indexes.extend(certificates.map(|id| Index::CertificateListeners(account, id)));
        indexes
    }
}

/// The groups' indexes that an action's row is found under.
fn users(account: AccountId, action: &ElbAction) -> impl Iterator<Item = Index> + use<'_> {
    action.groups().iter().map(move |each| Index::ElbUsers(account, Arc::clone(&each.group)))
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElbRule {
    pub scope: Scope,
    pub listener: ElbPath,
    pub digits: String,
    pub priority: u32,
    pub conditions: Vec<ElbCondition>,
    pub action: ElbAction,
    #[serde(default)]
    pub order: Option<i32>,
    #[serde(default)]
    pub host_rewrite: Option<ElbRewrite>,
    #[serde(default)]
    pub url_rewrite: Option<ElbRewrite>,
    #[serde(default)]
    pub tags: Tags,
}

impl ElbRule {
    pub fn path(&self) -> ElbPath {
        format!("{}/{}", self.listener, self.digits).into()
    }

    pub fn arn(&self) -> String {
        arn(&self.scope, "listener-rule", &self.path())
    }
}

impl Record for ElbRule {
    type Id = ElbPath;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> ElbPath {
        self.path()
    }

    fn indexes(&self) -> Vec<Index> {
        let account = self.scope.account;
        let mut indexes = vec![Index::ElbRules(account, Arc::clone(&self.listener))];
        indexes.extend(users(account, &self.action));
        indexes
    }
}

/// Names a target within its account: the same address on two ports is two targets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId {
    pub group: ElbPath,
    /// An address, an instance's id, or a balancer's ARN.
    pub target: Arc<str>,
    pub port: u16,
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}|{}", self.group, self.target, self.port)
    }
}

/// Why a target's checks fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckFailure {
    /// It answered with this code.
    Code(u16),
    Timeout,
    /// Refused, cut off, or no HTTP.
    Failed,
}

impl fmt::Display for CheckFailure {
    /// As `Description` of its health, and in ECS's events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "Health checks failed with these codes: [{code}]"),
            Self::Timeout => f.write_str("Request timed out"),
            Self::Failed => f.write_str("Health checks failed"),
        }
    }
}

/// How a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetHealth {
    /// No check has been decisive yet.
    Initial,
    Healthy,
    Unhealthy(CheckFailure),
    /// Deregistered: no new request since; what is in flight may go on until then.
    Draining {
        until: Timestamp,
    },
}

/// The task that a service registered as a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetTask {
    pub service: ServiceId,
    pub task: TaskId,
}

/// One target of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElbTarget {
    pub scope: Scope,
    pub id: TargetId,
    /// Where it is reached.
    pub address: Ipv4Addr,
    pub zone: Option<String>,
    pub registered_at: Timestamp,
    pub health: TargetHealth,
    /// Since when it is unhealthy, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_since: Option<Timestamp>,
    #[serde(default)]
    pub task: Option<TargetTask>,
}

impl ElbTarget {
    /// As it is from now on.
    #[must_use]
    pub fn with_health(&self, health: TargetHealth, now: Timestamp) -> Self {
        let unhealthy_since = match health {
            TargetHealth::Unhealthy(_) => Some(self.unhealthy_since.unwrap_or(now)),
            TargetHealth::Initial | TargetHealth::Healthy | TargetHealth::Draining { .. } => None,
        };
        Self { health, unhealthy_since, ..self.clone() }
    }

    pub fn is_draining(&self) -> bool {
        matches!(self.health, TargetHealth::Draining { .. })
    }
}

impl Record for ElbTarget {
    type Id = TargetId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> TargetId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        let mut indexes = vec![Index::ElbTargets(self.scope.account, Arc::clone(&self.id.group))];
        if self.id.target.starts_with("arn:") {
            let target = Arc::clone(&self.id.target);
            indexes.push(Index::ElbTargetsOf(self.scope.account, target));
        }
        if self.is_draining() {
            indexes.push(Index::ElbDraining);
        }
        if let Some(of) = &self.task {
            indexes.push(Index::TaskTargets(self.scope.account, of.task));
        }
        indexes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope { region: "us-east-1".parse().unwrap(), account: "000000000000".parse().unwrap() }
    }

    #[test]
    fn an_arn_leads_to_its_row_and_to_those_above_it() {
        let path = "app/web/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee";
        let text = arn(&scope(), "listener-rule", path);
        assert_eq!(path_of(&scope(), &text), Some(("listener-rule", path)));
        assert_eq!(balancer_path(path), "app/web/50dc6c495c0c9188");
        assert_eq!(listener_path(path), "app/web/50dc6c495c0c9188/f2f7dc8efc522ab2");
        assert_eq!(balancer_path("app/web/50dc6c495c0c9188"), "app/web/50dc6c495c0c9188");
    }

    #[test]
    fn arns_of_others_lead_nowhere() {
        for other in [
            "arn:aws:elasticloadbalancing:eu-west-1:000000000000:targetgroup/web/73e2d6bc24d8a067",
            "arn:aws:elasticloadbalancing:us-east-1:111111111111:targetgroup/web/73e2d6bc24d8a067",
            "arn:aws:ecs:us-east-1:000000000000:targetgroup/web/73e2d6bc24d8a067",
            "targetgroup/web/73e2d6bc24d8a067",
        ] {
            assert_eq!(path_of(&scope(), other), None, "{other}");
        }
    }
}
