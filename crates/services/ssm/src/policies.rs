//! A parameter's policies: that it is deleted at a time, and that EventBridge is told before that, or when it was not changed for
//! long.
//!
//! They hold until others are put, or an empty one.

use aws_wire::ApiError;
use longshore_types::Timestamp;
use model::ParameterNotice;
use serde_json::Value;

use crate::errors::named;
use crate::limits::{DAY_MS, HOUR_MS, POLICIES_MAX};

/// What a policy has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    DeleteAt(Timestamp),
    /// Milliseconds before it is deleted.
    TellBefore(u64),
    /// Milliseconds after it was changed last.
    TellAfter(u64),
}

/// The policies of a version, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policies(Vec<(String, Doing)>);

pub(crate) const EXPIRATION: &str = "Expiration";
const EXPIRATION_NOTIFICATION: &str = "ExpirationNotification";
const NO_CHANGE_NOTIFICATION: &str = "NoChangeNotification";

impl Policies {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each as it was given.
    pub(crate) fn into_texts(self) -> Vec<String> {
        self.0.into_iter().map(|(text, _)| text).collect()
    }

    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.0.iter().find_map(|(_, doing)| match doing {
            Doing::DeleteAt(at) => Some(*at),
            Doing::TellBefore(_) | Doing::TellAfter(_) => None,
        })
    }

    /// What is to be told of a parameter that is changed now. Of policies that it had before, `told` says what was told: that it
    /// was not changed may be told again.
    pub(crate) fn notices(&self, now: Timestamp, told: &[ParameterNotice]) -> Vec<ParameterNotice> {
        let notice = |(policy, (_, doing)): (usize, &(String, Doing))| match doing {
            Doing::DeleteAt(_) => None,
            Doing::TellBefore(ms) => {
                let at = Timestamp(self.expires_at()?.0.saturating_sub(*ms));
                let is_told = told.iter().any(|it| it.policy == policy && it.is_told);
                Some(ParameterNotice { policy, at, is_told })
            }
            Doing::TellAfter(ms) => {
                Some(ParameterNotice { policy, at: now.plus_ms(*ms), is_told: false })
            }
        };
        self.0.iter().enumerate().filter_map(notice).collect()
    }
}

/// The type that a policy's text says.
pub(crate) fn type_of(text: &str) -> Option<String> {
    let policy: Value = serde_json::from_str(text).ok()?;
    policy["Type"].as_str().map(str::to_owned)
}

/// Those of a version that was put before.
pub(crate) fn kept(texts: &[String]) -> Policies {
    let read = |text: &String| {
        let policy: Value = serde_json::from_str(text).ok()?;
        Some((text.clone(), doing(&policy).ok()?))
    };
    Policies(texts.iter().filter_map(read).collect())
}

/// Those of a request.
pub(crate) fn read(given: &str, now: Timestamp) -> Result<Policies, ApiError> {
    let read: Value = serde_json::from_str(given)
        .map_err(|why| attribute(format!("The policies are not JSON: {why}")))?;
    let list = match read {
        Value::Array(list) => list,
        one => vec![one],
    };
    if POLICIES_MAX < list.len() {
        return Err(named(
            "PoliciesLimitExceededException",
            format!("A parameter can have up to {POLICIES_MAX} policies."),
        ));
    }
    let mut policies = Policies::default();
    let is_empty = |policy: &Value| policy.as_object().is_some_and(serde_json::Map::is_empty);
    for policy in list.into_iter().filter(|policy| !is_empty(policy)) {
        let doing = doing(&policy)?;
        if let Doing::DeleteAt(at) = doing {
            if policies.expires_at().is_some() {
                return Err(incompatible(
                    "A parameter can have one policy of the type Expiration.",
                ));
            }
            if at <= now {
                return Err(attribute("The Timestamp of an Expiration is in the past.".to_owned()));
            }
        }
        policies.0.push((policy.to_string(), doing));
    }
    let tells_before = policies.0.iter().any(|(_, doing)| matches!(doing, Doing::TellBefore(_)));
    match tells_before && policies.expires_at().is_none() {
        true => {
            Err(incompatible("An ExpirationNotification needs a policy of the type Expiration."))
        }
        false => Ok(policies),
    }
}

fn doing(policy: &Value) -> Result<Doing, ApiError> {
    let attributes = &policy["Attributes"];
    match policy["Type"].as_str() {
        Some(EXPIRATION) => {
            let text = attributes["Timestamp"].as_str().unwrap_or_default();
            let wrong =
                || attribute(format!("{text} is not a time such as 2030-12-02T21:34:33.000Z."));
            timestamp(text).map(Doing::DeleteAt).ok_or_else(wrong)
        }
        Some(EXPIRATION_NOTIFICATION) => duration(attributes, "Before").map(Doing::TellBefore),
        Some(NO_CHANGE_NOTIFICATION) => duration(attributes, "After").map(Doing::TellAfter),
        Some(_) | None => {
            let message = "The policy type is not supported. Parameter Store supports the following policy types: \
                           Expiration, ExpirationNotification, and NoChangeNotification.";
            Err(named("InvalidPolicyTypeException", message))
        }
    }
}

/// A number of days or hours, in milliseconds.
fn duration(attributes: &Value, member: &str) -> Result<u64, ApiError> {
    let number = match &attributes[member] {
        Value::String(text) => text.parse::<u32>().ok(),
        other => other.as_u64().and_then(|number| u32::try_from(number).ok()),
    };
    let number = number.filter(|number| 0 < *number);
    let number =
        number.ok_or_else(|| attribute(format!("{member} must be a whole number from 1.")))?;
    let unit_ms = match attributes["Unit"].as_str() {
        Some("Days") => DAY_MS,
        Some("Hours") => HOUR_MS,
        Some(_) | None => return Err(attribute("Unit must be Days or Hours.".to_owned())),
    };
    Ok(u64::from(number) * unit_ms)
}

fn attribute(message: String) -> ApiError {
    named("InvalidPolicyAttributeException", message)
}

fn incompatible(message: &'static str) -> ApiError {
    named("IncompatiblePolicyException", message)
}

/// `2030-12-02T21:34:33.000Z`, or with an offset such as `+02:00`.
fn timestamp(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T')?;
    let (time, offset_s) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let (time, offset) = time.split_at(at);
            let (hours, minutes) = offset[1..].split_once(':')?;
            let (hours, minutes) = (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?);
            if 24 <= hours || 60 <= minutes {
                return None;
            }
            let seconds = i64::from(hours * 3_600 + minutes * 60);
            (time, if offset.starts_with('-') { -seconds } else { seconds })
        }
    };
    let mut date = date.splitn(3, '-');
    let year = date.next()?.parse().ok()?;
    let (month, day) = (date.next()?.parse().ok()?, date.next()?.parse().ok()?);
    let mut time = time.splitn(3, ':');
    let (hours, minutes): (u64, u64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let seconds: f64 = time.next().unwrap_or("0").parse().ok()?;
    if 24 <= hours || 60 <= minutes || !(0.0..61.0).contains(&seconds) {
        return None;
    }
    let whole = format!("{seconds:.0}").parse::<u64>().ok()?;
    let midnight = Timestamp::from_civil(year, month, day)?;
    let at = midnight.plus_ms((hours * 3_600 + minutes * 60 + whole) * 1_000);
    let shift = i64::try_from(at.0).ok()?.checked_sub(offset_s * 1_000)?;
    u64::try_from(shift).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiration(at: &str) -> String {
        format!(r#"[{{"Type":"Expiration","Version":"1.0","Attributes":{{"Timestamp":"{at}"}}}}]"#)
    }

    #[test]
    fn an_expiration_is_a_time_to_come() {
        let now = Timestamp::from_civil(2029, 1, 1).unwrap();
        let read = |text: &str| read(text, now).map_err(|error| error.code.to_string());
        let at = Timestamp::from_civil(2030, 12, 2).unwrap().plus_ms(77_673_000);
        for text in
            ["2030-12-02T21:34:33.000Z", "2030-12-02T23:34:33+02:00", "2030-12-02T21:34:33Z"]
        {
            assert_eq!(read(&expiration(text)).unwrap().expires_at(), Some(at), "{text}");
        }
        let attribute = Err("InvalidPolicyAttributeException".to_owned());
        for text in [
            "2028-12-02T21:34:33.000Z",
            "soon",
            "2030-13-02T21:34:33Z",
            "2030-12-02T25:00:00Z",
            "2030-12-02T21:34:33+9223372036854775807:00",
            "2030-12-02T21:34:33+24:00",
            "2030-12-02T21:34:33-02:60",
            "2030-12-02T21:34:33+-2:00",
        ] {
            assert_eq!(read(&expiration(text)), attribute, "{text}");
        }
        assert_eq!(read("{"), attribute);
        let kind = Err("InvalidPolicyTypeException".to_owned());
        assert_eq!(read(r#"[{"Type":"Other"}]"#), kind);
        assert_eq!(
            read(&format!("[{}]", ["{}"; 11].join(","))),
            Err("PoliciesLimitExceededException".to_owned())
        );
        for none in ["[]", "[{}]", "{}"] {
            assert_eq!(read(none).unwrap(), Policies::default());
        }
    }

    #[test]
    fn a_notification_is_some_time_before_the_end_or_after_the_last_change() {
        let now = Timestamp::from_civil(2029, 1, 1).unwrap();
        let end = r#"{"Type":"Expiration","Version":"1.0","Attributes":{"Timestamp":"2029-03-01T00:00:00Z"}}"#;
        let tell = |kind: &str, attributes: &str| {
            format!(r#"{{"Type":"{kind}","Version":"1.0","Attributes":{{{attributes}}}}}"#)
        };
        let before = tell("ExpirationNotification", r#""Before":"15","Unit":"Days""#);
        let after = tell("NoChangeNotification", r#""After":2,"Unit":"Hours""#);
        let policies = read(&format!("[{end},{before},{after}]"), now).unwrap();
        let notice = |policy, at, is_told| ParameterNotice { policy, at, is_told };
        let (early, idle) =
            (Timestamp::from_civil(2029, 2, 14).unwrap(), now.plus_ms(2 * 3_600_000));
        let notices = policies.notices(now, &[]);
        assert_eq!(notices, [notice(1, early, false), notice(2, idle, false)]);
        // Kept by a change, the one was told and the other begins anew.
        let told = [notice(1, early, true), notice(2, idle, true)];
        let later = now.plus_ms(1);
        let kept = kept(&policies.into_texts());
        let expected = [notice(1, early, true), notice(2, idle.plus_ms(1), false)];
        assert_eq!(kept.notices(later, &told), expected);
        let code = |text: String| read(&text, now).unwrap_err().code.into_owned();
        assert_eq!(code(format!("[{before}]")), "IncompatiblePolicyException");
        assert_eq!(code(format!("[{end},{end}]")), "IncompatiblePolicyException");
        for wrong in
            [r#""After":"0","Unit":"Days""#, r#""After":"1","Unit":"Weeks""#, r#""Unit":"Days""#]
        {
            let code = code(tell("NoChangeNotification", wrong));
            assert_eq!(code, "InvalidPolicyAttributeException", "{wrong}");
        }
    }
}
