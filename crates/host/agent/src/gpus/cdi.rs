//! What a GPU needs in a container besides its device files: the driver's libraries and programs, and what is to be done
//! with them. NVIDIA's toolkit says it, in the form of the Container Device Interface (CNCF's CDI, SPEC.md 0.3 to 1.0).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sandbox::{Hook, HookPoint, Mount};
use serde::Deserialize;
use tracing::warn;

/// As long as one of NVIDIA's hooks may take: the linker's cache of a large image is made anew by one.
const HOOK_SECONDS_MAX: u32 = 60;
/// Which GPUs a container has is said in the words of ECS; the toolkit would say that nothing is left to do.
const SAID_ELSEWHERE: &str = "NVIDIA_VISIBLE_DEVICES=";

/// A specification of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cdi {
    of_all: Edits,
    by_device: BTreeMap<String, Edits>,
}

/// What becomes different in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) devices: Vec<PathBuf>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) hooks: Vec<Hook>,
}

/// A text that is no specification.
#[derive(Debug, thiserror::Error)]
pub enum NotCdi {
    #[error("it is not in the form of the Container Device Interface: {0}")]
    Form(#[from] serde_json::Error),
    #[error("it names {}, which is not an absolute path", .0.display())]
    Relative(PathBuf),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    devices: Vec<Named>,
    #[serde(default)]
    container_edits: Given,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    #[serde(default)]
    container_edits: Given,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Given {
    env: Vec<String>,
    device_nodes: Vec<GivenNode>,
    mounts: Vec<GivenMount>,
    hooks: Vec<GivenHook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenHook {
    hook_name: String,
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<u32>,
}

impl Cdi {
    /// Reads a specification in JSON.
    pub fn read(text: &str) -> Result<Self, NotCdi> {
        let document: Document = serde_json::from_str(text)?;
        let mut by_device = BTreeMap::new();
        for device in document.devices {
            by_device.insert(device.name, Edits::read(device.container_edits)?);
        }
        Ok(Self { of_all: Edits::read(document.container_edits)?, by_device })
    }

    /// What a container needs for devices, each thing once; nothing if it has none of them.
    pub(crate) fn edits<'a>(&self, devices: impl Iterator<Item = &'a str>) -> Edits {
        let mut all = Edits::default();
        let mut own: Vec<&Edits> =
            devices.filter_map(|device| self.by_device.get(device)).collect();
        if !own.is_empty() {
            own.insert(0, &self.of_all);
        }
        for edits in own {
            add_new(&mut all.env, &edits.env);
            add_new(&mut all.devices, &edits.devices);
            add_new(&mut all.mounts, &edits.mounts);
            add_new(&mut all.hooks, &edits.hooks);
        }
        all
    }
}

impl Edits {
    fn read(given: Given) -> Result<Self, NotCdi> {
        let env = given.env.iter().filter(|pair| !pair.starts_with(SAID_ELSEWHERE));
        let env = env.filter_map(|pair| pair.split_once('='));
        let mut edits = Self {
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ..Self::default()
        };
        for node in given.device_nodes {
            if node.host_path.as_ref().is_some_and(|host| *host != node.path) {
                warn!(path = %node.path.display(), "a device file that has another name in containers is left out");
                continue;
            }
            edits.devices.push(absolute(node.path)?);
        }
        for mount in given.mounts {
            edits.mounts.push(Mount {
                source: absolute(mount.host_path)?,
                destination: absolute(mount.container_path)?,
                readonly: mount.options.iter().any(|option| option == "ro"),
            });
        }
        for hook in given.hooks {
            let Some(at) = point(&hook.hook_name) else {
                warn!(hook = %hook.path.display(), at = hook.hook_name, "a hook that is run after the start is left out");
                continue;
            };
            edits.hooks.push(Hook {
                at,
                path: absolute(hook.path)?,
                args: hook.args,
                env: hook.env,
                timeout_seconds: hook
                    .timeout
                    .unwrap_or(HOOK_SECONDS_MAX)
                    .clamp(1, HOOK_SECONDS_MAX),
            });
        }
        Ok(edits)
    }
}

/// Those hooks that are run while a container is made.
fn point(name: &str) -> Option<HookPoint> {
    match name {
        "prestart" => Some(HookPoint::Prestart),
        "createRuntime" => Some(HookPoint::CreateRuntime),
        "createContainer" => Some(HookPoint::CreateContainer),
        _ => None,
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, NotCdi> {
    if Path::is_absolute(&path) { Ok(path) } else { Err(NotCdi::Relative(path)) }
}

fn add_new<T: Clone + PartialEq>(to: &mut Vec<T>, from: &[T]) {
    for each in from {
        if !to.contains(each) {
            to.push(each.clone());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// As NVIDIA's toolkit writes it, in the parts that differ.
    pub(crate) fn document() -> Value {
        let library = |name: &str| {
            json!({ "hostPath": format!("/usr/lib/{name}"), "containerPath": format!("/usr/lib/{name}"),
                    "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"] })
        };
        let device = |name: &str, number: u32| {
            let node = json!({ "path": format!("/dev/nvidia{number}") });
            json!({ "name": name, "containerEdits": { "deviceNodes": [node] } })
        };
        json!({
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "devices": [device("GPU-a", 0), device("GPU-b", 1)],
            "containerEdits": {
                "env": ["NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_CTK_LIBCUDA_DIR=/usr/lib"],
                "deviceNodes": [{ "path": "/dev/nvidiactl" }, { "path": "/dev/b", "hostPath": "/dev/a" }],
                "mounts": [
                    library("libcuda.so.550.54.15"),
                    { "hostPath": "/run/nvidia-persistenced/socket",
                      "containerPath": "/run/nvidia-persistenced/socket", "options": ["nosuid"] },
                ],
                "hooks": [
                    { "hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook",
                      "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib"],
                      "env": ["NVIDIA_CTK_DEBUG=false"] },
                    { "hookName": "poststop", "path": "/usr/bin/other" },
                ],
            },
        })
    }

    #[test]
    fn a_container_gets_what_all_need_and_what_its_devices_need_each_once() {
        let cdi = Cdi::read(&document().to_string()).unwrap();
        let edits = cdi.edits(["GPU-b", "GPU-a", "GPU-b"].into_iter());
        let paths = ["/dev/nvidiactl", "/dev/nvidia1", "/dev/nvidia0"].map(PathBuf::from);
        assert_eq!(edits.devices, paths);
        assert_eq!(edits.env, [("NVIDIA_CTK_LIBCUDA_DIR".to_owned(), "/usr/lib".to_owned())]);
        let mounts: Vec<_> =
            edits.mounts.iter().map(|it| (it.destination.to_str().unwrap(), it.readonly)).collect();
        let expected =
            [("/usr/lib/libcuda.so.550.54.15", true), ("/run/nvidia-persistenced/socket", false)];
        assert_eq!(mounts, expected);
        let [hook] = edits.hooks.as_slice() else { panic!("{:?}", edits.hooks) };
        assert_eq!((hook.at, hook.args.len()), (HookPoint::CreateContainer, 4));
        assert_eq!(hook.timeout_seconds, HOOK_SECONDS_MAX);
        assert_eq!(cdi.edits(["amd-0"].into_iter()), Edits::default());
    }

    #[test]
    fn what_names_no_absolute_path_or_is_of_another_form_is_refused() {
        for (text, says) in [
            ("", "not in the form"),
            ("7", "not in the form"),
            (r#"{"devices":[{"name":7}]}"#, "not in the form"),
            (r#"{"containerEdits":{"hooks":[{"hookName":"prestart","path":"sh"}]}}"#, "names sh"),
            (r#"{"containerEdits":{"deviceNodes":[{"path":"dev/x"}]}}"#, "names dev/x"),
        ] {
            let error = Cdi::read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(Cdi::read("{}").unwrap(), Cdi::default());
    }
}
