//! What is next of a hook, and what is written of what was said: decisions on a deployment's row.

use control::tasks::outcome;
use longshore_types::{TaskId, Timestamp};
use model::Deployment;
use model::service::{Pause, PauseState, Rank, Stage};
use model::task::{Phase, Task};
use serde_json::{Map, Value};

use crate::service_spec::DETAILS_BYTES_MAX;

/// How long is waited after each time that nobody could be asked; after the last the hook has failed.
const UNHEARD_PAUSES_MS: &[u64] = &[1_000, 5_000, 15_000, 30_000];
/// When whoever is at it is asked again who does not say when.
const CALL_BACK_S: u64 = 30;
/// When a task that found no room is asked for again.
const NO_ROOM_PAUSE_MS: u64 = 5_000;
const CALL_BACK_S_MAX: u64 = 24 * 3_600;
/// Longer ones are cut: a row is no log.
const WHY_CHARS_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nobody is to be asked.
    Nothing,
    Wait(Option<Timestamp>),
    /// Have a task stopped that nobody waits for.
    Stop(TaskId),
    Call,
    /// The task said something by its end.
    Over(Said),
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A task is at it.
    Task(TaskId),
    /// Ask again after so many seconds; with details to be given back then.
    Busy {
        again_in_s: u64,
        details: Option<String>,
    },
    Succeeded {
        details: Option<String>,
    },
    /// FAILED was answered.
    No,
    /// It failed, for this reason.
    Failed(String),
    /// Nobody could be asked.
    Unheard(String),
    /// Its task found no host with room: it is asked for again until there is one, or the hook's time is over.
    NoRoom(String),
}

/// Whether a deployment stands at a hook.
pub(super) fn is_at(row: &Deployment, pause: &Pause) -> bool {
    let here =
        |shift: &model::service::Shift| (shift.stage, shift.step) == (pause.stage, pause.step);
    row.stage == Stage::InProgress
        && row.rank == Rank::Primary
        && row.shift.as_ref().is_some_and(here)
}

/// `task` is the row of the task that is at it.
pub(super) fn next(pause: &Pause, is_awaited: bool, task: Option<&Task>, now: Timestamp) -> Next {
    let Some(run) = &pause.run else { return Next::Nothing };
    // What a time-out leads to is said by whoever waits.
    if !is_awaited || pause.state != PauseState::InProgress || pause.expires_at <= now {
        return run.task.map_or(Next::Nothing, Next::Stop);
    }
    match (run.task, task) {
        (Some(id), None) => {
            let why = format!("the task {id} is not there any more");
            Next::Over(Said::Unheard(why))
        }
        (Some(_), Some(task)) if task.phase == Phase::Stopped => Next::Over(match outcome(task) {
            Ok(()) => Said::Succeeded { details: None },
            Err(why) => Said::Failed(why),
        }),
        // The end of the task wakes, and so does whoever waits, when it has taken too long.
        (Some(_), Some(_)) => Next::Wait(None),
        (None, _) => match run.not_before.filter(|at| now < *at) {
            Some(at) => Next::Wait(Some(at)),
            None => Next::Call,
        },
    }
}

/// Writes down what was said.
pub(super) fn apply(pause: &mut Pause, said: Said, target: &str, now: Timestamp) {
    let Some(run) = &mut pause.run else { return };
    if let Said::Task(task) = said {
        run.task = Some(task);
        return;
    }
    run.task = None;
    if let Said::NoRoom(_) = said {
        // Nothing was made by that token.
        run.not_before = Some(now.plus_ms(NO_ROOM_PAUSE_MS));
        return;
    }
    run.calls += 1;
    run.not_before = None;
    let why = match said {
        Said::Task(_) | Said::NoRoom(_) => return,
        Said::Busy { again_in_s, details } => {
            run.failures = 0;
            run.details = merge(run.details.take(), details);
            run.not_before = Some(now.plus_ms(again_in_s * 1_000));
            return;
        }
        Said::Succeeded { details } => {
            run.details = merge(run.details.take(), details);
            pause.state = PauseState::Succeeded;
            return;
        }
        Said::No => None,
        Said::Failed(why) => Some(why),
        Said::Unheard(why) => {
            let pause_ms = usize::try_from(run.failures).ok();
            run.failures += 1;
            if let Some(ms) = pause_ms.and_then(|at| UNHEARD_PAUSES_MS.get(at)) {
                run.not_before = Some(now.plus_ms(*ms));
                return;
            }
            Some(format!("ECS was unable to invoke hook target {target} due to {why}"))
        }
    };
    run.why = why.map(|why| {
        let cut: String = why.chars().take(WHY_CHARS_MAX).collect();
        if cut.ends_with('.') { cut } else { format!("{cut}.") }
    });
    pause.state = PauseState::Failed;
}

/// Members of a later object in place of an earlier one's; text that is none counts for nothing.
pub(super) fn merge(before: Option<String>, later: Option<String>) -> Option<String> {
    let read = |text: &String| serde_json::from_str::<Map<String, Value>>(text).ok();
    let (Some(mut all), Some(more)) =
        (before.as_ref().and_then(read), later.as_ref().and_then(read))
    else {
        return later.or(before);
    };
    all.extend(more);
    let merged = Value::Object(all).to_string();
    // What would not fit into a task's environment is not added.
    if merged.len() <= DETAILS_BYTES_MAX { Some(merged) } else { before }
}

/// Reads what a server answered, as ECS does with what a function returns.
pub(super) fn read_answer(answer: &[u8], target: &str) -> Said {
    let unread = |why: &str| {
        Said::Failed(format!("ECS was unable to parse the response from {target} due to {why}."))
    };
    let Ok(answer) = serde_json::from_slice::<Map<String, Value>>(answer) else {
        return unread("it is not a JSON object like {\"hookStatus\": \"SUCCEEDED\"}");
    };
    let given = |name: &str| answer.get(name).filter(|it| !it.is_null());
    let details = match given("hookDetails") {
        None => None,
        Some(details) if details.is_object() => Some(details.to_string()),
        Some(_) => return unread("hookDetails must be a JSON object"),
    };
    if details.as_ref().is_some_and(|it| DETAILS_BYTES_MAX < it.len()) {
        return unread(&format!("hookDetails can have at most {DETAILS_BYTES_MAX} characters"));
    }
    match given("hookStatus").map(|it| it.as_str().unwrap_or_default()) {
        None => unread("HookStatus must not be null"),
        Some("SUCCEEDED") => Said::Succeeded { details },
        Some("FAILED") => Said::No,
        Some("IN_PROGRESS") => match given("callBackDelay") {
            None => Said::Busy { again_in_s: CALL_BACK_S, details },
            Some(given) => match given.as_u64().filter(|it| (1..=CALL_BACK_S_MAX).contains(it)) {
                Some(again_in_s) => Said::Busy { again_in_s, details },
                None => unread(&format!(
                    "callBackDelay must be a number of seconds between 1 and {CALL_BACK_S_MAX}"
                )),
            },
        },
        Some(_) => unread("hookStatus should be one of [SUCCEEDED, FAILED, IN_PROGRESS]"),
    }
}
