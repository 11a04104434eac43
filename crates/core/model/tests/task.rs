//! A task's life: the tables, and what no sequence of inputs may break.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use longshore_types::{
    ClusterName, CpuUnits, EniId, InstanceArn, InstanceId, Resources, Scope, SeededEnv, TaskId,
    Timestamp, Uuid,
};
use model::Tags;
use model::task::{
    Asked, AskedContainer, AttachmentPhase, Container, ContainerPhase, ContainerReport, Desired,
    Health, HealthReport, Input, LaunchType, Need, Overrides, Phase, Report, SeenContainer,
    StopCause, Task, TaskInterface, Times, step,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn scope() -> Scope {
    Scope { region: "eu-north-1".parse().unwrap(), account: "000000000000".parse().unwrap() }
}

fn container(name: &str, essential: bool) -> Container {
    Container {
        id: Uuid::from_random([7; 16]),
        asked: Arc::new(AskedContainer {
            name: name.parse().unwrap(),
            image: "hello:1".to_owned(),
            essential,
            cpu: None,
            memory: None,
            memory_reservation: None,
            pinned_digest: None,
            is_health_checked: true,
        }),
        seen: SeenContainer::default(),
        gpus: Vec::new(),
    }
}

fn task() -> Task {
    let env = SeededEnv::from_seed(1);
    Task {
        id: TaskId::mint(&env),
        asked: Arc::new(Asked {
            scope: scope(),
            cluster: ClusterName::default_cluster(),
            definition: "web:1".parse().unwrap(),
            launch: LaunchType::Fargate,
            platform_version: None,
            platform_family: None,
            group: "family:web".to_owned(),
            started_by: None,
            tags: Tags::default(),
            cpu: Some(CpuUnits(256)),
            memory: None,
            ephemeral_storage_gib: None,
            enable_execute_command: false,
            overrides: Overrides::default(),
            need: Need { resources: Resources::default(), ports: vec![], gpus: 0 },
        }),
        capacity_provider: None,
        service: None,
        protected_until: None,
        zone: None,
        instance: Some(InstanceId::from_bytes([1; 16])),
        waiting: None,
        desired: Desired::Running,
        stop_cause: None,
        phase: Phase::Provisioning,
        interface: Some(Box::new(TaskInterface {
            attachment: Uuid::from_random([3; 16]),
            eni: EniId::mint(&env),
            subnet: "subnet-0123456789abcdef0".parse().unwrap(),
            security_groups: vec![],
            address: "172.31.0.4".parse().unwrap(),
            mac: "02:a5:ac:1f:00:04".to_owned(),
            private_dns_name: "ip-172-31-0-4.eu-north-1.compute.internal".to_owned(),
            assign_public_ip: false,
            phase: AttachmentPhase::Precreated,
            own_vpc: None,
        })),
        containers: vec![container("web", true), container("side", false)],
        times: Times { created: NOW, ..Times::default() },
        version: 1,
    }
}

fn after(task: &Task, inputs: &[Input]) -> Task {
    inputs.iter().fold(task.clone(), |task, input| step(&task, input, NOW).unwrap_or(task))
}

fn says(name: &str, phase: ContainerPhase) -> ContainerReport {
    ContainerReport {
        name: name.to_owned(),
        phase: Some(phase),
        runtime_id: None,
        image_digest: None,
        exit_code: None,
        reason: None,
        bindings: vec![],
    }
}

fn report(phase: Phase, containers: Vec<ContainerReport>) -> Input {
    Input::Reported(Report { phase: Some(phase), containers, ..Report::default() })
}

fn exited(name: &str, code: i32) -> ContainerReport {
    ContainerReport { exit_code: Some(code), ..says(name, ContainerPhase::Stopped) }
}

#[test]
fn reports_that_each_tell_a_part_make_the_whole() {
    let first = ContainerReport {
        runtime_id: Some("abc".to_owned()),
        image_digest: Some("sha256:af".to_owned()),
        ..says("web", ContainerPhase::Running)
    };
    let running = after(
        &task(),
        &[
            Input::Delivered,
            report(Phase::Running, vec![first, says("side", ContainerPhase::Running)]),
            report(Phase::Running, vec![exited("side", 3)]),
        ],
    );
    assert_eq!((running.phase, running.desired), (Phase::Running, Desired::Running));
    assert_eq!(running.times.started, Some(NOW));
    assert_eq!(running.containers[1].seen.exit_code, Some(3));
    assert_eq!(running.containers[0].seen.phase, ContainerPhase::Running);
    let stopped = after(&running, &[report(Phase::Stopped, vec![exited("web", 0)])]);
    assert_eq!(stopped.phase, Phase::Stopped);
    assert_eq!(stopped.containers[0].seen.runtime_id.as_deref(), Some("abc"));
    let cause = stopped.stop_cause.as_ref().unwrap();
    assert_eq!(cause.code(), "EssentialContainerExited");
    assert_eq!(cause.to_string(), "Essential container in task exited");
    assert_eq!(stopped.interface.unwrap().phase, AttachmentPhase::Deleted);
}

#[test]
fn a_container_that_never_started_is_the_reason_in_its_own_words() {
    let failed = ContainerReport {
        reason: Some("CannotPullContainerError: no such image".to_owned()),
        ..says("web", ContainerPhase::Stopped)
    };
    let stopped = after(&task(), &[Input::Delivered, report(Phase::Stopped, vec![failed])]);
    let cause = stopped.stop_cause.unwrap();
    assert_eq!(cause.code(), "TaskFailedToStart");
    assert_eq!(cause.to_string(), "CannotPullContainerError: no such image");
    assert_eq!(stopped.containers[0].seen.exit_code, None);
}

#[test]
fn what_an_agent_stopped_a_task_for_is_its_reason() {
    let reason = Some("EphemeralStorageLimitError: the task used too much".to_owned());
    let containers = vec![exited("web", 137)];
    let report_of = |reason: &Option<String>| Report {
        phase: Some(Phase::Stopped),
        reason: reason.clone(),
        containers: containers.clone(),
        ..Report::default()
    };
    let running = after(&task(), &[report(Phase::Running, vec![])]);
    let stopped = after(&running, &[Input::Reported(report_of(&reason))]);
    let cause = stopped.stop_cause.unwrap();
    assert_eq!((cause.code(), Some(cause.to_string())), ("EssentialContainerExited", reason));
}

#[test]
fn who_asked_first_is_the_cause() {
    let stop = Input::StopRequested { reason: Some("enough".to_owned()) };
    let task = after(&task(), &[report(Phase::Running, vec![]), stop]);
    assert_eq!((task.phase, task.desired), (Phase::Stopping, Desired::Stopped));
    let killed = exited("web", 137);
    let again = Input::StopRequested { reason: Some("really".to_owned()) };
    let stopped = after(&task, &[again, report(Phase::Stopped, vec![killed])]);
    let cause = stopped.stop_cause.unwrap();
    assert_eq!((cause.code(), cause.to_string()), ("UserInitiated", "enough".to_owned()));
}

#[test]
fn stopping_an_unplaced_task_needs_no_agent() {
    let unplaced = Task { instance: None, ..task() };
    let stopped = after(&unplaced, &[Input::StopRequested { reason: None }]);
    assert_eq!(stopped.phase, Phase::Stopped);
    assert_eq!(stopped.stop_cause.unwrap().to_string(), "Task stopped by user");
}

#[test]
fn an_exit_of_an_essential_container_is_the_end_before_the_task_says_so() {
    let inputs = [report(Phase::Running, vec![]), report(Phase::Running, vec![exited("web", 1)])];
    let dying = after(&task(), &inputs);
    assert_eq!((dying.phase, dying.desired), (Phase::Stopping, Desired::Stopped));
    let exited = StopCause::EssentialContainerExited {
        container: "web".parse().unwrap(),
        exit_code: Some(1),
        detail: None,
    };
    assert_eq!(dying.stop_cause.as_deref(), Some(&exited));
    let reason = "Essential container in task exited: container web exited with code 1; its last line was: no";
    let last = Report {
        phase: Some(Phase::Stopped),
        reason: Some(reason.to_owned()),
        ..Report::default()
    };
    let cause = after(&dying, &[Input::Reported(last)]).stop_cause.unwrap();
    assert_eq!(cause.to_string(), "Essential container in task exited");
    let StopCause::EssentialContainerExited { detail, .. } = *cause else { panic!("no exit") };
    assert_eq!(detail.unwrap(), "container web exited with code 1; its last line was: no");
}

#[test]
fn a_task_is_as_healthy_as_its_essential_containers() {
    let verdict = |container: &str, health| {
        Input::HealthReported(vec![HealthReport { container: container.to_owned(), health }])
    };
    let task = after(&task(), &[report(Phase::Running, vec![])]);
    assert_eq!(task.health(), Health::Unknown);
    let task = after(&task, &[verdict("side", Health::Unhealthy), verdict("web", Health::Healthy)]);
    assert_eq!(task.health(), Health::Healthy);
    let task = after(&task, &[verdict("web", Health::Unhealthy)]);
    assert_eq!(task.health(), Health::Unhealthy);
}

#[test]
fn what_was_said_twice_is_written_once() {
    let input = report(Phase::Running, vec![says("web", ContainerPhase::Running)]);
    let running = step(&task(), &input, NOW).unwrap();
    assert_eq!(step(&running, &input, NOW), None);
    assert_eq!(step(&running, &report(Phase::Pending, vec![]), NOW), None);
}

/// Draws inputs of every sort, in any order, and checks what must hold after each.
#[test]
fn no_sequence_of_inputs_moves_a_task_back() {
    for seed in 0..5_000 {
        let env = SeededEnv::from_seed(seed);
        let mut task = task();
        if env.below(3) == 0 {
            task.instance = None;
        }
        for turn in 0..25 {
            let input = random_input(&env);
            // Our clock may be set back now and then, and agents' clocks are not ours.
            let now = Timestamp(NOW.0 + turn - u64::from(env.below(4)));
            let Some(next) = step(&task, &input, now) else { continue };
            let at = format!("seed {seed}, turn {turn}, {input:?}");
            assert!(task.phase < Phase::Stopped, "{at}: stopped is final");
            assert!(task.phase <= next.phase, "{at}");
            assert!(task.desired <= next.desired, "{at}");
            assert_eq!(next.version, task.version + 1, "{at}");
            assert_eq!(step(&next, &input, now), None, "{at}: repeated");
            assert_eq!(next.times.stopped.is_some(), next.phase == Phase::Stopped, "{at}");
            assert!(next.desired == Desired::Running || next.stop_cause.is_some(), "{at}");
            assert_in_order(&next.times, &at);
            assert_stays(&task.times, &next.times, &at);
            for (was, is) in task.containers.iter().zip(&next.containers) {
                assert!(was.seen.phase <= is.seen.phase, "{at}");
                assert!(was.seen.exit_code.is_none() || was.seen.exit_code == is.seen.exit_code);
                assert!(was.seen.reason.is_none() || was.seen.reason == is.seen.reason, "{at}");
            }
            if task.stop_cause.is_some() {
                assert_eq!(task.stop_cause, next.stop_cause, "{at}: the first cause stays");
            }
            task = next;
        }
    }
}

/// A task's moments as they are shown, in the order of its life.
fn assert_in_order(times: &Times, at: &str) {
    let Times { pull_started, pull_stopped, started, stopped, .. } = *times;
    for end in [times.stopping, times.execution_stopped] {
        let life = [Some(times.created), pull_started, pull_stopped, started, end, stopped];
        let known: Vec<_> = life.into_iter().flatten().collect();
        assert!(known.is_sorted(), "{at}: {times:?}");
    }
}

/// What was shown once is shown for ever.
fn assert_stays(was: &Times, is: &Times, at: &str) {
    let all = |t: &Times| {
        [t.pull_started, t.pull_stopped, t.started, t.stopping, t.execution_stopped, t.stopped]
    };
    for (was, is) in all(was).into_iter().zip(all(is)) {
        assert!(was.is_none() || was == is, "{at}: {was:?} became {is:?}");
    }
}

#[test]
fn a_container_that_ends_at_once_does_not_end_before_it_started() {
    let task = task();
    let running = step(&task, &report(Phase::Running, vec![]), NOW.plus_ms(20)).unwrap();
    let ended = Input::Reported(Report {
        phase: Some(Phase::Stopped),
        containers: vec![exited("web", 0)],
        execution_stopped: Some(NOW.plus_ms(15)),
        ..Report::default()
    });
    let stopped = step(&running, &ended, NOW.plus_ms(25)).unwrap();
    assert_eq!(stopped.times.started, Some(NOW.plus_ms(20)));
    assert_eq!(stopped.times.execution_stopped, stopped.times.started);
    assert_eq!(stopped.times.stopped, Some(NOW.plus_ms(25)));
}

fn random_input(env: &SeededEnv) -> Input {
    let phases = [Phase::Pending, Phase::Running, Phase::Running, Phase::Stopped];
    let instance = InstanceId::from_bytes([2; 16]);
    let some = |yes: &'static str| (env.below(2) == 0).then(|| yes.to_owned());
    let moment = || (env.below(3) == 0).then(|| Timestamp(NOW.0 + u64::from(env.below(60)) - 20));
    match env.below(12) {
        0 => Input::Placed { instance, zone: None },
        1 => Input::Delivered,
        2 => Input::Attached { attachment: Uuid::from_random([3; 16]) },
        3 => Input::StopRequested { reason: some("because") },
        4 => Input::InstanceDeregistered {
            instance: InstanceArn {
                scope: scope(),
                cluster: ClusterName::default_cluster(),
                id: instance,
            },
        },
        5 => Input::HealthReported(vec![HealthReport {
            container: "web".to_owned(),
            health: [Health::Healthy, Health::Unhealthy][env.below(2) as usize],
        }]),
        _ => {
            let phase = [ContainerPhase::Pending, ContainerPhase::Running, ContainerPhase::Stopped]
                [env.below(3) as usize];
            let one = ContainerReport {
                exit_code: (phase == ContainerPhase::Stopped && env.below(2) == 0).then_some(3),
                reason: some("CannotStartContainerError: no"),
                runtime_id: some("abc"),
                ..says(["web", "side", "ghost"][env.below(3) as usize], phase)
            };
            Input::Reported(Report {
                phase: (env.below(5) > 0).then(|| phases[env.below(4) as usize]),
                reason: some("TaskStateError: no"),
                containers: vec![one],
                pull_started: moment(),
                pull_stopped: moment(),
                execution_stopped: moment(),
            })
        }
    }
}
