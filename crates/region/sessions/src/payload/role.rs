//! The roles of a task: the one that its containers act in, and the one that its execution is done in: its
//! images are fetched, its logs written and its secrets read with it.

use acs::RoleCredentials;
use control::Control;
use control::access::TASK_EXECUTION_ROLE;
use control::iam::{Assumption, CannotAssume, Credentials};
use ecs_api as api;
use longshore_types::{Timestamp, Token};
use model::View;
use model::task::Task;

use super::image;

/// Whoever assumes the roles of tasks, as trust policies name it.
pub(super) const TASKS: &str = "ecs-tasks.amazonaws.com";
/// How long credentials are good.
const LASTS_MS: u64 = 6 * 3_600_000;
/// After so long they are replaced: clients ask for new ones in the last quarter of an hour.
const RENEW_MS: u64 = LASTS_MS / 2;

/// Whether who was sent credentials at `sent_at` needs the next ones.
pub fn is_due(sent_at: Timestamp, now: Timestamp) -> bool {
    RENEW_MS <= now.since_ms(sent_at)
}

/// What a task's agent and its containers act with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// `None` where the host's own key does.
    pub execution: Option<RoleCredentials>,
    pub acting: Acting,
}

/// What a task's containers act with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Acting {
    /// The task has no role.
    #[default]
    Nobody,
    As(RoleCredentials),
    /// There is no such role; there may be one later. Our agent says so to whoever asks.
    Nameless(RoleCredentials),
}

impl Acting {
    /// What the agent is sent.
    pub(super) fn credentials(&self, agent_is_ours: bool) -> Option<&RoleCredentials> {
        match self {
            Self::As(credentials) => Some(credentials),
            Self::Nameless(credentials) => Some(credentials).filter(|_| agent_is_ours),
            Self::Nobody => None,
        }
    }
}

/// Why a task cannot have a role that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unassumable {
    pub role: String,
    pub why: CannotAssume,
}

impl Unassumable {
    /// ECS's sentence, and which of the reasons it is.
    pub fn sentence(&self) -> String {
        format!(
            "ECS was unable to assume the role '{}' that was provided for this task. Please verify that the \
             role being passed has the proper trust relationship and permissions and that your IAM user has \
             permissions to pass this role. ({})",
            self.role, self.why
        )
    }
}

/// What the roles of a task depend on.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub control: &'a Control,
    pub view: &'a View,
    pub task: &'a Task,
    pub definition: &'a api::TaskDefinition,
    pub agent_is_ours: bool,
    pub now: Timestamp,
}

impl Given<'_> {
    /// Both roles of a task, assumed.
    pub fn roles(&self) -> Result<Roles, Unassumable> {
        Ok(Roles { execution: self.execution()?, acting: self.acting()? })
    }

    /// The role that the task's execution is done in. Where none is named, Amazon's agent acts as its host,
    /// which is of the task's account; ours, whose host serves every account, acts in the role that every
    /// account begins with.
    pub fn execution(&self) -> Result<Option<RoleCredentials>, Unassumable> {
        let defined = self.definition.execution_role_arn.as_deref();
        let overriding = self.task.overrides.execution_role_arn.as_deref();
        let named = overriding.filter(|arn| !arn.is_empty()).or(defined);
        if let Some(role) = named.filter(|arn| !arn.is_empty()) {
            let assumed = self.assume(role, "credentials id");
            return assumed.map(Some).map_err(|why| Unassumable { role: role.to_owned(), why });
        }
        if !self.agent_is_ours {
            return Ok(None);
        }
        let account = self.task.scope.account;
        let role = format!("arn:aws:iam::{account}:role/{TASK_EXECUTION_ROLE}");
        match self.assume(&role, "credentials id") {
            Ok(assumed) => Ok(Some(assumed)),
            Err(why) if self.needs_execution() => Err(Unassumable { role, why }),
            Err(_) => Ok(None),
        }
    }

    /// Whether something of the task's execution is not open to everybody.
    fn needs_execution(&self) -> bool {
        let mut containers = self.definition.container_definitions.iter().flatten();
        containers.any(|container| {
            let log = container.log_configuration.as_ref().and_then(|log| log.log_driver.as_ref());
            let is_logged = log.is_some_and(|driver| driver.as_str() == "awslogs");
            let image = container.image.as_deref().unwrap_or_default();
            let has_secrets = container.secrets.as_ref().is_some_and(|it| !it.is_empty())
                || container.repository_credentials.is_some();
            let is_of_s3 = |firelens: &api::FirelensConfiguration| {
                let options = firelens.options.as_ref();
                options.and_then(|all| all.get("config-file-type")).is_some_and(|kind| kind == "s3")
            };
            let has_objects = container.environment_files.as_ref().is_some_and(|it| !it.is_empty())
                || container.firelens_configuration.as_ref().is_some_and(is_of_s3);
            is_logged || has_secrets || has_objects || image::is_of_ecr(image, self.control)
        })
    }

    /// The role that the task's containers act in.
    pub fn acting(&self) -> Result<Acting, Unassumable> {
        let defined = self.definition.task_role_arn.as_deref();
        let role = self.task.overrides.task_role_arn.as_deref().or(defined);
        let Some(role) = role.filter(|arn| !arn.is_empty()) else { return Ok(Acting::Nobody) };
        let what_for = "containers' credentials id";
        match self.assume(role, what_for) {
            Ok(credentials) => Ok(Acting::As(credentials)),
            Err(CannotAssume::Absent) => Ok(Acting::Nameless(RoleCredentials {
                credentials_id: self.credentials_id(what_for),
                role_arn: role.to_owned(),
                access_key_id: String::new(),
                secret_access_key: Token::from_text(String::new()),
                session_token: Token::from_text(String::new()),
                expiration: String::new(),
            })),
            Err(why @ (CannotAssume::Foreign | CannotAssume::NotTrusted)) => {
                Err(Unassumable { role: role.to_owned(), why })
            }
        }
    }

    fn assume(&self, role: &str, what_for: &str) -> Result<RoleCredentials, CannotAssume> {
        let session_name = self.task.id.to_string();
        let asked = Assumption {
            role,
            service: TASKS,
            source: &self.task.arn().to_string(),
            source_account: self.task.scope.account,
            session_name: &session_name,
            lasts_ms: LASTS_MS,
        };
        let issued = self.control.assume(self.view, &asked, self.now)?;
        Ok(credentials(self.credentials_id(what_for), role, issued))
    }

    fn credentials_id(&self, what_for: &str) -> String {
        self.control.access.task_id(what_for, &self.task.arn()).to_string()
    }
}

/// A role's credentials, as agents read them.
pub(super) fn credentials(
    credentials_id: String,
    role: &str,
    issued: Credentials,
) -> RoleCredentials {
    RoleCredentials {
        credentials_id,
        role_arn: role.to_owned(),
        access_key_id: issued.access_key_id,
        secret_access_key: issued.secret,
        session_token: issued.session_token,
        expiration: to_the_second(issued.expires),
    }
}

/// As ECS writes it: some clients read no fractions.
fn to_the_second(at: Timestamp) -> String {
    let text = at.iso8601();
    text.split_once('.').map_or(text.clone(), |(whole, _)| format!("{whole}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_replaced_long_before_they_end_and_end_as_ecs_says_it() {
        let sent = Timestamp(1_795_000_000_123);
        assert!(!is_due(sent, sent.plus_ms(RENEW_MS - 1)));
        assert!(is_due(sent, sent.plus_ms(RENEW_MS)));
        const { assert!(RENEW_MS + 15 * 60_000 < LASTS_MS) };
        assert_eq!(to_the_second(sent), "2026-11-18T11:06:40Z");
    }
}
