use std::collections::BTreeSet;

use model::{
    Grants, IamAccount, IamGroup, IamPolicy, IamRole, IamUser, NameKey, PasswordPolicy, PolicyText,
    PolicyVersion, Row, TrustText,
};
use policy::PolicyKind;

use super::*;
use crate::testing::TestControl;

const TASK: &str = "arn:aws:ecs:us-east-1:000000000000:task/a/b";

#[tokio::test]
async fn who_may_not_is_told_the_action_and_nothing_is_decided() {
    let world = TestControl::new();
    let caller = Caller { principal: Principal::Node { instance: None }, ..world.root() };
    let permission = Permission::to("ecs:StopTask").on(TASK);
    let refused = world.control.read(&caller, &permission).unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
    assert!(refused.message.contains("perform: ecs:StopTask "), "{}", refused.message);
    let mut decided = 0;
    let changed = world.control.change(&caller, &permission, |view, _| {
        decided += 1;
        Ok((Batch::on(view), ()))
    });
    assert_eq!(changed.await.unwrap_err().code, "AccessDeniedException");
    assert_eq!(decided, 0);
    assert!(world.control.read(&world.root(), &permission).is_ok());
}

#[test]
fn an_agent_reports_of_every_accounts_tasks_and_may_not_run_any() {
    let world = TestControl::new();
    let agent = Caller { principal: Principal::Node { instance: None }, ..world.root() };
    let may = |action| {
        let on = "arn:aws:ecs:us-east-1:111122223333:cluster/theirs";
        world.control.read(&agent, &Permission::to(action).on(on)).map(drop)
    };
    for action in ["ecs:SubmitTaskStateChange", "ecs:Poll", "ecr:GetAuthorizationToken"] {
        assert!(may(action).is_ok(), "{action}");
    }
    for action in ["ecs:RunTask", "ecs:StopTask", "iam:ListRoles", "ecr:PutImage"] {
        let refused = may(action).unwrap_err();
        assert_eq!(refused.code, "AccessDeniedException");
        let why = format!("because no identity-based policy allows the {action} action");
        assert!(refused.message.ends_with(&why), "{}", refused.message);
    }
}

fn inline(text: &str) -> Grants {
    let text = PolicyText::new(Policy::parse(text, PolicyKind::Identity).unwrap());
    Grants { inline: BTreeMap::from([("own".to_owned(), text)]), ..Grants::default() }
}

fn user(grants: Grants) -> IamUser {
    IamUser {
        account: crate::Config::root_account(),
        name: "ann".into(),
        path: "/team/".into(),
        unique_id: "AIDAJQABLZS4A3QDU576Q".into(),
        created_at: Timestamp(0),
        tags: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
        boundary: None,
        grants,
        groups: BTreeSet::new(),
        devices: BTreeSet::new(),
        login: None,
    }
}

async fn put(world: &TestControl, rows: Vec<Row>) {
    let decided = world.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.writes.clone_from(&rows);
        Ok((batch, ()))
    });
    decided.await.unwrap();
}

fn ann(world: &TestControl) -> Caller {
    let principal = Principal::User {
        name: "ann".into(),
        path: "/team/".into(),
        id: "AIDAJQABLZS4A3QDU576Q".into(),
    };
    Caller { principal, ..world.root() }
}

fn refusal(world: &TestControl, permission: &Permission) -> String {
    let refused = world.control.read(&ann(world), permission).unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
    refused.message
}

#[tokio::test]
async fn a_user_may_what_its_policies_and_its_groups_allow() {
    let world = TestControl::new();
    let own = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ecs:StopTask","Resource":"arn:aws:ecs:*:*:task/a/*"},
        {"Sid":"NotB","Effect":"Deny","Action":"ecs:*","Resource":"arn:aws:ecs:*:*:task/b/*"}]}"#;
    let read = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly";
    let row = IamUser { groups: BTreeSet::from([NameKey::of("Readers")]), ..user(inline(own)) };
    let group = IamGroup {
        account: row.account,
        name: "Readers".into(),
        path: "/".into(),
        unique_id: "AGPA1".into(),
        created_at: Timestamp(0),
        grants: Grants { attached: vec![read.into()], ..Grants::default() },
    };
    put(&world, vec![row.into(), group.into()]).await;
    let stop = Permission::to("ecs:StopTask");
    assert!(world.control.read(&ann(&world), &stop.clone().on(TASK)).is_ok());
    let images = Permission::to("ecr:DescribeImages")
        .on("arn:aws:ecr:us-east-1:000000000000:repository/web");
    assert!(world.control.read(&ann(&world), &images).is_ok());
    let other = stop.clone().on("arn:aws:ecs:us-east-1:000000000000:task/c/d");
    assert_eq!(
        refusal(&world, &other),
        "User: arn:aws:iam::000000000000:user/team/ann is not authorized to perform: ecs:StopTask on \
         resource: arn:aws:ecs:us-east-1:000000000000:task/c/d because no identity-based policy allows the \
         ecs:StopTask action"
    );
    let denied = stop.on(TASK).on("arn:aws:ecs:us-east-1:000000000000:task/b/d");
    let message = refusal(&world, &denied);
    assert!(
        message.ends_with("task/b/d with an explicit deny in an identity-based policy"),
        "{message}"
    );
    let error = world.control.read(&ann(&world), &denied).unwrap_err();
    let denial = error.denial.unwrap();
    assert_eq!(
        denial.decided_by,
        "statement 2 (NotB) of own of arn:aws:iam::000000000000:user/team/ann"
    );
    let open = |account| world.control.access.open_denial(account, &denial.encoded);
    assert_eq!(open("111122223333".parse().unwrap()), None, "another account's");
    let opened = open(ann(&world).account).unwrap();
    assert!(opened.contains("\"explicitDeny\":true"), "{opened}");
}

#[tokio::test]
async fn roles_must_be_allowed_to_be_passed_and_tags_to_be_given() {
    let world = TestControl::new();
    let own = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ecs:RunTask","Resource":"*"},
        {"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::000000000000:role/web",
         "Condition":{"StringEquals":{"iam:PassedToService":"ecs-tasks.amazonaws.com"}}},
        {"Effect":"Allow","Action":"ecs:TagResource","Resource":"*","Condition":{
         "StringEquals":{"ecs:CreateAction":"RunTask","aws:RequestTag/team":"${aws:PrincipalTag/team}"},
         "ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}}]}"#;
    put(&world, vec![user(inline(own)).into()]).await;
    let run =
        Permission::to("ecs:RunTask").on("arn:aws:ecs:us-east-1:000000000000:task-definition/a:1");
    let (web, admin) =
        ("arn:aws:iam::000000000000:role/web", "arn:aws:iam::000000000000:role/admin");
    let pass = |role| run.clone().passing([role], "ecs-tasks.amazonaws.com");
    assert!(world.control.read(&ann(&world), &pass(web)).is_ok());
    let message = refusal(&world, &pass(admin));
    assert!(message.contains(
        "perform: iam:PassRole on resource: arn:aws:iam::000000000000:role/admin because"
    ));
    let tag = |key: &str, value: &str| {
        let tags = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let tag =
            Permission::to("ecs:TagResource").on("arn:aws:ecs:us-east-1:000000000000:task/a/*");
        run.clone().and(tag.with("ecs:CreateAction", "RunTask").tagging(&tags))
    };
    assert!(world.control.read(&ann(&world), &tag("team", "blue")).is_ok());
    assert!(refusal(&world, &tag("team", "red")).contains("perform: ecs:TagResource "));
    assert!(refusal(&world, &tag("other", "blue")).contains("perform: ecs:TagResource "));
}

#[tokio::test]
async fn a_boundary_limits_and_so_does_the_tag_of_a_resource() {
    let world = TestControl::new();
    let all = "arn:aws:iam::aws:policy/AdministratorAccess";
    let grants = Grants { attached: vec![all.into()], ..Grants::default() };
    let boundary = Some("arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly".into());
    put(&world, vec![IamUser { boundary, ..user(grants) }.into()]).await;
    let message = refusal(&world, &Permission::to("ecs:ListClusters").on("*"));
    assert!(
        message.ends_with("because no permissions boundary allows the ecs:ListClusters action")
    );

    let own = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:*","Resource":"*",
        "Condition":{"StringEquals":{"aws:ResourceTag/team":"blue"}}}}"#;
    put(&world, vec![user(inline(own)).into()]).await;
    let get = |name: &str| {
        Permission::to("iam:GetUser").on(format!("arn:aws:iam::000000000000:user/{name}"))
    };
    assert!(world.control.read(&ann(&world), &get("team/ann")).is_ok());
    refusal(&world, &get("bob"));
    // What is another account's is no more allowed by the own policies alone.
    let other = Permission::to("iam:GetUser").on("arn:aws:iam::111122223333:user/ann");
    assert!(refusal(&world, &other).contains("because no resource-based policy allows"));
}

fn endpoint(policy: Option<&str>) -> model::network::VpcEndpoint {
    use model::network::{EndpointKind, EndpointPolicy, InterfaceEndpoint, VpcEndpoint};
    let read = |text| Policy::parse(text, PolicyKind::Resource).unwrap();
    VpcEndpoint {
        account: crate::Config::root_account(),
        id: "vpce-00000001".parse().unwrap(),
        vpc: "vpc-00000001".parse().unwrap(),
        service: "ecs".to_owned(),
        kind: EndpointKind::Interface(InterfaceEndpoint {
            zones: vec![],
            groups: vec![],
            has_private_names: true,
        }),
        policy: policy.map(|text| EndpointPolicy::new(read(text))),
        created_at: Timestamp(0),
    }
}

#[tokio::test]
async fn what_comes_by_an_endpoint_is_under_its_policy_too_whoever_asks() {
    let world = TestControl::new();
    let by = aws_wire::ByEndpoint {
        endpoint: "vpce-00000001".parse().unwrap(),
        vpc: "vpc-00000001".parse().unwrap(),
    };
    let mut root = world.root();
    root.origin.endpoint = Some(Arc::new(by));
    root.origin.address = Some([10, 0, 0, 9].into());
    let stop = Permission::to("ecs:StopTask").on(TASK);
    let why = |caller: &Caller| {
        let refused = world.control.read(caller, &stop).map(drop);
        refused.map_err(|error| error.message).err().unwrap_or_default()
    };
    assert!(why(&root).ends_with("the VPC endpoint is not there any more"), "{}", why(&root));
    put(&world, vec![endpoint(None).into()]).await;
    assert_eq!(why(&root), "");
    let other =
        r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"ecs:List*","Resource":"*"}}"#;
    put(&world, vec![endpoint(Some(other)).into()]).await;
    assert!(
        why(&root).ends_with("because no VPC endpoint policy allows the ecs:StopTask action"),
        "{}",
        why(&root)
    );
    let denies = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"},
        {"Effect":"Deny","Principal":"*","Action":"ecs:StopTask","Resource":"*",
         "Condition":{"StringEquals":{"aws:SourceVpc":"vpc-00000001"}}}]}"#;
    put(&world, vec![endpoint(Some(denies)).into()]).await;
    assert!(
        why(&root).ends_with("with an explicit deny in a VPC endpoint policy"),
        "{}",
        why(&root)
    );
    assert!(world.control.read(&world.root(), &stop).is_ok(), "it did not come that way");

    // A user's own policies count as well, and may ask by what it came.
    let all = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}"#;
    let own = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecs:StopTask","Resource":"*",
        "Condition":{"StringEquals":{"aws:SourceVpce":"vpce-00000001"}}}]}"#;
    put(&world, vec![endpoint(Some(all)).into(), user(inline(own)).into()]).await;
    let origin = root.origin.clone();
    assert_eq!(why(&Caller { origin, ..ann(&world) }), "");
    assert!(why(&ann(&world)).contains("no identity-based policy"));
}

#[tokio::test]
async fn an_endpoints_policy_may_ask_whose_a_resource_is_and_by_what_it_is_tagged() {
    let world = TestControl::new();
    let by = aws_wire::ByEndpoint {
        endpoint: "vpce-00000001".parse().unwrap(),
        vpc: "vpc-00000001".parse().unwrap(),
    };
    let mut root = world.root();
    root.origin.endpoint = Some(Arc::new(by));
    let policy = r#"{"Statement":[
        {"Effect":"Allow","Principal":"*","Action":"*","Resource":"*",
         "Condition":{"StringEquals":{"aws:ResourceAccount":"000000000000"}}},
        {"Effect":"Deny","Principal":"*","Action":"iam:*","Resource":"*",
         "Condition":{"StringEquals":{"aws:ResourceTag/team":"blue"}}}]}"#;
    let rows: Vec<Row> = vec![endpoint(Some(policy)).into(), user(Grants::default()).into()];
    put(&world, rows).await;
    let may =
        |action, on: &str| world.control.read(&root, &Permission::to(action).on(on)).map(drop);
    may("ecs:StopTask", TASK).unwrap();
    let others = "arn:aws:ecs:us-east-1:111122223333:task/a/b";
    let refused = may("ecs:StopTask", others).unwrap_err();
    assert!(refused.message.contains("no VPC endpoint policy allows"), "{}", refused.message);
    may("iam:GetUser", "arn:aws:iam::000000000000:user/bob").unwrap();
    let refused = may("iam:GetUser", "arn:aws:iam::000000000000:user/team/ann").unwrap_err();
    assert!(refused.message.ends_with("deny in a VPC endpoint policy"), "{}", refused.message);
    // So what it asks for is spelled out for that policy.
    assert!(is_root(&world.root()) && !is_root(&root));
}

/// Standings are kept, and each row that they are made from is written in turn.
#[tokio::test]
async fn what_is_written_of_a_principal_is_in_force_with_its_next_request() {
    let world = TestControl::new();
    let stop = Permission::to("ecs:StopTask").on(TASK);
    let may = || world.control.read(&ann(&world), &stop).is_ok();
    let text = |effect: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"*","Resource":"*"}}]}}"#
        )
    };
    let (allow, deny) = (text("Allow"), text("Deny"));
    let policy = |name: &str, text: &str| {
        let document = PolicyText::new(Policy::parse(text, PolicyKind::Identity).unwrap());
        let version = PolicyVersion { document, created_at: Timestamp(0) };
        Row::from(IamPolicy {
            account: crate::Config::root_account(),
            name: name.into(),
            path: "/".into(),
            unique_id: "ANPA1".into(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            description: None,
            tags: BTreeMap::new(),
            default_version: 1,
            next_version: 2,
            versions: BTreeMap::from([(1, version)]),
        })
    };
    let group = |text: &str| {
        Row::from(IamGroup {
            account: crate::Config::root_account(),
            name: "Readers".into(),
            path: "/".into(),
            unique_id: "AGPA1".into(),
            created_at: Timestamp(0),
            grants: inline(text),
        })
    };
    let arn = |name: &str| format!("arn:aws:iam::000000000000:policy/{name}").as_str().into();
    let grants = Grants { attached: vec![arn("own")], ..inline(&allow) };
    let row = IamUser {
        groups: BTreeSet::from([NameKey::of("Readers")]),
        boundary: Some(arn("most")),
        ..user(grants)
    };
    let rows = [policy("own", &allow), policy("most", &allow), group(&allow), row.clone().into()];
    put(&world, rows.to_vec()).await;
    assert!(may() && may());
    for denying in [policy("own", &deny), policy("most", &deny), group(&deny)] {
        put(&world, vec![denying]).await;
        assert!(!may() && !may());
        put(&world, rows.to_vec()).await;
        assert!(may());
    }
    put(&world, vec![IamUser { grants: inline(&deny), ..row }.into()]).await;
    assert!(!may());
    // One that is not of the view that is asked about is no other's: what an older view says still holds there.
    let before = world.control.view();
    put(&world, rows.to_vec()).await;
    assert!(world.control.authorize(&before, &ann(&world), &stop).is_err() && may());
    assert!(world.control.authorize(&before, &ann(&world), &stop).is_err() && may());
}

#[tokio::test]
async fn what_a_permission_needs_besides_is_asked_for_however_they_are_put_together() {
    let world = TestControl::new();
    let own = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":["ecs:StopTask","ecs:TagResource"],"Resource":"*"}]}"#;
    put(&world, vec![user(inline(own)).into()]).await;
    let (stop, tag) = (Permission::to("ecs:StopTask"), Permission::to("ecs:TagResource"));
    let run = Permission::to("ecs:RunTask");
    assert!(world.control.read(&ann(&world), &stop.clone().and(tag.clone())).is_ok());
    for both in [stop.clone().and(tag.clone()).and(run.clone()), stop.and(tag.and(run))] {
        let message = refusal(&world, &both);
        assert!(message.contains("perform: ecs:RunTask "), "{message}");
    }
}

#[tokio::test]
async fn a_role_that_is_made_again_under_its_name_has_nothing_of_the_one_before() {
    let world = TestControl::new();
    let stop = Permission::to("ecs:StopTask").on(TASK);
    let role = |id: &str, effect: &str| {
        let trust = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}"#;
        let own = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"*","Resource":"*"}}]}}"#
        );
        Row::from(IamRole {
            account: crate::Config::root_account(),
            name: "deploy".into(),
            path: "/".into(),
            unique_id: id.into(),
            created_at: Timestamp(0),
            description: None,
            max_session_s: 3_600,
            trust: TrustText::new(trust, BTreeMap::new()),
            tags: BTreeMap::new(),
            boundary: None,
            grants: inline(&own),
            service: None,
        })
    };
    let may = |id: &str| {
        let name = "deploy".into();
        let principal = Principal::Role { name, id: id.into(), session: "ci".into() };
        world.control.read(&Caller { principal, ..world.root() }, &stop).is_ok()
    };
    put(&world, vec![role("AROA1", "Allow")]).await;
    assert!(may("AROA1") && may("AROA1"));
    put(&world, vec![role("AROA1", "Deny")]).await;
    assert!(!may("AROA1") && !may("AROA1"));
    put(&world, vec![role("AROA1", "Allow")]).await;
    assert!(may("AROA1"));
    put(&world, vec![role("AROA2", "Deny")]).await;
    assert!(!may("AROA2") && !may("AROA1"));
    put(&world, vec![role("AROA3", "Allow")]).await;
    assert!(may("AROA3") && !may("AROA2") && !may("AROA1"));
}

#[tokio::test]
async fn what_an_account_lets_its_users_do_is_in_force_with_their_next_request() {
    let world = TestControl::new();
    let change = Permission::to("iam:ChangePassword").on(user(Grants::default()).arn());
    let account = |users_may_change| {
        Row::from(IamAccount {
            account: crate::Config::root_account(),
            created_at: Timestamp(0),
            alias: None,
            password_policy: Some(PasswordPolicy {
                length_min: 8,
                needs_symbols: false,
                needs_numbers: false,
                needs_uppercase: false,
                needs_lowercase: false,
                users_may_change,
                age_days_max: None,
                reuse_prevention: None,
                hard_expiry: None,
            }),
        })
    };
    put(&world, vec![user(Grants::default()).into()]).await;
    for may in [false, true, false] {
        put(&world, vec![account(may)]).await;
        assert_eq!(world.control.read(&ann(&world), &change).is_ok(), may);
        assert_eq!(world.control.read(&ann(&world), &change).is_ok(), may);
    }
}

#[tokio::test]
async fn of_many_resources_each_is_asked_about_by_its_own_tags_and_account() {
    let world = TestControl::new();
    let own = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"iam:GetUser","Resource":"*"},
        {"Sid":"Blue","Effect":"Deny","Action":"iam:*","Resource":"*",
         "Condition":{"StringEquals":{"iam:resourcetag/TEAM":"blue"}}}]}"#;
    let bob = IamUser { name: "bob".into(), unique_id: "AIDA2".into(), ..user(Grants::default()) };
    let cid = IamUser { name: "cid".into(), unique_id: "AIDA3".into(), ..bob.clone() };
    let cid = IamUser { tags: BTreeMap::from([("Team".to_owned(), "red".to_owned())]), ..cid };
    put(&world, vec![user(inline(own)).into(), bob.into(), cid.into()]).await;
    let named = |name: &str| format!("arn:aws:iam::000000000000:user/team/{name}");
    let get = |names: &[&str]| {
        Permission::to("iam:GetUser").on_each(names.iter().map(|name| named(name)))
    };
    assert!(world.control.read(&ann(&world), &get(&["cid", "dan", "cid"])).is_ok());
    for names in [["cid", "bob"], ["bob", "cid"], ["bob", "bob"]] {
        let error = world.control.read(&ann(&world), &get(&names)).unwrap_err();
        assert!(error.message.contains(&named("bob")), "{}", error.message);
        let denial = error.denial.unwrap();
        assert!(denial.decided_by.starts_with("statement 2 (Blue) of own"), "{denial:?}");
        let opened = world.control.access.open_denial(ann(&world).account, &denial.encoded);
        let opened = opened.unwrap();
        // What no policy asks for is told too.
        for known in ["aws:ResourceTag/team", "aws:ResourceAccount", "aws:username", "aws:userid"] {
            assert!(opened.contains(&format!("\"{known}\"")), "{opened}");
        }
    }
    // What is another account's needs that one's word as well, whatever the resources before it need.
    let other = "arn:aws:iam::111122223333:user/team/cid";
    let error = world.control.read(&ann(&world), &get(&["cid"]).on(other)).unwrap_err();
    assert!(error.message.contains(other), "{}", error.message);
    assert!(world.control.read(&world.root(), &get(&["cid", "bob"])).is_ok());
    assert!(world.control.read(&world.root(), &get(&["cid", "bob"]).on(other)).is_err());
}

#[tokio::test]
async fn where_no_policy_cares_for_the_resource_all_but_those_of_other_accounts_are_alike() {
    let world = TestControl::new();
    let own = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ecs:StopTask","Resource":"*"},
        {"Effect":"Allow","Action":"ecs:StopTask","Resource":"arn:aws:ecs:*:*:task/z/*"}]}"#;
    put(&world, vec![user(inline(own)).into()]).await;
    let stop = Permission::to("ecs:StopTask");
    let task = |account: &str, name: &str| format!("arn:aws:ecs:us-east-1:{account}:task/a/{name}");
    let names = ["b", "c", "d"].map(|name| task("000000000000", name));
    assert!(world.control.read(&ann(&world), &stop.clone().on_each(names.clone())).is_ok());
    let other = task("111122223333", "c");
    let refused = refusal(&world, &stop.clone().on_each(names).on(other.clone()));
    assert!(refused.contains(&other), "{refused}");
    assert!(world.control.read(&ann(&world), &stop.on("*").on(TASK)).is_ok());
}
