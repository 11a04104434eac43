use std::collections::BTreeMap;
use std::collections::BTreeSet;

use aws_wire::{Origin, Session};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::access::AccessKey;
use control::iam::mfa::step_of;
use control::testing::TestControl;
use longshore_types::{Clock as _, Timestamp};
use model::{
    Grants, IamMfaDevice, IamOidcProvider, IamRole, IamUser, MfaAssignment, NameKey, PolicyText,
    Row, TrustText,
};
use policy::{Policy, PolicyKind};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use store::Batch;
use sts_api::Sts as _;

use super::*;

const ACCOUNT: &str = "000000000000";
const ROLE: &str = "arn:aws:iam::000000000000:role/ops/deploy";

struct World {
    world: TestControl,
    identity: Identity,
}

impl World {
    async fn new(rows: Vec<Row>) -> Self {
        Self::with_config(rows, |_| {}).await
    }

    async fn with_config(rows: Vec<Row>, change: impl FnOnce(&mut Config)) -> Self {
        let world = TestControl::with_config(change);
        let identity = Identity::new(Arc::clone(&world.control));
        let this = Self { world, identity };
        this.put(rows).await;
        this
    }

    async fn put(&self, rows: Vec<Row>) {
        let decided = self.world.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.writes.clone_from(&rows);
            Ok((batch, ()))
        });
        decided.await.unwrap();
    }

    fn user(&self) -> Caller {
        let principal =
            Principal::User { name: "ann".into(), path: "/".into(), id: "AIDA1".into() };
        Caller { principal, ..self.world.root() }
    }

    fn key(&self, issued: &api::Credentials) -> Option<AccessKey> {
        let (id, token) = (issued.access_key_id.as_deref()?, issued.session_token.as_deref());
        self.world.control.access.find(&self.world.control.view(), id, token)
    }

    /// Whoever signs with what was issued.
    fn caller(&self, issued: &api::Credentials) -> Caller {
        let key = self.key(issued).unwrap();
        Caller {
            account: key.account,
            principal: key.principal,
            session: key.session,
            origin: Origin::default(),
            ..self.world.root()
        }
    }

    async fn assume(
        &self,
        caller: &Caller,
        change: impl FnOnce(&mut api::AssumeRoleRequest),
    ) -> Result<api::AssumeRoleResponse, ApiError> {
        let mut request = api::AssumeRoleRequest {
            role_arn: Some(ROLE.to_owned()),
            role_session_name: Some("ci".to_owned()),
            ..api::AssumeRoleRequest::default()
        };
        change(&mut request);
        self.identity.assume_role(caller, request).await
    }
}

fn user() -> IamUser {
    let text = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["sts:*"],"Resource":"*"}}"#;
    IamUser {
        account: ACCOUNT.parse().unwrap(),
        name: "ann".into(),
        path: "/".into(),
        unique_id: "AIDA1".into(),
        created_at: Timestamp(0),
        tags: BTreeMap::new(),
        boundary: None,
        grants: grants(text),
        groups: BTreeSet::new(),
        devices: BTreeSet::new(),
        login: None,
    }
}

fn grants(text: &str) -> Grants {
    let text = PolicyText::new(Policy::parse(text, PolicyKind::Identity).unwrap());
    Grants { inline: BTreeMap::from([("own".to_owned(), text)]), ..Grants::default() }
}

fn role(trust: &str) -> IamRole {
    let may = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["ecs:*","sts:*"],"Resource":"*"}}"#;
    IamRole {
        account: ACCOUNT.parse().unwrap(),
        name: "deploy".into(),
        path: "/ops/".into(),
        unique_id: "AROA1".into(),
        created_at: Timestamp(0),
        description: None,
        max_session_s: 7_200,
        trust: TrustText::new(trust, BTreeMap::new()),
        tags: BTreeMap::new(),
        boundary: None,
        grants: grants(may),
        service: None,
    }
}

fn trust(condition: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},
        "Action":["sts:AssumeRole","sts:TagSession"],"Condition":{{{condition}}}}}}}"#
    )
}

#[tokio::test]
async fn everybody_is_told_who_they_are() {
    let world = World::new(vec![]).await;
    let who = async |caller: &Caller| {
        let answer =
            world.identity.get_caller_identity(caller, api::GetCallerIdentityRequest {}).await;
        let answer = answer.unwrap();
        (answer.user_id.unwrap(), answer.arn.unwrap())
    };
    let root = world.world.root_of("123456789012");
    let arn = "arn:aws:iam::123456789012:root".to_owned();
    assert_eq!(who(&root).await, ("123456789012".to_owned(), arn));
    let arn = "arn:aws:iam::000000000000:user/ann".to_owned();
    assert_eq!(who(&world.user()).await, ("AIDA1".to_owned(), arn));
    let (name, id, session) = ("deploy".into(), "AROA1".into(), "ci".into());
    let session = Caller { principal: Principal::Role { name, id, session }, ..world.user() };
    let arn = "arn:aws:sts::000000000000:assumed-role/deploy/ci".to_owned();
    assert_eq!(who(&session).await, ("AROA1:ci".to_owned(), arn));
}

#[tokio::test]
async fn a_role_is_assumed_by_whom_it_trusts_and_ends_with_the_role() {
    let condition = r#""StringEquals":{"sts:ExternalId":"secret-7"}"#;
    let world = World::new(vec![user().into(), role(&trust(condition)).into()]).await;
    let caller = world.user();
    let refused = world.assume(&caller, |_| {}).await.unwrap_err();
    assert_eq!(
        refused.message,
        "User: arn:aws:iam::000000000000:user/ann is not authorized to perform: sts:AssumeRole on \
         resource: arn:aws:iam::000000000000:role/ops/deploy because no role trust policy allows the \
         sts:AssumeRole action"
    );
    let assumed = world.assume(&caller, |it| it.external_id = Some("secret-7".to_owned())).await;
    let assumed = assumed.unwrap();
    let issued = assumed.credentials.unwrap();
    assert!(issued.access_key_id.as_ref().unwrap().starts_with("ASIA"));
    let key = world.key(&issued).unwrap();
    assert_eq!(Some(key.secret.reveal()), issued.secret_access_key.as_deref());
    assert_eq!(key.expires, issued.expiration);
    let session = world.caller(&issued);
    let list = Permission::to("ecs:ListClusters").on("*");
    assert!(world.world.control.read(&session, &list).is_ok());
    let users = Permission::to("iam:ListUsers").on("*");
    let refused = world.world.control.read(&session, &users).unwrap_err().message;
    assert!(refused.starts_with("User: arn:aws:sts::000000000000:assumed-role/deploy/ci is not"));

    // One of the same name that is made anew is another.
    world.put(vec![IamRole { unique_id: "AROA2".into(), ..role(&trust("")) }.into()]).await;
    assert_eq!(world.key(&issued), None);
    assert!(world.world.control.read(&session, &list).is_err());
}

#[tokio::test]
async fn sessions_last_as_long_as_their_role_lets_them_and_chains_an_hour() {
    let world = World::new(vec![user().into(), role(&trust("")).into()]).await;
    let caller = world.user();
    let too_long = world.assume(&caller, |it| it.duration_seconds = Some(7_201)).await.unwrap_err();
    assert_eq!(
        (too_long.code.as_ref(), too_long.message.as_str()),
        (
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    );
    let assumed = world.assume(&caller, |it| it.duration_seconds = Some(7_200)).await.unwrap();
    let session = world.caller(&assumed.credentials.unwrap());
    let chained = world.assume(&session, |it| it.duration_seconds = Some(3_601)).await.unwrap_err();
    assert!(
        chained.message.ends_with("for roles assumed by role chaining."),
        "{}",
        chained.message
    );
    let root = world.assume(&world.world.root(), |_| {}).await.unwrap_err();
    assert_eq!(root.message, "Roles may not be assumed by root accounts.");
}

#[tokio::test]
async fn a_session_policy_and_tags_go_with_the_session() {
    let world = World::new(vec![user().into(), role(&trust("")).into()]).await;
    let caller = world.user();
    let tag = |key: &str, value: &str| api::Tag {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let assumed = world.assume(&caller, |it| {
        it.policy = Some(
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["ecs:List*","sts:*"],"Resource":"*"}}"#.to_owned(),
        );
        it.tags = Some(vec![tag("team", "blue")]);
        it.transitive_tag_keys = Some(vec!["team".to_owned()]);
    });
    let assumed = assumed.await.unwrap();
    assert!(assumed.packed_policy_size.is_some_and(|size| 0 < size));
    let session = world.caller(assumed.credentials.as_ref().unwrap());
    let may = |action| world.world.control.read(&session, &Permission::to(action).on("*"));
    assert!(may("ecs:ListClusters").is_ok());
    let refused = may("ecs:CreateCluster").unwrap_err().message;
    assert!(refused.ends_with("because no session policy allows the ecs:CreateCluster action"));
    // What is transitive cannot be given anew.
    let again = world.assume(&session, |it| it.tags = Some(vec![tag("Team", "red")])).await;
    assert_eq!(again.unwrap_err().code, "InvalidParameterValue");
    let chained = world.assume(&session, |_| {}).await.unwrap();
    let session = world.caller(&chained.credentials.unwrap());
    let tags = &session.session.unwrap().tags;
    assert_eq!(tags.get("team").map(String::as_str), Some("blue"));

    let bad = world.assume(&caller, |it| it.policy = Some("{}".to_owned())).await.unwrap_err();
    assert_eq!(bad.code, "MalformedPolicyDocument");
}

#[tokio::test]
async fn session_policies_have_2048_characters_with_the_arns_of_managed_ones() {
    let world = World::new(vec![user().into(), role(&trust("")).into()]).await;
    let caller = world.user();
    let text = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecs:*","Resource":"*"}}"#;
    let padded = |length: usize| format!("{text}{}", " ".repeat(length - text.len()));
    let read = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    let managed = |count: usize| {
        let one = api::PolicyDescriptorType { arn: Some(read.to_owned()) };
        (0 < count).then(|| vec![one; count])
    };
    for (length, arns, expected) in [
        (2_048, 0, None),
        (2_049, 0, Some(("ValidationError", "less than or equal to 2048"))),
        (2_048 - read.len(), 1, None),
        (2_049 - read.len(), 1, Some(("PackedPolicyTooLarge", "consumes 101% of allotted space."))),
    ] {
        let assumed = world.assume(&caller, |it| {
            it.policy = Some(padded(length));
            it.policy_arns = managed(arns);
        });
        match (assumed.await, expected) {
            (Ok(_), None) => {}
            (Err(error), Some((code, words))) => {
                assert_eq!(error.code, code, "{length} {arns}");
                assert!(error.message.ends_with(words), "{length} {arns}: {}", error.message);
            }
            (other, _) => panic!("{length} {arns}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_is_vouched_for_by_saml() {
    let world = World::new(vec![user().into(), role(&trust("")).into()]).await;
    let caller = Caller { principal: Principal::Anonymous, ..world.world.root() };
    let request = api::AssumeRoleWithSAMLRequest {
        role_arn: Some(ROLE.to_owned()),
        principal_arn: Some(format!("arn:aws:iam::{ACCOUNT}:saml-provider/corp")),
        saml_assertion: Some("PHNhbWw+".to_owned()),
        ..api::AssumeRoleWithSAMLRequest::default()
    };
    let refused = world.identity.assume_role_with_saml(&caller, request).await.unwrap_err();
    assert_eq!(refused.code, "InvalidIdentityToken");
    assert_eq!(refused.message, "Specified provider doesn't exist");
}

#[tokio::test]
async fn a_users_own_sessions_are_of_the_user_and_open_less() {
    let world = World::new(vec![user().into()]).await;
    let request = api::GetSessionTokenRequest::default();
    let issued = world.identity.get_session_token(&world.user(), request.clone()).await.unwrap();
    let issued = issued.credentials.unwrap();
    let session = world.caller(&issued);
    assert!(matches!(&session.principal, Principal::User { name, .. } if &**name == "ann"));
    let again = world.identity.get_session_token(&session, request).await.unwrap_err();
    assert_eq!(again.message, "Cannot call GetSessionToken with session credentials");

    let request = |policy: Option<&str>| api::GetFederationTokenRequest {
        name: Some("guest".to_owned()),
        policy: policy.map(str::to_owned),
        ..api::GetFederationTokenRequest::default()
    };
    let issued = world.identity.get_federation_token(&world.user(), request(None)).await.unwrap();
    let guest = world.caller(&issued.credentials.unwrap());
    let permission = Permission::to("sts:DecodeAuthorizationMessage").on("*");
    let refused = world.world.control.read(&guest, &permission).unwrap_err().message;
    assert!(refused.contains("no session policy allows"), "{refused}");
    let policy =
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let issued =
        world.identity.get_federation_token(&world.user(), request(Some(policy))).await.unwrap();
    assert_eq!(
        issued.federated_user.unwrap().arn.as_deref(),
        Some("arn:aws:sts::000000000000:federated-user/guest")
    );
    let guest = world.caller(&issued.credentials.unwrap());
    assert!(world.world.control.read(&guest, &permission).is_ok());
    let more = Permission::to("ecs:ListClusters").on("*");
    assert!(world.world.control.read(&guest, &more).is_err(), "the user itself may not");
}

#[tokio::test]
async fn a_second_factor_opens_what_asks_for_one() {
    const SERIAL: &str = "arn:aws:iam::000000000000:mfa/ann";
    const ASKS: &str = r#""Bool":{"aws:MultiFactorAuthPresent":"true"}"#;
    let device = IamMfaDevice {
        account: ACCOUNT.parse().unwrap(),
        name: "ann".into(),
        path: "/".into(),
        unique_id: "AMFA1".into(),
        created_at: Timestamp(0),
        tags: BTreeMap::new(),
        assigned: Some(MfaAssignment {
            user: "AIDA1".into(),
            at: Timestamp(0),
            drift: 0,
            last_step: 0,
        }),
    };
    let ann = IamUser { devices: BTreeSet::from([NameKey::of("/ann")]), ..user() };
    let rows = vec![ann.into(), role(&trust(ASKS)).into(), device.clone().into()];
    let world = World::new(rows).await;
    let code = || {
        let seed = world.world.control.mfa_seed(&device);
        let step = u64::try_from(step_of(world.world.env.now())).unwrap();
        Some(vault::totp::code(&seed, step))
    };
    let asked = |request: &mut api::AssumeRoleRequest, code: Option<String>| {
        (request.serial_number, request.token_code) = (Some(SERIAL.to_owned()), code);
    };
    assert_eq!(
        world.assume(&world.user(), |_| {}).await.unwrap_err().code,
        "AccessDeniedException"
    );
    let half = world.assume(&world.user(), |request| asked(request, None)).await.unwrap_err();
    assert!(half.message.contains("must provide both"), "{}", half.message);
    let opened = world.assume(&world.user(), |request| asked(request, code())).await.unwrap();
    let session = world.caller(&opened.credentials.unwrap());
    assert_eq!(session.session.unwrap().mfa_at, None, "a role's session says nothing of it");
    let again = world.assume(&world.user(), |request| asked(request, code())).await.unwrap_err();
    assert!(again.message.contains("invalid MFA one time pass code"), "{}", again.message);

    world.world.env.advance_ms(vault::totp::STEP_MS);
    let request = |serial: &str| api::GetSessionTokenRequest {
        serial_number: Some(serial.to_owned()),
        token_code: code(),
        ..api::GetSessionTokenRequest::default()
    };
    let other = format!("{SERIAL}s");
    let other = world.identity.get_session_token(&world.user(), request(&other)).await.unwrap_err();
    assert!(other.message.contains("verify your MFA serial number"), "{}", other.message);
    let issued = world.identity.get_session_token(&world.user(), request(SERIAL)).await.unwrap();
    let session = world.caller(&issued.credentials.unwrap());
    assert!(session.session.as_ref().unwrap().mfa_at.is_some());
    world.assume(&session, |_| {}).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_decoded_for_who_may_and_a_key_says_its_account() {
    let world = World::new(vec![user().into()]).await;
    let refused = Permission::to("ecs:ListClusters").on("*");
    let refused = world.world.control.read(&world.user(), &refused).unwrap_err();
    let encoded_message = Some(refused.denial.unwrap().encoded);
    let request = api::DecodeAuthorizationMessageRequest { encoded_message };
    let decoded = world.identity.decode_authorization_message(&world.user(), request).await;
    let decoded = decoded.unwrap().decoded_message.unwrap();
    assert!(decoded.contains("\"action\":\"ecs:ListClusters\""), "{decoded}");
    let request =
        api::DecodeAuthorizationMessageRequest { encoded_message: Some("AAAA".to_owned()) };
    let bad = world.identity.decode_authorization_message(&world.user(), request).await;
    assert_eq!(bad.unwrap_err().code, "InvalidAuthorizationMessageException");

    let account = "111122223333".parse().unwrap();
    let id = access_keys::mint(access_keys::LONG_TERM, account, world.world.env.as_ref());
    let request = api::GetAccessKeyInfoRequest { access_key_id: Some(id) };
    let answer = world.identity.get_access_key_info(&world.user(), request).await.unwrap();
    assert_eq!(answer.account.as_deref(), Some("111122223333"));
}

const ISSUER: &str = "https://token.example.com/ci";

struct Provider {
    pair: EcdsaKeyPair,
    random: ring::rand::SystemRandom,
}

impl Provider {
    fn new() -> Self {
        let random = ring::rand::SystemRandom::new();
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { pair, random }
    }

    fn key_set(&self) -> serde_json::Value {
        let point = self.pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        serde_json::json!({ ISSUER: { "keys": [{
            "kty": "EC", "crv": "P-256", "kid": "k1", "x": part(&point[1..33]), "y": part(&point[33..]),
        }] } })
    }

    fn token(&self, audience: &str, subject: &str, expires: u64) -> String {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(serde_json::json!({ "alg": "ES256", "kid": "k1" }));
        let claims = part(serde_json::json!({
            "iss": ISSUER, "aud": [audience], "sub": subject, "exp": expires,
        }));
        let signed = format!("{header}.{claims}");
        let signature = self.pair.sign(&self.random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test]
async fn a_token_of_a_provider_opens_the_roles_that_trust_it() {
    let provider = Provider::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file.as_file(), provider.key_set().to_string().as_bytes())
        .unwrap();
    let arn = "arn:aws:iam::000000000000:oidc-provider/token.example.com/ci";
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"Federated":"{arn}"}},
        "Action":"sts:AssumeRoleWithWebIdentity","Condition":{{"StringLike":{{
        "token.example.com/ci:sub":"repo:shop/*"}}}}}}}}"#
    );
    let row = IamOidcProvider {
        account: ACCOUNT.parse().unwrap(),
        url: "token.example.com/ci".into(),
        client_ids: vec!["sts.amazonaws.com".to_owned()],
        thumbprints: vec![],
        created_at: Timestamp(0),
        tags: BTreeMap::new(),
    };
    let rows = vec![role(&trust).into(), row.into()];
    let path = file.path().to_owned();
    let world = World::with_config(rows, |config| config.oidc_keys = Some(path)).await;
    let caller = Caller { principal: Principal::Anonymous, ..world.world.root() };
    let later = caller.now.seconds() + 600;
    let ask = async |token: String| {
        let request = api::AssumeRoleWithWebIdentityRequest {
            role_arn: Some(ROLE.to_owned()),
            role_session_name: Some("ci".to_owned()),
            web_identity_token: Some(token),
            ..api::AssumeRoleWithWebIdentityRequest::default()
        };
        world.identity.assume_role_with_web_identity(&caller, request).await
    };
    let good = provider.token("sts.amazonaws.com", "repo:shop/web", later);
    let assumed = ask(good.clone()).await.unwrap();
    assert_eq!(assumed.provider.as_deref(), Some(arn));
    assert_eq!(assumed.subject_from_web_identity_token.as_deref(), Some("repo:shop/web"));
    let session = world.caller(&assumed.credentials.unwrap());
    let Session { provider: vouched, .. } = &**session.session.as_ref().unwrap();
    assert_eq!(vouched.as_deref(), Some(arn));

    let refusal = async |token: String| {
        let refused = ask(token).await.unwrap_err();
        (refused.code.into_owned(), refused.message)
    };
    let other = refusal(provider.token("sts.amazonaws.com", "repo:evil/web", later)).await;
    let not = "Not authorized to perform sts:AssumeRoleWithWebIdentity".to_owned();
    assert_eq!(other, ("AccessDenied".to_owned(), not));
    let audience = refusal(provider.token("other", "repo:shop/web", later)).await;
    assert_eq!(audience.1, "Incorrect token audience");
    let expired = refusal(provider.token("sts.amazonaws.com", "repo:shop/web", 1)).await;
    assert_eq!(expired.0, "ExpiredTokenException");
    let strange = refusal(Provider::new().token("sts.amazonaws.com", "repo:shop/web", later)).await;
    assert_eq!(strange.0, "InvalidIdentityToken");
    let cut = refusal(good[..good.len() - 4].to_owned()).await;
    assert_eq!(cut.0, "InvalidIdentityToken");

    // Who signs nothing is asked by which endpoint it came, too.
    let by = aws_wire::ByEndpoint {
        endpoint: "vpce-00000001".parse().unwrap(),
        vpc: "vpc-00000001".parse().unwrap(),
    };
    let origin = Origin { endpoint: Some(Arc::new(by)), ..Origin::default() };
    let caller = Caller { origin, ..caller.clone() };
    let request = api::AssumeRoleWithWebIdentityRequest {
        role_arn: Some(ROLE.to_owned()),
        role_session_name: Some("ci".to_owned()),
        web_identity_token: Some(good),
        ..api::AssumeRoleWithWebIdentityRequest::default()
    };
    let gone = world.identity.assume_role_with_web_identity(&caller, request).await.unwrap_err();
    assert!(gone.message.ends_with("the VPC endpoint is not there any more"), "{}", gone.message);
}

#[tokio::test]
async fn what_needs_no_permission_needs_the_endpoints_that_it_came_by() {
    use model::network::{EndpointKind, EndpointPolicy, InterfaceEndpoint, VpcEndpoint};
    let world = World::new(vec![user().into()]).await;
    let endpoint = |policy: &str| VpcEndpoint {
        account: ACCOUNT.parse().unwrap(),
        id: "vpce-00000001".parse().unwrap(),
        vpc: "vpc-00000001".parse().unwrap(),
        service: "sts".to_owned(),
        kind: EndpointKind::Interface(InterfaceEndpoint {
            zones: vec![],
            groups: vec![],
            has_private_names: true,
        }),
        policy: Some(EndpointPolicy::new(Policy::parse(policy, PolicyKind::Resource).unwrap())),
        created_at: Timestamp(0),
    };
    let by = aws_wire::ByEndpoint {
        endpoint: "vpce-00000001".parse().unwrap(),
        vpc: "vpc-00000001".parse().unwrap(),
    };
    let origin = Origin { endpoint: Some(Arc::new(by)), ..Origin::default() };
    let caller = Caller { origin, ..world.user() };
    let who = async || {
        let asked = api::GetCallerIdentityRequest {};
        world.identity.get_caller_identity(&caller, asked).await.map(drop)
    };
    let session = async || {
        let asked = api::GetSessionTokenRequest::default();
        world.identity.get_session_token(&caller, asked).await.map(drop)
    };
    let gone = who().await.unwrap_err().message;
    assert!(gone.ends_with("the VPC endpoint is not there any more"), "{gone}");
    let some = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:GetCaller*","Resource":"*"}}"#;
    world.put(vec![endpoint(some).into()]).await;
    who().await.unwrap();
    let refused = session().await.unwrap_err().message;
    assert!(refused.ends_with("policy allows the sts:GetSessionToken action"), "{refused}");
    let all = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}"#;
    world.put(vec![endpoint(all).into()]).await;
    session().await.unwrap();
}
