//! Every resource of an account that has tags, by its ARN.

use std::collections::BTreeMap;

use aws_wire::Caller;
use model::Tags;
use model::instance::InstanceStatus;
use model::service::ServiceStatus;
use model::task::Phase;

use crate::region::Region;

/// Those of the types that are asked for, such as `ecs` or `ecs:cluster`; of all if none is named.
pub(super) fn of(
    region: &Region,
    caller: &Caller,
    types: Option<&[String]>,
) -> BTreeMap<String, Tags> {
    let types = types.unwrap_or_default();
    let is_asked = |service: &str, kind: &str| {
        let is_it = |asked: &String| match asked.split_once(':') {
            Some((of, its)) => of == service && its == kind,
            None => asked == service,
        };
        types.is_empty() || types.iter().any(is_it)
    };
    let mut found = BTreeMap::new();
    let mut add = |arn: String, tags: &Tags| {
        found.insert(arn, tags.clone());
    };
    add_of_ecs(region, caller, &is_asked, &mut add);
    let (view, account) = (region.view(), caller.account);
    if is_asked("ecr", "repository") {
        for row in view.ecr_repositories.of(account).filter(|row| !row.tags.is_empty()) {
            add(region.repository_arn(row), &row.tags);
        }
    }
    if is_asked("logs", "log-group") {
        for group in region.logs.groups(account, None, usize::MAX, |_, _| true) {
            let tags = &group.settings.tags;
            if !tags.is_empty() {
                let name = &group.name;
                add(format!("arn:aws:logs:{}:{account}:log-group:{name}", caller.region), tags);
            }
        }
    }
    found
}

fn add_of_ecs(
    region: &Region,
    caller: &Caller,
    is_asked: &dyn Fn(&str, &str) -> bool,
    add: &mut dyn FnMut(String, &Tags),
) {
    let (view, account) = (region.view(), caller.account);
    if is_asked("ecs", "cluster") {
        for row in view.clusters.of(account).filter(|row| !row.tags.is_empty()) {
            if view.active_cluster(account, &row.name).is_some() {
                add(row.arn(&region.config.region).to_string(), &row.tags);
            }
        }
    }
    if is_asked("ecs", "task-definition") {
        for row in view.task_definitions.of(account).filter(|row| !row.tags.is_empty()) {
            add(row.arn(&region.config.region).to_string(), &row.tags);
        }
    }
    if is_asked("ecs", "container-instance") {
        let rows = view.instances.of(account).filter(|row| !row.tags.is_empty());
        for row in rows.filter(|row| row.status != InstanceStatus::Inactive) {
            add(row.arn().to_string(), &row.tags);
        }
    }
    if is_asked("ecs", "task") {
        let rows = view.tasks.of(account).filter(|row| !row.tags.is_empty());
        for row in rows.filter(|row| row.phase != Phase::Stopped) {
            add(row.arn().to_string(), &row.tags);
        }
    }
    if is_asked("ecs", "service") {
        let rows = view.services.of(account).filter(|row| !row.tags.is_empty());
        for row in rows.filter(|row| row.status < ServiceStatus::Inactive) {
            add(row.arn().to_string(), &row.tags);
        }
    }
    if is_asked("ecs", "task-set") {
        for row in view.task_sets.of(account).filter(|row| !row.tags.is_empty()) {
            add(row.arn().to_string(), &row.tags);
        }
    }
    if is_asked("ecs", "capacity-provider") {
        let rows = view.capacity_providers.of(account).filter(|row| !row.tags.is_empty());
        for row in rows.filter(|row| row.is_active()) {
            add(row.arn().to_string(), &row.tags);
        }
    }
}
