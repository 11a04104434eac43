//! A parameter's policies: that it is deleted at a time.
//!
//! Those that only tell of something are refused: there is nobody here whom they would tell.

use aws_wire::ApiError;
use longshore_types::Timestamp;
use serde_json::Value;

use crate::errors::named;
use crate::limits::POLICIES_MAX;

/// What a request's policies say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policies {
    /// Each as it was given.
    pub(crate) texts: Vec<String>,
    pub(crate) expires_at: Option<Timestamp>,
}

pub(crate) const EXPIRATION: &str = "Expiration";

pub(crate) fn read(given: Option<&str>, now: Timestamp) -> Result<Policies, ApiError> {
    let Some(given) = given else { return Ok(Policies::default()) };
    let attribute = |message: String| named("InvalidPolicyAttributeException", message);
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
    for policy in list {
        match policy["Type"].as_str() {
            Some(EXPIRATION) if policies.expires_at.is_none() => {
                let text = policy["Attributes"]["Timestamp"].as_str().unwrap_or_default();
                let at = timestamp(text).ok_or_else(|| {
                    attribute(format!("{text} is not a time such as 2030-12-02T21:34:33.000Z."))
                })?;
                if at <= now {
                    return Err(attribute(format!("{text} is in the past.")));
                }
                policies.expires_at = Some(at);
            }
            Some(EXPIRATION) => {
                let message = "A parameter can have one policy of the type Expiration.";
                return Err(named("InvalidPolicyTypeException", message));
            }
            Some(kind @ ("ExpirationNotification" | "NoChangeNotification")) => {
                let message = format!(
                    "The policy type {kind} is not available in this region: it would send an event, and there is \
                     nothing that takes it."
                );
                return Err(named("InvalidPolicyTypeException", message));
            }
            _ => {
                let message =
                    "The policy type is not supported. Parameter Store supports Expiration.";
                return Err(named("InvalidPolicyTypeException", message));
            }
        }
        policies.texts.push(policy.to_string());
    }
    Ok(policies)
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
        let read = |text: &str| read(Some(text), now).map_err(|error| error.code.to_string());
        let at = Timestamp::from_civil(2030, 12, 2).unwrap().plus_ms(77_673_000);
        for text in
            ["2030-12-02T21:34:33.000Z", "2030-12-02T23:34:33+02:00", "2030-12-02T21:34:33Z"]
        {
            assert_eq!(read(&expiration(text)).unwrap().expires_at, Some(at), "{text}");
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
        assert_eq!(read(r#"[{"Type":"NoChangeNotification"}]"#), kind);
        assert_eq!(read(r#"[{"Type":"Other"}]"#), kind);
        assert_eq!(
            read(&format!("[{}]", ["{}"; 11].join(","))),
            Err("PoliciesLimitExceededException".to_owned())
        );
        assert_eq!(read("[]").unwrap(), Policies::default());
    }
}
