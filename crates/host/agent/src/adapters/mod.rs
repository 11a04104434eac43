//! The real host behind the engine's ports; each is a thin translation and decides nothing.

mod docker;
mod images;
mod network;
mod sandbox;

pub use docker::{DockerHost, DockerImages};
pub use images::StoreImages;
pub use network::HostNetworks;
pub use sandbox::SandboxRuntime;
