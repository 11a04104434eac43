//! What a line says.

use std::collections::BTreeSet;

use aws_wire::{Journey, Question, Trail};
use longshore_types::{Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use super::limits::{RESOURCES_MAX, TEXT_CHARS_MAX};

/// What became of a request, as far as permissions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Allowed,
    Denied,
    /// It was refused, or answered, before anybody's permissions mattered.
    NotAsked,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// ISO 8601, UTC.
    pub time: String,
    pub request_id: String,
    pub account: String,
    /// The ARN of whoever asked.
    pub principal: String,
    pub access_key_id: String,
    pub service: String,
    /// As in policies: `ecs:RunTask`.
    pub action: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    pub decision: Decision,
    /// The statement, or the lack of one, that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Where another action than the request's own was denied, such as `iam:PassRole`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied_action: Option<String>,
    /// How many more questions were asked of policies than could be kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub questions_dropped: u64,
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Entry(Box<Entry>),
    /// So many lines were lost before this one: the queue was full.
    Lost {
        time: String,
        lost: u64,
    },
}

/// What is known of a request beside its trail.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub time: Timestamp,
    pub request_id: Uuid,
    pub service: &'static str,
    pub operation: String,
    pub status: u16,
    pub error_code: Option<String>,
}

impl Entry {
    /// What a request's trail comes to; `None` of who is not known, and of what is not worth a line.
    pub fn of(outcome: Outcome, trail: &Trail) -> Option<Self> {
        let Journey { traveller, questions, dropped } = trail.read()?;
        let denied = questions.iter().find(|question| !question.is_allowed);
        let decision = match (denied, questions.is_empty()) {
            (Some(_), _) => Decision::Denied,
            (None, false) => Decision::Allowed,
            (None, true) => Decision::NotAsked,
        };
        let deciding = denied.or(questions.first());
        // Of the registry's requests, and of services that have another name in policies, the first question says it.
        let end = format!(":{}", outcome.operation);
        let is_own =
            |question: &&Question| outcome.operation.is_empty() || question.action.ends_with(&end);
        let action = match questions.iter().find(is_own) {
            Some(question) => question.action.clone(),
            None if outcome.operation.is_empty() => return None,
            None => format!("{}{end}", outcome.service),
        };
        let is_routine = traveller.is_agent || action == "logs:PutLogEvents";
        if is_routine && denied.is_none() && outcome.status < 400 {
            return None;
        }
        let denied_action = denied.map(|question| question.action.clone());
        Some(Self {
            time: outcome.time.iso8601(),
            request_id: outcome.request_id.to_string(),
            account: traveller.account.to_string(),
            principal: traveller.principal,
            access_key_id: traveller.access_key,
            service: outcome.service.to_owned(),
            resources: resources(&questions),
            decision,
            decided_by: deciding.map(|question| question.decided_by.clone()),
            denied_action: denied_action.filter(|denied| *denied != action),
            questions_dropped: dropped,
            action,
            status: outcome.status,
            error_code: outcome.error_code,
            source_ip: traveller.address.map(|address| address.to_string()),
            user_agent: traveller.user_agent.as_deref().map(cut),
        })
    }

    /// Whose line it is, and why it was denied, in a sentence for people.
    pub fn sentence(&self) -> String {
        let Self { principal, action, time, .. } = self;
        let what = self.denied_action.as_ref().unwrap_or(action);
        let on = match self.resources.as_slice() {
            [] => String::new(),
            [one] => format!(" on {one}"),
            [first, rest @ ..] => format!(" on {first} and {} more", rest.len()),
        };
        let why = self.decided_by.as_deref().unwrap_or("nothing was asked of policies");
        match self.decision {
            Decision::Denied => format!("{time}: {principal} was denied {what}{on}: {why}"),
            Decision::Allowed => format!("{time}: {principal} was allowed {action}{on}: {why}"),
            Decision::NotAsked => {
                let code = self.error_code.as_deref().unwrap_or("no error");
                format!(
                    "{time}: {action} of {principal} was answered ({code}) before anything was asked of policies"
                )
            }
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What was denied comes first: not all may fit.
fn resources(questions: &[Question]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let of = |is_allowed| {
        let questions = questions.iter().filter(move |question| question.is_allowed == is_allowed);
        questions.flat_map(|question| &question.resources)
    };
    let named = of(false).chain(of(true));
    let named = named.filter(|name| seen.insert(name.as_str()));
    named.take(RESOURCES_MAX).map(|name| cut(name)).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use aws_wire::Traveller;

    use super::*;

    pub(crate) fn entry(number: u64) -> Entry {
        let question = Question {
            action: "ecs:RunTask".to_owned(),
            resources: vec![format!("arn:{number}")],
            is_allowed: true,
            decided_by: "statement 1 of p".to_owned(),
        };
        of("RunTask", 200, false, &[question]).unwrap()
    }

    fn of(operation: &str, status: u16, is_agent: bool, asked: &[Question]) -> Option<Entry> {
        let trail = Trail::on();
        trail.is_of(Traveller {
            account: "000000000000".parse().unwrap(),
            principal: "arn:aws:iam::000000000000:user/ann".to_owned(),
            access_key: "AKIA".to_owned(),
            address: Some([127, 0, 0, 1].into()),
            user_agent: Some("cli/1".into()),
            is_agent,
        });
        asked.iter().for_each(|question| trail.asked(question.clone()));
        let outcome = Outcome {
            time: Timestamp(0),
            request_id: Uuid::from_random([7; 16]),
            service: "ecs",
            operation: operation.to_owned(),
            status,
            error_code: (status >= 400).then(|| "AccessDeniedException".to_owned()),
        };
        Entry::of(outcome, &trail)
    }

    #[test]
    fn a_line_says_who_asked_for_what_and_what_decided() {
        let allowed = Question {
            action: "ecs:RunTask".to_owned(),
            resources: vec!["arn:web:1".to_owned()],
            is_allowed: true,
            decided_by: "statement 1 of p".to_owned(),
        };
        let pass = Question::denied("iam:PassRole", "arn:role", "no policy allows it".to_owned());
        let line = of("RunTask", 400, false, &[allowed.clone(), pass]).unwrap();
        assert_eq!(line.decision, Decision::Denied);
        assert_eq!(line.denied_action.as_deref(), Some("iam:PassRole"));
        assert_eq!(line.resources, ["arn:role", "arn:web:1"]);
        assert_eq!(line.decided_by.as_deref(), Some("no policy allows it"));
        let text = serde_json::to_value(&line).unwrap();
        assert_eq!(text["action"], "ecs:RunTask");
        assert_eq!(text["sourceIp"], "127.0.0.1");
        assert_eq!(text["time"], "1970-01-01T00:00:00.000Z");
        assert!(line.sentence().contains("ann was denied iam:PassRole on arn:role and 1 more"));
        let line = of("RunTask", 200, false, &[allowed]).unwrap();
        assert_eq!((line.decision, line.error_code), (Decision::Allowed, None));
        let line = of("RunTask", 400, false, &[]).unwrap();
        assert_eq!(line.decision, Decision::NotAsked);
    }

    #[test]
    fn what_agents_do_by_themselves_leaves_a_line_only_if_it_fails() {
        assert!(of("SubmitTaskStateChange", 200, true, &[]).is_none());
        assert!(of("SubmitTaskStateChange", 400, true, &[]).is_some());
        // A registry's request that asks for nothing is a login that is tried.
        assert!(of("", 200, false, &[]).is_none());
        assert!(
            Entry::of(
                Outcome {
                    time: Timestamp(0),
                    request_id: Uuid::from_random([7; 16]),
                    service: "ecs",
                    operation: "RunTask".to_owned(),
                    status: 403,
                    error_code: None,
                },
                &Trail::on(),
            )
            .is_none()
        );
    }
}
