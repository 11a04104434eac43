//! Login profiles, and signing in by them.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use aws_wire::Trail;
use control::testing::TestControl;
use iam_api as api;
use iam_api::Iam as _;
use longshore_types::Token;

use super::*;

const DAY_MS: u64 = 24 * 60 * 60_000;
const OLD: &str = "Old passw0rd";
const NEW: &str = "New passw0rd";
/// As policies refuse, whatever that is called on the wire.
const DENIED: &str = "AccessDeniedException";
const CHANGE: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:ChangePassword","Resource":"arn:aws:iam::*:user/${aws:username}"}}"#;

struct World {
    world: TestControl,
    iam: Iam,
}

fn code<T>(answer: Result<T, ApiError>) -> String {
    answer.err().expect("a refusal").code.into_owned()
}

fn asked(account: &str, user: &str, password: &str, new: Option<&str>) -> SignIn {
    let token = |text: &str| Token::from_text(text.to_owned());
    SignIn {
        account: account.to_owned(),
        user: user.to_owned(),
        password: token(password),
        code: None,
        new_password: new.map(token),
    }
}

impl World {
    /// With a user `ann`.
    async fn new() -> Self {
        let world = TestControl::new();
        let mut iam = Iam::new(Arc::clone(&world.control));
        iam.hashing = Hashing::new(NonZeroU32::new(2).unwrap());
        iam.begin(control::Config::root_account()).await.unwrap();
        let world = Self { world, iam };
        let ann =
            api::CreateUserRequest { user_name: Some("ann".to_owned()), ..Default::default() };
        world.iam.create_user(&world.world.root(), ann).await.unwrap();
        world
    }

    async fn with_password(must_change: bool) -> Self {
        let world = Self::new().await;
        world.create(OLD, must_change).await.unwrap();
        world
    }

    async fn create(
        &self,
        password: &str,
        must_change: bool,
    ) -> Result<api::CreateLoginProfileResponse, ApiError> {
        let input = api::CreateLoginProfileRequest {
            user_name: Some("ann".to_owned()),
            password: Some(password.to_owned()),
            password_reset_required: Some(must_change),
        };
        self.iam.create_login_profile(&self.world.root(), input).await
    }

    async fn update(
        &self,
        password: Option<&str>,
        must_change: Option<bool>,
    ) -> Result<(), ApiError> {
        let input = api::UpdateLoginProfileRequest {
            user_name: Some("ann".to_owned()),
            password: password.map(str::to_owned),
            password_reset_required: must_change,
        };
        self.iam.update_login_profile(&self.world.root(), input).await
    }

    async fn shown(&self) -> Result<api::LoginProfile, ApiError> {
        let input = api::GetLoginProfileRequest { user_name: Some("ann".to_owned()) };
        let shown = self.iam.get_login_profile(&self.world.root(), input).await?;
        Ok(shown.login_profile.unwrap())
    }

    async fn policy(&self, policy: api::UpdateAccountPasswordPolicyRequest) {
        self.iam.update_account_password_policy(&self.world.root(), policy).await.unwrap();
    }

    async fn let_change(&self) {
        let input = api::PutUserPolicyRequest {
            user_name: Some("ann".to_owned()),
            policy_name: Some("own".to_owned()),
            policy_document: Some(CHANGE.to_owned()),
        };
        self.iam.put_user_policy(&self.world.root(), input).await.unwrap();
    }

    fn ann(&self) -> Caller {
        let view = self.world.control.view();
        let row = view.iam_users.of(self.world.root().account).next().unwrap();
        let principal = Principal::User {
            name: Arc::clone(&row.name),
            path: Arc::clone(&row.path),
            id: Arc::clone(&row.unique_id),
        };
        Caller { principal, ..self.world.root() }
    }

    async fn change(&self, old: &str, new: &str) -> Result<(), ApiError> {
        let input = api::ChangePasswordRequest {
            old_password: Some(old.to_owned()),
            new_password: Some(new.to_owned()),
        };
        self.iam.change_password(&self.ann(), input).await
    }

    /// From the region's own machine.
    fn stranger(&self) -> Caller {
        let mut caller = Caller { principal: Principal::Anonymous, ..self.world.root() };
        caller.origin.address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        caller
    }

    async fn sign_in(&self, password: &str, new: Option<&str>) -> Result<SignedIn, ApiError> {
        self.sign_in_as("000000000000", "ann", password, new).await
    }

    async fn sign_in_as(
        &self,
        account: &str,
        user: &str,
        password: &str,
        new: Option<&str>,
    ) -> Result<SignedIn, ApiError> {
        self.iam.sign_in(&self.stranger(), asked(account, user, password, new)).await
    }

    /// Whose keys these are, if they open anything.
    fn opened(&self, keys: &SignedIn) -> Option<Principal> {
        let (view, access) = (self.world.control.view(), &self.world.control.access);
        let found = access.find(&view, &keys.access_key_id, Some(keys.session_token.reveal()))?;
        assert_eq!(found.secret, keys.secret_access_key);
        Some(found.principal)
    }
}

#[tokio::test]
async fn a_login_profile_is_made_once_shown_changed_and_deleted() {
    let world = World::new().await;
    assert_eq!(code(world.shown().await), "NoSuchEntity");
    assert_eq!(code(world.update(Some(NEW), None).await), "NoSuchEntity");
    assert_eq!(code(world.create("short", false).await), "PasswordPolicyViolation");
    let made = world.create(OLD, true).await.unwrap().login_profile.unwrap();
    assert_eq!(made.user_name.as_deref(), Some("ann"));
    assert_eq!(made.password_reset_required, Some(true));
    assert_eq!(code(world.create(NEW, false).await), "EntityAlreadyExists");

    world.update(None, Some(false)).await.unwrap();
    let shown = world.shown().await.unwrap();
    assert_eq!((shown.password_reset_required, shown.create_date), (Some(false), made.create_date));
    world.update(Some(NEW), Some(true)).await.unwrap();
    assert_eq!(world.shown().await.unwrap().password_reset_required, Some(true));

    let root = world.world.root();
    let user = || Some("ann".to_owned());
    let conflict = world.iam.delete_user(&root, api::DeleteUserRequest { user_name: user() }).await;
    let message = conflict.as_ref().unwrap_err().message.clone();
    assert_eq!(message, "Cannot delete entity, must delete login profile first.");
    let delete = || api::DeleteLoginProfileRequest { user_name: user() };
    world.iam.delete_login_profile(&root, delete()).await.unwrap();
    assert_eq!(code(world.iam.delete_login_profile(&root, delete()).await), "NoSuchEntity");
    world.iam.delete_user(&root, api::DeleteUserRequest { user_name: user() }).await.unwrap();
}

#[tokio::test]
async fn no_row_and_no_log_line_has_a_password() {
    let world = World::with_password(false).await;
    let view = world.world.control.view();
    let row = view.iam_users.of(world.world.root().account).next().unwrap();
    let login = row.login.as_ref().unwrap();
    assert!(!format!("{row:?}").contains(login.hash.reveal()));
    assert!(!format!("{login:?}").contains(OLD) && !login.hash.reveal().contains(OLD));
}

#[tokio::test]
async fn a_user_changes_its_own_password_by_the_old_one_if_it_may() {
    let world = World::with_password(false).await;
    assert_eq!(code(world.change(OLD, NEW).await), DENIED);
    world.let_change().await;
    let wrong = world.change("Not passw0rd", NEW).await.unwrap_err();
    assert_eq!(
        (&*wrong.code, &*wrong.message),
        ("AccessDenied", "The old password was incorrect.")
    );
    assert_eq!(code(world.change(OLD, "a").await), "PasswordPolicyViolation");
    world.change(OLD, NEW).await.unwrap();
    assert_eq!(code(world.change(OLD, NEW).await), "AccessDenied");
    let input = api::ChangePasswordRequest {
        old_password: Some(NEW.to_owned()),
        new_password: Some(OLD.to_owned()),
    };
    let root = world.iam.change_password(&world.world.root(), input).await;
    assert_eq!(code(root), "InvalidUserType");
}

#[tokio::test]
async fn an_account_may_let_all_its_users_change_their_passwords() {
    let world = World::with_password(false).await;
    let policy = |users_may| api::UpdateAccountPasswordPolicyRequest {
        allow_users_to_change_password: Some(users_may),
        ..Default::default()
    };
    world.policy(policy(false)).await;
    assert_eq!(code(world.change(OLD, NEW).await), DENIED);
    world.policy(policy(true)).await;
    world.change(OLD, NEW).await.unwrap();
    world.iam.get_account_password_policy(&world.ann()).await.unwrap();
    let other = api::GetLoginProfileRequest { user_name: None };
    assert_eq!(code(world.iam.get_login_profile(&world.ann(), other).await), DENIED);
}

#[tokio::test]
async fn passwords_of_before_are_refused_as_far_back_as_the_policy_says() {
    let world = World::with_password(false).await;
    world
        .policy(api::UpdateAccountPasswordPolicyRequest {
            password_reuse_prevention: Some(2),
            ..Default::default()
        })
        .await;
    assert_eq!(code(world.update(Some(OLD), None).await), "PasswordPolicyViolation");
    world.update(Some(NEW), None).await.unwrap();
    assert_eq!(code(world.update(Some(OLD), None).await), "PasswordPolicyViolation");
    world.update(Some("A third passw0rd"), None).await.unwrap();
    world.update(Some(OLD), None).await.unwrap();
}

#[tokio::test]
async fn a_password_lets_its_user_in_and_nobody_else() {
    let world = World::with_password(false).await;
    let keys = world.sign_in(OLD, None).await.unwrap();
    assert_eq!(keys.arn, "arn:aws:iam::000000000000:user/ann");
    assert!(matches!(world.opened(&keys), Some(Principal::User { name, .. }) if &*name == "ann"));
    // One answer, whatever is wrong.
    for (account, user, password) in [
        ("000000000000", "ann", NEW),
        ("000000000000", "bob", OLD),
        ("111122223333", "ann", OLD),
        ("nobody", "ann", OLD),
    ] {
        let refused = world.sign_in_as(account, user, password, None).await.unwrap_err();
        assert_eq!(
            (&*refused.code, &*refused.message),
            (
                "AccessDeniedException",
                "Your authentication information is incorrect. Please try again."
            ),
            "{account} {user}"
        );
    }
    let alias = api::CreateAccountAliasRequest { account_alias: Some("acme".to_owned()) };
    world.iam.create_account_alias(&world.world.root(), alias).await.unwrap();
    world.sign_in_as("acme", "ann", OLD, None).await.unwrap();
}

#[tokio::test]
async fn a_password_in_the_clear_is_not_taken_from_another_machine() {
    let world = World::with_password(false).await;
    let asked = || SignIn {
        account: "000000000000".to_owned(),
        user: "ann".to_owned(),
        password: Token::from_text(OLD.to_owned()),
        code: None,
        new_password: None,
    };
    let mut caller = world.stranger();
    caller.origin.address = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    assert_eq!(code(world.iam.sign_in(&caller, asked()).await), "InvalidRequestException");
    caller.origin.is_secure = true;
    world.iam.sign_in(&caller, asked()).await.unwrap();
}

#[tokio::test]
async fn whoever_must_set_a_new_password_comes_in_with_one() {
    let world = World::with_password(true).await;
    assert_eq!(code(world.sign_in(OLD, None).await), MUST_CHANGE);
    assert_eq!(code(world.sign_in(OLD, Some(NEW)).await), DENIED);
    world.let_change().await;
    assert_eq!(code(world.sign_in(OLD, Some("a")).await), "PasswordPolicyViolation");
    let keys = world.sign_in(OLD, Some(NEW)).await.unwrap();
    assert!(world.opened(&keys).is_some());
    assert_eq!(world.shown().await.unwrap().password_reset_required, Some(false));
    assert_eq!(code(world.sign_in(OLD, None).await), "AccessDeniedException");
    world.sign_in(NEW, None).await.unwrap();
}

#[tokio::test]
async fn an_expired_password_must_be_changed_or_is_over_for_good() {
    let world = World::with_password(false).await;
    world.let_change().await;
    let policy = |hard| api::UpdateAccountPasswordPolicyRequest {
        max_password_age: Some(1),
        hard_expiry: Some(hard),
        ..Default::default()
    };
    world.policy(policy(false)).await;
    world.sign_in(OLD, None).await.unwrap();
    world.world.env.advance_ms(DAY_MS);
    assert_eq!(code(world.sign_in(OLD, None).await), MUST_CHANGE);
    world.policy(policy(true)).await;
    assert_eq!(code(world.sign_in(OLD, Some(NEW)).await), "AccessDeniedException");
    world.policy(policy(false)).await;
    world.sign_in(OLD, Some(NEW)).await.unwrap();
    world.sign_in(NEW, None).await.unwrap();
}

#[tokio::test]
async fn a_session_ends_with_the_password_that_it_was_made_by() {
    let world = World::with_password(false).await;
    let keys = world.sign_in(OLD, None).await.unwrap();
    world.update(None, Some(true)).await.unwrap();
    assert!(world.opened(&keys).is_some(), "the password is the same");
    world.world.env.advance_ms(1);
    world.update(Some(NEW), None).await.unwrap();
    assert_eq!(world.opened(&keys), None);
    let keys = world.sign_in(NEW, None).await.unwrap();
    let delete = api::DeleteLoginProfileRequest { user_name: Some("ann".to_owned()) };
    world.iam.delete_login_profile(&world.world.root(), delete).await.unwrap();
    assert_eq!(world.opened(&keys), None);
}

#[tokio::test]
async fn nothing_is_kept_of_a_name_that_nobody_can_have() {
    let world = World::with_password(false).await;
    let long = "n".repeat(65);
    for _ in 0..11 {
        let refused = world.sign_in_as("000000000000", &long, OLD, None).await;
        assert_eq!(code(refused), "AccessDeniedException");
    }
}

#[tokio::test]
async fn guessing_ends_after_ten_wrong_passwords() {
    let world = World::with_password(false).await;
    for _ in 0..10 {
        assert_eq!(code(world.sign_in("Bad passw0rd", None).await), "AccessDeniedException");
    }
    assert_eq!(code(world.sign_in(OLD, None).await), "Throttling");
    world.world.env.advance_ms(15 * 60_000);
    world.sign_in(OLD, None).await.unwrap();
}

#[tokio::test]
async fn guessing_ends_as_soon_where_there_is_no_such_account() {
    let world = World::with_password(false).await;
    for _ in 0..10 {
        let refused = world.sign_in_as("nobodys", "ann", OLD, None).await;
        assert_eq!(code(refused), "AccessDeniedException");
    }
    assert_eq!(code(world.sign_in_as("nobodys", "ann", OLD, None).await), "Throttling");
    let long = "a".repeat(65);
    for (account, user) in [("nobodys", "bob"), ("others", "ann"), (long.as_str(), "ann")] {
        let refused = world.sign_in_as(account, user, OLD, None).await;
        assert_eq!(code(refused), "AccessDeniedException", "{account}");
    }
    world.sign_in(OLD, None).await.unwrap();
}

#[tokio::test]
async fn a_guess_too_many_is_in_the_trail_like_a_wrong_one() {
    let world = World::with_password(false).await;
    for number in 0..11 {
        let mut caller = world.stranger();
        caller.origin.trail = Trail::on();
        let asked = asked("000000000000", "ann", "Bad passw0rd", None);
        world.iam.sign_in(&caller, asked).await.unwrap_err();
        let journey = caller.origin.trail.read().unwrap();
        assert!(journey.questions.iter().any(|it| !it.is_allowed), "guess {number}");
    }
}

#[tokio::test]
async fn when_a_user_signed_in_is_shown() {
    let world = World::with_password(false).await;
    let root = world.world.root();
    let get = || api::GetUserRequest { user_name: Some("ann".to_owned()) };
    let last_used = |answer: api::GetUserResponse| answer.user.unwrap().password_last_used;
    assert_eq!(last_used(world.iam.get_user(&root, get()).await.unwrap()), None);
    world.sign_in(OLD, None).await.unwrap();
    assert!(last_used(world.iam.get_user(&root, get()).await.unwrap()).is_some());
    uses::write(&world.world.control).await.unwrap();
    assert!(last_used(world.iam.get_user(&root, get()).await.unwrap()).is_some());
}
