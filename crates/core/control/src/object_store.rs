//! The S3-compatible store that a region's operator named: where it is, with which keys it is asked, and whose
//! its buckets are.

use std::path::PathBuf;
use std::str::FromStr;

use aws_wire::sigv4::Credentials;
use http::Uri;
use http::uri::Authority;
use longshore_types::{AccountId, RegionName};

/// A store of objects, as `longshore up` is told of it.
#[derive(Clone, Debug)]
pub struct ObjectStore {
    pub endpoint: StoreEndpoint,
    /// What requests to it are signed for; it may have nothing to do with this region's name.
    pub region: RegionName,
    pub addressing: Addressing,
    pub keys: StoreKeys,
    /// Whose buckets are; those that are not named are the first account's.
    pub buckets: Vec<BucketOwner>,
}

/// How a request names its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `https://HOST/BUCKET/KEY`
    Path,
    /// `https://BUCKET.HOST/KEY`
    Virtual,
}

/// What the store is shown.
#[derive(Clone, Debug)]
pub enum StoreKeys {
    /// A file as the AWS CLI has it, read for each request, so that keys can be exchanged.
    File(PathBuf),
    Given(Credentials),
    /// Nothing: its buckets are open to everybody who reaches it.
    Unsigned,
}

/// A text that is no store's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as https://HOST[:PORT][/PATH]")]
pub struct NotAStore;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreEndpoint {
    scheme: &'static str,
    authority: Authority,
    /// Empty, or begins with a slash and does not end with one.
    path: String,
}

impl StoreEndpoint {
    /// Without its port.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// Where an object is, whose key is percent-encoded; of a bucket itself it is empty.
    pub fn locate(
        &self,
        addressing: Addressing,
        bucket: &str,
        key: &str,
    ) -> Result<Uri, NotAStore> {
        let Self { scheme, authority, path } = self;
        let text = match addressing {
            Addressing::Path => format!("{scheme}://{authority}{path}/{bucket}/{key}"),
            Addressing::Virtual => format!("{scheme}://{bucket}.{authority}{path}/{key}"),
        };
        text.parse().map_err(|_| NotAStore)
    }
}

impl FromStr for StoreEndpoint {
    type Err = NotAStore;

    fn from_str(text: &str) -> Result<Self, NotAStore> {
        let uri: Uri = text.parse().map_err(|_| NotAStore)?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            Some(_) | None => return Err(NotAStore),
        };
        let authority = uri.authority().filter(|it| !it.as_str().contains('@'));
        let authority = authority.filter(|it| !it.host().is_empty()).ok_or(NotAStore)?.clone();
        if uri.query().is_some() {
            return Err(NotAStore);
        }
        Ok(Self { scheme, authority, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl std::fmt::Display for StoreEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// Whose a bucket is: its owner's users and roles read it as far as their policies let them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketOwner {
    pub bucket: String,
    /// `None`: every account's.
    pub owner: Option<AccountId>,
}

/// A text that names no bucket and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as BUCKET=ACCOUNT, or BUCKET=* for all accounts")]
pub struct NotAnOwner;

impl FromStr for BucketOwner {
    type Err = NotAnOwner;

    fn from_str(text: &str) -> Result<Self, NotAnOwner> {
        let (bucket, owner) = text.split_once('=').ok_or(NotAnOwner)?;
        if !is_bucket(bucket) {
            return Err(NotAnOwner);
        }
        let owner = match owner {
            "*" => None,
            account => Some(account.parse().map_err(|_| NotAnOwner)?),
        };
        Ok(Self { bucket: bucket.to_owned(), owner })
    }
}

impl std::fmt::Display for BucketOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{}={owner}", self.bucket),
            None => write!(f, "{}=*", self.bucket),
        }
    }
}

impl ObjectStore {
    /// Whether a bucket is of an account.
    pub fn is_of(&self, bucket: &str, account: AccountId) -> bool {
        let mut named = self.buckets.iter().filter(|it| it.bucket == bucket).peekable();
        if named.peek().is_none() {
            return account == crate::Config::root_account();
        }
        named.any(|it| it.owner.is_none_or(|owner| owner == account))
    }
}

/// Whether a text is a bucket's name: 3 to 63 lowercase letters, digits, dots and hyphens.
pub fn is_bucket(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_edge = |b: Option<&u8>| b.is_some_and(|b| is_plain(*b));
    let bytes = text.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| is_plain(*b) || matches!(b, b'.' | b'-'))
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_where_the_stores_addressing_says() {
        let at = |endpoint: &str, addressing| {
            let endpoint: StoreEndpoint = endpoint.parse().unwrap();
            endpoint.locate(addressing, "conf", "a/b%20c.env").unwrap().to_string()
        };
        for (endpoint, addressing, expected) in [
            ("http://10.0.0.9:9000", Addressing::Path, "http://10.0.0.9:9000/conf/a/b%20c.env"),
            ("https://s3.lan/", Addressing::Virtual, "https://conf.s3.lan/a/b%20c.env"),
            ("https://x.lan/s3/", Addressing::Path, "https://x.lan/s3/conf/a/b%20c.env"),
        ] {
            assert_eq!(at(endpoint, addressing), expected);
        }
        for bad in
            ["", "s3.lan", "ftp://s3.lan", "https://a@s3.lan", "https://s3.lan/?x", "unix:///s"]
        {
            assert_eq!(bad.parse::<StoreEndpoint>(), Err(NotAStore), "{bad}");
        }
    }

    #[test]
    fn buckets_that_nobody_named_are_the_first_accounts() {
        let other: AccountId = "111111111111".parse().unwrap();
        let store = ObjectStore {
            endpoint: "http://s3.lan".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            addressing: Addressing::Path,
            keys: StoreKeys::Unsigned,
            buckets: vec!["theirs=111111111111".parse().unwrap(), "all=*".parse().unwrap()],
        };
        let root = crate::Config::root_account();
        let of = |bucket| (store.is_of(bucket, root), store.is_of(bucket, other));
        assert_eq!(of("plain"), (true, false));
        assert_eq!(of("theirs"), (false, true));
        assert_eq!(of("all"), (true, true));
        for bad in ["x", "bucket", "bucket=", "Bucket=*", "bucket=12", "a..b=*", "-ab=*"] {
            assert_eq!(bad.parse::<BucketOwner>(), Err(NotAnOwner), "{bad}");
        }
    }
}
