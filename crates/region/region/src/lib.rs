//! A region: its services, their agents' sessions and one reconcile driver around one store, behind one
//! listener.
//!
//! [`region::Region`] is the composition, and the only place that knows every service. What a service does
//! is in its own crate; what they share is [`control`].

#![warn(clippy::wildcard_enum_match_arm)]
#![allow(
    clippy::disallowed_types,
    reason = "maps that are looked up by key; no decision goes through them in order"
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

pub mod audit;
pub mod connect_figures;
pub mod figures;
mod flows;
pub mod nodes;
mod objects;
pub mod region;
pub mod server;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tls;

pub use control::{Access, AccessKey, Config, KeyPair, Keys, RootKeySource};
pub use elb::outside::NameOutside;
pub use region::{Region, StartError};
pub use server::{Doors, NotReady, Plain, serve_region as serve};
pub use tls::{AcmeSource, Proofs, Tls, TlsError, TlsSource, serve_proofs};
