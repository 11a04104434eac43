//! A registry's settings, which are what it does: the one value that each has may be put again, and no other.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecr_api::{
    GetAccountSettingRequest, GetAccountSettingResponse, PutAccountSettingRequest,
    PutAccountSettingResponse,
};

use crate::Ecr;
use crate::errors::Refusal;

/// Each setting, what it is here, and why it is nothing else.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("BASIC_SCAN_TYPE_VERSION", "AWS_NATIVE", "basic scans are the registry's own"),
    (
        "BLOB_MOUNTING",
        "ENABLED",
        "layers are shared by repositories between which a caller may mount them",
    ),
    ("REGISTRY_POLICY_SCOPE", "V2", "the registry's policy is asked about every action of ECR"),
];

fn setting(name: &str) -> Result<(&'static str, &'static str), ApiError> {
    let known = SETTINGS.iter().find(|(known, ..)| *known == name);
    known.map(|(_, value, why)| (*value, *why)).ok_or_else(|| {
        let names: Vec<&str> = SETTINGS.iter().map(|(known, ..)| *known).collect();
        let names = names.join(", ");
        Refusal::parameter("name", format!("Member must satisfy enum value set: [{names}]")).into()
    })
}

pub(super) async fn get_account_setting(
    ecr: &Ecr,
    caller: &Caller,
    input: GetAccountSettingRequest,
) -> Result<GetAccountSettingResponse, ApiError> {
    let name = input.name.unwrap_or_default();
    ecr.control.read(caller, &permission("ecr:GetAccountSetting", &name))?;
    let (value, _) = setting(&name)?;
    Ok(GetAccountSettingResponse { name: Some(name), value: Some(value.to_owned()) })
}

pub(super) async fn put_account_setting(
    ecr: &Ecr,
    caller: &Caller,
    input: PutAccountSettingRequest,
) -> Result<PutAccountSettingResponse, ApiError> {
    let name = input.name.unwrap_or_default();
    ecr.control.read(caller, &permission("ecr:PutAccountSetting", &name))?;
    let (value, why) = setting(&name)?;
    let given = input.value.unwrap_or_default();
    if given != value {
        let constraint = format!("{name} is {value} in Longshore: {why}");
        return Err(Refusal::parameter("value", constraint).into());
    }
    Ok(PutAccountSettingResponse { name: Some(name), value: Some(given) })
}

fn permission(action: &'static str, name: &str) -> Permission {
    Permission::to(action).on("*").with("ecr:AccountSetting", name.to_owned())
}

#[cfg(test)]
mod tests {
    use ecr_api::{
        DescribeRegistryRequest, Ecr as _, PutReplicationConfigurationRequest,
        ReplicationConfiguration, ReplicationRule,
    };

    use super::*;
    use crate::testing::TestEcr;

    #[tokio::test]
    async fn a_setting_is_what_the_registry_does() {
        let world = TestEcr::new();
        let get = |name: &str| GetAccountSettingRequest { name: Some(name.to_owned()) };
        let put = |name: &str, value: &str| PutAccountSettingRequest {
            name: Some(name.to_owned()),
            value: Some(value.to_owned()),
        };
        for (name, value, _) in SETTINGS {
            let got = world.ecr.get_account_setting(&world.root(), get(name)).await.unwrap();
            assert_eq!(got.value.as_deref(), Some(*value));
            world.ecr.put_account_setting(&world.root(), put(name, value)).await.unwrap();
            let other = world.ecr.put_account_setting(&world.root(), put(name, "V1")).await;
            let other = other.unwrap_err();
            assert_eq!(other.code, "InvalidParameterException");
            assert!(other.message.contains(value), "{}", other.message);
        }
        let none = world.ecr.get_account_setting(&world.root(), get("OTHER")).await.unwrap_err();
        assert_eq!(none.code, "InvalidParameterException");
        assert!(none.message.contains("REGISTRY_POLICY_SCOPE"), "{}", none.message);
    }

    #[tokio::test]
    async fn a_registry_can_be_told_to_replicate_nothing() {
        let world = TestEcr::new();
        let put = |rules: Vec<ReplicationRule>| PutReplicationConfigurationRequest {
            replication_configuration: Some(ReplicationConfiguration { rules: Some(rules) }),
        };
        let empty = Some(ReplicationConfiguration { rules: Some(Vec::new()) });
        let root = world.root();
        let done = world.ecr.put_replication_configuration(&root, put(Vec::new())).await.unwrap();
        assert_eq!(done.replication_configuration, empty);
        let rule = vec![ReplicationRule::default()];
        let refused = world.ecr.put_replication_configuration(&root, put(rule)).await.unwrap_err();
        assert!(refused.message.contains("replicationConfiguration.rules"), "{}", refused.message);
        let shown = world.ecr.describe_registry(&root, DescribeRegistryRequest::default()).await;
        assert_eq!(shown.unwrap().replication_configuration, empty);
    }
}
