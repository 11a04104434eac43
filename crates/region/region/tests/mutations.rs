//! Whatever is done to a request's bytes, reading it neither panics nor becomes our fault.
//!
//! The bounded sibling of `fuzz/`: valid requests of every operation, mutated at random.

#![allow(clippy::unwrap_used)]

use aws_wire::query::{Dialect, Form};
use aws_wire::service::{Call, Inbound, Protocol, Service, error_answer};
use aws_wire::{ApiError, cbor, json, query};
use ec2_api as ec2;
use ecr_api as ecr;
use ecs_api as ecs;
use http::HeaderMap;
use logs_api as logs;
use longshore_types::Uuid;
use proptest::prelude::*;
use sts_api as sts;

const REGISTER: &str = r#"{"family":"web","networkMode":"awsvpc","cpu":"256","memory":"512","containerDefinitions":[{"name":"a","image":"b","cpu":10,"memory":64,"essential":true,"portMappings":[{"containerPort":80,"protocol":"tcp"}],"environment":[{"name":"X","value":"é\u00e9\n"}],"logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"g"}},"healthCheck":{"command":["CMD","true"],"interval":5},"ulimits":[{"name":"nofile","softLimit":1,"hardLimit":2}]}],"tags":[{"key":"k","value":"v"}]}"#;
const PUT_EVENTS: &str = r#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1700000000000,"message":"hello"}]}"#;
const FORM: &str = "Action=DescribeSubnets&Version=2016-11-15&Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-1&Filter.1.Value.2=x&SubnetId.1=s&DryRun=false&MaxResults=5";

/// Reads `bytes` as the input of one operation in one protocol; what it says is an answer below 500.
fn read(service: &'static Service, operation: &str, protocol: Protocol, bytes: &[u8]) {
    let headers = HeaderMap::new();
    let call = Call {
        service,
        operation: service.operation(operation).unwrap(),
        protocol,
        inbound: Inbound { path: "/", query: "", headers: &headers, body: bytes },
        form: None,
        request_id: Uuid::from_random([0; 16]),
    };
    let read: Result<(), ApiError> = match (service.name, operation) {
        ("ecs", "RegisterTaskDefinition") => {
            call.input::<ecs::RegisterTaskDefinitionRequest>().map(drop)
        }
        ("ecs", _) => call.input::<ecs::SubmitTaskStateChangeRequest>().map(drop),
        ("logs", _) => call.input::<logs::PutLogEventsRequest>().map(drop),
        ("ecr", _) => call.input::<ecr::UploadLayerPartRequest>().map(drop),
        ("sts", _) => call.input::<sts::GetCallerIdentityRequest>().map(drop),
        _ => call.input::<ec2::DescribeSubnetsRequest>().map(drop),
    };
    if let Err(error) = read {
        assert!(error.status < 500, "{error}");
        let answer = error_answer(&error, protocol, Some(service), call.request_id);
        assert!(std::str::from_utf8(&answer.body).is_ok() || protocol == Protocol::RpcV2Cbor);
    }
}

fn read_everywhere(bytes: &[u8]) {
    for protocol in [Protocol::AwsJson11, Protocol::RpcV2Cbor] {
        read(&ecs::SERVICE, "RegisterTaskDefinition", protocol, bytes);
        read(&ecs::SERVICE, "SubmitTaskStateChange", protocol, bytes);
        read(&logs::SERVICE, "PutLogEvents", protocol, bytes);
        read(&ecr::SERVICE, "UploadLayerPart", protocol, bytes);
    }
    read(&ec2::SERVICE, "DescribeSubnets", Protocol::Ec2Query, bytes);
    read(&sts::SERVICE, "GetCallerIdentity", Protocol::Query, bytes);
}

/// One change to a text: bytes replaced, removed, repeated or put in.
#[derive(Clone, Debug)]
struct Change {
    at: prop::sample::Index,
    length: usize,
    put: Vec<u8>,
}

fn change() -> impl Strategy<Value = Change> {
    let tokens = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "null",
        "true",
        "1e999",
        "-0",
        "99999999999999999999",
        "\\ud800",
        "\\u0000",
        "%",
        "%zz",
        "&",
        "=",
        ".1",
        ".0.",
        "\u{7f}",
        "\u{feff}",
    ]);
    let put = prop_oneof![
        3 => tokens.prop_map(|token| token.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => (1..80_usize).prop_map(|count| b"[".repeat(count)),
    ];
    (any::<prop::sample::Index>(), 0..5_usize, put).prop_map(|(at, length, put)| Change {
        at,
        length,
        put,
    })
}

fn changed(text: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for change in changes {
        let at = change.at.index(bytes.len() + 1);
        let to = (at + change.length).min(bytes.len());
        bytes.splice(at..to, change.put.iter().copied());
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_mutation_of_a_request_panics_or_is_our_fault(
        which in 0..4_usize,
        changes in prop::collection::vec(change(), 0..6),
    ) {
        let register: ecs::RegisterTaskDefinitionRequest =
            json::from_slice(REGISTER.as_bytes()).unwrap();
        let cbor = cbor::to_vec(&register);
        let text = [REGISTER.as_bytes(), PUT_EVENTS.as_bytes(), FORM.as_bytes(), &cbor][which];
        read_everywhere(&changed(text, &changes));
    }

    #[test]
    fn no_bytes_at_all_panic_or_are_our_fault(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_everywhere(&bytes);
    }
}

#[test]
fn a_request_comes_back_from_json_and_cbor_as_it_was() {
    let read: ecs::RegisterTaskDefinitionRequest = json::from_slice(REGISTER.as_bytes()).unwrap();
    assert_eq!(
        json::from_slice::<ecs::RegisterTaskDefinitionRequest>(&json::to_vec(&read)),
        Ok(read.clone())
    );
    let table = aws_wire::shape::Shape::Structure(
        ecs::SERVICE.operation("RegisterTaskDefinition").unwrap().input.unwrap(),
    );
    assert_eq!(cbor::read(&cbor::to_vec(&read), table), Ok(read));
    let form = Form::parse(FORM.as_bytes()).unwrap();
    let table = aws_wire::shape::Shape::Structure(
        ec2::SERVICE.operation("DescribeSubnets").unwrap().input.unwrap(),
    );
    let subnets: ec2::DescribeSubnetsRequest = query::read(&form, table, Dialect::Ec2).unwrap();
    assert_eq!(subnets.filters.unwrap()[0].values, Some(vec!["vpc-1".to_owned(), "x".to_owned()]));
    assert_eq!(subnets.max_results, Some(5));
}

#[test]
fn nesting_has_an_end_in_every_protocol() {
    for depth in [63, 64, 65, 100_000] {
        let text = format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        read(&ecs::SERVICE, "RegisterTaskDefinition", Protocol::AwsJson11, text.as_bytes());
        let nested = [vec![0xa1, 0x61, b'x'], vec![0x81; depth], vec![0xf6]].concat();
        read(&ecs::SERVICE, "RegisterTaskDefinition", Protocol::RpcV2Cbor, &nested);
        let tags = [vec![0xa1, 0x61, b'x'], vec![0xc1; depth], vec![0xf6]].concat();
        read(&ecs::SERVICE, "RegisterTaskDefinition", Protocol::RpcV2Cbor, &tags);
    }
}
