//! Every operation, and which function does it.

use crate::{Ec2, groups, interfaces, network, routing, tags, zones};

ec2_api::forward! {
    Ec2 {
        authorize_security_group_egress => groups::authorize_security_group_egress;
        authorize_security_group_ingress => groups::authorize_security_group_ingress;
        create_security_group => groups::create_security_group;
        create_tags => tags::create_tags;
        delete_security_group => groups::delete_security_group;
        delete_tags => tags::delete_tags;
        describe_account_attributes => zones::describe_account_attributes;
        describe_availability_zones => zones::describe_availability_zones;
        describe_internet_gateways => routing::describe_internet_gateways;
        describe_network_interfaces => interfaces::describe_network_interfaces;
        describe_regions => zones::describe_regions;
        describe_route_tables => routing::describe_route_tables;
        describe_security_group_rules => groups::describe_security_group_rules;
        describe_security_groups => groups::describe_security_groups;
        describe_subnets => network::describe_subnets;
        describe_tags => tags::describe_tags;
        describe_vpc_attribute => routing::describe_vpc_attribute;
        describe_vpcs => network::describe_vpcs;
        describe_vpn_gateways => routing::describe_vpn_gateways;
        modify_security_group_rules => groups::modify_security_group_rules;
        revoke_security_group_egress => groups::revoke_security_group_egress;
        revoke_security_group_ingress => groups::revoke_security_group_ingress;
        update_security_group_rule_descriptions_egress => groups::update_security_group_rule_descriptions_egress;
        update_security_group_rule_descriptions_ingress => groups::update_security_group_rule_descriptions_ingress;
    }
}
