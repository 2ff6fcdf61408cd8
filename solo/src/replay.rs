//! Start: brings engine and application to the same height (CometBFT v0.38 `consensus/replay.go`, with the engine's own order of
//! writes).
//!
//! With A the application's height, S the last block saved and T the last results saved (S is T or T + 1), both counted as
//! `initial_height - 1` when there is none:
//!
//! | found | done |
//! |---|---|
//! | no blocks, A = 0 | `InitChain` |
//! | no blocks, A > 0 | hand-over: genesis must begin at A + 1 with the application's hash; no `InitChain` |
//! | blocks, A = 0 | `InitChain` again, then replay from the first block |
//! | A < S | replay A + 1 ..= S; results must equal the saved ones where there are some |
//! | A = S = T | application hashes must be equal |
//! | A > T otherwise | refuse: the application is ahead |

use crate::block;
use crate::engine::finalize_request;
use crate::error::SoloError;
use crate::genesis::Genesis;
use crate::keys::{SignState, ValidatorKey};
use crate::state::{self, State};
use crate::store::{Initial, Store};
use crate::{ABCI_VERSION, BLOCK_PROTOCOL, COMETBFT_VERSION, P2P_PROTOCOL};
use prost::Message;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{RequestInfo, RequestInitChain, ResponseInfo, ValidatorUpdate};
use tendermint_proto::v0_38::types::Block;
use tenure_archive::Archive;

/// What CometBFT sends as `Info`.
pub(crate) fn info_request() -> RequestInfo {
    RequestInfo {
        version: COMETBFT_VERSION.into(),
        block_version: BLOCK_PROTOCOL,
        p2p_version: P2P_PROTOCOL,
        abci_version: ABCI_VERSION.into(),
    }
}

fn refuse<T>(reason: String) -> Result<T, SoloError> {
    Err(SoloError::Handshake(reason))
}

fn hash_text(hash: &[u8]) -> String {
    if hash.is_empty() {
        "(empty)".into()
    } else {
        hex::encode_upper(hash)
    }
}

/// Gives the archive back what a machine that lost power took from it: the engine keeps the results that the archive had not synced.
pub(crate) fn backfill(
    store: &Store,
    archive: &Archive,
    genesis: &Genesis,
    key: &ValidatorKey,
) -> Result<(), SoloError> {
    for height in store.results_heights()?.into_iter().filter(|h| *h <= archive.head()) {
        let (Some(results), Some(block)) = (store.results(height)?, store.block(height)?) else {
            continue;
        };
        let header = block.header.clone().unwrap_or_default();
        let power = store
            .power((height - 1).max(genesis.initial_height))?
            .unwrap_or_default();
        let request = finalize_request(genesis.initial_height, key, &block, &block::header_hash(&header), power);
        if archive.backfill(&request, &results)? {
            tracing::info!(height, "archived again what was lost with the machine's power");
        }
    }
    Ok(())
}

/// Runs the handshake; returns the state to go on from and the application's version.
pub(crate) fn handshake<A: Application>(
    app: &A,
    store: &Store,
    genesis: &Genesis,
    key: &ValidatorKey,
    sign_state: &mut SignState,
) -> Result<(State, u64), SoloError> {
    check_genesis(store, genesis)?;
    let info = app.info(info_request());
    let floor = genesis.initial_height - 1;
    let blocks = store.block_range()?;
    let saved = blocks.map_or(floor, |(_, last)| last);
    let executed = store.results_height()?.unwrap_or(floor);
    if saved != executed && saved != executed + 1 {
        return Err(SoloError::Corrupt(format!(
            "blocks reach height {saved}, results {executed}"
        )));
    }
    if info.last_block_height < 0 {
        return refuse(format!("the application reports height {}", info.last_block_height));
    }
    raise_sign_state(store, genesis, blocks.map(|(_, last)| last), sign_state)?;
    tracing::info!(
        app = info.last_block_height,
        blocks = saved,
        results = executed,
        "handshake"
    );

    let initial = start_state(app, store, genesis, key, &info, blocks.is_some())?;
    let mut at = if info.last_block_height == 0 {
        floor
    } else {
        info.last_block_height
    };
    if at > saved || (at > executed && saved > executed) {
        return refuse(format!(
            "the application is at height {at}, ahead of the engine (blocks to {saved}, results to {executed}). The engine's \
             data is older than the application's: restore both from the same backup, or roll the application back to \
             {executed} with `tenured rollback`, or remove both data directories to start over"
        ));
    }
    if at < floor {
        return refuse(format!(
            "the application is at height {at}, below the chain's initial height {}; it belongs to another chain",
            genesis.initial_height
        ));
    }
    if let Some((first, _)) = blocks.filter(|(first, last)| at < *last && at + 1 < *first) {
        return refuse(format!(
            "the application is at height {at}, but blocks below {first} are pruned and cannot be replayed. Restore the application's \
             data from a backup or snapshot of height {} or later, or remove both data directories to start over",
            first - 1
        ));
    }
    check_app_hash(store, &initial, &info, at, floor)?;
    while at < saved {
        at += 1;
        replay(app, store, genesis, key, at, at <= executed)?;
    }
    let state = if saved == floor {
        State::initial(genesis, &initial)
    } else {
        State::load(store, genesis, saved)?
    };
    Ok((state, info.app_version))
}

/// A chain keeps the genesis document it began with.
fn check_genesis(store: &Store, genesis: &Genesis) -> Result<(), SoloError> {
    match store.genesis_digest()? {
        Some(known) if known != genesis.digest && store.block_range()?.is_some() => refuse(
            "the genesis document differs from the one this chain began with. Put the old genesis.json back, or remove the data \
             directory to start a new chain"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// A crash may have come between saving a block and recording its signature; what is saved is signed.
fn raise_sign_state(
    store: &Store,
    genesis: &Genesis,
    last: Option<i64>,
    sign_state: &mut SignState,
) -> Result<(), SoloError> {
    let Some(last) = last else {
        return sign_state.check_new(genesis.initial_height);
    };
    let corrupt = |what: &str| SoloError::Corrupt(format!("commit {last} has no {what}"));
    let commit = store.commit(last)?.ok_or_else(|| corrupt("record"))?;
    let block_id = commit.block_id.as_ref().ok_or_else(|| corrupt("block id"))?;
    let signature = commit.signatures.first().ok_or_else(|| corrupt("signature"))?;
    let time = block::time_of(signature.timestamp).ok_or_else(|| corrupt("timestamp"))?;
    let bytes = block::vote_sign_bytes(&genesis.chain_id, last, block_id, time);
    sign_state.record(last, &bytes, &signature.signature)?;
    sign_state.check_new(last + 1)
}

/// What the chain starts from: read back, taken from genesis, or asked from the application by `InitChain`.
fn start_state<A: Application>(
    app: &A,
    store: &Store,
    genesis: &Genesis,
    key: &ValidatorKey,
    info: &ResponseInfo,
    begun: bool,
) -> Result<Initial, SoloError> {
    let first = genesis.initial_height;
    let known = if begun { store.initial(first)? } else { None };
    if begun && known.is_none() {
        return Err(SoloError::Corrupt(
            "there are blocks but no record of the chain's start".into(),
        ));
    }
    if info.last_block_height > 0 {
        if let Some(known) = known {
            return Ok(known);
        }
        // Hand-over from another engine: the genesis document itself describes the application's state.
        if info.last_block_height != first - 1 || info.last_block_app_hash != genesis.app_hash {
            return refuse(format!(
                "the application is at height {} with hash {} but the engine has no blocks and genesis begins at height {first} \
                 with hash {}. Restore the engine's data directory, or remove the application's data to start over",
                info.last_block_height,
                hash_text(&info.last_block_app_hash),
                hash_text(&genesis.app_hash)
            ));
        }
        let initial = Initial {
            app_hash: genesis.app_hash.clone(),
            power: genesis_power(key, &genesis_updates(genesis))?,
            params: genesis.consensus_params.clone(),
            app_version: info.app_version,
        };
        store.save_initial(&genesis.digest, first, &initial)?;
        return Ok(initial);
    }
    let initial = init_chain(app, genesis, key, info)?;
    match known {
        None => store.save_initial(&genesis.digest, first, &initial)?,
        Some(known) if known == initial => {}
        Some(known) => {
            return refuse(format!(
                "InitChain gave app hash {} and power {}, but this chain began with {} and {}: the application's genesis logic \
                 changed. Run the binary the chain began with",
                hash_text(&initial.app_hash),
                initial.power,
                hash_text(&known.app_hash),
                known.power
            ))
        }
    }
    Ok(initial)
}

fn genesis_updates(genesis: &Genesis) -> Vec<ValidatorUpdate> {
    genesis
        .validators
        .iter()
        .map(|v| ValidatorUpdate {
            pub_key: Some(block::proto_key(&v.pub_key)),
            power: v.power,
        })
        .collect()
}

fn genesis_power(key: &ValidatorKey, updates: &[ValidatorUpdate]) -> Result<i64, SoloError> {
    match state::updated_power(key, updates) {
        Ok(Some(power)) => Ok(power),
        Ok(None) => refuse("neither genesis nor InitChain names a validator; it must be the local key".into()),
        Err(e) => refuse(format!("initial validators: {e}")),
    }
}

fn init_chain<A: Application>(
    app: &A,
    genesis: &Genesis,
    key: &ValidatorKey,
    info: &ResponseInfo,
) -> Result<Initial, SoloError> {
    let updates = genesis_updates(genesis);
    let response = app.init_chain(RequestInitChain {
        time: Some(genesis.genesis_time.into()),
        chain_id: genesis.chain_id.clone(),
        consensus_params: Some(genesis.consensus_params.clone()),
        validators: updates.clone(),
        app_state_bytes: genesis.app_state.clone().into(),
        initial_height: genesis.initial_height,
    });
    let validators = if response.validators.is_empty() {
        &updates
    } else {
        &response.validators
    };
    let power = genesis_power(key, validators)?;
    let (params, app_version) = match &response.consensus_params {
        None => (genesis.consensus_params.clone(), info.app_version),
        Some(update) => {
            let params = crate::params::updated(&genesis.consensus_params, update);
            let version = params.version.unwrap_or_default().app;
            (params, version)
        }
    };
    crate::params::validate(&params).or_else(|e| refuse(format!("consensus parameters returned by InitChain: {e}")))?;
    let app_hash = if response.app_hash.is_empty() {
        genesis.app_hash.clone()
    } else {
        response.app_hash.to_vec()
    };
    Ok(Initial {
        app_hash,
        power,
        params,
        app_version,
    })
}

/// The application's hash must be the one the engine saw at that height.
fn check_app_hash(store: &Store, initial: &Initial, info: &ResponseInfo, at: i64, floor: i64) -> Result<(), SoloError> {
    if info.last_block_height == 0 {
        return Ok(());
    }
    let expected = if at == floor {
        initial.app_hash.clone()
    } else {
        let outcome = store.outcome(at)?;
        outcome
            .ok_or_else(|| SoloError::Corrupt(format!("results of height {at} are missing")))?
            .0
    };
    if expected != info.last_block_app_hash {
        return refuse(format!(
            "app hash at height {at} is {} in the application but {} in the engine. Their data do not belong together: restore \
             both from the same backup",
            hash_text(&info.last_block_app_hash),
            hash_text(&expected)
        ));
    }
    Ok(())
}

/// Executes a saved block on the application again; saves its results if there are none yet.
fn replay<A: Application>(
    app: &A,
    store: &Store,
    genesis: &Genesis,
    key: &ValidatorKey,
    height: i64,
    executed: bool,
) -> Result<(), SoloError> {
    let corrupt = |what: &str| SoloError::Corrupt(format!("{what} of height {height} is missing"));
    let bytes = store.block_bytes(height)?.ok_or_else(|| corrupt("block"))?;
    let block = Block::decode(bytes.as_slice()).map_err(|e| SoloError::Corrupt(format!("block {height}: {e}")))?;
    let header = block.header.clone().ok_or_else(|| corrupt("header"))?;
    let params = store.params(height)?.ok_or_else(|| corrupt("consensus params"))?;
    let power = store
        .power((height - 1).max(genesis.initial_height))?
        .ok_or_else(|| corrupt("validator power"))?;
    let hash = block::header_hash(&header);
    let request = finalize_request(genesis.initial_height, key, &block, &hash, power);
    let response = app.finalize_block(request);
    let txs = block.data.map(|d| d.txs).unwrap_or_default();
    let changes = state::changes(key, &params, height, txs.len(), &response)?;
    if executed {
        let (known_hash, was) = store.outcome(height)?.ok_or_else(|| corrupt("results"))?;
        let is = block::results_hash(&response.tx_results);
        if known_hash != response.app_hash || was != is {
            return refuse(format!(
                "replay of block {height} gave app hash {} and results {}, before it gave {} and {}. The application is not \
                 deterministic, or this is another version of it: run the binary that made the block",
                hash_text(&response.app_hash),
                hash_text(&is),
                hash_text(&known_hash),
                hash_text(&was)
            ));
        }
    } else {
        store.save_results(height, &response, &changes, 0)?;
    }
    app.commit();
    tracing::info!(height, "replayed block");
    Ok(())
}
