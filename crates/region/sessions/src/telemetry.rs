//! The telemetry socket (TCS): figures, verdicts of health checks and the instance's own state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acs::telemetry::{
    InstanceStatus, TaskHealth, TaskMetric, Telemetry, telemetry_ack, telemetry_heartbeat,
};
use aws_wire::ApiError;
use futures_util::{SinkExt, StreamExt};
use longshore_types::{Chain, TaskArn};
use model::instance::InstanceHealth;
use model::task::{Health, HealthReport, Input};
use model::{Instance, Task};
use serde_json::Value;
use store::Batch;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tracing::{debug, warn};

use super::handshake::Socket;
use crate::Sessions;
use crate::farewell;

/// How often an agent hears from us.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How long one frame may take to leave.
const SEND_MAX: Duration = Duration::from_secs(10);
/// The most parts whose state is kept of one instance.
const PARTS_MAX: usize = 16;
/// What the figures of one task may weigh: some three times those of ten containers.
const FIGURES_WEIGHT_MAX: usize = 128 << 10;
/// Of each value in them, besides its text.
const VALUE_WEIGHT: usize = 32;

/// Serves one socket until it ends.
pub(super) async fn serve(sessions: &Sessions, instance: &Instance, mut socket: Socket) {
    let mut heartbeat = interval(HEARTBEAT);
    let closing = sessions.closing();
    tokio::pin!(closing);
    loop {
        let answer = tokio::select! {
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => hear(sessions, instance, text.as_str()).await,
                Some(Ok(Message::Close(_))) => return farewell::answer_close(&mut socket).await,
                Some(Err(error)) => return farewell::after(&mut socket, &error).await,
                None => return,
                Some(Ok(_)) => None,
            },
            _ = heartbeat.tick() => Some(telemetry_heartbeat()),
            () = &mut closing => {
                return farewell::close(&mut socket, CloseCode::Away, "going away").await;
            }
        };
        if let Some(answer) = answer {
            match timeout(SEND_MAX, socket.send(Message::text(answer))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// Takes one frame in and says what to answer.
async fn hear(sessions: &Sessions, instance: &Instance, frame: &str) -> Option<String> {
    let said = match Telemetry::from_frame(frame) {
        Ok(said) => said,
        Err(error) => {
            warn!(instance = %instance.id, error = %Chain(&error), "unreadable telemetry");
            return None;
        }
    };
    let acknowledgement = said.acknowledgement();
    let taken = match said {
        Telemetry::Metrics(tasks) => {
            keep_metrics(sessions, instance, tasks);
            Ok(())
        }
        Telemetry::Health(tasks) => take_health(sessions, instance, tasks).await,
        Telemetry::InstanceStatus(parts) => take_status(sessions, instance, &parts).await,
        Telemetry::Other { kind } => {
            debug!(%kind, "telemetry passed over");
            Ok(())
        }
    };
    if let Err(error) = taken {
        warn!(instance = %instance.id, error = %Chain(&error), "telemetry was not recorded");
        return None;
    }
    acknowledgement.map(|kind| telemetry_ack(kind, sessions.control.clock.now()))
}

/// Only of tasks that are on the instance, so that no more is kept than there are tasks.
fn keep_metrics(sessions: &Sessions, instance: &Instance, tasks: Vec<TaskMetric<Value>>) {
    let view = sessions.control.view();
    for each in tasks {
        let Ok(arn) = each.task_arn.parse::<TaskArn>() else { continue };
        let task = view.tasks.get(arn.scope.account, &arn.id);
        let is_here = |task: &&Arc<Task>| task.occupies() && task.instance == Some(instance.id);
        if let Some(task) = task.filter(is_here) {
            let mut left = FIGURES_WEIGHT_MAX;
            if takes(&each.container_metrics, &mut left) {
                sessions.tell_usage(task, instance, &each.container_metrics);
                sessions.keep_metrics(arn.id, each.container_metrics);
            } else {
                warn!(instance = %instance.id, task = %arn.id, "figures of a task are too many to be kept");
            }
        }
    }
}

/// Whether a value weighs no more than what is left, of which it takes its weight.
fn takes(value: &Value, left: &mut usize) -> bool {
    let text = match value {
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => 0,
    };
    if !takes_bytes(VALUE_WEIGHT + text, left) {
        return false;
    }
    match value {
        Value::Array(items) => items.iter().all(|item| takes(item, left)),
        Value::Object(members) => members
            .iter()
            .all(|(name, member)| takes_bytes(name.len(), left) && takes(member, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn takes_bytes(bytes: usize, left: &mut usize) -> bool {
    let rest = left.checked_sub(bytes);
    *left = rest.unwrap_or_default();
    rest.is_some()
}

async fn take_health(
    sessions: &Sessions,
    instance: &Instance,
    tasks: Vec<TaskHealth>,
) -> Result<(), ApiError> {
    for each in tasks {
        let Ok(arn) = each.task_arn.parse::<TaskArn>() else { continue };
        let view = sessions.control.store.latest();
        let task = view.tasks.get(arn.scope.account, &arn.id);
        let Some(task) = task.filter(|task| task.instance == Some(instance.id)) else { continue };
        let verdicts: Vec<HealthReport> = each
            .containers
            .into_iter()
            .map(|said| HealthReport {
                container: said.container_name,
                health: match said.health_status.as_str() {
                    "HEALTHY" => Health::Healthy,
                    "UNHEALTHY" => Health::Unhealthy,
                    _ => Health::Unknown,
                },
            })
            .collect();
        let input = Input::HealthReported(verdicts);
        // Most reports say again what is known: those cost no commit.
        if model::task::step(task, &input, sessions.control.clock.now()).is_some() {
            sessions.control.feed(&arn, &input).await?;
        }
    }
    Ok(())
}

/// `ContainerRuntime` from the agent is `CONTAINER_RUNTIME` in answers.
fn part_name(kind: &str) -> String {
    let mut name = String::with_capacity(kind.len() + 4);
    for (index, letter) in kind.char_indices() {
        if letter.is_ascii_uppercase()
            && index > 0
            && !name.ends_with('_')
            && kind.contains(char::is_lowercase)
        {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

async fn take_status(
    sessions: &Sessions,
    instance: &Instance,
    parts: &[InstanceStatus],
) -> Result<(), ApiError> {
    let said: BTreeMap<String, &str> =
        parts.iter().map(|part| (part_name(&part.kind), part.status.as_str())).collect();
    let decided = sessions.control.decide(|view, now| {
        let mut batch = Batch::on(view);
        if let Some(row) = view.instances.get(instance.scope.account, &instance.id) {
            let mut next = Instance::clone(row);
            for (kind, status) in said.iter().take(PARTS_MAX) {
                match next.health.iter_mut().find(|part| part.kind == *kind) {
                    Some(part) if part.status == *status => {}
                    Some(part) => {
                        part.status = (*status).to_owned();
                        (part.updated_at, part.changed_at) = (now, now);
                    }
                    None => next.health.push(InstanceHealth {
                        kind: kind.clone(),
                        status: (*status).to_owned(),
                        updated_at: now,
                        changed_at: now,
                    }),
                }
            }
            next.health.truncate(PARTS_MAX);
            if next != **row {
                next.version += 1;
                batch.put(next);
            }
        }
        Ok((batch, ()))
    });
    decided.await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_of_ten_containers_are_kept_and_what_a_lying_host_makes_up_is_not() {
        let is_kept = |figures: Value| takes(&figures, &mut { FIGURES_WEIGHT_MAX });
        let set = json!({"min": 1.5, "max": 2.5, "sampleCount": 20, "sum": 40.25});
        let names = (0..20).map(|number| (format!("statsSetOfKind{number}"), set.clone()));
        let container: serde_json::Map<String, Value> = names.collect();
        assert!(is_kept(json!(vec![container; 10])));
        assert!(!is_kept(json!("x".repeat(FIGURES_WEIGHT_MAX))));
        assert!(!is_kept(json!([{("x".repeat(FIGURES_WEIGHT_MAX)): 1}])));
        assert!(!is_kept(json!(vec![0; FIGURES_WEIGHT_MAX / VALUE_WEIGHT])));
    }

    #[test]
    fn parts_are_named_as_the_api_names_them() {
        assert_eq!(part_name("ContainerRuntime"), "CONTAINER_RUNTIME");
        assert_eq!(part_name("CONTAINER_RUNTIME"), "CONTAINER_RUNTIME");
        assert_eq!(part_name("Daemon"), "DAEMON");
    }
}
