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

    pub(crate) fn for_host(&self, host: &str) -> Option<&Basic> {
        self.hosts.get(host)
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
