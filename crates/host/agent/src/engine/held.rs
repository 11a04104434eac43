//! The namespaces that a task's containers share: held by a process of the task's own, as its network is, so
//! that they last from before its first container until after its last, whichever of them come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandbox::{ContainerId, ContainerSpec as RunSpec, IpcMode, NetMode, PidMode};

use super::execute::ActionContext;
use super::failure::Failure;
use super::state::Prepared;
use crate::spec::{HostSpec, Sharing, TaskSpec};

/// What in the sandbox's tongue is the task's own process; `None` for a task that needs none.
pub(super) fn holder(spec: &TaskSpec) -> Option<ContainerId> {
    let is_needed = spec.pid == Sharing::Task || spec.ipc == Sharing::Task;
    let id = || format!("{}-pause", spec.arn.id).parse().expect("a task's id is a file name");
    is_needed.then(id)
}

/// What each container of the task lives in.
pub(super) fn modes(spec: &TaskSpec) -> (PidMode, IpcMode) {
    let holder = || holder(spec).expect("a task whose containers share something has a holder");
    let pid = match spec.pid {
        Sharing::Host => PidMode::Host,
        Sharing::Task => PidMode::Join(holder()),
        Sharing::Private | Sharing::None => PidMode::Private,
    };
    let ipc = match spec.ipc {
        Sharing::Host => IpcMode::Host,
        Sharing::None => IpcMode::None,
        Sharing::Task => IpcMode::Join(holder()),
        Sharing::Private => IpcMode::Private,
    };
    (pid, ipc)
}

/// What a container sets of the kernel itself: where memory is shared, what belongs to it is the task's.
pub(super) fn own_sysctls(spec: &TaskSpec, host: &HostSpec) -> BTreeMap<String, String> {
    let mut own = host.sysctls.clone();
    if spec.ipc == Sharing::Task {
        own.retain(|name, _| !is_of_ipc(name));
    }
    own
}

fn is_of_ipc(name: &str) -> bool {
    !name.starts_with("net.")
}

/// Makes the process, unless it is there or the task needs none.
pub(super) async fn hold(ctx: &ActionContext, prepared: &Prepared) -> Result<(), Failure> {
    let Some(id) = holder(&ctx.spec) else { return Ok(()) };
    let scratch = ctx.context.dirs.containers().join(id.as_str()).join("layer");
    let mut pause = RunSpec::pause(id, ctx.group_id(), scratch);
    // Not the host's: a container may look into what holds its processes.
    pause.netns = prepared.netns.clone().map_or(NetMode::Private, NetMode::Path);
    if ctx.spec.ipc == Sharing::Task {
        let containers = || ctx.spec.containers.iter().map(|container| &container.host);
        // There is one for all, and it must do for each.
        pause.shm_size = containers().filter_map(|host| host.shm_bytes).max();
        let of_ipc = containers().flat_map(|host| host.sysctls.clone());
        pause.sysctls = of_ipc.filter(|(name, _)| is_of_ipc(name)).collect();
    } else {
        pause.ipc = IpcMode::None;
    }
    let held = ctx.context.runtime.hold(pause).await;
    held.map_err(|why| Failure::Namespaces { why: Arc::new(why) })
}
