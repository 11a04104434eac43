//! `longshore simulate`: a fleet of pretended hosts that drives a real region, to see what it bears.
//!
//! Only the containers are pretended. Agents register, hold their work sockets and report as real
//! ones do; tasks are asked for through the API; a task counts once its RUNNING is acknowledged.
//! **Invariant:** what a simulation made in a region that is not its own, it removes again, also
//! when it fails or is interrupted.

mod agent;
mod curve;
mod fleet;
mod load;
mod own_region;
mod recorder;
mod report;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use ::agent::FixedCredentials;
use ::agent::client::Api;
use indicatif::{ProgressBar, ProgressStyle};
use longshore_types::{Chain, OsIds, Uuid};
use nix::sys::resource::{Resource, getrlimit};
use tokio::time::{Instant, interval, sleep};
use trust::Trust;

use self::agent::FleetProfile;
use self::fleet::{BLOCKED_AFTER, Fleet, Target, files_needed};
use self::load::{Load, shares};
use self::own_region::OwnRegion;
use self::recorder::Recorder;
use self::report::Report;
use self::usage::Usage;
use crate::cli::Simulate;
use crate::commands::Environment;
use crate::error::Error;
use crate::signals;

pub(crate) use self::load::strategy;

/// How often progress is shown, and waiting looked at.
const TICK: Duration = Duration::from_millis(50);

pub(crate) async fn run(environment: &Environment, args: &Simulate) -> Result<(), Error> {
    if !args.curve.is_empty() {
        return curve::run(environment, args).await;
    }
    let restart = if args.restart { Restart::Yes } else { Restart::No };
    println!("{}", measure(environment, args, restart).await?);
    Ok(())
}

/// Whether the region is ended and started again while all tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restart {
    Yes,
    No,
}

/// One simulation from beginning to end.
async fn measure(
    environment: &Environment,
    args: &Simulate,
    restart: Restart,
) -> Result<Report, Error> {
    check(args)?;
    let own = match &args.endpoint {
        None => Some(OwnRegion::start(&environment.program, args.tls).await?),
        Some(_) => None,
    };
    let target = match &own {
        Some(own) => own.target.clone(),
        None => named_target(environment, args)?,
    };
    let mut simulation = Simulation::new(args, target, own);
    let driven = tokio::select! {
        driven = simulation.drive(restart) => driven,
        () = signals::stop() => Err(Error::message("interrupted")),
    };
    let report = match driven {
        Ok(report) => report,
        Err(error) => {
            simulation.give_up().await;
            return Err(error);
        }
    };
    let cleaned = tokio::select! {
        cleaned = simulation.clean() => cleaned,
        () = signals::stop() => Err(Error::message("interrupted while cleaning up")),
    };
    let (stopped, stopped_in, stopping) = match cleaned {
        Ok(stopped) => stopped,
        Err(error) => {
            simulation.give_up().await;
            return Err(error);
        }
    };
    simulation.end().await;
    Ok(Report { stopped, stopped_in, stopping, ..report })
}

/// Says beforehand what would fail later.
fn check(args: &Simulate) -> Result<(), Error> {
    let each = (args.instance_cpu / args.task_cpu).min(args.instance_memory / args.task_memory);
    let (tasks, agents) = (args.tasks as u64, args.agents as u64);
    if each.saturating_mul(agents) < tasks {
        let hint = match tasks.div_ceil(each.max(1)) {
            _ if each == 0 => "give larger instances or smaller tasks".to_owned(),
            needed => format!("give --agents {needed}, larger instances or smaller tasks"),
        };
        return Err(Error::message(format!(
            "{tasks} tasks do not fit: {agents} agents hold {each} each; {hint}"
        )));
    }
    let needed = files_needed(args.agents);
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::other("read limits"))?;
    if limit < needed {
        return Err(Error::message(format!(
            "{agents} agents need {needed} open files, and the limit is {limit}; raise it with \
             `ulimit -n {needed}`"
        )));
    }
    Ok(())
}

fn named_target(environment: &Environment, args: &Simulate) -> Result<Target, Error> {
    let endpoint = args.endpoint.clone().unwrap_or_default();
    let credentials = environment.aws_credentials.clone().ok_or_else(|| {
        Error::message(
            "no keys for the region: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as \
             `longshore env` prints them",
        )
    })?;
    let named = environment.aws_region.as_deref().map(str::parse).transpose();
    let named = named.map_err(Error::other("read AWS_REGION"))?;
    let region = args.region.clone().or(named).ok_or_else(|| {
        Error::message("no name of the region: set AWS_REGION, as `longshore env` prints it")
    })?;
    let trust = Trust::system();
    Ok(Target { endpoint, region, credentials: FixedCredentials(credentials), trust })
}

/// What the simulation made in the region, to be removed again.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    cluster: bool,
    definition: bool,
    service: bool,
}

/// How many tasks, in what time, and what the region had used before and after.
type Stopped = (u64, Duration, Option<(Usage, Usage)>);

struct Simulation<'a> {
    args: &'a Simulate,
    target: Target,
    own: Option<OwnRegion>,
    api: Api,
    load: Load,
    recorder: Arc<Recorder>,
    fleet: Fleet,
    made: Made,
}

impl<'a> Simulation<'a> {
    fn new(args: &'a Simulate, target: Target, own: Option<OwnRegion>) -> Self {
        let tag: String = Uuid::mint(&OsIds).to_string().chars().take(8).collect();
        let name = format!("simulate-{tag}");
        let load = Load {
            cluster: args.cluster.as_ref().map_or_else(|| name.clone(), ToString::to_string),
            is_own_cluster: args.cluster.is_none(),
            name,
            cpu: args.task_cpu,
            memory_mib: args.task_memory,
            strategies: args.strategy.clone(),
        };
        Self {
            args,
            api: target.api(),
            target,
            own,
            load,
            recorder: Arc::default(),
            fleet: Fleet::default(),
            made: Made::default(),
        }
    }

    /// Everything up to and including the hold.
    async fn drive(&mut self, restart: Restart) -> Result<Report, Error> {
        let Simulate { agents, tasks, hold, .. } = *self.args;
        if self.load.is_own_cluster {
            let created = self.load.create_cluster(&self.api).await;
            created.map_err(Error::other("create a cluster"))?;
            self.made.cluster = true;
        }
        let registered = self.load.register_definition(&self.api).await;
        registered.map_err(Error::other("register a task definition"))?;
        self.made.definition = true;
        let (began, alone) = (Instant::now(), self.region_usage());
        self.join().await?;
        let joined_in = began.elapsed();
        let joining = alone.zip(self.region_usage());
        let before = (self.region_usage(), Usage::of(std::process::id()));
        let began = Instant::now();
        self.bring_up(began).await?;
        let last = self.recorder.last_running().unwrap_or(began);
        let after = (self.region_usage(), Usage::of(std::process::id()));
        let counted = self.load.counted(&self.api).await;
        let counted = counted.map_err(Error::other("ask for the cluster's counts"))?;
        if self.load.is_own_cluster && counted < tasks as u64 {
            return Err(Error::message(format!(
                "the region acknowledged {tasks} tasks as RUNNING, and counts {counted}"
            )));
        }
        let held = self.hold(Duration::from_secs(hold)).await;
        let restarted = match restart {
            Restart::Yes => self.restart().await?,
            Restart::No => None,
        };
        Ok(Report {
            held,
            restarted,
            agents,
            joined_in,
            joining,
            reconnects: self.recorder.reconnect_count(),
            tasks,
            by: self.by(),
            calls: Some(self.recorder.calls()).filter(|calls| calls.count > 0),
            to_running: self.recorder.to_running(),
            running_in: last - began,
            region: before.0.zip(after.0),
            own_cpu: after.1.cpu.saturating_sub(before.1.cpu),
            ..Report::default()
        })
    }

    /// Keeps everything as it is, and says what share of a core the region took for that.
    async fn hold(&self, hold: Duration) -> Option<(Duration, f64)> {
        let before = self.region_usage();
        sleep(hold).await;
        let (before, after) = before.zip(self.region_usage())?;
        let cpu = after.cpu.saturating_sub(before.cpu);
        (!hold.is_zero()).then(|| (hold, cpu.as_secs_f64() / hold.as_secs_f64()))
    }

    /// Ends our own region and starts it again. Says how long it took until it answered, and until every
    /// agent was back.
    async fn restart(&mut self) -> Result<Option<(Duration, Duration)>, Error> {
        let Some(own) = &mut self.own else { return Ok(None) };
        let took = own.restart().await?;
        let began = Instant::now();
        let bar = bar("agents", self.args.agents);
        self.wait(&bar, Recorder::connected_count, self.args.agents as u64).await?;
        bar.finish_and_clear();
        Ok(Some((took, began.elapsed())))
    }

    async fn join(&mut self) -> Result<(), Error> {
        let Simulate { agents, .. } = *self.args;
        let profile = FleetProfile {
            cluster: self.load.cluster.clone(),
            cpu: self.args.instance_cpu,
            memory_mib: self.args.instance_memory,
            start: Duration::from_millis(self.args.start_ms),
            pulls: self.args.pull,
        };
        let bar = bar("agents", agents);
        let progress = |joined: usize| bar.set_position(joined as u64);
        let profile = Arc::new(profile);
        self.fleet.join(&self.target, &self.recorder, &profile, agents, progress).await?;
        let all = agents as u64;
        self.wait(&bar, |recorder| recorder.connected_count().min(all), all).await?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Asks for the tasks, and waits until all are acknowledged as running.
    async fn bring_up(&mut self, began: Instant) -> Result<(), Error> {
        let Simulate { tasks, count_per_call, connections, service, .. } = *self.args;
        let bar = bar("RUNNING", tasks);
        if service {
            self.made.service = true;
            let created = self.load.create_services(&self.api, tasks).await;
            created.map_err(Error::other("create a service"))?;
        } else {
            let run = self.load.run_tasks(
                &self.target,
                &self.recorder,
                tasks,
                count_per_call,
                connections,
            );
            let mut run = std::pin::pin!(run);
            let mut tick = interval(TICK);
            loop {
                tokio::select! {
                    ran = &mut run => break ran?,
                    _ = tick.tick() => bar.set_position(self.recorder.running_count()),
                }
            }
        }
        if let Err(error) = self.wait(&bar, Recorder::running_count, tasks as u64).await {
            return Err(self.explained(error).await);
        }
        self.recorder.accept_all(began);
        bar.finish_and_clear();
        Ok(())
    }

    /// Waits until `count` is as large as wanted, for as long as it still grows.
    async fn wait(
        &self,
        bar: &ProgressBar,
        count: impl Fn(&Recorder) -> u64,
        wanted: u64,
    ) -> Result<(), Error> {
        let (mut best, mut grew_at) = (0, Instant::now());
        loop {
            let now = count(&self.recorder);
            bar.set_position(now);
            if wanted <= now {
                return Ok(());
            }
            if best < now {
                (best, grew_at) = (now, Instant::now());
            }
            if BLOCKED_AFTER <= grew_at.elapsed() {
                return Err(Error::message(format!(
                    "nothing moved for {} s: {now} of {wanted} {}",
                    BLOCKED_AFTER.as_secs(),
                    bar.message()
                )));
            }
            sleep(TICK).await;
        }
    }

    /// Adds what the service last said of itself.
    async fn explained(&self, error: Error) -> Error {
        if !self.made.service {
            return error;
        }
        match self.load.last_event(&self.api).await {
            Ok(Some(event)) => Error::message(format!("{error}; the service says: {event}")),
            Ok(None) | Err(_) => error,
        }
    }

    fn region_usage(&self) -> Option<Usage> {
        self.own.as_ref().map(OwnRegion::usage)
    }

    fn by(&self) -> String {
        let Simulate { count_per_call, connections, service, tasks, .. } = *self.args;
        if service {
            match shares(tasks).count() {
                1 => "as one service".to_owned(),
                several => format!("as {several} services"),
            }
        } else {
            format!("by RunTask, {count_per_call} a call over {connections} connections")
        }
    }

    /// Stops the tasks, and removes what was made. Says how many tasks stopped, how fast, and what the
    /// region had used before and after.
    async fn clean(&mut self) -> Result<Stopped, Error> {
        let stopped = self.stop_tasks().await?;
        let left = self.fleet.leave(&self.api, &self.load.cluster).await;
        left.map_err(Error::other("deregister the agents"))?;
        if std::mem::take(&mut self.made.definition) {
            let deleted = self.load.delete_definition(&self.api).await;
            deleted.map_err(Error::other("delete the task definition"))?;
        }
        if std::mem::take(&mut self.made.cluster) {
            let deleted = self.load.delete_cluster(&self.api).await;
            deleted.map_err(Error::other("delete the cluster"))?;
        }
        Ok(stopped)
    }

    async fn stop_tasks(&mut self) -> Result<Stopped, Error> {
        let before = self.region_usage();
        let began = Instant::now();
        if std::mem::take(&mut self.made.service) {
            let deleted = self.load.delete_services(&self.api, self.args.tasks).await;
            deleted.map_err(Error::other("delete the service"))?;
        }
        let running = self.load.running(&self.api).await;
        let running = running.map_err(Error::other("list the tasks"))?;
        let wanted = self.recorder.running_count();
        let bar = bar("STOPPED", usize::try_from(wanted).unwrap_or(usize::MAX));
        {
            let stop = self.load.stop(&self.api, running);
            let mut stop = std::pin::pin!(stop);
            let mut tick = interval(TICK);
            loop {
                tokio::select! {
                    stopped = &mut stop => break stopped.map_err(Error::other("stop the tasks"))?,
                    _ = tick.tick() => bar.set_position(self.recorder.stopped_count()),
                }
            }
        }
        self.wait(&bar, Recorder::stopped_count, wanted).await?;
        bar.finish_and_clear();
        let last = self.recorder.last_stopped().unwrap_or(began);
        let took = last.saturating_duration_since(began);
        Ok((self.recorder.stopped_count(), took, before.zip(self.region_usage())))
    }

    /// After a failure: removes what can be removed, and says what could not.
    async fn give_up(&mut self) {
        if let Some(own) = self.own.take() {
            own.stop().await;
            return;
        }
        eprintln!("removing what was made in the region; interrupt again to leave it");
        tokio::select! {
            cleaned = self.clean() => {
                if let Err(error) = cleaned {
                    eprintln!("longshore: left in cluster {}: {}", self.load.cluster, Chain(&error));
                }
            }
            () = signals::stop() => eprintln!("longshore: left in cluster {}", self.load.cluster),
        }
    }

    async fn end(&mut self) {
        if let Some(own) = self.own.take() {
            own.stop().await;
        }
    }
}

fn bar(what: &'static str, of: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:14} {bar:30} {human_pos:>10}/{human_len:<10} {per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(of as u64).with_style(style).with_message(what)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> Simulate {
        let words = ["longshore", "simulate"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Simulate(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tasks_that_cannot_fit_are_refused_before_anything_starts() {
        let text = check(&args("--agents 2 --tasks 300")).unwrap_err().to_string();
        assert_eq!(
            text,
            "300 tasks do not fit: 2 agents hold 128 each; give --agents 3, larger instances or \
             smaller tasks"
        );
        let large = args("--agents 1 --tasks 1 --task-memory 100000");
        let text = check(&large).unwrap_err().to_string();
        assert!(text.ends_with("give larger instances or smaller tasks"), "{text}");
        assert!(check(&args("--agents 3 --tasks 300")).is_ok());
    }

    #[test]
    fn a_region_of_others_is_entered_with_keys_only() {
        let environment = Environment {
            is_root: false,
            home: None,
            xdg_data_home: None,
            aws_config_file: None,
            aws_credentials_file: None,
            aws_credentials: None,
            aws_region: None,
            search_path: None,
            program: "longshore".into(),
        };
        let named = args("--endpoint http://127.0.0.1:1");
        let text = named_target(&environment, &named).unwrap_err().to_string();
        assert!(text.contains("AWS_ACCESS_KEY_ID") && text.contains("longshore env"), "{text}");
    }
}
