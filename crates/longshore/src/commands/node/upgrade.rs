//! `longshore node upgrade`: hosts take the region's own program, one after the other.
//!
//! The region asks the hosts, and goes on if this command ends: here is only shown how far they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_types::{Clock as _, SystemClock, Timestamp};
use region::nodes::{Done, Listed, ListedNode, StartUpgrade, StartedUpgrade, UPGRADE_MS_MAX};

use crate::cli::NodeUpgrade;
use crate::client::Client;
use crate::error::Error;
use crate::signals;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A host that is away does not hear that it is its turn.
const SILENCE_MS_MAX: u64 = 3 * 60_000;
const DIGITS: usize = 12;

pub(super) async fn run(client: &Client, args: &NodeUpgrade) -> Result<(), Error> {
    if args.stop {
        let Done {} = client.own("StopUpgrade", &Done {}).await?;
        println!("no more hosts are asked; one that was asked already goes on");
        return Ok(());
    }
    let all = list(client).await?;
    let named = args.hosts.iter().map(|host| find(&all, host)).collect::<Result<_, _>>()?;
    let input = StartUpgrade { nodes: named };
    let started: StartedUpgrade = client.own("StartUpgrade", &input).await?;
    let build = format!("{} ({})", started.release, short(&started.digest));
    if started.queued.is_empty() {
        println!("nothing to do: {} of {} hosts run {build}", started.current.len(), all.len());
        return Ok(());
    }
    println!("{} hosts are to run {build}, one after the other", started.queued.len());
    tokio::select! {
        ended = follow(client, &started) => ended,
        () = signals::stop() => {
            println!("the region goes on without this command; longshore node upgrade --stop ends it");
            Ok(())
        }
    }
}

async fn list(client: &Client) -> Result<Vec<ListedNode>, Error> {
    let listed: Listed<ListedNode> = client.own("ListNodes", &Done {}).await?;
    Ok(listed.items)
}

/// The one host that is meant.
fn find(all: &[ListedNode], wanted: &str) -> Result<String, Error> {
    let is_meant = |node: &&ListedNode| {
        let is_its = |arn: &String| arn == wanted || crate::tasks::id_of(arn).starts_with(wanted);
        node.id == wanted || node.host_name == wanted || node.instances.iter().any(is_its)
    };
    let found: Vec<&ListedNode> = all.iter().filter(is_meant).collect();
    match found.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(Error::message(format!(
            "no host that joined is called {wanted}; the region's own runs the region's program anyway"
        ))),
        several => {
            let ids: Vec<&str> = several.iter().map(|node| node.id.as_str()).collect();
            Err(Error::message(format!("{wanted} may mean {}", ids.join(" or "))))
        }
    }
}

/// Tells of each host until all have it, or one has failed.
async fn follow(client: &Client, started: &StartedUpgrade) -> Result<(), Error> {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut moved_at = SystemClock.now();
    loop {
        let nodes = list(client).await?;
        let step = step(&nodes, started, &mut told);
        for line in &step.lines {
            println!("{line}");
        }
        let now = SystemClock.now();
        if !step.lines.is_empty() {
            moved_at = now;
        }
        if let Some(why) = step.failure {
            return give_up(client, &why).await;
        }
        if step.is_done {
            return Ok(());
        }
        if let Some(why) = too_long(&nodes, &told, moved_at, now) {
            return give_up(client, &why).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn give_up(client: &Client, why: &str) -> Result<(), Error> {
    let Done {} = client.own("StopUpgrade", &Done {}).await?;
    Err(Error::message(format!("{why}; the hosts after it run what they ran before")))
}

/// What is new since the last look.
#[derive(Debug, Default)]
struct Step {
    lines: Vec<String>,
    failure: Option<String>,
    is_done: bool,
}

fn step(
    nodes: &[ListedNode],
    started: &StartedUpgrade,
    told: &mut BTreeMap<String, String>,
) -> Step {
    let wanted: BTreeSet<&str> = started.queued.iter().map(String::as_str).collect();
    let mut step = Step { is_done: true, ..Step::default() };
    let mut asked = Vec::new();
    for node in nodes.iter().filter(|node| wanted.contains(node.id.as_str())) {
        let has_it = node.digest.as_deref() == Some(&started.digest);
        let state = match node.upgrade.as_deref() {
            None if has_it => "done",
            None => "left out",
            Some(state) => state,
        };
        step.is_done &= matches!(state, "done" | "left out");
        let is_new = told.get(&node.id).is_none_or(|before| before != state);
        if !is_new {
            continue;
        }
        told.insert(node.id.clone(), state.to_owned());
        match state {
            "asked" => asked.push(format!("{}: takes it", node.host_name)),
            "done" => step.lines.push(format!(
                "{}: runs {} ({})",
                node.host_name,
                started.release,
                short(&started.digest)
            )),
            "left out" => step.lines.push(format!("{}: left as it is", node.host_name)),
            "failed" => {
                let why = node.upgrade_failed_because.as_deref().unwrap_or("it did not say why");
                step.failure.get_or_insert(format!("{} did not take it: {why}", node.host_name));
            }
            _ => {}
        }
    }
    // The one before has it before the next is asked, whichever of the two is listed first.
    step.lines.append(&mut asked);
    step
}

/// Whoever was asked has not come back, or whoever is next does not check in.
fn too_long(
    nodes: &[ListedNode],
    told: &BTreeMap<String, String>,
    moved_at: Timestamp,
    now: Timestamp,
) -> Option<String> {
    let silent_ms = now.since_ms(moved_at);
    let asked = nodes.iter().find(|node| told.get(&node.id).is_some_and(|it| it == "asked"));
    match asked {
        Some(node) if UPGRADE_MS_MAX < silent_ms => {
            Some(format!("{} did not come back within five minutes", node.host_name))
        }
        None if SILENCE_MS_MAX < silent_ms => {
            Some("none of the hosts that are left has checked in for three minutes".to_owned())
        }
        Some(_) | None => None,
    }
}

fn short(digest: &str) -> &str {
    digest.get(..DIGITS).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, upgrade: Option<&str>, digest: &str) -> ListedNode {
        ListedNode {
            id: id.to_owned(),
            host_name: format!("host-{id}"),
            cluster: "web".to_owned(),
            token: String::new(),
            joined_at: Timestamp(0),
            release: None,
            key_expires_at: Timestamp(0),
            instances: vec![format!("arn:aws:ecs:r:0:container-instance/web/{id}{id}")],
            digest: Some(digest.to_owned()),
            is_current: false,
            upgrade: upgrade.map(str::to_owned),
            upgrade_failed_because: upgrade
                .filter(|it| *it == "failed")
                .map(|_| "no room".to_owned()),
        }
    }

    fn started() -> StartedUpgrade {
        let queued = ["a", "b"].map(str::to_owned).into();
        StartedUpgrade { release: "0.2.0".into(), digest: "new".into(), queued, current: vec![] }
    }

    #[test]
    fn each_change_is_told_once_until_all_have_it() {
        let (started, mut told) = (started(), BTreeMap::new());
        let mut look = |a: ListedNode, b: ListedNode| step(&[a, b], &started, &mut told);
        let first = look(node("a", Some("asked"), "old"), node("b", Some("queued"), "old"));
        assert_eq!((first.lines, first.is_done), (vec!["host-a: takes it".to_owned()], false));
        let same = look(node("a", Some("asked"), "old"), node("b", Some("queued"), "old"));
        assert!(same.lines.is_empty());
        let second = look(node("a", None, "new"), node("b", Some("asked"), "old"));
        assert_eq!(second.lines, ["host-a: runs 0.2.0 (new)", "host-b: takes it"]);
        let last = look(node("a", None, "new"), node("b", None, "new"));
        assert!(last.is_done && last.failure.is_none());
    }

    #[test]
    fn who_has_it_is_told_before_who_is_next() {
        let (started, mut told) = (started(), BTreeMap::new());
        step(
            &[node("a", Some("queued"), "old"), node("b", Some("asked"), "old")],
            &started,
            &mut told,
        );
        let next =
            step(&[node("a", Some("asked"), "old"), node("b", None, "new")], &started, &mut told);
        assert_eq!(next.lines, ["host-b: runs 0.2.0 (new)", "host-a: takes it"]);
    }

    #[test]
    fn the_first_that_fails_is_told_with_its_reason() {
        let (started, mut told) = (started(), BTreeMap::new());
        let nodes = [node("a", Some("failed"), "old"), node("b", None, "old")];
        let step = step(&nodes, &started, &mut told);
        assert_eq!(step.failure.as_deref(), Some("host-a did not take it: no room"));
    }

    #[test]
    fn a_host_that_is_silent_is_not_waited_for_for_ever() {
        let nodes = [node("a", Some("asked"), "old")];
        let told = BTreeMap::from([("a".to_owned(), "asked".to_owned())]);
        let later = |ms| too_long(&nodes, &told, Timestamp(0), Timestamp(ms));
        assert_eq!(later(UPGRADE_MS_MAX), None);
        assert!(later(UPGRADE_MS_MAX + 1).unwrap().contains("host-a did not come back"));
        let none = too_long(&nodes, &BTreeMap::new(), Timestamp(0), Timestamp(SILENCE_MS_MAX + 1));
        assert!(none.unwrap().contains("none of the hosts"));
    }

    #[test]
    fn a_host_is_meant_by_its_name_or_its_instance() {
        let all = [node("a", None, ""), node("b", None, "")];
        for wanted in ["a", "host-a", "aa", all[0].instances[0].as_str()] {
            assert_eq!(find(&all, wanted).unwrap(), "a", "{wanted}");
        }
        assert!(find(&all, "c").unwrap_err().to_string().contains("no host that joined"));
    }
}
