//! Whole-engine tests over a small key-value application.

#![allow(clippy::disallowed_methods)] // Tests measure wall time.

mod app;
mod chain;
mod cometbft;
mod evidence;
mod http;
mod recovery;
mod ws;

use crate::clock::ManualClock;
use crate::config::{GenesisSource, SoloConfig};
use crate::core::{BlockRecord, SoloClient};
use crate::genesis::Genesis;
use crate::handle::{start, SoloHandle};
use crate::keys::{create_validator_key, ValidatorKey};
use crate::SoloError;
use app::{Disk, Kv};
use parking_lot::Mutex;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tendermint::block::signed_header::SignedHeader;
use tendermint::{validator, PublicKey, Time};
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::types::{TrustThreshold, TrustedBlockState, UntrustedBlockState};
use tendermint_light_client_verifier::{ProdVerifier, Verdict, Verifier};

/// When the test chains begin.
const GENESIS: &str = "2026-03-01T00:00:00Z";

/// A home directory with a key, the application's disk, and a clock: what survives a crash.
struct World {
    dir: TempDir,
    disk: Arc<Mutex<Disk>>,
    clock: Arc<ManualClock>,
    genesis: Vec<u8>,
}

impl World {
    fn new() -> Self {
        Self::with_height(1)
    }

    fn with_height(initial_height: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = create_validator_key(&key_path(dir.path()), &state_path(dir.path())).unwrap();
        let genesis = genesis_json(&key, initial_height);
        let clock = Arc::new(ManualClock::new(Time::parse_from_rfc3339(GENESIS).unwrap()));
        Self {
            dir,
            disk: Arc::default(),
            clock,
            genesis,
        }
    }

    /// Manual blocks, no RPC, the world's clock.
    fn config(&self) -> SoloConfig {
        let mut config = SoloConfig::at_home("solo-test", self.dir.path());
        config.genesis = GenesisSource::Document(Box::new(Genesis::from_json(&self.genesis).unwrap()));
        config.clock = self.clock.clone();
        config.block_interval = Duration::ZERO;
        config
    }

    fn app(&self) -> Kv {
        Kv::open(self.disk.clone())
    }

    fn start(&self) -> SoloHandle {
        start(self.app(), self.config()).unwrap()
    }

    fn try_start(&self) -> Result<SoloHandle, SoloError> {
        start(self.app(), self.config())
    }

    fn tick(&self) {
        self.clock.advance(Duration::from_secs(1));
    }
}

fn key_path(home: &Path) -> std::path::PathBuf {
    home.join("config/priv_validator_key.json")
}

fn state_path(home: &Path) -> std::path::PathBuf {
    home.join("data/priv_validator_state.json")
}

fn genesis_json(key: &ValidatorKey, initial_height: i64) -> Vec<u8> {
    json!({
        "genesis_time": GENESIS,
        "chain_id": "solo-test",
        "initial_height": initial_height.to_string(),
        "validators": [{"pub_key": crate::keys::pub_key_json(&key.public_key()), "power": "10", "name": "v"}],
        "app_hash": "",
        "app_state": {"seed": "1"},
    })
    .to_string()
    .into_bytes()
}

fn send(client: &SoloClient, tx: &str) -> u32 {
    client.broadcast_tx_sync(tx.as_bytes()).unwrap().check_tx.code
}

fn validators(client: &SoloClient, height: i64) -> validator::Set {
    let key = PublicKey::from_raw_ed25519(&client.validator_key()).unwrap();
    let power = client.0.store.power(height).unwrap().unwrap();
    validator::Set::without_proposer(vec![validator::Info::new(
        key,
        u64::try_from(power).unwrap().try_into().unwrap(),
    )])
}

fn signed_header(client: &SoloClient, record: &BlockRecord) -> SignedHeader {
    let header = record.block.header.clone().unwrap();
    let commit = client.commit(header.height).unwrap().unwrap();
    SignedHeader::new(header.try_into().unwrap(), commit.try_into().unwrap()).unwrap()
}

/// Checks every block of the chain with tendermint's light client, each against its predecessor and the first against the genesis
/// validators, and what light clients do not look at: parent links, data, commit and results hashes, part sets, strict time.
fn verify_chain(client: &SoloClient) {
    let options = Options {
        trust_threshold: TrustThreshold::TWO_THIRDS,
        trusting_period: Duration::from_secs(3600 * 24 * 365),
        clock_drift: Duration::from_secs(3600 * 24 * 365),
    };
    let first = client.genesis().initial_height;
    let mut parent: Option<BlockRecord> = None;
    for height in first..=client.latest_height() {
        let record = client.block(height).unwrap().unwrap();
        let signed = signed_header(client, &record);
        let header = record.block.header.clone().unwrap();
        let (now, next) = (validators(client, height), validators(client, height + 1));
        let untrusted = UntrustedBlockState {
            signed_header: &signed,
            validators: &now,
            next_validators: Some(&next),
        };
        let verifier = ProdVerifier::default();
        assert_eq!(
            verifier.verify_validator_sets(&untrusted),
            Verdict::Success,
            "height {height}"
        );
        assert_eq!(verifier.verify_commit(&untrusted), Verdict::Success, "height {height}");
        if let Some(parent) = &parent {
            let trusted = signed_header(client, parent);
            let state = TrustedBlockState {
                chain_id: &trusted.header.chain_id,
                header_time: trusted.header.time,
                height: trusted.header.height,
                next_validators: &now,
                next_validators_hash: trusted.header.next_validators_hash,
            };
            let verdict = verifier.verify_update_header(untrusted, state, &options, Time::now());
            assert_eq!(verdict, Verdict::Success, "height {height}");
            assert!(signed.header.time > trusted.header.time, "time of {height}");
            assert_eq!(
                header.last_block_id.as_ref(),
                Some(&parent.block_id),
                "parent of {height}"
            );
            let last_commit = record.block.last_commit.clone().unwrap();
            assert_eq!(Some(&last_commit), client.commit(height - 1).unwrap().as_ref());
            let results = client.block_results(height - 1).unwrap().unwrap();
            assert_eq!(header.app_hash, results.app_hash);
            assert_eq!(
                header.last_results_hash,
                crate::block::results_hash(&results.tx_results)
            );
            // BFT time: the one vote's timestamp.
            assert_eq!(header.time, last_commit.signatures[0].timestamp);
        }
        let encoded = client.0.store.block_bytes(height).unwrap().unwrap();
        assert_eq!(crate::block_id(&header, &encoded), record.block_id, "id of {height}");
        let txs = &record.block.data.as_ref().unwrap().txs;
        assert_eq!(header.data_hash, crate::block::data_hash(txs), "data of {height}");
        parent = Some(record);
    }
}
