//! What an agent is made of whose containers Docker runs.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use agent::adapters::{DockerHost, DockerImages};
use agent::endpoint::{self, TaskEndpoint};
use agent::{AgentConfig, DockerDriver, Driver, Parts};
use docker::{Bridge, Docker, DockerConfig, DockerError};
use files::whole::{self, Durability};
use longshore_types::{Chain, Cidr, OsIds, Steps, SystemClock};
use sandbox::Groups;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Home, Host, agent_config, logins, mirrors};
use crate::cli::{AgentArgs, HostArgs, TaskEndpointUrl};
use crate::commands::Environment;
use crate::data_dir::DataDir;
use crate::error::Error;

/// What removes all of it must know, also where there is no agent any more.
const RECORD: &str = "docker.json";

/// Which engine has this agent's containers.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    socket: std::path::PathBuf,
}

/// What is written of the engine that has this directory's containers, if one has; or why that cannot be known.
fn read_record(state_dir: &Path) -> Result<Option<Record>, String> {
    let path = state_dir.join(RECORD);
    let read = |why: &dyn std::fmt::Display| format!("read {}: {why}", path.display());
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|why| read(&why)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read(&error)),
    }
}

/// Why an agent is not to start here, whose containers are made by the Docker at this socket, or natively: another driver or
/// another engine may have some that nobody would look after.
pub(super) fn of_other_driver(state_dir: &Path, docker: Option<&Path>) -> Option<String> {
    const WAY_OUT: &str = "start it as before, or end them first: longshore down";
    let record = match read_record(state_dir) {
        Ok(record) => record,
        Err(why) => {
            return Some(format!(
                "which Docker has this data directory's containers is unknown: failed to {why}; \
                 remove that file once none has any"
            ));
        }
    };
    let Some(socket) = docker else {
        return record.map(|_| {
            format!(
                "the tasks of this data directory are run by Docker (--driver docker): {WAY_OUT}"
            )
        });
    };
    if let Some(record) = record.filter(|record| !is_same(&record.socket, socket)) {
        let before = record.socket.display();
        return Some(format!(
            "the tasks of this data directory are run by the Docker at unix://{before} (--docker-host): {WAY_OUT}; \
             if that one is no more, or is this one elsewhere, remove {}",
            state_dir.join(RECORD).display()
        ));
    }
    let entries = std::fs::read_dir(state_dir.join("sandboxes")).into_iter().flatten().flatten();
    let mut containers = entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
    containers.next().map(|_| {
        format!("this data directory has containers that Docker does not know, of --driver native: {WAY_OUT}")
    })
}

/// Whether both paths lead to one socket, as /var/run and /run do.
fn is_same(one: &Path, other: &Path) -> bool {
    let leads_to = |path: &Path| std::fs::canonicalize(path).ok();
    one == other || leads_to(one).is_some_and(|one| leads_to(other) == Some(one))
}

pub(super) async fn parts(
    data: &DataDir,
    environment: &Environment,
    host: &Host,
    home: &Home,
    args: &AgentArgs,
) -> Result<(Parts, AgentConfig), Error> {
    let asked = |error: DockerError| Error::other("use Docker")(error);
    let mut docker = Docker::connect(engine(host, &args.host)).await.map_err(asked)?;
    // Tasks are held to their sizes by groups of ours, which only root makes, and below which not every Docker puts
    // containers.
    let has_groups = environment.is_root && docker.about().has_plain_cgroups;
    let mut groups = None;
    if has_groups {
        let made = Groups::open(&host.cgroup_parent);
        groups = Some(made.map_err(Error::other("make a control group"))?);
        docker = docker.below(host.cgroup_parent.clone());
    }
    note(&host.state_dir, docker.socket())?;
    let bridge = docker.bridge(range(home)?).await.map_err(asked)?;
    let listeners = listeners(environment, &docker, &bridge, &args.host);
    let version = docker.about().version.clone();
    info!(
        version,
        tasks.sizes = has_groups,
        tasks.roles = listeners.is_some(),
        "containers are run by Docker"
    );
    let mut config = agent_config(host, home, args);
    config.driver = Driver::Docker(DockerDriver {
        version,
        has_task_sizes: has_groups,
        answers_containers: listeners.is_some(),
    });
    config.is_fargate = false;
    if listeners.as_ref().is_none_or(|it| it.relay.is_none())
        && args.host.task_endpoint == TaskEndpointUrl::Auto
    {
        // There is no way by the agent.
        config.region_for_tasks = None;
    }
    let runtime =
        DockerHost::open(docker.clone(), bridge, groups, &host.state_dir, Steps::default());
    let mut runtime = runtime.await.map_err(Error::other("find the containers of Docker"))?;
    if listeners.is_some() {
        runtime = runtime.leading(args.host.is_link_local_open());
    }
    let runtime = Arc::new(runtime);
    let parts = Parts {
        runtime: Arc::clone(&runtime) as _,
        images: Arc::new(DockerImages::new(docker, mirrors(home)).with_logins(logins(data))),
        networks: runtime,
        credentials: Arc::clone(&home.credentials),
        clock: Arc::new(SystemClock),
        ids: Arc::new(OsIds),
        endpoint: listeners.map(Arc::new),
        sharing: None,
    };
    Ok((parts, config))
}

fn engine(host: &Host, args: &HostArgs) -> DockerConfig {
    DockerConfig {
        socket: args.docker_socket(),
        tag: host.tag.to_string(),
        runtime: args.runtime.clone(),
        cgroup_parent: None,
        volumes: ["volumes", "shared-volumes"].map(|name| host.state_dir.join(name)).to_vec(),
    }
}

/// The range of this region's containers in bridge mode.
fn range(home: &Home) -> Result<Cidr, Error> {
    if home.bridge.is_empty() {
        return Err(Error::Refused(
            "the region is of a release that does not say which addresses containers in bridge mode have: upgrade it"
                .to_owned(),
        ));
    }
    home.bridge.parse().map_err(Error::other("read the bridge's range"))
}

/// Where containers reach the agent: at its address on the bridge, which root gives the host. Without it they have no
/// metadata and no credentials, and the region is told so.
fn listeners(
    environment: &Environment,
    docker: &Docker,
    bridge: &Bridge,
    args: &HostArgs,
) -> Option<TaskEndpoint> {
    if !environment.is_root || docker.about().is_rootless {
        info!(
            "containers do not reach this agent: that needs root, and a Docker Engine in the host's network"
        );
        return None;
    }
    let led = network::lead_to_agent(&bridge.link, endpoint::ADDRESS, args.is_link_local_open());
    if let Err(error) = led {
        warn!(error = %Chain(&error), "containers do not reach this agent");
        return None;
    }
    let listen = |port| TcpListener::bind(SocketAddr::from((endpoint::ADDRESS, port)));
    let listener = listen(endpoint::PORT);
    let listener = listener.inspect_err(|error| {
        warn!(%error, "containers do not reach this agent: something else listens at its address");
    });
    let wants_relay = args.task_endpoint == TaskEndpointUrl::Auto;
    let relay = wants_relay.then(|| listen(endpoint::REGION_PORT)).and_then(|relay| {
        relay
            .inspect_err(|error| warn!(%error, "containers do not reach the region by this agent"))
            .ok()
    });
    Some(TaskEndpoint {
        listener: listener.ok()?,
        relay,
        host: bridge.gateway,
        ranges: vec![bridge.range],
        is_open: true,
    })
}

fn note(state_dir: &Path, socket: &Path) -> Result<(), Error> {
    let record = Record { socket: socket.to_owned() };
    let text =
        serde_json::to_vec(&record).map_err(Error::other("write down which Docker it is"))?;
    let path = state_dir.join(RECORD);
    let made = files::private::make_dirs(state_dir);
    let written = made.and_then(|()| whole::write(&path, &text, Durability::Synced));
    written.map_err(|source| Error::DataDir { path, source })
}

/// Removes everything that this directory's agent had made by Docker, if it ever did. Answers with what could not be.
pub(super) async fn clean(host: &Host) -> Vec<String> {
    let path = host.state_dir.join(RECORD);
    let socket = match read_record(&host.state_dir) {
        Ok(None) => return Vec::new(),
        Ok(Some(Record { socket })) => socket,
        Err(why) => return vec![why],
    };
    let config = DockerConfig {
        socket,
        tag: host.tag.to_string(),
        runtime: None,
        cgroup_parent: None,
        volumes: Vec::new(),
    };
    let docker = match Docker::connect(config).await {
        Ok(docker) => docker,
        Err(error) => return vec![format!("remove the containers of Docker: {}", Chain(&error))],
    };
    let failures = docker.remove_all().await;
    // Its bridge is gone: what is left is a rule that would be the next one's.
    let _ = network::lead_to_agent_no_more(&docker.link_name());
    if failures.is_empty() {
        let _ = std::fs::remove_file(&path);
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_one_driver_are_not_left_to_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let socket = Path::new("/nowhere/docker.sock");
        let of = |docker| of_other_driver(dir.path(), docker);
        assert_eq!((of(None), of(Some(socket))), (None, None));
        std::fs::create_dir_all(dir.path().join("sandboxes/run")).unwrap();
        assert!(of(Some(socket)).is_some_and(|why| why.contains("--driver native")));
        assert_eq!(of(None), None);
        std::fs::remove_dir(dir.path().join("sandboxes/run")).unwrap();
        note(dir.path(), socket).unwrap();
        assert_eq!(of(Some(socket)), None);
        assert!(of(None).is_some_and(|why| why.contains("--driver docker")));
    }

    #[test]
    fn containers_of_one_engine_are_not_left_to_another() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("run")).unwrap();
        std::os::unix::net::UnixListener::bind(at("run/docker.sock")).unwrap();
        std::os::unix::fs::symlink(at("run"), at("var-run")).unwrap();
        let of = |name: &str| of_other_driver(dir.path(), Some(&at(name)));
        note(dir.path(), &at("run/docker.sock")).unwrap();
        assert_eq!((of("run/docker.sock"), of("var-run/docker.sock")), (None, None));
        let why = of("other.sock").unwrap();
        assert!(why.contains("run/docker.sock (--docker-host)"), "{why}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        whole::write(&dir.path().join(RECORD), b"{", Durability::DiesWithTheMachine).unwrap();
        for docker in [None, Some(Path::new("/nowhere/docker.sock"))] {
            let why = of_other_driver(dir.path(), docker).unwrap();
            assert!(why.contains("docker.json"), "{why}");
        }
    }
}
