//! How fast endpoints come and go: `cargo run --release --example attach_rate -p network`, as root.
//!
//! Works in a network namespace of its own, so the machine's network stays as it is.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use network::{EndpointId, EniSpec, MacAddr, Network, NetworkConfig};
use nix::sched::{CloneFlags, unshare};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const ENDPOINTS: u32 = 200;
const LONE_ROUNDS: u32 = 50;

fn main() -> Result<(), Box<dyn Error>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let config =
        NetworkConfig::new("0a0b0c0d".parse()?, dir.path().join("run"), "172.31.0.0/16".parse()?);
    runtime.block_on(measure(config))
}

async fn measure(config: NetworkConfig) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let network = Network::open(config).await?;
    println!("open                 {:>9.1?}", start.elapsed());
    // The pool fills.
    sleep(Duration::from_millis(200)).await;

    let start = Instant::now();
    let mut attaching = JoinSet::new();
    for number in 0..ENDPOINTS {
        let (network, id, spec) = (network.clone(), id(number)?, spec(number));
        attaching.spawn(async move { network.attach_eni(&id, spec).await });
    }
    while let Some(attached) = attaching.join_next().await {
        attached??;
    }
    report("attach, a burst", ENDPOINTS, start.elapsed());

    let start = Instant::now();
    for number in 0..ENDPOINTS {
        network.detach(&id(number)?).await?;
    }
    report("detach, one by one", ENDPOINTS, start.elapsed());

    let mut times = Vec::new();
    for number in 0..LONE_ROUNDS {
        sleep(Duration::from_millis(30)).await;
        let start = Instant::now();
        network.attach_eni(&id(number)?, spec(number)).await?;
        times.push(start.elapsed());
        network.detach(&id(number)?).await?;
    }
    times.sort();
    println!("attach, a lone one   p50 {:.2?}, max {:.2?}", times[25], times[49]);
    network.uninstall().await?;
    Ok(())
}

fn report(what: &str, count: u32, took: Duration) {
    println!("{what:<20} {took:>9.1?} for {count}: {:.0}/s", f64::from(count) / took.as_secs_f64());
}

fn id(number: u32) -> Result<EndpointId, network::NameError> {
    format!("task-{number}").parse()
}

fn spec(number: u32) -> EniSpec {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(172, 31, 0, 10).to_bits() + number);
    EniSpec {
        id: None,
        address,
        prefix: 20,
        gateway: Ipv4Addr::new(172, 31, 0, 1),
        mac: MacAddr::of_address(address),
        security_groups: vec!["sg-00000000000000001".parse().expect("a valid id")],
        assign_public_ip: true,
        is_judged: false,
    }
}
