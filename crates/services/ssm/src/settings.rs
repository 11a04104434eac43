//! Settings of the service, of which an account has those that say what is so here. Each has its default value and can be
//! put to no other.

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::AccountId;
use ssm_api as api;

use crate::Ssm;
use crate::errors::{invalid, named};

/// Each setting, its value, and why it is that.
const SETTINGS: &[(&str, &str, &str)] = &[
    (
        "/ssm/managed-instance/activation-tier",
        "standard",
        "there is one kind of managed instances, and up to 1,000 of them",
    ),
    (
        "/ssm/parameter-store/default-parameter-tier",
        "Standard",
        "a parameter is of another tier if PutParameter says so",
    ),
    (
        "/ssm/parameter-store/high-throughput-enabled",
        "false",
        "there is no limit on requests a second that it would raise",
    ),
];

/// What is between a setting's ARN and its id.
const IN_ARN: &str = ":servicesetting";

/// A setting's id, of which an ARN may say more.
fn id_of(given: &str) -> &str {
    given.split_once(IN_ARN).map_or(given, |(_, id)| id)
}

impl Ssm {
    fn setting_arn(&self, account: AccountId, id: &str) -> String {
        format!("arn:aws:ssm:{}:{account}{IN_ARN}{id}", self.control.config.region)
    }

    /// The setting that a request names, and why it is as it is, for a caller that may do this with it.
    fn setting(
        &self,
        caller: &Caller,
        action: &'static str,
        given: Option<String>,
    ) -> Result<(api::ServiceSetting, &'static str), ApiError> {
        let given = given.unwrap_or_default();
        let id = id_of(&given);
        let arn = self.setting_arn(caller.account, id);
        self.control.read(caller, &Permission::to(action).on(arn.as_str()))?;
        let known = SETTINGS.iter().find(|(known, ..)| *known == id);
        let is_ours = given == id || given == arn;
        let Some((id, value, why)) = known.filter(|_| is_ours) else {
            let message = format!("The service setting {given} is not available in this region.");
            return Err(named("ServiceSettingNotFound", message));
        };
        let shown = api::ServiceSetting {
            setting_id: Some((*id).to_owned()),
            setting_value: Some((*value).to_owned()),
            last_modified_user: Some("System".to_owned()),
            arn: Some(arn),
            status: Some("Default".to_owned()),
            ..api::ServiceSetting::default()
        };
        Ok((shown, why))
    }
}

pub(crate) async fn get_service_setting(
    it: &Ssm,
    caller: &Caller,
    input: api::GetServiceSettingRequest,
) -> Result<api::GetServiceSettingResult, ApiError> {
    let (setting, _) = it.setting(caller, "ssm:GetServiceSetting", input.setting_id)?;
    Ok(api::GetServiceSettingResult { service_setting: Some(setting) })
}

/// What a setting is already it may be made.
pub(crate) async fn update_service_setting(
    it: &Ssm,
    caller: &Caller,
    input: api::UpdateServiceSettingRequest,
) -> Result<api::UpdateServiceSettingResult, ApiError> {
    let (setting, why) = it.setting(caller, "ssm:UpdateServiceSetting", input.setting_id)?;
    if setting.setting_value == input.setting_value {
        return Ok(api::UpdateServiceSettingResult {});
    }
    let (id, value) =
        (setting.setting_id.unwrap_or_default(), setting.setting_value.unwrap_or_default());
    Err(invalid(format!("The service setting {id} can only be {value} in this region: {why}.")))
}

pub(crate) async fn reset_service_setting(
    it: &Ssm,
    caller: &Caller,
    input: api::ResetServiceSettingRequest,
) -> Result<api::ResetServiceSettingResult, ApiError> {
    let (setting, _) = it.setting(caller, "ssm:ResetServiceSetting", input.setting_id)?;
    Ok(api::ResetServiceSettingResult { service_setting: Some(setting) })
}
