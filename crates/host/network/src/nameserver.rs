//! A nameserver for whoever asks from outside: it answers what it is told of one name at a time, and asks nobody else.
//!
//! **Invariant:** a question costs one look and one answer that is not much longer; nothing is kept of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, UdpSocket};
use traffic::NameEntry;

use crate::dns::{SERVFAIL, is_question, serve_streams, unanswered};
use crate::limits;
use crate::zones::{answer_by, name_of};

const REFUSED: u8 = 5;

/// What is to be said of a name.
#[derive(Clone, Debug)]
pub enum Told {
    Entry(NameEntry),
    /// It is not known yet: who asks is to ask again.
    NotYet,
    /// It is nobody's here.
    Nobodys,
}

/// Who knows the names: by name, in lower case, and by who asks.
pub type Lookup = dyn Fn(&str, IpAddr) -> Told + Send + Sync;

/// Sockets for datagrams and streams at one address.
#[derive(Debug)]
pub struct NameServer {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

impl NameServer {
    /// # Errors
    /// The address is not this machine's, or in use.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        Ok(Self { udp: Arc::new(udp), tcp })
    }

    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Answers for as long as it is polled.
    pub async fn serve(self, lookup: Arc<Lookup>) {
        let answering = Arc::new(Answering { lookup, turn: AtomicUsize::new(0) });
        let of_streams = Arc::clone(&answering);
        let answer = move |asker: IpAddr, question: Vec<u8>| {
            std::future::ready(of_streams.answer(asker, &question, false))
        };
        tokio::join!(serve_udp(&self.udp, answering), serve_streams(&self.tcp, answer));
    }
}

struct Answering {
    lookup: Arc<Lookup>,
    turn: AtomicUsize,
}

impl Answering {
    fn answer(&self, asker: IpAddr, question: &[u8], is_datagram: bool) -> Vec<u8> {
        let said = |code| {
            const RECURSION_AVAILABLE: u8 = 0x80;
            let mut answer = unanswered(question, code);
            answer[3] &= !RECURSION_AVAILABLE;
            answer
        };
        let Some(name) = name_of(question) else { return said(REFUSED) };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match (self.lookup)(&name, asker.to_canonical()) {
            Told::Nobodys => said(REFUSED),
            Told::NotYet => said(SERVFAIL),
            Told::Entry(entry) => {
                answer_by(entry, question, turn, is_datagram).unwrap_or_else(|| said(REFUSED))
            }
        }
    }
}

async fn serve_udp(socket: &UdpSocket, answering: Arc<Answering>) {
    let mut buffer = vec![0; limits::DNS_MESSAGE_MAX];
    loop {
        // An error here tells of an earlier answer that could not be delivered.
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else { continue };
        let question = &buffer[..length];
        if is_question(question) {
            let answer = answering.answer(asker.ip(), question, true);
            // Who does not hear it asks again.
            drop(socket.try_send_to(&answer, asker));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpStream;
    use traffic::{NamedInstance, NamedService};

    use super::*;
    use crate::dns::{read_framed, write_framed};
    use crate::zones::tests::question;

    fn entry(name: &str) -> NameEntry {
        let instance = |last: u8| NamedInstance {
            id: last.to_string(),
            ipv4: Some([192, 0, 2, last].into()),
            is_healthy: true,
            ..NamedInstance::default()
        };
        NameEntry {
            account: "111111111111".parse().unwrap(),
            vpc: None,
            zone: name.to_owned(),
            negative_ttl_s: 10,
            service: Some(NamedService {
                a_ttl_s: Some(10),
                instances: vec![instance(1), instance(2)],
                ..NamedService::default()
            }),
        }
    }

    fn lookup() -> Arc<Lookup> {
        Arc::new(|name: &str, _| match name {
            "web.elb" => Told::Entry(entry("Web.elb")),
            "new.elb" => Told::NotYet,
            _ => Told::Nobodys,
        })
    }

    fn answering() -> Answering {
        Answering { lookup: lookup(), turn: AtomicUsize::new(0) }
    }

    /// Its code, and how many records it answers.
    fn read(answer: &[u8]) -> (u8, u8) {
        assert_eq!(answer[..2], [0x12, 0x34]);
        assert_eq!(
            (answer[2] & 0x80, answer[3] & 0x80),
            (0x80, 0),
            "an answer, by who asks nobody"
        );
        (answer[3] & 0xf, answer[7])
    }

    #[test]
    fn a_name_is_answered_by_its_own_addresses_and_nobodys_name_by_a_refusal() {
        let answering = answering();
        let ask = |name: &str, kind| {
            read(&answering.answer([192, 0, 2, 9].into(), &question(name, kind), true))
        };
        assert_eq!(ask("WEB.elb", 1), (0, 2));
        assert_eq!(ask("web.elb", 28), (0, 0), "it has no others");
        assert_eq!(ask("new.elb", 1), (SERVFAIL, 0));
        for name in ["elb", "example.com", "x.new.elb"] {
            assert_eq!(ask(name, 1), (REFUSED, 0), "{name}");
        }
    }

    #[tokio::test]
    async fn it_answers_datagrams_and_streams_at_one_address() {
        let server = NameServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address().unwrap();
        let asking = async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Answers and what is no question get none.
            socket.send_to(&[0; 3], address).await.unwrap();
            socket.send_to(&question("web.elb", 1), address).await.unwrap();
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer).await.unwrap();
            assert_eq!(read(&answer[..length]), (0, 2));
            let mut stream = TcpStream::connect(address).await.unwrap();
            for _ in 0..2 {
                write_framed(&mut stream, &question("web.elb", 1)).await.unwrap();
                assert_eq!(read(&read_framed(&mut stream).await.unwrap()), (0, 2));
            }
        };
        tokio::select! {
            () = asking => {}
            () = server.serve(lookup()) => unreachable!("it serves on"),
        }
    }

    proptest! {
        #[test]
        fn nothing_upsets_it(bytes in proptest::collection::vec(any::<u8>(), 12..600)) {
            let answer = answering().answer([192, 0, 2, 9].into(), &bytes, true);
            prop_assert!(answer.len() <= bytes.len() + 200);
        }
    }
}
