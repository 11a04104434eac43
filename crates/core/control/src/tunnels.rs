//! The keys by which hosts encrypt what they send to each other: derived, for two hosts and no more, from a secret that
//! never leaves the region.

use aws_wire::ApiError;
use longshore_types::InstanceId;
use model::View;
use model::tunnel::{TunnelSecret, TunnelSecretId};
use model::vpc::region_account;
use store::Batch;
use vault::{DataKey, RootKey};

use crate::Control;

/// One of two hosts: its instance, and the generation of its keys, which is another once its kernel has lost them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelEnd<'a> {
    pub instance: InstanceId,
    pub generation: &'a str,
}

/// What all keys between hosts follow from.
#[derive(Debug)]
pub struct TunnelKeyring(DataKey);

impl TunnelKeyring {
    /// The key of what one host sends to another in an epoch.
    pub fn key<const N: usize>(
        &self,
        from: TunnelEnd<'_>,
        to: TunnelEnd<'_>,
        epoch: u64,
    ) -> [u8; N] {
        const { assert!(N <= 32, "one block is all that is derived") };
        let derived =
            self.0.derive(format!("tunnel|{}|{}|{epoch}", text(from), text(to)).as_bytes());
        std::array::from_fn(|at| derived[at])
    }

    /// A number that two hosts have in common for as long as both are as they are.
    pub fn link(&self, one: TunnelEnd<'_>, other: TunnelEnd<'_>) -> u64 {
        let (first, second) = (one.min(other), one.max(other));
        let derived = self.0.derive(format!("link|{}|{}", text(first), text(second)).as_bytes());
        u64::from_be_bytes(std::array::from_fn(|at| derived[at]))
    }
}

/// No two of them are written alike.
fn text(end: TunnelEnd<'_>) -> String {
    format!("{}|{}|{}", end.instance, end.generation.len(), end.generation)
}

const BOUND_TO: &[u8] = b"tunnel-secret";

impl Control {
    /// Draws the secret, if there is none yet. To be awaited before agents are served.
    pub async fn prepare_tunnels(&self) -> Result<(), ApiError> {
        let decided = self.decide(|view, _| {
            let mut batch = Batch::on(view);
            if view.tunnel_secrets.is_empty() {
                let wrapped = self.root_keys.wrap(
                    self.ids.as_ref(),
                    BOUND_TO,
                    &DataKey::mint(self.ids.as_ref()),
                );
                batch.put(TunnelSecret { wrapped });
            }
            Ok((batch, ()))
        });
        decided.await
    }

    /// What keys between hosts follow from.
    pub fn tunnel_keyring(&self, view: &View) -> Result<Option<TunnelKeyring>, ApiError> {
        let Some(row) = view.tunnel_secrets.get(region_account(), &TunnelSecretId) else {
            return Ok(None);
        };
        let opened = self.root_keys.unwrap(BOUND_TO, &row.wrapped);
        let opened = opened.map_err(|why| {
            ApiError::fault("failed to unwrap what keys between hosts follow from", why.to_string())
        })?;
        Ok(Some(TunnelKeyring(opened)))
    }

    /// The secret, wrapped by the root key of now, if it was by another.
    pub(crate) fn rewrapped_tunnel_secret(
        &self,
        view: &View,
    ) -> Result<Option<TunnelSecret>, ApiError> {
        let current = Some(self.root_keys.fingerprint());
        let row = view.tunnel_secrets.get(region_account(), &TunnelSecretId);
        let stale = row.filter(|row| RootKey::wrapped_by(&row.wrapped) != current);
        if stale.is_none() {
            return Ok(None);
        }
        let Some(TunnelKeyring(opened)) = self.tunnel_keyring(view)? else { return Ok(None) };
        let wrapped = self.root_keys.wrap(self.ids.as_ref(), BOUND_TO, &opened);
        Ok(Some(TunnelSecret { wrapped }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestControl;

    fn end(number: u8, generation: &str) -> TunnelEnd<'_> {
        TunnelEnd { instance: InstanceId::from_bytes([number; 16]), generation }
    }

    #[tokio::test]
    async fn every_way_and_epoch_has_a_key_of_its_own_which_outlives_the_region() {
        let world = TestControl::new();
        assert!(world.control.tunnel_keyring(&world.control.view()).unwrap().is_none());
        world.control.prepare_tunnels().await.unwrap();
        world.control.prepare_tunnels().await.unwrap();
        let keyring = || world.control.tunnel_keyring(&world.control.view()).unwrap().unwrap();
        let (one, two, later) = (end(1, "a"), end(2, "a"), end(2, "b"));
        let all: [[u8; 20]; 5] = [
            keyring().key(one, two, 7),
            keyring().key(two, one, 7),
            keyring().key(one, two, 8),
            keyring().key(one, later, 7),
            keyring().key(later, one, 7),
        ];
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
        assert_eq!(keyring().key::<20>(one, two, 7), all[0]);
        assert_eq!(keyring().link(one, two), keyring().link(two, one));
        assert_ne!(keyring().link(one, two), keyring().link(one, later));
    }
}
