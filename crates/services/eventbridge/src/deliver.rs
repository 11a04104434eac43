//! Brings events that wait to the targets of their rules.
//!
//! A target is told at least once: a region that ends between telling it and writing that down tells it again, and a task is
//! asked for by the same token, so that it is the same task. What is refused for good is given up at once, all else is tried
//! again for as long and as often as the target says.

use std::sync::Arc;
use std::time::Duration;

use aws_wire::ApiError;
use control::iam::Assumption;
use control::ports::{LogLine, NotLogged};
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use events::{Json, RuleInfo};
use events_api as api;
use longshore_types::{AccountId, Timestamp};
use model::event::TargetTry;
use model::{EventRule, Key, PendingEvent, View};
use store::{Batch, Change};
use tracing::warn;

use crate::errors::cannot_assume;
use crate::figures::Figure;
use crate::input::{Kind, kind_of, line, run_task, token};
use crate::limits::{
    AGE_MS, DELIVERIES_AT_ONCE, DELIVERIES_OF_ONE, RETRIES, RETRY_MS, RETRY_MS_MAX, ROLE_MS,
};
use crate::targets::read;
use crate::{EventBridge, PRINCIPAL};

#[derive(Debug)]
pub(crate) struct Deliveries(pub(crate) Arc<EventBridge>);

/// Which event of which rule.
pub(crate) type Which = (AccountId, Arc<str>);

/// What became of telling a target.
#[derive(Debug)]
pub(crate) enum Came {
    Told,
    /// It may be told later.
    Failed(ApiError),
    /// Nothing of this will be otherwise later.
    Refused(ApiError),
}

/// What is written down of a target that was told, or not: none once it needs nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Done,
    GivenUp,
    Again(TargetTry),
}

/// Whether a refusal of RunTask stands whatever happens: of permissions, of names and of what makes no sense. That there are
/// no instances yet does not.
pub(crate) fn is_final(why: &ApiError) -> bool {
    let waits_for_hosts = why.message.starts_with("No Container Instances");
    match &*why.code {
        "AccessDeniedException" | "ClusterNotFoundException" | "ValidationException" => true,
        "InvalidParameterException" => !waits_for_hosts,
        "PlatformUnknownException" | "PlatformTaskDefinitionIncompatibilityException" => true,
        _ => false,
    }
}

/// What is next of a target, by its retry policy.
pub(crate) fn then(
    came: &Came,
    tried: &TargetTry,
    policy: Option<&api::RetryPolicy>,
    began: Timestamp,
    now: Timestamp,
) -> Then {
    match came {
        Came::Told => return Then::Done,
        Came::Refused(_) => return Then::GivenUp,
        Came::Failed(_) => {}
    }
    let attempts = policy.and_then(|policy| policy.maximum_retry_attempts);
    let attempts = attempts.and_then(|count| u32::try_from(count).ok()).unwrap_or(RETRIES);
    let age = policy.and_then(|policy| policy.maximum_event_age_in_seconds);
    let age = age.and_then(|s| u64::try_from(s).ok()).map_or(AGE_MS, |s| s * 1_000);
    let wait = RETRY_MS.saturating_mul(1 << tried.failures.min(20)).min(RETRY_MS_MAX);
    let next_at = now.plus_ms(wait);
    if attempts <= tried.failures || age < next_at.since_ms(began) {
        return Then::GivenUp;
    }
    let (target, failures) = (tried.target.clone(), tried.failures + 1);
    Then::Again(TargetTry { target, failures, next_at })
}

impl EventBridge {
    /// Tells one target.
    async fn tell(
        &self,
        pending: &PendingEvent,
        rule: &EventRule,
        target: &api::Target,
        event: &Json,
    ) -> Came {
        let arn = rule.arn();
        let info = RuleInfo { arn: &arn, name: &rule.name, ingested: pending.at };
        let scope = &rule.scope;
        let to = target.arn.as_deref().unwrap_or_default();
        match kind_of(to, &scope.region, scope.account) {
            Err(why) => Came::Refused(why),
            Ok(Kind::Cluster) => self.start(pending, target, event, info).await,
            Ok(Kind::Group(group)) => self.write(pending, target, event, (info, &group)).await,
        }
    }

    async fn start(
        &self,
        pending: &PendingEvent,
        target: &api::Target,
        event: &Json,
        rule: RuleInfo<'_>,
    ) -> Came {
        let id = target.id.as_deref().unwrap_or_default();
        let request = match run_task(target, event, rule, &token(&pending.id, id)) {
            Ok(request) => request,
            Err(why) => return Came::Refused(why),
        };
        let tasks = target.ecs_parameters.as_ref().and_then(|it| it.task_count).unwrap_or(1);
        let tasks = u64::try_from(tasks).unwrap_or(1);
        let wait_ms = self.pace.take(pending.account, tasks, self.control.clock.now());
        if 0 < wait_ms {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        let session: String = format!("AWSEvents_{}_{id}", rule.name).chars().take(64).collect();
        let role = target.role_arn.as_deref().unwrap_or_default();
        let asked = Assumption {
            role,
            service: PRINCIPAL,
            source: rule.arn,
            source_account: pending.account,
            session_name: &session,
            lasts_ms: ROLE_MS,
        };
        let view = self.control.view();
        let Ok(caller) = self.control.acting_as(&view, &asked, self.control.clock.now()) else {
            return Came::Refused(cannot_assume(role));
        };
        drop(view);
        match self.tasks.start(&caller, &request).await {
            Ok(()) => Came::Told,
            Err(why) if is_final(&why) => Came::Refused(why),
            Err(why) => Came::Failed(why),
        }
    }

    async fn write(
        &self,
        pending: &PendingEvent,
        target: &api::Target,
        event: &Json,
        (rule, group): (RuleInfo<'_>, &str),
    ) -> Came {
        let (message, at) = match line(target, event, rule, pending.at) {
            Ok(said) => said,
            Err(why) => return Came::Refused(why),
        };
        let account = pending.account;
        let line = LogLine {
            service: PRINCIPAL,
            source: (rule.arn, account),
            account,
            group,
            stream: rule.name,
            at,
            message: &message,
        };
        match self.logs.write(&line).await {
            Ok(()) => Came::Told,
            Err(NotLogged::Refused(why)) if why.is_fault() => Came::Failed(why),
            Err(why) => Came::Refused(ApiError::client("AccessDeniedException", why.to_string())),
        }
    }

    pub(crate) async fn deliver(&self, which: &Which) -> Result<Pass<()>, ApiError> {
        let (account, id) = which;
        let view = self.control.view();
        let looked_at = view.seq;
        let Some(pending) = view.pending_events.get(*account, id).map(Arc::clone) else {
            return Ok(Pass { looked_at, is_over: true, ..Pass::default() });
        };
        let now = self.control.clock.now();
        if now < pending.due() {
            let again_at = Some(pending.due());
            return Ok(Pass { looked_at, again_at, ..Pass::default() });
        }
        let rule = view.event_rules.get(*account, &pending.rule).map(Arc::clone);
        drop(view);
        let left = match &rule {
            Some(rule) => self.tell_all(&pending, rule, now).await,
            // Nobody is there any more who wants it.
            None => Vec::new(),
        };
        let decided = self.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            let key = Key::PendingEvent(*account, Arc::clone(id));
            if let Some(row) = view.pending_events.get(*account, id) {
                match left.is_empty() {
                    true => batch.delete(key),
                    false => batch
                        .put(PendingEvent { left: Some(left.clone()), ..PendingEvent::clone(row) }),
                };
            }
            Ok((batch, ()))
        });
        decided.await?;
        // A row that was written leads to another pass.
        Ok(Pass { looked_at, is_over: left.is_empty(), ..Pass::default() })
    }

    /// Tells every target that is to be told by now. Those that are left.
    async fn tell_all(
        &self,
        pending: &PendingEvent,
        rule: &EventRule,
        now: Timestamp,
    ) -> Vec<TargetTry> {
        let is_new = pending.left.is_none();
        let first = || {
            let tried = |target: &model::event::RuleTarget| TargetTry {
                target: target.id.clone(),
                failures: 0,
                next_at: pending.at,
            };
            rule.targets.iter().map(tried).collect()
        };
        let tries: Vec<TargetTry> = pending.left.clone().unwrap_or_else(first);
        let event = Json::parse(pending.event.as_str()).unwrap_or(Json::Null);
        let (mut left, mut told, mut retried, mut given_up) = (Vec::new(), 0, 0, 0);
        for tried in tries {
            if now < tried.next_at {
                left.push(tried);
                continue;
            }
            let Some(row) = rule.target(&tried.target) else { continue };
            let target = read(row);
            let came = match &target {
                Ok(target) => self.tell(pending, rule, target, &event).await,
                Err(why) => Came::Refused(ApiError::client("InternalException", &*why.message)),
            };
            told += 1;
            retried += u32::from(0 < tried.failures);
            let policy = target.as_ref().ok().and_then(|target| target.retry_policy.as_ref());
            let next = then(&came, &tried, policy, pending.at, self.control.clock.now());
            if let Came::Failed(why) | Came::Refused(why) = &came {
                let is_given_up = next == Then::GivenUp;
                let (rule, target) = (&rule.name, &tried.target);
                warn!(%rule, target, %why, is_given_up, "a target could not be told of an event");
            }
            match next {
                Then::Done => {}
                Then::GivenUp => given_up += 1,
                Then::Again(tried) => left.push(tried),
            }
        }
        let counted = [
            (Figure::TriggeredRules, u32::from(is_new)),
            (Figure::Invocations, told),
            (Figure::RetryInvocationAttempts, retried),
            (Figure::FailedInvocations, given_up),
        ];
        self.count(pending.account, Some(&rule.name), &counted).await;
        for (account, count) in self.control.outbox.take_dropped() {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.count(account, None, &[(Figure::FailedInvocations, count)]).await;
        }
        left
    }
}

impl Reconciler for Deliveries {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "event-deliveries"
    }

    fn passes_max(&self) -> usize {
        DELIVERIES_AT_ONCE
    }

    fn owner(&self, key: &Which) -> Option<AccountId> {
        Some(key.0)
    }

    fn passes_each_max(&self) -> usize {
        DELIVERIES_OF_ONE
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        if let Key::PendingEvent(account, id) = &change.key
            && view.pending_events.get(*account, id).is_some()
        {
            queue.changed(&(*account, Arc::clone(id)), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        view.pending_events.iter().map(|row| (row.account, Arc::clone(&row.id))).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (it, key) = (Arc::clone(&self.0), key.clone());
        Box::pin(async move { it.deliver(&key).await })
    }
}
