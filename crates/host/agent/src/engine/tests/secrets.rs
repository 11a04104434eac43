//! Values that a definition only refers to.

use serde_json::json;

use super::*;
use crate::engine::state::Phase;

fn asking(secrets: &Value) -> Value {
    let mut task = asking_as_a_role(json!({ "name": "web", "secrets": secrets }));
    task["launchType"] = "FARGATE".into();
    task
}

const SECRET: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:db-AbCdEf";

#[tokio::test]
async fn secrets_are_in_the_containers_environment_and_in_no_file_of_the_agents() {
    let rig = Rig::new().await;
    let known = [(SECRET, r#"{"user":"ann","word":"geheim-1"}"#), ("/a/b", "geheim-2")];
    let known = known.map(|(name, value)| (name.to_owned(), value.to_owned()));
    rig.region.secrets.lock().unwrap().extend(known);
    let secret = |name: &str, from: &str, provider: &str| {
        json!({ "name": name, "valueFrom": from, "provider": provider, "type": "ENVIRONMENT_VARIABLE",
                "target": "CONTAINER", "region": "us-east-1" })
    };
    let secrets = json!([
        secret("USER", &format!("{SECRET}:user::"), "asm"),
        secret("WORD", &format!("{SECRET}:word::"), "asm"),
        secret("OTHER", "arn:aws:ssm:us-east-1:000000000000:parameter/a/b", "ssm"),
    ]);
    drop(rig.engine.accept(asking(&secrets)).await);
    rig.until_reported(Status::Running).await;
    for (name, value) in [("USER", "ann"), ("WORD", "geheim-1"), ("OTHER", "geheim-2")] {
        assert_eq!(of_container(&rig, name).as_deref(), Some(value));
    }
    assert_none_is_kept(&rig, "geheim");
}

#[tokio::test]
async fn a_task_whose_secret_is_not_there_is_not_started_and_says_which_it_is() {
    let secret = |from: &str, provider: &str| json!([{ "name": "S", "valueFrom": from, "provider": provider, "target": "CONTAINER" }]);
    const LEAD: &str = "ResourceInitializationError: unable to pull secrets or registry auth: execution \
                        resource retrieval failed: unable to retrieve ";
    for (secrets, rest) in [
        (
            secret(SECRET, "asm"),
            format!(
                "secret from asm: service call has been retried 1 time(s): failed to fetch secret {SECRET} \
                 from secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified \
                 secret."
            ),
        ),
        (
            secret("/a/b", "ssm"),
            "secrets from ssm: service call has been retried 1 time(s): invalid ssm parameters: /a/b"
                .to_owned(),
        ),
    ] {
        let rig = Rig::new().await;
        drop(rig.engine.accept(asking(&secrets)).await);
        let stopped = rig.until_reported(Status::Stopped).await;
        assert_eq!(stopped.reason, format!("{LEAD}{rest}"));
        assert!(stopped.containers.iter().all(|each| each.exit_code.is_none()));
    }
}

#[tokio::test]
async fn an_agent_that_came_back_sees_an_end_before_it_is_given_what_the_log_driver_is_told() {
    let mut rig = Rig::new().await;
    rig.region.make_group("g");
    rig.region.secrets.lock().unwrap().insert("group".to_owned(), "g".to_owned());
    let log = json!({ "LogConfig": { "Type": "awslogs", "Config": { "awslogs-stream": "s" } } });
    let kept = json!([{ "name": "awslogs-group", "valueFrom": "group", "provider": "asm",
        "target": "LOG_DRIVER" }]);
    let web = json!({ "name": "web", "secrets": kept,
        "dockerConfig": { "hostConfig": log.to_string() } });
    drop(rig.engine.accept(asking_as_a_role(web)).await);
    rig.until_reported(Status::Running).await;
    // The region gives credentials anew some time after the agent is there again.
    rig.restart().await;
    rig.runtime.end("web", 3, false);
    let is_seen = |rig: &Rig| {
        let views = rig.engine.views();
        views.iter().any(|view| view.state.containers[0].phase == Phase::Exited)
    };
    rig.until("its end is seen", is_seen).await;
    let next = serde_json::from_value(execution_role("second")).unwrap();
    let given = TaskCredentials { application: None, execution: Some(next) };
    assert!(rig.engine.put_credentials(&ARN.parse().unwrap(), given));
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(stopped.containers[0].exit_code, Some(3));
}
