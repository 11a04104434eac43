//! What may be registered, as Amazon would, but not run here: RunTask names it.
//!
//! Every line is also in `docs/limits.md`.

use ecs_api::{ContainerDefinition, ResourceRequirement, ResourceType};

use super::{Draft, list, name};

/// What needs a store of objects: written down, and possible where the region's operator named one.
pub(crate) const ENVIRONMENT_FILES: &str = "environment files";
pub(crate) const ROUTERS_OF_S3: &str = "FireLens configurations from S3";

/// Whether a router's configuration is to be read from a bucket.
fn is_router_of_s3(container: &ContainerDefinition) -> bool {
    let options = container.firelens_configuration.as_ref().and_then(|it| it.options.as_ref());
    options.and_then(|all| all.get("config-file-type")).is_some_and(|kind| kind == "s3")
}

impl Draft {
    pub(super) fn cannot_run(&self) -> Vec<String> {
        let mut wants = Vec::new();
        let mut want = |is_wanted: bool, what: String| {
            if is_wanted {
                wants.push(what);
            }
        };
        let request = &self.request;
        want(request.proxy_configuration.is_some(), "proxyConfiguration".to_owned());
        let has_accelerators = !list(&request.inference_accelerators).is_empty();
        want(has_accelerators, "inference accelerators".to_owned());
        let family =
            request.runtime_platform.as_ref().and_then(|p| p.operating_system_family.as_ref());
        let is_windows = family.is_some_and(|family| family.as_str().starts_with("WINDOWS"));
        want(is_windows, "Windows containers".to_owned());
        want(request.enable_fault_injection == Some(true), "fault injection".to_owned());
        let is_trusted = request.trusted_execution_configuration.is_some();
        want(is_trusted, "trustedExecutionConfiguration".to_owned());
        for volume in list(&request.volumes) {
            let volume_name = volume.name.as_deref().unwrap_or_default();
            for (is_there, kind) in [
                (volume.efs_volume_configuration.is_some(), "EFS"),
                (volume.s3files_volume_configuration.is_some(), "S3 Files"),
                (volume.fsx_windows_file_server_volume_configuration.is_some(), "FSx"),
                (volume.configured_at_launch == Some(true), "configured at launch"),
            ] {
                want(is_there, format!("{kind} volumes (volume '{volume_name}')"));
            }
        }
        for container in self.containers() {
            let is_in = |what: &str| format!("{what} (container '{}')", name(container));
            want(!list(&container.environment_files).is_empty(), is_in(ENVIRONMENT_FILES));
            want(is_router_of_s3(container), is_in(ROUTERS_OF_S3));
            let requirements = list(&container.resource_requirements);
            let is_shared = requirements.iter().any(|each| each.sharing_strategy.is_some());
            want(is_shared, is_in("shared GPUs"));
            let is_other = |each: &ResourceRequirement| each.r#type != Some(ResourceType::Gpu);
            want(requirements.iter().any(is_other), is_in("inference accelerators"));
            want(!list(&container.credential_specs).is_empty(), is_in("credential specs"));
        }
        wants
    }
}
