//! Every operation, and which function does it.

use crate::{
    Ec2, acls, addresses, dhcp, empty, endpoints, flow_logs, groups, images, instance_types,
    interfaces, internet_gateways, nat_gateways, peerings, prefix_lists, route_tables, routes,
    subnets, tags, vpcs, zones,
};

ec2_api::forward! {
    Ec2 {
        accept_vpc_peering_connection => peerings::accept_vpc_peering_connection;
        allocate_address => addresses::allocate_address;
        associate_address => addresses::associate_address;
        associate_dhcp_options => dhcp::associate_dhcp_options;
        associate_route_table => route_tables::associate_route_table;
        associate_vpc_cidr_block => vpcs::associate_vpc_cidr_block;
        attach_internet_gateway => internet_gateways::attach_internet_gateway;
        authorize_security_group_egress => groups::authorize_security_group_egress;
        authorize_security_group_ingress => groups::authorize_security_group_ingress;
        create_default_subnet => subnets::create_default_subnet;
        create_default_vpc => vpcs::create_default_vpc;
        create_dhcp_options => dhcp::create_dhcp_options;
        create_flow_logs => flow_logs::create_flow_logs;
        create_internet_gateway => internet_gateways::create_internet_gateway;
        create_managed_prefix_list => prefix_lists::create_managed_prefix_list;
        create_nat_gateway => nat_gateways::create_nat_gateway;
        create_network_acl => acls::create_network_acl;
        create_network_acl_entry => acls::create_network_acl_entry;
        create_network_interface => interfaces::create_network_interface;
        create_route => routes::create_route;
        create_route_table => route_tables::create_route_table;
        create_security_group => groups::create_security_group;
        create_subnet => subnets::create_subnet;
        create_tags => tags::create_tags;
        create_vpc => vpcs::create_vpc;
        create_vpc_endpoint => endpoints::create_vpc_endpoint;
        create_vpc_peering_connection => peerings::create_vpc_peering_connection;
        delete_dhcp_options => dhcp::delete_dhcp_options;
        delete_flow_logs => flow_logs::delete_flow_logs;
        delete_internet_gateway => internet_gateways::delete_internet_gateway;
        delete_managed_prefix_list => prefix_lists::delete_managed_prefix_list;
        delete_nat_gateway => nat_gateways::delete_nat_gateway;
        delete_network_acl => acls::delete_network_acl;
        delete_network_acl_entry => acls::delete_network_acl_entry;
        delete_network_interface => interfaces::delete_network_interface;
        delete_route => routes::delete_route;
        delete_route_table => route_tables::delete_route_table;
        delete_security_group => groups::delete_security_group;
        delete_subnet => subnets::delete_subnet;
        delete_tags => tags::delete_tags;
        delete_vpc => vpcs::delete_vpc;
        delete_vpc_endpoints => endpoints::delete_vpc_endpoints;
        delete_vpc_peering_connection => peerings::delete_vpc_peering_connection;
        describe_account_attributes => zones::describe_account_attributes;
        describe_addresses => addresses::describe_addresses;
        describe_addresses_attribute => addresses::describe_addresses_attribute;
        describe_availability_zones => zones::describe_availability_zones;
        describe_dhcp_options => dhcp::describe_dhcp_options;
        describe_flow_logs => flow_logs::describe_flow_logs;
        describe_images => images::describe_images;
        describe_instance_type_offerings => instance_types::describe_instance_type_offerings;
        describe_instance_types => instance_types::describe_instance_types;
        describe_internet_gateways => internet_gateways::describe_internet_gateways;
        describe_key_pairs => images::describe_key_pairs;
        describe_managed_prefix_lists => prefix_lists::describe_managed_prefix_lists;
        describe_nat_gateways => nat_gateways::describe_nat_gateways;
        describe_network_acls => acls::describe_network_acls;
        describe_network_interfaces => interfaces::describe_network_interfaces;
        describe_prefix_lists => prefix_lists::describe_prefix_lists;
        describe_regions => zones::describe_regions;
        describe_route_tables => route_tables::describe_route_tables;
        describe_security_group_references => peerings::describe_security_group_references;
        describe_security_group_rules => groups::describe_security_group_rules;
        describe_security_groups => groups::describe_security_groups;
        describe_stale_security_groups => peerings::describe_stale_security_groups;
        describe_subnets => subnets::describe_subnets;
        describe_tags => tags::describe_tags;
        describe_vpc_attribute => vpcs::describe_vpc_attribute;
        describe_vpc_endpoint_services => endpoints::describe_vpc_endpoint_services;
        describe_vpc_endpoints => endpoints::describe_vpc_endpoints;
        describe_vpc_peering_connections => peerings::describe_vpc_peering_connections;
        describe_vpcs => vpcs::describe_vpcs;
        describe_vpn_gateways => empty::describe_vpn_gateways;
        detach_internet_gateway => internet_gateways::detach_internet_gateway;
        disassociate_address => addresses::disassociate_address;
        disassociate_route_table => route_tables::disassociate_route_table;
        disassociate_vpc_cidr_block => vpcs::disassociate_vpc_cidr_block;
        get_managed_prefix_list_associations => prefix_lists::get_managed_prefix_list_associations;
        get_managed_prefix_list_entries => prefix_lists::get_managed_prefix_list_entries;
        modify_managed_prefix_list => prefix_lists::modify_managed_prefix_list;
        modify_network_interface_attribute => interfaces::modify_network_interface_attribute;
        modify_security_group_rules => groups::modify_security_group_rules;
        modify_subnet_attribute => subnets::modify_subnet_attribute;
        modify_vpc_attribute => vpcs::modify_vpc_attribute;
        modify_vpc_endpoint => endpoints::modify_vpc_endpoint;
        modify_vpc_peering_connection_options => peerings::modify_vpc_peering_connection_options;
        reject_vpc_peering_connection => peerings::reject_vpc_peering_connection;
        release_address => addresses::release_address;
        replace_network_acl_association => acls::replace_network_acl_association;
        replace_network_acl_entry => acls::replace_network_acl_entry;
        replace_route => routes::replace_route;
        replace_route_table_association => route_tables::replace_route_table_association;
        revoke_security_group_egress => groups::revoke_security_group_egress;
        revoke_security_group_ingress => groups::revoke_security_group_ingress;
        update_security_group_rule_descriptions_egress => groups::update_security_group_rule_descriptions_egress;
        update_security_group_rule_descriptions_ingress => groups::update_security_group_rule_descriptions_ingress;
    }
}
