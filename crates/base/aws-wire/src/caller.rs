//! Who makes a request, as the signature proved it.

use longshore_types::{AccountId, InstanceId, RegionName, Timestamp, Uuid};

/// What an access key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The root user of the caller's account.
    Root,
    /// A host's agent; bound to its container instance once it has registered.
    Node { instance: Option<InstanceId> },
    /// What a host does in a task's name, with the temporary key of that task's account.
    TaskExecution,
}

/// The circumstances of one request. `now` is the request's one reading of the clock.
#[derive(Clone, Debug)]
pub struct Caller {
    pub account: AccountId,
    pub region: RegionName,
    pub access_key: String,
    pub principal: Principal,
    pub request_id: Uuid,
    pub now: Timestamp,
}
