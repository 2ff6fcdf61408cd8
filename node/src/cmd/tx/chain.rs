//! What a transaction needs to know of the chain it is for.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use prost::Message as _;
use tenure_client::tx::{adjusted_gas, simulation, Signer};
use tenure_proto::cosmos::auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse};
use tenure_proto::cosmos::tx::signing::v1beta1::SignMode;
use tenure_proto::cosmos::tx::v1beta1::{SimulateRequest, SimulateResponse, Tx};
use tenure_proto::tenure::chain::v1::{ParamsRequest, ParamsResponse};
use tenure_proto::Any;
use tenure_types::Address;

use super::offline::{Cost, Signing};
use super::{file, gas_limit, payment, percent, sign, SendArgs, AUTO};
use crate::client_config::ClientConfig;
use crate::cmd::query::chain_of;
use crate::cmd::rpc;

/// What a transaction asks for, as far as a simulation needs it.
pub(super) struct Request {
    pub(super) messages: Vec<Any>,
    pub(super) memo: String,
    /// Who pays instead of the first signer.
    pub(super) payer: Option<Address>,
}

impl Request {
    /// Who must sign, in order.
    pub(super) fn signers(&self) -> Result<Vec<Address>> {
        sign::required(&self.messages, self.payer)
    }
}

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

    /// What executing the messages would do. `own` signs with the sequence that the flags say, if they do.
    pub(super) fn simulate(&self, send: &SendArgs, request: &Request, own: &Address) -> Result<SimulateResponse> {
        let signers = request.signers()?;
        let signers = signers.iter().map(|signer| {
            let sequence = match send.sequence {
                Some(sequence) if signer == own => sequence,
                _ => self.account(signer)?.sequence,
            };
            Ok(Signer {
                // Its place is estimated for: the key may be on another machine, or behind a passphrase.
                public_key: Vec::new(),
                sequence,
                mode: SignMode::Unspecified,
            })
        });
        let bytes = simulation(
            request.messages.clone(),
            &request.memo,
            &signers.collect::<Result<Vec<_>>>()?,
        );
        let mut tx = Tx::decode(bytes.as_slice())?;
        let fee = tx.auth_info.get_or_insert_default().fee.get_or_insert_default();
        fee.payer = request.payer.map(|payer| payer.to_string()).unwrap_or_default();
        let request = SimulateRequest {
            tx_bytes: file::encoded(&tx),
            ..Default::default()
        };
        self.query("/cosmos.tx.v1beta1.Service/Simulate", &request)
    }

    /// Gas that a simulation used, adjusted.
    pub(super) fn gas(&self, send: &SendArgs, request: &Request, own: &Address) -> Result<u64> {
        let used = self.simulate(send, request, own)?.gas_info.unwrap_or_default().gas_used;
        Ok(adjusted_gas(used, percent(send.gas_adjustment)?)?)
    }

    /// As the flags say, else as a simulation and the chain's least price do.
    pub(super) fn cost(&self, send: &SendArgs, request: &Request, own: &Address) -> Result<Cost> {
        let gas = match send.gas.as_str() {
            AUTO => self.gas(send, request, own)?,
            text => gas_limit(text)?,
        };
        let fee = payment(send, gas, || {
            let params: ParamsResponse = self.query("/tenure.chain.v1.Query/Params", &ParamsRequest {})?;
            Ok(params.params.unwrap_or_default().min_gas_price_micro)
        })?;
        Ok(Cost { gas, fee })
    }

    fn query<Q: prost::Message, A: prost::Message + Default>(&self, path: &str, request: &Q) -> Result<A> {
        let bytes = rpc::query(self.address, path, &request.encode_to_vec(), 0)?;
        Ok(A::decode(bytes.as_slice())?)
    }
}
