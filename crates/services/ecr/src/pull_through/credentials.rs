//! What a rule's upstream is shown: the user and the token of a secret, read as the service-linked role that
//! every account with such a rule has.

use control::Control;
use control::iam::{Assumption, linked};
use control::secrets::{SecretAsk, SecretContent, SecretRefusal};
use image::Basic;
use longshore_types::{AccountId, Arn, Timestamp};
use model::View;
use serde::Deserialize;

/// What such a secret's name begins with.
const NAME_PREFIX: &str = "ecr-pullthroughcache/";
/// A session of the role lasts as long as reading one secret may.
const LASTS_MS: u64 = 900_000;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCredentials {
    #[error("the role {0} that reads the secret is not there or can't be assumed")]
    NoRole(String),
    #[error("the secret '{0}' does not exist")]
    NoSecret(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Undecryptable(String),
    #[error("the secret '{0}' must be JSON with the members username and accessToken")]
    Malformed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    username: String,
    access_token: String,
}

/// Whether an ARN names a secret of this account that may be a rule's.
pub(super) fn is_fitting(control: &Control, account: AccountId, arn: &str) -> bool {
    Arn::parse(arn).is_ok_and(|arn| {
        arn.service == "secretsmanager"
            && arn.region == control.config.region.as_str()
            && arn.account == account.as_str()
            && arn
                .resource
                .strip_prefix("secret:")
                .and_then(|name| name.strip_prefix(NAME_PREFIX))
                .is_some_and(|rest| !rest.is_empty())
    })
}

/// Reads the secret of a rule.
pub(super) fn read(
    control: &Control,
    view: &View,
    account: AccountId,
    arn: &str,
    now: Timestamp,
) -> Result<Basic, NoCredentials> {
    let role = linked::find(linked::PULL_THROUGH).expect("it is one of the list");
    let role_arn = role.arn(account);
    let source = format!("arn:aws:ecr:{}:{account}:*", control.config.region);
    let asked = Assumption {
        role: &role_arn,
        service: linked::PULL_THROUGH,
        source: &source,
        source_account: account,
        session_name: "pull-through-cache",
        lasts_ms: LASTS_MS,
    };
    let caller = control.acting_as(view, &asked, now);
    let caller = caller.map_err(|_| NoCredentials::NoRole(role_arn.clone()))?;
    let ask = SecretAsk { secret: arn, version: None, stage: None };
    let value = control.secret_value(view, &caller, &ask).map_err(|why| match why {
        SecretRefusal::NoSecret | SecretRefusal::NoVersion(_) | SecretRefusal::Deleted => {
            NoCredentials::NoSecret(arn.to_owned())
        }
        SecretRefusal::StageIsElsewhere => NoCredentials::NoSecret(arn.to_owned()),
        SecretRefusal::Denied(error) => NoCredentials::Denied(error.message),
        SecretRefusal::Key(why) => NoCredentials::Undecryptable(why),
        SecretRefusal::Fault(error) => {
            tracing::error!(error = %error.message, "a secret could not be opened");
            NoCredentials::Undecryptable("the secret could not be opened".to_owned())
        }
    })?;
    let malformed = || NoCredentials::Malformed(arn.to_owned());
    let SecretContent::Text(text) = &value.content else { return Err(malformed()) };
    let login: Login = serde_json::from_str(text).map_err(|_| malformed())?;
    match login.username.is_empty() || login.access_token.is_empty() {
        true => Err(malformed()),
        false => Ok(Basic::new(login.username, login.access_token)),
    }
}
