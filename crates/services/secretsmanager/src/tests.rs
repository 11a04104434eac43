use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ::policy::{Policy, PolicyKind};
use aws_wire::Principal;
use control::ports::{NotRun, TaskAsk, TaskRunner};
use control::testing::TestControl;
use longshore_types::{AccountId, SeededEnv, TaskId};
use model::{Grants, IamUser, PolicyText, Row};
use secretsmanager_api::SecretsManager as _;

use super::*;

pub(crate) struct World {
    pub(crate) world: TestControl,
    pub(crate) service: Arc<SecretsManager>,
    pub(crate) tasks: Arc<FakeTasks>,
}

/// Takes what it is asked to run; a test ends it.
#[derive(Debug, Default)]
pub(crate) struct FakeTasks {
    pub(crate) asked: Mutex<Vec<(TaskAsk, TaskId)>>,
    pub(crate) stopped: Mutex<Vec<TaskId>>,
    /// The next one is refused.
    pub(crate) is_full: AtomicBool,
}

impl TaskRunner for FakeTasks {
    fn permission(&self, _: &View, _: &Caller, ask: &TaskAsk) -> Permission {
        Permission::to("ecs:RunTask").on(ask.definition.clone())
    }

    fn check(&self, _: &View, _: &Caller, ask: &TaskAsk) -> Result<(), ApiError> {
        match ask.definition.contains("none") {
            true => Err(ApiError::client("ClientException", "TaskDefinition not found.")),
            false => Ok(()),
        }
    }

    fn run<'a>(&'a self, _: AccountId, ask: &'a TaskAsk) -> BoxFuture<'a, Result<TaskId, NotRun>> {
        if self.is_full.swap(false, Ordering::Relaxed) {
            let why = NotRun::NoRoom("RESOURCE:MEMORY".to_owned());
            return Box::pin(std::future::ready(Err(why)));
        }
        let mut asked = self.asked.lock().unwrap();
        let before = asked.iter().find(|(it, _)| it.token == ask.token).map(|(_, id)| *id);
        let seed = 100 + u64::try_from(asked.len()).unwrap();
        let id = before.unwrap_or_else(|| {
            let id = TaskId::mint(&SeededEnv::from_seed(seed));
            asked.push((ask.clone(), id));
            id
        });
        Box::pin(std::future::ready(Ok(id)))
    }

    fn stop<'a>(
        &'a self,
        _: AccountId,
        task: TaskId,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        self.stopped.lock().unwrap().push(task);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The answer of the root user's request, or the refusal.
macro_rules! ask {
    ($world:expr, $operation:ident, $input:ident { $($member:ident: $value:expr),* $(,)? }) => {
        ask!($world, &$world.world.root(), $operation, $input { $($member: $value),* })
    };
    ($world:expr, $caller:expr, $operation:ident, $input:ident { $($member:ident: $value:expr),* $(,)? }) => {{
        #[allow(clippy::needless_update)]
        let input = api::$input { $($member: Some($value.into()),)* ..Default::default() };
        $world.service.$operation($caller, input).await
    }};
}

pub(crate) use ask;

pub(crate) fn code<T>(answer: Result<T, ApiError>) -> String {
    answer.err().expect("a refusal").code.into_owned()
}

pub(crate) fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) const TOKEN: &str = "01234567-89ab-4def-8123-456789abcdef";
pub(crate) const OTHER_TOKEN: &str = "11234567-89ab-4def-8123-456789abcdef";

impl World {
    pub(crate) fn new() -> Self {
        let world = TestControl::with_config(|config| {
            config.hooks = vec!["rotator.lan".to_owned()];
        });
        let tasks = Arc::new(FakeTasks::default());
        let service = SecretsManager::new(Arc::clone(&world.control), Arc::clone(&tasks) as _);
        Self { world, service: Arc::new(service), tasks }
    }

    pub(crate) async fn create(&self, name: &str, value: &str) -> String {
        let made =
            ask!(self, create_secret, CreateSecretRequest { name: name, secret_string: value });
        made.unwrap().arn.unwrap()
    }

    pub(crate) async fn value(&self, id: &str) -> Result<String, ApiError> {
        let value = ask!(self, get_secret_value, GetSecretValueRequest { secret_id: id })?;
        Ok(value.secret_string.unwrap())
    }

    pub(crate) async fn put(&self, row: impl Into<Row>) {
        let row = row.into();
        let decided = self.world.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, ()))
        });
        decided.await.unwrap();
    }

    /// A user with a policy, in an account.
    pub(crate) async fn user(&self, account: &str, statements: &str) -> Caller {
        let root = self.world.root_of(account);
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        let policy = Policy::parse(&text, PolicyKind::Identity).unwrap();
        let inline = BTreeMap::from([("p".to_owned(), PolicyText::new(policy))]);
        let user = IamUser {
            account: root.account,
            name: "ann".into(),
            path: "/".into(),
            unique_id: format!("AIDA{account}AAAAA").into(),
            created_at: Timestamp(0),
            tags: BTreeMap::new(),
            boundary: None,
            grants: Grants { inline, ..Grants::default() },
            groups: BTreeSet::new(),
            devices: BTreeSet::new(),
            login: None,
        };
        self.put(user.clone()).await;
        let principal = Principal::User { name: user.name, path: user.path, id: user.unique_id };
        Caller { principal, ..root }
    }
}

#[tokio::test]
async fn a_secret_is_read_by_its_name_its_arn_and_its_arn_without_what_was_drawn() {
    let world = World::new();
    let arn = world.create("prod/db", "swordfish").await;
    let (stem, suffix) = arn.rsplit_once('-').unwrap();
    assert!(stem.ends_with(":secret:prod/db") && suffix.len() == 6, "{arn}");
    for id in ["prod/db", &arn, stem] {
        assert_eq!(world.value(id).await.unwrap(), "swordfish", "{id}");
    }
    let elsewhere = arn.replace("us-east-1", "eu-west-1");
    let other_partition = arn.replace("arn:aws:", "arn:aws-cn:");
    let drawn_otherwise = format!("{stem}-aaaaaa");
    let others = [&drawn_otherwise, &elsewhere, &other_partition, "arn:aws:s3:::bucket"];
    for id in std::iter::once("prod").chain(others) {
        assert_eq!(code(world.value(id).await), "ResourceNotFoundException", "{id}");
    }
    let empty = ask!(world, create_secret, CreateSecretRequest { name: "empty" }).unwrap();
    assert_eq!(empty.version_id, None);
    let why = world.value("empty").await.unwrap_err().message;
    assert_eq!(
        why,
        "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"
    );
    let both = ask!(
        world,
        create_secret,
        CreateSecretRequest { name: "both", secret_string: "a", secret_binary: b"a".as_slice() }
    );
    assert_eq!(code(both), "InvalidParameterException");
    let name = ask!(world, create_secret, CreateSecretRequest { name: "a b" });
    assert_eq!(code(name), "ValidationException");
}

#[tokio::test]
async fn the_same_token_with_the_same_value_is_one_version_and_with_another_refused() {
    let world = World::new();
    for _ in 0..2 {
        let made = ask!(
            world,
            create_secret,
            CreateSecretRequest { name: "db", secret_string: "one", client_request_token: TOKEN }
        );
        assert_eq!(made.unwrap().version_id.as_deref(), Some(TOKEN));
    }
    let again = ask!(
        world,
        create_secret,
        CreateSecretRequest { name: "db", secret_string: "one", client_request_token: OTHER_TOKEN }
    );
    assert_eq!(code(again), "ResourceExistsException");
    for _ in 0..2 {
        let put = ask!(
            world,
            put_secret_value,
            PutSecretValueRequest {
                secret_id: "db",
                secret_string: "two",
                client_request_token: OTHER_TOKEN,
            }
        );
        assert_eq!(put.unwrap().version_id.as_deref(), Some(OTHER_TOKEN));
    }
    let other = ask!(
        world,
        put_secret_value,
        PutSecretValueRequest {
            secret_id: "db",
            secret_string: "three",
            client_request_token: OTHER_TOKEN,
        }
    );
    assert_eq!(code(other), "ResourceExistsException");
    let described =
        ask!(world, describe_secret, DescribeSecretRequest { secret_id: "db" }).unwrap();
    let stages = described.version_ids_to_stages.unwrap();
    assert_eq!(stages[OTHER_TOKEN], ["AWSCURRENT"]);
    assert_eq!(stages[TOKEN], ["AWSPREVIOUS"]);
    assert_eq!(described.kms_key_id, None);
    assert_eq!(world.value("db").await.unwrap(), "two");
}

#[tokio::test]
async fn a_stage_moves_only_from_where_it_is_said_to_be() {
    let world = World::new();
    world.create("db", "one").await;
    let put = ask!(
        world,
        put_secret_value,
        PutSecretValueRequest {
            secret_id: "db",
            secret_string: "two",
            client_request_token: TOKEN,
            version_stages: strings(&["blue"]),
        }
    );
    assert_eq!(put.unwrap().version_stages.unwrap(), ["blue"]);
    let by_stage = ask!(
        world,
        get_secret_value,
        GetSecretValueRequest { secret_id: "db", version_stage: "blue" }
    );
    assert_eq!(by_stage.unwrap().secret_string.as_deref(), Some("two"));
    assert_eq!(world.value("db").await.unwrap(), "one");
    let unsaid = ask!(
        world,
        update_secret_version_stage,
        UpdateSecretVersionStageRequest {
            secret_id: "db",
            version_stage: "AWSCURRENT",
            move_to_version_id: TOKEN,
        }
    );
    assert_eq!(code(unsaid), "InvalidParameterException");
    let shown =
        ask!(world, list_secret_version_ids, ListSecretVersionIdsRequest { secret_id: "db" });
    let versions = shown.unwrap().versions.unwrap();
    let current = versions.iter().find(|it| it.version_id.as_deref() != Some(TOKEN)).unwrap();
    let moved = ask!(
        world,
        update_secret_version_stage,
        UpdateSecretVersionStageRequest {
            secret_id: "db",
            version_stage: "AWSCURRENT",
            move_to_version_id: TOKEN,
            remove_from_version_id: current.version_id.clone().unwrap(),
        }
    );
    moved.unwrap();
    assert_eq!(world.value("db").await.unwrap(), "two");
    let gone = ask!(
        world,
        update_secret_version_stage,
        UpdateSecretVersionStageRequest {
            secret_id: "db",
            version_stage: "AWSCURRENT",
            remove_from_version_id: TOKEN,
        }
    );
    assert!(gone.unwrap_err().message.contains("completely removed"));
    let elsewhere = ask!(
        world,
        get_secret_value,
        GetSecretValueRequest { secret_id: "db", version_stage: "AWSPREVIOUS", version_id: TOKEN }
    );
    assert_eq!(code(elsewhere), "InvalidRequestException");
}

#[tokio::test]
async fn a_deleted_secret_keeps_its_name_until_its_window_is_over_and_can_be_restored() {
    let world = World::new();
    world.create("db", "one").await;
    let window = ask!(
        world,
        delete_secret,
        DeleteSecretRequest { secret_id: "db", recovery_window_in_days: 6_i64 }
    );
    assert_eq!(code(window), "InvalidParameterException");
    ask!(
        world,
        delete_secret,
        DeleteSecretRequest { secret_id: "db", recovery_window_in_days: 7_i64 }
    )
    .unwrap();
    assert!(world.value("db").await.unwrap_err().message.contains("marked for deletion"));
    let again = ask!(world, create_secret, CreateSecretRequest { name: "db" });
    assert!(again.unwrap_err().message.contains("already scheduled for deletion"));
    let listed = ask!(world, list_secrets, ListSecretsRequest {}).unwrap().secret_list.unwrap();
    assert!(listed.is_empty());
    ask!(world, restore_secret, RestoreSecretRequest { secret_id: "db" }).unwrap();
    assert_eq!(world.value("db").await.unwrap(), "one");

    ask!(
        world,
        delete_secret,
        DeleteSecretRequest { secret_id: "db", recovery_window_in_days: 7_i64 }
    )
    .unwrap();
    let which = (world.world.root().account, "db".into());
    let reconciler = expiry::DeletedSecrets(Arc::clone(&world.world.control));
    use control::reconcile::Reconciler as _;
    let early = reconciler.pass(&which).await.unwrap();
    assert!(early.again_at.is_some() && !early.is_over);
    world.world.env.advance_ms(7 * limits::DAY_MS);
    for _ in 0..2 {
        assert!(reconciler.pass(&which).await.unwrap().is_over);
    }
    let view = world.world.control.view();
    assert_eq!((view.secrets.len(), view.secret_versions.len()), (0, 0));
    world.create("db", "two").await;
    assert_eq!(world.value("db").await.unwrap(), "two");
    ask!(
        world,
        delete_secret,
        DeleteSecretRequest { secret_id: "db", force_delete_without_recovery: true }
    )
    .unwrap();
    ask!(
        world,
        delete_secret,
        DeleteSecretRequest { secret_id: "db", force_delete_without_recovery: true }
    )
    .unwrap();
    assert_eq!(code(world.value("db").await), "ResourceNotFoundException");
}

#[tokio::test]
async fn a_secrets_policy_opens_it_to_others_and_closes_it_to_its_own() {
    let world = World::new();
    let own = "000000000000";
    let arn = world.create("db", "one").await;
    let reading = r#"{"Effect":"Allow","Action":"secretsmanager:GetSecretValue","Resource":"*"}"#;
    let (ann, bob) = (world.user(own, reading).await, world.user("111122223333", reading).await);
    let get = async |caller: &Caller, id: &str| {
        let value = ask!(world, caller, get_secret_value, GetSecretValueRequest { secret_id: id })?;
        Ok::<_, ApiError>(value.secret_string.unwrap())
    };
    assert_eq!(get(&ann, "db").await.unwrap(), "one");
    let denied = get(&bob, &arn).await.unwrap_err();
    assert!(denied.message.contains("no resource-based policy"), "{}", denied.message);
    let policy = |statement: &str| format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
    let deny = policy(
        r#"{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::000000000000:user/ann"},"Action":"*","Resource":"*"}"#,
    );
    ask!(
        world,
        put_resource_policy,
        PutResourcePolicyRequest { secret_id: "db", resource_policy: deny.clone() }
    )
    .unwrap();
    assert!(get(&ann, "db").await.unwrap_err().denial.is_some());
    let shown =
        ask!(world, get_resource_policy, GetResourcePolicyRequest { secret_id: "db" }).unwrap();
    assert_eq!(shown.resource_policy, Some(deny));
    let open = policy(
        r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"secretsmanager:*","Resource":"*"}"#,
    );
    ask!(
        world,
        put_resource_policy,
        PutResourcePolicyRequest { secret_id: "db", resource_policy: open }
    )
    .unwrap();
    let by_key = get(&bob, &arn).await.unwrap_err();
    assert!(by_key.message.starts_with("Access to KMS is not allowed"), "{}", by_key.message);
    assert!(by_key.denial.is_some(), "Amazon's own key is its account's alone");
    let public =
        policy(r#"{"Effect":"Allow","Principal":"*","Action":"secretsmanager:*","Resource":"*"}"#);
    let blocked = ask!(
        world,
        put_resource_policy,
        PutResourcePolicyRequest {
            secret_id: "db",
            resource_policy: public.clone(),
            block_public_policy: true,
        }
    );
    assert_eq!(code(blocked), "PublicPolicyException");
    let valid = ask!(
        world,
        validate_resource_policy,
        ValidateResourcePolicyRequest { resource_policy: public }
    );
    assert_eq!(valid.unwrap().policy_validation_passed, Some(false));
    let unknown = policy(
        r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:role/none"},"Action":"*","Resource":"*"}"#,
    );
    for text in [unknown.as_str(), "{}"] {
        let refused = ask!(
            world,
            put_resource_policy,
            PutResourcePolicyRequest { secret_id: "db", resource_policy: text }
        );
        assert_eq!(code(refused), "MalformedPolicyDocumentException");
    }
}

#[tokio::test]
async fn permissions_ask_for_tags_and_stages() {
    let world = World::new();
    let own = "000000000000";
    let tags = vec![api::Tag { key: Some("team".to_owned()), value: Some("a".to_owned()) }];
    ask!(
        world,
        create_secret,
        CreateSecretRequest { name: "db", secret_string: "one", tags: tags }
    )
    .unwrap();
    world.create("other", "two").await;
    let ann = world.user(own, r#"{"Effect":"Allow","Action":"secretsmanager:GetSecretValue","Resource":"*",
        "Condition":{"StringEquals":{"aws:ResourceTag/team":"a","secretsmanager:VersionStage":"AWSCURRENT"}}}"#).await;
    let get = async |id: &str, stage: &str| {
        ask!(
            world,
            &ann,
            get_secret_value,
            GetSecretValueRequest { secret_id: id, version_stage: stage }
        )
    };
    assert!(get("db", "AWSCURRENT").await.is_ok());
    for (id, stage) in [("other", "AWSCURRENT"), ("db", "AWSPREVIOUS")] {
        let denied = get(id, stage).await.unwrap_err();
        assert!(denied.message.contains(&format!("on resource: {id}")), "{}", denied.message);
    }
    let batch = ask!(
        world,
        batch_get_secret_value,
        BatchGetSecretValueRequest { secret_id_list: strings(&["db", "other", "none"]) }
    );
    let batch = batch.unwrap();
    assert_eq!(batch.secret_values.unwrap().len(), 2);
    assert_eq!(batch.errors.unwrap()[0].error_code.as_deref(), Some("ResourceNotFoundException"));
}

#[tokio::test]
async fn lists_are_narrowed_and_come_in_pages() {
    let world = World::new();
    for name in ["prod/a", "prod/b", "dev/a"] {
        world.create(name, "x").await;
    }
    let filter = |key: &str, values: &[&str]| {
        let key = Some(api::FilterNameStringType::from(key));
        vec![api::Filter { key, values: Some(strings(values)) }]
    };
    let names = async |filters: Vec<api::Filter>| {
        let listed = ask!(world, list_secrets, ListSecretsRequest { filters: filters }).unwrap();
        let listed = listed.secret_list.unwrap().into_iter().map(|it| it.name.unwrap());
        listed.collect::<Vec<_>>()
    };
    assert_eq!(names(filter("name", &["prod"])).await, ["prod/a", "prod/b"]);
    assert_eq!(names(filter("name", &["!prod"])).await, ["dev/a"]);
    assert_eq!(names(filter("all", &["DEV"])).await, ["dev/a"]);
    let first = ask!(
        world,
        list_secrets,
        ListSecretsRequest {
            max_results: 2,
            sort_by: api::SortByType::Name,
            sort_order: api::SortOrderType::Desc,
        }
    );
    let first = first.unwrap();
    assert_eq!(first.secret_list.unwrap()[0].name.as_deref(), Some("prod/b"));
    let rest = ask!(
        world,
        list_secrets,
        ListSecretsRequest {
            max_results: 2,
            sort_by: api::SortByType::Name,
            sort_order: api::SortOrderType::Desc,
            next_token: first.next_token.unwrap(),
        }
    );
    let rest = rest.unwrap();
    assert_eq!((rest.secret_list.unwrap().len(), rest.next_token), (1, None));
    let odd = ask!(world, list_secrets, ListSecretsRequest { next_token: "%" });
    assert_eq!(code(odd), "InvalidNextTokenException");
}

#[tokio::test]
async fn no_row_and_nothing_printed_has_a_value() {
    let world = World::new();
    world.create("db", "swordfish").await;
    let view = world.world.control.view();
    for (_, row) in view.rows() {
        let text = row.to_json().unwrap();
        assert!(!text.contains("swordfish") && !text.contains("c3dvcmRmaXNo"), "{text}");
    }
    let ask = control::secrets::SecretAsk { secret: "db", version: None, stage: None };
    let value = world.world.control.secret_value(&view, &world.world.root(), &ask).unwrap();
    assert!(!format!("{value:?}").contains("swordfish"));
    let shown = ask!(world, get_secret_value, GetSecretValueRequest { secret_id: "db" }).unwrap();
    assert!(!format!("{shown:?}").contains("swordfish"));
}
