//! From a path below `/v2/` to what is asked for.

use std::collections::BTreeMap;

use http::Uri;
use image::{Digest, RepositoryName};
use longshore_types::Uuid;

use crate::error::RegistryError;

/// The query's name of a grant for one layer.
pub(crate) const GRANT: &str = "grant";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Base,
    Catalog,
    Tags { name: RepositoryName },
    Referrers { name: RepositoryName, digest: Digest },
    Manifest { name: RepositoryName, identifier: String },
    Blob { name: RepositoryName, digest: Digest },
    StartUpload { name: RepositoryName },
    Upload { name: RepositoryName, id: Uuid },
}

impl Endpoint {
    /// The repository that it is of.
    pub(crate) fn name(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Tags { name }
            | Self::Referrers { name, .. }
            | Self::Manifest { name, .. }
            | Self::Blob { name, .. }
            | Self::StartUpload { name }
            | Self::Upload { name, .. } => Some(name),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) endpoint: Endpoint,
    pub(crate) grant: Option<String>,
}

impl Route {
    /// Read from the end: a repository may well be called `blobs/uploads`.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, RegistryError> {
        let path = decode(uri.path());
        let path = path.strip_prefix("/v2").ok_or(RegistryError::Unsupported)?;
        let grant = query(uri).remove(GRANT);
        let mut segments = path.split('/');
        if segments.next() != Some("") {
            return Err(RegistryError::Unsupported);
        }
        let segments: Vec<&str> = segments.collect();
        let endpoint = match segments.as_slice() {
            [] | [""] => Endpoint::Base,
            ["_catalog"] => Endpoint::Catalog,
            [name @ .., "tags", "list"] => Endpoint::Tags { name: read_name(name)? },
            [name @ .., "manifests", identifier] => {
                let identifier = (*identifier).to_owned();
                Endpoint::Manifest { name: read_name(name)?, identifier }
            }
            [name @ .., "referrers", digest] => {
                Endpoint::Referrers { name: read_name(name)?, digest: read_digest(digest)? }
            }
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Endpoint::StartUpload { name: read_name(name)? }
            }
            [name @ .., "blobs", "uploads", id] => {
                let id = id.parse().map_err(|_| crate::uploads::UploadError::Unknown)?;
                Endpoint::Upload { name: read_name(name)?, id }
            }
            [name @ .., "blobs", digest] => {
                Endpoint::Blob { name: read_name(name)?, digest: read_digest(digest)? }
            }
            _ => return Err(RegistryError::Unsupported),
        };
        Ok(Self { endpoint, grant })
    }
}

fn read_name(segments: &[&str]) -> Result<RepositoryName, RegistryError> {
    segments.join("/").parse().map_err(|_| RegistryError::NameInvalid)
}

pub(crate) fn read_digest(text: &str) -> Result<Digest, RegistryError> {
    let refuse = |_| RegistryError::DigestInvalid("provided digest is none".to_owned());
    text.parse().map_err(refuse)
}

/// The query's fields, decoded; the last of a name counts.
pub(crate) fn query(uri: &Uri) -> BTreeMap<String, String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decode(key), decode(&value.replace('+', "%20")))).collect()
}

/// Undoes percent encoding; what is no encoding stays.
fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Endpoint, String> {
        let route = Route::parse(&path.parse().unwrap());
        route.map(|route| route.endpoint).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let digest = Digest::Sha256([0xaa; 32]);
        assert_eq!(parse("/v2/"), Ok(Endpoint::Base));
        assert_eq!(parse("/v2"), Ok(Endpoint::Base));
        assert_eq!(parse("/v2/_catalog?n=1"), Ok(Endpoint::Catalog));
        assert_eq!(parse("/v2/a/tags/list"), Ok(Endpoint::Tags { name: name("a") }));
        assert_eq!(
            parse("/v2/blobs/uploads/manifests/v1"),
            Ok(Endpoint::Manifest { name: name("blobs/uploads"), identifier: "v1".to_owned() })
        );
        let encoded = digest.to_string().replace(':', "%3A");
        assert_eq!(
            parse(&format!("/v2/a/b/blobs/{encoded}")),
            Ok(Endpoint::Blob { name: name("a/b"), digest })
        );
        assert_eq!(parse("/v2/a/blobs/uploads/"), Ok(Endpoint::StartUpload { name: name("a") }));
        assert_eq!(parse("/v2/a/blobs/uploads"), Ok(Endpoint::StartUpload { name: name("a") }));
        let id = "00112233-4455-4677-8899-aabbccddeeff";
        assert_eq!(
            parse(&format!("/v2/a/blobs/uploads/{id}?x=y")),
            Ok(Endpoint::Upload { name: name("a"), id: id.parse().unwrap() })
        );
    }

    #[test]
    fn what_is_no_path_of_the_protocol_is_refused() {
        for path in [
            "/v1/",
            "/v2/a",
            "/v2/A/tags/list",
            "/v2/../manifests/x",
            "/v2//tags/list",
            "/v2/a/blobs/sha256:12",
            "/v2/a/blobs/uploads/x",
            "/v2/a/referrers/x",
            "/v2x/",
        ] {
            assert!(parse(path).is_err(), "{path}");
        }
    }
}
