//! On which hosts the interfaces of load balancers are: [`place`] is a function of a view and a time.
//!
//! Each is on a host of its zone that has joined, spread over those that there are; where there is none it is on the region's
//! own machine. Where a host is lost, its interfaces go elsewhere at once; where it drains, or a better place has come, the
//! balancer's name leaves their addresses out for a while first, for those who know them from before, and what is open there
//! goes on for some minutes at most. Where an agent lives
//! and nobody takes connections, they go elsewhere too, and that host is passed over for a while, each time for longer.
//!
//! **Invariants:** an internet-facing balancer keeps one interface on the region's own machine, if there is an agent: at
//! that machine's address it is reached, and targets from there by an interface alone. One with targets of type `instance` is
//! there wholly, since those are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_types::{AccountId, InstanceId, Timestamp};
use model::elb::{BalancerZone, GroupTargets, PassedOver, Stand, StandState, balancer_path};
use model::instance::InstanceStatus;
use model::{ElbBalancer, Index, Instance, Key, View};

/// After its host was silent for so long an interface is not named any more: an agent that was started again is back by then.
const SILENCE_MS_MAX: u64 = 5_000;
/// And after so long it goes elsewhere.
const LOST_AFTER_MS: u64 = 15_000;
/// How long one that is about to go serves on for those who know its address: an answer holds for a third of that.
pub const LEAVE_MS: u64 = 30_000;
/// How much longer, while connections are open at it.
const BUSY_MS_MAX: u64 = 5 * 60_000;
/// How soon it is looked again whether they are.
const BUSY_LOOK_MS: u64 = 2_000;
/// After the agent of the region's own machine was silent for so long there is none. Interfaces are there without it, but no
/// new ones, and a region that is run without an agent from now on has none any more.
const GONE_MS: u64 = 5 * 60_000;
/// How long nobody takes connections at one that has come before it goes elsewhere.
const COMING_MS_MAX: u64 = 60_000;
/// How long a host is passed over then. Doubled each time, and forgotten so long after it could have been tried again.
const PASS_OVER_MS: u64 = 10 * 60_000;
const PASS_OVER_DOUBLED_MAX: u32 = 7;
/// Hosts of which an interface remembers that. The region's own machine is what remains.
const PASSED_OVER_MAX: usize = 8;

/// What is to become of balancers' places.
#[derive(Debug, Default)]
pub struct Placement {
    /// The balancers of which an interface goes elsewhere, or is otherwise than before.
    pub changed: Vec<ElbBalancer>,
    /// The instances that were chosen.
    pub chosen: Vec<(AccountId, InstanceId)>,
    /// When to look again though nothing has happened.
    pub again_at: Option<Timestamp>,
}

/// When it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Timestamp,
    /// Since when processes can say that they serve: the region's start.
    pub heard_since: Timestamp,
}

/// Whether connections are open at an interface, as far as its process says.
pub type IsBusy<'a> = &'a dyn Fn(&BalancerZone) -> bool;

/// Looks at all balancers.
pub fn place(
    view: &View,
    is_own: impl Fn(&Instance) -> bool,
    is_busy: IsBusy<'_>,
    at: Moment,
) -> Placement {
    let mut planner = Planner::of(view, is_own, is_busy, at);
    for row in view.elb_balancers.iter() {
        let mut next = ElbBalancer::clone(row);
        planner.place(&mut next);
        if next != **row {
            planner.placement.changed.push(next);
        }
    }
    planner.placement
}

/// The instance of the region's own machine: the one that is connected, or came last.
pub fn own_machine(view: &View, is_own: impl Fn(&Instance) -> bool) -> Option<&Arc<Instance>> {
    let own = view.instances.iter().filter(|row| row.status < InstanceStatus::Inactive);
    own.filter(|row| is_own(row)).max_by_key(|row| (row.agent.connected, row.registered_at, row.id))
}

struct Planner<'v> {
    view: &'v View,
    home: Option<&'v Instance>,
    /// Those on which interfaces may be put, with how many there are.
    hosts: BTreeMap<InstanceId, (&'v Instance, usize)>,
    /// Those of them that some interface passes over: they are no other's first choice.
    suspects: BTreeSet<InstanceId>,
    is_busy: IsBusy<'v>,
    now: Timestamp,
    heard_since: Timestamp,
    placement: Placement,
}

impl<'v> Planner<'v> {
    fn of(
        view: &'v View,
        is_own: impl Fn(&Instance) -> bool,
        is_busy: IsBusy<'v>,
        at: Moment,
    ) -> Self {
        let home = own_machine(view, &is_own).map(Arc::as_ref);
        let silent_since = home.and_then(|row| row.agent.silent_since());
        let gone_at = silent_since.map(|it| it.max(at.heard_since).plus_ms(GONE_MS));
        let home = home.filter(|_| gone_at.is_none_or(|gone_at| at.now < gone_at));
        let again_at = gone_at.filter(|gone_at| at.now < *gone_at);
        let hosts = view.instances.iter().map(Arc::as_ref).filter(|row| {
            row.status == InstanceStatus::Active
                && row.agent.connected
                && row.serves_balancers()
                && !is_own(row)
        });
        let mut hosts: BTreeMap<_, _> = hosts.map(|row| (row.id, (row, 0))).collect();
        for zone in view.elb_balancers.iter().flat_map(|row| row.interfaces()) {
            if let Some((_, count)) = zone.stand.host.and_then(|host| hosts.get_mut(&host)) {
                *count += 1;
            }
        }
        let Moment { now, heard_since } = at;
        let zones = view.elb_balancers.iter().flat_map(|row| &row.zones);
        let suspects = zones.flat_map(|zone| &zone.passed_over).filter(|it| now < it.until);
        let suspects = suspects.map(|it| it.host).collect();
        let placement = Placement { again_at, ..Placement::default() };
        Self { view, home, hosts, suspects, is_busy, now, heard_since, placement }
    }

    fn place(&mut self, row: &mut ElbBalancer) {
        let kept = self.kept_at_home(row);
        for at in 0..row.zones.len() {
            let is_kept = kept.all || kept.one == Some(at);
            self.remember(&mut row.zones[at]);
            let before = row.zones[at].stand;
            let next = self.next(row, at, is_kept);
            row.zones[at].stand = next;
            if before.host != next.host {
                self.count(before.host, next.host);
            }
        }
        let lingering = row.leaving.iter().filter(|zone| self.lingers(row, zone));
        row.leaving = lingering.cloned().collect();
    }

    /// Whether an interface whose subnet was taken away goes on.
    fn lingers(&mut self, row: &ElbBalancer, zone: &BalancerZone) -> bool {
        let StandState::Leaving { at } = zone.stand.state else { return false };
        let is_lost = zone.stand.host.is_some_and(|host| {
            let instance = self.view.instance_of_any(host);
            let instance = instance.filter(|it| it.status < InstanceStatus::Inactive);
            instance.is_none_or(|it| LOST_AFTER_MS <= self.silent_ms(it))
        });
        !is_lost && !self.is_time(row, zone, at)
    }

    fn silent_ms(&self, instance: &Instance) -> u64 {
        instance.agent.silent_since().map_or(0, |since| self.now.since_ms(since))
    }

    /// Whether the time is over of an interface that leaves at some time, or later if connections are open at it. While its
    /// address is named for want of another, new ones come all the time, and nothing is gained by waiting.
    fn is_time(&mut self, row: &ElbBalancer, zone: &BalancerZone, at: Timestamp) -> bool {
        let until = at.plus_ms(BUSY_MS_MAX);
        if self.now < at {
            self.look_again(at);
            return false;
        }
        if until <= self.now || row.names(zone) || !(self.is_busy)(zone) {
            return true;
        }
        self.look_again(until.min(self.now.plus_ms(BUSY_LOOK_MS)));
        false
    }

    /// Forgets hosts at which it is served, and those of long ago; passes over the one that it is on if nobody serves there.
    fn remember(&mut self, zone: &mut BalancerZone) {
        let (now, stand) = (self.now, zone.stand);
        zone.passed_over.retain(|it| {
            let serves = stand.host == Some(it.host) && stand.state == StandState::Serving;
            !serves && now.since_ms(it.until) < pass_over_ms(it.times)
        });
        if let (Some(host), StandState::Coming { since }) = (stand.host, stand.state) {
            let waited_until = since.max(self.heard_since).plus_ms(COMING_MS_MAX);
            if now < waited_until {
                self.look_again(waited_until);
            } else if !self.is_passed_over(zone, host) {
                let known = zone.passed_over.iter().position(|it| it.host == host);
                let times = known.map_or(0, |at| zone.passed_over.remove(at).times);
                let until = now.plus_ms(pass_over_ms(times));
                zone.passed_over.push(PassedOver { host, until, times: times.saturating_add(1) });
                if PASSED_OVER_MAX < zone.passed_over.len() {
                    zone.passed_over.remove(0);
                }
                self.suspects.insert(host);
            }
        }
        for it in zone.passed_over.iter().filter(|it| now < it.until) {
            self.look_again(it.until);
        }
    }

    fn is_passed_over(&self, zone: &BalancerZone, host: InstanceId) -> bool {
        zone.passed_over.iter().any(|it| it.host == host && self.now < it.until)
    }

    /// Which interfaces are on the region's own machine, whatever other hosts there are.
    fn kept_at_home(&self, row: &ElbBalancer) -> Kept {
        let Some(home) = self.home else { return Kept::default() };
        if forwards_to_instances(self.view, row) {
            return Kept { all: true, one: None };
        }
        if row.is_internal {
            return Kept::default();
        }
        let is_in_zone = |zone: &BalancerZone| home.zone() == Some(zone.zone.as_str());
        let is_there = |zone: &BalancerZone| zone.stand.host.is_none();
        let zones = || row.zones.iter();
        let one = zones()
            .position(|zone| is_there(zone) && is_in_zone(zone))
            .or_else(|| zones().position(is_in_zone))
            .or_else(|| zones().position(|zone| is_there(zone) && !self.has_host(row, zone)))
            .or_else(|| zones().position(is_there))
            .or((!row.zones.is_empty()).then_some(0));
        Kept { all: false, one }
    }

    fn has_host(&self, row: &ElbBalancer, zone: &BalancerZone) -> bool {
        self.of_zone(row, zone, None).is_some()
    }

    /// How an interface is to be from now on.
    fn next(&mut self, row: &ElbBalancer, at: usize, is_kept: bool) -> Stand {
        let zone = &row.zones[at];
        let stand = zone.stand;
        let Some(host) = stand.host else {
            let better = if is_kept { None } else { self.of_zone(row, zone, None) };
            let better = better.or_else(|| match self.home {
                None => self.of_any_zone(row, zone, None),
                Some(_) => None,
            });
            return match better {
                Some(host) => self.leave(row, zone, Some(host)),
                None => stays(stand),
            };
        };
        let instance = self.view.instance_of_any(host);
        let is_for = |it: &Instance| it.takes_fargate() || it.scope.account == row.scope.account;
        let instance = instance.filter(|it| {
            it.status < InstanceStatus::Inactive && it.serves_balancers() && is_for(it)
        });
        let silent_since = instance.map(|it| it.agent.silent_since());
        let silent_ms = match silent_since {
            Some(None) => 0,
            Some(Some(since)) => self.now.since_ms(since),
            None => LOST_AFTER_MS,
        };
        let is_draining = instance.is_some_and(|it| it.status == InstanceStatus::Draining);
        let is_lost = LOST_AFTER_MS <= silent_ms;
        // Its agent lives, and nobody takes connections.
        let is_coming = matches!(stand.state, StandState::Coming { .. });
        let is_unserved = is_coming && self.is_passed_over(zone, host);
        if is_lost || is_draining || is_kept || is_unserved {
            let other = match is_kept {
                true => Some(None),
                false => self.elsewhere(row, zone, host),
            };
            match other {
                Some(other) if is_lost => return self.come(other),
                Some(other) => return self.leave(row, zone, other),
                // Nowhere is better than there, if it comes back.
                None if is_lost => return Stand { state: StandState::Away, ..stand },
                None => {}
            }
        }
        if let Some(since) = silent_since.flatten() {
            if silent_ms < SILENCE_MS_MAX {
                self.look_again(since.plus_ms(SILENCE_MS_MAX));
                return stand;
            }
            self.look_again(since.plus_ms(LOST_AFTER_MS));
            return Stand { state: StandState::Away, ..stand };
        }
        match stand.state {
            // Whether its process still takes connections it says next.
            StandState::Away => self.come(Some(host)),
            StandState::Coming { .. } | StandState::Serving | StandState::Leaving { .. } => {
                stays(stand)
            }
        }
    }

    fn look_again(&mut self, at: Timestamp) {
        let again_at = &mut self.placement.again_at;
        *again_at = Some(again_at.map_or(at, |before| before.min(at)));
    }

    /// Elsewhere, once those who know the address from before have had their time.
    fn leave(&mut self, row: &ElbBalancer, zone: &BalancerZone, host: Option<InstanceId>) -> Stand {
        let stand = zone.stand;
        let at = match stand.state {
            // Nobody serves there yet.
            StandState::Coming { .. } => return self.come(host),
            // Also if its agent is silent: the process serves on.
            StandState::Serving | StandState::Away => self.now.plus_ms(LEAVE_MS),
            StandState::Leaving { at } => at,
        };
        if self.is_time(row, zone, at) {
            return self.come(host);
        }
        Stand { state: StandState::Leaving { at }, ..stand }
    }

    fn come(&mut self, host: Option<InstanceId>) -> Stand {
        let chosen = host.and_then(|host| self.hosts.get(&host));
        self.placement.chosen.extend(chosen.map(|(row, _)| (row.scope.account, row.id)));
        Stand::coming(host, self.now)
    }

    /// Another place than a host: one of the zone, the region's own machine, any. None: there is none.
    fn elsewhere(
        &self,
        row: &ElbBalancer,
        zone: &BalancerZone,
        host: InstanceId,
    ) -> Option<Option<InstanceId>> {
        if let Some(other) = self.of_zone(row, zone, Some(host)) {
            return Some(Some(other));
        }
        match self.home {
            Some(_) => Some(None),
            None => self.of_any_zone(row, zone, Some(host)).map(Some),
        }
    }

    fn of_zone(
        &self,
        row: &ElbBalancer,
        zone: &BalancerZone,
        not: Option<InstanceId>,
    ) -> Option<InstanceId> {
        self.least(row, zone, not, |host| host.zone() == Some(&*zone.zone))
    }

    fn of_any_zone(
        &self,
        row: &ElbBalancer,
        zone: &BalancerZone,
        not: Option<InstanceId>,
    ) -> Option<InstanceId> {
        self.least(row, zone, not, |_| true)
    }

    /// The host with the fewest interfaces, of this balancer first and then of all; last those at which some other is not
    /// served.
    fn least(
        &self,
        row: &ElbBalancer,
        zone: &BalancerZone,
        not: Option<InstanceId>,
        is_fit: impl Fn(&Instance) -> bool,
    ) -> Option<InstanceId> {
        let hosts = self.hosts.iter().filter(|(id, (host, _))| {
            // A host that is offered to one account alone is not shown what is another's.
            let is_for = host.takes_fargate() || host.scope.account == row.scope.account;
            is_for && Some(**id) != not && is_fit(host) && !self.is_passed_over(zone, **id)
        });
        let of_this = |id: InstanceId| row.zones_on(Some(id)).count();
        let rank = |id: InstanceId, count| (self.suspects.contains(&id), of_this(id), count, id);
        hosts.map(|(id, (_, count))| rank(*id, *count)).min().map(|(.., id)| id)
    }

    fn count(&mut self, from: Option<InstanceId>, to: Option<InstanceId>) {
        if let Some((_, count)) = from.and_then(|host| self.hosts.get_mut(&host)) {
            *count = count.saturating_sub(1);
        }
        if let Some((_, count)) = to.and_then(|host| self.hosts.get_mut(&host)) {
            *count += 1;
        }
    }
}

/// Interfaces of a balancer that are on the region's own machine in any case.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    all: bool,
    one: Option<usize>,
}

fn pass_over_ms(times: u32) -> u64 {
    PASS_OVER_MS << times.min(PASS_OVER_DOUBLED_MAX)
}

/// Where it is it stays, also if it was to leave.
fn stays(stand: Stand) -> Stand {
    match stand.state {
        StandState::Coming { .. } | StandState::Serving => stand,
        StandState::Away | StandState::Leaving { .. } => {
            Stand { state: StandState::Serving, ..stand }
        }
    }
}

/// Whether something of a balancer forwards to targets that are ports of the region's own machine.
fn forwards_to_instances(view: &View, row: &ElbBalancer) -> bool {
    let (account, path) = (row.scope.account, row.path());
    let groups = view.elb_groups.of(account).filter(|it| it.targets == GroupTargets::Instance);
    let mut users = groups.flat_map(|group| view.members(&Index::ElbUsers(account, group.path())));
    users.any(|key| {
        let (Key::ElbListener(_, user) | Key::ElbRule(_, user)) = key else { return false };
        balancer_path(user) == &*path
    })
}

#[cfg(test)]
mod tests;
