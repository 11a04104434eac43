//! Which image it is exactly, and whether it comes from an ECR registry, and from whose.

use std::borrow::Cow;

use acs::task::{EcrAuthData, RegistryAuthentication};
use control::Control;
use longshore_types::{AccountId, Scope};

use super::Registries;

/// The image's name with the digest that a service's revision is pinned to: `web:1@sha256:…`.
pub(super) fn exact(image: &str, pinned: Option<&str>) -> String {
    match pinned.filter(|_| !image.contains('@')) {
        Some(digest) => format!("{image}@{digest}"),
        None => image.to_owned(),
    }
}

/// The image's name as any machine can follow it.
pub(super) fn reachable<'a>(image: &'a str, registries: &Registries<'_>) -> Cow<'a, str> {
    let is_known = registries.registry == registries.local_registry;
    match image.split_once('/') {
        Some((host, rest)) if !is_known && host == registries.local_registry => {
            format!("{}/{rest}", registries.registry).into()
        }
        // Ours knows where such images are; Amazon's would ask the cloud.
        Some((host, rest)) if !registries.agent_is_ours && amazon_registry(host).is_some() => {
            format!("{}/{rest}", registries.registry).into()
        }
        Some(_) | None => image.into(),
    }
}

/// How the agent logs in to the registry of an image that is named so in its definition; `None` if it is no ECR registry.
pub(super) fn authentication(
    scope: &Scope,
    image: &str,
    registries: &Registries<'_>,
    acts_as_role: bool,
) -> Option<RegistryAuthentication> {
    let (host, _) = image.split_once('/')?;
    let registry_id = scope.account.to_string();
    let own = EcrAuthData {
        registry_id: Some(registry_id.clone()),
        region: Some(scope.region.to_string()),
        endpoint_override: Some(registries.endpoint.to_owned()),
        use_execution_role: acts_as_role,
    };
    let data = if host == registries.registry || host == registries.local_registry {
        own
    } else {
        let (account, region) = amazon_registry(host)?;
        let is_own = account == registry_id;
        // A number that nobody here has is an account in the cloud: its images are looked for in the
        // task's own registry. One that somebody has is theirs, and the task's key does not open it.
        let is_elsewhere = !has_repositories(account, registries);
        EcrAuthData {
            // Another account's registry Amazon's agent asks as a host of the task's account.
            use_execution_role: acts_as_role
                && (is_own || is_elsewhere || registries.agent_is_ours),
            registry_id: Some(if is_elsewhere { registry_id } else { account.to_owned() }),
            // Amazon's agent signs for it, and it is this region that it asks.
            region: if registries.agent_is_ours { Some(region.to_owned()) } else { own.region },
            ..own
        }
    };
    Some(RegistryAuthentication {
        kind: Some("ecr".to_owned()),
        ecr_auth_data: Some(data),
        asm_auth_data: None,
    })
}

/// Whether an image is named as one of a registry that shows nothing to strangers.
pub(super) fn is_of_ecr(image: &str, control: &Control) -> bool {
    let host = image.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| control.is_own_registry(host) || amazon_registry(host).is_some())
}

fn has_repositories(account: &str, registries: &Registries<'_>) -> bool {
    let account = account.parse::<AccountId>();
    account.is_ok_and(|account| registries.view.ecr_repositories.of(account).next().is_some())
}

/// Account and region of `<account>.dkr.ecr.<region>.amazonaws.com`.
fn amazon_registry(host: &str) -> Option<(&str, &str)> {
    let (account, rest) = host.split_once(".dkr.ecr")?;
    let rest = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?;
    let region = rest.strip_suffix(".amazonaws.com").or(rest.strip_suffix(".amazonaws.com.cn"))?;
    let is_account = account.len() == 12 && account.bytes().all(|digit| digit.is_ascii_digit());
    (is_account && !region.is_empty()).then_some((account, region))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_image_is_named_with_its_digest_once() {
        assert_eq!(exact("web:1", None), "web:1");
        assert_eq!(exact("web:1", Some("sha256:ab")), "web:1@sha256:ab");
        assert_eq!(exact("web@sha256:ab", Some("sha256:ab")), "web@sha256:ab");
    }

    #[test]
    fn amazons_registries_are_known_by_their_names() {
        let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        assert_eq!(amazon_registry(host), Some(("123456789012", "eu-west-1")));
        assert_eq!(amazon_registry("public.ecr.aws"), None);
        assert_eq!(amazon_registry("1.dkr.ecr.eu-west-1.amazonaws.com"), None);
        assert_eq!(amazon_registry("123456789012.dkr.ecr.amazonaws.com"), None);
    }
}
