//! The core that every service of a region shares.
//!
//! [`Control`] has what all of them are made of: configuration, store, clock, ids and keys. A handler reads
//! a view ([`Control::view`]) or makes a decision ([`Control::decide`]); what must happen by itself is a
//! [`reconcile::Reconciler`]. What one service has to know of another is a row, or a port of [`ports`].
//!
//! **Invariant:** an answer is sent only after what it says is durable.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

pub mod access;
pub mod alarms;
pub mod authority;
mod authorize;
pub mod certificates;
pub mod config;
mod connect;
pub mod connect_figures;
mod decide;
pub mod denied;
mod documents;
pub mod errors;
pub mod iam;
pub mod keyring;
pub mod kms;
mod layers;
pub mod machine_images;
pub mod object_store;
pub mod outbox;
pub mod paging;
pub mod parameters;
pub mod ports;
pub mod public_parameters;
pub mod reconcile;
pub mod release;
pub mod seal;
pub mod secrets;
mod shared;
pub mod targets;
pub mod tasks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod told;
pub mod traffic;
mod tunnels;
mod underlay;
mod vpc;

pub use access::{Access, AccessKey, KeyPair, Keys, KeysError};
pub use authorize::{Context, Permission, Policy, ResourceKind, Value, is_root};
pub use config::{Advertised, BetweenHosts, Config, NotAnAddress};
pub use connect::{ConnectHosts, Namespace as ConnectNamespace};
pub use documents::Documents;
pub use keyring::{RootKeyError, RootKeySource, RootKeys};
pub use layers::{LayerDirectory, LayersAt};
pub use object_store::{Addressing, BucketOwner, ObjectStore, StoreEndpoint, StoreKeys};
pub use shared::{Control, Parts};
pub use tunnels::{TunnelEnd, TunnelKeyring};
pub use vpc::NoAddresses;
