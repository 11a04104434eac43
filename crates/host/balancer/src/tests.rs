//! The whole of it on real sockets of loopback: a region that is a table, targets good and bad, clients that write bytes.

mod bad_targets;
mod connect;
mod doors;
mod draining;
mod figures;
mod flows;
mod handover;
mod identity;
mod interfaces;
mod introduced;
mod logs;
mod protocols;
mod requests;
mod smuggling;
mod world;
mod zones;

use std::sync::Arc;

use longshore_types::{Clock, OsIds, SystemClock};

use crate::http::CookieKey;
use crate::log;
use crate::shared::Shared;
use crate::sockets::Sockets;

/// What connections of a process without a table share.
pub(crate) fn shared() -> Shared {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (logs, _) = log::channel("/nowhere".into(), String::new(), Arc::clone(&clock));
    let sockets = Sockets::start(Arc::new(Nowhere)).unwrap();
    let key = CookieKey::new(&[0; CookieKey::BYTES]);
    Shared::new(clock, Arc::new(OsIds), key, logs, (sockets, Arc::new(Nowhere)))
}

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

    fn lead_ingress(
        &self,
        _: std::net::SocketAddr,
        _: std::net::SocketAddr,
    ) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn namespace(&self, _: &routing::InterfaceRef) -> std::path::PathBuf {
        "/nowhere".into()
    }
}
