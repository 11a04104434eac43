//! Published ports.

use std::net::{Ipv4Addr, TcpListener};

use network::{PortMapping, Protocol};

use crate::world::{
    HOST_OUTSIDE, OUTSIDE, at, eni, id, inside, knock, knock_udp, on_a_host, run, serve_at,
};

fn mapping(container_port: u16, host_port: u16, protocol: Protocol) -> PortMapping {
    PortMapping { container_port, host_port, protocol, follows: false }
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    on_a_host(|world| {
        let network = world.open();
        let server = world.runtime.block_on(network.attach_bridge(&id("server"))).unwrap();
        let client = world.runtime.block_on(network.attach_bridge(&id("client"))).unwrap();
        let task = world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[]))).unwrap();
        serve_at(&server, 80);
        let requests = [mapping(80, 8080, Protocol::Tcp), mapping(80, 8080, Protocol::Udp)];
        let bindings = world.runtime.block_on(network.publish(&id("server"), &requests)).unwrap();
        assert_eq!(bindings.iter().map(|it| it.host_port).collect::<Vec<_>>(), [8080, 8080]);

        for knock in [knock, knock_udp] {
            assert_eq!(inside(&world.outside, || knock(HOST_OUTSIDE, 8080)), Some(OUTSIDE));
            let host = network.host_address();
            for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 5), HOST_OUTSIDE, host] {
                assert!(knock(address, 8080).is_some(), "from the host by {address}");
            }
            assert!(at(&client, || knock(HOST_OUTSIDE, 8080)).is_some(), "another container");
            assert!(at(&client, || knock(host, 8080)).is_some());
            assert!(at(&server, || knock(HOST_OUTSIDE, 8080)).is_some(), "the container itself");
            assert!(at(&task, || knock(HOST_OUTSIDE, 8080)).is_some(), "a task of its own address");
            assert_eq!(at(&client, || knock(server.address, 80)), Some(client.address));
            assert_eq!(inside(&world.outside, || knock(server.address, 80)), None);
            assert_eq!(inside(&world.outside, || knock(HOST_OUTSIDE, 80)), None);
        }
        world.runtime.block_on(network.detach(&id("server"))).unwrap();
        assert_eq!(inside(&world.outside, || knock(HOST_OUTSIDE, 8080)), None);
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).expect("the port is free again");
        let map = run("nft list map inet longshore_0a0b0c0d published");
        assert!(!map.contains("elements"), "{map}");
    });
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_published() {
    on_a_host(|world| {
        let network = world.open();
        let publish = |name: &str, requests: &[PortMapping]| {
            world.runtime.block_on(network.attach_bridge(&id(name))).unwrap();
            world.runtime.block_on(network.publish(&id(name), requests))
        };
        let _other = TcpListener::bind((Ipv4Addr::LOCALHOST, 9000)).unwrap();
        let requests = [mapping(80, 9001, Protocol::Tcp), mapping(81, 9000, Protocol::Tcp)];
        let error = publish("first", &requests).unwrap_err();
        assert_eq!(error.to_string(), "host port 9000/tcp is already in use");
        publish("second", &requests[..1]).expect("what a refused request had reserved is free");
        let error = publish("third", &requests[..1]).unwrap_err();
        assert_eq!(error.to_string(), "host port 9001/tcp is already in use");
        let dynamic = [mapping(80, 0, Protocol::Tcp), mapping(80, 0, Protocol::Tcp)];
        let bindings = publish("third", &dynamic).unwrap();
        assert_ne!(bindings[0].host_port, bindings[1].host_port);
        assert!(bindings.iter().all(|binding| (32_768..=60_999).contains(&binding.host_port)));
        let error = publish("fourth", &vec![dynamic[0]; 101]).unwrap_err();
        assert_eq!(error.to_string(), "a container publishes at most 100 ports");
        let task = world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[]))).unwrap();
        assert_eq!(task.address, Ipv4Addr::new(172, 31, 0, 10));
        assert!(world.runtime.block_on(network.publish(&id("task"), &dynamic)).is_err());
    });
}
