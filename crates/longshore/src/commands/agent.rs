//! `longshore agent`: this host's agent, and the removal of everything it made.
//!
//! All names of kernel objects carry a tag made from the data directory, so that two regions on one
//! machine never touch each other's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::adapters::{HostNetworks, SandboxRuntime, StoreImages};
use agent::endpoint::{self, TaskEndpoint};
use agent::{Agent, AgentConfig, Attribute, FixedCredentials, Parts, RegionForTasks, TaskLimits};
use aws_wire::sigv4::Credentials;
use ecs_api as ecs;
use http::Uri;
use image::{
    ClientConfig, Egress, ImageStore, Mirrors, Puller, PullerConfig, StoreConfig, Transport,
};
use longshore_types::{Chain, ClusterName, OsIds, Steps, SystemClock};
use network::{ControlGroup, NetTag, Network, NetworkConfig, NetworkError};
use sandbox::{GroupNumber, SandboxConfig, Sandboxes};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};
use trust::Trust;

use crate::cli::{AgentArgs, EgressArgs, HostArgs, TaskEndpointUrl};
use crate::client::Client;
use crate::commands::{Environment, region as region_command};
use crate::data_dir::{DataDir, RegionFile, Role};
use crate::error::Error;
use crate::{leftovers, logging, signals};

/// Containers' shims that are kept ready, and namespaces beside them.
const POOL_SIZE: usize = 4;
const POLL: Duration = Duration::from_millis(5);
/// How often the region's file is looked at: its addresses move at a restart at most.
const RANGES_POLL: Duration = Duration::from_secs(2);
/// How often the size of the shims' log is looked at.
const SHIMS_LOG_PERIOD: Duration = Duration::from_secs(30);

/// Where one region's things are on this host.
struct Host {
    tag: NetTag,
    /// Short, since paths of sockets are limited; gone after a reboot.
    run_dir: PathBuf,
    /// Relative to each hierarchy of control groups.
    cgroup_parent: PathBuf,
    state_dir: PathBuf,
    image_dir: PathBuf,
}

impl Host {
    /// A directory that is gone has a place still, and things that were made for it perhaps too.
    fn of(data: &DataDir) -> Result<Self, Error> {
        // On a disk that fails too, what is in the kernel is still to be found.
        let root = data.root().canonicalize().or_else(|_| std::path::absolute(data.root()));
        let root =
            root.map_err(|source| Error::DataDir { path: data.root().to_owned(), source })?;
        let tag = tag_of(&root);
        Ok(Self {
            tag: tag.parse().map_err(Error::other("name the host's objects"))?,
            run_dir: Path::new("/run/longshore").join(&tag),
            cgroup_parent: Path::new("/longshore").join(&tag),
            state_dir: root.join("agent"),
            image_dir: root.join("agent/images"),
        })
    }

    async fn sandboxes(
        &self,
        environment: &Environment,
        pool_size: usize,
    ) -> Result<Sandboxes, Error> {
        let config = SandboxConfig {
            run_dir: self.run_dir.join("shims"),
            state_dir: self.state_dir.join("sandboxes"),
            cgroup_parent: self.cgroup_parent.clone(),
            shim_command: vec![environment.program.clone().into(), "shim".into()],
            pool_size,
            boot_id: boot_id(),
            steps: Steps::default(),
        };
        Sandboxes::open(config).map_err(Error::other("prepare the sandbox"))
    }

    async fn network(
        &self,
        region: &RegionFile,
        host: &HostArgs,
        tasks: Option<GroupNumber>,
    ) -> Result<Network, Error> {
        let vpc = region.vpc.parse().map_err(Error::other("read the VPC's range"))?;
        let mut config = NetworkConfig::new(self.tag, self.run_dir.clone(), vpc);
        if !region.bridge.is_empty() {
            let bridge = region.bridge.parse().map_err(Error::other("read the bridge's range"))?;
            config.bridge = Some(bridge);
        }
        config.pool_size = POOL_SIZE;
        config.tasks = tasks.map(|GroupNumber { level, id }| ControlGroup { level, id });
        config.is_link_local_open = host.is_link_local_open();
        config.is_host_open = host.is_host_open();
        config.served_here = vec![(endpoint::ADDRESS, endpoint::PORT)];
        if host.task_endpoint == TaskEndpointUrl::Auto {
            config.served_here.push((endpoint::ADDRESS, endpoint::REGION_PORT));
        }
        Network::open(config).await.map_err(|error| match error {
            NetworkError::RangeTaken { range } => Error::Refused(range_taken(&range.to_string())),
            error => Error::other("prepare the network")(error),
        })
    }
}

/// The kernel's name for this run of the machine.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Why tasks can have no addresses, and the two ways out.
fn range_taken(range: &str) -> String {
    format!(
        "the addresses {range} of this region's tasks are used by something else on this machine, \
         such as another region (ip route show table all lists it); end that, or end this region's tasks \
         (aws ecs deregister-container-instance --force does so without an agent), and restart the \
         region: without tasks it takes a free range"
    )
}

/// What tells this data directory's things on this host from others'.
pub(super) fn tag(data: &DataDir) -> Result<NetTag, Error> {
    Ok(Host::of(data)?.tag)
}

/// Eight hexadecimal digits of a data directory's path.
fn tag_of(root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let hash = Sha256::digest(root.as_os_str().as_bytes());
    hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn run(
    data: &DataDir,
    environment: &Environment,
    args: &AgentArgs,
) -> Result<(), Error> {
    if !environment.is_root {
        return Err(Error::Refused(format!(
            "the agent makes namespaces, control groups and mounts, which needs root; \
             run: sudo longshore agent --data-dir {}",
            data.root().display()
        )));
    }
    data.create()?;
    let _lock = data.take(Role::Agent)?;
    let Some(region) = wait_for_region(data).await else { return Ok(()) };
    let host = Host::of(data)?;
    let keys = region_command::load_keys(data)?;
    let credentials = Credentials {
        access_key: keys.node.access_key_id,
        secret: keys.node.secret_access_key,
        session_token: None,
    };
    let clock = Arc::new(SystemClock);
    let sandboxes = host.sandboxes(environment, POOL_SIZE).await?;
    let network = host.network(&region, &args.host, sandboxes.group_number()).await?;
    let store = ImageStore::open(StoreConfig::new(&host.image_dir), clock.clone());
    let store = store.map_err(Error::other("open the image store"))?;
    let puller_config = PullerConfig {
        mirrors: Mirrors { region_registry: Some(registry_of(&region)), ..Mirrors::default() },
        ..PullerConfig::default()
    };
    let trust = trust(&region)?;
    let is_plain = region.told().starts_with("http://");
    let client_config = ClientConfig {
        egress: egress(&region, &args.egress),
        trust: trust.clone().and_system(),
        plain_http: is_plain.then(|| registry_of(&region)).into_iter().collect(),
        // What comes by a pull-through cache rule it fetches first.
        patient_with: vec![registry_of(&region)],
        ..ClientConfig::default()
    };
    let puller = Puller::new(store, Transport::new(client_config), puller_config);
    let endpoint = format!("http://{}", region.endpoint()).parse();
    let endpoint = endpoint.map_err(Error::other("read the region's address"))?;
    let mut config = AgentConfig::new(endpoint, region.region.clone(), host.state_dir.clone());
    config.trust = trust;
    if args.cluster != ClusterName::default_cluster() {
        // Agents create the default cluster only; one that is named here is wanted as well.
        let client = Client::new(region.endpoint(), region.region.clone(), credentials.clone());
        create_cluster(&client, &args.cluster).await;
        config.cluster = Some(args.cluster.to_string());
    }
    let said = args.host.attributes().into_iter();
    config.log_endpoints.clone_from(&args.egress.allow_log_endpoint);
    let denied = args.egress.images.deny_egress.iter();
    config.log_egress = denied.fold(Egress::default(), |egress, range| egress.deny(*range));
    config.attributes = said.map(|(name, value)| Attribute::with(name, value)).collect();
    let defaults = TaskLimits::default();
    config.task_limits = TaskLimits {
        pids_max: args.host.task_pids_max.unwrap_or(defaults.pids_max),
        storage_bytes: args.host.task_storage_gib.map(|gib| gib << 30).or(defaults.storage_bytes),
    };
    config.region_for_tasks = region_for_tasks(&args.host, &config.endpoint);
    config.introspection = args.host.introspection();
    let task_endpoint = task_endpoint(&region, &network)?;
    let parts = Parts {
        runtime: Arc::new(SandboxRuntime(sandboxes)),
        images: Arc::new(
            StoreImages::new(puller).with_logins(data.root().join("registry-auth.json")),
        ),
        networks: Arc::new(HostNetworks(network)),
        credentials: Arc::new(FixedCredentials(credentials)),
        clock,
        ids: Arc::new(OsIds),
        endpoint: task_endpoint.map(Arc::new),
    };
    let agent = Agent::open(config, parts).await.map_err(Error::other("start the agent"))?;
    info!(region = %region.region, cluster = %args.cluster, "agent ready");
    #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
    tokio::spawn(bound_shims_log(host.state_dir.join("sandboxes/shims.log")));
    tokio::select! {
        ended = agent.run() => ended.map_err(Error::other("run the agent"))?,
        () = signals::stop() => {}
        now = ranges_moved(data, &region) => {
            info!(vpc = %now.vpc, bridge = %now.bridge, "the region moved its addresses");
            return Err(Error::message(format!(
                "the region gives addresses of {} and {} now, and the agent those of before: start it again",
                now.vpc, now.bridge
            )));
        }
    }
    info!("agent stopped, containers go on");
    Ok(())
}

/// What the SDKs of containers are told of the region.
fn region_for_tasks(host: &HostArgs, region: &Uri) -> Option<RegionForTasks> {
    let url = match &host.task_endpoint {
        TaskEndpointUrl::Off => return None,
        TaskEndpointUrl::At(url) => url.clone(),
        TaskEndpointUrl::Auto => {
            let scheme = region.scheme_str().unwrap_or("http");
            format!("{scheme}://{}:{}", endpoint::ADDRESS, endpoint::REGION_PORT)
        }
    };
    Some(RegionForTasks { url, ca_file: host.task_ca_file.clone() })
}

/// Where containers ask for their credentials.
fn task_endpoint(region: &RegionFile, network: &Network) -> Result<Option<TaskEndpoint>, Error> {
    let vpc = region.vpc.parse().map_err(Error::other("read the VPC's range"))?;
    let mut listeners = network.listeners().into_iter();
    let listener = listeners.next();
    let relay = listeners.next();
    Ok(listener.map(|listener| TaskEndpoint {
        listener,
        relay,
        host: network.host_address(),
        ranges: vec![vpc, network.bridge_range()],
    }))
}

/// The host of the region's images, as others are told it.
fn registry_of(region: &RegionFile) -> String {
    let told = region.told();
    told.split_once("://").map_or(told.clone(), |(_, host)| host.to_owned())
}

/// Whom the region's certificates come from: its own authority, or one that the machine knows.
fn trust(region: &RegionFile) -> Result<Trust, Error> {
    let Some(path) = &region.authority else { return Ok(Trust::system()) };
    let failed = |source| Error::DataDir { path: path.clone(), source };
    let text = std::fs::read(path).map_err(failed)?;
    Trust::only(&text).map_err(Error::other("read the region's authority"))
}

/// Where images are fetched from: the region's registry, wherever it is, and what is not this machine.
fn egress(region: &RegionFile, args: &EgressArgs) -> Egress {
    let own = Egress::default().allow(region.endpoint().to_string()).allow(registry_of(region));
    let allowed = args.images.allow_registry.iter().fold(own, Egress::allow);
    args.images.deny_egress.iter().fold(allowed, |egress, range| egress.deny(*range))
}

/// The shims share a log, and none of them looks at its size.
async fn bound_shims_log(path: PathBuf) {
    loop {
        tokio::time::sleep(SHIMS_LOG_PERIOD).await;
        let path = path.clone();
        // It is not there until a shim is started, and a disk that fails is told of elsewhere.
        let _ = tokio::task::spawn_blocking(move || logging::rotate_shared(&path)).await;
    }
}

/// Creates the cluster that this host joins. If that fails the agent's registration says why.
async fn create_cluster(client: &Client, name: &ClusterName) {
    let input = ecs::CreateClusterRequest {
        cluster_name: Some(name.to_string()),
        ..ecs::CreateClusterRequest::default()
    };
    let created = client.ecs::<_, ecs::CreateClusterResponse>("CreateCluster", &input).await;
    if let Err(error) = created {
        warn!(cluster = %name, error = %Chain(&error), "could not create the cluster");
    }
}

/// Waits until a region runs in the data directory; `None` if asked to end before.
async fn wait_for_region(data: &DataDir) -> Option<RegionFile> {
    let wait = async {
        let mut is_told = false;
        for turn in 0_u64.. {
            if let Ok(region) = data.running_region() {
                return Some(region);
            }
            if turn == 200 && !is_told {
                info!("waiting for the region of this data directory");
                is_told = true;
            }
            tokio::time::sleep(POLL).await;
        }
        None
    };
    tokio::select! {
        region = wait => region,
        () = signals::stop() => None,
    }
}

/// Waits until a region that was started again says other ranges: it has no tasks then.
async fn ranges_moved(data: &DataDir, before: &RegionFile) -> RegionFile {
    let mut seen = None;
    loop {
        let changed_at = data.region_changed_at();
        if changed_at != seen
            && let Ok(now) = data.region()
        {
            if (&now.vpc, &now.bridge) != (&before.vpc, &before.bridge) {
                return now;
            }
            seen = changed_at;
        }
        tokio::time::sleep(RANGES_POLL).await;
    }
}

/// Kills every container of the data directory and removes all that was made for them. Failures
/// are collected: one thing that cannot be removed must not keep the others.
pub(crate) async fn clean(data: &DataDir, environment: &Environment) -> Result<(), Error> {
    let host = Host::of(data)?;
    let mut failures = Vec::new();
    let mut note = |what: &str, error: &(dyn std::error::Error + 'static)| {
        warn!(error = %Chain(error), "could not {what}");
        failures.push(format!("{what}: {}", Chain(error)));
    };
    // A disk that fails does not say whether it is there.
    if host.state_dir.try_exists().unwrap_or(true) {
        match host.sandboxes(environment, 0).await {
            Ok(sandboxes) => remove_containers(&sandboxes, &mut note).await,
            Err(error) => note("remove containers", &error),
        }
    }
    // Whatever ranges there were, and whether or not the region's files are still there to tell.
    if let Err(error) = network::remove(host.tag, &host.run_dir) {
        note("remove the network", &error);
    }
    // What the disk no longer tells of is found in the kernel.
    leftovers::kill(&host.cgroup_parent).await;
    // Not all below the data directory: somebody may have mounted the images' disk there.
    leftovers::unmount(&[&host.state_dir.join("sandboxes"), &host.run_dir]);
    leftovers::remove_cgroups(&host.cgroup_parent);
    if host.run_dir.exists()
        && let Err(error) = files::dir::remove_tree(&host.run_dir)
    {
        note("remove the runtime directory", &error);
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::message(failures.join("\n"))) }
}

async fn remove_containers(
    sandboxes: &Sandboxes,
    note: &mut impl FnMut(&str, &(dyn std::error::Error + 'static)),
) {
    match sandboxes.recover().await {
        Ok(found) => {
            for container in found {
                if let Err(error) = sandboxes.delete(&container.id).await {
                    note("remove a container", &error);
                }
            }
        }
        Err(error) => note("find containers", &error),
    }
    match sandboxes.groups().await {
        Ok(groups) => {
            for group in groups {
                if let Err(error) = sandboxes.remove_group(&group).await {
                    note("remove a control group", &error);
                }
            }
        }
        Err(error) => note("find control groups", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directorys_tag_is_eight_hex_digits_and_its_own() {
        let tag = tag_of(Path::new("/var/lib/longshore"));
        assert!(tag.parse::<NetTag>().is_ok(), "{tag}");
        assert_eq!(tag, tag_of(Path::new("/var/lib/longshore")));
        assert_ne!(tag, tag_of(Path::new("/var/lib/longshore2")));
    }
}
