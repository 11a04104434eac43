//! DescribeRegistry. Nothing is replicated, so that there are no rules.

use aws_wire::{ApiError, Caller};
use ecr_api::{DescribeRegistryRequest, DescribeRegistryResponse, ReplicationConfiguration};

use crate::Ecr;

pub(super) async fn describe_registry(
    _: &Ecr,
    caller: &Caller,
    _: DescribeRegistryRequest,
) -> Result<DescribeRegistryResponse, ApiError> {
    Ok(DescribeRegistryResponse {
        registry_id: Some(caller.account.to_string()),
        replication_configuration: Some(ReplicationConfiguration { rules: Some(Vec::new()) }),
    })
}
