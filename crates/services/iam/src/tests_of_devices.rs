//! MFA devices, and signing in with one.

use control::iam::mfa::{CodeRefusal, step_of};
use control::testing::TestControl;
use iam_api as api;
use iam_api::Iam as _;
use longshore_types::{Clock as _, Token};
use model::NameKey;
use vault::totp;

use super::*;

const PASSWORD: &str = "Old passw0rd";
const SERIAL: &str = "arn:aws:iam::000000000000:mfa/phones/ann";

struct World {
    world: TestControl,
    iam: Iam,
}

fn code<T>(answer: Result<T, ApiError>) -> String {
    answer.err().expect("a refusal").code.into_owned()
}

fn serial() -> Option<String> {
    Some(SERIAL.to_owned())
}

fn ann() -> Option<String> {
    Some("ann".to_owned())
}

impl World {
    /// With a user `ann` and a device that is nobody's.
    async fn new() -> Self {
        let world = TestControl::new();
        let iam = Iam::new(Arc::clone(&world.control));
        iam.begin(control::Config::root_account()).await.unwrap();
        let world = Self { world, iam };
        let user = api::CreateUserRequest { user_name: ann(), ..Default::default() };
        world.iam.create_user(&world.root(), user).await.unwrap();
        world.make().await.unwrap();
        world
    }

    /// With the device being the user's.
    async fn enabled() -> Self {
        let world = Self::new().await;
        world.enable(0).await.unwrap();
        world
    }

    fn root(&self) -> Caller {
        self.world.root()
    }

    async fn make(&self) -> Result<String, ApiError> {
        let input = api::CreateVirtualMFADeviceRequest {
            path: Some("/phones/".to_owned()),
            virtual_mfa_device_name: ann(),
            ..Default::default()
        };
        let made = self.iam.create_virtual_mfa_device(&self.root(), input).await?;
        let made = made.virtual_mfa_device.unwrap();
        assert_eq!(made.serial_number.as_deref(), Some(SERIAL));
        Ok(String::from_utf8(made.base32_string_seed.unwrap().to_vec()).unwrap())
    }

    /// What the device shows so many codes from now.
    fn shows(&self, off: i64) -> String {
        let view = self.world.control.view();
        let row = view.iam_mfa_devices.get(self.root().account, &NameKey::of("/phones/ann"));
        let seed = self.world.control.mfa_seed(row.unwrap());
        totp::code(&seed, u64::try_from(step_of(self.world.env.now()) + off).unwrap())
    }

    /// With the codes of so many from now, and the one after it.
    async fn enable(&self, off: i64) -> Result<(), ApiError> {
        let input = api::EnableMFADeviceRequest {
            user_name: ann(),
            serial_number: serial(),
            authentication_code1: Some(self.shows(off)),
            authentication_code2: Some(self.shows(off + 1)),
        };
        self.iam.enable_mfa_device(&self.root(), input).await
    }

    async fn take(&self, off: i64) -> Result<(), CodeRefusal> {
        let id = {
            let view = self.world.control.view();
            let row = view.iam_users.of(self.root().account).next().unwrap();
            row.unique_id.to_string()
        };
        let code = self.shows(off);
        let control = &self.world.control;
        control.take_code(self.root().account, &id, Some(SERIAL), &code).await.unwrap()
    }

    /// Has the user sign in with a password, whose hash is made in no time.
    async fn give_password(&mut self, must_change: Option<bool>) {
        self.iam.hashing = Hashing::new(std::num::NonZeroU32::new(2).unwrap());
        let profile = api::CreateLoginProfileRequest {
            user_name: ann(),
            password: Some(PASSWORD.to_owned()),
            password_reset_required: must_change,
        };
        self.iam.create_login_profile(&self.root(), profile).await.unwrap();
    }

    async fn sign_in(&self, code: Option<String>, new: Option<&str>) -> Result<SignedIn, ApiError> {
        let mut caller = Caller { principal: Principal::Anonymous, ..self.root() };
        caller.origin.address = Some(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        let asked = SignIn {
            account: "000000000000".to_owned(),
            user: "ann".to_owned(),
            password: Token::from_text(PASSWORD.to_owned()),
            code,
            new_password: new.map(|new| Token::from_text(new.to_owned())),
        };
        self.iam.sign_in(&caller, asked).await
    }

    /// Two codes' time.
    fn wait(&self) {
        self.world.env.advance_ms(2 * totp::STEP_MS);
    }
}

#[tokio::test]
async fn a_device_is_made_given_to_a_user_taken_away_and_deleted() {
    let world = World::new().await;
    let (iam, root) = (&world.iam, world.root());
    assert_eq!(code(world.make().await), "EntityAlreadyExists");
    let list = async |status: &str| {
        let status = Some(api::AssignmentStatusType::from(status));
        let input =
            api::ListVirtualMFADevicesRequest { assignment_status: status, ..Default::default() };
        iam.list_virtual_mfa_devices(&root, input).await.unwrap().virtual_mfa_devices.unwrap()
    };
    assert_eq!((list("Assigned").await.len(), list("Unassigned").await.len()), (0, 1));
    assert_eq!(code(world.enable(20).await), "InvalidAuthenticationCode");
    world.enable(0).await.unwrap();
    assert_eq!(code(world.enable(0).await), "EntityAlreadyExists");
    let listed = list("Assigned").await.remove(0);
    assert_eq!(listed.user.unwrap().user_name, ann());
    assert_eq!(listed.base32_string_seed, None, "a seed is told once");
    let input = api::ListMFADevicesRequest { user_name: ann(), ..Default::default() };
    let of_user = iam.list_mfa_devices(&root, input).await.unwrap().mfa_devices.unwrap();
    assert_eq!(of_user[0].serial_number, serial());

    let delete = || api::DeleteVirtualMFADeviceRequest { serial_number: serial() };
    assert_eq!(code(iam.delete_virtual_mfa_device(&root, delete()).await), "DeleteConflict");
    let user = api::DeleteUserRequest { user_name: ann() };
    assert_eq!(code(iam.delete_user(&root, user).await), "DeleteConflict");
    let take_away =
        || api::DeactivateMFADeviceRequest { user_name: ann(), serial_number: serial() };
    iam.deactivate_mfa_device(&root, take_away()).await.unwrap();
    assert_eq!(code(iam.deactivate_mfa_device(&root, take_away()).await), "NoSuchEntity");
    iam.delete_virtual_mfa_device(&root, delete()).await.unwrap();
    assert_eq!(code(iam.delete_virtual_mfa_device(&root, delete()).await), "NoSuchEntity");
}

#[tokio::test]
async fn the_seed_that_is_told_is_the_one_of_the_codes() {
    let world = World::new().await;
    let delete = api::DeleteVirtualMFADeviceRequest { serial_number: serial() };
    world.iam.delete_virtual_mfa_device(&world.root(), delete).await.unwrap();
    let told = world.make().await.unwrap();
    let view = world.world.control.view();
    let row = view.iam_mfa_devices.of(world.root().account).next().unwrap();
    assert_eq!(told, totp::base32(&world.world.control.mfa_seed(row)));
    assert!(!serde_json::to_string(&**row).unwrap().contains(&told));
}

#[tokio::test]
async fn a_code_is_taken_once_and_around_its_time() {
    let world = World::enabled().await;
    // The two codes that it was enabled by were used.
    assert_eq!(world.take(1).await, Err(CodeRefusal::Wrong));
    world.wait();
    world.take(0).await.unwrap();
    assert_eq!(world.take(0).await, Err(CodeRefusal::Wrong));
    world.wait();
    world.take(-1).await.unwrap();
    world.wait();
    // From now on it is known to be one late.
    assert_eq!(world.take(1).await, Err(CodeRefusal::Wrong));
    world.take(0).await.unwrap();
}

#[tokio::test]
async fn a_device_whose_clock_went_wrong_is_set_again_by_two_codes() {
    let world = World::enabled().await;
    world.wait();
    assert_eq!(world.take(50).await, Err(CodeRefusal::Wrong));
    let resync = |off| api::ResyncMFADeviceRequest {
        user_name: ann(),
        serial_number: serial(),
        authentication_code1: Some(world.shows(off)),
        authentication_code2: Some(world.shows(off + 1)),
    };
    let far = world.iam.resync_mfa_device(&world.root(), resync(5_000)).await;
    assert_eq!(code(far), "InvalidAuthenticationCode");
    world.iam.resync_mfa_device(&world.root(), resync(50)).await.unwrap();
    world.wait();
    world.take(51).await.unwrap();
}

#[tokio::test]
async fn guessing_codes_ends_after_ten_wrong_ones() {
    let world = World::enabled().await;
    world.wait();
    for _ in 0..10 {
        assert_eq!(world.take(500).await, Err(CodeRefusal::Wrong));
    }
    assert_eq!(world.take(0).await, Err(CodeRefusal::TooMany));
    world.world.env.advance_ms(15 * 60_000);
    world.take(0).await.unwrap();
}

#[tokio::test]
async fn who_has_a_device_signs_in_with_a_code_and_the_session_says_so() {
    let mut world = World::enabled().await;
    world.give_password(None).await;
    world.wait();
    assert_eq!(code(world.sign_in(None, None).await), NEEDS_CODE);
    assert_eq!(code(world.sign_in(Some(world.shows(500)), None).await), "AccessDeniedException");
    let keys = world.sign_in(Some(world.shows(0)), None).await.unwrap();
    let (view, access) = (world.world.control.view(), &world.world.control.access);
    let found = access.find(&view, &keys.access_key_id, Some(keys.session_token.reveal()));
    let session = found.unwrap().session.unwrap();
    assert_eq!(session.mfa_at, Some(session.issued_at));
    assert_eq!(code(world.sign_in(Some(world.shows(0)), None).await), "AccessDeniedException");
}

#[tokio::test]
async fn who_must_show_a_code_to_change_a_password_does_so_at_signing_in() {
    const CHANGE: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:ChangePassword",
        "Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}}"#;
    let mut world = World::new().await;
    world.give_password(Some(true)).await;
    let policy = api::PutUserPolicyRequest {
        user_name: ann(),
        policy_name: Some("own".to_owned()),
        policy_document: Some(CHANGE.to_owned()),
    };
    world.iam.put_user_policy(&world.root(), policy).await.unwrap();
    assert_eq!(code(world.sign_in(None, Some("New passw0rd")).await), "AccessDeniedException");
    world.enable(0).await.unwrap();
    world.wait();
    // A password that is none costs no code.
    assert_eq!(
        code(world.sign_in(Some(world.shows(0)), Some("short")).await),
        "PasswordPolicyViolation"
    );
    world.sign_in(Some(world.shows(0)), Some("New passw0rd")).await.unwrap();
}

#[tokio::test]
async fn the_credential_report_says_who_has_what() {
    let world = World::enabled().await;
    let (iam, root) = (&world.iam, world.root());
    let key = api::CreateAccessKeyRequest { user_name: ann() };
    let key = iam.create_access_key(&root, key).await.unwrap().access_key.unwrap();
    let state = iam.generate_credential_report(&root).await.unwrap().state;
    assert_eq!(state, Some(api::ReportStateType::Complete));
    let report = iam.get_credential_report(&root).await.unwrap();
    let text = String::from_utf8(report.content.unwrap().to_vec()).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let [header, of_root, of_ann] = &lines[..] else { panic!("{text}") };
    assert!(header.len() == 22 && of_root.len() == 22 && of_ann.len() == 22, "{text}");
    let field = |name: &str| {
        let place = header.iter().position(|it| *it == name).unwrap();
        (of_root[place], of_ann[place])
    };
    assert_eq!(field("user"), ("<root_account>", "ann"));
    assert_eq!(field("password_enabled"), ("not_supported", "false"));
    assert_eq!(field("mfa_active"), ("false", "true"));
    assert_eq!(field("access_key_1_active").1, "true");
    assert_eq!(field("access_key_2_active").1, "false");
    assert!(field("access_key_1_last_rotated").1.ends_with("+00:00"));
    assert!(!text.contains(&key.secret_access_key.unwrap()));
}

#[tokio::test]
async fn a_user_says_nothing_of_itself_in_the_report_by_its_name() {
    let world = World::new().await;
    let user = api::CreateUserRequest {
        user_name: Some("a,true".to_owned()),
        path: Some("/x\"y/".to_owned()),
        ..Default::default()
    };
    world.iam.create_user(&world.root(), user).await.unwrap();
    let report = world.iam.get_credential_report(&world.root()).await.unwrap();
    let text = String::from_utf8(report.content.unwrap().to_vec()).unwrap();
    let line = text.lines().find(|line| line.contains("a,true")).unwrap();
    let begins = r#""a,true","arn:aws:iam::000000000000:user/x""y/a,true","#;
    assert!(line.starts_with(begins), "{line}");
}
