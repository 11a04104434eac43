//! Where agents and regions go for others.

use clap::Args;

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
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let authority = text.parse::<http::uri::Authority>();
    let authority = authority.ok().filter(|it| !it.host().is_empty() && !text.contains('@'));
    authority.map(|it| it.to_string()).ok_or("write it as HOST or HOST:PORT".to_owned())
}
