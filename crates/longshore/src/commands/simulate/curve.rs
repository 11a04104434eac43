//! What a task costs by how many there are: one simulation a size, one row of a table each.
//!
//! Nothing that a region does for a task may grow with the tasks that are there already: down a column, the
//! numbers are to be alike.

use super::report::{Report, each, micros, ms, rate};
use super::usage::Usage;
use super::{Restart, measure};
use crate::cli::Simulate;
use crate::commands::Environment;
use crate::error::Error;

/// Tasks of one host, as far as there may be so many hosts.
const TASKS_PER_AGENT: usize = 50;
const AGENTS_MAX: usize = 5_000;
/// How much larger than its tasks a host is.
const ROOM: u64 = 2;

const COLUMNS: [&str; 12] = [
    "tasks",
    "agents",
    "RUNNING/s",
    "CPU a task",
    "written a task",
    "stopped/s",
    "CPU a stop",
    "written a stop",
    "memory a task",
    "started again in",
    "agents back in",
    "memory a task then",
];

pub(super) async fn run(environment: &Environment, args: &Simulate) -> Result<(), Error> {
    println!("| {} |", COLUMNS.join(" | "));
    println!("|{}", "---|".repeat(COLUMNS.len()));
    for tasks in &args.curve {
        let args = of_size(args, *tasks);
        let report = measure(environment, &args, Restart::Yes).await?;
        println!("| {} |", cells(&report).join(" | "));
    }
    Ok(())
}

fn of_size(args: &Simulate, tasks: usize) -> Simulate {
    let agents = tasks.div_ceil(TASKS_PER_AGENT).clamp(1, AGENTS_MAX);
    let on_each = u64::try_from(tasks.div_ceil(agents)).unwrap_or(u64::MAX);
    Simulate {
        tasks,
        agents,
        instance_cpu: args.instance_cpu.max(on_each * ROOM * args.task_cpu),
        instance_memory: args.instance_memory.max(on_each * ROOM * args.task_memory),
        ..args.clone()
    }
}

fn cells(report: &Report) -> [String; COLUMNS.len()] {
    let Report { tasks, agents, .. } = *report;
    let (before, after) = report.region.unwrap_or_default();
    let (stop_before, stop_after) = report.stopping.unwrap_or_default();
    let (answered, back) = report.restarted.unwrap_or_default();
    let cpu = |before: Usage, after: Usage| after.cpu.saturating_sub(before.cpu);
    let bytes = |before: u64, after: u64| kilo(each(after.saturating_sub(before), tasks));
    let all = u64::try_from(tasks).unwrap_or(u64::MAX);
    [
        tasks.to_string(),
        agents.to_string(),
        rate(all, report.running_in).to_string(),
        micros(cpu(before, after), tasks),
        bytes(before.written_bytes, after.written_bytes),
        rate(report.stopped, report.stopped_in).to_string(),
        micros(cpu(stop_before, stop_after), tasks),
        bytes(stop_before.written_bytes, stop_after.written_bytes),
        bytes(before.resident_bytes, after.resident_bytes),
        ms(answered),
        ms(back),
        bytes(before.resident_bytes, stop_before.resident_bytes),
    ]
}

fn kilo(bytes: u64) -> String {
    format!("{}.{} KB", bytes / 1_000, bytes % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_host_has_room_for_its_share_of_the_tasks() {
        let words = ["longshore", "simulate", "--curve", "10000,1000000"];
        let Command::Simulate(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("another command");
        };
        let sizes: Vec<_> = args.curve.iter().map(|tasks| of_size(&args, *tasks)).collect();
        assert_eq!((sizes[0].agents, sizes[1].agents), (200, 5_000));
        for each in &sizes {
            let room = each.instance_cpu / each.task_cpu * each.agents as u64;
            assert!(each.tasks as u64 <= room, "{}", each.tasks);
        }
    }
}
