//! `longshore balancer`: the process that takes clients' connections for the region's load balancers.
//!
//! On the region's own machine it asks the region where it is at each call, so it goes on whatever becomes of the region
//! meanwhile. On a host that joined, the agent has it run while there are interfaces of balancers ([`is_wanted`]): it reads the
//! table of those alone, by the host's keys and over TLS, and goes on whatever becomes of agent and region.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_wire::sigv4::Credentials;
use balancer::{Config, Doors, Feed, FeedError, Interfaces, RegionDoor, Tenure};
use futures_util::future::BoxFuture;
use longshore_types::{Chain, RegionName};
use network::{balancer_namespace, has_balancers};
use nix::unistd::setsid;
use routing::wire::ReadRequest;
use routing::{InterfaceRef, Report, Update, introduction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cli::{BalancerAddress, BalancerArgs};
use crate::client::Client;
use crate::commands::{agent, kept, region as region_command};
use crate::data_dir::{DataDir, Role};
use crate::error::Error;
use crate::membership::Membership;
use crate::remote::Remote;
use crate::signals;

/// What the process keeps, in the data directory.
pub(crate) const BALANCER_DIR: &str = "balancer";
const POLL: Duration = Duration::from_millis(20);
/// How often whoever is to start the process looks whether a balancer has an interface.
const WANTED_LOOK: Duration = Duration::from_millis(250);
/// How long a region on another machine may wait with its answer: below what the call itself may take.
const MEMBER_WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn run(data: &DataDir, args: &BalancerArgs) -> Result<(), Error> {
    data.create()?;
    if let Some(membership) = Membership::load(data.root())? {
        return run_on_host(data, args, membership).await;
    }
    let tenure = tenure(data, args)?;
    let Some(region) = region_name(data).await else { return Ok(()) };
    let keys = region_command::load_keys(data)?;
    let doors = Arc::new(Door(data.clone()));
    let credentials = Credentials {
        access_key: keys.node.access_key_id,
        secret: keys.node.secret_access_key,
        session_token: None,
    };
    let config = Config {
        state_dir: data.root().join(BALANCER_DIR),
        logs_dir: args.places.access_logs.clone().unwrap_or_else(|| default_logs(data)),
        region: region.to_string(),
        node: "local".to_owned(),
        local: args
            .places
            .balancer_address
            .map_or(Some(Ipv4Addr::LOCALHOST.into()), |it| it.address()),
        interfaces: Arc::new(HostInterfaces(agent::run_dir(data)?)),
        doors,
        missing_wait: balancer::limits::MISSING_WAIT,
    };
    let line = Arc::new(Line { data: data.clone(), credentials });
    info!(%region, "balancer ready");
    kept::serve(config, tenure, line, signals::stop()).await
}

fn tenure(data: &DataDir, args: &BalancerArgs) -> Result<Tenure, Error> {
    kept::tenure(data, (Role::Balancer, args.tenure), &data.root().join(BALANCER_DIR))
}

/// Beside the agent of a host that joined.
async fn run_on_host(
    data: &DataDir,
    args: &BalancerArgs,
    membership: Membership,
) -> Result<(), Error> {
    // Not with the session of the agent that started it.
    let _ = setsid();
    let tenure = tenure(data, args)?;
    let run_dir = agent::run_dir(data)?;
    let config = Config {
        state_dir: data.root().join(BALANCER_DIR),
        logs_dir: args.places.access_logs.clone().unwrap_or_else(|| default_logs(data)),
        region: membership.region.to_string(),
        node: membership.node.clone(),
        local: args.places.balancer_address.and_then(BalancerAddress::address),
        interfaces: Arc::new(HostInterfaces(run_dir.clone())),
        doors: Arc::new(kept::NoDoors),
        missing_wait: balancer::limits::MISSING_WAIT,
    };
    let line = Arc::new(MemberLine(data.root().to_owned()));
    info!(region = %membership.region, "balancer ready");
    kept::serve_while_needed(config, tenure, line, || has_balancers(&run_dir)).await
}

/// What says whether there are interfaces of balancers on the host, for whoever has the process run.
pub(super) fn is_wanted(run_dir: &Path) -> impl FnMut() -> bool + use<> {
    let (run_dir, mut last) = (run_dir.to_owned(), None::<(Instant, bool)>);
    move || {
        let known = last.filter(|(at, _)| at.elapsed() < WANTED_LOOK);
        let (_, is_wanted) = known.unwrap_or_else(|| (Instant::now(), has_balancers(&run_dir)));
        last = known.or(Some((Instant::now(), is_wanted)));
        is_wanted
    }
}

/// Takes away the table of a process that is not here, where nothing is left for it to serve: keys of certificates are in it.
/// A host whose interfaces moved while it was away is not told so by a process of its own.
pub(super) fn forget_table(data: &DataDir, run_dir: &Path) {
    if has_balancers(run_dir) || data.holder(Role::Balancer).is_some() {
        return;
    }
    match remove_table(data) {
        Ok(true) => info!("what load balancers served here is forgotten"),
        Ok(false) => {}
        Err(error) => {
            warn!(error = %Chain(&error), "what load balancers served here could not be removed");
        }
    }
}

/// Removes the table of a process that is not here; says whether there was one.
pub(super) fn remove_table(data: &DataDir) -> Result<bool, Error> {
    let path = data.root().join(BALANCER_DIR).join(balancer::TABLE_FILE);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::DataDir { path, source }),
    }
}

/// As the machine's agent makes them.
#[derive(Debug)]
struct HostInterfaces(PathBuf);

impl Interfaces for HostInterfaces {
    fn lead_egress(&self) -> io::Result<SocketAddr> {
        // No balancer's interface has egress addresses.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn lead_ingress(&self, _: SocketAddr, _: SocketAddr) -> io::Result<()> {
        // Nobody listens at a balancer's interface but the balancer.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn namespace(&self, interface: &InterfaceRef) -> PathBuf {
        kept::namespace(interface, |eni, vpc| balancer_namespace(&self.0, &eni, vpc))
    }
}

/// The region's own listener, to which this process introduces what comes to VPC endpoints.
#[derive(Debug)]
struct Door(DataDir);

impl Doors for Door {
    fn region(&self) -> Option<RegionDoor> {
        let region = self.0.running_region().ok()?;
        let token = introduction::token(region.introduction_token.as_ref()?)?;
        Some(RegionDoor { address: region.endpoint(), token })
    }
}

fn default_logs(data: &DataDir) -> PathBuf {
    data.root().join(BALANCER_DIR).join("access-logs")
}

/// The region's name, once one has run here; `None` if asked to end before.
async fn region_name(data: &DataDir) -> Option<RegionName> {
    let wait = async {
        loop {
            if let Ok(region) = data.region() {
                return region.region;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        name = wait => Some(name),
        () = signals::stop() => None,
    }
}

/// The region of a data directory, wherever it listens now.
#[derive(Clone)]
struct Line {
    data: DataDir,
    credentials: Credentials,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({})", self.data.root().display())
    }
}

impl Line {
    fn client(&self) -> Result<Client, Error> {
        let region = self.data.running_region()?;
        Ok(Client::new(region.endpoint(), region.region, self.credentials.clone()))
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl Fn(E) -> FeedError {
    move |error| FeedError { doing, source: Box::new(error) }
}

/// The region that a host has joined, by the keys that the host has now: its agent renews them. It is called by the host's
/// data directory.
#[derive(Debug)]
struct MemberLine(PathBuf);

impl MemberLine {
    async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O, Error> {
        let membership = Membership::load(&self.0)?;
        let membership = membership.ok_or_else(|| Error::message("this host is no member"))?;
        let tls = Arc::new(membership.trust()?.client_config());
        let remote = Remote { endpoint: membership.endpoint()?, tls };
        if !remote.endpoint.is_secure() {
            return Err(Error::message("private keys of load balancers come by TLS alone"));
        }
        let credentials = membership.credentials()?;
        let answer = remote.call(operation, input, Some((&credentials, &membership.region))).await;
        Ok(answer.map_err(Error::other("ask the region"))?.value)
    }
}

impl Feed for MemberLine {
    fn read(&self, version: u64, wait: Duration) -> BoxFuture<'_, Result<Update, FeedError>> {
        Box::pin(async move {
            let wait_ms = u64::try_from(wait.min(MEMBER_WAIT_MAX).as_millis()).unwrap_or(u64::MAX);
            let asked = ReadRequest { version, wait_ms };
            let read = self.call("ReadBalancers", &asked).await;
            read.map_err(failed("read the balancers' table"))
        })
    }

    fn report(&self, report: Report) -> BoxFuture<'_, Result<(), FeedError>> {
        Box::pin(async move {
            let told: Result<serde_json::Value, _> = self.call("ReportBalancers", &report).await;
            told.map(|_| ()).map_err(failed("report targets"))
        })
    }
}

impl Feed for Line {
    fn read(&self, version: u64, wait: Duration) -> BoxFuture<'_, Result<Update, FeedError>> {
        Box::pin(async move {
            let doing = "read the balancers' table";
            let client = self.client().map_err(failed(doing))?;
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let asked = ReadRequest { version, wait_ms };
            client.own("ReadBalancers", &asked).await.map_err(failed(doing))
        })
    }

    fn report(&self, report: Report) -> BoxFuture<'_, Result<(), FeedError>> {
        Box::pin(async move {
            let doing = "report targets";
            let client = self.client().map_err(failed(doing))?;
            let told: Result<serde_json::Value, _> = client.own("ReportBalancers", &report).await;
            told.map(|_| ()).map_err(failed(doing))
        })
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::Token;

    use super::*;
    use crate::data_dir::RegionFile;

    #[test]
    fn the_region_is_shown_what_it_drew_at_its_last_start() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        let door = Door(data.clone());
        let _lock = data.take(Role::Region).unwrap();
        assert!(door.region().is_none(), "it has not said anything yet");
        let mut file = RegionFile {
            address: "127.0.0.1:4566".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            pid: std::process::id(),
            vpc: "172.31.0.0/16".to_owned(),
            bridge: "172.30.0.0/20".to_owned(),
            advertised: None,
            authority: None,
            introduction_token: None,
        };
        data.write_region(&file).unwrap();
        assert!(door.region().is_none(), "one of before draws none");
        for drawn in ["a", "b"] {
            file.introduction_token = Some(Token::from_text(drawn.repeat(32)));
            data.write_region(&file).unwrap();
            assert_eq!(door.region().unwrap().token.as_slice(), drawn.repeat(32).as_bytes());
        }
        file.pid += 1;
        data.write_region(&file).unwrap();
        assert!(door.region().is_none(), "it has ended");
    }
}
