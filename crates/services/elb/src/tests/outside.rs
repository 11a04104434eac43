//! Balancers at machines' own addresses, and what their names mean outside.

use std::net::SocketAddr;

use longshore_types::Clock as _;
use routing::ListenerId;

use super::*;
use crate::outside::NameOutside;
use crate::tests::hosts::host;

const ASKER: [u8; 4] = [198, 51, 100, 7];

/// An internet-facing balancer with an interface on each of two hosts, listeners at 80 and 81, and its name.
async fn on_two_hosts() -> (World, [ListenerId; 2], String) {
    let world = World::new().await;
    world.join(1, "us-east-1a").await;
    world.join(2, "us-east-1b").await;
    let balancer = world.balancer("web").await;
    let (arn, group) = (balancer.load_balancer_arn.unwrap(), world.group("web").await);
    let mut listeners = Vec::new();
    for port in [80, 81] {
        listeners.push(world.listener(&arn, port, &group).await.listener_arn.unwrap());
    }
    world.place().await;
    let listeners = <[String; 2]>::try_from(listeners).unwrap().map(ListenerId);
    (world, listeners, balancer.dns_name.unwrap().to_ascii_lowercase())
}

impl World {
    /// What the process on a host says of where listeners are.
    async fn open_on(&self, host: Host, local: &[(&ListenerId, &str)]) {
        let table = self.table_of(host);
        let interfaces = table.balancers.values().flat_map(|it| &it.interfaces);
        let report = Report {
            version: table.version,
            local: local.iter().map(|(id, at)| ((*id).clone(), at.parse().unwrap())).collect(),
            serving: interfaces.map(routing::Interface::reference).collect(),
            ..Report::default()
        };
        self.elb.take_in(host, report).await.unwrap();
    }

    fn named(&self, name: &str, asker: [u8; 4]) -> Vec<String> {
        match self.elb.name_outside(name, asker.into()) {
            NameOutside::Known(entry) => {
                let instances = entry.service.unwrap().instances.into_iter();
                instances.filter_map(|it| it.ipv4).map(|it| it.to_string()).collect()
            }
            NameOutside::NotYet => vec!["not yet".to_owned()],
            NameOutside::Nobodys => vec!["nobody's".to_owned()],
        }
    }
}

#[tokio::test]
async fn a_name_means_the_hosts_that_serve_at_the_listeners_own_ports() {
    let (world, [first, second], name) = on_two_hosts().await;
    assert_eq!(world.named(&name, ASKER), ["not yet"]);
    assert_eq!(world.named("nobody.elb.amazonaws.com", ASKER), ["nobody's"]);
    world.open_on(host(1), &[(&first, "192.0.2.1:80"), (&second, "192.0.2.1:81")]).await;
    world.open_on(host(2), &[(&first, "192.0.2.2:80"), (&second, "192.0.2.2:40000")]).await;
    assert_eq!(world.named(&name, ASKER), ["192.0.2.1"], "at 81 of the other is somebody else");
    assert_eq!(world.named(&name.to_ascii_uppercase(), ASKER), ["192.0.2.1"]);
    for all in [["0.0.0.0:80", "0.0.0.0:81"], ["[::]:80", "[::]:81"]] {
        world.open_on(host(2), &[(&first, all[0]), (&second, all[1])]).await;
        assert_eq!(world.named(&name, ASKER), ["10.0.0.1", "192.0.2.1"], "all of its addresses");
    }
    world.open_on(host(2), &[(&first, "127.0.0.1:80"), (&second, "127.0.0.1:81")]).await;
    assert_eq!(world.named(&name, ASKER), ["192.0.2.1"]);
    assert_eq!(world.named(&name, [127, 0, 0, 1]), ["127.0.0.1", "192.0.2.1"]);
    // A process that says nothing for long is not named either.
    world.test.env.advance_ms(31_000);
    world.open_on(host(2), &[(&first, "192.0.2.2:80")]).await;
    assert_eq!(world.named(&name, ASKER), ["192.0.2.2"]);
    world.test.env.advance_ms(31_000);
    assert_eq!(world.named(&name, ASKER), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_listened_at_is_shown_of_those_that_have_an_interface() {
    let (world, [first, second], _) = on_two_hosts().await;
    let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
    world.open_on(host(1), &[(&second, "192.0.2.1:40000"), (&first, "192.0.2.1:80")]).await;
    // A host that has none, and a listener that is not there.
    world.join(3, "us-east-1c").await;
    let strange = ListenerId(first.0.replace("web", "other"));
    world.open_on(host(3), &[(&first, "192.0.2.3:80")]).await;
    world.open_on(host(2), &[(&strange, "192.0.2.2:80")]).await;
    let shown = world.elb.listening();
    let shown: Vec<_> =
        shown.iter().map(|it| (it.host, it.protocol, it.port, it.address)).collect();
    let expected = [("192.0.2.1:80", 80), ("192.0.2.1:40000", 81)];
    assert_eq!(shown, expected.map(|(text, port)| (host(1), "HTTP", port, at(text))));
    assert!(world.elb.control.clock.now() == world.test.env.now());
}
