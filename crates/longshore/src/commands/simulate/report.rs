//! What a simulation came to, in lines for people; the last one ends in its rate.

use std::fmt;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use super::recorder::Spread;
use super::usage::Usage;

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) agents: usize,
    pub(super) joined_in: Duration,
    /// Of the region's process, if it is ours: before and after the agents joined.
    pub(super) joining: Option<(Usage, Usage)>,
    pub(super) reconnects: u64,
    pub(super) tasks: usize,
    /// How they were asked for.
    pub(super) by: String,
    pub(super) calls: Option<Spread>,
    pub(super) to_running: Spread,
    /// From the first call to the last acknowledged RUNNING.
    pub(super) running_in: Duration,
    /// Of the region's process, if it is ours: before and after the tasks came up.
    pub(super) region: Option<(Usage, Usage)>,
    /// How long everything was held, and the share of a core that the region took meanwhile.
    pub(super) held: Option<(Duration, f64)>,
    /// Of this process, which is all agents and all callers.
    pub(super) own_cpu: Duration,
    pub(super) stopped: u64,
    pub(super) stopped_in: Duration,
    /// Of the region's process, before and after the tasks stopped.
    pub(super) stopping: Option<(Usage, Usage)>,
    /// How long our own region, ended and started again, took to answer, and its agents to be back.
    pub(super) restarted: Option<(Duration, Duration)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = HumanCount(count(self.agents));
        write!(f, "agents             {agents} in 3 zones, joined in {}", ms(self.joined_in))?;
        match self.reconnects {
            0 => writeln!(f)?,
            again => writeln!(f, "; sessions lost and opened again: {again}")?,
        }
        if let Some((before, after)) = &self.joining {
            let cpu = after.cpu.saturating_sub(before.cpu);
            let memory = after.resident_bytes.saturating_sub(before.resident_bytes);
            writeln!(
                f,
                "an agent           {} of the region's memory; CPU {} to join",
                HumanBytes(each(memory, self.agents)),
                micros(cpu, self.agents)
            )?;
        }
        writeln!(f, "tasks              {} {}", HumanCount(count(self.tasks)), self.by)?;
        if let Some(calls) = &self.calls {
            let of = HumanCount(count(calls.count));
            writeln!(f, "RunTask answered   {} ({of} calls)", spread(calls))?;
        }
        writeln!(f, "accepted → RUNNING {}", spread(&self.to_running))?;
        if let Some((before, after)) = &self.region {
            let cpu = after.cpu.saturating_sub(before.cpu);
            writeln!(
                f,
                "region             {} resident, {} at most; CPU {}, {} a task; {} written a task",
                HumanBytes(after.resident_bytes),
                HumanBytes(after.resident_bytes_max),
                ms(cpu),
                micros(cpu, self.tasks),
                HumanBytes(each(after.written_bytes - before.written_bytes, self.tasks)),
            )?;
        }
        if let Some((held, share)) = self.held {
            let percent = share * 100.0;
            writeln!(f, "held for {:<9} region CPU {percent:.2} % of a core", ms(held))?;
        }
        if let Some((answered, back)) = self.restarted {
            let (answered, back) = (ms(answered), ms(back));
            writeln!(
                f,
                "restarted          answered after {answered}, every host back after {back}"
            )?;
        }
        let (all, each) = (ms(self.own_cpu), micros(self.own_cpu, self.tasks));
        writeln!(f, "agents and callers CPU {all}, {each} a task")?;
        let stopped = HumanCount(self.stopped);
        let rate = rate(self.stopped, self.stopped_in);
        writeln!(f, "stopped again      {stopped} in {}: {rate} a second", ms(self.stopped_in))?;
        let tasks = HumanCount(count(self.tasks));
        let rate = self::rate(count(self.tasks), self.running_in);
        write!(f, "{tasks} tasks RUNNING, durably, in {}: {rate} tasks/s", ms(self.running_in))
    }
}

pub(super) fn each(all: u64, tasks: usize) -> u64 {
    all / count(tasks.max(1))
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Short durations with their decimals, long ones in seconds.
pub(super) fn ms(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{:.1} ms", took.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", took.as_secs_f64())
    }
}

pub(super) fn micros(took: Duration, tasks: usize) -> String {
    let each = took.as_micros() / u128::try_from(tasks.max(1)).unwrap_or(u128::MAX);
    format!("{each} µs")
}

fn spread(spread: &Spread) -> String {
    format!("p50 {}, p99 {}", ms(spread.p50), ms(spread.p99))
}

/// Rounded down, so that no more is said than was seen.
pub(super) fn rate(count: u64, took: Duration) -> u128 {
    u128::from(count) * 1_000_000 / took.as_micros().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_ends_in_the_rate() {
        let report = Report {
            agents: 1_000,
            tasks: 10_000,
            by: "by RunTask".to_owned(),
            running_in: Duration::from_millis(2_500),
            region: Some((
                Usage::default(),
                Usage { cpu: Duration::from_secs(1), ..Usage::default() },
            )),
            joining: Some((
                Usage::default(),
                Usage {
                    resident_bytes: 40_960_000,
                    cpu: Duration::from_secs(2),
                    ..Usage::default()
                },
            )),
            held: Some((Duration::from_secs(60), 0.0125)),
            stopped: 10_000,
            stopped_in: Duration::from_secs(4),
            ..Report::default()
        };
        let text = report.to_string();
        let last = text.lines().last().unwrap();
        assert_eq!(last, "10,000 tasks RUNNING, durably, in 2.50 s: 4000 tasks/s");
        let joined = "an agent           40.00 KiB of the region's memory; CPU 2000 µs to join\n";
        assert!(text.contains(joined), "{text}");
        assert!(text.contains("100 µs a task"), "{text}");
        assert!(text.contains("held for 60.00 s   region CPU 1.25 % of a core\n"), "{text}");
        assert!(text.contains("2500 a second"), "{text}");
    }
}
