//! Decisions over whole listeners, groups and tables.

use std::collections::BTreeMap;

use longshore_types::Timestamp;
use proptest::prelude::*;

use crate::choose::{Candidate, Readiness, eligible, group, target};
use crate::*;

fn rule(id: &str, priority: Option<u32>, conditions: Vec<Condition>) -> Rule {
    let action = Action::FixedResponse { status: 200, content_type: None, body: id.to_owned() };
    Rule {
        id: RuleId(id.to_owned()),
        priority,
        conditions,
        transforms: Transforms::default(),
        action,
    }
}

fn listener(rules: Vec<Rule>) -> Listener {
    Listener {
        id: ListenerId("listener".to_owned()),
        port: 80,
        protocol: ListenerProtocol::Http,
        tls: None,
        rules,
        attributes: ListenerAttributes::default(),
    }
}

fn wild(text: &str) -> Pattern {
    Pattern::Wildcard(text.to_owned())
}

fn regex(text: &str) -> Pattern {
    Pattern::Regex(text.to_owned())
}

/// Whether a condition holds for a request for `url` (`METHOD host/path?query`) with one header.
fn holds(condition: Condition, url: &str, header: (&str, &str)) -> bool {
    let (method, rest) = url.split_once(' ').unwrap();
    let slash = rest.find('/').unwrap();
    let (path, query) = match rest[slash..].split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&rest[slash..], None),
    };
    let headers = [header];
    let peer = "192.0.2.7".parse().unwrap();
    let head = Head { method, host: &rest[..slash], path, query, headers: &headers, peer };
    let rules = Rules::new(&listener(vec![
        rule("default", None, vec![]),
        rule("asked", Some(1), vec![condition]),
    ]));
    rules.find(&head).unwrap().rule.id.0 == "asked"
}

#[test]
fn conditions_hold_as_documented() {
    use Condition::{
        HostHeader, HttpHeader, HttpRequestMethod, PathPattern, QueryString, SourceIp,
    };
    let header = |name: &str, value| HttpHeader { name: name.to_owned(), values: vec![value] };
    let query = |key: Option<&str>, value: &str| {
        QueryString(vec![(key.map(str::to_owned), value.to_owned())])
    };
    let source = |text: &str| SourceIp(vec![text.parse().unwrap()]);
    let cases = [
        (HostHeader(vec![wild("*.Example.com")]), "GET API.example.COM/", true),
        (HostHeader(vec![wild("*.example.com")]), "GET example.com/", false),
        (HostHeader(vec![wild("a"), wild("b")]), "GET b/", true),
        (HostHeader(vec![regex("^api[0-9]+\\.")]), "GET API12.x/", true),
        (PathPattern(vec![wild("/Img/*")]), "GET h/Img/x", true),
        (PathPattern(vec![wild("/Img/*")]), "GET h/img/x", false),
        (PathPattern(vec![wild("/a")]), "GET h/a?q=1", true),
        (PathPattern(vec![wild("/admin/*")]), "GET h/x/../admin/y", true),
        (PathPattern(vec![wild("/public/*")]), "GET h/public/../admin", false),
        (PathPattern(vec![regex("^/v[12]/")]), "GET h/v2/x", true),
        (header("X-Kind", wild("*BETA?")), "GET h/", true),
        (header("X-Kind", wild("beta")), "GET h/", false),
        (header("X-Other", wild("*")), "GET h/", false),
        (query(Some("version"), "V1"), "GET h/?a=b&Version=v1", true),
        (query(Some("version"), "v1"), "GET h/?version=v2", false),
        (query(None, "*example*"), "GET h/?a=an+example+x", true),
        (query(None, "flag"), "GET h/?flag", true),
        (query(Some("q"), "\\*"), "GET h/?q=*", true),
        (query(Some("q"), "\\*"), "GET h/?q=x", false),
        (query(Some("q"), "a b"), "GET h/?q=a%20b", true),
        (query(None, "*"), "GET h/", false),
        (HttpRequestMethod(vec!["PUT".to_owned()]), "PUT h/", true),
        (HttpRequestMethod(vec!["PUT".to_owned()]), "put h/", false),
        (source("192.0.2.0/24"), "GET h/", true),
        (source("192.0.3.0/24"), "GET h/", false),
        (source("2001:db8::/32"), "GET h/", false),
    ];
    for (condition, url, expected) in cases {
        let shown = format!("{condition:?} {url}");
        assert_eq!(holds(condition, url, ("x-kind", "public-beta1")), expected, "{shown}");
    }
}

#[test]
fn the_lowest_priority_is_asked_first_and_the_default_last() {
    let any = || vec![Condition::PathPattern(vec![wild("*")])];
    let rules = Rules::new(&listener(vec![
        rule("default", None, vec![]),
        rule("late", Some(50_000), any()),
        rule("early", Some(2), any()),
        rule("not", Some(1), vec![Condition::PathPattern(vec![wild("/only")])]),
    ]));
    let order: Vec<_> = rules.all().iter().map(|rule| rule.rule.id.0.as_str()).collect();
    assert_eq!(order, ["not", "early", "late", "default"]);
    let headers: [(&str, &str); 0] = [];
    let peer = "192.0.2.7".parse().unwrap();
    let head = Head { method: "GET", host: "h", path: "/x", query: None, headers: &headers, peer };
    assert_eq!(rules.find(&head).unwrap().rule.id.0, "early");
    assert_eq!(rules.default_rule().unwrap().rule.id.0, "default");
}

#[test]
fn a_rule_whose_regular_expression_does_not_compile_never_holds_and_is_named() {
    let broken = rule("broken", Some(1), vec![Condition::PathPattern(vec![regex("(")])]);
    let rules = Rules::new(&listener(vec![broken, rule("default", None, vec![])]));
    assert_eq!(rules.faults[0].0.0, "broken");
    assert_eq!(rules.all().len(), 1);
    assert!(check_regex("(?=look)").is_err());
    assert!(check_regex("(a{1000}){1000}").is_err());
    assert!(check_regex("^/v[0-9]+/(.*)$").is_ok());
}

#[test]
fn transforms_replace_what_matches() {
    let mut changed = rule("changed", None, vec![]);
    let rewrite = |regex: &str, replace: &str| {
        Some(Rewrite { regex: regex.to_owned(), replace: replace.to_owned() })
    };
    changed.transforms.host = rewrite("^(.*)\\.shop\\.example$", "shop-$1x.internal");
    changed.transforms.url = rewrite("^/api/(v[0-9])/(.*)$", "/$1a/$2");
    let rules = Rules::new(&listener(vec![changed]));
    let rule = rules.default_rule().unwrap();
    assert_eq!(rule.rewritten_host("Eu.Shop.example"), Ok(Some("shop-Eux.internal".to_owned())));
    assert_eq!(rule.rewritten_host("other"), Ok(None));
    assert_eq!(rule.rewritten_url("/api/v1/x?y=1"), Ok(Some("/v1a/x?y=1".to_owned())));
    assert_eq!(rule.rewritten_url("/else"), Ok(None));
}

#[test]
fn a_transform_cannot_make_a_second_header() {
    let mut changed = rule("changed", None, vec![]);
    changed.transforms.url =
        Some(Rewrite { regex: "^.*$".to_owned(), replace: "/ HTTP/1.1\r\nx: y".to_owned() });
    changed.transforms.host = Some(Rewrite { regex: "^.*$".to_owned(), replace: "a b".to_owned() });
    let rules = Rules::new(&listener(vec![changed]));
    assert_eq!(rules.default_rule().unwrap().rewritten_url("/x"), Err(RewriteFailed));
    assert_eq!(rules.default_rule().unwrap().rewritten_host("x"), Err(RewriteFailed));
}

pub(crate) fn some_balancer() -> Balancer {
    Balancer {
        id: BalancerId("balancer".to_owned()),
        name: "app/web/0123456789abcdef".to_owned(),
        account: "000000000000".to_owned(),
        kind: Kind::Application,
        scheme: Scheme::InternetFacing,
        interfaces: vec![],
        clients: None,
        introducers: None,
        attributes: BalancerAttributes::default(),
        cookie_key: None,
        listeners: vec![],
    }
}

pub(crate) fn some_group() -> TargetGroup {
    TargetGroup {
        id: GroupId("group".to_owned()),
        protocol: TargetProtocol::Http,
        version: ProtocolVersion::Http1,
        health: check(),
        algorithm: Algorithm::RoundRobin,
        stickiness: Stickiness::Off,
        slow_start_s: 0,
        deregistration_delay_s: 300,
        cut_at_deregistration: false,
        cut_when_unhealthy: true,
        unhealthy_draining_s: 0,
        preserve_client_ip: false,
        proxy_protocol_v2: false,
        healthy_count_min: 1,
        healthy_percent_min: None,
        cross_zone: None,
        avoids_outliers: false,
        identity: None,
        targets: Vec::new(),
    }
}

fn check() -> HealthCheck {
    HealthCheck {
        protocol: CheckProtocol::Http,
        port: CheckPort::Traffic,
        path: "/".to_owned(),
        interval_s: 30,
        timeout_s: 5,
        healthy_count: 5,
        unhealthy_count: 2,
        matcher: "200".parse().unwrap(),
    }
}

fn candidates(readiness: &[Readiness]) -> Vec<Candidate> {
    let candidate = |readiness: &Readiness| Candidate {
        readiness: *readiness,
        in_flight: 0,
        healthy_since: Timestamp(0),
        share: 1000,
    };
    readiness.iter().map(candidate).collect()
}

#[test]
fn healthy_targets_are_asked_and_without_them_all_that_were_checked() {
    use Readiness::{Healthy, Initial, Out, Unhealthy};
    /// What targets are, how many and what percentage must be healthy, and who may be asked.
    type Case<'a> = (&'a [Readiness], u32, Option<u32>, &'a [usize]);
    let cases: &[Case<'_>] = &[
        (&[], 1, None, &[]),
        (&[Out, Initial], 1, None, &[]),
        (&[Unhealthy, Healthy, Out], 1, None, &[1]),
        (&[Unhealthy, Out, Unhealthy, Initial], 1, None, &[0, 2]),
        (&[Unhealthy, Healthy], 2, None, &[0, 1]),
        (&[Unhealthy, Healthy], 1, Some(50), &[1]),
        (&[Unhealthy, Healthy, Unhealthy], 1, Some(50), &[0, 1, 2]),
    ];
    for (readiness, count, percent, expected) in cases {
        let mut group = some_group();
        (group.healthy_count_min, group.healthy_percent_min) = (*count, *percent);
        assert_eq!(eligible(&group, &candidates(readiness)), *expected, "{readiness:?}");
    }
}

fn weighted(weights: &[u32]) -> Vec<WeightedGroup> {
    let one = |(at, weight): (usize, &u32)| WeightedGroup {
        group: GroupId(at.to_string()),
        weight: *weight,
        part: None,
    };
    weights.iter().enumerate().map(one).collect()
}

#[test]
fn weights_share_requests_in_their_proportion() {
    let groups = weighted(&[90, 0, 10]);
    let mut counts = [0_u32; 3];
    for seed in 0..10_000 {
        counts[group(&groups, seed).unwrap().group.0.parse::<usize>().unwrap()] += 1;
    }
    assert!((8_800..9_200).contains(&counts[0]), "{counts:?}");
    assert_eq!(counts[1], 0);
    assert!(group(&weighted(&[0, 0]), 1).is_none());
    assert!(group(&[], 1).is_none());
}

#[test]
fn round_robin_asks_each_in_turn() {
    let (group, all) = (some_group(), candidates(&[Readiness::Healthy; 3]));
    let turns = (0..6).map(|turn| target(&group, &all, &[0, 1, 2], turn, 9, Timestamp(5)).unwrap());
    assert_eq!(turns.collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn least_outstanding_asks_the_idlest_and_ties_go_round() {
    let mut group = some_group();
    group.algorithm = Algorithm::LeastOutstandingRequests;
    let mut all = candidates(&[Readiness::Healthy; 3]);
    all[0].in_flight = 4;
    let asked = |turn| target(&group, &all, &[0, 1, 2], turn, 0, Timestamp(0)).unwrap();
    assert_eq!([asked(0), asked(1), asked(2), asked(3)], [1, 1, 2, 1]);
}

#[test]
fn a_target_that_starts_slowly_is_given_more_and_more() {
    let mut group = some_group();
    group.slow_start_s = 100;
    let mut all = candidates(&[Readiness::Healthy; 2]);
    all[1].healthy_since = Timestamp(1_000_000);
    let share = |now: u64, all: &[Candidate]| {
        let asked = |turn| target(&group, all, &[0, 1], turn, turn * 7, Timestamp(now));
        (0..2_000).filter(|turn| asked(*turn) == Some(1)).count()
    };
    let (early, half) = (share(1_001_000, &all), share(1_050_000, &all));
    assert!(early < 60 && (380..620).contains(&half), "{early} {half}");
    assert_eq!(share(1_100_000, &all), 1_000);
    all[0].healthy_since = all[1].healthy_since;
    assert_eq!(share(1_001_000, &all), 1_000, "all start slowly: none is held back");
}

#[test]
fn a_mitigated_target_is_given_less_by_weighted_random() {
    let mut group = some_group();
    group.algorithm = Algorithm::WeightedRandom { mitigate_anomalies: true };
    let mut all = candidates(&[Readiness::Healthy; 2]);
    all[1].share = 111;
    let asked = |seed| target(&group, &all, &[0, 1], 0, seed, Timestamp(0));
    let share = (0..10_000).filter(|seed| asked(*seed) == Some(1)).count();
    assert!((850..1_150).contains(&share), "{share}");
}

#[test]
fn a_target_that_fails_more_than_others_is_odd_until_it_answers_well_again() {
    use crate::choose::{Judged, Seen, judge};
    let seen = |results, failures, share, is_odd| Seen { results, failures, share, is_odd };
    let well = seen(100, 1, 1000, false);
    let third = |it: Seen| judge(&[well, well, it])[2];
    for (it, share, is_odd) in [
        (seen(100, 50, 1000, false), 500, true),
        (seen(100, 50, 15, true), 10, true),
        (seen(100, 15, 1000, false), 1000, false),
        (seen(100, 1, 500, true), 600, false),
        (seen(0, 0, 500, true), 600, true),
        (seen(0, 0, 500, false), 600, false),
    ] {
        assert_eq!(third(it), Judged { share, is_odd }, "{it:?}");
    }
    let two = judge(&[well, seen(100, 100, 1000, true)]);
    assert_eq!(two[1], Judged { share: 1000, is_odd: false }, "there are too few to compare");
    let all = judge(&[seen(100, 50, 1000, false); 3]);
    assert!(all.iter().all(|it| !it.is_odd), "all fail alike");
}

#[test]
fn one_pass_makes_a_new_target_healthy_and_thresholds_hold_after() {
    use Outcome::{Code, Failed, Passed, TimedOut};
    let run = |state, outcomes: &[Outcome]| {
        let start = Health::begin(state);
        outcomes.iter().fold(start, |health, outcome| health.after(*outcome, &check())).finding
    };
    let cases: &[(TargetState, &[Outcome], Finding)] = &[
        (TargetState::Initial, &[Passed], Finding::Healthy),
        (TargetState::Initial, &[Failed], Finding::Initial),
        (TargetState::Initial, &[Failed, Passed], Finding::Healthy),
        (TargetState::Initial, &[Failed, Code(503)], Finding::CodeMismatch(503)),
        (TargetState::Healthy, &[TimedOut], Finding::Healthy),
        (TargetState::Healthy, &[TimedOut, Passed, TimedOut], Finding::Healthy),
        (TargetState::Healthy, &[TimedOut, TimedOut], Finding::Timeout),
        (TargetState::Unhealthy, &[Passed; 4], Finding::Failed),
        (TargetState::Unhealthy, &[Passed; 5], Finding::Healthy),
        (TargetState::Unhealthy, &[Passed, Passed, Code(500), Passed], Finding::CodeMismatch(500)),
    ];
    for (state, outcomes, expected) in cases {
        assert_eq!(run(*state, outcomes), *expected, "{state:?} {outcomes:?}");
    }
}

#[test]
fn matchers_are_read_and_written() {
    for text in ["200", "200,202", "200-399", "200-299,404"] {
        assert_eq!(text.parse::<Matcher>().unwrap().to_string(), text);
    }
    for text in ["", "x", "300-200", "200,"] {
        assert!(text.parse::<Matcher>().is_err(), "{text}");
    }
    assert!("200-299,404".parse::<Matcher>().unwrap().is_match(404));
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let text = r#"{"version":7,"balancers":{"lb":{"id":"lb","name":"app/lb/0","account":"1",
        "kind":"Application","scheme":"Internal","listeners":[{"id":"l","port":80,"protocol":"Http",
        "rules":[{"id":"r","priority":null,"action":{"Forward":{"groups":[{"group":"g","weight":1}]}}}]}]}}}"#;
    let table: Table = serde_json::from_str(text).unwrap();
    let again = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
    assert_eq!(table, again);
    assert_eq!(table.balancers.values().next().unwrap().attributes.idle_timeout_s, 60);
}

fn table(version: u64, groups: &BTreeMap<u8, u32>) -> Table {
    let one = |(id, delay): (&u8, &u32)| {
        let mut group = some_group();
        (group.id, group.deregistration_delay_s) = (GroupId(id.to_string()), *delay);
        (group.id.clone(), group)
    };
    Table { version, groups: groups.iter().map(one).collect(), ..Table::default() }
}

proptest! {
    #[test]
    fn a_change_makes_the_later_table_of_the_earlier(
        a in proptest::collection::btree_map(0_u8..6, 0_u32..3, 0..6),
        b in proptest::collection::btree_map(0_u8..6, 0_u32..3, 0..6),
    ) {
        let (earlier, later) = (table(4, &a), table(9, &b));
        let change = Change::between(&earlier, &later);
        prop_assert_eq!(earlier.updated(Update::Change(change.clone())), Some(later.clone()));
        prop_assert_eq!(later.updated(Update::Change(change)), None);
    }

    #[test]
    fn a_target_that_is_out_or_was_never_checked_is_never_asked(
        kinds in proptest::collection::vec(0_u8..4, 0..8), turn in any::<u64>(), seed in any::<u64>(),
        algorithm in 0_u8..3, slow_start_s in prop_oneof![Just(0_u32), Just(30)],
    ) {
        use Readiness::{Healthy, Initial, Out, Unhealthy};
        let readiness: Vec<_> =
            kinds.iter().map(|kind| [Out, Initial, Healthy, Unhealthy][usize::from(*kind)]).collect();
        let mut group = some_group();
        group.slow_start_s = slow_start_s;
        group.algorithm = [
            Algorithm::RoundRobin,
            Algorithm::LeastOutstandingRequests,
            Algorithm::WeightedRandom { mitigate_anomalies: false },
        ][usize::from(algorithm)];
        let all = candidates(&readiness);
        let asked = target(&group, &all, &eligible(&group, &all), turn, seed, Timestamp(10));
        let has_any = readiness.iter().any(|one| matches!(one, Healthy | Unhealthy));
        prop_assert_eq!(asked.is_some(), has_any);
        if let Some(at) = asked {
            let best = if readiness.contains(&Healthy) { Healthy } else { Unhealthy };
            prop_assert_eq!(readiness[at], best);
        }
    }
}
