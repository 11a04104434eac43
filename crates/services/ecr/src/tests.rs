//! ECR's operations as a client meets them.

use aws_wire::{ApiError, Caller, Origin, Principal};
use bytes::Bytes;
use ecr_api::*;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use image::Hasher;
use longshore_types::Digest;

use crate::testing::TestEcr;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn code(error: &ApiError) -> &str {
    &error.code
}

async fn create(world: &TestEcr, name: &str) -> Repository {
    let input = CreateRepositoryRequest {
        repository_name: text(name),
        ..CreateRepositoryRequest::default()
    };
    let answer = world.ecr.create_repository(&world.root(), input).await.unwrap();
    answer.repository.unwrap()
}

/// Uploads a layer by ECR's own API.
async fn upload(world: &TestEcr, name: &str, bytes: &[u8]) -> Result<Digest, ApiError> {
    let (ecr, caller) = (&world.ecr, world.root());
    let repository_name = text(name);
    let started = InitiateLayerUploadRequest {
        repository_name: repository_name.clone(),
        ..InitiateLayerUploadRequest::default()
    };
    let started = ecr.initiate_layer_upload(&caller, started).await?;
    let part = UploadLayerPartRequest {
        repository_name: repository_name.clone(),
        upload_id: started.upload_id.clone(),
        part_first_byte: Some(0),
        part_last_byte: Some(i64::try_from(bytes.len()).unwrap() - 1),
        layer_part_blob: Some(Bytes::copy_from_slice(bytes)),
        ..UploadLayerPartRequest::default()
    };
    ecr.upload_layer_part(&caller, part).await?;
    let digest = Hasher::digest(bytes);
    let complete = CompleteLayerUploadRequest {
        repository_name,
        upload_id: started.upload_id,
        layer_digests: Some(vec![digest.to_string()]),
        ..CompleteLayerUploadRequest::default()
    };
    ecr.complete_layer_upload(&caller, complete).await?;
    Ok(digest)
}

/// A manifest over one layer, whose config is shared by all.
async fn manifest(world: &TestEcr, name: &str, layer: &[u8]) -> String {
    let config = match upload(world, name, b"{}").await {
        Ok(digest) => digest,
        Err(error) => {
            assert_eq!(code(&error), "LayerAlreadyExistsException");
            Hasher::digest(b"{}")
        }
    };
    let digest = upload(world, name, layer).await.unwrap();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{digest}","size":{}}}]}}"#,
        image::manifest::OCI_MANIFEST,
        image::manifest::OCI_CONFIG,
        image::manifest::OCI_LAYER,
        layer.len(),
    )
}

async fn put(
    world: &TestEcr,
    name: &str,
    tag: Option<&str>,
    manifest: &str,
) -> Result<Image, ApiError> {
    let input = PutImageRequest {
        repository_name: text(name),
        image_manifest: text(manifest),
        image_tag: tag.map(str::to_owned),
        ..PutImageRequest::default()
    };
    let answer = world.ecr.put_image(&world.root(), input).await?;
    Ok(answer.image.unwrap())
}

async fn describe(world: &TestEcr, name: &str) -> Vec<ImageDetail> {
    let input =
        DescribeImagesRequest { repository_name: text(name), ..DescribeImagesRequest::default() };
    world.ecr.describe_images(&world.root(), input).await.unwrap().image_details.unwrap()
}

fn id(digest: Option<&str>, tag: Option<&str>) -> ImageIdentifier {
    ImageIdentifier { image_digest: digest.map(str::to_owned), image_tag: tag.map(str::to_owned) }
}

#[tokio::test]
async fn a_repository_is_created_described_and_deleted() {
    let world = TestEcr::new();
    let made = create(&world, "team/web").await;
    assert_eq!(
        made.repository_arn.as_deref(),
        Some("arn:aws:ecr:us-east-1:000000000000:repository/team/web")
    );
    assert_eq!(made.repository_uri.as_deref(), Some("127.0.0.1:4566/team/web"));
    assert_eq!(made.image_tag_mutability, Some(ImageTagMutability::Mutable));
    let again = CreateRepositoryRequest {
        repository_name: text("team/web"),
        ..CreateRepositoryRequest::default()
    };
    let error = world.ecr.create_repository(&world.root(), again).await.unwrap_err();
    assert_eq!(code(&error), "RepositoryAlreadyExistsException");
    assert_eq!(
        error.message,
        "The repository with name 'team/web' already exists in the registry with id '000000000000'"
    );
    let all = world.ecr.describe_repositories(&world.root(), Default::default()).await.unwrap();
    assert_eq!(all.repositories, Some(vec![made]));
    let other = world.root_of("123456789012");
    let none = world.ecr.describe_repositories(&other, Default::default()).await.unwrap();
    assert_eq!(none.repositories, Some(vec![]));
    let delete = DeleteRepositoryRequest {
        repository_name: text("team/web"),
        ..DeleteRepositoryRequest::default()
    };
    world.ecr.delete_repository(&world.root(), delete.clone()).await.unwrap();
    let error = world.ecr.delete_repository(&world.root(), delete).await.unwrap_err();
    assert_eq!(
        error.message,
        "The repository with name 'team/web' does not exist in the registry with id '000000000000'"
    );
}

#[tokio::test]
async fn what_nothing_would_act_on_is_refused() {
    let world = TestEcr::new();
    let base = CreateRepositoryRequest { repository_name: text("web"), ..Default::default() };
    for input in [
        CreateRepositoryRequest { repository_name: text("Web"), ..base.clone() },
        CreateRepositoryRequest { repository_name: text("w"), ..base.clone() },
        CreateRepositoryRequest {
            encryption_configuration: Some(EncryptionConfiguration {
                encryption_type: Some(EncryptionType::Aes256),
                kms_key: text("alias/mine"),
            }),
            ..base.clone()
        },
        CreateRepositoryRequest {
            image_tag_mutability: Some(ImageTagMutability::MutableWithExclusion),
            ..base.clone()
        },
    ] {
        let error = world.ecr.create_repository(&world.root(), input).await.unwrap_err();
        assert_eq!(code(&error), "InvalidParameterException", "{}", error.message);
    }
}

#[tokio::test]
async fn a_repository_with_a_key_takes_and_gives_images_while_the_key_is_enabled() {
    let world = TestEcr::new();
    let (root, control) = (world.root(), &world.core.control);
    let asked = |key: Option<&str>| CreateRepositoryRequest {
        repository_name: text("web"),
        encryption_configuration: Some(EncryptionConfiguration {
            encryption_type: Some(EncryptionType::Kms),
            kms_key: key.map(str::to_owned),
        }),
        ..Default::default()
    };
    let unknown = world.ecr.create_repository(&root, asked(Some("alias/none"))).await.unwrap_err();
    assert_eq!(code(&unknown), "KmsException");
    assert!(unknown.message.contains("NotFoundException"), "{}", unknown.message);
    let made = world.ecr.create_repository(&root, asked(None)).await.unwrap();
    let shown = made.repository.unwrap().encryption_configuration.unwrap();
    let view = control.view();
    let key = view.kms_keys.iter().next().unwrap();
    assert_eq!(shown.encryption_type, Some(EncryptionType::Kms));
    assert_eq!(shown.kms_key, Some(control.key_arn(key)));
    let text_of = manifest(&world, "web", b"layer").await;
    put(&world, "web", Some("v1"), &text_of).await.unwrap();
    let path = "/v2/web/manifests/v1";
    assert_eq!(world.ask(&root, None, "GET", path).await.0, StatusCode::OK);
    let input = GetDownloadUrlForLayerRequest {
        repository_name: text("web"),
        layer_digest: Some(Hasher::digest(b"layer").to_string()),
        ..Default::default()
    };
    let url = world.ecr.get_download_url_for_layer(&root, input).await.unwrap().download_url;
    let url: http::Uri = url.unwrap().parse().unwrap();
    let by_url = async || {
        let request = http::Request::get(url.clone()).body(Full::<Bytes>::default()).unwrap();
        world.ecr.registry.handle(request, &Origin::default()).await.status()
    };
    assert_eq!(by_url().await, StatusCode::OK);
    let off = model::KmsKey { state: model::kms::KeyState::Disabled, ..model::KmsKey::clone(key) };
    let mut batch = store::Batch::on(&view);
    batch.put(off);
    control.store.commit(batch).await.unwrap();
    let (status, why) = world.ask(&root, None, "GET", path).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(why.contains("is disabled"), "{why}");
    assert_ne!(by_url().await, StatusCode::OK, "it was given while the key was enabled");
    let error = put(&world, "web", Some("v2"), &text_of).await.unwrap_err();
    assert_eq!(code(&error), "KmsException");
    let error = upload(&world, "web", b"other").await.unwrap_err();
    assert_eq!(code(&error), "KmsException");
    let got = BatchGetImageRequest {
        repository_name: text("web"),
        image_ids: Some(vec![id(None, Some("v1"))]),
        ..Default::default()
    };
    let error = world.ecr.batch_get_image(&root, got).await.unwrap_err();
    assert!(error.message.contains("DisabledException"), "{}", error.message);
    // What needs no key goes on.
    let listed = ListImagesRequest { repository_name: text("web"), ..Default::default() };
    assert_eq!(world.ecr.list_images(&root, listed).await.unwrap().image_ids.unwrap().len(), 1);
}

#[tokio::test]
async fn an_image_is_put_listed_described_got_and_deleted() {
    let world = TestEcr::new();
    create(&world, "web").await;
    let text_of = manifest(&world, "web", b"layer").await;
    let image = put(&world, "web", Some("v1"), &text_of).await.unwrap();
    put(&world, "web", Some("v2"), &text_of).await.unwrap();
    let digest = Hasher::digest(text_of.as_bytes()).to_string();
    assert_eq!(image.image_id, Some(id(Some(&digest), Some("v1"))));
    let error = put(&world, "web", Some("v1"), &text_of).await.unwrap_err();
    assert_eq!(code(&error), "ImageAlreadyExistsException");
    assert_eq!(
        error.message,
        format!(
            "Image with digest '{digest}' and tag 'v1' already exists in the repository with name \
             'web' in registry with id '000000000000'"
        )
    );

    let details = describe(&world, "web").await;
    assert_eq!(details.len(), 1);
    assert_eq!(details[0].image_tags, Some(vec!["v1".to_owned(), "v2".to_owned()]));
    assert_eq!(details[0].image_size_in_bytes, Some(7));

    let list = ListImagesRequest { repository_name: text("web"), ..Default::default() };
    let listed = world.ecr.list_images(&world.root(), list).await.unwrap();
    assert_eq!(
        listed.image_ids,
        Some(vec![id(Some(&digest), Some("v1")), id(Some(&digest), Some("v2"))])
    );

    let get = BatchGetImageRequest {
        repository_name: text("web"),
        image_ids: Some(vec![id(None, Some("v1")), id(None, Some("v9"))]),
        ..Default::default()
    };
    let got = world.ecr.batch_get_image(&world.root(), get).await.unwrap();
    assert_eq!(got.images.unwrap()[0].image_manifest.as_deref(), Some(text_of.as_str()));
    let failure = got.failures.unwrap().remove(0);
    assert_eq!(failure.failure_code, Some(ImageFailureCode::ImageNotFound));
    assert_eq!(failure.failure_reason.as_deref(), Some("Requested image not found"));

    let delete = |ids| {
        let input = BatchDeleteImageRequest {
            repository_name: text("web"),
            image_ids: Some(ids),
            ..Default::default()
        };
        let (ecr, caller) = (world.ecr.clone(), world.root());
        async move { ecr.batch_delete_image(&caller, input).await.unwrap() }
    };
    let kept = DeleteRepositoryRequest { repository_name: text("web"), ..Default::default() };
    let error = world.ecr.delete_repository(&world.root(), kept).await.unwrap_err();
    assert_eq!(code(&error), "RepositoryNotEmptyException");
    let gone = delete(vec![id(None, Some("v1"))]).await;
    assert_eq!(gone.image_ids, Some(vec![id(Some(&digest), Some("v1"))]));
    assert_eq!(describe(&world, "web").await[0].image_tags, Some(vec!["v2".to_owned()]));
    let gone = delete(vec![id(Some(&digest), None), id(None, None), id(Some("nonsense"), None)]);
    let gone = gone.await;
    assert_eq!(gone.image_ids, Some(vec![id(Some(&digest), Some("v2"))]));
    let codes: Vec<_> =
        gone.failures.unwrap().into_iter().map(|it| it.failure_code.unwrap()).collect();
    assert_eq!(
        codes,
        [ImageFailureCode::MissingDigestAndTag, ImageFailureCode::InvalidImageDigest]
    );
    assert_eq!(describe(&world, "web").await, []);
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named_in_full() {
    let world = TestEcr::new();
    create(&world, "web").await;
    let input = DescribeImagesRequest {
        repository_name: text("web"),
        image_ids: Some(vec![id(None, Some("v1"))]),
        ..Default::default()
    };
    let error = world.ecr.describe_images(&world.root(), input).await.unwrap_err();
    assert_eq!(code(&error), "ImageNotFoundException");
    assert_eq!(
        error.message,
        "The image with imageId {imageDigest:'null', imageTag:'v1'} does not exist within the \
         repository with name 'web' in the registry with id '000000000000'"
    );
}

#[tokio::test]
async fn an_immutable_tag_stays_but_for_what_is_excluded() {
    let world = TestEcr::new();
    create(&world, "web").await;
    let one = manifest(&world, "web", b"one").await;
    let two = manifest(&world, "web", b"two").await;
    for tag in ["v1", "dev-1"] {
        put(&world, "web", Some(tag), &one).await.unwrap();
    }
    let input = PutImageTagMutabilityRequest {
        repository_name: text("web"),
        image_tag_mutability: Some(ImageTagMutability::ImmutableWithExclusion),
        image_tag_mutability_exclusion_filters: Some(vec![ImageTagMutabilityExclusionFilter {
            filter_type: Some(ImageTagMutabilityExclusionFilterType::Wildcard),
            filter: text("dev-*"),
        }]),
        ..Default::default()
    };
    world.ecr.put_image_tag_mutability(&world.root(), input).await.unwrap();
    let error = put(&world, "web", Some("v1"), &two).await.unwrap_err();
    assert_eq!(code(&error), "ImageTagAlreadyExistsException");
    put(&world, "web", Some("dev-1"), &two).await.unwrap();
}

#[tokio::test]
async fn layer_parts_must_follow_each_other_and_make_what_they_are_called() {
    let world = TestEcr::new();
    create(&world, "web").await;
    let (ecr, caller) = (&world.ecr, world.root());
    let started = InitiateLayerUploadRequest { repository_name: text("web"), ..Default::default() };
    let started = ecr.initiate_layer_upload(&caller, started).await.unwrap();
    let part = |first: i64, body: &'static [u8]| UploadLayerPartRequest {
        repository_name: text("web"),
        upload_id: started.upload_id.clone(),
        part_first_byte: Some(first),
        part_last_byte: Some(first + i64::try_from(body.len()).unwrap() - 1),
        layer_part_blob: Some(Bytes::from_static(body)),
        ..Default::default()
    };
    let complete = |digest: String| CompleteLayerUploadRequest {
        repository_name: text("web"),
        upload_id: started.upload_id.clone(),
        layer_digests: Some(vec![digest]),
        ..Default::default()
    };
    let digest = Hasher::digest(b"hello").to_string();
    let error = ecr.complete_layer_upload(&caller, complete(digest.clone())).await.unwrap_err();
    assert_eq!(code(&error), "EmptyUploadException");
    let error = ecr.upload_layer_part(&caller, part(3, b"lo")).await.unwrap_err();
    assert_eq!(code(&error), "InvalidLayerPartException");
    let received = ecr.upload_layer_part(&caller, part(0, b"hello")).await.unwrap();
    assert_eq!(received.last_byte_received, Some(4));
    let wrong = Hasher::digest(b"other").to_string();
    let error = ecr.complete_layer_upload(&caller, complete(wrong)).await.unwrap_err();
    assert_eq!(code(&error), "InvalidLayerException");
    ecr.complete_layer_upload(&caller, complete(digest.clone())).await.unwrap();
    let error = ecr.complete_layer_upload(&caller, complete(digest.clone())).await.unwrap_err();
    assert_eq!(code(&error), "UploadNotFoundException");
    let check = BatchCheckLayerAvailabilityRequest {
        repository_name: text("web"),
        layer_digests: Some(vec![digest, Hasher::digest(b"x").to_string(), "x".to_owned()]),
        ..Default::default()
    };
    let checked = ecr.batch_check_layer_availability(&caller, check).await.unwrap();
    let states: Vec<_> =
        checked.layers.unwrap().into_iter().map(|it| it.layer_availability.unwrap()).collect();
    assert_eq!(states, [LayerAvailability::Available, LayerAvailability::Unavailable]);
    assert_eq!(checked.failures.unwrap().len(), 1);
}

#[tokio::test]
async fn a_download_url_works_without_credentials_and_for_its_layer_only() {
    let world = TestEcr::new();
    create(&world, "web").await;
    let digest = upload(&world, "web", b"layer").await.unwrap();
    let other = upload(&world, "web", b"other").await.unwrap();
    let input = GetDownloadUrlForLayerRequest {
        repository_name: text("web"),
        layer_digest: Some(digest.to_string()),
        ..Default::default()
    };
    let answer = world.ecr.get_download_url_for_layer(&world.root(), input).await.unwrap();
    let url = answer.download_url.unwrap();
    let get = |url: String| {
        let request = Request::get(url).body(Full::<Bytes>::default()).unwrap();
        let registry = world.ecr.registry.clone();
        async move { registry.handle(request, &Origin::default()).await }
    };
    let got = get(url.clone()).await;
    assert_eq!(got.status(), StatusCode::OK);
    assert_eq!(got.into_body().collect().await.unwrap().to_bytes(), "layer");
    let forged = url.replace(&digest.to_string(), &other.to_string());
    assert_eq!(get(forged).await.status(), StatusCode::UNAUTHORIZED);
    world.env.advance_ms(3600 * 1000);
    assert_eq!(get(url).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whose_registry_it_must_be_is_said_of_anothers() {
    let world = TestEcr::new();
    let sentence = "Invalid parameter at 'registryId' failed to satisfy constraint: \
                    'must be the caller's own registry, 000000000000'";
    let registry_id = text("123456789012");
    let input = DescribeRepositoriesRequest { registry_id, ..Default::default() };
    let error = world.ecr.describe_repositories(&world.root(), input).await.unwrap_err();
    assert_eq!((code(&error), error.message.as_str()), ("InvalidParameterException", sentence));
    let (registry_id, repository_name) = (text("123456789012"), text("web"));
    let input = CreateRepositoryRequest { registry_id, repository_name, ..Default::default() };
    let error = world.ecr.create_repository(&world.root(), input).await.unwrap_err();
    assert_eq!((code(&error), error.message.as_str()), ("InvalidParameterException", sentence));
}

#[tokio::test]
async fn a_token_logs_its_account_in_and_a_host_any_account() {
    use base64::Engine as _;
    let world = TestEcr::new();
    create(&world, "web").await;
    let enter = |caller: Caller, ids: Option<Vec<String>>| {
        let (ecr, input) = (&world.ecr, GetAuthorizationTokenRequest { registry_ids: ids });
        async move {
            let answer = ecr.get_authorization_token(&caller, input).await?;
            let data = answer.authorization_data.unwrap().remove(0);
            assert_eq!(data.proxy_endpoint.as_deref(), Some("http://127.0.0.1:4566"));
            let token = data.authorization_token.unwrap();
            let login = base64::engine::general_purpose::STANDARD.decode(&token).unwrap();
            assert!(login.starts_with(b"AWS:"));
            let request = Request::get("http://127.0.0.1:4566/v2/web/tags/list")
                .header("authorization", format!("Basic {token}"))
                .body(Full::<Bytes>::default())
                .unwrap();
            Ok::<_, ApiError>(ecr.registry.handle(request, &Origin::default()).await.status())
        }
    };
    assert_eq!(enter(world.root(), None).await.unwrap(), StatusCode::OK);
    let stranger = world.root_of("123456789012");
    assert_eq!(enter(stranger.clone(), None).await.unwrap(), StatusCode::NOT_FOUND);
    let ours = Some(vec!["000000000000".to_owned()]);
    assert_eq!(enter(stranger, ours).await.unwrap(), StatusCode::FORBIDDEN);
    let node = Caller {
        principal: Principal::Node { instance: None },
        access_key: world.core.control.access.keys.node.access_key_id.clone(),
        ..world.root()
    };
    // It pulls, and lists nothing.
    let theirs = Some(vec!["123456789012".to_owned()]);
    assert_eq!(enter(node.clone(), theirs).await.unwrap(), StatusCode::FORBIDDEN);
    let pulled = world.ask(&node, Some("123456789012"), "GET", "/v2/web/manifests/1").await;
    assert_eq!(pulled.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_repository_carries_tags() {
    let world = TestEcr::new();
    let arn = create(&world, "web").await.repository_arn;
    let tag = |key: &str, value: &str| Tag { key: text(key), value: text(value) };
    let (ecr, caller) = (&world.ecr, world.root());
    let add = TagResourceRequest {
        resource_arn: arn.clone(),
        tags: Some(vec![tag("b", "2"), tag("a", "1")]),
    };
    ecr.tag_resource(&caller, add).await.unwrap();
    let remove =
        UntagResourceRequest { resource_arn: arn.clone(), tag_keys: Some(vec!["b".to_owned()]) };
    ecr.untag_resource(&caller, remove).await.unwrap();
    let list = ListTagsForResourceRequest { resource_arn: arn };
    let listed = ecr.list_tags_for_resource(&caller, list).await.unwrap();
    assert_eq!(listed.tags, Some(vec![tag("a", "1")]));
    let wrong = ListTagsForResourceRequest { resource_arn: text("web") };
    let error = ecr.list_tags_for_resource(&caller, wrong).await.unwrap_err();
    assert_eq!(
        error.message,
        "Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN'"
    );
}

#[tokio::test]
async fn pages_show_every_repository_once() {
    let world = TestEcr::new();
    for n in 0..7 {
        create(&world, &format!("repo-{n}")).await;
    }
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let input = DescribeRepositoriesRequest {
            max_results: Some(3),
            next_token: token,
            ..Default::default()
        };
        let answer = world.ecr.describe_repositories(&world.root(), input).await.unwrap();
        seen.extend(answer.repositories.unwrap().into_iter().map(|it| it.repository_name.unwrap()));
        token = answer.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..7).map(|n| format!("repo-{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn layers_that_no_image_names_go_after_a_while_and_their_bytes_with_them() {
    let world = TestEcr::new();
    create(&world, "web").await;
    let named = manifest(&world, "web", b"named").await;
    put(&world, "web", None, &named).await.unwrap();
    let orphan = upload(&world, "web", b"orphan").await.unwrap();
    assert_eq!(world.ecr.registry.sweep().await.unwrap().layers, 0, "it is too young");
    world.env.advance_ms(2 * 3600 * 1000);
    assert_eq!(world.ecr.registry.sweep().await.unwrap().layers, 1);
    let catalog = world.ecr.registry.catalog();
    let repository =
        registry::Repository { account: world.root().account, name: "web".parse().unwrap() };
    use registry::Catalog as _;
    assert_eq!(catalog.layer(&repository, &orphan), None);
    let named = Hasher::digest(b"named");
    assert_eq!(catalog.layer(&repository, &named), Some(5));
    let refused = catalog.unlink(&repository, named).await.unwrap_err();
    assert!(matches!(refused, registry::CatalogError::LayerReferenced { .. }), "{refused}");
    assert_eq!(catalog.layer(&repository, &named), Some(5));
}

#[tokio::test]
async fn a_large_repository_is_deleted_by_force_in_several_batches() {
    let world = TestEcr::new();
    create(&world, "web").await;
    let text_of = manifest(&world, "web", b"layer").await;
    for n in 0..600 {
        put(&world, "web", Some(&format!("v{n}")), &text_of).await.unwrap();
    }
    let delete = DeleteRepositoryRequest {
        repository_name: text("web"),
        force: Some(true),
        ..Default::default()
    };
    world.ecr.delete_repository(&world.root(), delete).await.unwrap();
    let view = world.ecr.control.view();
    assert!(
        view.ecr_tags.is_empty() && view.ecr_manifests.is_empty() && view.ecr_layers.is_empty()
    );
}

#[tokio::test]
async fn a_scan_that_was_asked_for_is_shown_as_one_that_found_out_nothing() {
    let world = TestEcr::new();
    let (ecr, root) = (&world.ecr, world.root());
    create(&world, "web").await;
    let layer = manifest(&world, "web", b"a layer").await;
    put(&world, "web", Some("1"), &layer).await.unwrap();
    let findings = || DescribeImageScanFindingsRequest {
        repository_name: text("web"),
        image_id: Some(id(None, Some("1"))),
        ..Default::default()
    };
    let error = ecr.describe_image_scan_findings(&root, findings()).await.unwrap_err();
    assert_eq!(code(&error), "ScanNotFoundException");
    assert_eq!(
        error.message,
        "Image scan does not exist for the image with '{imageDigest:'null', imageTag:'1'}' in the \
         repository with name 'web' in the registry with id '000000000000'"
    );
    assert_eq!(describe(&world, "web").await[0].image_scan_status, None);
    let on = PutImageScanningConfigurationRequest {
        repository_name: text("web"),
        image_scanning_configuration: Some(ImageScanningConfiguration { scan_on_push: Some(true) }),
        ..Default::default()
    };
    ecr.put_image_scanning_configuration(&root, on).await.unwrap();
    let shown = ecr.describe_repositories(&root, Default::default()).await.unwrap();
    let shown = shown.repositories.unwrap()[0].image_scanning_configuration.clone();
    assert_eq!(shown.unwrap().scan_on_push, Some(true));
    let found = ecr.describe_image_scan_findings(&root, findings()).await.unwrap();
    let status = found.image_scan_status.unwrap();
    assert_eq!(status.status, Some(ScanStatus::Failed));
    assert!(status.description.as_ref().unwrap().contains("does not scan images"));
    assert_eq!(found.image_scan_findings, None, "none is not the same as no findings");
    assert_eq!(describe(&world, "web").await[0].image_scan_status, Some(status));
    let made = CreateRepositoryRequest {
        repository_name: text("scanned"),
        image_scanning_configuration: Some(ImageScanningConfiguration { scan_on_push: Some(true) }),
        ..Default::default()
    };
    let made = ecr.create_repository(&root, made).await.unwrap().repository.unwrap();
    assert_eq!(made.image_scanning_configuration.unwrap().scan_on_push, Some(true));
}

#[tokio::test]
async fn there_is_no_policy_and_none_is_taken() {
    let world = TestEcr::new();
    let (ecr, root) = (&world.ecr, world.root());
    create(&world, "web").await;
    let end = "Lifecycle policy does not exist for the repository with name 'web' in the registry \
               with id '000000000000'";
    let get = |name| GetLifecyclePolicyRequest { repository_name: text(name), registry_id: None };
    let error = ecr.get_lifecycle_policy(&root, get("web")).await.unwrap_err();
    assert_eq!((code(&error), error.message.as_str()), ("LifecyclePolicyNotFoundException", end));
    let error = ecr.get_lifecycle_policy(&root, get("none")).await.unwrap_err();
    assert_eq!(code(&error), "RepositoryNotFoundException");
    let input = DeleteLifecyclePolicyRequest { repository_name: text("web"), registry_id: None };
    let error = ecr.delete_lifecycle_policy(&root, input).await.unwrap_err();
    assert_eq!(code(&error), "LifecyclePolicyNotFoundException");
    let input = PutLifecyclePolicyRequest {
        repository_name: text("web"),
        lifecycle_policy_text: text("{\"rules\":[]}"),
        ..Default::default()
    };
    let error = ecr.put_lifecycle_policy(&root, input).await.unwrap_err();
    assert_eq!(code(&error), "InvalidParameterException");
    let end = "Repository policy does not exist for the repository with name 'web' in the registry \
               with id '000000000000'";
    let input = GetRepositoryPolicyRequest { repository_name: text("web"), registry_id: None };
    let error = ecr.get_repository_policy(&root, input).await.unwrap_err();
    assert_eq!((code(&error), error.message.as_str()), ("RepositoryPolicyNotFoundException", end));
    let input = DeleteRepositoryPolicyRequest { repository_name: text("web"), registry_id: None };
    let error = ecr.delete_repository_policy(&root, input).await.unwrap_err();
    assert_eq!(code(&error), "RepositoryPolicyNotFoundException");
    let input = SetRepositoryPolicyRequest {
        repository_name: text("web"),
        policy_text: text("{}"),
        ..Default::default()
    };
    let error = ecr.set_repository_policy(&root, input).await.unwrap_err();
    assert_eq!(code(&error), "InvalidParameterException");
}

#[tokio::test]
async fn an_image_that_a_list_is_about_to_list_is_not_deleted_by_who_did_not_see_it() {
    let world = TestEcr::new();
    create(&world, "web").await;
    let text = manifest(&world, "web", b"layer").await;
    let image = put(&world, "web", None, &text).await.unwrap();
    let digest = image.image_id.unwrap().image_digest.unwrap();
    let repository =
        registry::Repository { account: world.root().account, name: "web".parse().unwrap() };
    let view = world.core.control.store.latest();
    let removal = crate::catalog::remove_manifest(&view, &repository, digest.parse().unwrap());
    let (batch, _) = removal.unwrap();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1 }],
    });
    put(&world, "web", Some("1"), &index.to_string()).await.unwrap();
    let decided = world.core.control.store.commit(batch).await;
    assert!(decided.unwrap_err().is_stale());
}

#[tokio::test]
async fn eventbridge_is_told_of_images_that_come_and_go() {
    let world = TestEcr::new();
    let source = control::ports::RegionService::event_source(world.ecr.as_ref()).unwrap();
    world.core.control.set_event_sources(vec![source]);
    world.core.want(r#"{"source":["aws.ecr"]}"#).await;
    create(&world, "web").await;
    let bytes = manifest(&world, "web", b"layer").await;
    let image = put(&world, "web", Some("1"), &bytes).await.unwrap();
    let digest = image.image_id.unwrap().image_digest.unwrap();
    put(&world, "web", Some("2"), &bytes).await.unwrap();
    // Told already: nothing comes of it.
    assert_eq!(
        code(&put(&world, "web", Some("2"), &bytes).await.unwrap_err()),
        "ImageAlreadyExistsException"
    );
    let other = manifest(&world, "web", b"another").await;
    let untagged = put(&world, "web", None, &other).await.unwrap().image_id.unwrap();
    let input = BatchDeleteImageRequest {
        repository_name: text("web"),
        image_ids: Some(vec![
            id(None, Some("2")),
            id(Some(&digest), None),
            id(untagged.image_digest.as_deref(), None),
        ]),
        ..BatchDeleteImageRequest::default()
    };
    world.ecr.batch_delete_image(&world.root(), input).await.unwrap();
    let told = world.core.told();
    let shown: Vec<(&str, Option<&str>)> = told
        .iter()
        .map(|event| {
            let detail = &event["detail"];
            (detail["action-type"].as_str().unwrap(), detail["image-tag"].as_str())
        })
        .collect();
    let expected = [
        ("PUSH", Some("1")),
        ("PUSH", Some("2")),
        ("PUSH", None),
        ("DELETE", Some("2")),
        ("DELETE", Some("1")),
        ("DELETE", None),
    ];
    assert_eq!(shown, expected);
    assert_eq!(
        told[0]["detail"],
        serde_json::json!({
            "action-type": "PUSH", "result": "SUCCESS", "repository-name": "web",
            "image-digest": digest, "image-tag": "1",
            "manifest-media-type": image::manifest::OCI_MANIFEST,
            "artifact-media-type": image::manifest::OCI_CONFIG,
        })
    );
    assert_eq!(told[0]["resources"], serde_json::json!([]));
    assert_eq!(told[0]["detail-type"], "ECR Image Action");
}
