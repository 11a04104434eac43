use std::sync::Arc;

use control::testing::TestControl;
use ec2_api as api;
use ec2_api::Ec2 as _;

use crate::{Ec2, prepare_network};

struct World {
    ec2: Ec2,
    core: TestControl,
}

impl World {
    async fn new() -> Self {
        let core = TestControl::new();
        let ec2 = Ec2::new(Arc::clone(&core.control));
        prepare_network(&ec2.control, &[]).await.unwrap();
        Self { ec2, core }
    }

    fn root(&self) -> aws_wire::Caller {
        self.core.root()
    }

    async fn create(&self, name: &str) -> Result<String, aws_wire::ApiError> {
        let request = api::CreateSecurityGroupRequest {
            group_name: Some(name.to_owned()),
            description: Some("a group".to_owned()),
            ..Default::default()
        };
        let made = self.ec2.create_security_group(&self.root(), request).await?;
        Ok(made.group_id.unwrap())
    }

    async fn admit(
        &self,
        group: &str,
        permissions: Vec<api::IpPermission>,
    ) -> Result<Vec<api::SecurityGroupRule>, aws_wire::ApiError> {
        let request = api::AuthorizeSecurityGroupIngressRequest {
            group_id: Some(group.to_owned()),
            ip_permissions: Some(permissions),
            ..Default::default()
        };
        let done = self.ec2.authorize_security_group_ingress(&self.root(), request).await?;
        Ok(done.security_group_rules.unwrap())
    }

    async fn describe(&self, group: &str) -> api::SecurityGroup {
        let request = api::DescribeSecurityGroupsRequest {
            group_ids: Some(vec![group.to_owned()]),
            ..Default::default()
        };
        let found = self.ec2.describe_security_groups(&self.root(), request).await.unwrap();
        found.security_groups.unwrap().remove(0)
    }

    async fn default_group(&self) -> String {
        let request = api::DescribeSecurityGroupsRequest {
            group_names: Some(vec!["default".to_owned()]),
            ..Default::default()
        };
        let found = self.ec2.describe_security_groups(&self.root(), request).await.unwrap();
        found.security_groups.unwrap().remove(0).group_id.unwrap()
    }

    async fn delete(&self, group: &str) -> Result<(), aws_wire::ApiError> {
        let request = api::DeleteSecurityGroupRequest {
            group_id: Some(group.to_owned()),
            ..Default::default()
        };
        self.ec2.delete_security_group(&self.root(), request).await.map(drop)
    }
}

fn tcp(port: i32, cidrs: &[&str]) -> api::IpPermission {
    let range = |cidr: &&str| api::IpRange { cidr_ip: Some((*cidr).to_owned()), description: None };
    api::IpPermission {
        ip_protocol: Some("tcp".to_owned()),
        from_port: Some(port),
        to_port: Some(port),
        ip_ranges: Some(cidrs.iter().map(range).collect()),
        ..Default::default()
    }
}

fn all(cidr: &str) -> api::IpPermission {
    api::IpPermission {
        ip_protocol: Some("-1".to_owned()),
        // As Terraform sends it: ports say nothing of all protocols.
        from_port: Some(0),
        to_port: Some(0),
        ..tcp(0, &[cidr])
    }
}

fn from_group(group: &str) -> api::IpPermission {
    let pair = api::UserIdGroupPair { group_id: Some(group.to_owned()), ..Default::default() };
    api::IpPermission { user_id_group_pairs: Some(vec![pair]), ..tcp(5432, &[]) }
}

#[tokio::test]
async fn one_permission_with_three_ranges_is_three_rules_and_is_shown_as_one() {
    let world = World::new().await;
    let web = world.create("web").await.unwrap();
    let rules = world
        .admit(&web, vec![tcp(443, &["10.0.0.0/8", "100.68.0.18/18", "192.0.2.0/24"])])
        .await
        .unwrap();
    let ranges: Vec<&str> = rules.iter().filter_map(|rule| rule.cidr_ipv4.as_deref()).collect();
    assert_eq!(ranges, ["10.0.0.0/8", "100.68.0.0/18", "192.0.2.0/24"], "without host bits");
    let shown = world.describe(&web).await;
    let permissions = shown.ip_permissions.unwrap();
    assert_eq!(permissions.len(), 1);
    assert_eq!(permissions[0].ip_ranges.as_ref().unwrap().len(), 3);
    let out = shown.ip_permissions_egress.unwrap();
    assert_eq!(out[0].ip_protocol.as_deref(), Some("-1"));
    assert_eq!((out[0].from_port, out[0].to_port), (None, None));
    let request = api::DescribeSecurityGroupRulesRequest {
        filters: Some(vec![api::Filter {
            name: Some("group-id".to_owned()),
            values: Some(vec![web]),
        }]),
        ..Default::default()
    };
    let rules = world.ec2.describe_security_group_rules(&world.root(), request).await.unwrap();
    let rules = rules.security_group_rules.unwrap();
    assert_eq!(rules.len(), 4);
    let out = rules.iter().find(|rule| rule.is_egress == Some(true)).unwrap();
    assert_eq!((out.from_port, out.to_port), (Some(-1), Some(-1)), "a rule says -1 for no ports");
}

#[tokio::test]
async fn a_rule_that_is_there_refuses_all_of_a_call() {
    let world = World::new().await;
    let web = world.create("web").await.unwrap();
    world.admit(&web, vec![tcp(80, &["10.0.0.0/8"])]).await.unwrap();
    let twice = vec![tcp(81, &["10.0.0.0/8"]), tcp(80, &["10.1.2.3/8"])];
    let error = world.admit(&web, twice).await.unwrap_err();
    assert_eq!(error.code, "InvalidPermission.Duplicate");
    assert_eq!(
        error.message,
        "the specified rule \"peer: 10.0.0.0/8, TCP, from port: 80, to port: 80, ALLOW\" already exists"
    );
    assert_eq!(world.describe(&web).await.ip_permissions.unwrap().len(), 1);
    let none = world.admit(&web, vec![tcp(80, &[])]).await.unwrap_err();
    assert_eq!(none.code, "MissingParameter");
    let odd = world.admit(&web, vec![tcp(80, &["10.0.0.300/8"])]).await.unwrap_err();
    assert_eq!(odd.message, "CIDR block 10.0.0.300/8 is malformed");
}

#[tokio::test]
async fn terraforms_first_steps_with_a_group_are_answered_as_ec2_does() {
    let world = World::new().await;
    let web = world.create("web").await.unwrap();
    let revoke = |permission| api::RevokeSecurityGroupEgressRequest {
        group_id: Some(web.clone()),
        ip_permissions: Some(vec![permission]),
        ..Default::default()
    };
    let root = world.root();
    let done = world.ec2.revoke_security_group_egress(&root, revoke(all("0.0.0.0/0"))).await;
    assert_eq!(done.unwrap().revoked_security_group_rules.unwrap().len(), 1);
    assert_eq!(world.describe(&web).await.ip_permissions_egress, Some(vec![]));
    // In the default VPC what is not there is named and no error.
    let again = world.ec2.revoke_security_group_egress(&root, revoke(all("0.0.0.0/0"))).await;
    assert_eq!(again.unwrap().unknown_ip_permissions.unwrap().len(), 1);
}

#[tokio::test]
async fn a_group_that_is_used_or_everybodys_is_not_deleted_and_it_is_said_by_what() {
    let world = World::new().await;
    let (web, db) = (world.create("web").await.unwrap(), world.create("db").await.unwrap());
    world.admit(&web, vec![from_group(&web)]).await.unwrap();
    let rules = world.admit(&db, vec![from_group(&web)]).await.unwrap();
    let error = world.delete(&web).await.unwrap_err();
    assert_eq!(error.code, "DependencyViolation");
    let rule = rules[0].security_group_rule_id.as_deref().unwrap();
    let sentence = format!("resource {web} has a dependent object ({rule} of {db})");
    assert_eq!(error.message, sentence);
    world.delete(&db).await.unwrap();
    world.delete(&web).await.unwrap();
    assert_eq!(world.delete(&web).await.unwrap_err().code, "InvalidGroup.NotFound");
    let default = world.default_group().await;
    let error = world.delete(&default).await.unwrap_err();
    assert_eq!(error.code, "CannotDelete");
    let view = world.ec2.control.view();
    assert_eq!(view.security_group_rules.len(), 0, "rules go with their groups");
}

#[tokio::test]
async fn the_default_group_is_changed_like_any_other_and_keeps_its_rules_ids() {
    let world = World::new().await;
    let default = world.default_group().await;
    let described = || async {
        let request = api::DescribeSecurityGroupRulesRequest::default();
        let all = world.ec2.describe_security_group_rules(&world.root(), request).await.unwrap();
        let ids = all.security_group_rules.unwrap().into_iter();
        ids.map(|rule| rule.security_group_rule_id.unwrap()).collect::<Vec<_>>()
    };
    let before = described().await;
    assert_eq!(before.len(), 2);
    world.admit(&default, vec![tcp(80, &["0.0.0.0/0"])]).await.unwrap();
    let after = described().await;
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|id| after.contains(id)));
    let request = api::RevokeSecurityGroupIngressRequest {
        group_id: Some(default.clone()),
        security_group_rule_ids: Some(world.describe_ids(&default, false).await),
        ..Default::default()
    };
    world.ec2.revoke_security_group_ingress(&world.root(), request).await.unwrap();
    assert_eq!(world.describe(&default).await.ip_permissions, Some(vec![]));
    assert_eq!(described().await.len(), 1);
}

impl World {
    async fn describe_ids(&self, group: &str, is_egress: bool) -> Vec<String> {
        let request = api::DescribeSecurityGroupRulesRequest::default();
        let all = self.ec2.describe_security_group_rules(&self.root(), request).await.unwrap();
        let its = all.security_group_rules.unwrap().into_iter().filter(|rule| {
            rule.group_id.as_deref() == Some(group) && rule.is_egress == Some(is_egress)
        });
        its.map(|rule| rule.security_group_rule_id.unwrap()).collect()
    }
}

#[tokio::test]
async fn rules_are_modified_in_place_and_described_anew() {
    let world = World::new().await;
    let web = world.create("web").await.unwrap();
    let rules = world.admit(&web, vec![tcp(80, &["10.0.0.0/8", "10.0.0.0/9"])]).await.unwrap();
    let id = rules[0].security_group_rule_id.clone();
    let modify = |rule: api::SecurityGroupRuleRequest| api::ModifySecurityGroupRulesRequest {
        group_id: Some(web.clone()),
        security_group_rules: Some(vec![api::SecurityGroupRuleUpdate {
            security_group_rule_id: id.clone(),
            security_group_rule: Some(rule),
        }]),
        dry_run: None,
    };
    let rule = api::SecurityGroupRuleRequest {
        ip_protocol: Some("udp".to_owned()),
        from_port: Some(53),
        to_port: Some(53),
        cidr_ipv4: Some("192.0.2.0/24".to_owned()),
        description: Some("names".to_owned()),
        ..Default::default()
    };
    let root = world.root();
    world.ec2.modify_security_group_rules(&root, modify(rule.clone())).await.unwrap();
    let request = api::DescribeSecurityGroupRulesRequest {
        security_group_rule_ids: Some(id.clone().into_iter().collect()),
        ..Default::default()
    };
    let now = world.ec2.describe_security_group_rules(&root, request.clone()).await.unwrap();
    let now = now.security_group_rules.unwrap().remove(0);
    assert_eq!(now.ip_protocol.as_deref(), Some("udp"));
    assert_eq!(now.description.as_deref(), Some("names"));
    let six = api::SecurityGroupRuleRequest {
        cidr_ipv4: None,
        cidr_ipv6: Some("::/0".to_owned()),
        ..rule.clone()
    };
    let error = world.ec2.modify_security_group_rules(&root, modify(six)).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterValue", "the kind of peer stays");
    let same = api::SecurityGroupRuleRequest {
        ip_protocol: Some("6".to_owned()),
        from_port: Some(80),
        to_port: Some(80),
        cidr_ipv4: Some("10.0.0.0/9".to_owned()),
        ..Default::default()
    };
    let error = world.ec2.modify_security_group_rules(&root, modify(same)).await.unwrap_err();
    assert_eq!(error.code, "InvalidPermission.Duplicate");
    let describe = api::UpdateSecurityGroupRuleDescriptionsIngressRequest {
        group_id: Some(web.clone()),
        security_group_rule_descriptions: Some(vec![api::SecurityGroupRuleDescription {
            security_group_rule_id: id,
            description: None,
        }]),
        ..Default::default()
    };
    world.ec2.update_security_group_rule_descriptions_ingress(&root, describe).await.unwrap();
    let now = world.ec2.describe_security_group_rules(&root, request).await.unwrap();
    assert_eq!(now.security_group_rules.unwrap()[0].description, None);
}

#[tokio::test]
async fn names_are_unique_and_some_are_not_to_be_had() {
    let world = World::new().await;
    world.create("Web").await.unwrap();
    assert_eq!(world.create("web").await.unwrap_err().code, "InvalidGroup.Duplicate");
    assert_eq!(world.create("default").await.unwrap_err().code, "InvalidGroup.Reserved");
    assert_eq!(world.create("sg-web").await.unwrap_err().code, "InvalidParameterValue");
    assert_eq!(world.create("").await.unwrap_err().code, "MissingParameter");
    let request = api::CreateSecurityGroupRequest {
        group_name: Some("other".to_owned()),
        description: Some("a group".to_owned()),
        vpc_id: Some("vpc-12345678".to_owned()),
        ..Default::default()
    };
    let error = world.ec2.create_security_group(&world.root(), request).await.unwrap_err();
    assert_eq!(error.message, "The vpc ID 'vpc-12345678' does not exist");
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_does_nothing() {
    let world = World::new().await;
    let request = |name: &str| api::CreateSecurityGroupRequest {
        group_name: Some(name.to_owned()),
        description: Some("a group".to_owned()),
        dry_run: Some(true),
        ..Default::default()
    };
    let root = world.root();
    let error = world.ec2.create_security_group(&root, request("web")).await.unwrap_err();
    assert_eq!((error.status, error.code.as_ref()), (412, "DryRunOperation"));
    let error = world.ec2.create_security_group(&root, request("default")).await.unwrap_err();
    assert_eq!(error.code, "InvalidGroup.Reserved");
    assert!(world.ec2.control.view().security_groups.is_empty());
}

#[tokio::test]
async fn a_group_holds_a_thousand_rules_a_direction_and_no_more() {
    let world = World::new().await;
    let web = world.create("web").await.unwrap();
    for part in 0..5 {
        let ranges: Vec<String> =
            (0..200).map(|number| format!("10.{part}.{number}.0/24")).collect();
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        world.admit(&web, vec![tcp(80, &ranges)]).await.unwrap();
    }
    let error = world.admit(&web, vec![tcp(80, &["192.0.2.0/24"])]).await.unwrap_err();
    assert_eq!(error.code, "RulesPerSecurityGroupLimitExceeded");
    world.delete(&web).await.unwrap();
    let view = world.ec2.control.view();
    assert!(view.security_groups.is_empty() && view.security_group_rules.is_empty());
}

#[tokio::test]
async fn tags_are_put_found_and_taken_away() {
    let world = World::new().await;
    let root = world.root();
    let tag = |key: &str, value: &str| api::Tag {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let web = world.create("web").await.unwrap();
    let request = api::CreateTagsRequest {
        resources: Some(vec![web.clone()]),
        tags: Some(vec![tag("Name", "web"), tag("stage", "test")]),
        dry_run: None,
    };
    world.ec2.create_tags(&root, request).await.unwrap();
    let request = api::DescribeSecurityGroupsRequest {
        filters: Some(vec![api::Filter {
            name: Some("tag:Name".to_owned()),
            values: Some(vec!["w?b*".to_owned()]),
        }]),
        ..Default::default()
    };
    let found = world.ec2.describe_security_groups(&root, request).await.unwrap();
    assert_eq!(found.security_groups.unwrap()[0].group_id, Some(web.clone()));
    let described = world.ec2.describe_tags(&root, Default::default()).await.unwrap();
    let kinds: Vec<String> = described
        .tags
        .unwrap()
        .iter()
        .map(|it| it.resource_type.clone().unwrap().to_string())
        .collect();
    assert_eq!(kinds, ["security-group", "security-group"]);
    let request = api::DeleteTagsRequest {
        resources: Some(vec![web.clone()]),
        tags: Some(vec![
            tag("Name", "other"),
            api::Tag { key: Some("stage".to_owned()), value: None },
        ]),
        dry_run: None,
    };
    world.ec2.delete_tags(&root, request).await.unwrap();
    assert_eq!(world.describe(&web).await.tags, Some(vec![tag("Name", "web")]));
    world.delete(&web).await.unwrap();
    assert!(world.ec2.control.view().ec2_tags.is_empty(), "tags go with what they are on");
    let request = api::CreateTagsRequest {
        resources: Some(vec!["i-12345678".to_owned()]),
        tags: Some(vec![tag("a", "b")]),
        dry_run: None,
    };
    assert_eq!(world.ec2.create_tags(&root, request).await.unwrap_err().code, "InvalidID");
}

#[tokio::test]
async fn a_policy_about_a_group_holds_for_rules_that_are_named_by_their_ids() {
    let world = World::new().await;
    let web = world.create("web").await.unwrap();
    let rule = world.admit(&web, vec![tcp(80, &["192.0.2.0/24"])]).await.unwrap().remove(0);
    let policy = format!(
        r#"{{"Version": "2012-10-17", "Statement": [
            {{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}},
            {{"Effect": "Deny", "Action": "ec2:*", "Resource": "arn:aws:ec2:*:*:security-group/{web}"}}]}}"#
    );
    let user = control::testing::people::user(&world.core, "000000000000", "ann", &policy).await;
    let request = api::RevokeSecurityGroupIngressRequest {
        security_group_rule_ids: rule.security_group_rule_id.map(|id| vec![id]),
        ..Default::default()
    };
    let refused = world.ec2.revoke_security_group_ingress(&user, request).await.unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
}
