//! One seed, one world: requests, reports, losses and stops in any order, and what must hold after each.

use std::collections::{BTreeMap, BTreeSet};

use ecs_api as api;
use longshore_types::{Resources, SeededEnv};
use model::instance::Instance;
use model::task::{LaunchType, Phase, Task};
use store::Batch;

use super::world::World;
use crate::{deregister_container_instance, run_task, start_task};

const SEEDS: u64 = 12;
const TURNS: u32 = 120;

#[tokio::test]
async fn addresses_and_resources_are_given_once_and_come_back() {
    for seed in 0..SEEDS {
        Run::new(seed).await.play().await;
    }
}

struct Run {
    seed: u64,
    random: SeededEnv,
    world: World,
    instances: Vec<String>,
    versions: BTreeMap<String, u64>,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let world = World::new().await;
        let random = SeededEnv::from_seed(seed);
        Self { seed, random, world, instances: vec![], versions: BTreeMap::new() }
    }

    async fn play(mut self) {
        for turn in 0..TURNS {
            self.act().await;
            self.check(turn);
            self.world.test.env.advance_ms(u64::from(self.random.below(60_000)));
        }
        for task in self.tasks() {
            self.world.stop(&task, "").await;
            if self.is_placed(&task) {
                self.world.submit(&task, "STOPPED", Some(0), "").await;
            }
        }
        self.world.test.env.advance_ms(3_600_000);
        crate::background::sweep(self.world.ecs()).await.unwrap();
        let view = self.world.ecs().control.view();
        assert_eq!(view.interfaces.len(), 0, "seed {}", self.seed);
        assert_eq!(view.tasks.len(), 0, "seed {}", self.seed);
    }

    fn tasks(&self) -> Vec<String> {
        let view = self.world.ecs().control.view();
        view.live_tasks().map(|task| task.arn().to_string()).collect()
    }

    fn pick(&self, from: &[String]) -> Option<String> {
        let count = u32::try_from(from.len()).unwrap();
        (count > 0).then(|| from[self.random.below(count) as usize].clone())
    }

    async fn act(&mut self) {
        match self.random.below(12) {
            0 => {
                let arn = self.world.register(&self.world.test.node(), 2048, 4096).await;
                self.set_connected(&arn, true).await;
                self.instances.push(arn);
            }
            1 => {
                if let Some(arn) = self.pick(&self.instances) {
                    let connected = self.random.below(2) == 0;
                    self.set_connected(&arn, connected).await;
                }
            }
            2 => self.deregister().await,
            3 | 4 => self.run(true).await,
            5 | 6 => self.run(false).await,
            7 => self.start().await,
            8 => {
                if let Some(task) = self.pick(&self.tasks()) {
                    self.world.stop(&task, "because").await;
                }
            }
            _ => {
                let task = self.pick(&self.tasks()).filter(|task| self.is_placed(task));
                if let Some(task) = task {
                    let status = ["PENDING", "RUNNING", "RUNNING", "STOPPED"];
                    let status = status[self.random.below(4) as usize];
                    let code = (status == "STOPPED" && self.random.below(2) == 0).then_some(1);
                    self.world.submit(&task, status, code, "").await;
                }
            }
        }
    }

    fn is_placed(&self, task: &str) -> bool {
        let view = self.world.ecs().control.view();
        view.live_tasks().any(|each| each.arn().to_string() == task && each.instance.is_some())
    }

    async fn run(&self, on_fargate: bool) {
        let count = i32::try_from(1 + self.random.below(4)).unwrap();
        let mut input = api::RunTaskRequest {
            count: Some(count),
            task_definition: Some("bridge".to_owned()),
            ..api::RunTaskRequest::default()
        };
        if on_fargate {
            input.task_definition = Some("web".to_owned());
            input.launch_type = Some(api::LaunchType::Fargate);
            input.network_configuration = Some(self.world.network());
        }
        let answer = run_task::handle(self.world.ecs(), &self.world.root(), input).await;
        if on_fargate {
            let made = match answer {
                Ok(answer) => answer.tasks.unwrap().len() + answer.failures.unwrap().len(),
                Err(full) => {
                    assert!(full.message.starts_with("Capacity is unavailable"), "{full:?}");
                    return;
                }
            };
            assert_eq!(i32::try_from(made), Ok(count), "seed {}", self.seed);
        }
    }

    async fn start(&self) {
        let Some(instance) = self.pick(&self.instances) else { return };
        let input = api::StartTaskRequest {
            container_instances: Some(vec![instance.clone(), instance]),
            task_definition: Some("bridge".to_owned()),
            ..api::StartTaskRequest::default()
        };
        let answer = start_task::handle(self.world.ecs(), &self.world.root(), input).await;
        let answer = answer.unwrap();
        let told = answer.tasks.unwrap().len() + answer.failures.unwrap().len();
        assert_eq!(told, 2, "seed {}: every instance is answered for", self.seed);
    }

    async fn deregister(&mut self) {
        let Some(instance) = self.pick(&self.instances) else { return };
        let input = api::DeregisterContainerInstanceRequest {
            container_instance: Some(instance.clone()),
            force: Some(self.random.below(3) == 0),
            ..api::DeregisterContainerInstanceRequest::default()
        };
        let (ecs, root) = (self.world.ecs(), self.world.root());
        if deregister_container_instance::handle(ecs, &root, input).await.is_ok() {
            self.instances.retain(|each| *each != instance);
        }
    }

    async fn set_connected(&self, arn: &str, connected: bool) {
        let id = arn.rsplit('/').next().unwrap().parse().unwrap();
        self.world
            .ecs()
            .control
            .decide(|view, _| {
                let row = view.instances.get(self.world.root().account, &id).unwrap();
                let mut next = Instance::clone(row);
                next.agent.connected = connected;
                let mut batch = Batch::on(view);
                batch.put(next);
                Ok((batch, ()))
            })
            .await
            .unwrap();
    }

    fn check(&mut self, turn: u32) {
        let view = self.world.ecs().control.store.latest();
        let at = format!("seed {}, turn {turn}", self.seed);
        let live: Vec<&Task> = view.live_tasks().map(AsRef::as_ref).collect();
        let addresses: BTreeSet<_> =
            live.iter().filter_map(|task| task.interface.as_ref()).map(|i| i.address).collect();
        let held = live.iter().filter(|task| task.interface.is_some()).count();
        assert_eq!(addresses.len(), held, "{at}: an address given twice");
        assert_eq!(
            view.interfaces.len(),
            held,
            "{at}: an interface without a task, or a task without"
        );
        for instance in view.instances.iter() {
            for is_fargate in [false, true] {
                let taken = view
                    .tasks_on_instance(instance.id)
                    .filter(|task| (task.launch == LaunchType::Fargate) == is_fargate)
                    .fold(Resources::default(), |all, it| all.saturating_add(it.need.resources));
                let left = instance.total.checked_sub(taken);
                assert!(left.is_some(), "{at}: {taken:?} of an instance, Fargate: {is_fargate}");
            }
        }
        for task in view.tasks.iter() {
            let version = self.versions.entry(task.id.to_string()).or_default();
            assert!(*version <= task.version, "{at}: a task moved back");
            *version = task.version;
            assert_eq!(task.phase == Phase::Stopped, task.times.stopped.is_some(), "{at}");
        }
    }
}
