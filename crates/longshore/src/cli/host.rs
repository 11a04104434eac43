//! What a host's agent is told, and what it says of its host.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use agent::{Gpu, TASK_PIDS_LEAST, TASK_PIDS_MOST};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use longshore_types::{ClusterName, RegionName};

use super::balancer::BalancerAddress;
use super::egress::EgressArgs;
use super::node::{AgentAction, JoinArgs};

#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AgentCommand {
    #[command(flatten)]
    pub(crate) args: AgentArgs,
    #[command(subcommand)]
    pub(crate) action: Option<AgentAction>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AgentArgs {
    /// The cluster that this host joins as a container instance; a token says it itself, an activation does not
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: ClusterName,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// This machine's address at which internet-facing load balancers that have an interface here are reached, or `off`
    /// [default: the one by which other hosts reach it]
    #[arg(long, value_name = "IP|off")]
    pub(crate) balancer_address: Option<BalancerAddress>,
    #[command(flatten)]
    pub(crate) egress: EgressArgs,
    /// End when the process that started this one does
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// The file that standard output and error go to, which is rotated
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

/// What a host says of itself when it joins a cluster, and what it offers and keeps to.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct HostArgs {
    /// What runs the containers of tasks: Longshore itself, which needs root, or a Docker Engine that is on the machine,
    /// which does without where its socket may be used
    #[arg(long, value_name = "native|docker", value_enum, default_value_t = DriverName::Native)]
    pub(crate) driver: DriverName,
    /// Where the Docker Engine is [default: unix:///var/run/docker.sock]
    #[arg(long, value_name = "unix:///PATH", value_parser = docker_host)]
    pub(crate) docker_host: Option<PathBuf>,
    /// The OCI runtime that containers are run by, such as runc or runsc: a program of that name in PATH, or where it is
    /// said to be; with --driver docker the name that it has there. Announced as the attribute longshore.runtime
    /// [default: Longshore's own, or Docker's default]
    #[arg(long, value_name = "NAME[=/PATH]")]
    pub(crate) runtime: Option<String>,
    /// The Auto Scaling group that this machine belongs to: the capacity provider that names the
    /// group places its tasks here
    #[arg(long, value_name = "NAME")]
    pub(crate) auto_scaling_group: Option<String>,
    /// The Availability Zone that this machine is in: a letter, or a zone's whole name
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub(crate) zone: Option<String>,
    /// The type of this machine, as the attribute ecs.instance-type
    #[arg(long, value_name = "TYPE")]
    pub(crate) instance_type: Option<String>,
    /// An attribute of this machine, for placement constraints and strategies; may be given several
    /// times
    #[arg(long = "instance-attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub(crate) instance_attributes: Vec<(String, String)>,
    /// The address by which other hosts reach this one: tasks on different hosts exchange their packets by it
    /// [default: the one towards the region]
    #[arg(long, value_name = "ADDR")]
    pub(crate) underlay_address: Option<Ipv4Addr>,
    /// Whether Fargate tasks of every account are placed here [default: yes on the region's own machine, no on a host
    /// that has joined]
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new())]
    pub(crate) fargate: Option<bool>,
    /// CPU that the host keeps for itself and no task is placed on; 1024 units are a core [default: 0]
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    pub(crate) reserved_cpu: Option<u64>,
    /// Memory that the host keeps for itself [default: 0]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(0..=33_554_432))]
    pub(crate) reserved_memory: Option<u64>,
    /// A GPU that tasks are given whole, with its device files, for those of other makers than NVIDIA; may be given several
    /// times [default: those that NVIDIA's driver tells of]
    #[arg(long = "gpu", value_name = "ID=/dev/FILE[,/dev/FILE…]")]
    pub(crate) gpus: Vec<Gpu>,
    /// Offer no GPUs
    #[arg(long, conflicts_with = "gpus")]
    pub(crate) no_gpus: bool,
    /// Processes and threads that one task may have here [default: 4096]
    #[arg(long, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(TASK_PIDS_LEAST..=TASK_PIDS_MOST))]
    pub(crate) task_pids_max: Option<u64>,
    /// Disk that the layers of images may take: the least recently used go first, and none that a task needs. Looked at
    /// every ten minutes [default: no limit; what was not used for three days goes]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) image_cache_gib: Option<u64>,
    /// Whether layers of images are taken from other hosts that joined, and given to them [default: yes on a host that joined
    /// over TLS]
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new())]
    pub(crate) share_layers: Option<bool>,
    /// The port at which other hosts take layers from this one [default: 14790]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) layer_port: Option<u16>,
    /// What is given to all other hosts together, each second [default: 128]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    pub(crate) layer_rate_mib: Option<u64>,
    /// Disk that layers may take which are kept for other hosts, beside those unpacked and within --image-cache-gib
    /// [default: 8]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) layer_store_gib: Option<u64>,
    /// Disk that a task may use which is told no amount of ephemeral storage, as on EC2 instances
    /// [default: no limit but the room reserved for the host]
    #[arg(long, value_name = "GIB",
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) task_storage_gib: Option<u64>,
    /// What containers are told as AWS_ENDPOINT_URL, so that their SDKs find this region: `auto` leads them by
    /// the agent's own address, `off` tells them nothing, a URL is told as it is
    #[arg(long, value_name = "auto|off|URL", default_value = "auto")]
    pub(crate) task_endpoint: TaskEndpointUrl,
    /// Certificates that containers are to trust for it, as a file of this machine that they find by
    /// AWS_CA_BUNDLE
    #[arg(long, value_name = "FILE")]
    pub(crate) task_ca_file: Option<PathBuf>,
    /// Where operators ask the agent for its tasks, as at Amazon's (/v1/metadata, /v1/tasks), or `off`
    /// [default: 127.0.0.1:51678]
    #[arg(long, value_name = "ADDR:PORT|off", value_parser = introspection)]
    pub(crate) introspection: Option<IntrospectionAt>,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DriverName {
    #[default]
    Native,
    Docker,
}

/// Where the Docker Engine is unless it is said.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// `unix:///run/user/1000/docker.sock`, as `DOCKER_HOST` has it.
fn docker_host(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").filter(|path| path.starts_with('/'));
    path.map(PathBuf::from).ok_or_else(|| {
        "write it as unix:///PATH: Docker is spoken to on its own machine, by its socket".to_owned()
    })
}

/// What containers are told of the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum TaskEndpointUrl {
    #[default]
    Auto,
    Off,
    At(String),
}

impl std::str::FromStr for TaskEndpointUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            url => {
                let uri: http::Uri = url.parse().map_err(|_| "write auto, off or a URL")?;
                let is_url = matches!(uri.scheme_str(), Some("http" | "https"));
                let is_url = is_url && uri.host().is_some_and(|host| !host.is_empty());
                is_url
                    .then(|| Self::At(url.to_owned()))
                    .ok_or("write auto, off or a URL".to_owned())
            }
        }
    }
}

impl std::fmt::Display for TaskEndpointUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::At(url) => url,
        })
    }
}

/// Where an agent is asked, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntrospectionAt {
    Nowhere,
    At(SocketAddr),
}

fn introspection(text: &str) -> Result<IntrospectionAt, String> {
    match text {
        "off" => Ok(IntrospectionAt::Nowhere),
        text => {
            let address = text.parse().map_err(|_| "write ADDR:PORT or off")?;
            Ok(IntrospectionAt::At(address))
        }
    }
}

/// What of the host is open to tasks on this instance, where the value says so; see docs/security.md.
const LINK_LOCAL_ATTRIBUTE: &str = "longshore.link-local";
const HOST_SERVICES_ATTRIBUTE: &str = "longshore.host-services";
const OPEN: &str = "open";
const CLOSED: &str = "closed";

/// The attribute by which an instance says to which Auto Scaling group it belongs.
const GROUP_ATTRIBUTE: &str = "longshore.auto-scaling-group";

impl HostArgs {
    /// All that is said, as attributes of an instance in a region.
    pub(crate) fn attributes_in(&self, region: &RegionName) -> Vec<(String, String)> {
        let zone = self.zone.as_ref().map(|zone| {
            let is_letter = zone.len() == 1;
            if is_letter { format!("{region}{zone}") } else { zone.clone() }
        });
        let named =
            [("ecs.availability-zone", zone), ("ecs.instance-type", self.instance_type.clone())];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        self.attributes().into_iter().chain(named).collect()
    }

    /// What is said by attributes alone.
    pub(crate) fn attributes(&self) -> Vec<(String, String)> {
        let group = self.auto_scaling_group.iter();
        let group = group.map(|group| (GROUP_ATTRIBUTE.to_owned(), group.clone()));
        self.instance_attributes.iter().cloned().chain(group).collect()
    }

    /// Whether tasks reach 169.254.0.0/16 by way of this host.
    pub(crate) fn is_link_local_open(&self) -> bool {
        self.is_open(LINK_LOCAL_ATTRIBUTE)
    }

    /// Whether bridged containers reach what listens on this host.
    pub(crate) fn is_host_open(&self) -> bool {
        self.is_open(HOST_SERVICES_ATTRIBUTE)
    }

    /// Whether containers are run by Docker.
    pub(crate) fn is_docker(&self) -> bool {
        self.driver == DriverName::Docker
    }

    /// The socket of the Docker Engine.
    pub(crate) fn docker_socket(&self) -> PathBuf {
        self.docker_host.clone().unwrap_or_else(|| PathBuf::from(DOCKER_SOCKET))
    }

    /// What is only for one of the drivers, and which is not this one.
    pub(crate) fn misplaced(&self) -> Option<String> {
        let of_docker = [("--docker-host", self.docker_host.is_some())];
        let is_path = |runtime: &String| runtime.contains('=');
        let of_native = [
            ("--runtime NAME=/PATH", self.runtime.as_ref().is_some_and(is_path)),
            ("--gpu", !self.gpus.is_empty()),
            ("--fargate yes", self.fargate == Some(true)),
            ("--share-layers yes", self.share_layers == Some(true)),
            ("--image-cache-gib", self.image_cache_gib.is_some()),
            ("--underlay-address", self.underlay_address.is_some()),
        ];
        let said = |(flag, is_said): (&'static str, bool)| is_said.then_some(flag);
        match self.driver {
            DriverName::Native => {
                let flag = of_docker.into_iter().find_map(said)?;
                Some(format!("{flag} is for containers that Docker runs: say --driver docker too"))
            }
            DriverName::Docker => {
                let flag = of_native.into_iter().find_map(said)?;
                Some(format!("{flag} is nothing that --driver docker has: leave it out"))
            }
        }
    }

    /// What the runtime of containers is called, if it is not our own.
    pub(crate) fn runtime_name(&self) -> Option<&str> {
        let runtime = self.runtime.as_deref()?;
        Some(runtime.split_once('=').map_or(runtime, |(name, _)| name))
    }

    /// What runs containers, as flags.
    fn driver_args(&self) -> Vec<(String, String)> {
        let driver = self.is_docker().then(|| ("--driver".to_owned(), "docker".to_owned()));
        let socket = self
            .docker_host
            .iter()
            .map(|path| ("--docker-host".to_owned(), format!("unix://{}", path.display())));
        let runtime = self.runtime.iter().map(|name| ("--runtime".to_owned(), name.clone()));
        driver.into_iter().chain(socket).chain(runtime).collect()
    }

    /// Where operators ask this host's agent.
    pub(crate) fn introspection(&self) -> Option<SocketAddr> {
        match self.introspection {
            None => Some(agent::introspection::ADDRESS),
            Some(IntrospectionAt::At(address)) => Some(address),
            Some(IntrospectionAt::Nowhere) => None,
        }
    }

    /// Given several times, the last counts, as for attributes.
    fn is_open(&self, attribute: &str) -> bool {
        let said = self.instance_attributes.iter().rev().find(|(name, _)| name == attribute);
        said.is_some_and(|(_, value)| value == OPEN)
    }

    /// How containers and operators find what they ask, as flags.
    fn ways(&self) -> Vec<(String, String)> {
        let ca_file = self.task_ca_file.iter().map(|path| path.display().to_string());
        let asked_at = self.introspection.iter().map(|at| match at {
            IntrospectionAt::Nowhere => "off".to_owned(),
            IntrospectionAt::At(address) => address.to_string(),
        });
        let endpoint = ("--task-endpoint".to_owned(), self.task_endpoint.to_string());
        std::iter::once(endpoint)
            .chain(ca_file.map(|path| ("--task-ca-file".to_owned(), path)))
            .chain(asked_at.map(|at| ("--introspection".to_owned(), at)))
            .collect()
    }

    /// The same again, for another process.
    pub(crate) fn to_args(&self) -> Vec<String> {
        let attributes = self.attributes().into_iter();
        let limit = |name: &str, value: Option<u64>| {
            value.map(|value| (format!("--{name}"), value.to_string()))
        };
        let text = |name: &str, value: &Option<String>| {
            value.clone().map(|value| (format!("--{name}"), value))
        };
        let said = |it: Option<bool>| it.map(|it| if it { "yes" } else { "no" }.to_owned());
        let underlay = self.underlay_address.map(|address| address.to_string());
        let limits = [
            text("zone", &self.zone),
            text("instance-type", &self.instance_type),
            text("underlay-address", &underlay),
            text("fargate", &said(self.fargate)),
            limit("reserved-cpu", self.reserved_cpu),
            limit("reserved-memory", self.reserved_memory),
            limit("image-cache-gib", self.image_cache_gib),
            text("share-layers", &said(self.share_layers)),
            limit("layer-port", self.layer_port.map(u64::from)),
            limit("layer-rate-mib", self.layer_rate_mib),
            limit("layer-store-gib", self.layer_store_gib),
            limit("task-pids-max", self.task_pids_max),
            limit("task-storage-gib", self.task_storage_gib),
        ];
        attributes
            .map(|(name, value)| ("--instance-attribute".to_owned(), format!("{name}={value}")))
            .chain(limits.into_iter().flatten())
            .chain(self.ways())
            .chain(self.driver_args())
            .chain(self.gpus.iter().map(|gpu| ("--gpu".to_owned(), gpu.to_string())))
            .flat_map(|(flag, value)| [flag, value])
            .chain(self.no_gpus.then(|| "--no-gpus".to_owned()))
            .collect()
    }
}

/// `b`, or `eu-north-1b`.
pub(super) fn zone(text: &str) -> Result<String, String> {
    let is_word =
        text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
    let is_zone = is_word && text.ends_with(|c: char| c.is_ascii_lowercase());
    is_zone
        .then(|| text.to_owned())
        .ok_or("a zone is a letter, or a whole name such as eu-north-1b".to_owned())
}

/// `NAME=VALUE`, in the characters that ECS allows.
pub(super) fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    let check = |what: &str, text: &str, punctuation: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || punctuation.contains(c);
        if (1..=128).contains(&text.chars().count()) && text.chars().all(is_allowed) {
            return Ok(());
        }
        Err(format!(
            "a {what} has between 1 and 128 letters, digits or characters of {punctuation}"
        ))
    };
    check("name", name, "-_./\\")?;
    check("value", value, "-_./@:\\ ")?;
    let is_wall = [LINK_LOCAL_ATTRIBUTE, HOST_SERVICES_ATTRIBUTE].contains(&name);
    if is_wall && ![OPEN, CLOSED].contains(&value) {
        return Err(format!("{name} is either {OPEN} or {CLOSED}"));
    }
    Ok((name.to_owned(), value.to_owned()))
}
