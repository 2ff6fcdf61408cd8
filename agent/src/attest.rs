//! Which epochs to attest, with which leases and without which: a pure core.
//!
//! All instants are live milliseconds. The chain's answer to "what is final" ([`Chain::final_until_ms`]) decides what is still open: an epoch
//! whose deadline passed is no longer, and a halt, during which live time stands still, opens and closes nothing. A lease is attested for an
//! epoch only if its program ran for the whole of the lease's part of it; otherwise the epoch is attested without it (`MsgReportDown`).

use std::collections::BTreeMap;

use prost::Message;
use serde::{Deserialize, Serialize};
use tenure_client::Error;
use tenure_proto::{
    any,
    tenure::{
        market::v1::MsgReportDown,
        provider::v1::{AttestationLeaf, EpochRoot, MsgAttest},
    },
    Any,
};
use tenure_types::merkle;

/// Most epochs attested in one transaction; the rest follows in the next.
pub const EPOCHS_PER_TX: usize = 8;
/// Most leases in one `MsgReportDown` (market.v1).
pub const DOWN_PER_MESSAGE: usize = 256;
/// The chain's code of an epoch whose outcome is final, codespace provider (docs/errors.md).
const ALREADY_FINAL: u32 = 9;
/// The chain's code of an epoch whose deadline has passed, codespace provider.
const TOO_LATE: u32 = 8;

/// A provider's epoch grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Start of epoch 0.
    pub offset_ms: u64,
    /// Length of an epoch, above 0.
    pub epoch_ms: u64,
}

impl Grid {
    /// First instant of an epoch.
    pub fn start(&self, epoch: u64) -> u64 {
        self.offset_ms.saturating_add(epoch.saturating_mul(self.epoch_ms))
    }

    /// First instant after an epoch.
    pub fn end(&self, epoch: u64) -> u64 {
        self.start(epoch.saturating_add(1))
    }

    /// The epoch of an instant; 0 before the grid begins.
    pub fn epoch_at(&self, instant_ms: u64) -> u64 {
        instant_ms.saturating_sub(self.offset_ms) / self.epoch_ms.max(1)
    }

    /// How long after its program's end a lease may go on before the epoch counts as one in which it did not run: the time a report of the end
    /// needs to get into a block. A quarter of an epoch, but no less than 5 s and no more than 30 s.
    pub fn finish_slack_ms(&self) -> u64 {
        (self.epoch_ms / 4).clamp(5_000, 30_000)
    }
}

/// What the chain says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The provider's grid.
    pub grid: Grid,
    /// Up to here outcomes are final.
    pub final_until_ms: u64,
    /// Live time of the last block.
    pub live_ms: u64,
}

/// An open lease as the chain has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Its id.
    pub id: u64,
    /// SHA-256 of its manifest.
    pub manifest_hash: Vec<u8>,
    /// When it became ready; 0 while starting.
    pub ready_ms: u64,
    /// When it stopped accruing; 0 while it has not.
    pub ended_ms: u64,
}

/// What this agent saw of a lease's program in its present run. A run that was begun anew has no memory of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Live time from which on it runs. For a first run the last block before it began, since readiness is reported after that; for a run
    /// begun anew the first block seen after it began.
    pub from_ms: u64,
    /// Live time of the last block at which it was seen running.
    pub to_ms: u64,
    /// Live time at which it had ended by itself.
    pub ended_ms: Option<u64>,
}

/// What one epoch's attestation says of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The lease has no part in the epoch.
    Absent,
    /// It ran all of its part.
    Running,
    /// It ran until its program ended, and the end was reported in time.
    Exited,
    /// It did not run all of its part.
    Down,
}

/// Judges one lease in one epoch that has ended.
pub fn verdict(lease: &LeaseTerms, service: Option<&Service>, grid: Grid, epoch: u64) -> Verdict {
    let (start, end) = (grid.start(epoch), grid.end(epoch));
    if lease.ready_ms == 0 {
        return Verdict::Absent;
    }
    let from = start.max(lease.ready_ms);
    let to = if lease.ended_ms == 0 {
        end
    } else {
        end.min(lease.ended_ms)
    };
    if from >= to {
        return Verdict::Absent;
    }
    let Some(service) = service.filter(|service| service.from_ms <= from) else {
        return Verdict::Down;
    };
    match service.ended_ms {
        // It was over before the chain knew that it ran.
        Some(ended) if ended < lease.ready_ms => Verdict::Down,
        Some(ended) if ended >= to => Verdict::Running,
        // An epoch that began after the program's end holds nothing but waiting.
        Some(ended) if ended >= start && to - ended <= grid.finish_slack_ms() => Verdict::Exited,
        None if service.to_ms >= to => Verdict::Running,
        // The chain ended the lease between two looks at it: it was running at the last.
        None if lease.ended_ms != 0
            && to == lease.ended_ms
            && to.saturating_sub(service.to_ms) <= grid.finish_slack_ms() =>
        {
            Verdict::Running
        }
        _ => Verdict::Down,
    }
}

/// Epochs that ended and are not final, ascending and without a hole, at most [`EPOCHS_PER_TX`]; none while no lease is open. The chain moves
/// what is final to the present when the first lease opens, so all of them concern a time in which leases were held; and it excepts leases only
/// from the epoch that is next, so none may be left out.
pub fn due(chain: &Chain, leases: &[LeaseTerms]) -> Vec<u64> {
    let Chain {
        grid,
        final_until_ms,
        live_ms,
    } = *chain;
    if leases.is_empty() {
        return Vec::new();
    }
    let first = grid.epoch_at(final_until_ms);
    (first..)
        .take_while(|epoch| grid.end(*epoch) <= live_ms)
        .take(EPOCHS_PER_TX)
        .collect()
}

/// One epoch's attestation. Written to disk before it is sent, so that an epoch is never attested in two ways and every leaf can be opened later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch number on the provider's grid.
    pub epoch: u64,
    /// Encoded leaves by lease.
    #[serde(with = "hex_map")]
    pub leaves: BTreeMap<u64, Vec<u8>>,
    /// Leases that did not run all of their part, ascending.
    pub down: Vec<u64>,
}

impl EpochRecord {
    /// Judges all leases in one epoch. `output_head` gives the SHA-256 of what a lease's program had written.
    pub fn new(
        chain_id: &str,
        grid: Grid,
        epoch: u64,
        leases: &[(LeaseTerms, Option<Service>)],
        app_hash: &[u8],
        output_head: impl Fn(u64) -> Vec<u8>,
    ) -> Self {
        let mut record = Self {
            epoch,
            leaves: BTreeMap::new(),
            down: Vec::new(),
        };
        for (lease, service) in leases {
            let status = match verdict(lease, service.as_ref(), grid, epoch) {
                Verdict::Absent => continue,
                Verdict::Down => {
                    record.down.push(lease.id);
                    continue;
                }
                Verdict::Running => "running",
                Verdict::Exited => "exited",
            };
            let leaf = AttestationLeaf {
                chain_id: chain_id.to_owned(),
                lease_id: lease.id,
                epoch,
                manifest_hash: lease.manifest_hash.clone(),
                status: status.to_owned(),
                output_head: output_head(lease.id),
                recent_app_hash: app_hash.to_vec(),
            };
            record.leaves.insert(lease.id, leaf.encode_to_vec());
        }
        record.down.sort_unstable();
        record
    }

    /// The Merkle root over the leaves in order of lease.
    pub fn root(&self) -> [u8; 32] {
        merkle::root(&self.leaves.values().collect::<Vec<_>>())
    }
}

/// One transaction of attestations, in the form that the chain takes without a fee: exceptions, then one `MsgAttest`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attestation {
    /// What is sent.
    pub messages: Vec<Any>,
    /// The last epoch that it attests: its nonce.
    pub nonce: u64,
}

/// The transaction that attests the first of these epochs, which ascend without a hole, and as many of the next as go with it. The chain excepts
/// leases from the epoch that is next only, so an epoch with exceptions of its own is the first of a transaction. None: there is no epoch.
pub fn attestation(provider: &str, records: &[EpochRecord]) -> Option<Attestation> {
    let (first, rest) = records.split_first()?;
    let mut messages: Vec<Any> = first
        .down
        .chunks(DOWN_PER_MESSAGE)
        .map(|ids| {
            any(&MsgReportDown {
                provider: provider.to_owned(),
                epoch: first.epoch,
                lease_ids: ids.to_vec(),
            })
        })
        .collect();
    let together = rest.iter().take_while(|record| record.down.is_empty());
    let epochs: Vec<EpochRoot> = std::iter::once(first)
        .chain(together)
        .map(|record| EpochRoot {
            epoch: record.epoch,
            root: record.root().to_vec(),
        })
        .collect();
    let nonce = epochs.last()?.epoch;
    messages.push(any(&MsgAttest {
        provider: provider.to_owned(),
        epochs,
    }));
    Some(Attestation { messages, nonce })
}

/// Why the chain may refuse an attestation that is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// An epoch in it is final, or will be by what waits in the mempool: what the chain's state says next tells whether anything is left to do.
    Known,
    /// An epoch's deadline has passed: it is missed, and the chain's state says from which one on to go on.
    Late,
}

/// Which of the two an error is; none: it is another.
pub fn refusal(error: &Error) -> Option<Refusal> {
    match error {
        Error::Refused(refusal) if refusal.codespace == "provider" => match refusal.code {
            ALREADY_FINAL => Some(Refusal::Known),
            TOO_LATE => Some(Refusal::Late),
            _ => None,
        },
        _ => None,
    }
}

mod hex_map {
    use std::collections::BTreeMap;

    use serde::{de::Error, Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<u64, Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        map.iter()
            .map(|(id, leaf)| (*id, hex::encode(leaf)))
            .collect::<BTreeMap<_, _>>()
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u64, Vec<u8>>, D::Error> {
        let text = BTreeMap::<u64, String>::deserialize(deserializer)?;
        text.into_iter()
            .map(|(id, leaf)| hex::decode(leaf).map(|leaf| (id, leaf)).map_err(Error::custom))
            .collect()
    }
}

#[cfg(test)]
#[path = "attest_tests.rs"]
mod tests;
