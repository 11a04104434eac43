//! Images that are always here, and interfaces that are only a list.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use image::{Auth, ImageConfig, PullError, Reference};
use network::PortError;

use super::HeardSteps;
use crate::engine::state::Binding;
use crate::ports::{Attached, CountedFlows, Counters, Images, LocalImage, NetError, Networks};
use crate::spec::{EniSpec, PortSpec};

/// Images that are always here, save those that are called missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeImages {
    pub(crate) config: ImageConfig,
    /// How often somebody wanted an image of a registry that was away.
    pub(crate) asked_in_vain: Arc<AtomicU32>,
}

impl FakeImages {
    fn image(&self) -> LocalImage {
        LocalImage {
            digest: format!("sha256:{}", "ab".repeat(32)),
            config: self.config.clone(),
            layers: vec![],
            name: None,
            lease: Arc::new(()),
        }
    }
}

impl Images for FakeImages {
    fn pull(
        &self,
        image: Reference,
        auth: Auth,
        on_digest: Box<dyn FnOnce(String) + Send>,
    ) -> BoxFuture<'_, Result<LocalImage, Arc<PullError>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            // A registry that takes the second login only, or none at all.
            let is_taken = |name: &str| match image.to_string().contains(name) {
                true => name == "expired" && auth.owner() == Some("login 1"),
                false => true,
            };
            if !is_taken("expired") || !is_taken("unwelcome") {
                let (image, host) = (image.to_string(), image.registry.clone());
                let why = "no basic auth credentials".to_owned();
                return Err(Arc::new(PullError::Denied { image, host, why, is_unknown: true }));
            }
            // Registries that are away for the first ten times that they are asked.
            if image.to_string().contains("away")
                && self.asked_in_vain.fetch_add(1, Ordering::SeqCst) < 10
            {
                let (image, host) = (image.to_string(), image.registry.clone());
                return Err(Arc::new(PullError::Unreachable { image, host, why: "away".into() }));
            }
            if image.to_string().contains("missing") {
                return Err(Arc::new(PullError::NotFound { image: image.to_string() }));
            }
            on_digest(self.image().digest);
            Ok(self.image())
        })
    }

    fn find(&self, _image: Reference, _digest: String) -> BoxFuture<'_, Option<LocalImage>> {
        Box::pin(async { Some(self.image()) })
    }

    fn collect(&self) -> BoxFuture<'_, usize> {
        Box::pin(async { 0 })
    }
}

/// Interfaces that are only a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeNetworks {
    pub(crate) endpoints: Arc<Mutex<BTreeMap<String, Vec<Binding>>>>,
    pub(crate) groups: Arc<Mutex<BTreeMap<String, network::SecurityGroup>>>,
    pub(crate) feed: Arc<Mutex<network::feed::Feed>>,
    pub(crate) steps: HeardSteps,
}

impl FakeNetworks {
    fn attach(&self, endpoint: &str) -> BoxFuture<'_, Result<Attached, NetError>> {
        self.steps.reached("endpoint to be attached");
        self.endpoints.lock().unwrap().entry(endpoint.to_owned()).or_default();
        let netns = Some(PathBuf::from(format!("/run/netns/{endpoint}")));
        let address = "172.30.0.9".parse().unwrap();
        let nameserver = Some("172.30.0.1".parse().unwrap());
        self.steps.reached("endpoint attached");
        Box::pin(async move { Ok(Attached { netns, address, nameserver, seen_as: None }) })
    }
}

impl Networks for FakeNetworks {
    fn attach_eni(
        &self,
        endpoint: &str,
        _eni: EniSpec,
    ) -> BoxFuture<'_, Result<Attached, NetError>> {
        self.attach(endpoint)
    }

    fn attach_bridge(&self, endpoint: &str) -> BoxFuture<'_, Result<Attached, NetError>> {
        self.attach(endpoint)
    }

    fn publish(
        &self,
        endpoint: &str,
        ports: Vec<PortSpec>,
    ) -> BoxFuture<'_, Result<Vec<Binding>, NetError>> {
        let bindings: Vec<Binding> = ports
            .iter()
            .map(|port| Binding {
                container_port: port.container_port,
                host_port: if port.host_port == 0 { 49_200 } else { port.host_port },
                protocol: port.protocol,
                range: port.range,
            })
            .collect();
        self.steps.reached("ports to be published");
        let mut endpoints = self.endpoints.lock().unwrap();
        if endpoints.get(endpoint).is_some_and(|known| *known == bindings) {
            return Box::pin(async { Ok(bindings) });
        }
        let taken = endpoints.values().flatten().find(|known| {
            bindings.iter().any(|b| b.host_port == known.host_port && b.host_port < 49_000)
        });
        let result = match taken {
            Some(binding) => Err(NetError::Network(
                PortError::Taken { port: binding.host_port, protocol: network::Protocol::Tcp }
                    .into(),
            )),
            None => {
                endpoints.insert(endpoint.to_owned(), bindings.clone());
                Ok(bindings)
            }
        };
        drop(endpoints);
        self.steps.reached("ports published");
        Box::pin(async move { result })
    }

    fn connect_report(&self) -> BoxFuture<'_, Option<traffic::connect::ConnectReport>> {
        Box::pin(async { None })
    }

    fn learn(&self, news: network::News) -> BoxFuture<'_, Result<(), NetError>> {
        let mut known = self.groups.lock().unwrap();
        let mut feed = self.feed.lock().unwrap();
        if news.is_whole {
            known.clear();
            *feed = network::feed::Feed::default();
        }
        known.extend(news.groups.into_iter().map(|group| (group.id.to_string(), group)));
        feed.apply(news.network);
        Box::pin(async { Ok(()) })
    }

    fn detach(&self, endpoint: &str) -> BoxFuture<'_, Result<(), NetError>> {
        self.steps.reached("endpoint to be detached");
        self.endpoints.lock().unwrap().remove(endpoint);
        self.steps.reached("endpoint detached");
        Box::pin(async { Ok(()) })
    }

    fn reconcile(&self, endpoints: Vec<String>) -> BoxFuture<'_, Result<(), NetError>> {
        self.endpoints.lock().unwrap().retain(|name, _| endpoints.contains(name));
        Box::pin(async { Ok(()) })
    }

    fn counters(&self, _endpoint: &str) -> BoxFuture<'_, Result<Counters, NetError>> {
        Box::pin(async { Ok(Counters::default()) })
    }

    fn behind(
        &self,
        _from: SocketAddrV4,
        _to: SocketAddrV4,
    ) -> BoxFuture<'_, Result<Option<Ipv4Addr>, NetError>> {
        Box::pin(async { Ok(None) })
    }

    fn flows(&self) -> BoxFuture<'_, Result<CountedFlows, NetError>> {
        Box::pin(async { Ok(CountedFlows::default()) })
    }
}
