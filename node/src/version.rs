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

/// The libraries in this binary, `name@version`.
pub fn libraries() -> impl Iterator<Item = &'static str> {
    include_str!(concat!(env!("OUT_DIR"), "/build_deps.txt")).lines()
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
        "build_deps": libraries().collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_knows_its_libraries() {
        assert!(
            libraries().any(|l| l.starts_with("prost@0.13")),
            "{:?}",
            libraries().collect::<Vec<_>>()
        );
        assert!(libraries().all(|l| !l.starts_with("wasmtime@")));
        assert!(long()["language"].as_str().is_some_and(|l| l.starts_with("rustc 1.")));
    }
}
