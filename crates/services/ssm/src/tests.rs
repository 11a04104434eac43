use std::collections::{BTreeMap, BTreeSet};

use aws_wire::Principal;
use control::testing::TestControl;
use longshore_types::Uuid;
use model::{Grants, IamUser, Row};
use ssm_api::Ssm as _;

use super::*;

struct World {
    world: TestControl,
    service: Arc<Ssm>,
}

/// The answer of the root user's request, or the refusal.
macro_rules! ask {
    ($world:expr, $operation:ident, $input:ident { $($member:ident: $value:expr),* $(,)? }) => {{
        #[allow(clippy::needless_update)]
        let input = api::$input { $($member: Some($value.into()),)* ..Default::default() };
        $world.service.$operation(&$world.world.root(), input).await
    }};
}

mod settings;

fn code<T>(answer: Result<T, ApiError>) -> String {
    answer.err().expect("a refusal").code.into_owned()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

const STRING: api::ParameterType = api::ParameterType::String;
const SECURE: api::ParameterType = api::ParameterType::SecureString;

impl World {
    fn new() -> Self {
        let world = TestControl::new();
        let service = Arc::new(Ssm::new(Arc::clone(&world.control)));
        Self { world, service }
    }

    async fn put(&self, name: &str, value: &str, kind: api::ParameterType) -> i64 {
        let put = ask!(
            self,
            put_parameter,
            PutParameterRequest { name: name, value: value, r#type: kind, overwrite: true }
        );
        put.unwrap().version.unwrap()
    }

    async fn get(&self, name: &str) -> Result<api::Parameter, ApiError> {
        let got =
            ask!(self, get_parameter, GetParameterRequest { name: name, with_decryption: true })?;
        Ok(got.parameter.unwrap())
    }
}

#[tokio::test]
async fn a_parameter_is_called_as_it_was_put_with_a_slash_or_without() {
    let world = World::new();
    for (put, other) in [("/db", "db"), ("cache", "/cache")] {
        world.put(put, "one", STRING).await;
        for name in [put, other] {
            assert_eq!(world.get(name).await.unwrap().name.as_deref(), Some(put), "{name}");
        }
        let past = ask!(world, get_parameter_history, GetParameterHistoryRequest { name: other });
        let past = past.unwrap().parameters.unwrap();
        assert_eq!(past[0].name.as_deref(), Some(put));
    }
    let arn = world.get("/db").await.unwrap().arn.unwrap();
    assert!(arn.ends_with(":parameter/db"), "{arn}");
}

#[tokio::test]
async fn what_is_another_regions_is_not_there() {
    let world = World::new();
    world.put("db", "one", STRING).await;
    let arn = world.get("db").await.unwrap().arn.unwrap();
    assert!(world.get(&arn).await.is_ok());
    for other in [arn.replace("us-east-1", "eu-west-1"), arn.replace("arn:aws:", "arn:aws-cn:")] {
        assert_eq!(code(world.get(&other).await), "ParameterNotFound", "{other}");
    }
}

#[tokio::test]
async fn a_parameter_is_got_by_name_version_label_and_arn() {
    let world = World::new();
    world.put("/prod/db", "one", STRING).await;
    assert_eq!(world.put("/prod/db", "two", STRING).await, 2);
    let labelled = ask!(
        world,
        label_parameter_version,
        LabelParameterVersionRequest {
            name: "/prod/db",
            parameter_version: 1_i64,
            labels: strings(&["live", "1st", "aws-x"]),
        }
    );
    assert_eq!(labelled.unwrap().invalid_labels.unwrap(), ["1st", "aws-x"]);
    let arn = "arn:aws:ssm:us-east-1:000000000000:parameter/prod/db";
    for (name, value) in [
        ("/prod/db", "two"),
        ("/prod/db:1", "one"),
        ("/prod/db:live", "one"),
        (arn, "two"),
        (&format!("{arn}:1"), "one"),
    ] {
        let got = world.get(name).await.unwrap();
        assert_eq!(got.value.as_deref(), Some(value), "{name}");
        assert_eq!((got.arn.as_deref(), got.name.as_deref()), (Some(arn), Some("/prod/db")));
        assert_eq!(got.selector.is_some(), name != arn && name != "/prod/db", "{name}");
    }
    assert_eq!(code(world.get("/prod/db:3").await), "ParameterVersionNotFound");
    assert_eq!(code(world.get("/prod/db:none").await), "ParameterVersionNotFound");
    assert_eq!(code(world.get("/prod/x").await), "ParameterNotFound");
    let many = ask!(
        world,
        get_parameters,
        GetParametersRequest { names: strings(&["/prod/db", "x", "/prod/db:9"]) }
    );
    let many = many.unwrap();
    assert_eq!(many.parameters.unwrap().len(), 1);
    assert_eq!(many.invalid_parameters.unwrap(), ["x", "/prod/db:9"]);
    let unlabelled = ask!(
        world,
        unlabel_parameter_version,
        UnlabelParameterVersionRequest {
            name: "/prod/db",
            parameter_version: 1_i64,
            labels: strings(&["live", "other"]),
        }
    );
    let unlabelled = unlabelled.unwrap();
    assert_eq!(unlabelled.removed_labels.unwrap(), ["live"]);
    assert_eq!(unlabelled.invalid_labels.unwrap(), ["other"]);
}

#[tokio::test]
async fn a_parameter_is_overwritten_only_if_that_is_asked_and_keeps_what_is_not_said_again() {
    let world = World::new();
    let put = |value: &str| api::PutParameterRequest {
        name: Some("db".to_owned()),
        value: Some(value.to_owned()),
        ..Default::default()
    };
    let root = world.world.root();
    assert_eq!(code(world.service.put_parameter(&root, put("1")).await), "ValidationException");
    let first = api::PutParameterRequest {
        r#type: Some(STRING),
        description: Some("a number".to_owned()),
        allowed_pattern: Some("^[0-9]+$".to_owned()),
        ..put("1")
    };
    world.service.put_parameter(&root, first).await.unwrap();
    assert_eq!(code(world.service.put_parameter(&root, put("2")).await), "ParameterAlreadyExists");
    let next = api::PutParameterRequest { overwrite: Some(true), ..put("2") };
    world.service.put_parameter(&root, next).await.unwrap();
    let described = ask!(world, describe_parameters, DescribeParametersRequest {}).unwrap();
    let described = described.parameters.unwrap().remove(0);
    assert_eq!(described.description.as_deref(), Some("a number"));
    assert_eq!(described.version, Some(2));
    let odd = api::PutParameterRequest {
        overwrite: Some(true),
        allowed_pattern: Some("^[0-9]+$".to_owned()),
        ..put("x")
    };
    assert_eq!(
        code(world.service.put_parameter(&root, odd).await),
        "ParameterPatternMismatchException"
    );
    let unsaid = api::PutParameterRequest { overwrite: Some(true), ..put("y") };
    let why = world.service.put_parameter(&root, unsaid).await.unwrap_err();
    assert_eq!(why.code, "ParameterPatternMismatchException", "the pattern from before holds");
    let tag = api::Tag { key: Some("a".to_owned()), value: Some("b".to_owned()) };
    let both =
        api::PutParameterRequest { overwrite: Some(true), tags: Some(vec![tag]), ..put("3") };
    assert_eq!(code(world.service.put_parameter(&root, both).await), "ValidationException");
    let history =
        ask!(world, get_parameter_history, GetParameterHistoryRequest { name: "db" }).unwrap();
    let values: Vec<_> =
        history.parameters.unwrap().into_iter().map(|it| it.value.unwrap()).collect();
    assert_eq!(values, ["1", "2"]);
    let lifted = api::PutParameterRequest {
        overwrite: Some(true),
        allowed_pattern: Some(String::new()),
        ..put("z")
    };
    world.service.put_parameter(&root, lifted).await.unwrap();
    let free = api::PutParameterRequest { overwrite: Some(true), ..put("any") };
    world.service.put_parameter(&root, free).await.unwrap();
}

#[tokio::test]
async fn a_path_is_made_of_names_and_a_slash_at_its_end_is_nothing() {
    let world = World::new();
    for name in ["/a/b", "/a/b/c", "/ab/d", "plain"] {
        let put = ask!(
            world,
            put_parameter,
            PutParameterRequest { name: name, value: "v", r#type: STRING }
        );
        put.unwrap();
    }
    let below = async |path: &str, is_recursive: bool| {
        let found = ask!(
            world,
            get_parameters_by_path,
            GetParametersByPathRequest { path: path, recursive: is_recursive }
        );
        let found = found.map_err(|why| why.code.into_owned())?;
        let names = found.parameters.unwrap().into_iter().map(|it| it.name.unwrap());
        Ok::<_, String>(names.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(below("/a", false).await.unwrap(), "/a/b");
    assert_eq!(below("/a/", true).await.unwrap(), "/a/b /a/b/c");
    assert_eq!(below("/a/b", true).await.unwrap(), "/a/b/c");
    assert_eq!(below("/a/b/c", true).await.unwrap(), "", "a parameter is not below itself");
    assert_eq!(below("/none", true).await.unwrap(), "");
    assert_eq!(below("/", false).await.unwrap(), "plain");
    assert_eq!(below("/", true).await.unwrap(), "/a/b /a/b/c /ab/d plain");
    for path in ["a", "//", "/a//", "/a//b", "/a:1", "/a b", "/a/*"] {
        assert_eq!(below(path, true).await, Err("ValidationException".to_owned()), "{path}");
    }
    let deep = "/a".repeat(16);
    assert_eq!(below(&deep, true).await, Err("HierarchyLevelLimitExceededException".to_owned()));
}

#[tokio::test]
async fn tiers_bound_values_and_are_not_left_downwards() {
    let world = World::new();
    let put = async |chars: usize, tier: api::ParameterTier| {
        let put = ask!(
            world,
            put_parameter,
            PutParameterRequest {
                name: "big",
                value: "x".repeat(chars),
                r#type: STRING,
                tier: tier,
                overwrite: true,
            }
        );
        put.map(|it| it.tier.unwrap())
    };
    use api::ParameterTier::{Advanced, IntelligentTiering, Standard};
    assert_eq!(put(4_096, Standard).await.unwrap(), Standard);
    assert_eq!(code(put(4_097, Standard).await), "ValidationException");
    assert_eq!(put(10, IntelligentTiering).await.unwrap(), Standard);
    assert_eq!(put(4_097, IntelligentTiering).await.unwrap(), Advanced);
    assert!(put(10, Standard).await.unwrap_err().message.contains("You can't downgrade"));
    assert_eq!(put(8_192, Advanced).await.unwrap(), Advanced);
    assert_eq!(code(put(8_193, Advanced).await), "ValidationException");
}

#[tokio::test]
async fn a_hundred_versions_are_kept_and_none_that_has_a_label_goes() {
    let world = World::new();
    for version in 1..=101 {
        assert_eq!(world.put("db", "x", STRING).await, version);
    }
    assert_eq!(code(world.get("db:1").await), "ParameterVersionNotFound");
    assert_eq!(world.world.control.view().parameter_versions.len(), 100);
    ask!(
        world,
        label_parameter_version,
        LabelParameterVersionRequest {
            name: "db",
            parameter_version: 2_i64,
            labels: strings(&["live"]),
        }
    )
    .unwrap();
    let full =
        ask!(world, put_parameter, PutParameterRequest { name: "db", value: "x", overwrite: true });
    assert_eq!(code(full), "ParameterMaxVersionLimitExceeded");
    ask!(world, delete_parameter, DeleteParameterRequest { name: "db" }).unwrap();
    let view = world.world.control.view();
    assert_eq!((view.parameters.len(), view.parameter_versions.len()), (0, 0));
    assert_eq!(world.put("db", "x", STRING).await, 1);
}

#[tokio::test]
async fn paths_are_one_level_or_all_and_come_in_pages() {
    let world = World::new();
    for name in ["/a/1", "/a/2", "/a/b/3", "/ab/4", "plain"] {
        world.put(name, "x", STRING).await;
    }
    let names = async |path: &str, recursive: bool| {
        let got = ask!(
            world,
            get_parameters_by_path,
            GetParametersByPathRequest { path: path, recursive: recursive }
        );
        let got = got.unwrap().parameters.unwrap().into_iter().map(|it| it.name.unwrap());
        got.collect::<Vec<_>>()
    };
    assert_eq!(names("/a", false).await, ["/a/1", "/a/2"]);
    assert_eq!(names("/a/", true).await, ["/a/1", "/a/2", "/a/b/3"]);
    assert_eq!(names("/", true).await.len(), 5);
    assert_eq!(names("/", false).await, ["plain"]);
    assert_eq!(names("/none", true).await, Vec::<String>::new());
    let first = ask!(
        world,
        get_parameters_by_path,
        GetParametersByPathRequest { path: "/a", recursive: true, max_results: 2 }
    );
    let first = first.unwrap();
    let rest = ask!(
        world,
        get_parameters_by_path,
        GetParametersByPathRequest {
            path: "/a",
            recursive: true,
            max_results: 2,
            next_token: first.next_token.unwrap(),
        }
    );
    let rest = rest.unwrap();
    assert_eq!((rest.parameters.unwrap().len(), rest.next_token), (1, None));
    let filter = |key: &str, option: &str, value: &str| {
        vec![api::ParameterStringFilter {
            key: Some(key.to_owned()),
            option: Some(option.to_owned()),
            values: Some(strings(&[value])),
        }]
    };
    let count = async |filters: Vec<api::ParameterStringFilter>| {
        let found = ask!(
            world,
            describe_parameters,
            DescribeParametersRequest { parameter_filters: filters }
        );
        found.map(|it| it.parameters.unwrap().len())
    };
    assert_eq!(count(filter("Name", "Equals", "/a/1")).await.unwrap(), 1);
    assert_eq!(count(filter("Name", "BeginsWith", "/a/")).await.unwrap(), 3);
    assert_eq!(count(filter("Name", "Contains", "b")).await.unwrap(), 2);
    assert_eq!(count(filter("Path", "Recursive", "/a")).await.unwrap(), 3);
    assert_eq!(count(filter("Type", "Equals", "SecureString")).await.unwrap(), 0);
    assert_eq!(code(count(filter("Label", "Equals", "x")).await), "InvalidFilterKey");
    assert_eq!(code(count(filter("Type", "Contains", "x")).await), "InvalidFilterOption");
}

#[tokio::test]
async fn a_secure_string_is_sealed_at_rest_and_opened_only_with_its_key() {
    let world = World::new();
    world.put("db", "swordfish", SECURE).await;
    let view = world.world.control.view();
    for (_, row) in view.rows() {
        assert!(!row.to_json().unwrap().contains("swordfish"));
    }
    assert_eq!(world.get("db").await.unwrap().value.as_deref(), Some("swordfish"));
    let sealed = ask!(world, get_parameter, GetParameterRequest { name: "db" }).unwrap();
    assert_ne!(sealed.parameter.unwrap().value.as_deref(), Some("swordfish"));
    let described = ask!(world, describe_parameters, DescribeParametersRequest {}).unwrap();
    assert_eq!(described.parameters.unwrap()[0].key_id.as_deref(), Some("alias/aws/ssm"));
    let unknown = ask!(
        world,
        put_parameter,
        PutParameterRequest {
            name: "x",
            value: "x",
            r#type: SECURE,
            key_id: Uuid::from_random([7; 16]).to_string(),
        }
    );
    assert_eq!(code(unknown), "InvalidKeyId");
    let needless = ask!(
        world,
        put_parameter,
        PutParameterRequest { name: "x", value: "x", r#type: STRING, key_id: "alias/aws/ssm" }
    );
    assert_eq!(code(needless), "ValidationException");
}

#[tokio::test]
async fn an_expired_parameter_is_gone() {
    use control::reconcile::Reconciler as _;
    let world = World::new();
    let policy = |at: &str| {
        format!(r#"[{{"Type":"Expiration","Version":"1.0","Attributes":{{"Timestamp":"{at}"}}}}]"#)
    };
    let put = async |policies: String, tier: api::ParameterTier| {
        ask!(
            world,
            put_parameter,
            PutParameterRequest {
                name: "db",
                value: "x",
                r#type: STRING,
                tier: tier,
                policies: policies,
                overwrite: true,
            }
        )
    };
    let soon = policy("2023-12-01T00:00:00.000Z");
    assert_eq!(code(put(soon.clone(), api::ParameterTier::Standard).await), "ValidationException");
    put(soon, api::ParameterTier::Advanced).await.unwrap();
    let which = (world.world.root().account, "db".into());
    let reconciler = expiry::ExpiringParameters(Arc::clone(&world.world.control));
    assert!(reconciler.pass(&which).await.unwrap().again_at.is_some());
    world.world.env.advance_ms(60 * 24 * 3_600_000);
    for _ in 0..2 {
        assert!(reconciler.pass(&which).await.unwrap().is_over);
    }
    assert_eq!(code(world.get("db").await), "ParameterNotFound");
}

#[tokio::test]
async fn tags_are_of_parameters_alone() {
    let world = World::new();
    world.put("/a/b", "x", STRING).await;
    let tag = vec![api::Tag { key: Some("team".to_owned()), value: Some("a".to_owned()) }];
    let parameter = api::ResourceTypeForTagging::Parameter;
    let twice = [tag.clone(), tag.clone()].concat();
    let put = api::PutParameterRequest {
        name: Some("/a/c".to_owned()),
        value: Some("x".to_owned()),
        r#type: Some(STRING),
        tags: Some(twice),
        ..Default::default()
    };
    let refused = world.service.put_parameter(&world.world.root(), put).await;
    assert_eq!(code(refused), "ValidationException");
    ask!(
        world,
        add_tags_to_resource,
        AddTagsToResourceRequest {
            resource_type: parameter.clone(),
            resource_id: "/a/b",
            tags: tag.clone(),
        }
    )
    .unwrap();
    let listed = ask!(
        world,
        list_tags_for_resource,
        ListTagsForResourceRequest { resource_type: parameter.clone(), resource_id: "/a/b" }
    );
    assert_eq!(listed.unwrap().tag_list, Some(tag.clone()));
    let other = ask!(
        world,
        add_tags_to_resource,
        AddTagsToResourceRequest {
            resource_type: parameter.clone(),
            resource_id: "none",
            tags: tag.clone(),
        }
    );
    assert_eq!(code(other), "InvalidResourceId");
    let document = ask!(
        world,
        add_tags_to_resource,
        AddTagsToResourceRequest {
            resource_type: api::ResourceTypeForTagging::Document,
            resource_id: "/a/b",
            tags: tag,
        }
    );
    assert_eq!(code(document), "InvalidResourceType");
    ask!(
        world,
        remove_tags_from_resource,
        RemoveTagsFromResourceRequest {
            resource_type: parameter,
            resource_id: "/a/b",
            tag_keys: strings(&["team"]),
        }
    )
    .unwrap();
    assert!(world.world.control.view().parameters.iter().all(|row| row.tags.is_empty()));
}

#[tokio::test]
async fn each_operation_asks_for_its_own_action_on_the_parameter() {
    let world = World::new();
    world.put("/a/b", "x", STRING).await;
    let text = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ssm:GetParameters",
        "Resource":"arn:aws:ssm:us-east-1:000000000000:parameter/a/*"}}"#;
    let policy = policy::Policy::parse(text, policy::PolicyKind::Identity).unwrap();
    let inline = BTreeMap::from([("p".to_owned(), model::PolicyText::new(policy))]);
    let root = world.world.root();
    let user = IamUser {
        account: root.account,
        name: "ann".into(),
        path: "/".into(),
        unique_id: "AIDAJQABLZS4A3QDU576Q".into(),
        created_at: Timestamp(0),
        tags: BTreeMap::new(),
        boundary: None,
        grants: Grants { inline, ..Grants::default() },
        groups: BTreeSet::new(),
        devices: BTreeSet::new(),
        login: None,
    };
    let row = Row::from(user.clone());
    let decided = world.world.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.put(row.clone());
        Ok((batch, ()))
    });
    decided.await.unwrap();
    let principal = Principal::User { name: user.name, path: user.path, id: user.unique_id };
    let ann = Caller { principal, ..root };
    let names = |name: &str| api::GetParametersRequest {
        names: Some(strings(&[name])),
        with_decryption: None,
    };
    assert!(world.service.get_parameters(&ann, names("/a/b")).await.is_ok());
    assert!(world.service.get_parameters(&ann, names("/c")).await.unwrap_err().denial.is_some());
    let one = api::GetParameterRequest { name: Some("/a/b".to_owned()), with_decryption: None };
    let denied = world.service.get_parameter(&ann, one).await.unwrap_err();
    assert!(denied.message.contains(
        "ssm:GetParameter on resource: arn:aws:ssm:us-east-1:000000000000:parameter/a/b"
    ));
}

const LINUX: &str = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended";

#[tokio::test]
async fn public_parameters_are_everybodys_and_nobody_puts_them() {
    let world = World::new();
    let got = world.get(LINUX).await.unwrap();
    let value: serde_json::Value = serde_json::from_str(&got.value.unwrap()).unwrap();
    let arn = format!("arn:aws:ssm:us-east-1::parameter{LINUX}");
    assert_eq!((got.arn.as_deref(), got.version), (Some(arn.as_str()), Some(1)));
    let id = world.get(&format!("{arn}/image_id")).await.unwrap();
    assert_eq!(
        (id.value.as_deref(), id.data_type.as_deref()),
        (value["image_id"].as_str(), Some("aws:ec2:image"))
    );
    assert!(value["image_name"].as_str().unwrap().contains("no-image"), "{value}");
    assert_eq!(code(world.get("/aws/service/ecs").await), "ParameterNotFound");
    assert_eq!(code(world.get(&format!("{LINUX}:2")).await), "ParameterVersionNotFound");
    let names = strings(&[LINUX, "/aws/service/none"]);
    let many = ask!(world, get_parameters, GetParametersRequest { names: names }).unwrap();
    assert_eq!(many.parameters.unwrap().len(), 1);
    assert_eq!(many.invalid_parameters.unwrap(), ["/aws/service/none"]);
    let put =
        ask!(world, put_parameter, PutParameterRequest { name: LINUX, value: "x", r#type: STRING });
    assert_eq!(code(put), "AccessDeniedException");
    let deleted = ask!(world, delete_parameter, DeleteParameterRequest { name: LINUX });
    assert_eq!(code(deleted), "ParameterNotFound");
    let listed = ask!(world, describe_parameters, DescribeParametersRequest {}).unwrap();
    assert_eq!(listed.parameters.unwrap().len(), 0);
}

#[tokio::test]
async fn public_parameters_are_found_below_their_path_alone() {
    let world = World::new();
    world.put("/own/x", "one", STRING).await;
    let below = async |path: &str, recursive: bool, token: Option<String>| {
        let input = api::GetParametersByPathRequest {
            path: Some(path.to_owned()),
            recursive: Some(recursive),
            next_token: token,
            ..Default::default()
        };
        let got = world.service.get_parameters_by_path(&world.world.root(), input).await.unwrap();
        let names = got.parameters.unwrap().into_iter().map(|it| it.name.unwrap());
        (names.collect::<Vec<String>>(), got.next_token)
    };
    assert_eq!(below("/", true, None).await.0, ["/own/x"]);
    assert_eq!(below("/aws/service/aws-for-fluent-bit/", false, None).await.0.len(), 5);
    assert_eq!(below("/aws/service/", false, None).await.0, strings(&[]));
    let (first, token) = below("/aws/service", true, None).await;
    let (next, _) = below("/aws/service", true, token).await;
    assert!(first.len() == 10 && first.last() < next.first(), "{first:?} {next:?}");
}

#[tokio::test]
async fn a_public_parameter_is_asked_for_by_an_arn_without_an_account() {
    let world = World::new();
    let got = world.get("/aws/service/aws-for-fluent-bit/stable").await.unwrap();
    assert_eq!(
        got.value.as_deref(),
        Some("public.ecr.aws/aws-observability/aws-for-fluent-bit:stable")
    );
    let permission = world.service.permission(
        world.world.root().account,
        "ssm:GetParametersByPath",
        "/aws/service",
    );
    assert!(format!("{permission:?}").contains("arn:aws:ssm:us-east-1::parameter/aws/service\""));
}
