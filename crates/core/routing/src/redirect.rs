//! Where a redirect leads.

use crate::limits::LOCATION_BYTES_MAX;

/// The parts of the request that a redirect may repeat.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `http` or `https`.
    pub protocol: &'a str,
    /// Without its port.
    pub host: &'a str,
    pub port: u16,
    /// With its leading slash.
    pub path: &'a str,
    pub query: Option<&'a str>,
}

/// The members of a redirect as the rule has them.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    pub protocol: &'a str,
    pub host: &'a str,
    pub port: &'a str,
    pub path: &'a str,
    pub query: &'a str,
}

/// The `Location` would be too long: 507.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address of the redirect is too long")]
pub struct TooLong;

/// The `Location` of a redirect, always with its port.
pub fn location(template: Template<'_>, parts: Parts<'_>) -> Result<String, TooLong> {
    let fill = |text: &str| filled(text, parts);
    let protocol = fill(template.protocol).to_ascii_lowercase();
    let (host, port) = (fill(template.host), fill(template.port));
    let (path, query) = (fill(template.path), fill(template.query));
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mark = if query.is_empty() { "" } else { "?" };
    let location = format!("{protocol}://{host}:{port}{slash}{path}{mark}{query}");
    if location.len() > LOCATION_BYTES_MAX { Err(TooLong) } else { Ok(location) }
}

fn filled(text: &str, parts: Parts<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("#{") {
        out.push_str(before);
        let value = after.split_once('}').and_then(|(name, behind)| {
            let value = match name {
                "protocol" => parts.protocol.to_owned(),
                "host" => parts.host.to_owned(),
                "port" => parts.port.to_string(),
                "path" => parts.path.strip_prefix('/').unwrap_or(parts.path).to_owned(),
                "query" => parts.query.unwrap_or_default().to_owned(),
                _ => return None,
            };
            Some((value, behind))
        });
        rest = match value {
            Some((value, behind)) => {
                out.push_str(&value);
                behind
            }
            None => {
                out.push_str("#{");
                after
            }
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(host: &str, port: &str, path: &str, query: &str) -> Result<String, TooLong> {
        let template = Template { protocol: "HTTPS", host, port, path, query };
        let parts = Parts {
            protocol: "http",
            host: "example.com",
            port: 80,
            path: "/a/b",
            query: Some("x=1"),
        };
        location(template, parts)
    }

    #[test]
    fn a_redirect_repeats_what_its_placeholders_name() {
        for (host, port, path, query, expected) in [
            ("#{host}", "443", "/#{path}", "#{query}", "https://example.com:443/a/b?x=1"),
            ("www.#{host}", "8443", "/", "", "https://www.example.com:8443/"),
            (
                "#{host}",
                "#{port}",
                "/was/#{path}",
                "old=#{path}&#{query}",
                "https://example.com:80/was/a/b?old=a/b&x=1",
            ),
            ("#{host}", "443", "/#{nothing}/#{", "", "https://example.com:443/#{nothing}/#{"),
        ] {
            assert_eq!(to(host, port, path, query).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn an_address_that_is_too_long_is_refused() {
        assert_eq!(to("#{host}", "443", "/#{path}", &"q".repeat(9000)), Err(TooLong));
    }
}
