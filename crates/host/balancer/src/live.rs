//! The table as it is served: compiled, with what is known of each target.
//!
//! Each table makes a new snapshot; targets and turns are carried over. A request is decided by the snapshot of its
//! beginning, but the choice of a target looks at the target itself, so that none that is out is chosen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use longshore_types::Timestamp;
use routing::choose;
use routing::{
    Balancer, Certificate, CertificateId, Endpoint, EndpointId, GroupId, Listener, ListenerId,
    Report, Rules, Table, TargetGroup, TargetProtocol, TargetReport, TargetState,
};
use tokio::sync::Notify;
use tracing::warn;

use crate::figures::Figures;
use crate::http::CookieKey;
use crate::shared::Shared;
use crate::sockets::Sockets;
use crate::target::{Lease, LiveTarget};
use crate::tls::{self, Verifying};

/// What is served at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    pub(crate) listeners: BTreeMap<ListenerId, Arc<LiveListener>>,
    pub(crate) groups: BTreeMap<GroupId, Arc<LiveGroup>>,
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
    /// Whether its targets are as its table has them: until then nothing of it is reported.
    is_settled: AtomicBool,
}

/// A listener with the balancer it belongs to.
#[derive(Debug)]
pub(crate) struct LiveListener {
    /// Without its listeners.
    pub(crate) balancer: Balancer,
    pub(crate) listener: Listener,
    pub(crate) rules: Rules,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// None: the process's own.
    pub(crate) cookie_key: Option<CookieKey>,
    /// Where its requests are counted, if they are.
    pub(crate) figures: Option<Arc<Figures>>,
    /// What `tls` was made of.
    pub(crate) certificates: BTreeMap<CertificateId, Certificate>,
}

/// A group with its targets as they are.
#[derive(Debug)]
pub(crate) struct LiveGroup {
    /// Without its targets.
    pub(crate) group: TargetGroup,
    pub(crate) targets: Vec<(Arc<LiveTarget>, TargetState)>,
    /// Of which part each of them is.
    parts: Vec<u8>,
    turn: Arc<AtomicU64>,
    /// How targets are met that show the group's identity; none: it has none, or one that nobody can have.
    pub(crate) verifying: Option<Verifying>,
}

impl Snapshot {
    /// What a table is served as, after `before`. Targets are as they were until [`Snapshot::settle`].
    pub(crate) fn new(table: &Table, before: &Self, shared: &Shared) -> Self {
        let Shared { changed, sockets, .. } = shared;
        let now = shared.clock.now();
        let groups: BTreeMap<_, _> = table
            .groups
            .values()
            .map(|group| {
                let old = before.groups.get(&group.id).map(Arc::as_ref);
                (group.id.clone(), Arc::new(LiveGroup::new(group, old, (now, changed), sockets)))
            })
            .collect();
        let mut listeners = BTreeMap::new();
        for balancer in table.balancers.values() {
            for listener in &balancer.listeners {
                let old = before.listeners.get(&listener.id);
                let mut live = LiveListener::new(balancer, listener, table, old.map(Arc::as_ref));
                let counted_as = balancer.attributes.figures.as_deref();
                live.figures = counted_as.and_then(|name| shared.figures.named(name));
                listeners.insert(listener.id.clone(), Arc::new(live));
            }
        }
        Self {
            version: table.version,
            listeners,
            groups,
            endpoints: table.endpoints.clone(),
            is_settled: AtomicBool::new(false),
        }
    }

    /// Has all targets be as the table says, once requests are decided by this snapshot: before that they would be led to
    /// targets that are out already, and there may be no others in their group.
    pub(crate) fn settle(&self, table: &Table, before: &Self) {
        for group in table.groups.values() {
            let live = self.groups.get(&group.id).map_or(&[][..], |live| &live.targets);
            for (target, (live, _)) in group.targets.iter().zip(live) {
                live.follow(target);
            }
        }
        for old in before.groups.values() {
            let new = self.groups.get(&old.group.id);
            for (target, _) in &old.targets {
                let is_kept = new.is_some_and(|new| {
                    new.targets.iter().any(|(kept, _)| Arc::ptr_eq(kept, target))
                });
                if !is_kept {
                    // Deregistered for good: its delay is over.
                    target.follow_state(TargetState::Unused);
                    if old.is_cut_at_the_end() {
                        target.cut();
                    }
                }
            }
        }
        self.is_settled.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::SeqCst)
    }

    /// What the region is told.
    pub(crate) fn report(&self, node: &str) -> Report {
        let targets = self.groups.values().flat_map(|group| &group.targets);
        let one = |(target, _): &(Arc<LiveTarget>, TargetState)| TargetReport {
            group: target.group.clone(),
            target: target.key.clone(),
            registered_at: target.registered_at,
            finding: target.finding(),
            in_flight: target.in_flight(),
        };
        let targets = targets.map(one).collect();
        Report { node: node.to_owned(), version: self.version, targets, ..Report::default() }
    }

    pub(crate) fn targets(
        &self,
    ) -> impl Iterator<Item = (&LiveGroup, &Arc<LiveTarget>, TargetState)> {
        self.groups.values().flat_map(|group| {
            group.targets.iter().map(move |(target, state)| (&**group, target, *state))
        })
    }
}

pub(crate) fn is_cut_at_the_end(group: &TargetGroup) -> bool {
    is_http(group) || group.cut_at_deregistration
}

/// Whether what is open with a target ends when it becomes unhealthy: flows do, requests may still be answered.
pub(crate) fn is_cut_when_unhealthy(group: &TargetGroup) -> bool {
    !is_http(group) && group.cut_when_unhealthy
}

fn is_http(group: &TargetGroup) -> bool {
    match group.protocol {
        TargetProtocol::Http | TargetProtocol::Https => true,
        TargetProtocol::Tcp
        | TargetProtocol::Tls
        | TargetProtocol::Udp
        | TargetProtocol::TcpUdp => false,
    }
}

impl LiveListener {
    fn new(balancer: &Balancer, listener: &Listener, table: &Table, old: Option<&Self>) -> Self {
        let rules = Rules::new(listener);
        for (rule, why) in &rules.faults {
            warn!(%rule, error = %why, "rule cannot be used and never holds");
        }
        // Sessions can be resumed as long as the configuration is the same value.
        let same = old.filter(|old| {
            let is_alike = old.listener.tls == listener.tls
                && old.balancer.attributes.http2 == balancer.attributes.http2;
            is_alike && old.tls.is_some() && tls::is_same(table, listener, old)
        });
        let tls = match same {
            Some(old) => old.tls.clone(),
            None => tls::server_config(balancer, listener, &table.certificates),
        };
        let certificates = tls::certificates(listener, table);
        let cookie_key = CookieKey::of(balancer);
        let balancer = Balancer { listeners: Vec::new(), ..balancer.clone() };
        let (listener, figures) = (listener.clone(), None);
        Self { balancer, listener, rules, tls, cookie_key, certificates, figures }
    }
}

impl LiveGroup {
    fn new(
        group: &TargetGroup,
        old: Option<&Self>,
        (now, changed): (Timestamp, &Arc<Notify>),
        sockets: &Sockets,
    ) -> Self {
        let live = |target: &routing::Target| {
            let kept = old.and_then(|old| {
                old.targets.iter().map(|(kept, _)| kept).find(|kept| {
                    (&kept.key, kept.registered_at, kept.address.ip(), kept.shows_identity)
                        == (
                            &target.key,
                            target.registered_at,
                            target.address,
                            target.shows_identity,
                        )
                })
            });
            let live = match kept {
                Some(kept) => Arc::clone(kept),
                None => {
                    let (id, changed) = (group.id.clone(), Arc::clone(changed));
                    changed.notify_one();
                    Arc::new(LiveTarget::new(id, target, now, changed, sockets.clone()))
                }
            };
            (live, target.state)
        };
        // Sessions can be resumed as long as it is the same value.
        let same = old.filter(|old| old.group.identity == group.identity);
        let verifying = match same {
            Some(old) => old.verifying.clone(),
            None => group.identity.as_ref().and_then(Verifying::new),
        };
        Self {
            verifying,
            parts: group.targets.iter().map(|target| target.part).collect(),
            targets: group.targets.iter().map(live).collect(),
            group: TargetGroup { targets: Vec::new(), ..group.clone() },
            turn: old.map(|old| Arc::clone(&old.turn)).unwrap_or_default(),
        }
    }

    /// Whether what a deregistered target still holds is cut when its delay is over. Flows of network balancers go on
    /// unless their group says otherwise.
    pub(crate) fn is_cut_at_the_end(&self) -> bool {
        is_cut_at_the_end(&self.group)
    }

    /// The targets of a part, or all, but those in `tried`.
    fn open(&self, part: Option<u8>, tried: &[Arc<LiveTarget>]) -> Vec<&Arc<LiveTarget>> {
        let of_part = self.targets.iter().zip(&self.parts);
        let of_part = of_part.filter(|(_, its)| part.is_none_or(|part| part == **its));
        let targets = of_part.map(|((target, _), _)| target);
        targets.filter(|target| !tried.iter().any(|it| Arc::ptr_eq(it, target))).collect()
    }

    /// Chooses a target of a part by the group's algorithm, leaving out those in `tried`, and takes hold of it.
    pub(crate) fn choose(
        &self,
        part: Option<u8>,
        tried: &[Arc<LiveTarget>],
        seed: u64,
        now: Timestamp,
    ) -> Option<Lease> {
        let open = self.open(part, tried);
        // A target may go out of routing between the look and the hold; then it is looked at again.
        for round in 0..=open.len() as u64 {
            let candidates: Vec<_> = open.iter().map(|target| target.candidate(now)).collect();
            let eligible = choose::eligible(&self.group, &candidates);
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let seed = seed.wrapping_add(round);
            let at = choose::target(&self.group, &candidates, &eligible, turn, seed, now)?;
            if let Some(lease) = open.get(at)?.lease() {
                return Some(lease);
            }
        }
        None
    }

    /// Chooses by a hash instead: the same flow comes to the same target while the targets are the same.
    pub(crate) fn choose_by_hash(
        &self,
        part: Option<u8>,
        tried: &[Arc<LiveTarget>],
        hash: u64,
        now: Timestamp,
    ) -> Option<Lease> {
        let open = self.open(part, &[]);
        let candidates: Vec<_> = open.iter().map(|target| target.candidate(now)).collect();
        let mut eligible = choose::eligible(&self.group, &candidates);
        eligible.retain(|at| !tried.iter().any(|tried| Arc::ptr_eq(tried, open[*at])));
        let count = u64::try_from(eligible.len()).ok()?;
        let first = usize::try_from(hash.checked_rem(count)?).ok()?;
        let (before, from) = eligible.split_at(first);
        from.iter().chain(before).find_map(|at| open[*at].lease())
    }

    /// Takes hold of the very target that a cookie names, if it may be asked.
    pub(crate) fn hold(
        &self,
        is_it: impl Fn(&LiveTarget) -> bool,
        now: Timestamp,
    ) -> Option<Lease> {
        let at = self.targets.iter().position(|(target, _)| is_it(target))?;
        let candidates: Vec<_> =
            self.targets.iter().map(|(target, _)| target.candidate(now)).collect();
        let is_eligible = choose::eligible(&self.group, &candidates).contains(&at);
        if is_eligible { self.targets[at].0.lease() } else { None }
    }
}
