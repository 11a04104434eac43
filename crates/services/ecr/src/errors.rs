//! What ECR refuses, as data; its code and sentence are chosen here and nowhere else.

use aws_wire::ApiError;
use longshore_types::{AccountId, Digest, ImageTag, Uuid};
use registry::{CatalogError, RegistryError, Repository, UploadError};

/// The caller's mistake, or a state of the world they may ask about.
#[derive(Debug)]
pub(super) enum Refusal {
    NoRepository(Repository),
    RepositoryExists(Repository),
    RepositoryNotEmpty(Repository),
    RepositoryLimit {
        max: usize,
    },
    NoImage {
        repository: Repository,
        digest: Option<String>,
        tag: Option<String>,
    },
    ImageExists {
        repository: Repository,
        digest: Digest,
        tag: Option<ImageTag>,
    },
    FixedTag {
        repository: Repository,
        tag: ImageTag,
    },
    DigestMismatch {
        given: Digest,
        actual: Digest,
    },
    LayersMissing(String),
    ImagesMissing(String),
    NoUpload {
        repository: Repository,
        id: String,
    },
    EmptyUpload {
        repository: Repository,
        id: Uuid,
    },
    PartOutOfPlace {
        repository: Repository,
        id: Uuid,
        last_byte: u64,
    },
    PartTooSmall {
        repository: Repository,
        id: Uuid,
        min: u64,
    },
    LayerExists {
        repository: Repository,
        digest: Digest,
    },
    NoLayer {
        repository: Repository,
        digest: Digest,
    },
    Limit(String),
    TooManyTags {
        max: usize,
    },
    InvalidTag(String),
    NoScan {
        repository: Repository,
        digest: Option<String>,
        tag: Option<String>,
    },
    /// A list of images, or something that is no image.
    NotScannable(Digest),
    NoLifecyclePolicy(Repository),
    NoRepositoryPolicy(Repository),
    NoRegistryPolicy(AccountId),
    NoPreview(Repository),
    RuleExists(AccountId, String),
    NoRule(AccountId, String),
    UnsupportedUpstream(String),
    /// The secret that a rule names, by its ARN.
    NoSecret(String),
    /// Why the secret is not given.
    SecretUnreachable(String),
    SecretUnreadable(String),
    TemplateExists(AccountId, String),
    NoTemplate(AccountId, String),
    /// A parameter that breaks a rule; the sentence says which.
    Invalid(String),
    /// A wish that nothing here would act on.
    Unsupported(&'static str),
    Busy,
}

impl Refusal {
    /// In the form that ECR has for a parameter's broken rule.
    pub(super) fn parameter(name: &str, constraint: impl AsRef<str>) -> Self {
        let constraint = constraint.as_ref();
        Self::Invalid(format!(
            "Invalid parameter at '{name}' failed to satisfy constraint: '{constraint}'"
        ))
    }
}

/// `the repository with name 'x' in the registry with id 'y'`, as most sentences end.
fn there(repository: &Repository) -> String {
    let Repository { account, name } = repository;
    format!("the repository with name '{name}' in the registry with id '{account}'")
}

fn null_or(text: Option<String>) -> String {
    text.unwrap_or_else(|| "null".to_owned())
}

impl From<Refusal> for ApiError {
    /// No wildcard: a new variant must choose.
    fn from(refusal: Refusal) -> Self {
        let (code, message) = match refusal {
            Refusal::NoRepository(Repository { account, name }) => (
                "RepositoryNotFoundException",
                format!(
                    "The repository with name '{name}' does not exist in the registry with id \
                     '{account}'"
                ),
            ),
            Refusal::RepositoryExists(Repository { account, name }) => (
                "RepositoryAlreadyExistsException",
                format!(
                    "The repository with name '{name}' already exists in the registry with id \
                     '{account}'"
                ),
            ),
            Refusal::RepositoryNotEmpty(Repository { account, name }) => (
                "RepositoryNotEmptyException",
                format!(
                    "The repository with name '{name}' in registry with id '{account}' cannot be \
                     deleted because it still contains images"
                ),
            ),
            Refusal::RepositoryLimit { max } => (
                "LimitExceededException",
                format!("The limit of {max} repositories for this account has been reached."),
            ),
            Refusal::NoImage { repository: Repository { account, name }, digest, tag } => (
                "ImageNotFoundException",
                format!(
                    "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist \
                     within the repository with name '{name}' in the registry with id '{account}'",
                    null_or(digest),
                    null_or(tag)
                ),
            ),
            Refusal::ImageExists { repository: Repository { account, name }, digest, tag } => (
                "ImageAlreadyExistsException",
                match tag {
                    Some(tag) => format!(
                        "Image with digest '{digest}' and tag '{tag}' already exists in the \
                         repository with name '{name}' in registry with id '{account}'"
                    ),
                    None => format!(
                        "Image with digest '{digest}' already exists in the repository with name \
                         '{name}' in registry with id '{account}'"
                    ),
                },
            ),
            Refusal::FixedTag { repository, tag } => (
                "ImageTagAlreadyExistsException",
                format!(
                    "The image tag '{tag}' already exists in the '{}' repository and cannot be \
                     overwritten because the tag is immutable.",
                    repository.name
                ),
            ),
            Refusal::DigestMismatch { given, actual } => (
                "ImageDigestDoesNotMatchException",
                format!("The specified digest '{given}' does not match the image's, '{actual}'."),
            ),
            Refusal::LayersMissing(sentence) => ("LayersNotFoundException", sentence),
            Refusal::ImagesMissing(sentence) => ("ReferencedImagesNotFoundException", sentence),
            Refusal::NoUpload { repository, id } => (
                "UploadNotFoundException",
                format!("The upload with id '{id}' does not exist for {}", there(&repository)),
            ),
            Refusal::EmptyUpload { repository, id } => (
                "EmptyUploadException",
                format!("The upload with id '{id}' for {} has no layer parts", there(&repository)),
            ),
            Refusal::PartOutOfPlace { repository: Repository { account, name }, id, last_byte } => {
                let message = format!(
                    "The layer part of upload '{id}' does not begin where the last one ended, at \
                     byte {last_byte}"
                );
                return Self::client("InvalidLayerPartException", message)
                    .with("registryId", account.to_string())
                    .with("repositoryName", name.to_string())
                    .with("uploadId", id.to_string())
                    .with("lastValidByteReceived", last_byte);
            }
            Refusal::PartTooSmall { repository, id, min } => (
                "LayerPartTooSmallException",
                format!(
                    "A layer part of the upload with id '{id}' for {}, other than the last, is \
                     smaller than {min} bytes",
                    there(&repository)
                ),
            ),
            Refusal::LayerExists { repository, digest } => (
                "LayerAlreadyExistsException",
                format!("Layer with digest '{digest}' already exists in {}", there(&repository)),
            ),
            Refusal::NoLayer { repository, digest } => (
                "LayersNotFoundException",
                format!("Layer with digest '{digest}' does not exist in {}", there(&repository)),
            ),
            Refusal::NoScan { repository: Repository { account, name }, digest, tag } => (
                "ScanNotFoundException",
                format!(
                    "Image scan does not exist for the image with '{{imageDigest:'{}', \
                     imageTag:'{}'}}' in the repository with name '{name}' in the registry with id \
                     '{account}'",
                    null_or(digest),
                    null_or(tag)
                ),
            ),
            Refusal::NotScannable(digest) => (
                "UnsupportedImageTypeException",
                format!("The image '{digest}' is of a type that can't be scanned."),
            ),
            Refusal::NoLifecyclePolicy(repository) => (
                "LifecyclePolicyNotFoundException",
                format!("Lifecycle policy does not exist for {}", there(&repository)),
            ),
            Refusal::NoRepositoryPolicy(repository) => (
                "RepositoryPolicyNotFoundException",
                format!("Repository policy does not exist for {}", there(&repository)),
            ),
            Refusal::NoRegistryPolicy(account) => (
                "RegistryPolicyNotFoundException",
                format!("Registry policy does not exist in the registry with id '{account}'"),
            ),
            Refusal::NoPreview(repository) => (
                "LifecyclePolicyPreviewNotFoundException",
                format!("Lifecycle policy preview does not exist for {}", there(&repository)),
            ),
            Refusal::RuleExists(account, prefix) => (
                "PullThroughCacheRuleAlreadyExistsException",
                format!(
                    "A pull through cache rule with ecrRepositoryPrefix '{prefix}' already exists in the \
                     registry with id '{account}'"
                ),
            ),
            Refusal::NoRule(account, prefix) => (
                "PullThroughCacheRuleNotFoundException",
                format!(
                    "Pull through cache rule with ecrRepositoryPrefix '{prefix}' not found in the registry \
                     with id '{account}'"
                ),
            ),
            Refusal::UnsupportedUpstream(sentence) => {
                ("UnsupportedUpstreamRegistryException", sentence)
            }
            Refusal::NoSecret(arn) => {
                ("SecretNotFoundException", format!("The secret '{arn}' does not exist."))
            }
            Refusal::SecretUnreachable(sentence) => ("UnableToAccessSecretException", sentence),
            Refusal::SecretUnreadable(sentence) => {
                ("UnableToDecryptSecretValueException", sentence)
            }
            Refusal::TemplateExists(account, prefix) => (
                "TemplateAlreadyExistsException",
                format!(
                    "A repository creation template with prefix '{prefix}' already exists in the registry \
                     with id '{account}'"
                ),
            ),
            Refusal::NoTemplate(account, prefix) => (
                "TemplateNotFoundException",
                format!(
                    "The repository creation template with prefix '{prefix}' does not exist in the \
                     registry with id '{account}'"
                ),
            ),
            Refusal::Limit(sentence) => ("LimitExceededException", sentence),
            Refusal::TooManyTags { max } => (
                "TooManyTagsException",
                format!("The number of tags exceeds the limit of {max} for a repository."),
            ),
            Refusal::InvalidTag(sentence) => ("InvalidTagParameterException", sentence),
            Refusal::Invalid(sentence) => ("InvalidParameterException", sentence),
            Refusal::Unsupported(sentence) => ("InvalidParameterException", sentence.to_owned()),
            Refusal::Busy => (
                "InvalidLayerPartException",
                "Another part of this upload is being received.".to_owned(),
            ),
        };
        Self::client(code, message)
    }
}

/// What the catalog refuses, as ECR says it.
pub(super) fn of_catalog(error: CatalogError) -> ApiError {
    let sentence = error.to_string();
    let refusal = match error {
        CatalogError::NoRepository(repository) => Refusal::NoRepository(repository),
        CatalogError::MissingLayers { .. } => Refusal::LayersMissing(sentence),
        CatalogError::MissingManifests { .. } => Refusal::ImagesMissing(sentence),
        CatalogError::FixedTag { repository, tag } => Refusal::FixedTag { repository, tag },
        CatalogError::Referenced { .. } | CatalogError::LayerReferenced { .. } => {
            Refusal::Invalid(sentence)
        }
        CatalogError::Limit { .. } => Refusal::Limit(sentence),
        CatalogError::Failed(source) => {
            return ApiError::fault("failed to write to the registry's catalog", source);
        }
    };
    refusal.into()
}

/// What the registry refuses, as ECR says it.
pub(super) fn of_registry(error: RegistryError) -> ApiError {
    match error {
        RegistryError::Catalog(error) => of_catalog(error),
        RegistryError::ManifestInvalid(why) => {
            Refusal::parameter("imageManifest", format!("Invalid image manifest: {why}")).into()
        }
        RegistryError::ManifestTooLarge { max } => {
            Refusal::parameter("imageManifest", format!("At most {max} bytes")).into()
        }
        RegistryError::Upload(UploadError::Busy) => Refusal::Busy.into(),
        RegistryError::Upload(error @ UploadError::TooMany { .. }) => {
            Refusal::Limit(error.to_string()).into()
        }
        other => ApiError::fault("failed to use the registry", other),
    }
}
