//! Lifecycle policies as a client meets them, and what the reconciler does.

use aws_wire::ApiError;
use control::testing::rows;
use ecr_api::*;
use image::Hasher;
use model::Task;
use store::Batch;

use super::used::UsedLately;
use crate::testing::TestEcr;

const DAY_MS: u64 = 24 * 3_600_000;
const KEEP_ONE: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any",
    "countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]}"#;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn world() -> TestEcr {
    let world = TestEcr::new();
    let input = CreateRepositoryRequest { repository_name: text("web"), ..Default::default() };
    world.ecr.create_repository(&world.root(), input).await.unwrap();
    world
}

/// Puts an index that lists nothing: a manifest without layers. Each tag makes another one.
async fn put(world: &TestEcr, tag: &str) -> String {
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"tag":"{tag}"}}}}"#,
        image::manifest::OCI_INDEX
    );
    let digest = Hasher::digest(manifest.as_bytes()).to_string();
    let input = PutImageRequest {
        repository_name: text("web"),
        image_manifest: Some(manifest),
        image_tag: text(tag),
        ..PutImageRequest::default()
    };
    world.ecr.put_image(&world.root(), input).await.unwrap();
    world.env.advance_ms(DAY_MS);
    digest
}

async fn set(world: &TestEcr, policy: &str) -> Result<(), ApiError> {
    let input = PutLifecyclePolicyRequest {
        repository_name: text("web"),
        lifecycle_policy_text: text(policy),
        ..Default::default()
    };
    world.ecr.put_lifecycle_policy(&world.root(), input).await.map(drop)
}

async fn get(world: &TestEcr) -> Result<GetLifecyclePolicyResponse, ApiError> {
    let input = GetLifecyclePolicyRequest { repository_name: text("web"), ..Default::default() };
    world.ecr.get_lifecycle_policy(&world.root(), input).await
}

async fn expire(world: &TestEcr) {
    let name = "web".parse().unwrap();
    let repository = registry::Repository { account: world.root().account, name };
    world.ecr.expire_images(&repository, &UsedLately::default()).await.unwrap();
}

/// Has a task run what an image's name says.
async fn run(world: &TestEcr, image: &str) {
    let mut task: Task = rows::task(1);
    let container = &mut task.containers[0];
    std::sync::Arc::make_mut(&mut container.asked).image = image.to_owned();
    let decided = world.ecr.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.put(task.clone());
        Ok((batch, ()))
    });
    decided.await.unwrap();
}

async fn tags(world: &TestEcr) -> Vec<String> {
    let input = ListImagesRequest { repository_name: text("web"), ..Default::default() };
    let listed = world.ecr.list_images(&world.root(), input).await.unwrap();
    let mut tags: Vec<String> =
        listed.image_ids.unwrap().into_iter().map(|id| id.image_tag.unwrap()).collect();
    tags.sort();
    tags
}

#[tokio::test]
async fn a_policy_is_kept_as_it_was_given_and_acted_on() {
    let world = world().await;
    assert_eq!(get(&world).await.unwrap_err().code, "LifecyclePolicyNotFoundException");
    for tag in ["a", "b", "c"] {
        put(&world, tag).await;
    }
    set(&world, KEEP_ONE).await.unwrap();
    let shown = get(&world).await.unwrap();
    assert_eq!(shown.lifecycle_policy_text.as_deref(), Some(KEEP_ONE));
    assert_eq!(shown.last_evaluated_at, None);
    expire(&world).await;
    assert_eq!(tags(&world).await, ["c"]);
    assert!(get(&world).await.unwrap().last_evaluated_at.is_some());
    let before = world.ecr.control.view().seq;
    expire(&world).await;
    assert_eq!(world.ecr.control.view().seq, before, "a second look writes nothing");
    let input = DeleteLifecyclePolicyRequest { repository_name: text("web"), ..Default::default() };
    let was = world.ecr.delete_lifecycle_policy(&world.root(), input).await.unwrap();
    assert_eq!(was.lifecycle_policy_text.as_deref(), Some(KEEP_ONE));
    assert!(get(&world).await.is_err());
}

#[tokio::test]
async fn what_is_no_policy_is_refused_in_ecrs_words() {
    let world = world().await;
    let error = set(&world, "{}").await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
    let start = "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: \
                 'Lifecycle policy validation failure: ";
    assert!(error.message.starts_with(start), "{}", error.message);
}

#[tokio::test]
async fn what_a_task_runs_stays_and_so_does_what_is_young() {
    let world = world().await;
    for tag in ["a", "b", "c", "d"] {
        put(&world, tag).await;
    }
    run(&world, "127.0.0.1:4566/web:b").await;
    set(&world, KEEP_ONE).await.unwrap();
    expire(&world).await;
    assert_eq!(tags(&world).await, ["b", "d"]);
}

#[tokio::test]
async fn an_image_that_was_tagged_or_run_since_it_was_seen_stays() {
    let world = world().await;
    for tag in ["a", "b", "c"] {
        put(&world, tag).await;
    }
    set(&world, KEEP_ONE).await.unwrap();
    let name = "web".parse().unwrap();
    let repository = registry::Repository { account: world.root().account, name };
    let mut seen = super::images(&world.ecr.control.view(), &repository);
    seen.sort_by_key(|image| image.pushed_at);
    run(&world, "127.0.0.1:4566/web:b").await;
    seen[2].tags.clear();
    let other = world.ecr.remove_images(&repository, "{}", seen.clone()).await;
    assert_eq!(other.unwrap(), 0, "the policy is another");
    let removed = world.ecr.remove_images(&repository, KEEP_ONE, seen).await;
    assert_eq!(removed.unwrap(), 1);
    assert_eq!(tags(&world).await, ["b", "c"]);
}

#[tokio::test]
async fn what_is_run_is_looked_up_once_for_many_repositories() {
    let world = world().await;
    let (used, view) = (UsedLately::default(), world.ecr.control.view());
    let now = longshore_types::Timestamp(DAY_MS);
    let first = used.at(&view, now);
    let is_same = |ms| std::sync::Arc::ptr_eq(&first, &used.at(&view, now.plus_ms(ms)));
    assert!(is_same(9_999));
    assert!(!is_same(10_000));
}

#[tokio::test]
async fn a_preview_shows_what_would_expire_and_takes_nothing_away() {
    let world = world().await;
    let ask = || GetLifecyclePolicyPreviewRequest {
        repository_name: text("web"),
        ..GetLifecyclePolicyPreviewRequest::default()
    };
    let start = |policy| StartLifecyclePolicyPreviewRequest {
        repository_name: text("web"),
        lifecycle_policy_text: policy,
        ..StartLifecyclePolicyPreviewRequest::default()
    };
    let (ecr, root) = (&world.ecr, world.root());
    let error = ecr.get_lifecycle_policy_preview(&root, ask()).await.unwrap_err();
    assert_eq!(error.code, "LifecyclePolicyPreviewNotFoundException");
    let error = ecr.start_lifecycle_policy_preview(&root, start(None)).await.unwrap_err();
    assert_eq!(error.code, "LifecyclePolicyNotFoundException");
    let (first, second) = (put(&world, "a").await, put(&world, "b").await);
    put(&world, "c").await;
    ecr.start_lifecycle_policy_preview(&root, start(text(KEEP_ONE))).await.unwrap();
    world.env.advance_ms(1);
    put(&world, "later").await;
    let shown = ecr.get_lifecycle_policy_preview(&root, ask()).await.unwrap();
    assert_eq!(shown.status, Some(LifecyclePolicyPreviewStatus::Complete));
    assert_eq!(shown.summary.unwrap().expiring_image_total_count, Some(2));
    let results = shown.preview_results.unwrap();
    let digests: Vec<_> = results.iter().filter_map(|it| it.image_digest.clone()).collect();
    assert_eq!(digests, [first, second]);
    assert_eq!(results[0].applied_rule_priority, Some(1));
    assert_eq!(tags(&world).await.len(), 4);
}
