//! What a transaction needs to know of the chain it is for.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use prost::Message as _;
use tenure_client::tx::{adjusted_gas, simulation, Signer};
use tenure_proto::cosmos::auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse};
use tenure_proto::cosmos::tx::signing::v1beta1::SignMode;
use tenure_proto::cosmos::tx::v1beta1::{SimulateRequest, SimulateResponse};
use tenure_proto::tenure::chain::v1::{ParamsRequest, ParamsResponse};
use tenure_proto::Any;
use tenure_types::Address;

use super::offline::{Cost, Signing};
use super::{gas_limit, payment, percent, SendArgs, AUTO};
use crate::client_config::ClientConfig;
use crate::cmd::query::chain_of;
use crate::cmd::rpc;

/// A chain that answers.
pub(super) struct Chain {
    address: SocketAddr,
    /// Its id.
    pub(super) id: String,
}

impl Chain {
    /// Error: nobody answers, or the node is of another chain than was asked for.
    pub(super) fn of(address: SocketAddr, send: &SendArgs, config: &ClientConfig) -> Result<Self> {
        let id = chain_of(address, send.chain_id.as_deref(), config)?;
        Ok(Self { address, id })
    }

    fn account(&self, owner: &Address) -> Result<BaseAccount> {
        let request = QueryAccountRequest {
            address: owner.to_string(),
        };
        let answer: QueryAccountResponse = self
            .query("/cosmos.auth.v1beta1.Query/Account", &request)
            .with_context(|| format!("account {owner}: it must have received something before it can send"))?;
        Ok(BaseAccount::decode(
            answer.account.unwrap_or_default().value.as_slice(),
        )?)
    }

    /// What a signature of this account is for: as the flags say, else as the chain does.
    pub(super) fn signing(&self, send: &SendArgs, signer: &Address) -> Result<Signing> {
        let (account_number, sequence) = match (send.account_number, send.sequence) {
            (Some(number), Some(sequence)) => (number, sequence),
            (number, sequence) => {
                let account = self.account(signer)?;
                (
                    number.unwrap_or(account.account_number),
                    sequence.unwrap_or(account.sequence),
                )
            }
        };
        Ok(Signing {
            chain_id: self.id.clone(),
            account_number,
            sequence,
        })
    }

    /// Gas that a simulation used, adjusted. `signers` are all, `own` is the first one's.
    pub(super) fn gas(&self, send: &SendArgs, message: &Any, signers: &[Address], own: &Signing) -> Result<u64> {
        let signers: Vec<Signer> = signers
            .iter()
            .enumerate()
            .map(|(index, signer)| {
                let sequence = match index {
                    0 => own.sequence,
                    _ => self.account(signer)?.sequence,
                };
                Ok(Signer {
                    // Its place is estimated for: the key may be on another machine, or behind a passphrase.
                    public_key: Vec::new(),
                    sequence,
                    mode: SignMode::Unspecified,
                })
            })
            .collect::<Result<_>>()?;
        let request = SimulateRequest {
            tx_bytes: simulation(vec![message.clone()], &send.note, &signers),
            ..Default::default()
        };
        let answer: SimulateResponse = self.query("/cosmos.tx.v1beta1.Service/Simulate", &request)?;
        let used = answer.gas_info.unwrap_or_default().gas_used;
        Ok(adjusted_gas(used, percent(send.gas_adjustment)?)?)
    }

    /// As the flags say, else as a simulation and the chain's least price do.
    pub(super) fn cost(&self, send: &SendArgs, message: &Any, signers: &[Address], own: &Signing) -> Result<Cost> {
        let gas = match send.gas.as_str() {
            AUTO => self.gas(send, message, signers, own)?,
            text => gas_limit(text)?,
        };
        let fee = payment(send, gas, || {
            let params: ParamsResponse = self.query("/tenure.chain.v1.Query/Params", &ParamsRequest {})?;
            Ok(params.params.unwrap_or_default().min_gas_price_micro)
        })?;
        Ok(Cost { gas, fee })
    }

    fn query<Q: prost::Message, A: prost::Message + Default>(&self, path: &str, request: &Q) -> Result<A> {
        let (bytes, _) = rpc::query(self.address, path, &request.encode_to_vec(), 0)?;
        Ok(A::decode(bytes.as_slice())?)
    }
}
