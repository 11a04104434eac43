//! Keeps child processes running: starts them, starts them again when they die, stops them in order.
//!
//! It knows nothing of what they do. A child that ends with [`EXIT_REFUSED`] at its first start has
//! said why it cannot run: if it is essential, all are stopped; otherwise it is asked again now and
//! then. Once it has run, whatever ends it may pass, and it is always started again. The pause before
//! a restart doubles while a child keeps dying, and is forgotten once it has lived for a while.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::error::{EXIT_REFUSED, Error};
use crate::logging::open_log;

/// One process to keep running.
#[derive(Clone, Debug)]
pub(crate) struct ChildSpec {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// What it is not to have of our own environment.
    pub(crate) without: &'static [&'static str],
    /// Where its output goes; without one, where ours goes.
    pub(crate) log: Option<PathBuf>,
    /// Whether all end if this one refuses to run.
    pub(crate) is_essential: bool,
    /// Whether it runs on when the supervisor becomes another program, which has one of its own take over from it.
    pub(crate) outlives: bool,
}

/// Why the supervisor ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All end.
    Stop,
    /// It becomes another program.
    Replace,
}

/// How patient the supervisor is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) pause_min: Duration,
    pub(crate) pause_max: Duration,
    /// How long after a child that is not essential refused to run it is asked again.
    pub(crate) refused: Duration,
    /// After living this long, a child is taken for healthy.
    pub(crate) healthy: Duration,
    /// How long a child may take to end when asked to.
    pub(crate) stop: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(1),
            refused: Duration::from_secs(10),
            healthy: Duration::from_millis(500),
            stop: Duration::from_secs(20),
        }
    }
}

/// What became of one child, for whoever waits.
#[derive(Debug)]
enum Report {
    /// It refused to run.
    Refused { name: &'static str, is_essential: bool },
    /// It was told to stop and has.
    Stopped,
}

/// Keeps `children` running until `stop` completes, whose answer is given back, or an essential one refuses to run. Children
/// are stopped one after the other, the last first.
pub(crate) async fn run(
    children: Vec<ChildSpec>,
    patience: Patience,
    stop: impl Future<Output = Ending>,
) -> Result<Ending, Error> {
    let (reports, mut inbox) = mpsc::channel(children.len().max(1));
    let mut keepers = Vec::new();
    for spec in children {
        let (tell, told) = watch::channel(None);
        #[expect(clippy::disallowed_methods, reason = "waited for below, when it was told to end")]
        let task = tokio::spawn(always(spec, patience, told, reports.clone()));
        keepers.push((tell, task));
    }
    tokio::pin!(stop);
    let ending = loop {
        tokio::select! {
            asked = &mut stop => break Ok(asked),
            report = inbox.recv() => match report {
                Some(Report::Refused { name, is_essential: true }) => {
                    break Err(Error::Refused(format!("the {name} cannot run; it says why above")));
                }
                Some(Report::Refused { name, .. }) => {
                    warn!(child = name, "going on without it; it is asked again now and then");
                }
                Some(Report::Stopped) | None => {}
            },
        }
    };
    for (tell, task) in keepers.into_iter().rev() {
        let _ = tell.send(Some(*ending.as_ref().unwrap_or(&Ending::Stop)));
        let _ = task.await;
    }
    ending
}

/// Keeps one child, even if whoever does panics: nobody else would start it again.
async fn always(
    spec: ChildSpec,
    patience: Patience,
    stop: watch::Receiver<Option<Ending>>,
    reports: mpsc::Sender<Report>,
) {
    loop {
        let keeping = keep(spec.clone(), patience, stop.clone(), reports.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "waited for at once: a panic of it is contained"
        )]
        match tokio::spawn(keeping).await {
            Ok(()) => return,
            Err(failed) => error!(child = spec.name, error = %failed, "its keeper failed"),
        }
        tokio::time::sleep(patience.pause_max).await;
    }
}

/// Keeps one child running until told to stop it.
async fn keep(
    spec: ChildSpec,
    patience: Patience,
    mut stop: watch::Receiver<Option<Ending>>,
    reports: mpsc::Sender<Report>,
) {
    let mut pause = patience.pause_min;
    let mut has_run = false;
    loop {
        let started = Instant::now();
        match spawn(&spec) {
            Ok(mut child) => {
                info!(child = spec.name, pid = child.id(), "child started");
                let status = tokio::select! {
                    status = child.wait() => status.ok(),
                    ending = told(&mut stop) => {
                        if spec.outlives && ending == Ending::Replace {
                            // It is a child of this process still, whatever program that becomes.
                            std::mem::forget(child);
                        } else {
                            end(&spec, &mut child, patience.stop).await;
                        }
                        let _ = reports.try_send(Report::Stopped);
                        return;
                    }
                };
                has_run |= started.elapsed() >= patience.healthy;
                if has_refused(status) && !has_run {
                    let (name, is_essential) = (spec.name, spec.is_essential);
                    // One that is full has told already.
                    let _ = reports.try_send(Report::Refused { name, is_essential });
                    if is_essential {
                        return;
                    }
                    pause = patience.refused;
                }
                let status = status.map_or_else(|| "unknown".to_owned(), |s| s.to_string());
                warn!(child = spec.name, %status, "child ended, starting it again");
            }
            Err(why) => error!(child = spec.name, error = %why, "child could not be started"),
        }
        if started.elapsed() >= patience.healthy {
            pause = patience.pause_min;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = told(&mut stop) => return,
        }
        pause = (pause.min(patience.pause_max) * 2).min(patience.pause_max);
    }
}

/// Completes once the child is to stop; a supervisor that is gone says the same.
async fn told(stop: &mut watch::Receiver<Option<Ending>>) -> Ending {
    stop.wait_for(Option::is_some).await.ok().and_then(|told| *told).unwrap_or(Ending::Stop)
}

fn has_refused(status: Option<ExitStatus>) -> bool {
    status.and_then(|status| status.code()) == Some(i32::from(EXIT_REFUSED))
}

fn spawn(spec: &ChildSpec) -> std::io::Result<Child> {
    let mut command = Command::new(&spec.program);
    for name in spec.without {
        command.env_remove(name);
    }
    command.args(&spec.args).envs(spec.env.iter().cloned()).stdin(Stdio::null());
    // A keeper that panics must not leave a child behind that nobody waits for.
    command.kill_on_drop(true);
    if let Some(path) = &spec.log {
        match open_log(path).and_then(|log| Ok((log.try_clone()?, log))) {
            Ok((out, err)) => command.stdout(out).stderr(err),
            // A disk without room for a log may have room for what is to be kept: the child tries
            // again by itself.
            Err(why) => {
                warn!(child = spec.name, error = %why, "its log could not be opened");
                command.stdout(Stdio::null()).stderr(Stdio::null())
            }
        };
    }
    command.spawn()
}

/// Asks the child to end, and makes it if it does not.
async fn end(spec: &ChildSpec, child: &mut Child, limit: Duration) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
    // An error means that it ended by itself, which the wait below finds.
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(_) => info!(child = spec.name, "child stopped"),
        Err(_) => {
            warn!(child = spec.name, "child did not end in time and is killed");
            let _ = child.kill().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(name: &'static str, script: &str) -> ChildSpec {
        ChildSpec {
            name,
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            without: &[],
            log: None,
            is_essential: true,
            outlives: false,
        }
    }

    async fn stopped(stop: impl Future<Output = ()>) -> Ending {
        stop.await;
        Ending::Stop
    }

    fn hasty() -> Patience {
        Patience {
            pause_min: Duration::from_millis(1),
            pause_max: Duration::from_millis(8),
            refused: Duration::from_millis(5),
            healthy: Duration::from_secs(1),
            stop: Duration::from_millis(300),
        }
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
        for _ in 0..4000 {
            if is_true() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("never: {what}");
    }

    #[tokio::test]
    async fn a_child_that_dies_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("starts");
        let child = shell("child", &format!("echo $$ >> {}; exit 1", file.display()));
        let seen = file.clone();
        let stop = async move { until("three starts", || lines(&seen).len() >= 3).await };
        run(vec![child], hasty(), stopped(stop)).await.unwrap();
        let mut pids = lines(&file);
        pids.sort();
        pids.dedup();
        assert!(pids.len() >= 3, "{pids:?}");
    }

    #[tokio::test]
    async fn a_child_does_not_have_what_it_is_to_do_without() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("environment");
        let script = format!(
            "echo ${{CARGO_PKG_NAME-none}} ${{CARGO_MANIFEST_DIR-none}} >> {}; exit 1",
            file.display()
        );
        let mut child = shell("child", &script);
        child.without = &["CARGO_MANIFEST_DIR"];
        let seen = file.clone();
        let stop = async move { until("a start", || !lines(&seen).is_empty()).await };
        run(vec![child], hasty(), stopped(stop)).await.unwrap();
        assert_eq!(lines(&file)[0], format!("{} none", env!("CARGO_PKG_NAME")));
    }

    #[tokio::test]
    async fn children_are_stopped_by_sigterm_the_last_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("order");
        let script = |name: &str| {
            let path = file.display();
            format!(
                "trap 'echo {name} ended >> {path}; exit 0' TERM; echo {name} up >> {path}; \
                 while :; do sleep 0.01; done"
            )
        };
        let children = vec![shell("first", &script("first")), shell("second", &script("second"))];
        let seen = file.clone();
        let stop = async move { until("both up", || lines(&seen).len() >= 2).await };
        run(children, hasty(), stopped(stop)).await.unwrap();
        assert_eq!(lines(&file)[2..], ["second ended", "first ended"]);
    }

    #[tokio::test]
    async fn a_child_that_outlives_the_program_is_left_running_by_no_other_end() {
        let dir = tempfile::tempdir().unwrap();
        for (ending, is_left) in [(Ending::Replace, true), (Ending::Stop, false)] {
            let file = dir.path().join(format!("{ending:?}"));
            let mut child =
                shell("balancer", &format!("echo $$ > {}; exec sleep 1000", file.display()));
            child.outlives = true;
            let seen = file.clone();
            let stop = async move {
                until("up", || !lines(&seen).is_empty()).await;
                ending
            };
            assert_eq!(run(vec![child], hasty(), stop).await.unwrap(), ending);
            let pid = Pid::from_raw(lines(&file)[0].parse().unwrap());
            assert_eq!(kill(pid, None).is_ok(), is_left);
            if is_left {
                kill(pid, Signal::SIGKILL).unwrap();
                nix::sys::wait::waitpid(pid, None).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_child_that_ignores_sigterm_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("trap '' TERM; echo $$ > {}; exec sleep 1000", file.display());
        let seen = file.clone();
        let stop = async move { until("up", || !lines(&seen).is_empty()).await };
        run(vec![shell("stubborn", &script)], hasty(), stopped(stop)).await.unwrap();
        let pid: i32 = lines(&file)[0].parse().unwrap();
        assert!(kill(Pid::from_raw(pid), None).is_err(), "it is gone");
    }

    #[tokio::test]
    async fn an_essential_child_that_refuses_to_run_ends_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("starts");
        let refusing = format!("echo x >> {}; exit {EXIT_REFUSED}", file.display());
        let children = vec![shell("region", &refusing), shell("agent", "exec sleep 1000")];
        let ended = run(children, hasty(), std::future::pending()).await;
        assert!(ended.unwrap_err().to_string().contains("region"));
        assert_eq!(lines(&file).len(), 1, "it was not started again");
    }

    #[tokio::test]
    async fn the_rest_goes_on_without_a_child_that_is_not_essential() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("up");
        let mut agent = shell("agent", &format!("exit {EXIT_REFUSED}"));
        agent.is_essential = false;
        let region =
            shell("region", &format!("sleep 0.05; echo up > {}; exec sleep 1000", file.display()));
        let seen = file.clone();
        let stop = async move { until("up", || !lines(&seen).is_empty()).await };
        run(vec![region, agent], hasty(), stopped(stop)).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_is_not_essential_is_asked_again_after_it_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("starts");
        let script = format!("echo x >> {}; exit {EXIT_REFUSED}", file.display());
        let mut agent = shell("agent", &script);
        agent.is_essential = false;
        let seen = file.clone();
        let stop = async move { until("three starts", || lines(&seen).len() >= 3).await };
        run(vec![agent], hasty(), stopped(stop)).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_has_run_is_started_again_whatever_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("starts");
        let script = format!("echo x >> {}; sleep 0.02; exit {EXIT_REFUSED}", file.display());
        let mut patience = hasty();
        patience.healthy = Duration::from_millis(10);
        let seen = file.clone();
        let stop = async move { until("three starts", || lines(&seen).len() >= 3).await };
        run(vec![shell("region", &script)], patience, stopped(stop)).await.unwrap();
    }

    #[tokio::test]
    async fn a_child_whose_log_cannot_be_opened_runs_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("up");
        let mut child = shell("child", &format!("echo up > {}; exec sleep 1000", file.display()));
        child.log = Some(dir.path().join("no/such/directory.log"));
        let seen = file.clone();
        let stop = async move { until("up", || !lines(&seen).is_empty()).await };
        run(vec![child], hasty(), stopped(stop)).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_child_says_goes_to_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("child.log");
        let mut child = shell("child", "echo out; echo err >&2; exec sleep 1000");
        child.log = Some(log.clone());
        let seen = log.clone();
        let stop = async move { until("both lines", || lines(&seen).len() >= 2).await };
        run(vec![child], hasty(), stopped(stop)).await.unwrap();
        assert_eq!(lines(&log), ["out", "err"]);
    }
}
