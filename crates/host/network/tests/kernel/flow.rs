//! A flow of packets from one task to another, and whether all of it arrives.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use network::Attached;
use nix::sys::socket::{setsockopt, sockopt};

use crate::world::at;

/// One that sends to the other, which waits for up to a second and a half.
pub(crate) fn sockets(from: &Attached, to: &Attached) -> (UdpSocket, UdpSocket) {
    let heard = at(to, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    heard.set_read_timeout(Some(Duration::from_millis(1_500))).unwrap();
    let sent = at(from, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    sent.connect((to.address, heard.local_addr().unwrap().port())).unwrap();
    (sent, heard)
}

/// Sends numbered packets while `work` is done, and says which of them never came, of how many.
pub(crate) fn lost_while(from: &Attached, to: &Attached, work: impl FnOnce()) -> (Vec<u32>, u32) {
    let (sent, heard) = sockets(from, to);
    setsockopt(&heard, sockopt::RcvBuf, &(1 << 20)).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut number = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                sent.send(&number.to_be_bytes()).unwrap();
                number += 1;
                thread::sleep(Duration::from_millis(1));
            }
            number
        });
        let receiver = scope.spawn(|| {
            let (mut seen, mut buffer) = (BTreeSet::new(), [0; 64]);
            while heard.recv(&mut buffer).is_ok() {
                seen.insert(u32::from_be_bytes(*buffer.first_chunk().unwrap()));
            }
            seen
        });
        thread::sleep(Duration::from_millis(300));
        work();
        thread::sleep(Duration::from_millis(300));
        is_over.store(true, Ordering::Relaxed);
        let count = sender.join().unwrap();
        let seen = receiver.join().unwrap();
        ((0..count).filter(|number| !seen.contains(number)).collect(), count)
    })
}
