//! An input from the parts of a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::HeaderMap;
use longshore_types::Timestamp;

use super::route::{self, Labels};
use crate::codec::{Decode, DecodeError, Decoder, TakeEntry, TakeItem, TakeMember};
use crate::json;
use crate::service::{Inbound, Operation};
use crate::shape::{List, Location, Map, Member, NumberKind, Shape, Structure, TimestampFormat};
use crate::timestamp;

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads the input of `operation`, which fits the request's path.
pub fn read<T: Decode>(
    operation: &'static Operation,
    inbound: &Inbound<'_>,
    shape: Shape,
) -> Result<T> {
    let labels = route::labels(operation.uri, inbound.path).unwrap_or_default();
    let query = query_pairs(inbound.query)?;
    let mut request = Request { labels, query, headers: inbound.headers, body: inbound.body };
    T::decode(shape, &mut request)
}

fn query_pairs(query: &str) -> Result<Vec<(String, String)>> {
    let text = |raw: &str| {
        route::decoded(&raw.replace('+', " "))
            .ok_or_else(|| DecodeError::new("Malformed query string"))
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((text(name)?, text(value)?))
        })
        .collect()
}

/// The input's own structure: each member is read from its place.
struct Request<'a> {
    labels: Labels,
    query: Vec<(String, String)>,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl Request<'_> {
    /// The part of the request that holds a member, if it is there.
    fn part(&self, member: &Member) -> Option<Part> {
        let wire = member.wire;
        match member.location {
            Location::Uri => {
                let label = self.labels.iter().find(|(name, _)| *name == wire)?;
                Some(Part::new(vec![label.1.clone()], TimestampFormat::Iso8601))
            }
            Location::QueryString if matches!(member.shape, Shape::Map(_)) => {
                Some(Part::pairs(self.all_query())).filter(Part::has_pairs)
            }
            Location::QueryString => {
                let values = self.query.iter().filter(|(name, _)| name == wire);
                let values: Vec<String> = values.map(|(_, value)| value.clone()).collect();
                (!values.is_empty()).then(|| Part::new(values, TimestampFormat::Iso8601))
            }
            Location::Header => {
                let values: Vec<String> = self.header(wire);
                let part = Part::new(values, TimestampFormat::Rfc822).of_header(member);
                self.headers.contains_key(wire).then_some(part)
            }
            Location::Headers => {
                let prefix = wire.to_ascii_lowercase();
                let pairs = self.headers.iter().filter_map(|(name, value)| {
                    let key = name.as_str().strip_prefix(prefix.as_str())?;
                    Some((key.to_owned(), vec![String::from_utf8_lossy(value.as_bytes()).into()]))
                });
                Some(Part::pairs(pairs.collect())).filter(Part::has_pairs)
            }
            Location::Body | Location::StatusCode => None,
        }
    }

    fn header(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// All of the query's parameters: other members may name some of them as well.
    fn all_query(&self) -> Vec<(String, Vec<String>)> {
        let mut all: Vec<(String, Vec<String>)> = vec![];
        for (name, value) in &self.query {
            match all.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(value.clone()),
                None => all.push((name.clone(), vec![value.clone()])),
            }
        }
        all
    }

    /// The member that is the whole body.
    fn payload(&self, index: usize, member: &Member, take: TakeMember<'_>) -> Result<()> {
        match member.shape {
            _ if self.body.is_empty() => Ok(()),
            Shape::Blob(_) => take(index, &mut Part::raw(self.body)),
            Shape::Text(_) => {
                let text = std::str::from_utf8(self.body)
                    .map_err(|_| DecodeError::new("Invalid UTF-8 in request"))?;
                take(index, &mut Part::new(vec![text.to_owned()], TimestampFormat::Iso8601))
            }
            _ => {
                let mut reader = json::Reader::new(self.body, TimestampFormat::Seconds)?;
                take(index, &mut reader)?;
                reader.finish()
            }
        }
    }
}

impl Decoder for Request<'_> {
    fn structure(&mut self, table: &'static Structure, take: TakeMember<'_>) -> Result<()> {
        for (index, member) in table.members.iter().enumerate() {
            if let Some(mut part) = self.part(member) {
                take(index, &mut part)?;
            }
        }
        if let Some(index) = table.payload {
            return self.payload(index, &table.members[index], take);
        }
        let mut reader = json::Reader::new(self.body, TimestampFormat::Seconds)?;
        if !reader.null()? {
            reader.structure(table, &mut |index, reader| {
                if table.members[index].location == Location::Body {
                    take(index, reader)
                } else {
                    reader.document().map(drop)
                }
            })?;
        }
        reader.finish()
    }

    fn null(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn list(&mut self, _: &'static List, _: TakeItem<'_>) -> Result<()> {
        Err(not_here())
    }

    fn map(&mut self, _: &'static Map, _: TakeEntry<'_>) -> Result<()> {
        Err(not_here())
    }

    fn text(&mut self) -> Result<String> {
        Err(not_here())
    }

    fn integer(&mut self, _: NumberKind) -> Result<i64> {
        Err(not_here())
    }

    fn double(&mut self) -> Result<f64> {
        Err(not_here())
    }

    fn boolean(&mut self) -> Result<bool> {
        Err(not_here())
    }

    fn timestamp(&mut self, _: Option<TimestampFormat>) -> Result<Timestamp> {
        Err(not_here())
    }

    fn blob(&mut self) -> Result<Bytes> {
        Err(not_here())
    }

    fn document(&mut self) -> Result<serde_json::Value> {
        Err(not_here())
    }
}

fn not_here() -> DecodeError {
    DecodeError::new("An input is a structure")
}

/// A label, header or parameter: one text, several, or named ones.
struct Part {
    values: Vec<String>,
    named: Vec<(String, Vec<String>)>,
    raw: Bytes,
    times: TimestampFormat,
    is_json: bool,
}

impl Part {
    fn new(values: Vec<String>, times: TimestampFormat) -> Self {
        Self { values, named: vec![], raw: Bytes::new(), times, is_json: false }
    }

    fn pairs(named: Vec<(String, Vec<String>)>) -> Self {
        Self { named, ..Self::new(vec![], TimestampFormat::Iso8601) }
    }

    fn raw(body: &[u8]) -> Self {
        Self { raw: Bytes::copy_from_slice(body), ..Self::new(vec![], TimestampFormat::Iso8601) }
    }

    fn has_pairs(&self) -> bool {
        !self.named.is_empty()
    }

    /// A header's lists are written with commas; a member may be JSON in base64.
    fn of_header(mut self, member: &Member) -> Self {
        if let Shape::List(list) = member.shape {
            let is_time = matches!(list.item.shape, Shape::Timestamp(format)
                if format.unwrap_or(self.times) == TimestampFormat::Rfc822);
            self.values = self.values.iter().flat_map(|line| list_items(line, is_time)).collect();
        }
        let by_shape = matches!(member.shape, Shape::Text(text) if text.json_value);
        self.is_json = member.json_value || by_shape;
        self
    }

    fn value(&self) -> Result<&str> {
        self.values
            .first()
            .map(String::as_str)
            .ok_or_else(|| DecodeError::new("A value is missing"))
    }

    fn bad(&self, wanted: &str) -> DecodeError {
        DecodeError::new(format!("STRING_VALUE can not be converted to {wanted}"))
    }
}

/// The items of a header's list: `a, "b, c", d`. Times have a comma of their own.
fn list_items(line: &str, is_time: bool) -> Vec<String> {
    let mut items = vec![];
    let mut item = String::new();
    let mut quoted = false;
    let mut commas = 0;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted = !quoted,
            '\\' if quoted => item.extend(letters.next()),
            ',' if !quoted => {
                commas += 1;
                if is_time && commas % 2 == 1 {
                    item.push(letter);
                } else {
                    items.push(std::mem::take(&mut item).trim().to_owned());
                }
            }
            _ => item.push(letter),
        }
    }
    let last = item.trim().to_owned();
    if !(last.is_empty() && items.is_empty()) {
        items.push(last);
    }
    items
}

impl Decoder for Part {
    fn null(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn structure(&mut self, _: &'static Structure, _: TakeMember<'_>) -> Result<()> {
        Err(self.bad("a Structure"))
    }

    fn list(&mut self, _: &'static List, take: TakeItem<'_>) -> Result<()> {
        for value in std::mem::take(&mut self.values) {
            take(&mut Self::new(vec![value], self.times))?;
        }
        Ok(())
    }

    fn map(&mut self, _: &'static Map, take: TakeEntry<'_>) -> Result<()> {
        for (name, values) in std::mem::take(&mut self.named) {
            take(name, &mut Self::new(values, self.times))?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<String> {
        let text = self.value()?;
        if !self.is_json {
            return Ok(text.to_owned());
        }
        let json = BASE64.decode(text).map_err(|_| self.bad("JSON"))?;
        String::from_utf8(json).map_err(|_| self.bad("JSON"))
    }

    fn integer(&mut self, _: NumberKind) -> Result<i64> {
        self.value()?.trim().parse().map_err(|_| self.bad("an Integer"))
    }

    fn double(&mut self) -> Result<f64> {
        match self.value()?.trim() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            text => text.parse().map_err(|_| self.bad("a Double")),
        }
    }

    fn boolean(&mut self) -> Result<bool> {
        self.value()?.trim().parse().map_err(|_| self.bad("a Boolean"))
    }

    fn timestamp(&mut self, format: Option<TimestampFormat>) -> Result<Timestamp> {
        timestamp::parse(self.value()?.trim(), format.unwrap_or(self.times))
            .ok_or_else(|| self.bad("a Timestamp"))
    }

    fn blob(&mut self) -> Result<Bytes> {
        if self.values.is_empty() {
            return Ok(self.raw.clone());
        }
        BASE64.decode(self.value()?).map(Bytes::from).map_err(|_| self.bad("a Blob"))
    }

    fn document(&mut self) -> Result<serde_json::Value> {
        Err(self.bad("a Document"))
    }
}
