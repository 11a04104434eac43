//! What whoever shows a password may do with the registry.

use aws_wire::{Caller, Principal, Session};
use control::testing::people;
use ecr_api::{CreateRepositoryRequest, Ecr as _, GetAuthorizationTokenRequest};
use http::StatusCode;
use longshore_types::Timestamp;

use crate::testing::TestEcr;

const OURS: &str = "000000000000";
const THEIRS: &str = "111122223333";
const PULL: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"ecr:GetAuthorizationToken","Resource":"*"},
    {"Effect":"Allow","Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"],
     "Resource":"arn:aws:ecr:us-east-1:000000000000:repository/web"}]}"#;
const UPLOAD: &str = "/v2/web/blobs/uploads/00112233-4455-4677-8899-aabbccddeeff";

async fn create(world: &TestEcr, caller: &Caller, name: &str) {
    let repository_name = Some(name.to_owned());
    let input = CreateRepositoryRequest { repository_name, ..Default::default() };
    world.ecr.create_repository(caller, input).await.unwrap();
}

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

async fn token(world: &TestEcr, caller: &Caller) -> (String, Timestamp) {
    let input = GetAuthorizationTokenRequest { registry_ids: None };
    let answer = world.ecr.get_authorization_token(caller, input).await.unwrap();
    let data = answer.authorization_data.unwrap().remove(0);
    (data.authorization_token.unwrap(), data.expires_at.unwrap())
}

#[tokio::test]
async fn who_may_only_pull_logs_in_and_pulls_and_does_nothing_else() {
    let world = TestEcr::new();
    for name in ["web", "api"] {
        create(&world, &world.root(), name).await;
    }
    let ann = world.user(OURS, "ann", PULL).await;
    let blob = format!("/v2/web/blobs/{}", digest());
    let other = blob.replace("web", "api");
    let mount = format!("/v2/web/blobs/uploads/?mount={}&from=api", digest());
    let whole = format!("/v2/web/blobs/uploads/?digest={}", digest());
    let refers = format!("/v2/web/referrers/{}", digest());
    for (method, path, denied) in [
        ("GET", "/v2/", None),
        ("GET", "/v2/web/manifests/1", None),
        ("HEAD", "/v2/web/manifests/1", None),
        ("GET", &blob, None),
        ("GET", "/v2/api/manifests/1", Some("ecr:BatchGetImage")),
        ("GET", &other, Some("ecr:GetDownloadUrlForLayer")),
        ("GET", "/v2/none/manifests/1", Some("ecr:BatchGetImage")),
        ("GET", "/v2/_catalog", Some("ecr:DescribeRepositories")),
        ("GET", "/v2/web/tags/list", Some("ecr:ListImages")),
        ("GET", &refers, Some("ecr:ListImageReferrers")),
        ("POST", "/v2/web/blobs/uploads/", Some("ecr:InitiateLayerUpload")),
        ("POST", &mount, Some("ecr:InitiateLayerUpload")),
        ("POST", &whole, Some("ecr:InitiateLayerUpload")),
        ("PATCH", UPLOAD, Some("ecr:UploadLayerPart")),
        ("PUT", UPLOAD, Some("ecr:UploadLayerPart")),
        ("PUT", "/v2/web/manifests/1", Some("ecr:PutImage")),
        ("DELETE", "/v2/web/manifests/1", Some("ecr:BatchDeleteImage")),
        ("DELETE", &blob, Some("ecr:BatchDeleteImage")),
    ] {
        let (status, message) = world.ask(&ann, None, method, path).await;
        match denied {
            None => assert_ne!(status, StatusCode::FORBIDDEN, "{method} {path}: {message}"),
            Some(action) => {
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {message}");
                let start = format!(
                    "User: arn:aws:iam::{OURS}:user/ann is not authorized to perform: {action} \
                     on resource: arn:aws:ecr:us-east-1:{OURS}:repository/"
                );
                let end = format!(" because no identity-based policy allows the {action} action");
                assert!(message.starts_with(&start) && message.ends_with(&end), "{message}");
            }
        }
    }
    let (status, _) = world.ask(&ann, None, "HEAD", &blob).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "asking for a layer is an action of its own");
}

#[tokio::test]
async fn a_password_ends_with_the_key_that_it_was_asked_for_with() {
    let world = TestEcr::new();
    create(&world, &world.root(), "web").await;
    let ann = world.user(OURS, "ann", PULL).await;
    let (login, expires) = token(&world, &ann).await;
    assert_eq!(expires, ann.now.plus_ms(12 * 3_600_000));
    assert_eq!(world.ask_with(&login, "GET", "/v2/").await.0, StatusCode::OK);
    people::deactivate(&world.core, &ann).await;
    assert_eq!(world.ask_with(&login, "GET", "/v2/").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_sessions_password_keeps_what_was_passed_and_ends_with_the_session() {
    let world = TestEcr::new();
    create(&world, &world.root(), "web").await;
    let all = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ecr:*","Resource":"*"}]}"#;
    let ann = world.user(OURS, "ann", all).await;
    let ends = ann.now.plus_ms(3_600_000);
    let session = Session {
        issued_at: ann.now,
        expires: ends,
        policy: Some(PULL.to_owned()),
        ..Session::default()
    };
    let Principal::User { id, .. } = &ann.principal else { unreachable!() };
    let holder = control::iam::session::Holder::Federated {
        name: "ci".to_owned(),
        user: Some(id.to_string()),
    };
    let sessions = &world.core.control.access.sessions;
    let issued = sessions.issue(world.env.as_ref(), ann.account, holder, session.clone());
    let federated = Caller {
        access_key: issued.access_key_id,
        principal: Principal::Federated {
            name: "ci".into(),
            user: Some(("ann".into(), id.clone())),
        },
        session: Some(session.into()),
        ..ann.clone()
    };
    let (login, expires) = token(&world, &federated).await;
    assert_eq!(expires, ends);
    let got = world.ask_with(&login, "GET", "/v2/web/manifests/1").await;
    assert_eq!(got.0, StatusCode::NOT_FOUND);
    let (status, message) = world.ask_with(&login, "PUT", "/v2/web/manifests/1").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains(":federated-user/ci ") && message.contains("session policy"));
    world.env.advance_ms(3_600_000);
    assert_eq!(world.ask_with(&login, "GET", "/v2/").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_password_for_anothers_registry_opens_nothing_there_by_itself() {
    let world = TestEcr::new();
    create(&world, &world.root(), "web").await;
    let all = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ecr:*","Resource":"*"}]}"#;
    let eve = world.user(THEIRS, "eve", all).await;
    for caller in [world.root_of(THEIRS), eve] {
        for (method, path) in [
            ("GET", "/v2/web/manifests/1"),
            ("GET", "/v2/none/manifests/1"),
            ("GET", "/v2/_catalog"),
            ("POST", "/v2/web/blobs/uploads/"),
        ] {
            let (status, message) = world.ask(&caller, Some(OURS), method, path).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
            let why = "because no resource-based policy allows the ecr:";
            assert!(message.contains(why), "{message}");
        }
    }
}
