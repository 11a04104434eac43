//! Patterns, paths and templates as the published documentation has them, and what is true of all of them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::limits::{DEPTH_MAX, INPUT_BYTES_MAX};
use crate::{
    Effort, Event, Exhausted, Facts, InputPath, InputTransformer, Json, NotATransformer, Pattern,
    RuleInfo, TooLong,
};

fn json(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

impl Pattern {
    /// With as much effort as is given to what comes from outside.
    #[track_caller]
    fn takes(&self, event: &Json) -> bool {
        self.matches(&Facts::of(event.clone()), &Effort::of(1_000_000)).unwrap()
    }
}

#[track_caller]
fn check(pattern_text: &str, event: &str, expected: bool) {
    assert_eq!(pattern(pattern_text).takes(&json(event)), expected, "{pattern_text} of {event}");
}

#[test]
fn a_field_matches_whole_values_and_case_counts() {
    for (pattern, event, expected) in [
        (r#"{"a":["x"]}"#, r#"{"a":"x"}"#, true),
        (r#"{"a":["x"]}"#, r#"{"a":"X"}"#, false),
        (r#"{"a":["x"]}"#, r#"{"a":"xy"}"#, false),
        (r#"{"a":["x","y"]}"#, r#"{"a":"y"}"#, true),
        (r#"{"a":["x"],"b":[1]}"#, r#"{"a":"x","b":1}"#, true),
        (r#"{"a":["x"],"b":[1]}"#, r#"{"a":"x","b":2}"#, false),
        (r#"{"a":["x"],"b":[1]}"#, r#"{"a":"x"}"#, false),
        (r#"{"a":{"b":[true]}}"#, r#"{"a":{"b":true,"c":1}}"#, true),
        (r#"{"a":{"b":[true]}}"#, r#"{"a":"b"}"#, false),
        // Null is neither nothing nor an empty text.
        (r#"{"a":[null]}"#, r#"{"a":null}"#, true),
        (r#"{"a":[null]}"#, r#"{"a":""}"#, false),
        (r#"{"a":[null]}"#, r#"{}"#, false),
        (r#"{"a":[""]}"#, r#"{"a":""}"#, true),
        (r#"{"a":["1"]}"#, r#"{"a":1}"#, false),
        // Of a name twice the last one counts, on both sides.
        (r#"{"a":["x"],"a":["y"]}"#, r#"{"a":"y"}"#, true),
        (r#"{"a":["y"]}"#, r#"{"a":"x","a":"y"}"#, true),
        // A dot in a name is nesting.
        (r#"{"a.b":["x"]}"#, r#"{"a":{"b":"x"}}"#, true),
        (r#"{"a":{"b.c":["x"]}}"#, r#"{"a":{"b.c":"x"}}"#, true),
        (r#"{"a":{"b":{"c":["x"]}}}"#, r#"{"a":{"b.c":"x"}}"#, true),
        (r#"{"a.b":["x"],"a":{"c":["y"]}}"#, r#"{"a":{"b":"x","c":"y"}}"#, true),
        (r#"{"a.b":["x"],"a":{"c":["y"]}}"#, r#"{"a":{"b":"x","c":"z"}}"#, false),
    ] {
        check(pattern, event, expected);
    }
}

#[test]
fn names_of_any_number_of_dots_are_read() {
    let dots = format!(r#"{{"a":{{"{}":1}},"b":1}}"#, "x.".repeat(500_000));
    check(r#"{"b":[1]}"#, &dots, true);
    check(r#"{"a":{"x":{"x":[1]}}}"#, &dots, false);
    // As deep as may be, and then one more.
    let path = |count: usize| vec!["x"; count].join(".");
    let at = |count: usize| format!(r#"{{"{}":[1]}}"#, path(count));
    check(&at(DEPTH_MAX), &format!(r#"{{"{}":1}}"#, path(DEPTH_MAX)), true);
    let why = Pattern::parse(&at(DEPTH_MAX + 1)).unwrap_err().to_string();
    assert!(why.contains("nested in more than 128"), "{why}");
}

#[test]
fn many_names_of_one_beginning_are_read_once() {
    let members: Vec<String> = (0..100_000).map(|each| format!(r#""a.{each}":1"#)).collect();
    let event = format!("{{{}}}", members.join(","));
    check(r#"{"a":{"99999":[1]}}"#, &event, true);
    check(r#"{"a.0":[1],"a.100000":[{"exists":false}]}"#, &event, true);
}

/// What may be chosen in ten times ten times ten ways of one object.
fn ways() -> String {
    let or = |inside: &str| {
        let each = |at: usize| format!(r#"{{"n{at}":[1]{inside}}}"#);
        format!(r#""$or":[{}]"#, (0..10).map(each).collect::<Vec<_>>().join(","))
    };
    let more = format!(r#","x":{{{}}}"#, or(""));
    format!(r#"{{"x":{{{}}},{}}}"#, or(""), or(&more))
}

#[test]
fn what_takes_too_long_is_not_found_out() {
    let objects = vec!["{}"; 300_000].join(",");
    let event =
        Facts::of(json(&format!(r#"{{"x":[{objects}],"n0":1,"t":"{}"}}"#, "a".repeat(1 << 20))));
    let texts: Vec<_> = (0..200).map(|at| format!(r#"{{"wildcard":"*b{at}"}}"#)).collect();
    for text in [ways(), format!(r#"{{"t":[{}]}}"#, texts.join(","))] {
        let pattern = pattern(&text);
        assert_eq!(pattern.matches(&event, &Effort::of(1_000_000)), Err(Exhausted), "{text}");
        let small = Facts::of(json(r#"{"x":[{"n9":1}],"n1":1,"t":"xb7"}"#));
        assert_eq!(pattern.matches(&small, &Effort::of(10_000)), Ok(true), "{text}");
    }
}

#[test]
fn what_a_template_makes_is_bounded() {
    let template = |count: usize| format!("[{}]", vec!["<a>"; count].join(","));
    let paths = BTreeMap::from([("a".to_owned(), "$.detail.t".to_owned())]);
    let event = json(&format!(r#"{{"detail":{{"t":"{}"}}}}"#, "x".repeat(INPUT_BYTES_MAX / 4)));
    let rule = RuleInfo { arn: "arn:rule", name: "rule", ingested: longshore_types::Timestamp(0) };
    let apply =
        |count| InputTransformer::parse(&paths, &template(count)).unwrap().apply(&event, rule);
    assert!(apply(3).is_ok());
    assert_eq!(apply(2_000), Err(TooLong));
}

#[test]
fn numbers_are_compared_by_their_text() {
    for (pattern, event, expected) in [
        (r#"{"a":[300]}"#, r#"{"a":300}"#, true),
        (r#"{"a":[300]}"#, r#"{"a":300.0}"#, false),
        (r#"{"a":[300]}"#, r#"{"a":3.0e2}"#, false),
        (r#"{"a":[3.0e2]}"#, r#"{"a":300.0}"#, false),
        (r#"{"a":[3.0e2]}"#, r#"{"a":3.0e2}"#, true),
        (r#"{"a":[{"anything-but":300}]}"#, r#"{"a":300.0}"#, true),
        (r#"{"a":[{"numeric":["=",300]}]}"#, r#"{"a":3.0e2}"#, true),
        (r#"{"a":[{"numeric":[">",0,"<=",5]}]}"#, r#"{"a":5}"#, true),
        (r#"{"a":[{"numeric":[">",0,"<=",5]}]}"#, r#"{"a":0}"#, false),
        (r#"{"a":[{"numeric":[">",0,"<",5]}]}"#, r#"{"a":5}"#, false),
        (r#"{"a":[{"numeric":["<",-1.5]}]}"#, r#"{"a":-2}"#, true),
        (r#"{"a":[{"numeric":[">=",0]}]}"#, r#"{"a":"1"}"#, false),
    ] {
        check(pattern, event, expected);
    }
}

#[test]
fn operators_do_what_the_guide_says() {
    for (operator, yes, no) in [
        (
            r#"{"prefix":"us-"}"#,
            vec![r#""us-east-1""#, r#""us-""#],
            vec![r#""US-e""#, "1", r#""u""#],
        ),
        (
            r#"{"prefix":{"equals-ignore-case":"US-"}}"#,
            vec![r#""us-east""#, r#""Us-""#],
            vec![r#""eu""#],
        ),
        (r#"{"suffix":".png"}"#, vec![r#""a.png""#], vec![r#""a.PNG""#, r#""png""#]),
        (r#"{"suffix":{"equals-ignore-case":".Png"}}"#, vec![r#""a.PNG""#], vec![r#""a.jpg""#]),
        (r#"{"equals-ignore-case":"aLiCe"}"#, vec![r#""ALICE""#], vec![r#""alices""#]),
        (
            r#"{"wildcard":"a*c*e"}"#,
            vec![r#""ace""#, r#""abcde""#, r#""a*c*e""#],
            vec![r#""ac""#, r#""acex""#],
        ),
        (r#"{"wildcard":"ab*ba"}"#, vec![r#""abba""#], vec![r#""aba""#]),
        (r#"{"wildcard":"*x"}"#, vec![r#""x""#, r#""axx""#], vec![r#""xy""#]),
        (r#"{"wildcard":"a\\*b\\\\"}"#, vec![r#""a*b\\""#], vec![r#""axb\\""#]),
        (r#"{"wildcard":"plain"}"#, vec![r#""plain""#], vec![r#""plains""#]),
        (
            r#"{"anything-but":"x"}"#,
            vec![r#""y""#, "1", "null", r#"["x","y"]"#],
            vec![r#""x""#, r#"["x"]"#, "{}", "[]"],
        ),
        (r#"{"anything-but":["x","y"]}"#, vec![r#""z""#], vec![r#""x""#, r#""y""#]),
        (r#"{"anything-but":[1,2]}"#, vec!["3", r#""1""#], vec!["1", "2"]),
        (r#"{"anything-but":{"prefix":"in"}}"#, vec![r#""out""#], vec![r#""init""#]),
        (
            r#"{"anything-but":{"prefix":["in","out"]}}"#,
            vec![r#""up""#],
            vec![r#""init""#, r#""outer""#],
        ),
        (r#"{"anything-but":{"suffix":["1","2"]}}"#, vec![r#""a3""#], vec![r#""a1""#]),
        (
            r#"{"anything-but":{"equals-ignore-case":["A","b"]}}"#,
            vec![r#""c""#],
            vec![r#""a""#, r#""B""#],
        ),
        (r#"{"anything-but":{"wildcard":"*/lib/*"}}"#, vec![r#""/etc/x""#], vec![r#""/lib/x""#]),
        (
            r#"{"cidr":"10.0.0.0/24"}"#,
            vec![r#""10.0.0.255""#],
            vec![r#""10.0.1.0""#, r#""x""#, r#""::1""#],
        ),
        (r#"{"cidr":"10.0.0.7/0"}"#, vec![r#""255.255.255.255""#], vec![r#""::""#]),
        (
            r#"{"cidr":"2001:db8::/32"}"#,
            vec![r#""2001:db8:ffff::1""#],
            vec![r#""2001:db9::""#, r#""10.0.0.1""#],
        ),
        (r#"{"exists":true}"#, vec![r#""""#, "null", "[1]"], vec![r#"{"b":1}"#, "{}", "[]"]),
        (r#"{"exists":false}"#, vec![r#"{"b":1}"#, "{}", "[]"], vec!["null", "1", "[1]"]),
    ] {
        for (values, expected) in [(yes, true), (no, false)] {
            for value in values {
                check(
                    &format!(r#"{{"a":[{operator}]}}"#),
                    &format!(r#"{{"a":{value}}}"#),
                    expected,
                );
            }
        }
    }
    check(r#"{"a":[{"exists":false}]}"#, "{}", true);
    check(r#"{"a":{"b":[{"exists":false}]}}"#, "{}", true);
    check(r#"{"a":[{"exists":false},"x"]}"#, r#"{"a":"x"}"#, true);
    check(r#"{"a":[{"anything-but":"x"}]}"#, "{}", false);
    check(r#"{"a":[{"exists":true}]}"#, "{}", false);
}

#[test]
fn fields_of_objects_in_an_array_are_of_the_same_element() {
    let event = r#"{"a":[{"b":1,"c":2},{"b":3,"c":4}],"r":["x","y"]}"#;
    for (pattern, expected) in [
        (r#"{"a":{"b":[1]}}"#, true),
        (r#"{"a":{"b":[3]}}"#, true),
        (r#"{"a":{"b":[1],"c":[2]}}"#, true),
        (r#"{"a":{"b":[1],"c":[4]}}"#, false),
        (r#"{"a.b":[1],"a.c":[4]}"#, false),
        // What $or offers is of the same element as what stands beside it.
        (r#"{"a":{"b":[1],"$or":[{"c":[4]},{"c":[2]}]}}"#, true),
        (r#"{"a":{"b":[1]},"$or":[{"a":{"c":[4]}},{"z":[1]}]}"#, false),
        (r#"{"a":{"b":[1]},"$or":[{"a":{"c":[4]}},{"r":["y"]}]}"#, true),
        (r#"{"r":["y"]}"#, true),
        (r#"{"r":["z"]}"#, false),
        (r#"{"a":{"d":[{"exists":false}]}}"#, true),
        (r#"{"a":{"b":[1],"d":[{"exists":false}]}}"#, true),
    ] {
        check(pattern, event, expected);
    }
    let absent = r#"{"a":{"d":[{"exists":false}]}}"#;
    check(absent, r#"{"a":[{"b":1},{"d":2}]}"#, false);
    check(r#"{"a":{"b":[1],"d":[{"exists":false}]}}"#, r#"{"a":[{"b":1},{"d":2}]}"#, true);
    check(r#"{"a":{"b":{"c":[1],"d":[2]}}}"#, r#"{"a":[{"b":[{"c":1}]},{"b":[{"d":2}]}]}"#, false);
}

#[test]
fn one_of_the_alternatives_is_enough() {
    let two = r#"{"s":["x"],"$or":[{"a":[1]},{"b":[2],"c":[3]}]}"#;
    for (event, expected) in [
        (r#"{"s":"x","a":1}"#, true),
        (r#"{"s":"x","b":2,"c":3}"#, true),
        (r#"{"s":"x","b":2}"#, false),
        (r#"{"s":"y","a":1}"#, false),
    ] {
        check(two, event, expected);
    }
    // Two alternatives at the least, and no operators: else it is a field's name.
    check(r#"{"$or":["x"]}"#, r#"{"$or":"x"}"#, true);
    check(r#"{"$or":[{"prefix":"x"},{"prefix":"y"}]}"#, r#"{"$or":"yes"}"#, true);
    check(r#"{"$or":[{"a":[1],"$or":[{"b":[1]},{"c":[1]}]},{"d":[1]}]}"#, r#"{"a":1,"c":1}"#, true);
}

#[test]
fn what_is_no_pattern_is_told_in_eventbridges_words() {
    for (text, reason) in [
        ("", "the text ends where a value is missing at line 1, column 1"),
        ("[]", "Filter is not an object"),
        ("{}", "Empty objects are not allowed"),
        (r#"{"lenderId":"x"}"#, r#""lenderId" must be an object or an array"#),
        (r#"{"a":[]}"#, "Empty arrays are not allowed"),
        (r#"{"a":{}}"#, "Empty objects are not allowed"),
        (r#"{"a":[[1]]}"#, "Match value must be String, number, true, false, or null"),
        (r#"{"a":[{"like":"x"}]}"#, "Unrecognized match type like"),
        (r#"{"a":[{"prefix":"x","suffix":"y"}]}"#, "Only one key allowed in match expression"),
        (r#"{"a":[{"prefix":1}]}"#, "prefix match pattern must be a string"),
        (r#"{"a":[{"wildcard":"a**b"}]}"#, "Consecutive wildcard characters at pos 2"),
        (r#"{"a":[{"wildcard":"a\\b"}]}"#, "Invalid escape character at pos 1"),
        (r#"{"a":[{"exists":1}]}"#, "exists match pattern must be either true or false."),
        (r#"{"a":[{"numeric":["!",1]}]}"#, "Unrecognized numeric range operator: !"),
        (r#"{"a":[{"numeric":[">",1,"<",1]}]}"#, "Bottom must be less than top"),
        (r#"{"a":[{"numeric":["<",1,">",0]}]}"#, "Too many terms in numeric range expression"),
        (r#"{"a":[{"numeric":[">"]}]}"#, "Value of > must be numeric"),
        (r#"{"a":[{"cidr":"10.0.0.0"}]}"#, "Malformed CIDR, one '/' required"),
        (r#"{"a":[{"cidr":"10.0.0.0/33"}]}"#, "Malformed CIDR, mask bits must be from 0 to 32"),
    ] {
        let error = Pattern::parse(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Event pattern is not valid. Reason: {reason}"),
            "{text}"
        );
    }
    assert!(Pattern::parse(r#"{"a":[{"anything-but":["x",1]}]}"#).is_err());
    assert!(Pattern::parse(r#"{"a":[{"anything-but":[]}]}"#).is_err());
    assert!(Pattern::parse(r#"{"a":[{"anything-but":null}]}"#).is_err());
    assert!(Pattern::parse(&"[".repeat(1_000_000)).is_err());
    assert!(Pattern::parse(&r#"{"a":"#.repeat(1_000_000)).is_err());
}

fn alternatives(of: usize) -> String {
    let alternatives: Vec<String> = (0..of).map(|each| format!(r#"{{"f":[{each}]}}"#)).collect();
    format!(r#""$or":[{}]"#, alternatives.join(","))
}

#[test]
fn alternatives_can_be_combined_in_a_thousand_ways_and_no_more() {
    let ten = alternatives(10);
    let thousand = format!(r#"{{"a":{{{ten}}},"b":{{{ten}}},"c":{{{ten}}}}}"#);
    assert!(Pattern::parse(&thousand).is_ok());
    let two = alternatives(2);
    let more = format!(r#"{{"a":{{{ten}}},"b":{{{ten}}},"c":{{{ten}}},"d":{{{two}}}}}"#);
    assert!(Pattern::parse(&more).unwrap_err().reason.starts_with("Rule is too complex"));
    // The product is of no number.
    let many: Vec<String> = (0..100).map(|each| format!(r#""{each}":{{{two}}}"#)).collect();
    assert!(Pattern::parse(&format!("{{{}}}", many.join(","))).is_err());
}

#[test]
fn a_hostile_wildcard_goes_through_a_value_once() {
    let stars = format!(r#"{{"a":[{{"wildcard":"{}b"}}]}}"#, "*a".repeat(1_000));
    let event = format!(r#"{{"a":"{}"}}"#, "a".repeat(1_000_000));
    check(&stars, &event, false);
}

#[test]
fn a_pattern_says_which_sources_it_may_want() {
    for (text, source, expected) in [
        (r#"{"source":["aws.ecs"]}"#, "aws.ecs", true),
        (r#"{"source":["aws.ecs"]}"#, "aws.ecr", false),
        (r#"{"source":[{"prefix":"aws."}],"detail":{"a":[1]}}"#, "aws.ecr", true),
        (r#"{"source":[{"anything-but":"aws.ecs"}]}"#, "aws.ecs", false),
        (r#"{"detail-type":["x"]}"#, "aws.ecs", true),
        (r#"{"$or":[{"source":["a"]},{"source":["b"]}]}"#, "b", true),
        (r#"{"$or":[{"source":["a"]},{"source":["b"]}]}"#, "c", false),
        (r#"{"$or":[{"source":["a"]},{"detail-type":["b"]}]}"#, "c", true),
        (r#"{"source":[{"exists":false}]}"#, "aws.ecs", false),
    ] {
        assert_eq!(pattern(text).may_want(source), expected, "{text} {source}");
    }
}

fn event() -> Event {
    Event {
        id: "7bf73129-1428-4cd3-a780-95db273d1602".parse().unwrap(),
        source: "aws.ecs".to_owned(),
        detail_type: "ECS Task State Change".to_owned(),
        account: "123456789012".parse().unwrap(),
        region: "eu-north-1".parse().unwrap(),
        time: longshore_types::Timestamp(1_700_000_000_123),
        resources: vec!["arn:aws:ecs:eu-north-1:123456789012:task/c/1".to_owned()],
        detail: json(
            r#"{"lastStatus":"RUNNING","version":3,"containers":[{"name":"app"},{"name":"side"}]}"#,
        ),
    }
}

#[test]
fn the_envelope_has_its_members_in_the_order_of_the_published_ones() {
    assert_eq!(
        event().to_json(),
        concat!(
            r#"{"version":"0","id":"7bf73129-1428-4cd3-a780-95db273d1602","#,
            r#""detail-type":"ECS Task State Change","source":"aws.ecs","account":"123456789012","#,
            r#""time":"2023-11-14T22:13:20Z","region":"eu-north-1","#,
            r#""resources":["arn:aws:ecs:eu-north-1:123456789012:task/c/1"],"#,
            r#""detail":{"lastStatus":"RUNNING","version":3,"containers":[{"name":"app"},{"name":"side"}]}}"#,
        )
    );
}

#[test]
fn a_path_names_a_part_of_an_event() {
    let whole = event().to_value();
    for (path, expected) in [
        ("$.detail-type", Some(r#""ECS Task State Change""#)),
        ("$.detail.version", Some("3")),
        ("$.detail.containers[1].name", Some(r#""side""#)),
        ("$.detail.containers[*].name", Some(r#"["app","side"]"#)),
        ("$.detail.containers[2].name", None),
        ("$.detail['lastStatus']", Some(r#""RUNNING""#)),
        ("$.source.x", None),
    ] {
        let found = InputPath::parse(path).unwrap().of(&whole).map(|value| value.to_string());
        assert_eq!(found.as_deref(), expected, "{path}");
    }
    assert_eq!(InputPath::parse("$").unwrap().of(&whole), Some(whole));
    for path in
        ["", "detail", "$detail", "$.", "$..a", "$.a[", "$.a[x]", "$.a[-1]", "$.a[]", "$.a b"]
    {
        assert!(InputPath::parse(path).is_err(), "{path}");
    }
}

fn transformer(template: &str) -> Result<InputTransformer, NotATransformer> {
    let paths = [
        ("status", "$.detail.lastStatus"),
        ("version", "$.detail.version"),
        ("containers", "$.detail.containers"),
        ("nothing", "$.detail.nothing"),
    ];
    let paths = paths.map(|(name, path)| (name.to_owned(), path.to_owned()));
    InputTransformer::parse(&BTreeMap::from(paths), template)
}

#[test]
fn a_template_is_filled_with_what_the_event_has() {
    let ingested = longshore_types::Timestamp(1_700_000_001_000);
    let rule = RuleInfo { arn: "arn:rule", name: "rule", ingested };
    for (template, expected) in [
        (r#""<status> it is""#, r#""RUNNING it is""#),
        ("\"<status>\"\n\"version <version>\"", "\"RUNNING\"\n\"version 3\""),
        (r#"{"s":<status>,"v":<version>,"q":"<version>"}"#, r#"{"s":"RUNNING","v":3,"q":"3"}"#),
        (r#"{"c": <containers>}"#, r#"{"c":[{"name":"app"},{"name":"side"}]}"#),
        (r#"{"c":"<containers>"}"#, r#"{"c":"[{\"name\":\"app\"},{\"name\":\"side\"}]"}"#),
        (
            r#"{"n":<nothing>,"l":[1,<nothing>,<version>],"t":"-<nothing>-"}"#,
            r#"{"l":[1,3],"t":"--"}"#,
        ),
        (r#"{"say":"\"<status>\" < 3 >"}"#, r#"{"say":"\"RUNNING\" < 3 >"}"#),
        (
            r#"[<aws.events.rule-arn>,"<aws.events.rule-name>",<aws.events.event.ingestion-time>]"#,
            r#"["arn:rule","rule","2023-11-14T22:13:21Z"]"#,
        ),
        ("<version>", "3"),
    ] {
        assert_eq!(
            transformer(template).unwrap().apply(&event().to_value(), rule).unwrap(),
            expected,
            "{template}"
        );
    }
    let whole =
        transformer("<aws.events.event.json>").unwrap().apply(&event().to_value(), rule).unwrap();
    assert_eq!(whole, event().to_json());
    let envelope = transformer(r#"{"e":<aws.events.event>}"#)
        .unwrap()
        .apply(&event().to_value(), rule)
        .unwrap();
    assert!(envelope.contains("detail-type") && !envelope.contains("lastStatus"), "{envelope}");
}

#[test]
fn a_template_that_is_none_says_why() {
    let unknown = NotATransformer::Unknown { name: "other".to_owned() };
    assert_eq!(transformer(r#""<other>""#), Err(unknown.clone()));
    assert_eq!(transformer(r#"{"a":<other>}"#), Err(unknown));
    assert_eq!(transformer(r#"{<status>:1}"#), Err(NotATransformer::Key));
    for template in ["", "plain text", r#"{"a":<status>"#, r#"{"a": status}"#] {
        assert!(matches!(transformer(template), Err(NotATransformer::Template(_))), "{template}");
    }
    let parse = |name: &str, path: &str| {
        let paths = BTreeMap::from([(name.to_owned(), path.to_owned())]);
        InputTransformer::parse(&paths, r#""x""#)
    };
    assert!(matches!(parse("AWS.x", "$.a"), Err(NotATransformer::Name { .. })));
    assert!(matches!(parse("a b", "$.a"), Err(NotATransformer::Name { .. })));
    assert!(matches!(parse("a", "a"), Err(NotATransformer::Path { .. })));
}

/// JSON of a few levels, with names that repeat.
fn any_json() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        any::<i32>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
    ];
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number.prop_map(Json::Number),
        any::<String>().prop_map(Json::Text),
        "[ab*<>.]{0,4}".prop_map(Json::Text),
    ];
    scalar.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
            prop::collection::btree_map("[abc]{1,2}", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn any_event() -> impl Strategy<Value = Json> {
    prop::collection::btree_map("[abcd]", any_json(), 1..5)
        .prop_map(|members| Json::Object(members.into_iter().collect()))
}

/// What is true of an object, as a pattern that says all of it.
fn pattern_of(value: &Json) -> Option<Json> {
    match value {
        Json::Object(members) => {
            let members = members.iter();
            let said: Vec<_> = members
                .filter_map(|(name, value)| Some((name.clone(), pattern_of(value)?)))
                .collect();
            (!said.is_empty()).then_some(Json::Object(said))
        }
        Json::List(items) => items.iter().find_map(pattern_of),
        scalar => Some(Json::List(vec![scalar.clone()])),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(value in any_json()) {
        prop_assert_eq!(Json::parse(&value.to_string()), Ok(value));
    }

    #[test]
    fn any_text_is_json_or_is_not_for_us_as_for_others(text in "[\\[\\]{}\",:0-9.eE+\\- \\\\untrfalse]{0,12}") {
        let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
        // A number that is too large is none for others.
        if !text.contains(['e', 'E']) {
            prop_assert_eq!(Json::parse(&text).is_ok(), theirs.is_ok(), "{}", text);
        }
    }

    #[test]
    fn a_pattern_made_from_an_event_matches_it(event in any_event()) {
        if let Some(said) = pattern_of(&event) {
            let text = said.to_string();
            prop_assert!(pattern(&text).takes(&event), "{} of {}", text, event);
        }
    }

    #[test]
    fn one_more_alternative_never_unmatches(event in any_event(), other in any_event(), more in "[abc*]{0,3}") {
        if let (Some(said), Some(others)) = (pattern_of(&other), pattern_of(&event)) {
            let before = pattern(&said.to_string()).takes(&event);
            let either = format!(r#"{{"$or":[{said},{others}]}}"#);
            prop_assert!(pattern(&either).takes(&event), "{} of {}", either, event);
            let neither = format!(r#"{{"$or":[{said},{{"z":["{more}"]}}]}}"#);
            prop_assert_eq!(pattern(&neither).takes(&event), before, "{} of {}", neither, event);
        }
    }

    #[test]
    fn no_text_makes_reading_panic(text in any::<String>()) {
        let _ = Pattern::parse(&text);
        let _ = InputPath::parse(&text);
        let _ = transformer(&text);
    }

    #[test]
    fn a_wildcard_matches_what_its_stars_are_filled_with(
        parts in prop::collection::vec("[ab]{1,3}", 1..5),
        fill in "[abc]{0,3}",
    ) {
        let text = format!(r#"{{"a":[{{"wildcard":"{}"}}]}}"#, parts.join("*"));
        let event = format!(r#"{{"a":"{}"}}"#, parts.join(&fill));
        prop_assert!(pattern(&text).takes(&json(&event)), "{} of {}", text, event);
    }
}
