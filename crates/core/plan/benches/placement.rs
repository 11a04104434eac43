//! What a placement costs: in fleets of 5,000 and 10,000 instances that have 100,000 and 1,000,000 tasks
//! already, under each strategy, with constraints, and all of them in turn.
//!
//! Each turn places one task and ends another, so that the fleet stays as full as it was.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use longshore_types::{ClusterName, CpuUnits, InstanceId, MemoryMib, Resources, Scope, Timestamp};
use model::instance::{AgentState, Instance, InstanceStatus};
use model::task::{HostPort, Need, Protocol};
use model::{RequiredAttribute, Tags};
use plan::{Ask, Constraint, Field, Fleet, Host, Occupant, Pool, Strategy, plan};

const WORLDS: [(u32, u32); 4] =
    [(5_000, 100_000), (5_000, 1_000_000), (10_000, 100_000), (10_000, 1_000_000)];
/// Services whose tasks the fleet has already.
const SERVICES: u32 = 1_000;
/// Tasks of a kind's own that come and go.
const LIVING: u32 = 500;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// A kind of ask: what it wants, and how the figures name it.
struct Kind {
    name: &'static str,
    need: Need,
    group: String,
    constraints: Vec<Constraint>,
    strategies: Vec<Strategy>,
}

/// One kind for each of the services that the fleet has tasks of already.
fn services() -> Vec<Kind> {
    let service = |number: u32| {
        let kinds = kinds().into_iter();
        let mut all = kinds.filter(|kind| kind.name == "spread zone, spread instance");
        let kind = all.next().expect("it is there");
        Kind { group: format!("service:{number}"), ..kind }
    };
    (0..SERVICES).map(service).collect()
}

/// A fleet, and the tasks that a bench has put on it.
struct World {
    fleet: Fleet,
    living: Vec<(InstanceId, usize)>,
    seed: u64,
}

fn kinds() -> Vec<Kind> {
    let zone = || Strategy::Spread(Field::Attribute("ecs.availability-zone".to_owned()));
    let size = || Strategy::Spread(Field::Attribute("ecs.instance-type".to_owned()));
    let instance = || Strategy::Spread(Field::Instance);
    let member_of = |text: &str| Constraint::MemberOf(text.parse().expect("an expression"));
    let kind = |name, strategies| Kind {
        name,
        need: need(256, 512),
        group: format!("service:{name}"),
        constraints: vec![],
        strategies,
    };
    let (cpu, memory) = (Strategy::BinpackCpu, Strategy::BinpackMemory);
    let few = "attribute:ecs.instance-type =~ m5.* and attribute:ecs.availability-zone in [a, b]";
    let quiet = "runningTasksCount < 1000 and not (task:group == service:7)";
    let port = HostPort { protocol: Protocol::Tcp, port: 8080 };
    vec![
        kind("random", vec![]),
        kind("binpack cpu", vec![cpu.clone()]),
        kind("binpack memory", vec![memory.clone()]),
        kind("spread instance", vec![instance()]),
        kind("spread zone", vec![zone()]),
        kind("spread zone, spread instance", vec![zone(), instance()]),
        kind("spread zone, binpack memory", vec![zone(), memory.clone()]),
        kind("five strategies", vec![zone(), size(), instance(), memory, cpu]),
        Kind {
            constraints: vec![Constraint::DistinctInstance],
            ..kind("distinct instance, spread zone", vec![zone()])
        },
        Kind { constraints: vec![member_of(few)], ..kind("member of attributes, random", vec![]) },
        Kind {
            constraints: vec![member_of(quiet)],
            ..kind("member of task counts, random", vec![])
        },
        Kind {
            need: Need { ports: vec![port], ..need(256, 512) },
            ..kind("fixed port, spread zone", vec![zone()])
        },
    ]
}

fn need(cpu: u32, memory: u32) -> Need {
    Need {
        resources: Resources { cpu: CpuUnits(cpu), memory: MemoryMib(memory) },
        ports: vec![],
        gpus: 0,
    }
}

fn requires() -> Vec<RequiredAttribute> {
    let required = |name: &str| RequiredAttribute { name: name.to_owned(), value: None };
    ["com.amazonaws.ecs.capability.ecr-auth", "ecs.capability.execution-role-awslogs"]
        .map(required)
        .to_vec()
}

fn instance(number: u32) -> Instance {
    let mut id = [0; 16];
    // Ids are as good as random, as real ones are.
    id[..8].copy_from_slice(&scatter(u64::from(number)).to_be_bytes());
    let pick = |from: &[&str], by: u32| {
        let at = usize::try_from(number / by).unwrap_or(0) % from.len();
        Some(from[at].to_owned())
    };
    let sizes = ["m5.4xlarge", "m5.8xlarge", "c5.9xlarge", "r5.4xlarge"];
    let mut attributes = BTreeMap::from([
        ("ecs.availability-zone".to_owned(), pick(&["a", "b", "c"], 1)),
        ("ecs.instance-type".to_owned(), pick(&sizes, 3)),
    ]);
    attributes.extend(requires().into_iter().map(|required| (required.name, None)));
    Instance {
        id: InstanceId::from_bytes(id),
        scope: Scope {
            region: "eu-north-1".parse().expect("a region"),
            account: "000000000000".parse().expect("an account"),
        },
        cluster: ClusterName::default_cluster(),
        status: InstanceStatus::Active,
        total: Resources { cpu: CpuUnits(65_536), memory: MemoryMib(262_144) },
        reserved_ports: [].into(),
        other_resources: vec![],
        attributes,
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

/// The next number of a sequence that looks like chance.
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}

impl World {
    fn new(hosts: u32, tasks: u32) -> Self {
        let mut fleet = Fleet::default();
        let instances: Vec<Instance> = (0..hosts).map(instance).collect();
        for instance in &instances {
            fleet.put_instance(Arc::new(instance.clone()));
        }
        for number in 0..tasks {
            // Three of four evenly, so that none is overfull; the rest by chance.
            let at = match number % 4 {
                0 => scatter(u64::from(number)) % u64::from(hosts),
                _ => u64::from(number % hosts),
            };
            let instance = &instances[usize::try_from(at).expect("an index")];
            let group = format!("service:{}", number % SERVICES);
            let need = need(192 + 64 * (number % 3), 512 + 256 * (number % 2));
            fleet.change_task(None, Some(occupant(instance.id, &need, &group)));
        }
        Self { fleet, living: Vec::new(), seed: 1 }
    }

    fn start(&mut self, kinds: &[Kind], number: usize) {
        let Kind { need, group, constraints, strategies, .. } = &kinds[number];
        let requires = requires();
        let ask = Ask {
            need,
            group,
            pool: Pool::Own,
            requires: &requires,
            zones: &[],
            constraints,
            strategies,
        };
        self.place(&ask, number);
    }

    fn place(&mut self, ask: &Ask<'_>, number: usize) {
        self.seed += 1;
        let plan = self.fleet.place(ask, 1, self.seed);
        self.fleet.keep();
        let place = plan.placements.first().expect("there is room");
        self.living.push((*place, number));
    }

    fn end_one(&mut self, kinds: &[Kind]) {
        let living = u64::try_from(self.living.len()).expect("few");
        let at = usize::try_from(scatter(self.seed) % living).expect("an index");
        let (instance, number) = self.living.swap_remove(at);
        let Kind { need, group, .. } = &kinds[number];
        self.fleet.change_task(Some(occupant(instance, need, group)), None);
    }
}

fn occupant<'a>(instance: InstanceId, need: &'a Need, group: &'a str) -> Occupant<'a> {
    Occupant { instance, need, group, is_running: false }
}

fn placements(criterion: &mut Criterion) {
    let (kinds, requires) = (kinds(), requires());
    for (hosts, tasks) in WORLDS {
        let mut group = criterion.benchmark_group(format!("{hosts} instances, {tasks} tasks"));
        group.throughput(Throughput::Elements(1)).sample_size(20);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        for only in (0..kinds.len()).map(Some).chain([None]) {
            let name = only.map_or("all in turn", |number| kinds[number].name);
            let mut world = World::new(hosts, tasks);
            let mut number = only.unwrap_or(0);
            let mut turn = |world: &mut World| {
                let Kind { need, group, constraints, strategies, .. } = &kinds[number];
                let pool = Pool::Own;
                let requires = &requires;
                let ask = Ask { need, group, pool, requires, zones: &[], constraints, strategies };
                world.place(&ask, number);
                number = only.unwrap_or((number + 1) % kinds.len());
            };
            for _ in 0..LIVING {
                turn(&mut world);
            }
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    turn(&mut world);
                    world.end_one(&kinds);
                });
            });
        }
        measure_services(&mut group, hosts, tasks);
        group.finish();
    }
}

fn measure_services(group: &mut Group<'_>, hosts: u32, tasks: u32) {
    let (kinds, requires) = (services(), requires());
    let mut world = World::new(hosts, tasks);
    let mut number = 0;
    let mut turn = |world: &mut World| {
        let Kind { need, group, constraints, strategies, .. } = &kinds[number];
        let (pool, requires) = (Pool::Own, &requires);
        world.place(
            &Ask { need, group, pool, requires, zones: &[], constraints, strategies },
            number,
        );
        number = (number + 1) % kinds.len();
    };
    for _ in 0..LIVING {
        turn(&mut world);
    }
    group.bench_function("1000 services in turn, spread zone and instance", |bencher| {
        bencher.iter(|| {
            turn(&mut world);
            world.end_one(&kinds);
        });
    });
}

/// Asks for more than any instance has: what a refusal costs while nothing changes, and while it does.
fn refusals(criterion: &mut Criterion) {
    let (kinds, requires) = (kinds(), requires());
    let large = need(65_537, 512);
    let ask = Ask {
        need: &large,
        group: "service:large",
        pool: Pool::Own,
        requires: &requires,
        zones: &[],
        constraints: &[],
        strategies: &[Strategy::BinpackCpu],
    };
    let mut group = criterion.benchmark_group("refused by 5000 instances, 100000 tasks");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut world = World::new(5_000, 100_000);
    world.start(&kinds, 0);
    group.bench_function("nothing changed", |bencher| {
        bencher.iter(|| black_box(world.fleet.place(&ask, 1, 1)));
    });
    group.bench_function("a task came and one went", |bencher| {
        bencher.iter(|| {
            world.start(&kinds, 0);
            world.end_one(&kinds);
            black_box(world.fleet.place(&ask, 1, 1))
        });
    });
    group.finish();
}

/// The same answers without a fleet: every instance looked at for every task.
fn scans(criterion: &mut Criterion) {
    let kinds = kinds();
    let requires = requires();
    let instances: Vec<Instance> = (0..5_000).map(instance).collect();
    let hosts: Vec<Host<'_>> = instances.iter().map(|each| Host::new(each, [])).collect();
    let mut group = criterion.benchmark_group("scan of 5000 instances");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for Kind { name, need, group: service, constraints, strategies } in &kinds[5..7] {
        group.bench_function(*name, |bencher| {
            let mut hosts = hosts.clone();
            bencher.iter(|| {
                let (group, pool, requires) = (service, Pool::Own, &requires);
                let ask = Ask { need, group, pool, requires, zones: &[], constraints, strategies };
                black_box(plan(&mut hosts, &ask, 1, 1))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, placements, refusals, scans);
criterion_main!(benches);
