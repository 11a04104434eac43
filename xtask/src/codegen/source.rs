//! Where service models come from: the source archive of one release of botocore on PyPI.
//!
//! Fetched once with pip into `.cache/` (never committed) and unpacked there, as far as it is needed.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;

/// What of the archive is unpacked, besides the models that are asked for: the tests of `aws-wire` read these.
const TEST_DATA: [&str; 2] = ["tests/unit/protocols", "tests/unit/auth"];

/// An unpacked release of botocore.
pub(super) struct Botocore {
    folder: PathBuf,
}

impl Botocore {
    /// Finds the release in the cache, or fetches it; makes sure that `models` are unpacked.
    pub(super) fn obtain(root: &Path, version: &str, models: &[&str]) -> Result<Self, Error> {
        let cache = root.join(".cache");
        let name = format!("botocore-{version}");
        let folder = cache.join(&name);
        let have = |path: &str| folder.join(path).exists();
        let wanted: Vec<String> =
            models.iter().map(|model| format!("botocore/data/{model}")).collect();
        if !wanted.iter().map(String::as_str).chain(TEST_DATA).all(have) {
            fs::create_dir_all(&cache)?;
            let archive = cache.join(format!("{name}.tar.gz"));
            if !archive.exists() {
                download(&cache, version)?;
            }
            unpack(&cache, &archive, &name, &wanted)?;
        }
        Ok(Self { folder })
    }

    /// The text of a service model such as `ecs/2014-11-13`.
    pub(super) fn model(&self, name: &str) -> Result<String, Error> {
        let plain = self.folder.join("botocore/data").join(name).join("service-2.json");
        if plain.exists() {
            return Ok(fs::read_to_string(plain)?);
        }
        let mut text = String::new();
        let packed = fs::File::open(plain.with_extension("json.gz"))?;
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text)?;
        Ok(text)
    }
}

fn download(cache: &Path, version: &str) -> Result<(), Error> {
    eprintln!("fetching the source archive of botocore {version} from PyPI");
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"])
        .arg("--dest")
        .arg(cache)
        .arg(format!("botocore=={version}")))
}

fn unpack(cache: &Path, archive: &Path, name: &str, wanted: &[String]) -> Result<(), Error> {
    let paths = wanted.iter().map(String::as_str).chain(TEST_DATA);
    run(Command::new("tar")
        .arg("-xzf")
        .arg(archive)
        .arg("-C")
        .arg(cache)
        .args(paths.map(|path| format!("{name}/{path}"))))
}

fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Tool { tool: command.get_program().display().to_string() })
    }
}
