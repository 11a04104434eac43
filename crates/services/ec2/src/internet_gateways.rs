//! CreateInternetGateway, DescribeInternetGateways, and a gateway's way into a VPC and out of it.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::InternetGatewayId;
use model::network::{InternetGateway, VpcRow};
use model::{Index, Key, Tags};

use crate::Ec2;
use crate::change::{Change, Make, arn, on};
use crate::errors::{Kind, unless_dry};
use crate::filter::{Asked, Filters, one, select};
use crate::limits::INTERNET_GATEWAYS_MAX;
use crate::refusal::NetworkRefusal;
use crate::tags;

pub(crate) async fn create_internet_gateway(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateInternetGatewayRequest,
) -> Result<api::CreateInternetGatewayResult, ApiError> {
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateInternetGateway", "internet-gateway", tags);
    let permission = make.permission(caller);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let tags = make.tags()?;
        let view = it.network.view();
        if view.internet_gateways.of(it.account).count() >= INTERNET_GATEWAYS_MAX {
            let (code, what) = ("InternetGatewayLimitExceeded", "internet gateways");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let id = InternetGatewayId::mint(it.ids);
        let row = InternetGateway { account: it.account, id, vpc: None };
        it.tag(row.id.as_str(), &tags);
        let wire = to_wire(&row, Some(&tags));
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateInternetGatewayResult { internet_gateway: Some(made.await?) })
}

fn to_wire(row: &InternetGateway, tags: Option<&Tags>) -> api::InternetGateway {
    let attachments = row.vpc.iter().map(|vpc| api::InternetGatewayAttachment {
        // Amazon's word for it, though the model has another.
        state: Some("available".into()),
        vpc_id: Some(vpc.to_string()),
    });
    api::InternetGateway {
        attachments: Some(attachments.collect()),
        internet_gateway_id: Some(row.id.to_string()),
        owner_id: Some(row.account.to_string()),
        tags: Some(tags::to_wire(tags)),
    }
}

const FILTERS: Filters<api::InternetGateway> = &[
    ("attachment.state", |it| {
        let attachments = it.attachments.iter().flatten();
        attachments.filter_map(|each| each.state.as_ref().map(ToString::to_string)).collect()
    }),
    ("attachment.vpc-id", |it| {
        it.attachments.iter().flatten().filter_map(|each| each.vpc_id.clone()).collect()
    }),
    ("internet-gateway-id", |it| one(it.internet_gateway_id.as_ref())),
    ("owner-id", |it| one(it.owner_id.as_ref())),
];

pub(crate) async fn describe_internet_gateways(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeInternetGatewaysRequest,
) -> Result<api::DescribeInternetGatewaysResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeInternetGateways").on("*"))?;
    unless_dry(input.dry_run)?;
    let all = ec2.control.network(&view, caller.account).gateways();
    let wire = all.iter().map(|row| to_wire(row, view.tags_on(row.account, row.id.as_str())));
    let asked = Asked {
        kind: Kind::InternetGateway,
        ids: input.internet_gateway_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (gateways, next_token) =
        select(wire.collect(), &asked, |it| it.internet_gateway_id.as_deref(), FILTERS)?;
    Ok(api::DescribeInternetGatewaysResult { internet_gateways: Some(gateways), next_token })
}

pub(crate) async fn attach_internet_gateway(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AttachInternetGatewayRequest,
) -> Result<(), ApiError> {
    let id = input.internet_gateway_id.as_ref();
    let permission = on(caller, "ec2:AttachInternetGateway", "internet-gateway", id).on(arn(
        caller,
        "vpc",
        input.vpc_id.as_deref().unwrap_or_default(),
    ));
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let gateway = it.gateway(input.internet_gateway_id.as_deref())?;
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        if let Some(vpc) = &gateway.vpc {
            let (gateway, vpc) = (gateway.id.to_string(), vpc.to_string());
            return Err(NetworkRefusal::GatewayAttached { gateway, vpc }.into());
        }
        // No other comes to the VPC at the same time.
        it.batch.rely(Index::Ec2Uses(it.account, vpc.id.as_str().into()));
        let gateways = it.network.gateways();
        if gateways.iter().any(|other| other.vpc.as_ref() == Some(&vpc.id)) {
            return Err(NetworkRefusal::VpcHasGateway(vpc.id.to_string()).into());
        }
        it.put(InternetGateway { vpc: Some(vpc.id.clone()), ..InternetGateway::clone(&gateway) });
        Ok(())
    });
    changed.await
}

pub(crate) async fn detach_internet_gateway(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DetachInternetGatewayRequest,
) -> Result<(), ApiError> {
    let id = input.internet_gateway_id.as_ref();
    let permission = on(caller, "ec2:DetachInternetGateway", "internet-gateway", id).on(arn(
        caller,
        "vpc",
        input.vpc_id.as_deref().unwrap_or_default(),
    ));
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let gateway = it.gateway(input.internet_gateway_id.as_deref())?;
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        if gateway.vpc.as_ref() != Some(&vpc.id) {
            let (gateway, vpc) = (gateway.id.to_string(), vpc.id.to_string());
            return Err(NetworkRefusal::NotAttached { gateway, vpc }.into());
        }
        it.change_vpc(&vpc.id);
        let index = Index::VpcAddresses(it.account, vpc.id.clone());
        let view = it.network.view();
        let addresses = view.members(&index).filter_map(|key| {
            if let Key::Interface(account, id) = key {
                let row = view.interfaces.get(*account, id)?;
                return Some(format!("{} of {}", row.public?, row.eni));
            }
            let Key::ElasticAddress(account, id) = key else { return None };
            let row = view.elastic_addresses.get(*account, id)?;
            Some(format!("{} of {}", row.address, row.association.as_ref()?.eni))
        });
        let own = own_addresses(it, &vpc);
        let by: Vec<String> = addresses.chain(own).collect();
        if !by.is_empty() {
            return Err(NetworkRefusal::PublicAddresses { vpc: vpc.id.to_string(), by }.into());
        }
        it.batch.rely(index);
        it.put(InternetGateway { vpc: None, ..InternetGateway::clone(&gateway) });
        Ok(())
    });
    changed.await
}

/// In the default VPC a public address is the very one that an interface has.
fn own_addresses(it: &Change<'_>, vpc: &VpcRow) -> Vec<String> {
    let view = it.network.view();
    let subnets = it.network.subnets_of(&vpc.id).into_iter().filter(|_| vpc.is_default);
    let indexes = subnets.map(|subnet| Index::SubnetInterfaces(it.account, subnet.id.clone()));
    let rows = indexes.flat_map(|index| view.members(&index)).filter_map(|key| match key {
        Key::Interface(owner, id) => view.interfaces.get(*owner, id),
        _ => None,
    });
    let public = rows.filter(|row| row.assign_public_ip);
    public.map(|row| format!("{} of {}", row.address, row.eni)).collect()
}

pub(crate) async fn delete_internet_gateway(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteInternetGatewayRequest,
) -> Result<(), ApiError> {
    let id = input.internet_gateway_id.as_ref();
    let permission = on(caller, "ec2:DeleteInternetGateway", "internet-gateway", id);
    let deleted = ec2.change(caller, &permission, input.dry_run, |it| {
        let gateway = it.gateway(input.internet_gateway_id.as_deref())?;
        if let Some(vpc) = &gateway.vpc {
            let (id, by) = (gateway.id.to_string(), vec![vpc.to_string()]);
            return Err(NetworkRefusal::InUse { what: "internetGateway", id, by }.into());
        }
        it.delete(Key::InternetGateway(it.account, gateway.id.clone()));
        Ok(())
    });
    deleted.await
}
