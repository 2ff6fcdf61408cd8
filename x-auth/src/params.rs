//! Rules of transactions.

use tenure_proto::cosmos::auth::v1beta1::Params;
use tenure_sdk::{gas, records::required, Ctx, Error, Result};
use tenure_types::sdk;

use crate::keys::{NAME, PARAMS};

/// Defaults: the gas schedule of `tenure_sdk::gas`, memos of 256 bytes, 7 signatures.
pub fn default_params() -> Params {
    Params {
        max_memo_characters: 256,
        tx_sig_limit: 7,
        tx_size_cost_per_byte: gas::TX_BYTE,
        // Ed25519 keys do not sign here; the field exists because wallets expect it.
        sig_verify_cost_ed25519: gas::SIGNATURE,
        sig_verify_cost_secp256k1: gas::SIGNATURE,
    }
}

/// The parameters in force.
pub fn params(ctx: &mut Ctx) -> Result<Params> {
    required(ctx.load(NAME, PARAMS)?, "auth params")
}

/// Changes the parameters. Error (invalid request): names the field, its value and the limit.
pub fn set_params(ctx: &mut Ctx, params: &Params) -> Result<()> {
    check(params)?;
    ctx.save(NAME, PARAMS, params)
}

fn check(params: &Params) -> Result<()> {
    let within = |name: &str, value: u64, least: u64, most: u64| {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        let message = format!("auth.params.{name} is {value}, must be from {least} to {most}");
        Err(Error::sdk(sdk::INVALID_REQUEST, message))
    };
    within("max_memo_characters", params.max_memo_characters, 0, 65_536)?;
    within("tx_sig_limit", params.tx_sig_limit, 1, 100)?;
    within("tx_size_cost_per_byte", params.tx_size_cost_per_byte, 1, 1_000_000)?;
    within(
        "sig_verify_cost_ed25519",
        params.sig_verify_cost_ed25519,
        1,
        1_000_000_000,
    )?;
    within(
        "sig_verify_cost_secp256k1",
        params.sig_verify_cost_secp256k1,
        1,
        1_000_000_000,
    )
}
