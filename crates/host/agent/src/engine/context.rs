//! What all tasks of one agent share.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use image::Auth;
use longshore_types::{AccountId, Clock, IdSource, RegionName, TaskArn, Token};
use tokio::sync::{Notify, Semaphore};

use super::objects::ObjectsBook;
use super::secrets::{Parameters, SecretId, SecretsBook};
use super::state::TaskEvent;
use crate::client::CallError;
use crate::config::TaskLimits;
use crate::endpoint::{Protection, ProtectionState};
use crate::gpus::Gpus;
use crate::lease::HostLease;
use crate::logdriver::LogShipping;
use crate::ports::{Images, Networks, Runtime};
use crate::register::Registered;
use crate::relay::RegionForTasks;
use crate::spec::{ObjectName, RegistryAuth};
use crate::state_dir::StateDir;
use acs::RoleCredentials;

/// What the engine asks of the region.
pub trait Region: Send + Sync + Debug {
    /// Answers once the region accepted the event, or will never: tries for as long as it takes.
    fn tell(&self, task: TaskArn, event: TaskEvent) -> BoxFuture<'_, ()>;
    /// Credentials of a task's account for the registry of an image.
    fn login(
        &self,
        account: AccountId,
        auth: RegistryAuth,
        role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<Auth, CallError>>;
    /// Forgets what [`Region::login`] gave: the registry does not take it any more.
    fn forget_login(&self, account: AccountId, auth: &RegistryAuth, role: Option<&RoleCredentials>);
    /// A value of Secrets Manager, read with a task's execution role.
    fn secret(
        &self,
        id: SecretId,
        role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Token, CallError>>;
    /// Values of Parameter Store, read with a task's execution role.
    fn parameters(
        &self,
        names: Vec<String>,
        role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Parameters, CallError>>;
    /// An object of S3, read with a task's execution role.
    fn object(
        &self,
        object: ObjectName,
        role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Bytes, CallError>>;
    /// The tags of a resource of ECS, read as this host.
    fn tags(&self, resource: String) -> BoxFuture<'_, Result<Vec<(String, String)>, CallError>>;
    /// Whether a task is protected, after it was made so if that is wanted: asked in the task's own role.
    fn protection(
        &self,
        task: TaskArn,
        change: Option<Protection>,
        role: RoleCredentials,
    ) -> BoxFuture<'_, Result<ProtectionState, CallError>>;
    /// Whether the registry at `host` (with its port) is the region's, and is away only as long as it is.
    fn is_own(&self, host: &str) -> bool;
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) networks: Arc<dyn Networks>,
    pub(crate) region: Arc<dyn Region>,
    pub(crate) logs: Arc<LogShipping>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) dirs: StateDir,
    pub(crate) region_name: RegionName,
    /// How the SDKs of containers find the region, if they are told.
    pub(crate) region_for_tasks: Option<RegionForTasks>,
    pub(crate) credentials: CredentialsBook,
    pub(crate) secrets: SecretsBook,
    pub(crate) objects: ObjectsBook,
    pub(crate) task_limits: TaskLimits,
    pub(crate) gpus: Gpus,
    /// Whether containers find the agent at its address, and are told so.
    pub(crate) answers_containers: bool,
    /// What this host is to the region.
    pub(crate) instance: InstanceBook,
    /// What fenced tasks depend on.
    pub(crate) lease: HostLease,
    /// The containers that may ask the agent about themselves.
    pub(crate) owners: OwnersBook,
    /// Bounds how many containers are being made at a time.
    pub(crate) starts: Semaphore,
    /// Rung whenever any task changed.
    pub(crate) changed: Notify,
}

/// What this host is to the region, once it has joined.
#[derive(Debug, Default)]
pub(crate) struct InstanceBook(Mutex<Option<Registered>>);

impl InstanceBook {
    pub(crate) fn get(&self) -> Option<Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn put(&self, instance: Registered) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(instance);
    }
}

/// Which container was told which id to ask by.
#[derive(Debug, Default)]
pub(crate) struct OwnersBook(Mutex<BTreeMap<String, (TaskArn, usize)>>);

impl OwnersBook {
    pub(crate) fn put(&self, id: &str, task: &TaskArn, index: usize) {
        if !id.is_empty() {
            self.entries().insert(id.to_owned(), (task.clone(), index));
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<(TaskArn, usize)> {
        self.entries().get(id).cloned()
    }

    pub(crate) fn forget(&self, id: &str) {
        self.entries().remove(id);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, (TaskArn, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TaskCredentials {
    pub(crate) application: Option<RoleCredentials>,
    pub(crate) execution: Option<RoleCredentials>,
}

/// What is known of one task's roles.
#[derive(Debug, Default)]
struct Entry {
    given: TaskCredentials,
    /// What its containers' credentials are asked for by.
    name: Option<String>,
    /// How many wait for the credentials, or still use them.
    holds: usize,
    /// Whether the task has ended: the last one to let go removes the entry.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<BTreeMap<TaskArn, Entry>>,
    /// The live tasks by the ids that their credentials are asked for by.
    names: Mutex<BTreeMap<String, TaskArn>>,
    /// Rung whenever credentials were given.
    given: Notify,
}

/// The credentials of the tasks' roles. In memory only: after a restart the region sends them anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct CredentialsBook(Arc<Shared>);

/// The right to a task's execution credentials, even after the task itself is forgotten.
#[derive(Debug)]
pub(crate) struct Held {
    book: CredentialsBook,
    task: TaskArn,
}

impl Held {
    /// The credentials as they are now, once there are any.
    pub(crate) async fn execution(&self) -> RoleCredentials {
        loop {
            let mut given = std::pin::pin!(self.book.0.given.notified());
            given.as_mut().enable();
            if let Some(role) = self.book.execution(&self.task) {
                return role;
            }
            given.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut entries = self.book.entries();
        let Some(entry) = entries.get_mut(&self.task) else { return };
        entry.holds = entry.holds.saturating_sub(1);
        if entry.is_over && entry.holds == 0 {
            entries.remove(&self.task);
        }
    }
}

impl CredentialsBook {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<TaskArn, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, task: &TaskArn, given: TaskCredentials) {
        let mut entries = self.entries();
        let known = &mut entries.entry(task.clone()).or_default().given;
        known.application = given.application.or(known.application.take());
        known.execution = given.execution.or(known.execution.take());
        drop(entries);
        self.0.given.notify_waiters();
    }

    pub(crate) fn execution(&self, task: &TaskArn) -> Option<RoleCredentials> {
        self.entries().get(task)?.given.execution.clone()
    }

    /// From now on the task's credentials are asked for by this id.
    pub(crate) fn name(&self, task: &TaskArn, id: &str) {
        self.names().insert(id.to_owned(), task.clone());
        self.entries().entry(task.clone()).or_default().name = Some(id.to_owned());
    }

    /// Whose credentials are asked for by this id, and what they are once they are known.
    pub(crate) fn named(&self, id: &str) -> Option<(TaskArn, Option<RoleCredentials>)> {
        let task = self.names().get(id)?.clone();
        let known = self.entries().get(&task).and_then(|entry| entry.given.application.clone());
        Some((task, known))
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, TaskArn>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the credentials of a task for whoever works for it.
    pub(crate) fn hold(&self, task: &TaskArn) -> Held {
        self.entries().entry(task.clone()).or_default().holds += 1;
        Held { book: self.clone(), task: task.clone() }
    }

    /// Whether somebody works for the task, even if it has ended.
    pub(crate) fn is_held(&self, task: &TaskArn) -> bool {
        self.entries().get(task).is_some_and(|entry| 0 < entry.holds)
    }

    /// The task has ended: only what is held stays, until it is let go. Its containers' credentials are nobody's.
    pub(crate) fn forget(&self, task: &TaskArn) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(task) else { return };
        if let Some(name) = entry.name.take() {
            self.names().remove(&name);
        }
        entry.is_over = true;
        entry.given.application = None;
        if entry.holds == 0 {
            entries.remove(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn role(id: &str) -> TaskCredentials {
        let role = RoleCredentials { access_key_id: id.to_owned(), ..RoleCredentials::default() };
        TaskCredentials { execution: Some(role), ..TaskCredentials::default() }
    }

    #[tokio::test]
    async fn credentials_are_waited_for_renewed_and_kept_until_they_are_let_go() {
        let arn = "arn:aws:ecs:us-east-1:111122223333:task/demo/0123456789abcdef0123456789abcdef";
        let task: TaskArn = arn.parse().unwrap();
        let book = CredentialsBook::default();
        let held = book.hold(&task);
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, held.execution()).await.is_err());
        let giver = book.clone();
        let given = task.clone();
        tokio::spawn(async move { giver.put(&given, role("first")) });
        assert_eq!(held.execution().await.access_key_id, "first");
        book.forget(&task);
        assert!(book.is_held(&task));
        book.put(&task, role("second"));
        assert_eq!(held.execution().await.access_key_id, "second");
        drop(held);
        assert_eq!(book.execution(&task), None);
        assert!(!book.is_held(&task));
    }
}
