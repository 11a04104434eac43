//! Credentials, and the challenges that ask for them.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A user and a password. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Basic {
    pub user: String,
    pub password: String,
}

impl Basic {
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    /// Reads what ECR's `GetAuthorizationToken` gives: base64 of `AWS:password`.
    pub fn from_authorization_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self::new(user, password))
    }

    pub(super) fn header(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Basic").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Which credentials to show to which registry. A registry gets its own and no other's.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    hosts: BTreeMap<String, Basic>,
    owner: Option<String>,
}

impl Auth {
    pub fn none() -> Self {
        Self::default()
    }

    /// `host` as it is written in image references: `127.0.0.1:4566`, `docker.io`.
    #[must_use]
    pub fn with(mut self, host: impl Into<String>, basic: Basic) -> Self {
        self.hosts.insert(host.into(), basic);
        self
    }

    /// Whose credentials these are. The region's registry shows each owner different images under the
    /// same name, so what is found there is found for this owner only.
    #[must_use]
    pub fn owned_by(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Reads the file that `docker login` writes, `config.json`. Entries of credential helpers, which
    /// hold no secret, are passed over.
    pub fn from_docker_config(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            #[serde(default)]
            auth: String,
        }
        let file: File = serde_json::from_str(text)?;
        let known = file.auths.into_iter().filter_map(|(server, entry)| {
            Some((registry_of(&server), Basic::from_authorization_token(&entry.auth)?))
        });
        Ok(Self { hosts: known.collect(), owner: None })
    }

    /// These, and `other`'s for registries that are not among them.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (host, basic) in other.hosts {
            self.hosts.entry(host).or_insert(basic);
        }
        self
    }

    /// What a registry is shown, by its name in image references.
    pub fn for_registry(&self, registry: &str) -> Option<&Basic> {
        self.for_host(registry)
    }

    pub(crate) fn for_host(&self, host: &str) -> Option<&Basic> {
        self.hosts.get(host)
    }

    /// What a token server that `registry` sends us to is shown: that host's own login, or the
    /// registry's where both belong together. A registry must not have its login shown to others.
    pub(crate) fn for_realm(&self, registry: &str, token_host: &str) -> Option<&Basic> {
        let own = self.hosts.get(token_host);
        own.or_else(|| self.hosts.get(registry).filter(|_| belong_together(registry, token_host)))
    }

    /// Whether there is nothing to show to anybody.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

/// The registry's name in image references; Docker files some under an address.
fn registry_of(server: &str) -> String {
    let host = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or(host);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// Domains below which everybody has a name of their own, as far as registries are found there.
const SHARED_DOMAINS: [&str; 12] = [
    "amazonaws.com",
    "azurecr.io",
    "azurewebsites.net",
    "cloudfront.net",
    "github.io",
    "googleapis.com",
    "herokuapp.com",
    "jfrog.io",
    "ocir.io",
    "pkg.dev",
    "scw.cloud",
    "windows.net",
];

/// Whether a token server is a registry's own: the same host, on whatever port, or one beside or above it
/// in a domain that is one owner's. `docker.io` and `auth.docker.io`; `registry.gitlab.com` and
/// `gitlab.com`.
fn belong_together(registry: &str, token_host: &str) -> bool {
    let (registry, token_host) = (bare(registry), bare(token_host));
    if registry == token_host {
        return true;
    }
    let is_number = |host: &str| host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    if is_number(&registry) || is_number(&token_host) {
        return false;
    }
    let is_within = |domain: &str| {
        token_host == domain
            || token_host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    // A name of two labels is a domain of its own; one that has more lies in the domain above it.
    let above = registry.split_once('.').map_or("", |(_, above)| above);
    (registry.contains('.') && is_within(&registry)) || (is_owned(above) && is_within(above))
}

fn is_owned(domain: &str) -> bool {
    // `co.uk`, `com.au`: below these everybody has a domain.
    const SECOND_LEVELS: [&str; 9] = ["ac", "co", "com", "edu", "go", "gov", "ne", "net", "org"];
    let is_suffix = |(name, rest): (&str, &str)| rest.len() == 2 && SECOND_LEVELS.contains(&name);
    domain.split_once('.').is_some_and(|parts| !is_suffix(parts))
        && !SHARED_DOMAINS.contains(&domain)
}

/// A host without its port, in lower case.
fn bare(host: &str) -> String {
    super::transport::split_port(host).trim_end_matches('.').to_ascii_lowercase()
}

/// What a `WWW-Authenticate` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Nothing if the header names no scheme that we know.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut fields = parse_fields(rest);
        Some(Self::Bearer {
            realm: fields.remove("realm")?,
            service: fields.remove("service"),
            scope: fields.remove("scope"),
        })
    }
}

/// Reads `key="value",key=value`; a quoted value may contain commas.
fn parse_fields(mut rest: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([',', ' ']).to_ascii_lowercase();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        fields.insert(key, value.to_owned());
        rest = next;
    }
    fields
}

/// What a token server answers; the two names mean the same.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl TokenAnswer {
    /// The token and how long it is good for; a minute unless the server says.
    pub(super) fn into_parts(self) -> Option<(String, u64)> {
        let token = self.token.filter(|token| !token.is_empty()).or(self.access_token)?;
        Some((token, self.expires_in.unwrap_or(60)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_login_wrote_is_read() {
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "r.example:5000": {"auth": "Yzpk"},
            "helped.example": {}}, "credHelpers": {"x": "y"}}"#;
        let auth = Auth::from_docker_config(text)
            .unwrap()
            .or(Auth::none().with("docker.io", Basic::new("no", "no")));
        assert_eq!(auth.for_host("docker.io"), Some(&Basic::new("a", "b")));
        assert_eq!(auth.for_host("r.example:5000"), Some(&Basic::new("c", "d")));
        assert_eq!(auth.for_host("helped.example"), None);
        assert!(Auth::from_docker_config("nonsense").is_err());
    }

    #[test]
    fn a_registrys_login_is_shown_to_its_own_token_server_only() {
        for (registry, token_host, is_shown) in [
            ("docker.io", "auth.docker.io", true),
            ("ghcr.io", "ghcr.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("gitlab.example.com:5050", "gitlab.example.com", true),
            ("registry.example.com", "sso.example.com", true),
            ("registry.example.co.uk", "auth.example.co.uk", true),
            ("r.example", "AUTH.R.Example:8443", true),
            ("docker.io", "docker.io.evil.example", false),
            ("docker.io", "evildocker.io", false),
            ("registry.example.com", "example.org", false),
            ("registry.example.com", "auth.docker.io", false),
            ("example.co.uk", "evil.co.uk", false),
            ("mine.azurecr.io", "theirs.azurecr.io", false),
            ("10.0.0.1:5000", "10.0.0.1", true),
            ("10.0.0.1:5000", "11.0.0.1", false),
            ("localhost:5000", "localhost:6000", true),
            ("localhost:5000", "a.localhost", false),
        ] {
            let auth = Auth::none().with(registry, Basic::new("a", "b"));
            let shown = auth.for_realm(registry, token_host).is_some();
            assert_eq!(shown, is_shown, "{registry} {token_host}");
        }
        let both = Auth::none()
            .with("r.example", Basic::new("a", "b"))
            .with("tokens.example", Basic::new("c", "d"));
        assert_eq!(both.for_realm("r.example", "tokens.example"), Some(&Basic::new("c", "d")));
        assert_eq!(both.for_realm("other.example", "r.example.evil"), None);
    }

    #[test]
    fn challenges_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::parse(hub),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: Some("registry.docker.io".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        assert_eq!(Challenge::parse(r#"basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Bearer service=x"), None);
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse(""), None);
    }

    #[test]
    fn a_password_is_not_printed() {
        let auth = Auth::none().with("h", Basic::new("AWS", "secret"));
        assert!(!format!("{auth:?}").contains("secret"));
        let token = STANDARD.encode("AWS:secret");
        assert_eq!(Basic::from_authorization_token(&token), Some(Basic::new("AWS", "secret")));
    }
}
