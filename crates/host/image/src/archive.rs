//! Reads images from files: what `docker save` wrote, and OCI layouts, as archive or directory.
//!
//! Nothing is unpacked: an archive is indexed once, and its parts are read where they lie. All of
//! this blocks. **Invariant:** what a [`LoadedImage`] names by digest was found to have that digest
//! or is checked by whoever takes it; names in the archive never become names of files.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use longshore_types::Digest;
use serde::Deserialize;

use crate::blobs::BlobError;
use crate::config::ConfigFile;
use crate::error::ImageError;
use crate::hash::Hasher;
use crate::manifest::{
    self, Descriptor, ImageManifest, Index, MANIFEST_BYTES_MAX, Manifest, OCI_CONFIG, OCI_INDEX,
    OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, Platform,
};

/// The most files that an archive may have; images have a few hundred.
const ENTRIES_MAX: usize = 100_000;
/// The largest JSON document that is read from an archive.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
const READ_BYTES: usize = 1 << 20;
/// How deep indexes may lie within indexes.
const NESTING_MAX: u32 = 3;
/// Where writers of OCI layouts put an image's full name, and its tag.
const NAME_ANNOTATIONS: [&str; 2] =
    ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// How far reading an archive is: bytes looked at, of how many.
pub type Tell<'a> = &'a dyn Fn(u64, u64);

/// An image that lies in an archive.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// What the archive calls it: `hello:1`, or only a tag, or nothing.
    pub names: Vec<String>,
    pub digest: Digest,
    pub media_type: String,
    pub manifest: Bytes,
    /// The configuration and the layers.
    pub blobs: Vec<LoadedBlob>,
    /// Where it is an index: the images in it.
    pub children: Vec<LoadedImage>,
}

/// Some content in an archive.
#[derive(Clone, Debug)]
pub struct LoadedBlob {
    pub digest: Digest,
    pub size: u64,
    part: Part,
}

impl LoadedBlob {
    pub fn open(&self) -> Result<Box<dyn Read + Send>, ImageError> {
        self.part.open()
    }
}

/// Reads whatever kind of archive or directory `path` is. A compressed archive is unpacked into a
/// nameless file in `temp_dir`.
pub fn load(path: &Path, temp_dir: &Path, tell: Tell<'_>) -> Result<Vec<LoadedImage>, ImageError> {
    let archive = Archive::open(path, temp_dir)?;
    // `docker save` writes both documents now; the older one has the full names.
    if archive.has("manifest.json") {
        docker_save(&archive, tell)
    } else if archive.has("index.json") {
        oci_layout(&archive)
    } else {
        Err(not_an_image("it has neither manifest.json nor index.json"))
    }
}

/// Reads an archive of `docker save`.
pub fn load_docker_save(
    path: &Path,
    temp_dir: &Path,
    tell: Tell<'_>,
) -> Result<Vec<LoadedImage>, ImageError> {
    docker_save(&Archive::open(path, temp_dir)?, tell)
}

/// Reads an OCI layout.
pub fn load_oci_layout(path: &Path, temp_dir: &Path) -> Result<Vec<LoadedImage>, ImageError> {
    oci_layout(&Archive::open(path, temp_dir)?)
}

fn not_an_image(why: impl Into<String>) -> ImageError {
    ImageError::NotAnImage(why.into())
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

fn docker_save(archive: &Arc<Archive>, tell: Tell<'_>) -> Result<Vec<LoadedImage>, ImageError> {
    let saved: Vec<SavedImage> = archive.document("manifest.json")?;
    let layers = saved.iter().flat_map(|image| image.layers.iter().flatten());
    let total = layers.filter_map(|layer| archive.part(layer)).map(|part| part.size).sum();
    // Images of one archive share layers, which are hashed once.
    let mut hashed = HashMap::new();
    let mut seen = 0;
    let mut images = Vec::new();
    for image in saved {
        let mut layers = Vec::new();
        for name in image.layers.iter().flatten() {
            if !hashed.contains_key(name) {
                let part = archive.need(name)?;
                let layer = hash_layer(part, &mut seen, total, tell)?;
                hashed.insert(name.clone(), layer);
            }
            layers.extend(hashed.get(name).cloned());
        }
        images.push(saved_image(archive, image, layers)?);
    }
    Ok(images)
}

fn hash_layer(
    part: Part,
    seen: &mut u64,
    total: u64,
    tell: Tell<'_>,
) -> Result<(LoadedBlob, &'static str), ImageError> {
    let mut reader = part.open()?;
    let mut buffer = vec![0; READ_BYTES];
    let mut hasher = Hasher::sha256();
    let mut kind = OCI_LAYER;
    let mut at_start = true;
    loop {
        let count = reader.read(&mut buffer).map_err(part.failed("read"))?;
        if count == 0 {
            break;
        }
        if std::mem::take(&mut at_start) {
            kind = match &buffer[..count] {
                [0x1f, 0x8b, ..] => OCI_LAYER_GZIP,
                [0x28, 0xb5, 0x2f, 0xfd, ..] => OCI_LAYER_ZSTD,
                _ => OCI_LAYER,
            };
        }
        hasher.update(&buffer[..count]);
        *seen += count as u64;
        tell(*seen, total);
    }
    Ok((LoadedBlob { digest: hasher.finish(), size: part.size, part }, kind))
}

fn saved_image(
    archive: &Arc<Archive>,
    saved: SavedImage,
    layers: Vec<(LoadedBlob, &'static str)>,
) -> Result<LoadedImage, ImageError> {
    let config = archive.bytes(&saved.config, DOCUMENT_BYTES_MAX)?;
    let parsed = ConfigFile::parse(&config)
        .map_err(|error| not_an_image(format!("{}: {error}", saved.config)))?;
    if parsed.diff_ids().len() != layers.len() {
        return Err(not_an_image(format!("{} names other layers than there are", saved.config)));
    }
    for ((layer, kind), diff_id) in layers.iter().zip(parsed.diff_ids()) {
        if *kind == OCI_LAYER && layer.digest != *diff_id {
            return Err(not_an_image(format!("layer {diff_id} is damaged")));
        }
    }
    let config_blob = LoadedBlob {
        digest: Hasher::digest(&config),
        size: config.len() as u64,
        part: archive.need(&saved.config)?,
    };
    let describe =
        |(layer, kind): &(LoadedBlob, &'static str)| Descriptor::of(kind, layer.digest, layer.size);
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::of(OCI_CONFIG, config_blob.digest, config_blob.size),
        layers: layers.iter().map(describe).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    let manifest = Bytes::from(serde_json::to_vec(&manifest).expect("a manifest is plain JSON"));
    let mut blobs = vec![config_blob];
    blobs.extend(layers.into_iter().map(|(layer, _)| layer));
    Ok(LoadedImage {
        names: saved.repo_tags.unwrap_or_default(),
        digest: Hasher::digest(&manifest),
        media_type: OCI_MANIFEST.to_owned(),
        manifest,
        blobs,
        children: Vec::new(),
    })
}

fn oci_layout(archive: &Arc<Archive>) -> Result<Vec<LoadedImage>, ImageError> {
    let index: Index = archive.document("index.json")?;
    let images = index.manifests.iter().map(|entry| {
        let mut image = oci_image(archive, entry, 0)?;
        let named = NAME_ANNOTATIONS.iter().filter_map(|key| entry.annotations.get(*key));
        image.names = named.take(1).cloned().collect();
        Ok(image)
    });
    images.collect()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn oci_image(
    archive: &Arc<Archive>,
    entry: &Descriptor,
    depth: u32,
) -> Result<LoadedImage, ImageError> {
    let name = blob_name(&entry.digest);
    let bytes = archive.bytes(&name, MANIFEST_BYTES_MAX as u64)?;
    if Hasher::digest(&bytes) != entry.digest {
        return Err(not_an_image(format!("manifest {} is damaged", entry.digest)));
    }
    let bad = |error: manifest::ManifestError| not_an_image(format!("{name}: {error}"));
    let media_type = manifest::media_type(&bytes, Some(&entry.media_type)).map_err(bad)?;
    match Manifest::parse(&bytes, Some(&media_type)).map_err(bad)? {
        Manifest::Image(image) => {
            let blobs = std::iter::once(&image.config).chain(&image.layers);
            let blobs = blobs.filter(|blob| blob.urls.is_empty()).map(|blob| {
                let part = archive.need(&blob_name(&blob.digest))?;
                Ok(LoadedBlob { digest: blob.digest, size: part.size, part })
            });
            let blobs = blobs.collect::<Result<_, ImageError>>()?;
            let (digest, names, children) = (entry.digest, Vec::new(), Vec::new());
            Ok(LoadedImage { names, digest, media_type, manifest: bytes, blobs, children })
        }
        Manifest::Index(_) if depth >= NESTING_MAX => {
            Err(not_an_image("its indexes lie too deep within each other"))
        }
        Manifest::Index(index) => oci_index(archive, entry, media_type, bytes, &index, depth),
    }
}

/// An index whose images are all here is taken as it is. One that was saved for a single platform
/// stands for that platform's image.
fn oci_index(
    archive: &Arc<Archive>,
    entry: &Descriptor,
    media_type: String,
    bytes: Bytes,
    index: &Index,
    depth: u32,
) -> Result<LoadedImage, ImageError> {
    let children: Result<Vec<_>, _> =
        index.manifests.iter().map(|child| oci_image(archive, child, depth + 1)).collect();
    match children {
        Ok(children) => Ok(LoadedImage {
            names: Vec::new(),
            digest: entry.digest,
            media_type,
            manifest: bytes,
            blobs: Vec::new(),
            children,
        }),
        Err(error) => match index.select(&Platform::host()) {
            Some(ours) if media_type == OCI_INDEX || index.manifests.len() > 1 => {
                oci_image(archive, ours, depth + 1)
            }
            Some(_) | None => Err(error),
        },
    }
}

/// Where in an archive, or in a directory, something lies.
#[derive(Clone, Debug)]
struct Part {
    file: PartFile,
    offset: u64,
    size: u64,
}

#[derive(Clone, Debug)]
enum PartFile {
    /// Somewhere in the archive's file.
    Shared(Arc<File>),
    Own(PathBuf),
}

impl Part {
    fn open(&self) -> Result<Box<dyn Read + Send>, ImageError> {
        let file = match &self.file {
            PartFile::Shared(file) => Arc::clone(file),
            PartFile::Own(path) => Arc::new(File::open(path).map_err(BlobError::io("open", path))?),
        };
        Ok(Box::new(PartReader { file, at: self.offset, left: self.size }))
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> ImageError {
        let path = match &self.file {
            PartFile::Shared(_) => PathBuf::from("the archive"),
            PartFile::Own(path) => path.clone(),
        };
        move |source| ImageError::Io { doing, path, source }
    }
}

/// Reads a part without moving anybody else's position.
struct PartReader {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..want], self.at)?;
        if count == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A file or a directory with an image's parts in it.
#[derive(Debug)]
enum Archive {
    Tar { parts: HashMap<String, Part> },
    Directory(PathBuf),
}

impl Archive {
    fn open(path: &Path, temp_dir: &Path) -> Result<Arc<Self>, ImageError> {
        let meta = std::fs::metadata(path).map_err(BlobError::io("open", path))?;
        if meta.is_dir() {
            return Ok(Arc::new(Self::Directory(path.to_owned())));
        }
        let file = plain_tar(path, temp_dir)?;
        let parts = index_tar(&Arc::new(file), path)?;
        Ok(Arc::new(Self::Tar { parts }))
    }

    fn part(&self, name: &str) -> Option<Part> {
        match self {
            Self::Tar { parts } => parts.get(&normal(name)).cloned(),
            Self::Directory(dir) => {
                let name = normal(name);
                if name.split('/').any(|component| component == "..") {
                    return None;
                }
                let path = dir.join(name);
                let meta = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
                Some(Part { file: PartFile::Own(path), offset: 0, size: meta.len() })
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.part(name).is_some()
    }

    fn need(&self, name: &str) -> Result<Part, ImageError> {
        self.part(name).ok_or_else(|| not_an_image(format!("{name} is missing")))
    }

    fn bytes(&self, name: &str, bytes_max: u64) -> Result<Bytes, ImageError> {
        let part = self.need(name)?;
        if part.size > bytes_max {
            return Err(not_an_image(format!("{name} is longer than {bytes_max} bytes")));
        }
        let mut bytes = Vec::new();
        part.open()?.read_to_end(&mut bytes).map_err(part.failed("read"))?;
        Ok(bytes.into())
    }

    fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ImageError> {
        let bytes = self.bytes(name, DOCUMENT_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| not_an_image(format!("{name}: {error}")))
    }
}

/// `./a//b` is `a/b`.
fn normal(name: &str) -> String {
    let components = name.split('/').filter(|component| !matches!(*component, "" | "."));
    components.collect::<Vec<_>>().join("/")
}

/// The archive's file, or a nameless copy of it without its compression.
fn plain_tar(path: &Path, temp_dir: &Path) -> Result<File, ImageError> {
    let failed = |doing| BlobError::io(doing, path);
    let mut file = File::open(path).map_err(failed("open"))?;
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(failed("read"))?;
    file.rewind().map_err(failed("read"))?;
    let input = BufReader::with_capacity(READ_BYTES, &file);
    let mut unpacked: Box<dyn Read> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(input).map_err(failed("read"))?)
        }
        _ => return Ok(file),
    };
    let mut copy = tempfile::tempfile_in(temp_dir).map_err(BlobError::io("create", temp_dir))?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = unpacked.read(&mut buffer).map_err(failed("unpack"))?;
        if count == 0 {
            break;
        }
        copy.write_all(&buffer[..count]).map_err(BlobError::io("write", temp_dir))?;
    }
    copy.seek(SeekFrom::Start(0)).map_err(BlobError::io("read", temp_dir))?;
    Ok(copy)
}

/// Finds every file of the archive; a link stands for what it points to.
fn index_tar(file: &Arc<File>, path: &Path) -> Result<HashMap<String, Part>, ImageError> {
    let bad = |error: io::Error| not_an_image(format!("{}: {error}", path.display()));
    let mut parts = HashMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(&**file);
    for (count, entry) in archive.entries_with_seek().map_err(bad)?.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(not_an_image(format!("it has more than {ENTRIES_MAX} files")));
        }
        let entry = entry.map_err(bad)?;
        let name = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            parts.insert(name, Part { file: PartFile::Shared(Arc::clone(file)), offset, size });
        } else if let Some(target) = entry.link_name_bytes() {
            let target = String::from_utf8_lossy(&target).into_owned();
            links.push((name, target, kind.is_symlink()));
        }
    }
    for (name, target, is_relative) in links {
        let target = if is_relative { beside(&name, &target) } else { normal(&target) };
        if let Some(part) = parts.get(&target).cloned() {
            parts.entry(name).or_insert(part);
        }
    }
    Ok(parts)
}

/// What a link in the directory of `name` means by `target`.
fn beside(name: &str, target: &str) -> String {
    let mut components: Vec<&str> = name.split('/').collect();
    components.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            other => components.push(other),
        }
    }
    components.join("/")
}
