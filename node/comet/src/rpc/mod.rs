//! CometBFT's JSON-RPC over HTTP, blocking, answered in the types of `tendermint-proto`.

mod json;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseCheckTx, ResponseFinalizeBlock};
use tendermint_proto::v0_38::p2p::DefaultNodeInfo;
use tendermint_proto::v0_38::types::{Block, BlockId, Commit, Validator};

/// CometBFT waits this long for a transaction's `CheckTx`, which waits for `Commit`.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The longest answer that is read, bytes: a block of 16 MiB and its results in base64 and JSON.
const MAX_ANSWER: u64 = 128 << 20;
/// The most validators of one page.
const PER_PAGE: usize = 100;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// CometBFT cannot be reached: it is starting, stopping or gone.
    #[error("CometBFT does not answer at {address}: {reason}")]
    Unreachable {
        /// Where it should be.
        address: SocketAddr,
        /// What the connection said.
        reason: String,
    },
    /// CometBFT refuses.
    #[error("{text}")]
    Refused {
        /// The JSON-RPC code.
        code: i64,
        /// Its words.
        text: String,
    },
    /// The answer is not what CometBFT v0.38 answers.
    #[error("CometBFT's answer to {method} cannot be read: {reason}")]
    Malformed {
        /// What was asked.
        method: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// What `status` and `net_info` say.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// The node as it describes itself to peers.
    pub node: DefaultNodeInfo,
    /// Height of the last block; 0 before the first.
    pub latest_height: i64,
    /// Its header hash; empty before the first.
    pub latest_block_hash: Vec<u8>,
    /// Its time.
    pub latest_block_time: tendermint::Time,
    /// Height of the first block that is kept; 0 before the first.
    pub earliest_height: i64,
    /// Whether it still fetches old blocks from peers.
    pub catching_up: bool,
    /// Its consensus key, with its voting power.
    pub validator: Validator,
}

/// A committed transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedTx {
    /// Its block.
    pub height: i64,
    /// Its place in the block, from 0.
    pub index: u32,
    /// Its bytes.
    pub tx: Vec<u8>,
    /// What executing it gave.
    pub result: ExecTxResult,
}

/// A client of one CometBFT. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Rpc {
    agent: ureq::Agent,
    address: SocketAddr,
    url: String,
}

#[derive(Deserialize)]
struct Envelope<T> {
    result: Option<T>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

impl Refusal {
    /// CometBFT puts its reason into `data` and "Internal error" into `message`.
    fn text(self) -> String {
        match self.data {
            Value::String(text) if !text.is_empty() => text,
            _ => self.message,
        }
    }
}

impl Rpc {
    /// A client of the CometBFT whose JSON-RPC listens at `address`; an unspecified address means this machine. Nothing is sent yet.
    pub fn new(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            let loopback = match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            address.set_ip(loopback);
        }
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_global(Some(ANSWER_LIMIT))
            // CometBFT says refusals as 500 with a JSON body.
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_idle_connections_per_host(16)
            .build()
            .into();
        Self {
            agent,
            address,
            url: format!("http://{address}/"),
        }
    }

    fn call<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, RpcError> {
        let unreachable = |e: ureq::Error| RpcError::Unreachable {
            address: self.address,
            reason: e.to_string(),
        };
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut response = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .send(request.to_string().as_bytes())
            .map_err(unreachable)?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(unreachable)?;
        let malformed = |reason: String| RpcError::Malformed { method, reason };
        let answer: Envelope<T> = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        match answer {
            Envelope {
                error: Some(refusal), ..
            } => Err(RpcError::Refused {
                code: refusal.code,
                text: refusal.text(),
            }),
            Envelope {
                result: Some(result), ..
            } => Ok(result),
            _ => Err(malformed("neither result nor error".to_owned())),
        }
    }

    /// The result of any method as it came, for commands that show it.
    pub fn ask(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        self.call(method, params)
    }

    /// The node and how far it is.
    pub fn status(&self) -> Result<NodeStatus, RpcError> {
        self.call::<json::Status>("status", json!({}))?
            .decode()
            .map_err(|reason| RpcError::Malformed {
                method: "status",
                reason,
            })
    }

    /// The height that the application has committed; 0 before the first. CometBFT shows a block itself a moment earlier.
    pub fn app_height(&self) -> Result<i64, RpcError> {
        let info = self.call::<json::AppInfo>("abci_info", json!({}))?;
        Ok(info.response.last_block_height)
    }

    /// How many peers are connected.
    pub fn peers(&self) -> Result<u64, RpcError> {
        Ok(self.call::<json::NetInfo>("net_info", json!({}))?.n_peers)
    }

    /// How many transactions wait in the mempool, and their bytes.
    pub fn mempool(&self) -> Result<(u64, u64), RpcError> {
        let waiting = self.call::<json::Unconfirmed>("num_unconfirmed_txs", json!({}))?;
        Ok((waiting.total, waiting.total_bytes))
    }

    /// Offers a transaction and returns what `CheckTx` said: code, codespace, data and log are all that CometBFT passes on.
    pub fn broadcast_tx_sync(&self, tx: &[u8]) -> Result<ResponseCheckTx, RpcError> {
        let sent: json::Sent = self.call("broadcast_tx_sync", json!({ "tx": BASE64.encode(tx) }))?;
        Ok(ResponseCheckTx {
            code: sent.code,
            data: sent.data.into(),
            log: sent.log,
            codespace: sent.codespace,
            ..Default::default()
        })
    }

    /// A block, the latest for `None`. `None`: there is none at this height, or it is pruned.
    pub fn block(&self, height: Option<i64>) -> Result<Option<(BlockId, Block)>, RpcError> {
        let answer = self.call::<json::BlockAnswer>("block", at(height));
        self.there(height, answer)?.map_or(Ok(None), |b| b.decode("block"))
    }

    /// A block by its header hash.
    pub fn block_by_hash(&self, hash: &[u8]) -> Result<Option<(BlockId, Block)>, RpcError> {
        self.call::<json::BlockAnswer>("block_by_hash", json!({ "hash": BASE64.encode(hash) }))?
            .decode("block_by_hash")
    }

    /// What `FinalizeBlock` returned for a block, the latest for `None`.
    pub fn block_results(&self, height: Option<i64>) -> Result<Option<ResponseFinalizeBlock>, RpcError> {
        let answer = self.call::<json::BlockResults>("block_results", at(height));
        Ok(self.there(height, answer)?.map(json::BlockResults::decode))
    }

    /// The commit for a block, the latest for `None`.
    pub fn commit(&self, height: Option<i64>) -> Result<Option<Commit>, RpcError> {
        let answer = self.call::<json::CommitAnswer>("commit", at(height));
        Ok(self
            .there(height, answer)?
            .map(|answer| answer.signed_header.commit.into()))
    }

    /// A committed transaction by its hash. Needs CometBFT's index.
    pub fn tx(&self, hash: &[u8]) -> Result<Option<CommittedTx>, RpcError> {
        match self.call::<json::TxAnswer>("tx", json!({ "hash": BASE64.encode(hash) })) {
            Ok(answer) => Ok(Some(answer.decode())),
            Err(RpcError::Refused { text, .. }) if text.contains("not found") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Committed transactions that satisfy a query, one page of them (from 1), and how many there are in all. Needs CometBFT's index.
    pub fn tx_search(
        &self,
        query: &str,
        page: u32,
        per_page: u32,
        newest_first: bool,
    ) -> Result<(Vec<CommittedTx>, u64), RpcError> {
        let ask = |page: u32| {
            let params = json!({
                "query": query,
                "prove": false,
                "page": page.to_string(),
                "per_page": per_page.to_string(),
                "order_by": if newest_first { "desc" } else { "asc" },
            });
            self.call::<json::FoundTxs>("tx_search", params)
        };
        match ask(page) {
            Ok(found) => Ok((found.txs.into_iter().map(json::TxAnswer::decode).collect(), found.total)),
            // A page behind the last one is refused; it is empty.
            Err(RpcError::Refused { text, .. }) if page > 1 && text.contains("page should be within") => {
                Ok((Vec::new(), ask(1)?.total))
            }
            Err(e) => Err(e),
        }
    }

    /// The validators of a height, with the height; of the latest block for `None`.
    pub fn validators(&self, height: Option<i64>) -> Result<Option<(i64, Vec<Validator>)>, RpcError> {
        let mut found: Vec<Validator> = Vec::new();
        let (mut height, mut page) = (height, 1_usize);
        loop {
            let mut params = at(height);
            params["page"] = page.to_string().into();
            params["per_page"] = PER_PAGE.to_string().into();
            let answer = self.call::<json::Validators>("validators", params);
            let Some(answer) = self.there(height, answer)? else {
                return Ok(None);
            };
            let some = !answer.validators.is_empty();
            let total = answer.total;
            // The next pages must be of the same set.
            height = Some(answer.block_height);
            for validator in answer.validators {
                found.push(validator.decode());
            }
            if !some || found.len() >= total {
                return Ok(Some((answer.block_height, found)));
            }
            page += 1;
        }
    }

    /// `None` for a refusal of a height that CometBFT does not have. It has no code of its own for that, so it is asked what it has.
    fn there<T>(&self, height: Option<i64>, answer: Result<T, RpcError>) -> Result<Option<T>, RpcError> {
        let refused = match answer {
            Ok(value) => return Ok(Some(value)),
            Err(e @ RpcError::Refused { .. }) => e,
            Err(e) => return Err(e),
        };
        let status = self.status()?;
        let there = match height {
            None => status.latest_height > 0,
            Some(height) => (status.earliest_height..=status.latest_height).contains(&height),
        };
        if there {
            Err(refused)
        } else {
            Ok(None)
        }
    }
}

fn at(height: Option<i64>) -> Value {
    match height {
        None => json!({}),
        Some(height) => json!({ "height": height.to_string() }),
    }
}
