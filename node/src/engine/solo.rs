//! The embedded engine as an [`Engine`].

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, Result as AnyResult};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tendermint_proto::v0_38::crypto::public_key::Sum;
use tendermint_proto::v0_38::crypto::PublicKey;
use tendermint_proto::v0_38::types::{Commit, Validator};
use tenure_solo::{
    load_node_id, Genesis, GenesisSource, MempoolConfig, MempoolError, SoloClient, SoloConfig, SoloError,
};
use tokio::sync::watch;

use super::{
    BlockRecord, Broadcast, BroadcastError, Ended, Engine, EngineError, FoundTxs, Head, SearchError, SearchPage,
    Started, Status, TxRecord, Validators, Waiting,
};

use crate::config::{AppConfig, CometConfig};
use crate::home::Home;

/// No block for this many intervals is a stall, and never less than [`MIN_STALL`].
const STALL_INTERVALS: u32 = 3;
const MIN_STALL: Duration = Duration::from_secs(10);
/// How long a start waits for the first block before it says where it is: a genesis time in the future is not waited for.
const FIRST_BLOCK: Duration = Duration::from_secs(2);

/// Starts the engine on a home.
pub fn start<A: Application>(
    app: A,
    home: &Home,
    config: &AppConfig,
    comet: &CometConfig,
    genesis: Genesis,
    rpc: TcpListener,
    force: bool,
) -> AnyResult<Started> {
    let mut solo = SoloConfig::at_home(genesis.chain_id.clone(), home.root());
    solo.genesis = GenesisSource::Document(Box::new(genesis));
    solo.node_id = load_node_id(&home.node_key())?;
    solo.moniker = comet.moniker.clone();
    solo.rpc_listener = Some(rpc);
    solo.block_interval = config.solo.block_interval.0;
    solo.min_block_gap = config.solo.min_block_gap.0;
    solo.mempool = MempoolConfig {
        size: comet.mempool.size,
        max_txs_bytes: comet.mempool.max_txs_bytes,
        max_tx_bytes: comet.mempool.max_tx_bytes,
        cache_size: comet.mempool.cache_size,
    };
    solo.archive = config.archive.options();
    solo.force = force;
    let handle = tenure_solo::start(app, solo).map_err(|e| match e {
        SoloError::MainNet(id) => anyhow!(
            "chain id {id:?} looks like a main network's, and the solo engine has one validator and tolerates no fault. Run it on CometBFT \
             with `tenured start --engine comet`, choose another chain id, or, for a trial by one operator, say `tenured start --force`"
        ),
        other => other.into(),
    })?;
    let engine: Arc<dyn Engine> = Arc::new(handle.client());
    let first = handle.client();
    Ok(Started {
        name: "solo: not BFT".to_owned(),
        stall: (config.solo.block_interval.0 * STALL_INTERVALS).max(MIN_STALL),
        // Queries need a first block.
        ready: Box::pin(async move {
            let _ = tokio::time::timeout(FIRST_BLOCK, first.wait_for_height(1)).await;
        }),
        engine,
        stop: Box::new(move || handle.stop().map_err(|e| anyhow!("{e}"))),
    })
}

impl From<MempoolError> for BroadcastError {
    fn from(error: MempoolError) -> Self {
        match &error {
            MempoolError::Stopped => Self::Unavailable(error.to_string()),
            _ => Self::Refused {
                text: error.to_string(),
                sdk_code: error.sdk_code(),
            },
        }
    }
}

impl From<SoloError> for EngineError {
    fn from(error: SoloError) -> Self {
        match error {
            SoloError::Stopped => Self::Unavailable(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// The one validator of a solo chain.
fn validator(client: &SoloClient, power: i64) -> Validator {
    let key = client.validator_key();
    Validator {
        address: client.validator_address().to_vec(),
        pub_key: Some(PublicKey {
            sum: Some(Sum::Ed25519(key.to_vec())),
        }),
        voting_power: power,
        proposer_priority: 0,
    }
}

impl Engine for SoloClient {
    fn chain_id(&self) -> &str {
        &self.genesis().chain_id
    }

    fn broadcast_tx_sync(&self, tx: &[u8]) -> Result<Broadcast, BroadcastError> {
        Ok(Self::broadcast_tx_sync(self, tx)?)
    }

    fn heads(&self) -> watch::Receiver<Option<Head>> {
        Self::heads(self)
    }

    fn archive(&self) -> Option<tenure_archive::Archive> {
        Some(Self::archive(self).clone())
    }

    fn ended(&self) -> Ended {
        let client = self.clone();
        Box::pin(async move { Self::ended(&client).await.map_err(|e: Arc<SoloError>| e.to_string()) })
    }

    fn status(&self) -> Result<Status, EngineError> {
        let latest = self.head();
        let first = self.genesis().initial_height;
        let next = latest.as_ref().map_or(first, |h| h.height.saturating_add(1));
        Ok(Status {
            node: self.node_info(),
            catching_up: false,
            earliest_height: if latest.is_some() {
                Self::earliest_height(self)?
            } else {
                0
            },
            latest,
            validator: validator(self, self.power(next)?.unwrap_or_default()),
            peers: 0,
        })
    }

    fn block(&self, height: Option<i64>) -> Result<Option<BlockRecord>, EngineError> {
        Ok(Self::block(self, height.unwrap_or_else(|| self.latest_height()))?)
    }

    fn block_by_hash(&self, hash: &[u8]) -> Result<Option<BlockRecord>, EngineError> {
        Ok(Self::block_by_hash(self, hash)?)
    }

    fn block_results(&self, height: Option<i64>) -> Result<Option<ResponseFinalizeBlock>, EngineError> {
        Ok(Self::block_results(
            self,
            height.unwrap_or_else(|| self.latest_height()),
        )?)
    }

    fn commit(&self, height: Option<i64>) -> Result<Option<Commit>, EngineError> {
        Ok(Self::commit(self, height.unwrap_or_else(|| self.latest_height()))?)
    }

    fn tx(&self, hash: &[u8]) -> Result<Option<TxRecord>, EngineError> {
        Ok(Self::tx(self, hash)?)
    }

    fn search_txs(&self, query: &str, page: SearchPage) -> Result<FoundTxs, SearchError> {
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let before = usize::try_from(page.number.saturating_sub(1)).unwrap_or(usize::MAX);
        let page = tenure_solo::Page {
            skip: before.saturating_mul(size),
            limit: size,
            descending: page.newest_first,
        };
        let found = Self::search_txs(self, query, page);
        let (txs, total) = found.map_err(|e| match e {
            tenure_solo::SearchError::Query(text) => SearchError::Query(text),
            tenure_solo::SearchError::Archive(error) => SearchError::Engine(EngineError::Broken(error.to_string())),
        })?;
        Ok(FoundTxs {
            txs,
            total: u64::try_from(total).unwrap_or(u64::MAX),
        })
    }

    fn mempool(&self) -> Result<Waiting, EngineError> {
        let (txs, bytes) = self.mempool_size();
        let txs = u64::try_from(txs).unwrap_or(u64::MAX);
        Ok(Waiting { txs, bytes })
    }

    fn validators(&self, height: Option<i64>) -> Result<Option<Validators>, EngineError> {
        let height = height.unwrap_or_else(|| self.latest_height());
        let power = self.power(height)?;
        Ok(power.map(|power| Validators {
            height,
            validators: vec![validator(self, power)],
        }))
    }
}
