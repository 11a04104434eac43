//! The part of `cargo metadata` that our checks look at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// The workspace and everything it is built from.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

/// One package of the graph.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: PathBuf,
    /// Absent for what lies in this repository.
    pub(crate) source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
struct DependencyKind {
    /// Absent for an ordinary dependency, else `dev` or `build`.
    kind: Option<String>,
}

/// Who uses whom, by name, in what is shipped: dependencies of tests and build scripts left out.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) members: BTreeSet<String>,
    pub(crate) uses: BTreeMap<String, BTreeSet<String>>,
}

impl Metadata {
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let output = Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("failed to run cargo metadata: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("cargo metadata failed: {said}"));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata says what we cannot read: {error}"))
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    pub(crate) fn graph(&self) -> Graph {
        let names: BTreeMap<&str, &str> = self
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package.name.as_str()))
            .collect();
        let name_of = |id: &str| names.get(id).map_or_else(|| id.to_owned(), ToString::to_string);
        let members = self.members().map(|package| package.name.clone()).collect();
        let mut graph = Graph { members, uses: BTreeMap::new() };
        for node in &self.resolve.nodes {
            let ordinary = node
                .deps
                .iter()
                .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            let used = ordinary.map(|dependency| name_of(&dependency.pkg));
            graph.uses.entry(name_of(&node.id)).or_default().extend(used);
        }
        graph
    }
}

impl Graph {
    /// How `from` comes to use `to`: the names on one shortest way, or `None`.
    pub(crate) fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut ways = vec![vec![from.to_owned()]];
        let mut seen = BTreeSet::from([from.to_owned()]);
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                let last = way.last().map_or("", String::as_str);
                for next in self.uses.get(last).into_iter().flatten() {
                    let mut further = way.clone();
                    further.push(next.clone());
                    if next == to {
                        return Some(further);
                    }
                    if seen.insert(next.clone()) {
                        longer.push(further);
                    }
                }
            }
            ways = longer;
        }
        None
    }
}
