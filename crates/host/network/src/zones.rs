//! Answers to questions for names of private namespaces and load balancers, as the region told them.
//!
//! [`Zones::answer`] is a function from what is known and a question to an answer. Who asks decides whose names there
//! are, those of an account or those of a VPC with addresses of its own; a name that lies in no namespace of theirs is
//! nobody's here, and is passed on.
//!
//! **Invariant:** a name that lies in a namespace is never passed on, whether or not it is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use longshore_types::{AccountId, VpcId};
use traffic::{Asker, HostNames, NameEntry, NamedInstance, NamedService};

use crate::dns::SERVFAIL;
use crate::led::{Answered, CNAME, Led};
use crate::limits::{DNS_LEADS_MAX, DNS_RECORDS_MAX, DNS_UDP_LEN};

const HEADER_LEN: usize = 12;
const CLASS_IN: u16 = 1;
pub(crate) const A: u16 = 1;
const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const OPT: u16 = 41;
const ANY: u16 = 255;
const NXDOMAIN: u8 = 3;
/// What the name in a record is: the question's own.
pub(crate) const SAME_NAME: [u8; 2] = [0xc0, 12];

/// The names that are known on a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zones {
    own_account: Option<AccountId>,
    askers: BTreeMap<Ipv4Addr, AccountId>,
    zones: BTreeMap<AccountId, Named>,
    /// Of VPCs with addresses of their own, each with its account.
    vpcs: BTreeMap<VpcId, (AccountId, Named)>,
}

/// By name, in lower case.
type Named = Arc<BTreeMap<String, Zone>>;

#[derive(Clone, Debug, Default)]
struct Zone {
    negative_ttl_s: u32,
    services: BTreeMap<String, NamedService>,
}

/// What a question asks for.
#[derive(Debug)]
pub(crate) struct Question {
    /// In lower case, without the last dot.
    pub(crate) name: String,
    pub(crate) kind: u16,
    /// Where it ends in the message.
    pub(crate) end: usize,
    /// How long an answer may be that goes as one datagram.
    pub(crate) room: usize,
}

impl Zones {
    pub(crate) fn new(told: HostNames) -> Self {
        let mut zones = Self::default();
        zones.learn(told, true);
        zones
    }

    /// Takes in what was told: all there is, or what changed.
    pub(crate) fn learn(&mut self, told: HostNames, is_whole: bool) {
        if is_whole {
            *self = Self::default();
        }
        self.own_account = told.own_account.or(self.own_account);
        let mut new: BTreeMap<AccountId, BTreeMap<String, Zone>> = BTreeMap::new();
        let mut in_vpcs: BTreeMap<(VpcId, AccountId), BTreeMap<String, Zone>> = BTreeMap::new();
        for entry in told.entries {
            let zones = match entry.vpc {
                Some(vpc) => in_vpcs.entry((vpc, entry.account)).or_default(),
                None => new.entry(entry.account).or_default(),
            };
            let zone = zones.entry(entry.zone.trim_end_matches('.').to_ascii_lowercase());
            let zone = zone.or_default();
            zone.negative_ttl_s = entry.negative_ttl_s;
            if let Some(service) = entry.service {
                zone.services.insert(service.name.to_ascii_lowercase(), service);
            }
        }
        for account in &told.accounts {
            self.zones.remove(account);
        }
        let with_names = new.into_iter().map(|(account, zones)| (account, Arc::new(zones)));
        self.zones.extend(with_names);
        for vpc in &told.vpcs {
            self.vpcs.remove(vpc);
        }
        let with_names = in_vpcs.into_iter();
        let with_names =
            with_names.map(|((vpc, account), zones)| (vpc, (account, Arc::new(zones))));
        self.vpcs.extend(with_names);
        self.askers.extend(told.askers.iter().map(|asker| (asker.address, asker.account)));
    }

    /// The same as it would be told.
    pub(crate) fn told(&self) -> HostNames {
        let mut told = HostNames { own_account: self.own_account, ..HostNames::default() };
        for (account, zones) in &self.zones {
            told.accounts.push(*account);
            told.entries.extend(entries(*account, None, zones));
        }
        for (vpc, (account, zones)) in &self.vpcs {
            told.vpcs.push(vpc.clone());
            told.entries.extend(entries(*account, Some(vpc), zones));
        }
        let asker = |(address, account): (&Ipv4Addr, &AccountId)| Asker {
            address: *address,
            account: *account,
        };
        told.askers = self.askers.iter().map(asker).collect();
        told
    }

    /// The answer to a question; none if it is to be passed on. `turn` is another number each time; `is_datagram`: it
    /// must fit into one.
    pub(crate) fn answer(
        &self,
        asker: IpAddr,
        message: &[u8],
        turn: usize,
        is_datagram: bool,
    ) -> Option<Answered> {
        let IpAddr::V4(address) = asker else { return None };
        let account = self.askers.get(&address).copied().or(self.own_account)?;
        answer(self.zones.get(&account)?, message, turn, is_datagram)
    }

    /// As [`Zones::answer`], to whoever asks from a VPC with addresses of its own.
    pub(crate) fn answer_in(
        &self,
        vpc: &VpcId,
        message: &[u8],
        turn: usize,
        is_datagram: bool,
    ) -> Option<Answered> {
        let (_, zones) = self.vpcs.get(vpc)?;
        answer(zones, message, turn, is_datagram)
    }
}

/// What a message asks for, in lower case; none of what asks nothing that is read here.
pub(crate) fn name_of(message: &[u8]) -> Option<String> {
    read(message).map(|question| question.name)
}

/// The answer to a question that lies in an entry.
pub(crate) fn answer_by(
    entry: NameEntry,
    message: &[u8],
    turn: usize,
    is_datagram: bool,
) -> Option<Vec<u8>> {
    const RECURSION_AVAILABLE: u8 = 0x80;
    let name = entry.zone.trim_end_matches('.').to_ascii_lowercase();
    let services = entry.service.into_iter().map(|service| (service.name.clone(), service));
    let zone = Zone { negative_ttl_s: entry.negative_ttl_s, services: services.collect() };
    let mut answer = match answer(&[(name, zone)].into(), message, turn, is_datagram)? {
        Answered::Whole(answer) => answer,
        Answered::Led(led) => led.alone(),
    };
    // Whoever has a zone and nothing else asks nobody.
    answer[3] &= !RECURSION_AVAILABLE;
    Some(answer)
}

/// The names of an account or a VPC as they would be told.
fn entries(
    account: AccountId,
    vpc: Option<&VpcId>,
    zones: &BTreeMap<String, Zone>,
) -> Vec<NameEntry> {
    let mut all = Vec::new();
    for (name, zone) in zones {
        let entry = |service| NameEntry {
            account,
            vpc: vpc.cloned(),
            zone: name.clone(),
            negative_ttl_s: zone.negative_ttl_s,
            service,
        };
        all.push(entry(None));
        all.extend(zone.services.values().cloned().map(Some).map(entry));
    }
    all
}

fn answer(
    zones: &BTreeMap<String, Zone>,
    message: &[u8],
    turn: usize,
    is_datagram: bool,
) -> Option<Answered> {
    let question = read(message)?;
    let mut records: Vec<Vec<u8>> = Vec::new();
    let mut authority = None;
    let mut answer = begin(message, &question);
    // Whose records are looked for, as it is written in them.
    let (mut asked, mut owner) = (question.name.clone(), SAME_NAME.to_vec());
    loop {
        let Some((zone_name, zone, rest)) = find(zones, &asked) else {
            if records.is_empty() {
                return None;
            }
            return Led::new(message, &question, records, &asked, is_datagram).map(Answered::Led);
        };
        match zone.find(rest, question.kind, zone_name, turn) {
            Found::Records(found) => {
                let found = found.into_iter();
                records.extend(found.map(|it| resource(&owner, it.kind, it.ttl_s, &it.data)));
            }
            Found::Leads { ttl_s, to } => {
                // One that is no name leads nowhere.
                if let Some(data) = name(&to) {
                    records.push(resource(&owner, CNAME, ttl_s, &data));
                    if !matches!(question.kind, CNAME | ANY) {
                        if records.len() < DNS_LEADS_MAX {
                            (asked, owner) = (to, data);
                            continue;
                        }
                        answer[3] |= SERVFAIL;
                    }
                }
            }
            found @ (Found::Nothing | Found::NoName) => {
                if matches!(found, Found::NoName) {
                    answer[3] |= NXDOMAIN;
                }
                let soa = soa(zone_name, zone.negative_ttl_s);
                if question.kind == SOA && rest.is_empty() {
                    records.push(soa);
                } else {
                    authority = Some(soa);
                }
            }
        }
        break;
    }
    answer[6..8].copy_from_slice(&count(records.len()));
    answer[8..10].copy_from_slice(&count(usize::from(authority.is_some())));
    records.iter().chain(&authority).for_each(|record| answer.extend(record));
    if is_datagram && question.room < answer.len() {
        // The asker comes again by a stream.
        const TRUNCATED: u8 = 0x02;
        let mut cut = begin(message, &question);
        cut[2] |= TRUNCATED;
        return Some(Answered::Whole(cut));
    }
    Some(Answered::Whole(answer))
}

/// A record, but for whose it is.
struct Data {
    kind: u16,
    ttl_s: u32,
    data: Vec<u8>,
}

enum Found {
    Records(Vec<Data>),
    /// The name is another one's.
    Leads {
        ttl_s: u32,
        /// In lower case.
        to: String,
    },
    /// The name is there, without such records.
    Nothing,
    NoName,
}

impl Zone {
    fn find(&self, rest: &str, kind: u16, zone: &str, turn: usize) -> Found {
        // One without a name is the zone's own.
        if let Some(service) = self.services.get(rest) {
            return of_service(service, kind, turn, zone);
        }
        if rest.is_empty() {
            return Found::Nothing;
        }
        // An instance that records of its service name.
        for (at, _) in rest.match_indices('.') {
            let (id, name) = (&rest[..at], &rest[at + 1..]);
            let Some(service) = self.services.get(name) else { continue };
            let Some(ttl_s) = service.srv_ttl_s else { continue };
            let mut instances = service.instances.iter();
            let Some(instance) = instances.find(|it| it.id.eq_ignore_ascii_case(id)) else {
                continue;
            };
            let data = match kind {
                A => instance.ipv4.map(|address| address.octets().to_vec()),
                AAAA => instance.ipv6.map(|address| address.octets().to_vec()),
                _ => None,
            };
            return match data {
                Some(data) => Found::Records(vec![Data { kind, ttl_s, data }]),
                None => Found::Nothing,
            };
        }
        // A name above another one is there, and has no records.
        let is_above = self
            .services
            .keys()
            .any(|name| name.strip_suffix(rest).is_some_and(|before| before.ends_with('.')));
        if is_above {
            return Found::Nothing;
        }
        match self.services.get("").filter(|service| service.has_all_below) {
            Some(service) => of_service(service, kind, turn, zone),
            None => Found::NoName,
        }
    }
}

fn of_service(service: &NamedService, kind: u16, turn: usize, zone: &str) -> Found {
    if let Some(ttl_s) = service.cname_ttl_s {
        let to = chosen(service, CNAME, turn).into_iter().find_map(|it| it.cname.as_ref());
        return to.map_or(Found::Nothing, |to| Found::Leads { ttl_s, to: to.to_ascii_lowercase() });
    }
    let some = chosen(service, kind, turn);
    let records = some.into_iter().filter_map(|it| record(service, it, kind, zone));
    let records: Vec<Data> = records.collect();
    if records.is_empty() { Found::Nothing } else { Found::Records(records) }
}

/// Up to eight that are well, or else that are not; one of a weighted service. Each time others come first.
fn chosen(service: &NamedService, kind: u16, turn: usize) -> Vec<&NamedInstance> {
    let fits = |instance: &&NamedInstance| match kind {
        A => instance.ipv4.is_some(),
        AAAA => instance.ipv6.is_some(),
        SRV => instance.port.is_some(),
        CNAME => instance.cname.is_some(),
        _ => false,
    };
    let fitting: Vec<&NamedInstance> = service.instances.iter().filter(fits).collect();
    let healthy: Vec<&NamedInstance> =
        fitting.iter().copied().filter(|instance| instance.is_healthy).collect();
    let mut some = if healthy.is_empty() { fitting } else { healthy };
    if !some.is_empty() {
        let first = turn % some.len();
        some.rotate_left(first);
    }
    some.truncate(if service.is_weighted { 1 } else { DNS_RECORDS_MAX });
    some
}

fn record(service: &NamedService, instance: &NamedInstance, kind: u16, zone: &str) -> Option<Data> {
    let (ttl_s, data) = match kind {
        A => (service.a_ttl_s?, instance.ipv4?.octets().to_vec()),
        AAAA => (service.aaaa_ttl_s?, instance.ipv6?.octets().to_vec()),
        SRV => {
            // Priority and weight are one, as at Route 53.
            let mut data = vec![0, 1, 0, 1];
            data.extend(instance.port?.to_be_bytes());
            data.extend(name(&format!("{}.{}.{zone}", instance.id, service.name))?);
            (service.srv_ttl_s?, data)
        }
        _ => return None,
    };
    Some(Data { kind, ttl_s, data })
}

pub(crate) fn resource(owner: &[u8], kind: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend(kind.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    out.extend(ttl_s.to_be_bytes());
    out.extend(count(data.len()));
    out.extend(data);
    out
}

/// The start of a zone, by which it is known how long a name may be taken to be missing.
pub(crate) fn soa(zone: &str, ttl_s: u32) -> Vec<u8> {
    let owner = name(zone).unwrap_or_else(|| vec![0]);
    let mut data = name(&format!("ns.{zone}")).unwrap_or_else(|| vec![0]);
    data.extend(name(&format!("hostmaster.{zone}")).unwrap_or_else(|| vec![0]));
    for number in [1, 7_200, 900, 1_209_600, ttl_s] {
        data.extend(u32::to_be_bytes(number));
    }
    resource(&owner, SOA, ttl_s, &data)
}

fn count(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}

/// A name as messages have it; none of one that they cannot have.
pub(crate) fn name(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 2);
    for label in text.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        out.push(length);
        out.extend(label.as_bytes());
    }
    out.push(0);
    (out.len() <= 255).then_some(out)
}

/// The longest zone that a name lies in, and what is before it.
fn find<'z, 'n>(
    zones: &'z BTreeMap<String, Zone>,
    name: &'n str,
) -> Option<(&'z str, &'z Zone, &'n str)> {
    let mut from = 0;
    loop {
        if let Some((zone_name, zone)) = zones.get_key_value(&name[from..]) {
            return Some((zone_name, zone, name[..from].trim_end_matches('.')));
        }
        from += name[from..].find('.')? + 1;
    }
}

/// The header and question of an answer that has nothing yet.
pub(crate) fn begin(message: &[u8], question: &Question) -> Vec<u8> {
    const ANSWER: u8 = 0x80;
    const AUTHORITATIVE: u8 = 0x04;
    const KEPT: u8 = 0x79;
    const RECURSION_AVAILABLE: u8 = 0x80;
    let mut answer = message[..question.end].to_vec();
    answer[2] = answer[2] & KEPT | ANSWER | AUTHORITATIVE;
    answer[3] = RECURSION_AVAILABLE;
    answer[6..HEADER_LEN].fill(0);
    answer
}

/// Reads a message that asks one question of the usual class.
pub(crate) fn read(message: &[u8]) -> Option<Question> {
    const OPCODE: u8 = 0x78;
    if message.len() < HEADER_LEN || message[2] & OPCODE != 0 || message[4..6] != [0, 1] {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER_LEN;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..64 => {}
            _ => return None,
        }
        let label = message.get(at..at + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        // A label with a dot or beyond ASCII is none that anybody has here.
        if label.iter().any(|byte| !byte.is_ascii() || *byte == b'.') {
            return None;
        }
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        at += length;
    }
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    let class = u16::from_be_bytes(message.get(at + 2..at + 4)?.try_into().ok()?);
    let end = at + 4;
    (class == CLASS_IN).then(|| Question { name, kind, end, room: room(message, end) })
}

/// How long a datagram the asker takes: it says so in an OPT record right behind the question.
fn room(message: &[u8], end: usize) -> usize {
    let usual = usize::from(DNS_UDP_LEN);
    let Some([0, high, low, size_high, size_low]) = message.get(end..end + 5) else { return usual };
    match u16::from_be_bytes([*high, *low]) == OPT {
        true => usize::from(u16::from_be_bytes([*size_high, *size_low]).max(DNS_UDP_LEN)),
        false => usual,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 31, 0, 9));

    pub(crate) fn account(digit: char) -> AccountId {
        digit.to_string().repeat(12).parse().unwrap()
    }

    fn instance(number: u8, is_healthy: bool) -> NamedInstance {
        NamedInstance {
            id: format!("task{number}"),
            ipv4: Some(Ipv4Addr::new(172, 31, 1, number)),
            port: Some(8_000 + u16::from(number)),
            is_healthy,
            ..NamedInstance::default()
        }
    }

    fn entry(account: AccountId, service: Option<NamedService>) -> NameEntry {
        let zone = "Prod.local".to_owned();
        NameEntry { account, vpc: None, zone, negative_ttl_s: 7, service }
    }

    fn zones(instances: Vec<NamedInstance>, is_weighted: bool) -> Zones {
        let service = NamedService {
            name: "web".to_owned(),
            is_weighted,
            a_ttl_s: Some(10),
            srv_ttl_s: Some(20),
            instances,
            ..NamedService::default()
        };
        let mine = account('1');
        Zones::new(HostNames {
            own_account: Some(account('2')),
            accounts: vec![mine],
            entries: vec![entry(mine, None), entry(mine, Some(service))],
            vpcs: vec![],
            askers: vec![Asker { address: Ipv4Addr::new(172, 31, 0, 9), account: mine }],
        })
    }

    /// As a client asks.
    pub(crate) fn question(text: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(name(text).unwrap());
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    fn known(answered: Answered) -> Vec<u8> {
        match answered {
            Answered::Whole(answer) => answer,
            Answered::Led(led) => panic!("somebody else knows: {led:?}"),
        }
    }

    /// The code, and how many answers there are.
    fn ask(zones: &Zones, text: &str, kind: u16) -> Option<(u8, u16)> {
        let answer = known(zones.answer(ASKER, &question(text, kind), 0, true)?);
        assert_eq!(answer[..3], [0x12, 0x34, 0x85]);
        Some((answer[3] & 0xf, u16::from_be_bytes([answer[6], answer[7]])))
    }

    fn first_address(zones: &Zones, turn: usize) -> [u8; 4] {
        let asked = question("web.prod.local", A);
        let answer = known(zones.answer(ASKER, &asked, turn, true).unwrap());
        answer[asked.len() + 12..asked.len() + 16].try_into().unwrap()
    }

    #[test]
    fn a_service_is_found_by_its_name_in_any_case() {
        let zones = zones(vec![instance(1, true), instance(2, true)], false);
        assert_eq!(ask(&zones, "WEB.prod.LOCAL", A), Some((0, 2)));
        assert_eq!(ask(&zones, "web.prod.local", SRV), Some((0, 2)));
        assert_eq!(ask(&zones, "web.prod.local", AAAA), Some((0, 0)), "it has no such records");
        assert_eq!(ask(&zones, "task2.web.prod.local", A), Some((0, 1)));
        assert_eq!(ask(&zones, "task3.web.prod.local", A), Some((NXDOMAIN, 0)));
        assert_eq!(ask(&zones, "api.prod.local", A), Some((NXDOMAIN, 0)));
        assert_eq!(ask(&zones, "prod.local", A), Some((0, 0)));
        assert_eq!(ask(&zones, "web.prod.example.com", A), None, "it is passed on");
        assert_eq!([first_address(&zones, 0)[3], first_address(&zones, 1)[3]], [1, 2]);
    }

    #[test]
    fn names_are_of_the_askers_account_alone() {
        let zones = zones(vec![instance(1, true)], false);
        let asked = question("web.prod.local", A);
        let other = IpAddr::V4(Ipv4Addr::new(172, 31, 0, 10));
        assert!(zones.answer(other, &asked, 0, true).is_none());
        assert!(zones.answer(ASKER, &asked, 0, true).is_some());
    }

    #[test]
    fn what_is_not_well_is_answered_only_if_nothing_is() {
        let some = vec![instance(1, false), instance(2, true), instance(3, false)];
        assert_eq!(first_address(&zones(some, false), 5)[3], 2);
        assert_eq!(ask(&zones(vec![instance(1, false)], false), "web.prod.local", A), Some((0, 1)));
        let many: Vec<NamedInstance> = (1..20).map(|number| instance(number, true)).collect();
        assert_eq!(ask(&zones(many.clone(), false), "web.prod.local", A), Some((0, 8)));
        assert_eq!(ask(&zones(many, true), "web.prod.local", A), Some((0, 1)));
    }

    #[test]
    fn an_answer_that_does_not_fit_says_so_and_comes_whole_by_a_stream() {
        let long =
            |number| NamedInstance { id: format!("{number:0>60}"), ..instance(number, true) };
        let zones = zones((1..9).map(long).collect(), false);
        let asked = question("web.prod.local", SRV);
        let cut = known(zones.answer(ASKER, &asked, 0, true).unwrap());
        assert_eq!((cut[2] & 2, cut.len()), (2, asked.len()));
        let whole = known(zones.answer(ASKER, &asked, 0, false).unwrap());
        assert_eq!((whole[2] & 2, whole[7]), (0, 8));
        let mut with_option = asked.clone();
        with_option[11] = 1;
        with_option.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        let fits = known(zones.answer(ASKER, &with_option, 0, true).unwrap());
        assert_eq!((fits[2] & 2, fits[7]), (0, 8));
    }

    #[test]
    fn an_account_is_told_anew_and_the_others_stay() {
        let mut zones = zones(vec![instance(1, true)], false);
        let mine = account('1');
        let more = HostNames { accounts: vec![account('3')], ..HostNames::default() };
        zones.learn(more, false);
        assert_eq!(ask(&zones, "web.prod.local", A), Some((0, 1)));
        let again = Zones::new(zones.told());
        assert_eq!(ask(&again, "web.prod.local", A), Some((0, 1)));
        let none = HostNames {
            accounts: vec![mine],
            entries: vec![entry(mine, None)],
            ..HostNames::default()
        };
        zones.learn(none, false);
        assert_eq!(ask(&zones, "web.prod.local", A), Some((NXDOMAIN, 0)));
        zones.learn(HostNames { accounts: vec![mine], ..HostNames::default() }, false);
        assert_eq!(ask(&zones, "web.prod.local", A), None);
    }

    #[test]
    fn a_balancers_name_has_addresses_itself_and_a_vpc_has_names_of_its_own() {
        let mut zones = zones(vec![], false);
        let (mine, vpc): (_, VpcId) = (account('1'), "vpc-0000000a".parse().unwrap());
        let named = |vpc: Option<&VpcId>, count: u8| NameEntry {
            zone: "web-12.eu-north-1.elb.amazonaws.com".to_owned(),
            vpc: vpc.cloned(),
            ..entry(
                mine,
                Some(NamedService {
                    a_ttl_s: Some(10),
                    instances: (0..count).map(|number| instance(number, true)).collect(),
                    ..NamedService::default()
                }),
            )
        };
        let told = HostNames {
            accounts: vec![mine],
            vpcs: vec![vpc.clone()],
            entries: vec![named(None, 2), named(Some(&vpc), 3)],
            ..HostNames::default()
        };
        zones.learn(told, false);
        let name = "web-12.eu-north-1.elb.amazonaws.com";
        let in_vpc = |zones: &Zones, vpc: &VpcId| {
            let answer = known(zones.answer_in(vpc, &question(name, A), 0, true)?);
            Some(answer[7])
        };
        for zones in [&zones, &Zones::new(zones.told())] {
            assert_eq!(ask(zones, name, A), Some((0, 2)));
            assert_eq!(ask(zones, name, AAAA), Some((0, 0)));
            assert_eq!(ask(zones, &format!("www.{name}"), A), Some((NXDOMAIN, 0)));
            assert_eq!(ask(zones, "api-1.eu-north-1.elb.amazonaws.com", A), None, "Amazon's own");
            assert_eq!(in_vpc(zones, &vpc), Some(3));
            assert_eq!(in_vpc(zones, &"vpc-0000000b".parse().unwrap()), None);
        }
        zones.learn(HostNames { vpcs: vec![vpc.clone()], ..HostNames::default() }, false);
        assert_eq!((in_vpc(&zones, &vpc), ask(&zones, name, A)), (None, Some((0, 2))));
    }

    #[test]
    fn all_names_below_one_that_has_them_lead_where_it_does() {
        let mine = account('1');
        let all = NamedService {
            a_ttl_s: Some(10),
            has_all_below: true,
            instances: vec![instance(1, true)],
            ..NamedService::default()
        };
        let zone = "dkr.ecr.eu-north-1.amazonaws.com".to_owned();
        let mut zones = zones(vec![], false);
        let told = NameEntry { zone, ..entry(mine, Some(all)) };
        let told = HostNames { accounts: vec![mine], entries: vec![told], ..HostNames::default() };
        zones.learn(told, false);
        for zones in [&zones, &Zones::new(zones.told())] {
            for name in ["dkr.ecr", "111111111111.dkr.ecr", "a.b.dkr.ecr"] {
                let name = format!("{name}.eu-north-1.amazonaws.com");
                assert_eq!(ask(zones, &name, A), Some((0, 1)), "{name}");
                assert_eq!(ask(zones, &name, AAAA), Some((0, 0)), "{name}");
            }
            assert_eq!(ask(zones, "api.ecr.eu-north-1.amazonaws.com", A), None);
        }
    }

    pub(crate) fn leading(name: &str, to: &[&str]) -> NameEntry {
        let led = |to: &&str| NamedInstance {
            id: (*to).to_owned(),
            cname: Some((*to).to_owned()),
            is_healthy: !to.starts_with("ill"),
            ..NamedInstance::default()
        };
        let service = NamedService {
            name: name.to_owned(),
            is_weighted: true,
            cname_ttl_s: Some(30),
            instances: to.iter().map(led).collect(),
            ..NamedService::default()
        };
        entry(account('1'), Some(service))
    }

    #[test]
    fn a_name_leads_to_another_one_which_is_looked_for_where_it_lies() {
        let mut zones = zones(vec![instance(1, true), instance(2, true)], false);
        let mut told = zones.told();
        told.entries.push(leading("old", &["Web.Prod.Local"]));
        told.entries.push(leading("older", &["old.prod.local"]));
        told.entries.push(leading("lost", &["gone.prod.local"]));
        told.entries.push(leading("round", &["round.prod.local"]));
        told.entries.push(leading("nowhere", &[]));
        told.entries.push(leading("away", &["ill.example.com", "www.example.com"]));
        zones.learn(told, true);
        for zones in [&zones, &Zones::new(zones.told())] {
            assert_eq!(ask(zones, "old.prod.local", A), Some((0, 3)));
            assert_eq!(ask(zones, "older.prod.local", A), Some((0, 4)));
            assert_eq!(ask(zones, "older.prod.local", CNAME), Some((0, 1)));
            assert_eq!(ask(zones, "older.prod.local", ANY), Some((0, 1)));
            assert_eq!(ask(zones, "old.prod.local", AAAA), Some((0, 1)));
            assert_eq!(ask(zones, "lost.prod.local", A), Some((NXDOMAIN, 1)));
            assert_eq!(ask(zones, "nowhere.prod.local", A), Some((0, 0)));
            assert_eq!(ask(zones, "round.prod.local", A), Some((SERVFAIL, 8)));
            assert_eq!(ask(zones, "away.prod.local", CNAME), Some((0, 1)));
            let asked = question("away.prod.local", A);
            for turn in 0..2 {
                match zones.answer(ASKER, &asked, turn, true).unwrap() {
                    Answered::Led(led) => assert_eq!(led.next(), question("www.example.com", A)),
                    Answered::Whole(answer) => panic!("{answer:?}"),
                }
            }
        }
    }

    #[test]
    fn each_record_of_a_chain_is_of_the_name_before() {
        let mut zones = zones(vec![instance(1, true)], false);
        let mut told = zones.told();
        told.entries.push(leading("old", &["Web.Prod.Local"]));
        zones.learn(told, true);
        let asked = question("OLD.prod.local", A);
        let answer = known(zones.answer(ASKER, &asked, 0, true).unwrap());
        let web = name("web.prod.local").unwrap();
        let mut records = resource(&SAME_NAME, CNAME, 30, &web);
        records.extend(resource(&web, A, 10, &[172, 31, 1, 1]));
        assert_eq!(answer[asked.len()..], records);
    }

    proptest! {
        #[test]
        fn no_message_upsets_the_answers(message in prop::collection::vec(any::<u8>(), 0..80)) {
            let zones = zones(vec![instance(1, true)], false);
            if let Some(answer) = zones.answer(ASKER, &message, 0, true) {
                prop_assert!(known(answer)[..2] == message[..2]);
            }
        }
    }
}
