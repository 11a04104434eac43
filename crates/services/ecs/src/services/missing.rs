//! Target groups that a service's tasks are to be in, and that are gone.

use std::collections::BTreeSet;

use longshore_types::Timestamp;
use model::View;
use model::elb::arn;
use model::service::{ServiceEvent, ServiceEventKind};
use plan::service::Snapshot;

use super::balance::{balanced, serves};

/// As at Amazon, what was said is said again after so long if it is still so.
const SAID_AGAIN_MS: u64 = 6 * 3_600_000;

/// What is to be said of groups that are not there, and was not said lately.
pub(super) fn missing_groups(view: &View, snapshot: &Snapshot<'_>) -> Vec<ServiceEventKind> {
    let account = snapshot.service.scope.account;
    let balanced = balanced(snapshot);
    let mut missing: BTreeSet<(&str, bool)> = BTreeSet::new();
    for task in snapshot.tasks.iter().filter(|task| serves(task)) {
        let deployment = task.service.as_ref().map(|service| service.deployment);
        let offers = deployment.and_then(|id| balanced.get(&id)).into_iter().flatten();
        let gone = offers.filter(|offer| view.elb_groups.get(account, offer.group).is_none());
        missing.extend(gone.map(|offer| (&**offer.group, task.is_registered())));
    }
    if missing.is_empty() {
        return Vec::new();
    }
    let row = view.service_events.get(account, &snapshot.service.key());
    let said = row.map_or(&[][..], |row| &row.events);
    let missing = missing.into_iter().map(|(group, is_registered)| {
        let group = arn(&snapshot.service.scope, "targetgroup", group);
        ServiceEventKind::GroupMissing { group, is_registered }
    });
    missing.filter(|what| is_news(said, what, snapshot.now)).collect()
}

fn is_news(said: &[ServiceEvent], what: &ServiceEventKind, now: Timestamp) -> bool {
    let last = said.iter().rev().find(|event| event.what == *what);
    last.is_none_or(|event| SAID_AGAIN_MS <= now.since_ms(event.at))
}
