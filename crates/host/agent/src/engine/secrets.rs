//! The values that a task's definition only refers to: read with the task's execution role before its
//! containers are made.
//!
//! **Invariant:** a value is in this process's memory and in the environment of the container that it is for,
//! and nowhere else: not in a state file, an event or a log line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acs::RoleCredentials;
use futures_util::future::{BoxFuture, join_all};
use image::{Auth, Basic};
use longshore_types::{TaskArn, Token};

use super::context::{Context, Held};
use super::failure::Failure;
use crate::client::{Backoff, CallError};
use crate::limits::{PARAMETERS_MAX, SECRET_TRIES_MAX, SECRETS_AT_A_TIME};
use crate::spec::{SecretProvider, SecretSpec, TaskSpec};

/// A value of Secrets Manager: what is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretId {
    /// An ARN or a name.
    pub secret: String,
    pub stage: Option<String>,
    pub version: Option<String>,
}

/// What Parameter Store answers.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    pub values: BTreeMap<String, Token>,
    /// The names of those that are not there.
    pub invalid: Vec<String>,
}

/// Why a value could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("failed to fetch secret {secret} from secrets manager: {why}")]
    Secret { secret: String, why: CallError },
    #[error("retrieved secret from Secrets Manager did not contain json key {key}")]
    NoKey { key: String },
    #[error(
        "trying to retrieve secret with value {source_text} resulted in error: an invalid ARN format for \
         the AWS Secrets Manager secret was specified. Specify a valid ARN and try again."
    )]
    NotAnArn { source_text: String },
    #[error("{0}")]
    Parameters(CallError),
    #[error("invalid ssm parameters: {}", .0.join(","))]
    InvalidParameters(Vec<String>),
    #[error("asm fetching secret from the service for {secret}: {why}")]
    Login { secret: String, why: CallError },
    #[error("there is no execution role to read the registry's login with")]
    NoRole,
    #[error("asm fetching authorization data: unable to unmarshal secret value, invalid schema")]
    NotALogin,
    #[error("asm fetching username: AuthorizationData is malformed, empty field")]
    NoUser,
}

impl SecretError {
    /// What was being read, as ECS calls it.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Secret { .. } | Self::NoKey { .. } | Self::NotAnArn { .. } => {
                "unable to retrieve secret from asm"
            }
            Self::Parameters(_) | Self::InvalidParameters(_) => {
                "unable to retrieve secrets from ssm"
            }
            Self::Login { .. } | Self::NotALogin | Self::NoUser | Self::NoRole => {
                "unable to get registry auth from asm"
            }
        }
    }
}

/// The values of a task's references.
#[derive(Clone, Default)]
pub(crate) struct Values(BTreeMap<String, Token>);

impl Values {
    pub(crate) fn get(&self, secret: &SecretSpec) -> Option<&Token> {
        self.0.get(&secret.source)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Held by whoever reads them: others who want them wait.
type Place = Arc<tokio::sync::Mutex<Option<Arc<Values>>>>;

/// The values of live tasks.
#[derive(Debug, Default)]
pub(crate) struct SecretsBook(Mutex<BTreeMap<TaskArn, Place>>);

impl SecretsBook {
    fn place(&self, task: &TaskArn) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(task.clone()).or_default())
    }

    pub(crate) fn forget(&self, task: &TaskArn) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }
}

/// All values of a task, read if they are not here: an agent that came back knows none.
pub(crate) async fn read(context: &Context, spec: &TaskSpec) -> Result<Arc<Values>, Failure> {
    let references: BTreeSet<&SecretSpec> =
        spec.containers.iter().flat_map(|container| &container.secrets).collect();
    if references.is_empty() {
        return Ok(Arc::default());
    }
    let place = context.secrets.place(&spec.arn);
    let mut known = place.lock().await;
    if let Some(values) = &*known {
        return Ok(Arc::clone(values));
    }
    let held = context.credentials.hold(&spec.arn);
    let reader = Reader { context, role: &Executing::Task(&held) };
    let values = reader.read(&references).await;
    let values = values.map_err(|why| Failure::Secret {
        is_fargate: spec.is_fargate,
        region: context.region_name.to_string(),
        why: Arc::new(why),
    })?;
    let values = Arc::new(values);
    *known = Some(Arc::clone(&values));
    Ok(values)
}

/// A login for an image's registry that is kept in Secrets Manager.
pub(crate) async fn read_login(
    context: &Context,
    role: &Executing<'_>,
    secret: &str,
    host: &str,
) -> Result<Auth, SecretError> {
    #[derive(serde::Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Login {
        username: String,
        password: String,
    }
    let id = SecretId { secret: secret.to_owned(), stage: None, version: None };
    let reader = Reader { context, role };
    let value = reader.secret(&id).await;
    let value = value.map_err(|why| SecretError::Login { secret: secret.to_owned(), why })?;
    let login: Login = serde_json::from_str(value.reveal()).map_err(|_| SecretError::NotALogin)?;
    if login.username.is_empty() || login.password.is_empty() {
        return Err(SecretError::NoUser);
    }
    Ok(Auth::none().with(host, Basic::new(login.username, login.password)))
}

/// Whose execution role something is read with.
#[derive(Debug)]
pub(crate) enum Executing<'a> {
    /// A task's, as it is now, once it is there.
    Task(&'a Held),
    /// That of tasks that are still to come.
    Ahead(RoleCredentials),
}

impl Executing<'_> {
    async fn role(&self) -> RoleCredentials {
        match self {
            Self::Task(held) => held.execution().await,
            Self::Ahead(role) => role.clone(),
        }
    }
}

struct Reader<'a> {
    context: &'a Context,
    role: &'a Executing<'a>,
}

impl Reader<'_> {
    async fn read(&self, references: &BTreeSet<&SecretSpec>) -> Result<Values, SecretError> {
        let (secrets, parameters): (Vec<&SecretSpec>, Vec<&SecretSpec>) = references
            .iter()
            .partition(|reference| reference.provider == SecretProvider::SecretsManager);
        let (secrets, parameters) =
            tokio::try_join!(self.secrets(secrets), self.parameters(parameters))?;
        Ok(Values(secrets.into_iter().chain(parameters).collect()))
    }

    /// Each secret is asked for once, however many of its keys are wanted.
    async fn secrets(&self, wanted: Vec<&SecretSpec>) -> Result<Vec<(String, Token)>, SecretError> {
        let mut by_id: BTreeMap<SecretId, Vec<(&str, Option<String>)>> = BTreeMap::new();
        for each in wanted {
            let (id, key) = parse_secret(&each.source)?;
            by_id.entry(id).or_default().push((&each.source, key));
        }
        let ids: Vec<SecretId> = by_id.keys().cloned().collect();
        let mut found = Vec::new();
        for some in ids.chunks(SECRETS_AT_A_TIME) {
            let fetches: Vec<BoxFuture<'_, Result<Token, CallError>>> =
                some.iter().map(|id| Box::pin(self.secret(id)) as _).collect();
            for (id, value) in some.iter().zip(join_all(fetches).await) {
                let secret = || id.secret.clone();
                let value = value.map_err(|why| SecretError::Secret { secret: secret(), why })?;
                for (source, key) in by_id.remove(id).unwrap_or_default() {
                    let value = match key {
                        None => value.clone(),
                        Some(key) => member(&value, key)?,
                    };
                    found.push((source.to_owned(), value));
                }
            }
        }
        Ok(found)
    }

    async fn parameters(
        &self,
        wanted: Vec<&SecretSpec>,
    ) -> Result<Vec<(String, Token)>, SecretError> {
        let names: BTreeSet<&str> = wanted.iter().map(|it| parameter_name(&it.source)).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let (mut values, mut invalid) = (BTreeMap::new(), Vec::new());
        let batches: Vec<&[&str]> = names.chunks(PARAMETERS_MAX).collect();
        for some in batches.chunks(SECRETS_AT_A_TIME) {
            let fetches: Vec<BoxFuture<'_, Result<Parameters, CallError>>> =
                some.iter().map(|batch| Box::pin(self.batch(batch)) as _).collect();
            for answer in join_all(fetches).await {
                let answer = answer.map_err(SecretError::Parameters)?;
                values.extend(by_names_asked(answer.values));
                invalid.extend(answer.invalid);
            }
        }
        let lacks = |name: &&str| !values.contains_key(*name);
        invalid.extend(names.iter().copied().filter(lacks).map(str::to_owned));
        invalid.sort_unstable();
        invalid.dedup();
        if !invalid.is_empty() {
            return Err(SecretError::InvalidParameters(invalid));
        }
        let value = |it: &&SecretSpec| {
            let value = values.get(parameter_name(&it.source))?;
            Some((it.source.clone(), value.clone()))
        };
        Ok(wanted.iter().filter_map(value).collect())
    }

    async fn batch(&self, names: &[&str]) -> Result<Parameters, CallError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.patiently(|role| self.context.region.parameters(names.clone(), role)).await
    }

    async fn secret(&self, id: &SecretId) -> Result<Token, CallError> {
        self.patiently(|role| self.context.region.secret(id.clone(), role)).await
    }

    /// Asks once more after a refusal, and for as long as it takes where the region is out of reach: that is no
    /// fault of the task's.
    async fn patiently<'a, T>(
        &'a self,
        ask: impl Fn(RoleCredentials) -> BoxFuture<'a, Result<T, CallError>> + Send + Sync,
    ) -> Result<T, CallError>
    where
        T: Send,
    {
        let (mut backoff, mut refusals) = (Backoff::call(), 0);
        loop {
            let error = match ask(self.role.role().await).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !error.is_away() {
                refusals += 1;
                if refusals == SECRET_TRIES_MAX {
                    return Err(error);
                }
            }
            let pause = backoff.next_ms(&*self.context.ids);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

/// An ARN, after which three more fields may say which part, stage and version; or a secret's name.
fn parse_secret(source: &str) -> Result<(SecretId, Option<String>), SecretError> {
    let plain = |secret: &str| SecretId { secret: secret.to_owned(), stage: None, version: None };
    if !source.starts_with("arn:") {
        return Ok((plain(source), None));
    }
    let fields: Vec<&str> = source.split(':').collect();
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    match fields.as_slice() {
        [_, _, _, _, _, _, _] => Ok((plain(source), None)),
        [arn @ .., key, stage, version] if arn.len() == 7 => Ok((
            SecretId { secret: arn.join(":"), stage: given(stage), version: given(version) },
            given(key),
        )),
        _ => Err(SecretError::NotAnArn { source_text: source.to_owned() }),
    }
}

/// The name that a parameter is asked for by. A slash at its beginning is part of the name of what is in a
/// hierarchy, and of nothing else; ARNs always have one there.
fn parameter_name(source: &str) -> &str {
    let path = match source.split_once(":parameter") {
        Some((_, path)) if source.starts_with("arn:") => path,
        Some(_) | None => source,
    };
    if path.matches('/').count() == 1 { path.trim_start_matches('/') } else { path }
}

/// Values by the names that they were asked for by: a parameter that was put as `/name` is called so in answers.
fn by_names_asked(answered: BTreeMap<String, Token>) -> impl Iterator<Item = (String, Token)> {
    answered.into_iter().map(|(name, value)| (parameter_name(&name).to_owned(), value))
}

/// A member of a secret that is an object.
fn member(value: &Token, key: String) -> Result<Token, SecretError> {
    let object: serde_json::Value = serde_json::from_str(value.reveal()).unwrap_or_default();
    let text = match object.get(&key) {
        None => return Err(SecretError::NoKey { key }),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    Ok(Token::from_text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:db-AbCdEf";

    #[test]
    fn a_reference_says_secret_key_stage_and_version() {
        let id = |stage: Option<&str>, version: Option<&str>| SecretId {
            secret: ARN.to_owned(),
            stage: stage.map(str::to_owned),
            version: version.map(str::to_owned),
        };
        for (rest, expected) in [
            ("", (id(None, None), None)),
            (":user::", (id(None, None), Some("user".to_owned()))),
            ("::AWSPREVIOUS:", (id(Some("AWSPREVIOUS"), None), None)),
            (":user::7", (id(None, Some("7")), Some("user".to_owned()))),
        ] {
            assert_eq!(parse_secret(&format!("{ARN}{rest}")).unwrap(), expected, "{rest}");
        }
        assert_eq!(parse_secret("db").unwrap().0.secret, "db");
        for rest in [":", ":user", ":user:", ":a:b:c:d"] {
            assert!(parse_secret(&format!("{ARN}{rest}")).is_err(), "{rest}");
        }
    }

    #[test]
    fn a_parameter_is_asked_for_by_its_name() {
        let arn = "arn:aws:ssm:us-east-1:000000000000:parameter";
        for (source, name) in [
            ("plain".to_owned(), "plain"),
            ("/plain".to_owned(), "plain"),
            ("plain:3".to_owned(), "plain:3"),
            ("/a/b".to_owned(), "/a/b"),
            (format!("{arn}/plain"), "plain"),
            (format!("{arn}/a/b"), "/a/b"),
        ] {
            assert_eq!(parameter_name(&source), name);
        }
    }

    #[test]
    fn a_value_is_found_however_its_parameter_is_called_in_the_answer() {
        let names = ["plain", "/slashed", "/slashed:3", "/a/b"];
        let answered = names.map(|name| (name.to_owned(), Token::from_text(name.to_owned())));
        let found: BTreeMap<String, Token> = by_names_asked(answered.into()).collect();
        for source in ["/plain", "slashed", "/slashed", "/slashed:3", "/a/b"] {
            assert!(found.contains_key(parameter_name(source)), "{source}");
        }
    }

    #[test]
    fn members_of_objects_are_texts_or_json() {
        let value = Token::from_text(r#"{"user":"ann","port":5432,"more":{"a":[1]}}"#.to_owned());
        for (key, text) in [("user", "ann"), ("port", "5432"), ("more", r#"{"a":[1]}"#)] {
            assert_eq!(member(&value, key.to_owned()).unwrap().reveal(), text);
        }
        assert_eq!(
            member(&value, "none".to_owned()).unwrap_err().to_string(),
            "retrieved secret from Secrets Manager did not contain json key none"
        );
        assert!(member(&Token::from_text("plain".to_owned()), "a".to_owned()).is_err());
    }
}
