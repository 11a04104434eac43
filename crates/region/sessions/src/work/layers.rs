//! Which layers of images a host gives to others, as it says.
//!
//! **Invariant:** a host is told its key, and is named to others, only where nobody else hears what is said on its session.

use std::net::SocketAddrV4;

use acs::message::{LayerKey, LayersReport, ToAgent};
use control::LayersAt;
use tracing::debug;
use trust::TicketKey;

use super::{End, Session};
use crate::handshake::Socket;

impl Session<'_> {
    /// A host that says all anew is given another key: what was granted before is over.
    pub(super) async fn hear_of_layers(
        &mut self,
        socket: &mut Socket,
        report: LayersReport,
    ) -> Result<(), End> {
        let (id, session) = (self.instance.id, self.number);
        let LayersReport { is_whole, port, certificate, here, gone, given, taken } = report;
        let control = &self.sessions.control;
        if !is_whole {
            control.layers.change((id, session), here, gone);
            control.layers.figures((id, session), given, taken);
            return Ok(());
        }
        let address =
            self.instance.underlay().filter(|_| self.is_ours && self.is_secure && port != 0);
        let (Some(address), Ok(certificate)) = (address, certificate.parse()) else {
            debug!(instance = %id, "a host that gives no layers to others says that it does");
            return Ok(());
        };
        let key = TicketKey::mint(control.ids.as_ref());
        let address = SocketAddrV4::new(address, port);
        let at = LayersAt { session, address, certificate, key: key.clone() };
        if !control.layers.begin(id, at, here) {
            debug!(instance = %id, "a session that is over says what its host gives");
            return Ok(());
        }
        control.layers.figures((id, session), given, taken);
        let (key, told_at) = (key.reveal().reveal().to_owned(), control.clock.now());
        let message_id = self.outbox.next_message_id();
        let header = self.header(message_id);
        self.send(socket, &ToAgent::LayerKey(LayerKey { header, key, told_at })).await
    }
}
