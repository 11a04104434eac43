//! Joins this host to a region, and keeps its keys fresh for as long as its agent runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use agent::CredentialsSource;
use aws_wire::sigv4::Credentials;
use control::Advertised;
use longshore_types::{Chain, ClusterName, Token};
use region::nodes::{
    self, CheckIn, CheckedIn, Done, IssuedKey, Join, JoinByActivation, Joined, OfferedRelease,
};
use serde::Serialize;
use tracing::{info, warn};
use trust::{Fingerprint, JoinToken, Trust, pinned};

use crate::client::ClientError;
use crate::error::Error;
use crate::membership::{self, Membership};
use crate::remote::{Answer, Remote, RemoteError};
use crate::successor::{Failed, Successors};
use crate::upgrade;

/// How long after a check-in that failed the next one is.
const AGAIN: Duration = Duration::from_secs(5);
/// A program that has taken another's place checks in within this, or the one before runs again.
const TRIAL_MAX: Duration = Duration::from_secs(60);
/// How long a host that was started waits for a region that is away before it says so and goes on.
const JOIN_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The host's keys, which change while the agent runs.
#[derive(Debug)]
pub(crate) struct Keys(RwLock<Credentials>);

impl CredentialsSource for Keys {
    fn current(&self) -> Option<Credentials> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Where a host is to join, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Invitation {
    pub(crate) endpoint: Advertised,
    pub(crate) by: By,
    pub(crate) host_name: String,
}

/// What proves that a host may join.
#[derive(Clone, Debug)]
pub(crate) enum By {
    Token(JoinToken),
    Activation(Activation),
}

/// An activation of Systems Manager, and what only the host can say besides.
#[derive(Clone, Debug)]
pub(crate) struct Activation {
    pub(crate) id: String,
    pub(crate) code: Token,
    pub(crate) cluster: ClusterName,
    /// The authority of the region's certificate; none if the system knows it.
    pub(crate) authority: Option<String>,
}

/// The membership that this host has, or that it gets by an invitation. One that is there already is gone on with, unless
/// the region knows nothing of it any more.
pub(crate) async fn enter(
    root: &Path,
    invitation: Option<&Invitation>,
) -> Result<Option<Membership>, Error> {
    let found = Membership::load(root)?;
    let Some(invitation) = invitation else { return Ok(found) };
    if let Some(found) = found {
        if found.endpoint != invitation.endpoint.to_string() {
            info!(endpoint = %invitation.endpoint, "joining another region than before");
        } else if is_known(&found).await? {
            return Ok(Some(found));
        }
    }
    let joined = join(root, invitation).await?;
    joined.save(root)?;
    membership::forget_host_id(root);
    Ok(Some(joined))
}

/// Whether the region knows the host's keys; one that is away is taken to.
async fn is_known(found: &Membership) -> Result<bool, Error> {
    let Ok(credentials) = found.credentials() else { return Ok(false) };
    match check_in(&remote(found)?, found, &credentials, None, None).await {
        Err(error) if is_gone(&error) => {
            warn!(error = %Chain(&error), "the region does not know this host any more, joining anew");
            Ok(false)
        }
        Ok(_) | Err(_) => Ok(true),
    }
}

/// Whether a refusal says that the region knows the host's keys no more, and nothing else: not that a clock is wrong, that
/// too much is asked at once, or that a role is in trouble. Who joined anew for these would be another host.
fn is_gone(error: &RemoteError) -> bool {
    let unknown = ["UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException"];
    matches!(error, RemoteError::Answered(error) if unknown.iter().any(|code| error.is(code)))
}

/// Exchanges the token, or the activation's code, for keys.
async fn join(root: &Path, invitation: &Invitation) -> Result<Membership, Error> {
    let Invitation { endpoint, by, host_name } = invitation;
    match by {
        By::Token(token) => join_by_token(root, endpoint, token, host_name).await,
        By::Activation(activation) => {
            join_by_activation(root, endpoint, activation, host_name).await
        }
    }
}

async fn join_by_token(
    root: &Path,
    endpoint: &Advertised,
    token: &JoinToken,
    host_name: &str,
) -> Result<Membership, Error> {
    let tls = match token.authority {
        Some(authority) => pinned(authority),
        None => Trust::system().client_config(),
    };
    let remote = Remote { endpoint: endpoint.clone(), tls: Arc::new(tls) };
    if token.authority.is_some() && !endpoint.is_secure() {
        return Err(Error::Refused(format!(
            "the token says by which authority {endpoint} is known, and without TLS nobody is: write https://"
        )));
    }
    let asked = Join {
        token: token.reveal(),
        host: membership::host_id(root, &token.id())?,
        host_name: host_name.to_owned(),
        release: Some(env!("CARGO_PKG_VERSION").to_owned()),
    };
    let answer = ask_to_join(&remote, "Join", &asked).await?;
    let authority = token.authority.map(|pin| authority_of(&answer.chain, pin)).transpose()?;
    Membership::new(endpoint, authority, answer.value)
}

async fn join_by_activation(
    root: &Path,
    endpoint: &Advertised,
    activation: &Activation,
    host_name: &str,
) -> Result<Membership, Error> {
    let trust = match &activation.authority {
        Some(pem) => {
            Trust::only(pem.as_bytes()).map_err(Error::other("read the region's authority"))?
        }
        None => Trust::system(),
    };
    let remote = Remote { endpoint: endpoint.clone(), tls: Arc::new(trust.client_config()) };
    let asked = JoinByActivation {
        activation_id: activation.id.clone(),
        activation_code: activation.code.clone(),
        host: membership::host_id(root, &activation.id)?,
        host_name: host_name.to_owned(),
        cluster: activation.cluster.clone(),
        release: Some(env!("CARGO_PKG_VERSION").to_owned()),
        platform: membership::platform(),
    };
    let answer = ask_to_join(&remote, "JoinByActivation", &asked).await?;
    Membership::new(endpoint, activation.authority.clone(), answer.value)
}

/// A region that is away is waited for; one that refuses has the last word.
async fn ask_to_join<I: Serialize>(
    remote: &Remote,
    operation: &str,
    asked: &I,
) -> Result<Answer<Joined>, Error> {
    let mut pause = Duration::from_millis(200);
    let answer = loop {
        match remote.call::<_, Joined>(operation, asked, None).await {
            Ok(answer) => break answer,
            Err(error) if error.is_refusal() => return Err(Error::Refused(said(&error))),
            Err(error) => info!(error = %Chain(&error), "the region is waited for"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(JOIN_PAUSE_MAX);
    };
    let Joined { cluster, instance, .. } = &answer.value;
    let instance = instance.as_deref().unwrap_or_default();
    info!(endpoint = %remote.endpoint, %cluster, instance, "joined");
    Ok(answer)
}

/// A refusal without the operation's name and code: its sentence says it all.
fn said(error: &RemoteError) -> String {
    match error {
        RemoteError::Answered(ClientError::Api { message, .. }) => message.clone(),
        error => Chain(error).to_string(),
    }
}

/// The pinned authority's certificate, as the server showed it.
fn authority_of(
    chain: &[rustls::pki_types::CertificateDer<'static>],
    pin: Fingerprint,
) -> Result<String, Error> {
    let found = chain.iter().find(|each| Fingerprint::of(each) == pin);
    let found = found.ok_or_else(|| Error::message("the region showed no authority"))?;
    Ok(trust::to_pem(found))
}

fn remote(membership: &Membership) -> Result<Remote, Error> {
    let tls = Arc::new(membership.trust()?.client_config());
    Ok(Remote { endpoint: membership.endpoint()?, tls })
}

async fn check_in(
    remote: &Remote,
    membership: &Membership,
    credentials: &Credentials,
    digest: Option<&str>,
    failed: Option<Failed>,
) -> Result<CheckedIn, RemoteError> {
    let (failed_run, failed_because) = failed.map(|it| (it.run, it.why)).unzip();
    let said = CheckIn {
        release: Some(env!("CARGO_PKG_VERSION").to_owned()),
        digest: digest.map(str::to_owned),
        failed_run,
        failed_because,
    };
    let signer = Some((credentials, &membership.region));
    Ok(remote.call("CheckIn", &said, signer).await?.value)
}

/// Keeps a host a member.
#[derive(Debug)]
pub(crate) struct Keeper {
    root: PathBuf,
    remote: Remote,
    membership: Membership,
    keys: Arc<Keys>,
}

impl Keeper {
    pub(crate) fn new(root: &Path, membership: Membership) -> Result<Self, Error> {
        let keys = Arc::new(Keys(RwLock::new(membership.credentials()?)));
        Ok(Self { root: root.to_owned(), remote: remote(&membership)?, membership, keys })
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys)
    }

    /// Checks in and renews keys, until the agent has to be started again: the region has moved its addresses, or another
    /// program takes its place.
    pub(crate) async fn run(mut self, program: &Path) -> Error {
        let mut was_refused = false;
        let successors = Successors::of(&self.root);
        let mut is_on_trial = successors.is_on_trial();
        let trial_over = tokio::time::sleep(TRIAL_MAX);
        tokio::pin!(trial_over);
        let hashing = tokio::task::spawn_blocking(nodes::own_digest);
        tokio::pin!(hashing);
        let (mut is_hashed, mut digest) = (false, None);
        loop {
            let credentials = self.keys.current().expect("a member has keys");
            let failed = successors.failed();
            let asking =
                check_in(&self.remote, &self.membership, &credentials, digest.as_deref(), failed);
            let pause = match asking.await {
                Ok(answer) => {
                    was_refused = false;
                    if is_on_trial {
                        is_on_trial = false;
                        match successors.is_good() {
                            Ok(()) => info!("the region's program has taken over"),
                            Err(error) => return error,
                        }
                    }
                    if answer.ranges != self.membership.ranges {
                        return self.moved(answer);
                    }
                    if answer.is_due && self.renew(&credentials).await {
                        // The region forgets the key before once this one is used.
                        continue;
                    }
                    // As long as it does not know itself what it runs, that may be the very same.
                    if let Some(offer) = &answer.upgrade
                        && digest.as_ref().is_some_and(|own| *own != offer.digest)
                        && let Some(next) =
                            self.take(&successors, &credentials, offer, program).await
                    {
                        return Error::Successor(next);
                    }
                    Duration::from_millis(answer.again_ms)
                }
                Err(error) => {
                    if error.is_refusal() && !was_refused {
                        was_refused = true;
                        warn!(
                            error = %Chain(&error),
                            "the region does not take this host's keys: it was removed, or away for longer than \
                             they last; containers go on; join again with a token"
                        );
                    }
                    AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                found = &mut hashing, if !is_hashed => {
                    is_hashed = true;
                    digest = found.ok().and_then(Result::ok);
                }
                () = &mut trial_over, if is_on_trial => {
                    return Error::message("the region's program did not check in in time");
                }
            }
        }
    }

    /// Where the program lies that takes over, if it could be had.
    async fn take(
        &self,
        successors: &Successors,
        credentials: &Credentials,
        offer: &OfferedRelease,
        program: &Path,
    ) -> Option<PathBuf> {
        let has_failed = successors.failed().is_some_and(|failed| failed.run == offer.run);
        if has_failed {
            // The region hears of it at the next check-in.
            return None;
        }
        let signer = (credentials, &self.membership.region);
        match upgrade::take(successors, &self.remote, signer, offer, program).await {
            Ok(path) => Some(path),
            Err(why) => {
                warn!(error = %Chain(&why), "the region's program was not taken");
                if let Err(error) = successors.refuse(offer.run, Chain(&why).to_string()) {
                    warn!(error = %Chain(&error), "that could not be noted");
                }
                None
            }
        }
    }

    /// Whether there is a new key, on disk and in use.
    async fn renew(&mut self, credentials: &Credentials) -> bool {
        let signer = Some((credentials, &self.membership.region));
        let renewed = self.remote.call::<_, IssuedKey>("RenewKey", &Done {}, signer).await;
        let key = match renewed {
            Ok(answer) => answer.value,
            Err(error) => {
                warn!(error = %Chain(&error), "the host's key was not renewed");
                return false;
            }
        };
        let mut next = self.membership.clone();
        next.take_key(&key);
        let saved = next.save(&self.root).and_then(|()| next.credentials());
        match saved {
            Ok(credentials) => {
                *self.keys.0.write().unwrap_or_else(PoisonError::into_inner) = credentials;
                self.membership = next;
                info!(
                    expires_at = self.membership.key_expires_at.seconds(),
                    "the host's key was renewed"
                );
                true
            }
            Err(error) => {
                warn!(error = %Chain(&error), "the host's new key was not kept, it goes on with the one before");
                false
            }
        }
    }

    fn moved(mut self, answer: CheckedIn) -> Error {
        info!(vpc = answer.ranges.vpc, "the region moved its addresses");
        self.membership.ranges = answer.ranges;
        match self.membership.save(&self.root) {
            Ok(()) => Error::message(
                "the region gives other addresses to tasks now: start the agent again",
            ),
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_joins_anew_where_its_keys_are_unknown_and_for_nothing_else() {
        let refused = |code: &str, status| {
            RemoteError::Answered(ClientError::Api {
                operation: "CheckIn".to_owned(),
                code: code.to_owned(),
                message: String::new(),
                status,
            })
        };
        for code in ["UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException"]
        {
            assert!(is_gone(&refused(code, 403)), "{code}");
        }
        for (code, status) in [
            ("AccessDeniedException", 400),
            ("InvalidSignatureException", 400),
            ("ThrottlingException", 400),
            ("SlowDown", 429),
            ("ServerException", 500),
        ] {
            assert!(!is_gone(&refused(code, status)), "{code}");
        }
        let away = RemoteError::Unreachable { endpoint: String::new(), why: String::new() };
        assert!(!is_gone(&away));
    }
}
