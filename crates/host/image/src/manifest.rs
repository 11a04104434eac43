//! Manifests and indexes: Docker schema 2 and OCI, which differ in their media types only.

use std::collections::BTreeMap;

use longshore_types::Digest;
use serde::{Deserialize, Serialize};

pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// What we can read, in the order in which we would rather have it.
pub const ACCEPTED: [&str; 4] = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST];

/// The largest manifest that is read or stored, as registries have agreed.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// The largest image configuration that is read.
pub const CONFIG_BYTES_MAX: usize = 8 << 20;
/// The most layers that an image may have: overlayfs mounts no more than 500.
pub const LAYERS_MAX: usize = 256;

/// Why some bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is not the JSON that its kind asks for")]
    Json(#[source] serde_json::Error),
    #[error("the manifest's media type {0:?} is unknown")]
    UnknownMediaType(String),
    #[error("the manifest is of Docker's schema 1, which is no longer supported; push it again")]
    Schema1,
    #[error("the manifest has more than {LAYERS_MAX} layers")]
    TooManyLayers,
    #[error("the manifest says nothing of its kind")]
    NoMediaType,
}

/// Some content that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where content that may not be distributed is to be had; such layers are never pushed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Content of `media_type`, with nothing else said about it.
    pub fn of(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
        }
    }
}

/// What a manifest of an index runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

impl Platform {
    pub fn linux(architecture: &str) -> Self {
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), ..Self::default() }
    }

    /// What this binary was built for.
    pub fn host() -> Self {
        Self::linux(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" })
    }

    fn runs(&self, other: &Self) -> bool {
        let variant_fits = match (&self.variant, &other.variant) {
            (Some(ours), Some(theirs)) => ours == theirs,
            // amd64 v1 and arm64 v8 are what the architecture means without a variant.
            (None, Some(theirs)) => matches!(theirs.as_str(), "v1" | "v8" | ""),
            (Some(_) | None, None) => true,
        };
        self.os == other.os && self.architecture == other.architecture && variant_fits
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    pub schema_version: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Manifests for several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The manifest that runs on `platform`.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .find(|manifest| manifest.platform.as_ref().is_some_and(|theirs| platform.runs(theirs)))
    }

    /// The platforms that it does have, for the sentence that says what it has not.
    pub fn platforms(&self) -> Vec<String> {
        let known = self.manifests.iter().filter_map(|manifest| manifest.platform.as_ref());
        known.filter(|platform| platform.os != "unknown").map(ToString::to_string).collect()
    }
}

/// Either of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    Image(Box<ImageManifest>),
    Index(Box<Index>),
}

/// The members that tell what kind of manifest it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    #[serde(default)]
    schema_version: Option<u8>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads a manifest; `said` is the media type that came with it, if any did.
    pub fn parse(bytes: &[u8], said: Option<&str>) -> Result<Self, ManifestError> {
        match media_type(bytes, said)?.as_str() {
            DOCKER_MANIFEST | OCI_MANIFEST => {
                let image: ImageManifest =
                    serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
                if image.layers.len() > LAYERS_MAX {
                    return Err(ManifestError::TooManyLayers);
                }
                Ok(Self::Image(Box::new(image)))
            }
            DOCKER_LIST | OCI_INDEX => {
                let index = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
                Ok(Self::Index(Box::new(index)))
            }
            DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED => Err(ManifestError::Schema1),
            other => Err(ManifestError::UnknownMediaType(other.to_owned())),
        }
    }
}

/// What a manifest is: its own word first, then that of the sender, then what it looks like.
pub fn media_type(bytes: &[u8], said: Option<&str>) -> Result<String, ManifestError> {
    let kind: Kind = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    if kind.schema_version == Some(1) {
        return Err(ManifestError::Schema1);
    }
    let said = said.map(|said| said.split(';').next().unwrap_or_default().trim());
    let is_vague = |said: &&str| matches!(*said, "" | "application/json" | "text/plain");
    match (kind.media_type, said.filter(|said| !is_vague(said))) {
        (Some(own), _) => Ok(own),
        (None, Some(said)) => Ok(said.to_owned()),
        (None, None) if kind.config.is_some() => Ok(OCI_MANIFEST.to_owned()),
        (None, None) if kind.manifests.is_some() => Ok(OCI_INDEX.to_owned()),
        (None, None) => Err(ManifestError::NoMediaType),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let digest = |fill: u8| Digest::Sha256([fill; 32]);
        let entry = |architecture: &str, variant: Option<&str>, fill| Descriptor {
            platform: Some(Platform {
                variant: variant.map(str::to_owned),
                ..Platform::linux(architecture)
            }),
            ..Descriptor::of(OCI_MANIFEST, digest(fill), 1)
        };
        Index {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: vec![
                entry("arm", Some("v7"), 1),
                entry("arm64", Some("v8"), 2),
                entry("amd64", None, 3),
            ],
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_platform_decides_which_manifest_of_an_index_is_meant() {
        let pick = |arch| index().select(&Platform::linux(arch)).map(|found| found.digest);
        assert_eq!(pick("amd64"), Some(Digest::Sha256([3; 32])));
        assert_eq!(pick("arm64"), Some(Digest::Sha256([2; 32])));
        assert_eq!(pick("riscv64"), None);
        assert_eq!(index().platforms(), ["linux/arm/v7", "linux/arm64/v8", "linux/amd64"]);
    }

    #[test]
    fn the_kind_is_what_the_manifest_says_then_what_the_sender_says_then_what_it_looks_like() {
        let own = format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[]}}"#);
        assert_eq!(media_type(own.as_bytes(), Some(OCI_INDEX)).unwrap(), DOCKER_LIST);
        let bare = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(media_type(bare, Some(DOCKER_LIST)).unwrap(), DOCKER_LIST);
        assert_eq!(media_type(bare, Some("application/json")).unwrap(), OCI_INDEX);
        assert!(matches!(media_type(b"{}", None), Err(ManifestError::NoMediaType)));
        assert!(matches!(media_type(br#"{"schemaVersion":1}"#, None), Err(ManifestError::Schema1)));
        assert!(media_type(b"<html>", None).is_err());
    }
}
