//! Tests of the module as its callers see it, and what its messages' tests share.

mod model;
mod rules;

use serde_json::json;
use tenure_proto::{
    cosmos::base::v1beta1::Coin as ProtoCoin,
    tenure::{base::v1::Window as ProtoWindow, provider::v1::EpochRoot},
};
use tenure_sdk::{json as proto_json, testing, Ctx, Handler, Result};
use tenure_types::Address;
use tenure_x_auth::AuthModule;
use tenure_x_bank::BankModule;

use crate::{default_params, msgs, Params, ProviderModule};

pub(crate) const PROVIDER: Address = Address::new([7; 20]);
pub(crate) const OTHER: Address = Address::new([8; 20]);
pub(crate) const EPOCH_MS: u64 = 1_000;

/// Epochs of a second, a grace of 3 blocks and 400 ms, default after 3 misses, unbonding after 4 blocks and 5 s.
pub(crate) fn fast() -> Params {
    Params {
        epoch_ms: EPOCH_MS,
        grace: Some(ProtoWindow { blocks: 3, ms: 400 }),
        unbonding: Some(ProtoWindow { blocks: 4, ms: 5_000 }),
        ..default_params()
    }
}

/// A chain on which two owners can pay their bonds.
pub(crate) fn chain() -> Result<Ctx> {
    chain_with(&fast())
}

/// The same with other parameters.
pub(crate) fn chain_with(params: &Params) -> Result<Ctx> {
    let rich = |who: &Address| json!({"address": who.to_string(), "coins": [{"denom": "uten", "amount": "900000000"}]});
    let sections = json!({
        "bank": { "balances": [rich(&PROVIDER), rich(&OTHER)] },
        "provider": { "params": proto_json::to_json(params)? },
    });
    testing::chain(&[&AuthModule, &BankModule, &ProviderModule], &sections)
}

/// The same with the provider registered.
pub(crate) fn registered() -> Result<Ctx> {
    let mut ctx = chain()?;
    msgs::Register::execute(&mut ctx, &messages::register(&PROVIDER))?;
    Ok(ctx)
}

/// Messages that are in order.
pub(crate) mod messages {
    use tenure_proto::tenure::{
        base::v1::Resources,
        provider::v1::{MsgAttest, MsgLeave, MsgRegister, MsgUpdate},
    };

    use super::*;

    const CAPACITY: Resources = Resources {
        cpu_milli: 4_000,
        memory_bytes: 4 << 30,
        storage_bytes: 10 << 30,
    };

    pub(crate) fn register(owner: &Address) -> MsgRegister {
        MsgRegister {
            owner: owner.to_string(),
            moniker: "box".to_owned(),
            endpoint: "http://localhost:7000".to_owned(),
            capacity: Some(CAPACITY),
            bond: Some(ProtoCoin {
                denom: "uten".to_owned(),
                amount: "100000000".to_owned(),
            }),
        }
    }

    pub(crate) fn update(owner: &Address) -> MsgUpdate {
        let MsgRegister {
            owner,
            moniker,
            endpoint,
            capacity,
            ..
        } = register(owner);
        MsgUpdate {
            owner,
            moniker,
            endpoint,
            capacity,
        }
    }

    pub(crate) fn attest(owner: &Address, epochs: &[u64]) -> MsgAttest {
        let epochs = epochs
            .iter()
            .map(|&epoch| EpochRoot {
                epoch,
                root: vec![1; 32],
            })
            .collect();
        MsgAttest {
            provider: owner.to_string(),
            epochs,
        }
    }

    pub(crate) fn leave(owner: &Address) -> MsgLeave {
        MsgLeave {
            owner: owner.to_string(),
        }
    }
}
