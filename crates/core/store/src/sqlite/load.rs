//! Reading the file at the start: of each row its last version, into a view.
//!
//! The newest entry is read first, so that what is garbage is known to be and is not looked into. This thread
//! reads and makes the view, others read the JSON: that is most of the work.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use model::task::Sharing;
use model::{Kind, Row, Seq, View};
use rusqlite::Connection;

use super::OpenError;
use super::log::{Fingerprints, Log};

/// Rows that are handed on together.
const ROWS_TOGETHER: usize = 256;
/// Such handfuls that wait to be taken.
const WAITING_MAX: usize = 8;
/// Threads that read JSON.
const READERS: usize = 2;

/// A row's last version as it lies in the file.
struct Stored {
    kind: Kind,
    id: String,
    seq: Seq,
    value: String,
}

type Rows = Result<Vec<(Seq, Row)>, OpenError>;

/// Reads every row into a view.
pub(super) fn load(path: &Path, connection: &Connection) -> Result<(View, Log), OpenError> {
    let (stored, taken) = sync_channel::<Vec<Stored>>(WAITING_MAX);
    let taken = Mutex::new(taken);
    thread::scope(|threads| {
        let (read, rows) = sync_channel::<Rows>(WAITING_MAX);
        for _ in 0..READERS {
            let (taken, read) = (&taken, read.clone());
            threads.spawn(move || parse(path, taken, &read));
        }
        drop(read);
        let builder = threads.spawn(move || build(&rows));
        let scanned = scan(path, connection, stored);
        let view = builder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (log, seq) = scanned?;
        let mut view = view?;
        view.seq = view.seq.max(seq);
        Ok((view, log))
    })
}

/// Finds each row's last version. Says which entries there are, and the latest commit among them.
fn scan(
    path: &Path,
    connection: &Connection,
    found: SyncSender<Vec<Stored>>,
) -> Result<(Log, Seq), OpenError> {
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let names = Fingerprints::default();
    let (mut last, mut removed) = (HashMap::new(), Vec::new());
    let (mut oldest, mut next, mut seq) = (1, 1, Seq(0));
    let mut together = Vec::with_capacity(ROWS_TOGETHER);
    let mut statement = connection
        .prepare("SELECT n, kind, account, id, seq, value FROM log ORDER BY n DESC")
        .map_err(failed)?;
    let mut entries = statement.query([]).map_err(failed)?;
    while let Some(entry) = entries.next().map_err(failed)? {
        let text = |at: usize| {
            let value = entry.get_ref(at)?;
            value.as_str_or_null().map_err(rusqlite::Error::from)
        };
        let text = |at: usize| text(at).map_err(failed);
        let number: i64 = entry.get(0).map_err(failed)?;
        (oldest, next) = (number, next.max(number + 1));
        let written: i64 = entry.get(4).map_err(failed)?;
        let written = Seq(u64::try_from(written).unwrap_or(0));
        seq = seq.max(written);
        let (kind, id) = (text(1)?.unwrap_or_default(), text(3)?.unwrap_or_default());
        let row = names.of(kind, text(2)?.unwrap_or_default(), id);
        let Entry::Vacant(free) = last.entry(row) else { continue };
        free.insert(number);
        let Some(value) = text(5)? else {
            removed.push(row);
            continue;
        };
        let Some(kind) = Kind::from_name(kind) else {
            let (kind, id) = (kind.to_owned(), id.to_owned());
            return Err(OpenError::UnknownKind { path: path.to_owned(), kind, id });
        };
        let (id, value) = (id.to_owned(), value.to_owned());
        together.push(Stored { kind, id, seq: written, value });
        if together.len() == ROWS_TOGETHER {
            // Whoever takes them has gone if one could not be read: that is told by the view.
            if found.send(std::mem::take(&mut together)).is_err() {
                break;
            }
        }
    }
    let _ = found.send(together);
    for row in removed {
        last.remove(&row);
    }
    Ok((Log::of(names, last, oldest, next), seq))
}

fn parse(path: &Path, taken: &Mutex<Receiver<Vec<Stored>>>, read: &SyncSender<Rows>) {
    let mut sharing = Sharing::default();
    loop {
        let stored = match taken.lock() {
            Ok(taken) => taken.recv(),
            Err(_) => return,
        };
        let Ok(stored) = stored else { return };
        let rows = stored.into_iter().map(|stored| {
            let Stored { kind, id, seq, value } = stored;
            match Row::from_json(kind, &value) {
                Ok(row) => Ok((seq, row.shared(&mut sharing))),
                Err(source) => {
                    let kind = kind.name().to_owned();
                    Err(OpenError::BadRow { path: path.to_owned(), kind, id, source })
                }
            }
        });
        if read.send(rows.collect()).is_err() {
            return;
        }
    }
}

fn build(rows: &Receiver<Rows>) -> Result<View, OpenError> {
    let mut view = View::default();
    let mut failed = None;
    // To the end, also after a failure: those who read must not wait for ever.
    for read in rows {
        match read {
            Ok(rows) if failed.is_none() => {
                for (seq, row) in rows {
                    view.put(seq, &row);
                    view.seq = view.seq.max(seq);
                }
            }
            Ok(_) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(view), Err)
}
