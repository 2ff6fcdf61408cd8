//! What the agent asks of the chain and sends to it.
//!
//! One implementation talks to a node ([`Node`]); tests have a chain in memory. Events are not used: everything is read from state, so nothing
//! can be missed.

use std::{collections::BTreeMap, future::Future};

use tenure_client::{
    chain::Client,
    sender::{TxResult, TxSender},
    Error, Result,
};
use tenure_proto::{
    tenure::{
        chain::v1::StatusResponse,
        market::v1::{Bid, BidState, Lease, LeaseState},
        provider::v1::Provider,
    },
    Any,
};

use crate::attest::Attestation;

/// The chain as one provider sees it.
pub trait Chain: Send + Sync + 'static {
    /// Height, times and app hash of the last block.
    fn status(&self) -> impl Future<Output = Result<StatusResponse>> + Send;
    /// The provider itself; none: not registered.
    fn provider(&self) -> impl Future<Output = Result<Option<Provider>>> + Send;
    /// Its leases that are not closed, in order of id.
    fn open_leases(&self) -> impl Future<Output = Result<Vec<Lease>>> + Send;
    /// One lease; none: it does not exist.
    fn lease(&self, id: u64) -> impl Future<Output = Result<Option<Lease>>> + Send;
    /// Bids that wait for claims, in order of id.
    fn open_bids(&self) -> impl Future<Output = Result<Vec<Bid>>> + Send;
    /// This provider's claim on a bid, base units per hour.
    fn own_claim(&self, bid_id: u64) -> impl Future<Output = Result<Option<u64>>> + Send;
    /// What the account holds, base units.
    fn balance(&self) -> impl Future<Output = Result<u128>> + Send;
    /// Net earnings that wait in escrow, base units by lease.
    fn earned(&self, leases: &[u64]) -> impl Future<Output = Result<BTreeMap<u64, u128>>> + Send;
    /// Sends one transaction and waits until a block has executed it with success.
    fn send(&self, messages: Vec<Any>) -> impl Future<Output = Result<()>> + Send;
    /// Sends an attestation and waits until a block has executed it with success. It costs no fee and waits for none of the transactions that
    /// are under way.
    fn attest(&self, attestation: Attestation) -> impl Future<Output = Result<()>> + Send;
}

/// A node, reached over gRPC.
#[derive(Debug, Clone)]
pub struct Node {
    client: Client,
    sender: TxSender,
    owner: String,
}

impl Node {
    /// The chain as this sender's account sees it.
    pub fn new(sender: TxSender) -> Self {
        Self {
            client: sender.client().clone(),
            owner: sender.address(),
            sender,
        }
    }
}

/// What is not there is no error here.
pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Chain for Node {
    async fn status(&self) -> Result<StatusResponse> {
        self.client.status().await
    }

    async fn provider(&self) -> Result<Option<Provider>> {
        optional(self.client.provider(&self.owner).await)
    }

    async fn open_leases(&self) -> Result<Vec<Lease>> {
        self.client.leases("", &self.owner, LeaseState::Unspecified, true).await
    }

    async fn lease(&self, id: u64) -> Result<Option<Lease>> {
        Ok(optional(self.client.lease(id).await)?.and_then(|response| response.lease))
    }

    async fn open_bids(&self) -> Result<Vec<Bid>> {
        self.client.bids(BidState::Open, "").await
    }

    async fn own_claim(&self, bid_id: u64) -> Result<Option<u64>> {
        let claims = optional(self.client.claims(bid_id).await)?.unwrap_or_default();
        Ok(claims
            .into_iter()
            .find(|claim| claim.provider == self.owner)
            .map(|claim| claim.rate))
    }

    async fn balance(&self) -> Result<u128> {
        self.client.balance(&self.owner).await
    }

    async fn earned(&self, leases: &[u64]) -> Result<BTreeMap<u64, u128>> {
        let mut earned = BTreeMap::new();
        for id in leases {
            // A lease that is not ready yet has no payment.
            if let Some(payment) = optional(self.client.payment(*id).await)? {
                let amount = payment.earned.parse().map_err(|_| Error::Malformed {
                    what: "the node",
                    detail: format!("payment {id}: earned {:?}", payment.earned),
                })?;
                earned.insert(*id, amount);
            }
        }
        Ok(earned)
    }

    async fn send(&self, messages: Vec<Any>) -> Result<()> {
        let kinds = kinds(&messages);
        told(&kinds, &self.sender.send_and_confirm(messages).await?);
        Ok(())
    }

    async fn attest(&self, attestation: Attestation) -> Result<()> {
        let kinds = kinds(&attestation.messages);
        told(
            &kinds,
            &self.sender.send_free(attestation.messages, attestation.nonce).await?,
        );
        Ok(())
    }
}

/// The names of the messages, without their packages.
fn kinds(messages: &[Any]) -> String {
    let names: Vec<_> = messages
        .iter()
        .map(|m| m.type_url.rsplit('.').next().unwrap_or_default())
        .collect();
    names.join(",")
}

fn told(messages: &str, done: &TxResult) {
    tracing::info!(messages, height = done.height, hash = done.hash, gas = done.gas, "sent");
}
