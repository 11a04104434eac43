//! The Resource Groups Tagging API over the services that have something to tag.

use std::collections::BTreeMap;

use ecr_api::{self as ecr, Ecr as _};
use ecs_api::{self as ecs, Ecs as _};
use logs_api::{self as logs, Logs as _};
use tagging_api::{
    FailureInfo, GetResourcesInput, GetTagKeysInput, GetTagValuesInput, TagFilter,
    TagResourcesInput, Tagging as _, UntagResourcesInput,
};

use crate::testing::TestRegion;

const CLUSTER: &str = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
const REPOSITORY: &str = "arn:aws:ecr:us-east-1:000000000000:repository/web";
const GROUP: &str = "arn:aws:logs:us-east-1:000000000000:log-group:/web";

/// A cluster, a repository and a log group.
async fn world() -> TestRegion {
    let world = TestRegion::new();
    let (region, root) = (&world.region, world.root());
    let input = ecs::CreateClusterRequest::default();
    region.ecs.create_cluster(&root, input).await.unwrap();
    let input = ecr::CreateRepositoryRequest {
        repository_name: Some("web".to_owned()),
        ..Default::default()
    };
    region.ecr.create_repository(&root, input).await.unwrap();
    let input = logs::CreateLogGroupRequest {
        log_group_name: Some("/web".to_owned()),
        ..Default::default()
    };
    region.logs.create_log_group(&root, input).await.unwrap();
    world
}

async fn tag(world: &TestRegion, arns: &[&str], key: &str, value: &str) -> Vec<(String, String)> {
    let input = TagResourcesInput {
        resource_arn_list: Some(arns.iter().map(|&arn| arn.to_owned()).collect()),
        tags: Some([(key.to_owned(), value.to_owned())].into()),
    };
    let answer = world.region.tagging.tag_resources(&world.root(), input).await.unwrap();
    let code = |info: FailureInfo| info.error_code.unwrap().to_string();
    let failed = answer.failed_resources_map.unwrap();
    failed.into_iter().map(|(arn, info)| (arn, code(info))).collect()
}

async fn get(world: &TestRegion, input: GetResourcesInput) -> (Vec<String>, String) {
    let answer = world.region.tagging.get_resources(&world.root(), input).await.unwrap();
    let list = answer.resource_tag_mapping_list.unwrap();
    let arns = list.into_iter().map(|each| each.resource_arn.unwrap()).collect();
    (arns, answer.pagination_token.unwrap())
}

fn filter(key: &str, values: &[&str]) -> GetResourcesInput {
    let values = values.iter().map(|&value| value.to_owned()).collect();
    GetResourcesInput {
        tag_filters: Some(vec![TagFilter { key: Some(key.to_owned()), values: Some(values) }]),
        ..Default::default()
    }
}

#[tokio::test]
async fn resources_of_every_service_are_tagged_and_found() {
    let world = world().await;
    assert_eq!(get(&world, GetResourcesInput::default()).await.0, [""; 0]);
    assert_eq!(tag(&world, &[CLUSTER, REPOSITORY, GROUP], "stage", "prod").await, []);
    assert_eq!(tag(&world, &[CLUSTER], "owner", "me").await, []);
    let all = get(&world, GetResourcesInput::default()).await.0;
    assert_eq!(all, [REPOSITORY, CLUSTER, GROUP]);
    assert_eq!(get(&world, filter("owner", &[])).await.0, [CLUSTER]);
    assert_eq!(get(&world, filter("stage", &["test", "prod"])).await.0.len(), 3);
    assert_eq!(get(&world, filter("stage", &["test"])).await.0, [""; 0]);
    for (asked, found) in [
        ("ecs", CLUSTER),
        ("ecs:cluster", CLUSTER),
        ("ecr:repository", REPOSITORY),
        ("logs", GROUP),
    ] {
        let types = Some(vec![asked.to_owned()]);
        let input = GetResourcesInput { resource_type_filters: types, ..Default::default() };
        assert_eq!(get(&world, input).await.0, [found], "{asked}");
    }
    let arns = vec![GROUP.to_owned(), format!("{CLUSTER}x")];
    let input = GetResourcesInput { resource_arn_list: Some(arns), ..Default::default() };
    assert_eq!(get(&world, input).await.0, [GROUP]);
}

#[tokio::test]
async fn keys_and_values_are_those_in_use() {
    let world = world().await;
    tag(&world, &[CLUSTER], "stage", "prod").await;
    tag(&world, &[GROUP], "stage", "test").await;
    tag(&world, &[GROUP], "owner", "me").await;
    let keys =
        world.region.tagging.get_tag_keys(&world.root(), GetTagKeysInput::default()).await.unwrap();
    assert_eq!(keys.tag_keys.unwrap(), ["owner", "stage"]);
    let values = |key: &str| {
        let input = GetTagValuesInput { key: Some(key.to_owned()), pagination_token: None };
        let (tagging, root) = (world.region.tagging.clone(), world.root());
        async move { tagging.get_tag_values(&root, input).await.unwrap().tag_values.unwrap() }
    };
    assert_eq!(values("stage").await, ["prod", "test"]);
    assert_eq!(values("none").await, [""; 0]);
    let input = UntagResourcesInput {
        resource_arn_list: Some(vec![CLUSTER.to_owned(), GROUP.to_owned()]),
        tag_keys: Some(vec!["stage".to_owned()]),
    };
    let answer = world.region.tagging.untag_resources(&world.root(), input).await.unwrap();
    assert_eq!(answer.failed_resources_map.unwrap(), BTreeMap::new());
    assert_eq!(values("stage").await, [""; 0]);
    assert_eq!(get(&world, GetResourcesInput::default()).await.0, [GROUP]);
}

#[tokio::test]
async fn pages_end_with_an_empty_token() {
    let world = world().await;
    tag(&world, &[CLUSTER, REPOSITORY, GROUP], "stage", "prod").await;
    let page = |token: &str| GetResourcesInput {
        resources_per_page: Some(2),
        pagination_token: Some(token.to_owned()),
        ..Default::default()
    };
    let (first, token) = get(&world, page("")).await;
    assert_eq!(first, [REPOSITORY, CLUSTER]);
    let (second, end) = get(&world, page(&token)).await;
    assert_eq!((second, end.as_str()), (vec![GROUP.to_owned()], ""));
    for bad in [
        page("!"),
        GetResourcesInput { resources_per_page: Some(101), ..Default::default() },
        GetResourcesInput { tags_per_page: Some(150), ..Default::default() },
        GetResourcesInput { resource_arn_list: Some(vec![GROUP.to_owned()]), ..filter("a", &[]) },
        filter("", &[]),
    ] {
        let error = world.region.tagging.get_resources(&world.root(), bad).await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException", "{error}");
    }
}

#[tokio::test]
async fn one_that_cannot_be_tagged_does_not_keep_the_others_from_it() {
    let world = world().await;
    let gone = "arn:aws:ecr:us-east-1:000000000000:repository/gone";
    let queue = "arn:aws:sqs:us-east-1:000000000000:queue";
    let theirs = "arn:aws:logs:us-east-1:123456789012:log-group:/web";
    let failed = tag(&world, &[CLUSTER, gone, queue, theirs, "nonsense"], "a", "b").await;
    let pair = |arn: &str, code: &str| (arn.to_owned(), code.to_owned());
    assert_eq!(
        failed,
        [
            pair(gone, "RepositoryNotFoundException"),
            pair(theirs, "ResourceNotFoundException"),
            pair(queue, "InvalidParameterException"),
            pair("nonsense", "InvalidParameterException"),
        ]
    );
    assert_eq!(get(&world, GetResourcesInput::default()).await.0, [CLUSTER]);
}
