//! A region that notes what it is told, and can be away.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use acs::RoleCredentials;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use image::Auth;
use longshore_types::{AccountId, PutToken, TaskArn, Token};
use tokio::sync::Notify;

use super::HeardSteps;
use crate::client::CallError;
use crate::endpoint::{Protection, ProtectionState};
use crate::engine::Region;
use crate::engine::secrets::{Parameters, SecretId};
use crate::engine::state::TaskEvent;
use crate::logdriver::{LogEvent, LogService, LogServiceError, LogTarget};
use crate::spec::{ObjectName, RegistryAuth};

/// A region that notes what it is told, and can be away.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeRegion {
    reported: Arc<Mutex<Vec<(TaskArn, TaskEvent)>>>,
    is_away: Arc<Mutex<bool>>,
    changed: Arc<Notify>,
    pub(crate) log_lines: Arc<Mutex<VecDeque<(String, String)>>>,
    groups: Arc<Mutex<Vec<String>>>,
    /// Values of secrets and parameters.
    pub(crate) secrets: Arc<Mutex<BTreeMap<String, String>>>,
    /// What the store of objects has.
    pub(crate) objects: Arc<Mutex<BTreeMap<ObjectName, String>>>,
    /// The status with which each object is refused, instead of what the store has.
    pub(crate) objects_fail: Arc<Mutex<Option<u16>>>,
    /// With what code it will have no more streams.
    refuses_streams: Arc<Mutex<Option<&'static str>>>,
    /// Access keys that are no longer good.
    expired: Arc<Mutex<Vec<String>>>,
    /// The key of each put, `""` for the host's own, and whether it was good.
    pub(crate) puts: Arc<Mutex<Vec<(String, bool)>>>,
    /// By writer.
    last_puts: Arc<Mutex<BTreeMap<u64, u64>>>,
    /// Logins that were forgotten; the next one has this number.
    pub(crate) forgotten: Arc<AtomicU32>,
    pub(crate) steps: HeardSteps,
}

impl FakeRegion {
    pub(crate) fn expire(&self, access_key: &str) {
        self.expired.lock().unwrap().push(access_key.to_owned());
    }

    pub(crate) fn set_away(&self, away: bool) {
        *self.is_away.lock().unwrap() = away;
        self.changed.notify_waiters();
    }

    pub(crate) fn reported(&self) -> Vec<TaskEvent> {
        self.reported.lock().unwrap().iter().map(|(_, event)| event.clone()).collect()
    }

    pub(crate) fn refuse_streams(&self, code: &'static str) {
        *self.refuses_streams.lock().unwrap() = Some(code);
    }

    pub(crate) fn make_group(&self, name: &str) {
        self.groups.lock().unwrap().push(name.to_owned());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.log_lines.lock().unwrap().iter().map(|(_, line)| line.clone()).collect()
    }

    async fn present(&self) {
        loop {
            let changed = self.changed.notified();
            if !*self.is_away.lock().unwrap() {
                return;
            }
            changed.await;
        }
    }
}

impl Region for FakeRegion {
    fn tell(&self, task: TaskArn, event: TaskEvent) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.present().await;
            self.steps.reached("event to be told");
            self.reported.lock().unwrap().push((task, event));
            self.changed.notify_waiters();
            self.steps.reached("event told");
        })
    }

    fn login(
        &self,
        _account: AccountId,
        _auth: RegistryAuth,
        _role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<Auth, CallError>> {
        let number = self.forgotten.load(Ordering::SeqCst);
        Box::pin(async move { Ok(Auth::none().owned_by(format!("login {number}"))) })
    }

    fn forget_login(
        &self,
        _account: AccountId,
        _auth: &RegistryAuth,
        _role: Option<&RoleCredentials>,
    ) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    fn secret(
        &self,
        id: SecretId,
        _role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Token, CallError>> {
        let value = self.secrets.lock().unwrap().get(&id.secret).cloned();
        let missing = || CallError::Refused {
            status: 400,
            code: "ResourceNotFoundException".to_owned(),
            message: "Secrets Manager can't find the specified secret.".to_owned(),
        };
        Box::pin(async move { value.map(Token::from_text).ok_or_else(missing) })
    }

    fn parameters(
        &self,
        names: Vec<String>,
        _role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Parameters, CallError>> {
        let known = self.secrets.lock().unwrap();
        let (there, invalid): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| known.contains_key(name));
        let values = there.into_iter().map(|name| {
            let value = Token::from_text(known[&name].clone());
            (name, value)
        });
        let values = values.collect();
        Box::pin(async move { Ok(Parameters { values, invalid }) })
    }

    fn object(
        &self,
        object: ObjectName,
        _role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        let found = self.objects.lock().unwrap().get(&object).cloned();
        let missing = || CallError::Refused {
            status: 404,
            code: "NoSuchKey".to_owned(),
            message: "The specified key does not exist.".to_owned(),
        };
        Box::pin(async move {
            if *self.is_away.lock().unwrap() {
                let (endpoint, why) = ("region".to_owned(), "away".to_owned());
                return Err(CallError::Unreachable { endpoint, why });
            }
            if let Some(status) = *self.objects_fail.lock().unwrap() {
                let (code, message) = ("InternalError".to_owned(), "Try again.".to_owned());
                return Err(CallError::Refused { status, code, message });
            }
            found.map(Bytes::from).ok_or_else(missing)
        })
    }

    fn tags(&self, resource: String) -> BoxFuture<'_, Result<Vec<(String, String)>, CallError>> {
        let pair = ("of".to_owned(), resource);
        Box::pin(async { Ok(vec![pair]) })
    }

    fn protection(
        &self,
        task: TaskArn,
        change: Option<Protection>,
        _role: RoleCredentials,
    ) -> BoxFuture<'_, Result<ProtectionState, CallError>> {
        let is_on = change.and_then(|change| change.protection_enabled).unwrap_or(false);
        let state = serde_json::json!({ "ProtectionEnabled": is_on, "TaskArn": task.to_string() });
        Box::pin(async { Ok(ProtectionState::Protected(state)) })
    }

    fn is_own(&self, host: &str) -> bool {
        host == "region:4566"
    }
}

impl LogService for FakeRegion {
    fn create_group(
        &self,
        target: LogTarget,
        _role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>> {
        self.make_group(&target.group);
        Box::pin(async { Ok(()) })
    }

    fn create_stream(
        &self,
        target: LogTarget,
        _role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>> {
        let is_there = self.groups.lock().unwrap().contains(&target.group);
        let is_away = *self.is_away.lock().unwrap();
        let refuses = *self.refuses_streams.lock().unwrap();
        Box::pin(async move {
            if let Some(code) = refuses {
                return Err(LogServiceError {
                    code: code.into(),
                    message: "no more".into(),
                    is_transient: true,
                    is_away: false,
                });
            }
            if is_away {
                return Err(LogServiceError {
                    code: "RequestError".into(),
                    message: "away".into(),
                    is_transient: true,
                    is_away: true,
                });
            }
            is_there.then_some(()).ok_or_else(|| LogServiceError {
                code: "ResourceNotFoundException".into(),
                message: "The specified log group does not exist.".into(),
                is_transient: false,
                is_away: false,
            })
        })
    }

    fn put(
        &self,
        target: LogTarget,
        role: Option<RoleCredentials>,
        token: PutToken,
        events: Arc<Vec<LogEvent>>,
    ) -> BoxFuture<'_, Result<u64, LogServiceError>> {
        Box::pin(async move {
            self.steps.reached("events to be put");
            let key = role.map(|role| role.access_key_id).unwrap_or_default();
            let is_good = !self.expired.lock().unwrap().contains(&key);
            self.puts.lock().unwrap().push((key, is_good));
            if !is_good {
                return Err(LogServiceError {
                    code: "ExpiredTokenException".into(),
                    message: "The security token included in the request is expired".into(),
                    is_transient: false,
                    is_away: false,
                });
            }
            if *self.is_away.lock().unwrap() {
                return Err(LogServiceError {
                    code: "RequestError".into(),
                    message: "away".into(),
                    is_transient: true,
                    is_away: true,
                });
            }
            let known = self.last_puts.lock().unwrap().insert(token.writer, token.put);
            if known != Some(token.put) {
                let mut lines = self.log_lines.lock().unwrap();
                let line = |event: &LogEvent| (target.stream.clone(), event.text.clone());
                lines.extend(events.iter().map(line));
            }
            self.steps.reached("events put");
            Ok(0)
        })
    }
}
