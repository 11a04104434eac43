//! Clients of network balancers that pass their connections on to an application balancer: they are introduced by the header
//! of PROXY protocol version 2.
//!
//! **Invariant:** nobody is believed but the balancer's own introducers, which send one header before whatever their client
//! says.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::limits::INTRODUCTION_WAIT_MAX;

/// What a header begins with.
pub(crate) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// With version, command, family and length.
const HEAD_LEN: usize = 16;
/// Bytes of what follows: more than two addresses is let pass.
const REST_MAX: usize = 512;
/// How long it is waited for the rest of a header that has begun.
const PAUSE: Duration = Duration::from_millis(2);

/// Somebody's connection that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Introduced {
    pub(crate) client: SocketAddr,
    /// Where it came to the network balancer.
    pub(crate) came_to: SocketAddr,
}

/// Who is introduced on a connection from an introducer; none: it speaks for itself, as when it checks.
///
/// # Errors
/// It says nothing for too long, or introduces somebody in a way that cannot be read.
pub(crate) async fn introduced(stream: &mut TcpStream) -> io::Result<Option<Introduced>> {
    timeout(INTRODUCTION_WAIT_MAX, read(stream)).await?
}

async fn read(stream: &mut TcpStream) -> io::Result<Option<Introduced>> {
    let mut head = [0; HEAD_LEN];
    loop {
        let seen = stream.peek(&mut head).await?;
        let begun = seen.min(SIGNATURE.len());
        if seen == 0 || head[..begun] != SIGNATURE[..begun] {
            return Ok(None);
        }
        if seen == HEAD_LEN {
            break;
        }
        sleep(PAUSE).await;
    }
    stream.read_exact(&mut head).await?;
    let len = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if REST_MAX < len {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; len];
    stream.read_exact(&mut rest).await?;
    Ok(Some(ends(head[12], head[13], &rest).ok_or(io::ErrorKind::InvalidData)?))
}

/// Whose connection it is, by the header of a stream that is passed on.
fn ends(version_and_command: u8, family: u8, rest: &[u8]) -> Option<Introduced> {
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let v4 = |at: usize| {
        let address: [u8; 4] = rest.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::from(address))
    };
    let v6 = |at: usize| {
        let address: [u8; 16] = rest.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::from(address).to_canonical())
    };
    let (client, came_to) = match (version_and_command, family) {
        (0x21, 0x11) => ((v4(0)?, port(8)?), (v4(4)?, port(10)?)),
        (0x21, 0x21) => ((v6(0)?, port(32)?), (v6(16)?, port(34)?)),
        _ => return None,
    };
    Some(Introduced { client: client.into(), came_to: came_to.into() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tcp::proxy_v2;

    #[test]
    fn who_was_written_is_read() {
        for client in ["192.0.2.1:258", "[2001:db8::1]:65535"] {
            let client: SocketAddr = client.parse().unwrap();
            let came_to = "10.0.0.1:80".parse().unwrap();
            let header = proxy_v2(client, came_to);
            let read = ends(header[12], header[13], &header[HEAD_LEN..]);
            assert_eq!(read, Some(Introduced { client, came_to }));
            assert_eq!(header[..12], *SIGNATURE);
        }
    }

    proptest! {
        #[test]
        fn nothing_upsets_the_reader(command: u8, family: u8, rest: Vec<u8>) {
            ends(command, family, &rest);
            ends(0x21, 0x11, &rest);
            ends(0x21, 0x21, &rest);
        }
    }
}
