//! Uploads that are going on: `uploads/<id>` holds what has arrived, `uploads/<id>.json` for whom.
//!
//! The hash of what has arrived is kept in memory; after a restart it is made again from the file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use files::whole::{self, Durability};
use http::StatusCode;
use image::{BlobError, BlobStore, BlobWriter, Digest, Hasher, RepositoryName};
use longshore_types::{AccountId, IdSource, Timestamp, Uuid};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::catalog::Repository;
use crate::error::of_blob;
use crate::{
    UPLOAD_IDLE_MS_MAX, UPLOADS_KEPT_OF_ACCOUNT_MAX, UPLOADS_OF_ACCOUNT_MAX,
    UPLOADS_OF_REPOSITORY_MAX,
};

/// Why an upload could not be used.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("blob upload unknown to registry")]
    Unknown,
    #[error("the upload is being written to by another request")]
    Busy,
    #[error(
        "{of} has {max} uploads open already; complete them or cancel them, or wait: one that no \
         byte comes for is removed after {} hours",
        UPLOAD_IDLE_MS_MAX / 3_600_000
    )]
    TooMany { of: &'static str, max: usize },
    #[error("a worker of the registry died")]
    Worker,
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl UploadError {
    pub(crate) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::Busy => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::Worker => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            Self::Blob(error) => of_blob(error),
        }
    }
}

/// For whom an upload is.
#[derive(Serialize, Deserialize)]
struct Owner {
    account: AccountId,
    repository: RepositoryName,
}

/// An upload between two requests.
#[derive(Debug)]
struct Session {
    repository: Repository,
    /// Absent after a restart, after a request that broke off, and if the account has many.
    kept: Option<(BlobWriter, OwnedSemaphorePermit)>,
    /// How many of the account's may be kept.
    places: Arc<Semaphore>,
    /// The lengths of the parts that came by ECR's own API.
    parts: Vec<u64>,
}

type Shared = Arc<AsyncMutex<Session>>;

/// The uploads that are open, and whose they are.
#[derive(Debug, Default)]
struct Table {
    open: HashMap<Uuid, (Repository, Shared)>,
    of_repository: HashMap<Repository, usize>,
    of_account: HashMap<AccountId, (usize, Arc<Semaphore>)>,
}

impl Table {
    fn get(&self, id: &Uuid) -> Option<Shared> {
        self.open.get(id).map(|(_, session)| Arc::clone(session))
    }

    /// Refuses what would be one more than its account or its repository may have.
    fn check(&self, repository: &Repository) -> Result<(), UploadError> {
        let of_account = self.of_account.get(&repository.account).map_or(0, |(count, _)| *count);
        if of_account >= UPLOADS_OF_ACCOUNT_MAX {
            return Err(UploadError::TooMany { of: "the account", max: UPLOADS_OF_ACCOUNT_MAX });
        }
        if self.of_repository.get(repository).is_some_and(|n| *n >= UPLOADS_OF_REPOSITORY_MAX) {
            let max = UPLOADS_OF_REPOSITORY_MAX;
            return Err(UploadError::TooMany { of: "the repository", max });
        }
        Ok(())
    }

    fn insert(&mut self, id: Uuid, repository: Repository) {
        let (count, places) = self
            .of_account
            .entry(repository.account)
            .or_insert_with(|| (0, Arc::new(Semaphore::new(UPLOADS_KEPT_OF_ACCOUNT_MAX))));
        *count += 1;
        let session = Session {
            repository: repository.clone(),
            kept: None,
            places: Arc::clone(places),
            parts: Vec::new(),
        };
        *self.of_repository.entry(repository.clone()).or_default() += 1;
        self.open.insert(id, (repository, Arc::new(AsyncMutex::new(session))));
    }

    fn remove(&mut self, id: &Uuid) {
        let Some((repository, _)) = self.open.remove(id) else { return };
        if let Some((count, _)) = self.of_account.get_mut(&repository.account) {
            *count -= 1;
            if *count == 0 {
                self.of_account.remove(&repository.account);
            }
        }
        if let Some(count) = self.of_repository.get_mut(&repository) {
            *count -= 1;
            if *count == 0 {
                self.of_repository.remove(&repository);
            }
        }
    }
}

/// All uploads of a registry.
#[derive(Debug)]
pub struct Uploads {
    dir: PathBuf,
    ids: Arc<dyn IdSource>,
    table: Mutex<Table>,
}

/// An upload that one request has for itself.
#[derive(Debug)]
pub struct Upload {
    id: Uuid,
    session: OwnedMutexGuard<Session>,
}

impl Upload {
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The lengths of the parts so far, for who sends them by ECR's API.
    pub fn parts(&mut self) -> &mut Vec<u64> {
        &mut self.session.parts
    }

    /// Puts the writer back, so that the next request need not hash what is there already.
    pub fn keep(&mut self, writer: BlobWriter) {
        let place = Arc::clone(&self.session.places).try_acquire_owned();
        self.session.kept = place.ok().map(|place| (writer, place));
    }
}

impl Uploads {
    pub(crate) fn open(dir: &Path, ids: Arc<dyn IdSource>) -> Result<Self, BlobError> {
        let dir = dir.join("uploads");
        files::private::make_dirs(&dir).map_err(|source| failed("create", &dir, source))?;
        whole::sweep(&dir).map_err(|source| failed("sweep", &dir, source))?;
        let uploads = Self { dir, ids, table: Mutex::default() };
        uploads.reload()?;
        Ok(uploads)
    }

    /// Finds the uploads that were going on before a restart.
    fn reload(&self) -> Result<(), BlobError> {
        for path in list(&self.dir)? {
            let owner = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
            let Some(id) = owner.and_then(|id| id.parse::<Uuid>().ok()) else { continue };
            let bytes = fs::read(&path).map_err(|source| failed("read", &path, source))?;
            let Ok(owner) = serde_json::from_slice::<Owner>(&bytes) else {
                self.remove_files(id)?;
                continue;
            };
            let repository = Repository { account: owner.account, name: owner.repository };
            self.table().insert(id, repository);
        }
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data_path(&self, id: Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn owner_path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Begins an upload into `repository`.
    pub fn start(&self, repository: Repository) -> Result<Uuid, UploadError> {
        let id = Uuid::mint(self.ids.as_ref());
        let path = self.owner_path(id);
        let owner = Owner { account: repository.account, repository: repository.name.clone() };
        let bytes = serde_json::to_vec(&owner).expect("an owner is two names");
        {
            let mut table = self.table();
            table.check(&repository)?;
            table.insert(id, repository);
        }
        // A client that hears of a torn upload begins anew.
        if let Err(source) = whole::write(&path, &bytes, Durability::DiesWithTheMachine) {
            self.table().remove(&id);
            return Err(failed("write", &path, source).into());
        }
        Ok(id)
    }

    /// Takes an upload of `repository` for oneself, and what writes to its end.
    pub async fn take(
        &self,
        repository: &Repository,
        id: Uuid,
    ) -> Result<(Upload, BlobWriter), UploadError> {
        let session = self.table().get(&id).ok_or(UploadError::Unknown)?;
        let mut session = session.try_lock_owned().map_err(|_| UploadError::Busy)?;
        if session.repository != *repository || self.table().get(&id).is_none() {
            return Err(UploadError::Unknown);
        }
        let writer = match session.kept.take() {
            Some((writer, _place)) => writer,
            None => {
                let path = self.data_path(id);
                let opened = tokio::task::spawn_blocking(move || {
                    BlobWriter::append(&path, Hasher::sha256())
                });
                opened.await.map_err(|_| UploadError::Worker)??
            }
        };
        Ok((Upload { id, session }, writer))
    }

    /// Verifies what has arrived and makes it a blob of `store`. If it is not what it was said to
    /// be, the upload can still be gone on with.
    pub async fn finish(
        &self,
        upload: Upload,
        writer: BlobWriter,
        store: &BlobStore,
        digest: Digest,
    ) -> Result<u64, UploadError> {
        let store = store.clone();
        let finished = tokio::task::spawn_blocking(move || writer.finish(&store, &digest));
        let size = finished.await.map_err(|_| UploadError::Worker)??;
        self.table().remove(&upload.id);
        self.remove_files(upload.id)?;
        Ok(size)
    }

    /// Ends an upload and removes what has arrived.
    pub fn cancel(&self, upload: Upload) -> Result<(), UploadError> {
        self.table().remove(&upload.id);
        Ok(self.remove_files(upload.id)?)
    }

    fn remove_files(&self, id: Uuid) -> Result<(), BlobError> {
        for path in [self.data_path(id), self.owner_path(id)] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, source));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes uploads that were last written to before `before`, and files that belong to none.
    pub(crate) fn sweep(&self, before: Timestamp) -> Result<usize, BlobError> {
        let mut removed = 0;
        for path in list(&self.dir)? {
            let Some(id) = path.file_stem().and_then(|id| id.to_str()?.parse::<Uuid>().ok()) else {
                continue;
            };
            let touched =
                [self.data_path(id), self.owner_path(id)].iter().filter_map(modified).max();
            if touched.is_none_or(|touched| touched >= before) {
                continue;
            }
            let session = self.table().get(&id);
            // Whoever holds it is writing to it.
            let held = session.as_ref().map(|session| session.try_lock());
            if held.as_ref().is_some_and(Result::is_err) {
                continue;
            }
            self.table().remove(&id);
            self.remove_files(id)?;
            removed += 1;
        }
        Ok(removed)
    }
}

fn modified(path: &PathBuf) -> Option<Timestamp> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp(u64::try_from(since.as_millis()).ok()?))
}

pub(crate) fn failed(doing: &'static str, path: &Path, source: io::Error) -> BlobError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BlobError::NoSpace(path.to_owned())
        }
        _ => BlobError::Io { doing, path: path.to_owned(), source },
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let entries = fs::read_dir(dir).map_err(|source| failed("list", dir, source))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(|source| failed("list", dir, source))
}

#[cfg(test)]
mod tests {
    use longshore_types::OsIds;

    use super::*;

    /// As release 0.1.0 wrote it; a text of a later release goes beside it.
    const OWNERS: [&str; 1] = [r#"{"account":"000000000000","repository":"team/app"}"#];
    const ID: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";

    #[test]
    fn an_upload_of_every_release_is_gone_on_with() {
        for owner in OWNERS {
            let dir = tempfile::tempdir().unwrap();
            let uploads = dir.path().join("uploads");
            fs::create_dir(&uploads).unwrap();
            fs::write(uploads.join(ID), "half a layer").unwrap();
            fs::write(uploads.join(format!("{ID}.json")), owner).unwrap();
            let uploads = Uploads::open(dir.path(), Arc::new(OsIds)).unwrap();
            let session = uploads.table().get(&ID.parse().unwrap()).unwrap();
            let repository = session.try_lock().unwrap().repository.clone();
            assert_eq!(repository.name.as_str(), "team/app");
            assert_eq!(repository.account.to_string(), "000000000000");
        }
    }
}
