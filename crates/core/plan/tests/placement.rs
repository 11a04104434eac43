//! Placement as tables, and the promise that nothing is given away twice.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::{ClusterName, CpuUnits, InstanceId, MemoryMib, Resources, Scope, Timestamp};
use model::instance::{AgentState, Instance, InstanceStatus};
use model::task::{HostPort, Need, Protocol};
use model::{RequiredAttribute, Tags};
use plan::{
    Ask, Constraint, FargatePool, Field, Fleet, Host, NoPlace, Pool, Strategy, Unfit, plan,
};
use proptest::prelude::{Just, any, prop_oneof, proptest};

fn id(number: u8) -> InstanceId {
    InstanceId::from_bytes([number; 16])
}

fn instance(number: u8, cpu: u32, memory: u32) -> Instance {
    let zone = ["a", "b", "c"][usize::from(number) % 3].to_owned();
    Instance {
        id: id(number),
        scope: Scope {
            region: "eu-north-1".parse().unwrap(),
            account: "000000000000".parse().unwrap(),
        },
        cluster: ClusterName::default_cluster(),
        status: InstanceStatus::Active,
        total: Resources { cpu: CpuUnits(cpu), memory: MemoryMib(memory) },
        reserved_ports: [HostPort { protocol: Protocol::Tcp, port: 22 }].into(),
        other_resources: vec![],
        attributes: BTreeMap::from([("ecs.availability-zone".to_owned(), Some(zone))]),
        tags: Tags::default(),
        ec2_instance_id: None,
        capacity_provider: None,
        is_external: false,
        access_key: None,
        registered_at: Timestamp(0),
        agent: AgentState { connected: true, ..AgentState::default() },
        health: vec![],
        version: 0,
    }
}

fn need(cpu: u32, memory: u32) -> Need {
    Need {
        resources: Resources { cpu: CpuUnits(cpu), memory: MemoryMib(memory) },
        ports: vec![],
        gpus: 0,
    }
}

fn ask<'a>(need: &'a Need, constraints: &'a [Constraint], strategies: &'a [Strategy]) -> Ask<'a> {
    Ask {
        need,
        group: "family:web",
        pool: Pool::Own,
        requires: &[],
        zones: &[],
        constraints,
        strategies,
    }
}

fn hosts(instances: &[Instance]) -> Vec<Host<'_>> {
    instances.iter().map(|each| Host::new(each, [])).collect()
}

#[test]
fn each_instance_says_why_it_refused() {
    let mut instances: Vec<_> = (1..=7).map(|number| instance(number, 1024, 1024)).collect();
    instances[0].status = InstanceStatus::Draining;
    instances[1].agent.connected = false;
    instances[2].total.cpu = CpuUnits(128);
    instances[3].total.memory = MemoryMib(128);
    instances[4].reserved_ports.insert(HostPort { protocol: Protocol::Tcp, port: 80 });
    instances[5].reserved_ports.insert(HostPort { protocol: Protocol::Udp, port: 53 });
    for each in &mut instances[..6] {
        each.attributes.insert("disk".to_owned(), None);
    }
    let mut need = need(256, 512);
    need.ports = vec![
        HostPort { protocol: Protocol::Tcp, port: 80 },
        HostPort { protocol: Protocol::Udp, port: 53 },
    ];
    let requires = [RequiredAttribute { name: "disk".to_owned(), value: None }];
    let ask = Ask { requires: &requires, ..ask(&need, &[], &[]) };
    let plan = plan(&mut hosts(&instances), &ask, 1, 0);
    let refusals = plan.refusals.unwrap();
    let reasons: Vec<_> = refusals.each().iter().map(|(_, unfit)| unfit.wire_reason()).collect();
    let expected = [
        "INACTIVE",
        "AGENT",
        "RESOURCE:CPU",
        "RESOURCE:MEMORY",
        "RESOURCE:PORTS",
        "RESOURCE:PORTS_UDP",
        "ATTRIBUTE",
    ];
    assert_eq!(reasons, expected);
    let sentence = refusals.to_string();
    assert!(sentence.contains("1 with tcp port 80 taken"), "{sentence}");
    let udp = Unfit::Port(HostPort { protocol: Protocol::Udp, port: 53 });
    assert_eq!(refusals.nearest(), Some((id(6), &udp)));
}

#[test]
fn binpack_fills_the_fullest_instance_that_still_takes_it() {
    let instances = [instance(1, 4096, 4096), instance(2, 4096, 1024), instance(3, 4096, 256)];
    let need = need(10, 512);
    let plan = plan(&mut hosts(&instances), &ask(&need, &[], &[Strategy::BinpackMemory]), 4, 9);
    assert_eq!(plan.placements, [id(2), id(2), id(1), id(1)]);
    assert_eq!(plan.refusals, None);
}

#[test]
fn spreading_over_zones_comes_before_packing_within_them() {
    let instances: Vec<_> = (1..=6).map(|number| instance(number, 4096, 4096)).collect();
    let zone = Strategy::Spread(Field::Attribute("ecs.availability-zone".to_owned()));
    let need = need(10, 512);
    let strategies = [zone, Strategy::BinpackMemory];
    let plan = plan(&mut hosts(&instances), &ask(&need, &[], &strategies), 6, 9);
    let mut zones: Vec<_> = plan.placements.iter().map(|id| id.to_bytes()[0] % 3).collect();
    assert_eq!(plan.placements.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    zones.sort_unstable();
    assert_eq!(zones, [0, 0, 1, 1, 2, 2]);
}

#[test]
fn distinct_instances_take_one_each_and_then_say_so() {
    let instances = [instance(1, 4096, 4096), instance(2, 4096, 4096)];
    let need = need(10, 10);
    let constraints = [Constraint::DistinctInstance];
    let plan = plan(&mut hosts(&instances), &ask(&need, &constraints, &[]), 3, 5);
    assert_eq!(plan.placements.len(), 2);
    let distinct = [(id(1), Unfit::DistinctInstance), (id(2), Unfit::DistinctInstance)];
    assert_eq!(plan.refusals.unwrap().each(), distinct);
}

#[test]
fn a_member_of_constraint_is_kept() {
    let instances: Vec<_> = (1..=3).map(|number| instance(number, 4096, 4096)).collect();
    let expression = "attribute:ecs.availability-zone == b".parse().unwrap();
    let constraints = [Constraint::MemberOf(expression)];
    let need = need(10, 10);
    let plan = plan(&mut hosts(&instances), &ask(&need, &constraints, &[]), 2, 5);
    assert_eq!(plan.placements, [id(1), id(1)]);
}

#[test]
fn fargate_goes_where_there_is_room_and_the_fewest_tasks_are() {
    let mut instances: Vec<_> = (1..=3).map(|number| instance(number, 1024, 2048)).collect();
    for each in &mut instances[..2] {
        each.attributes.insert("longshore.fargate".to_owned(), Some("true".to_owned()));
    }
    instances[1].total.memory = MemoryMib(1024);
    let small = Resources { cpu: CpuUnits(512), memory: MemoryMib(512) };
    let mut pool = FargatePool::default();
    assert_eq!(pool.place(small, &[], &[]), Err(NoPlace::NoHost));
    let share = |row: &Instance| Arc::new(row.clone());
    for each in &instances {
        pool.change_instance(each.id, Some(&share(each)));
    }
    let placed: Vec<_> = (0..5).map(|_| pool.place(small, &[], &[])).collect();
    assert_eq!(placed, [Ok(id(1)), Ok(id(2)), Ok(id(1)), Ok(id(2)), Err(NoPlace::NoRoom)]);
    pool.give_back();
    let large = Resources { cpu: CpuUnits(256), memory: MemoryMib(1536) };
    assert_eq!(pool.place(large, &[], &[]), Ok(id(1)));
    assert_eq!(
        pool.place(large, &[], &[]),
        Err(NoPlace::NoRoom),
        "neither has so much memory left"
    );
    pool.give_back();
    let arm = RequiredAttribute {
        name: "ecs.cpu-architecture".to_owned(),
        value: Some("arm64".to_owned()),
    };
    assert_eq!(pool.place(small, std::slice::from_ref(&arm), &[]), Err(NoPlace::NoRoom));
    instances[1].attributes.insert("ecs.cpu-architecture".to_owned(), Some("arm64".to_owned()));
    instances[1]
        .attributes
        .insert("longshore.fargate-cpu-percent".to_owned(), Some("50".to_owned()));
    pool.change_instance(id(2), Some(&share(&instances[1])));
    assert_eq!(pool.place(small, std::slice::from_ref(&arm), &[]), Ok(id(2)));
    assert_eq!(pool.place(small, &[arm], &[]), Err(NoPlace::NoRoom), "half of its CPU is offered");
    pool.give_back();
    instances[0].agent.connected = false;
    pool.change_instance(id(1), Some(&share(&instances[0])));
    assert_eq!(pool.place(small, &[], &[]), Ok(id(2)));
    pool.change_instance(id(2), None);
    assert_eq!(pool.place(small, &[], &[]), Err(NoPlace::NoHost));
}

#[test]
fn tasks_with_subnets_go_to_instances_in_their_zones_while_there_are_any() {
    let mut instances: Vec<_> = (1..=3).map(|number| instance(number, 4096, 4096)).collect();
    for (each, zone) in instances.iter_mut().zip(["a", "a", "b"]) {
        each.attributes.insert("ecs.availability-zone".to_owned(), Some(zone.to_owned()));
    }
    let need = need(10, 10);
    let of = |instances: &[Instance], names: &[&str]| {
        let zones: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let ask = Ask { zones: &zones, ..ask(&need, &[], &[]) };
        let made = plan(&mut hosts(instances), &ask, 1, 5);
        let mut fleet = Fleet::default();
        instances.iter().for_each(|each| fleet.put_instance(Arc::new(each.clone())));
        assert_eq!(fleet.place(&ask, 1, 5), made);
        made
    };
    assert_eq!(of(&instances, &["b"]).placements, [id(3)]);
    assert_eq!(of(&instances, &["b", "c"]).placements, [id(3)]);
    assert_eq!(of(&instances, &["c"]).placements, [id(1)], "nobody is there: any will do");
    assert_eq!(of(&instances, &[]).placements, [id(1)]);
    instances[2].total.memory = MemoryMib(5);
    let full = of(&instances, &["b"]);
    let refusals = full.refusals.unwrap();
    assert_eq!(refusals.each()[0], (id(1), Unfit::Zone));
    assert_eq!(refusals.each()[0].1.wire_reason(), "ATTRIBUTE");
    assert_eq!(refusals.nearest().unwrap().0, id(3));
    instances[2].status = InstanceStatus::Draining;
    assert_eq!(of(&instances, &["b"]).placements, [id(1)], "none is active there");
}

#[test]
fn fargate_goes_to_the_zones_of_subnets_while_a_host_there_takes_tasks() {
    let mut instances: Vec<_> = (1..=3).map(|number| instance(number, 4096, 4096)).collect();
    let mut pool = FargatePool::default();
    for (each, zone) in instances.iter_mut().zip(["a", "a", "b"]) {
        each.attributes.insert("longshore.fargate".to_owned(), Some("true".to_owned()));
        each.attributes.insert("ecs.availability-zone".to_owned(), Some(zone.to_owned()));
        pool.change_instance(each.id, Some(&Arc::new(each.clone())));
    }
    let [b, c] = ["b", "c"].map(str::to_owned);
    let need = Resources { cpu: CpuUnits(1024), memory: MemoryMib(1024) };
    let mut at = |zones: &[String]| pool.place(need, &[], zones);
    let in_b: Vec<_> = (0..5).map(|_| at(&[b.clone(), c.clone()])).collect();
    assert_eq!(in_b, [Ok(id(3)), Ok(id(3)), Ok(id(3)), Ok(id(3)), Err(NoPlace::NoRoom)]);
    assert_eq!(at(std::slice::from_ref(&c)), Ok(id(1)), "nobody is there: any will do");
    assert_eq!(at(&[]), Ok(id(2)));
    assert_eq!(pool.zone(id(3)), Some("b"));
    pool.change_instance(id(3), None);
    assert!(!pool.takes_in("b", &[]) && pool.takes_in("a", &[]));
    assert_eq!(pool.place(need, &[], std::slice::from_ref(&b)), Ok(id(1)));
    // A host that cannot be the task's is as none.
    let kind = |value: &str| Some(value.to_owned());
    instances[2].attributes.insert("ecs.cpu-architecture".to_owned(), kind("arm64"));
    instances[0].attributes.insert("ecs.cpu-architecture".to_owned(), kind("x86_64"));
    for each in [&instances[0], &instances[2]] {
        pool.change_instance(each.id, Some(&Arc::new(each.clone())));
    }
    let x86 =
        [RequiredAttribute { name: "ecs.cpu-architecture".to_owned(), value: kind("x86_64") }];
    assert!(!pool.takes_in("b", &x86) && pool.takes_in("a", &x86));
    assert_eq!(pool.place(need, &x86, &[b]), Ok(id(1)));
}

fn strategy() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![
        Just(Strategy::BinpackCpu),
        Just(Strategy::BinpackMemory),
        Just(Strategy::Random),
        Just(Strategy::Spread(Field::Instance)),
        Just(Strategy::Spread(Field::Attribute("ecs.availability-zone".to_owned()))),
    ]
}

proptest! {
    #[test]
    fn no_instance_is_ever_overcommitted(
        sizes in proptest::collection::vec((0_u32..4096, 0_u32..4096), 1..12),
        asks in proptest::collection::vec((0_u32..1024, 0_u32..1024, proptest::option::of(80_u16..83), 1_u32..6), 1..12),
        strategies in proptest::collection::vec(strategy(), 0..4),
        seed in any::<u64>(),
    ) {
        let numbered = (1..).zip(&sizes);
        let instances: Vec<_> = numbered.map(|(n, (cpu, mem))| instance(n, *cpu, *mem)).collect();
        let mut hosts = hosts(&instances);
        let mut taken: BTreeMap<InstanceId, (u32, u32, Vec<u16>)> = BTreeMap::new();
        for (cpu, memory, port, count) in asks {
            let mut need = need(cpu, memory);
            need.ports = port.iter().map(|p| HostPort { protocol: Protocol::Tcp, port: *p }).collect();
            let before = hosts.clone();
            let made = plan(&mut hosts, &ask(&need, &[], &strategies), count, seed);
            assert_eq!(made, plan(&mut before.clone(), &ask(&need, &[], &strategies), count, seed));
            assert_eq!(made.placements.len() < count as usize, made.refusals.is_some());
            for id in made.placements {
                let (so_far_cpu, so_far_memory, ports) = taken.entry(id).or_default();
                *so_far_cpu += cpu;
                *so_far_memory += memory;
                if let Some(port) = port {
                    assert!(!ports.contains(&port), "port {port} given twice");
                    ports.push(port);
                }
                let total = instances.iter().find(|each| each.id == id).unwrap().total;
                assert!(*so_far_cpu <= total.cpu.0 && *so_far_memory <= total.memory.0);
            }
        }
    }
}
