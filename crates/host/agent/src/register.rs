//! Becoming a container instance: what this host offers, said in Amazon's words.

use std::time::Duration;

use longshore_types::{Chain, Uuid};
use tracing::{error, info, warn};

use crate::client::{Api, Attribute, Backoff, CallError, PlatformDevice, Register, Resource};
use crate::config::{AgentConfig, Driver, Parts};
use crate::state_dir::InstanceRecord;

/// Says that a host ends fenced tasks itself.
const FENCE_ATTRIBUTE: &str = "longshore.fence";
const DEFAULT_CLUSTER: &str = "default";
/// The region's codes of what is wrong with the host, not with the instance: others would not reach it at its address,
/// which another has, or it cannot encrypt what goes to them.
const ABOUT_THE_HOST: [&str; 2] = ["ConflictException", "UnsupportedFeatureException"];

/// An instance that the region knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub arn: String,
    pub cluster: String,
}

/// Registers, for as long as it takes. A saved instance is registered again as itself, unless the
/// region knows nothing of it any more.
pub(crate) async fn register(
    api: &Api,
    config: &AgentConfig,
    parts: &Parts,
    record: &mut InstanceRecord,
) -> Registered {
    let cluster = config.cluster.clone().unwrap_or_else(|| DEFAULT_CLUSTER.to_owned());
    if record.cluster.as_ref().is_some_and(|saved| *saved != cluster) {
        warn!(cluster, "cluster changed, registering as a new instance");
        record.container_instance_arn = None;
    }
    let mut backoff = Backoff::start();
    // One for all tries of one registration: one whose answer was lost is gone on with.
    let mut token = Uuid::mint(&*parts.ids).to_string();
    loop {
        let request = request(config, &cluster, record, token.clone());
        match try_once(api, config, &cluster, &request).await {
            Ok(arn) => {
                info!(instance = arn, cluster, "registered");
                record.container_instance_arn = Some(arn.clone());
                record.cluster = Some(cluster.clone());
                return Registered { arn, cluster };
            }
            Err(failure) => {
                let is_refused = !failure.is_transient();
                if is_refused
                    && may_be_about_instance(failure.code())
                    && record.container_instance_arn.take().is_some()
                {
                    warn!(error = %Chain(&failure), "the region does not know this instance any more");
                    token = Uuid::mint(&*parts.ids).to_string();
                    continue;
                }
                if is_refused {
                    error!(error = %Chain(&failure), "registration refused");
                } else {
                    info!(error = %Chain(&failure), "region not reached yet");
                }
                let wait_ms = backoff.next_ms(&*parts.ids);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
        }
    }
}

/// What is wrong with the host or its keys says nothing of the instance that it is.
fn may_be_about_instance(code: &str) -> bool {
    !is_about_keys(code) && !ABOUT_THE_HOST.contains(&code)
}

/// Whether a refusal is one of the signature, whatever was asked for.
fn is_about_keys(code: &str) -> bool {
    [
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "IncompleteSignatureException",
        "ExpiredTokenException",
        "MissingAuthenticationTokenException",
    ]
    .contains(&code)
}

async fn try_once(
    api: &Api,
    config: &AgentConfig,
    cluster: &str,
    request: &Register,
) -> Result<String, CallError> {
    let mut answer = api.register_container_instance(request).await;
    let is_missing = |error: &CallError| {
        error.code() == "ClusterNotFoundException"
            || error.to_string().contains("Cluster not found.")
    };
    if config.cluster.is_none() && answer.as_ref().is_err_and(is_missing) {
        api.create_cluster(cluster).await?;
        answer = api.register_container_instance(request).await;
    }
    let instance = answer?;
    let missing = request.attributes.iter().find(|wanted| !instance.attributes.contains(wanted));
    if let Some(missing) = missing {
        return Err(CallError::Unreadable {
            operation: "RegisterContainerInstance",
            why: format!("attribute {} did not come back as it was sent", missing.name),
        });
    }
    Ok(instance.container_instance_arn)
}

fn request(
    config: &AgentConfig,
    cluster: &str,
    record: &InstanceRecord,
    client_token: String,
) -> Register {
    let mut attributes = capabilities_of(&config.driver);
    // Interfaces are made by us as the payload says; nobody needs to attach them first. It also says whose agent this is:
    // tasks with interfaces are kept from where there are none by what Amazon's agent says as well.
    attributes.push(Attribute::with("longshore.eni", "true"));
    attributes.push(Attribute::with("longshore.judges-default-vpcs", "true"));
    if let Some(address) = config.underlay {
        attributes.push(Attribute::with("longshore.underlay-address", address.to_string()));
    }
    if let Some(runtime) = &config.runtime {
        attributes.push(Attribute::with("longshore.runtime", runtime));
    }
    if let Some(encryption) = &config.encryption {
        attributes.push(Attribute::with("longshore.encryption", encryption));
    }
    if config.serves_balancers {
        attributes.push(Attribute::with("longshore.balancers", "true"));
    }
    if config.lease_file.is_some() {
        attributes.push(Attribute::with(FENCE_ATTRIBUTE, "true"));
    }
    if config.is_fargate && config.driver == Driver::Native {
        attributes.push(Attribute::with("longshore.fargate", "true"));
        attributes.push(Attribute::flag("ecs.capability.extensible-ephemeral-storage"));
    }
    // As with Amazon's agent, the operator's own are for the first time only.
    if record.container_instance_arn.is_none() {
        attributes.extend(config.attributes.iter().cloned());
    }
    // As Amazon's agent says it.
    if let Some(version) = &config.gpus.driver_version {
        attributes.push(Attribute::flag(format!("ecs.capability.nvidia-driver-version.{version}")));
        attributes.push(Attribute::with("ecs.capability.gpu-driver-version", version.clone()));
    }
    let ports = |ports: &[u16]| ports.iter().map(u16::to_string).collect();
    Register {
        cluster: cluster.to_owned(),
        container_instance_arn: record.container_instance_arn.clone(),
        client_token,
        instance_identity_document: "",
        instance_identity_document_signature: "",
        total_resources: vec![
            Resource::integer("CPU", (cpus() * 1024).saturating_sub(config.reserved_cpu_units)),
            Resource::integer("MEMORY", memory_mib().saturating_sub(config.reserved_memory_mib)),
            Resource::strings("PORTS", ports(&config.reserved_ports)),
            Resource::strings("PORTS_UDP", ports(&config.reserved_ports_udp)),
        ],
        attributes,
        platform_devices: config.gpus.ids().map(PlatformDevice::gpu).collect(),
    }
}

pub(crate) fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(1))
}

fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// What only our own sandbox and network can do: what of it a task asks for, a host with Docker is not asked for.
const NOT_BY_DOCKER: [&str; 14] = [
    "com.amazonaws.ecs.capability.logging-driver.awsfirelens",
    "ecs.capability.container-restart-policy",
    "ecs.capability.firelens.fluentd",
    "ecs.capability.firelens.fluentbit",
    "ecs.capability.firelens.non-root-user",
    "ecs.capability.firelens.options.config.file",
    "ecs.capability.firelens.options.config.s3",
    "ecs.capability.logging-driver.awsfirelens.log-driver-buffer-limit",
    "ecs.capability.pid-ipc-namespace-sharing",
    "ecs.capability.task-eni",
    "ecs.capability.task-eni-block-instance-metadata",
    "ecs.capability.extensible-ephemeral-storage",
    "longshore.fargate",
    "longshore.fence",
];
const TASK_SIZES: [&str; 2] =
    ["ecs.capability.task-cpu-mem-limit", "ecs.capability.increased-task-cpu-limit"];
const TASK_ROLES: [&str; 2] = [
    "com.amazonaws.ecs.capability.task-iam-role",
    "com.amazonaws.ecs.capability.task-iam-role-network-host",
];

/// The same of a host whose containers are run by `driver`.
fn capabilities_of(driver: &Driver) -> Vec<Attribute> {
    let mut all = capabilities();
    if let Driver::Docker(docker) = driver {
        all.retain(|attribute| {
            let name = attribute.name.as_str();
            !NOT_BY_DOCKER.contains(&name)
                && (docker.has_task_sizes || !TASK_SIZES.contains(&name))
                && (docker.answers_containers || !TASK_ROLES.contains(&name))
        });
    }
    all
}

/// What a task may need of us, as the region places tasks by these names: no file systems.
pub fn capabilities() -> Vec<Attribute> {
    const OLD: [&str; 13] = [
        "privileged-container",
        "logging-driver.json-file",
        "logging-driver.awslogs",
        "logging-driver.none",
        "logging-driver.syslog",
        "logging-driver.fluentd",
        "logging-driver.gelf",
        "logging-driver.splunk",
        "logging-driver.awsfirelens",
        "ecr-auth",
        "task-iam-role",
        "task-iam-role-network-host",
        "docker-remote-api.1.17",
    ];
    const NEW: [&str; 26] = [
        "ecr-endpoint",
        "container-ordering",
        "full-sync",
        "network.container-port-range",
        "container-restart-policy",
        "execution-role-ecr-pull",
        "execution-role-awslogs",
        "container-health-check",
        "firelens.fluentd",
        "firelens.fluentbit",
        "firelens.non-root-user",
        "firelens.options.config.file",
        "firelens.options.config.s3",
        "env-files.s3",
        "logging-driver.awsfirelens.log-driver-buffer-limit",
        "docker-plugin.local",
        "task-cpu-mem-limit",
        "increased-task-cpu-limit",
        "task-eni",
        "task-eni-block-instance-metadata",
        "pid-ipc-namespace-sharing",
        "private-registry-authentication.secretsmanager",
        "secrets.asm.environment-variables",
        "secrets.asm.bootstrap.log-driver",
        "secrets.ssm.environment-variables",
        "secrets.ssm.bootstrap.log-driver",
    ];
    let versions = [
        "1.18", "1.19", "1.20", "1.21", "1.22", "1.23", "1.24", "1.25", "1.28", "1.29", "1.30",
        "1.32",
    ];
    let mut all: Vec<Attribute> = OLD
        .iter()
        .map(|name| Attribute::flag(format!("com.amazonaws.ecs.capability.{name}")))
        .collect();
    all.extend(versions.iter().map(|version| {
        Attribute::flag(format!("com.amazonaws.ecs.capability.docker-remote-api.{version}"))
    }));
    all.extend(NEW.iter().map(|name| Attribute::flag(format!("ecs.capability.{name}"))));
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    all.push(Attribute::with("ecs.os-type", "linux"));
    all.push(Attribute::with("ecs.os-family", "LINUX"));
    all.push(Attribute::with("ecs.os-type-detailed", "LINUX"));
    all.push(Attribute::with("ecs.cpu-architecture", architecture));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_not_forgotten_for_what_is_wrong_with_its_host_or_keys() {
        for code in ["ConflictException", "UnsupportedFeatureException", "ExpiredTokenException"] {
            assert!(!may_be_about_instance(code), "{code}");
        }
        assert!(may_be_about_instance("ClientException"), "as an unknown one is refused");
    }

    #[test]
    fn an_instance_claims_only_what_it_can_do() {
        let uri = "http://127.0.0.1:4566".parse().unwrap();
        let config = AgentConfig::new(uri, "us-east-1".parse().unwrap(), "/tmp".into());
        let request = request(&config, "default", &InstanceRecord::default(), "token".to_owned());
        let names: Vec<String> = request.attributes.into_iter().map(|a| a.name).collect();
        assert!(names.iter().any(|name| name == "ecs.capability.task-eni"));
        assert!(names.iter().any(|name| name == "longshore.fargate"));
        assert!(
            names.iter().any(|name| name == "com.amazonaws.ecs.capability.docker-remote-api.1.18")
        );
        for absent in ["efs", "selinux", "cni-plugin"] {
            assert!(!names.iter().any(|name| name.contains(absent)), "{absent}");
        }
        for present in ["task-iam-role", "task-iam-role-network-host"] {
            let full = format!("com.amazonaws.ecs.capability.{present}");
            assert!(names.contains(&full), "{present}");
        }
        assert!(!names.iter().any(|name| name == "longshore.runtime"), "it is the usual one");
        let unique: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn a_host_with_docker_claims_less() {
        let names = |has_task_sizes, answers_containers| -> Vec<String> {
            let uri = "http://127.0.0.1:4566".parse().unwrap();
            let mut config = AgentConfig::new(uri, "us-east-1".parse().unwrap(), "/tmp".into());
            let version = "20.10.24".to_owned();
            let docker = crate::DockerDriver { version, has_task_sizes, answers_containers };
            config.driver = Driver::Docker(docker);
            let record = InstanceRecord::default();
            let request = request(&config, "default", &record, "token".to_owned());
            request.attributes.into_iter().map(|attribute| attribute.name).collect()
        };
        let able = names(true, true);
        for absent in NOT_BY_DOCKER {
            assert!(!able.iter().any(|name| name == absent), "{absent}");
        }
        for present in TASK_SIZES.iter().chain(&TASK_ROLES) {
            assert!(able.iter().any(|name| name == present), "{present}");
            assert!(!names(false, false).iter().any(|name| name == present), "{present}");
        }
        let known: Vec<String> = capabilities().into_iter().map(|it| it.name).collect();
        let is_known =
            |name: &str| known.iter().any(|it| it == name) || name.starts_with("longshore.");
        let later = "ecs.capability.extensible-ephemeral-storage";
        for name in NOT_BY_DOCKER {
            assert!(is_known(name) || name == later, "{name} is no capability");
        }
    }
}
