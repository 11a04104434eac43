//! What becomes of flows whose target is no longer to be used: they end at once, after a while, or not at all.

use routing::{
    CheckPort, Finding, Kind, ListenerProtocol, Report, Table, TargetProtocol, TargetState,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::world::*;

/// A target that sends back what it is sent, and where it is checked until that is closed.
struct Checked {
    address: std::net::SocketAddr,
    check: JoinHandle<()>,
    check_port: u16,
}

async fn checked() -> Checked {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check_port = listener.local_addr().unwrap().port();
    let check = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    Checked { address, check, check_port }
}

fn table_of(target: &Checked) -> Table {
    let mut table = table(&[target.address]);
    let owner = balancer(&mut table);
    (owner.kind, owner.listeners[0].protocol) = (Kind::Network, ListenerProtocol::Tcp);
    let group = group_of(&mut table);
    group.protocol = TargetProtocol::Tcp;
    group.health.port = CheckPort::Port(target.check_port);
    (group.health.interval_s, group.health.timeout_s) = (1, 1);
    group.health.unhealthy_count = 1;
    table
}

/// Another target of the group that stays well, in a zone.
async fn another(world: &World, target: &Checked, zone: Option<&str>) -> TcpListener {
    let check = TcpListener::bind(("127.0.0.2", target.check_port)).await.unwrap();
    let mut other = super::world::target(check.local_addr().unwrap());
    other.zone = zone.map(str::to_owned);
    world.change(|table| group_of(table).targets.push(other)).await;
    check
}

/// A flow that has come to its target.
async fn flow(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address().await).await.unwrap();
    assert!(goes_on(&mut stream).await);
    stream
}

async fn goes_on(stream: &mut TcpStream) -> bool {
    let mut back = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut back).await.is_ok()
}

async fn is_ended(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 4]).await, Ok(0) | Err(_))
}

/// Has its checks fail from now on, until that is known.
async fn fails(target: &Checked, world: &World) {
    target.check.abort();
    let fails = |report: &Report| report.targets[0].finding == Finding::Failed;
    world.reported("unhealthy", fails).await;
}

#[tokio::test]
async fn flows_end_with_the_health_of_their_target_unless_the_group_says_otherwise() {
    let target = checked().await;
    let world = World::new(table_of(&target)).await;
    let mut stream = flow(&world).await;
    let _other = another(&world, &target, None).await;
    fails(&target, &world).await;
    assert!(is_ended(&mut stream).await);

    let target = checked().await;
    let mut table = table_of(&target);
    group_of(&mut table).cut_when_unhealthy = false;
    let world = World::new(table).await;
    let mut stream = flow(&world).await;
    let _other = another(&world, &target, None).await;
    fails(&target, &world).await;
    assert!(goes_on(&mut stream).await);
}

#[tokio::test]
async fn flows_go_on_to_a_target_that_is_asked_though_it_is_unhealthy() {
    // There is no other, or none of its zone.
    for zones in [None, Some(["a", "b"])] {
        let target = checked().await;
        let mut table = table_of(&target);
        let group = group_of(&mut table);
        group.cross_zone = zones.map(|_| false);
        group.targets[0].zone = zones.map(|it| it[0].to_owned());
        let world = World::new(table).await;
        let mut stream = flow(&world).await;
        let _other = match zones {
            Some([_, other]) => Some(another(&world, &target, Some(other)).await),
            None => None,
        };
        fails(&target, &world).await;
        // The flow would be cut as soon as that is known.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(goes_on(&mut stream).await, "{zones:?}");
    }
}

#[tokio::test]
async fn flows_to_an_unhealthy_target_end_after_a_while_unless_it_is_well_by_then() {
    let target = checked().await;
    let mut table = table_of(&target);
    let group = group_of(&mut table);
    (group.cut_when_unhealthy, group.unhealthy_draining_s) = (false, 1);
    let world = World::new(table).await;
    let mut stream = flow(&world).await;
    let _other = another(&world, &target, None).await;
    fails(&target, &world).await;
    assert!(is_ended(&mut stream).await);

    let target = checked().await;
    let mut table = table_of(&target);
    let group = group_of(&mut table);
    (group.cut_when_unhealthy, group.unhealthy_draining_s) = (false, 3);
    group.health.healthy_count = 1;
    let world = World::new(table).await;
    let mut stream = flow(&world).await;
    let _other = another(&world, &target, None).await;
    fails(&target, &world).await;
    let again = TcpListener::bind(("127.0.0.1", target.check_port)).await.unwrap();
    tokio::spawn(async move { while again.accept().await.is_ok() {} });
    let is_well = |report: &Report| report.targets[0].finding == Finding::Healthy;
    world.reported("healthy", is_well).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert!(goes_on(&mut stream).await);
}

#[tokio::test]
async fn flows_to_a_deregistered_target_go_on_after_its_time_unless_the_group_says_otherwise() {
    for is_cut in [false, true] {
        let target = checked().await;
        let mut table = table_of(&target);
        group_of(&mut table).cut_at_deregistration = is_cut;
        let world = World::new(table).await;
        let mut stream = flow(&world).await;
        let drain = |table: &mut Table| {
            group_of(table).targets[0].state = TargetState::Draining { until: now().plus_ms(50) };
        };
        world.change(drain).await;
        if is_cut {
            assert!(is_ended(&mut stream).await);
            continue;
        }
        // While it is in the table, its time over; and when it is gone.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        assert!(goes_on(&mut stream).await);
        world.change(|table| group_of(table).targets.clear()).await;
        assert!(goes_on(&mut stream).await);
    }
}
