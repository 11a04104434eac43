//! DescribeTaskSets: a service's task sets, all or those that are named.

use std::cmp::Reverse;

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::{Scope, TaskSetArn};
use model::Service;
use model::service::TaskSet;

use super::{counts_of, render, service_of, set_id};
use crate::Ecs;
use crate::errors::Refusal;
use crate::failure;

const NAMED_MAX: usize = 100;

pub(crate) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeTaskSetsRequest,
) -> Result<api::DescribeTaskSetsResponse, ApiError> {
    let permission = ecs.on_task_sets(
        caller,
        "ecs:DescribeTaskSets",
        input.cluster.as_deref(),
        input.service.as_deref(),
        input.task_sets.iter().flatten(),
    );
    let view = ecs.control.read(caller, &permission)?;
    let given = (input.cluster.as_deref(), input.service.as_deref());
    let service = service_of(ecs, &view, caller, given.0, given.1)?;
    let include = input.include.unwrap_or_default();
    if let Some(unknown) = include.iter().find(|field| !field.is_known()) {
        return Err(Refusal::invalid(format!("{unknown} should be one of [TAGS]")).into());
    }
    let with_tags = include.contains(&api::TaskSetField::Tags);
    let named = input.task_sets.unwrap_or_default();
    if NAMED_MAX < named.len() {
        let message = format!("taskSets can have at most {NAMED_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let mut sets: Vec<&TaskSet> =
        view.task_sets_of(caller.account, &service.key()).map(AsRef::as_ref).collect();
    sets.sort_by_key(|set| (set.status, Reverse((set.created_at, set.id))));
    let mut failures = Vec::new();
    if !named.is_empty() {
        let mut found = Vec::with_capacity(named.len());
        for given in named {
            let id = set_id(ecs, caller, &service.key(), &given);
            let set = id.ok().flatten().and_then(|id| sets.iter().find(|set| set.id == id));
            match set {
                Some(set) => found.push(*set),
                None => failures
                    .push(failure(arn(ecs.control.scope(caller), service, given), "MISSING")),
            }
        }
        sets = found;
    }
    let shown = sets.into_iter().map(|set| {
        let counts = counts_of(&view, service, set);
        render(service, set, counts, with_tags)
    });
    Ok(api::DescribeTaskSetsResponse {
        task_sets: Some(shown.collect::<Result<_, _>>()?),
        failures: Some(failures),
    })
}

/// The ARN that an id would have; what is none is shown as it was given.
fn arn(scope: Scope, service: &Service, given: String) -> String {
    match given.parse() {
        Ok(id) => {
            let (cluster, service) = (service.cluster.clone(), service.name.clone());
            TaskSetArn { scope, cluster, service, id }.to_string()
        }
        Err(_) => given,
    }
}
