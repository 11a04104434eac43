use std::collections::BTreeMap;
use std::sync::Arc;

use control::reconcile::Reconciler as _;
use ecs_api as api;
use longshore_types::{Timestamp, Uuid};
use model::parameter::{ParameterTier, ParameterValue};
use model::service::Stage;
use model::{Parameter, ParameterVersion, Secret};

use super::world::{World, text};
use crate::register_task_definition;
use crate::services::Who;
use crate::services::rolls::SecretRolls;

const ARN: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:db-abcdef";

fn secret(since: Timestamp) -> Secret {
    Secret {
        account: "000000000000".parse().unwrap(),
        name: "db".into(),
        uid: Uuid::from_random([2; 16]),
        suffix: "abcdef".to_owned(),
        description: None,
        kms_key: None,
        created_at: Timestamp(0),
        changed_at: since,
        accessed_on: None,
        deletion: None,
        tags: BTreeMap::new(),
        policy: None,
        rotation: None,
        current_since: Some(since),
        versions: BTreeMap::new(),
    }
}

fn parameter(version: u64, at: Timestamp) -> [model::Row; 2] {
    let row = Parameter {
        account: "000000000000".parse().unwrap(),
        name: "/web/word".into(),
        has_slash: false,
        uid: Uuid::from_random([3; 16]),
        oldest: 1,
        latest: version,
        labels: BTreeMap::new(),
        tags: BTreeMap::new(),
        expires_at: None,
        notices: vec![],
    };
    let of = ParameterVersion {
        account: row.account,
        id: row.version_id(version),
        value: ParameterValue::Text("word".to_owned()),
        description: None,
        allowed_pattern: None,
        tier: ParameterTier::Standard,
        data_type: "text".to_owned(),
        policies: vec![],
        modified_at: at,
        modified_by: String::new(),
    };
    [row.into(), of.into()]
}

impl World {
    /// A service of which a container's variable is read from there.
    async fn naming(&self, sources: &[&str], tag: Option<&str>) {
        let secret = |(n, from): (usize, &&str)| api::Secret {
            name: Some(format!("S{n}")),
            value_from: text(from),
        };
        let container = api::ContainerDefinition {
            name: text("app"),
            image: text("127.0.0.1:4566/hello:1"),
            secrets: Some(sources.iter().enumerate().map(secret).collect()),
            ..api::ContainerDefinition::default()
        };
        let input = api::RegisterTaskDefinitionRequest {
            family: text("naming"),
            cpu: text("256"),
            memory: text("1024"),
            execution_role_arn: text("ecsTaskExecutionRole"),
            container_definitions: Some(vec![container]),
            ..api::RegisterTaskDefinitionRequest::default()
        };
        register_task_definition::handle(self.ecs(), &self.test.root(), input).await.unwrap();
        let tag = tag.map(|value| {
            vec![api::Tag { key: text("longshore.roll-on-new-secret"), value: text(value) }]
        });
        let made = self.create(|input| {
            input.task_definition = text("naming");
            input.tags = tag;
        });
        made.await.unwrap();
    }

    fn now(&self) -> Timestamp {
        self.ecs().control.clock.now()
    }

    async fn look(&self) -> usize {
        let rolls = SecretRolls::new(self.ecs());
        let who = Who { account: self.test.root().account, service: self.id() };
        for _ in 0..2 {
            rolls.pass(&who).await.unwrap();
        }
        self.deployments().len()
    }
}

#[tokio::test]
async fn a_service_that_asks_for_it_is_rolled_once_for_each_new_value() {
    let world = World::new().await;
    world.put([secret(Timestamp(1)).into()]).await;
    world.put(parameter(1, Timestamp(1))).await;
    world.naming(&[&format!("{ARN}:user::"), "/web/word"], Some("true")).await;
    assert_eq!(world.look().await, 1, "its tasks are started with what there is");
    let before = world.revision();
    world.test.env.advance_ms(1_000);
    world.put([secret(world.now()).into()]).await;
    assert_eq!(world.look().await, 2);
    assert_ne!(world.revision().id, before.id);
    assert_eq!(world.revision().definition, before.definition);
    world.test.env.advance_ms(1_000);
    world.put(parameter(2, world.now())).await;
    assert_eq!(world.look().await, 3);
    world.test.env.advance_ms(1_000);
    assert_eq!(world.look().await, 3);
}

#[tokio::test]
async fn a_deployment_that_was_rolled_back_is_not_begun_again_for_the_same_value() {
    let world = World::new().await;
    world.put([secret(Timestamp(1)).into()]).await;
    world.naming(&[ARN], Some("true")).await;
    let first = world.row();
    world.test.env.advance_ms(1_000);
    world.put([secret(world.now()).into()]).await;
    assert_eq!(world.look().await, 2);
    // As after a rollback: the service is what it was, and the failed deployment is kept.
    let mut failed = world.deployments().pop().unwrap();
    failed.stage = Stage::Completed;
    world.put([first.into(), failed.into()]).await;
    assert_eq!(world.look().await, 2);
}

#[tokio::test]
async fn others_are_left_alone_and_so_is_what_names_a_version_for_good() {
    let pinned = format!("{ARN}:::{}", Uuid::from_random([9; 16]));
    let staged = format!("{ARN}::AWSPREVIOUS:");
    for (sources, tag) in [
        (&[ARN][..], None),
        (&[ARN], Some("false")),
        (&[&pinned], Some("true")),
        (&[&staged, "/other"], Some("true")),
    ] {
        let world = World::new().await;
        world.put([secret(Timestamp(1)).into()]).await;
        world.naming(sources, tag).await;
        world.test.env.advance_ms(1_000);
        world.put([secret(world.now()).into()]).await;
        assert_eq!(world.look().await, 1, "{sources:?} {tag:?}");
    }
}

#[tokio::test]
async fn when_another_accounts_secret_changes_is_not_told_by_a_deployment() {
    let theirs = |since| Secret { account: "111122223333".parse().unwrap(), ..secret(since) };
    let world = World::new().await;
    world.put([theirs(Timestamp(1)).into()]).await;
    let arn = ARN.replace("000000000000", "111122223333");
    world.naming(&[&arn], Some("true")).await;
    world.test.env.advance_ms(1_000);
    world.put([theirs(world.now()).into()]).await;
    assert_eq!(world.look().await, 1);
}

#[tokio::test]
async fn a_changed_secret_wakes_whoever_names_it() {
    use control::reconcile::Queue;
    use model::{Key, Seq};
    use store::Change;

    let world = World::new().await;
    world.put([secret(Timestamp(1)).into()]).await;
    world.naming(&[ARN], Some("true")).await;
    let who = Who { account: world.test.root().account, service: world.id() };
    let mut rolls = SecretRolls::new(world.ecs());
    let view = world.ecs().control.view();
    assert_eq!(rolls.keys(&view), std::slice::from_ref(&who));
    let mut queue = Queue::default();
    let key = Key::Secret(who.account, Arc::from("db"));
    rolls.wake(&view, &Change { seq: Seq(99), key }, &mut queue);
    assert!(!queue.is_empty());
    let mut queue = Queue::default();
    let key = Key::Secret(who.account, Arc::from("other"));
    rolls.wake(&view, &Change { seq: Seq(99), key }, &mut queue);
    assert!(queue.is_empty());
}
