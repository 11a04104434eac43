//! The server side of Amazon's protocols, each written once over tables of shapes.
//!
//! A service's generated shapes know nothing of JSON or XML: they walk their members ([`Encode`],
//! [`Decode`]) with the tables of [`shape`], and [`json`], [`query`], [`rest`] and [`cbor`] do the rest.
//! Nothing here opens a socket or reads a clock; no input panics.

#![allow(
    clippy::disallowed_types,
    reason = "maps that are looked up by key; no decision goes through them in order"
)]

pub mod caller;
pub mod cbor;
pub mod codec;
pub mod debug;
pub mod error;
pub mod json;
pub mod query;
pub mod rest;
pub mod service;
pub mod shape;
pub mod sigv4;
mod timestamp;
mod trail;
pub mod validate;

pub use caller::{ByEndpoint, Caller, Origin, Principal, Session};
pub use codec::{Decode, DecodeError, Decoder, Document, Encode, Encoder};
pub use error::{ApiError, Denial};
pub use trail::{Journey, Question, Trail, Traveller};
