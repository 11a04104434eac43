//! Tasks from the request to the stop, with fake agents on a real port.

mod instances;
mod placing;
mod sessions;
mod simulation;
pub(crate) mod world;
