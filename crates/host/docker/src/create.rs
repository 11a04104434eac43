//! What the sandbox is asked for, in Docker's words. Pure: nothing is asked of the engine here.
//!
//! **Invariant:** every member of a specification is said to Docker, or refused.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HealthConfig,
    HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkingConfig, PortBinding, ResourcesUlimits,
};
use longshore_types::TransportProtocol;
use sandbox::{
    ContainerSpec, DeviceBind, IpcMode, Limits, LogSink, NetMode, PidMode, SandboxError, Seccomp,
    Tmpfs, Ulimit,
};
use sha2::{Digest as _, Sha256};

use crate::{AGENT_LABEL, DockerConfig};

/// The run that a container is.
pub(crate) const RUN_LABEL: &str = "longshore.run";
/// The group, which is the task, that it is of.
pub(crate) const GROUP_LABEL: &str = "longshore.group";
/// The endpoint that it has, and its address.
pub(crate) const ENDPOINT_LABEL: &str = "longshore.endpoint";
pub(crate) const ADDRESS_LABEL: &str = "longshore.address";

/// Files that Docker writes itself, from what else it is told.
const WRITTEN_BY_DOCKER: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];
/// Docker keeps the output of a container until it is removed; older half of it goes when this is reached.
const LOG_FILES: u64 = 2;

/// What is around a container besides what the sandbox is told, for who makes that himself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// As Docker finds it.
    pub image: String,
    pub interface: Interface,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// Names and addresses for its `/etc/hosts`.
    pub hosts: Vec<(String, String)>,
    pub domainname: Option<String>,
    /// Those that were asked for: what stands for others is Docker's own.
    pub ulimits: Vec<Ulimit>,
    /// What else confines a container that is to be taken away, in Docker's words: our own sandbox has none of it.
    pub unconfined_by: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    #[default]
    None,
    Host,
    /// In the agent's own network of Docker's, at an address that nobody else has.
    Bridge {
        endpoint: String,
        address: Ipv4Addr,
        ports: Vec<Published>,
    },
}

/// A port of the container at a port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub container_port: u16,
    pub host_port: u16,
    pub protocol: TransportProtocol,
}

/// How a run is called in Docker.
pub(crate) fn name_of(tag: &str, run: &str) -> String {
    format!("longshore-{tag}-{run}")
}

/// And the network of an agent's containers.
pub(crate) fn network_of(tag: &str) -> String {
    format!("longshore-{tag}")
}

/// The whole of what Docker is asked for.
pub(crate) fn body(
    config: &DockerConfig,
    spec: &ContainerSpec,
    around: &Surroundings,
) -> Result<ContainerCreateBody, SandboxError> {
    refuse(spec)?;
    let mut labels: HashMap<String, String> = around.labels.clone().into_iter().collect();
    labels.insert(AGENT_LABEL.to_owned(), config.tag.clone());
    labels.insert(RUN_LABEL.to_owned(), spec.id.to_string());
    labels.insert(GROUP_LABEL.to_owned(), spec.group.to_string());
    // A label of an image's counts where there is none here: an empty one says that there is no endpoint.
    let [endpoint, address] = match &around.interface {
        Interface::Bridge { endpoint, address, .. } => [endpoint.clone(), address.to_string()],
        Interface::None | Interface::Host => Default::default(),
    };
    labels.insert(ENDPOINT_LABEL.to_owned(), endpoint);
    labels.insert(ADDRESS_LABEL.to_owned(), address);
    let (mut exposed, mut networking) = (Vec::new(), None);
    if let Interface::Bridge { address, ports, .. } = &around.interface {
        exposed = ports.iter().map(port_name).collect();
        let own = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(address.to_string()),
                ..EndpointIpamConfig::default()
            }),
            ..EndpointSettings::default()
        };
        let all = [(network_of(&config.tag), own)].into_iter().collect();
        networking = Some(NetworkingConfig { endpoints_config: Some(all) });
    }
    let mut args = spec.args.iter().cloned();
    let program = args.next().ok_or_else(|| invalid("command", "it is empty"))?;
    Ok(ContainerCreateBody {
        hostname: spec.hostname.clone(),
        domainname: around.domainname.clone(),
        user: Some(spec.user.clone()),
        exposed_ports: Some(exposed),
        tty: Some(spec.tty),
        open_stdin: Some(spec.open_stdin),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        entrypoint: Some(vec![program]),
        cmd: Some(args.collect()),
        // An image's own is nothing that ECS asks for: what a task definition asks for is run by the agent.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        image: Some(around.image.clone()),
        working_dir: Some(spec.cwd.to_string_lossy().into_owned()),
        labels: Some(labels),
        host_config: Some(host_config(config, spec, around)),
        networking_config: networking,
        ..ContainerCreateBody::default()
    })
}

/// What only our own sandbox can do.
fn refuse(spec: &ContainerSpec) -> Result<(), SandboxError> {
    const WHY: &str = "the Docker driver of this host does not have it";
    let is_joined = matches!(spec.pid, PidMode::Join(_)) || matches!(spec.ipc, IpcMode::Join(_));
    if spec.pause || is_joined {
        return Err(invalid("pidMode or ipcMode", WHY));
    }
    if matches!(spec.netns, NetMode::Path(_)) {
        return Err(invalid("networkMode awsvpc", WHY));
    }
    if spec.fence.is_some() {
        return Err(invalid("fence", WHY));
    }
    if !spec.hooks.is_empty() {
        return Err(invalid("hook of a GPU", WHY));
    }
    Ok(())
}

fn invalid(what: &str, why: &str) -> SandboxError {
    SandboxError::Invalid { what: what.to_owned(), why: why.to_owned() }
}

fn host_config(config: &DockerConfig, spec: &ContainerSpec, around: &Surroundings) -> HostConfig {
    let Limits { cpu_shares, cpu_quota, memory, memory_reservation, swappiness, pids, .. } =
        spec.limits;
    let is_plain = |file: &&sandbox::FileBind| {
        !WRITTEN_BY_DOCKER.iter().any(|it| file.destination == Path::new(it))
    };
    let files = spec.files.iter().filter(is_plain);
    let files = files.map(|file| bind(&file.source, &file.destination, file.readonly));
    let mounts = spec.mounts.iter();
    let mounts =
        mounts.map(|mount| match config.volumes.iter().any(|own| mount.source.starts_with(own)) {
            true => volume(&config.tag, mount),
            false => bind(&mount.source, &mount.destination, mount.readonly),
        });
    let security = [
        spec.no_new_privileges.then_some("no-new-privileges"),
        (spec.seccomp == Seccomp::Unconfined).then_some("seccomp=unconfined"),
    ];
    HostConfig {
        cpu_shares: cpu_shares.map(signed),
        nano_cpus: cpu_quota.map(|millis| i64::from(millis).saturating_mul(1_000_000)),
        memory: memory.map(signed),
        memory_reservation: memory_reservation.map(signed),
        memory_swap: memory.map(|memory| memory_and_swap(memory, spec.limits.swap)),
        memory_swappiness: swappiness.map(signed),
        pids_limit: pids.map(signed),
        cgroup_parent: config
            .cgroup_parent
            .as_ref()
            .map(|parent| parent.join(spec.group.as_str()).to_string_lossy().into_owned()),
        devices: Some(spec.devices.iter().map(device).collect()),
        init: Some(spec.init),
        ulimits: Some(around.ulimits.iter().map(ulimit).collect()),
        log_config: Some(log_config(&spec.log)),
        network_mode: Some(match &around.interface {
            Interface::None => "none".to_owned(),
            Interface::Host => "host".to_owned(),
            Interface::Bridge { .. } => network_of(&config.tag),
        }),
        port_bindings: Some(bindings(&around.interface)),
        mounts: Some(mounts.chain(files).collect()),
        cap_add: Some(spec.cap_add.clone()),
        cap_drop: Some(spec.cap_drop.clone()),
        dns: Some(around.dns.clone()),
        dns_options: Some(around.dns_options.clone()),
        dns_search: Some(around.dns_search.clone()),
        extra_hosts: Some(
            around.hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect(),
        ),
        group_add: Some(spec.additional_gids.iter().map(u32::to_string).collect()),
        ipc_mode: Some(ipc_mode(&spec.ipc).to_owned()),
        pid_mode: (spec.pid == PidMode::Host).then(|| "host".to_owned()),
        privileged: Some(spec.privileged),
        readonly_rootfs: Some(spec.rootfs.readonly),
        security_opt: Some(
            security
                .into_iter()
                .flatten()
                .chain(around.unconfined_by.iter().map(String::as_str))
                .map(str::to_owned)
                .collect(),
        ),
        tmpfs: Some(spec.tmpfs.iter().map(tmpfs).collect()),
        shm_size: spec.shm_size.map(signed),
        sysctls: Some(spec.sysctls.clone().into_iter().collect()),
        runtime: config.runtime.clone(),
        ..HostConfig::default()
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// None unless it is given, as in the sandbox.
fn memory_and_swap(memory: u64, swap: Option<u64>) -> i64 {
    match swap {
        Some(u64::MAX) => -1,
        swap => signed(memory.saturating_add(swap.unwrap_or(0))),
    }
}

fn ipc_mode(mode: &IpcMode) -> &'static str {
    match mode {
        IpcMode::Host => "host",
        IpcMode::None => "none",
        IpcMode::Private | IpcMode::Join(_) => "private",
    }
}

fn device(device: &DeviceBind) -> DeviceMapping {
    let letters = [(device.read, 'r'), (device.write, 'w'), (device.mknod, 'm')];
    let text = |path: &Path| Some(path.to_string_lossy().into_owned());
    DeviceMapping {
        path_on_host: text(&device.host),
        path_in_container: text(&device.container),
        cgroup_permissions: Some(
            letters.into_iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| letter).collect(),
        ),
    }
}

/// Docker writes no limit as -1.
fn ulimit(limit: &Ulimit) -> ResourcesUlimits {
    let value = |value: u64| Some(i64::try_from(value).unwrap_or(-1));
    ResourcesUlimits {
        name: Some(limit.name.clone()),
        soft: value(limit.soft),
        hard: value(limit.hard),
    }
}

fn tmpfs(tmpfs: &Tmpfs) -> (String, String) {
    let size = tmpfs.size.map(|size| format!("size={size}"));
    let options: Vec<String> = size.into_iter().chain(tmpfs.options.iter().cloned()).collect();
    (tmpfs.destination.to_string_lossy().into_owned(), options.join(","))
}

/// Output is shipped by the agent, whatever its driver: Docker only keeps it until then.
fn log_config(sink: &LogSink) -> HostConfigLogConfig {
    match sink {
        LogSink::Discard => HostConfigLogConfig { typ: Some("none".to_owned()), config: None },
        LogSink::Spool { total_bytes_max, .. } => {
            let each = (total_bytes_max / LOG_FILES).max(1);
            let config = [("max-size", each), ("max-file", LOG_FILES)];
            let config = config.map(|(name, value)| (name.to_owned(), value.to_string()));
            HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(config.into_iter().collect()),
            }
        }
    }
}

fn bind(source: &Path, destination: &Path, readonly: bool) -> Mount {
    Mount {
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(destination.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(readonly),
        ..Mount::default()
    }
}

/// A directory of ours as a volume of Docker's, since those are filled from the image while they are empty.
fn volume(tag: &str, mount: &sandbox::Mount) -> Mount {
    let device = mount.source.to_string_lossy().into_owned();
    let options = [("type", "none"), ("o", "bind"), ("device", &device)];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Mount {
        source: Some(volume_name(tag, &mount.source)),
        target: Some(mount.destination.to_string_lossy().into_owned()),
        typ: Some(MountType::VOLUME),
        read_only: Some(mount.readonly),
        volume_options: Some(MountVolumeOptions {
            labels: Some([(AGENT_LABEL.to_owned(), tag.to_owned())].into_iter().collect()),
            driver_config: Some(MountVolumeOptionsDriverConfig {
                name: Some("local".to_owned()),
                options: Some(options.into_iter().collect()),
            }),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

/// Another directory has another name.
fn volume_name(tag: &str, path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let hash = Sha256::digest(path.as_os_str().as_bytes());
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("longshore-{tag}-{hash}")
}

fn port_name(port: &Published) -> String {
    format!("{}/{}", port.container_port, port.protocol.as_str())
}

fn bindings(interface: &Interface) -> HashMap<String, Option<Vec<PortBinding>>> {
    let Interface::Bridge { ports, .. } = interface else { return HashMap::new() };
    let mut all: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: Some(Ipv4Addr::UNSPECIFIED.to_string()),
            host_port: Some(port.host_port.to_string()),
        };
        all.entry(port_name(port)).or_default().get_or_insert_default().push(binding);
    }
    all
}

#[cfg(test)]
mod tests {
    use sandbox::{FileBind, Rootfs};

    use super::*;

    fn config() -> DockerConfig {
        DockerConfig {
            socket: "/nowhere".into(),
            tag: "0badcafe".to_owned(),
            runtime: Some("runsc".to_owned()),
            cgroup_parent: Some("/longshore/0badcafe".into()),
            volumes: vec!["/data/volumes".into()],
        }
    }

    fn spec() -> ContainerSpec {
        let rootfs = Rootfs { lower: vec![], scratch: "/scratch".into(), readonly: true };
        let args = vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()];
        ContainerSpec::new("run".parse().unwrap(), "task".parse().unwrap(), rootfs, args)
    }

    fn host(spec: &ContainerSpec) -> HostConfig {
        body(&config(), spec, &Surroundings::default()).unwrap().host_config.unwrap()
    }

    #[test]
    fn a_command_is_the_whole_command_whatever_the_image_says() {
        let body = body(&config(), &spec(), &Surroundings::default()).unwrap();
        assert_eq!(body.entrypoint, Some(vec!["sh".to_owned()]));
        assert_eq!(body.cmd, Some(vec!["-c".to_owned(), "true".to_owned()]));
        let host = body.host_config.unwrap();
        assert_eq!(host.runtime.as_deref(), Some("runsc"));
        assert_eq!(host.cgroup_parent.as_deref(), Some("/longshore/0badcafe/task"));
        assert_eq!(host.readonly_rootfs, Some(true));
    }

    #[test]
    fn limits_are_those_of_the_sandbox() {
        let mut spec = spec();
        spec.limits = Limits {
            cpu_shares: Some(512),
            cpu_quota: Some(1_500),
            memory: Some(64 << 20),
            pids: Some(100),
            ..Limits::default()
        };
        let ulimits = vec![Ulimit { name: "nofile".into(), soft: 10, hard: u64::MAX }];
        let around = Surroundings { ulimits, ..Surroundings::default() };
        let said = body(&config(), &spec, &around).unwrap().host_config.unwrap();
        assert_eq!((said.cpu_shares, said.nano_cpus), (Some(512), Some(1_500_000_000)));
        assert_eq!((said.memory, said.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!(said.pids_limit, Some(100));
        let limit = &said.ulimits.unwrap()[0];
        assert_eq!((limit.soft, limit.hard), (Some(10), Some(-1)));
        spec.limits.swap = Some(u64::MAX);
        assert_eq!(host(&spec).memory_swap, Some(-1));
        spec.limits.swap = Some(1 << 20);
        assert_eq!(host(&spec).memory_swap, Some(65 << 20));
    }

    #[test]
    fn directories_of_the_agents_are_volumes_and_the_hosts_are_binds() {
        let mut spec = spec();
        let mount = |source: &str| sandbox::Mount {
            source: source.into(),
            destination: "/x".into(),
            readonly: false,
        };
        spec.mounts = vec![mount("/data/volumes/task/cache"), mount("/srv")];
        spec.files = ["/etc/hosts", "/etc/longshore-ca.pem"]
            .map(|path| FileBind { source: "/f".into(), destination: path.into(), readonly: true })
            .to_vec();
        let mounts = host(&spec).mounts.unwrap();
        let kinds: Vec<_> = mounts.iter().map(|mount| mount.typ).collect();
        assert_eq!(kinds, [MountType::VOLUME, MountType::BIND, MountType::BIND].map(Some));
        assert_eq!(mounts[2].target.as_deref(), Some("/etc/longshore-ca.pem"));
        let options = mounts[0].volume_options.clone().unwrap().driver_config.unwrap().options;
        assert_eq!(options.unwrap()["device"], "/data/volumes/task/cache");
    }

    #[test]
    fn ports_are_published_at_the_address_of_the_container() {
        let port = |container_port, host_port| Published {
            container_port,
            host_port,
            protocol: TransportProtocol::Tcp,
        };
        let address = Ipv4Addr::new(172, 30, 0, 9);
        let ports = vec![port(80, 32_768), port(80, 8080)];
        let interface = Interface::Bridge { endpoint: "e".to_owned(), address, ports };
        let around = Surroundings { interface, ..Surroundings::default() };
        let body = body(&config(), &spec(), &around).unwrap();
        let endpoints = body.networking_config.unwrap().endpoints_config.unwrap();
        let own = endpoints["longshore-0badcafe"].ipam_config.clone().unwrap();
        assert_eq!(own.ipv4_address.as_deref(), Some("172.30.0.9"));
        let bound = body.host_config.unwrap().port_bindings.unwrap();
        let bound: Vec<_> =
            bound["80/tcp"].iter().flatten().map(|it| it.host_port.clone()).collect();
        assert_eq!(bound, [Some("32768".to_owned()), Some("8080".to_owned())]);
    }

    #[test]
    fn what_is_to_be_unconfined_docker_is_told() {
        let mut spec = spec();
        spec.no_new_privileges = true;
        let unconfined_by = vec!["apparmor=unconfined".to_owned(), "label=disable".to_owned()];
        let around = Surroundings { unconfined_by, ..Surroundings::default() };
        let said = body(&config(), &spec, &around).unwrap().host_config.unwrap().security_opt;
        assert_eq!(said.unwrap(), ["no-new-privileges", "apparmor=unconfined", "label=disable"]);
    }

    #[test]
    fn labels_of_ours_are_nobody_elses_to_say() {
        let ours = [AGENT_LABEL, RUN_LABEL, GROUP_LABEL, ENDPOINT_LABEL, ADDRESS_LABEL];
        let mut labels: BTreeMap<String, String> =
            ours.map(|name| (name.to_owned(), "forged".to_owned())).into();
        labels.insert("team".to_owned(), "web".to_owned());
        for interface in [Interface::Host, Interface::None] {
            let around = Surroundings { interface, labels: labels.clone(), ..Default::default() };
            let said = body(&config(), &spec(), &around).unwrap().labels.unwrap();
            let values = ours.map(|name| said[name].as_str());
            assert_eq!(values, ["0badcafe", "run", "task", "", ""]);
            assert_eq!(said["team"], "web");
        }
    }

    #[test]
    fn what_only_the_sandbox_has_is_refused() {
        let mut joined = spec();
        joined.pid = PidMode::Join("pause".parse().unwrap());
        let mut elsewhere = spec();
        elsewhere.netns = NetMode::Path("/run/netns/x".into());
        for spec in [joined, elsewhere] {
            let refused = body(&config(), &spec, &Surroundings::default());
            assert!(matches!(refused, Err(SandboxError::Invalid { .. })));
        }
    }
}
