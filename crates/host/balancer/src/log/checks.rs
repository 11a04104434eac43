//! Health check logs of application balancers: a line for each check of a target.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use longshore_types::Timestamp;
use routing::{Action, CheckProtocol, GroupId, Outcome, Table};

use super::{FileKey, Kind, LogSink, time};

/// The files in which checks of the targets of a group are told of.
pub(crate) type CheckLogs = BTreeMap<GroupId, Vec<FileKey>>;

/// Those that a table's balancers ask for.
pub(crate) fn check_logs(table: &Table) -> CheckLogs {
    let mut all = CheckLogs::new();
    for balancer in table.balancers.values() {
        let Some(logs) = &balancer.attributes.health_check_logs else { continue };
        let node =
            balancer.interfaces.first().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |it| it.address);
        let file = FileKey::new(Kind::Checks, logs, balancer, node);
        for rule in balancer.listeners.iter().flat_map(|listener| &listener.rules) {
            let Action::Forward { groups, .. } = &rule.action else { continue };
            for each in groups {
                let files = all.entry(each.group.clone()).or_default();
                if !files.contains(&file) {
                    files.push(file.clone());
                }
            }
        }
    }
    all
}

/// A check that was made.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) protocol: CheckProtocol,
    pub(crate) begun: Timestamp,
    pub(crate) took: Duration,
    pub(crate) target: SocketAddr,
    pub(crate) group: &'a GroupId,
    pub(crate) outcome: Outcome,
    /// What the target answered with.
    pub(crate) code: Option<u16>,
}

impl Checked<'_> {
    pub(crate) fn log(&self, sink: &LogSink, files: &[FileKey]) {
        if files.is_empty() {
            return;
        }
        let line = self.line();
        for file in files {
            sink.write(file.clone(), line.clone());
        }
    }

    fn line(&self) -> String {
        let kind = match self.protocol {
            CheckProtocol::Https => "https",
            CheckProtocol::Http | CheckProtocol::Tcp | CheckProtocol::None => "http",
        };
        let (status, reason) = match self.outcome {
            Outcome::Passed => ("PASS", "-"),
            Outcome::Code(_) => ("FAIL", "ResponseCodeMismatch"),
            Outcome::TimedOut => ("FAIL", "RequestTimedOut"),
            Outcome::Failed => ("FAIL", "TargetError"),
        };
        // By its name, as Amazon's: `…:targetgroup/web/73e2d6bc24d8a067`.
        let group = self.group.0.split('/').nth(1).unwrap_or(&self.group.0);
        let code = self.code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        format!(
            "{kind} {} {:.9} {} {group} {status} {code} {reason}",
            time(self.begun),
            self.took.as_secs_f64(),
            self.target,
        )
    }
}
