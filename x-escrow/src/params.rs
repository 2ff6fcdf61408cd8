//! The rules of escrow.

use tenure_proto::tenure::escrow::v1::Params;
use tenure_sdk::{records::required, Ctx, Error, Result};
use tenure_types::Amount;

use crate::{
    errors::EscrowError,
    keys::{NAME, PARAMS},
};

/// Hundredths of a percent in a whole.
pub(crate) const BPS: u32 = 10_000;
/// Longest runway and grace: a year.
const MAX_MS: u64 = 31_536_000_000;

/// Defaults for a main network.
pub fn default_params() -> Params {
    Params {
        min_runway_ms: 1_000,
        take_bps: 200,
        min_deposit: "1000".to_owned(),
        exhaustion_grace_ms: 60_000,
        settle_every_ms: 30 * 24 * 3_600_000,
    }
}

/// The parameters in force.
pub fn params(ctx: &mut Ctx) -> Result<Params> {
    required(ctx.load(NAME, PARAMS)?, "escrow params")
}

/// The least deposit.
pub(crate) fn min_deposit(params: &Params) -> Result<Amount> {
    params
        .min_deposit
        .parse()
        .map_err(|e: Error| e.context("escrow.params.min_deposit"))
}

/// Refuses parameters under which the rules do not work.
pub(crate) fn check(params: &Params) -> Result<()> {
    let bounds = |field, value: u64, least: u64, most: u64| {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(EscrowError::Params {
            field,
            value: value.to_string(),
            limit: format!("from {least} to {most}"),
        })
    };
    // Without a runway a lease could start and be out of money at the same instant.
    bounds("min_runway_ms", params.min_runway_ms, 1, MAX_MS)?;
    bounds("take_bps", params.take_bps.into(), 0, BPS.into())?;
    bounds("exhaustion_grace_ms", params.exhaustion_grace_ms, 1, MAX_MS)?;
    bounds("settle_every_ms", params.settle_every_ms, 1_000, MAX_MS)?;
    if min_deposit(params)?.is_zero() {
        let limit = "above 0".to_owned();
        return Err(EscrowError::Params {
            field: "min_deposit",
            value: "0".to_owned(),
            limit,
        }
        .into());
    }
    Ok(())
}
