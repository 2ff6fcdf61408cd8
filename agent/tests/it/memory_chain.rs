//! A chain in memory that keeps the rules the agent depends on: who may do what when, and what is final.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use prost::{Message, Name};
use tenure_agent::{
    attest::{Attestation, Grid},
    chain::Chain,
};
use tenure_client::{
    error::{Refusal, Stage},
    Error, Result,
};
use tenure_proto::{
    tenure::{
        base::v1::Resources,
        chain::v1::StatusResponse,
        market::v1::{Bid, Lease, LeaseState, MsgClaim, MsgFinishLease, MsgLeaseReady, MsgReportDown},
        provider::v1::{MsgAttest, Provider, ProviderStatus},
    },
    Any,
};

pub(crate) const CHAIN_ID: &str = "tenure-test-1";
pub(crate) const GRID: Grid = Grid {
    offset_ms: 0,
    epoch_ms: 10_000,
};
const GRACE_MS: u64 = 15_000;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) height: u64,
    pub(crate) live_ms: u64,
    pub(crate) final_until_ms: u64,
    pub(crate) owner: String,
    pub(crate) draining: bool,
    pub(crate) balance: u128,
    pub(crate) bids: BTreeMap<u64, Bid>,
    pub(crate) leases: BTreeMap<u64, Lease>,
    pub(crate) claims: Vec<MsgClaim>,
    pub(crate) finished: Vec<MsgFinishLease>,
    pub(crate) attested: BTreeMap<u64, Vec<u8>>,
    pub(crate) down: Vec<(u64, u64)>,
    pub(crate) refusals: Vec<String>,
    pub(crate) unreachable: bool,
    /// Transactions with a fee are in no block, and nobody says so.
    pub(crate) stuck: bool,
    /// An attestation waits in the mempool until the next block.
    pub(crate) slow: bool,
    /// What waits there.
    pub(crate) waiting: Option<Attestation>,
    /// How often attestations were sent.
    pub(crate) sent: usize,
    /// How many of the next attestations are refused because the mempool is full.
    pub(crate) full: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryChain(pub(crate) Arc<Mutex<State>>);

pub(crate) fn room(cpu_milli: u64) -> Resources {
    Resources {
        cpu_milli,
        memory_bytes: 32 << 20,
        storage_bytes: 16 << 20,
    }
}

impl MemoryChain {
    pub(crate) fn new(owner: &str) -> Self {
        let chain = Self::default();
        {
            let mut state = chain.0.lock();
            state.owner = owner.to_owned();
            (state.height, state.live_ms, state.final_until_ms, state.balance) = (1, 100_000, 100_000, 1_000_000_000);
        }
        chain
    }

    /// Makes a block this much later, with what waits. What nobody attested in time becomes final as missed.
    pub(crate) fn block(&self, ms: u64) {
        let mut state = self.0.lock();
        if let Some(attestation) = state.waiting.take() {
            attested(&mut state, &attestation).expect("it was checked before it waited");
        }
        state.height += 1;
        state.live_ms += ms;
        loop {
            let next = GRID.end(GRID.epoch_at(state.final_until_ms));
            if next + GRACE_MS > state.live_ms {
                break;
            }
            state.final_until_ms = next;
        }
    }
}

fn refused(state: &mut State, log: String) -> Error {
    state.refusals.push(log.clone());
    refusal("test", 1, log)
}

fn refusal(codespace: &str, code: u32, log: String) -> Error {
    Error::Refused(Box::new(Refusal {
        stage: Stage::Check,
        codespace: codespace.into(),
        code,
        log,
        hash: String::new(),
        height: 0,
    }))
}

fn apply(state: &mut State, message: &Any) -> Result<(), String> {
    let (live, name) = (state.live_ms, message.type_url.rsplit('.').next().unwrap_or_default());
    match name {
        "MsgClaim" => {
            let claim = MsgClaim::decode(message.value.as_slice()).map_err(|e| e.to_string())?;
            if state
                .claims
                .iter()
                .any(|c| c.bid_id == claim.bid_id && c.rate <= claim.rate)
            {
                return Err(format!("bid {} is claimed at that rate already", claim.bid_id));
            }
            state.claims.push(claim);
        }
        "MsgLeaseReady" => {
            let ready = MsgLeaseReady::decode(message.value.as_slice()).map_err(|e| e.to_string())?;
            let lease = state.leases.get_mut(&ready.lease_id).ok_or("no lease")?;
            if lease.state() != LeaseState::Starting {
                return Err(format!("lease {} is not STARTING", lease.id));
            }
            lease.set_state(LeaseState::Active);
            lease.ready_ms = live;
        }
        "MsgFinishLease" => {
            let finish = MsgFinishLease::decode(message.value.as_slice()).map_err(|e| e.to_string())?;
            let lease = state.leases.get_mut(&finish.lease_id).ok_or("no lease")?;
            if !matches!(lease.state(), LeaseState::Active | LeaseState::Paused) {
                return Err(format!("lease {} is not ACTIVE", lease.id));
            }
            lease.set_state(LeaseState::Closing);
            (lease.ended_ms, lease.reason) = (live, finish.reason);
            state.finished.push(finish);
        }
        other => return Err(format!("{other} is not known here")),
    }
    Ok(())
}

/// What the chain does with an attestation without a fee: all of it or nothing. Error: codespace, code, words.
fn attested(state: &mut State, attestation: &Attestation) -> Result<(), (&'static str, u32, String)> {
    let (last, before) = attestation.messages.split_last().expect("messages");
    let attest: MsgAttest = decoded(last).expect("exactly one MsgAttest, and it is the last message");
    let nonce = attest.epochs.last().map(|epoch| epoch.epoch);
    assert_eq!(nonce, Some(attestation.nonce), "the nonce is the last epoch");
    let (live, mut final_until) = (state.live_ms, state.final_until_ms);
    let mut down = Vec::new();
    for message in before {
        let report: MsgReportDown = decoded(message).expect("only reports come before it");
        let next = GRID.epoch_at(final_until);
        if report.epoch != next || GRID.end(next) > live {
            return Err((
                "market",
                1,
                format!("epoch {} is reported, {next} is next", report.epoch),
            ));
        }
        down.extend(report.lease_ids.iter().map(|id| (report.epoch, *id)));
    }
    for epoch in &attest.epochs {
        let end = GRID.end(epoch.epoch);
        let words = format!("epoch {} ends at {end}; live {live}, final {final_until}", epoch.epoch);
        if end > live {
            return Err(("provider", 7, words));
        } else if end + GRACE_MS <= live {
            return Err(("provider", 8, words));
        } else if end <= final_until {
            return Err(("provider", 9, words));
        }
        final_until = end;
    }
    state.final_until_ms = final_until;
    state.down.extend(down);
    for epoch in attest.epochs {
        let twice = state.attested.insert(epoch.epoch, epoch.root);
        assert!(twice.is_none(), "epoch {} attested twice", epoch.epoch);
    }
    Ok(())
}

fn decoded<M: Message + Name + Default>(any: &Any) -> Option<M> {
    (any.type_url == tenure_proto::type_url::<M>()).then(|| M::decode(any.value.as_slice()).expect("decodes"))
}

impl Chain for MemoryChain {
    async fn status(&self) -> Result<StatusResponse> {
        let state = self.0.lock();
        if state.unreachable {
            return Err(Error::Unreachable {
                what: "the node",
                address: "memory".into(),
                detail: "told to".into(),
            });
        }
        Ok(StatusResponse {
            chain_id: CHAIN_ID.into(),
            height: state.height,
            header_ms: state.live_ms,
            live_ms: state.live_ms,
            app_hash: vec![7; 32],
            version: String::new(),
        })
    }

    async fn provider(&self) -> Result<Option<Provider>> {
        let state = self.0.lock();
        let status = if state.draining {
            ProviderStatus::Draining
        } else {
            ProviderStatus::Active
        };
        Ok(Some(Provider {
            owner: state.owner.clone(),
            status: status.into(),
            capacity: Some(Resources {
                cpu_milli: 2_000,
                memory_bytes: 64 << 20,
                storage_bytes: 32 << 20,
            }),
            epoch_ms: GRID.epoch_ms,
            grid_offset_ms: GRID.offset_ms,
            final_until_ms: state.final_until_ms,
            ..Default::default()
        }))
    }

    async fn open_leases(&self) -> Result<Vec<Lease>> {
        Ok(self
            .0
            .lock()
            .leases
            .values()
            .filter(|lease| lease.state() != LeaseState::Closed)
            .cloned()
            .collect())
    }

    async fn lease(&self, id: u64) -> Result<Option<Lease>> {
        Ok(self.0.lock().leases.get(&id).cloned())
    }

    async fn open_bids(&self) -> Result<Vec<Bid>> {
        Ok(self.0.lock().bids.values().cloned().collect())
    }

    async fn own_claim(&self, bid_id: u64) -> Result<Option<u64>> {
        Ok(self
            .0
            .lock()
            .claims
            .iter()
            .rev()
            .find(|claim| claim.bid_id == bid_id)
            .map(|claim| claim.rate))
    }

    async fn balance(&self) -> Result<u128> {
        Ok(self.0.lock().balance)
    }

    async fn earned(&self, _: &[u64]) -> Result<BTreeMap<u64, u128>> {
        Ok(BTreeMap::new())
    }

    async fn send(&self, messages: Vec<Any>) -> Result<()> {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if self.0.lock().stuck {
            std::future::pending::<()>().await;
        }
        let mut state = self.0.lock();
        for message in &messages {
            if let Err(why) = apply(&mut state, message) {
                return Err(refused(&mut state, why));
            }
        }
        state.height += 1;
        Ok(())
    }

    async fn attest(&self, attestation: Attestation) -> Result<()> {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let mut state = self.0.lock();
        state.sent += 1;
        if state.full > 0 {
            state.full -= 1;
            return Err(refusal("sdk", 20, "mempool is full".into()));
        }
        if let Some(waiting) = &state.waiting {
            let words = format!("epoch {} waits in the mempool", waiting.nonce);
            return Err(refusal("provider", 9, words));
        }
        if state.slow {
            state.waiting = Some(attestation);
            // What the client says when it does not wait any longer.
            return Err(Error::NotIncluded {
                hash: String::new(),
                waited: std::time::Duration::ZERO,
            });
        }
        match attested(&mut state, &attestation) {
            Ok(()) => state.height += 1,
            Err((codespace, code, words)) => {
                state.refusals.push(words.clone());
                return Err(refusal(codespace, code, words));
            }
        }
        Ok(())
    }
}
