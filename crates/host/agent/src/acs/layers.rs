//! What the region is told of the layers that the host gives to others, and by which key it grants them.

use std::collections::BTreeSet;
use std::time::Duration;

use acs::message::{LayerKey, LayersReport};
use image::Told;
use longshore_types::Digest;
use tokio::time::Instant;
use tracing::warn;

use super::session::{Session, read};

/// How often at most it is told.
const REST: Duration = Duration::from_millis(500);

/// What a session said of it.
#[derive(Debug, Default)]
pub(super) struct LayersTold {
    told: Option<Told>,
    rests_until: Option<Instant>,
}

/// What is to be said of what is so now, by what was said before.
fn report(before: Option<&Told>, now: &Told, certificate: &str) -> LayersReport {
    let before = before.filter(|before| before.port == now.port);
    let beside = |these: &BTreeSet<Digest>, those: &BTreeSet<Digest>| -> Vec<Digest> {
        these.difference(those).copied().collect()
    };
    let none = BTreeSet::new();
    let known = before.map_or(&none, |before| &before.layers);
    LayersReport {
        is_whole: before.is_none(),
        port: now.port,
        certificate: certificate.to_owned(),
        here: beside(&now.layers, known),
        gone: beside(known, &now.layers),
        given: now.given,
        taken: now.taken,
    }
}

impl Session<'_> {
    /// Says what is new of it. Only a region that speaks of liveness is ours and understands it.
    pub(super) async fn tell_of_layers(&mut self) {
        let Some(sharing) = &self.acs.sharing else { return };
        if self.layers.rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let now = sharing.told();
        if now == self.layers.told {
            return;
        }
        if let Some(now) = &now {
            let certificate = sharing.fingerprint().to_string();
            let report = report(self.layers.told.as_ref(), now, &certificate);
            self.send(LayersReport::KIND, &report).await;
        }
        self.layers.rests_until = Some(Instant::now() + REST);
        self.layers.told = now;
    }

    pub(super) fn layer_key(&self, body: &str) {
        let Some(message) = read::<LayerKey>(LayerKey::KIND, body) else { return };
        match (&self.acs.sharing, message.key.parse()) {
            (Some(sharing), Ok(key)) => sharing.granted_by(key, message.told_at),
            (Some(_) | None, Ok(_) | Err(_)) => {
                warn!(kind = LayerKey::KIND, "message makes no sense")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_said_at_first_and_then_what_is_new() {
        let told = |port, layers: &[u8], given| Told {
            port,
            layers: layers.iter().map(|it| Digest::Sha256([*it; 32])).collect(),
            given,
            taken: 0,
        };
        let numbers = |layers: &[Digest]| {
            layers.iter().map(|it| it.hex()[..2].to_owned()).collect::<Vec<_>>().join(" ")
        };
        let said = |before: Option<&Told>, now: &Told| {
            let report = report(before, now, "c");
            (report.is_whole, numbers(&report.here), numbers(&report.gone), report.given)
        };
        let first = told(1, &[1, 2], 0);
        assert_eq!(said(None, &first), (true, "01 02".into(), String::new(), 0));
        let next = told(1, &[2, 3], 7);
        assert_eq!(said(Some(&first), &next), (false, "03".into(), "01".into(), 7));
        let moved = told(2, &[2], 7);
        assert_eq!(said(Some(&next), &moved), (true, "02".into(), String::new(), 7));
    }
}
