//! The table as it is served: compiled, with what is known of each target.
//!
//! Each table makes a new snapshot; targets and turns are carried over. A request is decided by the snapshot of its
//! beginning, but the choice of a target looks at the target itself, so that none that is out is chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_types::Timestamp;
use routing::choose;
use routing::{
    Action, Balancer, Certificate, CertificateId, Endpoint, EndpointId, GroupId, Interface,
    InterfaceRef, Listener, ListenerId, Report, Rule, Rules, Table, TargetGroup, TargetProtocol,
    TargetReport, TargetState, Zones,
};
use tokio::sync::Notify;
use tracing::warn;

use crate::figures::{Figures, Tallies};
use crate::http::CookieKey;
use crate::log::{CheckLogs, FileKey, check_logs};
use crate::shared::{Counts, Shared};
use crate::sockets::Sockets;
use crate::target::{Lease, LiveTarget};
use crate::tls::{self, Shown, TlsFacts, Verifying};

/// What is served at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    pub(crate) listeners: BTreeMap<ListenerId, Arc<LiveListener>>,
    pub(crate) groups: BTreeMap<GroupId, Arc<LiveGroup>>,
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
    check_logs: CheckLogs,
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
    shown: Option<Arc<Shown>>,
    /// None: the process's own.
    pub(crate) cookie_key: Option<CookieKey>,
    /// Where its requests are counted, if they are.
    pub(crate) tallies: Tallies,
    /// What `tls` was made of.
    pub(crate) certificates: BTreeMap<CertificateId, Certificate>,
}

/// A group with its targets as they are.
#[derive(Debug)]
pub(crate) struct LiveGroup {
    /// Without its targets.
    pub(crate) group: TargetGroup,
    pub(crate) targets: Vec<Member>,
    turns: Arc<Turns>,
    /// How targets are met that show the group's identity; none: it has none, or one that nobody can have.
    pub(crate) verifying: Option<Verifying>,
}

/// Whose turn it is, apart for each of the zones whose targets are used for themselves.
#[derive(Debug, Default)]
struct Turns {
    all: AtomicU64,
    of_zones: Mutex<BTreeMap<String, u64>>,
}

impl Turns {
    fn next(&self, zones: Zones<'_>) -> u64 {
        let zone = match zones {
            Zones::All | Zones::AllBut(_) => return self.all.fetch_add(1, Ordering::Relaxed),
            Zones::One(zone) => zone.unwrap_or_default(),
        };
        let mut turns = self.of_zones.lock().unwrap_or_else(PoisonError::into_inner);
        match turns.get_mut(zone) {
            Some(turn) => {
                *turn = turn.wrapping_add(1);
                *turn
            }
            None => *turns.entry(zone.to_owned()).or_default(),
        }
    }
}

/// A target with what the table says of it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) target: Arc<LiveTarget>,
    pub(crate) state: TargetState,
    /// None: it is of every zone.
    pub(crate) zone: Option<String>,
    /// Of which part of the group it is.
    part: u8,
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
                live.tallies = Tallies::new(&shared.figures, balancer, listener);
                listeners.insert(listener.id.clone(), Arc::new(live));
            }
        }
        Self {
            version: table.version,
            listeners,
            groups,
            endpoints: table.endpoints.clone(),
            check_logs: check_logs(table),
            is_settled: AtomicBool::new(false),
        }
    }

    /// Has all targets be as the table says, once requests are decided by this snapshot: before that they would be led to
    /// targets that are out already, and there may be no others in their group.
    pub(crate) fn settle(&self, table: &Table, before: &Self) {
        for group in table.groups.values() {
            let live = self.groups.get(&group.id).map_or(&[][..], |live| &live.targets);
            for (target, live) in group.targets.iter().zip(live) {
                live.target.follow(target);
            }
        }
        for old in before.groups.values() {
            let new = self.groups.get(&old.group.id);
            for Member { target, .. } in &old.targets {
                let is_kept = new.is_some_and(|new| {
                    new.targets.iter().any(|kept| Arc::ptr_eq(&kept.target, target))
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

    /// Whether a target would be asked at the moment, as one that is not healthy is while too few others are (fail open): in
    /// its own zone, or in all, as far as those that forward to its group cross them.
    pub(crate) fn asks(&self, target: &Arc<LiveTarget>, now: Timestamp) -> bool {
        let Some(group) = self.groups.get(&target.group) else { return false };
        let leads_there = |rule: &Rule| match &rule.action {
            Action::Forward { groups, .. } => {
                groups.iter().any(|it| it.group == target.group && it.weight > 0)
            }
            Action::Redirect { .. } | Action::FixedResponse { .. } => false,
        };
        let users = self.listeners.values().filter(|it| it.listener.rules.iter().any(leads_there));
        let mut crosses =
            users.map(|it| group.group.cross_zone.unwrap_or(it.balancer.attributes.cross_zone));
        crosses.any(|crosses| group.would_ask(target, crosses, now))
    }

    /// Where checks of a group's targets are told of.
    pub(crate) fn check_logs(&self, group: &GroupId) -> &[FileKey] {
        self.check_logs.get(group).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::SeqCst)
    }

    /// The interfaces that are about to go and at which something is open.
    fn busy(&self, open: &Counts) -> Vec<InterfaceRef> {
        let interfaces = self.listeners.values().flat_map(|live| &live.balancer.interfaces);
        let busy = interfaces.filter(|it| it.is_leaving && open.has(&it.eni));
        let busy: BTreeSet<InterfaceRef> = busy.map(Interface::reference).collect();
        busy.into_iter().collect()
    }

    /// What the region is told. `open`: what is open at interfaces.
    pub(crate) fn report(&self, node: &str, open: &Counts) -> Report {
        let targets = self.groups.values().flat_map(|group| &group.targets);
        let one = |Member { target, .. }: &Member| TargetReport {
            group: target.group.clone(),
            target: target.key.clone(),
            registered_at: target.registered_at,
            finding: target.finding(),
            in_flight: target.in_flight(),
            anomaly: target.anomaly(),
        };
        let targets = targets.map(one).collect();
        let (node, version, busy) = (node.to_owned(), self.version, self.busy(open));
        Report { node, version, targets, busy, ..Report::default() }
    }

    pub(crate) fn targets(
        &self,
    ) -> impl Iterator<Item = (&LiveGroup, &Arc<LiveTarget>, TargetState)> {
        self.groups
            .values()
            .flat_map(|group| group.targets.iter().map(move |it| (&**group, &it.target, it.state)))
    }
}

pub(crate) fn is_cut_at_the_end(group: &TargetGroup) -> bool {
    is_http(group) || group.cut_at_deregistration
}

/// How long after a target has become unhealthy what is open with it ends; none: it goes on. Flows may end, requests may
/// still be answered.
pub(crate) fn cut_after_unhealthy(group: &TargetGroup) -> Option<Duration> {
    match (is_http(group), group.cut_when_unhealthy, group.unhealthy_draining_s) {
        (true, _, _) | (false, false, 0) => None,
        (false, true, _) => Some(Duration::ZERO),
        (false, false, seconds) => Some(Duration::from_secs(u64::from(seconds))),
    }
}

pub(crate) fn is_http(group: &TargetGroup) -> bool {
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
        let (tls, shown) = match same {
            Some(old) => (old.tls.clone(), old.shown.clone()),
            None => tls::server_config(balancer, listener, &table.certificates).unzip(),
        };
        let certificates = tls::certificates(listener, table);
        let cookie_key = CookieKey::of(balancer);
        let balancer = Balancer { listeners: Vec::new(), ..balancer.clone() };
        let (listener, tallies) = (listener.clone(), Tallies::default());
        Self { balancer, listener, rules, tls, shown, cookie_key, certificates, tallies }
    }

    /// Where what comes to an interface of it is counted.
    pub(crate) fn figures(&self, came_to: Option<&InterfaceRef>) -> Option<&Arc<Figures>> {
        self.tallies.of(&self.balancer, came_to, None)
    }

    /// Where is counted what of that goes to a group.
    pub(crate) fn figures_of(
        &self,
        came_to: Option<&InterfaceRef>,
        group: &GroupId,
    ) -> Option<&Arc<Figures>> {
        self.tallies.of(&self.balancer, came_to, Some(group))
    }

    /// As logs name the certificate that a client was shown.
    pub(crate) fn certificate_for(&self, facts: Option<&TlsFacts>) -> String {
        let shown = facts.zip(self.shown.as_ref());
        let id = shown.and_then(|(facts, shown)| shown.to(facts.name.as_deref()));
        id.map_or_else(|| "-".to_owned(), |id| id.0.clone())
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
                old.targets.iter().map(|kept| &kept.target).find(|kept| {
                    (&kept.key, kept.registered_at, kept.address.ip(), kept.shows_identity)
                        == (
                            &target.key,
                            target.registered_at,
                            target.address,
                            target.shows_identity,
                        )
                })
            });
            let live_target = match kept {
                Some(kept) => Arc::clone(kept),
                None => {
                    let (id, changed) = (group.id.clone(), Arc::clone(changed));
                    changed.notify_one();
                    Arc::new(LiveTarget::new(id, target, now, changed, sockets.clone()))
                }
            };
            Member {
                target: live_target,
                state: target.state,
                zone: target.zone.clone(),
                part: target.part,
            }
        };
        // Sessions can be resumed as long as it is the same value.
        let same = old.filter(|old| old.group.identity == group.identity);
        let verifying = match same {
            Some(old) => old.verifying.clone(),
            None => group.identity.as_ref().and_then(Verifying::new),
        };
        Self {
            verifying,
            targets: group.targets.iter().map(live).collect(),
            group: TargetGroup { targets: Vec::new(), ..group.clone() },
            turns: old.map(|old| Arc::clone(&old.turns)).unwrap_or_default(),
        }
    }

    /// Of which zones its targets are used for somebody who came to a balancer's interface; none: to the machine itself.
    pub(crate) fn zones<'b>(
        &self,
        balancer: &'b Balancer,
        came_to: Option<&InterfaceRef>,
    ) -> Zones<'b> {
        Zones::of(balancer, &self.group, came_to)
    }

    /// Whether what a deregistered target still holds is cut when its delay is over. Flows of network balancers go on
    /// unless their group says otherwise.
    pub(crate) fn is_cut_at_the_end(&self) -> bool {
        is_cut_at_the_end(&self.group)
    }

    /// Whether a target may be asked, among those of its part, of all zones or of its own alone.
    fn would_ask(&self, target: &Arc<LiveTarget>, crosses: bool, now: Timestamp) -> bool {
        let own = self.targets.iter().find(|it| Arc::ptr_eq(&it.target, target));
        let zones = match own.and_then(|it| it.zone.as_deref()) {
            Some(zone) if !crosses => Zones::One(Some(zone)),
            Some(_) | None => Zones::All,
        };
        let targets = self.open(zones, own.map(|it| it.part), &[]);
        let candidates: Vec<_> = targets.iter().map(|target| target.candidate(now)).collect();
        let mut eligible = choose::eligible(&self.group, &candidates).into_iter();
        eligible.any(|at| Arc::ptr_eq(targets[at], target))
    }

    /// The targets that are used for somebody, of a part or of all, but those in `tried`.
    fn open<'g>(
        &'g self,
        zones: Zones<'g>,
        part: Option<u8>,
        tried: &[Arc<LiveTarget>],
    ) -> Vec<&'g Arc<LiveTarget>> {
        // There is nobody elsewhere: that traffic is led away does not end it.
        let is_moot = matches!(zones, Zones::AllBut(_))
            && !self.targets.iter().any(|it| zones.has(it.zone.as_deref()));
        let zones = if is_moot { Zones::All } else { zones };
        let used = self.targets.iter().filter(|it| zones.has(it.zone.as_deref()));
        let targets =
            used.filter(|it| part.is_none_or(|part| part == it.part)).map(|it| &it.target);
        targets.filter(|target| !tried.iter().any(|it| Arc::ptr_eq(it, target))).collect()
    }

    /// Chooses a target of a part by the group's algorithm, leaving out those in `tried`, and takes hold of it.
    pub(crate) fn choose(
        &self,
        zones: Zones<'_>,
        part: Option<u8>,
        tried: &[Arc<LiveTarget>],
        seed: u64,
        now: Timestamp,
    ) -> Option<Lease> {
        let open = self.open(zones, part, tried);
        // A target may go out of routing between the look and the hold; then it is looked at again.
        for round in 0..=open.len() as u64 {
            let candidates: Vec<_> = open.iter().map(|target| target.candidate(now)).collect();
            let eligible = choose::eligible(&self.group, &candidates);
            let turn = self.turns.next(zones);
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
        zones: Zones<'_>,
        part: Option<u8>,
        tried: &[Arc<LiveTarget>],
        hash: u64,
        now: Timestamp,
    ) -> Option<Lease> {
        let open = self.open(zones, part, &[]);
        let candidates: Vec<_> = open.iter().map(|target| target.candidate(now)).collect();
        let mut eligible = choose::eligible(&self.group, &candidates);
        eligible.retain(|at| !tried.iter().any(|tried| Arc::ptr_eq(tried, open[*at])));
        let count = u64::try_from(eligible.len()).ok()?;
        let first = usize::try_from(hash.checked_rem(count)?).ok()?;
        let (before, from) = eligible.split_at(first);
        from.iter().chain(before).find_map(|at| open[*at].lease())
    }

    /// Takes hold of the very target of a part that a cookie names, if it may be asked.
    pub(crate) fn hold(
        &self,
        zones: Zones<'_>,
        part: Option<u8>,
        is_it: impl Fn(&LiveTarget) -> bool,
        now: Timestamp,
    ) -> Option<Lease> {
        let targets = self.open(zones, part, &[]);
        let at = targets.iter().position(|target| is_it(target))?;
        let candidates: Vec<_> = targets.iter().map(|target| target.candidate(now)).collect();
        let is_eligible = choose::eligible(&self.group, &candidates).contains(&at);
        if is_eligible { targets[at].lease() } else { None }
    }
}
