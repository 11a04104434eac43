//! The store as a whole: what is put is found again, in pages, after crashes, and not for ever.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use logs::pattern::Pattern;
use logs::{
    Accepted, FilterQuery, GetQuery, GroupClass, GroupName, GroupSettings, InputEvent, Logs,
    LogsError, PutKey, StreamChoice, StreamName, StreamOrder, StreamsPage,
};
use longshore_types::{AccountId, Clock, SeededEnv};

const DAY_MS: u64 = 86_400_000;

struct World {
    dir: tempfile::TempDir,
    clock: Arc<SeededEnv>,
    logs: Logs,
}

fn account() -> AccountId {
    "000000000000".parse().unwrap()
}

fn group(name: &str) -> GroupName {
    name.parse().unwrap()
}

fn stream(name: &str) -> StreamName {
    name.parse().unwrap()
}

/// Opens again, waiting until the writer of the store before has let go of it.
async fn open(dir: &Path, clock: &Arc<SeededEnv>) -> Logs {
    for _ in 0..2000 {
        match Logs::open(dir, Arc::clone(clock) as Arc<dyn Clock>) {
            Err(LogsError::InUse(_)) => {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await
            }
            other => return other.unwrap(),
        }
    }
    panic!("the store is still in use");
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SeededEnv::from_seed(1));
        let logs = open(dir.path(), &clock).await;
        Self { dir, clock, logs }
    }

    async fn reopened(self) -> Self {
        let Self { dir, clock, logs } = self;
        drop(logs);
        let logs = open(dir.path(), &clock).await;
        Self { dir, clock, logs }
    }

    fn now(&self) -> u64 {
        self.clock.now().0
    }

    async fn create(&self, group_name: &str, streams: &[&str]) {
        let settings = GroupSettings::default();
        self.logs
            .create_group(account(), group(group_name), GroupClass::Standard, settings)
            .await
            .unwrap();
        for name in streams {
            self.logs.create_stream(account(), group(group_name), stream(name)).await.unwrap();
        }
    }

    async fn put(&self, g: &str, s: &str, events: &[(u64, &str)]) -> Accepted {
        let event = |(ms, text): &(u64, &str)| InputEvent {
            timestamp_ms: *ms,
            message: (*text).to_owned().into(),
        };
        let events = events.iter().map(event).collect();
        self.logs.put(account(), group(g), stream(s), events, None).await.unwrap()
    }

    async fn get(&self, g: &str, s: &str, query: GetQuery) -> (Vec<String>, String, String) {
        let page = self.logs.get(account(), &group(g), &stream(s), query).await.unwrap();
        let texts = page.events.iter().map(logs::Event::text).collect();
        (texts, page.forward_token, page.backward_token)
    }

    async fn all(&self, g: &str, s: &str) -> Vec<String> {
        self.get(g, s, GetQuery { from_head: true, ..GetQuery::default() }).await.0
    }

    async fn filter(&self, g: &str, query: FilterQuery) -> (Vec<String>, Option<String>) {
        let page = self.logs.filter(account(), &group(g), query).await.unwrap();
        (page.events.iter().map(|event| event.event.text()).collect(), page.next_token)
    }
}

fn texts(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

async fn put_lines(world: &World, g: &str, s: &str, range: std::ops::Range<u64>) {
    for n in range {
        world.put(g, s, &[(world.now() + n, &format!("line {n}"))]).await;
    }
}

#[tokio::test]
async fn events_are_found_again_after_a_restart() {
    let world = World::new().await;
    world.create("g", &["a", "b"]).await;
    put_lines(&world, "g", "a", 0..100).await;
    world.put("g", "b", &[(world.now(), "other")]).await;
    let world = world.reopened().await;
    assert_eq!(world.all("g", "a").await, texts(0..100));
    put_lines(&world, "g", "a", 100..120).await;
    let world = world.reopened().await.reopened().await;
    assert_eq!(world.all("g", "a").await, texts(0..120));
    assert_eq!(world.all("g", "b").await, ["other"]);
    let info = world.logs.group(account(), &group("g")).unwrap();
    let billed = texts(0..120).iter().map(|text| text.len() + 26).sum::<usize>() + 31;
    assert_eq!(info.stored_bytes, billed as u64);
}

#[tokio::test]
async fn a_named_put_is_taken_once_whoever_was_killed_before_the_answer_was_heard() {
    let mut world = World::new().await;
    world.create("g", &["a", "b"]).await;
    let put = async |world: &World, name: &str, writer: u64, put: u64, text: &str| {
        let event = InputEvent { timestamp_ms: world.now(), message: text.to_owned().into() };
        let key = Some(PutKey { writer, put });
        world.logs.put(account(), group("g"), stream(name), vec![event], key).await.unwrap()
    };
    put(&world, "a", 1, 1, "one").await;
    put(&world, "a", 1, 1, "one").await;
    put(&world, "a", 2, 1, "of another writer").await;
    put(&world, "b", 1, 1, "in another stream").await;
    // The same again before the first is through: both in one flush.
    let (first, second) =
        tokio::join!(put(&world, "a", 1, 2, "two"), put(&world, "a", 1, 2, "two"));
    assert_eq!((first.too_new_start, second.too_new_start), (None, None));
    for _ in 0..2 {
        // Once from the journal, and once from the checkpoint that the start makes of it.
        world = world.reopened().await;
        put(&world, "a", 1, 2, "two").await;
    }
    put(&world, "a", 1, 3, "three").await;
    let all = ["one", "of another writer", "two", "three"];
    assert_eq!(world.all("g", "a").await, all);
    assert_eq!(world.all("g", "b").await, ["in another stream"]);
    for _ in 0..2 {
        world.put("g", "b", &[(world.now(), "without a name")]).await;
    }
    assert_eq!(world.all("g", "b").await.len(), 3, "an ordinary put is taken each time");
}

#[tokio::test]
async fn a_page_continues_where_the_one_before_ended_in_both_directions() {
    let world = World::new().await;
    world.create("g", &["a"]).await;
    put_lines(&world, "g", "a", 0..25).await;
    let page = |token: Option<String>, from_head| GetQuery {
        limit: Some(10),
        from_head,
        token,
        ..GetQuery::default()
    };
    let (first, forward, _) = world.get("g", "a", page(None, true)).await;
    assert_eq!(first, texts(0..10));
    let (second, forward, backward) = world.get("g", "a", page(Some(forward), true)).await;
    assert_eq!(second, texts(10..20));
    let (back, ..) = world.get("g", "a", page(Some(backward), true)).await;
    assert_eq!(back, texts(0..10));
    let (third, forward, _) = world.get("g", "a", page(Some(forward), true)).await;
    assert_eq!(third, texts(20..25));
    let (end, same, _) = world.get("g", "a", page(Some(forward.clone()), true)).await;
    assert!(end.is_empty());
    assert_eq!(same, forward, "the end gives the token back");
    put_lines(&world, "g", "a", 25..27).await;
    let (new, ..) = world.get("g", "a", page(Some(forward), true)).await;
    assert_eq!(new, texts(25..27));

    let (tail, _, backward) = world.get("g", "a", page(None, false)).await;
    assert_eq!(tail, texts(17..27));
    let (middle, forward, backward) = world.get("g", "a", page(Some(backward), false)).await;
    assert_eq!(middle, texts(7..17));
    assert_eq!(world.get("g", "a", page(Some(forward), false)).await.0, texts(17..27));
    let (head, _, backward) = world.get("g", "a", page(Some(backward), false)).await;
    assert_eq!(head, texts(0..7));
    let (none, _, same) = world.get("g", "a", page(Some(backward.clone()), false)).await;
    assert!(none.is_empty());
    assert_eq!(same, backward, "the start gives the token back");
}

#[tokio::test]
async fn the_token_of_an_empty_stream_finds_the_first_event() {
    let world = World::new().await;
    world.create("g", &["a", "b"]).await;
    let (none, forward, _) = world.get("g", "a", GetQuery::default()).await;
    assert!(none.is_empty());
    put_lines(&world, "g", "a", 0..3).await;
    let query = |token: &str| GetQuery { token: Some(token.to_owned()), ..GetQuery::default() };
    assert_eq!(world.get("g", "a", query(&forward)).await.0, texts(0..3));
    for bad in ["", "x", "f/12", "f/", &forward[2..]] {
        let refused = world.logs.get(account(), &group("g"), &stream("a"), query(bad)).await;
        assert!(matches!(refused, Err(LogsError::Invalid(_))), "{bad}");
    }
    let other = world.logs.get(account(), &group("g"), &stream("b"), query(&forward)).await;
    assert!(matches!(other, Err(LogsError::Invalid(_))), "another stream's token");
}

#[tokio::test]
async fn puts_out_of_order_are_read_in_the_order_of_time() {
    let world = World::new().await;
    world.create("g", &["a"]).await;
    let mut seed = 7_u64;
    let mut expected = Vec::new();
    for n in 0..400_u64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = world.now() - (seed >> 33) % 5000;
        // Large enough for many chunks.
        let text = format!("{n:04} {}", "x".repeat(1000));
        world.put("g", "a", &[(at, &text)]).await;
        expected.push((at, n, text));
    }
    expected.sort();
    let expected: Vec<String> = expected.into_iter().map(|(.., text)| text).collect();
    assert_eq!(world.all("g", "a").await, expected);
    let world = world.reopened().await;
    let mut query = GetQuery { limit: Some(37), ..GetQuery::default() };
    let mut pages = Vec::new();
    loop {
        let (page, _, backward) = world.get("g", "a", query.clone()).await;
        if page.is_empty() {
            break;
        }
        pages.push(page);
        query.token = Some(backward);
    }
    pages.reverse();
    assert_eq!(pages.concat(), expected);
}

#[tokio::test]
async fn a_time_range_has_an_inclusive_start_and_an_exclusive_end() {
    let world = World::new().await;
    world.create("g", &["a"]).await;
    put_lines(&world, "g", "a", 0..10).await;
    let now = world.now();
    let query = GetQuery { start_ms: Some(now + 3), end_ms: Some(now + 6), ..GetQuery::default() };
    assert_eq!(world.get("g", "a", query).await.0, texts(3..6));
    let filter =
        FilterQuery { start_ms: Some(now + 3), end_ms: Some(now + 6), ..Default::default() };
    assert_eq!(world.filter("g", filter).await.0, texts(3..7), "a filter's end is inclusive");
}

#[tokio::test]
async fn a_page_ends_at_one_mebibyte() {
    let world = World::new().await;
    world.create("g", &["a"]).await;
    let large = "y".repeat(600_000);
    for n in 0..3 {
        world.put("g", "a", &[(world.now() + n, &large)]).await;
    }
    let (page, forward, _) =
        world.get("g", "a", GetQuery { from_head: true, ..GetQuery::default() }).await;
    assert_eq!(page.len(), 1);
    let next = GetQuery { token: Some(forward), ..GetQuery::default() };
    assert_eq!(world.get("g", "a", next).await.0.len(), 1);
    let (page, token) = world.filter("g", FilterQuery::default()).await;
    assert_eq!((page.len(), token.is_some()), (1, true));
}

#[tokio::test]
async fn a_search_merges_streams_in_the_order_of_time_and_pages_without_loss() {
    let world = World::new().await;
    world.create("g", &["web/1", "web/2", "db/1"]).await;
    let now = world.now();
    for n in 0..60_u64 {
        let name = ["web/1", "web/2", "db/1"][usize::try_from(n % 3).unwrap()];
        // Two of three share a moment.
        world.put("g", name, &[(now + n / 2, &format!("line {n}"))]).await;
    }
    let mut query = FilterQuery { limit: Some(7), ..FilterQuery::default() };
    let (mut found, mut ids) = (Vec::new(), std::collections::BTreeSet::new());
    loop {
        let page = world.logs.filter(account(), &group("g"), query.clone()).await.unwrap();
        assert!(page.events.len() <= 7);
        found.extend(page.events.iter().map(|e| (e.event.timestamp_ms, e.event.text())));
        ids.extend(page.events.into_iter().map(|event| event.event_id));
        match page.next_token {
            Some(token) => query.token = Some(token),
            None => break,
        }
    }
    assert_eq!(found.len(), 60);
    assert_eq!(ids.len(), 60, "event ids are unique");
    assert!(found.is_sorted_by_key(|(ms, _)| *ms));

    let mut query = FilterQuery { limit: Some(7), latest_first: true, ..FilterQuery::default() };
    let mut back = Vec::new();
    loop {
        let page = world.logs.filter(account(), &group("g"), query.clone()).await.unwrap();
        back.extend(page.events.iter().map(|e| (e.event.timestamp_ms, e.event.text())));
        // The token has the direction.
        query.latest_first = false;
        match page.next_token {
            Some(token) => query.token = Some(token),
            None => break,
        }
    }
    back.reverse();
    assert_eq!(back, found);
    let within = FilterQuery {
        start_ms: Some(now + 3),
        end_ms: Some(now + 5),
        latest_first: true,
        ..FilterQuery::default()
    };
    let page = world.logs.filter(account(), &group("g"), within).await.unwrap();
    let times: Vec<u64> = page.events.iter().map(|e| e.event.timestamp_ms - now).collect();
    assert_eq!(times, [5, 5, 4, 4, 3, 3]);

    let only = |streams| FilterQuery { streams, ..FilterQuery::default() };
    let prefix = StreamChoice::Prefix("web/".to_owned());
    assert_eq!(world.filter("g", only(prefix)).await.0.len(), 40);
    let names = StreamChoice::Names(vec![stream("db/1"), stream("db/1")]);
    let page = world.logs.filter(account(), &group("g"), only(names)).await.unwrap();
    assert_eq!(page.events.len(), 20);
    let missing = only(StreamChoice::Names(vec![stream("nope")]));
    let refused = world.logs.filter(account(), &group("g"), missing).await;
    assert!(matches!(refused, Err(LogsError::StreamNotFound)));
    let pattern = Pattern::parse("\"line 1\" -10").unwrap();
    let (hits, _) = world.filter("g", FilterQuery { pattern, ..Default::default() }).await;
    assert_eq!(hits.len(), 10, "{hits:?}");
}

#[tokio::test]
async fn a_search_over_more_than_it_may_hold_open_still_finds_everything() {
    let world = World::new().await;
    let names: Vec<String> = (0..40).map(|n| format!("s{n:02}")).collect();
    world.create("g", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let now = world.now();
    let filler = "z".repeat(50_000);
    for round in 0..12_u64 {
        for name in &names {
            let lines: Vec<(u64, String)> =
                (0..2).map(|n| (now + round * 10 + n * 5, format!("{name} {filler}"))).collect();
            let lines: Vec<(u64, &str)> = lines.iter().map(|(ms, t)| (*ms, t.as_str())).collect();
            world.put("g", name, &lines).await;
        }
    }
    let pattern = Pattern::parse("s07").unwrap();
    let mut query = FilterQuery { pattern, ..FilterQuery::default() };
    let (mut found, mut pages) = (0, 0);
    loop {
        let (page, next) = world.filter("g", query.clone()).await;
        found += page.len();
        pages += 1;
        let Some(next) = next else { break };
        query.token = Some(next);
    }
    assert_eq!(found, 24);
    assert!(pages < 20, "{pages} pages");
    let mut query = FilterQuery { latest_first: true, token: None, ..query };
    let mut found = 0;
    loop {
        let (page, next) = world.filter("g", query.clone()).await;
        found += page.len();
        let Some(next) = next else { break };
        query.token = Some(next);
    }
    assert_eq!(found, 24, "from the end");
}

#[tokio::test]
async fn expired_events_are_hidden_at_once_and_their_space_comes_back() {
    let world = World::new().await;
    world.create("g", &["a", "b"]).await;
    put_lines(&world, "g", "a", 0..10).await;
    put_lines(&world, "g", "b", 0..10).await;
    world.logs.set_retention(account(), group("g"), Some(1)).await.unwrap();
    world.clock.advance_ms(DAY_MS + 5);
    assert_eq!(world.all("g", "a").await, texts(5..10));
    world.clock.advance_ms(DAY_MS / 2);
    put_lines(&world, "g", "b", 20..22).await;
    world.logs.sweep().await.unwrap();
    assert_eq!(world.all("g", "b").await, texts(20..22));
    let info = world.logs.group(account(), &group("g")).unwrap();
    assert_eq!(info.stored_bytes, 2 * (7 + 26));
    let (streams, _) = world
        .logs
        .streams(account(), &group("g"), &StreamsPage { limit: 50, ..Default::default() })
        .unwrap();
    assert_eq!(streams[0].first_event_ms, None);
    assert_eq!(streams[1].first_event_ms, Some(world.now() + 20).min(streams[1].first_event_ms));
    let world = world.reopened().await;
    assert_eq!(world.all("g", "b").await, texts(20..22));
    put_lines(&world, "g", "a", 30..31).await;
    assert_eq!(world.all("g", "a").await, texts(30..31));
    let bad = world.logs.set_retention(account(), group("g"), Some(2)).await;
    assert!(matches!(bad, Err(LogsError::Invalid(_))));
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_its_name_starts_anew() {
    let world = World::new().await;
    world.create("g", &["a", "b"]).await;
    put_lines(&world, "g", "a", 0..3).await;
    world.logs.delete_stream(account(), group("g"), stream("a")).await.unwrap();
    let gone = world.logs.get(account(), &group("g"), &stream("a"), GetQuery::default()).await;
    assert!(matches!(gone, Err(LogsError::StreamNotFound)));
    world.logs.create_stream(account(), group("g"), stream("a")).await.unwrap();
    assert!(world.all("g", "a").await.is_empty());
    let again = world.logs.create_stream(account(), group("g"), stream("a")).await;
    assert!(matches!(again, Err(LogsError::StreamExists)));
    world.logs.delete_group(account(), group("g")).await.unwrap();
    let world = world.reopened().await;
    assert!(matches!(world.logs.group(account(), &group("g")), Err(LogsError::GroupNotFound)));
    let files = walk(&world.dir.path().join("streams"));
    assert_eq!(files, 0, "no file outlives its stream");
    world.create("g", &["a"]).await;
    assert!(world.all("g", "a").await.is_empty());
}

fn walk(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_protected_group_cannot_be_deleted() {
    let world = World::new().await;
    world.create("g", &[]).await;
    world.logs.set_deletion_protection(account(), group("g"), true).await.unwrap();
    let refused = world.logs.delete_group(account(), group("g")).await;
    assert!(matches!(refused, Err(LogsError::Protected)));
    world.logs.set_deletion_protection(account(), group("g"), false).await.unwrap();
    world.logs.delete_group(account(), group("g")).await.unwrap();
}

#[tokio::test]
async fn tags_are_added_replaced_and_removed_up_to_fifty() {
    let world = World::new().await;
    world.create("g", &[]).await;
    let tags = |range: std::ops::Range<u32>| -> BTreeMap<String, String> {
        range.map(|n| (format!("k{n}"), "v".to_owned())).collect()
    };
    world.logs.tag_group(account(), group("g"), tags(0..50)).await.unwrap();
    let over = world.logs.tag_group(account(), group("g"), tags(50..51)).await;
    assert!(matches!(over, Err(LogsError::TooManyTags)));
    let keys = (1..50).map(|n| format!("k{n}")).collect();
    world.logs.untag_group(account(), group("g"), keys).await.unwrap();
    let world = world.reopened().await;
    assert_eq!(world.logs.group(account(), &group("g")).unwrap().settings.tags, tags(0..1));
}

#[tokio::test]
async fn streams_are_described_by_name_or_by_their_last_event_in_pages() {
    let world = World::new().await;
    world.create("g", &["a", "b", "c", "d"]).await;
    for (n, name) in ["c", "a", "d"].iter().enumerate() {
        world.put("g", name, &[(world.now() + n as u64, "x")]).await;
    }
    let list = |page: StreamsPage| {
        let mut page = StreamsPage { limit: 3, ..page };
        let mut names = String::new();
        loop {
            let (streams, next) = world.logs.streams(account(), &group("g"), &page).unwrap();
            names.extend(streams.iter().map(|stream| stream.name.as_str()));
            match next {
                Some(next) => page.after = Some(next),
                None => return names,
            }
        }
    };
    assert_eq!(list(StreamsPage::default()), "abcd");
    assert_eq!(list(StreamsPage { is_descending: true, ..Default::default() }), "dcba");
    let by_time = StreamsPage { order: StreamOrder::LastEventTime, ..Default::default() };
    assert_eq!(list(by_time.clone()), "bcad");
    assert_eq!(list(StreamsPage { is_descending: true, ..by_time }), "dacb");
    assert_eq!(list(StreamsPage { prefix: Some("c".to_owned()), ..Default::default() }), "c");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_created_and_written_at_once_all_arrive() {
    let world = World::new().await;
    world.create("g", &[]).await;
    let now = world.now();
    let tasks = (0..200_u64).map(|n| {
        let logs = world.logs.clone();
        tokio::spawn(async move {
            let name = stream(&format!("s{n}"));
            logs.create_stream(account(), group("g"), name.clone()).await.unwrap();
            for line in 0..5 {
                let event =
                    InputEvent { timestamp_ms: now + line, message: format!("{n}.{line}").into() };
                logs.put(account(), group("g"), name.clone(), vec![event], None).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let world = world.reopened().await;
    assert_eq!(world.filter("g", FilterQuery::default()).await.0.len(), 1000);
    assert_eq!(world.all("g", "s150").await.len(), 5);
}

#[tokio::test]
async fn a_second_store_on_the_same_directory_is_refused() {
    let world = World::new().await;
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    assert!(matches!(Logs::open(world.dir.path(), clock), Err(LogsError::InUse(_))));
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let world = World::new().await;
    world.create("g", &["a"]).await;
    let other: AccountId = "111122223333".parse().unwrap();
    assert!(matches!(world.logs.group(other, &group("g")), Err(LogsError::GroupNotFound)));
    assert!(world.logs.groups(other, None, 50, |_, _| true).is_empty());
    assert_eq!(world.logs.groups(account(), None, 50, |_, _| true).len(), 1);
}
