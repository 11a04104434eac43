//! How a shape prints for people: absent members left out, sensitive ones never shown.

use std::fmt;

use longshore_types::Timestamp;

use crate::codec::{Encode, Encoder};
use crate::shape::{List, Map, Member, Shape, Structure, TimestampFormat};

const REDACTED: &str = "***";

/// The body of a generated shape's `Debug`.
pub fn fmt(
    value: &dyn Encode,
    table: &'static Structure,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let mut printer = Printer { text: String::new(), hidden: 0, hide_next: false };
    value.encode(Shape::Structure(table), &mut printer);
    f.write_str(&printer.text)
}

struct Printer {
    text: String,
    /// How many containers deep we are inside of something sensitive.
    hidden: usize,
    hide_next: bool,
}

impl Printer {
    /// Enters a container; true if it is to be shown.
    fn enter(&mut self, sensitive: bool) -> bool {
        if 0 < self.hidden {
            self.hidden += 1;
            return false;
        }
        if sensitive || std::mem::take(&mut self.hide_next) {
            self.text.push_str(REDACTED);
            self.hidden = 1;
            return false;
        }
        true
    }

    /// Leaves a container; true if it was shown.
    fn leave(&mut self) -> bool {
        let shown = self.hidden == 0;
        self.hidden = self.hidden.saturating_sub(1);
        shown
    }

    fn separator(&mut self) {
        if !self.text.ends_with(['{', '[', ' ']) {
            self.text.push_str(", ");
        }
    }

    fn scalar(&mut self, text: &str) {
        if self.hidden == 0 {
            let hide = std::mem::take(&mut self.hide_next);
            self.text.push_str(if hide { REDACTED } else { text });
        }
    }
}

fn is_sensitive(member: &Member) -> bool {
    let by_shape = match member.shape {
        Shape::Text(text) => text.sensitive,
        _ => false, // Containers say it themselves when they are entered.
    };
    member.sensitive || by_shape
}

impl Encoder for Printer {
    fn begin_structure(&mut self, shape: &'static Structure) {
        if self.enter(shape.sensitive) {
            self.text.push_str(shape.name);
            self.text.push('{');
        }
    }

    fn member(&mut self, member: &'static Member) {
        if self.hidden == 0 {
            self.separator();
            self.text.push_str(member.name);
            self.text.push_str(": ");
            self.hide_next = is_sensitive(member);
        }
    }

    fn end_structure(&mut self, _: &'static Structure) {
        if self.leave() {
            self.text.push('}');
        }
    }

    fn begin_list(&mut self, shape: &'static List, _: usize) {
        if self.enter(shape.sensitive) {
            self.text.push('[');
        }
    }

    fn item(&mut self, shape: &'static List) {
        if self.hidden == 0 {
            self.separator();
            self.hide_next = is_sensitive(&shape.item);
        }
    }

    fn end_list(&mut self, _: &'static List) {
        if self.leave() {
            self.text.push(']');
        }
    }

    fn begin_map(&mut self, shape: &'static Map, _: usize) {
        if self.enter(shape.sensitive) {
            self.text.push('{');
        }
    }

    fn key(&mut self, shape: &'static Map, key: &str) {
        if self.hidden == 0 {
            self.separator();
            self.text.push_str(&format!("{key:?}: "));
            self.hide_next = is_sensitive(&shape.value);
        }
    }

    fn end_map(&mut self, _: &'static Map) {
        if self.leave() {
            self.text.push('}');
        }
    }

    fn text(&mut self, value: &str) {
        self.scalar(&format!("{value:?}"));
    }

    fn integer(&mut self, value: i64) {
        self.scalar(&value.to_string());
    }

    fn float(&mut self, value: f32) {
        self.scalar(&format!("{value:?}"));
    }

    fn double(&mut self, value: f64) {
        self.scalar(&format!("{value:?}"));
    }

    fn boolean(&mut self, value: bool) {
        self.scalar(if value { "true" } else { "false" });
    }

    fn timestamp(&mut self, value: Timestamp, _: Option<TimestampFormat>) {
        self.scalar(&value.iso8601());
    }

    fn blob(&mut self, value: &[u8]) {
        self.scalar(&format!("{} bytes", value.len()));
    }

    fn document(&mut self, value: &serde_json::Value) {
        self.scalar(&value.to_string());
    }

    fn null(&mut self) {
        self.scalar("null");
    }
}
