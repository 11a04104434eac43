//! What a container takes from S3 when it is made: environment files, and a router's configuration. The region reads
//! them for the task's execution role.
//!
//! **Invariant:** variables are in this process's memory and in the environment of the container that they are for,
//! and nowhere else: not in a state file, an event or a log line.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use longshore_types::{TaskArn, Token};

use super::context::Context;
use super::execute::ActionContext;
use super::failure::Failure;
use crate::client::{Backoff, CallError};
use crate::limits::{FILES_VARIABLES_BYTES_MAX, OBJECT_TRIES_MAX, VARIABLE_BYTES_MAX};
use crate::spec::{ConfigFile, ObjectName};

/// Why what a container takes from S3 could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error("{why}")]
    Call { object: ObjectName, why: CallError },
    #[error("{object}: {what}")]
    Unreadable { object: ObjectName, what: String },
}

/// What one container takes from S3.
#[derive(Clone, Default)]
pub(crate) struct Objects {
    /// The variables of its files, in the order in which they are set.
    variables: Vec<(String, Token)>,
    /// What a router's configuration takes in.
    pub(crate) router: Option<String>,
}

impl Objects {
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.reveal()))
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.iter().map(|(name, _)| name)).finish()
    }
}

/// What containers of live tasks last had, for those that are started again while the region is away.
#[derive(Debug, Default)]
pub(crate) struct ObjectsBook(Mutex<BTreeMap<TaskArn, BTreeMap<usize, Arc<Objects>>>>);

impl ObjectsBook {
    fn last(&self, task: &TaskArn, container: usize) -> Option<Arc<Objects>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(task)?.get(&container).cloned()
    }

    fn keep(&self, task: &TaskArn, container: usize, objects: &Arc<Objects>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(task.clone()).or_default().insert(container, Arc::clone(objects));
    }

    pub(crate) fn forget(&self, task: &TaskArn) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }
}

/// Reads what a container takes from S3.
pub(super) async fn read(ctx: &ActionContext, index: usize) -> Result<Arc<Objects>, Failure> {
    let container = &ctx.spec.containers[index];
    let router = container.firelens.as_ref().and_then(|it| match &it.config_file {
        Some(ConfigFile::Object(object)) => Some(object),
        Some(ConfigFile::OfImage(_)) | None => None,
    });
    if container.environment_files.is_empty() && router.is_none() {
        return Ok(Arc::default());
    }
    let (context, task) = (&*ctx.context, &ctx.spec.arn);
    let reader = Reader { context, task, last: context.objects.last(task, index) };
    let failed = |is_config: bool| {
        let is_fargate = ctx.spec.is_fargate;
        move |why| Failure::Object { is_fargate, is_config, why: Arc::new(why) }
    };
    let files = try_join_all(container.environment_files.iter().map(|file| reader.get(file)));
    let files = match files.await.map_err(failed(false))?.into_iter().collect::<Option<Vec<_>>>() {
        Some(files) => files,
        None => return Ok(reader.last.unwrap_or_default()),
    };
    let mut objects = Objects::default();
    // The first file that sets a variable is the one that counts, and so the last to be set.
    for (object, file) in container.environment_files.iter().zip(&files).rev() {
        let unreadable = |what| ObjectError::Unreadable { object: object.clone(), what };
        let read = variables(file).map_err(unreadable).map_err(failed(false))?;
        objects.variables.extend(read);
        fits(&objects.variables).map_err(unreadable).map_err(failed(false))?;
    }
    if let Some(object) = router {
        let Some(text) = reader.get(object).await.map_err(failed(true))? else {
            return Ok(reader.last.unwrap_or_default());
        };
        let text = String::from_utf8(text.to_vec()).map_err(|_| {
            let what = "it is not UTF-8".to_owned();
            failed(true)(ObjectError::Unreadable { object: object.clone(), what })
        })?;
        objects.router = Some(text);
    }
    let objects = Arc::new(objects);
    context.objects.keep(task, index, &objects);
    Ok(objects)
}

struct Reader<'a> {
    context: &'a Context,
    task: &'a TaskArn,
    last: Option<Arc<Objects>>,
}

impl Reader<'_> {
    /// An object as it is now; `None` while the region is out of reach and the container had what it needs before.
    /// Where it had not, an answer is waited for: it is no fault of the task's. One that says no is an answer.
    async fn get(&self, object: &ObjectName) -> Result<Option<Bytes>, ObjectError> {
        let held = self.context.credentials.hold(self.task);
        let (mut backoff, mut refusals) = (Backoff::call(), 0);
        loop {
            let role = held.execution().await;
            let why = match self.context.region.object(object.clone(), role).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(why) => why,
            };
            if why.is_away() && why.code() != STORE_AWAY && self.last.is_some() {
                return Ok(None);
            }
            if !why.is_silent() {
                refusals += 1;
                if refusals == OBJECT_TRIES_MAX || !why.is_transient() {
                    return Err(ObjectError::Call { object: object.clone(), why });
                }
            }
            let pause = backoff.next_ms(&*self.context.ids);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

const NAME_SAID_MAX: usize = 64;
/// The region is there, and its store is not.
const STORE_AWAY: &str = "ServiceUnavailable";

/// The variables of a file: `NAME=VALUE` a line, without quotes or escapes; empty lines and those that begin with `#` say
/// nothing, nor do those without a name before the sign.
fn variables(file: &[u8]) -> Result<Vec<(String, Token)>, String> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut found: BTreeMap<String, Token> = BTreeMap::new();
    for (index, line) in file.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let text = std::str::from_utf8(line).map_err(|_| format!("line {number} is not UTF-8"))?;
        if text.contains('\0') {
            return Err(format!("line {number} has a zero byte"));
        }
        let text = text.strip_suffix('\r').unwrap_or(text).trim_start();
        if text.starts_with('#') {
            continue;
        }
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                found.insert(name.to_owned(), Token::from_text(value.to_owned()));
            }
            Some(_) | None => {}
        }
    }
    Ok(found.into_iter().collect())
}

/// Whether a program can be started with them; the kernel's own words name no file.
fn fits(variables: &[(String, Token)]) -> Result<(), String> {
    let bytes = |(name, value): &(String, Token)| name.len() + value.reveal().len() + 2;
    if let Some(it) = variables.iter().find(|it| VARIABLE_BYTES_MAX < bytes(it)) {
        return Err(format!("variable {} is longer than {VARIABLE_BYTES_MAX} bytes", said(&it.0)));
    }
    // Of those with one name the last one counts.
    let set: BTreeMap<&str, usize> =
        variables.iter().map(|it| (it.0.as_str(), bytes(it) + size_of::<usize>())).collect();
    let all: usize = set.values().sum();
    if FILES_VARIABLES_BYTES_MAX < all {
        return Err(format!("all variables take more than {FILES_VARIABLES_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// So much of a name as a reason has room for.
fn said(name: &str) -> String {
    name.chars().take(NAME_SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_line_by_line_and_nothing_in_it_is_interpreted() {
        let file = "\u{feff}# a comment\nA=1\r\n\n  B = two words \nC=\"quoted\"\nD=a=b=c\nE=\n#F=no\n=none\nno sign\nA=2\n\
                    G=$A `x` \\n";
        let read = variables(file.as_bytes()).unwrap();
        let read: Vec<(&str, &str)> = read.iter().map(|(n, v)| (n.as_str(), v.reveal())).collect();
        assert_eq!(
            read,
            [
                ("A", "2"),
                ("B ", " two words "),
                ("C", "\"quoted\""),
                ("D", "a=b=c"),
                ("E", ""),
                ("G", "$A `x` \\n"),
            ]
        );
        assert_eq!(variables(b"").unwrap().len(), 0);
        assert_eq!(variables(b"A=1\nB=\xff\n").unwrap_err(), "line 2 is not UTF-8");
        assert_eq!(variables(b"A=\0").unwrap_err(), "line 1 has a zero byte");
    }

    #[test]
    fn what_no_program_can_be_started_with_is_said() {
        let of = |name: &str, bytes: usize| {
            (name.to_owned(), Token::from_text("x".repeat(bytes - name.len() - 2)))
        };
        let many = |count: usize| -> Vec<_> {
            (0..count).map(|at| of(&format!("V{at:02}"), VARIABLE_BYTES_MAX)).collect()
        };
        fits(&many(13)).unwrap();
        assert_eq!(fits(&many(14)).unwrap_err(), "all variables take more than 1835008 bytes");
        let long = [of("A", VARIABLE_BYTES_MAX + 1)];
        assert_eq!(fits(&long).unwrap_err(), "variable A is longer than 131072 bytes");
        // As the kernel has it, with little beside them.
        for (variables, is_taken) in [(many(13), true), (many(16), false), (long.to_vec(), false)] {
            let mut program = std::process::Command::new("/bin/true");
            program.env_clear().envs(variables.iter().map(|(n, v)| (n, v.reveal())));
            assert_eq!(program.status().is_ok(), is_taken);
        }
    }
}
