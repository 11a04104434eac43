//! Who is let write by a resource policy, and what is refused of one.

use ::logs::{GroupClass, GroupSettings, Logs};
use control::testing::TestControl;
use control::testing::people::user;

use super::*;

const SOURCE: &str = "arn:aws:route53:::hostedzone/Z1";
const SERVICE: &str = "route53.amazonaws.com";

struct World {
    world: TestControl,
    logs: CloudWatchLogs,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let (world, dir) = (TestControl::new(), tempfile::tempdir().unwrap());
        let store = Logs::open(dir.path(), Arc::clone(&world.env) as _).unwrap();
        let logs = CloudWatchLogs::new(Arc::clone(&world.control), Arc::new(store));
        for name in ["/dns/a", "/dns/b"] {
            let settings = GroupSettings {
                tags: [("team".to_owned(), "net".to_owned())].into(),
                ..GroupSettings::default()
            };
            let made = logs.logs.create_group(
                world.root().account,
                name.parse().unwrap(),
                GroupClass::Standard,
                settings,
            );
            made.await.unwrap();
        }
        Self { world, logs, _dir: dir }
    }

    async fn put(
        &self,
        name: Option<&str>,
        group: Option<&str>,
        revision: Option<&str>,
        statement: &str,
    ) -> Result<api::PutResourcePolicyResponse, ApiError> {
        let input = api::PutResourcePolicyRequest {
            policy_name: name.map(str::to_owned),
            policy_document: Some(document(statement)),
            resource_arn: group.map(arn),
            expected_revision_id: revision.map(str::to_owned),
        };
        put_resource_policy(&self.logs, &self.world.root(), input).await
    }

    fn described(
        &self,
        input: &api::DescribeResourcePoliciesRequest,
    ) -> Result<api::DescribeResourcePoliciesResponse, ApiError> {
        describe_resource_policies(&self.logs, &self.world.root(), input)
    }

    fn lets(&self, action: &'static str, service: &str, group: &str, source: &str) -> bool {
        let account = self.world.root().account;
        let group = group.parse().unwrap();
        let source = (source, account);
        self.logs
            .lets_write(action, &Writing { service, source, account, group: &group, stream: "s" })
    }

    fn lets_put(&self, group: &str) -> bool {
        self.lets("logs:PutLogEvents", SERVICE, group, SOURCE)
    }
}

fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

fn arn(group: &str) -> String {
    format!("arn:aws:logs:us-east-1:000000000000:log-group:{group}")
}

fn statement(effect: &str, service: &str, resource: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{{"Service":"{service}"}},"Action":["logs:PutLogEvents","logs:CreateLogStream"],
            "Resource":"{resource}"{condition}}}"#
    )
}

fn allow() -> String {
    statement("Allow", SERVICE, &format!("{}:*", arn("/dns/*")), "")
}

#[tokio::test]
async fn a_service_writes_where_a_policy_of_the_account_or_of_the_group_lets_it() {
    let world = World::new().await;
    assert!(!world.lets_put("/dns/a"), "nothing says so");
    world.put(Some("dns"), None, None, &allow()).await.unwrap();
    assert!(world.lets_put("/dns/a") && world.lets_put("/dns/b"));
    assert!(!world.lets("logs:PutLogEvents", "es.amazonaws.com", "/dns/a", SOURCE));
    assert!(!world.lets("logs:DeleteLogStream", SERVICE, "/dns/a", SOURCE), "another action");
    assert!(!world.lets_put("/dns/none"), "there is no such group");

    // A Deny of the group's own policy goes before what the account's says.
    let deny = statement("Deny", SERVICE, "*", "");
    world.put(None, Some("/dns/a"), None, &deny).await.unwrap();
    assert!(!world.lets_put("/dns/a") && world.lets_put("/dns/b"));

    let input = api::DeleteResourcePolicyRequest {
        policy_name: Some("dns".to_owned()),
        ..Default::default()
    };
    delete_resource_policy(&world.logs, &world.world.root(), input.clone()).await.unwrap();
    assert!(!world.lets_put("/dns/b"));
    let again = delete_resource_policy(&world.logs, &world.world.root(), input).await.unwrap_err();
    assert_eq!(again.code, "ResourceNotFoundException");

    world.put(None, Some("/dns/b"), None, &allow()).await.unwrap();
    assert!(world.lets_put("/dns/b") && !world.lets_put("/dns/a"));
}

#[tokio::test]
async fn a_service_that_works_for_somebody_else_is_no_deputy_of_his() {
    let world = World::new().await;
    let whose = r#","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:route53:::hostedzone/Z1"},
        "StringEquals":{"aws:SourceAccount":"000000000000","aws:ResourceTag/team":"net"}}"#;
    let only = statement("Allow", SERVICE, "*", whose);
    world.put(Some("dns"), None, None, &only).await.unwrap();
    assert!(world.lets_put("/dns/a"));
    let other = "arn:aws:route53:::hostedzone/Z2";
    assert!(!world.lets("logs:PutLogEvents", SERVICE, "/dns/a", other));
    let group = "/dns/a".parse().unwrap();
    let writing = Writing {
        service: SERVICE,
        source: (SOURCE, "111122223333".parse().unwrap()),
        account: world.world.root().account,
        group: &group,
        stream: "s",
    };
    assert!(!world.logs.lets_write("logs:PutLogEvents", &writing), "another account's");
}

#[tokio::test]
async fn what_a_policy_says_of_users_and_roles_is_not_asked_of_them() {
    let world = World::new().await;
    let by = |action: &str| {
        document(&format!(r#"{{"Effect":"Allow","Action":"{action}","Resource":"*"}}"#))
    };
    let ann = user(&world.world, "000000000000", "ann", &by("logs:*")).await;
    let bob = user(&world.world, "000000000000", "bob", &by("ecs:*")).await;
    let everybody = r#"{"Effect":"Deny","Principal":"*","Action":"logs:*","Resource":"*"}"#;
    world.put(Some("no"), None, None, everybody).await.unwrap();
    let on = crate::permissions::On::Group(None);
    assert!(world.logs.check(&ann, "logs:DescribeLogGroups", on).is_ok());
    let open = everybody.replace("Deny", "Allow");
    world.put(Some("no"), None, None, &open).await.unwrap();
    let refused = world.logs.check(&bob, "logs:DescribeLogGroups", on).unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
}

#[tokio::test]
async fn an_account_has_ten_policies_and_each_group_one_that_is_changed_by_its_revision() {
    let world = World::new().await;
    for n in 0..10 {
        world.put(Some(&format!("p{n}")), None, None, &allow()).await.unwrap();
    }
    let refused = world.put(Some("p10"), None, None, &allow()).await.unwrap_err();
    assert_eq!(
        (&*refused.code, &*refused.message),
        ("LimitExceededException", "Resource limit exceeded.")
    );
    world.put(Some("p9"), None, None, &allow()).await.unwrap();

    let first = world.put(Some("own"), Some("/dns/a"), None, &allow()).await.unwrap();
    let revision = first.revision_id.unwrap();
    let missing = world.put(None, Some("/dns/a"), None, &allow()).await.unwrap_err();
    assert_eq!(missing.code, "InvalidParameterException");
    let stale = world.put(None, Some("/dns/a"), Some("0"), &allow()).await.unwrap_err();
    assert_eq!(stale.code, "OperationAbortedException");
    let next = world.put(None, Some("/dns/a"), Some(&revision), &allow()).await.unwrap();
    assert_ne!(next.revision_id, Some(revision.clone()));
    for (revision, code) in [
        (None, "InvalidParameterException"),
        (Some(revision), "OperationAbortedException"),
        (next.revision_id, ""),
        (Some("0".to_owned()), "ResourceNotFoundException"),
    ] {
        let input = api::DeleteResourcePolicyRequest {
            resource_arn: Some(arn("/dns/a")),
            expected_revision_id: revision,
            ..Default::default()
        };
        let deleted = delete_resource_policy(&world.logs, &world.world.root(), input).await;
        assert_eq!(deleted.err().map_or("".into(), |error| error.code), code);
    }
}

#[tokio::test]
async fn policies_are_described_by_scope_and_in_pages() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.put(Some(name), None, None, &allow()).await.unwrap();
    }
    world.put(None, Some("/dns/b"), None, &allow()).await.unwrap();
    let names = |answer: &api::DescribeResourcePoliciesResponse| -> Vec<Option<String>> {
        answer.resource_policies.iter().flatten().map(|it| it.policy_name.clone()).collect()
    };
    let mut asked = api::DescribeResourcePoliciesRequest { limit: Some(2), ..Default::default() };
    let first = world.described(&asked).unwrap();
    assert_eq!(names(&first), [Some("a".to_owned()), Some("b".to_owned())]);
    asked.next_token = first.next_token;
    let second = world.described(&asked).unwrap();
    assert_eq!((names(&second), second.next_token), (vec![Some("c".to_owned())], None));

    let of_groups = api::DescribeResourcePoliciesRequest {
        policy_scope: Some(api::PolicyScope::Resource),
        ..Default::default()
    };
    let shown = world.described(&of_groups).unwrap().resource_policies.unwrap();
    let [shown] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(shown.resource_arn, Some(arn("/dns/b")));
    assert_eq!(shown.policy_document, Some(document(&allow())));
    assert!(shown.revision_id.is_some());
    let of_one = |group: &str, scope| {
        let input = api::DescribeResourcePoliciesRequest {
            resource_arn: Some(arn(group)),
            policy_scope: scope,
            ..Default::default()
        };
        world.described(&input)
    };
    assert_eq!(of_one("/dns/b", None).unwrap().resource_policies.unwrap().len(), 1);
    assert_eq!(of_one("/dns/a", None).unwrap().resource_policies.unwrap().len(), 0);
    assert_eq!(of_one("/dns/c", None).unwrap_err().code, "ResourceNotFoundException");
    let both = of_one("/dns/a", Some(api::PolicyScope::Account)).unwrap_err();
    assert_eq!(both.code, "InvalidParameterException");
}

#[tokio::test]
async fn a_groups_policy_goes_with_the_group() {
    let world = World::new().await;
    world.put(None, Some("/dns/a"), None, &allow()).await.unwrap();
    let (account, name) = (world.world.root().account, "/dns/a".parse::<GroupName>().unwrap());
    world.logs.logs.delete_group(account, name.clone()).await.unwrap();
    let settings = GroupSettings::default();
    world.logs.logs.create_group(account, name, GroupClass::Standard, settings).await.unwrap();
    assert!(!world.lets_put("/dns/a"));
}

#[tokio::test]
async fn what_is_no_policy_is_refused_with_the_reason() {
    let world = World::new().await;
    for (name, group, revision, statement, word) in [
        (None, None, None, allow(), "policyName"),
        (Some("x"), None, Some("1"), allow(), "expectedRevisionId"),
        (Some("x"), None, None, "7".to_owned(), "not valid"),
        (Some("x"), None, None, allow().replace("Principal", "Nobody"), "not valid"),
    ] {
        let refused = world.put(name, group, revision, &statement).await.unwrap_err();
        assert_eq!(refused.code, "InvalidParameterException", "{statement}");
        assert!(refused.message.contains(word), "{}", refused.message);
    }
}
