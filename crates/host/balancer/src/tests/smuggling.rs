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
        ("POST / HTTP/1.1\r\n{}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n{}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
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
        ("GET / HTTP/3.0\r\n{}\r\n", 400),
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
        (line(1, 8_000, 9), &[431, 400]),
        (line(1, 1, 300), &[431, 400]),
    ] {
        let (all, _, _) = statuses(text.as_bytes()).await;
        let status = all.first().copied().unwrap_or(0);
        assert!(expected.contains(&status), "{} bytes: {all:?}", text.len());
    }
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
