//! Good documents, and what becomes of them when one thing is changed.

mod derived;
mod rules;

use aws_wire::json;
use serde_json::{Value, json};

use super::Draft;
use crate::errors::Refusal;

/// Any launch type but Fargate.
fn plain() -> Value {
    json!({
        "family": "web",
        "containerDefinitions": [{"name": "app", "image": "nginx", "memory": 128}],
    })
}

fn fargate() -> Value {
    json!({
        "family": "web",
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{"name": "app", "image": "nginx"}],
    })
}

/// `good` with `value` at a path such as `containerDefinitions/0/cpu`.
fn with(mut good: Value, path: &str, value: Value) -> Value {
    let mut place = &mut good;
    for step in path.split('/') {
        place = match step.parse::<usize>() {
            Ok(index) => {
                let list = place.as_array_mut().expect("the path goes through a list");
                if list.len() == index {
                    list.push(json!({}));
                }
                &mut list[index]
            }
            Err(_) => {
                let map = place.as_object_mut().expect("the path goes through an object");
                map.entry(step).or_insert(Value::Null)
            }
        };
    }
    *place = value;
    good
}

fn read(document: &Value) -> Result<Draft, Refusal> {
    let bytes = serde_json::to_vec(document).unwrap();
    Draft::read(json::from_slice(&bytes).unwrap(), "http://127.0.0.1:4566".to_owned())
}

fn accepts(document: &Value) {
    if let Err(refusal) = read(document) {
        panic!("{refusal:?} for {document}");
    }
}

/// Each change makes a good document one that is refused with a text that contains the words.
fn refuses(good: &Value, table: &[(&str, Value, &str)]) {
    accepts(good);
    for (path, value, words) in table {
        let document = with(good.clone(), path, value.clone());
        match read(&document) {
            Err(Refusal::Client(message)) => {
                assert!(message.contains(words), "{path} = {value}: {message}");
            }
            other => panic!("{path} = {value}: {:?}", other.map(|_| "accepted")),
        }
    }
}

/// Each change leaves a good document good.
fn accepts_all(good: &Value, table: &[(&str, Value)]) {
    for (path, value) in table {
        accepts(&with(good.clone(), path, value.clone()));
    }
}

/// The document as it is kept.
fn kept(document: &Value) -> Value {
    let draft = read(document).unwrap();
    serde_json::from_slice(&json::to_vec(&draft.shape())).unwrap()
}

const APP: &str = "containerDefinitions/0";

fn app(member: &str) -> String {
    format!("{APP}/{member}")
}

/// Tables are short when the container's members stand alone.
fn refuses_app(good: &Value, table: &[(&str, Value, &str)]) {
    for (member, value, words) in table {
        refuses(good, &[(&app(member), value.clone(), words)]);
    }
}

fn accepts_app(good: &Value, table: &[(&str, Value)]) {
    for (member, value) in table {
        accepts_all(good, &[(&app(member), value.clone())]);
    }
}
