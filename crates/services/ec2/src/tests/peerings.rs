//! Connections between VPCs, through the service.

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use ec2_api::Ec2 as _;

use super::TestEc2;
use super::networks::{Site, code, new_vpc, text};
use crate::limits::PEERINGS_ENDED_MAX;

const OTHER: &str = "222222222222";
const DAY_MS: u64 = 24 * 3_600_000;

/// Two VPCs, the second perhaps another account's.
struct Pair {
    site: Site,
    peer: Caller,
    far: String,
}

impl Pair {
    async fn new(owner: Option<&str>, block: &str) -> Self {
        let site = Site::new("10.1.0.0/16").await;
        let peer = owner.map_or_else(|| site.root.clone(), |owner| site.world.root_of(owner));
        let far = new_vpc(&site.world, &peer, block).await.unwrap();
        Self { site, peer, far }
    }

    fn world(&self) -> &TestEc2 {
        &self.site.world
    }

    /// The same caller, now.
    fn now(&self, caller: &Caller) -> Caller {
        let fresh = self.world().root_of(&caller.account.to_string());
        Caller { account: caller.account, ..fresh }
    }

    async fn request(&self, far: &str) -> Result<api::VpcPeeringConnection, ApiError> {
        let request = api::CreateVpcPeeringConnectionRequest {
            vpc_id: Some(self.site.vpc.clone()),
            peer_vpc_id: text(far),
            peer_owner_id: Some(self.peer.account.to_string()),
            ..Default::default()
        };
        let caller = self.now(&self.site.root);
        let made = self.world().ec2.create_vpc_peering_connection(&caller, request).await?;
        Ok(made.vpc_peering_connection.unwrap())
    }

    async fn accept(&self, caller: &Caller, id: &str) -> Result<(), ApiError> {
        let request = api::AcceptVpcPeeringConnectionRequest {
            vpc_peering_connection_id: text(id),
            dry_run: None,
        };
        let caller = self.now(caller);
        self.world().ec2.accept_vpc_peering_connection(&caller, request).await.map(|_| ())
    }

    async fn reject(&self, caller: &Caller, id: &str) -> Result<(), ApiError> {
        let request = api::RejectVpcPeeringConnectionRequest {
            vpc_peering_connection_id: text(id),
            dry_run: None,
        };
        let caller = self.now(caller);
        self.world().ec2.reject_vpc_peering_connection(&caller, request).await.map(|_| ())
    }

    async fn delete(&self, caller: &Caller, id: &str) -> Result<(), ApiError> {
        let request = api::DeleteVpcPeeringConnectionRequest {
            vpc_peering_connection_id: text(id),
            dry_run: None,
        };
        let caller = self.now(caller);
        self.world().ec2.delete_vpc_peering_connection(&caller, request).await.map(|_| ())
    }

    async fn change(
        &self,
        caller: &Caller,
        id: &str,
        request: api::ModifyVpcPeeringConnectionOptionsRequest,
    ) -> Result<api::ModifyVpcPeeringConnectionOptionsResult, ApiError> {
        let request = api::ModifyVpcPeeringConnectionOptionsRequest {
            vpc_peering_connection_id: text(id),
            ..request
        };
        let caller = self.now(caller);
        self.world().ec2.modify_vpc_peering_connection_options(&caller, request).await
    }

    async fn connected(&self) -> String {
        let id = self.request(&self.far).await.unwrap().vpc_peering_connection_id.unwrap();
        self.accept(&self.peer, &id).await.unwrap();
        id
    }

    async fn shown(&self, caller: &Caller) -> Vec<api::VpcPeeringConnection> {
        let request = api::DescribeVpcPeeringConnectionsRequest::default();
        let caller = self.now(caller);
        let found = self.world().ec2.describe_vpc_peering_connections(&caller, request).await;
        found.unwrap().vpc_peering_connections.unwrap()
    }

    /// Code and message of the only one that a caller is shown.
    async fn status(&self, caller: &Caller) -> Option<(String, String)> {
        let status = self.shown(caller).await.pop()?.status?;
        Some((status.code?.to_string(), status.message?))
    }

    async fn group(&self, caller: &Caller, vpc: &str) -> String {
        let request = api::CreateSecurityGroupRequest {
            group_name: text("web"),
            description: text("web"),
            vpc_id: text(vpc),
            ..Default::default()
        };
        let made = self.world().ec2.create_security_group(caller, request).await;
        made.unwrap().group_id.unwrap()
    }

    async fn admit(
        &self,
        group: &str,
        peer: &str,
        port: i32,
    ) -> Result<api::SecurityGroupRule, ApiError> {
        let pair = api::UserIdGroupPair {
            group_id: text(peer),
            user_id: Some(self.peer.account.to_string()),
            ..Default::default()
        };
        let request = api::AuthorizeSecurityGroupIngressRequest {
            group_id: text(group),
            ip_permissions: Some(vec![api::IpPermission {
                ip_protocol: text("tcp"),
                from_port: Some(port),
                to_port: Some(port),
                user_id_group_pairs: Some(vec![pair]),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let root = self.now(&self.site.root);
        let made = self.world().ec2.authorize_security_group_ingress(&root, request).await?;
        Ok(made.security_group_rules.unwrap().remove(0))
    }
}

fn says(status: Option<(String, String)>) -> String {
    let (code, message) = status.unwrap();
    format!("{code}: {message}")
}

#[tokio::test]
async fn a_request_is_answered_by_who_was_asked_and_seen_by_both() {
    let pair = Pair::new(Some(OTHER), "10.2.0.0/16").await;
    let (root, peer) = (&pair.site.root, &pair.peer);
    let made = pair.request(&pair.far).await.unwrap();
    let status = made.status.unwrap();
    assert_eq!(status.code, Some(api::VpcPeeringConnectionStateReasonCode::InitiatingRequest));
    assert_eq!(status.message, Some(format!("Initiating Request to {OTHER}")));
    assert!(made.expiration_time.is_some() && made.accepter_vpc_info.unwrap().cidr_block.is_none());
    let id = made.vpc_peering_connection_id.unwrap();
    let waits = format!("pending-acceptance: Pending Acceptance by {OTHER}");
    assert_eq!(
        [says(pair.status(root).await), says(pair.status(peer).await)],
        [waits.clone(), waits]
    );
    assert_eq!(code(pair.request(&pair.far).await), "VpcPeeringConnectionAlreadyExists");
    assert_eq!(code(pair.accept(root, &id).await), "OperationNotPermitted");
    assert_eq!(code(pair.reject(root, &id).await), "OperationNotPermitted");
    assert_eq!(code(pair.delete(peer, &id).await), "OperationNotPermitted");
    let stranger = pair.world().root_of("333333333333");
    assert_eq!(code(pair.accept(&stranger, &id).await), "InvalidVpcPeeringConnectionID.NotFound");
    assert_eq!(code(pair.accept(peer, "pcx-1").await), "InvalidVpcPeeringConnectionId.Malformed");
    pair.accept(peer, &id).await.unwrap();
    assert_eq!(says(pair.status(root).await), "active: Active");
    let info = pair.shown(root).await.remove(0).accepter_vpc_info.unwrap();
    assert_eq!(info.cidr_block.as_deref(), Some("10.2.0.0/16"));
    let refused = pair.accept(peer, &id).await.unwrap_err();
    assert_eq!(refused.code, "InvalidStateTransition");
    assert!(refused.message.contains("from active to provisioning"), "{}", refused.message);
    assert_eq!(code(pair.site.delete_vpc().await), "DependencyViolation");
    pair.delete(peer, &id).await.unwrap();
    assert_eq!(says(pair.status(root).await), format!("deleted: Deleted by {OTHER}"));
    assert_eq!(code(pair.delete(root, &id).await), "InvalidStateTransition");
    // Who deleted it forgets it first.
    pair.world().core.env.advance_ms(2 * 3_600_000);
    assert!(pair.status(peer).await.is_none() && pair.status(root).await.is_some());
    pair.world().core.env.advance_ms(2 * DAY_MS);
    assert!(pair.status(root).await.is_none());
    pair.connected().await;
    assert_eq!(pair.shown(root).await.len(), 1);
}

#[tokio::test]
async fn a_request_that_is_rejected_expired_or_impossible_says_so() {
    let pair = Pair::new(Some(OTHER), "10.2.0.0/16").await;
    let (root, peer) = (&pair.site.root, &pair.peer);
    let id = pair.request(&pair.far).await.unwrap().vpc_peering_connection_id.unwrap();
    pair.reject(peer, &id).await.unwrap();
    assert_eq!(says(pair.status(root).await), format!("rejected: Rejected by {OTHER}"));
    pair.world().core.env.advance_ms(3 * DAY_MS);
    let id = pair.request(&pair.far).await.unwrap().vpc_peering_connection_id.unwrap();
    pair.world().core.env.advance_ms(7 * DAY_MS);
    assert_eq!(says(pair.status(peer).await), "expired: Expired");
    assert_eq!(code(pair.accept(peer, &id).await), "InvalidStateTransition");
    pair.world().core.env.advance_ms(3 * DAY_MS);
    let overlaps = new_vpc(pair.world(), peer, "10.1.128.0/17").await.unwrap();
    let failed = "failed: Failed due to incorrect VPC-ID, Account ID, or overlapping CIDR range";
    let vpcs = pair.world().ec2.describe_vpcs(&pair.now(peer), Default::default()).await.unwrap();
    let default = vpcs.vpcs.unwrap().into_iter().find(|vpc| vpc.is_default == Some(true));
    let default = default.unwrap().vpc_id.unwrap();
    for far in [overlaps.as_str(), "vpc-0123456789abcdef9", &default] {
        pair.request(far).await.unwrap();
        assert_eq!(says(pair.status(root).await), failed);
        assert!(pair.status(peer).await.is_none(), "nobody was asked");
        pair.world().core.env.advance_ms(3 * DAY_MS);
    }
}

#[tokio::test]
async fn what_no_connection_can_be_is_refused_by_name() {
    let pair = Pair::new(None, "10.2.0.0/16").await;
    let root = &pair.site.root;
    assert_eq!(code(pair.request(&pair.site.vpc).await), "InvalidParameterValue");
    assert_eq!(code(pair.request("vpc-0123456789abcdef9").await), "InvalidVpcID.NotFound");
    let vpcs = pair.world().ec2.describe_vpcs(root, Default::default()).await.unwrap().vpcs;
    let default = vpcs.unwrap().into_iter().find(|vpc| vpc.is_default == Some(true)).unwrap();
    assert_eq!(code(pair.request(&default.vpc_id.unwrap()).await), "UnsupportedOperation");
    let elsewhere = api::CreateVpcPeeringConnectionRequest {
        vpc_id: Some(pair.site.vpc.clone()),
        peer_vpc_id: Some(pair.far.clone()),
        peer_region: text("eu-west-1"),
        ..Default::default()
    };
    let refused = pair.world().ec2.create_vpc_peering_connection(root, elsewhere).await;
    assert!(refused.unwrap_err().message.starts_with("PeerRegion eu-west-1"));
    // Neither gets addresses of the other's while they are connected.
    pair.connected().await;
    for (block, expected) in [("10.2.7.0/24", "InvalidVpc.Range"), ("10.3.0.0/24", "")] {
        let request = api::AssociateVpcCidrBlockRequest {
            vpc_id: Some(pair.site.vpc.clone()),
            cidr_block: text(block),
            ..Default::default()
        };
        let answer = pair.world().ec2.associate_vpc_cidr_block(root, request).await;
        assert_eq!(answer.err().map_or_else(String::new, |it| it.code.into_owned()), expected);
    }
}

#[tokio::test]
async fn what_came_to_an_end_is_kept_within_bounds_and_for_nobody_who_was_never_asked() {
    let mut pair = Pair::new(Some(OTHER), "10.2.0.0/16").await;
    // What has failed is the requester's alone.
    let failed = pair.request("vpc-00000001").await.unwrap().vpc_peering_connection_id.unwrap();
    let peerings_of = |pair: &Pair, caller: &Caller| {
        let view = pair.world().core.control.view();
        view.peerings_of(caller.account).iter().map(|row| row.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(peerings_of(&pair, &pair.peer), [] as [String; 0]);
    let peer = pair.peer.clone();
    pair.world().core.env.advance_ms(1);
    for _ in 0..PEERINGS_ENDED_MAX + 5 {
        let id = pair.request(&pair.far).await.unwrap().vpc_peering_connection_id.unwrap();
        pair.delete(&pair.site.root, &id).await.unwrap();
        pair.world().core.env.advance_ms(1);
    }
    assert_eq!(pair.shown(&pair.site.root).await.len(), PEERINGS_ENDED_MAX);
    let kept = peerings_of(&pair, &peer);
    assert_eq!(kept.len(), PEERINGS_ENDED_MAX);
    assert!(!peerings_of(&pair, &pair.site.root).contains(&failed), "the oldest go");
    // Who was asked takes them away too, once nobody is shown them any more.
    pair.world().core.env.advance_ms(3 * DAY_MS);
    pair.site.root = peer.clone();
    let own = new_vpc(pair.world(), &pair.now(&peer), "10.3.0.0/16").await.unwrap();
    pair.site.vpc = pair.far.clone();
    pair.request(&own).await.unwrap();
    assert_eq!(peerings_of(&pair, &peer).len(), 1, "of {}", kept.len());
}

#[tokio::test]
async fn routes_by_a_connection_lead_while_it_is_there() {
    let pair = Pair::new(None, "10.2.0.0/16").await;
    let id = pair.request(&pair.far).await.unwrap().vpc_peering_connection_id.unwrap();
    let table = pair.site.main_table().await.route_table_id.unwrap();
    let route = |to: &str, peering: &str| api::CreateRouteRequest {
        route_table_id: text(&table),
        destination_cidr_block: text(to),
        vpc_peering_connection_id: text(peering),
        ..Default::default()
    };
    let ec2 = &pair.world().ec2;
    ec2.create_route(&pair.site.root, route("10.2.0.0/16", &id)).await.unwrap();
    let state = || async {
        let routes = pair.site.main_table().await.routes.unwrap();
        let is_its = |it: &&api::Route| it.vpc_peering_connection_id.as_deref() == Some(&id);
        routes.iter().find(is_its).unwrap().state.clone().unwrap()
    };
    assert_eq!(state().await, api::RouteState::Blackhole, "nobody has accepted it");
    pair.accept(&pair.peer, &id).await.unwrap();
    assert_eq!(state().await, api::RouteState::Active);
    let missing = ec2.create_route(&pair.site.root, route("10.9.0.0/16", "pcx-12345678")).await;
    assert_eq!(code(missing), "InvalidVpcPeeringConnectionID.NotFound");
    let third = new_vpc(pair.world(), &pair.site.root, "10.3.0.0/16").await.unwrap();
    let root = &pair.site.root;
    let tables = |name: &'static str, value: String| async move {
        let filters = super::filter(name, &value);
        let request = api::DescribeRouteTablesRequest { filters, ..Default::default() };
        let found = ec2.describe_route_tables(root, request).await.unwrap();
        found.route_tables.unwrap().remove(0)
    };
    let other = tables("vpc-id", third).await.route_table_id;
    let request = api::CreateRouteRequest { route_table_id: other, ..route("10.1.0.0/16", &id) };
    let refused = ec2.create_route(root, request).await.unwrap_err();
    assert!(refused.message.contains("belong to different networks"), "{}", refused.message);
    pair.delete(&pair.peer, &id).await.unwrap();
    let again = ec2.create_route(root, route("10.8.0.0/16", &id)).await;
    assert_eq!(code(again), "InvalidVpcPeeringConnectionID.NotFound");
    let routes = tables("route.vpc-peering-connection-id", id.clone()).await.routes.unwrap();
    let states = routes.iter().filter(|it| it.vpc_peering_connection_id.is_some());
    let states: Vec<_> = states.map(|it| it.state.clone().unwrap()).collect();
    assert_eq!(states, [api::RouteState::Blackhole]);
}

#[tokio::test]
async fn a_rule_names_a_peers_group_and_is_stale_when_either_is_gone() {
    let pair = Pair::new(Some(OTHER), "10.2.0.0/16").await;
    let (root, peer) = (&pair.site.root, &pair.peer);
    let ec2 = &pair.world().ec2;
    let (own, theirs) = (pair.group(root, &pair.site.vpc).await, pair.group(peer, &pair.far).await);
    assert_eq!(code(pair.admit(&own, &theirs, 80).await), "InvalidGroup.NotFound");
    let id = pair.connected().await;
    let rule = pair.admit(&own, &theirs, 80).await.unwrap();
    let info = rule.referenced_group_info.unwrap();
    assert_eq!(info.user_id.as_deref(), Some(OTHER));
    assert_eq!(
        (info.peering_status.as_deref(), info.vpc_id),
        (Some("active"), Some(pair.far.clone()))
    );
    assert_eq!(code(pair.admit(&own, &theirs, 80).await), "InvalidPermission.Duplicate");
    let named = || async {
        let request = api::DescribeSecurityGroupReferencesRequest {
            group_id: Some(vec![theirs.clone()]),
            dry_run: None,
        };
        let found = ec2.describe_security_group_references(peer, request).await.unwrap();
        found.security_group_reference_set.unwrap()
    };
    let found = named().await.remove(0);
    assert_eq!(found.referencing_vpc_id, Some(pair.site.vpc.clone()));
    assert_eq!(found.vpc_peering_connection_id, Some(id.clone()));
    let stale = || async {
        let request = api::DescribeStaleSecurityGroupsRequest {
            vpc_id: Some(pair.site.vpc.clone()),
            ..Default::default()
        };
        let found = ec2.describe_stale_security_groups(&pair.now(root), request).await.unwrap();
        found.stale_security_group_set.unwrap()
    };
    assert!(stale().await.is_empty());
    // Its owner may delete it.
    let request = api::DeleteSecurityGroupRequest { group_id: text(&theirs), ..Default::default() };
    ec2.delete_security_group(peer, request).await.unwrap();
    let permission = stale().await.remove(0).stale_ip_permissions.unwrap().remove(0);
    let named = permission.user_id_group_pairs.unwrap().remove(0);
    assert_eq!((named.user_id, named.peering_status.as_deref()), (None, Some("active")));
    pair.delete(root, &id).await.unwrap();
    let permission = stale().await.remove(0).stale_ip_permissions.unwrap().remove(0);
    let named = permission.user_id_group_pairs.unwrap().remove(0);
    assert_eq!(named.peering_status.as_deref(), Some("deleted"));
    assert_eq!(code(pair.admit(&own, &theirs, 81).await), "InvalidGroup.NotFound");
    let pair_of_it = api::UserIdGroupPair { group_id: text(&theirs), ..Default::default() };
    let request = api::RevokeSecurityGroupIngressRequest {
        group_id: text(&own),
        ip_permissions: Some(vec![api::IpPermission {
            ip_protocol: text("tcp"),
            from_port: Some(80),
            to_port: Some(80),
            user_id_group_pairs: Some(vec![pair_of_it]),
            ..Default::default()
        }]),
        ..Default::default()
    };
    ec2.revoke_security_group_ingress(root, request).await.unwrap();
    assert!(stale().await.is_empty());
}

#[tokio::test]
async fn options_are_each_sides_own_and_of_active_connections() {
    let pair = Pair::new(Some(OTHER), "10.2.0.0/16").await;
    let (root, peer) = (&pair.site.root, &pair.peer);
    let id = pair.request(&pair.far).await.unwrap().vpc_peering_connection_id.unwrap();
    let options = |allows| {
        Some(api::PeeringConnectionOptionsRequest {
            allow_dns_resolution_from_remote_vpc: Some(allows),
            ..Default::default()
        })
    };
    let of_requester = |allows| api::ModifyVpcPeeringConnectionOptionsRequest {
        requester_peering_connection_options: options(allows),
        ..Default::default()
    };
    let refused = pair.change(root, &id, of_requester(true)).await.unwrap_err();
    assert_eq!(refused.code, "OperationNotPermitted");
    assert!(refused.message.contains("is not active"), "{}", refused.message);
    pair.accept(peer, &id).await.unwrap();
    assert_eq!(code(pair.change(peer, &id, of_requester(true)).await), "OperationNotPermitted");
    assert_eq!(code(pair.change(root, &id, Default::default()).await), "MissingParameter");
    let without_names = pair.change(root, &id, of_requester(true)).await;
    assert_eq!(code(without_names), "InvalidVpcPeeringConnectionState.DnsHostnamesDisabled");
    for (caller, vpc) in [(root, &pair.site.vpc), (peer, &pair.far)] {
        let request = api::ModifyVpcAttributeRequest {
            vpc_id: text(vpc),
            enable_dns_hostnames: Some(api::AttributeBooleanValue { value: Some(true) }),
            ..Default::default()
        };
        pair.world().ec2.modify_vpc_attribute(caller, request).await.unwrap();
    }
    let answer = pair.change(root, &id, of_requester(true)).await.unwrap();
    let allowed = answer.requester_peering_connection_options.unwrap();
    assert_eq!(allowed.allow_dns_resolution_from_remote_vpc, Some(true));
    assert!(answer.accepter_peering_connection_options.is_none());
    let shown = pair.shown(peer).await.remove(0).requester_vpc_info.unwrap();
    let shown = shown.peering_options.unwrap().allow_dns_resolution_from_remote_vpc;
    assert_eq!(shown, Some(true));
    let classic = api::ModifyVpcPeeringConnectionOptionsRequest {
        requester_peering_connection_options: Some(api::PeeringConnectionOptionsRequest {
            allow_egress_from_local_classic_link_to_remote_vpc: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    let refused = pair.change(root, &id, classic).await.unwrap_err();
    assert!(refused.message.starts_with("AllowEgressFromLocalClassicLink"), "{}", refused.message);
}
