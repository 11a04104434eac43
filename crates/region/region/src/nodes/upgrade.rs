//! StartUpgrade, StopUpgrade, ReadRelease: hosts take the region's own program in the place of theirs, one after the other.
//!
//! Who is next is decided at check-ins, from rows. **Invariant:** of a run one host at a time is asked, the next only
//! once the one before has checked in with the region's program and is connected; and none after one has failed. Runs of
//! one tenant's hosts wait for one another, and for nobody else's: a tenant can have its own hosts be asked as often as it
//! likes, and be as slow as they like.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::iam::node_keys;
use control::{Config, Permission};
use longshore_types::Timestamp;
use model::instance::InstanceStatus;
use model::node::{Build, Upgrade, UpgradeState};
use model::{Key, Node, View};
use store::Batch;

use super::Nodes;
use super::release::Release;
use super::shapes::{
    Done, OfferedRelease, ReadRelease, ReadReleasePart, StartUpgrade, StartedUpgrade,
};

/// A host that was asked has failed if it did not come back within this.
pub const UPGRADE_MS_MAX: u64 = 5 * 60_000;
/// Hosts check in so often while a run lasts, and for so long at most.
pub(super) const PACE_MS: u64 = 2_000;
const RUN_MS_MAX: u64 = 60 * 60_000;
const PART_BYTES_MAX: usize = 1 << 20;
/// Rows of one commit.
const ROWS_AT_ONCE: usize = 200;

/// What a host says when it checks in.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Of the program that it runs.
    pub(super) digest: Option<String>,
    /// The run in which it took no other, and why.
    pub(super) failed: Option<(Timestamp, String)>,
    pub(super) is_connected: bool,
}

/// What follows.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) node: Node,
    /// Another that was asked and did not come back.
    pub(super) failed: Option<Node>,
    /// The run by which this one is to take the region's program now.
    pub(super) asked: Option<Timestamp>,
    pub(super) is_running: bool,
}

/// Decides at a host's check-in, with the others that are of a run.
pub(super) fn turn(
    mut node: Node,
    others: &[&Node],
    said: &Said,
    current: &str,
    now: Timestamp,
) -> Turn {
    if let Some(digest) = &said.digest {
        node.build = Some(Build { digest: digest.clone(), is_regions: digest == current });
    }
    let is_current = node.build.as_ref().is_some_and(|build| build.is_regions);
    let mut failed = None;
    let mut asked = None;
    if let Some(upgrade) = node.upgrade.clone() {
        let (next, late) = step(&node, &upgrade, others, said, now);
        asked = next.as_ref().filter(|it| it.is_asked() && !is_current).map(|it| it.run);
        failed = late.map(|late| failing(late, "it did not come back within five minutes"));
        node.upgrade = next;
    }
    let is_lasting = |upgrade: &Upgrade| {
        let until = match upgrade.state {
            UpgradeState::Queued => upgrade.run.plus_ms(RUN_MS_MAX),
            UpgradeState::Asked { at } => return is_waited_for(at, now),
            UpgradeState::Failed(_) => return false,
        };
        now < until
    };
    let peers = others.iter().filter(|other| are_peers(&node, other));
    let rest = peers.filter_map(|other| other.upgrade.as_ref());
    let is_running = rest.chain(&node.upgrade).any(is_lasting);
    Turn { node, failed, asked, is_running }
}

/// Whether one of them waits for the other: they are of one run, or of one tenant.
fn are_peers(one: &Node, other: &Node) -> bool {
    let run_of = |node: &Node| node.upgrade.as_ref().map(|upgrade| upgrade.run);
    one.tenant() == other.tenant() || run_of(one).is_some_and(|run| run_of(other) == Some(run))
}

/// A host's own next state, and another that has failed by now.
fn step<'n>(
    node: &Node,
    upgrade: &Upgrade,
    others: &[&'n Node],
    said: &Said,
    now: Timestamp,
) -> (Option<Upgrade>, Option<&'n Node>) {
    let run = upgrade.run;
    let is_current = node.build.as_ref().is_some_and(|build| build.is_regions);
    match &upgrade.state {
        UpgradeState::Failed(_) => {
            // Until then it is what keeps those that are queued from being asked.
            let is_queued = |it: &Upgrade| it.run == run && it.state == UpgradeState::Queued;
            let is_last = !others.iter().any(|other| other.upgrade.as_ref().is_some_and(is_queued));
            let is_over = is_current && said.is_connected && is_last;
            ((!is_over).then(|| upgrade.clone()), None)
        }
        UpgradeState::Asked { .. } if is_current => {
            let is_back = said.is_connected;
            ((!is_back).then(|| upgrade.clone()), None)
        }
        UpgradeState::Asked { at } => {
            let why = match &said.failed {
                Some((failed, why)) if *failed == run => Some(why.clone()),
                Some(_) | None => (!is_waited_for(*at, now))
                    .then(|| "it did not take it within five minutes".to_owned()),
            };
            let state = why.map_or_else(|| upgrade.state.clone(), UpgradeState::Failed);
            (Some(Upgrade { run, state }), None)
        }
        UpgradeState::Queued if is_current => (None, None),
        UpgradeState::Queued => {
            let of_run = |other: &&&'n Node| {
                other.upgrade.as_ref().is_some_and(|it| it.run == run && it.is_failed())
            };
            if others.iter().any(|other| of_run(&other)) {
                return (None, None);
            }
            // Of whichever run.
            let peers = others.iter().filter(|other| are_peers(node, other));
            let busy = peers.filter_map(|other| match other.upgrade.as_ref()? {
                Upgrade { run, state: UpgradeState::Asked { at } } => Some((*other, *run, *at)),
                Upgrade { state: UpgradeState::Queued | UpgradeState::Failed(_), .. } => None,
            });
            // One of this run ends it, whoever else is late.
            match busy.min_by_key(|(_, its, at)| (is_waited_for(*at, now), *its != run)) {
                None => (Some(Upgrade { run, state: UpgradeState::Asked { at: now } }), None),
                Some((_, _, at)) if is_waited_for(at, now) => (Some(upgrade.clone()), None),
                Some((late, its, _)) if its == run => (None, Some(late)),
                Some((late, _, _)) => (Some(upgrade.clone()), Some(late)),
            }
        }
    }
}

/// Whether a host that was asked may still come back.
fn is_waited_for(asked_at: Timestamp, now: Timestamp) -> bool {
    now < asked_at.plus_ms(UPGRADE_MS_MAX)
}

fn failing(node: &Node, why: &str) -> Node {
    let mut next = node.clone();
    if let Some(upgrade) = &mut next.upgrade {
        upgrade.state = UpgradeState::Failed(why.to_owned());
    }
    next
}

impl Nodes {
    /// The region's own program, read whole the first time.
    pub(super) async fn release(&self) -> Result<&Arc<Release>, ApiError> {
        let open = || async {
            let read = tokio::task::spawn_blocking(Release::open).await;
            let failed = |why: String| ApiError::fault("failed to read the region's program", why);
            read.map_err(|why| failed(why.to_string()))?.map_err(|why| failed(why.to_string()))
        };
        self.release.get_or_try_init(open).await
    }

    /// What a check-in decides about upgrades, written to `batch`.
    pub(super) fn take_turn(
        view: &View,
        batch: &mut Batch,
        node: Node,
        said: &Said,
        current: &str,
        now: Timestamp,
    ) -> Turn {
        let all = view.nodes.of(Config::root_account());
        let others: Vec<&Node> = all
            .filter(|other| other.upgrade.is_some() && other.id != node.id)
            .map(|other| &**other)
            .collect();
        let is_queued = node.upgrade.as_ref().is_some_and(|it| it.state == UpgradeState::Queued);
        let turn = turn(node, &others, said, current, now);
        if is_queued {
            // Two that were asked at once would have relied on each other.
            for other in others {
                batch.rely(Key::Node(other.account, Arc::clone(&other.id)));
            }
        }
        if let Some(failed) = &turn.failed {
            batch.put(failed.clone());
        }
        turn
    }

    pub(super) fn offered(release: &Release, run: Timestamp) -> OfferedRelease {
        OfferedRelease {
            run,
            release: control::release::RELEASE.to_owned(),
            digest: release.digest.clone(),
            size: release.size,
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }

    /// Queues hosts: all, or those that are named, unless they run the region's program already.
    pub(super) async fn start_upgrade(
        &self,
        caller: &Caller,
        input: StartUpgrade,
    ) -> Result<StartedUpgrade, ApiError> {
        Self::check_owner(caller)?;
        let permission = Permission::to("longshore:StartUpgrade");
        let view = self.control.read(caller, &permission)?;
        if !self.control.endpoint().starts_with("https://") {
            let message = "Hosts take a program over TLS only, and this region is not reached so.";
            return Err(ApiError::client("InvalidRequestException", message));
        }
        let release = Arc::clone(self.release().await?);
        let all: Vec<Arc<Node>> = view.nodes.of(Config::root_account()).cloned().collect();
        for named in &input.nodes {
            if !all.iter().any(|node| *node.id == **named) {
                let message = format!("No host has joined as {named}.");
                return Err(ApiError::client("ResourceNotFoundException", message));
            }
        }
        let is_meant = |node: &&Arc<Node>| {
            input.nodes.is_empty() || input.nodes.iter().any(|named| *node.id == **named)
        };
        let is_current =
            |node: &Node| node.build.as_ref().is_some_and(|build| build.digest == release.digest);
        let (current, queued): (Vec<_>, Vec<_>) =
            all.iter().filter(is_meant).partition(|node| is_current(node));
        let run = self.control.clock.now();
        let ids = |nodes: &[&Arc<Node>]| nodes.iter().map(|node| node.id.to_string()).collect();
        for some in queued.chunks(ROWS_AT_ONCE) {
            self.set(caller, &permission, some, |before| {
                // One that is at it already is waited for before another is asked.
                let going_on = before.map(|it| it.state).filter(
                    |state| matches!(state, UpgradeState::Asked { at } if is_waited_for(*at, run)),
                );
                Some(Upgrade { run, state: going_on.unwrap_or(UpgradeState::Queued) })
            })
            .await?;
        }
        Ok(StartedUpgrade {
            release: control::release::RELEASE.to_owned(),
            digest: release.digest.clone(),
            queued: ids(&queued),
            current: ids(&current),
        })
    }

    /// Nobody is asked any more; who was asked already goes on.
    pub(super) async fn stop_upgrade(&self, caller: &Caller) -> Result<Done, ApiError> {
        Self::check_owner(caller)?;
        let permission = Permission::to("longshore:StopUpgrade");
        let view = self.control.read(caller, &permission)?;
        let all: Vec<&Arc<Node>> = view.nodes.of(Config::root_account()).collect();
        for some in all.chunks(ROWS_AT_ONCE) {
            self.set(caller, &permission, some, |before| {
                before.filter(|upgrade| upgrade.state != UpgradeState::Queued)
            })
            .await?;
        }
        Ok(Done {})
    }

    async fn set(
        &self,
        caller: &Caller,
        permission: &Permission,
        nodes: &[&Arc<Node>],
        next: impl Fn(Option<Upgrade>) -> Option<Upgrade> + Send + Sync,
    ) -> Result<(), ApiError> {
        self.control
            .change(caller, permission, |view, _| {
                let mut batch = Batch::on(view);
                for node in nodes {
                    let row = view.nodes.get(node.account, &node.id);
                    let Some(row) = row else { continue };
                    let upgrade = next(row.upgrade.clone());
                    if upgrade != row.upgrade {
                        batch.put(Node { upgrade, ..Node::clone(row) });
                    }
                }
                Ok((batch, ()))
            })
            .await
    }

    /// A part of the region's program, for a host that joined.
    pub(super) async fn read_release(
        &self,
        caller: &Caller,
        input: ReadRelease,
    ) -> Result<ReadReleasePart, ApiError> {
        if !node_keys::is_host(caller) {
            let message = "The region's program is given to hosts that joined.";
            return Err(ApiError::client("AccessDeniedException", message));
        }
        let release = Arc::clone(self.release().await?);
        if input.digest != release.digest {
            let message =
                "The region runs another program by now: it is asked for at the next check-in.";
            return Err(ApiError::client("ResourceNotFoundException", message));
        }
        let read = tokio::task::spawn_blocking(move || release.read(input.offset, PART_BYTES_MAX));
        let failed = |why: String| ApiError::fault("failed to read the region's program", why);
        let bytes = read.await.map_err(|why| failed(why.to_string()))?;
        let bytes = bytes.map_err(|why| failed(why.to_string()))?;
        Ok(ReadReleasePart { bytes: STANDARD.encode(bytes) })
    }
}

/// Whether what a host registered is there: a host that registered nothing is not waited for.
pub(super) fn is_connected(view: &View, node: &Node) -> bool {
    let key = node.keys.last().map(|key| node_keys::holder(&key.id)).unwrap_or_default();
    let its = view.instances.of(node.tenant()).filter(|row| {
        row.status != InstanceStatus::Inactive && row.access_key.as_deref() == Some(key)
    });
    let mut its = its.peekable();
    its.peek().is_none() || its.any(|row| row.agent.connected)
}
