//! Connections between two VPCs: requested, accepted or not, described, ended.
//!
//! Both VPCs are of this region; each may be another account's. A row is the requester's, and both ends find it.

mod change;
mod create;
mod describe;
mod references;

pub(crate) use change::{
    accept_vpc_peering_connection, delete_vpc_peering_connection,
    modify_vpc_peering_connection_options, reject_vpc_peering_connection,
};
pub(crate) use create::create_vpc_peering_connection;
pub(crate) use describe::describe_vpc_peering_connections;
pub(crate) use references::{describe_security_group_references, describe_stale_security_groups};

use std::sync::Arc;

use aws_wire::Caller;
use control::Permission;
use ec2_api as api;
use longshore_types::{AccountId, Cidr, Timestamp, VpcPeeringId};
use model::network::{Network, PeeringEnd, PeeringState, PeeringStatus, VpcPeering, VpcRow};
use model::{Key, Tags, View};

use crate::Ec2;
use crate::change::{Change, arn, id_of};
use crate::errors::{Kind, Refusal};
use crate::limits::{PEERING_SHOWN_LONG_MS, PEERING_SHOWN_MS};
use crate::refusal::NetworkRefusal;
use crate::tags;

/// As ARNs and TagSpecifications have it.
const KIND: &str = "vpc-peering-connection";

/// Whether an account is still shown a connection. Who ended it sees it for two hours, the other side for two days.
pub(crate) fn is_shown(row: &VpcPeering, account: AccountId, now: Timestamp) -> bool {
    let Some(ended) = row.ended_at(now) else { return row.has(account) };
    let is_one = row.requester.account == row.accepter.account;
    let long = match row.state {
        PeeringState::Pending => true,
        PeeringState::Active => return true,
        PeeringState::Rejected { .. } => !is_one && account == row.requester.account,
        PeeringState::Deleted { by, .. } => !is_one && account != by,
        PeeringState::Failed { .. } if account != row.requester.account => return false,
        PeeringState::Failed { .. } => false,
    };
    let shown = if long { PEERING_SHOWN_LONG_MS } else { PEERING_SHOWN_MS };
    row.has(account) && now < ended.plus_ms(shown)
}

/// A connection that the caller is shown.
fn find(it: &mut Change<'_>, given: Option<&str>) -> Result<Arc<VpcPeering>, Refusal> {
    let id: VpcPeeringId = id_of(Kind::VpcPeering, "vpcPeeringConnectionId", given)?;
    let row = it.network.view().peering_of(it.account, &id);
    let row = row.filter(|row| is_shown(row, it.account, it.now));
    let row = row.ok_or_else(|| Kind::VpcPeering.refused()(id.as_str()))?.clone();
    it.batch.rely(Key::VpcPeering(row.requester.account, id));
    Ok(row)
}

/// Where a route of a VPC may lead: a connection that is there or asked for.
pub(crate) fn find_target(it: &mut Change<'_>, given: &str) -> Result<Arc<VpcPeering>, Refusal> {
    let row = find(it, Some(given))?;
    match row.ended_at(it.now) {
        None => Ok(row),
        Some(_) => Err(Kind::VpcPeering.refused()(given)),
    }
}

/// The VPC at an end, whosever it is.
fn vpc_at(view: &View, it: &Change<'_>, end: &PeeringEnd) -> Option<Arc<VpcRow>> {
    Network::new(view, end.account, it.region).vpc(&end.vpc)
}

/// Whether two VPCs have addresses in common.
pub(crate) fn overlap(one: &VpcRow, other: &VpcRow) -> bool {
    one.blocks().any(|block| other.blocks().any(|it| it.overlaps(block)))
}

/// Whether a block of addresses is one of a VPC's peers.
pub(crate) fn is_peers(it: &mut Change<'_>, vpc: &VpcRow, block: Cidr) -> bool {
    let view = it.network.view();
    let rows = view.active_peerings(vpc.account, &vpc.id).into_iter();
    let ends: Vec<PeeringEnd> =
        rows.filter_map(|row| Some(row.seen_from(&vpc.id)?.1.clone())).collect();
    ends.iter().any(|end| {
        it.batch.rely(Key::Vpc(end.account, end.vpc.clone()));
        vpc_at(view, it, end).is_some_and(|row| row.blocks().any(|its| its.overlaps(block)))
    })
}

/// A permission about a connection that a request names by its id: conditions may speak of its VPCs.
fn on_peering(ec2: &Ec2, caller: &Caller, action: &'static str, id: Option<&String>) -> Permission {
    let id = id.map_or("", String::as_str);
    let permission = Permission::to(action).on(arn(caller, KIND, id));
    let view = ec2.control.view();
    let row = id.parse().ok().and_then(|id| view.peering_of(caller.account, &id).cloned());
    match row {
        Some(row) => about(permission, caller, &row.requester, &row.accepter),
        None => permission,
    }
}

fn about(
    permission: Permission,
    caller: &Caller,
    requester: &PeeringEnd,
    accepter: &PeeringEnd,
) -> Permission {
    let arn =
        |end: &PeeringEnd| format!("arn:aws:ec2:{}:{}:vpc/{}", caller.region, end.account, end.vpc);
    permission.with("ec2:RequesterVpc", arn(requester)).with("ec2:AccepterVpc", arn(accepter))
}

/// What is not done in the state that a connection is in.
fn wrong_state(row: &VpcPeering, now: Timestamp, to: &'static str) -> Refusal {
    let (id, from) = (row.id.to_string(), row.status(now).word());
    NetworkRefusal::PeeringState { id, from, to }.into()
}

fn status_to_wire(row: &VpcPeering, now: Timestamp) -> api::VpcPeeringConnectionStateReason {
    use api::VpcPeeringConnectionStateReasonCode as Code;
    let accepter = row.accepter.account;
    let (code, message) = match row.status(now) {
        PeeringStatus::Pending => {
            (Code::PendingAcceptance, format!("Pending Acceptance by {accepter}"))
        }
        PeeringStatus::Active => (Code::Active, "Active".to_owned()),
        PeeringStatus::Rejected => (Code::Rejected, format!("Rejected by {accepter}")),
        PeeringStatus::Deleted => {
            let by = if let PeeringState::Deleted { by, .. } = row.state { by } else { accepter };
            (Code::Deleted, format!("Deleted by {by}"))
        }
        PeeringStatus::Failed => (Code::Failed, FAILED.to_owned()),
        PeeringStatus::Expired => (Code::Expired, "Expired".to_owned()),
    };
    api::VpcPeeringConnectionStateReason { code: Some(code), message: Some(message) }
}

/// AWS says no more of which it was.
const FAILED: &str = "Failed due to incorrect VPC-ID, Account ID, or overlapping CIDR range";

fn end_to_wire(
    view: &View,
    caller: &Caller,
    end: &PeeringEnd,
    is_whole: bool,
) -> api::VpcPeeringConnectionVpcInfo {
    let vpc = Network::new(view, end.account, &caller.region).vpc(&end.vpc);
    let vpc = vpc.filter(|_| is_whole);
    api::VpcPeeringConnectionVpcInfo {
        cidr_block: vpc.as_ref().map(|vpc| vpc.first.block.to_string()),
        cidr_block_set: vpc.as_ref().map(|vpc| {
            let block = |it: Cidr| api::CidrBlock { cidr_block: Some(it.to_string()) };
            vpc.blocks().map(block).collect()
        }),
        owner_id: Some(end.account.to_string()),
        peering_options: vpc.map(|_| api::VpcPeeringConnectionOptionsDescription {
            allow_dns_resolution_from_remote_vpc: Some(end.allows_names),
            allow_egress_from_local_classic_link_to_remote_vpc: Some(false),
            allow_egress_from_local_vpc_to_remote_classic_link: Some(false),
            ..Default::default()
        }),
        vpc_id: Some(end.vpc.to_string()),
        region: Some(caller.region.to_string()),
        ..Default::default()
    }
}

/// What is known of an end that did not agree yet is its id alone.
fn to_wire(
    view: &View,
    caller: &Caller,
    row: &VpcPeering,
    tags: Option<&Tags>,
) -> api::VpcPeeringConnection {
    let status = row.status(caller.now);
    let is_active = status == PeeringStatus::Active;
    let is_pending = status == PeeringStatus::Pending;
    api::VpcPeeringConnection {
        accepter_vpc_info: Some(end_to_wire(view, caller, &row.accepter, is_active)),
        expiration_time: is_pending.then(|| row.expires_at()),
        requester_vpc_info: Some(end_to_wire(
            view,
            caller,
            &row.requester,
            is_active || is_pending,
        )),
        status: Some(status_to_wire(row, caller.now)),
        tags: Some(tags::to_wire(tags)),
        vpc_peering_connection_id: Some(row.id.to_string()),
        ..Default::default()
    }
}
