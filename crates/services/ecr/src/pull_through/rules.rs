//! Which rule a repository's images come by, and what a rule may say.

use std::sync::Arc;

use longshore_types::RepositoryName;
use model::{EcrPullThroughRule, NamePrefix, View};
use registry::Repository;

/// Amazon's names of registries, with their hosts.
const KNOWN: &[(&str, &str)] = &[
    ("ecr-public", "public.ecr.aws"),
    ("quay", "quay.io"),
    ("k8s", "registry.k8s.io"),
    ("docker-hub", "registry-1.docker.io"),
    ("github-container-registry", "ghcr.io"),
    ("gitlab-container-registry", "registry.gitlab.com"),
    ("chainguard", "cgr.dev"),
];
/// Everybody has a host of their own below this one.
const AZURE: (&str, &str) = ("azure-container-registry", ".azurecr.io");

/// Why a registry can be no upstream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsupported {
    NoHost,
    /// Of another region of Amazon's, which only its own roles open.
    PrivateEcr,
    /// Amazon's name is of another registry.
    OtherName,
}

/// The host that a rule's URL names: `quay.io`, `https://mirror.lan:5000`.
pub(super) fn host_of(url: &str) -> Option<String> {
    let bare = url.strip_prefix("https://").unwrap_or(url).trim_end_matches('/');
    // What is a registry in the name of an image, is one here.
    let named = if bare.contains(['.', ':']) { bare.to_owned() } else { return None };
    let reference = format!("{named}/a:1").parse::<image::Reference>().ok()?;
    (reference.registry == named.to_ascii_lowercase() || reference.registry == named)
        .then_some(named)
}

/// Amazon's name of the registry at a host, if it has one; `said` is what the request calls it.
pub(super) fn name_of(host: &str, said: Option<&str>) -> Result<Option<String>, Unsupported> {
    let is_private =
        host.contains(".dkr.ecr.") && host.ends_with(".amazonaws.com") || said == Some("ecr");
    if is_private {
        return Err(Unsupported::PrivateEcr);
    }
    let known = KNOWN.iter().find(|(_, known)| *known == host).map(|(name, _)| *name);
    let azure = host.ends_with(AZURE.1).then_some(AZURE.0);
    let name = known.or(azure);
    match said {
        Some(said) if name != Some(said) => Err(Unsupported::OtherName),
        Some(_) | None => Ok(name.map(str::to_owned)),
    }
}

/// The rule by which a repository's images come, and what the repository is called upstream.
pub(crate) fn of(
    view: &View,
    repository: &Repository,
) -> Option<(Arc<EcrPullThroughRule>, RepositoryName)> {
    let rules = view.ecr_pull_through_rules.of(repository.account);
    let fitting = rules.filter_map(|rule| {
        let prefix = NamePrefix::new(&rule.prefix);
        Some((prefix.weight(), prefix.rest_of(&repository.name)?, rule))
    });
    let (_, rest, rule) = fitting.max_by_key(|(weight, _, _)| *weight)?;
    let upstream_prefix = rule.upstream_prefix.clone().unwrap_or_else(NamePrefix::root);
    let there = upstream_prefix.join(rest).parse().ok()?;
    Some((Arc::clone(rule), there))
}

#[cfg(test)]
mod tests {
    use longshore_types::Timestamp;
    use model::{Row, Seq};

    use super::*;

    fn rule(prefix: &str, upstream_prefix: &str) -> EcrPullThroughRule {
        EcrPullThroughRule {
            account: "000000000000".parse().unwrap(),
            prefix: prefix.to_owned(),
            upstream_url: "quay.io".to_owned(),
            upstream: None,
            upstream_prefix: (upstream_prefix != "ROOT").then(|| NamePrefix::new(upstream_prefix)),
            credential: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    #[test]
    fn the_longest_prefix_of_a_name_says_where_its_images_come_from() {
        let mut view = View::default();
        let rules = [("ROOT", "ROOT"), ("hub", "ROOT"), ("hub/team", "org/team"), ("hubble", "x1")];
        for (prefix, upstream) in rules {
            view.put(Seq(1), &Row::from(rule(prefix, upstream)));
        }
        for (name, prefix, there) in [
            ("hub/library/nginx", "hub", "library/nginx"),
            ("hub/team/web", "hub/team", "org/team/web"),
            ("hub/teams/web", "hub", "teams/web"),
            ("hubble/web", "hubble", "x1/web"),
            ("web", "ROOT", "web"),
            ("hub", "ROOT", "hub"),
        ] {
            let account = "000000000000".parse().unwrap();
            let repository = Repository { account, name: name.parse().unwrap() };
            let (found, upstream) = of(&view, &repository).unwrap();
            assert_eq!((found.prefix.as_str(), upstream.as_str()), (prefix, there), "{name}");
        }
        let account = "111122223333".parse().unwrap();
        assert!(of(&view, &Repository { account, name: "hub/a".parse().unwrap() }).is_none());
    }

    #[test]
    fn an_upstream_is_a_host_and_has_amazons_name_only_where_that_is_its_own() {
        for (url, host) in [
            ("quay.io", Some("quay.io")),
            ("https://quay.io", Some("quay.io")),
            ("https://mirror.lan:5000/", Some("mirror.lan:5000")),
            ("127.0.0.1:5000", Some("127.0.0.1:5000")),
            ("http://quay.io", None),
            ("quay.io/team", None),
            ("quay", None),
            ("me@quay.io", None),
            ("", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
        let hub = Some("docker-hub".to_owned());
        assert_eq!(name_of("registry-1.docker.io", None), Ok(hub.clone()));
        assert_eq!(name_of("registry-1.docker.io", Some("docker-hub")), Ok(hub));
        assert_eq!(name_of("quay.io", Some("docker-hub")), Err(Unsupported::OtherName));
        assert_eq!(name_of("mirror.lan", None), Ok(None));
        let azure = Ok(Some("azure-container-registry".to_owned()));
        assert_eq!(name_of("mine.azurecr.io", None), azure);
        let private = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
        assert_eq!(name_of(private, None), Err(Unsupported::PrivateEcr));
        assert_eq!(name_of("quay.io", Some("ecr")), Err(Unsupported::PrivateEcr));
    }
}
