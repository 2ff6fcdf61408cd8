//! Holds the layout to its arrows (docs/layout.md): which crate of the workspace may use which, and where the heavy dependencies end.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Every crate with the crates of ours that it may use. What is not listed here is not allowed.
const ARROWS: &[(&str, &[&str])] = &[
    ("tenure-types", &[]),
    ("tenure-proto", &[]),
    ("tenure-store", &[]),
    ("tenure-store-rocks", &["tenure-store"]),
    ("tenure-sdk", &["tenure-types", "tenure-proto", "tenure-store"]),
    ("tenure-x-auth", SDK),
    (
        "tenure-x-bank",
        &[
            "tenure-types",
            "tenure-proto",
            "tenure-store",
            "tenure-sdk",
            "tenure-x-auth",
        ],
    ),
    ("tenure-x-escrow", BANK),
    ("tenure-x-provider", BANK),
    ("tenure-x-market", MARKET),
    ("tenure-app", APP),
    ("tenure-abci", &[]),
    ("tenure-archive", &["tenure-abci"]),
    ("tenure-rest", &[]),
    ("tenure-comet", &[]),
    ("tenure-solo", &["tenure-archive"]),
    ("tenure-node", NODE),
    ("tenure-client", &["tenure-types", "tenure-proto", "tenure-store"]),
    ("tenure-agent", &["tenure-types", "tenure-proto", "tenure-client"]),
    (
        "tenure-testkit",
        &["tenure-types", "tenure-proto", "tenure-client", "tenure-comet"],
    ),
];
const SDK: &[&str] = &["tenure-types", "tenure-proto", "tenure-store", "tenure-sdk"];
const BANK: &[&str] = &[
    "tenure-types",
    "tenure-proto",
    "tenure-store",
    "tenure-sdk",
    "tenure-x-auth",
    "tenure-x-bank",
];
const MARKET: &[&str] = &[
    "tenure-types",
    "tenure-proto",
    "tenure-store",
    "tenure-sdk",
    "tenure-x-auth",
    "tenure-x-bank",
    "tenure-x-escrow",
    "tenure-x-provider",
];
const APP: &[&str] = &[
    "tenure-types",
    "tenure-proto",
    "tenure-store",
    "tenure-sdk",
    "tenure-x-auth",
    "tenure-x-bank",
    "tenure-x-escrow",
    "tenure-x-provider",
    "tenure-x-market",
];
const NODE: &[&str] = &[
    "tenure-types",
    "tenure-proto",
    "tenure-store",
    "tenure-store-rocks",
    "tenure-sdk",
    "tenure-app",
    "tenure-abci",
    "tenure-archive",
    "tenure-rest",
    "tenure-comet",
    "tenure-solo",
    "tenure-client",
];

/// Heavy crates and the only crates of ours that may have them anywhere below, tests included.
const HEAVY: &[(&str, &[&str])] = &[
    (
        "librocksdb-sys",
        // The client has it in its tests, which drive the solo engine; ARROWS keep it out of the client itself.
        &[
            "tenure-store-rocks",
            "tenure-archive",
            "tenure-solo",
            "tenure-node",
            "tenure-client",
        ],
    ),
    ("wasmtime", &["tenure-agent"]),
];

/// Crates of which only one version may be in the tree.
const SINGLE: &[&str] = &[
    "prost",
    "tonic",
    "tendermint",
    "tendermint-proto",
    "wasmtime",
    "rocksdb",
    "k256",
];

/// A dependency's id and its kinds, `None` for an ordinary one.
type Edge = (String, Vec<Option<String>>);

struct Graph {
    names: BTreeMap<String, String>,
    /// By package id.
    edges: BTreeMap<String, Vec<Edge>>,
    members: BTreeSet<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn graph() -> Graph {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            // What other platforms need is not in the cache of a machine that never built for them.
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
            "--manifest-path",
            manifest,
        ])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    Graph {
        names: list(&metadata["packages"])
            .iter()
            .map(|p| (text(&p["id"]), text(&p["name"])))
            .collect(),
        members: list(&metadata["workspace_members"]).iter().map(text).collect(),
        edges: list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let deps = list(&node["deps"]).iter().map(|dep| {
                    let kinds = list(&dep["dep_kinds"])
                        .iter()
                        .map(|k| k["kind"].as_str().map(str::to_owned))
                        .collect();
                    (text(&dep["pkg"]), kinds)
                });
                (text(&node["id"]), deps.collect())
            })
            .collect(),
    }
}

impl Graph {
    /// Names of everything below a member; its own development dependencies count, those of others do not.
    fn below(&self, member: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![member];
        while let Some(id) = open.pop() {
            for (dep, kinds) in &self.edges[id] {
                let development = kinds.iter().all(|kind| kind.as_deref() == Some("dev"));
                if (!development || id == member) && seen.insert(dep.as_str()) {
                    open.push(dep);
                }
            }
        }
        seen.iter().map(|id| self.names[*id].as_str()).collect()
    }
}

#[test]
fn crates_use_only_what_the_layout_allows() {
    let graph = graph();
    let ours: BTreeSet<&str> = graph.members.iter().map(|id| graph.names[id].as_str()).collect();
    let listed: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, listed, "every crate of the workspace must be in ARROWS");
    for (name, allowed) in ARROWS {
        let id = graph
            .members
            .iter()
            .find(|id| graph.names[*id] == *name)
            .expect("listed above");
        for (dep, kinds) in &graph.edges[id] {
            let dep = graph.names[dep].as_str();
            let ordinary = kinds.iter().any(Option::is_none);
            if ordinary && ours.contains(dep) {
                assert!(
                    allowed.contains(&dep),
                    "{name} uses {dep}: the arrow is not in docs/layout.md"
                );
            }
        }
    }
}

#[test]
fn heavy_dependencies_stay_at_the_edges() {
    let graph = graph();
    for (heavy, homes) in HEAVY {
        for member in &graph.members {
            let name = graph.names[member].as_str();
            let has = graph.below(member).contains(heavy);
            assert!(!has || homes.contains(&name), "{name} (or its tests) pulls in {heavy}");
        }
    }
}

#[test]
fn there_is_one_version_of_what_crosses_crates() {
    let graph = graph();
    for single in SINGLE {
        let versions = graph.names.values().filter(|name| name == single).count();
        assert!(versions <= 1, "{versions} versions of {single} in Cargo.lock");
    }
}
