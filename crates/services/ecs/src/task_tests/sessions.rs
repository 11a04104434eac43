use aws_wire::Caller;
use control::iam::node_keys::holder;
use futures_util::{SinkExt, StreamExt};
use model::{Ec2Tags, Instance, Tags};
use serde_json::{Value, json};
use store::Batch;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::world::{PATIENCE, World};
use crate::{deregister_container_instance, submit_state_change};

#[tokio::test]
async fn a_fargate_task_runs_and_stops() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0);
    assert_eq!(task.last_status.as_deref(), Some("PROVISIONING"));
    assert_eq!(task.container_instance_arn, None);
    assert_eq!(task.platform_version.as_deref(), Some("1.4.0"));
    let arn = task.task_arn.unwrap();

    let order = agent.order().await;
    let sent = &order["tasks"][0];
    assert_eq!(sent["arn"], arn.as_str());
    assert_eq!(sent["desiredStatus"], "RUNNING");
    assert_eq!(sent["launchType"], "FARGATE");
    assert_eq!(sent["ephemeralStorageGib"], 20);
    let eni = &sent["elasticNetworkInterfaces"][0];
    let details = task.attachments.unwrap().remove(0).details.unwrap();
    let address = details.iter().find(|d| d.name.as_deref() == Some("privateIPv4Address"));
    assert_eq!(
        eni["ipv4Addresses"][0]["privateAddress"],
        address.unwrap().value.as_deref().unwrap()
    );
    agent.ack(&order).await;
    let pending = world.wait(&arn, "PENDING").await;
    assert_eq!(pending.attachments.unwrap()[0].status.as_deref(), Some("ATTACHED"));

    world.submit(&arn, "RUNNING", None, "").await;
    let running = world.describe(&arn);
    assert_eq!(running.last_status.as_deref(), Some("RUNNING"));
    assert!(running.started_at.is_some() && running.connectivity_at.is_some());

    let stopping = world.stop(&arn, "enough").await;
    assert_eq!(stopping.last_status.as_deref(), Some("RUNNING"));
    assert_eq!(stopping.desired_status.as_deref(), Some("STOPPED"));
    let order = agent.order().await;
    assert_eq!(order["tasks"][0], json!({"arn": arn, "desiredStatus": "STOPPED"}));
    assert_eq!(world.ecs().control.view().interfaces.len(), 1);

    world.submit(&arn, "STOPPED", Some(143), "").await;
    let stopped = world.describe(&arn);
    assert_eq!(stopped.last_status.as_deref(), Some("STOPPED"));
    assert_eq!(stopped.stop_code.unwrap().as_str(), "UserInitiated");
    assert_eq!(stopped.stopped_reason.as_deref(), Some("enough"));
    assert_eq!(stopped.containers.unwrap()[0].exit_code, Some(143));
    assert_eq!(stopped.attachments.unwrap()[0].status.as_deref(), Some("DELETED"));
    assert_eq!(world.ecs().control.view().interfaces.len(), 0, "the address is free again");

    // Late and repeated reports are taken and change nothing.
    world.submit(&arn, "RUNNING", None, "").await;
    assert_eq!(world.describe(&arn).version, stopped.version);
}

#[tokio::test]
async fn the_tags_of_a_tasks_interface_go_with_it() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let arn = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    let order = agent.order().await;
    agent.ack(&order).await;
    world.wait(&arn, "PENDING").await;
    let control = &world.ecs().control;
    let tagged = control.decide(|view, _| {
        let interface = view.interfaces.iter().next().unwrap();
        let mut batch = Batch::on(view);
        batch.put(Ec2Tags {
            account: interface.owner.account,
            resource: interface.eni.as_str().into(),
            tags: Tags::from([("team".to_owned(), "web".to_owned())]),
        });
        Ok((batch, ()))
    });
    tagged.await.unwrap();
    assert_eq!(control.view().ec2_tags.len(), 1);
    world.stop(&arn, "enough").await;
    world.submit(&arn, "STOPPED", Some(143), "").await;
    assert_eq!(control.view().ec2_tags.len(), 0);
}

#[tokio::test]
async fn a_fargate_task_waits_for_an_instance_and_is_sent_as_soon_as_one_connects() {
    let world = World::new().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    assert_eq!(world.describe(&task).last_status.as_deref(), Some("PROVISIONING"));
    let mut agent = world.agent().await;
    assert_eq!(agent.order().await["tasks"][0]["arn"], task.as_str());
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_to_the_next_session_and_the_first_is_retired() {
    let world = World::new().await;
    let mut first = world.agent().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    let order = first.order().await;
    let mut second = world.connect(&first.instance).await;
    let manifest = second.expect("TaskManifestMessage").await;
    assert_eq!(manifest["tasks"][0]["taskArn"], task.as_str());
    assert!(manifest["timeline"].as_u64() > order["seqNum"].as_u64(), "strictly growing");
    let again = second.order().await;
    // With keys of its own.
    let without_keys = |order: &Value| {
        let mut task = order["tasks"][0].clone();
        task["executionRoleCredentials"].take();
        task
    };
    assert_eq!(without_keys(&again), without_keys(&order));
    assert!(again["seqNum"].as_u64() > manifest["timeline"].as_u64());
    // After which an agent waits before it comes back.
    assert_eq!(first.close_code().await, 1008);
    assert_eq!(world.describe_instance(&second.instance).agent_connected, Some(true));
}

#[tokio::test]
async fn an_agent_that_leaves_is_shown_as_gone() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let instance = world.describe_instance(&agent.instance);
    assert_eq!(instance.agent_connected, Some(true));
    assert_eq!(instance.version_info.unwrap().agent_version.as_deref(), Some("1.0"));
    agent.socket.close(None).await.unwrap();
    let answered = tokio::time::timeout(PATIENCE, async {
        while let Some(frame) = agent.socket.next().await {
            if matches!(frame, Ok(Message::Close(_))) {
                return true;
            }
        }
        false
    });
    assert!(answered.await.unwrap(), "its close frame is answered");
    world.wait_disconnected(&agent.instance).await;
}

#[tokio::test]
async fn a_task_is_out_of_reach_while_its_agent_is_away_and_has_its_instances_architecture() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    agent.order().await;
    world.submit(&task, "RUNNING", None, "").await;
    let connected = world.describe(&task);
    let word = |shown: &ecs_api::Task| shown.connectivity.as_ref().map(ToString::to_string);
    assert_eq!(word(&connected).as_deref(), Some("CONNECTED"));
    agent.socket.close(None).await.unwrap();
    world.wait_disconnected(&agent.instance).await;
    let away = world.describe(&task);
    assert_eq!(word(&away).as_deref(), Some("DISCONNECTED"));
    assert_eq!(away.last_status.as_deref(), Some("RUNNING"));
    let named = away.attributes.unwrap();
    assert!(named.iter().any(|each| each.name.as_deref() == Some("ecs.cpu-architecture")));
}

#[tokio::test]
async fn a_host_that_lost_its_state_takes_its_old_instance_and_tasks_with_it() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    agent.order().await;
    world.submit(&task, "RUNNING", None, "").await;
    agent.socket.close(None).await.unwrap();
    world.wait_disconnected(&agent.instance).await;
    let fresh = world.agent().await;
    assert_ne!(fresh.instance, agent.instance);
    assert_eq!(world.describe(&task).stop_code.unwrap().as_str(), "TerminationNotice");
    assert_eq!(world.ecs().control.view().interfaces.len(), 0);
}

#[tokio::test]
async fn only_tasks_that_are_not_wanted_may_be_stopped_after_a_manifest() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let wanted = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    let mut agent = {
        agent.order().await;
        world.connect(&agent.instance).await
    };
    let manifest = agent.expect("TaskManifestMessage").await;
    let stranger =
        "arn:aws:ecs:us-east-1:000000000000:task/default/00112233445566778899aabbccddeeff";
    let candidate = |arn: &str| json!({"taskArn": arn, "desiredStatus": "STOPPED"});
    let candidates = [candidate(&wanted), candidate(stranger)];
    let message = json!({"messageId": manifest["messageId"], "stopCandidates": candidates});
    agent.say("TaskStopVerificationMessage", message).await;
    let answer = agent.expect("TaskStopVerificationAck").await;
    assert_eq!(answer["messageId"], manifest["messageId"]);
    assert_eq!(answer["stopTasks"].as_array().unwrap().len(), 1);
    assert_eq!(answer["stopTasks"][0]["taskArn"], stranger);
}

#[tokio::test]
async fn sockets_of_a_region_that_shuts_down_are_told_so() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    world.test.sessions.close();
    assert_eq!(agent.close_code().await, 1001);
}

#[tokio::test]
async fn hosts_that_joined_speak_for_none_of_each_others_instances_and_tasks() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    agent.order().await;
    let hosts = ["A", "B"].map(|letter| {
        let access_key = format!("LSNK{}", letter.repeat(16));
        Caller { access_key, ..world.test.node() }
    });
    let is_of_the_first = world.ecs().control.decide(|view, _| {
        let mut row = Instance::clone(view.instances.iter().next().unwrap());
        row.access_key = Some(holder(&hosts[0].access_key).to_owned());
        let mut batch = Batch::on(view);
        batch.put(row);
        Ok((batch, ()))
    });
    is_of_the_first.await.unwrap();
    let submit = async |caller: &Caller| {
        let input = ecs_api::SubmitTaskStateChangeRequest {
            task: Some(task.clone()),
            status: Some("STOPPED".to_owned()),
            ..Default::default()
        };
        submit_state_change::task(world.ecs(), caller, input).await
    };
    let refused = submit(&hosts[1]).await.unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
    assert_ne!(world.describe(&task).last_status.as_deref(), Some("STOPPED"));
    for socket in ["acs", "tcs"] {
        let url = format!("{}&as={}", world.url(socket, &agent.instance), hosts[1].access_key);
        let Err(Error::Http(refused)) = tokio_tungstenite::connect_async(url).await else {
            panic!("the handshake must be refused")
        };
        let body = String::from_utf8(refused.into_body().unwrap()).unwrap();
        assert!(body.contains("AccessDeniedException"), "{body}");
    }
    submit(&hosts[0]).await.unwrap();
    world.wait(&task, "STOPPED").await;
}

#[tokio::test]
async fn who_breaks_the_rules_of_websockets_is_told_which() {
    let world = World::new().await;
    let too_large = [&[0x81, 0xff][..], &(5_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    for (bytes, code) in [
        (&too_large[..], 1009),
        (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], 1007),
        (&[0x81, 0x02, b'h', b'i'], 1002),
    ] {
        let mut agent = world.agent().await;
        agent.say_raw(bytes).await;
        assert_eq!(agent.close_code().await, code);
    }
}

#[tokio::test]
async fn a_deregistered_instance_is_refused_by_name() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    let input = ecs_api::DeregisterContainerInstanceRequest {
        container_instance: Some(agent.instance.clone()),
        force: Some(true),
        ..Default::default()
    };
    let (ecs, root) = (world.ecs(), world.root());
    deregister_container_instance::handle(ecs, &root, input).await.unwrap();
    let (code, reason) = agent.close_frame().await;
    assert_eq!((code, &*reason), (1000, "this container instance was deregistered"));
    let Err(Error::Http(refused)) =
        tokio_tungstenite::connect_async(world.url("acs", &agent.instance)).await
    else {
        panic!("the handshake must be refused")
    };
    let body = String::from_utf8(refused.into_body().unwrap()).unwrap();
    assert!(body.contains("InactiveInstanceException"), "{body}");
    let lost = world.describe(&task);
    assert_eq!(lost.last_status.as_deref(), Some("STOPPED"));
    assert_eq!(lost.stop_code.unwrap().as_str(), "TerminationNotice");
}

/// Policies are asked about the ARN that is named; it must be the one that is answered for.
#[tokio::test]
async fn a_socket_of_an_instance_by_a_false_cluster_or_region_is_refused() {
    let world = World::new().await;
    let agent = world.agent().await;
    for (ours, false_one) in [(":us-east-1:", ":eu-west-1:"), ("/default/", "/prod/")] {
        let named = agent.instance.replace(ours, false_one);
        assert_ne!(named, agent.instance);
        let Err(Error::Http(refused)) =
            tokio_tungstenite::connect_async(world.url("acs", &named)).await
        else {
            panic!("{named} must be refused")
        };
        let body = String::from_utf8(refused.into_body().unwrap()).unwrap();
        assert!(body.contains("InactiveInstanceException"), "{body}");
    }
}

#[tokio::test]
async fn health_checks_and_instance_status_come_over_telemetry() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    agent.order().await;
    world.submit(&task, "RUNNING", None, "").await;
    let (mut telemetry, _) =
        tokio_tungstenite::connect_async(world.url("tcs", &agent.instance)).await.unwrap();
    let health = json!({"type": "PublishHealthRequest", "message": {"tasks": [
        {"taskArn": task, "containers": [{"containerName": "web", "healthStatus": "HEALTHY"}]}]}});
    let status = json!({"type": "PublishInstanceStatusRequest", "message": {"statuses": [
        {"type": "ContainerRuntime", "status": "OK"}]}});
    let metrics = json!({"type": "PublishMetricsRequest", "message": {"taskMetrics": [
        {"taskArn": task, "containerMetrics": [{"containerName": "web"}]}]}});
    for (frame, answer) in [
        (health, "AckPublishHealth"),
        (status, "AckPublishInstanceStatus"),
        (metrics, "AckPublishMetric"),
    ] {
        let frame = format!("Authorization: AWS4\r\nHost: x\r\n\r\n{frame}");
        telemetry.send(Message::text(frame)).await.unwrap();
        loop {
            let next = tokio::time::timeout(PATIENCE, telemetry.next()).await.unwrap();
            if next.unwrap().unwrap().to_text().unwrap().contains(answer) {
                break;
            }
        }
    }
    let shown = world.describe(&task);
    assert_eq!(shown.health_status.unwrap().as_str(), "HEALTHY");
    let instance = world.describe_instance(&agent.instance);
    assert_eq!(instance.health_status.unwrap().overall_status.unwrap().as_str(), "OK");
    let id = task.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(world.test.sessions.metrics(id).unwrap()[0]["containerName"], "web");
}

#[tokio::test]
async fn an_order_is_on_its_way_as_soon_as_the_task_is_durable() {
    let world = World::new().await;
    let large = world.register(&world.test.node(), 64 * 256, 64 * 512).await;
    let mut agent = world.connect(&large).await;
    agent.expect("TaskManifestMessage").await;
    // The first one pays for what is read once.
    world.run(|_| {}).await;
    agent.order().await;
    let mut took: Vec<_> = Vec::new();
    for _ in 0..50 {
        world.run(|_| {}).await;
        let answered = tokio::time::Instant::now();
        agent.order().await;
        took.push(answered.elapsed());
    }
    took.sort();
    // Far below any timer: nothing here is polled.
    assert!(took[25] < std::time::Duration::from_millis(20), "median {:?}", took[25]);
    println!("answer to order: median {:?}, worst {:?}", took[25], took[49]);
}

#[tokio::test]
async fn an_agent_that_makes_no_interfaces_is_sent_one_and_the_task_follows_once_it_is_there() {
    let world = World::new().await;
    // Amazon's agent, with the account's own key, and without our attributes.
    let arn = world.register(&world.root(), 4096, 8192).await;
    let mut agent = world.connect_as_root(&arn).await;
    agent.expect("TaskManifestMessage").await;
    let answer = world.run(|input| input.launch_type = Some(ecs_api::LaunchType::Ec2)).await;
    let task = answer.tasks.unwrap().remove(0);
    let arn = task.task_arn.unwrap();
    let attach = agent.expect("AttachTaskNetworkInterfacesMessage").await;
    assert_eq!(attach["taskArn"], arn.as_str());
    let attachment = attach["elasticNetworkInterfaces"][0]["attachmentArn"].as_str().unwrap();
    agent.ack(&attach).await;
    let change = ecs_api::AttachmentStateChange {
        attachment_arn: Some(attachment.to_owned()),
        status: Some("ATTACHED".to_owned()),
    };
    let input = ecs_api::SubmitTaskStateChangeRequest {
        task: Some(arn.clone()),
        attachments: Some(vec![change]),
        ..Default::default()
    };
    let root = world.root();
    crate::submit_state_change::task(world.ecs(), &root, input).await.unwrap();
    assert_eq!(agent.order().await["tasks"][0]["arn"], arn.as_str());
    assert_eq!(world.describe(&arn).last_status.as_deref(), Some("PENDING"));
}
