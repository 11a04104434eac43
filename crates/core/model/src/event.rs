//! EventBridge's rules, and what is yet to be told to their targets.
//!
//! **Invariant:** an account has no more events that wait than whoever puts them lets it have: see `control::outbox`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use events::Pattern;
use longshore_types::{AccountId, Scope, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::table::Record;
use crate::tags::Tags;
use crate::view::{Index, Seq, Tally};

/// The room that waiting events take is counted in blocks of so many bytes.
pub const BLOCK_BYTES: usize = 4 << 10;

/// Which events a rule wants, as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PatternText {
    text: Arc<str>,
    #[serde(skip)]
    compiled: OnceLock<Option<Arc<Pattern>>>,
}

impl PatternText {
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it means; a text that can't be read any more wants nothing.
    pub fn pattern(&self) -> Option<&Pattern> {
        let compiled = self.compiled.get_or_init(|| Pattern::parse(&self.text).ok().map(Arc::new));
        compiled.as_deref()
    }
}

impl PartialEq for PatternText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PatternText {}

/// When a rule runs by the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSchedule {
    /// As it was said.
    pub expression: String,
    /// From when on a rate is counted: when the rule got the expression, or was enabled.
    pub since: Timestamp,
    /// Up to when it was looked at: what comes later is yet to be done.
    pub done_until: Timestamp,
}

/// Whom a rule has something done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleTarget {
    pub id: String,
    pub arn: Arc<str>,
    /// All of it, as PutTargets was given it.
    pub document: Document,
}

/// A rule of the default event bus, with its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRule {
    pub scope: Scope,
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<PatternText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<RuleSchedule>,
    pub is_enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<RuleTarget>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
}

/// `arn:aws:events:<region>:<account>:rule/<name>`
pub fn rule_arn(scope: &Scope, name: &str) -> String {
    format!("arn:aws:events:{}:{}:rule/{name}", scope.region, scope.account)
}

impl EventRule {
    pub fn arn(&self) -> String {
        rule_arn(&self.scope, &self.name)
    }

    pub fn target(&self, id: &str) -> Option<&RuleTarget> {
        self.targets.iter().find(|target| target.id == id)
    }

    /// What it wants of events, if it wants any now.
    pub fn wants(&self) -> Option<&Pattern> {
        self.pattern.as_ref().filter(|_| self.is_enabled).and_then(PatternText::pattern)
    }
}

impl Record for EventRule {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn indexes(&self) -> Vec<Index> {
        let mut indexes = vec![Index::EventRules(self.scope.account)];
        if self.is_enabled && self.pattern.is_some() {
            indexes.push(Index::PatternRules(self.scope.account));
        }
        indexes
    }
}

/// How it stands with one target of an event that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetTry {
    pub target: String,
    /// How often it was tried in vain.
    pub failures: u32,
    pub next_at: Timestamp,
}

/// An event that a rule matched, until all of the rule's targets have it or are given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingEvent {
    pub account: AccountId,
    /// When it came in, its place among the events of its time, the event's id and the rule's name: the oldest are the first.
    pub id: Arc<str>,
    pub at: Timestamp,
    pub rule: Arc<str>,
    /// The whole event.
    pub event: Document,
    /// The targets that do not have it yet. None: nobody has looked which there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Vec<TargetTry>>,
}

impl PendingEvent {
    /// `id` is the event's own. `place` is the commit that it is decided on, and how many events of its batch come before it:
    /// what is told of one row one after the other stays in this order.
    pub fn new(
        account: AccountId,
        at: Timestamp,
        place: (Seq, usize),
        id: Uuid,
        rule: &Arc<str>,
        event: Document,
    ) -> Self {
        let (seq, index) = place;
        let id = format!("{:014}-{:012}-{index:05}-{id}-{rule}", at.0, seq.0).into();
        Self { account, id, at, rule: Arc::clone(rule), event, left: None }
    }

    /// How much room it takes, in blocks.
    pub fn blocks(&self) -> usize {
        1 + self.event.as_str().len() / BLOCK_BYTES
    }

    /// When it is to be looked at.
    pub fn due(&self) -> Timestamp {
        let tries = self.left.iter().flatten().map(|each| each.next_at);
        tries.min().unwrap_or(self.at)
    }
}

impl Record for PendingEvent {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    fn tallies(&self) -> Vec<Tally> {
        vec![Tally::PendingEvents(self.account); self.blocks()]
    }
}
