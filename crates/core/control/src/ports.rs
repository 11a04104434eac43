//! What the region asks of every service, and what crosses services and is no row: small traits that one
//! service implements and another asks.
//!
//! A service never calls another's handlers.

use std::fmt::Debug;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use longshore_types::{AccountId, TaskId, Timestamp};
use model::alarm::Sample;
use model::{Document, Instance, Kind, MetricAlarm, Tags, Task, View};
use serde_json::Value;

use crate::Permission;
use crate::reconcile::Driver;
use crate::told::{Changes, Told};

/// A future that is boxed because its kind depends on the service.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A service of the region, as its listener and its driver know it.
pub trait RegionService: Debug + Send + Sync {
    /// What the generated code says of it.
    fn service(&self) -> &'static Service;

    /// Has a call's operation done.
    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>>;

    /// Readies the rows that a crash may have left behind, before requests are served.
    fn prepare(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(ready(Ok(())))
    }

    /// What it tells EventBridge of by itself, if anything.
    fn event_source(&self) -> Option<&'static dyn EventSource> {
        None
    }

    /// Registers what the service does by itself.
    fn register(self: Arc<Self>, _driver: &mut Driver) {}
}

/// A service whose resources have tags: what the Resource Groups Tagging API asks.
pub trait Tagged: Debug + Send + Sync {
    /// The service's name in its ARNs.
    fn arn_service(&self) -> &'static str;

    /// Hands to `add` the ARN and the tags of every resource of the caller that has some, of the types that
    /// `is_asked` names, such as `cluster`.
    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    );

    /// Adds tags to a resource, as the service's own operation does.
    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        tags: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>>;

    /// Takes tags away from a resource, as the service's own operation does.
    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// What a service tells EventBridge of by itself: see [`crate::told`].
pub trait EventSource: Debug + Send + Sync {
    /// Such as `aws.ecs`.
    fn source(&self) -> &'static str;

    /// The kinds of rows whose changes it tells of.
    fn kinds(&self) -> &'static [Kind];

    /// What changes of one account's rows of these kinds come to, in the order in which it is to be heard.
    fn tell(&self, changes: &Changes<'_>) -> Vec<Told>;
}

/// Who keeps what tasks use.
pub trait Usage: Debug + Send + Sync {
    /// Takes in what a task's containers used, as its host said it: see `acs::telemetry`.
    fn used(&self, task: &Task, instance: &Instance, containers: &Value, now: Timestamp);
}

/// Who knows what alarms watch.
pub trait Watcher: Debug + Send + Sync {
    /// The values of the periods that an alarm is judged by, the newest last.
    fn samples(&self, alarm: &MetricAlarm, now: Timestamp) -> Vec<Option<Sample>>;
}

/// A task that a service has run to get something done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskAsk {
    /// A task definition: its ARN, with a revision or without.
    pub definition: String,
    /// Where it runs; none is the cluster `default`.
    pub cluster: Option<String>,
    /// Added to the environment of each of its containers.
    pub environment: Vec<(String, String)>,
    pub started_by: String,
    /// Whoever asks again with it means the same task.
    pub token: String,
    /// Where it has an interface, as `networkConfiguration` says it; none is in the account's own subnets.
    pub network: Option<Document>,
}

/// Why a task that a service asked for was not run.
#[derive(Debug, thiserror::Error)]
pub enum NotRun {
    /// No host has room for it now.
    #[error("The task could not be placed: {0}")]
    NoRoom(String),
    #[error("{}", .0.message)]
    Refused(ApiError),
}

impl From<ApiError> for NotRun {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

/// Who runs tasks for services that have none.
pub trait TaskRunner: Debug + Send + Sync {
    /// What somebody must be allowed who has such a task run: as if they ran it.
    fn permission(&self, view: &View, caller: &Caller, ask: &TaskAsk) -> Permission;

    /// Why such a task can't be asked for.
    fn check(&self, view: &View, caller: &Caller, ask: &TaskAsk) -> Result<(), ApiError>;

    /// Runs a task in the account, on Fargate if its definition is for it. What it may do is its roles', and whoever asks has
    /// asked for the permission.
    fn run<'a>(
        &'a self,
        account: AccountId,
        ask: &'a TaskAsk,
    ) -> BoxFuture<'a, Result<TaskId, NotRun>>;

    /// Wants a task stopped; one that is not there is.
    fn stop<'a>(
        &'a self,
        account: AccountId,
        task: TaskId,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// Who runs tasks for somebody who says all that RunTask can be asked.
pub trait TaskStarter: Debug + Send + Sync {
    /// Does what RunTask does, for a caller that must be allowed to. `request` is the call's, in JSON. It is well once a task
    /// was made.
    fn start<'a>(
        &'a self,
        caller: &'a Caller,
        request: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// Something that a service says to a log group in its own name.
#[derive(Clone, Copy, Debug)]
pub struct LogLine<'a> {
    /// `events.amazonaws.com`
    pub service: &'a str,
    /// The ARN of what it says it for, and whose that is.
    pub source: (&'a str, AccountId),
    /// Whose group it is.
    pub account: AccountId,
    pub group: &'a str,
    /// Made if it is not there.
    pub stream: &'a str,
    pub at: Timestamp,
    pub message: &'a str,
}

/// Why a service's line is not in the group.
#[derive(Debug, thiserror::Error)]
pub enum NotLogged {
    #[error("no resource policy of the log group or of its account lets {action} be done")]
    NotLet { action: &'static str },
    #[error("{}", .0.message)]
    Refused(ApiError),
}

/// Who writes to log groups what services say in their own name, as far as resource policies let them.
pub trait LogWriter: Debug + Send + Sync {
    fn write<'a>(&'a self, line: &'a LogLine<'a>) -> BoxFuture<'a, Result<(), NotLogged>>;
}
