//! Prefix lists, through the service.

use std::ops::RangeInclusive;

use aws_wire::ApiError;
use ec2_api as api;
use ec2_api::Ec2 as _;

use super::networks::{Site, text};

/// A VPC with a group.
struct World {
    site: Site,
    group: String,
}

impl World {
    async fn new() -> Self {
        let site = Site::new("10.0.0.0/16").await;
        let request = api::CreateSecurityGroupRequest {
            description: text("of lists"),
            group_name: text("lists"),
            vpc_id: Some(site.vpc.clone()),
            ..Default::default()
        };
        let made = site.world.ec2.create_security_group(&site.root, request).await;
        Self { group: made.unwrap().group_id.unwrap(), site }
    }

    async fn list(&self, name: &str) -> String {
        let request = api::CreateManagedPrefixListRequest {
            prefix_list_name: text(name),
            max_entries: Some(1),
            address_family: text("IPv4"),
            ..Default::default()
        };
        let made = self.site.world.ec2.create_managed_prefix_list(&self.site.root, request).await;
        made.unwrap().prefix_list.unwrap().prefix_list_id.unwrap()
    }

    /// Has the group name a list, by a rule a port: their ids.
    async fn name(&self, list: &str, ports: RangeInclusive<i32>) -> Vec<String> {
        let permission = |port| api::IpPermission {
            ip_protocol: text("tcp"),
            from_port: Some(port),
            to_port: Some(port),
            prefix_list_ids: Some(vec![api::PrefixListId {
                prefix_list_id: text(list),
                description: None,
            }]),
            ..Default::default()
        };
        let request = api::AuthorizeSecurityGroupIngressRequest {
            group_id: Some(self.group.clone()),
            ip_permissions: Some(ports.map(permission).collect()),
            ..Default::default()
        };
        let ec2 = &self.site.world.ec2;
        let made = ec2.authorize_security_group_ingress(&self.site.root, request).await;
        let rules = made.unwrap().security_group_rules.unwrap().into_iter();
        rules.filter_map(|rule| rule.security_group_rule_id).collect()
    }

    /// Has rules name another list, one by one of ports from 5000 on.
    async fn rename(&self, rules: &[String], list: &str) -> Result<(), ApiError> {
        let update = |(port, rule): (i32, &String)| api::SecurityGroupRuleUpdate {
            security_group_rule_id: Some(rule.clone()),
            security_group_rule: Some(api::SecurityGroupRuleRequest {
                ip_protocol: text("tcp"),
                from_port: Some(port),
                to_port: Some(port),
                prefix_list_id: text(list),
                ..Default::default()
            }),
        };
        let request = api::ModifySecurityGroupRulesRequest {
            group_id: Some(self.group.clone()),
            security_group_rules: Some((5_000..).zip(rules).map(update).collect()),
            dry_run: None,
        };
        let ec2 = &self.site.world.ec2;
        ec2.modify_security_group_rules(&self.site.root, request).await.map(|_| ())
    }
}

#[tokio::test]
async fn rules_that_change_together_name_a_list_as_often_as_it_may_be_named() {
    let world = World::new().await;
    let (nearly_full, other) = (world.list("full").await, world.list("other").await);
    world.name(&nearly_full, 1..=200).await;
    world.name(&nearly_full, 201..=299).await;
    let rules = world.name(&other, 1_000..=1_001).await;
    let refused = world.rename(&rules, &nearly_full).await.unwrap_err();
    assert_eq!(refused.code, "PrefixListReferenceLimitExceeded");
    world.rename(&rules[..1], &nearly_full).await.unwrap();
    // Of a list that is full rules may change that name it already.
    world.rename(&rules[..1], &nearly_full).await.unwrap();
}
