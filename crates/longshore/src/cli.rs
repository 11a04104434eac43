//! The command line: what can be asked for, and nothing of how it is done.

mod acme;
mod balancer;
mod egress;
mod host;
mod images;
mod login;
mod node;
mod objects;
mod region;
mod secrets;
mod simulate;
mod tasks;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use longshore_types::ClusterName;

pub(crate) use self::acme::AcmeArgs;
pub(crate) use balancer::{BalancerAddress, BalancerArgs, BalancerPlaces, ProxyArgs, TenureArgs};
pub(crate) use egress::EgressArgs;
pub(crate) use host::{AgentArgs, AgentCommand, HostArgs, TaskEndpointUrl};
pub(crate) use images::{Image, ImageLoad, ImagePack, ImageRm};
pub(crate) use login::Login;
pub(crate) use node::{
    AgentAction, JoinArgs, Node, NodeDrain, NodeLs, NodeRm, NodeShow, NodeToken, NodeUpgrade,
    TokenCreate, TokenRevoke, UnitArgs,
};
pub(crate) use objects::{ACCESS_KEY, ObjectStoreArgs, S3Addressing, SECRET_KEY};
pub(crate) use region::{AddressArgs, RegionAlone, RegionArgs};
pub(crate) use secrets::{RootKeyArgs, RotateRoot, Secrets};
pub(crate) use simulate::Simulate;
pub(crate) use tasks::{Connect, Task, TaskRun, TaskStop, Top, TopSort};

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
    /// Have the region that runs here go on as this program, which lies where that was started from: containers run on, and
    /// load balancers serve meanwhile
    Upgrade,
    /// Print `export` lines for the AWS CLI and SDKs
    Env,
    /// Write a profile into the AWS CLI's configuration
    Configure(Configure),
    /// Sign in as a user with a password: write a profile with keys that are good for twelve hours
    Login(Login),
    /// Show processes and tasks
    Ps(Ps),
    /// Show what the tasks of all hosts use: CPU, memory and network
    Top(Top),
    /// Show what was asked at endpoints of Service Connect, by which service, and how it was answered
    Connect(Connect),
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
    Region(Box<RegionAlone>),
    /// Run only this host's agent, in the foreground (needs root)
    Agent(Box<AgentCommand>),
    /// Run only the process that serves the region's load balancers, in the foreground
    Balancer(BalancerArgs),
    /// Run only the process by which tasks of this host reach each other with Service Connect; its agent starts it
    Proxy(ProxyArgs),
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
    /// Who connects: a task (an id or the beginning of one), an interface, or an IPv4 address
    #[arg(long, value_name = "TASK|ENI|IP")]
    pub(crate) from: String,
    /// To whom, and to which port; none for protocols without
    #[arg(long, value_name = "TASK|ENI|IP[:PORT]")]
    pub(crate) to: String,
    /// tcp, udp, icmp (what ping sends), or a protocol's number
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    pub(crate) protocol: String,
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
        let line = "longshore up --driver docker --docker-host unix:///run/d.sock --runtime runsc";
        let said = host(line).unwrap();
        assert_eq!(said.misplaced(), None);
        let line = format!("longshore agent {}", said.to_args().join(" "));
        let said = host(&line).unwrap();
        assert!(said.is_docker());
        assert_eq!(said.docker_socket(), std::path::Path::new("/run/d.sock"));
        assert_eq!(said.runtime.as_deref(), Some("runsc"));
        for bad in ["--driver podman", "--docker-host tcp://127.0.0.1:2375"] {
            assert!(host(&format!("longshore agent {bad}")).is_err(), "{bad}");
        }
        let said = host("longshore agent --runtime runsc=/opt/bin/runsc").unwrap();
        assert_eq!((said.misplaced(), said.runtime_name()), (None, Some("runsc")));
        let line = format!("longshore agent {}", said.to_args().join(" "));
        assert_eq!(host(&line).unwrap().runtime.as_deref(), Some("runsc=/opt/bin/runsc"));
        for lost in [
            "--docker-host unix:///run/d.sock",
            "--driver docker --runtime runsc=/opt/bin/runsc",
            "--driver docker --gpu a=/dev/null",
        ] {
            let said = host(&format!("longshore agent {lost}")).unwrap();
            assert!(said.misplaced().is_some(), "{lost}");
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
    fn hosts_and_tokens_are_listed_by_either_word() {
        for line in ["node ls", "node list"] {
            let command = parse(&format!("longshore {line} --json")).unwrap().command;
            let Command::Node(Node::Ls(args)) = command else { panic!("{line}") };
            assert!(args.json);
        }
        for line in ["node token ls", "node token list"] {
            let command = parse(&format!("longshore {line}")).unwrap().command;
            let Command::Node(Node::Token(NodeToken::Ls(args))) = command else { panic!("{line}") };
            assert!(!args.json);
        }
    }

    #[test]
    fn nonsense_is_refused_at_the_door() {
        for line in [
            "longshore agent --token-file t",
            "longshore agent --host-name a/b",
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
