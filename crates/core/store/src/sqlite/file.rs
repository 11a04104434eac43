//! The file: its lock, how it is written, and reading it at the start.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use files::reserve::{self, Room};
use rusqlite::Connection;

use super::{OpenError, SqliteOptions, schema};
use crate::DISK_FULL_BYTES;

/// Held for as long as the store is open; the kernel lets go of it whatever happens to us.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Locks `<path>.lock`, and leaves our process id in it for whoever finds it taken.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let lock_path = with_suffix(path, ".lock");
        let failed = |source| OpenError::Lock { path: lock_path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let owner = match file.read_to_string(&mut owner) {
                    Ok(_) => Some(owner.trim().to_owned()).filter(|owner| !owner.is_empty()),
                    Err(_) => None,
                };
                return Err(OpenError::InUse { path: path.to_owned(), owner });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens the file, creates the tables if it is new, and sets how it is written.
pub(super) fn connect(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    schema::prepare(path, &mut connection)?;
    configure(&connection, options).map_err(failed)?;
    Ok(connection)
}

fn configure(connection: &Connection, options: &SqliteOptions) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(8);
    // FULL in WAL mode: the log is synced at every commit.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -8192;",
    )?;
    if let Some(pages_max) = options.pages_max {
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages_max};"))?;
    }
    Ok(())
}

/// Room for the log, which every commit is written to: nobody else gets it, and the log keeps it as long as
/// it is open.
#[derive(Debug)]
pub(super) struct LogReserve {
    log: File,
    is_taken: AtomicBool,
}

impl LogReserve {
    /// `None`, with a warning, where there can be none.
    pub(super) fn take(path: &Path) -> Option<Self> {
        let taken = File::options().write(true).open(with_suffix(path, "-wal")).and_then(|log| {
            let is_taken = AtomicBool::new(reserve::allocate_ahead(&log)?);
            Ok(Self { log, is_taken })
        });
        if let Err(error) = &taken {
            tracing::warn!(%error, "no room reserved for the store's log");
        }
        taken.ok()
    }

    /// Whether what the disk has left should be left to what cannot wait.
    pub(super) fn is_disk_full(&self) -> bool {
        if !self.is_taken.load(Ordering::Relaxed) {
            // There was none at the start.
            self.is_taken
                .store(reserve::allocate_ahead(&self.log).unwrap_or(false), Ordering::Relaxed);
        }
        Room::of(&self.log).is_ok_and(|room| room.free < DISK_FULL_BYTES)
    }
}
