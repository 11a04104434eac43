//! Who may join, and who is told why not.

use aws_wire::Principal;
use longshore_types::{Clock as _, SeededEnv};
use model::instance::InstanceStatus;
use routing::wire;
use serde_json::json;

use super::*;
use crate::server::RegionApi as _;
use crate::testing::TestRegion;

const MINUTE_MS: u64 = 60_000;

pub(super) struct World {
    pub(super) test: TestRegion,
    pub(super) nodes: Nodes,
}

impl World {
    pub(super) async fn new() -> Self {
        let test = TestRegion::new();
        test.region.prepare_network(&[]).await.unwrap();
        let nodes = Nodes::new(Arc::clone(&test.region.control));
        Self { test, nodes }
    }

    pub(super) fn env(&self) -> &SeededEnv {
        self.test.env()
    }

    pub(super) async fn call(
        &self,
        caller: &Caller,
        operation: &str,
        body: Value,
    ) -> Result<Value, ApiError> {
        let caller = Caller { now: self.env().now(), ..caller.clone() };
        let body = body.to_string();
        self.nodes.dispatch(&caller, operation, body.as_bytes()).unwrap().await
    }

    async fn own<T: DeserializeOwned>(&self, operation: &str, body: Value) -> T {
        let answer = self.call(&self.test.root(), operation, body).await.unwrap();
        serde_json::from_value(answer).unwrap()
    }

    async fn token(&self, uses_max: Option<u32>) -> CreatedJoinToken {
        let body = json!({"cluster": "web", "zone": "b", "attributes": {"rack": "7"},
                          "validMs": 10 * MINUTE_MS, "usesMax": uses_max, "keyMs": 8 * MINUTE_MS});
        self.own("CreateJoinToken", body).await
    }

    pub(super) fn stranger(&self) -> Caller {
        let access_key = String::new();
        Caller { principal: Principal::Anonymous, access_key, ..self.test.root() }
    }

    pub(super) async fn join(&self, token: &str, host: &str) -> Result<Joined, String> {
        let host = format!("{host:0>16}");
        let body = json!({"token": token, "host": host, "hostName": "h\n1", "release": "0.1.0"});
        let joined = self.call(&self.stranger(), JOIN, body).await;
        joined.map(|joined| serde_json::from_value(joined).unwrap()).map_err(|error| {
            assert_eq!((error.status, &*error.code), (403, "JoinRefusedException"));
            error.message
        })
    }

    /// A caller with a host's key, if the region knows the key.
    pub(super) fn with(&self, key: &IssuedKey) -> Option<Caller> {
        let control = &self.test.region.control;
        let found = control.access.find(&control.view(), &key.access_key_id, None)?;
        assert_eq!(found.secret.reveal(), key.secret_access_key.reveal());
        if found.expires.is_some_and(|at| at <= self.env().now()) {
            return None;
        }
        let access_key = key.access_key_id.clone();
        Some(Caller { principal: found.principal, access_key, ..self.test.root() })
    }

    pub(super) async fn check_in(&self, key: &IssuedKey) -> CheckedIn {
        let answer = self.call(&self.with(key).unwrap(), "CheckIn", json!({})).await.unwrap();
        serde_json::from_value(answer).unwrap()
    }
}

#[tokio::test]
async fn a_host_joins_by_a_token_and_has_keys_of_its_own() {
    let world = World::new().await;
    let token = world.token(Some(2)).await;
    let text = token.token.reveal();
    let view = world.test.region.control.view();
    let stored = serde_json::to_string(&**view.join_tokens.iter().next().unwrap()).unwrap();
    assert!(!stored.contains(&text[30..50]), "{stored}");
    let (one, two) = (world.join(text, "1").await.unwrap(), world.join(text, "2").await.unwrap());
    assert_ne!(one.key.access_key_id, two.key.access_key_id);
    assert_eq!((one.cluster.as_str(), one.region.as_str()), ("web", "us-east-1"));
    let (one_calls, two_calls) = (world.with(&one.key).unwrap(), world.with(&two.key).unwrap());
    assert!(matches!(one_calls.principal, Principal::Node { .. }));
    let holder = |caller: &Caller| control::iam::node_keys::holder(&caller.access_key).to_owned();
    assert_ne!(holder(&one_calls), holder(&two_calls));
    let listed: Listed<ListedNode> = world.own("ListNodes", json!({})).await;
    assert_eq!(listed.items.len(), 2);
    assert_eq!(
        listed.items[0].host_name, "h1",
        "what a stranger says is shown without control characters"
    );
    let tokens: Listed<ListedJoinToken> = world.own("ListJoinTokens", json!({})).await;
    assert_eq!(tokens.items[0].over.as_deref(), Some("used up"));
}

#[tokio::test]
async fn a_host_that_joined_is_no_balancer_of_the_region() {
    let world = World::new().await;
    let token = world.token(Some(1)).await;
    let joined = world.join(token.token.reveal(), "1").await.unwrap();
    let region = &world.test.region;
    let asked = || wire::Call::Read(wire::ReadRequest { version: 0, wait_ms: 0 });
    let told = || wire::Call::Report(routing::Report { version: u64::MAX, ..Default::default() });
    let host = world.with(&joined.key).unwrap();
    assert!(region.balancers(&host, asked()).is_none(), "the table is of all accounts");
    assert!(region.balancers(&host, told()).is_none(), "nor is it believed of any target");
    assert!(region.balancers(&world.test.root_of("111111111111"), asked()).is_none());
    let access_key = region.control.access.keys.node.access_key_id.clone();
    let own = Caller { principal: host.principal.clone(), access_key, ..host };
    region.balancers(&own, asked()).unwrap().await.unwrap();
    let owner = world.test.root();
    assert!(region.balancers(&owner, asked()).is_none(), "it has all accounts' private keys");
}

#[tokio::test]
async fn a_host_on_which_balancers_may_be_reads_its_own_table_by_tls_alone() {
    let world = World::new().await;
    let token = world.token(Some(1)).await;
    let joined = world.join(token.token.reveal(), "1").await.unwrap();
    let region = &world.test.region;
    let mut host = world.with(&joined.key).unwrap();
    host.origin.is_secure = true;
    let asked = || wire::Call::Read(wire::ReadRequest { version: 0, wait_ms: 0 });
    assert!(region.balancers(&host, asked()).is_none(), "it is no instance yet");
    let key = control::iam::node_keys::holder(&joined.key.access_key_id).to_owned();
    let mut row =
        control::testing::rows::instance(longshore_types::InstanceId::from_bytes([1; 16]));
    row.access_key = Some(key);
    let names = ["longshore.balancers", "longshore.eni", "longshore.underlay-address"];
    row.attributes = names.map(|name| (name.to_owned(), Some("true".to_owned()))).into();
    let put = async |row: &model::Instance| {
        let put = |view: &model::View, _| {
            let mut batch = store::Batch::on(view);
            batch.put(row.clone());
            Ok((batch, ()))
        };
        region.control.decide(put).await.unwrap();
    };
    put(&row).await;
    region.balancers(&host, asked()).unwrap().await.unwrap();
    let in_the_clear = Caller { origin: aws_wire::Origin::default(), ..host.clone() };
    assert!(region.balancers(&in_the_clear, asked()).is_none());
    row.is_external = true;
    put(&row).await;
    assert!(region.balancers(&host, asked()).is_none());
}

#[tokio::test]
async fn whoever_may_not_join_is_told_why() {
    let world = World::new().await;
    let token = world.token(Some(1)).await;
    let text = token.token.reveal().to_owned();
    let forged = trust::JoinToken::mint(world.env(), None).reveal();
    for unknown in ["", "lsjoin_AAAA", forged.reveal()] {
        let why = world.join(unknown, "1").await.unwrap_err();
        assert!(why.starts_with("This token is not one of this region's"), "{why}");
    }
    // The id of a token that there is, with another secret.
    let mut half: Vec<char> = text.chars().collect();
    half[30] = if half[30] == 'A' { 'B' } else { 'A' };
    let why = world.join(&half.iter().collect::<String>(), "1").await.unwrap_err();
    assert!(why.starts_with("This token is not one of this region's"), "{why}");
    // The answer was lost: asked again, it is the same host, with another key.
    let lost = world.join(&text, "1").await.unwrap();
    let joined = world.join(&text, "1").await.unwrap();
    assert_eq!(joined.node, lost.node);
    assert!(world.with(&lost.key).is_none(), "the key that nobody heard of is over");
    let why = world.join(&text, "2").await.unwrap_err();
    assert!(why.starts_with("This token was used as often"), "{why}");
    world.check_in(&joined.key).await;
    let why = world.join(&text, "1").await.unwrap_err();
    assert!(why.starts_with("This host has joined with this token already"), "{why}");
    let other = world.token(None).await;
    let why = world.join(other.token.reveal(), "1").await.unwrap_err();
    assert!(why.starts_with("Another host has joined under this one's name"), "{why}");
    let _: Value = world.own("RevokeJoinToken", json!({"id": other.id})).await;
    let why = world.join(other.token.reveal(), "3").await.unwrap_err();
    assert!(why.starts_with("This token was revoked"), "{why}");
    let late = world.token(None).await;
    world.env().advance_ms(10 * MINUTE_MS);
    let why = world.join(late.token.reveal(), "3").await.unwrap_err();
    assert!(why.starts_with("This token has expired"), "{why}");
}

#[tokio::test]
async fn a_key_is_renewed_at_half_of_its_time_and_the_one_before_is_good_until_then() {
    let world = World::new().await;
    let token = world.token(None).await;
    let first = world.join(token.token.reveal(), "1").await.unwrap().key;
    assert!(!world.check_in(&first).await.is_due);
    world.env().advance_ms(4 * MINUTE_MS);
    let due = world.check_in(&first).await;
    assert!(due.is_due);
    assert_eq!(due.again_ms, MINUTE_MS);
    let caller = world.with(&first).unwrap();
    let lost: IssuedKey =
        serde_json::from_value(world.call(&caller, "RenewKey", json!({})).await.unwrap()).unwrap();
    let second: IssuedKey =
        serde_json::from_value(world.call(&caller, "RenewKey", json!({})).await.unwrap()).unwrap();
    assert!(world.with(&lost).is_none(), "one that was lost on the way is over");
    assert!(world.with(&first).is_some() && world.with(&second).is_some());
    assert!(!world.check_in(&second).await.is_due);
    assert!(world.with(&first).is_none(), "the new one is in use");
    world.env().advance_ms(8 * MINUTE_MS);
    assert!(world.with(&second).is_none(), "it ends");
}

#[tokio::test]
async fn a_hosts_key_is_good_for_what_that_host_registered_alone() {
    let world = World::new().await;
    let token = world.token(None).await;
    for name in ["web", "other"] {
        let body = json!({"clusterName": name});
        world.test.ecs(&world.test.root(), "CreateCluster", body).await.unwrap();
    }
    let keys = [
        world.join(token.token.reveal(), "1").await.unwrap().key,
        world.join(token.token.reveal(), "2").await.unwrap().key,
    ];
    let callers = keys.each_ref().map(|key| world.with(key).unwrap());
    let register = |cluster: &str, arn: Option<String>| {
        json!({
        "cluster": cluster, "containerInstanceArn": arn, "totalResources": [],
        "attributes": [{"name": "rack", "value": "lie"}, {"name": "ecs.availability-zone", "value": "us-east-1f"}]})
    };
    let one = world
        .test
        .ecs(&callers[0], "RegisterContainerInstance", register("web", None))
        .await
        .unwrap();
    let arn = one["containerInstance"]["containerInstanceArn"].as_str().unwrap().to_owned();
    let view = world.test.region.control.view();
    let row = view.instances.iter().next().unwrap();
    assert_eq!(row.zone(), Some("us-east-1b"), "the token says where it is");
    assert_eq!(row.attributes["rack"].as_deref(), Some("7"));
    let refused = world.test.ecs(
        &callers[1],
        "RegisterContainerInstance",
        register("web", Some(arn.clone())),
    );
    assert_eq!(refused.await.unwrap_err().code, "AccessDeniedException");
    let refused = world.test.ecs(&callers[0], "RegisterContainerInstance", register("other", None));
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
    assert!(refused.message.contains("web"), "{}", refused.message);
    // With the next of its keys it is the same host.
    let next: IssuedKey =
        serde_json::from_value(world.call(&callers[0], "RenewKey", json!({})).await.unwrap())
            .unwrap();
    let caller = world.with(&next).unwrap();
    let again =
        world.test.ecs(&caller, "RegisterContainerInstance", register("web", Some(arn.clone())));
    assert_eq!(again.await.unwrap()["containerInstance"]["containerInstanceArn"], arn);
    let _: Value = world.own("RemoveNode", json!({"id": arn})).await;
    assert!(world.with(&next).is_none() && world.with(&keys[1]).is_some());
    assert_eq!(
        world.test.region.control.view().instances.iter().next().unwrap().status,
        InstanceStatus::Active
    );
}

#[tokio::test]
async fn hosts_are_the_owners_business() {
    let world = World::new().await;
    let token = world.token(None).await;
    let node = world.join(token.token.reveal(), "1").await.unwrap().key;
    let other = world.test.root_of("111122223333");
    for caller in [other, world.with(&node).unwrap(), world.stranger()] {
        let create = json!({"cluster": "web", "validMs": MINUTE_MS, "keyMs": MINUTE_MS});
        for (operation, body) in [
            ("CreateJoinToken", create),
            ("ListJoinTokens", json!({})),
            ("RevokeJoinToken", json!({"id": token.id})),
            ("ListNodes", json!({})),
            ("RemoveNode", json!({"id": "x"})),
        ] {
            let refused = world.call(&caller, operation, body).await.unwrap_err();
            assert_eq!(refused.code, "AccessDeniedException", "{operation} by {caller:?}");
        }
    }
    for operation in ["CheckIn", "RenewKey"] {
        let refused = world.call(&world.test.root(), operation, json!({})).await.unwrap_err();
        assert_eq!(refused.code, "AccessDeniedException", "{operation}");
    }
}
