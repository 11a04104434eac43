//! A lifecycle policy's text, read and checked as ECR does.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Of a policy.
const RULES_MAX: usize = 50;
const TEXT_CHARS_MAX: usize = 30_720;
const DESCRIPTION_CHARS_MAX: usize = 256;
/// Of one pattern.
const WILDCARDS_MAX: usize = 4;

/// Which images a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    Any,
    Untagged,
    /// Those that have, for each of these, a tag that begins so.
    Prefixes(Vec<String>),
    /// Those that have, for each of these, a tag that it matches: `*` stands for any run of characters.
    Patterns(Vec<String>),
}

/// Which of them expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// All but the youngest ones.
    MoreThan(usize),
    /// Those that were pushed so many days ago.
    PushedDays(u64),
    /// Those that nobody pulled for so many days.
    PulledDays(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) priority: u64,
    pub(crate) selection: Selection,
    pub(crate) count: Count,
}

/// Why a text is no lifecycle policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("Lifecycle policy validation failure: {0}")]
    Json(String),
    #[error(
        "Lifecycle policy validation failure: the policy must have between 1 and {RULES_MAX} rules"
    )]
    RuleCount,
    #[error(
        "Lifecycle policy validation failure: the text must have at most {TEXT_CHARS_MAX} characters"
    )]
    TooLong,
    #[error("Lifecycle policy validation failure: rule {priority}: {why}")]
    Rule { priority: u64, why: &'static str },
    #[error("Lifecycle policy validation failure: rulePriority {0} is used by more than one rule")]
    PriorityTwice(u64),
    #[error("Lifecycle policy validation failure: only one rule may select untagged images")]
    UntaggedTwice,
    #[error(
        "Lifecycle policy validation failure: only one rule may have the tagStatus any, and it must have \
         the highest rulePriority"
    )]
    AnyNotLast,
}

impl Wrong {
    fn unmapped() -> Self {
        Self::Json("Could not map policyString into LifecyclePolicy.".to_owned())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleText {
    rule_priority: u64,
    #[serde(default)]
    description: String,
    selection: SelectionText,
    action: ActionText,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SelectionText {
    tag_status: String,
    #[serde(default)]
    tag_prefix_list: Vec<String>,
    #[serde(default)]
    tag_pattern_list: Vec<String>,
    count_type: String,
    count_unit: Option<String>,
    count_number: u64,
    storage_class: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ActionText {
    r#type: String,
    target_storage_class: Option<String>,
}

/// The rules of a text, the one that is applied first at the beginning.
pub(crate) fn read(text: &str) -> Result<Vec<Rule>, Wrong> {
    if TEXT_CHARS_MAX < text.chars().count() {
        return Err(Wrong::TooLong);
    }
    let document: Value = serde_json::from_str(text).map_err(|_| Wrong::unmapped())?;
    check_shape(&document)?;
    let document: Document = serde_json::from_value(document).map_err(|_| Wrong::unmapped())?;
    if document.rules.is_empty() || RULES_MAX < document.rules.len() {
        return Err(Wrong::RuleCount);
    }
    let rules = document.rules.into_iter().map(read_rule);
    let mut rules = rules.collect::<Result<Vec<_>, _>>()?;
    rules.sort_by_key(|rule| rule.priority);
    check_together(&rules)?;
    Ok(rules)
}

/// That everything is there that must be, and nothing else, in ECR's words.
fn check_shape(document: &Value) -> Result<(), Wrong> {
    let rules = &members(document, &["rules"], &[])?["rules"];
    for rule in rules.as_array().ok_or_else(Wrong::unmapped)? {
        let rule = members(rule, &["action", "rulePriority", "selection"], &["description"])?;
        let optional = ["countUnit", "storageClass", "tagPatternList", "tagPrefixList"];
        let needed = ["countNumber", "countType", "tagStatus"];
        let selection = members(&rule["selection"], &needed, &optional)?;
        one_of(selection.get("tagStatus"), &["any", "tagged", "untagged"])?;
        one_of(selection.get("countUnit"), &["days"])?;
        let counts = ["imageCountMoreThan", "sinceImagePushed", "sinceImagePulled"];
        if selection["countType"].as_str().is_some_and(|kind| !counts.contains(&kind)) {
            let why = "instance failed to match exactly one schema (matched 0 out of 2)";
            return Err(Wrong::Json(why.to_owned()));
        }
        let count = &selection["countNumber"];
        if count.as_f64().is_some_and(|number| number < 1.0) {
            return Err(Wrong::Json(format!(
                "numeric instance is lower than the required minimum (minimum: 1, found: {count})"
            )));
        }
        let action = members(&rule["action"], &["type"], &["targetStorageClass"])?;
        // What this registry does not do is said further on.
        let is_known = action["type"] == "transition";
        one_of(action.get("type").filter(|_| !is_known), &["expire"])?;
    }
    Ok(())
}

/// The members of an object that has all of the first, and of others the second alone.
fn members<'v>(
    value: &'v Value,
    needed: &[&str],
    optional: &[&str],
) -> Result<&'v Map<String, Value>, Wrong> {
    let all = value.as_object().ok_or_else(Wrong::unmapped)?;
    let is_known = |name: &str| needed.contains(&name) || optional.contains(&name);
    let mut strange: Vec<&str> =
        all.keys().map(String::as_str).filter(|name| !is_known(name)).collect();
    strange.sort_unstable();
    let missing: Vec<&str> =
        needed.iter().copied().filter(|name| !all.contains_key(*name)).collect();
    match (strange.is_empty(), missing.is_empty()) {
        (true, true) => Ok(all),
        (false, _) => Err(Wrong::Json(format!(
            "object instance has properties which are not allowed by the schema: ({strange:?})"
        ))),
        (true, false) => {
            Err(Wrong::Json(format!("object has missing required properties ({missing:?})")))
        }
    }
}

fn one_of(value: Option<&Value>, known: &[&str]) -> Result<(), Wrong> {
    match value.filter(|value| !known.iter().any(|each| *value == each)) {
        None => Ok(()),
        Some(value) => Err(Wrong::Json(format!(
            "instance value ({value}) not found in enum :(possible values: {known:?})"
        ))),
    }
}

fn check_together(rules: &[Rule]) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = rules.iter().find(|rule| !seen.insert(rule.priority)) {
        return Err(Wrong::PriorityTwice(twice.priority));
    }
    if rules.iter().filter(|rule| rule.selection == Selection::Untagged).count() > 1 {
        return Err(Wrong::UntaggedTwice);
    }
    let any = rules.iter().position(|rule| rule.selection == Selection::Any);
    match any {
        Some(place) if place + 1 < rules.len() => Err(Wrong::AnyNotLast),
        Some(_) | None => Ok(()),
    }
}

fn read_rule(text: RuleText) -> Result<Rule, Wrong> {
    let priority = text.rule_priority;
    let wrong = |why| Wrong::Rule { priority, why };
    if priority == 0 {
        return Err(wrong("rulePriority must be at least 1"));
    }
    if DESCRIPTION_CHARS_MAX < text.description.chars().count() {
        return Err(wrong("the description must have at most 256 characters"));
    }
    if text.action.r#type != "expire" || text.action.target_storage_class.is_some() {
        return Err(wrong("this registry does not archive images: action.type must be expire"));
    }
    if text.selection.storage_class.as_ref().is_some_and(|class| class != "standard") {
        return Err(wrong("this registry does not archive images: storageClass must be standard"));
    }
    let selection = read_selection(&text.selection).map_err(wrong)?;
    let count = read_count(&text.selection).map_err(wrong)?;
    Ok(Rule { priority, selection, count })
}

fn read_selection(text: &SelectionText) -> Result<Selection, &'static str> {
    let (prefixes, patterns) = (&text.tag_prefix_list, &text.tag_pattern_list);
    let has_lists = !prefixes.is_empty() || !patterns.is_empty();
    match text.tag_status.as_str() {
        "any" | "untagged" if has_lists => {
            Err("tagPrefixList and tagPatternList can only be given with the tagStatus tagged")
        }
        "any" => Ok(Selection::Any),
        "untagged" => Ok(Selection::Untagged),
        "tagged" if prefixes.iter().chain(patterns).any(String::is_empty) => {
            Err("tagPrefixList and tagPatternList must not have empty members")
        }
        "tagged" => match (prefixes.is_empty(), patterns.is_empty()) {
            (true, true) => Err("the tagStatus tagged needs a tagPrefixList or a tagPatternList"),
            (false, false) => Err("tagPrefixList and tagPatternList exclude each other"),
            (false, true) => Ok(Selection::Prefixes(prefixes.clone())),
            (true, false) if patterns.iter().any(|it| WILDCARDS_MAX < stars(it)) => {
                Err("a pattern of tagPatternList must have at most 4 wildcards")
            }
            (true, false) => Ok(Selection::Patterns(patterns.clone())),
        },
        _ => Err("tagStatus must be tagged, untagged or any"),
    }
}

fn stars(pattern: &str) -> usize {
    pattern.matches('*').count()
}

fn read_count(text: &SelectionText) -> Result<Count, &'static str> {
    if text.count_number == 0 {
        return Err("countNumber must be at least 1");
    }
    let days = match text.count_unit.as_deref() {
        None => None,
        Some("days") => Some(text.count_number),
        Some(_) => return Err("countUnit must be days"),
    };
    match (text.count_type.as_str(), days) {
        ("imageCountMoreThan", None) => {
            Ok(Count::MoreThan(usize::try_from(text.count_number).unwrap_or(usize::MAX)))
        }
        ("imageCountMoreThan", Some(_)) => {
            Err("countUnit can not be given with the countType imageCountMoreThan")
        }
        ("sinceImagePushed", Some(days)) => Ok(Count::PushedDays(days)),
        ("sinceImagePulled", Some(days)) => Ok(Count::PulledDays(days)),
        ("sinceImagePushed" | "sinceImagePulled", None) => {
            Err("the countType sinceImagePushed needs the countUnit days")
        }
        _ => Err("countType must be imageCountMoreThan, sinceImagePushed or sinceImagePulled"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(priority: u64, selection: Value) -> Value {
        json!({"rulePriority": priority, "selection": selection, "action": {"type": "expire"}})
    }

    fn policy(rules: &[Value]) -> String {
        json!({ "rules": rules }).to_string()
    }

    #[test]
    fn rules_are_read_and_come_in_the_order_of_their_priorities() {
        let text = policy(&[
            rule(
                20,
                json!({"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 5}),
            ),
            rule(
                1,
                json!({"tagStatus": "untagged", "countType": "sinceImagePushed",
                           "countUnit": "days", "countNumber": 14}),
            ),
            rule(
                2,
                json!({"tagStatus": "tagged", "tagPrefixList": ["dev", "qa"],
                           "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 1}),
            ),
            rule(
                3,
                json!({"tagStatus": "tagged", "tagPatternList": ["*-rc*"],
                           "countType": "imageCountMoreThan", "countNumber": 1}),
            ),
        ]);
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let rule = |priority, selection, count| Rule { priority, selection, count };
        let expected = [
            rule(1, Selection::Untagged, Count::PushedDays(14)),
            rule(2, Selection::Prefixes(list(&["dev", "qa"])), Count::PulledDays(1)),
            rule(3, Selection::Patterns(list(&["*-rc*"])), Count::MoreThan(1)),
            rule(20, Selection::Any, Count::MoreThan(5)),
        ];
        assert_eq!(read(&text).unwrap(), expected);
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let any = json!({"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1});
        let with = |name: &str, value: Value| {
            let mut changed = any.clone();
            changed[name] = value;
            changed
        };
        let untagged = with("tagStatus", json!("untagged"));
        let mut archived = rule(1, any.clone());
        archived["action"] = json!({"type": "transition", "targetStorageClass": "archive"});
        for (rules, part) in [
            (vec![], "between 1 and 50 rules"),
            (vec![rule(0, any.clone())], "rulePriority must be at least 1"),
            (vec![rule(1, any.clone()), rule(1, untagged.clone())], "used by more than one rule"),
            (vec![rule(1, any.clone()), rule(2, untagged.clone())], "the highest rulePriority"),
            (vec![rule(1, untagged.clone()), rule(2, untagged)], "one rule may select untagged"),
            (vec![rule(1, with("countNumber", json!(0)))], "(minimum: 1, found: 0)"),
            (vec![rule(1, with("countUnit", json!("days")))], "countUnit can not be given"),
            (vec![rule(1, with("countType", json!("sinceImagePushed")))], "needs the countUnit"),
            (
                vec![rule(1, with("countType", json!("x")))],
                "match exactly one schema (matched 0 out of 2)",
            ),
            (
                vec![rule(1, with("tagStatus", json!("x")))],
                r#"instance value ("x") not found in enum :(possible values: ["any", "tagged", "untagged"])"#,
            ),
            (vec![rule(1, with("tagStatus", json!("tagged")))], "needs a tagPrefixList or"),
            (vec![rule(1, with("tagPrefixList", json!(["a"])))], "only be given with"),
            (
                vec![rule(1, with("nonsense", json!(1)))],
                r#"not allowed by the schema: (["nonsense"])"#,
            ),
            (
                vec![json!({"rulePriority": 1, "action": {"type": "expire"}})],
                r#"object has missing required properties (["selection"])"#,
            ),
            (vec![json!(1)], "Could not map policyString into LifecyclePolicy."),
            (vec![rule(1, with("countNumber", json!("1")))], "Could not map policyString"),
            (vec![archived], "does not archive images"),
        ] {
            let error = read(&policy(&rules)).unwrap_err().to_string();
            assert!(error.starts_with("Lifecycle policy validation failure: "), "{error}");
            assert!(error.contains(part), "{part}: {error}");
        }
        for text in ["{", "[]", r#"{"rules": {}}"#] {
            assert_eq!(read(text), Err(Wrong::unmapped()));
        }
        assert!(read(&"x".repeat(TEXT_CHARS_MAX + 1)).is_err());
    }
}
