//! `longshore agent`: this host's agent, and the removal of everything it made.
//!
//! All names of kernel objects carry a tag made from the data directory, so that two regions on one
//! machine never touch each other's.

mod docker;
mod home;
mod underlay;
mod unit;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::adapters::{HostNetworks, SandboxRuntime, StoreImages};
use agent::endpoint::{self, TaskEndpoint};
use agent::{Agent, AgentConfig, Attribute, Gpus, Parts, RegionForTasks, TaskLimits};
use image::{
    ClientConfig, Egress, ImageStore, LAYER_PORT, LayerSharing, Mirrors, Puller, PullerConfig,
    SharingConfig, StoreConfig, Transport,
};
use longshore_types::{Chain, ClusterName, OsIds, Steps, SystemClock};
use network::{ControlGroup, Encryption, NetTag, Network, NetworkConfig, NetworkError};
use sandbox::{GroupNumber, NamedRuntime, SandboxConfig, Sandboxes};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::{
    AgentAction, AgentArgs, AgentCommand, BalancerAddress, EgressArgs, HostArgs, TaskEndpointUrl,
};
use crate::commands::kept::Kept;
use crate::commands::{Environment, balancer, proxy};
use crate::data_dir::{DataDir, Role};
use crate::error::Error;
use crate::{leftovers, logging, signals};
use home::Home;

/// Containers' shims that are kept ready, and namespaces beside them.
const POOL_SIZE: usize = 4;
/// What layers take at most that are kept for other hosts, unless it is said.
const LAYER_STORE_GIB: u64 = 8;
/// And what they are given a second.
const LAYER_RATE_MIB: u64 = 128;
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
        runtime: Option<NamedRuntime>,
    ) -> Result<Sandboxes, Error> {
        let config = SandboxConfig {
            run_dir: self.run_dir.join("shims"),
            state_dir: self.state_dir.join("sandboxes"),
            cgroup_parent: self.cgroup_parent.clone(),
            shim_command: vec![environment.program.clone().into(), "shim".into()],
            pool_size,
            boot_id: boot_id(),
            runtime,
            steps: Steps::default(),
        };
        Sandboxes::open(config).map_err(Error::other("prepare the sandbox"))
    }

    async fn network(
        &self,
        home: &Home,
        host: &HostArgs,
        tasks: Option<GroupNumber>,
    ) -> Result<Network, Error> {
        let vpc = home.vpc.parse().map_err(Error::other("read the VPC's range"))?;
        let mut config = NetworkConfig::new(self.tag, self.run_dir.clone(), vpc);
        if !home.bridge.is_empty() {
            let bridge = home.bridge.parse().map_err(Error::other("read the bridge's range"))?;
            config.bridge = Some(bridge);
        }
        config.pool_size = POOL_SIZE;
        config.underlay = home.underlay;
        config.region = Some(home.region.clone());
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

/// Where the machine's agent keeps what is gone after a reboot.
pub(crate) fn run_dir(data: &DataDir) -> Result<PathBuf, Error> {
    Ok(Host::of(data)?.run_dir)
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
    command: &AgentCommand,
) -> Result<(), Error> {
    match &command.action {
        None => serve(data, environment, &command.args).await,
        Some(AgentAction::Install(it)) => {
            unit::install(data, environment, &it.args, &it.unit).await
        }
        Some(AgentAction::Uninstall(it)) => unit::uninstall(data, environment, it).await,
    }
}

async fn serve(data: &DataDir, environment: &Environment, args: &AgentArgs) -> Result<(), Error> {
    if let Some(why) = args.host.misplaced() {
        return Err(Error::Refused(why));
    }
    if !environment.is_root && !args.host.is_docker() {
        return Err(Error::Refused(format!(
            "the agent makes namespaces, control groups and mounts, which needs root; \
             run: sudo longshore agent --data-dir {} (or have Docker run containers: --driver docker)",
            data.root().display()
        )));
    }
    // Docker has runtimes of its own.
    let runtime = match args.host.is_docker() {
        true => None,
        false => runtime(environment, &args.host).await?,
    };
    data.create()?;
    let _lock = data.take(Role::Agent)?;
    let host = Host::of(data)?;
    let socket = args.host.is_docker().then(|| args.host.docker_socket());
    if let Some(why) = docker::of_other_driver(&host.state_dir, socket.as_deref()) {
        return Err(Error::Refused(why));
    }
    let Some(home) = Home::find(data, args).await? else { return Ok(()) };
    let (parts, config) = match args.host.is_docker() {
        true => docker::parts(data, environment, &host, &home, args).await?,
        false => {
            let sandboxes = host.sandboxes(environment, POOL_SIZE, runtime).await?;
            native_parts(data, environment, (&host, sandboxes), &home, args).await?
        }
    };
    let agent = Agent::open(config, parts).await.map_err(Error::other("start the agent"))?;
    let cluster = home.cluster.clone().unwrap_or_else(ClusterName::default_cluster);
    info!(region = %home.region, %cluster, "agent ready");
    tokio::select! {
        ended = agent.run() => ended.map_err(Error::other("run the agent"))?,
        () = signals::stop() => {}
        why = home.watch(&environment.program) => return Err(why),
    }
    info!("agent stopped, containers go on");
    Ok(())
}

/// Our own sandbox and network, and the processes beside the agent.
async fn native_parts(
    data: &DataDir,
    environment: &Environment,
    (host, sandboxes): (&Host, Sandboxes),
    home: &Home,
    args: &AgentArgs,
) -> Result<(Parts, AgentConfig), Error> {
    let network = host.network(home, &args.host, sandboxes.group_number()).await?;
    let (puller, sharing) = puller(host, home, args)?;
    let encryption = encryption(home, &network);
    let task_endpoint = task_endpoint(home, &network)?;
    let changes = network.connect_learned();
    let parts = Parts {
        runtime: Arc::new(SandboxRuntime(sandboxes)),
        images: Arc::new(
            StoreImages::new(puller)
                .with_logins(logins(data))
                .within(args.host.image_cache_gib.map(|gib| gib << 30)),
        ),
        networks: Arc::new(HostNetworks(network)),
        credentials: Arc::clone(&home.credentials),
        clock: Arc::new(SystemClock),
        ids: Arc::new(OsIds),
        endpoint: task_endpoint.map(Arc::new),
        sharing,
    };
    let mut config = agent_config(host, home, args);
    config.underlay = home.underlay;
    config.encryption = encryption;
    config.gpus = gpus(&args.host);
    config.serves_balancers = home.serves_balancers();
    config.lease_file = Some(host.run_dir.join("lease"));
    if shares_layers(home, &args.host) {
        config.reserved_ports.push(config.layer_port);
    }
    #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
    tokio::spawn(bound_shims_log(host.state_dir.join("sandboxes/shims.log")));
    keep_processes(data, environment, (home, args.balancer_address), (&host.run_dir, changes));
    Ok((parts, config))
}

/// What makes the host's containers, if it is not ourselves; it is there and answers.
async fn runtime(
    environment: &Environment,
    host: &HostArgs,
) -> Result<Option<NamedRuntime>, Error> {
    let Some(wanted) = &host.runtime else { return Ok(None) };
    let found = NamedRuntime::find(wanted, environment.search_path.as_deref()).await;
    let runtime = found.map_err(|why| Error::Refused(format!("--runtime {wanted}: {why}")))?;
    info!(runtime = runtime.name, path = %runtime.path.display(), "containers are run by a runtime of this host");
    Ok(Some(runtime))
}

/// Where logins of other registries are, as `docker login` writes them.
fn logins(data: &DataDir) -> PathBuf {
    data.root().join("registry-auth.json")
}

/// Has the processes beside the agent run while they are wanted.
fn keep_processes(
    data: &DataDir,
    environment: &Environment,
    (home, doors): (&Home, Option<BalancerAddress>),
    (run_dir, changes): (&Path, watch::Receiver<()>),
) {
    let kept = |role, name, args| {
        let program = environment.program.clone();
        Kept { data: data.clone(), program, role, name, args }
    };
    let proxy =
        kept(Role::Proxy, "proxy", Vec::new()).keep(changes.clone(), proxy::is_wanted(run_dir));
    #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
    tokio::spawn(proxy);
    // The region's own machine has its balancers' process from whoever started both.
    if home.serves_balancers() {
        balancer::forget_table(data, run_dir);
        let by_default = home.underlay.map(|address| BalancerAddress::At(address.into()));
        let doors = doors.or(by_default).unwrap_or(BalancerAddress::Nowhere);
        let told = doors.to_args().map(OsString::from).to_vec();
        let balancer =
            kept(Role::Balancer, "balancer", told).keep(changes, balancer::is_wanted(run_dir));
        #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
        tokio::spawn(balancer);
    }
}

/// The GPUs that this host offers.
fn gpus(host: &HostArgs) -> Gpus {
    if host.no_gpus {
        return Gpus::default();
    }
    match host.gpus.is_empty() {
        true => Gpus::find(),
        false => Gpus::named(host.gpus.iter().cloned()),
    }
}

/// Whether the host can encrypt what it sends to others, in the words that the region reads. Keys come by the way to the
/// region, which nobody else may read.
fn encryption(home: &Home, network: &Network) -> Option<String> {
    let is_private = home.is_local() || home.endpoint.scheme_str() == Some("https");
    Some(match network.encryption()? {
        Encryption::Able { generation } if is_private => format!("aes-gcm/{generation}"),
        Encryption::Able { .. } => "its way to the region is in the clear".to_owned(),
        Encryption::Unable { why } => {
            info!(why, "what goes between hosts is not encrypted here");
            (*why).to_owned()
        }
    })
}

/// What is said to every agent, whatever runs its containers.
fn agent_config(host: &Host, home: &Home, args: &AgentArgs) -> AgentConfig {
    let mut config =
        AgentConfig::new(home.endpoint.clone(), home.region.clone(), host.state_dir.clone());
    config.trust = home.trust.clone();
    config.cluster = home.cluster.as_ref().map(ToString::to_string);
    let said = args.host.attributes_in(&home.region).into_iter();
    let said = said.chain(home.attributes.iter().cloned());
    config.attributes = said.map(|(name, value)| Attribute::with(name, value)).collect();
    config.runtime = args.host.runtime_name().map(str::to_owned);
    config.log_endpoints.clone_from(&args.egress.allow_log_endpoint);
    let denied = args.egress.images.deny_egress.iter();
    config.log_egress = denied.fold(Egress::default(), |egress, range| egress.deny(*range));
    let defaults = TaskLimits::default();
    config.task_limits = TaskLimits {
        pids_max: args.host.task_pids_max.unwrap_or(defaults.pids_max),
        storage_bytes: args.host.task_storage_gib.map(|gib| gib << 30).or(defaults.storage_bytes),
    };
    config.region_for_tasks = region_for_tasks(home, &args.host);
    config.introspection = args.host.introspection();
    config.is_fargate = args.host.fargate.unwrap_or(home.is_local());
    config.reserved_cpu_units = args.host.reserved_cpu.unwrap_or(0);
    config.reserved_memory_mib = args.host.reserved_memory.unwrap_or(0);
    config.layer_port = args.host.layer_port.unwrap_or(LAYER_PORT);
    config
}

/// Whether layers are taken from other hosts and given to them: what they are granted by comes by the way to the region,
/// which nobody else may read. The region's own machine has its registry.
fn shares_layers(home: &Home, host: &HostArgs) -> bool {
    let may = !home.is_local() && home.endpoint.scheme_str() == Some("https");
    may && home.underlay.is_some() && host.share_layers.unwrap_or(true)
}

fn puller(
    host: &Host,
    home: &Home,
    args: &AgentArgs,
) -> Result<(Puller, Option<Arc<LayerSharing>>), Error> {
    let is_shared = shares_layers(home, &args.host);
    if args.host.share_layers == Some(true) && !is_shared {
        warn!(
            "layers are shared by hosts that joined over TLS and have an address towards others: this one has no part in it"
        );
    }
    let mut store_config = StoreConfig::new(&host.image_dir);
    if is_shared {
        store_config.offered.bytes_max = args.host.layer_store_gib.unwrap_or(LAYER_STORE_GIB) << 30;
    }
    let store = ImageStore::open(store_config, Arc::new(SystemClock));
    let store = store.map_err(Error::other("open the image store"))?;
    let registry = home.registry().to_owned();
    let sharing = SharingConfig {
        registry: registry.clone(),
        bytes_per_second_max: args.host.layer_rate_mib.unwrap_or(LAYER_RATE_MIB) << 20,
        // They are where the region says, which is not for tasks' images to be denied.
        egress: Egress::default(),
    };
    let sharing = is_shared.then(|| LayerSharing::new(sharing, store.offered().clone()));
    let sharing =
        sharing.transpose().map_err(Error::other("make a certificate for other hosts"))?;
    let sharing = sharing.map(Arc::new);
    let is_plain = home.told.starts_with("http://");
    let client_config = ClientConfig {
        egress: egress(home, &args.egress),
        trust: home.trust.clone().and_system(),
        plain_http: is_plain.then(|| registry.clone()).into_iter().collect(),
        // What comes by a pull-through cache rule it fetches first.
        patient_with: vec![registry.clone()],
        ..ClientConfig::default()
    };
    let puller_config = PullerConfig {
        mirrors: mirrors(home),
        sharing: sharing.clone(),
        ..PullerConfig::default()
    };
    Ok((Puller::new(store, Transport::new(client_config), puller_config), sharing))
}

/// Where images are looked for first: in the region's registry, for names of the cloud's.
fn mirrors(home: &Home) -> Mirrors {
    Mirrors { region_registry: Some(home.registry().to_owned()), ..Mirrors::default() }
}

/// What the SDKs of containers are told of the region.
fn region_for_tasks(home: &Home, host: &HostArgs) -> Option<RegionForTasks> {
    let url = match &host.task_endpoint {
        TaskEndpointUrl::Off => return None,
        TaskEndpointUrl::At(url) => url.clone(),
        TaskEndpointUrl::Auto => {
            let scheme = home.endpoint.scheme_str().unwrap_or("http");
            format!("{scheme}://{}:{}", endpoint::ADDRESS, endpoint::REGION_PORT)
        }
    };
    let ca_file = host.task_ca_file.clone().or_else(|| home.authority_file.clone());
    Some(RegionForTasks { url, ca_file })
}

/// Where containers ask for their credentials.
fn task_endpoint(home: &Home, network: &Network) -> Result<Option<TaskEndpoint>, Error> {
    let vpc = home.vpc.parse().map_err(Error::other("read the VPC's range"))?;
    let mut listeners = network.listeners().into_iter();
    let listener = listeners.next();
    let relay = listeners.next();
    Ok(listener.map(|listener| TaskEndpoint {
        listener,
        relay,
        host: network.host_address(),
        ranges: vec![vpc, network.bridge_range()],
        is_open: false,
    }))
}

/// Where images are fetched from: the region's registry, wherever it is, and what is not this machine.
fn egress(home: &Home, args: &EgressArgs) -> Egress {
    let own = home.authorities().into_iter().fold(Egress::default(), Egress::allow);
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

/// Kills every container of the data directory and removes all that was made for them. Failures
/// are collected: one thing that cannot be removed must not keep the others.
pub(crate) async fn clean(data: &DataDir, environment: &Environment) -> Result<(), Error> {
    let host = Host::of(data)?;
    let mut failures = docker::clean(&host).await;
    if !environment.is_root {
        return if failures.is_empty() { Ok(()) } else { Err(Error::message(failures.join("\n"))) };
    }
    let mut note = |what: &str, error: &(dyn std::error::Error + 'static)| {
        warn!(error = %Chain(error), "could not {what}");
        failures.push(format!("{what}: {}", Chain(error)));
    };
    // A disk that fails does not say whether it is there.
    if host.state_dir.try_exists().unwrap_or(true) {
        match host.sandboxes(environment, 0, None).await {
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
    // Private keys are in it. Beside a region it says how that is served, and the keys are there in any case.
    if data.region().is_err()
        && let Err(error) = balancer::remove_table(data)
    {
        note("remove what load balancers served here", &error);
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
