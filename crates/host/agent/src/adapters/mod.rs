//! The real host behind the engine's seams; each is a thin translation and decides nothing.

mod images;
mod network;
mod sandbox;

pub use images::StoreImages;
pub use network::HostNets;
pub use sandbox::SandboxRuntime;
