//! What ECS tells EventBridge of: tasks, deployments, services and container instances whose rows change.
//!
//! A document has the members that describing answers have, rendered by the same functions, with times as texts. What did not
//! change for who watches makes no event: a row's own notes, or what is derived elsewhere.

use std::collections::BTreeSet;

use aws_wire::codec::Record;
use aws_wire::json;
use control::ports::EventSource;
use control::told::{Changes, Told};
use ecs_api as api;
use events::Json;
use longshore_types::{ClusterArn, InstanceId, Scope, Timestamp};
use model::service::{Pause, PauseState, ServiceEvent, ServiceEventKind, ServiceStatus};
use model::{Deployment, Instance, Key, Kind, ServiceEvents, Task};
use plan::service::rollout_reason;

use crate::continue_service_deployment::hook_id;
use crate::render_instance::{self, Include};
use crate::render_task::{Seen, render_seen};
use crate::service_spec::target_type;

/// Tells of ECS's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EcsEvents;

impl EventSource for EcsEvents {
    fn source(&self) -> &'static str {
        "aws.ecs"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Task, Kind::Deployment, Kind::ServiceEvents, Kind::ContainerInstance]
    }

    fn tell(&self, changes: &Changes<'_>) -> Vec<Told> {
        let (before, after) = (changes.before, changes.after);
        let mut told = Vec::new();
        // Each is told of once, whatever of it and of its tasks changed.
        let mut instances = BTreeSet::new();
        for key in changes.keys {
            match key {
                Key::Task(account, id) => {
                    let was = before.tasks.get(*account, id).map(AsRef::as_ref);
                    let is = after.tasks.get(*account, id).map(AsRef::as_ref);
                    instances.extend(resources_changed(was, is));
                    let Some(is) = is.filter(|is| was.is_none_or(|was| differs(was, is))) else {
                        continue;
                    };
                    told.push(of_task(is, Seen::of(after, is), changes.now));
                }
                Key::Deployment(account, id) => {
                    let was = before.deployments.get(*account, id);
                    let Some(is) = after.deployments.get(*account, id) else { continue };
                    let service = after.services.get(*account, &is.service_id());
                    let is_there = service.is_some_and(|it| it.status == ServiceStatus::Active);
                    let state = |row: &Deployment| row.stage.rollout_state();
                    if is_there && was.map(|was| state(was)) != Some(state(is)) {
                        told.push(of_deployment(is, changes.now));
                    }
                    if is_there {
                        let was = was.map(AsRef::as_ref);
                        told.extend(
                            hooks_changed(was, is).filter_map(|it| of_hook(is, it, changes.now)),
                        );
                    }
                }
                Key::ServiceEvents(account, id) => {
                    let was = before.service_events.get(*account, id);
                    let Some(is) = after.service_events.get(*account, id) else { continue };
                    let last = was.and_then(|was| was.events.last()).map(|event| event.id);
                    let known = is.events.iter().position(|event| Some(event.id) == last);
                    let new = is.events.iter().skip(known.map_or(0, |at| at + 1));
                    told.extend(new.filter_map(|event| of_service(is, event)));
                }
                Key::ContainerInstance(account, id) => {
                    let was = before.instances.get(*account, id).map(AsRef::as_ref);
                    let is = after.instances.get(*account, id).map(AsRef::as_ref);
                    let Some(is) = is else { continue };
                    if was.is_none_or(|was| instance_differs(was, is)) {
                        instances.insert(is.id);
                    }
                }
                _ => {}
            }
        }
        let account = changes.keys.first().map(Key::account);
        for instance in instances.into_iter().filter_map(|id| after.instance_of_any(id)) {
            if Some(instance.scope.account) == account {
                let shown = render_instance::render(after, instance, Include::default());
                told.push(of_instance(instance, shown, changes.now));
            }
        }
        told
    }
}

/// Whether the change of a task is one that is told.
fn differs(was: &Task, is: &Task) -> bool {
    let seen = |task: &Task| {
        let interface = task.interface.as_ref().map(|interface| interface.phase);
        (task.phase, task.desired, task.times.connectivity, task.instance, interface)
    };
    let containers = |task: &Task| -> Vec<_> {
        task.containers.iter().map(|each| (each.seen.phase, each.seen.exit_code)).collect()
    };
    seen(was) != seen(is) || containers(was) != containers(is)
}

/// The container instance of which a task takes resources or gives them back, in the eyes of its owner.
fn resources_changed(was: Option<&Task>, is: Option<&Task>) -> Option<InstanceId> {
    let taken = |task: Option<&Task>| task.filter(|task| task.occupies())?.instance_arn();
    let (was, is) = (taken(was), taken(is));
    if was == is { None } else { is.or(was).map(|arn| arn.id) }
}

fn instance_differs(was: &Instance, is: &Instance) -> bool {
    let agent = |row: &Instance| {
        let agent = &row.agent;
        (agent.connected, agent.version.clone(), agent.hash.clone(), agent.docker_version.clone())
    };
    (was.status, &was.attributes, was.total) != (is.status, &is.attributes, is.total)
        || agent(was) != agent(is)
}

/// What an answer shows, with times as texts, but for members of these names.
fn document<T: Record>(shown: &T, without: &[&str]) -> Vec<(String, Json)> {
    let text = String::from_utf8(json::to_vec_with_iso_times(shown)).unwrap_or_default();
    match Json::parse(&text) {
        Ok(Json::Object(members)) => {
            members.into_iter().filter(|(name, _)| !without.contains(&name.as_str())).collect()
        }
        // It was just written.
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn member(name: &str, value: impl Into<Json>) -> (String, Json) {
    (name.to_owned(), value.into())
}

fn of_task(task: &Task, seen: Seen, now: Timestamp) -> Told {
    let mut shown = render_seen(task, false, seen);
    for attachment in shown.attachments.iter_mut().flatten() {
        attachment.r#type = Some("eni".to_owned());
    }
    for container in shown.containers.iter_mut().flatten() {
        let is_checked = task.containers.iter().any(|each| {
            each.is_health_checked && Some(each.name.as_str()) == container.name.as_deref()
        });
        container.health_status = container.health_status.take().filter(|_| is_checked);
    }
    let without = ["tags", "healthStatus", "inferenceAccelerators", "fargateEphemeralStorage"];
    let mut detail = document(&shown, &without);
    detail.push(member("updatedAt", now.iso8601()));
    Told {
        detail_type: "ECS Task State Change",
        resources: vec![task.arn().to_string()],
        detail: Json::Object(detail),
    }
}

fn of_instance(instance: &Instance, shown: api::ContainerInstance, now: Timestamp) -> Told {
    let cluster = ClusterArn { scope: instance.scope.clone(), name: instance.cluster.clone() };
    let mut detail = document(&shown, &["tags", "attachments"]);
    detail.insert(0, member("clusterArn", cluster.to_string()));
    detail.push(member("updatedAt", now.iso8601()));
    Told {
        detail_type: "ECS Container Instance State Change",
        resources: vec![instance.arn().to_string()],
        detail: Json::Object(detail),
    }
}

fn of_deployment(row: &Deployment, now: Timestamp) -> Told {
    let state = row.stage.rollout_state();
    let event_type = if row.stage.has_failed() { "ERROR" } else { "INFO" };
    let detail = vec![
        member("eventType", event_type),
        member("eventName", format!("SERVICE_DEPLOYMENT_{state}")),
        member("deploymentId", row.id.to_string()),
        member("updatedAt", now.iso8601()),
        member("reason", rollout_reason(row, &[])),
    ];
    Told {
        detail_type: "ECS Deployment State Change",
        resources: vec![row.service_arn().to_string()],
        detail: Json::Object(detail),
    }
}

/// The hooks that a deployment came to or whose state is another.
fn hooks_changed<'a>(
    was: Option<&'a Deployment>,
    is: &'a Deployment,
) -> impl Iterator<Item = &'a Pause> {
    let pauses = |row: &'a Deployment| row.shift.iter().flat_map(|shift| &shift.pauses);
    let before: Vec<_> = was.into_iter().flat_map(pauses).map(|pause| pause.state).collect();
    let is_new = move |(at, pause): &(usize, &Pause)| before.get(*at) != Some(&pause.state);
    pauses(is).enumerate().filter(is_new).map(|(_, pause)| pause)
}

fn of_hook(row: &Deployment, pause: &Pause, now: Timestamp) -> Option<Told> {
    let arn = row.arn()?.to_string();
    let event_type = match pause.state {
        PauseState::Failed | PauseState::TimedOut => "ERROR",
        PauseState::InProgress | PauseState::AwaitingAction | PauseState::Succeeded => "INFO",
    };
    let cluster = ClusterArn { scope: row.scope.clone(), name: row.cluster.clone() };
    let detail = vec![
        member("eventType", event_type),
        member("eventName", format!("HOOK_{}", pause.state.as_str())),
        member("hookId", hook_id(row, pause)),
        member("hookType", target_type(pause.run.is_some()).as_str()),
        member("expiresAt", pause.expires_at.iso8601()),
        member("lifecycleStage", pause.stage.to_string()),
        member("clusterArn", cluster.to_string()),
        member("serviceArn", row.service_arn().to_string()),
        member("serviceDeploymentArn", arn.clone()),
        member("updatedAt", now.iso8601()),
    ];
    Some(Told {
        detail_type: "ECS Hook State Change",
        resources: vec![arn],
        detail: Json::Object(detail),
    })
}

/// What of a service's own events EventBridge has a name for.
fn of_service(row: &ServiceEvents, event: &ServiceEvent) -> Option<Told> {
    let (event_type, name, more) = match &event.what {
        ServiceEventKind::SteadyState { task_set: None } => ("INFO", "SERVICE_STEADY_STATE", None),
        ServiceEventKind::SteadyState { task_set: Some(_) } => {
            ("INFO", "TASKSET_STEADY_STATE", None)
        }
        ServiceEventKind::Failing { .. } => ("WARN", "SERVICE_TASK_START_IMPAIRED", None),
        ServiceEventKind::Unplaceable { why } => {
            ("ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", Some(member("reason", lacking(why))))
        }
        ServiceEventKind::Started { .. }
        | ServiceEventKind::Stopped { .. }
        | ServiceEventKind::Unhealthy { .. }
        | ServiceEventKind::TargetsRegistered { .. }
        | ServiceEventKind::TargetsDeregistered { .. }
        | ServiceEventKind::GroupMissing { .. }
        | ServiceEventKind::DrainBegun { .. }
        | ServiceEventKind::TargetUnhealthy { .. }
        | ServiceEventKind::NeverRan { .. }
        | ServiceEventKind::DeploymentCompleted { .. }
        | ServiceEventKind::DeploymentFailed { .. }
        | ServiceEventKind::RollingBack { .. }
        | ServiceEventKind::Blocked { .. } => return None,
    };
    let scope: &Scope = &row.scope;
    let cluster = ClusterArn { scope: scope.clone(), name: row.cluster.clone() };
    let mut detail = vec![
        member("eventType", event_type),
        member("eventName", name),
        member("clusterArn", cluster.to_string()),
        member("createdAt", event.at.iso8601()),
    ];
    detail.extend(more);
    let service = longshore_types::ServiceArn {
        scope: scope.clone(),
        cluster: row.cluster.clone(),
        service: row.service.clone(),
    };
    Some(Told {
        detail_type: "ECS Service Action",
        resources: vec![service.to_string()],
        detail: Json::Object(detail),
    })
}

/// What is lacking in EventBridge's words, where it has some.
fn lacking(why: &str) -> String {
    let words = [
        ("insufficient CPU", "RESOURCE:CPU"),
        ("insufficient memory", "RESOURCE:MEMORY"),
        ("GPU", "RESOURCE:GPU"),
    ];
    let found = words.into_iter().find(|(said, _)| why.contains(said));
    found.map_or_else(|| why.to_owned(), |(_, word)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use control::testing::rows;
    use longshore_types::{SeededEnv, ServiceDeploymentId};
    use model::service::{HookAction, Lifecycle, Share, Shift};
    use model::task::{Desired, Input, Phase, Report, step};
    use model::{Row, View};

    use super::*;

    fn told(before: &View, rows: &[Row]) -> (View, Vec<Told>) {
        let mut after = before.clone();
        after.seq = before.seq.next();
        for row in rows {
            after.put(after.seq, row);
        }
        let keys: Vec<Key> = rows.iter().map(Row::key).collect();
        let (region, now) = (&"us-east-1".parse().expect("a region"), Timestamp(1_700_000_000_123));
        let changes = Changes { before, after: &after, keys: &keys, region, now };
        let told = EcsEvents.tell(&changes);
        (after, told)
    }

    fn text<'a>(told: &'a Told, name: &str) -> Option<&'a str> {
        told.detail.get(name)?.as_text()
    }

    #[test]
    fn a_tasks_document_has_the_members_that_are_published() {
        let task = rows::task(1);
        let (_, told) = told(&View::default(), &[Row::from(task.clone())]);
        let [told] = <[_; 1]>::try_from(told).unwrap();
        assert_eq!(told.detail_type, "ECS Task State Change");
        assert_eq!(told.resources, [task.arn().to_string()]);
        for name in [
            "attachments",
            "attributes",
            "clusterArn",
            "containers",
            "cpu",
            "createdAt",
            "desiredStatus",
            "enableExecuteCommand",
            "ephemeralStorage",
            "group",
            "launchType",
            "lastStatus",
            "memory",
            "overrides",
            "platformVersion",
            "taskArn",
            "taskDefinitionArn",
            "updatedAt",
            "version",
        ] {
            assert!(told.detail.get(name).is_some(), "{name} of {}", told.detail);
        }
        for name in ["tags", "healthStatus", "startedAt", "stoppedReason", "inferenceAccelerators"]
        {
            assert_eq!(told.detail.get(name), None, "{name}");
        }
        assert_eq!(text(&told, "updatedAt"), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(text(&told, "createdAt"), Some("1970-01-01T00:00:00.001Z"));
        assert_eq!(text(&told, "cpu"), Some("256"));
        let Some(Json::List(containers)) = told.detail.get("containers") else { panic!("a list") };
        for name in
            ["containerArn", "lastStatus", "name", "image", "taskArn", "networkInterfaces", "cpu"]
        {
            assert!(containers[0].get(name).is_some(), "{name} of {}", containers[0]);
        }
    }

    #[test]
    fn each_change_of_a_tasks_state_is_told_once_and_nothing_else_is() {
        let mut task = rows::task(1);
        let (mut view, first) = told(&View::default(), &[Row::from(task.clone())]);
        assert_eq!(first.len(), 1);
        let reports = [Phase::Pending, Phase::Running, Phase::Stopped];
        let reported = reports
            .map(|phase| Input::Reported(Report { phase: Some(phase), ..Report::default() }));
        let stop = Input::StopRequested { reason: None };
        let inputs =
            [vec![Input::Delivered], reported[..2].to_vec(), vec![stop], reported[2..].to_vec()];
        let mut version = 0;
        for input in inputs.into_iter().flatten() {
            let Some(next) = step(&task, &input, Timestamp(9)) else { continue };
            let (after, told) = told(&view, &[Row::from(next.clone())]);
            let state = |task: &Task| (task.phase, task.desired, task.times.connectivity);
            let expected = usize::from(state(&task) != state(&next));
            assert_eq!(told.len(), expected, "{input:?}");
            for event in &told {
                assert_eq!(text(event, "lastStatus"), Some(next.phase.as_str()));
                let Some(Json::Number(number)) = event.detail.get("version") else {
                    panic!("a number")
                };
                let number: u64 = number.parse().unwrap();
                assert!(version < number, "{version} {number}");
                version = number;
            }
            (task, view) = (next, after);
        }
        assert_eq!(task.desired, Desired::Stopped);
        // What its service notes of it is nobody's business.
        let noted = Task { version: task.version + 1, protected_until: Some(Timestamp(5)), ..task };
        assert_eq!(self::told(&view, &[Row::from(noted)]).1, []);
    }

    #[test]
    fn an_instance_is_told_of_when_it_or_what_is_left_of_it_changes() {
        let id = InstanceId::from_bytes([1; 16]);
        let instance = rows::instance(id);
        let (view, told) = self::told(&View::default(), &[Row::from(instance.clone())]);
        assert_eq!(told.len(), 1);
        let event = &told[0];
        assert_eq!(event.detail_type, "ECS Container Instance State Change");
        assert_eq!(event.resources, [instance.arn().to_string()]);
        for name in [
            "agentConnected",
            "attributes",
            "clusterArn",
            "containerInstanceArn",
            "registeredResources",
            "remainingResources",
            "status",
            "version",
            "versionInfo",
            "updatedAt",
        ] {
            assert!(event.detail.get(name).is_some(), "{name} of {}", event.detail);
        }
        let mut noted = instance.clone();
        noted.agent.heard_at = Some(Timestamp(7));
        assert_eq!(self::told(&view, &[Row::from(noted)]).1, []);
        let mut away = instance.clone();
        away.agent.connected = !away.agent.connected;
        assert_eq!(self::told(&view, &[Row::from(away)]).1.len(), 1);
        // Two tasks that take of it are one change of what is left.
        let tasks = [2, 3].map(|seed| {
            let mut task = rows::task(seed);
            task.launch = model::task::LaunchType::Ec2;
            task.scope = instance.scope.clone();
            task.cluster = instance.cluster.clone();
            Row::from(task)
        });
        let (_, told) = self::told(&view, &tasks);
        let of = |what: &str| told.iter().filter(|event| event.detail_type == what).count();
        assert_eq!(of("ECS Container Instance State Change"), 1);
        assert_eq!(of("ECS Task State Change"), 2);
    }

    #[test]
    fn each_state_of_a_deployments_hook_is_told_once() {
        let env = SeededEnv::from_seed(1);
        let [Row::Deployment(row), _] =
            rows::connected_service(&rows::task_of_service(1), "ns-1".into(), vec![])
        else {
            panic!("the first is a deployment");
        };
        let mut was = Deployment::clone(&row);
        was.record = Some(ServiceDeploymentId::mint(&env));
        let pause = |state| Pause {
            hook: 0,
            stage: Lifecycle::PostTestTrafficShift,
            step: 0,
            state,
            expires_at: Timestamp(1_700_000_600_000),
            on_timeout: HookAction::Rollback,
            run: None,
        };
        let with = |pauses| Deployment {
            shift: Some(Shift {
                stage: Lifecycle::PostTestTrafficShift,
                since: Timestamp(1),
                step: 0,
                from: None,
                production: Share(0),
                test: Share(0),
                pauses,
                is_paused: true,
            }),
            ..was.clone()
        };
        let waiting = with(vec![pause(PauseState::AwaitingAction)]);
        let names = |was: &Deployment, is: &Deployment| -> Vec<String> {
            let told = hooks_changed(Some(was), is).filter_map(|it| of_hook(is, it, Timestamp(2)));
            told.map(|told| text(&told, "eventName").unwrap().to_owned()).collect()
        };
        assert_eq!(names(&was, &waiting), ["HOOK_AWAITING_ACTION"]);
        assert_eq!(names(&waiting, &waiting), [""; 0]);
        let next = with(vec![pause(PauseState::TimedOut), pause(PauseState::InProgress)]);
        assert_eq!(names(&waiting, &next), ["HOOK_TIMED_OUT", "HOOK_IN_PROGRESS"]);
        let hook = hooks_changed(None, &waiting).next().unwrap();
        let told = of_hook(&waiting, hook, Timestamp(1_700_000_000_123)).unwrap();
        let arn = waiting.arn().unwrap().to_string();
        assert_eq!(told.resources, std::slice::from_ref(&arn));
        for (name, value) in [
            ("eventType", "INFO"),
            ("hookType", "PAUSE"),
            ("lifecycleStage", "POST_TEST_TRAFFIC_SHIFT"),
            ("expiresAt", "2023-11-14T22:23:20.000Z"),
            ("serviceDeploymentArn", &arn),
        ] {
            assert_eq!(text(&told, name), Some(value), "{name}");
        }
        assert!(text(&told, "hookId").unwrap().starts_with("ecs-pause-"));
    }

    fn service_events(whats: &[ServiceEventKind]) -> ServiceEvents {
        let env = SeededEnv::from_seed(9);
        let task = rows::task(1);
        let event = |what: &ServiceEventKind| ServiceEvent {
            id: longshore_types::Uuid::mint(&env),
            at: Timestamp(1_700_000_000_123),
            what: what.clone(),
        };
        ServiceEvents {
            scope: task.scope.clone(),
            cluster: task.cluster.clone(),
            service: "web".parse().unwrap(),
            events: whats.iter().map(event).collect(),
            notes: model::service::ServiceNotes::default(),
        }
    }

    #[test]
    fn a_services_event_is_told_once_if_it_has_a_name() {
        let why = "The closest matching (container-instance x) has insufficient memory available.";
        let whats = [
            ServiceEventKind::Started { task_set: None, tasks: vec![] },
            ServiceEventKind::SteadyState { task_set: None },
            ServiceEventKind::Unplaceable { why: why.to_owned() },
            ServiceEventKind::Failing { why: None },
        ];
        let (view, first) = told(&View::default(), &[Row::from(service_events(&whats[..2]))]);
        let shown = |told: &[Told]| -> Vec<String> {
            let name = |it: &Told| text(it, "eventName").unwrap_or_default().to_owned();
            told.iter().map(name).collect()
        };
        assert_eq!(shown(&first), ["SERVICE_STEADY_STATE"]);
        assert_eq!(text(&first[0], "eventType"), Some("INFO"));
        assert_eq!(text(&first[0], "createdAt"), Some("2023-11-14T22:13:20.123Z"));
        let arn = "arn:aws:ecs:us-east-1:000000000000:service/demo/web";
        assert_eq!(first[0].resources, [arn]);
        let (view, more) = told(&view, &[Row::from(service_events(&whats))]);
        let expected = ["SERVICE_TASK_PLACEMENT_FAILURE", "SERVICE_TASK_START_IMPAIRED"];
        assert_eq!(shown(&more), expected);
        assert_eq!(text(&more[0], "reason"), Some("RESOURCE:MEMORY"));
        assert_eq!(told(&view, &[Row::from(service_events(&whats))]).1, []);
    }
}
