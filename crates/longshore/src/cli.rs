//! The command line: what can be asked for, and nothing of how it is done.

mod balancer;
mod node;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use agent::{TASK_PIDS_LEAST, TASK_PIDS_MOST};
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};
use control::Advertised;
use longshore_types::{ClusterName, RegionName, Token};

pub(crate) use balancer::{BalancerArgs, BalancerPlaces};
pub(crate) use node::{
    AgentAction, JoinArgs, Node, NodeDrain, NodeRm, NodeShow, NodeToken, TokenCreate, TokenRevoke,
    UnitArgs,
};

/// Where a region listens unless told otherwise: the port that people's wrappers already expect.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:4566";

/// An Amazon ECS that you run yourself.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Where the region keeps everything [default: /var/lib/longshore as root, else
    /// $XDG_DATA_HOME/longshore]
    #[arg(long, global = true, value_name = "DIR", env = "LONGSHORE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a region on this machine: the API and an agent, restarted if they die
    Up(Box<Up>),
    /// Stop the region of this data directory, its tasks and what they used
    Down(Down),
    /// Print `export` lines for the AWS CLI and SDKs
    Env,
    /// Write a profile into the AWS CLI's configuration
    Configure(Configure),
    /// Show processes and tasks
    Ps(Ps),
    /// Show what the region does by itself: each reconciler's passes, queue and failures
    Status,
    /// Show who asked for what, what was decided, and what decided it
    Audit(Audit),
    /// Say which statement of which policy denied a request, or that none allowed it
    WhyDenied(WhyDenied),
    /// Print what a task's containers wrote to CloudWatch Logs
    Logs(Logs),
    /// Load, list and remove images in the region's registry, without Docker
    #[command(subcommand)]
    Image(Image),
    /// Run and stop tasks from a task definition file
    #[command(subcommand)]
    Task(Task),
    /// Ask about the network of tasks
    #[command(subcommand)]
    Net(Net),
    /// Look after the key that secrets are kept under
    #[command(subcommand)]
    Secrets(Secrets),
    /// Hosts of the region: make tokens that they join by, list them, drain and remove them
    #[command(subcommand)]
    Node(Node),
    /// Run only the region's API, in the foreground
    Region(RegionAlone),
    /// Run only this host's agent, in the foreground (needs root)
    Agent(Box<AgentCommand>),
    /// Run only the process that serves the region's load balancers, in the foreground
    Balancer(BalancerArgs),
    /// Drive a region with a simulated fleet, and print the rates and latencies it reached
    Simulate(Simulate),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Net {
    /// Say whether a connection is let through, and which rule of which security group decides that
    Explain(NetExplain),
}

#[derive(Args, Debug)]
pub(crate) struct NetExplain {
    /// Who connects: a task (an id or the beginning of one), or an IPv4 address
    #[arg(long, value_name = "TASK|IP")]
    pub(crate) from: String,
    /// To whom, and to which port; none for protocols without
    #[arg(long, value_name = "TASK|IP[:PORT]")]
    pub(crate) to: String,
    /// tcp, udp, icmp (what ping sends), or a protocol's number
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    pub(crate) protocol: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RegionArgs {
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = LISTEN_DEFAULT)]
    pub(crate) listen: SocketAddr,
    /// The region's name, as it appears in ARNs
    #[arg(long, value_name = "NAME", default_value = "us-east-1")]
    pub(crate) region: RegionName,
    /// Make every 12-digit access key id the root of that account, with this secret
    #[arg(long, value_name = "SECRET", env = "LONGSHORE_ACCOUNT_KEYS", hide_env_values = true)]
    pub(crate) account_keys: Option<String>,
    /// A JSON file with the keys of OpenID Connect providers, from issuers to key sets; others are asked by https
    #[arg(long, value_name = "FILE")]
    pub(crate) oidc_keys: Option<PathBuf>,
    /// A shell command that looks for vulnerabilities in an image: it finds it, as an OCI layout, in the directory
    /// that LONGSHORE_IMAGE names, and prints findings as JSON; that of Trivy is one of the forms
    #[arg(long, value_name = "COMMAND")]
    pub(crate) image_scanner: Option<String>,
    #[command(flatten)]
    pub(crate) root_key: RootKeyArgs,
    /// A host whose HTTP hooks may be asked to rotate secrets; may be given several times
    #[arg(long = "allow-rotation-hook", value_name = "HOST[:PORT]", value_parser = host_and_port)]
    pub(crate) allow_rotation_hook: Vec<String>,
    /// Take requests without TLS from other machines too: whoever sees the traffic can read it
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
    /// Hours for which stopped tasks stay visible
    #[arg(long, value_name = "HOURS", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub(crate) stopped_task_hours: u64,
    /// Seconds for which nothing may be heard of a host's agent before its tasks count as stopped and services
    /// start others elsewhere. A capacity provider may have another limit, by its tag
    /// longshore.heartbeat-timeout-seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u64).range(10..=86_400))]
    pub(crate) heartbeat_timeout_seconds: u64,
    /// The same in minutes
    #[arg(long, alias = "host-silence-minutes", value_name = "MINUTES", hide = true,
          conflicts_with = "heartbeat_timeout_seconds",
          value_parser = clap::value_parser!(u64).range(1..=1440))]
    heartbeat_timeout_minutes: Option<u64>,
    /// Take the addresses of tasks at once, for the agent that is started beside this
    #[arg(long, hide = true)]
    pub(crate) claims_addresses: bool,
    /// End when the process that started this one does
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// The file that standard output and error go to, which is rotated
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

impl RegionArgs {
    /// After so many seconds of silence a host is lost.
    pub(crate) fn heartbeat_timeout_s(&self) -> u64 {
        self.heartbeat_timeout_minutes
            .map_or(self.heartbeat_timeout_seconds, |minutes| minutes * 60)
    }
}

/// What the region is called from elsewhere, and how it proves that it is the one.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AddressArgs {
    /// The address that other machines reach the region at, behind a proxy too: https://HOST[:PORT]. Agents, images,
    /// `env` and `configure` are told this one [default: what it listens on]
    #[arg(long, value_name = "URL")]
    pub(crate) advertise: Option<Advertised>,
    /// A PEM file with the certificate to show, read again when it changes [default: the region's own authority
    /// signs one]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The PEM file of that certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A PEM file with the authority that signed it, if machines don't know it anyway: hosts that join and clients
    /// are told to trust it
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_ca: Option<PathBuf>,
}

impl AddressArgs {
    /// The same again, for another process, whose directory may be another.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let advertised = self.advertise.as_ref().map(|it| OsString::from(it.to_string()));
        let file = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()).into_os_string())
        };
        let files = [
            ("--tls-cert", file(&self.tls_cert)),
            ("--tls-key", file(&self.tls_key)),
            ("--tls-ca", file(&self.tls_ca)),
        ];
        let all = std::iter::once(("--advertise", advertised)).chain(files);
        all.filter_map(|(flag, value)| Some([flag.into(), value?])).flatten().collect()
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RegionAlone {
    #[command(flatten)]
    pub(crate) region: RegionArgs,
    #[command(flatten)]
    pub(crate) images: ImageEgressArgs,
}

/// Where the key is that secrets are kept under: a file `root.key` in the data directory, which is made at the first
/// start, unless one of these says otherwise.
#[derive(Args, Clone, Default)]
pub(crate) struct RootKeyArgs {
    /// The file of the key that secrets are kept under, which nobody else may read [default: root.key in the data
    /// directory, made at the first start]
    #[arg(long, value_name = "FILE")]
    pub(crate) root_key_file: Option<PathBuf>,
    /// A shell command that prints that key, such as a password manager's or a TPM's
    #[arg(long, value_name = "COMMAND", conflicts_with = "root_key_file")]
    pub(crate) root_key_command: Option<String>,
    /// The key itself, from the environment
    #[arg(long, hide = true, env = "LONGSHORE_ROOT_KEY", hide_env_values = true)]
    root_key: Option<String>,
}

impl RootKeyArgs {
    /// As the environment gave it.
    pub(crate) fn given(&self) -> Option<Token> {
        self.root_key.clone().filter(|key| !key.is_empty()).map(Token::from_text)
    }
}

impl std::fmt::Debug for RootKeyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = self.given();
        f.debug_struct("RootKeyArgs")
            .field("root_key_file", &self.root_key_file)
            .field("root_key_command", &self.root_key_command)
            .field("root_key", &given)
            .finish()
    }
}

/// What is done with the key that secrets are kept under.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Keep secrets under another root key from now on. A region that runs does it itself if its key is in a file and
    /// the new one is to be drawn; else it must be stopped meanwhile, its tasks need not
    RotateRoot(RotateRoot),
}

#[derive(Args, Clone)]
pub(crate) struct RotateRoot {
    #[command(flatten)]
    pub(crate) root_key: RootKeyArgs,
    /// The file that has the new key [default: one is drawn and takes the old one's place in its file]
    #[arg(long, value_name = "FILE")]
    pub(crate) new_root_key_file: Option<PathBuf>,
    /// A shell command that prints the new key
    #[arg(long, value_name = "COMMAND", conflicts_with = "new_root_key_file")]
    pub(crate) new_root_key_command: Option<String>,
    /// The new key itself, from the environment
    #[arg(long, hide = true, env = "LONGSHORE_NEW_ROOT_KEY", hide_env_values = true)]
    new_root_key: Option<String>,
}

impl RotateRoot {
    /// Nothing is said of where the keys are: the new one is drawn, and takes the old one's place.
    pub(crate) fn is_plain(&self) -> bool {
        let is_new_elsewhere =
            self.new_root_key_file.is_some() || self.new_root_key_command.is_some();
        let old = &self.root_key;
        let is_old_elsewhere = old.root_key_command.is_some() || old.given().is_some();
        !is_new_elsewhere && !is_old_elsewhere && self.given().is_none()
    }

    /// As the environment gave it.
    pub(crate) fn given(&self) -> Option<Token> {
        self.new_root_key.clone().filter(|key| !key.is_empty()).map(Token::from_text)
    }
}

impl std::fmt::Debug for RotateRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotateRoot").field("root_key", &self.root_key).finish_non_exhaustive()
    }
}

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
    /// The cluster that this host joins as a container instance; a token says it itself
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: ClusterName,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) egress: EgressArgs,
    /// End when the process that started this one does
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// The file that standard output and error go to, which is rotated
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

/// Where this host's agent goes for tasks. It never goes to loopback and link-local addresses or to clouds'
/// metadata services unless it is told to.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct EgressArgs {
    #[command(flatten)]
    pub(crate) images: ImageEgressArgs,
    /// A host besides the region that a task's awslogs-endpoint may name: it is shown credentials of the
    /// task's account; and one on this machine or its link, or a socket, that the drivers syslog, fluentd, gelf and
    /// splunk may send to; may be given several times
    #[arg(long = "allow-log-endpoint", value_name = "HOST[:PORT]|unix://PATH", value_parser = log_endpoint)]
    pub(crate) allow_log_endpoint: Vec<String>,
}

/// Where images are fetched from: by an agent for its tasks, by a region for pull-through cache rules.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ImageEgressArgs {
    /// A registry that images may be pulled from although it is on this machine or its link; may be given
    /// several times
    #[arg(long = "allow-registry", value_name = "HOST[:PORT]", value_parser = host_and_port)]
    pub(crate) allow_registry: Vec<String>,
    /// Addresses that no image is pulled from, such as those of a management network; may be given several
    /// times
    #[arg(long = "deny-egress", value_name = "CIDR")]
    pub(crate) deny_egress: Vec<image::Range>,
}

impl ImageEgressArgs {
    /// The same again, for another process.
    pub(crate) fn to_args(&self) -> Vec<String> {
        let named = |flag: &str, value: String| [flag.to_owned(), value];
        let allowed = self.allow_registry.iter().cloned().map(|it| named("--allow-registry", it));
        let denied = self.deny_egress.iter().map(|it| named("--deny-egress", it.to_string()));
        allowed.chain(denied).flatten().collect()
    }
}

impl EgressArgs {
    /// The same again, for another process.
    pub(crate) fn to_args(&self) -> Vec<String> {
        let logs = self.allow_log_endpoint.iter().cloned();
        let logs = logs.flat_map(|it| ["--allow-log-endpoint".to_owned(), it]);
        self.images.to_args().into_iter().chain(logs).collect()
    }
}

/// A host, or a socket of this machine.
fn log_endpoint(text: &str) -> Result<String, String> {
    match text.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(text.to_owned()),
        Some(_) => Err("write a socket as unix:///PATH".to_owned()),
        None => host_and_port(text),
    }
}

/// `registry.lan`, `127.0.0.1:5000`, `[::1]:5000`.
fn host_and_port(text: &str) -> Result<String, String> {
    let authority = text.parse::<http::uri::Authority>();
    let authority = authority.ok().filter(|it| !it.host().is_empty() && !text.contains('@'));
    authority.map(|it| it.to_string()).ok_or("write it as HOST or HOST:PORT".to_owned())
}

/// What a host says of itself when it joins a cluster; later joins change nothing of it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct HostArgs {
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
    /// Processes and threads that one task may have here [default: 4096]
    #[arg(long, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(TASK_PIDS_LEAST..=TASK_PIDS_MOST))]
    pub(crate) task_pids_max: Option<u64>,
    /// Disk that the layers of images may take: the least recently used go first, and none that a task needs. Looked at
    /// every ten minutes [default: no limit; what was not used for three days goes]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) image_cache_gib: Option<u64>,
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
        let underlay = self.underlay_address.map(|address| address.to_string());
        let limits = [
            text("zone", &self.zone),
            text("instance-type", &self.instance_type),
            text("underlay-address", &underlay),
            text("fargate", &self.fargate.map(|it| if it { "yes" } else { "no" }.to_owned())),
            limit("reserved-cpu", self.reserved_cpu),
            limit("reserved-memory", self.reserved_memory),
            limit("image-cache-gib", self.image_cache_gib),
            limit("task-pids-max", self.task_pids_max),
            limit("task-storage-gib", self.task_storage_gib),
        ];
        attributes
            .map(|(name, value)| ("--instance-attribute".to_owned(), format!("{name}={value}")))
            .chain(limits.into_iter().flatten())
            .chain(self.ways())
            .flat_map(|(flag, value)| [flag, value])
            .collect()
    }
}

/// `b`, or `eu-north-1b`.
fn zone(text: &str) -> Result<String, String> {
    let is_word =
        text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
    let is_zone = is_word && text.ends_with(|c: char| c.is_ascii_lowercase());
    is_zone
        .then(|| text.to_owned())
        .ok_or("a zone is a letter, or a whole name such as eu-north-1b".to_owned())
}

/// `NAME=VALUE`, in the characters that ECS allows.
fn attribute(text: &str) -> Result<(String, String), String> {
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

#[derive(Args, Clone, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) region: RegionArgs,
    /// The cluster that this machine joins as a container instance
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: ClusterName,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) egress: EgressArgs,
    #[command(flatten)]
    pub(crate) balancer: BalancerPlaces,
    /// Return once the region and its agent are ready, and leave them running
    #[arg(long)]
    pub(crate) detach: bool,
    /// The background half of `--detach`
    #[arg(long, hide = true)]
    pub(crate) daemon: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Down {
    /// Leave containers running; the next `up` finds them again
    #[arg(long)]
    pub(crate) keep_tasks: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Configure {
    /// The profile's name
    #[arg(long, default_value = "longshore")]
    pub(crate) profile: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Ps {
    /// Show stopped tasks too
    #[arg(long, short)]
    pub(crate) all: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Logs {
    /// Go on until the task has stopped
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only this container's lines
    #[arg(long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// A task's id, the beginning of one, or its ARN
    pub(crate) task: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Audit {
    /// Go on with what is asked from now on
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only of principals whose ARN contains this, or of this access key id
    #[arg(long, value_name = "TEXT")]
    pub(crate) principal: Option<String>,
    /// Only this action, such as ecs:RunTask, RunTask or ecs:*
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// Only what was denied
    #[arg(long)]
    pub(crate) denied: bool,
    /// Print lines of JSON as they are kept
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct WhyDenied {
    /// The request's id, which clients print with the error
    #[arg(value_name = "REQUEST-ID")]
    pub(crate) request_id: String,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Image {
    /// Push an archive of `docker save`, or an OCI layout, into the region's registry
    Load(ImageLoad),
    /// List the images of the region's registry
    Ls,
    /// Remove an image, given as NAME:TAG or NAME@DIGEST
    Rm(ImageRm),
    /// Make an image archive of one static program, without Docker
    Pack(ImagePack),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImageLoad {
    /// The archive or directory; `-` reads an archive from standard input
    pub(crate) path: PathBuf,
    /// The repository and tag to load it as [default: the name in the archive]
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImageRm {
    #[arg(required = true, value_name = "NAME:TAG")]
    pub(crate) images: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImagePack {
    /// The program: statically linked, since the image holds nothing else
    pub(crate) program: PathBuf,
    /// The archive to write, an OCI layout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The name in the archive
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: String,
    /// Documents a port that the program listens on
    #[arg(long, value_name = "PORT")]
    pub(crate) expose: Vec<u16>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Task {
    /// Register a task definition file and run it on Fargate
    Run(TaskRun),
    /// Stop a task
    Stop(TaskStop),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TaskRun {
    /// What `aws ecs register-task-definition --cli-input-json file://FILE` takes
    pub(crate) file: PathBuf,
    /// The cluster; created if it is missing
    #[arg(long, default_value = "default")]
    pub(crate) cluster: ClusterName,
    /// How many tasks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10))]
    pub(crate) count: i32,
    /// Do nothing if the family has a running task in the cluster; show that one
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds to wait for RUNNING
    #[arg(long, default_value_t = 120)]
    pub(crate) wait: u64,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TaskStop {
    /// A task's id, the beginning of one, or its ARN
    pub(crate) task: String,
    /// Why; shown as the task's stopped reason
    #[arg(long, default_value = "Stopped by longshore task stop")]
    pub(crate) reason: String,
}

/// Drive a region with a simulated fleet, and print the rates and latencies it reached.
///
/// Agents join a cluster, hold their sessions and report tasks as real ones do, by the same protocol;
/// only the containers are pretended. Tasks are asked for through the API. The last line says how
/// many tasks a second came to RUNNING, acknowledged and durable. Everything is removed again at
/// the end, also after ctrl-c.
#[derive(Args, Clone, Debug)]
pub(crate) struct Simulate {
    /// Pretended hosts, spread over three zones
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = number(5000))]
    pub(crate) agents: usize,
    /// Tasks to bring to RUNNING
    #[arg(long, value_name = "M", default_value_t = 10_000, value_parser = number(1_000_000))]
    pub(crate) tasks: usize,
    /// Run one simulation after another with so many tasks, each with a region of its own and one host for
    /// 50 tasks, and print what a task costs in each
    #[arg(long, value_name = "M,M,…", value_delimiter = ',', value_parser = number(1_000_000),
          conflicts_with_all = ["endpoint", "agents", "tasks", "hold"])]
    pub(crate) curve: Vec<usize>,
    /// Drive the region at this address, with the keys in AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY [default: a region started for this, in a temporary directory]
    #[arg(long, value_name = "URL", value_parser = http_endpoint)]
    pub(crate) endpoint: Option<http::Uri>,
    /// The name of that region [default: AWS_REGION]
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub(crate) region: Option<RegionName>,
    /// Join this cluster, which must exist and stays [default: one made for this]
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub(crate) cluster: Option<ClusterName>,
    /// RunTask calls at a time
    #[arg(long, value_name = "C", default_value_t = 16, value_parser = number(1000))]
    pub(crate) connections: usize,
    /// Tasks asked for with one call of RunTask
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = number(10))]
    pub(crate) count_per_call: usize,
    /// Ask for the tasks as a service, not by RunTask; as several if there are more than 5,000
    #[arg(long, conflicts_with_all = ["connections", "count_per_call"])]
    pub(crate) service: bool,
    /// Placement: random, binpack=cpu, binpack=memory, spread=FIELD; may be given several times
    #[arg(long, value_name = "STRATEGY",
          value_parser = crate::commands::simulate::strategy)]
    pub(crate) strategy: Vec<serde_json::Value>,
    /// Milliseconds that a pretended container takes to start
    #[arg(long, value_name = "MS", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=600_000))]
    pub(crate) start_ms: u64,
    /// Report each task as PENDING first, as agents do that look up an image's digest
    #[arg(long)]
    pub(crate) pull: bool,
    /// Seconds to keep all tasks running before they are stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) hold: u64,
    /// Restart the region while all tasks run, and say how long it takes until every host is back
    #[arg(long, conflicts_with_all = ["endpoint", "curve"])]
    pub(crate) restart: bool,
    /// CPU units of a host; 1024 are a core
    #[arg(long, value_name = "UNITS", default_value_t = 16_384,
          value_parser = clap::value_parser!(u64).range(128..=1_048_576))]
    pub(crate) instance_cpu: u64,
    /// Memory of a host
    #[arg(long, value_name = "MIB", default_value_t = 65_536,
          value_parser = clap::value_parser!(u64).range(16..=33_554_432))]
    pub(crate) instance_memory: u64,
    /// CPU units of a task
    #[arg(long, value_name = "UNITS", default_value_t = 128,
          value_parser = clap::value_parser!(u64).range(2..=262_144))]
    pub(crate) task_cpu: u64,
    /// Memory of a task
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(6..=1_048_576))]
    pub(crate) task_memory: u64,
}

/// Reads a count from one to `max`.
fn number(max: usize) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("'{text}' is not a number from 1 to {max}")),
    }
}

fn http_endpoint(text: &str) -> Result<http::Uri, String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(_)) => Ok(uri),
        _ => Err("an address looks like http://127.0.0.1:4566".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn up_takes_what_scripts_rely_on() {
        let line = "longshore up --data-dir /d --listen 127.0.0.1:0 --region eu-north-1 \
                    --account-keys s --detach --cluster web";
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let cli = parse(&line).unwrap();
        assert_eq!(cli.data_dir, Some(PathBuf::from("/d")));
        let Command::Up(up) = cli.command else { panic!("{cli:?}") };
        assert_eq!(up.region.listen.port(), 0);
        assert_eq!(up.region.region.as_str(), "eu-north-1");
        assert_eq!(up.region.account_keys.as_deref(), Some("s"));
        assert!(up.detach);
        assert_eq!(up.cluster.as_str(), "web");
    }

    #[test]
    fn where_an_agent_may_go_reaches_it() {
        let egress = |line: &str| match parse(line)?.command {
            Command::Agent(agent) => Ok::<_, clap::Error>(agent.args.egress.to_args()),
            Command::Up(up) => Ok(up.egress.to_args()),
            other => panic!("{other:?}"),
        };
        let said = "--allow-registry localhost:5000 --allow-registry [::1]:5000 \
                    --deny-egress 10.0.0.0/8 --allow-log-endpoint logs.lan";
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let passed_on = egress(&format!("longshore up {said}")).unwrap().join(" ");
        assert_eq!(passed_on, said);
        assert_eq!(egress(&format!("longshore agent {passed_on}")).unwrap().join(" "), said);
        for wrong in ["--allow-registry http://x", "--allow-registry a@b", "--deny-egress 10.0.0.0"]
        {
            assert!(egress(&format!("longshore up {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn where_a_host_is_and_what_it_is_are_attributes() {
        let line = "longshore up --zone b --instance-type m5.large --instance-attribute a=b";
        let Command::Up(up) = parse(line).unwrap().command else { panic!("{line}") };
        let region = "eu-north-1".parse().unwrap();
        let expected = [
            ("a", "b"),
            ("ecs.availability-zone", "eu-north-1b"),
            ("ecs.instance-type", "m5.large"),
        ];
        assert_eq!(
            up.host.attributes_in(&region),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        let line = format!("longshore agent {}", up.host.to_args().join(" "));
        let Command::Agent(agent) = parse(&line).unwrap().command else { panic!("{line}") };
        assert_eq!(agent.args.host.attributes_in(&region), up.host.attributes_in(&region));
        assert!(parse("longshore up --zone B").is_err());
    }

    #[test]
    fn what_a_host_says_of_itself_reaches_its_agent() {
        let host = |line: &str| match parse(line)?.command {
            Command::Agent(agent) => Ok::<_, clap::Error>(agent.args.host),
            Command::Up(up) => Ok(up.host),
            other => panic!("{other:?}"),
        };
        let line = "longshore up --auto-scaling-group web --instance-attribute stack=prod";
        let said = host(line).unwrap();
        let expected = [("stack", "prod"), ("longshore.auto-scaling-group", "web")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(said.attributes(), expected);
        let line = format!("longshore agent {}", said.to_args().join(" "));
        assert_eq!(host(&line).unwrap().attributes(), expected);
        assert!(!said.is_link_local_open() && !said.is_host_open());
        let line = "longshore up --instance-attribute longshore.link-local=open \
                    --instance-attribute longshore.host-services=closed";
        let said = host(&line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap();
        assert!(said.is_link_local_open() && !said.is_host_open());
        let line = "longshore up --task-pids-max 512 --task-storage-gib 30";
        let line = format!("longshore agent {}", host(line).unwrap().to_args().join(" "));
        let said = host(&line).unwrap();
        assert_eq!((said.task_pids_max, said.task_storage_gib), (Some(512), Some(30)));
        for bad in ["pids-max 15", "pids-max 4194305", "storage-gib 0"] {
            assert!(host(&format!("longshore agent --task-{bad}")).is_err(), "{bad}");
        }
        for bad in ["x", "=x", "x=", "a=#", "longshore.link-local=on"] {
            let line = format!("longshore agent --instance-attribute {bad}");
            assert!(host(&line).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_data_directory_may_stand_before_or_after_the_command() {
        for line in ["longshore --data-dir /d down", "longshore down --data-dir /d"] {
            assert_eq!(parse(line).unwrap().data_dir, Some(PathBuf::from("/d")));
        }
    }

    #[test]
    fn nonsense_is_refused_at_the_door() {
        for line in [
            "longshore",
            "longshore up --listen 4566",
            "longshore up --region EU",
            "longshore up --cluster a/b",
            "longshore logs",
            "longshore image load",
            "longshore task run f --count 0",
            "longshore simulate --agents 0",
            "longshore simulate --count-per-call 11",
            "longshore simulate --endpoint https://h",
            "longshore simulate --endpoint 127.0.0.1:4566",
            "longshore simulate --cluster c",
            "longshore simulate --service --connections 4",
            "longshore simulate --strategy first",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
