//! CreateVpcPeeringConnection.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use longshore_types::{AccountId, Timestamp, VpcId, VpcPeeringId};
use model::network::{PeeringEnd, PeeringState, PeeringStatus, VpcPeering, VpcRow};
use model::{Index, Key};
use traffic::feed::Vni;

use super::{KIND, about, overlap, to_wire, vpc_at};
use crate::Ec2;
use crate::change::{Change, Make, arn};
use crate::errors::{Kind, Refusal};
use crate::limits::{PEERING_REQUESTS_MAX, PEERING_SHOWN_LONG_MS, PEERINGS_ENDED_MAX};
use crate::refusal::{NetworkRefusal, unsupported};
use crate::vpcs::is_shared;

pub(crate) async fn create_vpc_peering_connection(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateVpcPeeringConnectionRequest,
) -> Result<api::CreateVpcPeeringConnectionResult, ApiError> {
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateVpcPeeringConnection", KIND, tags);
    let vpc = arn(caller, "vpc", input.vpc_id.as_deref().unwrap_or_default());
    let mut permission = make.permission(caller).on(vpc);
    if let Ok([requester, accepter]) = ends(caller.account, &input) {
        permission = about(permission, caller, &requester, &accepter);
    }
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let tags = make.tags()?;
        check_supported(&input, it.region.as_str())?;
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        let [requester, accepter] = ends(it.account, &input)?;
        check_default(&vpc)?;
        if requester.vpc == accepter.vpc {
            return Err(Refusal::Value(format!(
                "The VPC '{}' cannot be connected with itself",
                vpc.id
            )));
        }
        forget_ended(it);
        check_new(it, &requester, &accepter)?;
        it.batch.rely(Key::Vpc(accepter.account, accepter.vpc.clone()));
        let far = vpc_at(it.network.view(), it, &accepter);
        if far.is_none() && accepter.account == it.account {
            return Err(Refusal::Missing(Kind::Vpc, accepter.vpc.to_string()));
        }
        if accepter.account == it.account {
            far.iter().try_for_each(|far| check_default(far))?;
        }
        // Of another account's VPC it is not told why not.
        let state = match far.filter(|far| !far.is_default && !overlap(&vpc, far)) {
            Some(_) => PeeringState::Pending,
            None => PeeringState::Failed { at: it.now },
        };
        let row = VpcPeering { id: free_id(it), requester, accepter, state, created_at: it.now };
        it.tag(row.id.as_str(), &tags);
        let mut wire = to_wire(it.network.view(), caller, &row, Some(&tags));
        if row.state == PeeringState::Pending {
            wire.status = Some(api::VpcPeeringConnectionStateReason {
                code: Some(api::VpcPeeringConnectionStateReasonCode::InitiatingRequest),
                message: Some(format!("Initiating Request to {}", row.accepter.account)),
            });
        }
        it.put(row);
        Ok(wire)
    });
    let vpc_peering_connection = Some(made.await?);
    Ok(api::CreateVpcPeeringConnectionResult { vpc_peering_connection })
}

/// Requester and accepter, as a request names them.
fn ends(
    account: AccountId,
    input: &api::CreateVpcPeeringConnectionRequest,
) -> Result<[PeeringEnd; 2], Refusal> {
    let vpc = |name, given: &Option<String>| -> Result<VpcId, Refusal> {
        crate::change::id_of(Kind::Vpc, name, given.as_deref())
    };
    let owner = input.peer_owner_id.as_deref().filter(|owner| !owner.is_empty());
    let owner = match owner {
        None => account,
        Some(given) => given.parse().map_err(|_| {
            Refusal::Value(format!(
                "Value ({given}) for parameter peerOwnerId is invalid. It is an account's id of 12 digits."
            ))
        })?,
    };
    let end = |account, vpc| PeeringEnd { account, vpc, allows_names: false };
    Ok([
        end(account, vpc("vpcId", &input.vpc_id)?),
        end(owner, vpc("peerVpcId", &input.peer_vpc_id)?),
    ])
}

fn check_supported(
    input: &api::CreateVpcPeeringConnectionRequest,
    region: &str,
) -> Result<(), Refusal> {
    let other = input.peer_region.as_deref().filter(|given| !given.is_empty());
    if let Some(other) = other.filter(|given| *given != region) {
        return Err(unsupported(format!(
            "PeerRegion {other} is not available: VPCs are connected with others of this region, {region}."
        )));
    }
    let options = input.requester_peering_connection_options.as_ref();
    if options.is_some_and(|it| it.allow_multipath_resilience == Some(true)) {
        return Err(unsupported(
            "AllowMultipathResilience is not available: it is for connections between regions.",
        ));
    }
    Ok(())
}

/// Tasks of the default VPC are in the hosts' own network, which no connection leads to.
pub(super) fn check_default(vpc: &VpcRow) -> Result<(), Refusal> {
    match vpc.is_default {
        false => Ok(()),
        true => Err(unsupported(format!(
            "{} is a default VPC, which is not connected with others in this region: make a VPC for that.",
            vpc.id
        ))),
    }
}

/// Whether another connection may be asked for.
fn check_new(
    it: &mut Change<'_>,
    requester: &PeeringEnd,
    accepter: &PeeringEnd,
) -> Result<(), Refusal> {
    it.batch.rely(Index::VpcPeerings(it.account));
    let now = it.now;
    let rows = it.network.view().peerings_of(it.account);
    let is_between = |row: &VpcPeering| {
        row.seen_from(&requester.vpc).is_some_and(|(_, far)| far.vpc == accepter.vpc)
    };
    if let Some(row) = rows.iter().find(|row| row.ended_at(now).is_none() && is_between(row)) {
        return Err(NetworkRefusal::PeeringThere(row.id.to_string()).into());
    }
    let waits = |row: &VpcPeering| {
        row.requester.account == it.account && row.status(now) == PeeringStatus::Pending
    };
    if rows.iter().filter(|row| waits(row)).count() >= PEERING_REQUESTS_MAX {
        let code = "OutstandingVpcPeeringConnectionLimitExceeded";
        let what = "VPC peering connection requests that wait for an answer";
        return Err(NetworkRefusal::TooMany { code, what }.into());
    }
    Ok(())
}

/// An id whose numbers in packets between hosts nothing else of the region has.
fn free_id(it: &mut Change<'_>) -> VpcPeeringId {
    loop {
        let id = VpcPeeringId::mint(it.ids);
        let numbers = Vni::of_peering(&id);
        let view = it.network.view();
        let is_free = |number: &Vni| {
            !is_shared(view, it.region, *number)
                && view.member_count(&Index::VpcNumber(number.value())) == 0
        };
        if numbers.iter().all(is_free) {
            for number in numbers {
                it.batch.rely(Index::VpcNumber(number.value()));
            }
            return id;
        }
    }
}

/// Takes away what came to an end so long ago that nobody is shown it any more, and of the account's own requests the
/// oldest that ended where there are many: the accounts that they named keep no more of them either.
fn forget_ended(it: &mut Change<'_>) {
    let view = it.network.view();
    let (account, now) = (it.account, it.now);
    let rows = view.peerings_of(account).into_iter();
    let mut ended: Vec<(Timestamp, &Arc<VpcPeering>)> =
        rows.filter_map(|row| Some((row.ended_at(now)?, row))).collect();
    ended.sort_by_key(|(at, row)| (*at, row.id.clone()));
    let own = ended.iter().filter(|(_, row)| row.requester.account == account).count();
    // There is to be room for one more.
    let mut too_many = (own + 1).saturating_sub(PEERINGS_ENDED_MAX);
    ended.retain(|(at, row)| {
        let is_extra = too_many > 0 && row.requester.account == account;
        too_many -= usize::from(is_extra);
        is_extra || at.plus_ms(PEERING_SHOWN_LONG_MS) <= now
    });
    for (_, row) in ended.into_iter().take(FORGOTTEN_AT_ONCE_MAX) {
        let ends = BTreeSet::from([row.requester.account, row.accepter.account]);
        let tags = ends.into_iter().map(|end| Key::Ec2Tags(end, row.id.as_str().into()));
        for key in tags.filter(|key| view.seq_of(key).is_some()) {
            it.batch.delete(key);
        }
        it.batch.delete(Key::VpcPeering(row.requester.account, row.id.clone()));
    }
}

/// Rows that one request takes away.
const FORGOTTEN_AT_ONCE_MAX: usize = 100;
