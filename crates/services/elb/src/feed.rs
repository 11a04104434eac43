//! What balancers' processes read, and what they said last.
//!
//! The table is made anew whenever rows of load balancing changed, and given out as what changed since the version that
//! a process has. Both are in memory alone: a process that asks anew, or says again what it sees, makes good whatever a
//! restart lost.
//!
//! **Invariant:** a table's version is the commit that it was made from, so that a version which is at least a row's
//! commit has that row.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, TaskId, Timestamp};
use model::elb::{GroupTargets, arn};
use model::task::Phase;
use model::{AcmCertificate, ElbTarget, Instance, Key, View};
use routing::{Change, GroupId, Report, Table, TargetReport, Update};
use store::Change as RowChange;
use tokio::sync::watch;
use tracing::warn;

use crate::compile;
use crate::limits::NODES_MAX;

/// Tables that are remembered, so that a process is told only what changed.
const TABLES_MAX: usize = 32;
/// After a table was made the next is not made before this: changes that come together are told together.
const REST_MS: u64 = 5;
/// A node that was silent for so long is forgotten. Until then what it may have in flight is waited for.
const NODE_FORGOTTEN_MS: u64 = 15 * 60_000;

/// A node's last report.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) version: u64,
    pub(crate) at: Timestamp,
    pub(crate) targets: BTreeMap<(GroupId, String, u16), TargetReport>,
    pub(crate) local: Vec<(routing::ListenerId, std::net::SocketAddr)>,
}

/// By the names that nodes gave themselves.
pub(crate) type Nodes = BTreeMap<String, Arc<Node>>;

/// See the module's words.
#[derive(Debug)]
pub struct Feed {
    tables: Mutex<VecDeque<Arc<Table>>>,
    latest: watch::Sender<u64>,
    nodes: Mutex<Nodes>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { tables: Mutex::default(), latest: watch::Sender::new(0), nodes: Mutex::default() }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// Gives out a table from now on, unless nothing but its version differs from the last.
    pub(crate) fn publish(&self, table: Table) {
        let mut tables = held(&self.tables);
        if let Some(last) = tables.back() {
            let is_same = last.balancers == table.balancers
                && last.groups == table.groups
                && last.certificates == table.certificates
                && last.endpoints == table.endpoints;
            if is_same || table.version <= last.version {
                return;
            }
        }
        let version = table.version;
        tables.push_back(Arc::new(table));
        if TABLES_MAX < tables.len() {
            tables.pop_front();
        }
        drop(tables);
        self.latest.send_replace(version);
    }

    /// What changed since `version`, of which 0 is none: at once if something did, else after `wait`.
    pub async fn read(&self, version: u64, wait: Duration) -> Update {
        let mut latest = self.latest.subscribe();
        let is_news = |latest: &u64| *latest != 0 && *latest != version;
        match tokio::time::timeout(wait, latest.wait_for(is_news)).await {
            Ok(Ok(_)) => self.since(version),
            Ok(Err(_)) | Err(_) => Update::Unchanged,
        }
    }

    fn since(&self, version: u64) -> Update {
        let tables = held(&self.tables);
        let Some(last) = tables.back() else { return Update::Unchanged };
        match tables.iter().find(|table| table.version == version) {
            Some(known) => Update::Change(Change::between(known, last)),
            None => Update::Whole(Table::clone(last)),
        }
    }

    /// Takes in what a node sees.
    pub(crate) fn note(&self, report: Report, now: Timestamp) {
        let targets = report.targets.into_iter().map(|target| {
            ((target.group.clone(), target.target.id.clone(), target.target.port), target)
        });
        let node = Node {
            version: report.version,
            at: now,
            targets: targets.collect(),
            local: report.local,
        };
        let mut nodes = held(&self.nodes);
        nodes.retain(|_, node| now.since_ms(node.at) < NODE_FORGOTTEN_MS);
        if nodes.len() < NODES_MAX || nodes.contains_key(&report.node) {
            nodes.insert(report.node, Arc::new(node));
        }
    }

    pub(crate) fn nodes(&self) -> Nodes {
        held(&self.nodes).clone()
    }

    /// Whether a node checks a target.
    pub(crate) fn is_checked(&self, row: &ElbTarget) -> bool {
        let key = key_of(row);
        held(&self.nodes).values().any(|node| {
            node.targets.get(&key).is_some_and(|it| it.registered_at == row.registered_at)
        })
    }

    /// Where a listener is reached from the machine itself.
    pub fn local(&self, listener: &str) -> Option<std::net::SocketAddr> {
        let nodes = held(&self.nodes);
        let mut all = nodes.values().flat_map(|node| &node.local);
        all.find(|(id, _)| id.0 == listener).map(|(_, address)| *address)
    }
}

/// How reports name a target.
pub(crate) fn key_of(row: &ElbTarget) -> (GroupId, String, u16) {
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

impl Reconciler for Publisher {
    type Key = NowAndThen;
    type Note = ();
    type Error = Infallible;

    fn name(&self) -> &'static str {
        "balancer-tables"
    }

    fn wake(&mut self, view: &View, change: &RowChange, queue: &mut Queue<NowAndThen>) {
        let is_part = match &change.key {
            Key::ElbBalancer(..)
            | Key::ElbGroup(..)
            | Key::ElbListener(..)
            | Key::ElbRule(..)
            | Key::ElbTarget(..)
            | Key::AcmCertificate(..)
            | Key::VpcEndpoint(..) => true,
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
            Key::Task(account, id) => publishes(view, *account) || is_placed(view, *account, id),
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
            let open_key = |view: &View, row: &AcmCertificate| open_key(&control, view, row);
            let is_own = |row: &Instance| control.access.is_of_own_machine(row);
            feed.publish(compile::table(&view, &open_key, &is_own));
            let rests_until = control.clock.now().plus_ms(REST_MS);
            Ok(Pass { looked_at: view.seq, rests_until, ..Pass::default() })
        })
    }
}
