//! Names that mean an image somewhere else: references from the cloud run unchanged.

use std::collections::BTreeMap;

use crate::client::Auth;
use crate::reference::Reference;

/// Names that are looked for elsewhere first.
#[derive(Clone, Debug, Default)]
pub struct Mirrors {
    /// The registry (`host:port`) of our own region: names of any ECR of Amazon's, and Docker Hub's
    /// one-word names, are looked for there before they are asked for under their own address.
    pub region_registry: Option<String>,
    /// From the beginning of a full name to what stands there instead:
    /// `quay.io/team/` to `mirror.lan:5000/quay/team/`.
    pub prefixes: BTreeMap<String, String>,
}

impl Mirrors {
    /// Where an image is looked for, in order; its own name comes last.
    pub fn candidates(&self, reference: &Reference) -> Vec<Reference> {
        let mut found = Vec::new();
        let full = format!("{}/{}", reference.registry, reference.repository);
        let renamed = |name: String| {
            let (registry, repository) = name.split_once('/')?;
            let repository = repository.parse().ok()?;
            Some(Reference { registry: registry.to_owned(), repository, ..reference.clone() })
        };
        for (prefix, instead) in &self.prefixes {
            if let Some(rest) = full.strip_prefix(prefix.as_str()) {
                found.extend(renamed(format!("{instead}{rest}")));
            }
        }
        if let Some(region) = &self.region_registry {
            let repository = reference.repository.as_str();
            let official = repository.strip_prefix("library/");
            let here = match official.filter(|_| reference.is_docker_hub()) {
                Some(short) => Some(short),
                None => reference.amazon_ecr().map(|_| repository),
            };
            found.extend(here.and_then(|name| renamed(format!("{region}/{name}"))));
        }
        found.push(reference.clone());
        found
    }

    /// Whether an image is to be asked for under its own name after a mirror has failed. Amazon's registries show
    /// nothing to strangers, and the mirror has said what it knows.
    pub fn may_know_more(own: &Reference, auth: &Auth) -> bool {
        own.amazon_ecr().is_none() || auth.for_registry(&own.registry).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(mirrors: &Mirrors, name: &str) -> Vec<String> {
        let found = mirrors.candidates(&name.parse().unwrap());
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ecr_and_official_names_are_looked_for_in_the_region_first() {
        let region_registry = Some("127.0.0.1:4566".to_owned());
        let mirrors = Mirrors { region_registry, ..Mirrors::default() };
        let amazon = "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/web:1";
        assert_eq!(candidates(&mirrors, amazon), ["127.0.0.1:4566/team/web:1", amazon]);
        let hub = "docker.io/library/nginx:1";
        assert_eq!(candidates(&mirrors, "nginx:1"), ["127.0.0.1:4566/nginx:1", hub]);
        assert_eq!(candidates(&mirrors, "team/web:1"), ["docker.io/team/web:1"]);
        assert_eq!(candidates(&mirrors, "quay.io/web:1"), ["quay.io/web:1"]);
        assert_eq!(candidates(&mirrors, "127.0.0.1:4566/web:1"), ["127.0.0.1:4566/web:1"]);
    }

    #[test]
    fn amazons_own_registries_are_asked_by_who_has_a_login_alone() {
        let amazon = "000000000000.dkr.ecr.us-east-1.amazonaws.com";
        let name = format!("{amazon}/team/web:1").parse().unwrap();
        assert!(!Mirrors::may_know_more(&name, &Auth::none()));
        let login = Auth::none().with(amazon, crate::client::Basic::new("AWS", "secret"));
        assert!(Mirrors::may_know_more(&name, &login));
        assert!(Mirrors::may_know_more(&"nginx:1".parse().unwrap(), &Auth::none()));
    }

    #[test]
    fn a_prefix_is_replaced_before_the_name_itself_is_tried() {
        let prefixes = [("quay.io/team/".to_owned(), "mirror.lan:5000/quay/".to_owned())];
        let mirrors = Mirrors { prefixes: prefixes.into(), ..Mirrors::default() };
        assert_eq!(
            candidates(&mirrors, "quay.io/team/web:1"),
            ["mirror.lan:5000/quay/web:1", "quay.io/team/web:1"]
        );
        assert_eq!(candidates(&mirrors, "quay.io/other/web:1"), ["quay.io/other/web:1"]);
    }
}
