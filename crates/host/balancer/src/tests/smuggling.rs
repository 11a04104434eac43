//! Requests that two parsers could read in two ways: refused, or passed on in one way only.

use super::world::*;

/// The statuses of all that came back for some bytes, until the connection ended or nothing more was to come.
async fn statuses(bytes: &[u8]) -> (Vec<u16>, u32, String) {
    let a = backend(Does::Echoes).await;
    let mut table = table(&[a.address]);
    balancer(&mut table).attributes.idle_timeout_s = 1;
    let world = World::new(table).await;
    let mut caller = Caller::new(world.address().await).await;
    caller.write(bytes).await;
    let mut all = Vec::new();
    let mut seen = String::new();
    while let Some(answer) = caller.answer().await {
        all.push(answer.status);
        seen += &answer.body.to_ascii_lowercase();
    }
    (all, a.count(), seen)
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let head = "Host: a.example\r\n";
    let cases: &[(&str, u16)] = &[
        ("POST / HTTP/1.1\r\n{}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        ("POST / HTTP/1.1\r\n{}Content-Length: 3, 3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{}Content-Length: +3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{}Content-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n{}Content-Length: 0x3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{}Content-Length : 3\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{}Content-Length: 3\r\n folded: 1\r\n\r\nabc", 400),
        ("POST / HTTP/1.1\r\n{}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\n{}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 501),
        (
            "POST / HTTP/1.1\r\n{}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\n{}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\n{}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n{}Transfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\n{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{}Host: b.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{}X-A: b\0c\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\n{}\r\n", 400),
        ("G@T / HTTP/1.1\r\n{}\r\n", 400),
        ("GET / HTTP/3.0\r\n{}\r\n", 505),
        ("GET / HTTP/2.0\r\n{}\r\n", 505),
        ("GET / HTTP/1.2\r\n{}\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("hello\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n{}X-Forwarded-For: MANY\r\n\r\n", 463),
        ("TRACE / HTTP/1.1\r\n{}\r\n", 405),
        ("CONNECT a.example:80 HTTP/1.1\r\n{}\r\n", 405),
    ];
    let many = ["1.1.1.1"; 31].join(", ");
    for (text, expected) in cases {
        let bytes = text.replace("{}", head).replace("MANY", &many);
        let (all, count, _) = statuses(bytes.as_bytes()).await;
        assert_eq!(all.first(), Some(expected), "{bytes:?}: {all:?}");
        assert_eq!(count, 0, "nothing reaches a target: {bytes:?}");
    }
}

#[tokio::test]
async fn a_request_with_length_and_chunks_is_passed_on_by_its_chunks_alone_and_ends_its_connection()
{
    for order in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ] {
        // By its length, the body would be `0 CRLF CRLF G`, and what follows the beginning of another request.
        let text = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{order}\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let (all, count, seen) = statuses(text.as_bytes()).await;
        assert_eq!((all.as_slice(), count), ([200].as_slice(), 1), "{order}");
        assert!(!seen.contains("/next"), "{seen}");
        assert!(!seen.contains("content-length: 6"), "{seen}");
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let line = |path: usize, header: usize, count: usize| {
        let headers: String =
            (0..count).map(|at| format!("X-{at}: {}\r\n", "y".repeat(header))).collect();
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n{headers}\r\n", "x".repeat(path))
    };
    for (text, expected) in [
        (line(16_000, 10, 1), &[200_u16][..]),
        (line(17_000, 10, 1), &[414]),
        (line(1, 15_000, 1), &[200]),
        (line(1, 17_000, 1), &[400]),
        (line(1, 8_000, 9), &[400]),
        (line(1, 1, 300), &[200]),
        (line(1, 10, 1_000), &[200]),
        (line(1, 1, 1_100), &[400]),
        (line(70_000, 10, 1), &[414]),
    ] {
        let (all, _, _) = statuses(text.as_bytes()).await;
        let status = all.first().copied().unwrap_or(0);
        assert!(expected.contains(&status), "{} bytes: {all:?}", text.len());
    }
}

/// A world that logs requests, by TLS or not.
async fn logging(is_secret: bool) -> (World, Backend) {
    let a = backend(Does::Answers("a")).await;
    let mut table = table(&[a.address]);
    if is_secret {
        super::protocols::with_tls(&mut table, routing::ListenerProtocol::Https);
    }
    balancer(&mut table).attributes.access_logs =
        Some(routing::AccessLogs { bucket: "requests".to_owned(), prefix: String::new() });
    (World::new(table).await, a)
}

/// What it logged until its end.
async fn log_of(world: World) -> String {
    let dir = std::sync::Arc::clone(&world.dir);
    world.end().await;
    logged(&dir.path().join("logs/requests")).remove(0).1
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_with_a_page_and_logged() {
    for (text, status, said) in [
        (&b"hello\r\n\r\n"[..], 400, "400 Bad Request"),
        (b"GET / HTTP/1.2\r\n\r\n", 505, "505 HTTP Version Not Supported"),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, "400 Bad Request"),
    ] {
        let (world, _backend) = logging(false).await;
        let mut caller = Caller::new(world.address().await).await;
        // An answer before it is whole, and told apart.
        assert_eq!(caller.ask(GET).await.unwrap().body, "a");
        let answer = caller.ask(text).await.unwrap();
        assert!(answer.head.starts_with(&format!("HTTP/1.1 {said}\r\n")), "{}", answer.head);
        assert!(answer.body.contains(&format!("<h1>{said}</h1>")), "{}", answer.body);
        assert_eq!(answer.header("server"), Some("awselb/2.0"), "{}", answer.head);
        assert_eq!(answer.header("connection"), Some("close"), "{}", answer.head);
        assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")));
        assert!(caller.is_ended().await);
        drop(caller);
        let sent = (answer.head.len() + answer.body.len()).to_string();
        let log = log_of(world).await;
        let line = log.lines().find(|line| !line.contains("GET")).unwrap();
        let of = fields(line);
        assert_eq!((of.len(), of[0], of[4]), (34, "http", "-"), "{line}");
        assert_eq!(of[5..8], ["-1"; 3], "{line}");
        assert_eq!((of[8], of[9]), (status.to_string().as_str(), "-"), "{line}");
        assert_eq!(of[10..12], ["0", sent.as_str()], "{line}");
        assert_eq!((of[12], of[13]), ("- http://127.0.0.1:22- -", "-"), "{line}");
        assert_eq!(of[14..21], ["-"; 7], "{line}");
        assert_eq!(of[22..29], ["-"; 7], "{line}");
    }
}

#[tokio::test]
async fn requests_before_one_that_cannot_be_read_are_answered() {
    let (world, _backend) = logging(false).await;
    let mut caller = Caller::new(world.address().await).await;
    caller.write(&[GET, GET, b"hello\r\n\r\n"].concat()).await;
    for status in [200, 200, 400] {
        assert_eq!(caller.answer().await.unwrap().status, status);
    }
    assert!(caller.is_ended().await);
}

#[tokio::test]
async fn http_in_the_clear_is_told_that_the_port_speaks_tls() {
    let (world, _backend) = logging(true).await;
    let mut caller = Caller::new(world.address().await).await;
    let answer = caller.ask(GET).await.unwrap();
    assert_eq!((answer.status, answer.header("server")), (400, Some("awselb/2.0")));
    assert!(answer.body.contains("plain HTTP request was sent to HTTPS port"), "{}", answer.body);
    assert!(caller.is_ended().await);
    drop(caller);
    let log = log_of(world).await;
    assert_eq!(fields(log.lines().next().unwrap())[8], "400", "{log}");
}

#[tokio::test]
async fn a_status_without_words_is_sent_without_any() {
    let many = ["1.1.1.1"; 31].join(", ");
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {many}\r\n\r\n");
    let world = World::new(table(&[])).await;
    let answer = Caller::new(world.address().await).await.ask(text.as_bytes()).await.unwrap();
    assert!(answer.head.starts_with("HTTP/1.1 463 \r\n"), "{}", answer.head);
    assert_eq!(answer.body, "");
}
