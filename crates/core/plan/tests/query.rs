//! The cluster query language: tables, and what holds for any text.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;

use longshore_types::Timestamp;
use plan::{Expression, Facts, QueryError};
use proptest::prelude::proptest;

fn holds(text: &str) -> bool {
    let attributes = BTreeMap::from([
        ("ecs.instance-type".to_owned(), Some("g2.2xlarge".to_owned())),
        ("ecs.availability-zone".to_owned(), Some("us-east-1a".to_owned())),
        ("slots".to_owned(), Some("10".to_owned())),
        ("gpu".to_owned(), None),
    ]);
    let groups =
        BTreeMap::from([("service:production".to_owned(), 2), ("family:old".to_owned(), 0)]);
    let facts = Facts {
        attributes: &attributes,
        agent_connected: true,
        agent_version: Some("1.105.1"),
        ec2_instance_id: Some("i-abcd1234"),
        registered_at: Timestamp::from_civil(2024, 11, 8).unwrap().plus_ms(3_600_000),
        running_tasks: 3,
        groups: &groups,
    };
    let expression: Expression = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
    expression.matches(&facts)
}

#[test]
fn what_the_documentation_shows_is_understood() {
    for text in [
        "attribute:ecs.instance-type == g2.2xlarge",
        "attribute:ecs.availability-zone in [us-east-1a, us-east-1b]",
        "attribute:ecs.instance-type =~ g2.* and attribute:ecs.availability-zone != us-east-1d",
        "task:group == service:production",
        "not(task:group == database)",
        "runningTasksCount == 3",
        "runningTasksCount greater_than_equal 3 && runningTasksCount < 4",
        "ec2InstanceId in ['i-abcd1234', 'i-wxyz7890']",
        "agentConnected==true",
        "agentVersion >= 1.9.0",
        "registeredAt > 2024-11-08 and registeredAt<2024-11-08T01:00:01Z",
        "attribute:gpu exists",
        "attribute:tpu !exists and attribute:tpu not_exists",
        "attribute:slots > 9",
        "attribute:slots matches 1[0-9]",
        "attribute:ecs.instance-type !~ t2.*",
        "attribute:ecs.instance-type not_in [t2.small, \"t2.nano\"]",
        "(attribute:a == b or (attribute:slots == 10)) and !agentConnected == false",
        "attribute:ecs.instance-type =~ (g2|g3).*",
        "attribute:absent != x",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "task:group == family:old",
        "attribute:ecs.instance-type =~ g2",
        "attribute:absent == x",
        "attribute:absent > 1",
        "agentConnected == false",
        "attribute:gpu exists and runningTasksCount > 3",
        "attribute:gpu exists and runningTasksCount > 3 or attribute:slots == 9",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn and_binds_closer_than_or() {
    assert!(holds("attribute:slots == 10 or attribute:gpu exists and agentConnected == false"));
}

#[test]
fn what_makes_no_sense_says_where() {
    let error = |text: &str| text.parse::<Expression>().unwrap_err();
    assert_eq!(error(""), QueryError::Expected { expected: "a subject", at: 1 });
    assert_eq!(error("color == red"), QueryError::UnknownSubject { subject: "color".to_owned() });
    assert_eq!(
        error("attribute:a == b attribute:c == d").to_string(),
        "expected 'and', 'or' or the end at character 18"
    );
    assert!(matches!(error("agentConnected == maybe"), QueryError::WrongValue { .. }));
    assert!(matches!(error("agentConnected > true"), QueryError::WrongOperator { .. }));
    assert!(matches!(error("attribute:a =~ ["), QueryError::Pattern { .. }));
    assert!(matches!(
        error("attribute:a =~ (((a{1000}){1000}){1000})"),
        QueryError::Pattern { .. }
    ));
    assert!(matches!(error("attribute:a in [b"), QueryError::Expected { .. }));
    assert_eq!(error(&"!".repeat(1000)), QueryError::TooDeep);
    assert_eq!(error(&" ".repeat(2001)), QueryError::TooLong);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,300}") {
        let _ = text.parse::<Expression>();
    }

    #[test]
    fn no_sequence_of_its_own_words_makes_the_parser_panic(
        words in proptest::collection::vec(0_usize..24, 0..40)
    ) {
        const WORDS: [&str; 24] = [
            "attribute:a", "agentConnected", "task:group", "runningTasksCount", "registeredAt",
            "==", "!=", ">", "=~", "in", "!in", "exists", "not", "!", "(", ")", "[", "]", ",",
            "and", "||", "true", "'quoted", "7",
        ];
        let text: String = words.into_iter().flat_map(|word| [WORDS[word], " "]).collect();
        let _ = text.parse::<Expression>();
    }

    #[test]
    fn a_double_negation_changes_nothing(value in "[a-z0-9]{1,8}") {
        let plain = format!("attribute:slots == {value}");
        assert_eq!(holds(&plain), holds(&format!("not (not ({plain}))")));
        assert_eq!(holds(&plain), !holds(&format!("attribute:slots != {value}")));
    }
}
