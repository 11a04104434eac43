//! The world itself: a region on a store that outlives it, a clock, and what is to come.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use aws_wire::{ApiError, Caller, Principal};
use control::keyring::RootKey;
use control::reconcile::{Driver, Environment};
use control::{Config, Control, Keys, Parts, RootKeys};
use ecs_api::{self as api, Ecs as _};
use longshore_types::{Clock, SeededEnv, Timestamp, Uuid};
use model::View;
use store::{MemoryStore, Store};

use super::agents::{Event, Host};
use super::checks::Watch;
use crate::Ecs;

pub(super) const CLUSTER: &str = "sim";
/// Passes that the driver may make at one moment before it counts as running in circles.
const PASSES_MAX: u32 = 5_000;
/// So rare that a lost wake-up shows.
const FULL_PASS: Duration = Duration::from_secs(24 * 3600);
/// All that a driver has that hears of nothing.
const FULL_PASS_OF_THE_DEAF: Duration = Duration::from_secs(2);
/// How long an agent may be away.
pub(super) const HEARTBEAT_TIMEOUT_MS: u64 = 60_000;

/// Few, so that they are reached.
pub(super) const FARGATE_TASKS_MAX: usize = 16;
const WAITING_TASKS_MAX: usize = 4;

pub(super) struct World {
    pub(super) seed: u64,
    /// Disturbances are drawn from here, ids from the region's own.
    pub(super) random: SeededEnv,
    pub(super) env: Arc<SeededEnv>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) ecs: Arc<Ecs>,
    pub(super) driver: Driver,
    /// Whether the driver is told of changes; if not, it has its full passes only.
    hears: bool,
    /// Whether deployments may shift traffic.
    pub(super) shifts: bool,
    pub(super) hosts: Vec<Host>,
    pub(super) events: BTreeMap<(Timestamp, u64), Event>,
    pub(super) events_made: u64,
    /// Names of services that were ever made.
    pub(super) services: Vec<String>,
    /// Whether callers and agents behave.
    pub(super) is_calm: bool,
    pub(super) watch: Watch,
    keys: Keys,
    dir: tempfile::TempDir,
    hasher: DefaultHasher,
}

impl World {
    pub(super) async fn new(seed: u64) -> Self {
        Self::hearing(seed, true).await
    }

    /// A world whose driver is told of changes, or of none.
    pub(super) async fn hearing(seed: u64, hears: bool) -> Self {
        let env = Arc::new(SeededEnv::from_seed(seed));
        let store = Arc::new(MemoryStore::new());
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::mint(env.as_ref());
        let ecs = open(&env, &store, &keys, &dir);
        let mut world = Self {
            seed,
            random: SeededEnv::from_seed(seed.rotate_left(32) ^ 0x51ab),
            driver: start(&ecs, hears),
            hears,
            shifts: false,
            env,
            store,
            ecs,
            hosts: vec![],
            events: BTreeMap::new(),
            events_made: 0,
            services: vec![],
            is_calm: false,
            watch: Watch::default(),
            keys,
            dir,
            hasher: DefaultHasher::new(),
        };
        crate::testing::prepare(&world.ecs).await.unwrap();
        world.furnish().await;
        world
    }

    pub(super) fn now(&self) -> Timestamp {
        self.env.now()
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.store.latest()
    }

    pub(super) fn root(&self) -> Caller {
        self.caller(&self.keys.root.access_key_id.clone(), Principal::Root)
    }

    pub(super) fn caller(&self, key: &str, principal: Principal) -> Caller {
        Caller {
            account: Config::root_account(),
            region: self.ecs.control.config.region.clone(),
            access_key: key.to_owned(),
            principal,
            session: None,
            origin: aws_wire::Origin::default(),
            request_id: Uuid::mint(&self.random),
            now: self.now(),
        }
    }

    /// A number in `0..bound`.
    pub(super) fn below(&self, bound: u32) -> u32 {
        self.random.below(bound)
    }

    /// True once in `times`, but never once callers and agents behave.
    pub(super) fn mishap(&self, times: u32) -> bool {
        !self.is_calm && self.random.below(times) == 0
    }

    pub(super) fn pick<'t, T>(&self, from: &'t [T]) -> Option<&'t T> {
        let count = u32::try_from(from.len()).unwrap();
        (count > 0).then(|| &from[self.below(count) as usize])
    }

    /// What a caller is answered; a fault of ours is never it.
    pub(super) fn answered<T>(&self, what: &str, answer: Result<T, ApiError>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                assert!(error.status < 500, "seed {}: {what}: {error:?}", self.seed);
                None
            }
        }
    }

    pub(super) fn later(&mut self, ms: u64, event: Event) {
        self.events_made += 1;
        self.events.insert((self.now().plus_ms(ms), self.events_made), event);
    }

    /// Lets time pass, with all that happens meanwhile.
    pub(super) async fn pass(&mut self, ms: u64) {
        let until = self.now().plus_ms(ms);
        self.settle().await;
        while let Some(at) = self.next_moment().filter(|at| *at <= until) {
            let ms = at.since_ms(self.now());
            self.env.advance_ms(ms);
            while let Some(entry) =
                self.events.first_entry().filter(|entry| entry.key().0 <= self.env.now())
            {
                let event = entry.remove();
                self.happen(event).await;
            }
            self.settle().await;
        }
        let rest = until.since_ms(self.now());
        self.env.advance_ms(rest);
        self.settle().await;
        self.remember();
    }

    fn next_moment(&self) -> Option<Timestamp> {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        [event, self.driver.next_alarm()].into_iter().flatten().min()
    }

    /// Has the driver do what it is woken for, and checks each step.
    pub(super) async fn settle(&mut self) {
        let mut passes = 0;
        loop {
            let before = self.view();
            if !self.driver.step().await {
                break;
            }
            if self.mishap(400) {
                // Killed between two commits of a pass.
                self.restart().await;
            }
            passes += 1;
            assert!(passes < PASSES_MAX, "seed {}: the driver runs in circles", self.seed);
            self.check_step(&before);
        }
        self.send_orders();
    }

    /// The region is killed and starts again on what is durable.
    pub(super) async fn restart(&mut self) {
        self.ecs = open(&self.env, &self.store, &self.keys, &self.dir);
        self.driver = start(&self.ecs, self.hears);
        crate::testing::prepare(&self.ecs).await.unwrap();
        for index in 0..self.hosts.len() {
            // One that was away already was not answered by the region before either.
            if self.hosts[index].session.take().is_some() {
                self.lease_runs(index, 0);
            }
            let ms = u64::from(50 + self.below(3_000));
            self.later(ms, Event::Connect { host: index });
        }
    }

    /// A driver that knows nothing finds nothing to do that the old one did not: no wake-up was lost.
    /// Why tasks find no capacity may read otherwise by now, since others have taken more of it.
    pub(super) async fn look_twice(&mut self) {
        self.settle().await;
        if !self.hears {
            return;
        }
        let before = self.view();
        let mut second = start(&self.ecs, true);
        while second.step().await {}
        let after = self.view();
        assert!(
            super::checks::only_tallies_differ(&before, &after),
            "seed {} at {}: a wake-up was lost: {}",
            self.seed,
            self.now(),
            super::checks::difference(&before, &after)
        );
    }

    /// Takes what is there into the history.
    fn remember(&mut self) {
        let view = self.view();
        view.seq.hash(&mut self.hasher);
        for task in view.tasks.iter() {
            (task.id, task.phase, task.desired, task.instance, task.version).hash(&mut self.hasher);
        }
        for row in view.deployments.iter() {
            (row.id.0, row.rank, row.stage, row.version).hash(&mut self.hasher);
        }
    }

    pub(super) fn history(&self) -> u64 {
        let mut hasher = self.hasher.clone();
        for (_, row) in self.view().rows() {
            row.to_json().unwrap().hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Makes what every world begins with: a cluster with a provider, and task definitions.
    async fn furnish(&mut self) {
        let root = self.root();
        let cluster = api::CreateClusterRequest {
            cluster_name: Some(CLUSTER.to_owned()),
            capacity_providers: Some(vec!["FARGATE".to_owned(), "FARGATE_SPOT".to_owned()]),
            ..api::CreateClusterRequest::default()
        };
        Ecs::create_cluster(self.ecs.as_ref(), &root, cluster).await.unwrap();
        let group = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:\
                     a2d7d7f1-52c5-4c8a-8f2c-2d2b9b3c6f5e:autoScalingGroupName/pool";
        let provider = api::CreateCapacityProviderRequest {
            name: Some("pool".to_owned()),
            auto_scaling_group_provider: Some(api::AutoScalingGroupProvider {
                auto_scaling_group_arn: Some(group.to_owned()),
                managed_scaling: Some(api::ManagedScaling {
                    status: Some(api::ManagedScalingStatus::Enabled),
                    ..api::ManagedScaling::default()
                }),
                ..api::AutoScalingGroupProvider::default()
            }),
            ..api::CreateCapacityProviderRequest::default()
        };
        Ecs::create_capacity_provider(self.ecs.as_ref(), &root, provider).await.unwrap();
        let providers = ["FARGATE", "FARGATE_SPOT", "pool"].map(str::to_owned).to_vec();
        let associate = api::PutClusterCapacityProvidersRequest {
            cluster: Some(CLUSTER.to_owned()),
            capacity_providers: Some(providers),
            default_capacity_provider_strategy: Some(vec![]),
        };
        Ecs::put_cluster_capacity_providers(self.ecs.as_ref(), &root, associate).await.unwrap();
        for (family, revisions) in super::callers::FAMILIES {
            for _ in 0..*revisions {
                let input = super::callers::definition(family);
                Ecs::register_task_definition(self.ecs.as_ref(), &root, input).await.unwrap();
            }
        }
        for _ in 0..2 {
            self.new_host(false).await;
        }
        self.new_host(true).await;
    }
}

fn start(ecs: &Arc<Ecs>, hears: bool) -> Driver {
    let mut environment = Environment::of(&ecs.control.store, &ecs.control.clock);
    environment.full_pass = FULL_PASS;
    if !hears {
        environment.changes = MemoryStore::new().changes();
        environment.full_pass = FULL_PASS_OF_THE_DEAF;
    }
    let mut driver = Driver::new(environment);
    crate::background::register_woken(ecs, &mut driver);
    driver
}

fn open(
    env: &Arc<SeededEnv>,
    store: &Arc<MemoryStore>,
    keys: &Keys,
    dir: &tempfile::TempDir,
) -> Arc<Ecs> {
    let listen = ([127, 0, 0, 1], 4566).into();
    let mut config = Config::new("us-east-1".parse().unwrap(), listen, dir.path().to_owned());
    config.heartbeat_timeout_ms = HEARTBEAT_TIMEOUT_MS;
    config.limits.fargate_tasks_per_account_max = FARGATE_TASKS_MAX;
    config.limits.waiting_tasks_per_cluster_max = WAITING_TASKS_MAX;
    let parts = Parts {
        store: Arc::clone(store) as _,
        clock: Arc::clone(env) as _,
        ids: Arc::clone(env) as _,
        keys: keys.clone(),
        root_keys: RootKeys::of(RootKey::mint(env.as_ref())),
    };
    let control = Arc::new(Control::new(config, parts));
    Arc::new(Ecs::new(control, Arc::default()))
}
