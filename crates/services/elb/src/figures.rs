//! The metrics of balancers, put together each minute: `AWS/ApplicationELB` and `AWS/NetworkELB`.
//!
//! What was counted comes from the processes ([`crate::counting`]); how many targets are healthy, from rows. The requests of an
//! application balancer are told of each minute though there were none, and so are the flows of a network balancer: who
//! watches for few of them would see nothing otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_wire::ApiError;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, StatisticSet, Timestamp};
use metrics::{Datum, MetricId};
use model::elb::{BalancerKind, ElbPath, TargetHealth, path_of};
use model::{ElbBalancer, ElbGroup, View};
use routing::CountedFor;
use store::Change;
use traffic::figures::{Counted, OWN_ANSWERS, end_of};

use crate::Elb;
use crate::targets::of_group;
use crate::zonal::{Usage, led_to};

const MINUTE_MS: u64 = 60_000;

/// Samples by metric: its account, namespace, name, unit and dimensions.
type Name = (AccountId, &'static str, String, &'static str, BTreeMap<String, String>);

#[derive(Debug, Default)]
struct Sums(BTreeMap<Name, StatisticSet>);

impl Sums {
    fn add(&mut self, of: &Of<'_>, name: &str, unit: &'static str, set: StatisticSet) {
        let dimensions = [
            ("LoadBalancer", of.balancer.map(str::to_owned)),
            ("TargetGroup", of.group.map(|group| format!("targetgroup/{group}"))),
            ("AvailabilityZone", of.zone.map(str::to_owned)),
        ];
        let dimensions = dimensions
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        let name = (of.account, namespace(of.kind), name.to_owned(), unit, dimensions);
        self.0.entry(name).and_modify(|all| all.add(&set)).or_insert(set);
    }

    /// So many of something, each a sample; of none there is nothing to tell.
    fn count(&mut self, of: &Of<'_>, name: &str, count: u64) {
        if 0 < count {
            self.add(of, name, "Count", StatisticSet::of(1.0, count as f64));
        }
    }
}

const fn namespace(kind: BalancerKind) -> &'static str {
    match kind {
        BalancerKind::Application => "AWS/ApplicationELB",
        BalancerKind::Network => "AWS/NetworkELB",
    }
}

/// Of what something is told.
#[derive(Clone, Copy)]
struct Of<'a> {
    account: AccountId,
    kind: BalancerKind,
    balancer: Option<&'a str>,
    group: Option<&'a str>,
    zone: Option<&'a str>,
}

impl<'a> Of<'a> {
    fn balancer(row: &ElbBalancer, path: &'a str) -> Self {
        let (account, kind) = (row.scope.account, row.kind);
        Self { account, kind, balancer: Some(path), group: None, zone: None }
    }

    /// Itself in one zone, and in all.
    fn zones(self, zone: Option<&'a str>) -> impl Iterator<Item = Self> {
        let within = zone.map(|zone| Self { zone: Some(zone), ..self });
        [self].into_iter().chain(within)
    }
}

/// What was counted in a minute, and how targets are at its end.
pub(crate) fn told(
    view: &View,
    counted: &BTreeMap<CountedFor, Counted>,
    at: Timestamp,
) -> Vec<Datum> {
    let mut sums = Sums::default();
    let mut asked: BTreeMap<(AccountId, ElbPath), BTreeMap<ElbPath, u64>> = BTreeMap::new();
    for (name, counted) in counted {
        let Some(row) = balancer_of(view, name) else { continue };
        let path = row.path();
        let of = Of::balancer(row, &path);
        let zone = name.zone.as_deref();
        match &name.group {
            Some(group) => {
                let Some((_, group)) = path_of(&row.scope, &group.0) else { continue };
                for of in of.zones(zone) {
                    tell_group(&mut sums, &of, counted);
                    tell_group(&mut sums, &Of { group: Some(group), ..of }, counted);
                }
                let of_group = asked.entry((row.scope.account, group.into())).or_default();
                let requests = of_group.entry(path.clone()).or_default();
                *requests = requests.saturating_add(counted.requests);
            }
            None => of.zones(zone).for_each(|of| tell_balancer(&mut sums, &of, counted)),
        }
    }
    for row in view.elb_balancers.iter() {
        match row.kind {
            BalancerKind::Application => tell_nothing(&mut sums, row, "RequestCount"),
            BalancerKind::Network => {
                tell_nothing(&mut sums, row, "NewFlowCount");
                tell_open(&mut sums, row, counted);
            }
        }
        for group in led_to(view, row) {
            tell_health(&mut sums, view, row, group);
            if row.kind == BalancerKind::Application {
                let key = (row.scope.account, group.path());
                asked.entry(key).or_default().entry(row.path()).or_default();
            }
        }
    }
    for ((account, group), requests) in asked {
        let Some(row) = view.elb_groups.get(account, &group) else { continue };
        tell_per_target(&mut sums, view, row, &requests);
    }
    let datum = |((account, namespace, name, unit, dimensions), set): (Name, StatisticSet)| Datum {
        metric: MetricId { account, namespace: namespace.to_owned(), name, dimensions },
        unit: unit.to_owned(),
        at,
        set,
        is_fine: false,
    };
    sums.0.into_iter().map(datum).collect()
}

/// The balancer that a name is of.
pub(crate) fn balancer_of<'v>(view: &'v View, name: &CountedFor) -> Option<&'v Arc<ElbBalancer>> {
    let account: AccountId = name.balancer.0.split(':').nth(4)?.parse().ok()?;
    let (_, path) = name.balancer.0.split_once(":loadbalancer/")?;
    let row = view.elb_balancers.get(account, &path.into())?;
    (row.arn() == name.balancer.0).then_some(row)
}

/// Requests of an application balancer that went to a group.
fn tell_group(sums: &mut Sums, of: &Of<'_>, counted: &Counted) {
    if of.kind == BalancerKind::Network {
        return;
    }
    sums.count(of, "RequestCount", counted.requests);
    for (class, count) in ["2XX", "3XX", "4XX", "5XX"].iter().zip(counted.answers) {
        sums.count(of, &format!("HTTPCode_Target_{class}_Count"), count);
    }
    sums.count(of, "TargetConnectionErrorCount", counted.target_connect_errors);
    sums.count(of, "TargetTLSNegotiationErrorCount", counted.target_tls_errors);
    if let Some(times) = times(counted) {
        sums.add(of, "TargetResponseTime", "Seconds", times);
    }
}

/// How long answers took until they began; the least and the most are the ends of what they were counted in.
fn times(counted: &Counted) -> Option<StatisticSet> {
    let seconds = |us: u64| us as f64 / 1e6;
    let count = counted.answered();
    let least = counted.times.iter().position(|count| 0 < *count)?;
    let most = counted.times.iter().rposition(|count| 0 < *count)?;
    let sum = seconds(counted.times_us);
    let average = sum / count as f64;
    let min = least.checked_sub(1).map_or(0.0, |before| seconds(end_of(before)));
    let max = seconds(end_of(most));
    Some(StatisticSet { count: count as f64, sum, min: min.min(average), max: max.max(average) })
}

/// Connections, and what the balancer itself answered.
fn tell_balancer(sums: &mut Sums, of: &Of<'_>, counted: &Counted) {
    let bytes = counted.bytes_in.saturating_add(counted.bytes_out);
    if 0 < bytes {
        sums.add(of, "ProcessedBytes", "Bytes", StatisticSet::one(bytes as f64));
    }
    sums.count(of, "ClientTLSNegotiationErrorCount", counted.client_tls_errors);
    match of.kind {
        BalancerKind::Application => {
            for (status, count) in OWN_ANSWERS.iter().zip(counted.own_answers) {
                sums.count(of, &format!("HTTPCode_ELB_{status}_Count"), count);
            }
            sums.count(of, "NewConnectionCount", counted.connections);
            sums.count(of, "ActiveConnectionCount", counted.open);
        }
        BalancerKind::Network => sums.count(of, "NewFlowCount", counted.connections),
    }
}

/// That nothing came, where nothing did.
fn tell_nothing(sums: &mut Sums, row: &ElbBalancer, name: &str) {
    let path = row.path();
    let dimensions = BTreeMap::from([("LoadBalancer".to_owned(), path.to_string())]);
    let key = (row.scope.account, namespace(row.kind), name.to_owned(), "Count", dimensions);
    if !sums.0.contains_key(&key) {
        sums.add(&Of::balancer(row, &path), name, "Count", StatisticSet::one(0.0));
    }
}

/// The flows that are open: all of them are one sample, and so are those of each zone.
fn tell_open(sums: &mut Sums, row: &ElbBalancer, counted: &BTreeMap<CountedFor, Counted>) {
    let arn = row.arn();
    let mut open: BTreeMap<Option<&str>, u64> = BTreeMap::from([(None, 0)]);
    for (name, counted) in counted.iter().filter(|(name, _)| name.balancer.0 == arn) {
        for zone in BTreeSet::from([None, name.zone.as_deref()]) {
            let all = open.entry(zone).or_default();
            *all = all.saturating_add(counted.open);
        }
    }
    let path = row.path();
    for (zone, open) in open {
        let of = Of { zone, ..Of::balancer(row, &path) };
        sums.add(&of, "ActiveFlowCount", "Count", StatisticSet::one(open as f64));
    }
}

/// How many of a group's targets are healthy, of all and of each zone.
fn tell_health(sums: &mut Sums, view: &View, row: &ElbBalancer, group: &ElbGroup) {
    let (path, group_path) = (row.path(), group.path());
    let usage = Usage::of(view, group);
    let zones = row.zones.iter().map(|zone| (Some(zone.zone.clone()), (0, 0)));
    let mut counts: BTreeMap<Option<String>, (u32, u32)> = zones.chain([(None, (0, 0))]).collect();
    for target in of_group(view, row.scope.account, &group_path) {
        if usage.unused(target).is_some() {
            continue;
        }
        let (healthy, unhealthy) = match target.health {
            TargetHealth::Healthy => (1, 0),
            TargetHealth::Unhealthy(_) => (0, 1),
            TargetHealth::Initial | TargetHealth::Draining { .. } => continue,
        };
        for zone in BTreeSet::from([None, target.zone.clone()]) {
            let all = counts.entry(zone).or_default();
            *all = (all.0 + healthy, all.1 + unhealthy);
        }
    }
    for (zone, (healthy, unhealthy)) in &counts {
        let of = Of { group: Some(&group_path), zone: zone.as_deref(), ..Of::balancer(row, &path) };
        sums.add(&of, "HealthyHostCount", "Count", StatisticSet::one(f64::from(*healthy)));
        sums.add(&of, "UnHealthyHostCount", "Count", StatisticSet::one(f64::from(*unhealthy)));
    }
}

/// A group's requests for each of its healthy targets, or of all that are asked while none is: by each balancer, and by all
/// together.
fn tell_per_target(
    sums: &mut Sums,
    view: &View,
    group: &ElbGroup,
    requests: &BTreeMap<ElbPath, u64>,
) {
    let path = group.path();
    let usage = Usage::of(view, group);
    let (mut healthy, mut others) = (0_u32, 0_u32);
    let targets = of_group(view, group.scope.account, &path);
    for target in targets.filter(|target| usage.unused(target).is_none()) {
        match target.health {
            TargetHealth::Healthy => healthy += 1,
            TargetHealth::Initial | TargetHealth::Unhealthy(_) => others += 1,
            TargetHealth::Draining { .. } => {}
        }
    }
    let targets = if healthy == 0 { others.max(1) } else { healthy };
    let mut tell = |balancer: Option<&str>, requests: u64| {
        let (account, kind) = (group.scope.account, BalancerKind::Application);
        let of = Of { account, kind, balancer, group: Some(&path), zone: None };
        let set = StatisticSet::one(requests as f64 / f64::from(targets));
        sums.add(&of, "RequestCountPerTarget", "Count", set);
    };
    requests.iter().for_each(|(balancer, count)| tell(Some(balancer), *count));
    tell(None, requests.values().fold(0, |all, count| all.saturating_add(*count)));
}

/// Puts each minute's metrics once it is over.
#[derive(Debug)]
pub(crate) struct Telling {
    elb: Arc<Elb>,
    /// The minute that is told of next.
    next: AtomicU64,
}

impl Telling {
    pub(crate) fn new(elb: Arc<Elb>) -> Self {
        let next = AtomicU64::new(elb.control.clock.now().0 / MINUTE_MS);
        Self { elb, next }
    }
}

impl Reconciler for Telling {
    type Key = NowAndThen;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "balancer-metrics"
    }

    fn wake(&mut self, _: &View, _: &Change, _: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, ApiError>> {
        let elb = Arc::clone(&self.elb);
        let now = elb.control.clock.now();
        let minute = now.0 / MINUTE_MS;
        let is_over = self.next.swap(minute, Ordering::Relaxed) != minute;
        Box::pin(async move {
            let view = elb.control.view();
            if is_over {
                let at = Timestamp(minute.saturating_sub(1) * MINUTE_MS);
                let data = told(&view, &elb.counting.take(now), at);
                if !data.is_empty() {
                    let metrics = Arc::clone(&elb.metrics);
                    let failed = "failed to keep metrics";
                    let done = tokio::task::spawn_blocking(move || metrics.note(data)).await;
                    let noted = done.map_err(|why| ApiError::fault(failed, why))?;
                    noted.map_err(|why| ApiError::fault(failed, why))?;
                }
            }
            let again_at = Some(Timestamp((minute + 1) * MINUTE_MS));
            Ok(Pass { looked_at: view.seq, again_at, ..Pass::default() })
        })
    }
}
