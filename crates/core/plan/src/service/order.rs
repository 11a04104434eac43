//! In which order tasks are stopped when some must be.
//!
//! As ECS documents it: the zone with the most tasks of the service gives first, in it the instance
//! with the most. What costs least goes before: what does not run yet, then what fails its health
//! checks, then what is not proven. ECS does not say which of equals goes; here the newest does,
//! so that what has served for long keeps serving.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use longshore_types::InstanceId;

use super::inventory::{Readiness, TaskView};

/// Up to `count` tasks to stop, lowest readiness first. Protected tasks are never picked, but count towards the
/// number of tasks of their zone and instance.
pub(super) fn termination<'a, 't>(
    views: &[&'a TaskView<'t>],
    count: usize,
) -> Vec<&'a TaskView<'t>> {
    let mut picked: Vec<&'a TaskView<'t>> = Vec::new();
    for class in [Readiness::Pending, Readiness::Failing, Readiness::Unproven, Readiness::Healthy] {
        if picked.len() >= count {
            break;
        }
        let may_go = |view: &&&'a TaskView<'t>| view.readiness == class && !view.is_protected;
        let of_class = views.iter().filter(may_go).copied();
        if picked.len() + of_class.clone().count() <= count {
            // All of them go: there is nothing to weigh.
            picked.extend(of_class);
            continue;
        }
        // Tasks of a lower readiness are picked already, so zones and instances are compared by the rest.
        let rest =
            views.iter().copied().filter(|view| view.readiness >= class || view.is_protected);
        let mut shelves = Shelves::of(rest, class);
        while picked.len() < count
            && let Some(view) = shelves.take()
        {
            picked.push(view);
        }
    }
    picked
}

/// The tasks of one instance: how many there are, and which of them may be stopped, newest last.
#[derive(Debug)]
struct Shelf<'a, 't> {
    tasks: usize,
    may_go: Vec<&'a TaskView<'t>>,
}

/// The instances of one zone.
#[derive(Debug, Default)]
struct Zone<'a, 't> {
    tasks: usize,
    shelves: BTreeMap<Option<InstanceId>, Shelf<'a, 't>>,
    /// Instances with a task that may be stopped, by number of tasks; the fullest is taken next.
    fullest: BTreeSet<(usize, Reverse<Option<InstanceId>>)>,
}

#[derive(Debug)]
struct Shelves<'a, 't> {
    zones: BTreeMap<Option<&'t str>, Zone<'a, 't>>,
    fullest: BTreeSet<(usize, Reverse<Option<&'t str>>)>,
}

impl<'a, 't> Shelves<'a, 't> {
    fn of(views: impl Iterator<Item = &'a TaskView<'t>>, class: Readiness) -> Self {
        let mut zones: BTreeMap<Option<&'t str>, Zone<'a, 't>> = BTreeMap::new();
        for view in views {
            let zone = zones.entry(view.task.zone.as_deref()).or_default();
            zone.tasks += 1;
            let shelf = zone
                .shelves
                .entry(view.task.instance)
                .or_insert_with(|| Shelf { tasks: 0, may_go: Vec::new() });
            shelf.tasks += 1;
            if view.readiness == class && !view.is_protected {
                shelf.may_go.push(view);
            }
        }
        let mut fullest = BTreeSet::new();
        for (name, zone) in &mut zones {
            for (id, shelf) in &mut zone.shelves {
                if !shelf.may_go.is_empty() {
                    shelf.may_go.sort_by_key(|view| (view.task.times.created, view.task.id));
                    zone.fullest.insert((shelf.tasks, Reverse(*id)));
                }
            }
            if !zone.fullest.is_empty() {
                fullest.insert((zone.tasks, Reverse(*name)));
            }
        }
        Self { zones, fullest }
    }

    fn take(&mut self) -> Option<&'a TaskView<'t>> {
        let (_, Reverse(name)) = self.fullest.pop_last()?;
        let zone = self.zones.get_mut(&name)?;
        let (_, Reverse(id)) = zone.fullest.pop_last()?;
        let shelf = zone.shelves.get_mut(&id)?;
        let view = shelf.may_go.pop()?;
        shelf.tasks -= 1;
        zone.tasks -= 1;
        if !shelf.may_go.is_empty() {
            zone.fullest.insert((shelf.tasks, Reverse(id)));
        }
        if !zone.fullest.is_empty() {
            self.fullest.insert((zone.tasks, Reverse(name)));
        }
        Some(view)
    }
}
