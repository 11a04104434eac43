//! Who makes a request, as the signature proved it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::trail::Trail;
use longshore_types::{AccountId, InstanceId, RegionName, Timestamp, Uuid, VpcEndpointId, VpcId};

/// What an access key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The root user of the caller's account.
    Root,
    /// A host's agent; bound to its container instance once it has registered.
    Node { instance: Option<InstanceId> },
    /// A user of IAM, by a key of its own or by a session of GetSessionToken.
    User {
        name: Arc<str>,
        /// `/`, or begins and ends with one.
        path: Arc<str>,
        /// `AIDA…`.
        id: Arc<str>,
    },
    /// A session of a role.
    Role { name: Arc<str>, id: Arc<str>, session: Arc<str> },
    /// A session of GetFederationToken, and the user who called it; `None` is the account's root.
    Federated { name: Arc<str>, user: Option<(Arc<str>, Arc<str>)> },
    /// Somebody who signed nothing: for the few operations that prove who calls in another way.
    Anonymous,
}

/// What temporary credentials of STS carry besides whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    pub issued_at: Timestamp,
    pub expires: Timestamp,
    /// The session policy that was passed, as it was written.
    pub policy: Option<String>,
    /// The managed policies that were passed.
    pub policy_arns: Vec<String>,
    pub tags: BTreeMap<String, String>,
    /// The keys of the tags that the next session of a chain inherits.
    pub transitive_tags: BTreeSet<String>,
    pub source_identity: Option<String>,
    /// The ARN of the identity provider that vouched for whoever it is.
    pub provider: Option<String>,
    /// Of a user who signed in with a password: the session ends with that password.
    pub by_password: bool,
    /// When a code of a second factor was shown, if one was.
    pub mfa_at: Option<Timestamp>,
}

/// Where a request came from, and where it leaves its trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub address: Option<IpAddr>,
    /// Whether it came through TLS.
    pub is_secure: bool,
    pub user_agent: Option<Arc<str>>,
    pub trail: Trail,
    /// The VPC endpoint that it came by.
    pub endpoint: Option<Arc<ByEndpoint>>,
}

/// A VPC endpoint that a request came by; the origin's address is one of its VPC then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByEndpoint {
    pub endpoint: VpcEndpointId,
    pub vpc: VpcId,
}

/// The circumstances of one request. `now` is the request's one reading of the clock.
#[derive(Clone, Debug)]
pub struct Caller {
    pub account: AccountId,
    pub region: RegionName,
    pub access_key: String,
    pub principal: Principal,
    /// Of temporary credentials of STS.
    pub session: Option<Arc<Session>>,
    pub origin: Origin,
    pub request_id: Uuid,
    pub now: Timestamp,
}
