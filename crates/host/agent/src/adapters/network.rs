//! [`Networks`] by the host's network.

use std::net::{Ipv4Addr, SocketAddrV4};

use futures_util::future::BoxFuture;
use longshore_types::Chain;
use network::{EndpointId, Network, News, PortMapping};
use tracing::warn;
use traffic::connect::ConnectReport;

use crate::engine::state::Binding;
use crate::ports::{Attached, CountedFlows, Counters, NetError, Networks};
use crate::spec::{EniSpec, PortSpec};

/// The network of this host.
#[derive(Clone, Debug)]
pub struct HostNetworks(pub Network);

fn endpoint(name: &str) -> Result<EndpointId, NetError> {
    name.parse().map_err(|why| NetError::Name { name: name.to_owned(), why })
}

fn attached(attached: network::Attached) -> Attached {
    Attached {
        netns: Some(attached.netns),
        address: attached.address,
        nameserver: Some(attached.nameserver),
        seen_as: attached.seen_as,
    }
}

impl Networks for HostNetworks {
    fn attach_eni(&self, name: &str, eni: EniSpec) -> BoxFuture<'_, Result<Attached, NetError>> {
        let id = endpoint(name);
        Box::pin(async move {
            let spec = network::EniSpec {
                id: eni.id.parse().ok(),
                address: eni.address,
                prefix: eni.prefix,
                gateway: eni.gateway,
                mac: eni.mac.parse().map_err(|why| NetError::Mac { mac: eni.mac.clone(), why })?,
                security_groups: eni.security_groups,
                assign_public_ip: eni.assign_public_ip,
                is_judged: eni.is_judged,
            };
            let made = self.0.attach_eni(&id?, spec).await;
            Ok(made.map(attached)?)
        })
    }

    fn attach_bridge(&self, name: &str) -> BoxFuture<'_, Result<Attached, NetError>> {
        let id = endpoint(name);
        Box::pin(async move {
            let made = self.0.attach_bridge(&id?).await;
            Ok(made.map(attached)?)
        })
    }

    fn publish(
        &self,
        name: &str,
        ports: Vec<PortSpec>,
    ) -> BoxFuture<'_, Result<Vec<Binding>, NetError>> {
        let id = endpoint(name);
        let request = |port: &PortSpec| PortMapping {
            container_port: port.container_port,
            host_port: port.host_port,
            protocol: port.protocol,
            follows: port.range.is_some_and(|first| first != port.container_port),
        };
        let requests: Vec<PortMapping> = ports.iter().map(request).collect();
        Box::pin(async move {
            let bindings = self.0.publish(&id?, &requests).await?;
            let binding = |(binding, port): (network::Binding, &PortSpec)| Binding {
                container_port: binding.container_port,
                host_port: binding.host_port,
                protocol: binding.protocol,
                range: port.range,
            };
            Ok(bindings.into_iter().zip(&ports).map(binding).collect())
        })
    }

    fn learn(&self, news: News) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(async move { Ok(self.0.learn(news).await?) })
    }

    fn connect_report(&self) -> BoxFuture<'_, Option<ConnectReport>> {
        Box::pin(self.0.connect_report())
    }

    fn detach(&self, name: &str) -> BoxFuture<'_, Result<(), NetError>> {
        let id = endpoint(name);
        Box::pin(async move { Ok(self.0.detach(&id?).await?) })
    }

    fn reconcile(&self, names: Vec<String>) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(async move {
            let keep = names.iter().filter_map(|name| match endpoint(name) {
                Ok(id) => Some(id),
                Err(error) => {
                    warn!(error = %Chain(&error), "endpoint cannot be kept");
                    None
                }
            });
            let keep: Vec<EndpointId> = keep.collect();
            Ok(self.0.reconcile(&keep).await?)
        })
    }

    fn flows(&self) -> BoxFuture<'_, Result<CountedFlows, NetError>> {
        Box::pin(async move { Ok(self.0.flows().await?) })
    }

    fn behind(
        &self,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> BoxFuture<'_, Result<Option<Ipv4Addr>, NetError>> {
        Box::pin(async move { Ok(self.0.behind(from, to).await?) })
    }

    fn counters(&self, name: &str) -> BoxFuture<'_, Result<Counters, NetError>> {
        let id = endpoint(name);
        Box::pin(async move {
            let counters = self.0.counters(&id?).await?;
            Ok(Counters {
                rx_bytes: counters.rx_bytes,
                rx_packets: counters.rx_packets,
                rx_errors: counters.rx_errors,
                rx_dropped: counters.rx_dropped,
                tx_bytes: counters.tx_bytes,
                tx_packets: counters.tx_packets,
                tx_errors: counters.tx_errors,
                tx_dropped: counters.tx_dropped,
            })
        })
    }
}
