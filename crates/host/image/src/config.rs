//! An image's configuration: what to run, and the digests of the unpacked layers.

use std::collections::BTreeMap;

use longshore_types::Digest;
use serde::{Deserialize, Serialize};

use crate::manifest::Platform;

/// What a container of an image runs unless the task definition says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty for root.
    pub user: String,
    /// Empty for `/`.
    pub working_dir: String,
    /// Paths that want a volume of their own.
    pub volumes: Vec<String>,
    /// `SIGTERM` where there is none.
    pub stop_signal: Option<String>,
    pub healthcheck: Option<HealthCheck>,
    /// `80/tcp`
    pub exposed: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub architecture: String,
    pub os: String,
}

/// The `HEALTHCHECK` of a Dockerfile; times in nanoseconds, zero for the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    pub test: Vec<String>,
    #[serde(rename = "Interval")]
    pub interval_ns: u64,
    #[serde(rename = "Timeout")]
    pub timeout_ns: u64,
    #[serde(rename = "StartPeriod")]
    pub start_period_ns: u64,
    pub retries: u32,
}

/// The configuration as it lies in the registry.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<ConfigSection>,
    rootfs: RootFs,
}

#[derive(Clone, Debug, Deserialize)]
struct RootFs {
    /// Absent in some images without layers.
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// Go writes `null` for what is empty, so every member is an option.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigSection {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    stop_signal: Option<String>,
    healthcheck: Option<HealthCheck>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
}

impl ConfigFile {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The digests of the layers as they are unpacked, lowest first.
    pub(crate) fn diff_ids(&self) -> &[Digest] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }

    /// What the image was built for; empty where it doesn't say.
    pub(crate) fn platform(&self) -> Platform {
        Platform { os: self.os.clone(), ..Platform::linux(&self.architecture) }
    }

    pub(crate) fn into_config(self) -> ImageConfig {
        let section = self.config.unwrap_or_default();
        ImageConfig {
            entrypoint: section.entrypoint.unwrap_or_default(),
            cmd: section.cmd.unwrap_or_default(),
            env: section.env.unwrap_or_default(),
            user: section.user.unwrap_or_default(),
            working_dir: section.working_dir.unwrap_or_default(),
            volumes: section.volumes.unwrap_or_default().into_keys().collect(),
            stop_signal: section.stop_signal.filter(|signal| !signal.is_empty()),
            healthcheck: section.healthcheck.filter(|check| !check.test.is_empty()),
            exposed: section.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: section.labels.unwrap_or_default(),
            architecture: self.architecture,
            os: self.os,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_with_nulls_is_read() {
        let file = ConfigFile::parse(
            br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":null,"Cmd":["/hi"],
            "Env":["PATH=/bin"],"Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},"Labels":null,
            "Healthcheck":{"Test":["CMD","true"],"Interval":1000000000},"StopSignal":"SIGQUIT",
            "User":"1000:1000","WorkingDir":"/srv"},"rootfs":{"type":"layers","diff_ids":null}}"#,
        )
        .unwrap();
        assert!(file.diff_ids().is_empty());
        let config = file.into_config();
        assert_eq!(config.cmd, ["/hi"]);
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!(config.exposed, ["80/tcp"]);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(config.healthcheck.unwrap().interval_ns, 1_000_000_000);
    }
}
