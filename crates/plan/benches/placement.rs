//! Placements a second on 5,000 hosts, strategies mixed.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longshore_types::{ClusterName, CpuUnits, InstanceId, MemoryMib, Resources, Scope, Timestamp};
use model::Tags;
use model::instance::{AgentState, Instance, InstanceStatus};
use model::task::Need;
use plan::{Ask, Field, Host, Strategy, plan};

const HOSTS: u32 = 5_000;
const TASKS: u32 = 500;

fn instance(number: u32) -> Instance {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let zone = format!("eu-north-1{}", ["a", "b", "c"][number as usize % 3]);
    Instance {
        id: InstanceId::from_bytes(id),
        scope: Scope {
            region: "eu-north-1".parse().expect("a region"),
            account: "000000000000".parse().expect("an account"),
        },
        cluster: ClusterName::default_cluster(),
        status: InstanceStatus::Active,
        total: Resources { cpu: CpuUnits(16_384), memory: MemoryMib(65_536) },
        reserved_ports: [].into(),
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

fn placements(criterion: &mut Criterion) {
    let instances: Vec<Instance> = (0..HOSTS).map(instance).collect();
    let hosts: Vec<Host<'_>> = instances.iter().map(|each| Host::new(each, [])).collect();
    let need =
        Need { resources: Resources { cpu: CpuUnits(256), memory: MemoryMib(512) }, ports: vec![] };
    let zone = Field::Attribute("ecs.availability-zone".to_owned());
    let mixes = [
        ("random", vec![]),
        ("binpack", vec![Strategy::BinpackMemory]),
        ("spread zone, binpack", vec![Strategy::Spread(zone), Strategy::BinpackCpu]),
        ("spread instance", vec![Strategy::Spread(Field::Instance)]),
    ];
    let mut group = criterion.benchmark_group("5000 hosts");
    group.throughput(Throughput::Elements(u64::from(TASKS)));
    group.sample_size(20);
    for (name, strategies) in mixes {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || hosts.clone(),
                |mut hosts| {
                    let ask = Ask {
                        need: &need,
                        group: "family:web",
                        requires: &[],
                        constraints: &[],
                        strategies: &strategies,
                    };
                    black_box(plan(&mut hosts, &ask, TASKS, 1))
                },
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, placements);
criterion_main!(benches);
