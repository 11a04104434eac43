//! A fleet answers as the plain scan over hosts does, whatever happened to it before.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::{ClusterName, CpuUnits, InstanceId, MemoryMib, Resources, Scope, Timestamp};
use model::capacity_provider::GROUP_ATTRIBUTE;
use model::instance::{AgentState, GPU_RESOURCE, Instance, InstanceStatus, OtherResource};
use model::task::{HostPort, Need, Protocol};
use model::{RequiredAttribute, Tags};
use plan::fleet::Limits;
use plan::{Ask, Constraint, Field, Fleet, Host, Occupant, Plan, Pool, Strategy, plan};
use proptest::prelude::{Just, Strategy as _, any, prop_oneof, proptest};
use proptest::sample::Index;

const ZONE: &str = "ecs.availability-zone";

fn id(number: u8) -> InstanceId {
    InstanceId::from_bytes([number; 16])
}

/// What a test decides about an instance.
#[derive(Clone, Debug)]
struct Sketch {
    cpu: u32,
    memory: u32,
    zone: Option<u8>,
    rack: u8,
    has_disk: bool,
    status: InstanceStatus,
    is_connected: bool,
    is_external: bool,
}

/// So many GPUs, as an agent says them.
fn gpus(count: u32) -> Vec<OtherResource> {
    let strings: Vec<String> = (0..count).map(|number| format!("GPU-{number}")).collect();
    let name = GPU_RESOURCE.to_owned();
    vec![OtherResource { name, kind: "STRINGSET".to_owned(), integer: None, strings }]
}

impl Sketch {
    fn instance(&self, number: u8) -> Instance {
        let mut attributes = BTreeMap::from([
            ("rack".to_owned(), Some(self.rack.to_string())),
            (GROUP_ATTRIBUTE.to_owned(), Some(format!("asg-{}", self.rack % 2))),
        ]);
        if let Some(zone) = self.zone {
            attributes.insert(ZONE.to_owned(), Some(zone.to_string()));
        }
        if self.has_disk {
            attributes.insert("disk".to_owned(), None);
        }
        Instance {
            id: id(number),
            scope: Scope {
                region: "eu-north-1".parse().unwrap(),
                account: "000000000000".parse().unwrap(),
            },
            cluster: ClusterName::default_cluster(),
            status: self.status,
            total: Resources { cpu: CpuUnits(self.cpu), memory: MemoryMib(self.memory) },
            reserved_ports: [HostPort { protocol: Protocol::Tcp, port: 22 }].into(),
            other_resources: gpus(self.cpu / 512),
            attributes,
            tags: Tags::default(),
            ec2_instance_id: Some(format!("i-{number}")),
            capacity_provider: None,
            is_external: self.is_external,
            access_key: None,
            registered_at: Timestamp(u64::from(number)),
            agent: AgentState { connected: self.is_connected, ..AgentState::default() },
            health: vec![],
            version: 0,
        }
    }
}

/// What a test asks for.
#[derive(Clone, Debug)]
struct Request {
    need: Need,
    group: String,
    pool: u8,
    requires: Vec<RequiredAttribute>,
    zones: Vec<String>,
    constraints: Vec<Constraint>,
    strategies: Vec<Strategy>,
    count: u32,
}

impl Request {
    fn ask(&self) -> Ask<'_> {
        Ask {
            need: &self.need,
            group: &self.group,
            pool: match self.pool {
                0 => Pool::External,
                1 => Pool::Group("asg-1"),
                _ => Pool::Own,
            },
            requires: &self.requires,
            zones: &self.zones,
            constraints: &self.constraints,
            strategies: &self.strategies,
        }
    }
}

#[derive(Clone, Debug)]
struct Occupied {
    instance: InstanceId,
    need: Need,
    group: String,
    is_running: bool,
}

impl Occupied {
    fn occupant(&self) -> Occupant<'_> {
        let Self { instance, need, group, is_running } = self;
        Occupant { instance: *instance, need, group, is_running: *is_running }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Sketch),
    Remove(u8),
    /// Asks for one of the requests with a seed; whether the tasks then come to be.
    Place(Index, u64, bool),
    Run(Index),
    Stop(Index),
}

/// The plain snapshot beside the fleet.
struct World {
    instances: BTreeMap<InstanceId, Instance>,
    /// Few, so that a queue is asked again after changes.
    requests: Vec<Request>,
    tasks: Vec<Occupied>,
    fleet: Fleet,
}

impl World {
    fn new(limits: Limits, requests: Vec<Request>, sketches: Vec<Sketch>) -> Self {
        let fleet = Fleet::within(limits);
        let mut world = Self { instances: BTreeMap::new(), requests, tasks: vec![], fleet };
        for (number, sketch) in (0..).zip(sketches) {
            world.take(&Step::Put(number, sketch));
        }
        world
    }

    fn scan(&self, ask: &Ask<'_>, count: u32, seed: u64) -> Plan {
        let mut hosts: Vec<Host<'_>> = self.instances.values().map(|row| self.host(row)).collect();
        plan(&mut hosts, ask, count, seed)
    }

    fn host<'a>(&'a self, instance: &'a Instance) -> Host<'a> {
        let on_it = self.tasks.iter().filter(|task| task.instance == instance.id);
        Host::with(instance, on_it.map(Occupied::occupant))
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Put(number, sketch) => {
                let instance = sketch.instance(*number);
                self.fleet.put_instance(Arc::new(instance.clone()));
                self.instances.insert(instance.id, instance);
            }
            Step::Remove(number) => {
                self.fleet.remove_instance(id(*number));
                self.instances.remove(&id(*number));
            }
            Step::Place(request, seed, is_kept) => {
                let request = self.requests[request.index(self.requests.len())].clone();
                self.place(&request, *seed, *is_kept);
            }
            Step::Run(index) if !self.tasks.is_empty() => {
                let at = index.index(self.tasks.len());
                let before = self.tasks[at].clone();
                self.tasks[at].is_running = !before.is_running;
                let now = self.tasks[at].occupant();
                self.fleet.change_task(Some(before.occupant()), Some(now));
            }
            Step::Stop(index) if !self.tasks.is_empty() => {
                let task = self.tasks.swap_remove(index.index(self.tasks.len()));
                self.fleet.change_task(Some(task.occupant()), None);
            }
            Step::Run(_) | Step::Stop(_) => {}
        }
    }

    fn place(&mut self, request: &Request, seed: u64, is_kept: bool) {
        let expected = self.scan(&request.ask(), request.count, seed);
        let made = self.fleet.place(&request.ask(), request.count, seed);
        assert_eq!(made, expected, "the fleet says otherwise than the scan");
        if !is_kept {
            self.fleet.give_back();
            let again = self.fleet.place(&request.ask(), request.count, seed);
            assert_eq!(again, expected, "what was given back left a trace");
        }
        self.fleet.give_back();
        for instance in made.placements.into_iter().filter(|_| is_kept) {
            let (need, group) = (request.need.clone(), request.group.clone());
            let task = Occupied { instance, need, group, is_running: false };
            self.fleet.change_task(None, Some(task.occupant()));
            self.tasks.push(task);
        }
    }

    fn assert_that_nothing_is_overcommitted(&self) {
        for (id, instance) in &self.instances {
            let on_it = || self.tasks.iter().filter(|task| task.instance == *id);
            let cpu: u32 = on_it().map(|task| task.need.resources.cpu.0).sum();
            let memory: u32 = on_it().map(|task| task.need.resources.memory.0).sum();
            let total = instance.total;
            let gpus: u32 = on_it().map(|task| task.need.gpus).sum();
            assert!(gpus <= instance.gpu_count(), "{id} has too few GPUs");
            assert!(cpu <= total.cpu.0 && memory <= total.memory.0, "{id} is overcommitted");
            let mut ports: Vec<_> = on_it().flat_map(|task| &task.need.ports).collect();
            let all = ports.len();
            ports.sort();
            ports.dedup();
            assert_eq!(ports.len(), all, "a port of {id} was given twice");
        }
    }
}

fn sketch() -> impl proptest::strategy::Strategy<Value = Sketch> {
    // Sizes that tie often.
    let size = || prop_oneof![Just(1024_u32), Just(2048), 0_u32..4096];
    let status = prop_oneof![
        8 => Just(InstanceStatus::Active),
        1 => Just(InstanceStatus::Draining),
        1 => Just(InstanceStatus::Inactive),
    ];
    let zone = proptest::option::weighted(0.9, 0_u8..3);
    (size(), size(), zone, 0_u8..4, any::<bool>(), status, 0_u8..8, 0_u8..8).prop_map(
        |(cpu, memory, zone, rack, has_disk, status, connected, external)| Sketch {
            cpu,
            memory,
            zone,
            rack,
            has_disk,
            status,
            is_connected: connected > 0,
            is_external: external == 0,
        },
    )
}

fn strategy() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![
        Just(Strategy::BinpackCpu),
        Just(Strategy::BinpackMemory),
        Just(Strategy::Random),
        Just(Strategy::Spread(Field::Instance)),
        Just(Strategy::Spread(Field::Attribute(ZONE.to_owned()))),
        Just(Strategy::Spread(Field::Attribute("rack".to_owned()))),
    ]
}

fn constraint() -> impl proptest::strategy::Strategy<Value = Constraint> {
    let expression = |text: &str| Constraint::MemberOf(text.parse().unwrap());
    prop_oneof![
        Just(Constraint::DistinctInstance),
        Just(expression("attribute:rack in [0, 1, 2]")),
        Just(expression("attribute:disk exists or attribute:ecs.availability-zone == 1")),
        Just(expression("ec2InstanceId =~ i-.*[0-6]")),
        Just(expression("not (task:group == family:a)")),
        Just(expression("runningTasksCount < 2")),
    ]
}

fn request() -> impl proptest::strategy::Strategy<Value = Request> {
    let need = (prop_oneof![Just(128_u32), 0_u32..1024], 0_u32..1024, 0_u16..10);
    let group = prop_oneof![Just("family:a"), Just("family:b"), Just("service:c")];
    let constraints = proptest::collection::vec(constraint(), 0..2);
    let strategies = proptest::collection::vec(strategy(), 0..5);
    (need, group, 0_u8..12, (0_u8..4, 0_u8..6), constraints, strategies, 1_u32..6).prop_map(
        |((cpu, memory, port), group, pool, (asks_disk, zones), constraints, strategies, count)| {
            let port = HostPort { protocol: Protocol::Tcp, port: 80 + port };
            let disk = RequiredAttribute { name: "disk".to_owned(), value: None };
            Request {
                need: Need {
                    resources: Resources { cpu: CpuUnits(cpu), memory: MemoryMib(memory) },
                    ports: [port].into_iter().filter(|port| port.port < 83).collect(),
                    gpus: cpu / 512 % 3,
                },
                group: group.to_owned(),
                pool,
                requires: [disk].into_iter().filter(|_| asks_disk == 0).collect(),
                zones: match zones {
                    0 => vec!["0".to_owned()],
                    1 => ["1", "2"].map(str::to_owned).into(),
                    _ => vec![],
                },
                constraints,
                strategies,
                count,
            }
        },
    )
}

/// What a fleet keeps must not matter.
fn limits() -> impl proptest::strategy::Strategy<Value = Limits> {
    (0_usize..30, 1_usize..4, 0_usize..8).prop_map(|(held_hosts_max, queues_min, guests_max)| {
        Limits { held_hosts_max, queues_min, guests_max }
    })
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        1 => (0_u8..12, sketch()).prop_map(|(number, sketch)| Step::Put(number, sketch)),
        1 => (0_u8..12).prop_map(Step::Remove),
        6 => (any::<Index>(), any::<u64>(), any::<bool>())
            .prop_map(|(request, seed, is_kept)| Step::Place(request, seed, is_kept)),
        2 => any::<Index>().prop_map(Step::Run),
        2 => any::<Index>().prop_map(Step::Stop),
    ]
}

proptest! {
    #[test]
    fn a_fleet_answers_as_the_scan_does_whatever_happened_before(
        limits in limits(),
        first in proptest::collection::vec(sketch(), 1..10),
        requests in proptest::collection::vec(request(), 1..5),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(limits, requests, first);
        for step in steps {
            world.take(&step);
        }
    }

    #[test]
    fn no_instance_of_a_fleet_is_ever_overcommitted(
        limits in limits(),
        first in proptest::collection::vec(sketch(), 1..10),
        requests in proptest::collection::vec(request(), 1..8),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(limits, requests, first);
        // Instances keep their size here: whoever shrinks one overcommits it himself.
        for step in steps.into_iter().filter(|step| !matches!(step, Step::Put(..))) {
            world.take(&step);
            world.assert_that_nothing_is_overcommitted();
        }
    }
}
