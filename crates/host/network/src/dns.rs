//! The nameserver that endpoints see: answers for names of private namespaces ([`Zones`]), and passes all other
//! questions on to the host's own resolvers.
//!
//! It listens on the host's address towards endpoints, on any port; the table leads the well-known
//! addresses there. The host's `resolv.conf` is read again when it has changed, so a laptop that moves
//! between networks needs no restart.
//!
//! **Invariant:** a question is answered, with SERVFAIL if no resolver does in time, or refused the same
//! way when too many are under way; nothing is queued without bound.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::debug;

use longshore_types::{Chain, RegionName, VpcId};

use crate::connect::ConnectNames;
use crate::error::NetworkError;
use crate::interface_names::{InterfaceNames, domains};
use crate::led::{Answered, Led};
use crate::limits;
use crate::zones::Zones;

const PORT: u16 = 53;
const HEADER_LEN: usize = 12;
pub(crate) const SERVFAIL: u8 = 2;
/// Attempts to find a port that is free for UDP and TCP alike.
const PORT_ATTEMPTS_MAX: usize = 16;

/// Sockets of the relay, bound but not yet served.
#[derive(Debug)]
pub(crate) struct Bound {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    pub(crate) port: u16,
}

/// Binds UDP and TCP on one port of `address`: 53 if it can be had, else any.
pub(crate) fn bind(address: Ipv4Addr) -> Result<Bound, NetworkError> {
    let mut outcome = bind_port(address, PORT);
    for _ in 0..PORT_ATTEMPTS_MAX {
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Ok(_) | Err(_) => break,
        }
        outcome = bind_port(address, 0);
    }
    outcome.map_err(|source| NetworkError::io(format!("bind the DNS relay to {address}"), source))
}

fn bind_port(address: Ipv4Addr, port: u16) -> io::Result<Bound> {
    let udp = std::net::UdpSocket::bind((address, port))?;
    let port = udp.local_addr()?.port();
    let tcp = std::net::TcpListener::bind((address, port))?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok(Bound { udp, tcp, port })
}

/// A relay at work; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Relay {
    /// Must be called within a tokio runtime.
    pub(crate) fn serve(
        bound: Bound,
        resolv_conf: PathBuf,
        names: Arc<Names>,
    ) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::io("serve the DNS relay", source);
        let udp = Arc::new(UdpSocket::from_std(bound.udp).map_err(failed)?);
        let tcp = TcpListener::from_std(bound.tcp).map_err(failed)?;
        let resolvers = Arc::new(Resolvers { names, ..Resolvers::new(resolv_conf) });
        #[expect(clippy::disallowed_methods, reason = "aborted when the relay is dropped")]
        let datagrams = tokio::spawn(serve_udp(udp, Arc::clone(&resolvers)));
        #[expect(clippy::disallowed_methods, reason = "aborted when the relay is dropped")]
        let streams = tokio::spawn(serve_tcp(tcp, resolvers));
        Ok(Self { tasks: [datagrams, streams] })
    }
}

/// The host's resolvers, as its `resolv.conf` names them now.
#[derive(Debug)]
struct Resolvers {
    path: PathBuf,
    known: Mutex<(Option<SystemTime>, Arc<[SocketAddr]>)>,
    names: Arc<Names>,
}

/// The region's names as they are now, and whose turn it is to be answered first.
#[derive(Debug, Default)]
pub(crate) struct Names {
    zones: Mutex<Arc<Zones>>,
    /// Addresses by which the tasks of a VPC ask together, and which that is. Of an unknown one no names are theirs.
    routers: Mutex<BTreeMap<Ipv4Addr, Option<VpcId>>>,
    turn: AtomicUsize,
    /// Of which interfaces have names; none where nobody said.
    region: Option<RegionName>,
    /// Those of endpoints of Service Connect.
    connect: Mutex<Arc<ConnectNames>>,
    /// Names of interfaces, by VPC; none: of the region's default one.
    interfaces: Mutex<Arc<BTreeMap<Option<VpcId>, InterfaceNames>>>,
    /// Who is in a default VPC whose interfaces have no names.
    nameless: Mutex<BTreeSet<Ipv4Addr>>,
}

impl Names {
    pub(crate) fn of_region(region: Option<RegionName>) -> Self {
        Self { region, ..Self::default() }
    }

    pub(crate) fn know_interfaces(&self, names: BTreeMap<Option<VpcId>, InterfaceNames>) {
        *self.interfaces.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    pub(crate) fn know_nameless(&self, addresses: BTreeSet<Ipv4Addr>) {
        *self.nameless.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    fn is_nameless(&self, asker: IpAddr) -> bool {
        let IpAddr::V4(address) = asker else { return false };
        self.nameless.lock().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// The answer that follows from an address in a name.
    fn answer_of_interface(&self, vpc: Option<VpcId>, question: &[u8]) -> Option<Vec<u8>> {
        let region = self.region.as_ref()?;
        let known = Arc::clone(&self.interfaces.lock().unwrap_or_else(PoisonError::into_inner));
        known.get(&vpc)?.answer(region, question)
    }

    pub(crate) fn connect(&self, names: ConnectNames) {
        *self.connect.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    fn answer_of_connect(
        &self,
        asker: IpAddr,
        vpc: Option<&VpcId>,
        question: &[u8],
    ) -> Option<Vec<u8>> {
        let names = Arc::clone(&self.connect.lock().unwrap_or_else(PoisonError::into_inner));
        let searched = self.region.as_ref().map(|region| domains(region).0);
        names.answer(asker, vpc, searched.as_deref(), question)
    }

    pub(crate) fn current(&self) -> Arc<Zones> {
        Arc::clone(&self.zones.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, zones: Zones) {
        *self.zones.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(zones);
    }

    pub(crate) fn know_routers(&self, addresses: BTreeMap<Ipv4Addr, Option<VpcId>>) {
        *self.routers.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The VPC of a router, where it is known; none of who is no router.
    fn router(&self, asker: IpAddr) -> Option<Option<VpcId>> {
        let IpAddr::V4(address) = asker else { return None };
        self.routers.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }

    fn answer(&self, asker: IpAddr, question: &[u8], transport: Transport) -> Option<Answered> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let is_datagram = matches!(transport, Transport::Udp);
        let whole = Answered::Whole;
        let (told, vpc) = match self.router(asker) {
            Some(vpc) => {
                let vpc = vpc?;
                if let Some(answer) = self.answer_of_connect(asker, Some(&vpc), question) {
                    return Some(whole(answer));
                }
                (self.current().answer_in(&vpc, question, turn, is_datagram), Some(vpc))
            }
            None => {
                if let Some(answer) = self.answer_of_connect(asker, None, question) {
                    return Some(whole(answer));
                }
                (self.current().answer(asker, question, turn, is_datagram), None)
            }
        };
        let of_interface = |question: &[u8]| {
            let is_nameless = vpc.is_none() && self.is_nameless(asker);
            if is_nameless { None } else { self.answer_of_interface(vpc.clone(), question) }
        };
        match told {
            Some(Answered::Whole(answer)) => Some(whole(answer)),
            Some(Answered::Led(led)) => {
                let next = led.next();
                let known = self.answer_of_connect(asker, vpc.as_ref(), next);
                Some(match known.or_else(|| of_interface(next)) {
                    Some(rest) => whole(led.with(&rest)),
                    None => Answered::Led(led),
                })
            }
            None => of_interface(question).map(whole),
        }
    }
}

impl Resolvers {
    fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::new((None, Arc::new([]))), names: Arc::default() }
    }

    /// Looks at the file's time with each question: a `stat` costs a microsecond.
    fn current(&self) -> Arc<[SocketAddr]> {
        let changed = fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.is_none() || known.0 != changed {
            *known = (changed, read_resolvers(&self.path).into());
        }
        Arc::clone(&known.1)
    }
}

fn read_resolvers(path: &Path) -> Vec<SocketAddr> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let found: Vec<SocketAddr> = nameservers(&text).collect();
    if found.is_empty() { vec![(Ipv4Addr::LOCALHOST, PORT).into()] } else { found }
}

/// As the C library reads it: the first three `nameserver` lines; a port after `#` is for tests.
fn nameservers(text: &str) -> impl Iterator<Item = SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            if words.next() != Some("nameserver") {
                return None;
            }
            let word = words.next()?;
            let address = word.split('%').next()?.parse::<IpAddr>().map(|ip| (ip, PORT).into());
            address.or_else(|_| word.parse::<SocketAddr>()).ok()
        })
        .take(limits::DNS_RESOLVERS_MAX)
}

async fn serve_udp(socket: Arc<UdpSocket>, resolvers: Arc<Resolvers>) {
    let places = Arc::new(Semaphore::new(limits::DNS_QUESTIONS_MAX));
    let mut buffer = vec![0; limits::DNS_MESSAGE_MAX];
    loop {
        // An error here tells of an earlier answer that could not be delivered.
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else { continue };
        let question = buffer[..length].to_vec();
        if !is_question(&question) {
            continue;
        }
        let led = match resolvers.names.answer(asker.ip(), &question, Transport::Udp) {
            Some(Answered::Whole(answer)) => {
                drop(socket.try_send_to(&answer, asker));
                continue;
            }
            Some(Answered::Led(led)) => Some(led),
            None => None,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            drop(socket.try_send_to(&failure(&question), asker));
            continue;
        };
        let (socket, resolvers) = (Arc::clone(&socket), Arc::clone(&resolvers));
        #[expect(
            clippy::disallowed_methods,
            reason = "bounded by `place`, and by the timeout of an answer"
        )]
        tokio::spawn(async move {
            let answer = ask_for(&resolvers, led, &question, Transport::Udp).await;
            drop(socket.send_to(&answer, asker).await);
            drop(place);
        });
    }
}

async fn serve_tcp(listener: TcpListener, resolvers: Arc<Resolvers>) {
    let answer = move |asker: IpAddr, question: Vec<u8>| {
        let resolvers = Arc::clone(&resolvers);
        async move {
            match resolvers.names.answer(asker, &question, Transport::Tcp) {
                Some(Answered::Whole(answer)) => answer,
                Some(Answered::Led(led)) => {
                    ask_for(&resolvers, Some(led), &question, Transport::Tcp).await
                }
                None => ask_for(&resolvers, None, &question, Transport::Tcp).await,
            }
        }
    };
    serve_streams(&listener, answer).await;
}

/// Takes connections, so many at a time, for as long as it is polled, and gives each question the answer that is made of
/// it and of who asks.
pub(crate) async fn serve_streams<A, F>(listener: &TcpListener, answer: A)
where
    A: Fn(IpAddr, Vec<u8>) -> F + Clone + Send + 'static,
    F: Future<Output = Vec<u8>> + Send,
{
    let places = Arc::new(Semaphore::new(limits::DNS_CONNECTIONS_MAX));
    let mut streams = JoinSet::new();
    loop {
        while streams.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, asker) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(error = %Chain(&error), "dns connection not accepted");
                tokio::time::sleep(limits::DNS_PATIENCE).await;
                continue;
            }
        };
        let answer = answer.clone();
        streams.spawn(async move {
            // A connection that breaks is the asker's to open again.
            drop(answer_stream(stream, asker.ip(), answer).await);
            drop(place);
        });
    }
}

async fn answer_stream<A, F>(mut stream: TcpStream, asker: IpAddr, answer: A) -> io::Result<()>
where
    A: Fn(IpAddr, Vec<u8>) -> F,
    F: Future<Output = Vec<u8>>,
{
    loop {
        let question = timeout(limits::DNS_IDLE, read_framed(&mut stream)).await??;
        if !is_question(&question) {
            return Ok(());
        }
        let answer = answer(asker, question).await;
        timeout(limits::DNS_IDLE, write_framed(&mut stream, &answer)).await??;
    }
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    Udp,
    Tcp,
}

/// Asks for a question's name, or for the one that it leads to.
async fn ask_for(
    resolvers: &Resolvers,
    led: Option<Led>,
    question: &[u8],
    transport: Transport,
) -> Vec<u8> {
    match led {
        Some(led) => {
            let rest = ask_all(resolvers, led.next(), transport).await;
            led.with(&rest)
        }
        None => ask_all(resolvers, question, transport).await,
    }
}

/// Asks one resolver after another until one answers.
async fn ask_all(resolvers: &Resolvers, question: &[u8], transport: Transport) -> Vec<u8> {
    for resolver in resolvers.current().iter() {
        let asked = async {
            match transport {
                Transport::Udp => ask_udp(*resolver, question).await,
                Transport::Tcp => ask_tcp(*resolver, question).await,
            }
        };
        match timeout(limits::DNS_PATIENCE, asked).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => debug!(%resolver, error = %Chain(&error), "resolver failed"),
            Err(_) => debug!(%resolver, "resolver silent"),
        }
    }
    failure(question)
}

async fn ask_udp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut answer = vec![0; limits::DNS_MESSAGE_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        // Anything with another number is a stranger's guess.
        if length >= HEADER_LEN && answer[..2] == question[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    write_framed(&mut stream, question).await?;
    read_framed(&mut stream).await
}

pub(crate) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

pub(crate) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

pub(crate) fn is_question(message: &[u8]) -> bool {
    const ANSWER_BIT: u8 = 0x80;
    message.len() >= HEADER_LEN && message[2] & ANSWER_BIT == 0
}

/// SERVFAIL for `question`. The question is repeated, or the C library takes it for someone else's.
fn failure(question: &[u8]) -> Vec<u8> {
    unanswered(question, SERVFAIL)
}

pub(crate) fn unanswered(question: &[u8], code: u8) -> Vec<u8> {
    const ANSWER: u8 = 0x80;
    const KEPT: u8 = 0x79;
    const RECURSION_AVAILABLE: u8 = 0x80;
    let asked = question_len(question).unwrap_or(HEADER_LEN);
    let mut answer = question[..asked].to_vec();
    answer[2] = answer[2] & KEPT | ANSWER;
    answer[3] = RECURSION_AVAILABLE | code;
    let questions = if asked > HEADER_LEN { [0, 1] } else { [0, 0] };
    answer[4..6].copy_from_slice(&questions);
    answer[6..HEADER_LEN].fill(0);
    answer
}

/// How far the header and the one question reach.
fn question_len(message: &[u8]) -> Option<usize> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut at = HEADER_LEN;
    loop {
        let length = *message.get(at)?;
        at += 1 + usize::from(length);
        match length {
            0 => break,
            1..64 => {}
            _ => return None,
        }
    }
    let end = at + 4;
    (end <= message.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    #[test]
    fn names_of_interfaces_are_for_whoever_is_in_a_vpc_that_has_some() {
        let region: RegionName = "eu-north-1".parse().unwrap();
        let names = Names::of_region(Some(region));
        let default = InterfaceNames::of_default("172.31.0.0/16".parse().unwrap());
        names.know_interfaces([(None, default)].into());
        let [one, other] = [4, 5].map(|last| Ipv4Addr::new(172, 31, 0, last));
        names.know_nameless([one].into());
        let asked = crate::zones::tests::question("ip-172-31-0-9.eu-north-1.compute.internal", 1);
        let answer = |asker: Ipv4Addr| names.answer(asker.into(), &asked, Transport::Udp);
        assert!(answer(one).is_none(), "it is passed on");
        assert!(answer(other).is_some());
    }

    #[test]
    fn a_failure_repeats_the_question_and_nothing_else() {
        let asked = question("example.com");
        let mut with_option = asked.clone();
        with_option.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        let answer = failure(&with_option);
        assert_eq!(&answer[..4], &[0x12, 0x34, 0x81, 0x82]);
        assert_eq!(&answer[4..12], &[0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&answer[12..], &asked[12..]);
    }

    #[test]
    fn the_first_three_resolvers_are_asked() {
        let text = "search x\nnameserver 10.0.0.1\n nameserver  fe80::1%eth0 \nnameserver no\n\
                    #nameserver 9.9.9.9\nnameserver 127.0.0.1:5353\nnameserver 10.0.0.4\n";
        let found: Vec<_> = nameservers(text).collect();
        let wanted: Vec<SocketAddr> = ["10.0.0.1:53", "[fe80::1]:53", "127.0.0.1:5353"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn who_asks_by_a_router_has_the_names_of_its_vpc_and_not_those_of_the_hosts_account() {
        let account: longshore_types::AccountId = "111111111111".parse().unwrap();
        let vpc: VpcId = "vpc-0000000a".parse().unwrap();
        let entry = |vpc: Option<&VpcId>, zone: &str| traffic::NameEntry {
            account,
            vpc: vpc.cloned(),
            zone: zone.to_owned(),
            negative_ttl_s: 7,
            service: None,
        };
        let names = Names::default();
        names.replace(Zones::new(traffic::HostNames {
            own_account: Some(account),
            accounts: vec![account],
            vpcs: vec![vpc.clone()],
            entries: vec![entry(None, "prod.local"), entry(Some(&vpc), "own.local")],
            askers: vec![],
        }));
        let router = |last| Ipv4Addr::new(172, 30, 0, last);
        names.know_routers([(router(2), Some(vpc)), (router(4), None)].into());
        let answered = |last, name: &str| {
            let mut asked = question(name);
            asked[11] = 0;
            names.answer(IpAddr::V4(router(last)), &asked, Transport::Udp).is_some()
        };
        assert!(!answered(2, "web.prod.local") && answered(3, "web.prod.local"));
        assert!(answered(2, "web.own.local") && !answered(3, "web.own.local"));
        assert!(!answered(4, "web.prod.local") && !answered(4, "web.own.local"));
        names.know_routers(BTreeMap::new());
        assert!(answered(2, "web.prod.local"), "the address may be a bridged container's again");
    }

    proptest! {
        #[test]
        fn no_message_upsets_the_relay(message in prop::collection::vec(any::<u8>(), 0..64)) {
            if is_question(&message) {
                let answer = failure(&message);
                prop_assert!(answer.len() >= HEADER_LEN && answer[..2] == message[..2]);
            }
        }
    }

    #[tokio::test]
    async fn what_a_name_leads_to_is_asked_of_a_resolver_and_both_are_answered() {
        use crate::zones::tests::{account, leading, question};
        let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, format!("nameserver {}\n", resolver.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, asker) = resolver.recv_from(&mut buffer).await.unwrap();
            let mut answer = buffer[..length].to_vec();
            (answer[2], answer[7]) = (answer[2] | 0x80, 1);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
            resolver.send_to(&answer, asker).await.unwrap();
            buffer[..length].to_vec()
        });
        let resolvers = Resolvers::new(path);
        resolvers.names.replace(Zones::new(traffic::HostNames {
            own_account: Some(account('1')),
            accounts: vec![account('1')],
            entries: vec![leading("away", &["www.example.com"])],
            ..traffic::HostNames::default()
        }));
        let asked = question("away.prod.local", 1);
        let asker = Ipv4Addr::LOCALHOST.into();
        let Some(Answered::Led(led)) = resolvers.names.answer(asker, &asked, Transport::Udp) else {
            panic!("somebody else knows it");
        };
        let answer = ask_for(&resolvers, Some(led), &asked, Transport::Udp).await;
        assert_eq!(server.await.unwrap(), question("www.example.com", 1));
        assert_eq!((answer[3] & 0xf, answer[7]), (0, 2));
        assert_eq!(answer[12..asked.len()], asked[12..]);
        assert!(answer.ends_with(&[192, 0, 2, 7]));
    }

    #[tokio::test]
    async fn a_silent_resolver_is_passed_over_and_silence_of_all_is_servfail() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let good = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (silent_at, good_at) = (silent.local_addr().unwrap(), good.local_addr().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, format!("nameserver {silent_at}\nnameserver {good_at}\n")).unwrap();
        let server = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, asker) = good.recv_from(&mut buffer).await.unwrap();
            buffer[2] |= 0x80;
            good.send_to(&buffer[..length], asker).await.unwrap();
        });
        let resolvers = Resolvers::new(path.clone());
        let answer = ask_all(&resolvers, &question("a.b"), Transport::Udp).await;
        assert_eq!(answer[3] & 0xf, 0, "the second resolver answered");
        server.await.unwrap();

        fs::write(&path, format!("nameserver {silent_at}\n")).unwrap();
        let later = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        let answer = ask_all(&resolvers, &question("a.b"), Transport::Udp).await;
        assert_eq!(answer[3] & 0xf, SERVFAIL);
    }
}
