//! Clients of network balancers that pass their connections on to an application balancer: they are introduced by the header
//! of PROXY protocol version 2.
//!
//! **Invariant:** nobody is believed but the balancer's own introducers, which send one header before whatever their client
//! says.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// The client that is introduced on a connection from an introducer; none: it speaks for itself, as when it checks.
///
/// # Errors
/// It says nothing for too long, or introduces somebody in a way that cannot be read.
pub(crate) async fn client(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    timeout(INTRODUCTION_WAIT_MAX, read(stream)).await?
}

async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
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
    Ok(Some(source(head[12], head[13], &rest).ok_or(io::ErrorKind::InvalidData)?))
}

/// Whose connection it is, by the header of a stream that is passed on.
fn source(version_and_command: u8, family: u8, rest: &[u8]) -> Option<SocketAddr> {
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    match (version_and_command, family) {
        (0x21, 0x11) => {
            let address: [u8; 4] = rest.get(..4)?.try_into().ok()?;
            Some(SocketAddr::new(Ipv4Addr::from(address).into(), port(8)?))
        }
        (0x21, 0x21) => {
            let address: [u8; 16] = rest.get(..16)?.try_into().ok()?;
            Some(SocketAddr::new(Ipv6Addr::from(address).to_canonical(), port(32)?))
        }
        _ => None,
    }
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
            let header = proxy_v2(client, "10.0.0.1:80".parse().unwrap());
            assert_eq!(source(header[12], header[13], &header[HEAD_LEN..]), Some(client));
            assert_eq!(header[..12], *SIGNATURE);
        }
    }

    proptest! {
        #[test]
        fn nothing_upsets_the_reader(command: u8, family: u8, rest: Vec<u8>) {
            source(command, family, &rest);
            source(0x21, 0x11, &rest);
            source(0x21, 0x21, &rest);
        }
    }
}
