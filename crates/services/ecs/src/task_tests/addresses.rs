//! A host's address in the hosts' own network is its own.

use std::net::IpAddr;

use aws_wire::{ApiError, Caller, Origin};
use ecs_api as api;
use longshore_types::InstanceArn;
use model::Instance;

use super::world::World;
use crate::register_container_instance;

/// A host that joined, of this letter, and where it comes from.
fn host(world: &World, letter: &str, from: &str) -> Caller {
    let origin = Origin { address: Some(from.parse::<IpAddr>().unwrap()), ..Origin::default() };
    let access_key = format!("LSNK{}", letter.repeat(16));
    Caller { access_key, origin, ..world.test.node() }
}

/// Registers with an address among the hosts, and again as what it is.
async fn register(
    world: &World,
    caller: &Caller,
    known: Option<&str>,
    address: &str,
) -> Result<String, ApiError> {
    let attribute = |name: &str, value: &str| api::Attribute {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
        ..api::Attribute::default()
    };
    let input = api::RegisterContainerInstanceRequest {
        container_instance_arn: known.map(str::to_owned),
        attributes: Some(vec![
            attribute("longshore.underlay-address", address),
            attribute("longshore.encryption", "aes-gcm/a"),
        ]),
        ..api::RegisterContainerInstanceRequest::default()
    };
    let answer = register_container_instance::handle(world.ecs(), caller, input).await;
    answer.map(|answer| answer.container_instance.unwrap().container_instance_arn.unwrap())
}

/// As its agent does.
async fn connect(world: &World, arn: &str, caller: &Caller) -> Result<sessions::Opened, ApiError> {
    let agent = sessions::Agent::default().of(caller);
    sessions::connected(&world.ecs().control, &row(world, arn), &agent).await
}

fn row(world: &World, arn: &str) -> Instance {
    let arn: InstanceArn = arn.parse().unwrap();
    let view = world.ecs().control.view();
    Instance::clone(view.instances.get(arn.scope.account, &arn.id).unwrap())
}

fn refused(answer: Result<String, ApiError>, says: &str) {
    let error = answer.unwrap_err();
    assert_eq!((error.status, error.code.as_ref()), (400, "ConflictException"), "{error}");
    assert!(error.message.contains(says), "{error}");
}

#[tokio::test]
async fn no_host_registers_with_the_address_of_another_that_is_connected() {
    let world = World::new().await;
    let own = world.test.node();
    let one = register(&world, &own, None, "192.0.2.1").await.unwrap();
    let agent = world.connect(&one).await;
    let other = host(&world, "A", "192.0.2.9");
    for from in ["192.0.2.9", "192.0.2.1"] {
        let caller = host(&world, "A", from);
        let answer = register(&world, &caller, None, "192.0.2.1").await;
        refused(
            answer,
            "reach it at 192.0.2.1 (--underlay-address), but another host of this region has it",
        );
    }
    // Nor with one that encryption takes for it.
    let twin = register(&world, &other, None, "208.0.2.1").await;
    refused(twin, "another host of this region has the address 192.0.2.1");
    // It has one of its own, and comes with it again, but not with the other's.
    let two = register(&world, &other, None, "192.0.2.2").await.unwrap();
    assert_eq!(register(&world, &other, Some(&two), "192.0.2.2").await.unwrap(), two);
    refused(register(&world, &other, Some(&two), "192.0.2.1").await, "Its agent is connected.");
    assert_eq!(row(&world, &two).underlay(), Some([192, 0, 2, 2].into()));
    // The first goes on as itself.
    assert_eq!(register(&world, &own, Some(&one), "192.0.2.1").await.unwrap(), one);
    drop(agent);
}

#[tokio::test]
async fn the_address_of_a_host_that_is_away_is_its_own_until_it_is_lost() {
    let world = World::new().await;
    let own = world.test.node();
    let one = register(&world, &own, None, "192.0.2.1").await.unwrap();
    drop(world.connect(&one).await);
    world.wait_disconnected(&one).await;
    let other = host(&world, "A", "192.0.2.9");
    refused(register(&world, &other, None, "192.0.2.1").await, "Its agent is away; for");
    // A machine that began anew comes from the very address.
    let anew = host(&world, "B", "::ffff:192.0.2.1");
    let two = register(&world, &anew, None, "192.0.2.1").await.unwrap();
    let control = &world.ecs().control;
    control.check_address_again(&control.view(), &row(&world, &one), None).unwrap();
    connect(&world, &two, &anew).await.unwrap();
    // What was there before does not come back beside it.
    let error = sessions::connected(control, &row(&world, &one), &sessions::Agent::default()).await;
    assert_eq!(error.unwrap_err().code, "ConflictException");
    assert!(!row(&world, &one).agent.connected);
}

#[tokio::test]
async fn a_host_at_its_address_gets_it_back_from_one_that_only_says_it() {
    let world = World::new().await;
    let first = host(&world, "A", "192.0.2.1");
    // By keys that outlast the session, though no token was exchanged for them.
    let other = Caller { access_key: "AKIAOTHERHOST".to_owned(), ..host(&world, "B", "192.0.2.9") };
    let one = register(&world, &first, None, "192.0.2.1").await.unwrap();
    world.test.env.advance_ms(world.ecs().control.config.heartbeat_timeout_ms);
    let two = register(&world, &other, None, "192.0.2.1").await.unwrap();
    let mut agent = world.connect_as_root(&two).await;
    agent.expect("TaskManifestMessage").await;
    assert!(row(&world, &two).agent.connected);

    // From elsewhere it is refused as before.
    let away = host(&world, "A", "192.0.2.7");
    refused(register(&world, &away, Some(&one), "192.0.2.1").await, "Its agent is connected.");
    assert_eq!(register(&world, &first, Some(&one), "192.0.2.1").await.unwrap(), one);
    let error = connect(&world, &one, &away).await.unwrap_err();
    assert_eq!(error.code, "ConflictException");
    connect(&world, &one, &first).await.unwrap();
    assert_eq!(agent.close_frame().await, (1008, "another session took over".to_owned()));
    assert!(row(&world, &one).agent.connected && !row(&world, &two).agent.connected);
    for _ in 0..2 {
        let error = connect(&world, &two, &other).await.unwrap_err();
        assert_eq!(error.code, "ConflictException");
    }
    assert!(row(&world, &one).agent.connected && !row(&world, &two).agent.connected);
}

#[tokio::test]
async fn a_host_that_says_another_address_while_it_is_connected_is_not_at_that_one() {
    let world = World::new().await;
    let (first, other) = (host(&world, "A", "192.0.2.1"), host(&world, "B", "192.0.2.9"));
    let one = register(&world, &first, None, "192.0.2.1").await.unwrap();
    let two = register(&world, &other, None, "192.0.2.9").await.unwrap();
    world.test.env.advance_ms(world.ecs().control.config.heartbeat_timeout_ms);
    connect(&world, &two, &other).await.unwrap();
    register(&world, &other, Some(&two), "192.0.2.1").await.unwrap();
    connect(&world, &one, &first).await.unwrap();
    assert!(row(&world, &one).agent.connected && !row(&world, &two).agent.connected);
}

#[tokio::test]
async fn the_address_of_a_host_that_was_lost_is_anybodys() {
    let world = World::new().await;
    let own = world.test.node();
    let one = register(&world, &own, None, "192.0.2.1").await.unwrap();
    let limit_ms = world.ecs().control.config.heartbeat_timeout_ms;
    let other = host(&world, "A", "192.0.2.9");
    world.test.env.advance_ms(limit_ms - 1);
    refused(register(&world, &other, None, "192.0.2.1").await, "for 1 s more");
    world.test.env.advance_ms(1);
    let two = register(&world, &other, None, "192.0.2.1").await.unwrap();
    assert_eq!(row(&world, &two).underlay(), row(&world, &one).underlay());
}
