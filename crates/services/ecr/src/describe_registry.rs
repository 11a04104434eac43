//! DescribeRegistry. Nothing is replicated, so that there are no rules.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecr_api::{DescribeRegistryRequest, DescribeRegistryResponse, ReplicationConfiguration};

use crate::Ecr;

pub(super) async fn describe_registry(
    ecr: &Ecr,
    caller: &Caller,
    _: DescribeRegistryRequest,
) -> Result<DescribeRegistryResponse, ApiError> {
    let permission = Permission::to("ecr:DescribeRegistry").on("*");
    ecr.control.read(caller, &permission)?;
    Ok(DescribeRegistryResponse {
        registry_id: Some(caller.account.to_string()),
        replication_configuration: Some(ReplicationConfiguration { rules: Some(Vec::new()) }),
    })
}
