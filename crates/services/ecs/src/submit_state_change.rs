//! SubmitTaskStateChange, SubmitContainerStateChange, SubmitAttachmentStateChanges: what agents report.
//!
//! Agents repeat an event until it is taken, and drop it for good on `InvalidParameterException`: so
//! that is answered only where the event can mean nothing ever. What is late, repeated or about a
//! task that is long gone is acknowledged.

use aws_wire::{ApiError, Caller, Principal};
use control::access::may_speak_for;
use control::iam::node_keys::is_host;
use ecs_api as api;
use longshore_types::TaskArn;
use model::task::{Binding, ContainerPhase, ContainerReport, Input, Phase, Protocol, Report};
use tracing::debug;

use crate::Ecs;
use crate::errors::Refusal;

/// The longest text of a reason that is kept.
const REASON_CHARS_MAX: usize = 1_024;
const BINDINGS_MAX: usize = 1_000;

pub(super) async fn task(
    ecs: &Ecs,
    caller: &Caller,
    input: api::SubmitTaskStateChangeRequest,
) -> Result<api::SubmitTaskStateChangeResponse, ApiError> {
    let arn = task_arn(input.task.as_deref())?;
    allow(ecs, caller, "ecs:SubmitTaskStateChange", &arn, input.cluster.as_deref())?;
    if known(ecs, caller, &arn)?.is_some() {
        for change in input.attachments.iter().flatten() {
            if let Some(attached) = attached(change) {
                ecs.control.feed(&arn, &attached).await?;
            }
        }
        let report = report(input)?;
        if report != Report::default() {
            ecs.control.feed(&arn, &Input::Reported(report)).await?;
        }
    }
    Ok(api::SubmitTaskStateChangeResponse { acknowledgment: Some("ACK".to_owned()) })
}

pub(super) async fn container(
    ecs: &Ecs,
    caller: &Caller,
    input: api::SubmitContainerStateChangeRequest,
) -> Result<api::SubmitContainerStateChangeResponse, ApiError> {
    let arn = task_arn(input.task.as_deref())?;
    allow(ecs, caller, "ecs:SubmitContainerStateChange", &arn, input.cluster.as_deref())?;
    if known(ecs, caller, &arn)?.is_some() {
        let container = api::ContainerStateChange {
            container_name: input.container_name,
            image_digest: None,
            runtime_id: input.runtime_id,
            exit_code: input.exit_code,
            network_bindings: input.network_bindings,
            reason: input.reason,
            status: input.status,
        };
        let report = Report { containers: vec![container_report(container)], ..Report::default() };
        ecs.control.feed(&arn, &Input::Reported(report)).await?;
    }
    Ok(api::SubmitContainerStateChangeResponse { acknowledgment: Some("ACK".to_owned()) })
}

/// Attachments of instances: there are none here that wait for it.
pub(super) fn attachments(
    ecs: &Ecs,
    caller: &Caller,
    input: api::SubmitAttachmentStateChangesRequest,
) -> Result<api::SubmitAttachmentStateChangesResponse, ApiError> {
    let permission =
        ecs.on_cluster(caller, "ecs:SubmitAttachmentStateChanges", input.cluster.as_deref());
    ecs.control.read(caller, &permission)?;
    Ok(api::SubmitAttachmentStateChangesResponse { acknowledgment: Some("ACK".to_owned()) })
}

/// Whether the caller may report of tasks in the cluster that this one is in, whichever the request names. The
/// region's own agent reports of every account's.
fn allow(
    ecs: &Ecs,
    caller: &Caller,
    action: &'static str,
    arn: &TaskArn,
    named: Option<&str>,
) -> Result<(), ApiError> {
    let view = ecs.control.store.latest();
    let row = view.tasks.get(caller.account, &arn.id);
    let cluster = row.map_or(named, |row| Some(row.cluster.as_str()));
    ecs.control.read(caller, &ecs.on_cluster(caller, action, cluster)).map(drop)
}

fn task_arn(given: Option<&str>) -> Result<TaskArn, ApiError> {
    let given = given.unwrap_or_default();
    given.parse().map_err(|_| Refusal::BadIdentifier { given: given.to_owned() }.into())
}

/// The task, if it is still there and the caller may speak for its instance.
fn known(ecs: &Ecs, caller: &Caller, arn: &TaskArn) -> Result<Option<()>, ApiError> {
    let view = ecs.control.store.latest();
    let Some(task) = view.tasks.get(arn.scope.account, &arn.id) else {
        debug!(task = %arn.id, "report of an unknown task acknowledged");
        return Ok(None);
    };
    // The instance is in the account of whoever may speak for it; a Fargate task may be in another.
    let instance = task.instance.and_then(|id| view.instances.get(caller.account, &id));
    let may = match instance {
        Some(instance) => may_speak_for(caller, instance),
        // Not placed, or on another's instance: nobody but the account itself, which no host is that joined.
        None => {
            let is_own = caller.account == task.scope.account;
            is_own && is_of_account(&caller.principal) && !is_host(caller)
        }
    };
    if may {
        return Ok(Some(()));
    }
    let message = "This access key does not belong to the task's container instance.";
    Err(ApiError::client("AccessDeniedException", message))
}

fn is_of_account(principal: &Principal) -> bool {
    match principal {
        Principal::Root
        | Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Federated { .. } => true,
        Principal::Node { .. } | Principal::Anonymous => false,
    }
}

fn attached(change: &api::AttachmentStateChange) -> Option<Input> {
    let id = change.attachment_arn.as_deref()?.rsplit('/').next()?;
    let attachment = id.parse().ok()?;
    (change.status.as_deref() == Some("ATTACHED")).then_some(Input::Attached { attachment })
}

fn report(input: api::SubmitTaskStateChangeRequest) -> Result<Report, ApiError> {
    let phase = match input.status.as_deref() {
        None | Some("" | "NONE") => None,
        Some("MANIFEST_PULLED" | "PULLED" | "CREATED" | "PENDING") => Some(Phase::Pending),
        Some("RUNNING") => Some(Phase::Running),
        Some("STOPPED") => Some(Phase::Stopped),
        Some(other) => {
            return Err(Refusal::invalid(format!("Invalid task status: {other}")).into());
        }
    };
    Ok(Report {
        phase,
        reason: input.reason.filter(|reason| !reason.is_empty()).map(shortened),
        containers: input.containers.into_iter().flatten().map(container_report).collect(),
        pull_started: input.pull_started_at,
        pull_stopped: input.pull_stopped_at,
        execution_stopped: input.execution_stopped_at,
    })
}

fn container_report(change: api::ContainerStateChange) -> ContainerReport {
    let phase = match change.status.as_deref() {
        Some("RUNNING" | "RESOURCES_PROVISIONED") => Some(ContainerPhase::Running),
        Some("STOPPED") => Some(ContainerPhase::Stopped),
        Some("PENDING" | "MANIFEST_PULLED" | "PULLED" | "CREATED") => Some(ContainerPhase::Pending),
        Some(_) | None => None,
    };
    let is_text = |text: &String| !text.is_empty();
    ContainerReport {
        name: change.container_name.unwrap_or_default(),
        phase,
        runtime_id: change.runtime_id.filter(is_text).map(shortened),
        image_digest: change.image_digest.filter(is_text).map(shortened),
        exit_code: change.exit_code,
        reason: change.reason.filter(is_text).map(shortened),
        bindings: change
            .network_bindings
            .into_iter()
            .flatten()
            .take(BINDINGS_MAX)
            .map(binding)
            .collect(),
    }
}

fn binding(binding: api::NetworkBinding) -> Binding {
    let port = |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok());
    Binding {
        bind_ip: binding.bind_ip,
        container_port: port(binding.container_port),
        host_port: port(binding.host_port),
        protocol: binding.protocol.map(|protocol| match protocol {
            api::TransportProtocol::Udp => Protocol::Udp,
            _ => Protocol::Tcp,
        }),
        container_port_range: binding.container_port_range,
        host_port_range: binding.host_port_range,
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}
