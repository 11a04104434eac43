//! The engine's line to the region: events that arrive in the end, and logins for its registry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use image::{Auth, Basic};
use longshore_types::{AccountId, Chain, IdSource, TaskArn, Timestamp, Token};
use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};
use tracing::{debug, warn};

use super::{Api, Backoff, CallError, ECR, SubmitAttachment};
use crate::endpoint::{Protection, ProtectionState};
use crate::engine::Region;
use crate::engine::secrets::{Parameters, SecretId};
use crate::engine::state::TaskEvent;
use crate::limits::SUBMITS_MAX;
use crate::spec::{ObjectName, RegistryAuth};
use acs::RoleCredentials;

/// Logins are renewed this long before they end.
const LOGIN_MARGIN_MS: u64 = 30 * 60_000;
/// A login without a known end is used this long.
const LOGIN_MS: u64 = 60 * 60_000;
const LOGINS_MAX: usize = 256;
/// A refusal that another try may help against is asked about so often.
const LOGIN_TRIES_MAX: u32 = 8;

#[derive(Clone, Debug)]
struct Login {
    host: String,
    basic: Basic,
    expires_at: Timestamp,
}

/// What a login is good for: it acts as whoever's credentials asked for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LoginKey {
    account: AccountId,
    /// The ARN of the role that it was asked for in; `None` is the host's own key.
    role: Option<String>,
    registry: Option<String>,
}

impl LoginKey {
    fn of(account: AccountId, auth: &RegistryAuth, role: Option<&RoleCredentials>) -> Self {
        let registry = match auth {
            RegistryAuth::Ecr { registry_id, .. } => registry_id.clone(),
            RegistryAuth::None | RegistryAuth::Secret { .. } => None,
        };
        Self { account, role: role.map(|role| role.role_arn.clone()), registry }
    }
}

/// Delivers what the engine has to say.
#[derive(Debug)]
pub struct RegionLink {
    api: Api,
    cluster: String,
    ids: Arc<dyn IdSource>,
    submits: Semaphore,
    /// Rung when the region was heard again: then nobody waits out a long pause.
    heard: Notify,
    logins: Mutex<BTreeMap<LoginKey, Login>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthorizationData {
    authorization_token: String,
    expires_at: Option<f64>,
    proxy_endpoint: String,
}

impl RegionLink {
    pub fn new(api: Api, cluster: String, ids: Arc<dyn IdSource>) -> Self {
        let submits = Semaphore::new(SUBMITS_MAX);
        Self { api, cluster, ids, submits, heard: Notify::new(), logins: Mutex::default() }
    }

    /// The region has just answered.
    pub fn heard(&self) {
        self.heard.notify_waiters();
    }

    async fn pause(&self, ms: u64) {
        let heard = self.heard.notified();
        let _ = tokio::time::timeout(Duration::from_millis(ms), heard).await;
    }

    /// Tries until the region accepts it, or says that it never will.
    async fn persist<F: Future<Output = Result<(), CallError>>>(
        &self,
        what: &'static str,
        mut call: impl FnMut() -> F,
    ) {
        let mut transient = Backoff::call();
        let mut refused = Backoff::refused();
        loop {
            let result = match self.submits.acquire().await {
                Ok(_permit) => call().await,
                Err(_) => return,
            };
            let wait_ms = match result {
                Ok(()) => return,
                Err(error) if error.code() == "InvalidParameterException" => {
                    warn!(what, error = %Chain(&error), "event refused for good");
                    return;
                }
                Err(error) if error.is_transient() => {
                    debug!(what, error = %Chain(&error), "event not delivered yet");
                    transient.next_ms(&*self.ids)
                }
                Err(error) => {
                    warn!(what, error = %Chain(&error), "event refused");
                    refused.next_ms(&*self.ids)
                }
            };
            self.pause(wait_ms).await;
        }
    }

    /// Tells of an attachment that is there: a task's, or the instance's own.
    pub async fn attached(&self, task: Option<String>, attachment: SubmitAttachment) {
        let attachments = [attachment];
        self.persist("attachment", || async {
            match &task {
                Some(task) => {
                    self.api.submit_task_attachments(&self.cluster, task, &attachments).await
                }
                None => self.api.submit_attachment_state_changes(&self.cluster, &attachments).await,
            }
        })
        .await;
    }

    async fn renew(
        &self,
        registry: Option<&str>,
        role: Option<&RoleCredentials>,
    ) -> Result<Login, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            authorization_data: Vec<AuthorizationData>,
        }
        let input = match registry {
            Some(id) => serde_json::json!({ "registryIds": [id] }),
            None => serde_json::json!({}),
        };
        let answer: Answer =
            self.api.call_as(ECR, "GetAuthorizationToken", &input, role, None).await?;
        let unreadable = |why: &str| CallError::Unreadable {
            operation: "GetAuthorizationToken",
            why: why.to_owned(),
        };
        let data = answer.authorization_data.into_iter().next();
        let data = data.ok_or_else(|| unreadable("no authorization data"))?;
        let basic = Basic::from_authorization_token(&data.authorization_token)
            .ok_or_else(|| unreadable("the token is no user and password"))?;
        let host = data.proxy_endpoint.split_once("://").map_or(&*data.proxy_endpoint, |(_, h)| h);
        let now = self.api.clock().now();
        let expires_at = data.expires_at.map_or(now.plus_ms(LOGIN_MS), from_seconds);
        Ok(Login { host: host.trim_end_matches('/').to_owned(), basic, expires_at })
    }

    async fn find_login(
        &self,
        key: LoginKey,
        role: Option<&RoleCredentials>,
    ) -> Result<Login, CallError> {
        let now = self.api.clock().now();
        let known = self.logins.lock().ok().and_then(|logins| logins.get(&key).cloned());
        if let Some(login) = known.filter(|login| now.plus_ms(LOGIN_MARGIN_MS) < login.expires_at) {
            return Ok(login);
        }
        let mut backoff = Backoff::call();
        // However long the region is away: that is no fault of the task's, and who waits can be told to stop.
        let mut refusals = 0;
        loop {
            match self.renew(key.registry.as_deref(), role).await {
                Err(error)
                    if error.is_away() || error.is_transient() && refusals < LOGIN_TRIES_MAX =>
                {
                    refusals += u32::from(!error.is_away());
                    self.pause(backoff.next_ms(&*self.ids)).await;
                }
                Err(error) => return Err(error),
                Ok(login) => {
                    if let Ok(mut logins) = self.logins.lock() {
                        if LOGINS_MAX <= logins.len() {
                            logins.clear();
                        }
                        logins.insert(key, login.clone());
                    }
                    return Ok(login);
                }
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a clock shows"
)]
fn from_seconds(seconds: f64) -> Timestamp {
    Timestamp((seconds.clamp(0.0, 1e11) * 1000.0) as u64)
}

impl Region for RegionLink {
    fn tell(&self, task: TaskArn, event: TaskEvent) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let task = task.to_string();
            self.persist("task", || {
                self.api.submit_task_state_change(&self.cluster, &task, &event)
            })
            .await;
        })
    }

    fn login(
        &self,
        account: AccountId,
        auth: RegistryAuth,
        role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<Auth, CallError>> {
        Box::pin(async move {
            let is_required = match auth {
                RegistryAuth::Ecr { .. } => true,
                // A name without credentials of its own may still lead to the region's registry.
                RegistryAuth::None | RegistryAuth::Secret { .. } => false,
            };
            let key = LoginKey::of(account, &auth, role.as_ref());
            // What one role may fetch says nothing about another.
            let owner = key.role.clone().unwrap_or_else(|| account.to_string());
            let none = Auth::none().owned_by(owner);
            match self.find_login(key, role.as_ref()).await {
                Ok(login) => Ok(none.with(login.host, login.basic)),
                Err(error) if is_required => Err(error),
                Err(error) => {
                    debug!(error = %Chain(&error), "no login for the region's registry");
                    Ok(none)
                }
            }
        })
    }

    fn forget_login(
        &self,
        account: AccountId,
        auth: &RegistryAuth,
        role: Option<&RoleCredentials>,
    ) {
        let key = LoginKey::of(account, auth, role);
        if let Ok(mut logins) = self.logins.lock() {
            logins.remove(&key);
        }
    }

    fn secret(
        &self,
        id: SecretId,
        role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Token, CallError>> {
        Box::pin(async move { self.api.secret(&id, &role).await })
    }

    fn parameters(
        &self,
        names: Vec<String>,
        role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Parameters, CallError>> {
        Box::pin(async move { self.api.parameters(&names, &role).await })
    }

    fn object(
        &self,
        object: ObjectName,
        role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async move { self.api.object(&object, &role).await })
    }

    fn tags(&self, resource: String) -> BoxFuture<'_, Result<Vec<(String, String)>, CallError>> {
        Box::pin(async move { self.api.list_tags(&resource).await })
    }

    fn protection(
        &self,
        task: TaskArn,
        change: Option<Protection>,
        role: RoleCredentials,
    ) -> BoxFuture<'_, Result<ProtectionState, CallError>> {
        Box::pin(async move { self.api.task_protection(&task, change, &role).await })
    }

    fn is_own(&self, host: &str) -> bool {
        let is_of_login = |logins: &BTreeMap<LoginKey, Login>| {
            logins.values().any(|login| login.host.eq_ignore_ascii_case(host))
        };
        self.api.is_at(host) || self.logins.lock().is_ok_and(|logins| is_of_login(&logins))
    }
}
