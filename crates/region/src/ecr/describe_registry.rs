//! DescribeRegistry. Nothing is replicated, so that there are no rules.

use aws_wire::{ApiError, Caller};
use ecr_api::{DescribeRegistryRequest, DescribeRegistryResponse, ReplicationConfiguration};

use crate::region::Region;

pub(super) async fn describe_registry(
    _: &Region,
    caller: &Caller,
    _: DescribeRegistryRequest,
) -> Result<DescribeRegistryResponse, ApiError> {
    Ok(DescribeRegistryResponse {
        registry_id: Some(caller.account.to_string()),
        replication_configuration: Some(ReplicationConfiguration { rules: Some(Vec::new()) }),
    })
}
