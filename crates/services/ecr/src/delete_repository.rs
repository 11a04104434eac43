//! DeleteRepository.

use aws_wire::{ApiError, Caller};
use ecr_api::{DeleteRepositoryRequest, DeleteRepositoryResponse};

use super::errors::{Refusal, of_catalog};
use super::request::repository;
use crate::Ecr;

pub(super) async fn delete_repository(
    ecr: &Ecr,
    caller: &Caller,
    input: DeleteRepositoryRequest,
) -> Result<DeleteRepositoryResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:DeleteRepository", &input.registry_id, &input.repository_name);
    ecr.control.read(caller, &permission)?;
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let may_have_images = input.force.unwrap_or(false);
    let catalog = ecr.registry.catalog();
    let removed = catalog.delete_repository(&repository, may_have_images).await;
    let Some(row) = removed.map_err(of_catalog)? else {
        return Err(Refusal::RepositoryNotEmpty(repository).into());
    };
    let mut shown = ecr.render_repository(&row);
    // As ECR answers: what is gone has no settings.
    shown.image_scanning_configuration = None;
    shown.encryption_configuration = None;
    Ok(DeleteRepositoryResponse { repository: Some(shown) })
}
