//! Images that come from another registry, over the registry's port and the API.

use std::sync::Arc;

use aws_wire::Caller;
use ecr_api::*;
use http::StatusCode;
use longshore_types::Clock as _;
use registry::Catalog as _;

use crate::testing::TestEcr;
use crate::testing::upstream::FakeUpstream;

const OURS: &str = "000000000000";
const DAY_MS: u64 = 24 * 3600 * 1000;

struct World {
    ecr: TestEcr,
    upstream: Arc<FakeUpstream>,
}

impl World {
    /// A region with the rule `hub` for everything of an upstream.
    async fn new() -> Self {
        let world = Self { ecr: TestEcr::new(), upstream: FakeUpstream::new().await };
        world.rule("hub").await;
        world
    }

    async fn rule(&self, prefix: &str) {
        let input = CreatePullThroughCacheRuleRequest {
            ecr_repository_prefix: Some(prefix.to_owned()),
            upstream_registry_url: Some(self.upstream.host.clone()),
            ..Default::default()
        };
        self.ecr.ecr.create_pull_through_cache_rule(&self.root(), input).await.unwrap();
    }

    fn root(&self) -> Caller {
        Caller { now: self.ecr.env.now(), ..self.ecr.root() }
    }

    async fn get(&self, caller: &Caller, path: &str) -> (StatusCode, String) {
        self.ecr.ask(caller, None, "GET", path).await
    }

    async fn pull(&self, name: &str, tag: &str) -> (StatusCode, String) {
        self.get(&self.root(), &format!("/v2/{name}/manifests/{tag}")).await
    }

    async fn digest_of(&self, name: &str, tag: &str) -> String {
        let input = DescribeImagesRequest {
            repository_name: Some(name.to_owned()),
            image_ids: Some(vec![ImageIdentifier {
                image_tag: Some(tag.to_owned()),
                image_digest: None,
            }]),
            ..Default::default()
        };
        let answer = self.ecr.ecr.describe_images(&self.root(), input).await.unwrap();
        answer.image_details.unwrap().remove(0).image_digest.unwrap()
    }
}

#[tokio::test]
async fn an_image_is_fetched_once_and_served_from_then_on() {
    let world = World::new().await;
    let put = world.upstream.image("library/nginx", Some("1"), "layer");
    let name = "hub/library/nginx";
    assert_eq!(world.pull(name, "1").await.0, StatusCode::OK);
    assert!(!world.upstream.asked().is_empty());
    world.upstream.fails_with(Some(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(world.pull(name, "1").await.0, StatusCode::OK);
    assert_eq!(world.pull(name, &put.digest.to_string()).await.0, StatusCode::OK);
    let layer = format!("/v2/{name}/blobs/{}", put.layer);
    assert_eq!(world.get(&world.root(), &layer).await.0, StatusCode::OK);
    assert_eq!(world.upstream.asked(), [] as [String; 0]);
    assert_eq!(world.digest_of(name, "1").await, put.digest.to_string());
}

#[tokio::test]
async fn a_tag_is_looked_for_again_after_a_day_and_served_as_it_is_where_upstream_is_away() {
    let world = World::new().await;
    let (name, there) = ("hub/web", "web");
    let old = world.upstream.image(there, Some("1"), "old");
    assert_eq!(world.pull(name, "1").await.0, StatusCode::OK);
    let new = world.upstream.image(there, Some("1"), "new");
    world.ecr.env.advance_ms(DAY_MS - 60_000);
    assert_eq!(world.pull(name, "1").await.0, StatusCode::OK);
    assert_eq!(world.digest_of(name, "1").await, old.digest.to_string());
    world.ecr.env.advance_ms(60_001);
    world.upstream.fails_with(Some(StatusCode::SERVICE_UNAVAILABLE));
    world.upstream.asked();
    assert_eq!(world.pull(name, "1").await.0, StatusCode::OK);
    assert!(!world.upstream.asked().is_empty());
    assert_eq!(world.digest_of(name, "1").await, old.digest.to_string());
    // It was away a moment ago, and nobody waits for it again.
    world.upstream.fails_with(None);
    assert_eq!(world.pull(name, "1").await.0, StatusCode::OK);
    assert_eq!(world.upstream.asked(), [] as [String; 0]);
    world.ecr.env.advance_ms(300_001);
    assert_eq!(world.pull(name, "1").await.0, StatusCode::OK);
    assert_eq!(world.digest_of(name, "1").await, new.digest.to_string());
    // And not again for a day.
    world.upstream.asked();
    world.ecr.env.advance_ms(3_600_000);
    assert_eq!(world.pull(name, "1").await.0, StatusCode::OK);
    assert_eq!(world.upstream.asked(), [] as [String; 0]);
}

#[tokio::test]
async fn a_tag_that_was_pushed_here_stays_what_was_pushed() {
    let world = World::new().await;
    let ours = world.upstream.image("web", Some("1"), "ours");
    assert_eq!(world.pull("hub/web", "1").await.0, StatusCode::OK);
    let get = BatchGetImageRequest {
        repository_name: Some("hub/web".to_owned()),
        image_ids: Some(vec![ImageIdentifier {
            image_tag: Some("1".to_owned()),
            image_digest: None,
        }]),
        ..Default::default()
    };
    let got = world.ecr.ecr.batch_get_image(&world.root(), get).await.unwrap();
    let push = PutImageRequest {
        repository_name: Some("hub/web".to_owned()),
        image_manifest: got.images.unwrap().remove(0).image_manifest,
        image_tag: Some("own".to_owned()),
        ..Default::default()
    };
    world.ecr.ecr.put_image(&world.root(), push).await.unwrap();
    world.upstream.image("web", Some("own"), "theirs");
    world.upstream.asked();
    for _ in 0..2 {
        assert_eq!(world.pull("hub/web", "own").await.0, StatusCode::OK);
        world.ecr.env.advance_ms(2 * DAY_MS);
    }
    assert_eq!(world.upstream.asked(), [] as [String; 0]);
    assert_eq!(world.digest_of("hub/web", "own").await, ours.digest.to_string());
}

#[tokio::test]
async fn pulls_of_one_image_at_the_same_time_fetch_it_once() {
    let world = World::new().await;
    world.upstream.image("web", Some("1"), "layer");
    let pulls = (0..8).map(|_| world.pull("hub/web", "1"));
    for answer in join_all(pulls).await {
        assert_eq!(answer.0, StatusCode::OK, "{answer:?}");
    }
    let asked = world.upstream.asked();
    let fetched = |what: &str| asked.iter().filter(|line| line.contains(what)).count();
    assert_eq!(
        (fetched("GET /v2/web/blobs/"), fetched("GET /v2/web/manifests/")),
        (2, 1),
        "{asked:?}"
    );
}

async fn join_all<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn what_is_not_what_it_is_called_is_never_served() {
    let world = World::new().await;
    let put = world.upstream.image("web", Some("1"), "layer");
    world.upstream.damage("web", &put.layer, b"other");
    let (status, why) = world.pull("hub/web", "1").await;
    assert_eq!(status, StatusCode::FAILED_DEPENDENCY, "{why}");
    assert!(
        why.contains("failed to pull hub/web:1 from upstream: it gave something else"),
        "{why}"
    );
    let layer = format!("/v2/hub/web/blobs/{}", put.layer);
    assert_eq!(world.get(&world.root(), &layer).await.0, StatusCode::NOT_FOUND);
    let digest = put.digest.to_string();
    assert_eq!(world.pull("hub/web", &digest).await.0, StatusCode::FAILED_DEPENDENCY);
    world.upstream.damage("web", &put.layer, b"layer");
    assert_eq!(world.pull("hub/web", "1").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_list_of_images_comes_with_all_of_them() {
    let world = World::new().await;
    let images = ["amd64", "arm64"].map(|layer| world.upstream.image("web", None, layer));
    let index = world.upstream.index("web", "1", &images);
    assert_eq!(world.pull("hub/web", "1").await.0, StatusCode::OK);
    world.upstream.fails_with(Some(StatusCode::NOT_FOUND));
    for put in images {
        assert_eq!(world.pull("hub/web", &put.digest.to_string()).await.0, StatusCode::OK);
    }
    assert_eq!(world.digest_of("hub/web", "1").await, index.to_string());
}

#[tokio::test]
async fn what_upstream_does_not_have_makes_no_repository() {
    let world = World::new().await;
    let (status, _) = world.pull("hub/none", "1").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let none =
        registry::Repository { account: OURS.parse().unwrap(), name: "hub/none".parse().unwrap() };
    assert!(!world.ecr.ecr.registry.catalog().has_repository(&none));
    assert_eq!(world.pull("other/web", "1").await.0, StatusCode::NOT_FOUND);
    world.upstream.fails_with(Some(StatusCode::UNAUTHORIZED));
    assert_eq!(world.pull("hub/none", "1").await.0, StatusCode::FORBIDDEN);
    world.upstream.fails_with(Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(world.pull("hub/none", "1").await.0, StatusCode::TOO_MANY_REQUESTS);
}

fn may(actions: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Resource":"*","Action":[
            "ecr:GetAuthorizationToken","ecr:BatchGetImage"{actions}]}}]}}"#
    )
}

#[tokio::test]
async fn who_wants_an_image_fetched_may_import_it_and_have_its_repository_made() {
    let world = World::new().await;
    world.upstream.image("web", Some("1"), "layer");
    let path = "/v2/hub/web/manifests/1";
    let reader = world.ecr.user(OURS, "reader", &may("")).await;
    let (status, why) = world.get(&reader, path).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(why.contains("not authorized to perform: ecr:BatchImportUpstreamImage"), "{why}");
    assert_eq!(world.upstream.asked(), [] as [String; 0]);
    let import = r#","ecr:BatchImportUpstreamImage""#;
    let importer = world.ecr.user(OURS, "importer", &may(import)).await;
    let (status, why) = world.get(&importer, path).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(why.contains("not authorized to perform: ecr:CreateRepository"), "{why}");
    let both = r#","ecr:BatchImportUpstreamImage","ecr:CreateRepository""#;
    let maker = world.ecr.user(OURS, "maker", &may(both)).await;
    assert_eq!(world.get(&maker, path).await.0, StatusCode::OK);
    // What is here is served to whoever may pull, also when it is time to look for a newer one.
    assert_eq!(world.get(&reader, path).await.0, StatusCode::OK);
    world.ecr.env.advance_ms(DAY_MS);
    world.upstream.asked();
    let reader = Caller { now: world.ecr.env.now(), ..reader };
    assert_eq!(world.get(&reader, path).await.0, StatusCode::OK);
    assert_eq!(world.upstream.asked(), [] as [String; 0]);
}

#[tokio::test]
async fn who_has_a_secret_shown_to_a_registry_of_their_own_choice_may_read_it() {
    let world = World::new().await;
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":[
        "ecr:*","iam:CreateServiceLinkedRole"]}]}"#;
    let user = world.ecr.user(OURS, "user", policy).await;
    let secret =
        "arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/q-abcdef";
    let refused = async |url: &str| {
        let input = CreatePullThroughCacheRuleRequest {
            ecr_repository_prefix: Some("other".to_owned()),
            upstream_registry_url: Some(url.to_owned()),
            credential_arn: Some(secret.to_owned()),
            ..Default::default()
        };
        world.ecr.ecr.create_pull_through_cache_rule(&user, input).await.unwrap_err()
    };
    let why = refused(&world.upstream.host).await.message;
    assert!(why.contains("not authorized to perform: secretsmanager:GetSecretValue"), "{why}");
    assert_eq!(refused("quay.io").await.code, "SecretNotFoundException");
}

#[tokio::test]
async fn the_api_fetches_too_and_says_of_each_image_why_it_did_not_come() {
    let world = World::new().await;
    let put = world.upstream.image("web", Some("1"), "layer");
    let ask = |tag: &str| BatchGetImageRequest {
        repository_name: Some("hub/web".to_owned()),
        image_ids: Some(vec![ImageIdentifier {
            image_tag: Some(tag.to_owned()),
            image_digest: None,
        }]),
        ..Default::default()
    };
    world.upstream.fails_with(Some(StatusCode::BAD_GATEWAY));
    let answer = world.ecr.ecr.batch_get_image(&world.root(), ask("1")).await.unwrap();
    let failure = answer.failures.unwrap().remove(0);
    assert_eq!(failure.failure_code, Some(ImageFailureCode::UpstreamUnavailable));
    world.upstream.fails_with(None);
    let answer = world.ecr.ecr.batch_get_image(&world.root(), ask("1")).await.unwrap();
    let image = answer.images.unwrap().remove(0);
    assert_eq!(image.image_id.unwrap().image_digest, Some(put.digest.to_string()));
}

#[tokio::test]
async fn a_tag_that_may_not_move_stays_where_it_was() {
    let world = World::new().await;
    let template = CreateRepositoryCreationTemplateRequest {
        prefix: Some("hub".to_owned()),
        applied_for: Some(vec![RCTAppliedFor::PullThroughCache]),
        image_tag_mutability: Some(ImageTagMutability::Immutable),
        ..Default::default()
    };
    let root = world.root();
    world.ecr.ecr.create_repository_creation_template(&root, template).await.unwrap();
    let old = world.upstream.image("web", Some("1"), "old");
    assert_eq!(world.pull("hub/web", "1").await.0, StatusCode::OK);
    world.upstream.image("web", Some("1"), "new");
    world.ecr.env.advance_ms(DAY_MS + 1);
    assert_eq!(world.pull("hub/web", "1").await.0, StatusCode::OK);
    assert_eq!(world.digest_of("hub/web", "1").await, old.digest.to_string());
}

#[tokio::test]
async fn a_rule_is_made_shown_validated_and_deleted() {
    let world = World::new().await;
    let ecr = &world.ecr.ecr;
    let root = world.root();
    let again = CreatePullThroughCacheRuleRequest {
        ecr_repository_prefix: Some("hub/".to_owned()),
        upstream_registry_url: Some("quay.io".to_owned()),
        ..Default::default()
    };
    let error = ecr.create_pull_through_cache_rule(&root, again.clone()).await.unwrap_err();
    assert_eq!(error.code, "PullThroughCacheRuleAlreadyExistsException");
    let wrong = [
        ("quay", None, None, "UnsupportedUpstreamRegistryException"),
        (
            "123456789012.dkr.ecr.us-east-1.amazonaws.com",
            None,
            None,
            "UnsupportedUpstreamRegistryException",
        ),
        (
            "quay.io",
            Some("arn:aws:secretsmanager:us-east-1:000000000000:secret:web-abcdef"),
            None,
            "InvalidParameterException",
        ),
        (
            "quay.io",
            Some(
                "arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/q-abcdef",
            ),
            None,
            "SecretNotFoundException",
        ),
        ("quay.io", None, Some("arn:aws:iam::000000000000:role/x"), "InvalidParameterException"),
    ];
    for (url, secret, role, code) in wrong {
        let input = CreatePullThroughCacheRuleRequest {
            ecr_repository_prefix: Some("other".to_owned()),
            upstream_registry_url: Some(url.to_owned()),
            credential_arn: secret.map(str::to_owned),
            custom_role_arn: role.map(str::to_owned),
            ..Default::default()
        };
        let error = ecr.create_pull_through_cache_rule(&root, input).await.unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
    }
    let answer = ecr
        .describe_pull_through_cache_rules(&root, DescribePullThroughCacheRulesRequest::default())
        .await
        .unwrap();
    let rule = answer.pull_through_cache_rules.unwrap().remove(0);
    assert_eq!(rule.ecr_repository_prefix.as_deref(), Some("hub"));
    // What was left out is not shown, as clients expect that compare what is with what they asked for.
    assert_eq!(rule.upstream_repository_prefix, None);
    let validate = |prefix: &str| ValidatePullThroughCacheRuleRequest {
        ecr_repository_prefix: Some(prefix.to_owned()),
        registry_id: None,
    };
    world.upstream.fails_with(Some(StatusCode::UNAUTHORIZED));
    let answer = ecr.validate_pull_through_cache_rule(&root, validate("hub")).await.unwrap();
    assert_eq!(answer.is_valid, Some(false));
    assert!(answer.failure.unwrap().contains("denied access"));
    let delete = DeletePullThroughCacheRuleRequest {
        ecr_repository_prefix: Some("hub".to_owned()),
        registry_id: None,
    };
    ecr.delete_pull_through_cache_rule(&root, delete.clone()).await.unwrap();
    let error = ecr.delete_pull_through_cache_rule(&root, delete).await.unwrap_err();
    assert_eq!(error.code, "PullThroughCacheRuleNotFoundException");
    let error = ecr.validate_pull_through_cache_rule(&root, validate("hub")).await.unwrap_err();
    assert_eq!(error.code, "PullThroughCacheRuleNotFoundException");
}
