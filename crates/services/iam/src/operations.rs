//! Every operation, and which function does it. What users, groups and roles have alike is done by one for all
//! three (`holder`).

use aws_wire::{ApiError, Caller};
use iam_api as api;
use model::{IamGroup, IamRole, IamUser};

use crate::pages::paged;
use crate::{Iam, account, groups, linked, policies, profiles, providers, roles, simulate, users};

macro_rules! operations {
    (
        $($name:ident($input:ident) -> $output:ty = $module:ident::$handler:ident;)*
        ---
        $($rest:tt)*
    ) => {
        impl api::Iam for Iam {
            $(async fn $name(
                &self,
                caller: &Caller,
                input: api::$input,
            ) -> Result<$output, ApiError> {
                $module::$handler(self, caller, input).await
            })*
            $($rest)*
        }
    };
}

operations! {
    delete_login_profile(DeleteLoginProfileRequest) -> () = users::delete_login_profile;
    list_virtual_mfa_devices(ListVirtualMFADevicesRequest) -> api::ListVirtualMFADevicesResponse = users::list_virtual_mfa_devices;
    add_client_id_to_open_id_connect_provider(AddClientIDToOpenIDConnectProviderRequest) -> () = providers::add_client_id_to_open_id_connect_provider;
    add_role_to_instance_profile(AddRoleToInstanceProfileRequest) -> () = profiles::add_role_to_instance_profile;
    add_user_to_group(AddUserToGroupRequest) -> () = groups::add_user_to_group;
    create_access_key(CreateAccessKeyRequest) -> api::CreateAccessKeyResponse = users::create_access_key;
    create_account_alias(CreateAccountAliasRequest) -> () = account::create_account_alias;
    create_group(CreateGroupRequest) -> api::CreateGroupResponse = groups::create_group;
    create_instance_profile(CreateInstanceProfileRequest) -> api::CreateInstanceProfileResponse = profiles::create_instance_profile;
    create_open_id_connect_provider(CreateOpenIDConnectProviderRequest) -> api::CreateOpenIDConnectProviderResponse = providers::create_open_id_connect_provider;
    create_policy(CreatePolicyRequest) -> api::CreatePolicyResponse = policies::create_policy;
    create_policy_version(CreatePolicyVersionRequest) -> api::CreatePolicyVersionResponse = policies::create_policy_version;
    create_role(CreateRoleRequest) -> api::CreateRoleResponse = roles::create_role;
    create_service_linked_role(CreateServiceLinkedRoleRequest) -> api::CreateServiceLinkedRoleResponse = linked::create_service_linked_role;
    create_user(CreateUserRequest) -> api::CreateUserResponse = users::create_user;
    delete_access_key(DeleteAccessKeyRequest) -> () = users::delete_access_key;
    delete_account_alias(DeleteAccountAliasRequest) -> () = account::delete_account_alias;
    delete_group(DeleteGroupRequest) -> () = groups::delete_group;
    delete_instance_profile(DeleteInstanceProfileRequest) -> () = profiles::delete_instance_profile;
    delete_open_id_connect_provider(DeleteOpenIDConnectProviderRequest) -> () = providers::delete_open_id_connect_provider;
    delete_policy(DeletePolicyRequest) -> () = policies::delete_policy;
    delete_policy_version(DeletePolicyVersionRequest) -> () = policies::delete_policy_version;
    delete_role(DeleteRoleRequest) -> () = roles::delete_role;
    delete_role_permissions_boundary(DeleteRolePermissionsBoundaryRequest) -> () = roles::delete_role_permissions_boundary;
    delete_service_linked_role(DeleteServiceLinkedRoleRequest) -> api::DeleteServiceLinkedRoleResponse = linked::delete_service_linked_role;
    delete_user(DeleteUserRequest) -> () = users::delete_user;
    delete_user_permissions_boundary(DeleteUserPermissionsBoundaryRequest) -> () = users::delete_user_permissions_boundary;
    get_access_key_last_used(GetAccessKeyLastUsedRequest) -> api::GetAccessKeyLastUsedResponse = users::get_access_key_last_used;
    get_account_authorization_details(GetAccountAuthorizationDetailsRequest) -> api::GetAccountAuthorizationDetailsResponse = account::get_account_authorization_details;
    get_context_keys_for_custom_policy(GetContextKeysForCustomPolicyRequest) -> api::GetContextKeysForPolicyResponse = simulate::get_context_keys_for_custom_policy;
    get_context_keys_for_principal_policy(GetContextKeysForPrincipalPolicyRequest) -> api::GetContextKeysForPolicyResponse = simulate::get_context_keys_for_principal_policy;
    get_group(GetGroupRequest) -> api::GetGroupResponse = groups::get_group;
    get_instance_profile(GetInstanceProfileRequest) -> api::GetInstanceProfileResponse = profiles::get_instance_profile;
    get_login_profile(GetLoginProfileRequest) -> api::GetLoginProfileResponse = users::get_login_profile;
    get_open_id_connect_provider(GetOpenIDConnectProviderRequest) -> api::GetOpenIDConnectProviderResponse = providers::get_open_id_connect_provider;
    get_policy(GetPolicyRequest) -> api::GetPolicyResponse = policies::get_policy;
    get_policy_version(GetPolicyVersionRequest) -> api::GetPolicyVersionResponse = policies::get_policy_version;
    get_role(GetRoleRequest) -> api::GetRoleResponse = roles::get_role;
    get_service_linked_role_deletion_status(GetServiceLinkedRoleDeletionStatusRequest) -> api::GetServiceLinkedRoleDeletionStatusResponse = linked::get_service_linked_role_deletion_status;
    get_user(GetUserRequest) -> api::GetUserResponse = users::get_user;
    list_access_keys(ListAccessKeysRequest) -> api::ListAccessKeysResponse = users::list_access_keys;
    list_account_aliases(ListAccountAliasesRequest) -> api::ListAccountAliasesResponse = account::list_account_aliases;
    list_entities_for_policy(ListEntitiesForPolicyRequest) -> api::ListEntitiesForPolicyResponse = policies::list_entities_for_policy;
    list_groups(ListGroupsRequest) -> api::ListGroupsResponse = groups::list_groups;
    list_groups_for_user(ListGroupsForUserRequest) -> api::ListGroupsForUserResponse = groups::list_groups_for_user;
    list_instance_profile_tags(ListInstanceProfileTagsRequest) -> api::ListInstanceProfileTagsResponse = profiles::list_instance_profile_tags;
    list_instance_profiles(ListInstanceProfilesRequest) -> api::ListInstanceProfilesResponse = profiles::list_instance_profiles;
    list_instance_profiles_for_role(ListInstanceProfilesForRoleRequest) -> api::ListInstanceProfilesForRoleResponse = profiles::list_instance_profiles_for_role;
    list_mfa_devices(ListMFADevicesRequest) -> api::ListMFADevicesResponse = users::list_mfa_devices;
    list_open_id_connect_provider_tags(ListOpenIDConnectProviderTagsRequest) -> api::ListOpenIDConnectProviderTagsResponse = providers::list_open_id_connect_provider_tags;
    list_open_id_connect_providers(ListOpenIDConnectProvidersRequest) -> api::ListOpenIDConnectProvidersResponse = providers::list_open_id_connect_providers;
    list_policies(ListPoliciesRequest) -> api::ListPoliciesResponse = policies::list_policies;
    list_policy_tags(ListPolicyTagsRequest) -> api::ListPolicyTagsResponse = policies::list_policy_tags;
    list_policy_versions(ListPolicyVersionsRequest) -> api::ListPolicyVersionsResponse = policies::list_policy_versions;
    list_role_tags(ListRoleTagsRequest) -> api::ListRoleTagsResponse = roles::list_role_tags;
    list_roles(ListRolesRequest) -> api::ListRolesResponse = roles::list_roles;
    list_ssh_public_keys(ListSSHPublicKeysRequest) -> api::ListSSHPublicKeysResponse = users::list_ssh_public_keys;
    list_service_specific_credentials(ListServiceSpecificCredentialsRequest) -> api::ListServiceSpecificCredentialsResponse = users::list_service_specific_credentials;
    list_signing_certificates(ListSigningCertificatesRequest) -> api::ListSigningCertificatesResponse = users::list_signing_certificates;
    list_user_tags(ListUserTagsRequest) -> api::ListUserTagsResponse = users::list_user_tags;
    list_users(ListUsersRequest) -> api::ListUsersResponse = users::list_users;
    put_role_permissions_boundary(PutRolePermissionsBoundaryRequest) -> () = roles::put_role_permissions_boundary;
    put_user_permissions_boundary(PutUserPermissionsBoundaryRequest) -> () = users::put_user_permissions_boundary;
    remove_client_id_from_open_id_connect_provider(RemoveClientIDFromOpenIDConnectProviderRequest) -> () = providers::remove_client_id_from_open_id_connect_provider;
    remove_role_from_instance_profile(RemoveRoleFromInstanceProfileRequest) -> () = profiles::remove_role_from_instance_profile;
    remove_user_from_group(RemoveUserFromGroupRequest) -> () = groups::remove_user_from_group;
    set_default_policy_version(SetDefaultPolicyVersionRequest) -> () = policies::set_default_policy_version;
    simulate_custom_policy(SimulateCustomPolicyRequest) -> api::SimulatePolicyResponse = simulate::simulate_custom_policy;
    simulate_principal_policy(SimulatePrincipalPolicyRequest) -> api::SimulatePolicyResponse = simulate::simulate_principal_policy;
    tag_instance_profile(TagInstanceProfileRequest) -> () = profiles::tag_instance_profile;
    tag_open_id_connect_provider(TagOpenIDConnectProviderRequest) -> () = providers::tag_open_id_connect_provider;
    tag_policy(TagPolicyRequest) -> () = policies::tag_policy;
    tag_role(TagRoleRequest) -> () = roles::tag_role;
    tag_user(TagUserRequest) -> () = users::tag_user;
    untag_instance_profile(UntagInstanceProfileRequest) -> () = profiles::untag_instance_profile;
    untag_open_id_connect_provider(UntagOpenIDConnectProviderRequest) -> () = providers::untag_open_id_connect_provider;
    untag_policy(UntagPolicyRequest) -> () = policies::untag_policy;
    untag_role(UntagRoleRequest) -> () = roles::untag_role;
    untag_user(UntagUserRequest) -> () = users::untag_user;
    update_access_key(UpdateAccessKeyRequest) -> () = users::update_access_key;
    update_assume_role_policy(UpdateAssumeRolePolicyRequest) -> () = roles::update_assume_role_policy;
    update_group(UpdateGroupRequest) -> () = groups::update_group;
    update_open_id_connect_provider_thumbprint(UpdateOpenIDConnectProviderThumbprintRequest) -> () = providers::update_open_id_connect_provider_thumbprint;
    update_role(UpdateRoleRequest) -> api::UpdateRoleResponse = roles::update_role;
    update_role_description(UpdateRoleDescriptionRequest) -> api::UpdateRoleDescriptionResponse = roles::update_role_description;
    update_user(UpdateUserRequest) -> () = users::update_user;
    ---
    async fn get_account_summary(&self, caller: &Caller) -> Result<api::GetAccountSummaryResponse, ApiError> {
        account::get_account_summary(self, caller).await
    }
    async fn attach_group_policy(
        &self,
        caller: &Caller,
        input: api::AttachGroupPolicyRequest,
    ) -> Result<(), ApiError> {
        self.attach::<IamGroup>(caller, "iam:AttachGroupPolicy", input.group_name, input.policy_arn).await
    }

    async fn attach_role_policy(
        &self,
        caller: &Caller,
        input: api::AttachRolePolicyRequest,
    ) -> Result<(), ApiError> {
        self.attach::<IamRole>(caller, "iam:AttachRolePolicy", input.role_name, input.policy_arn).await
    }

    async fn attach_user_policy(
        &self,
        caller: &Caller,
        input: api::AttachUserPolicyRequest,
    ) -> Result<(), ApiError> {
        self.attach::<IamUser>(caller, "iam:AttachUserPolicy", input.user_name, input.policy_arn).await
    }

    async fn delete_group_policy(
        &self,
        caller: &Caller,
        input: api::DeleteGroupPolicyRequest,
    ) -> Result<(), ApiError> {
        self.delete_inline::<IamGroup>(caller, "iam:DeleteGroupPolicy", input.group_name, input.policy_name).await
    }

    async fn delete_role_policy(
        &self,
        caller: &Caller,
        input: api::DeleteRolePolicyRequest,
    ) -> Result<(), ApiError> {
        self.delete_inline::<IamRole>(caller, "iam:DeleteRolePolicy", input.role_name, input.policy_name).await
    }

    async fn delete_user_policy(
        &self,
        caller: &Caller,
        input: api::DeleteUserPolicyRequest,
    ) -> Result<(), ApiError> {
        self.delete_inline::<IamUser>(caller, "iam:DeleteUserPolicy", input.user_name, input.policy_name).await
    }

    async fn detach_group_policy(
        &self,
        caller: &Caller,
        input: api::DetachGroupPolicyRequest,
    ) -> Result<(), ApiError> {
        self.detach::<IamGroup>(caller, "iam:DetachGroupPolicy", input.group_name, input.policy_arn).await
    }

    async fn detach_role_policy(
        &self,
        caller: &Caller,
        input: api::DetachRolePolicyRequest,
    ) -> Result<(), ApiError> {
        self.detach::<IamRole>(caller, "iam:DetachRolePolicy", input.role_name, input.policy_arn).await
    }

    async fn detach_user_policy(
        &self,
        caller: &Caller,
        input: api::DetachUserPolicyRequest,
    ) -> Result<(), ApiError> {
        self.detach::<IamUser>(caller, "iam:DetachUserPolicy", input.user_name, input.policy_arn).await
    }

    async fn get_group_policy(
        &self,
        caller: &Caller,
        input: api::GetGroupPolicyRequest,
    ) -> Result<api::GetGroupPolicyResponse, ApiError> {
        let (name, policy_name) = (input.group_name.unwrap_or_default(), input.policy_name.unwrap_or_default());
        let document = self.get_inline::<IamGroup>(caller, "iam:GetGroupPolicy", &name, &policy_name)?;
        Ok(api::GetGroupPolicyResponse { group_name: Some(name), policy_name: Some(policy_name), policy_document: Some(document) })
    }

    async fn get_role_policy(
        &self,
        caller: &Caller,
        input: api::GetRolePolicyRequest,
    ) -> Result<api::GetRolePolicyResponse, ApiError> {
        let (name, policy_name) = (input.role_name.unwrap_or_default(), input.policy_name.unwrap_or_default());
        let document = self.get_inline::<IamRole>(caller, "iam:GetRolePolicy", &name, &policy_name)?;
        Ok(api::GetRolePolicyResponse { role_name: Some(name), policy_name: Some(policy_name), policy_document: Some(document) })
    }

    async fn get_user_policy(
        &self,
        caller: &Caller,
        input: api::GetUserPolicyRequest,
    ) -> Result<api::GetUserPolicyResponse, ApiError> {
        let (name, policy_name) = (input.user_name.unwrap_or_default(), input.policy_name.unwrap_or_default());
        let document = self.get_inline::<IamUser>(caller, "iam:GetUserPolicy", &name, &policy_name)?;
        Ok(api::GetUserPolicyResponse { user_name: Some(name), policy_name: Some(policy_name), policy_document: Some(document) })
    }

    async fn list_attached_group_policies(
        &self,
        caller: &Caller,
        input: api::ListAttachedGroupPoliciesRequest,
    ) -> Result<api::ListAttachedGroupPoliciesResponse, ApiError> {
        let page = self.list_attached::<IamGroup>(caller, "iam:ListAttachedGroupPolicies", input.group_name, input.path_prefix, input.marker, input.max_items)?;
        Ok(paged!(ListAttachedGroupPoliciesResponse, attached_policies, page))
    }

    async fn list_attached_role_policies(
        &self,
        caller: &Caller,
        input: api::ListAttachedRolePoliciesRequest,
    ) -> Result<api::ListAttachedRolePoliciesResponse, ApiError> {
        let page = self.list_attached::<IamRole>(caller, "iam:ListAttachedRolePolicies", input.role_name, input.path_prefix, input.marker, input.max_items)?;
        Ok(paged!(ListAttachedRolePoliciesResponse, attached_policies, page))
    }

    async fn list_attached_user_policies(
        &self,
        caller: &Caller,
        input: api::ListAttachedUserPoliciesRequest,
    ) -> Result<api::ListAttachedUserPoliciesResponse, ApiError> {
        let page = self.list_attached::<IamUser>(caller, "iam:ListAttachedUserPolicies", input.user_name, input.path_prefix, input.marker, input.max_items)?;
        Ok(paged!(ListAttachedUserPoliciesResponse, attached_policies, page))
    }

    async fn list_group_policies(
        &self,
        caller: &Caller,
        input: api::ListGroupPoliciesRequest,
    ) -> Result<api::ListGroupPoliciesResponse, ApiError> {
        let page = self.list_inline::<IamGroup>(caller, "iam:ListGroupPolicies", input.group_name, input.marker, input.max_items)?;
        Ok(paged!(ListGroupPoliciesResponse, policy_names, page))
    }

    async fn list_role_policies(
        &self,
        caller: &Caller,
        input: api::ListRolePoliciesRequest,
    ) -> Result<api::ListRolePoliciesResponse, ApiError> {
        let page = self.list_inline::<IamRole>(caller, "iam:ListRolePolicies", input.role_name, input.marker, input.max_items)?;
        Ok(paged!(ListRolePoliciesResponse, policy_names, page))
    }

    async fn list_user_policies(
        &self,
        caller: &Caller,
        input: api::ListUserPoliciesRequest,
    ) -> Result<api::ListUserPoliciesResponse, ApiError> {
        let page = self.list_inline::<IamUser>(caller, "iam:ListUserPolicies", input.user_name, input.marker, input.max_items)?;
        Ok(paged!(ListUserPoliciesResponse, policy_names, page))
    }

    async fn put_group_policy(
        &self,
        caller: &Caller,
        input: api::PutGroupPolicyRequest,
    ) -> Result<(), ApiError> {
        self.put_inline::<IamGroup>(caller, "iam:PutGroupPolicy", input.group_name, input.policy_name, input.policy_document).await
    }

    async fn put_role_policy(
        &self,
        caller: &Caller,
        input: api::PutRolePolicyRequest,
    ) -> Result<(), ApiError> {
        self.put_inline::<IamRole>(caller, "iam:PutRolePolicy", input.role_name, input.policy_name, input.policy_document).await
    }

    async fn put_user_policy(
        &self,
        caller: &Caller,
        input: api::PutUserPolicyRequest,
    ) -> Result<(), ApiError> {
        self.put_inline::<IamUser>(caller, "iam:PutUserPolicy", input.user_name, input.policy_name, input.policy_document).await
    }
}
