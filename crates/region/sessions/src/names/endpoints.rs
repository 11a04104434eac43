//! Names of VPC endpoints: their own, and where that was asked for those of the services that they lead to.
//!
//! Both are told within the endpoint's VPC alone. Those of services are as long as the VPC has names at all
//! (`enableDnsSupport` and `enableDnsHostnames`); without them who asks is answered by whom the host asks.

use longshore_types::{AccountId, VpcId};
use model::network::{EndpointName, VpcEndpoint};
use model::{Index, Key, View};
use traffic::{NameEntry, NamedInstance, NamedService};

/// How long an answer may be remembered: AWS has 60 seconds.
const TTL_S: u32 = 60;

/// The names of an account's endpoints as they are in the default VPC, or in one with addresses of its own.
pub(super) fn entries(view: &View, account: AccountId, own_vpc: Option<&VpcId>) -> Vec<NameEntry> {
    let endpoints = view.members(&Index::MapNames(account)).filter_map(|key| {
        let Key::VpcEndpoint(account, id) = key else { return None };
        view.vpc_endpoints.get(*account, id)
    });
    let here = endpoints.filter(|row| view.own_vpc(account, &row.vpc).as_ref() == own_vpc);
    let mut all = Vec::new();
    for row in here {
        all.extend(names(view, row).into_iter().map(|name| NameEntry {
            account,
            vpc: own_vpc.cloned(),
            zone: name.name.clone(),
            negative_ttl_s: TTL_S,
            service: Some(service(&name)),
        }));
    }
    all
}

fn names(view: &View, row: &VpcEndpoint) -> Vec<EndpointName> {
    // The default VPC has both while it is no row.
    let vpc = view.vpcs.get(row.account, &row.vpc);
    let has_names = vpc.is_none_or(|vpc| vpc.dns_support && vpc.dns_hostnames);
    let interfaces = row.interface().into_iter().flat_map(|it| &it.zones);
    let interface =
        interfaces.clone().find_map(|zone| view.interface_at(row.account, &row.vpc, zone.address));
    let Some(region) = interface.map(|interface| &interface.owner.region) else { return vec![] };
    let mut names = row.own_names(region);
    if has_names {
        names.extend(row.private_names(region));
    }
    names.retain(|name| !name.zones.is_empty());
    names
}

fn service(name: &EndpointName) -> NamedService {
    let instances = name.zones.iter().map(|zone| NamedInstance {
        id: zone.eni.to_string(),
        ipv4: Some(zone.address),
        is_healthy: true,
        ..NamedInstance::default()
    });
    NamedService {
        a_ttl_s: Some(TTL_S),
        has_all_below: name.has_all_below,
        instances: instances.collect(),
        ..NamedService::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use control::testing::rows;
    use longshore_types::Timestamp;
    use model::Row;
    use model::network::{EndpointKind, EndpointZone, InterfaceEndpoint, VpcRow};
    use model::vpc::{AddressPlan, Interface, InterfaceUser, mac_of};

    use super::*;

    #[test]
    fn a_services_name_leads_to_its_endpoint_in_its_vpc_while_that_has_names() {
        let mut view = View::default();
        let put = |view: &mut View, row: Row| {
            view.seq = view.seq.next();
            view.put(view.seq, &row);
        };
        let scope = rows::task(1).scope.clone();
        let plan = AddressPlan { block: "172.31.0.0/16".parse().unwrap(), bridge: None, seed: 7 };
        put(&mut view, plan.into());
        rows::own_vpc(scope.account).into_iter().for_each(|row| put(&mut view, row));
        let vpc = VpcRow::clone(view.vpcs.of(scope.account).next().unwrap());
        let vpc = VpcRow { dns_support: true, dns_hostnames: true, ..vpc };
        put(&mut view, vpc.clone().into());
        let address = Ipv4Addr::new(10, 0, 1, 9);
        let zone = EndpointZone {
            zone: "us-east-1a".to_owned(),
            subnet: "subnet-00000001".parse().unwrap(),
            eni: "eni-00000009".parse().unwrap(),
            address,
        };
        let row = VpcEndpoint {
            account: scope.account,
            id: "vpce-00000001".parse().unwrap(),
            vpc: vpc.id.clone(),
            service: "ecr.dkr".to_owned(),
            kind: EndpointKind::Interface(InterfaceEndpoint {
                zones: vec![zone.clone()],
                groups: vec![],
                has_private_names: true,
            }),
            policy: None,
            created_at: Timestamp(0),
        };
        let interface = Interface {
            address,
            eni: zone.eni,
            owner: scope.clone(),
            user: InterfaceUser::VpcEndpoint { vpc_endpoint: row.id.clone() },
            vpc: vpc.id.clone(),
            subnet: zone.subnet,
            security_groups: vec![],
            zone: zone.zone,
            mac: mac_of(address),
            assign_public_ip: false,
            created_at: Timestamp(0),
            is_apart: true,
            public: None,
        };
        put(&mut view, interface.into());
        put(&mut view, row.into());
        let private = format!("dkr.ecr.{}.amazonaws.com", scope.region);
        let told = |view: &View| entries(view, scope.account, Some(&vpc.id));
        let all = told(&view);
        assert_eq!(all.len(), 3, "its own, that of its zone, and the service's");
        let of_service = all.iter().find(|entry| entry.zone == private).unwrap();
        let service = of_service.service.as_ref().unwrap();
        assert!(service.has_all_below);
        assert_eq!(service.instances[0].ipv4, Some(address));
        assert!(entries(&view, scope.account, None).is_empty(), "it is in another VPC");
        put(&mut view, VpcRow { dns_hostnames: false, ..vpc.clone() }.into());
        let all = told(&view);
        assert!(all.len() == 2 && all.iter().all(|entry| entry.zone != private));
    }
}
