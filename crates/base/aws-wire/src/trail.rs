//! What a request leaves behind for the audit log: who it is of, and what was asked of their permissions.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_types::AccountId;

/// Questions that are kept of one request.
const QUESTIONS_MAX: usize = 32;

/// Who a request is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traveller {
    pub account: AccountId,
    /// An ARN.
    pub principal: String,
    pub access_key: String,
    pub address: Option<IpAddr>,
    pub user_agent: Option<Arc<str>>,
    /// A host's agent by a key of its kind, for itself or for a task.
    pub is_agent: bool,
}

/// One action that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub action: String,
    pub resources: Vec<String>,
    pub is_allowed: bool,
    /// The statement, or the lack of one, that decided.
    pub decided_by: String,
}

impl Question {
    /// One that was answered with no.
    pub fn denied(action: &str, resource: &str, decided_by: String) -> Self {
        Self {
            action: action.to_owned(),
            resources: vec![resource.to_owned()],
            is_allowed: false,
            decided_by,
        }
    }
}

#[derive(Default)]
struct Steps {
    traveller: Option<Traveller>,
    questions: Vec<Question>,
}

/// Where a request's steps are noted. All copies of one note in the same place; one that is off notes nothing.
#[derive(Clone, Default)]
pub struct Trail(Option<Arc<Mutex<Steps>>>);

impl Trail {
    pub fn on() -> Self {
        Self(Some(Arc::default()))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn steps(&self) -> Option<MutexGuard<'_, Steps>> {
        let steps = self.0.as_ref()?;
        Some(steps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says who it is of.
    pub fn is_of(&self, traveller: Traveller) {
        if let Some(mut steps) = self.steps() {
            steps.traveller = Some(traveller);
        }
    }

    /// Notes what was asked. A decision that is made again asks again: the same is noted once.
    pub fn asked(&self, question: Question) {
        let Some(mut steps) = self.steps() else { return };
        if steps.questions.len() < QUESTIONS_MAX && !steps.questions.contains(&question) {
            steps.questions.push(question);
        }
    }

    /// Notes a refusal that was not noted where it was decided.
    pub fn denied(&self, action: &str, resource: &str, decided_by: &str) {
        let Some(mut steps) = self.steps() else { return };
        if steps.questions.iter().all(|question| question.is_allowed) {
            let question = Question::denied(action, resource, decided_by.to_owned());
            steps.questions.push(question);
        }
    }

    /// Who it is of, and what was asked; `None` if nobody knows who.
    pub fn read(&self) -> Option<(Traveller, Vec<Question>)> {
        let steps = self.steps()?;
        Some((steps.traveller.clone()?, steps.questions.clone()))
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Trail(on)" } else { "Trail(off)" })
    }
}

/// It is no part of what two requests have in common.
impl PartialEq for Trail {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Trail {}
