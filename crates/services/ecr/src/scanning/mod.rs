//! Image scanning, by the command that the operator names (`--image-scanner`).
//!
//! An image is scanned when it is pushed, if its repository or a rule of its registry says so ([`registry`]), and when that
//! is asked for. [`reconciler`] has it done, [`command`] runs the command, [`report`] reads what it printed. Without a
//! command nothing is scanned, and what is answered of a scan says so: `FAILED` with a description, and never "no
//! findings".

mod command;
mod reconciler;
mod registry;
mod report;
#[cfg(test)]
mod tests;

pub(super) use reconciler::Scans;
pub(super) use registry::{
    batch_get_repository_scanning_configuration, get_registry_scanning_configuration, is_on_push,
    put_registry_scanning_configuration,
};

use std::path::PathBuf;

use aws_wire::{ApiError, Caller};
use ecr_api::{
    Attribute, DescribeImageScanFindingsRequest, DescribeImageScanFindingsResponse,
    FindingSeverity, ImageScanFinding, ImageScanFindings, ImageScanFindingsSummary,
    ImageScanStatus, ImageScanningConfiguration, PutImageScanningConfigurationRequest,
    PutImageScanningConfigurationResponse, ScanStatus, StartImageScanRequest,
    StartImageScanResponse,
};
use image::manifest::{DOCKER_CONFIG, OCI_CONFIG};
use longshore_types::Timestamp;
use model::{EcrManifest, EcrRepository, ImageScan, ScanState, View};
use store::Batch;

use super::describe_images::{find, identify, refuse};
use super::errors::{Refusal, of_catalog};
use super::limits::SCAN_AGAIN_MS_MIN;
use super::pages::page;
use super::request::repository;
use crate::Ecr;
use crate::catalog::{REGISTRY_DIR, need};
use report::{Finding, Report};

const NOT_SCANNED: &str = "This registry does not scan images: nothing was looked for.";
/// Where findings are kept, within the registry's directory.
const SCANS_DIR: &str = "scans";

pub(super) fn read(asked: Option<&ImageScanningConfiguration>) -> bool {
    asked.and_then(|asked| asked.scan_on_push).unwrap_or(false)
}

pub(super) fn render(row: &EcrRepository) -> ImageScanningConfiguration {
    ImageScanningConfiguration { scan_on_push: Some(row.scan_on_push) }
}

/// Whether a manifest is of a container's image: lists and other artifacts are not scanned.
pub(super) fn is_image(config_media_type: Option<&str>) -> bool {
    matches!(config_media_type, Some(DOCKER_CONFIG | OCI_CONFIG))
}

impl Ecr {
    fn has_scanner(&self) -> bool {
        self.control.config.image_scanner.is_some()
    }

    fn scans_dir(&self) -> PathBuf {
        self.control.config.data_dir.join(REGISTRY_DIR).join(SCANS_DIR)
    }

    /// The state of an image's scan, if it was scanned, is to be, or should have been when it was pushed.
    pub(super) fn scan_status(
        &self,
        view: &View,
        repository: &EcrRepository,
        image: &EcrManifest,
    ) -> Option<ImageScanStatus> {
        match &image.scan {
            Some(scan) => Some(render_status(scan)),
            None if self.has_scanner() => None,
            None => is_on_push(view, repository).then(failed),
        }
    }
}

fn render_status(scan: &ImageScan) -> ImageScanStatus {
    let (status, description) = match scan.state {
        ScanState::Pending => (ScanStatus::InProgress, "The scan has not ended yet."),
        ScanState::Complete => (ScanStatus::Complete, "The scan was completed successfully."),
        ScanState::Failed => (ScanStatus::Failed, "The scan failed."),
    };
    let description = scan.why.clone().unwrap_or_else(|| description.to_owned());
    ImageScanStatus { status: Some(status), description: Some(description) }
}

fn counts(scan: &ImageScan) -> std::collections::BTreeMap<String, i32> {
    let count = |(severity, count): (&String, &u32)| {
        (severity.clone(), i32::try_from(*count).unwrap_or(i32::MAX))
    };
    scan.counts.iter().map(count).collect()
}

/// What an image's details say of its scan.
pub(super) fn render_summary(image: &EcrManifest) -> Option<ImageScanFindingsSummary> {
    let scan = image.scan.as_ref().filter(|scan| scan.state == ScanState::Complete)?;
    Some(ImageScanFindingsSummary {
        image_scan_completed_at: scan.ended_at,
        vulnerability_source_updated_at: scan.source_updated_at,
        finding_severity_counts: Some(counts(scan)),
    })
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

/// Without a scanner the scan has failed at once, and says why.
pub(super) async fn start_image_scan(
    ecr: &Ecr,
    caller: &Caller,
    input: StartImageScanRequest,
) -> Result<StartImageScanResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:StartImageScan", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let id = input.image_id.unwrap_or_default();
    let decided = ecr.control.change(caller, &permission, |view, now| {
        let row = need(view, &repository).map_err(of_catalog)?;
        let found = find(view, &repository, &id).map_err(|why| refuse(why, &repository, &id));
        let (image, tag) = found?;
        let mut batch = Batch::on(view);
        let scan = match ecr.has_scanner() {
            true => next_scan(image, now)?,
            false => ImageScan {
                state: ScanState::Failed,
                why: Some(NOT_SCANNED.to_owned()),
                ended_at: Some(now),
                ..ImageScan::asked(now)
            },
        };
        // What a scanner found before stays.
        let is_found = |scan: &ImageScan| scan.state == ScanState::Complete;
        if ecr.has_scanner() || !image.scan.as_ref().is_some_and(is_found) {
            batch.put(EcrManifest { scan: Some(scan.clone()), ..image.clone() });
        }
        Ok((batch, (row.account, row.name.clone(), identify(image, tag), render_status(&scan))))
    });
    let (account, name, image_id, status) = decided.await?;
    Ok(StartImageScanResponse {
        registry_id: Some(account.to_string()),
        repository_name: Some(name.to_string()),
        image_id: Some(image_id),
        image_scan_status: Some(status),
    })
}

/// The scan that is asked for now; one that has not ended yet goes on.
fn next_scan(image: &EcrManifest, now: Timestamp) -> Result<ImageScan, ApiError> {
    if !is_image(image.config_media_type.as_deref()) {
        return Err(Refusal::NotScannable(image.digest).into());
    }
    match &image.scan {
        Some(scan) if scan.state == ScanState::Pending => Ok(scan.clone()),
        Some(scan)
            if scan.state == ScanState::Complete
                && now.since_ms(scan.asked_at) < SCAN_AGAIN_MS_MIN =>
        {
            let limit = "The scan quota per image has been exceeded. Wait and try again.";
            Err(Refusal::Limit(limit.to_owned()).into())
        }
        Some(_) | None => Ok(ImageScan::asked(now)),
    }
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
    let Some(status) = ecr.scan_status(&view, row, image) else {
        let (digest, tag) = (id.image_digest, id.image_tag);
        return Err(Refusal::NoScan { repository, digest, tag }.into());
    };
    let mut answer = DescribeImageScanFindingsResponse {
        registry_id: Some(row.account.to_string()),
        repository_name: Some(row.name.to_string()),
        image_id: Some(identify(image, tag)),
        image_scan_status: Some(status),
        ..DescribeImageScanFindingsResponse::default()
    };
    let scan = image.scan.as_ref().filter(|scan| scan.state == ScanState::Complete);
    if let Some(scan) = scan {
        let report = ecr.report_of(image).await?;
        let findings = report.findings.iter().enumerate();
        let findings = findings.map(|(number, it)| (format!("{number:08}"), render_finding(it)));
        let (shown, next_token) = page(input.next_token.as_deref(), input.max_results, findings)?;
        answer.next_token = next_token;
        answer.image_scan_findings = Some(ImageScanFindings {
            image_scan_completed_at: scan.ended_at,
            vulnerability_source_updated_at: scan.source_updated_at,
            finding_severity_counts: Some(counts(scan)),
            findings: Some(shown),
            enhanced_findings: None,
        });
    }
    Ok(answer)
}

fn render_finding(finding: &Finding) -> ImageScanFinding {
    let attribute = |(key, value): (&String, &String)| Attribute {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    ImageScanFinding {
        name: Some(finding.name.clone()),
        description: finding.description.clone(),
        uri: finding.uri.clone(),
        severity: Some(FindingSeverity::from(finding.severity.as_str())),
        attributes: Some(finding.attributes.iter().map(attribute).collect()),
    }
}

impl Ecr {
    /// What was found in an image that was scanned.
    async fn report_of(&self, image: &EcrManifest) -> Result<Report, ApiError> {
        let path = self.scans_dir().join(command::report_name(image));
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let failed = |error: &dyn std::fmt::Display| {
            ApiError::fault("failed to read what a scan found", error.to_string())
        };
        let bytes = read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| failed(&error))
    }
}
