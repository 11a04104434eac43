//! From a task definition's container and an image to what the sandbox is asked to run.
//!
//! The image's defaults and the definition's wishes are merged as Docker merges them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use files::whole::{self, Durability, Readers};
use image::ImageConfig;
use sandbox::{
    ContainerId, ContainerSpec as RunSpec, DeviceBind, FileBind, Limits, LogSink, Mount, NetMode,
    Rootfs, Seccomp, Tmpfs, Ulimit,
};

use super::execute::ActionContext;
use super::failure::Failure;
use super::firelens;
use super::held;
use super::objects::Objects;
use super::secrets::Values;
use super::state::Binding;
use super::step::Created;
use super::volumes::{self, Copy};
use crate::config::TaskLimits;
use crate::endpoint::{self, CREDENTIALS_PATH, CREDENTIALS_VARIABLE};
use crate::limits::NOFILE_DEFAULT;
use crate::logdriver::{LogShipping, SPOOL_SEGMENT_BYTES_MAX};
use crate::ports::{Interface, LocalImage, Published, Surroundings};
use crate::relay;
use crate::spec::{self, ContainerSpec, Device, LogDriver, NetworkMode, SecretTarget};
use crate::state_dir::StateDir;

/// A router's configuration, among the files of its container.
const ROUTER_FILE: &str = "firelens.conf";
/// What that takes in from S3.
const ROUTER_OBJECT: &str = "firelens-external.conf";
/// What NVIDIA's libraries and runtimes go by.
const NVIDIA_VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One container about to be created.
pub(super) struct Launch<'a> {
    pub(super) ctx: &'a ActionContext,
    pub(super) index: usize,
    pub(super) created: &'a Created,
    pub(super) secrets: &'a Values,
    pub(super) objects: &'a Objects,
}

/// Files to be written for a container before it exists.
#[derive(Debug)]
pub(super) struct Files {
    dirs: Vec<PathBuf>,
    entries: Vec<(PathBuf, String)>,
}

impl Launch<'_> {
    fn container(&self) -> &ContainerSpec {
        &self.ctx.spec.containers[self.index]
    }

    fn image(&self) -> Result<&LocalImage, Failure> {
        let missing = || Failure::ImageGone { image: self.container().image.clone() };
        self.ctx.image(self.index).ok_or_else(missing)
    }

    pub(super) fn spec(&self, id: ContainerId) -> Result<RunSpec, Failure> {
        let container = self.container();
        let image = self.image()?;
        let config = &image.config;
        let dir = self.ctx.context.dirs.containers().join(id.as_str());
        let args = arguments(container, config)
            .ok_or_else(|| Failure::NoCommand { image: container.image.clone() })?;
        let process = &container.process;
        let host = &container.host;
        let rootfs = Rootfs {
            lower: image.layers.clone(),
            scratch: dir.join("layer"),
            readonly: host.readonly_root,
        };
        let mut spec = RunSpec::new(id, self.ctx.group_id(), rootfs, args);
        spec.env = self.environment(config);
        let cwd = process.working_dir.as_deref().unwrap_or(&config.working_dir);
        spec.cwd = PathBuf::from(if cwd.is_empty() { "/" } else { cwd });
        spec.user = process.user.clone().unwrap_or_else(|| config.user.clone());
        spec.hostname = (container.network != NetworkMode::Host).then(|| self.hostname());
        spec.netns = self.netns()?;
        (spec.pid, spec.ipc) = held::modes(&self.ctx.spec);
        spec.mounts =
            volumes::mounts(&self.ctx.context.dirs, &self.ctx.spec, self.index, |index| {
                self.ctx.image(index).map(|image| image.config.volumes.clone()).unwrap_or_default()
            })?;
        spec.tmpfs = host.tmpfs.iter().map(|(path, options)| tmpfs(path, options)).collect();
        spec.files = ["hosts", "resolv.conf", "hostname"]
            .into_iter()
            .map(|name| FileBind {
                source: dir.join(name),
                destination: Path::new("/etc").join(name),
                readonly: host.readonly_root,
            })
            .collect();
        if let Some(firelens) = &container.firelens {
            spec.files.push(FileBind {
                source: dir.join(ROUTER_FILE),
                destination: firelens::config_path(firelens.router).to_owned(),
                readonly: true,
            });
            if self.objects.router.is_some() {
                spec.files.push(FileBind {
                    source: dir.join(ROUTER_OBJECT),
                    destination: firelens::object_path(firelens.router).into(),
                    readonly: true,
                });
            }
        }
        let region = self.ctx.context.region_for_tasks.as_ref();
        spec.files.extend(
            region.and_then(|region| region.ca_file.clone()).map(|source| FileBind {
                source,
                destination: relay::CA_PATH.into(),
                readonly: true,
            }),
        );
        let gpus = self.container().gpus.iter().map(String::as_str);
        let needed = self.ctx.context.gpus.edits(gpus);
        let gpu_devices = self.gpu_devices(&needed.devices)?;
        spec.devices = host.devices.iter().map(device).chain(gpu_devices).collect();
        let is_free =
            |mount: &Mount| spec.mounts.iter().all(|it| it.destination != mount.destination);
        let needed_mounts: Vec<Mount> = needed.mounts.into_iter().filter(is_free).collect();
        spec.mounts.extend(needed_mounts);
        for (name, value) in needed.env {
            if spec.env.iter().all(|(known, _)| *known != name) {
                spec.env.push((name, value));
            }
        }
        spec.hooks = needed.hooks;
        spec.shm_size = host.shm_bytes;
        spec.init = host.init;
        spec.sysctls = held::own_sysctls(&self.ctx.spec, host);
        spec.ulimits = ulimits(&host.ulimits);
        spec.cap_add = host.cap_add.clone();
        spec.cap_drop = host.cap_drop.clone();
        spec.privileged = host.privileged;
        spec.no_new_privileges = host.no_new_privileges;
        spec.seccomp = if host.seccomp_unconfined { Seccomp::Unconfined } else { Seccomp::Default };
        spec.limits = limits(container, self.ctx.context.task_limits);
        spec.tty = process.tty;
        spec.open_stdin = process.open_stdin;
        spec.fence = match self.ctx.spec.lease_epoch {
            Some(epoch) => Some(self.ctx.context.lease.fence(epoch).ok_or(Failure::NoLease)?),
            None => None,
        };
        spec.log = match container.log.driver {
            LogDriver::None => LogSink::Discard,
            LogDriver::Awslogs
            | LogDriver::JsonFile
            | LogDriver::Syslog
            | LogDriver::Fluentd
            | LogDriver::Gelf
            | LogDriver::Splunk
            | LogDriver::Firelens => LogSink::Spool {
                dir: self.ctx.context.dirs.spools().join(spec.id.as_str()),
                segment_bytes_max: SPOOL_SEGMENT_BYTES_MAX,
                total_bytes_max: LogShipping::spool_bytes_max(&container.log),
            },
        };
        Ok(spec)
    }

    /// The image's, then what the platform says, then those of links, of environment files and of the task definition.
    fn environment(&self, config: &ImageConfig) -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = Vec::new();
        let mut set = |name: &str, value: &str| match env.iter_mut().find(|(n, _)| n == name) {
            Some((_, known)) => value.clone_into(known),
            None => env.push((name.to_owned(), value.to_owned())),
        };
        set("PATH", DEFAULT_PATH);
        set("HOSTNAME", &self.hostname());
        if self.container().process.tty {
            set("TERM", "xterm");
        }
        for (name, value) in config.env.iter().filter_map(|pair| pair.split_once('=')) {
            set(name, value);
        }
        for (name, value) in self.router_address() {
            set(name, &value);
        }
        let region = self.ctx.context.region_name.as_str();
        let own = &self.ctx.container(self.index).endpoint_id;
        if self.ctx.context.answers_containers && !own.is_empty() {
            for (name, value) in endpoint::variables(own) {
                set(name, &value);
            }
        }
        if let Some(region) = &self.ctx.context.region_for_tasks {
            for (name, value) in region.variables() {
                set(name, &value);
            }
        }
        set("AWS_REGION", region);
        set("AWS_DEFAULT_REGION", region);
        for (name, value) in self.link_environment() {
            set(&name, &value);
        }
        for (name, value) in self.objects.variables() {
            set(name, value);
        }
        for (name, value) in &self.container().environment {
            set(name, value);
        }
        for secret in &self.container().secrets {
            let value = self.secrets.get(secret);
            if let Some(value) = value.filter(|_| secret.target == SecretTarget::Environment) {
                set(&secret.name, value.reveal());
            }
        }
        if self.container().firelens.is_some() {
            for (name, secret) in firelens::secrets(&self.ctx.spec) {
                if let Some(value) = self.secrets.get(secret) {
                    set(&name, value.reveal());
                }
            }
        }
        if let Some(ids) = self.nvidia_gpus() {
            set(NVIDIA_VARIABLE, &ids);
        }
        if let Some(id) = &self.ctx.spec.credentials_id {
            set(CREDENTIALS_VARIABLE, &format!("{CREDENTIALS_PATH}{id}"));
        }
        env
    }

    /// The device files of the container's GPUs, and those that they need `besides`, each once.
    fn gpu_devices(&self, besides: &[PathBuf]) -> Result<Vec<DeviceBind>, Failure> {
        let mut paths: BTreeSet<&PathBuf> = besides.iter().collect();
        for id in &self.container().gpus {
            let gpu = self.ctx.context.gpus.get(id);
            let gpu = gpu.ok_or_else(|| Failure::NoGpu { id: id.clone() })?;
            paths.extend(gpu.devices.iter());
        }
        let bind = |path: &PathBuf| DeviceBind {
            host: path.clone(),
            container: path.clone(),
            read: true,
            write: true,
            mknod: true,
        };
        Ok(paths.into_iter().map(bind).collect())
    }

    /// The ids of its GPUs of NVIDIA's, as that maker's libraries read them.
    fn nvidia_gpus(&self) -> Option<String> {
        let is_nvidia =
            |id: &&String| self.ctx.context.gpus.get(id).is_some_and(|gpu| gpu.is_nvidia);
        let ids: Vec<&str> =
            self.container().gpus.iter().filter(is_nvidia).map(String::as_str).collect();
        (!ids.is_empty()).then(|| ids.join(","))
    }

    /// Where containers that speak to the task's router themselves find it.
    fn router_address(&self) -> Vec<(&'static str, String)> {
        let Some((router, _)) = firelens::router(&self.ctx.spec).filter(|it| it.0 != self.index)
        else {
            return Vec::new();
        };
        let host = match self.ctx.spec.containers[router].network {
            NetworkMode::Awsvpc => Some("127.0.0.1".to_owned()),
            NetworkMode::Bridge => self.ctx.container(router).address.map(|it| it.to_string()),
            NetworkMode::Host | NetworkMode::None => None,
        };
        let address =
            |host| vec![("FLUENT_HOST", host), ("FLUENT_PORT", firelens::PORT.to_string())];
        host.map(address).unwrap_or_default()
    }

    /// The variables of Docker's legacy links: `DB_PORT_5432_TCP_ADDR` and their like.
    fn link_environment(&self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for link in &self.container().links {
            let Some(address) = self.ctx.container(link.to).address else { continue };
            let alias = link.alias.to_ascii_uppercase().replace('-', "_");
            let target = &self.ctx.spec.containers[link.to];
            env.insert(
                format!("{alias}_NAME"),
                format!("/{}/{}", self.container().name, link.alias),
            );
            let mut ports: Vec<(u16, &str)> = target
                .ports
                .iter()
                .map(|port| (port.container_port, port.protocol.as_str()))
                .collect();
            if let Some(image) = self.ctx.image(link.to) {
                let exposed = image.config.exposed.iter().filter_map(|text| {
                    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
                    Some((port.parse().ok()?, protocol))
                });
                ports.extend(exposed);
            }
            ports.sort_unstable();
            ports.dedup();
            for (position, (port, protocol)) in ports.iter().enumerate() {
                let url = format!("{protocol}://{address}:{port}");
                let name = format!("{alias}_PORT_{port}_{}", protocol.to_ascii_uppercase());
                if position == 0 {
                    env.insert(format!("{alias}_PORT"), url.clone());
                }
                env.insert(format!("{name}_ADDR"), address.to_string());
                env.insert(format!("{name}_PORT"), port.to_string());
                env.insert(format!("{name}_PROTO"), (*protocol).to_owned());
                env.insert(name, url);
            }
            for (name, value) in &target.environment {
                env.insert(format!("{alias}_ENV_{name}"), value.clone());
            }
        }
        env
    }

    fn hostname(&self) -> String {
        if let Some(name) = &self.container().process.hostname {
            return name.clone();
        }
        if let Some(eni) = &self.ctx.spec.eni {
            let by_address = || format!("ip-{}", eni.address.to_string().replace('.', "-"));
            return eni.private_dns_name.clone().unwrap_or_else(by_address);
        }
        // Docker's are twelve hexadecimal digits.
        let task = self.ctx.spec.arn.id.to_string();
        format!("{}{:02x}", &task[..10], self.index & 0xff)
    }

    fn netns(&self) -> Result<NetMode, Failure> {
        let missing = || Failure::NamespaceGone;
        match self.container().network {
            NetworkMode::Host => Ok(NetMode::Host),
            NetworkMode::None => Ok(NetMode::Private),
            // Without one, it is made with the container.
            NetworkMode::Bridge => {
                Ok(self.created.netns.clone().map_or(NetMode::Private, NetMode::Path))
            }
            NetworkMode::Awsvpc => {
                let prepared = self.ctx.state.prepared.as_ref();
                let netns = prepared.and_then(|prepared| prepared.netns.clone());
                netns.map(NetMode::Path).ok_or_else(missing)
            }
        }
    }

    /// What a runtime makes of a container that keeps images, networks and names itself.
    pub(super) fn surroundings(&self) -> Result<Surroundings, Failure> {
        let container = self.container();
        let endpoint = self.ctx.container(self.index).runtime_id.clone();
        let port = |binding: &Binding| Published {
            container_port: binding.container_port,
            host_port: binding.host_port,
            protocol: binding.protocol,
        };
        let interface = match (container.network, self.created.address) {
            (NetworkMode::Host, _) => Interface::Host,
            (NetworkMode::Bridge, Some(address)) => {
                let ports = self.created.bindings.iter().map(port).collect();
                Interface::Bridge { endpoint, address, ports }
            }
            (NetworkMode::Bridge | NetworkMode::Awsvpc | NetworkMode::None, _) => Interface::None,
        };
        let linked = container.links.iter().filter_map(|link| {
            let address = self.ctx.container(link.to).address?.to_string();
            let names = [link.alias.clone(), self.ctx.spec.containers[link.to].name.clone()];
            Some(names.map(|name| (name, address.clone())))
        });
        let task = &self.ctx.spec;
        let labels = [
            ("cluster", task.about.cluster_arn.clone()),
            ("container-name", container.name.clone()),
            ("task-arn", task.arn.to_string()),
            ("task-definition-family", task.family.clone()),
            ("task-definition-version", task.version.clone()),
        ];
        let labels = labels.map(|(name, value)| (format!("com.amazonaws.ecs.{name}"), value));
        let mut all = container.process.labels.clone();
        all.extend(labels);
        Ok(Surroundings {
            image: self.image()?.name.clone().unwrap_or_default(),
            interface,
            dns: container.host.dns.clone(),
            dns_search: container.host.dns_search.clone(),
            dns_options: container.host.dns_options.clone(),
            hosts: container.host.extra_hosts.iter().cloned().chain(linked.flatten()).collect(),
            domainname: container.process.domainname.clone(),
            ulimits: container.host.ulimits.iter().map(ulimit).collect(),
            unconfined_by: container.host.unconfined_by.clone(),
            labels: all,
        })
    }

    pub(super) fn files(&self, spec: &RunSpec) -> Files {
        let dir = self.ctx.context.dirs.containers().join(spec.id.as_str());
        let hostname = spec.hostname.clone().unwrap_or_default();
        let text = |name: &str| match (name, self.container().network) {
            ("hostname", NetworkMode::Host) => read_host("/etc/hostname"),
            ("hostname", _) => format!("{hostname}\n"),
            ("hosts", _) => self.hosts(&hostname),
            (_, NetworkMode::Host | NetworkMode::None) => {
                self.resolv(read_host("/etc/resolv.conf"))
            }
            (_, NetworkMode::Awsvpc | NetworkMode::Bridge) => self.resolv(String::new()),
        };
        let names = ["hosts", "resolv.conf", "hostname"];
        let mut entries: Vec<(PathBuf, String)> =
            names.into_iter().map(|name| (dir.join(name), text(name))).collect();
        if let Some(router) = &self.container().firelens {
            let cluster = self.ctx.spec.arn.cluster.as_str();
            let text = firelens::configuration(&self.ctx.spec, self.index, router, cluster);
            entries.push((dir.join(ROUTER_FILE), text));
            if let Some(text) = &self.objects.router {
                entries.push((dir.join(ROUTER_OBJECT), text.clone()));
            }
        }
        Files { entries, dirs: vec![dir, spec.rootfs.scratch.clone()] }
    }

    fn hosts(&self, hostname: &str) -> String {
        let container = self.container();
        let mut text = match container.network {
            NetworkMode::Host => read_host("/etc/hosts"),
            NetworkMode::Awsvpc | NetworkMode::Bridge | NetworkMode::None => {
                "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned()
            }
        };
        let prepared = self.ctx.state.prepared.as_ref().and_then(|prepared| prepared.address);
        for (name, address) in &container.host.extra_hosts {
            let _ = writeln!(text, "{address}\t{name}");
        }
        for link in &container.links {
            if let Some(address) = self.ctx.container(link.to).address {
                let name = &self.ctx.spec.containers[link.to].name;
                let _ = writeln!(text, "{address}\t{} {name}", link.alias);
            }
        }
        if let Some(address) = self.created.address.or(prepared)
            && container.network != NetworkMode::Host
        {
            let domain = container.process.domainname.as_deref();
            let full = domain.map(|domain| format!("{hostname}.{domain} ")).unwrap_or_default();
            let _ = writeln!(text, "{address}\t{full}{hostname}");
        }
        text
    }

    /// `base` with what the definition or the interface says instead.
    fn resolv(&self, base: String) -> String {
        let host = &self.container().host;
        let eni = self.ctx.spec.eni.as_ref();
        let given = |own: &[String], of_eni: Option<&Vec<String>>| match of_eni {
            _ if !own.is_empty() => own.to_vec(),
            Some(list) => list.clone(),
            None => Vec::new(),
        };
        let mut servers = given(&host.dns, eni.map(|eni| &eni.dns_servers));
        let search = given(&host.dns_search, eni.map(|eni| &eni.dns_search));
        if servers.is_empty() && base.is_empty() {
            let of_task = self.ctx.state.prepared.as_ref().and_then(|p| p.nameserver);
            servers.extend(self.created.nameserver.or(of_task).map(|address| address.to_string()));
        }
        let replaced = |line: &str| match line.split_whitespace().next() {
            Some("nameserver") => !servers.is_empty(),
            Some("search" | "domain") => !search.is_empty(),
            Some("options") => !host.dns_options.is_empty(),
            Some(_) | None => false,
        };
        let mut text: String =
            base.lines().filter(|line| !replaced(line)).map(|line| format!("{line}\n")).collect();
        for server in servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !search.is_empty() {
            let _ = writeln!(text, "search {}", search.join(" "));
        }
        if !host.dns_options.is_empty() {
            let _ = writeln!(text, "options {}", host.dns_options.join(" "));
        }
        text
    }

    pub(super) fn copies(&self, spec: &RunSpec) -> Vec<Copy> {
        volumes::copies(&self.ctx.context.dirs, spec)
    }
}

fn read_host(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Docker's rule: an entry point of the definition's own makes the image's command void.
fn arguments(container: &ContainerSpec, config: &ImageConfig) -> Option<Vec<String>> {
    let (mut args, default) = match &container.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), &[][..]),
        None => (config.entrypoint.clone(), &config.cmd[..]),
    };
    args.retain(|word| !word.is_empty() || container.entrypoint.is_none());
    match &container.command {
        Some(command) if !command.is_empty() => args.extend(command.iter().cloned()),
        Some(_) | None => args.extend_from_slice(default),
    }
    (!args.is_empty()).then_some(args)
}

fn limits(container: &ContainerSpec, of_task: TaskLimits) -> Limits {
    let host = &container.host;
    let swap = match (host.memory_swap_bytes, host.memory_bytes) {
        (Some(-1), _) => Some(u64::MAX),
        (Some(both), Some(memory)) => {
            u64::try_from(both).ok().map(|both| both.saturating_sub(memory))
        }
        (Some(_) | None, _) => None,
    };
    Limits {
        cpu_shares: Some(host.cpu_shares),
        cpu_quota: host.cpu_millis.and_then(|millis| u32::try_from(millis).ok()),
        memory: host.memory_bytes,
        memory_reservation: host.memory_reservation_bytes,
        swap,
        swappiness: host.swappiness.map(u64::from),
        pids: Some(host.pids_max.map_or(of_task.pids_max, |asked| asked.min(of_task.pids_max))),
    }
}

fn device(device: &Device) -> DeviceBind {
    DeviceBind {
        host: device.host.clone().into(),
        container: device.container.clone().into(),
        read: device.permissions.contains('r'),
        write: device.permissions.contains('w'),
        mknod: device.permissions.contains('m'),
    }
}

/// Those that were asked for, and defaults that do not depend on how the agent was started. Core files
/// would be written where nobody looks for them.
fn ulimits(asked: &[spec::Ulimit]) -> Vec<Ulimit> {
    let mut limits: Vec<Ulimit> = asked.iter().map(ulimit).collect();
    for (name, most) in [("nofile", NOFILE_DEFAULT), ("core", 0)] {
        if limits.iter().all(|limit| limit.name != name) {
            limits.push(Ulimit { name: name.to_owned(), soft: most, hard: most });
        }
    }
    limits
}

/// A negative limit is none.
fn ulimit(asked: &spec::Ulimit) -> Ulimit {
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    Ulimit { name: asked.name.clone(), soft: limit(asked.soft), hard: limit(asked.hard) }
}

fn tmpfs(path: &str, options: &str) -> Tmpfs {
    let mut tmpfs = Tmpfs { destination: path.into(), size: None, options: Vec::new() };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.strip_prefix("size=") {
            Some(size) => tmpfs.size = parse_size(size).or(tmpfs.size),
            None => tmpfs.options.push(option.to_owned()),
        }
    }
    tmpfs
}

/// `64m`, `1g`, `4096`
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match lower.as_bytes().last()? {
        b'k' => (&lower[..lower.len() - 1], 10),
        b'm' => (&lower[..lower.len() - 1], 20),
        b'g' => (&lower[..lower.len() - 1], 30),
        _ => (lower, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

pub(super) fn write_files(wanted: &Files) -> io::Result<()> {
    for dir in &wanted.dirs {
        files::private::make_dirs(dir)?;
    }
    // Users of the container read them, and a container that is there again after the machine
    // went down is made anew with them.
    let (durability, readers) = (Durability::DiesWithTheMachine, Readers::Everybody);
    wanted
        .entries
        .iter()
        .try_for_each(|(path, text)| whole::write_for(path, text.as_bytes(), durability, readers))
}

/// Removes what was written for a run, but not a log that is kept for a while.
pub(super) fn remove_files(dirs: &StateDir, run: &str) {
    let dir = dirs.containers().join(run);
    let _ = files::dir::remove_tree(&dir.join("layer"));
    for name in ["hosts", "resolv.conf", "hostname", ROUTER_FILE] {
        let _ = fs::remove_file(dir.join(name));
    }
    // An agent that was killed while it wrote one of them left it under another name.
    let _ = files::whole::sweep(&dir);
    // Fails while a log is in it, which housekeeping removes.
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_agent_was_writing_goes_with_its_run() {
        let root = tempfile::tempdir().unwrap();
        let dirs = StateDir::open(root.path()).unwrap();
        let dir = dirs.containers().join("run");
        files::private::make_dirs(&dir).unwrap();
        let half = dir.join(format!(".hosts.{}-0.part", std::process::id() + 1));
        fs::File::create(half).unwrap();
        remove_files(&dirs, "run");
        assert!(!dir.exists());
    }

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, size) in
            [("64m", 64 << 20), ("1g", 1 << 30), ("10k", 10 << 10), ("7", 7), ("2MB", 2 << 20)]
        {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        assert_eq!(parse_size("much"), None);
        assert_eq!(parse_size(""), None);
    }

    #[test]
    fn tmpfs_options_are_split_from_the_size() {
        let tmpfs = tmpfs("/run", "size=2m,mode=0700,rw");
        assert_eq!(tmpfs.size, Some(2 << 20));
        assert_eq!(tmpfs.options, ["mode=0700", "rw"]);
    }
}
