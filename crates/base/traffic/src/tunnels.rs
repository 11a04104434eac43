//! What a host is told of the encrypted ways to other hosts: keys for each host that it shares a VPC with, each way its
//! own, and by which of them to send.
//!
//! The region draws no key that more than two hosts know. An epoch's keys are told to receivers first; a sender is told
//! to send by them once the other host has said that it takes them in.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Bytes of a key: 128 bits for AES, and the salt of its nonces.
pub const ESP_KEY_LEN: usize = 20;
/// How many epochs' keys of one sender a receiver can tell apart at once.
pub const EPOCHS_APART: u64 = 15;

/// The key of one way between two hosts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EspKey([u8; ESP_KEY_LEN]);

/// A text that is no key. Its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("40 hexadecimal digits")]
pub struct NotAnEspKey;

impl EspKey {
    pub fn new(bytes: [u8; ESP_KEY_LEN]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; ESP_KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for EspKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EspKey(…)")
    }
}

impl From<EspKey> for String {
    fn from(key: EspKey) -> Self {
        key.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for EspKey {
    type Error = NotAnEspKey;

    fn try_from(text: String) -> Result<Self, NotAnEspKey> {
        let mut bytes = [0; ESP_KEY_LEN];
        if text.len() != 2 * ESP_KEY_LEN || !text.is_ascii() {
            return Err(NotAnEspKey);
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| NotAnEspKey)?;
        }
        Ok(Self(bytes))
    }
}

/// What tells a host which key a packet is by: the sender's address, so that no two senders' are the same at one
/// receiver, and the epoch. Hosts whose addresses differ in the first four bits alone are not told apart.
pub fn spi(sender: Ipv4Addr, epoch: u64) -> u32 {
    let epoch = u32::try_from(1 + epoch % EPOCHS_APART).expect("it is below sixteen");
    epoch << 28 | sender_number(sender)
}

/// What of a sender's address tells it apart from others.
pub fn sender_number(sender: Ipv4Addr) -> u32 {
    u32::from(sender) & 0x0fff_ffff
}

/// Both ways' keys of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelKeys {
    pub epoch: u64,
    /// Of what comes from the other host.
    pub inbound: EspKey,
    pub outbound: EspKey,
}

/// The encrypted way to another host. What goes between the two is encrypted from when this is told, or does not go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// Its address in the hosts' own network.
    pub peer: Ipv4Addr,
    /// Another where one of the two hosts is another than before, or has lost its kernel's state: keys of before are not
    /// good any more.
    pub link: u64,
    /// None where nothing is to be said of them: those of before stay.
    #[serde(default)]
    pub keys: Vec<TunnelKeys>,
    /// The epoch to send by from now on, which the other host takes in; without one, that of before.
    #[serde(default)]
    pub send: Option<u64>,
    /// The epoch by which the other host has said that it sends.
    #[serde(default)]
    pub heard: Option<u64>,
}

/// What is new of the encrypted ways to other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostTunnels {
    #[serde(default)]
    pub put: Vec<Tunnel>,
    /// By the other hosts' addresses: of those there is nothing to be said any more. What goes there all the same, goes in
    /// the clear.
    #[serde(default)]
    pub gone: Vec<Ipv4Addr>,
}

impl HostTunnels {
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.gone.is_empty()
    }

    pub fn extend(&mut self, more: Self) {
        self.put.extend(more.put);
        self.gone.extend(more.gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_shown() {
        let key = EspKey::new(std::array::from_fn(|at| u8::try_from(at * 13).unwrap()));
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<EspKey>(&text).unwrap(), key);
        assert_eq!(format!("{key:?}"), "EspKey(…)");
        for bad in ["\"\"", "\"0g\"", &text[..30], "\"ééééééééééééééééééééé\""]
        {
            assert!(serde_json::from_str::<EspKey>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_two_senders_and_no_two_epochs_of_these_days_have_one_number() {
        let hosts = [[10, 0, 0, 1], [10, 0, 0, 2], [192, 168, 0, 1], [172, 16, 0, 1]];
        let mut seen = std::collections::BTreeSet::new();
        for host in hosts {
            for epoch in 20_000..20_000 + EPOCHS_APART {
                let spi = spi(host.into(), epoch);
                assert!(spi > 255, "the first ones are set apart");
                assert!(seen.insert(spi), "{host:?} {epoch}");
            }
        }
    }
}
