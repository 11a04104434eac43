//! Conditions and transforms of rules: read in either form, answered in both.

use aws_wire::ApiError;
use elb_api as api;
use model::elb::{ElbCondition, ElbRewrite};

use crate::errors::{Refusal, invalid};
use crate::limits::{RULE_VALUES_MAX, RULE_WILDCARDS_MAX};

const VALUE_MAX: usize = 128;
const NAME_MAX: usize = 40;
const REWRITE_MAX: usize = 1_024;

/// Reads a rule's conditions.
pub(crate) fn read(given: &[api::RuleCondition]) -> Result<Vec<ElbCondition>, ApiError> {
    if given.is_empty() {
        return invalid("A condition must be specified");
    }
    let conditions: Result<Vec<_>, _> = given.iter().map(read_one).collect();
    let conditions = conditions?;
    for field in ["host-header", "path-pattern", "http-request-method", "source-ip"] {
        if 1 < conditions.iter().filter(|each| field_of(each) == field).count() {
            return invalid(format!("A rule can only have one '{field}' condition"));
        }
    }
    let values: usize = conditions.iter().map(count_of).sum();
    if RULE_VALUES_MAX < values {
        return invalid(format!(
            "A rule can have up to '{RULE_VALUES_MAX}' condition values; there are '{values}'"
        ));
    }
    let wildcards: usize = conditions.iter().map(wildcards_of).sum();
    if RULE_WILDCARDS_MAX < wildcards {
        return invalid(format!(
            "A rule can have up to '{RULE_WILDCARDS_MAX}' wildcards; there are '{wildcards}'"
        ));
    }
    Ok(conditions)
}

pub(crate) fn field_of(condition: &ElbCondition) -> &'static str {
    match condition {
        ElbCondition::Host { .. } => "host-header",
        ElbCondition::Path { .. } => "path-pattern",
        ElbCondition::Header { .. } => "http-header",
        ElbCondition::Query { .. } => "query-string",
        ElbCondition::Method { .. } => "http-request-method",
        ElbCondition::SourceIp { .. } => "source-ip",
    }
}

fn count_of(condition: &ElbCondition) -> usize {
    match condition {
        ElbCondition::Host { values, .. }
        | ElbCondition::Path { values, .. }
        | ElbCondition::Header { values, .. }
        | ElbCondition::Method { values }
        | ElbCondition::SourceIp { values } => values.len(),
        ElbCondition::Query { pairs } => pairs.len(),
    }
}

fn wildcards_of(condition: &ElbCondition) -> usize {
    let of = |text: &String| text.matches(['*', '?']).count();
    match condition {
        ElbCondition::Host { values, is_regex: false }
        | ElbCondition::Path { values, is_regex: false }
        | ElbCondition::Header { values, is_regex: false, .. } => values.iter().map(of).sum(),
        ElbCondition::Query { pairs } => {
            pairs.iter().map(|(key, value)| key.as_ref().map_or(0, of) + of(value)).sum()
        }
        ElbCondition::Host { .. }
        | ElbCondition::Path { .. }
        | ElbCondition::Header { .. }
        | ElbCondition::Method { .. }
        | ElbCondition::SourceIp { .. } => 0,
    }
}

/// Values and regular expressions of a configuration.
type Given<'a> = (&'a Option<Vec<String>>, &'a Option<Vec<String>>);

/// Values, and whether they are regular expressions: of a configuration, or of the condition itself.
fn values(
    field: &str,
    condition: &api::RuleCondition,
    config: Option<Given<'_>>,
) -> Result<(Vec<String>, bool), ApiError> {
    let (plain, regex) = config.unwrap_or((&condition.values, &condition.regex_values));
    let of = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    // A configuration may say anew what the condition says.
    let plain = if of(plain).is_empty() { of(&condition.values) } else { of(plain) };
    let regex = if of(regex).is_empty() { of(&condition.regex_values) } else { of(regex) };
    let (values, is_regex) = match (plain.is_empty(), regex.is_empty()) {
        (true, true) => return invalid("A condition value must be specified"),
        (false, false) => {
            return invalid(format!(
                "A '{field}' condition can have values or regular expressions, not both"
            ));
        }
        (is_regex, _) => (if is_regex { regex } else { plain }, is_regex),
    };
    for value in &values {
        check_length(field, value)?;
        if is_regex {
            check_regex(value)?;
        }
    }
    Ok((values, is_regex))
}

fn check_length(field: &str, value: &str) -> Result<(), ApiError> {
    if value.is_empty() {
        return invalid("A condition value must be specified");
    }
    if VALUE_MAX < value.len() {
        return invalid(format!("The '{field}' value is too long; the limit is '{VALUE_MAX}'"));
    }
    Ok(())
}

fn check_regex(text: &str) -> Result<(), ApiError> {
    match routing::check_regex(text) {
        Ok(()) => Ok(()),
        Err(_) => invalid(format!("The regular expression '{text}' is not valid")),
    }
}

fn read_one(condition: &api::RuleCondition) -> Result<ElbCondition, ApiError> {
    let field = condition.field.as_deref().unwrap_or_default();
    match field {
        "host-header" => {
            let config = condition.host_header_config.as_ref();
            let config = config.map(|it| (&it.values, &it.regex_values));
            let (values, is_regex) = values(field, condition, config)?;
            if let Some(why) = values.iter().filter(|_| !is_regex).find_map(|it| unlike_host(it)) {
                return invalid(why);
            }
            Ok(ElbCondition::Host { values, is_regex })
        }
        "path-pattern" => {
            let config = condition.path_pattern_config.as_ref();
            let config = config.map(|it| (&it.values, &it.regex_values));
            let (values, is_regex) = values(field, condition, config)?;
            if let Some(value) = values.iter().find(|value| !is_regex && !is_path(value)) {
                return invalid(format!(
                    "The 'path-pattern' value '{value}' contains a character that is not valid: it can have letters and digits of ASCII and _-.$/~\"'@:+&*?"
                ));
            }
            Ok(ElbCondition::Path { values, is_regex })
        }
        "http-header" => read_header(condition),
        "query-string" => read_query(condition),
        "http-request-method" => read_method(condition),
        "source-ip" => read_sources(condition),
        "" => invalid("A condition field must be specified"),
        other => invalid(format!(
            "Condition field '{other}' must be one of '[path-pattern, host-header, http-header, \
             http-request-method, query-string, source-ip]'"
        )),
    }
}

/// Why a pattern is none of hosts.
fn unlike_host(value: &str) -> Option<String> {
    let is_any = |byte: u8| byte == b'*' || byte == b'?';
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte) || is_any(byte);
    if !value.bytes().all(is_fit) {
        return Some(format!(
            "The 'host-header' value '{value}' contains a character that is not valid: it can have letters and digits of ASCII and -.*?"
        ));
    }
    let Some((_, last)) = value.rsplit_once('.') else {
        return Some(format!("The 'host-header' value '{value}' must contain a '.'"));
    };
    let is_name = last.bytes().all(|byte| byte.is_ascii_alphabetic() || is_any(byte));
    (!is_name).then(|| {
        format!("The 'host-header' value '{value}' can have only letters after its last '.'")
    })
}

/// Whether a pattern has those characters alone that Amazon's may.
fn is_path(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.$/~\"'@:+&*?".contains(&byte))
}

fn read_header(condition: &api::RuleCondition) -> Result<ElbCondition, ApiError> {
    let Some(config) = &condition.http_header_config else {
        return invalid("An 'HttpHeaderConfig' must be specified with 'http-header'");
    };
    let name = config.http_header_name.clone().unwrap_or_default();
    if name.is_empty() {
        return invalid("An 'HttpHeaderName' must be specified");
    }
    if NAME_MAX < name.len() {
        return invalid(format!(
            "The 'HttpHeaderName' value is too long; the limit is '{NAME_MAX}'"
        ));
    }
    // Those of a header's name as HTTP has them, but for the asterisk: no name is matched by a pattern.
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_fit) {
        return invalid(format!(
            "The 'HttpHeaderName' value '{name}' contains a character that is not valid: wildcards are for values alone"
        ));
    }
    if name.eq_ignore_ascii_case("host") {
        return invalid("Use the 'host-header' condition for the header 'host'");
    }
    let config = Some((&config.values, &config.regex_values));
    let (values, is_regex) = values("http-header", condition, config)?;
    Ok(ElbCondition::Header { name, values, is_regex })
}

fn read_query(condition: &api::RuleCondition) -> Result<ElbCondition, ApiError> {
    let Some(config) = &condition.query_string_config else {
        return invalid("A 'QueryStringConfig' must be specified with 'query-string'");
    };
    let mut pairs = Vec::new();
    for pair in config.values.iter().flatten() {
        let Some(value) = pair.value.clone().filter(|value| !value.is_empty()) else {
            return invalid("A 'Value' must be specified in 'QueryStringKeyValuePair'");
        };
        for (what, text) in [("Key", pair.key.as_ref()), ("Value", Some(&value))] {
            if text.is_some_and(|text| VALUE_MAX < text.len()) {
                return invalid(format!(
                    "The '{what}' value is too long; the limit is '{VALUE_MAX}'"
                ));
            }
        }
        pairs.push((pair.key.clone().filter(|key| !key.is_empty()), value));
    }
    match pairs.is_empty() {
        true => invalid("A 'query-string' value must be specified"),
        false => Ok(ElbCondition::Query { pairs }),
    }
}

fn read_method(condition: &api::RuleCondition) -> Result<ElbCondition, ApiError> {
    let Some(config) = &condition.http_request_method_config else {
        return invalid("A 'HttpRequestMethodConfig' must be specified with 'http-request-method'");
    };
    let values = config.values.clone().unwrap_or_default();
    if values.is_empty() {
        return invalid("A 'http-request-method' value must be specified");
    }
    for value in &values {
        if NAME_MAX < value.len() {
            return invalid(format!(
                "The 'http-request-method' value is too long; the limit is '{NAME_MAX}'"
            ));
        }
        let is_allowed = |byte: u8| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_';
        if value.is_empty() || !value.bytes().all(is_allowed) {
            return invalid(
                "The 'http-request-method' value is invalid; the allowed characters are A-Z, hyphen and underscore",
            );
        }
    }
    Ok(ElbCondition::Method { values })
}

fn read_sources(condition: &api::RuleCondition) -> Result<ElbCondition, ApiError> {
    let Some(config) = &condition.source_ip_config else {
        return invalid("A 'SourceIpConfig' must be specified with 'source-ip'");
    };
    let values = config.values.clone().unwrap_or_default();
    if values.is_empty() {
        return invalid("A 'source-ip' value must be specified");
    }
    for value in &values {
        let is_block = value.parse::<routing::Source>().is_ok();
        if !is_block || value == "255.255.255.255/32" {
            return invalid(format!("The 'source-ip' value '{value}' must be in CIDR format"));
        }
    }
    Ok(ElbCondition::SourceIp { values })
}

pub(crate) fn render(condition: &ElbCondition) -> api::RuleCondition {
    let split = |values: &[String], is_regex: bool| {
        let values = Some(values.to_vec());
        if is_regex { (None, values) } else { (values, None) }
    };
    let field = Some(field_of(condition).to_owned());
    let base = api::RuleCondition { field, ..api::RuleCondition::default() };
    match condition {
        ElbCondition::Host { values, is_regex } => {
            let (values, regex_values) = split(values, *is_regex);
            let config = api::HostHeaderConditionConfig {
                values: values.clone(),
                regex_values: regex_values.clone(),
            };
            api::RuleCondition { values, regex_values, host_header_config: Some(config), ..base }
        }
        ElbCondition::Path { values, is_regex } => {
            let (values, regex_values) = split(values, *is_regex);
            let config = api::PathPatternConditionConfig {
                values: values.clone(),
                regex_values: regex_values.clone(),
            };
            api::RuleCondition { values, regex_values, path_pattern_config: Some(config), ..base }
        }
        ElbCondition::Header { name, values, is_regex } => {
            let (values, regex_values) = split(values, *is_regex);
            let http_header_name = Some(name.clone());
            let config = api::HttpHeaderConditionConfig { http_header_name, values, regex_values };
            api::RuleCondition { http_header_config: Some(config), ..base }
        }
        ElbCondition::Query { pairs } => {
            let pairs = pairs.iter().map(|(key, value)| api::QueryStringKeyValuePair {
                key: key.clone(),
                value: Some(value.clone()),
            });
            let config = api::QueryStringConditionConfig { values: Some(pairs.collect()) };
            api::RuleCondition { query_string_config: Some(config), ..base }
        }
        ElbCondition::Method { values } => {
            let config = api::HttpRequestMethodConditionConfig { values: Some(values.clone()) };
            api::RuleCondition { http_request_method_config: Some(config), ..base }
        }
        ElbCondition::SourceIp { values } => {
            let config = api::SourceIpConditionConfig {
                values: Some(values.clone()),
                ..api::SourceIpConditionConfig::default()
            };
            api::RuleCondition { source_ip_config: Some(config), ..base }
        }
    }
}

/// What is rewritten of a request: its host, its path and query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewrites {
    pub(crate) host: Option<ElbRewrite>,
    pub(crate) url: Option<ElbRewrite>,
}

pub(crate) fn read_transforms(given: &[api::RuleTransform]) -> Result<Rewrites, ApiError> {
    let mut rewrites = Rewrites::default();
    for transform in given {
        let (what, slot, list) = match transform.r#type.as_ref() {
            Some(api::TransformTypeEnum::HostHeaderRewrite) => {
                let config = transform.host_header_rewrite_config.as_ref();
                let list = config.and_then(|it| it.rewrites.as_deref());
                ("host-header-rewrite", &mut rewrites.host, list)
            }
            Some(api::TransformTypeEnum::UrlRewrite) => {
                let config = transform.url_rewrite_config.as_ref();
                let list = config.and_then(|it| it.rewrites.as_deref());
                ("url-rewrite", &mut rewrites.url, list)
            }
            Some(_) | None => {
                return invalid(
                    "A transform's type must be one of [host-header-rewrite, url-rewrite]",
                );
            }
        };
        let [rewrite] = list.unwrap_or_default() else {
            return invalid(format!("A '{what}' transform must have exactly one rewrite"));
        };
        let rewrite = ElbRewrite {
            regex: rewrite.regex.clone().unwrap_or_default(),
            replace: rewrite.replace.clone().unwrap_or_default(),
        };
        if rewrite.regex.is_empty() {
            return invalid("A rewrite must have a regular expression");
        }
        if REWRITE_MAX < rewrite.regex.len().max(rewrite.replace.len()) {
            return invalid(format!("A rewrite is too long; the limit is '{REWRITE_MAX}'"));
        }
        check_regex(&rewrite.regex)?;
        if slot.replace(rewrite).is_some() {
            return Err(
                Refusal::Invalid(format!("A rule can only have one '{what}' transform")).into()
            );
        }
    }
    Ok(rewrites)
}

pub(crate) fn render_transforms(
    host: Option<&ElbRewrite>,
    url: Option<&ElbRewrite>,
) -> Vec<api::RuleTransform> {
    let list = |rewrite: &ElbRewrite| {
        let (regex, replace) = (Some(rewrite.regex.clone()), Some(rewrite.replace.clone()));
        Some(vec![api::RewriteConfig { regex, replace }])
    };
    let host = host.map(|rewrite| api::RuleTransform {
        r#type: Some(api::TransformTypeEnum::HostHeaderRewrite),
        host_header_rewrite_config: Some(api::HostHeaderRewriteConfig { rewrites: list(rewrite) }),
        url_rewrite_config: None,
    });
    let url = url.map(|rewrite| api::RuleTransform {
        r#type: Some(api::TransformTypeEnum::UrlRewrite),
        host_header_rewrite_config: None,
        url_rewrite_config: Some(api::UrlRewriteConfig { rewrites: list(rewrite) }),
    });
    host.into_iter().chain(url).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(condition: api::RuleCondition, why: &str) {
        let error = read(&[condition]).unwrap_err();
        assert_eq!(error.code, "ValidationError");
        assert!(error.message.contains(why), "{}", error.message);
    }

    #[test]
    fn a_host_is_a_name_or_a_pattern_of_names() {
        let host = |value: &str| api::RuleCondition {
            field: Some("host-header".to_owned()),
            values: Some(vec![value.to_owned()]),
            ..api::RuleCondition::default()
        };
        for good in ["a.example.com", "*.Example.com", "a-1.example.c?m", "*.*", "www.example.*"] {
            read(&[host(good)]).unwrap();
        }
        refused(host("localhost"), "must contain a '.'");
        for bad in ["a.example.com:80", "a b.com", "ä.example.com", "a_b.example.com", "a/b.com"] {
            refused(host(bad), "contains a character that is not valid");
        }
        for bad in ["10.0.0.1", "example.c-m", "example.com1"] {
            refused(host(bad), "can have only letters after its last '.'");
        }
    }

    #[test]
    fn a_headers_name_is_one_and_no_pattern() {
        let header = |name: &str| api::RuleCondition {
            field: Some("http-header".to_owned()),
            http_header_config: Some(api::HttpHeaderConditionConfig {
                http_header_name: Some(name.to_owned()),
                values: Some(vec!["*Chrome*".to_owned()]),
                ..api::HttpHeaderConditionConfig::default()
            }),
            ..api::RuleCondition::default()
        };
        read(&[header("User-Agent")]).unwrap();
        for bad in ["X-*", "X-?", "X Y", "X:Y", "Ü"] {
            refused(header(bad), "wildcards are for values alone");
        }
        refused(header(&"x".repeat(41)), "the limit is '40'");
        refused(header("Host"), "Use the 'host-header' condition");
    }
}
