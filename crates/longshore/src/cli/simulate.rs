//! What a simulated fleet is to do.

use clap::Args;
use longshore_types::{ClusterName, RegionName};

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
    /// Have hosts and callers come by TLS, as hosts that joined a region do
    #[arg(long, conflicts_with = "endpoint")]
    pub(crate) tls: bool,
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
