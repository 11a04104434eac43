//! Amazon ECR: each operation in the file of its name; those on layers are together.
//!
//! Rows are read and written here and by [`catalog`]; bytes go through the registry.
//! What nothing acts on is refused in so many words, such as encryption with KMS. Scanning alone is
//! kept without effect, since most who make repositories ask for it; see [`scanning`].

mod authorizer;
mod batch_delete_image;
mod batch_get_image;
pub mod catalog;
mod create_repository;
mod delete_repository;
mod describe_images;
mod describe_registry;
mod describe_repositories;
mod errors;
mod get_authorization_token;
mod layers;
mod lifecycle;
mod list_images;
mod pages;
mod policies;
mod put_image;
mod put_image_tag_mutability;
mod request;
#[cfg(test)]
mod rights_tests;
mod scanning;
mod sweep;
mod tag_resource;
mod tagged;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use catalog::RegionRegistry;
use control::Control;
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use ecr_api::*;

pub use authorizer::RegionAuthorizer;

/// The service with its registry.
#[derive(Debug)]
pub struct Ecr {
    pub control: Arc<Control>,
    pub registry: Arc<RegionRegistry>,
}

impl Ecr {
    pub fn new(control: Arc<Control>, registry: Arc<RegionRegistry>) -> Self {
        Self { control, registry }
    }
}

impl RegionService for Ecr {
    fn service(&self) -> &'static Service {
        &SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(dispatch(self, caller, call))
    }

    fn register(self: Arc<Self>, driver: &mut Driver) {
        driver.register(lifecycle::Lifecycles::of(Arc::clone(&self)));
        driver.register(sweep::RegistrySweep { ecr: self });
    }
}

/// Implements the service's trait: every operation is a function of its name.
macro_rules! operations {
    ($($name:ident: $request:ident -> $response:ident = $path:path;)*) => {
        impl ecr_api::Ecr for Ecr {
            $(
                async fn $name(
                    &self,
                    caller: &Caller,
                    input: $request,
                ) -> Result<$response, ApiError> {
                    $path(self, caller, input).await
                }
            )*
        }
    };
}

operations! {
    batch_check_layer_availability: BatchCheckLayerAvailabilityRequest
        -> BatchCheckLayerAvailabilityResponse = layers::batch_check_layer_availability;
    batch_delete_image: BatchDeleteImageRequest -> BatchDeleteImageResponse
        = batch_delete_image::batch_delete_image;
    batch_get_image: BatchGetImageRequest -> BatchGetImageResponse
        = batch_get_image::batch_get_image;
    complete_layer_upload: CompleteLayerUploadRequest -> CompleteLayerUploadResponse
        = layers::complete_layer_upload;
    create_repository: CreateRepositoryRequest -> CreateRepositoryResponse
        = create_repository::create_repository;
    delete_lifecycle_policy: DeleteLifecyclePolicyRequest -> DeleteLifecyclePolicyResponse
        = lifecycle::delete_lifecycle_policy;
    delete_registry_policy: DeleteRegistryPolicyRequest -> DeleteRegistryPolicyResponse
        = policies::delete_registry_policy;
    delete_repository: DeleteRepositoryRequest -> DeleteRepositoryResponse
        = delete_repository::delete_repository;
    delete_repository_policy: DeleteRepositoryPolicyRequest -> DeleteRepositoryPolicyResponse
        = policies::delete_repository_policy;
    describe_image_scan_findings: DescribeImageScanFindingsRequest
        -> DescribeImageScanFindingsResponse = scanning::describe_image_scan_findings;
    describe_images: DescribeImagesRequest -> DescribeImagesResponse
        = describe_images::describe_images;
    describe_registry: DescribeRegistryRequest -> DescribeRegistryResponse
        = describe_registry::describe_registry;
    describe_repositories: DescribeRepositoriesRequest -> DescribeRepositoriesResponse
        = describe_repositories::describe_repositories;
    get_authorization_token: GetAuthorizationTokenRequest -> GetAuthorizationTokenResponse
        = get_authorization_token::get_authorization_token;
    get_download_url_for_layer: GetDownloadUrlForLayerRequest -> GetDownloadUrlForLayerResponse
        = layers::get_download_url_for_layer;
    get_lifecycle_policy: GetLifecyclePolicyRequest -> GetLifecyclePolicyResponse
        = lifecycle::get_lifecycle_policy;
    get_lifecycle_policy_preview: GetLifecyclePolicyPreviewRequest
        -> GetLifecyclePolicyPreviewResponse = lifecycle::get_lifecycle_policy_preview;
    get_registry_policy: GetRegistryPolicyRequest -> GetRegistryPolicyResponse
        = policies::get_registry_policy;
    get_repository_policy: GetRepositoryPolicyRequest -> GetRepositoryPolicyResponse
        = policies::get_repository_policy;
    initiate_layer_upload: InitiateLayerUploadRequest -> InitiateLayerUploadResponse
        = layers::initiate_layer_upload;
    list_images: ListImagesRequest -> ListImagesResponse = list_images::list_images;
    list_tags_for_resource: ListTagsForResourceRequest -> ListTagsForResourceResponse
        = tag_resource::list_tags_for_resource;
    put_image: PutImageRequest -> PutImageResponse = put_image::put_image;
    put_image_scanning_configuration: PutImageScanningConfigurationRequest
        -> PutImageScanningConfigurationResponse = scanning::put_image_scanning_configuration;
    put_lifecycle_policy: PutLifecyclePolicyRequest -> PutLifecyclePolicyResponse
        = lifecycle::put_lifecycle_policy;
    put_registry_policy: PutRegistryPolicyRequest -> PutRegistryPolicyResponse
        = policies::put_registry_policy;
    start_image_scan: StartImageScanRequest -> StartImageScanResponse = scanning::start_image_scan;
    start_lifecycle_policy_preview: StartLifecyclePolicyPreviewRequest
        -> StartLifecyclePolicyPreviewResponse = lifecycle::start_lifecycle_policy_preview;
    set_repository_policy: SetRepositoryPolicyRequest -> SetRepositoryPolicyResponse
        = policies::set_repository_policy;
    put_image_tag_mutability: PutImageTagMutabilityRequest -> PutImageTagMutabilityResponse
        = put_image_tag_mutability::put_image_tag_mutability;
    tag_resource: TagResourceRequest -> TagResourceResponse = tag_resource::tag_resource;
    untag_resource: UntagResourceRequest -> UntagResourceResponse = tag_resource::untag_resource;
    upload_layer_part: UploadLayerPartRequest -> UploadLayerPartResponse
        = layers::upload_layer_part;
}
