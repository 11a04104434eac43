//! Rules: what a request must look like, what is changed of it, and where it goes.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupId, RuleId};
use crate::source::Source;

/// One rule of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: RuleId,
    /// 1 to 50,000, the lowest is asked first; `None` for the listener's default, which is asked last.
    pub priority: Option<u32>,
    /// All of them must hold; the default rule has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(default)]
    pub transforms: Transforms,
    /// The rule's last action. Those that come before it at AWS need identity providers, which the API refuses.
    pub action: Action,
}

/// One condition; it holds if any of its values does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// The host that was asked for, without its port; letters' case does not count.
    HostHeader(Vec<Pattern>),
    /// The path after normalisation and without the query; letters' case counts.
    PathPattern(Vec<Pattern>),
    /// Any of the headers of that name (which has no wildcards); letters' case does not count.
    HttpHeader { name: String, values: Vec<Pattern> },
    /// Pairs of the query, decoded; letters' case does not count. Without a key any value of any key counts, and
    /// so does a query that is not made of pairs. In both, `\*`, `\?` and `\\` are the letters themselves.
    QueryString(Vec<(Option<String>, String)>),
    /// The method exactly as written.
    HttpRequestMethod(Vec<String>),
    /// The peer of the connection; what `X-Forwarded-For` says does not count.
    SourceIp(Vec<Source>),
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// `*` is any run of characters, `?` any single one; the whole value is compared.
    Wildcard(String),
    /// The very value: letters' case counts.
    Exact(String),
    /// A regular expression (no look-around, no back-references), found anywhere in the value unless it is anchored.
    Regex(String),
}

/// What is changed of a request before it is forwarded. Conditions see it unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transforms {
    /// Of the `Host` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Rewrite>,
    /// Of path and query together (`/path?query`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Rewrite>,
}

/// A regular expression and what its first match becomes; `$1` to `$9` are its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    pub regex: String,
    pub replace: String,
}

/// What becomes of a request or connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// To one of the groups by weight. A group keeps its share though none of its targets is healthy.
    Forward {
        groups: Vec<WeightedGroup>,
        /// Seconds for which a client stays with the group it came to first (cookie `AWSALBTG`); `None`: not at all.
        #[serde(default)]
        sticky_s: Option<u32>,
    },
    /// To another address. Each text may hold `#{protocol}`, `#{host}`, `#{port}`, `#{path}`, `#{query}`.
    Redirect {
        protocol: String,
        host: String,
        port: String,
        path: String,
        query: String,
        status: RedirectStatus,
    },
    /// An answer by the balancer itself.
    FixedResponse {
        status: u16,
        #[serde(default)]
        content_type: Option<String>,
        #[serde(default)]
        body: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedGroup {
    pub group: GroupId,
    /// 0 to 999, in relation to the sum of all; with all at 0 nothing is served (503).
    pub weight: u32,
    /// Of its targets those of this part alone; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectStatus {
    Moved301,
    Found302,
}

impl RedirectStatus {
    pub fn code(self) -> u16 {
        match self {
            Self::Moved301 => 301,
            Self::Found302 => 302,
        }
    }
}
