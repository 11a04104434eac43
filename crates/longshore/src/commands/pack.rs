//! `longshore image pack`: an OCI layout with one layer that holds one static program.
//!
//! The same program gives the same bytes, hence the same digests: no time, no owner's name and no
//! random number goes into the archive.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::ImagePack;
use crate::error::Error;

/// Who the program runs as: nobody.
const USER: u32 = 65_534;

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: format!("sha256:{}", hex(&Sha256::digest(&bytes))), bytes }
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

#[expect(clippy::disallowed_methods, reason = "the user's own file, where they want it")]
pub(crate) fn run(args: &ImagePack) -> Result<(), Error> {
    let program = read_program(&args.program)?;
    let name = args.program.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::message("the program's file has no usable name"))?;
    let write = || -> io::Result<()> {
        let file = File::create(&args.output)?;
        let mut out = io::BufWriter::new(file);
        write_layout(&mut out, &program, name, &args.name, &args.expose)?;
        out.flush()
    };
    write().map_err(Error::io("write the image"))?;
    println!("{}", args.output.display());
    Ok(())
}

/// Reads the program, and refuses one that could not run alone.
fn read_program(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|source| Error::DataDir { path: path.to_owned(), source })?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(Error::message(format!("{} is not a Linux program", path.display())));
    }
    if has_interpreter(&bytes) {
        return Err(Error::message(format!(
            "{} needs shared libraries, which its image would not have; link it statically",
            path.display()
        )));
    }
    Ok(bytes)
}

/// Whether a 64-bit little-endian ELF names a dynamic loader (a program header of type 3).
fn has_interpreter(elf: &[u8]) -> bool {
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        let value = bytes.iter().rev().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        usize::try_from(value).ok()
    };
    let header = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    let Some((start, size, count)) = header() else { return false };
    let kind = |at: usize| number(start.checked_add(at.checked_mul(size)?)?, 4);
    (0..count).any(|at| kind(at) == Some(3))
}

fn write_layout(
    out: &mut dyn Write,
    program: &[u8],
    file: &str,
    name: &str,
    ports: &[u16],
) -> io::Result<()> {
    let tar = layer(program, file)?;
    let diff_id = format!("sha256:{}", hex(&Sha256::digest(&tar)));
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(&tar)?;
    let layer = Blob::new(gzip.finish()?);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let exposed: serde_json::Map<String, Value> =
        ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
    let config = Blob::json(&json!({
        "architecture": architecture, "os": "linux",
        "config": {
            "Entrypoint": [format!("/{file}")], "User": USER.to_string(), "WorkingDir": "/",
            "Env": ["PATH=/"], "ExposedPorts": exposed,
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    }));
    let manifest = Blob::json(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
    }));
    let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let mut archive = tar::Builder::new(out);
    add(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    add(&mut archive, "index.json", index.to_string().as_bytes(), 0o644)?;
    for blob in [&manifest, &config, &layer] {
        let path = format!("blobs/{}", blob.digest.replace(':', "/"));
        add(&mut archive, &path, &blob.bytes, 0o644)?;
    }
    archive.finish()
}

/// The image's files: the program, and who is who.
fn layer(program: &[u8], file: &str) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut dir = tar::Header::new_ustar();
    dir.set_entry_type(tar::EntryType::Directory);
    dir.set_mode(0o755);
    dir.set_size(0);
    archive.append_data(&mut dir, "etc/", io::empty())?;
    add(&mut archive, "etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644)?;
    let passwd = b"root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n";
    add(&mut archive, "etc/passwd", passwd, 0o644)?;
    add(&mut archive, file, program, 0o755)?;
    archive.into_inner()
}

fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed() -> Vec<u8> {
        let mut out = Vec::new();
        write_layout(&mut out, b"\x7fELF program", "hello", "hello:1", &[8080]).unwrap();
        out
    }

    #[test]
    fn the_same_program_gives_the_same_archive() {
        assert_eq!(packed(), packed());
    }

    #[test]
    fn what_is_packed_can_be_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        std::fs::write(&path, packed()).unwrap();
        let images = image::archive::load(&path, dir.path(), &|_, _| {}).unwrap();
        assert_eq!(images.len(), 1);
        assert!(
            images[0].names.iter().any(|name| name.contains("hello:1")),
            "{:?}",
            images[0].names
        );
        assert_eq!(images[0].blobs.len(), 2, "a config and a layer");
    }

    #[test]
    fn a_program_that_needs_a_loader_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(read_program(&script).unwrap_err().to_string().contains("not a Linux program"));
        let us = read_program(Path::new("/proc/self/exe"));
        assert!(us.unwrap_err().to_string().contains("statically"));
        assert!(!has_interpreter(b"\x7fELF short"));
    }
}
