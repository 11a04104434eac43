//! `longshore proxy`: the process by which the tasks of a host reach each other with Service Connect.
//!
//! The host's agent starts it as soon as there is a task that needs it ([`super::kept`]), and neither ends with the other. It
//! serves by a file that the agent writes as the region told it, so that it goes on whatever becomes of both.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use balancer::{Config, Feed, FeedError, Interfaces};
use files::whole::{self, Durability};
use futures_util::future::BoxFuture;
use network::connect;
use nix::unistd::setsid;
use routing::{InterfaceRef, Report, Update};
use tokio::time::Instant;
use tracing::info;
use traffic::connect::{ConnectFigures, ConnectTable};

use crate::cli::ProxyArgs;
use crate::commands::{agent, kept};
use crate::data_dir::{DataDir, Role};
use crate::error::Error;

/// What the process keeps, in the agent's directory.
const PROXY_DIR: &str = "agent/proxy";
/// How often the file is looked at: that is one `stat`.
const LOOK: Duration = Duration::from_millis(20);
/// How often figures are told anew.
const FIGURES_PAUSE: Duration = Duration::from_secs(5);
/// How soon the network of a task is looked for that is about to be made: its containers come right after it.
const MISSING_WAIT: Duration = Duration::from_millis(20);

pub(crate) async fn run(data: &DataDir, args: &ProxyArgs) -> Result<(), Error> {
    // Not with the session of the agent that started it, nor of the shell that started that.
    let _ = setsid();
    let state_dir = data.root().join(PROXY_DIR);
    let tenure = kept::tenure(data, (Role::Proxy, args.tenure), &state_dir)?;
    let run_dir = agent::run_dir(data)?;
    let config = Config {
        logs_dir: state_dir.join("access-logs"),
        state_dir,
        region: String::new(),
        node: "proxy".to_owned(),
        local: None,
        interfaces: Arc::new(TaskInterfaces(run_dir.clone())),
        doors: Arc::new(kept::NoDoors),
        missing_wait: MISSING_WAIT,
    };
    let (read, figures) = (Mutex::default(), Mutex::default());
    let line = Arc::new(Line { run_dir: run_dir.clone(), read, figures });
    info!("proxy ready");
    let mut clients = Clients::new(&run_dir);
    kept::serve_while_needed(config, tenure, line, || clients.are_there()).await
}

fn load(run_dir: &Path) -> Option<ConnectTable> {
    let read = whole::read_json::<ConnectTable>(&connect::table_file(run_dir));
    read.and_then(whole::Found::value).ok().flatten()
}

/// Whether tasks of the host are in a namespace, from the file, which is read again once it was written.
#[derive(Debug)]
struct Clients {
    run_dir: PathBuf,
    seen: Option<Stamp>,
    are_there: bool,
}

impl Clients {
    fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned(), seen: None, are_there: false }
    }

    fn are_there(&mut self) -> bool {
        let now = stamp(&self.run_dir);
        if now != self.seen {
            self.seen = now;
            self.are_there = load(&self.run_dir).is_some_and(|table| !table.clients.is_empty());
        }
        self.are_there
    }
}

/// What tells one writing of the file from another: its time alone has steps in which there are several.
type Stamp = (Option<SystemTime>, u64, u64);

fn stamp(run_dir: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(connect::table_file(run_dir)).ok()?;
    Some((meta.modified().ok(), meta.ino(), meta.len()))
}

/// The networks of tasks, as the machine's agent makes them.
#[derive(Debug)]
struct TaskInterfaces(PathBuf);

impl Interfaces for TaskInterfaces {
    fn lead_egress(&self) -> io::Result<SocketAddr> {
        connect::lead_egress().map_err(io::Error::other)
    }

    fn lead_ingress(&self, from: SocketAddr, to: SocketAddr) -> io::Result<()> {
        match (from, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                connect::lead_ingress(from, to).map_err(io::Error::other)
            }
            // Tasks are found by IPv4 addresses.
            (SocketAddr::V6(_), _) | (_, SocketAddr::V6(_)) => {
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    fn namespace(&self, interface: &InterfaceRef) -> PathBuf {
        kept::namespace(interface, |task, vpc| connect::task_namespace(&self.0, task, vpc))
    }
}

/// The agent, by the files between the two.
#[derive(Debug)]
struct Line {
    run_dir: PathBuf,
    /// The writing of the file that was read last, and the version it holds; none: it cannot be read. It is large, and
    /// looked at again and again.
    read: Mutex<Option<(Stamp, Option<u64>)>>,
    /// The figures that were told last, and when.
    figures: Mutex<Option<(Instant, Vec<ConnectFigures>)>>,
}

impl Line {
    /// The figures that are told: those of the last time, unless that is a while ago. What is held changes with each request.
    fn told_figures(&self, now: Vec<ConnectFigures>) -> Vec<ConnectFigures> {
        let mut told = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        match &*told {
            Some((at, figures)) if at.elapsed() < FIGURES_PAUSE => figures.clone(),
            Some(_) | None => {
                *told = Some((Instant::now(), now.clone()));
                now
            }
        }
    }

    /// What the file says, unless that is the version that is served.
    fn news(&self, version: u64) -> Option<ConnectTable> {
        let now = stamp(&self.run_dir)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, held)) = *read
            && seen == now
            && held.is_none_or(|held| held == version)
        {
            return None;
        }
        let table = load(&self.run_dir);
        *read = Some((now, table.as_ref().map(|table| table.version)));
        table.filter(|table| table.version != version)
    }
}

impl Feed for Line {
    fn read(&self, version: u64, wait: Duration) -> BoxFuture<'_, Result<Update, FeedError>> {
        Box::pin(async move {
            let end = Instant::now() + wait;
            loop {
                if let Some(table) = self.news(version) {
                    return Ok(Update::Whole(balancer::connect::table(&table)));
                }
                if end <= Instant::now() {
                    return Ok(Update::Unchanged);
                }
                tokio::time::sleep(LOOK.min(end.saturating_duration_since(Instant::now()))).await;
            }
        })
    }

    fn report(&self, report: Report) -> BoxFuture<'_, Result<(), FeedError>> {
        let path = connect::report_file(&self.run_dir);
        Box::pin(async move {
            let failed = |source: io::Error| FeedError {
                doing: "report what is held",
                source: Box::new(source),
            };
            let mut report = balancer::connect::report(&report);
            report.figures = self.told_figures(report.figures);
            let text = serde_json::to_vec(&report);
            let text = text.map_err(|error| failed(error.into()))?;
            let write = move || whole::write(&path, &text, Durability::DiesWithTheMachine);
            let written = tokio::task::spawn_blocking(write).await;
            written.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)
        })
    }
}

/// What says whether tasks of the host are in a namespace, for whoever has the process run.
pub(super) fn is_wanted(run_dir: &Path) -> impl FnMut() -> bool + use<> {
    let mut clients = Clients::new(run_dir);
    move || clients.are_there()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_written_twice_within_one_step_of_the_clock_was_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = connect::table_file(dir.path());
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(stamp(dir.path()), None);
        let [first, second] = ["{\"version\":1}", "{\"version\":2}"].map(|text| {
            whole::write(&path, text.as_bytes(), Durability::DiesWithTheMachine).unwrap();
            // Held open, it gives its number to no other file.
            let file = std::fs::File::open(&path).unwrap();
            file.set_modified(at).unwrap();
            (stamp(dir.path()), file)
        });
        assert_ne!(first.0, second.0);
    }

    #[test]
    fn who_is_there_is_read_again_once_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = connect::table_file(dir.path());
        let mut clients = Clients::new(dir.path());
        assert!(!clients.are_there(), "nothing was written");
        let mut table = ConnectTable::default();
        let task: longshore_types::TaskId = format!("{:032x}", 1).parse().unwrap();
        let client = traffic::connect::ConnectClient {
            task,
            account: "000000000000".parse().unwrap(),
            namespace: "ns-1".to_owned(),
            service: None,
            address: [172, 31, 0, 4].into(),
            vpc: None,
        };
        table.clients.insert(task, client);
        for (table, is_there) in [(table, true), (ConnectTable::default(), false)] {
            let text = serde_json::to_vec(&table).unwrap();
            whole::write(&path, &text, Durability::DiesWithTheMachine).unwrap();
            assert_eq!((clients.are_there(), clients.are_there()), (is_there, is_there));
        }
    }

    #[test]
    fn a_file_that_holds_what_is_served_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (read, figures) = (Mutex::default(), Mutex::default());
        let line = Line { run_dir: dir.path().to_owned(), read, figures };
        let path = connect::table_file(dir.path());
        // Unseen: at the same time, in the same file and of the same length.
        let put = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        };
        let news = |version| line.news(version).map(|table| table.version);
        assert_eq!(news(0), None);
        put("{\"version\":1}");
        assert_eq!((news(0), news(1)), (Some(1), None));
        put("{\"version\":2}");
        assert_eq!(news(1), None);
        assert_eq!((news(0), news(2)), (Some(2), None), "whoever serves by none has it read");
        put("{\"version\":3");
        assert_eq!(news(2), None, "it is torn");
        put("{\"version\":3}  ");
        assert_eq!(news(2), Some(3));
    }
}
