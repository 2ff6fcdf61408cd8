//! Sends transactions of one account in order: several per block, exactly once each, through lost connections and sequence mismatches. The
//! decisions are [`crate::sequence`]'s; this file does the I/O.

mod free;

use std::{sync::Arc, time::Duration};

use prost::Message;
use tenure_proto::{
    cosmos::base::abci::v1beta1::{TxMsgData, TxResponse},
    tendermint::abci::Event,
    Any,
};
use tenure_types::sdk;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    chain::Client,
    error::{Refusal, Stage},
    keys::Key,
    sequence::{overdue, parse_mismatch, Attempt, Local, Next, Reply},
    tx::{adjusted_gas, fee, simulation, Draft, SignedTx, Signer},
    Error, Result,
};

pub use free::MAX_FREE_GAS;

/// How much gas to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gas {
    /// What simulation used, times this many hundredths.
    Simulated {
        /// Hundredths; 130 is the default.
        adjustment_percent: u64,
    },
    /// This much. Needed when a transaction depends on one that is in no block yet.
    Fixed(u64),
}

/// How to send.
#[derive(Debug, Clone)]
pub struct TxOptions {
    /// How much gas to ask for.
    pub gas: Gas,
    /// Price of a unit of gas in millionths of a base unit; none: the chain's least price.
    pub gas_price_micro: Option<u64>,
    /// A note in every transaction.
    pub memo: String,
    /// How long to wait for a block.
    pub timeout: Duration,
    /// How often to look.
    pub poll: Duration,
}

impl Default for TxOptions {
    fn default() -> Self {
        Self {
            gas: Gas::Simulated {
                adjustment_percent: 130,
            },
            gas_price_micro: None,
            memo: String::new(),
            timeout: Duration::from_secs(60),
            poll: Duration::from_millis(250),
        }
    }
}

/// A transaction that a block executed with success.
#[derive(Debug, Clone)]
pub struct TxResult {
    /// Height of the block.
    pub height: u64,
    /// Hash, upper-case hex.
    pub hash: String,
    /// 0.
    pub code: u32,
    /// The chain's words; empty on success.
    pub log: String,
    /// What happened.
    pub events: Vec<Event>,
    /// Gas used.
    pub gas: u64,
    /// Gas asked for.
    pub gas_wanted: u64,
    /// One response for each message.
    pub data: Vec<Any>,
}

impl TxResult {
    /// The response of the message at this index. Error: there is none, or it is of another kind.
    pub fn response<M: Message + prost::Name + Default>(&self, index: usize) -> Result<M> {
        let malformed = |detail: String| Error::Malformed {
            what: "the node",
            detail,
        };
        let any = self
            .data
            .get(index)
            .ok_or_else(|| malformed(format!("transaction {} has no response to message {index}", self.hash)))?;
        let expected = tenure_proto::type_url::<M>();
        if any.type_url != expected {
            return Err(malformed(format!(
                "response {index} is a {}, expected {expected}",
                any.type_url
            )));
        }
        M::decode(any.value.as_slice()).map_err(|e| malformed(format!("response {index}: {e}")))
    }
}

/// A transaction that waits for a block.
#[derive(Debug)]
pub struct PendingTx {
    shared: Arc<Shared>,
    signed: SignedTx,
    sequence: u64,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    key: Key,
    options: TxOptions,
    chain_id: String,
    account_number: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    local: Local,
    price_micro: Option<u64>,
}

/// The only sender of one account in this process. Cheap to clone; clones share the sequence. Several may await at once: they are signed and
/// broadcast one after the other and wait for their blocks together.
#[derive(Debug, Clone)]
pub struct TxSender(Arc<Shared>);

impl TxSender {
    /// A sender for this key's account. Errors: the node does not answer; the account does not exist yet.
    pub async fn new(client: Client, key: Key, options: TxOptions) -> Result<Self> {
        let chain_id = client.status().await?.chain_id;
        let address = key.address().to_string();
        let account = client.account(&address).await.map_err(|e| match e {
            Error::NotFound(_) => Error::Refused(Box::new(Refusal {
                stage: Stage::Check,
                codespace: "sdk".to_owned(),
                code: sdk::UNKNOWN_ADDRESS,
                log: format!("account {address} does not exist yet: it never received anything"),
                hash: String::new(),
                height: 0,
            })),
            other => other,
        })?;
        let mut state = State::default();
        state.local.learn(account.sequence);
        let account_number = account.account_number;
        Ok(Self(Arc::new(Shared {
            client,
            key,
            options,
            chain_id,
            account_number,
            state: Mutex::new(state),
        })))
    }

    /// The account.
    pub fn address(&self) -> String {
        self.0.key.address().to_string()
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// The chain it sends to.
    pub fn chain_id(&self) -> &str {
        &self.0.chain_id
    }

    /// The node it sends through.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Signs and sends these messages as one transaction and waits until a block has executed it with success.
    ///
    /// Errors: [`Error::Refused`] (the stage tells whether anything was paid), [`Error::NotIncluded`], [`Error::OutcomeUnknown`],
    /// [`Error::Replaced`], [`Error::Unreachable`] (nothing was sent).
    pub async fn send_and_confirm(&self, messages: Vec<Any>) -> Result<TxResult> {
        self.send(messages).await?.confirm().await
    }

    /// Signs and sends these messages as one transaction and returns once the node has it.
    pub async fn send(&self, messages: Vec<Any>) -> Result<PendingTx> {
        let shared = &self.0;
        // Held until the node has the transaction: the account's transactions go out one after the other.
        let mut state = shared.state.lock().await;
        let sent = shared.send(&mut state, messages).await;
        match &sent {
            Ok(pending) => state.local.used(pending.sequence),
            // A refusal uses no sequence; what is known stays true.
            Err(Error::Refused(refusal)) if refusal.code != sdk::WRONG_SEQUENCE => {}
            Err(_) => state.local.forget(),
        }
        sent.map(|pending| PendingTx {
            shared: Arc::clone(shared),
            signed: pending.signed,
            sequence: pending.sequence,
        })
    }
}

struct Sent {
    signed: SignedTx,
    sequence: u64,
}

impl Shared {
    async fn send(&self, state: &mut State, messages: Vec<Any>) -> Result<Sent> {
        let sequence = match state.local.next() {
            Some(sequence) => sequence,
            None => self.committed().await?,
        };
        let gas = self.gas(&messages, sequence).await?;
        let mut price = self.price(state).await?;
        let mut attempt = Attempt::new(sequence);
        let mut signed = self.sign(&messages, sequence, gas, price);
        let mut pause = Duration::from_millis(200);
        let mut repriced = false;
        loop {
            let (reply, refusal) = self.broadcast(&signed).await?;
            let mut next = attempt.replied(&reply);
            if next == Next::LookUp {
                // The sequence first: read after the hash, a block in between would look like a replacement.
                let committed = self.committed().await;
                let found = self.client.tx(&signed.hash).await;
                next = match (committed, found) {
                    (Ok(committed), Ok(found)) => attempt.looked_up(found.is_some(), committed),
                    (Err(e), _) | (_, Err(e)) => attempt_lost(&mut attempt, &e),
                };
            }
            match next {
                Next::Wait => {
                    return Ok(Sent {
                        signed,
                        sequence: attempt.sequence(),
                    })
                }
                Next::Resend => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(3));
                }
                Next::Sign { sequence } => signed = self.sign(&messages, sequence, gas, price),
                Next::Refuse => {
                    let refusal = *refusal;
                    let too_cheap = refusal.codespace == "sdk" && refusal.code == sdk::INSUFFICIENT_FEE;
                    if too_cheap && !repriced && self.options.gas_price_micro.is_none() {
                        // Governance may have raised the least price since it was read. The refused bytes are in no mempool.
                        repriced = true;
                        state.price_micro = None;
                        price = self.price(state).await?;
                        signed = self.sign(&messages, attempt.sequence(), gas, price);
                        continue;
                    }
                    return Err(Error::Refused(Box::new(refusal)));
                }
                Next::Unknown | Next::LookUp | Next::Replaced => {
                    return Err(Error::OutcomeUnknown {
                        hash: signed.hash,
                        detail: refusal.log,
                    });
                }
                Next::Contended => {
                    let log = format!(
                        "{}; another program keeps sending from {}",
                        refusal.log,
                        self.key.address()
                    );
                    return Err(Error::Refused(Box::new(Refusal { log, ..*refusal })));
                }
            }
        }
    }

    /// Sends once. The refusal holds the node's words whatever the reply. Error: the answer makes no sense.
    async fn broadcast(&self, signed: &SignedTx) -> Result<(Reply, Box<Refusal>)> {
        let mut refusal = Box::new(Refusal {
            stage: Stage::Check,
            codespace: String::new(),
            code: 0,
            log: String::new(),
            hash: signed.hash.clone(),
            height: 0,
        });
        let reply = match self.client.broadcast(signed.bytes.clone()).await {
            Ok(response) if response.code == 0 => Reply::Accepted,
            Ok(response) if response.codespace == "sdk" && response.code == sdk::TX_IN_MEMPOOL => Reply::Known,
            Ok(response) => {
                let reply = match parse_mismatch(&response.raw_log) {
                    Some((expected, _)) if response.codespace == "sdk" && response.code == sdk::WRONG_SEQUENCE => {
                        Reply::Mismatch { expected }
                    }
                    _ => Reply::Refused,
                };
                refusal.codespace = response.codespace;
                refusal.code = response.code;
                refusal.log = response.raw_log;
                reply
            }
            Err(e @ Error::Unreachable { .. }) => {
                tracing::debug!(hash = signed.hash, error = %e, "broadcast lost");
                refusal.log = e.to_string();
                Reply::Lost
            }
            // An engine's cache of seen transactions: the bytes are in its mempool or were in a block.
            Err(Error::Server { message, .. }) if message.contains("already exists in cache") => Reply::Known,
            Err(Error::Server { message, .. }) => {
                refusal.log = message;
                Reply::Refused
            }
            Err(e) => return Err(e),
        };
        Ok((reply, refusal))
    }

    async fn committed(&self) -> Result<u64> {
        Ok(self.client.account(&self.key.address().to_string()).await?.sequence)
    }

    async fn gas(&self, messages: &[Any], sequence: u64) -> Result<u64> {
        match self.options.gas {
            Gas::Fixed(gas) => Ok(gas),
            Gas::Simulated { adjustment_percent } => {
                adjusted_gas(self.gas_used(messages, sequence).await?, adjustment_percent)
            }
        }
    }

    /// Gas that these messages use as things stand. Error: the chain would refuse them.
    async fn gas_used(&self, messages: &[Any], sequence: u64) -> Result<u64> {
        let simulate = |sequence| {
            let signers = [Signer::new(&self.key, sequence)];
            self.client
                .simulate(simulation(messages.to_vec(), &self.options.memo, &signers))
        };
        let mut answer = simulate(sequence).await;
        if let Err(Error::Server { message, .. }) = &answer {
            // Simulation runs on the last block; transactions that wait in the mempool are not in it.
            if let Some((expected, _)) = parse_mismatch(message) {
                answer = simulate(expected).await;
            }
        }
        let response = answer.map_err(|e| {
            let (log, chain) = match e {
                Error::Server { message, chain, .. } => (message, chain),
                Error::NotFound(message) => (message, None),
                other => return other,
            };
            let (codespace, code) = chain.unwrap_or_default();
            let (hash, stage) = (String::new(), Stage::Simulate);
            Error::Refused(Box::new(Refusal {
                stage,
                codespace,
                code,
                log,
                hash,
                height: 0,
            }))
        })?;
        Ok(response.gas_info.unwrap_or_default().gas_used)
    }

    async fn price(&self, state: &mut State) -> Result<u64> {
        if let Some(price) = self.options.gas_price_micro.or(state.price_micro) {
            return Ok(price);
        }
        let price = self.client.chain_params().await?.min_gas_price_micro;
        state.price_micro = Some(price);
        Ok(price)
    }

    fn sign(&self, messages: &[Any], sequence: u64, gas: u64, price: u64) -> SignedTx {
        let signers = [Signer::new(&self.key, sequence)];
        let draft = Draft::new(messages.to_vec(), &self.options.memo, 0, &signers, gas, fee(gas, price));
        let signature = draft.sign(&self.key, &self.chain_id, self.account_number);
        draft.assemble(vec![signature])
    }
}

fn attempt_lost(attempt: &mut Attempt, error: &Error) -> Next {
    tracing::debug!(%error, "look-up failed");
    attempt.replied(&Reply::Lost)
}

impl PendingTx {
    /// Its hash, upper-case hex.
    pub fn hash(&self) -> &str {
        &self.signed.hash
    }

    /// Waits until a block has executed it with success. Errors: as [`TxSender::send_and_confirm`].
    pub async fn confirm(self) -> Result<TxResult> {
        let Shared { client, options, .. } = &*self.shared;
        let begin = Instant::now();
        let mut check_at = begin + Duration::from_secs(5);
        loop {
            let unanswered = match client.tx(&self.signed.hash).await {
                Ok(Some(response)) => return outcome(response),
                Ok(None) => None,
                // A node that restarts is waited for like a block.
                Err(e @ Error::Unreachable { .. }) => Some(e),
                Err(e) => return Err(e),
            };
            if begin.elapsed() >= options.timeout {
                let hash = self.signed.hash.clone();
                return Err(match unanswered {
                    Some(e) => Error::OutcomeUnknown {
                        hash,
                        detail: e.to_string(),
                    },
                    None => Error::NotIncluded {
                        hash,
                        waited: begin.elapsed(),
                    },
                });
            }
            if unanswered.is_none() && Instant::now() >= check_at {
                if let Some(response) = self.nudge().await? {
                    return outcome(response);
                }
                check_at = Instant::now() + Duration::from_secs(5);
            }
            tokio::time::sleep(options.poll).await;
        }
    }

    /// Finds out whether a transaction that is in no block yet can still be included, and sends it again if so.
    async fn nudge(&self) -> Result<Option<TxResponse>> {
        let Ok(committed) = self.shared.committed().await else {
            return Ok(None);
        };
        // A node may index a block's transactions a moment after its state.
        tokio::time::sleep(self.shared.options.poll).await;
        if let Some(response) = self.shared.client.tx(&self.signed.hash).await.ok().flatten() {
            return Ok(Some(response));
        }
        match overdue(self.sequence, committed) {
            Next::Replaced => {
                self.shared.state.lock().await.local.forget();
                Err(Error::Replaced {
                    hash: self.signed.hash.clone(),
                    sequence: self.sequence,
                })
            }
            _ => {
                let (reply, refusal) = self.shared.broadcast(&self.signed).await?;
                if reply == Reply::Refused {
                    return self.dropped(refusal).await;
                }
                Ok(None)
            }
        }
    }

    /// The node does not have the transaction any more and does not want it again, unless a block took it just now.
    async fn dropped(&self, refusal: Box<Refusal>) -> Result<Option<TxResponse>> {
        let Ok(committed) = self.shared.committed().await else {
            return Ok(None);
        };
        tokio::time::sleep(self.shared.options.poll).await;
        match self.shared.client.tx(&self.signed.hash).await {
            Ok(None) if committed <= self.sequence => {
                self.shared.state.lock().await.local.forget();
                Err(Error::Refused(refusal))
            }
            Ok(found) => Ok(found),
            Err(_) => Ok(None),
        }
    }
}

pub(crate) fn outcome(response: TxResponse) -> Result<TxResult> {
    let height = u64::try_from(response.height).unwrap_or_default();
    if response.code != 0 {
        return Err(Error::Refused(Box::new(Refusal {
            stage: Stage::Block,
            codespace: response.codespace,
            code: response.code,
            log: response.raw_log,
            hash: response.txhash,
            height,
        })));
    }
    let malformed = |detail: String| Error::Malformed {
        what: "the node",
        detail: format!("tx_response.data: {detail}"),
    };
    let data = hex::decode(&response.data).map_err(|e| malformed(e.to_string()))?;
    let data = TxMsgData::decode(data.as_slice())
        .map_err(|e| malformed(e.to_string()))?
        .msg_responses;
    Ok(TxResult {
        height,
        hash: response.txhash,
        code: response.code,
        log: response.raw_log,
        events: response.events,
        gas: u64::try_from(response.gas_used).unwrap_or_default(),
        gas_wanted: u64::try_from(response.gas_wanted).unwrap_or_default(),
        data,
    })
}
