//! What a path asks for.

use http::Uri;

/// What Amazon's SDKs look for in the environment, and the path in it up to the credentials' id.
pub(crate) const CREDENTIALS_PATH: &str = "/v2/credentials/";
const CREDENTIALS_PATH_1: &str = "/v1/credentials";
const PROTECTION: &str = "task-protection/v1/state";

/// Which form of the metadata is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V2,
    V3,
    V4,
}

/// A request that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    Credentials {
        id: &'a str,
        version: u8,
    },
    /// By the id that only the container itself was told.
    Own {
        version: Version,
        id: &'a str,
        what: What<'a>,
    },
    /// Version 2: by the address that the question comes from.
    ByAddress(What<'a>),
    Protection {
        id: &'a str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// The one that asks, or the one of this runtime id.
    Container(Option<&'a str>),
    ContainerStats(Option<&'a str>),
    Task {
        with_tags: bool,
    },
    TaskStats,
    Associations {
        kind: &'a str,
        name: Option<&'a str>,
    },
}

impl<'a> Asked<'a> {
    pub(super) fn read(uri: &'a Uri) -> Option<Self> {
        let path = uri.path();
        if path == CREDENTIALS_PATH_1 {
            let query = uri.query().unwrap_or_default();
            let id = query.split('&').find_map(|pair| pair.strip_prefix("id="));
            return Some(Self::Credentials { id: id.unwrap_or_default(), version: 1 });
        }
        if path == CREDENTIALS_PATH.trim_end_matches('/') {
            return Some(Self::Credentials { id: "", version: 2 });
        }
        if let Some(id) = path.strip_prefix(CREDENTIALS_PATH) {
            return Some(Self::Credentials { id, version: 2 });
        }
        let path = path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let (first, rest) = path.split_once('/')?;
        match first {
            "v2" => by_address(rest).map(Self::ByAddress),
            "v3" => own(Version::V3, rest),
            "v4" => own(Version::V4, rest),
            "api" => {
                let (id, rest) = rest.split_once('/')?;
                (rest == PROTECTION && !id.is_empty()).then_some(Self::Protection { id })
            }
            _ => None,
        }
    }
}

fn own(version: Version, path: &str) -> Option<Asked<'_>> {
    let (id, rest) = match path.split_once('/') {
        Some((id, rest)) => (id, Some(rest)),
        None => (path, None),
    };
    let what = match rest {
        None => What::Container(None),
        Some("task") => What::Task { with_tags: false },
        Some("taskWithTags") => What::Task { with_tags: true },
        Some("stats") => What::ContainerStats(None),
        Some("task/stats") => What::TaskStats,
        Some(rest) => {
            let rest = rest.strip_prefix("associations/")?;
            match rest.split_once('/') {
                Some((kind, name)) => What::Associations { kind, name: Some(name) },
                None => What::Associations { kind: rest, name: None },
            }
        }
    };
    (!id.is_empty()).then_some(Asked::Own { version, id, what })
}

fn by_address(path: &str) -> Option<What<'_>> {
    match path {
        "metadata" => Some(What::Task { with_tags: false }),
        "metadataWithTags" => Some(What::Task { with_tags: true }),
        "stats" => Some(What::TaskStats),
        _ => {
            let (what, id) = path.split_once('/')?;
            match what {
                "metadata" => Some(What::Container(Some(id))),
                "stats" => Some(What::ContainerStats(Some(id))),
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_amazons_agent_is_understood_and_no_other() {
        let read = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            Asked::read(&uri).map(|asked| format!("{asked:?}"))
        };
        let own = |version, what| Some(format!("{:?}", Asked::Own { version, id: "a1", what }));
        let credentials = |id, version| Some(format!("{:?}", Asked::Credentials { id, version }));
        assert_eq!(read("/v2/credentials/a-1"), credentials("a-1", 2));
        assert_eq!(read("/v1/credentials?id=a-1"), credentials("a-1", 1));
        for nothing in ["/v2/credentials/", "/v2/credentials"] {
            assert_eq!(read(nothing), credentials("", 2), "{nothing}");
        }
        for version in [Version::V3, Version::V4] {
            let base = format!("/{}/a1", if version == Version::V3 { "v3" } else { "v4" });
            for (rest, what) in [
                ("", What::Container(None)),
                ("/", What::Container(None)),
                ("/task", What::Task { with_tags: false }),
                ("/taskWithTags", What::Task { with_tags: true }),
                ("/stats", What::ContainerStats(None)),
                ("/task/stats", What::TaskStats),
                ("/associations/gpu", What::Associations { kind: "gpu", name: None }),
                ("/associations/gpu/x", What::Associations { kind: "gpu", name: Some("x") }),
            ] {
                assert_eq!(read(&format!("{base}{rest}")), own(version, what), "{rest}");
            }
        }
        for (path, what) in [
            ("/v2/metadata", What::Task { with_tags: false }),
            ("/v2/metadataWithTags", What::Task { with_tags: true }),
            ("/v2/metadata/x", What::Container(Some("x"))),
            ("/v2/stats", What::TaskStats),
            ("/v2/stats/x", What::ContainerStats(Some("x"))),
        ] {
            assert_eq!(read(path), Some(format!("{:?}", Asked::ByAddress(what))), "{path}");
        }
        let protection = Some(format!("{:?}", Asked::Protection { id: "a1" }));
        assert_eq!(read("/api/a1/task-protection/v1/state"), protection);
        for other in ["/", "/v4", "/v4/", "/v4/a1/nothing", "/api/a1", "/api//x", "/v5/a1", "/v2/x"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
