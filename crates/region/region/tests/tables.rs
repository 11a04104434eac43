//! What must hold of everything that is generated.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use aws_wire::service::Service;
use aws_wire::shape::{Pattern, Shape};
use ec2_api as ec2;
use ecr_api as ecr;
use ecs_api as ecs;
use logs_api as logs;
use sts_api as sts;

static SERVICES: [&Service; 5] =
    [&ecs::SERVICE, &ecr::SERVICE, &logs::SERVICE, &sts::SERVICE, &ec2::SERVICE];

fn patterns(shape: Shape, seen: &mut BTreeSet<usize>, found: &mut Vec<&'static Pattern>) {
    match shape {
        Shape::Structure(table) => {
            if seen.insert(std::ptr::from_ref(table).addr()) {
                table.members.iter().for_each(|member| patterns(member.shape, seen, found));
            }
        }
        Shape::List(list) => patterns(list.item.shape, seen, found),
        Shape::Map(map) => {
            patterns(map.key.shape, seen, found);
            patterns(map.value.shape, seen, found);
        }
        Shape::Text(text) => found.extend(&text.pattern),
        Shape::Number(_)
        | Shape::Boolean
        | Shape::Timestamp(_)
        | Shape::Blob(_)
        | Shape::Document => {}
    }
}

#[test]
fn every_pattern_of_the_models_is_enforced() {
    let (mut seen, mut found) = (BTreeSet::new(), vec![]);
    for operation in SERVICES.iter().flat_map(|service| service.operations) {
        for table in [operation.input, operation.output].into_iter().flatten() {
            patterns(Shape::Structure(table), &mut seen, &mut found);
        }
    }
    assert!(10 < found.len());
    for pattern in found {
        assert!(pattern.is_enforced(), "{}", pattern.text);
    }
}

#[test]
fn operations_are_sorted_and_either_there_or_absent() {
    for service in SERVICES {
        assert!(service.operations.is_sorted_by(|one, other| one.name < other.name));
        assert!(service.absent.is_sorted_by(|one, other| one < other));
        for operation in service.operations {
            assert!(service.operation(operation.name).is_some());
            assert!(!service.absent.contains(&operation.name), "{}", operation.name);
        }
    }
}

#[test]
fn what_is_sensitive_never_prints() {
    let pair = ecs::KeyValuePair { name: Some("PASSWORD".into()), value: Some("hunter2".into()) };
    let definition = ecs::ContainerDefinition {
        name: Some("web".into()),
        environment: Some(vec![pair]),
        ..Default::default()
    };
    let printed = format!("{definition:?}");
    assert!(printed.contains("name: \"web\""), "{printed}");
    assert!(ecs::SERVICE.operation("RunTask").is_some());
    let secret =
        ecr::AuthorizationData { authorization_token: Some("s".into()), ..Default::default() };
    assert_eq!(format!("{secret:?}"), "AuthorizationData{authorizationToken: \"s\"}");
}

#[test]
fn an_unknown_enumeration_value_survives_the_way_there_and_back() {
    let sent = br#"{"taskDefinition":"a","launchType":"MOON","unknownMember":{"x":[1]}}"#;
    let read: ecs::RunTaskRequest = aws_wire::json::from_slice(sent).unwrap();
    assert_eq!(read.launch_type, Some(ecs::LaunchType::Unknown("MOON".to_owned())));
    let written = aws_wire::json::to_vec(&read);
    assert_eq!(written, br#"{"launchType":"MOON","taskDefinition":"a"}"#);
}
