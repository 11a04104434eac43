use control::testing::TestControl;
use iam_api as api;
use iam_api::Iam as _;

use super::*;

const READ: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecs:Describe*","Resource":"*"}}"#;
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}}"#;

struct World {
    world: TestControl,
    iam: Iam,
}

/// The answer, or the code of the refusal.
macro_rules! ask {
    ($world:expr, $operation:ident, $input:ident { $($member:ident: $value:expr),* $(,)? }) => {{
        #[allow(clippy::needless_update)]
        let input = api::$input { $($member: Some($value.into()),)* ..Default::default() };
        $world.iam.$operation(&$world.world.root(), input).await
    }};
}

mod absent;
mod linked;

fn refusal<T>(answer: Result<T, ApiError>) -> (String, String) {
    let error = answer.err().expect("a refusal");
    (error.code.into_owned(), error.message)
}

fn said(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

impl World {
    async fn new() -> Self {
        let world = TestControl::new();
        let iam = Iam::new(Arc::clone(&world.control));
        iam.begin(control::Config::root_account()).await.unwrap();
        Self { world, iam }
    }

    fn user(&self, name: &str) -> Caller {
        let view = self.world.control.view();
        let row = view.iam_users.of(self.world.root().account).find(|row| &*row.name == name);
        let row = row.unwrap();
        let principal = Principal::User {
            name: Arc::clone(&row.name),
            path: Arc::clone(&row.path),
            id: Arc::clone(&row.unique_id),
        };
        Caller { principal, ..self.world.root() }
    }
}

#[tokio::test]
async fn every_account_begins_with_the_role_that_tasks_are_executed_with() {
    let world = World::new().await;
    world.iam.begin(control::Config::root_account()).await.unwrap();
    let role = ask!(world, get_role, GetRoleRequest { role_name: "ecsTaskExecutionRole" }).unwrap();
    let role = role.role.unwrap();
    assert_eq!(role.arn.as_deref(), Some("arn:aws:iam::000000000000:role/ecsTaskExecutionRole"));
    assert!(role.role_id.unwrap().starts_with("AROA"));
    let document = role.assume_role_policy_document.unwrap();
    assert!(document.contains("ecs-tasks.amazonaws.com"), "{document}");
    let request = ask!(
        world,
        list_attached_role_policies,
        ListAttachedRolePoliciesRequest { role_name: "ecsTaskExecutionRole" }
    );
    let attached = request.unwrap().attached_policies.unwrap();
    assert_eq!(attached[0].policy_name.as_deref(), Some("AmazonECSTaskExecutionRolePolicy"));
}

#[tokio::test]
async fn a_user_is_made_found_renamed_and_deleted_once_nothing_hangs_on_it() {
    let world = World::new().await;
    let made = ask!(world, create_user, CreateUserRequest { user_name: "Ann", path: "/team/" });
    let made = made.unwrap().user.unwrap();
    assert_eq!(made.arn.as_deref(), Some("arn:aws:iam::000000000000:user/team/Ann"));
    assert_eq!(made.user_id.as_ref().map(|id| (&id[..4] == "AIDA", id.len())), Some((true, 21)));
    let again = refusal(ask!(world, create_user, CreateUserRequest { user_name: "ANN" }));
    assert_eq!(again, said("EntityAlreadyExists", "User with name ANN already exists."));
    let nobody = refusal(ask!(world, get_user, GetUserRequest { user_name: "bob" }));
    assert_eq!(nobody, said("NoSuchEntity", "The user with name bob cannot be found."));
    let path =
        refusal(ask!(world, create_user, CreateUserRequest { user_name: "b", path: "team" }));
    assert_eq!(path.0, "ValidationError");

    let put = PutUserPolicyRequest(&world, "Ann", "read", READ).await;
    put.unwrap();
    let conflict = refusal(ask!(world, delete_user, DeleteUserRequest { user_name: "Ann" }));
    assert_eq!(
        conflict,
        said("DeleteConflict", "Cannot delete entity, must delete policies first.")
    );
    let rename =
        ask!(world, update_user, UpdateUserRequest { user_name: "Ann", new_user_name: "Eve" });
    rename.unwrap();
    let policy = ask!(
        world,
        get_user_policy,
        GetUserPolicyRequest { user_name: "Eve", policy_name: "read" }
    );
    assert!(policy.unwrap().policy_document.unwrap().starts_with("%7B%22Version%22%3A"));
    ask!(
        world,
        delete_user_policy,
        DeleteUserPolicyRequest { user_name: "Eve", policy_name: "read" }
    )
    .unwrap();
    ask!(world, delete_user, DeleteUserRequest { user_name: "Eve" }).unwrap();
    assert!(ask!(world, get_user, GetUserRequest { user_name: "Eve" }).is_err());
}

#[expect(non_snake_case, reason = "it stands for the request")]
async fn PutUserPolicyRequest(
    world: &World,
    user: &str,
    name: &str,
    document: &str,
) -> Result<(), ApiError> {
    ask!(
        world,
        put_user_policy,
        PutUserPolicyRequest { user_name: user, policy_name: name, policy_document: document }
    )
}

#[tokio::test]
async fn a_user_has_two_keys_which_open_as_long_as_they_are_active() {
    let world = World::new().await;
    ask!(world, create_user, CreateUserRequest { user_name: "ann" }).unwrap();
    let make = async || ask!(world, create_access_key, CreateAccessKeyRequest { user_name: "ann" });
    let key = make().await.unwrap().access_key.unwrap();
    let (id, secret) = (key.access_key_id.unwrap(), key.secret_access_key.unwrap());
    assert_eq!((&id[..4], id.len(), secret.len()), ("AKIA", 20, 40));
    let control = &world.world.control;
    let found = || control.access.find(&control.view(), &id, None);
    assert_eq!(found().unwrap().secret.reveal(), secret);
    let view = control.view();
    let row = view.iam_access_keys.iter().next().unwrap();
    assert!(!format!("{row:?}").contains(&secret));

    make().await.unwrap();
    let third = refusal(make().await);
    assert_eq!(third, said("LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2"));
    let set = async |status: &str| {
        ask!(
            world,
            update_access_key,
            UpdateAccessKeyRequest { user_name: "ann", access_key_id: id.as_str(), status: status }
        )
    };
    set("Inactive").await.unwrap();
    assert_eq!(found(), None);
    set("Active").await.unwrap();
    let conflict = refusal(ask!(world, delete_user, DeleteUserRequest { user_name: "ann" }));
    assert_eq!(conflict.1, "Cannot delete entity, must delete access keys first.");

    let used = async || {
        let request = ask!(
            world,
            get_access_key_last_used,
            GetAccessKeyLastUsedRequest { access_key_id: id.as_str() }
        );
        request.unwrap().access_key_last_used.unwrap()
    };
    assert_eq!(used().await.service_name.as_deref(), Some("N/A"));
    let (account, at) = (world.world.root().account, world.world.root().now);
    let region = "us-east-1".to_owned();
    control.access.uses.note(&id, control::iam::KeyUse { account, at, service: "ecs", region });
    assert_eq!(used().await.service_name.as_deref(), Some("ecs"));
    uses::write(control).await.unwrap();
    assert_eq!(control.access.uses.last(&id), None);
    assert_eq!(used().await.service_name.as_deref(), Some("ecs"));
}

#[tokio::test]
async fn the_root_users_key_is_listed_and_no_users() {
    let world = World::new().await;
    let listed = ask!(world, list_access_keys, ListAccessKeysRequest {}).unwrap();
    let keys = listed.access_key_metadata.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].access_key_id.as_ref(), Some(&world.world.root().access_key));
    assert_eq!(keys[0].user_name, None);
    let refused = refusal(ask!(world, create_access_key, CreateAccessKeyRequest {}));
    assert_eq!(refused.0, "UnmodifiableEntity");
    assert!(refused.1.contains("keys.json"), "{}", refused.1);
    let devices = ask!(world, list_mfa_devices, ListMFADevicesRequest {}).unwrap();
    assert_eq!(devices.mfa_devices, Some(Vec::new()));
    let certificates = ask!(world, list_signing_certificates, ListSigningCertificatesRequest {});
    assert_eq!(certificates.unwrap().certificates, Some(Vec::new()));
    let login = refusal(ask!(world, get_login_profile, GetLoginProfileRequest {}));
    assert_eq!(login, said("NoSuchEntity", "Login Profile for User root cannot be found."));
}

#[tokio::test]
async fn who_is_in_a_group_may_what_the_group_may() {
    let world = World::new().await;
    ask!(world, create_user, CreateUserRequest { user_name: "ann" }).unwrap();
    ask!(world, create_group, CreateGroupRequest { group_name: "readers" }).unwrap();
    let list = Permission::to("ecs:DescribeClusters").on("*");
    assert!(world.world.control.read(&world.user("ann"), &list).is_err());
    ask!(
        world,
        put_group_policy,
        PutGroupPolicyRequest { group_name: "readers", policy_name: "read", policy_document: READ }
    )
    .unwrap();
    ask!(
        world,
        add_user_to_group,
        AddUserToGroupRequest { group_name: "readers", user_name: "ann" }
    )
    .unwrap();
    assert!(world.world.control.read(&world.user("ann"), &list).is_ok());
    let group = ask!(world, get_group, GetGroupRequest { group_name: "readers" }).unwrap();
    assert_eq!(group.users.unwrap().len(), 1);
    let conflict = refusal(ask!(world, delete_group, DeleteGroupRequest { group_name: "readers" }));
    assert_eq!(conflict.1, "Cannot delete entity, must remove users from group first.");
    ask!(
        world,
        update_group,
        UpdateGroupRequest { group_name: "readers", new_group_name: "seers" }
    )
    .unwrap();
    assert!(world.world.control.read(&world.user("ann"), &list).is_ok());
    let groups =
        ask!(world, list_groups_for_user, ListGroupsForUserRequest { user_name: "ann" }).unwrap();
    assert_eq!(groups.groups.unwrap()[0].group_name.as_deref(), Some("seers"));
}

#[tokio::test]
async fn a_managed_policy_has_five_versions_and_the_default_one_applies() {
    let world = World::new().await;
    let made = ask!(
        world,
        create_policy,
        CreatePolicyRequest { policy_name: "read", policy_document: READ }
    );
    let arn = made.unwrap().policy.unwrap().arn.unwrap();
    assert_eq!(arn, "arn:aws:iam::000000000000:policy/read");
    ask!(world, create_user, CreateUserRequest { user_name: "ann" }).unwrap();
    ask!(
        world,
        attach_user_policy,
        AttachUserPolicyRequest { user_name: "ann", policy_arn: arn.as_str() }
    )
    .unwrap();
    let list = Permission::to("ecs:DescribeClusters").on("*");
    assert!(world.world.control.read(&world.user("ann"), &list).is_ok());
    let other = READ.replace("Describe", "List");
    for _ in 0..4 {
        ask!(
            world,
            create_policy_version,
            CreatePolicyVersionRequest {
                policy_arn: arn.as_str(),
                policy_document: other.as_str()
            }
        )
        .unwrap();
    }
    let sixth = refusal(ask!(
        world,
        create_policy_version,
        CreatePolicyVersionRequest { policy_arn: arn.as_str(), policy_document: READ }
    ));
    assert!(sixth.1.starts_with("A managed policy can have up to 5 versions."), "{sixth:?}");
    ask!(
        world,
        set_default_policy_version,
        SetDefaultPolicyVersionRequest { policy_arn: arn.as_str(), version_id: "v3" }
    )
    .unwrap();
    assert!(world.world.control.read(&world.user("ann"), &list).is_err());
    let shown = ask!(world, get_policy, GetPolicyRequest { policy_arn: arn.as_str() }).unwrap();
    let shown = shown.policy.unwrap();
    assert_eq!(
        (shown.default_version_id.as_deref(), shown.attachment_count),
        (Some("v3"), Some(1))
    );
    let attached =
        refusal(ask!(world, delete_policy, DeletePolicyRequest { policy_arn: arn.as_str() }));
    assert_eq!(attached, said("DeleteConflict", "Cannot delete a policy attached to entities."));
    let entities = ask!(
        world,
        list_entities_for_policy,
        ListEntitiesForPolicyRequest { policy_arn: arn.as_str() }
    );
    assert_eq!(entities.unwrap().policy_users.unwrap()[0].user_name.as_deref(), Some("ann"));
    let of_aws = "arn:aws:iam::aws:policy/AdministratorAccess";
    let version = ask!(
        world,
        get_policy_version,
        GetPolicyVersionRequest { policy_arn: of_aws, version_id: "v1" }
    );
    assert!(version.unwrap().policy_version.unwrap().document.unwrap().contains("%22Allow%22"));
}

#[tokio::test]
async fn documents_are_refused_in_iams_words() {
    let world = World::new().await;
    ask!(world, create_user, CreateUserRequest { user_name: "ann" }).unwrap();
    for (document, message) in [
        ("{", "Syntax errors in policy."),
        (
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecs:*"}}"#,
            "Policy statement must contain resources.",
        ),
    ] {
        let refused = refusal(PutUserPolicyRequest(&world, "ann", "own", document).await);
        assert_eq!(refused, said("MalformedPolicyDocument", message));
    }
    let long = READ.replace("ecs:Describe*", &format!("ecs:{}", "a".repeat(2_048)));
    let refused = refusal(PutUserPolicyRequest(&world, "ann", "own", &long).await);
    let message = "Maximum policy size of 2048 bytes exceeded for user ann";
    assert_eq!(refused, said("LimitExceeded", message));
}

#[tokio::test]
async fn a_role_trusts_those_that_are_there_and_shows_who_is_gone() {
    let world = World::new().await;
    let trust = TRUST.replace(
        r#""Service":"ecs-tasks.amazonaws.com""#,
        r#""AWS":"arn:aws:iam::000000000000:user/ann""#,
    );
    let make = async || {
        ask!(
            world,
            create_role,
            CreateRoleRequest { role_name: "ci", assume_role_policy_document: trust.as_str() }
        )
    };
    let unknown = refusal(make().await);
    let message = "Invalid principal in policy: \"AWS\":\"arn:aws:iam::000000000000:user/ann\"";
    assert_eq!(unknown, said("MalformedPolicyDocument", message));
    ask!(world, create_user, CreateUserRequest { user_name: "ann" }).unwrap();
    let made = make().await.unwrap().role.unwrap();
    assert_eq!(made.max_session_duration, Some(3_600));
    ask!(world, delete_user, DeleteUserRequest { user_name: "ann" }).unwrap();
    let shown = async || {
        let role = ask!(world, get_role, GetRoleRequest { role_name: "ci" }).unwrap();
        role.role.unwrap().assume_role_policy_document.unwrap()
    };
    assert!(shown().await.contains("AIDA"));
    // Another of that name is not trusted.
    ask!(world, create_user, CreateUserRequest { user_name: "ann" }).unwrap();
    assert!(shown().await.contains("AIDA"));
}

#[tokio::test]
async fn an_instance_profile_has_one_role_which_is_not_deleted_under_it() {
    let world = World::new().await;
    ask!(
        world,
        create_role,
        CreateRoleRequest { role_name: "host", assume_role_policy_document: TRUST }
    )
    .unwrap();
    ask!(
        world,
        create_instance_profile,
        CreateInstanceProfileRequest { instance_profile_name: "host" }
    )
    .unwrap();
    let add = async |role: &str| {
        ask!(
            world,
            add_role_to_instance_profile,
            AddRoleToInstanceProfileRequest { instance_profile_name: "host", role_name: role }
        )
    };
    let unknown = refusal(add("other").await);
    assert_eq!(unknown, said("NoSuchEntity", "The role with name other cannot be found."));
    add("host").await.unwrap();
    let second = refusal(add("ecsTaskExecutionRole").await);
    assert!(second.1.ends_with("InstanceSessionsPerInstanceProfile: 1"), "{second:?}");
    let conflict = refusal(ask!(world, delete_role, DeleteRoleRequest { role_name: "host" }));
    assert!(conflict.1.ends_with("must remove roles from instance profile first."));
    let profiles = ask!(
        world,
        list_instance_profiles_for_role,
        ListInstanceProfilesForRoleRequest { role_name: "host" }
    );
    assert_eq!(profiles.unwrap().instance_profiles.unwrap().len(), 1);
}

#[tokio::test]
async fn a_provider_is_found_by_its_address_and_keeps_its_clients() {
    let world = World::new().await;
    let make = async || {
        ask!(
            world,
            create_open_id_connect_provider,
            CreateOpenIDConnectProviderRequest {
                url: "https://token.example.com",
                client_id_list: vec!["sts.amazonaws.com".to_owned()],
            }
        )
    };
    let arn = make().await.unwrap().open_id_connect_provider_arn.unwrap();
    assert_eq!(arn, "arn:aws:iam::000000000000:oidc-provider/token.example.com");
    let again = refusal(make().await);
    assert_eq!(again.1, "Provider with url https://token.example.com already exists.");
    ask!(
        world,
        add_client_id_to_open_id_connect_provider,
        AddClientIDToOpenIDConnectProviderRequest {
            open_id_connect_provider_arn: arn.as_str(),
            client_id: "other",
        }
    )
    .unwrap();
    let shown = ask!(
        world,
        get_open_id_connect_provider,
        GetOpenIDConnectProviderRequest { open_id_connect_provider_arn: arn.as_str() }
    );
    assert_eq!(shown.unwrap().client_id_list.unwrap(), ["sts.amazonaws.com", "other"]);
}

#[tokio::test]
async fn a_simulation_says_what_a_request_would_be_told_and_by_which_statement() {
    let world = World::new().await;
    ask!(world, create_user, CreateUserRequest { user_name: "ann" }).unwrap();
    PutUserPolicyRequest(&world, "ann", "read", READ).await.unwrap();
    let simulated = ask!(
        world,
        simulate_principal_policy,
        SimulatePrincipalPolicyRequest {
            policy_source_arn: "arn:aws:iam::000000000000:user/ann",
            action_names: vec!["ecs:DescribeTasks".to_owned(), "ecs:StopTask".to_owned()],
        }
    );
    let results = simulated.unwrap().evaluation_results.unwrap();
    let decisions: Vec<&str> =
        results.iter().map(|it| it.eval_decision.as_ref().unwrap().as_str()).collect();
    assert_eq!(decisions, ["allowed", "implicitDeny"]);
    let matched = results[0].matched_statements.as_ref().unwrap();
    assert_eq!(matched[0].source_policy_id.as_deref(), Some("read"));
    assert_eq!(matched[0].start_position.as_ref().unwrap().line, Some(1));
}

#[tokio::test]
async fn a_user_without_permission_is_told_and_may_look_after_itself_with_one() {
    let world = World::new().await;
    ask!(world, create_user, CreateUserRequest { user_name: "ann" }).unwrap();
    let ann = world.user("ann");
    let get = api::GetUserRequest::default();
    let refused = refusal(world.iam.get_user(&ann, get.clone()).await);
    assert_eq!(
        refused.1,
        "User: arn:aws:iam::000000000000:user/ann is not authorized to perform: iam:GetUser on resource: user \
         ann because no identity-based policy allows the iam:GetUser action"
    );
    let own = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::*:user/${aws:username}"}}"#;
    PutUserPolicyRequest(&world, "ann", "own", own).await.unwrap();
    assert!(world.iam.get_user(&ann, get).await.is_ok());
    assert!(world.iam.create_access_key(&ann, Default::default()).await.is_ok());
    let other = api::CreateUserRequest { user_name: Some("eve".to_owned()), ..Default::default() };
    let refused = refusal(world.iam.create_user(&ann, other).await);
    assert!(refused.1.contains("on resource: arn:aws:iam::000000000000:user/eve because"));
}

#[tokio::test]
async fn an_account_has_one_alias_and_a_summary() {
    let world = World::new().await;
    ask!(world, create_account_alias, CreateAccountAliasRequest { account_alias: "shop" }).unwrap();
    let listed = ask!(world, list_account_aliases, ListAccountAliasesRequest {}).unwrap();
    assert_eq!(listed.account_aliases.unwrap(), ["shop"]);
    for strange in ["Shop", "my--shop", "-shop", "shop-", "my shop", "\u{1}\u{e9}{}", "ab"] {
        let input = api::CreateAccountAliasRequest { account_alias: Some(strange.to_owned()) };
        let refused = refusal(world.iam.create_account_alias(&world.world.root(), input).await);
        assert_eq!(refused.0, "ValidationError", "{strange}: {}", refused.1);
    }
    let other = world.world.root_of("111122223333");
    let taken = api::CreateAccountAliasRequest { account_alias: Some("shop".to_owned()) };
    let taken = refusal(world.iam.create_account_alias(&other, taken).await);
    assert_eq!(taken.0, "EntityAlreadyExists");
    let summary = world.iam.get_account_summary(&world.world.root()).await.unwrap();
    let summary = summary.summary_map.unwrap();
    assert_eq!((summary["Roles"], summary["PolicySizeQuota"]), (1, 6_144));
    let details =
        ask!(world, get_account_authorization_details, GetAccountAuthorizationDetailsRequest {});
    assert_eq!(details.unwrap().role_detail_list.unwrap().len(), 1);
}

#[tokio::test]
async fn a_password_policy_is_kept_and_shown_until_it_is_deleted() {
    let world = World::new().await;
    let root = world.world.root();
    let missing = refusal(world.iam.get_account_password_policy(&root).await);
    let sentence = "The Password Policy with domain name 000000000000 cannot be found.";
    assert_eq!((missing.0.as_str(), missing.1.as_str()), ("NoSuchEntity", sentence));
    let policy = api::UpdateAccountPasswordPolicyRequest {
        minimum_password_length: Some(14),
        require_symbols: Some(true),
        max_password_age: Some(90),
        ..Default::default()
    };
    world.iam.update_account_password_policy(&root, policy).await.unwrap();
    ask!(world, create_account_alias, CreateAccountAliasRequest { account_alias: "shop" }).unwrap();
    let shown = world.iam.get_account_password_policy(&root).await.unwrap();
    let shown = shown.password_policy.unwrap();
    assert_eq!((shown.minimum_password_length, shown.require_symbols), (Some(14), Some(true)));
    assert_eq!((shown.expire_passwords, shown.require_numbers), (Some(true), Some(false)));
    world.iam.delete_account_password_policy(&root).await.unwrap();
    let missing = refusal(world.iam.delete_account_password_policy(&root).await);
    assert_eq!(missing.1, "The account policy with name PasswordPolicy cannot be found.");
}

#[tokio::test]
async fn a_role_shows_when_it_was_last_used_and_its_successor_does_not() {
    let world = World::new().await;
    let control = &world.world.control;
    let role = || {
        let view = control.view();
        let account = world.world.root().account;
        let row = view.iam_roles.of(account).next().unwrap();
        (row.name.to_string(), row.unique_id.to_string())
    };
    let (name, id) = role();
    let used = async || {
        let role = ask!(world, get_role, GetRoleRequest { role_name: name.as_str() });
        role.unwrap().role.unwrap().role_last_used.unwrap()
    };
    assert_eq!(used().await.region, None);
    let (account, at) = (world.world.root().account, world.world.root().now);
    let region = "us-east-1".to_owned();
    control.access.uses.note(&id, control::iam::KeyUse { account, at, service: "ecs", region });
    assert_eq!(used().await.region.as_deref(), Some("us-east-1"));
    uses::write(control).await.unwrap();
    assert_eq!(control.access.uses.last(&id), None);
    assert!(used().await.last_used_date.is_some());
}

#[tokio::test]
async fn who_may_change_passwords_by_amazons_policy_may_change_its_own() {
    let world = World::new().await;
    ask!(world, create_user, CreateUserRequest { user_name: "ann", path: "/ops/" }).unwrap();
    let attach = api::AttachUserPolicyRequest {
        user_name: Some("ann".to_owned()),
        policy_arn: Some("arn:aws:iam::aws:policy/IAMUserChangePassword".to_owned()),
    };
    world.iam.attach_user_policy(&world.world.root(), attach).await.unwrap();
    let ann = world.user("ann");
    let may = |arn: &str| {
        let change = Permission::to("iam:ChangePassword").on(arn);
        world.world.control.read(&ann, &change).is_ok()
    };
    assert!(may("arn:aws:iam::000000000000:user/ops/ann"));
    assert!(!may("arn:aws:iam::000000000000:user/ops/bob"));
}
