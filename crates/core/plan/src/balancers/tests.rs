use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{Resources, Scope};
use model::elb::{Attributes, BalancerKind};
use model::instance::{
    AgentState, BALANCERS_ATTRIBUTE, ENI_ATTRIBUTE, FARGATE_ATTRIBUTE, UNDERLAY_ATTRIBUTE,
};
use model::{Row, Seq, Tags};

use super::*;

const OWN: &str = "own";
const START: Timestamp = Timestamp(1_000_000);

fn scope(account: &str) -> Scope {
    Scope { region: "us-east-1".parse().unwrap(), account: account.parse().unwrap() }
}

fn host(number: u8, zone: &str) -> Instance {
    let attributes = [
        ("ecs.availability-zone", format!("us-east-1{zone}")),
        (BALANCERS_ATTRIBUTE, "true".to_owned()),
        (ENI_ATTRIBUTE, "true".to_owned()),
        (FARGATE_ATTRIBUTE, "true".to_owned()),
        (UNDERLAY_ATTRIBUTE, format!("10.0.0.{number}")),
    ];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), Some(value)));
    Instance {
        id: InstanceId::from_bytes([number; 16]),
        scope: scope("000000000000"),
        cluster: "web".parse().unwrap(),
        status: InstanceStatus::Active,
        total: Resources::default(),
        reserved_ports: BTreeSet::new(),
        other_resources: Vec::new(),
        attributes: BTreeMap::from(attributes),
        tags: Tags::new(),
        ec2_instance_id: None,
        capacity_provider: None,
        is_external: false,
        access_key: (number == 0).then(|| OWN.to_owned()),
        registered_at: Timestamp(1),
        agent: AgentState { connected: true, ..AgentState::default() },
        health: Vec::new(),
        version: 1,
    }
}

fn balancer(name: &str, zones: &[&str], is_internal: bool) -> ElbBalancer {
    let zones = zones.iter().enumerate().map(|(at, zone)| BalancerZone {
        zone: format!("us-east-1{zone}"),
        subnet: format!("subnet-0000000{at}").parse().unwrap(),
        eni: format!("eni-0000000{at}").parse().unwrap(),
        address: [172, 31, 0, 4].into(),
        stand: Stand::coming(None, START),
        passed_over: Vec::new(),
        is_unwell: false,
    });
    ElbBalancer {
        scope: scope("111111111111"),
        kind: BalancerKind::Application,
        name: name.to_owned(),
        digits: "0123456789abcdef".to_owned(),
        dns_number: 1,
        is_internal,
        vpc: "vpc-00000001".parse().unwrap(),
        zones: zones.collect(),
        leaving: vec![],
        security_groups: vec![],
        exempts_private_links: false,
        attributes: Attributes::new(),
        tags: Tags::new(),
        created_at: START,
        shifts: Vec::new(),
    }
}

#[derive(Default)]
struct World {
    view: View,
    now: Timestamp,
    heard_since: Timestamp,
    /// Zones at whose interfaces connections are open.
    busy: BTreeSet<&'static str>,
}

impl World {
    fn of(hosts: &[(u8, &str)]) -> Self {
        let mut world = Self { now: START, ..Self::default() };
        hosts.iter().for_each(|(number, zone)| world.put(host(*number, zone)));
        world
    }

    fn put(&mut self, row: impl Into<Row>) {
        let seq = Seq(self.view.seq.0 + 1);
        self.view.seq = seq;
        self.view.put(seq, &row.into());
    }

    fn place(&mut self) -> Placement {
        let placement = self.look();
        placement.changed.iter().for_each(|row| self.put(row.clone()));
        let again = self.look();
        assert_eq!(again.changed, [], "a second look has nothing to do");
        placement
    }

    fn look(&self) -> Placement {
        let at = Moment { now: self.now, heard_since: self.heard_since };
        let is_busy = |zone: &BalancerZone| self.busy.contains(zone.zone.as_str());
        place(&self.view, |row| row.access_key.as_deref() == Some(OWN), &is_busy, at)
    }

    /// All processes say that they serve.
    fn serve(&mut self) {
        let rows: Vec<ElbBalancer> =
            self.view.elb_balancers.iter().map(|row| ElbBalancer::clone(row)).collect();
        for mut row in rows {
            for zone in &mut row.zones {
                if matches!(zone.stand.state, StandState::Coming { .. }) {
                    zone.stand.state = StandState::Serving;
                }
            }
            self.put(row);
        }
    }

    fn change(&mut self, number: u8, change: impl FnOnce(&mut Instance)) {
        let row = self.view.instance_of_any(InstanceId::from_bytes([number; 16])).unwrap();
        let mut row = Instance::clone(row);
        change(&mut row);
        self.put(row);
    }

    /// The number of the host of each interface; 0: the region's own machine.
    fn hosts(&self, name: &str) -> Vec<u8> {
        let row = self.view.elb_balancers.iter().find(|row| row.name == name).unwrap();
        let hosts = row.zones.iter().map(|zone| zone.stand.host);
        hosts.map(|host| host.map_or(0, |id| id.to_string().as_bytes()[1] - b'0')).collect()
    }

    fn named(&self, name: &str) -> Vec<String> {
        let row = self.view.elb_balancers.iter().find(|row| row.name == name).unwrap();
        row.named_zones().map(|zone| zone.zone.replace("us-east-1", "")).collect()
    }
}

fn goes_silent(at: Timestamp) -> impl FnOnce(&mut Instance) {
    move |row| {
        row.agent.connected = false;
        row.agent.heard_at = Some(at);
    }
}

#[test]
fn on_a_laptop_all_is_on_the_regions_own_machine() {
    for hosts in [&[(0, "a")][..], &[]] {
        let mut world = World::of(hosts);
        world.put(balancer("web", &["a", "b"], false));
        world.put(balancer("inner", &["a", "b"], true));
        let placement = world.place();
        assert_eq!((placement.changed, placement.again_at), (vec![], None));
        assert_eq!((world.hosts("web"), world.hosts("inner")), (vec![0, 0], vec![0, 0]));
    }
}

#[test]
fn interfaces_are_spread_over_the_hosts_of_their_zones() {
    let mut world = World::of(&[(0, "a"), (1, "a"), (2, "b"), (3, "b")]);
    world.put(balancer("inner", &["a", "b"], true));
    world.put(balancer("other", &["b", "c"], true));
    world.put(balancer("web", &["a", "b"], false));
    let placement = world.place();
    assert_eq!(world.hosts("inner"), [1, 2]);
    assert_eq!(world.hosts("other"), [3, 0], "there is no host in the third zone");
    assert_eq!(world.hosts("web"), [0, 2], "it is reached at the region's own machine");
    assert!(placement.again_at.is_none() && placement.chosen.len() == 4);
}

#[test]
fn an_interface_leaves_a_host_that_is_lost_at_once_and_its_address_is_not_named_meanwhile() {
    let mut world = World::of(&[(0, "a"), (1, "a"), (2, "b"), (3, "b")]);
    world.put(balancer("inner", &["a", "b"], true));
    world.place();
    assert_eq!(world.named("inner"), ["a", "b"], "as long as none serves");
    world.serve();
    world.change(2, goes_silent(START));
    assert_eq!(world.place().again_at, Some(START.plus_ms(5_000)));
    assert_eq!(world.named("inner"), ["a", "b"], "an agent that is started again is back soon");
    world.now = START.plus_ms(5_000);
    assert_eq!(world.place().again_at, Some(START.plus_ms(15_000)));
    assert_eq!((world.named("inner"), world.hosts("inner")), (vec!["a".to_owned()], vec![1, 2]));
    world.now = START.plus_ms(15_000);
    world.place();
    assert_eq!((world.named("inner"), world.hosts("inner")), (vec!["a".to_owned()], vec![1, 3]));
    world.serve();
    assert_eq!(world.named("inner"), ["a", "b"]);
    world.change(2, |row| row.agent.connected = true);
    assert!(world.place().changed.is_empty(), "what has gone stays gone");
    // The last host of the zone: then it is on the region's own machine, until there is another.
    for number in [2, 3] {
        world.change(number, |row| row.status = InstanceStatus::Inactive);
    }
    world.place();
    assert_eq!(world.hosts("inner"), [1, 0]);
}

#[test]
fn a_host_that_is_back_in_time_keeps_its_interfaces_and_says_when_it_serves() {
    let mut world = World::of(&[(0, "a"), (1, "a"), (2, "b"), (3, "b")]);
    world.put(balancer("inner", &["a", "b"], true));
    world.place();
    world.serve();
    world.change(2, goes_silent(START));
    world.now = START.plus_ms(9_000);
    world.place();
    world.change(2, |row| row.agent.connected = true);
    world.place();
    assert_eq!((world.named("inner"), world.hosts("inner")), (vec!["a".to_owned()], vec![1, 2]));
    world.serve();
    assert_eq!(world.named("inner"), ["a", "b"]);
}

#[test]
fn where_all_hosts_are_away_none_is_better_and_all_addresses_are_named() {
    let mut world = World::of(&[(1, "a"), (2, "b")]);
    world.put(balancer("inner", &["a", "b"], true));
    world.place();
    world.serve();
    for number in [1, 2] {
        world.change(number, goes_silent(START));
    }
    world.now = START.plus_ms(60_000);
    world.place();
    assert_eq!((world.named("inner").len(), world.hosts("inner")), (2, vec![1, 2]));
    world.put(host(3, "c"));
    world.place();
    assert_eq!(world.hosts("inner"), [3, 3], "without a machine of the region's any is better");
}

#[test]
fn a_host_that_drains_is_left_once_its_address_is_forgotten() {
    let mut world = World::of(&[(0, "a"), (1, "a"), (2, "b"), (3, "b")]);
    world.put(balancer("inner", &["a", "b"], true));
    world.place();
    world.serve();
    world.change(2, |row| row.status = InstanceStatus::Draining);
    let at = START.plus_ms(30_000);
    assert_eq!(world.place().again_at, Some(at));
    assert_eq!((world.named("inner"), world.hosts("inner")), (vec!["a".to_owned()], vec![1, 2]));
    world.change(2, |row| row.status = InstanceStatus::Active);
    world.place();
    assert_eq!(world.named("inner"), ["a", "b"], "it was thought better of");
    world.change(2, |row| row.status = InstanceStatus::Draining);
    world.place();
    world.now = at;
    world.place();
    assert_eq!(world.hosts("inner"), [1, 3]);
}

#[test]
fn what_is_open_at_an_interface_that_is_to_go_elsewhere_goes_on_for_some_minutes() {
    let mut world = World::of(&[(0, "a"), (1, "a"), (2, "b"), (3, "b")]);
    world.put(balancer("inner", &["a", "b"], true));
    world.place();
    world.serve();
    world.busy.insert("us-east-1b");
    world.change(2, |row| row.status = InstanceStatus::Draining);
    world.place();
    let at = START.plus_ms(30_000);
    world.now = at;
    assert_eq!(world.place().again_at, Some(at.plus_ms(2_000)), "it may have ended by then");
    assert_eq!((world.named("inner"), world.hosts("inner")), (vec!["a".to_owned()], vec![1, 2]));
    let mut other = World { view: world.view.clone(), now: at.plus_ms(2_000), ..World::default() };
    other.place();
    assert_eq!(other.hosts("inner"), [1, 3], "all has ended");
    world.now = at.plus_ms(299_000);
    assert_eq!(world.place().again_at, Some(at.plus_ms(300_000)));
    assert_eq!(world.hosts("inner"), [1, 2]);
    world.now = at.plus_ms(300_000);
    world.place();
    assert_eq!(world.hosts("inner"), [1, 3], "however long it would take");
}

#[test]
fn nothing_is_waited_for_where_new_clients_come_to_all_that_leave() {
    let mut world = World::of(&[(0, "a"), (1, "a"), (2, "a")]);
    world.put(balancer("inner", &["a"], true));
    world.place();
    world.serve();
    assert_eq!(world.hosts("inner"), [1]);
    world.busy.insert("us-east-1a");
    world.change(1, |row| row.status = InstanceStatus::Draining);
    let at = START.plus_ms(30_000);
    assert_eq!(world.place().again_at, Some(at));
    assert_eq!(world.named("inner"), ["a"], "there is no other");
    world.now = at;
    world.place();
    assert_eq!(world.hosts("inner"), [2]);
}

#[test]
fn an_interface_whose_subnet_was_taken_away_goes_once_nothing_is_open_there() {
    let world = || {
        let mut world = World::of(&[(0, "a"), (1, "a"), (2, "b")]);
        let mut row = balancer("inner", &["a", "b"], true);
        let mut zone = row.zones.pop().unwrap();
        zone.stand.host = Some(InstanceId::from_bytes([2; 16]));
        zone.stand.state = StandState::Leaving { at: START.plus_ms(30_000) };
        row.leaving = vec![zone];
        world.put(row);
        world.place();
        world.busy.insert("us-east-1b");
        world
    };
    let is_there = |world: &World| {
        let row = world.view.elb_balancers.iter().next().unwrap();
        !row.leaving.is_empty()
    };
    let mut first = world();
    assert_eq!(first.named("inner"), ["a"]);
    for (after_ms, stays) in [(29_999, true), (30_000, true), (329_999, true), (330_000, false)] {
        first.now = START.plus_ms(after_ms);
        first.place();
        assert_eq!(is_there(&first), stays, "{after_ms}");
    }
    let mut idle = world();
    idle.busy.clear();
    idle.now = START.plus_ms(29_999);
    idle.place();
    assert!(is_there(&idle), "a name may be remembered for so long");
    idle.now = START.plus_ms(30_000);
    idle.place();
    assert!(!is_there(&idle));
    // What a lost host has open is lost with it.
    let mut lost = world();
    lost.change(2, goes_silent(START));
    lost.now = START.plus_ms(15_000);
    lost.place();
    assert!(!is_there(&lost));
}

#[test]
fn hosts_that_join_later_take_over_what_the_regions_own_machine_had() {
    let mut world = World::of(&[(0, "a")]);
    world.put(balancer("web", &["a", "b"], false));
    world.place();
    world.serve();
    world.put(host(1, "b"));
    let at = START.plus_ms(30_000);
    assert_eq!(world.place().again_at, Some(at));
    assert_eq!((world.named("web"), world.hosts("web")), (vec!["a".to_owned()], vec![0, 0]));
    world.now = at;
    world.place();
    assert_eq!(world.hosts("web"), [0, 1]);
}

#[test]
fn a_host_of_one_account_gets_nothing_of_another() {
    let mut world = World::of(&[(0, "a"), (1, "a")]);
    world.change(1, |row| drop(row.attributes.remove(FARGATE_ATTRIBUTE)));
    world.put(balancer("inner", &["a"], true));
    world.place();
    assert_eq!(world.hosts("inner"), [0]);
    world.change(1, |row| row.is_external = true);
    world.put(ElbBalancer { scope: scope("000000000000"), ..balancer("own", &["a"], true) });
    world.place();
    assert_eq!(world.hosts("own"), [0], "an external instance has no part in VPCs");
    world.change(1, |row| row.is_external = false);
    world.place();
    assert_eq!((world.hosts("inner"), world.hosts("own")), (vec![0], vec![1]));
}

#[test]
fn a_host_on_which_nobody_serves_is_left_and_passed_over_for_a_while_each_time_for_longer() {
    const PAUSE: u64 = 10 * 60_000;
    let mut world = World::of(&[(0, "a"), (1, "a"), (2, "b"), (3, "b")]);
    world.put(balancer("inner", &["b"], true));
    world.place();
    assert_eq!(world.look().again_at, Some(START.plus_ms(60_000)));
    assert_eq!(world.hosts("inner"), [2]);
    world.heard_since = START.plus_ms(1_000);
    world.now = START.plus_ms(60_000);
    world.place();
    assert_eq!(world.hosts("inner"), [2], "it has not been listened to for so long");
    world.now = START.plus_ms(61_000);
    world.place();
    assert_eq!(world.hosts("inner"), [3], "another host of the zone");
    world.put(ElbBalancer {
        digits: "1123456789abcdef".to_owned(),
        ..balancer("other", &["b"], true)
    });
    world.place();
    assert_eq!(world.hosts("other"), [3], "what one found is better avoided by all");
    world.now = world.now.plus_ms(60_000);
    world.place();
    assert_eq!((world.hosts("inner"), world.hosts("other")), (vec![0], vec![2]));
    world.serve();
    world.now = START.plus_ms(61_000 + PAUSE);
    world.place();
    world.now = world.now.plus_ms(30_000);
    world.place();
    assert_eq!(world.hosts("inner"), [2], "it may be well by now");
    world.now = world.now.plus_ms(60_000);
    let again_at = world.place().again_at;
    assert_eq!(world.hosts("inner"), [3]);
    assert!(again_at.is_some());
    let row = world.view.elb_balancers.iter().find(|row| row.name == "inner").unwrap();
    let untils: Vec<_> = row.zones[0].passed_over.iter().map(|it| (it.until, it.times)).collect();
    assert!(untils.contains(&(world.now.plus_ms(2 * PAUSE), 2)), "{untils:?}");
    world.serve();
    world.place();
    let row = world.view.elb_balancers.iter().find(|row| row.name == "inner").unwrap();
    assert_eq!(row.zones[0].passed_over.len(), 1, "it is served where it is");
}

#[test]
fn what_nobody_serves_anywhere_stays_where_it_is() {
    let mut world = World::of(&[(1, "a")]);
    world.put(balancer("inner", &["a"], true));
    world.place();
    for minutes in [1, 20, 60, 300] {
        world.now = START.plus_ms(minutes * 60_000);
        world.place();
        assert_eq!(world.hosts("inner"), [1]);
    }
    let row = world.view.elb_balancers.iter().next().unwrap();
    assert_eq!(row.zones[0].passed_over.len(), 1);
}

#[test]
fn an_agent_beside_the_region_that_does_not_come_back_holds_no_interfaces() {
    let mut world = World::of(&[(0, "a"), (1, "b")]);
    world.put(balancer("web", &["a", "b"], false));
    world.place();
    world.serve();
    assert_eq!(world.hosts("web"), [0, 1]);
    world.change(0, goes_silent(START));
    let gone_at = START.plus_ms(300_000);
    assert_eq!(world.place().again_at, Some(gone_at));
    assert_eq!(world.hosts("web"), [0, 1]);
    world.now = gone_at;
    world.place();
    world.now = gone_at.plus_ms(30_000);
    world.place();
    assert_eq!(world.hosts("web"), [1, 1]);
}
