//! What the servers ask of the application.

use tendermint_proto::v0_38::abci::{RequestQuery, ResponseQuery};
use tenure_types::Result;

/// An answered query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The encoded response.
    pub value: Vec<u8>,
    /// The height of the state it was read from.
    pub height: u64,
}

/// The read side of the chain. A trait so that the servers can be tested with handlers that panic or never end.
pub trait Chain: Send + Sync + 'static {
    /// Answers a query on the state of `height`, or the latest. Error: see the query; an unknown height says which are kept.
    fn query(&self, path: &str, request: &[u8], height: Option<u64>) -> Result<Answer>;
    /// Answers an ABCI query: a query by its path, or `/store/<store>/key` with its proof.
    fn abci_query(&self, request: RequestQuery) -> ResponseQuery;
    /// Paths of all queries, `/pkg.Service/Method`.
    fn query_paths(&self) -> Vec<String>;
}
