//! An output as status, headers and body.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use longshore_types::Timestamp;

use crate::codec::{Encode, Encoder};
use crate::json;
use crate::service::Answer;
use crate::shape::{List, Location, Map, Member, Shape, Structure, TimestampFormat};
use crate::timestamp;

/// The answer that carries `output`; `status` is the operation's own.
pub fn answer(output: &dyn Encode, table: &'static Structure, status: u16) -> Answer {
    let mut parts = Parts {
        status,
        headers: vec![],
        body: vec![],
        depth: 0,
        target: Target::Body,
        line: vec![],
        content_type: "application/json",
        has_payload: table.payload.is_some(),
    };
    output.encode(Shape::Structure(table), &mut parts);
    let is_blank = parts.body.is_empty() && parts.has_payload;
    Answer {
        status: parts.status,
        content_type: Cow::Borrowed(if is_blank { "" } else { parts.content_type }),
        headers: parts.headers,
        body: Bytes::from(parts.body),
    }
}

/// Where the member that is being walked goes.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// A member of the body's object.
    Body,
    /// The body itself.
    Payload,
    Header(&'static Member),
    /// Headers with a prefix.
    Prefixed(&'static str),
    Status,
}

struct Parts {
    status: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    depth: usize,
    target: Target,
    /// The items of the header that is being written.
    line: Vec<String>,
    content_type: &'static str,
    has_payload: bool,
}

impl Parts {
    fn json(&mut self) -> json::Writer<'_> {
        json::Writer::new(&mut self.body, TimestampFormat::Seconds)
    }

    fn in_body(&self) -> bool {
        matches!(self.target, Target::Body | Target::Payload)
    }

    fn header(&mut self, name: &str, value: &str) {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            self.headers.push((name, value));
        }
    }

    /// A scalar outside of the body.
    fn scalar(&mut self, text: String) {
        match self.target {
            Target::Header(_) if 1 < self.depth => self.line.push(text),
            Target::Header(member) => self.header(member.wire, &text),
            Target::Prefixed(_) => {
                if let Some(name) = self.line.pop() {
                    self.header(&name, &text);
                }
            }
            Target::Status => self.status = text.parse().unwrap_or(self.status),
            Target::Body | Target::Payload => {}
        }
    }

    fn times(&self, format: Option<TimestampFormat>) -> TimestampFormat {
        format.unwrap_or(TimestampFormat::Rfc822)
    }
}

/// An item of a header's list, quoted if it has to be.
fn list_item(text: &str, is_time: bool) -> String {
    if !is_time && text.contains([',', '"']) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

impl Encoder for Parts {
    fn begin_structure(&mut self, shape: &'static Structure) {
        self.depth += 1;
        if 1 < self.depth || !self.has_payload {
            self.json().begin_structure(shape);
        }
    }

    fn member(&mut self, member: &'static Member) {
        if 1 < self.depth {
            self.json().member(member);
            return;
        }
        self.target = match member.location {
            Location::Header => Target::Header(member),
            Location::Headers => Target::Prefixed(member.wire),
            Location::StatusCode => Target::Status,
            Location::Body | Location::Uri | Location::QueryString if self.has_payload => {
                Target::Payload
            }
            Location::Body | Location::Uri | Location::QueryString => Target::Body,
        };
        if matches!(self.target, Target::Body) {
            self.json().member(member);
        }
    }

    fn end_structure(&mut self, shape: &'static Structure) {
        if 1 < self.depth || !self.has_payload {
            self.json().end_structure(shape);
        }
        self.depth -= 1;
    }

    fn begin_list(&mut self, shape: &'static List, count: usize) {
        self.depth += 1;
        if self.in_body() {
            self.json().begin_list(shape, count);
        }
    }

    fn item(&mut self, shape: &'static List) {
        if self.in_body() {
            self.json().item(shape);
        }
    }

    fn end_list(&mut self, shape: &'static List) {
        self.depth -= 1;
        if self.in_body() {
            self.json().end_list(shape);
        } else if let Target::Header(member) = self.target {
            let is_time = matches!(shape.item.shape, Shape::Timestamp(_));
            let items = std::mem::take(&mut self.line);
            let items: Vec<String> = items.iter().map(|item| list_item(item, is_time)).collect();
            if !items.is_empty() {
                self.header(member.wire, &items.join(", "));
            }
        }
    }

    fn begin_map(&mut self, shape: &'static Map, count: usize) {
        self.depth += 1;
        if self.in_body() {
            self.json().begin_map(shape, count);
        }
    }

    fn key(&mut self, shape: &'static Map, key: &str) {
        if let Target::Prefixed(prefix) = self.target {
            self.line = vec![format!("{prefix}{key}")];
        } else {
            self.json().key(shape, key);
        }
    }

    fn end_map(&mut self, shape: &'static Map) {
        self.depth -= 1;
        if self.in_body() {
            self.json().end_map(shape);
        }
    }

    fn text(&mut self, value: &str) {
        match self.target {
            Target::Payload if self.depth == 1 => {
                self.content_type = "text/plain";
                self.body.extend_from_slice(value.as_bytes());
            }
            Target::Body | Target::Payload => self.json().text(value),
            Target::Header(member) => {
                let by_shape = matches!(member.shape, Shape::Text(text) if text.json_value);
                let is_json = member.json_value || by_shape;
                self.scalar(if is_json { BASE64.encode(value) } else { value.to_owned() });
            }
            Target::Prefixed(_) | Target::Status => self.scalar(value.to_owned()),
        }
    }

    fn integer(&mut self, value: i64) {
        if self.in_body() {
            self.json().integer(value);
        } else {
            self.scalar(value.to_string());
        }
    }

    fn float(&mut self, value: f32) {
        if self.in_body() {
            self.json().float(value);
        } else {
            self.double(f64::from(value));
        }
    }

    fn double(&mut self, value: f64) {
        if self.in_body() {
            self.json().double(value);
        } else if value.is_infinite() {
            let sign = if value < 0.0 { "-" } else { "" };
            self.scalar(format!("{sign}Infinity"));
        } else {
            self.scalar(format!("{value:?}"));
        }
    }

    fn boolean(&mut self, value: bool) {
        if self.in_body() {
            self.json().boolean(value);
        } else {
            self.scalar(value.to_string());
        }
    }

    fn timestamp(&mut self, value: Timestamp, format: Option<TimestampFormat>) {
        if self.in_body() {
            self.json().timestamp(value, format);
            return;
        }
        let text = match self.times(format) {
            TimestampFormat::Seconds => {
                let mut text = vec![];
                timestamp::write_seconds(&mut text, value);
                String::from_utf8_lossy(&text).into_owned()
            }
            TimestampFormat::Iso8601 => timestamp::iso8601(value),
            TimestampFormat::Rfc822 => timestamp::rfc822(value),
        };
        self.scalar(text);
    }

    fn blob(&mut self, value: &[u8]) {
        match self.target {
            Target::Payload if self.depth == 1 => {
                self.content_type = "application/octet-stream";
                self.body.extend_from_slice(value);
            }
            Target::Body | Target::Payload => self.json().blob(value),
            _ => self.scalar(BASE64.encode(value)),
        }
    }

    fn document(&mut self, value: &serde_json::Value) {
        self.json().document(value);
    }

    fn null(&mut self) {
        if self.in_body() {
            self.json().null();
        }
    }
}
