//! Network interfaces: those of tasks, balancers, gateways and endpoints, which they make and take away, and those that
//! somebody made as such.

use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{EniId, Scope, SecurityGroupId};
use model::network::{Network, SubnetRow};
use model::table::Record as _;
use model::vpc::{Interface, InterfaceId, InterfaceUser, mac_of, public_dns_name, region_account};
use model::{Index, Key, Tags, View};

use crate::Ec2;
use crate::addresses::own_interface;
use crate::change::{Change, Make, Once, arn, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, select, shown};
use crate::flow_logs;
use crate::groups::group_by_id;
use crate::limits::{INTERFACES_MAX, SHARED_INTERFACES_MAX};
use crate::private_addresses::{self, Addresses};
use crate::refusal::NetworkRefusal;
use crate::subnets::as_place;
use crate::tags;

const GROUPS_MAX: usize = 5;
const DESCRIPTION_CHARS_MAX: usize = 255;

/// What an interface is to be.
pub(crate) struct Wanted<'a> {
    /// Any free one without.
    pub(crate) address: Option<&'a str>,
    pub(crate) groups: Vec<SecurityGroupId>,
    pub(crate) user: InterfaceUser,
}

/// The key of an interface's row.
pub(crate) fn key(row: &Interface) -> Key {
    Key::Interface(region_account(), row.id())
}

/// An interface of the account by its id.
pub(crate) fn find(network: &Network<'_>, id: &EniId) -> Option<Arc<Interface>> {
    let (view, account) = (network.view(), network.account());
    let row = |key: &Key| match key {
        Key::Interface(owner, id) => view.interfaces.get(*owner, id),
        _ => None,
    };
    let row = |key: &Key| row(key).filter(|row| !row.is_secondary());
    let indexed = view.members(&Index::Eni(account, id.clone())).find_map(row);
    // Those of tasks in the default VPC are in no index: nobody but them is to change them.
    let of_default = || in_default(network).find(|row| row.eni == *id && !row.is_secondary());
    indexed.or_else(of_default).cloned()
}

/// The interfaces in the account's default VPC.
fn in_default<'v>(network: &Network<'v>) -> impl Iterator<Item = &'v Arc<Interface>> + use<'v> {
    let (view, account) = (network.view(), network.account());
    let vpc = network.default_vpc();
    let subnets = vpc.map(|vpc| network.subnets_of(&vpc.id)).unwrap_or_default();
    let indexes =
        subnets.into_iter().map(move |it| Index::SubnetInterfaces(account, it.id.clone()));
    indexes.flat_map(move |index| view.members(&index)).filter_map(move |key| match key {
        Key::Interface(owner, id) => view.interfaces.get(*owner, id),
        _ => None,
    })
}

/// A new interface in a subnet, at a free address; the row is the caller's to write.
pub(crate) fn begin(
    it: &mut Change<'_>,
    subnet: &SubnetRow,
    wanted: Wanted<'_>,
) -> Result<Interface, Refusal> {
    let address = free_address(it, subnet, wanted.address, &[])?;
    let is_apart = !it.network.is_default(&subnet.vpc);
    Ok(Interface {
        address,
        eni: EniId::mint(it.ids),
        owner: Scope { region: it.region.clone(), account: it.account },
        user: wanted.user,
        vpc: subnet.vpc.clone(),
        subnet: subnet.id.clone(),
        security_groups: wanted.groups,
        zone: subnet.zone.clone(),
        mac: mac_of(address),
        assign_public_ip: false,
        created_at: it.now,
        is_apart,
        public: None,
    })
}

/// An address of a subnet that nobody has: the one that is asked for, or any that is none of `besides`.
pub(crate) fn free_address(
    it: &mut Change<'_>,
    subnet: &SubnetRow,
    asked: Option<&str>,
    besides: &[Ipv4Addr],
) -> Result<Ipv4Addr, Refusal> {
    let is_apart = !it.network.is_default(&subnet.vpc);
    let id = |address| InterfaceId { vpc: is_apart.then(|| subnet.vpc.clone()), address };
    let is_taken = |address| {
        let row = it.network.view().interfaces.get(region_account(), &id(address));
        row.is_some() || besides.contains(&address)
    };
    let address = match asked.filter(|given| !given.is_empty()) {
        Some(given) => {
            let address = address_in(subnet, given)?;
            if is_taken(address) {
                return Err(NetworkRefusal::PrivateAddressTaken(given.to_owned()).into());
            }
            address
        }
        None => {
            let bytes = it.ids.id16();
            let seed = bytes.iter().take(8).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
            let index = Index::SubnetInterfaces(it.account, subnet.id.clone());
            let full = || NetworkRefusal::SubnetFull {
                subnet: subnet.id.to_string(),
                held: it.network.view().member_count(&index),
            };
            as_place(subnet).free_address(seed, is_taken).ok_or_else(full)?
        }
    };
    it.batch.rely(Key::Interface(region_account(), id(address)));
    Ok(address)
}

/// An address that interfaces of a subnet can have.
pub(crate) fn address_in(subnet: &SubnetRow, given: &str) -> Result<Ipv4Addr, Refusal> {
    let place = as_place(subnet);
    let address: Option<Ipv4Addr> = given.parse().ok();
    address.filter(|address| place.is_usable(*address)).ok_or_else(|| {
        let sentence = "Address does not fall within the subnet's address range";
        Refusal::Value(format!("{sentence}: {given} is none of {}", subnet.block))
    })
}

/// Takes an interface away, with its tags.
pub(crate) fn delete(it: &mut Change<'_>, row: &Interface) {
    flow_logs::delete_with(it, row.eni.as_str());
    it.batch.delete(key(row));
    let resource: Arc<str> = row.eni.as_str().into();
    if it.network.view().tags_on(it.account, &resource).is_some() {
        it.batch.delete(Key::Ec2Tags(it.account, resource));
    }
}

/// The groups that a request names, all of the subnet's VPC; without any the VPC's default group.
pub(crate) fn groups(
    it: &mut Change<'_>,
    vpc: &longshore_types::VpcId,
    given: &[String],
) -> Result<Vec<SecurityGroupId>, Refusal> {
    if given.len() > GROUPS_MAX {
        return Err(NetworkRefusal::TooMany {
            code: "SecurityGroupsPerInterfaceLimitExceeded",
            what: "security groups per interface",
        }
        .into());
    }
    let mut groups = Vec::new();
    if given.is_empty() {
        groups.extend(it.network.vpc(vpc).map(|vpc| vpc.default_group.clone()));
    }
    for id in given {
        let found = group_by_id(it.network.view(), it.account, id)?.group;
        if found.vpc != *vpc {
            return Err(Refusal::DifferentNetworks);
        }
        if !groups.contains(&found.id) {
            groups.push(found.id);
        }
    }
    for group in &groups {
        it.batch.rely(Key::SecurityGroup(it.account, group.clone()));
    }
    Ok(groups)
}

/// What a person calls an interface.
pub(crate) fn description(given: Option<&str>) -> Result<String, Refusal> {
    let given = given.unwrap_or_default();
    if DESCRIPTION_CHARS_MAX < given.chars().count() {
        let why = format!(
            "A network interface's description has at most {DESCRIPTION_CHARS_MAX} characters."
        );
        return Err(Refusal::Value(why));
    }
    Ok(given.to_owned())
}

pub(crate) async fn create_network_interface(
    ec2: &Ec2,
    caller: &Caller,
    mut input: api::CreateNetworkInterfaceRequest,
) -> Result<api::CreateNetworkInterfaceResult, ApiError> {
    let client_token = input.client_token.take();
    let once = Once::new(ec2, caller, "CreateNetworkInterface", client_token.as_ref(), &input);
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateNetworkInterface", "network-interface", tags);
    let subnet = arn(caller, "subnet", input.subnet_id.as_deref().unwrap_or_default());
    let named = input.groups.iter().flatten().map(|id| arn(caller, "security-group", id));
    let permission = make.permission(caller).on(subnet).on_each(named);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if let Some(id) = it.made_before(&once)? {
            let row = own_interface(it, Some(&id))?;
            return Ok(to_wire(&it.network, caller, &row));
        }
        let tags = make.tags()?;
        check_supported(&input)?;
        let subnet = it.subnet(input.subnet_id.as_deref())?;
        let asked = asked_addresses(&input)?;
        check_room(it, &subnet, 1 + asked.count())?;
        let given = input.groups.as_deref().unwrap_or_default();
        let groups = groups(it, &subnet.vpc, given)?;
        let description = description(input.description.as_deref())?;
        let wanted = Wanted {
            address: asked.primary,
            groups,
            user: InterfaceUser::Person { description, checks_source: true },
        };
        let row = begin(it, &subnet, wanted)?;
        let others = private_addresses::add(it, &subnet, &row, &asked, 0)?;
        it.tag(row.eni.as_str(), &tags);
        it.remember(&once, row.eni.as_str());
        let mut wire = to_wire(&it.network, caller, &row);
        wire.tag_set = Some(tags::to_wire(Some(&tags)));
        let shown = others.iter().map(|row| private_addresses::to_wire(&it.network, caller, row));
        wire.private_ip_addresses.get_or_insert_default().extend(shown);
        it.put(row);
        others.into_iter().for_each(|row| it.put(row));
        Ok(wire)
    });
    Ok(api::CreateNetworkInterfaceResult { network_interface: Some(made.await?), client_token })
}

/// A subnet has room for more addresses that somebody asks for.
pub(crate) fn check_room(it: &Change<'_>, subnet: &SubnetRow, more: usize) -> Result<(), Refusal> {
    let code = "NetworkInterfaceLimitExceeded";
    let index = Index::SubnetInterfaces(it.account, subnet.id.clone());
    if it.network.view().member_count(&index) + more > INTERFACES_MAX {
        let what = "network interfaces";
        return Err(NetworkRefusal::TooMany { code, what }.into());
    }
    let is_shared = it.network.is_default(&subnet.vpc);
    if is_shared && made_in_default(&it.network) + more > SHARED_INTERFACES_MAX {
        let what = "addresses of network interfaces made in the default VPC";
        return Err(NetworkRefusal::TooMany { code, what }.into());
    }
    Ok(())
}

/// How many addresses of the default VPC interfaces have that somebody made as such.
fn made_in_default(network: &Network<'_>) -> usize {
    let made = |row: &&Arc<Interface>| {
        matches!(row.user, InterfaceUser::Person { .. } | InterfaceUser::Secondary { .. })
    };
    in_default(network).filter(made).count()
}

fn check_supported(input: &api::CreateNetworkInterfaceRequest) -> Result<(), Refusal> {
    let many = |count: Option<i32>| count.is_some_and(|count| count > 0);
    let kind = input.interface_type.as_ref();
    let others = [
        ("Ipv4Prefixes", input.ipv4_prefixes.is_some() || many(input.ipv4_prefix_count)),
        ("Ipv6Prefixes", input.ipv6_prefixes.is_some() || many(input.ipv6_prefix_count)),
        ("Ipv6Addresses", input.ipv6_addresses.is_some() || many(input.ipv6_address_count)),
        ("EnablePrimaryIpv6", input.enable_primary_ipv6 == Some(true)),
        ("ConnectionTrackingSpecification", input.connection_tracking_specification.is_some()),
        ("Operator", input.operator.is_some()),
        ("InterfaceType", kind.is_some_and(|kind| kind.as_str() != "interface")),
    ];
    match others.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((name, _)) => Err(NetworkRefusal::Unsupported(format!(
            "{name} is not available in this region: an interface has IPv4 addresses."
        ))
        .into()),
    }
}

/// The addresses that a request names, in any of its members. Where no other member says which is the interface's own, the
/// first of the list is.
fn asked_addresses(input: &api::CreateNetworkInterfaceRequest) -> Result<Addresses<'_>, Refusal> {
    let listed = input.private_ip_addresses.as_deref().unwrap_or_default();
    let own = input.private_ip_address.as_deref().filter(|given| !given.is_empty());
    let named: Vec<&str> =
        listed.iter().filter_map(|it| it.private_ip_address.as_deref()).collect();
    if named.len() != listed.len() {
        return Err(Refusal::Parameter("privateIpAddress"));
    }
    let mut marked = listed.iter().zip(&named).filter(|(it, _)| it.primary == Some(true));
    let first = marked.next().map(|(_, given)| *given);
    if marked.next().is_some() || first.zip(own).is_some_and(|(first, own)| first != own) {
        let sentence = "Only one primary private IP address can be specified.";
        return Err(Refusal::Combination(sentence.to_owned()));
    }
    let primary = own.or(first).or(named.first().copied());
    // One that is marked is listed once; two of one kind are a mistake that is told.
    let mut others = named;
    if own.is_none() || first.is_some() {
        let place = others.iter().position(|given| Some(*given) == primary);
        place.map(|place| others.remove(place));
    }
    let any = private_addresses::number(input.secondary_private_ip_address_count)?;
    Addresses { primary, named: others, any }.checked()
}

pub(crate) async fn delete_network_interface(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteNetworkInterfaceRequest,
) -> Result<(), ApiError> {
    let id = input.network_interface_id.as_ref();
    let permission = on(caller, "ec2:DeleteNetworkInterface", "network-interface", id);
    let deleted = ec2.change(caller, &permission, input.dry_run, |it| {
        let id = crate::change::id_of(
            Kind::NetworkInterface,
            "networkInterfaceId",
            input.network_interface_id.as_deref(),
        )?;
        let row = find(&it.network, &id);
        let row = row.ok_or_else(|| Kind::NetworkInterface.refused()(id.as_str()))?;
        match row.user {
            InterfaceUser::Person { .. } => {}
            InterfaceUser::Task { .. }
            | InterfaceUser::Balancer { .. }
            | InterfaceUser::VpcEndpoint { .. }
            | InterfaceUser::NatGateway { .. }
            | InterfaceUser::Secondary { .. } => {
                return Err(NetworkRefusal::InterfaceInUse(row.eni.to_string()).into());
            }
        }
        it.batch.rely(key(&row));
        // An Elastic IP address goes back to its account.
        it.batch.rely(Index::Ec2Uses(it.account, row.eni.as_str().into()));
        it.batch.rely(Index::Eni(it.account, row.eni.clone()));
        private_addresses::give_back_public(it, &row);
        for other in private_addresses::of(&it.network, &row) {
            private_addresses::give_back_public(it, &other);
            it.batch.delete(key(&other));
        }
        delete(it, &row);
        Ok(())
    });
    deleted.await
}

/// A member of an interface's attachment.
fn attached<T: ToString>(
    it: &api::NetworkInterface,
    member: impl Fn(&api::NetworkInterfaceAttachment) -> Option<T>,
) -> Vec<String> {
    it.attachment.iter().filter_map(member).map(|value| value.to_string()).collect()
}

/// A member of each of an interface's private addresses.
fn private(
    it: &api::NetworkInterface,
    member: impl Fn(&api::NetworkInterfacePrivateIpAddress) -> Option<String>,
) -> Vec<String> {
    it.private_ip_addresses.iter().flatten().filter_map(member).collect()
}

/// As [`private`], of the public address that goes with it.
fn private_associated(
    it: &api::NetworkInterface,
    member: impl Fn(&api::NetworkInterfaceAssociation) -> Option<String>,
) -> Vec<String> {
    private(it, |each| each.association.as_ref().and_then(&member))
}

/// A member of an interface's association with a public address.
fn associated(
    it: &api::NetworkInterface,
    member: impl Fn(&api::NetworkInterfaceAssociation) -> Option<String>,
) -> Vec<String> {
    it.association.iter().filter_map(member).collect()
}

const FILTERS: Filters<api::NetworkInterface> = &[
    ("addresses.association.allocation-id", |it| {
        private_associated(it, |each| each.allocation_id.clone())
    }),
    ("addresses.association.association-id", |it| {
        private_associated(it, |each| each.association_id.clone())
    }),
    ("addresses.association.ip-owner-id", |it| {
        private_associated(it, |each| each.ip_owner_id.clone())
    }),
    ("addresses.association.owner-id", |it| {
        private_associated(it, |each| each.ip_owner_id.clone())
    }),
    ("addresses.association.public-dns-name", |it| {
        private_associated(it, |each| each.public_dns_name.clone())
    }),
    ("addresses.association.public-ip", |it| private_associated(it, |each| each.public_ip.clone())),
    ("addresses.primary", |it| private(it, |each| each.primary.map(|it| it.to_string()))),
    ("addresses.private-dns-name", |it| private(it, |each| each.private_dns_name.clone())),
    ("addresses.private-ip-address", |it| private(it, |each| each.private_ip_address.clone())),
    ("association.allocation-id", |it| associated(it, |each| each.allocation_id.clone())),
    ("association.association-id", |it| associated(it, |each| each.association_id.clone())),
    ("association.ip-owner-id", |it| associated(it, |each| each.ip_owner_id.clone())),
    ("association.public-dns-name", |it| associated(it, |each| each.public_dns_name.clone())),
    ("association.public-ip", |it| associated(it, |each| each.public_ip.clone())),
    ("attachment.attachment-id", |it| attached(it, |each| each.attachment_id.clone())),
    ("attachment.delete-on-termination", |it| attached(it, |each| each.delete_on_termination)),
    ("attachment.device-index", |it| attached(it, |each| each.device_index)),
    ("attachment.instance-id", |it| attached(it, |each| each.instance_id.clone())),
    ("attachment.instance-owner-id", |it| attached(it, |each| each.instance_owner_id.clone())),
    ("attachment.status", |it| attached(it, |each| each.status.clone())),
    ("availability-zone", |it| one(it.availability_zone.as_ref())),
    ("availability-zone-id", |it| one(it.availability_zone_id.as_ref())),
    ("description", |it| one(it.description.as_ref())),
    ("group-id", |it| {
        it.groups.iter().flatten().filter_map(|group| group.group_id.clone()).collect()
    }),
    ("group-name", |it| {
        it.groups.iter().flatten().filter_map(|group| group.group_name.clone()).collect()
    }),
    ("interface-type", |it| shown(it.interface_type.as_ref())),
    ("ipv6-addresses.ipv6-address", |_| vec![]),
    ("mac-address", |it| one(it.mac_address.as_ref())),
    ("network-interface-id", |it| one(it.network_interface_id.as_ref())),
    ("operator.managed", |_| vec!["false".to_owned()]),
    ("operator.principal", |_| vec![]),
    ("owner-id", |it| one(it.owner_id.as_ref())),
    ("private-dns-name", |it| one(it.private_dns_name.as_ref())),
    ("private-ip-address", |it| one(it.private_ip_address.as_ref())),
    ("requester-id", |it| one(it.requester_id.as_ref())),
    ("requester-managed", |it| shown(it.requester_managed.as_ref())),
    ("source-dest-check", |it| shown(it.source_dest_check.as_ref())),
    ("status", |it| shown(it.status.as_ref())),
    ("subnet-id", |it| one(it.subnet_id.as_ref())),
    ("vpc-id", |it| one(it.vpc_id.as_ref())),
];

pub(crate) async fn describe_network_interfaces(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeNetworkInterfacesRequest,
) -> Result<api::DescribeNetworkInterfacesResult, ApiError> {
    let view =
        ec2.control.read(caller, &Permission::to("ec2:DescribeNetworkInterfaces").on("*"))?;
    unless_dry(input.dry_run)?;
    let network = ec2.control.network(&view, caller.account);
    let mut all: Vec<api::NetworkInterface> = Vec::new();
    for subnet in network.subnets() {
        let index = Index::SubnetInterfaces(caller.account, subnet.id.clone());
        let rows = view.members(&index).filter_map(|key| {
            let Key::Interface(account, id) = key else { return None };
            view.interfaces.get(*account, id)
        });
        let rows = rows.filter(|row| !row.is_secondary());
        all.extend(rows.map(|row| to_wire(&network, caller, row)));
    }
    all.sort_by(|a, b| a.network_interface_id.cmp(&b.network_interface_id));
    let asked = Asked {
        kind: Kind::NetworkInterface,
        ids: input.network_interface_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (all, next_token) = select(all, &asked, |it| it.network_interface_id.as_deref(), FILTERS)?;
    Ok(api::DescribeNetworkInterfacesResult { network_interfaces: Some(all), next_token })
}

/// What an interface's owner makes of it.
struct Owner {
    description: String,
    requester: String,
    /// What the id of its attachment starts with.
    attachment: &'static str,
    /// Whether it is somebody's who uses it now.
    is_attached: bool,
    kind: api::NetworkInterfaceType,
    checks_source: bool,
}

const OWN_ATTACHMENT: &str = "eni-attach-";
/// Of interfaces that services have for themselves.
const SERVICE_ATTACHMENT: &str = "ela-attach-";

/// The interface that an attachment's id is of.
pub(crate) fn of_attachment(id: &str) -> Option<EniId> {
    let id = id.strip_prefix(OWN_ATTACHMENT).or_else(|| id.strip_prefix(SERVICE_ATTACHMENT))?;
    format!("eni-{id}").parse().ok()
}

fn owner(view: &View, caller: &Caller, row: &Interface) -> Owner {
    let (region, account) = (&caller.region, caller.account);
    let plain = api::NetworkInterfaceType::Interface;
    match &row.user {
        InterfaceUser::Task { task, attachment, .. } => {
            let task = view.tasks.get(account, task);
            Owner {
                // Amazon's wording: tools find a task's interface by it.
                description: format!("arn:aws:ecs:{region}:{account}:attachment/{attachment}"),
                // Who made it is the region, in an account of its own.
                requester: region_account().to_string(),
                attachment: OWN_ATTACHMENT,
                is_attached: task.is_some_and(|task| task.instance.is_some()),
                kind: plain,
                checks_source: true,
            }
        }
        InterfaceUser::Balancer { balancer } => Owner {
            description: format!("ELB {balancer}"),
            requester: "amazon-elb".to_owned(),
            attachment: SERVICE_ATTACHMENT,
            is_attached: true,
            kind: plain,
            checks_source: true,
        },
        InterfaceUser::NatGateway { nat_gateway } => Owner {
            description: format!("Interface for NAT Gateway {nat_gateway}"),
            requester: "amazon-aws".to_owned(),
            attachment: SERVICE_ATTACHMENT,
            is_attached: true,
            // The service's word for it, though its model has another.
            kind: "nat_gateway".into(),
            checks_source: false,
        },
        InterfaceUser::VpcEndpoint { vpc_endpoint } => Owner {
            description: format!("VPC Endpoint Interface {vpc_endpoint}"),
            requester: "amazon-aws".to_owned(),
            attachment: SERVICE_ATTACHMENT,
            is_attached: true,
            kind: "vpc_endpoint".into(),
            checks_source: true,
        },
        InterfaceUser::Person { description, checks_source } => Owner {
            description: description.clone(),
            requester: account.to_string(),
            attachment: OWN_ATTACHMENT,
            is_attached: false,
            kind: plain,
            checks_source: *checks_source,
        },
        // The row of the interface's own address says these.
        InterfaceUser::Secondary { .. } => Owner {
            description: String::new(),
            requester: account.to_string(),
            attachment: OWN_ATTACHMENT,
            is_attached: false,
            kind: plain,
            checks_source: true,
        },
    }
}

/// The public address of an interface, if it has one, and its name where those of its VPC have names.
pub(crate) fn association(
    view: &View,
    caller: &Caller,
    row: &Interface,
    has_name: bool,
) -> Option<api::NetworkInterfaceAssociation> {
    let name = |address: Ipv4Addr| {
        let is_named = has_name && row.is_apart;
        if is_named { public_dns_name(address, &caller.region) } else { String::new() }
    };
    if let Some(elastic) = view.elastic_address_of(row) {
        return Some(api::NetworkInterfaceAssociation {
            allocation_id: Some(elastic.id.to_string()),
            association_id: elastic.association.as_ref().map(|it| it.id.to_string()),
            ip_owner_id: Some(caller.account.to_string()),
            public_dns_name: Some(name(elastic.address)),
            public_ip: Some(elastic.address.to_string()),
            ..api::NetworkInterfaceAssociation::default()
        });
    }
    // In the default VPC the nearest to a public address is the very address that a task has: the host, and what
    // it routes for, reach it there.
    let its_own = (row.assign_public_ip && !row.is_apart).then_some(row.address);
    let address = row.public.or(its_own)?;
    let association = row.public.map(|_| row.eni.as_str().replacen("eni-", "eipassoc-", 1));
    let (owner, name) = match row.user {
        InterfaceUser::Balancer { .. } => ("amazon-elb", String::new()),
        InterfaceUser::Task { .. }
        | InterfaceUser::NatGateway { .. }
        | InterfaceUser::VpcEndpoint { .. }
        | InterfaceUser::Person { .. }
        | InterfaceUser::Secondary { .. } => ("amazon", name(address)),
    };
    Some(api::NetworkInterfaceAssociation {
        association_id: association,
        ip_owner_id: Some(owner.to_owned()),
        public_dns_name: Some(name),
        public_ip: Some(address.to_string()),
        ..api::NetworkInterfaceAssociation::default()
    })
}

pub(crate) fn to_wire(
    network: &Network<'_>,
    caller: &Caller,
    row: &Interface,
) -> api::NetworkInterface {
    let (view, account) = (network.view(), caller.account);
    let Owner { description, requester, attachment, is_attached, kind, checks_source } =
        owner(view, caller, row);
    let id = row.eni.as_str().trim_start_matches("eni-");
    let is_managed = !matches!(row.user, InterfaceUser::Person { .. });
    let attachment = api::NetworkInterfaceAttachment {
        attach_time: Some(row.created_at),
        attachment_id: Some(format!("{attachment}{id}")),
        delete_on_termination: Some(false),
        device_index: Some(1),
        network_card_index: Some(0),
        instance_owner_id: Some(requester.clone()),
        status: Some(api::AttachmentStatus::Attached),
        ..api::NetworkInterfaceAttachment::default()
    };
    let groups = row.security_groups.iter().map(|group| api::GroupIdentifier {
        group_id: Some(group.to_string()),
        group_name: view.security_group(account, group).map(|whole| whole.group.name),
    });
    let own = private_addresses::to_wire(network, caller, row);
    let others = private_addresses::of(network, row);
    let others = others.iter().map(|row| private_addresses::to_wire(network, caller, row));
    let tags: Option<&Tags> = view.tags_on(account, row.eni.as_str());
    api::NetworkInterface {
        association: own.association.clone(),
        attachment: is_attached.then_some(attachment),
        availability_zone: Some(row.zone.clone()),
        availability_zone_id: network.subnet(&row.subnet).map(|subnet| subnet.zone_id.clone()),
        description: Some(description),
        requester_id: Some(requester),
        groups: Some(groups.collect()),
        interface_type: Some(kind),
        ipv6_addresses: Some(vec![]),
        mac_address: Some(row.mac.clone()),
        network_interface_id: Some(row.eni.to_string()),
        owner_id: Some(account.to_string()),
        private_dns_name: own.private_dns_name.clone(),
        private_ip_address: Some(row.address.to_string()),
        private_ip_addresses: Some([own].into_iter().chain(others).collect()),
        requester_managed: Some(is_managed),
        source_dest_check: Some(checks_source),
        status: Some(if is_attached {
            api::NetworkInterfaceStatus::InUse
        } else {
            api::NetworkInterfaceStatus::Available
        }),
        subnet_id: Some(row.subnet.to_string()),
        tag_set: Some(tags::to_wire(tags)),
        vpc_id: Some(row.vpc.to_string()),
        ..api::NetworkInterface::default()
    }
}
