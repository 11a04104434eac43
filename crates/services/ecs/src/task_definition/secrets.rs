//! Secrets, environment files and registry credentials: their form, whoever resolves them.

use ecs_api::{ContainerDefinition, EnvironmentFile, EnvironmentFileType};
use longshore_types::Arn;

use super::{Check, Draft, bad, list, one_of, text};
use crate::errors::Refusal;

const ENVIRONMENT_FILES_MAX: usize = 10;

pub(super) fn check(draft: &Draft, container: &ContainerDefinition) -> Check {
    let secrets = list(&container.secrets);
    for (index, secret) in secrets.iter().enumerate() {
        let (name, source) = (text(&secret.name), text(&secret.value_from));
        if name.is_empty() || !is_source(source) {
            return Err(bad("secrets", container));
        }
        let is_variable = list(&container.environment).iter().any(|pair| text(&pair.name) == name);
        let is_twice = secrets[..index].iter().any(|other| text(&other.name) == name);
        if is_variable || is_twice {
            return Err(Refusal::client(format!(
                "The secret name must be unique and not shared with any new or existing \
                 environment variables set on the container, such as '{name}'."
            )));
        }
    }
    let log = container.log_configuration.as_ref();
    let options = log.map(|log| list(&log.secret_options)).unwrap_or_default();
    for option in options {
        if text(&option.name).is_empty() || !is_source(text(&option.value_from)) {
            return Err(bad("logConfiguration.secretOptions", container));
        }
    }
    let is_kept_elsewhere = !secrets.is_empty() || !options.is_empty();
    if is_kept_elsewhere && text(&draft.request.execution_role_arn).is_empty() {
        return Err(Refusal::client(
            "When you are specifying container secrets, you must also specify a value for \
             'executionRoleArn'.",
        ));
    }
    if let Some(credentials) = &container.repository_credentials
        && text(&credentials.credentials_parameter).is_empty()
    {
        return Err(bad("repositoryCredentials.credentialsParameter", container));
    }
    if container.repository_credentials.is_some()
        && text(&draft.request.execution_role_arn).is_empty()
    {
        return Err(Refusal::client(
            "Private repository authentication requires that the task definition specify a value for \
             executionRoleArn.",
        ));
    }
    check_environment_files(container)
}

/// The ARN of a secret or parameter, or a parameter's name.
fn is_source(text: &str) -> bool {
    if text.starts_with("arn:") {
        return Arn::parse(text).is_ok_and(|arn| matches!(arn.service, "secretsmanager" | "ssm"));
    }
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    !text.is_empty() && text.bytes().all(is_allowed)
}

fn check_environment_files(container: &ContainerDefinition) -> Check {
    check_files(list(&container.environment_files), || bad("environmentFiles", container))
}

/// That files are of a kind that ECS knows, and not too many; `bad` is what is said otherwise.
pub(crate) fn check_files(files: &[EnvironmentFile], bad: impl Fn() -> Refusal) -> Check {
    if ENVIRONMENT_FILES_MAX < files.len() {
        return Err(bad());
    }
    for file in files {
        match &file.r#type {
            Some(EnvironmentFileType::S3) => {}
            other => {
                let given = other.as_ref().map_or("", |kind| kind.as_str());
                return Err(one_of(given, EnvironmentFileType::VALUES));
            }
        }
        let is_object = Arn::parse(text(&file.value))
            .is_ok_and(|arn| arn.service == "s3" && arn.resource.ends_with(".env"));
        if !is_object {
            return Err(bad());
        }
    }
    Ok(())
}
