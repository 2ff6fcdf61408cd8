//! A chain in memory with people on it.

use std::collections::BTreeMap;

use k256::ecdsa::{signature::hazmat::PrehashSigner, Signature, SigningKey};
use prost::{Message, Name};
use serde_json::json;
use sha2::{Digest, Sha256};
use tenure_proto::{
    any,
    cosmos::base::v1beta1::Coin as ProtoCoin,
    tenure::{
        base::v1::{Resources, Window},
        chain::v1::Params as ChainParams,
        escrow::v1::Params as EscrowParams,
        market::v1::*,
        provider::v1::{
            EpochRoot, MsgAttest, MsgRegister, Params as ProviderParams, Provider, QueryGapsRequest, QueryGapsResponse,
        },
    },
    Any,
};
use tenure_sdk::{clock, json::to_json, testing, Ctx, Module, MsgRoute, QueryRoute};
use tenure_types::{Address, Deadline, Error, Result};
use tenure_x_auth::AuthModule;
use tenure_x_bank::BankModule;
use tenure_x_escrow::EscrowModule;
use tenure_x_market::MarketModule;
use tenure_x_provider::ProviderModule;

/// All modules in the order in which the application has them.
pub(crate) const MODULES: [&dyn Module; 5] = [&AuthModule, &BankModule, &ProviderModule, &EscrowModule, &MarketModule];
/// Length of an epoch, milliseconds.
pub(crate) const EPOCH: u64 = 10_000;
/// After an epoch's end its attestation is taken this long.
pub(crate) const GRACE: u64 = 3_000;
/// A rate of one base unit per millisecond: amounts are milliseconds.
pub(crate) const UNIT: u64 = 3_600_000;
/// What everybody begins with.
pub(crate) const RICH: u128 = 1_000_000_000_000;

/// Somebody with a key.
pub(crate) struct Person {
    pub(crate) key: SigningKey,
    pub(crate) address: Address,
}

impl Person {
    pub(crate) fn new(number: u8) -> Self {
        let key = SigningKey::from_slice(&[number; 32]).expect("a key");
        let address = Address::of_secp256k1(key.verifying_key().to_encoded_point(true).as_bytes());
        Self { key, address }
    }

    pub(crate) fn text(&self) -> String {
        self.address.to_string()
    }
}

/// The chain.
pub(crate) struct World {
    pub(crate) ctx: Ctx,
    pub(crate) tenants: Vec<Person>,
    pub(crate) providers: Vec<Person>,
    messages: BTreeMap<String, MsgRoute>,
    queries: BTreeMap<&'static str, QueryRoute>,
}

pub(crate) fn market_params() -> Params {
    Params {
        start: Some(Window { blocks: 3, ms: 20_000 }),
        bid_expiry: Some(Window { blocks: 20, ms: 60_000 }),
        max_duration_ms: 1_000_000,
        max_claims_per_bid: 3,
        min_improvement_bps: 100,
        matches_per_block: 4,
        denoms: vec!["uten".to_owned()],
        defaults_per_block: 2,
    }
}

pub(crate) fn escrow_params() -> EscrowParams {
    EscrowParams {
        min_runway_ms: 5_000,
        take_bps: 100,
        min_deposit: "100".to_owned(),
        exhaustion_grace_ms: 15_000,
        settle_every_ms: 50_000,
    }
}

impl World {
    /// Two tenants, three registered providers with room for eight unit leases each.
    pub(crate) fn new() -> Self {
        Self::with(market_params(), escrow_params(), 3)
    }

    pub(crate) fn with(market: Params, escrow: EscrowParams, providers: u8) -> Self {
        let tenants: Vec<_> = (1..=2).map(Person::new).collect();
        let providers: Vec<_> = (0..providers).map(|i| Person::new(101 + i)).collect();
        let balances: Vec<_> = tenants
            .iter()
            .chain(&providers)
            .map(|p| json!({"address": p.text(), "coins": [{"denom": "uten", "amount": RICH.to_string()}]}))
            .collect();
        let provider_params = ProviderParams {
            epoch_ms: EPOCH,
            grace: Some(Window { blocks: 2, ms: GRACE }),
            default_after_misses: 3,
            min_bond: Some(coin(1_000)),
            unbonding: Some(Window { blocks: 10, ms: 10_000 }),
            gap_horizon_ms: 30 * 86_400_000,
        };
        let sections = json!({
            "auth": {},
            "bank": {"balances": balances},
            "provider": {"params": to_json(&provider_params).expect("json")},
            "escrow": {"params": to_json(&escrow).expect("json")},
            "market": {"params": to_json(&market).expect("json")},
        });
        let ctx = testing::chain(&MODULES, &sections).expect("genesis");
        let messages = MODULES
            .iter()
            .flat_map(|m| m.messages())
            .map(|r| (r.type_url.clone(), r))
            .collect();
        let queries = MODULES.iter().flat_map(|m| m.queries()).map(|r| (r.path, r)).collect();
        let mut world = Self {
            ctx,
            tenants,
            providers,
            messages,
            queries,
        };
        for tenant in &world.tenants {
            let key = tenant.key.verifying_key().to_encoded_point(true);
            let key = key.as_bytes().try_into().expect("33 bytes");
            tenure_x_auth::set_pub_key(&mut world.ctx, &tenant.address, key).expect("key");
        }
        for i in 0..world.providers.len() {
            let register = MsgRegister {
                owner: world.providers[i].text(),
                moniker: format!("p{i}"),
                endpoint: "http://127.0.0.1:9".to_owned(),
                capacity: Some(Resources {
                    cpu_milli: 8_000,
                    memory_bytes: 8 << 30,
                    storage_bytes: 8 << 30,
                }),
                bond: Some(coin(1_000)),
            };
            world.run(&register).expect("registers");
        }
        world
    }

    /// Handles at most this many timers of each class per block.
    pub(crate) fn set_quota(&mut self, due_per_class: u32) {
        let params = ChainParams {
            due_per_class,
            ..clock::default_params()
        };
        self.ctx.save(clock::NAME, b"p", &params).expect("saves");
    }

    /// Keeps gaps of attested time no longer than leases need them and this long.
    pub(crate) fn set_gap_horizon(&mut self, gap_horizon_ms: u64) {
        let params = ProviderParams {
            gap_horizon_ms,
            ..tenure_x_provider::params(&mut self.ctx).expect("params")
        };
        self.ctx.save(tenure_x_provider::NAME, b"a", &params).expect("saves");
    }

    /// How many gaps of a provider are in the state.
    pub(crate) fn gaps(&mut self, i: usize) -> usize {
        let request = QueryGapsRequest {
            owner: self.providers[i].text(),
            pagination: None,
        };
        let answer: QueryGapsResponse = self.query("/tenure.provider.v1.Query/Gaps", &request).expect("gaps");
        answer.gaps.len()
    }

    /// Runs a message in the block that is open, whole or not at all.
    pub(crate) fn run<M: Message + Name>(&mut self, msg: &M) -> Result<Any> {
        run(&mut self.ctx, &self.messages, &any(msg))
    }

    /// Makes a block `ms` later with these messages in it; each may fail on its own.
    pub(crate) fn block(&mut self, ms: u64, msgs: &[Any]) -> Vec<Result<Any>> {
        let mut results = Vec::new();
        let messages = &self.messages;
        testing::next_block(&mut self.ctx, &MODULES, ms, |ctx| {
            for msg in msgs {
                let result = run(ctx, messages, msg);
                if let Err(error) = &result {
                    assert!(!error.is_internal(), "{msg:?}: {error}");
                }
                results.push(result);
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("block after {ms} ms with {msgs:?}: {e}"));
        results
    }

    /// Makes a block whose one message must succeed.
    pub(crate) fn must<M: Message + Name>(&mut self, ms: u64, msg: &M) -> Any {
        let mut results = self.block(ms, &[any(msg)]);
        results.pop().expect("one").unwrap_or_else(|e| panic!("{e}"))
    }

    /// Makes a block whose one message must be refused; gives codespace and number.
    pub(crate) fn refused<M: Message + Name>(&mut self, ms: u64, msg: &M) -> (&'static str, u32) {
        let error = self
            .block(ms, &[any(msg)])
            .pop()
            .expect("one")
            .expect_err("must be refused");
        (error.codespace, error.code)
    }

    /// Makes blocks one second apart until live time is `until` ms exactly, every provider of `attesting` attesting what it can.
    pub(crate) fn run_until(&mut self, until: u64, attesting: &[usize]) {
        while self.ctx.now() < until {
            let ms = (until - self.ctx.now()).min(1_000);
            let msgs = self.attestations(ms, attesting);
            for result in self.block(ms, &msgs) {
                result.expect("attests");
            }
        }
    }

    /// The attestations that providers can make in a block `ms` later.
    pub(crate) fn attestations(&mut self, ms: u64, who: &[usize]) -> Vec<Any> {
        let (now, height) = (self.ctx.now() + ms, self.ctx.height() + 1);
        who.iter()
            .filter_map(|&i| {
                let provider = self.provider(i);
                let first = tenure_x_provider::epoch_of(&provider, provider.final_until_ms);
                let mut epochs = Vec::new();
                for epoch in first.. {
                    let end = tenure_x_provider::epoch_range(&provider, epoch).1;
                    if end > now {
                        break;
                    }
                    let ended_at = clock::first_height_at(&mut self.ctx, end)
                        .expect("history")
                        .unwrap_or(height);
                    let deadline = Deadline {
                        height: ended_at + 2,
                        ms: end + GRACE,
                    };
                    if !deadline.passed(height, now) {
                        epochs.push(EpochRoot {
                            epoch,
                            root: vec![9; 32],
                        });
                    }
                }
                (!epochs.is_empty()).then(|| {
                    any(&MsgAttest {
                        provider: self.providers[i].text(),
                        epochs,
                    })
                })
            })
            .collect()
    }

    pub(crate) fn provider(&mut self, i: usize) -> Provider {
        let address = self.providers[i].address;
        let mut scratch = Ctx::new(self.ctx.state.clone(), self.ctx.block.clone(), tenure_sdk::Mode::Query);
        tenure_x_provider::load(&mut scratch, &address).expect("registered")
    }

    pub(crate) fn query<Q: Message + Name, A: Message + Default>(&mut self, path: &str, request: &Q) -> Result<A> {
        let mut scratch = Ctx::new(self.ctx.state.clone(), self.ctx.block.clone(), tenure_sdk::Mode::Query);
        let bytes = (self.queries[path].answer)(&mut scratch, &request.encode_to_vec())?;
        Ok(A::decode(bytes.as_slice()).expect("decodes"))
    }

    pub(crate) fn lease(&mut self, id: u64) -> QueryLeaseResponse {
        self.query("/tenure.market.v1.Query/Lease", &QueryLeaseRequest { id })
            .expect("lease")
    }

    pub(crate) fn state(&mut self, id: u64) -> LeaseState {
        self.lease(id).lease.expect("lease").state()
    }

    pub(crate) fn bid(&mut self, id: u64) -> Bid {
        let answer: QueryBidResponse = self
            .query("/tenure.market.v1.Query/Bid", &QueryBidRequest { id })
            .expect("bid");
        answer.bid.expect("bid")
    }

    pub(crate) fn balance(&mut self, who: &Address) -> u128 {
        tenure_x_bank::balance(&mut self.ctx, who, "uten")
            .expect("balance")
            .get()
    }

    pub(crate) fn tenant_balance(&mut self, i: usize) -> u128 {
        let address = self.tenants[i].address;
        self.balance(&address)
    }

    pub(crate) fn provider_balance(&mut self, i: usize) -> u128 {
        let address = self.providers[i].address;
        self.balance(&address)
    }

    /// A bid of the first tenant: one core, a ceiling of one unit per millisecond.
    pub(crate) fn post(&self, deposit: u128) -> MsgPostBid {
        MsgPostBid {
            tenant: self.tenants[0].text(),
            resources: Some(Resources {
                cpu_milli: 1_000,
                memory_bytes: 1 << 30,
                storage_bytes: 1 << 30,
            }),
            max_rate: UNIT,
            duration_ms: 600_000,
            deposit: Some(coin(deposit)),
            manifest_hash: vec![7; 32],
            claim_window: None,
            expiry: None,
            auto_top_up: None,
        }
    }

    pub(crate) fn claim(&self, provider: usize, bid_id: u64, rate: u64) -> MsgClaim {
        MsgClaim {
            provider: self.providers[provider].text(),
            bid_id,
            rate,
        }
    }

    /// The provider's message that a lease is ready, with the tenant's receipt.
    pub(crate) fn ready(&self, tenant: usize, provider: usize, lease_id: u64) -> MsgLeaseReady {
        let receipt_signature = self.receipt(&self.tenants[tenant].key, lease_id, &[7; 32]);
        MsgLeaseReady {
            provider: self.providers[provider].text(),
            lease_id,
            receipt_signature,
        }
    }

    pub(crate) fn receipt(&self, key: &SigningKey, lease_id: u64, manifest_hash: &[u8]) -> Vec<u8> {
        let chain_id = self.ctx.block.chain_id.clone();
        let receipt = HandoverReceipt {
            chain_id,
            lease_id,
            manifest_hash: manifest_hash.to_vec(),
        };
        let signature: Signature = key
            .sign_prehash(&Sha256::digest(receipt.encode_to_vec()))
            .expect("signs");
        signature.normalize_s().unwrap_or(signature).to_vec()
    }

    pub(crate) fn close(&self, lease_id: u64) -> MsgCloseLease {
        MsgCloseLease {
            tenant: self.tenants[0].text(),
            lease_id,
        }
    }

    /// Posts, claims, matches and starts a lease of the first tenant at the first provider at one unit per millisecond: two blocks, 100 ms
    /// apart. Gives the lease's id; it became ready now.
    pub(crate) fn start_lease(&mut self, deposit: u128) -> u64 {
        let bid_id = self.bid_and_match(deposit);
        let lease_id = self.bid(bid_id).lease_id;
        let ready = self.ready(0, 0, lease_id);
        self.must(100, &ready);
        lease_id
    }

    /// Posts, claims and matches in one block. Gives the bid's id.
    pub(crate) fn bid_and_match(&mut self, deposit: u128) -> u64 {
        let bid_id = self.last_bid() + 1;
        let msgs = [any(&self.post(deposit)), any(&self.claim(0, bid_id, UNIT))];
        for result in self.block(100, &msgs) {
            result.expect("succeeds");
        }
        bid_id
    }

    pub(crate) fn last_bid(&mut self) -> u64 {
        let answer: QueryBidsResponse = self
            .query("/tenure.market.v1.Query/Bids", &QueryBidsRequest::default())
            .expect("bids");
        answer.bids.last().map_or(0, |b| b.id)
    }

    /// Kinds of the market's events since the last call.
    pub(crate) fn events(&mut self) -> Vec<&'static str> {
        let events = std::mem::take(&mut self.ctx.events);
        events
            .into_iter()
            .filter_map(|e| e.kind.strip_prefix("tenure.market.v1.Event"))
            .collect()
    }
}

fn run(ctx: &mut Ctx, messages: &BTreeMap<String, MsgRoute>, msg: &Any) -> Result<Any> {
    let decoded = (messages[&msg.type_url].decode)(&msg.value)?;
    decoded.signers()?;
    decoded.validate()?;
    ctx.atomically(|ctx| decoded.execute(ctx))
}

pub(crate) fn coin(amount: u128) -> ProtoCoin {
    ProtoCoin {
        denom: "uten".to_owned(),
        amount: amount.to_string(),
    }
}

/// What `amount` paid leaves the provider after the take of 1 %, rounded down.
pub(crate) fn net(amount: u128) -> u128 {
    amount - amount / 100
}

/// Codespace and number of a refusal.
pub(crate) fn code(result: Result<Any>) -> (&'static str, u32) {
    let error: Error = result.expect_err("must be refused");
    (error.codespace, error.code)
}
