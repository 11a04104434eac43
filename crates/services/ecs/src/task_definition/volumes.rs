//! Volumes and where they are mounted.

use std::collections::BTreeSet;

use ecs_api::{
    DockerVolumeConfiguration, EFSAuthorizationConfigIAM, EFSTransitEncryption,
    EFSVolumeConfiguration, Scope, Volume,
};

use super::{Check, Draft, list, name, one_of, text};
use crate::errors::Refusal;

const NAME_CHARS_MAX: usize = 255;

pub(super) fn check(draft: &Draft) -> Check {
    let mut names = BTreeSet::new();
    for volume in list(&draft.request.volumes) {
        check_volume(volume)?;
        if !names.insert(text(&volume.name)) {
            let given = text(&volume.name);
            return Err(Refusal::client(format!(
                "Volume names must be unique, but '{given}' is used more than once."
            )));
        }
    }
    for container in draft.containers() {
        let mut paths = BTreeSet::new();
        for mount in list(&container.mount_points) {
            let source = text(&mount.source_volume);
            if !names.contains(source) {
                return Err(Refusal::client(format!("Unknown volume '{source}'.")));
            }
            let path = text(&mount.container_path);
            if path.is_empty() {
                return Err(Refusal::client(format!(
                    "The containerPath of a mount point of container '{}' should not be blank.",
                    name(container)
                )));
            }
            if !paths.insert(path) {
                return Err(Refusal::client(format!(
                    "Container '{}' has two mount points at '{path}'.",
                    name(container)
                )));
            }
        }
    }
    Ok(())
}

fn check_volume(volume: &Volume) -> Check {
    let given = text(&volume.name);
    if given.is_empty() {
        return Err(Refusal::client("Volume name should not be null or empty."));
    }
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if NAME_CHARS_MAX < given.len() || !given.bytes().all(is_allowed) {
        return Err(Refusal::client(format!("Invalid volume name '{given}'.")));
    }
    let bodies = [
        volume.host.is_some(),
        volume.docker_volume_configuration.is_some(),
        volume.efs_volume_configuration.is_some(),
        volume.s3files_volume_configuration.is_some(),
        volume.fsx_windows_file_server_volume_configuration.is_some(),
        volume.configured_at_launch == Some(true),
    ];
    if 1 < bodies.into_iter().filter(|is_there| *is_there).count() {
        return Err(Refusal::client(format!(
            "Volume '{given}' can have only one kind of configuration."
        )));
    }
    if volume.host.as_ref().and_then(|host| host.source_path.as_deref()) == Some("") {
        return Err(Refusal::client("host.sourcePath should not be blank."));
    }
    if let Some(docker) = &volume.docker_volume_configuration {
        check_docker(given, docker)?;
    }
    if let Some(efs) = &volume.efs_volume_configuration {
        check_efs(given, efs)?;
    }
    if let Some(files) = &volume.s3files_volume_configuration
        && text(&files.file_system_arn).is_empty()
    {
        return Err(required(given, "s3filesVolumeConfiguration.fileSystemArn"));
    }
    if let Some(fsx) = &volume.fsx_windows_file_server_volume_configuration {
        let authorization = fsx.authorization_config.as_ref();
        for (member, value) in [
            ("fileSystemId", fsx.file_system_id.as_ref()),
            ("rootDirectory", fsx.root_directory.as_ref()),
            ("credentialsParameter", authorization.and_then(|a| a.credentials_parameter.as_ref())),
            ("domain", authorization.and_then(|a| a.domain.as_ref())),
        ] {
            if value.is_none_or(String::is_empty) {
                return Err(required(given, member));
            }
        }
    }
    Ok(())
}

fn check_docker(volume: &str, docker: &DockerVolumeConfiguration) -> Check {
    match &docker.scope {
        None | Some(Scope::Task) if docker.autoprovision.is_some() => Err(Refusal::client(
            format!("Volume '{volume}' can have 'autoprovision' only if its scope is shared."),
        )),
        None | Some(Scope::Task | Scope::Shared) => Ok(()),
        Some(other) => Err(one_of(other.as_str(), Scope::VALUES)),
    }
}

fn check_efs(volume: &str, efs: &EFSVolumeConfiguration) -> Check {
    if text(&efs.file_system_id).is_empty() {
        return Err(required(volume, "efsVolumeConfiguration.fileSystemId"));
    }
    let is_encrypted = efs.transit_encryption == Some(EFSTransitEncryption::Enabled);
    if efs.transit_encryption_port.is_some() && !is_encrypted {
        return Err(Refusal::client(format!(
            "Volume '{volume}' can have a transitEncryptionPort only if transitEncryption is \
             ENABLED."
        )));
    }
    if efs.transit_encryption_port.is_some_and(|port| !(1..=65535).contains(&port)) {
        return Err(Refusal::client(format!(
            "Invalid transitEncryptionPort of volume '{volume}'."
        )));
    }
    let Some(authorization) = &efs.authorization_config else { return Ok(()) };
    let needs_encryption = authorization.iam == Some(EFSAuthorizationConfigIAM::Enabled)
        || authorization.access_point_id.is_some();
    if needs_encryption && !is_encrypted {
        return Err(Refusal::client(format!(
            "Volume '{volume}' can have EFS authorization only if transitEncryption is ENABLED."
        )));
    }
    let root = text(&efs.root_directory);
    if authorization.access_point_id.is_some() && !matches!(root, "" | "/") {
        return Err(Refusal::client(format!(
            "The rootDirectory of volume '{volume}' must be omitted or / with an access point."
        )));
    }
    Ok(())
}

fn required(volume: &str, member: &str) -> Refusal {
    Refusal::client(format!("Volume '{volume}' should have a {member} that is not blank."))
}
