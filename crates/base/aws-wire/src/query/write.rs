//! Shapes as XML elements.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use longshore_types::Timestamp;

use super::{escape, flat_item_name};
use crate::codec::Encoder;
use crate::shape::{List, Map, Member, Structure, TimestampFormat};
use crate::timestamp;

/// What is open around the place where we write.
#[derive(Debug)]
enum Open {
    /// The output itself, which has no element of its own here.
    Root,
    Element(&'static str),
    /// A list or map whose items repeat this name.
    Flat(&'static str),
    /// An entry of a map, closed when its value is.
    Entry(&'static str),
}

/// Writes the members of one output.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut String,
    open: Vec<Open>,
    /// The element that the next value goes into.
    next: Option<&'static str>,
    /// The member that comes next says that its items stand for itself.
    next_is_flat: bool,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut String) -> Self {
        Self { out, open: vec![], next: None, next_is_flat: false }
    }

    fn start(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    fn end(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// Opens the element of a container.
    fn enter(&mut self) {
        match self.next.take() {
            Some(name) => {
                self.start(name);
                self.open.push(Open::Element(name));
            }
            None => self.open.push(Open::Root),
        }
    }

    fn enter_repeated(&mut self, is_flat: bool) {
        let is_flat = is_flat || std::mem::take(&mut self.next_is_flat);
        match self.next {
            Some(name) if is_flat => {
                self.next = None;
                self.open.push(Open::Flat(name));
            }
            _ => self.enter(),
        }
    }

    fn leave(&mut self) {
        if let Some(Open::Element(name)) = self.open.pop() {
            self.end(name);
        }
        self.value_done();
    }

    /// After a value: closes the map entry that it was in.
    fn value_done(&mut self) {
        if let Some(Open::Entry(name)) = self.open.last() {
            let name = *name;
            self.open.pop();
            self.end(name);
        }
    }

    fn scalar(&mut self, write: impl FnOnce(&mut String)) {
        let name = self.next.take().unwrap_or("value");
        self.start(name);
        write(self.out);
        self.end(name);
        self.value_done();
    }

    fn number(&mut self, text: &str) {
        self.scalar(|out| out.push_str(text));
    }
}

fn number_text(value: f64, shortest: String) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value < 0.0 { "-Infinity" } else { "Infinity" }.to_owned()
    } else {
        shortest
    }
}

impl Encoder for Writer<'_> {
    fn begin_structure(&mut self, _: &'static Structure) {
        self.enter();
    }

    fn member(&mut self, member: &'static Member) {
        self.next = Some(member.wire);
        self.next_is_flat = member.flattened;
    }

    fn end_structure(&mut self, _: &'static Structure) {
        self.leave();
    }

    fn begin_list(&mut self, shape: &'static List, _: usize) {
        self.enter_repeated(shape.flattened);
    }

    fn item(&mut self, shape: &'static List) {
        self.next = match self.open.last() {
            Some(Open::Flat(name)) => Some(flat_item_name(shape).unwrap_or(name)),
            _ => Some(shape.item.wire),
        };
    }

    fn end_list(&mut self, _: &'static List) {
        self.leave();
    }

    fn begin_map(&mut self, shape: &'static Map, _: usize) {
        self.enter_repeated(shape.flattened);
    }

    fn key(&mut self, shape: &'static Map, key: &str) {
        let entry = match self.open.last() {
            Some(Open::Flat(name)) => *name,
            _ => "entry",
        };
        self.start(entry);
        self.start(shape.key.wire);
        escape(self.out, key);
        self.end(shape.key.wire);
        self.open.push(Open::Entry(entry));
        self.next = Some(shape.value.wire);
    }

    fn end_map(&mut self, _: &'static Map) {
        self.leave();
    }

    fn text(&mut self, value: &str) {
        self.scalar(|out| escape(out, value));
    }

    fn integer(&mut self, value: i64) {
        self.number(&value.to_string());
    }

    fn float(&mut self, value: f32) {
        self.number(&number_text(f64::from(value), format!("{value:?}")));
    }

    fn double(&mut self, value: f64) {
        self.number(&number_text(value, format!("{value:?}")));
    }

    fn boolean(&mut self, value: bool) {
        self.number(if value { "true" } else { "false" });
    }

    fn timestamp(&mut self, value: Timestamp, format: Option<TimestampFormat>) {
        let text = match format.unwrap_or(TimestampFormat::Iso8601) {
            TimestampFormat::Seconds => {
                let mut text = Vec::new();
                timestamp::write_seconds(&mut text, value);
                String::from_utf8_lossy(&text).into_owned()
            }
            TimestampFormat::Iso8601 => timestamp::iso8601(value),
            TimestampFormat::Rfc822 => timestamp::rfc822(value),
        };
        self.number(&text);
    }

    fn blob(&mut self, value: &[u8]) {
        self.number(&BASE64.encode(value));
    }

    fn document(&mut self, value: &serde_json::Value) {
        self.text(&value.to_string());
    }

    fn null(&mut self) {
        self.number("");
    }
}
