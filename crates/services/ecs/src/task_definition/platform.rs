//! What each launch type allows, and which ones a definition is compatible with.

use ecs_api::{
    ContainerDefinition, IpcMode, LogConfiguration, LogDriver, PidMode, ResourceType, UlimitName,
};
use model::{Compatibility, NetworkMode};

use super::requirements::is_ecr_image;
use super::{Check, Draft, list, name, text};
use crate::errors::Refusal;

/// CPU units, then memory in MiB: the least, the most, and the step between.
const FARGATE_SIZES: &[(u32, u32, u32, u32)] = &[
    (256, 512, 2048, 512),
    (512, 1024, 4096, 1024),
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16_384, 1024),
    (4096, 8192, 30_720, 1024),
    (8192, 16_384, 61_440, 4096),
    (16_384, 32_768, 122_880, 8192),
];

const FARGATE_TIMEOUT_S_MAX: i32 = 120;

/// Refuses what a launch type that the definition asks for does not allow; names the others that
/// would do.
pub(super) fn compatibilities(draft: &Draft) -> Result<Vec<Compatibility>, Refusal> {
    let mut compatible = Vec::new();
    for (launch, check) in [
        (Compatibility::External, check_external as fn(&Draft) -> Check),
        (Compatibility::Ec2, check_ec2),
        (Compatibility::Fargate, check_fargate),
        (Compatibility::ManagedInstances, check_managed),
    ] {
        let is_required = draft.requires.contains(&launch);
        match check(draft) {
            Ok(()) if is_required || is_found_out(draft, launch) => compatible.push(launch),
            Ok(()) => {}
            Err(refusal) if is_required => return Err(refusal),
            Err(_) => {}
        }
    }
    Ok(compatible)
}

/// What ECS asks of a compatibility that nobody asked for, beyond its rules.
fn is_found_out(draft: &Draft, launch: Compatibility) -> bool {
    match launch {
        Compatibility::Ec2 | Compatibility::Fargate => true,
        Compatibility::External => draft.request.runtime_platform.is_none(),
        Compatibility::ManagedInstances => draft.mode == Some(NetworkMode::Awsvpc),
    }
}

/// Nothing is fetched or written for a task on Fargate but in its execution role. Secrets need one everywhere.
fn check_execution_role(draft: &Draft) -> Check {
    if !text(&draft.request.execution_role_arn).is_empty() {
        return Ok(());
    }
    let refuse = |what: &str| {
        Err(Refusal::client(format!(
            "Fargate requires task definition to have execution role ARN to support {what}."
        )))
    };
    for container in draft.containers() {
        let log = container.log_configuration.as_ref();
        if is_ecr_image(text(&container.image)) {
            return refuse("ECR images");
        }
        if log.is_some_and(|log| log.log_driver == Some(LogDriver::Awslogs)) {
            return refuse("log driver awslogs");
        }
    }
    Ok(())
}

fn check_ec2(_: &Draft) -> Check {
    Ok(())
}

fn check_external(draft: &Draft) -> Check {
    if draft.effective_mode() == NetworkMode::Awsvpc {
        return Err(Refusal::client("External tasks do not support network mode 'awsvpc'."));
    }
    let has_accelerator = !list(&draft.request.inference_accelerators).is_empty();
    let has_file_system = list(&draft.request.volumes).iter().any(|volume| {
        volume.efs_volume_configuration.is_some()
            || volume.fsx_windows_file_server_volume_configuration.is_some()
    });
    if has_accelerator || has_file_system || draft.request.proxy_configuration.is_some() {
        return Err(Refusal::client(
            "External tasks do not support inference accelerators, EFS or FSx volumes, or a \
             proxyConfiguration.",
        ));
    }
    Ok(())
}

fn check_managed(draft: &Draft) -> Check {
    if matches!(draft.effective_mode(), NetworkMode::Awsvpc | NetworkMode::Host) {
        return Ok(());
    }
    Err(Refusal::client("Managed instances only support the network modes awsvpc and host."))
}

fn check_fargate(draft: &Draft) -> Check {
    if draft.mode != Some(NetworkMode::Awsvpc) {
        return Err(Refusal::client("Fargate only supports network mode ‘awsvpc’."));
    }
    check_fargate_size(draft)?;
    check_fargate_modes(draft)?;
    if !list(&draft.request.placement_constraints).is_empty() {
        return Err(unsupported("placementConstraints"));
    }
    if !list(&draft.request.inference_accelerators).is_empty() {
        return Err(unsupported("inferenceAccelerators"));
    }
    for volume in list(&draft.request.volumes) {
        if volume.host.as_ref().is_some_and(|host| host.source_path.is_some()) {
            return Err(unsupported("host.sourcePath"));
        }
        if volume.docker_volume_configuration.is_some() {
            return Err(unsupported("dockerVolumeConfiguration"));
        }
        if volume.fsx_windows_file_server_volume_configuration.is_some() {
            return Err(unsupported("fsxWindowsFileServerVolumeConfiguration"));
        }
    }
    let mut containers = draft.containers().iter();
    containers.try_for_each(|container| check_fargate_container(draft, container))?;
    check_execution_role(draft)
}

fn check_fargate_size(draft: &Draft) -> Check {
    let Some(cpu) = draft.cpu else {
        return Err(Refusal::client("Fargate requires that 'cpu' be defined at the task level."));
    };
    let Some(memory) = draft.memory else {
        return Err(Refusal::client(
            "Fargate requires that 'memory' be defined at the task level.",
        ));
    };
    let is_offered = FARGATE_SIZES.iter().any(|&(units, least, most, step)| {
        units == cpu.0
            && (least..=most).contains(&memory.0)
            && (memory.0 - least).is_multiple_of(step)
    });
    // The smallest size has 0.5, 1 and 2 GB, and nothing between one and two.
    if !is_offered || (cpu.0, memory.0) == (256, 1536) {
        return Err(Refusal::client("No Fargate configuration exists for given values."));
    }
    Ok(())
}

fn check_fargate_modes(draft: &Draft) -> Check {
    if draft.request.pid_mode == Some(PidMode::Host) {
        return Err(Refusal::client(
            "Tasks using the Fargate launch type do not support pidMode 'host'. The supported \
             value for pidMode is 'task'.",
        ));
    }
    match draft.request.ipc_mode {
        None | Some(IpcMode::None_) => Ok(()),
        Some(_) => {
            Err(Refusal::client("Tasks using the Fargate launch type do not support ipcMode."))
        }
    }
}

fn check_fargate_container(draft: &Draft, container: &ContainerDefinition) -> Check {
    if container.privileged == Some(true) {
        return Err(unsupported("privileged"));
    }
    if !list(&container.links).is_empty() {
        return Err(unsupported("links"));
    }
    if !list(&container.docker_security_options).is_empty() {
        return Err(unsupported("dockerSecurityOptions"));
    }
    if list(&container.ulimits).iter().any(|ulimit| ulimit.name != Some(UlimitName::Nofile)) {
        return Err(unsupported("ulimits other than nofile"));
    }
    let needs = list(&container.resource_requirements);
    if needs.iter().any(|need| need.r#type == Some(ResourceType::Gpu)) {
        return Err(unsupported("GPU resource requirements"));
    }
    for (what, seconds) in
        [("startTimeout", container.start_timeout), ("stopTimeout", container.stop_timeout)]
    {
        if seconds.is_some_and(|seconds| FARGATE_TIMEOUT_S_MAX < seconds) {
            return Err(Refusal::client(format!(
                "The {what} of container '{}' must be at most {FARGATE_TIMEOUT_S_MAX} seconds on \
                 Fargate.",
                name(container)
            )));
        }
    }
    check_fargate_linux(container)?;
    check_fargate_logging(draft, container)
}

fn check_fargate_linux(container: &ContainerDefinition) -> Check {
    let Some(linux) = &container.linux_parameters else { return Ok(()) };
    let added = linux.capabilities.as_ref().map(|c| list(&c.add)).unwrap_or_default();
    if added.iter().any(|capability| capability != "SYS_PTRACE") {
        return Err(unsupported("adding capabilities other than SYS_PTRACE"));
    }
    for (what, is_there) in [
        ("devices", !list(&linux.devices).is_empty()),
        ("sharedMemorySize", linux.shared_memory_size.is_some()),
        ("tmpfs", !list(&linux.tmpfs).is_empty()),
        ("maxSwap", linux.max_swap.is_some()),
        ("swappiness", linux.swappiness.is_some()),
    ] {
        if is_there {
            return Err(unsupported(what));
        }
    }
    Ok(())
}

fn check_fargate_logging(draft: &Draft, container: &ContainerDefinition) -> Check {
    let Some(log) = &container.log_configuration else { return Ok(()) };
    match &log.log_driver {
        Some(LogDriver::Awslogs) => {
            let prefix = log.options.as_ref().and_then(|o| o.get("awslogs-stream-prefix").cloned());
            if text(&prefix).is_empty() {
                return Err(Refusal::client(
                    "Log driver awslogs requires options: awslogs-stream-prefix",
                ));
            }
            check_endpoint(draft, log)
        }
        None | Some(LogDriver::Splunk | LogDriver::Awsfirelens) => Ok(()),
        Some(other) => Err(unsupported(&format!("log driver {other}"))),
    }
}

/// Where lines go is the host's business, and its agent holds keys: nobody may send it elsewhere.
fn check_endpoint(draft: &Draft, log: &LogConfiguration) -> Check {
    let given = log.options.as_ref().and_then(|options| options.get("awslogs-endpoint"));
    let given = given.map(|endpoint| endpoint.trim_end_matches('/')).unwrap_or_default();
    if given.is_empty() || given.eq_ignore_ascii_case(&draft.endpoint) {
        return Ok(());
    }
    Err(unsupported(&format!(
        "log driver option awslogs-endpoint with another endpoint than this region's, {}",
        draft.endpoint
    )))
}

fn unsupported(what: &str) -> Refusal {
    Refusal::client(format!("Fargate compatible task definitions do not support {what}"))
}
