//! `longshore up`: the supervisor of one machine's region and agent.
//!
//! In the foreground it is the parent of both. With `--detach` it starts itself once more in the
//! background, waits until requests are served and the agent has joined, and reports that.

use std::ffi::OsString;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ecs_api as ecs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cli::{ACCESS_KEY, HostArgs, SECRET_KEY, Up};
use crate::client::Client;
use crate::commands::{Environment, connect, upgrade};
use crate::data_dir::{DataDir, Role};
use crate::error::Error;
use crate::logging::{open_log, tell};
use crate::signals;
use crate::supervisor::{self, ChildSpec, Ending, Patience};

/// How long `--detach` waits.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long what did not become ready may take to end when it is asked to.
const END_MAX: Duration = Duration::from_secs(30);
/// Where the region finds its secrets in the environment.
const ACCOUNT_KEYS: &str = "LONGSHORE_ACCOUNT_KEYS";
const ROOT_KEY: &str = "LONGSHORE_ROOT_KEY";
/// Those and the keys of its store: nothing for its other processes.
const SECRETS: &[&str] = &[ACCOUNT_KEYS, ROOT_KEY, ACCESS_KEY, SECRET_KEY];
const POLL: Duration = Duration::from_millis(10);
/// How much of a log is shown when something went wrong.
const TAIL_BYTES: u64 = 2000;

pub(crate) async fn run(data: &DataDir, environment: &Environment, args: &Up) -> Result<(), Error> {
    data.create()?;
    if args.detach {
        return detach(data, environment, args).await;
    }
    if args.daemon {
        // The session of the shell that started us must not end us with it.
        let _ = nix::unistd::setsid();
    }
    let _lock = data.take(Role::Supervisor)?;
    let replacements = signals::Replacements::new();
    upgrade::bury_children();
    let has_agent = has_agent(environment, args);
    if !has_agent {
        say(args, &no_root_text(data));
    }
    #[expect(clippy::disallowed_methods, reason = "aborted below")]
    let announce = tokio::spawn(announce(data.clone(), args.clone(), has_agent));
    let children = children(data, environment, args);
    let mut stop = pin!(signals::stop());
    let ending = upgrade::ending(&environment.program, replacements, stop.as_mut());
    let ended = supervisor::run(children, Patience::default(), ending).await;
    announce.abort();
    match upgrade::unless_stopped(ended?, stop) {
        Ending::Stop => Ok(()),
        Ending::Replace => Err(Error::Replaced(environment.program.clone())),
    }
}

/// To whoever started us, or to the log: that may be on a disk that keeps one waiting.
fn say(args: &Up, text: &str) {
    if args.daemon {
        info!("{text}");
    } else {
        tell!("{text}");
    }
}

fn no_root_text(data: &DataDir) -> String {
    format!(
        "the region runs without its agent: starting containers needs root.\n\
         Tasks will stay unplaced until one joins: sudo longshore agent --data-dir {}",
        data.root().display()
    )
}

fn children(data: &DataDir, environment: &Environment, args: &Up) -> Vec<ChildSpec> {
    let root = || data.root().as_os_str().to_owned();
    let text = |text: &dyn std::fmt::Display| OsString::from(text.to_string());
    let region = &args.region;
    let mut region_args: Vec<OsString> = vec!["region".into(), "--data-dir".into(), root()];
    for (name, value) in [
        ("--listen", text(&region.listen)),
        ("--region", text(&region.region)),
        ("--stopped-task-hours", text(&region.stopped_task_hours)),
        ("--heartbeat-timeout-seconds", text(&region.heartbeat_timeout_s())),
        ("--encrypt-between-hosts", text(&region.encrypt_between_hosts())),
    ] {
        region_args.extend([name.into(), value]);
    }
    if region.insecure_listen {
        region_args.push("--insecure-listen".into());
    }
    region_args.extend(region.address.to_args());
    if let Some(address) = region.dns_listen {
        region_args.extend(["--dns-listen".into(), text(&address)]);
    }
    if let Some(file) = &region.oidc_keys {
        region_args.extend(["--oidc-keys".into(), file.into()]);
    }
    if let Some(command) = &region.image_scanner {
        region_args.extend(["--image-scanner".into(), command.into()]);
    }
    if let Some(file) = &region.root_key.root_key_file {
        region_args.extend(["--root-key-file".into(), file.into()]);
    }
    if let Some(command) = &region.root_key.root_key_command {
        region_args.extend(["--root-key-command".into(), command.into()]);
    }
    for host in &region.allow_hook {
        region_args.extend(["--allow-hook".into(), host.into()]);
    }
    region_args.extend(region.objects.to_args());
    region_args.extend(args.egress.images.to_args().into_iter().map(OsString::from));
    if environment.is_root {
        region_args.push("--claims-addresses".into());
    }
    region_args.push("--supervised".into());
    // Not as an argument: those can be read by every user of the machine.
    let secret = region.account_keys.iter().map(|secret| (ACCOUNT_KEYS.into(), secret.into()));
    let root_key = region.root_key.given();
    let root_key = root_key.iter().map(|key| (ROOT_KEY.into(), key.reveal().into()));
    let log = |name: &str| args.daemon.then(|| data.log_file(name));
    if let Some(log) = log("region") {
        region_args.extend(["--log".into(), log.into()]);
    }
    let mut children = vec![ChildSpec {
        name: "region",
        program: environment.program.clone(),
        args: region_args,
        env: secret.chain(root_key).chain(region.objects.to_env()).collect(),
        without: &[],
        log: log("region"),
        is_essential: true,
        outlives: false,
    }];
    let mut balancer_args: Vec<OsString> = vec!["balancer".into(), "--data-dir".into(), root()];
    balancer_args.extend(args.balancer.to_args());
    balancer_args.push("--take-over".into());
    balancer_args.push("--supervised".into());
    if let Some(log) = log("balancer") {
        balancer_args.extend(["--log".into(), log.into()]);
    }
    children.push(ChildSpec {
        name: "balancer",
        program: environment.program.clone(),
        args: balancer_args,
        env: Vec::new(),
        without: SECRETS,
        log: log("balancer"),
        is_essential: false,
        outlives: true,
    });
    if has_agent(environment, args) {
        let mut agent_args: Vec<OsString> = vec!["agent".into(), "--data-dir".into(), root()];
        agent_args.extend(["--cluster".into(), text(&args.cluster), "--supervised".into()]);
        let room = shared_room(&args.host);
        let told = args.host.to_args().into_iter().chain(args.egress.to_args()).chain(room);
        agent_args.extend(told.map(OsString::from));
        if let Some(log) = log("agent") {
            agent_args.extend(["--log".into(), log.into()]);
        }
        children.push(ChildSpec {
            name: "agent",
            program: environment.program.clone(),
            args: agent_args,
            env: Vec::new(),
            // What the region's secrets are kept under is nothing for those who look after containers.
            without: SECRETS,
            log: log("agent"),
            is_essential: false,
            outlives: false,
        });
    }
    children
}

/// Whether containers can be run here: by ourselves as root, or by Docker.
fn has_agent(environment: &Environment, args: &Up) -> bool {
    environment.is_root || args.host.is_docker()
}

/// A machine that somebody tries things on has tasks that mostly sleep: unless it is told otherwise, Fargate tasks may ask
/// for four times its cores together. What each of them takes is limited as everywhere.
fn shared_room(host: &HostArgs) -> Option<String> {
    const NAME: &str = "longshore.fargate-cpu-percent";
    let is_said = host.instance_attributes.iter().any(|(name, _)| name == NAME);
    (!is_said).then(|| format!("--instance-attribute={NAME}=400"))
}

/// Says once that the region is ready, and where.
async fn announce(data: DataDir, args: Up, has_agent: bool) {
    let cluster = has_agent.then(|| args.cluster.to_string());
    let started = Instant::now();
    loop {
        if let Ok(true) = is_ready(&data, cluster.as_deref()).await {
            let ms = started.elapsed().as_millis();
            if let Ok(file) = data.running_region() {
                let (region, endpoint) = (file.region.clone(), file.told());
                say(&args, &format!("{region} is ready at {endpoint} after {ms} ms"));
                let flag = data_dir_flag(&data);
                say(&args, &format!("use it with: eval \"$(longshore env{flag})\""));
            }
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What commands need to find this data directory again, if it is not the default one.
fn data_dir_flag(data: &DataDir) -> String {
    if data.is_default() { String::new() } else { format!(" --data-dir {}", data.root().display()) }
}

/// Whether requests are served and, if a cluster is given, a host of it is connected.
async fn is_ready(data: &DataDir, cluster: Option<&str>) -> Result<bool, Error> {
    let region = data.running_region()?;
    if !Client::is_healthy(region.endpoint()).await {
        return Ok(false);
    }
    let Some(cluster) = cluster else { return Ok(true) };
    let client = connect(data)?;
    let input = ecs::ListContainerInstancesRequest {
        cluster: Some(cluster.to_owned()),
        ..ecs::ListContainerInstancesRequest::default()
    };
    let listed: ecs::ListContainerInstancesResponse =
        client.ecs("ListContainerInstances", &input).await?;
    let arns = listed.container_instance_arns.unwrap_or_default();
    if arns.is_empty() {
        return Ok(false);
    }
    let input = ecs::DescribeContainerInstancesRequest {
        cluster: Some(cluster.to_owned()),
        container_instances: Some(arns),
        ..ecs::DescribeContainerInstancesRequest::default()
    };
    let described: ecs::DescribeContainerInstancesResponse =
        client.ecs("DescribeContainerInstances", &input).await?;
    let instances = described.container_instances.unwrap_or_default();
    Ok(instances.iter().any(|instance| instance.agent_connected == Some(true)))
}

async fn detach(data: &DataDir, environment: &Environment, args: &Up) -> Result<(), Error> {
    if let Some(pid) = data.holder(Role::Supervisor) {
        let path = data.root().to_owned();
        return Err(Error::InUse { role: Role::Supervisor, pid: Some(pid), path });
    }
    let log = data.log_file("up");
    let starts =
        ["region", "balancer", "agent", "up"].map(|name| (name, size(&data.log_file(name))));
    let mut daemon = spawn_daemon(data, environment, args, &log)?;
    let cluster = has_agent(environment, args).then(|| args.cluster.to_string());
    let why = tokio::select! {
        why = await_ready(data, cluster.as_deref(), &mut daemon) => why,
        () = signals::stop() => Some("it was not waited for".to_owned()),
    };
    if let Some(why) = why {
        end(&mut daemon).await;
        for (name, start) in starts {
            show_tail(&data.log_file(name), start);
        }
        return Err(Error::message(format!("the region did not become ready: {why}")));
    }
    if !has_agent(environment, args) {
        tell!("{}", no_root_text(data));
    }
    let region = data.running_region()?;
    let flag = data_dir_flag(data);
    println!("{} is ready at {} (pid {})", region.region, region.told(), daemon.id());
    println!("use it with:  eval \"$(longshore env{flag})\"");
    println!("stop it with: longshore down{flag}");
    Ok(())
}

/// Waits until requests are served and, if a cluster is given, a host of it is connected; or says why that
/// is not so.
async fn await_ready(data: &DataDir, cluster: Option<&str>, daemon: &mut Child) -> Option<String> {
    let end = Instant::now() + READY_MAX;
    loop {
        if let Ok(true) = is_ready(data, cluster).await {
            return None;
        }
        if let Ok(Some(status)) = daemon.try_wait() {
            return Some(format!("it ended with {status}"));
        }
        if Instant::now() >= end {
            let what =
                if cluster.is_some() { "its agent did not join" } else { "it did not answer" };
            return Some(format!("{what} within {} s", READY_MAX.as_secs()));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Ends what did not become ready, so that the next try finds nobody there. Its children end with it.
async fn end(daemon: &mut Child) {
    let is_over = |daemon: &mut Child| !matches!(daemon.try_wait(), Ok(None));
    if let Ok(pid) = i32::try_from(daemon.id())
        && !is_over(daemon)
    {
        // It is our child and not waited for, so that the number is still its own.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let end = Instant::now() + END_MAX;
    while !is_over(daemon) {
        if Instant::now() >= end {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        tokio::time::sleep(POLL).await;
    }
}

fn spawn_daemon(
    data: &DataDir,
    environment: &Environment,
    args: &Up,
    log: &Path,
) -> Result<Child, Error> {
    let output = open_log(log);
    let output = output.map_err(|source| Error::DataDir { path: log.to_owned(), source })?;
    let second = output.try_clone().map_err(Error::io("open the log twice"))?;
    let mut command = Command::new(&environment.program);
    command.args(daemon_args(data, args, log));
    if let Some(secret) = &args.region.account_keys {
        command.env(ACCOUNT_KEYS, secret);
    }
    command.envs(args.region.objects.to_env());
    // Not in whatever directory it was started from: that one may go away.
    command.current_dir(data.root());
    command.stdin(Stdio::null()).stdout(output).stderr(second);
    command.spawn().map_err(Error::io("start the region in the background"))
}

/// What the background's process is told: all that this one was. Its directory is another, so that paths are absolute.
fn daemon_args(data: &DataDir, args: &Up, log: &Path) -> Vec<OsString> {
    let region = &args.region;
    let text = |text: &dyn std::fmt::Display| OsString::from(text.to_string());
    let file = |file: &Path| {
        std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).into_os_string()
    };
    let mut told: Vec<OsString> = vec!["up".into(), "--daemon".into()];
    for (name, value) in [
        ("--data-dir", data.root().into()),
        ("--log", log.into()),
        ("--listen", text(&region.listen)),
        ("--region", text(&region.region)),
        ("--cluster", text(&args.cluster)),
        ("--stopped-task-hours", text(&region.stopped_task_hours)),
        ("--heartbeat-timeout-seconds", text(&region.heartbeat_timeout_s())),
        ("--encrypt-between-hosts", text(&region.encrypt_between_hosts())),
    ] {
        told.extend([name.into(), value]);
    }
    let host = args.host.to_args().into_iter().chain(args.egress.to_args());
    told.extend(host.map(OsString::from));
    if region.insecure_listen {
        told.push("--insecure-listen".into());
    }
    told.extend(region.address.to_args());
    if let Some(address) = region.dns_listen {
        told.extend(["--dns-listen".into(), text(&address)]);
    }
    told.extend(args.balancer.to_args());
    told.extend(region.objects.to_args());
    if let Some(keys) = &region.oidc_keys {
        told.extend(["--oidc-keys".into(), file(keys)]);
    }
    if let Some(command) = &region.image_scanner {
        told.extend(["--image-scanner".into(), command.into()]);
    }
    if let Some(key) = &region.root_key.root_key_file {
        told.extend(["--root-key-file".into(), file(key)]);
    }
    if let Some(command) = &region.root_key.root_key_command {
        told.extend(["--root-key-command".into(), command.into()]);
    }
    for host in &region.allow_hook {
        told.extend(["--allow-hook".into(), host.into()]);
    }
    told
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Shows the end of what was written to a log since it had `start` bytes.
fn show_tail(path: &Path, start: u64) {
    let tail = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(len.saturating_sub(TAIL_BYTES)).min(len)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match tail() {
        Ok(text) if !text.trim().is_empty() => {
            tell!("--- {}", path.display());
            tell!("{}", text.trim_end());
        }
        Ok(_) => {}
        Err(error) => warn!(error = %error, "a log could not be read"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command as Subcommand};

    fn up(args: &[OsString]) -> Up {
        let cli = Cli::try_parse_from(std::iter::once("longshore".into()).chain(args.to_vec()));
        match cli.unwrap().command {
            Subcommand::Up(up) => *up,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_background_is_told_where_the_root_key_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        let told = |given: &[&str]| {
            let given = up(&given.iter().map(OsString::from).collect::<Vec<_>>());
            up(&daemon_args(&data, &given, Path::new("/log"))).region.root_key
        };
        let file = told(&["up", "--detach", "--root-key-file", "keys/root"]).root_key_file;
        assert_eq!(file, Some(std::path::absolute("keys/root").unwrap()));
        let given: Vec<OsString> =
            ["up", "--tls-cert", "c", "--tls-key", "k", "--advertise", "https://r"]
                .map(OsString::from)
                .to_vec();
        let address = up(&daemon_args(&data, &up(&given), Path::new("/log"))).region.address;
        assert_eq!(address.tls_key, Some(std::path::absolute("k").unwrap()));
        assert_eq!(address.advertise.unwrap().to_string(), "https://r");
        let given: Vec<OsString> = [
            "up",
            "--balancer-address",
            "10.0.0.7",
            "--access-logs",
            "logs",
            "--dns-listen",
            "10.0.0.7:53",
        ]
        .map(OsString::from)
        .to_vec();
        let background = up(&daemon_args(&data, &up(&given), Path::new("/log")));
        assert_eq!(background.region.dns_listen, Some("10.0.0.7:53".parse().unwrap()));
        let places = background.balancer;
        assert_eq!(places.balancer_address.unwrap().to_string(), "10.0.0.7");
        assert_eq!(places.access_logs, Some(std::path::absolute("logs").unwrap()));
        let command = told(&["up", "--detach", "--root-key-command", "pass 'a b'"]);
        assert_eq!(command.root_key_command.as_deref(), Some("pass 'a b'"));
    }
}
