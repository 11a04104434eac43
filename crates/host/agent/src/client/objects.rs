//! S3, as far as tasks need it: the region answers it for the store that its operator named.

use acs::RoleCredentials;
use aws_wire::sigv4;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::Full;

use super::{Answer, Api, CallError, of_role};
use crate::spec::ObjectName;

const OPERATION: &str = "GetObject";

impl Api {
    /// An object as it is now. As Amazon's agent does, its bucket's place is asked for first, which needs a permission
    /// of its own.
    pub(crate) async fn object(
        &self,
        object: &ObjectName,
        role: &RoleCredentials,
    ) -> Result<Bytes, CallError> {
        let ObjectName { bucket, key } = object;
        self.get(&format!("/{bucket}?location"), role).await?;
        self.get(&format!("/{bucket}/{}", sigv4::encoded_key(key)), role).await
    }

    async fn get(&self, path: &str, role: &RoleCredentials) -> Result<Bytes, CallError> {
        let mut parts = self.admit(None)?.into_parts();
        let bad = || CallError::BadEndpoint(path.to_owned());
        parts.path_and_query = Some(path.parse().map_err(|_| bad())?);
        let uri = Uri::from_parts(parts).map_err(|_| bad())?;
        let mut headers = HeaderMap::new();
        let hash = HeaderName::from_static("x-amz-content-sha256");
        headers.insert(hash, HeaderValue::from_static(sigv4::EMPTY_HASH));
        self.sign("GET", &uri, &mut headers, b"", &of_role(role), "s3");
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let Answer { status, bytes, .. } = self.timely(request, &uri).await?;
        if (200..300).contains(&status) {
            return Ok(bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let member = |name| member(&text, name).unwrap_or_default();
        let (code, message) = (member("Code"), member("Message"));
        if code.is_empty() {
            let why = format!("status {status} without an error of S3");
            return Err(CallError::Unreadable { operation: OPERATION, why });
        }
        Err(CallError::Refused { status, code, message })
    }
}

/// The text of an element of an error.
fn member(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    Some(plain.iter().fold(text.to_owned(), |text, (escape, letter)| text.replace(escape, letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_s3_is_read() {
        let xml = "<?xml?>\n<Error><Code>NoSuchKey</Code><Message>a &lt;b&gt; &amp;amp; c</Message></Error>";
        assert_eq!(member(xml, "Code").as_deref(), Some("NoSuchKey"));
        assert_eq!(member(xml, "Message").as_deref(), Some("a <b> &amp; c"));
        assert_eq!(member("{}", "Code"), None);
    }
}
