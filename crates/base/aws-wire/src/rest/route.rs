//! Which operation a method and path mean, and the labels in the path.

use crate::service::{Operation, Service};

/// A path's labels, by name, percent-decoded.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The operation for a request; where two fit, the one with fewer labels.
pub fn find(
    service: &Service,
    method: &str,
    path: &str,
    query: &str,
) -> Option<&'static Operation> {
    let operations: &'static [Operation] = service.operations;
    operations
        .iter()
        .filter(|operation| operation.method == method)
        .filter(|operation| labels(operation.uri, path).is_some())
        .filter(|operation| has_fixed_query(operation.uri, query))
        .min_by_key(|operation| operation.uri.matches('{').count())
}

/// The labels that `template` names, if `path` is of its form.
pub(super) fn labels(template: &'static str, path: &str) -> Option<Labels> {
    let template = template.split('?').next().unwrap_or(template);
    let mut parts = template.trim_start_matches('/').split('/').peekable();
    let mut rest = Some(path.trim_start_matches('/'));
    let mut found = vec![];
    while let Some(part) = parts.next() {
        let here = rest?;
        let is_last = parts.peek().is_none();
        let Some(label) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
            let (segment, after) = split(here);
            if segment != part {
                return None;
            }
            rest = after;
            continue;
        };
        if let Some(greedy) = label.strip_suffix('+') {
            // A greedy label takes all that the parts behind it leave.
            let behind: Vec<&str> = parts.clone().collect();
            let value = if behind.is_empty() {
                here
            } else {
                let tail = format!("/{}", behind.join("/"));
                here.strip_suffix(tail.as_str())?
            };
            found.push((greedy, decoded(value)?));
            return Some(found).filter(|_| !value.is_empty());
        }
        let (segment, after) = split(here);
        if segment.is_empty() {
            return None;
        }
        found.push((label, decoded(segment)?));
        rest = if is_last && after == Some("") { None } else { after };
    }
    rest.is_none_or(str::is_empty).then_some(found)
}

fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)))
}

/// Whether the parameters that a template fixes behind its question mark are there.
fn has_fixed_query(template: &str, query: &str) -> bool {
    let Some((_, fixed)) = template.split_once('?') else { return true };
    let same = |one: &str, other: &str| one.trim_end_matches('=') == other.trim_end_matches('=');
    fixed.split('&').all(|wanted| query.split('&').any(|given| same(given, wanted)))
}

/// Percent-decoded text; a plus is a plus in a path.
pub(super) fn decoded(raw: &str) -> Option<String> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let raw = raw.as_bytes();
    let mut bytes = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        if byte == b'%' {
            let code = digit(raw.get(at + 1))? * 16 + digit(raw.get(at + 2))?;
            bytes.push(u8::try_from(code).ok()?);
            at += 3;
        } else {
            bytes.push(byte);
            at += 1;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_and_other_paths_are_not() {
        let at = |template, path| labels(template, path);
        assert_eq!(at("/", "/"), Some(vec![]));
        assert_eq!(at("/a/{b}", "/a/x%2Fy"), Some(vec![("b", "x/y".to_owned())]));
        assert_eq!(at("/a/{b+}", "/a/x/y"), Some(vec![("b", "x/y".to_owned())]));
        assert_eq!(at("/a/{b+}/c", "/a/x/y/c"), Some(vec![("b", "x/y".to_owned())]));
        assert_eq!(at("/a/{b}/c?d", "/a/x/c"), Some(vec![("b", "x".to_owned())]));
        for path in ["/a", "/a/", "/b/x", "/a/x/y", "/a/%zz", "/a/%ff"] {
            assert_eq!(at("/a/{b}", path), None, "{path}");
        }
    }
}
