//! DescribeCapacityProviders: FARGATE and FARGATE_SPOT, which every account has, and one's own.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::paging::{PAGE_MAX, PageRequest, page};
use ecs_api as api;
use ecs_api::{CapacityProviderField, CapacityProviderStatus, CapacityProviderType};
use longshore_types::{CapacityProviderArn, Timestamp};
use model::cluster::FARGATE_PROVIDERS;
use model::{CapacityProvider, View};

use super::capacity::{is_fargate, provider_name};
use super::capacity_provider::render;
use super::failure;
use crate::Ecs;
use crate::errors::Refusal;

const NAMES_MAX: usize = 100;
/// The page size of a request that names no providers.
const PAGE: usize = 10;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeCapacityProvidersRequest,
) -> Result<api::DescribeCapacityProvidersResponse, ApiError> {
    let permission = ecs.on(
        caller,
        "ecs:DescribeCapacityProviders",
        "capacity-provider",
        input.capacity_providers.iter().flatten(),
    );
    let view = ecs.control.read(caller, &permission)?;
    let include = input.include.unwrap_or_default();
    if let Some(unknown) = include.iter().find(|field| !field.is_known()) {
        return Err(Refusal::invalid(format!("{unknown} should be one of [TAGS]")).into());
    }
    let with_tags = include.contains(&CapacityProviderField::Tags);
    let asked = input.capacity_providers.unwrap_or_default();
    if NAMES_MAX < asked.len() {
        let message = format!("capacityProviders can have at most {NAMES_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let associated = match input.cluster.as_deref().filter(|cluster| !cluster.is_empty()) {
        None => None,
        Some(cluster) => {
            Some(ecs.cluster(&view, caller, Some(cluster))?.capacity_providers.clone())
        }
    };
    let is_of_cluster =
        |name: &String| associated.as_ref().is_none_or(|associated| associated.contains(name));
    let page_size = if asked.is_empty() { PAGE } else { PAGE_MAX };
    let (mut names, failures) = if asked.is_empty() {
        (all_names(&view, caller), Vec::new())
    } else {
        named(ecs, &view, caller, asked)
    };
    names.retain(is_of_cluster);
    names.sort();
    names.dedup();
    let request = PageRequest::new(&input.next_token, input.max_results).default_size(page_size);
    let page = page(request, names.into_iter().map(|name| (name.clone(), name)))?;
    let shown = page.items.into_iter().filter_map(|name| {
        if is_fargate(&name) {
            return Some(render_fargate(ecs, caller, name));
        }
        view.capacity_providers.get(caller.account, &name).map(|row| render(row, with_tags))
    });
    Ok(api::DescribeCapacityProvidersResponse {
        capacity_providers: Some(shown.collect()),
        failures: Some(failures),
        next_token: page.next_token,
    })
}

/// Every provider that is not deleted.
fn all_names(view: &View, caller: &Caller) -> Vec<String> {
    let own = view.capacity_providers.of(caller.account).filter(|row| row.is_active());
    let own = own.map(|row| row.name.clone());
    FARGATE_PROVIDERS.iter().map(|&name| name.to_owned()).chain(own).collect()
}

/// Those of the named providers that are there; a deleted one is, for a while.
fn named(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    asked: Vec<String>,
) -> (Vec<String>, Vec<api::Failure>) {
    let (mut names, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let name = provider_name(ecs, caller, &given).ok();
        let found = name.filter(|name| {
            let row = view.capacity_providers.get(caller.account, name);
            is_fargate(name) || row.is_some_and(|row| is_visible(ecs, row, caller.now))
        });
        match found {
            Some(name) => names.push(name),
            None if given.starts_with("arn:") => failures.push(failure(given, "MISSING")),
            None => {
                let arn = CapacityProviderArn { scope: ecs.control.scope(caller), name: given };
                failures.push(failure(arn.to_string(), "MISSING"));
            }
        }
    }
    (names, failures)
}

fn is_visible(ecs: &Ecs, row: &Arc<CapacityProvider>, now: Timestamp) -> bool {
    let shown_ms = ecs.control.config.retention.inactive_capacity_providers_ms;
    row.deleted_at.is_none_or(|deleted_at| now.since_ms(deleted_at) < shown_ms)
}

fn render_fargate(ecs: &Ecs, caller: &Caller, name: String) -> api::CapacityProvider {
    let arn = CapacityProviderArn { scope: ecs.control.scope(caller), name: name.clone() };
    api::CapacityProvider {
        capacity_provider_arn: Some(arn.to_string()),
        status: Some(CapacityProviderStatus::Active),
        tags: Some(Vec::new()),
        r#type: Some(CapacityProviderType::from(name.as_str())),
        name: Some(name),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEcs;
    use crate::{capacity_provider, create_cluster};

    fn describe(
        world: &TestEcs,
        input: api::DescribeCapacityProvidersRequest,
    ) -> api::DescribeCapacityProvidersResponse {
        handle(&world.ecs, &world.root(), input).unwrap()
    }

    fn names(answer: &api::DescribeCapacityProvidersResponse) -> Vec<&str> {
        let shown = answer.capacity_providers.as_ref().unwrap();
        shown.iter().map(|each| each.name.as_deref().unwrap()).collect()
    }

    async fn create(world: &TestEcs, name: &str) {
        let tag = api::Tag { key: Some("stage".to_owned()), value: Some("prod".to_owned()) };
        let input = api::CreateCapacityProviderRequest {
            name: Some(name.to_owned()),
            auto_scaling_group_provider: Some(api::AutoScalingGroupProvider {
                auto_scaling_group_arn: Some(name.to_owned()),
                ..Default::default()
            }),
            tags: Some(vec![tag]),
            ..Default::default()
        };
        capacity_provider::handle_create(&world.ecs, &world.root(), input).await.unwrap();
    }

    #[test]
    fn both_fargate_providers_are_there_and_others_are_missing() {
        let world = TestEcs::new();
        let of = |names: Option<Vec<String>>| {
            let input = api::DescribeCapacityProvidersRequest {
                capacity_providers: names,
                ..Default::default()
            };
            describe(&world, input)
        };
        assert_eq!(of(None).capacity_providers.unwrap().len(), 2);
        let answer = of(Some(vec!["FARGATE_SPOT".to_owned(), "mine".to_owned()]));
        let provider = &answer.capacity_providers.unwrap()[0];
        assert_eq!(
            provider.capacity_provider_arn.as_deref(),
            Some("arn:aws:ecs:us-east-1:000000000000:capacity-provider/FARGATE_SPOT")
        );
        let failure = &answer.failures.unwrap()[0];
        assert_eq!(failure.reason.as_deref(), Some("MISSING"));
        assert_eq!(
            failure.arn.as_deref(),
            Some("arn:aws:ecs:us-east-1:000000000000:capacity-provider/mine")
        );
    }

    #[tokio::test]
    async fn ones_own_are_shown_with_tags_if_asked_and_page_by_page() {
        let world = TestEcs::new();
        for n in 0..10 {
            create(&world, &format!("p{n}")).await;
        }
        let first = describe(&world, api::DescribeCapacityProvidersRequest::default());
        assert_eq!(names(&first).len(), 10);
        let second = describe(
            &world,
            api::DescribeCapacityProvidersRequest {
                next_token: first.next_token,
                include: Some(vec![CapacityProviderField::Tags]),
                ..Default::default()
            },
        );
        assert_eq!(names(&second), ["p8", "p9"]);
        assert_eq!(second.next_token, None);
        let tags = |answer: &api::DescribeCapacityProvidersResponse| {
            answer.capacity_providers.as_ref().unwrap().last().unwrap().tags.clone().unwrap()
        };
        assert_eq!(tags(&second).len(), 1);
        let input = api::DescribeCapacityProvidersRequest {
            capacity_providers: Some(vec!["p1".to_owned()]),
            ..Default::default()
        };
        assert_eq!(tags(&describe(&world, input)), []);
    }

    #[tokio::test]
    async fn a_cluster_narrows_them_to_its_own() {
        let world = TestEcs::new();
        create(&world, "mine").await;
        let input = api::CreateClusterRequest {
            capacity_providers: Some(vec!["mine".to_owned(), "FARGATE".to_owned()]),
            ..Default::default()
        };
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        let input = api::DescribeCapacityProvidersRequest {
            cluster: Some("default".to_owned()),
            ..Default::default()
        };
        assert_eq!(names(&describe(&world, input)), ["FARGATE", "mine"]);
        let input = api::DescribeCapacityProvidersRequest {
            cluster: Some("none".to_owned()),
            ..Default::default()
        };
        let error = handle(&world.ecs, &world.root(), input).unwrap_err();
        assert_eq!(error.code, "ClusterNotFoundException");
        let many = (0..101).map(|n| n.to_string()).collect();
        let input = api::DescribeCapacityProvidersRequest {
            capacity_providers: Some(many),
            ..Default::default()
        };
        let error = handle(&world.ecs, &world.root(), input).unwrap_err();
        assert_eq!(error.message, "capacityProviders can have at most 100 items.");
    }
}
