//! Image references, read as Docker reads them: `nginx` is `docker.io/library/nginx:latest`.

use std::fmt;
use std::str::FromStr;

use longshore_types::{Digest, ImageTag, RepositoryName};
use serde::{Deserialize, Serialize};

/// The registry that a name without one means.
const DEFAULT_REGISTRY: &str = "docker.io";
/// An old name of the same registry.
const OLD_DEFAULT_REGISTRY: &str = "index.docker.io";
/// The namespace of a one-word name at the default registry.
const OFFICIAL: &str = "library/";

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeAnId(String),
}

/// Which image: the registry, the repository there, and a tag or a digest, or both.
///
/// Where both are given the digest decides, as everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `docker.io`, `127.0.0.1:4566`, `000000000000.dkr.ecr.us-east-1.amazonaws.com`
    pub registry: String,
    pub repository: RepositoryName,
    pub tag: Option<ImageTag>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// The tag that is to be looked up, or nothing if the digest says it all.
    pub fn tag_to_resolve(&self) -> Option<&ImageTag> {
        if self.digest.is_some() { None } else { self.tag.as_ref() }
    }

    /// The same image by its digest alone.
    pub fn by_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The host to connect to; Docker Hub's API lives under another name than its images.
    pub fn api_host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { "registry-1.docker.io" } else { &self.registry }
    }

    pub fn is_docker_hub(&self) -> bool {
        self.registry == DEFAULT_REGISTRY
    }

    /// The account and region of a name in Amazon's own ECR.
    pub fn amazon_ecr(&self) -> Option<(&str, &str)> {
        let (account, rest) = self.registry.split_once(".dkr.ecr.")?;
        let region = rest.strip_suffix(".amazonaws.com")?;
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        is_account.then_some((account, region))
    }

    /// What follows the repository in a manifest's URL: the digest, or else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_string(),
            (None, None) => ImageTag::latest().to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(ReferenceError::LooksLikeAnId(text.to_owned()));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(|_| ReferenceError::Format)?))
            }
            None => (text, None),
        };
        let (registry, rest) = split_registry(name);
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag.parse().map_err(|_| ReferenceError::Format)?)),
            None => (rest, None),
        };
        let is_official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let path = if is_official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        let repository = path.parse().map_err(|_| refuse_name(&path))?;
        let tag = if tag.is_none() && digest.is_none() { Some(ImageTag::latest()) } else { tag };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

fn refuse_name(path: &str) -> ReferenceError {
    if path.bytes().any(|b| b.is_ascii_uppercase())
        && path.to_ascii_lowercase().parse::<RepositoryName>().is_ok()
    {
        let shown = path.strip_prefix(OFFICIAL).unwrap_or(path);
        ReferenceError::Uppercase(shown.to_owned())
    } else {
        ReferenceError::Format
    }
}

/// The first component is a registry if it has a dot, a port or a capital, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((OLD_DEFAULT_REGISTRY, rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest)) if looks_like_a_host(first) && is_host(first) => (first, rest),
        Some(_) | None => (DEFAULT_REGISTRY, name),
    }
}

fn looks_like_a_host(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        let bytes = label.as_bytes();
        !label.is_empty()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    })
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (given, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("team/web", "docker.io/team/web:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("localhost/web", "localhost/web:latest"),
            ("localhost:5000/web:1", "localhost:5000/web:1"),
            ("127.0.0.1:4566/hello:1", "127.0.0.1:4566/hello:1"),
            ("[::1]:4566/hello:1", "[::1]:4566/hello:1"),
            ("quay.io/a/b/c", "quay.io/a/b/c:latest"),
            ("Host/web", "Host/web:latest"),
            (
                "000000000000.dkr.ecr.us-east-1.amazonaws.com/web:2",
                "000000000000.dkr.ecr.us-east-1.amazonaws.com/web:2",
            ),
        ] {
            assert_eq!(given.parse::<Reference>().unwrap().to_string(), full, "{given}");
        }
        let pinned: Reference = format!("web@{digest}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/web@{digest}"));
        assert_eq!(pinned.tag, None);
        let both: Reference = format!("web:1@{digest}").parse().unwrap();
        assert_eq!(both.identifier(), digest);
        assert_eq!(both.tag_to_resolve(), None);
    }

    #[test]
    fn what_names_no_image_is_refused() {
        let hex = "a".repeat(64);
        for wrong in [
            "",
            "a b",
            "web:",
            ":1",
            "web@",
            "web@sha256:12",
            "web:1:2",
            "-web",
            "web/",
            "a//b",
            "127.0.0.1:99999/a",
            "Web",
            "team/Web",
            "é",
            "../a",
            "a/../b",
            hex.as_str(),
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
        let why = "team/Web".parse::<Reference>().unwrap_err().to_string();
        assert_eq!(why, "invalid reference format: repository name (team/Web) must be lowercase");
    }

    #[test]
    fn a_name_in_amazons_ecr_shows_account_and_region() {
        let there: Reference = "000000000000.dkr.ecr.eu-north-1.amazonaws.com/web".parse().unwrap();
        assert_eq!(there.amazon_ecr(), Some(("000000000000", "eu-north-1")));
        let elsewhere: Reference = "quay.io/web".parse().unwrap();
        assert_eq!(elsewhere.amazon_ecr(), None);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_printed_reads_back(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
