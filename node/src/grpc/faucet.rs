//! `tenure.faucet.v1.Faucet`: play money for development networks.
//!
//! Each address waits an interval between two gifts; the list of waiting addresses is bounded. Transfers are sent one after the other
//! by one sender that keeps its own sequence, so that several fit into one block.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prost::Message;
use tenure_proto::cosmos::auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse};
use tenure_proto::cosmos::bank::v1beta1::MsgSend;
use tenure_proto::cosmos::base::abci::v1beta1::TxResponse;
use tenure_proto::cosmos::base::v1beta1 as base;
use tenure_proto::tenure::chain::v1::{ParamsRequest, ParamsResponse};
use tenure_proto::tenure::faucet::v1::{faucet_server, DripRequest, DripResponse};
use tenure_types::{sdk, Address, Coin, BASE_DENOM};
use tonic::{Request, Response, Status};

use crate::account_key::AccountKey;
use crate::chain::Chain;
use crate::engine::Engine;
use crate::grpc::status::status;
use crate::grpc::tx::broadcast;
use crate::grpc::workers::Workers;

/// Gas a gift may use.
const GAS: u64 = 200_000;
/// How often one gift's sequence is corrected.
const CORRECTIONS: u32 = 3;
/// Most addresses that may wait at a time.
const MAX_WAITING: usize = 10_000;
/// Micro-units of a price in one unit.
const MICRO: u64 = 1_000_000;

/// Who got something, and when.
struct Waiting {
    interval: Duration,
    most: usize,
    since: BTreeMap<Address, Instant>,
    /// Ascending by time. An entry counts only if `since` says the same.
    order: VecDeque<(Instant, Address)>,
}

impl Waiting {
    fn new(interval: Duration, most: usize) -> Self {
        Self {
            interval,
            most,
            since: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Notes a gift. Error: how long to wait, and whether it is this address (true) or the whole faucet that must wait.
    fn reserve(&mut self, address: Address, now: Instant) -> Result<(), (Duration, bool)> {
        while let Some((at, old)) = self.order.front().copied() {
            if now < at + self.interval && self.since.get(&old) == Some(&at) {
                break;
            }
            if self.since.get(&old) == Some(&at) {
                self.since.remove(&old);
            }
            self.order.pop_front();
        }
        let left = |at: Instant| (at + self.interval).saturating_duration_since(now);
        if let Some(at) = self.since.get(&address) {
            return Err((left(*at), true));
        }
        if self.order.len() >= self.most {
            return Err((self.order.front().map_or(self.interval, |(at, _)| left(*at)), false));
        }
        self.since.insert(address, now);
        self.order.push_back((now, address));
        Ok(())
    }

    /// Takes a note back: the gift was not sent.
    fn release(&mut self, address: &Address) {
        if let Some(at) = self.since.remove(address) {
            self.order.retain(|entry| *entry != (at, *address));
        }
    }
}

/// What the sender knows of its account.
#[derive(Clone, Copy, Default)]
struct Account {
    number: u64,
    sequence: u64,
}

/// A faucet without its server.
pub struct Faucet(Arc<Inner>);

struct Inner {
    key: AccountKey,
    chain: Arc<dyn Chain>,
    engine: Arc<dyn Engine>,
    amount: Coin,
    waiting: Mutex<Waiting>,
    /// Held while a transfer is sent; `None` means that the chain must be asked.
    account: Mutex<Option<Account>>,
}

impl Faucet {
    /// A faucet that pays `amount` from the account of the key in `key_file`, once per address and `interval`. Error: the key cannot be
    /// read.
    pub fn open(
        key_file: &Path,
        amount: Coin,
        interval: Duration,
        chain: Arc<dyn Chain>,
        engine: Arc<dyn Engine>,
    ) -> anyhow::Result<Self> {
        let key = AccountKey::load(key_file)?;
        let waiting = Mutex::new(Waiting::new(interval, MAX_WAITING));
        Ok(Self(Arc::new(Inner {
            key,
            chain,
            engine,
            amount,
            waiting,
            account: Mutex::new(None),
        })))
    }

    /// The account that pays.
    pub fn address(&self) -> Address {
        self.0.key.address()
    }

    /// Its gRPC service.
    pub fn service(self, workers: Workers) -> FaucetService {
        FaucetService {
            faucet: self.0,
            workers,
        }
    }
}

impl Inner {
    fn ask<Q: Message, A: Message + Default>(&self, path: &str, request: &Q) -> Result<A, Status> {
        let answer = self
            .chain
            .query(path, &request.encode_to_vec(), None)
            .map_err(|e| status(&e))?;
        A::decode(answer.value.as_slice()).map_err(|e| Status::internal(format!("the answer of {path}: {e}")))
    }

    fn committed_account(&self) -> Result<Account, Status> {
        let request = QueryAccountRequest {
            address: self.key.address().to_string(),
        };
        let answer: QueryAccountResponse = self.ask("/cosmos.auth.v1beta1.Query/Account", &request).map_err(|e| {
            Status::unavailable(format!(
                "the faucet's account {} cannot pay: {}",
                self.key.address(),
                e.message()
            ))
        })?;
        let account = BaseAccount::decode(answer.account.unwrap_or_default().value.as_slice())
            .map_err(|e| Status::internal(format!("the faucet's account: {e}")))?;
        Ok(Account {
            number: account.account_number,
            sequence: account.sequence,
        })
    }

    fn signed(&self, to: &Address, account: Account) -> Result<Vec<u8>, Status> {
        let params: ParamsResponse = self.ask("/tenure.chain.v1.Query/Params", &ParamsRequest {})?;
        let price = params.params.unwrap_or_default().min_gas_price_micro;
        let fee = GAS.saturating_mul(price).div_ceil(MICRO);
        let send = MsgSend {
            from_address: self.key.address().to_string(),
            to_address: to.to_string(),
            amount: vec![coin(&self.amount)],
        };
        let fee = base::Coin {
            denom: BASE_DENOM.to_owned(),
            amount: fee.to_string(),
        };
        let chain_id = self.engine.chain_id();
        Ok(self.key.sign_tx(
            chain_id,
            account.number,
            account.sequence,
            &[tenure_proto::any(&send)],
            fee,
            GAS,
        ))
    }

    /// Sends one gift. A wrong sequence (somebody else used the key, or transfers fell out of the mempool) is corrected by what `CheckTx`
    /// says.
    fn send(&self, to: &Address) -> Result<TxResponse, Status> {
        let mut known = self.account.lock();
        let mut account = match *known {
            Some(account) => account,
            None => self.committed_account()?,
        };
        *known = None;
        let mut sent = broadcast(&*self.engine, &self.signed(to, account)?)?;
        for _ in 0..CORRECTIONS {
            account.sequence = if let Some(expected) = expected_sequence(&sent) {
                expected
            } else if (sent.codespace.as_str(), sent.code) == ("sdk", sdk::TX_IN_MEMPOOL) {
                // The chain was asked while an equal gift still waited for its block.
                account.sequence.saturating_add(1)
            } else {
                break;
            };
            sent = broadcast(&*self.engine, &self.signed(to, account)?)?;
        }
        if sent.code != 0 {
            return Err(Status::unavailable(format!(
                "the faucet's transfer was refused: {}",
                sent.raw_log
            )));
        }
        *known = Some(Account {
            sequence: account.sequence.saturating_add(1),
            ..account
        });
        Ok(sent)
    }

    fn drip(&self, request: &DripRequest) -> Result<DripResponse, Status> {
        let to: Address = request
            .address
            .parse()
            .map_err(|e: tenure_types::AddressError| Status::invalid_argument(format!("address: {e}")))?;
        self.waiting.lock().reserve(to, Instant::now()).map_err(|(left, own)| {
            let seconds = left.as_secs().saturating_add(1);
            let mut status = Status::resource_exhausted(if own {
                format!("{to} got something a short while ago; try again in {seconds} s")
            } else {
                format!("the faucet has given to {MAX_WAITING} addresses lately; try again in {seconds} s")
            });
            status.metadata_mut().insert("retry-after", seconds.into());
            status
        })?;
        match self.send(&to) {
            Ok(sent) => Ok(DripResponse {
                tx_hash: sent.txhash,
                amount: Some(coin(&self.amount)),
            }),
            Err(status) => {
                self.waiting.lock().release(&to);
                Err(status)
            }
        }
    }
}

fn coin(coin: &Coin) -> base::Coin {
    base::Coin {
        denom: coin.denom.clone(),
        amount: coin.amount.to_string(),
    }
}

/// The sequence in "account sequence mismatch, expected 5, got 7: …", the text that Cosmos clients rely on.
fn expected_sequence(response: &TxResponse) -> Option<u64> {
    if (response.codespace.as_str(), response.code) != ("sdk", sdk::WRONG_SEQUENCE) {
        return None;
    }
    let (_, rest) = response.raw_log.split_once("expected ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The gRPC face of a faucet.
pub struct FaucetService {
    faucet: Arc<Inner>,
    workers: Workers,
}

#[tonic::async_trait]
impl faucet_server::Faucet for FaucetService {
    async fn drip(&self, request: Request<DripRequest>) -> Result<Response<DripResponse>, Status> {
        let faucet = self.faucet.clone();
        self.workers
            .run(move || faucet.drip(&request.into_inner()))
            .await?
            .map(Response::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> Address {
        Address::new([n; 20])
    }

    #[test]
    fn an_address_waits_its_interval_and_memory_is_bounded() {
        let minute = Duration::from_secs(60);
        let mut waiting = Waiting::new(minute, 3);
        let t0 = Instant::now();
        let at = |s: u64| t0 + Duration::from_secs(s);
        assert_eq!(waiting.reserve(address(1), at(0)), Ok(()));
        assert_eq!(
            waiting.reserve(address(1), at(20)),
            Err((Duration::from_secs(40), true))
        );
        assert_eq!(waiting.reserve(address(2), at(20)), Ok(()));
        assert_eq!(waiting.reserve(address(3), at(30)), Ok(()));
        assert_eq!(
            waiting.reserve(address(4), at(40)),
            Err((Duration::from_secs(20), false))
        );
        assert_eq!(waiting.reserve(address(1), at(60)), Ok(()));
        // A gift that was not sent does not count, and leaves no room taken.
        waiting.release(&address(3));
        assert_eq!(waiting.reserve(address(3), at(61)), Ok(()));
        assert_eq!(waiting.order.len(), 3);
    }

    #[test]
    fn the_expected_sequence_is_read_from_the_error_clients_know() {
        let log = "account sequence mismatch, expected 12, got 9: incorrect account sequence";
        let response = TxResponse {
            codespace: "sdk".into(),
            code: sdk::WRONG_SEQUENCE,
            raw_log: log.into(),
            ..Default::default()
        };
        assert_eq!(expected_sequence(&response), Some(12));
        assert_eq!(expected_sequence(&TxResponse { code: 5, ..response }), None);
    }
}
