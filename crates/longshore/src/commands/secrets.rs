//! `longshore secrets`: the key that secrets are kept under, where it is and how another takes its place.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use control::keyring::{ROOT_KEY_FILE, parse};
use control::{Control, Parts, RootKeys};
use longshore_types::{Chain, OsIds, SystemClock, Token};
use region::region::STORE_FILE;
use region::{Config, Keys, RootKeySource};
use serde::Deserialize;
use store::{SqliteOptions, SqliteStore, Store as _};

use crate::cli::{RootKeyArgs, RotateRoot};
use crate::commands::connect;
use crate::data_dir::{DataDir, Role};
use crate::error::Error;
use crate::logging::tell;

const VARIABLE: &str = "LONGSHORE_ROOT_KEY";
const NEW_VARIABLE: &str = "LONGSHORE_NEW_ROOT_KEY";
const COMMAND: &str = "the command of --root-key-command";
const NEW_COMMAND: &str = "the command of --new-root-key-command";

/// Where the root key is; a command is run for it.
pub(crate) fn source(args: &RootKeyArgs) -> Result<RootKeySource, Error> {
    if let Some(path) = &args.root_key_file {
        return Ok(RootKeySource::File(path.clone()));
    }
    if let Some(command) = &args.root_key_command {
        return Ok(RootKeySource::Given { key: printed_by(command, COMMAND)?, from: COMMAND });
    }
    Ok(match args.given() {
        Some(key) => RootKeySource::Given { key, from: VARIABLE },
        None => RootKeySource::DataDir,
    })
}

/// What a shell command prints. Its errors go where ours do.
fn printed_by(command: &str, what: &'static str) -> Result<Token, Error> {
    let shell = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = shell.map_err(Error::io("run the root key's command"))?;
    if !output.status.success() {
        return Err(Error::Refused(format!("{what} failed: {}", output.status)));
    }
    let text = String::from_utf8(output.stdout);
    text.map(Token::from_text).map_err(|_| Error::Refused(format!("{what} printed no text")))
}

/// What a running region answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rotated {
    root_key: String,
    rewrapped: usize,
}

pub(crate) async fn rotate_root(data: &DataDir, args: &RotateRoot) -> Result<(), Error> {
    // Whoever holds the store has the old key in mind: a region that runs does it itself, with a key that it draws.
    let is_plain = args.is_plain();
    if is_plain && data.running_region().is_ok() {
        let Rotated { root_key, rewrapped } = connect(data)?.rotate_root().await?;
        tell!("{rewrapped} keys are wrapped by the new root key {root_key}");
        return Ok(());
    }
    let _lock = data.take(Role::Region)?;
    let (dir, ids) = (data.root(), OsIds);
    let (source, new) = (source(&args.root_key)?, new_key(args)?);
    let refused = |why| Error::Refused(Chain(&why).to_string());
    let store = SqliteStore::open(&dir.join(STORE_FILE), &SqliteOptions::default());
    let store = store.map_err(Error::other("open the store"))?;
    let new = match new {
        Some((key, place)) => Some(parse(place, key.reveal()).map_err(refused)?),
        None => None,
    };
    let is_elsewhere = new.is_some();
    // That the old key is right is known before anything is written.
    let view = store.durable();
    RootKeys::load_with(&source, new.clone(), dir, &view, &ids).map_err(refused)?;
    if !is_elsewhere {
        let file = match &source {
            RootKeySource::DataDir => dir.join(ROOT_KEY_FILE),
            RootKeySource::File(path) => path.clone(),
            RootKeySource::Given { .. } => {
                return Err(Error::message(format!(
                    "say where the new root key is: --new-root-key-file, --new-root-key-command or {NEW_VARIABLE}"
                )));
            }
        };
        RootKeys::begin_change(&file, &ids).map_err(refused)?;
    }
    let root_keys = RootKeys::load_with(&source, new, dir, &view, &ids).map_err(refused)?;
    drop(view);
    let fingerprint = root_keys.fingerprint();
    let control = offline(dir, store, root_keys)?;
    let rewrapped = control.finish_root_key_change().await;
    let rewrapped = rewrapped.map_err(Error::other("wrap keys by the new root key"))?;
    tell!("{rewrapped} keys are wrapped by the new root key {fingerprint}");
    if is_elsewhere {
        tell!("the next start must be told where it is; the old one opens nothing any more");
    }
    Ok(())
}

fn new_key(args: &RotateRoot) -> Result<Option<(Token, &'static str)>, Error> {
    if let Some(path) = &args.new_root_key_file {
        let text = std::fs::read_to_string(path).map_err(Error::io("read the new root key"))?;
        return Ok(Some((Token::from_text(text), "the file of --new-root-key-file")));
    }
    if let Some(command) = &args.new_root_key_command {
        return Ok(Some((printed_by(command, NEW_COMMAND)?, NEW_COMMAND)));
    }
    Ok(args.given().map(|key| (key, NEW_VARIABLE)))
}

/// The core of a region that serves nobody.
fn offline(dir: &Path, store: SqliteStore, root_keys: RootKeys) -> Result<Control, Error> {
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(OsIds));
    let name = "us-east-1".parse().expect("it is the name of a region");
    let config = Config::new(name, ([127, 0, 0, 1], 0).into(), dir.to_owned());
    let keys = Keys::load(dir).map_err(Error::other("read the region's keys"))?;
    let store = Arc::new(store);
    Ok(Control::new(config, Parts { store, clock, ids, keys, root_keys }))
}
