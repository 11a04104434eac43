//! Images that Docker pulls and keeps.

use bollard::BollardRequest;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use http::HeaderValue;
use image::{Auth, Digest, ImageConfig, Mirrors, PullError, Reference};
use longshore_types::Chain;

use crate::Docker;
use crate::error::{is_missing, said};

/// What Docker says of a registry that is not there at the moment, or not itself.
const AWAY: [&str; 9] = [
    "connection refused",
    "connection reset",
    "i/o timeout",
    "Client.Timeout",
    "TLS handshake timeout",
    "context deadline exceeded",
    "unexpected EOF",
    "status code 502",
    "status code 503",
];
/// And of one that does not take a login.
const UNKNOWN: [&str; 3] = ["unauthorized", "no basic auth credentials", "authentication required"];
/// And of one that has no such image.
const MISSING: [&str; 3] = ["manifest unknown", "not found", "name unknown"];

/// An image that Docker has.
#[derive(Clone, Debug)]
pub struct DockerImage {
    /// By which it was pulled: of its manifest.
    pub digest: String,
    /// What Docker finds it by, whatever its tag means by then.
    pub name: String,
    pub config: ImageConfig,
}

impl Docker {
    /// Has an image pulled, by the first of its `names` that can be had: mirrors' before its own, which comes last, and
    /// whose failure is then the one that is told.
    pub async fn pull(&self, names: &[Reference], login: &Auth) -> Result<DockerImage, PullError> {
        let Some((own, mirrors)) = names.split_last() else {
            return Err(PullError::NotFound { image: String::new() });
        };
        let mut first_failure = None;
        for name in mirrors {
            match self.pull_one(name, login).await {
                Ok(image) => return Ok(image),
                Err(error) => {
                    tracing::debug!(image = %own, mirror = %name, %error, "not at the mirror");
                    first_failure.get_or_insert(error);
                }
            }
        }
        match first_failure {
            Some(error) if !Mirrors::may_know_more(own, login) => Err(error),
            _ => self.pull_one(own, login).await,
        }
    }

    async fn pull_one(&self, name: &Reference, login: &Auth) -> Result<DockerImage, PullError> {
        let credentials = login.for_registry(&name.registry).map(|basic| DockerCredentials {
            username: Some(basic.user.clone()),
            password: Some(basic.password.clone()),
            serveraddress: Some(name.registry.clone()),
            ..DockerCredentials::default()
        });
        let options = CreateImageOptions {
            from_image: Some(format!("{}/{}", name.registry, name.repository)),
            tag: Some(name.identifier()),
            ..CreateImageOptions::default()
        };
        let mut progress = Box::pin(self.api.create_image(Some(options), None, credentials));
        // The tag is the engine's, and by now it may be what another's pull made of it.
        let mut said = None;
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| refusal(name, &error))?;
            said = step.status.as_deref().and_then(digest_said).or(said);
        }
        let digest = name.digest.or(said).ok_or_else(|| PullError::Config {
            image: name.to_string(),
            why: "Docker does not say which one it is".to_owned(),
        })?;
        let by_digest = name.by_digest(digest);
        match self.api.inspect_image(&by_digest.to_string()).await {
            Ok(found) => Ok(known(&by_digest, digest, found)),
            // Where images are containerd's, one that lost its tag to another has no name: its digest becomes one.
            Err(error) if is_missing(&error) && name.digest.is_none() => {
                Box::pin(self.pull_one(&by_digest, login)).await
            }
            Err(error) => Err(refusal(&by_digest, &error)),
        }
    }

    /// The image of this digest, under any of the `names`, if it is still there; asks no registry.
    pub async fn find(&self, names: &[Reference], digest: &str) -> Option<DockerImage> {
        let digest = digest.parse().ok()?;
        for name in names {
            let name = name.by_digest(digest);
            match self.api.inspect_image(&name.to_string()).await {
                Ok(found) => return Some(known(&name, digest, found)),
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    tracing::warn!(image = %name, error = %Chain(&error), "image not readable");
                }
            }
        }
        None
    }
}

/// The header that a login goes in.
const LOGIN_HEADER: &str = "x-registry-auth";

/// Docker reads a login in the alphabet of URLs, and takes one in another for none; bollard writes it in that of MIME.
pub(crate) fn spelled_for_docker(mut request: BollardRequest) -> BollardRequest {
    if let Some(login) = request.headers_mut().get_mut(LOGIN_HEADER)
        && let Ok(text) = login.to_str()
        && let Ok(spelled) = HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))
    {
        *login = spelled;
    }
    request
}

/// The digest in one step of a pull's progress, if it is the one that says it.
fn digest_said(status: &str) -> Option<Digest> {
    status.strip_prefix("Digest: ")?.trim().parse().ok()
}

/// What Docker says of the image that it has by this name, which is of this digest.
fn known(name: &Reference, digest: Digest, found: ImageInspect) -> DockerImage {
    let config = found.config.unwrap_or_default();
    DockerImage {
        digest: digest.to_string(),
        name: name.to_string(),
        config: ImageConfig {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            volumes: config.volumes.unwrap_or_default(),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            healthcheck: None,
            exposed: config.exposed_ports.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            architecture: found.architecture.unwrap_or_default(),
            os: found.os.unwrap_or_default(),
        },
    }
}

fn refusal(name: &Reference, error: &Error) -> PullError {
    let (image, host) = (name.to_string(), name.registry.clone());
    let Some((status, why)) = said(error) else {
        return match error {
            Error::RequestTimeoutError => PullError::TimedOut { image, host, doing: "begin" },
            _ => PullError::Engine { image, why: Chain(error).to_string() },
        };
    };
    let has = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if has(&AWAY) {
        return PullError::Unreachable { image, host, why };
    }
    if has(&UNKNOWN) || why.contains("denied") {
        let is_unknown = has(&UNKNOWN);
        return PullError::Denied { image, host, why, is_unknown };
    }
    if why.contains("no such host") {
        return PullError::NoSuchHost { image, host };
    }
    if why.contains("no space left on device") {
        return PullError::NoSpace { image };
    }
    if status == 404 || has(&MISSING) {
        return PullError::NotFound { image };
    }
    PullError::Engine { image, why: format!("Error response from daemon: {why}") }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::fake::Fake;

    fn refused(status_code: u16, message: &str) -> PullError {
        let message = message.to_owned();
        let name = "quay.io/team/web:1".parse().unwrap();
        refusal(&name, &Error::DockerResponseServerError { status_code, message })
    }

    #[test]
    fn what_docker_says_of_a_pull_is_told_apart() {
        let missing = "manifest for quay.io/team/web:1 not found: manifest unknown";
        assert!(matches!(refused(404, missing), PullError::NotFound { .. }));
        let away = "Get \"https://quay.io/v2/\": dial tcp 1.2.3.4:443: connect: connection refused";
        assert!(refused(500, away).is_away());
        let unknown = "unauthorized: authentication required";
        assert!(refused(500, unknown).is_login_refused());
        let denied = "pull access denied for team/web, repository does not exist or may require 'docker login': denied";
        assert!(matches!(refused(404, denied), PullError::Denied { is_unknown: false, .. }));
        let host = "Get \"https://quay.io/v2/\": dial tcp: lookup quay.io: no such host";
        assert!(matches!(refused(500, host), PullError::NoSuchHost { .. }));
        let other = "the daemon is tired";
        assert!(
            refused(500, other)
                .to_string()
                .contains("Error response from daemon: the daemon is tired")
        );
    }

    #[test]
    fn a_login_is_written_in_the_alphabet_of_urls() {
        let body = bollard::body_full(Default::default());
        let request = http::Request::builder().header("X-Registry-Auth", "a+b/c=").body(body);
        let request = spelled_for_docker(request.unwrap());
        assert_eq!(request.headers()[LOGIN_HEADER], "a-b_c=");
    }

    const CREATE: &str = "POST /images/create?fromImage=";

    fn digest(letter: &str) -> String {
        format!("sha256:{}", letter.repeat(64))
    }

    /// An engine that pulled this digest for whoever asks, and has that image.
    fn pulled(letter: &str) -> String {
        let said = ["Pulling from box".to_owned(), format!("Digest: {}", digest(letter))];
        said.iter().map(|said| format!("{{\"status\":\"{said}\"}}\r\n")).collect()
    }

    fn image(command: &str) -> String {
        format!(r#"{{"Config":{{"Cmd":["{command}"]}}}}"#)
    }

    #[tokio::test]
    async fn a_pull_gives_what_it_fetched_and_not_what_the_tag_means_by_then() {
        let own = format!("GET /images/127.0.0.1:4566/box@{}/json", digest("a"));
        let engine = Fake::start(move |asked| {
            let answers = [
                (CREATE, pulled("a")),
                (own.as_str(), image("own")),
                ("GET /images/127.0.0.1:4566/box:1/json", image("of another account")),
            ];
            let found = answers.into_iter().find(|(path, _)| asked.starts_with(path));
            found.map_or((404, "{}".to_owned()), |(_, body)| (200, body))
        });
        let engine = engine.await;
        let name = "127.0.0.1:4566/box:1".parse().unwrap();
        let got = engine.docker.pull(&[name], &Auth::default()).await.unwrap();
        assert_eq!(got.config.cmd, ["own"]);
        assert_eq!(got.digest, digest("a"));
        assert_eq!(got.name, format!("127.0.0.1:4566/box@{}", digest("a")));
    }

    #[tokio::test]
    async fn an_image_that_lost_its_tag_before_it_was_looked_at_is_pulled_by_its_digest() {
        let asked = "GET /images/127.0.0.1:4566/box@";
        let create = format!("{CREATE}127.0.0.1:4566/box&");
        let is_by_digest = |asked: &str| asked.contains(&format!("tag={}", digest("a")));
        let has_name = AtomicBool::new(false);
        let engine = Fake::start(move |it| match it {
            _ if it.starts_with(&create) => {
                has_name.fetch_or(is_by_digest(it), Ordering::SeqCst);
                (200, pulled("a"))
            }
            _ if it.starts_with(asked) && has_name.load(Ordering::SeqCst) => (200, image("own")),
            _ => (404, r#"{"message":"No such image"}"#.to_owned()),
        });
        let engine = engine.await;
        let name = "127.0.0.1:4566/box:1".parse().unwrap();
        let got = engine.docker.pull(&[name], &Auth::default()).await.unwrap();
        assert_eq!((got.config.cmd, got.digest), (vec!["own".to_owned()], digest("a")));
    }

    #[tokio::test]
    async fn a_mirror_that_denies_or_is_away_does_not_end_a_pull() {
        let refusals = [
            (404, r#"{"message":"manifest unknown"}"#),
            (500, r#"{"message":"denied: not allowed"}"#),
            (500, r#"{"message":"tls: failed to verify certificate: x509: unknown authority"}"#),
        ];
        for (status, why) in refusals {
            let engine = Fake::start(move |asked| match asked {
                _ if asked.starts_with(&format!("{CREATE}127.0.0.1:4566/")) => {
                    (status, why.to_owned())
                }
                _ if asked.starts_with(CREATE) => (200, pulled("b")),
                _ => (200, image("official")),
            });
            let engine = engine.await;
            let pull = async |names: [&str; 2]| {
                let names = names.map(|name| name.parse().unwrap());
                engine.docker.pull(&names, &Auth::default()).await
            };
            let got = pull(["127.0.0.1:4566/nginx:1", "nginx:1"]).await.unwrap();
            assert_eq!(got.name, format!("docker.io/library/nginx@{}", digest("b")));
            // Nobody without a login asks Amazon.
            let amazon = "000000000000.dkr.ecr.us-east-1.amazonaws.com/web:1";
            let error = pull(["127.0.0.1:4566/web:1", amazon]).await.unwrap_err();
            assert!(error.to_string().contains("127.0.0.1:4566"), "{error}");
            assert!(engine.asked().iter().all(|asked| !asked.contains("amazonaws")));
        }
    }

    #[tokio::test]
    async fn what_is_nowhere_is_told_of_by_its_own_name() {
        let missing = r#"{"message":"manifest unknown"}"#;
        let engine = Fake::start(|_| (404, missing.to_owned())).await;
        let names = ["127.0.0.1:4566/nginx:1", "nginx:1"].map(|name| name.parse().unwrap());
        let error = engine.docker.pull(&names, &Auth::default()).await.unwrap_err();
        let PullError::NotFound { image } = error else { panic!("{error}") };
        assert_eq!(image, "docker.io/library/nginx:1");
    }
}
