//! The credential report: who of an account has which credentials, and when they were used.
//!
//! It is made when it is asked for, of the rows of that moment: there is no report that must be waited for, and none that
//! is out of date.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use bytes::Bytes;
use control::Permission;
use iam_api as api;
use longshore_types::{AccountId, Timestamp};
use model::{IamAccessKey, IamUser, Index, Key, TheAccount, View};

use crate::limits::KEYS_OF_USER_MAX;
use crate::{Iam, logins, render, uses};

const HEADER: &str = "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,\
    password_next_rotation,mfa_active,access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,\
    access_key_1_last_used_region,access_key_1_last_used_service,access_key_2_active,access_key_2_last_rotated,\
    access_key_2_last_used_date,access_key_2_last_used_region,access_key_2_last_used_service,cert_1_active,\
    cert_1_last_rotated,cert_2_active,cert_2_last_rotated";
const NONE: &str = "N/A";

pub(crate) async fn generate_credential_report(
    iam: &Iam,
    caller: &Caller,
) -> Result<api::GenerateCredentialReportResponse, ApiError> {
    iam.read(caller, |_| Permission::to("iam:GenerateCredentialReport").on("*"))?;
    Ok(api::GenerateCredentialReportResponse {
        state: Some(api::ReportStateType::Complete),
        description: None,
    })
}

pub(crate) async fn get_credential_report(
    iam: &Iam,
    caller: &Caller,
) -> Result<api::GetCredentialReportResponse, ApiError> {
    let view = iam.read(caller, |_| Permission::to("iam:GetCredentialReport").on("*"))?;
    let users = view.iam_users.of(caller.account).map(|row| line_of_user(iam, &view, row));
    let lines = [HEADER.to_owned(), line_of_root(&view, caller.account)].into_iter().chain(users);
    let text = lines.collect::<Vec<_>>().join("\n");
    Ok(api::GetCredentialReportResponse {
        content: Some(Bytes::from(text)),
        report_format: Some(api::ReportFormatType::TextCsv),
        generated_time: Some(caller.now),
    })
}

/// The root user's keys are the region's to keep: when they were used is not written down.
fn line_of_root(view: &View, account: AccountId) -> String {
    let row = view.iam_accounts.get(account, &TheAccount);
    let made = row.map_or_else(|| NONE.to_owned(), |row| time(row.created_at));
    let fields = [
        "<root_account>".to_owned(),
        format!("arn:aws:iam::{account}:root"),
        made,
        "not_supported,no_information,not_supported,not_supported,false".to_owned(),
        format!("true,{NONE},{NONE},{NONE},{NONE}"),
        no_key(),
        no_certificates(),
    ];
    fields.join(",")
}

fn line_of_user(iam: &Iam, view: &View, row: &IamUser) -> String {
    let keys = view.members(&Index::IamUserKeys(row.account, Arc::clone(&row.unique_id)));
    let keys = keys.filter_map(|key| match key {
        Key::IamAccessKey(account, id) => view.iam_access_keys.get(*account, id),
        _ => None,
    });
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|key| (key.created_at, Arc::clone(&key.id)));
    let shown = keys.iter().map(|key| of_key(iam, view, key));
    let shown = shown.chain(std::iter::repeat_with(no_key)).take(KEYS_OF_USER_MAX);
    let fields =
        [text(&row.name), text(&row.arn()), time(row.created_at), of_password(iam, view, row)];
    let factor = (!row.devices.is_empty()).to_string();
    let fields = fields.into_iter().chain([factor]).chain(shown).chain([no_certificates()]);
    fields.collect::<Vec<_>>().join(",")
}

/// Whether there is one, when it was used and changed, and when it must be changed.
fn of_password(iam: &Iam, view: &View, row: &IamUser) -> String {
    let Some(login) = &row.login else { return format!("false,{NONE},{NONE},{NONE}") };
    let used = render::password_last_used(&iam.control, view, row);
    let used = used.map_or_else(|| "no_information".to_owned(), time);
    let due = logins::due(login, logins::rules(view, row).as_ref());
    let due = due.map_or_else(|| NONE.to_owned(), time);
    format!("true,{used},{},{due}", time(login.set_at))
}

fn of_key(iam: &Iam, view: &View, key: &IamAccessKey) -> String {
    let none = || NONE.to_owned();
    let (at, region, service) = match uses::last(&iam.control, view, key.account, &key.id) {
        Some(used) => (time(used.at), used.region, used.service),
        None => (none(), none(), none()),
    };
    format!("{},{},{at},{region},{service}", key.is_active, time(key.created_at))
}

fn no_key() -> String {
    format!("false,{NONE},{NONE},{NONE},{NONE}")
}

fn no_certificates() -> String {
    format!("false,{NONE},false,{NONE}")
}

/// As one field: names and paths may have commas, and paths quotes.
fn text(field: &str) -> String {
    match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

/// To the second, as IAM writes them here.
fn time(at: Timestamp) -> String {
    let text = Timestamp(at.0 / 1000 * 1000).iso8601();
    let whole = text.split(['.', 'Z']).next().unwrap_or_default();
    format!("{whole}+00:00")
}
