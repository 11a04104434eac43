//! Why what was done for a task did not succeed: what it was, not how it is said. The sentence that people
//! see is made of it in [`crate::reason`], when the task's state takes it in.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use image::{PullError, ReferenceError};
use sandbox::SandboxError;

use super::objects::ObjectError;
use super::secrets::SecretError;
use super::volumes::{NotFilled, VolumeError};
use crate::client::CallError;
use crate::logdriver::LogError;
use crate::ports::NetError;
use crate::reason;

#[derive(Clone, Debug)]
pub(crate) enum Failure {
    TimedOut {
        what: &'static str,
        after: Duration,
    },
    ImageName {
        image: String,
        why: ReferenceError,
    },
    /// There is no login for its registry.
    Login {
        image: String,
        is_fargate: bool,
        why: Arc<CallError>,
    },
    Pull {
        why: Arc<PullError>,
    },
    ImageGone {
        image: String,
    },
    NoCommand {
        image: String,
    },
    /// The task's control group.
    Group {
        why: Arc<SandboxError>,
    },
    /// What the task's containers share beside their network.
    Namespaces {
        why: Arc<SandboxError>,
    },
    /// The task's own interface.
    Network {
        why: Arc<NetError>,
    },
    NamespaceGone,
    /// The task is fenced, and this host takes no such tasks.
    NoLease,
    ContainerNetwork {
        why: Arc<NetError>,
    },
    Volume {
        why: Arc<VolumeError>,
    },
    /// What an image has at a volume's place.
    Fill {
        container: String,
        why: Arc<NotFilled>,
    },
    /// `hosts` and its like.
    Files {
        container: String,
        why: Arc<io::Error>,
    },
    Create {
        why: Arc<SandboxError>,
    },
    Start {
        why: Arc<SandboxError>,
    },
    Log {
        is_fargate: bool,
        why: Arc<LogError>,
    },
    /// A value that the task's definition refers to.
    Secret {
        is_fargate: bool,
        region: String,
        why: Arc<SecretError>,
    },
    /// An environment file, or what a router's configuration takes in.
    Object {
        is_fargate: bool,
        is_config: bool,
        why: Arc<ObjectError>,
    },
    NoGpu {
        id: String,
    },
    /// The agent ends while it is at it.
    Interrupted,
}

impl Failure {
    pub(crate) fn files(container: &str, why: io::Error) -> Self {
        Self::Files { container: container.to_owned(), why: Arc::new(why) }
    }
}

impl From<VolumeError> for Failure {
    fn from(why: VolumeError) -> Self {
        Self::Volume { why: Arc::new(why) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&reason::of_failure(self))
    }
}

impl std::error::Error for Failure {}
