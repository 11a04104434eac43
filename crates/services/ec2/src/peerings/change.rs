//! AcceptVpcPeeringConnection, RejectVpcPeeringConnection, DeleteVpcPeeringConnection,
//! ModifyVpcPeeringConnectionOptions.

use std::fmt::Display;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use model::network::{PeeringEnd, PeeringState, PeeringStatus, VpcPeering};
use model::{Index, Key};

use super::{find, on_peering, overlap, to_wire, vpc_at, wrong_state};
use crate::Ec2;
use crate::change::{Change, arn};
use crate::errors::Refusal;
use crate::limits::PEERINGS_PER_VPC_MAX;
use crate::refusal::{NetworkRefusal, unsupported};

/// `cannot`: what comes after that, of a connection.
fn not_permitted(it: &Change<'_>, cannot: impl Display) -> Refusal {
    NetworkRefusal::NotPermitted(format!("User {} cannot {cannot}", it.account)).into()
}

/// The one that an account was asked for and has not answered: only who was asked answers.
fn asked(
    it: &mut Change<'_>,
    id: Option<&str>,
    doing: &str,
    to: &'static str,
) -> Result<Arc<VpcPeering>, Refusal> {
    let row = find(it, id)?;
    if row.accepter.account != it.account {
        return Err(not_permitted(it, format_args!("{doing} peering {}", row.id)));
    }
    if row.status(it.now) != PeeringStatus::Pending {
        return Err(wrong_state(&row, it.now, to));
    }
    Ok(row)
}

fn in_state(row: &VpcPeering, state: PeeringState) -> VpcPeering {
    VpcPeering { state, ..row.clone() }
}

pub(crate) async fn accept_vpc_peering_connection(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AcceptVpcPeeringConnectionRequest,
) -> Result<api::AcceptVpcPeeringConnectionResult, ApiError> {
    let id = input.vpc_peering_connection_id.as_ref();
    let mut permission = on_peering(ec2, caller, "ec2:AcceptVpcPeeringConnection", id);
    let view = ec2.control.view();
    let named = id.and_then(|id| id.parse().ok());
    if let Some(row) = named.and_then(|id| view.peering_of(caller.account, &id)) {
        permission = permission.on(arn(caller, "vpc", row.accepter.vpc.as_str()));
    }
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let id = input.vpc_peering_connection_id.as_deref();
        let row = asked(it, id, "accept", "provisioning")?;
        let view = it.network.view();
        for end in [&row.requester, &row.accepter] {
            it.batch.rely(Key::Vpc(end.account, end.vpc.clone()));
            it.batch.rely(Index::Ec2Uses(end.account, end.vpc.as_str().into()));
            if view.active_peerings(end.account, &end.vpc).len() >= PEERINGS_PER_VPC_MAX {
                let code = "ActiveVpcPeeringConnectionPerVpcLimitExceeded";
                let what = "active VPC peering connections of a VPC";
                return Err(NetworkRefusal::TooMany { code, what }.into());
            }
        }
        let [near, far] = [&row.requester, &row.accepter].map(|end| vpc_at(view, it, end));
        // Either may have gone, or got other addresses, since it was asked.
        let is_well = near.zip(far).is_some_and(|(near, far)| !overlap(&near, &far));
        let state = match is_well {
            true => PeeringState::Active,
            false => PeeringState::Failed { at: it.now },
        };
        let row = in_state(&row, state);
        let tags = view.tags_on(it.account, row.id.as_str());
        let mut wire = to_wire(view, caller, &row, tags);
        if is_well {
            wire.status = Some(api::VpcPeeringConnectionStateReason {
                code: Some(api::VpcPeeringConnectionStateReasonCode::Provisioning),
                message: Some("Provisioning".to_owned()),
            });
        }
        it.put(row);
        Ok(wire)
    });
    let vpc_peering_connection = Some(made.await?);
    Ok(api::AcceptVpcPeeringConnectionResult { vpc_peering_connection })
}

pub(crate) async fn reject_vpc_peering_connection(
    ec2: &Ec2,
    caller: &Caller,
    input: api::RejectVpcPeeringConnectionRequest,
) -> Result<api::RejectVpcPeeringConnectionResult, ApiError> {
    let id = input.vpc_peering_connection_id.as_ref();
    let permission = on_peering(ec2, caller, "ec2:RejectVpcPeeringConnection", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let id = input.vpc_peering_connection_id.as_deref();
        let row = asked(it, id, "reject", "rejected")?;
        it.put(in_state(&row, PeeringState::Rejected { at: it.now }));
        Ok(())
    });
    changed.await.map(|()| api::RejectVpcPeeringConnectionResult { r#return: Some(true) })
}

/// Routes by it stay where they are, and rules that name groups of the peer.
pub(crate) async fn delete_vpc_peering_connection(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteVpcPeeringConnectionRequest,
) -> Result<api::DeleteVpcPeeringConnectionResult, ApiError> {
    let id = input.vpc_peering_connection_id.as_ref();
    let permission = on_peering(ec2, caller, "ec2:DeleteVpcPeeringConnection", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = find(it, input.vpc_peering_connection_id.as_deref())?;
        match row.status(it.now) {
            PeeringStatus::Active => {}
            PeeringStatus::Pending if row.requester.account == it.account => {}
            PeeringStatus::Pending => {
                let cannot =
                    format_args!("delete peering {} before it is accepted: reject it", row.id);
                return Err(not_permitted(it, cannot));
            }
            PeeringStatus::Rejected
            | PeeringStatus::Deleted
            | PeeringStatus::Failed
            | PeeringStatus::Expired => return Err(wrong_state(&row, it.now, "deleting")),
        }
        it.put(in_state(&row, PeeringState::Deleted { at: it.now, by: it.account }));
        Ok(())
    });
    changed.await.map(|()| api::DeleteVpcPeeringConnectionResult { r#return: Some(true) })
}

pub(crate) async fn modify_vpc_peering_connection_options(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ModifyVpcPeeringConnectionOptionsRequest,
) -> Result<api::ModifyVpcPeeringConnectionOptionsResult, ApiError> {
    let id = input.vpc_peering_connection_id.as_ref();
    let permission = on_peering(ec2, caller, "ec2:ModifyVpcPeeringConnectionOptions", id);
    let asked =
        [&input.requester_peering_connection_options, &input.accepter_peering_connection_options];
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = find(it, input.vpc_peering_connection_id.as_deref())?;
        if asked.iter().all(|options| options.is_none()) {
            return Err(Refusal::OneOf(
                "AccepterPeeringConnectionOptions",
                "RequesterPeeringConnectionOptions",
            ));
        }
        if row.status(it.now) != PeeringStatus::Active {
            let why = format!(
                "Peering {} is not active. Peering options can be added only to active peerings.",
                row.id
            );
            return Err(NetworkRefusal::NotPermitted(why).into());
        }
        let mut next = VpcPeering::clone(&row);
        for (options, (end, word)) in
            asked.iter().zip([(&mut next.requester, "requester"), (&mut next.accepter, "accepter")])
        {
            let Some(options) = options else { continue };
            if end.account != it.account {
                let cannot = format_args!("modify {word} peering options for {}", row.id);
                return Err(not_permitted(it, cannot));
            }
            check_supported(options)?;
            end.allows_names =
                options.allow_dns_resolution_from_remote_vpc.unwrap_or(end.allows_names);
        }
        let is_opened =
            |now: &PeeringEnd, before: &PeeringEnd| now.allows_names && !before.allows_names;
        if is_opened(&next.requester, &row.requester) || is_opened(&next.accepter, &row.accepter) {
            check_names(it, &row)?;
        }
        let answer = answer(&next, asked.map(Option::is_some));
        if next != *row {
            it.put(next);
        }
        Ok(answer)
    });
    changed.await
}

fn check_supported(options: &api::PeeringConnectionOptionsRequest) -> Result<(), Refusal> {
    let others = [
        (
            "AllowEgressFromLocalClassicLinkToRemoteVpc",
            options.allow_egress_from_local_classic_link_to_remote_vpc,
        ),
        (
            "AllowEgressFromLocalVpcToRemoteClassicLink",
            options.allow_egress_from_local_vpc_to_remote_classic_link,
        ),
        ("AllowMultipathResilience", options.allow_multipath_resilience),
    ];
    match others.iter().find(|(_, given)| *given == Some(true)) {
        None => Ok(()),
        Some((name, _)) => Err(unsupported(format!(
            "{name} is not available: there is neither ClassicLink nor another region."
        ))),
    }
}

/// Names are answered where both VPCs have them.
fn check_names(it: &mut Change<'_>, row: &VpcPeering) -> Result<(), Refusal> {
    for end in [&row.requester, &row.accepter] {
        let vpc = vpc_at(it.network.view(), it, end);
        if !vpc.is_some_and(|vpc| vpc.dns_support && vpc.dns_hostnames) {
            return Err(NetworkRefusal::PeeringNames.into());
        }
    }
    Ok(())
}

/// The options of the ends that were asked for: requester and accepter.
fn answer(
    row: &VpcPeering,
    [requester, accepter]: [bool; 2],
) -> api::ModifyVpcPeeringConnectionOptionsResult {
    let options = |end: &PeeringEnd, is_asked: bool| {
        is_asked.then(|| api::PeeringConnectionOptions {
            allow_dns_resolution_from_remote_vpc: Some(end.allows_names),
            allow_egress_from_local_classic_link_to_remote_vpc: Some(false),
            allow_egress_from_local_vpc_to_remote_classic_link: Some(false),
            ..Default::default()
        })
    };
    api::ModifyVpcPeeringConnectionOptionsResult {
        accepter_peering_connection_options: options(&row.accepter, accepter),
        requester_peering_connection_options: options(&row.requester, requester),
    }
}
