use std::collections::BTreeSet;

use control::testing::rows::task as sample_task;
use longshore_types::{CpuUnits, MemoryMib, Resources, Scope, SeededEnv, Timestamp};
use model::instance::{AgentState, FARGATE_ATTRIBUTE};
use model::task::{LaunchType, Need, Phase};
use model::{Row, Tags};
use plan::{Constraint, Field, Strategy};

use super::*;

const SEEDS: u64 = 60;
const TURNS: u32 = 80;

fn account() -> AccountId {
    "000000000000".parse().unwrap()
}

fn cluster(number: u32) -> ClusterName {
    ["demo", "other"][number as usize % 2].parse().unwrap()
}

fn id(number: u8) -> InstanceId {
    InstanceId::from_bytes([number; 16])
}

fn instance(number: u8, random: &SeededEnv) -> Instance {
    let zone = ["a", "b"][random.below(2) as usize].to_owned();
    let mut instance = Instance {
        id: id(number),
        scope: Scope { region: "us-east-1".parse().unwrap(), account: account() },
        cluster: cluster(u32::from(number)),
        status: InstanceStatus::Active,
        total: Resources { cpu: CpuUnits(2048), memory: MemoryMib(4096) },
        reserved_ports: BTreeSet::new(),
        other_resources: vec![],
        attributes: [("ecs.availability-zone".to_owned(), Some(zone))].into(),
        tags: Tags::default(),
        ec2_instance_id: None,
        capacity_provider: None,
        is_external: random.below(6) == 0,
        access_key: None,
        registered_at: Timestamp(0),
        agent: AgentState { connected: random.below(6) > 0, ..AgentState::default() },
        health: vec![],
        version: 0,
    };
    match random.below(8) {
        0 => instance.status = InstanceStatus::Draining,
        1 => instance.status = InstanceStatus::Inactive,
        2 | 3 => {
            instance.attributes.insert(FARGATE_ATTRIBUTE.to_owned(), Some("true".to_owned()));
        }
        _ => {}
    }
    instance
}

fn task(number: u32, random: &SeededEnv) -> Task {
    let instance = u8::try_from(random.below(8)).unwrap();
    let phases = [Phase::Pending, Phase::Running, Phase::Stopping, Phase::Stopped];
    let mut task = sample_task(u64::from(number));
    task.cluster = cluster(u32::from(instance));
    task.instance = (random.below(6) > 0).then(|| id(instance));
    task.launch = if random.below(4) == 0 { LaunchType::Fargate } else { LaunchType::Ec2 };
    task.group = format!("service:{}", random.below(3));
    task.need = need(128 * (1 + random.below(3)), 256);
    task.phase = phases[random.below(4) as usize];
    task
}

fn need(cpu: u32, memory: u32) -> Need {
    Need {
        resources: Resources { cpu: CpuUnits(cpu), memory: MemoryMib(memory) },
        ports: vec![],
        gpus: 0,
    }
}

/// What a fleet says to several asks, and what the pool of Fargate says.
fn answers(fleets: &Fleets, view: &View) -> Vec<String> {
    let zone = Strategy::Spread(Field::Attribute("ecs.availability-zone".to_owned()));
    let quiet = Constraint::MemberOf("runningTasksCount < 2".parse().unwrap());
    let asks: [(&str, &[Strategy], &[Constraint]); 4] = [
        ("service:0", &[Strategy::BinpackCpu], &[]),
        ("service:1", &[zone, Strategy::Spread(Field::Instance)], &[]),
        ("service:2", &[], &[Constraint::DistinctInstance]),
        ("service:0", &[Strategy::Random], &[quiet]),
    ];
    let zones = ["a".to_owned()];
    let mut answers = Vec::new();
    for number in 0..2 {
        let mut reservation = fleets.reservation(view, account(), &cluster(number));
        for (group, strategies, constraints) in asks {
            let zones = if group == "service:1" { &zones[..] } else { &[] };
            let need = need(512, 512);
            let pool = if number == 0 { Pool::Own } else { Pool::External };
            let ask =
                Ask { need: &need, group, pool, requires: &[], zones, constraints, strategies };
            answers.push(format!(
                "{:?} {:?}",
                reservation.has_active(pool),
                reservation.place_in(&mut Batch::on(view), &ask, 6, 7)
            ));
        }
    }
    let mut fargate = fleets.fargate(view);
    let need = Resources { cpu: CpuUnits(512), memory: MemoryMib(512) };
    answers.extend((0..4).map(|_| format!("{:?}", fargate.place(need, &[], &zones))));
    answers
}

#[test]
fn a_fleet_that_is_kept_answers_as_one_that_is_made_anew() {
    for seed in 0..SEEDS {
        let random = SeededEnv::from_seed(seed);
        let kept = Fleets::default();
        let mut view = View::default();
        let mut earlier = view.clone();
        for turn in 0..TURNS {
            view.seq = view.seq.next();
            change(&mut view, &random);
            if random.below(4) == 0 {
                // Answers are asked of older views too: the durable one is behind the latest.
                for view in [&view, &earlier, &view] {
                    let anew = answers(&Fleets::default(), view);
                    assert_eq!(answers(&kept, view), anew, "seed {seed}, turn {turn}");
                }
                earlier = view.clone();
            }
        }
    }
}

fn change(view: &mut View, random: &SeededEnv) {
    let seq = view.seq;
    match random.below(8) {
        0 | 1 => {
            let number = u8::try_from(random.below(8)).unwrap();
            view.put(seq, &Row::from(instance(number, random)));
        }
        2 => {
            let number = u8::try_from(random.below(8)).unwrap();
            view.remove(seq, &Key::ContainerInstance(account(), id(number)));
        }
        3 => {
            let task = task(random.below(20), random);
            view.remove(seq, &Key::Task(account(), task.id));
        }
        _ => {
            let mut now = task(random.below(20), random);
            // A task keeps its cluster and, once it has one, its instance.
            if let Some(before) = view.tasks.get(account(), &now.id) {
                now.cluster = before.cluster.clone();
                now.instance = before.instance;
                now.launch = before.launch;
            }
            view.put(seq, &Row::from(now));
        }
    }
}

/// A region with one instance that has capacity for two tasks of [`need`]`(1024, 512)`.
fn small() -> View {
    let mut view = View::default();
    view.seq = Seq(1);
    let mut row = instance(0, &SeededEnv::from_seed(1));
    row.status = InstanceStatus::Active;
    row.agent.connected = true;
    row.is_external = false;
    view.put(Seq(1), &Row::from(row));
    view
}

fn ask(need: &Need) -> Ask<'_> {
    let group = "service:0";
    Ask {
        need,
        group,
        pool: Pool::Own,
        requires: &[],
        zones: &[],
        constraints: &[],
        strategies: &[],
    }
}

fn placed(number: u64, need: &Need) -> Task {
    let mut task = sample_task(number);
    task.cluster = cluster(0);
    task.instance = Some(id(0));
    task.launch = LaunchType::Ec2;
    task.group = "service:0".to_owned();
    task.need = need.clone();
    task.phase = Phase::Pending;
    task
}

#[test]
fn what_a_reservation_placed_counts_until_it_is_dropped() {
    let (view, fleets, need) = (small(), Fleets::default(), need(1024, 512));
    for _ in 0..2 {
        let mut reservation = fleets.reservation(&view, account(), &cluster(0));
        let mut batch = Batch::on(&view);
        assert_eq!(reservation.place_in(&mut batch, &ask(&need), 2, 1).placements, [id(0), id(0)]);
        let row = Key::ContainerInstance(account(), id(0)).into();
        assert_eq!(batch.relied_on, [row, Index::InstanceTasks(id(0)).into()]);
        assert_eq!(reservation.place_in(&mut batch, &ask(&need), 1, 1).placements, []);
    }
}

#[test]
fn a_second_reservation_of_a_decision_finds_what_the_first_one_placed() {
    let (view, fleets, need) = (small(), Fleets::default(), need(1024, 512));
    let mut batch = Batch::on(&view);
    for number in 0..2 {
        let mut reservation = fleets.reservation(&view, account(), &cluster(0));
        assert_eq!(reservation.place_in(&mut batch, &ask(&need), 1, 1).placements, [id(0)]);
        batch.put(placed(number, &need));
    }
    let mut reservation = fleets.reservation(&view, account(), &cluster(0));
    assert_eq!(reservation.place_in(&mut batch, &ask(&need), 1, 1).placements, []);
    drop(reservation);
    let mut reservation = fleets.reservation(&view, account(), &cluster(0));
    assert_eq!(reservation.place_in(&mut Batch::on(&view), &ask(&need), 3, 1).placements.len(), 2);
}

#[test]
fn a_task_that_was_placed_and_written_is_counted_once() {
    let (view, fleets, need) = (small(), Fleets::default(), need(1024, 512));
    let mut batch = Batch::on(&view);
    let mut reservation = fleets.reservation(&view, account(), &cluster(0));
    for number in 0..2 {
        assert_eq!(reservation.place_in(&mut batch, &ask(&need), 1, 1).placements, [id(0)]);
        batch.put(placed(number, &need));
    }
    assert_eq!(reservation.place_in(&mut batch, &ask(&need), 1, 1).placements, []);
}
