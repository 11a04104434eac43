//! Linux parameters, ulimits, security options and system controls.

use ecs_api::{ContainerDefinition, DeviceCgroupPermission, LinuxParameters, UlimitName};

use super::{Check, bad, list, one_of, text};

/// What `capabilities` may name, besides `ALL`.
const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

const TMPFS_OPTIONS: &[&str] = &[
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "remount",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "bind",
    "rbind",
    "unbindable",
    "runbindable",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
];

pub(super) fn check(container: &ContainerDefinition) -> Check {
    if let Some(parameters) = &container.linux_parameters {
        check_parameters(container, parameters)?;
    }
    for ulimit in list(&container.ulimits) {
        match &ulimit.name {
            Some(name) if name.is_known() => {}
            other => {
                let given = other.as_ref().map_or("", |name| name.as_str());
                return Err(one_of(given, UlimitName::VALUES));
            }
        }
        let (Some(soft), Some(hard)) = (ulimit.soft_limit, ulimit.hard_limit) else {
            return Err(bad("ulimits", container));
        };
        // -1 is no limit.
        let is_in_order = hard == -1 || (soft != -1 && soft <= hard);
        if soft < -1 || hard < -1 || !is_in_order {
            return Err(bad("ulimits", container));
        }
    }
    for control in list(&container.system_controls) {
        if text(&control.namespace).is_empty() || control.value.is_none() {
            return Err(bad("systemControls", container));
        }
    }
    if list(&container.docker_security_options).iter().any(String::is_empty) {
        return Err(bad("dockerSecurityOptions", container));
    }
    Ok(())
}

fn check_parameters(container: &ContainerDefinition, parameters: &LinuxParameters) -> Check {
    if let Some(capabilities) = &parameters.capabilities {
        let named = list(&capabilities.add).iter().chain(list(&capabilities.drop));
        for capability in named {
            if capability != "ALL" && !CAPABILITIES.contains(&capability.as_str()) {
                return Err(one_of(capability, &[&["ALL"], CAPABILITIES].concat()));
            }
        }
    }
    for device in list(&parameters.devices) {
        if text(&device.host_path).is_empty() {
            return Err(bad("linuxParameters.devices.hostPath", container));
        }
        if let Some(unknown) = list(&device.permissions).iter().find(|p| !p.is_known()) {
            return Err(one_of(unknown.as_str(), DeviceCgroupPermission::VALUES));
        }
    }
    for tmpfs in list(&parameters.tmpfs) {
        if text(&tmpfs.container_path).is_empty() || tmpfs.size.is_none_or(|size| size < 1) {
            return Err(bad("linuxParameters.tmpfs", container));
        }
        for option in list(&tmpfs.mount_options) {
            let is_known = TMPFS_OPTIONS.contains(&option.as_str())
                || ["mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks=", "mpol="]
                    .iter()
                    .any(|prefix| option.starts_with(prefix));
            if !is_known {
                return Err(one_of(option, TMPFS_OPTIONS));
            }
        }
    }
    for (what, value, range) in [
        ("linuxParameters.sharedMemorySize", parameters.shared_memory_size, 0..=i32::MAX),
        ("linuxParameters.maxSwap", parameters.max_swap, 0..=i32::MAX),
        ("linuxParameters.swappiness", parameters.swappiness, 0..=100),
    ] {
        if value.is_some_and(|value| !range.contains(&value)) {
            return Err(bad(what, container));
        }
    }
    Ok(())
}
