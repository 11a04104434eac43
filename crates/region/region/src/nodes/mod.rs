//! Hosts that join: tokens that the region's owner makes, keys that hosts get for one, and how those are renewed.
//!
//! These operations are Longshore's own: a request names them by the target `Longshore.<operation>`. What an agent
//! does once it has keys is Amazon's protocol. **Invariants:** of a token its hash is kept only; a host's keys are good
//! for what that host registered alone; and whoever joins twice with one name of its own is refused once it has used
//! what it got.

mod activation;
mod decide;
mod host;
mod release;
mod shapes;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_activations;
#[cfg(test)]
mod tests_of_upgrades;
mod token;
mod upgrade;

use std::sync::{Arc, OnceLock};

use aws_wire::{ApiError, Caller};
use control::{Config, Control};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trust::Fingerprint;

use crate::server::BoxFuture;
use crate::tls::Tls;
pub use release::own_digest;
pub use shapes::{
    BetweenHostsOf, CheckIn, CheckedIn, CreateJoinToken, CreatedJoinToken, Done, IssuedKey, Join,
    JoinByActivation, Joined, Listed, ListedJoinToken, ListedNode, ListeningOn, NodeRanges,
    OfferedRelease, ReadRelease, ReadReleasePart, RemoveNode, RevokeJoinToken, StartUpgrade,
    StartedUpgrade,
};
pub use upgrade::UPGRADE_MS_MAX;

/// The operations that need no signature: a token or a code proves who asks.
pub(crate) const JOIN: &str = "Join";
pub(crate) const JOIN_BY_ACTIVATION: &str = "JoinByActivation";

/// What of a region these operations need.
#[derive(Debug)]
pub(crate) struct Nodes {
    control: Arc<Control>,
    /// Set once the region is served.
    tls: OnceLock<Arc<Tls>>,
    release: tokio::sync::OnceCell<Arc<release::Release>>,
}

impl Nodes {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self { control, tls: OnceLock::new(), release: tokio::sync::OnceCell::new() }
    }

    pub(crate) fn served_with(&self, tls: &Arc<Tls>) {
        // A second time it is the same.
        drop(self.tls.set(Arc::clone(tls)));
    }

    /// What tokens pin: the authority of the certificate that others are shown.
    fn authority(&self) -> Option<Fingerprint> {
        let is_secure = self.control.endpoint().starts_with("https://");
        self.tls.get().filter(|_| is_secure)?.fingerprint()
    }

    /// Does one of the operations; `None` if there is none of that name.
    pub(crate) fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        operation: &str,
        body: &'a [u8],
    ) -> Option<BoxFuture<'a, Result<Value, ApiError>>> {
        Some(match operation {
            "CreateJoinToken" => {
                Box::pin(async move { answer(&self.create_token(caller, read(body)?).await?) })
            }
            "ListJoinTokens" => Box::pin(async move { answer(&self.list_tokens(caller)?) }),
            "RevokeJoinToken" => {
                Box::pin(async move { answer(&self.revoke_token(caller, read(body)?).await?) })
            }
            JOIN => Box::pin(async move { answer(&self.join(caller, read(body)?).await?) }),
            JOIN_BY_ACTIVATION => {
                Box::pin(
                    async move { answer(&self.join_by_activation(caller, read(body)?).await?) },
                )
            }
            "CheckIn" => {
                Box::pin(async move { answer(&self.check_in(caller, read(body)?).await?) })
            }
            "RenewKey" => Box::pin(async move { answer(&self.renew_key(caller).await?) }),
            "StartUpgrade" => {
                Box::pin(async move { answer(&self.start_upgrade(caller, read(body)?).await?) })
            }
            "StopUpgrade" => Box::pin(async move { answer(&self.stop_upgrade(caller).await?) }),
            "ReadRelease" => {
                Box::pin(async move { answer(&self.read_release(caller, read(body)?).await?) })
            }
            "ListNodes" => Box::pin(async move { answer(&self.list_nodes(caller)?) }),
            "RemoveNode" => {
                Box::pin(async move { answer(&self.remove_node(caller, read(body)?).await?) })
            }
            _ => return None,
        })
    }

    /// Hosts run tasks of every account, so they are the business of the region's owner alone.
    fn check_owner(caller: &Caller) -> Result<(), ApiError> {
        if caller.account == Config::root_account() {
            return Ok(());
        }
        let message =
            "Hosts of this region are its owner's business: only its first account may do this.";
        Err(ApiError::client("AccessDeniedException", message))
    }
}

/// The input of one of the region's own operations.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| ApiError::client("SerializationException", error.to_string()))
}

/// The output of one.
pub(crate) fn answer<T: Serialize>(shape: &T) -> Result<Value, ApiError> {
    serde_json::to_value(shape).map_err(|error| ApiError::fault("failed to write an answer", error))
}
