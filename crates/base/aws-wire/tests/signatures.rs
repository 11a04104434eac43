//! AWS's own SigV4 test suite, as botocore carries it: what it calls signed is verified.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use aws_wire::sigv4::{KeyMaterial, Received, SignatureError, SigningKeys, verify};
use http::{HeaderMap, HeaderName, HeaderValue};
use longshore_types::{Timestamp, Token};

use support::botocore;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// Cases that no HTTP/1.1 server can be sent, or that contradict themselves, each with its reason.
const NOT_FOR_SERVERS: &[(&str, &str)] = &[
    ("get-header-value-multiline", "folded header lines are refused, RFC 9112 §5.2"),
    ("get-utf8", "a raw byte above ASCII in a request line is no URI"),
    (
        "get-vanilla-with-session-token",
        "its signature is that of get-vanilla, yet it lists the token among what is signed",
    ),
    ("get-space", "a raw space in a request line is no URI"),
    ("post-vanilla-query-nonunreserved", "the same"),
    ("post-vanilla-query-space", "the same"),
];

fn cases(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cases(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "sreq") {
            found.push(path);
        }
    }
}

#[test]
fn what_the_suite_calls_signed_is_verified_and_nothing_else() {
    let Some(data) = botocore::test_data() else { return };
    let mut found = vec![];
    cases(&data.join("auth/aws4_testsuite"), &mut found);
    found.sort();
    let mut wrong = vec![];
    for path in &found {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if NOT_FOR_SERVERS.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let request = Request::parse(&std::fs::read_to_string(path).unwrap());
        if let Err(error) = request.verify(&request.body) {
            wrong.push(format!("{name}: {error}"));
        }
        let mut altered = request.body.clone();
        altered.push(b'x');
        if request.verify(&altered) != Err(SignatureError::Mismatch) {
            wrong.push(format!("{name}: a longer body was accepted"));
        }
    }
    assert!(20 < found.len(), "{} cases", found.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), found.len(), wrong.join("\n"));
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn parse(text: &str) -> Self {
        let text = text.replace('\r', "");
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().splitn(2, ' ');
        let method = first.next().unwrap().to_owned();
        let target = first.next().unwrap().rsplit_once(' ').unwrap().0.to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value.trim()).unwrap());
        }
        let (path, query) = (path.to_owned(), query.to_owned());
        Self { method, path, query, headers, body: body.as_bytes().to_vec() }
    }

    fn verify(&self, body: &[u8]) -> Result<(), SignatureError> {
        let token = self.headers.get("x-amz-security-token");
        let key = |_: &str, _: Option<&str>| {
            Some(KeyMaterial {
                secret: Token::from_text(SECRET.to_owned()),
                session_token: token.map(|it| Token::from_text(it.to_str().unwrap().to_owned())),
                expires: None,
            })
        };
        let received = Received {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            body,
        };
        let day = Timestamp::from_civil(2015, 8, 30).unwrap();
        let now = day.plus_ms((12 * 60 + 36) * 60_000);
        verify(&received, "us-east-1", now, &SigningKeys::default(), key).map(drop)
    }
}
