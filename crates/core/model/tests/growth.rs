//! What a task costs, however many there are: rows that are looked at, bytes of a row in memory and on disk.
//!
//! One test, since memory is the whole process's.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use longshore_types::{
    CpuUnits, InstanceId, MemoryMib, Resources, Scope, SeededEnv, TaskId, Timestamp, Uuid,
};
use model::task::{
    Asked, AskedContainer, Container, ContainerPhase, ContainerReport, Desired, Input, LaunchType,
    Need, Overrides, Phase, Report, SeenContainer, Task, Times, step,
};
use model::{Index, Key, Row, Seq, Tags, Tally, View};

const TASKS: usize = 30_000;
const INSTANCES: usize = 600;
/// Tasks of one RunTask.
const TOGETHER: usize = 10;
/// A running task's row and everything that finds it. 1.5 KiB are the budget of a region's task.
const BYTES_IN_MEMORY_MAX: usize = 1_100;
/// A running task's row as it is written.
const BYTES_ON_DISK_MAX: usize = 900;

/// A task as RunTask makes it, on an instance.
fn task(env: &SeededEnv, asked: &(Arc<Asked>, Arc<AskedContainer>), number: usize) -> Task {
    let now = Timestamp(1_764_370_000_000 + u64::try_from(number).unwrap());
    Task {
        id: TaskId::mint_at(env, now),
        asked: Arc::clone(&asked.0),
        capacity_provider: None,
        service: None,
        protected_until: None,
        zone: Some("us-east-1a".into()),
        instance: Some(instance(number % INSTANCES)),
        waiting: None,
        desired: Desired::Running,
        stop_cause: None,
        phase: Phase::Pending,
        interface: None,
        containers: vec![Container {
            id: Uuid::mint(env),
            asked: Arc::clone(&asked.1),
            seen: SeenContainer::default(),
            gpus: Vec::new(),
        }],
        times: Times { created: now, ..Times::default() },
        version: 1,
    }
}

fn asked() -> (Arc<Asked>, Arc<AskedContainer>) {
    let asked = Asked {
        scope: Scope {
            region: "us-east-1".parse().unwrap(),
            account: "000000000000".parse().unwrap(),
        },
        cluster: "production".parse().unwrap(),
        definition: "checkout-service:12".parse().unwrap(),
        launch: LaunchType::Ec2,
        platform_version: None,
        platform_family: None,
        group: "family:checkout-service".to_owned(),
        started_by: Some("somebody".to_owned()),
        tags: Tags::default(),
        cpu: None,
        memory: None,
        ephemeral_storage_gib: None,
        enable_execute_command: false,
        overrides: Overrides::default(),
        need: Need {
            resources: Resources { cpu: CpuUnits(128), memory: MemoryMib(256) },
            ports: Vec::new(),
            gpus: 0,
        },
    };
    let container = AskedContainer {
        name: "main".parse().unwrap(),
        image: "127.0.0.1:4566/checkout-service:12".to_owned(),
        essential: true,
        cpu: Some(CpuUnits(128)),
        memory: Some(MemoryMib(256)),
        memory_reservation: None,
        pinned_digest: None,
        is_health_checked: false,
    };
    (Arc::new(asked), Arc::new(container))
}

fn instance(number: usize) -> InstanceId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
    InstanceId::from_bytes(bytes)
}

fn running(task: &Task) -> Task {
    let container = ContainerReport {
        name: "main".to_owned(),
        phase: Some(ContainerPhase::Running),
        runtime_id: Some(format!("{}-main", task.id)),
        image_digest: None,
        exit_code: None,
        reason: None,
        bindings: Vec::new(),
    };
    let report =
        Report { phase: Some(Phase::Running), containers: vec![container], ..Report::default() };
    step(task, &Input::Reported(report), task.times.created.plus_ms(20)).unwrap()
}

/// Memory that was written to; not the program's own pages, of which a test touches more as it goes on.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn a_task_costs_what_it_costs_however_many_there_are() {
    let env = SeededEnv::from_seed(1);
    let (mut view, mut seq, mut ids) = (View::default(), Seq(0), Vec::new());
    let before = resident_bytes();
    let mut shared = asked();
    for number in 0..TASKS {
        if number % TOGETHER == 0 {
            shared = asked();
        }
        let made = task(&env, &shared, number);
        ids.push(made.id);
        for row in [made.clone(), running(&made)] {
            seq = seq.next();
            view.put(seq, &Row::from(row));
        }
    }
    let each = (resident_bytes() - before) / TASKS;

    assert!(each <= BYTES_IN_MEMORY_MAX, "{each} bytes a task in memory");
    let account = shared.0.scope.account;
    let sample = view.row(&Key::Task(account, ids[TASKS / 2])).unwrap().to_json().unwrap();

    assert!(sample.len() <= BYTES_ON_DISK_MAX, "{} bytes: {sample}", sample.len());

    // What a connecting agent and a sweep ask for is what there is of it.
    let here = instance(7);
    assert_eq!(view.tasks_on_instance(here).count(), TASKS / INSTANCES);
    assert_eq!(view.tasks_ended_on(here).count(), 0);
    assert_eq!(view.member_count(&Index::InstanceTasks(here)), TASKS / INSTANCES);
    let cluster = shared.0.cluster.clone();
    let on_the_way = Tally::PendingTasks(account, cluster.clone(), LaunchType::Ec2);
    let at_work = Tally::RunningTasks(account, cluster.clone(), LaunchType::Ec2);
    assert_eq!((view.tally(&on_the_way), view.tally(&at_work)), (0, TASKS));
    let after = view.tasks_of_cluster_after(account, &cluster, Some(ids[TASKS - 3]));
    assert_eq!(after.map(|task| task.id).collect::<Vec<_>>(), ids[TASKS - 2..]);

    // A stopped task is found by when it stopped; what is gone leaves nothing behind.
    let (stop, gone) =
        (Input::InstanceLost { instance: arn(&shared.0) }, Timestamp(2_000_000_000_000));
    let indexes = view.index_count();
    for (number, id) in ids.iter().enumerate().take(INSTANCES) {
        let at = gone.plus_ms(u64::try_from(number).unwrap());
        let stopped = step(view.tasks.get(account, id).unwrap(), &stop, at).unwrap();
        seq = seq.next();
        view.put(seq, &Row::from(stopped));
    }
    assert_eq!(view.tasks_ended_on(here).count(), 1);
    let first = view.tasks_stopped_by(gone.plus_ms(299)).map(|task| task.id);
    assert_eq!(first.collect::<Vec<_>>(), ids[..300]);
    for id in &ids[..INSTANCES] {
        seq = seq.next();
        view.remove(seq, &Key::Task(account, *id));
    }
    assert_eq!(view.index_count(), indexes, "no index without a row");
    for id in &ids[INSTANCES..] {
        view.remove(seq, &Key::Task(account, *id));
    }
    assert_eq!((view.len(), view.index_count()), (0, 0));
    assert_eq!(view.tally(&at_work), 0);
}

fn arn(asked: &Asked) -> longshore_types::InstanceArn {
    let (scope, cluster) = (asked.scope.clone(), asked.cluster.clone());
    longshore_types::InstanceArn { scope, cluster, id: instance(0) }
}
