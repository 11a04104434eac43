//! Joining a region, and the commands about its hosts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use control::Advertised;
use longshore_types::{ClusterName, Token};

use super::host::{AgentArgs, attribute, zone};

/// How a host joins a region on another machine. Once it has, it needs none of this.
#[derive(Args, Clone, Default)]
pub(crate) struct JoinArgs {
    /// Join the region at this address, by a token, which `longshore node token create` on its machine prints, or by an
    /// activation, which `aws ssm create-activation` makes
    #[arg(long, value_name = "URL")]
    pub(crate) join: Option<Advertised>,
    /// The token to join by; it is needed once
    #[arg(long, value_name = "TOKEN", env = "LONGSHORE_JOIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that has the token
    #[arg(long, value_name = "FILE", requires = "join", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// The activation to join by, as a managed instance of the account that made it: for tasks of launch type EXTERNAL
    #[arg(long, value_name = "ID", requires = "join", conflicts_with_all = ["token", "token_file"])]
    pub(crate) activation_id: Option<String>,
    /// The activation's code; it is needed once
    #[arg(long, value_name = "CODE", env = "LONGSHORE_ACTIVATION_CODE", hide_env_values = true)]
    activation_code: Option<String>,
    /// A file that has the activation's code
    #[arg(long, value_name = "FILE", conflicts_with = "activation_code")]
    pub(crate) activation_code_file: Option<PathBuf>,
    /// The authority of the region's certificate, where the system does not know it and no token says it: the region's
    /// `ca.pem`
    #[arg(long, value_name = "FILE", requires = "activation_id")]
    pub(crate) ca_file: Option<PathBuf>,
    /// What this host is called [default: its own name]
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    pub(crate) host_name: Option<String>,
}

impl JoinArgs {
    /// As the command line or the environment gave it.
    pub(crate) fn given(&self) -> Option<Token> {
        self.token.clone().filter(|token| !token.is_empty()).map(Token::from_text)
    }

    /// An activation's code, likewise.
    pub(crate) fn given_code(&self) -> Option<Token> {
        self.activation_code.clone().filter(|code| !code.is_empty()).map(Token::from_text)
    }
}

impl std::fmt::Debug for JoinArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinArgs").field("join", &self.join).finish_non_exhaustive()
    }
}

/// What is done with the agent besides running it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AgentAction {
    /// Join a region, if need be, and have systemd run the agent from now on
    Install(Box<InstallArgs>),
    /// End the agent and its containers for good, and remove its unit
    Uninstall(UnitArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) args: AgentArgs,
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct UnitArgs {
    /// Where the unit is
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub(crate) unit_dir: PathBuf,
    /// Leave systemd alone
    #[arg(long)]
    pub(crate) no_start: bool,
}

/// What is done with the hosts of a region.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Node {
    /// Tokens that hosts join by
    #[command(subcommand)]
    Token(NodeToken),
    /// List hosts: where they are, whether their agent is connected, what is left of them
    #[command(visible_alias = "list")]
    Ls(NodeLs),
    /// Show all that is known of a host
    Show(NodeShow),
    /// Place nothing more on a host, and have services replace what runs there
    Drain(NodeDrain),
    /// Have hosts that joined run the region's own program, one after the other, with their containers left running
    Upgrade(NodeUpgrade),
    /// Take a host out for good: its keys are over at once
    Rm(NodeRm),
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum NodeToken {
    /// Make a token, and print the command that has a host join by it
    Create(TokenCreate),
    /// List tokens, without what proves them
    #[command(visible_alias = "list")]
    Ls(NodeLs),
    /// Let nobody join by a token any more
    Revoke(TokenRevoke),
}

/// How hosts, or tokens, are listed.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeLs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TokenCreate {
    /// The cluster that hosts join by it; created if it is missing
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: ClusterName,
    /// The Availability Zone of these hosts, whatever they say themselves
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub(crate) zone: Option<String>,
    /// An attribute of these hosts, whatever they say themselves; may be given several times
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub(crate) attributes: Vec<(String, String)>,
    /// Fargate tasks of every account are placed on these hosts
    #[arg(long)]
    pub(crate) fargate: bool,
    /// How long hosts can join by it
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    pub(crate) expires: u64,
    /// How many hosts can join by it
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) uses: u32,
    /// Any number of hosts can join by it
    #[arg(long, conflicts_with = "uses")]
    pub(crate) unlimited: bool,
    /// How long each key of these hosts is good; hosts renew them at half of that
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = span)]
    pub(crate) keys_expire: u64,
    /// Print the token alone
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TokenRevoke {
    /// The token's id, as `longshore node token ls` shows it
    pub(crate) id: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NodeShow {
    /// A host's name, its instance's id, the beginning of one, or its ARN
    pub(crate) node: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NodeDrain {
    /// A host's name, its instance's id, the beginning of one, or its ARN
    pub(crate) node: String,
    /// Place tasks there again
    #[arg(long)]
    pub(crate) undo: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NodeUpgrade {
    /// Hosts, by their names, their instances' ids, or their own; all that joined if none is named
    #[arg(value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Ask no more hosts, of those that wait for their turn
    #[arg(long, conflicts_with = "hosts")]
    pub(crate) stop: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NodeRm {
    /// A host's name, its instance's id, the beginning of one, or its ARN
    pub(crate) node: String,
    /// Even if tasks run there: they count as stopped
    #[arg(long)]
    pub(crate) force: bool,
}

/// `90s`, `30m`, `24h`, `7d`, in milliseconds.
fn span(text: &str) -> Result<u64, String> {
    let units = [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let split = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)));
    let count = split.and_then(|(number, ms)| number.parse::<u64>().ok()?.checked_mul(ms));
    count.ok_or("write it as 90s, 30m, 24h or 7d".to_owned())
}

/// A name as RFC 1123 has them.
fn host_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let is_word = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_word
            && (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err("a host's name has letters, digits and hyphens, in parts of at most 63 between dots"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_name_is_one() {
        for good in ["a", "web-1", "WEB-1.rack7.example", "10"] {
            assert_eq!(host_name(good).as_deref(), Ok(good));
        }
        let long = "a".repeat(64);
        for bad in ["", "a b/c", "a_b", "-a", "a-", "a..b", "a.", "é", &long, &"a.".repeat(200)] {
            assert!(host_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(
            ["90s", "30m", "24h", "7d"].map(|it| span(it).unwrap() / 1000),
            [90, 1800, 86_400, 604_800]
        );
        for bad in ["", "s", "7", "-1h", "1w", "99999999999999999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
