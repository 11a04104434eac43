//! Images that a host shall have before a task asks for them, and what they are fetched with.

use std::collections::BTreeSet;

use acs::message::{PrePull, PrePullImage};
use control::Control;
use control::access::TASK_EXECUTION_ROLE;
use control::iam::Assumption;
use ecs_api as api;
use longshore_types::{Scope, Uuid};
use model::View;

use super::role::{TASKS, Unassumable, credentials};
use super::{Registries, Roles, image, secret};
use crate::pre_pull::Wish;

/// How long hosts may take for it.
const LASTS_MS: u64 = 3_600_000;
const SESSION_NAME: &str = "pre-pull";

/// What a message about images ahead depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead<'a> {
    pub(crate) control: &'a Control,
    pub(crate) view: &'a View,
    pub(crate) definition: &'a api::TaskDefinition,
    pub(crate) scope: &'a Scope,
    pub(crate) wish: &'a Wish,
}

impl Ahead<'_> {
    /// The message, but for its header: the images as a task of the definition would fetch them, with its execution role.
    pub(crate) fn pre_pull(&self) -> Result<PrePull, Unassumable> {
        let execution = self.execution()?;
        let (registry, local_registry) = (self.control.registry_host(), self.control.local_host());
        let (endpoint, account) = (self.control.endpoint(), self.scope.account);
        let roles = Roles { execution, ..Roles::default() };
        let environment = Registries {
            registry: &registry,
            local_registry: &local_registry,
            view: self.view,
            endpoint: &endpoint,
            agent_is_ours: true,
        };
        let mut named = BTreeSet::new();
        let mut images = Vec::new();
        for container in self.definition.container_definitions.iter().flatten() {
            let name = container.image.as_deref().unwrap_or_default();
            if !named.insert(name) {
                continue;
            }
            let digest = container.name.as_ref().and_then(|container| {
                let mut digests = self.wish.digests.iter();
                digests.find(|(of, _)| of == container).map(|(_, digest)| digest.as_str())
            });
            let with_role = roles.execution.is_some();
            images.push(PrePullImage {
                image: image::exact(&image::reachable(name, &environment), digest),
                registry_authentication: secret::registry(self.scope, container)
                    .or_else(|| image::authentication(self.scope, name, &environment, with_role)),
            });
        }
        Ok(PrePull {
            header: acs::message::Header::default(),
            account: account.to_string(),
            execution_role_credentials: roles.execution,
            images,
        })
    }

    /// As for a task: the role that is named, or else the one that every account begins with, where there is one.
    fn execution(&self) -> Result<Option<acs::RoleCredentials>, Unassumable> {
        let account = self.scope.account;
        let own = format!("arn:aws:iam::{account}:role/{TASK_EXECUTION_ROLE}");
        let named = self.definition.execution_role_arn.as_deref().filter(|arn| !arn.is_empty());
        let role = named.unwrap_or(&own);
        let region = &self.scope.region;
        let definition = &self.wish.definition;
        let source = format!("arn:aws:ecs:{region}:{account}:task-definition/{definition}");
        let asked = Assumption {
            role,
            service: TASKS,
            source: &source,
            source_account: account,
            session_name: SESSION_NAME,
            lasts_ms: LASTS_MS,
        };
        let (policy, now) = (Some(self.pulls_alone()), self.control.clock.now());
        match self.control.assume_within(self.view, &asked, policy, now) {
            Ok(issued) => {
                let id = Uuid::mint(self.control.ids.as_ref()).to_string();
                Ok(Some(credentials(id, role, issued)))
            }
            Err(_) if named.is_none() && !self.needs_role() => Ok(None),
            Err(why) => Err(Unassumable { role: role.to_owned(), why }),
        }
    }

    /// Whether some image is not for everybody.
    fn needs_role(&self) -> bool {
        let mut containers = self.definition.container_definitions.iter().flatten();
        containers.any(|container| {
            let name = container.image.as_deref().unwrap_or_default();
            container.repository_credentials.is_some() || image::is_of_ecr(name, self.control)
        })
    }

    /// What the credentials are good for, whatever else the role may do: hosts have them that may never have a task of it.
    fn pulls_alone(&self) -> String {
        let pulls = serde_json::json!({ "Effect": "Allow", "Resource": "*", "Action": [
            "ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer",
            "ecr:BatchGetImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository",
        ]});
        let containers = self.definition.container_definitions.iter().flatten();
        let logins: BTreeSet<String> = containers
            .filter_map(|it| it.repository_credentials.as_ref()?.credentials_parameter.as_deref())
            .flat_map(|named| secret_arns(self.scope, named))
            .collect();
        let mut statements = vec![pulls];
        if !logins.is_empty() {
            let reads = serde_json::json!({ "Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
                "Resource": logins });
            let opens =
                serde_json::json!({ "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*" });
            statements.extend([reads, opens]);
        }
        serde_json::json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
    }
}
/// The ARNs that a secret may have that a definition names by name, by ARN, or by ARN without the six characters at its end.
fn secret_arns(scope: &Scope, named: &str) -> [String; 2] {
    let arn = match named.starts_with("arn:") {
        true => named.to_owned(),
        false => {
            format!("arn:aws:secretsmanager:{}:{}:secret:{named}", scope.region, scope.account)
        }
    };
    let with_suffix = format!("{arn}-??????");
    [arn, with_suffix]
}
