//! Whole regions in one process, driven by a seed: callers that change their minds, agents that lose,
//! delay, repeat and reorder what they say, hosts that vanish and come back, restarts of the region.
//!
//! After each pass of the driver the invariants are checked; then the disturbances end, and every promise
//! must be kept. The same seed gives the same history. A failure names its seed:
//! `LONGSHORE_SIM_SEED=<n>` plays that one world, `LONGSHORE_SIM_SEEDS=<count>` so many fresh ones.

mod agents;
mod callers;
mod checks;
mod fargate_room;
mod lost_hosts;
mod promises;
mod world;

use ecs_api::{self as api, Ecs as _};
use longshore_types::{IdSource, OsIds};
use model::task::Phase;
use world::World;

use crate::Ecs;

/// Worlds that found something once.
const SAVED: &[u64] = &[4, 7, 20, 67, 98, 108, 1231, 1373, 1511, 3_844_464_434];
/// The same, where deployments shift traffic.
const SAVED_SHIFTING: &[u64] = &[
    120_791_197,
    1_184_217_966,
    1_775_505_469,
    1_977_706_019,
    2_186_585_869,
    2_492_503_938,
    2_905_304_839,
    3_485_027_279,
];
/// Fresh worlds of a run that says nothing else.
const FRESH: u64 = 64;
/// Disturbances in one world.
const DISTURBANCES: u32 = 60;

#[tokio::test]
async fn every_promise_is_kept_in_the_end_whatever_happens_on_the_way() {
    if let Some(seed) = number("LONGSHORE_SIM_SEED") {
        play(seed).await;
        play_shifting(seed).await;
        return;
    }
    for seed in SAVED {
        play(*seed).await;
    }
    for seed in SAVED_SHIFTING {
        play_shifting(*seed).await;
    }
    let base = fresh_base();
    for seed in base..base + number("LONGSHORE_SIM_SEEDS").unwrap_or(FRESH) {
        match seed % 2 {
            0 => play(seed).await,
            _ => play_shifting(seed).await,
        };
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_history() {
    let base = fresh_base();
    for seed in [SAVED[0], base, base + 1] {
        let (one, other) = (play(seed).await, play(seed).await);
        assert_eq!(one, other, "seed {seed}");
    }
}

/// The driver is told of no change at all: promises are kept later, and kept.
#[tokio::test]
async fn with_every_wake_up_lost_every_promise_is_still_kept_in_the_end() {
    let base = fresh_base();
    for seed in [SAVED[0], SAVED[1], base, base + 1] {
        let _named = Named(seed);
        play_in(World::hearing(seed, false).await).await;
    }
}

/// More tasks than one batch has rows, up and down again.
#[tokio::test]
async fn a_large_service_is_started_stopped_and_taken_in_by_several_passes() {
    const TASKS: i32 = 700;
    let mut world = World::new(1).await;
    world.is_calm = true;
    world.join(false, TASKS * 256, TASKS * 512).await;
    world.pass(1_000).await;
    let input = api::CreateServiceRequest {
        cluster: Some(world::CLUSTER.to_owned()),
        service_name: Some("large".to_owned()),
        task_definition: Some("good".to_owned()),
        desired_count: Some(TASKS),
        ..api::CreateServiceRequest::default()
    };
    let root = world.root();
    Ecs::create_service(world.ecs.as_ref(), &root, input).await.unwrap();
    world.pass(10_000).await;
    let running = |world: &World| {
        let view = world.view();
        view.live_tasks().filter(|task| task.phase == Phase::Running).count()
    };
    assert_eq!(i32::try_from(running(&world)), Ok(TASKS));
    world.update_one("large", |input| input.desired_count = Some(0)).await;
    world.pass(10_000).await;
    let view = world.view();
    assert_eq!(view.live_tasks().count(), 0);
    let service = view.services.iter().next().unwrap();
    let left = view.tasks_of_service(service.scope.account, &service.key());
    assert_eq!(left.count(), 0, "every end was taken in");
}

/// Plays one world; what it leaves, in one number.
async fn play(seed: u64) -> u64 {
    let _named = Named(seed);
    play_in(World::new(seed).await).await
}

/// The same, where some deployments shift traffic, which has all its stages without load balancers too.
async fn play_shifting(seed: u64) -> u64 {
    let _named = Named(seed);
    let mut world = World::new(seed).await;
    world.shifts = true;
    play_in(world).await
}

async fn play_in(mut world: World) -> u64 {
    for _ in 0..DISTURBANCES {
        world.disturb().await;
        let ms = u64::from(world.random.below(4_000));
        world.pass(ms).await;
    }
    world.calm_down().await;
    world.check_promises().await;
    world.wind_up().await;
    world.history()
}

/// Says which world it was, should it end in a panic.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with LONGSHORE_SIM_SEED={}", self.0);
        }
    }
}

/// Where a run's fresh seeds begin: small enough to be typed.
fn fresh_base() -> u64 {
    let mut bytes = [0; 4];
    OsIds.fill(&mut bytes);
    1_000 + u64::from(u32::from_be_bytes(bytes))
}

#[expect(clippy::disallowed_methods, reason = "how a test is told what to play")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
