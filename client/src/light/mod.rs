//! A light client: believes nothing that a node says but what validators it trusts have signed.
//!
//! ```text
//!   trusted height and hash ──(skipping verification, within the trust period)──► newest header: app hash
//!                                                                                       │ two ICS23 proofs
//!                                                                                       ▼
//!                                                                    one record of the state, or its absence
//! ```
//!
//! The verification of headers is `tendermint-light-client-verifier`'s (the IBC relayers' own); the proofs are [`tenure_store::proof`]'s. What is
//! here fetches, steps, and keeps the newest header it has verified, which the next run starts from.

mod block;
mod state;
mod trust;

pub use block::{Signer, MAX_VALIDATORS};
pub use state::{balance_key, lease_key, payment_key, Proven};
pub use trust::{Anchor, TrustStore};

use std::time::Duration;

use tendermint::{Hash, Time};
use tendermint_light_client_verifier::{
    options::Options,
    types::{LightBlock, TrustThreshold},
    ProdVerifier, Verdict, Verifier,
};

use crate::{auth::wall_ms, rpc::Node, Error, Result};

/// How long a verified header is trusted if nothing else is said: one week, as CometBFT's own light client has it.
pub const TRUST_PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far a block's time may be ahead of this machine's clock.
const CLOCK_DRIFT: Duration = Duration::from_secs(30);
/// Headers fetched for one verification: bisection needs one for each halving and each change of validators.
const MAX_STEPS: usize = 256;

/// A light client at the newest header it trusts.
#[derive(Debug)]
pub struct LightClient<N> {
    node: N,
    options: Options,
    trusted: LightBlock,
    path: Vec<u64>,
}

impl<N: Node> LightClient<N> {
    /// Begins with the header that a person named: it must have that hash and be signed by the validators it names.
    ///
    /// # Errors
    /// `Verification`: the node shows another header at that height, or one that its validators did not sign.
    pub async fn from_anchor(node: N, anchor: &Anchor, period: Duration) -> Result<Self> {
        let trusted = block::fetch(&node, anchor.height).await?;
        let found = trusted.signed_header.header.hash();
        if found != Hash::Sha256(anchor.hash) {
            return Err(Error::Verification(format!(
                "the node's header {} has the hash {found}, and --trust-hash is {}: it is another chain, or one of the two is wrong",
                anchor.height,
                hex::encode_upper(anchor.hash)
            )));
        }
        let verifier = ProdVerifier::default();
        let untrusted = trusted.as_untrusted_state();
        believed(anchor.height, verifier.verify_validator_sets(&untrusted))?;
        believed(anchor.height, verifier.verify_commit(&untrusted))?;
        Ok(Self::from_trusted(node, trusted, period))
    }

    /// Goes on from a header that was verified before.
    pub fn from_trusted(node: N, trusted: LightBlock, period: Duration) -> Self {
        let options = Options {
            trust_threshold: TrustThreshold::ONE_THIRD,
            trusting_period: period,
            clock_drift: CLOCK_DRIFT,
        };
        let path = vec![trusted.height().value()];
        Self {
            node,
            options,
            trusted,
            path,
        }
    }

    /// The newest header that is trusted.
    pub fn trusted(&self) -> &LightBlock {
        &self.trusted
    }

    /// Heights of the headers that were verified one from the other, the starting point first.
    pub fn path(&self) -> &[u64] {
        &self.path
    }

    /// Who signed the newest trusted header, each signature verified, and the power of all validators.
    ///
    /// # Errors
    /// `Verification`: a signature is wrong.
    pub fn signers(&self) -> Result<(Vec<Signer>, u64)> {
        block::signers(&self.trusted)
    }

    /// Verifies the header at a height from the newest trusted one, directly if at least a third of the trusted validators signed it, else over
    /// headers between.
    ///
    /// # Errors
    /// `Verification`: a header on the way does not verify, the trust period has passed, or the height is below the trusted one.
    pub async fn verify_to(&mut self, height: u64) -> Result<()> {
        let mut targets = vec![block::fetch(&self.node, height).await?];
        let mut fetched = 1;
        while let Some(target) = targets.last() {
            let (from, to) = (self.trusted.height().value(), target.height().value());
            if to == from && target.signed_header.header == self.trusted.signed_header.header {
                targets.pop();
                continue;
            }
            if to <= from {
                return Err(Error::Verification(format!(
                    "the node offers header {to}, and header {from} is trusted already: the node is behind, or shows another history. Ask another \
                     node, or begin anew with --trust-height and --trust-hash"
                )));
            }
            let verdict = ProdVerifier::default().verify_update_header(
                target.as_untrusted_state(),
                self.trusted.as_trusted_state(),
                &self.options,
                now(),
            );
            match verdict {
                Verdict::Success => {
                    self.path.push(to);
                    if let Some(verified) = targets.pop() {
                        self.trusted = verified;
                    }
                }
                Verdict::NotEnoughTrust(_) if to > from + 1 && fetched < MAX_STEPS => {
                    targets.push(block::fetch(&self.node, from + (to - from) / 2).await?);
                    fetched += 1;
                }
                verdict => return believed(to, verdict),
            }
        }
        Ok(())
    }

    /// One record of the state as of the newest block whose successor is signed, with its proof checked against that successor's header.
    ///
    /// # Errors
    /// `Verification`: header or proof do not verify.
    pub async fn prove(&mut self, store: &str, key: &[u8]) -> Result<Proven> {
        self.prove_all(store, &[key.to_vec()])
            .await?
            .pop()
            .ok_or_else(|| Error::Usage("no key was asked for".to_owned()))
    }

    /// Several records of one store as of one and the same block.
    ///
    /// # Errors
    /// As [`Self::prove`].
    pub async fn prove_all(&mut self, store: &str, keys: &[Vec<u8>]) -> Result<Vec<Proven>> {
        let header = block::latest_height(&self.node).await?.max(2);
        self.verify_to(header).await?;
        self.prove_at_trusted(store, keys).await
    }

    /// Several records of one store as of the block before the newest trusted header.
    ///
    /// # Errors
    /// As [`Self::prove`].
    pub async fn prove_at_trusted(&self, store: &str, keys: &[Vec<u8>]) -> Result<Vec<Proven>> {
        let header = &self.trusted.signed_header.header;
        let mut proven = Vec::with_capacity(keys.len());
        for key in keys {
            proven.push(state::fetch(&self.node, header, store, key).await?);
        }
        Ok(proven)
    }
}

fn now() -> Time {
    let ms = wall_ms();
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let nanos = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
    Time::from_unix_timestamp(seconds, nanos).unwrap_or(Time::unix_epoch())
}

/// Error: the verdict is not success.
fn believed(height: u64, verdict: Verdict) -> Result<()> {
    let why = match verdict {
        Verdict::Success => return Ok(()),
        Verdict::NotEnoughTrust(tally) => format!("too little of the trusted voting power signed it: {tally}"),
        Verdict::Invalid(detail) => detail.to_string(),
    };
    let hint = if why.contains("trusting period") {
        ". The trusted header is too old: name a newer one with --trust-height and --trust-hash"
    } else {
        ""
    };
    Err(Error::Verification(format!(
        "header {height} is not to be believed: {why}{hint}"
    )))
}
