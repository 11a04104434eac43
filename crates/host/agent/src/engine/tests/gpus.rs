//! GPUs that the region chose for a container.

use serde_json::json;

use super::*;
use crate::{Gpu, Gpus};

/// What the tests' host has.
pub(super) fn host_gpus() -> Gpus {
    let nvidia = |id: &str, number: u32| Gpu {
        id: id.to_owned(),
        devices: vec![format!("/dev/nvidia{number}").into(), "/dev/nvidiactl".into()],
        is_nvidia: true,
    };
    let other = "amd-0=/dev/kfd,/dev/dri/renderD128".parse().unwrap();
    Gpus::named([nvidia("GPU-a", 0), nvidia("GPU-b", 1), other])
}

fn given(ids: &[&str]) -> Value {
    let mut task = task(json!([{ "name": "web" }, { "name": "side" }]));
    let gpu = |id: &&str| json!({ "name": id, "type": "gpu", "containers": ["web"] });
    task["associations"] = ids.iter().map(gpu).collect();
    task
}

#[tokio::test]
async fn a_container_finds_the_device_files_of_its_gpus_and_another_finds_none() {
    let rig = Rig::new().await;
    drop(rig.engine.accept(given(&["GPU-b", "GPU-a", "amd-0"])).await);
    rig.until_reported(Status::Running).await;
    let spec = rig.runtime.spec("web");
    let mut paths: Vec<String> =
        spec.devices.iter().map(|device| device.host.display().to_string()).collect();
    paths.sort();
    let expected =
        ["/dev/dri/renderD128", "/dev/kfd", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"];
    assert_eq!(paths, expected);
    assert!(spec.devices.iter().all(|device| device.host == device.container && device.read));
    let told = spec.env.iter().find(|(name, _)| name == "NVIDIA_VISIBLE_DEVICES");
    assert_eq!(told.map(|(_, ids)| ids.as_str()), Some("GPU-b,GPU-a"));
    let side = rig.runtime.spec("side");
    assert!(side.devices.is_empty());
    assert!(side.env.iter().all(|(name, _)| name != "NVIDIA_VISIBLE_DEVICES"));
}

#[tokio::test]
async fn a_gpu_that_is_not_here_is_named() {
    let rig = Rig::new().await;
    drop(rig.engine.accept(given(&["GPU-gone"])).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(stopped.reason, "ResourceInitializationError: GPU GPU-gone is not on this host");
}
