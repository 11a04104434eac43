//! Which images hosts fetch before a task asks for them: those of services and task definitions that have a tag for it.
//!
//! That is not ECS's, which fetches an image when a task needs it. What is wanted follows from the rows and is kept in memory; a
//! session says it once, and a host that comes back is told again. Losing it costs a task's first start time, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use acs::message::{PrePull, ToAgent};
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Chain, ClusterName, Scope, TaskDefinitionId};
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
/// Task definitions that one host is told of in a session.
const WISHES_MAX: usize = 256;

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
    fn due(&self, instance: &Instance, since: u64) -> Option<(u64, BTreeSet<Wish>)> {
        let held = self.held();
        if held.version == since {
            return None;
        }
        let own = Place::Cluster(instance.scope.account, instance.cluster.clone());
        let places = [Some(own), instance.takes_fargate().then_some(Place::Fargate)];
        let wishes = places.iter().flatten().filter_map(|place| held.wishes.get(place));
        let wishes = wishes.flat_map(BTreeMap::values).take(WISHES_MAX).cloned();
        Some((held.version, wishes.collect()))
    }
}

/// What a session has said.
#[derive(Debug, Default)]
pub(crate) struct PrePullsTold {
    version: u64,
    wishes: BTreeSet<Wish>,
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
        let Some((version, wishes)) = due else { return Ok(()) };
        let view = self.sessions.control.view();
        for wish in wishes.difference(&self.pre_pulls.wishes) {
            let message_id = self.outbox.next_message_id();
            let Some(message) = self.pre_pull(&view, wish, message_id) else { continue };
            self.send(socket, &ToAgent::PrePull(message)).await?;
            debug!(definition = %wish.definition, instance = %self.instance.id, "pre-pull sent");
        }
        self.pre_pulls = PrePullsTold { version, wishes };
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
}
