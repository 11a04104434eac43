//! Account settings: PutAccountSetting, PutAccountSettingDefault, DeleteAccountSetting,
//! ListAccountSettings. What the root user chooses is what everyone without an own value has.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::access::principal_arn;
use control::paging::{PageRequest, page};
use ecs_api as api;
use ecs_api::SettingType;
use longshore_types::Arn;
use model::{AccountSetting, Key, SettingId, SettingPrincipal, View};
use store::Batch;

use crate::Ecs;
use crate::errors::Refusal;

/// A setting that there is: its values, the first of which is the default.
struct Known {
    name: &'static str,
    values: &'static [&'static str],
    /// Shown, but not to be changed by the account.
    is_managed: bool,
}

const fn known(name: &'static str, values: &'static [&'static str]) -> Known {
    Known { name, values, is_managed: false }
}

/// By name.
const KNOWN: &[Known] = &[
    known("awsvpcTrunking", &["disabled", "enabled"]),
    known("containerInsights", &["disabled", "enabled", "enhanced"]),
    known("containerInstanceLongArnFormat", &["enabled", "disabled"]),
    known("containerLongArnFormat", &["enabled", "disabled"]),
    known("defaultLogDriverMode", &["non-blocking", "blocking"]),
    known("dualStackIPv6", &["disabled", "enabled"]),
    known("fargateEventWindows", &["disabled", "enabled"]),
    known("fargateFIPSMode", &["disabled", "enabled"]),
    known("fargateTaskRetirementWaitPeriod", &["7", "0", "14"]),
    Known { name: "guardDutyActivate", values: &["off", "on"], is_managed: true },
    known("serviceLongArnFormat", &["enabled", "disabled"]),
    known("tagResourceAuthorization", &["off", "on"]),
    known("taskLongArnFormat", &["enabled", "disabled"]),
];

/// Amazon's sentence lists these, although it knows more.
const NAMES_TOLD: &str = "serviceLongArnFormat,taskLongArnFormat,containerInstanceLongArnFormat,\
                          containerLongArnFormat,awsvpcTrunking,containerInsights,dualStackIPv6";

const PAGE_SIZE: usize = 10;

/// The value that counts for a caller: the own one, else the account's, else the built-in one.
pub(crate) fn effective(view: &View, caller: &Caller, name: &str) -> String {
    effective_of(view, caller, &principal_of(caller, &principal_arn(caller)), name)
}

fn effective_of(view: &View, caller: &Caller, principal: &SettingPrincipal, name: &str) -> String {
    let stored = |principal: &SettingPrincipal| {
        let id = SettingId { principal: principal.clone(), name: name.to_owned() };
        view.account_settings.get(caller.account, &id).map(|row| row.value.clone())
    };
    let built_in = || KNOWN.iter().find(|known| known.name == name).map(|known| known.values[0]);
    stored(principal)
        .or_else(|| stored(&SettingPrincipal::Default))
        .or_else(|| built_in().map(str::to_owned))
        .unwrap_or_default()
}

/// The root user's settings are the account's defaults.
fn principal_of(caller: &Caller, arn: &str) -> SettingPrincipal {
    if arn == root_arn(caller) {
        SettingPrincipal::Default
    } else {
        SettingPrincipal::Own(arn.to_owned())
    }
}

fn root_arn(caller: &Caller) -> String {
    format!("arn:aws:iam::{}:root", caller.account)
}

fn find(name: Option<&api::SettingName>) -> Result<&'static Known, ApiError> {
    let name = name.map_or("", api::SettingName::as_str);
    KNOWN
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| Refusal::invalid(format!("{name} should be one of [{NAMES_TOLD}]")).into())
}

fn check_value(known: &Known, value: Option<String>) -> Result<String, ApiError> {
    if known.is_managed {
        let message = format!("The setting {} is managed by AWS and can not be set.", known.name);
        return Err(Refusal::invalid(message).into());
    }
    let value = value.unwrap_or_default();
    if !known.values.contains(&value.as_str()) {
        let values = known.values.join(",");
        let message = format!("{} should be one of [{values}]", known.name);
        return Err(Refusal::invalid(message).into());
    }
    Ok(value)
}

/// Whose setting a request is about: the caller's own unless it names a principal of its account.
fn read_principal(caller: &Caller, given: Option<&str>) -> Result<String, ApiError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Ok(principal_arn(caller));
    };
    let is_ours = Arn::parse(given)
        .is_ok_and(|arn| arn.service == "iam" && arn.account == caller.account.as_str());
    if !is_ours {
        return Err(Refusal::invalid(format!("Invalid principalArn: {given}")).into());
    }
    Ok(given.to_owned())
}

fn render(name: &str, value: String, principal_arn: String, is_managed: bool) -> api::Setting {
    let r#type = if is_managed { SettingType::AwsManaged } else { SettingType::User };
    api::Setting {
        name: Some(name.into()),
        value: Some(value),
        principal_arn: Some(principal_arn),
        r#type: Some(r#type),
    }
}

fn about_setting(action: &'static str, name: Option<&api::SettingName>) -> Permission {
    let permission = Permission::to(action).on("*");
    match name {
        Some(name) => permission.with("ecs:account-setting", name.as_str().to_owned()),
        None => permission,
    }
}

pub(super) async fn handle_put(
    ecs: &Ecs,
    caller: &Caller,
    input: api::PutAccountSettingRequest,
) -> Result<api::PutAccountSettingResponse, ApiError> {
    let arn = read_principal(caller, input.principal_arn.as_deref())?;
    let permission = about_setting("ecs:PutAccountSetting", input.name.as_ref());
    let setting = put(ecs, caller, &permission, input.name.as_ref(), input.value, arn).await?;
    Ok(api::PutAccountSettingResponse { setting: Some(setting) })
}

pub(super) async fn handle_put_default(
    ecs: &Ecs,
    caller: &Caller,
    input: api::PutAccountSettingDefaultRequest,
) -> Result<api::PutAccountSettingDefaultResponse, ApiError> {
    let arn = root_arn(caller);
    let permission = about_setting("ecs:PutAccountSettingDefault", input.name.as_ref());
    let setting = put(ecs, caller, &permission, input.name.as_ref(), input.value, arn).await?;
    Ok(api::PutAccountSettingDefaultResponse { setting: Some(setting) })
}

async fn put(
    ecs: &Ecs,
    caller: &Caller,
    permission: &Permission,
    name: Option<&api::SettingName>,
    value: Option<String>,
    arn: String,
) -> Result<api::Setting, ApiError> {
    let known = find(name)?;
    let value = check_value(known, value)?;
    let setting = SettingId { principal: principal_of(caller, &arn), name: known.name.to_owned() };
    let row = AccountSetting { account: caller.account, setting, value: value.clone() };
    ecs.control
        .change(caller, permission, |view, _| {
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, ()))
        })
        .await?;
    Ok(render(known.name, value, arn, false))
}

pub(super) async fn handle_delete(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeleteAccountSettingRequest,
) -> Result<api::DeleteAccountSettingResponse, ApiError> {
    let permission = about_setting("ecs:DeleteAccountSetting", input.name.as_ref());
    let arn = read_principal(caller, input.principal_arn.as_deref())?;
    let known = find(input.name.as_ref())?;
    let id = SettingId { principal: principal_of(caller, &arn), name: known.name.to_owned() };
    let value = ecs
        .control
        .change(caller, &permission, |view, _| {
            let mut batch = Batch::on(view);
            let value = effective_of(view, caller, &id.principal, known.name);
            if view.account_settings.get(caller.account, &id).is_some() {
                batch.delete(Key::AccountSetting(caller.account, id.clone()));
            }
            Ok((batch, value))
        })
        .await?;
    let setting = render(known.name, value, arn, known.is_managed);
    Ok(api::DeleteAccountSettingResponse { setting: Some(setting) })
}

pub(super) fn handle_list(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListAccountSettingsRequest,
) -> Result<api::ListAccountSettingsResponse, ApiError> {
    let permission = Permission::to("ecs:ListAccountSettings").on("*");
    let wanted = input.name.as_ref().map(|name| find(Some(name))).transpose()?;
    let arn = read_principal(caller, input.principal_arn.as_deref())?;
    let principal = principal_of(caller, &arn);
    let is_effective = input.effective_settings.unwrap_or(false);
    let view = ecs.control.read(caller, &permission)?;
    let settings = KNOWN
        .iter()
        .filter(|known| wanted.is_none_or(|wanted| wanted.name == known.name))
        .filter_map(|known| {
            let id = SettingId { principal: principal.clone(), name: known.name.to_owned() };
            let is_set = view.account_settings.get(caller.account, &id).is_some();
            let value = effective_of(&view, caller, &principal, known.name);
            let is_asked = input.value.as_ref().is_none_or(|wanted| *wanted == value);
            ((is_set || is_effective) && is_asked).then(|| {
                let shown = render(known.name, value, arn.clone(), known.is_managed);
                (known.name.to_owned(), shown)
            })
        });
    let request = PageRequest::new(&input.next_token, input.max_results);
    let request = request.default_size(PAGE_SIZE).at_most(PAGE_SIZE);
    let page = page(request, settings)?;
    Ok(api::ListAccountSettingsResponse { settings: Some(page.items), next_token: page.next_token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEcs;

    async fn put_own(
        world: &TestEcs,
        name: &str,
        value: &str,
        principal: Option<&str>,
    ) -> Result<api::Setting, ApiError> {
        let input = api::PutAccountSettingRequest {
            name: Some(name.into()),
            value: Some(value.to_owned()),
            principal_arn: principal.map(str::to_owned),
        };
        Ok(handle_put(&world.ecs, &world.root(), input).await?.setting.unwrap())
    }

    fn list(world: &TestEcs, input: api::ListAccountSettingsRequest) -> Vec<api::Setting> {
        handle_list(&world.ecs, &world.root(), input).unwrap().settings.unwrap()
    }

    #[test]
    fn the_table_is_in_the_order_that_pages_need() {
        assert!(KNOWN.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[tokio::test]
    async fn an_own_value_hides_the_accounts_and_gives_way_when_deleted() {
        let world = TestEcs::new();
        let user = "arn:aws:iam::000000000000:user/ann";
        let input = api::PutAccountSettingDefaultRequest {
            name: Some("containerInsights".into()),
            value: Some("enabled".to_owned()),
        };
        let answer = handle_put_default(&world.ecs, &world.root(), input).await.unwrap();
        let root = "arn:aws:iam::000000000000:root";
        assert_eq!(answer.setting.unwrap().principal_arn.as_deref(), Some(root));
        assert_eq!(
            effective(&world.ecs.control.view(), &world.root(), "containerInsights"),
            "enabled"
        );

        put_own(&world, "containerInsights", "enhanced", Some(user)).await.unwrap();
        let of_user = || {
            let input = api::ListAccountSettingsRequest {
                name: Some("containerInsights".into()),
                principal_arn: Some(user.to_owned()),
                effective_settings: Some(true),
                ..Default::default()
            };
            list(&world, input).remove(0).value.unwrap()
        };
        assert_eq!(of_user(), "enhanced");
        let input = api::DeleteAccountSettingRequest {
            name: Some("containerInsights".into()),
            principal_arn: Some(user.to_owned()),
        };
        handle_delete(&world.ecs, &world.root(), input).await.unwrap();
        assert_eq!(of_user(), "enabled");
    }

    #[tokio::test]
    async fn only_what_was_set_is_listed_unless_effective_ones_are_asked_for() {
        let world = TestEcs::new();
        assert_eq!(list(&world, api::ListAccountSettingsRequest::default()), []);
        put_own(&world, "awsvpcTrunking", "enabled", None).await.unwrap();
        let listed = list(&world, api::ListAccountSettingsRequest::default());
        assert_eq!(listed[0].name, Some("awsvpcTrunking".into()));
        let mut all = api::ListAccountSettingsRequest {
            effective_settings: Some(true),
            max_results: Some(10),
            ..Default::default()
        };
        let first = handle_list(&world.ecs, &world.root(), all.clone()).unwrap();
        assert_eq!(first.settings.map(|page| page.len()), Some(10));
        let rest = api::ListAccountSettingsRequest { next_token: first.next_token, ..all.clone() };
        assert_eq!(list(&world, rest).len(), KNOWN.len() - 10);
        for outside in [0, 11] {
            all.max_results = Some(outside);
            let error = handle_list(&world.ecs, &world.root(), all.clone()).unwrap_err();
            assert_eq!(error.message, "maxResults must be between 1 and 10.", "{outside}");
        }
    }

    #[tokio::test]
    async fn unknown_names_and_values_are_refused_in_amazons_words() {
        let world = TestEcs::new();
        let error = put_own(&world, "unknown", "enabled", None).await.unwrap_err();
        assert_eq!(
            error.message,
            "unknown should be one of [serviceLongArnFormat,taskLongArnFormat,\
             containerInstanceLongArnFormat,containerLongArnFormat,awsvpcTrunking,\
             containerInsights,dualStackIPv6]"
        );
        assert!(put_own(&world, "awsvpcTrunking", "maybe", None).await.is_err());
        assert!(put_own(&world, "guardDutyActivate", "on", None).await.is_err());
        let other = Some("arn:aws:iam::111111111111:user/bob");
        assert!(put_own(&world, "awsvpcTrunking", "enabled", other).await.is_err());
    }
}
