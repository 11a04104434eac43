//! Which tasks go first when some must.
//!
//! As ECS documents it: the zone with the most tasks of the service gives first, in it the instance
//! with the most. What costs least goes before: what does not run yet, then what fails its health
//! checks, then what is not proven. ECS does not say which of equals goes; here the newest does,
//! so that what has served for long keeps serving.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use longshore_types::InstanceId;

use super::census::{Member, Standing};

/// The first `count` to go of those that may, in groups with the most dispensable first. The protected ones may not, but
/// they count where balance is looked at.
pub(super) fn termination<'a, 't>(members: &[&'a Member<'t>], count: usize) -> Vec<&'a Member<'t>> {
    let mut picked: Vec<&'a Member<'t>> = Vec::new();
    for class in [Standing::Pending, Standing::Failing, Standing::Unproven, Standing::Healthy] {
        if picked.len() >= count {
            break;
        }
        let may_go = |member: &&&'a Member<'t>| member.standing == class && !member.is_protected;
        let of_class = members.iter().filter(may_go).copied();
        if picked.len() + of_class.clone().count() <= count {
            // All of them go: there is nothing to weigh.
            picked.extend(of_class);
            continue;
        }
        // What went before has a lower standing: the rest is what the balance is about.
        let rest = members
            .iter()
            .copied()
            .filter(|member| member.standing >= class || member.is_protected);
        let mut shelves = Shelves::of(rest, class);
        while picked.len() < count
            && let Some(member) = shelves.take()
        {
            picked.push(member);
        }
    }
    picked
}

/// The tasks of one instance: how many there are, and which of them may go, newest last.
#[derive(Debug)]
struct Shelf<'a, 't> {
    tasks: usize,
    may_go: Vec<&'a Member<'t>>,
}

/// The instances of one zone.
#[derive(Debug, Default)]
struct Zone<'a, 't> {
    tasks: usize,
    shelves: BTreeMap<Option<InstanceId>, Shelf<'a, 't>>,
    /// Shelves that have something that may go, fullest last.
    fullest: BTreeSet<(usize, Reverse<Option<InstanceId>>)>,
}

#[derive(Debug)]
struct Shelves<'a, 't> {
    zones: BTreeMap<Option<&'t str>, Zone<'a, 't>>,
    fullest: BTreeSet<(usize, Reverse<Option<&'t str>>)>,
}

impl<'a, 't> Shelves<'a, 't> {
    fn of(members: impl Iterator<Item = &'a Member<'t>>, class: Standing) -> Self {
        let mut zones: BTreeMap<Option<&'t str>, Zone<'a, 't>> = BTreeMap::new();
        for member in members {
            let zone = zones.entry(member.task.zone.as_deref()).or_default();
            zone.tasks += 1;
            let shelf = zone
                .shelves
                .entry(member.task.instance)
                .or_insert_with(|| Shelf { tasks: 0, may_go: Vec::new() });
            shelf.tasks += 1;
            if member.standing == class && !member.is_protected {
                shelf.may_go.push(member);
            }
        }
        let mut fullest = BTreeSet::new();
        for (name, zone) in &mut zones {
            for (id, shelf) in &mut zone.shelves {
                if !shelf.may_go.is_empty() {
                    shelf.may_go.sort_by_key(|member| (member.task.times.created, member.task.id));
                    zone.fullest.insert((shelf.tasks, Reverse(*id)));
                }
            }
            if !zone.fullest.is_empty() {
                fullest.insert((zone.tasks, Reverse(*name)));
            }
        }
        Self { zones, fullest }
    }

    fn take(&mut self) -> Option<&'a Member<'t>> {
        let (_, Reverse(name)) = self.fullest.pop_last()?;
        let zone = self.zones.get_mut(&name)?;
        let (_, Reverse(id)) = zone.fullest.pop_last()?;
        let shelf = zone.shelves.get_mut(&id)?;
        let member = shelf.may_go.pop()?;
        shelf.tasks -= 1;
        zone.tasks -= 1;
        if !shelf.may_go.is_empty() {
            zone.fullest.insert((shelf.tasks, Reverse(id)));
        }
        if !zone.fullest.is_empty() {
            self.fullest.insert((zone.tasks, Reverse(name)));
        }
        Some(member)
    }
}
