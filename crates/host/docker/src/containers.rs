//! A container's life: made, started, waited for, told, looked into, removed.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, KillContainerOptions, ListContainersOptions,
    ListVolumesOptions, RemoveContainerOptions, RemoveVolumeOptions, StatsOptions,
    WaitContainerOptions,
};
use futures_util::StreamExt as _;
use longshore_types::{Chain, Timestamp};
use sandbox::{
    ContainerId, ContainerSpec, ExecResult, ExecSpec, Exit, GroupId, Phase, Recovered,
    SandboxError, Started, Usage,
};
use tracing::{debug, warn};

use crate::Docker;
use crate::create::{self, GROUP_LABEL, RUN_LABEL, Surroundings};
use crate::error::{DockerError, is_missing, of_container};
use crate::logs::nanoseconds;
use crate::usage::{self, NetworkUse};

/// Until a container is looked at again that is not started yet, or an engine that does not answer.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// A removal that another began ends within this.
const REMOVED_MAX: Duration = Duration::from_secs(20);
/// And is looked at so often.
const REMOVED_PAUSE: Duration = Duration::from_millis(50);
/// Docker has no place for the code of a command that was ended for its time.
const EXIT_UNKNOWN: i32 = -1;

/// An endpoint that a container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub endpoint: String,
    pub address: Ipv4Addr,
    pub ports: Vec<create::Published>,
}

/// A container that runs, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Docker's own id of it, which its control group is called by.
    pub name: ContainerId,
    pub group: GroupId,
}

impl Docker {
    pub(crate) fn name(&self, id: &ContainerId) -> String {
        create::name_of(self.tag(), id.as_str())
    }

    /// Makes everything but the application itself.
    pub async fn create(
        &self,
        spec: &ContainerSpec,
        around: &Surroundings,
    ) -> Result<(), SandboxError> {
        let body = create::body(&self.config, spec, around)?;
        let options =
            CreateContainerOptions { name: Some(self.name(&spec.id)), ..Default::default() };
        let made = self.api.create_container(Some(options), body).await;
        let made = made.map_err(|error| of_container("create a container", &spec.id, error))?;
        for warning in made.warnings {
            warn!(container = %spec.id, warning, "Docker does not do all that was asked for");
        }
        Ok(())
    }

    pub async fn start(&self, id: &ContainerId) -> Result<Started, SandboxError> {
        let started = self.api.start_container(&self.name(id), None).await;
        started.map_err(|error| of_container("start a container", id, error))?;
        self.started.notify_waiters();
        let state = self.inspect(id).await?.state.unwrap_or_default();
        let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        Ok(Started { pid, at: time(state.started_at.as_deref()).unwrap_or_default() })
    }

    pub async fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), SandboxError> {
        let options = KillContainerOptions { signal: signal.to_string() };
        let sent = self.api.kill_container(&self.name(id), Some(options)).await;
        sent.map_err(|error| of_container("signal a container", id, error))
    }

    /// Answers once it has ended, also if that was long ago or under another agent.
    pub async fn wait(&self, id: &ContainerId) -> Result<Exit, SandboxError> {
        loop {
            let inspected = self.inspect(id).await?;
            match phase(&inspected) {
                Phase::Exited => return Ok(exit(&inspected)),
                Phase::Created => {
                    let started = self.started.notified();
                    let _ = tokio::time::timeout(LOOK_PAUSE, started).await;
                }
                Phase::Running => self.until_not_running(id).await,
            }
        }
    }

    /// What comes of it is looked at afterwards.
    async fn until_not_running(&self, id: &ContainerId) {
        let options = WaitContainerOptions { condition: "not-running".to_owned() };
        let mut waited = Box::pin(self.api.wait_container(&self.name(id), Some(options)));
        match waited.next().await {
            // A code other than zero is an error there.
            Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) => {}
            Some(Err(error)) => {
                debug!(container = %id, error = %Chain(&error), "Docker does not wait for a container");
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            None => tokio::time::sleep(LOOK_PAUSE).await,
        }
    }

    /// Runs a command in a container, for its time at most.
    pub async fn exec(
        &self,
        id: &ContainerId,
        exec: &ExecSpec,
    ) -> Result<ExecResult, SandboxError> {
        let failed = |error| of_container("run a command in a container", id, error);
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(exec.argv.clone()),
            env: Some(exec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            user: exec.user.clone(),
            working_dir: exec.cwd.as_ref().map(|cwd| cwd.to_string_lossy().into_owned()),
            ..CreateExecOptions::default()
        };
        let made = self.api.create_exec(&self.name(id), options).await.map_err(failed)?;
        let limit = Duration::from_millis(exec.timeout_ms);
        let run = self.run_exec(&made.id, exec.output_bytes_max);
        match tokio::time::timeout(limit, run).await {
            Ok(done) => done.map_err(failed),
            Err(_) => {
                self.end_exec(&made.id).await;
                Err(SandboxError::TimedOut { timeout_ms: exec.timeout_ms })
            }
        }
    }

    async fn run_exec(
        &self,
        exec: &str,
        bytes_max: usize,
    ) -> Result<ExecResult, bollard::errors::Error> {
        let mut output = Vec::new();
        if let StartExecResults::Attached { output: mut said, .. } =
            self.api.start_exec(exec, None).await?
        {
            while let Some(piece) = said.next().await {
                let (LogOutput::StdErr { message }
                | LogOutput::StdOut { message }
                | LogOutput::StdIn { message }
                | LogOutput::Console { message }) = piece?;
                let room = bytes_max.saturating_sub(output.len()).min(message.len());
                output.extend_from_slice(&message[..room]);
            }
        }
        let done = self.api.inspect_exec(exec).await?;
        let code = done.exit_code.and_then(|code| i32::try_from(code).ok());
        Ok(ExecResult { exit_code: code.unwrap_or(EXIT_UNKNOWN), output })
    }

    /// Docker ends no command that runs on: this is for who may, on the machine that the engine is on.
    async fn end_exec(&self, exec: &str) {
        let Ok(found) = self.api.inspect_exec(exec).await else { return };
        let pid = found.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let (Some(pid), Some(container)) = (pid, found.container_id) else { return };
        let may_run = found.running == Some(true) && !self.about.is_rootless;
        if may_run && is_process_of(pid, &container).await {
            sandbox::kill_process(pid);
        }
    }

    /// The process of a container that runs; `None` if this machine's kernel knows no such process, because the engine
    /// numbers those of another machine, or of another namespace.
    pub async fn find_process(&self, id: &ContainerId) -> Result<Option<Process>, SandboxError> {
        let inspected = self.inspect(id).await?;
        let pid = inspected.state.as_ref().and_then(|state| state.pid).filter(|pid| *pid > 0);
        let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
        let found = || {
            Some(Process {
                pid: i32::try_from(pid?).ok()?,
                name: inspected.id.as_deref()?.parse().ok()?,
                group: label(&labels, GROUP_LABEL)?,
            })
        };
        let process = found().ok_or_else(|| SandboxError::NotRunning { id: id.clone() })?;
        let is_here = is_process_of(process.pid, process.name.as_str()).await;
        Ok(Some(process).filter(|_| is_here))
    }

    /// What it has used, by Docker's figures.
    pub async fn usage(&self, id: &ContainerId) -> Result<Usage, SandboxError> {
        let stats = self.stats(id).await?;
        Ok(usage::of(&stats))
    }

    /// What went through its interfaces.
    pub async fn network_use(&self, id: &ContainerId) -> Result<NetworkUse, SandboxError> {
        let stats = self.stats(id).await?;
        Ok(usage::of_network(&stats))
    }

    async fn stats(
        &self,
        id: &ContainerId,
    ) -> Result<bollard::models::ContainerStatsResponse, SandboxError> {
        let options = StatsOptions { stream: false, one_shot: true };
        let mut stats = Box::pin(self.api.stats(&self.name(id), Some(options)));
        match stats.next().await {
            Some(stats) => stats.map_err(|error| of_container("measure a container", id, error)),
            None => Err(SandboxError::NotRunning { id: id.clone() }),
        }
    }

    /// Ends it if it runs; nothing of it is left. What does not exist is deleted already.
    pub async fn delete(&self, id: &ContainerId) -> Result<(), SandboxError> {
        self.remove(id, &self.name(id)).await
    }

    async fn remove(&self, id: &ContainerId, name: &str) -> Result<(), SandboxError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        match self.api.remove_container(name, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error)
                if crate::error::said(&error)
                    .is_some_and(|(_, why)| why.contains("is already in progress")) =>
            {
                let gone = async {
                    while self.inspect(id).await.is_ok() {
                        tokio::time::sleep(REMOVED_PAUSE).await;
                    }
                };
                let late = |_| of_container("remove a container", id, error);
                tokio::time::timeout(REMOVED_MAX, gone).await.map_err(late)
            }
            Err(error) => Err(of_container("remove a container", id, error)),
        }
    }

    pub(crate) async fn phase(&self, id: &ContainerId) -> Result<Phase, SandboxError> {
        Ok(phase(&self.inspect(id).await?))
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInspectResponse, SandboxError> {
        let found =
            self.api.inspect_container(&self.name(id), None::<InspectContainerOptions>).await;
        found.map_err(|error| of_container("look at a container", id, error))
    }

    /// Every container of this agent.
    pub async fn recover(&self) -> Result<Vec<Recovered>, SandboxError> {
        let mut recovered = Vec::new();
        for (id, labels) in self.list().await? {
            let Some(group) = label::<GroupId>(&labels, GROUP_LABEL) else { continue };
            match self.inspect(&id).await {
                Ok(inspected) => recovered.push(found(id, group, &inspected)),
                Err(SandboxError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(recovered)
    }

    /// Which container has which endpoint, at which ports of the host.
    pub async fn endpoints(&self) -> Result<Vec<Known>, SandboxError> {
        let mut known = Vec::new();
        for (id, labels) in self.list().await? {
            // An endpoint is called as the run that has it.
            let endpoint = labels.get(create::ENDPOINT_LABEL).filter(|it| *it == id.as_str());
            let address = label(&labels, create::ADDRESS_LABEL);
            let (Some(endpoint), Some(address)) = (endpoint.cloned(), address) else { continue };
            match self.inspect(&id).await {
                Ok(inspected) => {
                    known.push(Known { endpoint, address, ports: published(&inspected) });
                }
                Err(SandboxError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    /// Bytes that the containers of a group have written over their images.
    pub async fn written(&self, group: &GroupId) -> Result<u64, SandboxError> {
        let mut filters = self.own();
        let of_group = format!("{GROUP_LABEL}={group}");
        filters.entry("label".to_owned()).or_default().push(of_group);
        let options = ListContainersOptions {
            all: true,
            size: true,
            filters: Some(filters),
            ..Default::default()
        };
        let found = self.api.list_containers(Some(options)).await.map_err(unlisted)?;
        let ours = found.into_iter().filter(|each| self.run_of(each).is_some());
        Ok(ours.filter_map(|each| u64::try_from(each.size_rw?).ok()).sum())
    }

    /// The runs that there are containers of, with what those are labelled with.
    async fn list(&self) -> Result<Vec<(ContainerId, HashMap<String, String>)>, SandboxError> {
        let filters = Some(self.own());
        let options = ListContainersOptions { all: true, filters, ..Default::default() };
        let found = self.api.list_containers(Some(options)).await.map_err(unlisted)?;
        let own = found.into_iter().filter_map(|each| {
            let run = self.run_of(&each)?;
            Some((run, each.labels?))
        });
        Ok(own.collect())
    }

    /// Which run a container is. Anybody's may carry our labels, as when it is of an image that was made of one of
    /// ours: its name is then another.
    fn run_of(&self, found: &ContainerSummary) -> Option<ContainerId> {
        let run: ContainerId = label(found.labels.as_ref()?, RUN_LABEL)?;
        let own = self.name(&run);
        let mut names = found.names.iter().flatten();
        names.any(|name| name.strip_prefix('/') == Some(own.as_str())).then_some(run)
    }

    /// Removes volumes of this agent that no container has any more. What is in them is the agent's.
    pub async fn remove_unused_volumes(&self) -> Result<(), DockerError> {
        let mut filters = self.own();
        filters.insert("dangling".to_owned(), vec!["true".to_owned()]);
        let options = ListVolumesOptions { filters: Some(filters) };
        let found = self.api.list_volumes(Some(options)).await;
        let found = found.map_err(|error| DockerError::of("list volumes", error))?;
        for volume in found.volumes.unwrap_or_default() {
            let removed = self.api.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await;
            if let Err(error) = removed {
                // A container that is being made may have it by now.
                debug!(volume = volume.name, error = %Chain(&error), "volume not removed");
            }
        }
        Ok(())
    }

    /// Removes everything of this agent's. Failures are collected.
    pub async fn remove_all(&self) -> Vec<String> {
        let mut failures = Vec::new();
        match self.list().await {
            Ok(found) => {
                for (id, _) in found {
                    if let Err(error) = self.delete(&id).await {
                        failures.push(format!("remove a container: {}", Chain(&error)));
                    }
                }
            }
            Err(error) => failures.push(format!("find containers: {}", Chain(&error))),
        }
        for removed in [self.remove_unused_volumes().await, self.remove_network().await] {
            if let Err(error) = removed {
                failures.push(Chain(&error).to_string());
            }
        }
        failures
    }
}

/// Whether this machine's kernel has that process in that container, by Docker's id of it.
async fn is_process_of(pid: i32, container: &str) -> bool {
    let groups = tokio::fs::read_to_string(format!("/proc/{pid}/cgroup")).await;
    groups.is_ok_and(|groups| is_in_group_of(&groups, container))
}

/// Whether a process that is in these control groups is a container's: both drivers of Docker call the group by its id.
fn is_in_group_of(groups: &str, container: &str) -> bool {
    let is_its = |name: &str| {
        let scope = name.strip_prefix("docker-").and_then(|name| name.strip_suffix(".scope"));
        scope.unwrap_or(name) == container
    };
    !container.is_empty() && groups.lines().any(|line| line.split('/').any(is_its))
}

fn unlisted(error: bollard::errors::Error) -> SandboxError {
    match crate::error::said(&error) {
        Some((_, why)) => SandboxError::Engine { why },
        None => {
            let source = std::io::Error::other(Chain(&error).to_string());
            SandboxError::Io { doing: "list containers by Docker".to_owned(), source }
        }
    }
}

fn label<T: std::str::FromStr>(labels: &HashMap<String, String>, name: &str) -> Option<T> {
    labels.get(name)?.parse().ok()
}

fn phase(inspected: &ContainerInspectResponse) -> Phase {
    use ContainerStateStatusEnum as Status;
    let status = inspected.state.as_ref().and_then(|state| state.status);
    match status {
        Some(Status::CREATED | Status::EMPTY) | None => Phase::Created,
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING) => {
            Phase::Running
        }
        Some(Status::EXITED | Status::DEAD | Status::REMOVING) => Phase::Exited,
    }
}

fn exit(inspected: &ContainerInspectResponse) -> Exit {
    let state = inspected.state.clone().unwrap_or_default();
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    Exit {
        code: code.unwrap_or(EXIT_UNKNOWN),
        oom_killed: state.oom_killed == Some(true),
        pids_limit_hit: None,
        finished_at: time(state.finished_at.as_deref()).unwrap_or_default(),
        reason: state.error.filter(|why| !why.is_empty()),
    }
}

fn found(id: ContainerId, group: GroupId, inspected: &ContainerInspectResponse) -> Recovered {
    let state = inspected.state.clone().unwrap_or_default();
    let phase = phase(inspected);
    Recovered {
        id,
        group,
        phase,
        pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
        started_at: time(state.started_at.as_deref()),
        exit: (phase == Phase::Exited).then(|| exit(inspected)),
    }
}

/// The ports of the host that a container is to be reached by, or is.
fn published(inspected: &ContainerInspectResponse) -> Vec<create::Published> {
    let bindings = inspected.host_config.as_ref().and_then(|host| host.port_bindings.clone());
    let mut ports = Vec::new();
    for (name, bound) in bindings.unwrap_or_default() {
        let Some((port, protocol)) = name.split_once('/') else { continue };
        let protocol = match protocol {
            "udp" => longshore_types::TransportProtocol::Udp,
            _ => longshore_types::TransportProtocol::Tcp,
        };
        let Ok(container_port) = port.parse() else { continue };
        for binding in bound.unwrap_or_default() {
            let host_port = binding.host_port.and_then(|port| port.parse().ok());
            if let Some(host_port) = host_port {
                ports.push(create::Published { container_port, host_port, protocol });
            }
        }
    }
    ports
}

/// Docker writes what was not yet as the year 1.
fn time(text: Option<&str>) -> Option<Timestamp> {
    Some(Timestamp(nanoseconds(text?)? / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_was_not_yet_is_none() {
        assert_eq!(time(Some("0001-01-01T00:00:00Z")), None);
        assert_eq!(time(Some("1970-01-01T00:00:02.5Z")), Some(Timestamp(2_500)));
    }

    #[test]
    fn a_process_is_a_containers_if_the_kernel_says_so() {
        let id = "0123456789abcdef".repeat(4);
        for line in [
            format!("4:memory:/longshore/0badcafe/task/{id}\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("1:name=systemd:/\n0::/docker/{id}/init.scope\n"),
        ] {
            assert!(is_in_group_of(&line, &id), "{line}");
        }
        let other = format!("0::/docker/{}\n", "f".repeat(64));
        assert!(!is_in_group_of(&other, &id));
        assert!(!is_in_group_of("0::/user.slice\n", &id));
        assert!(!is_in_group_of(&format!("0::/docker/x{id}\n"), &id));
        assert!(!is_in_group_of("0::/\n", ""), "a root has no name");
    }

    #[tokio::test]
    async fn a_number_that_the_engine_has_elsewhere_is_no_process_here() {
        // It is in no container of that id, whatever else it is here.
        let own = std::process::id();
        let id = "0123456789abcdef".repeat(4);
        let inspected = format!(
            r#"{{"Id":"{id}","State":{{"Pid":{own}}},"Config":{{"Labels":{{"{GROUP_LABEL}":"task"}}}}}}"#
        );
        let engine = crate::fake::Fake::start(move |_| (200, inspected.clone())).await;
        let found = engine.docker.find_process(&"run".parse().unwrap()).await.unwrap();
        assert_eq!(found, None);
    }

    #[tokio::test]
    async fn somebody_elses_container_with_our_labels_is_not_ours() {
        let each = |name: &str, address: &str, bytes: u64| {
            let labels = format!(
                r#""{RUN_LABEL}":"run","{GROUP_LABEL}":"task","{}":"run","{}":"{address}""#,
                create::ENDPOINT_LABEL,
                create::ADDRESS_LABEL
            );
            format!(r#"{{"Names":["/{name}"],"SizeRw":{bytes},"Labels":{{{labels}}}}}"#)
        };
        let [own, other] =
            [("longshore-0badcafe-run", "172.30.0.2", 5), ("theirs", "172.30.0.3", 7_000)]
                .map(|(name, address, bytes)| each(name, address, bytes));
        let engine = crate::fake::Fake::start(move |asked| match asked {
            _ if asked.starts_with("GET /containers/json?") => (200, format!("[{other},{own}]")),
            _ => (200, "{}".to_owned()),
        });
        let docker = engine.await;
        let docker = &docker.docker;
        assert_eq!(docker.written(&"task".parse().unwrap()).await.unwrap(), 5);
        let known = docker.endpoints().await.unwrap();
        let addresses: Vec<_> = known.iter().map(|known| known.address.to_string()).collect();
        assert_eq!(addresses, ["172.30.0.2"]);
        assert_eq!(docker.recover().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_endpoint_is_its_own_runs() {
        let labels = format!(
            r#""{RUN_LABEL}":"run","{GROUP_LABEL}":"task","{}":"victim","{}":"172.30.0.2""#,
            create::ENDPOINT_LABEL,
            create::ADDRESS_LABEL
        );
        let found = format!(r#"[{{"Names":["/longshore-0badcafe-run"],"Labels":{{{labels}}}}}]"#);
        let engine = crate::fake::Fake::start(move |asked| match asked {
            _ if asked.starts_with("GET /containers/json?") => (200, found.clone()),
            _ => (200, "{}".to_owned()),
        });
        assert_eq!(engine.await.docker.endpoints().await.unwrap(), []);
    }
}
