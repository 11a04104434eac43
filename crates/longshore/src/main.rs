//! `longshore`: the command line, and the wiring of a region's processes.
//!
//! The same program is every process of a machine: the supervisor, the region, the agent and the
//! shims of containers. A shim must have one thread only, so it is told apart before anything else
//! happens. **Invariant:** the environment and the arguments are read here and nowhere else.

#![allow(
    clippy::disallowed_types,
    reason = "maps that are looked up by key; no decision goes through them in order"
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

mod addresses;
mod cli;
mod client;
mod commands;
mod data_dir;
mod error;
mod instances;
mod keeper;
mod leftovers;
mod listening;
mod logging;
mod membership;
mod object_store;
mod procs;
mod reach;
mod remote;
mod signals;
mod successor;
mod supervisor;
mod table;
mod tasks;
mod upgrade;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::Duration;

use aws_wire::sigv4::Credentials;
use clap::Parser as _;
use longshore_types::{Chain, Token};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use cli::{Cli, Command, Image, Net, Secrets, Task};
use commands::Environment;
use data_dir::DataDir;
use error::Error;
use logging::Logging;
use successor::Successors;

/// The word before a shim's arguments.
const SHIM: &str = "shim";
/// How long what still works in the background is waited for before another program takes over.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if words.nth(1).is_some_and(|word| word == SHIM) {
        sandbox::shim_main(words);
    }
    let cli = Cli::parse();
    // An image that is packed is its user's; all else that we make is for its owner only.
    if !matches!(cli.command, Command::Image(Image::Pack(_))) {
        files::private::set_mask();
    }
    let logging = start_logging(&cli.command);
    // A host's own agent alone may be another program's than the one that was started.
    let is_agent =
        matches!(&cli.command, Command::Agent(it) if it.action.is_none() && !it.args.supervised);
    match start(cli, is_agent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = match error {
                Error::Successor(path) => {
                    bury_children();
                    hand_over(&path)
                }
                Error::Replaced(path) => hand_over(&path),
                error => error,
            };
            logging.say(&format!("longshore: {}", Chain(&error)));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Long-lived processes log what an operator may want to know; commands only what went wrong.
fn start_logging(command: &Command) -> Logging {
    let (is_long_lived, log) = match command {
        Command::Up(args) => (true, args.region.log.clone()),
        Command::Region(args) => (true, args.region.log.clone()),
        Command::Agent(agent) => (agent.action.is_none(), agent.args.log.clone()),
        Command::Balancer(args) => (true, args.log.clone()),
        Command::Proxy(args) => (true, args.log.clone()),
        _ => (false, None),
    };
    let default = if is_long_lived { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("LONGSHORE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    logging::start(filter, is_long_lived, log)
}

fn start(cli: Cli, is_agent: bool) -> Result<(), Error> {
    let environment = environment();
    let data = data_dir(cli.data_dir, &environment)?;
    let successors = (is_agent && environment.is_root).then(|| Successors::of(data.root()));
    if let Some(next) = successors.as_ref().map(Successors::next).transpose()?.flatten() {
        return Err(Error::Successor(next));
    }
    let is_supervised = match &cli.command {
        Command::Region(args) => args.region.supervised,
        Command::Agent(agent) => agent.args.supervised,
        Command::Balancer(args) => args.supervised,
        _ => false,
    };
    if is_supervised {
        end_with_parent();
    }
    if matches!(
        cli.command,
        Command::Region(_) | Command::Balancer(_) | Command::Proxy(_) | Command::Simulate(_)
    ) {
        raise_open_files();
    }
    let mut runtime = match cli.command {
        Command::Region(_) | Command::Agent(_) | Command::Balancer(_) | Command::Proxy(_) => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2);
            runtime
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build().map_err(Error::io("start the runtime"))?;
    let ended = runtime.block_on(run(cli.command, &data, &environment));
    let Some(successors) = successors else { return ended };
    // Whoever takes over must find what this one held let go.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    match ended {
        Err(error) if !matches!(error, Error::Successor(_)) && successors.is_on_trial() => {
            match successors.retreat(&Chain(&error).to_string()) {
                Some(back) => Err(Error::Successor(back)),
                None => Err(error),
            }
        }
        ended => ended,
    }
}

/// What was started by this one and has ended is nobody else's to bury; what has not yet will be the successor's.
fn bury_children() {
    let until = 100;
    for _ in 0..until {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(20)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
}

/// Becomes another program, with the same arguments and the same process id; comes back only if it cannot.
fn hand_over(path: &Path) -> Error {
    let error = process::Command::new(path).args(std::env::args_os().skip(1)).exec();
    Error::Io { doing: "hand over to another program", source: error }
}

async fn run(command: Command, data: &DataDir, environment: &Environment) -> Result<(), Error> {
    match command {
        Command::Up(args) => commands::up::run(data, environment, &args).await,
        Command::Down(args) => commands::down::run(data, environment, args).await,
        Command::Upgrade => commands::upgrade::run(data, environment).await,
        Command::Env => commands::env::run(data),
        Command::Configure(args) => commands::configure::run(data, environment, &args),
        Command::Login(args) => commands::login::run(data, environment, &args).await,
        Command::Ps(args) => commands::ps::run(data, &args).await,
        Command::Top(args) => commands::top::run(data, &args).await,
        Command::Connect(args) => commands::connect_figures::run(data, &args).await,
        Command::Audit(args) => commands::audit::run(data, args).await,
        Command::WhyDenied(args) => commands::audit::why_denied(data, args),
        Command::Status => commands::status::run(data).await,
        Command::Logs(args) => commands::logs::run(data, &args).await,
        Command::Image(Image::Load(args)) => commands::image::load(data, &args).await,
        Command::Image(Image::Ls) => commands::image::ls(data).await,
        Command::Image(Image::Rm(args)) => commands::image::rm(data, &args).await,
        Command::Image(Image::Pack(args)) => commands::pack::run(&args),
        Command::Task(Task::Run(args)) => commands::task::run(data, &args).await,
        Command::Task(Task::Stop(args)) => commands::task::stop(data, &args).await,
        Command::Net(Net::Explain(args)) => commands::net::explain(data, &args).await,
        Command::Secrets(Secrets::RotateRoot(args)) => {
            commands::secrets::rotate_root(data, &args).await
        }
        Command::Node(command) => commands::node::run(data, &command).await,
        Command::Region(args) => commands::region::run(data, &args).await,
        Command::Agent(agent) => commands::agent::run(data, environment, &agent).await,
        Command::Balancer(args) => commands::balancer::run(data, &args).await,
        Command::Proxy(args) => commands::proxy::run(data, &args).await,
        Command::Simulate(args) => commands::simulate::run(environment, &args).await,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn environment() -> Environment {
    let path =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Environment {
        is_root: nix::unistd::geteuid().is_root(),
        home: path("HOME"),
        xdg_data_home: path("XDG_DATA_HOME"),
        aws_config_file: path("AWS_CONFIG_FILE"),
        aws_credentials_file: path("AWS_SHARED_CREDENTIALS_FILE"),
        aws_credentials: aws_credentials(),
        aws_region: text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")),
        search_path: text("PATH").map(OsString::from),
        program: program(),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn text(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

fn aws_credentials() -> Option<Credentials> {
    Some(Credentials {
        access_key: text("AWS_ACCESS_KEY_ID")?,
        secret: Token::from_text(text("AWS_SECRET_ACCESS_KEY")?),
        session_token: text("AWS_SESSION_TOKEN").map(Token::from_text),
    })
}

/// Each agent holds connections open, and what processes may hold by default is too little for a
/// large fleet. The kernel's limit stays as it is.
fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// This program. The kernel's link works even after the file was replaced by a newer one.
fn program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(OsString::from("/proc/self/exe")))
}

fn data_dir(named: Option<PathBuf>, environment: &Environment) -> Result<DataDir, Error> {
    if let Some(path) = named {
        let path = std::path::absolute(&path);
        return Ok(DataDir::new(path.map_err(Error::io("resolve the data directory"))?));
    }
    let (xdg, home) = (environment.xdg_data_home.clone(), environment.home.clone());
    DataDir::default_root(environment.is_root, xdg, home)
        .map(DataDir::new_default)
        .ok_or(Error::NoHome)
}

/// Has the kernel end this process when its supervisor ends, however that happens. Otherwise what
/// a killed supervisor leaves behind would hold the port, and nobody would start it again.
fn end_with_parent() {
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM);
}
