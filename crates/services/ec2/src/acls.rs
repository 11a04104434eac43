//! Network ACLs: made, given to subnets, their entries changed, described.

use std::net::Ipv6Addr;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{AclAssociationId, NetworkAclId};
use model::network::{AclEntry, AclNetwork, Network, NetworkAcl, SubnetAcl, SubnetRow};
use model::{Key, Tags};

use crate::Ec2;
use crate::associations::on_association;
use crate::change::{Change, Make, Once, arn, id_of, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, select, shown};
use crate::limits::{ACL_ENTRIES_PER_DIRECTION_MAX, ACLS_PER_VPC_MAX};
use crate::refusal::NetworkRefusal;
use crate::tags;
use crate::vpcs::block;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_6: u8 = 58;
/// The number of what denies the rest.
const LAST: i32 = 32_767;

pub(crate) async fn create_network_acl(
    ec2: &Ec2,
    caller: &Caller,
    mut input: api::CreateNetworkAclRequest,
) -> Result<api::CreateNetworkAclResult, ApiError> {
    let client_token = input.client_token.take();
    let once = Once::new(ec2, caller, "CreateNetworkAcl", client_token.as_ref(), &input);
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateNetworkAcl", "network-acl", tags);
    let vpc = arn(caller, "vpc", input.vpc_id.as_deref().unwrap_or_default());
    let permission = make.permission(caller).on(vpc);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if let Some(id) = it.made_before(&once)? {
            let row = it.acl(Some(&id))?;
            return Ok(to_wire(&it.network, &row, it.network.view().tags_on(it.account, &id)));
        }
        let tags = make.tags()?;
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        it.change_vpc(&vpc.id);
        let acls = it.network.acls();
        if acls.iter().filter(|acl| acl.vpc == vpc.id).count() >= ACLS_PER_VPC_MAX {
            let (code, what) = ("NetworkAclLimitExceeded", "network ACLs of a VPC");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let row = NetworkAcl {
            account: it.account,
            id: NetworkAclId::mint(it.ids),
            vpc: vpc.id.clone(),
            is_default: false,
            entries: vec![],
        };
        it.tag(row.id.as_str(), &tags);
        it.remember(&once, row.id.as_str());
        let wire = to_wire(&it.network, &row, Some(&tags));
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateNetworkAclResult { network_acl: Some(made.await?), client_token })
}

fn to_wire(network: &Network<'_>, row: &NetworkAcl, tags: Option<&Tags>) -> api::NetworkAcl {
    let last = [false, true].map(|egress| api::NetworkAclEntry {
        cidr_block: Some("0.0.0.0/0".to_owned()),
        egress: Some(egress),
        protocol: Some("-1".to_owned()),
        rule_action: Some(api::RuleAction::Deny),
        rule_number: Some(LAST),
        ..api::NetworkAclEntry::default()
    });
    let subnets = network.subnets_of(&row.vpc);
    let associations = subnets.iter().filter(|subnet| subnet.acl.acl == row.id);
    let associations = associations.map(|subnet| api::NetworkAclAssociation {
        network_acl_association_id: Some(subnet.acl.association.to_string()),
        network_acl_id: Some(row.id.to_string()),
        subnet_id: Some(subnet.id.to_string()),
    });
    api::NetworkAcl {
        associations: Some(associations.collect()),
        entries: Some(row.entries.iter().map(entry_to_wire).chain(last).collect()),
        is_default: Some(row.is_default),
        network_acl_id: Some(row.id.to_string()),
        tags: Some(tags::to_wire(tags)),
        vpc_id: Some(row.vpc.to_string()),
        owner_id: Some(row.account.to_string()),
    }
}

fn entry_to_wire(entry: &AclEntry) -> api::NetworkAclEntry {
    let (ipv4, ipv6) = match &entry.network {
        AclNetwork::Ipv4(block) => (Some(block.to_string()), None),
        AclNetwork::Ipv6(block) => (None, Some(block.clone())),
    };
    api::NetworkAclEntry {
        cidr_block: ipv4,
        ipv6_cidr_block: ipv6,
        egress: Some(entry.is_egress),
        icmp_type_code: entry
            .icmp
            .map(|(kind, code)| api::IcmpTypeCode { r#type: Some(kind), code: Some(code) }),
        port_range: entry
            .ports
            .map(|(from, to)| api::PortRange { from: Some(from.into()), to: Some(to.into()) }),
        protocol: Some(entry.protocol.map_or("-1".to_owned(), |number| number.to_string())),
        rule_action: Some(match entry.allows {
            true => api::RuleAction::Allow,
            false => api::RuleAction::Deny,
        }),
        rule_number: Some(entry.number.into()),
    }
}

/// A member of each of an ACL's entries.
fn each(
    acl: &api::NetworkAcl,
    member: impl Fn(&api::NetworkAclEntry) -> Option<String>,
) -> Vec<String> {
    acl.entries.iter().flatten().filter_map(member).collect()
}

const FILTERS: Filters<api::NetworkAcl> = &[
    ("association.association-id", |it| {
        let associations = it.associations.iter().flatten();
        associations.filter_map(|each| each.network_acl_association_id.clone()).collect()
    }),
    ("association.network-acl-id", |it| {
        it.associations.iter().flatten().filter_map(|each| each.network_acl_id.clone()).collect()
    }),
    ("association.subnet-id", |it| {
        it.associations.iter().flatten().filter_map(|each| each.subnet_id.clone()).collect()
    }),
    ("default", |it| shown(it.is_default.as_ref())),
    ("entry.cidr", |it| each(it, |each| each.cidr_block.clone())),
    ("entry.egress", |it| each(it, |each| each.egress.map(|is| is.to_string()))),
    ("entry.icmp.code", |it| {
        each(it, |each| Some(each.icmp_type_code.as_ref()?.code?.to_string()))
    }),
    ("entry.icmp.type", |it| {
        each(it, |each| Some(each.icmp_type_code.as_ref()?.r#type?.to_string()))
    }),
    ("entry.ipv6-cidr", |it| each(it, |each| each.ipv6_cidr_block.clone())),
    ("entry.port-range.from", |it| {
        each(it, |each| Some(each.port_range.as_ref()?.from?.to_string()))
    }),
    ("entry.port-range.to", |it| each(it, |each| Some(each.port_range.as_ref()?.to?.to_string()))),
    ("entry.protocol", |it| each(it, |each| each.protocol.clone())),
    ("entry.rule-action", |it| each(it, |each| each.rule_action.as_ref().map(ToString::to_string))),
    ("entry.rule-number", |it| each(it, |each| each.rule_number.map(|it| it.to_string()))),
    ("network-acl-id", |it| one(it.network_acl_id.as_ref())),
    ("owner-id", |it| one(it.owner_id.as_ref())),
    ("vpc-id", |it| one(it.vpc_id.as_ref())),
];

pub(crate) async fn describe_network_acls(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeNetworkAclsRequest,
) -> Result<api::DescribeNetworkAclsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeNetworkAcls").on("*"))?;
    unless_dry(input.dry_run)?;
    let network = ec2.control.network(&view, caller.account);
    let all = network.acls();
    let wire = all.iter().map(|row| {
        let tags = view.tags_on(row.account, row.id.as_str());
        to_wire(&network, row, tags)
    });
    let asked = Asked {
        kind: Kind::NetworkAcl,
        ids: input.network_acl_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (acls, next_token) =
        select(wire.collect(), &asked, |it| it.network_acl_id.as_deref(), FILTERS)?;
    Ok(api::DescribeNetworkAclsResult { network_acls: Some(acls), next_token })
}

pub(crate) async fn delete_network_acl(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteNetworkAclRequest,
) -> Result<(), ApiError> {
    let id = input.network_acl_id.as_ref();
    let permission = on(caller, "ec2:DeleteNetworkAcl", "network-acl", id);
    let deleted = ec2.change(caller, &permission, input.dry_run, |it| {
        let acl = it.acl(input.network_acl_id.as_deref())?;
        if acl.is_default {
            return Err(NetworkRefusal::DefaultAclStays(acl.id.to_string()).into());
        }
        it.check_unused("networkAcl", acl.id.as_str(), &[])?;
        it.delete(Key::NetworkAcl(it.account, acl.id.clone()));
        Ok(())
    });
    deleted.await
}

/// What a request says of an entry.
struct AskedEntry<'a> {
    number: Option<i32>,
    egress: Option<bool>,
    protocol: Option<&'a String>,
    action: Option<&'a api::RuleAction>,
    ipv4: Option<&'a String>,
    ipv6: Option<&'a String>,
    icmp: Option<&'a api::IcmpTypeCode>,
    ports: Option<&'a api::PortRange>,
}

/// The members of both requests that have an entry.
macro_rules! asked_entry {
    ($input:expr) => {
        AskedEntry {
            number: $input.rule_number,
            egress: $input.egress,
            protocol: $input.protocol.as_ref(),
            action: $input.rule_action.as_ref(),
            ipv4: $input.cidr_block.as_ref(),
            ipv6: $input.ipv6_cidr_block.as_ref(),
            icmp: $input.icmp_type_code.as_ref(),
            ports: $input.port_range.as_ref(),
        }
    };
}

fn number(given: Option<i32>) -> Result<u16, Refusal> {
    let given = given.ok_or(Refusal::Parameter("ruleNumber"))?;
    let number = u16::try_from(given).ok().filter(|number| (1..LAST).contains(&(*number).into()));
    number.ok_or_else(|| {
        Refusal::Value(format!(
            "Value ({given}) for parameter ruleNumber is invalid. It is from 1 to 32766."
        ))
    })
}

fn read(asked: &AskedEntry<'_>) -> Result<AclEntry, Refusal> {
    let number = number(asked.number)?;
    let is_egress = asked.egress.ok_or(Refusal::Parameter("egress"))?;
    let allows = match asked.action.ok_or(Refusal::Parameter("ruleAction"))? {
        api::RuleAction::Allow => true,
        api::RuleAction::Deny => false,
        other => {
            return Err(Refusal::Value(format!(
                "Value ({other}) for parameter ruleAction is invalid. It is allow or deny."
            )));
        }
    };
    let protocol = protocol(asked.protocol)?;
    let network = match (asked.ipv4, asked.ipv6) {
        (Some(given), None) => block(given).map(AclNetwork::Ipv4),
        (None, Some(given)) => block_6(given).map(AclNetwork::Ipv6),
        (None, None) => return Err(Refusal::OneOf("cidrBlock", "ipv6CidrBlock")),
        (Some(_), Some(_)) => {
            let sentence = "An entry has one of cidrBlock and ipv6CidrBlock";
            return Err(Refusal::Combination(sentence.to_owned()));
        }
    };
    let network = network.ok_or_else(|| {
        let given = asked.ipv4.or(asked.ipv6).map_or("", String::as_str);
        Refusal::Value(format!("CIDR block {given} is malformed"))
    })?;
    let (ports, icmp) = match protocol {
        Some(TCP | UDP) => (Some(ports(asked.ports)?), None),
        Some(ICMP | ICMP_6) => (None, Some(icmp(asked.icmp)?)),
        None | Some(_) => (None, None),
    };
    Ok(AclEntry { is_egress, number, allows, protocol, ports, icmp, network })
}

fn protocol(given: Option<&String>) -> Result<Option<u8>, Refusal> {
    let given = given.ok_or(Refusal::Parameter("protocol"))?;
    match given.to_ascii_lowercase().as_str() {
        "-1" | "all" => Ok(None),
        "tcp" => Ok(Some(TCP)),
        "udp" => Ok(Some(UDP)),
        "icmp" => Ok(Some(ICMP)),
        "icmpv6" => Ok(Some(ICMP_6)),
        other => other.parse().map(Some).map_err(|_| {
            Refusal::Value(format!("Invalid value '{given}' for IP protocol. Unknown protocol."))
        }),
    }
}

fn ports(given: Option<&api::PortRange>) -> Result<(u16, u16), Refusal> {
    let range = given.ok_or(Refusal::Parameter("portRange"))?;
    let port = |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok());
    match (port(range.from), port(range.to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err(Refusal::Value(
            "A port range is from 0 to 65535, the first port not after the last.".to_owned(),
        )),
    }
}

fn icmp(given: Option<&api::IcmpTypeCode>) -> Result<(i32, i32), Refusal> {
    let given = given.ok_or(Refusal::Parameter("icmpTypeCode"))?;
    let (kind, code) = (given.r#type.unwrap_or(-1), given.code.unwrap_or(-1));
    let is_byte = |number: i32| (-1..=255).contains(&number);
    match is_byte(kind) && is_byte(code) && (kind != -1 || code == -1) {
        true => Ok((kind, code)),
        false => Err(Refusal::Value(format!("Invalid ICMP type ({kind}) or code ({code})."))),
    }
}

/// In its shortest form, without the bits below the prefix.
fn block_6(text: &str) -> Option<String> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix): (Ipv6Addr, u32) = (address.parse().ok()?, prefix.parse().ok()?);
    let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix)?).unwrap_or(0);
    Some(format!("{}/{prefix}", Ipv6Addr::from_bits(address.to_bits() & mask)))
}

/// Writes an ACL with other entries, in the order in which they are asked.
fn put_entries(
    it: &mut Change<'_>,
    acl: &NetworkAcl,
    mut entries: Vec<AclEntry>,
) -> Result<(), Refusal> {
    it.change_vpc(&acl.vpc);
    entries.sort_by_key(|entry| (entry.is_egress, entry.number));
    it.put(NetworkAcl { entries, ..acl.clone() });
    Ok(())
}

pub(crate) async fn create_network_acl_entry(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateNetworkAclEntryRequest,
) -> Result<(), ApiError> {
    let id = input.network_acl_id.as_ref();
    let permission = on(caller, "ec2:CreateNetworkAclEntry", "network-acl", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let acl = it.acl(input.network_acl_id.as_deref())?;
        let entry = read(&asked_entry!(input))?;
        if acl.entry(entry.is_egress, entry.number).is_some() {
            return Err(NetworkRefusal::EntryThere(entry.number.into()).into());
        }
        let alike = acl.entries.iter().filter(|other| other.is_egress == entry.is_egress);
        if alike.count() >= ACL_ENTRIES_PER_DIRECTION_MAX {
            let (code, what) = ("NetworkAclEntryLimitExceeded", "network ACL entries");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let entries = acl.entries.iter().cloned().chain([entry]).collect();
        put_entries(it, &acl, entries)
    });
    changed.await
}

pub(crate) async fn replace_network_acl_entry(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ReplaceNetworkAclEntryRequest,
) -> Result<(), ApiError> {
    let id = input.network_acl_id.as_ref();
    let permission = on(caller, "ec2:ReplaceNetworkAclEntry", "network-acl", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let acl = it.acl(input.network_acl_id.as_deref())?;
        let entry = read(&asked_entry!(input))?;
        let mut entries = acl.entries.clone();
        let is_its = |other: &&mut AclEntry| {
            (other.is_egress, other.number) == (entry.is_egress, entry.number)
        };
        match entries.iter_mut().find(is_its) {
            Some(before) => *before = entry,
            None => return Err(NetworkRefusal::NoEntry(entry.number.into()).into()),
        }
        put_entries(it, &acl, entries)
    });
    changed.await
}

pub(crate) async fn delete_network_acl_entry(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteNetworkAclEntryRequest,
) -> Result<(), ApiError> {
    let id = input.network_acl_id.as_ref();
    let permission = on(caller, "ec2:DeleteNetworkAclEntry", "network-acl", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let acl = it.acl(input.network_acl_id.as_deref())?;
        let number = number(input.rule_number)?;
        let is_egress = input.egress.ok_or(Refusal::Parameter("egress"))?;
        if acl.entry(is_egress, number).is_none() {
            return Err(NetworkRefusal::NoEntry(number.into()).into());
        }
        let mut entries = acl.entries.clone();
        entries.retain(|entry| (entry.is_egress, entry.number) != (is_egress, number));
        put_entries(it, &acl, entries)
    });
    changed.await
}

pub(crate) async fn replace_network_acl_association(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ReplaceNetworkAclAssociationRequest,
) -> Result<api::ReplaceNetworkAclAssociationResult, ApiError> {
    let id = input.network_acl_id.as_ref();
    let permission = on(caller, "ec2:ReplaceNetworkAclAssociation", "network-acl", id);
    let id = input.association_id.as_ref();
    let permission = on_association(ec2, caller, permission, "network-acl", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let acl = it.acl(input.network_acl_id.as_deref())?;
        let given = input.association_id.as_deref();
        let id: AclAssociationId = id_of(Kind::Association, "associationId", given)?;
        let mut subnets = it.network.subnets().into_iter();
        let subnet = subnets.find(|subnet| subnet.acl.association == id);
        let subnet = subnet.ok_or_else(|| Kind::Association.refused()(id.as_str()))?;
        it.batch.rely(Key::Subnet(it.account, subnet.id.clone()));
        if subnet.vpc != acl.vpc {
            let (acl, subnet) = (&acl.id, &subnet.id);
            return Err(Refusal::Value(format!(
                "network ACL {acl} and subnet {subnet} belong to different networks"
            )));
        }
        it.change_vpc(&subnet.vpc);
        let association = AclAssociationId::mint(it.ids);
        let made = association.to_string();
        let acl = SubnetAcl { association, acl: acl.id.clone() };
        it.put(SubnetRow { acl, ..SubnetRow::clone(&subnet) });
        Ok(made)
    });
    Ok(api::ReplaceNetworkAclAssociationResult { new_association_id: Some(changed.await?) })
}
