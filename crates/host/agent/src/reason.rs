//! The sentences that say why: AWS's leading text first, then what only this host knows.

use std::time::Duration;

use longshore_types::Chain;
use sandbox::SandboxError;

use crate::client::CallError;
use crate::engine::ObjectError;
use crate::engine::secrets::SecretError;
use crate::engine::state::{ContainerState, StopCause, TaskState};
use crate::engine::{Failure, VolumeError};
use crate::limits::{CONTAINER_REASON_MAX, LAST_LINE_MAX, OBJECT_TRIES_MAX, TASK_REASON_MAX};
use crate::logdriver::LogError;
use crate::spec::TaskSpec;

pub(crate) const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";
pub(crate) const VANISHED: &str = "ContainerVanishedError: The container was gone when the agent came back; its exit code is not known";
const ESSENTIAL: &str = "Essential container in task exited";

/// The reason of a task that has stopped; empty where the region knows best.
pub(crate) fn of_task(spec: &TaskSpec, state: &TaskState) -> String {
    let text = match &state.stop_cause {
        None | Some(StopCause::Requested) => String::new(),
        Some(StopCause::FailedToStart { reason } | StopCause::OverLimit { reason }) => {
            reason.clone()
        }
        Some(StopCause::EssentialExited { container }) => {
            let name = &spec.containers[*container].name;
            match exit_detail(spec, *container, &state.containers[*container]) {
                Some(detail) => format!("{ESSENTIAL}: container {name} {detail}"),
                None => ESSENTIAL.to_owned(),
            }
        }
    };
    fit(&text, TASK_REASON_MAX)
}

/// What is worth saying of an end that was not an ordinary one.
fn exit_detail(spec: &TaskSpec, index: usize, container: &ContainerState) -> Option<String> {
    let exit = container.exit.as_ref()?;
    let code = exit.code.filter(|code| *code != 0 || exit.oom_killed)?;
    let limit = spec.containers[index].host.memory_bytes.or(spec.memory_bytes);
    let mut text = match (exit.oom_killed, limit) {
        (true, Some(limit)) => format!(
            "was killed for using more memory than its limit of {} MiB (exit code {code})",
            limit >> 20
        ),
        (true, None) => format!("was killed because the host is out of memory (exit code {code})"),
        (false, _) => match signal_name(code) {
            Some(signal) => format!("exited with code {code} ({signal})"),
            None => format!("exited with code {code}"),
        },
    };
    if let Some(limit) = exit.pids_limit_hit {
        text.push_str(&format!(" after it was refused processes beyond its limit of {limit}"));
    }
    if let Some(line) = container.last_line.as_deref().map(str::trim).filter(|l| !l.is_empty()) {
        text.push_str(&format!("; its last line was: {}", fit(line, LAST_LINE_MAX)));
    }
    Some(text)
}

fn signal_name(code: i32) -> Option<&'static str> {
    let number = code.checked_sub(128)?;
    sandbox::Signal::try_from(number).ok().map(sandbox::Signal::as_str)
}

/// Cuts at a character boundary and shows that it did.
fn fit(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max.saturating_sub('…'.len_utf8()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", &text[..end])
}

pub(crate) fn fit_container(text: &str) -> String {
    fit(text, CONTAINER_REASON_MAX)
}

pub(crate) fn dependency(container: &str, why: &str) -> String {
    format!(
        "CannotStartContainerError: dependency graph: container \"{container}\" was not started: {why}"
    )
}

/// In the manner of [`OUT_OF_MEMORY`].
pub(crate) fn out_of_pids(limit: u64) -> String {
    format!(
        "PidsLimitError: Container was refused new processes: its task may have {limit} processes and threads"
    )
}

pub(crate) fn storage_bytes(used: u64, limit: u64) -> String {
    format!(
        "EphemeralStorageLimitError: the task used {} of ephemeral storage, and its limit is {}",
        gib(used),
        gib(limit)
    )
}

pub(crate) fn storage_files(files: u64, files_max: u64, limit: u64) -> String {
    format!(
        "EphemeralStorageLimitError: the task made {files} files, and its {} of ephemeral storage are for {files_max} at most",
        gib(limit)
    )
}

pub(crate) fn host_storage(left: u64, used: u64) -> String {
    format!(
        "HostStorageError: the disk of the task's host had only {} left, and of its tasks this one used the most, {}",
        gib(left),
        gib(used)
    )
}

/// `20 GiB`, `0.3 GiB`: rounded down, so that what is over a limit by a little may show as the limit.
fn gib(bytes: u64) -> String {
    let tenths = bytes / ((1 << 30) / 10);
    match (tenths / 10, tenths % 10) {
        (0, 0) => format!("{} MiB", bytes >> 20),
        (whole, 0) => format!("{whole} GiB"),
        (whole, tenth) => format!("{whole}.{tenth} GiB"),
    }
}

/// What is said of a failure.
pub(crate) fn of_failure(failure: &Failure) -> String {
    match failure {
        Failure::TimedOut { what, after } => timed_out(what, *after),
        Failure::ImageName { image, why } => {
            format!("CannotPullContainerError: invalid reference format: {image}: {why}")
        }
        Failure::Login { is_fargate: true, why, .. } if is_by_policy(why) => {
            unretrieved("unable to retrieve ecr registry auth", &**why)
        }
        Failure::Login { image, why, .. } => format!(
            "CannotPullECRContainerError: no credentials for the registry of {image}: {}",
            Chain(why)
        ),
        // A whole sentence already.
        Failure::Pull { why } => format!("CannotPullContainerError: {why}"),
        Failure::ImageGone { image } => {
            format!("CannotCreateContainerError: image {image} is gone")
        }
        Failure::NoCommand { image } => no_command(image),
        Failure::Group { why } | Failure::Namespaces { why } => resources(&Chain(why)),
        Failure::Network { why } => network(&Chain(why)),
        Failure::NoLease => "FenceError: This host does not hold tasks to a lease".to_owned(),
        Failure::NamespaceGone => network(&"the network namespace is gone"),
        Failure::ContainerNetwork { why } => format!(
            "CannotStartContainerError: failed to set up container networking: {}",
            Chain(why)
        ),
        Failure::Volume { why } => volume(why),
        Failure::Fill { container, why } => {
            format!("CannotCreateContainerError: container \"{container}\": {}", Chain(why))
        }
        Failure::Files { container, why } => format!(
            "CannotCreateContainerError: container \"{container}\": failed to write its files: {why}"
        ),
        Failure::Create { why } => create_or_start(why),
        Failure::Start { why } => start(why),
        Failure::Log { is_fargate, why } => log_driver(*is_fargate, why),
        Failure::Secret { is_fargate: true, why, .. } => unretrieved(why.what(), &**why),
        Failure::Secret { is_fargate: false, region, why } => secret_of_host(region, why),
        Failure::Object { is_fargate, is_config, why } => object(*is_fargate, *is_config, why),
        Failure::NoGpu { id } => resources(&format!("GPU {id} is not on this host")),
        Failure::Interrupted => resources(&"what was being done for the task was interrupted"),
    }
}

/// Whether it is the role that may not, and not the registry that is another account's.
fn is_by_policy(error: &CallError) -> bool {
    error.code() == "AccessDeniedException" && error.to_string().contains(" on resource: ")
}

/// What ECS says on Fargate.
fn unretrieved(what: &str, why: &(dyn std::error::Error + 'static)) -> String {
    format!(
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
         failed: {what}: service call has been retried 1 time(s): {}",
        Chain(why)
    )
}

/// What Amazon's agent says.
fn secret_of_host(region: &str, why: &SecretError) -> String {
    match why {
        SecretError::InvalidParameters(names) => format!(
            "ResourceInitializationError: fetching secret data from SSM Parameter Store in {region}: invalid \
             parameters: {}",
            names.join(",")
        ),
        SecretError::Parameters(why) => format!(
            "ResourceInitializationError: fetching secret data from SSM Parameter Store in {region}: {why}"
        ),
        SecretError::Secret { secret, why } if why.code() == "ResourceNotFoundException" => {
            format!(
                "ResourceInitializationError: fetching secret data from AWS Secrets Manager in region {region}: \
             ResourceNotFoundException: The task can't retrieve the secret with ARN '{secret}' from AWS \
             Secrets Manager. Check whether the secret exists in the specified Region"
            )
        }
        SecretError::Secret { secret, why } => format!(
            "ResourceInitializationError: fetching secret data from AWS Secrets Manager in region {region}: \
             secret {secret}: {why}"
        ),
        SecretError::NoKey { .. } | SecretError::NotAnArn { .. } => format!(
            "ResourceInitializationError: fetching secret data from AWS Secrets Manager in region {region}: {why}"
        ),
        SecretError::Login { .. }
        | SecretError::NotALogin
        | SecretError::NoUser
        | SecretError::NoRole => format!("CannotPullContainerAuthError: {why}"),
    }
}

/// What ECS says on Fargate of environment files, and what Amazon's agent says.
fn object(is_fargate: bool, is_config: bool, why: &ObjectError) -> String {
    const LEAD: &str = "ResourceInitializationError:";
    if is_fargate && !is_config {
        return format!(
            "{LEAD} failed to download env files: file download command: non empty error stream: service call has been \
             retried {} time(s): {why}",
            OBJECT_TRIES_MAX - 1
        );
    }
    let (what, file) = match is_config {
        true => ("s3 config", "firelens config"),
        false => ("env file", "env files"),
    };
    match why {
        ObjectError::Call { object, why } => format!(
            "{LEAD} failed to download {file}: unable to download {what} with key {} from bucket {}, error: {why}",
            object.key, object.bucket
        ),
        ObjectError::Unreadable { .. } => format!("{LEAD} failed to read {file}: {why}"),
    }
}

fn volume(error: &VolumeError) -> String {
    match error {
        VolumeError::Unknown { .. } => format!("HostConfigError: {error}"),
        VolumeError::Missing { .. }
        | VolumeError::Unsupported { .. }
        | VolumeError::NotMade { .. }
        | VolumeError::ImagesNotMade { .. } => format!("CannotCreateVolumeError: {}", Chain(error)),
    }
}

/// Docker's sentence for an image without anything to run.
fn no_command(image: &str) -> String {
    format!(
        "CannotCreateContainerError: no command specified: image {image} has neither an entry point nor a command, and the task definition names none"
    )
}

fn create(error: &SandboxError) -> String {
    format!("CannotCreateContainerError: {}", Chain(error))
}

fn start(error: &SandboxError) -> String {
    let lead = "CannotStartContainerError: failed to create task for container";
    match error {
        SandboxError::NoSuchCommand { command, looked_in } => {
            let place = if command.contains('/') {
                "no such file or directory".to_owned()
            } else {
                format!("executable file not found in $PATH ({})", looked_in.join(":"))
            };
            format!("{lead}: exec: \"{command}\": {place}")
        }
        SandboxError::NotExecutable { command, why, .. } => {
            format!("{lead}: exec: \"{command}\": {why}")
        }
        // Which begins as ours does.
        SandboxError::Engine { .. } => format!("CannotStartContainerError: {}", Chain(error)),
        SandboxError::NoSuchUser { .. }
        | SandboxError::NoSuchGroup { .. }
        | SandboxError::WorkingDirectory { .. }
        | SandboxError::Mount { .. }
        | SandboxError::Device { .. }
        | SandboxError::Limit { .. }
        | SandboxError::Invalid { .. }
        | SandboxError::AlreadyExists { .. }
        | SandboxError::NotFound { .. }
        | SandboxError::NotRunning { .. }
        | SandboxError::TimedOut { .. }
        | SandboxError::Shim { .. }
        | SandboxError::Runtime { .. }
        | SandboxError::Io { .. } => format!("{lead}: {}", Chain(error)),
    }
}

/// Creation finds out what Docker only finds out at the start; the user knows it by Docker's name.
fn create_or_start(error: &SandboxError) -> String {
    match error {
        SandboxError::NoSuchCommand { .. } | SandboxError::NotExecutable { .. } => start(error),
        _ => create(error),
    }
}

fn network(error: &dyn std::fmt::Display) -> String {
    format!("ResourceInitializationError: failed to set up the task's network: {error}")
}

fn resources(error: &dyn std::fmt::Display) -> String {
    format!("ResourceInitializationError: {error}")
}

/// What ECS says on Fargate, and what Docker says elsewhere.
fn log_driver(is_fargate: bool, why: &LogError) -> String {
    if is_fargate {
        format!("ResourceInitializationError: failed to validate logger args: {why}")
    } else {
        format!("CannotStartContainerError: failed to initialize logging driver: {why}")
    }
}

fn timed_out(what: &str, after: Duration) -> String {
    format!("DockerTimeoutError: Could not transition to {what}; timed out after waiting {after:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let text = "ä".repeat(1000);
        let cut = fit(&text, TASK_REASON_MAX);
        assert!(cut.len() <= TASK_REASON_MAX && cut.ends_with('…'), "{}", cut.len());
        assert_eq!(fit("short", TASK_REASON_MAX), "short");
    }

    #[test]
    fn a_missing_command_is_named_with_the_places_looked_in() {
        let error = SandboxError::NoSuchCommand {
            command: "nope".into(),
            looked_in: vec!["/bin".into(), "/usr/bin".into()],
        };
        assert_eq!(
            create_or_start(&error),
            "CannotStartContainerError: failed to create task for container: exec: \"nope\": \
             executable file not found in $PATH (/bin:/usr/bin)"
        );
    }
}
