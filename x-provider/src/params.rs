//! The rules for providers.

use tenure_proto::{
    cosmos::base::v1beta1::Coin as ProtoCoin,
    tenure::{base::v1::Window as ProtoWindow, provider::v1::Params},
};
use tenure_sdk::{records::required, Ctx, Result};
use tenure_types::{Coin, Window, BASE_DENOM};

use crate::{
    errors::ProviderError,
    keys::{NAME, PARAMS},
};

/// Most blocks of grace: fewer than the heights whose instants every chain keeps (`clock_history_blocks` is at least 100), so that the height
/// at which an epoch ended is still known while it matters.
const MAX_GRACE_BLOCKS: u64 = 99;
/// Longest epoch: a day.
const MAX_EPOCH_MS: u64 = 86_400_000;

/// Longest horizon: ten years.
const MAX_HORIZON_MS: u64 = 3_650 * 86_400_000;

/// Defaults for a main network.
pub fn default_params() -> Params {
    Params {
        min_bond: Some(ProtoCoin {
            denom: BASE_DENOM.to_owned(),
            amount: "100000000".to_owned(),
        }),
        epoch_ms: 60_000,
        grace: Some(ProtoWindow { blocks: 5, ms: 30_000 }),
        default_after_misses: 3,
        unbonding: Some(ProtoWindow {
            blocks: 100,
            ms: 86_400_000,
        }),
        gap_horizon_ms: 30 * 86_400_000,
    }
}

/// The parameters in force.
pub fn params(ctx: &mut Ctx) -> Result<Params> {
    required(ctx.load(NAME, PARAMS)?, "provider params")
}

/// The least bond.
pub(crate) fn min_bond(params: &Params) -> Result<Coin> {
    let bond = required(params.min_bond.as_ref(), "provider params.min_bond")?;
    Coin::from_parts(&bond.denom, &bond.amount)
}

/// How long after an epoch's end its attestation is still taken.
pub(crate) fn grace(params: &Params) -> Result<Window> {
    required(params.grace.as_ref(), "provider params.grace").map(|w| Window {
        blocks: w.blocks,
        ms: w.ms,
    })
}

/// How long a bond stays after the provider asked for it back.
pub(crate) fn unbonding(params: &Params) -> Result<Window> {
    required(params.unbonding.as_ref(), "provider params.unbonding").map(|w| Window {
        blocks: w.blocks,
        ms: w.ms,
    })
}

/// Refuses parameters under which the rules do not work.
pub(crate) fn check(params: &Params) -> Result<()> {
    let bounds = |field, value: u64, least: u64, most: u64| {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(ProviderError::Params {
            field,
            value: value.to_string(),
            limit: format!("from {least} to {most}"),
        })
    };
    let given = |field, present: bool| {
        let limit = "given".to_owned();
        if present {
            Ok(())
        } else {
            Err(ProviderError::Params {
                field,
                value: "absent".to_owned(),
                limit,
            })
        }
    };
    given("min_bond", params.min_bond.is_some())?;
    given("grace", params.grace.is_some())?;
    given("unbonding", params.unbonding.is_some())?;
    let bond = min_bond(params).map_err(|e| e.context("provider.params.min_bond"))?;
    if bond.denom != BASE_DENOM {
        return Err(ProviderError::Params {
            field: "min_bond",
            value: bond.denom,
            limit: format!("in {BASE_DENOM}"),
        }
        .into());
    }
    bounds("epoch_ms", params.epoch_ms, 100, MAX_EPOCH_MS)?;
    let grace = grace(params)?;
    bounds("grace.blocks", grace.blocks, 1, MAX_GRACE_BLOCKS)?;
    bounds("grace.ms", grace.ms, 1, MAX_EPOCH_MS)?;
    bounds("gap_horizon_ms", params.gap_horizon_ms, 1, MAX_HORIZON_MS)?;
    bounds("default_after_misses", params.default_after_misses.into(), 1, 1_000)?;
    Ok(())
}
