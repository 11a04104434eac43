//! Layers that try to get out, made of few bytes, and a place in which getting out would be seen.

use std::path::{Path, PathBuf};

const SECRET: &str = "only the host may read this";

/// A directory to work in beside one that nobody may touch.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("fuzz").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("inside")).expect("a directory");
        std::fs::create_dir(dir.path().join("outside")).expect("a directory");
        std::fs::write(dir.path().join("outside/a"), SECRET).expect("it is written");
        Self(dir)
    }

    pub fn inside(&self) -> PathBuf {
        self.0.path().join("inside")
    }

    pub fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    /// Fails if anything outside is not as it was.
    pub fn check(&self) {
        let outside = self.outside();
        let names: Vec<_> = std::fs::read_dir(&outside)
            .expect("it is there")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["a"], "outside");
        assert_eq!(std::fs::read_to_string(outside.join("a")).expect("it is there"), SECRET);
    }
}

/// Fails if a file below `dir` holds what lies outside.
#[allow(dead_code, reason = "one of two targets asks")]
pub fn shows_nothing(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            shows_nothing(&entry.path());
        } else if kind.is_file() {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            assert!(text != SECRET.as_bytes(), "{}", entry.path().display());
        }
    }
}

/// One of few names, so that entries meet each other.
pub fn name(which: u8, outside: &Path) -> String {
    let out = outside.display();
    match which % 16 {
        0 => "a".into(),
        1 => "b".into(),
        2 => "a/a".into(),
        3 => "a/b".into(),
        4 => "b/a".into(),
        5 => "a/b/a".into(),
        6 => "../outside".into(),
        7 => "../../outside/a".into(),
        8 => format!("{out}"),
        9 => format!("{out}/a"),
        10 => "a/../../outside/b".into(),
        11 => "a/.wh.a".into(),
        12 => "a/.wh..wh..opq".into(),
        13 => ".wh.b".into(),
        14 => format!("b{out}"),
        _ => "/".into(),
    }
}

/// Three bytes an entry: what it is, its name, and what it leads to.
pub fn archive(bytes: &[u8], outside: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in bytes.chunks_exact(3).take(64) {
        let mut header = tar::Header::new_gnu();
        let kinds = [
            tar::EntryType::Regular,
            tar::EntryType::Directory,
            tar::EntryType::Symlink,
            tar::EntryType::Link,
            tar::EntryType::Fifo,
            tar::EntryType::Regular,
        ];
        let kind = kinds[usize::from(entry[0]) % kinds.len()];
        header.set_entry_type(kind);
        header.set_mode(if entry[0] & 0x80 == 0 { 0o755 } else { 0o4777 });
        let name = name(entry[1], outside);
        // Written as they are: the library that makes archives would refuse them.
        let field = &mut header.as_old_mut().name;
        let length = name.len().min(field.len());
        field[..length].copy_from_slice(&name.as_bytes()[..length]);
        if kind == tar::EntryType::Symlink || kind == tar::EntryType::Link {
            let target = self::name(entry[2], outside);
            let field = &mut header.as_old_mut().linkname;
            let length = target.len().min(field.len());
            field[..length].copy_from_slice(&target.as_bytes()[..length]);
        }
        let body: &[u8] = if kind == tar::EntryType::Regular { b"made" } else { b"" };
        header.set_size(body.len() as u64);
        header.set_cksum();
        drop(builder.append(&header, body));
    }
    builder.into_inner().unwrap_or_default()
}
