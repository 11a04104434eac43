//! What a load balancer must know, and how it decides with it: pure, shared by the region and the balancer.
//!
//! The region makes a [`Table`] from its rows: every balancer of the region with its listeners, rules and
//! target groups. A balancer's process reads it ([`Update`]: whole, or as change since a version), keeps it on disk, and
//! serves by it ([`wire`]). What it sees comes back as a [`Report`]: which version it serves by, how targets answer its
//! checks, and how many requests each of them still holds. Both sides are levels, not edges: a lost update or
//! report is made good by the next one.
//!
//! How a request is decided: [`Rules::find`] names the rule, [`choose::group`] and [`choose::target`] where it is
//! forwarded, [`redirect`] and [`forwarded`] what is written; [`Health`] is what checks amount to.
//!
//! Nothing here reads a clock or draws a number: times and seeds are arguments.
//!
//! **Invariant:** a table that was read is served, whatever it holds: what cannot be understood of it (a regular
//! expression that does not compile, a group that is not there) matches nothing or answers 503, and is named.

mod balancer;
pub mod choose;
mod compiled;
mod counted;
pub mod forwarded;
mod glob;
mod group;
mod head;
mod health;
mod ids;
pub mod introduction;
pub mod limits;
pub mod redirect;
mod report;
mod rule;
mod source;
mod table;
#[cfg(test)]
mod tests;
pub mod wire;
mod zones;

pub use balancer::{
    AccessLogs, Alpn, Balancer, BalancerAttributes, ClientRule, DesyncMode, ForwardedFor, Front,
    Interface, InterfaceRef, Introducers, Kind, Listener, ListenerAttributes, ListenerProtocol,
    Scheme, SecretKey, TlsSettings, egress_listener,
};
pub use compiled::{CompiledRule, NotARegex, RewriteFailed, Rules, check_regex};
pub use counted::CountedFor;
pub use group::{
    Algorithm, CheckPort, CheckProtocol, HealthCheck, Matcher, NotAMatcher, ProtocolVersion,
    Stickiness, Target, TargetGroup, TargetIdentity, TargetProtocol, TargetState,
};
pub use head::{Head, Headers, normal_path, without_port};
pub use health::{Health, Outcome};
pub use ids::{BalancerId, CertificateId, EndpointId, GroupId, ListenerId, RuleId, TargetKey};
pub use report::{Anomaly, Finding, REPORT_INTERVAL_MS, Report, TargetReport};
pub use rule::{
    Action, Condition, Pattern, RedirectStatus, Rewrite, Rule, Transforms, WeightedGroup,
};
pub use source::{NotASource, Source};
pub use table::{Certificate, Change, Endpoint, PublishedPort, Table, Update};
pub use zones::Zones;
