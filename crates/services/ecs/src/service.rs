//! The list of operations: each is delegated to the file of its name.

use aws_wire::{ApiError, Caller};
use ecs_api as api;

use super::*;
use crate::Ecs;

impl api::Ecs for Ecs {
    async fn create_capacity_provider(
        &self,
        caller: &Caller,
        input: api::CreateCapacityProviderRequest,
    ) -> Result<api::CreateCapacityProviderResponse, ApiError> {
        capacity_provider::handle_create(self, caller, input).await
    }

    async fn create_cluster(
        &self,
        caller: &Caller,
        input: api::CreateClusterRequest,
    ) -> Result<api::CreateClusterResponse, ApiError> {
        create_cluster::handle(self, caller, input).await
    }

    async fn create_service(
        &self,
        caller: &Caller,
        input: api::CreateServiceRequest,
    ) -> Result<api::CreateServiceResponse, ApiError> {
        create_service::handle(self, caller, input).await
    }

    async fn create_task_set(
        &self,
        caller: &Caller,
        input: api::CreateTaskSetRequest,
    ) -> Result<api::CreateTaskSetResponse, ApiError> {
        task_sets::handle_create(self, caller, input).await
    }

    async fn delete_account_setting(
        &self,
        caller: &Caller,
        input: api::DeleteAccountSettingRequest,
    ) -> Result<api::DeleteAccountSettingResponse, ApiError> {
        account_settings::handle_delete(self, caller, input).await
    }

    async fn delete_attributes(
        &self,
        caller: &Caller,
        input: api::DeleteAttributesRequest,
    ) -> Result<api::DeleteAttributesResponse, ApiError> {
        attributes::handle_delete(self, caller, input).await
    }

    async fn delete_capacity_provider(
        &self,
        caller: &Caller,
        input: api::DeleteCapacityProviderRequest,
    ) -> Result<api::DeleteCapacityProviderResponse, ApiError> {
        capacity_provider::handle_delete(self, caller, input).await
    }

    async fn delete_cluster(
        &self,
        caller: &Caller,
        input: api::DeleteClusterRequest,
    ) -> Result<api::DeleteClusterResponse, ApiError> {
        delete_cluster::handle(self, caller, input).await
    }

    async fn delete_service(
        &self,
        caller: &Caller,
        input: api::DeleteServiceRequest,
    ) -> Result<api::DeleteServiceResponse, ApiError> {
        delete_service::handle(self, caller, input).await
    }

    async fn delete_task_definitions(
        &self,
        caller: &Caller,
        input: api::DeleteTaskDefinitionsRequest,
    ) -> Result<api::DeleteTaskDefinitionsResponse, ApiError> {
        delete_task_definitions::handle(self, caller, input).await
    }

    async fn delete_task_set(
        &self,
        caller: &Caller,
        input: api::DeleteTaskSetRequest,
    ) -> Result<api::DeleteTaskSetResponse, ApiError> {
        task_sets::handle_delete(self, caller, input).await
    }

    async fn deregister_container_instance(
        &self,
        caller: &Caller,
        input: api::DeregisterContainerInstanceRequest,
    ) -> Result<api::DeregisterContainerInstanceResponse, ApiError> {
        deregister_container_instance::handle(self, caller, input).await
    }

    async fn deregister_task_definition(
        &self,
        caller: &Caller,
        input: api::DeregisterTaskDefinitionRequest,
    ) -> Result<api::DeregisterTaskDefinitionResponse, ApiError> {
        deregister_task_definition::handle(self, caller, input).await
    }

    async fn describe_capacity_providers(
        &self,
        caller: &Caller,
        input: api::DescribeCapacityProvidersRequest,
    ) -> Result<api::DescribeCapacityProvidersResponse, ApiError> {
        describe_capacity_providers::handle(self, caller, input)
    }

    async fn describe_clusters(
        &self,
        caller: &Caller,
        input: api::DescribeClustersRequest,
    ) -> Result<api::DescribeClustersResponse, ApiError> {
        describe_clusters::handle(self, caller, input)
    }

    async fn describe_container_instances(
        &self,
        caller: &Caller,
        input: api::DescribeContainerInstancesRequest,
    ) -> Result<api::DescribeContainerInstancesResponse, ApiError> {
        describe_container_instances::handle(self, caller, input)
    }

    async fn describe_service_deployments(
        &self,
        caller: &Caller,
        input: api::DescribeServiceDeploymentsRequest,
    ) -> Result<api::DescribeServiceDeploymentsResponse, ApiError> {
        service_deployments::handle_describe(self, caller, input).await
    }

    async fn describe_service_revisions(
        &self,
        caller: &Caller,
        input: api::DescribeServiceRevisionsRequest,
    ) -> Result<api::DescribeServiceRevisionsResponse, ApiError> {
        describe_service_revisions::handle(self, caller, input).await
    }

    async fn describe_services(
        &self,
        caller: &Caller,
        input: api::DescribeServicesRequest,
    ) -> Result<api::DescribeServicesResponse, ApiError> {
        describe_services::handle(self, caller, input).await
    }

    async fn describe_task_definition(
        &self,
        caller: &Caller,
        input: api::DescribeTaskDefinitionRequest,
    ) -> Result<api::DescribeTaskDefinitionResponse, ApiError> {
        describe_task_definition::handle(self, caller, input)
    }

    async fn describe_task_sets(
        &self,
        caller: &Caller,
        input: api::DescribeTaskSetsRequest,
    ) -> Result<api::DescribeTaskSetsResponse, ApiError> {
        task_sets::handle_describe(self, caller, input).await
    }

    async fn describe_tasks(
        &self,
        caller: &Caller,
        input: api::DescribeTasksRequest,
    ) -> Result<api::DescribeTasksResponse, ApiError> {
        describe_tasks::handle(self, caller, input)
    }

    async fn discover_poll_endpoint(
        &self,
        caller: &Caller,
        input: api::DiscoverPollEndpointRequest,
    ) -> Result<api::DiscoverPollEndpointResponse, ApiError> {
        discover_poll_endpoint::handle(self, caller, input)
    }

    async fn get_task_protection(
        &self,
        caller: &Caller,
        input: api::GetTaskProtectionRequest,
    ) -> Result<api::GetTaskProtectionResponse, ApiError> {
        task_protection::handle_get(self, caller, input).await
    }

    async fn list_account_settings(
        &self,
        caller: &Caller,
        input: api::ListAccountSettingsRequest,
    ) -> Result<api::ListAccountSettingsResponse, ApiError> {
        account_settings::handle_list(self, caller, input)
    }

    async fn list_attributes(
        &self,
        caller: &Caller,
        input: api::ListAttributesRequest,
    ) -> Result<api::ListAttributesResponse, ApiError> {
        attributes::handle_list(self, caller, input)
    }

    async fn list_clusters(
        &self,
        caller: &Caller,
        input: api::ListClustersRequest,
    ) -> Result<api::ListClustersResponse, ApiError> {
        list_clusters::handle(self, caller, input)
    }

    async fn list_container_instances(
        &self,
        caller: &Caller,
        input: api::ListContainerInstancesRequest,
    ) -> Result<api::ListContainerInstancesResponse, ApiError> {
        list_container_instances::handle(self, caller, input)
    }

    async fn list_service_deployments(
        &self,
        caller: &Caller,
        input: api::ListServiceDeploymentsRequest,
    ) -> Result<api::ListServiceDeploymentsResponse, ApiError> {
        service_deployments::handle_list(self, caller, input).await
    }

    async fn list_services(
        &self,
        caller: &Caller,
        input: api::ListServicesRequest,
    ) -> Result<api::ListServicesResponse, ApiError> {
        list_services::handle(self, caller, input).await
    }

    async fn list_tags_for_resource(
        &self,
        caller: &Caller,
        input: api::ListTagsForResourceRequest,
    ) -> Result<api::ListTagsForResourceResponse, ApiError> {
        tag_resource::handle_list(self, caller, input)
    }

    async fn list_task_definition_families(
        &self,
        caller: &Caller,
        input: api::ListTaskDefinitionFamiliesRequest,
    ) -> Result<api::ListTaskDefinitionFamiliesResponse, ApiError> {
        list_task_definition_families::handle(self, caller, input)
    }

    async fn list_task_definitions(
        &self,
        caller: &Caller,
        input: api::ListTaskDefinitionsRequest,
    ) -> Result<api::ListTaskDefinitionsResponse, ApiError> {
        list_task_definitions::handle(self, caller, input)
    }

    async fn list_tasks(
        &self,
        caller: &Caller,
        input: api::ListTasksRequest,
    ) -> Result<api::ListTasksResponse, ApiError> {
        list_tasks::handle(self, caller, input)
    }

    async fn put_account_setting(
        &self,
        caller: &Caller,
        input: api::PutAccountSettingRequest,
    ) -> Result<api::PutAccountSettingResponse, ApiError> {
        account_settings::handle_put(self, caller, input).await
    }

    async fn put_account_setting_default(
        &self,
        caller: &Caller,
        input: api::PutAccountSettingDefaultRequest,
    ) -> Result<api::PutAccountSettingDefaultResponse, ApiError> {
        account_settings::handle_put_default(self, caller, input).await
    }

    async fn put_attributes(
        &self,
        caller: &Caller,
        input: api::PutAttributesRequest,
    ) -> Result<api::PutAttributesResponse, ApiError> {
        attributes::handle_put(self, caller, input).await
    }

    async fn put_cluster_capacity_providers(
        &self,
        caller: &Caller,
        input: api::PutClusterCapacityProvidersRequest,
    ) -> Result<api::PutClusterCapacityProvidersResponse, ApiError> {
        put_cluster_capacity_providers::handle(self, caller, input).await
    }

    async fn register_container_instance(
        &self,
        caller: &Caller,
        input: api::RegisterContainerInstanceRequest,
    ) -> Result<api::RegisterContainerInstanceResponse, ApiError> {
        register_container_instance::handle(self, caller, input).await
    }

    async fn register_task_definition(
        &self,
        caller: &Caller,
        input: api::RegisterTaskDefinitionRequest,
    ) -> Result<api::RegisterTaskDefinitionResponse, ApiError> {
        register_task_definition::handle(self, caller, input).await
    }

    async fn run_task(
        &self,
        caller: &Caller,
        input: api::RunTaskRequest,
    ) -> Result<api::RunTaskResponse, ApiError> {
        run_task::handle(self, caller, input).await
    }

    async fn start_task(
        &self,
        caller: &Caller,
        input: api::StartTaskRequest,
    ) -> Result<api::StartTaskResponse, ApiError> {
        start_task::handle(self, caller, input).await
    }

    async fn stop_service_deployment(
        &self,
        caller: &Caller,
        input: api::StopServiceDeploymentRequest,
    ) -> Result<api::StopServiceDeploymentResponse, ApiError> {
        service_deployments::handle_stop(self, caller, input).await
    }

    async fn stop_task(
        &self,
        caller: &Caller,
        input: api::StopTaskRequest,
    ) -> Result<api::StopTaskResponse, ApiError> {
        stop_task::handle(self, caller, input).await
    }

    async fn submit_attachment_state_changes(
        &self,
        caller: &Caller,
        input: api::SubmitAttachmentStateChangesRequest,
    ) -> Result<api::SubmitAttachmentStateChangesResponse, ApiError> {
        submit_state_change::attachments(self, caller, input)
    }

    async fn submit_container_state_change(
        &self,
        caller: &Caller,
        input: api::SubmitContainerStateChangeRequest,
    ) -> Result<api::SubmitContainerStateChangeResponse, ApiError> {
        submit_state_change::container(self, caller, input).await
    }

    async fn submit_task_state_change(
        &self,
        caller: &Caller,
        input: api::SubmitTaskStateChangeRequest,
    ) -> Result<api::SubmitTaskStateChangeResponse, ApiError> {
        submit_state_change::task(self, caller, input).await
    }

    async fn tag_resource(
        &self,
        caller: &Caller,
        input: api::TagResourceRequest,
    ) -> Result<api::TagResourceResponse, ApiError> {
        tag_resource::handle_tag(self, caller, input).await
    }

    async fn untag_resource(
        &self,
        caller: &Caller,
        input: api::UntagResourceRequest,
    ) -> Result<api::UntagResourceResponse, ApiError> {
        tag_resource::handle_untag(self, caller, input).await
    }

    async fn update_capacity_provider(
        &self,
        caller: &Caller,
        input: api::UpdateCapacityProviderRequest,
    ) -> Result<api::UpdateCapacityProviderResponse, ApiError> {
        capacity_provider::handle_update(self, caller, input).await
    }

    async fn update_cluster(
        &self,
        caller: &Caller,
        input: api::UpdateClusterRequest,
    ) -> Result<api::UpdateClusterResponse, ApiError> {
        update_cluster::handle(self, caller, input).await
    }

    async fn update_cluster_settings(
        &self,
        caller: &Caller,
        input: api::UpdateClusterSettingsRequest,
    ) -> Result<api::UpdateClusterSettingsResponse, ApiError> {
        update_cluster::handle_settings(self, caller, input).await
    }

    async fn update_container_instances_state(
        &self,
        caller: &Caller,
        input: api::UpdateContainerInstancesStateRequest,
    ) -> Result<api::UpdateContainerInstancesStateResponse, ApiError> {
        update_container_instances_state::handle(self, caller, input).await
    }

    async fn update_service(
        &self,
        caller: &Caller,
        input: api::UpdateServiceRequest,
    ) -> Result<api::UpdateServiceResponse, ApiError> {
        update_service::handle(self, caller, input).await
    }

    async fn update_service_primary_task_set(
        &self,
        caller: &Caller,
        input: api::UpdateServicePrimaryTaskSetRequest,
    ) -> Result<api::UpdateServicePrimaryTaskSetResponse, ApiError> {
        task_sets::handle_update_primary(self, caller, input).await
    }

    async fn update_task_protection(
        &self,
        caller: &Caller,
        input: api::UpdateTaskProtectionRequest,
    ) -> Result<api::UpdateTaskProtectionResponse, ApiError> {
        task_protection::handle_update(self, caller, input).await
    }

    async fn update_task_set(
        &self,
        caller: &Caller,
        input: api::UpdateTaskSetRequest,
    ) -> Result<api::UpdateTaskSetResponse, ApiError> {
        task_sets::handle_update(self, caller, input).await
    }
}
