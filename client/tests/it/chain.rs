//! A chain in memory whose blocks are made by hand.

use std::{net::TcpListener, sync::Arc, time::Duration};

use base64::{engine::general_purpose::STANDARD, Engine};
use prost::Message;
use serde_json::json;
use tempfile::TempDir;
use tenure_app::{
    genesis::{default_app_state, Profile},
    App, AppOptions,
};
use tenure_client::{
    keys::Key,
    rpc::{HttpNode, Node},
    tx::{Draft, SignedTx, Signer},
};
use tenure_proto::{
    any,
    cosmos::{
        auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse},
        bank::v1beta1::MsgSend,
        base::v1beta1::Coin as ProtoCoin,
    },
    tenure::{base::v1::Resources, market::v1::MsgPostBid},
    Any,
};
use tenure_solo::{create_validator_key, Genesis, GenesisSource, ManualClock, SoloConfig, SoloHandle, ValidatorKey};
use tenure_store::{MemoryBackend, StoreOptions};
use tenure_types::{Address, Coin};

pub(crate) const CHAIN_ID: &str = "tenure-light-1";
pub(crate) const FUNDS: u128 = 1_000_000_000;

pub(crate) struct Chain {
    pub(crate) alice: Key,
    pub(crate) bob: Key,
    pub(crate) engine: SoloHandle,
    /// What blocks are dated by.
    pub(crate) clock: Arc<ManualClock>,
    _dir: TempDir,
}

impl Chain {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (alice, bob) = (Key::random(), Key::random());
        let validator = create_validator_key(&path("key.json"), &path("state.json")).unwrap();
        let funds = [&alice, &bob].map(|key| (key.address(), Coin::base(FUNDS)));
        let app_state = default_app_state(Profile::Fast, &funds).unwrap();
        let genesis = json!({
            "genesis_time": tendermint::Time::from_unix_timestamp((tenure_client::auth::wall_ms() / 1000) as i64, 0).unwrap().to_rfc3339(),
            "chain_id": CHAIN_ID,
            "initial_height": "1",
            "validators": [{ "pub_key": public_key(&validator), "power": "10", "name": "v" }],
            "app_hash": "",
            "app_state": app_state,
        });
        let backend = Arc::new(MemoryBackend::new());
        let app = App::open(backend, StoreOptions::default(), AppOptions::default()).unwrap();
        let mut config = SoloConfig::at_home(CHAIN_ID, dir.path());
        config.genesis = GenesisSource::Document(Box::new(Genesis::from_json(genesis.to_string().as_bytes()).unwrap()));
        config.data_dir = path("data");
        config.validator_key = path("key.json");
        config.validator_state = path("state.json");
        config.block_interval = Duration::ZERO;
        let clock = Arc::new(ManualClock::new(tendermint::Time::now()));
        config.clock = clock.clone();
        config.rpc_listener = Some(TcpListener::bind("127.0.0.1:0").unwrap());
        Self {
            alice,
            bob,
            engine: tenure_solo::start(app, config).unwrap(),
            clock,
            _dir: dir,
        }
    }

    /// Makes a block, a tenth of a second after the one before; its height.
    pub(crate) fn block(&self) -> u64 {
        self.clock.advance(Duration::from_millis(100));
        self.engine.produce_block().unwrap().height.try_into().unwrap()
    }

    pub(crate) fn node(&self) -> HttpNode {
        HttpNode::new(&self.engine.rpc_addr().unwrap().to_string()).unwrap()
    }

    /// Number and sequence of a key's account.
    pub(crate) async fn account(&self, key: &Key) -> BaseAccount {
        let request = QueryAccountRequest {
            address: key.address().to_string(),
        };
        let params =
            json!({ "path": "/cosmos.auth.v1beta1.Query/Account", "data": hex::encode(request.encode_to_vec()) });
        let answer = self.node().call("abci_query", params).await.unwrap();
        let value = STANDARD.decode(answer["response"]["value"].as_str().unwrap()).unwrap();
        let response = QueryAccountResponse::decode(value.as_slice()).unwrap();
        BaseAccount::decode(response.account.unwrap().value.as_slice()).unwrap()
    }

    /// Puts a transaction into the next block, where it succeeds.
    pub(crate) fn deliver(&self, tx: &SignedTx) {
        let client = self.engine.client();
        let check = client.broadcast_tx_sync(&tx.bytes).unwrap().check_tx;
        assert_eq!((check.code, check.log.as_str()), (0, ""));
        self.block();
        let found = client.tx(&hex::decode(&tx.hash).unwrap()).unwrap().unwrap().result;
        assert_eq!((found.code, found.log.as_str()), (0, ""));
    }

    /// Puts a message of somebody into the next block.
    pub(crate) async fn send(&self, key: &Key, message: Any) {
        let account = self.account(key).await;
        let signers = [Signer::new(key, account.sequence)];
        let draft = Draft::new(vec![message], "", 0, &signers, 1_000_000, 2_000);
        let signature = draft.sign(key, CHAIN_ID, account.account_number);
        self.deliver(&draft.assemble(vec![signature]));
    }

    pub(crate) async fn transfer(&self, key: &Key, to: &Address, amount: u128) {
        let amount = vec![uten(amount)];
        let message = MsgSend {
            from_address: key.address().to_string(),
            to_address: to.to_string(),
            amount,
        };
        self.send(key, any(&message)).await;
    }
}

pub(crate) fn uten(amount: u128) -> ProtoCoin {
    ProtoCoin {
        denom: "uten".to_owned(),
        amount: amount.to_string(),
    }
}

/// A small bid.
pub(crate) fn bid(tenant: &Key) -> MsgPostBid {
    MsgPostBid {
        tenant: tenant.address().to_string(),
        resources: Some(Resources {
            cpu_milli: 1,
            memory_bytes: 1,
            storage_bytes: 0,
        }),
        max_rate: 3_600_000,
        duration_ms: 60_000,
        deposit: Some(uten(1_000_000)),
        manifest_hash: vec![7; 32],
        ..Default::default()
    }
}

fn public_key(key: &ValidatorKey) -> serde_json::Value {
    json!({ "type": "tendermint/PubKeyEd25519", "value": STANDARD.encode(key.public_key()) })
}
