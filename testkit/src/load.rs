//! Load: signed transfers through several nodes at once, and what the chain must show for them in the end.
//!
//! Each sender is one account with one receiver of its own, prefers one node and goes to the next when that one does not answer. It sends ahead
//! of the blocks, as wallets do, and takes up its sequence again from the node's refusal when transactions were lost with a killed mempool.
//! Every transfer has another amount, so that a transfer applied twice cannot be hidden by one that was not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tenure_client::keys::Key;
use tenure_client::tx::{fee, Draft, Signer};
use tenure_comet::rpc::{Rpc, RpcError};
use tenure_proto::cosmos::bank::v1beta1::MsgSend;
use tenure_proto::cosmos::base::v1beta1::Coin;
use tenure_types::{sdk, Address, BASE_DENOM};

use crate::chain::Chain;
use crate::history::{History, TxHash};
use crate::network::CHAIN_ID;

/// What each sender begins with, base units: more than any run spends.
const FUNDS: u128 = 1_000_000_000_000;
/// Gas of one transfer, with room; blocks charge what is asked for.
const GAS: u64 = 100_000;
/// After a node did not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// One account that sends, and who receives.
#[derive(Clone, Debug)]
pub struct Sender {
    key: Key,
    receiver: Address,
}

impl Sender {
    /// The account's key.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// A transfer that a node's `CheckTx` has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    sender: usize,
    amount: u128,
}

/// What was sent so far.
#[derive(Debug, Default)]
struct Sheet {
    accepted: BTreeMap<TxHash, Sent>,
    /// Every transfer that was signed and may be in some mempool, accepted or not answered.
    signed: BTreeMap<TxHash, Sent>,
    refused: u64,
    unanswered: u64,
}

/// How many transfers there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted by a node.
    pub accepted: usize,
    /// Of those, in a block.
    pub committed: usize,
    /// Refused, mostly for a sequence that was lost with a mempool.
    pub refused: u64,
    /// Sent to a node that did not answer.
    pub unanswered: u64,
}

/// Accounts for a load, before there is a chain.
pub fn senders(count: usize) -> Vec<Sender> {
    let new = |_| Sender {
        key: Key::random(),
        receiver: Key::random().address(),
    };
    (0..count).map(new).collect()
}

/// What the genesis gives them: `address=coins`.
pub fn accounts(senders: &[Sender]) -> Vec<String> {
    let account = |sender: &Sender| format!("{}={FUNDS}{BASE_DENOM}", sender.key.address());
    senders.iter().map(account).collect()
}

/// Transfers under way.
#[derive(Debug)]
pub struct Load {
    senders: Vec<Sender>,
    sheet: Arc<Mutex<Sheet>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    fee: u128,
}

impl Load {
    /// Begins to send `rate` transfers a second in all, spread over the nodes. `chain` is asked for account numbers and the price of gas.
    pub fn start(senders: Vec<Sender>, nodes: &[Rpc], chain: &Chain, rate: u32) -> Result<Self> {
        ensure!(!senders.is_empty() && rate > 0, "a load needs senders and a rate");
        let params = chain.ask(|c| c.chain_params())?;
        let fee = fee(GAS, params.min_gas_price_micro);
        let mut load = Self {
            senders,
            sheet: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
            fee,
        };
        let every = Duration::from_secs(1) * u32::try_from(load.senders.len())? / rate;
        for (index, sender) in load.senders.iter().enumerate() {
            let address = sender.key.address().to_string();
            let account = chain.ask(|c| c.account(&address))?;
            let stream = Stream {
                index,
                sender: sender.clone(),
                number: account.account_number,
                sequence: account.sequence,
                amount: 0,
                fee,
                nodes: nodes.to_vec(),
                node: index % nodes.len().max(1),
                sheet: load.sheet.clone(),
            };
            let stop = load.stop.clone();
            load.threads.push(std::thread::spawn(move || stream.run(every, &stop)));
        }
        Ok(load)
    }

    /// Stops sending. What was sent may still come into blocks.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    /// How many transfers there were so far.
    pub fn counts(&self, history: &History) -> Counts {
        let sheet = self.sheet.lock();
        Counts {
            accepted: sheet.accepted.len(),
            committed: sheet.accepted.keys().filter(|tx| history.place(tx).is_some()).count(),
            refused: sheet.refused,
            unanswered: sheet.unanswered,
        }
    }

    /// Holds balances and sequences on a node to the transfers in the blocks: each counted once, none that is not there. Needs a chain on which
    /// nothing of this load is left to commit.
    pub fn check_balances(&self, history: &History, chain: &Chain) -> Result<()> {
        let mut expected = vec![(0_u128, 0_u64); self.senders.len()];
        for (tx, sent) in &self.sheet.lock().signed {
            if let Some((height, code)) = history.place(tx) {
                ensure!(
                    code == 0,
                    "transfer {} failed with code {code} in block {height}",
                    hex::encode_upper(tx)
                );
                let (amount, count) = &mut expected[sent.sender];
                *amount += sent.amount;
                *count += 1;
            }
        }
        for (sender, (amount, count)) in self.senders.iter().zip(expected) {
            let (from, to) = (sender.key.address().to_string(), sender.receiver.to_string());
            let received = chain.ask(|c| c.balance(&to))?;
            let left = chain.ask(|c| c.balance(&from))?;
            let sequence = chain.ask(|c| c.account(&from))?.sequence;
            let spent = amount + u128::from(count) * self.fee;
            for (what, got, wanted) in [
                ("received", received, amount),
                ("spent with fees", FUNDS - left, spent),
                ("sequence", u128::from(sequence), u128::from(count)),
            ] {
                ensure!(
                    got == wanted,
                    "{from} at {}: {what} is {got}, the {count} transfers in blocks make {wanted}",
                    chain.address()
                );
            }
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One sender at work.
struct Stream {
    index: usize,
    sender: Sender,
    number: u64,
    sequence: u64,
    amount: u128,
    fee: u128,
    nodes: Vec<Rpc>,
    node: usize,
    sheet: Arc<Mutex<Sheet>>,
}

impl Stream {
    fn run(mut self, every: Duration, stop: &AtomicBool) {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.send();
            next += every;
            let now = Instant::now();
            // After a stall there is no burst to make up for it.
            next = next.max(now);
            std::thread::sleep(next - now);
        }
    }

    fn send(&mut self) {
        self.amount += 1;
        let bytes = self.transfer();
        let hash: TxHash = Sha256::digest(&bytes).into();
        let sent = Sent {
            sender: self.index,
            amount: self.amount,
        };
        // Before it is sent: a block may have it before the answer is here.
        self.sheet.lock().signed.insert(hash, sent);
        match self.nodes[self.node].broadcast_tx_sync(&bytes) {
            Ok(check) if check.code == 0 => {
                self.sheet.lock().accepted.insert(hash, sent);
                self.sequence += 1;
            }
            Ok(check) => {
                self.sheet.lock().refused += 1;
                if check.code == sdk::WRONG_SEQUENCE {
                    self.sequence = expected(&check.log).unwrap_or(self.sequence);
                }
            }
            // A full mempool.
            Err(RpcError::Refused { .. }) => self.sheet.lock().refused += 1,
            Err(RpcError::Unreachable { .. } | RpcError::Malformed { .. }) => {
                self.sheet.lock().unanswered += 1;
                self.node = (self.node + 1) % self.nodes.len();
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn transfer(&self) -> Vec<u8> {
        let message = MsgSend {
            from_address: self.sender.key.address().to_string(),
            to_address: self.sender.receiver.to_string(),
            amount: vec![Coin {
                denom: BASE_DENOM.to_owned(),
                amount: self.amount.to_string(),
            }],
        };
        let signers = [Signer::new(&self.sender.key, self.sequence)];
        let draft = Draft::new(vec![tenure_proto::any(&message)], "", 0, &signers, GAS, self.fee);
        let signature = draft.sign(&self.sender.key, CHAIN_ID, self.number);
        draft.assemble(vec![signature]).bytes
    }
}

/// The sequence that a refusal names, in the Cosmos SDK's words: "account sequence mismatch, expected 5, got 7".
fn expected(log: &str) -> Option<u64> {
    let (_, rest) = log.split_once("expected ")?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_the_next_sequence() {
        let log = "account sequence mismatch, expected 5, got 17: incorrect account sequence";
        assert_eq!(expected(log), Some(5));
        assert_eq!(expected("insufficient fee"), None);
        assert_eq!(expected("expected nothing"), None);
    }
}
