//! The images of one host: manifests by their digest, unpacked layers that all images share, and
//! which name means which image.
//!
//! A layer lies in `layers/<hex of its diff id>`; it gets that name when it is whole, verified and
//! synced. An image's record is written after its last layer; it says which registries have given all of
//! it, and beside it lies who pulled it by which name. What a container or a pull needs is
//! held by a [`Lease`], which garbage collection respects.

mod offers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use files::whole;
use longshore_types::{Clock, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::blobs::{BlobError, BlobStore, replace_file, sync_parent};
use crate::config::{ConfigFile, ImageConfig};
use crate::error::ImageError;
use crate::evict;
use crate::flight::Flights;
use crate::format;
use crate::hash::Hasher;
use crate::reference::Reference;
use crate::share::{OfferedLayers, OfferedLimits};
use crate::unpack::{LayerLimits, Ownership, unpack, verify};

/// A download that stood still for so long is not gone on with.
const PARTIAL_AGE_MS_MAX: u64 = 24 * 3600 * 1000;
/// How far an image's last use may lie from what the disk says about it.
const LAST_USED_SLACK_MS: u64 = 60_000;

/// Where and how images are kept.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub dir: PathBuf,
    pub ownership: Ownership,
    pub limits: LayerLimits,
    /// Of layers that are kept as they came, for other hosts.
    pub offered: OfferedLimits,
}

impl StoreConfig {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let (ownership, limits) = (Ownership::default(), LayerLimits::default());
        Self { dir: dir.into(), ownership, limits, offered: OfferedLimits::default() }
    }
}

/// An image that is complete on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// What its name resolved to: an index's digest, or the manifest's own.
    pub digest: Digest,
    pub manifest: Digest,
    pub config: Digest,
    /// Lowest first.
    pub diff_ids: Vec<Digest>,
    /// As they came, in the same order.
    #[serde(default)]
    pub layers: Vec<Digest>,
    /// The registries that have given all of it.
    #[serde(default)]
    pub given_by: BTreeSet<String>,
    /// The size of the compressed layers together.
    pub bytes: u64,
    pub pulled_at: Timestamp,
    pub last_used: Timestamp,
}

/// An image that can be run. Its layers stay as long as it, or a clone of it, is kept.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// What describes the image to users: the digest that its name resolved to.
    pub manifest_digest: Digest,
    pub config: ImageConfig,
    /// Directories for overlayfs, lowest first.
    pub layers: Vec<PathBuf>,
    pub lease: Lease,
}

/// What a garbage collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub images: usize,
    pub layers: usize,
}

/// The images of one host. Cheap to clone; one process uses a directory.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: StoreConfig,
    clock: Arc<dyn Clock>,
    blobs: BlobStore,
    /// For other hosts.
    offered: OfferedLayers,
    state: Mutex<State>,
    /// What layers take of the disk, as far as it was asked for.
    sizes: Mutex<BTreeMap<Digest, u64>>,
    /// Who fetches which blob of which host at the moment.
    fetches: Flights<(String, Digest)>,
    /// Who unpacks what at the moment, by diff id.
    flights: Flights<Digest>,
}

#[derive(Debug, Default)]
struct State {
    /// By `ImageRecord::digest`.
    images: BTreeMap<Digest, ImageRecord>,
    rights: BTreeMap<Named, Meaning>,
    /// Which registry gave which layer as which blob.
    given: BTreeSet<Given>,
    /// How many leases hold each layer, by its diff id, and each blob of a pull that goes on.
    held: HashMap<Digest, usize>,
}

/// A registry's host, a blob, and the diff id that it unpacked to.
type Given = (String, Digest, Digest);

/// A name, and who uses it.
type Named = (Reference, Option<String>);

/// What a name means to whom, and which registry said so.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meaning {
    digest: Digest,
    at: String,
}

/// That somebody may have what a name means at a registry.
#[derive(Clone, Debug)]
pub(crate) struct Right {
    named: Named,
    at: String,
}

impl Right {
    pub(crate) fn new(reference: &Reference, owner: Option<&str>, at: &str) -> Self {
        let mut reference = reference.clone();
        if reference.digest.is_some() {
            // It means nothing beside a digest.
            reference.tag = None;
        }
        Self { named: (reference, owner.map(str::to_owned)), at: at.to_owned() }
    }
}

/// Kept beside the images, so that a registry that is out of reach holds up nobody whom it has served.
#[derive(Serialize, Deserialize)]
struct RightFile {
    reference: Reference,
    digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    only_for: Option<String>,
    #[serde(default)]
    at: String,
}

/// Keeps layers, or blobs of a pull, from being collected.
#[derive(Clone)]
pub struct Lease {
    _held: Arc<Held>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}

struct Held {
    store: Arc<Inner>,
    diff_ids: Vec<Digest>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.store.state();
        for diff_id in &self.diff_ids {
            if let Some(count) = state.held.get_mut(diff_id) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(diff_id);
                }
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layers(&self) -> PathBuf {
        self.config.dir.join("layers")
    }

    fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    fn record_path(&self, digest: &Digest) -> PathBuf {
        self.config.dir.join("images").join(format!("{}.json", digest.hex()))
    }

    fn right_path(&self, (reference, owner): &Named) -> PathBuf {
        let owner = owner.as_deref().unwrap_or_default();
        let name = Hasher::digest(format!("{reference}\n{owner}").as_bytes()).hex();
        self.config.dir.join("refs").join(format!("{name}.json"))
    }

    fn write_record(&self, record: &ImageRecord) -> Result<(), ImageError> {
        let bytes = serde_json::to_vec(record).expect("a record has string keys only");
        Ok(replace_file(&self.record_path(&record.digest), &bytes)?)
    }
}

impl ImageStore {
    /// Opens the store, and removes what a crash left half done.
    pub fn open(config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Self, ImageError> {
        format::raise(&config.dir)?;
        for name in ["layers", "images", "refs", "partial"] {
            let path = config.dir.join(name);
            files::private::make_dirs(&path).map_err(BlobError::io("create", &path))?;
        }
        for name in ["images", "refs"] {
            let path = config.dir.join(name);
            whole::sweep(&path).map_err(BlobError::io("sweep", &path))?;
        }
        let blobs = BlobStore::open(&config.dir)?;
        let place = config.dir.join("offered");
        let offered = OfferedLayers::open(place, config.offered, Arc::clone(&clock))?;
        let inner = Inner {
            blobs,
            offered,
            clock,
            state: Mutex::new(State::default()),
            sizes: Mutex::default(),
            fetches: Flights::default(),
            flights: Flights::default(),
            config,
        };
        let state = load(&inner)?;
        *inner.state() = state;
        sweep_partial(&inner)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn blobs(&self) -> &BlobStore {
        &self.inner.blobs
    }

    /// Every image, ordered by digest, with the names that mean it.
    pub fn list(&self) -> Vec<(ImageRecord, Vec<Reference>)> {
        let state = self.inner.state();
        let names = |digest| {
            let named = state.rights.iter().filter(|(_, meaning)| meaning.digest == digest);
            let names: BTreeSet<_> = named.map(|((reference, _), _)| reference.clone()).collect();
            names.into_iter().collect()
        };
        state.images.values().map(|record| (record.clone(), names(record.digest))).collect()
    }

    /// The image that was pulled with this right, without asking any registry.
    pub(crate) fn known(&self, right: &Right) -> Result<Option<PulledImage>, ImageError> {
        let digest = {
            let state = self.inner.state();
            let meaning = state.rights.get(&right.named).filter(|meaning| meaning.at == right.at);
            meaning.map(|meaning| meaning.digest)
        };
        digest.map_or(Ok(None), |digest| self.image_from(&digest, &right.at))
    }

    /// The image with this digest, if all of it is here and `host` has given all of it.
    pub(crate) fn image_from(
        &self,
        digest: &Digest,
        host: &str,
    ) -> Result<Option<PulledImage>, ImageError> {
        self.find(digest, |record| record.given_by.contains(host))
    }

    /// The image with this digest (of its index or its manifest), if all of it is here.
    pub fn image(&self, digest: &Digest) -> Result<Option<PulledImage>, ImageError> {
        self.find(digest, |_| true)
    }

    fn find(
        &self,
        digest: &Digest,
        is_wanted: impl Fn(&ImageRecord) -> bool,
    ) -> Result<Option<PulledImage>, ImageError> {
        let (record, lease) = {
            let mut state = self.inner.state();
            let whole = state.images.get(digest).filter(|record| is_wanted(record));
            let found = match whole {
                Some(record) => Some(record.digest),
                None => state
                    .images
                    .values()
                    .find(|record| record.manifest == *digest && is_wanted(record))
                    .map(|record| record.digest),
            };
            let Some(record) = found.and_then(|found| state.images.get_mut(&found)) else {
                return Ok(None);
            };
            record.last_used = self.inner.clock.now();
            let record = record.clone();
            let lease = self.hold_locked(&mut state, &record.diff_ids);
            (record, lease)
        };
        let Some(bytes) = self.inner.blobs.read(&record.config)? else { return Ok(None) };
        let Ok(config) = ConfigFile::parse(&bytes) else { return Ok(None) };
        let layers = record.diff_ids.iter().map(|id| self.inner.layer_path(id)).collect();
        Ok(Some(PulledImage {
            manifest_digest: *digest,
            config: config.into_config(),
            layers,
            lease,
        }))
    }

    /// Keeps layers (by diff id) and blobs, present or to come, from being collected.
    pub(crate) fn hold(&self, diff_ids: &[Digest]) -> Lease {
        self.hold_locked(&mut self.inner.state(), diff_ids)
    }

    fn hold_locked(&self, state: &mut State, diff_ids: &[Digest]) -> Lease {
        for diff_id in diff_ids {
            *state.held.entry(*diff_id).or_default() += 1;
        }
        let diff_ids = diff_ids.to_vec();
        Lease { _held: Arc::new(Held { store: Arc::clone(&self.inner), diff_ids }) }
    }

    pub(crate) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.inner.layer_path(diff_id).is_dir()
    }

    /// Whether `host` has given this layer as this blob.
    pub(crate) fn was_given(&self, host: &str, blob: &Digest, diff_id: &Digest) -> bool {
        self.inner.state().given.contains(&(host.to_owned(), *blob, *diff_id))
    }

    /// Waits until nobody else fetches this blob of a host. Not by what it is said to unpack to: a host that is slow, or means
    /// ill, holds up nobody who has the same layer of another one.
    pub(crate) async fn enter_fetch(
        &self,
        host: &str,
        blob: Digest,
    ) -> tokio::sync::OwnedMutexGuard<()> {
        self.inner.fetches.enter((host.to_owned(), blob)).await
    }

    /// Waits until nobody else unpacks this layer.
    pub(crate) async fn enter(&self, diff_id: Digest) -> tokio::sync::OwnedMutexGuard<()> {
        self.inner.flights.enter(diff_id).await
    }

    /// Where the compressed bytes of a layer are collected while they arrive.
    pub(crate) fn partial_path(&self, host: &str, digest: &Digest) -> PathBuf {
        let name = Hasher::digest(format!("{host}\n{digest}").as_bytes()).hex();
        self.inner.config.dir.join("partial").join(name)
    }

    /// Unpacks a layer that `host` gave as `blob`, and gives it its name; one that is here is verified only.
    /// Blocks.
    pub(crate) fn add_layer(
        &self,
        compressed: File,
        diff_id: &Digest,
        host: &str,
        blob: &Digest,
    ) -> Result<(), ImageError> {
        let path = self.inner.layer_path(diff_id);
        if path.is_dir() {
            let checked = verify(compressed, diff_id, self.inner.config.limits);
            checked.map_err(|source| ImageError::Layer {
                digest: *diff_id,
                source: Box::new(source),
            })?;
        } else {
            self.unpack_layer(compressed, diff_id, &path)?;
        }
        self.inner.state().given.insert((host.to_owned(), *blob, *diff_id));
        Ok(())
    }

    fn unpack_layer(
        &self,
        compressed: File,
        diff_id: &Digest,
        path: &Path,
    ) -> Result<(), ImageError> {
        let temp = self.inner.blobs.temp_path();
        fs::create_dir(&temp).map_err(BlobError::io("create", &temp))?;
        let StoreConfig { ownership, limits, .. } = self.inner.config;
        let unpacked = unpack(compressed, &temp, diff_id, ownership, limits);
        let named = unpacked
            .map_err(|source| ImageError::Layer { digest: *diff_id, source: Box::new(source) })
            .and_then(|()| Ok(fs::rename(&temp, path).map_err(BlobError::io("name", path))?));
        if named.is_err() {
            remove_tree(&temp);
        }
        named.and_then(|()| Ok(sync_parent(path)?))
    }

    /// Makes an image whose parts are all here known, and that it may be had by `right`.
    pub(crate) fn record(&self, right: &Right, mut record: ImageRecord) -> Result<(), ImageError> {
        let now = self.inner.clock.now();
        (record.pulled_at, record.last_used) = (now, now);
        if let Some(known) = self.inner.state().images.get(&record.digest)
            && known.manifest == record.manifest
            && known.layers == record.layers
        {
            record.given_by.extend(known.given_by.iter().cloned());
        }
        self.inner.write_record(&record)?;
        let digest = record.digest;
        self.inner.state().images.insert(digest, record);
        self.note(right, digest)
    }

    /// Remembers which image was had by a right.
    pub(crate) fn note(&self, right: &Right, digest: Digest) -> Result<(), ImageError> {
        let Right { named, at } = right;
        let meaning = Meaning { digest, at: at.clone() };
        if self.inner.state().rights.get(named) == Some(&meaning) {
            return Ok(());
        }
        let (reference, only_for) = named.clone();
        let file = RightFile { reference, digest, only_for, at: at.clone() };
        let bytes = serde_json::to_vec(&file).expect("a reference is text");
        replace_file(&self.inner.right_path(named), &bytes)?;
        self.inner.state().rights.insert(named.clone(), meaning);
        Ok(())
    }

    /// Forgets a name. The image goes with the next collection if no other name means it.
    pub fn unname(&self, reference: &Reference) -> Result<bool, ImageError> {
        let mut state = self.inner.state();
        let named = state.rights.keys().filter(|(known, _)| known == reference).cloned();
        let named: Vec<Named> = named.collect();
        for name in &named {
            state.rights.remove(name);
            let path = self.inner.right_path(name);
            fs::remove_file(&path).map_err(BlobError::io("remove", &path))?;
        }
        Ok(!named.is_empty())
    }

    /// Removes images that were not used for `unused_ms_min`, and of the others the least recently used while their
    /// layers take more than `bytes_max`, unless they are in `pinned` (by the digest of index or manifest) or a lease
    /// holds them; and the layers that no image needs then. Blocks.
    pub fn collect(
        &self,
        pinned: &BTreeSet<Digest>,
        unused_ms_min: u64,
        bytes_max: Option<u64>,
    ) -> Result<Collected, ImageError> {
        let now = self.inner.clock.now();
        let sizes = bytes_max.map(|_| self.layer_sizes()).unwrap_or_default();
        self.collect_offered(&sizes, bytes_max);
        let mut trash = Vec::new();
        let mut collected = Collected::default();
        {
            let mut state = self.inner.state();
            let is_needed = |state: &State, record: &ImageRecord| {
                pinned.contains(&record.digest)
                    || pinned.contains(&record.manifest)
                    || record.diff_ids.iter().any(|diff_id| state.held.contains_key(diff_id))
            };
            let is_idle = |record: &&ImageRecord| {
                now.since_ms(record.last_used) >= unused_ms_min && !is_needed(&state, record)
            };
            let idle: Vec<ImageRecord> = state.images.values().filter(is_idle).cloned().collect();
            for record in &idle {
                self.forget(&mut state, record)?;
                collected.images += 1;
            }
            if let Some(bytes_max) = bytes_max {
                let images = state.images.values().map(|it| (it, is_needed(&state, it)));
                // A layer that came after they were measured is held by who brought it.
                let bytes_of = |layer: &Digest| sizes.get(layer).copied().unwrap_or(0);
                for record in evict::beyond(images, bytes_of, bytes_max) {
                    self.forget(&mut state, &record)?;
                    collected.images += 1;
                }
            }
            let needed: BTreeSet<Digest> =
                state.images.values().flat_map(|record| record.diff_ids.clone()).collect();
            let names: BTreeSet<String> =
                needed.iter().chain(state.held.keys()).map(Digest::hex).collect();
            for path in list_dir(&self.inner.layers())? {
                if !path.file_name().is_some_and(|name| names.contains(&*name.to_string_lossy())) {
                    let temp = self.inner.blobs.temp_path();
                    fs::rename(&path, &temp).map_err(BlobError::io("remove", &path))?;
                    trash.push(temp);
                    collected.layers += 1;
                }
            }
            let State { given, held, .. } = &mut *state;
            given.retain(|(_, _, diff_id)| needed.contains(diff_id) || held.contains_key(diff_id));
            self.collect_blobs(&state)?;
        }
        trash.iter().for_each(|path| remove_tree(path));
        sweep_partial(&self.inner)?;
        self.write_last_uses()?;
        Ok(collected)
    }

    /// What each layer takes of the disk. A layer never changes, so that each is looked at once.
    fn layer_sizes(&self) -> BTreeMap<Digest, u64> {
        let layers: BTreeSet<Digest> =
            self.inner.state().images.values().flat_map(|it| it.diff_ids.clone()).collect();
        let mut sizes = self.inner.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.retain(|layer, _| layers.contains(layer));
        for layer in layers {
            let path = self.inner.layer_path(&layer);
            sizes.entry(layer).or_insert_with(|| evict::tree_bytes(&path));
        }
        sizes.clone()
    }

    /// The record goes first: an image without record is not there.
    fn forget(&self, state: &mut State, record: &ImageRecord) -> Result<(), ImageError> {
        let path = self.inner.record_path(&record.digest);
        fs::remove_file(&path).map_err(BlobError::io("remove", &path))?;
        state.images.remove(&record.digest);
        let named = state.rights.iter().filter(|(_, meaning)| meaning.digest == record.digest);
        let names: Vec<Named> = named.map(|(named, _)| named.clone()).collect();
        for name in names {
            state.rights.remove(&name);
            // A name that is left over means nothing at the next start.
            fs::remove_file(self.inner.right_path(&name)).ok();
        }
        Ok(())
    }

    /// Removes manifests and configurations of images that are gone, but for those that a pull holds.
    fn collect_blobs(&self, state: &State) -> Result<(), ImageError> {
        let kept: BTreeSet<Digest> = state
            .images
            .values()
            .flat_map(|record| [record.digest, record.manifest, record.config])
            .collect();
        for digest in self.inner.blobs.list()? {
            if !kept.contains(&digest) && !state.held.contains_key(&digest) {
                self.inner.blobs.remove(&digest)?;
            }
        }
        Ok(())
    }

    /// Writes down when images were last used, where the disk is far behind.
    fn write_last_uses(&self) -> Result<(), ImageError> {
        let records: Vec<ImageRecord> = self.inner.state().images.values().cloned().collect();
        for record in records {
            let path = self.inner.record_path(&record.digest);
            let on_disk = fs::read(&path).ok();
            let on_disk: Option<ImageRecord> =
                on_disk.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let behind = on_disk.map_or(0, |old| record.last_used.since_ms(old.last_used));
            if behind > LAST_USED_SLACK_MS {
                self.inner.write_record(&record)?;
            }
        }
        Ok(())
    }
}

fn list_dir(dir: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let entries = fs::read_dir(dir).map_err(BlobError::io("list", dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> =
        paths.collect::<Result<_, _>>().map_err(BlobError::io("list", dir))?;
    paths.sort();
    Ok(paths)
}

/// Reads the records and names; an image that lacks a layer is not there.
fn load(inner: &Inner) -> Result<State, ImageError> {
    let mut state = State::default();
    for path in list_dir(&inner.config.dir.join("images"))? {
        let bytes = fs::read(&path).map_err(BlobError::io("read", &path))?;
        match serde_json::from_slice::<ImageRecord>(&bytes) {
            Ok(record) if record.diff_ids.iter().all(|id| inner.layer_path(id).is_dir()) => {
                for host in &record.given_by {
                    let layers = record.layers.iter().zip(&record.diff_ids);
                    let given = layers.map(|(blob, diff_id)| (host.clone(), *blob, *diff_id));
                    state.given.extend(given);
                }
                state.images.insert(record.digest, record);
            }
            Ok(_) | Err(_) => {
                tracing::warn!(path = %path.display(), "incomplete image forgotten");
                fs::remove_file(&path).map_err(BlobError::io("remove", &path))?;
            }
        }
    }
    for path in list_dir(&inner.config.dir.join("refs"))? {
        let bytes = fs::read(&path).map_err(BlobError::io("read", &path))?;
        let file = serde_json::from_slice::<RightFile>(&bytes).ok();
        let file = file.filter(|file| state.images.contains_key(&file.digest));
        let right = file.map(|RightFile { reference, digest, only_for, at }| {
            ((reference, only_for), Meaning { digest, at })
        });
        match right.filter(|(named, _)| inner.right_path(named) == path) {
            Some((named, meaning)) => drop(state.rights.insert(named, meaning)),
            None => fs::remove_file(&path).map_err(BlobError::io("remove", &path))?,
        }
    }
    Ok(state)
}

fn sweep_partial(inner: &Inner) -> Result<(), ImageError> {
    let now = inner.clock.now();
    for path in list_dir(&inner.config.dir.join("partial"))? {
        let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        let since_epoch = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let at = since_epoch.and_then(|since| u64::try_from(since.as_millis()).ok());
        if now.since_ms(Timestamp(at.unwrap_or(0))) > PARTIAL_AGE_MS_MAX {
            fs::remove_file(&path).map_err(BlobError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// What cannot be removed now is swept at the next start.
fn remove_tree(path: &Path) {
    if let Err(error) = files::dir::remove_tree(path) {
        tracing::warn!(path = %path.display(), %error, "could not remove a directory");
    }
}
