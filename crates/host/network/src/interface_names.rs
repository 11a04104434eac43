//! Names that follow from addresses, as EC2 gives them to interfaces. In a VPC whose interfaces have names each address
//! of its ranges has one, and is found by it; and a public address by its name leads to the interface itself.
//!
//! What is no such name, or of an address that is not the VPC's, is nobody's here and is passed on: the host may be in
//! a network that has such names too.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use longshore_types::{Cidr, RegionName, VpcId};
use traffic::feed::{Feed, PUBLIC_POOL};

use crate::zones::{self, A, PTR};

const TTL_S: u32 = 60;

/// What of a VPC decides about the names of its interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterfaceNames {
    ranges: Vec<Cidr>,
    /// Of an interface's public address its own; also those of peers that allow it.
    publics: BTreeMap<Ipv4Addr, Ipv4Addr>,
}

impl InterfaceNames {
    /// Those of the region's default VPC, where the world knows interfaces by the addresses that they have.
    pub(crate) fn of_default(range: Cidr) -> Self {
        Self { ranges: vec![range], publics: BTreeMap::new() }
    }

    /// None where interfaces have no names.
    pub(crate) fn of(feed: &Feed, vpc: &VpcId) -> Option<Self> {
        let vpc = feed.vpcs.get(vpc).filter(|vpc| vpc.has_dns && vpc.has_dns_hostnames)?;
        let interfaces = feed.interfaces_of(&vpc.id).into_values();
        let peers = feed.peered_of(&vpc.id).into_values();
        let peers = peers.filter(|it| it.peering.has_names).map(|it| it.interface);
        let publics = interfaces.chain(peers).filter_map(|it| Some((it.public?, it.address)));
        Some(Self { ranges: vpc.ranges.clone(), publics: publics.collect() })
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// The answer to a question; none if it is to be passed on.
    pub(crate) fn answer(&self, region: &RegionName, message: &[u8]) -> Option<Vec<u8>> {
        let question = zones::read(message)?;
        let (kind, data, zone) = self.find(region, &question.name)?;
        let mut answer = zones::begin(message, &question);
        if question.kind == kind {
            answer[7] = 1;
            answer.extend(zones::resource(&zones::SAME_NAME, kind, TTL_S, &data));
        } else {
            answer[9] = 1;
            answer.extend(zones::soa(&zone, TTL_S));
        }
        Some(answer)
    }

    /// The kind of the only record that a name has, what it says, and in which zone.
    fn find(&self, region: &RegionName, name: &str) -> Option<(u16, Vec<u8>, String)> {
        let (inside, outside) = domains(region);
        let address = |prefix: &str, domain: &str| {
            let host = name.strip_suffix(domain)?.strip_suffix('.')?.strip_prefix(prefix)?;
            parse(host.split('-'))
        };
        if let Some(found) = address("ip-", &inside).filter(|it| self.contains(*it)) {
            return Some((A, found.octets().to_vec(), inside));
        }
        if let Some(public) = address("ec2-", &outside) {
            let found = self.publics.get(&public).copied();
            // One that is another VPC's is reached by it, and nobody else knows its name.
            let found = found.or_else(|| PUBLIC_POOL.contains(public).then_some(public))?;
            return Some((A, found.octets().to_vec(), outside));
        }
        const REVERSE: &str = "in-addr.arpa";
        let labels = name.strip_suffix(REVERSE)?.strip_suffix('.')?;
        let [a, b, c, d] = parse(labels.rsplit('.')).filter(|it| self.contains(*it))?.octets();
        let data = zones::name(&format!("ip-{a}-{b}-{c}-{d}.{inside}"))?;
        Some((PTR, data, REVERSE.to_owned()))
    }
}

/// In which names of private addresses are, and of public ones.
pub(crate) fn domains(region: &RegionName) -> (String, String) {
    match region.as_str() {
        "us-east-1" => ("ec2.internal".to_owned(), "compute-1.amazonaws.com".to_owned()),
        other => (format!("{other}.compute.internal"), format!("{other}.compute.amazonaws.com")),
    }
}

/// An address of its four numbers, each written in one way only.
fn parse<'t>(mut numbers: impl Iterator<Item = &'t str>) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    for octet in &mut octets {
        let text = numbers.next()?;
        *octet = text.parse().ok().filter(|number: &u8| number.to_string() == text)?;
    }
    numbers.next().is_none().then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use traffic::feed::{Interface, Item, Place, Vni, Vpc};

    use super::*;
    use crate::zones::tests::question;

    fn feed(has_dns_hostnames: bool) -> (Feed, VpcId) {
        let id: VpcId = "vpc-0000000a".parse().unwrap();
        let vpc = Vpc {
            vni: Vni::of(&id),
            id: id.clone(),
            ranges: vec!["10.0.0.0/16".parse().unwrap(), "10.7.0.0/24".parse().unwrap()],
            has_dns: true,
            has_dns_hostnames,
            is_default: false,
        };
        let interface = Interface {
            id: "eni-00000001".parse().unwrap(),
            vpc: id.clone(),
            subnet: "subnet-00000001".parse().unwrap(),
            address: [10, 0, 1, 4].into(),
            groups: vec![],
            public: Some([198, 18, 3, 4].into()),
            place: Place::Here,
            is_balancers: false,
            is_logged: false,
        };
        ([Item::Vpc(vpc), Item::Interface(interface)].into_iter().collect(), id)
    }

    #[test]
    fn an_address_of_the_vpc_has_a_name_and_is_found_by_it() {
        let (feed, vpc) = feed(true);
        let names = InterfaceNames::of(&feed, &vpc).unwrap();
        let region: RegionName = "eu-north-1".parse().unwrap();
        let address = |text: &str| {
            let (kind, data, _) = names.find(&region, text)?;
            (kind == A).then(|| <[u8; 4]>::try_from(data).unwrap())
        };
        for (name, found) in [
            ("ip-10-0-1-4.eu-north-1.compute.internal", Some([10, 0, 1, 4])),
            ("ip-10-7-0-9.eu-north-1.compute.internal", Some([10, 7, 0, 9])),
            ("ip-10-8-0-9.eu-north-1.compute.internal", None),
            ("ip-10-0-1-04.eu-north-1.compute.internal", None),
            ("ip-10-0-1.eu-north-1.compute.internal", None),
            ("ip-10-0-1-4.eu-west-1.compute.internal", None),
            ("ip-10-0-1-4.ec2.internal", None),
            ("ec2-198-18-3-4.eu-north-1.compute.amazonaws.com", Some([10, 0, 1, 4])),
            ("ec2-198-18-3-5.eu-north-1.compute.amazonaws.com", Some([198, 18, 3, 5])),
            ("ec2-203-0-113-5.eu-north-1.compute.amazonaws.com", None),
            ("eu-north-1.compute.internal", None),
        ] {
            assert_eq!(address(name), found, "{name}");
        }
        let (kind, data, _) = names.find(&region, "4.1.0.10.in-addr.arpa").unwrap();
        let name = zones::name("ip-10-0-1-4.eu-north-1.compute.internal").unwrap();
        assert_eq!((kind, data), (PTR, name));
        assert_eq!(names.find(&region, "4.1.0.11.in-addr.arpa"), None);
        let virginia: RegionName = "us-east-1".parse().unwrap();
        for name in ["ip-10-0-1-4.ec2.internal", "ec2-198-18-3-4.compute-1.amazonaws.com"] {
            assert_eq!(names.find(&virginia, name).unwrap().1, [10, 0, 1, 4], "{name}");
        }
    }

    #[test]
    fn a_name_has_records_of_one_kind_and_none_where_interfaces_have_no_names() {
        let (with, vpc) = feed(true);
        let names = InterfaceNames::of(&with, &vpc).unwrap();
        let region: RegionName = "eu-north-1".parse().unwrap();
        const AAAA: u16 = 28;
        let counts = |kind| {
            let asked = question("IP-10-0-1-4.eu-north-1.compute.internal", kind);
            let answer = names.answer(&region, &asked).unwrap();
            assert_eq!(answer[3] & 0xf, 0, "the name is there");
            (answer[7], answer[9])
        };
        assert_eq!((counts(A), counts(AAAA)), ((1, 0), (0, 1)));
        let (without, vpc) = feed(false);
        assert_eq!(InterfaceNames::of(&without, &vpc), None);
    }
}
