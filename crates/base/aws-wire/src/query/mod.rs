//! The query protocol and EC2's dialect of it: forms in, XML out.

mod form;
mod read;
mod write;

pub use form::Form;
pub use read::Reader;
pub use write::Writer;

use crate::codec::{Decode, DecodeError, Encode};
use crate::shape::{List, Member, Shape, Structure};

/// Which of the two a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Query,
    Ec2,
}

/// Reads an operation's input from a form's parameters.
pub fn read<T: Decode>(form: &Form, shape: Shape, dialect: Dialect) -> Result<T, DecodeError> {
    T::decode(shape, &mut Reader::new(form, dialect))
}

/// The members of an output, one after the other, without an element around them.
pub fn write_members(value: &dyn Encode, table: &'static Structure) -> String {
    let mut out = String::with_capacity(512);
    value.encode(Shape::Structure(table), &mut Writer::new(&mut out));
    out
}

/// Appends `text` as the content of an element.
pub fn escape(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\n' => out.push_str("&#xA;"),
            '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}' => {
                out.push(letter);
            }
            // XML 1.0 has no way to say the others.
            _ => out.push('\u{fffd}'),
        }
    }
}

/// The name that a flattened list gives its items instead of the member's own.
fn flat_item_name(list: &'static List) -> Option<&'static str> {
    (list.item.wire != list.item.name).then_some(list.item.wire)
}

/// Whether the items of this member's list stand for the member itself.
fn flat_list(member: &Member) -> Option<&'static List> {
    match member.shape {
        Shape::List(list) if list.flattened || member.flattened => Some(list),
        _ => None,
    }
}
