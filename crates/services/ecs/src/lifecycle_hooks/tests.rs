use control::testing::rows;
use longshore_types::{SeededEnv, TaskId, Timestamp};
use model::service::{HookAction, HookRun, Lifecycle, Pause, PauseState};
use model::task::{Phase, Task};

use super::plan::{Next, Said, apply, merge, next, read_answer};

const TARGET: &str = "https://checks.lan/";
const NOW: Timestamp = Timestamp(1_000_000);

fn open() -> Pause {
    Pause {
        hook: 0,
        stage: Lifecycle::PostScaleUp,
        step: 0,
        state: PauseState::InProgress,
        expires_at: NOW.plus_ms(3_600_000),
        on_timeout: HookAction::Rollback,
        run: Some(Box::default()),
    }
}

fn run(pause: &Pause) -> &HookRun {
    pause.run.as_deref().unwrap()
}

fn task(code: Option<i64>) -> Task {
    let mut task = rows::task(1);
    if let Some(code) = code {
        task.phase = Phase::Stopped;
        task.containers[0].seen.exit_code = i32::try_from(code).ok();
    }
    task
}

#[test]
fn answers_are_read_as_those_of_functions_are() {
    let read = |answer: &str| read_answer(answer.as_bytes(), TARGET);
    let details = Some(r#"{"a":1}"#.to_owned());
    assert_eq!(read(r#"{"hookStatus": "SUCCEEDED"}"#), Said::Succeeded { details: None });
    assert_eq!(read(r#"{"hookStatus": "FAILED", "more": 1}"#), Said::No);
    let busy = |again_in_s, details| Said::Busy { again_in_s, details };
    assert_eq!(read(r#"{"hookStatus": "IN_PROGRESS"}"#), busy(30, None));
    let given = r#"{"hookStatus": "IN_PROGRESS", "callBackDelay": 60, "hookDetails": {"a": 1}}"#;
    assert_eq!(read(given), busy(60, details));
    for (answer, part) in [
        ("", "it is not a JSON object"),
        ("[]", "it is not a JSON object"),
        ("{}", "HookStatus must not be null"),
        (r#"{"hookStatus": null}"#, "HookStatus must not be null"),
        (r#"{"hookStatus": "DONE"}"#, "hookStatus should be one of"),
        (r#"{"hookStatus": 1}"#, "hookStatus should be one of"),
        (r#"{"hookStatus": "IN_PROGRESS", "callBackDelay": -1}"#, "callBackDelay must be"),
        (r#"{"hookStatus": "IN_PROGRESS", "callBackDelay": "x"}"#, "callBackDelay must be"),
        (r#"{"hookStatus": "SUCCEEDED", "hookDetails": 1}"#, "hookDetails must be"),
    ] {
        match read(answer) {
            Said::Failed(why) => assert!(
                why.starts_with(&format!("ECS was unable to parse the response from {TARGET}"))
                    && why.contains(part),
                "{answer}: {why}"
            ),
            other => panic!("{answer}: {other:?}"),
        }
    }
}

#[test]
fn a_task_is_waited_for_and_its_end_says_it() {
    let mut pause = open();
    assert_eq!(next(&pause, true, None, NOW), Next::Call);
    let id = task(None).id;
    apply(&mut pause, Said::Task(id), TARGET, NOW);
    assert_eq!(next(&pause, true, Some(&task(None)), NOW), Next::Wait(None));
    let good = next(&pause, true, Some(&task(Some(0))), NOW);
    assert_eq!(good, Next::Over(Said::Succeeded { details: None }));
    let bad = next(&pause, true, Some(&task(Some(3))), NOW);
    let Next::Over(said @ Said::Failed(_)) = bad else { panic!("{bad:?}") };
    apply(&mut pause, said, TARGET, NOW);
    assert_eq!((pause.state, run(&pause).task), (PauseState::Failed, None));
    assert!(run(&pause).why.as_ref().unwrap().ends_with("exited with 3."));
    assert_eq!(next(&pause, true, None, NOW), Next::Nothing);
}

#[test]
fn a_task_that_nobody_waits_for_any_more_is_stopped() {
    let id = TaskId::mint(&SeededEnv::from_seed(7));
    let mut pause = open();
    assert_eq!(next(&pause, false, None, NOW), Next::Nothing);
    apply(&mut pause, Said::Task(id), TARGET, NOW);
    assert_eq!(next(&pause, false, Some(&task(None)), NOW), Next::Stop(id));
    assert_eq!(next(&pause, true, Some(&task(None)), pause.expires_at), Next::Stop(id));
    pause.state = PauseState::TimedOut;
    assert_eq!(next(&pause, true, Some(&task(None)), NOW), Next::Stop(id));
}

#[test]
fn who_is_busy_is_asked_again_and_who_is_not_heard_a_few_times() {
    let mut pause = open();
    let unheard = || Said::Unheard("it answered 503".to_owned());
    apply(&mut pause, unheard(), TARGET, NOW);
    let at = run(&pause).not_before.unwrap();
    assert_eq!(next(&pause, true, None, NOW), Next::Wait(Some(at)));
    assert_eq!(next(&pause, true, None, at), Next::Call);
    let details = Some(r#"{"a":1}"#.to_owned());
    apply(&mut pause, Said::Busy { again_in_s: 9, details: details.clone() }, TARGET, NOW);
    assert_eq!(run(&pause).not_before, Some(NOW.plus_ms(9_000)));
    assert_eq!((run(&pause).failures, &run(&pause).details), (0, &details));
    for _ in 0..4 {
        apply(&mut pause, unheard(), TARGET, NOW);
        assert_eq!(pause.state, PauseState::InProgress);
    }
    apply(&mut pause, unheard(), TARGET, NOW);
    assert_eq!((pause.state, run(&pause).calls), (PauseState::Failed, 7));
    let why = "ECS was unable to invoke hook target https://checks.lan/ due to it answered 503.";
    assert_eq!(run(&pause).why.as_deref(), Some(why));
}

#[test]
fn a_task_that_finds_no_room_is_asked_for_until_there_is_some() {
    let mut pause = open();
    for attempt in 0..100 {
        let now = NOW.plus_ms(attempt * 5_000);
        assert_eq!(next(&pause, true, None, now), Next::Call, "{attempt}");
        apply(&mut pause, Said::NoRoom("RESOURCE:MEMORY".to_owned()), TARGET, now);
        assert_eq!((pause.state, run(&pause).calls), (PauseState::InProgress, 0));
    }
    assert_eq!(next(&pause, true, None, pause.expires_at), Next::Nothing);
}

#[test]
fn later_details_go_over_earlier_ones() {
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(merge(text(r#"{"a":1,"b":1}"#), text(r#"{"b":2}"#)), text(r#"{"a":1,"b":2}"#));
    assert_eq!(merge(None, text(r#"{"b":2}"#)), text(r#"{"b":2}"#));
    assert_eq!(merge(text(r#"{"a":1}"#), None), text(r#"{"a":1}"#));
    let long = format!(r#"{{"b":"{}"}}"#, "x".repeat(4_090));
    assert_eq!(merge(text(r#"{"a":1}"#), Some(long)), text(r#"{"a":1}"#), "there is no room");
}
