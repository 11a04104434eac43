//! The whole of it on real sockets of loopback: a region that is a table, targets good and bad, clients that write bytes.

mod bad_targets;
mod connect;
mod draining;
mod handover;
mod interfaces;
mod protocols;
mod requests;
mod smuggling;
mod world;

/// A machine on which balancers have no interfaces.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl crate::Doors for Nowhere {
    fn region(&self) -> Option<crate::RegionDoor> {
        None
    }
}

impl crate::Interfaces for Nowhere {
    fn lead_egress(&self) -> std::io::Result<std::net::SocketAddr> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn namespace(&self, _: &routing::InterfaceRef) -> std::path::PathBuf {
        "/nowhere".into()
    }
}
