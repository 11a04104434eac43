//! How a connection that came to a VPC endpoint is introduced to the region: by a header of the PROXY protocol, version 2,
//! which names its ends and, as AWS does, the endpoint.
//!
//! The region believes what a header says that carries the token which it shares with the process on its machine.
//! **Invariant:** whatever comes in place of a header is refused or read, and never upsets who reads it.

use std::net::{Ipv4Addr, SocketAddrV4};

use longshore_types::Token;
use subtle::ConstantTimeEq as _;

use crate::ids::EndpointId;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and that it is about another's connection.
const PROXY: u8 = 0x21;
/// TCP over IPv4.
const TCP4: u8 = 0x11;
/// The field of AWS's, of which the first byte says what it is about.
const AWS: u8 = 0xea;
const AWS_ENDPOINT: u8 = 0x01;
/// The first of those that the protocol leaves to whoever uses it: the token.
const TOKEN: u8 = 0xe0;
const ADDRESSES_LEN: usize = 12;

/// The first byte of a header: no request begins with it, nor TLS.
pub const FIRST_BYTE: u8 = SIGNATURE[0];
/// What comes first, and says how long the rest is.
pub const HEAD_LEN: usize = 16;
/// The longest rest that is read.
pub const REST_LEN_MAX: usize = 256;

/// What both sides know, and nobody else.
pub type IntroductionToken = [u8; TOKEN_LEN];
/// Characters of the text that is drawn for it.
pub const TOKEN_LEN: usize = 32;

/// What a text is that was drawn for it; none of any other.
pub fn token(text: &Token) -> Option<IntroductionToken> {
    text.reveal().as_bytes().try_into().ok()
}

/// A connection that came to an endpoint's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub endpoint: EndpointId,
    pub client: SocketAddrV4,
    /// The interface's own address.
    pub interface: SocketAddrV4,
}

/// It is no header, or not of who knows the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no introduction by the process that serves VPC endpoints")]
pub struct NotIntroduced;

impl Introduction {
    /// The header.
    pub fn encode(&self, token: &IntroductionToken) -> Vec<u8> {
        let mut rest = Vec::new();
        rest.extend(self.client.ip().octets());
        rest.extend(self.interface.ip().octets());
        rest.extend(self.client.port().to_be_bytes());
        rest.extend(self.interface.port().to_be_bytes());
        let mut endpoint = vec![AWS_ENDPOINT];
        endpoint.extend(self.endpoint.0.bytes());
        field(&mut rest, AWS, &endpoint);
        field(&mut rest, TOKEN, token);
        let mut header = SIGNATURE.to_vec();
        header.extend([PROXY, TCP4]);
        header.extend(u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes());
        header.extend(rest);
        header
    }

    /// Reads what comes after the head.
    pub fn decode(rest: &[u8], token: &IntroductionToken) -> Result<Self, NotIntroduced> {
        let (addresses, mut fields) = rest.split_at_checked(ADDRESSES_LEN).ok_or(NotIntroduced)?;
        let address = |at: usize, port: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|byte| addresses[at + byte]);
            let port = u16::from_be_bytes([addresses[port], addresses[port + 1]]);
            SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port)
        };
        let (mut endpoint, mut is_known) = (None, false);
        while let [kind, high, low, others @ ..] = fields {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let (value, after) = others.split_at_checked(length).ok_or(NotIntroduced)?;
            match (*kind, value) {
                (AWS, [AWS_ENDPOINT, id @ ..]) => {
                    let id = std::str::from_utf8(id).map_err(|_| NotIntroduced)?;
                    endpoint = Some(EndpointId(id.to_owned()));
                }
                (TOKEN, given) => is_known = given.ct_eq(token).into(),
                _ => {}
            }
            fields = after;
        }
        let endpoint = endpoint.filter(|_| is_known).ok_or(NotIntroduced)?;
        Ok(Self { endpoint, client: address(0, 8), interface: address(4, 10) })
    }
}

/// How long the rest is of a header that begins so.
pub fn rest_len(head: &[u8; HEAD_LEN]) -> Result<usize, NotIntroduced> {
    let (signature, [version, family, high, low]) = head.split_at(SIGNATURE.len()) else {
        return Err(NotIntroduced);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let is_ours = signature == SIGNATURE && (*version, *family) == (PROXY, TCP4);
    if is_ours && (ADDRESSES_LEN..=REST_LEN_MAX).contains(&length) {
        return Ok(length);
    }
    Err(NotIntroduced)
}

fn field(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: IntroductionToken = [7; 32];

    #[test]
    fn a_text_of_another_length_is_no_token() {
        let text = |length| Token::from_text("a".repeat(length));
        assert_eq!(token(&text(TOKEN_LEN)), Some([b'a'; TOKEN_LEN]));
        assert_eq!([0, TOKEN_LEN - 1, TOKEN_LEN + 1].map(|length| token(&text(length))), [None; 3]);
    }

    fn introduction() -> Introduction {
        Introduction {
            endpoint: EndpointId("vpce-0123456789abcdef0".to_owned()),
            client: "10.0.1.9:40000".parse().unwrap(),
            interface: "10.0.2.7:443".parse().unwrap(),
        }
    }

    #[test]
    fn a_connection_is_introduced_by_who_knows_the_token() {
        let header = introduction().encode(&KNOWN);
        let (head, rest) = header.split_first_chunk::<HEAD_LEN>().unwrap();
        assert_eq!((head[0], rest_len(head)), (FIRST_BYTE, Ok(rest.len())));
        assert_eq!(Introduction::decode(rest, &KNOWN), Ok(introduction()));
        assert_eq!(Introduction::decode(rest, &[8; 32]), Err(NotIntroduced));
        let mut long = *head;
        long[14] = 0xff;
        assert_eq!(rest_len(&long), Err(NotIntroduced));
        let without = &rest[..rest.len() - 35];
        assert_eq!(Introduction::decode(without, &KNOWN), Err(NotIntroduced));
    }

    proptest! {
        #[test]
        fn nothing_upsets_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Introduction::decode(&bytes, &KNOWN).is_err());
            if let Some((head, _)) = bytes.split_first_chunk::<HEAD_LEN>() {
                prop_assert!(rest_len(head).is_err());
            }
        }
    }
}
