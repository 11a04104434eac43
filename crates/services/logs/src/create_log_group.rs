//! CreateLogGroup.

use std::collections::BTreeMap;

use ::logs::{GroupSettings, Logs};
use aws_wire::{ApiError, Caller};
use control::Control;
use logs_api::CreateLogGroupRequest;

use super::common::{class_of, required, to_api};
use super::{keys, tags};

pub(super) async fn create_log_group(
    control: &Control,
    logs: &Logs,
    caller: &Caller,
    input: CreateLogGroupRequest,
) -> Result<(), ApiError> {
    let name = required("logGroupName", input.log_group_name)?;
    let key = input.kms_key_id.map(|key| keys::check(control, caller.account, &name, &key));
    let class = class_of(input.log_group_class.as_ref())?.unwrap_or_default();
    tags::check(input.tags.as_ref().unwrap_or(&BTreeMap::new()))?;
    let settings = GroupSettings {
        retention_days: None,
        tags: input.tags.unwrap_or_default(),
        deletion_protected: input.deletion_protection_enabled.unwrap_or(false),
        key: key.transpose()?,
        policy: None,
    };
    logs.create_group(caller.account, name, class, settings).await.map_err(to_api)
}
