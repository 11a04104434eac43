//! Layers by ECR's own API: which are there, uploading one in parts, a URL to download one.

use aws_wire::{ApiError, Caller};
use bytes::Bytes;
use ecr_api::{
    BatchCheckLayerAvailabilityRequest, BatchCheckLayerAvailabilityResponse,
    CompleteLayerUploadRequest, CompleteLayerUploadResponse, GetDownloadUrlForLayerRequest,
    GetDownloadUrlForLayerResponse, InitiateLayerUploadRequest, InitiateLayerUploadResponse, Layer,
    LayerAvailability, LayerFailure, LayerFailureCode, UploadLayerPartRequest,
    UploadLayerPartResponse,
};
use image::{BlobError, BlobWriter, manifest};
use longshore_types::{Digest, Uuid};
use registry::{Catalog as _, LAYER_BYTES_MAX, RegistryError, Repository, Upload, UploadError};

use super::errors::{Refusal, of_registry};
use super::request::repository;
use crate::Ecr;

/// How much a client is told to send at once, as ECR does.
const PART_BYTES: i64 = 20 << 20;
/// Every part but the last is at least so long.
const PART_BYTES_MIN: u64 = 5 << 20;
/// How long a download's URL is good.
const URL_MS: u64 = 3600 * 1000;
/// How many layers may be asked for at once.
const DIGESTS_MAX: usize = 100;

pub(super) async fn batch_check_layer_availability(
    ecr: &Ecr,
    caller: &Caller,
    input: BatchCheckLayerAvailabilityRequest,
) -> Result<BatchCheckLayerAvailabilityResponse, ApiError> {
    let permission = ecr.on(
        caller,
        "ecr:BatchCheckLayerAvailability",
        &input.registry_id,
        &input.repository_name,
    );
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    ecr.usable(&view, &repository)?;
    let digests = input.layer_digests.unwrap_or_default();
    if digests.is_empty() || digests.len() > DIGESTS_MAX {
        let rule = format!("Member must have length between 1 and {DIGESTS_MAX}");
        return Err(Refusal::parameter("layerDigests", rule).into());
    }
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    for text in digests {
        let Ok(digest) = text.parse::<Digest>() else {
            failures.push(LayerFailure {
                layer_digest: Some(text),
                failure_code: Some(LayerFailureCode::InvalidLayerDigest),
                failure_reason: Some(
                    "Invalid request parameters: layer digest should satisfy the regex \
                     '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'"
                        .to_owned(),
                ),
            });
            continue;
        };
        let size = ecr.registry.catalog().layer(&repository, &digest);
        let availability = match size {
            Some(_) => LayerAvailability::Available,
            None => LayerAvailability::Unavailable,
        };
        layers.push(Layer {
            layer_digest: Some(text),
            layer_availability: Some(availability),
            layer_size: size.and_then(|size| i64::try_from(size).ok()),
            media_type: size.map(|_| manifest::DOCKER_LAYER_GZIP.to_owned()),
        });
    }
    Ok(BatchCheckLayerAvailabilityResponse { layers: Some(layers), failures: Some(failures) })
}

pub(super) async fn initiate_layer_upload(
    ecr: &Ecr,
    caller: &Caller,
    input: InitiateLayerUploadRequest,
) -> Result<InitiateLayerUploadResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:InitiateLayerUpload", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    ecr.control.read(caller, &permission)?;
    ecr.make_on_push(caller, &repository).await?;
    ecr.usable(&ecr.control.view(), &repository)?;
    let id = ecr.registry.uploads().start(repository);
    let id = id.map_err(|error| of_registry(error.into()))?;
    Ok(InitiateLayerUploadResponse { upload_id: Some(id.to_string()), part_size: Some(PART_BYTES) })
}

/// The upload that a request names.
async fn take(
    ecr: &Ecr,
    repository: &Repository,
    id: Option<&String>,
) -> Result<(Upload, BlobWriter), ApiError> {
    ecr.usable(&ecr.control.view(), repository)?;
    let text = id.map(String::as_str).unwrap_or_default();
    let unknown = || Refusal::NoUpload { repository: repository.clone(), id: text.to_owned() };
    let id: Uuid = text.parse().map_err(|_| unknown())?;
    match ecr.registry.uploads().take(repository, id).await {
        Ok(taken) => Ok(taken),
        Err(UploadError::Unknown) => Err(unknown().into()),
        Err(error) => Err(of_registry(error.into())),
    }
}

pub(super) async fn upload_layer_part(
    ecr: &Ecr,
    caller: &Caller,
    input: UploadLayerPartRequest,
) -> Result<UploadLayerPartResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:UploadLayerPart", &input.registry_id, &input.repository_name);
    ecr.control.read(caller, &permission)?;
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let (mut upload, writer) = take(ecr, &repository, input.upload_id.as_ref()).await?;
    let id = upload.id();
    let bytes = input.layer_part_blob.unwrap_or_default();
    let written = writer.written();
    let length = bytes.len() as u64;
    let first = input.part_first_byte.and_then(|first| u64::try_from(first).ok());
    let last = input.part_last_byte.and_then(|last| u64::try_from(last).ok());
    let is_in_place = first == Some(written)
        && length > 0
        && last.and_then(|last| last.checked_add(1)) == written.checked_add(length);
    if !is_in_place || written.saturating_add(length) > LAYER_BYTES_MAX {
        upload.keep(writer);
        let last_byte = written.saturating_sub(1);
        return Err(Refusal::PartOutOfPlace { repository, id, last_byte }.into());
    }
    upload.parts().push(length);
    let (writer, done) = write(writer, bytes).await?;
    let end = writer.written();
    upload.keep(writer);
    done.map_err(|error| of_registry(RegistryError::Blob(error)))?;
    Ok(UploadLayerPartResponse {
        registry_id: Some(repository.account.to_string()),
        repository_name: Some(repository.name.to_string()),
        upload_id: Some(id.to_string()),
        last_byte_received: i64::try_from(end.saturating_sub(1)).ok(),
    })
}

async fn write(
    mut writer: BlobWriter,
    bytes: Bytes,
) -> Result<(BlobWriter, Result<(), BlobError>), ApiError> {
    let written = tokio::task::spawn_blocking(move || {
        let done = writer.write(&bytes);
        (writer, done)
    });
    written.await.map_err(|error| ApiError::fault("failed to write a layer part", error))
}

pub(super) async fn complete_layer_upload(
    ecr: &Ecr,
    caller: &Caller,
    input: CompleteLayerUploadRequest,
) -> Result<CompleteLayerUploadResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:CompleteLayerUpload", &input.registry_id, &input.repository_name);
    ecr.control.read(caller, &permission)?;
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let digests = input.layer_digests.unwrap_or_default();
    let [digest] = digests.as_slice() else {
        return Err(Refusal::parameter("layerDigests", "must have exactly one member").into());
    };
    let digest: Digest = digest
        .parse()
        .map_err(|_| Refusal::parameter("layerDigests", "must be a sha256 digest"))?;
    let (mut upload, writer) = take(ecr, &repository, input.upload_id.as_ref()).await?;
    let id = upload.id();
    if let Err(refusal) = check_upload(ecr, &repository, &mut upload, &writer, digest) {
        upload.keep(writer);
        return Err(refusal);
    }
    match ecr.registry.finish_upload(&repository, upload, writer, digest).await {
        Ok(_) => {}
        Err(RegistryError::Upload(UploadError::Blob(BlobError::DigestMismatch(mismatch)))) => {
            let message = format!(
                "The layer has the digest '{}' and not '{}'",
                mismatch.actual, mismatch.expected
            );
            return Err(ApiError::client("InvalidLayerException", message));
        }
        Err(error) => return Err(of_registry(error)),
    }
    Ok(CompleteLayerUploadResponse {
        registry_id: Some(repository.account.to_string()),
        repository_name: Some(repository.name.to_string()),
        upload_id: Some(id.to_string()),
        layer_digest: Some(digest.to_string()),
    })
}

fn check_upload(
    ecr: &Ecr,
    repository: &Repository,
    upload: &mut Upload,
    writer: &BlobWriter,
    digest: Digest,
) -> Result<(), ApiError> {
    let (repository, id) = (repository.clone(), upload.id());
    if writer.written() == 0 {
        return Err(Refusal::EmptyUpload { repository, id }.into());
    }
    let parts = upload.parts();
    let (_, all_but_last) = parts.split_last().unwrap_or((&0, &[]));
    if all_but_last.iter().any(|part| *part < PART_BYTES_MIN) {
        return Err(Refusal::PartTooSmall { repository, id, min: PART_BYTES_MIN }.into());
    }
    if ecr.registry.catalog().layer(&repository, &digest).is_some() {
        return Err(Refusal::LayerExists { repository, digest }.into());
    }
    Ok(())
}

pub(super) async fn get_download_url_for_layer(
    ecr: &Ecr,
    caller: &Caller,
    input: GetDownloadUrlForLayerRequest,
) -> Result<GetDownloadUrlForLayerResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:GetDownloadUrlForLayer", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    ecr.usable(&view, &repository)?;
    let digest: Digest = input
        .layer_digest
        .unwrap_or_default()
        .parse()
        .map_err(|_| Refusal::parameter("layerDigest", "must be a sha256 digest"))?;
    if ecr.registry.catalog().layer(&repository, &digest).is_none() {
        return Err(Refusal::NoLayer { repository, digest }.into());
    }
    let expires = caller.now.plus_ms(URL_MS);
    let grant = ecr.registry.authorizer().layer_grant(&repository, &digest, expires);
    let endpoint = ecr.control.endpoint();
    let url = format!("{endpoint}/v2/{}/blobs/{digest}?grant={grant}", repository.name);
    Ok(GetDownloadUrlForLayerResponse {
        download_url: Some(url),
        layer_digest: Some(digest.to_string()),
    })
}
