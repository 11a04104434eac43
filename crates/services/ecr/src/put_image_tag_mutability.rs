//! PutImageTagMutability.

use aws_wire::{ApiError, Caller};
use ecr_api::{PutImageTagMutabilityRequest, PutImageTagMutabilityResponse};
use model::EcrRepository;
use store::Batch;

use super::errors::of_catalog;
use super::request::{read_mutability, render_exclusions, render_mutability, repository};
use crate::Ecr;
use crate::catalog::need;

pub(super) async fn put_image_tag_mutability(
    ecr: &Ecr,
    caller: &Caller,
    input: PutImageTagMutabilityRequest,
) -> Result<PutImageTagMutabilityResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:PutImageTagMutability", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let (tag_mutability, mutability_exclusions) =
        read_mutability(input.image_tag_mutability, input.image_tag_mutability_exclusion_filters)?;
    let row = ecr
        .control
        .change(caller, &permission, |view, _| {
            let row = need(view, &repository).map_err(of_catalog)?;
            let row = EcrRepository {
                tag_mutability,
                mutability_exclusions: mutability_exclusions.clone(),
                ..row.as_ref().clone()
            };
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, row))
        })
        .await?;
    Ok(PutImageTagMutabilityResponse {
        registry_id: Some(row.account.to_string()),
        repository_name: Some(row.name.to_string()),
        image_tag_mutability: Some(render_mutability(row.tag_mutability)),
        image_tag_mutability_exclusion_filters: render_exclusions(&row.mutability_exclusions),
    })
}
