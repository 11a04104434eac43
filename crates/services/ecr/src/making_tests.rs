//! Repositories that are made when something is pushed to them.

use ecr_api::*;
use http::StatusCode;

use crate::testing::TestEcr;

const OURS: &str = "000000000000";

fn template(prefix: &str, applied_for: RCTAppliedFor) -> CreateRepositoryCreationTemplateRequest {
    CreateRepositoryCreationTemplateRequest {
        prefix: Some(prefix.to_owned()),
        applied_for: Some(vec![applied_for]),
        ..Default::default()
    }
}

async fn starts_upload(world: &TestEcr, name: &str) -> (StatusCode, String) {
    world.ask(&world.root(), None, "POST", &format!("/v2/{name}/blobs/uploads/")).await
}

#[tokio::test]
async fn a_push_makes_the_repository_that_a_template_is_for_as_it_says() {
    let world = TestEcr::new();
    let (ecr, root) = (&world.ecr, world.root());
    assert_eq!(starts_upload(&world, "team/web").await.0, StatusCode::NOT_FOUND);
    let input = CreateRepositoryCreationTemplateRequest {
        image_tag_mutability: Some(ImageTagMutability::ImmutableWithExclusion),
        image_tag_mutability_exclusion_filters: Some(vec![ImageTagMutabilityExclusionFilter {
            filter_type: Some(ImageTagMutabilityExclusionFilterType::Wildcard),
            filter: Some("dev-*".to_owned()),
        }]),
        resource_tags: Some(vec![Tag { key: Some("a".into()), value: Some("b".into()) }]),
        repository_policy: Some(
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
                "Principal":{"AWS":"111122223333"},"Action":"ecr:BatchGetImage"}]}"#
                .to_owned(),
        ),
        lifecycle_policy: Some(
            r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any",
                "countType":"imageCountMoreThan","countNumber":5},"action":{"type":"expire"}}]}"#
                .to_owned(),
        ),
        ..template("team", RCTAppliedFor::CreateOnPush)
    };
    ecr.create_repository_creation_template(&root, input).await.unwrap();
    assert_eq!(starts_upload(&world, "team/web").await.0, StatusCode::ACCEPTED);
    assert_eq!(starts_upload(&world, "other/web").await.0, StatusCode::NOT_FOUND);
    let names = Some(vec!["team/web".to_owned()]);
    let input = DescribeRepositoriesRequest { repository_names: names, ..Default::default() };
    let answer = ecr.describe_repositories(&root, input).await.unwrap();
    let made = answer.repositories.unwrap().remove(0);
    assert_eq!(made.image_tag_mutability, Some(ImageTagMutability::ImmutableWithExclusion));
    let view = world.core.control.view();
    let row = view.ecr_repositories.get(root.account, &"team/web".parse().unwrap()).unwrap();
    assert_eq!(row.tags.get("a").map(String::as_str), Some("b"));
    assert!(row.policy.is_some() && row.lifecycle.is_some());
}

#[tokio::test]
async fn the_most_exact_template_alone_speaks_of_a_name() {
    let world = TestEcr::new();
    let root = world.root();
    for input in [
        template("ROOT", RCTAppliedFor::CreateOnPush),
        template("hub", RCTAppliedFor::PullThroughCache),
    ] {
        world.ecr.create_repository_creation_template(&root, input).await.unwrap();
    }
    assert_eq!(starts_upload(&world, "web").await.0, StatusCode::ACCEPTED);
    assert_eq!(starts_upload(&world, "hub/web").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_pushes_must_be_allowed_to_make_the_repository() {
    let world = TestEcr::new();
    let root = world.root();
    let input = template("ROOT", RCTAppliedFor::CreateOnPush);
    world.ecr.create_repository_creation_template(&root, input).await.unwrap();
    let push = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":[
        "ecr:GetAuthorizationToken","ecr:InitiateLayerUpload","ecr:PutImage"]}]}"#;
    let ann = world.user(OURS, "ann", push).await;
    let (status, why) = world.ask(&ann, None, "POST", "/v2/web/blobs/uploads/").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(why.contains("not authorized to perform: ecr:CreateRepository"), "{why}");
    let input =
        InitiateLayerUploadRequest { repository_name: Some("web".to_owned()), registry_id: None };
    let error = world.ecr.initiate_layer_upload(&ann, input.clone()).await.unwrap_err();
    assert_eq!(error.code, "AccessDeniedException");
    assert!(world.ecr.initiate_layer_upload(&root, input).await.is_ok());
}

#[tokio::test]
async fn what_a_template_cannot_do_is_refused_by_name_and_the_rest_is_changed_and_deleted() {
    let world = TestEcr::new();
    let (ecr, root) = (&world.ecr, world.root());
    let kms = EncryptionConfigurationForRepositoryCreationTemplate {
        encryption_type: Some(EncryptionType::Kms),
        kms_key: None,
    };
    for (input, said) in [
        (template("a1", RCTAppliedFor::Replication), "REPLICATION"),
        (
            CreateRepositoryCreationTemplateRequest {
                encryption_configuration: Some(kms),
                ..template("a1", RCTAppliedFor::CreateOnPush)
            },
            "KMS",
        ),
        (
            CreateRepositoryCreationTemplateRequest {
                custom_role_arn: Some("arn:aws:iam::111122223333:role/x".to_owned()),
                ..template("a1", RCTAppliedFor::CreateOnPush)
            },
            "customRoleArn",
        ),
    ] {
        let error = ecr.create_repository_creation_template(&root, input).await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException");
        assert!(error.message.contains(said), "{}", error.message);
    }
    let input = template("a1", RCTAppliedFor::CreateOnPush);
    ecr.create_repository_creation_template(&root, input.clone()).await.unwrap();
    let error = ecr.create_repository_creation_template(&root, input).await.unwrap_err();
    assert_eq!(error.code, "TemplateAlreadyExistsException");
    let input = UpdateRepositoryCreationTemplateRequest {
        prefix: Some("a1".to_owned()),
        description: Some("changed".to_owned()),
        ..Default::default()
    };
    let answer = ecr.update_repository_creation_template(&root, input).await.unwrap();
    let changed = answer.repository_creation_template.unwrap();
    assert_eq!(changed.description.as_deref(), Some("changed"));
    assert_eq!(changed.applied_for, Some(vec![RCTAppliedFor::CreateOnPush]));
    let delete = DeleteRepositoryCreationTemplateRequest { prefix: Some("a1".to_owned()) };
    ecr.delete_repository_creation_template(&root, delete.clone()).await.unwrap();
    let error = ecr.delete_repository_creation_template(&root, delete).await.unwrap_err();
    assert_eq!(error.code, "TemplateNotFoundException");
}
