//! Every operation, and which function does it. What users, groups and roles have alike is done by one for all
//! three (`holder`).

use aws_wire::{ApiError, Caller};
use iam_api as api;
use model::{IamGroup, IamRole, IamUser};

use crate::pages::paged;
use crate::{
    Iam, absent, account, devices, groups, linked, logins, passwords, policies, profiles,
    providers, report, roles, simulate, users,
};

iam_api::forward! {
    Iam {
        get_server_certificate => absent::get_server_certificate;
        update_server_certificate => absent::update_server_certificate;
        delete_server_certificate => absent::delete_server_certificate;
        list_server_certificates => absent::list_server_certificates;
        list_server_certificate_tags => absent::list_server_certificate_tags;
        tag_server_certificate => absent::tag_server_certificate;
        untag_server_certificate => absent::untag_server_certificate;
        get_saml_provider => absent::get_saml_provider;
        update_saml_provider => absent::update_saml_provider;
        delete_saml_provider => absent::delete_saml_provider;
        list_saml_providers => absent::list_saml_providers;
        list_saml_provider_tags => absent::list_saml_provider_tags;
        tag_saml_provider => absent::tag_saml_provider;
        untag_saml_provider => absent::untag_saml_provider;
        change_password => logins::change_password;
        create_login_profile => logins::create_login_profile;
        delete_login_profile => logins::delete_login_profile;
        update_login_profile => logins::update_login_profile;
        create_virtual_mfa_device => devices::create_virtual_mfa_device;
        deactivate_mfa_device => devices::deactivate_mfa_device;
        delete_virtual_mfa_device => devices::delete_virtual_mfa_device;
        enable_mfa_device => devices::enable_mfa_device;
        get_mfa_device => devices::get_mfa_device;
        list_mfa_device_tags => devices::list_mfa_device_tags;
        list_virtual_mfa_devices => devices::list_virtual_mfa_devices;
        resync_mfa_device => devices::resync_mfa_device;
        tag_mfa_device => devices::tag_mfa_device;
        untag_mfa_device => devices::untag_mfa_device;
        add_client_id_to_open_id_connect_provider => providers::add_client_id_to_open_id_connect_provider;
        add_role_to_instance_profile => profiles::add_role_to_instance_profile;
        add_user_to_group => groups::add_user_to_group;
        create_access_key => users::create_access_key;
        create_account_alias => account::create_account_alias;
        create_group => groups::create_group;
        create_instance_profile => profiles::create_instance_profile;
        create_open_id_connect_provider => providers::create_open_id_connect_provider;
        create_policy => policies::create_policy;
        create_policy_version => policies::create_policy_version;
        create_role => roles::create_role;
        create_service_linked_role => linked::create_service_linked_role;
        create_user => users::create_user;
        delete_access_key => users::delete_access_key;
        delete_account_alias => account::delete_account_alias;
        delete_account_password_policy => passwords::delete_account_password_policy;
        update_account_password_policy => passwords::update_account_password_policy;
        delete_group => groups::delete_group;
        delete_instance_profile => profiles::delete_instance_profile;
        delete_open_id_connect_provider => providers::delete_open_id_connect_provider;
        delete_policy => policies::delete_policy;
        delete_policy_version => policies::delete_policy_version;
        delete_role => roles::delete_role;
        delete_role_permissions_boundary => roles::delete_role_permissions_boundary;
        delete_service_linked_role => linked::delete_service_linked_role;
        delete_user => users::delete_user;
        delete_user_permissions_boundary => users::delete_user_permissions_boundary;
        get_access_key_last_used => users::get_access_key_last_used;
        get_account_authorization_details => account::get_account_authorization_details;
        get_context_keys_for_custom_policy => simulate::get_context_keys_for_custom_policy;
        get_context_keys_for_principal_policy => simulate::get_context_keys_for_principal_policy;
        get_group => groups::get_group;
        get_instance_profile => profiles::get_instance_profile;
        get_login_profile => logins::get_login_profile;
        get_open_id_connect_provider => providers::get_open_id_connect_provider;
        get_policy => policies::get_policy;
        get_policy_version => policies::get_policy_version;
        get_role => roles::get_role;
        get_service_linked_role_deletion_status => linked::get_service_linked_role_deletion_status;
        get_user => users::get_user;
        list_access_keys => users::list_access_keys;
        list_account_aliases => account::list_account_aliases;
        list_entities_for_policy => policies::list_entities_for_policy;
        list_groups => groups::list_groups;
        list_groups_for_user => groups::list_groups_for_user;
        list_instance_profile_tags => profiles::list_instance_profile_tags;
        list_instance_profiles => profiles::list_instance_profiles;
        list_instance_profiles_for_role => profiles::list_instance_profiles_for_role;
        list_mfa_devices => devices::list_mfa_devices;
        list_open_id_connect_provider_tags => providers::list_open_id_connect_provider_tags;
        list_open_id_connect_providers => providers::list_open_id_connect_providers;
        list_policies => policies::list_policies;
        list_policy_tags => policies::list_policy_tags;
        list_policy_versions => policies::list_policy_versions;
        list_role_tags => roles::list_role_tags;
        list_roles => roles::list_roles;
        list_ssh_public_keys => users::list_ssh_public_keys;
        list_service_specific_credentials => users::list_service_specific_credentials;
        list_signing_certificates => users::list_signing_certificates;
        list_user_tags => users::list_user_tags;
        list_users => users::list_users;
        put_role_permissions_boundary => roles::put_role_permissions_boundary;
        put_user_permissions_boundary => users::put_user_permissions_boundary;
        remove_client_id_from_open_id_connect_provider => providers::remove_client_id_from_open_id_connect_provider;
        remove_role_from_instance_profile => profiles::remove_role_from_instance_profile;
        remove_user_from_group => groups::remove_user_from_group;
        set_default_policy_version => policies::set_default_policy_version;
        simulate_custom_policy => simulate::simulate_custom_policy;
        simulate_principal_policy => simulate::simulate_principal_policy;
        tag_instance_profile => profiles::tag_instance_profile;
        tag_open_id_connect_provider => providers::tag_open_id_connect_provider;
        tag_policy => policies::tag_policy;
        tag_role => roles::tag_role;
        tag_user => users::tag_user;
        untag_instance_profile => profiles::untag_instance_profile;
        untag_open_id_connect_provider => providers::untag_open_id_connect_provider;
        untag_policy => policies::untag_policy;
        untag_role => roles::untag_role;
        untag_user => users::untag_user;
        update_access_key => users::update_access_key;
        update_assume_role_policy => roles::update_assume_role_policy;
        update_group => groups::update_group;
        update_open_id_connect_provider_thumbprint => providers::update_open_id_connect_provider_thumbprint;
        update_role => roles::update_role;
        update_role_description => roles::update_role_description;
        update_user => users::update_user;
        generate_credential_report => report::generate_credential_report;
        get_credential_report => report::get_credential_report;
        get_account_summary => account::get_account_summary;
        get_account_password_policy => passwords::get_account_password_policy;
        attach_group_policy => attach_group_policy;
        attach_role_policy => attach_role_policy;
        attach_user_policy => attach_user_policy;
        delete_group_policy => delete_group_policy;
        delete_role_policy => delete_role_policy;
        delete_user_policy => delete_user_policy;
        detach_group_policy => detach_group_policy;
        detach_role_policy => detach_role_policy;
        detach_user_policy => detach_user_policy;
        get_group_policy => get_group_policy;
        get_role_policy => get_role_policy;
        get_user_policy => get_user_policy;
        list_attached_group_policies => list_attached_group_policies;
        list_attached_role_policies => list_attached_role_policies;
        list_attached_user_policies => list_attached_user_policies;
        list_group_policies => list_group_policies;
        list_role_policies => list_role_policies;
        list_user_policies => list_user_policies;
        put_group_policy => put_group_policy;
        put_role_policy => put_role_policy;
        put_user_policy => put_user_policy;
    }
}

async fn attach_group_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::AttachGroupPolicyRequest,
) -> Result<(), ApiError> {
    iam.attach::<IamGroup>(caller, "iam:AttachGroupPolicy", input.group_name, input.policy_arn)
        .await
}

async fn attach_role_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::AttachRolePolicyRequest,
) -> Result<(), ApiError> {
    iam.attach::<IamRole>(caller, "iam:AttachRolePolicy", input.role_name, input.policy_arn).await
}

async fn attach_user_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::AttachUserPolicyRequest,
) -> Result<(), ApiError> {
    iam.attach::<IamUser>(caller, "iam:AttachUserPolicy", input.user_name, input.policy_arn).await
}

async fn delete_group_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteGroupPolicyRequest,
) -> Result<(), ApiError> {
    iam.delete_inline::<IamGroup>(
        caller,
        "iam:DeleteGroupPolicy",
        input.group_name,
        input.policy_name,
    )
    .await
}

async fn delete_role_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteRolePolicyRequest,
) -> Result<(), ApiError> {
    iam.delete_inline::<IamRole>(caller, "iam:DeleteRolePolicy", input.role_name, input.policy_name)
        .await
}

async fn delete_user_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteUserPolicyRequest,
) -> Result<(), ApiError> {
    iam.delete_inline::<IamUser>(caller, "iam:DeleteUserPolicy", input.user_name, input.policy_name)
        .await
}

async fn detach_group_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::DetachGroupPolicyRequest,
) -> Result<(), ApiError> {
    iam.detach::<IamGroup>(caller, "iam:DetachGroupPolicy", input.group_name, input.policy_arn)
        .await
}

async fn detach_role_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::DetachRolePolicyRequest,
) -> Result<(), ApiError> {
    iam.detach::<IamRole>(caller, "iam:DetachRolePolicy", input.role_name, input.policy_arn).await
}

async fn detach_user_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::DetachUserPolicyRequest,
) -> Result<(), ApiError> {
    iam.detach::<IamUser>(caller, "iam:DetachUserPolicy", input.user_name, input.policy_arn).await
}

async fn get_group_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::GetGroupPolicyRequest,
) -> Result<api::GetGroupPolicyResponse, ApiError> {
    let (name, policy_name) =
        (input.group_name.unwrap_or_default(), input.policy_name.unwrap_or_default());
    let document = iam.get_inline::<IamGroup>(caller, "iam:GetGroupPolicy", &name, &policy_name)?;
    Ok(api::GetGroupPolicyResponse {
        group_name: Some(name),
        policy_name: Some(policy_name),
        policy_document: Some(document),
    })
}

async fn get_role_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::GetRolePolicyRequest,
) -> Result<api::GetRolePolicyResponse, ApiError> {
    let (name, policy_name) =
        (input.role_name.unwrap_or_default(), input.policy_name.unwrap_or_default());
    let document = iam.get_inline::<IamRole>(caller, "iam:GetRolePolicy", &name, &policy_name)?;
    Ok(api::GetRolePolicyResponse {
        role_name: Some(name),
        policy_name: Some(policy_name),
        policy_document: Some(document),
    })
}

async fn get_user_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::GetUserPolicyRequest,
) -> Result<api::GetUserPolicyResponse, ApiError> {
    let (name, policy_name) =
        (input.user_name.unwrap_or_default(), input.policy_name.unwrap_or_default());
    let document = iam.get_inline::<IamUser>(caller, "iam:GetUserPolicy", &name, &policy_name)?;
    Ok(api::GetUserPolicyResponse {
        user_name: Some(name),
        policy_name: Some(policy_name),
        policy_document: Some(document),
    })
}

async fn list_attached_group_policies(
    iam: &Iam,
    caller: &Caller,
    input: api::ListAttachedGroupPoliciesRequest,
) -> Result<api::ListAttachedGroupPoliciesResponse, ApiError> {
    let page = iam.list_attached::<IamGroup>(
        caller,
        "iam:ListAttachedGroupPolicies",
        input.group_name,
        input.path_prefix,
        input.marker,
        input.max_items,
    )?;
    Ok(paged!(ListAttachedGroupPoliciesResponse, attached_policies, page))
}

async fn list_attached_role_policies(
    iam: &Iam,
    caller: &Caller,
    input: api::ListAttachedRolePoliciesRequest,
) -> Result<api::ListAttachedRolePoliciesResponse, ApiError> {
    let page = iam.list_attached::<IamRole>(
        caller,
        "iam:ListAttachedRolePolicies",
        input.role_name,
        input.path_prefix,
        input.marker,
        input.max_items,
    )?;
    Ok(paged!(ListAttachedRolePoliciesResponse, attached_policies, page))
}

async fn list_attached_user_policies(
    iam: &Iam,
    caller: &Caller,
    input: api::ListAttachedUserPoliciesRequest,
) -> Result<api::ListAttachedUserPoliciesResponse, ApiError> {
    let page = iam.list_attached::<IamUser>(
        caller,
        "iam:ListAttachedUserPolicies",
        input.user_name,
        input.path_prefix,
        input.marker,
        input.max_items,
    )?;
    Ok(paged!(ListAttachedUserPoliciesResponse, attached_policies, page))
}

async fn list_group_policies(
    iam: &Iam,
    caller: &Caller,
    input: api::ListGroupPoliciesRequest,
) -> Result<api::ListGroupPoliciesResponse, ApiError> {
    let page = iam.list_inline::<IamGroup>(
        caller,
        "iam:ListGroupPolicies",
        input.group_name,
        input.marker,
        input.max_items,
    )?;
    Ok(paged!(ListGroupPoliciesResponse, policy_names, page))
}

async fn list_role_policies(
    iam: &Iam,
    caller: &Caller,
    input: api::ListRolePoliciesRequest,
) -> Result<api::ListRolePoliciesResponse, ApiError> {
    let page = iam.list_inline::<IamRole>(
        caller,
        "iam:ListRolePolicies",
        input.role_name,
        input.marker,
        input.max_items,
    )?;
    Ok(paged!(ListRolePoliciesResponse, policy_names, page))
}

async fn list_user_policies(
    iam: &Iam,
    caller: &Caller,
    input: api::ListUserPoliciesRequest,
) -> Result<api::ListUserPoliciesResponse, ApiError> {
    let page = iam.list_inline::<IamUser>(
        caller,
        "iam:ListUserPolicies",
        input.user_name,
        input.marker,
        input.max_items,
    )?;
    Ok(paged!(ListUserPoliciesResponse, policy_names, page))
}

async fn put_group_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::PutGroupPolicyRequest,
) -> Result<(), ApiError> {
    iam.put_inline::<IamGroup>(
        caller,
        "iam:PutGroupPolicy",
        input.group_name,
        input.policy_name,
        input.policy_document,
    )
    .await
}

async fn put_role_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::PutRolePolicyRequest,
) -> Result<(), ApiError> {
    iam.put_inline::<IamRole>(
        caller,
        "iam:PutRolePolicy",
        input.role_name,
        input.policy_name,
        input.policy_document,
    )
    .await
}

async fn put_user_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::PutUserPolicyRequest,
) -> Result<(), ApiError> {
    iam.put_inline::<IamUser>(
        caller,
        "iam:PutUserPolicy",
        input.user_name,
        input.policy_name,
        input.policy_document,
    )
    .await
}
