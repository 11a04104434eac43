//! Turns the plan's starts into tasks: each is placed, or waits for capacity, or is not made and its reason kept.

use std::collections::BTreeMap;

use aws_wire::ApiError;
use control::tasks::put_task;
use longshore_types::{InstanceId, Timestamp};
use model::service::{RevisionCapacity, ServiceEventKind};
use model::task::{LaunchType, Phase, Task, Waiting};
use model::{Index, Key, Service, StrategyItem, View};
use plan::capacity::share;
use plan::fargate::selective;
use plan::service::{Place as Where, Start};
use plan::strategy::ZONE_ATTRIBUTE;
use plan::{Ask, Constraint, Host, NoPlace, Pool, Refusals};
use store::Batch;

use super::snapshot;
use crate::Ecs;
use crate::capacity::own_provider;
use crate::task_template::{Place, TaskSource, TaskTemplate, fargate_capacity};
use crate::waiting::{FARGATE_FULL, NO_FARGATE, NO_INSTANCES, waiting_in};

/// What became of one start.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) tasks: Vec<Task>,
    /// Tasks that were not made, by reason: each provider of a strategy may have its own.
    pub(super) unplaced: Vec<Unplaced>,
    /// More would have been made, had the batch taken more rows.
    pub(super) is_cut: bool,
}

/// Tasks that could not be made.
#[derive(Debug)]
pub(super) struct Unplaced {
    pub(super) tasks: u32,
    /// Why not, with how many instances each reason excluded.
    pub(super) tally: String,
    pub(super) event: ServiceEventKind,
    /// The part of the event that says what is missing: without a change of it the event is not repeated.
    pub(super) clause: String,
    /// Whether a quota or an address is missing, and not an instance's capacity.
    pub(super) is_quota: bool,
    /// Whether it is left out of events and shortages: a task for an emptier zone is optional.
    pub(super) is_unreported: bool,
}

impl Unplaced {
    fn of_capacity(tasks: u32, refusals: &Refusals) -> Self {
        let tally = refusals.to_string();
        let (why, clause) = match refusals.nearest() {
            Some((id, unfit)) => {
                let clause = unfit.event_clause();
                let nearest = format!("The closest matching (container-instance {id}) {clause}.");
                (format!("{nearest} Looked at {tally}."), clause)
            }
            None => {
                let why = "Reason: No Container Instances were found in your cluster.";
                (why.to_owned(), why.to_owned())
            }
        };
        let event = ServiceEventKind::Unplaceable { why };
        Self { tasks, tally, event, clause, is_quota: false, is_unreported: false }
    }

    fn of_quota(tasks: u32, why: &str) -> Self {
        let said = why.trim_end_matches('.');
        let event = ServiceEventKind::Blocked {
            why: format!("was unable to place a task. Reason: {said}."),
        };
        let (tally, clause) = (said.to_owned(), said.to_owned());
        Self { tasks, tally, event, clause, is_quota: true, is_unreported: false }
    }
}

/// The instances that tasks may go on.
struct Whose<'p> {
    pool: Pool<'p>,
    provider: Option<&'p str>,
    /// Whether a task that finds no capacity is made and waits (managed scaling).
    may_wait: bool,
}

/// Makes tasks within one decision.
pub(super) struct Maker<'t> {
    pub(super) ecs: &'t Ecs,
    pub(super) view: &'t View,
    pub(super) service: &'t Service,
    /// The service's tasks as the decision found them.
    pub(super) tasks: &'t [&'t Task],
    pub(super) now: Timestamp,
    /// How many more rows the batch takes.
    pub(super) rows_left: usize,
    /// Fargate tasks that this decision has made.
    pub(super) fargate_made: usize,
    /// Tasks that this decision has left waiting for a provider's capacity.
    pub(super) waiting_made: usize,
}

impl Maker<'_> {
    /// Makes what `start` asks for as far as there is capacity for it.
    pub(super) fn start(
        &mut self,
        batch: &mut Batch,
        source: &TaskSource,
        start: &Start,
    ) -> Result<Made, ApiError> {
        let kind = source.capacity.launch();
        let template = TaskTemplate::of_service(self.ecs, self.view, self.service, source, kind);
        let template = match template {
            Ok(template) => template,
            Err(error) if error.fault.is_some() => return Err(error),
            Err(error) => {
                let unplaced = vec![Unplaced::of_quota(start.tasks, &error.message)];
                return Ok(Made { unplaced, ..Made::default() });
            }
        };
        batch.rely(Key::TaskDefinition(self.service.scope.account, source.definition.clone()));
        let wanted = usize::try_from(start.tasks).unwrap_or(usize::MAX);
        let count = wanted.min(self.rows_left / template.rows_per_task());
        let mut made = Made { is_cut: count < wanted, ..Made::default() };
        if count == 0 {
            return Ok(made);
        }
        match (&start.place, &source.capacity) {
            (Where::On(instance), _) => self.on(batch, &template, *instance, &mut made)?,
            (at, RevisionCapacity::Launch(LaunchType::Fargate)) => {
                self.on_fargate(batch, &template, at, &vec![None; count], &mut made)?;
            }
            (at, RevisionCapacity::Strategy(items)) if kind == LaunchType::Fargate => {
                let shared = self.share(items, source, count);
                let providers: Vec<Option<&str>> = shared.into_iter().map(Some).collect();
                self.on_fargate(batch, &template, at, &providers, &mut made)?;
            }
            (at, RevisionCapacity::Launch(_)) => {
                let pool = match kind {
                    LaunchType::External => Pool::External,
                    LaunchType::Ec2 | LaunchType::Fargate => Pool::Own,
                };
                let whose = Whose { pool, provider: None, may_wait: false };
                self.on_instances(batch, &template, at, &whose, count, &mut made)?;
            }
            (at, RevisionCapacity::Strategy(items)) => {
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                for provider in self.share(items, source, count) {
                    *counts.entry(provider).or_default() += 1;
                }
                for (provider, count) in counts {
                    self.on_provider(batch, &template, at, provider, count, &mut made)?;
                }
            }
        }
        if let Where::Zone(_) = &start.place {
            made.unplaced.iter_mut().for_each(|unplaced| unplaced.is_unreported = true);
        }
        Ok(made)
    }

    /// The provider of each of the next tasks, given those that the source has.
    fn share<'i>(
        &self,
        items: &'i [StrategyItem],
        source: &TaskSource,
        count: usize,
    ) -> Vec<&'i str> {
        let is_its = |task: &&&Task| {
            let of = task.service.as_ref().map(|service| service.deployment);
            of == Some(source.id) && task.phase < Phase::Stopped
        };
        let running = |item: &StrategyItem| {
            let provider = Some(item.capacity_provider.as_str());
            let on = self.tasks.iter().filter(is_its);
            let on = on.filter(|task| task.capacity_provider.as_deref() == provider);
            u32::try_from(on.count()).unwrap_or(u32::MAX)
        };
        let shared = share(items, running, count).into_iter();
        shared.map(|item| item.capacity_provider.as_str()).collect()
    }

    fn on(
        &mut self,
        batch: &mut Batch,
        template: &TaskTemplate<'_>,
        id: InstanceId,
        made: &mut Made,
    ) -> Result<(), ApiError> {
        let account = self.service.scope.account;
        batch.rely(Key::ContainerInstance(account, id));
        batch.rely(Index::InstanceTasks(id));
        let Some(instance) = self.view.instances.get(account, &id) else { return Ok(()) };
        let constraints = snapshot::constraints(template.definition, self.service);
        let zones = template.zones();
        let zones = match zones.is_empty() {
            true => &[][..],
            false => {
                let fleet = self.ecs.fleet(self.view, account, &self.service.cluster);
                fleet.binding_zones(&zones, Pool::Own)
            }
        };
        let ask = Ask {
            need: &template.need,
            group: &template.group,
            pool: Pool::Own,
            requires: &template.definition.requires_attributes,
            zones,
            constraints: &constraints,
            strategies: &[],
        };
        let host = Host::new(instance, self.view.tasks_on_instance(id).map(AsRef::as_ref));
        if let Err(unfit) = plan::fit(&host, &ask) {
            made.unplaced.push(Unplaced::of_capacity(1, &Refusals::of(vec![(id, unfit)])));
            return Ok(());
        }
        let zone = instance.zone().map(str::to_owned);
        let place = Place { instance: Some(id), zone, capacity_provider: None };
        self.make(batch, template, place, 1, made)?;
        Ok(())
    }

    fn on_fargate(
        &mut self,
        batch: &mut Batch,
        template: &TaskTemplate<'_>,
        at: &Where,
        providers: &[Option<&str>],
        made: &mut Made,
    ) -> Result<(), ApiError> {
        let max = self.ecs.control.config.limits.fargate_tasks_per_account_max;
        let account = self.service.scope.account;
        let wanted = providers.len() + self.fargate_made;
        let count =
            fargate_capacity(self.view, account, max, wanted).saturating_sub(self.fargate_made);
        let mut zones = Zones::of(template, self.tasks, at);
        let requires = &template.definition.requires_attributes;
        let mut full = 0;
        let places: Vec<(Option<InstanceId>, Option<String>)> = {
            let mut reservation = self.ecs.fargate(self.view);
            let selective = selective(requires);
            zones.bind(|zone| reservation.takes_in(zone, &selective));
            let mut places = Vec::with_capacity(count);
            for at in 0..count {
                let found =
                    zones.find(|zones| reservation.place(template.need.resources, requires, zones));
                match found {
                    Ok((instance, zone)) => places.push((Some(instance), zone)),
                    Err(NoPlace::NoHost) => places.push((None, zones.next())),
                    Err(NoPlace::NoRoom) => {
                        full = count - at;
                        break;
                    }
                }
            }
            places
        };
        for (at, ((instance, zone), provider)) in places.into_iter().zip(providers).enumerate() {
            let capacity_provider = provider.map(str::to_owned);
            let place = Place { instance, zone, capacity_provider };
            let waiting = instance
                .is_none()
                .then(|| Waiting { tally: NO_FARGATE.to_owned(), ..Waiting::default() });
            let still_wanted = providers.len() - at;
            if !self.make_task(batch, template, place, still_wanted, waiting, made)? {
                return Ok(());
            }
            self.fargate_made += 1;
        }
        if full > 0 {
            made.unplaced.push(Unplaced::of_quota(narrow(full), FARGATE_FULL));
        } else if count < providers.len() {
            let why = "You've reached the limit on the number of tasks you can run concurrently";
            made.unplaced.push(Unplaced::of_quota(narrow(providers.len() - count), why));
        }
        Ok(())
    }

    /// On the instances of a provider's group; with managed scaling what finds no capacity waits there.
    fn on_provider(
        &mut self,
        batch: &mut Batch,
        template: &TaskTemplate<'_>,
        at: &Where,
        name: &str,
        count: usize,
        made: &mut Made,
    ) -> Result<(), ApiError> {
        let provider = own_provider(self.view, self.service.scope.account, name);
        let Some(provider) = provider else {
            let why = format!("The capacity provider {name} is gone");
            made.unplaced.push(Unplaced::of_quota(narrow(count), &why));
            return Ok(());
        };
        let whose = Whose {
            pool: Pool::Group(provider.group_name()),
            provider: Some(name),
            may_wait: provider.scaling.is_enabled && *at == Where::Anywhere,
        };
        self.on_instances(batch, template, at, &whose, count, made)
    }

    fn on_instances(
        &mut self,
        batch: &mut Batch,
        template: &TaskTemplate<'_>,
        at: &Where,
        whose: &Whose<'_>,
        count: usize,
        made: &mut Made,
    ) -> Result<(), ApiError> {
        let mut constraints = snapshot::constraints(template.definition, self.service);
        if let Where::Zone(zone) = at {
            constraints.extend(in_zone(zone));
        }
        let strategies = snapshot::strategies(self.service);
        let zones = template.zones();
        let ask = Ask {
            need: &template.need,
            group: &template.group,
            pool: whose.pool,
            requires: &template.definition.requires_attributes,
            zones: &zones,
            constraints: &constraints,
            strategies: &strategies,
        };
        let (account, cluster) = (self.service.scope.account, &self.service.cluster);
        let (places, refusals) = {
            let mut fleet = self.ecs.fleet(self.view, account, cluster);
            let seed = self.now.0 ^ self.view.seq.0.rotate_left(32);
            let plan = fleet.place_in(batch, &ask, narrow(count), seed);
            let zone_of = |id: InstanceId| fleet.zone(id).map(str::to_owned);
            let place = |id: &InstanceId| Place {
                instance: Some(*id),
                zone: zone_of(*id),
                capacity_provider: whose.provider.map(str::to_owned),
            };
            (plan.placements.iter().map(place).collect::<Vec<_>>(), plan.refusals)
        };
        let placed = places.len();
        for (at, place) in places.into_iter().enumerate() {
            if !self.make(batch, template, place, count - at, made)? {
                return Ok(());
            }
        }
        if placed == count {
            return Ok(());
        }
        let refusals = refusals.unwrap_or_default();
        match whose.provider.filter(|_| whose.may_wait) {
            Some(provider) => {
                self.leave_waiting(batch, template, provider, count - placed, &refusals, made)
            }
            None => {
                made.unplaced.push(Unplaced::of_capacity(narrow(count - placed), &refusals));
                Ok(())
            }
        }
    }

    /// Makes tasks that wait until the provider has capacity for them.
    fn leave_waiting(
        &mut self,
        batch: &mut Batch,
        template: &TaskTemplate<'_>,
        provider: &str,
        count: usize,
        refusals: &Refusals,
        made: &mut Made,
    ) -> Result<(), ApiError> {
        let max = self.ecs.control.config.limits.waiting_tasks_per_cluster_max;
        let account = self.service.scope.account;
        let waiting = waiting_in(self.view, account, &self.service.cluster).count();
        let allowed = count.min(max.saturating_sub(waiting + self.waiting_made));
        for at in 0..allowed {
            let capacity_provider = Some(provider.to_owned());
            let place = Place { instance: None, zone: None, capacity_provider };
            let before = made.tasks.len();
            let tally = match refusals.is_empty() {
                true => NO_INSTANCES.to_owned(),
                false => refusals.to_string(),
            };
            let waiting = Some(Waiting { tally, zones: template.zones(), ..Waiting::default() });
            let go_on = self.make_task(batch, template, place, count - at, waiting, made)?;
            self.waiting_made += made.tasks.len() - before;
            if !go_on {
                return Ok(());
            }
        }
        if allowed < count {
            let why = format!("{max} tasks of the cluster wait for room already");
            made.unplaced.push(Unplaced::of_quota(narrow(count - allowed), &why));
        }
        Ok(())
    }

    /// Makes one of `still_wanted` tasks; `false` if neither it nor the rest can be made.
    fn make(
        &mut self,
        batch: &mut Batch,
        template: &TaskTemplate<'_>,
        place: Place,
        still_wanted: usize,
        made: &mut Made,
    ) -> Result<bool, ApiError> {
        self.make_task(batch, template, place, still_wanted, None, made)
    }

    fn make_task(
        &mut self,
        batch: &mut Batch,
        template: &TaskTemplate<'_>,
        place: Place,
        still_wanted: usize,
        waiting: Option<Waiting>,
        made: &mut Made,
    ) -> Result<bool, ApiError> {
        match template.make(self.ecs, self.view, batch, place, self.now) {
            Ok(mut task) => {
                task.waiting = waiting.map(Box::new);
                self.rows_left = self.rows_left.saturating_sub(template.rows_per_task());
                made.tasks.push(task.clone());
                put_task(self.view, batch, task);
                Ok(true)
            }
            Err(error) if error.fault.is_some() => Err(error),
            // No address is free.
            Err(error) => {
                made.unplaced.push(Unplaced::of_quota(narrow(still_wanted), &error.message));
                Ok(false)
            }
        }
    }
}

/// Zones for tasks with an interface of their own: each goes to the zone with the fewest tasks of the service.
struct Zones {
    counts: BTreeMap<String, u32>,
    fixed: Option<String>,
    /// Whether instances are in them, so that tasks go nowhere else.
    is_bound: bool,
}

impl Zones {
    fn of(template: &TaskTemplate<'_>, tasks: &[&Task], at: &Where) -> Self {
        let fixed = match at {
            Where::Zone(zone) => Some(zone.clone()),
            Where::Anywhere | Where::On(_) => None,
        };
        let mut counts: BTreeMap<String, u32> =
            template.zones().into_iter().map(|zone| (zone, 0)).collect();
        for task in tasks.iter().filter(|task| task.phase < Phase::Stopped) {
            if let Some(count) = task.zone.as_deref().and_then(|zone| counts.get_mut(zone)) {
                *count += 1;
            }
        }
        Self { counts, fixed, is_bound: false }
    }

    /// Leaves aside the zones without an instance, unless all are without.
    fn bind(&mut self, takes_in: impl Fn(&str) -> bool) {
        self.is_bound = self.counts.keys().any(|zone| takes_in(zone));
        if self.is_bound {
            self.counts.retain(|zone, _| takes_in(zone));
        }
    }

    /// A place by `place`, which takes the zones that it may be in, and the zone. One that is full is not tried again.
    fn find(
        &mut self,
        mut place: impl FnMut(&[String]) -> Result<InstanceId, NoPlace>,
    ) -> Result<(InstanceId, Option<String>), NoPlace> {
        if !self.is_bound {
            let instance = place(&[])?;
            return Ok((instance, self.next()));
        }
        if self.fixed.as_ref().is_some_and(|zone| !self.counts.contains_key(zone)) {
            return Err(NoPlace::NoRoom);
        }
        while let Some(zone) = self.next() {
            match place(std::slice::from_ref(&zone)) {
                Err(NoPlace::NoRoom) if self.fixed.is_none() => drop(self.counts.remove(&zone)),
                found => return found.map(|instance| (instance, Some(zone))),
            }
        }
        Err(NoPlace::NoRoom)
    }

    fn next(&mut self) -> Option<String> {
        if self.fixed.is_some() {
            return self.fixed.clone();
        }
        let (zone, count) = self.counts.iter_mut().min_by_key(|(_, count)| **count)?;
        *count += 1;
        Some(zone.clone())
    }
}

fn in_zone(zone: &str) -> Option<Constraint> {
    format!("attribute:{ZONE_ATTRIBUTE} == {zone}").parse().ok().map(Constraint::MemberOf)
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(counts: [(&str, u32); 3]) -> Zones {
        let counts = counts.into_iter().map(|(zone, count)| (zone.to_owned(), count)).collect();
        Zones { counts, fixed: None, is_bound: false }
    }

    fn id(number: u8) -> InstanceId {
        InstanceId::from_bytes([number; 16])
    }

    #[test]
    fn fargate_tasks_go_to_the_zone_with_the_fewest_of_those_that_have_hosts() {
        let mut zones = zones([("a", 1), ("b", 0), ("c", 0)]);
        zones.bind(|zone| zone != "c");
        let mut room = BTreeMap::from([("a", 9), ("b", 2)]);
        let mut places = Vec::new();
        for _ in 0..5 {
            let found = zones.find(|named| {
                let [zone] = named else { panic!("{named:?}") };
                let left = room.get_mut(zone.as_str()).unwrap();
                if *left == 0 {
                    return Err(NoPlace::NoRoom);
                }
                *left -= 1;
                Ok(id(zone.as_bytes()[0]))
            });
            let (instance, zone) = found.unwrap();
            assert_eq!(instance, id(zone.as_ref().unwrap().as_bytes()[0]));
            places.push(zone.unwrap());
        }
        assert_eq!(places, ["b", "a", "b", "a", "a"], "what is full is passed over");
        assert_eq!(zones.find(|_| Err(NoPlace::NoRoom)), Err(NoPlace::NoRoom));
    }

    #[test]
    fn where_no_host_is_in_any_zone_tasks_go_anywhere_and_their_interfaces_spread() {
        let mut zones = zones([("a", 0), ("b", 0), ("c", 0)]);
        zones.bind(|_| false);
        let mut next = || {
            let found = zones.find(|named| {
                assert!(named.is_empty());
                Ok(id(1))
            });
            found.unwrap().1.unwrap()
        };
        assert_eq!([next(), next(), next(), next()], ["a", "b", "c", "a"]);
        // A task that is for one zone goes to none beside it.
        let fixed = Some("b".to_owned());
        let mut zones = Zones { fixed, ..self::zones([("a", 0), ("b", 9), ("c", 0)]) };
        zones.bind(|_| true);
        assert_eq!(zones.find(|_| Ok(id(1))), Ok((id(1), Some("b".to_owned()))));
        assert_eq!(zones.find(|_| Err(NoPlace::NoRoom)), Err(NoPlace::NoRoom));
        zones.bind(|zone| zone == "a");
        assert_eq!(zones.find(|_| Ok(id(1))), Err(NoPlace::NoRoom), "nobody is there");
    }
}
