//! What all tasks of one agent share.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use image::Auth;
use longshore_types::{Clock, IdSource, RegionName, TaskArn};
use tokio::sync::{Notify, Semaphore};

use super::state::TaskEvent;
use crate::acs::wire::RoleCredentials;
use crate::logdriver::LogShipping;
use crate::seams::{Images, Nets, Runtime};
use crate::spec::RegistryAuth;
use crate::state_dir::StateDir;

/// What the engine asks of the region.
pub trait Region: Send + Sync + Debug {
    /// Answers once the region accepted the event, or will never: tries for as long as it takes.
    fn tell(&self, task: TaskArn, event: TaskEvent) -> BoxFuture<'_, ()>;
    /// Credentials for the registry of an image.
    fn login(
        &self,
        auth: RegistryAuth,
        role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<Auth, String>>;
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) nets: Arc<dyn Nets>,
    pub(crate) region: Arc<dyn Region>,
    pub(crate) logs: Arc<LogShipping>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) dirs: StateDir,
    pub(crate) region_name: RegionName,
    pub(crate) credentials: CredentialsBook,
    /// Bounds how many containers are being made at a time.
    pub(crate) starts: Semaphore,
    /// Rung whenever any task changed.
    pub(crate) changed: Notify,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TaskCredentials {
    pub(crate) application: Option<RoleCredentials>,
    pub(crate) execution: Option<RoleCredentials>,
}

/// The credentials of the tasks' roles. In memory only: after a restart the region sends them anew.
#[derive(Debug, Default)]
pub(crate) struct CredentialsBook(Mutex<BTreeMap<TaskArn, TaskCredentials>>);

impl CredentialsBook {
    pub(crate) fn put(&self, task: &TaskArn, given: TaskCredentials) {
        let Ok(mut book) = self.0.lock() else { return };
        let known = book.entry(task.clone()).or_default();
        known.application = given.application.or(known.application.take());
        known.execution = given.execution.or(known.execution.take());
    }

    pub(crate) fn execution(&self, task: &TaskArn) -> Option<RoleCredentials> {
        self.0.lock().ok()?.get(task)?.execution.clone()
    }

    pub(crate) fn forget(&self, task: &TaskArn) {
        if let Ok(mut book) = self.0.lock() {
            book.remove(task);
        }
    }
}
