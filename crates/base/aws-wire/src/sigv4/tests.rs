use http::{HeaderMap, HeaderValue, Uri};
use longshore_types::{Timestamp, Token};

use super::*;
use crate::service::Protocol;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const BODY: &[u8] = b"{\"cluster\":\"demo\"}";

fn credentials() -> Credentials {
    Credentials {
        access_key: "AKIDEXAMPLE".to_owned(),
        secret: Token::from_text("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: None,
    }
}

fn lookup(credentials: &Credentials) -> impl FnOnce(&str, Option<&str>) -> Option<KeyMaterial> {
    let known = credentials.clone();
    move |access_key: &str, _: Option<&str>| {
        (access_key == known.access_key).then(|| KeyMaterial {
            secret: known.secret.clone(),
            session_token: known.session_token.clone(),
            expires: None,
        })
    }
}

fn signed(credentials: &Credentials) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-target", HeaderValue::from_static("ECS.ListTasks"));
    headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
    let uri: Uri = "http://127.0.0.1:4566/".parse().unwrap();
    let region = "us-east-1".parse().unwrap();
    sign(
        "POST",
        &uri,
        &mut headers,
        BODY,
        credentials,
        &region,
        "ecs",
        NOW,
        &SigningKeys::default(),
    );
    headers
}

fn check(
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
    known: &Credentials,
) -> Result<Verified, SignatureError> {
    let request = Received { method: "POST", path: "/", query: "", headers, body };
    verify(&request, "us-east-1", now, &SigningKeys::default(), lookup(known))
}

#[test]
fn what_is_signed_is_verified() {
    let verified = check(&signed(&credentials()), BODY, NOW, &credentials()).unwrap();
    assert_eq!((verified.service.as_str(), verified.is_presigned), ("ecs", false));
}

#[test]
fn the_published_example_has_the_published_signature() {
    // The IAM user guide's own example: GET iam ListUsers.
    let mut headers = HeaderMap::new();
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    headers.insert("content-type", HeaderValue::from_static(form));
    let uri = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08".parse().unwrap();
    let at = Timestamp::from_civil(2015, 8, 30).unwrap().plus_ms((12 * 60 + 36) * 60_000);
    let mut credentials = credentials();
    credentials.secret = Token::from_text("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
    let region = "us-east-1".parse().unwrap();
    sign("GET", &uri, &mut headers, b"", &credentials, &region, "iam", at, &SigningKeys::default());
    let value = headers["authorization"].to_str().unwrap();
    assert!(
        value.ends_with("5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
        "{value}"
    );
}

#[test]
fn a_key_stands_in_a_path_with_all_but_its_slashes_encoded() {
    assert_eq!(encoded_key("a b/ä+.env"), "a%20b/%C3%A4%2B.env");
    assert_eq!(encoded_key("/a//b~/"), "/a//b~/");
    assert_eq!(decoded_key("a%20b/%C3%a4%2B+.env"), "a b/ä++.env".as_bytes());
    assert_eq!(decoded_key("%zz%%2+%41%"), b"%zz%%2+A%");
}

#[test]
fn a_path_of_s3_is_signed_once_encoded_and_otherwise_as_it_is() {
    // Amazon S3's API reference, "Signature calculations": GET object of `examplebucket`, at its own host.
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-content-sha256", HeaderValue::from_static(EMPTY_HASH));
    let uri: Uri = "https://examplebucket.s3.amazonaws.com/?lifecycle".parse().unwrap();
    let at = Timestamp::from_civil(2013, 5, 24).unwrap();
    let credentials = Credentials {
        access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret: Token::from_text("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: None,
    };
    let region = "us-east-1".parse().unwrap();
    let keys = SigningKeys::default();
    sign("GET", &uri, &mut headers, b"", &credentials, &region, "s3", at, &keys);
    let value = headers["authorization"].to_str().unwrap();
    assert!(
        value.ends_with("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        "{value}"
    );
    let canonical = |path| {
        let parts = canonical::Parts {
            method: "GET",
            path,
            query: "",
            headers: &HeaderMap::new(),
            signed: &[],
            body_hash: "",
            service: "s3",
        };
        canonical::request(&parts).lines().nth(1).unwrap().to_owned()
    };
    for path in ["/b/a%20b.env", "/b//x/../y", "/b/%C3%A4%2B", "/", "/b/"] {
        assert_eq!(canonical(path), path);
    }
    assert_eq!(canonical("/b/a+b"), "/b/a%2Bb");
}

#[test]
fn whatever_is_altered_is_refused() {
    let good = signed(&credentials());
    let mismatch = Err(SignatureError::Mismatch);
    assert_eq!(check(&good, b"{}", NOW, &credentials()), mismatch, "another body");

    let mut other = good.clone();
    other.insert("x-amz-target", HeaderValue::from_static("ECS.DeleteCluster"));
    assert_eq!(check(&other, BODY, NOW, &credentials()), mismatch, "another operation");

    let mut wrong_secret = credentials();
    wrong_secret.secret = Token::from_text("another".to_owned());
    assert_eq!(check(&good, BODY, NOW, &wrong_secret), mismatch, "another secret");

    let mut unknown = credentials();
    unknown.access_key = "AKIDOTHER".to_owned();
    assert_eq!(check(&good, BODY, NOW, &unknown), Err(SignatureError::UnknownKey));

    let mut added = good.clone();
    added.insert("x-amz-meta", HeaderValue::from_static("x"));
    let not_signed = SignatureError::HeaderNotSigned { name: "x-amz-meta".to_owned() };
    assert_eq!(check(&added, BODY, NOW, &credentials()), Err(not_signed));

    let mut hashed = good.clone();
    hashed.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    assert!(check(&hashed, BODY, NOW, &credentials()).is_err(), "an unsigned body");

    let mut none = good;
    none.remove("authorization");
    assert_eq!(check(&none, BODY, NOW, &credentials()), Err(SignatureError::Missing));
}

#[test]
fn a_signature_lasts_a_quarter_of_an_hour_either_way() {
    let good = signed(&credentials());
    assert!(check(&good, BODY, NOW.plus_ms(900_000), &credentials()).is_ok());
    let late = check(&good, BODY, NOW.plus_ms(900_001), &credentials()).unwrap_err();
    assert!(
        late.to_string().starts_with("Signature expired: 20231114T221320Z is now earlier than")
    );
    let early = check(&good, BODY, Timestamp(NOW.0 - 900_001), &credentials()).unwrap_err();
    assert!(early.to_string().starts_with("Signature not yet current: 20231114T221320Z"));
}

#[test]
fn a_session_token_must_be_the_keys_own() {
    let mut temporary = credentials();
    temporary.session_token = Some(Token::from_text("session".to_owned()));
    let good = signed(&temporary);
    assert!(check(&good, BODY, NOW, &temporary).is_ok());
    assert_eq!(check(&good, BODY, NOW, &credentials()), Err(SignatureError::SessionToken));
    let mut bare = good;
    bare.remove("x-amz-security-token");
    assert_eq!(check(&bare, BODY, NOW, &temporary), Err(SignatureError::SessionToken));
}

#[test]
fn a_head_is_signed_only_if_it_states_the_bodys_hash() {
    let head = |headers: &HeaderMap, known: &Credentials| {
        let request = Received { method: "POST", path: "/", query: "", headers, body: b"" };
        verify_head(&request, "us-east-1", NOW, &SigningKeys::default(), lookup(known))
    };
    let bare = signed(&credentials());
    assert!(matches!(head(&bare, &credentials()), Ok(Head::Claimed(_))));
    let mut wrong_secret = credentials();
    wrong_secret.secret = Token::from_text("another".to_owned());
    assert!(matches!(head(&bare, &wrong_secret), Ok(Head::Claimed(_))), "nothing is proven");
    let mut unknown = credentials();
    unknown.access_key = "AKIDOTHER".to_owned();
    assert_eq!(head(&bare, &unknown), Err(SignatureError::UnknownKey));

    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(BODY));
    let mut stated = bare;
    stated.insert("x-amz-content-sha256", HeaderValue::from_str(&hash).unwrap());
    let (uri, region) = ("http://127.0.0.1:4566/".parse().unwrap(), "us-east-1".parse().unwrap());
    let (keys, who) = (SigningKeys::default(), credentials());
    sign("POST", &uri, &mut stated, BODY, &who, &region, "ecs", NOW, &keys);
    assert!(matches!(head(&stated, &credentials()), Ok(Head::Signed(_))));
    assert_eq!(head(&stated, &wrong_secret), Err(SignatureError::Mismatch));
    assert!(check(&stated, BODY, NOW, &credentials()).is_ok());
    assert_eq!(check(&stated, b"{}", NOW, &credentials()), Err(SignatureError::BodyHash));
}

#[test]
fn a_presigned_query_is_valid_until_it_expires() {
    let uri = "http://127.0.0.1:4566/?Action=GetCallerIdentity&Version=2011-06-15".parse().unwrap();
    let region = "us-east-1".parse().unwrap();
    let query = presign(&uri, &credentials(), &region, "sts", NOW, 60);
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("127.0.0.1:4566"));
    let check = |query: &str, now| {
        let request = Received { method: "GET", path: "/", query, headers: &headers, body: b"" };
        verify(&request, "us-east-1", now, &SigningKeys::default(), lookup(&credentials()))
    };
    assert!(check(&query, NOW.plus_ms(60_000)).unwrap().is_presigned);
    assert!(matches!(check(&query, NOW.plus_ms(61_000)), Err(SignatureError::Expired { .. })));
    let altered = query.replace("GetCallerIdentity", "AssumeRole");
    assert_eq!(check(&altered, NOW), Err(SignatureError::Mismatch));
    let longer = query.replace("X-Amz-Expires=60", "X-Amz-Expires=600000000");
    assert_eq!(check(&longer, NOW), Err(SignatureError::Expires));
}

#[test]
fn each_family_of_services_has_its_own_codes() {
    let cases = [
        (
            SignatureError::Missing,
            "MissingAuthenticationTokenException",
            "MissingAuthenticationToken",
            "MissingParameter",
        ),
        (
            SignatureError::UnknownKey,
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "AuthFailure",
        ),
        (
            SignatureError::Mismatch,
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "AuthFailure",
        ),
    ];
    for (error, json, query, ec2) in cases {
        assert_eq!(error.to_api_error(Protocol::AwsJson11).code, json);
        assert_eq!(error.to_api_error(Protocol::Query).code, query);
        assert_eq!(error.to_api_error(Protocol::Ec2Query).code, ec2);
    }
}

proptest::proptest! {
    #[test]
    fn no_header_or_query_panics(authorization in "\\PC{0,200}", query in "\\PC{0,200}", date in "\\PC{0,20}") {
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", &authorization), ("x-amz-date", &date)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        let keys = SigningKeys::default();
        let known = credentials();
        let with_header = Received { method: "GET", path: &query, query: &query, headers: &headers, body: b"" };
        let _ = verify(&with_header, "us-east-1", NOW, &keys, lookup(&known));
        headers.remove("authorization");
        let presigned = format!("X-Amz-Signature=0&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={query}");
        let with_query = Received { method: "GET", path: "/", query: &presigned, headers: &headers, body: b"" };
        let _ = verify(&with_query, "us-east-1", NOW, &keys, lookup(&known));
    }
}
