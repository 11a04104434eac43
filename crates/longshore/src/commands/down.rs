//! `longshore down`: stops what `longshore up` started, and by default the tasks too.
//!
//! Tasks are stopped the polite way first, through the API, so that their exit codes are known.
//! What is left when their time is up is killed, and every interface, mount and group of this data
//! directory is removed. `--keep-tasks` only ends the processes; the next `up` finds the tasks again.

use std::time::Duration;

use ecs_api as ecs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::cli::Down;
use crate::commands::{Environment, agent, connect};
use crate::data_dir::{DataDir, Role};
use crate::error::Error;
use crate::logging::tell;
use crate::tasks;

/// How long tasks have to end by themselves.
const TASKS_MAX: Duration = Duration::from_secs(10);
/// How long processes have to end by themselves.
const PROCESSES_MAX: Duration = Duration::from_secs(30);
/// How long the kernel has to end a process that was killed.
const KILLED_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

pub(crate) async fn run(
    data: &DataDir,
    environment: &Environment,
    args: Down,
) -> Result<(), Error> {
    let was_running = Role::ALL.iter().any(|role| data.holder(*role).is_some());
    if was_running && !args.keep_tasks && data.holder(Role::Agent).is_some() {
        // A region that does not answer is no reason to leave its processes running.
        match tokio::time::timeout(2 * TASKS_MAX, stop_tasks(data)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tell!("tasks could not be stopped through the API: {error}"),
            Err(_) => tell!("tasks could not be stopped through the API: it does not answer"),
        }
    }
    // The supervisor first: it ends its children, and does not start them again.
    let mut ended = Ok(());
    for role in Role::ALL {
        // One that cannot be ended is no reason to leave the others.
        ended = ended.and(end(data, role).await);
    }
    if !args.keep_tasks {
        ended = ended.and(agent::clean(data, environment).await);
    }
    ended?;
    println!("{}", if was_running { "stopped" } else { "nothing was running" });
    Ok(())
}

/// Asks for every task of the root account to stop, and waits for them a while.
async fn stop_tasks(data: &DataDir) -> Result<(), Error> {
    let client = connect(data)?;
    let running = tasks::all(&client, false).await?;
    for task in &running {
        let input = ecs::StopTaskRequest {
            cluster: task.cluster_arn.clone(),
            task: task.task_arn.clone(),
            reason: Some("The region was stopped with longshore down".to_owned()),
        };
        let _: ecs::StopTaskResponse = client.ecs("StopTask", &input).await?;
    }
    let end = Instant::now() + TASKS_MAX;
    // Of those whose host's agent is away nobody will say that they have ended.
    let is_told = |task: &&ecs::Task| task.connectivity != Some(ecs::Connectivity::Disconnected);
    let clusters = running
        .iter()
        .filter(is_told)
        .filter_map(|task| Some((task.cluster_arn.clone()?, task.task_arn.clone()?)));
    for (cluster, arn) in clusters {
        while Instant::now() < end {
            let found = tasks::describe(&client, &cluster, std::slice::from_ref(&arn)).await?;
            if found.first().is_none_or(|task| tasks::status(task) == "STOPPED") {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// Ends the process that has a role: by SIGTERM, and by SIGKILL if it takes too long.
pub(super) async fn end(data: &DataDir, role: Role) -> Result<(), Error> {
    let limit = Instant::now() + PROCESSES_MAX;
    let mut asked = None;
    while let Some(pid) = data.holder(role) {
        let target = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
        if asked != Some(pid) {
            if let Err(error) = kill(target, Signal::SIGTERM)
                && error == nix::errno::Errno::EPERM
            {
                let text =
                    format!("may not stop the {} (pid {pid}): run this as its user", role.name());
                return Err(Error::message(text));
            }
            asked = Some(pid);
        }
        if Instant::now() >= limit {
            let _ = kill(target, Signal::SIGKILL);
        }
        if Instant::now() >= limit + KILLED_MAX {
            let text = format!(
                "the {} (pid {pid}) was killed and does not end: it may wait for a disk that does \
                 not answer",
                role.name()
            );
            return Err(Error::message(text));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Environment {
        Environment {
            is_root: false,
            home: None,
            xdg_data_home: None,
            aws_config_file: None,
            aws_credentials_file: None,
            aws_credentials: None,
            aws_region: None,
            search_path: None,
            program: "/bin/false".into(),
        }
    }

    #[tokio::test]
    async fn nothing_to_stop_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        run(&data, &nobody(), Down { keep_tasks: false }).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_is_asked_once_and_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        // A stand-in that holds the region's lock as a region does, through flock(1).
        let lock = dir.path().join("region.lock");
        let script = format!(
            "exec 9>{0}; flock 9; echo $$ >&9; trap 'exit 0' TERM; while :; do sleep 0.01; done",
            lock.display()
        );
        let mut child =
            std::process::Command::new("/bin/bash").args(["-c", &script]).spawn().unwrap();
        while data.holder(Role::Region) != Some(child.id()) {
            tokio::time::sleep(POLL).await;
        }
        run(&data, &nobody(), Down { keep_tasks: true }).await.unwrap();
        assert!(child.wait().unwrap().success());
    }
}
