//! The head of a request, as far as rules look at it.

use std::borrow::Cow;
use std::net::IpAddr;

/// What rules see of a request.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a str,
    /// The first `Host` header or `:authority`, without its port.
    pub host: &'a str,
    /// As the client sent it, without the query.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
    pub headers: &'a dyn Headers,
    /// The other end of the connection.
    pub peer: IpAddr,
}

impl std::fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.method, self.host, self.path)
    }
}

/// The headers of a request.
pub trait Headers: Sync {
    /// Whether `wanted` is true of any value of the headers called `name` (lower case); values that are no text are left out.
    fn any(&self, name: &str, wanted: &mut dyn FnMut(&str) -> bool) -> bool;
}

impl Headers for [(&str, &str)] {
    fn any(&self, name: &str, wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        self.iter().any(|(key, value)| key.eq_ignore_ascii_case(name) && wanted(value))
    }
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn any(&self, name: &str, wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        self.as_slice().any(name, wanted)
    }
}

/// A host without its port: `example.com:8080` and `[::1]:80` are `example.com` and `[::1]`.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            // An IPv6 address without brackets has colons of its own.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        Some(_) | None => host,
    }
}

/// The pairs of a query; what has no `=` is a value without a key.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or(("", part)))
}

/// The path that rules compare: percent-encoded letters that need not be encoded are decoded, and `.` and `..`
/// are resolved, so that `/img/../admin` and `/%61dmin` are `/admin`. What is forwarded is what the client sent.
pub fn normal_path(path: &str) -> Cow<'_, str> {
    let is_plain = !path.contains('%') && !path.contains("/.");
    if is_plain {
        return Cow::Borrowed(path);
    }
    let path = decoded_where(path, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.split('/').skip(1) {
        ends_in_slash = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if ends_in_slash || out.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

/// A text with everything percent-encoded decoded; what is no UTF-8 then is left as it was.
pub(crate) fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('%') { decoded_where(text, |_| true) } else { Cow::Borrowed(text) }
}

fn decoded_where(text: &str, is_wanted: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(from_hex);
        match code.filter(|code| is_wanted(*code)) {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn from_hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_in_their_normal_form() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a//b"),
            ("/%61dmin", "/admin"),
            ("/a%2Fb", "/a%2Fb"),
            ("/img/../admin", "/admin"),
            ("/img/%2e%2e/admin", "/admin"),
            ("/../../x", "/x"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/.hidden", "/.hidden"),
            ("/100%", "/100%"),
            ("/%+1", "/%+1"),
            ("*", "*"),
        ] {
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }

    #[test]
    fn a_host_is_compared_without_its_port() {
        for (host, name) in [
            ("a.example:8080", "a.example"),
            ("a.example", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
