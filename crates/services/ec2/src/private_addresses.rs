//! Private addresses of interfaces that somebody made, besides their own: assigned, moved from one interface to another and
//! taken away again, with the Elastic IP addresses that they have.

use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use model::network::{ElasticAddress, Network, SubnetRow};
use model::table::Record as _;
use model::vpc::{Interface, InterfaceId, InterfaceUser, private_dns_name, region_account};
use model::{Index, Key};

use crate::Ec2;
use crate::addresses::own_interface;
use crate::change::{Change, on};
use crate::errors::Refusal;
use crate::interfaces::{address_in, association, check_room, free_address, key};
use crate::limits::SECONDARY_ADDRESSES_MAX;
use crate::refusal::NetworkRefusal;

/// Addresses that a request asks for.
pub(crate) struct Addresses<'a> {
    /// The interface's own; any free one without.
    pub(crate) primary: Option<&'a str>,
    pub(crate) named: Vec<&'a str>,
    /// How many besides, at any free addresses.
    pub(crate) any: usize,
}

impl Addresses<'_> {
    /// How many they are besides the interface's own.
    pub(crate) fn count(&self) -> usize {
        self.named.len() + self.any
    }

    /// Addresses are named or counted, and each is named once.
    pub(crate) fn checked(self) -> Result<Self, Refusal> {
        if self.any > 0 && !self.named.is_empty() {
            let sentence = "Private IP addresses are named or counted: PrivateIpAddresses and \
                            SecondaryPrivateIpAddressCount do not go together.";
            return Err(Refusal::Combination(sentence.to_owned()));
        }
        if self.count() > SECONDARY_ADDRESSES_MAX {
            return Err(too_many());
        }
        let mut all: Vec<&str> = self.primary.iter().chain(&self.named).copied().collect();
        all.sort_unstable();
        if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Refusal::Value(format!("The address {} is named twice.", twice[0])));
        }
        Ok(self)
    }
}

fn too_many() -> Refusal {
    let (code, what) = ("PrivateIpAddressLimitExceeded", "private IP addresses of an interface");
    NetworkRefusal::TooMany { code, what }.into()
}

/// A number of addresses that a request asks for.
pub(crate) fn number(given: Option<i32>) -> Result<usize, Refusal> {
    let number = given.unwrap_or(0);
    usize::try_from(number).map_err(|_| {
        Refusal::Value(format!(
            "Value ({number}) for parameter secondaryPrivateIpAddressCount is invalid. It is 0 or more."
        ))
    })
}

/// The addresses of an interface besides its own, in their order.
pub(crate) fn of(network: &Network<'_>, interface: &Interface) -> Vec<Arc<Interface>> {
    let view = network.view();
    let index = Index::Eni(network.account(), interface.eni.clone());
    let rows = view.members(&index).filter_map(|key| match key {
        Key::Interface(owner, id) => view.interfaces.get(*owner, id),
        _ => None,
    });
    let mut rows: Vec<_> = rows.filter(|row| row.is_secondary()).cloned().collect();
    rows.sort_by_key(|row| row.address);
    rows
}

/// One address of an interface, as it is shown.
pub(crate) fn to_wire(
    network: &Network<'_>,
    caller: &Caller,
    row: &Interface,
) -> api::NetworkInterfacePrivateIpAddress {
    let has_name = network.vpc(&row.vpc).is_some_and(|vpc| vpc.dns_hostnames);
    api::NetworkInterfacePrivateIpAddress {
        association: association(network.view(), caller, row, has_name),
        primary: Some(!row.is_secondary()),
        private_dns_name: has_name.then(|| private_dns_name(row.address, &caller.region)),
        private_ip_address: Some(row.address.to_string()),
    }
}

/// The rows of addresses that an interface is to have besides its own and the `had` others; the caller writes them.
pub(crate) fn add(
    it: &mut Change<'_>,
    subnet: &SubnetRow,
    interface: &Interface,
    asked: &Addresses<'_>,
    had: usize,
) -> Result<Vec<Interface>, Refusal> {
    if had + asked.count() > SECONDARY_ADDRESSES_MAX {
        return Err(too_many());
    }
    let mut taken = vec![interface.address];
    let named = asked.named.iter().copied().map(Some);
    for wanted in named.chain(std::iter::repeat_n(None, asked.any)) {
        taken.push(free_address(it, subnet, wanted, &taken)?);
    }
    Ok(taken.into_iter().skip(1).map(|address| secondary(interface, address)).collect())
}

fn secondary(interface: &Interface, address: Ipv4Addr) -> Interface {
    Interface {
        address,
        user: InterfaceUser::Secondary { primary: interface.address },
        // Those on the interface's own row are the ones that count.
        security_groups: vec![],
        ..interface.clone()
    }
}

/// An Elastic IP address goes back to its account.
pub(crate) fn give_back_public(it: &mut Change<'_>, row: &Interface) {
    if let Some(address) = it.network.view().elastic_address_of(row) {
        it.put(ElasticAddress { association: None, ..ElasticAddress::clone(address) });
    }
}

pub(crate) async fn assign_private_ip_addresses(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AssignPrivateIpAddressesRequest,
) -> Result<api::AssignPrivateIpAddressesResult, ApiError> {
    let id = input.network_interface_id.as_ref();
    let permission = on(caller, "ec2:AssignPrivateIpAddresses", "network-interface", id);
    let assigned = ec2.change(caller, &permission, None, |it| {
        let interface = own_interface(it, input.network_interface_id.as_deref())?;
        let many = input.ipv4_prefix_count.is_some_and(|count| count > 0);
        check_no_prefixes(input.ipv4_prefixes.is_some() || many)?;
        let named = input.private_ip_addresses.iter().flatten().map(String::as_str);
        let any = number(input.secondary_private_ip_address_count)?;
        let asked = Addresses { primary: None, named: named.collect(), any }.checked()?;
        if asked.count() == 0 {
            return Err(Refusal::OneOf("privateIpAddresses", "secondaryPrivateIpAddressCount"));
        }
        let subnet = it.subnet(Some(interface.subnet.as_str()))?;
        it.batch.rely(Index::Eni(it.account, interface.eni.clone()));
        let had = of(&it.network, &interface).len();
        let may_move = input.allow_reassignment == Some(true);
        let plan = planned(it, &subnet, &interface, &asked, may_move)?;
        check_room(it, &subnet, plan.fresh.count())?;
        let mut rows = add(it, &subnet, &interface, &plan.fresh, had + plan.moved.len())?;
        for before in plan.moved {
            it.batch.rely(Index::Ec2Uses(it.account, before.eni.as_str().into()));
            move_public(it, &before, &interface);
            rows.push(secondary(&interface, before.address));
        }
        let addresses: Vec<Ipv4Addr> = rows.iter().map(|row| row.address).collect();
        rows.into_iter().for_each(|row| it.put(row));
        Ok(addresses)
    });
    let assigned = assigned.await?.into_iter().map(|address| api::AssignedPrivateIpAddress {
        private_ip_address: Some(address.to_string()),
    });
    Ok(api::AssignPrivateIpAddressesResult {
        assigned_private_ip_addresses: Some(assigned.collect()),
        network_interface_id: input.network_interface_id,
        ..api::AssignPrivateIpAddressesResult::default()
    })
}

fn check_no_prefixes(is_asked: bool) -> Result<(), Refusal> {
    let why = "Ipv4Prefixes are not available in this region: an interface has addresses.";
    if is_asked { Err(NetworkRefusal::Unsupported(why.to_owned()).into()) } else { Ok(()) }
}

/// Which of the addresses that are asked for are new, and which another interface gives up.
struct Plan<'a> {
    fresh: Addresses<'a>,
    moved: Vec<Arc<Interface>>,
}

fn planned<'a>(
    it: &mut Change<'_>,
    subnet: &SubnetRow,
    interface: &Interface,
    asked: &Addresses<'a>,
    may_move: bool,
) -> Result<Plan<'a>, Refusal> {
    let fresh = Addresses { primary: None, named: vec![], any: asked.any };
    let mut plan = Plan { fresh, moved: vec![] };
    for given in &asked.named {
        let id = InterfaceId { address: address_in(subnet, given)?, ..interface.id() };
        let Some(row) = it.network.view().interfaces.get(region_account(), &id).cloned() else {
            plan.fresh.named.push(*given);
            continue;
        };
        it.batch.rely(key(&row));
        let is_other = row.is_secondary() && row.owner.account == it.account;
        if is_other && row.eni == interface.eni {
            // It has it: nothing is to be done about it.
            continue;
        }
        if !is_other {
            return Err(NetworkRefusal::PrivateAddressTaken((*given).to_owned()).into());
        }
        if !may_move {
            return Err(Refusal::Value(format!(
                "[{given}] assigned, but move is not allowed: with AllowReassignment it is moved from {}.",
                row.eni
            )));
        }
        plan.moved.push(row);
    }
    Ok(plan)
}

/// The Elastic IP address of an address that moves stays with it.
fn move_public(it: &mut Change<'_>, before: &Interface, to: &Interface) {
    let Some(row) = it.network.view().elastic_address_of(before) else { return };
    let mut row = ElasticAddress::clone(row);
    if let Some(association) = &mut row.association {
        association.eni = to.eni.clone();
    }
    it.put(row);
}

pub(crate) async fn unassign_private_ip_addresses(
    ec2: &Ec2,
    caller: &Caller,
    input: api::UnassignPrivateIpAddressesRequest,
) -> Result<(), ApiError> {
    let id = input.network_interface_id.as_ref();
    let permission = on(caller, "ec2:UnassignPrivateIpAddresses", "network-interface", id);
    let unassigned = ec2.change(caller, &permission, None, |it| {
        let interface = own_interface(it, input.network_interface_id.as_deref())?;
        check_no_prefixes(input.ipv4_prefixes.is_some())?;
        let named = input.private_ip_addresses.as_deref().unwrap_or_default();
        if named.is_empty() {
            return Err(Refusal::Parameter("privateIpAddresses"));
        }
        it.batch.rely(Index::Eni(it.account, interface.eni.clone()));
        it.batch.rely(Index::Ec2Uses(it.account, interface.eni.as_str().into()));
        let mut there = of(&it.network, &interface);
        for given in named {
            let eni = &interface.eni;
            if *given == interface.address.to_string() {
                let sentence = format!("{given} is the primary address of {eni}, which stays.");
                return Err(Refusal::Value(sentence));
            }
            let place = there.iter().position(|row| row.address.to_string() == *given);
            let place = place.ok_or_else(|| {
                let all = named.join(", ");
                Refusal::Value(format!("Some of [{all}] are not assigned to interface {eni}"))
            })?;
            let row = there.remove(place);
            give_back_public(it, &row);
            it.batch.delete(key(&row));
        }
        Ok(())
    });
    unassigned.await
}
