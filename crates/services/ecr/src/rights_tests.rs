//! What whoever shows a password may do with the registry.

use aws_wire::{Caller, Principal, Session};
use control::testing::people;
use ecr_api::*;
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
async fn all_repositories_are_described_to_who_may_describe_each_of_them() {
    let world = TestEcr::new();
    create(&world, &world.root(), "web").await;
    let may = |resource: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",
            "Action":"ecr:DescribeRepositories",
            "Resource":"arn:aws:ecr:us-east-1:{OURS}:repository/{resource}"}}]}}"#
        )
    };
    let ann = world.user(OURS, "ann", &may("*")).await;
    let bob = world.user(OURS, "bob", &may("web")).await;
    let describe = async |caller: &Caller, names: Option<Vec<String>>| {
        let input = DescribeRepositoriesRequest { repository_names: names, ..Default::default() };
        let answer = world.ecr.describe_repositories(caller, input).await;
        answer.map(|answer| answer.repositories.unwrap().len())
    };
    for names in [None, Some(vec![]), Some(vec!["web".to_owned()])] {
        assert_eq!(describe(&ann, names).await.unwrap(), 1);
    }
    assert_eq!(describe(&bob, Some(vec!["web".to_owned()])).await.unwrap(), 1);
    let refused = describe(&bob, None).await.unwrap_err();
    let resource = format!("on resource: arn:aws:ecr:us-east-1:{OURS}:repository/* because");
    assert!(refused.message.contains(&resource), "{refused}");
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

#[tokio::test]
async fn a_repositorys_policy_opens_it_to_another_account_and_closes_it_to_its_own() {
    let world = TestEcr::new();
    let root = world.root();
    for name in ["web", "api"] {
        create(&world, &root, name).await;
    }
    let set = |policy: String| SetRepositoryPolicyRequest {
        repository_name: Some("web".to_owned()),
        policy_text: Some(policy),
        ..SetRepositoryPolicyRequest::default()
    };
    let open = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"theirs","Effect":"Allow",
        "Principal":{{"AWS":"{THEIRS}"}},"Action":["ecr:BatchGetImage","ecr:DescribeImages",
        "ecr:DescribeRepositories","ecr:ListTagsForResource"]}},
        {{"Effect":"Deny","Principal":"*","Action":"ecr:PutImage"}}]}}"#
    );
    let ecr = &world.ecr;
    ecr.set_repository_policy(&root, set(open.clone())).await.unwrap();
    let get = GetRepositoryPolicyRequest {
        repository_name: Some("web".to_owned()),
        ..GetRepositoryPolicyRequest::default()
    };
    let shown = ecr.get_repository_policy(&root, get.clone()).await.unwrap();
    assert_eq!(shown.policy_text, Some(open));
    let all = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ecr:*","Resource":"*"}]}"#;
    let nothing = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ecr:GetAuthorizationToken","Resource":"*"}]}"#;
    let eve = world.user(THEIRS, "eve", all).await;
    let carl = world.user(THEIRS, "carl", nothing).await;
    for caller in [&world.root_of(THEIRS), &eve] {
        let pulled = world.ask(caller, Some(OURS), "GET", "/v2/web/manifests/1").await;
        assert_eq!(pulled.0, StatusCode::NOT_FOUND, "{}", pulled.1);
        let other = world.ask(caller, Some(OURS), "GET", "/v2/api/manifests/1").await;
        assert_eq!(other.0, StatusCode::FORBIDDEN);
        let describe = DescribeImagesRequest {
            registry_id: Some(OURS.to_owned()),
            repository_name: Some("web".to_owned()),
            ..DescribeImagesRequest::default()
        };
        let described = ecr.describe_images(caller, describe).await.unwrap();
        assert_eq!(described.image_details, Some(vec![]));
        let named = |name: &str| DescribeRepositoriesRequest {
            registry_id: Some(OURS.to_owned()),
            repository_names: Some(vec![name.to_owned()]),
            ..DescribeRepositoriesRequest::default()
        };
        let described = ecr.describe_repositories(caller, named("web")).await.unwrap();
        let shown = described.repositories.unwrap().pop().unwrap();
        assert_eq!(shown.registry_id.as_deref(), Some(OURS));
        let closed = ecr.describe_repositories(caller, named("api")).await.unwrap_err();
        assert_eq!(closed.code, "AccessDeniedException");
        let tags = |resource_arn| ListTagsForResourceRequest { resource_arn };
        let listed = ecr.list_tags_for_resource(caller, tags(shown.repository_arn.clone())).await;
        assert_eq!(listed.unwrap().tags, Some(vec![]));
        let other = shown.repository_arn.map(|arn| arn.replace("/web", "/api"));
        let closed = ecr.list_tags_for_resource(caller, tags(other)).await.unwrap_err();
        assert_eq!(closed.code, "AccessDeniedException");
    }
    let (status, message) = world.ask(&carl, Some(OURS), "GET", "/v2/web/manifests/1").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("no identity-based policy"), "both accounts must allow: {message}");
    // Its own account's root, too, is under what the policy denies.
    let (status, message) = world.ask(&root, None, "PUT", "/v2/web/manifests/1").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("explicit deny in a resource-based policy"), "{message}");
    let (status, _) = world.ask(&root, None, "PUT", "/v2/api/manifests/1").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let lock = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Deny","Principal":"*","Action":"ecr:SetRepositoryPolicy"}]}"#;
    let refused = ecr.set_repository_policy(&root, set(lock.to_owned())).await.unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
    let refused = ecr.set_repository_policy(&root, set("{}".to_owned())).await.unwrap_err();
    assert!(refused.message.contains("Invalid repository policy provided"), "{refused}");
    let delete = DeleteRepositoryPolicyRequest {
        repository_name: Some("web".to_owned()),
        ..DeleteRepositoryPolicyRequest::default()
    };
    ecr.delete_repository_policy(&root, delete).await.unwrap();
    let gone = ecr.get_repository_policy(&root, get).await.unwrap_err();
    assert_eq!(gone.code, "RepositoryPolicyNotFoundException");
    let pulled = world.ask(&eve, Some(OURS), "GET", "/v2/web/manifests/1").await;
    assert_eq!(pulled.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_registrys_policy_is_about_all_of_its_repositories() {
    let world = TestEcr::new();
    let (ecr, root) = (&world.ecr, world.root());
    create(&world, &root, "web").await;
    let get = || GetRegistryPolicyRequest {};
    let none = ecr.get_registry_policy(&root, get()).await.unwrap_err();
    assert_eq!(none.code, "RegistryPolicyNotFoundException");
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"pull","Effect":"Allow",
        "Principal":{{"AWS":"arn:aws:iam::{THEIRS}:root"}},"Action":"ecr:BatchGetImage",
        "Resource":"arn:aws:ecr:us-east-1:{OURS}:repository/w*"}}]}}"#
    );
    let put = PutRegistryPolicyRequest { policy_text: Some(policy.clone()) };
    ecr.put_registry_policy(&root, put).await.unwrap();
    assert_eq!(ecr.get_registry_policy(&root, get()).await.unwrap().policy_text, Some(policy));
    let stranger = world.root_of(THEIRS);
    let pulled = world.ask(&stranger, Some(OURS), "GET", "/v2/web/manifests/1").await;
    assert_eq!(pulled.0, StatusCode::NOT_FOUND, "{}", pulled.1);
    ecr.delete_registry_policy(&root, DeleteRegistryPolicyRequest {}).await.unwrap();
    let pulled = world.ask(&stranger, Some(OURS), "GET", "/v2/web/manifests/1").await;
    assert_eq!(pulled.0, StatusCode::FORBIDDEN);
}

/// A role that any user of its account may assume.
async fn role(world: &TestEcr, id: &str) -> Caller {
    let attached = vec!["arn:aws:iam::aws:policy/AdministratorAccess".into()];
    let row = model::IamRole {
        unique_id: id.into(),
        grants: model::Grants { attached, ..model::Grants::default() },
        ..control::testing::rows::execution_role(THEIRS.parse().unwrap())
    };
    let decided = world.core.control.decide(|view, _| {
        let mut batch = store::Batch::on(view);
        batch.put(row.clone());
        Ok((batch, ()))
    });
    decided.await.unwrap();
    let session = Session {
        issued_at: world.root().now,
        expires: world.root().now.plus_ms(3_600_000),
        ..Session::default()
    };
    Caller {
        principal: Principal::Role {
            name: row.name.clone(),
            id: row.unique_id.clone(),
            session: "s".into(),
        },
        session: Some(std::sync::Arc::new(session)),
        ..world.root_of(THEIRS)
    }
}

#[tokio::test]
async fn a_role_that_is_made_anew_under_its_name_inherits_no_repositorys_policy() {
    let world = TestEcr::new();
    create(&world, &world.root(), "web").await;
    let first = role(&world, "AROA0000000000000001").await;
    let name = control::access::TASK_EXECUTION_ROLE;
    let arn = format!("arn:aws:iam::{THEIRS}:role/{name}");
    let policy = |arn: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{arn}"}},"Action":"ecr:*"}}]}}"#
        )
    };
    let set = |text: String| SetRepositoryPolicyRequest {
        repository_name: Some("web".to_owned()),
        policy_text: Some(text),
        ..Default::default()
    };
    let none = set(policy(&format!("{arn}-that-is-not-there")));
    let error = world.ecr.set_repository_policy(&world.root(), none).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
    assert!(error.message.contains("there is no principal"), "{}", error.message);
    world.ecr.set_repository_policy(&world.root(), set(policy(&arn))).await.unwrap();
    let is_meant = async |caller: &Caller| {
        let view = world.core.control.view();
        let web = format!("arn:aws:ecr:us-east-1:{OURS}:repository/web");
        let permission = control::Permission::to("ecr:BatchGetImage").on(web);
        world.core.control.authorize(&view, caller, &permission).is_ok()
    };
    assert!(is_meant(&first).await);
    let get = GetRepositoryPolicyRequest {
        repository_name: Some("web".to_owned()),
        ..Default::default()
    };
    let shown = world.ecr.get_repository_policy(&world.root(), get.clone()).await.unwrap();
    assert_eq!(shown.policy_text, Some(policy(&arn)));
    let second = role(&world, "AROA0000000000000002").await;
    assert!(!is_meant(&second).await);
    let shown = world.ecr.get_repository_policy(&world.root(), get).await.unwrap();
    assert_eq!(shown.policy_text, Some(policy("AROA0000000000000001")));
}
