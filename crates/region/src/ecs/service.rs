//! The list of operations: each is delegated to the file of its name.

use aws_api::ecs;
use aws_wire::{ApiError, Caller};

use super::*;
use crate::region::Region;

impl ecs::Ecs for Region {
    async fn create_capacity_provider(
        &self,
        caller: &Caller,
        input: ecs::CreateCapacityProviderRequest,
    ) -> Result<ecs::CreateCapacityProviderResponse, ApiError> {
        capacity_provider::handle_create(self, caller, input).await
    }

    async fn create_cluster(
        &self,
        caller: &Caller,
        input: ecs::CreateClusterRequest,
    ) -> Result<ecs::CreateClusterResponse, ApiError> {
        create_cluster::handle(self, caller, input).await
    }

    async fn create_service(
        &self,
        caller: &Caller,
        input: ecs::CreateServiceRequest,
    ) -> Result<ecs::CreateServiceResponse, ApiError> {
        create_service::handle(self, caller, input).await
    }

    async fn create_task_set(
        &self,
        caller: &Caller,
        input: ecs::CreateTaskSetRequest,
    ) -> Result<ecs::CreateTaskSetResponse, ApiError> {
        task_sets::handle_create(self, caller, input).await
    }

    async fn delete_account_setting(
        &self,
        caller: &Caller,
        input: ecs::DeleteAccountSettingRequest,
    ) -> Result<ecs::DeleteAccountSettingResponse, ApiError> {
        account_settings::handle_delete(self, caller, input).await
    }

    async fn delete_attributes(
        &self,
        caller: &Caller,
        input: ecs::DeleteAttributesRequest,
    ) -> Result<ecs::DeleteAttributesResponse, ApiError> {
        attributes::handle_delete(self, caller, input).await
    }

    async fn delete_capacity_provider(
        &self,
        caller: &Caller,
        input: ecs::DeleteCapacityProviderRequest,
    ) -> Result<ecs::DeleteCapacityProviderResponse, ApiError> {
        capacity_provider::handle_delete(self, caller, input).await
    }

    async fn delete_cluster(
        &self,
        caller: &Caller,
        input: ecs::DeleteClusterRequest,
    ) -> Result<ecs::DeleteClusterResponse, ApiError> {
        delete_cluster::handle(self, caller, input).await
    }

    async fn delete_service(
        &self,
        caller: &Caller,
        input: ecs::DeleteServiceRequest,
    ) -> Result<ecs::DeleteServiceResponse, ApiError> {
        delete_service::handle(self, caller, input).await
    }

    async fn delete_task_definitions(
        &self,
        caller: &Caller,
        input: ecs::DeleteTaskDefinitionsRequest,
    ) -> Result<ecs::DeleteTaskDefinitionsResponse, ApiError> {
        delete_task_definitions::handle(self, caller, input).await
    }

    async fn delete_task_set(
        &self,
        caller: &Caller,
        input: ecs::DeleteTaskSetRequest,
    ) -> Result<ecs::DeleteTaskSetResponse, ApiError> {
        task_sets::handle_delete(self, caller, input).await
    }

    async fn deregister_container_instance(
        &self,
        caller: &Caller,
        input: ecs::DeregisterContainerInstanceRequest,
    ) -> Result<ecs::DeregisterContainerInstanceResponse, ApiError> {
        deregister_container_instance::handle(self, caller, input).await
    }

    async fn deregister_task_definition(
        &self,
        caller: &Caller,
        input: ecs::DeregisterTaskDefinitionRequest,
    ) -> Result<ecs::DeregisterTaskDefinitionResponse, ApiError> {
        deregister_task_definition::handle(self, caller, input).await
    }

    async fn describe_capacity_providers(
        &self,
        caller: &Caller,
        input: ecs::DescribeCapacityProvidersRequest,
    ) -> Result<ecs::DescribeCapacityProvidersResponse, ApiError> {
        describe_capacity_providers::handle(self, caller, input)
    }

    async fn describe_clusters(
        &self,
        caller: &Caller,
        input: ecs::DescribeClustersRequest,
    ) -> Result<ecs::DescribeClustersResponse, ApiError> {
        describe_clusters::handle(self, caller, input)
    }

    async fn describe_container_instances(
        &self,
        caller: &Caller,
        input: ecs::DescribeContainerInstancesRequest,
    ) -> Result<ecs::DescribeContainerInstancesResponse, ApiError> {
        describe_container_instances::handle(self, caller, input)
    }

    async fn describe_service_deployments(
        &self,
        caller: &Caller,
        input: ecs::DescribeServiceDeploymentsRequest,
    ) -> Result<ecs::DescribeServiceDeploymentsResponse, ApiError> {
        service_deployments::handle_describe(self, caller, input).await
    }

    async fn describe_service_revisions(
        &self,
        caller: &Caller,
        input: ecs::DescribeServiceRevisionsRequest,
    ) -> Result<ecs::DescribeServiceRevisionsResponse, ApiError> {
        describe_service_revisions::handle(self, caller, input).await
    }

    async fn describe_services(
        &self,
        caller: &Caller,
        input: ecs::DescribeServicesRequest,
    ) -> Result<ecs::DescribeServicesResponse, ApiError> {
        describe_services::handle(self, caller, input).await
    }

    async fn describe_task_definition(
        &self,
        caller: &Caller,
        input: ecs::DescribeTaskDefinitionRequest,
    ) -> Result<ecs::DescribeTaskDefinitionResponse, ApiError> {
        describe_task_definition::handle(self, caller, input)
    }

    async fn describe_task_sets(
        &self,
        caller: &Caller,
        input: ecs::DescribeTaskSetsRequest,
    ) -> Result<ecs::DescribeTaskSetsResponse, ApiError> {
        task_sets::handle_describe(self, caller, input).await
    }

    async fn describe_tasks(
        &self,
        caller: &Caller,
        input: ecs::DescribeTasksRequest,
    ) -> Result<ecs::DescribeTasksResponse, ApiError> {
        describe_tasks::handle(self, caller, input)
    }

    async fn discover_poll_endpoint(
        &self,
        caller: &Caller,
        input: ecs::DiscoverPollEndpointRequest,
    ) -> Result<ecs::DiscoverPollEndpointResponse, ApiError> {
        discover_poll_endpoint::handle(self, caller, input)
    }

    async fn get_task_protection(
        &self,
        caller: &Caller,
        input: ecs::GetTaskProtectionRequest,
    ) -> Result<ecs::GetTaskProtectionResponse, ApiError> {
        task_protection::handle_get(self, caller, input).await
    }

    async fn list_account_settings(
        &self,
        caller: &Caller,
        input: ecs::ListAccountSettingsRequest,
    ) -> Result<ecs::ListAccountSettingsResponse, ApiError> {
        account_settings::handle_list(self, caller, input)
    }

    async fn list_attributes(
        &self,
        caller: &Caller,
        input: ecs::ListAttributesRequest,
    ) -> Result<ecs::ListAttributesResponse, ApiError> {
        attributes::handle_list(self, caller, input)
    }

    async fn list_clusters(
        &self,
        caller: &Caller,
        input: ecs::ListClustersRequest,
    ) -> Result<ecs::ListClustersResponse, ApiError> {
        list_clusters::handle(self, caller, input)
    }

    async fn list_container_instances(
        &self,
        caller: &Caller,
        input: ecs::ListContainerInstancesRequest,
    ) -> Result<ecs::ListContainerInstancesResponse, ApiError> {
        list_container_instances::handle(self, caller, input)
    }

    async fn list_service_deployments(
        &self,
        caller: &Caller,
        input: ecs::ListServiceDeploymentsRequest,
    ) -> Result<ecs::ListServiceDeploymentsResponse, ApiError> {
        service_deployments::handle_list(self, caller, input).await
    }

    async fn list_services(
        &self,
        caller: &Caller,
        input: ecs::ListServicesRequest,
    ) -> Result<ecs::ListServicesResponse, ApiError> {
        list_services::handle(self, caller, input).await
    }

    async fn list_tags_for_resource(
        &self,
        caller: &Caller,
        input: ecs::ListTagsForResourceRequest,
    ) -> Result<ecs::ListTagsForResourceResponse, ApiError> {
        tag_resource::handle_list(self, caller, input)
    }

    async fn list_task_definition_families(
        &self,
        caller: &Caller,
        input: ecs::ListTaskDefinitionFamiliesRequest,
    ) -> Result<ecs::ListTaskDefinitionFamiliesResponse, ApiError> {
        list_task_definition_families::handle(self, caller, input)
    }

    async fn list_task_definitions(
        &self,
        caller: &Caller,
        input: ecs::ListTaskDefinitionsRequest,
    ) -> Result<ecs::ListTaskDefinitionsResponse, ApiError> {
        list_task_definitions::handle(self, caller, input)
    }

    async fn list_tasks(
        &self,
        caller: &Caller,
        input: ecs::ListTasksRequest,
    ) -> Result<ecs::ListTasksResponse, ApiError> {
        list_tasks::handle(self, caller, input)
    }

    async fn put_account_setting(
        &self,
        caller: &Caller,
        input: ecs::PutAccountSettingRequest,
    ) -> Result<ecs::PutAccountSettingResponse, ApiError> {
        account_settings::handle_put(self, caller, input).await
    }

    async fn put_account_setting_default(
        &self,
        caller: &Caller,
        input: ecs::PutAccountSettingDefaultRequest,
    ) -> Result<ecs::PutAccountSettingDefaultResponse, ApiError> {
        account_settings::handle_put_default(self, caller, input).await
    }

    async fn put_attributes(
        &self,
        caller: &Caller,
        input: ecs::PutAttributesRequest,
    ) -> Result<ecs::PutAttributesResponse, ApiError> {
        attributes::handle_put(self, caller, input).await
    }

    async fn put_cluster_capacity_providers(
        &self,
        caller: &Caller,
        input: ecs::PutClusterCapacityProvidersRequest,
    ) -> Result<ecs::PutClusterCapacityProvidersResponse, ApiError> {
        put_cluster_capacity_providers::handle(self, caller, input).await
    }

    async fn register_container_instance(
        &self,
        caller: &Caller,
        input: ecs::RegisterContainerInstanceRequest,
    ) -> Result<ecs::RegisterContainerInstanceResponse, ApiError> {
        register_container_instance::handle(self, caller, input).await
    }

    async fn register_task_definition(
        &self,
        caller: &Caller,
        input: ecs::RegisterTaskDefinitionRequest,
    ) -> Result<ecs::RegisterTaskDefinitionResponse, ApiError> {
        register_task_definition::handle(self, caller, input).await
    }

    async fn run_task(
        &self,
        caller: &Caller,
        input: ecs::RunTaskRequest,
    ) -> Result<ecs::RunTaskResponse, ApiError> {
        run_task::handle(self, caller, input).await
    }

    async fn start_task(
        &self,
        caller: &Caller,
        input: ecs::StartTaskRequest,
    ) -> Result<ecs::StartTaskResponse, ApiError> {
        start_task::handle(self, caller, input).await
    }

    async fn stop_service_deployment(
        &self,
        caller: &Caller,
        input: ecs::StopServiceDeploymentRequest,
    ) -> Result<ecs::StopServiceDeploymentResponse, ApiError> {
        service_deployments::handle_stop(self, caller, input).await
    }

    async fn stop_task(
        &self,
        caller: &Caller,
        input: ecs::StopTaskRequest,
    ) -> Result<ecs::StopTaskResponse, ApiError> {
        stop_task::handle(self, caller, input).await
    }

    async fn submit_attachment_state_changes(
        &self,
        caller: &Caller,
        input: ecs::SubmitAttachmentStateChangesRequest,
    ) -> Result<ecs::SubmitAttachmentStateChangesResponse, ApiError> {
        submit_state_change::attachments(self, caller, input)
    }

    async fn submit_container_state_change(
        &self,
        caller: &Caller,
        input: ecs::SubmitContainerStateChangeRequest,
    ) -> Result<ecs::SubmitContainerStateChangeResponse, ApiError> {
        submit_state_change::container(self, caller, input).await
    }

    async fn submit_task_state_change(
        &self,
        caller: &Caller,
        input: ecs::SubmitTaskStateChangeRequest,
    ) -> Result<ecs::SubmitTaskStateChangeResponse, ApiError> {
        submit_state_change::task(self, caller, input).await
    }

    async fn tag_resource(
        &self,
        caller: &Caller,
        input: ecs::TagResourceRequest,
    ) -> Result<ecs::TagResourceResponse, ApiError> {
        tag_resource::handle_tag(self, caller, input).await
    }

    async fn untag_resource(
        &self,
        caller: &Caller,
        input: ecs::UntagResourceRequest,
    ) -> Result<ecs::UntagResourceResponse, ApiError> {
        tag_resource::handle_untag(self, caller, input).await
    }

    async fn update_capacity_provider(
        &self,
        caller: &Caller,
        input: ecs::UpdateCapacityProviderRequest,
    ) -> Result<ecs::UpdateCapacityProviderResponse, ApiError> {
        capacity_provider::handle_update(self, caller, input).await
    }

    async fn update_cluster(
        &self,
        caller: &Caller,
        input: ecs::UpdateClusterRequest,
    ) -> Result<ecs::UpdateClusterResponse, ApiError> {
        update_cluster::handle(self, caller, input).await
    }

    async fn update_cluster_settings(
        &self,
        caller: &Caller,
        input: ecs::UpdateClusterSettingsRequest,
    ) -> Result<ecs::UpdateClusterSettingsResponse, ApiError> {
        update_cluster::handle_settings(self, caller, input).await
    }

    async fn update_container_instances_state(
        &self,
        caller: &Caller,
        input: ecs::UpdateContainerInstancesStateRequest,
    ) -> Result<ecs::UpdateContainerInstancesStateResponse, ApiError> {
        update_container_instances_state::handle(self, caller, input).await
    }

    async fn update_service(
        &self,
        caller: &Caller,
        input: ecs::UpdateServiceRequest,
    ) -> Result<ecs::UpdateServiceResponse, ApiError> {
        update_service::handle(self, caller, input).await
    }

    async fn update_service_primary_task_set(
        &self,
        caller: &Caller,
        input: ecs::UpdateServicePrimaryTaskSetRequest,
    ) -> Result<ecs::UpdateServicePrimaryTaskSetResponse, ApiError> {
        task_sets::handle_update_primary(self, caller, input).await
    }

    async fn update_task_protection(
        &self,
        caller: &Caller,
        input: ecs::UpdateTaskProtectionRequest,
    ) -> Result<ecs::UpdateTaskProtectionResponse, ApiError> {
        task_protection::handle_update(self, caller, input).await
    }

    async fn update_task_set(
        &self,
        caller: &Caller,
        input: ecs::UpdateTaskSetRequest,
    ) -> Result<ecs::UpdateTaskSetResponse, ApiError> {
        task_sets::handle_update(self, caller, input).await
    }
}
