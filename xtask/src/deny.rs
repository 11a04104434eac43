//! Licences, banned crates and sources of everything we are built from, against `deny.toml`.
//!
//! The file is `cargo deny`'s, and where that program is installed it has the last word. This is what
//! runs everywhere: it needs nothing but `cargo metadata`, and knows the part of the file that we use.

use std::collections::BTreeSet;
use std::path::Path;

use cargo_metadata::Package;
use serde::Deserialize;
use spdx::{Expression, ParseMode};

use crate::metadata::Metadata;

/// The part of `deny.toml` that we use.
#[derive(Debug, Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    #[serde(default)]
    clarify: Vec<Clarification>,
}

/// What a package's licence is, where its manifest does not say.
#[derive(Debug, Deserialize)]
struct Clarification {
    #[serde(rename = "crate")]
    name: String,
    expression: String,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(root.join("deny.toml"))
        .map_err(|error| format!("failed to read deny.toml: {error}"))?;
    let rules: Rules = toml::from_str(&text)
        .map_err(|error| format!("deny.toml says what we cannot read: {error}"))?;
    let metadata = Metadata::read(root).map_err(|error| error.to_string())?;
    let foreign = metadata.packages().iter().filter(|package| package.source.is_some());
    let faults: Vec<String> = foreign.filter_map(|package| fault(&rules, package)).collect();
    if faults.is_empty() {
        println!("deny: {} packages, all of them welcome", metadata.packages().len());
        return Ok(());
    }
    Err(format!("packages that are not welcome:\n  {}", faults.join("\n  ")))
}

fn fault(rules: &Rules, package: &Package) -> Option<String> {
    let Package { name, version, license, source, .. } = package;
    if rules.bans.deny.iter().any(|ban| ban.name == **name) {
        return Some(format!("{name} {version} is banned"));
    }
    let source = source.as_ref().map_or("", |source| source.repr.as_str());
    let is_known = |registry: &String| source.strip_prefix("registry+") == Some(registry.as_str());
    if !rules.sources.allow_registry.iter().any(is_known) {
        return Some(format!("{name} {version} comes from {source}"));
    }
    let clarified = || rules.licenses.clarify.iter().find(|it| it.name == **name);
    match license.as_ref().or_else(|| clarified().map(|it| &it.expression)) {
        Some(license) if is_allowed(&rules.licenses.allow, license) => None,
        Some(license) => Some(format!("{name} {version} is licensed under {license}")),
        None => Some(format!("{name} {version} names no licence")),
    }
}

/// Whether an SPDX expression can be met with allowed licences alone. The forms that old manifests use
/// (`MIT/Apache-2.0`, `GPL-3.0`) are understood; one that makes no sense is not met.
fn is_allowed(allowed: &BTreeSet<String>, expression: &str) -> bool {
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|expression| {
        // A plus means: or a later version of it.
        expression.evaluate(|asked| allowed.contains(asked.to_string().trim_end_matches('+')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_met_or_not() {
        let names = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
        let allowed = names.into_iter().map(String::from).collect();
        for fine in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-2.0/MIT",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0 AND MIT OR Apache-2.0",
            "Apache-2.0+",
        ] {
            assert!(is_allowed(&allowed, fine), "{fine}");
        }
        for not in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "",
            "MIT OR",
            "(MIT",
            "MIT Apache-2.0",
            "MIT WITH Classpath-exception-2.0",
            "GPL-3.0 AND (MIT OR Apache-2.0)",
        ] {
            assert!(!is_allowed(&allowed, not), "{not}");
        }
    }
}
