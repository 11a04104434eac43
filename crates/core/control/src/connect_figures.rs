//! What hosts' proxies counted of Service Connect, put together for the region: by endpoint, and by who asked there.
//!
//! Kept in memory alone. What a proxy counts only grows while it runs, so that a report that is lost costs nothing; of a proxy
//! that another has followed, or of a host that is gone, the last that was heard is kept. [`metrics`] is how a store of metrics
//! takes it over: it notes by how much each has grown since it looked last.
//!
//! **Invariant:** a count never shrinks while the region runs, but for what is open at the moment.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_types::{AccountId, InstanceId, Timestamp};
use model::View;
use traffic::connect::ConnectFigures as Told;
use traffic::figures::{Counted, end_of};

/// Endpoints and askers that are kept apart, of all hosts: a host says what it likes.
const NAMES_MAX: usize = 20_000;

/// Of what something is counted: an account, who asks (`cluster/service`; none: whoever comes in), and an endpoint.
type Name = (AccountId, Option<String>, String);

/// See the module.
#[derive(Debug, Default)]
pub struct ConnectFigures(Mutex<Figures>);

#[derive(Debug, Default)]
struct Figures {
    hosts: BTreeMap<InstanceId, (Timestamp, BTreeMap<Name, Counted>)>,
    /// Of proxies that are no more.
    past: BTreeMap<Name, Counted>,
}

impl Figures {
    fn keep(&mut self, counted: BTreeMap<Name, Counted>) {
        for (name, mut counted) in counted {
            // Nothing of it is open any more.
            counted.open = 0;
            if self.past.contains_key(&name) || self.past.len() < NAMES_MAX {
                self.past.entry(name).or_default().add(&counted);
            }
        }
    }
}

/// What was counted at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFigures {
    pub account: AccountId,
    pub namespace: String,
    pub discovery_name: String,
    /// `cluster/service`, whose tasks serve there.
    pub service: String,
    /// `cluster/service`, whose tasks asked; none: what came in to tasks that are met with TLS or at a port of the proxy's.
    pub client: Option<String>,
    pub counted: Counted,
}

/// What has been measured of something as CloudWatch names it, since the region began.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    /// In Amazon's order.
    pub dimensions: Vec<(&'static str, String)>,
    pub value: MetricValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// Only grows.
    Sum(u64),
    /// As it is now.
    Now(u64),
    /// How often there was a value, all of them together, and how many were at most how large: in milliseconds. All grow.
    Distribution { count: u64, sum: f64, up_to: Vec<(f64, u64)> },
}

impl ConnectFigures {
    fn held(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a host's proxy has counted since it began; nothing new if there is nothing.
    pub fn heard(&self, instance: InstanceId, since: Timestamp, told: Vec<Told>) {
        if told.is_empty() {
            return;
        }
        let mut held = self.held();
        if let Some((before, counted)) = held.hosts.remove(&instance)
            && before != since
        {
            held.keep(counted);
        }
        let names = told.into_iter().take(NAMES_MAX);
        let counted = names.map(|it| ((it.account, it.client, it.endpoint), it.counted)).collect();
        held.hosts.insert(instance, (since, counted));
    }

    /// A host is none of the region's any more.
    pub fn forget(&self, instance: InstanceId) {
        let mut held = self.held();
        if let Some((_, counted)) = held.hosts.remove(&instance) {
            held.keep(counted);
        }
    }

    /// What was counted at an account's endpoints that are there, in the order of their names.
    pub fn of(&self, view: &View, account: AccountId) -> Vec<EndpointFigures> {
        let mut sums: BTreeMap<Name, Counted> = BTreeMap::new();
        {
            let held = self.held();
            let hosts = held.hosts.values().flat_map(|(_, counted)| counted);
            for (name, counted) in hosts.chain(&held.past).filter(|(name, _)| name.0 == account) {
                sums.entry(name.clone()).or_default().add(counted);
            }
        }
        let figures = sums.into_iter().filter_map(|((account, client, endpoint), counted)| {
            let row = view.map_services.get(account, &endpoint.as_str().into())?;
            let owner = &row.connect.as_ref()?.owner;
            let namespace = view.map_namespaces.get(account, &row.namespace)?;
            Some(EndpointFigures {
                account,
                namespace: namespace.name.clone(),
                discovery_name: row.name.clone(),
                service: format!("{}/{}", owner.cluster, owner.name),
                client,
                counted,
            })
        });
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(|one, other| key(one).cmp(&key(other)));
        figures
    }
}

fn key(it: &EndpointFigures) -> (&str, &str, Option<&str>) {
    (&it.namespace, &it.discovery_name, it.client.as_deref())
}

/// Dimensions of what a service's endpoint is, by itself and with the service.
fn dimensions(of: (&'static str, &str), service: &str) -> [Vec<(&'static str, String)>; 2] {
    let (cluster, name) = service.split_once('/').unwrap_or_default();
    let alone = vec![(of.0, of.1.to_owned())];
    let of_service = [
        alone.clone(),
        vec![("ServiceName", name.to_owned()), ("ClusterName", cluster.to_owned())],
    ];
    [alone, of_service.concat()]
}

/// An account's figures as CloudWatch has them in `AWS/ECS`: of each endpoint, by itself and with a service. What comes to
/// A metric's name and its dimensions.
type Named = (&'static str, Vec<(&'static str, String)>);

/// an endpoint is its service's; what its targets answer is of the services that asked.
pub fn metrics(all: &[EndpointFigures]) -> Vec<Metric> {
    let mut sums: BTreeMap<Named, Counted> = BTreeMap::new();
    for it in all {
        let endpoint = it.discovery_name.as_str();
        // What came in by the server's proxy was counted by the client's already, but for what clients did not agree on.
        let mut incoming = it.counted.clone();
        if it.client.is_none() {
            incoming =
                Counted { client_tls_errors: it.counted.client_tls_errors, ..Counted::default() };
        }
        for dimensions in dimensions(("DiscoveryName", endpoint), &it.service) {
            sums.entry(("in", dimensions)).or_default().add(&incoming);
        }
        let Some(client) = &it.client else { continue };
        for dimensions in dimensions(("TargetDiscoveryName", endpoint), client) {
            sums.entry(("out", dimensions)).or_default().add(&it.counted);
        }
    }
    sums.into_iter().flat_map(|((way, of), counted)| named(way == "in", &of, &counted)).collect()
}

fn named(is_in: bool, of: &[(&'static str, String)], it: &Counted) -> Vec<Metric> {
    let metric = |name, unit, value| Metric { name, unit, dimensions: of.to_vec(), value };
    let sum = |name, unit, value| metric(name, unit, MetricValue::Sum(value));
    if is_in {
        return vec![
            metric("ActiveConnectionCount", "Count", MetricValue::Now(it.open)),
            sum("NewConnectionCount", "Count", it.connections),
            sum("ProcessedBytes", "Bytes", it.bytes_in),
            sum("RequestCount", "Count", it.requests),
            sum("GrpcRequestCount", "Count", it.grpc_requests),
            sum("ClientTLSNegotiationErrorCount", "Count", it.client_tls_errors),
        ];
    }
    let up_to = it.times.iter().enumerate().filter(|(_, count)| **count > 0);
    let ms = |us: u64| us as f64 / 1_000.0;
    let times = MetricValue::Distribution {
        count: it.answered(),
        sum: ms(it.times_us),
        up_to: up_to.map(|(bucket, count)| (ms(end_of(bucket)), *count)).collect(),
    };
    vec![
        sum("HTTPCode_Target_2XX_Count", "Count", it.answers[0]),
        sum("HTTPCode_Target_3XX_Count", "Count", it.answers[1]),
        sum("HTTPCode_Target_4XX_Count", "Count", it.answers[2]),
        sum("HTTPCode_Target_5XX_Count", "Count", it.answers[3]),
        sum("RequestCountPerTarget", "Count", it.requests),
        sum("TargetProcessedBytes", "Bytes", it.bytes_in.saturating_add(it.bytes_out)),
        metric("TargetResponseTime", "Milliseconds", times),
        sum("TargetTLSNegotiationErrorCount", "Count", it.target_tls_errors),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountId {
        "000000000000".parse().unwrap()
    }

    fn told(client: &str, requests: u64, open: u64) -> Vec<Told> {
        let counted =
            Counted { requests, open, answers: [requests, 0, 0, 0], ..Counted::default() };
        let client = Some(client.to_owned());
        vec![Told { account: account(), client, endpoint: "srv-1".to_owned(), counted }]
    }

    fn requests(figures: &ConnectFigures) -> (u64, u64) {
        let held = figures.held();
        let hosts = held.hosts.values().flat_map(|(_, counted)| counted.values());
        let mut sum = Counted::default();
        hosts.chain(held.past.values()).for_each(|counted| sum.add(counted));
        (sum.requests, sum.open)
    }

    #[test]
    fn counts_of_proxies_that_are_no_more_are_kept_and_what_they_had_open_is_not() {
        let figures = ConnectFigures::default();
        let [one, two] = [1, 2].map(|it| InstanceId::from_bytes([it; 16]));
        figures.heard(one, Timestamp(1), told("c/a", 5, 1));
        figures.heard(two, Timestamp(1), told("c/a", 7, 2));
        figures.heard(one, Timestamp(1), told("c/a", 6, 1));
        figures.heard(one, Timestamp(1), vec![]);
        assert_eq!(requests(&figures), (13, 3), "a report says all since its proxy began");
        figures.heard(one, Timestamp(9), told("c/a", 2, 0));
        assert_eq!(requests(&figures), (15, 2));
        figures.forget(two);
        assert_eq!(requests(&figures), (15, 0));
    }

    #[test]
    fn metrics_have_amazons_names_and_dimensions() {
        let of = |client: Option<&str>, requests: u64| EndpointFigures {
            account: account(),
            namespace: "mesh".to_owned(),
            discovery_name: "shop".to_owned(),
            service: "c/shop".to_owned(),
            client: client.map(str::to_owned),
            counted: Counted {
                requests,
                client_tls_errors: 1,
                answers: [requests, 0, 0, 0],
                times: vec![requests],
                ..Counted::default()
            },
        };
        let all = metrics(&[of(Some("c/web"), 3), of(Some("d/job"), 4), of(None, 7)]);
        let find = |name: &str, wanted: &[(&str, &str)]| {
            let is_it = |it: &&Metric| {
                let its = it.dimensions.iter().map(|(name, value)| (*name, value.as_str()));
                it.name == name && its.collect::<Vec<_>>() == wanted
            };
            all.iter().find(is_it).map(|it| it.value.clone())
        };
        let shop = ("DiscoveryName", "shop");
        let of_shop = [shop, ("ServiceName", "shop"), ("ClusterName", "c")];
        for dimensions in [&[shop][..], &of_shop] {
            assert_eq!(find("RequestCount", dimensions), Some(MetricValue::Sum(7)));
            assert_eq!(
                find("ClientTLSNegotiationErrorCount", dimensions),
                Some(MetricValue::Sum(3))
            );
        }
        let target = ("TargetDiscoveryName", "shop");
        assert_eq!(find("HTTPCode_Target_2XX_Count", &[target]), Some(MetricValue::Sum(7)));
        let of_job = [target, ("ServiceName", "job"), ("ClusterName", "d")];
        assert_eq!(find("RequestCountPerTarget", &of_job), Some(MetricValue::Sum(4)));
        let times = find("TargetResponseTime", &of_job).unwrap();
        let MetricValue::Distribution { count, up_to, .. } = times else { panic!("{times:?}") };
        assert_eq!((count, up_to), (4, vec![(0.1, 4)]));
    }
}
