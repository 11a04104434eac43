//! DescribeRegistry and PutReplicationConfiguration. Nothing is replicated, so that there are no rules, and none can be put.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecr_api::{
    DescribeRegistryRequest, DescribeRegistryResponse, PutReplicationConfigurationRequest,
    PutReplicationConfigurationResponse, ReplicationConfiguration,
};

use crate::Ecr;
use crate::errors::Refusal;

/// Of every registry.
fn no_rules() -> Option<ReplicationConfiguration> {
    Some(ReplicationConfiguration { rules: Some(Vec::new()) })
}

pub(super) async fn describe_registry(
    ecr: &Ecr,
    caller: &Caller,
    _: DescribeRegistryRequest,
) -> Result<DescribeRegistryResponse, ApiError> {
    let permission = Permission::to("ecr:DescribeRegistry").on("*");
    ecr.control.read(caller, &permission)?;
    Ok(DescribeRegistryResponse {
        registry_id: Some(caller.account.to_string()),
        replication_configuration: no_rules(),
    })
}

/// Who has rules taken away, or says that there are to be none, has what was asked for.
pub(super) async fn put_replication_configuration(
    ecr: &Ecr,
    caller: &Caller,
    input: PutReplicationConfigurationRequest,
) -> Result<PutReplicationConfigurationResponse, ApiError> {
    let permission = Permission::to("ecr:PutReplicationConfiguration").on("*");
    ecr.control.read(caller, &permission)?;
    let rules = input.replication_configuration.and_then(|it| it.rules).unwrap_or_default();
    if !rules.is_empty() {
        let why = "Replication of images is not available in Longshore yet: replicationConfiguration.rules can only be empty.";
        return Err(Refusal::Unsupported(why).into());
    }
    Ok(PutReplicationConfigurationResponse { replication_configuration: no_rules() })
}
