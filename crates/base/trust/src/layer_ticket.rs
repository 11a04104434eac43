//! What the region grants a host that fetches a layer from another one.
//!
//! **Invariant:** a ticket is good for one layer, from one host, for who has the key of one certificate, and for a while.

use std::fmt;
use std::net::SocketAddrV4;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use longshore_types::{Digest, IdSource, Timestamp, Token};
use sha2::Sha256;

use crate::Fingerprint;

const KEY_BYTES: usize = 32;
/// Of those that a region names for one layer.
const HOLDERS_MAX: usize = 8;

/// A text that is not what the region writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is nothing that the region wrote")]
pub struct NotOurs;

/// Why a host gives nothing for a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    #[error("the ticket's time is over")]
    Expired,
    #[error("the region granted no such thing")]
    Forged,
}

/// What the region signs by, and one host checks by. Each host has its own, so that none can grant what others have.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey([u8; KEY_BYTES]);

impl TicketKey {
    pub fn mint(ids: &dyn IdSource) -> Self {
        let mut key = [0; KEY_BYTES];
        ids.fill(&mut key);
        Self(key)
    }

    /// As the host is told it.
    pub fn reveal(&self) -> Token {
        Token::from_text(hex::encode(self.0))
    }

    /// Grants a layer.
    pub fn grant(&self, layer: &Digest, asker: &Fingerprint, until: Timestamp) -> LayerTicket {
        let mac = self.mac(layer, asker, until).finalize().into_bytes().into();
        LayerTicket { until, mac }
    }

    /// Whether that was granted, and still is.
    pub fn check(
        &self,
        ticket: &LayerTicket,
        layer: &Digest,
        asker: &Fingerprint,
        now: Timestamp,
    ) -> Result<(), NotGranted> {
        let mac = self.mac(layer, asker, ticket.until);
        mac.verify_slice(&ticket.mac).map_err(|_| NotGranted::Forged)?;
        if now < ticket.until { Ok(()) } else { Err(NotGranted::Expired) }
    }

    fn mac(&self, layer: &Digest, asker: &Fingerprint, until: Timestamp) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length will do");
        mac.update(format!("longshore layer ticket 1\n{layer}\n{asker}\n{}", until.0).as_bytes());
        mac
    }
}

impl FromStr for TicketKey {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut key).map_err(|_| NotOurs)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(…)")
    }
}

/// A grant, as its holder shows it: until when, and what proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct LayerTicket {
    until: Timestamp,
    mac: [u8; 32],
}

impl fmt::Display for LayerTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.until.0, hex::encode(self.mac))
    }
}

impl fmt::Debug for LayerTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayerTicket({})", self.until.0)
    }
}

impl FromStr for LayerTicket {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let (until, proof) = text.split_once('.').ok_or(NotOurs)?;
        let is_number = !until.is_empty() && until.bytes().all(|it| it.is_ascii_digit());
        let until = until.parse().ok().filter(|_| is_number).ok_or(NotOurs)?;
        let mut mac = [0; 32];
        hex::decode_to_slice(proof, &mut mac).map_err(|_| NotOurs)?;
        Ok(Self { until: Timestamp(until), mac })
    }
}

/// A host that has a layer, and what it gives it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerHolder {
    pub address: SocketAddrV4,
    pub certificate: Fingerprint,
    pub ticket: LayerTicket,
}

/// Holders as one line, in the order in which they are to be asked.
pub fn write_holders(holders: &[LayerHolder]) -> String {
    let each = holders.iter().map(|it| format!("{} {} {}", it.address, it.certificate, it.ticket));
    each.collect::<Vec<_>>().join(", ")
}

/// Reads what [`write_holders`] wrote.
pub fn read_holders(text: &str) -> Result<Vec<LayerHolder>, NotOurs> {
    let each = text.split(", ").filter(|it| !it.is_empty()).take(HOLDERS_MAX);
    each.map(|text| {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(NotOurs);
        let holder = LayerHolder {
            address: next()?.parse().map_err(|_| NotOurs)?,
            certificate: next()?.parse().map_err(|_| NotOurs)?,
            ticket: next()?.parse()?,
        };
        words.next().map_or(Ok(holder), |_| Err(NotOurs))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn a_ticket_opens_one_layer_of_one_host_for_one_asker_and_for_a_while() {
        let env = SeededEnv::from_seed(1);
        let (key, other) = (TicketKey::mint(&env), TicketKey::mint(&env));
        let (layer, asker) = (Digest::Sha256([1; 32]), Fingerprint::of(b"asker"));
        let until = Timestamp(1_000);
        let ticket = key.grant(&layer, &asker, until);
        let read: LayerTicket = ticket.to_string().parse().unwrap();
        assert_eq!(read, ticket);
        assert_eq!(key.check(&read, &layer, &asker, Timestamp(999)), Ok(()));
        assert_eq!(key.check(&read, &layer, &asker, until), Err(NotGranted::Expired));
        let forged = Err(NotGranted::Forged);
        assert_eq!(other.check(&read, &layer, &asker, Timestamp(0)), forged);
        assert_eq!(key.check(&read, &Digest::Sha256([2; 32]), &asker, Timestamp(0)), forged);
        let stranger = Fingerprint::of(b"stranger");
        assert_eq!(key.check(&read, &layer, &stranger, Timestamp(0)), forged);
        let longer = LayerTicket { until: Timestamp(2_000), ..ticket };
        assert_eq!(key.check(&longer, &layer, &asker, Timestamp(0)), forged);
    }

    #[test]
    fn what_the_region_did_not_write_is_not_read() {
        let env = SeededEnv::from_seed(2);
        let key = TicketKey::mint(&env);
        assert_eq!(key.reveal().reveal().parse::<TicketKey>(), Ok(key.clone()));
        let ticket = key.grant(&Digest::Sha256([1; 32]), &Fingerprint::of(b""), Timestamp(7));
        let holder = LayerHolder {
            address: "10.0.0.1:14790".parse().unwrap(),
            certificate: Fingerprint::of(b"host"),
            ticket: ticket.clone(),
        };
        let all = vec![holder.clone(), holder];
        assert_eq!(read_holders(&write_holders(&all)), Ok(all.clone()));
        assert_eq!(read_holders(""), Ok(vec![]));
        let text = write_holders(&all[..1]);
        for bad in ["x", "10.0.0.1 a b", &text[1..text.len() - 1], &format!("{text} more")] {
            assert!(read_holders(bad).is_err(), "{bad}");
        }
        let proof = &ticket.to_string()[2..];
        for bad in ["", ".", "7", "7.", "+7.00", &format!("+7.{proof}"), &format!("-7.{proof}")] {
            assert!(bad.parse::<LayerTicket>().is_err(), "{bad}");
        }
        assert!(!format!("{key:?}").contains(key.reveal().reveal()));
    }
}
