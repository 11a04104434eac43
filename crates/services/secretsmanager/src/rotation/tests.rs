use std::sync::Arc;
use std::sync::atomic::Ordering;

use control::reconcile::Reconciler as _;
use control::testing::rows;
use longshore_types::{SeededEnv, TaskId};
use model::Secret;
use model::task::{Phase, Task};
use secretsmanager_api as api;
use secretsmanager_api::SecretsManager as _;

use super::reconcile::Rotations;
use crate::limits::{DAY_MS, STEP_TASK_MS_MAX};
use crate::tests::{OTHER_TOKEN, TOKEN, World, ask, code};

const DEFINITION: &str = "arn:aws:ecs:us-east-1:000000000000:task-definition/rotate:1";
const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];

fn days(days: i64) -> api::RotationRulesType {
    api::RotationRulesType { automatically_after_days: Some(days), ..Default::default() }
}

impl World {
    fn row(&self) -> Arc<Secret> {
        let view = self.world.control.view();
        view.secrets.iter().next().map(Arc::clone).unwrap()
    }

    /// Passes until nothing changes any more.
    async fn settle(&self) {
        let rotations = Rotations::new(Arc::clone(&self.service));
        let key = (self.row().account, Arc::clone(&self.row().name));
        for _ in 0..20 {
            let before = self.world.control.view().seq;
            rotations.pass(&key).await.unwrap();
            self.show_tasks().await;
            if self.world.control.view().seq == before {
                return;
            }
        }
        panic!("a rotation that never settles");
    }

    /// Tasks are rows as soon as they are asked for.
    async fn show_tasks(&self) {
        for (_, id) in self.asked() {
            let view = self.world.control.view();
            if view.tasks.get(self.row().account, &id).is_none() {
                self.put_task(id, None).await;
            }
        }
    }

    fn asked(&self) -> Vec<(String, TaskId)> {
        let asked = self.tasks.asked.lock().unwrap();
        let step = |(ask, id): &(control::ports::TaskAsk, TaskId)| {
            let step = ask.environment.iter().find(|(name, _)| name == "ROTATION_STEP");
            (step.unwrap().1.clone(), *id)
        };
        asked.iter().map(step).collect()
    }

    fn last_task(&self) -> TaskId {
        self.asked().last().unwrap().1
    }

    async fn put_task(&self, id: TaskId, exit_code: Option<i32>) {
        let mut task = Task { id, ..rows::task(1) };
        if let Some(code) = exit_code {
            task.phase = Phase::Stopped;
            task.containers[0].seen.exit_code = Some(code);
        }
        self.put(task).await;
    }

    /// Ends the task of the step that is under way, and does what is next.
    async fn end(&self, exit_code: i32) {
        self.put_task(self.last_task(), Some(exit_code)).await;
        self.settle().await;
    }

    async fn put_pending(&self, token: &str, value: &str) {
        let put = ask!(
            self,
            put_secret_value,
            PutSecretValueRequest {
                secret_id: "db",
                secret_string: value,
                client_request_token: token,
                version_stages: vec!["AWSPENDING".to_owned()],
            }
        );
        put.unwrap();
    }

    async fn make_current(&self, token: &str) {
        let row = self.row();
        let before = row.staged("AWSCURRENT").unwrap();
        let moved = ask!(
            self,
            update_secret_version_stage,
            UpdateSecretVersionStageRequest {
                secret_id: "db",
                version_stage: "AWSCURRENT",
                move_to_version_id: token,
                remove_from_version_id: before,
            }
        );
        moved.unwrap();
    }

    async fn rotate(&self, token: &str) -> Result<api::RotateSecretResponse, aws_wire::ApiError> {
        ask!(
            self,
            rotate_secret,
            RotateSecretRequest {
                secret_id: "db",
                client_request_token: token,
                rotation_lambda_arn: DEFINITION,
                rotation_rules: days(30),
            }
        )
    }

    async fn described(&self) -> api::DescribeSecretResponse {
        ask!(self, describe_secret, DescribeSecretRequest { secret_id: "db" }).unwrap()
    }

    /// Does all four steps as a function of AWS's templates does.
    async fn do_steps(&self, token: &str, value: &str) {
        self.settle().await;
        self.put_pending(token, value).await;
        for _ in 0..3 {
            self.end(0).await;
        }
        self.make_current(token).await;
        self.end(0).await;
    }
}

#[tokio::test]
async fn a_rotation_is_four_tasks_one_after_the_other_and_the_new_version_is_current() {
    let world = World::new();
    world.create("db", "one").await;
    assert_eq!(world.described().await.rotation_enabled, None);
    let made = world.rotate(TOKEN).await.unwrap();
    assert_eq!(made.version_id.as_deref(), Some(TOKEN));
    let stages = world.described().await.version_ids_to_stages.unwrap();
    assert_eq!(stages[TOKEN], ["AWSPENDING"], "it is named before it has a value");
    let empty = ask!(
        world,
        get_secret_value,
        GetSecretValueRequest { secret_id: "db", version_id: TOKEN, version_stage: "AWSPENDING" }
    );
    assert_eq!(code(empty), "ResourceNotFoundException");
    world.settle().await;
    world.settle().await;
    assert_eq!(world.asked().len(), 1, "a step is asked for once");
    {
        let asked = world.tasks.asked.lock().unwrap();
        let event = asked[0].0.environment.iter().find(|(name, _)| name == "ROTATION_EVENT");
        let event: serde_json::Value = serde_json::from_str(&event.unwrap().1).unwrap();
        assert_eq!(event["ClientRequestToken"], TOKEN);
        assert_eq!(event["Step"], "createSecret");
    }
    world.do_steps(TOKEN, "two").await;
    let steps: Vec<String> = world.asked().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, STEPS);
    assert_eq!(world.value("db").await.unwrap(), "two");
    let now = world.world.control.clock.now();
    let described = world.described().await;
    assert_eq!(described.rotation_enabled, Some(true));
    assert_eq!(described.rotation_lambda_arn.as_deref(), Some(DEFINITION));
    assert_eq!(described.last_rotated_date, Some(now));
    let day = now.0 / DAY_MS * DAY_MS;
    assert_eq!(
        described.next_rotation_date.unwrap().0,
        day + 31 * DAY_MS,
        "the window closes then"
    );
    assert_eq!(described.version_ids_to_stages.unwrap()[TOKEN], ["AWSCURRENT"]);
    let again = world.rotate(TOKEN).await.unwrap();
    assert_eq!(
        again.version_id.as_deref(),
        Some(TOKEN),
        "the same request again is answered alike"
    );
    world.settle().await;
    assert_eq!(world.asked().len(), 4);
}

#[tokio::test]
async fn a_secret_is_rotated_when_its_window_opens_and_a_value_that_was_put_counts() {
    let world = World::new();
    world.create("db", "one").await;
    world.rotate(TOKEN).await.unwrap();
    world.do_steps(TOKEN, "two").await;
    world.world.env.advance_ms(29 * DAY_MS);
    world.settle().await;
    assert_eq!(world.asked().len(), 4);
    let put = ask!(
        world,
        put_secret_value,
        PutSecretValueRequest { secret_id: "db", secret_string: "three" }
    );
    put.unwrap();
    world.world.env.advance_ms(2 * DAY_MS);
    world.settle().await;
    assert_eq!(world.asked().len(), 4, "somebody changed it two days ago");
    world.world.env.advance_ms(29 * DAY_MS);
    world.settle().await;
    assert_eq!(world.asked().len(), 5);
    let pending = world.row().staged("AWSPENDING").unwrap().to_owned();
    world.do_steps(&pending, "four").await;
    assert_eq!(world.value("db").await.unwrap(), "four");
}

#[tokio::test]
async fn a_failed_step_begins_the_rotation_anew_and_after_some_attempts_waits_for_its_window() {
    let world = World::new();
    world.create("db", "one").await;
    world.rotate(TOKEN).await.unwrap();
    world.settle().await;
    world.end(0).await;
    world.end(1).await;
    let run = world.row().rotation.as_ref().unwrap().run.clone().unwrap();
    assert!(run.failure.unwrap().contains("container web exited with 1"));
    assert_eq!(run.attempt, 2);
    assert_eq!(world.asked().len(), 2, "it waits");
    let other = world.rotate(OTHER_TOKEN).await.unwrap_err();
    assert_eq!(
        other.message,
        "A previous rotation isn't complete. That rotation will be reattempted."
    );
    world.settle().await;
    assert_eq!(world.asked().last().unwrap().0, "createSecret", "it is tried at once");
    for _ in 0..4 {
        world.end(1).await;
        world.world.env.advance_ms(3_600_000);
        world.settle().await;
    }
    let asked = world.asked().len();
    assert_eq!(asked, 6, "five attempts, of which one came to its second step");
    world.world.env.advance_ms(2 * DAY_MS);
    world.settle().await;
    assert_eq!(world.asked().len(), asked);
    world.world.env.advance_ms(29 * DAY_MS);
    world.do_steps(TOKEN, "two").await;
    assert_eq!(world.value("db").await.unwrap(), "two");
}

#[tokio::test]
async fn a_task_that_takes_too_long_is_stopped_and_so_is_one_whose_rotation_is_cancelled() {
    let world = World::new();
    world.create("db", "one").await;
    world.rotate(TOKEN).await.unwrap();
    world.settle().await;
    let first = world.last_task();
    world.world.env.advance_ms(STEP_TASK_MS_MAX);
    world.settle().await;
    assert_eq!(*world.tasks.stopped.lock().unwrap(), [first]);
    world.world.env.advance_ms(60_000);
    world.settle().await;
    let second = world.last_task();
    assert_ne!(first, second);
    let cancelled =
        ask!(world, cancel_rotate_secret, CancelRotateSecretRequest { secret_id: "db" });
    assert_eq!(cancelled.unwrap().version_id.as_deref(), Some(TOKEN));
    world.settle().await;
    assert_eq!(*world.tasks.stopped.lock().unwrap(), [first, second]);
    let described = world.described().await;
    assert_eq!((described.rotation_enabled, described.next_rotation_date), (Some(false), None));
    let blocked = world.rotate(OTHER_TOKEN).await.unwrap_err();
    assert!(blocked.message.contains("UpdateSecretVersionStage"), "{}", blocked.message);
    let freed = ask!(
        world,
        update_secret_version_stage,
        UpdateSecretVersionStageRequest {
            secret_id: "db",
            version_stage: "AWSPENDING",
            remove_from_version_id: TOKEN,
        }
    );
    freed.unwrap();
    world.rotate(OTHER_TOKEN).await.unwrap();
}

#[tokio::test]
async fn a_schedule_that_does_not_begin_at_once_is_tried_by_its_test_and_leaves_nothing() {
    let world = World::new();
    world.create("db", "one").await;
    let asked = ask!(
        world,
        rotate_secret,
        RotateSecretRequest {
            secret_id: "db",
            rotation_lambda_arn: DEFINITION,
            rotation_rules: days(1),
            rotate_immediately: false,
        }
    );
    assert_eq!(asked.unwrap().version_id, None);
    world.settle().await;
    assert_eq!(world.asked().len(), 1);
    assert_eq!(world.asked()[0].0, "testSecret");
    assert_eq!(world.row().versions.len(), 2);
    world.end(0).await;
    assert_eq!(world.row().versions.len(), 1);
    assert_eq!(world.described().await.last_rotated_date, None);
    world.world.env.advance_ms(DAY_MS);
    world.settle().await;
    assert_eq!(world.asked().last().unwrap().0, "createSecret");
}

#[tokio::test]
async fn what_cannot_rotate_a_secret_is_refused_when_it_is_named() {
    let world = World::new();
    world.create("db", "one").await;
    let rotate = async |target: &str| {
        let rotate = ask!(
            world,
            rotate_secret,
            RotateSecretRequest { secret_id: "db", rotation_lambda_arn: target }
        );
        rotate.map_err(|why| (why.code.into_owned(), why.message))
    };
    let none = ask!(world, rotate_secret, RotateSecretRequest { secret_id: "db" }).unwrap_err();
    assert_eq!(none.message, "No Lambda rotation function ARN is associated with this secret.");
    for (target, what) in [
        ("arn:aws:lambda:us-east-1:000000000000:function:f", "no Lambda functions"),
        ("https://elsewhere.lan/", "--allow-hook elsewhere.lan:443"),
        ("arn:aws:ecs:us-east-1:000000000000:task-definition/none", "TaskDefinition not found."),
    ] {
        let (code, message) = rotate(target).await.unwrap_err();
        assert_eq!(code, "InvalidParameterException");
        assert!(message.contains(what), "{message}");
    }
    let row = world.row();
    assert!(row.rotation.is_none() && row.versions.len() == 1, "nothing was kept");
    rotate("https://rotator.lan/db").await.unwrap();
    let ann = r#"{"Effect":"Allow","Action":"secretsmanager:*","Resource":"*"}"#;
    let ann = world.user("000000000000", ann).await;
    let denied = ask!(
        world,
        &ann,
        rotate_secret,
        RotateSecretRequest { secret_id: "db", rotation_lambda_arn: DEFINITION }
    );
    assert!(denied.unwrap_err().message.contains("ecs:RunTask"), "having it run takes running it");
}

#[tokio::test]
async fn a_task_that_finds_no_room_is_an_attempt_and_its_rotation_goes_on() {
    let world = World::new();
    world.create("db", "one").await;
    world.tasks.is_full.store(true, Ordering::Relaxed);
    world.rotate(TOKEN).await.unwrap();
    world.settle().await;
    assert!(world.asked().is_empty());
    world.world.env.advance_ms(60_000);
    world.do_steps(TOKEN, "two").await;
    assert_eq!(world.value("db").await.unwrap(), "two");
}

#[tokio::test]
async fn a_secret_that_is_to_be_deleted_is_not_rotated_and_restored_it_is() {
    let world = World::new();
    world.create("db", "one").await;
    world.rotate(TOKEN).await.unwrap();
    world.settle().await;
    let task = world.last_task();
    ask!(world, delete_secret, DeleteSecretRequest { secret_id: "db" }).unwrap();
    world.settle().await;
    assert_eq!(*world.tasks.stopped.lock().unwrap(), [task]);
    assert!(world.row().rotation.as_ref().unwrap().run.is_none());
    ask!(world, restore_secret, RestoreSecretRequest { secret_id: "db" }).unwrap();
    world.world.env.advance_ms(31 * DAY_MS);
    world.settle().await;
    assert_eq!(world.asked().len(), 2);
    let pending = world.row().staged("AWSPENDING").unwrap().to_owned();
    world.do_steps(&pending, "two").await;
    assert_eq!(world.value("db").await.unwrap(), "two");
}

#[tokio::test]
async fn a_tag_of_later_sends_no_task_elsewhere_before_somebody_asks_for_the_rotation_again() {
    let world = World::new();
    world.create("db", "one").await;
    let tag = async |cluster: &str| {
        let tag = api::Tag {
            key: Some("longshore.rotation-cluster".to_owned()),
            value: Some(cluster.to_owned()),
        };
        let tagged =
            ask!(world, tag_resource, TagResourceRequest { secret_id: "db", tags: vec![tag] });
        tagged.unwrap();
    };
    let clusters = || {
        let asked = world.tasks.asked.lock().unwrap();
        asked.iter().map(|(ask, _)| ask.cluster.clone().unwrap()).collect::<Vec<String>>()
    };
    tag("own").await;
    world.rotate(TOKEN).await.unwrap();
    tag("other").await;
    world.do_steps(TOKEN, "two").await;
    assert_eq!(clusters(), ["own"; 4]);
    world.rotate(OTHER_TOKEN).await.unwrap();
    world.settle().await;
    assert_eq!(clusters()[4], "other");
}

#[tokio::test]
async fn a_task_that_is_to_be_stopped_is_not_forgotten_when_the_rotation_is_cancelled() {
    let world = World::new();
    world.create("db", "one").await;
    world.rotate(TOKEN).await.unwrap();
    let mut row = Secret::clone(&world.row());
    let late = TaskId::mint(&SeededEnv::from_seed(7));
    row.rotation.as_deref_mut().unwrap().leftover = Some(late);
    super::plan::cancel(&mut row);
    assert_eq!(row.rotation.unwrap().leftover, Some(late));
}
