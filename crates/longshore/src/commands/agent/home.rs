//! The region that an agent works for: the one of its data directory, or one that its host joined.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::{CredentialsSource, FixedCredentials};
use aws_wire::sigv4::Credentials;
use ecs_api as ecs;
use http::Uri;
use longshore_types::{Chain, ClusterName, RegionName, Token};
use model::instance::HOST_ATTRIBUTE;
use tracing::{info, warn};
use trust::{JoinToken, Trust};

use super::underlay;
use crate::cli::{AgentArgs, JoinArgs};
use crate::client::Client;
use crate::commands::region as region_command;
use crate::data_dir::{DataDir, RegionFile};
use crate::error::Error;
use crate::keeper::{self, Activation, By, Invitation, Keeper};
use crate::membership::{self, Membership};
use crate::signals;

const POLL: Duration = Duration::from_millis(5);
/// How often the region's file is looked at: its addresses move at a restart at most.
const RANGES_POLL: Duration = Duration::from_secs(2);

/// What an agent must know of its region.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) endpoint: Uri,
    /// The address that others are told, which images are named by.
    pub(super) told: String,
    pub(super) region: RegionName,
    pub(super) vpc: String,
    /// Empty where a region of before 0.3 runs.
    pub(super) bridge: String,
    pub(super) trust: Trust,
    /// The file of the authority that containers must trust; none if they need none.
    pub(super) authority_file: Option<PathBuf>,
    /// None for the default one, which agents make themselves.
    pub(super) cluster: Option<ClusterName>,
    pub(super) credentials: Arc<dyn CredentialsSource>,
    /// The address by which other hosts reach this one, if there may be any.
    pub(super) underlay: Option<Ipv4Addr>,
    /// Attributes besides those of the command line.
    pub(super) attributes: Vec<(String, String)>,
    watch: Watch,
}

impl Home {
    /// Whether this is the region's own machine.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.watch, Watch::Local { .. })
    }
}

/// What ends an agent's work for its region as it is.
#[derive(Debug)]
enum Watch {
    Local { data: DataDir, file: RegionFile },
    Member(Box<Keeper>),
}

impl Home {
    /// Waits for the region of the data directory, or joins another one; `None` if asked to end before.
    pub(super) async fn find(data: &DataDir, args: &AgentArgs) -> Result<Option<Self>, Error> {
        let membership = tokio::select! {
            entered = enter(data, args) => entered?,
            () = signals::stop() => return Ok(None),
        };
        if let Some(membership) = membership {
            let keeper = Keeper::new(data.root(), membership)?;
            return Self::of_member(data.root(), keeper, args).map(Some);
        }
        match wait_for_region(data).await {
            Some(file) => Self::beside(data, file, args).await.map(Some),
            None => Ok(None),
        }
    }

    /// Beside the region of the data directory.
    async fn beside(data: &DataDir, file: RegionFile, args: &AgentArgs) -> Result<Self, Error> {
        let keys = region_command::load_keys(data)?;
        let credentials = Credentials {
            access_key: keys.node.access_key_id,
            secret: keys.node.secret_access_key,
            session_token: None,
        };
        let cluster =
            (args.cluster != ClusterName::default_cluster()).then(|| args.cluster.clone());
        if let Some(name) = &cluster {
            // Agents create the default cluster only; one that is named here is wanted as well.
            let client = Client::new(file.endpoint(), file.region.clone(), credentials.clone());
            create_cluster(&client, name).await;
        }
        Ok(Self {
            endpoint: uri(&format!("http://{}", file.endpoint()))?,
            told: file.told(),
            region: file.region.clone(),
            vpc: file.vpc.clone(),
            bridge: file.bridge.clone(),
            trust: trust(&file)?,
            // They come by loopback, in the clear.
            authority_file: None,
            cluster,
            credentials: Arc::new(FixedCredentials(credentials)),
            underlay: underlay_of(args, &uri(&file.told())?),
            attributes: Vec::new(),
            watch: Watch::Local { data: data.clone(), file },
        })
    }

    fn of_member(root: &Path, keeper: Keeper, args: &AgentArgs) -> Result<Self, Error> {
        let membership = keeper.membership();
        let cluster = membership.cluster.clone();
        let endpoint = uri(&membership.endpoint)?;
        Ok(Self {
            underlay: underlay_of(args, &endpoint),
            endpoint,
            told: membership.endpoint.clone(),
            region: membership.region.clone(),
            vpc: membership.ranges.vpc.clone(),
            bridge: membership.ranges.bridge.clone(),
            trust: membership.trust()?,
            authority_file: membership.authority.as_ref().map(|_| membership::authority_file(root)),
            cluster: (cluster != ClusterName::default_cluster()).then_some(cluster),
            credentials: keeper.keys(),
            attributes: vec![(HOST_ATTRIBUTE.to_owned(), called(args))],
            watch: Watch::Member(Box::new(keeper)),
        })
    }

    /// Whether load balancers may be put on this host beside the region's own: what comes with them are private keys, which
    /// are fetched by TLS alone.
    pub(super) fn serves_balancers(&self) -> bool {
        !self.is_local() && self.endpoint.scheme_str() == Some("https")
    }

    /// The host of the region's images, as others are told it.
    pub(super) fn registry(&self) -> &str {
        self.told.split_once("://").map_or(self.told.as_str(), |(_, host)| host)
    }

    /// Both names that the region has for this agent.
    pub(super) fn authorities(&self) -> Vec<String> {
        let own = self.endpoint.authority().map(ToString::to_string);
        own.into_iter().chain([self.registry().to_owned()]).collect()
    }

    /// Keeps what must be kept, until the agent has to be started again.
    pub(super) async fn watch(self, program: &Path) -> Error {
        match self.watch {
            Watch::Member(keeper) => keeper.run(program).await,
            Watch::Local { data, file } => {
                let now = ranges_moved(&data, &file).await;
                info!(vpc = %now.vpc, bridge = %now.bridge, "the region moved its addresses");
                Error::message(format!(
                    "the region gives addresses of {} and {} now, and the agent those of before: start it again",
                    now.vpc, now.bridge
                ))
            }
        }
    }
}

/// Has this host be a member of a region, if it is invited or is one already; says whether it is.
pub(super) async fn join(data: &DataDir, args: &AgentArgs) -> Result<bool, Error> {
    Ok(enter(data, args).await?.is_some())
}

async fn enter(data: &DataDir, args: &AgentArgs) -> Result<Option<Membership>, Error> {
    let invitation = invitation(&args.join, &args.cluster, &called(args))?;
    if invitation.is_some() && data.region().is_ok() {
        return Err(Error::Refused(format!(
            "a region has run in {}, and its own agent is started by `longshore up`: give this one another \
             --data-dir to join elsewhere",
            data.root().display()
        )));
    }
    let found = keeper::enter(data.root(), invitation.as_ref()).await?;
    // Of a host that has joined, or has a region of its own, a token may be left in the environment.
    if found.is_none() && args.join.given().is_some() && data.region().is_err() {
        return Err(Error::Refused(
            "--token needs --join: say where the region is, as in --join https://10.0.0.1:4566"
                .to_owned(),
        ));
    }
    Ok(found)
}

/// The host's name: the one that it is given, or its own.
fn called(args: &AgentArgs) -> String {
    args.join.host_name.clone().or_else(host_name).unwrap_or_default()
}

fn underlay_of(args: &AgentArgs, region: &Uri) -> Option<Ipv4Addr> {
    args.host.underlay_address.or_else(|| underlay::towards(region))
}

fn uri(text: &str) -> Result<Uri, Error> {
    text.parse().map_err(Error::other("read the region's address"))
}

fn invitation(
    args: &JoinArgs,
    cluster: &ClusterName,
    host_name: &str,
) -> Result<Option<Invitation>, Error> {
    let Some(endpoint) = args.join.clone() else { return Ok(None) };
    let by = match &args.activation_id {
        Some(id) => By::Activation(activation(args, id, cluster)?),
        None => By::Token(token(args)?),
    };
    Ok(Some(Invitation { endpoint, by, host_name: host_name.to_owned() }))
}

fn token(args: &JoinArgs) -> Result<JoinToken, Error> {
    let text = text(args.given(), args.token_file.as_deref())?.ok_or_else(|| {
        Error::Refused(
            "--join needs a token: give --token, --token-file or LONGSHORE_JOIN_TOKEN, or --activation-id"
                .to_owned(),
        )
    })?;
    text.reveal().parse().map_err(|why: trust::NotAToken| Error::Refused(why.to_string()))
}

fn activation(args: &JoinArgs, id: &str, cluster: &ClusterName) -> Result<Activation, Error> {
    let code = text(args.given_code(), args.activation_code_file.as_deref())?.ok_or_else(|| {
        Error::Refused(
            "--activation-id needs the activation's code: give --activation-code, --activation-code-file or \
             LONGSHORE_ACTIVATION_CODE"
                .to_owned(),
        )
    })?;
    let authority = args.ca_file.as_deref().map(read_text).transpose()?;
    if let (Some(pem), Some(path)) = (&authority, &args.ca_file) {
        let checked = Trust::only(pem.as_bytes());
        checked.map_err(|why| Error::Refused(format!("{}: {why}", path.display())))?;
    }
    Ok(Activation { id: id.trim().to_owned(), code, cluster: cluster.clone(), authority })
}

/// A secret as it was given, or from its file.
fn text(given: Option<Token>, file: Option<&Path>) -> Result<Option<Token>, Error> {
    match (given, file) {
        (Some(given), _) => Ok(Some(given)),
        (None, Some(file)) => Ok(Some(Token::from_text(read_text(file)?.trim().to_owned()))),
        (None, None) => Ok(None),
    }
}

fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::DataDir { path: path.to_owned(), source })
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned())
}

/// Whom the region's certificates come from: its own authority, or one that the machine knows.
fn trust(region: &RegionFile) -> Result<Trust, Error> {
    let Some(path) = &region.authority else { return Ok(Trust::system()) };
    let failed = |source| Error::DataDir { path: path.clone(), source };
    let text = std::fs::read(path).map_err(failed)?;
    Trust::only(&text).map_err(Error::other("read the region's authority"))
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[tokio::test]
    async fn a_token_without_a_region_to_join_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        let cli = Cli::parse_from(["longshore", "agent", "--token", "lsjoin_x"]);
        let Command::Agent(agent) = cli.command else { panic!("an agent was asked for") };
        let refused = enter(&data, &agent.args).await.unwrap_err();
        assert!(refused.to_string().contains("--join"), "{refused}");
    }
}
