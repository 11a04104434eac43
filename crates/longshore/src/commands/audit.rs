//! `longshore audit` and `longshore why-denied`: the audit log, for whoever owns the data directory.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use region::audit::{AUDIT_DIR, Filter, Line, Reader, find};

use crate::cli::{Audit, WhyDenied};
use crate::data_dir::DataDir;
use crate::error::Error;

/// How often the log is looked at while it is followed.
const LOOK: Duration = Duration::from_millis(200);

fn dir(data: &DataDir) -> PathBuf {
    data.root().join(AUDIT_DIR)
}

pub(crate) async fn run(data: &DataDir, args: Audit) -> Result<(), Error> {
    let dir = dir(data);
    if !dir.is_dir() {
        return Err(Error::NoRegion { path: data.root().to_owned() });
    }
    let Audit { follow, principal, action, denied, json } = args;
    let filter = Filter { principal, action, only_denied: denied };
    let mut reader = Reader::from_start(&dir).map_err(Error::io("read the audit log"))?;
    loop {
        let mut lines = Vec::new();
        let mut take = |line: Line| lines.extend(shown(&line, &filter, json));
        reader.read(&mut take).map_err(Error::io("read the audit log"))?;
        if !print(&lines).map_err(Error::io("print the audit log"))? || !follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether there is still somebody to print for.
fn print(lines: &[String]) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let written = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

fn shown(line: &Line, filter: &Filter, as_json: bool) -> Option<String> {
    match line {
        Line::Entry(entry) if !filter.wants(entry) => None,
        line if as_json => serde_json::to_string(line).ok(),
        Line::Entry(entry) => Some(format!("{} [{}]", entry.sentence(), entry.request_id)),
        Line::Lost { time, lost } => Some(format!(
            "{time}: {lost} requests before this are not in the log: too many came at once"
        )),
    }
}

pub(crate) fn why_denied(data: &DataDir, args: WhyDenied) -> Result<(), Error> {
    let dir = dir(data);
    if !dir.is_dir() {
        return Err(Error::NoRegion { path: data.root().to_owned() });
    }
    let id = args.request_id;
    let found = find(&dir, &id).map_err(Error::io("read the audit log"))?;
    let entry = found.ok_or_else(|| {
        let why = "it is not one of this region's, or its file was removed to make room, or it was one of \
                   an agent's own that was allowed";
        Error::message(format!("there is no request {id} in the audit log: {why}"))
    })?;
    println!("{}", entry.sentence());
    Ok(())
}
