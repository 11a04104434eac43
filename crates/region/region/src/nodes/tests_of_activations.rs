//! Hosts that join by an activation: who may, what they are then, and whose permissions they have.

use std::collections::BTreeMap;

use aws_wire::Principal;
use control::testing::rows;
use longshore_types::{Clock as _, Timestamp};
use model::{Grants, IamRole, Key, Managed, NameKey, Node, TrustText};
use serde_json::json;
use store::Batch;

use super::tests::World;
use super::*;

const ACCOUNT: &str = "111122223333";
const DAY_MS: u64 = 24 * 60 * 60_000;
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"Service":"ssm.amazonaws.com"},"Action":"sts:AssumeRole",
    "Condition":{"StringEquals":{"aws:SourceAccount":"111122223333"}}}]}"#;

impl World {
    fn owner(&self) -> Caller {
        Caller { now: self.env().now(), ..self.test.root_of(ACCOUNT) }
    }

    async fn put_role(&self, trust: &str) {
        let role = IamRole {
            account: ACCOUNT.parse().unwrap(),
            name: "anywhere".into(),
            path: "/".into(),
            unique_id: "AROA0123456789ABCDEF".into(),
            created_at: Timestamp(1),
            description: None,
            max_session_s: 3_600,
            trust: TrustText::new(trust, BTreeMap::new()),
            tags: BTreeMap::new(),
            boundary: None,
            grants: Grants {
                attached: vec![control::access::NODE_POLICY.into()],
                ..Grants::default()
            },
            service: None,
        };
        let put = self.test.region.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.put(role.clone());
            Ok((batch, ()))
        });
        put.await.unwrap();
    }

    async fn ssm(&self, operation: &str, body: Value) -> Result<Value, ApiError> {
        self.test.ask("ssm", &self.owner(), operation, body).await
    }

    /// An activation's id and code.
    async fn activation(&self, limit: u32) -> (String, String) {
        let body = json!({"IamRole": "anywhere", "RegistrationLimit": limit, "DefaultInstanceName": "edge",
                          "Tags": [{"Key": "site", "Value": "7"}]});
        let made = self.ssm("CreateActivation", body).await.unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("ActivationId"), text("ActivationCode"))
    }

    async fn enter(&self, (id, code): &(String, String), host: &str) -> Result<Joined, String> {
        let body = json!({"activationId": id, "activationCode": code, "host": format!("{host:0>16}"),
                          "hostName": "edge-1", "cluster": "web", "release": "0.1.0",
                          "platform": ["Debian GNU/Linux", "12"]});
        let joined = self.call(&self.stranger(), JOIN_BY_ACTIVATION, body).await;
        joined.map(|joined| serde_json::from_value(joined).unwrap()).map_err(|error| {
            assert_eq!((error.status, &*error.code), (403, "JoinRefusedException"));
            error.message
        })
    }

    async fn instances(&self) -> Vec<Value> {
        let found = self.ssm("DescribeInstanceInformation", json!({})).await.unwrap();
        found["InstanceInformationList"].as_array().unwrap().clone()
    }

    async fn described(&self) -> Value {
        let found = self.ssm("DescribeActivations", json!({})).await.unwrap();
        found["ActivationList"][0].clone()
    }
}

async fn world() -> World {
    let world = World::new().await;
    world.put_role(TRUST).await;
    world
}

#[tokio::test]
async fn a_host_becomes_a_managed_instance_with_the_permissions_of_its_role() {
    let world = world().await;
    let activation = world.activation(1).await;
    let view = world.test.region.control.view();
    let stored = serde_json::to_string(&**view.activations.iter().next().unwrap()).unwrap();
    assert!(!stored.contains(&activation.1), "{stored}");
    let joined = world.enter(&activation, "1").await.unwrap();
    let instance = joined.instance.clone().unwrap();
    assert!(instance.starts_with("mi-") && instance.len() == 20, "{instance}");
    let caller = world.with(&joined.key).unwrap();
    assert_eq!(caller.access_key, joined.key.access_key_id);
    let found = world.test.region.control.access.find(
        &world.test.region.control.view(),
        &joined.key.access_key_id,
        None,
    );
    assert_eq!(found.unwrap().account.as_str(), ACCOUNT);
    assert!(
        matches!(&caller.principal, Principal::Role { name, session, .. }
            if **name == *"anywhere" && **session == *instance),
        "{:?}",
        caller.principal
    );
    let shown = &world.instances().await[0];
    for (name, value) in [
        ("InstanceId", instance.as_str()),
        ("PingStatus", "Online"),
        ("ActivationId", &activation.0),
        ("IamRole", "anywhere"),
        ("Name", "edge"),
        ("ComputerName", "edge-1"),
        ("PlatformName", "Debian GNU/Linux"),
        ("PlatformType", "Linux"),
        ("ResourceType", "ManagedInstance"),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert_eq!(world.described().await["RegistrationsCount"], 1);
    let tags = json!({"ResourceType": "ManagedInstance", "ResourceId": instance});
    let tags = world.ssm("ListTagsForResource", tags).await.unwrap();
    assert_eq!(tags["TagList"], json!([{"Key": "site", "Value": "7"}]));
    // By its ARN, and by no other that ends as that does.
    let region = world.test.region.control.config.region.to_string();
    for (region, account, is_there) in [
        (region.as_str(), "000000000000", false),
        ("xx-none-1", ACCOUNT, false),
        (region.as_str(), ACCOUNT, true),
    ] {
        let arn = format!("arn:aws:ssm:{region}:{account}:managed-instance/{instance}");
        let body = json!({"ResourceARNList": [arn], "Tags": {"team": "blue"}});
        let tagged = world.test.ask("tagging", &world.owner(), "TagResources", body).await.unwrap();
        assert_eq!(tagged["FailedResourcesMap"][&arn].is_null(), is_there, "{tagged}");
    }
    world.env().advance_ms(6 * 60_000);
    assert_eq!(world.instances().await[0]["PingStatus"], "ConnectionLost");
    let caller = Caller { account: ACCOUNT.parse().unwrap(), ..caller };
    world.call(&caller, "CheckIn", json!({})).await.unwrap();
    assert_eq!(world.instances().await[0]["PingStatus"], "Online");
}

#[tokio::test]
async fn a_managed_instance_is_an_external_one_of_the_cluster_that_it_said_and_takes_no_others_tasks()
 {
    let world = world().await;
    let activation = world.activation(2).await;
    for name in ["web", "other"] {
        let body = json!({"clusterName": name});
        world.test.ecs(&world.owner(), "CreateCluster", body).await.unwrap();
    }
    let joined = world.enter(&activation, "1").await.unwrap();
    let second = world.enter(&activation, "2").await.unwrap();
    let caller = |key: &IssuedKey| Caller {
        account: ACCOUNT.parse().unwrap(),
        now: world.env().now(),
        ..world.with(key).unwrap()
    };
    let register = |cluster: &str, arn: Option<String>| {
        json!({"cluster": cluster, "containerInstanceArn": arn, "totalResources": [], "attributes": [
            {"name": "longshore.fargate", "value": "true"}, {"name": "longshore.eni", "value": "true"}]})
    };
    let refused = world
        .test
        .ecs(&caller(&joined.key), "RegisterContainerInstance", register("other", None))
        .await;
    assert_eq!(refused.unwrap_err().code, "AccessDeniedException");
    let made = world
        .test
        .ecs(&caller(&joined.key), "RegisterContainerInstance", register("web", None))
        .await
        .unwrap();
    let arn = made["containerInstance"]["containerInstanceArn"].as_str().unwrap().to_owned();
    assert_eq!(made["containerInstance"]["ec2InstanceId"], joined.instance.unwrap());
    let view = world.test.region.control.view();
    let row = view.instances.iter().next().unwrap();
    assert!(row.is_external);
    assert!(!row.has("longshore.fargate") && !row.has("longshore.eni"));
    let refused = world
        .test
        .ecs(&caller(&second.key), "RegisterContainerInstance", register("web", Some(arn)))
        .await;
    assert_eq!(refused.unwrap_err().code, "AccessDeniedException", "another host's instance");
}

#[tokio::test]
async fn whoever_may_not_join_by_an_activation_is_told_why() {
    let world = world().await;
    let activation = world.activation(1).await;
    let wrong = (activation.0.clone(), format!("{}x", activation.1));
    for unknown in
        [wrong, ("00000000-0000-0000-0000-000000000000".to_owned(), activation.1.clone())]
    {
        let why = world.enter(&unknown, "1").await.unwrap_err();
        assert!(why.starts_with("The activation isn't valid"), "{why}");
    }
    // The answer was lost: asked again it is the same instance, with another key.
    let lost = world.enter(&activation, "1").await.unwrap();
    let joined = world.enter(&activation, "1").await.unwrap();
    assert_eq!(joined.instance, lost.instance);
    assert!(world.with(&lost.key).is_none(), "the key that nobody heard of is over");
    assert_eq!(world.described().await["RegistrationsCount"], 1);
    let why = world.enter(&activation, "2").await.unwrap_err();
    assert!(why.starts_with("The activation has registered as many"), "{why}");
    let caller = Caller { account: ACCOUNT.parse().unwrap(), ..world.with(&joined.key).unwrap() };
    world.call(&caller, "CheckIn", json!({})).await.unwrap();
    let why = world.enter(&activation, "1").await.unwrap_err();
    assert!(why.starts_with("This host has joined by this activation already"), "{why}");
    let late = world.activation(1).await;
    world.env().advance_ms(DAY_MS);
    let why = world.enter(&late, "3").await.unwrap_err();
    assert!(why.starts_with("The activation has expired"), "{why}");
    let gone = world.activation(1).await;
    world.ssm("DeleteActivation", json!({"ActivationId": gone.0})).await.unwrap();
    let why = world.enter(&gone, "3").await.unwrap_err();
    assert!(why.starts_with("The activation isn't valid"), "{why}");
    assert_eq!(world.instances().await.len(), 1, "who came by it stays");
}

#[tokio::test]
async fn an_instance_ends_with_its_registration_and_with_its_role() {
    let world = world().await;
    let activation = world.activation(2).await;
    let one = world.enter(&activation, "1").await.unwrap();
    let two = world.enter(&activation, "2").await.unwrap();
    let id = json!({"InstanceId": one.instance.unwrap()});
    let other = world.test.root();
    let others = world.test.ask("ssm", &other, "DeregisterManagedInstance", id.clone());
    assert_eq!(others.await.unwrap_err().code, "InvalidInstanceId");
    world.ssm("DeregisterManagedInstance", id).await.unwrap();
    assert!(world.with(&one.key).is_none());
    assert_eq!(world.instances().await.len(), 1);
    let caller = Caller { account: ACCOUNT.parse().unwrap(), ..world.with(&two.key).unwrap() };
    world.put_role(&TRUST.replace("ssm.", "ec2.")).await;
    for operation in ["CheckIn", "RenewKey"] {
        let refused = world.call(&caller, operation, json!({})).await.unwrap_err();
        assert_eq!(refused.code, "AccessDeniedException", "{operation}");
    }
    let refused = world.ssm("CreateActivation", json!({"IamRole": "anywhere"})).await.unwrap_err();
    assert!(refused.message.starts_with("Nonexistent role or missing ssm"), "{}", refused.message);
    let why = world.enter(&activation, "1").await.unwrap_err();
    assert!(why.starts_with("The activation has registered as many"), "{why}");
    let account = ACCOUNT.parse().unwrap();
    let deleted = world.test.region.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.delete(Key::IamRole(account, NameKey::of("anywhere")));
        Ok((batch, ()))
    });
    deleted.await.unwrap();
    assert!(world.with(&two.key).is_none(), "nobody has the permissions of a role that is gone");
}

#[tokio::test]
async fn a_managed_instance_reports_of_no_task_that_is_not_its_own() {
    let world = world().await;
    let activation = world.activation(1).await;
    let joined = world.enter(&activation, "1").await.unwrap();
    // Of its account, and on no instance of that: a Fargate task, or one that waits.
    let mut task = rows::task(1);
    task.instance = None;
    task.scope.account = ACCOUNT.parse().unwrap();
    let arn = task.arn().to_string();
    let put = world.test.region.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.put(task.clone());
        Ok((batch, ()))
    });
    put.await.unwrap();
    let caller = Caller {
        account: ACCOUNT.parse().unwrap(),
        now: world.env().now(),
        ..world.with(&joined.key).unwrap()
    };
    let stopped = json!({"cluster": "demo", "task": arn, "status": "STOPPED"});
    let refused = world.test.ecs(&caller, "SubmitTaskStateChange", stopped).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
    assert!(refused.message.contains("does not belong"), "{}", refused.message);
}

#[tokio::test]
async fn an_account_has_so_many_managed_instances_and_no_more() {
    let world = world().await;
    let activation = world.activation(3).await;
    let first = world.enter(&activation, "1").await.unwrap();
    let control = &world.test.region.control;
    let view = control.view();
    let row = view.nodes.get(Config::root_account(), &first.node.as_str().into()).unwrap();
    let managed = row.managed.as_ref().unwrap();
    let others: Vec<Node> = (1..1_000)
        .map(|number| Node {
            id: format!("{number:012}").as_str().into(),
            managed: Some(Managed {
                id: format!("mi-{number:017}").as_str().into(),
                ..managed.clone()
            }),
            ..Node::clone(row)
        })
        .collect();
    for some in others.chunks(100) {
        let put = control.decide(|view, _| {
            let mut batch = Batch::on(view);
            for node in some {
                batch.put(node.clone());
            }
            Ok((batch, ()))
        });
        put.await.unwrap();
    }
    let why = world.enter(&activation, "2").await.unwrap_err();
    assert!(why.starts_with("The account has as many managed instances"), "{why}");
    world.enter(&activation, "1").await.expect("its answer was lost, and it is one of them");
    let id = json!({"InstanceId": "mi-00000000000000001"});
    world.ssm("DeregisterManagedInstance", id).await.unwrap();
    world.enter(&activation, "2").await.unwrap();
}

#[tokio::test]
async fn what_is_asked_for_by_filters_that_there_are_not_is_refused() {
    let world = world().await;
    world.activation(1).await;
    let none = json!({"Filters": [{"FilterValues": ["edge"]}]});
    assert_eq!(world.ssm("DescribeActivations", none).await.unwrap_err().code, "InvalidFilter");
    let one = json!({"Filters": [{"FilterKey": "DefaultInstanceName", "FilterValues": ["edge"]}]});
    let found = world.ssm("DescribeActivations", one).await.unwrap();
    assert_eq!(found["ActivationList"].as_array().unwrap().len(), 1);
    let both = json!({"InstanceInformationFilterList": [{"key": "InstanceIds", "valueSet": ["mi-1"]}],
                      "Filters": [{"Key": "InstanceIds", "Values": ["mi-1"]}]});
    let refused = world.ssm("DescribeInstanceInformation", both).await.unwrap_err();
    assert!(refused.message.contains("can't be given at once"), "{}", refused.message);
}
