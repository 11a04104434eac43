//! Deregistered targets: no new request, what is in flight finished or cut, and said to the region.

use routing::{Action, Finding, Report, TargetState, WeightedGroup};
use tokio::sync::watch;

use super::world::*;

fn drain(until_ms: u64) -> impl Fn(&mut routing::Table) {
    move |table| {
        let until = now().plus_ms(until_ms);
        group_of(table).targets[0].state = TargetState::Draining { until };
    }
}

/// As when a blue/green deployment goes back: in one table traffic is the other group's, and all targets of the first drain.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_when_traffic_leaves_a_group_whose_targets_all_drain() {
    let (a, b) = (backend(Does::Answers("a")).await, backend(Does::Answers("b")).await);
    let mut first = table(&[a.address]);
    let other = routing::GroupId("other".to_owned());
    let mut second = group(&[b.address]);
    second.id = other.clone();
    first.groups.insert(other.clone(), second);
    let world = World::new(first).await;
    let address = world.address().await;
    let (end, ended) = watch::channel(false);
    let asks = (0..4).map(|_| {
        let ended = ended.clone();
        tokio::spawn(async move {
            let (mut caller, mut asked) = (Caller::new(address).await, 0);
            while !*ended.borrow() {
                let answer = caller.ask(GET).await.expect("an answer");
                assert_eq!(answer.status, 200, "after {asked} requests");
                asked += 1;
            }
        })
    });
    let asks: Vec<_> = asks.collect();
    for turn in 0..100_u64 {
        // Nothing is in flight any more to those that are about to be registered anew.
        let is_quiet = |report: &Report| {
            let mut out = report.targets.iter().filter(|it| it.finding == Finding::NotChecked);
            out.all(|it| it.in_flight == 0)
        };
        world.reported("nothing in flight", is_quiet).await;
        world
            .change(|table| {
                let (to, from) = match turn % 2 {
                    0 => (other.clone(), group_id()),
                    _ => (group_id(), other.clone()),
                };
                let until = now().plus_ms(60_000);
                let left = &mut table.groups.get_mut(&from).unwrap().targets[0];
                left.state = TargetState::Draining { until };
                let next = &mut table.groups.get_mut(&to).unwrap().targets[0];
                // Registered anew.
                next.registered_at = longshore_types::Timestamp(turn + 2);
                next.state = TargetState::Healthy;
                let weighted = vec![WeightedGroup { group: to, weight: 1, part: None }];
                balancer(table).listeners[0].rules[0].action =
                    Action::Forward { groups: weighted, sticky_s: None };
            })
            .await;
    }
    end.send_replace(true);
    for ask in asks {
        ask.await.unwrap();
    }
}

#[tokio::test]
async fn a_draining_target_gets_nothing_new_and_is_confirmed_when_its_last_request_is_done() {
    let (open, gate) = watch::channel(false);
    let (a, b) = (backend(Does::Waits(gate)).await, backend(Does::Answers("b")).await);
    let world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    let mut caller = Caller::new(address).await;
    caller.write(GET).await;
    while a.count() == 0 {
        tokio::task::yield_now().await;
    }
    world
        .change(|table| {
            drain(60_000)(table);
            group_of(table).targets.push(target(b.address));
        })
        .await;
    let in_flight = |wanted: u32| {
        move |report: &Report| report.version == 2 && report.targets[0].in_flight == wanted
    };
    world.reported("one in flight", in_flight(1)).await;
    for _ in 0..10 {
        assert_eq!(get(address).await.unwrap().body, "b");
    }
    open.send_replace(true);
    assert_eq!(caller.answer().await.unwrap().body, "late");
    world.reported("none in flight", in_flight(0)).await;
    assert_eq!(a.count(), 1);
}

#[tokio::test]
async fn what_is_in_flight_is_cut_when_the_delay_is_over() {
    let a = backend(Does::Hangs).await;
    let mut first = table(&[a.address]);
    balancer(&mut first).attributes.idle_timeout_s = 4000;
    let world = World::new(first).await;
    let mut caller = Caller::new(world.address().await).await;
    caller.write(GET).await;
    while a.count() == 0 {
        tokio::task::yield_now().await;
    }
    world.change(drain(200)).await;
    assert_eq!(caller.answer().await.unwrap().status, 502);
    world.reported("none in flight", |report| report.targets[0].in_flight == 0).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_lets_go_of_its_target() {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n".to_vec();
    answer.resize(answer.len() + (64 << 20), b'x');
    let a = backend(Does::Writes(answer.leak())).await;
    let world = World::new(table(&[a.address])).await;
    let mut caller = Caller::new(world.address().await).await;
    caller.write(GET).await;
    while a.count() == 0 {
        tokio::task::yield_now().await;
    }
    world.change(drain(60_000)).await;
    let is_free = |report: &Report| report.version == 2 && report.targets[0].in_flight == 0;
    world.reported("none in flight", is_free).await;
    drop(caller);
}

#[tokio::test]
async fn no_request_reaches_a_target_after_its_draining_was_confirmed() {
    let (a, b) = (backend(Does::Answers("a")).await, backend(Does::Answers("b")).await);
    let world = World::new(table(&[a.address, b.address])).await;
    let address = world.address().await;
    let (stop, stopped) = watch::channel(false);
    let mut loads = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let stopped = stopped.clone();
        loads.spawn(async move {
            let mut caller = Caller::new(address).await;
            let mut count = 0_u32;
            while !*stopped.borrow() {
                assert_eq!(caller.ask(GET).await.unwrap().status, 200);
                count += 1;
            }
            count
        });
    }
    while a.count() < 50 {
        tokio::task::yield_now().await;
    }
    for turn in 0_u64..10 {
        let a_is_out = turn.is_multiple_of(2);
        let (out, in_use) = if a_is_out { (&a, &b) } else { (&b, &a) };
        world
            .change(|table| {
                for target in &mut group_of(table).targets {
                    let is_out = target.key.port == out.address.port();
                    target.state = if is_out {
                        TargetState::Draining { until: now().plus_ms(60_000) }
                    } else {
                        TargetState::Healthy
                    };
                    // Registered anew, and already checked elsewhere.
                    if !is_out && turn > 0 {
                        target.registered_at = routing_time(turn);
                    }
                }
            })
            .await;
        let port = out.address.port();
        let version = turn + 2;
        world
            .reported("confirmed", |report| {
                let target = report.targets.iter().find(|one| one.target.port == port).unwrap();
                report.version == version && target.in_flight == 0
            })
            .await;
        let before = (out.count(), in_use.count());
        while in_use.count() < before.1 + 30 {
            tokio::task::yield_now().await;
        }
        assert_eq!(out.count(), before.0, "turn {turn}");
    }
    stop.send_replace(true);
    let mut served = 0;
    while let Some(count) = loads.join_next().await {
        served += count.unwrap();
    }
    assert_eq!(served, a.count() + b.count());
}

fn routing_time(turn: u64) -> longshore_types::Timestamp {
    longshore_types::Timestamp(1 + turn)
}
