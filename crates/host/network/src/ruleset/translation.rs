//! What leads packets elsewhere: services of the host, published ports, and the way out.

use std::net::Ipv4Addr;

use longshore_types::Cidr;
use traffic::feed::PUBLIC_POOL;

use super::{DNS_PORT, LINK_LOCAL, NAMESERVERS, PUBLISHED, Plan, Table};
use crate::endpoint::{Binding, Endpoint};
use crate::nft::expr::Rule;
use crate::nft::{Batch, Element, Hook, HookNumber, Value};
use crate::publish::Protocol;

impl Table {
    /// Services of the host, published ports, and the way out.
    pub(super) fn add_translation(&self, batch: &mut Batch) {
        let Plan { bridge, host, dns_port, .. } = self.plan;
        let links = self.links();
        let ours = || Rule::new().ipv4(true).incoming(&links, true);
        batch.add_base_chain("redirect", nat(HookNumber::Prerouting, -100));
        let dns = |protocol| {
            let asked = ours().destination_in_set(NAMESERVERS).protocol(protocol);
            asked.ports(&(DNS_PORT..=DNS_PORT)).dnat(host, dns_port)
        };
        let mut rules = vec![dns(Protocol::Tcp.number()), dns(Protocol::Udp.number())];
        for service in &self.plan.services {
            let at = Cidr::host(service.address);
            let asked = ours().destination_in(at, true).protocol(Protocol::Tcp.number());
            rules.push(asked.ports(&(service.port..=service.port)).dnat(host, service.listens_on));
        }
        let published = Rule::new().ipv4(true).for_host().dnat_by_port(PUBLISHED);
        rules.push(published.clone());
        rules.iter().for_each(|rule| batch.add_rule("redirect", rule.exprs()));

        batch.add_base_chain("redirect_own", nat(HookNumber::Output, -100));
        // Some clouds' resolvers are where their metadata is; ours knows the same names.
        for (tasks, protocol) in self.walled_tasks().into_iter().flat_map(|tasks| {
            [Protocol::Udp, Protocol::Tcp].map(|protocol| (tasks, protocol.number()))
        }) {
            let asked = Rule::new().ipv4(true).destination_in(LINK_LOCAL, true).protocol(protocol);
            let asked = asked.ports(&(DNS_PORT..=DNS_PORT)).sent_by(tasks);
            batch.add_rule("redirect_own", asked.dnat(host, dns_port).exprs());
        }
        // Tasks in the host's own network. Where they cannot be told from others, everybody there.
        for service in &self.plan.services {
            let at = Cidr::host(service.address);
            let asked = Rule::new().ipv4(true).destination_in(at, true);
            let asked =
                asked.protocol(Protocol::Tcp.number()).ports(&(service.port..=service.port));
            let asked = match self.plan.tasks {
                Some(tasks) => asked.sent_by(tasks),
                None => asked,
            };
            batch.add_rule("redirect_own", asked.dnat(host, service.listens_on).exprs());
        }
        batch.add_rule("redirect_own", published.exprs());

        batch.add_base_chain("leave", nat(HookNumber::Postrouting, 100));
        self.plane_leaves().iter().for_each(|rule| batch.add_rule("leave", rule.exprs()));
        let out = |from: Cidr| {
            let leaves = Rule::new().ipv4(true).outgoing(&links, false);
            leaves.source_in(from, true).destination_in(from, false).masquerade()
        };
        let loopback = Cidr::new(Ipv4Addr::LOCALHOST, 8).expect("8 bits are a prefix");
        let inward = || Rule::new().ipv4(true).outgoing(&links, true);
        let everything = self.plan.ranges.iter().map(|range| out(*range));
        let public = Rule::new().ipv4(true).outgoing(&links, false).source_in(PUBLIC_POOL, true);
        let rules = everything.chain([
            public.masquerade(),
            out(bridge),
            // The answer must come back here to be translated: to a loopback address it would not,
            // nor from a container that called itself by the host's port.
            inward().source_in(loopback, true).snat(host),
            inward().source_in(bridge, true).was_redirected().snat(host),
        ]);
        rules.for_each(|rule| batch.add_rule("leave", rule.exprs()));
    }
}

fn nat(number: HookNumber, priority: i32) -> Hook {
    Hook { kind: "nat", number, priority }
}

pub(super) fn published_element(endpoint: &Endpoint, binding: &Binding) -> Element {
    let [high, low] = binding.host_port.to_be_bytes();
    let key = vec![binding.protocol.number(), 0, 0, 0, high, low, 0, 0];
    let mut value = endpoint.address.octets().to_vec();
    value.extend(binding.container_port.to_be_bytes());
    value.extend([0, 0]);
    Element { key, value: Some(Value::Data(value)) }
}
