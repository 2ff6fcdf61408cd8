//! Signed transfers between many accounts, and an application that takes them, without an engine.

use std::sync::Arc;

use prost::Message as _;
use secp256k1::{ecdsa::Signature, Message, PublicKey, Secp256k1, SecretKey, SignOnly};
use sha2::{Digest, Sha256};
use tendermint_abci::Application;
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::abci::{
        response_process_proposal::ProposalStatus, CheckTxType, RequestCheckTx, RequestFinalizeBlock, RequestInitChain,
        RequestProcessProposal, ResponseFinalizeBlock,
    },
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
use tenure_types::{Address, Coin, BASE_DENOM};

const CHAIN_ID: &str = "tenure-bench-1";
const GENESIS_MS: u64 = 1_795_305_600_000;
/// What a transfer asks for: ten thousand of them are a block.
const GAS: u64 = 20_000;
/// Base units at the price of the default genesis.
const FEE: u64 = 20;

/// Somebody with a key and a sequence.
struct Account {
    secret: SecretKey,
    public: PublicKey,
    address: Address,
    number: u64,
    sequence: u64,
}

/// A signed transfer, and what of it is verified.
pub(crate) struct Signed {
    pub(crate) bytes: Vec<u8>,
    message: Message,
    signature: Signature,
    key: PublicKey,
}

/// A chain of one application, driven block by block, and the accounts on it.
pub(crate) struct Transfers {
    /// The application.
    pub(crate) app: App,
    accounts: Vec<Account>,
    context: Secp256k1<SignOnly>,
    height: u64,
    next: usize,
}

impl Transfers {
    /// A chain with this many funded accounts, two keys each, after its first block.
    pub(crate) fn new(backend: Arc<dyn Backend>, store: StoreOptions, options: AppOptions, accounts: usize) -> Self {
        let context = Secp256k1::signing_only();
        let accounts: Vec<Account> = (0..accounts).map(|i| account(&context, i)).collect();
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
            context,
            height: 0,
            next: 0,
        };
        chain.finalize(chain.block(&[]));
        chain.commit();
        chain
    }

    /// Asks for the numbers of all accounts, which signing needs.
    pub(crate) fn with_numbers(mut self) -> Self {
        for account in &mut self.accounts {
            let request = QueryAccountRequest {
                address: account.address.to_string(),
            };
            let path = "/cosmos.auth.v1beta1.Query/Account";
            let answer = self.app.query(path, &request.encode_to_vec(), None);
            let answer = QueryAccountResponse::decode(answer.expect("it exists").value.as_slice());
            let any = answer.expect("an answer").account.expect("an account");
            account.number = BaseAccount::decode(any.value.as_slice())
                .expect("an account")
                .account_number;
        }
        self
    }

    /// The next signed transfers, senders in turn.
    pub(crate) fn sign(&mut self, count: usize) -> Vec<Signed> {
        (0..count).map(|_| self.sign_one()).collect()
    }

    fn sign_one(&mut self) -> Signed {
        let from = self.next % self.accounts.len();
        let to = self.accounts[(self.next * 7 + 1) % self.accounts.len()].address;
        self.next += 1;
        let account = &mut self.accounts[from];
        let coin = |amount: u64| ProtoCoin {
            denom: BASE_DENOM.to_owned(),
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
                    key: account.public.serialize().to_vec(),
                })),
                mode_info: Some(ModeInfo {
                    sum: Some(mode_info::Sum::Single(single)),
                }),
                sequence: account.sequence,
            }],
            fee: Some(Fee {
                amount: vec![coin(FEE)],
                gas_limit: GAS,
                ..Default::default()
            }),
            ..Default::default()
        };
        account.sequence += 1;
        let (body_bytes, auth_info_bytes) = (body.encode_to_vec(), auth_info.encode_to_vec());
        let digest = Sha256::digest(sign_bytes(&body_bytes, &auth_info_bytes, CHAIN_ID, account.number));
        let message = Message::from_digest(digest.into());
        let signature = self.context.sign_ecdsa(message, &account.secret);
        let raw = TxRaw {
            body_bytes,
            auth_info_bytes,
            signatures: vec![signature.serialize_compact().to_vec()],
        };
        Signed {
            bytes: raw.encode_to_vec(),
            message,
            signature,
            key: account.public,
        }
    }

    /// CheckTx. Panics unless it accepts.
    pub(crate) fn check(&self, tx: &Signed) {
        let response = self.app.check_tx(RequestCheckTx {
            tx: tx.bytes.clone().into(),
            r#type: CheckTxType::New as i32,
        });
        assert_eq!(response.code, 0, "{}", response.log);
    }

    /// The next block.
    pub(crate) fn block(&self, txs: &[Signed]) -> RequestFinalizeBlock {
        RequestFinalizeBlock {
            txs: txs.iter().map(|tx| tx.bytes.clone().into()).collect(),
            height: i64::try_from(self.height + 1).expect("a height"),
            time: timestamp(GENESIS_MS + 1_000 * (self.height + 1)),
            ..Default::default()
        }
    }

    /// ProcessProposal of a block. Panics unless it is accepted.
    pub(crate) fn propose(&self, block: &RequestFinalizeBlock) {
        let response = self.app.process_proposal(RequestProcessProposal {
            txs: block.txs.clone(),
            height: block.height,
            time: block.time,
            ..Default::default()
        });
        assert_eq!(response.status, i32::from(ProposalStatus::Accept));
    }

    /// FinalizeBlock. Panics unless every transaction succeeds.
    pub(crate) fn finalize(&self, block: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        let response = self.app.finalize_block(block);
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

fn account(context: &Secp256k1<SignOnly>, index: usize) -> Account {
    let secret: [u8; 32] = Sha256::digest(format!("tenure bench account {index}")).into();
    let secret = SecretKey::from_byte_array(secret).expect("a hash is a key");
    let public = PublicKey::from_secret_key(context, &secret);
    Account {
        secret,
        public,
        address: Address::of_secp256k1(&public.serialize()),
        number: 0,
        sequence: 0,
    }
}

/// Verifies the signatures of these transfers one after the other, keys and signatures parsed and messages hashed already: the least that
/// anybody who executes them has to do.
pub(crate) fn verify_all(txs: &[Signed]) {
    let context = Secp256k1::verification_only();
    for tx in txs {
        let verdict = context.verify_ecdsa(tx.message, &tx.signature, &tx.key);
        verdict.expect("a good signature");
    }
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: i64::try_from(ms / 1_000).expect("a date"),
        nanos: i32::try_from(ms % 1_000 * 1_000_000).expect("below a second"),
    })
}

#[cfg(test)]
mod tests {
    use tenure_store::MemoryBackend;

    use super::*;

    #[test]
    fn transfers_are_accepted_executed_and_verify() {
        let store = StoreOptions::default();
        let backend = Arc::new(MemoryBackend::new());
        let mut chain = Transfers::new(backend, store, AppOptions::default(), 5).with_numbers();
        for _ in 0..2 {
            // More than one of an account in a block.
            let txs = chain.sign(12);
            txs.iter().for_each(|tx| chain.check(tx));
            verify_all(&txs);
            let block = chain.block(&txs);
            chain.propose(&block);
            assert_eq!(chain.finalize(block).tx_results.len(), 12);
            chain.commit();
        }
    }
}
