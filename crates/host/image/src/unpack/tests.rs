//! Layers as they come, layers as an attacker would write them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;

/// A layer being written, and where it is unpacked.
struct World {
    dir: tempfile::TempDir,
    tar: Builder<Vec<u8>>,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), tar: Builder::new(Vec::new()) }
    }

    fn entry(&mut self, kind: EntryType, path: &str, link: &str, body: &[u8]) -> &mut Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(body.len() as u64);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_mtime(1_000_000_000);
        header.set_uid(if is_root() { 1234 } else { 0 });
        header.set_gid(0);
        // Written past the checks of the library, which would refuse what we want to try.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.tar.append(&header, body).unwrap();
        self
    }

    fn file(&mut self, path: &str, body: &str) -> &mut Self {
        self.entry(EntryType::Regular, path, "", body.as_bytes())
    }

    fn directory(&mut self, path: &str) -> &mut Self {
        self.entry(EntryType::Directory, path, "", b"")
    }

    fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(EntryType::Symlink, path, target, b"")
    }

    fn hard_link(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(EntryType::Link, path, target, b"")
    }

    fn device(&mut self, kind: EntryType, path: &str, major: u32, minor: u32) -> &mut Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        header.set_size(0);
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.tar.append(&header, &b""[..]).unwrap();
        self
    }

    fn ownership() -> Ownership {
        if is_root() { Ownership::Keep } else { Ownership::Ignore }
    }

    fn bytes(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.tar, Builder::new(Vec::new())).into_inner().unwrap()
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    fn unpack_bytes(&self, blob: &[u8], diff_id: &Digest) -> Result<(), LayerError> {
        self.unpack_limited(blob, diff_id, LayerLimits::default())
    }

    fn unpack_limited(
        &self,
        blob: &[u8],
        diff_id: &Digest,
        limits: LayerLimits,
    ) -> Result<(), LayerError> {
        fs::create_dir(self.root()).unwrap();
        let path = self.dir.path().join("blob");
        fs::write(&path, blob).unwrap();
        let file = File::open(path).unwrap();
        unpack(file, &self.root(), diff_id, Self::ownership(), limits)
    }

    fn unpack(&mut self) -> Result<(), LayerError> {
        let bytes = self.bytes();
        self.unpack_bytes(&bytes, &crate::Hasher::digest(&bytes))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let meta = fs::symlink_metadata(self.root().join(path)).unwrap();
        meta.file_type().is_char_device() && meta.rdev() == 0
    }

    fn is_opaque(&self, path: &str) -> bool {
        let name = match Self::ownership() {
            Ownership::Keep => "trusted.overlay.opaque",
            Ownership::Ignore => "user.overlay.opaque",
        };
        let mut value = [0; 8];
        matches!(rustix::fs::getxattr(self.root().join(path), name, &mut value), Ok(1))
    }
}

#[test]
fn files_directories_and_links_are_as_the_layer_says() {
    let mut world = World::new();
    world
        .directory("./")
        .directory("etc/")
        .file("etc/name", "hello")
        .symlink("etc/link", "/etc/name")
        .hard_link("etc/hard", "etc/name")
        .file("deep/er/file", "x")
        .unpack()
        .unwrap();
    assert_eq!(world.read("etc/name"), "hello");
    assert_eq!(world.read("etc/hard"), "hello");
    let link = fs::read_link(world.root().join("etc/link")).unwrap();
    assert_eq!(link, Path::new("/etc/name"));
    let (name, hard) = (world.root().join("etc/name"), world.root().join("etc/hard"));
    let (name, hard) = (fs::metadata(name).unwrap(), fs::metadata(hard).unwrap());
    assert_eq!(name.ino(), hard.ino());
    assert_eq!(name.mtime(), 1_000_000_000);
    assert_eq!(name.permissions().mode() & 0o7777, 0o644);
    if is_root() {
        assert_eq!(name.uid(), 1234);
    }
    assert_eq!(fs::metadata(world.root().join("etc")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(world.read("deep/er/file"), "x");
}

#[test]
fn a_whiteout_becomes_a_device_and_an_opaque_directory_an_attribute() {
    let mut world = World::new();
    world
        .directory("a")
        .file("a/.wh.gone", "")
        .directory("b")
        .file("b/.wh..wh..opq", "")
        .file("b/new", "n")
        .file(".wh..wh.plnk/1.2", "")
        .unpack()
        .unwrap();
    assert!(world.is_whiteout("a/gone"));
    assert!(world.is_opaque("b"));
    assert!(!world.is_opaque("a"));
    assert_eq!(world.read("b/new"), "n");
    assert!(!world.root().join(".wh..wh.plnk").exists());
}

#[test]
fn what_a_layer_removes_and_adds_again_hides_what_was_below() {
    let mut world = World::new();
    world
        .file(".wh.dir", "")
        .file("dir/new", "n")
        .file(".wh.file", "")
        .file("file", "f")
        .directory("kept")
        .file(".wh.kept", "")
        .unpack()
        .unwrap();
    assert!(world.is_opaque("dir"));
    assert_eq!(world.read("dir/new"), "n");
    assert_eq!(world.read("file"), "f");
    assert!(world.is_opaque("kept"));
}

#[test]
fn a_later_entry_replaces_an_earlier_one_of_its_name() {
    let mut world = World::new();
    world
        .file("a", "first")
        .file("a", "second")
        .directory("b")
        .file("b/c", "x")
        .file("b", "now a file")
        .symlink("d", "nowhere")
        .directory("d")
        .file("d/e", "in")
        .unpack()
        .unwrap();
    assert_eq!(world.read("a"), "second");
    assert_eq!(world.read("b"), "now a file");
    assert_eq!(world.read("d/e"), "in");
}

#[test]
fn a_path_that_climbs_out_is_refused() {
    for path in ["../evil", "a/../../evil", "a/..", "..", "/../evil"] {
        let mut world = World::new();
        let error = world.file(path, "x").unpack().unwrap_err();
        assert!(matches!(error, LayerError::UnsafePath { .. }), "{path}: {error}");
        assert!(!world.dir.path().join("evil").exists());
    }
    let mut world = World::new();
    let error = world.file(".wh...", "").unpack().unwrap_err();
    assert!(matches!(error, LayerError::UnsafePath { .. }), "{error}");
}

#[test]
fn an_absolute_path_stays_below_the_root() {
    let mut world = World::new();
    world.file("/abs/file", "x").unpack().unwrap();
    assert_eq!(world.read("abs/file"), "x");
}

#[test]
fn nothing_is_written_through_a_link_that_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "safe").unwrap();
    let out = outside.path().to_str().unwrap();
    let mut world = World::new();
    world
        .symlink("abs", out)
        .file("abs/victim", "written")
        .symlink("rel", "../../../../../../../../../../..")
        .file("rel/climbed", "in the root")
        .symlink("file", &format!("{out}/victim"))
        .file("file", "replaced, not followed")
        .unpack()
        .unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "safe");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(world.read(&format!("{}/victim", out.trim_start_matches('/'))), "written");
    assert_eq!(world.read("climbed"), "in the root");
    assert_eq!(world.read("file"), "replaced, not followed");
}

#[test]
fn a_hard_link_reaches_nothing_outside() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let target = outside.path().join("secret");
    let mut world = World::new();
    let error = world.hard_link("a", target.to_str().unwrap()).unpack().unwrap_err();
    assert!(matches!(error, LayerError::LinkTarget { .. }), "{error}");

    let mut world = World::new();
    let error = world.hard_link("a", "../../secret").unpack().unwrap_err();
    assert!(matches!(error, LayerError::UnsafePath { .. }), "{error}");

    let mut world = World::new();
    world.symlink("dir", outside.path().to_str().unwrap());
    let error = world.hard_link("a", "dir/secret").unpack().unwrap_err();
    assert!(matches!(error, LayerError::LinkTarget { .. }), "{error}");
}

#[test]
fn a_file_goes_through_a_link_whose_directory_is_in_a_lower_layer() {
    let mut world = World::new();
    world.symlink("lib", "usr/lib").file("lib/libc.so", "x").unpack().unwrap();
    assert!(fs::symlink_metadata(world.root().join("lib")).unwrap().is_symlink());
    assert_eq!(world.read("usr/lib/libc.so"), "x");

    let mut world = World::new();
    world.symlink("a", "b").symlink("b", "a");
    assert!(world.file("a/x", "").unpack().is_err());
}

#[test]
fn a_device_that_containers_do_not_have_is_refused() {
    for (kind, major, minor) in
        [(EntryType::Block, 8, 0), (EntryType::Char, 1, 1), (EntryType::Char, 0, 0)]
    {
        let mut world = World::new();
        let error = world.device(kind, "dev/x", major, minor).unpack().unwrap_err();
        assert!(matches!(error, LayerError::Device { .. }), "{error}");
    }
    let mut world = World::new();
    world.device(EntryType::Char, "dev/null", 1, 3).unpack().unwrap();
    if is_root() {
        let meta = fs::metadata(world.root().join("dev/null")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o666);
    }
    let mut world = World::new();
    world.device(EntryType::Fifo, "pipe", 0, 0).unpack().unwrap();
    assert!(fs::metadata(world.root().join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn attributes_are_kept_except_those_that_overlayfs_obeys() {
    let mut world = World::new();
    let attributes: BTreeMap<&str, &[u8]> = BTreeMap::from([
        ("SCHILY.xattr.user.note", &b"hi"[..]),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        // cap_net_bind_service, as the kernel stores it.
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ]);
    world.tar.append_pax_extensions(attributes).unwrap();
    world.file("bin/server", "x").unpack().unwrap();
    let path = world.root().join("bin/server");
    let has = |name: &str| {
        let mut value = [0; 64];
        rustix::fs::getxattr(&path, name, &mut value).is_ok()
    };
    assert!(has("user.note"));
    assert!(!has("trusted.overlay.redirect"));
    assert!(!has("user.overlay.redirect"));
    assert_eq!(has("security.capability"), is_root());
}

#[test]
fn long_names_arrive_whole() {
    let mut world = World::new();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o600);
    world.tar.append_data(&mut header, &long, &b"x"[..]).unwrap();
    world.unpack().unwrap();
    assert_eq!(world.read(&long), "x");
}

#[test]
fn every_compression_that_registries_use_is_read() {
    let mut world = World::new();
    let plain = world.file("a", &"hello".repeat(1000)).bytes();
    let diff_id = crate::Hasher::digest(&plain);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for blob in [&plain, &gzip, &zstd] {
        let world = World::new();
        world.unpack_bytes(blob, &diff_id).unwrap();
        assert_eq!(world.read("a").len(), 5000);
    }
    let world = World::new();
    let error = world.unpack_bytes(b"BZh91AY&SY", &diff_id).unwrap_err();
    assert!(matches!(error, LayerError::Compression("bzip2")), "{error}");
}

#[test]
fn a_layer_that_ends_early_is_refused_wherever_it_ends() {
    let mut world = World::new();
    let plain = world.file("a", &"hello".repeat(300)).bytes();
    let diff_id = crate::Hasher::digest(&plain);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    for blob in [&plain, &gzip] {
        for cut in [10, 100, blob.len() / 2, blob.len() - 1] {
            let Some(blob) = blob.get(..cut) else { continue };
            let world = World::new();
            let error = world.unpack_bytes(blob, &diff_id).unwrap_err();
            let is_clear = matches!(
                error,
                LayerError::Truncated | LayerError::DiffMismatch(_) | LayerError::Corrupt(_)
            );
            assert!(is_clear, "cut at {cut}: {error}");
        }
    }
}

#[test]
fn other_content_than_the_image_names_is_refused() {
    let mut world = World::new();
    let bytes = world.file("a", "hello").bytes();
    let error = world.unpack_bytes(&bytes, &crate::Hasher::digest(b"other")).unwrap_err();
    assert!(matches!(error, LayerError::DiffMismatch(_)), "{error}");
}

#[test]
fn a_bomb_is_stopped_at_its_limit() {
    let mut world = World::new();
    let plain = world.file("zeros", &"\0".repeat(1 << 20)).bytes();
    let diff_id = crate::Hasher::digest(&plain);
    let blob = zstd::encode_all(&plain[..], 1).unwrap();
    assert!(blob.len() < 10_000);
    let limits = LayerLimits { bytes_max: 100_000, ..LayerLimits::default() };
    let error = World::new().unpack_limited(&blob, &diff_id, limits).unwrap_err();
    assert!(matches!(error, LayerError::TooLarge { max: 100_000 }), "{error}");

    let mut world = World::new();
    let many = (0..20).fold(&mut world, |world, n| world.file(&n.to_string(), "")).bytes();
    let limits = LayerLimits { entries_max: 10, ..LayerLimits::default() };
    let error = World::new().unpack_limited(&many, &diff_id, limits).unwrap_err();
    assert!(matches!(error, LayerError::TooManyEntries { max: 10 }), "{error}");
}

/// One entry of an arbitrary layer.
fn any_entry() -> impl Strategy<Value = (u8, String, String)> {
    let name = prop::sample::select(vec!["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", "l"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let target = prop::collection::vec(prop::sample::select(vec!["a", "..", "", "l"]), 1..5)
        .prop_map(|parts| parts.join("/"));
    (0..4_u8, path, target)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_layer_touches_what_is_outside(entries in prop::collection::vec(any_entry(), 1..12)) {
        let mut world = World::new();
        for (kind, path, target) in &entries {
            match kind {
                0 => world.file(path, "x"),
                1 => world.directory(path),
                2 => world.symlink(path, target),
                _ => world.hard_link(path, target),
            };
        }
        // It may fail; it may not leave the directory.
        let _ = world.unpack();
        let mut left: Vec<_> = fs::read_dir(world.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        prop_assert_eq!(left, ["blob", "layer"]);
    }
}

/// Somebody who can write into the directory exchanges each of its directories for a link to the host
/// and back while layers are unpacked there, which nobody can; it must not matter even so.
#[test]
fn what_is_exchanged_while_a_layer_is_unpacked_leads_nowhere() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("deep")).unwrap();
    fs::write(outside.path().join("deep/3"), "the host's").unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..40 {
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, format!("sub/deep/{number}"), &b"layer"[..]).unwrap();
    }
    let archive = builder.into_inner().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = files::Dir::open(dir.path()).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                let _ = root.symlink("aside".as_ref(), outside.path().as_os_str());
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(&root, "sub", &root, "aside", flags);
            }
        });
        for _ in 0..200 {
            // An error is fine.
            let _ = unpack_untrusted(&archive, dir.path());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(outside.path().join("deep")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.path().join("deep/3")).unwrap(), "the host's");
}
