//! What balancers' processes read, and what they said last: each by the host that it is on.
//!
//! The tables are made anew whenever rows of load balancing changed, and given out as what changed since the version that
//! a process has. All is in memory alone: a process that asks anew, or says again what it sees, makes good whatever a
//! restart lost.
//!
//! **Invariant:** a table's version is the commit that it was made from, so that a version which is at least a row's
//! commit has that row.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Chain, InstanceId, TaskId, Timestamp};
use model::elb::{GroupTargets, arn};
use model::task::Phase;
use model::{AcmCertificate, ElbTarget, Instance, Key, View};
use routing::{Anomaly, Change, GroupId, Report, Table, TargetReport, Update};
use store::Change as RowChange;
use tokio::sync::watch;
use tracing::warn;

use crate::limits::NODES_MAX;
use crate::{compile, health};

/// Tables that are remembered, so that a process is told only what changed.
const TABLES_MAX: usize = 32;
/// After a table was made the next is not made before this: changes that come together are told together.
const REST_MS: u64 = 5;
/// A node that was silent for so long is forgotten. Until then what it may have in flight is waited for.
const NODE_FORGOTTEN_MS: u64 = 15 * 60_000;

/// The host of a process: its instance, or none on the region's own machine.
pub type Host = Option<InstanceId>;

/// How reports name a target: by its group, what it is, and its port.
pub(crate) type TargetName = (GroupId, String, u16);

/// A process's last report.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) version: u64,
    pub(crate) at: Timestamp,
    pub(crate) targets: BTreeMap<TargetName, TargetReport>,
    pub(crate) local: Vec<(routing::ListenerId, std::net::SocketAddr)>,
    pub(crate) serving: BTreeSet<String>,
    pub(crate) busy: BTreeSet<String>,
}

/// By the hosts that they are on.
pub(crate) type Nodes = BTreeMap<Host, Arc<Node>>;

impl Node {
    /// What it says of a registration.
    pub(crate) fn of(&self, key: &TargetName, registered_at: Timestamp) -> Option<&TargetReport> {
        self.targets.get(key).filter(|it| it.registered_at == registered_at)
    }
}

/// What is known of all processes at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) nodes: Nodes,
    /// The versions that they were given last.
    pub(crate) given: BTreeMap<Host, u64>,
    /// Their latest tables.
    pub(crate) tables: BTreeMap<Host, Arc<Table>>,
    /// The targets that their tables of before had.
    pub(crate) had: BTreeMap<Host, Arc<BTreeSet<TargetName>>>,
    /// The commit that those are as of; 0: there are none yet.
    pub(crate) as_of: u64,
    /// Since when processes can be heard.
    pub(crate) since: Timestamp,
}

/// See the module's words.
#[derive(Debug)]
pub struct Feed {
    tables: Mutex<Tables>,
    latest: watch::Sender<u64>,
    nodes: Mutex<Nodes>,
    /// Whether the region ends.
    closing: watch::Sender<bool>,
    /// When it began to hear processes.
    pub(crate) since: Timestamp,
}

/// The tables of each host, the last of them last.
#[derive(Debug, Default)]
struct Tables {
    as_of: u64,
    of: BTreeMap<Host, VecDeque<Arc<Table>>>,
    given: BTreeMap<Host, u64>,
    /// Targets that a table of before had and the last has not, as long as they are there.
    had: BTreeMap<Host, Arc<BTreeSet<TargetName>>>,
}

impl Tables {
    /// Keeps what a table has that the next one has not.
    fn leave(&mut self, host: Host, (last, next): (&Table, &Table), is_there: IsThere<'_>) {
        let kept: BTreeSet<TargetName> = names(next).collect();
        let left = names(last).filter(|name| !kept.contains(name) && is_there(name));
        let mut left = left.peekable();
        if left.peek().is_some() {
            Arc::make_mut(self.had.entry(host).or_default()).extend(left);
        }
    }
}

/// Whether a target is still there.
type IsThere<'a> = &'a dyn Fn(&TargetName) -> bool;

/// The targets of a table.
fn names(table: &Table) -> impl Iterator<Item = TargetName> {
    let groups = table.groups.values();
    groups.flat_map(|group| {
        let targets = group.targets.iter();
        targets.map(|it| (group.id.clone(), it.key.id.clone(), it.key.port))
    })
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            tables: Mutex::default(),
            latest: watch::Sender::new(0),
            nodes: Mutex::default(),
            closing: watch::Sender::new(false),
            since: now,
        }
    }

    /// Gives out tables from now on, as of a commit, but for those that differ from the last in nothing but their version. A
    /// host of which nothing is said is forgotten, and so are targets that are there no more.
    pub(crate) fn publish(&self, as_of: u64, tables: BTreeMap<Host, Table>, is_there: IsThere<'_>) {
        let mut held = held(&self.tables);
        if as_of < held.as_of {
            return;
        }
        held.as_of = as_of;
        held.of.retain(|host, _| tables.contains_key(host));
        held.given.retain(|host, _| tables.contains_key(host));
        held.had.retain(|host, had| {
            if !had.iter().all(is_there) {
                Arc::make_mut(had).retain(|name| is_there(name));
            }
            tables.contains_key(host) && !had.is_empty()
        });
        for (host, mut table) in tables {
            if let Some(last) = held.of.get(&host).and_then(VecDeque::back).map(Arc::clone) {
                let version = std::mem::replace(&mut table.version, last.version);
                if *last == table || version <= last.version {
                    continue;
                }
                table.version = version;
                held.leave(host, (&last, &table), is_there);
            }
            let of = held.of.entry(host).or_default();
            of.push_back(Arc::new(table));
            if TABLES_MAX < of.len() {
                of.pop_front();
            }
        }
        drop(held);
        // Also where nothing changed: each reader looks whether there is something for it.
        self.latest.send_replace(as_of);
    }

    /// The hosts that were given tables.
    pub(crate) fn readers(&self) -> Vec<Host> {
        held(&self.tables).of.keys().copied().collect()
    }

    /// What changed on a host since `version`, of which 0 is none: at once if something did, else after `wait`.
    pub async fn read(&self, host: Host, version: u64, wait: Duration) -> Update {
        let mut latest = self.latest.subscribe();
        let read = latest.wait_for(|as_of| *as_of != 0 && self.is_news(host, version));
        let mut closing = self.closing.subscribe();
        let read = async {
            tokio::select! {
                read = read => read.is_ok(),
                _ = closing.wait_for(|closing| *closing) => false,
            }
        };
        match tokio::time::timeout(wait, read).await {
            Ok(true) => self.since(host, version),
            Ok(false) | Err(_) => Update::Unchanged,
        }
    }

    /// Lets go of whoever waits for news: the region ends.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    fn is_news(&self, host: Host, version: u64) -> bool {
        let tables = held(&self.tables);
        // Who is on no list has an empty table, and may not know it.
        tables.of.get(&host).and_then(VecDeque::back).is_none_or(|last| last.version != version)
    }

    fn since(&self, host: Host, version: u64) -> Update {
        let mut held = held(&self.tables);
        let as_of = held.as_of;
        let tables = held.of.entry(host).or_default();
        if tables.is_empty() {
            tables.push_back(Arc::new(Table { version: as_of, ..Table::default() }));
        }
        let Some(last) = tables.back().map(Arc::clone) else { return Update::Unchanged };
        let update = match tables.iter().find(|table| table.version == version) {
            Some(known) => Update::Change(Change::between(known, &last)),
            None => Update::Whole(Table::clone(&last)),
        };
        held.given.insert(host, last.version);
        update
    }

    /// Takes in what the process on a host sees.
    pub(crate) fn note(&self, host: Host, report: Report, now: Timestamp) {
        let targets = report.targets.into_iter().map(|target| {
            ((target.group.clone(), target.target.id.clone(), target.target.port), target)
        });
        let node = Node {
            version: report.version,
            at: now,
            targets: targets.collect(),
            local: report.local,
            serving: report.serving.into_iter().map(|it| it.eni).collect(),
            busy: report.busy.into_iter().map(|it| it.eni).collect(),
        };
        let mut nodes = held(&self.nodes);
        let before: BTreeSet<Host> = nodes.keys().copied().collect();
        nodes.retain(|_, node| now.since_ms(node.at) < NODE_FORGOTTEN_MS);
        // Nobody waits for a process that has ended to say that it has let go of what it was told of.
        let mut forgotten: Vec<Host> =
            before.into_iter().filter(|it| !nodes.contains_key(it)).collect();
        // That of the region's own machine has a place whatever others there are.
        let others = nodes.keys().filter(|it| it.is_some()).count();
        if host.is_none() || others < NODES_MAX || nodes.contains_key(&host) {
            nodes.insert(host, Arc::new(node));
        }
        drop(nodes);
        forgotten.retain(|it| *it != host);
        let mut tables = held(&self.tables);
        for host in forgotten {
            tables.given.remove(&host);
            tables.had.remove(&host);
        }
    }

    /// What is known of all processes.
    pub(crate) fn known(&self) -> Known {
        let nodes = held(&self.nodes).clone();
        let tables = held(&self.tables);
        let latest =
            tables.of.iter().filter_map(|(host, of)| Some((*host, Arc::clone(of.back()?))));
        Known {
            nodes,
            given: tables.given.clone(),
            tables: latest.collect(),
            had: tables.had.clone(),
            as_of: tables.as_of,
            since: self.since,
        }
    }

    /// How processes say that a target does beside the others of its group.
    pub(crate) fn anomaly_of(&self, row: &ElbTarget) -> Anomaly {
        let key = key_of(row);
        let nodes = held(&self.nodes);
        let said = nodes.values().filter_map(|node| node.of(&key, row.registered_at));
        said.fold(Anomaly::default(), |all, it| all.or(it.anomaly))
    }

    /// Whether a node checks a target.
    pub(crate) fn is_checked(&self, row: &ElbTarget) -> bool {
        let key = key_of(row);
        held(&self.nodes).values().any(|node| {
            node.targets.get(&key).is_some_and(|it| it.registered_at == row.registered_at)
        })
    }
}

/// How reports name a target.
pub(crate) fn key_of(row: &ElbTarget) -> TargetName {
    let group = GroupId(arn(&row.scope, "targetgroup", &row.id.group));
    (group, row.id.target.to_string(), row.id.port)
}

/// The private key of a certificate; none of one that does not open, which is said.
pub(crate) fn open_key(control: &Control, view: &View, row: &AcmCertificate) -> Option<String> {
    let said = |error: &ApiError| {
        warn!(certificate = %row.arn(), error = ?error, "certificate cannot be opened");
    };
    control.certificate_key(view, row).inspect_err(said).ok().map(|key| key.to_string())
}

/// Makes the table whenever rows that it is made of have changed.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) control: Arc<Control>,
    pub(crate) feed: Arc<Feed>,
}

/// Whether an account has targets that are what its tasks publish.
fn publishes(view: &View, account: AccountId) -> bool {
    view.elb_groups.of(account).any(|group| group.targets == GroupTargets::Instance)
}

/// Whether a task that may have its host since now is a target: it is reached by where that is.
fn is_placed(view: &View, account: AccountId, id: &TaskId) -> bool {
    let task = view.tasks.get(account, id).filter(|task| task.phase < Phase::Running);
    let address = task.and_then(|task| task.interface.as_ref()).map(|it| it.address);
    address.is_some_and(|address| view.elb_targets.of(account).any(|row| row.address == address))
}

/// Whether a port of a machine that serves may be a task's from now on, or no more.
fn takes_port(view: &View, account: AccountId, id: &TaskId) -> bool {
    let task = view.tasks.get(account, id).filter(|task| !task.need.ports.is_empty());
    task.is_some_and(|task| task.instance.is_some()) && view.elb_balancers.iter().next().is_some()
}

/// Whether a row is of balancers and what they forward to.
pub(crate) fn leads_somewhere(key: &Key) -> bool {
    matches!(
        key,
        Key::ElbBalancer(..) | Key::ElbGroup(..) | Key::ElbListener(..) | Key::ElbRule(..)
    )
}

impl Reconciler for Publisher {
    type Key = NowAndThen;
    type Note = ();
    type Error = Infallible;

    fn name(&self) -> &'static str {
        "balancer-tables"
    }

    fn wake(&mut self, view: &View, change: &RowChange, queue: &mut Queue<NowAndThen>) {
        let is_part = match &change.key {
            key if leads_somewhere(key) => true,
            Key::ElbTarget(..) | Key::AcmCertificate(..) | Key::VpcEndpoint(..) => true,
            Key::SecurityGroup(account, id) => {
                view.elb_balancers.of(*account).any(|row| row.security_groups.contains(id))
            }
            Key::PrefixList(account, _) => view.elb_balancers.of(*account).next().is_some(),
            // A target's address may be another's from now on.
            Key::Interface(_, id) => {
                let is_its = |row: &Arc<ElbTarget>| row.address == id.address;
                id.vpc.is_none() && view.elb_targets.iter().any(is_its)
            }
            // What tasks publish on the machine is what may be reached there.
            Key::ContainerInstance(account, _) => publishes(view, *account),
            Key::Task(account, id) => {
                publishes(view, *account)
                    || is_placed(view, *account, id)
                    || takes_port(view, *account, id)
            }
            _ => false,
        };
        if is_part {
            queue.changed(&NowAndThen, change.seq);
        }
    }

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, Infallible>> {
        let (control, feed) = (Arc::clone(&self.control), Arc::clone(&self.feed));
        Box::pin(async move {
            let view = control.view();
            publish(&control, &feed, &view);
            if let Err(error) = health::finish(&control, &feed).await {
                warn!(error = %Chain(&error), "what has drained was not taken away");
            }
            let rests_until = control.clock.now().plus_ms(REST_MS);
            Ok(Pass { looked_at: view.seq, rests_until, ..Pass::default() })
        })
    }
}

/// Gives out what the processes must know as of a view.
pub(crate) fn publish(control: &Control, feed: &Feed, view: &View) {
    let open_key = |view: &View, row: &AcmCertificate| open_key(control, view, row);
    let is_own = |row: &Instance| control.access.is_of_own_machine(row);
    let cookie_key = |arn: &str| control.access.balancer_cookie_key(arn);
    let means = compile::Means { open_key: &open_key, is_own: &is_own, cookie_key: &cookie_key };
    let is_there = |name: &TargetName| health::row_of(view, name).is_some();
    feed.publish(view.seq.0.max(1), tables(view, means, feed.readers()), &is_there);
}

/// The tables of all hosts with interfaces of balancers, of those that had one, and of the region's own machine.
pub(crate) fn tables(
    view: &View,
    means: compile::Means<'_>,
    readers: Vec<Host>,
) -> BTreeMap<Host, Table> {
    // However many hosts show a certificate, its key is opened once.
    let opened: RefCell<BTreeMap<String, Option<String>>> = RefCell::default();
    let open_key = |view: &View, row: &AcmCertificate| {
        let mut opened = opened.borrow_mut();
        opened.entry(row.arn()).or_insert_with(|| (means.open_key)(view, row)).clone()
    };
    let means = compile::Means { open_key: &open_key, ..means };
    let zones = view.elb_balancers.iter().flat_map(|row| row.interfaces());
    let is_there = |host: &Host| host.is_none_or(|id| view.instance_of_any(id).is_some());
    // Who served before is told that it does no more.
    let readers = readers.into_iter().filter(is_there);
    let hosts: BTreeSet<Host> =
        zones.map(|zone| zone.stand.host).chain([None]).chain(readers).collect();
    hosts.into_iter().map(|host| (host, compile::table(view, &means, host))).collect()
}
