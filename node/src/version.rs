//! What this binary is.

use serde_json::{json, Value};

/// Version of the software.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit this was built from, if the build said so (`TENURED_COMMIT`).
pub fn commit() -> &'static str {
    option_env!("TENURED_COMMIT").unwrap_or("unknown")
}

/// What `tenured version --long` tells, in the Cosmos SDK's words where it has them.
pub fn long() -> Value {
    json!({
        "name": "tenure",
        "server_name": "tenured",
        "version": VERSION,
        "commit": commit(),
        "language": format!("rust {}", env!("CARGO_PKG_RUST_VERSION")),
        "build_tags": if cfg!(debug_assertions) { "debug" } else { "release" },
        "engines": ["solo"],
        "cometbft_protocol": tenure_solo::COMETBFT_VERSION,
        "abci": tenure_solo::ABCI_VERSION,
        "store_layout": tenure_store::LAYOUT_VERSION,
    })
}
