//! Holds the crates to their places: who may use whom, what the pure ones must not reach, and which
//! libraries have one owner.
//!
//! The table here and the one in ARCHITECTURE.md say the same; to change one is a decision to change both.

use std::path::Path;

use crate::metadata::{Graph, Metadata};

/// Who may use which of our crates. Crates that are not named here may use all.
const LAYERS: &[(&str, &[&str])] = &[
    ("longshore-types", &[]),
    ("files", &[]),
    ("aws-wire", &["longshore-types"]),
    ("ec2-api", &["aws-wire", "longshore-types"]),
    ("ecr-api", &["aws-wire", "longshore-types"]),
    ("ecs-api", &["aws-wire", "longshore-types"]),
    ("logs-api", &["aws-wire", "longshore-types"]),
    ("sts-api", &["aws-wire", "longshore-types"]),
    ("tagging-api", &["aws-wire", "longshore-types"]),
    ("model", &["longshore-types"]),
    ("store", &["model", "longshore-types"]),
    ("plan", &["model", "longshore-types"]),
    ("control", &["store", "model", "longshore-types"]),
    ("logs", &["files", "longshore-types"]),
    ("image", &["files", "longshore-types"]),
    ("registry", &["files", "image", "longshore-types"]),
    ("sandbox", &["files", "longshore-types"]),
    ("network", &["files", "longshore-types"]),
    ("agent", &["aws-wire", "files", "image", "sandbox", "network", "longshore-types"]),
    (
        "region",
        &[
            "ec2-api",
            "ecr-api",
            "ecs-api",
            "logs-api",
            "sts-api",
            "tagging-api",
            "aws-wire",
            "control",
            "files",
            "plan",
            "store",
            "model",
            "logs",
            "registry",
            "image",
            "longshore-types",
        ],
    ),
    ("hello", &[]),
    ("probe", &[]),
];

/// Crates in which everything is open to all: the binary's wiring, tests and chores.
const ABOVE_ALL: &[&str] = &["longshore", "testkit", "longshore-tests", "xtask"];

/// What decides is a function of its arguments: no runtime, no socket, no database within reach.
const PURE: &[&str] = &["longshore-types", "model", "plan"];
const IMPURE: &[&str] = &["tokio", "hyper", "mio", "rusqlite", "nix", "rustix"];

/// Libraries that only one of our crates may use by itself.
const OWNED: &[(&str, &str)] = &[("rusqlite", "store"), ("libcontainer", "sandbox")];

/// Where `unsafe` may be written; every other crate takes the workspace's lints, which forbid it.
/// The probe is an attacker's program for tests: nothing of ours is linked with it.
const OWN_LINTS: &[&str] = &["sandbox", "probe"];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let metadata = Metadata::read(root)?;
    let mut faults = faults(&metadata.graph());
    for package in metadata.members() {
        let text = std::fs::read_to_string(&package.manifest_path)
            .map_err(|error| format!("failed to read the manifest of {}: {error}", package.name))?;
        faults.extend(lint_fault(&package.name, &text));
    }
    if faults.is_empty() {
        println!("layers: every crate is in its place");
        return Ok(());
    }
    Err(format!("crates out of place:\n  {}", faults.join("\n  ")))
}

fn faults(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for member in &graph.members {
        let used = graph.uses.get(member).into_iter().flatten();
        let ours: Vec<&String> = used.filter(|name| graph.members.contains(*name)).collect();
        match LAYERS.iter().find(|(name, _)| name == member) {
            Some((_, allowed)) => {
                let stray = ours.iter().filter(|name| !allowed.contains(&name.as_str()));
                faults.extend(stray.map(|name| format!("{member} may not use {name}")));
            }
            None if ABOVE_ALL.contains(&member.as_str()) => {}
            None => {
                faults.push(format!("{member} has no place yet: add it to xtask/src/layers.rs"))
            }
        }
    }
    for pure in PURE {
        for impure in IMPURE {
            if let Some(way) = graph.way(pure, impure) {
                faults.push(format!("{pure} must not reach {impure}: {}", way.join(" uses ")));
            }
        }
    }
    for (library, owner) in OWNED {
        let others = graph.members.iter().filter(|member| {
            member.as_str() != *owner
                && graph.uses.get(*member).is_some_and(|uses| uses.contains(*library))
        });
        faults.extend(others.map(|other| format!("{library} belongs to {owner}, not to {other}")));
    }
    faults
}

fn lint_fault(name: &str, manifest: &str) -> Option<String> {
    if OWN_LINTS.contains(&name) {
        return None;
    }
    let lints = manifest.parse::<toml::Table>().ok().and_then(|table| {
        table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool)
    });
    (lints != Some(true)).then(|| format!("{name} does not take the workspace's lints"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            graph.uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            for name in [from, to] {
                let is_ours =
                    LAYERS.iter().any(|(ours, _)| ours == name) || name.starts_with("new");
                if is_ours {
                    graph.members.insert((*name).to_owned());
                }
            }
        }
        graph
    }

    #[test]
    fn the_edges_of_the_table_pass() {
        let fine = graph(&[
            ("region", "store"),
            ("store", "model"),
            ("store", "rusqlite"),
            ("model", "longshore-types"),
            ("agent", "network"),
        ]);
        assert_eq!(faults(&fine), Vec::<String>::new());
    }

    #[test]
    fn every_other_edge_is_named() {
        let found = faults(&graph(&[("store", "region"), ("agent", "rusqlite"), ("new", "plan")]));
        assert_eq!(
            found,
            [
                "new has no place yet: add it to xtask/src/layers.rs",
                "store may not use region",
                "rusqlite belongs to store, not to agent",
            ]
        );
    }

    #[test]
    fn a_pure_crate_that_reaches_a_runtime_by_a_detour_is_shown_the_way() {
        let found = faults(&graph(&[("plan", "left-pad"), ("left-pad", "tokio")]));
        assert_eq!(found, ["plan must not reach tokio: plan uses left-pad uses tokio"]);
    }

    #[test]
    fn a_crate_with_lints_of_its_own_is_named() {
        assert_eq!(lint_fault("plan", "[lints]\nworkspace = true\n"), None);
        assert_eq!(lint_fault("sandbox", "[lints.rust]\n"), None);
        assert!(lint_fault("plan", "[package]\nname = \"plan\"\n").is_some());
    }
}
