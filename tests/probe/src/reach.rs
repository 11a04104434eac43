//! Who can be reached over the network, by ordinary sockets and by packets of one's own making.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::{raw, say, word};

const PATIENCE: Duration = Duration::from_millis(1200);
/// The kind that was for packets before they had a family of their own.
const SOCK_PACKET: i32 = 10;

/// Takes `tcp|udp|raw|packet|xdp|old-packet ADDRESS PORT` again and again; says `KIND ADDRESS PORT: what was heard`.
pub(crate) fn try_all(words: &[&str]) -> u8 {
    let all: Vec<_> = words
        .chunks_exact(3)
        .map(|each| each.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        .collect();
    let running: Vec<_> =
        all.into_iter().map(|each| std::thread::spawn(move || try_one(&each))).collect();
    for thread in running {
        let _ = thread.join();
    }
    0
}

fn try_one(words: &[String]) {
    let [kind, address, port] = words else { return };
    let name = format!("{kind} {address} {port}");
    let (Ok(address), Ok(port)) = (address.parse::<Ipv4Addr>(), port.parse::<u16>()) else {
        return say(&name, "not an address");
    };
    let to = SocketAddrV4::new(address, port);
    let heard = match kind.as_str() {
        "tcp" => tcp(to),
        "udp" => udp(to),
        "packet" => opened(libc::AF_PACKET, libc::SOCK_RAW),
        "xdp" => opened(libc::AF_XDP, libc::SOCK_RAW),
        "old-packet" => opened(libc::AF_INET, SOCK_PACKET),
        _ => spoofed(to).map(|()| "sent".to_owned()),
    };
    match heard {
        Ok(heard) => say(&name, &heard),
        Err(error) => say(&name, &format!("none ({})", word(&error))),
    }
}

fn tcp(to: SocketAddrV4) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(to), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let _ = stream.write_all(b"GET /latest/meta-data/ HTTP/1.0\r\n\r\n");
    let mut bytes = [0; 200];
    let length = stream.read(&mut bytes).unwrap_or(0);
    Ok(format!("connected {}", String::from_utf8_lossy(&bytes[..length]).escape_debug()))
}

fn udp(to: SocketAddrV4) -> io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"probe")?;
    let mut bytes = [0; 200];
    let length = socket.recv(&mut bytes)?;
    Ok(format!("heard {}", String::from_utf8_lossy(&bytes[..length]).escape_debug()))
}

/// A socket of a kind that sends whole frames, or `opened`: what is in the upper half of an argument does
/// not count for the kernel, and should not for a filter.
fn opened(family: i32, kind: i32) -> io::Result<String> {
    let mut outcome = Err(io::Error::from_raw_os_error(libc::EPERM));
    for upper in [0, 1 << 32] {
        let socket =
            raw(libc::SYS_socket, [family as usize | upper, kind as usize | upper, 0, 0, 0, 0]);
        if let Ok(socket) = socket {
            raw(libc::SYS_close, [socket as usize, 0, 0, 0, 0, 0])?;
            return Ok("opened".to_owned());
        }
        outcome = socket.map(|_| String::new());
    }
    outcome
}

/// A datagram whose sender is invented: loopback's, so that who trusts addresses trusts it.
fn spoofed(to: SocketAddrV4) -> io::Result<()> {
    let socket = raw(
        libc::SYS_socket,
        [libc::AF_INET as usize, libc::SOCK_RAW as usize, libc::IPPROTO_RAW as usize, 0, 0, 0],
    )?;
    let load = b"spoofed";
    let length = 28 + load.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(Ipv4Addr::LOCALHOST.octets());
    packet.extend(to.ip().octets());
    packet.extend(4000_u16.to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((8 + load.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(load);
    let mut name = vec![2, 0, 0, 0];
    name.extend(to.ip().octets());
    name.extend([0; 8]);
    let sent = raw(
        libc::SYS_sendto,
        [socket as usize, packet.as_ptr() as usize, packet.len(), 0, name.as_ptr() as usize, 16],
    );
    raw(libc::SYS_close, [socket as usize, 0, 0, 0, 0, 0])?;
    sent.map(|_| ())
}

/// Answers every caller on all addresses, over TCP and UDP: what other tasks try to reach.
pub(crate) fn serve(port: u16) -> u8 {
    let (Ok(tcp), Ok(udp)) =
        (TcpListener::bind(("0.0.0.0", port)), UdpSocket::bind(("0.0.0.0", port)))
    else {
        say("serve", "cannot listen");
        return 1;
    };
    say("serve", "ready");
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut bytes) {
            say("datagram", &peer.to_string());
            let _ = udp.send_to(b"here", peer);
        }
    });
    for stream in tcp.incoming().flatten() {
        say("caller", &stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default());
        let _ = (&stream).write_all(b"here");
    }
    0
}
