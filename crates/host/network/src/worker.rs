//! The one thread that changes the kernel's state.
//!
//! It takes what is asked in the order of asking, does to links and namespaces what each needs, and gives
//! the table all changes of one turn in one transaction, so that a burst of starts shares its cost.
//!
//! **Invariant:** `endpoints` is what the table says. A transaction that fails is answered by replacing
//! the table from `endpoints`; if that fails too, what the turn had added is taken away again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use nix::errno::Errno;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use longshore_types::{Chain, Cidr, SecurityGroupId, Steps, VpcId};
use traffic::feed::{Feed, Vni};

use crate::dns;
use crate::endpoint::{Attached, Binding, Counters, Endpoint, EniSpec, Role};
use crate::error::NetworkError;
use crate::flows::{CountedFlows, FlowCounts};
use crate::forgetter::Forgetter;
use crate::learn::News;
use crate::limits;
use crate::names::EndpointId;
use crate::netlink::conntrack::Forgotten;
use crate::netlink::{NetlinkError, Requests, Socket};
use crate::netns::{self, HOST_MAC, HostLink, Pool, Prepared, Reaper};
use crate::nft::Batch;
use crate::nft::renew::remains;
use crate::overlay::Overlay;
use crate::peerings::PeerLinks;
use crate::publish::{self, HostPorts, PortMapping, Protocol};
use crate::records::Records;
use crate::router::{Router, Routers};
use crate::ruleset::{AMAZON_DNS, KnownGroups, Table, world_of};
use crate::setup;
use crate::tunnels::{Encryption, Tunnels};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, NetworkError>>;

/// What can be asked of the worker.
#[derive(Debug)]
pub(crate) enum Command {
    AttachEni {
        id: EndpointId,
        spec: EniSpec,
        reply: Reply<Attached>,
    },
    AttachBridge {
        id: EndpointId,
        reply: Reply<Attached>,
    },
    Publish {
        id: EndpointId,
        requests: Vec<PortMapping>,
        reply: Reply<Vec<Binding>>,
    },
    Detach {
        id: EndpointId,
        reply: Reply<()>,
    },
    Reconcile {
        keep: BTreeSet<EndpointId>,
        reply: Reply<()>,
    },
    Learn {
        news: Box<News>,
        reply: Reply<()>,
    },
    Counters {
        id: EndpointId,
        reply: Reply<Counters>,
    },
    /// Which address of a router's VPC is behind a connection that is seen to come from the router, `from`, to a
    /// service of the host's, `to`.
    Behind {
        from: SocketAddrV4,
        to: SocketAddrV4,
        reply: Reply<Option<Ipv4Addr>>,
    },
    /// Of each router as it answers, and of the host's own network.
    Flows {
        reply: Reply<Vec<oneshot::Receiver<Result<CountedFlows, NetworkError>>>>,
    },
    /// Of a router.
    OwnFlows {
        reply: Reply<CountedFlows>,
    },
    Uninstall {
        reply: Reply<()>,
    },
}

/// An answer that waits for the turn's transaction.
#[derive(Debug)]
enum Pending {
    Attached { attached: Attached, is_new: bool, id: EndpointId, reply: Reply<Attached> },
    Published { id: EndpointId, bindings: Vec<Binding>, reply: Reply<Vec<Binding>> },
    Detached { outcome: Result<(), NetworkError>, reply: Reply<()> },
    Learned { reply: Reply<()> },
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) route: Socket,
    pub(crate) netfilter: Socket,
    pub(crate) records: Records,
    pub(crate) pool: Pool,
    pub(crate) reaper: Reaper,
    pub(crate) forgetter: Forgetter,
    pub(crate) table: Table,
    pub(crate) ports: HostPorts,
    pub(crate) groups: KnownGroups,
    /// The kernel did not take what is written down here: whoever says it again must not hear that it is in force.
    pub(crate) is_behind: bool,
    /// All was told once by this process's time, and whatever was told since is in `feed`: what is not told of there is not
    /// so.
    pub(crate) is_current: bool,
    /// What the region told of VPCs.
    pub(crate) feed: Feed,
    pub(crate) flows: FlowCounts,
    pub(crate) overlay: Overlay,
    /// Of a router: the ways to peers of its VPC, by the number of what comes by them, and whether none of an earlier
    /// process is left.
    pub(crate) peer_links: BTreeMap<Vni, PeerLinks>,
    pub(crate) knows_peer_links: bool,
    /// The interfaces that they lead to, with their groups.
    pub(crate) peered: BTreeMap<Ipv4Addr, Vec<SecurityGroupId>>,
    /// An interface of a balancer could not be made.
    pub(crate) lacks_balancers: bool,
    /// The hosts that packets are taken from.
    pub(crate) peers: BTreeSet<Ipv4Addr>,
    /// What goes to other hosts encrypted, or why it does not. A router's goes by way of the host's.
    pub(crate) tunnels: Result<Tunnels, &'static str>,
    /// Those of VPCs with a namespace of their own.
    pub(crate) routers: BTreeMap<VpcId, Router>,
    /// What they are made with.
    pub(crate) common: Routers,
    /// Who answers names, and is to know which addresses are routers'.
    pub(crate) names: Arc<dns::Names>,
    /// Of a router: its address on the host, which what its endpoints ask of the host's services comes from.
    pub(crate) uplink: Option<Ipv4Addr>,
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
    /// Where the search for a free bridge address goes on.
    pub(crate) next_bridge: u32,
    pub(crate) steps: Steps,
}

/// The changes of one turn, until its transaction.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) batch: Batch,
    pending: Vec<Pending>,
    pub(crate) must_replace: bool,
    /// UDP ports that are led elsewhere from now on.
    led_ports: BTreeSet<u16>,
}

impl Turn {
    pub(crate) fn new(batch: Batch) -> Self {
        let (pending, led_ports) = (Vec::new(), BTreeSet::new());
        Self { batch, pending, must_replace: false, led_ports }
    }
}

impl Worker {
    /// Works until nobody can ask any more, or the network is taken down.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut turn = Turn::new(self.table.batch());
            turn.must_replace = self.is_behind;
            let lacks_balancers = self.lacks_balancers;
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(command) = next {
                if let Command::Uninstall { reply } = command {
                    self.finish(turn);
                    drop(reply.send(self.uninstall()));
                    return;
                }
                self.begin(&mut turn, command);
                taken += 1;
                next =
                    if taken < limits::TURN_COMMANDS_MAX { commands.try_recv().ok() } else { None };
            }
            if lacks_balancers && self.lacks_balancers {
                self.follow_balancers(&mut turn);
            }
            self.finish(turn);
        }
    }

    fn own_flows(&mut self) -> Result<CountedFlows, NetworkError> {
        let read = self.follow_logged().and_then(|()| self.read_flows());
        read.map_err(NetworkError::from)
    }

    pub(crate) fn encryption(&self) -> Option<Encryption> {
        self.overlay.is_wanted().then(|| match &self.tunnels {
            Ok(tunnels) => Encryption::Able { generation: tunnels.generation() },
            Err(why) => Encryption::Unable { why },
        })
    }

    fn begin(&mut self, turn: &mut Turn, command: Command) {
        match command {
            Command::AttachEni { id, spec, reply } => {
                if let Some(vpc) = self.router_of(&spec) {
                    return self.attach_behind(&vpc, id, spec, reply);
                }
                let outcome = self.attach_eni(turn, &id, &spec);
                await_turn(turn, outcome, reply, |(attached, is_new), reply| Pending::Attached {
                    attached,
                    is_new,
                    id,
                    reply,
                });
            }
            Command::AttachBridge { id, reply } => {
                let outcome = self.attach_bridge(turn, &id);
                await_turn(turn, outcome, reply, |(attached, is_new), reply| Pending::Attached {
                    attached,
                    is_new,
                    id,
                    reply,
                });
            }
            Command::Publish { id, requests, reply } => {
                let outcome = self.publish(turn, &id, &requests);
                await_turn(turn, outcome, reply, |bindings, reply| Pending::Published {
                    id,
                    bindings,
                    reply,
                });
            }
            Command::Detach { id, reply } => {
                if let Some(router) = self.router_with(&id) {
                    router.placed.remove(&id);
                    return router.pass(Command::Detach { id, reply });
                }
                let outcome = self.remove(turn, |endpoint| endpoint.id == id);
                turn.pending.push(Pending::Detached { outcome, reply });
            }
            Command::Reconcile { keep, reply } => {
                let before = self.endpoints.len();
                let of_routers = self.reconcile_routers(&keep);
                let goes = |it: &Endpoint| {
                    !(keep.contains(&it.id) || it.is_router() || it.id.is_balancers())
                };
                let outcome = self.remove(turn, goes).and(of_routers);
                let kept = self.endpoints.len();
                info!(kept, removed = before - kept, "network reconciled");
                turn.pending.push(Pending::Detached { outcome, reply });
            }
            Command::Learn { news, reply } => {
                let outcome = self.learn(turn, *news);
                await_turn(turn, outcome, reply, |(), reply| Pending::Learned { reply });
            }
            Command::Counters { id, reply } => match self.router_with(&id) {
                Some(router) => router.pass(Command::Counters { id, reply }),
                None => drop(reply.send(self.counters(&id))),
            },
            Command::Behind { from, to, reply } => self.behind(from, to, reply),
            Command::Flows { reply } => {
                let parts = self.routers.values().map(|router| {
                    let (reply, part) = oneshot::channel();
                    router.pass(Command::OwnFlows { reply });
                    part
                });
                let mut parts: Vec<_> = parts.collect();
                let (own, part) = oneshot::channel();
                drop(own.send(self.own_flows()));
                parts.push(part);
                drop(reply.send(Ok(parts)));
            }
            Command::OwnFlows { reply } => drop(reply.send(self.own_flows())),
            Command::Uninstall { .. } => unreachable!("taken care of by the loop"),
        }
    }

    fn finish(&mut self, turn: Turn) {
        let Turn { batch, pending, must_replace, led_ports } = turn;
        let outcome = if must_replace {
            self.replace_table()
        } else {
            batch.apply(&mut self.netfilter).or_else(|error| {
                warn!(error = %Chain(&error), "table replaced because a change was refused");
                self.replace_table()
            })
        };
        self.steps.reached("table changed");
        let refusal = outcome.err();
        self.is_behind = refusal.is_some();
        let forgotten = Forgotten { addresses: BTreeSet::new(), udp_ports: led_ports };
        if let Err(error) = self.netfilter.forget_connections(&forgotten) {
            warn!(error = %Chain(&error), "old connections stay in the kernel's table");
        }
        for answer in pending {
            self.answer(answer, refusal.as_ref());
        }
    }

    fn answer(&mut self, pending: Pending, refusal: Option<&NetlinkError>) {
        let refused = refusal.map(|error| {
            let doing = error.doing.clone();
            NetworkError::Netlink(NetlinkError::new(doing, again(&error.source)))
        });
        match (pending, refused) {
            (Pending::Attached { attached, reply, .. }, None) => drop(reply.send(Ok(attached))),
            (Pending::Attached { id, is_new, reply, .. }, Some(error)) => {
                if let Some(endpoint) = is_new.then(|| self.endpoints.remove(&id)).flatten() {
                    report(&endpoint.id, self.take_down(&endpoint));
                }
                drop(reply.send(Err(error)));
            }
            (Pending::Published { bindings, reply, .. }, None) => drop(reply.send(Ok(bindings))),
            (Pending::Published { id, bindings, reply }, Some(error)) => {
                self.unpublish(&id, &bindings);
                drop(reply.send(Err(error)));
            }
            (Pending::Detached { outcome, reply }, refused) => {
                drop(reply.send(outcome.and(refused.map_or(Ok(()), Err))));
            }
            (Pending::Learned { reply }, refused) => {
                drop(reply.send(refused.map_or(Ok(()), Err)));
            }
        }
    }

    /// Under the packets that pass, unless what is there cannot be kept, as where an earlier release laid it out otherwise.
    pub(crate) fn replace_table(&mut self) -> Result<(), NetlinkError> {
        let world = world_of!(self);
        let there = remains(&mut self.netfilter, &self.table.plan().tag.table());
        let renewed = there
            .and_then(|there| self.table.replace(world, Some(there)).apply(&mut self.netfilter));
        let Err(error) = renewed else { return Ok(()) };
        self.table.replace(world, None).apply(&mut self.netfilter)?;
        warn!(error = %Chain(&error), "table deleted and made anew: packets may have been dropped");
        Ok(())
    }

    fn attach_eni(
        &mut self,
        turn: &mut Turn,
        id: &EndpointId,
        spec: &EniSpec,
    ) -> Result<(Attached, bool), NetworkError> {
        let plan = self.table.plan();
        let vpc = plan.ranges.first().copied().unwrap_or(plan.bridge);
        if !plan.contains(spec.address) {
            return Err(NetworkError::OutsideRange { address: spec.address, range: vpc });
        }
        let subnet = Cidr::new(spec.address, spec.prefix).unwrap_or(vpc);
        if !subnet.contains(spec.gateway) || spec.gateway == spec.address {
            return Err(NetworkError::OutsideRange { address: spec.gateway, range: subnet });
        }
        if let Some(known) = self.endpoints.get(id) {
            let link = known.host_link().ok_or_else(|| gone(known))?;
            let wanted = Endpoint::of_eni(id.clone(), spec, link);
            return self.attached_already(known, &wanted).map(|attached| (attached, false));
        }
        self.attach(turn, id, |prepared| Endpoint::of_eni(id.clone(), spec, prepared.link.clone()))
    }

    /// As [`Self::attach_eni`], where nobody waits for it.
    pub(crate) fn attach_unasked(
        &mut self,
        turn: &mut Turn,
        id: &EndpointId,
        spec: &EniSpec,
    ) -> Result<(), NetworkError> {
        let (attached, is_new) = self.attach_eni(turn, id, spec)?;
        let (reply, _) = oneshot::channel();
        turn.pending.push(Pending::Attached { attached, is_new, id: id.clone(), reply });
        Ok(())
    }

    fn attach_bridge(
        &mut self,
        turn: &mut Turn,
        id: &EndpointId,
    ) -> Result<(Attached, bool), NetworkError> {
        if let Some(known) = self.endpoints.get(id) {
            return match known.role {
                Role::Bridge { .. } => Ok((self.attached(known), false)),
                Role::Eni { .. } | Role::Router { .. } => {
                    Err(NetworkError::AttachedDifferently { endpoint: id.clone() })
                }
            };
        }
        let address = self.free_bridge_address()?;
        let network = (self.table.plan().bridge, self.table.plan().host);
        self.attach(turn, id, |prepared| {
            Endpoint::of_bridge(id.clone(), address, network, prepared.link.clone())
        })
    }

    /// A namespace that is as a bridged one outside, for a VPC's endpoints to be plugged into.
    pub(crate) fn attach_router(
        &mut self,
        turn: &mut Turn,
        id: &EndpointId,
        vpc: &VpcId,
    ) -> Result<(), NetworkError> {
        if self.endpoints.contains_key(id) {
            return Ok(());
        }
        let address = self.free_bridge_address()?;
        let network = (self.table.plan().bridge, self.table.plan().host);
        self.attach(turn, id, |prepared| {
            let link = prepared.link.clone();
            let role = Role::Router { vpc: vpc.clone(), publics: BTreeSet::new() };
            Endpoint { role, ..Endpoint::of_bridge(id.clone(), address, network, link) }
        })?;
        Ok(())
    }

    fn attached_already(
        &self,
        known: &Endpoint,
        wanted: &Endpoint,
    ) -> Result<Attached, NetworkError> {
        if known.is_same(wanted) {
            Ok(self.attached(known))
        } else {
            Err(NetworkError::AttachedDifferently { endpoint: known.id.clone() })
        }
    }

    fn attach(
        &mut self,
        turn: &mut Turn,
        id: &EndpointId,
        describe: impl FnOnce(&Prepared) -> Endpoint,
    ) -> Result<(Attached, bool), NetworkError> {
        if self.endpoints.len() >= limits::ENDPOINTS_MAX {
            return Err(NetworkError::TooManyEndpoints { limit: limits::ENDPOINTS_MAX });
        }
        let prepared = self.pool.take()?;
        let mut endpoint = describe(&prepared);
        endpoint.awaits_ways = self.must_wait(&endpoint);
        let holder = self.endpoints.values().find(|other| other.address == endpoint.address);
        if let Some(holder) = holder {
            let (address, holder) = (endpoint.address, holder.id.clone());
            return Err(NetworkError::AddressTaken { address, holder });
        }
        self.take_over(turn, endpoint.address)?;
        self.forgetter.await_forgotten(endpoint.address)?;
        self.records.save(&endpoint)?;
        self.steps.reached("endpoint recorded");
        if let Err(error) = self.wire(&endpoint, prepared) {
            report(id, self.take_down(&endpoint));
            return Err(error);
        }
        self.steps.reached("endpoint named");
        let attached = self.attached(&endpoint);
        let world = world_of!(self);
        self.table.add_endpoints(&mut turn.batch, world, &[&endpoint]);
        turn.must_replace |= self.table.lacks(&self.feed, &endpoint);
        self.endpoints.insert(id.clone(), endpoint);
        debug!(endpoint = %id, address = %attached.address, "endpoint attached");
        Ok((attached, true))
    }

    /// Has the table judge an endpoint as another one of its name from now on. What is open in it stays.
    pub(crate) fn replace_endpoint(&mut self, turn: &mut Turn, before: &Endpoint, after: Endpoint) {
        self.endpoints.remove(&before.id);
        self.table.remove_endpoints(&mut turn.batch, world_of!(self), &[before]);
        self.table.add_endpoints(&mut turn.batch, world_of!(self), &[&after]);
        self.endpoints.insert(after.id.clone(), after);
    }

    /// Gives a prepared namespace its addresses and its name. Until the table knows the address,
    /// nothing passes.
    fn wire(&mut self, endpoint: &Endpoint, mut prepared: Prepared) -> Result<(), NetworkError> {
        let Endpoint { address, prefix, gateway, mac, .. } = *endpoint;
        let link = prepared.inside_link;
        let mut inside = Requests::default();
        inside.set_mac(link, mac);
        inside.add_address(link, address, prefix);
        inside.add_neighbour(link, gateway, HOST_MAC);
        inside.add_link_route(link, gateway, None, false);
        inside.add_default_route(link, gateway);
        for served in self.table.plan().link_local_served() {
            inside.add_route_by(link, served, gateway);
        }
        prepared.inside.ask(&inside)?;
        let mut outside = Requests::default();
        let host_link = prepared.link.index;
        outside.add_neighbour(host_link, address, mac);
        outside.add_link_route(host_link, address, self.table.plan().own_address(), true);
        self.route.ask(&outside)?;
        self.steps.reached("endpoint wired");
        netns::pin(&prepared.namespace, &self.records.namespace(&endpoint.id))
    }

    fn attached(&self, endpoint: &Endpoint) -> Attached {
        Attached {
            netns: self.records.namespace(&endpoint.id),
            address: endpoint.address,
            prefix: endpoint.prefix,
            gateway: endpoint.gateway,
            mac: endpoint.mac,
            nameserver: match endpoint.role {
                Role::Eni { .. } => self.table.plan().resolver().unwrap_or(AMAZON_DNS),
                Role::Bridge { .. } | Role::Router { .. } => AMAZON_DNS,
            },
            seen_as: self.uplink,
        }
    }

    fn free_bridge_address(&mut self) -> Result<Ipv4Addr, NetworkError> {
        let range: Cidr = self.table.plan().bridge;
        let size = u32::try_from(range.size()).unwrap_or(u32::MAX);
        let used: BTreeSet<Ipv4Addr> = self.endpoints.values().map(|it| it.address).collect();
        for _ in 0..size {
            let offset = self.next_bridge;
            // The first is the network's, the second the host's, the last the broadcast address.
            self.next_bridge = if offset + 2 >= size { 2 } else { offset + 1 };
            match range.nth(offset) {
                Some(address) if !used.contains(&address) => return Ok(address),
                Some(_) | None => {}
            }
        }
        Err(NetworkError::NoFreeAddress { range })
    }

    fn publish(
        &mut self,
        turn: &mut Turn,
        id: &EndpointId,
        requests: &[PortMapping],
    ) -> Result<Vec<Binding>, NetworkError> {
        let missing = || NetworkError::NoSuchEndpoint { endpoint: id.clone() };
        let endpoint = self.endpoints.get(id).ok_or_else(missing)?;
        let Role::Bridge { bindings: known } = &endpoint.role else {
            return Err(NetworkError::NotBridged { endpoint: id.clone() });
        };
        if let Some(granted) = publish::granted_before(known, requests) {
            return Ok(granted);
        }
        if known.len() + requests.len() > limits::PORTS_PER_ENDPOINT_MAX {
            return Err(NetworkError::TooManyPorts { limit: limits::PORTS_PER_ENDPOINT_MAX });
        }
        // Connections that the host makes to itself come with a loopback address.
        let setting = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", endpoint.link);
        netns::set(&setting, "1")?;
        let granted = self.ports.reserve(requests)?;
        let mut next = endpoint.clone();
        next.role = Role::Bridge { bindings: known.iter().chain(&granted).copied().collect() };
        if let Err(error) = self.records.save(&next) {
            granted.iter().for_each(|binding| self.ports.release(binding));
            return Err(error);
        }
        self.steps.reached("ports recorded");
        Table::publish(&mut turn.batch, &next, &granted);
        let udp = granted.iter().filter(|binding| binding.protocol == Protocol::Udp);
        turn.led_ports.extend(udp.map(|binding| binding.host_port));
        self.endpoints.insert(id.clone(), next);
        Ok(granted)
    }

    fn unpublish(&mut self, id: &EndpointId, bindings: &[Binding]) {
        bindings.iter().for_each(|binding| self.ports.release(binding));
        if let Some(endpoint) = self.endpoints.get_mut(id) {
            if let Role::Bridge { bindings: known } = &mut endpoint.role {
                known.retain(|binding| !bindings.contains(binding));
            }
            report(id, self.records.save(endpoint));
        }
    }

    /// Takes endpoints down, and out of the table with the turn's transaction.
    pub(crate) fn remove(
        &mut self,
        turn: &mut Turn,
        which: impl Fn(&Endpoint) -> bool,
    ) -> Result<(), NetworkError> {
        let (gone, kept) = std::mem::take(&mut self.endpoints)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, endpoint)| which(endpoint));
        self.endpoints = kept;
        let gone: Vec<Endpoint> = gone.into_values().collect();
        let leaving: Vec<&Endpoint> = gone.iter().collect();
        let world = world_of!(self);
        self.table.remove_endpoints(&mut turn.batch, world, &leaving);
        self.forgetter.forget(gone.iter().map(|endpoint| endpoint.address));
        let mut outcome = Ok(());
        for endpoint in &gone {
            endpoint.bindings().iter().for_each(|binding| self.ports.release(binding));
            outcome = outcome.and(self.take_down(endpoint));
        }
        self.hand_over(turn, &gone);
        outcome
    }

    /// Removes an endpoint's route, namespace and record, whichever of them are there. The link goes
    /// with the namespace, later and without us waiting for it.
    fn take_down(&mut self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        let link = endpoint.host_link();
        let routed = link.as_ref().map_or(Ok(()), |link| self.unroute(link, endpoint.address));
        self.steps.reached("route removed");
        let unpinned = netns::unpin(&self.records.namespace(&endpoint.id));
        self.steps.reached("namespace unnamed");
        if let Some(link) = link {
            self.reaper.see_off(link);
        }
        let forgotten = unpinned.and_then(|()| self.records.forget(&endpoint.id));
        self.steps.reached("endpoint forgotten");
        routed.and(forgotten)
    }

    fn unroute(&mut self, link: &HostLink, address: Ipv4Addr) -> Result<(), NetworkError> {
        let mut requests = Requests::default();
        requests.delete_link_route(link.index, address);
        match self.route.ask(&requests) {
            // It went with its link.
            Err(error) if !error.is(Errno::ESRCH) && !error.is(Errno::ENODEV) => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn counters(&mut self, id: &EndpointId) -> Result<Counters, NetworkError> {
        let missing = || NetworkError::NoSuchEndpoint { endpoint: id.clone() };
        let link = &self.endpoints.get(id).ok_or_else(missing)?.link;
        let host = self.route.link_counters(link)?;
        // What the host's end sends is what the inside receives.
        Ok(Counters {
            rx_bytes: host.tx_bytes,
            rx_packets: host.tx_packets,
            rx_errors: host.tx_errors,
            rx_dropped: host.tx_dropped,
            tx_bytes: host.rx_bytes,
            tx_packets: host.rx_packets,
            tx_errors: host.rx_errors,
            tx_dropped: host.rx_dropped,
        })
    }

    /// Removes everything that carries our tag.
    pub(crate) fn uninstall(mut self) -> Result<(), NetworkError> {
        let tag = self.table.plan().tag;
        let of_routers = self.uninstall_routers().and(self.part_from_peers());
        // Its links go with it.
        drop(self.pool);
        let removed = setup::remove_all((&mut self.route, &mut self.netfilter), &self.records, tag);
        of_routers.and(removed)
    }
}

/// Answers a refusal at once, and anything else when the turn's transaction is through.
fn await_turn<T, R>(
    turn: &mut Turn,
    outcome: Result<T, NetworkError>,
    reply: Reply<R>,
    pending: impl FnOnce(T, Reply<R>) -> Pending,
) {
    match outcome {
        Ok(value) => turn.pending.push(pending(value, reply)),
        Err(error) => drop(reply.send(Err(error))),
    }
}

fn gone(endpoint: &Endpoint) -> NetworkError {
    NetworkError::NoSuchEndpoint { endpoint: endpoint.id.clone() }
}

fn report(id: &EndpointId, outcome: Result<(), NetworkError>) {
    if let Err(error) = outcome {
        warn!(endpoint = %id, error = %Chain(&error), "failed to undo an endpoint");
    }
}

/// The same error once more: one transaction's refusal answers many.
fn again(error: &std::io::Error) -> std::io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), std::io::Error::from_raw_os_error)
}
