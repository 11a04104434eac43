//! What is told of changed rows as AWS's own events, written into the batch that changes them.
//!
//! Whoever commits has its batch go through [`Control::tell_of`], which [`Control::decide`] does, so no handler has to think of
//! events. Services say what their rows' changes come to ([`EventSource`]); they are asked only where a rule may want it,
//! and with the rows as they will be.
//!
//! **Invariant:** what is told depends on the batch alone that is committed, and goes or stays with it.

use std::collections::BTreeMap;

use events::{Event, Json};
use longshore_types::{AccountId, RegionName, Timestamp, Uuid};
use model::{Key, Row, View};
use store::Batch;

use crate::Control;
use crate::outbox::may_be_wanted;
use crate::ports::EventSource;

/// What a batch changes of one account's rows.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    pub before: &'a View,
    /// With all that the batch writes and deletes.
    pub after: &'a View,
    /// What it writes, then what it deletes.
    pub keys: &'a [Key],
    pub region: &'a RegionName,
    pub now: Timestamp,
}

/// An event but for its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub detail_type: &'static str,
    pub resources: Vec<String>,
    pub detail: Json,
}

impl Control {
    /// Says which services tell of their rows. What is committed before is told by nobody; a second call changes nothing.
    pub fn set_event_sources(&self, sources: Vec<&'static dyn EventSource>) {
        drop(self.event_sources.set(sources));
    }

    /// Adds to a batch, which was decided on `view`, the events that rules want of it.
    pub fn tell_of(&self, view: &View, batch: &mut Batch, now: Timestamp) {
        if view.event_rules.is_empty() || batch.is_empty() {
            return;
        }
        for event in self.told_of(view, batch, now) {
            self.outbox.tell(view, batch, &event, now);
        }
    }

    fn told_of(&self, view: &View, batch: &Batch, now: Timestamp) -> Vec<Event> {
        let mut after = None;
        let mut told = Vec::new();
        for source in self.event_sources.get().into_iter().flatten() {
            for (account, keys) in wanted(*source, view, batch) {
                let after = after.get_or_insert_with(|| with(view, batch));
                let region = &self.config.region;
                let changes = Changes { before: view, after, keys: &keys, region, now };
                let events = source.tell(&changes).into_iter().map(|it| Event {
                    id: Uuid::mint(self.ids.as_ref()),
                    source: source.source().to_owned(),
                    detail_type: it.detail_type.to_owned(),
                    account,
                    region: self.config.region.clone(),
                    time: now,
                    resources: it.resources,
                    detail: it.detail,
                });
                told.extend(events);
            }
        }
        told
    }
}

/// The rows that a source tells of and that rules of their accounts may want to hear of.
fn wanted(source: &dyn EventSource, view: &View, batch: &Batch) -> BTreeMap<AccountId, Vec<Key>> {
    let kinds = source.kinds();
    let written = batch.writes.iter().filter(|row| kinds.contains(&row.kind())).map(Row::key);
    let deleted = batch.deletes.iter().filter(|key| kinds.contains(&key.kind())).cloned();
    let mut accounts: BTreeMap<AccountId, Vec<Key>> = BTreeMap::new();
    for key in written.chain(deleted) {
        accounts.entry(key.account()).or_default().push(key);
    }
    accounts.retain(|account, _| may_be_wanted(view, *account, source.source()));
    accounts
}

/// The view as the batch leaves it.
fn with(view: &View, batch: &Batch) -> View {
    let mut after = view.clone();
    let seq = view.seq.next();
    after.seq = seq;
    for key in &batch.deletes {
        after.remove(seq, key);
    }
    for row in &batch.writes {
        after.put(seq, row);
    }
    after
}

#[cfg(test)]
mod tests {
    use model::{AccountSetting, EventRule, Kind, SettingId, SettingPrincipal};
    use store::BATCH_ROWS_MAX;

    use super::*;
    use crate::testing::{TestControl, rows};

    /// Tells of each setting by its name, and whether it was there before.
    #[derive(Debug)]
    struct Settings;

    impl EventSource for Settings {
        fn source(&self) -> &'static str {
            "aws.test"
        }

        fn kinds(&self) -> &'static [Kind] {
            &[Kind::AccountSetting]
        }

        fn tell(&self, changes: &Changes<'_>) -> Vec<Told> {
            let one = |key: &Key| match key {
                Key::AccountSetting(account, id) => {
                    let value = |view: &View| {
                        let row = view.account_settings.get(*account, id);
                        Json::from(row.map(|row| row.value.clone()).unwrap_or_default())
                    };
                    let detail = vec![
                        ("name".to_owned(), Json::from(id.name.as_str())),
                        ("was".to_owned(), value(changes.before)),
                        ("is".to_owned(), value(changes.after)),
                    ];
                    let detail = Json::Object(detail);
                    Told { detail_type: "Setting", resources: Vec::new(), detail }
                }
                other => panic!("{other} is not asked for"),
            };
            changes.keys.iter().map(one).collect()
        }
    }

    fn world() -> TestControl {
        let world = TestControl::new();
        world.control.set_event_sources(vec![&Settings]);
        world
    }

    fn setting(account: AccountId, name: &str, value: &str) -> AccountSetting {
        let setting = SettingId { principal: SettingPrincipal::Default, name: name.to_owned() };
        AccountSetting { account, setting, value: value.to_owned() }
    }

    async fn write(world: &TestControl, account: &str, names: &[String], value: &str) {
        let account = world.root_of(account).account;
        let decided = world.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            for name in names {
                batch.put(setting(account, name, value));
            }
            Ok((batch, ()))
        });
        decided.await.unwrap();
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|each| format!("{each:03}")).collect()
    }

    const OURS: &str = "000000000000";

    #[tokio::test]
    async fn nothing_is_told_where_no_rule_wants_it() {
        let world = world();
        write(&world, OURS, &names(1), "1").await;
        world.want(r#"{"source":["aws.other"]}"#).await;
        write(&world, OURS, &names(1), "2").await;
        world.want(r#"{"source":["aws.test"],"detail":{"name":["other"]}}"#).await;
        write(&world, OURS, &names(1), "3").await;
        world.want(r#"{"source":["aws.test"]}"#).await;
        write(&world, "000000000001", &names(1), "4").await;
        assert_eq!(world.told(), Vec::<serde_json::Value>::new());
        let off = EventRule {
            is_enabled: false,
            ..rows::event_rule(world.root().account, "all", r#"{"source":["aws.test"]}"#)
        };
        let decided = world.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.put(off.clone());
            Ok((batch, ()))
        });
        decided.await.unwrap();
        write(&world, OURS, &names(1), "5").await;
        assert_eq!(world.told(), Vec::<serde_json::Value>::new());
    }

    #[tokio::test]
    async fn what_a_batch_changes_is_told_with_it_and_in_the_order_of_commits() {
        let world = world();
        world.want(r#"{"source":[{"prefix":"aws."}]}"#).await;
        for value in ["1", "2", "3"] {
            write(&world, OURS, &names(2), value).await;
        }
        let told: Vec<_> = world.told();
        let details: Vec<_> = told.iter().map(|event| event["detail"].to_string()).collect();
        let expected = [("", "1"), ("1", "2"), ("2", "3")].into_iter().flat_map(|(was, is)| {
            names(2)
                .into_iter()
                .map(move |name| format!(r#"{{"is":"{is}","name":"{name}","was":"{was}"}}"#))
        });
        assert_eq!(details, expected.collect::<Vec<_>>());
        assert_eq!(told[0]["source"], "aws.test");
        assert_eq!(told[0]["detail-type"], "Setting");
        assert_eq!(told[0]["account"], OURS);
    }

    #[tokio::test]
    async fn a_decision_that_is_made_again_tells_of_what_is_committed() {
        let world = world();
        world.want(r#"{"source":["aws.test"]}"#).await;
        let account = world.root().account;
        let mut looks = 0;
        let decided = world.control.decide(|view, _| {
            looks += 1;
            if looks == 1 {
                let mut theirs = Batch::on(view);
                theirs.put(setting(account, "x", "theirs"));
                world.control.store.submit(theirs).unwrap();
            }
            let mut batch = Batch::on(view);
            batch.put(setting(account, "x", "ours"));
            Ok((batch, ()))
        });
        decided.await.unwrap();
        let told: Vec<_> = world.told().iter().map(|it| it["detail"]["was"].clone()).collect();
        assert_eq!((looks, told), (2, vec!["theirs".into()]));
    }

    #[tokio::test]
    async fn a_batch_that_is_full_tells_of_all_of_its_rows() {
        let world = world();
        world.want(r#"{"source":["aws.test"]}"#).await;
        write(&world, OURS, &names(BATCH_ROWS_MAX), "1").await;
        assert_eq!(world.told().len(), BATCH_ROWS_MAX);
    }

    #[tokio::test]
    async fn what_is_deleted_is_told_too() {
        let world = world();
        write(&world, OURS, &names(1), "1").await;
        world.want(r#"{"source":["aws.test"]}"#).await;
        let account = world.root().account;
        let decided = world.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.delete(Key::AccountSetting(account, setting(account, "000", "").setting));
            Ok((batch, ()))
        });
        decided.await.unwrap();
        assert_eq!(world.told()[0]["detail"]["was"], "1");
        assert_eq!(world.told()[0]["detail"]["is"], "");
    }
}
