//! The part of `cargo metadata` that our checks look at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand, Package, PackageId};

/// The workspace and everything it is built from.
#[derive(Debug)]
pub(crate) struct Metadata(cargo_metadata::Metadata);

/// Who uses whom, by name, in what is shipped: dependencies of tests and build scripts left out.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) members: BTreeSet<String>,
    pub(crate) uses: BTreeMap<String, BTreeSet<String>>,
}

impl Metadata {
    pub(crate) fn read(root: &Path) -> Result<Self, cargo_metadata::Error> {
        let mut command = MetadataCommand::new();
        command.current_dir(root).other_options(["--locked".to_owned()]);
        command.exec().map(Self)
    }

    pub(crate) fn packages(&self) -> &[Package] {
        &self.0.packages
    }

    pub(crate) fn members(&self) -> Vec<&Package> {
        self.0.workspace_packages()
    }

    pub(crate) fn graph(&self) -> Graph {
        let names: BTreeMap<&PackageId, String> =
            self.packages().iter().map(|package| (&package.id, package.name.to_string())).collect();
        let name_of = |id: &PackageId| names.get(id).cloned().unwrap_or_else(|| id.to_string());
        let members = self.members().iter().map(|package| package.name.to_string()).collect();
        let mut graph = Graph { members, uses: BTreeMap::new() };
        for node in self.0.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let is_ordinary = |dependency: &&cargo_metadata::NodeDep| {
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
            };
            let used = node.deps.iter().filter(is_ordinary);
            let used = used.map(|dependency| name_of(&dependency.pkg));
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
