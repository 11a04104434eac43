//! Parameters of Systems Manager as others than its service need them too: found by name, version or label, and read
//! as a principal, with its permissions on the parameter and on the key.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_types::{AccountId, Arn, RegionName};
use model::parameter::ParameterValue;
use model::{Parameter, ParameterVersion, ParameterVersionId, View};
use vault::Zeroizing;

use crate::kms::Unopened;
use crate::public_parameters::{self, is_public};
use crate::{Control, Permission};

/// The service's name to KMS.
pub const SERVICE: &str = "ssm";

/// Why a parameter is not given.
#[derive(Debug, thiserror::Error)]
pub enum ParameterRefusal {
    #[error("")]
    NoParameter,
    #[error(
        "Systems Manager could not find version {version} of {name}. Verify the version and try again."
    )]
    NoVersion { name: String, version: String },
    #[error("{0}")]
    Key(String),
    /// Policies say no.
    #[error("{}", .0.message)]
    Denied(ApiError),
    #[error("failed to open a parameter")]
    Fault(ApiError),
}

impl ParameterRefusal {
    /// As Systems Manager answers it.
    pub fn into_api(self) -> ApiError {
        let message = self.to_string();
        match self {
            Self::NoParameter => ApiError::client("ParameterNotFound", message),
            Self::NoVersion { .. } => ApiError::client("ParameterVersionNotFound", message),
            Self::Key(_) => ApiError::client("InvalidKeyId", message),
            Self::Denied(error) | Self::Fault(error) => error,
        }
    }
}

/// `name`, `name:3` or `name:label`, or an ARN of one, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterName {
    pub account: AccountId,
    /// As it is stored: `/x` that is in no hierarchy is `x`.
    pub name: String,
    /// `3` or `label`.
    pub selector: Option<String>,
}

impl ParameterName {
    /// `None` for an ARN that is no parameter's, or another region's.
    pub fn parse(region: &str, account: AccountId, given: &str) -> Option<Self> {
        let (account, name) = match given.strip_prefix("arn:") {
            None => (account, given.to_owned()),
            Some(_) => {
                let arn = Arn::parse(given).ok()?;
                if (arn.partition, arn.service, arn.region) != ("aws", SERVICE, region) {
                    return None;
                }
                let name = arn.resource.strip_prefix("parameter")?;
                // Amazon's own are of no account.
                let account = match arn.account {
                    "" if is_public(name) => account,
                    given => given.parse().ok()?,
                };
                (account, name.to_owned())
            }
        };
        let (name, selector) = match name.split_once(':') {
            Some((name, selector)) => (name.to_owned(), Some(selector.to_owned())),
            None => (name, None),
        };
        // A leading slash is part of the name of what is in a hierarchy, and of nothing else.
        let name = match name.strip_prefix('/') {
            Some(plain) if !plain.contains('/') => plain.to_owned(),
            Some(_) | None => name,
        };
        Some(Self { account, name, selector })
    }
}

/// A version of a parameter, with its value as it may be shown.
#[derive(Clone, Debug)]
pub struct ParameterRead {
    pub parameter: Arc<Parameter>,
    pub version: Arc<ParameterVersion>,
    pub value: ShownValue,
    /// `:3` or `:label`, as it was asked for.
    pub selector: Option<String>,
}

/// Never printed, and overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownValue(pub Zeroizing<String>);

impl std::fmt::Debug for ShownValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShownValue(…)")
    }
}

/// What a version is bound to: sealed for one, it opens for no other.
pub fn version_bound_to(account: AccountId, id: ParameterVersionId) -> Vec<u8> {
    format!("parameter|{account}|{id}").into_bytes()
}

/// What a key's policy sees of a parameter.
pub fn encryption_context(arn: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("PARAMETER_ARN".to_owned(), arn.to_owned())])
}

/// A parameter's ARN, whether or not the name begins with a slash. A public parameter's names no account.
pub fn arn_of(region: &RegionName, account: AccountId, name: &str) -> String {
    let account = if is_public(name) { String::new() } else { account.to_string() };
    let name = name.strip_prefix('/').unwrap_or(name);
    format!("arn:aws:{SERVICE}:{region}:{account}:parameter/{name}")
}

impl Control {
    /// See [`arn_of`].
    pub fn parameter_arn(&self, account: AccountId, name: &str) -> String {
        arn_of(&self.config.region, account, name)
    }

    /// A parameter, for a caller that may do `action` on it and, if it is to be decrypted, use its key. `action` is
    /// the operation's: `ssm:GetParameter` or `ssm:GetParameters`.
    pub fn parameter(
        &self,
        view: &View,
        caller: &Caller,
        action: &'static str,
        given: &str,
        is_decrypted: bool,
    ) -> Result<ParameterRead, ParameterRefusal> {
        let named = ParameterName::parse(self.config.region.as_str(), caller.account, given);
        let arn = match &named {
            Some(named) => self.parameter_arn(named.account, &named.name),
            None => given.to_owned(),
        };
        let permission = Permission::to(action).on(arn);
        self.authorize(view, caller, &permission).map_err(ParameterRefusal::Denied)?;
        // What belongs to others can't be shared here: it is as if it was not there.
        let named = named.filter(|named| named.account == caller.account);
        let named = named.ok_or(ParameterRefusal::NoParameter)?;
        let (parameter, version) = self.parameter_rows(view, &named)?;
        let value = self.parameter_value(view, caller, &parameter, &version, is_decrypted)?;
        Ok(ParameterRead {
            parameter,
            version,
            value,
            selector: named.selector.map(|selector| format!(":{selector}")),
        })
    }

    /// An account's parameter, or a public one, with the version that is asked for.
    fn parameter_rows(
        &self,
        view: &View,
        named: &ParameterName,
    ) -> Result<(Arc<Parameter>, Arc<ParameterVersion>), ParameterRefusal> {
        if is_public(&named.name) {
            let region = self.config.region.as_str();
            let found = public_parameters::find(region, named.account, &named.name);
            let found = found.ok_or(ParameterRefusal::NoParameter)?;
            selected(&found.0, named)?;
            return Ok(found);
        }
        let parameter = view.parameters.get(named.account, &named.name.as_str().into());
        let parameter = parameter.ok_or(ParameterRefusal::NoParameter)?;
        let version = selected(parameter, named)?;
        let row = view.parameter_versions.get(named.account, &parameter.version_id(version));
        let row = row.ok_or(ParameterRefusal::NoParameter)?;
        Ok((Arc::clone(parameter), Arc::clone(row)))
    }

    /// A version's value; sealed, in base64, if it is a secure one and not to be decrypted.
    pub fn parameter_value(
        &self,
        view: &View,
        caller: &Caller,
        parameter: &Parameter,
        row: &ParameterVersion,
        is_decrypted: bool,
    ) -> Result<ShownValue, ParameterRefusal> {
        let shown = |text: &str| ShownValue(Zeroizing::new(text.to_owned()));
        let sealed = match &row.value {
            ParameterValue::Text(text) | ParameterValue::List(text) => return Ok(shown(text)),
            ParameterValue::Secure { sealed, .. } if !is_decrypted => return Ok(shown(sealed)),
            ParameterValue::Secure { sealed, .. } => sealed,
        };
        let fault = |why: String| {
            ParameterRefusal::Fault(ApiError::fault("failed to open a parameter", why))
        };
        let sealed = STANDARD.decode(sealed).map_err(|why| fault(why.to_string()))?;
        let context = encryption_context(&self.parameter_arn(row.account, &parameter.name));
        self.ask_key(view, caller, &sealed, &context, SERVICE).map_err(ParameterRefusal::Denied)?;
        let bound_to = version_bound_to(row.account, row.id);
        let plain = self.open_sealed(view, &bound_to, &sealed).map_err(|why| match why {
            Unopened::Refused(why) => ParameterRefusal::Key(why.to_string()),
            Unopened::NotSealed | Unopened::Damaged | Unopened::Unwrap(_) => {
                fault(format!("{why:?}"))
            }
        })?;
        let text = String::from_utf8(plain.to_vec()).map_err(|why| fault(why.to_string()))?;
        Ok(ShownValue(Zeroizing::new(text)))
    }
}

fn selected(parameter: &Parameter, named: &ParameterName) -> Result<u64, ParameterRefusal> {
    let Some(selector) = &named.selector else { return Ok(parameter.latest) };
    let version = match selector.parse::<u64>() {
        Ok(number) => {
            Some(number).filter(|number| (parameter.oldest..=parameter.latest).contains(number))
        }
        Err(_) => parameter.labels.get(selector).copied(),
    };
    version.ok_or_else(|| ParameterRefusal::NoVersion {
        name: named.name.clone(),
        version: selector.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart_however_it_is_written() {
        let account: AccountId = "111122223333".parse().unwrap();
        let parse = |given: &str| {
            let named = ParameterName::parse("us-east-1", account, given)?;
            Some((named.account.to_string(), named.name, named.selector))
        };
        let of = |account: &str, name: &str, selector: Option<&str>| {
            Some((account.to_owned(), name.to_owned(), selector.map(str::to_owned)))
        };
        let own = "111122223333";
        assert_eq!(parse("db"), of(own, "db", None));
        assert_eq!(parse("/db"), of(own, "db", None));
        assert_eq!(parse("/prod/db:3"), of(own, "/prod/db", Some("3")));
        assert_eq!(parse("db:live"), of(own, "db", Some("live")));
        let arn = "arn:aws:ssm:us-east-1:444455556666:parameter";
        assert_eq!(parse(&format!("{arn}/db")), of("444455556666", "db", None));
        assert_eq!(parse(&format!("{arn}/prod/db:2")), of("444455556666", "/prod/db", Some("2")));
        let public = "arn:aws:ssm:us-east-1::parameter/aws/service/x";
        assert_eq!(parse(public), of(own, "/aws/service/x", None));
        for other in [
            "arn:aws:ssm:us-east-1::parameter/db",
            "arn:aws:s3:::bucket",
            "arn:aws:ssm:eu-west-1:111122223333:parameter/db",
            "arn:aws-cn:ssm:us-east-1:111122223333:parameter/db",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
