//! What containers take from S3.

use serde_json::json;

use super::*;
use crate::spec::ObjectName;

const FILE: &str = "arn:aws:s3:::conf/a.env";

fn put(rig: &Rig, arn: &str, text: &str) {
    let name = ObjectName::parse(arn).unwrap();
    rig.region.objects.lock().unwrap().insert(name, text.to_owned());
}

#[tokio::test]
async fn the_first_file_wins_among_files_and_the_definition_over_all_of_them() {
    let rig = Rig::new().await;
    let other = "arn:aws:s3:::conf/b.env";
    put(&rig, FILE, "A=first\nOWN=geheim-file\n");
    put(&rig, other, "A=second\nB=geheim-second\n");
    let file = |arn: &str| json!({ "type": "s3", "value": arn });
    let web = json!({ "name": "web", "environmentFiles": [file(FILE), file(other)], "environment": { "OWN": "own" } });
    drop(rig.engine.accept(asking_as_a_role(web)).await);
    rig.until_reported(Status::Running).await;
    for (name, value) in [("A", "first"), ("B", "geheim-second"), ("OWN", "own")] {
        assert_eq!(of_container(&rig, name).as_deref(), Some(value));
    }
    assert_none_is_kept(&rig, "geheim");
}

#[tokio::test]
async fn a_container_that_restarts_reads_its_files_anew_and_goes_on_with_the_last_while_the_region_is_away()
 {
    let rig = Rig::new().await;
    put(&rig, FILE, "A=1\n");
    let web = json!({ "name": "web", "environmentFiles": [{ "type": "s3", "value": FILE }],
        "restartPolicy": { "enabled": true, "restartAttemptPeriod": 0 } });
    drop(rig.engine.accept(asking_as_a_role(web)).await);
    rig.until_reported(Status::Running).await;
    let restarted = |rig: &Rig, times: u32| {
        let views = rig.engine.views();
        views.iter().any(|view| {
            let state = &view.state.containers[0];
            state.restarts == times && state.phase == crate::engine::state::Phase::Running
        })
    };
    put(&rig, FILE, "A=2\n");
    rig.runtime.end("web", 1, false);
    rig.until("it runs again", |rig| restarted(rig, 1)).await;
    assert_eq!(of_container(&rig, "A").as_deref(), Some("2"));
    put(&rig, FILE, "A=3\n");
    rig.region.set_away(true);
    rig.runtime.end("web", 1, false);
    rig.until("it runs once more", |rig| restarted(rig, 2)).await;
    assert_eq!(of_container(&rig, "A").as_deref(), Some("2"));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named_and_nothing_runs() {
    for (launch, lead) in [
        (
            "FARGATE",
            "failed to download env files: file download command: non empty error stream: service call has been retried 1 \
             time(s): ",
        ),
        (
            "EC2",
            "failed to download env files: unable to download env file with key a.env from bucket conf, error: ",
        ),
    ] {
        let rig = Rig::new().await;
        let web = json!({ "name": "web", "environmentFiles": [{ "type": "s3", "value": FILE }] });
        let mut task = asking_as_a_role(web);
        task["launchType"] = launch.into();
        drop(rig.engine.accept(task).await);
        let stopped = rig.until_reported(Status::Stopped).await;
        let expected = format!(
            "ResourceInitializationError: {lead}NoSuchKey: The specified key does not exist."
        );
        assert_eq!(stopped.reason, expected);
    }
}

#[tokio::test]
async fn a_region_that_fails_is_asked_so_often_and_one_that_is_away_until_the_task_is_to_stop() {
    let web = json!({ "name": "web", "environmentFiles": [{ "type": "s3", "value": FILE }] });
    let rig = Rig::new().await;
    *rig.region.objects_fail.lock().unwrap() = Some(500);
    drop(rig.engine.accept(asking_as_a_role(web.clone())).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.contains("InternalError"), "{}", stopped.reason);

    let rig = Rig::new().await;
    put(&rig, FILE, "A=1\n");
    rig.region.set_away(true);
    drop(rig.engine.accept(asking_as_a_role(web)).await);
    rig.until("it is pulled", |rig| {
        let views = rig.engine.views();
        views.iter().any(|view| {
            let phase = view.state.containers[0].phase;
            view.state.prepared.is_some() && phase == crate::engine::state::Phase::Pulled
        })
    })
    .await;
    drop(rig.engine.accept(stop()).await);
    rig.until("it has let go of all", |rig| {
        rig.engine.views().iter().all(|view| view.state.released)
    })
    .await;
}
