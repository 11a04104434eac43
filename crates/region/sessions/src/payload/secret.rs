//! What a container's definition refers to and its agent reads: names and ARNs, no values.

use acs::task::{AsmAuthData, RegistryAuthentication, Secret};
use ecs_api as api;
use longshore_types::{Arn, Scope};
use model::task::Task;

/// The variables and the log driver's options that are kept elsewhere.
pub(super) fn of_container(task: &Task, container: &api::ContainerDefinition) -> Vec<Secret> {
    let log = container.log_configuration.as_ref();
    let options = log.and_then(|log| log.secret_options.as_deref()).unwrap_or_default();
    let variables = container.secrets.as_deref().unwrap_or_default();
    let of = |secret: &api::Secret, target| payload(task, secret, target);
    let variables = variables.iter().map(|secret| of(secret, "CONTAINER"));
    variables.chain(options.iter().map(|secret| of(secret, "LOG_DRIVER"))).collect()
}

fn payload(task: &Task, secret: &api::Secret, target: &'static str) -> Secret {
    let value_from = secret.value_from.clone().unwrap_or_default();
    let arn = Arn::parse(&value_from).ok();
    let provider = match arn.as_ref().map(|arn| arn.service) {
        Some("secretsmanager") => "asm",
        Some(_) | None => "ssm",
    };
    let region = arn.as_ref().map(|arn| arn.region).filter(|region| !region.is_empty());
    let region = region.map_or_else(|| task.scope.region.to_string(), ToString::to_string);
    Secret {
        name: secret.name.clone().unwrap_or_default(),
        provider: Some(provider.to_owned()),
        region: Some(region),
        value_from,
        kind: Some("ENVIRONMENT_VARIABLE".to_owned()),
        target: Some(target.to_owned()),
    }
}

/// The login for an image's registry that is kept in Secrets Manager.
pub(super) fn registry(
    scope: &Scope,
    container: &api::ContainerDefinition,
) -> Option<RegistryAuthentication> {
    let parameter = container.repository_credentials.as_ref()?.credentials_parameter.clone()?;
    let region = Arn::parse(&parameter).ok().map(|arn| arn.region.to_string());
    let region = region.filter(|region| !region.is_empty());
    Some(RegistryAuthentication {
        kind: Some("asm".to_owned()),
        ecr_auth_data: None,
        asm_auth_data: Some(AsmAuthData {
            region: region.unwrap_or_else(|| scope.region.to_string()),
            credentials_parameter: parameter,
        }),
    })
}
