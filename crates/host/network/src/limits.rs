//! Every limit of this crate.

use std::time::Duration;

/// Endpoints of one region on one host; the bridge range alone holds 4,093.
pub const ENDPOINTS_MAX: usize = 8192;
/// As many host ports as ECS lets a container publish.
pub const PORTS_PER_ENDPOINT_MAX: usize = 100;
/// Interfaces of other hosts that one host is told of; more of them are not reached from here.
pub const REMOTES_MAX: usize = 65_536;
/// Where hosts take each other's packets in, over UDP. Not VXLAN's usual port, which others on the host may use.
pub const TUNNEL_PORT: u16 = 14_789;
/// What a packet between hosts is longer by.
pub(crate) const TUNNEL_OVERHEAD: u32 = 50;
/// What it is longer by where it is encrypted besides: header, nonce, padding to four bytes, and the tag that proves it.
pub(crate) const ESP_OVERHEAD: u32 = 34;
/// Routes and neighbours that are asked for together: their answers must fit the socket.
pub(crate) const ROUTES_PER_EXCHANGE: usize = 64;
/// VPCs in which a host has interfaces at one time, besides the default ones.
pub const ROUTERS_MAX: usize = 256;
/// Namespaces kept ready for each of them.
pub(crate) const ROUTER_POOL: usize = 2;
/// Commands that share one transaction.
pub(crate) const TURN_COMMANDS_MAX: usize = 64;
/// Threads that make namespaces ahead of need; the kernel makes them one at a time anyway.
pub(crate) const MAKERS: usize = 2;
/// Numbers of links that are set aside at once: a killed process wastes as many at most.
pub(crate) const LINK_NUMBERS_AHEAD: u32 = 256;
/// How long a link may outlive its endpoint by itself before it is deleted.
pub(crate) const LINK_LINGER: Duration = Duration::from_secs(1);
/// How long the connections of several endpoints are gathered before they are cleared in one walk.
pub(crate) const FORGETTING_PAUSE: Duration = Duration::from_millis(200);
/// How long an endpoint waits at most for its address to be cleared; a walk takes 10 ms.
pub(crate) const FORGETTING: Duration = Duration::from_secs(5);

/// DNS questions that are on their way to a resolver at one time; more are refused.
pub(crate) const DNS_QUESTIONS_MAX: usize = 512;
/// DNS connections over TCP at one time.
pub(crate) const DNS_CONNECTIONS_MAX: usize = 64;
/// How long one resolver may take before the next is asked.
pub(crate) const DNS_PATIENCE: Duration = Duration::from_millis(1500);
/// How long a DNS connection may be silent.
pub(crate) const DNS_IDLE: Duration = Duration::from_secs(10);
/// Resolvers that are asked one after another, as the C library does.
pub(crate) const DNS_RESOLVERS_MAX: usize = 3;
/// Records of one answer for a name of the region's own.
pub(crate) const DNS_RECORDS_MAX: usize = 8;
/// Names of the region's that lead to each other, one after the other.
pub(crate) const DNS_LEADS_MAX: usize = 8;
/// How long a datagram is that every asker takes.
pub(crate) const DNS_UDP_LEN: u16 = 512;
/// The largest DNS message there is.
pub(crate) const DNS_MESSAGE_MAX: usize = 65_535;
/// How long a task in a namespace of Service Connect waits for the host's proxy.
pub const PROXY_WAIT_MAX: Duration = Duration::from_secs(2);
/// The same of one that others are to meet with TLS, which does not start without it.
pub const PROXY_FRONT_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether the proxy is there.
pub const PROXY_LOOK: Duration = Duration::from_millis(5);
/// Flows that are counted at once in a VPC's network on a host; those beyond are not, which is said.
pub const FLOWS_COUNTED_MAX: usize = 16_384;
/// How long a flow is known of which no packet comes.
pub const FLOW_IDLE_MS: u64 = 180_000;
