//! Signed transfers between many accounts, and a chain in memory that takes them: for measurements. `bench/` includes this file.

use std::sync::Arc;

use prost::Message as _;
use secp256k1::{ecdsa::Signature, Message, PublicKey, Secp256k1, SecretKey};
use sha2::{Digest, Sha256};
use tendermint_abci::Application;
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::abci::{CheckTxType, RequestCheckTx, RequestFinalizeBlock, RequestInitChain, ResponseFinalizeBlock},
};
use tenure_app::{
    genesis::{default_app_state, Profile},
    tx::sign_bytes,
    App, AppOptions,
};
use tenure_proto::{
    any,
    cosmos::{
        auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse},
        bank::v1beta1::MsgSend,
        base::v1beta1::Coin as ProtoCoin,
        crypto::secp256k1::PubKey,
        tx::{
            signing::v1beta1::SignMode,
            v1beta1::{mode_info, AuthInfo, Fee, ModeInfo, SignerInfo, TxBody, TxRaw},
        },
    },
};
use tenure_store::{Backend, StoreOptions};
use tenure_types::{Address, Coin};

const CHAIN_ID: &str = "tenure-bench-1";
const GENESIS_MS: u64 = 1_795_305_600_000;

/// Somebody with a key and a sequence.
pub(crate) struct Account {
    secret: SecretKey,
    compressed: [u8; 33],
    address: Address,
    number: u64,
    sequence: u64,
}

/// A chain of one application, driven block by block, and the accounts on it.
pub(crate) struct Transfers {
    /// The application.
    pub(crate) app: App,
    /// Those who send to each other.
    pub(crate) accounts: Vec<Account>,
    height: u64,
    next: usize,
}

impl Transfers {
    /// A chain with this many funded accounts, after its first block.
    pub(crate) fn new(backend: Arc<dyn Backend>, store: StoreOptions, options: AppOptions, accounts: usize) -> Self {
        let context = Secp256k1::signing_only();
        let account = |i: usize| {
            let secret: [u8; 32] = Sha256::digest(format!("tenure bench account {i}")).into();
            let secret = SecretKey::from_byte_array(secret).expect("a hash is a key");
            let compressed = PublicKey::from_secret_key(&context, &secret).serialize();
            let address = Address::of_secp256k1(&compressed);
            Account {
                secret,
                compressed,
                address,
                number: 0,
                sequence: 0,
            }
        };
        let accounts: Vec<Account> = (0..accounts).map(account).collect();
        let balances: Vec<_> = accounts
            .iter()
            .map(|a| (a.address, Coin::base(1_000_000_000_000)))
            .collect();
        let state = default_app_state(Profile::Normal, &balances).expect("the defaults are a state");
        let app = App::open(backend, store, options).expect("an empty store opens");
        app.init_chain(RequestInitChain {
            time: timestamp(GENESIS_MS),
            chain_id: CHAIN_ID.to_owned(),
            initial_height: 1,
            app_state_bytes: state.to_string().into_bytes().into(),
            ..Default::default()
        });
        let mut chain = Self {
            app,
            accounts,
            height: 0,
            next: 0,
        };
        chain.finalize(&[]);
        chain.commit();
        for account in &mut chain.accounts {
            let request = QueryAccountRequest {
                address: account.address.to_string(),
            };
            let path = "/cosmos.auth.v1beta1.Query/Account";
            let answer = chain
                .app
                .query(path, &request.encode_to_vec(), None)
                .expect("it exists");
            let any = QueryAccountResponse::decode(answer.value.as_slice())
                .expect("an answer")
                .account;
            let stored = BaseAccount::decode(any.expect("an account").value.as_slice()).expect("an account");
            account.number = stored.account_number;
        }
        chain
    }

    /// The next signed transfers, senders in turn.
    pub(crate) fn sign(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.sign_one()).collect()
    }

    fn sign_one(&mut self) -> Vec<u8> {
        let from = self.next % self.accounts.len();
        let to = self.accounts[(self.next * 7 + 1) % self.accounts.len()].address;
        self.next += 1;
        let account = &mut self.accounts[from];
        let coin = |amount: u64| ProtoCoin {
            denom: "uten".to_owned(),
            amount: amount.to_string(),
        };
        let send = MsgSend {
            from_address: account.address.to_string(),
            to_address: to.to_string(),
            amount: vec![coin(1)],
        };
        let body = TxBody {
            messages: vec![any(&send)],
            ..Default::default()
        };
        let single = mode_info::Single {
            mode: SignMode::Direct.into(),
        };
        let auth_info = AuthInfo {
            signer_infos: vec![SignerInfo {
                public_key: Some(any(&PubKey {
                    key: account.compressed.to_vec(),
                })),
                mode_info: Some(ModeInfo {
                    sum: Some(mode_info::Sum::Single(single)),
                }),
                sequence: account.sequence,
            }],
            fee: Some(Fee {
                amount: vec![coin(20)],
                gas_limit: 20_000,
                ..Default::default()
            }),
            ..Default::default()
        };
        account.sequence += 1;
        let (body_bytes, auth_info_bytes) = (body.encode_to_vec(), auth_info.encode_to_vec());
        let digest = Sha256::digest(sign_bytes(&body_bytes, &auth_info_bytes, CHAIN_ID, account.number));
        let signature = Secp256k1::signing_only().sign_ecdsa(Message::from_digest(digest.into()), &account.secret);
        TxRaw {
            body_bytes,
            auth_info_bytes,
            signatures: vec![signature.serialize_compact().to_vec()],
        }
        .encode_to_vec()
    }

    /// CheckTx; whether it was accepted.
    pub(crate) fn check(&self, tx: &[u8]) -> bool {
        let response = self.app.check_tx(RequestCheckTx {
            tx: tx.to_vec().into(),
            r#type: CheckTxType::New as i32,
        });
        response.code == 0
    }

    /// FinalizeBlock of the next block. Panics unless every transaction succeeds.
    pub(crate) fn finalize(&self, txs: &[Vec<u8>]) -> ResponseFinalizeBlock {
        let response = self.app.finalize_block(RequestFinalizeBlock {
            txs: txs.iter().map(|tx| tx.clone().into()).collect(),
            height: i64::try_from(self.height + 1).expect("a height"),
            time: timestamp(GENESIS_MS + 1_000 * (self.height + 1)),
            ..Default::default()
        });
        let failed = response.tx_results.iter().find(|result| result.code != 0);
        assert!(failed.is_none(), "{failed:?}");
        response
    }

    /// Commit.
    pub(crate) fn commit(&mut self) {
        self.app.commit();
        self.height += 1;
    }
}

/// Signatures with their keys and digests, for the bare loop that everything is compared to.
pub(crate) fn signatures(count: usize) -> Vec<(Message, Signature, PublicKey)> {
    let context = Secp256k1::new();
    (0..count)
        .map(|i| {
            let secret: [u8; 32] = Sha256::digest(format!("tenure bench loop {i}")).into();
            let secret = SecretKey::from_byte_array(secret).expect("a hash is a key");
            let message = Message::from_digest(Sha256::digest(i.to_be_bytes()).into());
            let key = PublicKey::from_secret_key(&context, &secret);
            (message, context.sign_ecdsa(message, &secret), key)
        })
        .collect()
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: i64::try_from(ms / 1_000).expect("a date"),
        nanos: i32::try_from(ms % 1_000 * 1_000_000).expect("below a second"),
    })
}
