//! Names of load balancers.
//!
//! An address is told only where it leads to the balancer: those of its interfaces within its own VPC, and elsewhere, of one
//! that faces the internet, those by which the world knows them, on the host that the interface is on, which alone leads to
//! them. A balancer without any has no name there, and who asks is answered by whom the host asks. Of interfaces those are
//! left out that are not served, as long as there are others.

use std::net::Ipv4Addr;

use longshore_types::{AccountId, VpcId};
use model::elb::BalancerZone;
use model::{ElbBalancer, View};
use traffic::{NameEntry, NamedInstance, NamedService};

use super::AskedOn;

/// How long an answer may be remembered: a balancer that was given other subnets is found there after so long.
const TTL_S: u32 = 10;

/// The names of an account's balancers as they are in the default VPC, or in one with addresses of its own.
pub(super) fn entries(
    view: &View,
    account: AccountId,
    own_vpc: Option<&VpcId>,
    asked_on: AskedOn,
) -> Vec<NameEntry> {
    let named = view.elb_balancers.of(account).filter_map(|row| {
        let instances = instances(view, row, own_vpc, asked_on);
        let service = NamedService { a_ttl_s: Some(TTL_S), instances, ..NamedService::default() };
        (!service.instances.is_empty()).then(|| NameEntry {
            account,
            vpc: own_vpc.cloned(),
            zone: row.dns_name(),
            negative_ttl_s: TTL_S,
            service: Some(service),
        })
    });
    named.collect()
}

fn instances(
    view: &View,
    row: &ElbBalancer,
    own_vpc: Option<&VpcId>,
    asked_on: AskedOn,
) -> Vec<NamedInstance> {
    let is_here = view.own_vpc(row.scope.account, &row.vpc).as_ref() == own_vpc;
    let address = |zone: &BalancerZone| -> Option<Ipv4Addr> {
        if is_here {
            return Some(zone.address);
        }
        zone.stand.host.or(asked_on.home).filter(|host| *host == asked_on.host)?;
        let interface = view.interface_at(row.scope.account, &row.vpc, zone.address)?;
        view.public_address_of(interface)
    };
    let instances = row.named_zones().filter_map(|zone| {
        Some(NamedInstance {
            id: zone.eni.to_string(),
            ipv4: Some(address(zone)?),
            is_healthy: true,
            ..NamedInstance::default()
        })
    });
    instances.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use control::testing::rows;
    use longshore_types::{InstanceId, Scope, Timestamp};
    use model::elb::{Attributes, BalancerKind, Stand, StandState};
    use model::vpc::{AddressPlan, Interface, InterfaceUser, mac_of};
    use model::{Row, Tags};

    use super::*;
    use crate::names::ToldNames;

    const OWN: &str = "vpc-0000000000000000a";

    fn put(view: &mut View, row: impl Into<Row>) {
        let seq = view.seq.next();
        view.seq = seq;
        view.put(seq, &row.into());
    }

    /// A balancer with one interface.
    fn balancer(
        view: &mut View,
        scope: &Scope,
        name: &str,
        vpc: &str,
        last: u8,
        is_internal: bool,
    ) {
        let address = Ipv4Addr::new(172, 31, 1, last);
        let row = ElbBalancer {
            scope: scope.clone(),
            kind: BalancerKind::Application,
            name: name.to_owned(),
            digits: format!("{last:016x}"),
            dns_number: u32::from(last),
            is_internal,
            vpc: vpc.parse().unwrap(),
            zones: vec![BalancerZone {
                zone: "us-east-1a".to_owned(),
                subnet: "subnet-00000001".parse().unwrap(),
                eni: format!("eni-000000{last:02x}").parse().unwrap(),
                address,
                stand: Stand::default(),
                passed_over: Vec::new(),
                is_unwell: false,
            }],
            leaving: vec![],
            security_groups: vec![],
            exempts_private_links: false,
            attributes: Attributes::new(),
            tags: Tags::new(),
            created_at: Timestamp(0),
            shifts: Vec::new(),
        };
        let is_apart = vpc == OWN;
        put(
            view,
            Interface {
                address,
                eni: row.zones[0].eni.clone(),
                owner: scope.clone(),
                user: InterfaceUser::Balancer { balancer: row.path() },
                vpc: row.vpc.clone(),
                subnet: row.zones[0].subnet.clone(),
                security_groups: vec![],
                zone: "us-east-1a".to_owned(),
                mac: mac_of(address),
                assign_public_ip: !is_internal,
                created_at: Timestamp(0),
                is_apart,
                public: (is_apart && !is_internal).then(|| Ipv4Addr::new(198, 18, 0, last)),
            },
        );
        put(view, row);
    }

    #[test]
    fn a_name_leads_to_the_balancer_from_where_it_is_asked_for_or_is_not_there() {
        let (mut view, mut task) = (View::default(), rows::task(1));
        let (scope, instance) = (task.scope.clone(), InstanceId::from_bytes([0; 16]));
        let plan = AddressPlan { block: "172.31.0.0/16".parse().unwrap(), bridge: None, seed: 7 };
        let default = plan.default_vpc(scope.account, &scope.region).id.to_string();
        put(&mut view, plan);
        rows::own_vpc(scope.account).into_iter().for_each(|row| put(&mut view, row));
        balancer(&mut view, &scope, "shared", &default, 1, true);
        balancer(&mut view, &scope, "open", OWN, 2, false);
        balancer(&mut view, &scope, "inner", OWN, 3, true);
        let named = |told: &[NameEntry]| -> BTreeMap<String, Ipv4Addr> {
            let pair = |entry: &NameEntry| {
                let name = entry.zone.split('.').next().unwrap().to_owned();
                (name, entry.service.as_ref().unwrap().instances[0].ipv4.unwrap())
            };
            told.iter().map(pair).collect()
        };
        let at = |name: &str, address: [u8; 4]| (name.to_owned(), Ipv4Addr::from(address));
        let mut told = ToldNames::default();
        let news = told.due(&view, (instance, Some(instance)), &[&task], true);
        let expected = [at("internal-shared-1", [172, 31, 1, 1]), at("open-2", [198, 18, 0, 2])];
        assert_eq!(named(&news.entries), expected.into());
        assert_eq!((news.accounts.as_slice(), news.vpcs.len()), ([scope.account].as_slice(), 0));
        task.interface.as_mut().unwrap().own_vpc = Some(OWN.parse().unwrap());
        let news = told.due(&view, (instance, Some(instance)), &[&task], false);
        assert_eq!((news.vpcs.len(), news.accounts.len()), (1, 0));
        assert!(news.entries.iter().all(|entry| entry.vpc.is_some()));
        let expected = [at("open-2", [172, 31, 1, 2]), at("internal-inner-3", [172, 31, 1, 3])];
        assert_eq!(named(&news.entries), expected.into());
        assert!(
            told.due(&view, (instance, Some(instance)), &[&task], false).is_empty(),
            "nothing has changed"
        );
        balancer(&mut view, &scope, "next", OWN, 4, true);
        let news = told.due(&view, (instance, Some(instance)), &[], false);
        let in_vpc = news.entries.iter().filter(|entry| entry.vpc.is_some()).count();
        assert_eq!((news.vpcs.len(), in_vpc), (1, 3));
    }

    #[test]
    fn addresses_that_are_not_served_are_left_out_and_public_ones_are_told_where_they_lead_somewhere()
     {
        let (mut view, task) = (View::default(), rows::task(1));
        let (scope, here) = (task.scope.clone(), InstanceId::from_bytes([0; 16]));
        let there = InstanceId::from_bytes([1; 16]);
        let plan = AddressPlan { block: "172.31.0.0/16".parse().unwrap(), bridge: None, seed: 7 };
        put(&mut view, plan);
        rows::own_vpc(scope.account).into_iter().for_each(|row| put(&mut view, row));
        balancer(&mut view, &scope, "open", OWN, 2, false);
        let known = view.elb_balancers.iter().next().unwrap();
        let mut row = ElbBalancer::clone(known);
        let second = BalancerZone { address: [172, 31, 1, 9].into(), ..row.zones[0].clone() };
        row.zones.push(second);
        let own: VpcId = OWN.parse().unwrap();
        let told = |row: &ElbBalancer, own_vpc: Option<&VpcId>, host: InstanceId| {
            let asked_on = AskedOn { host, home: Some(here) };
            let found = instances(&view, row, own_vpc, asked_on);
            found.iter().map(|it| it.ipv4.unwrap().octets()[3]).collect::<Vec<_>>()
        };
        assert_eq!((told(&row, Some(&own), here), told(&row, None, here)), (vec![2, 9], vec![2]));
        assert_eq!((told(&row, Some(&own), there), told(&row, None, there)), (vec![2, 9], vec![]));
        row.zones[0].stand = Stand::coming(Some(there), Timestamp(1));
        assert_eq!((told(&row, Some(&own), here), told(&row, None, there)), (vec![9], vec![]));
        row.zones[0].stand.state = StandState::Serving;
        assert_eq!((told(&row, None, here), told(&row, None, there)), (vec![], vec![2]));
        row.zones.iter_mut().for_each(|zone| zone.stand.state = StandState::Away);
        assert_eq!(told(&row, Some(&own), here), [2, 9], "where none is served any may be");
    }
}
