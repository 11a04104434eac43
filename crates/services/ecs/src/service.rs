//! The list of operations, and the function that does each, in the file of its name.

use super::*;
use crate::Ecs;

ecs_api::forward! {
    Ecs {
        continue_service_deployment => continue_service_deployment::handle;
        create_capacity_provider => capacity_provider::handle_create;
        create_cluster => create_cluster::handle;
        create_service => create_service::handle;
        create_task_set => task_sets::handle_create;
        delete_account_setting => account_settings::handle_delete;
        delete_attributes => attributes::handle_delete;
        delete_capacity_provider => capacity_provider::handle_delete;
        delete_cluster => delete_cluster::handle;
        delete_service => delete_service::handle;
        delete_task_definitions => delete_task_definitions::handle;
        delete_task_set => task_sets::handle_delete;
        deregister_container_instance => deregister_container_instance::handle;
        deregister_task_definition => deregister_task_definition::handle;
        describe_capacity_providers => (at_once) describe_capacity_providers::handle;
        describe_clusters => (at_once) describe_clusters::handle;
        describe_container_instances => (at_once) describe_container_instances::handle;
        describe_service_deployments => service_deployments::handle_describe;
        describe_service_revisions => describe_service_revisions::handle;
        describe_services => describe_services::handle;
        describe_task_definition => (at_once) describe_task_definition::handle;
        describe_task_sets => task_sets::handle_describe;
        describe_tasks => (at_once) describe_tasks::handle;
        discover_poll_endpoint => (at_once) discover_poll_endpoint::handle;
        get_task_protection => task_protection::handle_get;
        list_account_settings => (at_once) account_settings::handle_list;
        list_attributes => (at_once) attributes::handle_list;
        list_clusters => (at_once) list_clusters::handle;
        list_container_instances => (at_once) list_container_instances::handle;
        list_service_deployments => service_deployments::handle_list;
        list_services => list_services::handle;
        list_services_by_namespace => list_services_by_namespace::handle;
        list_tags_for_resource => (at_once) tag_resource::handle_list;
        list_task_definition_families => (at_once) list_task_definition_families::handle;
        list_task_definitions => (at_once) list_task_definitions::handle;
        list_tasks => (at_once) list_tasks::handle;
        put_account_setting => account_settings::handle_put;
        put_account_setting_default => account_settings::handle_put_default;
        put_attributes => attributes::handle_put;
        put_cluster_capacity_providers => put_cluster_capacity_providers::handle;
        register_container_instance => register_container_instance::handle;
        register_task_definition => register_task_definition::handle;
        run_task => run_task::handle;
        start_task => start_task::handle;
        stop_service_deployment => service_deployments::handle_stop;
        stop_task => stop_task::handle;
        submit_attachment_state_changes => (at_once) submit_state_change::attachments;
        submit_container_state_change => submit_state_change::container;
        submit_task_state_change => submit_state_change::task;
        tag_resource => tag_resource::handle_tag;
        untag_resource => tag_resource::handle_untag;
        update_capacity_provider => capacity_provider::handle_update;
        update_cluster => update_cluster::handle;
        update_cluster_settings => update_cluster::handle_settings;
        update_container_agent => update_container_agent::handle;
        update_container_instances_state => update_container_instances_state::handle;
        update_service => update_service::handle;
        update_service_primary_task_set => task_sets::handle_update_primary;
        update_task_protection => task_protection::handle_update;
        update_task_set => task_sets::handle_update;
    }
}
