use aws_wire::Principal;
use control::reconcile::Reconciler as _;
use control::testing::TestControl;
use kms_api::Kms as _;
use model::{Grants, IamUser, PolicyText, Row};
use policy::{Policy, PolicyKind};
use std::collections::BTreeSet;

use super::*;

struct World {
    world: TestControl,
    service: Arc<Kms>,
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

fn code<T>(answer: Result<T, ApiError>) -> String {
    answer.err().expect("a refusal").code.into_owned()
}

fn context(name: &str, value: &str) -> EncryptionContext {
    EncryptionContext::from([(name.to_owned(), value.to_owned())])
}

impl World {
    fn new() -> Self {
        let world = TestControl::new();
        let service = Arc::new(Kms::new(Arc::clone(&world.control)));
        Self { world, service }
    }

    async fn create(&self) -> String {
        let made = ask!(self, create_key, CreateKeyRequest { description: "mine" }).unwrap();
        made.key_metadata.unwrap().key_id.unwrap()
    }

    async fn encrypt(&self, key: &str) -> Result<bytes::Bytes, ApiError> {
        let done = ask!(
            self,
            encrypt,
            EncryptRequest {
                key_id: key,
                plaintext: b"plain".as_slice(),
                encryption_context: context("a", "b"),
            }
        )?;
        Ok(done.ciphertext_blob.unwrap())
    }

    async fn decrypt(
        &self,
        blob: &bytes::Bytes,
        with: EncryptionContext,
    ) -> Result<String, ApiError> {
        let done = ask!(
            self,
            decrypt,
            DecryptRequest { ciphertext_blob: blob.clone(), encryption_context: with }
        )?;
        Ok(String::from_utf8(done.plaintext.unwrap().to_vec()).unwrap())
    }

    async fn state(&self, key: &str) -> api::KeyMetadata {
        let described = ask!(self, describe_key, DescribeKeyRequest { key_id: key }).unwrap();
        described.key_metadata.unwrap()
    }

    async fn user(&self, statement: &str) -> Caller {
        let root = self.world.root();
        let text = format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
        let policy = Policy::parse(&text, PolicyKind::Identity).unwrap();
        let inline = BTreeMap::from([("p".to_owned(), PolicyText::new(policy))]);
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
        let decided = self.world.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, ()))
        });
        decided.await.unwrap();
        let principal = Principal::User { name: user.name, path: user.path, id: user.unique_id };
        Caller { principal, ..root }
    }
}

#[tokio::test]
async fn a_text_opens_with_its_context_and_while_its_key_is_enabled() {
    let world = World::new();
    let key = world.create().await;
    let blob = world.encrypt(&key).await.unwrap();
    assert_eq!(world.decrypt(&blob, context("a", "b")).await.unwrap(), "plain");
    for wrong in [EncryptionContext::new(), context("a", "c")] {
        assert_eq!(code(world.decrypt(&blob, wrong).await), "InvalidCiphertextException");
    }
    let cut = blob.slice(..blob.len() - 1);
    assert_eq!(code(world.decrypt(&cut, context("a", "b")).await), "InvalidCiphertextException");
    let junk = bytes::Bytes::from_static(b"junk");
    assert_eq!(code(world.decrypt(&junk, context("a", "b")).await), "InvalidCiphertextException");
    let other = world.create().await;
    let wrong = ask!(
        world,
        decrypt,
        DecryptRequest {
            ciphertext_blob: blob.clone(),
            encryption_context: context("a", "b"),
            key_id: other.clone(),
        }
    );
    assert_eq!(code(wrong), "IncorrectKeyException");
    let again = ask!(
        world,
        re_encrypt,
        ReEncryptRequest {
            ciphertext_blob: blob.clone(),
            source_encryption_context: context("a", "b"),
            destination_key_id: other.clone(),
            destination_encryption_context: context("c", "d"),
        }
    );
    let again = again.unwrap();
    assert!(again.key_id.unwrap().ends_with(&other));
    assert_eq!(
        world.decrypt(&again.ciphertext_blob.unwrap(), context("c", "d")).await.unwrap(),
        "plain"
    );

    ask!(world, disable_key, DisableKeyRequest { key_id: key.clone() }).unwrap();
    assert_eq!(code(world.encrypt(&key).await), "DisabledException");
    assert_eq!(code(world.decrypt(&blob, context("a", "b")).await), "DisabledException");
    ask!(world, enable_key, EnableKeyRequest { key_id: key.clone() }).unwrap();
    assert!(world.encrypt(&key).await.is_ok());
}

#[tokio::test]
async fn a_key_that_is_to_be_deleted_opens_nothing_and_is_destroyed_in_time() {
    let world = World::new();
    let key = world.create().await;
    let blob = world.encrypt(&key).await.unwrap();
    ask!(
        world,
        create_alias,
        CreateAliasRequest { alias_name: "alias/web", target_key_id: key.clone() }
    )
    .unwrap();
    let early = ask!(
        world,
        schedule_key_deletion,
        ScheduleKeyDeletionRequest { key_id: key.clone(), pending_window_in_days: 6 }
    );
    assert_eq!(code(early), "ValidationException");
    let schedule = async || {
        ask!(
            world,
            schedule_key_deletion,
            ScheduleKeyDeletionRequest { key_id: key.clone(), pending_window_in_days: 7 }
        )
    };
    schedule().await.unwrap();
    assert_eq!(code(schedule().await), "KMSInvalidStateException");
    assert_eq!(world.state(&key).await.key_state, Some(api::KeyState::PendingDeletion));
    let why = world.decrypt(&blob, context("a", "b")).await.unwrap_err();
    assert!(why.message.ends_with("is pending deletion."), "{}", why.message);
    assert_eq!(
        code(ask!(world, enable_key, EnableKeyRequest { key_id: key.clone() })),
        "KMSInvalidStateException"
    );
    ask!(world, cancel_key_deletion, CancelKeyDeletionRequest { key_id: key.clone() }).unwrap();
    assert_eq!(world.state(&key).await.key_state, Some(api::KeyState::Disabled));
    schedule().await.unwrap();
    let which = (world.world.root().account, key.parse().unwrap());
    let chores = chores::KeyChores(Arc::clone(&world.world.control));
    assert!(chores.pass(&which).await.unwrap().again_at.is_some());
    world.world.env.advance_ms(7 * limits::DAY_MS);
    for _ in 0..2 {
        assert!(chores.pass(&which).await.unwrap().is_over);
    }
    let view = world.world.control.view();
    assert_eq!((view.kms_keys.len(), view.kms_aliases.len()), (0, 0));
    assert_eq!(code(world.decrypt(&blob, context("a", "b")).await), "InvalidCiphertextException");
}

#[tokio::test]
async fn aliases_name_keys_and_amazons_are_its_own() {
    let world = World::new();
    let [one, two] = [world.create().await, world.create().await];
    ask!(
        world,
        create_alias,
        CreateAliasRequest { alias_name: "alias/web", target_key_id: one.clone() }
    )
    .unwrap();
    let again = ask!(
        world,
        create_alias,
        CreateAliasRequest { alias_name: "alias/web", target_key_id: two.clone() }
    );
    assert_eq!(code(again), "AlreadyExistsException");
    assert_eq!(world.state("alias/web").await.key_id.as_ref(), Some(&one));
    ask!(
        world,
        update_alias,
        UpdateAliasRequest { alias_name: "alias/web", target_key_id: two.clone() }
    )
    .unwrap();
    assert_eq!(world.state("alias/web").await.key_id.as_ref(), Some(&two));
    for (name, expected) in
        [("web", "ValidationException"), ("alias/aws/web", "NotAuthorizedException")]
    {
        let odd = ask!(
            world,
            create_alias,
            CreateAliasRequest { alias_name: name, target_key_id: one.clone() }
        );
        assert_eq!(code(odd), expected);
    }
    let disabled = ask!(world, disable_key, DisableKeyRequest { key_id: "alias/web" });
    assert_eq!(code(disabled), "NotFoundException");
    assert_eq!(world.state("alias/aws/ssm").await.key_manager, Some(api::KeyManagerType::Aws));
    let unknown = ask!(world, describe_key, DescribeKeyRequest { key_id: "alias/aws/none" });
    assert_eq!(code(unknown), "NotFoundException");
    let amazons = world.state("alias/aws/ssm").await.key_id.unwrap();
    let refused = ask!(world, disable_key, DisableKeyRequest { key_id: amazons });
    assert!(refused.unwrap_err().denial.is_some(), "its policy lets nobody");
    ask!(world, delete_alias, DeleteAliasRequest { alias_name: "alias/web" }).unwrap();
    assert_eq!(
        code(ask!(world, delete_alias, DeleteAliasRequest { alias_name: "alias/web" })),
        "NotFoundException"
    );
    let listed = ask!(world, list_aliases, ListAliasesRequest {}).unwrap().aliases.unwrap();
    assert_eq!(listed[0].alias_name.as_deref(), Some("alias/aws/ssm"));
    assert_eq!(ask!(world, list_keys, ListKeysRequest {}).unwrap().keys.unwrap().len(), 3);
}

#[tokio::test]
async fn a_keys_policy_must_say_yes_or_pass_the_question_on() {
    let world = World::new();
    let key = world.create().await;
    let ann = world.user(r#"{"Effect":"Allow","Action":"kms:*","Resource":"*"}"#).await;
    let encrypt = async || {
        ask!(
            world,
            &ann,
            encrypt,
            EncryptRequest { key_id: key.clone(), plaintext: b"x".as_slice() }
        )
    };
    assert!(encrypt().await.is_ok(), "the account is asked, and says yes");
    let policy = |principal: &str, action: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":{action},"Resource":"*"}}}}"#
        )
    };
    let put = async |policy: String, bypass: bool| {
        ask!(
            world,
            put_key_policy,
            PutKeyPolicyRequest {
                key_id: key.clone(),
                policy: policy,
                bypass_policy_lockout_safety_check: bypass,
            }
        )
    };
    let root_alone =
        policy("arn:aws:iam::000000000000:root", r#"["kms:Put*","kms:Get*","kms:Describe*"]"#);
    put(root_alone.clone(), false).await.unwrap();
    let denied = encrypt().await.unwrap_err();
    assert!(denied.message.contains("no resource-based policy allows"), "{}", denied.message);
    let shown = ask!(world, get_key_policy, GetKeyPolicyRequest { key_id: key.clone() }).unwrap();
    assert_eq!(shown.policy, Some(root_alone));
    let of_ann = policy("arn:aws:iam::000000000000:user/ann", "\"kms:*\"");
    let locked_out = put(of_ann.clone(), false).await.unwrap_err();
    assert!(locked_out.message.contains("will not allow you to update"), "{}", locked_out.message);
    put(of_ann, true).await.unwrap();
    assert!(encrypt().await.is_ok());
    assert!(
        world.encrypt(&key).await.unwrap_err().denial.is_some(),
        "the root user is no exception"
    );
    for text in ["{}".to_owned(), policy("arn:aws:iam::000000000000:user/none", "\"kms:*\"")] {
        let made = ask!(world, create_key, CreateKeyRequest { policy: text });
        assert_eq!(code(made), "MalformedPolicyDocumentException");
    }
}

#[tokio::test]
async fn who_may_only_make_keys_makes_them_for_the_account_to_change() {
    let world = World::new();
    let maker = world.user(r#"{"Effect":"Allow","Action":"kms:CreateKey","Resource":"*"}"#).await;
    let of_account = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}}"#;
    ask!(world, &maker, create_key, CreateKeyRequest {}).unwrap();
    ask!(world, &maker, create_key, CreateKeyRequest { policy: of_account }).unwrap();
    let of_nobody = of_account.replace("kms:*", "kms:Encrypt");
    let refused = ask!(world, &maker, create_key, CreateKeyRequest { policy: of_nobody });
    assert_eq!(code(refused), "MalformedPolicyDocumentException");
}

#[tokio::test]
async fn a_condition_on_the_encryption_context_is_asked() {
    let world = World::new();
    let key = world.create().await;
    let ann = world
        .user(r#"{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:team":"a"}}}"#)
        .await;
    for (team, is_allowed) in [("a", true), ("b", false)] {
        let done = ask!(
            world,
            &ann,
            encrypt,
            EncryptRequest {
                key_id: key.clone(),
                plaintext: b"x".as_slice(),
                encryption_context: context("team", team),
            }
        );
        assert_eq!(done.is_ok(), is_allowed, "{team}");
    }
}

#[tokio::test]
async fn keys_rotate_by_themselves_and_older_texts_open() {
    let world = World::new();
    let key = world.create().await;
    let blob = world.encrypt(&key).await.unwrap();
    let odd = ask!(
        world,
        enable_key_rotation,
        EnableKeyRotationRequest { key_id: key.clone(), rotation_period_in_days: 9 }
    );
    assert_eq!(code(odd), "ValidationException");
    ask!(
        world,
        enable_key_rotation,
        EnableKeyRotationRequest { key_id: key.clone(), rotation_period_in_days: 90 }
    )
    .unwrap();
    let which = (world.world.root().account, key.parse().unwrap());
    let chores = chores::KeyChores(Arc::clone(&world.world.control));
    for rotations in 1..=2 {
        world.world.env.advance_ms(90 * limits::DAY_MS);
        for _ in 0..2 {
            assert!(chores.pass(&which).await.unwrap().again_at.is_some());
        }
        let shown =
            ask!(world, list_key_rotations, ListKeyRotationsRequest { key_id: key.clone() });
        assert_eq!(shown.unwrap().rotations.unwrap().len(), rotations);
    }
    ask!(world, rotate_key_on_demand, RotateKeyOnDemandRequest { key_id: key.clone() }).unwrap();
    let all = ask!(
        world,
        list_key_rotations,
        ListKeyRotationsRequest { key_id: key.clone(), include_key_material: "ALL_KEY_MATERIAL" }
    );
    let all = all.unwrap().rotations.unwrap();
    let ids: BTreeSet<_> = all.iter().map(|each| each.key_material_id.clone().unwrap()).collect();
    assert_eq!((all.len(), ids.len(), all[0].rotation_type.is_some()), (4, 4, false));
    assert!(ids.iter().all(|id| id.len() == 64));
    let described = ask!(world, describe_key, DescribeKeyRequest { key_id: key.clone() }).unwrap();
    let current = described.key_metadata.unwrap().current_key_material_id;
    assert_eq!(current, all[3].key_material_id, "what seals now");
    let states: Vec<_> = all.iter().map(|each| each.key_material_state.clone().unwrap()).collect();
    assert_eq!(states[2..], [api::KeyMaterialState::NonCurrent, api::KeyMaterialState::Current]);
    assert_eq!(world.decrypt(&blob, context("a", "b")).await.unwrap(), "plain");
    let newer = world.encrypt(&key).await.unwrap();
    assert_ne!(newer[..29], blob[..29]);
    assert_eq!(world.decrypt(&newer, context("a", "b")).await.unwrap(), "plain");
    ask!(world, disable_key_rotation, DisableKeyRotationRequest { key_id: key.clone() }).unwrap();
    let status =
        ask!(world, get_key_rotation_status, GetKeyRotationStatusRequest { key_id: key }).unwrap();
    assert_eq!(status.key_rotation_enabled, Some(false));
}

#[tokio::test]
async fn data_keys_come_plain_and_sealed_and_other_kinds_of_keys_are_refused() {
    let world = World::new();
    let key = world.create().await;
    let made = ask!(
        world,
        generate_data_key,
        GenerateDataKeyRequest { key_id: key.clone(), key_spec: api::DataKeySpec::Aes256 }
    );
    let made = made.unwrap();
    let plain = made.plaintext.unwrap();
    assert_eq!(plain.len(), 32);
    let opened =
        ask!(world, decrypt, DecryptRequest { ciphertext_blob: made.ciphertext_blob.unwrap() })
            .unwrap();
    assert_eq!(opened.plaintext, Some(plain));
    let neither = ask!(world, generate_data_key, GenerateDataKeyRequest { key_id: key.clone() });
    assert_eq!(code(neither), "ValidationException");
    let dry = ask!(
        world,
        encrypt,
        EncryptRequest { key_id: key, plaintext: b"x".as_slice(), dry_run: true }
    );
    assert_eq!(code(dry), "DryRunOperationException");
    let random =
        ask!(world, generate_random, GenerateRandomRequest { number_of_bytes: 7 }).unwrap();
    assert_eq!(random.plaintext.unwrap().len(), 7);
    let rsa = ask!(world, create_key, CreateKeyRequest { key_spec: api::KeySpec::Rsa2048 });
    assert_eq!(code(rsa), "UnsupportedOperationException");
}

/// Lets one do nothing with keys.
const NOTHING: &str = r#"[{"Effect":"Allow","Action":"sts:GetCallerIdentity","Resource":"*"}]"#;

/// The ARN of the world's user.
fn ann(world: &World) -> String {
    format!("arn:aws:iam::{}:user/ann", world.world.root().account)
}

fn operations(names: &[&str]) -> Vec<api::GrantOperation> {
    names.iter().map(|name| (*name).into()).collect()
}

impl World {
    async fn encrypt_as(&self, caller: &Caller, key: &str) -> Result<bytes::Bytes, ApiError> {
        let with = context("a", "b");
        let plain = b"plain".as_slice();
        let request = ask!(
            self,
            caller,
            encrypt,
            EncryptRequest { key_id: key, plaintext: plain, encryption_context: with }
        );
        Ok(request?.ciphertext_blob.unwrap())
    }
}

#[tokio::test]
async fn a_grant_lets_its_grantee_do_what_it_names_until_it_is_revoked() {
    let world = World::new();
    let key = world.create().await;
    let user = world.user(NOTHING).await;
    assert_eq!(code(world.encrypt_as(&user, &key).await), "AccessDeniedException");
    let make = async |names: &[&str], constraints: api::GrantConstraints, name: &str| {
        ask!(
            world,
            create_grant,
            CreateGrantRequest {
                key_id: key.as_str(),
                grantee_principal: ann(&world),
                operations: operations(names),
                constraints: constraints,
                name: name,
            }
        )
    };
    let none = api::GrantConstraints::default();
    let made = make(&["Encrypt", "DescribeKey"], none.clone(), "one").await.unwrap();
    let again = make(&["DescribeKey", "Encrypt"], none.clone(), "one").await.unwrap();
    assert_eq!(made.grant_id, again.grant_id, "asked for twice, made once");
    assert_ne!(made.grant_token, again.grant_token);
    let other = make(&["Encrypt"], none, "one").await.unwrap();
    assert_ne!(made.grant_id, other.grant_id);
    let blob = world.encrypt_as(&user, &key).await.unwrap();
    let token = vec![made.grant_token.clone().unwrap()];
    let described = ask!(
        world,
        &user,
        describe_key,
        DescribeKeyRequest { key_id: key.as_str(), grant_tokens: token }
    );
    described.unwrap();
    let open = async |with: EncryptionContext| {
        ask!(
            world,
            &user,
            decrypt,
            DecryptRequest { ciphertext_blob: blob.clone(), encryption_context: with }
        )
    };
    assert_eq!(code(open(context("a", "b")).await), "AccessDeniedException", "not granted");
    let pairs = |value: &str| api::GrantConstraints {
        encryption_context_subset: Some(context("a", value)),
        encryption_context_equals: Some(EncryptionContext::new()),
        ..api::GrantConstraints::default()
    };
    make(&["Decrypt"], pairs("c"), "two").await.unwrap();
    assert_eq!(code(open(context("a", "b")).await), "AccessDeniedException", "another context");
    make(&["Decrypt"], pairs("b"), "three").await.unwrap();
    open(context("a", "b")).await.unwrap();

    let listed = ask!(world, list_grants, ListGrantsRequest { key_id: key.as_str() }).unwrap();
    assert_eq!(listed.grants.unwrap().len(), 4);
    for id in [made.grant_id.clone().unwrap(), other.grant_id.unwrap()] {
        ask!(world, revoke_grant, RevokeGrantRequest { key_id: key.as_str(), grant_id: id })
            .unwrap();
    }
    assert_eq!(code(world.encrypt_as(&user, &key).await), "AccessDeniedException");
    let gone = made.grant_id.unwrap();
    let asked =
        ask!(world, list_grants, ListGrantsRequest { key_id: key.as_str(), grant_id: gone });
    assert_eq!(code(asked), "NotFoundException");
    let token = vec![made.grant_token.unwrap()];
    let described =
        ask!(world, describe_key, DescribeKeyRequest { key_id: key.as_str(), grant_tokens: token });
    assert_eq!(code(described), "InvalidGrantTokenException");
    // What denies is stronger than what a grant allows.
    let key = world.create().await;
    ask!(
        world,
        create_grant,
        CreateGrantRequest {
            key_id: key.as_str(),
            grantee_principal: ann(&world),
            operations: operations(&["Encrypt"])
        }
    )
    .unwrap();
    let user = world.user(r#"[{"Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}]"#).await;
    assert_eq!(code(world.encrypt_as(&user, &key).await), "AccessDeniedException");
}

#[tokio::test]
async fn a_grantee_grants_no_more_than_it_has_and_who_may_retire_does() {
    let world = World::new();
    let key = world.create().await;
    let user = world.user(NOTHING).await;
    let make = async |caller: &Caller, names: &[&str], only: Option<EncryptionContext>| {
        let constraints = api::GrantConstraints {
            encryption_context_equals: only,
            ..api::GrantConstraints::default()
        };
        ask!(
            world,
            caller,
            create_grant,
            CreateGrantRequest {
                key_id: key.as_str(),
                grantee_principal: ann(&world),
                operations: operations(names),
                retiring_principal: ann(&world),
                constraints: constraints,
            }
        )
    };
    let root = world.world.root();
    assert_eq!(code(make(&user, &["Encrypt"], None).await), "AccessDeniedException");
    let only = Some(context("a", "b"));
    let first = make(&root, &["Encrypt", "CreateGrant"], only.clone()).await.unwrap();
    for (names, only) in [
        (&["Encrypt", "Decrypt"][..], only.clone()),
        (&["Encrypt"], None),
        (&["Encrypt"], Some(context("a", "c"))),
    ] {
        assert_eq!(code(make(&user, names, only).await), "AccessDeniedException", "{names:?}");
    }
    let second = make(&user, &["Encrypt"], only).await.unwrap();
    let who = ask!(
        world,
        list_retirable_grants,
        ListRetirableGrantsRequest { retiring_principal: ann(&world) }
    );
    assert_eq!(who.unwrap().grants.unwrap().len(), 2);
    let twice = ask!(
        world,
        &user,
        retire_grant,
        RetireGrantRequest {
            grant_token: second.grant_token.clone().unwrap(),
            key_id: key.as_str()
        }
    );
    assert_eq!(code(twice), "ValidationException");
    ask!(
        world,
        &user,
        retire_grant,
        RetireGrantRequest { grant_token: second.grant_token.unwrap() }
    )
    .unwrap();
    ask!(
        world,
        &user,
        retire_grant,
        RetireGrantRequest { key_id: key.as_str(), grant_id: first.grant_id.clone().unwrap() }
    )
    .unwrap();
    let again = ask!(
        world,
        retire_grant,
        RetireGrantRequest { key_id: key.as_str(), grant_id: first.grant_id.clone().unwrap() }
    );
    assert_eq!(code(again), "NotFoundException");
    // Who is named in neither place retires nothing.
    let third = ask!(
        world,
        create_grant,
        CreateGrantRequest {
            key_id: key.as_str(),
            grantee_principal: ann(&world),
            operations: operations(&["Encrypt"])
        }
    )
    .unwrap();
    let token = third.grant_token.unwrap();
    let denied = ask!(world, &user, retire_grant, RetireGrantRequest { grant_token: token });
    assert_eq!(code(denied), "AccessDeniedException");
}

#[tokio::test]
async fn what_cannot_be_granted_is_refused() {
    let world = World::new();
    let key = world.create().await;
    let make = async |who: &str, names: &[&str], dry: bool| {
        ask!(
            world,
            create_grant,
            CreateGrantRequest {
                key_id: key.as_str(),
                grantee_principal: who,
                operations: operations(names),
                dry_run: dry
            }
        )
    };
    let ann = ann(&world);
    for (who, names, dry, expected) in [
        (&*ann, &["Decrypt"][..], false, "InvalidArnException"),
        ("*", &["Decrypt"], false, "InvalidArnException"),
        ("arn:aws:iam::000000000000:root", &["Sign"], false, "ValidationException"),
        ("arn:aws:iam::000000000000:root", &[], false, "ValidationException"),
        ("arn:aws:iam::000000000000:root", &["Decrypt"], true, "DryRunOperationException"),
    ] {
        assert_eq!(code(make(who, names, dry).await), expected, "{who} {names:?}");
    }
    let listed = ask!(world, list_grants, ListGrantsRequest { key_id: key.as_str() }).unwrap();
    assert_eq!((listed.grants, listed.truncated), (Some(Vec::new()), Some(false)));
    let none = "0b6fd0a7-2c6e-4f6b-9d5e-0123456789ab";
    let missing = ask!(world, list_grants, ListGrantsRequest { key_id: none });
    assert_eq!(code(missing), "NotFoundException");
    ask!(world, disable_key, DisableKeyRequest { key_id: key.as_str() }).unwrap();
    let root = "arn:aws:iam::000000000000:root";
    assert_eq!(code(make(root, &["Decrypt"], false).await), "DisabledException");
}
