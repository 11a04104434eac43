//! GPUs that the region chose for a container.

use serde_json::json;

use super::*;
use crate::{Cdi, Gpu, Gpus};

/// What the tests' host has.
pub(super) fn host_gpus() -> Gpus {
    let nvidia = |id: &str, number: u32| Gpu {
        id: id.to_owned(),
        devices: vec![format!("/dev/nvidia{number}").into(), "/dev/nvidiactl".into()],
        is_nvidia: true,
    };
    let other = "amd-0=/dev/kfd,/dev/dri/renderD128".parse().unwrap();
    let cdi = json!({
        "devices": [
            { "name": "GPU-a", "containerEdits": { "deviceNodes": [{ "path": "/dev/nvidia-caps/nvidia-cap1" }] } },
            { "name": "GPU-b" },
        ],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void", "CUDA_DIR=/usr/lib"],
            "mounts": [{ "hostPath": "/usr/lib/libcuda.so.1", "containerPath": "/usr/lib/libcuda.so.1",
                         "options": ["ro"] }],
            "hooks": [{ "hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook" }],
        },
    });
    let cdi = Cdi::read(&cdi.to_string()).unwrap();
    Gpus::named([nvidia("GPU-a", 0), nvidia("GPU-b", 1), other]).with(cdi)
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
    let expected = [
        "/dev/dri/renderD128",
        "/dev/kfd",
        "/dev/nvidia-caps/nvidia-cap1",
        "/dev/nvidia0",
        "/dev/nvidia1",
        "/dev/nvidiactl",
    ];
    assert_eq!(paths, expected);
    let library = |spec: &sandbox::ContainerSpec| {
        spec.mounts.iter().any(|it| it.destination.ends_with("libcuda.so.1") && it.readonly)
    };
    assert!(library(&spec) && spec.hooks.len() == 1);
    assert!(spec.env.contains(&("CUDA_DIR".to_owned(), "/usr/lib".to_owned())));
    assert!(spec.devices.iter().all(|device| device.host == device.container && device.read));
    let told = spec.env.iter().find(|(name, _)| name == "NVIDIA_VISIBLE_DEVICES");
    assert_eq!(told.map(|(_, ids)| ids.as_str()), Some("GPU-b,GPU-a"));
    let side = rig.runtime.spec("side");
    assert!(side.devices.is_empty() && side.hooks.is_empty() && !library(&side));
    assert!(side.env.iter().all(|(name, _)| name != "NVIDIA_VISIBLE_DEVICES"));
}

#[tokio::test]
async fn a_gpu_that_is_not_here_is_named() {
    let rig = Rig::new().await;
    drop(rig.engine.accept(given(&["GPU-gone"])).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(stopped.reason, "ResourceInitializationError: GPU GPU-gone is not on this host");
}
