//! People with keys, and random transactions of theirs, valid and not.
//!
//! To extend it to more messages, add a function to [`ACTIONS`]: it sees the chain and says who signs which messages, or that there is nothing
//! to do. The generator does the signing, the sequences and the mistakes.

use k256::ecdsa::SigningKey;
use prost::Message;
use rand::{rngs::StdRng, Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tenure_app::{genesis, tx::sign_bytes};
use tenure_proto::{
    any,
    cosmos::{
        auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse},
        bank::v1beta1::{Input, MsgMultiSend, MsgSend, Output},
        base::v1beta1::Coin as ProtoCoin,
        crypto::secp256k1::PubKey,
        tx::{
            signing::v1beta1::SignMode,
            v1beta1::{mode_info, AuthInfo, Fee, ModeInfo, SignerInfo, TxBody, TxRaw},
        },
    },
    tenure::provider::v1::MsgAttest,
    Any,
};
use tenure_types::{Address, Coin};

use crate::chain::{Chain, CHAIN_ID};

/// Gas that suffices for anything here.
pub(crate) const GAS: u64 = 1_000_000;
/// What each person has at genesis, base units.
pub(crate) const FUNDS: u128 = 1_000_000_000_000;

/// A person with a key.
#[derive(Clone)]
pub(crate) struct Person {
    key: SigningKey,
    pub(crate) compressed: [u8; 33],
    pub(crate) address: Address,
}

impl Person {
    /// The person of a number, always the same.
    pub(crate) fn new(number: u8) -> Self {
        let secret: [u8; 32] = Sha256::digest([b"tenure test person ".as_slice(), &[number]].concat()).into();
        let key = SigningKey::from_slice(&secret).unwrap();
        let compressed: [u8; 33] = key.verifying_key().to_sec1_bytes().as_ref().try_into().unwrap();
        Self {
            key,
            compressed,
            address: Address::of_secp256k1(&compressed),
        }
    }

    /// Signature over the SHA-256 of a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let digest: [u8; 32] = Sha256::digest(message).into();
        let (signature, _) = self.key.sign_prehash_recoverable(&digest).unwrap();
        signature.to_bytes().to_vec()
    }

    /// Account number and sequence on a chain, if the account exists.
    pub(crate) fn account(&self, chain: &Chain) -> Option<(u64, u64)> {
        let request = QueryAccountRequest {
            address: self.address.to_string(),
        };
        let path = "/cosmos.auth.v1beta1.Query/Account";
        if chain.height == 0 {
            return None;
        }
        let response: QueryAccountResponse = chain.query(path, &request).ok()?;
        let account = BaseAccount::decode(response.account?.value.as_slice()).unwrap();
        Some((account.account_number, account.sequence))
    }
}

/// A transaction before it is signed. Every part may be spoilt.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) body: TxBody,
    pub(crate) auth_info: AuthInfo,
    pub(crate) chain_id: String,
    pub(crate) account_numbers: Vec<u64>,
}

pub(crate) fn coin(denom: &str, amount: impl ToString) -> ProtoCoin {
    ProtoCoin {
        denom: denom.to_owned(),
        amount: amount.to_string(),
    }
}

pub(crate) fn direct() -> Option<ModeInfo> {
    let single = mode_info::Single {
        mode: SignMode::Direct.into(),
    };
    Some(ModeInfo {
        sum: Some(mode_info::Sum::Single(single)),
    })
}

impl Draft {
    /// A well-formed transaction: signers with their account numbers and sequences, in order of the messages.
    pub(crate) fn new(messages: Vec<Any>, signers: &[(&Person, u64, u64)]) -> Self {
        let signer_infos = signers
            .iter()
            .map(|(person, _, sequence)| SignerInfo {
                public_key: Some(any(&PubKey {
                    key: person.compressed.to_vec(),
                })),
                mode_info: direct(),
                sequence: *sequence,
            })
            .collect();
        let fee = Fee {
            amount: vec![coin("uten", GAS / 1_000)],
            gas_limit: GAS,
            ..Default::default()
        };
        Self {
            body: TxBody {
                messages,
                ..Default::default()
            },
            auth_info: AuthInfo {
                signer_infos,
                fee: Some(fee),
                ..Default::default()
            },
            chain_id: CHAIN_ID.to_owned(),
            account_numbers: signers.iter().map(|(_, number, _)| *number).collect(),
        }
    }

    /// Makes it a free attestation, if its messages are those of one.
    pub(crate) fn make_free(&mut self) -> bool {
        let attest = self
            .body
            .messages
            .last()
            .filter(|any| any.type_url.ends_with(".MsgAttest"));
        let reports = self
            .body
            .messages
            .iter()
            .filter(|any| any.type_url.ends_with(".MsgReportDown"));
        let only = reports.count() + 1 == self.body.messages.len() && self.auth_info.signer_infos.len() == 1;
        let Some(attest) = attest.filter(|_| only) else {
            return false;
        };
        let attest = MsgAttest::decode(attest.value.as_slice()).unwrap();
        self.auth_info.signer_infos[0].sequence = attest.epochs.last().map_or(0, |epoch| epoch.epoch);
        self.fee().amount.clear();
        true
    }

    pub(crate) fn fee(&mut self) -> &mut Fee {
        self.auth_info.fee.as_mut().unwrap()
    }

    /// Signed by these people, in this order.
    pub(crate) fn signed(&self, people: &[&Person]) -> TxRaw {
        let (body_bytes, auth_info_bytes) = (self.body.encode_to_vec(), self.auth_info.encode_to_vec());
        let signatures = people
            .iter()
            .zip(&self.account_numbers)
            .map(|(person, number)| person.sign(&sign_bytes(&body_bytes, &auth_info_bytes, &self.chain_id, *number)))
            .collect();
        TxRaw {
            body_bytes,
            auth_info_bytes,
            signatures,
        }
    }

    pub(crate) fn bytes(&self, people: &[&Person]) -> Vec<u8> {
        self.signed(people).encode_to_vec()
    }
}

/// A draft by one person with the account and sequence that the chain has.
pub(crate) fn draft(chain: &Chain, person: &Person, messages: Vec<Any>) -> Draft {
    let (number, sequence) = person.account(chain).expect("the account exists");
    Draft::new(messages, &[(person, number, sequence)])
}

/// A signed transaction by one person.
pub(crate) fn tx(chain: &Chain, person: &Person, messages: Vec<Any>) -> Vec<u8> {
    draft(chain, person, messages).bytes(&[person])
}

pub(crate) fn send(from: &Person, to: &Address, amount: u128) -> Any {
    let amount = vec![coin("uten", amount)];
    any(&MsgSend {
        from_address: from.address.to_string(),
        to_address: to.to_string(),
        amount,
    })
}

/// People, a seeded source of chance, and the sequences they have used in the block being made.
pub(crate) struct World {
    pub(crate) people: Vec<Person>,
    pub(crate) rng: StdRng,
}

/// Who signs, and what.
pub(crate) type Action = (Vec<usize>, Vec<Any>);

/// Makes an action, or finds that there is nothing to do.
pub(crate) type Make = fn(&mut World, &Chain) -> Option<Action>;

/// What people do. The first entry of a pair is its weight.
pub(crate) const ACTIONS: &[(u32, Make)] = &[
    (6, World::send),
    (2, World::multi_send),
    (1, World::two_signers),
    (1, World::send_to_module),
    (2, World::register),
    (1, World::update),
    (1, World::drain),
    (1, World::leave),
    (8, World::post_bid),
    (1, World::cancel_bid),
    (10, World::claim),
    (6, World::withdraw_claim),
    (10, World::lease_ready),
    (8, World::attest),
    (1, World::report_down),
    (1, World::close_lease),
    (2, World::finish_lease),
    (1, World::pause_lease),
    (2, World::resume_lease),
    (1, World::set_auto_top_up),
    (1, World::amend_lease),
    (2, World::deposit),
    (1, World::withdraw_deposit),
    (3, World::withdraw_earnings),
];

impl World {
    /// People who have funds at genesis; the last two exist only once somebody sends them money.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            people: (0..8).map(Person::new).collect(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// The chain's first state, on which they have funds.
    pub(crate) fn app_state(&self) -> serde_json::Value {
        let funded = self.people.iter().take(self.people.len() - 2);
        let balances: Vec<_> = funded.map(|person| (person.address, Coin::base(FUNDS))).collect();
        genesis::default_app_state(genesis::Profile::Fast, &balances).unwrap()
    }

    pub(crate) fn someone(&mut self) -> usize {
        self.rng.gen_range(0..self.people.len())
    }

    pub(crate) fn address(&mut self) -> Address {
        let i = self.someone();
        self.people[i].address
    }

    fn send(&mut self, _chain: &Chain) -> Option<Action> {
        let (from, to) = (self.someone(), self.address());
        // Now and then more than anybody has.
        let amount = if self.rng.gen_ratio(1, 12) {
            FUNDS * 100
        } else {
            self.rng.gen_range(1..1_000_000)
        };
        Some((vec![from], vec![send(&self.people[from], &to, amount)]))
    }

    fn multi_send(&mut self, _chain: &Chain) -> Option<Action> {
        let from = self.someone();
        let amounts: Vec<u128> = (0..self.rng.gen_range(1..4))
            .map(|_| self.rng.gen_range(1..1_000_000))
            .collect();
        let outputs = amounts
            .iter()
            .map(|amount| Output {
                address: self.address().to_string(),
                coins: vec![coin("uten", amount)],
            })
            .collect();
        let total: u128 = amounts.iter().sum();
        let input = Input {
            address: self.people[from].address.to_string(),
            coins: vec![coin("uten", total)],
        };
        Some((
            vec![from],
            vec![any(&MsgMultiSend {
                inputs: vec![input],
                outputs,
            })],
        ))
    }

    fn two_signers(&mut self, _chain: &Chain) -> Option<Action> {
        let (a, b, to) = (self.someone(), self.someone(), self.address());
        let messages = vec![
            send(&self.people[a], &to, 5),
            send(&self.people[b], &to, 7),
            send(&self.people[a], &to, 9),
        ];
        Some((if a == b { vec![a] } else { vec![a, b] }, messages))
    }

    fn send_to_module(&mut self, _chain: &Chain) -> Option<Action> {
        let from = self.someone();
        let to = tenure_x_auth::module_address(tenure_x_auth::FEE_COLLECTOR);
        Some((vec![from], vec![send(&self.people[from], &to, 1)]))
    }

    /// Random transactions for the next block.
    pub(crate) fn block(&mut self, chain: &Chain) -> Vec<Vec<u8>> {
        let mut sequences: Vec<Option<(u64, u64)>> = self.people.iter().map(|person| person.account(chain)).collect();
        let total: u32 = ACTIONS.iter().map(|(weight, _)| weight).sum();
        let mut txs = Vec::new();
        for _ in 0..self.rng.gen_range(0..14) {
            let mut chance = self.rng.gen_range(0..total);
            let action = ACTIONS.iter().find(|(weight, _)| {
                let found = chance < *weight;
                chance = chance.saturating_sub(*weight);
                found
            });
            let Some((signers, messages)) = action.and_then(|(_, make)| make(self, chain)) else {
                continue;
            };
            let infos: Vec<(&Person, u64, u64)> = signers
                .iter()
                .map(|i| {
                    let (number, sequence) = sequences[*i].unwrap_or((99, 0));
                    (&self.people[*i], number, sequence)
                })
                .collect();
            let mut draft = Draft::new(messages, &infos);
            let people: Vec<Person> = signers.iter().map(|i| self.people[*i].clone()).collect();
            let people: Vec<&Person> = people.iter().collect();
            if self.rng.gen() && draft.make_free() {
                txs.push(draft.bytes(&people));
                continue;
            }
            if self.rng.gen_ratio(1, 5) {
                txs.push(self.spoilt(draft, &people));
                continue;
            }
            // Only a guess: if the fee cannot be paid, later transactions of the block fail on their sequence, which is as good a test.
            for i in &signers {
                if let Some((_, sequence)) = &mut sequences[*i] {
                    *sequence += 1;
                }
            }
            txs.push(draft.bytes(&people));
        }
        txs
    }

    /// A transaction with one mistake.
    fn spoilt(&mut self, mut draft: Draft, people: &[&Person]) -> Vec<u8> {
        match self.rng.gen_range(0..11) {
            0 => draft.auth_info.signer_infos[0].sequence += 1,
            1 => draft.chain_id.push('x'),
            2 => draft.fee().amount.clear(),
            3 => draft.fee().gas_limit = self.rng.gen_range(1_000..20_000),
            4 => draft.body.memo = "m".repeat(300),
            5 => draft.body.timeout_height = 1,
            6 => draft.body.messages.push(Any {
                type_url: "/tenure.nothing.v1.MsgNothing".into(),
                value: vec![],
            }),
            7 => draft.body.messages[0].value.extend_from_slice(&[0x98, 0x06, 1]),
            8 => draft.auth_info.signer_infos[0].mode_info = None,
            kind => {
                let mut bytes = draft.bytes(people);
                let at = self.rng.gen_range(0..bytes.len());
                if kind == 9 {
                    bytes.truncate(at);
                } else {
                    bytes[at] ^= 1 << self.rng.gen_range(0..8);
                }
                return bytes;
            }
        }
        draft.bytes(people)
    }
}
