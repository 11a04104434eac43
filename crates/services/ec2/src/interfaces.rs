//! DescribeNetworkInterfaces: the interfaces of tasks that have not stopped.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use model::vpc::{Interface, InterfaceUser, private_dns_name};
use model::{Index, Key, View};

use super::filter::{apply, by_id, page};
use crate::Ec2;
use crate::errors::{Kind, unless_dry};

pub(crate) async fn describe_network_interfaces(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeNetworkInterfacesRequest,
) -> Result<api::DescribeNetworkInterfacesResult, ApiError> {
    let view =
        ec2.control.read(caller, &Permission::to("ec2:DescribeNetworkInterfaces").on("*"))?;
    unless_dry(input.dry_run)?;
    let vpc = ec2.control.own_vpc(&view, caller)?;
    let mut all: Vec<api::NetworkInterface> = vpc
        .subnets
        .iter()
        .flat_map(|subnet| {
            let index = Index::SubnetInterfaces(caller.account, subnet.id.clone());
            let keys: Vec<Key> = view.members(&index).cloned().collect();
            keys.into_iter().map(|key| (key, subnet.zone_id.clone()))
        })
        .filter_map(|(key, zone_id)| {
            let Key::Interface(account, address) = key else { return None };
            let row = view.interfaces.get(account, &address)?;
            Some(to_wire(&view, caller, row, zone_id))
        })
        .collect();
    all.sort_by(|a, b| a.network_interface_id.cmp(&b.network_interface_id));
    let id = |each: &api::NetworkInterface| each.network_interface_id.clone();
    let missing = Kind::NetworkInterface.refused();
    let ids = input.network_interface_ids.as_deref();
    let all = by_id(all, ids, |each| each.network_interface_id.as_deref(), missing)?;
    let names = [
        "addresses.association.public-ip",
        "addresses.private-ip-address",
        "association.ip-owner-id",
        "association.public-ip",
        "attachment.attachment-id",
        "attachment.instance-owner-id",
        "attachment.status",
        "availability-zone",
        "description",
        "group-id",
        "group-name",
        "interface-type",
        "mac-address",
        "network-interface-id",
        "owner-id",
        "private-dns-name",
        "private-ip-address",
        "requester-managed",
        "status",
        "subnet-id",
        "vpc-id",
    ];
    let all =
        apply(all, input.filters.as_deref(), &names, &|each: &api::NetworkInterface, name| {
            let groups = each.groups.iter().flatten();
            let attachment = each.attachment.as_ref();
            let value = match name {
                "addresses.private-ip-address" | "private-ip-address" => {
                    each.private_ip_address.clone()
                }
                "addresses.association.public-ip" | "association.public-ip" => {
                    each.association.as_ref().and_then(|each| each.public_ip.clone())
                }
                "association.ip-owner-id" => {
                    each.association.as_ref().and_then(|each| each.ip_owner_id.clone())
                }
                "attachment.attachment-id" => attachment.and_then(|a| a.attachment_id.clone()),
                "attachment.instance-owner-id" => {
                    attachment.and_then(|a| a.instance_owner_id.clone())
                }
                "attachment.status" => {
                    attachment.and_then(|a| a.status.as_ref().map(ToString::to_string))
                }
                "availability-zone" => each.availability_zone.clone(),
                "description" => each.description.clone(),
                "group-id" => {
                    return Some(groups.filter_map(|group| group.group_id.clone()).collect());
                }
                "group-name" => {
                    return Some(groups.filter_map(|group| group.group_name.clone()).collect());
                }
                "interface-type" => Some("interface".to_owned()),
                "mac-address" => each.mac_address.clone(),
                "network-interface-id" => id(each),
                "owner-id" => each.owner_id.clone(),
                "private-dns-name" => each.private_dns_name.clone(),
                "requester-managed" => Some("true".to_owned()),
                "status" => each.status.as_ref().map(ToString::to_string),
                "subnet-id" => each.subnet_id.clone(),
                "vpc-id" => each.vpc_id.clone(),
                _ => return None,
            };
            Some(value.into_iter().collect())
        })?;
    let token = input.next_token.as_deref();
    let has_ids = ids.is_some_and(|ids| !ids.is_empty());
    let (all, next_token) =
        page(all, token, input.max_results, has_ids, |each| each.network_interface_id.as_deref())?;
    Ok(api::DescribeNetworkInterfacesResult { network_interfaces: Some(all), next_token })
}

fn to_wire(
    view: &View,
    caller: &Caller,
    row: &Interface,
    zone_id: String,
) -> api::NetworkInterface {
    let dns = private_dns_name(row.address, &caller.region);
    let (region, account) = (&caller.region, caller.account);
    let (is_placed, description, requester) = match &row.user {
        InterfaceUser::Task { task, attachment, .. } => {
            let task = view.tasks.get(account, task);
            let is_placed = task.is_some_and(|task| task.instance.is_some());
            // Amazon's wording: tools find a task's interface by it.
            let description = format!("arn:aws:ecs:{region}:{account}:attachment/{attachment}");
            (is_placed, description, None)
        }
        InterfaceUser::Balancer { balancer } => {
            (true, format!("ELB {balancer}"), Some("amazon-elb".to_owned()))
        }
    };
    let attachment = api::NetworkInterfaceAttachment {
        attach_time: Some(row.created_at),
        attachment_id: Some(format!("eni-attach-{}", row.eni.as_str().trim_start_matches("eni-"))),
        delete_on_termination: Some(true),
        device_index: Some(1),
        network_card_index: Some(0),
        instance_owner_id: Some(requester.clone().unwrap_or_else(|| account.to_string())),
        status: Some(api::AttachmentStatus::Attached),
        ..api::NetworkInterfaceAttachment::default()
    };
    let groups = row.security_groups.iter().map(|group| api::GroupIdentifier {
        group_id: Some(group.to_string()),
        group_name: view.security_group(account, group).map(|whole| whole.group.name),
    });
    // The nearest to a public address that there is: the host, and what it routes for, reach the task
    // under the very address that it has.
    let association = row.assign_public_ip.then(|| api::NetworkInterfaceAssociation {
        ip_owner_id: Some("amazon".to_owned()),
        public_dns_name: Some(String::new()),
        public_ip: Some(row.address.to_string()),
        ..api::NetworkInterfaceAssociation::default()
    });
    api::NetworkInterface {
        association: association.clone(),
        attachment: is_placed.then_some(attachment),
        availability_zone: Some(row.zone.clone()),
        availability_zone_id: Some(zone_id),
        description: Some(description),
        requester_id: requester,
        groups: Some(groups.collect()),
        interface_type: Some(api::NetworkInterfaceType::Interface),
        ipv6_addresses: Some(vec![]),
        mac_address: Some(row.mac.clone()),
        network_interface_id: Some(row.eni.to_string()),
        owner_id: Some(account.to_string()),
        private_dns_name: Some(dns.clone()),
        private_ip_address: Some(row.address.to_string()),
        private_ip_addresses: Some(vec![api::NetworkInterfacePrivateIpAddress {
            association,
            primary: Some(true),
            private_dns_name: Some(dns),
            private_ip_address: Some(row.address.to_string()),
        }]),
        requester_managed: Some(true),
        source_dest_check: Some(true),
        status: Some(if is_placed {
            api::NetworkInterfaceStatus::InUse
        } else {
            api::NetworkInterfaceStatus::Available
        }),
        subnet_id: Some(row.subnet.to_string()),
        tag_set: Some(vec![]),
        vpc_id: Some(row.vpc.to_string()),
        ..api::NetworkInterface::default()
    }
}
