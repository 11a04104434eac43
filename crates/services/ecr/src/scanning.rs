//! Image scanning: asked for by most who make repositories, kept and shown, and done by nobody here.
//!
//! What is answered of a scan says so: `FAILED` with a description, and never "no findings".

use aws_wire::{ApiError, Caller};
use ecr_api::{
    DescribeImageScanFindingsRequest, DescribeImageScanFindingsResponse, ImageScanStatus,
    ImageScanningConfiguration, PutImageScanningConfigurationRequest,
    PutImageScanningConfigurationResponse, ScanStatus, StartImageScanRequest,
    StartImageScanResponse,
};
use model::EcrRepository;
use store::Batch;

use super::describe_images::{find, identify, refuse};
use super::errors::{Refusal, of_catalog};
use super::request::repository;
use crate::Ecr;
use crate::catalog::need;

const NOT_SCANNED: &str = "This registry does not scan images: nothing was looked for.";

pub(super) fn read(asked: Option<&ImageScanningConfiguration>) -> bool {
    asked.and_then(|asked| asked.scan_on_push).unwrap_or(false)
}

pub(super) fn render(row: &EcrRepository) -> ImageScanningConfiguration {
    ImageScanningConfiguration { scan_on_push: Some(row.scan_on_push) }
}

/// The state of the scan of an image that was to be scanned when it was pushed.
pub(super) fn status(row: &EcrRepository) -> Option<ImageScanStatus> {
    row.scan_on_push.then(failed)
}

pub(super) async fn put_image_scanning_configuration(
    ecr: &Ecr,
    caller: &Caller,
    input: PutImageScanningConfigurationRequest,
) -> Result<PutImageScanningConfigurationResponse, ApiError> {
    let permission = ecr.on(
        caller,
        "ecr:PutImageScanningConfiguration",
        &input.registry_id,
        &input.repository_name,
    );
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let scan_on_push = read(input.image_scanning_configuration.as_ref());
    let row = ecr
        .control
        .change(caller, &permission, |view, _| {
            let row = need(view, &repository).map_err(of_catalog)?;
            let row = EcrRepository { scan_on_push, ..row.as_ref().clone() };
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, row))
        })
        .await?;
    Ok(PutImageScanningConfigurationResponse {
        registry_id: Some(row.account.to_string()),
        repository_name: Some(row.name.to_string()),
        image_scanning_configuration: Some(render(&row)),
    })
}

/// There is nobody who scans: the answer says that the scan failed, and why.
pub(super) async fn start_image_scan(
    ecr: &Ecr,
    caller: &Caller,
    input: StartImageScanRequest,
) -> Result<StartImageScanResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:StartImageScan", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    let row = need(&view, &repository).map_err(of_catalog)?;
    let id = input.image_id.unwrap_or_default();
    let (image, tag) =
        find(&view, &repository, &id).map_err(|why| refuse(why, &repository, &id))?;
    Ok(StartImageScanResponse {
        registry_id: Some(row.account.to_string()),
        repository_name: Some(row.name.to_string()),
        image_id: Some(identify(image, tag)),
        image_scan_status: Some(failed()),
    })
}

fn failed() -> ImageScanStatus {
    ImageScanStatus { status: Some(ScanStatus::Failed), description: Some(NOT_SCANNED.to_owned()) }
}

pub(super) async fn describe_image_scan_findings(
    ecr: &Ecr,
    caller: &Caller,
    input: DescribeImageScanFindingsRequest,
) -> Result<DescribeImageScanFindingsResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:DescribeImageScanFindings", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    let row = need(&view, &repository).map_err(of_catalog)?;
    let id = input.image_id.unwrap_or_default();
    let (image, tag) =
        find(&view, &repository, &id).map_err(|why| refuse(why, &repository, &id))?;
    let Some(status) = status(row) else {
        let (digest, tag) = (id.image_digest, id.image_tag);
        return Err(Refusal::NoScan { repository, digest, tag }.into());
    };
    Ok(DescribeImageScanFindingsResponse {
        registry_id: Some(row.account.to_string()),
        repository_name: Some(row.name.to_string()),
        image_id: Some(identify(image, tag)),
        image_scan_status: Some(status),
        ..DescribeImageScanFindingsResponse::default()
    })
}
