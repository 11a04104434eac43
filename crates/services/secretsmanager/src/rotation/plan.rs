//! What is next of a rotation: decisions on a secret's row and what is seen of its task.

use control::tasks::outcome;
use longshore_types::{TaskId, Timestamp};
use model::Secret;
use model::secret::{CURRENT, PENDING, Rotation, RotationRun, RotationStep, VersionInfo};
use model::task::{Phase, Task};

use super::rules;
use crate::limits::ATTEMPT_PAUSES_MS;
use crate::versions::{move_stage, take_stage};

/// Longer ones are cut: a row is no log.
const FAILURE_CHARS_MAX: usize = 500;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, until the row changes.
    Nothing,
    WaitUntil(Timestamp),
    /// Have a task stopped whose rotation is over.
    Stop(TaskId),
    /// Begin a rotation: its window is open.
    Begin,
    /// Somebody took the version or its label away.
    Drop,
    /// Have the step done.
    Call,
    /// The step is over.
    Over(Result<(), String>),
    /// The step's task has taken too long.
    Late(TaskId),
}

/// What is next of a secret; `task` is the row of the task that does the step.
pub(crate) fn next(secret: &Secret, task: Option<&Task>, now: Timestamp) -> Next {
    let Some(rotation) = secret.rotation.as_deref() else { return Next::Nothing };
    if let Some(task) = rotation.leftover {
        return Next::Stop(task);
    }
    if secret.deletion.is_some() || !rotation.is_enabled {
        return match rotation.run {
            Some(_) => Next::Drop,
            None => Next::Nothing,
        };
    }
    let Some(run) = &rotation.run else {
        return match rules::next_window(secret) {
            Some(window) if window.opens <= now => Next::Begin,
            Some(window) => Next::WaitUntil(window.opens),
            None => Next::Nothing,
        };
    };
    let info = secret.versions.get(&run.version);
    if !info.is_some_and(|info| [PENDING, CURRENT].iter().any(|stage| info.stages.contains(*stage)))
    {
        return Next::Drop;
    }
    if now < run.not_before {
        return Next::WaitUntil(run.not_before);
    }
    let Some(asked) = run.task else { return Next::Call };
    match task {
        None => Next::Over(Err(format!("the task {} is not there any more", asked.id))),
        Some(task) if task.phase == Phase::Stopped => Next::Over(outcome(task)),
        Some(_) if asked.due_at <= now => Next::Late(asked.id),
        Some(_) => Next::WaitUntil(asked.due_at),
    }
}

/// Puts the version there that a rotation is to fill.
pub(crate) fn begin(secret: &mut Secret, version: String, is_test: bool, now: Timestamp) {
    if !secret.versions.contains_key(&version) {
        let info = VersionInfo { created_at: now, stages: [].into(), accessed_on: None, key: None };
        secret.versions.insert(version.clone(), info);
    }
    move_stage(secret, PENDING, &version, now);
    let Some(rotation) = secret.rotation.as_deref_mut() else { return };
    rotation.calls += 1;
    rotation.run = Some(RotationRun {
        version,
        step: if is_test { RotationStep::TestSecret } else { RotationStep::FIRST },
        attempt: 1,
        not_before: now,
        is_test,
        task: None,
        failure: None,
    });
}

/// What a step's end came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Another step follows.
    NextStep,
    Rotated,
    Tested,
    /// It failed, and is tried again.
    Failed(String),
}

/// Writes down what a step came to.
pub(crate) fn apply(
    secret: &mut Secret,
    outcome: Result<(), String>,
    now: Timestamp,
) -> Option<Came> {
    let rotation = secret.rotation.as_deref_mut()?;
    rotation.calls += 1;
    let mut run = rotation.run.take()?;
    run.task = None;
    if run.is_test {
        remove_test(secret, &run);
        return Some(match outcome {
            Ok(()) => Came::Tested,
            Err(why) => Came::Failed(why),
        });
    }
    let outcome = match (outcome, run.step.next()) {
        (Ok(()), Some(step)) => {
            run.step = step;
            put_back(secret, run);
            return Some(Came::NextStep);
        }
        (Ok(()), None) if secret.staged(CURRENT) == Some(&run.version) => Ok(()),
        (Ok(()), None) => Err(format!(
            "finishSecret was done, and AWSCURRENT is not on the version {}",
            run.version
        )),
        (Err(why), _) => Err(why),
    };
    match outcome {
        Ok(()) => {
            take_stage(secret, PENDING);
            let rotation = secret.rotation.as_deref_mut()?;
            rotation.rotated_at = Some(now);
            rotation.counted_from = now;
            secret.changed_at = now;
            Some(Came::Rotated)
        }
        Err(why) => {
            let why: String = why.chars().take(FAILURE_CHARS_MAX).collect();
            retry(secret, run, why.clone(), now);
            Some(Came::Failed(why))
        }
    }
}

/// From the first step again, after a while; after the last attempt, in the next window.
fn retry(secret: &mut Secret, mut run: RotationRun, why: String, now: Timestamp) {
    let pause = usize::try_from(run.attempt.saturating_sub(1)).ok();
    let pause = pause.and_then(|at| ATTEMPT_PAUSES_MS.get(at));
    run.step = RotationStep::FIRST;
    run.failure = Some(why);
    match pause {
        Some(pause) => {
            run.attempt += 1;
            run.not_before = now.plus_ms(*pause);
        }
        None => {
            let rules = secret.rotation.as_deref().map(|rotation| &rotation.rules);
            let window = rules.and_then(|rules| rules::window_after(rules, now));
            run.attempt = 1;
            run.not_before = window.map_or(Timestamp(u64::MAX), |window| window.opens);
        }
    }
    put_back(secret, run);
}

fn put_back(secret: &mut Secret, run: RotationRun) {
    if let Some(rotation) = secret.rotation.as_deref_mut() {
        rotation.run = Some(run);
    }
}

/// Ends what is under way, without a trace if it is a test. Says which version it was about.
pub(crate) fn cancel(secret: &mut Secret) -> Option<String> {
    let rotation = secret.rotation.as_deref_mut()?;
    let run = rotation.run.take()?;
    // One that is to be stopped already is not forgotten.
    rotation.leftover = run.task.map(|task| task.id).or(rotation.leftover);
    rotation.calls += 1;
    if run.is_test {
        remove_test(secret, &run);
        return None;
    }
    Some(run.version)
}

/// Removes the version that a test was made with, unless somebody gave it a value.
fn remove_test(secret: &mut Secret, run: &RotationRun) {
    if secret.staged(PENDING) == Some(&run.version) {
        take_stage(secret, PENDING);
    }
    let info = secret.versions.get(&run.version);
    if info.is_some_and(|info| info.key.is_none() && info.stages.is_empty()) {
        secret.versions.remove(&run.version);
    }
}

/// The rotation that a secret is under, if its next step is to be done.
pub(crate) fn under_way(secret: &Secret) -> Option<(&Rotation, &RotationRun)> {
    let rotation = secret.rotation.as_deref()?;
    Some((rotation, rotation.run.as_ref()?))
}
