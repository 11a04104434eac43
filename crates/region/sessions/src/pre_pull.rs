//! Which images hosts fetch before a task asks for them: those of services and task definitions that have a tag for it.
//!
//! That is not ECS's, which fetches an image when a task needs it. What is wanted follows from the rows and is kept in memory; a
//! session says it once, and a host that comes back is told again. Losing it costs a task's first start time, and nothing else.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use acs::message::{PrePull, ToAgent};
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Chain, ClusterName, Scope, TaskDefinitionId, Timestamp};
use model::service::{ServiceId, ServiceStatus};
use model::task::LaunchType;
use model::task_definition::{Compatibility, TaskDefinition, TaskDefinitionStatus};
use model::{Index, Instance, Key, View};
use store::Change;
use tracing::{debug, warn};

use crate::Sessions;
use crate::handshake::Socket;
use crate::payload;
use crate::work::{End, Session};

/// The tag. A service has it with the value `true`; a task definition with the name of the cluster whose hosts shall have its images.
const TAG: &str = "longshore.pre-pull";
const ON: &str = "true";
/// Task definitions that one host is told of in a session, and of these an account's. Each account's first ones come before
/// anybody's later ones.
const WISHES_MAX: usize = 256;
const WISHES_OF_ACCOUNT_MAX: usize = 64;
/// Messages that leave at one look: tasks wait for the same socket.
const TOLD_AT_ONCE_MAX: usize = 8;
/// How many times within so long a host is told of images for the same asker: each registration may name others.
const ASKER_TIMES_MAX: u32 = 5;
const ASKER_PERIOD_MS: u64 = 5 * 60_000;

/// Who wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    Service(AccountId, ServiceId),
    Definition(AccountId, TaskDefinitionId),
}

/// Whose hosts shall have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Cluster(AccountId, ClusterName),
    /// All that are offered for Fargate.
    Fargate,
}

/// The images of a task definition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wish {
    pub(crate) account: AccountId,
    pub(crate) definition: TaskDefinitionId,
    /// What the names of images mean to a service's revision, by container.
    pub(crate) digests: Vec<(String, String)>,
}

/// What is wanted now.
#[derive(Debug, Default)]
pub(crate) struct PrePulls(Mutex<Wanted>);

#[derive(Debug, Default)]
struct Wanted {
    places: BTreeMap<Asker, Place>,
    wishes: BTreeMap<Place, BTreeMap<Asker, Wish>>,
    /// Grows with each change.
    version: u64,
}

impl PrePulls {
    fn held(&self) -> MutexGuard<'_, Wanted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_of(&self, asker: &Asker) -> bool {
        self.held().places.contains_key(asker)
    }

    fn set(&self, asker: &Asker, wanted: Option<(Place, Wish)>) {
        let mut held = self.held();
        let now = wanted.as_ref().map(|(place, wish)| (place, Some(wish)));
        let before = held.places.get(asker);
        let before = before.map(|it| (it, held.wishes.get(it).and_then(|all| all.get(asker))));
        if before == now {
            return;
        }
        held.version += 1;
        if let Some(place) = held.places.remove(asker)
            && let Some(wishes) = held.wishes.get_mut(&place)
        {
            wishes.remove(asker);
            if wishes.is_empty() {
                held.wishes.remove(&place);
            }
        }
        if let Some((place, wish)) = wanted {
            held.places.insert(asker.clone(), place.clone());
            held.wishes.entry(place).or_default().insert(asker.clone(), wish);
        }
    }

    /// What an instance's host shall have, unless nothing has changed since a version; and which version that is.
    fn due(&self, instance: &Instance, since: u64) -> Option<(u64, BTreeMap<Asker, Wish>)> {
        let held = self.held();
        if held.version == since {
            return None;
        }
        let own = Place::Cluster(instance.scope.account, instance.cluster.clone());
        let places = [Some(own), instance.takes_fargate().then_some(Place::Fargate)];
        let wishes = places.iter().flatten().filter_map(|place| held.wishes.get(place));
        Some((held.version, in_turns(wishes.flatten())))
    }
}

/// As many as a host is told of: each account's first, then each one's second, and so on.
fn in_turns<'w>(wishes: impl Iterator<Item = (&'w Asker, &'w Wish)>) -> BTreeMap<Asker, Wish> {
    let mut of_accounts = BTreeMap::<AccountId, Vec<(&Asker, &Wish)>>::new();
    for (asker, wish) in wishes {
        let own = of_accounts.entry(wish.account).or_default();
        if own.len() < WISHES_OF_ACCOUNT_MAX {
            own.push((asker, wish));
        }
    }
    let turns = (0..WISHES_OF_ACCOUNT_MAX)
        .flat_map(|turn| of_accounts.values().filter_map(move |own| own.get(turn).copied()));
    turns.take(WISHES_MAX).map(|(asker, wish)| (asker.clone(), wish.clone())).collect()
}

/// What a session has said.
#[derive(Debug, Default)]
pub(crate) struct PrePullsTold {
    version: u64,
    /// What was last said for whom.
    told: BTreeMap<Asker, Told>,
}

#[derive(Debug)]
struct Told {
    wish: Wish,
    /// When this period began, and how often it was something in it.
    since: Timestamp,
    times: u32,
}

impl Told {
    fn is_in_period(&self, now: Timestamp) -> bool {
        self.since <= now && now.since_ms(self.since) < ASKER_PERIOD_MS
    }
}

impl PrePullsTold {
    /// What is to be said now of what is wanted, and whether that leaves nothing to be said later. An asker whose images were
    /// others all the time waits.
    fn next(
        &mut self,
        wanted: &BTreeMap<Asker, Wish>,
        now: Timestamp,
    ) -> (Vec<(Asker, Wish)>, bool) {
        self.told.retain(|asker, _| wanted.contains_key(asker));
        let is_new = |(asker, wish): &(&Asker, &Wish)| {
            self.told.get(*asker).is_none_or(|said| said.wish != **wish)
        };
        let fresh: Vec<(&Asker, &Wish)> = wanted.iter().filter(is_new).collect();
        let rests = |asker: &Asker| {
            let told = self.told.get(asker);
            told.is_some_and(|told| told.is_in_period(now) && ASKER_TIMES_MAX <= told.times)
        };
        let due = fresh.iter().filter(|(asker, _)| !rests(asker)).take(TOLD_AT_ONCE_MAX);
        let due: Vec<_> = due.map(|(asker, wish)| ((*asker).clone(), (*wish).clone())).collect();
        let is_all = due.len() == fresh.len();
        (due, is_all)
    }

    fn note(&mut self, asker: Asker, wish: Wish, now: Timestamp) {
        let before = self.told.get(&asker).filter(|told| told.is_in_period(now));
        let (since, times) = before.map_or((now, 1), |told| (told.since, told.times + 1));
        self.told.insert(asker, Told { wish, since, times });
    }
}

/// Finds out what is wanted when a service or a task definition with the tag changes.
#[derive(Debug)]
pub(crate) struct PrePullWishes {
    pub(crate) sessions: Arc<Sessions>,
}

fn wanted(view: &View, asker: &Asker) -> Option<(Place, Wish)> {
    match asker {
        Asker::Service(account, id) => {
            let service = view.services.get(*account, id)?;
            let is_asked = service.tags.get(TAG).is_some_and(|value| value == ON)
                && service.status == ServiceStatus::Active;
            let revision = service.revision.filter(|_| is_asked)?;
            let revision = view.revision_of(*account, id, revision)?;
            let place = match revision.capacity.launch() {
                LaunchType::Fargate => Place::Fargate,
                LaunchType::Ec2 | LaunchType::External => {
                    Place::Cluster(*account, service.cluster.clone())
                }
            };
            let digests = revision
                .images
                .iter()
                .filter_map(|image| Some((image.container.clone(), image.digest.clone()?)));
            let digests = digests.collect();
            let definition = revision.definition.clone();
            Some((place, Wish { account: *account, definition, digests }))
        }
        Asker::Definition(account, id) => {
            let row = view.task_definitions.get(*account, id)?;
            let cluster = row.tags.get(TAG)?;
            let last = view.families.get(*account, &id.family)?.last_revision;
            if row.status != TaskDefinitionStatus::Active || last != id.revision {
                return None;
            }
            let place = place_of(row, cluster)?;
            let (account, definition) = (*account, id.clone());
            Some((place, Wish { account, definition, digests: Vec::new() }))
        }
    }
}

/// Where a task definition's tasks are expected; nothing where the tag names no cluster.
fn place_of(row: &TaskDefinition, cluster: &str) -> Option<Place> {
    match row.requires_compatibilities.as_slice() {
        [Compatibility::Fargate] => Some(Place::Fargate),
        _ => Some(Place::Cluster(row.account, cluster.parse().ok()?)),
    }
}

impl Reconciler for PrePullWishes {
    type Key = Asker;
    type Note = ();
    type Error = Infallible;

    fn name(&self) -> &'static str {
        "pre-pulls"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Asker>) {
        let (asker, is_tagged) = if let Key::Service(account, id) = &change.key {
            let tagged = view.services.get(*account, id);
            let is_tagged = tagged.is_some_and(|row| row.tags.contains_key(TAG));
            (Asker::Service(*account, id.clone()), is_tagged)
        } else if let Key::TaskDefinition(account, id) = &change.key {
            // The one before it is wanted no more.
            if let Some(before) = id.revision.checked_sub(1) {
                let before = TaskDefinitionId { family: id.family.clone(), revision: before };
                let before = Asker::Definition(*account, before);
                if self.sessions.pre_pulls.is_of(&before) {
                    queue.changed(&before, change.seq);
                }
            }
            let tagged = view.task_definitions.get(*account, id);
            let is_tagged = tagged.is_some_and(|row| row.tags.contains_key(TAG));
            (Asker::Definition(*account, id.clone()), is_tagged)
        } else {
            // Rows of other kinds name no images.
            return;
        };
        if is_tagged || self.sessions.pre_pulls.is_of(&asker) {
            queue.changed(&asker, change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Asker> {
        let services = view.members(&Index::LiveServices).filter_map(|key| {
            let Key::Service(account, id) = key else { return None };
            view.services.get(*account, id)?.tags.get(TAG)?;
            Some(Asker::Service(*account, id.clone()))
        });
        let definitions = view.task_definitions.iter().filter(|row| row.tags.contains_key(TAG));
        let definitions = definitions.map(|row| Asker::Definition(row.account, row.id.clone()));
        services.chain(definitions).collect()
    }

    fn pass(&self, asker: &Asker) -> PassFuture<Result<Pass<()>, Infallible>> {
        let (sessions, asker) = (Arc::clone(&self.sessions), asker.clone());
        Box::pin(async move {
            let view = sessions.control.view();
            sessions.pre_pulls.set(&asker, wanted(&view, &asker));
            Ok(Pass { looked_at: view.seq, is_over: true, ..Pass::default() })
        })
    }
}

impl Session<'_> {
    /// Says what is new of the images that the host shall have.
    pub(crate) async fn tell_of_pre_pulls(&mut self, socket: &mut Socket) -> Result<(), End> {
        if !self.is_ours {
            return Ok(());
        }
        let due = self.sessions.pre_pulls.due(self.instance, self.pre_pulls.version);
        let Some((version, wanted)) = due else { return Ok(()) };
        let (view, now) = (self.sessions.control.view(), self.sessions.control.clock.now());
        let (next, is_all) = self.pre_pulls.next(&wanted, now);
        for (asker, wish) in next {
            let message_id = self.outbox.next_message_id();
            if let Some(message) = self.pre_pull(&view, &wish, message_id) {
                self.send(socket, &ToAgent::PrePull(message)).await?;
                debug!(definition = %wish.definition, instance = %self.instance.id, "pre-pull sent");
            }
            self.pre_pulls.note(asker, wish, now);
        }
        // Otherwise the next look goes on.
        if is_all {
            self.pre_pulls.version = version;
        }
        Ok(())
    }

    fn pre_pull(&self, view: &View, wish: &Wish, message_id: String) -> Option<PrePull> {
        let control = &self.sessions.control;
        let row = view.task_definitions.get(wish.account, &wish.definition)?;
        let definition = match self.sessions.documents.read(row) {
            Ok(definition) => definition,
            Err(error) => {
                warn!(definition = %wish.definition, error = %Chain(&error), "unreadable");
                return None;
            }
        };
        let scope = Scope { region: control.config.region.clone(), account: wish.account };
        let ahead = payload::Ahead { control, view, definition: &definition, scope: &scope, wish };
        match ahead.pre_pull() {
            Ok(pre_pull) => Some(PrePull { header: self.header(message_id), ..pre_pull }),
            Err(unassumable) => {
                // A task of it will say so too, to whom it concerns.
                debug!(definition = %wish.definition, why = %unassumable.why, "nothing is fetched ahead");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(name: &str) -> Asker {
        let (account, cluster) = ("000000000001".parse().unwrap(), "web".parse().unwrap());
        Asker::Service(account, ServiceId { cluster, name: name.parse().unwrap() })
    }

    fn wish(revision: u32) -> Wish {
        let definition = TaskDefinitionId { family: "web".parse().unwrap(), revision };
        Wish { account: "000000000001".parse().unwrap(), definition, digests: Vec::new() }
    }

    #[test]
    fn what_is_wanted_is_what_was_said_last_and_only_a_change_makes_it_new() {
        let pulls = PrePulls::default();
        let version = || pulls.held().version;
        pulls.set(&asker("a"), Some((Place::Fargate, wish(1))));
        let first = version();
        pulls.set(&asker("a"), Some((Place::Fargate, wish(1))));
        assert_eq!(version(), first);
        pulls.set(&asker("a"), Some((Place::Fargate, wish(2))));
        assert!(first < version());
        let own = Place::Cluster("000000000001".parse().unwrap(), "web".parse().unwrap());
        pulls.set(&asker("a"), Some((own.clone(), wish(2))));
        let held = pulls.held();
        assert_eq!(held.wishes.keys().collect::<Vec<_>>(), [&own]);
        drop(held);
        pulls.set(&asker("a"), None);
        let held = pulls.held();
        assert!(held.wishes.is_empty() && held.places.is_empty());
    }

    fn of(account: u8, number: u32) -> (Asker, Wish) {
        let account: AccountId = format!("{account:012}").parse().unwrap();
        let wish = Wish { account, ..wish(number) };
        (Asker::Definition(account, wish.definition.clone()), wish)
    }

    #[test]
    fn no_account_keeps_others_from_being_told_of() {
        let mut all: BTreeMap<Asker, Wish> = (1..=1_000).map(|number| of(1, number)).collect();
        all.extend((1..=3).map(|number| of(9, number)));
        let told = in_turns(all.iter());
        let count =
            |account: u8| told.values().filter(|it| it.account == of(account, 1).1.account).count();
        assert_eq!((count(1), count(9)), (WISHES_OF_ACCOUNT_MAX, 3));

        let crowd: BTreeMap<Asker, Wish> =
            (1..=100).flat_map(|account| (1..=10).map(move |number| of(account, number))).collect();
        let told = in_turns(crowd.iter());
        assert_eq!(told.len(), WISHES_MAX);
        for account in 1..=100 {
            let own = told.values().filter(|it| it.account == of(account, 1).1.account).count();
            assert!((2..=3).contains(&own), "{account}: {own}");
        }
    }

    #[test]
    fn little_is_said_at_once_and_for_the_same_asker_not_again_soon() {
        let wanted: BTreeMap<Asker, Wish> = (1..=10).map(|number| of(1, number)).collect();
        let (mut told, now) = (PrePullsTold::default(), Timestamp(1_000_000_000));
        let mut say = |wanted: &BTreeMap<Asker, Wish>, now| {
            let (next, is_all) = told.next(wanted, now);
            let count = next.len();
            for (asker, wish) in next {
                told.note(asker, wish, now);
            }
            (count, is_all)
        };
        assert_eq!(say(&wanted, now), (TOLD_AT_ONCE_MAX, false));
        assert_eq!(say(&wanted, now), (2, true));
        assert_eq!(say(&wanted, now), (0, true));
        let mut changed = wanted.clone();
        let mut change = |nth: u32| {
            let first = changed.values_mut().next().unwrap();
            first.digests.push(("web".to_owned(), format!("sha256:{nth}")));
            changed.clone()
        };
        for nth in 2..=ASKER_TIMES_MAX {
            assert_eq!(say(&change(nth), now.plus_ms(1_000)), (1, true), "{nth}");
        }
        assert_eq!(say(&change(90), now.plus_ms(1_000)), (0, false));
        assert_eq!(say(&change(91), now.plus_ms(ASKER_PERIOD_MS)), (1, true));
        // A clock that was set back does not keep it waiting.
        assert_eq!(say(&change(92), Timestamp(5)), (1, true));
    }
}
