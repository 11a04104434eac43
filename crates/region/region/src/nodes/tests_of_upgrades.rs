//! Who of a fleet takes the region's program, and when.

use std::collections::BTreeMap;

use longshore_types::Timestamp;
use model::node::{Build, NodePlan, Upgrade, UpgradeState};
use model::{Key, Node};
use serde_json::json;
use store::Batch;

use super::tests::World;
use super::upgrade::{Said, Turn, UPGRADE_MS_MAX, turn};
use super::*;

const RUN: Timestamp = Timestamp(1_000);
const NOW: Timestamp = Timestamp(2_000);

fn node(id: &str, state: Option<UpgradeState>, digest: &str) -> Node {
    Node {
        account: Config::root_account(),
        id: id.into(),
        host_name: id.to_owned(),
        token: "t".into(),
        plan: NodePlan {
            cluster: "web".parse().unwrap(),
            zone: None,
            attributes: BTreeMap::new(),
            key_ms: 480_000,
        },
        keys: vec![],
        joined_at: Timestamp(0),
        is_confirmed: true,
        release: None,
        managed: None,
        build: Some(Build { digest: digest.to_owned(), is_regions: digest == "new" }),
        upgrade: state.map(|state| Upgrade { run: RUN, state }),
    }
}

const ASKED: UpgradeState = UpgradeState::Asked { at: RUN };

fn look(own: Node, others: &[Node], said: &Said, now: Timestamp) -> Turn {
    let others: Vec<&Node> = others.iter().collect();
    turn(own, &others, said, "new", now)
}

fn state(turn: &Turn) -> Option<UpgradeState> {
    turn.node.upgrade.as_ref().map(|upgrade| upgrade.state.clone())
}

fn connected(digest: &str) -> Said {
    Said { digest: Some(digest.to_owned()), failed: None, is_connected: true }
}

#[test]
fn one_host_is_asked_at_a_time() {
    let queued = || node("a", Some(UpgradeState::Queued), "old");
    let alone = look(queued(), &[], &connected("old"), NOW);
    assert_eq!((state(&alone), alone.asked), (Some(UpgradeState::Asked { at: NOW }), Some(RUN)));
    let busy = look(queued(), &[node("b", Some(ASKED), "old")], &connected("old"), NOW);
    assert_eq!((state(&busy), busy.asked), (Some(UpgradeState::Queued), None));
    assert!(busy.is_running && busy.failed.is_none());
    // Asked and not there yet: it is told again.
    let again = look(node("a", Some(ASKED), "old"), &[], &connected("old"), NOW);
    assert_eq!((state(&again), again.asked), (Some(ASKED), Some(RUN)));
}

#[test]
fn the_next_waits_until_the_one_before_is_back_and_connected() {
    let away = Said { is_connected: false, ..connected("new") };
    let turn = look(node("a", Some(ASKED), "old"), &[], &away, NOW);
    assert_eq!((state(&turn), turn.asked), (Some(ASKED), None), "it has it, and is not back");
    let turn = look(node("a", Some(ASKED), "old"), &[], &connected("new"), NOW);
    assert_eq!((state(&turn), turn.asked), (None, None));
    assert!(!turn.is_running);
    let turn = look(node("a", Some(UpgradeState::Queued), "old"), &[], &connected("new"), NOW);
    assert_eq!(state(&turn), None, "somebody has installed it by hand");
}

#[test]
fn after_one_that_failed_nobody_of_the_run_is_asked() {
    let why = Said { failed: Some((RUN, "no room".to_owned())), ..connected("old") };
    let turn = look(node("a", Some(ASKED), "old"), &[], &why, NOW);
    let failed = UpgradeState::Failed("no room".to_owned());
    assert_eq!(state(&turn), Some(failed.clone()));
    let before = Said { failed: Some((Timestamp(1), "no room".to_owned())), ..connected("old") };
    let turn = look(node("a", Some(ASKED), "old"), &[], &before, NOW);
    assert_eq!(
        state(&turn),
        Some(ASKED),
        "what failed once is tried again where it is asked again"
    );
    let next = look(
        node("b", Some(UpgradeState::Queued), "old"),
        &[node("a", Some(failed.clone()), "old")],
        &connected("old"),
        NOW,
    );
    assert_eq!((state(&next), next.asked), (None, None));
    let turn = look(node("a", Some(failed), "old"), &[], &connected("new"), NOW);
    assert_eq!(state(&turn), None, "it has it after all");
}

#[test]
fn one_that_does_not_come_back_has_failed() {
    let queued = node("b", Some(UpgradeState::Queued), "old");
    let late = RUN.plus_ms(UPGRADE_MS_MAX);
    let turn = look(queued, &[node("a", Some(ASKED), "old")], &connected("old"), late);
    assert_eq!(state(&turn), None);
    let failed = turn.failed.unwrap().upgrade.unwrap().state;
    assert_eq!(failed, UpgradeState::Failed("it did not come back within five minutes".to_owned()));
    assert!(!turn.is_running);
}

#[test]
fn one_that_failed_and_came_back_all_the_same_keeps_the_rest_from_being_asked() {
    let failed = || node("a", Some(UpgradeState::Failed("late".to_owned())), "new");
    let queued = node("c", Some(UpgradeState::Queued), "old");
    let away = Said { is_connected: false, ..connected("new") };
    let turn = look(failed(), &[], &away, NOW);
    assert!(state(&turn).is_some(), "its agent does not work");
    let turn = look(failed(), &[queued], &connected("new"), NOW);
    assert!(state(&turn).is_some(), "somebody is still to see it");
    assert_eq!(state(&look(failed(), &[], &connected("new"), NOW)), None);
}

#[test]
fn one_that_goes_on_with_its_own_program_has_failed_although_nobody_waits_for_it() {
    let late = RUN.plus_ms(UPGRADE_MS_MAX);
    let turn = look(node("a", Some(ASKED), "old"), &[], &connected("old"), late);
    assert!(matches!(state(&turn), Some(UpgradeState::Failed(_))), "{turn:?}");
    assert_eq!(turn.asked, None);
}

#[test]
fn hosts_wait_for_no_other_tenants_and_leave_a_run_for_nobody_who_is_not_of_it() {
    let queued = || node("b", Some(UpgradeState::Queued), "old");
    let other_run = |state| Some(Upgrade { run: Timestamp(7), state });
    let own = Node { upgrade: other_run(ASKED), ..node("a", None, "old") };
    let waits = look(queued(), std::slice::from_ref(&own), &connected("old"), NOW);
    assert_eq!(state(&waits), Some(UpgradeState::Queued));
    let late = RUN.plus_ms(UPGRADE_MS_MAX);
    let waits = look(queued(), std::slice::from_ref(&own), &connected("old"), late);
    assert_eq!(state(&waits), Some(UpgradeState::Queued), "it is of another run");
    assert!(waits.failed.is_some());
    let managed = model::node::Managed {
        id: "mi-00000000000000001".into(),
        account: "111122223333".parse().unwrap(),
        activation: "a".into(),
        role: "r".to_owned(),
        name: None,
        tags: BTreeMap::new(),
        address: None,
        platform: None,
        seen_at: NOW,
    };
    let tenants = Node { managed: Some(managed), ..own };
    let goes = look(queued(), std::slice::from_ref(&tenants), &connected("old"), NOW);
    assert_eq!(state(&goes), Some(UpgradeState::Asked { at: NOW }));
    let of_run = Node { upgrade: Some(Upgrade { run: RUN, state: ASKED }), ..tenants };
    let waits = look(queued(), &[of_run], &connected("old"), NOW);
    assert_eq!(state(&waits), Some(UpgradeState::Queued), "of one run");
}

#[tokio::test]
async fn a_program_is_the_owners_to_hand_out_and_goes_over_tls_alone() {
    let world = World::new().await;
    for operation in ["StartUpgrade", "StopUpgrade"] {
        let other = world.test.root_of("111122223333");
        let refused = world.call(&other, operation, json!({})).await.unwrap_err();
        assert_eq!(refused.code, "AccessDeniedException", "{operation}");
    }
    let plain = world.call(&world.test.root(), "StartUpgrade", json!({})).await.unwrap_err();
    assert!(plain.message.contains("over TLS only"), "{}", plain.message);
    let body = json!({"digest": "d", "offset": 0});
    let refused = world.call(&world.test.root(), "ReadRelease", body.clone()).await.unwrap_err();
    assert_eq!(refused.code, "AccessDeniedException");
    let owner = world.test.root();
    let token = world.call(
        &owner,
        "CreateJoinToken",
        json!({"cluster": "web", "validMs": 600_000, "keyMs": 480_000}),
    );
    let token: CreatedJoinToken = serde_json::from_value(token.await.unwrap()).unwrap();
    let joined = world.join(token.token.reveal(), "1").await.unwrap();
    let host = world.with(&joined.key).unwrap();
    let other = world.call(&host, "ReadRelease", body).await.unwrap_err();
    assert_eq!(other.code, "ResourceNotFoundException", "it is none of the region's");
    // Who says what it runs is told whether that is the region's.
    let own = world.nodes.release().await.unwrap().digest.clone();
    world.call(&host, "CheckIn", json!({"digest": own})).await.unwrap();
    let listed = world.call(&world.test.root(), "ListNodes", json!({})).await.unwrap();
    assert_eq!(listed["items"][0]["isCurrent"], true);
    // What is queued is asked at the next check-in, and given the program whole.
    let view = world.test.region.control.view();
    let row = Node::clone(view.nodes.iter().next().unwrap());
    let queued = world.test.region.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.rely(Key::Node(row.account, Arc::clone(&row.id)));
        let upgrade = Some(Upgrade { run: RUN, state: UpgradeState::Queued });
        batch.put(Node { upgrade, ..row.clone() });
        Ok((batch, ()))
    });
    queued.await.unwrap();
    let told = world.call(&host, "CheckIn", json!({"digest": "old"})).await.unwrap();
    let told: CheckedIn = serde_json::from_value(told).unwrap();
    let offer = told.upgrade.unwrap();
    assert_eq!((offer.digest.as_str(), offer.run, told.again_ms), (own.as_str(), RUN, 2_000));
    let body = json!({"digest": own, "offset": offer.size - 3});
    let part = world.call(&host, "ReadRelease", body).await.unwrap();
    assert_eq!(part["bytes"].as_str().unwrap().len(), 4, "three bytes in Base64");
}
