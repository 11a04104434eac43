//! Commits to a store under load until it is killed: `committer FILE ROUND`.
//!
//! Each commit writes a cluster and the setting that belongs to it, and moves a counter that all
//! workers share. A line `WORKER COMMIT` on standard output says that it was acknowledged.

#![allow(clippy::disallowed_methods, reason = "what runs beside it ends with the process")]

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use store::{Batch, SqliteOptions, SqliteStore, Store};
use testkit::rows;

const WORKERS: usize = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, round] = arguments.as_slice() else {
        eprintln!("usage: committer FILE ROUND");
        return ExitCode::from(2);
    };
    let store = match SqliteStore::open(Path::new(file), &SqliteOptions::default()) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("open");
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| tokio::spawn(work(Arc::clone(&store), format!("{round}-{worker}"))))
            .collect();
        for worker in workers {
            let _ = worker.await;
        }
    });
    ExitCode::FAILURE
}

/// Goes on until the process is killed, or its reader is.
async fn work(store: Arc<SqliteStore>, worker: String) {
    for n in 0u64.. {
        let name = format!("{worker}-{n}");
        loop {
            let view = store.latest();
            let mut batch = Batch::on(&view);
            batch.put(rows::cluster(&name));
            batch.put(rows::setting(&name, "pair"));
            batch.put(rows::setting("count", &(count(&view) + 1).to_string()));
            match store.commit(batch).await {
                Ok(_) => break,
                Err(error) if error.is_stale() => {}
                Err(error) => {
                    eprintln!("{error}");
                    return;
                }
            }
        }
        // One write call a line: a line is there whole or not at all.
        if std::io::stdout().lock().write_all(format!("{name}\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn count(view: &model::View) -> u64 {
    let id = rows::setting("count", "").setting;
    let row = view.account_settings.get(rows::account(), &id);
    row.and_then(|row| row.value.parse().ok()).unwrap_or(0)
}
