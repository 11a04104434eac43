use super::*;
use crate::json;
use crate::shape::{NumberKind, Pattern, TEXT};

static NAME: Text = Text {
    limits: Limits { min: Some(1), max: Some(5) },
    pattern: Some(Pattern::new("[a-z]+")),
    ..Text::ANY
};
static KIND: Text = Text { values: &["A", "B"], ..Text::ANY };
static COUNT: Number = Number { kind: NumberKind::Integer, min: Some(1.0), max: Some(10.0) };
static TAG: Structure = Structure::new(
    "Tag",
    &[Member::new("key", Shape::Text(&TEXT)).required(), Member::new("value", Shape::Text(&NAME))],
);
static TAGS: List = List {
    item: Member::new("member", Shape::Structure(&TAG)),
    flattened: false,
    limits: Limits { min: None, max: Some(2) },
    sensitive: false,
};
static NAMES: List = List {
    item: Member::new("member", Shape::Text(&TEXT)),
    flattened: false,
    limits: Limits { min: Some(1), max: Some(2) },
    sensitive: false,
};
static INPUT: Structure = Structure::new(
    "Input",
    &[
        Member::new("name", Shape::Text(&NAME)).required(),
        Member::new("kind", Shape::Text(&KIND)),
        Member::new("count", Shape::Number(&COUNT)),
        Member::new("tags", Shape::List(&TAGS)),
        Member::new("names", Shape::List(&NAMES)),
    ],
);

#[derive(Clone, Default, PartialEq)]
struct Tag {
    key: Option<String>,
    value: Option<String>,
}
crate::structure!(Tag, &TAG, { 0 key, 1 value });

#[derive(Clone, Default, PartialEq)]
struct Input {
    name: Option<String>,
    kind: Option<String>,
    count: Option<i32>,
    tags: Option<Vec<Tag>>,
    names: Option<Vec<String>>,
}
crate::structure!(Input, &INPUT, { 0 name, 1 kind, 2 count, 3 tags, 4 names });

const STANDARD: Wording = Wording::Standard { code: "ValidationException" };

fn said(text: &str, wording: Wording) -> (String, String) {
    let input: Input = json::from_slice(text.as_bytes()).unwrap();
    match check(&input, &INPUT, wording) {
        Ok(()) => (String::new(), String::new()),
        Err(error) => (error.code.into_owned(), error.message),
    }
}

#[test]
fn every_constraint_has_its_sentence() {
    let at = "failed to satisfy constraint: Member must";
    let cases = [
        (r#"{"name":"abc","kind":"A","count":10,"tags":[{"key":"k"}]}"#, String::new()),
        ("{}", format!("1 validation error detected: Value null at 'name' {at} not be null")),
        (
            r#"{"name":"ABC"}"#,
            format!(
                "1 validation error detected: Value 'ABC' at 'name' {at} satisfy regular expression pattern: [a-z]+"
            ),
        ),
        (
            r#"{"name":"abcdef"}"#,
            format!(
                "1 validation error detected: Value 'abcdef' at 'name' {at} have length less than or equal to 5"
            ),
        ),
        (
            r#"{"name":"a","kind":"C","count":11}"#,
            format!(
                "2 validation errors detected: Value 'C' at 'kind' {at} satisfy enum value set: [A, B]; Value '11' at 'count' {at} have value less than or equal to 10"
            ),
        ),
        (
            r#"{"name":"a","tags":[{"key":"k"},{"value":"X"}]}"#,
            format!(
                "2 validation errors detected: Value null at 'tags.2.member.key' {at} not be null; Value 'X' at 'tags.2.member.value' {at} satisfy regular expression pattern: [a-z]+"
            ),
        ),
        (
            r#"{"name":"a","names":["x","y","z"]}"#,
            format!(
                "1 validation error detected: Value '[x, y, z]' at 'names' {at} have length less than or equal to 2"
            ),
        ),
        (
            r#"{"name":"a","names":[]}"#,
            format!(
                "1 validation error detected: Value '[]' at 'names' {at} have length greater than or equal to 1"
            ),
        ),
    ];
    for (text, sentence) in cases {
        assert_eq!(said(text, STANDARD).1, sentence, "{text}");
    }
}

#[test]
fn each_service_words_it_in_its_own_way() {
    let bad = r#"{"name":"ABC"}"#;
    let (code, message) = said(bad, Wording::Ecr);
    assert_eq!(code, "InvalidParameterException");
    let words = "Invalid parameter at 'name' failed to satisfy constraint: 'must satisfy regular expression '[a-z]+''";
    assert_eq!(message, words);
    let (code, message) = said("{}", Wording::Ec2);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("MissingParameter", "The request must contain the parameter Name")
    );
    let (code, message) = said("{}", Wording::Ecs);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("InvalidParameterException", "Name can not be blank.")
    );
    let (code, message) = said(r#"{"name":"a","tags":[{}]}"#, Wording::Ecs);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("ClientException", "Tag.key should not be null or empty.")
    );
    let unknown = said(r#"{"name":"a","kind":"C","names":[]}"#, Wording::Ecs);
    assert_eq!(unknown.0, "", "values and empty lists are the handlers' to refuse");
}

#[test]
fn a_flood_of_violations_is_cut_short() {
    let tags = vec!["{}"; 50_000].join(",");
    let (_, message) = said(&format!(r#"{{"name":"a","tags":[{tags}]}}"#), STANDARD);
    assert!(message.starts_with("10 validation errors detected"), "{}", message.len());
    assert!(message.len() < 10_000);
}
