//! What becomes of requests whose targets are well.

use std::collections::BTreeSet;

use routing::{
    AccessLogs, Action, Condition, Pattern, RedirectStatus, Rewrite, Stickiness, TargetState,
};

use super::world::*;

#[tokio::test]
async fn requests_go_to_targets_in_turn_over_one_connection() {
    let (a, b) = (backend(Does::Answers("a")).await, backend(Does::Answers("b")).await);
    let world = World::new(table(&[a.address, b.address])).await;
    let mut caller = Caller::new(world.address().await).await;
    let mut seen = String::new();
    for _ in 0..4 {
        let answer = caller.ask(GET).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
        seen += &answer.body;
    }
    assert!(seen == "abab" || seen == "baba", "{seen}");
}

#[tokio::test]
async fn a_target_is_told_who_asks_and_how() {
    let a = backend(Does::Echoes).await;
    let world = World::new(table(&[a.address])).await;
    let mut caller = Caller::new(world.address().await).await;
    let answer = caller
        .ask(
            b"POST /p?q=1 HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 10.0.0.9\r\n\
              X-Forwarded-Proto: https\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\n\
              Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .await
        .unwrap();
    let sent = answer.body.to_ascii_lowercase();
    assert!(sent.starts_with("post /p?q=1 http/1.1\r\n"), "{sent}");
    for line in [
        "host: a.example:22\r\n",
        "x-forwarded-for: 10.0.0.9, 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-port: 22\r\n",
        "x-amzn-trace-id: root=1-",
    ] {
        assert!(sent.contains(line), "{line} in {sent}");
    }
    assert!(sent.ends_with("\r\n\r\nabc"), "{sent}");
    assert!(!sent.contains("x-secret") && !sent.contains("https"), "{sent}");
}

#[tokio::test]
async fn what_was_said_of_a_client_stays_where_nobody_is_to_be_described() {
    let a = backend(Does::Echoes).await;
    let mut table = table(&[a.address]);
    balancer(&mut table).attributes.describes_client = false;
    let world = World::new(table).await;
    let mut caller = Caller::new(world.address().await).await;
    let answer = caller
        .ask(
            b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 10.0.0.9\r\n\
              X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n\r\n",
        )
        .await
        .unwrap();
    let sent = answer.body.to_ascii_lowercase();
    for line in [
        "x-forwarded-for: 10.0.0.9\r\n",
        "x-forwarded-proto: https\r\n",
        "x-forwarded-port: 443\r\n",
    ] {
        assert!(sent.contains(line), "{line} in {sent}");
    }
    assert!(!sent.contains("x-amzn-trace-id"), "{sent}");
}

#[tokio::test]
async fn rules_answer_redirect_rewrite_and_forward() {
    let a = backend(Does::Echoes).await;
    let mut table = table(&[a.address]);
    let path = |text: &str| vec![Condition::PathPattern(vec![Pattern::Wildcard(text.to_owned())])];
    let mut fixed = rule(
        "fixed",
        Some(1),
        Action::FixedResponse {
            status: 418,
            content_type: Some("text/plain".to_owned()),
            body: "short".to_owned(),
        },
    );
    fixed.conditions = path("/fixed");
    let mut redirect = rule(
        "redirect",
        Some(2),
        Action::Redirect {
            protocol: "HTTPS".to_owned(),
            host: "#{host}".to_owned(),
            port: "443".to_owned(),
            path: "/#{path}".to_owned(),
            query: "#{query}".to_owned(),
            status: RedirectStatus::Moved301,
        },
    );
    redirect.conditions = path("/old/*");
    let mut rewritten = rule("rewritten", Some(3), forward());
    rewritten.conditions = path("/api/*");
    rewritten.transforms.url =
        Some(Rewrite { regex: "^/api/(.*)$".to_owned(), replace: "/$1".to_owned() });
    rewritten.transforms.host =
        Some(Rewrite { regex: "^.*$".to_owned(), replace: "inner.example".to_owned() });
    balancer(&mut table).listeners[0].rules.extend([fixed, redirect, rewritten]);
    let world = World::new(table).await;
    let mut caller = Caller::new(world.address().await).await;
    let mut ask = async |path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        caller.ask(text.as_bytes()).await.unwrap()
    };
    let answer = ask("/fixed").await;
    assert_eq!((answer.status, answer.body.as_str()), (418, "short"));
    assert_eq!(answer.header("server"), Some("awselb/2.0"));
    let answer = ask("/old/x?y=1").await;
    let location = answer.header("location");
    assert_eq!((answer.status, location), (301, Some("https://a.example:443/old/x?y=1")));
    let sent = ask("/api/v1?x=2").await.body;
    assert!(sent.starts_with("GET /v1?x=2 HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("host: inner.example\r\n"), "{sent}");
    assert!(ask("/else").await.body.starts_with("GET /else "));
}

#[tokio::test]
async fn headers_of_a_listener_are_on_every_answer_in_the_place_of_a_targets_own() {
    let own = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nX-Frame-Options: ALLOWALL\r\n\
                X-Frame-Options: DENY\r\nContent-Length: 0\r\n\r\n";
    let a = backend(Does::Writes(own)).await;
    let mut table = table(&[a.address]);
    let mut fixed = rule(
        "fixed",
        Some(1),
        Action::FixedResponse { status: 200, content_type: None, body: "short".to_owned() },
    );
    fixed.conditions = vec![Condition::PathPattern(vec![Pattern::Wildcard("/fixed".to_owned())])];
    let listener = &mut balancer(&mut table).listeners[0];
    listener.rules.push(fixed);
    listener.attributes.server_header = false;
    listener.attributes.response_headers =
        vec![("x-frame-options".to_owned(), "SAMEORIGIN".to_owned())];
    let world = World::new(table).await;
    let framing = |answer: &Answered| answer.head.to_ascii_lowercase().matches("x-frame").count();
    for path in ["/", "/fixed"] {
        let mut caller = Caller::new(world.address().await).await;
        let text = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let answer = caller.ask(text.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"), "{}", answer.head);
        assert_eq!(framing(&answer), 1, "{}", answer.head);
        assert_eq!(answer.header("server"), None, "{}", answer.head);
    }
    world.change(|table| group_of(table).targets.clear()).await;
    let answer = get(world.address().await).await.unwrap();
    assert_eq!((answer.status, answer.header("server")), (503, None), "{}", answer.head);
    assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"), "{}", answer.head);
}

#[tokio::test]
async fn a_group_without_targets_answers_503_and_one_that_is_only_unhealthy_is_used() {
    let a = backend(Does::Answers("a")).await;
    let world = World::new(table(&[])).await;
    let address = world.address().await;
    assert_eq!(get(address).await.unwrap().status, 503);
    world
        .change(|table| {
            let mut target = target(a.address);
            target.state = TargetState::Unhealthy;
            group_of(table).targets = vec![target];
        })
        .await;
    assert_eq!(get(address).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_new_target_is_used_after_one_passed_check() {
    let a = backend(Does::Answers("a")).await;
    let mut table = table(&[a.address]);
    group_of(&mut table).targets[0].state = TargetState::Initial;
    group_of(&mut table).health.protocol = routing::CheckProtocol::Http;
    let world = World::new(table).await;
    let address = world.address().await;
    let healthy = |report: &routing::Report| {
        report.targets.iter().all(|target| target.finding == routing::Finding::Healthy)
    };
    world.reported("healthy", healthy).await;
    assert_eq!(get(address).await.unwrap().body, "a");
}

#[tokio::test]
async fn a_client_comes_back_to_its_target_by_cookie_until_that_drains() {
    let (a, b) = (backend(Does::Answers("a")).await, backend(Does::Answers("b")).await);
    let mut table = table(&[a.address, b.address]);
    group_of(&mut table).stickiness = Stickiness::LbCookie { seconds: 60 };
    let world = World::new(table).await;
    let address = world.address().await;
    let first = get(address).await.unwrap();
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("AWSALB="), "{cookie}");
    assert!(first.head.contains("AWSALBCORS="), "{}", first.head);
    let text = format!("GET / HTTP/1.1\r\nHost: a.example\r\nCookie: x=1; {cookie}\r\n\r\n");
    let mut caller = Caller::new(address).await;
    for _ in 0..5 {
        assert_eq!(caller.ask(text.as_bytes()).await.unwrap().body, first.body);
    }
    let drained = if first.body == "a" { a.address } else { b.address };
    world
        .change(|table| {
            let targets = &mut group_of(table).targets;
            let target = targets.iter_mut().find(|one| one.key.port == drained.port()).unwrap();
            target.state = TargetState::Draining { until: now().plus_ms(60_000) };
        })
        .await;
    assert_ne!(caller.ask(text.as_bytes()).await.unwrap().body, first.body);
}

#[tokio::test]
async fn a_new_table_ends_no_connection() {
    let (a, b) = (backend(Does::Answers("a")).await, backend(Does::Answers("b")).await);
    let world = World::new(table(&[a.address])).await;
    let mut caller = Caller::new(world.address().await).await;
    assert_eq!(caller.ask(GET).await.unwrap().body, "a");
    world.change(|table| group_of(table).targets = vec![target(b.address)]).await;
    assert_eq!(caller.ask(GET).await.unwrap().body, "b");
}

#[tokio::test]
async fn it_serves_on_without_its_region_and_starts_from_what_it_saved() {
    let a = backend(Does::Answers("a")).await;
    let world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    assert_eq!(get(address).await.unwrap().status, 200);
    world.region.is_away.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(get(address).await.unwrap().status, 200);
    let (region, dir) = world.kill().await;
    let again = World::with(region, dir).await;
    // The same port as before: it is remembered.
    let answer = loop {
        if let Ok(stream) = tokio::net::TcpStream::connect(address).await {
            break Caller::over(stream).ask(GET).await.unwrap();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((answer.status, answer.body.as_str()), (200, "a"));
    again.end().await;
}

#[tokio::test]
async fn what_is_open_is_finished_when_the_process_ends() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let a = backend(Does::Waits(gate)).await;
    let world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    let mut caller = Caller::new(address).await;
    caller.write(GET).await;
    while a.count() == 0 {
        tokio::task::yield_now().await;
    }
    let ending = tokio::spawn(world.end());
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    open.send_replace(true);
    let answer = caller.answer().await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
    assert_eq!(answer.header("connection"), Some("close"));
    ending.await.unwrap();
}

#[tokio::test]
async fn access_logs_have_a_line_of_34_fields_for_each_request() {
    let a = backend(Does::Answers("a")).await;
    let mut table = table(&[a.address]);
    let logs = AccessLogs { bucket: "logs".to_owned(), prefix: "../web".to_owned() };
    balancer(&mut table).attributes.access_logs = Some(logs);
    let world = World::new(table).await;
    let text = b"GET /x HTTP/1.1\r\nHost: a.example\r\nUser-Agent: a \"quoted\" one\r\n\r\n";
    Caller::new(world.address().await).await.ask(text).await.unwrap();
    get(world.address().await).await.unwrap();
    let dir = std::sync::Arc::clone(&world.dir);
    world.end().await;
    let mut files = logged(&dir.path().join("logs"));
    assert_eq!(files.len(), 1, "{files:?}");
    let (name, log) = files.remove(0);
    assert!(
        name.contains("/logs/web/AWSLogs/000000000000/elasticloadbalancing/eu-north-1/2"),
        "{name}"
    );
    let line = log.lines().next().unwrap();
    let fields = fields(line);
    assert_eq!(fields.len(), 34, "{line}");
    assert_eq!((fields[0], fields[2]), ("http", "app/web/0123456789abcdef"));
    assert_eq!((fields[8], fields[9], fields[11]), ("200", "200", "1"), "{line}");
    assert_eq!(fields[12], "GET http://a.example:22/x HTTP/1.1");
    assert_eq!(fields[13], "a \\x22quoted\\x22 one");
    assert_eq!((fields[16], fields[20], fields[22]), ("group", "0", "forward"), "{line}");
    let tail = format!(" \"-\" \"-\" {} \"-\" \"-\" \"-\" 127.0.0.1", fields[29]);
    assert!(line.ends_with(&tail), "{line}");
    for time in [fields[1], fields[21]] {
        assert_eq!((time.len(), &time[23..]), (27, "000Z"), "six digits: {time}");
    }
    let other = log.lines().nth(1).unwrap();
    assert!(other.contains(" HTTP/1.1\" \"-\" - - group "), "no agent: {other}");
}

#[tokio::test]
async fn weights_lead_to_groups_and_a_group_cookie_stays_with_one() {
    let (a, b) = (backend(Does::Answers("a")).await, backend(Does::Answers("b")).await);
    let mut table = table(&[a.address]);
    let mut other = group(&[b.address]);
    other.id = routing::GroupId("other".to_owned());
    table.groups.insert(other.id.clone(), other.clone());
    let weighted = |group, weight| routing::WeightedGroup { group, weight, part: None };
    balancer(&mut table).listeners[0].rules[0].action = Action::Forward {
        groups: vec![weighted(group_id(), 1), weighted(other.id, 1)],
        sticky_s: Some(60),
    };
    let world = World::new(table).await;
    let address = world.address().await;
    let mut seen = BTreeSet::new();
    let mut cookie = String::new();
    for _ in 0..40 {
        let answer = get(address).await.unwrap();
        cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        seen.insert(answer.body.clone());
        if seen.len() == 2 {
            break;
        }
    }
    assert_eq!(seen.len(), 2);
    let text = format!("GET / HTTP/1.1\r\nHost: a.example\r\nCookie: {cookie}\r\n\r\n");
    let mut caller = Caller::new(address).await;
    let first = caller.ask(text.as_bytes()).await.unwrap().body;
    for _ in 0..8 {
        assert_eq!(caller.ask(text.as_bytes()).await.unwrap().body, first);
    }
}
