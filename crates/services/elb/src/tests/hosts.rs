//! Balancers whose interfaces are on several hosts.

use std::sync::Arc;

use control::reconcile::Reconciler as _;
use control::testing::rows;
use elb_api::Elb as _;
use longshore_types::{Clock as _, InstanceId};
use model::ElbBalancer;
use model::elb::{CheckFailure, StandState};
use model::instance::{BALANCERS_ATTRIBUTE, ENI_ATTRIBUTE, UNDERLAY_ATTRIBUTE};

use super::*;
use crate::standing::Standing;

pub(super) fn host(number: u8) -> Host {
    Some(InstanceId::from_bytes([number; 16]))
}

impl World {
    /// A host of a zone that joined.
    pub(super) async fn join(&self, number: u8, zone: &str) {
        let mut row = rows::instance(host(number).unwrap());
        row.agent.connected = true;
        row.scope.account = self.root().account;
        for (name, value) in [
            ("ecs.availability-zone", zone),
            (BALANCERS_ATTRIBUTE, "true"),
            (ENI_ATTRIBUTE, "true"),
            (UNDERLAY_ATTRIBUTE, "10.0.0.1"),
        ] {
            row.attributes.insert(name.to_owned(), text(value));
        }
        self.put(|_, batch| {
            batch.put(row.clone());
        })
        .await;
    }

    pub(super) async fn place(&self) {
        let (control, heard_since) = (Arc::clone(&self.elb.control), self.elb.feed.since);
        let feed = Arc::clone(&self.elb.feed);
        Standing { control, feed, heard_since }
            .pass(&control::reconcile::NowAndThen)
            .await
            .unwrap();
        self.publish();
    }

    fn stands(&self) -> Vec<(Host, StandState)> {
        let view = self.elb.control.view();
        let row = view.elb_balancers.iter().next().map(|row| ElbBalancer::clone(row)).unwrap();
        row.zones.iter().map(|zone| (zone.stand.host, zone.stand.state)).collect()
    }

    /// What the process on a host says of all targets of its table.
    pub(super) async fn say_on(&self, host: Host, finding: Finding, in_flight: u32) {
        let table = self.table_of(host);
        let targets = table.groups.values().flat_map(|group| {
            group.targets.iter().map(|target| TargetReport {
                group: group.id.clone(),
                target: target.key.clone(),
                registered_at: target.registered_at,
                finding,
                in_flight,
                anomaly: routing::Anomaly::default(),
            })
        });
        let interfaces = table.balancers.values().flat_map(|it| &it.interfaces);
        let report = Report {
            version: table.version,
            targets: targets.collect(),
            serving: interfaces.map(routing::Interface::reference).collect(),
            ..Report::default()
        };
        self.elb.take_in(host, report).await.unwrap();
    }
}

/// A balancer with an interface on each of two hosts, and a group with a target behind it.
async fn on_two_hosts() -> (World, String) {
    let world = World::new().await;
    world.join(1, "us-east-1a").await;
    world.join(2, "us-east-1b").await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&balancer, 80, &group).await;
    world.register(&group, "172.31.0.9").await;
    world.place().await;
    (world, group)
}

#[tokio::test]
async fn each_host_is_told_of_its_own_interface_and_named_once_it_serves() {
    let (world, _) = on_two_hosts().await;
    let now = world.test.env.now();
    let coming = |number| (host(number), StandState::Coming { since: now });
    assert_eq!(world.stands(), [coming(1), coming(2)]);
    let [one, two] = [1, 2].map(|number| world.table_of(host(number)));
    let zones = |table: &Table| -> Vec<String> {
        let interfaces = table.balancers.values().flat_map(|it| &it.interfaces);
        interfaces.map(|it| it.zone.clone()).collect()
    };
    assert_eq!((zones(&one), zones(&two)), (vec!["us-east-1a".into()], vec!["us-east-1b".into()]));
    let key = |table: &Table| table.balancers.values().next().unwrap().cookie_key.clone().unwrap();
    assert_eq!(key(&one), key(&two), "a client's cookie is known at both");
    assert!(world.table().balancers.is_empty(), "there is none on the region's own machine");
    world.say_on(host(2), Finding::Healthy, 0).await;
    assert_eq!(world.stands(), [coming(1), (host(2), StandState::Serving)]);
}

#[tokio::test]
async fn a_target_is_unhealthy_when_no_host_finds_it_otherwise() {
    let (world, group) = on_two_hosts().await;
    let state = async || world.health(&group).await.remove(0).0;
    world.say_on(host(1), Finding::Healthy, 0).await;
    world.say_on(host(2), Finding::Initial, 0).await;
    assert_eq!(state().await, "healthy", "what the first said before the second was heard");
    world.say_on(host(2), Finding::Failed, 0).await;
    assert_eq!(state().await, "healthy");
    world.say_on(host(1), Finding::CodeMismatch(503), 0).await;
    assert_eq!(state().await, "unhealthy");
    let view = world.elb.control.view();
    let health = view.elb_targets.iter().next().unwrap().health;
    assert_eq!(health, TargetHealth::Unhealthy(CheckFailure::Code(503)));
    world.say_on(host(2), Finding::Healthy, 0).await;
    assert_eq!(state().await, "healthy");
    // Nobody is believed of what is not told there.
    world.join(3, "us-east-1c").await;
    let report = world.report(u64::MAX, Finding::Failed, 0);
    world.elb.take_in(host(3), report).await.unwrap();
    assert_eq!(state().await, "healthy");
}

#[tokio::test]
async fn what_drains_waits_for_each_host_that_has_it_until_that_is_lost() {
    let (world, group) = on_two_hosts().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    world.deregister(&group, "172.31.0.9").await;
    world.say_on(host(1), Finding::NotChecked, 0).await;
    assert_eq!(world.health(&group).await[0].0, "draining", "the second has not said anything");
    let lost = host(2).unwrap();
    world
        .put(|view, batch| {
            let row = view.instance_of_any(lost).unwrap();
            let mut row = model::Instance::clone(row);
            row.agent.connected = false;
            row.agent.heard_at = Some(world.test.env.now());
            batch.put(row);
        })
        .await;
    world.say_on(host(1), Finding::NotChecked, 0).await;
    assert_eq!(world.health(&group).await[0].0, "draining", "it may be back at any moment");
    world.test.env.advance_ms(15_000);
    world.place().await;
    assert_eq!(world.stands()[1].0, host(1), "there is no other place");
    assert_eq!(world.health(&group).await[0].0, "draining", "it has yet to say that it knows");
    world.say_on(host(1), Finding::NotChecked, 0).await;
    assert_eq!(world.health(&group).await, []);
}

#[tokio::test]
async fn a_balancer_goes_to_where_targets_of_type_instance_are() {
    let world = World::new().await;
    let key = world.elb.control.access.keys.node.access_key_id.clone();
    let mut own = rows::instance(InstanceId::from_bytes([9; 16]));
    (own.access_key, own.agent.connected) = (Some(key), true);
    world
        .put(|_, batch| {
            batch.put(own.clone());
        })
        .await;
    world.join(1, "us-east-1a").await;
    world.join(2, "us-east-1b").await;
    let input = api::CreateLoadBalancerInput {
        name: text("inner"),
        scheme: Some(api::LoadBalancerSchemeEnum::Internal),
        subnets: Some(world.vpc().subnets.iter().take(2).map(|it| it.id.to_string()).collect()),
        ..Default::default()
    };
    let made = world.elb.create_load_balancer(&world.root(), input).await.unwrap();
    let balancer = made.load_balancers.unwrap().remove(0).load_balancer_arn.unwrap();
    world.place().await;
    let hosts = || world.stands().into_iter().map(|(host, _)| host).collect::<Vec<_>>();
    assert_eq!(hosts(), [host(1), host(2)]);
    let http = (api::ProtocolEnum::Http, 80);
    let group = world.group_of("ports", http, api::TargetTypeEnum::Instance).await;
    world.listener(&balancer, 80, &group).await;
    world.place().await;
    assert_eq!(hosts(), [None, None]);
}

#[tokio::test]
async fn a_host_whose_process_says_nothing_or_serves_no_more_is_not_named_and_then_left() {
    let (world, _) = on_two_hosts().await;
    let start = world.test.env.now();
    let serves = |number| (host(number), StandState::Serving);
    let coming = |number| (host(number), StandState::Coming { since: world.test.env.now() });
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    // It says that it is there, and takes connections at nothing.
    let report = Report { version: world.table_of(host(2)).version, ..Report::default() };
    world.elb.take_in(host(2), report).await.unwrap();
    assert_eq!(world.stands(), [serves(1), coming(2)]);
    world.say_on(host(2), Finding::Healthy, 0).await;
    assert_eq!(world.stands(), [serves(1), serves(2)]);
    let keeper = || crate::health::HealthKeeper {
        control: Arc::clone(&world.elb.control),
        feed: Arc::clone(&world.elb.feed),
    };
    let pass = async || keeper().pass(&control::reconcile::NowAndThen).await.unwrap();
    assert_eq!(pass().await.again_at, Some(start.plus_ms(30_000)));
    world.test.env.advance_ms(20_000);
    world.say_on(host(1), Finding::Healthy, 0).await;
    world.test.env.advance_ms(10_000);
    pass().await;
    assert_eq!(world.stands(), [serves(1), coming(2)]);
    world.join(3, "us-east-1b").await;
    world.test.env.advance_ms(60_000);
    world.say_on(host(1), Finding::Healthy, 0).await;
    world.place().await;
    assert_eq!(world.stands(), [serves(1), coming(3)], "another host of the zone");
}

#[tokio::test]
async fn an_interface_whose_subnet_is_taken_away_serves_on_until_nobody_is_there() {
    let (world, _) = on_two_hosts().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    let balancer = || {
        let view = world.elb.control.view();
        view.elb_balancers.iter().next().map(|row| ElbBalancer::clone(row)).unwrap()
    };
    let subnets: Vec<_> = world.vpc().subnets.iter().map(|it| it.id.to_string()).collect();
    let set = async |at: [usize; 2]| {
        let input = api::SetSubnetsInput {
            load_balancer_arn: text(&balancer().arn()),
            subnets: Some(at.map(|at| subnets[at].clone()).to_vec()),
            ..Default::default()
        };
        let zones = world.elb.set_subnets(&world.root(), input).await.unwrap();
        let zones = zones.availability_zones.unwrap().into_iter();
        zones.map(|zone| zone.subnet_id.unwrap()).collect::<Vec<_>>()
    };
    let eni = balancer().zones[1].eni.clone();
    let has = |table: &Table| {
        let interfaces = table.balancers.values().flat_map(|it| &it.interfaces);
        interfaces.filter(|it| it.eni == eni.as_str()).map(|it| it.is_leaving).next()
    };
    let mut shown = set([0, 2]).await;
    shown.sort();
    let mut wanted = vec![subnets[0].clone(), subnets[2].clone()];
    wanted.sort();
    assert_eq!(shown, wanted, "it is shown no more");
    assert!(balancer().named_zones().all(|zone| zone.eni != eni), "nor named");
    assert_eq!(has(&world.table_of(host(2))), Some(true));
    assert_eq!(world.elb.control.view().interfaces.len(), 3);
    // One that is wanted again is as it was.
    set([0, 1]).await;
    assert_eq!(has(&world.table_of(host(2))), Some(false));
    assert!(balancer().named_zones().any(|zone| zone.eni == eni));
    set([0, 2]).await;
    let busy = async |is_busy: bool| {
        let table = world.table_of(host(2));
        let interfaces = table.balancers.values().flat_map(|it| &it.interfaces);
        let its = interfaces.map(routing::Interface::reference).collect::<Vec<_>>();
        let report = Report {
            version: table.version,
            busy: if is_busy { its } else { vec![] },
            ..Report::default()
        };
        world.elb.take_in(host(2), report).await.unwrap();
        world.place().await;
    };
    world.test.env.advance_ms(31_000);
    busy(true).await;
    assert_eq!(has(&world.table_of(host(2))), Some(true));
    busy(false).await;
    assert_eq!(has(&world.table_of(host(2))), None);
    let enis: Vec<_> =
        world.elb.control.view().interfaces.iter().map(|it| it.eni.clone()).collect();
    assert!(!enis.contains(&eni) && enis.len() == 2, "{enis:?}");
    // A balancer that is deleted leaves nothing behind.
    set([0, 1]).await;
    let input = api::DeleteLoadBalancerInput { load_balancer_arn: text(&balancer().arn()) };
    world.elb.delete_load_balancer(&world.root(), input).await.unwrap();
    assert!(world.elb.control.view().interfaces.is_empty());
}

#[tokio::test]
async fn a_region_that_has_just_started_waits_to_be_told_who_serves() {
    let (world, _) = on_two_hosts().await;
    world.say_on(host(1), Finding::Healthy, 0).await;
    world.test.env.advance_ms(300_000);
    let again = world.again();
    let keeper = || crate::health::HealthKeeper {
        control: Arc::clone(&again.elb.control),
        feed: Arc::clone(&again.elb.feed),
    };
    let pass = async || keeper().pass(&control::reconcile::NowAndThen).await.unwrap();
    let until = again.test.env.now().plus_ms(30_000);
    assert_eq!(pass().await.again_at, Some(until));
    again.place().await;
    assert_eq!(again.stands()[0], (host(1), StandState::Serving));
    assert_eq!(again.stands()[1].0, host(2), "nor is one left that had no time to say so");
}

#[tokio::test]
async fn clients_are_sent_away_from_an_interface_that_leaves_where_they_come_by_another() {
    let (world, _) = on_two_hosts().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    let leaves = |number| {
        let table = world.table_of(host(number));
        table.balancers.values().next().unwrap().interfaces[0].is_leaving
    };
    for (number, expected) in [(2, [false, true]), (1, [false, false])] {
        world.join(number + 2, ["us-east-1a", "us-east-1b"][usize::from(number) - 1]).await;
        world
            .put(|view, batch| {
                let row = view.instance_of_any(host(number).unwrap()).unwrap();
                let mut row = model::Instance::clone(row);
                row.status = model::instance::InstanceStatus::Draining;
                batch.put(row);
            })
            .await;
        world.place().await;
        assert!(matches!(world.stands()[usize::from(number) - 1].1, StandState::Leaving { .. }));
        assert_eq!([1, 2].map(leaves), expected, "after {number}");
    }
}

#[tokio::test]
async fn an_interface_on_a_host_whose_agent_is_silent_serves_on_too_when_its_subnet_is_taken_away()
{
    let (world, _) = on_two_hosts().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    world
        .put(|view, batch| {
            let row = view.instance_of_any(host(2).unwrap()).unwrap();
            let mut row = model::Instance::clone(row);
            row.agent.connected = false;
            row.agent.heard_at = Some(world.test.env.now());
            batch.put(row);
        })
        .await;
    world.test.env.advance_ms(6_000);
    world.place().await;
    assert_eq!(world.stands()[1], (host(2), StandState::Away));
    let view = world.elb.control.view();
    let row = view.elb_balancers.iter().next().unwrap();
    let subnets: Vec<_> = world.vpc().subnets.iter().map(|it| it.id.to_string()).collect();
    let input = api::SetSubnetsInput {
        load_balancer_arn: text(&row.arn()),
        subnets: Some(vec![subnets[0].clone(), subnets[2].clone()]),
        ..Default::default()
    };
    world.elb.set_subnets(&world.root(), input).await.unwrap();
    let enis = || {
        let table = world.table_of(host(2));
        let interfaces = table.balancers.values().flat_map(|it| it.interfaces.clone());
        interfaces.map(|it| it.eni).collect::<Vec<_>>()
    };
    assert_eq!(enis(), [row.zones[1].eni.to_string()]);
    // What its host holds is lost with it.
    world.test.env.advance_ms(10_000);
    world.place().await;
    assert!(enis().is_empty());
}

#[tokio::test]
async fn nothing_is_cut_because_a_region_that_has_just_started_has_heard_of_nobody_yet() {
    let (world, _) = on_two_hosts().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    world.join(3, "us-east-1b").await;
    world
        .put(|view, batch| {
            let row = view.instance_of_any(host(2).unwrap()).unwrap();
            let mut row = model::Instance::clone(row);
            row.status = model::instance::InstanceStatus::Draining;
            batch.put(row);
        })
        .await;
    world.place().await;
    assert!(matches!(world.stands()[1].1, StandState::Leaving { .. }));
    world.test.env.advance_ms(60_000);
    let again = world.again();
    again.place().await;
    assert_eq!(again.stands()[1].0, host(2), "what is open there is not known yet");
    // Who is there says so, and is not heard for a while then.
    let table = again.table_of(host(2));
    let interfaces = table.balancers.values().flat_map(|it| &it.interfaces);
    let busy = interfaces.map(routing::Interface::reference).collect();
    let report = Report { version: table.version, busy, ..Report::default() };
    again.elb.take_in(host(2), report).await.unwrap();
    again.test.env.advance_ms(60_000);
    again.place().await;
    assert_eq!(again.stands()[1].0, host(2));
    for number in [1, 2] {
        again.say_on(host(number), Finding::Healthy, 0).await;
    }
    again.place().await;
    assert_eq!(again.stands()[1].0, host(3), "nothing is open any more");
}

#[tokio::test]
async fn a_drain_waits_for_no_host_that_never_had_the_target_and_for_each_that_had() {
    let (world, group) = on_two_hosts().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    // It has read its table, which has nothing, and never says a word; another lies.
    for number in [3, 4] {
        world.join(number, "us-east-1c").await;
        let none = std::time::Duration::ZERO;
        world.elb.feed.read(host(number), 0, none).await;
    }
    world.publish();
    let lie = world.report(u64::MAX, Finding::Healthy, 7);
    world.elb.take_in(host(4), lie).await.unwrap();
    world.deregister(&group, "172.31.0.9").await;
    world.say_on(host(1), Finding::NotChecked, 0).await;
    assert_eq!(world.health(&group).await[0].0, "draining", "the second has not said anything");
    world.say_on(host(2), Finding::NotChecked, 0).await;
    assert_eq!(world.health(&group).await, []);

    world.register(&group, "172.31.0.9").await;
    for number in [1, 2] {
        let none = std::time::Duration::ZERO;
        let version = world.table_of(host(number)).version;
        world.elb.feed.read(host(number), version - 1, none).await;
        world.say_on(host(number), Finding::Healthy, 1).await;
    }
    world.stand(&[host(1), host(1)]).await;
    world.publish();
    // However many tables came after that had it no more.
    for _ in 0..40 {
        world.balancer(&format!("b{}", world.elb.digits())).await;
        world.publish();
    }
    world.deregister(&group, "172.31.0.9").await;
    for host in [None, host(1)] {
        world.say_on(host, Finding::NotChecked, 0).await;
    }
    assert_eq!(world.health(&group).await[0].0, "draining", "the second had it, and may still");
    world.say_on(host(2), Finding::NotChecked, 0).await;
    assert_eq!(world.health(&group).await, []);
    world.publish();
    assert!(world.elb.feed.known().had.is_empty(), "nothing is kept of what is gone");
}

#[tokio::test]
async fn what_a_process_was_told_is_forgotten_with_the_process() {
    let (world, _) = on_two_hosts().await;
    let none = std::time::Duration::ZERO;
    for number in [1, 2] {
        world.elb.feed.read(host(number), 0, none).await;
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    let given = || world.elb.feed.known().given.into_keys().collect::<Vec<_>>();
    assert_eq!(given(), [host(1), host(2)]);
    world.test.env.advance_ms(15 * 60_000 - 1);
    world.say_on(host(1), Finding::Healthy, 0).await;
    assert_eq!(given(), [host(1), host(2)]);
    world.test.env.advance_ms(1);
    world.say_on(host(1), Finding::Healthy, 0).await;
    assert_eq!(given(), [host(1)], "the second said nothing for so long");
    // One that comes back itself is not forgotten by that.
    world.test.env.advance_ms(15 * 60_000);
    world.say_on(host(1), Finding::Healthy, 0).await;
    assert_eq!(given(), [host(1)]);
}

#[tokio::test]
async fn the_regions_own_process_is_heard_among_however_many_hosts() {
    let world = World::new().await;
    for number in 0..300_u16 {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let host = Some(InstanceId::from_bytes(id));
        world.elb.take_in(host, Report::default()).await.unwrap();
    }
    world.elb.take_in(None, Report::default()).await.unwrap();
    let nodes = world.elb.feed.known().nodes;
    assert!(nodes.contains_key(&None));
    assert_eq!(nodes.len(), crate::limits::NODES_MAX + 1);
}

#[tokio::test]
async fn a_process_that_waits_for_news_is_let_go_when_the_region_ends() {
    let (world, _) = on_two_hosts().await;
    let (feed, version) = (&world.elb.feed, world.table_of(host(1)).version);
    let long = std::time::Duration::from_secs(3_600);
    let both = async { tokio::join!(feed.read(host(1), version, long), async { feed.close() }) };
    let (read, ()) = tokio::time::timeout(long / 60, both).await.expect("it is let go");
    assert_eq!(read, routing::Update::Unchanged);
}
