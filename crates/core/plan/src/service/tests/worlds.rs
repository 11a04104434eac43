//! Random worlds: whatever happens, the promises hold, and in the end the service is as it shall be.

use longshore_types::TaskId;
use model::instance::InstanceStatus;
use model::service::{Controller, Scheduling, Stage, TaskSetStatus};
use model::task::{Health, Input, Phase};
use proptest::prelude::*;

use super::world::{Behaviour, Fate, World, breaker, settings};

fn behaviour(world: &World) -> Behaviour {
    let fate = match world.random(8) {
        0 => Fate::NeverStarts,
        1 => Fate::EndsAfter(u64::from(world.random(60_000))),
        2 | 3 => Fate::HealthyAfter(u64::from(world.random(20_000))),
        4 => Fate::SickAfter(u64::from(world.random(20_000))),
        _ => Fate::Lasts,
    };
    Behaviour {
        starts_in_ms: u64::from(world.random(5_000)),
        stops_in_ms: u64::from(world.random(10_000)),
        fate,
    }
}

fn some_task(world: &World) -> Option<TaskId> {
    let wanted = world.wanted();
    let at = world.random(u32::try_from(wanted.len().max(1)).unwrap());
    wanted.get(at as usize).copied()
}

/// Something that happens to any service.
fn disturb(world: &mut World) {
    let task = some_task(world);
    let host = world.hosts[world.random(u32::try_from(world.hosts.len()).unwrap()) as usize].0.id;
    let arn = world.host_mut(host).arn.clone();
    match (world.random(9), task) {
        (0, Some(task)) => world.crash(task),
        (1, Some(task)) => world.set_health(task, Health::Unhealthy),
        (2, Some(task)) => {
            let until = world.now().plus_ms(u64::from(world.random(100_000)));
            world.tasks.get_mut(&task).unwrap().protected_until = Some(until);
        }
        (3, _) => world.host_mut(host).status = InstanceStatus::Draining,
        (4, _) => world.host_mut(host).status = InstanceStatus::Active,
        (5, _) => {
            let lost: Vec<TaskId> = world
                .tasks
                .values()
                .filter(|task| task.instance == Some(host) && task.phase < Phase::Stopped)
                .map(|task| task.id)
                .collect();
            for task in lost {
                world.feed(task, &Input::InstanceLost { instance: arn.clone() });
            }
        }
        (6, _) => world.room = world.random(30) as usize,
        (7, _) => world.room = 100_000,
        (8, _) => {
            world.host_mut(host).is_connected = world.random(2) == 0;
        }
        _ => {}
    }
}

/// Something that a caller asks of a rolling service or of daemons.
fn ask(world: &mut World) {
    match world.random(6) {
        0 => {
            let behaviour = behaviour(world);
            world.deploy(behaviour);
        }
        1 if world.service.scheduling == Scheduling::Replica => {
            world.service.desired_count = world.random(12);
        }
        2 => {
            let mut settings = settings(world.random(101), 100 + world.random(101));
            if world.service.scheduling == Scheduling::Daemon {
                settings.percent_max = 100;
            }
            settings.breaker = (world.random(2) == 0).then(|| breaker(world.random(2) == 0));
            world.service.deployment = settings;
        }
        3 => {
            let stage = match world.random(2) {
                0 => Stage::StopRequested,
                _ => Stage::RollbackRequested,
            };
            let last = world.deployments.last_mut().unwrap();
            if last.rank == model::service::Rank::Primary && !last.stage.is_final() {
                last.stage = stage;
            }
        }
        4 => world.service.is_zone_rebalanced = !world.service.is_zone_rebalanced,
        _ => {}
    }
}

/// Ends all trouble.
fn make_peace(world: &mut World) {
    world.room = 100_000;
    for (host, _) in &mut world.hosts {
        host.status = InstanceStatus::Active;
        host.is_connected = true;
        host.accepts = true;
    }
}

fn trouble(world: &mut World, steps: u32, ask: impl Fn(&mut World)) {
    for _ in 0..steps {
        if world.random(3) == 0 {
            ask(world);
        } else {
            disturb(world);
        }
        world.pass();
        let ms = u64::from(world.random(10_000));
        world.run_ms(ms);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rolling_service_keeps_its_limits_in_all_trouble_and_ends_as_it_shall(seed: u64) {
        let mut world = World::new(seed, 5, settings(100, 200));
        let first = behaviour(&world);
        world.deploy(first);
        let steps = 10 + world.random(30);
        trouble(&mut world, steps, ask);
        make_peace(&mut world);
        world.service.deployment = settings(50, 200);
        world.service.is_zone_rebalanced = false;
        world.service.desired_count = world.random(9);
        let last = world.deploy(Behaviour::new(Fate::Lasts));
        world.run_until("all is well", |world| {
            world.deployment(last).stage == Stage::Completed
                && world.notes.steady_said_at.is_some()
        });
        prop_assert_eq!(world.running(last), world.service.desired_count as usize);
        prop_assert_eq!(world.live(), world.service.desired_count as usize);
    }

    #[test]
    fn daemons_end_with_one_on_each_instance(seed: u64) {
        let mut world = World::new(seed, 0, settings(0, 100));
        world.service.scheduling = Scheduling::Daemon;
        let first = behaviour(&world);
        world.deploy(first);
        let steps = 10 + world.random(30);
        trouble(&mut world, steps, |world| match world.random(4) {
            0 => {
                world.add_host("d");
            }
            1 => {
                let at = world.random(u32::try_from(world.hosts.len()).unwrap()) as usize;
                world.hosts[at].0.accepts = world.random(2) == 0;
            }
            _ => ask(world),
        });
        make_peace(&mut world);
        world.service.deployment = settings(0, 100);
        let last = world.deploy(Behaviour::new(Fate::Lasts));
        world.run_until("all is well", |world| world.notes.steady_said_at.is_some());
        prop_assert_eq!(world.running(last), world.hosts.len());
        prop_assert_eq!(world.live(), world.hosts.len());
    }

    #[test]
    fn task_sets_end_at_their_own_counts(seed: u64) {
        let mut world = World::new(seed, 6, settings(100, 200));
        let first = behaviour(&world);
        world.add_task_set(5_000, first);
        let steps = 10 + world.random(20);
        trouble(&mut world, steps, |world| {
            let behaviour = behaviour(world);
            match world.random(4) {
                0 => {
                    let scale = world.random(10_001);
                    world.add_task_set(scale, behaviour);
                }
                1 => world.service.desired_count = world.random(12),
                _ => {
                    let at = world.random(u32::try_from(world.task_sets.len().max(1)).unwrap());
                    if let Some(set) = world.task_sets.get_mut(at as usize) {
                        set.status = TaskSetStatus::Draining;
                    }
                }
            }
        });
        make_peace(&mut world);
        prop_assert_eq!(world.service.controller, Controller::External);
        for set in &mut world.task_sets {
            set.status = TaskSetStatus::Draining;
        }
        let last = world.add_task_set(5_000, Behaviour::new(Fate::Lasts));
        world.run_until("all is well", |world| {
            world.task_sets.len() == 1 && world.notes.steady_said_at.is_some()
        });
        prop_assert_eq!(world.running(last), world.service.desired_count.div_ceil(2) as usize);
        prop_assert_eq!(world.live(), world.running(last));
    }

    #[test]
    fn the_same_seed_gives_the_same_history(seed: u64) {
        let history = || {
            let mut world = World::new(seed, 4, settings(50, 150));
            let first = behaviour(&world);
            world.deploy(first);
            trouble(&mut world, 12, ask);
            (world.messages(), world.now(), world.deployments)
        };
        prop_assert_eq!(history(), history());
    }
}
