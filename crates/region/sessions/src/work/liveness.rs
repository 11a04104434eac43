//! After how much silence an agent is lost, as it is told and as it is kept with its instance.
//!
//! **Invariant:** while an agent may go by a limit, its row has that one or a longer one, so that fenced tasks have
//! ended there before they are replaced.

use acs::message::{Liveness, ToAgent};
use longshore_types::Chain;
use tracing::warn;

use super::{End, Session};
use crate::handshake::Socket;
use crate::presence::goes_by;
use crate::rhythm::Rhythm;

impl Session<'_> {
    /// Tells an agent of ours how it notices a cut link, and how long it may hold on to fenced tasks; others are
    /// pinged and answer.
    pub(super) async fn send_liveness(&mut self, socket: &mut Socket) -> Result<(), End> {
        if !self.is_ours {
            return Ok(());
        }
        let message_id = self.outbox.next_message_id();
        let header = self.header(message_id.clone());
        let Rhythm { ping_ms, silence_ms_max, lost_after_ms } = self.rhythm;
        let message = Liveness { header, ping_ms, silence_ms_max, lost_after_ms };
        self.told_limit = Some(message_id);
        self.send(socket, &ToAgent::Liveness(message)).await
    }

    /// The limit of a capacity provider may have been changed.
    pub(super) async fn review_limit(&mut self, socket: &mut Socket) -> Result<(), End> {
        let control = &self.sessions.control;
        let view = control.view();
        let Some(row) = view.instances.get(self.instance.scope.account, &self.instance.id) else {
            return Ok(());
        };
        let rhythm = Rhythm::of(control.heartbeat_timeout_ms(&view, row));
        if rhythm == self.rhythm {
            return Ok(());
        }
        if self.is_ours {
            let longer = |before: Option<u64>| before.unwrap_or(0).max(rhythm.lost_after_ms);
            if let Err(error) = goes_by(control, self.instance, self.number, longer).await {
                warn!(instance = %self.instance.id, error = %Chain(&error), "limit not recorded");
                return Ok(()); // looked at again with the next heartbeat
            }
        }
        self.rhythm = rhythm;
        self.send_liveness(socket).await
    }

    /// Whether the message told of the limit: its agent goes by that one from now on.
    pub(super) async fn is_limit_acknowledged(&mut self, message_id: &str) -> bool {
        if self.told_limit.take_if(|told| told == message_id).is_none() {
            return false;
        }
        let lost_after_ms = self.rhythm.lost_after_ms;
        let control = &self.sessions.control;
        let kept = goes_by(control, self.instance, self.number, |_| lost_after_ms).await;
        if let Err(error) = kept {
            // The longer one before counts.
            warn!(instance = %self.instance.id, error = %Chain(&error), "limit not recorded");
        }
        true
    }
}
