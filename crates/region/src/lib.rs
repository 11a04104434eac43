//! A region: handlers of Amazon's operations, agent sessions and reconcilers around one store.
//!
//! A handler reads a view or makes a decision ([`region::Region::decide`]); an operation's code is
//! in the file of its name under its service. [`errors`] turns what is refused into Amazon's codes.
//!
//! **Invariant:** an answer is sent only after what it says is durable.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

pub mod access;
pub mod background;
pub mod config;
mod decide;
pub mod ec2;
pub mod ecr;
pub mod ecs;
pub mod errors;
pub(crate) mod fleet;
pub mod logs;
pub mod names;
pub mod paging;
pub mod payload;
pub mod region;
pub mod registry_catalog;
pub mod server;
mod services;
pub mod sessions;
pub mod sts;
mod sweep;
pub mod tagging;
pub mod tags;
pub mod temporary;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod waiting;

pub use access::{Access, AccessKey, KeyPair, Keys};
pub use config::Config;
pub use errors::Refusal;
pub use region::{Parts, Region, StartError};
pub use server::{NotReady, serve_region as serve};
