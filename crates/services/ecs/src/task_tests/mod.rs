//! Tasks from the request to the stop, with fake agents on a real port.

#![allow(clippy::disallowed_methods, reason = "what runs beside a test ends with it")]

mod addresses;
mod instances;
mod placing;
mod sessions;
mod simulation;
pub(crate) mod world;
