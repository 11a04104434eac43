//! RotateSecret.

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::Timestamp;
use model::secret::{CURRENT, PENDING, Rotation, RotationRules};
use model::{Key, Secret, View};
use secretsmanager_api as api;
use store::Batch;

use super::plan::{begin, cancel};
use super::rules;
use super::target::{Target, cluster};
use crate::errors::{deleted, exists, invalid, not_found, request, unsupported};
use crate::values::make_room;
use crate::{SecretsManager, read};

const UNFINISHED: &str = "A previous rotation isn't complete. That rotation will be reattempted.";

/// What is asked for.
struct Asked {
    given: String,
    /// The version that is to come.
    token: String,
    target: Option<String>,
    rules: Option<RotationRules>,
    is_immediate: bool,
}

/// What a decision came to. A refusal may come with rows to write.
type Answer = Result<(String, String), ApiError>;

pub(crate) async fn rotate_secret(
    it: &SecretsManager,
    caller: &Caller,
    input: api::RotateSecretRequest,
) -> Result<api::RotateSecretResponse, ApiError> {
    if input.external_secret_rotation_metadata.is_some_and(|given| !given.is_empty())
        || input.external_secret_rotation_role_arn.is_some()
    {
        return Err(unsupported("Rotation of a secret that is kept elsewhere"));
    }
    let asked = Asked {
        given: input.secret_id.unwrap_or_default(),
        token: read::version_id(input.client_request_token, it.control.ids.as_ref()),
        target: input.rotation_lambda_arn.filter(|target| !target.is_empty()),
        rules: input.rotation_rules.as_ref().map(rules::read).transpose()?,
        is_immediate: input.rotate_immediately.unwrap_or(true),
    };
    let decided = it.control.decide(|view, now| decide(it, caller, view, now, &asked));
    let (arn, name) = decided.await??;
    Ok(api::RotateSecretResponse {
        arn: Some(arn),
        name: Some(name),
        version_id: asked.is_immediate.then_some(asked.token),
    })
}

fn permission(it: &SecretsManager, caller: &Caller, view: &View, asked: &Asked) -> Permission {
    let action = "secretsmanager:RotateSecret";
    let mut permission = it
        .control
        .secret_permission(view, caller, action, &asked.given)
        .with("secretsmanager:RotateImmediately", asked.is_immediate)
        .with("secretsmanager:ModifyRotationRules", asked.rules.is_some());
    if let Some(target) = &asked.target {
        permission = permission.with("secretsmanager:RotationLambdaARN", target.clone());
    }
    permission
}

fn decide(
    it: &SecretsManager,
    caller: &Caller,
    view: &View,
    now: Timestamp,
    asked: &Asked,
) -> Result<(Batch, Answer), ApiError> {
    it.control.authorize(view, caller, &permission(it, caller, view, asked))?;
    let row = it.control.secret(view, caller.account, &asked.given).ok_or_else(not_found)?;
    if row.deletion.is_some() {
        return Err(deleted());
    }
    let mut next = Secret::clone(row);
    let mut batch = Batch::on(view);
    let answer = rotate(it, caller, view, now, &mut batch, &mut next, asked);
    let is_ours =
        answer.as_ref().is_ok() || answer.as_ref().is_err_and(|why| why.message == UNFINISHED);
    if is_ours && next != **row {
        batch.rely(Key::Secret(next.account, next.name.clone())).put(next);
    }
    Ok((batch, answer))
}

fn rotate(
    it: &SecretsManager,
    caller: &Caller,
    view: &View,
    now: Timestamp,
    batch: &mut Batch,
    secret: &mut Secret,
    asked: &Asked,
) -> Answer {
    let answer = (it.control.secret_arn(secret), secret.name.to_string());
    let before = secret.rotation.as_deref();
    let stored = before.map(|rotation| rotation.target.clone());
    let target = asked.target.clone().or(stored).ok_or_else(|| {
        request("No Lambda rotation function ARN is associated with this secret.")
    })?;
    check_target(it, caller, view, secret, &target)?;
    if let Some(run) = before.and_then(|rotation| rotation.run.as_ref()).filter(|run| !run.is_test)
    {
        if run.version == asked.token {
            return Ok(answer);
        }
        // What waits after a failure is tried at once.
        if let Some(run) = secret.rotation.as_deref_mut().and_then(|rotation| rotation.run.as_mut())
        {
            run.not_before = run.not_before.min(now);
        }
        return Err(request(UNFINISHED));
    }
    cancel(secret);
    if let Some(version) = secret.staged(PENDING).filter(|it| Some(*it) != secret.staged(CURRENT)) {
        return Err(request(format!(
            "A previous rotation isn't complete: the version {version} has the staging label AWSPENDING, and no rotation \
             is under way. Remove the label with UpdateSecretVersionStage to rotate the secret again."
        )));
    }
    if let Some(info) = secret.versions.get(&asked.token) {
        if info.stages.contains(CURRENT) && before_has_rotated(secret) {
            return Ok(answer);
        }
        return Err(exists(format!(
            "You can't use ClientRequestToken {} because that value is already in use for a version of secret {}.",
            asked.token, answer.0
        )));
    }
    configure(secret, target, asked, now);
    begin(secret, asked.token.clone(), !asked.is_immediate, now);
    make_room(secret, now, batch)?;
    secret.changed_at = now;
    Ok(answer)
}

fn before_has_rotated(secret: &Secret) -> bool {
    secret.rotation.as_deref().is_some_and(|rotation| rotation.rotated_at.is_some())
}

/// That the target can be asked, and that the caller may have it asked.
fn check_target(
    it: &SecretsManager,
    caller: &Caller,
    view: &View,
    secret: &Secret,
    target: &str,
) -> Result<(), ApiError> {
    match Target::parse(target)? {
        Target::Hook(url) => it
            .hooks
            .check(&url)
            .map_err(|why| invalid(format!("The secret can't be rotated: {why}."))),
        Target::Task(definition) => {
            // Tasks run in the secret's account, and whoever asks must be of it.
            if caller.account != secret.account {
                return Err(invalid(
                    "A task that rotates a secret is run by the secret's own account.",
                ));
            }
            let ask = control::ports::TaskAsk {
                definition,
                cluster: cluster(secret),
                ..control::ports::TaskAsk::default()
            };
            it.control.authorize(view, caller, &it.tasks.permission(view, caller, &ask))?;
            it.tasks.check(view, caller, &ask).map_err(|why| match why.is_fault() {
                true => why,
                false => invalid(format!("{target} can't rotate the secret: {}", why.message)),
            })
        }
    }
}

fn configure(secret: &mut Secret, target: String, asked: &Asked, now: Timestamp) {
    let before = secret.rotation.take().map(|rotation| *rotation);
    let mut rotation = before.unwrap_or_else(|| Rotation {
        is_enabled: true,
        target: String::new(),
        cluster: None,
        rules: RotationRules::default(),
        counted_from: now,
        rotated_at: None,
        run: None,
        leftover: None,
        calls: 0,
    });
    if let Some(rules) = &asked.rules {
        rotation.rules = rules.clone();
        rotation.counted_from = now;
    }
    rotation.is_enabled = true;
    rotation.target = target;
    rotation.cluster = cluster(secret);
    secret.rotation = Some(Box::new(rotation));
}
