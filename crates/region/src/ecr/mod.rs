//! Amazon ECR: each operation in the file of its name; those on layers are together.
//!
//! Rows are read and written here and by [`crate::registry_catalog`]; bytes go through the registry.
//! What nothing acts on is not stored: encryption with KMS and scanning are refused in so many words.

mod batch_delete_image;
mod batch_get_image;
mod create_repository;
mod delete_repository;
mod describe_images;
mod describe_registry;
mod describe_repositories;
mod errors;
mod get_authorization_token;
mod layers;
mod list_images;
mod pages;
mod put_image;
mod put_image_tag_mutability;
mod request;
mod tag_resource;
#[cfg(test)]
mod tests;

use aws_api::ecr::*;
use aws_wire::{ApiError, Caller};

use crate::region::Region;

/// Implements the service's trait: every operation is a function of its name.
macro_rules! operations {
    ($($name:ident: $request:ident -> $response:ident = $path:path;)*) => {
        impl Ecr for Region {
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
    delete_repository: DeleteRepositoryRequest -> DeleteRepositoryResponse
        = delete_repository::delete_repository;
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
    initiate_layer_upload: InitiateLayerUploadRequest -> InitiateLayerUploadResponse
        = layers::initiate_layer_upload;
    list_images: ListImagesRequest -> ListImagesResponse = list_images::list_images;
    list_tags_for_resource: ListTagsForResourceRequest -> ListTagsForResourceResponse
        = tag_resource::list_tags_for_resource;
    put_image: PutImageRequest -> PutImageResponse = put_image::put_image;
    put_image_tag_mutability: PutImageTagMutabilityRequest -> PutImageTagMutabilityResponse
        = put_image_tag_mutability::put_image_tag_mutability;
    tag_resource: TagResourceRequest -> TagResourceResponse = tag_resource::tag_resource;
    untag_resource: UntagResourceRequest -> UntagResourceResponse = tag_resource::untag_resource;
    upload_layer_part: UploadLayerPartRequest -> UploadLayerPartResponse
        = layers::upload_layer_part;
}
