//! Tables made at run time from the shapes within botocore's protocol cases.
//!
//! Leaked on purpose: tables are `'static`, and a test process is short.

use std::collections::HashMap;

use aws_wire::shape::{
    self, Limits, List, Location, Map, Member, Namespace, Shape, Structure, Text, TimestampFormat,
};
use serde_json::Value as Json;

/// The shapes of one suite of cases.
pub struct Shapes<'a> {
    json: &'a Json,
    is_ec2: bool,
    structures: HashMap<String, &'static Structure>,
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn text(value: &str) -> &'static str {
    Box::leak(value.to_owned().into_boxed_str())
}

impl<'a> Shapes<'a> {
    pub fn new(json: &'a Json, is_ec2: bool) -> Self {
        Self { json, is_ec2, structures: HashMap::new() }
    }

    pub fn structure(&mut self, name: &str) -> &'static Structure {
        match self.shape(&serde_json::json!({ "shape": name }), 0) {
            Shape::Structure(table) => table,
            other => panic!("{name} is no structure: {other:?}"),
        }
    }

    /// Shapes that contain themselves are unrolled as deep as any case goes.
    fn shape(&mut self, reference: &Json, depth: usize) -> Shape {
        let name = reference["shape"].as_str().unwrap();
        let json = &self.json[name];
        match json["type"].as_str().unwrap() {
            "structure" if json["document"] == true => Shape::Document,
            "structure" => self.structure_of(name, json, depth),
            "list" => Shape::List(leak(List {
                item: self.member("member", &json["member"], false, depth + 1),
                flattened: json["flattened"] == true,
                limits: Limits::NONE,
                sensitive: false,
            })),
            "map" => Shape::Map(leak(Map {
                key: self.member("key", &json["key"], false, depth + 1),
                value: self.member("value", &json["value"], false, depth + 1),
                flattened: json["flattened"] == true,
                limits: Limits::NONE,
                sensitive: false,
            })),
            "string" | "character" => Shape::Text(&shape::TEXT),
            "integer" | "byte" | "short" => Shape::Number(&shape::INTEGER),
            "long" => Shape::Number(&shape::LONG),
            "float" => Shape::Number(&shape::FLOAT),
            "double" => Shape::Number(&shape::DOUBLE),
            "boolean" => Shape::Boolean,
            "blob" => Shape::Blob(&shape::BLOB),
            "timestamp" => {
                let at_member = reference["timestampFormat"].as_str();
                Shape::Timestamp(format(at_member.or(json["timestampFormat"].as_str())))
            }
            other => panic!("{name} is a {other}"),
        }
    }

    fn structure_of(&mut self, name: &str, json: &Json, depth: usize) -> Shape {
        const DEPTH_MAX: usize = 12;
        let key = format!("{name} {depth}");
        if let Some(table) = self.structures.get(&key) {
            return Shape::Structure(table);
        }
        let empty = serde_json::Map::new();
        let members = json["members"].as_object().unwrap_or(&empty);
        let required: Vec<&str> = json["required"]
            .as_array()
            .map(|names| names.iter().filter_map(Json::as_str).collect())
            .unwrap_or_default();
        let members: Vec<Member> = members
            .iter()
            .filter(|_| depth < DEPTH_MAX)
            .map(|(name, reference)| {
                self.member(name, reference, required.contains(&name.as_str()), depth + 1)
            })
            .collect();
        let payload = json["payload"].as_str();
        let payload = members.iter().position(|member| Some(member.name) == payload);
        let mut table = Structure::new(text(name), leak(members));
        table.payload = payload;
        let table = leak(table);
        self.structures.insert(key, table);
        Shape::Structure(table)
    }

    fn member(&mut self, name: &str, json: &Json, required: bool, depth: usize) -> Member {
        let mut member = Member::new(text(name), self.shape(json, depth));
        let shape = &self.json[json["shape"].as_str().unwrap()];
        let given = json["locationName"].as_str().or(shape["locationName"].as_str());
        if let Some(wire) = given {
            member = member.wire(text(wire));
        }
        if self.is_ec2
            && let Some(wire) = given
        {
            let (first, rest) = wire.split_at(1);
            member = member.ec2(text(&(first.to_ascii_uppercase() + rest)));
        }
        if let Some(query) = json["queryName"].as_str() {
            member = member.ec2(text(query));
        }
        member.location = match json["location"].as_str() {
            None => Location::Body,
            Some("header") => Location::Header,
            Some("headers") => Location::Headers,
            Some("uri") => Location::Uri,
            Some("querystring") => Location::QueryString,
            Some("statusCode") => Location::StatusCode,
            Some(other) => panic!("unknown location {other}"),
        };
        member.required = required;
        member.flattened = json["flattened"] == true;
        member.json_value = json["jsonvalue"] == true;
        member.namespace = json["xmlNamespace"]["uri"].as_str().map(|uri| Namespace {
            prefix: json["xmlNamespace"]["prefix"].as_str().map(text),
            uri: text(uri),
        });
        if member.json_value {
            let any = Text { json_value: true, ..Text::ANY };
            member.shape = Shape::Text(leak(any));
        }
        member
    }
}

fn format(name: Option<&str>) -> Option<TimestampFormat> {
    match name? {
        "unixTimestamp" => Some(TimestampFormat::Seconds),
        "iso8601" => Some(TimestampFormat::Iso8601),
        "rfc822" => Some(TimestampFormat::Rfc822),
        other => panic!("unknown time format {other}"),
    }
}
