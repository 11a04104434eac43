//! DNS.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::world::{HOST_OUTSIDE, OUTSIDE, World, at, eni, id, inside, on_a_host};

pub(crate) const AMAZON: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

fn question(number: u8) -> Vec<u8> {
    let mut message = vec![7, number, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4];
    message.extend(b"name\0\0\x01\0\x01");
    message
}

/// Answers every question with the question, over UDP and TCP.
pub(crate) fn serve_names(world: &World) {
    inside(&world.outside, || {
        let udp = UdpSocket::bind((OUTSIDE, 53)).unwrap();
        let tcp = TcpListener::bind((OUTSIDE, 53)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                buffer[2] |= 0x80;
                drop(udp.send_to(&buffer[..length], peer));
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 512];
                let length = stream.read(&mut buffer).unwrap();
                buffer[4] |= 0x80;
                drop(stream.write_all(&buffer[..length]));
            }
        });
    });
}

pub(crate) fn ask_udp(server: Ipv4Addr, port: u16, number: u8) -> Option<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket.connect((server, port)).ok()?;
    socket.send(&question(number)).ok()?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).ok()?;
    assert_eq!((length, buffer[1]), (question(number).len(), number));
    Some(buffer[3] & 0xf)
}

fn ask_tcp(server: Ipv4Addr, number: u8) -> Option<u8> {
    let mut stream = TcpStream::connect((server, 53)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let message = question(number);
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(&message);
    stream.write_all(&framed).ok()?;
    let mut answer = vec![0; framed.len()];
    stream.read_exact(&mut answer).ok()?;
    assert_eq!(answer[3], number);
    Some(answer[5] & 0xf)
}

#[test]
fn names_are_resolved_inside_by_the_hosts_resolvers() {
    on_a_host(|world| {
        let network = world.open();
        let task = world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[]))).unwrap();
        let bridged = world.runtime.block_on(network.attach_bridge(&id("bridged"))).unwrap();
        assert_eq!(at(&task, || ask_udp(AMAZON, 53, 1)), Some(2), "SERVFAIL when nobody answers");
        serve_names(world);
        for server in [AMAZON, Ipv4Addr::new(172, 31, 0, 2), network.host_address()] {
            assert_eq!(at(&task, || ask_udp(server, 53, 2)), Some(0), "{server}");
            assert_eq!(at(&bridged, || ask_udp(server, 53, 3)), Some(0), "{server}");
            assert_eq!(at(&task, || ask_tcp(server, 4)), Some(0), "{server}");
        }
        for address in [HOST_OUTSIDE, network.host_address()] {
            let from_outside = inside(&world.outside, || ask_udp(address, 53, 5));
            assert_eq!(from_outside, None, "the outside is not served by {address}");
        }
    });
}

#[test]
fn a_changed_resolv_conf_is_read_again() {
    on_a_host(|world| {
        std::fs::write(world.dir.path().join("resolv.conf"), "nameserver 203.0.113.99\n").unwrap();
        let network = world.open();
        let task = world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[]))).unwrap();
        serve_names(world);
        assert_eq!(at(&task, || ask_udp(AMAZON, 53, 1)), Some(2));
        std::fs::write(world.dir.path().join("resolv.conf"), "nameserver 203.0.113.2\n").unwrap();
        assert_eq!(at(&task, || ask_udp(AMAZON, 53, 2)), Some(0));
    });
}
