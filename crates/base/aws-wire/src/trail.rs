//! What a request leaves behind for the audit log: who it is of, and what was asked of their permissions.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_types::AccountId;

/// Questions that are kept of one request: as many, and of those that were answered with no some more.
const QUESTIONS_MAX: usize = 32;
const QUESTIONS_WITH_DENIED_MAX: usize = 256;

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
    dropped: u64,
}

impl Steps {
    fn note(&mut self, question: Question) {
        let max = match question.is_allowed {
            true => QUESTIONS_MAX,
            false => QUESTIONS_WITH_DENIED_MAX,
        };
        if self.questions.contains(&question) {
            return;
        }
        match self.questions.len() < max {
            true => self.questions.push(question),
            false => self.dropped += 1,
        }
    }
}

/// What is known of a request at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    pub traveller: Traveller,
    pub questions: Vec<Question>,
    /// How many more were asked than are kept. One that is asked again counts again.
    pub dropped: u64,
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
        steps.note(question);
    }

    /// Notes a refusal that was not noted where it was decided.
    pub fn denied(&self, action: &str, resource: &str, decided_by: &str) {
        let Some(mut steps) = self.steps() else { return };
        if steps.questions.iter().all(|question| question.is_allowed) {
            steps.note(Question::denied(action, resource, decided_by.to_owned()));
        }
    }

    /// Who it is of, and what was asked; `None` if nobody knows who.
    pub fn read(&self) -> Option<Journey> {
        let steps = self.steps()?;
        let (traveller, questions) = (steps.traveller.clone()?, steps.questions.clone());
        Some(Journey { traveller, questions, dropped: steps.dropped })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_kept_however_much_was_allowed_before_it() {
        let trail = Trail::on();
        trail.is_of(Traveller {
            account: "000000000000".parse().unwrap(),
            principal: String::new(),
            access_key: String::new(),
            address: None,
            user_agent: None,
            is_agent: false,
        });
        let allowed = |number| Question {
            is_allowed: true,
            ..Question::denied("ecs:RunTask", &format!("arn:{number}"), String::new())
        };
        (0..40).for_each(|number| trail.asked(allowed(number)));
        trail.asked(allowed(0));
        trail.asked(Question::denied("iam:PassRole", "arn:role", String::new()));
        let journey = trail.read().unwrap();
        assert_eq!((journey.questions.len(), journey.dropped), (33, 8));
        assert_eq!(journey.questions[32].action, "iam:PassRole");
        (0..300).for_each(|number| {
            trail.asked(Question::denied("iam:PassRole", &format!("{number}"), String::new()));
        });
        let journey = trail.read().unwrap();
        assert_eq!((journey.questions.len(), journey.dropped), (256, 85));
    }
}
