//! What this binary is.

use serde_json::{json, Value};

/// Version of the software.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit this was built from; `unknown` where the build could not tell.
pub fn commit() -> &'static str {
    match env!("TENURED_BUILD_COMMIT") {
        "" => "unknown",
        commit => commit,
    }
}

/// A library in this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Library {
    /// Its crate.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of the crate's package in hex, as `Cargo.lock` has it; empty if it came from elsewhere than a registry.
    pub sha256: &'static str,
}

/// The libraries in this binary, from the `Cargo.lock` that it was built with.
pub fn libraries() -> impl Iterator<Item = Library> {
    include_str!(concat!(env!("OUT_DIR"), "/build_deps.txt"))
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some(Library {
                name: words.next()?,
                version: words.next()?,
                sha256: words.next().filter(|sum| *sum != "-").unwrap_or_default(),
            })
        })
}

/// What `tenured version --long` tells, in the Cosmos SDK's words where it has them.
pub fn long() -> Value {
    json!({
        "name": "tenure",
        "server_name": "tenured",
        "version": VERSION,
        "commit": commit(),
        "build_tags": concat!(env!("TENURED_BUILD_PROFILE"), ",", env!("TENURED_BUILD_TARGET")),
        "language": env!("TENURED_BUILD_COMPILER"),
        "engines": ["solo", "comet", "external"],
        "cometbft_protocol": tenure_solo::COMETBFT_VERSION,
        "abci": tenure_solo::ABCI_VERSION,
        "store_layout": tenure_store::LAYOUT_VERSION,
        "build_deps": libraries().map(|l| format!("{}@{}", l.name, l.version)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_knows_its_libraries() {
        assert!(
            libraries().any(|l| l.name == "prost" && l.version.starts_with("0.13.") && l.sha256.len() == 64),
            "{:?}",
            libraries().collect::<Vec<_>>()
        );
        assert!(libraries().all(|l| l.name != "wasmtime" && !l.name.starts_with("tenure")));
        let listed = long()["build_deps"].to_string();
        assert!(listed.contains("\"prost@0.13."), "{listed}");
        assert!(long()["language"].as_str().is_some_and(|l| l.starts_with("rustc 1.")));
    }
}
