//! `cargo xtask bench`: the budgets of the design, measured on this machine, ours beside the peer's.
//!
//! Usage: `bench LONGSHORE_BINARY HELLO_BINARY [FIGURE…]`; the sample is statically linked. Starts a region of its own on loopback, asks it as clients do,
//! and prints a table in Markdown. A peer that is not installed is said to be absent. Nothing is asserted.

#![allow(clippy::disallowed_methods, reason = "what a measurement writes lasts as long as it")]

mod balance;
mod client;
mod death;
mod engine;
mod fleet;
mod hold;
mod peers;
mod registry;
mod report;
mod secrets;
mod services;
mod simulate;
mod swarm;
mod tasks;
mod traffic;
mod wire;
mod world;

use std::process::ExitCode;

use report::Report;
use world::World;

/// The figures in the order they are measured: quiet ones first.
const FIGURES: [&str; 20] = [
    "ready", "idle", "simulate", "growth", "agents", "describe", "register", "values", "run",
    "drivers", "secrets", "burst", "scale", "replace", "registry", "hosts", "death", "hold",
    "balance", "deploy",
];

/// Measured by name only: it takes too long for every day.
const MILLION: &str = "million";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(binary), Some(hello)) = (arguments.next(), arguments.next()) else {
        let figures = FIGURES.join("|");
        eprintln!("usage: bench LONGSHORE_BINARY HELLO_BINARY [{figures}|{MILLION}]");
        return ExitCode::from(2);
    };
    let mut wanted: Vec<String> = arguments.collect();
    if wanted.is_empty() {
        wanted = FIGURES.map(str::to_owned).to_vec();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(measure(&binary, &hello, &wanted)),
        Err(error) => Err(error),
    };
    match result {
        Ok(report) => {
            println!("\n{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(binary: &str, hello: &str, wanted: &[String]) -> std::io::Result<Report> {
    let mut report = Report { conditions: world::conditions(), rows: Vec::new() };
    let mut world = World::start(binary, hello).await?;
    let result = figures(&mut world, wanted, &mut report).await;
    world.stop().await;
    result.map(|()| report)
}

async fn figures(world: &mut World, wanted: &[String], report: &mut Report) -> std::io::Result<()> {
    for figure in FIGURES.into_iter().chain([MILLION]) {
        if !wanted.iter().any(|name| name == figure) {
            continue;
        }
        match figure {
            "ready" => world.report_ready(report),
            "idle" => world.report_idle(report).await?,
            "simulate" => simulate::tasks_to_running(world, report)?,
            "growth" => simulate::growth(world, report, simulate::SIZES)?,
            "agents" => simulate::agents_over_tls(world, report)?,
            MILLION => simulate::growth(world, report, simulate::SIZES_TO_A_MILLION)?,
            "describe" => wire::describe_tasks(world, report).await?,
            "register" => wire::register_task_definition(world, report).await?,
            "values" => secrets::reads(world, report).await?,
            "run" => tasks::run_to_running(world, report).await?,
            "drivers" => tasks::by_drivers(world, report).await?,
            "secrets" => secrets::to_running(world, report).await?,
            "burst" => tasks::burst(world, report).await?,
            "scale" => services::scale_and_roll(world, report).await?,
            "replace" => services::replace(world, report).await?,
            "registry" => registry::push_and_pull(world, report).await?,
            "hosts" => fleet::image_to_hosts(world, report).await?,
            "death" => death::of_a_host(world, report).await?,
            "hold" => hold::signed_requests(world, report).await?,
            "balance" => balance::beside_peers(world, report).await?,
            "deploy" => balance::deployments(world, report).await?,
            other => return Err(std::io::Error::other(format!("no figure {other}"))),
        }
    }
    Ok(())
}
