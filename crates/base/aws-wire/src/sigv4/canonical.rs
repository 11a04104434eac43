//! The canonical form of a request and the string that is signed.

use std::fmt::Write;

use http::HeaderMap;
use sha2::{Digest, Sha256};

/// The service whose paths are names of objects: they are signed as they are.
const S3: &str = "s3";

/// What a signature covers, as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// Without the question mark.
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// Lowercase names, sorted.
    pub(super) signed: &'a [&'a str],
    /// Hexadecimal.
    pub(super) body_hash: &'a str,
    /// Whose rules it follows: S3's are others.
    pub(super) service: &'a str,
}

/// The canonical request. A query's `X-Amz-Signature` is left out of it.
pub(super) fn request(parts: &Parts<'_>) -> String {
    let mut text = String::with_capacity(512);
    text.push_str(parts.method);
    text.push('\n');
    match parts.service {
        S3 => object_path(&mut text, parts.path),
        _ => path(&mut text, parts.path),
    }
    text.push('\n');
    query(&mut text, parts.query);
    text.push('\n');
    for name in parts.signed {
        text.push_str(name);
        text.push(':');
        for (index, value) in parts.headers.get_all(*name).iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            header_value(&mut text, &String::from_utf8_lossy(value.as_bytes()));
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&parts.signed.join(";"));
    text.push('\n');
    text.push_str(parts.body_hash);
    text
}

pub(super) fn string_to_sign(amz_date: &str, scope: &str, canonical: &str) -> String {
    let hash = sha256_hex(canonical.as_bytes());
    format!("{}\n{amz_date}\n{scope}\n{hash}", super::ALGORITHM)
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Dot segments and doubled slashes removed, then each byte that is not unreserved encoded (again).
fn path(out: &mut String, raw: &str) {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    for segment in &segments {
        out.push('/');
        encode(out, segment.as_bytes());
    }
    let is_folder = raw.ends_with('/') || raw.ends_with("/.") || raw.ends_with("/..");
    if segments.is_empty() || is_folder {
        out.push('/');
    }
}

/// Each byte that is not unreserved encoded once; doubled slashes and dots are part of an object's name.
fn object_path(out: &mut String, raw: &str) {
    for (index, segment) in raw.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        encode(out, &decoded_key(segment));
    }
}

/// Parameters decoded, encoded anew in the one right way, and sorted.
fn query(out: &mut String, raw: &str) {
    let mut pairs: Vec<(String, String)> = raw
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (recode(name), recode(value)))
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
}

fn recode(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    encode(&mut out, &decode(raw));
    out
}

/// Percent-decoded bytes; a broken escape stands for itself, a plus for a space.
pub(super) fn decode(raw: &str) -> Vec<u8> {
    let bytes = raw.as_bytes();
    let digit = |at: usize| {
        bytes
            .get(at)
            .and_then(|byte| char::from(*byte).to_digit(16))
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

/// A key of S3 as it stands in a path, which slashes stay apart in.
pub fn encoded_key(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for (number, part) in key.split('/').enumerate() {
        if number > 0 {
            out.push('/');
        }
        encode(&mut out, part.as_bytes());
    }
    out
}

/// What stands in a path for a key of S3; a broken escape stands for itself.
pub fn decoded_key(raw: &str) -> Vec<u8> {
    // A plus is no space here.
    decode(&raw.replace('+', "%2B"))
}

pub(super) fn encode(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
}

/// Trimmed, with runs of spaces made one.
fn header_value(out: &mut String, value: &str) {
    let mut words = value.split([' ', '\t']).filter(|word| !word.is_empty());
    if let Some(first) = words.next() {
        out.push_str(first);
    }
    for word in words {
        out.push(' ');
        out.push_str(word);
    }
}
