//! botocore's own protocol cases: what its clients send is read, what we write its clients read.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use aws_wire::query::{Dialect, Form};
use aws_wire::service::{Inbound, Operation};
use aws_wire::shape::Shape;
use aws_wire::{DecodeError, cbor, json, query, rest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};

use support::botocore;
use support::model::Shapes;
use support::value::Value;

/// A server puts parameters that other members name into the map as well, as Smithy says; this case leaves
/// out the one that a client would have named.
const ONLY_FOR_CLIENTS: &str = "RestJsonQueryParamsStringListMap";

/// Cases that botocore does not hold itself to, from the list beside them.
fn ignored(data: &Path, direction: &str, case: &Json) -> bool {
    let path = data.join("protocols/protocol-tests-ignore-list.json");
    let list: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let by_protocol = list["protocols"].as_object().unwrap().values();
    by_protocol
        .filter_map(|protocol| protocol[direction]["cases"].as_array())
        .any(|cases| cases.contains(&case["id"]))
}

#[test]
fn awsjson_inputs_of_botocore_are_read() {
    inputs("json.json");
    inputs("json_1_0.json");
}

#[test]
fn query_inputs_of_botocore_are_read() {
    inputs("query.json");
}

#[test]
fn ec2_inputs_of_botocore_are_read() {
    inputs("ec2.json");
}

#[test]
fn rest_json_inputs_of_botocore_are_read() {
    inputs("rest-json.json");
}

#[test]
fn cbor_inputs_of_botocore_are_read() {
    inputs("smithy-rpc-v2-cbor.json");
}

fn suites(data: &Path, file: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(data.join("protocols").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn inputs(file: &str) {
    let Some(data) = botocore::test_data() else { return };
    let (mut read, mut wrong) = (0, vec![]);
    for suite in suites(&data, &format!("input/{file}")) {
        let protocol = suite["metadata"]["protocol"].as_str().unwrap();
        let mut shapes = Shapes::new(&suite["shapes"], protocol == "ec2");
        for case in suite["cases"].as_array().unwrap() {
            let id = case["id"].as_str().unwrap_or_default();
            let Some(input) = case["given"]["input"]["shape"].as_str() else { continue };
            // A token that the client makes up is not among the parameters.
            let makes_token = suite["description"].as_str().unwrap().contains("dempotency");
            let has_body = case["serialized"]["body"].is_string();
            if makes_token || !has_body || id == ONLY_FOR_CLIENTS || ignored(&data, "input", case) {
                continue;
            }
            let shape = Shape::Structure(shapes.structure(input));
            let wanted = Value::from_json(shape, &case["params"]).unwrap();
            let got = read_case(protocol, case, shape).map(Value::without_empty_members);
            let wanted = wanted.without_empty_members();
            read += 1;
            if got.as_ref() != Ok(&wanted) {
                let sent = &case["serialized"];
                wrong.push(format!("{id}\n  sent {sent}\n  wanted {wanted:?}\n  got    {got:?}"));
            }
        }
    }
    assert!(0 < read, "{file} has no cases");
    assert!(wrong.is_empty(), "{} of {read}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{file}: {read} cases");
}

fn read_case(protocol: &str, case: &Json, shape: Shape) -> Result<Value, DecodeError> {
    let sent = &case["serialized"];
    let body = sent["body"].as_str().unwrap_or_default().as_bytes();
    match protocol {
        "json" => json::read(body, shape),
        "query" => query::read(&Form::parse(body)?, shape, Dialect::Query),
        "ec2" => query::read(&Form::parse(body)?, shape, Dialect::Ec2),
        "smithy-rpc-v2-cbor" => cbor::read(&BASE64.decode(body).unwrap(), shape),
        "rest-json" => {
            let uri = sent["uri"].as_str().unwrap();
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let mut headers = HeaderMap::new();
            for (name, value) in sent["headers"].as_object().into_iter().flatten() {
                let name: HeaderName = name.parse().unwrap();
                headers.insert(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
            }
            let inbound = Inbound { path, query, headers: &headers, body };
            rest::read(operation(&case["given"]), &inbound, shape)
        }
        other => panic!("{other}"),
    }
}

fn operation(given: &Json) -> &'static Operation {
    let text = |json: &Json| -> &'static str {
        Box::leak(json.as_str().unwrap_or_default().to_owned().into_boxed_str())
    };
    Box::leak(Box::new(Operation {
        name: text(&given["name"]),
        input: None,
        output: None,
        result_wrapper: None,
        method: text(&given["http"]["method"]),
        uri: text(&given["http"]["requestUri"]),
        status: given["http"]["responseCode"].as_u64().map_or(200, |it| u16::try_from(it).unwrap()),
    }))
}

#[test]
fn botocore_reads_every_output_that_we_write() {
    let (Some(data), Some(library)) = (botocore::test_data(), botocore::library()) else { return };
    let files = [
        "json.json",
        "json_1_0.json",
        "query.json",
        "ec2.json",
        "rest-json.json",
        "smithy-rpc-v2-cbor.json",
    ];
    let mut answers = vec![];
    for file in files {
        for suite in suites(&data, &format!("output/{file}")) {
            let protocol = suite["metadata"]["protocol"].as_str().unwrap();
            let mut shapes = Shapes::new(&suite["shapes"], protocol == "ec2");
            for case in suite["cases"].as_array().unwrap() {
                let Some(output) = case["given"]["output"]["shape"].as_str() else { continue };
                // An error's shape has no result: errors have a test of their own.
                if case["result"].is_null() || ignored(&data, "output", case) {
                    continue;
                }
                let table = shapes.structure(output);
                let value = Value::from_json(Shape::Structure(table), &case["result"]).unwrap();
                answers.push(json!({
                    "id": case["id"],
                    "protocol": protocol,
                    "metadata": suite["metadata"],
                    "shapes": suite["shapes"],
                    "given": case["given"],
                    "wanted": case["result"],
                    "answer": written(protocol, case, &value, table),
                }));
            }
        }
    }
    assert!(200 < answers.len(), "{} answers", answers.len());
    let wrong = parsed_by_botocore(&library, &Json::Array(answers));
    assert!(wrong.is_empty(), "{wrong}");
}

fn written(
    protocol: &str,
    case: &Json,
    value: &Value,
    table: &'static aws_wire::shape::Structure,
) -> Json {
    let name = case["given"]["name"].as_str().unwrap();
    let (status, headers, body) = match protocol {
        "json" => {
            let mut body = vec![];
            json::write_into(value, table, &mut body);
            (200, vec![], body)
        }
        "smithy-rpc-v2-cbor" => {
            let mut body = vec![];
            cbor::write_into(value, table, &mut body);
            (200, vec![], body)
        }
        "query" | "ec2" => {
            let members = query::write_members(value, table);
            let wrapper = case["given"]["output"]["resultWrapper"].as_str();
            let body = match wrapper {
                Some(wrapper) if protocol == "query" => format!("<{wrapper}>{members}</{wrapper}>"),
                _ => members,
            };
            (200, vec![], format!("<{name}Response>{body}</{name}Response>").into_bytes())
        }
        "rest-json" => {
            let answer = rest::answer(value, table, operation(&case["given"]).status);
            let headers = answer.headers.iter();
            let headers =
                headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
            (answer.status, headers.collect(), answer.body.to_vec())
        }
        other => panic!("{other}"),
    };
    json!({ "status": status, "headers": headers, "body": BASE64.encode(body) })
}

/// What botocore reads differently from what it should; empty if nothing.
fn parsed_by_botocore(library: &Path, answers: &Json) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parse_answers.py");
    let mut child = Command::new("python3")
        .arg(script)
        .env("PYTHONPATH", library)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = answers.to_string();
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success(), "the script failed");
    String::from_utf8(output.stdout).unwrap()
}
