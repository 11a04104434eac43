//! The store is a socket of the test's, which answers whatever a case wants.

use std::sync::{Arc, Mutex, PoisonError};

use aws_wire::Principal;
use control::testing::TestControl;
use control::{Addressing, ObjectStore, StoreKeys};
use longshore_types::Token;
use store::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Answers every connection with the same bytes, and keeps what was asked.
async fn store_that_says(answer: Vec<u8>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&asked);
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(head);
            let _ = socket.write_all(&answer).await;
        }
    });
    (format!("http://{address}"), asked)
}

struct World {
    core: TestControl,
    objects: Objects,
}

fn world(endpoint: &str, keys: StoreKeys) -> World {
    let core = TestControl::on(Arc::new(MemoryStore::new()), |config| {
        config.object_store = Some(ObjectStore {
            endpoint: endpoint.parse().unwrap(),
            region: "garage".parse().unwrap(),
            addressing: Addressing::Path,
            keys,
            buckets: vec!["theirs=111111111111".parse().unwrap()],
        });
    });
    let objects = Objects::new(&core.control).unwrap();
    World { core, objects }
}

impl World {
    async fn get(&self, caller: &Caller, path: &str) -> Result<Answer, ApiError> {
        self.objects.answer(caller, &Asked::read(&Method::GET, path, "")?).await
    }
}

fn given() -> StoreKeys {
    StoreKeys::Given(aws_wire::sigv4::Credentials {
        access_key: "OPERATOR".to_owned(),
        secret: Token::from_text("geheim".to_owned()),
        session_token: None,
    })
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"e\"\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[tokio::test]
async fn an_object_is_fetched_with_the_operators_keys_once_the_caller_may() {
    let (endpoint, asked) = store_that_says(ok("A=1\n")).await;
    let world = world(&endpoint, given());
    let root = world.core.root();
    let got = world.get(&root, "/conf/dir/a%20b.env").await.unwrap();
    assert_eq!((&got.body[..], got.headers.len()), (&b"A=1\n"[..], 1));
    let head = asked.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("GET /conf/dir/a%20b.env HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: AWS4-HMAC-SHA256 Credential=OPERATOR/"), "{head}");
    assert!(head.contains("/garage/s3/aws4_request"), "{head}");
    assert!(!head.contains("geheim"));

    let mut user = root.clone();
    user.principal =
        Principal::User { name: "ann".into(), path: "/".into(), id: "AIDAAAAAAAAAAAAAAAAA".into() };
    for path in ["/conf/a.env", "/conf?location"] {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let asked = Asked::read(&Method::GET, path, query).unwrap();
        let refused = world.objects.answer(&user, &asked).await.unwrap_err();
        assert_eq!((refused.status, &*refused.code), (403, "AccessDenied"));
        assert!(refused.message.contains("s3:Get"), "{}", refused.message);
    }
    let refused = world.get(&root, "/theirs/a.env").await.unwrap_err();
    assert!(refused.message.contains("another account"), "{}", refused.message);
    assert!(world.get(&world.core.root_of("111111111111"), "/theirs/a.env").await.is_ok());
    assert!(world.get(&world.core.root_of("111111111111"), "/conf/a.env").await.is_err());
}

#[tokio::test]
async fn a_store_without_keys_is_asked_unsigned() {
    let (endpoint, asked) = store_that_says(ok("A=1\n")).await;
    let world = world(&endpoint, StoreKeys::Unsigned);
    world.get(&world.core.root(), "/conf/a.env").await.unwrap();
    assert!(!asked.lock().unwrap()[0].contains("authorization"));
}

#[tokio::test]
async fn a_stores_bad_days_are_said_in_s3s_words_and_lead_nowhere_else() {
    let (elsewhere, followed) = store_that_says(ok("METADATA=1\n")).await;
    let plain = |status: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let no_bucket = "<Error><Code>NoSuchBucket</Code></Error>";
    let no_bucket =
        format!("HTTP/1.1 404 No\r\nContent-Length: {}\r\n\r\n{no_bucket}", no_bucket.len());
    let redirect =
        format!("HTTP/1.1 307 Go\r\nLocation: {elsewhere}/x\r\nContent-Length: 0\r\n\r\n");
    let mut endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    endless.resize(5 << 20, b'x');
    for (answer, code) in [
        (plain("404 No"), "NoSuchKey"),
        (no_bucket.into_bytes(), "NoSuchBucket"),
        (plain("403 No"), "AccessDenied"),
        (plain("500 No"), "ServiceUnavailable"),
        (plain("429 No"), "ServiceUnavailable"),
        (redirect.into_bytes(), "InvalidRequest"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\nA".to_vec(), "InvalidRequest"),
        (endless, "InvalidRequest"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nA=1".to_vec(),
            "ServiceUnavailable",
        ),
        (b"no HTTP\r\n\r\n".to_vec(), "ServiceUnavailable"),
    ] {
        let (endpoint, _) = store_that_says(answer).await;
        let world = world(&endpoint, given());
        let error = world.get(&world.core.root(), "/conf/a.env").await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(!error.message.contains("127.0.0.1"), "{error}");
    }
    assert!(followed.lock().unwrap().is_empty(), "a redirect was followed");
    let away = world("http://127.0.0.1:1", given());
    let error = away.get(&away.core.root(), "/conf/a.env").await.unwrap_err();
    assert_eq!((error.status, &*error.code), (503, "ServiceUnavailable"));
    let lacking = world(&elsewhere, StoreKeys::File("/no/such/file".into()));
    let error = lacking.get(&lacking.core.root(), "/conf/a.env").await.unwrap_err();
    assert!(!error.message.contains("/no/such"), "{error}");
}

#[test]
fn only_what_tasks_need_is_answered_and_keys_that_could_be_read_in_two_ways_are_not() {
    let read = |path: &str, query: &str| Asked::read(&Method::GET, path, query);
    let object = |bucket: &str, key: &str| Asked::Object { bucket: bucket.into(), key: key.into() };
    assert_eq!(read("/conf/a/b.env", "x-id=GetObject").unwrap(), object("conf", "a/b.env"));
    assert_eq!(read("/conf/%C3%A4+%2B", "").unwrap(), object("conf", "ä++"));
    assert_eq!(read("/conf", "location").unwrap(), Asked::Location { bucket: "conf".into() });
    assert_eq!(read("/conf/", "location=").unwrap().operation(), "GetBucketLocation");
    for (path, query, code) in [
        ("/", "", "NotImplemented"),
        ("/conf", "", "NotImplemented"),
        ("/conf", "list-type=2", "NotImplemented"),
        ("/conf/a", "acl", "NotImplemented"),
        ("/Conf/a", "", "InvalidBucketName"),
        ("/169.254.169.254:80/a", "", "InvalidBucketName"),
        ("/conf/../other/a", "", "InvalidURI"),
        ("/conf/%2e%2e/other/a", "", "InvalidURI"),
        ("/conf/a//b", "", "InvalidURI"),
        ("/conf/a/", "", "InvalidURI"),
        ("/conf/a%0d%0ab", "", "InvalidURI"),
        ("/conf/%ff", "", "InvalidURI"),
    ] {
        assert_eq!(read(path, query).unwrap_err().code, code, "{path}?{query}");
    }
    let put = Asked::read(&Method::PUT, "/conf/a", "").unwrap_err();
    assert_eq!((put.status, &*put.code), (501, "NotImplemented"));
}
