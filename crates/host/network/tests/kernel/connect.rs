//! Service Connect in a task's network: names to each task, and the way to its host's proxy.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use network::News;
use network::connect::{lead_egress, task_namespace};
use nix::sys::socket::{getsockopt, sockopt::OriginalDst};
use traffic::connect::{ConnectClient, ConnectEndpoint, ConnectProtocol, HostConnect};

use crate::world::{World, at, eni, id, on_a_host};

const RESOLVER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
const TASKS: [&str; 2] = ["00000000000000000000000000000001", "00000000000000000000000000000002"];

fn endpoint(namespace: &str, last: u8) -> ConnectEndpoint {
    ConnectEndpoint {
        id: format!("srv-{namespace}"),
        namespace: namespace.to_owned(),
        name: "backend".to_owned(),
        address: Ipv4Addr::new(127, 255, 0, last),
        port: 80,
        protocol: ConnectProtocol::Tcp,
        idle_s: 60,
        request_s: 0,
        split: None,
        identity: None,
        instances: vec![],
    }
}

fn client(number: u8, namespace: &str) -> ConnectClient {
    ConnectClient {
        task: TASKS[usize::from(number - 1)].parse().unwrap(),
        account: "000000000000".parse().unwrap(),
        namespace: namespace.to_owned(),
        service: None,
        address: Ipv4Addr::new(172, 31, 0, 10 + number),
        vpc: None,
    }
}

/// What `backend` means to whoever asks; none if nobody here knows.
fn ask() -> Option<Ipv4Addr> {
    let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7];
    message.extend(b"backend\0\0\x01\0\x01");
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&message, (RESOLVER, 53)).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap();
    let last: [u8; 4] = answer[length - 4..length].try_into().unwrap();
    (answer[7] == 1).then(|| last.into())
}

fn learn(world: &World, network: &network::Network, connect: HostConnect, version: u64) {
    let news = News { connect, version, is_whole: version == 1, ..News::default() };
    world.runtime.block_on(network.learn(news)).unwrap();
}

#[test]
fn a_name_means_to_each_task_what_it_means_in_its_namespace_and_its_address_leads_to_the_proxy() {
    on_a_host(|world| {
        let network = world.open();
        let attach = |number: u8| {
            let task = id(TASKS[usize::from(number - 1)]);
            world.runtime.block_on(network.attach_eni(&task, eni(10 + number, &[]))).unwrap()
        };
        // Before they are in a namespace nobody waits for a proxy.
        let (one, two) = (attach(1), attach(2));
        assert_eq!(at(&one, ask), None);
        let told = HostConnect {
            clients: vec![client(1, "ns-1"), client(2, "ns-2")],
            endpoints: vec![endpoint("ns-1", 1), endpoint("ns-2", 2)],
            ..HostConnect::default()
        };
        learn(world, &network, told, 1);
        assert_eq!(at(&one, ask), Some(Ipv4Addr::new(127, 255, 0, 1)));
        assert_eq!(at(&two, ask), Some(Ipv4Addr::new(127, 255, 0, 2)));
        let gone_clients = vec![client(2, "ns-2").task];
        learn(world, &network, HostConnect { gone_clients, ..HostConnect::default() }, 2);
        assert_eq!(at(&two, ask), None);
        drop(network);
        let _network = world.open();
        assert_eq!(at(&one, ask), Some(Ipv4Addr::new(127, 255, 0, 1)), "the next process knows it");

        let run_dir = world.dir.path().join("0a0b0c0d");
        assert_eq!(task_namespace(&run_dir, client(1, "ns-1").task, None), one.netns);
        at(&one, || {
            // An app of the task's own listens at the endpoint's port everywhere.
            let own = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
            let proxy = TcpListener::bind(lead_egress().unwrap()).unwrap();
            lead_egress().unwrap();
            let taken = thread::spawn(move || {
                let (mut stream, _) = proxy.accept().unwrap();
                let meant = getsockopt(&stream.as_fd(), OriginalDst).unwrap();
                stream.write_all(b"proxy").unwrap();
                (
                    Ipv4Addr::from_bits(u32::from_be(meant.sin_addr.s_addr)),
                    u16::from_be(meant.sin_port),
                )
            });
            let to = SocketAddr::from((Ipv4Addr::new(127, 255, 0, 1), 80));
            let mut text = String::new();
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, "proxy");
            assert_eq!(taken.join().unwrap(), (Ipv4Addr::new(127, 255, 0, 1), 80));
            let near = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
            let reached = TcpStream::connect_timeout(&near, Duration::from_secs(5)).unwrap();
            drop((own.accept().unwrap(), reached));
        });
    });
}
