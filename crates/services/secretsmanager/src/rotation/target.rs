//! Who rotates a secret: what `RotationLambdaARN` may name here, where there are no functions.

use aws_wire::ApiError;
use control::ports::TaskAsk;
use longshore_types::Arn;
use model::Secret;
use model::secret::{Rotation, RotationRun};

use crate::SecretsManager;
use crate::errors::invalid;

/// The tag of a secret that says in which cluster tasks rotate it.
const CLUSTER_TAG: &str = "longshore.rotation-cluster";

/// Who does the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A task definition.
    Task(String),
    /// A URL.
    Hook(http::Uri),
}

impl Target {
    pub(crate) fn parse(given: &str) -> Result<Self, ApiError> {
        if hooks::is_url(given) {
            return hooks::parse(given).map(Self::Hook).ok_or_else(|| {
                invalid(format!(
                    "{given} is not the URL of a hook, such as https://rotator.example.com/db."
                ))
            });
        }
        let arn = Arn::parse(given).ok();
        match arn.map(|arn| (arn.service, arn.resource)) {
            Some(("ecs", resource)) if resource.starts_with("task-definition/") => {
                Ok(Self::Task(given.to_owned()))
            }
            Some(("lambda", _)) => Err(invalid(format!(
                "There are no Lambda functions in this region, so {given} can't rotate a secret: RotationLambdaARN may \
                 name the ARN of a task definition, of which a task is run for each step, or the URL of an HTTP hook."
            ))),
            _ => Err(invalid(format!(
                "RotationLambdaARN must be the ARN of a task definition or the URL of an HTTP hook, and {given} is \
                 neither."
            ))),
        }
    }
}

impl SecretsManager {
    /// The task that does the step of a rotation that is next.
    pub(crate) fn task_of(
        &self,
        secret: &Secret,
        rotation: &Rotation,
        run: &RotationRun,
    ) -> TaskAsk {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let arn = self.control.secret_arn(secret);
        TaskAsk {
            definition: rotation.target.clone(),
            cluster: rotation.cluster.clone(),
            environment: vec![
                pair("ROTATION_STEP", run.step.as_str()),
                pair("ROTATION_SECRET_ID", &arn),
                pair("ROTATION_CLIENT_REQUEST_TOKEN", &run.version),
                pair("ROTATION_EVENT", &event(&arn, run)),
            ],
            started_by: "secretsmanager-rotation".to_owned(),
            token: format!("rotate-{}-{}", secret.uid, rotation.calls),
            network: None,
        }
    }
}

/// In which cluster tasks are to rotate a secret from the next RotateSecret on. Whoever may tag it need not be allowed
/// to run tasks, so that later tags are not looked at until somebody asks who is.
pub(crate) fn cluster(secret: &Secret) -> Option<String> {
    secret.tags.get(CLUSTER_TAG).filter(|name| !name.is_empty()).cloned()
}

/// What a function is given in AWS.
pub(crate) fn event(arn: &str, run: &RotationRun) -> String {
    serde_json::json!({
        "Step": run.step.as_str(),
        "SecretId": arn,
        "ClientRequestToken": run.version,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_task_definition_or_a_url_and_a_function_is_refused_by_name() {
        let definition = "arn:aws:ecs:us-east-1:000000000000:task-definition/rotate:1";
        assert_eq!(Target::parse(definition).unwrap(), Target::Task(definition.to_owned()));
        let hook = Target::parse("https://rotator.lan:8443/db?x=1").unwrap();
        assert!(matches!(hook, Target::Hook(url) if url.port_u16() == Some(8443)));
        let function = "arn:aws:lambda:us-east-1:000000000000:function:rotate";
        let why = Target::parse(function).unwrap_err();
        assert_eq!(why.code, "InvalidParameterException");
        assert!(why.message.contains("no Lambda functions") && why.message.contains(function));
        for given in [
            "",
            "rotate",
            "http://",
            "https://user:pw@host/",
            "ftp://host/",
            "arn:aws:ecs:x:1:task/2",
        ] {
            assert!(Target::parse(given).is_err(), "{given}");
        }
    }
}
