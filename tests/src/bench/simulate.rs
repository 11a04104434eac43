//! Tasks to RUNNING a second through API, SQLite and a thousand simulated agents: what
//! `longshore simulate` says.

use std::io;
use std::process::Command;

use crate::report::Report;
use crate::world::World;

const AGENTS: &str = "1000";
const TASKS: &str = "20000";
/// What [`growth`] measures every day, and when it is asked for the whole: a million takes half an hour and
/// gigabytes of memory and disk.
pub(crate) const SIZES: &str = "10000,20000,50000,100000";
pub(crate) const SIZES_TO_A_MILLION: &str = "10000,30000,100000,300000,1000000";
const CONNECTED: [&str; 2] = ["1000", "5000"];
/// The best of so many runs: whatever else the machine does only takes away.
const RUNS: usize = 3;

/// Runs simulations with regions of their own; the one in `world` is idle meanwhile.
pub(crate) fn tasks_to_running(world: &World, report: &mut Report) -> io::Result<()> {
    let mut best: Option<(f64, String)> = None;
    for _ in 0..RUNS {
        let text = simulate(&world.binary, &["--agents", AGENTS, "--tasks", TASKS])?;
        let rate = rate(&text)?;
        if best.as_ref().is_none_or(|(before, _)| *before < rate) {
            best = Some((rate, text));
        }
    }
    let (rate, text) = best.unwrap_or_default();
    let ours = format!(
        "{rate:.0}/s, accepted → RUNNING {}; region {}",
        line(&text, "accepted → RUNNING"),
        line(&text, "region")
    );
    let what = format!("tasks to RUNNING a second, 1,000 simulated agents, {TASKS} tasks");
    report.add(what, "≥ 4,000/s", ours, "–".into());
    Ok(())
}

/// What a task costs by how many there are, as the program prints it.
pub(crate) fn growth(world: &World, report: &mut Report, sizes: &str) -> io::Result<()> {
    let text = simulate(&world.binary, &["--curve", sizes])?;
    println!("{text}");
    let column = |at: usize| {
        let rows = text.lines().skip(2).filter_map(|row| row.split(" | ").nth(at));
        rows.collect::<Vec<_>>().join(", ")
    };
    for (at, what, target) in [
        (2, "to RUNNING a second", "alike"),
        (3, "region CPU a task to RUNNING", "alike"),
        (4, "written a task to RUNNING", "alike, ≤ 8 KB"),
        (5, "stopping a second", "as RUNNING"),
        (6, "region CPU a task to STOPPED", "alike"),
        (7, "written a task to STOPPED", "alike"),
        (8, "memory a task", "alike, ≤ 1.5 KiB"),
        (9, "started again in", "seconds"),
    ] {
        let what = format!("growth, {sizes} tasks: {what}");
        report.add(what, target, column(at), "–".into());
    }
    Ok(())
}

/// What agents cost that came by TLS and have little to do, and how soon they are back after the region was away.
pub(crate) fn agents_over_tls(world: &World, report: &mut Report) -> io::Result<()> {
    for agents in CONNECTED {
        let arguments =
            ["--tls", "--agents", agents, "--tasks", "100", "--hold", "60", "--restart"];
        let text = simulate(&world.binary, &arguments)?;
        println!("{text}");
        let what = format!("{agents} agents connected over TLS, an agent");
        report.add(what, "–", line(&text, "an agent"), "–".into());
        let what = format!("{agents} agents connected over TLS, held");
        report.add(what, "–", line(&text, "held for"), "–".into());
        let what = format!("{agents} agents over TLS, the region restarted");
        report.add(what, "≤ 5 s", line(&text, "restarted"), "–".into());
    }
    Ok(())
}

fn simulate(binary: &str, arguments: &[&str]) -> io::Result<String> {
    let done = Command::new(binary).arg("simulate").args(arguments).output()?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
}

/// What a line of the program's says behind its name.
fn line(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_default().trim().to_owned()
}

/// The number before `tasks/s` at the end of the last line.
fn rate(text: &str) -> io::Result<f64> {
    let last = text.lines().last().unwrap_or_default();
    let number = last.strip_suffix(" tasks/s").and_then(|rest| rest.rsplit(' ').next());
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("no rate in: {last}")))
}
