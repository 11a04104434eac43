//! Generates the crates in `crates/api` and `docs/parity.md` from botocore's service models.
//!
//! Same models and same `services.toml` in, same bytes out: `--check` relies on it.

mod emit;
mod fields;
mod model;
mod names;
mod parity;
mod schema;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use model::Model;
use source::Botocore;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("a service model can't be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("services.toml: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("shape {name}: {source}")]
    Shape { name: String, source: serde_json::Error },
    #[error("the model has no operation {name}")]
    NoSuchOperation { name: String },
    #[error("the model has no shape {name}")]
    NoSuchShape { name: String },
    #[error("{shape}: two members or values would both be named {name}")]
    Clash { shape: String, name: String },
    #[error("{shape}: we don't know {what} {value:?}")]
    Unknown { shape: String, what: &'static str, value: String },
    #[error(transparent)]
    Fields(#[from] fields::Wrong),
    #[error("{tool} failed")]
    Tool { tool: String },
    #[error("not up to date, run `cargo xtask codegen`:{}", list(.files))]
    Drift { files: Vec<PathBuf> },
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|file| format!("\n  {}", file.display())).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    botocore: String,
    service: Vec<Service>,
}

/// One `[[service]]` of services.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    module: String,
    #[serde(rename = "trait")]
    trait_name: String,
    title: String,
    model: String,
    /// How violations of the model's constraints are worded: `ecs`, `ecr`, `ec2`, or the code of the
    /// standard sentence.
    violations: String,
    operations: Vec<String>,
    #[serde(default)]
    beyond: Vec<Beyond>,
}

/// A member of a shape that AWS takes though its public model does not name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beyond {
    shape: String,
    member: String,
    of: String,
}

/// Writes all generated files, or with `check` only compares them.
pub(crate) fn run(root: &Path, check: bool) -> Result<(), Error> {
    let wanted: Wanted = toml::from_str(&fs::read_to_string(root.join("xtask/services.toml"))?)?;
    let models: Vec<&str> = wanted.service.iter().map(|service| service.model.as_str()).collect();
    let botocore = Botocore::obtain(root, &wanted.botocore, &models)?;
    let mut files = BTreeMap::new();
    let mut parity = vec![];
    let generated = Path::new("crates/api");
    for service in &wanted.service {
        let mut model = Model::parse(&botocore.model(&service.model)?)?;
        for each in &service.beyond {
            model.add(&each.shape, &each.member, &each.of)?;
        }
        for (name, text) in emit::service(service, &model)? {
            let path = generated.join(&service.module).join("src").join(name);
            files.insert(path, formatted(root, &text)?);
        }
        let manifest = emit::manifest(service, &model)?;
        files.insert(generated.join(&service.module).join("Cargo.toml"), manifest);
        parity.push((service, model));
    }
    if let Some((_, model)) = parity.iter().find(|(service, _)| service.module == "ecs") {
        files.insert("docs/task-definitions.md".into(), fields::page(root, model)?);
    }
    files.insert("docs/parity.md".into(), parity::page(&wanted.botocore, &parity));
    settle(root, &files, generated, check)
}

/// Brings the tree to hold exactly `files`, or says how it differs.
fn settle(
    root: &Path,
    files: &BTreeMap<PathBuf, String>,
    generated: &Path,
    check: bool,
) -> Result<(), Error> {
    let mut different: Vec<PathBuf> = files
        .iter()
        .filter(|(path, text)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(text))
        .map(|(path, _)| path.clone())
        .collect();
    let mut stale = vec![];
    for folder in fs::read_dir(root.join(generated)).into_iter().flatten().flatten() {
        for file in fs::read_dir(folder.path().join("src")).into_iter().flatten().flatten() {
            let path = generated.join(folder.file_name()).join("src").join(file.file_name());
            if !files.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    if check {
        different.extend(stale);
        return if different.is_empty() { Ok(()) } else { Err(Error::Drift { files: different }) };
    }
    for path in different {
        let target = root.join(&path);
        fs::create_dir_all(target.parent().unwrap_or(root))?;
        fs::write(target, &files[&path])?;
        println!("wrote {}", path.display());
    }
    for path in stale {
        fs::remove_file(root.join(&path))?;
        println!("removed {}", path.display());
    }
    Ok(())
}

fn formatted(root: &Path, text: &str) -> Result<String, Error> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| Error::Tool { tool: "rustfmt".into() })?;
    let text = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    let written = writer.join().is_ok_and(|written| written.is_ok());
    match String::from_utf8(output.stdout) {
        Ok(text) if output.status.success() && written => Ok(text),
        _ => Err(Error::Tool { tool: "rustfmt".into() }),
    }
}
