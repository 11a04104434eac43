//! The region's root key: where it is, whether it is the right one, and how another takes its place.
//!
//! It wraps the material of KMS keys, the keys that seal users' secret access keys and the one that hosts' keys follow from,
//! which are rows; so a copy of the
//! rows opens no secret. In a file it is made at the first start. Once rows are wrapped by a root key, no start makes another.
//!
//! To change it, the next key is written beside the file, every row is wrapped anew, and the file is replaced. Whoever
//! is stopped in between is gone on with at the next start, which knows both. A region that runs does the same: from when
//! it has the next key in memory every decision wraps by it, and each one of before is seen by those that wrap anew.
//!
//! **Invariant:** a file that holds a root key is replaced only once no row needs what was in it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use aws_wire::ApiError;
use files::whole::{self, Durability, Found};
use longshore_types::{IdSource, Token};
use model::{IamAccessKey, KmsKey, View};
use store::Batch;
pub use vault::RootKey;
use vault::{DataKey, Fingerprint, NotARootKey, Unwrap};

use crate::Control;
use crate::kms::material_bound_to;

/// The file's name within the data directory.
pub const ROOT_KEY_FILE: &str = "root.key";
/// Keys that are wrapped anew in one commit.
const REWRAPPED_MAX: usize = 100;

/// Where the root key is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RootKeySource {
    /// `root.key` in the data directory.
    #[default]
    DataDir,
    File(PathBuf),
    /// It was handed over; `from` says how, as in "the environment variable …".
    Given {
        key: Token,
        from: &'static str,
    },
}

/// Why there is no root key to work with. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    #[error("failed to read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{place} holds no root key: {source}")]
    NotAKey { place: String, source: NotARootKey },
    #[error(
        "{path} may be read by others (mode {mode:03o}); it opens every secret: chmod 600 {path}"
    )]
    Wide { path: PathBuf, mode: u32 },
    #[error(
        "{path} is missing, and {rows} keys in the store are wrapped by the root key {by}: put that file back, or \
         name the key by --root-key-file, --root-key-command or LONGSHORE_ROOT_KEY"
    )]
    Missing { path: PathBuf, rows: usize, by: String },
    #[error(
        "the region has its root key from {from}: stop it (longshore down --keep-tasks), and say where the new one is \
         by --new-root-key-file, --new-root-key-command or LONGSHORE_NEW_ROOT_KEY"
    )]
    Elsewhere { from: &'static str },
    #[error("failed to wrap keys by the new root key; the next start goes on with it")]
    Rows(#[source] ApiError),
    #[error(
        "{place} has the root key {found}, and {rows} keys in the store are wrapped by {by}: give that one"
    )]
    Other { place: String, found: Fingerprint, rows: usize, by: String },
}

/// A file whose key is being changed.
#[derive(Clone, Debug)]
struct Change {
    file: PathBuf,
    next: PathBuf,
}

/// The root key, and those that it is to take the place of.
#[derive(Clone, Debug)]
struct Held {
    /// Wraps.
    current: RootKey,
    /// Unwrap what was not wrapped anew yet.
    others: Vec<RootKey>,
    change: Option<Change>,
}

/// The root key as everybody has it who wraps and unwraps. Clones are of the same one.
#[derive(Clone, Debug)]
pub struct RootKeys(Arc<RwLock<Held>>);

impl RootKeys {
    pub fn of(current: RootKey) -> Self {
        Self::holding(current, Vec::new(), None)
    }

    fn holding(current: RootKey, others: Vec<RootKey>, change: Option<Change>) -> Self {
        Self(Arc::new(RwLock::new(Held { current, others, change })))
    }

    /// Wraps by `current` what `before` wrapped.
    pub(crate) fn changed(current: RootKey, before: &Self) -> Self {
        let before = before.held();
        let others = before.others.into_iter().chain([before.current]).collect();
        Self::holding(current, others, None)
    }

    /// As it is now.
    fn held(&self) -> Held {
        self.read().clone()
    }

    /// Reads the root key, or makes it in its file if nothing is wrapped yet.
    pub fn load(
        source: &RootKeySource,
        data_dir: &Path,
        view: &View,
        ids: &dyn IdSource,
    ) -> Result<Self, RootKeyError> {
        Self::load_with(source, None, data_dir, view, ids)
    }

    /// The same, where `new` is to take the place of what is read.
    pub fn load_with(
        source: &RootKeySource,
        new: Option<RootKey>,
        data_dir: &Path,
        view: &View,
        ids: &dyn IdSource,
    ) -> Result<Self, RootKeyError> {
        let wrapped = Wrapped::of(view);
        let keys = match source {
            RootKeySource::DataDir => in_file(&data_dir.join(ROOT_KEY_FILE), &wrapped, ids)?,
            RootKeySource::File(path) => in_file(path, &wrapped, ids)?,
            RootKeySource::Given { key, from } => Self::of(parse(from, key.reveal())?),
        };
        let keys = match new {
            Some(new) => Self::changed(new, &keys),
            None => keys,
        };
        let held = keys.held();
        let known: BTreeSet<Fingerprint> = held.all().map(RootKey::fingerprint).collect();
        if wrapped.by.is_subset(&known) {
            return Ok(keys);
        }
        let place = match source {
            RootKeySource::DataDir => data_dir.join(ROOT_KEY_FILE).display().to_string(),
            RootKeySource::File(path) => path.display().to_string(),
            RootKeySource::Given { from, .. } => (*from).to_owned(),
        };
        let found = held.current.fingerprint();
        Err(RootKeyError::Other { place, found, rows: wrapped.rows, by: wrapped.names() })
    }

    /// Writes a new key beside the one in a file: what is loaded from there next wraps by it.
    pub fn begin_change(path: &Path, ids: &dyn IdSource) -> Result<(), RootKeyError> {
        let next = next_to(path);
        match read(&next)? {
            // An earlier change goes on.
            Some(_) => Ok(()),
            None => write(&next, &RootKey::mint(ids)),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.read().current.fingerprint()
    }

    pub(crate) fn wrap(&self, ids: &dyn IdSource, bound_to: &[u8], key: &DataKey) -> String {
        self.read().current.wrap(ids, bound_to, key)
    }

    pub(crate) fn unwrap(&self, bound_to: &[u8], wrapped: &str) -> Result<DataKey, Unwrap> {
        let (held, by) = (self.read(), RootKey::wrapped_by(wrapped));
        let key = held.all().find(|key| by == Some(key.fingerprint()));
        key.unwrap_or(&held.current).unwrap(bound_to, wrapped)
    }

    /// Wraps by the key beside the file from now on, and knows the one of before.
    fn go_on_with(&self, next: Self) {
        let next = next.held();
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if next.current.fingerprint() == held.current.fingerprint() {
            return;
        }
        let before = std::mem::replace(&mut *held, next);
        held.others.extend(before.others.into_iter().chain([before.current]));
    }

    /// Nothing is wrapped by another key any more.
    fn forget_others(&self) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        held.others.clear();
        held.change = None;
    }
}

impl Held {
    fn all(&self) -> impl Iterator<Item = &RootKey> {
        std::iter::once(&self.current).chain(&self.others)
    }
}

/// What the rows need.
struct Wrapped {
    rows: usize,
    by: BTreeSet<Fingerprint>,
}

impl Wrapped {
    fn of(view: &View) -> Self {
        let materials = view.kms_keys.iter().flat_map(|key| &key.materials);
        let materials = materials.map(|material| material.wrapped.as_str());
        let secrets = view.iam_access_keys.iter().filter_map(|key| parts(&key.sealed_secret));
        let secrets: Vec<&str> = secrets.map(|(wrapped, _)| wrapped).collect();
        let tunnels: Vec<&str> = view.tunnel_secrets.iter().map(|it| it.wrapped.as_str()).collect();
        let rows = view.kms_keys.len() + secrets.len() + tunnels.len();
        let all = materials.chain(secrets).chain(tunnels);
        Self { rows, by: all.filter_map(RootKey::wrapped_by).collect() }
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.by.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

fn in_file(path: &Path, wrapped: &Wrapped, ids: &dyn IdSource) -> Result<RootKeys, RootKeyError> {
    let next = next_to(path);
    match (read(path)?, read(&next)?) {
        (Some(current), None) => Ok(RootKeys::of(current)),
        (before, Some(current)) => {
            let change = Change { file: path.to_owned(), next };
            Ok(RootKeys::holding(current, before.into_iter().collect(), Some(change)))
        }
        (None, None) if wrapped.rows == 0 => {
            let key = RootKey::mint(ids);
            write(path, &key)?;
            Ok(RootKeys::of(key))
        }
        (None, None) => {
            let (path, rows) = (path.to_owned(), wrapped.rows);
            Err(RootKeyError::Missing { path, rows, by: wrapped.names() })
        }
    }
}

fn next_to(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

/// The root key that a text is; `place` says where it is from.
pub fn parse(place: &str, text: &str) -> Result<RootKey, RootKeyError> {
    let refuse = |source| RootKeyError::NotAKey { place: place.to_owned(), source };
    RootKey::parse(text).map_err(refuse)
}

fn read(path: &Path) -> Result<Option<RootKey>, RootKeyError> {
    let failed = |source| RootKeyError::Read { path: path.to_owned(), source };
    let place = path.display().to_string();
    let found = whole::read(path, |bytes| {
        RootKey::parse(&String::from_utf8_lossy(bytes)).map_err(|why| why.to_string())
    });
    let key = match found.map_err(failed)? {
        Found::Missing => return Ok(None),
        Found::Torn { .. } => return Err(RootKeyError::NotAKey { place, source: NotARootKey }),
        Found::Whole(key) => key,
    };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    match mode & 0o077 {
        0 => Ok(Some(key)),
        _ => Err(RootKeyError::Wide { path: path.to_owned(), mode }),
    }
}

fn write(path: &Path, key: &RootKey) -> Result<(), RootKeyError> {
    let text = vault::Zeroizing::new(format!("{}\n", *key.text()));
    let written = whole::write(path, text.as_bytes(), Durability::Synced);
    written.map_err(|source| RootKeyError::Write { path: path.to_owned(), source })
}

impl Control {
    /// Puts a new root key in the place of the one in a file, while the region runs. Says which it is, and how many keys
    /// are wrapped by it.
    pub async fn change_root_key(&self) -> Result<(Fingerprint, usize), RootKeyError> {
        let path = match &self.config.root_key {
            RootKeySource::DataDir => self.config.data_dir.join(ROOT_KEY_FILE),
            RootKeySource::File(path) => path.clone(),
            RootKeySource::Given { from, .. } => return Err(RootKeyError::Elsewhere { from }),
        };
        // One after the other: the second would write over the first one's next key.
        let _turn = self.changing_root_key.lock().await;
        RootKeys::begin_change(&path, self.ids.as_ref())?;
        let wrapped = Wrapped::of(&self.view());
        self.root_keys.go_on_with(in_file(&path, &wrapped, self.ids.as_ref())?);
        let rewrapped = self.finish_root_key_change().await.map_err(RootKeyError::Rows)?;
        Ok((self.root_keys.fingerprint(), rewrapped))
    }

    /// Wraps anew what another root key than the current one wrapped, then puts the current one in the place
    /// of the one before. Says how many keys it wrapped; does nothing if no key is being changed.
    pub async fn finish_root_key_change(&self) -> Result<usize, ApiError> {
        let keys = self.root_keys.held();
        if keys.others.is_empty() && keys.change.is_none() {
            return Ok(0);
        }
        let mut rewrapped = 0;
        loop {
            let decided = self.decide(|view, _| {
                let mut batch = Batch::on(view);
                let stale = view.kms_keys.iter().filter(|key| self.needs_rewrapping(key));
                for key in stale.take(REWRAPPED_MAX) {
                    batch.put(self.rewrapped(key)?);
                }
                let stale = view.iam_access_keys.iter().filter(|key| self.is_stale(key));
                for key in stale.take(REWRAPPED_MAX) {
                    let mut next = IamAccessKey::clone(key);
                    next.sealed_secret = self.access.rewrap_secret(self.ids.as_ref(), key)?;
                    batch.put(next);
                }
                if let Some(next) = self.rewrapped_tunnel_secret(view)? {
                    batch.put(next);
                }
                let count = batch.len();
                Ok((batch, count))
            });
            match decided.await? {
                0 => break,
                count => rewrapped += count,
            }
        }
        if let Some(Change { file, next }) = &keys.change {
            let failed = |error| ApiError::fault("failed to replace the root key", error);
            write(file, &keys.current).map_err(failed)?;
            fs::remove_file(next)
                .map_err(|error| ApiError::fault("failed to remove the next root key", error))?;
            tracing::info!(key = %keys.current.fingerprint(), rewrapped, "root key changed");
        }
        self.root_keys.forget_others();
        Ok(rewrapped)
    }

    /// Brings users' secret access keys under the root key that were kept under `keys.json` before.
    pub async fn raise_access_keys(&self) -> Result<(), ApiError> {
        loop {
            let decided = self.decide(|view, _| {
                let mut batch = Batch::on(view);
                let older =
                    view.iam_access_keys.iter().filter(|key| parts(&key.sealed_secret).is_none());
                for key in older {
                    // What the file of keys does not open is of no use to anybody, and is left.
                    let Some(secret) = self.access.open_secret(key) else { continue };
                    let mut next = IamAccessKey::clone(key);
                    next.sealed_secret =
                        self.access.seal_secret(self.ids.as_ref(), &key.id, &secret);
                    batch.put(next);
                    if REWRAPPED_MAX <= batch.len() {
                        break;
                    }
                }
                let count = batch.len();
                Ok((batch, count))
            });
            match decided.await? {
                0 => return Ok(()),
                count => tracing::info!(count, "access keys brought under the root key"),
            }
        }
    }

    fn is_stale(&self, key: &IamAccessKey) -> bool {
        let current = Some(self.root_keys.fingerprint());
        let wrapped = parts(&key.sealed_secret).map(|(wrapped, _)| wrapped);
        wrapped.is_some_and(|wrapped| RootKey::wrapped_by(wrapped) != current)
    }

    fn needs_rewrapping(&self, key: &KmsKey) -> bool {
        let current = Some(self.root_keys.fingerprint());
        key.materials.iter().any(|material| RootKey::wrapped_by(&material.wrapped) != current)
    }

    fn rewrapped(&self, key: &KmsKey) -> Result<KmsKey, ApiError> {
        let mut next = key.clone();
        for (version, material) in next.materials.iter_mut().enumerate() {
            let bound_to = material_bound_to(key.account, key.id, version);
            let opened = self.root_keys.unwrap(&bound_to, &material.wrapped);
            let opened = opened.map_err(|why| {
                ApiError::fault(format!("failed to unwrap the key {}", key.id), why)
            })?;
            material.wrapped = self.root_keys.wrap(self.ids.as_ref(), &bound_to, &opened);
        }
        Ok(next)
    }
}

/// A user's sealed secret: its wrapped data key, and what that sealed. None for one that `keys.json` sealed.
pub(crate) fn parts(sealed_secret: &str) -> Option<(&str, &str)> {
    sealed_secret.rsplit_once('.')
}

#[cfg(test)]
mod tests;
