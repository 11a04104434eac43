use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use longshore_types::{AccountId, Clock, ClusterName, SeededEnv};
use model::{AccountSetting, Cluster, ClusterStatus, Key, SettingId, SettingPrincipal};
use store::{Batch, MemoryStore, Store};

use super::*;

/// Gives each cluster a setting of its name, unless it is to fail with it.
struct Keeper {
    store: Arc<MemoryStore>,
    /// How many passes of a cluster are yet to go wrong, and whether by a panic.
    mishaps: Arc<Mutex<BTreeMap<String, (u32, bool)>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("not this time")]
struct NotThisTime;

fn account() -> AccountId {
    "000000000000".parse().unwrap()
}

fn setting(name: &str) -> SettingId {
    SettingId { principal: SettingPrincipal::Default, name: name.to_owned() }
}

impl Reconciler for Keeper {
    type Key = ClusterName;
    type Note = ();
    type Error = NotThisTime;

    fn name(&self) -> &'static str {
        "keeper"
    }

    fn passes_max(&self) -> usize {
        8
    }

    fn wake(&mut self, _view: &View, change: &Change, queue: &mut Queue<ClusterName>) {
        if let Key::Cluster(_, name) = &change.key {
            queue.changed(name, change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<ClusterName> {
        view.clusters.iter().map(|row| row.name.clone()).collect()
    }

    fn pass(&self, key: &ClusterName) -> PassFuture<Result<Pass<()>, NotThisTime>> {
        let (store, key) = (Arc::clone(&self.store), key.clone());
        let mishap = {
            let mut mishaps = self.mishaps.lock().unwrap();
            mishaps.get_mut(key.as_str()).filter(|(left, _)| *left > 0).map(|(left, panics)| {
                *left -= 1;
                *panics
            })
        };
        Box::pin(async move {
            match mishap {
                Some(true) => panic!("a defect"),
                Some(false) => return Err(NotThisTime),
                None => {}
            }
            let view = store.latest();
            let mut batch = Batch::on(&view);
            if view.account_settings.get(account(), &setting(key.as_str())).is_none() {
                let (account, setting) = (account(), setting(key.as_str()));
                batch.put(AccountSetting { account, setting, value: String::new() });
            }
            let is_written = !batch.is_empty();
            store.commit(batch).await.unwrap();
            let looked_at = if is_written { view.seq.next() } else { view.seq };
            Ok(Pass { looked_at, ..Pass::default() })
        })
    }
}

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<SeededEnv>,
    mishaps: Arc<Mutex<BTreeMap<String, (u32, bool)>>>,
    driver: Driver,
}

impl World {
    /// `hears`: whether the driver is told of changes at all.
    fn new(hears: bool) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SeededEnv::from_seed(1)));
        let elsewhere = MemoryStore::new();
        let environment = Environment {
            store: Arc::clone(&store) as _,
            changes: if hears { store.changes() } else { elsewhere.changes() },
            clock: Arc::clone(&clock) as _,
            full_pass: Duration::from_secs(10),
        };
        let mut driver = Driver::new(environment);
        let mishaps = Arc::default();
        driver.register(Keeper { store: Arc::clone(&store), mishaps: Arc::clone(&mishaps) });
        Self { store, clock, mishaps, driver }
    }

    async fn put(&self, name: &str) {
        let mut batch = Batch::on(&self.store.latest());
        batch.put(Cluster {
            account: account(),
            name: name.parse().unwrap(),
            status: ClusterStatus::Active,
            created_at: Timestamp(0),
            deleted_at: None,
            settings: [].into(),
            configuration: None,
            capacity_providers: Vec::new(),
            default_strategy: Vec::new(),
            tags: [].into(),
            connect_namespace: None,
        });
        self.store.commit(batch).await.unwrap();
    }

    async fn steps(&mut self) -> u32 {
        let mut steps = 0;
        while self.driver.step().await {
            steps += 1;
        }
        steps
    }

    fn kept(&self) -> Vec<String> {
        self.store.latest().account_settings.iter().map(|row| row.setting.name.clone()).collect()
    }
}

#[tokio::test]
async fn a_change_leads_to_one_pass_and_what_the_pass_wrote_to_none() {
    let mut world = World::new(true);
    world.put("a").await;
    world.put("b").await;
    assert_eq!(world.steps().await, 2);
    assert_eq!(world.kept(), ["a", "b"]);
    assert_eq!(world.steps().await, 0);
}

#[tokio::test]
async fn a_pass_that_fails_or_panics_is_tried_again_and_keeps_no_other_from_its_own() {
    let mut world = World::new(true);
    world.mishaps.lock().unwrap().insert("a".to_owned(), (1, true));
    world.mishaps.lock().unwrap().insert("b".to_owned(), (1, false));
    for name in ["a", "b", "c"] {
        world.put(name).await;
    }
    assert_eq!(world.steps().await, 3);
    assert_eq!(world.kept(), ["c"]);
    let status = world.driver.status().read().remove(0);
    assert_eq!((status.keys, status.passes, status.failures), (3, 3, 2));
    let failed = status.last_failure.unwrap();
    assert_eq!((failed.key.contains('b'), failed.error.as_str()), (true, "not this time"));
    world.clock.advance_ms(RETRY_MS);
    assert_eq!(world.steps().await, 2);
    assert_eq!(world.kept(), ["a", "b", "c"]);
}

#[tokio::test]
async fn with_every_wake_up_lost_the_full_pass_finds_what_is_missing() {
    let mut world = World::new(false);
    world.put("a").await;
    world.put("b").await;
    assert_eq!(world.steps().await, 0, "it heard of nothing");
    let due = world.driver.next_alarm().unwrap();
    world.clock.advance_ms(due.since_ms(world.clock.now()));
    loop {
        world.steps().await;
        if world.kept().len() == 2 {
            break;
        }
        let next = world.driver.next_alarm().unwrap();
        assert!(next <= due.plus_ms(1_000), "the keys follow each other soon");
        world.clock.advance_ms(next.since_ms(world.clock.now()));
    }
}

#[tokio::test]
async fn a_running_driver_follows_the_store() {
    let world = World::new(true);
    let (store, driver) = (Arc::clone(&world.store), world.driver);
    let running = tokio::spawn(driver.run());
    let keeper = World { driver: World::new(true).driver, ..world };
    keeper.put("a").await;
    let mut durable = store.subscribe();
    while keeper.kept().is_empty() {
        durable.changed().await.unwrap();
    }
    running.abort();
}

/// Keys of owners; notes whose pass begins.
struct Owned {
    keys: Vec<(AccountId, u32)>,
    begun: Arc<Mutex<Vec<AccountId>>>,
}

impl Reconciler for Owned {
    type Key = (AccountId, u32);
    type Note = ();
    type Error = NotThisTime;

    fn name(&self) -> &'static str {
        "owned"
    }

    fn passes_max(&self) -> usize {
        8
    }

    fn owner(&self, key: &Self::Key) -> Option<AccountId> {
        Some(key.0)
    }

    fn passes_each_max(&self) -> usize {
        3
    }

    fn wake(&mut self, _: &View, _: &Change, _: &mut Queue<Self::Key>) {}

    fn keys(&mut self, _: &View) -> Vec<Self::Key> {
        self.keys.clone()
    }

    fn pass(&self, key: &Self::Key) -> PassFuture<Result<Pass<()>, NotThisTime>> {
        self.begun.lock().unwrap().push(key.0);
        Box::pin(async { Ok(Pass { is_over: true, ..Pass::default() }) })
    }
}

#[tokio::test]
async fn one_owner_s_passes_keep_no_other_s_waiting() {
    let [a, b, c] = ["000000000001", "000000000002", "000000000003"].map(|id| id.parse().unwrap());
    let keys = [(a, 1_000), (b, 2), (c, 1)];
    let keys = keys.into_iter().flat_map(|(owner, count)| (0..count).map(move |at| (owner, at)));
    let begun = Arc::default();
    let owned = Owned { keys: keys.collect(), begun: Arc::clone(&begun) };
    let mut view = View::clone(&MemoryStore::new().latest());
    view.seq = Seq(1);
    let (status, now) = (Status::default(), Timestamp(0));
    let mut lane = lane::LaneOf::new(owned, &status, FULL_PASS, &view, now);
    let next = |lane: &mut lane::LaneOf<Owned>| lane::Lane::next(lane, now);
    let mut under_way: Vec<_> = std::iter::from_fn(|| next(&mut lane)).collect();
    let mut first = std::mem::take(&mut *begun.lock().unwrap());
    first.sort();
    assert_eq!(first, [a, a, a, b, b, c], "though there is room for two more");
    let ended = under_way.swap_remove(0).await;
    lane::Lane::finish(&mut lane, ended, now);
    under_way.extend(std::iter::from_fn(|| next(&mut lane)));
    assert_eq!(*begun.lock().unwrap(), [a], "in the place of the one that ended");
    while let Some(pass) = under_way.pop() {
        let ended = pass.await;
        lane::Lane::finish(&mut lane, ended, now);
        under_way.extend(std::iter::from_fn(|| next(&mut lane)));
    }
    let seen = status.read().remove(0);
    assert_eq!((seen.passes, seen.keys, seen.ready, seen.under_way), (1_003, 0, 0, 0));
}
