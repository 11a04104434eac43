//! Holds the crates to their places: a folder of `crates` is a layer, a layer uses those below it, crates
//! of one layer use each other only as the table says, the pure ones reach no runtime, and some libraries
//! have one owner.
//!
//! Services use none of each other: what crosses them is a row, or a port of `control`. So no service can
//! call another's handler. The table here and the one in ARCHITECTURE.md say the same; to change one is a
//! decision to change both.

use std::collections::BTreeMap;
use std::path::Path;

use crate::metadata::{Graph, Metadata};

/// A folder of `crates`, and what its crates may use.
struct Layer {
    folder: &'static str,
    /// Layers that each of its crates may use.
    below: &'static [&'static str],
    /// Single crates of other layers besides.
    besides: &'static [&'static str],
    /// Which of its crates may use which others of it; all other edges within the layer are out of place.
    within: &'static [(&'static str, &'static [&'static str])],
}

/// From the ground up.
const LAYERS: &[Layer] = &[
    Layer {
        folder: "base",
        below: &[],
        besides: &[],
        within: &[
            ("acme", &["files", "longshore-types", "trust"]),
            ("acs", &["longshore-types", "traffic"]),
            ("aws-wire", &["longshore-types"]),
            ("hooks", &["longshore-types", "trust"]),
            ("traffic", &["longshore-types"]),
            ("trust", &["files", "longshore-types"]),
        ],
    },
    Layer { folder: "api", below: &["base"], besides: &[], within: &[] },
    Layer {
        folder: "core",
        below: &["base"],
        besides: &[],
        within: &[
            ("model", &["events", "policy"]),
            ("store", &["model"]),
            ("plan", &["model"]),
            ("control", &["events", "model", "plan", "policy", "store", "vault"]),
        ],
    },
    Layer {
        folder: "host",
        below: &["base"],
        besides: &["routing"],
        within: &[
            ("agent", &["docker", "image", "network", "sandbox"]),
            ("docker", &["image", "sandbox"]),
        ],
    },
    Layer { folder: "stores", below: &["base"], besides: &["image"], within: &[] },
    Layer {
        folder: "services",
        below: &["base", "api", "core", "stores"],
        besides: &["image"],
        within: &[],
    },
    Layer {
        folder: "region",
        below: &["base", "api", "core", "stores", "services"],
        besides: &["image"],
        within: &[("region", &["sessions"])],
    },
];

/// Layers that a crate must not use though its layer may.
const NOT: &[(&str, &[&str])] = &[("sessions", &["stores", "services"])];

/// Folders in which everything is open to all: the binary's wiring, tests and chores.
const ABOVE_ALL: &[&str] = &["longshore", "testkit", "tests", "xtask"];
/// Programs of users and attackers, which know nothing of ours.
const OUTSIDE: &[&str] = &["samples", "tests/probe"];

/// What decides is a function of its arguments: no runtime, no socket, no database within reach.
const PURE: &[&str] = &["events", "longshore-types", "model", "plan", "policy", "routing"];
const IMPURE: &[&str] = &["tokio", "hyper", "mio", "rusqlite", "nix", "rustix"];

/// Libraries that only one of our crates may use by itself.
const OWNED: &[(&str, &str)] =
    &[("rusqlite", "store"), ("libcontainer", "sandbox"), ("bollard", "docker")];

/// Where `unsafe` may be written; every other crate takes the workspace's lints, which forbid it.
/// The probe is an attacker's program for tests: nothing of ours is linked with it.
const OWN_LINTS: &[&str] = &["sandbox", "probe"];

pub(crate) fn run(root: &Path, is_printing: bool) -> Result<(), String> {
    let metadata = Metadata::read(root).map_err(|error| error.to_string())?;
    let (graph, places) = (metadata.graph(), places(root, &metadata));
    let mut faults = faults(&graph, &places);
    for package in metadata.members() {
        let text = std::fs::read_to_string(&package.manifest_path)
            .map_err(|error| format!("failed to read the manifest of {}: {error}", package.name))?;
        faults.extend(lint_fault(&package.name, &text));
    }
    if is_printing {
        print!("{}", picture(&graph, &places));
    }
    if faults.is_empty() {
        println!("layers: every crate is in its place");
        return Ok(());
    }
    Err(format!("crates out of place:\n  {}", faults.join("\n  ")))
}

/// The folder that each crate is in, by its name.
type Places = BTreeMap<String, String>;

fn places(root: &Path, metadata: &Metadata) -> Places {
    let place = |manifest: &Path| {
        let inside = manifest.strip_prefix(root).unwrap_or(manifest);
        folder_of(&inside.to_string_lossy())
    };
    let members = metadata.members().into_iter();
    members.map(|each| (each.name.to_string(), place(each.manifest_path.as_std_path()))).collect()
}

/// `crates/core/model/Cargo.toml` is in `core`, `crates/longshore/Cargo.toml` in `longshore`.
fn folder_of(manifest: &str) -> String {
    let parts: Vec<&str> = manifest.split('/').collect();
    match parts.as_slice() {
        ["crates", folder, ..] => (*folder).to_owned(),
        ["tests", "probe", _] => "tests/probe".to_owned(),
        [folder, ..] => (*folder).to_owned(),
        [] => String::new(),
    }
}

/// The layers from the top down, each crate with what it uses of ours.
fn picture(graph: &Graph, places: &Places) -> String {
    let mut picture = String::new();
    let layers = LAYERS.iter().rev();
    for folder in ABOVE_ALL.iter().take(1).copied().chain(layers.map(|layer| layer.folder)) {
        picture.push_str(&format!("{folder}\n"));
        for (name, _) in places.iter().filter(|(_, place)| *place == folder) {
            let used = graph.uses.get(name).into_iter().flatten();
            let used: Vec<&str> =
                used.filter(|it| places.contains_key(*it)).map(String::as_str).collect();
            let arrow = if used.is_empty() { "" } else { "  → " };
            picture.push_str(&format!("    {name}{arrow}{}\n", used.join(", ")));
        }
    }
    picture
}

fn faults(graph: &Graph, places: &Places) -> Vec<String> {
    let mut faults = Vec::new();
    for (member, place) in places {
        let used = graph.uses.get(member).into_iter().flatten();
        for (name, other) in used.filter_map(|name| places.get_key_value(name)) {
            if !may_use((member, place), (name, other)) {
                faults.push(format!("{member} ({place}) may not use {name} ({other})"));
            }
        }
        let is_known = LAYERS.iter().any(|layer| layer.folder == place)
            || ABOVE_ALL.contains(&place.as_str())
            || OUTSIDE.contains(&place.as_str());
        if !is_known {
            faults.push(format!(
                "{member} is in no layer: crates/{place} is not in xtask/src/layers.rs"
            ));
        }
    }
    faults.extend(shared_apis(graph, places));
    faults.extend(library_faults(graph));
    faults
}

fn may_use((member, place): (&str, &str), (name, other): (&str, &str)) -> bool {
    if OUTSIDE.contains(&place) {
        return false;
    }
    // An unknown place is a fault of its own.
    let Some(layer) = LAYERS.iter().find(|layer| layer.folder == place) else { return true };
    if NOT.iter().any(|(who, what)| *who == member && what.contains(&other)) {
        return false;
    }
    let within = layer.within.iter().find(|(who, _)| *who == member);
    match place == other {
        true => within.is_some_and(|(_, names)| names.contains(&name)),
        false => layer.below.contains(&other) || layer.besides.contains(&name),
    }
}

/// A service's shapes are its own: whoever else has them could answer in its name.
fn shared_apis(graph: &Graph, places: &Places) -> Vec<String> {
    let apis = places.iter().filter(|(_, place)| *place == "api");
    let users = |api: &str| -> Vec<&str> {
        let services = places.iter().filter(|(_, place)| *place == "services");
        let is_user = |name: &&String| graph.uses.get(*name).is_some_and(|it| it.contains(api));
        services.map(|(name, _)| name).filter(is_user).map(String::as_str).collect()
    };
    let shared = apis.map(|(api, _)| (api, users(api))).filter(|(_, users)| users.len() > 1);
    shared
        .map(|(api, users)| format!("{api} is of one service, not of {}", users.join(", ")))
        .collect()
}

fn library_faults(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
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

    const PLACES: &[(&str, &str)] = &[
        ("longshore-types", "base"),
        ("ecs-api", "api"),
        ("model", "core"),
        ("plan", "core"),
        ("store", "core"),
        ("control", "core"),
        ("agent", "host"),
        ("network", "host"),
        ("ecs", "services"),
        ("ecr", "services"),
        ("sessions", "region"),
        ("region", "region"),
        ("longshore", "longshore"),
        ("hello", "samples"),
    ];

    fn faults_of(edges: &[(&str, &str)], more: &[(&str, &str)]) -> Vec<String> {
        let mut graph = Graph::default();
        for (from, to) in edges {
            graph.uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        let places: Places = PLACES
            .iter()
            .chain(more)
            .map(|(name, place)| ((*name).to_owned(), (*place).to_owned()))
            .collect();
        graph.members = places.keys().cloned().collect();
        faults(&graph, &places)
    }

    #[test]
    fn the_edges_of_the_table_pass() {
        let fine = [
            ("region", "ecs"),
            ("region", "sessions"),
            ("ecs", "control"),
            ("ecs", "ecs-api"),
            ("control", "store"),
            ("store", "rusqlite"),
            ("model", "longshore-types"),
            ("agent", "network"),
            ("longshore", "region"),
            ("longshore", "agent"),
        ];
        assert_eq!(faults_of(&fine, &[]), Vec::<String>::new());
    }

    #[test]
    fn every_other_edge_is_named() {
        for (edge, fault) in [
            (("ecs", "ecr"), "ecs (services) may not use ecr (services)"),
            (("store", "region"), "store (core) may not use region (region)"),
            (("control", "ecs-api"), "control (core) may not use ecs-api (api)"),
            (("sessions", "ecs"), "sessions (region) may not use ecs (services)"),
            (("ecs", "agent"), "ecs (services) may not use agent (host)"),
            (("agent", "control"), "agent (host) may not use control (core)"),
            (("hello", "longshore-types"), "hello (samples) may not use longshore-types (base)"),
            (("agent", "rusqlite"), "rusqlite belongs to store, not to agent"),
        ] {
            assert_eq!(faults_of(&[edge], &[]), [fault]);
        }
        let shared = faults_of(&[("ecs", "ecs-api"), ("ecr", "ecs-api")], &[]);
        assert_eq!(shared, ["ecs-api is of one service, not of ecr, ecs"]);
        let stray = faults_of(&[], &[("new", "attic")]);
        assert_eq!(stray, ["new is in no layer: crates/attic is not in xtask/src/layers.rs"]);
    }

    #[test]
    fn a_folder_is_a_layer() {
        for (manifest, folder) in [
            ("crates/core/model/Cargo.toml", "core"),
            ("crates/longshore/Cargo.toml", "longshore"),
            ("tests/probe/Cargo.toml", "tests/probe"),
            ("tests/Cargo.toml", "tests"),
        ] {
            assert_eq!(folder_of(manifest), folder);
        }
    }

    #[test]
    fn the_picture_shows_layers_from_the_top_down() {
        let places = [("ecs", "services"), ("control", "core"), ("model", "core")];
        let places = places.map(|(name, place)| (name.to_owned(), place.to_owned())).into();
        let mut graph = Graph::default();
        let uses = ["control", "tokio"].map(str::to_owned);
        graph.uses.insert("ecs".to_owned(), uses.into());
        let picture = picture(&graph, &places);
        assert!(picture.contains("services\n    ecs  → control\n"), "{picture}");
        assert!(picture.ends_with("core\n    control\n    model\napi\nbase\n"), "{picture}");
    }

    #[test]
    fn a_pure_crate_that_reaches_a_runtime_by_a_detour_is_shown_the_way() {
        let found = faults_of(&[("plan", "left-pad"), ("left-pad", "tokio")], &[]);
        assert_eq!(found, ["plan must not reach tokio: plan uses left-pad uses tokio"]);
    }

    #[test]
    fn a_crate_with_lints_of_its_own_is_named() {
        assert_eq!(lint_fault("plan", "[lints]\nworkspace = true\n"), None);
        assert_eq!(lint_fault("sandbox", "[lints.rust]\n"), None);
        assert!(lint_fault("plan", "[package]\nname = \"plan\"\n").is_some());
    }
}
